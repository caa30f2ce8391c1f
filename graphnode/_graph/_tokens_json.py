"""The tokens of a graphdef as JSON, for files that must outlive a Python version, and back.

The text has three tables: `classes` by their qualified names, `specs` (what one node or
State is), and `tokens` in canonical pre-order: `{"new": 3}` is an object of spec 3 that
is seen first, `{"again": 0}` is object 0 once more. A class is looked up among those
that the program has defined, never imported; static values are written as `_static`
says. Nothing here recurses over the graph.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import jax

from .._arguments import wrong_argument
from .._declare._node import plan_of
from .._errors import ConfigError, FieldError
from .._fields import NodeBase
from .._hints import with_article
from .._paths import Path
from .._redefinition import a_class, class_name
from .._sharding import NamedAxis
from .._state import State, StateSpec, spec_of
from .._static import GraphObject, JsonValueError, from_json, to_json
from ._table import RootSpec, Token, ranked_root
from ._template import (
    REF,
    UNSET,
    NodeSpec,
    Shape,
    dict_shape,
    filled_keys,
    items_of,
    misfit,
    template_of,
)

VERSION: Final = 1
_MAX_FAULTS: Final = 1_000
_MAX_LEVELS: Final = 64
_LEAF: Final = object()


def tokens_to_json(tokens: Sequence[Token]) -> str:
    """The JSON of a graphdef's tokens.

    Raises:
        ConfigError: A class or a static value has no JSON; names all.
    """
    writer = _Writer()
    data = [writer.token(token) for token in tokens]
    if writer.faults:
        raise ConfigError(list(dict.fromkeys(writer.faults)))
    parts = {
        "classes": list(writer.classes),
        "specs": list(writer.specs.values()),
        "tokens": data,
    }
    return json.dumps(
        {"graphnode": VERSION, **parts}, allow_nan=False, separators=(",", ":")
    )


def tokens_from_json(text: str) -> tuple[Token, ...]:
    """The tokens that JSON stands for.

    Raises:
        ConfigError: It stands for none; names all faults.
    """
    return _Reader(_loaded(text)).tokens()


def _loaded(text: str) -> dict[str, Any]:
    if not isinstance(text, str):
        raise TypeError(wrong_argument("a text", text, "GraphDef.from_json"))
    try:
        data = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except RecursionError:
        raise ConfigError(["no graphdef: nested too deeply"]) from None
    except ValueError as error:
        raise ConfigError([f"no graphdef: {str(error)[:200]}"]) from None
    if (
        not isinstance(data, dict)
        or data.get("graphnode") != VERSION
        or type(data["graphnode"]) is not int
    ):
        raise ConfigError(
            [f'no graphdef: an object with "graphnode": {VERSION} is expected']
        )
    faults = [
        f"{key[:40]!r} is not part of a graphdef"
        for key in data
        if key not in ("graphnode", *_PARTS)
    ]
    faults += [
        f"{part} is missing, or no list"
        for part in _PARTS
        if not isinstance(data.get(part), list)
    ]
    if faults:
        raise ConfigError(faults[:_MAX_FAULTS])
    return data


_PARTS: Final = ("classes", "specs", "tokens")


def _refuse(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return made


def _classes() -> dict[str, type]:
    """The classes of nodes and States that there are, the newest of each name."""
    found: dict[str, type] = {}
    short: dict[str, set[str]] = {}
    todo: list[type] = [NodeBase, State]
    seen: set[type] = set()
    while todo:
        cls = todo.pop(0)
        if cls not in seen:
            seen.add(cls)
            found[_name(cls)] = cls
            short.setdefault(_public_name(cls), set()).add(_name(cls))
            todo += cls.__subclasses__()
    return {
        name: found[full] for name, (full, *others) in short.items() if not others
    } | found


def _name(cls: type) -> str:
    return f"{_module(cls)}.{cls.__qualname__}"


def _module(cls: type) -> str:
    """The module of a class: the script's has another name in the processes that `multiprocessing` spawns for it."""
    return "__main__" if cls.__module__ == "__mp_main__" else cls.__module__


