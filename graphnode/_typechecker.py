"""`typechecker`: beartype, to which the axis names in a method's annotations mean the node's static fields.

jaxtyping opens a scope for each call, in which a name gets its size from the first array
that is checked. So an object of the node's sizes is checked first, by public parts of
jaxtyping alone:

    @jaxtyped                          opens the scope of this call
      checked_with_sizes(self, x)
        isinstance(sizes, Shaped[Any, "size"])     size := self.size
        checked(self, x)               beartype: x must have that size
          function(self, x)
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import (
    Any,
    Final,
    NamedTuple,
    ParamSpec,
    Self,
    TypeVar,
    cast,
    get_args,
    no_type_check,
)

import numpy as np
import typing_extensions
from jaxtyping import AbstractArray, Shaped

from ._arguments import wrong_argument
from ._fields import NodeBase

P = ParamSpec("P")
R = TypeVar("R")

# A name in the text of axes, which may be an expression such as `2*size`.
_NAME: Final = re.compile(r"\b[^\W\d]\w*")


def typechecker(function: Callable[P, R], /) -> Callable[P, R]:
    """Check a function's calls by beartype; in a method of a node, axis names mean the node's static fields.

    To be named where jaxtyping takes a type checker: `install_import_hook("my_models",
    "graphnode.typechecker")`, or `@jaxtyped(typechecker=gn.typechecker)`. In a function
    whose first parameter is called `self` and given a node, an axis whose name is that
    of a static field has the size that the field holds, an integer, and `*name` the
    sizes of a tuple of them. All other names are bound by the first array, and all
    other functions are checked, as beartype does it. An `int` passes for a `float`;
    `Self` is accepted, and not checked. Sizes are those at the beginning of the call; a
    field that is not set yet, in `__init__`, gives none.

    Raises:
        ImportError: beartype is not installed.

    Example:
        >>> from jaxtyping import jaxtyped
        >>> class Double(gn.Node):
        ...     size: int
        ...     @jaxtyped(typechecker=gn.typechecker)
        ...     def __call__(self, x: Float[Array, "... size"]) -> Float[Array, "... 2*size"]:
        ...         return jnp.concatenate([x, x], axis=-1)
        >>> Double(2)(jnp.ones(2)).shape
        (4,)
        >>> Double(2)(jnp.ones(3))
        Traceback (most recent call last):
            ...
        jaxtyping.TypeCheckError: Type-check error whilst checking the parameters of ...Double.__call__.
        The problem arose whilst typechecking parameter 'x'.
        Actual value: f32[3]...
        Expected type: <class 'Float[..., '... size']'>.
        ----------------------
        Called with parameters: {'self': Double(...), 'x': f32[3]...}
        Parameter annotations: (self, x: Float[..., '... size']) -> Any.
        The current values for each jaxtyping axis annotation are as follows.
        size=2

    See also: The guide "Checks at run time", `docs/guides/runtime_types.md`.
    """
    if not callable(function):
        raise TypeError(wrong_argument("a function", function))
    checked = _beartype()(function)
    axes = _axes_of(function)
    if not axes:
        return checked

    # Not checked itself, where graphnode is: it would have a scope of its own, and bind
    # the names there.
    @no_type_check
    @functools.wraps(function)
    def checked_with_sizes(*args: Any, **kwargs: Any) -> Any:
        """One call: axis names get the sizes of the node's fields, before beartype checks any array."""
        node = args[0] if args else kwargs.get("self")
        if isinstance(node, NodeBase):
            for sizes, annotation in _sizes_of(node, axes):
                # The check itself binds. It fails where the name has a size already:
                # then a field has changed since the call began, and the size of the
                # beginning holds.
                isinstance(sizes, annotation)
        return checked(*args, **kwargs)

    return checked_with_sizes  # type: ignore[no-any-return]  # as `no_type_check` has it


