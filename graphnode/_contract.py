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

from ._compat import SymbolicSize
from ._hints import with_article

if TYPE_CHECKING:
    from jaxtyping import AbstractArray

# The values of static fields: a size for `name`, sizes for `*name`. Names without a field,
# or whose field holds `None`, are free: the first array binds them.
Sizes: TypeAlias = Mapping[str, object]
Bound: TypeAlias = dict[str, object]
# Any: an int, or a symbolic size of JAX, whose class is private.
Size: TypeAlias = Any

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
    """An axis that cannot be read, or has no size; whoever catches it adds the field."""


class Axis(NamedTuple):
    """One axis of a contract, or a run of them: `rows`, `3`, `2*rows`, `*shape`, `_`, `...`."""

    text: str
    expression: str | None  # None: any size
    names: frozenset[str]
    variadic: bool = False
    broadcast: bool = False
    # What the axis is for, which rules of sharding go by; no part of what an array must be.
    role: str | None = None

    def size(self, sizes: Sizes) -> object:
        """The size (a tuple of them for a variadic axis) at these sizes, or `None` if a name is missing.

        For the shape to initialize, and to compare an array with.
        """
        if self.expression is None or not self.names <= sizes.keys():
            return None
        if self.variadic:
            run = sizes[self.expression]
            # `*width`, of a field that is one size or a tuple of them.
            return (run,) if isinstance(run, int) else run
        try:
            # `_axis_of` has admitted nothing but arithmetic over names.
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
        """The names whose static fields give sizes.

        Read where static fields are compared with the axes of a class, and to know
        which sizes count.
        """
        return frozenset().union(*(axis.names for axis in self.axes))

    def has_free_names(self, sizes: Sizes) -> bool:
        """Whether some of its names have no size, so that the first array binds them.

        Then arrays are checked together, as one of them binds the name for the others.
        """
        return any(sizes.get(name) is None for name in self.names)

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """The shape at these sizes.

        For the initializer of a field.

        Raises:
            ContractSyntaxError: An axis has no definite size.
        """
        shape: list[int] = []
        for axis in self.axes:
            size = axis.size(sizes)
            # A size of 0 is a size: only negative ones are refused.
            dimensions = () if size is None else axis_sizes(axis, size)
            if size is None or min(dimensions, default=0) < 0:
                raise ContractSyntaxError(
                    f"axis {axis.text!r} of {self.text} takes a size; found {size!r}"
                )
            shape.extend(dimensions)
        return tuple(shape)

    def rank(self, sizes: Sizes) -> int | None:
        """How many axes there are; `None` if the sizes leave it open.

        A State with more axes than its contract is one of a stack.
        """
        rank = 0
        for axis in self.axes:
            run = axis.size(sizes) if axis.variadic else (axis,)
            if not isinstance(run, tuple):
                return None
            rank += len(run)
        return rank

    def roles(self, rank: int) -> tuple[str | None, ...] | None:
        """The role of each axis of an array of this rank, one for all of a run; `None` if it has not that rank."""
        single_count = sum(not axis.variadic for axis in self.axes)
        extra = rank - single_count
        if extra < 0 or (extra > 0 and single_count == len(self.axes)):
            return None
        counts = [extra if axis.variadic else 1 for axis in self.axes]
        rows = zip(self.axes, counts, strict=True)
        return tuple([axis.role for axis, count in rows for _ in range(count)])

    def dtype(self) -> Any:
        """The dtype to make an array with: the named one, or JAX's default of the named kind.

        For the initializer of a field.
        """
        # A contract that admits any dtype gets the default float.
        names = ("float64",) if self.dtypes is None else self.dtypes
        if "prng_key" in names:
            return jax.dtypes.prng_key
        if len(names) == 1 and self.dtypes is not None:
            return jnp.dtype(names[0])
        # Of `Float` or `Int`, the widest: JAX makes 32 bits of it where it is not set
        # to 64.
        widest = ("float64", "complex128", "int64", "uint64", "bool")
        return jax.dtypes.canonicalize_dtype(
            next(name for name in widest if name in names)
        )

    def fault(self, value: Any, sizes: Sizes, bound: Bound) -> str | None:
        """What is wrong with `value`, or `None`.

        For `ContractError`, to which others add the place.

        Args:
            value: Any value.
            sizes: The sizes of names.
            bound: The sizes of free names, which earlier arrays have bound; those that
                are met for the first time are added.
        """
        if value is None:
            return f"expected {self.text}, found None"
        try:
            # `result_type` and `shape` also take numbers of Python, which an
            # initializer may give.
            shape, dtype = np.shape(value), jnp.result_type(value)
        except (TypeError, ValueError):
            return f"expected {self.text}, found {with_article(type(value).__name__)}"
        # Before the shape: no name is bound by an array of another dtype.
        dtype_fault = self.dtype_fault(dtype)
        if dtype_fault is not None:
            return dtype_fault
        single_count = sum(not axis.variadic for axis in self.axes)
        # How many axes of the array the variadic one stands for.
        extra = len(shape) - single_count
        has_variadic = single_count < len(self.axes)
        if extra < 0 or (extra > 0 and not has_variadic):
            rank = self._rank_text({**sizes, **bound})
            return f"expected rank {rank} of {self.text}, found shape {shape}"
        at = 0
        for axis in self.axes:
            width = extra if axis.variadic else 1
            fault = self._axis_fault(axis, shape[at : at + width], sizes, bound)
            if fault is not None:
                return f"{fault}, found shape {shape}"
            at += width
        return None

    def dtype_fault(self, dtype: Any) -> str | None:
        """What is wrong with a dtype, or `None`.

        For values of States, and for arrays in files.
        """
        if self.dtypes is None or self._accepts(dtype):
            return None
        return f"expected dtype {self._dtype_kind()} of {self.text}, found {dtype}"

    def fits_like(self, value: Any, other: Any) -> bool:
        """Whether `value` has the dtype, and the shape of `other`, so that it may take the place of that.

        For States of a stacked node: they have one axis more than their contracts, and
        may be written as long as they keep it.
        """
        try:
            is_same_shape = np.shape(value) == np.shape(other)
            dtype = jnp.result_type(value)
        except (TypeError, ValueError):
            return False
        return is_same_shape and (self.dtypes is None or self._accepts(dtype))

    def _axis_fault(
        self, axis: Axis, actual: tuple[Size, ...], sizes: Sizes, bound: Bound
    ) -> str | None:
        """What is wrong with the sizes of an axis, or `None`; a free name is bound to what it meets.

        For `fault`, axis by axis.

        Args:
            axis: The axis of the contract.
            actual: The sizes that the array has there: one, or a run for a variadic
                axis.
            sizes: The sizes of names that static fields give.
            bound: The sizes of free names so far; a name that is met for the first time
                is added.
        """
        is_broadcast = axis.broadcast and actual == (1,)
        try:
            size = axis.size({**sizes, **bound})
        except ContractSyntaxError as error:
            return str(error)
        if size is None:
            # A name alone is bound to the first size that it meets. One in arithmetic
            # is not solved for, and a broadcast axis of size 1 fits any size.
            is_name = axis.expression in axis.names
            if is_name and not is_broadcast:
                bound[str(axis.expression)] = actual if axis.variadic else actual[0]
            return None
        try:
            expected = axis_sizes(axis, size)
        except ContractSyntaxError as error:
            return f"{error} of {self.text}"
        if expected == actual or is_broadcast:
            return None
        text = str(expected if axis.variadic else expected[0])
        # `rows = 3`; a literal size says itself.
        if text != axis.text:
            text = f"{axis.text} = {text}"
        return f"expected {text} of {self.text}"

    def _rank_text(self, sizes: Sizes) -> str:
        """The rank that an array must have, for messages; "at least ..." where the sizes leave it open.

        For the message that an array has too few or too many axes.
        """
        rank = self.rank(sizes)
        if rank is not None:
            return str(rank)
        # A variadic axis without a size may stand for any number of axes.
        runs = [axis.size(sizes) for axis in self.axes if axis.variadic]
        least = sum(len(run) for run in runs if isinstance(run, tuple))
        return f"at least {len(self.axes) - len(runs) + least}"

    def _accepts(self, dtype: Any) -> bool:
        """Whether a dtype is one of those that the annotation admits; only asked where it names some.

        `Float` of jaxtyping names several.
        """
        assert self.dtypes is not None
        # Keys have a dtype for each implementation, and one name in jaxtyping.
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return "prng_key" in self.dtypes
        return str(dtype) in self.dtypes

    def _dtype_kind(self) -> str:
        """The kind of dtype as the annotation writes it, such as `Float`.

        For the message of a wrong dtype.
        """
        return self.text.partition("[")[0]


