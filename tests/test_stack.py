"""`stack` and `unstack` are inverse, and refuse what does not fit, all of it at once."""

import copy
import random
from typing import Any, assert_type

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn

from .interrupting import interrupt_everywhere
from .properties.strategies import World, reference, worlds


class Pair(gn.Node):
    """A node of two States, one with a pytree."""

    weight: gn.ParamState[Any]
    table: gn.State[Any]
    name: str = "pair"


def pair(first: float = 0.0, size: int = 2) -> Pair:
    return Pair(gn.ParamState(jnp.full((size, 3), first)), gn.State({"a": jnp.int8(1), "b": jnp.ones(4)}))


def values_of(node: object) -> list[Any]:
    leaves = jax.tree.leaves(gn.treefy_states(node))
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [
        np.asarray(jax.random.key_data(leaf) if key else leaf).tolist()
        for leaf, key in zip(leaves, is_key, strict=True)
    ]


# Inverse


@hypothesis.given(worlds(), st.integers(1, 4), st.sampled_from([0, 1, -1]), st.randoms(use_true_random=False))
def test_unstack_is_the_inverse_of_stack(world: World, count: int, axis: int, rng: random.Random):
    """For random graphs with random values: the same structure, and equal values of the same dtype."""
    nodes = [gn.clone(world.root) for _ in range(count)]
    for node in nodes:
        gn.update_states(node, jax.tree.map(lambda leaf: leaf + rng.random(), gn.treefy_states(node)))
    stacked = gn.stack(nodes, axis)
    assert gn.graphdef(stacked) is gn.graphdef(world.root)
    if not gn.states(stacked):
        return
    again = gn.unstack(stacked, axis)
    assert len(again) == count
    for old, new in zip(nodes, again, strict=True):
        assert gn.graphdef(new) is gn.graphdef(old)
        assert reference(new).structure == reference(old).structure
        assert values_of(new) == values_of(old)
        old_leaves, new_leaves = (jax.tree.leaves(gn.treefy_states(one)) for one in (old, new))
        assert [leaf.dtype for leaf in new_leaves] == [leaf.dtype for leaf in old_leaves]


