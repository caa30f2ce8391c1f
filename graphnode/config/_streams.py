"""Random streams in files: `rngs: 0`, or `rngs: {default: 0, dropout: 1}`.

Data in: the seeds that a file gives, by the name of the stream. Data out: a config of
`Rngs`, which is a class with a constructor of its own, and its arguments. A stream
without a seed is made of the key that a model is built with: of a live stream, whose
seed nobody knows any more, a config says the name alone.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import pydantic

from .._declare._annotations import Form
from .._hints import short
from .._keys import derived, number_of
from .._rngs import Rngs
from .._stream import split_key
from ._value_errors import value_error

STREAMS: Final = "streams"
"""The one field of such a config, which files leave out: the names of streams stand where fields do."""

DEFAULT_STREAM: Final = "default"


def is_streams(cls: type) -> bool:
    """Whether a class is the one whose mapping in a file gives seeds."""
    return cls is Rngs


def admits_streams(form: Form) -> bool:
    """Whether the streams of a file stand in a place."""
    return Rngs in form.classes


def as_mapping(raw: object) -> object:
    """The mapping that a seed alone stands for; anything else itself."""
    return (
        {DEFAULT_STREAM: raw}
        if isinstance(raw, int) and not isinstance(raw, bool)
        else raw
    )


def _checked(given: object) -> tuple[tuple[str, int | None], ...]:
    """Names with seeds, in order: static, as what configs hold is."""
    try:
        streams: dict[Any, Any] = dict(cast("Any", given) or {DEFAULT_STREAM: None})
    except (TypeError, ValueError):
        raise value_error(f"{_EXPECTED}, found {short(given)}") from None
    for name, seed in streams.items():
        if (
            not isinstance(name, str)
            or isinstance(seed, bool)
            or not (seed is None or isinstance(seed, int))
        ):
            text = f"{name}: a seed is an integer, or null for one of the key that the model is built with"
            raise value_error(f"{text}; found {short(seed)}")
    return tuple(sorted(streams.items()))


_EXPECTED: Final = "seeds by the names of streams are expected here"

SEEDS: Final[Mapping[str, Any]] = {"type": ["integer", "null"]}
"""What JSON Schemas say of a seed."""

Seeds: Final[Any] = pydantic.PlainValidator(_checked)


def arguments_of(streams: Iterable[tuple[str, int | None]]) -> dict[str, Any]:
    """The arguments of `Rngs`: seeds, and for streams without one keys of the ambient stream, each by its name."""
    given = dict(streams)
    if None not in given.values():
        return given
    key = split_key()
    # Not one key after the other: to give one stream a seed, or to add one, changes no
    # other.
    return {
        name: derived(key, number_of(name)) if seed is None else seed
        for name, seed in given.items()
    }


def new_streams() -> Rngs:
    """The streams of a node in a file that is given none, where it takes them: of the ambient stream."""
    return Rngs(**arguments_of([(DEFAULT_STREAM, None)]))


def names_of(rngs: Rngs) -> dict[str, None]:
    """What a config says of live streams."""
    return dict.fromkeys(rngs.streams)
