"""`lookahead`: that of optax for the parameters of a model, with the slow ones in its state.

Optax's own works on pairs of fast and slow parameters, which stand in the place of the
parameters. A model has one value for each of its States.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import optax


class SlowParams(NamedTuple):
    """What `lookahead` remembers. Any: both are of optax's classes, or of those of the parameters."""

    slow: Any
    lookahead: Any


def lookahead(
    fast_optimizer: "optax.GradientTransformation",
    sync_period: int,
    slow_step_size: float,
    reset_state: bool = False,
) -> "optax.GradientTransformation":
    """`optax.lookahead` for an `Optimizer`: the model has the fast parameters, and the slow ones are remembered.

    Gradients are those of the model. The slow parameters are for evaluation: they stand
    in the memory at the paths of the model, and are
    `optax.tree_utils.tree_get(optimizer.native_state(model), "slow")`.

    Args:
        fast_optimizer: Makes each step.
        sync_period: After how many steps the parameters go back to the slow ones, at
            least 1.
        slow_step_size: Which part of the way to the fast parameters the slow ones go
            then.
        reset_state: Whether `fast_optimizer` begins anew then.

    Raises:
        ImportError: optax is not installed.
        ValueError: `sync_period` is less than 1.

    Example:
        >>> import optax
        >>> model = gn.nn.Linear(2, 3)
        >>> optimizer = gn.optim.Optimizer(model, gn.optim.lookahead(optax.sgd(0.1), sync_period=5, slow_step_size=0.5))
        >>> slow = optax.tree_utils.tree_get(optimizer.native_state(model), "slow")
        >>> averaged = gn.clone(model)
        >>> gn.update_states(averaged, slow)
    """
    import optax

    on_pairs = optax.lookahead(fast_optimizer, sync_period, slow_step_size, reset_state)

    # Any: optax's types know no parameters but containers of arrays.
    def init(params: Any) -> SlowParams:
        return SlowParams(
            params, on_pairs.init(optax.LookaheadParams.init_synced(params))
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, SlowParams]:
        pair = optax.LookaheadParams(fast=params, slow=state.slow)
        result = on_pairs.update(updates, state.lookahead, pair)
        moves, inner = cast("tuple[Any, Any]", result)
        slow = optax.apply_updates(state.slow, moves.slow)
        return moves.fast, SlowParams(slow, inner)

    return optax.GradientTransformation(init, update)
