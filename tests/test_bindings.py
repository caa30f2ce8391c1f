"""A binding never survives a change of structure, and never dies of anything else."""

import copy
import functools
import gc
import itertools
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode._filters import Matcher, Subject
from graphnode._graph import _binding, _flatten
from graphnode._graph._binding_cache import binding_of
from graphnode._versions import CLOCK

from .properties.strategies import assert_fresh, reference


@functools.cache
def zero() -> jax.Array:
    return jnp.zeros(1)


def param() -> gn.ParamState:
    return gn.ParamState(zero())


class Leaf(gn.Node):
    size: int
    weight: gn.ParamState


class Kit(gn.Node):
    weight: gn.ParamState
    child: Leaf
    size: int = 1
    extra: gn.BatchState | None = None
    items: list[Leaf] = gn.subnode(default_factory=list)
    table: dict[str, Leaf] = gn.subnode(default_factory=dict)
    params: list[gn.ParamState] = gn.state(default_factory=list)
    named: dict[str, gn.ParamState] = gn.state(default_factory=dict)
    nested: dict[str, list[Leaf]] = gn.subnode(default_factory=dict)
    lists: tuple[list[Leaf], ...] = gn.subnode(default=())


class Holder(gn.Node):
    kits: tuple[Kit, ...]


def leaf(size: int = 1) -> Leaf:
    return Leaf(size, param())


