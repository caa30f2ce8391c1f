"""Configs into nodes, each config once; and the shapes that they would have, without an array being made.

The nodes have the sharing and the cycles of the configs. They are made from the leaves
up. In a cycle, one reference must lead back to a node that is not made yet; that field
is set when all nodes are there:

    root -> a -> b -> a        order: b (without a), a, root; then b.a = a
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar, cast, get_origin

import jax
import jax.errors

from .._compat import current_trace
from .._declare._forms import Form
from .._declare._node import Node
from .._declare._schema import Field, schema
from .._errors import ConfigError, Fault, GraphnodeError
from .._fields import Kind
from .._keys import number_of
from .._nesting import assembled, items
from .._static import TracedValueError
from .._stream import Stream, scope_of
from ..transforms import eval_shape
from ._config import Config, check_config, takes_streams
from ._constructor import unshared
from ._graph import Visit, children, number_below, visits
from ._left_out import DEFAULT
from ._optimizer import is_optimizer, optimizer_arguments
from ._slots import slot_kind
from ._streams import STREAMS, is_streams, new_streams, stream_arguments

M = TypeVar("M", bound=Node)
T = TypeVar("T")

# What is folded into the caller's key, of which other streams may be made, too.
_OF_BUILD: Final = number_of("gn.config.build")
# How the note of `_construct` ends. `fault_text` leaves that note out, as a fault has
# its path beside the text.
_NOTE: Final = " was built from its configuration"
# What JAX raises when a function looks at the values of a tracer.
_NEEDS_VALUES: Final = (jax.errors.JAXTypeError, jax.errors.JAXIndexError)


def build(config: Config[M], key: jax.Array | None = None) -> M:
    """Build the model that a config describes.

    Each config is one node, however often it is referred to. The random numbers of a
    node come from `key` and the path of the node: the same config and key give the same
    arrays, and another config of one node changes no other's.

    Args:
        config: What to build.
        key: A key of `jax.random`; `jax.random.key(0)` if it is left out.

    Raises:
        ConfigError: A cycle of references goes through a field that cannot be set
            later: one that must not be `None`.
        FieldError, ContractError, ...: What the constructors raise; a note names the
            path.

    Example:
        >>> config = gn.config.config_of(gn.nn.Linear)(in_size=2, out_size=3)
        >>> gn.config.build(config)(jnp.ones(2)).shape
        (3,)

    See also: `to_config`, the inverse; `gn.eval_shape(lambda:
    gn.config.build(config))`, which makes no arrays.
    """
    check_config(config)
    return _build(config, jax.random.key(0) if key is None else key)


def build_here(config: Config[M]) -> M:
    """Build the model of a config from the ambient stream: nodes draw in the order they are made.

    For a default that is tried out: `_defaults` compares what its configs make with
    what its function made.
    """
    return _build(config, None)


def built_at(config: Config[M], key: jax.Array, number: int) -> M:
    """Build the model of a config below the root, with the random numbers of its path there, given by number.

    To see whether it draws the same as the default in whose place it stands.
    """
    return _build(config, key, number)


def stream_at(key: jax.Array, number: int) -> contextlib.AbstractContextManager[object]:
    """The stream that the node at a path draws from, by the number of the path.

    For each node of `build`: its numbers follow from its path, not from the nodes made
    before it.
    """
    # The key is derived at the first draw, if there is one.
    return scope_of(Stream(key, _OF_BUILD, number, trace=current_trace()))


def constructor_faults(config: Config[Any]) -> list[tuple[Visit, str]]:
    """What keeps the nodes of a model from being made: each fault with the config that it is of.

    For `graphnode config check` and `graphnode summary`.

    No arrays are made, unless a constructor needs their values. A node that holds one
    with a fault is left out.
    """
    faults: list[tuple[Visit, str]] = []

    def collect() -> None:
        # Not returned: `eval_shape` returns arrays alone.
        faults[:] = _collect_faults(config)

    abstractly(collect)
    return faults


def abstractly(make: Callable[[], T]) -> T:
    """The result of a function, without arrays unless a constructor in it needs their values.

    For what needs a model's structure alone, such as `gn.config.summary`: a large one
    would not fit in memory.
    """
    try:
        return eval_shape(make)
    except Exception as error:
        if not _needs_values(error):
            raise
    return make()


def _needs_values(error: Exception) -> bool:
    """Whether a constructor has raised because it needs the values of arrays where there are none.

    `abstractly` then makes the model once more, with arrays; any other error is one of
    the model.

    It looks at them, or makes a static one.
    """
    # A tracer in a static field is refused with an error of the field, which is raised
    # while the one of the static value is handled.
    return isinstance(error, _NEEDS_VALUES) or isinstance(
        error.__context__, TracedValueError
    )


def _collect_faults(config: Config[Any]) -> list[tuple[Visit, str]]:
    """What keeps the nodes of a model from being made, for `constructor_faults`: each with its config."""
    making = _Making(config, jax.random.key(0))
    faults = list(making.order_faults())
    if faults:
        return faults
    for step in making.steps:
        # After a fault, what depends on the node is left out; and no field refers back,
        # as it may be of such a node.
        if faults and (step.name or not making.is_ready(step.visit)):
            continue
        try:
            making.take(step)
        except Exception as error:
            if _needs_values(error):
                raise
            faults.append((step.visit, fault_text(error)))
    return faults


def fault_text(error: Exception) -> str:
    """What a constructor raised, in one line, for a fault: with its class where it is not one of graphnode's."""
    name = "" if isinstance(error, GraphnodeError) else f"{type(error).__name__}: "
    notes = [
        note for note in getattr(error, "__notes__", []) if not note.endswith(_NOTE)
    ]
    return "; ".join([f"{name}{error}".rstrip(": "), *notes]).replace("\n", "; ")


