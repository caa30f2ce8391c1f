"""axes says an axis for each State of a node, by filters."""

from typing import Any

import jax.numpy as jnp
import pytest

import graphnode as gn


class Part(gn.Node):
    weight: gn.ParamState
    trace: gn.ShortTermState
    tagged: gn.ParamState


def part() -> Part:
    value = jnp.zeros(2)
    return Part(gn.ParamState(value), gn.ShortTermState(value), gn.ParamState(value, tag="frozen"))


@pytest.mark.parametrize(
    ("by_filter", "expected"),
    [
        ({}, [None, None, None]),
        ({gn.ParamState: 0}, [0, None, 0]),
        ({"frozen": 1, gn.ParamState: 0}, [1, None, 0]),
        ({gn.ParamState: 0, "frozen": 1}, [0, None, 0]),
        ({gn.ShortTermState: 2, ...: None}, [None, 2, None]),
        ({(gn.ShortTermState, "frozen"): -1, ...: 0}, [-1, -1, 0]),
        ({(lambda path, state: path == ("weight",)): 3}, [None, None, 3]),
    ],
)
def test_the_first_filter_that_accepts_says_the_axis(by_filter: Any, expected: list[Any]):
    """Filters are tried in order, in the order of the mapping; the States come in layout order."""
    assert gn.axes(by_filter).of(part()) == expected


def test_axes_are_values():
    """Equal axes are equal and hash alike, and show their filters."""
    assert gn.axes({gn.ParamState: 0}) == gn.axes({gn.ParamState: 0})
    assert hash(gn.axes({gn.ParamState: 0})) == hash(gn.axes({gn.ParamState: 0}))
    assert gn.axes({gn.ParamState: 0}) != gn.axes({gn.ParamState: 1})
    assert repr(gn.axes({gn.ParamState: None, "frozen": 1, ...: 0})) == "axes({ParamState: None, 'frozen': 1, ...: 0})"


@pytest.mark.wrong_types
def test_a_key_that_is_no_filter_is_refused():
    """A key is a filter."""
    wrong: Any = {3: 0}
    with pytest.raises(gn.FilterTypeError):
        gn.axes(wrong)


def test_a_filter_that_accepts_all_comes_last():
    """After `...` no key could match."""
    with pytest.raises(gn.FilterError):
        gn.axes({...: 0, gn.ParamState: None})