def kit() -> Kit:
    return Kit(
        weight=param(),
        child=leaf(),
        extra=gn.BatchState(jnp.zeros(1)),
        items=[leaf(3), leaf(2), leaf(1)],
        table={"a": leaf(1), "b": leaf(2)},
        params=[param(), param()],
        named={"a": param(), "b": param()},
        nested={"a": [leaf(1)], "b": []},
        lists=([leaf(1)], []),
    )


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The roots that were walked since the test began."""
    found: list[object] = []
    walk = _flatten.walk

    def counted(root: object) -> _binding.Binding:
        found.append(root)
        return walk(root)

    monkeypatch.setattr(_flatten, "walk", counted)
    return found


# Every way to change a structure


def extend_in_place(one: Kit) -> None:
    one.items += [leaf()]


def repeat_in_place(one: Kit) -> None:
    one.items *= 2


def merge_in_place(one: Kit) -> None:
    one.table |= {"c": leaf()}


def change_static_of_shared_child(one: Kit) -> None:
    one.child.size = 7


def pop_and_update(one: Kit) -> None:
    gn.update_states(one, gn.pop_states(one, gn.All(gn.ParamState, gn.Not(gn.PathContains("params")))))
    # The same States at the same places; another field tells that it was noticed.
    one.size = 9


def update_with_new_state(one: Kit) -> None:
    tree = gn.treefy_states(one, gn.BatchState)
    gn.pop_states(one, gn.BatchState)
    gn.update_states(one, tree)


def set_state(one: Any) -> None:
    one.__setstate__({"size": 5})


def initialise_again(one: Any) -> None:
    one.__init__(param(), leaf())


def failing_sort(one: Kit) -> None:
    def key(item: Leaf) -> Any:
        return object() if item.size == 1 else item.size

    with pytest.raises(TypeError):
        one.items.sort(key=key)
    # A failed sort may have moved items, or not; either way nothing stale is left.
    one.items.pop()


def detach(one: Kit) -> None:
    one.items = []


def reattach(one: Kit) -> None:
    held = one.items
    one.items = []
    binding_of(one)
    one.items = held
    one.items.pop()


def reattach_and_change_the_old(one: Kit) -> None:
    held = one.items
    one.items = []
    binding_of(one)
    one.items = held
    held.append(leaf())  # no longer the node's own
    assert len(one.items) == 3
    one.items.append(leaf(4))


def move_container(one: Kit) -> None:
    one.nested["a"] = one.items
    one.nested["a"].pop()
    assert len(one.items) == 3


EDITS: dict[str, Callable[[Kit], object]] = {
    "assign a static": lambda one: setattr(one, "size", 2),
    "assign an equal static of another type": lambda one: setattr(one.child, "size", True),
    "assign a State": lambda one: setattr(one, "weight", param()),
    "assign None": lambda one: setattr(one, "extra", None),
    "assign a node": lambda one: setattr(one, "child", leaf()),
    "assign a list": lambda one: setattr(one, "items", [leaf()]),
    "assign a dict": lambda one: setattr(one, "table", {"z": leaf()}),
    "assign a tuple": lambda one: setattr(one, "lists", ([], [leaf()])),
    "assign a field of a child": lambda one: setattr(one.child, "weight", param()),
    "assign a static of a child": change_static_of_shared_child,
    "assign a field of an item": lambda one: setattr(one.items[1], "weight", param()),
    "assign a field of a dict's item": lambda one: setattr(one.table["a"], "size", 5),
    "assign a field of a nested item": lambda one: setattr(one.nested["a"][0], "size", 5),
    "share a State": lambda one: setattr(one, "weight", one.child.weight),
    "share a node": lambda one: setattr(one, "child", one.items[0]),
    "delete a State": lambda one: delattr(one, "weight"),
    "delete a node": lambda one: delattr(one, "child"),
    "delete a list": lambda one: delattr(one, "items"),
    "delete a field of a child": lambda one: delattr(one.child, "weight"),
    "list append": lambda one: one.items.append(leaf()),
    "list append an item again": lambda one: one.items.append(one.items[0]),
    "list insert": lambda one: one.items.insert(0, leaf()),
    "list pop": lambda one: one.items.pop(),
    "list pop at": lambda one: one.items.pop(0),
    "list remove": lambda one: one.items.remove(one.items[1]),
    "list sort": lambda one: one.items.sort(key=lambda item: item.size),
    "list sort that fails": failing_sort,
    "list reverse": lambda one: one.items.reverse(),
    "list clear": lambda one: one.items.clear(),
    "list extend": lambda one: one.items.extend([leaf()]),
    "list extend by a generator": lambda one: one.items.extend(leaf(size) for size in (1, 2)),
    "list +=": extend_in_place,
    "list *=": repeat_in_place,
    "list *= 0": lambda one: one.items.__imul__(0),
    "list item": lambda one: one.items.__setitem__(0, leaf()),
    "list item from the end": lambda one: one.items.__setitem__(-1, leaf()),
    "list slice": lambda one: one.items.__setitem__(slice(0, 2), [leaf()]),
    "list slice with a step": lambda one: one.items.__setitem__(slice(None, None, 2), [leaf(), leaf()]),
    "list empty slice": lambda one: one.items.__setitem__(slice(1, 1), [leaf()]),
    "list del item": lambda one: one.items.__delitem__(0),
    "list del slice": lambda one: one.items.__delitem__(slice(0, 2)),
    "list of States append": lambda one: one.params.append(param()),
    "list of States item": lambda one: one.params.__setitem__(0, param()),
    "list of States pop": lambda one: one.params.pop(0),
    "list of States reverse": lambda one: one.params.reverse(),
    "dict item": lambda one: one.table.__setitem__("c", leaf()),
    "dict item replaced": lambda one: one.table.__setitem__("a", leaf()),
    "dict del": lambda one: one.table.__delitem__("a"),
    "dict update": lambda one: one.table.update({"c": leaf()}),
    "dict update by pairs": lambda one: one.table.update([("c", leaf())]),
    "dict update by keywords": lambda one: one.table.update(a=leaf()),
    "dict setdefault": lambda one: one.table.setdefault("c", leaf()),
    "dict pop": lambda one: one.table.pop("a"),
    "dict pop with a default": lambda one: one.table.pop("b", None),
    "dict popitem": lambda one: one.table.popitem(),
    "dict clear": lambda one: one.table.clear(),
    "dict |=": merge_in_place,
    "dict of States item": lambda one: one.named.__setitem__("a", param()),
    "dict of States pop": lambda one: one.named.pop("b"),
    "dict rename": lambda one: one.named.__setitem__("z", one.named.pop("a")),
    "nested list append": lambda one: one.nested["b"].append(leaf()),
    "nested list clear": lambda one: one.nested["a"].clear(),
    "nested list replaced": lambda one: one.nested.__setitem__("a", [leaf(), leaf()]),
    "nested list deleted": lambda one: one.nested.pop("b"),
    "nested list made": lambda one: one.nested.setdefault("c", []),
    "list in a tuple append": lambda one: one.lists[1].append(leaf()),
    "list in a tuple pop": lambda one: one.lists[0].pop(),
    "pop_states": lambda one: gn.pop_states(one, gn.BatchState),
    "pop_states of a dict": lambda one: gn.pop_states(one, gn.PathContains("named")),
    "pop_states and update_states": pop_and_update,
    "update_states with a new State": update_with_new_state,
    "__setstate__": set_state,
    "__init__ again": initialise_again,
    "container taken off": detach,
    "container taken off and put back": reattach,
    "container copied when put back": reattach_and_change_the_old,
    "container given to another field": move_container,
}


def warm(*roots: Any) -> None:
    """Fill every cache there is."""
    for root in roots:
        gn.graphdef(root)
        gn.states(root, gn.ParamState)
        gn.treefy_split(root, gn.ParamState, ...)
        gn.update_states(root, gn.treefy_states(root))


def directly(one: Kit) -> tuple[Kit, list[Any]]:
    return one, [one]


def below_a_root(one: Kit) -> tuple[Kit, list[Any]]:
    return one, [Holder((one,))]


def below_two_roots(one: Kit) -> tuple[Kit, list[Any]]:
    return one, [one, Holder((one,)), Holder((kit(), one)), Holder((one, one))]


def beside_its_parts(one: Kit) -> tuple[Kit, list[Any]]:
    return one, [one, one.child, *one.items, *one.table.values()]


def merged(one: Kit) -> tuple[Kit, list[Any]]:
    made = gn.treefy_merge(*gn.treefy_split(one))
    return made, [made]


def below_a_merged_root(one: Kit) -> tuple[Kit, list[Any]]:
    made = gn.clone(Holder((one, one)))
    return made.kits[1], [made, made.kits[0]]


def in_a_merged_pytree(one: Kit) -> tuple[Kit, list[Any]]:
    made: dict[str, Any] = gn.clone({"a": one, "b": Holder((one,))})
    return made["a"], [made["a"], made["b"], made]


def unflattened(one: Kit) -> tuple[Kit, list[Any]]:
    made = gn.unflatten(*gn.flatten(one))
    return made, [made, one]


def deep_copied(one: Kit) -> tuple[Kit, list[Any]]:
    binding_of(one)
    made = copy.deepcopy(one)
    return made, [made]


def unpickled(one: Kit) -> tuple[Kit, list[Any]]:
    binding_of(one)
    made = pickle.loads(pickle.dumps(one))
    return made, [made]


def shallow_copied(one: Kit) -> tuple[Kit, list[Any]]:
    binding_of(one)
    made = copy.copy(one)
    return made, [made, one]


SETUPS = [
    directly,
    below_a_root,
    below_two_roots,
    beside_its_parts,
    merged,
    below_a_merged_root,
    unflattened,
    deep_copied,
    unpickled,
    shallow_copied,
]


# Two setups for each edit: those of its number i, and of 3i + 1, which are never the same one. So a setup meets about
# 15 edits, of every kind, as alike edits stand beside each other. All other pairs are slow tests.
EDITED = [
    pytest.param(name, setup, id=f"{name}-{setup.__name__}", marks=() if is_quick else pytest.mark.slow)
    for i, name in enumerate(EDITS)
    for number, setup in enumerate(SETUPS)
    for is_quick in [number in (i % len(SETUPS), (3 * i + 1) % len(SETUPS))]
]


@pytest.mark.parametrize(("name", "setup"), EDITED)
def test_binding_does_not_survive_a_change(name: str, setup: Callable[[Kit], tuple[Kit, list[Any]]]):
    """After each way to change a structure, every root sees the new one: the changed, its parents, its parts."""
    one, roots = setup(kit())
    warm(*roots)
    before = {id(root): binding_of(root) for root in roots}
    EDITS[name](one)
    for root in roots:
        assert_fresh(root)
    assert any(binding_of(root) is not before[id(root)] for root in roots), "the edit changes nothing"


@pytest.mark.parametrize("name", EDITS)
def test_pytree_of_nodes_shows_a_change(name: str):
    """A root that is a pytree of nodes is never cached on anything stale."""
    one, roots = in_a_merged_pytree(kit())
    warm(*roots)
    EDITS[name](one)
    found = gn.states(roots[-1])
    assert [path for path, _ in reference(one).states] == [path[1:] for path in found if path[0] == "a"]
    assert list(found.values())[: len(gn.states(one))] == list(gn.states(one).values())


@pytest.mark.parametrize("name", EDITS)
def test_change_by_another_thread_is_seen(name: str):
    """A change made by another thread, which has finished, is seen by this one."""
    one = kit()
    root = Holder((one,))
    warm(one, root)
    worker = threading.Thread(target=EDITS[name], args=(one,))
    worker.start()
    worker.join()
    assert_fresh(one)
    assert_fresh(root)


def test_node_shared_by_two_roots_is_changed_through_either():
    """A node below two roots is changed through one of them, and both see it."""
    one = kit()
    left, right = Holder((one,)), Holder((one,))
    warm(left, right)
    left.kits[0].child.size = 4
    assert gn.graphdef(right) is gn.graphdef(left)
    right.kits[0].items.clear()
    assert_fresh(left)
    assert not gn.nodes(left, gn.PathContains("items", missing_ok=True))


def test_child_bound_before_its_parent_is_watched_by_both():
    """A child that was a root before its parent was bound keeps its version; a change invalidates both."""
    one = kit()
    warm(one.child)
    warm(one)
    one.child.weight = param()
    assert gn.states(one)[("child", "weight")] is one.child.weight
    assert gn.states(one.child)[("weight",)] is one.child.weight


def test_node_attached_later_is_watched_from_then_on():
    """A node that joins a bound graph is watched once the graph was bound again."""
    one, late = kit(), leaf()
    warm(one)
    one.child = late
    warm(one)
    late.size = 8
    assert_fresh(one)


def test_node_detached_no_longer_matters(walks: list[object]):
    """A change of a node that left the graph costs a look at versions, and no walk."""
    one = kit()
    old = one.child
    warm(one)
    one.child = leaf()
    warm(one)
    walks.clear()
    old.size = 9
    warm(one)
    assert walks == []


def test_refused_change_keeps_structure_and_binding():
    """A change that is refused changes neither the container nor the structure."""
    one: Any = kit()
    warm(one)
    binding = binding_of(one)
    with pytest.raises(gn.FieldError) as caught:
        one.items.append(param())
    assert str(caught.value) == "Kit.items.3 takes Leaf; found a ParamState"
    for bad in (
        lambda: one.items.extend([leaf(), 3]),
        lambda: one.items.insert(0, None),
        lambda: one.items.__setitem__(0, "x"),
        lambda: one.items.__setitem__(slice(0, 1), [leaf(), None]),
        lambda: one.table.update({0: leaf()}),
        lambda: one.table.update({"c": leaf(), "d": 3}),
        lambda: one.table.setdefault("c"),
        lambda: one.nested.__setitem__("a", [param()]),
        lambda: setattr(one, "items", [leaf(), 3]),
        lambda: setattr(one, "size", [1]),
        lambda: setattr(one, "weight", jnp.zeros(1)),
    ):
        with pytest.raises(gn.FieldError):
            bad()
    assert binding_of(one) is binding
    for missing, error in (
        (lambda: one.items.remove(leaf()), ValueError),
        (lambda: one.items.pop(17), IndexError),
        (lambda: one.items.__setitem__(slice(None, None, 2), []), ValueError),
        (lambda: one.table.pop("q"), KeyError),
        (lambda: one.table.__delitem__("q"), KeyError),
    ):
        with pytest.raises(error):
            missing()
    assert binding_of(one).graphdef is binding.graphdef
    assert_fresh(one)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda one: one.items.append(None), "Kit.items.3 takes Leaf; found None"),
        (lambda one: one.table.update({1: leaf()}), "Kit.table takes string keys; found 1"),
        pytest.param(
            lambda one: one.table.__setitem__(1, leaf()),
            "Kit.table takes string keys; found 1",
            marks=pytest.mark.wrong_types,
        ),
        (
            lambda one: one.named.update(x=jnp.zeros(2)),
            "Kit.named.x takes ParamState; found an array float32[2]; wrap the array: ParamState(...), or write to "
            ".value",
        ),
        (lambda one: one.nested["b"].append(3), "Kit.nested.b.0 takes Leaf; found int 3"),
        (lambda one: one.nested.update({"a.b": [3]}), 'Kit.nested."a.b".0 takes Leaf; found int 3'),
        (lambda one: one.lists[0].insert(0, 3), "Kit.lists.0.0 takes Leaf; found int 3"),
        (
            lambda one: gn.clone(one).lists[0].append(3),
            "Kit.lists.0.1 takes Leaf; found int 3",
        ),
        (lambda one: copy.deepcopy(one).nested["a"].append(3), "Kit.nested.a.1 takes Leaf; found int 3"),
    ],
)
def test_wrong_item_is_refused_with_its_full_path(bad: Callable[[Any], object], message: str):
    """A container refuses what its field does not admit and names the field, also in copies and merged nodes."""
    one = kit()
    with pytest.raises(gn.FieldError) as caught:
        bad(one)
    assert str(caught.value) == message


def test_container_taken_from_a_node_is_its_own():
    """Two nodes never share a container: assigning one node's list to another copies it; the contents are shared."""
    left, right = kit(), kit()
    right.items = left.items
    assert right.items is not left.items
    assert right.items[0] is left.items[0]
    warm(left, right)
    left.items.pop()
    assert len(right.items) == 3
    assert_fresh(left)
    assert_fresh(right)


