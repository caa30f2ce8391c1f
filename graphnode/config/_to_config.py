"""Live nodes into configs: what a node says of itself, for a file."""

from collections.abc import Iterator
from typing import Any, TypeVar, cast

import jax
import pydantic

from .._containers import is_container, leaves, mapped
from .._declare._node import Node
from .._declare._schema import Field, is_computed, schema
from .._describe import describe
from .._errors import ConfigError, Fault
from .._fields import NodeBase
from .._graph._diff import diff
from .._inspect import iter_node
from .._paths import path_str
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
    next(iter(iter_node(node)))  # a StructureError, if it is none
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
    for part in reached if not faults else []:
        faults += [(part, fault) for fault in _fill_from(part, reached, configs)]
    if faults:
        # Not before: all paths of a long chain cost its square.
        paths = {id(part): path_str(path) for path, part in iter_node(node)}
        raise ConfigError(
            [
                fault.below(paths[id(part)] or type(part).__name__)
                for part, fault in faults
            ]
        )
    config = cast("Config[M]", configs[id(node)])
    _check_builds(config, node)
    return config


def _fill_from(
    part: Node, reached: list[Node], configs: dict[int, Config[Any]]
) -> list[Fault]:
    """Give the config of a node its fields; what is wrong, with paths that start at the node."""
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

    Raises:
        ConfigError: Names all that differs.
    """
    built: Node = abstractly(lambda: build(config))
    differences = [str(one) for one in diff(graphdef(node), graphdef(built))] or list(
        _other_shapes(node, built)
    )
    if differences:
        raise ConfigError(
            [f"{one}: build would make it otherwise" for one in differences]
        )


def _other_shapes(node: Node, built: Node) -> Iterator[str]:
    """The States of a node, whose structure is that of another one, with other shapes or dtypes: those of a stack."""
    others = states(built)
    for path, state in states(node).items():
        pairs = zip(
            jax.tree.leaves(state._value),
            jax.tree.leaves(others[path]._value),
            strict=False,
        )
        if any(leaf_form(one) != leaf_form(other) for one, other in pairs):
            yield f"{path_str(path)}: {describe(state._value)} != {describe(others[path]._value)}"


def _reached(root: Node) -> list[Node]:
    """The nodes that are arguments of constructors, not made by them."""
    found: dict[int, Node] = {}
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        try:
            slots = config_of(type(node)).slots
        except ConfigError:
            continue  # told by who asks for it
        for name in slots:
            below = [
                leaf
                for _, leaf in leaves(node.__dict__.get(name))
                if isinstance(leaf, Node)
            ]
            todo += reversed(below)
    return list(found.values())


def _containers(reached: list[Node]) -> Iterator[Any]:
    """The lists and dicts of nodes that nodes hold: an optimizer may be made for one."""
    for node in reached:
        for name in config_of(type(node)).slots:
            value = node.__dict__.get(name)
            if is_container(value):
                yield value


def _fields(
    node: Node, others: list[Node], made: dict[int, Config[Any]]
) -> dict[str, Any]:
    def config_in_place(leaf: Any) -> Any:
        return made[id(leaf)] if isinstance(leaf, NodeBase) else leaf

    model = type(made[id(node)])
    if isinstance(node, Rngs):
        return {STREAMS: names_of(node)}
    if isinstance(node, Optimizer):
        own = fields_of(node, [*others, *_containers(others)])
        return {**own, MODEL: mapped(config_in_place, own[MODEL])}
    given: dict[str, Any] = dict(getattr(node, "__init_vars__", dict)())
    fields = schema(type(node)).fields
    for name in model.model_fields:
        if (
            name in fields
            and name in node.__dict__
            and not _is_computed_again(node, fields[name])
        ):
            value = node.__dict__[name]
            # A default stays what it is, also where its annotation would make another
            # value of it, as of 1 for a float.
            if name in model.slots:
                given[name] = mapped(config_in_place, value)
            elif not is_default(model, name, value):
                given[name] = value
    return given


def _is_computed_again(node: NodeBase, field: Field) -> bool:
    """Whether the factory of a static field makes what the field holds, so that the config leaves it to the class.

    Whether it was given all the same, nobody knows; and so it follows the fields that
    it is computed from.
    """
    if not is_computed(field):
        return False
    plan = type(node)._plan
    try:
        with scope_of(Refusing("another value each time")):
            value = plan.admit[field.name](node, plan.makers[field.name](node))
    except (
        Exception
    ):  # of a factory that draws, or that looks at what has changed since
        return False
    return same_static(value, node.__dict__[field.name])
