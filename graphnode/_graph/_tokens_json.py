"""Write the tokens of a graphdef as JSON, for files that must outlive a Python version, and read them.

    {"graphnode": 1,
     "classes": ["model.Net", "graphnode.ParamState"],
     "specs": [{"node": 0, "static": {"rate": 3}, "held": {"a": "object", "b": "object"}},
               {"state": 1}],
     "tokens": [{"new": 0}, {"new": 1}, {"again": 1}]}

`{"new": 1}` is the first reference to an object of spec 1, `{"again": 1}` another one to
object 1. A class is looked up among those that the program has defined, never imported;
`_static` has the JSON of static values. Nothing here recurses over the graph.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import jax

from .._arguments import wrong_argument
from .._declare._node import plan_of
from .._errors import ConfigError, Fault, FieldError
from .._fields import NodeBase
from .._hints import with_article
from .._paths import Path
from .._redefinition import a_class, class_name
from .._static import GraphObject, JsonValueError
from ._states_json import STATE_PARTS, StateReader, StateWriter, dumps, parse
from ._table import RootSpec, Token, canonical_root
from ._template import (
    REF,
    UNSET,
    NodeSpec,
    Shape,
    Template,
    dict_shape,
    filled_keys,
    items_of,
    shape_mismatch,
    template_of,
)

# A bound for files that nobody has checked: how deep values nest.
_MAX_LEVELS: Final = 64
_PARTS: Final = ("classes", "specs", "tokens")

# A spec that was read, and for each of its references the classes that it may have.
_ReadSpec: TypeAlias = tuple[Any, list[tuple[type, ...]]]


class _Leaf(enum.Enum):
    """The class of what stands for a node or State in a pytree without any."""

    LEAF = "leaf"


def tokens_to_json(tokens: Sequence[Token]) -> str:
    """The JSON of a graphdef's tokens.

    For `GraphDef.to_json`.

    Raises:
        ConfigError: A class or a static value has no JSON; names all.
    """
    writer = TokenWriter()
    parts = writer.parts(tokens)
    writer.check()
    return dumps(parts)


def tokens_from_json(text: str) -> tuple[Token, ...]:
    """The tokens that JSON stands for.

    For `GraphDef.from_json`.

    Raises:
        ConfigError: It does not stand for any; names all faults.
    """
    if not isinstance(text, str):
        raise TypeError(wrong_argument("a text", text, "GraphDef.from_json"))
    return _Reader(parse(text, "graphdef", _PARTS)).tokens()


class TokenWriter(StateWriter):
    """Writes tokens as JSON, with the tables that they refer to.

    For `tokens_to_json`, and for checkpoints, which also keep what has no JSON.

    Attributes:
        specs: The JSON of each spec, by its id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.specs: dict[int, dict[str, Any]] = {}
        self._numbers: dict[int, int] = {}

    def parts(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """The JSON of all tokens of a graphdef, without the version."""
        data = [self.token(token) for token in tokens]
        specs = list(self.specs.values())
        return {"classes": list(self.classes), "specs": specs, "tokens": data}

    def token(self, token: Token) -> Any:
        """The JSON of a token; a spec that is met for the first time is added to the table of specs.

        For `tokens_to_json`. Specs are numbered as they come, and stand in the file
        once.
        """
        if isinstance(token, int):
            return {"again": token}
        if isinstance(token, RootSpec):
            return {"root": self._root_json(token)}
        if id(token) not in self._numbers:
            # By id: specs are interned, and the graphdef keeps them alive.
            self._numbers[id(token)] = len(self.specs)
            if isinstance(token, NodeSpec):
                self.specs[id(token)] = self._node_json(token)
            else:
                self.specs[id(token)] = self.state_json(token)
        return {"new": self._numbers[id(token)]}

    def _node_json(self, spec: NodeSpec) -> dict[str, Any]:
        """The JSON of a node spec: class, static values, and how the other fields nest.

        An entry of the list "specs" of the file.
        """
        cls = spec.cls
        number = self.class_number(cls)
        named = zip(spec.template.statics, spec.statics, strict=True)
        statics = {
            name: self.value_json(f"{cls.__name__}.{name}", value)
            for name, value in named
        }
        shapes = {
            field.name: _shape_to_json(shape)
            for field, shape in spec.template.with_shapes(spec.shapes)
        }
        return {"node": number, "static": statics, "held": shapes}

    def _root_json(self, spec: RootSpec) -> Any:
        """The JSON of a root that is a pytree, with "object" in place of each node and State.

        The first token, if the graph was split as a list, dict or other pytree of
        nodes.
        """
        treedef = spec.treedef
        return self._tree_json(treedef.unflatten([_Leaf.LEAF] * treedef.num_leaves))

    def _tree_json(self, tree: Any) -> Any:
        """The JSON of a pytree of leaves; other containers than lists, tuples and dicts are a fault.

        For the root: a file may not name the classes of other pytrees.
        """
        if tree is _Leaf.LEAF:
            return "object"
        if tree is None:
            return None
        if type(tree) in (list, tuple):
            return {type(tree).__name__: [self._tree_json(item) for item in tree]}
        # As pairs, since the keys of JSON are strings. By exact type: `True` is an
        # `int` too.
        if type(tree) is dict and all(type(key) in (str, int) for key in tree):
            return {
                "dict": [[key, self._tree_json(item)] for key, item in tree.items()]
            }
        cls = with_article(type(tree).__name__)
        text = f"the root holds {cls}: only lists, tuples and dicts have JSON"
        self.faults.append(Fault(text))
        return None


def _shape_to_json(shape: Shape) -> Any:
    """The JSON of the shape of a field: of `(list, 2)` it is `{"list": 2}`.

    For the part "held" of a node spec.
    """
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


class _Reader(StateReader):
    """Reads JSON as tokens. It goes on after a fault, as far as the rest can be read."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data["classes"])
        self._data = data
        # By number; `None` for one with faults.
        self._specs: dict[int, _ReadSpec | None] = {}
        # How many tokens are left, so that a spec cannot claim more references. 0 where
        # only the static values of a spec are checked.
        self._tokens_left = len(data["tokens"])

    def tokens(self) -> tuple[Token, ...]:
        """All tokens.

        For `tokens_from_json`; one error has the faults of the whole file.

        Raises:
            ConfigError: Something is wrong.
        """
        tokens = self._read_tokens()
        # They are read as well, so that all faults of the file are told.
        unused = [at for at in range(len(self._data["specs"])) if at not in self._specs]
        if not self.faults:
            for at in unused:
                self.fault(f"specs[{at}]", "no token is of it")
        self._tokens_left = 0
        for at in unused:
            self._spec_at(at, "specs")
        if self.faults:
            raise ConfigError(self.faults)
        return tuple(tokens)

    def _read_tokens(self) -> list[Token]:
        """The tokens up to the first one with a fault: after it, nobody knows what they belong to.

        For `tokens`. It counts which references are still open, as a file may end too
        soon or go on too long.
        """
        tokens: list[Token] = []
        objects: list[Any] = []
        # A stack: the classes that the next references may have.
        pending: list[tuple[type, ...]] = [(NodeBase,)]
        for at, data in enumerate(self._data["tokens"]):
            self._tokens_left = len(self._data["tokens"]) - at
            if at == 0 and isinstance(data, dict) and list(data) == ["root"]:
                root = self._read_root(data["root"])
                if root is None:
                    return tokens
                tokens.append(root)
                pending = [(GraphObject,)] * len(root.edges)
                continue
            where = f"tokens[{at}]"
            if not pending:
                self.fault(where, "nothing refers to it")
                return tokens
            token = self._read_token(where, data, objects, pending)
            if token is None:
                return tokens
            tokens.append(token)
        if pending:
            self.fault("tokens", f"expected {len(pending)} more")
        return tokens

    def _read_token(
        self,
        where: str,
        data: Any,
        objects: list[Any],
        pending: list[tuple[type, ...]],
    ) -> Token | None:
        """A token; the spec of a new object is added to `objects`, and its references to `pending`.

        For `_read_tokens`: `objects` is what "again" may refer to, and `pending` what
        has to follow.
        """
        kind = number = None
        if isinstance(data, dict) and len(data) == 1:
            ((kind, number),) = data.items()
        if kind not in ("new", "again") or type(number) is not int:
            self.fault(where, 'a token is {"new": spec} or {"again": object}')
            return None
        admitted = pending.pop()
        if kind == "again":
            if not 0 <= number < len(objects):
                self.fault(where, f"no object {number} was seen before")
                return None
            self._check_class(where, objects[number].cls, admitted)
            return number
        read_spec = self._spec_at(number, where)
        if read_spec is None:
            return None
        spec, references = read_spec
        objects.append(spec)
        self._check_class(where, spec.cls, admitted)
        # The stack gives the last one first.
        pending += reversed(references)
        return spec  # type: ignore[no-any-return]

    def _check_class(self, where: str, cls: type, admitted: tuple[type, ...]) -> None:
        """Note a fault if an object is not of the classes that its place admits.

        Otherwise a file could build a graph that no constructor would have let pass.
        """
        if not issubclass(cls, admitted):
            others = [class_name(other, cls) for other in admitted[1:]]
            expected = " or ".join([a_class(admitted[0], cls), *others])
            self.fault(where, f"{class_name(cls, *admitted)} is not {expected}")

    def _spec_at(self, number: int, where: str) -> _ReadSpec | None:
        """The spec of a number, read when a token first refers to it; `None` if it has faults.

        For tokens: one that nothing refers to is not looked at.

        Args:
            number: Its position in the list of specs.
            where: The place of the token, for messages.
        """
        specs = self._data["specs"]
        if not 0 <= number < len(specs):
            self.fault(where, f"there is no spec {number}")
            return None
        if number not in self._specs:
            fault_count = len(self.faults)
            spec = self._read_spec(f"specs[{number}]", specs[number])
            has_faults = len(self.faults) > fault_count
            # Its faults are told once, however many tokens are of it.
            self._specs[number] = None if has_faults else spec
        return self._specs[number]

    def _read_spec(self, where: str, data: Any) -> _ReadSpec | None:
        """A spec as its JSON says, of a node or a State; `None` if it has faults.

        An entry of the list "specs" of the file.
        """
        parts = set(data) if isinstance(data, dict) else set[str]()
        if parts == {"node", "static", "held"}:
            return self._read_node(where, data)
        if "state" in parts and parts <= STATE_PARTS:
            spec = self.read_state(where, data)
            return None if spec is None else (spec, [])
        text = "a spec has node, static and held, or state, name, tag, sharding, metadata and stacked"
        self.fault(where, text)
        return None

    def _read_node(self, where: str, data: dict[str, Any]) -> _ReadSpec | None:
        """The spec of a node, and the classes that its references may have; `None` if it has faults.

        An entry of the list "specs" that has the key "node".
        """
        cls = self.class_at(where, data["node"], NodeBase)
        if cls is None:
            return None
        template = template_of(cls)
        fault_count = len(self.faults)
        statics = self._read_fields(
            f"{where}.static", cls, data["static"], template.statics, self.read_value
        )
        # No token is of it: only its static values were to be checked.
        if not self._tokens_left:
            return None
        names = tuple([field.name for field in template.dynamic_fields])
        shapes = self._read_fields(
            f"{where}.held", cls, data["held"], names, self._read_shape
        )
        if statics is None or shapes is None:
            return None
        self._admit_statics(where, cls, statics)
        references = self._references(where, template, shapes)
        if references is None or len(self.faults) > fault_count:
            return None
        spec = template.spec(tuple(statics.values()), tuple(shapes.values()))
        return spec, references

    def _admit_statics(
        self, where: str, cls: type[NodeBase], statics: dict[str, Any]
    ) -> None:
        """Check the static values of a node for their fields; each is replaced by what the field keeps.

        As the constructor would: a file may not put into a field what its annotation
        refuses.
        """
        admit = plan_of(cls).admit
        for name, value in statics.items():
            try:
                statics[name] = admit[name](None, value)
            except FieldError as error:
                self.fault(f"{where}.static.{name}", str(error))

    def _references(
        self, where: str, template: Template, shapes: Mapping[str, Shape]
    ) -> list[tuple[type, ...]] | None:
        """The classes that each reference of a node may have; `None` if more tokens would have to follow.

        For `_read_token`, which holds the objects that follow to them.
        """
        admitted: list[tuple[type, ...]] = []
        limit = self._tokens_left
        for field in template.dynamic_fields:
            shape = shapes[field.name]
            fault = shape_mismatch(field.form, shape, admitted, limit)
            if fault:
                self.fault(f"{where}.held.{field.name}", fault)
        # As many as tokens are left are too many: one of these is the node itself.
        if admitted and len(admitted) >= limit:
            text = f"it refers to {len(admitted):,} objects, which do not follow"
            self.fault(where, text)
            return None
        return admitted

    def _read_fields(
        self,
        where: str,
        cls: type,
        data: Any,
        names: tuple[str, ...],
        read: Callable[[str, Any], Any],
    ) -> dict[str, Any] | None:
        """The fields of a node by name, in the order of `names`; `None` if there is no object to read.

        For `_read_node`: once for its static values, and once for the shapes of the
        other fields.

        Args:
            where: The place of the object, for messages.
            cls: The class of the node.
            data: The JSON of the object.
            names: The fields that it has to have, and no others.
            read: From the place and the JSON of a field to its value; notes faults.
        """
        if not isinstance(data, dict):
            self.fault(where, "expected an object")
            return None
        for name in data:
            if name not in names:
                self.fault(where, f"{cls.__name__} has no such field {name[:40]!r}")
        for name in names:
            if name not in data:
                self.fault(where, f"{name!r} of {cls.__name__} is missing")
        return {name: read(f"{where}.{name}", data.get(name)) for name in names}

    def _read_shape(self, where: str, data: Any) -> Shape:
        """The shape that JSON stands for; `UNSET`, with a fault, if it stands for none.

        What stands under "held" for one field of a node.
        """
        try:
            return _shape_from_json(data, self._tokens_left, 0)
        except JsonValueError as error:
            self.fault(where, str(error))
            return UNSET

    def _read_root(self, data: Any) -> RootSpec | None:
        """The spec of a root that is a pytree; `None`, with a fault, if JSON does not stand for one.

        For the first token of a graph that was split as a pytree.
        """
        try:
            tree = _tree_from_json(data, 0)
        except JsonValueError as error:
            self.fault("tokens[0].root", str(error))
            return None
        pairs, treedef = jax.tree_util.tree_flatten_with_path(tree)
        edges: list[Path] = []
        for path, _ in pairs:
            # Of a list or tuple `idx`, of a dict `key`: the tree has no other containers.
            keys = [getattr(key, "key", getattr(key, "idx", "")) for key in path]
            edges.append(tuple(keys))
        return canonical_root(treedef, edges)


def _shape_from_json(data: Any, limit: int, level: int) -> Shape:
    """The shape that JSON stands for, of a list of at most so many objects, so many levels below its field.

    For `_read_shape`. Both limits are there as a file could claim any number, or nest
    without end.
    """
    if data is None:
        return None
    if data == "object":
        return REF
    if data == "unset":
        if level:
            raise JsonValueError("only a field is unset")
        return UNSET
    kind, content = _container(data, level)
    if kind == "list" and type(content) is int:
        if not 0 <= content <= limit:
            raise JsonValueError(f"a list of {content} objects, which do not follow")
        return (list, content)
    if kind == "dict":
        return _dict_shape_from_json(content, limit, level)
    _check_is_list(kind, content)
    shapes = tuple([_shape_from_json(item, limit, level + 1) for item in content])
    # One form for each shape: equal structures have to be one object.
    if kind == "list" and all(shape is REF for shape in shapes):
        raise JsonValueError("a list of objects alone gives their number")
    return (list if kind == "list" else tuple, shapes)


def _dict_shape_from_json(content: Any, limit: int, level: int) -> Shape:
    """The shape of a dict, of the JSON of its pairs in the order in which it was filled.

    For `_shape_from_json`: pairs, as the order of filling is part of the structure.

    Args:
        content: What stands under "dict".
        limit: How many objects a list in it may have.
        level: How deep the dict stands in its field.
    """
    pairs = _pairs(content, (str,))
    by_key = {key: _shape_from_json(item, limit, level + 1) for key, item in pairs}
    if len(by_key) < len(pairs):
        raise JsonValueError("a key of a dict stands once")
    return dict_shape(tuple(by_key), by_key)


def _check_is_list(kind: str, content: Any) -> None:
    """Raise `JsonValueError` if the content of a container is not a list.

    So that what iterates over it next fails on no other value.
    """
    if not isinstance(content, list):
        raise JsonValueError(f"{kind} holds a list")


def _container(data: Any, level: int) -> tuple[str, Any]:
    """The kind of a container, and the JSON of its content.

    For shapes and for the pytree of a root, which are written alike; too deep a nesting
    is refused here.
    """
    if level > _MAX_LEVELS:
        raise JsonValueError(f"nested more than {_MAX_LEVELS} levels deep")
    if isinstance(data, dict) and len(data) == 1:
        ((kind, content),) = data.items()
        if kind in ("list", "tuple", "dict"):
            return kind, content
    raise JsonValueError(
        'expected null, "object" or an object with one of the keys list, tuple and dict'
    )


def _pairs(data: Any, key_types: tuple[type, ...]) -> list[tuple[Any, Any]]:
    """The keys of a dict with the JSON of the items.

    Keys need not be strings in a pytree, so that a dict is no JSON object.
    """

    def is_pair(pair: Any) -> bool:
        """Whether JSON is a list of a key and an item."""
        is_two = isinstance(pair, list) and len(pair) == 2
        return is_two and type(pair[0]) in key_types

    if not isinstance(data, list) or not all(map(is_pair, data)):
        raise JsonValueError("dict holds a list of pairs, each a key and an item")
    return [(key, item) for key, item in data]


def _tree_from_json(data: Any, level: int) -> Any:
    """The pytree of a root, with a leaf in place of each node and State.

    For `_read_root`, which takes its treedef: a leaf stands for nothing else.
    """
    if data is None:
        return None
    if data == "object":
        return _Leaf.LEAF
    kind, content = _container(data, level)
    if kind == "dict":
        pairs = _pairs(content, (str, int))
        tree = {key: _tree_from_json(item, level + 1) for key, item in pairs}
        # JAX cannot sort keys of several types.
        if len(tree) < len(pairs) or len(set(map(type, tree))) > 1:
            raise JsonValueError(
                "the keys of a dict are of one type, and each stands once"
            )
        return tree
    _check_is_list(kind, content)
    items = [_tree_from_json(item, level + 1) for item in content]
    return items if kind == "list" else tuple(items)
