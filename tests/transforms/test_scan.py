"""scan carries nodes, scans over nodes, and carries no more than what a round writes."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode._compat import varying_axes
from tests.jaxprs import equations

XS = jnp.arange(6.0).reshape(3, 2)


class Cell(gn.Node):
    weight: gn.ParamState
    trace: gn.ShortTermState
    count: gn.ShortTermState

    def __call__(self, x: jax.Array) -> jax.Array:
        self.trace.value = jnp.tanh(self.trace.value + self.weight.value * x)
        self.count.value += 1
        return self.trace.value

    def step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        carry = carry + self(x)
        return carry, carry


def cell(scale: float = 1.0) -> Cell:
    return Cell(
        gn.ParamState(scale * jnp.array([0.5, -1.0])),
        gn.ShortTermState(jnp.zeros(2)),
        gn.ShortTermState(jnp.int32(0)),
    )


def carried(carry: tuple[Cell, jax.Array], x: jax.Array) -> tuple[tuple[Cell, jax.Array], jax.Array]:
    one, h = carry
    h = h + one(x)
    return (one, h), 2 * h


def message(error: type[Exception], function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def close(left: Any, right: Any) -> bool:
    return bool(jnp.allclose(left, right, rtol=1e-5, atol=1e-6))


# A node in the carry


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("unroll", [1, 2, True])
def test_a_carried_node_is_written_as_by_a_python_loop(reverse: bool, unroll: int | bool):
    """The node stays the same object over all rounds; carry, outputs and States are those of the loop by hand."""
    one, eager = cell(), cell()
    (found, h), ys = gn.scan(carried, (one, jnp.zeros(2)), XS, reverse=reverse, unroll=unroll)
    assert found is one
    state, outputs = (eager, jnp.zeros(2)), [jnp.zeros(2)] * 3
    for at in reversed(range(3)) if reverse else range(3):
        state, outputs[at] = carried(state, XS[at])
    assert close(h, state[1])
    assert close(ys, jnp.stack(outputs))
    assert close(one.trace.value, eager.trace.value)
    assert one.count.value == 3


def test_a_scan_equals_that_of_the_split_parts():
    """The same numbers as jax.lax.scan over the State values."""
    one = cell()
    graphdef, params, rest = gn.treefy_split(one, gn.ParamState, ...)

    def plain(carry: Any, x: jax.Array) -> Any:
        merged = gn.treefy_merge(graphdef, params, carry[0])
        h = carry[1] + merged(x)
        return (gn.treefy_states(merged, gn.Not(gn.ParamState)), h), 2 * h

    (states, h), ys = jax.lax.scan(plain, (rest, jnp.zeros(2)), XS)
    (_, found), outputs = gn.scan(carried, (one, jnp.zeros(2)), XS)
    assert jnp.array_equal(found, h)
    assert jnp.array_equal(outputs, ys)
    assert jnp.array_equal(one.trace.value, states["trace"].value)


def test_read_only_states_are_constants_of_the_loop():
    """The loop carries the two written States and the array; the weight is a constant, and nothing more is stacked."""
    jaxpr = gn.make_jaxpr(lambda one, x: gn.scan(carried, (one, jnp.zeros(2)), x))(cell(), XS).jaxpr
    (loop,) = equations(jaxpr, "scan")
    assert len(loop.invars) == 1 + 3 + 1
    assert len(loop.outvars) == 3 + 1


def test_a_stable_function_is_traced_once():
    """Eager calls with the same function and equal structures do not trace again; another shape does."""
    count = 0

    def step(one: Cell, x: jax.Array) -> tuple[Cell, jax.Array]:
        nonlocal count
        count += 1
        return one, one(x)

    gn.scan(step, cell(), XS)
    first = count
    for _ in range(3):
        gn.scan(step, cell(2.0), XS + 1)
    assert count == first <= 2
    gn.scan(step, cell(), XS[:2])
    assert first < count <= 2 * first


def test_a_method_is_traced_once_for_all_nodes():
    """A method is a function of its node: another equal node does not trace again, and is not a constant."""
    count = 0

    class Counted(Cell):
        def step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            nonlocal count
            count += 1
            return super().step(carry, x)

    results = []
    for scale in (1.0, 2.0, 3.0):
        base = cell(scale)
        one = Counted(base.weight, base.trace, base.count)
        results.append(gn.scan(one.step, jnp.zeros(2), XS)[0])
        assert one.count.value == 3
    assert count <= 2
    assert not close(results[0], results[1])


def test_a_transformed_method_is_no_constant():
    """`scan` of remat of a method takes the node along: its values are read at each call, and its writes come back."""
    one = cell()
    step = gn.remat(one.step)
    before = gn.scan(step, jnp.zeros(2), XS)[0]
    assert one.count.value == 3
    one.trace.value, one.weight.value = jnp.zeros(2), 2 * one.weight.value
    assert close(gn.scan(step, jnp.zeros(2), XS)[0], gn.scan(cell(2.0).step, jnp.zeros(2), XS)[0])
    assert not close(gn.scan(step, jnp.zeros(2), XS)[0], before)


def test_a_jitted_method_may_be_the_function():
    """gn.jit of a method is a function of its node, too."""
    one = cell()
    last, _ = gn.scan(gn.jit(one.step), jnp.zeros(2), XS)
    assert close(last, gn.scan(cell().step, jnp.zeros(2), XS)[0])
    assert one.count.value == 3


def test_a_carry_of_many_nodes():
    """A carry may be a pytree with several nodes, shared among each other and with the function's own."""
    a, b = cell(), cell(2.0)
    b.trace = a.trace

    def step(carry: dict[str, Any], x: jax.Array) -> tuple[dict[str, Any], None]:
        carry["a"](x)
        carry["more"][0](x)
        assert carry["a"].trace is carry["more"][0].trace
        return carry, None

    start: dict[str, Any] = {"a": a, "more": [b, 0]}
    out, ys = gn.scan(step, start, XS)
    assert ys is None
    assert out["a"] is a
    assert out["more"][0] is b
    assert out["more"][1] == 0
    assert a.trace is b.trace
    eager_a, eager_b = cell(), cell(2.0)
    eager_b.trace = eager_a.trace
    for x in XS:
        eager_a(x)
        eager_b(x)
    assert close(a.trace.value, eager_a.trace.value)