def test_callers_list_is_copied_on_assignment():
    """A list that was assigned stays the caller's: changing it later changes no node."""
    mine = [leaf(), leaf()]
    one = kit()
    one.items = mine
    mine.append(leaf())
    assert len(one.items) == 2
    assert type(mine) is list


def test_copies_of_a_container_are_plain():
    """What is taken out of a container (a slice, a copy, a sum) is a plain list or dict."""
    one = kit()
    assert type(one.items[:]) is list
    assert type(one.items.copy()) is list
    assert type(one.items + []) is list
    assert type(one.table.copy()) is dict
    assert type(copy.copy(one.items)) is list
    assert type(copy.deepcopy(one.table)) is dict
    assert type(pickle.loads(pickle.dumps(one.table))) is dict
    assert isinstance(one.items, list)
    assert isinstance(one.table, dict)


def test_list_in_itself_is_copied_not_nested_for_ever():
    """Putting a container into itself puts a copy there, so no container ever holds itself."""

    class Nested(gn.Node):
        held: Any = gn.subnode()

    one = Nested([[leaf()]])
    one.held.append(one.held)
    assert len(gn.states(one)) == 1
    assert gn.aliases(one) == {("held", 0, 0): (("held", 1, 0, 0),)}
    assert_fresh(one)


