"""JSON Schemas of the files that configure a model, for editors and for other programs that validate.

A schema has a definition for each class that a file may name, and for each set of
classes that a place admits, so that its size is linear in them. pydantic makes the part
of each static field.

The keywords of JSON Schema hold for one type each: `properties` says nothing of a list.
So a place that admits a node, a list of them or null needs no alternatives, and each
fault in it is one fault.
"""

import inspect
import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast, get_origin
from urllib.parse import quote

import pydantic
from pydantic.json_schema import GenerateJsonSchema

from .._arguments import wrong_argument
from .._declare._forms import Form
from .._declare._node import Node
from .._errors import ConfigError
from .._fields import NodeBase
from .._static import DEFINED, Defined
from ._config import config_of
from ._left_out import DEFAULT
from ._plain import plain
from ._registry import Tags
from ._streams import SEEDS, admits_streams, is_streams
from ._typed import TYPE

M = TypeVar("M", bound=Node)

Style = Literal["editor", "strict"]
_Json = dict[str, Any]
_Classes: TypeAlias = tuple[type, ...]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_ID: Final[_Json] = {
    "type": "string",
    "description": "A name for this node, for `ref` elsewhere in the file.",
}
_INCLUDE: Final[_Json] = {
    "type": "string",
    "description": "A file beside or below this one, whose fields stand here too; those given here win.",
}
_REF: Final[_Json] = {
    "type": "string",
    "description": "The `id` of a node elsewhere in the file: this one is the same.",
}


