"""Read a box of an array from a file: what `array[2:4, :, ::2]` takes, without the rows beside it.

shape (6, 4, 3), box [2:4, 1:3, :]     . row not read     r read     x read and wanted

. . . .    . . . .    x x r r    x x r r
. . . .    . . . .    x x r r    ...            small rows: read through, and copied from
. . . .    . . . .    . x x .    . x x .        large rows: one by one, each a box itself
"""

import itertools
import math
import mmap
import operator
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, Final, TypeAlias, cast

import jax
import numpy as np
from jax.sharding import Sharding

Index: TypeAlias = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]

Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]
ReadInto: TypeAlias = Callable[[Bytes, int], None]
"""Fills a row of bytes with those of a file from a position on."""

# To read this much takes as long as another call: between two wanted pieces it is read, not jumped over.
_NEAR: Final = 2**16
_BUFFER: Final = 2**22

# From this size on NumPy asks Linux for huge pages. It may have to move others for them:
# then the same read takes five times as long.
_LARGE: Final = 2**22
_PRIVATE: Final[dict[str, int]] = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    if hasattr(mmap, "MAP_ANONYMOUS")
    else {}
)


def on_devices(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    sharding: Sharding,
    read: "Callable[[tuple[slice, ...]], np.ndarray[Any, np.dtype[Any]]]",
) -> jax.Array:
    """An array over the devices of a sharding, each of which gets its part.

    Args:
        shape: Of the array.
        dtype: Of the array.
        sharding: Where it is to be.
        read: Reads a part: of each axis, a start and a stop.
    """
    # Devices with the same part: it is read once.
    parts: dict[tuple[tuple[int, int], ...], np.ndarray[Any, np.dtype[Any]]] = {}

    def part_at(
        index: tuple[slice, ...] | None,
    ) -> "np.ndarray[Any, np.dtype[Any]]":
        rows = zip(index or (), shape, strict=False)
        key = tuple([slice_.indices(size)[:2] for slice_, size in rows])
        if key not in parts:
            parts[key] = read(tuple([slice(*ends) for ends in key]))
        return parts[key]

    return jax.make_array_from_callback(shape, sharding, part_at, dtype=dtype)


def read_box(
    dtype: np.dtype[Any],
    shape: Sequence[int],
    start: int,
    index: Index,
    read_into: ReadInto,
) -> "np.ndarray[Any, np.dtype[Any]]":
    """A part of an array in a file, as `array[index]` would be; beside it at most a buffer is in memory.

    Args:
        dtype: Of the array.
        shape: Of the array.
        start: Its first byte in the file.
        index: Integers, slices, and one `...`.
        read_into: Reads from the file.

    Raises:
        IndexError: The array has no such part.
        TypeError: The index is something else, such as an array.
    """
    if index is ...:
        whole = _empty(shape, dtype)
        if whole.size:
            read_into(whole.reshape(-1).view(np.uint8), start)
        return whole
    box, view = _resolve(index, shape)
    part = _empty([len(rows) for rows in box], dtype)
    if part.size:
        _fill(part, shape, start, box, read_into)
    return cast("np.ndarray[Any, np.dtype[Any]]", part[view])


def _empty(
    shape: Sequence[int], dtype: np.dtype[Any]
) -> "np.ndarray[Any, np.dtype[Any]]":
    """For `read_box`: memory for an array, as `np.empty` has it."""
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    memory = np.frombuffer(mmap.mmap(-1, size, **_PRIVATE), np.uint8)
    return memory.view(dtype).reshape(shape)


