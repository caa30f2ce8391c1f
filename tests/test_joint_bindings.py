"""The binding of several nodes is kept on the first of them: met again, never stale, and no longer than they live."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode import ParamState
from graphnode._graph import _binding, _binding_cache, _flatten
from graphnode._graph._binding_cache import binding_of, binding_of_list


class Leaf(gn.Node):
    size: int
    weight: ParamState


class Root(gn.Node):
    leaves: list[Leaf] = gn.subnode(default_factory=list)
    child: Leaf | None = None


def leaf(size: int = 1) -> Leaf:
    return Leaf(size, ParamState(jnp.zeros(1)))


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The roots that were walked since the test began."""
    found: list[Any] = []
    walk = _flatten.walk

    def counted(root: Any) -> _binding.Binding:
        found.append(root)
        return walk(root)

    monkeypatch.setattr(_flatten, "walk", counted)
    return found


def joint(node: Any) -> _binding_cache.JointBindings:
    """The joint bindings that a node keeps."""
    return node._joint  # type: ignore[no-any-return]


def test_several_nodes_are_walked_once(walks: list[Any]):
    """The second look at the same nodes, in whatever list they come, walks nothing."""
    nodes: list[Any] = [Root([leaf()]), leaf(), Root([])]
    first = binding_of_list(nodes)
    assert binding_of_list(list(nodes)) is first
    assert binding_of(nodes) is first
    assert binding_of([*nodes]) is first
    assert len(walks) == 1


def test_a_state_may_follow_a_node(walks: list[Any]):
    """A State beside a node is part of what is kept; one that comes first is walked each time."""
    one, held = leaf(), ParamState(jnp.zeros(1))
    for _ in range(2):
        assert binding_of_list([one, held]).states == (one.weight, held)
        assert binding_of([one, held]).states == (one.weight, held)
        assert binding_of_list([one, one.weight]).states == (one.weight,)
        assert binding_of_list([one, held, leaf(), held]).states[:2] == (one.weight, held)
    assert binding_of_list([one, held]).graphdef is binding_of_list([one, held]).graphdef
    assert len(walks) == 4  # the leaf is another each time
    assert binding_of_list([held, one]) is not binding_of_list([held, one])
    assert binding_of_list([held]).states == (held,)


def test_pytrees_of_the_same_nodes_are_kept_apart(walks: list[Any]):
    """A list, a tuple, a dict and a nested list of the same nodes are different structures."""
    one, two = leaf(), leaf()
    trees: list[Any] = [[one, two], (one, two), {"a": one, "b": two}, [[one], two], [two, one], [one, one], [one]]
    bindings = [binding_of(tree) for tree in trees]
    assert [binding_of(tree) is binding for tree, binding in zip(trees, bindings, strict=True)] == [True] * len(trees)
    assert len(walks) == len(trees)
    assert len({id(binding.graphdef) for binding in bindings}) == 6  # [two, one] is built as [one, two] is
    assert len(joint(one)) == 6


def test_a_value_write_changes_nothing(walks: list[Any]):
    """Writing to a State leaves the binding what it is."""
    one, two = leaf(), leaf()
    first = binding_of_list([one, two])
    two.weight.value = jnp.ones(1)
    assert binding_of_list([one, two]) is first
    assert len(walks) == 1


@pytest.mark.parametrize("change", ["first", "second", "below", "container", "elsewhere"])
def test_a_change_of_structure_is_seen(change: str, walks: list[Any]):
    """A change to any root, or anything below one, gives another binding; one elsewhere does not."""
    one, two, other = Root([leaf()]), Root([leaf()], leaf()), leaf()
    binding_of(other)
    nodes: list[Any] = [one, two]
    first = binding_of_list(nodes)
    del walks[:]
    if change == "first":
        one.child = leaf(7)
    elif change == "second":
        two.child = None
    elif change == "below":
        two.leaves[0].size = 9
    elif change == "container":
        two.leaves.append(leaf())
    else:
        other.size = 3
    assert (binding_of_list(nodes) is first) == (change == "elsewhere")
    assert len(walks) == (change != "elsewhere")
    del walks[:]
    assert binding_of_list(nodes).graphdef is _flatten.walk(nodes).graphdef
    assert len(walks) == 1


def test_rebuilt_nodes_come_with_their_binding(walks: list[Any]):
    """What is merged as a list is not walked; a change to it is seen."""
    made: list[Any] = gn.clone([Root([leaf()]), leaf(), leaf()])
    del walks[:]
    binding = binding_of_list(made)
    assert binding_of(made) is binding
    assert binding.states == tuple(gn.states(made).values())
    assert walks == []
    made[2].size = 8
    assert binding_of_list(made).graphdef is not binding.graphdef
    assert len(walks) == 1


def test_rebuilt_nodes_of_a_dict_come_with_their_binding(walks: list[Any]):
    """A merged dict of nodes is not walked either, and its nodes alone are."""
    made = gn.clone({"b": leaf(), "a": Root([leaf()])})
    del walks[:]
    assert gn.graphdef(made) is binding_of(made).graphdef
    assert walks == []
    binding_of_list([made["a"], made["b"]])
    assert len(walks) == 1


def test_an_entry_dies_with_any_of_its_nodes():
    """What is kept under the id of a node is dropped with the node: an id may be another's afterwards."""
    one, two, three = leaf(), leaf(), leaf()
    binding_of_list([one, two, three]), binding_of_list([one, two]), binding_of_list([one])
    assert len(joint(one)) == 3
    del three
    assert len(joint(one)) == 2
    del two
    assert len(joint(one)) == 1