def test_container_nested_too_deep_is_refused():
    """An endless list is refused by its depth, with the field's name."""

    class Nested(gn.Node):
        held: Any = gn.subnode()

    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(gn.FieldError) as caught:
        Nested(endless)
    assert str(caught.value) == "Nested.held nests containers deeper than 32 levels, or a container in itself"


def test_the_order_that_a_dict_was_filled_in_is_structure():
    """A model may go through its layers in that order: whatever rebuilds the model keeps it."""
    left, right = kit(), kit()
    right.table = dict(reversed(right.table.items()))
    assert list(right.table) == ["b", "a"]
    assert gn.graphdef(left) is not gn.graphdef(right)
    assert gn.graphdef(left).layout is gn.graphdef(right).layout
    assert [str(one) for one in gn.diff(gn.graphdef(left), gn.graphdef(right))] == ["table: filled as a, b != as b, a"]
    copies: list[Callable[[Kit], Kit]] = [
        gn.clone,
        copy.copy,
        copy.deepcopy,
        lambda node: pickle.loads(pickle.dumps(node)),
        lambda node: gn.treefy_merge(*gn.treefy_split(node)),
        lambda node: gn.unflatten(*gn.flatten(node)),
        lambda node: gn.unstack(gn.stack([node, gn.clone(node)]))[0],
    ]
    for made in [make(right) for make in copies]:
        assert list(made.table) == ["b", "a"]
        assert gn.graphdef(made) is gn.graphdef(right)
    assert gn.GraphDef.from_json(gn.graphdef(right).to_json()) is gn.graphdef(right)


