"""The count of Python callbacks, on pytrees whose number of callbacks is known."""

import sys

import jax

from .callbacks import count_callbacks


@jax.tree_util.register_pytree_node_class
class Pair:
    """A pytree node that flattens with one callback, which calls another function."""

    def __init__(self, left: object, right: object) -> None:
        self.left = left
        self.right = right

    def tree_flatten(self) -> tuple[tuple[object, object], None]:
        return self._children(), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[object, object]) -> "Pair":
        return cls(*children)

    def _children(self) -> tuple[object, object]:
        return self.left, self.right


def test_only_what_jax_calls_is_counted():
    """Neither JAX's own functions nor what a callback calls counts."""
    assert count_callbacks({"a": [1, 2], "b": (3,)}) == 0
    assert count_callbacks(Pair(1, 2)) == 1
    assert count_callbacks([Pair(Pair(1, 2), 3), Pair(4, 5)]) == 3


def test_the_profiler_is_put_back():
    """A profiler that was set before is set afterwards."""
    before = sys.getprofile()
    count_callbacks(Pair(1, 2))
    assert sys.getprofile() is before
