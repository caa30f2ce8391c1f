"""Live nodes into configs: `gn.config.to_config`."""

from collections.abc import Iterator
from typing import Any, TypeVar, cast

import jax
import pydantic

from .._declare._node import Node
from .._declare._schema import Field, is_computed, schema
from .._describe import describe
from .._errors import ConfigError, Fault
from .._fields import NodeBase
from .._graph._diff import diff
from .._inspect import iter_node
from .._nesting import is_container, leaves, mapped
from .._paths import path_str
from .._reads import looked_at
from .._rngs import Rngs
from .._split import graphdef, states
from .._stream import Refusing, scope_of
from .._update import leaf_form
from ..optim import Optimizer
from ._build import abstractly, build
from ._config import Config, config_of, empty_config, fill, is_default, same_static
from ._optimizer import MODEL, fields_of
from ._streams import STREAMS, names_of
from ._value_errors import value_faults

M = TypeVar("M", bound=Node)


def to_config(node: M, /) -> Config[M]:
    """The config of a live model: `build` makes one of an equal graphdef from it.

    Shared nodes are shared configs, cycles included. States are left out, as configs
    make new ones. An init variable is taken from the mapping that the node's method
    `__init_vars__` gives, if it has one; otherwise it has its default. That method may
    raise a `ConfigError` itself, of `Fault`s whose paths start at the node. A static field whose
    `factory` would make the same is left to it.

    Raises:
        ConfigError: A class that no configuration can describe, a value that its field
            would not take, or what a constructor would not make: tied States, other
            tags, replaced parts; names all.
        StructureError: `node` is not a node.

    Example:
        >>> config = gn.config.to_config(gn.nn.Linear(2, 3))
        >>> config.out_size
        (3,)

    See also: `build`, the inverse; `dump`, which writes a config.
    """
    next(iter(iter_node(node)))  # a StructureError, if it is not a node
    reached = _reached(node)
    faults: list[tuple[Node, Fault]] = []
    configs: dict[int, Config[Any]] = {}
    for part in reached:
        try:
            model = config_of(type(part))
        except ConfigError as error:
            faults += [(part, Fault(fault)) for fault in error.faults]
        else:
            configs[id(part)] = empty_config(model)
    # All configs are there before one is filled, as nodes may form cycles.
    if not faults:
        for part in reached:
            faults += [(part, fault) for fault in _fill_from(part, reached, configs)]
    if faults:
        raise ConfigError(_with_paths(faults, node))
    config = cast("Config[M]", configs[id(node)])
    _check_builds(config, node)
    return config


def _with_paths(faults: list[tuple[Node, Fault]], root: Node) -> list[Fault]:
    """Faults with paths from the root, which the user knows, in place of those from their nodes."""
    # Only here, where there are faults: all paths of a long chain cost its square.
    paths = {id(node): path_str(path) for path, node in iter_node(root)}
    return [
        fault.below(paths[id(node)] or type(node).__name__) for node, fault in faults
    ]


def _fill_from(
    part: Node, reached: list[Node], configs: dict[int, Config[Any]]
) -> list[Fault]:
    """Give the config of a node its fields; returns what is wrong, with paths that start at the node."""
    try:
        fields = _fields(part, reached, configs)
    except ConfigError as error:
        # Of its `__init_vars__`, or of an optimizer without its model.
        return list(error.faults)
    try:
        fill(configs[id(part)], fields)
    except pydantic.ValidationError as error:
        return [
            Fault(fault.what, path=fault.key + fault.inside, hint=fault.hint)
            for fault in value_faults(error, fields)
        ]
    return []


def _check_builds(config: Config[Any], node: Node) -> None:
    """Raise if what `build` makes of a config is another structure than the node that it was made of.

    The last step of `to_config`: some of a live model, such as tied States, is in no
    field.

    Raises:
        ConfigError: Names all that differs.
    """
    built: Node = abstractly(lambda: build(config))
    differences = [str(change) for change in diff(graphdef(node), graphdef(built))]
    # Shapes are compared where the States are the same ones.
    differences = differences or list(_other_shapes(node, built))
    if differences:
        raise ConfigError(
            [f"{text}: build would make it otherwise" for text in differences]
        )


def _other_shapes(node: Node, built: Node) -> Iterator[str]:
    """The States of a node whose shapes or dtypes differ from those of a node of equal structure, as in a stack."""
    others = states(built)
    for path, state in states(node).items():
        value, other = looked_at(state), others[path]._value
        pairs = zip(jax.tree.leaves(value), jax.tree.leaves(other), strict=False)
        if any(leaf_form(leaf) != leaf_form(other_leaf) for leaf, other_leaf in pairs):
            yield f"{path_str(path)}: {describe(value)} != {describe(other)}"


def _reached(root: Node) -> list[Node]:
    """The nodes below a root that are arguments of constructors: each gets a config. The others are made by these."""
    reached: dict[int, Node] = {}
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in reached:
            continue
        reached[id(node)] = node
        try:
            slots = config_of(type(node)).slots
        except ConfigError:
            continue  # reported by the caller, who asks again
        for name in slots:
            values = leaves(node.__dict__.get(name))
            # Reversed, as the last one is taken first.
            todo += reversed([leaf for _, leaf in values if isinstance(leaf, Node)])
    return list(reached.values())


def _containers(reached: list[Node]) -> Iterator[Any]:
    """The lists and dicts of nodes that nodes hold: an optimizer may be made for one."""
    for node in reached:
        for name in config_of(type(node)).slots:
            value = node.__dict__.get(name)
            if is_container(value):
                yield value


def _fields(
    node: Node, others: list[Node], configs: dict[int, Config[Any]]
) -> dict[str, Any]:
    """The fields of a node's config, which `fill` then validates, with the configs of the nodes that it holds.

    Raises:
        ConfigError: Of its `__init_vars__`, or of an optimizer without its model.
    """

    def config_in_place(leaf: Any) -> Any:
        """The config of a node; any other leaf, such as `None`, as it is."""
        return configs[id(leaf)] if isinstance(leaf, NodeBase) else leaf

    if isinstance(node, Rngs):
        return {STREAMS: names_of(node)}
    if isinstance(node, Optimizer):
        own = fields_of(node, [*others, *_containers(others)])
        return {**own, MODEL: mapped(config_in_place, own[MODEL])}
    model = type(configs[id(node)])
    values: dict[str, Any] = dict(getattr(node, "__init_vars__", dict)())
    fields = schema(type(node)).fields
    for name in model.model_fields:
        # What is not a field is an init variable; a field may not be set yet.
        if name not in fields or name not in node.__dict__:
            continue
        if _is_computed_again(node, fields[name]):
            continue
        value = node.__dict__[name]
        if name in model.slots:
            values[name] = mapped(config_in_place, value)
        # A default stays what it is, also where its annotation would make another
        # value of it, as of 1 for a float.
        elif not is_default(model, name, value):
            values[name] = value
    return values


def _is_computed_again(node: NodeBase, field: Field) -> bool:
    """Whether the factory of a static field makes what the field holds, so that the config leaves it to the class.

    Nobody knows whether it was given all the same. Left out, it follows the fields that
    it is computed from.
    """
    if not is_computed(field):
        return False
    plan = type(node)._plan
    try:
        with scope_of(Refusing("another value each time")):
            value = plan.admit[field.name](node, plan.makers[field.name](node))
    except Exception:
        # Of a factory that draws, or that looks at what has changed since.
        return False
    return same_static(value, node.__dict__[field.name])