# Nodes in xs


def test_a_stack_of_layers_is_scanned_in_one_line():
    """A stacked node in xs gives each round its layer, as a loop over unstack does."""
    layers = gn.stack([gn.nn.Linear(2, 2) for _ in range(3)])
    h, outputs = gn.scan(lambda h, layer: (jnp.tanh(layer(h)), h), XS[2], layers)
    expected = XS[2]
    for layer in gn.unstack(layers):
        expected = jnp.tanh(layer(expected))
    assert close(h, expected)
    assert outputs.shape == (3, 2)


def test_written_states_of_scanned_nodes_are_stacked_back():
    """What a round writes goes back to its own position."""
    stacked, singles = gn.stack([cell(), cell(2.0), cell(3.0)]), [cell(), cell(2.0), cell(3.0)]
    gn.scan(lambda h, one: (one(h), None), XS[1], stacked)
    h = XS[1]
    for one in singles:
        h = one(h)
    assert close(stacked.trace.value, jnp.stack([one.trace.value for one in singles]))
    assert stacked.count.value.tolist() == [1, 1, 1]


def test_axes_say_what_is_scanned_and_what_is_shared():
    """in_axes with axes per filter: a shared weight, a trace for each round, along another axis than 0."""
    one = cell()
    one.trace.value = jnp.stack([jnp.zeros(2), jnp.ones(2), XS[1]], axis=1)
    one.count.value = jnp.zeros(3, jnp.int32)
    axes = gn.axes({gn.ParamState: None, gn.PathContains("trace"): 1, gn.ShortTermState: 0})
    _, ys = gn.scan(lambda c, item: (c, item[0](item[1])), None, (one, XS.T), in_axes=(axes, 1))
    for at, start in enumerate((jnp.zeros(2), jnp.ones(2), XS[1])):
        single = cell()
        single.trace.value = start
        assert close(ys[at], single(XS[at]))
        assert close(one.trace.value[:, at], single.trace.value)
    assert one.count.value.tolist() == [1, 1, 1]


