"""What loops and branches share: a carry with nodes in it, and which States a function writes.

A loop carries the values of the States that its function writes, and the other leaves
of its carry. The nodes of the carry themselves are the same in every round: `Carry.take`
checks that.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from .._compat import DISABLE_JIT
from .._errors import StructureError
from .._growth import Growth, growth_since
from .._method_wrappers import call_method
from .._reads import READING
from .._value import is_container
from ._arguments import Function, Values, show_as
from ._boundary import Call
from ._following import Following
from ._fork import at_home
from ._kept import remembered, remembered_together
from ._pure import REFUSAL, Outcome, Pure, pure_of
from ._replay import Replay
from ._result_nodes import ResultNode, is_result_node
from ._signature import CallSite
from ._surroundings import Surroundings
from ._type_text import is_pair, mesh_axes, pair_text, result_text, type_text
from ._written import Written, kind_of_value


def writes_of(
    pure: Pure, values: Values, other_leaves: Sequence[Any]
) -> tuple[int, ...]:
    """The States that a function writes, by their numbers: found by tracing it once with abstract values.

    For `gn.custom_vjp`, whose function and `fwd` must write the same States.
    """
    outcome: Outcome = jax.eval_shape(pure, values, other_leaves)
    return outcome[0].numbers


class Traced:
    """The trace of a function of nodes: it says what the function writes, and stands for it afterwards (`Replay`).

    Args:
        site: The function of one round or branch, and the signature of its arguments.
        values: The values of all States, or their shapes and dtypes.
        other_leaves: The other leaves, or their shapes and dtypes.
        check: Raises if the function gives a result that the loop does not take. It
            gets what the function gave, where a trace has arrays for numbers.

    Attributes:
        site: As given.
        written: What the function writes.
        values: The values of the States that it writes, as shapes and dtypes.
        result: Its result, as shapes and dtypes.
        growths: How the States grow that are counters, by number.
    """

    def __init__(
        self,
        site: CallSite,
        values: Values,
        other_leaves: Sequence[Any],
        check: Callable[[Any], object] = lambda _: None,
    ) -> None:
        self.site = site
        pure = pure_of(site)

        # A function of its own: JAX would keep the trace of `pure`, with tracers of
        # outside in it.
        def run(values: Values, other_leaves: Sequence[Any]) -> Outcome:
            """The pure function, whose result is checked while JAX traces it."""
            outcome = pure(values, other_leaves)
            check(outcome[2])
            self._note_growths(values, outcome)
            return outcome

        show_as(run, site.function)
        self.growths: dict[int, Growth] = {}
        jaxpr, outcome = jax.make_jaxpr(run, return_shape=True)(values, other_leaves)
        self._replay = Replay(jaxpr, values, other_leaves, outcome)
        self.written: Written
        self.values: Values
        self.result: Any
        self.written, self.values, self.result = outcome

    def _note_growths(self, values: Values, outcome: Outcome) -> None:
        """Keep how the States grow that are counters, such as of the tokens in a cache."""
        written, new_values, _ = outcome
        for number, value in zip(written.numbers, new_values, strict=True):
            growth = growth_since(values[number], value)
            if growth is not None:
                self.growths[number] = growth

    def returning(
        self, numbers: tuple[int, ...], refusal: str = REFUSAL
    ) -> Callable[[Values, Sequence[Any]], Outcome]:
        """The function of values and leaves that returns the values of these States: JAX runs it as round or branch.

        It evaluates the trace, so that the user's function is not traced a second time.

        Raises:
            TraceError: Others are written; names all.
        """
        pure = pure_of(self.site, numbers, refusal=refusal)
        pure.returned(self.written.numbers)  # raises for what may not be written
        # A branch returns what other branches write, too: as it was.
        unchanged = frozenset(numbers) - frozenset(self.written.numbers)

        def run(values: Values, other_leaves: Sequence[Any]) -> Outcome:
            """The function of values and leaves: by its trace, or by running it where that does not fit."""
            # Without compilation, rounds have values to see, such as in a `print`. And
            # JAX may carry stronger types than those of the first round.
            outcome = (
                None
                if DISABLE_JIT.value
                else self._replay.outcome(values, other_leaves)
            )
            if outcome is None:
                return pure(values, other_leaves)
            _, written_values, result = outcome
            after = dict(zip(self.written.numbers, written_values, strict=True))
            new_values = [after.get(number, values[number]) for number in numbers]
            containers = [
                number
                for number, value in zip(numbers, new_values, strict=True)
                if is_container(value)
            ]
            written = Written(
                numbers, unchanged, frozenset(containers), self.written.has_nodes
            )
            return written, tuple(new_values), result

        return run


def compiled(
    call: Call,
    functions: Sequence[Function],
    key: Hashable,
    body: Callable[..., Outcome],
    *extra: Any,
) -> Outcome:
    """The outcome of a call that JAX compiles as a whole, traced once for each signature, shapes and dtypes.

    For `cond`, `switch` and the loops: the functions that they hand to JAX are made anew
    at each call, and JAX alone would trace them each time.

    Args:
        call: The call.
        functions: The user's functions in it.
        key: What decides beside them and the signature what is compiled: options.
        body: What is compiled: a function of the functions, values, other leaves and
            `extra`. It depends on `key` and the signature alone, and holds none of
            the functions, which would keep each other alive.
        *extra: Further arguments of it, arrays.
    """
    if READING.reads is None:
        graphdef = call.binding.graphdef
        around = remembered_together(
            functions,
            "around",
            graphdef,
            lambda live: Surroundings.of(live(), graphdef),
        )
        call.held = around.held()

    def make(live: Callable[[], list[Function]]) -> Following:
        """The compiled function, made around what gives the user's functions for as long as they live."""

        def run(values: Values, other_leaves: list[Any], *extra: Any) -> Outcome:
            """What JAX compiles: `body` with the user's functions, as long as they live."""
            return body(live(), values, other_leaves, *extra)

        return Following(run)

    following = remembered_together(
        functions,
        ("compiled", call.transform),
        # With what the nodes are called here, as what is traced has these names.
        (key, call.signature, call.held.key, call.labels_around()),
        make,
    )
    return call.run(following.run, call, at_home(call), call.other_leaves, *extra)  # type: ignore[no-any-return]  # as `body` gives


