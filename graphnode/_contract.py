"""Shape and dtype contracts: what a jaxtyping annotation says about the array in a State.

An annotation such as `Float[Array, "rows cols"]` becomes a `Contract`: a row of axes
whose names are looked up in the node's static fields. The same record gives an
initializer its shape and dtype, and checks a State's value.
"""

import ast
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from ._hints import with_article

if TYPE_CHECKING:
    from jaxtyping import AbstractArray

# What static fields give: a size for `name`, sizes for `*name`. Names without a field,
# or whose field holds `None`, are free: they are bound by the first array.
Sizes: TypeAlias = Mapping[str, object]
Bound: TypeAlias = dict[str, object]

_ARITHMETIC: Final = (
    ast.Expression,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.FloorDiv,
    ast.Pow,
    ast.Load,
)


class ContractSyntaxError(ValueError):
    """An axis that cannot be read, or has no size; the caller adds the field."""


class Axis(NamedTuple):
    """One axis of a contract, or a run of them: `rows`, `3`, `2*rows`, `*shape`, `_`, `...`."""

    text: str
    expression: str | None  # None: any size
    names: frozenset[str]
    variadic: bool = False
    broadcast: bool = False

    def size(self, sizes: Sizes) -> object:
        """The size (a tuple of them for a variadic axis) that `sizes` gives, or `None` when a name is missing."""
        if self.expression is None or not self.names <= sizes.keys():
            return None
        if self.variadic:
            return sizes[self.expression]
        try:
            # Arithmetic only, see `_axis_of`
            return eval(self.expression, {"__builtins__": {}}, dict(sizes))
        except (TypeError, ArithmeticError) as error:
            raise ContractSyntaxError(
                f"axis {self.text!r} cannot be worked out: {error}"
            ) from None


class Contract(NamedTuple):
    """The rank, sizes and dtypes that an array must have."""

    text: str
    axes: tuple[Axis, ...]
    dtypes: tuple[str, ...] | None  # None: any dtype

    @property
    def names(self) -> frozenset[str]:
        """The names whose static fields give sizes."""
        return frozenset().union(*(axis.names for axis in self.axes))

    def has_free_names(self, sizes: Sizes) -> bool:
        """Whether some of its names have no size, and are bound by the first array."""
        return any(sizes.get(name) is None for name in self.names)

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """The shape that the static fields give.

        Raises:
            ContractSyntaxError: An axis has no definite size.
        """
        shape: list[int] = []
        for axis in self.axes:
            size = axis.size(sizes)
            found = () if size is None else _integers(axis, size)
            if size is None or any(one < 0 for one in found):
                raise ContractSyntaxError(
                    f"axis {axis.text!r} of {self.text} takes a size; found {size!r}"
                )
            shape.extend(found)
        return tuple(shape)

    def rank(self, sizes: Sizes) -> int | None:
        """How many axes there are; `None` where the sizes do not say."""
        rank = 0
        for axis in self.axes:
            run = axis.size(sizes) if axis.variadic else (axis,)
            if not isinstance(run, tuple):
                return None
            rank += len(run)
        return rank

    def dtype(self) -> Any:
        """The dtype to make an array with: the named one, or JAX's default of the named kind."""
        names = ("float64",) if self.dtypes is None else self.dtypes
        if "prng_key" in names:
            return jax.dtypes.prng_key
        if len(names) == 1 and self.dtypes is not None:
            return jnp.dtype(names[0])
        widest = ("float64", "complex128", "int64", "uint64", "bool")
        return jax.dtypes.canonicalize_dtype(
            next(name for name in widest if name in names)
        )

    def fault(self, value: Any, sizes: Sizes, bound: Bound) -> str | None:
        """What is wrong with `value`, or `None`. Names that `sizes` leaves free are bound in `bound` at their first."""
        try:
            shape, dtype = (
                (() if value is None else np.shape(value)),
                jnp.result_type(value),
            )
        except (TypeError, ValueError):
            return f"expected {self.text}, found {with_article(type(value).__name__)}"
        if value is None:
            return f"expected {self.text}, found None"
        dtype_fault = self.dtype_fault(dtype)
        if dtype_fault is not None:
            return dtype_fault
        fixed = [axis for axis in self.axes if not axis.variadic]
        extra = len(shape) - len(fixed)
        if extra < 0 or (extra > 0 and len(fixed) == len(self.axes)):
            return f"expected rank {self._rank({**sizes, **bound})} of {self.text}, found shape {shape}"
        at = 0
        for axis in self.axes:
            width = extra if axis.variadic else 1
            fault = self._axis_fault(axis, shape[at : at + width], sizes, bound)
            if fault is not None:
                return f"{fault}, found shape {shape}"
            at += width
        return None

    def dtype_fault(self, dtype: Any) -> str | None:
        """What is wrong with a dtype, or `None`."""
        if self.dtypes is None or self._accepts(dtype):
            return None
        return f"expected dtype {self._kind()} of {self.text}, found {dtype}"

    def fits_like(self, value: Any, other: Any) -> bool:
        """Whether `value` has the dtype, and the shape of `other`: what may take its place."""
        try:
            shapes, dtype = (np.shape(value), np.shape(other)), jnp.result_type(value)
        except (TypeError, ValueError):
            return False
        return shapes[0] == shapes[1] and (self.dtypes is None or self._accepts(dtype))

    def _axis_fault(
        self, axis: Axis, found: tuple[int, ...], sizes: Sizes, bound: Bound
    ) -> str | None:
        try:
            size = axis.size({**sizes, **bound})
        except ContractSyntaxError as error:
            return str(error)
        if size is None:
            # A lone free name takes the size it first meets; a free name inside
            # arithmetic cannot be solved for, and a broadcast axis of size 1 says
            # nothing.
            if axis.expression in axis.names and not (axis.broadcast and found == (1,)):
                bound[str(axis.expression)] = found if axis.variadic else found[0]
            return None
        try:
            wanted = _integers(axis, size)
        except ContractSyntaxError as error:
            return f"{error} of {self.text}"
        if wanted == found or (axis.broadcast and found == (1,)):
            return None
        shown = wanted if axis.variadic else wanted[0]
        meaning = "" if axis.text == str(shown) else f"{axis.text} = "
        return f"expected {meaning}{shown} of {self.text}"

    def _rank(self, sizes: Sizes) -> str:
        runs = [axis.size(sizes) for axis in self.axes if axis.variadic]
        known = [len(run) for run in runs if isinstance(run, tuple)]
        least = "at least " if len(known) < len(runs) else ""
        return f"{least}{len(self.axes) - len(runs) + sum(known)}"

    def _accepts(self, dtype: Any) -> bool:
        assert self.dtypes is not None
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return "prng_key" in self.dtypes
        return str(dtype) in self.dtypes

    def _kind(self) -> str:
        return self.text.partition("[")[0]


