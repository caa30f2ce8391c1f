"""`Mamba2Cache`, what a state-space layer keeps of the tokens that were decoded before."""

from dataclasses import KW_ONLY, InitVar

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import state
from .._signals import write_all
from .._state import ShortTermState
from ._checks import count, size
from ._dtypes import scalar_type
from ._module import Module


class Mamba2Cache(Module):
    """What `Mamba2` keeps of the tokens so far: its state, and the last inputs of its convolution.

    Its size does not depend on their number, so that it is never full.

    Args:
        batch_size: Number of sequences.
        num_heads: Heads of the layer.
        head_size: Features of each.
        state_size: Numbers that are kept for each of these.
        window_size: How many inputs of the convolution are kept.
        channels: Channels of the convolution.
        dtype: Of what is kept.

    Raises:
        ContractError: A size that is not a positive integer.

    Example:
        >>> layer = gn.nn.Mamba2(8, head_size=4, state_size=2)
        >>> layer.init_cache(batch_size=1).ssm_state.value.shape
        (1, 4, 4, 2)
    """

    batch_size: int
    """Number of sequences."""
    num_heads: int
    """Heads of the layer."""
    head_size: int
    """Features of each head."""
    state_size: int
    """Numbers that are kept for each feature."""
    window_size: int
    """How many inputs of the convolution are kept."""
    channels: int
    """Channels of the convolution."""
    _: KW_ONLY
    dtype: InitVar[DTypeLike] = jnp.float32
    """Of what is kept."""
    conv_state: ShortTermState[
        Float[Array, "batch=batch_size window=window_size inner=channels"]
    ] = state(init=False)
    """The last inputs of the convolution; zero where there was none."""
    ssm_state: ShortTermState[
        Float[
            Array,
            "batch=batch_size heads=num_heads head=head_size state=state_size",
        ]
    ] = state(init=False)
    """What is carried from one token to the next."""

    def __post_init__(self, dtype: DTypeLike) -> None:
        self.batch_size = size("Mamba2Cache.batch_size", self.batch_size)
        self.num_heads = size("Mamba2Cache.num_heads", self.num_heads)
        self.head_size = size("Mamba2Cache.head_size", self.head_size)
        self.state_size = size("Mamba2Cache.state_size", self.state_size)
        self.window_size = count("Mamba2Cache.window_size", self.window_size)
        self.channels = size("Mamba2Cache.channels", self.channels)
        of_state = (self.batch_size, self.num_heads, self.head_size, self.state_size)
        of_window = (self.batch_size, self.window_size, self.channels)
        self.conv_state = ShortTermState(jnp.zeros(of_window, dtype))
        self.ssm_state = ShortTermState(jnp.zeros(of_state, dtype))

    def __init_vars__(self) -> dict[str, object]:
        """The init variable that the state still shows, for `gn.config.to_config`."""
        return {"dtype": scalar_type(self.ssm_state.value)}

    def reset(self) -> None:
        """Begin anew."""
        states = (self.conv_state, self.ssm_state)
        write_all(states, [jnp.zeros_like(state.value) for state in states])
