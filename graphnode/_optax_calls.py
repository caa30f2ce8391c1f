"""Calls of optax's factories as values: what a configuration file says of a transformation or of a schedule.

Data in: a factory with annotations, such as `optax.adamw`. Data out: a frozen dataclass with a field for each of its
parameters, whose instances do what the factory gives. Two calls with equal arguments are equal, as two results of
optax never are. optax is only imported when a factory of it is looked for.
"""

import abc
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, ParamSpec, cast, overload

from ._arguments import wrong_argument
from ._names import VALUES
from ._optax_arguments import imported_optax
from ._optax_lookahead import lookahead
from ._optax_parameters import Schedule, field_type, is_mapping, is_schedule, is_transformation
from ._optax_state import Transformation
from ._statetree import StateTree

P = ParamSpec("P")


@dataclasses.dataclass(frozen=True)
class Call(abc.ABC):
    """A call of a factory. Its fields are the arguments, those of `*args` as a tuple."""

    pairs: ClassVar[frozenset[str]] = frozenset()
    """The arguments that are mappings: static values are hashable, so that a field has a tuple of pairs."""

    @staticmethod
    @abc.abstractmethod
    # Any: of each class its own.
    def factory(*args: Any, **kwargs: Any) -> Any:
        """The function that is called."""

    def arguments(self) -> dict[str, Any]:
        """The arguments, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def given(self) -> dict[str, Any]:
        """The arguments that are not the factory's defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in self.arguments().items() if not _is_same(value, defaults[name])}

    def called(self) -> Any:
        """What the factory gives, a new one each time."""
        bound = inspect.signature(self.factory).bind_partial()
        for name, value in self.given().items():
            bound.arguments[name] = dict(resolved(value)) if name in self.pairs else resolved(value)
        return self.factory(*bound.args, **bound.kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is found under no name: it is made of the factory.
        return _restored, (type(self).__name__, self.factory, self.arguments())

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.given().items()]
        return f"{type(self).__name__}({', '.join(shown)})"


class TransformationCall(Call):
    """A call of a factory that gives a transformation, such as `optax.adamw`: it is one itself."""

    # Any: optax's states are of its own classes.
    def init(self, params: StateTree) -> Any:
        """The state for these parameters."""
        return self.called().init(params)

    def update(self, updates: StateTree, state: Any, params: StateTree | None = None, **extra: Any) -> tuple[Any, Any]:
        """The updates and the next state."""
        return self.called().update(updates, state, params, **extra)  # type: ignore[no-any-return]


class ScheduleCall(Call):
    """A call of a factory that gives a schedule, such as `optax.cosine_decay_schedule`: it is one itself."""

    # Any: a number, or an array of it.
    def __call__(self, count: Any) -> Any:
        """The value at a step."""
        return self.called()(count)


def _is_same(value: object, default: object) -> bool:
    # With the class: 1 equals True, and 1.0.
    return value is default or (type(value) is type(default) and value == default)


def resolved(value: Any) -> Any:
    """A value with what the factories give in place of their calls: optax asks its own classes for more than `init`."""
    if isinstance(value, Call):
        return value.called()
    return tuple(map(resolved, value)) if type(value) is tuple else value


