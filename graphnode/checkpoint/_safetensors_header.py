"""The header of a safetensors file: what it says of each array, and the checks of what a stranger has written.

    8 bytes     the length of the header, little-endian
    header      {"__metadata__": {"format": "np"},
                 "weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    the rest    the bytes of the arrays, C order, little-endian, without a gap

The numbers in the header decide what is read and how much memory that takes. So all of
them are compared with each other and with the size of the file before the first array is
read.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._errors import Fault

MAX_HEADER: Final = 100_000_000
"""The bytes that a header may have, as in the reference implementation."""

METADATA: Final = "__metadata__"
LENGTH_BYTES: Final = 8
_PARTS: Final = ("dtype", "shape", "data_offsets")
_MAX_AXES: Final = 64
_MAX_BYTES: Final = 2**62

# From the largest alignment to the smallest: files have their arrays in this order, so
# that each starts at a multiple of its item size.
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "U64": np.uint64,
        "I64": np.int64,
        "F64": np.float64,
        "C64": np.complex64,
        "F32": np.float32,
        "U32": np.uint32,
        "I32": np.int32,
        "BF16": jnp.bfloat16,
        "F16": np.float16,
        "U16": np.uint16,
        "I16": np.int16,
        "F8_E5M2FNUZ": jnp.float8_e5m2fnuz,
        "F8_E4M3FNUZ": jnp.float8_e4m3fnuz,
        "F8_E8M0": jnp.float8_e8m0fnu,
        "F8_E4M3": jnp.float8_e4m3fn,
        "F8_E5M2": jnp.float8_e5m2,
        "I8": np.int8,
        "U8": np.uint8,
        "BOOL": np.bool_,
    }.items()
}

# The format leaves to each program how it packs them into bytes.
_PACKED: Final = ("F4", "F6_E2M3", "F6_E3M2")


class HeaderFaultsError(Exception):
    """What is wrong with a header or an index. Raised and caught within `checkpoint`."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__(self.faults)


class Entry(NamedTuple):
    """What a header says of one array.

    Attributes:
        dtype: As NumPy has it.
        shape: Sizes of its axes.
        start: Its first byte, from the start of the arrays.
        stop: The byte after its last one.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


class Header(NamedTuple):
    """A header.

    Attributes:
        entries: By the name of the array, in the order of their bytes.
        metadata: What the program that wrote the file has added.
    """

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]


def header_size(prefix: bytes, file_size: int) -> int:
    """The length of a header, from the first bytes of the file.

    Raises:
        HeaderFaultsError: The file cannot have one of this length.
    """
    if len(prefix) < LENGTH_BYTES:
        raise HeaderFaultsError(
            [f"not a safetensors file: it has {len(prefix)} bytes, and those have more"]
        )
    size = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    if size > MAX_HEADER:
        raise HeaderFaultsError(
            [
                f"not a safetensors file: its header would have {size:,} bytes, and may have {MAX_HEADER:,}"
            ]
        )
    rest = file_size - LENGTH_BYTES
    if size > rest:
        raise HeaderFaultsError(
            [
                f"the file is cut off: its header has {size:,} bytes, and {rest:,} are left"
            ]
        )
    return size


def parse_header(content: bytes, data_size: int) -> Header:
    """What a header says, once all of it fits together and into the file.

    Args:
        content: The JSON.
        data_size: How many bytes of the file follow.

    Raises:
        HeaderFaultsError: It does not; names every array that is wrong.
    """
    if not content.startswith(b"{"):
        raise HeaderFaultsError(["the header does not start with {"])
    data = parse_object(content, "the header")
    metadata = _read_metadata(data.pop(METADATA, {}))
    entries: dict[str, Entry] = {}
    faults: list[Fault] = []
    for name, description in data.items():
        try:
            entries[name] = _read_entry(description, data_size)
        except ValueError as error:
            faults.append(Fault(str(error), path=shown(name)))
    if faults:
        raise HeaderFaultsError(faults)
    ordered = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    _check_coverage(ordered, data_size)
    return Header(ordered, metadata)


# Any: JSON.
def parse_object(content: bytes, what: str) -> dict[str, Any]:
    """A JSON object as data, without what the json module lets pass: repeated keys, NaN, halves of characters.

    Raises:
        HeaderFaultsError: It is something else; calls it `what`.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HeaderFaultsError(
            [f"{what} is not UTF-8: {error.reason} at byte {error.start}"]
        ) from None
    try:
        data = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_with_unique_keys
        )
        # A text may have escapes that stand for no character.
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise HeaderFaultsError([f"{what} is nested too deeply"]) from None
    except ValueError as error:
        raise HeaderFaultsError([f"{what} is not JSON: {str(error)[:100]}"]) from None
    if not isinstance(data, dict):
        raise HeaderFaultsError([f"{what} is not a JSON object"])
    return data


