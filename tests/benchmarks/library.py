"""The benchmark's model as one library holds it, and that library's way to do each operation.

The model is `depth` blocks, each a linear with `w`, `b` and a norm with `scale`, `bias`, `mean`, `var`, and
one counter: 6 * depth + 1 States. The arrays have shape (), so that only structure costs anything, and every
library is given the very same ones.
"""

import importlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from .steps import Step
from .timing import Call

GRAPHNODE = "graphnode"
JAX = "plain JAX"
NNX = "flax.nnx"
BRAINSTATE = "brainstate"
EQUINOX = "equinox"

_MODULES = {
    GRAPHNODE: ".models.on_graphnode",
    JAX: ".models.on_jax",
    NNX: ".models.on_nnx",
    BRAINSTATE: ".models.on_brainstate",
    EQUINOX: ".models.on_equinox",
}
NAMES = tuple(_MODULES)

Row: TypeAlias = tuple[Any, ...]
"""The w, b, scale, bias, mean and var of one block."""


class Parts(NamedTuple):
    """All that a model is constructed from: arrays, or one library's States that hold them."""

    rows: list[Row]
    counter: Any


def arrays_of(depth: int) -> Parts:
    """New arrays for one model."""
    # Iterating over an array gives the outputs of a compiled function, as a training step does.
    arrays = list(jnp.arange(6 * depth + 1, dtype=jnp.float32))
    return Parts(list(zip(*[iter(arrays[:-1])] * 6, strict=True)), arrays[-1])


def _bare(array: jax.Array) -> Any:
    return array


@dataclass(frozen=True, kw_only=True)
class Library:
    """How one library does each operation; `None` where it has no such operation.

    A function that returns a `Call` does first what is not to be timed, then returns what is.
    """

    name: str
    module: str
    """What a user imports."""

    param: Callable[[jax.Array], Any] = _bare
    batch: Callable[[jax.Array], Any] = _bare
    count: Callable[[jax.Array], Any] = _bare

    construct: Callable[[Parts], Any]
    split: Callable[[Any], Call]
    split_params: Callable[[Any], Call]
    collect_params: Callable[[Any], Call]
    merge: Callable[[Any], Call]
    update: Callable[[Any, Any], Call] | None = None
    """Writes into the first model what the second one holds."""

    state_tree: Callable[[Any], Any]
    """The pytree of all the model's arrays that a user hands to `jax.jit`."""
    graphdef: Callable[[Any], Hashable]

    steps: Mapping[str, Callable[[Any, Step], Call]] = field(default_factory=dict[str, Callable[[Any, Step], Call]])
    """The library's ways to compile a step, by name. A call makes one step of the model and waits for its end."""
    dispatches: Mapping[str, Callable[[Any, Step], Call]] = field(
        default_factory=dict[str, Callable[[Any, Step], Call]]
    )
    """The same of some ways, without the wait."""
    trace: Callable[[Any, Step], Call] | None = None
    """Traces a step that JAX has not seen before; it is made outside of the call."""
    compile: Callable[[Any, Step], jax.stages.Compiled] | None = None
    """Compiles a step that gives away the memory of what it replaces."""

    def ready(self, arrays: Parts) -> Parts:
        """Put the arrays into new States of this library."""
        param, batch = self.param, self.batch
        rows: list[Row] = [
            (param(w), param(b), param(scale), param(bias), batch(mean), batch(var))
            for w, b, scale, bias, mean, var in arrays.rows
        ]
        return Parts(rows, self.count(arrays.counter))

    def build(self, arrays: Parts) -> Any:
        """Construct a model of new States that hold these arrays."""
        return self.construct(self.ready(arrays))


def load(*names: str) -> tuple[Library, ...]:
    """Import the models of these libraries, or of all; a peer that is not installed is left out."""
    return tuple(module.LIBRARY for _, module in installed({name: _MODULES[name] for name in names or NAMES}))


# Any: what is in a module is known to whoever names it.
def installed(modules: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """The names of libraries with the modules that use them; a peer that is not installed is left out."""
    for name, module in modules.items():
        try:
            found = importlib.import_module(module, __package__)
        except ModuleNotFoundError:
            if name in (GRAPHNODE, JAX):
                raise
            continue
        yield name, found