@overload
def call(factory: Callable[P, Transformation], /, *args: P.args, **kwargs: P.kwargs) -> TransformationCall: ...
@overload
def call(factory: Callable[P, Schedule], /, *args: P.args, **kwargs: P.kwargs) -> ScheduleCall: ...
def call(factory: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Call:
    """A transformation or schedule that says what it was made of: files can hold it, and equal ones are one structure.

    It does what `factory(*args, **kwargs)` does. In a file it is `{type: adamw, learning_rate: 0.001}`.

    Args:
        factory: A function of optax, or one that `gn.config.register` has given a name, whose annotations say that it
            returns a transformation or a schedule.
        *args: Its arguments. What optax has made of others, such as a schedule, is made by `call`, too, if a file is to
            say it.
        **kwargs: Its arguments by name.

    Raises:
        TypeError: The factory does not take the arguments, or its annotations do not say what it returns; or it has a
            parameter without a name, such as `**kwargs`.

    Example:
        >>> import optax
        >>> schedule = gn.optim.call(optax.cosine_decay_schedule, 1e-3, decay_steps=100)
        >>> gn.optim.call(optax.adam, schedule)
        adam(learning_rate=cosine_decay_schedule(init_value=0.001, decay_steps=100))
        >>> gn.optim.call(optax.adam, 1e-3) == gn.optim.call(optax.adam, 1e-3)
        True
    """
    name = next((name for name, one in factories().items() if one is factory), getattr(factory, "__name__", "call"))
    cls = call_class(name, factory) if callable(factory) else None
    if cls is None:
        wanted = "a function whose annotations say that it returns a transformation or a schedule"
        raise TypeError(wrong_argument(wanted, factory, "gn.optim.call"))
    bound = inspect.signature(factory).bind(*args, **kwargs)
    return _restored(name, factory, bound.arguments)


def _restored(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> Call:
    cls = cast("type[Call]", call_class(name, factory))
    pairs = {key: tuple(dict(arguments[key]).items()) for key in cls.pairs & arguments.keys()}
    return cls(**{**arguments, **pairs})


def factories() -> dict[str, Callable[..., Any]]:
    """The functions that files may call, by name: optax's own, and those that the program has registered."""
    registered = {name: value for name, value in VALUES.items() if inspect.isroutine(value) or inspect.isclass(value)}
    return {**_of_optax(), **registered}


def call_classes(base: type[Call]) -> list[type[Call]]:
    """The classes of all calls that give transformations, or of all that give schedules."""
    made = [call_class(name, factory) for name, factory in factories().items()]
    return [cls for cls in made if cls is not None and issubclass(cls, base)]


@functools.cache
def _of_optax() -> dict[str, Callable[..., Any]]:
    module = imported_optax()
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    functions = {name: one for name, one in found.items() if inspect.isroutine(one) or name == "MultiSteps"}
    # optax's own takes pairs of parameters, which nothing here gives it.
    return {**functions, "lookahead": lookahead}


# Any: the factory's own.
@functools.cache
def call_class(name: str, factory: Callable[..., Any]) -> type[Call] | None:
    """The class of the calls of a factory, by the name that files have for it.

    Returns:
        The same class each time; `None` if the factory's annotations do not say that it gives a transformation or a
        schedule, or if it takes what no file could say.
    """
    try:
        # Many import optax for type checkers alone.
        signature = inspect.signature(factory, eval_str=True, locals={"optax": imported_optax()})
    except (ValueError, TypeError, NameError):  # written in C, or with annotations that are not defined
        return None
    base = _base_of(factory if isinstance(factory, type) else signature.return_annotation)
    if base is None:
        return None
    fields: list[Any] = []
    pairs: set[str] = set()
    for parameter in signature.parameters.values():
        annotation = field_type(parameter)
        has_default = parameter.default is not parameter.empty
        if annotation is not None:
            default = parameter.default if has_default else () if parameter.kind is parameter.VAR_POSITIONAL else None
            is_required = default is None and not has_default
            rest = () if is_required else (dataclasses.field(default=default),)
            fields.append((parameter.name, annotation, *rest))
            pairs |= {parameter.name} if is_mapping(parameter.annotation) else set()
        elif not has_default:
            return None
    made: Any = dataclasses.make_dataclass(
        name,
        fields,
        bases=(base,),
        namespace={"factory": staticmethod(factory), "pairs": frozenset(pairs), "__doc__": inspect.getdoc(factory)},
        frozen=True,
        kw_only=True,
        repr=False,
    )
    made.__module__ = factory.__module__
    return cast("type[Call]", made)


def _base_of(annotation: Any) -> type[Call] | None:
    """What the calls of a factory are, by what it returns."""
    if is_transformation(annotation):
        return TransformationCall
    return ScheduleCall if is_schedule(annotation) else None
