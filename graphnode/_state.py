"""`State`: a mutable reference to a pytree of arrays, with an identity, a role (its class) and fixed metadata.

Class, name, tag, sharding and metadata are structure. They are in one interned
`StateSpec`: two States of equal description share it, so that comparing descriptions is
an identity test. The value is not structure.
"""

import copy
import enum
import inspect
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, cast

import jax
from typing_extensions import TypeVar

from ._caches import Interned
from ._class_faults import check_unregistered, defining
from ._compat import CONCRETE, TraceRef, current_trace, is_live, is_tracing, tracer_in
from ._contract import Requirement
from ._describe import describe
from ._errors import ContractError, FieldError, SchemaError, TraceError, listed
from ._marks import (
    AnyMark,
    Mark,
    check_marks,
    check_no_copy,
    check_no_copy_runs,
    container_for,
    drop_empty_mark,
    is_marked,
    mark_of,
    trace_of,
)
from ._mistaken import NoArray
from ._pretty._records import Record, Size, Text
from ._pretty._shown import Shown
from ._pretty._values import array_text, arrays_of, bytes_of, is_array
from ._public import PublicType, named_in_pickles
from ._reads import READING, RUNNING, looked_at
from ._redefinition import latest
from ._sharding import NamedAxis, ranks_of, sharding_fault
from ._state_body import state_body_faults
from ._static import (
    NO_TEMPLATE,
    GraphObject,
    StaticValue,
    StaticValueError,
    frozen,
    static_key,
)
from ._value import is_container, take_in
from ._versions import CLOCK, Version

if TYPE_CHECKING:
    T = TypeVar("T", default=jax.Array)
else:
    # Beartype takes a default for what every value must be, where Python itself knows
    # it (3.13)
    T = TypeVar("T")
# Not `Self`, which means nothing to a type checker that decorates functions one by one.
S = TypeVar("S", bound="State[Any]")

# What the fields that a State is in require of its value.
Requirements: TypeAlias = tuple[Requirement, ...]

_SPECS: "Interned[Hashable, StateSpec]" = Interned()
_NO_METADATA: Mapping[str, StaticValue] = MappingProxyType({})


class StateSpec:
    """What is fixed about a State: its class, name, tag, sharding, metadata and stacked axes. Equal means identical."""

    __slots__ = ("__weakref__", "cls", "metadata", "name", "sharding", "stacked", "tag")

    cls: "type[State[Any]]"
    name: str | None
    tag: str | None
    sharding: Hashable
    metadata: Mapping[str, StaticValue]
    stacked: tuple[NamedAxis, ...]

    def __copy__(self) -> "StateSpec":
        return self

    def __deepcopy__(self, memo: object) -> "StateSpec":
        return self

    def __reduce__(self) -> tuple[Callable[..., "StateSpec"], tuple[object, ...]]:
        # So that a spec that was pickled is the one that is there already.
        return spec_of, (
            self.cls,
            self.name,
            self.tag,
            self.sharding,
            dict(self.metadata),
            self.stacked,
        )

    def description(self) -> list[tuple[str, object]]:
        """The parts that are set, by name, for a `repr`.

        A State prints what was said of it, and not five times `None`.
        """
        parts: list[tuple[str, object]] = [
            ("name", self.name),
            ("tag", self.tag),
            ("sharding", self.sharding),
            ("stacked", dict(self.stacked) or None),
        ]
        parts += self.metadata.items()
        return [(key, part) for key, part in parts if part is not None]


@named_in_pickles("_pickled_state_spec")
def spec_of(
    cls: "type[State[Any]]",
    name: str | None = None,
    tag: str | None = None,
    sharding: Hashable = None,
    metadata: Mapping[str, StaticValue] = _NO_METADATA,
    stacked: tuple[NamedAxis, ...] = (),
) -> StateSpec:
    """The one spec of this description.

    So that States that are alike share it, and descriptions are compared by identity.

    Raises:
        FieldError: A part is not hashable, name or tag is not a string, or sharding is
            neither mesh axes nor roles.
    """
    check_sharding(cls, sharding)
    for part, text in (("name", name), ("tag", tag)):
        if text is not None and not isinstance(text, str):
            raise FieldError(f"{cls.__name__}: {part} must be a string, found {text!r}")
    # By id: the class holds its plain spec, so a key that held the class would keep both
    # for ever. As the spec holds the class, no other class has the id while it lives.
    sharding_key = _part_key(cls, "sharding", sharding)
    key = (id(cls), name, tag, sharding_key, _metadata_key(cls, metadata), stacked)
    return _SPECS.of(
        key, lambda: _new_spec(cls, name, tag, sharding, metadata, stacked)
    )