def test_a_negative_axis_counts_from_the_end():
    """-1 is the last axis, in and out."""
    _, ys = gn.scan(lambda c, x: (c, jnp.add(x, x)), None, XS, in_axes=-1)
    assert jnp.array_equal(ys, 2 * XS.T)
    one = cell()
    one.trace.value, one.count.value = jnp.zeros((2, 3)), jnp.zeros(3, jnp.int32)
    gn.scan(lambda c, item: (c, item(XS[1])), None, one, in_axes=gn.axes({gn.ShortTermState: -1}))
    assert one.trace.value.shape == (2, 3)


def test_reverse_runs_backwards_over_nodes():
    """With reverse the last layer is first, and what is written stands where it was read."""
    stacked = gn.stack([cell(), cell(2.0)])
    h, _ = gn.scan(lambda h, one: (one(h), None), XS[1], stacked, reverse=True)
    first, second = cell(), cell(2.0)
    assert close(h, first(second(XS[1])))
    assert close(stacked.trace.value, jnp.stack([first.trace.value, second.trace.value]))


@pytest.mark.parametrize("xs", [None, XS])
def test_length_without_xs(xs: Any):
    """`xs` may be None with a length, which may be given beside xs too."""
    one = cell()
    _, ys = gn.scan(lambda one, _: (one, one(XS[1])), one, xs, length=3)
    assert ys.shape == (3, 2)
    assert one.count.value == 3


def test_no_rounds_write_nothing():
    """A scan of length zero leaves the States as they are, and gives empty outputs."""
    one = cell()
    out, ys = gn.scan(lambda one, x: (one, one(x)), one, XS[:0])
    assert out is one
    assert ys.shape == (0, 2)
    assert one.count.value == 0


def test_outputs_may_be_nodes():
    """A node made in each round comes out once, stacked; a carried one comes out as itself."""
    one = cell()
    _, (made, same) = gn.scan(lambda one, x: (one, (Cell(one.weight, gn.ShortTermState(x), one.count), one)), one, XS)
    assert same is one
    assert made.weight is one.weight
    assert jnp.array_equal(made.trace.value, XS)


def test_a_weak_carry_is_promoted_as_by_jax():
    """A Python number or a weakly typed State becomes what the function makes of it."""
    one = cell()
    one.count.value = 0  # type: ignore[assignment]  # what a user writes  # ty: ignore[invalid-assignment]
    start: Any = 0.0
    out, _ = gn.scan(lambda c, x: (c + one.weight.value.sum() * x, None), start, XS[:, 0])
    assert out.dtype == jnp.float32
    gn.scan(carried, (one, jnp.zeros(2)), XS)
    assert one.count.value == 3


# Nesting


def test_a_scan_is_differentiated():
    """`grad` through a carried node, and through a stack of layers, equals that through the loop by hand."""

    def rolled(one: Cell) -> jax.Array:
        return jnp.sum(gn.scan(carried, (one, jnp.zeros(2)), XS)[0][1])

    def unrolled(one: Cell) -> jax.Array:
        state = (one, jnp.zeros(2))
        for x in XS:
            state, _ = carried(state, x)
        return jnp.sum(state[1])

    one, eager = cell(), cell()
    assert close(gn.grad(rolled)(one)["weight"].value, gn.grad(unrolled)(eager)["weight"].value)
    assert one.count.value == eager.count.value == 3
    layers = [gn.nn.Linear(2, 2) for _ in range(3)]

    def through(stacked: gn.nn.Linear) -> jax.Array:
        return jnp.sum(gn.scan(lambda h, layer: (jnp.tanh(layer(h)), None), XS[1], stacked)[0])

    def by_hand(layers: list[gn.nn.Linear]) -> jax.Array:
        h = XS[1]
        for layer in layers:
            h = jnp.tanh(layer(h))
        return jnp.sum(h)

    stacked = gn.jit(gn.grad(through))(gn.stack(layers))["weight"].value
    for at in range(3):
        assert close(stacked[at], gn.grad(by_hand)(layers)[at]["weight"].value)