def _public_name(cls: type) -> str:
    """`graphnode.nn.Linear`, without the private module that may be another one tomorrow."""
    parts = [
        part
        for part in _module(cls).split(".")
        if not part.startswith("_") or part.startswith("__")
    ]
    return ".".join([*parts, cls.__qualname__])


class _Writer:
    """Tokens as JSON, with the tables that they refer to."""

    def __init__(self) -> None:
        self.classes: dict[str, int] = {}
        self.specs: dict[int, dict[str, Any]] = {}
        self.faults: list[str] = []
        self._numbers: dict[int, int] = {}
        self._known = _classes()

    def token(self, token: Token) -> Any:
        if isinstance(token, int):
            return {"again": token}
        if isinstance(token, RootSpec):
            return {"root": self._root(token)}
        if id(token) not in self._numbers:
            self._numbers[id(token)] = len(self.specs)
            self.specs[id(token)] = (
                self._node(token) if isinstance(token, NodeSpec) else self._state(token)
            )
        return {"new": self._numbers[id(token)]}

    def _class(self, cls: type) -> int:
        name = next(
            (
                name
                for name in (_public_name(cls), _name(cls))
                if self._known.get(name) is cls
            ),
            None,
        )
        if name is None:
            name = _name(cls)
            self.faults.append(f"{name} is another class by now: it was defined again")
        return self.classes.setdefault(name, len(self.classes))

    def _node(self, spec: NodeSpec) -> dict[str, Any]:
        template, name = spec.template, spec.cls.__name__
        named = zip(template.statics, spec.statics, strict=True)
        return {
            "node": self._class(spec.cls),
            "static": {
                field: self._value(f"{name}.{field}", value) for field, value in named
            },
            "held": {
                field.name: _shape_to_json(shape)
                for field, shape in zip(
                    template.dynamic_fields, spec.shapes, strict=True
                )
            },
        }

    def _state(self, spec: StateSpec) -> dict[str, Any]:
        made: dict[str, Any] = {"state": self._class(spec.cls)}
        where = spec.cls.__name__
        made |= {
            part: text
            for part, text in (("name", spec.name), ("tag", spec.tag))
            if text is not None
        }
        if spec.sharding is not None:
            made["sharding"] = self._value(f"{where}.sharding", spec.sharding)
        if spec.metadata:
            made["metadata"] = {
                key: self._value(f"{where}.{key}", value)
                for key, value in spec.metadata.items()
            }
        if spec.stacked:
            made["stacked"] = [list(axis) for axis in spec.stacked]
        return made

    def _value(self, where: str, value: Any) -> Any:
        try:
            return to_json(value)
        except JsonValueError as error:
            self.faults.append(f"{where}: {error}")
            return None

    def _root(self, spec: RootSpec) -> Any:
        def written(value: Any) -> Any:
            if value is _LEAF:
                return "object"
            if value is None:
                return None
            if type(value) in (list, tuple):
                return {type(value).__name__: [written(item) for item in value]}
            if type(value) is dict and all(type(key) in (str, int) for key in value):
                return {"dict": [[key, written(item)] for key, item in value.items()]}
            self.faults.append(
                f"the root holds {with_article(type(value).__name__)}: only lists, tuples and dicts have JSON"
            )
            return None

        return written(
            jax.tree.unflatten(spec.treedef, [_LEAF] * spec.treedef.num_leaves)
        )


def _shape_to_json(shape: Shape) -> Any:
    if shape is REF:
        return "object"
    if shape is UNSET:
        return "unset"
    if shape is None:
        return None
    if shape[0] is list and isinstance(shape[1], int):
        return {"list": shape[1]}
    if shape[0] is dict:
        inner = dict(items_of(shape))
        return {
            "dict": [[key, _shape_to_json(inner[key])] for key in filled_keys(shape)]
        }
    return {shape[0].__name__: [_shape_to_json(inner) for _, inner in items_of(shape)]}


