"""`custom_jvp`: a function of nodes with a derivative along tangents of its own."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from .._errors import StructureError, TraceError
from .._tracebacks import hides_frames
from ._arguments import Function, Values, name_of
from ._boundary import Call
from ._custom_rules import CustomRule, check_writes, work_later
from ._pure import Outcome, Pure
from ._tangents import Tangents, zero_tangent
from ._type_text import is_pair, pair_text

P = ParamSpec("P")
R = TypeVar("R")
# Any: a rule takes arguments in an order of its own, and tangents of their own types.
Rule = TypeVar("Rule", bound=Callable[..., tuple[Any, Any]])


class custom_jvp(CustomRule[P, R]):  # JAX's name
    """A function of nodes and arrays whose derivative the caller gives, as `jax.custom_jvp`.

    `defjvp(rule)` sets it: `rule(primals, tangents)` gives the result and its tangent.
    `primals` is the tuple of the arguments, in the order of the signature, defaults
    too, with live nodes in it, which are new. `tangents` has one for each, as `gn.jvp`
    takes them: for a node (or a pytree of nodes) a `StateTree` of all its States, zeros
    where nothing is known to change, of dtype float0 for integers and keys; for a pytree
    of nodes and arrays one like it, with these in place of its nodes. A State that
    several arguments hold has its tangent in each. States that the function writes are
    written back, and the rule must write the same; what is written has a tangent of
    zero. Reverse mode transposes the rule, which must be linear in the tangents.

    Args:
        fun: A function, a method or a callable node.
        nondiff_argnums: Positions of arguments that are not arrays: hashable. The rule
            gets them first, each as an argument, and they have no tangent.
        nondiff_argnames: Their names.

    Raises:
        AttributeError: At a call: neither `defjvp` nor `defjvps` was called.
        FieldError: At a call: an argument of `nondiff_argnums` is not hashable.
        StructureError: At a call: the function changes the structure of a node, or its
            result holds one. When it is differentiated: so does the rule.
        TraceError: When it is differentiated: the function and the rule write different
            States; or the function writes any, and has rules of `defjvps`.
        TypeError: When it is differentiated: the rule does not give a pair, of the
            structure, shapes and dtypes of the result; or `defjvps` was given another
            number of rules than there are arguments. At a call: an argument is given to
            a keyword-only parameter.
        ValueError: `nondiff_argnums` or `nondiff_argnames` names no argument.

    Example:
        >>> @gn.custom_jvp
        ... def apply(model, x):
        ...     return model(x)
        >>> @apply.defjvp
        ... def rule(primals, tangents):
        ...     (model, x), (of_model, of_x) = primals, tangents
        ...     return model(x), 10 * of_model["bias",].value
        >>> gn.grad(lambda model: apply(model, jnp.ones(2)).sum())(gn.nn.Linear(2, 3))["bias",].value
        Array([10., 10., 10.], dtype=float32)

    See also: `custom_vjp`, for a derivative in reverse mode alone.
    """

    _transform = "custom_jvp"
    _row = "tangents that the rule gets"
    _rule: Callable[..., tuple[Any, Any]] | None = None
    # Set by `defjvps`: for each argument a rule, or `None` for a tangent of zero.
    _by_argument: tuple[Callable[..., Any] | None, ...] | None = None

    def defjvp(self, jvp: Rule) -> Rule:
        """Set the rule, `jvp(*nondiff_args, primals, tangents)`, and give it back: a decorator, too."""
        self._rule, self._by_argument = jvp, None
        return jvp

    # Any: each takes tangents and primals of the function's own types.
    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Set a rule for each argument, whose tangents are added up; `None` for a tangent of zero.

        Each is `jvp(tangent, result, *primals)`. The function must not write to States.

        Raises:
            TypeError: There are `nondiff_argnums`.
        """
        if any(self._statics):
            raise TypeError(
                f"gn.custom_jvp: {name_of(self._target)} has nondiff_argnums, which defjvps does not take: give one "
                "rule to defjvp"
            )
        self._rule, self._by_argument = None, jvps

    @hides_frames
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._rule is None and self._by_argument is None:
            raise AttributeError(
                f"gn.custom_jvp: no derivative of {name_of(self._target)}: call defjvp(rule) first"
            )
        call, positions, static_args = self._call_of(args, kwargs)
        pure, forms = call.pure(), Tangents(call, positions)
        rule: Function = self._rule or self._sum_of_rules
        work = work_later(call)

        def run_rule(
            primals: tuple[Values, list[Any]], tangents: tuple[Values, list[Any]]
        ) -> tuple[Outcome, Outcome]:
            """The user's rule as JAX calls it: from values and leaves, with tangents, to the outcome and its own."""
            expected: Outcome = work(jax.eval_shape, pure, *primals)
            if self._by_argument is not None:
                _check_no_writes(call, expected)
            of_primals = forms.assemble(*tangents)

            # By the name and with the parameters of the function, which messages speak
            # of.
            @functools.wraps(self._target)
            def with_tangents(*arguments: Any) -> Any:
                """The rule, of the arguments that the function takes."""
                live = tuple([arguments[position] for position in positions])
                return rule(*static_args, live, of_primals)

            # Not kept, as this holds tangents.
            site = dataclasses.replace(call.site, function=with_tangents)
            outcome: Outcome = work(Pure(site), *primals)
            return _with_tangents(call, expected, outcome)

        # Anew at each call: the rule holds this call, whose nodes are the caller's.
        run = jax.custom_jvp(pure)
        run.defjvp(run_rule)
        outcome = call.run(run, call.values, call.other_leaves)
        # Before anything is written into the caller's States.
        if outcome[0].has_nodes:
            raise StructureError(
                "gn.custom_jvp differentiates arrays, but the result holds a node"
            )
        return call.finish(outcome)  # type: ignore[no-any-return]  # what the function gave

    def _sum_of_rules(
        self, primals: tuple[Any, ...], tangents: tuple[Any, ...]
    ) -> tuple[Any, Any]:
        """The rule that the rules of `defjvps` make up: the result, and the sum of what they give for the tangents."""
        rules = self._by_argument or ()
        if len(rules) != len(primals):
            raise TypeError(
                f"gn.custom_jvp: defjvps takes a rule, or None, for each argument; found {len(rules)} rules for the "
                f"{len(primals)} arguments of {name_of(self._target)}"
            )
        # The rule of the function itself again, for derivatives of the second order.
        result = self._unbound()(*primals)
        total = jax.tree.map(zero_tangent, jax.tree.map(jnp.asarray, result))
        for rule, tangent in zip(rules, tangents, strict=True):
            if rule is not None:
                total = jax.tree.map(_sum, total, rule(tangent, result, *primals))
        return result, total

    def _unbound(self) -> Function:
        """A `custom_jvp` of the plain function with the same rules, which takes the bound node as an argument.

        For `target_of`: to another transform the node must be an argument, not a constant.
        """
        unbound: custom_jvp[..., R] = custom_jvp(self._target, tuple(self._statics[0]))
        unbound._rule, unbound._by_argument = self._rule, self._by_argument
        return unbound


