"""Random streams in files: `rngs: 0`, or `rngs: {default: 0, dropout: 1}`.

The file gives seeds by the names of streams; the constructor of `Rngs` takes them as it
likes. A stream without a seed is made of the key that a model is built with. Nobody
knows the seed of a live stream any more, so that its config has the name alone.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import pydantic

from .._declare._forms import Form
from .._hints import short
from .._keys import derived, number_of
from .._rngs import Rngs
from .._stream import split_key
from ._value_errors import value_error

STREAMS: Final = "streams"
"""The one field of such a config, which files leave out: the names of streams stand where fields do."""

DEFAULT_STREAM: Final = "default"


def is_streams(cls: type) -> bool:
    """Whether a class is `Rngs` itself, of which a file gives seeds by the names of streams.

    Its config is read, written and built otherwise than those of other classes.
    """
    return cls is Rngs


def admits_streams(form: Form) -> bool:
    """Whether a place of this form takes random streams: then a seed alone will do in a file, or nothing."""
    return Rngs in form.classes


def as_mapping(raw: object) -> object:
    """The mapping that a seed alone stands for (`rngs: 0`); anything else itself."""
    # In Python a bool is an int; in a file, `true` is no seed.
    is_seed = isinstance(raw, int) and not isinstance(raw, bool)
    return {DEFAULT_STREAM: raw} if is_seed else raw


def _validate(data: object) -> tuple[tuple[str, int | None], ...]:
    """The value of the field `streams`, for pydantic: names with seeds, in order; static, as what configs hold is."""
    try:
        streams: dict[Any, Any] = dict(cast("Any", data) or {DEFAULT_STREAM: None})
    except (TypeError, ValueError):
        raise value_error(f"{_EXPECTED}, found {short(data)}") from None
    for name, seed in streams.items():
        is_seed = isinstance(seed, int | None) and not isinstance(seed, bool)
        if not isinstance(name, str) or not is_seed:
            text = f"{name}: a seed is an integer, or null for one of the key that the model is built with"
            raise value_error(f"{text}; found {short(seed)}")
    return tuple(sorted(streams.items()))


_EXPECTED: Final = "seeds by the names of streams are expected here"

SEEDS: Final[Mapping[str, Any]] = {"type": ["integer", "null"]}
"""The JSON Schema of a seed."""

Seeds: Final[Any] = pydantic.PlainValidator(_validate)


def stream_arguments(streams: Iterable[tuple[str, int | None]]) -> dict[str, Any]:
    """The arguments of `Rngs`, when one is built: seeds by name, and a key of the ambient stream for each `None`."""
    arguments: dict[str, Any] = dict(streams)
    if None not in arguments.values():
        return arguments
    key = split_key()
    # By name, not one key after the other: giving one stream a seed, or adding one,
    # changes no other.
    for name, seed in arguments.items():
        if seed is None:
            arguments[name] = derived(key, number_of(name))
    return arguments


def new_streams() -> Rngs:
    """The streams of a node whose file gives it none: one, `default`, from the ambient stream."""
    return Rngs(**stream_arguments([(DEFAULT_STREAM, None)]))


def names_of(rngs: Rngs) -> dict[str, None]:
    """The streams of a live `Rngs` as its config has them: names, with `None` in place of seeds."""
    return dict.fromkeys(rngs.streams)
