"""Filters in files: paths with globs, and names of State classes; and what is said by them, in a mapping.

Data in: texts of a file. Data out: filters as objects, or labels by filter; and the way
back.

    encoder.weight        the State at this path
    blocks.*.weight       the States at these paths
    encoder.**            all at and below this path
    **                    everything
    ParamState            the States of this class
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .._errors import PathError
from .._filters import All, Everything, Matcher, OfType, PathIn, Under, as_filter
from .._filters import Any as AnyOf
from .._hints import short
from .._state import ParamState, State
from .._static import DataValueError
from ..optim._labels import Labels
from ._registry import newest, with_subclasses
from ._value_errors import value_error

EVERYTHING: Final = "**"
_BELOW: Final = ".**"
_EXPECTED: Final = "paths, or names of State classes, are expected here"

FILTER_SCHEMA: Final[Mapping[str, Any]] = {
    "description": "Paths, with globs (`encoder.**`, `blocks.*.weight`), and names of State classes.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
    ],
}


def read_filter(given: Any) -> Matcher:
    """The filter of a path or class, or of a list of them: what is at one of the paths, and of one of the classes.

    Raises:
        PydanticCustomError: It is none of these; or a text is not a path, or the name
            of several classes.
    """
    if isinstance(given, str):
        return _of_texts([given])
    if isinstance(given, Matcher | type):  # what a program gives
        return as_filter(given)
    if not isinstance(given, list):
        raise value_error(f"{_EXPECTED}, found {short(given)}")
    return _of_texts(given)


def read_filter_or_none(given: Any) -> Matcher | None:
    """The same; `None` for nothing."""
    return None if given is None else read_filter(given)


def read_parameters(given: Any) -> Matcher:
    """The same for what an optimizer is to change: the parameters, unless a class is named."""
    found = read_filter(given)
    is_where = (
        isinstance(given, (str, list))
        and not isinstance(found, All)
        and _classes_of(found) is None
    )
    return All(ParamState, found) if is_where else found


def _of_texts(texts: Sequence[Any]) -> Matcher:
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise value_error(f"{_EXPECTED}, found {short(list(texts))}")
    named = _state_classes()
    classes = [_the_one(named[text], text) for text in texts if text in named]
    paths = [text for text in texts if text not in named]
    try:
        parts = [_any_of(filters) for filters in (classes, _by_path(paths)) if filters]
    except PathError as error:
        raise value_error(str(error)) from None
    return parts[0] if len(parts) == 1 else All(*parts)


def _by_path(paths: Sequence[str]) -> list[Matcher]:
    found: list[Matcher] = [Everything()] if EVERYTHING in paths else []
    below = [path.removesuffix(_BELOW) for path in paths if path.endswith(_BELOW)]
    at = [path for path in paths if path != EVERYTHING and not path.endswith(_BELOW)]
    if below:
        found.append(Under(*below))
    if at:
        found.append(PathIn(*at))
    return found


# Any: of classes or of filters.
def _any_of(filters: Sequence[Any]) -> Matcher:
    return as_filter(filters[0]) if len(filters) == 1 else AnyOf(*filters)


def _state_classes() -> dict[str, list[type[State[Any]]]]:
    named: dict[str, list[type[State[Any]]]] = {}
    for cls in newest(with_subclasses((State,))):
        named.setdefault(cls.__name__, []).append(cls)
    return named


def _the_one(classes: Sequence[type[State[Any]]], name: str) -> type[State[Any]]:
    if len(classes) > 1:
        raise value_error(
            f"several State classes are named {name!r}: {', '.join([cls.__module__ for cls in classes])}"
        )
    return classes[0]


def filter_data(given: Matcher) -> str | list[str]:
    """What a file says for a filter.

    Raises:
        DataValueError: No file can say it.
    """
    texts = _texts_of(given)
    if texts is None or read_filter(texts) != given:
        raise DataValueError(
            f"no file says the filter {given!r}: paths and classes of States are what it can say"
        )
    return texts[0] if len(texts) == 1 else texts


def _texts_of(given: Matcher) -> list[str] | None:
    if isinstance(given, Everything):
        return [EVERYTHING]
    if isinstance(given, Under):
        return [f"{text}{_BELOW}" for text in given.texts]
    if isinstance(given, PathIn):
        return list(given.texts)
    classes = _classes_of(given)
    if classes is not None:
        return classes
    if isinstance(given, (AnyOf, All)):
        parts = [_texts_of(part) for part in given.parts]
        return (
            None if None in parts else [text for part in parts for text in part or ()]
        )
    return None


def _classes_of(given: Matcher) -> list[str] | None:
    """The names of State classes that a filter by class selects by."""
    parts = given.parts if isinstance(given, AnyOf) else (given,)
    names = [
        cls.__name__
        for part in parts
        if isinstance(part, OfType)
        for cls in part.classes
    ]
    return names if names and all(isinstance(part, OfType) for part in parts) else None


def labels_of(rows: Mapping[str, Any]) -> Labels[Any]:
    """Labels by filter from a mapping. `**`, which is for what no other one selects, may stand anywhere in it.

    Raises:
        PydanticCustomError: A key is not a filter.
    """
    # Last, as `...` in a program.
    keys = sorted(rows, key=lambda key: key == EVERYTHING)
    return Labels(
        tuple([read_filter(key) for key in keys]), tuple([rows[key] for key in keys])
    )


def labels_data(
    given: Labels[Any], write_label: Callable[[Any], Any]
) -> dict[str, Any]:
    """What a file says for labels.

    Raises:
        DataValueError: No file can say a filter, or a label.
    """
    keys = [filter_data(matcher) for matcher in given.filters]
    for key in keys:
        if not isinstance(key, str):
            raise DataValueError(
                f"a file says labels by one path each, not by {', '.join(key)} together"
            )
    return {
        str(key): write_label(label)
        for key, label in zip(keys, given.values, strict=True)
    }
