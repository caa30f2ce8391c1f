"""`donate=True` reuses the memory of exactly the States that are written."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import ParamState, ShortTermState, State
from graphnode.transforms._boundary import Call

# Memory comes in pieces of 64 bytes: these are whole ones.
SIZE = 256
BYTES = 4 * SIZE


class Layer(gn.Node):
    weight: ParamState[Any]
    trace: ShortTermState[Any]


class Net(gn.Node):
    layers: list[Layer] = gn.subnode(default_factory=list)
    steps: ShortTermState[Any] | None = None


def array(value: float = 1.0) -> jax.Array:
    return jnp.full(SIZE, jnp.float32(value))


def layer(value: float = 1.0) -> Layer:
    return Layer(ParamState(array(value)), ShortTermState(array(value)))


def aliased(run: Any, *args: Any, **kwargs: Any) -> int:
    """How many bytes of the arguments the results of a call are written into."""
    return int(run.lower(*args, **kwargs).compile().memory_analysis().alias_size_in_bytes)


def train(net: Net, x: Any) -> Any:
    """Writes the weights of all layers, and the trace of the first."""
    for one in net.layers:
        one.weight.value = one.weight.value * x + one.trace.value
    net.layers[0].trace.value = net.layers[0].trace.value + x
    return net.layers[0].weight.value.sum()


def test_the_aliased_bytes_are_those_of_the_written_states():
    """What is written reuses its memory, all of it and nothing else; without donation nothing does."""
    net = Net([layer(), layer(), layer()])
    assert aliased(gn.jit(train, donate=True), net, 2.0) == 4 * BYTES
    assert aliased(gn.jit(train), net, 2.0) == 0
    assert aliased(gn.jit(lambda net: net.layers[0].weight.value.sum(), donate=True), net) == 0


def test_only_the_written_states_give_their_arrays_away():
    """The old arrays of what was written are gone, those that were only read are still there."""
    net = Net([layer(), layer()])
    old = [[one.weight.value, one.trace.value] for one in net.layers]
    gn.jit(train, donate=True)(net, 2.0)
    assert [[one.is_deleted() for one in pair] for pair in old] == [[True, True], [True, False]]
    assert net.layers[1].trace.value is old[1][1]
    np.testing.assert_array_equal(net.layers[0].weight.value, array(3))
    with pytest.raises(RuntimeError, match="Array has been deleted"):
        old[0][0] + 1


def test_donation_goes_on_for_ever():
    """Step after step the node holds live arrays, equal to those without donation."""
    donating, plain = Net([layer(), layer()]), Net([layer(), layer()])
    for _ in range(4):
        old = donating.layers[1].weight.value
        assert gn.jit(train, donate=True)(donating, 0.5) == gn.jit(train)(plain, 0.5)
        assert old.is_deleted()
    for one, two in zip(gn.states(donating).values(), gn.states(plain).values(), strict=True):
        np.testing.assert_array_equal(one.value, two.value)


def test_a_state_shared_by_two_nodes_is_donated_once():
    """Two nodes that share a State give its memory away once."""
    shared = ParamState(array())
    left, right = Layer(shared, ShortTermState(array())), Layer(shared, ShortTermState(array()))

    def step(left: Layer, right: Layer) -> None:
        left.weight.value = left.weight.value + 1.0
        right.weight.value = right.weight.value + right.trace.value

    run = gn.jit(step, donate=True)
    assert aliased(run, left, right) == BYTES
    old = shared.value
    run(left, right)
    assert old.is_deleted()
    np.testing.assert_array_equal(shared.value, array(3))


def test_one_array_in_two_states_is_donated_where_it_can_be():
    """A clone holds the same arrays: stepping both together, or one of them, never breaks the other."""

    @gn.jit(donate=True)
    def both(one: Layer, two: Layer) -> None:
        one.weight.value = one.weight.value + 1.0
        two.weight.value = two.weight.value + 2.0

    @gn.jit(donate=True)
    def first(one: Layer, two: Layer) -> None:
        one.weight.value = one.weight.value + two.weight.value

    for run, expected in ((both, (2.0, 3.0)), (first, (2.0, 1.0))):
        one = layer()
        two = gn.clone(one)
        other = two.trace.value
        run(one, two)
        assert (float(one.weight.value[0]), float(two.weight.value[0])) == expected
        assert two.trace.value is other
        old = one.weight.value
        run(one, two)  # apart now
        assert old.is_deleted()


def test_a_state_and_an_argument_may_be_one_array():
    """An array that is also an argument is not taken from the caller; other States still give theirs away."""
    one = layer()
    x, trace = one.weight.value, one.trace.value

    @gn.jit(donate=True)
    def step(one: Layer, x: jax.Array) -> None:
        one.weight.value = one.weight.value + x
        one.trace.value = one.trace.value + x

    step(one, x)
    assert not x.is_deleted()
    assert trace.is_deleted()
    np.testing.assert_array_equal(one.weight.value, array(2))


def test_equal_numbers_and_repeated_arguments_change_nothing():
    """Small equal numbers are one object, and `step(model, x, x)` is common: the model is still donated."""
    one, x = layer(), array(2)

    @gn.jit(donate=True)
    def step(one: Layer, a: Any, b: Any, c: Any = 1, d: Any = 1) -> None:
        one.weight.value = one.weight.value + a * b * (c * d)

    for a in (1.0, x):
        old = one.weight.value
        step(one, a, a, 1.0, 1.0)
        assert old.is_deleted()
    assert not x.is_deleted()


def test_weakly_typed_values_in_two_places_keep_their_type():
    """The copy that donation needs traces nothing again."""
    traces: list[int] = []

    @gn.jit(donate=True)
    def step(one: Layer, two: Layer) -> None:
        traces.append(1)
        one.weight.value = one.weight.value + 1
        two.weight.value = two.weight.value + 1

    weak = jax.jit(lambda: jnp.broadcast_to(jnp.asarray(1.0), ()) * 1.0)()
    weak = jax.jit(lambda x: x * 1)(1.0) if not weak.weak_type else weak
    assert weak.weak_type
    one, two = (Layer(ParamState(weak), ShortTermState(array())) for _ in range(2))
    step(one, two)
    step(one, two)
    assert len(traces) == 1
    assert (one.weight.value, two.weight.value) == (3.0, 3.0)


def test_what_a_state_is_given_from_another_is_no_trap():
    """Exchanging the values of States, or copying one into another, works step after step."""

    @gn.jit(donate=True)
    def exchange(one: Layer) -> None:
        one.weight.value, one.trace.value = one.trace.value, one.weight.value

    @gn.jit(donate=True)
    def copy(one: Layer) -> None:
        one.weight.value = one.trace.value

    @gn.jit(donate=True)
    def shift(one: Layer) -> None:
        one.weight.value = one.trace.value
        one.trace.value = one.trace.value + 1.0

    one = Layer(ParamState(array(1)), ShortTermState(array(2)))
    for run, expected in ((exchange, (2, 1)), (copy, (1, 1)), (copy, (1, 1)), (shift, (1, 2)), (exchange, (2, 1))):
        run(one)
        assert (int(one.weight.value[0]), int(one.trace.value[0])) == expected


def test_the_function_is_traced_once():
    """Finding out what is written, and compiling with donation, take one trace."""
    traces: list[int] = []

    @gn.jit(donate=True)
    def step(net: Net, x: Any) -> None:
        traces.append(1)
        train(net, x)

    net = Net([layer()])
    step(net, 2.0), step(net, 3.0), step(Net([layer()]), 2.0)
    step.lower(net, 4.0)
    assert len(traces) == 1
    assert gn.explain_retrace(step).endswith("step was traced once")


def test_lowering_first_takes_the_same_trace():
    """`lower` before the first call leaves the call nothing to trace."""
    traces: list[int] = []

    @gn.jit(donate=True)
    def step(one: Layer) -> None:
        traces.append(1)
        one.weight.value = one.weight.value + 1.0

    one = layer()
    assert aliased(step, one) == BYTES
    step(one)
    assert len(traces) == 1
    np.testing.assert_array_equal(one.weight.value, array(2))


def test_other_shapes_later():
    """Another shape is another trace, and donates too."""
    run = gn.jit(train, donate=True)
    small, large = Net([layer()]), Net([layer()])
    large.layers[0].weight.value = large.layers[0].trace.value = jnp.ones(2 * SIZE)
    for net in (small, large, small, large):
        old = net.layers[0].weight.value
        run(net, 2.0)
        assert old.is_deleted()
    assert aliased(run, large, 2.0) == 4 * BYTES
    np.testing.assert_array_equal(small.layers[0].weight.value, array(2 * 3 + 3))


def test_a_state_that_is_written_for_some_shapes_alone():
    """One that a later trace does not write keeps its value; one that only a later trace writes is written."""

    @gn.jit(donate=True)
    def step(one: Layer, x: jax.Array) -> None:
        if x.size == 2:
            one.weight.value = one.weight.value + x.sum()
        else:
            one.trace.value = one.trace.value + x.sum()

    one = layer()
    for size, expected in ((2, (3, 1)), (3, (3, 4)), (3, (3, 7)), (2, (5, 7)), (4, (5, 11))):
        step(one, jnp.ones(size))
        assert not one.weight.value.is_deleted()
        assert (float(one.weight.value[0]), float(one.trace.value[0])) == expected


def test_the_old_value_may_be_part_of_the_result():
    """A result that is what a State held before is a live array."""

    @gn.jit(donate=True)
    def step(one: Layer) -> Any:
        old = one.weight.value
        one.weight.value = old + 1.0
        return old

    one = layer()
    np.testing.assert_array_equal(step(one), array(1))
    np.testing.assert_array_equal(one.weight.value, array(2))


# By argument


def update(one: Layer, other: Layer, x: Any) -> Any:
    one.weight.value = one.weight.value + x
    other.weight.value = other.weight.value + x
    return x * 2.0


@pytest.mark.parametrize(
    "options",
    [{"donate_argnums": 1}, {"donate_argnums": -2}, {"donate_argnames": "other"}, {"donate_argnums": (1,)}],
    ids=str,
)
def test_a_node_is_donated_by_number_or_name(options: dict[str, Any]):
    """Of a node that is named the written States are donated, those of others not."""
    run = gn.jit(update, **options)
    for by_name in (False, True):
        one, other = layer(), layer()
        olds = [one.weight.value, other.weight.value, other.trace.value]
        _ = run(one, other=other, x=1.0) if by_name else run(one, other, 1.0)
        assert [old.is_deleted() for old in olds] == [False, True, False]


@pytest.mark.parametrize(
    "options", [{"donate_argnums": 2}, {"donate_argnums": -1}, {"donate_argnames": ["x"]}], ids=str
)
def test_arrays_are_donated_by_number_or_name(options: dict[str, Any]):
    """An argument that is not a node gives away all its arrays."""
    run = gn.jit(update, **options)
    one, other, x = layer(), layer(), array()
    olds = [one.weight.value, other.weight.value, x]
    assert aliased(run, one, other, x) == BYTES
    run(one, other, x)
    assert [old.is_deleted() for old in olds] == [False, False, True]


def test_donated_arguments_may_be_pytrees_of_both():
    """A dict of arrays and nodes is donated as a whole: written States and arrays."""

    @gn.jit(donate_argnames="held")
    def step(held: dict[str, Any], kept: jax.Array) -> Any:
        held["node"].weight.value = held["node"].weight.value + kept
        return held["x"] + 1.0

    node, x, kept = layer(), array(), array()
    olds = [node.weight.value, node.trace.value, x, kept]
    step({"node": node, "x": x}, kept)
    assert [old.is_deleted() for old in olds] == [True, False, True, False]


def test_all_states_that_a_donated_argument_reaches_are_donated():
    """A State that an earlier argument holds too is donated with the argument that is named."""
    shared = ParamState(array())
    one, other = Layer(shared, ShortTermState(array())), Layer(shared, ShortTermState(array()))
    old = shared.value
    gn.jit(update, donate_argnums=1)(one, other, 1.0)
    assert old.is_deleted()
    np.testing.assert_array_equal(shared.value, array(3))


def test_methods_donate_their_node():
    """A bound method's node is donated by `donate=True`."""

    class Own(gn.Node):
        weight: ParamState[Any]

        def step(self, x: Any) -> None:
            self.weight.value = self.weight.value + x

    one = Own(ParamState(array()))
    old = one.weight.value
    gn.jit(one.step, donate=True)(1.0)
    assert old.is_deleted()