class Scaled(gn.Node):
    """Adds, and multiplies."""

    offset: float
    factor: gn.ParamState

    def __call__(self, x: jax.Array) -> jax.Array:
        return (x + self.offset) * self.factor.value


class Chain(gn.Node):
    """Goes through its layers in the order of the dict."""

    layers: dict[str, Scaled]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers.values():
            x = layer(x)
        return x


def test_transforms_go_through_a_dict_in_its_own_order():
    """The same numbers as without them, whatever was compiled for the other order."""

    def chain(*keys: str) -> Chain:
        layers = {"in": Scaled(1.0, gn.ParamState(jnp.float32(2))), "act": Scaled(0.0, gn.ParamState(jnp.float32(3)))}
        layers["out"] = Scaled(2.0, gn.ParamState(jnp.float32(5)))
        return Chain({key: layers[key] for key in keys})

    call = gn.jit(lambda model, x: model(x))
    for keys in (("in", "act", "out"), ("act", "in", "out"), ("out", "act", "in")):
        model, x = chain(*keys), jnp.float32(1)
        assert call(model, x) == model(x)
        assert gn.remat(lambda model, x: model(x))(model, x) == model(x)
        assert gn.scan(lambda model, x: (model, model(x)), model, x[None])[1][0] == model(x)
        assert gn.clone(model)(x) == model(x)
        slope = gn.grad(lambda x, model: model(x))(x, model)
        assert slope == 30


def test_a_popped_item_of_a_dict_comes_back_where_it_stood():
    """Whatever is put back first, and whatever has come meanwhile."""
    for order in itertools.permutations("abcd"):
        names = Named({key: gn.State(jnp.float32(at)) for at, key in enumerate(order)})
        before = gn.graphdef(names)
        parts = [gn.pop_states(names, gn.PathIn(f"named.{key}")) for key in "cab"]
        for part in parts:
            gn.update_states(names, part)
        assert list(names.named) == list(order)
        assert gn.graphdef(names) is before
        popped = gn.pop_states(names, gn.PathIn(f"named.{order[0]}", f"named.{order[2]}"))
        names.named["new"] = gn.State(jnp.float32(9))
        gn.update_states(names, popped)
        assert list(names.named) == [*order, "new"]


class Named(gn.Node):
    """States by name."""

    named: dict[str, gn.State]


# Counts: what a cache saves


def test_repeated_operations_walk_once(walks: list[object]):
    """After the first call, no operation walks the graph."""
    one = Holder((kit(),))
    gn.graphdef(one)
    assert walks == [one]
    for _ in range(3):
        gn.graphdef(one)
        graphdef, tree = gn.treefy_split(one)
        gn.treefy_split(one, gn.ParamState, ...)
        gn.states(one, gn.ParamState)
        gn.states(one, lambda path, state: True)
        gn.treefy_states(one, gn.ParamState)
        gn.flatten(one)
        gn.clone(one)
        gn.update_states(one, tree)
        gn.nodes(one)
        list(gn.iter_node(one))
        list(gn.iter_leaf(one))
        gn.aliases(one)
        gn.treefy_merge(graphdef, tree)
    assert walks == [one]


def test_value_write_invalidates_nothing(walks: list[object]):
    """Values are no structure: after any write the same binding serves."""
    one = kit()
    warm(one)
    binding = binding_of(one)
    walks.clear()
    one.weight.value = jnp.ones((5, 5))
    one.weight.value = {"a": jnp.ones(2)}  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    gn.update_states(one, gn.treefy_states(one))
    gn.update_states(one, {"child": {"weight": jnp.ones(3)}}, check=False)
    assert binding_of(one) is binding
    assert walks == []


def test_change_elsewhere_is_settled_without_a_walk(walks: list[object]):
    """A change of another graph moves the clock; the versions then settle it, once."""
    one, other = kit(), kit()
    warm(one, other)
    walks.clear()
    binding = binding_of(one)
    other.items.append(leaf())
    old = binding.clock
    assert binding_of(one) is binding
    assert walks == []
    assert binding.clock is not old
    assert binding.clock is CLOCK.now


def test_construction_moves_no_clock():
    """Making nodes, and changing those that are in no binding, disturbs no binding of others."""
    one = kit()
    warm(one)
    now = CLOCK.now
    fresh = kit()
    fresh.items.append(leaf())
    fresh.size = 3
    fresh.table.pop("a")
    gn.clone(one)
    assert CLOCK.now is now


def test_merged_node_comes_with_its_binding(walks: list[object]):
    """Merge, clone and unflatten know the structure of what they make: its first split does no walk."""
    one = Holder((kit(), kit()))
    graphdef, tree = gn.treefy_split(one)
    flat = gn.flatten(one)
    walks.clear()
    for made in (gn.treefy_merge(graphdef, tree), gn.clone(one), gn.unflatten(*flat)):
        assert gn.treefy_split(made)[0] is graphdef
        assert list(gn.states(made)) == list(gn.states(one))
    assert walks == []


def test_change_of_a_node_walks_each_root_once(walks: list[object]):
    """One change costs each root that holds it one walk, at its next use."""
    one = kit()
    left, right = Holder((one,)), Holder((one, one))
    warm(left, right)
    walks.clear()
    one.size = 8
    for _ in range(3):
        warm(left, right)
    assert walks == [left, right]


