"""Static values as data for files: strings, numbers, lists and dicts. `_values.configurable` reads them back.

Data in: a static value. Data out: what a file says of it, where the annotation tells
its class; or with the name of the class beside it, where that is one of several.
"""

import dataclasses
import enum
import functools
from typing import Any

import pydantic

from .._filters import Matcher
from .._static import ByName, DataForm, DataValueError, kind_of, registered_name
from ..optim._calls import Call, factories
from ..optim._labels import Labels
from ..optim._memory import Transformation
from ._config import Config, field_value, same_static
from ._filters_as_paths import filter_data, labels_data
from ._typed import REGISTERED, TYPE, VALUE, is_record, name_of


class Typed(enum.IntEnum):
    """Which values say their class, in a file."""

    NONE = 0
    RECORDS = 1
    """`{type: Adam, rate: 0.1}`."""
    ALL = 2
    """Others too: `{type: Mode, value: fast}`."""


class Unordered(list[Any]):
    """The items of a set, as a list: a file may give them in another order, so that no position means one of them."""


def plain(value: Any, typed: Typed = Typed.NONE) -> Any:
    """A static value as data for a file.

    Args:
        value: The value.
        typed: Whether it says its class, as do the values in it.

    Raises:
        DataValueError: No file can say it.
    """
    if isinstance(value, str) and _has_half_a_pair(value):
        raise DataValueError(
            "a text with half of a surrogate pair does not stand in a file"
        )
    write_part = functools.partial(plain, typed=typed)
    if isinstance(value, list):  # what a tuple may be given as
        return [write_part(item) for item in value]
    form = kind_of(value).data
    is_own = isinstance(form, DataForm) and form.is_own
    name = None if is_own else registered_name(value)
    if name is not None:
        return {TYPE: REGISTERED, VALUE: name} if typed is Typed.ALL else name
    if isinstance(form, ByName) and str(getattr(value, "__module__", "")).startswith(
        "optax."
    ):
        raise DataValueError(
            "a schedule does not say what made it: make it with gn.optim.call"
        )
    if isinstance(form, ByName):
        raise DataValueError(
            form.fault(getattr(value, "__qualname__", None) or repr(value))
        )
    cls = type(value)
    if isinstance(value, Call):
        check_has_name(value)
        return {
            TYPE: name_of(cls),
            **{name: write_part(item) for name, item in value.explicit().items()},
        }
    if isinstance(value, Labels):
        return labels_data(value, write_part)
    if isinstance(value, Matcher):
        return filter_data(value)
    if isinstance(value, Transformation) and not dataclasses.is_dataclass(cls):
        raise DataValueError(
            "a transformation does not say what made it: make it with gn.optim.call"
        )
    data = _without_order(value, form.write(value, write_part))
    if is_own or cls is tuple:
        return data
    if is_record(cls):
        return {TYPE: name_of(cls), **data} if typed >= Typed.RECORDS else data
    return {TYPE: name_of(cls), VALUE: data} if typed is Typed.ALL else data


# Any: data for a file.
def _without_order(value: Any, data: Any) -> Any:
    return Unordered(data) if isinstance(value, frozenset) else data


def _has_half_a_pair(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def check_has_name(call: Call) -> None:
    """Raise if no file names the function that was called.

    Raises:
        DataValueError: It does not.
    """
    name = type(call).__name__
    if factories().get(name) is not call.factory:
        text = "no file names the function that made it; register it with"
        raise DataValueError(
            f"{name}(...): {text} gn.config.register({name!r}, {name})"
        )


def written(config: Config[Any], name: str) -> Any:
    """A static value of a config as data: with its class only where it would be read back as another value without.

    Raises:
        DataValueError: No file can say it.
    """
    value = config.__dict__[name]
    read_otherwise: list[Any] = []
    data: Any = None
    for typed in Typed:
        data = plain(value, typed)
        try:
            if same_static(field_value(config, name, data), value):
                return data
            read_otherwise.append(data)
        except pydantic.ValidationError:
            continue
    # Of forms that are all wrong, a message can tell most of one that is read as
    # another value.
    return read_otherwise[0] if read_otherwise else data