def _new_spec(
    cls: "type[State[Any]]",
    name: str | None,
    tag: str | None,
    sharding: Hashable,
    metadata: Mapping[str, StaticValue],
    stacked: tuple[NamedAxis, ...],
) -> StateSpec:
    """For `spec_of`: a new spec of this description, if there is none yet; the metadata become read-only."""
    # At the first spec of the class: a decorator may have registered it with JAX after
    # its definition.
    check_unregistered(cls)
    spec = StateSpec()
    spec.cls = cls
    spec.name = name
    spec.tag = tag
    spec.sharding = sharding
    spec.stacked = stacked
    spec.metadata = _NO_METADATA
    if metadata:
        read_only = {key: frozen(value) for key, value in metadata.items()}
        spec.metadata = MappingProxyType(read_only)
    return spec


def moved_spec(spec: StateSpec) -> StateSpec:
    """The spec itself; if its class was defined again, one of the same description for the new class.

    For notebooks and `autoreload`: States of the old class go on as States of the new
    one.
    """
    cls: Any = latest(spec.cls)
    if cls is spec.cls:
        return spec
    return spec_of(cls, spec.name, spec.tag, spec.sharding, spec.metadata, spec.stacked)


def check_sharding(cls: type, sharding: object, *values: object) -> None:
    """Raise if a sharding is neither mesh axes nor roles, or does not fit the rank of the value.

    Before a State has it: JAX would raise when the array is placed, and name no State.

    Raises:
        FieldError: Says what to write instead.
    """
    if sharding is not None:
        fault = sharding_fault(sharding, ranks_of(values))
        if fault is not None:
            raise FieldError(f"{cls.__name__}: sharding: {fault}")


def _metadata_key(cls: type, metadata: Mapping[str, StaticValue]) -> Hashable:
    """The key of metadata for `spec_of`: their names, sorted, each with the static key of its value.

    `1` and `True` are equal to Python, and are two descriptions.

    Raises:
        FieldError: They are no mapping of strings to hashable values.
    """
    if not isinstance(metadata, Mapping):
        raise FieldError(
            f"{cls.__name__}: metadata takes a mapping; found {describe(metadata)}"
        )
    for key in metadata:
        if not isinstance(key, str):
            raise FieldError(
                f"{cls.__name__}: metadata takes names that are strings, found {key!r}"
            )
    # Sorted, as the order of keyword arguments does not count.
    keys = sorted(metadata)
    return tuple(
        [(key, _part_key(cls, f"metadata {key!r}", metadata[key])) for key in keys]
    )


def _part_key(cls: type, part: str, value: object) -> Hashable:
    """The static key of a part of the description; raises `FieldError` with the name of the part.

    By these keys `spec_of` finds the spec that is there already.
    """
    try:
        return static_key(frozen(value))
    except StaticValueError as error:
        raise FieldError(f"{cls.__name__}: {part}: {error}") from None


class _Keep(enum.Enum):
    """The default of arguments of `State.replace`, as `None` is a value."""

    KEEP = "KEEP"

    def __repr__(self) -> str:
        return self.value


KEEP = _Keep.KEEP


class _Slotted(PublicType):
    """Gives every State class empty slots, so that a misspelt `state.valeu = x` is an error."""

    def __new__(
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        **kwargs: Any,
    ) -> "_Slotted":
        namespace.setdefault("__slots__", ())
        state_class = super().__new__(cls, name, bases, namespace, **kwargs)
        extends_state = any(isinstance(base, _Slotted) for base in bases)
        # `State.__init_subclass__` puts it there.
        if extends_state and "_plain_spec" not in state_class.__dict__:
            raise TypeError(
                f"{name} was not made a class of States: an __init_subclass__ that it inherits does not call "
                "super().__init_subclass__()"
            )
        return state_class


if TYPE_CHECKING:
    _AnyStatic: TypeAlias = staticmethod[..., None]
else:
    _AnyStatic = staticmethod  # which takes no parameters at run time