def _with_tangents(
    call: Call, expected: Outcome, outcome: Outcome
) -> tuple[Outcome, Outcome]:
    """What JAX gets of a rule: an outcome like that of the function, and the tangent of all of it.

    Args:
        call: The call.
        expected: What the function gives, as shapes and dtypes.
        outcome: What the rule gave, whose result is a pair.

    Raises:
        StructureError, TraceError, TypeError: As of `custom_jvp`.
    """
    written, new_values, pair = outcome
    check_writes(call, expected[0].numbers, written.numbers, "the rule")
    if written.has_nodes or expected[0].has_nodes:
        raise StructureError(
            "gn.custom_jvp differentiates arrays, but the result holds a node"
        )
    if not is_pair(pair):
        raise TypeError(
            f"gn.custom_jvp: the rule gives (result, tangent); found {pair_text(pair)}"
        )
    # Any: JAX's stubs give treedefs no equality.
    of_function: Any = jax.tree.structure(expected[2])
    for part, what in zip(pair, ("result", "tangent"), strict=True):
        if jax.tree.structure(part) != of_function:
            raise TypeError(
                f"gn.custom_jvp: the {what} that the rule gives has another structure than the result of the "
                f"function: {jax.tree.structure(part)} instead of {of_function}"
            )
    result, tangent = pair
    of_values = jax.tree.map(zero_tangent, jax.tree.map(jnp.asarray, new_values))
    return (expected[0], new_values, result), (expected[0], of_values, tangent)


def _check_no_writes(call: Call, expected: Outcome) -> None:
    """Raise if a function writes States, and has a rule for each argument: none of the rules could write them.

    Raises:
        TraceError: Names all States that it writes.
    """
    if expected[0].numbers:
        names = ", ".join(map(call.state_name, expected[0].numbers))
        raise TraceError(
            f"gn.custom_jvp: the function writes {names}, and the rules of defjvps give tangents alone: give defjvp "
            "one rule, which writes them too"
        )


def _sum(left: Any, right: Any) -> Any:
    """The sum of two tangents of one array; that of an integer, of a type that JAX does not add, is zero."""
    return left if jnp.result_type(left) == jax.dtypes.float0 else jnp.add(left, right)