def _build(config: Config[M], key: jax.Array | None, number: int = 0) -> M:
    """Build the model of a config, for all of `build`, `build_here` and `built_at`.

    Without a key, its nodes draw from the ambient stream.

    `number` is that of the path at which the root stands (`Visit.number`).

    Raises:
        ConfigError: A reference leads back in a field that cannot be set later.
    """
    making = _Making(config, key, number)
    faults = [Fault(what, path=visit.name) for visit, what in making.order_faults()]
    if faults:
        raise ConfigError(faults)
    for step in making.steps:
        making.take(step)
    return cast("M", making.nodes[id(config)])


class _Step(NamedTuple):
    """To make the node of a config; or, with a name, to set a field of it that refers back."""

    visit: Visit
    name: str = ""


class _Making:
    """The nodes of a graph of configs, as they are made one after the other.

    Args:
        config: The root.
        key: What the streams of the nodes are derived from; `None` if they draw from
            the ambient one.
        number: The number of the path of the root (`Visit.number`).
    """

    def __init__(
        self, config: Config[Any], key: jax.Array | None, number: int = 0
    ) -> None:
        order, self.backward = _order(config, number)
        self.steps: list[_Step] = _steps(order, self.backward)
        self.nodes: dict[int, Node] = {}
        self._key = key
        self._later = {(id(visit.config), name) for visit, name in self.backward}

    def order_faults(self) -> Iterator[tuple[Visit, str]]:
        """The references back into a cycle, to what is not made yet, in fields that cannot be set later."""
        for visit, name in self.backward:
            if not _may_wait(visit.config, name):
                text = "refers back to a node that holds this one, so it must allow None until that is made"
                yield visit, f"{name} {text}"

    def take(self, step: _Step) -> None:
        """Take one step of the order: make a node, or set a field of one that refers back."""
        if step.name:
            self._link(step.visit, step.name)
        else:
            self._construct(step.visit)

    def is_ready(self, visit: Visit) -> bool:
        """Whether all is made that the constructor takes: after a fault, a node below may be missing."""
        below = [
            child
            for name, _, child in children(visit.config)
            if (id(visit.config), name) not in self._later
        ]
        return all(id(child) in self.nodes for child in below)

    def _construct(self, visit: Visit) -> None:
        """Make the node of a config; those that it holds are there."""
        cls = cast("type[Node]", visit.config.node_class)
        try:
            with self._stream_of(visit.number):
                self.nodes[id(visit.config)] = cls(**self._arguments(visit))
        except Exception as error:
            error.add_note(f"while {visit.name}{_NOTE}")
            raise

    def _link(self, visit: Visit, name: str) -> None:
        """Set a field that refers back into a cycle, and was left empty, now that all nodes are there."""
        value = _nodes_in_place(
            visit.config.slots[name], visit.config.__dict__[name], self.nodes
        )
        setattr(self.nodes[id(visit.config)], name, value)

    def _stream_of(self, number: int) -> contextlib.AbstractContextManager[object]:
        """The context in which the node at a path is made: its own stream, or the ambient one without a key."""
        if self._key is None:
            return contextlib.nullcontext()
        return stream_at(self._key, number)

    def _arguments(self, visit: Visit) -> dict[str, Any]:
        """The arguments of a node's constructor; for a field that waits for `_link`, `None` or an empty container."""
        config = visit.config
        if is_streams(config.node_class):
            return stream_arguments(config.__dict__[STREAMS])
        arguments: dict[str, Any] = {}
        for name, value in config.__dict__.items():
            if value is DEFAULT:
                arguments |= self._left_out(visit, name)
            elif name not in config.slots:
                arguments[name] = unshared(value)
            elif (id(config), name) not in self._later:
                arguments[name] = _nodes_in_place(config.slots[name], value, self.nodes)
            else:
                # Until `_link` sets it.
                arguments[name] = None if isinstance(value, Config) else type(value)()
        if is_optimizer(config.node_class):
            return optimizer_arguments(**arguments)
        return arguments

    def _left_out(self, visit: Visit, name: str) -> dict[str, Any]:
        """The argument for a field that is left to the class, by name; none where the constructor is to make it.

        A default draws from the stream of its path, as a config in its place would. The
        constructor would draw it from that of the node, and what else is made there
        would draw other numbers where one of the defaults is given.
        """
        number = number_below(visit.number, name)
        if takes_streams(visit.config, name):
            with self._stream_of(number):
                return {name: new_streams()}
        is_computed = name not in visit.config.slots
        # The constructor itself draws its defaults from the ambient stream, in turn.
        if self._key is None or is_computed:
            return {}
        field = schema(visit.config.node_class).fields[name]
        return {name: self._default_of(visit.config.node_class, field, number)}

    def _default_of(self, cls: type, field: Field, number: int) -> Any:
        """What a class gives a field by default, drawn from the field's path, for `_left_out`.

        Where that is made by a class in turn, its own defaults are drawn at their
        paths.
        """
        make: Any = field.default
        try:
            arguments = self._defaults_of(get_origin(make) or make, number)
            with self._stream_of(number):
                return make(**arguments)
        except Exception as error:
            error.add_note(
                f"the default_factory of {cls.__name__}.{field.name} was called as default_factory()"
            )
            raise

    def _defaults_of(self, cls: object, number: int) -> dict[str, Any]:
        """The arguments for the nodes that a class makes by default, each drawn at its own path, by field."""
        # What a function or a hand-written constructor makes inside is its own affair.
        if not (isinstance(cls, type) and issubclass(cls, Node)) or cls._has_own_init:
            return {}
        defaults: dict[str, Any] = {}
        for name, field in schema(cls).fields.items():
            is_left_out = field.init and field.default is not None
            if field.kind is Kind.SUBNODE and is_left_out:
                number_of_field = number_below(number, name)
                defaults[name] = self._default_of(cls, field, number_of_field)
        return defaults


