"""What an optimizer takes for a transformation, and the errors about anything else.

Checks of the arguments of `Optimizer`, and the first state of a transformation. optax is
only imported when an optimizer is made.
"""

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax

from .._describe import describe
from .._errors import listed
from .._filters import as_filter
from .._statetree import StateTree
from .._static import GraphObject
from ._memory import Transformation


def check_arguments(model: object, tx: object) -> None:
    """Raise if what should be the transformation is not one, or if it stands first.

    Raises:
        TypeError: Says which comes first, or what to write.
    """
    # With a transformation first, the two are swapped: the message about that is below.
    if isinstance(tx, Mapping) and not acts_as_transformation(model):
        _check_mapping(tx)
        return
    if acts_as_transformation(tx):
        return
    if acts_as_transformation(model):
        raise TypeError(
            f"Optimizer takes the model first: gn.optim.Optimizer(model, tx); found {type(model).__name__}, "
            f"then {describe(tx)}"
        )
    such_as = "" if inspect.isroutine(tx) else ", such as optax.adam(1e-3)"
    raise TypeError(
        f"Optimizer takes an optax transformation second{such_as}; found {_misfit_text(tx)}"
    )


def _misfit_text(value: object) -> str:
    """For a message: what is not a transformation; a function of optax that gives one is to be called."""
    if not inspect.isroutine(value):
        return describe(value)
    name = getattr(value, "__name__", "tx")
    return f"the function {name}: call it, as in optax.{name}(1e-3)"


def _check_mapping(by_filter: Mapping[Any, Any]) -> None:
    """Raise if something in a mapping from filters is not a transformation.

    Raises:
        TypeError: Names all.
    """
    faults = [
        f"{as_filter(key)!r}: {_misfit_text(tx)}"
        for key, tx in by_filter.items()
        if not (tx is None or acts_as_transformation(tx))
    ]
    if faults:
        raise TypeError(
            f"Optimizer takes a mapping from filters to optax transformations, or None; found {listed(faults)}"
        )


def initial_state(tx: Transformation, params: StateTree) -> Any:
    """The first state of a transformation.

    Raises:
        TypeError: A mask does not fit the parameters, or the parameters are to be
            pairs; says what to write.
    """
    try:
        state = tx.init(params)
    except ValueError as error:
        if _is_misfit(str(error)):
            raise TypeError(
                "the mask or labels in an optax transformation must be a state tree as the parameters are, or a "
                "function that gives one for them; for a dict by path write "
                "gn.optim.labels({gn.Under('encoder'): True, ...: False})"
            ) from error
        raise
    if _has_pairs(state):
        raise TypeError(
            "optax.lookahead does not work on the parameters of a model, but on pairs of fast and slow ones; write "
            "gn.optim.lookahead, which keeps the slow ones in the memory"
        )
    return state


def _is_misfit(text: str) -> bool:
    """Whether an error of `init` is JAX's text for a mask or labels that are no prefix of a state tree."""
    # By JAX's text, as it raises a plain ValueError: so does a user's own mask
    # function.
    if "prefix pytree" in text:
        return "StateTree" in text
    # Before JAX 0.10.
    return (
        "Expected dict, got" in text and "TreefyState" in text
    ) or "Mismatch custom node data: Layout(" in text


def _has_pairs(state: Any) -> bool:
    """Whether `optax.lookahead` is somewhere in a transformation, by its state: `Optimizer` has no pairs for it."""
    pairs = imported_optax().LookaheadState

    # What is not optax's own, such as `SlowParams`, may give it pairs.
    def is_leaf(part: object) -> bool:
        """Whether to look no further: at a state of `optax.lookahead`, or of another package."""
        package = type(part).__module__.partition(".")[0]
        is_foreign = package not in ("optax", "builtins", "collections")
        return is_foreign or isinstance(part, pairs)

    leaves = jax.tree.leaves(state, is_leaf=is_leaf)
    return any(isinstance(leaf, pairs) for leaf in leaves)


def acts_as_transformation(value: object) -> bool:
    """Whether `Optimizer` takes a value for its transformation, by its methods; `MultiSteps` is of another class."""
    # Classes have the methods of their instances, and are not called yet; a node with
    # such methods is a model.
    if isinstance(value, type | GraphObject):
        return False
    methods = [getattr(value, name, None) for name in ("init", "update")]
    return all(map(callable, methods))


def imported_optax() -> ModuleType:
    """The module optax, imported when it is first needed, as `graphnode` works without it.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import optax
    except ImportError as error:
        remedy = "pip install 'graphnode[optim]'"
        raise ImportError(
            f"graphnode.optim needs optax, which is not installed: {remedy}",
            name="optax",
        ) from error
    module: ModuleType = optax
    return module