def json_schema(cls: type[M], /, *, style: Style = "editor") -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the files that describe a model.

    It has the classes that are known when it is made, with defaults, constraints and
    the texts of docstrings.

    Args:
        cls: The class of the model; a file may name a subclass.
        style: `editor`: with conditions, from which editors complete exactly, and which
            give one message for one fault. `strict`: with `oneOf`, for programs that
            generate or validate files.

    Both accept what `load` accepts, apart from what no JSON Schema can express: an `id` that
    is given twice, a `ref` to none or to a node of a wrong class, and files that are
    included; numbers such as 1.0, which count as integers here and not in `load`;
    arrays whose rows have different lengths, whose numbers do not fit their dtype, or
    with texts of complex numbers without such a dtype, and what their annotation asks
    of equal sizes, of a number of axes that is free and of those with a `dtype` beside
    them; frozensets, whose repeated items count once in `load`; and what a class checks
    itself, in Python.

    Raises:
        ConfigError: No class that a file could name is configurable; the message has why.
        TypeError: `cls` is not a node class.
        ValueError: `style` is unknown.

    Example:
        >>> schema = gn.config.json_schema(gn.nn.Linear)
        >>> schema["$defs"]["Linear"]["properties"]["use_bias"]
        {'description': 'Whether there is a bias.', 'type': 'boolean', 'default': True}
    """
    if style not in ("editor", "strict"):
        raise ValueError(f"style: expected 'editor' or 'strict', found {style!r}")
    node_class: Any = get_origin(cls) or cls
    if not (isinstance(node_class, type) and issubclass(node_class, Node)):
        raise TypeError(wrong_argument("a node class", cls))
    tags, faults = _tags_of((node_class,))
    if not tags:
        name = node_class.__name__
        faults = faults or [f"{name} is abstract, and has no subclass that is known"]
        raise ConfigError(faults)
    schemas = _Schemas(style)
    root = schemas.node((node_class,))
    return {
        "$schema": DIALECT,
        **_description(_first_paragraph(node_class)),
        "type": "object",
        **root,
        "$defs": schemas.finished(),
    }


def _tags_of(classes: _Classes) -> tuple[dict[str, type[NodeBase]], list[str]]:
    """The classes that a file may name in a place and that can be configured, by tag; and why others cannot."""
    tags: dict[str, type[NodeBase]] = {}
    faults: list[str] = []
    for tag, cls in Tags(classes).by_tag.items():
        try:
            config_of(cast("type[Node]", cls))
        except (ConfigError, TypeError) as error:
            faults.append(str(error))
        else:
            tags[tag] = cls
    return tags, faults


class _Generate(GenerateJsonSchema):
    """pydantic's own, without titles, which repeat the names, and defaults, which `_default` writes as data."""

    def default_schema(self, schema: Any) -> _Json:
        """The schema of a field without the default, which `_default` writes as data of a file."""
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No: a title would repeat the name of the field."""
        return False


class _Schemas:
    """The definitions of one schema, each made once: a reference notes what is still to be made.

    Nothing recurses from class to class, and classes may hold each other. Of a class, a
    definition is named

        Encoder         its fields
        Encoder.node    a node of it or of a subclass, by `type`
        Encoder.place   the same, or a `ref`
    """

    def __init__(self, style: Style) -> None:
        self._is_strict = style == "strict"
        self._names: dict[Hashable, str] = {}
        self._taken: set[str] = set()
        self._todo: list[tuple[str, Callable[[], _Json]]] = []

    def finished(self) -> _Json:
        """All definitions by name, the `$defs` of the schema: each may ask for further ones while it is made."""
        definitions: _Json = {}
        while self._todo:
            name, make = self._todo.pop()
            definitions[name] = make()
        return definitions

    def _defined(self, key: Hashable, name: str, make: Callable[[], _Json]) -> _Json:
        """A reference to a definition, which `make` makes later.

        So classes may hold each other, and a class that many hold is written once.
        """
        if key not in self._names:
            # Two classes may have one name.
            unique, number = name, 1
            while unique in self._taken:
                number += 1
                unique = f"{name}-{number}"
            self._names[key] = unique
            self._taken.add(unique)
            self._todo.append((unique, make))
        return {"$ref": f"#/$defs/{quote(self._names[key])}"}

    # Nodes

    def node(self, classes: _Classes) -> _Json:
        """A reference to the schema of a node of some classes or their subclasses: for the root, and for places."""
        make = self._strict_node if self._is_strict else self._editor_node
        name = f"{_joined(classes)}.node"
        return self._defined(("node", classes), name, partial(make, classes))

    def _place(self, classes: _Classes) -> _Json:
        """A reference to the schema of a place that admits some classes: a node of them, or a `ref`."""
        name = f"{_joined(classes)}.place"
        make = partial(self._make_place, classes)
        return self._defined(("place", classes), name, make)

    def _make_place(self, classes: _Classes) -> _Json:
        """The definition that `_place` refers to: what may stand where a node is expected.

        That is a node or `{ref: <id>}`. The strict style demands exactly one of them;
        that for editors offers the fields of both while somebody types.
        """
        properties = {"ref": _REF}
        alone = {
            "properties": properties,
            "required": ["ref"],
            "additionalProperties": False,
        }
        node = self.node(classes)
        if self._is_strict:
            return {"oneOf": [alone, node]}
        # `ref` is a property outside of the condition too, so that editors offer it
        # where nothing is written yet.
        untyped = {
            "properties": properties,
            "if": _has("ref"),
            "then": alone,
            "else": node,
        }
        return {"if": _has("type"), "then": node, "else": untyped}

    def _bodies(self, classes: _Classes) -> tuple[dict[type, list[str]], type | None]:
        """The classes that a place admits with their tags, and the one that needs none."""
        # Those that cannot be configured are left out, as a file cannot name them.
        tags, _ = _tags_of(classes)
        bodies: dict[type, list[str]] = {}
        # Sorted, so that a schema kept in a file changes only with its classes.
        for tag, cls in sorted(tags.items()):
            bodies.setdefault(cls, []).append(tag)
        default = Tags(classes).default
        return bodies, default if default in bodies else None

    def _editor_node(self, classes: _Classes) -> _Json:
        """The definition of a node for editors: conditions on `type` select the fields of a class."""
        bodies, default = self._bodies(classes)
        tags = sorted(tag for tags in bodies.values() for tag in tags)
        cases: list[_Json] = []
        for cls, tags_of_class in bodies.items():
            cases.append({"if": _tagged(tags_of_class), "then": self._class(cls)})
        untagged = {"required": ["type"]} if default is None else self._class(default)
        # The file that is included may give the type.
        cases.append({"if": _has_none("type", "include"), "then": untagged})
        properties = {"type": {"enum": tags}, "id": _ID, "include": _INCLUDE}
        return {"properties": properties, "allOf": cases}

    def _strict_node(self, classes: _Classes) -> _Json:
        """The definition of a node for validators: one alternative for each class, and one for `include`."""
        bodies, default = self._bodies(classes)
        cases: list[_Json] = []
        for cls, tags in bodies.items():
            cases.append({**_tagged(tags), **self._class(cls)})
        if default is not None:
            cases.append({**_has_none("type", "include"), **self._class(default)})
        # The file that is included may name the class, so that nothing more is known here.
        included = {
            "properties": {"id": _ID, "include": _INCLUDE},
            "required": ["include"],
        }
        cases.append({**included, **_has_none("type", "ref")})
        return {"oneOf": cases}

    def _class(self, cls: type) -> _Json:
        """A reference to the definition of the fields of a class."""
        make = partial(self._make_class, cls)
        return self._defined(("class", cls), cls.__name__, make)

    def _make_class(self, cls: type) -> _Json:
        """The definition of a class: its fields; of random streams, seeds by any names."""
        description = _description(_first_paragraph(cls))
        common = {"type": {"type": "string", **description}, "id": _ID}
        if not is_streams(cls):
            model = config_of(cast("type[Node]", cls))
            return {**description, **self._record(model, common)}
        return {
            **description,
            "properties": {"include": _INCLUDE, **common},
            "additionalProperties": dict(SEEDS),
        }

    def _record(
        self, model: type[pydantic.BaseModel], common: Mapping[str, Any]
    ) -> _Json:
        """The schema of a mapping with the fields of a model: of a node's config, or of a record.

        What is `common` to all, such as `id`, stands beside them.
        """
        slots: Mapping[str, Form] = getattr(model, "slots", {})
        static: _Json = {}
        if model.model_fields:  # without any, pydantic gives no properties
            schema = model.model_json_schema(schema_generator=_Generate)
            static = schema["properties"]
        properties: _Json = dict(common)
        required: list[str] = []
        for name, field in model.model_fields.items():
            form = slots.get(name)
            value = self._static(static[name]) if form is None else self._form(form)
            description = _description(field.description)
            properties[name] = {**value, **description, **_default(field)}
            if field.is_required():
                required.append(name)
        return _closed(properties, required)

    def _form(self, form: Form) -> _Json:
        """The schema of a field for nodes: what its form admits, which may be nodes, null, and containers of them."""
        choices = list(self._choices(form))
        if len(choices) > 1 and self._is_strict:
            return {"oneOf": choices}
        # The keywords of one type leave the others alone, so that one schema has them all:
        # editors complete better than in `oneOf`.
        merged: _Json = {}
        for choice in choices:
            merged |= choice
        types = [choice["type"] for choice in choices]
        return {**merged, "type": types if len(types) > 1 else types[0]}

    def _choices(self, form: Form) -> Iterator[_Json]:
        """What a form admits of each type of JSON, as one schema for each, which `_form` joins."""
        if form.classes or form.dict_of is not None:
            yield {"type": "object", **self._mapping(form)}
        if admits_streams(form):
            yield {"type": "integer"}
        items = form.list_of or form.tuple_of
        if items is not None:
            yield {"type": "array", **self._items(items)}
        if form.optional:
            yield {"type": "null"}

    def _mapping(self, form: Form) -> _Json:
        """The schema of the mappings that a form admits: a node, a dict of nodes, or both."""
        if form.dict_of is None:
            return self._place(form.classes)
        items = {
            "properties": {"include": _INCLUDE},
            "additionalProperties": self._form(form.dict_of),
        }
        if not form.classes:
            return items
        # The file that is included may make a node of it.
        unknown = {
            "if": _has("include"),
            "then": {"properties": {"include": _INCLUDE}},
            "else": items,
        }
        is_node = {"anyOf": [_has("type"), _has("ref")]}
        return {"if": is_node, "then": self._place(form.classes), "else": unknown}

    def _items(self, forms: Any) -> _Json:
        """The schema of the items of a list: `forms` is one form for all, or a tuple with one for each."""
        if isinstance(forms, Form):
            return {"items": self._form(forms)}
        return {
            "prefixItems": [self._form(form) for form in forms],
            "minItems": len(forms),
            "maxItems": len(forms),
        }

    # Static values

    def _static(self, schema: Any) -> Any:
        """The schema that pydantic makes of a field, with references in place of what is to be defined.

        In place of a `Defined`, which stands in it under the key `x-graphnode`, comes a
        reference.
        """
        if isinstance(schema, list):
            return [self._static(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        if DEFINED in schema:
            return self._static_defined(schema)
        replaced: _Json = {}
        for keyword, value in schema.items():
            if keyword in ("enum", "const"):  # data, not schemas
                replaced[keyword] = value
            elif keyword not in _DROPPED:
                replaced[keyword] = self._static(value)
        return replaced

    def _static_defined(self, schema: _Json) -> _Json:
        """A reference in place of a `Defined`, with the keywords that stand beside it."""
        defined: Defined = schema[DEFINED]
        beside = {key: value for key, value in schema.items() if key != DEFINED}
        make = partial(self._make_static, defined)
        return {**self._defined(defined.key, defined.name, make), **beside}

    def _make_static(self, defined: Defined) -> _Json:
        """The definition of a `Defined`: a record by the fields of its model, other values by a schema."""
        definition = defined.make()
        if isinstance(definition, type):
            return self._make_record(cast("type[pydantic.BaseModel]", definition))
        schema: _Json = self._static(definition)
        # A mapping with fields of its own may include a file, as a node may.
        if "properties" in schema:
            schema |= _closed(schema["properties"], schema.pop("required"))
        return schema

    def _make_record(self, model: type[pydantic.BaseModel]) -> _Json:
        """A dataclass or named tuple, which may name its class."""
        # A record with a field `type` cannot name its class.
        tag = {} if TYPE in model.model_fields else {TYPE: {"const": model.__name__}}
        description = _description(_first_paragraph(model))
        return {"type": "object", **description, **self._record(model, tag)}


_DROPPED: Final = ("title", "uniqueItems", "format")
"""Keywords of pydantic that `load` does not hold a file to."""


def _closed(properties: _Json, required: list[str]) -> _Json:
    """A mapping without other fields, so that editors show a misspelled key.

    What is required may come from a file that it includes.
    """
    schema: _Json = {
        "properties": {"include": _INCLUDE, **properties},
        "additionalProperties": False,
    }
    if required:
        schema |= {"if": {"not": _has("include")}, "then": {"required": required}}
    return schema


def _has(key: str) -> _Json:
    """The schema of a mapping that has a key, for conditions."""
    # `required` alone holds for all that is not a mapping, such as the null that an
    # item is before anything is written.
    return {"type": "object", "required": [key]}


def _has_none(*keys: str) -> _Json:
    """The schema of anything but a mapping with one of some keys, for conditions."""
    return {"not": {"anyOf": [_has(key) for key in keys]}}


def _tagged(tags: list[str]) -> _Json:
    """The schema of a mapping whose `type` is one of some tags: the nodes of one class."""
    tag: _Json = {"const": tags[0]} if len(tags) == 1 else {"enum": tags}
    return {"properties": {"type": tag}, **_has("type")}


def _joined(classes: _Classes) -> str:
    """The names of some classes, as the name of a definition."""
    return "-".join(cls.__name__ for cls in classes)


def _description(text: str | None) -> _Json:
    """The keyword of a schema for a text, which editors show; none if there is no text."""
    return {"description": text} if text else {}


def _default(field: Any) -> _Json:
    """The keyword for the default of a field, where JSON has it; editors show it."""
    if field.is_required():
        return {}
    value = field.get_default(call_default_factory=True)
    if value is DEFAULT:
        return {}
    try:
        # A dict is the default of a field for nodes, and empty.
        data = _Json() if isinstance(value, dict) else plain(value)
        json.dumps(data, allow_nan=False)
    except (TypeError, ValueError):  # no name, no JSON
        return {}
    return {"default": data}


def _first_paragraph(cls: Any) -> str:
    """The first paragraph of a class's docstring on one line, as its description; empty if nobody wrote one."""
    text = inspect.cleandoc(cls.__doc__ or "")
    if text.startswith(f"{cls.__name__}("):  # what dataclasses write, not a person
        return ""
    return " ".join(text.split("\n\n")[0].split())
