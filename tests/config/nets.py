"""The node classes that the tests of configurations build: each kind of field that a file can give."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import pydantic
from jaxtyping import Array, Float

import graphnode as gn


class Color(enum.Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Window:
    """A record of static values."""

    size: int
    pads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.size > 99:
            raise TypeError("a window of more than 99")


class Block(gn.Node):
    """What a net is made of."""

    width: Annotated[int, pydantic.Field(gt=0)] = 1


class Dense(Block):
    """A block with weights."""

    act: Callable[[jax.Array], jax.Array] = gn.static(default=jax.nn.relu)
    mode: Literal["fast", "exact"] = "fast"
    weight: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.zeros)


class Conv(Block):
    """A block without weights."""

    window: Window | None = None
    dtype: jax.typing.DTypeLike = gn.static(default=jnp.float32)
    color: Color = Color.RED
    shape: tuple[int, ...] = ()


class Net(gn.Node):
    """A net of blocks and nets."""

    name: str = "net"
    scale: float = 1.0
    blocks: list[Block] = gn.subnode(default_factory=list)
    table: dict[str, Block] = gn.subnode(default_factory=dict)
    first: Block | None = None
    pair: tuple[Block | None, Block | None] = gn.subnode(default=(None, None))
    next: "Net | None" = None
    facts: Any = gn.static(default=None)


class Noisy(gn.Node):
    """Draws random numbers as it is made."""

    size: int
    left: "Noisy | None" = None
    right: "Noisy | None" = None
    weight: gn.ParamState[Float[Array, "size"]] = gn.state(jax.nn.initializers.normal())
