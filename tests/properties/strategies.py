"""Random graphs, random edits of them, and a reference walker that uses nothing of graphnode but the live objects."""

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from hypothesis import strategies as st

import graphnode as gn
from graphnode._graph._flatten import walk

# The classes


class Tick(gn.State[jax.Array]):
    """A State class of the user's own."""


class Leaf(gn.Node):
    """A node with plain fields only: its visit and rebuild are straight-line code."""

    size: int
    weight: gn.ParamState


class Item(gn.Node):
    """A node with one field of every form."""

    size: int = 0
    label: str | bool | float | None = None
    shape: tuple[int | bool, ...] = ()
    weight: gn.State | None = None
    trace: gn.ShortTermState | None = None
    next: "Item | Leaf | None" = None
    items: "list[Item | Leaf]" = gn.subnode(default_factory=list)
    pair: "tuple[Item | Leaf | None, Item | Leaf | None]" = gn.subnode(default=(None, None))
    table: dict[str, gn.State] = gn.state(default_factory=dict)
    deep: "dict[str, list[Item | Leaf | None]]" = gn.subnode(default_factory=dict)
    grid: "list[list[Item | Leaf]]" = gn.subnode(default_factory=list)
    stacks: tuple[list[gn.State], ...] = gn.state(default=())
    rows: list[tuple[gn.State, ...]] = gn.state(default_factory=list)


AnyNode: TypeAlias = Item | Leaf

# The forms of the fields of `Item`, in the tests' own words: ("list", form), ("dict", form), ("row", form) for a tuple
# of any length, ("pair", form), and what stands in them.
FORMS: dict[str, Any] = {
    "weight": "state?",
    "trace": "trace?",
    "next": "node?",
    "items": ("list", "node"),
    "pair": ("pair", "node?"),
    "table": ("dict", "state"),
    "deep": ("dict", ("list", "node?")),
    "grid": ("list", ("list", "node")),
    "stacks": ("row", ("list", "state")),
    "rows": ("list", ("row", "state")),
}
_KEYS = ("a", "b", "0", "a.b", "B")
_STATIC_VALUES: dict[str, tuple[object, ...]] = {
    "size": (0, 1, 2),
    "label": (None, "", "1", True, False, 1.0, 0.0),
    "shape": ((), (1,), (True,), (1, 2)),
}


@dataclasses.dataclass
class World:
    """The nodes and States that a graph is drawn from; what no root reaches is still alive, and may be attached."""

    nodes: list[AnyNode]
    states: list[gn.State[Any]]

    @property
    def root(self) -> AnyNode:
        return self.nodes[0]


def new_state(rng: random.Random) -> gn.State[Any]:
    cls = rng.choice((gn.State, gn.ParamState, gn.ShortTermState, gn.HiddenState, Tick))
    return cls(jnp.zeros(rng.randrange(1, 4)), tag=rng.choice((None, None, "t")))


def make_world(rng: random.Random) -> World:
    """A few nodes and States whose fields hold each other at random: shared, cyclic, nested, unset or empty."""
    states = [new_state(rng) for _ in range(rng.randrange(1, 5))] + [gn.ParamState(jnp.ones(2))]
    nodes: list[AnyNode] = [Item() for _ in range(rng.randrange(1, 5))]
    params = [one for one in states if isinstance(one, gn.ParamState)]
    nodes += [Leaf(rng.randrange(2), rng.choice(params)) for _ in range(rng.randrange(3))]
    world = World(nodes, states)
    for node in nodes:
        if isinstance(node, Item):
            for _ in range(rng.randrange(5)):
                assign(rng, world, node)
    return world


@st.composite
def worlds(draw: st.DrawFn) -> World:
    return make_world(draw(st.randoms(use_true_random=False)))


# The edits


def value_of(rng: random.Random, world: World, form: Any) -> Any:
    """A random value of a form."""
    if isinstance(form, tuple):
        kind, inner = form
        if kind == "dict":
            keys = rng.sample(_KEYS, rng.randrange(3))
            return {key: value_of(rng, world, inner) for key in keys}
        count = 2 if kind == "pair" else rng.randrange(3)
        items = [value_of(rng, world, inner) for _ in range(count)]
        return items if kind == "list" else tuple(items)
    if form.endswith("?") and rng.randrange(3) == 0:
        return None
    kind = form.removesuffix("?")
    if kind == "node":
        return rng.choice(world.nodes)
    pool = world.states
    if kind == "trace":
        pool = [one for one in pool if isinstance(one, gn.ShortTermState)]
    if not pool or rng.randrange(4) == 0:
        pool = [gn.HiddenState(jnp.zeros(1)) if kind == "trace" else new_state(rng)]
        world.states += pool
    return rng.choice(pool)


def assign(rng: random.Random, world: World, node: AnyNode) -> str:
    if isinstance(node, Leaf):
        node.weight = gn.ParamState(jnp.zeros(1))
        return "leaf.weight = ..."
    if rng.randrange(3) == 0:
        name = rng.choice(sorted(_STATIC_VALUES))
        setattr(node, name, rng.choice(_STATIC_VALUES[name]))
    else:
        name = rng.choice(sorted(FORMS))
        setattr(node, name, value_of(rng, world, FORMS[name]))
    return f"item.{name} = ..."


