"""`donate=True` reuses the memory of exactly the States that are written."""

import warnings
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
    """An argument that is no node gives away all its arrays."""
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


def test_a_state_that_another_call_has_written_meanwhile_is_not_lost(monkeypatch: pytest.MonkeyPatch):
    """Of two calls at once that donate one model, the later fails; the earlier one's result is there to be read."""
    net, x = Net([layer()]), 2.0
    step = gn.jit(train, donate=True)
    step(Net([layer()]), x)
    write = Call.write

    def write_late(call: Call, *outcome: Any) -> None:
        """Memory is given away and nothing is written yet: here comes the call of another thread."""
        monkeypatch.undo()
        with pytest.raises(Exception, match="has been deleted"):
            step(net, x)
        with pytest.raises(gn.DonationError):
            jnp.sum(net.layers[0].weight.value)
        write(call, *outcome)

    monkeypatch.setattr(Call, "write", write_late)
    step(net, x)
    np.testing.assert_array_equal(net.layers[0].weight.value, 3.0)
    step(net, x)
    np.testing.assert_array_equal(net.layers[0].trace.value, 5.0)
    assert all(state._mark is None for state in gn.states(net).values())
