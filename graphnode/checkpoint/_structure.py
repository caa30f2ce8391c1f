"""A graph as its JSON describes it, read without any class: what `GraphDef.to_json` writes, as numbers and names.

So that a file can be shown, and compared with a live graph or another file, where the
program has none of its classes. Objects are numbered as `_graph._flatten.walk` does it:

    {"classes": ["Net", "ParamState"], "specs": [...], "tokens": [{"new": 0}, {"new": 1}, {"again": 1}]}

    objects    0 Net, 1 ParamState        parents  -1, 0      rows  {0: [1, 1]}

A file is data from a stranger: nothing in it is imported, looked up or evaluated, and
what it takes to read it grows with its size, whatever it claims.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .._graph._layout import TrieBuilder
from .._paths import Key, Path, key_order, path_order
from .._trie import Trie, canonical

VERSION: Final = 1
OPAQUE: Final = "opaque"
"""The tag of a static value that has no JSON, with what it is: a live one is taken as it is."""

_MAX_LEVELS: Final = 64
_DESCRIPTION: Final = frozenset(["name", "tag", "sharding", "metadata", "stacked"])


class StructureFaultError(ValueError):
    """JSON describes no graph; the text says where, and why. Raised and caught within `checkpoint`."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """What one object is, without its place.

    Attributes:
        cls: The name of its class.
        is_state: Whether it is a State rather than a node.
        parts: Of a node its static values by field, of a State its description; JSON.
        held: How the other fields of a node nest; JSON.
        edges: The path of each State and node within a node.
    """

    cls: str
    is_state: bool
    parts: Mapping[str, Any]
    held: Mapping[str, Any]
    edges: tuple[Path, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """A graph: its objects by number, as a walk meets them.

    Attributes:
        data: The JSON that it was read from.
        specs: What each object is.
        spec_numbers: The number of that in the JSON.
        parents: The node that each object was first seen in; -1 for those of the root.
        edges: The path of each object within that node.
        rows: For each node the number of what is at each of its edges.
        top: The objects of the root, by path.
    """

    data: dict[str, Any]
    specs: list[Spec]
    spec_numbers: list[int]
    parents: list[int]
    edges: list[Path]
    rows: dict[int, list[int]]
    top: dict[Path, int]

    @functools.cached_property
    def states(self) -> list[int]:
        """The numbers of the States, in layout order."""
        return [at for at, spec in enumerate(self.specs) if spec.is_state]

    @functools.cached_property
    def paths(self) -> list[Path]:
        """The first path of each object."""
        paths: list[Path] = []
        for parent, edge in zip(self.parents, self.edges, strict=True):
            paths.append((*paths[parent], *edge) if parent >= 0 else edge)
        return paths

    @property
    def is_of_a_node(self) -> bool:
        """Whether the root is a node or State itself, and not a pytree of them."""
        return list(self.top) == [()]

    def children(self, number: int) -> dict[Path, int]:
        """What is at each edge of a node; of the root, with -1; of a State, nothing."""
        if number < 0:
            return self.top
        row = self.rows.get(number)
        return (
            {} if row is None else dict(zip(self.specs[number].edges, row, strict=True))
        )

    def find(self, path: Path) -> int | None:
        """The number of the object at a path, which may lead over later references; `None` without one."""
        at, start = -1, 0
        while True:
            children = self.children(at)
            for end in range(start, len(path) + 1):
                if path[start:end] in children:
                    at, start = children[path[start:end]], end
                    break
            else:
                return None
            if start == len(path):
                return at

    def repeats(self) -> Iterator[tuple[int, Path, int]]:
        """Each later reference: the node, -1 for the root, the path within it, and the object."""
        for number in (-1, *self.rows):
            for edge, child in self.children(number).items():
                if (self.parents[child], self.edges[child]) != (number, edge):
                    yield number, edge, child

    @functools.cached_property
    def trie(self) -> tuple[Trie, list[int]]:
        """The paths of the States, for filters, and the number of the State at each leaf."""
        trie = TrieBuilder()
        entries: list[int] = []
        for parent, edge in zip(self.parents, self.edges, strict=True):
            entries.append(trie.entry(edge, entries[parent] if parent >= 0 else 0))
        for parent, edge, child in self.repeats():
            start = entries[parent] if parent >= 0 else 0
            trie.references[trie.entry(edge[:-1], start), edge[-1]] = entries[child]
        object_at = {entries[number]: number for number in self.states}
        result, leaves = canonical(trie.parents, trie.keys, object_at, trie.sources())
        return result, [object_at[entry] for entry in leaves]

    def below(self, number: int) -> list[int]:
        """The objects that a walk from an object meets, itself first, in the order of that walk."""
        seen: dict[int, None] = {}
        todo = [number]
        while todo:
            at = todo.pop()
            if at not in seen:
                seen[at] = None
                todo += reversed(self.rows.get(at, ()))
        return list(seen)

    def part(self, number: int) -> dict[str, Any]:
        """The JSON of the graph whose root is one of the objects; its walk is that of `below`."""
        order = self.below(number)
        new = {at: rank for rank, at in enumerate(order)}
        used = dict.fromkeys(self.spec_numbers[at] for at in order)
        spec_rank = {spec: rank for rank, spec in enumerate(used)}
        specs: list[dict[str, Any]] = []
        classes: dict[int, int] = {}
        for spec in used:
            data = dict(self.data["specs"][spec])
            kind = "node" if "node" in data else "state"
            data[kind] = classes.setdefault(data[kind], len(classes))
            specs.append(data)
        tokens: list[dict[str, int]] = []
        seen: set[int] = set()
        todo = [number]
        while todo:
            at = todo.pop()
            if at in seen:
                tokens.append({"again": new[at]})
                continue
            seen.add(at)
            tokens.append({"new": spec_rank[self.spec_numbers[at]]})
            todo += reversed(self.rows.get(at, ()))
        names = [self.data["classes"][cls] for cls in classes]
        return {
            "graphnode": VERSION,
            "classes": names,
            "specs": specs,
            "tokens": tokens,
        }


def structure_of(data: Any) -> Structure:
    """The graph that JSON describes.

    Raises:
        StructureFaultError: It describes none.
    """
    parts = {"graphnode", "classes", "specs", "tokens"}
    if not isinstance(data, dict) or set(data) != parts or data["graphnode"] != VERSION:
        raise StructureFaultError(
            f'expected an object with "graphnode": {VERSION}, classes, specs and tokens'
        )
    for name in ("classes", "specs", "tokens"):
        if not isinstance(data[name], list):
            raise StructureFaultError(f"{name} is not a list")
    if not all(isinstance(name, str) for name in data["classes"]):
        raise StructureFaultError("classes are names")
    return _Reader(data).structure()


class _Reader:
    """Reads the tokens of a graph; raises at the first fault, after which nobody knows what belongs where."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self._tokens_left = 0
        self._specs: dict[int, Spec] = {}

    def structure(self) -> Structure:
        """The graph."""
        tokens = self._data["tokens"]
        structure = Structure(self._data, [], [], [], [], {}, {})
        top_edges: tuple[Path, ...] = ((),)
        start = 0
        if tokens and isinstance(tokens[0], dict) and list(tokens[0]) == ["root"]:
            top_edges, start = self._root_edges(tokens[0]["root"]), 1
        # A stack: the node and edge of each reference that is to follow.
        pending = [(-1, edge) for edge in reversed(top_edges)]
        for at in range(start, len(tokens)):
            self._tokens_left = len(tokens) - at
            if not pending:
                raise StructureFaultError(f"tokens[{at}]: nothing refers to it")
            parent, edge = pending.pop()
            number = self._read(at, tokens[at], structure, parent, edge)
            if parent < 0:
                structure.top[edge] = number
            else:
                structure.rows[parent].append(number)
            is_new = number == len(structure.specs) - 1 and "new" in tokens[at]
            if is_new and not structure.specs[number].is_state:
                structure.rows[number] = []
                edges = structure.specs[number].edges
                pending += [(number, edge) for edge in reversed(edges)]
        if pending:
            raise StructureFaultError(f"tokens: expected {len(pending)} more")
        return structure

    def _read(
        self, at: int, token: Any, structure: Structure, parent: int, edge: Path
    ) -> int:
        """For `structure`: the number of the object that a token stands for; a new one is added."""
        if isinstance(token, dict) and len(token) == 1:
            ((kind, number),) = token.items()
            if (
                type(number) is int
                and kind == "again"
                and 0 <= number < len(structure.specs)
            ):
                return number
            if (
                type(number) is int
                and kind == "new"
                and 0 <= number < len(self._data["specs"])
            ):
                structure.specs.append(self._spec(number))
                structure.spec_numbers.append(number)
                structure.parents.append(parent)
                structure.edges.append(edge)
                return len(structure.specs) - 1
        raise StructureFaultError(
            f'tokens[{at}]: a token is {{"new": spec}} or {{"again": object}}'
        )

    def _spec(self, number: int) -> Spec:
        """For `_read`: the spec of a number, read when a token first refers to it."""
        spec = self._specs.get(number)
        if spec is None:
            try:
                spec = self._specs[number] = self._read_spec(
                    self._data["specs"][number]
                )
            except StructureFaultError as error:
                raise StructureFaultError(f"specs[{number}]: {error}") from None
        return spec

    def _read_spec(self, data: Any) -> Spec:
        """For `_spec`: a spec as its JSON says."""
        parts = set(data) if isinstance(data, dict) else set[str]()
        if parts == {"node", "static", "held"}:
            static, held = data["static"], data["held"]
            if not isinstance(static, dict) or not isinstance(held, dict):
                raise StructureFaultError("static and held are objects")
            if list(held) != sorted(held):
                raise StructureFaultError("the names in held are not in order")
            edges: list[Path] = []
            for name in held:
                self._add_edges(held[name], (name,), edges)
            return Spec(self._class(data["node"]), False, static, held, tuple(edges))
        if "state" in parts and parts - {"state"} <= _DESCRIPTION:
            description = {key: data[key] for key in data if key != "state"}
            return Spec(self._class(data["state"]), True, description, {}, ())
        raise StructureFaultError(
            "a spec has node, static and held, or state and a description"
        )

    def _class(self, number: Any) -> str:
        """For `_read_spec`: the name of the class of a number."""
        names: list[str] = self._data["classes"]
        if type(number) is not int or not 0 <= number < len(names):
            raise StructureFaultError("expected the number of a class")
        return names[number]

    def _add_edges(self, shape: Any, path: Path, edges: list[Path]) -> None:
        """For `_read_spec`: add the paths of the objects in the shape of a field, by recursion."""
        if shape is None or shape == "unset":
            return
        if shape == "object":
            if len(edges) >= self._tokens_left:
                raise StructureFaultError("it refers to more objects than follow")
            edges.append(path)
            return
        kind, content = _container(shape, path)
        if kind == "list" and type(content) is int:
            if not 0 <= content <= self._tokens_left:
                raise StructureFaultError("it refers to more objects than follow")
            edges += [(*path, at) for at in range(content)]
            return
        for key, item in _items(kind, content, (str,)):
            self._add_edges(item, (*path, key), edges)

    def _root_edges(self, shape: Any) -> tuple[Path, ...]:
        """For `structure`: the paths of the objects in a root that is a pytree, in canonical order."""
        edges: list[Path] = []
        self._tokens_left = len(self._data["tokens"])
        self._add_root_edges(shape, (), edges)
        return tuple(sorted(edges, key=path_order))

    def _add_root_edges(self, shape: Any, path: Path, edges: list[Path]) -> None:
        """For `_root_edges`: add those of a part of the root, by recursion."""
        if shape == "object":
            edges.append(path)
        elif shape is not None:
            for key, item in _items(*_container(shape, path), (str, int)):
                self._add_root_edges(item, (*path, key), edges)