class _OwnFill(_AnyStatic):
    """A class's own `_fill`. Pickled by value with its class, a function would take this module's globals along."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Where the class is loaded, a copy of the loop there is made.
        return _own_fill, ()


def _own_fill() -> _OwnFill:
    """A copy of the loop for each class: the interpreter caches the type of one class at each instruction.

    For `_new_states`, which runs it over all States of one spec, with that type known.
    """
    # A run-time type checker may have wrapped it.
    return _OwnFill(FunctionType(inspect.unwrap(_fill).__code__.replace(), globals()))


class _PlainSpec:
    """Stands in a class of States for its spec without name, tag and so on, which is made at the first use.

    Not at the definition of the class: a decorator may still register it with JAX, which
    is an error.
    """

    def __get__(self, state: object, cls: "type[State[Any]]") -> StateSpec:
        # It puts the spec into its own place in the class, and is not asked again.
        cls._plain_spec = spec_of(cls)
        return cls._plain_spec


class State(Shown, NoArray, GraphObject, Generic[T], metaclass=_Slotted):
    """A mutable reference to a value of type `T`, any pytree; its class says its role.

    Hash and equality are identity. A State is not an array: read and write `.value`, as
    the errors of operators, of NumPy and of JAX say. Writing a value is not a change of
    structure. Name, tag, sharding and metadata are fixed; `replace` makes another
    State.

    Arrays are kept by identity. The containers around them are the State's own: a dict
    that is given or written is copied, and so is one that goes to a state tree or to
    another State. A NumPy array becomes a JAX array.

    Args:
        value: Any pytree of arrays.
        name: A name for people; part of the structure.
        tag: What a string filter selects by; part of the structure.
        sharding: How the value is laid out over devices; part of the structure.
            `jax.P(...)` names mesh axes, a tuple of strings and `None` the roles of its
            axes, one for each.
        metadata: Further hashable facts, by name; part of the structure.

    Raises:
        FieldError: A part of the description is not hashable; the sharding does not fit
            the value; or the value holds a State, a node, or a NumPy array of a dtype
            that JAX would change.

    Example:
        >>> count = State(jnp.zeros((), jnp.int32), tag="steps")
        >>> count.value += 1
        >>> count
        State(i32[], tag='steps')
    """

    __slots__ = ("__weakref__", "_contracts", "_mark", "_spec", "_value")

    _value: T
    _spec: StateSpec
    _mark: AnyMark
    _contracts: Requirements
    _template: ClassVar[Any] = NO_TEMPLATE
    _plain_spec: ClassVar[StateSpec]
    _fill: "ClassVar[Callable[[Sequence[State[Any]], Sequence[Any], StateSpec, TraceRef | None, Requirements], None]]"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        with defining(cls):
            faults = list(state_body_faults(cls, State))
            if faults:
                raise SchemaError(cls.__name__, faults)
        cls._plain_spec = cast("StateSpec", _PlainSpec())
        cls._fill = _own_fill()

    def __init__(
        self,
        value: T,
        *,
        name: str | None = None,
        tag: str | None = None,
        sharding: Hashable = None,
        metadata: Mapping[str, StaticValue] = _NO_METADATA,
    ) -> None:
        if name is None and tag is None and sharding is None and not metadata:
            # Most States: no look-up among the interned specs.
            self._spec = self._plain_spec
        else:
            self._spec = spec_of(type(self), name, tag, sharding, metadata)
            check_sharding(type(self), sharding, value)
        self._mark = current_trace()
        self._contracts = ()
        self._value = value
        # A concrete JAX array, as nearly always, is kept as it is.
        if type(value) is not CONCRETE:
            store(self, take_in(value, lambda: type(self).__name__))

    @property
    def value(self) -> T:
        """The value: an array by identity, a container that is the State's own and may be written to.

        Inside of a JAX transformation that the State is not part of, a container is a
        copy: writing to it is an error.

        Raises:
            TraceError: The State was made inside a JAX transformation that has ended,
                and holds its tracer; or it is an argument of the transformation that
                runs, which works on a copy of it; or a transformation has written into
                its container without having got the State as an argument.
            DonationError: Its memory was given to a call that failed.
        """
        # While anything is traced with notes of what it looks at, each read is noted.
        if self._mark is not None or RUNNING:
            return read(self)  # type: ignore[no-any-return]  # what is in it is a T
        return self._value

    @value.setter
    def value(self, value: T) -> None:
        """Write the value: at once where nothing has to be checked, else by `write`."""
        # A concrete array outside of any trace, of the shape and dtype that its field
        # asks for, settles it.
        is_plain = type(value) is CONCRETE and self._mark is None and not is_tracing()
        if is_plain and (not self._contracts or _has_aval_of(self._value, value)):
            self._value = value
        else:
            write(self, value)

    @property
    def name(self) -> str | None:
        """The name given at creation."""
        return self._spec.name

    @property
    def tag(self) -> str | None:
        """The tag given at creation."""
        return self._spec.tag

    @property
    def sharding(self) -> Hashable:
        """The sharding given at creation; `gn.stack` puts its axis in."""
        return self._spec.sharding

    @property
    def stacked(self) -> tuple[NamedAxis, ...]:
        """Position and name of each axis that `gn.stack(name=...)` has put in front of or between the State's own."""
        return self._spec.stacked

    @property
    def metadata(self) -> Mapping[str, StaticValue]:
        """The metadata given at creation, read-only."""
        return self._spec.metadata

    def replace(
        self: S,
        *,
        value: "T | _Keep" = KEEP,
        name: "str | _Keep | None" = KEEP,
        tag: "str | _Keep | None" = KEEP,
        sharding: Hashable = KEEP,
        metadata: "Mapping[str, StaticValue] | _Keep" = KEEP,
    ) -> S:
        """A new State of the same class, with the given parts changed and the others kept.

        It may stand wherever this one stands: what fields ask of this one is asked of
        it, too.

        Raises:
            FieldError: A part of the description is not hashable, the sharding does not
                fit the value, or the value is nothing that a State can hold.
            ContractError: The value does not have the dtype or shape that its field
                declares.

        Example:
            >>> State(jnp.zeros(2), tag="a").replace(tag="b").tag
            'b'
        """
        spec = self._spec
        changed = spec_of(
            spec.cls,
            spec.name if isinstance(name, _Keep) else name,
            spec.tag if isinstance(tag, _Keep) else tag,
            spec.sharding if isinstance(sharding, _Keep) else sharding,
            spec.metadata if isinstance(metadata, _Keep) else metadata,
            spec.stacked,
        )
        new_value = self.value if isinstance(value, _Keep) else value
        content = take_in(new_value, lambda: spec.cls.__name__)
        # A value that stays was checked when it was written.
        if not isinstance(value, _Keep):
            check_contracts_of(self, content)
        if not (isinstance(value, _Keep) and isinstance(sharding, _Keep)):
            check_sharding(spec.cls, changed.sharding, content)
        other = cast("S", new_state(changed, content))  # of the class of the spec
        other._contracts = self._contracts
        return other

    def __reduce__(self) -> "tuple[Callable[..., State[T]], tuple[StateSpec, T]]":
        return new_state, (self._spec, self.value)

    def __copy__(self) -> "State[T]":
        # It may stand in the same fields, and so is held to the same contracts.
        twin = new_state(self._spec, self.value)
        twin._contracts = self._contracts
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> "State[T]":
        twin = new_state(self._spec, copy.deepcopy(self.value, memo))
        twin._contracts = self._contracts
        # So that a State in several fields stays one State.
        memo[id(self)] = twin
        return twin

    def __pretty__(self) -> Record:
        return state_record(type(self).__name__, (), self._spec, looked_at(self))


