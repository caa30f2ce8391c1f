"""`jit`: compile a function of nodes, and write back what it wrote.

One compiled function is kept for each signature of the arguments, on the user's function
itself: wrapping it again, calling a method of another node or passing an equal model
meets what is compiled already.
"""

import functools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import MethodType
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    TypeAlias,
    TypeVar,
    overload,
)

import jax

from .._caches import Memo
from .._calls import HANDLERS, has_handlers
from .._compat import DISABLE_JIT, is_tracing
from .._constrain import ACTIVATIONS
from .._describe import describe
from .._tracebacks import hide_frames
from ._arguments import name_of, named_arguments, with_statics
from ._boundary import Call
from ._kept import forget_kept, remembered
from ._methods import Transformed, target_of
from ._program import Options, Program
from ._pure import ACTIVE
from ._retrace import history_of, record_of
from ._shardings import Shardings
from ._stages import Lowered, Staged, Traced
from ._surroundings import NOTHING, Surroundings

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

# What pickle finds an object of a module by.
_NAMES: Final = ("__module__", "__name__", "__qualname__")


class Jitted(Transformed, Generic[P, R]):
    """A compiled function of nodes: what `jit` gives.

    As an attribute of a class it is a method, whose first argument is the instance.
    """

    __wrapped__: Callable[P, R]

    def __init__(self, function: Callable[P, R], options: Options) -> None:
        target, bound = target_of(function)
        # The attributes of a function are about it; those of a node are its fields,
        # which would hide methods of this.
        functools.update_wrapper(
            self, function, updated=() if bound else functools.WRAPPER_UPDATES
        )
        forget_kept(self)
        self._options, self._bound, self._target = options, bound, target
        self._history = history_of(target)
        self._is_donating = options.is_donating
        self._is_plain = not (
            bound or options.static_argnums or options.static_argnames
        )
        self._compiled: _Compiled = remembered(target, "jit", options, _Compiled)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            # As in JAX: the function itself, with the caller's nodes
            if DISABLE_JIT.value:
                return self._target(*self._bound, *args, **kwargs)  # type: ignore[no-any-return]  # as it gives
            # What `Call.run` does, without its two frames: each call of a compiled
            # function comes through here.
            before = ACTIVE.call
            if self._is_donating and (before is not None or is_tracing()):
                # What an eager `grad` or `vmap` does not trace are arrays of its
                # caller, who keeps them if it raises. So are those of the copies that a
                # custom rule works on, which JAX runs without any trace.
                return self._undonated()(*args, **kwargs)
            call = (
                Call("jit", self._target, args, kwargs)
                if self._is_plain
                else self._call(args, kwargs)
            )
            try:
                ACTIVE.call = call
                # Inside of another transform, where operations have names.
                if before is not None:
                    with call.scope():
                        outcome = self._program(call).run(call)
                else:
                    outcome = self._program(call).run(call)
            # A leaf that JAX does not take is named, and so are the arguments in an
            # error of JAX; any other goes on.
            except TypeError as error:
                call.check_leaves()
                if _is_about_values(error):
                    error.add_note(
                        f"To JAX, {_leaf_names(call)}. Make an argument static with static_argnames."
                    )
                raise
            finally:
                ACTIVE.call = before
            return call.result_of(outcome)  # type: ignore[no-any-return]  # what the function gave
        # Not by `hides_frames`, whose wrapper would be one frame more at each call.
        except BaseException as error:
            hide_frames(error)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        # What is compiled stays here. A class body may have given it other names than
        # those of the function.
        names = {name: self.__dict__[name] for name in _NAMES if name in self.__dict__}
        return Jitted, (self.__wrapped__, self._options), names

    @overload
    def __get__(self, instance: None, owner: type, /) -> "Jitted[P, R]": ...
    @overload
    def __get__(
        self: "Callable[Concatenate[S, Q], R]", instance: S, owner: type, /
    ) -> "Callable[Q, R]": ...
    def __get__(self, instance: Any, owner: type, /) -> Any:
        return self if instance is None else MethodType(self, instance)

    def trace(self, *args: P.args, **kwargs: P.kwargs) -> Traced[P, R]:
        """Trace a call, without running it: `.jaxpr` is the program, and `.lower().compile()` compiles it."""
        call = self._call(args, kwargs)
        # By `Call.run`, so that a leaf which JAX refuses is named.
        traced: jax.stages.Traced = call.run(self._staged, call, "trace")
        executable = self._program(call).executable
        staged = Staged(
            executable,
            record_of(call, executable.inputs),
            (call.key, call.held.key),
            ACTIVATIONS.get(),
            self._call_around,
        )
        return Traced(traced, staged)

    def lower(self, *args: P.args, **kwargs: P.kwargs) -> Lowered[P, R]:
        """What JAX lowers a call to, without running it; `.compile()` gives what is called with nodes."""
        return self.trace(*args, **kwargs).lower()

    def eval_shape(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of a call with a `jax.ShapeDtypeStruct` in place of each array, as `gn.eval_shape` gives it.

        Nothing runs, and nothing is written.
        """
        call = self._call(args, kwargs)
        return call.result_of(call.run(self._staged, call, "eval_shape"))  # type: ignore[no-any-return]  # like the result

    # Any: rows of arrays, as JAX takes them.
    def inputs(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Any, ...]:
        """The arrays that what is compiled takes of a call, as `jax.export` and JAX's own stages want them.

        What the function gives for them is a triple: which States it wrote, their new
        values, and its result.

        Example:
            >>> counter = gn.State(jnp.float32(3))
            >>> scaled = gn.jit(lambda counter, x: counter.value * x)
            >>> exported = jax.export.export(scaled)(counter, 2.0)
            >>> exported.call(*scaled.inputs(counter, 2.0))[2]
            Array(6., dtype=float32)
        """
        call = self._call(args, kwargs)
        call.run(self._staged, call, "eval_shape")
        return call.work(self._program(call).executable.arguments, call)  # type: ignore[no-any-return]  # as it gives

    def _staged(self, call: Call, stage: Literal["trace", "eval_shape"]) -> Any:
        """What JAX makes of a call without running it."""
        return self._program(call).staged(call, stage)

    def _call_around(self, *args: Any, **kwargs: Any) -> Call:
        """The call with these arguments, and what is around the function now."""
        call = self._call(args, kwargs)
        call.held = self._compiled.surroundings.held()
        return call

    def clear_cache(self) -> None:
        """Forget all that was compiled for the function under these options."""
        self._compiled.clear()

    def _undonated(self) -> "Jitted[P, R]":
        """The compiled function without donation, which shares the history of traces.

        For calls inside of another transform, which may still need the arrays.
        """
        options = self._options._replace(
            donate=False, donate_argnums=frozenset(), donate_argnames=frozenset()
        )
        target = self._target
        # Not kept: it holds the node, which must not live as long as the function.
        if self._bound:
            return Jitted(self.__wrapped__, options)
        return remembered(target, "undonated", options, lambda: Jitted(target, options))

    def _unbound(self) -> "Jitted[..., R]":
        """The compiled plain function under the same options, which takes the bound node as an argument.

        For `target_of`: to another transform the node must be an argument, not a constant.
        """
        target, options = self._target, self._options
        return remembered(target, "unbound", options, lambda: Jitted(target, options))

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """The call with these arguments: after the bound node, and with the static ones marked."""
        if self._bound:
            args = (*self._bound, *args)
        options = self._options
        # Most calls have none, and are spared the look at the parameters.
        if options.static_argnums or options.static_argnames:
            args, kwargs = with_statics(
                self._target,
                args,
                kwargs,
                options.static_argnums,
                options.static_argnames,
            )
        return Call("jit", self._target, args, kwargs)

    def _program(self, call: Call) -> Program:
        """What is compiled for the signature of a call and for what is around the function now."""
        compiled = self._compiled
        # Each call of a node is to be seen, and so traced.
        if HANDLERS and has_handlers():
            return self._compile(call)
        if not compiled.surroundings.is_empty:
            call.held = compiled.surroundings.held()
        return compiled.get(_key(call)) or self._compile(call)

    def _compile(self, call: Call) -> Program:
        """For `_program`: trace the function for a signature that it has not met."""
        # Before the trace: it may be that nodes are looked for the first time.
        surroundings = self._compiled.surroundings
        surroundings.look([self._target], call.binding.graphdef)
        call.held = surroundings.held()
        if has_handlers():
            return Program(call, self._options, self._history)
        key = _key(call)
        # Where a function around it was another one, its places are known again by now.
        known = self._compiled.get(key)
        return known or self._compiled.keep(
            key, Program(call, self._options, self._history)
        )


def _key(call: Call) -> Hashable:
    """What is compiled for a call is known by: its signature, and what it finds around the function.

    That is: the nodes there, and the plan that lays out activations, if one does.
    """
    key: Hashable = call.key
    activations = ACTIVATIONS.get()
    if activations is not None:
        key = key, activations
    return key if call.held is NOTHING else (key, call.held.key)


def _is_about_values(error: TypeError) -> bool:
    """Whether an error of JAX is about values that are not known while a function is traced, such as in shapes."""
    is_known = isinstance(error, jax.errors.ConcretizationTypeError)
    return is_known or "it depends on the value" in str(error)


def _leaf_names(call: Call) -> str:
    """For an error of JAX: what the user calls each of the leaves that JAX counts in the pure function."""
    return ", ".join(
        [
            f"other_leaves[{at}] is {name}"
            for at, name in enumerate(call.site.other_leaf_names())
        ]
        + ["values are the States"]
    )


class _Compiled(Memo[Hashable, Program]):
    """What was compiled of one function under the same options, by the signature of the arguments.

    Attributes:
        surroundings: Where it finds nodes that are no arguments.
    """

    __slots__ = ("surroundings",)
    limit = 256

    def __init__(self) -> None:
        super().__init__()
        self.surroundings = Surroundings()


# Any: shardings are pytree prefixes.
@overload
def jit(
    fun: Callable[P, R],
    /,
    *,
    static_argnums: int | Sequence[int] = ...,
    static_argnames: str | Iterable[str] = ...,
    donate: bool = ...,
    donate_argnums: int | Sequence[int] = ...,
    donate_argnames: str | Iterable[str] = ...,
    keep_unused: bool = ...,
    inline: bool = ...,
    in_shardings: Any = ...,
    out_shardings: Any = ...,
    compiler_options: Mapping[str, str | bool] | None = ...,
) -> Jitted[P, R]: ...
# Any: as above.
@overload
def jit(
    *,
    static_argnums: int | Sequence[int] = ...,
    static_argnames: str | Iterable[str] = ...,
    donate: bool = ...,
    donate_argnums: int | Sequence[int] = ...,
    donate_argnames: str | Iterable[str] = ...,
    keep_unused: bool = ...,
    inline: bool = ...,
    in_shardings: Any = ...,
    out_shardings: Any = ...,
    compiler_options: Mapping[str, str | bool] | None = ...,
) -> "Callable[[Callable[P, R]], Jitted[P, R]]": ...
def jit(
    fun: Callable[..., Any] | None = None,
    /,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    donate: bool = False,
    donate_argnums: int | Sequence[int] = (),
    donate_argnames: str | Iterable[str] = (),
    keep_unused: bool = False,
    inline: bool = False,
    in_shardings: Any = None,
    out_shardings: Any = None,
    compiler_options: Mapping[str, str | bool] | None = None,
) -> Any:
    """Compile a function of nodes and arrays with XLA, as `jax.jit` compiles one of arrays.

    Nodes may be anywhere in the arguments and in the result. The function gets copies,
    whose written States are written back to the caller's, so that a node that goes in
    comes out as the same object; States that are only read are not outputs of
    what is compiled. It is traced once for each structure, shapes and dtypes; see
    `explain_retrace`.

    Args:
        fun: A function, a method or a callable node; left out in
            `@gn.jit(donate=True)`.
        static_argnums: Positions of arguments that are part of what is compiled:
            hashable, compared by type and value.
        static_argnames: Their names, for arguments that are given by name.
        donate: Whether the memory of the States that the function writes is reused for
            their new values.
        donate_argnums: Positions of arguments to donate: of a node the States that are
            written, of others all arrays.
        donate_argnames: Their names.
        keep_unused: As in `jax.jit`.
        inline: As in `jax.jit`.
        in_shardings: A pytree prefix of the arguments, as in `jax.jit`: shardings,
            partition specs, or `None` where nothing is said. For a node one that holds
            for all its States, `axes` by filter, or a state tree or mapping of them by
            path. States that are written stay laid out so.
        out_shardings: The same for the result; for a node one for all its States.
        compiler_options: As in `jax.jit`: options of XLA.

    Returns:
        The compiled function, with the signature of `fun`.

    Raises:
        ValueError: There is no argument of a position or name.
        StructureError: At a call: the function changes the structure of a node.
        TraceError: At a call: the function writes a State that it did not get as an
            argument.
        FieldError: At a call: a static argument is not hashable.
        TypeError: At a call: an argument is not an array, number or node, or `fun` is
            not a function.

    Example:
        >>> class Counter(gn.Node):
        ...     count: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.int32(0)))
        >>> @gn.jit
        ... def advance(counter, by):
        ...     counter.count.value += by
        >>> counter = Counter()
        >>> advance(counter, 2)
        >>> counter.count.value
        Array(2, dtype=int32)
    """
    static_names = _names("static_argnames", static_argnames)
    donate_names = _names("donate_argnames", donate_argnames)

    def wrap(function: Callable[..., Any]) -> Jitted[..., Any]:
        """Compile one function under these options: what `jit` does, and what its decorator is."""
        target, bound = target_of(function)
        statics = named_arguments(target, len(bound), static_argnums, static_names)
        donated = named_arguments(target, len(bound), donate_argnums, donate_names)
        # Here, not at the first call: what is wrong with a decorator shows where it
        # stands.
        _check_disjoint(name_of(target), statics, donated)
        options = Options(
            *statics,
            donate,
            *donated,
            keep_unused,
            inline,
            _shardings(in_shardings, len(bound)),
            _shardings(out_shardings),
            None if compiler_options is None else tuple(compiler_options.items()),
        )
        return Jitted(function, options)

    return wrap if fun is None else wrap(fun)


def _shardings(prefix: Any, bound_count: int = 0) -> Shardings | None:
    """For `jit`: what `in_shardings` or `out_shardings` says, if anything.

    Args:
        prefix: As the caller wrote it.
        bound_count: How many nodes are bound in front of the caller's arguments.
    """
    if prefix is None:
        return None
    if bound_count and isinstance(prefix, (tuple, list)):
        prefix = (*[None] * bound_count, *prefix)
    return Shardings(prefix)


# Positions and names of arguments, as `named_arguments` gives them.
_Arguments: TypeAlias = tuple[frozenset[int], frozenset[str]]


def _check_disjoint(name: str, statics: _Arguments, donated: _Arguments) -> None:
    """For `jit`: raise if an argument is static and donated, when the function is wrapped, not when it is called.

    Raises:
        ValueError: Names all.
    """
    both = sorted(statics[1] & donated[1]) or sorted(map(str, statics[0] & donated[0]))
    if both:
        raise ValueError(
            f"gn.jit: {', '.join(both)} of {name} is both static and donated: a static argument has no memory to donate"
        )


def _names(option: str, names: str | Iterable[str] | None) -> frozenset[str]:
    """The names that `static_argnames` or `donate_argnames` gives, one or several; `None` is none, as in JAX.

    Raises:
        TypeError: It gives something else.
    """
    listed_names = (names,) if isinstance(names, str | None) else names
    if not isinstance(listed_names, Iterable) or not all(
        isinstance(name, str | None) for name in listed_names
    ):
        raise TypeError(
            f"gn.jit: {option} is a name or a sequence of names; found {describe(names)}"
        )
    return frozenset([name for name in listed_names if name is not None])