def test_a_scan_of_remat_in_grad():
    """`remat` in scan in grad in jit: the same gradient, and the body is computed again."""

    def loss(one: Cell, wrap: Any) -> jax.Array:
        return jnp.sum(gn.scan(wrap(carried), (one, jnp.zeros(2)), XS)[0][1])

    one, other = cell(), cell()
    jaxpr = gn.make_jaxpr(gn.grad(lambda one: loss(one, gn.remat)))(cell()).jaxpr  # ty: ignore[invalid-argument-type]
    assert list(equations(jaxpr, "checkpoint")) or list(equations(jaxpr, "remat2")) or list(equations(jaxpr, "remat"))
    found = gn.jit(gn.grad(lambda one: loss(one, gn.remat)))(one)  # ty: ignore[invalid-argument-type]
    assert close(found["weight"].value, gn.grad(lambda one: loss(one, lambda f: f))(other)["weight"].value)
    assert one.count.value == other.count.value == 3


def test_a_scan_in_vmap_runs_one_loop_for_each_lane():
    """Each lane has its own carry; the shared weight has no axis."""
    one = gn.stack([cell(), cell()])
    weight = gn.ParamState(jnp.array([0.5, -1.0]))
    batch = Cell(weight, one.trace, one.count)
    xs = jnp.stack([XS, -XS])
    run = gn.vmap(
        lambda one, x: gn.scan(carried, (one, jnp.zeros(2)), x)[1],
        in_axes=(gn.axes({gn.ParamState: None, ...: 0}), 0),
    )
    ys = run(batch, xs)
    for lane in range(2):
        single = cell()
        assert close(ys[lane], gn.scan(carried, (single, jnp.zeros(2)), xs[lane])[1])
        assert close(batch.trace.value[lane], single.trace.value)
    assert batch.count.value.tolist() == [3, 3]


def test_a_cond_in_a_scan_writes_the_chosen_states():
    """A branch in a round writes to the carried node."""
    one = cell()

    def step(one: Cell, x: jax.Array) -> tuple[Cell, None]:
        gn.cond(x[0] > 1, lambda one, x: one(x), lambda one, x: x, one, x)
        return one, None

    gn.jit(lambda one: gn.scan(step, one, XS))(one)
    assert one.count.value == 2


def test_a_scan_in_a_scan():
    """The inner loop carries what the inner round writes; a stack in a carry loop."""
    layers = gn.stack([cell(), cell(2.0)])

    def outer(layers: Cell, x: jax.Array) -> tuple[Cell, jax.Array]:
        h, _ = gn.scan(lambda h, one: (one(h), None), x, layers)
        return layers, h

    _, ys = gn.scan(outer, layers, XS)
    first, second = cell(), cell(2.0)
    for at, x in enumerate(XS):
        assert close(ys[at], second(first(x)))
    assert layers.count.value.tolist() == [3, 3]


# Errors


