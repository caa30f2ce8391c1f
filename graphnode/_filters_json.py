"""Filters as JSON: an optimizer has one as a static value, which says what it changes.

    (ParamState, "frozen")      {"any": [{"class": ["graphnode.ParamState"]}, {"tag": "frozen"}]}

A file is data from a stranger: a class is looked up among those of nodes and States that
the program has defined. Functions have no JSON.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any, Final

from ._errors import FilterError, FilterTypeError, PathError
from ._filters import (
    All,
    Combined,
    Everything,
    HasTag,
    Matcher,
    Not,
    Nothing,
    OfType,
    PathContains,
    PathIn,
    Paths,
    Predicate,
    Under,
)
from ._filters import Any as AnyOf
from ._graph._states_json import StateWriter, classes_by_name
from ._static import (
    Json,
    JsonValueError,
    ReadPart,
    WritePart,
    add_json_form,
    part,
    tagged,
)

_COMBINED: Final[dict[str, type[Combined]]] = {"any": AnyOf, "all": All, "not": Not}
_PATHS: Final[dict[str, type[Paths]]] = {"paths": PathIn, "under": Under}
_MAX_LEVELS: Final = 64


def _write(filter: Matcher, write_part: WritePart) -> Json:
    """A filter as data: an object with one key, which says its kind, and for paths what they may leave out."""
    match filter:
        case Everything():
            return {"all": []}
        case Nothing():
            return {"any": []}
        case OfType():
            return {"class": _class_names(filter.classes)}
        case HasTag():
            return {"tag": filter.tag}
        case PathContains():
            return {"key": filter.key, "missing_ok": filter.missing_ok}
        case Under():
            rest = {"missing_ok": filter.missing_ok, "shared": filter.shared}
            return {"under": list(filter.texts), **rest}
        case PathIn():
            return {"paths": list(filter.texts), "missing_ok": filter.missing_ok}
        case Combined():
            kind = next(kind for kind, cls in _COMBINED.items() if cls is type(filter))
            return {kind: [_write(inner, write_part) for inner in filter.parts]}
        case Predicate():
            raise JsonValueError(f"the filter {filter!r} is a function")
        case _:
            raise JsonValueError(f"the filter {filter!r} has no JSON")


def _class_names(classes: Sequence[type]) -> list[str]:
    """For `_write`: the names of classes, which lead back to them."""
    writer = StateWriter()
    for cls in classes:
        writer.class_number(cls)
    if writer.faults:
        raise JsonValueError(str(writer.faults[0]))
    return list(writer.classes)


def _read(data: Json, read_part: ReadPart) -> Matcher:
    """The filter that data stands for."""
    try:
        return _filter_of(data, 0)
    except (FilterError, FilterTypeError, PathError) as error:
        raise JsonValueError(str(error)) from None


def _filter_of(data: Json, level: int) -> Matcher:
    """For `_read`: the filter that data stands for, by recursion."""
    if level > _MAX_LEVELS:
        raise JsonValueError(f"nested more than {_MAX_LEVELS} levels deep")
    kind, *rest = part(dict, data, "a filter") or [""]
    content = data.get(kind)
    options = {name: part(bool, data[name], name) for name in rest}
    if kind in _PATHS and set(rest) <= {"missing_ok", "shared"}:
        texts = [part(str, text, "a path") for text in part(list, content, kind)]
        if kind == "paths" and "shared" in options:
            raise JsonValueError("not a valid filter")
        cls: Any = _PATHS[kind]
        return cls(*texts, **options)  # type: ignore[no-any-return]
    if kind == "key" and rest == ["missing_ok"] and type(content) in (str, int):
        return PathContains(content, missing_ok=options["missing_ok"])
    if rest:
        raise JsonValueError("not a valid filter")
    if kind == "class":
        return _of_classes(part(list, content, kind))
    if kind == "tag":
        return HasTag(part(str, content, kind))
    if kind not in _COMBINED:
        raise JsonValueError("not a valid filter")
    parts = [_filter_of(item, level + 1) for item in part(list, content, kind)]
    if not parts and kind != "not":
        return Everything() if kind == "all" else Nothing()
    if kind == "not" and len(parts) != 1:
        raise JsonValueError("not has one filter")
    return _COMBINED[kind](*parts)


def _of_classes(names: Sequence[Any]) -> Matcher:
    """For `_filter_of`: a filter by classes of nodes or States, which the program has defined."""
    by_name = classes_by_name()
    unknown = [
        name for name in names if not isinstance(name, str) or name not in by_name
    ]
    if unknown or not names:
        text = repr(unknown[0])[:80] if unknown else "none"
        raise JsonValueError(f"no class of nodes or States is {text}; import it first")
    classes: list[Any] = [by_name[name] for name in names]
    return OfType(functools.reduce(operator.or_, classes))


_SCHEMA: Final = {
    "description": "Which States: by class, tag, key or paths, and combinations of these.",
    "type": "object",
    "minProperties": 1,
}
add_json_form(Matcher, tagged("filter", _write, _read, _SCHEMA))