def _resolve(
    index: Index, shape: Sequence[int]
) -> tuple[list[range], tuple["int | slice | EllipsisType", ...]]:
    """For `read_box`: the rows of each axis from first to last, and the index that makes of them what was asked for."""
    items = index if isinstance(index, tuple) else (index,)
    around = [at for at, item in enumerate(items) if item is ...] or [len(items)]
    before, after = items[: around[0]], items[around[0] + 1 :]
    missing = len(shape) - len(before) - len(after)
    if missing < 0 or len(around) > 1:
        raise IndexError(
            f"an array with {len(shape)} axes has no part [{_shown(items)}]"
        )
    full = (slice(None),) * missing
    box: list[range] = []
    view: list[int | slice | EllipsisType] = []
    for item, length in zip((*before, *full, *after), shape, strict=True):
        if isinstance(item, slice):
            rows = range(length)[item]
            view.append(slice(None, None, -1 if rows.step < 0 else 1))
            rows = rows[::-1] if rows.step < 0 else rows
            # One row has no step, and nothing between it and the next.
            box.append(
                rows if len(rows) > 1 else range(rows.start, rows.start + len(rows))
            )
        else:
            row = _row(item, length, items)
            view.append(0)
            box.append(range(row, row + 1))
    # With it the result is an array even if it has no axes.
    return box, (*view, ...)


# Any: whatever stands in an index.
def _row(item: Any, length: int, items: Sequence[Any]) -> int:
    """For `_resolve`: the row that an integer means; negative ones count from the end."""
    if isinstance(item, (bool, np.bool_)) or not hasattr(item, "__index__"):
        raise TypeError(
            f"an array in a file takes integers and slices, found [{_shown(items)}]; read it, and index what you have"
        )
    try:
        return range(length)[operator.index(item)]
    except IndexError:
        raise IndexError(f"an axis of size {length} has no row {item}") from None


def _shown(items: Sequence[Any]) -> str:
    """An index as programs have it: `2:4, ...`."""
    texts: list[str] = []
    for item in items:
        if isinstance(item, slice):
            ends = [item.start, item.stop, item.step][: 2 if item.step is None else 3]
            texts.append(":".join("" if end is None else str(end) for end in ends))
        else:
            texts.append("..." if item is ... else str(item))
    return ", ".join(texts)[:100]


def _fill(
    part: "np.ndarray[Any, np.dtype[Any]]",
    shape: Sequence[int],
    start: int,
    box: Sequence[range],
    read_into: ReadInto,
) -> None:
    """For `read_box`: read a box that is not empty into contiguous memory of its shape."""
    if not shape or _is_contiguous(shape, box):
        offset = box[0].start * _row_size(part.dtype, shape) if shape else 0
        read_into(part.reshape(-1).view(np.uint8), start + offset)
        return
    rows, row_size = box[0], _row_size(part.dtype, shape)
    if rows.step * row_size < _NEAR:
        _read_through(part, shape, start, box, read_into)
        return
    for at, row in enumerate(rows):
        # With the dots it is a view even of a single item.
        _fill(part[at, ...], shape[1:], start + row * row_size, box[1:], read_into)


def _is_contiguous(shape: Sequence[int], box: Sequence[range]) -> bool:
    """Whether a box is one piece of the file: neighbouring rows, each as a whole."""
    whole = all(
        len(rows) == length
        for rows, length in itertools.islice(zip(box, shape, strict=True), 1, None)
    )
    return whole and box[0].step == 1


def _row_size(dtype: np.dtype[Any], shape: Sequence[int]) -> int:
    """The bytes of one row of the first axis."""
    return dtype.itemsize * math.prod(shape[1:])


def _read_through(
    part: "np.ndarray[Any, np.dtype[Any]]",
    shape: Sequence[int],
    start: int,
    box: Sequence[range],
    read_into: ReadInto,
) -> None:
    """For `_fill`: read all from the first row to the last, and copy what is wanted of it."""
    rows, row_size = box[0], _row_size(part.dtype, shape)
    count = _BUFFER // (rows.step * row_size)
    span = (min(count, len(rows)) - 1) * rows.step + 1
    buffer = np.empty((span, *shape[1:]), part.dtype)
    inner = [slice(other.start, other.stop, other.step) for other in box[1:]]
    for first in range(0, len(rows), count):
        wanted = rows[first : first + count]
        content = buffer[: wanted[-1] - wanted[0] + 1]
        read_into(content.reshape(-1).view(np.uint8), start + wanted[0] * row_size)
        part[first : first + count] = content[(slice(None, None, rows.step), *inner)]