def picking(function: Function, positions: tuple[int, ...], count: int) -> Function:
    """`function`, called with its own of the arguments that all functions of `cond`, `switch` or `while_loop` get.

    Args:
        function: The function; it is given back itself if all arguments are its own.
        positions: Those of its own arguments, in the order in which it takes them.
        count: How many arguments all of the functions get.
    """
    # The function itself, so that it shares what is kept on it with other calls.
    if positions == tuple(range(count)):
        return function

    def make() -> Function:
        """`function`, called with its own among all of the arguments, under its name, which JAX shows."""

        def picked(*args: Any) -> Any:
            """`function` with its own of all the arguments."""
            return call_method(function, *[args[at] for at in positions])

        show_as(picked, function)
        return picked

    return remembered(function, "picking", (positions, count), make)


def check_types(
    site: CallSite, before: Mapping[int, Any], after: Mapping[int, Any]
) -> None:
    """Raise if a State that a loop or branch writes does not keep its structure, shapes and dtypes.

    JAX refuses that of a carry alone, and without the name of the State.

    Raises:
        TypeError: Names all such States.
    """
    _check_same(site, before, after, kind_of_value, "structure, shapes and dtypes")


def check_shardings(
    site: CallSite, before: Mapping[int, Any], after: Mapping[int, Any]
) -> None:
    """Raise if a State that a loop writes does not keep its layout over an explicit mesh.

    Beside `check_types`: there the layout is part of the type that a carry must keep.

    Raises:
        TypeError: Names all such States.
    """
    _check_same(site, before, after, shardings_of, "explicit sharding")


def _check_same(
    site: CallSite,
    before: Mapping[int, Any],
    after: Mapping[int, Any],
    kind_of: Callable[[Any], Any],
    kind: str,
) -> None:
    """For `check_types` and `check_shardings`: raise if written States do not keep what `kind_of` gives of them.

    Args:
        site: The function of one round or branch.
        before: The values that went in, by number.
        after: The values of the written States, by number.
        kind_of: From a value to what must stay the same of it.
        kind: What a message calls that.

    Raises:
        TypeError: Names all such States.
    """
    changed = [
        number
        for number, new in after.items()
        if kind_of(before[number]) != kind_of(new)
    ]
    if changed:
        names = site.state_names()
        faults = [
            f"{names[at]} was {type_text(before[at])} and became {type_text(after[at])}"
            for at in changed
        ]
        raise TypeError(
            f"gn.{site.transform}: a State keeps its {kind} here; {'; '.join(faults)}"
        )