class _Axis(NamedTuple):
    """A name in a method's annotations.

    Attributes:
        name: That of the axis, and of the field.
        is_variadic: Whether it stands for several axes, as `*name`.
        annotation: An array of this axis alone, of any type.
    """

    name: str
    is_variadic: bool
    annotation: Any


class _Sizes(NamedTuple):
    """What jaxtyping takes for an array: it looks at the shape and the dtype, and no memory is needed."""

    shape: tuple[int, ...]
    # Any will do: the annotations that it is checked with are of `Shaped`.
    dtype: str = "int8"


def _sizes_of(node: NodeBase, axes: Iterable[_Axis]) -> list[tuple[_Sizes, Any]]:
    """What the node's static fields say of axes: objects of their sizes, each with an annotation to check it by.

    The check has jaxtyping note the size of the name for the rest of the call.
    """
    fields, statics = node.__dict__, type(node)._plan.statics
    pairs: list[tuple[_Sizes, Any]] = []
    for axis in axes:
        # Not a static field, or one that `__init__` has not set yet.
        if axis.name not in statics or axis.name not in fields:
            continue
        value = fields[axis.name]
        is_row = axis.is_variadic and isinstance(value, tuple)
        items: tuple[object, ...] = value if is_row else (value,)
        # As in the contracts of States. What is not a size leaves the name to the first
        # array.
        if all(map(_is_size, items)):
            sizes = _Sizes(tuple(map(int, cast("tuple[int, ...]", items))))
            pairs.append((sizes, axis.annotation))
    return pairs


def _is_size(value: object) -> bool:
    """Whether a static value is the size of an axis: an integer, and not a boolean."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _axes_of(function: Callable[..., object]) -> tuple[_Axis, ...]:
    """The axes that the annotations of a method name, which may be fields of its node; none for other functions."""
    # By the name of its first parameter: the class of a method is not known when it is
    # decorated.
    if next(iter(inspect.signature(function).parameters), None) != "self":
        return ()
    # A dict, since a name stands in several annotations.
    axes: dict[str, _Axis] = {}
    for annotation in inspect.get_annotations(function).values():
        for array in _arrays_in(annotation):
            for text in array.dim_str.split():
                body = text.lstrip("*#?")  # "*" in front of a name, not in `2*name`
                star = "*" if "*" in text[: len(text) - len(body)] else ""
                # In `name=4` the name is a remark.
                for name in _NAME.findall(body.rpartition("=")[2]):
                    key = star + name
                    axes[key] = _Axis(name, bool(star), Shaped[Any, key])
    return tuple(axes.values())


def _arrays_in(annotation: Any) -> Iterator[type[AbstractArray]]:
    """The jaxtyping arrays in an annotation, at any depth: what names axes."""
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        yield annotation
    elif type(annotation) in (list, tuple):  # the parameters of a Callable
        for part in cast("list[Any]", annotation):
            yield from _arrays_in(part)
    elif hasattr(annotation, "leaftype"):  # a jaxtyping.PyTree
        yield from _arrays_in(annotation.leaftype)
    else:
        yield from _arrays_in(get_args(annotation))


class _AnythingMeta(type):
    def __instancecheck__(cls, value: object) -> bool:
        """So that beartype, which asks this of an argument annotated with `Self`, refuses none."""
        return True


class _Anything(metaclass=_AnythingMeta):
    """In place of `Self`: jaxtyping passes one function at a time, of which beartype does not know the class."""


@functools.cache
def _beartype() -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The decorator of beartype as `typechecker` uses it; made once.

    Raises:
        ImportError: beartype is not installed.
    """
    try:
        from beartype import BeartypeConf, FrozenDict, beartype
    except ImportError as error:
        raise ImportError(
            f"gn.typechecker needs beartype: pip install 'graphnode[runtime-types]' ({error})"
        ) from error
    overrides: Any = FrozenDict({Self: _Anything, typing_extensions.Self: _Anything})
    return beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=overrides))
