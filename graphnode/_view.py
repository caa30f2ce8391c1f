"""`view`: the same States under a structure with other static values, such as the model for evaluation.

The work is done on the graphdef: nodes that declare a changed field get another spec,
and the graph is rebuilt around the live States. The new structure is cached with the
graphdef, so a second view costs one rebuild.
"""

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from ._declare._node import plan_of
from ._declare._plan import check_nodes
from ._declare._schema import schema
from ._errors import FieldError, listed
from ._graph._binding_cache import binding_of
from ._graph._graphdef import GraphDef, intern_graphdef
from ._graph._table import Token
from ._graph._template import NodeSpec
from ._graph._unflatten import rebuild
from ._hints import did_you_mean
from ._inspect import live_objects
from ._static import StaticValueError, frozen, static_key

N = TypeVar("N")


def view(node: N, /, **statics: object) -> N:
    """New nodes around the same States, with other values of static fields: `view(model, deterministic=True)`.

    Every node that declares a static field of a given name has the given value there,
    the others are as they were. Sharing and cycles are kept. A write to a State shows
    in both; the nodes themselves are new, and `node` is unchanged. `__init__` and
    `__post_init__` do not run.

    Args:
        node: A node, or a pytree of nodes.
        **statics: Values by the name of a static field.

    Returns:
        A node (or pytree of nodes) of the same type.

    Raises:
        FieldError: No node declares a static field of a name (names all of them), or a
            value cannot be static.
        ContractError: A State does not have the shape that a changed size asks for.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> model = gn.nn.Dropout(0.5, rngs=gn.Rngs(0))
        >>> evaluated = gn.view(model, deterministic=True)
        >>> evaluated(jnp.ones(3))
        Array([1., 1., 1.], dtype=float32)
        >>> evaluated.deterministic, model.deterministic, evaluated.rngs["dropout"].key is model.rngs["dropout"].key
        (True, False, True)

    See also: `clone`, which copies the States too; `unflatten`, which shares them under
    the structure as it is.
    """
    binding = binding_of(node)
    plan = _view_plan_of(binding.graphdef, statics)
    viewed = rebuild(plan.graphdef, list(binding.states), binding.traces)
    if plan.resized:
        objects = live_objects(viewed, plan.graphdef)
        check_nodes([objects[number] for number in plan.resized])
    return viewed  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True, slots=True)
class _ViewPlan:
    """How to view the nodes of one structure.

    Attributes:
        graphdef: The structure of the view.
        resized: The numbers of the nodes whose contracts take a size from a changed
            field.
    """

    graphdef: GraphDef[Any]
    resized: tuple[int, ...]


def _view_plan_of(graphdef: GraphDef[Any], statics: Mapping[str, object]) -> _ViewPlan:
    """For `view`: how to view nodes of a structure with these values; worked out once for both."""
    question = _plan_key(statics)
    return graphdef.plans.to(question, lambda: _compile_plan(graphdef, statics))


def _plan_key(statics: Mapping[str, object]) -> Hashable:
    """For `_view_plan_of`: what a plan is cached by, names and static keys of the values; `None` without a key."""
    # By `static_key`: as plain keys, True and 1 would be equal. A value without a key is
    # refused while the plan is compiled.
    try:
        return "view", tuple(
            [(name, static_key(frozen(statics[name]))) for name in sorted(statics)]
        )
    except StaticValueError:
        return None


def _compile_plan(graphdef: GraphDef[Any], statics: Mapping[str, object]) -> _ViewPlan:
    """For `_view_plan_of`: the structure with the new values, and the nodes whose contracts have to be checked.

    Raises:
        FieldError: No node declares a name as a static field, or a value cannot be static.
    """
    _check_names(graphdef, statics)
    swapped: dict[NodeSpec, NodeSpec] = {}
    for spec in graphdef.table.specs:
        # Once for each description: many nodes of a model are alike.
        if isinstance(spec, NodeSpec) and spec not in swapped:
            swapped[spec] = _with_statics(spec, statics)
    tokens: list[Token] = [
        swapped[token] if isinstance(token, NodeSpec) else token
        for token in graphdef.tokens
    ]
    resized = [
        number
        for number, spec in enumerate(graphdef.table.specs)
        if isinstance(spec, NodeSpec) and plan_of(spec.cls).sizing & statics.keys()
    ]
    return _ViewPlan(intern_graphdef(tuple(tokens)), tuple(resized))


def _with_statics(spec: NodeSpec, statics: Mapping[str, object]) -> NodeSpec:
    """For `_compile_plan`: the description of a node with other values of those static fields that it has."""
    names = spec.template.statics
    # The same object, so that what was compiled for it is found again.
    if statics.keys().isdisjoint(names):
        return spec
    # As in an assignment. A static value is checked without its node, hence `None`.
    admit = plan_of(spec.cls).admit
    values = [
        admit[name](None, statics[name]) if name in statics else value
        for name, value in zip(names, spec.statics, strict=True)
    ]
    return spec.template.spec(tuple(values), spec.shapes)


def _check_names(graphdef: GraphDef[Any], statics: Mapping[str, object]) -> None:
    """For `view`, where a misspelt name would change nothing: refuse names that no node has as a static field.

    Raises:
        FieldError: Names all of them.
    """
    classes = {spec.cls for spec in graphdef.table.specs if isinstance(spec, NodeSpec)}
    declared = sorted({name for cls in classes for name in plan_of(cls).statics})
    faults = [
        _unknown_text(name, classes, declared)
        for name in statics
        if name not in declared
    ]
    if faults:
        names = ", ".join(declared) or "none"
        raise FieldError(
            f"view of {graphdef.type.__name__}: {listed(faults)}; it declares {names}"
        )


def _unknown_text(name: str, classes: set[type[Any]], declared: list[str]) -> str:
    """For `_check_names`: why a name is not a static field of any node, and the nearest that is.

    Args:
        name: The name.
        classes: The classes of all nodes.
        declared: The static fields that they declare.
    """
    for cls in sorted(classes, key=lambda cls: cls.__name__):
        field = schema(cls).fields.get(name)
        if field is not None:
            return f"{cls.__name__}.{name} is declared {field.kind}, and a view changes static fields alone"
    hint = did_you_mean(name, declared)
    meant = f" ({hint})" if hint else ""
    return f"no node declares a static field {name!r}{meant}"
