"""JSON Schemas of configurations: what a file may say of a model, for editors and for other programs that validate.

Data in: the config classes of a model, with what pydantic says of each static field.
Data out: one JSON Schema, with a definition for each class that the file may name and
for each set of classes that a place admits; it is linear in them.

The keywords of JSON Schema hold for one type each: `properties` says nothing of a list.
So a place that admits a node, a list of them or null needs no alternatives, and each
fault in it is one fault.
"""

import inspect
import json
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Final, Literal, TypeVar, cast, get_origin
from urllib.parse import quote

import pydantic
from pydantic.json_schema import GenerateJsonSchema

from .._arguments import wrong_argument
from .._declare._annotations import Form
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

    Both accept what `load` accepts, apart from what no JSON Schema says: an `id` that
    is given twice, a `ref` to none or to a node of a wrong class, and files that are
    included; numbers such as 1.0, which count as integers here and not in `load`;
    arrays whose rows have different lengths, whose numbers do not fit their dtype, or
    with texts of complex numbers without such a dtype, and what their annotation says
    of equal sizes, of a number of axes that is free and of those with a `dtype` beside
    them; frozensets, whose repeated items count once in `load`; and what a class checks
    itself, in Python.

    Raises:
        ConfigError: No class that a file could name is configurable; says why.
        TypeError: `cls` is not a node class.
        ValueError: `style` is unknown.

    Example:
        >>> made = gn.config.json_schema(gn.nn.Linear)
        >>> made["$defs"]["Linear"]["properties"]["use_bias"]
        {'description': 'Whether there is a bias.', 'type': 'boolean', 'default': True}
    """
    if style not in ("editor", "strict"):
        raise ValueError(f"style: expected 'editor' or 'strict', found {style!r}")
    found: Any = get_origin(cls) or cls
    if not (isinstance(found, type) and issubclass(found, Node)):
        raise TypeError(wrong_argument("a node class", cls))
    tags, faults = _tags_of((found,))
    if not tags:
        raise ConfigError(
            faults
            or [f"{found.__name__} is abstract, and has no subclass that is known"]
        )
    schemas = _Schemas(style)
    root = schemas.node((found,))
    return {
        "$schema": DIALECT,
        **_description(_first_paragraph(found)),
        "type": "object",
        **root,
        "$defs": schemas.finished(),
    }


def _tags_of(classes: tuple[type, ...]) -> tuple[dict[str, type[NodeBase]], list[str]]:
    """The classes that can be configured, by the tags that a place admits; and why others cannot."""
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
    """pydantic's own, without what is said better elsewhere: titles, and defaults."""

    def default_schema(self, schema: Any) -> _Json:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class _Schemas:
    """The definitions of one schema; each is made once, from a list of those still to do."""

    def __init__(self, style: Style) -> None:
        self._is_strict = style == "strict"
        self._names: dict[Hashable, str] = {}
        self._taken: set[str] = set()
        self._todo: list[tuple[str, Callable[[], _Json]]] = []

    def finished(self) -> _Json:
        """All definitions, by name."""
        made: _Json = {}
        while self._todo:
            name, make = self._todo.pop()
            made[name] = make()
        return made

    def _defined(self, key: Hashable, name: str, make: Callable[[], _Json]) -> _Json:
        """A reference to a definition."""
        if key not in self._names:
            free, number = name, 1
            while free in self._taken:
                number += 1
                free = f"{name}-{number}"
            self._names[key] = free
            self._taken.add(free)
            self._todo.append((free, make))
        return {"$ref": f"#/$defs/{quote(self._names[key])}"}

    # Nodes

    def node(self, classes: tuple[type, ...]) -> _Json:
        """A node of some classes or their subclasses."""
        make = partial(
            self._strict_node if self._is_strict else self._editor_node, classes
        )
        return self._defined(("node", classes), f"{_joined(classes)}.node", make)

    def _place(self, classes: tuple[type, ...]) -> _Json:
        """The same, or a reference to one."""
        return self._defined(
            ("place", classes),
            f"{_joined(classes)}.place",
            partial(self._make_place, classes),
        )

    def _make_place(self, classes: tuple[type, ...]) -> _Json:
        alone = {
            "properties": {"ref": _REF},
            "required": ["ref"],
            "additionalProperties": False,
        }
        if self._is_strict:
            return {"oneOf": [alone, self.node(classes)]}
        # A schema of each: editors offer `ref` where there is no type.
        node = self.node(classes)
        untyped = {
            "properties": {"ref": _REF},
            "if": _has("ref"),
            "then": alone,
            "else": node,
        }
        return {"if": _has("type"), "then": node, "else": untyped}

    def _bodies(
        self, classes: tuple[type, ...]
    ) -> tuple[dict[type, list[str]], type | None]:
        """The classes that a place admits with their tags, and the one that needs none."""
        tags, _ = _tags_of(classes)
        bodies: dict[type, list[str]] = {}
        for tag, cls in sorted(tags.items()):
            bodies.setdefault(cls, []).append(tag)
        default = Tags(classes).default
        return bodies, default if default in bodies else None

    def _editor_node(self, classes: tuple[type, ...]) -> _Json:
        bodies, default = self._bodies(classes)
        admitted = sorted(tag for tags in bodies.values() for tag in tags)
        cases = [
            {"if": _tagged(tags), "then": self._class(cls)}
            for cls, tags in bodies.items()
        ]
        untagged = {"required": ["type"]} if default is None else self._class(default)
        cases.append(
            {
                "if": {"not": {"anyOf": [_has("type"), _has("include")]}},
                "then": untagged,
            }
        )
        tag = {"enum": admitted}
        return {
            "properties": {"type": tag, "id": _ID, "include": _INCLUDE},
            "allOf": cases,
        }

    def _strict_node(self, classes: tuple[type, ...]) -> _Json:
        bodies, default = self._bodies(classes)
        cases = [{**_tagged(tags), **self._class(cls)} for cls, tags in bodies.items()]
        if default is not None:
            cases.append(
                {
                    "not": {"anyOf": [_has("type"), _has("include")]},
                    **self._class(default),
                }
            )
        cases.append(
            {
                "properties": {"id": _ID, "include": _INCLUDE},
                "required": ["include"],
                "not": {"anyOf": [_has("type"), _has("ref")]},
            }
        )
        return {"oneOf": cases}

    def _class(self, cls: type) -> _Json:
        return self._defined(
            ("class", cls), cls.__name__, partial(self._make_class, cls)
        )

    def _make_class(self, cls: type) -> _Json:
        text = _first_paragraph(cls)
        common = {"type": {"type": "string", **_description(text)}, "id": _ID}
        if is_streams(cls):
            named = {
                "properties": {"include": _INCLUDE, **common},
                "additionalProperties": dict(SEEDS),
            }
            return {**_description(text), **named}
        return {
            **_description(text),
            **self._record(config_of(cast("type[Node]", cls)), common),
        }

    def _record(
        self, model: type[pydantic.BaseModel], common: Mapping[str, Any]
    ) -> _Json:
        """A mapping with the fields of a model."""
        slots: Mapping[str, Form] = getattr(model, "slots", {})
        said = (
            model.model_json_schema(schema_generator=_Generate)["properties"]
            if model.model_fields
            else {}
        )
        properties: _Json = dict(common)
        for name, field in model.model_fields.items():
            one = self._form(slots[name]) if name in slots else self._static(said[name])
            properties[name] = {
                **one,
                **_description(field.description),
                **_default(field),
            }
        return _closed(
            properties,
            [name for name, field in model.model_fields.items() if field.is_required()],
        )

    def _form(self, form: Form) -> _Json:
        """What a form admits: nodes, null, and containers of them."""
        choices: list[_Json] = []
        if form.classes or form.dict_of is not None:
            choices.append({"type": "object", **self._mapping(form)})
        if admits_streams(form):
            choices.append({"type": "integer"})
        if form.list_of is not None or form.tuple_of is not None:
            choices.append(
                {"type": "array", **self._items(form.list_of or form.tuple_of)}
            )
        if form.optional:
            choices.append({"type": "null"})
        if len(choices) > 1 and self._is_strict:
            return {"oneOf": choices}
        made = {key: value for one in choices for key, value in one.items()}
        types = [one["type"] for one in choices]
        return {**made, "type": types if len(types) > 1 else types[0]}

    def _mapping(self, form: Form) -> _Json:
        if form.dict_of is None:
            return self._place(form.classes)
        items = {
            "properties": {"include": _INCLUDE},
            "additionalProperties": self._form(form.dict_of),
        }
        if not form.classes:
            return items
        unknown = {
            "if": _has("include"),
            "then": {"properties": {"include": _INCLUDE}},
            "else": items,
        }
        is_node = {"anyOf": [_has("type"), _has("ref")]}
        return {"if": is_node, "then": self._place(form.classes), "else": unknown}

    def _items(self, forms: Any) -> _Json:
        if isinstance(forms, Form):
            return {"items": self._form(forms)}
        return {
            "prefixItems": [self._form(form) for form in forms],
            "minItems": len(forms),
            "maxItems": len(forms),
        }

    # Static values

    def _static(self, said: Any) -> Any:
        """What pydantic says of a field, with references in place of what is to be defined."""
        if isinstance(said, list):
            return [self._static(one) for one in said]
        if not isinstance(said, dict):
            return said
        if DEFINED in said:
            defined: Defined = said[DEFINED]
            rest = {key: value for key, value in said.items() if key != DEFINED}
            return {
                **self._defined(
                    defined.key, defined.name, partial(self._make_static, defined)
                ),
                **rest,
            }
        kept = {
            key: value
            for key, value in said.items()
            if key not in ("title", "uniqueItems", "format")
        }
        return {
            key: value if key in ("enum", "const") else self._static(value)
            for key, value in kept.items()
        }

    def _make_static(self, defined: Defined) -> _Json:
        made = defined.make()
        if isinstance(made, type):
            made = cast("type[pydantic.BaseModel]", made)
            tag = {} if TYPE in made.model_fields else {TYPE: {"const": made.__name__}}
            return {
                "type": "object",
                **_description(_first_paragraph(made)),
                **self._record(made, tag),
            }
        said: _Json = self._static(made)
        if "properties" in said:
            said |= _closed(said["properties"], said.pop("required"))
        return said


