"""Calls of optax's factories as values: what a configuration file says of a transformation or of a schedule.

From a factory with annotations, such as `optax.adamw`, to a frozen dataclass with a field
for each of its parameters, whose instances do what the factory returns:

    optax.adamw(1e-3)            two named tuples of functions: never equal, no repr,
                                 not to be pickled
    call(optax.adamw, 1e-3)      adamw(learning_rate=0.001): equal by its arguments;
                                 `called` makes the tuple, where optax needs one

optax is only imported when a factory of it is looked for.
"""

import abc
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Final, ParamSpec, TypeVar, cast

from .._arguments import wrong_argument
from .._pretty._records import Record
from .._pretty._shown import Shown
from .._registered import VALUES
from .._statetree import StateTree
from ._arguments import imported_optax
from ._lookahead import lookahead
from ._memory import Transformation
from ._parameters import (
    Schedule,
    as_static,
    default_value,
    field_type,
    has_init_and_update,
    is_mapping,
    is_schedule,
)

P = ParamSpec("P")
R = TypeVar("R", bound=Transformation | Schedule)


@dataclasses.dataclass(frozen=True, repr=False)
class Call(Shown, abc.ABC):
    """A call of a factory. Its fields are the arguments, those of `*args` as a tuple."""

    pairs: ClassVar[frozenset[str]] = frozenset()
    """The arguments that are mappings: static values are hashable, so that a field has a tuple of pairs."""

    def __post_init__(self) -> None:
        """Check that no pair would replace another one.

        Raises:
            ValueError: Two have one key.
        """
        for name in sorted(self.pairs):
            keys = [key for key, _ in getattr(self, name) or ()]
            # A key may be written twice in a file, which has pairs; `dict` would take
            # the last one without a word.
            repeated = [key for at, key in enumerate(keys) if key in keys[:at]]
            if repeated:
                raise ValueError(
                    f"{name} has two pairs with the key {repeated[0]!r}; write one of them"
                )

    @staticmethod
    @abc.abstractmethod
    # Any: of each class its own.
    def factory(*args: Any, **kwargs: Any) -> Any:
        """The function that is called."""

    def arguments(self) -> dict[str, Any]:
        """The arguments by name, defaults included."""
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }

    def explicit(self) -> dict[str, Any]:
        """The arguments that are not the factory's defaults: what is printed, written to files and handed on."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {
            name: value
            for name, value in self.arguments().items()
            if not _is_same(value, defaults[name])
        }

    def called(self) -> Any:
        """What the factory gives: the transformation or schedule of optax that does the work, a new one each time."""
        bound = inspect.signature(self.factory).bind_partial()
        for name, value in self.explicit().items():
            argument = resolved(value)
            # Back to the mapping that the factory takes.
            if name in self.pairs and value is not None:
                argument = dict(argument)
            bound.arguments[name] = argument
        # Without those before them, `*args` would be left out.
        bound.apply_defaults()
        return self.factory(*bound.args, **bound.kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is found under no name: it is made of the factory.
        return _restored, (type(self).__name__, self.factory, self.explicit())

    def __pretty__(self) -> Record:
        return Record(type(self).__name__, self.explicit().items())


class TransformationCall(Call):
    """A call of a factory that gives a transformation, such as `optax.adamw`: it is one itself."""

    # Any: optax's states are of its own classes.
    def init(self, params: StateTree) -> Any:
        """As of optax's own transformations: the state for these parameters."""
        return self.called().init(params)

    def update(
        self,
        updates: StateTree,
        state: Any,
        params: StateTree | None = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        """As of optax's own transformations: the updates and the next state."""
        return self.called().update(updates, state, params, **extra)  # type: ignore[no-any-return]


class ScheduleCall(Call):
    """A call of a factory that gives a schedule, such as `optax.cosine_decay_schedule`: it is one itself."""

    # Any: a number, or an array of it.
    def __call__(self, count: Any) -> Any:
        """As of optax's own schedules: the value, such as a learning rate, at a step."""
        return self.called()(count)


def _is_same(value: object, default: object) -> bool:
    """Whether an argument is the default of its parameter, class included: then no file need say it."""
    # With the class: 1 equals True, and 1.0.
    return value is default or (type(value) is type(default) and value == default)


def resolved(value: Any) -> Any:
    """A value with what the factories give in place of their calls: optax asks its own classes for more than `init`."""
    if isinstance(value, Call):
        return value.called()
    # Tuples of exactly that class: optax's own are named tuples, to be left as they
    # are.
    return tuple(map(resolved, value)) if type(value) is tuple else value


def call(factory: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """A transformation or schedule that says what it was made of: files can hold it, and equal ones are one structure.

    It does what `factory(*args, **kwargs)` does, and is of that type for type checkers.
    In a file it is `{type: adamw, learning_rate: 0.001}`.

    Args:
        factory: A function of optax, or one that `gn.config.register` has given a name,
            whose annotations say that it returns a transformation or a schedule.
        *args: Its arguments. What optax has made of others, such as a schedule, is made
            by `call`, too, if a file is to say it.
        **kwargs: Its arguments by name.

    Raises:
        TypeError: The factory does not take the arguments, or its annotations do not
            say what it returns; or an argument is for a parameter of which no file can
            say anything, such as `**kwargs`.

    Example:
        >>> import optax
        >>> schedule = gn.optim.call(optax.cosine_decay_schedule, 1e-3, decay_steps=100)
        >>> gn.optim.call(optax.adam, schedule)
        adam(learning_rate=cosine_decay_schedule(init_value=0.001, decay_steps=100))
        >>> gn.optim.call(optax.adam, 1e-3) == gn.optim.call(optax.adam, 1e-3)
        True
    """
    if not callable(factory) or not isinstance(factory, Hashable):
        raise TypeError(
            wrong_argument(
                "a function first, such as optax.adam, then its arguments",
                factory,
                _CALL,
            )
        )
    name = _name_of(factory)
    cls = _class_or_fault(name, factory)
    if isinstance(cls, str):
        raise TypeError(f"{_CALL}: {name}: {cls}")
    try:
        bound = inspect.signature(factory).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{_CALL}: {name}: {error}") from None
    fields = {field.name for field in dataclasses.fields(cls)}
    for key in bound.arguments:
        if key not in fields:
            parameter = inspect.signature(factory).parameters[key]
            raise TypeError(f"{_CALL}: {name}: {_unsayable(parameter)}")
    # Not true, but optax's classes are named tuples, which nothing else can be, and optax
    # uses `init` and `update` of what it gets, whatever its class.
    return cast("R", _restored(name, factory, bound.arguments))


_CALL: Final = "gn.optim.call"


def _name_of(factory: Callable[..., Any]) -> str:
    """The name that files have for a factory: its own, if they know it by that or do not know it."""
    own = getattr(factory, "__name__", "call")
    by_name = factories()
    # By identity: another function of the same name may be the one that files know.
    if by_name.get(own) is factory:
        return own
    return next((name for name, other in by_name.items() if other is factory), own)


def _restored(
    name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]
) -> Call:
    """The call of a factory with these arguments: what `call` makes, and what a pickle is loaded by."""
    cls = cast("type[Call]", call_class(name, factory))
    return cls(**{key: as_static(value) for key, value in arguments.items()})


# Any: whatever was registered.
def factories(values: Mapping[str, Any] = VALUES) -> dict[str, Callable[..., Any]]:
    """The functions that files may call, by name: optax's own, and those among some values by name."""
    # The name of an activation, such as `identity`, may be that of a factory, too.
    return {
        **_optax_functions(),
        **{name: value for name, value in values.items() if _is_factory(name, value)},
    }


# Any: whatever was registered.
def _is_factory(name: str, value: Any) -> bool:
    """Whether files may call what was registered under this name; activations, for example, are registered too."""
    is_hashable = isinstance(value, Hashable)
    return is_hashable and callable(value) and call_class(name, value) is not None


# Any: whatever was registered.
def call_classes(
    base: type[Call], values: Mapping[str, Any] = VALUES
) -> list[type[Call]]:
    """What a file may write where a transformation, or a schedule, belongs: a class for each of `factories`."""
    classes = [call_class(name, factory) for name, factory in factories(values).items()]
    return [cls for cls in classes if cls is not None and issubclass(cls, base)]


@functools.cache
def _optax_functions() -> dict[str, Callable[..., Any]]:
    """The functions of optax that a file may name, `lookahead` replaced by our own; found once."""
    module = imported_optax()
    functions: dict[str, Callable[..., Any]] = {}
    for name in dir(module):
        if name.startswith("_"):
            continue
        value = getattr(module, name)
        # `MultiSteps` is a class, and the only one that is called to transform.
        if inspect.isroutine(value) or name == "MultiSteps":
            functions[name] = value
    # optax's own takes pairs of parameters, which nothing here gives it.
    return {**functions, "lookahead": lookahead}


# Any: the factory's own.
def call_class(name: str, factory: Callable[..., Any]) -> type[Call] | None:
    """The class of the calls of a factory, by the name that files have for it.

    Returns:
        The same class each time; `None` if the factory's annotations do not say that it
        gives a transformation or a schedule, or if it takes what no file could say.
    """
    cls = _class_or_fault(name, factory)
    return None if isinstance(cls, str) else cls


@functools.cache
def _class_or_fault(name: str, factory: Callable[..., Any]) -> type[Call] | str:
    """The class of the calls of a factory, or for the message of `call` why there is none."""
    try:
        signature = _evaluated_signature(factory)
    except Exception as error:  # written in C, or with annotations that mean whatever
        return f"its annotations cannot be read: {error}"
    returned = factory if isinstance(factory, type) else signature.return_annotation
    base = _base_of(returned)
    if base is None:
        return (
            "its annotations do not say that it returns a transformation or a schedule"
        )
    fields: list[Any] = []
    pairs: set[str] = set()
    for parameter in signature.parameters.values():
        field = _field(parameter, base)
        if field is not None:
            fields.append(field)
            if is_mapping(parameter.annotation):
                pairs.add(parameter.name)
        # A parameter without a field keeps its default. One without a default would
        # always be missing.
        elif (
            parameter.default is parameter.empty
            and parameter.kind is not parameter.VAR_KEYWORD
        ):
            return _unsayable(parameter)
    namespace: dict[str, Any] = {
        "factory": staticmethod(factory),
        "pairs": frozenset(pairs),
        "__doc__": inspect.getdoc(factory),
    }
    cls: Any = dataclasses.make_dataclass(
        name,
        fields,
        bases=(base,),
        namespace=namespace,
        frozen=True,
        kw_only=True,
        repr=False,
    )
    # Where a reader would look for it; a pickle goes by the factory.
    cls.__module__ = factory.__module__
    return cast("type[Call]", cls)


def _unsayable(parameter: inspect.Parameter) -> str:
    """For a message of `call`: why there is no field for a parameter of a factory."""
    return f"its parameter {parameter.name!r} takes what no file can say, or has a name that is used otherwise"


def _evaluated_signature(factory: Callable[..., Any]) -> inspect.Signature:
    """The signature of a factory, whose annotations may be texts: evaluated among the names of optax and its module."""
    # Many import optax, or something of it, for type checkers alone.
    optax = imported_optax()
    names = {**vars(optax), "optax": optax}
    if factory.__module__ in sys.modules:
        names.update(vars(sys.modules[factory.__module__]))
    return inspect.signature(factory, eval_str=True, globals=names)


def _field(parameter: inspect.Parameter, base: type[Call]) -> Any:
    """The field for a parameter, as `dataclasses.make_dataclass` takes it; `None` if it keeps its default always."""
    name, annotation = parameter.name, field_type(parameter)
    # `type` is the tag in files; `model_config` is pydantic's.
    is_reserved = name.startswith("_") or name in ("type", "model_config")
    if annotation is None or is_reserved or hasattr(base, name):
        return None
    is_variadic = parameter.kind is parameter.VAR_POSITIONAL
    if parameter.default is parameter.empty and not is_variadic:
        return name, annotation
    try:
        return name, annotation, dataclasses.field(default=default_value(parameter))
    except TypeError:  # a default that is not hashable
        return None


def _base_of(annotation: Any) -> type[Call] | None:
    """The base of a factory's class of calls, by what it returns: a transformation, a schedule, or neither (`None`)."""
    if isinstance(annotation, type) and has_init_and_update(annotation):
        return TransformationCall
    return ScheduleCall if is_schedule(annotation) else None
