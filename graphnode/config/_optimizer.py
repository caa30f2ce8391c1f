"""Optimizers in files: the model by `ref`, the transformation by what it is made of, and what is left alone, by paths.

    optimizer:
      model: {ref: model}
      tx: {type: adamw, learning_rate: 0.001}
      freeze: [encoder.**]

An optimizer does not keep its model: for the config of a live one, the model is found
among the other nodes by its parameters.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final

import pydantic

from .._declare._forms import Form, Leaf
from .._declare._node import Node
from .._errors import ConfigError, Fault, FilterError, StructureError, UpdateError
from .._fields import Kind
from .._filters import All, Matcher, Not, as_filter
from .._split import states
from .._state import ParamState
from ..optim import Optimizer
from ..optim._groups import Groups
from ..optim._labels import Labels
from ..optim._memory import Transformation
from ._filters_as_paths import FILTER_SCHEMA, read_filter_or_none, read_parameters
from ._typed import TYPE
from ._validated import by_tag
from ._values import configurable

MODEL: Final = "model"

_ANY_NODE: Final = Form(Kind.SUBNODE, leaves=(Leaf(Node),))
MODEL_FORM: Final = Form(Kind.SUBNODE, leaves=(Leaf(Node),), list_of=_ANY_NODE)
"""What an optimizer takes for a model."""


def is_optimizer(cls: type) -> bool:
    """Whether a class is `Optimizer` itself, which a file writes otherwise than its constructor takes."""
    return cls is Optimizer


def _tag_of(data: Any) -> str:
    """The member of `TX` that data is for: `by path` for transformations by filter, else `one`."""
    if isinstance(data, Labels):
        return "by path"
    if not isinstance(data, dict) or TYPE in data:
        return "one"
    # A mapping with a number in it is a call whose type was forgotten.
    has_number = any(isinstance(value, (int, float)) for value in data.values())
    return "one" if has_number else "by path"


TX: Final[Any] = by_tag(
    {
        "one": configurable(Transformation),
        "by path": configurable(Labels[Transformation | None]),
    },
    _tag_of,
)
WRT: Final[Any] = Annotated[
    Any,
    pydantic.PlainValidator(read_parameters),
    pydantic.WithJsonSchema(dict(FILTER_SCHEMA)),
]
FREEZE: Final[Any] = Annotated[
    Any,
    pydantic.PlainValidator(read_filter_or_none),
    pydantic.WithJsonSchema(
        {**FILTER_SCHEMA, "anyOf": [*FILTER_SCHEMA["anyOf"], {"type": "null"}]}
    ),
]

PARAMETERS: Final = as_filter(ParamState)


def optimizer_arguments(
    model: Any, tx: Any, wrt: Matcher, freeze: Matcher | None
) -> dict[str, Any]:
    """The arguments of `Optimizer` from the fields of its config: `freeze` becomes part of `wrt`.

    For `build`: a file says `freeze` beside `wrt`, which are one filter to the
    constructor.
    """
    by_filter = (
        dict(zip(tx.filters, tx.values, strict=True)) if isinstance(tx, Labels) else tx
    )
    return {
        MODEL: model,
        "tx": by_filter,
        "wrt": wrt if freeze is None else All(wrt, Not(freeze)),
    }


# Any: nodes, and lists and dicts of them.
def fields_of(optimizer: Optimizer, others: Iterable[Any]) -> dict[str, Any]:
    """The fields of the config of a live optimizer; its model is one of some other nodes, or of their containers.

    For `to_config`.

    Raises:
        ConfigError: None of them has the parameters that it optimizes, or several have.
    """
    fields: dict[str, Any] = {MODEL: _model_of(optimizer, others), "tx": optimizer.tx}
    wrt: Any = optimizer.wrt
    if isinstance(optimizer.tx, Groups):
        filters, transformations = optimizer.tx.filters, optimizer.tx.transformations
        fields["tx"] = Labels(filters, transformations)
        # What the mapping leaves alone is taken out of `wrt` when an optimizer is made.
        wrt = wrt.parts[0] if None in transformations else wrt
    # The inverse of `optimizer_arguments`.
    if isinstance(wrt, All) and len(wrt.parts) == 2:
        first, second = wrt.parts
        if isinstance(second, Not):
            fields["freeze"] = second.parts[0]
            wrt = first
    return {**fields, "wrt": wrt}


def _model_of(optimizer: Optimizer, others: Iterable[Any]) -> Any:
    """The one of some nodes, and containers of them, whose parameters an optimizer has: it does not keep its model.

    Raises:
        ConfigError: None has them, or several have.
    """
    models = [node for node in others if _has_parameters(node, optimizer)]
    if not models:
        what = "no other node here has the parameters that it optimizes, and it does not keep them"
        raise ConfigError([Fault(what, path=MODEL)])
    if len(models) > 1:
        names = ", ".join([type(model).__name__ for model in models])
        what = f"{len(models)} nodes ({names}) have the parameters that it optimizes: which, it does not know"
        raise ConfigError([Fault(what, path=MODEL)])
    return models[0]


def _has_parameters(node: Any, optimizer: Optimizer) -> bool:
    """Whether a node, or a container of some, has the States that an optimizer changes, laid out alike."""
    if isinstance(node, Optimizer):
        return False
    try:
        has_states = states(node, optimizer.wrt).layout == optimizer.layout
    except (FilterError, StructureError):
        # A path of `wrt` leads nowhere, or a container holds other things than nodes.
        return False
    return has_states and _has_shapes(node, optimizer)


def _has_shapes(node: Any, optimizer: Optimizer) -> bool:
    """Whether the memory of an optimizer, which mirrors its parameters, fits a node that has States at their paths.

    Two models may have the same paths, as encoder and decoder do, and other sizes.
    """
    try:
        optimizer.native_state(node)
    except UpdateError:
        return False
    return True