# What stays quiet


def test_under_another_transform_donation_is_silent():
    """Inside jax.jit, gn.jit and gn.grad there is nothing to donate, and no warning."""

    @gn.jit(donate=True)
    def inner(one: Layer, x: Any) -> Any:
        one.weight.value = one.weight.value * x
        return one.weight.value.sum()

    one = layer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gn.grad(lambda one: inner(one, 2.0))(one)
        gn.jit(lambda one: inner(one, 2.0))(one)
        gn.jit(lambda one: inner(one, 2.0), donate=True)(one)
        gn.remat(lambda one: inner(one, 2.0))(one)
    np.testing.assert_array_equal(one.weight.value, array(16))


def test_values_that_are_no_jax_arrays_are_kept():
    """Numbers and NumPy arrays in States are not the device's to reuse, and random keys are."""
    given = np.ones(SIZE, np.float32)

    class Mixed(gn.Node):
        states: list[State[Any]] = gn.state()

    node = Mixed([State(1.0), State(given), State(jax.random.key(0)), State(None), State({"a": array(), "b": 2})])
    key, nested = node.states[2].value, node.states[4].value["a"]

    @gn.jit(donate=True)
    def step(node: Mixed) -> None:
        number, values, key, _, held = node.states
        number.value = number.value + 1.0
        values.value = values.value + 1.0
        key.value = jax.random.fold_in(key.value, 1)
        held.value["a"] = held.value["a"] + held.value["b"]

    for _ in range(3):
        step(node)
    np.testing.assert_array_equal(given, np.ones(SIZE))
    assert node.states[0].value == 4.0
    assert node.states[3].value is None
    assert key.is_deleted()
    assert nested.is_deleted()
    np.testing.assert_array_equal(node.states[4].value["a"], array(7))