def test_values_are_stacked_along_a_new_axis():
    """Arrays, also those inside of pytrees, are NumPy's stack of the given ones, whatever the axis."""
    nodes = [pair(float(n)) for n in range(5)]
    stacked = gn.stack(nodes)
    assert_type(stacked, Pair)
    assert stacked.weight.value.shape == (5, 2, 3)
    assert stacked.weight.value[:, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert {key: (value.shape, value.dtype) for key, value in stacked.table.value.items()} == {
        "a": ((5,), jnp.int8),
        "b": ((5, 4), jnp.float32),
    }
    assert gn.stack([one.weight for one in nodes], 2).value.shape == (2, 3, 5)
    assert gn.stack([one.weight for one in nodes], -1).value.shape == (2, 3, 5)
    assert gn.stack([one.weight for one in nodes], -3).value.shape == (5, 2, 3)


def test_stacked_nodes_are_new_and_the_given_ones_unchanged():
    """No State is shared with what was given, in either direction."""
    first, second = pair(), pair(1.0)
    stacked = gn.stack([first, second])
    stacked.weight.value = jnp.zeros((2, 2, 3))
    assert second.weight.value.tolist() == [[1.0] * 3] * 2
    parts = gn.unstack(stacked)
    assert_type(parts, list[Pair])
    parts[0].weight.value = jnp.ones((2, 3))
    assert stacked.weight.value.sum() == 0


def test_keys_and_rngs_are_stacked():
    """Key arrays have one more axis too; each part draws what its origin draws."""
    nodes = [gn.Rngs(seed, noise=seed) for seed in range(3)]
    nodes[1]("noise")
    stacked = gn.stack(nodes)
    assert stacked["noise"].key.value.shape == stacked["noise"].count.value.shape == (3,)
    for one, same in zip(gn.unstack(stacked), nodes, strict=True):
        assert values_of(one) == values_of(same)
        assert bool(one("noise") == same("noise"))


def test_pytrees_of_nodes_are_stacked_with_their_sharing():
    """What is shared inside of each is shared in the result."""
    pairs = [(one, [one]) for one in (pair(0.0), pair(1.0))]
    model, (same,) = gn.stack(pairs)
    assert model is same
    assert [first is second for first, (second,) in gn.unstack((model, [same]))] == [True, True]


def test_an_ensemble_runs_under_vmap():
    """Members of a stack give what they give alone."""
    members = [gn.nn.Linear(2, 3) for _ in range(4)]
    graphdef, params = gn.treefy_split(gn.stack(members))
    x = jnp.ones((5, 2))
    found = jax.vmap(lambda params: gn.treefy_merge(graphdef, params)(x))(params)
    np.testing.assert_allclose(np.asarray(found), np.stack([np.asarray(one(x)) for one in members]), rtol=1e-5)


def test_layers_run_in_a_scan():
    """A stack of layers is what a scan runs over, and its written States come back stacked."""
    layers = [gn.nn.BatchNorm(2) for _ in range(3)]
    stacked, x = gn.stack(layers), jnp.array([[0.0, 1.0], [2.0, 5.0]])
    graphdef, states = gn.treefy_split(stacked)

    def step(x: jax.Array, states: gn.StateTree) -> tuple[jax.Array, gn.StateTree]:
        layer = gn.treefy_merge(graphdef, states)
        return 2 * layer(x), gn.treefy_states(layer)

    y, after = jax.lax.scan(step, x, states)
    gn.update_states(stacked, after)
    expected = x
    for layer in layers:
        expected = 2 * layer(expected)
    np.testing.assert_allclose(np.asarray(y), np.asarray(expected), atol=1e-5)
    for part, layer in zip(gn.unstack(stacked), layers, strict=True):
        np.testing.assert_allclose(np.asarray(part.var.value), np.asarray(layer.var.value), rtol=1e-5)


def test_nodes_stack_inside_of_a_trace():
    """Traced values are at home in the new States."""

    @jax.jit
    def twice(value: jax.Array) -> jax.Array:
        stacked = gn.stack([gn.ParamState(value), gn.ParamState(2 * value)])
        return sum((one.value for one in gn.unstack(stacked)), jnp.zeros(2))

    assert twice(jnp.ones(2)).tolist() == [3.0, 3.0]


# Random streams


class Noisy(gn.Node):
    """A node that draws."""

    rngs: gn.Rngs

    def __call__(self) -> jax.Array:
        return jax.random.normal(self.rngs())


def draws(stacked: Any) -> list[float]:
    """What each member of a stack draws next."""
    found: list[float] = gn.vmap(lambda node: node())(stacked).tolist()
    return found


def test_a_shared_stream_is_forked_for_each_node():
    """Each draws what a fork of the one would, in the order of the nodes; the one advances by one draw."""
    rngs = gn.Rngs(0)
    stacked = gn.stack([Noisy(rngs) for _ in range(3)])
    forks = gn.unstack(gn.Rngs(0).fork(3))
    first = draws(stacked)
    assert first == [float(Noisy(one)()) for one in forks]
    assert len(set(first)) == 3
    assert rngs["default"].count.value == 1
    again = draws(gn.stack([Noisy(rngs) for _ in range(3)]))
    assert rngs["default"].count.value == 2
    assert not set(again) & set(first)


def test_dropout_layers_with_one_stream_drop_other_elements():
    """As in a loop over the layers, in a scan and under vmap."""
    rngs, x = gn.Rngs(0), jnp.ones(16)
    layers = gn.stack([gn.nn.Dropout(0.5, rngs=rngs) for _ in range(3)])
    _, masks = gn.scan(lambda carry, layer: (carry, layer(x)), None, layers)
    assert len({tuple(row) for row in masks.tolist()}) == 3
    masks = gn.vmap(lambda layer: layer(x))(layers)
    assert len({tuple(row) for row in masks.tolist()}) == 3


@pytest.mark.parametrize("depth", [1, 2])
def test_layers_of_any_depth_draw_apart_from_the_rest(depth: int):
    """A stream is forked for a single node, too: the rest of the model goes on in it, after one draw."""
    rngs = gn.Rngs(0)
    layers = gn.stack([Noisy(rngs) for _ in range(depth)])
    assert rngs["default"].count.value == 1
    rest = [float(Noisy(rngs)()) for _ in range(3)]
    assert len({*draws(layers), *draws(layers), *rest}) == 2 * depth + 3


def test_only_what_is_shared_is_forked():
    """A stream of one node stays as it is, one that some share is forked for these; one node twice shares all."""
    shared, own = gn.Rngs(0), gn.Rngs(1)
    stacked = gn.stack([Noisy(shared), Noisy(own), Noisy(shared)])
    key, count = stacked.rngs["default"].key.value, stacked.rngs["default"].count.value
    assert bool(key[1] == own["default"].key.value)
    assert [int(one["default"].count.value) for one in (shared, own)] == [1, 0]
    assert count.tolist() == [0, 0, 0]
    assert len(set(draws(stacked))) == 3
    node = Noisy(gn.Rngs(2))
    assert len(set(draws(gn.stack([node, node])))) == 2


def test_streams_are_shared_through_views_containers_and_names():
    """What counts is whose States they are: not the path, nor the node around them."""
    rngs = gn.Rngs(0)
    noisy = Noisy(rngs)
    assert len(set(draws(gn.stack([noisy, gn.unflatten(*gn.flatten(noisy))])))) == 2
    listed = gn.stack([{"a": [Noisy(rngs)]}, {"a": [Noisy(rngs)]}])
    assert len(set(draws(listed["a"][0]))) == 2
    a, b = gn.Rngs(1)["default"], gn.Rngs(2)["default"]
    crossed = gn.stack([gn.Rngs(x=a, y=b), gn.Rngs(x=b, y=a)])
    keys = jnp.concatenate([crossed[name].key.value for name in ("x", "y")])
    assert len({tuple(row) for row in np.asarray(jax.random.key_data(keys)).tolist()}) == 4
    assert [int(one.count.value) for one in (a, b)] == [1, 1]


def test_a_shared_fork_is_forked_again():
    """Of a stream that was forked before, each of its keys gives one to each node."""
    forks = gn.Rngs(0).fork(2)
    stacked = gn.stack([Noisy(forks) for _ in range(3)])
    key = stacked.rngs["default"].key.value
    assert key.shape == stacked.rngs["default"].count.value.shape == (3, 2)
    assert len({tuple(row) for row in np.asarray(jax.random.key_data(key)).reshape(6, -1).tolist()}) == 6
    assert forks["default"].count.value.tolist() == [1, 1]


def test_streams_around_one_key_stay_apart():
    """Their counts, which alone tell them apart, are kept; each advances by one draw."""
    key = gn.RngKey(jax.random.key(0))
    first, second = gn.RngStream(key), gn.RngStream(key, gn.RngCount(jnp.uint32(1000)))
    rngs = gn.Rngs(a=first, b=second)
    stacked = gn.stack([Noisy(rngs) for _ in range(3)])
    assert stacked.rngs["a"].key is stacked.rngs["b"].key
    both = gn.vmap(lambda node: [jax.random.normal(node.rngs(name)) for name in "ab"])(stacked)
    assert len(set(jnp.concatenate(both).tolist())) == 6
    assert [int(stream.count.value) for stream in (first, second)] == [1, 1001]


@pytest.mark.slow
def test_an_interrupted_stack_has_advanced_all_streams_or_none():
    """Wherever the signal comes, the counts of shared streams are equal."""
    rngs = gn.Rngs(a=0, b=1, c=2)
    nodes = [Noisy(rngs), Noisy(rngs)]

    def check() -> None:
        assert len({int(rngs[name].count.value) for name in "abc"}) == 1

    gn.stack(nodes)
    assert interrupt_everywhere("graphnode/_stack.py", lambda: gn.stack(nodes), check) > 30
    assert interrupt_everywhere("graphnode/_signals.py", lambda: gn.stack(nodes), check) > 5


def test_a_shared_stream_of_outside_is_not_forked_in_a_trace():
    """It would advance while the function is traced; nothing was drawn."""
    rngs = gn.Rngs(0)
    nodes = [Noisy(rngs), Noisy(rngs)]
    with pytest.raises(gn.TraceError):
        jax.jit(lambda x: x + jnp.sum(gn.vmap(lambda node: node())(gn.stack(nodes))))(1.0)
    assert rngs["default"].count.value == 0

    def inside(key: jax.Array) -> jax.Array:
        made = gn.Rngs(key)
        found: jax.Array = gn.vmap(lambda node: node())(gn.stack([Noisy(made), Noisy(made)]))
        return found

    assert len(set(jax.jit(inside)(jax.random.key(0)).tolist())) == 2


EQUAL = (
    "draw the same numbers: their keys and counts are equal, and they are two streams. Build each node with another "
    "seed, or give all of them one gn.Rngs, which stack forks"
)


def test_equal_streams_do_not_stack():
    """Both places are named; nothing was drawn from a shared one."""
    shared = gn.Rngs(7)
    with pytest.raises(gn.StackError) as caught:
        gn.stack([(Noisy(gn.Rngs(seed)), Noisy(shared)) for seed in (0, 1, 0)])
    assert str(caught.value) == (
        f"cannot stack tuple: 0.rngs.streams.default of node 0 and 0.rngs.streams.default of node 2 {EQUAL}"
    )
    assert shared["default"].count.value == 0
    node = Noisy(gn.Rngs(0))
    for twin in (gn.clone(node), copy.deepcopy(node), Noisy(gn.Rngs(0))):
        with pytest.raises(gn.StackError) as caught:
            gn.stack([node, twin])
        assert str(caught.value) == (
            f"cannot stack Noisy: rngs.streams.default of node 0 and rngs.streams.default of node 1 {EQUAL}"
        )
    with pytest.raises(gn.StackError, match="draw the same numbers"):
        gn.stack([gn.Rngs(0).fork(3), gn.Rngs(0).fork(3)])


def test_equal_tracers_do_not_stack():
    """In a trace, keys and counts are equal where they are one tracer."""

    def inside(key: jax.Array, count: jax.Array) -> Noisy:
        streams = [gn.RngStream(gn.RngKey(key), gn.RngCount(count)) for _ in range(2)]
        return gn.stack([Noisy(gn.Rngs(stream)) for stream in streams])

    with pytest.raises(gn.StackError, match="draw the same numbers"):
        gn.eval_shape(inside, jax.random.key(0), jnp.uint32(0))


def test_streams_that_differ_in_key_or_count_stack():
    """Another seed, another name or another number of draws is another stream; in one node, equal ones are its own."""
    drawn = gn.Rngs(0)
    drawn()
    gn.stack([Noisy(gn.Rngs(0)), Noisy(gn.Rngs(1)), Noisy(drawn)])
    gn.stack([Noisy(gn.Rngs(0).fork()), Noisy(gn.Rngs(0))])
    gn.stack([(Noisy(gn.Rngs(seed)), Noisy(gn.Rngs(seed))) for seed in (0, 1)])
    assert len(set(draws(gn.stack([Noisy(one) for one in gn.unstack(gn.Rngs(0).fork(4))])))) == 4


# What stack refuses


def test_nodes_of_two_structures_do_not_stack():
    """The first that differs from the first node is named, with the differences."""
    other = pair()
    other.name = "other"
    with pytest.raises(gn.StructureError) as caught:
        gn.stack([pair(), pair(), other, Pair(gn.ParamState(1), gn.State(1), "third")])
    assert str(caught.value) == (
        "cannot stack nodes of two structures: node 2 differs from node 0: name: 'pair' != 'other'"
    )


def test_no_nodes_do_not_stack():
    """Nothing says what the result would be."""
    with pytest.raises(gn.StackError) as caught:
        gn.stack([])
    assert str(caught.value) == "stack takes at least one node: of none, the structure is unknown"


@pytest.mark.wrong_types
def test_one_node_alone_does_not_stack():
    """A node in place of a sequence of them is named as such, even if it can be iterated."""
    one: Any = gn.Rngs(0)
    with pytest.raises(gn.StructureError) as caught:
        gn.stack(one)
    assert str(caught.value) == "gn.stack takes a sequence of nodes; found a Rngs alone"


def test_values_that_differ_do_not_stack():
    """Every State whose trees, shapes or dtypes differ is named with what was found."""
    other = Pair(gn.ParamState(jnp.zeros((3, 3), jnp.bfloat16)), gn.State({"a": jnp.int8(1), "b": jnp.ones(5)}))
    third = Pair(gn.ParamState(jnp.zeros((2, 3))), gn.State({"a": jnp.int8(1)}))
    with pytest.raises(gn.StackError) as caught:
        gn.stack([pair(), other, third])
    assert str(caught.value) == (
        "cannot stack Pair: 3 faults:\n"
        "  table['b']: node 0 holds float32[4], node 1 float32[5]\n"
        "  table: node 0 holds the tree PyTreeDef({'a': *, 'b': *}), node 2 PyTreeDef({'a': *})\n"
        "  weight: node 0 holds float32[2,3], node 1 bfloat16[3,3]"
    )


def test_what_is_no_array_does_not_stack():
    """Numbers do, texts do not."""
    numbers: Any = gn.stack([gn.State(1.0), gn.State(2.0)])
    assert numbers.value.tolist() == [1.0, 2.0]
    text: gn.State[Any] = gn.State("text")
    with pytest.raises(gn.StackError) as caught:
        gn.stack([Pair(gn.ParamState(1), text)])
    assert str(caught.value) == "cannot stack Pair: table: expected an array, found str 'text'"


@pytest.mark.parametrize("axis", [3, -4])
def test_an_axis_that_some_value_lacks_is_refused(axis: int):
    """A new axis stands before, between or after those that there are."""
    with pytest.raises(gn.StackError) as caught:
        gn.stack([pair(), pair()], axis)
    assert str(caught.value) == (
        "cannot stack Pair: 3 faults:\n"
        f"  table['a']: int8[] has no place for a new axis {axis}\n"
        f"  table['b']: float32[4] has no place for a new axis {axis}\n"
        f"  weight: float32[2,3] has no place for a new axis {axis}"
    )


# What unstack refuses


def test_sizes_that_disagree_are_all_named():
    """Every array without the axis, or of another size than the first, is in the one error."""
    with pytest.raises(gn.StackError) as caught:
        gn.unstack(
            Pair(gn.ParamState(jnp.ones((2, 3))), gn.State({"a": jnp.int8(1), "b": jnp.ones(4), "c": jnp.ones(2)}))
        )
    assert str(caught.value) == (
        "cannot unstack Pair: 3 faults:\n"
        "  table['a']: int8[] has no axis 0\n"
        "  table['c']: expected size 4 along axis 0 as table['b'] has, found 2\n"
        "  weight: expected size 4 along axis 0 as table['b'] has, found 2"
    )


def test_a_node_without_arrays_does_not_come_apart():
    """Nothing says into how many."""

    class Bare(gn.Node):
        size: int

    empty: gn.State[Any] = gn.State(None)
    for node in (gn.stack([Bare(1), Bare(1)]), [empty]):
        with pytest.raises(gn.StackError) as caught:
            gn.unstack(node)
        assert str(caught.value).endswith(
            ": it holds no arrays, and only their size along the axis would say into how many nodes"
        )


def test_a_stack_of_size_zero_comes_apart_into_nothing():
    """An axis of size zero gives no nodes."""
    assert gn.unstack([gn.State(jnp.ones((0, 2)))]) == []


def test_a_state_without_leaves_comes_apart_with_the_others():
    """`None` beside arrays is `None` in each part."""
    parts = gn.unstack(gn.stack([Pair(gn.ParamState(None), gn.State(1.0)) for _ in range(2)]))
    assert [(one.weight.value, float(one.table.value)) for one in parts] == [(None, 1.0)] * 2
