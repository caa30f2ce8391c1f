"""Node classes made from tables: what `class Probe(gn.Node)` with these annotations would be."""

import types
from typing import Any

import pytest

import graphnode as gn


def declare(
    bases: tuple[type, ...] = (gn.Node,), /, *, defaults: dict[str, Any] | None = None, **annotations: Any
) -> Any:
    """A node class `Probe` with these annotations, and these defaults or specifiers."""

    def body(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"] = annotations
        namespace["__module__"] = __name__
        namespace.update(defaults or {})

    return types.new_class("Probe", bases, exec_body=body)


def kind_of(annotation: Any, specifier: Any = None) -> str:
    """The kind of a field with this annotation."""
    defaults = {} if specifier is None else {"x": specifier}
    return str(gn.schema(declare(defaults=defaults, x=annotation)).fields["x"].kind)


def fault_of(annotation: Any, specifier: Any = None) -> str:
    """The one fault of a class whose field `x` has this annotation."""
    with pytest.raises(gn.SchemaError) as caught:
        kind_of(annotation, specifier)
    assert caught.value.faults == (str(caught.value),)
    return str(caught.value)