def _fill(
    states: Sequence[State[Any]],
    values: Sequence[Any],
    spec: StateSpec,
    trace: TraceRef | None,
    contracts: Requirements,
) -> None:
    """Give new States of one description and one contract their values.

    For a rebuild, in place of `__init__`: the values were checked before, and are many.
    """
    for state, value in zip(states, values):  # noqa: B905  # one column picked both
        state._spec = spec
        state._value = value
        state._mark = trace
        state._contracts = contracts


def _refuse_write(part: str) -> Callable[[State[Any], object], None]:
    """A setter for a part of the description, which raises: these are fixed.

    Other States share the description, and structures are compared by it.
    """

    def refuse(self: State[Any], value: object) -> None:
        """Raise `AttributeError`: only another State can have another description."""
        fixed = f"{type(self).__name__}.{part} is fixed: put state.replace({part}=...)"
        raise AttributeError(
            f"{fixed}, which is another State, in the field of this one"
        )

    return refuse


# At run time only: to type checkers they stay properties without a setter.
for _part in ("name", "tag", "sharding", "metadata"):
    setattr(State, _part, State.__dict__[_part].setter(_refuse_write(_part)))
State._plain_spec = spec_of(State)
State._fill = staticmethod(_fill)


class ShortTermState(State[T]):
    """What lasts for a short while: a membrane potential, an activity trace."""


class LongTermState(State[T]):
    """What lasts: parameters and statistics."""


class ParamState(LongTermState[T]):
    """A trainable parameter."""


