"""Configs in place of the defaults that a class makes itself, so that a part of such a default can be changed.

A field that a config leaves to its class is *opened*: `default_of` puts the configs
there from which the same nodes would be built.

                               default_factory
            a class                                 a function
               |                                        |
    its config without arguments           call it twice, with equal keys
               |                                        |
               |                           to_config of the nodes it made
               |                                        |
               |                   same nodes and arrays if built again?   no: refuse
               |                                        |
               |                   any field that its own default would    yes: refuse
               |                   fill in just the same?
               |                                        |
               +------------------ configs -------------+

A class as its own factory is called without arguments, so that an empty config is the
same, whatever of it is changed. Of a function, nobody sees what it hands to the
constructors; `to_config` sees only the nodes that came out. If a `__post_init__` has
computed a field, the config would keep what was computed of the old values. Therefore
the last question: a field that its default would fill in just the same may have been
computed, one that needs its value must have been given. All doubt is an error, so that
a change never gives another model than the one that was meant.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, get_origin

import jax
import numpy as np
import pydantic

from .._compat import current_trace
from .._declare._node import Node
from .._declare._schema import schema
from .._errors import ConfigError, Fault
from .._inspect import nodes
from .._keys import bits_of, is_key
from .._nesting import leaves
from .._paths import Path, path_str
from .._rngs import Rngs
from .._split import graphdef, states, treefy_states
from .._stream import Stream, scope_of
from ._build import build_here, built_at, fault_text, stream_at
from ._by_path import WrittenOut, change_path
from ._config import (
    Config,
    config_of,
    configs_in,
    field_default,
    mismatch,
    takes_streams,
)
from ._graph import copied, number_below, visits
from ._left_out import DEFAULT
from ._node_data import LeftOut, differs_from_default, maker_of
from ._slots import mapped_slot
from ._to_config import to_config

M = TypeVar("M", bound=Node)


class _NoConfigError(Exception):
    """Why no config is known for what a factory makes; raised in this module, and caught by `default_of`."""


def default_of(config: Config[Any], name: str, where: str) -> Any:
    """The default that a class makes for a field, as configs: one, or a container of them.

    For `opened`: a change that leads into a node which no config is there for yet.

    Args:
        config: A config that leaves the field to its class.
        name: The field.
        where: Its path, for messages.

    Raises:
        ConfigError: What the factory makes is not known well enough.
    """
    factory = _factory(config, name)
    cls = _class_of(factory)
    try:
        with jax.ensure_compile_time_eval():  # in a trace too: values are compared
            value = (
                _configs_of_function(factory)
                if cls is None
                else _config_without_arguments(cls)
            )
        fault = mismatch(config.slots[name], value)
        if fault is not None:
            raise _NoConfigError(fault)
        return value
    except _NoConfigError as error:
        what = f"the default of the class cannot be changed in part: {error}"
        hint = f"write the whole value first, such as {where}={{type: ...}}"
        raise ConfigError([Fault(what, path=where, hint=hint)]) from None


# Any: the default of a field is whatever makes it.
def _factory(config: Config[Any], name: str) -> Any:
    """What makes the default of a field for nodes, of a config that leaves it out: a class or a function."""
    return schema(config.node_class).fields[name].default


def _class_of(factory: Any) -> type[Node] | None:
    """The node class that a factory is, if it is not a function.

    A class is called without arguments, and its config says all; what a function makes
    has to be tried out.
    """
    cls = get_origin(factory) or factory
    return cls if isinstance(cls, type) and issubclass(cls, Node) else None


def opened(config: Config[Any], name: str, path: Path) -> Any:
    """Configs that stand for a field which a config leaves out, so that parts of them can be changed or compared.

    Args:
        config: A config that leaves the field to its class, or to `build`.
        name: The field.
        path: Where it is, for messages.

    Raises:
        ConfigError: What the class makes is not known well enough.
    """
    if takes_streams(config, name):
        return config_of(Rngs)()
    return default_of(config, name, change_path(path))


class Opened(NamedTuple):
    """A default that one of two configs writes out: how a difference shows each of them."""

    left_out: LeftOut
    written_out: WrittenOut


def opened_like(
    root: Config[M], other: Config[Any]
) -> tuple[Config[M], dict[Path, Opened]]:
    """A copy of a config in which the defaults are opened that another config writes out, as far as they are known.

    Returns:
        The copy, and those defaults by their paths.
    """
    twin = copied(root)
    defaults: dict[Path, Opened] = {}
    seen: set[int] = set()
    todo: list[tuple[Config[Any], Config[Any], Path]] = [(twin, other, ())]
    while todo:
        left, right, path = todo.pop()
        if id(left) in seen or type(left) is not type(right):
            continue
        seen.add(id(left))
        below: list[tuple[Config[Any], Config[Any], Path]] = []
        for name in left.slots:
            field_path = (*path, name)
            others = dict(configs_in(right.__dict__[name]))
            if left.__dict__[name] is DEFAULT and others:
                # What cannot be opened stays a default, and shows as one.
                with contextlib.suppress(ConfigError):
                    defaults[field_path] = _open(left, name, field_path)
            for keys, child in configs_in(left.__dict__[name]):
                if keys in others:
                    below.append((child, others[keys], (*field_path, *keys)))
        # The first one is next: a shared config is met at its first path, as everywhere
        todo += reversed(below)
    return twin, defaults


def _open(config: Config[Any], name: str, path: Path) -> Opened:
    """Put configs in place of a default, for `opened_like`; gives how a difference then shows the default."""
    value = opened(config, name, path)
    written_out = WrittenOut(_draws_otherwise(config, name, value))
    left_out = LeftOut(maker_of(config, name))
    # Not by assignment, which would validate the configs once more.
    vars(config)[name] = value
    return Opened(left_out, written_out)


def _draws_otherwise(config: Config[Any], name: str, value: Any) -> bool:
    """Whether configs draw other numbers than the default that they stand for: `diff` has to say so.

    A function draws all that it makes from the stream of the field, one after the
    other, and configs draw by their own paths.

    Args:
        config: The config that leaves the field to its class.
        name: The field.
        value: What the class makes, as configs.
    """
    factory = _factory(config, name)
    if takes_streams(config, name) or _class_of(factory) is not None:
        return False
    # Any key will do, as only the paths are in question that it is folded with.
    key = jax.random.key(0)
    configs = dict(configs_in(value))
    with jax.ensure_compile_time_eval():
        with stream_at(key, 0):
            default = factory()
        for keys, leaf in leaves(default):
            if isinstance(leaf, Node):
                built = built_at(configs[keys], key, _number_at(keys))
                if _values(leaf) != _values(built):
                    return True
    return False


def _number_at(keys: Path) -> int:
    """The number of the path of a node within a default, whose own number counts as 0.

    With it, a node draws in `built_at` what a config in its place would.
    """
    return functools.reduce(number_below, keys, 0)


def _config_without_arguments(cls: type[Node]) -> Config[Any]:
    """The config of a class that is its own factory: it is called without arguments.

    Raises:
        _NoConfigError: The class cannot be called so, or has no config.
    """
    try:
        config = config_of(cls)()
    except pydantic.ValidationError as error:
        missing = ", ".join(str(detail["loc"][0]) for detail in error.errors())
        raise _NoConfigError(f"{cls.__name__} needs {missing}") from None
    except ConfigError as error:
        raise _NoConfigError("; ".join(error.faults)) from None
    # `build` gives streams to a node that takes them; the class alone gives none.
    for name in config.slots:
        if takes_streams(config, name):
            setattr(config, name, None)
    return config


def _configs_of_function(factory: Callable[[], Any]) -> Any:
    """Configs of what a function makes as a default, if it is certain that they build the same.

    Raises:
        _NoConfigError: They would not be the same model under every change.
    """
    try:
        # Twice: what is the same object in both would be shared by all models.
        default, again = _drawn(factory), _drawn(factory)
        if not any(isinstance(leaf, Node) for _, leaf in leaves(default)):
            return _in_lists(default)
        configs = mapped_slot(_config_of_node, default)
    except ConfigError as error:
        raise _NoConfigError("; ".join(error.faults)) from None
    except Exception as error:  # of the factory
        raise _NoConfigError(
            f"its default_factory raises {fault_text(error)}"
        ) from None
    if _ids(default) & _ids(again):
        raise _NoConfigError("its default_factory gives the same object each time")
    # Asked again after each change that `_leave_out` makes to the configs.
    is_same = functools.partial(_is_built_from, configs, default)
    if not is_same():
        raise _NoConfigError(
            "its default_factory makes what no config says, such as States with other values"
        )
    for _, config in configs_in(configs):
        for name in _doubtful(config, is_same):
            raise _NoConfigError(
                f"nothing says whether its default_factory gives {name} or the class computes it"
            )
    return configs


def _config_of_node(leaf: Any) -> Any:
    """The config of a node, for `mapped_slot`; any other leaf, such as `None`, as it is."""
    return to_config(leaf) if isinstance(leaf, Node) else leaf


def _node_of_config(leaf: Any) -> Any:
    """The node that a config builds, for `mapped_slot`; any other leaf, such as `None`, as it is."""
    return build_here(leaf) if isinstance(leaf, Config) else leaf


def _drawn(make: Callable[[], Any]) -> Any:
    """What a function makes, each time with the same random numbers.

    So that what configs build can be compared with it, number by number.
    """
    with scope_of(Stream(jax.random.key(0), trace=current_trace())):
        return make()


def _in_lists(value: Any) -> Any:
    """A value with lists in place of tuples, as in a config, to be compared with what configs build."""
    return mapped_slot(lambda leaf: leaf, value)


def _ids(value: Any) -> set[int]:
    """The ids of the nodes and States of a value: two results of one factory must have none in common."""
    return {*map(id, nodes(value).values()), *map(id, states(value).values())}


def _is_built_from(configs: Any, default: Any) -> bool:
    """Whether configs build a default again: the structure, and the same values from the same random numbers.

    If not, the function has done what no config says, and the default cannot be opened.
    """
    try:
        built = _drawn(lambda: mapped_slot(_node_of_config, configs))
    except Exception:  # of a constructor
        return False
    # What is built has lists where the default may have tuples.
    lists = _in_lists(default)
    return graphdef(lists) == graphdef(built) and _values(lists) == _values(built)


def _values(value: Any) -> list[tuple[str, bytes]]:
    """The type and bits of each array in nodes, to see whether two models are the same: by bits, for NaN."""
    arrays = jax.tree.leaves(treefy_states(value))
    return [(str(jax.typeof(array)), _bytes(array)) for array in arrays]


def _bytes(array: Any) -> bytes:
    """The bits of an array or of a random key."""
    if isinstance(array, jax.Array) and is_key(array):
        return bits_of(array).tobytes()
    return np.asarray(array).tobytes()


def _doubtful(root: Config[Any], is_same: Callable[[], bool]) -> Iterator[str]:
    """The fields below a config which a factory may have given or the class computed: their default would be the same.

    After a change of another field, one that the class computes would differ, and one
    that was given would not: `default_of` refuses.

    Nodes that the class would make itself are left to it first: their factories take no
    arguments, so that they are the same under every change.
    """
    for visit in visits(root):
        for name in visit.config.slots:
            if field_default(type(visit.config), name) is DEFAULT:
                _leave_out(visit.config, name, is_same)
    for visit in visits(root):
        config = visit.config
        for name in type(config).model_fields:
            is_computed = name not in config.slots and vars(config)[name] is DEFAULT
            if is_computed or _leave_out(config, name, is_same):
                yield path_str((*visit.path, name))


def _leave_out(config: Config[Any], name: str, is_same: Callable[[], bool]) -> bool:
    """Give a field the default in place of its value, and take that back if other nodes would be built.

    For `_doubtful`: whether the default would do just the same.

    Returns:
        Whether the field has lost a value.
    """
    is_required = type(config).model_fields[name].is_required()
    if is_required or not differs_from_default(config, name):
        return False
    # Not by assignment: it would validate what is put back at once.
    fields: dict[str, Any] = vars(config)
    value = fields[name]
    fields[name] = field_default(type(config), name)
    if is_same():
        return True
    fields[name] = value
    return False
