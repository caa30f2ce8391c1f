"""The floating-point operations of a program, by the named scopes that they are in.

A program is a jaxpr: a list of equations, some of which hold jaxprs in turn, such as the
body of a loop. Products and convolutions count, a product and its sum as two operations;
what else there is takes little time beside them, as a rule.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from .._compat import InconclusiveSizeError, scope_names
from .._contract import Size

# Of `jax.named_scope`, outermost first.
Scopes: TypeAlias = tuple[str, ...]


class Work(NamedTuple):
    """What a program does.

    Attributes:
        flops: The operations in each scope, those of scopes inside of it left out.
        notes: What the numbers leave open, each with its scope.
    """

    flops: Counter[Scopes]
    notes: dict[tuple[Scopes, str], None]

    def total(self) -> Size:
        """The operations in all scopes."""
        return sum(self.flops.values())

    def add(self, other: "Work", times: Size = 1) -> None:
        """Add what another program does, so many times."""
        for scopes, flops in other.flops.items():
            self.flops[scopes] += flops * times
        self.notes.update(other.notes)


def work_of(jaxpr: Any, outer: Scopes = ()) -> Work:
    """What a program does, by scope.

    Args:
        jaxpr: The jaxpr, closed or not.
        outer: The scopes that it is in.
    """
    work = Work(Counter(), {})
    for equation in _open(jaxpr).eqns:
        scopes = (*outer, *scope_names(equation))
        name = equation.primitive.name
        if name in _PRODUCTS:
            work.flops[scopes] += _PRODUCTS[name](equation)
        elif name in _NESTED:
            _NESTED[name](equation, scopes, work)
        else:
            _add_parts(equation, scopes, work)
        if name in _NOTES:
            work.notes[scopes, _NOTES[name]] = None
    return work


def _open(jaxpr: Any) -> Any:
    """A jaxpr without its constants, closed or not."""
    return getattr(jaxpr, "jaxpr", jaxpr)


# What an equation computes by itself


def _dot(equation: Any) -> Size:
    """The operations of a product of two arrays: over what is left of both, and what is summed."""
    left, right = (variable.aval.shape for variable in equation.invars)
    (_, summed), (_, batch) = equation.params["dimension_numbers"]
    rest = [size for at, size in enumerate(right) if at not in {*summed, *batch}]
    return 2 * math.prod(left) * math.prod(rest)


def _ragged_dot(equation: Any) -> Size:
    """The operations of a product with groups of rows: each row meets the matrix of its group alone."""
    left = equation.invars[0].aval.shape
    (result,) = equation.outvars
    numbers = equation.params["ragged_dot_dimension_numbers"]
    (summed, _), _ = numbers.dot_dimension_numbers
    # Where what is summed is ragged, the groups share it, and each result has its own part.
    is_summed = set(numbers.lhs_ragged_dimensions) <= set(summed)
    sizes = result.aval.shape[1:] if is_summed else result.aval.shape
    return 2 * math.prod(sizes) * math.prod([left[at] for at in summed])


def _convolution(equation: Any) -> Size:
    """The operations of a convolution, products with padding left out, as XLA counts."""
    params = equation.params
    numbers = params["dimension_numbers"]
    left, right = (variable.aval.shape for variable in equation.invars)
    result = equation.outvars[0].aval.shape
    # Of the kernel: features out, features in of one group, then the window.
    channels = right[numbers.rhs_spec[0]] * right[numbers.rhs_spec[1]]
    batch = left[numbers.lhs_spec[0]] // params["batch_group_count"]
    flops = 2 * batch * channels
    for axis in range(len(left) - 2):
        flops *= _positions(
            left[numbers.lhs_spec[axis + 2]],
            right[numbers.rhs_spec[axis + 2]],
            result[numbers.out_spec[axis + 2]],
            _Window(
                params["window_strides"][axis],
                params["padding"][axis][0],
                params["lhs_dilation"][axis],
                params["rhs_dilation"][axis],
            ),
        )
    return flops


class _Window(NamedTuple):
    """How the window of a convolution goes along one axis."""

    stride: Size
    padding: Size
    left_dilation: Size
    right_dilation: Size


def _positions(left: Size, right: Size, result: Size, window: _Window) -> Size:
    """How often an item of the array meets one of the kernel, along one axis."""
    sizes = (left, right, result, window.padding)
    if not all(isinstance(size, int | np.integer) for size in sizes):
        # With padding: how much of it there is depends on the size.
        return right * result
    starts = np.arange(result) * window.stride - window.padding
    end = (left - 1) * window.left_dilation
    count = 0
    for item in range(right):
        places = starts + item * window.right_dilation
        is_item = (places >= 0) & (places <= end) & (places % window.left_dilation == 0)
        count += int(is_item.sum())
    return count


_PRODUCTS: Final[dict[str, Callable[[Any], Size]]] = {
    "dot_general": _dot,
    "ragged_dot_general": _ragged_dot,
    "conv_general_dilated": _convolution,
}


# What an equation computes by jaxprs that it holds


def _add_parts(equation: Any, scopes: Scopes, work: Work) -> None:
    """Add the jaxprs that an equation holds, each once: `jit`, `remat`, functions with a rule of their own."""
    for value in equation.params.values():
        for part in _jaxprs_in(value):
            work.add(work_of(part, scopes))


def _jaxprs_in(value: Any) -> Iterator[Any]:
    """The jaxprs in a parameter of an equation: itself, or items of it."""
    items: Any = value if isinstance(value, (tuple, list)) else (value,)
    for item in items:
        if hasattr(_open(item), "eqns"):
            yield item


def _add_scan(equation: Any, scopes: Scopes, work: Work) -> None:
    """Add the body of a loop with a known number of rounds."""
    body = work_of(equation.params["jaxpr"], scopes)
    work.add(body, equation.params["length"])


def _add_while(equation: Any, scopes: Scopes, work: Work) -> None:
    """Add one round of a loop, its condition included."""
    parts = [
        work_of(equation.params[name], scopes) for name in ("cond_jaxpr", "body_jaxpr")
    ]
    for part in parts:
        work.add(part)
    if any(part.total() != 0 for part in parts):
        text = (
            "one round of a while loop is counted, as the number of rounds is not known"
        )
        work.notes[scopes, text] = None


def _add_cond(equation: Any, scopes: Scopes, work: Work) -> None:
    """Add the branch with most operations; what the others leave open is noted, too."""
    branches = [work_of(branch, scopes) for branch in equation.params["branches"]]
    totals = [branch.total() for branch in branches]
    try:
        largest = totals.index(max(totals))
        text = "the branch with most operations is counted"
    except InconclusiveSizeError:
        largest = 0
        text = "the first branch is counted: which has most operations depends on the symbolic sizes"
    work.add(branches[largest])
    for branch in branches:
        work.notes.update(branch.notes)
    if not all(_is_same(total, totals[0]) for total in totals):
        work.notes[scopes, text] = None
    elif not all(_has_same_scopes(branch, branches[0]) for branch in branches):
        text = "the first branch is counted: others have as many operations, in other nodes"
        work.notes[scopes, text] = None


def _is_same(left: Size, right: Size) -> bool:
    """Whether two numbers of operations are known to be equal."""
    return left is right or left == right


def _has_same_scopes(left: Work, right: Work) -> bool:
    """Whether two programs have equally many operations in each scope."""
    scopes = left.flops.keys() | right.flops.keys()
    return all(_is_same(left.flops[scope], right.flops[scope]) for scope in scopes)


def _add_linear_solve(equation: Any, scopes: Scopes, work: Work) -> None:
    """Add the solver, and not the products by which JAX derives it."""
    work.add(work_of(equation.params["jaxprs"].solve, scopes))


def _add_shard_map(equation: Any, scopes: Scopes, work: Work) -> None:
    """Add what one device does."""
    part = work_of(equation.params["jaxpr"], scopes)
    work.add(part)
    if part.total() != 0:
        text = "the operations of one device are counted in shard_map"
        work.notes[scopes, text] = None


_NESTED: Final[dict[str, Callable[[Any, Scopes, Work], None]]] = {
    "scan": _add_scan,
    "while": _add_while,
    "cond": _add_cond,
    "custom_linear_solve": _add_linear_solve,
    "shard_map": _add_shard_map,
}

_NOT_COUNTED: Final = (
    "ffi_call",
    "pallas_call",
    "custom_call",
    "pure_callback",
    "io_callback",
)
_NOTES: Final = {name: f"what {name} computes is not counted" for name in _NOT_COUNTED}