def _closed(properties: _Json, required: list[str]) -> _Json:
    """A mapping without other fields; what is required may come from a file that it includes."""
    made = {
        "properties": {"include": _INCLUDE, **properties},
        "additionalProperties": False,
    }
    return made | (
        {"if": {"not": _has("include")}, "then": {"required": required}}
        if required
        else {}
    )


def _has(key: str) -> _Json:
    # `required` alone holds for all that is not a mapping, such as the null that an
    # item is before anything is written.
    return {"type": "object", "required": [key]}


def _tagged(tags: list[str]) -> _Json:
    said: _Json = {"const": tags[0]} if len(tags) == 1 else {"enum": tags}
    return {"properties": {"type": said}, **_has("type")}


def _joined(classes: tuple[type, ...]) -> str:
    return "-".join(cls.__name__ for cls in classes)


def _description(text: str | None) -> _Json:
    return {"description": text} if text else {}


def _default(field: Any) -> _Json:
    """The default of a field, where JSON has it."""
    if field.is_required():
        return {}
    value = field.get_default(call_default_factory=True)
    if value is DEFAULT:
        return {}
    try:
        # A dict is the default of a field for nodes, and empty.
        said = _Json() if isinstance(value, dict) else plain(value)
        json.dumps(said, allow_nan=False)
    except (TypeError, ValueError):  # no name, no JSON
        return {}
    return {"default": said}


def _first_paragraph(cls: Any) -> str:
    text = inspect.cleandoc(cls.__doc__ or "")
    if text.startswith(f"{cls.__name__}("):  # what dataclasses write, not a person
        return ""
    return " ".join(text.split("\n\n")[0].split())