def _steps(order: list[Visit], backward: list[tuple[Visit, str]]) -> list[_Step]:
    """Nodes first, then the fields that refer back; optimizers, and what holds them, when their models are complete."""
    late: set[int] = set()
    # What a config holds comes before it, so that one pass finds all that hold one.
    for visit in order:
        below = [child for _, _, child in children(visit.config)]
        holds_late = any(id(child) in late for child in below)
        if holds_late or is_optimizer(visit.config.node_class):
            late.add(id(visit.config))
    steps = [_Step(visit) for visit in order]
    steps += [_Step(visit, name) for visit, name in backward]
    # The sort is stable, so that both parts keep their order.
    return sorted(steps, key=lambda step: _is_late(step, late))


def _is_late(step: _Step, late: set[int]) -> bool:
    """Whether a step waits for the models of optimizers: the sort key of `_steps`.

    An optimizer looks at its model when it is made, so that the model must be complete.

    `late` has the ids of the configs of optimizers, and of all that hold one.
    """
    if id(step.visit.config) in late:
        return True
    return bool(step.name) and any(
        id(child) in late
        for name, _, child in children(step.visit.config)
        if name == step.name
    )


def _may_wait(config: Config[Any], name: str) -> bool:
    """Whether a field can be set later, as one in a cycle must be: it may be `None` until then, or empty."""
    form = config.slots[name]
    if isinstance(config.__dict__[name], Config):
        return form.optional
    return form.tuple_of is None


def _nodes_in_place(form: Form, value: Any, nodes_by_id: dict[int, Node]) -> Any:
    """The argument for a field of nodes: the nodes in place of the configs in its value, made before.

    With tuples where the form has tuples, as configs may hold lists.
    """
    if isinstance(value, Config):
        return nodes_by_id[id(value)]
    kind = slot_kind(form, value)
    placed = None if kind is None else form.items(kind, items(value, as_written=True))
    if kind is None or placed is None:
        # `None`; or a container that was changed since it was validated, of which the
        # constructor says what is wrong.
        return value
    pairs = [
        (key, _nodes_in_place(item_form, child, nodes_by_id))
        for key, child, item_form in placed
    ]
    return assembled(kind, pairs)


def _order(
    root: Config[Any], number: int
) -> tuple[list[Visit], list[tuple[Visit, str]]]:
    """The configs with those that each refers to before it, and the fields that refer to one which comes later.

    The order in which `_Making` makes nodes. A depth-first walk in postorder, on a
    stack of its own. A reference to a config that is still open leads back into a
    cycle.

    A depth-first walk in postorder, on a stack of its own. A reference to a config that
    is still open leads back into a cycle.
    """
    # The walk below may meet a config elsewhere than at its first path, from which its
    # random numbers follow.
    first = {id(visit.config): visit for visit in visits(root, number=number)}
    order: list[Visit] = []
    backward: dict[tuple[int, str], tuple[Visit, str]] = {}
    done: set[int] = set()
    is_open = {id(root)}
    stack = [(first[id(root)], iter(list(children(root))))]
    while stack:
        visit, others = stack[-1]
        # The iterator goes on where it stopped, once what was found is done.
        for name, _, child in others:
            if id(child) in is_open:
                backward[id(visit.config), name] = visit, name
            elif id(child) not in done:
                is_open.add(id(child))
                stack.append((first[id(child)], iter(list(children(child)))))
                break
        else:
            stack.pop()
            is_open.discard(id(visit.config))
            done.add(id(visit.config))
            order.append(visit)
    return order, list(backward.values())