def test_a_clone_of_random_keys_is_donated():
    """A copy of a key array is a key array."""
    one = State(jax.random.key(3))
    two = State(one.value)

    @gn.jit(donate=True)
    def step(states: list[State]) -> None:
        for at, held in enumerate(states):
            held.value = jax.random.fold_in(held.value, at)

    step([one, two])
    assert not jnp.array_equal(jax.random.key_data(one.value), jax.random.key_data(two.value))


@pytest.mark.parametrize(
    "transform", [gn.grad, gn.value_and_grad, lambda function: lambda node: gn.vjp(function, node)]
)
def test_donation_inside_of_an_eager_transform_takes_nothing_from_the_caller(transform: Any):
    """Where the outer function raises, or reads the old value as well, the caller's arrays are there."""

    @gn.jit(donate=True)
    def advance(node: Any) -> Any:
        node.count.value = node.count.value + 1.0
        return node.weight.value.sum()

    class Counted(gn.Node):
        weight: ParamState
        count: ShortTermState

    def fail(node: Any) -> Any:
        advance(node)
        raise KeyError("on purpose")

    node = Counted(ParamState(jnp.ones(3)), ShortTermState(jnp.zeros(3)))
    with pytest.raises(KeyError):
        transform(fail)(node)
    assert node.count.value.tolist() == [0, 0, 0]
    transform(lambda node: (node.weight.value * node.count.value).sum() + advance(node))(node)
    assert node.count.value.tolist() == [1, 1, 1]