def shardings_of(value: Any) -> list[tuple[Any, ...]]:
    """How the arrays in a value are laid out over an explicit mesh: what rounds must keep, and branches agree on."""
    return list(map(mesh_axes, jax.tree.leaves(value)))


class Carry:
    """The carry of a loop: what its function takes and must give back.

    Attributes:
        site: The function of one round, and the signature of its arguments.
        at: The other leaves that belong to the carry, by their numbers.

    Args:
        site: The function of one round, and the signature of its arguments.
        position: The position of the carry among the arguments.
        has_output: Whether the function gives a pair, of the carry and an output.
    """

    def __init__(
        self, site: CallSite, position: int, *, has_output: bool = False
    ) -> None:
        self.site, self._has_output = site, has_output
        signature = site.signature
        (places,) = signature.leaf_places([position])
        self.at = [place.other for place in places if place.other is not None]
        self._treedef = signature.argument_def(position)
        # For each leaf of the carry the node that stands there, by its number among all
        # of the arguments; `None` for an array.
        root_at = {place: root for root, place in enumerate(signature.places)}
        self._roots = [root_at.get(place.leaf) for place in places]

    def take(self, result: Any) -> "ReturnedCarry":
        """What the function of one round gave, as a carry, once it fits the one that went in.

        Raises:
            TypeError: It has another structure than the one that went in; or the
                function must give a pair, and does not.
            StructureError: A node stands where another one was, or a new one.
        """
        transform, output = self.site.transform, None
        if self._has_output:
            if not is_pair(result):
                raise TypeError(
                    f"gn.{transform}: the function gives (carry, output); found {pair_text(result)}"
                )
            result, output = result
        parts, treedef = jax.tree.flatten(result, is_leaf=is_result_node)
        treedefs: list[object] = [treedef, self._treedef]  # JAX's stubs: no equality
        if treedefs[0] != treedefs[1]:
            raise TypeError(
                f"gn.{transform}: the carry that the function gives has another structure than the one that it "
                f"got: {treedef} instead of {self._treedef}"
            )
        for root, part in zip(self._roots, parts, strict=True):
            self._check_node(root, part)
        return ReturnedCarry(parts, treedef, output)

    def _check_node(self, root: int | None, part: Any) -> None:
        """Raise if a leaf of the returned carry is not the node that went in at its place.

        A loop hands on arrays alone: the next round would get the first node again.

        Args:
            root: The number of that node among all of the arguments; `None` for an array.
            part: The leaf: a `ResultNode`, or an array.

        Raises:
            StructureError: Another node, or a node in place of an array, or an array in place
                of a node.
        """
        is_node = isinstance(part, ResultNode)
        if root is None and not is_node:
            return
        if root is not None and is_node:
            top = part.graphdef.table.top
            # The same object of the graph, not only an equal one: places of one shared
            # node differ, its object is one.
            if top[part.place] == top[root]:
                return
        before = "an array" if root is None else self.site.path_name((root,))
        raise StructureError(
            f"gn.{self.site.transform}: the carry holds {result_text(part)} where it held {before}; a node of the "
            "carry is the same in every round: write to its States, and give it back in the carry"
        )


class ReturnedCarry(NamedTuple):
    """A carry that the function of one round gave.

    Attributes:
        parts: Its leaves, with a `ResultNode` for each node.
        treedef: Of these.
        output: What the function gave beside it.
    """

    parts: list[Any]
    treedef: Any
    output: Any

    @property
    def leaves(self) -> list[Any]:
        """The leaves that are not nodes: what the loop carries to the next round; `with_leaves` puts the nodes back."""
        return [part for part in self.parts if not is_result_node(part)]

    def with_leaves(self, leaves: Sequence[Any]) -> Any:
        """The last carry, for the user: the same nodes, and what the loop ended with in place of `leaves`."""
        following = iter(leaves)
        parts = [
            part if is_result_node(part) else next(following) for part in self.parts
        ]
        return jax.tree.unflatten(self.treedef, parts)