def _delete(rng: random.Random, world: World, node: AnyNode) -> str:
    name = rng.choice(sorted(FORMS)) if isinstance(node, Item) else "weight"
    if name in vars(node):
        delattr(node, name)
    return f"del {name}"


def _initialise(rng: random.Random, world: World, node: AnyNode) -> str:
    if isinstance(node, Item):
        node.__init__(size=rng.randrange(3), next=rng.choice(world.nodes))  # type: ignore[misc]
    else:
        node.__init__(rng.randrange(3), gn.ParamState(jnp.zeros(1)))  # type: ignore[misc]
    return "__init__ again"


def _set_state(rng: random.Random, world: World, node: AnyNode) -> str:
    donor = rng.choice([one for one in world.nodes if type(one) is type(node)])
    node.__setstate__(donor.__getstate__())
    return "__setstate__"


def _pop(rng: random.Random, world: World, node: AnyNode) -> str:
    paths = list(gn.states(node))
    if not paths:
        return "nothing to pop"
    chosen = rng.choice(paths)
    try:
        popped = gn.pop_states(node, gn.PathIn(chosen))
    except gn.PopError:
        return f"could not pop {chosen}"
    if rng.randrange(2):
        gn.update_states(node, popped)
        return f"popped {chosen} and put it back"
    return f"popped {chosen}"


def _write(rng: random.Random, world: World, node: AnyNode) -> str:
    rng.choice(world.states).value = jnp.ones(2)
    return "a value"


def _reattach(rng: random.Random, world: World, node: AnyNode) -> str:
    """Take a container off its field, put another there, and put the first one back, changed meanwhile."""
    name = rng.choice(("items", "grid", "rows"))
    if not isinstance(node, Item) or name not in vars(node):
        return "nothing to reattach"
    held = getattr(node, name)
    setattr(node, name, [])
    gn.graphdef(node)
    held.extend(value_of(rng, world, FORMS[name]))
    if rng.randrange(2):
        setattr(node, name, held)
        held.clear()
    return f"detached {name}"


def containers(value: Any, form: Any) -> Iterator[tuple[Any, Any]]:
    """The lists and dicts in a field, each with the form of its items."""
    if isinstance(form, tuple):
        items = value.values() if isinstance(value, dict) else value
        for item in list(items):
            yield from containers(item, form[1])
        if isinstance(value, (list, dict)):
            yield value, form[1]


def _edit_container(rng: random.Random, world: World, node: AnyNode) -> str:
    found = [
        pair
        for name, form in FORMS.items()
        if isinstance(node, Item) and name in vars(node)
        for pair in containers(getattr(node, name), form)
    ]
    if not found:
        return "no container"
    container, form = rng.choice(found)
    if isinstance(container, list):
        return _edit_list(rng, container, lambda: value_of(rng, world, form))
    return _edit_dict(rng, container, lambda: value_of(rng, world, form))


def _edit_list(rng: random.Random, held: list[Any], item: Callable[[], Any]) -> str:
    at = rng.randrange(len(held) + 1)
    edits: dict[str, Callable[[], object]] = {
        "append": lambda: held.append(item()),
        "extend": lambda: held.extend([item(), item()]),
        "insert": lambda: held.insert(at, item()),
        "+=": lambda: held.__iadd__([item()]),
        "[i:] =": lambda: held.__setitem__(slice(at, None), [item()]),
    }
    if held:
        at = rng.randrange(len(held))
        edits |= {
            "pop": lambda: held.pop(at),
            "remove": lambda: held.remove(held[at]),
            "clear": lambda: held.clear(),
            "sort": lambda: held.sort(key=id),
            "reverse": lambda: held.reverse(),
            "[i] =": lambda: held.__setitem__(at, item()),
            "del [i]": lambda: held.__delitem__(at),
            "del [i:]": lambda: held.__delitem__(slice(at, None)),
            "*=": lambda: held.__imul__(0 if len(held) > 3 else 2),
        }
    name = rng.choice(sorted(edits))
    edits[name]()
    return f"list {name}"


def _edit_dict(rng: random.Random, held: dict[str, Any], item: Callable[[], Any]) -> str:
    key = rng.choice(_KEYS)
    edits: dict[str, Callable[[], object]] = {
        "[k] =": lambda: held.__setitem__(key, item()),
        "update": lambda: held.update({key: item()}),
        "setdefault": lambda: held.setdefault(key, item()),
        "|=": lambda: held.__ior__({key: item()}),
        "pop default": lambda: held.pop(key, None),
    }
    if held:
        present = rng.choice(sorted(held))
        edits |= {
            "del [k]": lambda: held.__delitem__(present),
            "pop": lambda: held.pop(present),
            "popitem": lambda: held.popitem(),
            "clear": lambda: held.clear(),
        }
    name = rng.choice(sorted(edits))
    edits[name]()
    return f"dict {name}"