class Tally(gn.Node):
    weight: ParamState[Any]
    count: State[Any]


def tally() -> Tally:
    return Tally(ParamState(jnp.array([1.0, 2.0])), State(jnp.ones(2)))


def double(count: State[Any]) -> None:
    count.value = count.value * 2.0


def with_jvp(step: Any, node: Tally, x: Any) -> Any:
    rule = jax.custom_jvp(lambda x: (step(node.count), x * 1.0)[1])
    rule.defjvp(lambda primals, tangents: (rule(*primals), tangents[0]))
    return rule(x)


def with_vjp(step: Any, node: Tally, x: Any) -> Any:
    rule = gn.custom_vjp(lambda node, x: (step(node.count), x * 1.0)[1])
    rule.defvjp(lambda node, x: ((step(node.count), x * 1.0)[1], None), lambda _, cotangent: (None, cotangent))
    return rule(node, x)


def with_step_in_jax_bwd(step: Any, node: Tally, x: Any) -> Any:
    rule = jax.custom_vjp(lambda x: x)
    rule.defvjp(lambda x: (x, None), lambda _, cotangent: ((step(node.count), cotangent)[1],))
    return rule(x)


EAGER_CALLS: dict[str, Any] = {
    "call": lambda loss, node: loss(node, 3.0),
    "grad": lambda loss, node: gn.grad(loss, argnums=1)(node, 3.0),
    "vjp": lambda loss, node: gn.vjp(loss, node, 3.0, wrt=ParamState)[1](1.0)[1],
}