class Requirement(NamedTuple):
    """What a field of a node asks of the State that stands in it.

    Attributes:
        cls: The class of the node.
        place: The path of the State in the node.
        contract: What the field's annotation says.
        sizes: The static fields of the node that the contract names, with their values.
    """

    cls: type
    place: str
    contract: Contract
    sizes: tuple[tuple[str, object], ...]

    @property
    def where(self) -> str:
        """What a message calls the field."""
        return f"{self.cls.__name__}.{self.place}"

    @property
    def has_free_names(self) -> bool:
        """Whether some of its sizes are those of the States beside the one that it is asked of."""
        return self.contract.has_free_names(dict(self.sizes))

    def at_sizes(self, sizes: Sizes) -> "Requirement":
        """The same of a node with these static fields."""
        named = sorted(self.contract.names & sizes.keys())
        return self._replace(sizes=tuple([(name, sizes[name]) for name in named]))

    def fault(self, value: Any, replaced: Any) -> str | None:
        """What is wrong with `value` in the place of `replaced`, or `None`: it may keep the shape that is there."""
        fault = self.contract.fault(value, dict(self.sizes), {})
        if fault is None or self.contract.fits_like(value, replaced):
            return None
        return f"{self.where}: {fault}"


def _integers(axis: Axis, size: object) -> tuple[int, ...]:
    given: tuple[object, ...] = (
        size if isinstance(size, tuple) and axis.variadic else (size,)
    )
    sizes = tuple(
        [
            int(one)
            for one in given
            if isinstance(one, int | np.integer) and not isinstance(one, bool)
        ]
    )
    if len(sizes) < len(given):
        raise ContractSyntaxError(
            f"axis {axis.text!r} takes an integer, its static field holds {size!r}"
        )
    return sizes


def is_jaxtyping(annotation: object) -> "TypeGuard[type[AbstractArray]]":
    """Whether an annotation is one of jaxtyping's arrays."""
    # Whoever wrote one has imported jaxtyping, which costs a twentieth of what JAX
    # costs: it is not imported here.
    jaxtyping = sys.modules.get("jaxtyping")
    return (
        jaxtyping is not None
        and isinstance(annotation, type)
        and issubclass(annotation, jaxtyping.AbstractArray)
    )


def contract_of(annotation: object) -> Contract | None:
    """The contract that a State's type argument states, or `None` when it is not a jaxtyping array.

    Raises:
        ContractSyntaxError: An axis that cannot be read.
    """
    if not is_jaxtyping(annotation):
        return None
    dtypes = annotation.dtypes if isinstance(annotation.dtypes, (tuple, list)) else None
    axes = tuple(map(_axis_of, annotation.dim_str.split()))
    text = f'{annotation.dtype.__name__}[Array, "{annotation.dim_str}"]'
    return Contract(text, axes, None if dtypes is None else tuple(dtypes))


def _axis_of(text: str) -> Axis:
    if text in {"_", "..."}:
        return Axis(text, None, frozenset(), variadic=text == "...")
    body = text.lstrip("*#?")
    marks = text[: len(text) - len(body)]
    if "?" in marks or (label := body.partition("="))[0].startswith("_"):
        return Axis(text, None, frozenset(), variadic="*" in marks)
    expression = label[2] or label[0]
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        raise ContractSyntaxError(f"axis {text!r} does not parse") from None
    names: set[str] = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.Name):
            names.add(part.id)
        elif not isinstance(part, _ARITHMETIC) and not (
            isinstance(part, ast.Constant) and isinstance(part.value, int)
        ):
            raise ContractSyntaxError(
                f"axis {text!r} may use static fields, integers and + - * // ** alone"
            )
    return Axis(
        text,
        expression,
        frozenset(names),
        variadic="*" in marks,
        broadcast="#" in marks,
    )
