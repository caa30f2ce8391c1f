"""Static values as data for files: strings, numbers, lists and dicts. `_values.configurable` reads them back.

The data alone does where the annotation tells the class of a value. Where the class is
one of several, its name stands beside: `{type: Mode, value: fast}`.
"""

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import pydantic

from .._filters import Matcher
from .._static import ByName, DataForm, DataValueError, kind_of, registered_name
from ..nn.initializers import Preset
from ..optim._calls import Call, factories
from ..optim._labels import Labels
from ..optim._memory import Transformation
from ._config import Config, field_value, same_static
from ._filters_as_paths import filter_data, labels_data
from ._typed import REGISTERED, TYPE, VALUE, is_record, name_of

WritePart: TypeAlias = Callable[[Any], Any]
"""`plain` for what is in a value."""


class Typed(enum.IntEnum):
    """Which values name their class, in a file."""

    NONE = 0
    RECORDS = 1
    """`{type: Adam, rate: 0.1}`."""
    ALL = 2
    """Others too: `{type: Mode, value: fast}`."""


class Unordered(list[Any]):
    """The items of a set, as a list. A file may give them in any order, so that no position means one of them."""


def plain(value: Any, typed: Typed = Typed.NONE) -> Any:
    """A static value as data for a file, by its static kind; for `written`, and for defaults in a JSON Schema.

    Args:
        value: The value.
        typed: Whether it names its class, as do the values in it.

    Raises:
        DataValueError: No file can hold it.
    """
    write_part = functools.partial(plain, typed=typed)
    if isinstance(value, list):  # a default of an init variable, say
        return [write_part(item) for item in value]
    form = kind_of(value).data
    is_own = isinstance(form, DataForm) and form.is_own
    # The name first, as an instance of a registered class may have one of its own.
    name = None if is_own else registered_name(value)
    if name is not None:
        return {TYPE: REGISTERED, VALUE: name} if typed is Typed.ALL else name
    if isinstance(form, ByName):
        raise DataValueError(_unnamed_fault(value, form))
    for cls, write in _WRITERS.items():
        if isinstance(value, cls):
            return write(value, write_part)
    _check_can_be_written(value)
    data = form.write(value, write_part)
    if isinstance(value, frozenset):
        data = Unordered(data)
    has_class = is_own or type(value) is tuple  # JSON's own types
    return data if has_class else _with_class(type(value), data, typed)


def _with_class(cls: type, data: Any, typed: Typed) -> Any:
    """The data of a value, with the name of its class beside where `typed` asks for it: reading it may need that."""
    if is_record(cls):
        return {TYPE: name_of(cls), **data} if typed >= Typed.RECORDS else data
    return {TYPE: name_of(cls), VALUE: data} if typed is Typed.ALL else data


def _unnamed_fault(value: Any, form: ByName) -> str:
    """Why a value without a name is not written, whose kind files have only by name; for a schedule, what to do."""
    # optax makes schedules as closures: a name would say nothing of their arguments.
    if str(getattr(value, "__module__", "")).startswith("optax."):
        return f"a schedule {_NO_CALL}"
    return form.fault(getattr(value, "__qualname__", None) or repr(value))


def _check_can_be_written(value: Any) -> None:
    """Raise for a text or transformation of which a file would have only a part, so that it is not lost in silence.

    Raises:
        DataValueError: It is such a value.
    """
    if isinstance(value, str) and _has_half_a_pair(value):
        raise DataValueError(
            "a text with half of a surrogate pair does not stand in a file"
        )
    if isinstance(value, Transformation) and not dataclasses.is_dataclass(value):
        raise DataValueError(f"a transformation {_NO_CALL}")


_NO_CALL: Final = "does not say what made it: make it with gn.optim.call"


def _call_data(call: Call, write_part: WritePart) -> dict[str, Any]:
    """For a file: the call of a factory of optax by its name and arguments, `{type: adamw, learning_rate: 0.001}`."""
    check_has_name(call)
    arguments = {name: write_part(item) for name, item in call.explicit().items()}
    return {TYPE: name_of(type(call)), **arguments}


def _preset_data(preset: Preset, write_part: WritePart) -> dict[str, Any]:
    """For a file: an initialiser by its name and the arguments that are not the default ones."""
    data: dict[str, Any] = {TYPE: name_of(type(preset))}
    fields: Any = preset  # a dataclass, as all of its subclasses are
    for field in dataclasses.fields(fields):
        value = getattr(preset, field.name)
        if value != field.default:
            data[field.name] = write_part(value)
    return data


# Values that stand otherwise in a file than their static kind has it: for an optimizer,
# and initialisers.
_WRITERS: Final[Mapping[type, Callable[[Any, WritePart], Any]]] = {
    Call: _call_data,
    Preset: _preset_data,
    Labels: labels_data,
    Matcher: lambda matcher, _: filter_data(matcher),
}


def _has_half_a_pair(text: str) -> bool:
    """Whether a text has half of a surrogate pair, which UTF-8 cannot encode, and therefore no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def check_has_name(call: Call) -> None:
    """Raise if no file names the function that a call of optax calls: it could not be read back.

    Raises:
        DataValueError: It does not.
    """
    name = type(call).__name__
    # By identity: another function may have the name.
    if factories().get(name) is not call.factory:
        text = "no file names the function that made it; register it with"
        raise DataValueError(
            f"{name}(...): {text} gn.config.register({name!r}, {name})"
        )


def written(config: Config[Any], name: str) -> Any:
    """A static value of a config as data, with its class only where it would be read back as another value without.

    For files, and for `override`, which changes a part of the data.

    Raises:
        DataValueError: No file can hold it.
    """
    value = config.__dict__[name]
    misread: list[Any] = []
    data: Any = None
    # From the shortest form to the longest: reading it back shows which is enough.
    for typed in Typed:
        data = plain(value, typed)
        try:
            is_same = same_static(field_value(config, name, data), value)
        except pydantic.ValidationError:
            # With the name of its class, the value may be accepted.
            continue
        if is_same:
            return data
        misread.append(data)
    # All are wrong. One that is read as another value makes the better message, when the
    # caller compares.
    return misread[0] if misread else data