class Asked(Matcher):
    """Accepts parameters, and counts how often it was asked."""

    def __init__(self) -> None:
        self.count = 0

    def accepts(self, subject: Subject) -> bool:
        self.count += 1
        return issubclass(subject.cls, gn.ParamState)


def test_fixed_filters_are_resolved_once_for_a_layout():
    """A filter of class, tag or path is asked once for each State of a layout, whatever the node, value or call."""
    one, asked = kit(), Asked()
    count = len(gn.states(one))
    gn.treefy_split(one, asked, ...)
    assert asked.count == count
    twin = gn.clone(one)
    one.weight.value = jnp.ones(7)
    for _ in range(3):
        gn.treefy_split(one, asked, ...)
        gn.treefy_split(twin, asked, ...)
        gn.treefy_states(one).split(asked, ...)
    assert asked.count == count
    gn.states(one, asked)  # a new row of filters
    gn.treefy_states(twin, asked)
    assert asked.count == 2 * count


def test_layout_keeps_its_filters_over_a_change_of_states():
    """Replacing a State by one of the same description changes no layout, so no filter is asked again."""
    one, asked = kit(), Asked()
    gn.states(one, asked)
    count = asked.count
    one.weight = param()
    assert gn.states(one, asked)[("weight",)] is one.weight
    assert asked.count == count


def test_functions_are_asked_each_time_with_the_live_state():
    """A caller's function is asked at each call of every function, with the path and the live State itself."""
    one = kit()
    live = {path: state for path, state in gn.states(one).items()}
    asked: list[tuple[gn.Path, object]] = []

    def positive(path: gn.Path, state: Any) -> bool:
        asked.append((path, state))
        return bool(jnp.all(state.value > 0))

    calls: list[Callable[[], Any]] = [
        lambda: gn.states(one, positive),
        lambda: gn.states(one, gn.Not(positive), ...),
        lambda: gn.treefy_split(one, positive, ...),
        lambda: gn.treefy_states(one, gn.All(positive, gn.ParamState)),
        lambda: gn.states(one, (positive,)),
    ]
    for call in calls * 2:
        asked.clear()
        call()
        assert [path for path, _ in asked] == list(live)
        assert all(state is live[path] for path, state in asked)
    assert len(gn.states(one, positive)) == 0
    one.weight.value = jnp.ones(1)
    assert list(gn.states(one, positive)) == [("weight",)]
    asked.clear()
    popped = gn.pop_states(one, positive)
    assert [state for _, state in asked] == list(live.values())
    assert list(popped) == [("weight",)]


def test_cached_groups_are_bounded():
    """A caller who filters or updates with ever new things does not fill the memory of one binding."""
    one = kit()
    for at in range(300):
        gn.states(one, gn.PathIn(("items", at), missing_ok=True))
    assert len(binding_of(one).groups) <= 100


def test_cached_updates_are_bounded():
    """A caller who updates ever other parts of a node does not fill the memory of one binding."""
    one = kit()
    one.params = [param() for _ in range(9)]
    tree = gn.treefy_states(one)
    for at in range(300):
        gn.update_states(one, tree.filter(gn.PathIn(*[("params", i) for i in range(9) if at & 1 << i])))
    assert len(binding_of(one).groups) <= 100


# Lifetime


def test_acyclic_bound_model_dies_with_its_last_reference():
    """A bound model without cycles needs no garbage collector: its last reference frees nodes, States and binding."""
    gc.collect()
    gc.disable()
    try:
        for make in (kit, lambda: gn.clone(kit()), lambda: gn.unflatten(*gn.flatten(kit()))):
            one = make()
            warm(one, one.child, one.items[0])
            one.size = 7
            warm(one)
            gone: list[weakref.ref[Any]]
            gone = [weakref.ref(one), weakref.ref(one.child), weakref.ref(one.weight), weakref.ref(one.items)]
            one.items.pop()
            warm(one)
            del one
            assert [ref() for ref in gone] == [None] * 4
    finally:
        gc.enable()


def test_binding_does_not_outlive_its_graph():
    """A replaced State or node is freed at the next use of the graph, not kept by an old binding."""
    one = kit()
    warm(one)
    old: list[weakref.ref[Any]] = [weakref.ref(one.weight), weakref.ref(one.child)]
    one.weight, one.child = param(), leaf()
    warm(one)
    gc.collect()
    assert [ref() for ref in old] == [None, None]


# Threads: every interleaving with one switch, step by step

Step = Callable[[], object]


def _is_ours(filename: str) -> bool:
    return "/graphnode/" in filename or filename.startswith("<graphnode")


