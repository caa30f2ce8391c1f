"""Configs in place of the defaults that a class makes itself, so that a part of such a default can be changed.

Data in: a config, and a field that it leaves to its class. Data out: configs of the
nodes that the field's `default_factory` makes, or the reason why there are none.

A class as its own factory is called without arguments, so that a config which says
nothing is the same, whatever of it is changed. What a function hands to its
constructors nobody sees, and `to_config` sees only what the nodes have become: a field
that a `__post_init__` has computed would stay as it was computed of the old values. So
the configs of a function are taken only where they make the same nodes with the same
arrays, and where each field that they set is one that somebody must have given: without
it another node would come out. All else is an error, so that a change never gives
another model than the one that was meant.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, get_origin

import jax
import numpy as np
import pydantic

from .._compat import current_trace
from .._containers import leaves
from .._declare._node import Node
from .._declare._schema import schema
from .._errors import ConfigError, Fault
from .._inspect import nodes
from .._keys import bits_of, is_key
from .._paths import Path, path_str
from .._rngs import Rngs
from .._split import graphdef, states, treefy_states
from .._stream import Stream, scope_of
from ._build import build_here, built_at, fault_text, stream_at
from ._by_path import WrittenOut, change_path
from ._config import (
    DEFAULT,
    Config,
    config_of,
    configs_in,
    mapped_slot,
    misfit,
    takes_streams,
)
from ._graph import copied, number_below, visits
from ._node_data import LeftOut, differs_from_default, maker_of
from ._to_config import to_config

M = TypeVar("M", bound=Node)


class _UnsaidError(Exception):
    """Why no config says what a factory makes."""


def default_of(config: Config[Any], name: str, where: str) -> Any:
    """What a class gives a field itself, as configs: one, or a container of them.

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
        fault = misfit(config.slots[name], value)
        if fault is not None:
            raise _UnsaidError(fault)
        return value
    except _UnsaidError as error:
        what = f"the default of the class cannot be changed in part: {error}"
        hint = f"write the whole value first, such as {where}={{type: ...}}"
        raise ConfigError([Fault(what, path=where, hint=hint)]) from None


# Any: the default of a field is whatever makes it.
def _factory(config: Config[Any], name: str) -> Any:
    return schema(config.node_class).fields[name].default


def _class_of(factory: Any) -> type[Node] | None:
    """The node class that a factory is, if it is not a function."""
    cls = get_origin(factory) or factory
    return cls if isinstance(cls, type) and issubclass(cls, Node) else None


def opened(config: Config[Any], name: str, path: Path) -> Any:
    """What stands for a field that a config leaves out, as configs.

    Args:
        config: A config that leaves the field to its class, or to `build`.
        name: The field.
        path: Where it is, for messages.

    Raises:
        ConfigError: What the class makes is not known well enough.
    """
    return (
        config_of(Rngs)()
        if takes_streams(config, name)
        else default_of(config, name, change_path(path))
    )


class Opened(NamedTuple):
    """A default that is written out: how the config tells it that leaves it out, and how the other one."""

    left_out: LeftOut
    written_out: WrittenOut


def opened_like(
    root: Config[M], other: Config[Any]
) -> tuple[Config[M], dict[Path, Opened]]:
    """A copy of a config that says the defaults which another one says, as far as they are known.

    Returns:
        The copy, and those defaults by their paths.
    """
    twin = copied(root)
    found: dict[Path, Opened] = {}
    seen: set[int] = set()
    todo: list[tuple[Config[Any], Config[Any], Path]] = [(twin, other, ())]
    while todo:
        mine, theirs, path = todo.pop()
        if id(mine) in seen or type(mine) is not type(theirs):
            continue
        seen.add(id(mine))
        below: list[tuple[Config[Any], Config[Any], Path]] = []
        for name in mine.slots:
            where = (*path, name)
            given = dict(configs_in(theirs.__dict__[name]))
            if mine.__dict__[name] is DEFAULT and given:
                with contextlib.suppress(ConfigError):
                    value = opened(mine, name, where)
                    written_out = WrittenOut(_draws_otherwise(mine, name, value))
                    found[where] = Opened(LeftOut(maker_of(mine, name)), written_out)
                    vars(mine)[name] = value
            own = configs_in(mine.__dict__[name])
            below += [
                (child, given[keys], (*where, *keys))
                for keys, child in own
                if keys in given
            ]
        # The first one is next: a shared config is met at its first path, as everywhere
        todo += reversed(below)
    return twin, found