def _container(shape: Any, path: Path) -> tuple[str, Any]:
    """The kind of a container in a shape, and its content."""
    if len(path) > _MAX_LEVELS:
        raise StructureFaultError(f"nested more than {_MAX_LEVELS} levels deep")
    if isinstance(shape, dict) and len(shape) == 1:
        ((kind, content),) = shape.items()
        if kind in ("list", "tuple", "dict"):
            return kind, content
    raise StructureFaultError(
        'a shape is null, "object", "unset" or an object with one of the keys list, tuple, dict'
    )


def _items(
    kind: str, content: Any, key_types: tuple[type, ...]
) -> Sequence[tuple[Key, Any]]:
    """The items of a container by their keys, in canonical order."""
    if not isinstance(content, list):
        raise StructureFaultError(f"{kind} holds a list")
    if kind != "dict":
        return list(enumerate(content))
    if not all(
        isinstance(pair, list) and len(pair) == 2 and type(pair[0]) in key_types
        for pair in content
    ):
        raise StructureFaultError("dict holds a list of pairs, each a key and an item")
    by_order = {key_order(key): (key, item) for key, item in content}
    if len(by_order) < len(content):
        raise StructureFaultError("a key stands once in a dict")
    return [by_order[order] for order in sorted(by_order)]


def class_text(name: str) -> str:
    """The name of a class for a message, without its module."""
    return name.rpartition(".")[2]


def value_text(data: Any) -> str:
    """A static value for a message, as its JSON says it: numbers and texts as they are."""
    if isinstance(data, dict) and len(data) == 1:
        ((tag, content),) = data.items()
        if tag == "tuple" and isinstance(content, list):
            texts = ", ".join(map(value_text, content))
            return f"({texts},)" if len(content) == 1 else f"({texts})"
        if tag == "call" and isinstance(content, list) and len(content) == 2:
            return _call_text(*content)
        if isinstance(content, str):
            return content
    if data is None or isinstance(data, (bool, int, float, str)):
        return repr(data)
    text = json.dumps(data)
    return text if len(text) <= 60 else text[:57] + "..."


def _call_text(name: Any, arguments: Any) -> str:
    """For `value_text`: a call of a factory, as it is written: `adam(learning_rate=0.001)`."""
    parts = arguments.items() if isinstance(arguments, dict) else ()
    return f"{name}({', '.join(f'{key}={value_text(value)}' for key, value in parts)})"