def test_an_item_is_laid_out_as_jax_gives_it():
    """A round gets its items laid out over an explicit mesh, as by `jax.lax.scan`: values, and the States of nodes."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        h, xs = jax.device_put(jnp.zeros(4), jax.P("d")), jax.device_put(jnp.ones((3, 4)), jax.P(None, "d"))

        def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            return h + jax.lax.select(h > 0, x, 2 * x), None  # which takes no two layouts

        last, _ = gn.scan(step, h, xs)
        assert (last == jax.lax.scan(step, h, xs)[0]).all()
        states, _ = gn.scan(lambda h, state: step(h, state.value), h, gn.ParamState(xs))
        across, _ = gn.scan(step, h, jnp.moveaxis(xs, 0, -1), in_axes=-1)
        assert last.tolist() == states.tolist() == across.tolist() == [4.0] * 4


def test_an_item_varies_over_shards_as_jax_gives_it():
    """In a `shard_map`, a round gets items that vary over the shards."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
        assert varying_axes(x) == {"d"}
        return h + x, None

    def total(xs: jax.Array) -> jax.Array:
        return gn.scan(step, xs[0], xs)[0]

    mapped = jax.shard_map(total, mesh=mesh, in_specs=jax.P(None, "d"), out_specs=jax.P("d"))
    assert mapped(jnp.ones((2, 3))).tolist() == [3.0] * 3


def test_a_carry_of_another_structure_is_refused():
    """The function gives back the structure that it got; both are told."""
    assert message(TypeError, gn.scan, lambda c, x: ((c, c), None), jnp.zeros(2), XS) == (
        "gn.scan: the carry that the function gives has another structure than the one that it got: "
        "PyTreeDef((*, *)) instead of PyTreeDef(*)"
    )


@pytest.mark.parametrize(
    ("give", "found"),
    [
        (lambda carry: (carry[1], carry[0]), "a node where it held carry[0]"),
        (lambda carry: (cell(), carry[1]), "a node where it held carry[0]"),
        (lambda carry: (carry[0], 2 * carry[1].trace.value), "a tracer float32[2] where it held carry[1]"),
    ],
    ids=["swapped", "new", "array"],
)
def test_another_node_in_the_carry_is_refused(give: Any, found: str):
    """A node of the carry is the same in every round: not another one, not a new one, not an array."""

    def step(carry: tuple[Cell, Cell], x: jax.Array) -> Any:
        return give(carry), None

    assert message(gn.StructureError, gn.scan, step, (cell(), cell()), XS) == (
        f"gn.scan: the carry holds {found}; a node of the carry is the same in every round: write to its "
        "States, and give it back in the carry"
    )


def test_a_node_in_place_of_an_array_is_refused():
    """Nor may a node come where an array was."""
    assert message(gn.StructureError, gn.scan, lambda c, x: (cell(), None), XS[0], XS) == (
        "gn.scan: the carry holds a node where it held an array; a node of the carry is the same in every round: write "
        "to its States, and give it back in the carry"
    )


def test_states_that_change_dtype_or_shape_are_named():
    """A State that a loop writes keeps structure, shapes and dtypes; all that do not are named."""

    def step(one: Cell, x: jax.Array) -> tuple[Cell, None]:
        one.trace.value = one.trace.value.astype(jnp.bfloat16)
        one.count.value = jnp.zeros(3, jnp.int32)
        weight: Any = one
        weight = weight.weight
        weight.value = {"w": weight.value}
        return one, None

    assert message(TypeError, gn.scan, step, cell(), XS) == (
        "gn.scan: a State keeps its structure, shapes and dtypes here; one.count was int32[] and became int32[3]; "
        "one.trace was float32[2] and became bfloat16[2]; one.weight was float32[2] and became PyTreeDef({'w': *}) of "
        "float32[2]"
    )


def test_a_function_that_gives_no_pair_is_refused():
    """The function gives (carry, output); what it gave is told."""
    for give, found in (
        (lambda c, x: c, "a node"),
        (lambda c, x: (c, x, x), "a tuple of 3"),
        (lambda c, x: 3, "int 3"),
    ):
        assert message(TypeError, gn.scan, give, cell(), XS) == (
            f"gn.scan: the function gives (carry, output); found {found}"
        )


def test_a_written_state_without_axis_is_named():
    """A State that all rounds share is not written; the remedy is told, and nothing is changed."""
    one = cell()
    give = lambda c, item: (c, item["cell"](item["x"]))  # noqa: E731  # its parameter is in the message
    axes = {"cell": None, "x": 0}
    assert message(gn.TraceError, gn.scan, give, None, {"cell": one, "x": XS}, in_axes=axes) == (
        "gn.scan: item['cell'].count, item['cell'].trace was written, but has no axis to be written along: all rounds "
        "share it. Give it one in in_axes, or put its node into the carry"
    )
    assert one.count.value == 0


