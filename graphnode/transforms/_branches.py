"""`cond` and `switch`: one of several functions, chosen when the compiled program runs.

Every branch gives the values of all States that any of them writes, its own or as they were.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, TypeVarTuple

import jax
from jax.typing import ArrayLike

from .._convert import NodeStates, is_node_states
from .._diff import diff
from .._errors import StructureError
from ._boundary import Call, Form, Function, Outcome, Values, Written, target_of
from ._carry import Traced, check_types, compiled, picking

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


def cond(pred: ArrayLike, true_fun: Callable[[*Ts], R], false_fun: Callable[[*Ts], R], *operands: *Ts) -> R:
    """Call one of two functions of nodes and arrays, as `jax.lax.cond` does for arrays.

    Args:
        pred: Which: a boolean scalar, that may be traced.
        true_fun: Called where it is true: a function, a method or a callable node.
        false_fun: Called otherwise.
        *operands: Their arguments.

    Returns:
        What the chosen function gives. What it wrote is in the States of the caller's nodes.

    Raises:
        StructureError: A function changes the structure of a node, or both give nodes of different structures.
        TypeError: Both give results of different types, or write a State with another shape or dtype.

    Example:
        >>> class Counter(gn.Node):
        ...     count: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.int32(0)))
        >>> def add(counter):
        ...     counter.count.value += 1
        >>> counter = Counter()
        >>> gn.cond(True, add, lambda counter: None, counter)
        >>> counter.count.value
        Array(1, dtype=int32)
    """
    return _branch("cond", pred, (true_fun, false_fun), operands)  # type: ignore[no-any-return]  # what a branch gives


def switch(index: ArrayLike, branches: Sequence[Callable[[*Ts], R]], *operands: *Ts) -> R:
    """Call one of several functions of nodes and arrays, as `jax.lax.switch` does for arrays.

    Args:
        index: Which: an integer scalar, that may be traced; it is clamped to the functions there are.
        branches: The functions.
        *operands: Their arguments.

    Returns:
        What the chosen function gives. What it wrote is in the States of the caller's nodes.

    Raises:
        ValueError: There is no function.
        StructureError: A function changes the structure of a node, or some give nodes of different structures.
        TypeError: Some give results of different types, or write a State with another shape or dtype.

    Example:
        >>> layers = [gn.nn.Linear(2, 3), gn.nn.Linear(2, 3)]
        >>> gn.switch(1, layers, jnp.ones(2)).shape
        (3,)
    """
    if not branches:
        raise ValueError("gn.switch takes at least one function")
    return _branch("switch", index, tuple(branches), operands)  # type: ignore[no-any-return]  # what a branch gives


def _branch(transform: str, chosen: ArrayLike, given: Sequence[Function], operands: tuple[Any, ...]) -> Any:
    targets = [target_of(function) for function in given]
    bound = [node for _, nodes in targets for node in nodes]
    count = len(bound) + len(operands)
    functions: list[Function] = []
    start = 0
    for target, nodes in targets:
        own = range(start, start + len(nodes))
        functions.append(picking(target, (*own, *range(len(bound), count)), count))
        start += len(nodes)
    call = Call(transform, functions[0], (*bound, *operands))
    return call.finish(compiled(call, functions, None, functools.partial(_run, transform, call.form), chosen))


def _run(
    transform: str, form: Form, functions: Sequence[Function], values: Values, rest: list[Any], which: Any
) -> Outcome:
    traces = [Traced(transform, function, form, values, rest) for function in functions]
    _check_results(transform, traces)
    wrote = tuple(sorted({number for traced in traces for number in traced.written.numbers}))
    for traced in traces:
        after = dict(zip(traced.written.numbers, traced.values, strict=True))
        check_types(form, traced.function, transform, dict(enumerate(values)), after)

    def branch_of(traced: Traced) -> Function:
        branch = traced.giving(wrote)
        # Without what it says of States: that differs between branches.
        return lambda values, rest: branch(values, rest)[1:]

    branches = list(map(branch_of, traces))
    if transform == "cond":
        new, result = jax.lax.cond(which, *branches, values, rest)
    else:
        new, result = jax.lax.switch(which, branches, values, rest)
    has_nodes = any(traced.written.has_nodes for traced in traces)
    containers = frozenset().union(*[traced.written.containers for traced in traces])
    return Written(wrote, frozenset(), containers, has_nodes), new, result


def _check_results(transform: str, traces: Sequence[Traced]) -> None:
    """Raise if branches give nodes of different structures; JAX tells of all else.

    Raises:
        StructureError: They do.
    """
    first, *others = [_nodes_in(traced.result) for traced in traces]
    for other in others:
        if first and other and first[0].graphdef is not other[0].graphdef:
            places = "; ".join(str(one) for one in diff(first[0].graphdef, other[0].graphdef)[:10])
            raise StructureError(f"gn.{transform}: the functions give nodes of different structures: {places}")


def _nodes_in(tree: Any) -> list[NodeStates]:
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=is_node_states) if isinstance(leaf, NodeStates)]
