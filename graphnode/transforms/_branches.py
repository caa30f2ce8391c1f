"""`cond` and `switch`: one of several functions, chosen when the compiled program runs.

Every branch returns the values of all States that any of them writes, new or as they
were: to XLA, branches return the same.

    true_fun writes a, b      returns a', b', c
    false_fun writes c        returns a,  b,  c'
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, TypeVarTuple

import jax
import jax.numpy as jnp
from jax.tree_util import keystr
from jax.typing import ArrayLike

from .._describe import WEAK, describe
from .._errors import StructureError, listed
from .._graph._diff import diff
from .._pretty._records import Text
from .._tracebacks import hides_frames
from ._arguments import Function, Values, name_of
from ._boundary import Call
from ._carry import Traced, check_types, compiled, picking, shardings_of
from ._methods import target_of
from ._pure import Outcome
from ._result_nodes import ResultNode, is_result_node
from ._signature import CallSite, Signature
from ._type_text import is_jax_type, leaf_text, type_text
from ._written import Written

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@hides_frames
def cond(
    pred: ArrayLike,
    true_fun: Callable[[*Ts], R],
    false_fun: Callable[[*Ts], R],
    *operands: *Ts,
) -> R:
    """Call one of two functions of nodes and arrays, as `jax.lax.cond` does for arrays.

    Args:
        pred: Which: a boolean scalar, that may be traced.
        true_fun: Called where it is true: a function, a method or a callable node.
        false_fun: Called otherwise.
        *operands: Their arguments.

    Returns:
        What the chosen function gives. What it wrote is in the States of the caller's
        nodes.

    Raises:
        StructureError: A function changes the structure of a node, or both give nodes
            of different structures.
        TypeError: Both give results of different types, or write a State with another
            shape or dtype.

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


@hides_frames
def switch(
    index: ArrayLike, branches: Sequence[Callable[[*Ts], R]], *operands: *Ts
) -> R:
    """Call one of several functions of nodes and arrays, as `jax.lax.switch` does for arrays.

    Args:
        index: Which: an integer scalar, that may be traced; it is clamped to the
            functions there are.
        branches: The functions.
        *operands: Their arguments.

    Returns:
        What the chosen function gives. What it wrote is in the States of the caller's
        nodes.

    Raises:
        ValueError: There is no function.
        StructureError: A function changes the structure of a node, or some give nodes
            of different structures.
        TypeError: Some give results of different types, or write a State with another
            shape or dtype.

    Example:
        >>> layers = [gn.nn.Linear(2, 3), gn.nn.Linear(2, 3)]
        >>> gn.switch(1, layers, jnp.ones(2)).shape
        (3,)
    """
    if not branches:
        raise ValueError("gn.switch takes at least one function")
    return _branch("switch", index, tuple(branches), operands)  # type: ignore[no-any-return]  # what a branch gives


def _branch(
    transform: str,
    chosen: ArrayLike,
    branches: Sequence[Function],
    operands: tuple[Any, ...],
) -> Any:
    """Call the chosen one of several functions: what `cond` and `switch` do.

    Args:
        transform: `cond` or `switch`.
        chosen: The predicate or the index.
        branches: The functions, methods or callable nodes.
        operands: The arguments of each of them.

    Returns:
        The result of the function that was chosen, once its writes are made.
    """
    _check_chosen(transform, chosen)
    targets = [target_of(branch) for branch in branches]
    bound = [node for _, nodes in targets for node in nodes]
    count = len(bound) + len(operands)
    functions: list[Function] = []
    start = 0
    # All branches get the same arguments: the nodes that any of them is bound to, then
    # the operands. Each picks its own node, and all operands.
    for target, nodes in targets:
        own = range(start, start + len(nodes))
        functions.append(picking(target, (*own, *range(len(bound), count)), count))
        start += len(nodes)
    call = Call(transform, functions[0], (*bound, *operands))
    return call.finish(
        compiled(
            call,
            functions,
            None,
            functools.partial(_run_branches, transform, call.signature),
            chosen,
        )
    )


def _run_branches(
    transform: str,
    signature: Signature,
    functions: Sequence[Function],
    values: Values,
    other_leaves: list[Any],
    which: Any,
) -> Outcome:
    """What is compiled of a `cond` or `switch`: every branch is traced, and JAX chooses among the traces.

    All branches of JAX return the same things. So each returns the values of all States
    that any of them writes.
    """
    traces = [
        Traced(CallSite(transform, function, signature), values, other_leaves)
        for function in functions
    ]
    _check_results(transform, traces)
    all_written = {number for traced in traces for number in traced.written.numbers}
    # In layout order, so that equal branches give equal traces.
    written = tuple(sorted(all_written))
    for traced in traces:
        after = dict(zip(traced.written.numbers, traced.values, strict=True))
        check_types(traced.site, dict(enumerate(values)), after)
    for number in written:
        _check_shardings(transform, traces, number, values[number])

    def branch_of(traced: Traced) -> Function:
        """The branch that JAX gets: from values and leaves to the values of all `written` States and the result."""
        branch = traced.returning(written)
        # Without what it says of States: that differs between branches.
        return lambda values, other_leaves: branch(values, other_leaves)[1:]

    branches = list(map(branch_of, traces))
    if transform == "cond":
        new, result = jax.lax.cond(which, *branches, values, other_leaves)
    else:
        new, result = jax.lax.switch(which, branches, values, other_leaves)
    has_nodes = any(traced.written.has_nodes for traced in traces)
    containers = frozenset().union(*[traced.written.containers for traced in traces])
    return Written(written, frozenset(), containers, has_nodes), new, result


