"""vmap maps nodes by the axes of their States; what a lane writes goes back along its axis."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn

XS = jnp.arange(6.0).reshape(3, 2)


class Cell(gn.Node):
    """A shared weight, and a trace for each lane."""

    weight: gn.ParamState
    trace: gn.ShortTermState

    def __call__(self, x: jax.Array) -> jax.Array:
        self.trace.value = self.trace.value + self.weight.value * x
        return self.trace.value

    def scaled(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """A method that writes nothing."""
        return self.weight.value * x + y


MAPPED = gn.axes({gn.ParamState: None, gn.ShortTermState: 0})


def cell(*lead: int, size: int = 2) -> Cell:
    return Cell(gn.ParamState(jnp.array([2.0, 3.0])), gn.ShortTermState(jnp.ones((*lead, size))))


def call(one: Cell, x: jax.Array) -> jax.Array:
    return one(x)


def build(key: jax.Array) -> gn.nn.Linear:
    with gn.random.scope(key):
        return gn.nn.Linear(2, 3)


def message(error: type[Exception], function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# The same as JAX


def test_a_mapped_node_gives_what_the_split_parts_give():
    """`vmap` with axes per filter equals jax.vmap of split and merge, result and written States."""
    one = cell(3)
    graphdef, params, rest = gn.treefy_split(one, gn.ParamState, ...)

    def plain(params: Any, rest: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        merged = gn.treefy_merge(graphdef, params, rest)
        y = merged(x)
        return y, gn.treefy_states(merged, gn.ShortTermState)

    y, written = jax.vmap(plain, (None, 0, 0))(params, rest, XS)
    trace, weight = one.trace, one.weight.value
    assert jnp.array_equal(gn.vmap(call, in_axes=(MAPPED, 0))(one, XS), y)
    assert one.trace is trace
    assert jnp.array_equal(trace.value, written["trace"].value)
    assert one.weight.value is weight


@pytest.mark.parametrize(
    "in_axes",
    [
        (MAPPED, 0),
        [MAPPED, 0],
        (gn.axes({"trace of": 0, gn.PathContains("trace"): 0, ...: None}), 0),
        (gn.axes({(lambda path, state: state.value.ndim == 2): 0}), 0),
        (gn.axes({gn.ShortTermState: 0}), 0),
    ],
    ids=["axes", "list", "path", "callable", "no axis by default"],
)
def test_axes_are_given_by_any_filter(in_axes: Any):
    """Filters are tried in order; what none accepts has no axis."""
    one = cell(3)
    y = gn.vmap(call, in_axes=in_axes)(one, XS)
    assert jnp.array_equal(y, 1 + XS * jnp.array([[2.0, 3.0]]))
    assert jnp.array_equal(one.trace.value, y)


def test_an_integer_maps_all_states_and_none_maps_none():
    """One axis holds for every State of a node; with `None` all lanes share it."""
    ensemble = gn.stack([cell(), cell(), cell()])
    y = gn.vmap(call)(ensemble, XS)
    assert y.shape == ensemble.trace.value.shape == (3, 2)
    single = cell()
    z = gn.vmap(lambda one, x: one.scaled(x, x), in_axes=(None, 0))(single, XS)
    assert jnp.array_equal(z, 3 * XS + XS * jnp.array([[0.0, 1.0]]))


@pytest.mark.parametrize("axis", [1, -1, -2])
def test_states_map_along_any_axis(axis: int):
    """What a lane writes goes back along the axis that it came from, also a negative one."""
    one, plain = cell(3), cell(3)
    one.trace.value = jnp.moveaxis(one.trace.value, 0, axis)
    y = gn.vmap(call, in_axes=(gn.axes({gn.ShortTermState: axis}), 1), out_axes=axis)(one, XS.T)
    assert jnp.array_equal(jnp.moveaxis(y, axis, 0), gn.vmap(call, in_axes=(MAPPED, 0))(plain, XS))
    assert jnp.array_equal(jnp.moveaxis(one.trace.value, axis, 0), plain.trace.value)


def test_nodes_are_mapped_in_containers_and_by_name():
    """in_axes reaches into containers; arguments by name are mapped along axis 0."""
    one, other = cell(3), gn.stack([cell()] * 3)
    both = {"cell": one, "more": [XS, None, 3.0]}
    y = gn.vmap(lambda d: d["cell"](d["more"][0]) * d["more"][2], in_axes=({"cell": MAPPED, "more": (0, None, None)},))
    with pytest.raises(ValueError):
        y(both)  # a tuple is not a prefix of a list
    y = gn.vmap(lambda d: d["cell"](d["more"][0]) * d["more"][2], in_axes=({"cell": MAPPED, "more": [0, None, None]},))
    assert jnp.array_equal(y(both), 3 * one.trace.value)
    z = gn.vmap(lambda x, *, extra: extra(x))(XS, extra=other)
    assert jnp.array_equal(z, other.trace.value)


def test_shared_states_are_mapped_once():
    """A State that several arguments hold is one value; with the same axis everywhere it is written once."""
    one = cell(3)

    def twice(a: Cell, b: Cell, x: jax.Array) -> jax.Array:
        assert a is b
        return a(x) + b(x)

    gn.vmap(twice, in_axes=(MAPPED, MAPPED, 0))(one, one, XS)
    assert jnp.array_equal(one.trace.value, 1 + 2 * XS * jnp.array([[2.0, 3.0]]))


def test_collectives_over_the_axis_name():
    """axis_name names the axis for psum, as in JAX, and its result may be written."""
    one = cell(3)
    gn.vmap(lambda one, x: one(jax.lax.psum(x, "batch")), in_axes=(MAPPED, 0), axis_name="batch")(one, XS)
    assert jnp.array_equal(one.trace.value, jnp.tile(1 + XS.sum(0) * jnp.array([2.0, 3.0]), (3, 1)))


def test_axis_size_and_spmd_axis_name_are_jax_s():
    """axis_size says how many lanes where nothing is mapped; spmd_axis_name is passed on."""
    one = cell()
    y = gn.vmap(lambda one: one.weight.value, in_axes=None, axis_size=3)(one)
    assert y.shape == (3, 2)
    assert gn.vmap(lambda x: 2 * x, spmd_axis_name="data")(XS).tolist() == (2 * XS).tolist()


def test_nested_vmaps_map_two_axes():
    """`vmap` in vmap: each takes its axis away and puts it back."""
    one = cell(4, 3)
    xs = jnp.arange(24.0).reshape(4, 3, 2)
    y = gn.vmap(gn.vmap(call, in_axes=(MAPPED, 0)), in_axes=(MAPPED, 0))(one, xs)
    assert jnp.array_equal(y, 1 + xs * jnp.array([[[2.0, 3.0]]]))
    assert jnp.array_equal(one.trace.value, y)


# Nodes that come out


def test_an_ensemble_is_built_applied_and_trained():
    """`vmap` of a builder gives one live node with a leading axis; it is applied by vmap and trained under jit."""
    keys = jax.random.split(jax.random.key(0), 4)
    ensemble = gn.vmap(build)(keys)
    assert isinstance(ensemble, gn.nn.Linear)
    assert ensemble.weight.value.shape == (4, 2, 3)
    for one, key in zip(gn.unstack(ensemble), keys, strict=True):
        assert jnp.allclose(one.weight.value, build(key).weight.value, rtol=1e-6)

    def losses(models: gn.nn.Linear, x: jax.Array) -> jax.Array:
        return jnp.mean(gn.vmap(lambda model, x: model(x), in_axes=(0, None))(models, x) ** 2, (1, 2))

    @gn.jit
    def step(models: gn.nn.Linear, x: jax.Array) -> jax.Array:
        gradient = gn.grad(lambda models: jnp.sum(losses(models, x)))(models)
        gn.update_states(models, jax.tree.map(lambda p, g: p - 0.1 * g, gn.treefy_states(models), gradient))
        return losses(models, x)

    before = losses(ensemble, XS)
    after = step(ensemble, XS)
    assert after.shape == (4,)
    assert bool(jnp.all(after < before))


def test_out_axes_hold_for_new_nodes():
    """Nodes that were made come out with the axis that out_axes says, in every State."""
    ensemble = gn.vmap(build, out_axes=-1)(jax.random.split(jax.random.key(0), 4))
    assert ensemble.weight.value.shape == (2, 3, 4)
    assert ensemble.bias is not None
    assert ensemble.bias.value.shape == (3, 4)


@pytest.mark.parametrize("out_axes", [0, (0, 0), (None, 0)])
def test_a_node_that_went_in_comes_out_as_itself(out_axes: Any):
    """Whatever out_axes says of it: its States have their own axes."""
    one = cell(3)
    found, y = gn.vmap(lambda one, x: (one, one(x)), in_axes=(MAPPED, 0), out_axes=out_axes)(one, XS)
    assert found is one
    assert jnp.array_equal(y, one.trace.value)


def test_a_new_node_shares_what_went_in():
    """A node made around a State that went in holds the caller's State."""
    one = cell(3)
    made = gn.vmap(lambda one, x: Cell(one.weight, gn.ShortTermState(x)), in_axes=(MAPPED, 0))(one, XS)
    assert made.weight is one.weight
    assert jnp.array_equal(made.trace.value, XS)


