"""The stages of ahead-of-time compilation: `trace`, `lower` and `compile` of what `jit` gives.

    gn.jit(f).trace(model, x)   Traced      has the jaxpr
        .lower()                Lowered     has the program as text
        .compile()              Compiled    is called with nodes, as `gn.jit(f)` is

Each is JAX's own object of the same stage, too, whose inputs are the States that the
function looks at, then the other leaves: those of `Jitted.inputs`.
"""

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import jax

from .._constrain import ACTIVATIONS, Activations
from .._errors import StructureError, listed
from .._tracebacks import hides_frames
from ._boundary import Call
from ._input_names import note_input_names
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
        activations: Of the plan that was active; it must be for other calls, too.
        call_of: Takes other arguments of the function apart.
    """

    executable: Executable
    record: TraceRecord
    key: Hashable
    activations: Activations | None
    call_of: Callable[..., Call]


class _Stage:
    """JAX's object of one stage, with what graphnode knows of the call.

    A subclass is also one of the class of JAX's object, and has its methods: what these
    look for is found on the object itself.

    Attributes:
        stage: JAX's own object.
    """

    stage: Any  # Any: of the class of JAX's that the subclass has

    def __init__(self, stage: object, staged: Staged) -> None:
        # Not by the constructor of JAX's class: all that it would set is there already.
        self.stage = stage
        self._staged = staged

    def __getattr__(self, name: str) -> Any:  # Any: whatever JAX's object has
        # Asked where nothing else has the attribute, or a slot of it is empty. Until
        # `stage` is there, as in `copy`, there is nothing to ask.
        if name == "stage":
            raise AttributeError(name)
        return getattr(self.stage, name)


class Traced(_Stage, jax.stages.Traced, Generic[P, R]):
    """A function of nodes, traced for some arguments: what `Jitted.trace` gives; a `jax.stages.Traced`.

    The inputs of its `jaxpr` are the States that are touched, in path order, those that
    are captured and the other leaves; its outputs are what is written, and the result.
    """

    # Any: `jax.export` hands on what it has, and takes JAX's own object back.
    def lower(self, **options: Any) -> "Lowered[P, R]":
        """Lower it to the language of the compiler; the options are those of JAX."""
        executable, record, *_ = self._staged
        try:
            return Lowered(self.stage.lower(**options), self._staged)
        except ValueError as error:
            note_input_names(error, executable.input_names(record.site, record.held))
            raise


class Lowered(_Stage, jax.stages.Lowered, Generic[P, R]):
    """A function of nodes in the language of the compiler: what `Jitted.lower` gives; a `jax.stages.Lowered`."""

    def compile(
        self, compiler_options: Mapping[str, str | bool] | None = None, **options: Any
    ) -> "Compiled[P, R]":
        """Compile it, with options of XLA beside those of `jit`; the others are those of JAX."""
        of_xla = None if compiler_options is None else dict(compiler_options)
        compiled = self.stage.compile(compiler_options=of_xla, **options)
        return Compiled(compiled, self._staged)


class Compiled(_Stage, jax.stages.Compiled, Generic[P, R]):
    """A compiled function of nodes, for arguments of one structure, shapes and dtypes; a `jax.stages.Compiled`."""

    @hides_frames
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it, and write what it wrote into the States of the nodes, as `gn.jit` does.

        Raises:
            StructureError: The arguments have another structure than was compiled.
            TypeError: They have other shapes or dtypes; names all.
            ValueError: Another plan is active than where it was traced.
        """
        executable, record, key, activations, call_of = self._staged
        if ACTIVATIONS.get() is not activations:
            raise ValueError(_other_plan(activations))
        call = call_of(*args, **kwargs)
        changes = functools.partial(changes_since, record, call, executable.inputs)
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
        except ValueError as error:
            executable.explain(error, call)
            raise
        return call.result_of(outcome)  # type: ignore[no-any-return]  # what the function gave


def _other_plan(activations: Activations | None) -> str:
    """The error of a call under another plan than that of the trace, which would lay out activations as that one says.

    Args:
        activations: Of the plan that was active then, if one was.
    """
    if activations is None:
        was, remedy = "without a plan, and one is active now", "outside of it"
    else:
        was, remedy = (
            "under a plan that is not the active one now",
            "within `with plan:` of that plan",
        )
    return f"gn.jit: it was traced {was}: call it {remedy}, or trace and compile it again here"