def _check_chosen(transform: str, chosen: Any) -> None:
    """Raise if what chooses a function is not a scalar.

    Raises:
        TypeError: It is not.
    """
    if is_jax_type(chosen) and jnp.shape(chosen) == ():
        return
    is_cond = transform == "cond"
    rule = f"{'pred' if is_cond else 'index'} must be {'a boolean' if is_cond else 'an integer'} scalar"
    raise TypeError(f"gn.{transform}: {rule}, found {describe(chosen)}")


def _check_results(transform: str, traces: Sequence[Traced]) -> None:
    """Raise if branches give results that are not of one structure, and of the same shapes and dtypes.

    What is compiled has one result, whichever branch runs.

    Raises:
        StructureError: There are nodes of different structures in them.
        TypeError: All else.
    """
    first, *others = traces
    nodes = _nodes_in(first.result)
    for number, other in enumerate(others, 1):
        other_nodes = _nodes_in(other.result)
        # The graphdef is of all nodes in the arguments and the result, so the first one
        # tells. Graphdefs are interned: equal ones are the same object.
        if nodes and other_nodes and nodes[0].graphdef is not other_nodes[0].graphdef:
            changes = diff(nodes[0].graphdef, other_nodes[0].graphdef)[:10]
            text = "; ".join(map(str, changes))
            raise StructureError(
                f"gn.{transform}: the functions give nodes of different structures: {text}"
            )
        names = (
            _label(0, first.site),
            _label(number, other.site),
        )
        _check_types_of(transform, names, first.result, other.result)


def _check_shardings(
    transform: str, traces: Sequence[Traced], number: int, before: Any
) -> None:
    """Raise if branches leave a State in different layouts over an explicit mesh.

    There the layout is part of an array's type, on which branches must agree.

    Raises:
        TypeError: Names the State, and two branches.
    """
    afters = [
        dict(zip(traced.written.numbers, traced.values, strict=True))
        for traced in traces
    ]
    first, *others = [after.get(number, before) for after in afters]
    for at, other in enumerate(others, 1):
        if shardings_of(first) != shardings_of(other):
            raise TypeError(
                f"gn.{transform}: branches leave a State in one explicit sharding; "
                f"{traces[0].site.state_name(number)} is {type_text(first)} after {_label(0, traces[0].site)}, "
                f"and {type_text(other)} after {_label(at, traces[at].site)}"
            )


def _check_types_of(
    transform: str, names: tuple[str, str], first: Any, other: Any
) -> None:
    """Raise if the results of two branches, called so in messages, differ in structure, shapes or dtypes.

    Raises:
        TypeError: They do; names all leaves that differ, if the structure is the same.
    """
    pairs, treedef = jax.tree_util.tree_flatten_with_path(first)
    leaves, other_def = jax.tree.flatten(other)
    # JAX's stubs give treedefs no equality
    treedefs: list[object] = [treedef, other_def]
    if treedefs[0] != treedefs[1]:
        raise TypeError(
            f"gn.{transform}: {names[0]} returns {_types_in(first)}, and {names[1]} {_types_in(other)}: a branch must "
            "return what the others return"
        )
    faults = [
        f"result{keystr(key_path)} is {_type_name(leaf)} from {names[0]}, and {_type_name(other_leaf)} from {names[1]}"
        for (key_path, leaf), other_leaf in zip(pairs, leaves, strict=True)
        if _type_name(leaf) != _type_name(other_leaf)
    ]
    if faults:
        raise TypeError(
            f"gn.{transform}: the functions return different types: {listed(faults)}"
        )


def _label(number: int, site: CallSite) -> str:
    """What a message calls a branch: its argument, and its name."""
    # The parameters of `cond`, as the caller knows them; those of `switch` are a list.
    arguments = {"cond": ("true_fun", "false_fun")}.get(site.transform)
    argument = arguments[number] if arguments else f"branches[{number}]"
    return f"{argument} ({name_of(site.function)})"


def _types_in(result: Any) -> str:
    """For a message: the text of a result, with the type of each array in place of the array."""

    def type_of(leaf: Any) -> Text:
        """A text that prints without quotes, as part of the pytree."""
        return Text("a node" if isinstance(leaf, ResultNode) else _type_name(leaf))

    return repr(jax.tree.map(type_of, result, is_leaf=is_result_node))


def _type_name(leaf: Any) -> str:
    """For a message, and to compare: the type of a leaf, without whether it is weak."""
    # JAX makes branches agree on weak types.
    return leaf_text(leaf).replace(WEAK, "")


def _nodes_in(tree: Any) -> list[ResultNode]:
    """What stands for the nodes of a result, in the order of its leaves: to compare structures between branches."""
    return [
        leaf
        for leaf in jax.tree.leaves(tree, is_leaf=is_result_node)
        if isinstance(leaf, ResultNode)
    ]
