"""The text of a pytree with the dtypes and shapes of its arrays, such as `(f32[2,3], {'mask': bool[2]})`."""

from typing import Any

import jax

from .._graph._flatten import is_graph_object
from .._hints import cut
from .._pretty._values import is_array


# Any: what a method takes or gives, or the value of a State.
def shapes_text(value: Any) -> str:
    """A pytree with the dtypes and shapes of its arrays."""
    texts = jax.tree.map(_leaf_text, value, is_leaf=is_graph_object)
    return str(texts)


def _leaf_text(leaf: Any) -> "_Unquoted":
    """An array as its dtype and shape, `f32[2,3]`; a node as its class; anything else cut short."""
    if is_graph_object(leaf):
        return _Unquoted(type(leaf).__name__)
    if is_array(leaf):
        return _Unquoted(jax.typeof(leaf).str_short(short_dtypes=True))
    return _Unquoted(cut(repr(leaf)))


class _Unquoted(str):
    """A text that stands without quotes in the `repr` of a container."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