def run_with_switch(first: Step, at: int, second: Step, *, event: str = "line") -> bool:
    """Run `first`, and at its step number `at` another thread that runs `second`; False when it has fewer steps."""
    count = 0
    others: list[threading.Thread] = []
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            second()
        except BaseException as error:
            failures.append(error)

    def tracer(frame: Any, found: str, arg: object) -> Any:
        nonlocal count
        if others or not _is_ours(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes = event == "opcode"
        if found == event:
            if count == at:
                others.append(threading.Thread(target=guarded))
                others[0].start()
                others[0].join(0.01)  # it may wait for a lock that is held here
                sys.settrace(None)
            count += 1
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        first()
    finally:
        sys.settrace(before)
        for other in others:
            other.join()
    assert failures == []
    return bool(others)


class Small(gn.Node):
    size: int
    weight: gn.ParamState[Float[Array, "size"]]
    items: list[Leaf] = gn.subnode(default_factory=list)
    table: dict[str, Leaf] = gn.subnode(default_factory=dict)
    maybe: list[Leaf | None] = gn.subnode(default_factory=list)


class Root(gn.Node):
    small: Small


def root_with(one: Small, binding: str) -> Root:
    """A root above `one`: never bound, bound and untouched since, or bound and changed since."""
    root = Root(one)
    if binding != "unbound":
        warm(root)
        gn.clone(root).small.size = 1  # moves the clock: the next read has to look at versions
    if binding == "stale":
        one.table["z"] = leaf()
    return root


def small() -> Small:
    return Small(1, param(), items=[leaf(1), leaf(2)], table={"a": leaf(), "b": leaf()}, maybe=[leaf(1), None, leaf(2)])


Write = Callable[[Small, gn.ParamState, Leaf], object]


def assign(one: Small, fresh: gn.ParamState, late: Leaf) -> None:
    one.weight = fresh


def append(one: Small, fresh: gn.ParamState, late: Leaf) -> None:
    one.items.append(late)


def delete_below(one: Small, fresh: gn.ParamState, late: Leaf) -> None:
    del one.items[0].weight


def dict_pop(one: Small, fresh: gn.ParamState, late: Leaf) -> None:
    one.table.pop("b")


SWITCHED: dict[str, tuple[Write, ...]] = {
    "assign": (assign,),
    "assign below": (lambda one, fresh, late: setattr(one.items[0], "weight", fresh),),
    "assign a list": (lambda one, fresh, late: setattr(one, "items", [late]),),
    "delete": (lambda one, fresh, late: delattr(one, "weight"),),
    "append": (append,),
    "pop": (lambda one, fresh, late: one.items.pop(0),),
    "reverse": (lambda one, fresh, late: one.items.reverse(),),
    "sort": (lambda one, fresh, late: one.items.sort(key=lambda item: -item.size),),
    "slice": (lambda one, fresh, late: one.items.__setitem__(slice(0, 1), [late, late]),),
    "optional pop": (lambda one, fresh, late: one.maybe.pop(0),),
    "optional reverse": (lambda one, fresh, late: one.maybe.reverse(),),
    "dict item": (lambda one, fresh, late: one.table.__setitem__("c", late),),
    "dict pop": (dict_pop,),
    "pop_states": (lambda one, fresh, late: gn.pop_states(one, gn.PathIn("weight")),),
    "assign, then append": (assign, append),
    "append, then assign": (append, assign),
    "dict pop, then delete": (dict_pop, delete_below),
    "delete, then dict pop": (delete_below, dict_pop),
}
BINDINGS = ("unbound", "bound", "stale")
STRIDE = 3
"""Of the steps, only each so many in the quick tests; from which of the first on, goes by the number of the edit."""


def interleavings(shift: int) -> list[Any]:
    """The edits with the bindings, and where the other thread comes in: the event, and which of its steps.

    Quick are all edits, each with one binding: number i with binding i + `shift`. Another shift in another test gives
    it another binding there. All pairs at all steps are slow tests.
    """
    slow = pytest.mark.slow
    found: list[Any] = []
    for i, name in enumerate(SWITCHED):
        quick = BINDINGS[(i + shift) % len(BINDINGS)]
        found.append(pytest.param(name, quick, "line", slice(i % STRIDE, None, STRIDE), id=f"{name}-{quick}"))
        for binding, event in itertools.product(BINDINGS, ("line", "opcode")):
            every = slice(0, None, 1)
            found.append(pytest.param(name, binding, event, every, marks=slow, id=f"{name}-{binding}-every {event}"))
    return found


@pytest.mark.parametrize(("name", "binding", "event", "steps"), interleavings(0))
def test_read_at_any_point_of_a_write_leaves_nothing_stale(name: str, binding: str, event: str, steps: slice):
    """Whenever another thread reads while one writes, the reads after the write see it."""
    at, fired = steps.start, True
    kept: set[object] = {gn.graphdef(root_with(small(), binding))}  # compiled and interned: no steps to make it again
    while fired:
        one, fresh, late = small(), param(), leaf(9)
        root = root_with(one, binding)
        write = functools.partial(apply, SWITCHED[name], one, fresh, late)
        fired = run_with_switch(write, at, functools.partial(both, root, one), event=event)
        assert_fresh(root)
        assert_fresh(one)
        kept.add(gn.graphdef(root))
        at += steps.step
    assert at > STRIDE, "the writer was not traced"


def apply(writes: tuple[Write, ...], one: Small, fresh: gn.ParamState, late: Leaf) -> None:
    for write in writes:
        write(one, fresh, late)


def both(root: Root, one: Small) -> None:
    gn.graphdef(root)
    gn.graphdef(one)


@pytest.mark.parametrize(("name", "binding", "event", "steps"), interleavings(1))
def test_write_at_any_point_of_a_read_leaves_nothing_stale(name: str, binding: str, event: str, steps: slice):
    """Whenever a thread writes while another reads, the read gives a structure that was there, the next the new one."""
    at, fired = steps.start, True
    kept: set[object] = {gn.graphdef(root_with(small(), binding))}  # compiled and interned: no steps to make it again
    while fired:
        one, fresh, late = small(), param(), leaf(9)
        root = root_with(one, binding)
        there = [reference_of(root)]
        found: list[Any] = []

        def read() -> None:
            found.append(structure_of(root))

        def write() -> None:
            for step in SWITCHED[name]:
                step(one, fresh, late)
                there.append(reference_of(root))

        fired = run_with_switch(read, at, write, event=event)
        assert found[0] in there, "a mixture of two structures"
        assert_fresh(root)
        kept.add(gn.graphdef(root))
        at += steps.step
    assert at > 5, "the reader was not traced"


def run_with_interrupt(write: Callable[[], object], at: int) -> bool:
    """Run a write that a `KeyboardInterrupt` ends before its instruction number `at`; gives whether there is one."""
    count = 0

    def tracer(frame: Any, found: str, arg: object) -> Any:
        nonlocal count
        if not _is_ours(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes = True
        if found == "opcode":
            count += 1
            if count > at:
                raise KeyboardInterrupt
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        write()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


INTERRUPTED = [
    pytest.param(name, steps, id=f"{name}{text}", marks=marks)
    for i, name in enumerate(SWITCHED)
    for steps, text, marks in [
        (slice(i % STRIDE, None, STRIDE), "", pytest.mark.slow if name == "pop_states" else ()),
        (slice(0, None, 1), "-every opcode", pytest.mark.slow),
    ]
]


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("name", "steps"), INTERRUPTED)
def test_an_interrupt_at_any_point_of_a_write_leaves_nothing_stale(name: str, steps: slice):
    """Wherever Ctrl-C ends a write, the next read gives the structure that is there then."""
    at, fired = steps.start, True
    kept: set[object] = {gn.graphdef(root_with(small(), "bound"))}
    while fired:
        one, fresh, late = small(), param(), leaf(9)
        root = root_with(one, "bound")
        both(root, one)
        fired = run_with_interrupt(functools.partial(apply, SWITCHED[name], one, fresh, late), at)
        assert_fresh(root)
        assert_fresh(one)
        kept.add(gn.graphdef(root))
        at += steps.step
    assert at > 5, "the writer was not traced"


def structure_of(root: Any) -> list[tuple[gn.Path, int]]:
    """The paths and identities of the States, by the cached way."""
    graphdef, found = gn.flatten(root)
    assert graphdef.layout is found.layout
    return [(path, id(state)) for path, state in found.items()]


def reference_of(root: Any) -> list[tuple[gn.Path, int]]:
    return [(path, id(state)) for path, state in reference(root).states]


# beartype takes items of a container by their number, which fails while another thread takes them out, and a walk that
# is checked is so slow that an edit comes into each.
@pytest.mark.no_runtime_types
def test_threads_see_only_structures_that_were_there():
    """A thread that splits while another edits gets structures that existed, and the last one in the end."""
    one = kit()
    root = Holder((one,))
    extra = [leaf(at) for at in range(4)]
    done = threading.Event()
    barrier = threading.Barrier(3)
    failures: list[BaseException] = []
    seen: set[gn.GraphDef[Any]] = set()
    first = gn.graphdef(root)
    known = {first}
    # Every state of the cycle below, and nothing between: each edit is one step.
    edits: list[Callable[[], object]] = [
        lambda: one.items.append(extra[0]),
        lambda: setattr(one, "size", 2),
        lambda: one.table.__setitem__("c", extra[1]),
        lambda: one.items.reverse(),
        lambda: one.nested["b"].append(extra[2]),
        lambda: one.items.remove(extra[0]),
        lambda: setattr(one, "child", extra[3]),
        lambda: one.nested["b"].pop(),
        lambda: one.table.pop("c"),
        lambda: setattr(one, "size", 1),
        lambda: one.items.reverse(),
        functools.partial(setattr, one, "child", one.child),
    ]
    for one_edit in edits:
        one_edit()
        known.add(gn.graphdef(root))
    assert gn.graphdef(root) is first

    def guarded(work: Callable[[], None]) -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    def split() -> None:
        while not done.is_set():
            graphdef, tree = gn.treefy_split(root)
            assert tree.layout is graphdef.layout
            seen.add(graphdef)

    def mutate() -> None:
        for _ in range(150):
            for one_edit in edits:
                one_edit()
        one.size = 77

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=guarded, args=(work,)) for work in (mutate, split, split)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    final = gn.graphdef(root)
    assert_fresh(root)
    assert seen <= known | {final}


def test_threads_that_bind_one_graph_at_once_agree():
    """Threads that bind the same fresh graph together get the one graphdef, and later changes are seen by all."""
    for _ in range(20):
        root = Holder((kit(),))
        barrier = threading.Barrier(4)
        found: list[gn.GraphDef[Any]] = []

        def bind() -> None:
            barrier.wait()
            found.append(gn.graphdef(root))

        workers = [threading.Thread(target=bind) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(set(found)) == 1
        root.kits[0].items.pop()
        assert_fresh(root)