class Requirement(NamedTuple):
    """What a field of a node requires of the State in it.

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
        """What a message calls the field.

        It stands in front of each `ContractError`.
        """
        return f"{self.cls.__name__}.{self.place}"

    @property
    def has_free_names(self) -> bool:
        """Whether some of its names have no size, so that they depend on the node's other States.

        Then a merge has to check the States of a node together, and not one by one.
        """
        return self.contract.has_free_names(dict(self.sizes))

    def at_sizes(self, sizes: Sizes) -> "Requirement":
        """The requirement of a node with these static fields; it keeps those that the contract names.

        So that two nodes of equal sizes ask one and the same thing of a State that they
        share.
        """
        named = sorted(self.contract.names & sizes.keys())
        return self._replace(sizes=tuple([(name, sizes[name]) for name in named]))

    def fault(self, value: Any, replaced: Any) -> str | None:
        """What is wrong with `value` in the place of `replaced`, or `None`; it may keep the shape of `replaced`.

        For writes to `.value`. A State of a stacked node does not fit its contract, and
        may be written nevertheless.
        """
        fault = self.contract.fault(value, dict(self.sizes), {})
        if fault is None or self.contract.fits_like(value, replaced):
            return None
        return f"{self.where}: {fault}"


def axis_sizes(axis: Axis, size: object) -> tuple[Size, ...]:
    """The sizes of an axis as integers: one, but for a variadic axis.

    For `shape` and `fault`: a static field may hold what is no size, such as a float.
    """
    items: tuple[object, ...] = (size,)
    if axis.variadic and isinstance(size, tuple):
        items = size
    sizes: list[Size] = []
    for item in items:
        # Of an array that was bound before: JAX computes with it as with an integer.
        if isinstance(item, SymbolicSize):
            sizes.append(item)
            continue
        # A boolean is an integer to Python, but no size.
        if not isinstance(item, int | np.integer) or isinstance(item, bool):
            raise ContractSyntaxError(
                f"axis {axis.text!r} takes an integer, its static field holds {size!r}"
            )
        sizes.append(int(item))
    return tuple(sizes)


def is_jaxtyping(annotation: object) -> "TypeGuard[type[AbstractArray]]":
    """Whether an annotation is one of jaxtyping's arrays.

    Such a class stands for an array with a contract, not for objects of its own.
    """
    # Not imported here, as that takes a twentieth of the time of importing JAX: if there
    # is such an annotation, somebody has imported jaxtyping.
    jaxtyping = sys.modules.get("jaxtyping")
    return (
        jaxtyping is not None
        and isinstance(annotation, type)
        and issubclass(annotation, jaxtyping.AbstractArray)
    )


def contract_of(annotation: object) -> Contract | None:
    """The contract of a State's type argument, or `None` if that is not a jaxtyping array.

    For the annotations of fields, and of functions that are checked as they run.

    Raises:
        ContractSyntaxError: An axis that cannot be read.
    """
    if not is_jaxtyping(annotation):
        return None
    dtypes = annotation.dtypes if isinstance(annotation.dtypes, (tuple, list)) else None
    axes = tuple(map(_axis_of, annotation.dim_str.split()))
    # Without labels: they say what axes are for, and not what an array must be.
    text = f'{annotation.dtype.__name__}[Array, "{" ".join([axis.text for axis in axes])}"]'
    return Contract(text, axes, None if dtypes is None else tuple(dtypes))


def _axis_of(text: str) -> Axis:
    """An axis as jaxtyping writes it: marks in front, then perhaps a label, then the size: `*#label=2*rows`.

    For `contract_of`: an axis of the text behind `Array`.
    """
    if text in {"_", "..."}:
        return Axis(text, None, frozenset(), variadic=text == "...")
    body = text.lstrip("*#?")
    marks = text[: len(text) - len(body)]
    is_variadic = "*" in marks
    label, _, labelled = body.partition("=")
    # `_` and `?` leave the size open, whatever name comes after them.
    if "?" in marks or label.startswith("_"):
        return Axis(text, None, frozenset(), variadic=is_variadic)
    expression = labelled or label
    names = _names_in(text, expression)
    # An axis without a label says what it is for by the name of its size, if that is all.
    role = label if labelled or not marks else ""
    return Axis(
        marks + expression,
        expression,
        names,
        variadic=is_variadic,
        broadcast="#" in marks,
        role=role if role.isidentifier() else None,
    )


def _names_in(text: str, expression: str) -> frozenset[str]:
    """The names in the size of an axis, whose text is given for messages.

    For `_axis_of`: the names are static fields; what else stands there would run as
    code.

    Raises:
        ContractSyntaxError: It is not arithmetic over names and integers.
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        raise ContractSyntaxError(f"axis {text!r} does not parse") from None
    names: set[str] = set()
    for part in ast.walk(tree):
        is_integer = isinstance(part, ast.Constant) and isinstance(part.value, int)
        if isinstance(part, ast.Name):
            names.add(part.id)
        elif not is_integer and not isinstance(part, _ARITHMETIC):
            raise ContractSyntaxError(
                f"axis {text!r} may use static fields, integers and + - * // ** alone"
            )
    return frozenset(names)