def test_a_new_node_at_the_address_of_a_dead_one_is_not_taken_for_it():
    """However often second nodes die and are made, each gets the binding of its own structure and States."""
    one = leaf()
    for size in range(300):
        other = Leaf(size, ParamState(jnp.zeros(1))) if size % 3 else Root([leaf(size)])
        binding = binding_of_list([one, other])
        assert binding.states[1] is (other.weight if isinstance(other, Leaf) else other.leaves[0].weight)
        assert binding.graphdef is _flatten.walk([one, other]).graphdef
        del other, binding
    assert len(joint(one)) == 0


def test_what_a_node_keeps_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """A node that is bound beside ever new ones keeps few of the bindings."""
    one, others = leaf(), [leaf() for _ in range(30)]
    for other in others:
        assert binding_of_list([one, other]).states == (one.weight, other.weight)
        assert len(joint(one)) <= _binding_cache.JointBindings.limit
    assert len(joint(one)) > 1


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_joint_binding_does_not_outlive_its_nodes(order: str):
    """Nodes bound together die with their last references, whichever goes first, and no collection is needed."""
    one, two = Root([leaf()]), Root([leaf()], leaf())
    binding_of_list([one, two]), binding_of([two, one]), binding_of_list([one, one, two])
    both = {"first": one, "second": two}
    del one, two
    gone = both.pop(order)
    refs = [weakref.ref(part) for part in (gone, gone.leaves[0], gone.leaves[0].weight, gone.leaves[0].weight.value)]
    gc.collect()
    gc.disable()
    try:
        del gone
        assert [ref() for ref in refs] == [None] * len(refs)
    finally:
        gc.enable()
    (left,) = both.values()
    assert len(joint(left)) == 0


def test_rebuilt_nodes_die_like_any_other():
    """The binding that a merge gives keeps none of its nodes."""
    made: list[Any] = gn.clone([Root([leaf()]), Root([leaf()]), leaf()])
    refs = [weakref.ref(part) for part in (*made, made[1].leaves[0], made[0].leaves[0].weight)]
    gc.collect()
    gc.disable()
    try:
        del made[0], made
        assert [ref() for ref in refs] == [None] * len(refs)
    finally:
        gc.enable()


def test_leaked_tracers_are_reported_from_a_kept_binding():
    """A list of nodes that was bound in a trace, and kept, says so at every later look."""
    kept: list[Leaf] = []

    def leak(x: jax.Array) -> jax.Array:
        kept.extend([Leaf(1, ParamState(x)), Leaf(2, ParamState(x))])
        binding_of_list(kept)
        return x

    jax.jit(leak)(jnp.ones(1))
    for _ in range(2):
        with pytest.raises(gn.TraceError, match=r"^0\.weight \(ParamState\) holds a tracer float32\[1\] "):
            binding_of_list(kept)


class Member(gn.Node):
    weight: gn.ParamState
    parent: "Member | None" = None
    children: "list[Member]" = gn.subnode(default_factory=list)


def member() -> Member:
    """A node whose child knows it."""
    top = Member(ParamState(jnp.zeros(1)))
    top.children = [Member(ParamState(jnp.zeros(1)), top)]
    return top


@pytest.mark.parametrize(
    "make", [lambda: ParamState(jnp.zeros(1)), member], ids=["a State", "a node with a parent pointer"]
)
@pytest.mark.parametrize(
    "use", [lambda one, other: binding_of_list([one, other]), lambda one, other: gn.clone((one, other))]
)
def test_what_comes_beside_a_long_lived_node_dies(make: Callable[[], Any], use: Callable[[Any, Any], Any]):
    """A node that lives long keeps none of the States and nodes that came beside it, also where these lead back."""
    one = leaf()

    def used() -> "weakref.ref[Any]":
        other = make()
        use(one, other)
        return weakref.ref(other)

    refs = [used() for _ in range(5)]
    gc.collect()
    assert [ref() for ref in refs] == [None] * 5
    assert len(getattr(one, "_joint", ())) == 0


def test_a_change_below_a_node_with_a_parent_pointer_is_seen(walks: list[Any]):
    """What is watched without being kept is noticed as well: a new child, a lost one, one that is gone."""
    one, top = leaf(), member()
    binding_of_list([one, top])
    assert binding_of_list([one, top]) is binding_of_list([one, top])
    assert len(walks) == 1
    top.children.append(Member(ParamState(jnp.zeros(1)), top))
    assert len(binding_of_list([one, top]).states) == 4
    del top.children[1:]
    gc.collect()
    assert len(binding_of_list([one, top]).states) == 3
    top.children[0].weight = ParamState(jnp.ones(2))
    assert binding_of_list([one, top]).states[1] is top.children[0].weight
    assert len(walks) == 4
    top.children.clear()
    gc.collect()
    leaf().size = 3  # the clock moves, and a node that was watched is gone
    assert binding_of_list([one, top]).states == (one.weight, top.weight)


def test_an_entry_that_was_not_dropped_is_not_taken_for_that_of_other_nodes():
    """An interrupt can keep the callback of a dead node from dropping its entry; its id is then another's."""
    one, two = leaf(), leaf()
    binding_of_list([one, two])
    (key, kept), *_ = joint(one).items()
    other = leaf(7)
    joint(one).clear()
    joint(one)[(id(one), id(other))] = kept
    assert key == (id(one), id(two))
    assert binding_of_list([one, other]).states == (one.weight, other.weight)
    assert binding_of_list([one, two]).states == (one.weight, two.weight)
