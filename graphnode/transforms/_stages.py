"""The stages of ahead-of-time compilation: `trace`, `lower` and `compile` of what `jit` gives.

    gn.jit(f).trace(model, x)   Traced      has the jaxpr
        .lower()                Lowered     has the program as text
        .compile()              Compiled    is called with nodes, as `gn.jit(f)` is

Each holds JAX's own object of the same stage, whose inputs are the States that the
function looks at, then the other leaves: those of `Jitted.inputs`.
"""

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import jax

from .._errors import StructureError, listed
from .._tracebacks import hides_frames
from ._boundary import Call
from ._program import Executable
from ._retrace import TraceRecord, changes_since

P = ParamSpec("P")
R = TypeVar("R")


class Staged(NamedTuple):
    """What all stages of one call know.

    Attributes:
        executable: What JAX compiles for the call.
        record: The types of the arguments.
        key: What other calls must have to be of the same structure.
        call_of: Takes other arguments of the function apart.
    """

    executable: Executable
    record: TraceRecord
    key: Hashable
    call_of: Callable[..., Call]


class Traced(Generic[P, R]):
    """A function of nodes, traced for some arguments: what `Jitted.trace` gives.

    Attributes:
        stage: JAX's own object.
    """

    def __init__(self, stage: jax.stages.Traced, staged: Staged) -> None:
        self.stage = stage
        self._staged = staged

    @property
    def jaxpr(self) -> Any:  # Any: JAX exports no type of it
        """The program: from the touched States in path order, the captured ones and the other leaves to the outcome."""
        return self.stage.jaxpr

    @property
    def fun_name(self) -> str:
        """The name of the function."""
        return str(self.stage.fun_name)

    @property
    def out_info(self) -> Any:  # Any: as JAX gives it
        """Shape and dtype of each output: what is written, and the result, which `Jitted.eval_shape` gives alone."""
        return self.stage.out_info

    # Any: `jax.export` hands on what it has, and takes JAX's own object back.
    def lower(self, **options: Any) -> "Lowered[P, R]":
        """Lower it to the language of the compiler; the options are those of JAX."""
        lowered = self.stage.lower(**options)
        if "_private_parameters" in options:
            return lowered  # type: ignore[no-any-return]  # for `jax.export`
        return Lowered(lowered, self._staged)


class Lowered(Generic[P, R]):
    """A function of nodes in the language of the compiler: what `Jitted.lower` gives.

    Attributes:
        stage: JAX's own object.
    """

    def __init__(self, stage: jax.stages.Lowered, staged: Staged) -> None:
        self.stage = stage
        self._staged = staged

    @property
    def args_info(self) -> Any:  # Any: as JAX gives it
        """Shape, dtype and donation of each input."""
        return self.stage.args_info

    @property
    def out_info(self) -> Any:  # Any: as JAX gives it
        """Shape and dtype of each output: what is written, and the result, which `Jitted.eval_shape` gives alone."""
        return self.stage.out_info

    def as_text(self, dialect: str | None = None, *, debug_info: bool = False) -> str:
        """The program as text, as `jax.stages.Lowered.as_text`."""
        return self.stage.as_text(dialect, debug_info=debug_info)

    def compiler_ir(self, dialect: str | None = None) -> Any:  # Any: as JAX gives it
        """The program as the compiler has it, as `jax.stages.Lowered.compiler_ir`."""
        return self.stage.compiler_ir(dialect)

    def cost_analysis(self) -> Any:  # Any: as JAX gives it
        """What the compiler expects it to cost, as `jax.stages.Lowered.cost_analysis`."""
        return self.stage.cost_analysis()

    def compile(
        self, compiler_options: Mapping[str, str | bool] | None = None
    ) -> "Compiled[P, R]":
        """Compile it, with options of XLA beside those of `jit`."""
        options = None if compiler_options is None else dict(compiler_options)
        return Compiled(self.stage.compile(compiler_options=options), self._staged)


class Compiled(Generic[P, R]):
    """A compiled function of nodes, for arguments of one structure, shapes and dtypes: what `Lowered.compile` gives.

    Attributes:
        stage: JAX's own object.
    """

    def __init__(self, stage: jax.stages.Compiled, staged: Staged) -> None:
        self.stage = stage
        self._staged = staged

    @hides_frames
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it, and write what it wrote into the States of the nodes, as `gn.jit` does.

        Raises:
            StructureError: The arguments have another structure than was compiled.
            TypeError: They have other shapes or dtypes; names all.
        """
        executable, record, key, call_of = self._staged
        call = call_of(*args, **kwargs)
        changes = functools.partial(changes_since, record, call)
        if (call.key, call.held.key) != key:
            raise StructureError(
                f"gn.jit: it was compiled for another structure: {listed(changes())}"
            )
        try:
            outcome = call.work(executable.run, call, self.stage)
        except TypeError as error:
            # JAX names its own inputs. Where all types are those that were compiled, the
            # error is another one, and goes on as it is.
            differing = changes()
            if not differing:
                raise
            text = f"gn.jit: it was compiled for other types: {listed(differing)}"
            raise TypeError(text) from error
        return call.result_of(outcome)  # type: ignore[no-any-return]  # what the function gave

    def as_text(self) -> str:
        """The compiled program as text, as `jax.stages.Compiled.as_text`."""
        return str(self.stage.as_text())

    def cost_analysis(self) -> Any:  # Any: as JAX gives it
        """What the compiler expects it to cost, as `jax.stages.Compiled.cost_analysis`."""
        return self.stage.cost_analysis()

    def memory_analysis(self) -> Any:  # Any: as JAX gives it
        """The memory that it needs, as `jax.stages.Compiled.memory_analysis`."""
        return self.stage.memory_analysis()

    @property
    def input_shardings(self) -> Any:  # Any: as JAX gives it
        """The sharding of each input."""
        return self.stage.input_shardings

    @property
    def output_shardings(self) -> Any:  # Any: as JAX gives it
        """The sharding of each output: what was written, and the result."""
        return self.stage.output_shardings

    def runtime_executable(self) -> Any:  # Any: as JAX gives it
        """What runs it, as `jax.stages.Compiled.runtime_executable`."""
        return self.stage.runtime_executable()
