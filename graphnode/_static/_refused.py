"""What is never static: values of a running trace, and what has structure of its own."""

from collections.abc import Hashable
from typing import Any, Final

from .._compat import Tracer
from .._hints import with_article
from ._kind import StaticKind, StaticValueError, TracedValueError, subclass_of
from ._objects import GraphObject


def _refuse_tracer(value: Any) -> Hashable:
    """Raise, where the key of a traced value is asked for: it is known only while a function is traced."""
    raise TracedValueError(
        f"a traced value ({value!r}) cannot be static: it would be baked into the structure; hold it in a State"
    )


def _refuse_graph_object(value: Any) -> Hashable:
    """Raise, where the key of a node or State is asked for: it belongs in a field of its own kind."""
    raise StaticValueError(
        f"{with_article(type(value).__name__)} cannot be static: declare the field state() or subnode()"
    )


REFUSED: Final[tuple[StaticKind[Any], ...]] = (
    StaticKind[Any](name="tracer", matches=subclass_of(Tracer), key=_refuse_tracer),
    StaticKind[Any](
        name="node or State", matches=subclass_of(GraphObject), key=_refuse_graph_object
    ),
)