# Callables


def test_a_callable_node_is_shared_by_all_lanes():
    """in_axes speaks of the caller's arguments, as an integer and as a tuple; the bound node has no axis."""
    one = cell()
    expected = jax.vmap(lambda x, y: one.scaled(x, y))(XS, XS)
    assert jnp.array_equal(gn.vmap(one.scaled)(XS, XS), expected)
    assert jnp.array_equal(gn.vmap(one.scaled, in_axes=(0, 0))(XS, XS), expected)
    assert jnp.array_equal(
        gn.vmap(one.scaled, in_axes=[0, None])(XS, XS[0]), jax.vmap(lambda x: one.scaled(x, XS[0]))(XS)
    )
    linear = gn.nn.Linear(2, 3)
    assert jnp.array_equal(gn.vmap(linear)(XS), jax.vmap(lambda x: linear(x))(XS))


def test_a_callable_node_in_two_transforms_is_no_constant():
    """`jit` of vmap of a node sees the values that the node has at each call."""
    linear = gn.nn.Linear(2, 3)
    apply = gn.jit(gn.vmap(linear))
    before = apply(XS)
    linear.weight.value = 2 * linear.weight.value
    assert jnp.allclose(apply(XS), 2 * before)


def test_decorators_keep_name_docs_and_signature():
    """With arguments and without, on functions and in a class body."""

    class Scale(gn.Node):
        weight: gn.ParamState

        @gn.vmap(in_axes=(None, 0))
        def apply(self, x: jax.Array) -> jax.Array:
            """Scale x."""
            return self.weight.value * x

    def double(x: jax.Array) -> jax.Array:
        """Twice."""
        return 2 * x

    for made in (gn.vmap(double), gn.vmap()(double), gn.vmap(in_axes=0)(double)):
        assert (made.__name__, made.__doc__) == ("double", "Twice.")  # ty: ignore[missing-attribute]
        assert inspect.signature(made) == inspect.signature(double)
        assert jnp.array_equal(made(XS), 2 * XS)
    assert Scale(gn.ParamState(jnp.array([2.0, 2.0]))).apply(XS).tolist() == (2 * XS).tolist()
    assert Scale.apply.__doc__ == "Scale x."


