"""What differs between two configs, by path."""

from collections.abc import Iterator
from typing import Any

from .._paths import path_order
from ._by_path import (
    MISSING,
    Change,
    SaidAlike,
    flat,
    reordered,
    say_the_same,
    static_values,
)
from ._config import Config, check_config, same_static
from ._defaults import opened_like


def diff(one: Config[Any], other: Config[Any], /) -> tuple[Change, ...]:
    """What two configs say differently, by path; nothing if they are equal.

    Defaults count as said. A node in place of another shows as its `type`, a reference
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
    check_config(one)
    check_config(other)
    # What one leaves to its class and the other says in part is compared by what the
    # class would make.
    left, opened_left = opened_like(one, other)
    right, opened_right = opened_like(other, one)
    different = _different(left, right)
    changed = {
        change.path[:length]
        for change in different
        for length in range(len(change.path) + 1)
    }
    for path, (left_out, written_out) in opened_left.items():
        if path not in changed or written_out.draws_otherwise:
            different.append(Change(path, left_out, written_out))
    for path, (left_out, written_out) in opened_right.items():
        if path not in changed or written_out.draws_otherwise:
            different.append(Change(path, written_out, left_out))
    return tuple(sorted(different, key=lambda change: path_order(change.path)))


def _different(one: Config[Any], other: Config[Any]) -> list[Change]:
    left, right = flat(one), flat(other)
    changes = [
        Change(path, left.get(path, MISSING), right.get(path, MISSING))
        for path in {*left, *right}
    ]
    different = [
        change for change in changes if not say_the_same(change.left, change.right)
    ]
    known = {change.path for change in different}
    others = [*_said_alike(one, other), *reordered(one, other)]
    return [*different, *[change for change in others if change.path not in known]]


def _said_alike(one: Config[Any], other: Config[Any]) -> Iterator[Change]:
    """The values that a file says alike, and that are not the same, such as arrays of NumPy and of JAX."""
    left, right = static_values(one), static_values(other)
    for path in left.keys() & right.keys():
        if not same_static(left[path], right[path]):
            yield Change(path, SaidAlike(left[path]), SaidAlike(right[path]))