def _refuse_constant(name: str) -> Any:
    """For `parse_object`: raise at NaN and the infinities."""
    raise ValueError(f"JSON has no {name}")


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `parse_object`: an object of its keys and values; raises if a key stands twice."""
    data = dict(pairs)
    if len(data) < len(pairs):
        keys: set[str] = set()
        for key, _ in pairs:
            if key in keys:
                raise ValueError(f"{shown(key)} stands twice in an object")
            keys.add(key)
    return data


def _read_metadata(data: Any) -> dict[str, str]:
    """For `parse_header`: the texts that a program has added."""
    if not isinstance(data, dict):
        raise HeaderFaultsError([f"{METADATA} is not an object of texts"])
    for key, text in data.items():
        if not isinstance(text, str):
            raise HeaderFaultsError(
                [f"{METADATA} is not an object of texts: see {shown(key)}"]
            )
    return dict(data)


def _read_entry(data: Any, data_size: int) -> Entry:
    """For `parse_header`: what is said of one array."""
    if not isinstance(data, dict) or set(data) != set(_PARTS):
        raise ValueError("expected an object of dtype, shape and data_offsets")
    name, shape, offsets = [data[part] for part in _PARTS]
    if name in _PACKED:
        raise ValueError(
            f"{name} has several numbers in a byte, in an order that the format does not say"
        )
    if not isinstance(name, str) or name not in DTYPES:
        raise ValueError(f"{shown(name)} is not one of the dtypes {', '.join(DTYPES)}")
    if not isinstance(shape, list) or not all(map(_is_size, shape)):
        raise ValueError("shape is not a list of sizes")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(map(_is_size, offsets))
    ):
        raise ValueError("data_offsets are not two positions in the file")
    start, stop = offsets
    if start > stop:
        raise ValueError(f"its bytes end at {stop}, before they start at {start}")
    if stop > data_size:
        raise ValueError(
            f"its bytes end at {stop}, and the file has {data_size} bytes of arrays"
        )
    dtype = DTYPES[name]
    check_shape(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    if size != stop - start:
        axes = ",".join(map(str, shape))
        raise ValueError(
            f"{name}[{axes}] takes {size} bytes, and data_offsets give it {stop - start}"
        )
    return Entry(dtype, tuple(shape), start, stop)


def check_shape(shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Raise if no array of NumPy has this shape.

    Raises:
        ValueError: Too many axes, or too many items; those beside an axis of size 0 count.
    """
    if len(shape) > _MAX_AXES:
        raise ValueError(
            f"it has {len(shape)} axes, and an array has at most {_MAX_AXES}"
        )
    # Step by step: the product of a million sizes is a number of millions of digits.
    size = dtype.itemsize
    for length in shape:
        size *= max(length, 1)
        if size > _MAX_BYTES:
            raise ValueError("its shape has more items than memory can hold")


# Any: JSON.
def _is_size(data: Any) -> bool:
    """For `_read_entry`: whether it is a whole number from 0 on; `True` is not."""
    return type(data) is int and data >= 0


def _check_coverage(entries: Mapping[str, Entry], data_size: int) -> None:
    """For `parse_header`: raise unless each byte belongs to one array.

    Bytes of two arrays would make one change with the other, and bytes of none may hold
    another file.
    """
    end, before = 0, ""
    for name, entry in entries.items():
        if entry.start < end:
            what = f"its bytes start at {entry.start}, within those of {shown(before)}"
            raise HeaderFaultsError([Fault(what, path=shown(name))])
        if entry.start > end:
            what = f"its bytes start at {entry.start}, and no array has those from {end} on"
            raise HeaderFaultsError([Fault(what, path=shown(name))])
        end, before = entry.stop, name
    if end != data_size:
        raise HeaderFaultsError(
            [f"no array has the last {data_size - end} bytes of the file"]
        )


# Any: JSON.
def shown(name: Any) -> str:
    """A name from a file as messages have it: of a length, and on a line, that can be read."""
    if isinstance(name, str) and re.fullmatch(r"[\w.:/+-]{1,200}", name):
        return name
    text = ascii(name)
    return text if len(text) <= 200 else f"{text[:200]}..."