def test_a_state_in_carry_and_xs_is_named():
    """A State is carried or scanned, not both; both places are told."""
    one = cell()
    text = message(gn.AliasError, gn.scan, lambda c, x: (c, None), one, {"again": one.trace})
    assert text == (
        "gn.scan: inconsistent axes: one ShortTermState is reached as c.trace with the carry and as x['again'] with 0"
    )


def test_in_axes_that_do_not_fit_are_refused():
    """A prefix of another structure, and what is not an axis."""
    text = message(ValueError, gn.scan, lambda c, x: (c, None), None, (XS, XS), in_axes=(0, 0, 0))
    assert text.startswith("gn.scan: (the carry, (0, 0, 0)) is not a prefix of the arguments: ")
    text = message(TypeError, gn.scan, lambda c, x: (c, None), None, XS, in_axes="time")
    assert text == "x: an axis is an integer or None; found str 'time'"


def test_sizes_that_disagree_are_jax_s_error():
    """Lengths that differ, no length at all, and a carry of another dtype are JAX's errors."""
    calls: list[tuple[Any, Any]] = [
        ((None, (XS, XS[:2])), {}),
        ((None, XS), {"length": 5}),
        ((None, None), {}),
        ((None, XS), {"in_axes": None}),
    ]
    for arguments, options in calls:
        with pytest.raises(ValueError):
            gn.scan(lambda c, x: (c, None), *arguments, **options)
    with pytest.raises(TypeError):
        gn.scan(lambda c, x: (c.astype(jnp.int32), None), jnp.zeros(2), XS)


def test_what_is_no_array_is_named():
    """An argument that JAX does not take is named."""
    assert message(TypeError, gn.scan, lambda c, x: (c, None), {"mode": "fast"}, XS) == (
        "gn.scan takes arrays, numbers and nodes; c['mode'] is str 'fast': make it a static argument, or a static "
        "field of a node"
    )


def test_a_change_of_structure_is_named():
    """A State that a round replaces is named; nothing is changed outside."""
    one = cell()
    trace = one.trace

    def step(one: Cell, x: jax.Array) -> tuple[Cell, None]:
        one.trace = gn.ShortTermState(x)
        return one, None

    assert message(gn.StructureError, gn.scan, step, one, XS) == (
        "the structure of an argument changed inside of gn.scan: one.trace is another ShortTermState; write to its "
        ".value instead. Change it outside, or return a new node"
    )
    assert one.trace is trace


def test_a_captured_node_is_not_written():
    """A node that the function closes over is read as a constant; a write to it is refused."""
    one = cell()
    with pytest.raises(gn.TraceError):
        gn.scan(lambda c, x: (c, one(x)), None, XS)
    assert one.count.value == 0
    _, ys = gn.scan(lambda c, x: (c, one.weight.value * x), None, XS)
    assert jnp.array_equal(ys, one.weight.value[None] * XS)


class Tally(gn.Node):
    n: gn.ShortTermState


def test_what_is_carried_is_itself_among_the_outputs():
    """It has one value, the last; its history is that of its values, or of clones."""
    one = Tally(gn.ShortTermState(jnp.int32(0)))

    def count(one: Tally, _: Any) -> tuple[Tally, Any]:
        one.n.value += 1
        return one, {
            "node": one,
            "state": one.n,
            "value": one.n.value,
            "tree": gn.treefy_states(one),
            "clone": gn.clone(one),
        }

    _, outputs = gn.scan(count, one, None, length=3)
    assert outputs["node"] is one
    assert outputs["state"] is one.n
    assert one.n.value == 3
    assert outputs["clone"] is not one
    for history in (outputs["value"], outputs["tree"]["n"].value, outputs["clone"].n.value):
        assert history.tolist() == [1, 2, 3]