EDITS: dict[str, Callable[[random.Random, World, AnyNode], str]] = {
    "assign": assign,
    "container": _edit_container,
    "delete": _delete,
    "initialise": _initialise,
    "pop": _pop,
    "reattach": _reattach,
    "set_state": _set_state,
    "write": _write,
}


def edit(rng: random.Random, world: World) -> str:
    """Apply one random edit; tells which."""
    # Containers twice: they have the most ways to change.
    name = rng.choice((*sorted(EDITS), "container"))
    return EDITS[name](rng, world, rng.choice(world.nodes))


# The reference


@dataclasses.dataclass
class Reference:
    """What a graph is, by an own walk over `vars()`.

    Attributes:
        nodes: Path and node, each once, pre-order.
        states: Path and State, the same.
        leaves: Path and State or static leaf, pre-order.
        post: The paths of the nodes, post-order.
        aliases: Each first path with the further ones.
        records: One hashable record for each object, by number: the whole structure.
    """

    nodes: list[tuple[gn.Path, gn.Node]] = dataclasses.field(default_factory=list)
    states: list[tuple[gn.Path, gn.State[Any]]] = dataclasses.field(default_factory=list)
    leaves: list[tuple[gn.Path, Any]] = dataclasses.field(default_factory=list)
    post: list[gn.Path] = dataclasses.field(default_factory=list)
    aliases: dict[gn.Path, tuple[gn.Path, ...]] = dataclasses.field(default_factory=dict)
    records: list[Any] = dataclasses.field(default_factory=list)

    @property
    def structure(self) -> tuple[Any, ...]:
        return tuple(self.records)


def reference(root: Any) -> Reference:
    """Walk a node with plain recursion, in canonical pre-order."""
    found = Reference()
    seen: dict[int, tuple[int, gn.Path]] = {}

    def visit(value: Any, path: gn.Path) -> Any:
        """Record what is new; the number of the object, or the shape of the container."""
        if value is None:
            return None
        if isinstance(value, dict):
            return ("dict", *((key, visit(value[key], (*path, key))) for key in sorted(value)))
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return (kind, *(visit(item, (*path, at)) for at, item in enumerate(value)))
        if id(value) in seen:
            number, first = seen[id(value)]
            found.aliases[first] = (*found.aliases.get(first, ()), path)
            return number
        number = len(found.records)
        seen[id(value)] = number, path
        found.records.append(None)
        if isinstance(value, gn.State):
            found.states.append((path, value))
            found.leaves.append((path, value))
            described = (value.name, value.tag, value.sharding, tuple(value.metadata.items()))
            found.records[number] = (type(value), *described)
            return number
        found.nodes.append((path, value))
        fields: list[Any] = []
        for name, held in sorted(vars(value).items()):
            if not _holds(held):
                fields.append((name, _typed(held)))
                found.leaves += _static_leaves((*path, name), held)
            else:
                fields.append((name, visit(held, (*path, name))))
        found.records[number] = (type(value), *fields)
        found.post.append(path)
        return number

    visit(root, ())
    return found


def _holds(value: Any) -> bool:
    """Whether a field's value is made of States and nodes; static values are all others."""
    return isinstance(value, gn.Node | gn.State | list | dict) or (isinstance(value, tuple) and any(map(_holds, value)))


def _typed(value: Any) -> Any:
    """A static value that equals another only when type and content are the same, at every depth."""
    inner = tuple(map(_typed, value)) if isinstance(value, tuple) else value
    return type(value), inner


def _static_leaves(path: gn.Path, value: Any) -> Iterator[tuple[gn.Path, Any]]:
    if isinstance(value, tuple):
        for at, item in enumerate(value):
            yield from _static_leaves((*path, at), item)
    elif value is not None:
        yield path, value


def snapshot(root: gn.Node) -> list[Any]:
    """All that a failed operation must leave as it was: objects, containers, static values, State values."""
    known = reference(root)

    def held(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return (id(value), *map(held, value))
        if isinstance(value, dict):
            return (id(value), *((key, held(item)) for key, item in value.items()))
        return id(value) if isinstance(value, gn.Node | gn.State) else (type(value), value)

    nodes = [(id(node), [(name, held(value)) for name, value in vars(node).items()]) for _, node in known.nodes]
    return [nodes, [(id(one), [id(leaf) for leaf in jax.tree.leaves(one._value)]) for _, one in known.states]]


def assert_fresh(root: Any) -> None:
    """What the caches say of `root` is what the reference and a fresh walk say."""
    known = reference(root)
    found = gn.states(root)
    assert list(found) == [path for path, _ in known.states]
    assert all(map(lambda a, b: a is b[1], found.values(), known.states)), "another State at a path"
    graphdef, tree = gn.treefy_split(root)
    fresh = walk(root)
    assert graphdef is fresh.graphdef
    assert tree.layout is found.layout is fresh.graphdef.layout
    assert fresh.states == tuple(found.values())
    assert all(map(lambda a, b: a.value is b[1]._value, tree.flat().values(), known.states)), "another value"
    params = gn.states(root, gn.ParamState)
    assert list(params.items()) == [(p, one) for p, one in known.states if isinstance(one, gn.ParamState)]
