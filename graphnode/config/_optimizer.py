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
    """Whether a class is the one whose mapping in a file gives a transformation."""
    return cls is Optimizer


def _tag_of(data: Any) -> str:
    """Whether there are transformations by path, or one."""
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


def arguments_of(
    model: Any, tx: Any, wrt: Matcher, freeze: Matcher | None
) -> dict[str, Any]:
    """The arguments of `Optimizer`."""
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
    # The inverse of `arguments_of`.
    if isinstance(wrt, All) and len(wrt.parts) == 2:
        first, second = wrt.parts
        if isinstance(second, Not):
            fields["freeze"] = second.parts[0]
            wrt = first
    return {**fields, "wrt": wrt}


def _model_of(optimizer: Optimizer, others: Iterable[Any]) -> Any:
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
    if isinstance(node, Optimizer):
        return False
    try:
        has_states = states(node, optimizer.wrt).layout == optimizer.layout
    except (
        FilterError,
        StructureError,
    ):  # a path of `wrt` leads nowhere; a container of no nodes alone
        return False
    return has_states and _has_shapes(node, optimizer)


def _has_shapes(node: Any, optimizer: Optimizer) -> bool:
    """Whether the memory of an optimizer, which mirrors its parameters, fits a node that has States at their paths."""
    try:
        optimizer.native_state(node)
    except UpdateError:
        return False
    return True