def _draws_otherwise(config: Config[Any], name: str, value: Any) -> bool:
    """Whether configs draw other numbers than the default that they stand for.

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
    key = jax.random.key(0)
    with jax.ensure_compile_time_eval():
        with stream_at(key, 0):
            made = factory()
        leaves_at = [
            (keys, leaf) for keys, leaf in leaves(made) if isinstance(leaf, Node)
        ]
        configs = dict(configs_in(value))
        return any(
            _values(leaf) != _values(built_at(configs[keys], key, _number_at(keys)))
            for keys, leaf in leaves_at
        )


def _number_at(keys: Path) -> int:
    return functools.reduce(number_below, keys, 0)


def _config_without_arguments(cls: type[Node]) -> Config[Any]:
    try:
        made = config_of(cls)()
    except pydantic.ValidationError as error:
        missing = ", ".join(str(one["loc"][0]) for one in error.errors())
        raise _UnsaidError(f"{cls.__name__} needs {missing}") from None
    except ConfigError as error:
        raise _UnsaidError("; ".join(error.faults)) from None
    for name in made.slots:
        if takes_streams(made, name):  # from the class itself it has none
            setattr(made, name, None)
    return made


def _configs_of_function(factory: Callable[[], Any]) -> Any:
    """Configs of what a function makes.

    Raises:
        _UnsaidError: They would not be the same model under every change.
    """
    try:
        made, other = _drawn(factory), _drawn(factory)
        if not any(isinstance(leaf, Node) for _, leaf in leaves(made)):
            return _in_lists(made)
        configs = mapped_slot(
            lambda leaf: to_config(leaf) if isinstance(leaf, Node) else leaf, made
        )
    except ConfigError as error:
        raise _UnsaidError("; ".join(error.faults)) from None
    except Exception as error:  # of the factory
        raise _UnsaidError(f"its default_factory raises {fault_text(error)}") from None
    if _ids(made) & _ids(other):
        raise _UnsaidError("its default_factory gives the same object each time")
    is_made = functools.partial(_make_the_same, configs, made)
    if not is_made():
        raise _UnsaidError(
            "its default_factory makes what no config says, such as States with other values"
        )
    for _, config in configs_in(configs):
        for name in _computed(config, is_made):
            raise _UnsaidError(
                f"nothing says whether its default_factory gives {name} or the class computes it"
            )
    return configs


def _drawn(make: Callable[[], Any]) -> Any:
    """What a function makes, each time with the same random numbers."""
    with scope_of(Stream(jax.random.key(0), trace=current_trace())):
        return make()


def _in_lists(value: Any) -> Any:
    """A value with lists in place of tuples, as in a config."""
    return mapped_slot(lambda leaf: leaf, value)


def _ids(value: Any) -> set[int]:
    """The nodes and States of a value."""
    return {id(one) for one in (*nodes(value).values(), *states(value).values())}


def _make_the_same(configs: Any, made: Any) -> bool:
    """Whether configs make nodes of the structure of others, with the same values from the same random numbers."""
    try:
        again = _drawn(lambda: mapped_slot(_node_of, configs))
    except Exception:  # of a constructor
        return False
    lists = _in_lists(made)
    return graphdef(lists) == graphdef(again) and _values(lists) == _values(again)


def _node_of(leaf: Any) -> Any:
    return build_here(leaf) if isinstance(leaf, Config) else leaf


def _values(value: Any) -> list[tuple[str, bytes]]:
    return [
        (str(jax.typeof(leaf)), _bytes(leaf))
        for leaf in jax.tree.leaves(treefy_states(value))
    ]


def _bytes(leaf: Any) -> bytes:
    return (
        bits_of(leaf)
        if isinstance(leaf, jax.Array) and is_key(leaf)
        else np.asarray(leaf)
    ).tobytes()


def _computed(root: Config[Any], is_made: Callable[[], bool]) -> Iterator[str]:
    """The fields below a config of which nobody knows whether they were given: their default would become the same.

    Nodes that the class would make itself are left to it first: their factories take no
    arguments, so that they are the same under every change.
    """
    for visit in visits(root):
        for name in visit.config.slots:
            if _default(visit.config, name) is DEFAULT:
                _leave_out(visit.config, name, is_made)
    for visit in visits(root):
        for name in type(visit.config).model_fields:
            is_computed = (
                name not in visit.config.slots and vars(visit.config)[name] is DEFAULT
            )
            if is_computed or _leave_out(visit.config, name, is_made):
                yield path_str((*visit.path, name))


def _default(config: Config[Any], name: str) -> Any:
    return (
        type(config)
        .model_fields[name]
        .get_default(call_default_factory=True, validated_data={})
    )


def _leave_out(config: Config[Any], name: str, is_made: Callable[[], bool]) -> bool:
    """Give a field that differs from its default the default, if the nodes stay the same; whether they do."""
    if (
        not differs_from_default(config, name)
        or type(config).model_fields[name].is_required()
    ):
        return False
    fields: dict[str, Any] = vars(config)
    given = fields[name]
    fields[name] = _default(config, name)
    if is_made():
        return True
    fields[name] = given
    return False
