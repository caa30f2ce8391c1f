"""`Captured`: what the selected nodes gave, by path and call by call."""

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import jax
from jax.tree_util import DictKey

from .._errors import CaptureError
from .._hints import did_you_mean, with_hint
from .._pretty._values import is_array

T = TypeVar("T")


class Captured(Mapping[str, T], Generic[T]):
    """What calls of nodes gave, by the text of the node's path: what `capture` gives, and `intervene` takes.

    `seen["blocks.3"]` is the result of a node that was called once; `seen.calls` has all
    results of each node. A pytree, so that it passes through transforms; a mapping that
    does not change.

    Example:
        >>> model = gn.nn.MLP(2, 8, 3)
        >>> _, seen = gn.capture(model, gn.nn.Linear)(jnp.ones((1, 2)))
        >>> seen
        Captured(layers.0: f32[1,8], layers.1: f32[1,3])
        >>> seen["layers.1"].shape
        (1, 3)
    """

    __slots__ = ("_calls",)

    def __init__(self, calls: Mapping[str, tuple[T, ...]]) -> None:
        """Take the results of each node, in the order of its calls, by the text of its path."""
        self._calls = dict(calls)

    @property
    def calls(self) -> Mapping[str, tuple[T, ...]]:
        """All results of each node, in the order of the calls."""
        return dict(self._calls)

    def __getitem__(self, path: str) -> T:
        """The result of a node that was called once.

        Raises:
            KeyError: Nothing was captured there; names the nearest path.
            CaptureError: The node was called several times.
        """
        results = self._calls.get(path)
        if results is None:
            raise KeyError(
                with_hint(
                    f"nothing was captured at {path!r}", did_you_mean(path, self._calls)
                )
            )
        if len(results) != 1:
            raise CaptureError(
                f"{path or 'the root'} was called {len(results)} times: .calls[{path!r}] has all results"
            )
        return results[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"Captured({', '.join(map(self._row, self._calls))})"

    def _row(self, path: str) -> str:
        """One node in the `repr`: its path, and the types of its results."""
        results = self._calls[path]
        calls = "" if len(results) == 1 else f" ({len(results)} calls)"
        return f"{path or '(root)'}{calls}: {', '.join(map(_text, results))}"

    # By identity, as a comparison of arrays is not a truth value.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class _Type:
    """What stands for an array in the `repr` of a result."""

    def __init__(self, leaf: Any) -> None:
        self._text = repr(leaf)
        if is_array(leaf):
            self._text = jax.typeof(leaf).str_short(short_dtypes=True)

    def __repr__(self) -> str:
        return self._text


def _text(result: Any) -> str:
    """A result with dtypes and shapes in place of its arrays."""
    return repr(jax.tree.map(_Type, result))


def _flatten(
    captured: Captured[Any],
) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
    """For JAX: the results of each node, and the paths."""
    calls = captured._calls
    return [(DictKey(path), calls[path]) for path in calls], tuple(calls)


def _unflatten(paths: tuple[str, ...], calls: Any) -> Captured[Any]:
    """For JAX: the inverse."""
    return Captured(dict(zip(paths, calls, strict=True)))


jax.tree_util.register_pytree_with_keys(Captured, _flatten, _unflatten)