class BatchState(LongTermState[T]):
    """Statistics of a batch, such as a running mean."""


class HiddenState(ShortTermState[T]):
    """The hidden state of a recurrent cell."""


@named_in_pickles("_pickled_state")
def new_state(spec: StateSpec, value: Any) -> State[Any]:
    """A State of this description, made without running `__init__`.

    For copies, `pickle` and `replace`: a class may have an `__init__` of its own, with
    other arguments.
    """
    state: State[Any] = object.__new__(spec.cls)
    state._spec, state._mark, state._contracts = spec, current_trace(), ()
    store(state, take_in(value, lambda: spec.cls.__name__))
    return state


def store(state: State[Any], value: Any) -> None:
    """Give a State a value that `take_in` has returned, and mark the State if that is a container.

    Without the checks of `write`, for values that are known to be good.
    """
    state._value = value
    if is_container(value):
        mark_container(state)


def mark_container(state: State[Any]) -> None:
    """Mark a State that holds a container, so that its value is copied when it is read.

    Only marked States are looked at when values are read: all others give what they
    hold.
    """
    if state._mark is None:
        mark_of(state)
        CLOCK.now = Version()  # bindings remember whether they have marked States


def renew(state: State[Any]) -> None:
    """Drop loans and losses of a State that got another value: they were of the one before.

    So that the mark goes, if nothing else is in it, and reading the State is free
    again.
    """
    mark = state._mark
    # A trace in place of a mark has neither.
    if isinstance(mark, Mark):
        mark.loss = None
        mark.loans = []
        drop_empty_mark(state)


def read(state: State[Any], where: Callable[[], str] = str) -> Any:
    """The value of a State that has a mark, or while a trace notes what it reads, as the running code may read it.

    For `State.value` and bindings. Other States need no call.

    Args:
        state: The State.
        where: Gives its path for a message.

    Raises:
        DonationError, TraceError: As `State.value`.
    """
    if is_marked(state):
        check_marks(state, lambda: state_label(state, where()))
    _check_tracer(state)
    reads = READING.reads
    # Without a trace the arrays are there: in a callback, or where JAX computes at once.
    value = state._value if reads is None or not is_tracing() else reads.value_of(state)
    if isinstance(value, jax.Array) or not is_container(value):
        return value
    return container_for(state, value)


def write(state: State[Any], value: Any, where: Callable[[], str] = str) -> None:
    """Check a value, and give it to a State.

    For `State.value`, where there is anything to check.

    Raises:
        FieldError, ContractError, TraceError: As `value_to_store`.
    """
    store(state, value_to_store(state, value, where))
    renew(state)


def value_to_store(
    state: State[Any], value: Any, where: Callable[[], str] = str
) -> Any:
    """A value as a State would keep it, checked to be one that may be written there now.

    For `write`, and for those that check all values before they store the first one.

    Args:
        state: The State.
        value: The value.
        where: Gives its path for a message.

    Raises:
        FieldError: The value holds what no State can hold.
        ContractError: It does not have the dtype or shape that the State's field
            declares.
        TraceError: A tracer would leave its transformation.
    """
    content = take_in(value, lambda: state_label(state, where()))
    check_writable(state, content, where)
    check_contracts_of(state, content)
    return content


def check_contracts_of(state: State[Any], value: Any) -> None:
    """Raise if a value breaks a contract of the fields that a State is in.

    For single writes; where many are written, `contract_faults` are gathered first.

    Raises:
        ContractError: Names class and field of each contract that it breaks.
    """
    faults = contract_faults(state, value)
    if faults:
        raise ContractError(listed(faults))


def contract_faults(state: State[Any], value: Any) -> list[str]:
    """How a value breaks the contracts of a State's fields.

    Empty at once where shape and dtype stay as they are, as in nearly all writes.
    """
    if not state._contracts:
        return []
    held = looked_at(state)
    if _has_aval_of(held, value):
        return []
    faults = [requirement.fault(value, held) for requirement in state._contracts]
    # Two fields may ask the same thing, which is told once.
    return list(dict.fromkeys([fault for fault in faults if fault is not None]))


def _has_aval_of(value: Any, other: Any) -> bool:
    """Whether two arrays have the same shape and dtype, by JAX's abstract values, which are interned.

    For `contract_faults`: one comparison in place of reading contracts.
    """
    aval = getattr(other, "aval", None)
    return aval is not None and aval is getattr(value, "aval", None)