@pytest.mark.parametrize(
    ("rule", "call", "value", "count"),
    [
        (with_jvp, "grad", 8.0, 2.0),
        (with_jvp, "vjp", 8.0, 2.0),
        (with_vjp, "call", 24.0, 2.0),
        (with_vjp, "grad", 8.0, 2.0),
        (with_vjp, "vjp", 8.0, 2.0),
    ],
)
@pytest.mark.parametrize("donate", [False, True])
def test_a_custom_rule_that_runs_eagerly_takes_nothing_from_the_caller(
    rule: Any, call: str, value: float, count: float, donate: bool
):
    """What it works on holds the caller's arrays: the results are those of a step that donates nothing."""
    step = gn.jit(double, donate=donate)

    def loss(node: Tally, x: Any) -> Any:
        y = jnp.sum(node.count.value * x)
        return rule(step, node, y) * jnp.sum(node.count.value)

    node = tally()
    old = node.count.value
    assert EAGER_CALLS[call](loss, node) == value
    assert old.tolist() == [1, 1]
    assert node.count.value.tolist() == [count, count]
    assert node.weight.value.tolist() == [1, 2]


@pytest.mark.parametrize("call", ["grad", "vjp"])
@pytest.mark.parametrize("donate", [False, True])
def test_a_rule_of_jax_does_not_write_when_the_function_is_over(call: str, donate: bool):
    """The backward pass has a copy that nobody has any more: it may read it, and a write is an error."""
    step = gn.jit(double, donate=donate)

    def loss(of_backward: Any) -> Any:
        return lambda node, x: jnp.sum(node.count.value * with_step_in_jax_bwd(of_backward, node, x))

    node = tally()
    assert EAGER_CALLS[call](loss(lambda count: count.value), node) == 2.0
    with pytest.raises(gn.TraceError, match=f"part of the copy of an argument that gn.{call} has worked on"):
        EAGER_CALLS[call](loss(step), node)
    assert node.count.value.tolist() == [1, 1]


def raise_after(node: Tally, x: Any) -> Any:
    raise KeyError("on purpose")


def return_the_node(node: Tally, x: Any) -> Any:
    return node


def change_the_structure(node: Tally, x: Any) -> Any:
    node.count = State(x)
    return x


