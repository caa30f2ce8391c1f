"""What differs between two configs, by path."""

from collections.abc import Iterator
from typing import Any

from .._paths import Path, path_order
from ._by_path import (
    MISSING,
    Change,
    WrittenAlike,
    flat,
    reordered,
    same_row,
    static_values,
)
from ._config import Config, check_config, same_static
from ._defaults import opened_like


def diff(config: Config[Any], other: Config[Any], /) -> tuple[Change, ...]:
    """The differences of two configs, by path; none if they are equal.

    Defaults count as values. A node in place of another shows as its `type`, a reference
    as `{ref: path}`, and a dict of nodes whose keys stand in another order as `order
    [first, second]`. A node that one leaves to its class is compared by what the class
    makes, where that is known; written out, what a function makes may draw other random
    numbers, and shows as that.

    Example:
        >>> Linear = gn.config.config_of(gn.nn.Linear)
        >>> for change in gn.config.diff(Linear(in_size=2, out_size=3), Linear(in_size=2, out_size=4)):
        ...     print(change)
        out_size: 3 -> 4
    """
    check_config(config)
    check_config(other)
    # What one leaves to its class and the other writes out is compared by what the
    # class would make.
    left, opened_left = opened_like(config, other)
    right, opened_right = opened_like(other, config)
    different = _differences(left, right)
    # The paths with a difference at or below them: a default shows as written out only
    # where nothing in it differs.
    changed: set[Path] = set()
    for change in different:
        changed |= {change.path[:length] for length in range(len(change.path) + 1)}
    for path, (left_out, written_out) in opened_left.items():
        if path not in changed or written_out.draws_otherwise:
            different.append(Change(path, left_out, written_out))
    for path, (left_out, written_out) in opened_right.items():
        if path not in changed or written_out.draws_otherwise:
            different.append(Change(path, written_out, left_out))
    return tuple(sorted(different, key=lambda change: path_order(change.path)))


def _differences(left: Config[Any], right: Config[Any]) -> list[Change]:
    """What `diff` then sorts: the values that differ, and the dicts whose keys stand in another order."""
    values, other_values = flat(left), flat(right)
    changes: list[Change] = []
    for path in {*values, *other_values}:
        value = values.get(path, MISSING)
        other_value = other_values.get(path, MISSING)
        if not same_row(value, other_value):
            changes.append(Change(path, value, other_value))
    # What differs as text is not the same value either, but is reported once.
    paths = {change.path for change in changes}
    others = [*_written_alike(left, right), *reordered(left, right)]
    return [*changes, *[change for change in others if change.path not in paths]]


def _written_alike(left: Config[Any], right: Config[Any]) -> Iterator[Change]:
    """The values that a file has the same text for, and that are not the same, such as arrays of NumPy and of JAX."""
    values, others = static_values(left), static_values(right)
    for path in values.keys() & others.keys():
        if not same_static(values[path], others[path]):
            yield Change(path, WrittenAlike(values[path]), WrittenAlike(others[path]))