class _Reader:
    """JSON as tokens. A part that is wrong is told, and the rest is read on."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.faults: list[str] = []
        self._data = data
        self._classes = self._looked_up(data["classes"])
        self._specs: dict[int, tuple[Any, list[tuple[type, ...]]] | None] = {}
        self._room = len(data["tokens"])

    def tokens(self) -> tuple[Token, ...]:
        """All tokens.

        Raises:
            ConfigError: Something is wrong.
        """
        found: list[Token] = []
        seen: list[Any] = []
        pending: list[tuple[type, ...]] = [(NodeBase,)]
        for at, raw in enumerate(self._data["tokens"]):
            self._room = len(self._data["tokens"]) - at
            if at == 0 and isinstance(raw, dict) and list(raw) == ["root"]:
                root = self._root(raw["root"])
                if root is None:
                    break
                found.append(root)
                pending = [(GraphObject,)] * len(root.edges)
                continue
            if not pending:
                self._fault(f"tokens[{at}]", "nothing refers to it")
                break
            if not self._token(f"tokens[{at}]", raw, found, seen, pending):
                break  # what comes after it belongs nobody knows where
        else:
            if pending:
                self._fault("tokens", f"{len(pending)} more are expected")
        unused = [at for at in range(len(self._data["specs"])) if at not in self._specs]
        if not self.faults:
            for at in unused:
                self._fault(f"specs[{at}]", "no token is of it")
        self._room = 0  # of the others only the values are looked at
        for at in unused:
            self._spec(at, None)
        if self.faults:
            raise ConfigError(self.faults)
        return tuple(found)

    def _token(
        self,
        where: str,
        raw: Any,
        found: list[Token],
        seen: list[Any],
        pending: list[tuple[type, ...]],
    ) -> bool:
        kind, number = (
            next(iter(raw.items()))
            if isinstance(raw, dict) and len(raw) == 1
            else (None, None)
        )
        if kind not in ("new", "again") or type(number) is not int:
            self._fault(where, 'a token is {"new": spec} or {"again": object}')
            return False
        admitted = pending.pop()
        if kind == "again":
            if not 0 <= number < len(seen):
                self._fault(where, f"no object {number} was seen before")
                return False
            found.append(number)
            cls = seen[number].cls
            inner = []
        else:
            spec = self._spec(number, where)
            if spec is None:
                return False
            found.append(spec[0])
            seen.append(spec[0])
            cls, inner = spec[0].cls, spec[1]
        if not issubclass(cls, admitted):
            expected = " or ".join(
                [
                    a_class(admitted[0], cls),
                    *[class_name(one, cls) for one in admitted[1:]],
                ]
            )
            self._fault(where, f"{class_name(cls, *admitted)} is not {expected}")
        pending += reversed(inner)
        return True

    def _fault(self, where: str, text: str) -> None:
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(f"{where}: {text}")

    def _looked_up(self, names: list[Any]) -> list[Any]:
        known = _classes()
        for at, name in enumerate(names):
            if not isinstance(name, str) or name not in known:
                shown = (
                    repr(name[:80]) if isinstance(name, str) else type(name).__name__
                )
                self._fault(
                    f"classes[{at}]",
                    f"no class of nodes or States is {shown}; import it first",
                )
        return [known.get(name) if isinstance(name, str) else None for name in names]

    def _class(self, where: str, number: Any, base: type) -> Any:
        if type(number) is not int or not 0 <= number < len(self._classes):
            self._fault(where, "the number of a class is expected")
            return None
        cls = self._classes[number]
        if cls is not None and not issubclass(cls, base):
            self._fault(
                where,
                f"{cls.__name__} is not a class of {'States' if base is State else 'nodes'}",
            )
            return None
        return cls

    def _spec(
        self, number: int, where: str | None
    ) -> "tuple[Any, list[tuple[type, ...]]] | None":
        """A spec, and the classes that each of its references admits."""
        specs = self._data["specs"]
        if not 0 <= number < len(specs):
            self._fault(where or "specs", f"there is no spec {number}")
            return None
        if number not in self._specs:
            at, raw, count = f"specs[{number}]", specs[number], len(self.faults)
            made: Any = None
            if isinstance(raw, dict) and set(raw) == {"node", "static", "held"}:
                made = self._node(at, raw)
            elif (
                isinstance(raw, dict)
                and "state" in raw
                and set(raw) <= {"state", *_STATE_PARTS}
            ):
                made = self._state(at, raw)
            else:
                self._fault(
                    at,
                    "a spec has node, static and held, or state, name, tag, sharding, metadata and stacked",
                )
            self._specs[number] = made if len(self.faults) == count else None
        return self._specs[number]

    def _state(self, where: str, raw: dict[str, Any]) -> Any:
        cls = self._class(where, raw["state"], State)
        parts = {part: raw.get(part) for part in ("name", "tag")}
        parts["sharding"] = self._value(f"{where}.sharding", raw.get("sharding"))
        metadata = raw.get("metadata", {})
        if not isinstance(metadata, dict):
            self._fault(f"{where}.metadata", "an object is expected")
            return None
        values = {
            key: self._value(f"{where}.metadata.{key[:40]}", value)
            for key, value in metadata.items()
        }
        stacked = _stacked_from_json(raw.get("stacked", []))
        if stacked is None:
            self._fault(
                f"{where}.stacked",
                "a list of positions with their names is expected, in order",
            )
        if cls is None or stacked is None:
            return None
        try:
            return spec_of(cls, **parts, metadata=values, stacked=stacked), []
        except FieldError as error:
            self._fault(where, str(error))
            return None

    def _node(self, where: str, raw: dict[str, Any]) -> Any:
        cls = self._class(where, raw["node"], NodeBase)
        if cls is None:
            return None
        template = template_of(cls)
        statics = self._fields(
            f"{where}.static", cls, raw["static"], template.statics, self._value
        )
        dynamic_fields = {field.name: field for field in template.dynamic_fields}
        if not self._room:
            return None
        shapes = self._fields(
            f"{where}.held", cls, raw["held"], tuple(dynamic_fields), self._shape
        )
        if statics is None or shapes is None:
            return None
        admit = plan_of(cls).admit
        for name, value in statics.items():
            try:
                statics[name] = admit[name](None, value)
            except FieldError as error:
                self._fault(f"{where}.static.{name}", str(error))
        admitted: list[tuple[type, ...]] = []
        for name, shape in shapes.items():
            fault = misfit(dynamic_fields[name].form, shape, admitted, self._room)
            if fault:
                self._fault(f"{where}.held.{name}", fault)
        if len(admitted) >= self._room and admitted:
            self._fault(
                where, f"it refers to {len(admitted):,} objects, which do not follow"
            )
            return None
        if any(fault.startswith(f"{where}.") for fault in self.faults):
            return None
        return template.spec(tuple(statics.values()), tuple(shapes.values())), admitted

    def _fields(
        self,
        where: str,
        cls: type,
        raw: Any,
        names: tuple[str, ...],
        read: Callable[[str, Any], Any],
    ) -> dict[str, Any] | None:
        if not isinstance(raw, dict):
            self._fault(where, "an object is expected")
            return None
        for name in raw:
            if name not in names:
                self._fault(where, f"{cls.__name__} has no such field {name[:40]!r}")
        for name in names:
            if name not in raw:
                self._fault(where, f"{name!r} of {cls.__name__} is missing")
        return {name: read(f"{where}.{name}", raw.get(name)) for name in names}

    def _value(self, where: str, data: Any) -> Any:
        try:
            return from_json(data)
        except JsonValueError as error:
            self._fault(where, str(error))
            return None

    def _shape(self, where: str, data: Any) -> Shape:
        try:
            return _shape_from_json(data, self._room, 0)
        except JsonValueError as error:
            self._fault(where, str(error))
            return UNSET

    def _root(self, raw: Any) -> RootSpec | None:
        try:
            tree = _tree_from_json(raw, 0)
        except JsonValueError as error:
            self._fault("tokens[0].root", str(error))
            return None
        pairs, treedef = jax.tree_util.tree_flatten_with_path(tree)
        # Keys of a list, tuple or dict: nothing else was made.
        edges: list[Path] = [
            tuple([getattr(key, "key", getattr(key, "idx", "")) for key in path])
            for path, _ in pairs
        ]
        return ranked_root(treedef, edges)


_STATE_PARTS: Final = ("name", "tag", "sharding", "metadata", "stacked")


def _stacked_from_json(data: Any) -> tuple[NamedAxis, ...] | None:
    """The named axes of a State; `None` for what is not a list of them in order."""
    pairs = (
        data
        if isinstance(data, list)
        and all(isinstance(pair, list) and len(pair) == 2 for pair in data)
        else [()]
    )
    axes = tuple(
        [
            NamedAxis(*pair)
            for pair in pairs
            if [type(part) for part in pair] == [int, str]
        ]
    )
    positions = [axis.position for axis in axes]
    is_canonical = (
        len(axes) == len(pairs)
        and positions == sorted(set(positions))
        and min(positions, default=0) >= 0
    )
    return axes if is_canonical else None


def _shape_from_json(data: Any, room: int, level: int) -> Shape:
    if data is None:
        return None
    if data in ("object", "unset"):
        return REF if data == "object" else UNSET
    kind, held = _container(data, level)
    if kind == "list" and type(held) is int:
        if not 0 <= held <= room:
            raise JsonValueError(f"a list of {held} objects, which do not follow")
        return (list, held)
    if kind == "dict":
        pairs = _pairs(held, (str,))
        by_key = {key: _inner(item, room, level) for key, item in pairs}
        if len(by_key) < len(pairs):
            raise JsonValueError("a key of a dict stands once")
        return dict_shape(tuple(by_key), by_key)
    if not isinstance(held, list):
        raise JsonValueError(f"{kind} holds a list")
    shapes = tuple(_inner(item, room, level) for item in held)
    if kind == "list" and all(shape is REF for shape in shapes):
        raise JsonValueError("a list of objects alone gives their number")
    return (list if kind == "list" else tuple, shapes)


def _inner(data: Any, room: int, level: int) -> Shape:
    shape = _shape_from_json(data, room, level + 1)
    if shape is UNSET:
        raise JsonValueError("only a field is unset")
    return shape


def _container(data: Any, level: int) -> tuple[str, Any]:
    if level > _MAX_LEVELS:
        raise JsonValueError(f"nested more than {_MAX_LEVELS} levels deep")
    if (
        not isinstance(data, dict)
        or len(data) != 1
        or next(iter(data)) not in ("list", "tuple", "dict")
    ):
        raise JsonValueError(
            'null, "object" or an object with one of the keys list, tuple and dict is expected'
        )
    return next(iter(data.items()))


def _pairs(held: Any, kinds: tuple[type, ...]) -> list[tuple[Any, Any]]:
    is_pairs = isinstance(held, list) and all(
        isinstance(pair, list) and len(pair) == 2 and type(pair[0]) in kinds
        for pair in held
    )
    if not is_pairs:
        raise JsonValueError("dict holds a list of pairs, each a key and what is there")
    return [(key, item) for key, item in held]


def _tree_from_json(data: Any, level: int) -> Any:
    if data is None or data == "object":
        return None if data is None else _LEAF
    kind, held = _container(data, level)
    if kind == "dict":
        pairs = _pairs(held, (str, int))
        if len(dict(pairs)) < len(pairs) or len({type(key) for key, _ in pairs}) > 1:
            raise JsonValueError(
                "the keys of a dict are of one type, and each stands once"
            )
        return {key: _tree_from_json(item, level + 1) for key, item in pairs}
    if not isinstance(held, list):
        raise JsonValueError(f"{kind} holds a list")
    items = [_tree_from_json(item, level + 1) for item in held]
    return items if kind == "list" else tuple(items)
