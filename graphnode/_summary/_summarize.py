"""`summary`: call a model with shapes, and see what it takes and does."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from .._arguments import wrong_argument
from .._declare._node import Node
from .._errors import SummaryError
from .._graph._flatten import is_graph_object
from .._hints import with_article
from .._paths import Path, path_str
from .._static import GraphObject
from ..transforms._methods import target_of
from ._abstract import abstract, model_of
from ._annotated import scope_of
from ._errors import SHAPE_ERRORS, VALUE_ERRORS
from ._faults import PlaceOf, faults_of
from ._inputs import Fixed, Inputs, inputs_of
from ._rows import items_of
from ._summary import Summary
from ._trace import Invocation, activity_of
from ._tried import SIZES, with_exception


# Any: inputs are pytrees of anything.
def summary(model: object, /, *inputs: Any, **named: Any) -> Summary:
    """What a model takes, and what it does with its inputs: shapes, parameters, bytes, and operations by node.

    Nothing is computed and no array is made: the call is traced with shapes.

    Args:
        model: A node, which is called; a method of one, as `model.encode`, or a
            `functools.partial` of them, whose arguments are taken as they are; or a
            config of `gn.config`, which is not built. Without inputs a node or config is not
            called, and a pytree of nodes will do.
        *inputs: What it is called with: arrays, `jax.ShapeDtypeStruct`s, or shapes as
            texts, `"32 28 28 1"` or `"int32[batch,128]"`, where a name is the size that
            a static field of the node has, or else symbolic. A last `...` stands for the
            inputs that are still needed, which their jaxtyping annotations describe.
            Nodes, such as caches, are not changed; flags and functions are taken as
            they are, and so are texts for parameters whose annotation is no array.
        **named: Inputs by name.

    Raises:
        DonationError: The memory of some States was given away; names all.
        StructureError: `model` is neither a node, a pytree of nodes, nor a config.
        SummaryError: Shapes do not fit; names every node that does not, as far as it is
            known what the ones before it would have given.
        TypeError: It cannot be called, or not with such inputs.

    Example:
        >>> gn.summary(gn.nn.MLP(2, 8, 3), "5 2")
        path      class   inputs    outputs   parameters  bytes  flops  shared with
        ---------------------------------------------------------------------------
        layers.0  Linear  f32[5,2]  f32[5,8]          24     96    160
        layers.1  Linear  f32[5,8]  f32[5,3]          27    108    240
        ---------------------------------------------------------------------------
        MLP               f32[5,2]  f32[5,3]          51    204    400
    """
    return summarize(model, inputs, named)


def summarize(
    model: object,
    inputs: tuple[Any, ...],
    named: Mapping[str, Any],
    place_of: PlaceOf | None = None,
) -> Summary:
    """For `summary`, and for configs, which know where in a file the nodes stand.

    Args:
        model: As for `summary`.
        inputs: As for `summary`.
        named: As for `summary`.
        place_of: Gives the place of a node in a file by its path.
    """
    model = model_of(model)
    if not (inputs or named) and _is_structure(model):
        copy = abstract(model)
        return Summary(type(model).__name__, items_of(copy, None), None)
    model, inputs, named = _without_partial(model, inputs, named)
    function, node = _method_of(model)
    invocation = _invocation(function, node, inputs_of(function, node, inputs, named))
    with_numbers: dict[int, Invocation] = {}
    # Symbolic sizes of States cannot be tried with numbers.
    if invocation.inputs.symbols and scope_of(node) is None:
        for size in SIZES:
            numbers = inputs_of(function, node, inputs, named, size)
            with_numbers[size] = _invocation(function, node, numbers)
    try:
        activity = with_exception(activity_of(invocation), with_numbers)
    except VALUE_ERRORS as error:
        error.add_note(
            "gn.summary traces the call with shapes, as gn.jit does: no array has a value"
        )
        raise
    except SHAPE_ERRORS as error:
        trial = with_numbers.get(SIZES[0], invocation)
        faults = faults_of(invocation, trial, place_of)
        if not faults:
            raise
        raise SummaryError(faults) from error
    items = items_of(invocation.node, activity)
    return Summary(type(node).__name__, items, activity)


def _is_structure(model: object) -> bool:
    """Whether something is a node or pytree, or is refused as such; and not a method, which is called."""
    return isinstance(model, GraphObject | type) or not callable(model)


# Any: a model, and inputs of any kind.
def _without_partial(
    model: Any, inputs: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    """What a `functools.partial` calls, and all inputs: those in it stay the values that they are."""
    # Not what `gn.jit` makes of a method, whose class is another.
    if type(model) is not functools.partial:
        return model, inputs, named
    fixed = {name: Fixed(value) for name, value in model.keywords.items()}
    args = (*map(Fixed, model.args), *inputs)
    return _without_partial(model.func, args, {**fixed, **named})


def _method_of(model: Any) -> tuple[Callable[..., Any], Node]:
    """The method that is called, and its node.

    Raises:
        TypeError: It cannot be called, or is not of a node.
    """
    takes = "a node that can be called, or a method of one, where there are inputs"
    if isinstance(model, Node) and not callable(model):
        name = type(model).__name__
        text = f"found {with_article(name)}, which has no __call__"
        raise TypeError(f"gn.summary takes {takes}; {text}")
    if not callable(model) or isinstance(model, type):
        raise TypeError(wrong_argument(takes, model))
    function, bound = target_of(model)
    if len(bound) != 1 or not isinstance(bound[0], Node):
        raise TypeError(wrong_argument(takes, model))
    return function, bound[0]


def _invocation(function: Callable[..., Any], node: Node, inputs: Inputs) -> Invocation:
    """The call of a method, of copies of all nodes, with shapes in place of arrays; what they share stays shared."""
    leaves, treedef = jax.tree.flatten(inputs[:2], is_leaf=is_graph_object)
    places = [at for at, leaf in enumerate(leaves) if is_graph_object(leaf)]
    roots = [node, *[leaves[at] for at in places]]
    copy, *others = abstract(roots, _name_in_call)
    for at, other in zip(places, others, strict=True):
        leaves[at] = other
    args, kwargs = jax.tree.unflatten(treedef, leaves)
    return Invocation(function, copy, Inputs(args, kwargs, inputs.symbols))


def _name_in_call(path: Path) -> str:
    """What messages call a State of a call's nodes, which are in a list: the first one is the model."""
    root, *rest = path
    return path_str(tuple(rest)) if root == 0 else f"an input's {path_str(tuple(rest))}"
