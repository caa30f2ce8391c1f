"""Filters in files, as texts: paths with globs, and names of State classes; and mappings with such texts as keys.

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


def read_filter(data: Any) -> Matcher:
    """The filter of a path or class, or of a list of them: what is at one of the paths, and of one of the classes.

    Raises:
        PydanticCustomError: It is none of these; or a text is not a path, or the name
            of several classes.
    """
    if isinstance(data, str):
        return _of_texts([data])
    if isinstance(data, Matcher | type):  # what a program gives
        return as_filter(data)
    if not isinstance(data, list):
        raise value_error(f"{_EXPECTED}, found {short(data)}")
    return _of_texts(data)


def read_filter_or_none(data: Any) -> Matcher | None:
    """The filter of a path or class, or of a list of them (see `read_filter`); `None` for null."""
    return None if data is None else read_filter(data)


def read_parameters(data: Any) -> Matcher:
    """The filter of what an optimizer is to change: among the parameters, unless a class is named."""
    matcher = read_filter(data)
    if not isinstance(data, (str, list)):
        return matcher
    # Both paths and classes, or classes alone.
    has_class = isinstance(matcher, All) or _classes_of(matcher) is not None
    return matcher if has_class else All(ParamState, matcher)


def _of_texts(texts: Sequence[Any]) -> Matcher:
    """The filter of some texts: at one of the paths among them, and of one of the classes."""
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise value_error(f"{_EXPECTED}, found {short(list(texts))}")
    named = _state_classes()
    classes = [_only_class(named[text], text) for text in texts if text in named]
    paths = [text for text in texts if text not in named]
    try:
        parts = [
            _any_of(filters) for filters in (classes, _path_filters(paths)) if filters
        ]
    except PathError as error:
        raise value_error(str(error)) from None
    return parts[0] if len(parts) == 1 else All(*parts)


def _path_filters(paths: Sequence[str]) -> list[Matcher]:
    """The filters of some paths: one for `**`, one for all that end with `.**`, and one for the others."""
    filters: list[Matcher] = [Everything()] if EVERYTHING in paths else []
    below = [path.removesuffix(_BELOW) for path in paths if path.endswith(_BELOW)]
    at = [path for path in paths if path != EVERYTHING and not path.endswith(_BELOW)]
    if below:
        filters.append(Under(*below))
    if at:
        filters.append(PathIn(*at))
    return filters


# Any: of classes or of filters.
def _any_of(filters: Sequence[Any]) -> Matcher:
    """The filter for what one of several filters, or of several classes, selects; a single one stays itself."""
    return as_filter(filters[0]) if len(filters) == 1 else AnyOf(*filters)


def _state_classes() -> dict[str, list[type[State[Any]]]]:
    """The State classes that are known, by name: a text in a filter that is none of these is a path."""
    named: dict[str, list[type[State[Any]]]] = {}
    for cls in newest(with_subclasses((State,))):
        named.setdefault(cls.__name__, []).append(cls)
    return named


def _only_class(classes: Sequence[type[State[Any]]], name: str) -> type[State[Any]]:
    """The class that a name in a filter stands for; an error if there are several, of which no text says one."""
    if len(classes) > 1:
        modules = ", ".join([cls.__module__ for cls in classes])
        raise value_error(f"several State classes are named {name!r}: {modules}")
    return classes[0]


def filter_data(matcher: Matcher) -> str | list[str]:
    """The text, or list of texts, that a file has for a filter.

    For `dump`, with an optimizer.

    Raises:
        DataValueError: No file can hold it.
    """
    texts = _texts_of(matcher)
    # Texts join filters in one way alone: `All` and `Any` may be nested otherwise.
    if texts is None or read_filter(texts) != matcher:
        raise DataValueError(
            f"no file says the filter {matcher!r}: paths and classes of States are what it can say"
        )
    return texts[0] if len(texts) == 1 else texts


def _texts_of(matcher: Matcher) -> list[str] | None:
    """The texts of all that a filter is made of, for `filter_data`; `None` where a part has none."""
    if isinstance(matcher, Everything):
        return [EVERYTHING]
    if isinstance(matcher, Under):
        return [f"{text}{_BELOW}" for text in matcher.texts]
    if isinstance(matcher, PathIn):
        return list(matcher.texts)
    # Before the parts: classes that `Any` joins stand in one list.
    classes = _classes_of(matcher)
    if classes is not None or not isinstance(matcher, (AnyOf, All)):
        return classes
    texts: list[str] = []
    for part in matcher.parts:
        part_texts = _texts_of(part)
        if part_texts is None:
            return None
        texts += part_texts
    return texts


def _classes_of(matcher: Matcher) -> list[str] | None:
    """The names of the State classes that a filter selects; `None` for a filter that is not by class alone.

    Classes stand in one list in a file; and an optimizer takes parameters alone where a
    filter names none.
    """
    names: list[str] = []
    for part in matcher.parts if isinstance(matcher, AnyOf) else (matcher,):
        if not isinstance(part, OfType):
            return None
        names += [cls.__name__ for cls in part.classes]
    return names or None


def labels_of(rows: Mapping[str, Any]) -> Labels[Any]:
    """Labels by filter, such as transformations for parts of a model, from the mapping in a file.

    `**`, which is for what no other one selects, may stand anywhere in it.

    Raises:
        PydanticCustomError: A key is not a filter.
    """
    # Last, as `...` in a program: the sort is stable.
    keys = sorted(rows, key=lambda key: key == EVERYTHING)
    filters = [read_filter(key) for key in keys]
    return Labels(tuple(filters), tuple([rows[key] for key in keys]))


def labels_data(
    labels: Labels[Any], write_label: Callable[[Any], Any]
) -> dict[str, Any]:
    """The mapping that a file has for labels, such as transformations by filter; `labels_of` is the way back.

    Raises:
        DataValueError: No file can hold a filter, or a label.
    """
    keys: list[str] = []
    for matcher in labels.filters:
        key = filter_data(matcher)
        if not isinstance(key, str):
            raise DataValueError(
                f"a file says labels by one path each, not by {', '.join(key)} together"
            )
        keys.append(key)
    values = map(write_label, labels.values)
    return dict(zip(keys, values, strict=True))