def test_batch_norm_under_vmap_has_statistics_for_each_member():
    """nn.BatchNorm of an ensemble: each member moves its own running averages."""
    ensemble = gn.stack([gn.nn.BatchNorm(2) for _ in range(3)])
    xs = jnp.arange(24.0).reshape(3, 4, 2)
    y = gn.vmap(lambda norm, x: norm(x))(ensemble, xs)
    for at, one in enumerate(gn.unstack(ensemble)):
        single = gn.nn.BatchNorm(2)
        assert jnp.allclose(y[at], single(xs[at]), atol=1e-5)
        assert jnp.allclose(one.mean.value, single.mean.value)
        assert jnp.allclose(one.var.value, single.var.value)


# Errors


def test_a_written_state_without_axis_is_named():
    """A lane must not write what all lanes share; every such State is named, and nothing is changed."""
    pair = {"a": cell(), "b": cell()}

    def write(pair: dict[str, Cell], x: jax.Array) -> jax.Array:
        return pair["a"](x) + pair["b"](x)

    assert message(gn.TraceError, gn.vmap(write, in_axes=(None, 0)), pair, XS) == (
        "gn.vmap: pair['a'].trace, pair['b'].trace was written, but has no axis to be written along: all lanes share "
        "it. Give it one in in_axes, such as gn.axes({ShortTermState: 0, ...: None})"
    )
    assert pair["a"].trace.value.tolist() == [1.0, 1.0]
    assert message(gn.TraceError, gn.vmap(cell()), XS).startswith("gn.vmap: self.trace was written, but has no axis")