@pytest.mark.parametrize(
    ("end", "error", "text"),
    [
        (raise_after, KeyError, "on purpose"),
        (return_the_node, gn.StructureError, "gn.custom_vjp differentiates arrays, but the result holds a node"),
        (
            change_the_structure,
            gn.StructureError,
            "the structure of an argument changed inside of gn.custom_vjp: node.count is another State; write to its "
            ".value instead. Change it outside, or return a new node",
        ),
    ],
)
def test_where_a_custom_rule_fails_after_a_donating_step_the_caller_keeps_its_values(
    end: Any, error: type[Exception], text: str
):
    """Nothing of the caller's changes, whoever raises: the function, or graphnode about what it did."""
    step = gn.jit(double, donate=True)
    rule = gn.custom_vjp(lambda node, x: (step(node.count), end(node, x))[1])
    rule.defvjp(lambda node, x: (rule(node, x), None), lambda _, cotangent: (None, cotangent))
    for call in (rule, gn.grad(rule, argnums=1), lambda node, x: gn.vjp(rule, node, x)):
        node = tally()
        with pytest.raises(error) as caught:
            call(node, 3.0)
        assert caught.value.args[0] == text
        assert node.count.value.tolist() == [1, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda loss, node: gn.grad(loss)(node, 3.0),
        lambda loss, node: gn.vjp(loss, node, 3.0)[1](1.0),
        lambda loss, node: jax.grad(lambda x: loss(node, x))(3.0),
    ],
    ids=["gn.grad", "gn.vjp", "jax.grad"],
)
def test_a_backward_function_that_steps_a_residual_takes_nothing_from_the_caller(call: Any):
    """It is refused, as the write would be lost, and the caller's values are there."""
    step = gn.jit(double, donate=True)
    rule = gn.custom_vjp(lambda node, x: node.weight.value.sum() * x)
    rule.defvjp(
        lambda node, x: (node.weight.value.sum() * x, node),
        lambda node, cotangent: (step(node.count), (None, cotangent))[1],
    )
    node = tally()
    with pytest.raises(gn.TraceError) as caught:
        call(rule, node)
    assert str(caught.value) == (
        "gn.custom_vjp: bwd writes into its residuals (0.count), and the write would be lost: bwd gives cotangents "
        "alone. Write in the function and in fwd"
    )
    assert node.count.value.tolist() == [1, 1]


def test_a_backward_function_may_compute_with_the_residuals_in_a_donating_call():
    """An argument that is named is kept too: it may be a value of the caller's node."""
    scaled = gn.jit(lambda weight, by: weight * by, donate_argnums=0)
    rule = gn.custom_vjp(lambda node, x: node.weight.value.sum() * x)
    rule.defvjp(
        lambda node, x: (node.weight.value.sum() * x, node),
        lambda node, cotangent: ({"weight": scaled(node.weight.value, cotangent)}, cotangent),
    )
    node = tally()
    assert gn.grad(rule)(node, 3.0)["weight",].value.tolist() == [1, 2]
    assert node.weight.value.tolist() == [1, 2]


def test_after_a_custom_rule_has_failed_steps_donate_again():
    """That a rule works on copies is over with it."""
    step = gn.jit(double, donate=True)
    rule = gn.custom_vjp(raise_after)
    rule.defvjp(raise_after, raise_after)
    node = tally()
    with pytest.raises(KeyError):
        gn.grad(rule, argnums=1)(node, 3.0)
    old = node.count.value
    step(node.count)
    assert old.is_deleted()


def test_a_state_that_another_call_has_written_meanwhile_is_not_lost(monkeypatch: pytest.MonkeyPatch):
    """Of two calls at once that donate one model, the later fails; the earlier one's result is there to be read."""
    net, x = Net([layer()]), 2.0
    step = gn.jit(train, donate=True)
    step(Net([layer()]), x)
    write = Call.write

    def write_late(call: Call, *outcome: Any) -> None:
        """Memory is given away and nothing is written yet: here comes the call of another thread."""
        monkeypatch.undo()
        with ThreadPoolExecutor(1) as pool, pytest.raises(Exception, match="has been deleted"):
            pool.submit(step, net, x).result()
        with pytest.raises(gn.DonationError):
            jnp.sum(net.layers[0].weight.value)
        write(call, *outcome)

    monkeypatch.setattr(Call, "write", write_late)
    step(net, x)
    np.testing.assert_array_equal(net.layers[0].weight.value, 3.0)
    step(net, x)
    np.testing.assert_array_equal(net.layers[0].trace.value, 5.0)
    assert all(state._mark is None for state in gn.states(net).values())
