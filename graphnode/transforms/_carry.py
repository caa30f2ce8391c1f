"""What loops and branches share: a carry with nodes in it, and which States a function writes.

A loop carries the values of the States that its function writes, and the other leaves
of its carry. The nodes of the carry themselves are the same in every round, which
`Carry.take` makes sure of.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax

from .._compat import DISABLE_JIT, jaxpr_as_fun
from .._errors import StructureError
from .._value import is_container
from ._arguments import Form, Function, Values, name_of
from ._boundary import REFUSAL, Call, Outcome, Pure, mesh_axes, pure_of, told, type_text
from ._fork import at_home
from ._kept import remembered, remembered_together
from ._result_nodes import ResultNode, is_result_node
from ._written import Written, kind_of_value


def writes_of(pure: Pure, values: Values, rest: Sequence[Any]) -> tuple[int, ...]:
    """The States that a function writes, by their numbers: found by tracing it once with abstract values."""
    outcome: Outcome = jax.eval_shape(pure, values, rest)
    return outcome[0].numbers


class Traced:
    """The trace of a function of nodes: it tells what the function writes, and stands for it afterwards.

    What a loop carries is known only when its function was traced, and JAX's loop
    traces what it is given again. Were that the function, each level of nested loops
    would double the traces of what is inside.

    Args:
        transform: The name of the loop or branch, for messages.
        function: The function.
        form: The form of its arguments.
        values: The values of all States, or their shapes and dtypes.
        rest: The other leaves, or their shapes and dtypes.
        check: Raises if the function gives a result that the loop does not take. It
            gets what the function gave, where a trace has arrays for numbers.

    Attributes:
        transform: As given.
        function: As given.
        form: As given.
        written: What the function writes.
        values: The values of the States that it writes, as shapes and dtypes.
        result: Its result, as shapes and dtypes.
    """

    def __init__(
        self,
        transform: str,
        function: Function,
        form: Form,
        values: Values,
        rest: Sequence[Any],
        check: Callable[[Any], object] = lambda _: None,
    ) -> None:
        self.transform, self.function, self.form = transform, function, form
        pure = pure_of(transform, function, form)

        # A function of its own: JAX would keep the trace of `pure`, with tracers of
        # outside in it.
        def run(values: Values, rest: Sequence[Any]) -> Outcome:
            outcome = pure(values, rest)
            check(outcome[2])
            return outcome

        jaxpr, outcome = jax.make_jaxpr(run, return_shape=True)(values, rest)
        self._evaluate, self._in_avals = jaxpr_as_fun(jaxpr), list(jaxpr.in_avals)
        self._in_treedef: Any = jax.tree.structure((values, rest))
        self._out_treedef = jax.tree.structure(outcome)
        self.written: Written
        self.values: Values
        self.result: Any
        self.written, self.values, self.result = outcome

    def where(self, number: int) -> str:
        """The name of a State in a message: its argument, and the path below."""
        return self.form.where(self.function, self.form.graphdef.layout.path(number))

    def giving(
        self, numbers: tuple[int, ...], refusal: str = REFUSAL
    ) -> Callable[[Values, Sequence[Any]], Outcome]:
        """The function of values and leaves that gives the values of these States.

        Raises:
            TraceError: Others are written; names all.
        """
        pure = pure_of(
            self.transform, self.function, self.form, numbers, refusal=refusal
        )
        pure.given(self.written.numbers)
        untouched = frozenset(numbers) - frozenset(self.written.numbers)

        def run(values: Values, rest: Sequence[Any]) -> Outcome:
            leaves, treedef = jax.tree.flatten((values, rest))
            # JAX may carry stronger types than those of the first round. Without
            # compilation rounds have values to see.
            if (
                DISABLE_JIT.value
                or treedef != self._in_treedef
                or list(map(jax.typeof, leaves)) != self._in_avals
            ):
                return pure(values, rest)
            outcome: Outcome = jax.tree.unflatten(
                self._out_treedef, self._evaluate(*leaves)
            )
            after = dict(zip(self.written.numbers, outcome[1], strict=True))
            new = tuple([after.get(number, values[number]) for number in numbers])
            containers = frozenset(
                number
                for number, value in zip(numbers, new, strict=True)
                if is_container(value)
            )
            return (
                Written(numbers, untouched, containers, self.written.has_nodes),
                new,
                outcome[2],
            )

        return run


def compiled(
    call: Call,
    functions: Sequence[Function],
    key: Hashable,
    body: Callable[..., Outcome],
    *extra: Any,
) -> Outcome:
    """The outcome of a call that JAX compiles as a whole, traced once for each form, shapes and dtypes.

    Args:
        call: The call.
        functions: The user's functions in it.
        key: What decides beside them and the form of the arguments what is compiled:
            options.
        body: What is compiled: a function of the functions, values, other leaves and
            `extra`. It depends on `key` and the form alone, and holds none of the
            functions, which would keep each other alive.
        *extra: Further arguments of it, arrays.
    """

    def make(live: Callable[[], list[Function]]) -> Function:
        def run(values: Values, rest: list[Any], *extra: Any) -> Outcome:
            return body(live(), values, rest, *extra)

        return jax.jit(run, inline=True)

    run = remembered_together(
        functions, ("compiled", call.transform), (key, call.form), make
    )
    return call.run(run, at_home(call), call.rest, *extra)  # type: ignore[no-any-return]  # as `body` gives


def picking(function: Function, positions: tuple[int, ...], count: int) -> Function:
    """The function of `count` arguments that passes those at some positions on; itself, if these are all."""
    if positions == tuple(range(count)):
        return function

    def make() -> Function:
        def picked(*args: Any) -> Any:
            return function(*[args[at] for at in positions])

        picked.__name__ = picked.__qualname__ = name_of(function)
        return picked

    return remembered(function, "picking", (positions, count), make)


def check_types(
    form: Form,
    function: Function,
    transform: str,
    before: Mapping[int, Any],
    after: Mapping[int, Any],
) -> None:
    """Raise if a State that a loop or branch writes does not keep its structure, shapes and dtypes.

    Raises:
        TypeError: Names all such States.
    """
    _check_same(
        form,
        function,
        transform,
        before,
        after,
        kind_of_value,
        "structure, shapes and dtypes",
    )


def check_shardings(
    form: Form,
    function: Function,
    transform: str,
    before: Mapping[int, Any],
    after: Mapping[int, Any],
) -> None:
    """Raise if a State that a loop writes does not keep its layout over an explicit mesh.

    Raises:
        TypeError: Names all such States.
    """
    _check_same(
        form, function, transform, before, after, shardings_of, "explicit sharding"
    )


def _check_same(
    form: Form,
    function: Function,
    transform: str,
    before: Mapping[int, Any],
    after: Mapping[int, Any],
    kind_of: Callable[[Any], Any],
    kind: str,
) -> None:
    changed = [
        number
        for number, new in after.items()
        if kind_of(before[number]) != kind_of(new)
    ]
    if changed:
        names = form.state_names(function)
        faults = [
            f"{names[at]} was {type_text(before[at])} and became {type_text(after[at])}"
            for at in changed
        ]
        raise TypeError(
            f"gn.{transform}: a State keeps its {kind} here; {'; '.join(faults)}"
        )


def shardings_of(value: Any) -> list[tuple[Any, ...]]:
    """How the arrays in a value are laid out over an explicit mesh."""
    return list(map(mesh_axes, jax.tree.leaves(value)))


class Carry:
    """The carry of a loop: what its function takes and must give back.

    Attributes:
        transform: The name of the loop, for messages.
        function: The function of one round.
        form: The form of its arguments.
        position: The position of the carry among them.
        at: The other leaves that belong to the carry, by their numbers among the rest.
    """

    def __init__(
        self, transform: str, function: Function, form: Form, position: int
    ) -> None:
        self.transform, self.function, self.form, self.position = (
            transform,
            function,
            form,
            position,
        )
        owners = form.owners()
        places = set(form.places)
        rest_owners = [owner for at, owner in enumerate(owners) if at not in places]
        self.at = [
            number for number, owner in enumerate(rest_owners) if owner == position
        ]

    def take(self, result: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
        """The leaves of a carry that the function gave, apart from nodes; and what puts others in their place.

        Raises:
            TypeError: It has another structure than the one that went in.
            StructureError: A node stands where another one was, or a new one.
        """
        owners, roots = (
            self.form.owners(),
            {place: _Root(at) for at, place in enumerate(self.form.places)},
        )
        wanted = [
            roots.get(at) for at, owner in enumerate(owners) if owner == self.position
        ]
        wanted_def = self.form.argument_def(self.position)
        found, found_def = (
            jax.tree.leaves(result, is_leaf=is_result_node),
            _treedef_of(result),
        )
        if wanted_def != found_def:
            raise TypeError(
                f"gn.{self.transform}: the carry that the function gives has another structure than the one that it "
                f"got: {found_def} instead of {wanted_def}"
            )
        for before, after in zip(wanted, found, strict=True):
            if before is not None or isinstance(after, ResultNode):
                self._check_node(before, after)

        def put(leaves: list[Any]) -> Any:
            following = iter(leaves)
            return jax.tree.unflatten(
                found_def,
                [
                    leaf if isinstance(leaf, ResultNode) else next(following)
                    for leaf in found
                ],
            )

        return [leaf for leaf in found if not isinstance(leaf, ResultNode)], put

    def _check_node(self, before: "_Root | None", after: Any) -> None:
        if (
            before is not None
            and isinstance(after, ResultNode)
            and self._is_same(before, after)
        ):
            return
        found = told(after)
        held = (
            "an array"
            if before is None
            else self.form.where(self.function, (before.number,))
        )
        raise StructureError(
            f"gn.{self.transform}: the carry holds {found} where it held {held}; a node of the carry is the same in "
            "every round: write to its States, and give it back in the carry"
        )

    def _is_same(self, before: "_Root", after: ResultNode) -> bool:
        top = after.graphdef.table.top
        return top[after.place] == top[before.number]


def _treedef_of(tree: Any) -> Any:  # Any: JAX's stubs give treedefs no equality
    return jax.tree.structure(tree, is_leaf=is_result_node)


class _Root:
    """Stands for a node of the arguments, by its number."""

    def __init__(self, number: int) -> None:
        self.number = number


def pair_of(transform: str, result: Any) -> tuple[Any, Any]:
    """The carry and the output that a function of `scan` gives.

    Raises:
        TypeError: It gives no pair.
    """
    if not (isinstance(result, tuple) and len(result) == 2):
        found = (
            f"a tuple of {len(result)}" if isinstance(result, tuple) else told(result)
        )
        raise TypeError(
            f"gn.{transform}: the function gives (carry, output); found {found}"
        )
    return result