def test_two_axes_of_one_state_are_named():
    """A State that is reached with two axes is an AliasError with both places."""
    one = cell(3)
    both = gn.vmap(lambda a, b: a(b.weight.value), in_axes=(MAPPED, None))
    assert message(gn.AliasError, both, one, one) == (
        "gn.vmap: inconsistent axes: one ShortTermState is reached as a.trace with 0 and as b.trace with None"
    )
    tied = Cell(one.weight, gn.ShortTermState(XS))
    listed = gn.vmap(lambda d, x: x, in_axes=([0, None], 0))
    assert message(gn.AliasError, listed, [one, tied], XS) == (
        "gn.vmap: inconsistent axes: one ParamState is reached as d[0].weight with 0 and as d[1].weight with None"
    )


def test_in_axes_that_do_not_fit_are_refused():
    """A prefix of another structure shows itself, and says where JAX found the difference."""
    text = message(ValueError, gn.vmap(call, in_axes=(MAPPED, 0, 1)), cell(3), XS)
    own, _, of_jax = text.partition(": pytree structure error: different lengths of tuple")
    if not of_jax:  # before JAX 0.10
        own, _, of_jax = text.partition(": Tuple arity mismatch: 2 != 3")
    assert own == "gn.vmap: (axes({ParamState: None, ShortTermState: 0}), 0, 1) is not a prefix of the arguments"
    assert of_jax
    text = message(ValueError, gn.vmap(call, in_axes=({"weight": None}, 0)), cell(3), XS)
    assert text.startswith("gn.vmap: ({'weight': None}, 0) is not a prefix of the arguments: ")


@pytest.mark.parametrize(
    ("in_axes", "text"),
    [
        ((MAPPED, "batch"), "x: an axis is an integer or None; found str 'batch'"),
        ((MAPPED, True), "x: an axis is an integer or None; found bool True"),
        ((MAPPED, MAPPED), "gn.vmap: x is not a node, and takes no axes({ParamState: None, ShortTermState: 0})"),
    ],
)
def test_what_is_no_axis_is_refused(in_axes: Any, text: str):
    """An axis is an integer or None, and axes are for nodes."""
    assert message(TypeError, gn.vmap(call, in_axes=in_axes), cell(3), XS) == text


@pytest.mark.wrong_types
def test_what_is_no_axis_is_refused_in_axes_of_filters():
    """An axis that a filter selects is one too."""
    wrong: Any = 0.0
    with pytest.raises(TypeError) as caught:
        gn.axes({...: wrong})
    assert str(caught.value) == "gn.axes: an axis is an integer or None; found float 0.0"


def test_sizes_that_disagree_are_jax_s_error():
    """Lanes of different number, and arrays without the axis, are JAX's errors; nothing was written."""
    one = cell(4)
    with pytest.raises(ValueError):
        gn.vmap(call, in_axes=(MAPPED, 0))(one, XS)
    with pytest.raises(ValueError):
        gn.vmap(call, in_axes=(gn.axes({gn.ShortTermState: 2}), 0))(one, XS)
    assert jnp.array_equal(one.trace.value, jnp.ones((4, 2)))


def test_a_change_of_structure_is_named():
    """A State that is replaced inside is named with the remedy, and stays in place."""
    one = cell(3)
    trace = one.trace

    def replace(one: Cell, x: jax.Array) -> jax.Array:
        one.trace = gn.ShortTermState(x)
        return x

    assert message(gn.StructureError, gn.vmap(replace, in_axes=(MAPPED, 0)), one, XS) == (
        "the structure of an argument changed inside of gn.vmap: one.trace is another ShortTermState; write to its "
        ".value instead. Change it outside, or return a new node"
    )
    assert one.trace is trace


def test_axes_in_out_specs_are_refused_with_what_to_write():
    """`axes` says something of nodes that go in; for a result of shard_map it is refused where it is written."""
    assert message(TypeError, gn.shard_map, build, in_specs=jax.P(), out_specs=(jax.P(), gn.axes({...: jax.P()}))) == (
        "gn.shard_map: out_specs takes no gn.axes({...}): a node that the function makes has one spec for all its "
        "States. Build the node outside and pass it in, with gn.axes({...}) for it, or return the arrays, each "
        "with its own spec"
    )