def check_alive(state: State[Any], where: str = "") -> None:
    """Raise if a State is the copy of a call that is over, or holds a tracer of a trace that has ended.

    For bindings, before the values are handed to a call.
    """
    if is_marked(state):
        check_no_copy(state._mark, lambda: state_label(state, where))
    _check_tracer(state, where)


def _check_tracer(state: State[Any], where: str = "") -> None:
    """Raise if `state` holds a tracer of a trace that has ended: it was made there, or its container was written to.

    JAX's own error would come later, and could not say which State it is.

    A State without tracers may be read, even if it is the copy of a call that is over: a
    backward pass begins when the function is over.
    """
    trace = trace_of(state)
    # Its own trace still runs: its tracers are as they should be.
    if trace is not None and is_live(trace):
        return
    # Made outside of all traces: only a container can have got a tracer, and while a
    # trace runs that may be its own.
    if trace is None and (is_tracing() or not is_marked(state)):
        return
    tracer = tracer_in(state._value)
    if tracer is not None:
        raise TraceError(
            f"{state_label(state, where)} holds {describe(tracer)} of a JAX transformation that has ended: it was made "
            "there and kept. Return its value (or treefy_states of its node) from the transformed function instead"
        )
    # It holds no tracer, so that its birth no longer matters.
    if trace is not None:
        _move_outside(state)


def _move_outside(state: State[Any]) -> None:
    """Forget the trace that a State was made in, and has outlived.

    For `_check_tracer`: from here on it is read without a look at its value.
    """
    mark = state._mark
    if isinstance(mark, Mark):
        if mark.copied_by is not None:  # a mark that other States share
            return
        mark.trace = None
    else:
        state._mark = None
    if is_container(state._value):
        mark_container(state)


def check_writable(
    state: State[Any], value: object, where: Callable[[], str] = str
) -> None:
    """Raise if writing `value` would let a tracer leave the trace of `state`, or would happen only while tracing.

    For `write` and streams: the write would either fail later, far from here, or be
    lost.

    Also raises outside of all traces if a transformation works on a copy of `state`, and
    anywhere if `state` is the copy of a call that is over.
    """
    if is_marked(state):
        check_no_copy(state._mark, lambda: state_label(state, where()))
    tracer, trace = tracer_in(value), current_trace()
    if trace is None:
        check_no_copy_runs(state)
        if tracer is None:
            return
    # It was made in this very trace, and ends with it.
    elif trace == trace_of(state):
        return
    harm = f"writing {describe(tracer)} into it would leak the tracer"
    if tracer is None:
        harm = "a write to it would happen once, while the function is traced, and never when it runs"
    raise TraceError(
        f"{state_label(state, where())} was made outside of the running JAX transformation: {harm}. Pass its node to "
        "the function as an argument, under gn.jit, gn.grad and so on; or split the node outside, merge it inside of "
        "the transformed function, and return treefy_states of the merged node"
    )


def state_label(state: State[Any], where: str = "") -> str:
    """What a message calls a State: its path, if it is known, and its class.

    For all errors about one State.
    """
    name = type(state).__name__ + (f" {state.name!r}" if state.name else "")
    return f"{where} ({name})" if where else name


def state_record(
    name: str, first: Sequence[object], spec: StateSpec, value: Any
) -> Record:
    """How a State is printed, or one in a state tree: its arrays by dtype and shape, and what was said of it.

    A model is printed to be looked at, and its arrays may be large or tracers.

    Args:
        name: What is printed before the parentheses.
        first: What is printed before the value.
        spec: The description.
        value: The value, which is not read.
    """
    fields: list[tuple[str | None, object]] = [(None, part) for part in first]
    # Most values are plain arrays, and a model has many.
    shown = _abstract(value) if is_array(value) else jax.tree.map(_abstract, value)
    fields += [(None, shown), *spec.description()]
    size = _size(value, issubclass(spec.cls, ParamState))
    return Record(name, fields, size, content=(value,))


def _abstract(leaf: Any) -> Any:
    """For `state_record`: an array by dtype and shape; any other leaf as it is."""
    return Text(array_text(leaf)) if is_array(leaf) else leaf


def _size(value: Any, is_parameter: bool) -> Size | None:
    """For `state_record`: how much a State holds; `None` where a dimension of an array has no size yet."""
    parameters, total = 0, 0
    for array in arrays_of(value):
        size = bytes_of(array)
        if size is None:
            return None
        total += size
        parameters += math.prod(array.shape) if is_parameter else 0
    return Size(parameters, total)
