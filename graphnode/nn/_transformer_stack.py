"""`TransformerStack`, transformer blocks one after the other: an encoder or a decoder."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._errors import ConfigError, ContractError, Fault, listed
from .._fields import static, subnode
from .._filters import Not
from .._inspect import nodes
from .._paths import Path, path_str
from .._rngs import Rngs, RngState
from .._split import states
from .._stack import stack
from .._state import ParamState
from ..transforms import remat, scan
from ._attention_base import Attention
from ._block import Block
from ._dtypes import promoted
from ._module import Layer
from ._transformer import TransformerBlock

Sequence: TypeAlias = Float[Array, "*batch time width"]
Context: TypeAlias = Float[Array, "*batch context context_size"]
Carry: TypeAlias = tuple[jax.Array, Rngs | None]

# The role of the axis along which the blocks are stacked.
_LAYERS = "layers"


class TransformerStack(Block):
    """Transformer blocks, one after the other, and a norm behind the last: an encoder, or a decoder.

    It is the blocks that say which: attention that is causal is that of a decoder, and
    with cross attention, of one behind an encoder (see `EncoderDecoder`).

    With `scan`, the blocks are stacked, `gn.stack(blocks, name="layers")`, and run by
    `gn.scan`: one block is traced and compiled, however many there are. They must have one
    structure. A pattern of several kinds is a stack of stacks.

    Args:
        blocks: The blocks, from the first to the last; or stacks of them.
        norm: Behind the last block; by default there is none.
        scan: Whether the blocks are stacked.
        remat: Whether what is computed in a block is computed again in the backward
            pass, and not kept.
        remat_policy: What is kept all the same, such as one of
            `jax.checkpoint_policies`.

    Raises:
        ContractError: There are no blocks; blocks that share States are to be stacked.
        StackError: Blocks that are to be stacked differ in shapes.
        StructureError: They differ in structure.

    Example:
        >>> blocks = [gn.nn.TransformerBlock(8, 2, is_causal=True) for _ in range(3)]
        >>> decoder = TransformerStack(blocks, norm=gn.nn.LayerNorm(8), scan=True)
        >>> decoder.blocks.attention.query.weight.value.shape, decoder(jnp.ones((2, 5, 8))).shape
        ((3, 8, 8), (2, 5, 8))
    """

    blocks: list[Block] | Block
    """The blocks; stacked, one node with one more axis."""
    _: KW_ONLY
    norm: Layer | None = subnode(default=None)
    """Behind the last block."""
    scan: InitVar[bool] = False
    """Whether the blocks are stacked."""
    remat: bool = False
    """Whether what is computed in a block is computed again in the backward pass."""
    remat_policy: Callable[..., bool] | None = static(default=None)
    """What is kept all the same."""
    num_layers: int = static(init=False)
    """Number of blocks."""

    def __post_init__(self, scan: bool) -> None:
        blocks = self.blocks
        if not isinstance(blocks, list) or not blocks:
            found = f"a {type(blocks).__name__}" if blocks else "none"
            raise ContractError(
                f"TransformerStack.blocks: expected a list of at least one block; found {found}"
            )
        self.num_layers = len(blocks)
        if scan:
            _check_shares_nothing(blocks)
            self.blocks = stack(blocks, name=_LAYERS)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the blocks still show, for `gn.config.to_config`.

        Raises:
            ConfigError: The blocks are stacked: a file has a list of them.
        """
        if self.is_scanned:
            what = "expected a list of blocks, which a file has; found blocks that are stacked"
            raise ConfigError(
                [Fault(what, path="blocks", hint="gn.unstack takes them apart")]
            )
        return {}

    @property
    def is_scanned(self) -> bool:
        """Whether the blocks are stacked, and run by `gn.scan`."""
        return not isinstance(self.blocks, list)

    def init_cache(
        self,
        batch_size: int,
        length: int | None = None,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> None:
        """Give the attention of each block an empty cache: from then on, a call continues the sequence.

        Args:
            batch_size: Number of sequences.
            length: How many elements there is room for in each; left out, caches of the
                windows, if the attention has one in all blocks.
            dtype: Of what is kept; by default what is computed in.
            ragged: Whether each sequence has a position of its own.

        Raises:
            ContractError: What the attention refuses; attention that several blocks share.
        """
        self._give_each(
            lambda block: block.init_cache(batch_size, length, dtype, ragged=ragged)
        )

    def init_context_cache(
        self, batch_size: int, length: int, dtype: DTypeLike | None = None
    ) -> None:
        """Give the cross attention of each block an empty cache: a call with a context keeps it, for calls without.

        Args:
            batch_size: Number of sequences.
            length: How many elements of a context there is room for.
            dtype: Of what is kept; by default what is computed in.

        Raises:
            ContractError: A block has no cross attention, or that refuses.
        """
        self._give_each(
            lambda block: block.init_context_cache(batch_size, length, dtype)
        )

    def _give_each(self, give: Callable[[Block], object]) -> None:
        """Give each block nodes of its own; to stacked blocks, nodes that are stacked alike.

        Args:
            give: Called with a block, of which it sets fields.
        """
        blocks = self.blocks
        if isinstance(blocks, list):
            _check_attention_of_their_own(blocks)
            for block in blocks:
                give(block)
            return
        before = set(map(id, nodes(blocks).values()))
        give(blocks)
        after = nodes(blocks)
        for path, node in after.items():
            holder = after.get(path[:-1])
            # What is inside of a new node is stacked with it.
            if id(node) not in before and id(holder) in before:
                assert isinstance(path[-1], str)
                stacked = stack([node] * self.num_layers, name=_LAYERS)
                setattr(holder, path[-1], stacked)

    def __call__(
        self,
        x: Sequence,
        context: Context | None = None,
        *,
        mask: jax.Array | None = None,
        bias: jax.Array | None = None,
        positions: jax.Array | None = None,
        lengths: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        context_lengths: jax.Array | None = None,
        rngs: Rngs | None = None,
    ) -> Sequence:
        """Map `x` of shape `[..., time, width]` to the same shape, by one block after the other.

        Args:
            x: The sequence.
            context: What cross attention attends to, of shape `[..., context,
                context_size]`; left out once it is in caches.
            mask: Who attends to whom in `x`, as in `MultiHeadAttention`.
            bias: What is added to the scores of the attention of each block.
            positions: Of the elements of `x`.
            lengths: How many elements of each sequence count.
            context_mask: Who attends to whom in the context.
            context_lengths: How many elements of each context count.
            rngs: What dropout draws from, in place of its own.

        Raises:
            ContractError: What the blocks refuse.
        """

        def plain(block: Block, x: jax.Array, rngs: Rngs | None) -> jax.Array:
            """What a block makes of `x`."""
            return block(
                x,
                context,
                mask=mask,
                bias=bias,
                positions=positions,
                lengths=lengths,
                context_mask=context_mask,
                context_lengths=context_lengths,
                rngs=rngs,
            )

        blocks = self.blocks
        run: Callable[[Block, jax.Array, Rngs | None], jax.Array] = plain
        if self.remat:
            # Each round of a scan is a computation of its own: XLA could not merge the second
            # one with the first, and need not be kept from it.
            run = remat(
                plain, policy=self.remat_policy, prevent_cse=not self.is_scanned
            )
        if isinstance(blocks, list):
            for block in blocks:
                x = run(block, x, rngs)
        else:

            def step(carry: Carry, block: Block) -> tuple[Carry, None]:
                """One round of the scan; the streams are in the carry, as each draw goes on from the last."""
                x, rngs = carry
                return (run(block, x, rngs), rngs), None

            # What is carried has one dtype, from the start.
            (x, _), _ = scan(step, (_result(blocks, x), rngs), blocks)
        return x if self.norm is None else self.norm(x)


def _result(block: Block, x: jax.Array) -> jax.Array:
    """`x` in the dtype that a block gives."""
    first = block
    while isinstance(first, TransformerStack):
        first = first.blocks[0] if isinstance(first.blocks, list) else first.blocks
    params = [state.value for state in states(block, ParamState).values()]
    dtype = first.dtype if isinstance(first, TransformerBlock) else None
    return promoted(dtype, x, *params)[0]


def _check_attention_of_their_own(blocks: list[Block]) -> None:
    """Raise if blocks share attention that is to get a cache: each place in the stack has other keys and values.

    Raises:
        ContractError: Names what is shared.
    """
    shared = _shared(blocks, lambda block: nodes(block, Attention))
    if shared:
        raise ContractError(
            "TransformerStack.init_cache: expected blocks with attention of their own, as one cache would get what is "
            f"at several places; found {listed(shared)}, which are one"
        )


def _check_shares_nothing(blocks: list[Block]) -> None:
    """Raise if blocks that are to be stacked share States: each would get its own, and they would be tied no more.

    Random streams may be shared, which `gn.stack` forks.

    Raises:
        ContractError: Names what is shared.
    """
    shared = _shared(blocks, lambda block: states(block, Not(RngState)))
    if shared:
        raise ContractError(
            "TransformerStack.scan: expected blocks that share no States, as each gets a copy of its own in a stack; "
            f"found {listed(shared)}"
        )


def _shared(
    blocks: list[Block], parts_of: Callable[[Block], Mapping[Path, object]]
) -> list[str]:
    """What several blocks have: for each such part its paths, as text."""
    places: dict[int, list[str]] = {}
    for at, block in enumerate(blocks):
        for path, part in parts_of(block).items():
            places.setdefault(id(part), []).append(f"blocks.{at}.{path_str(path)}")
    return [" and ".join(paths) for paths in places.values() if len(paths) > 1]
