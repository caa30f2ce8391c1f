"""Looking into jaxprs, whose nesting differs between versions of JAX."""

from collections.abc import Iterator
from typing import Any


def equations(jaxpr: Any, name: str) -> Iterator[Any]:
    """All equations of a primitive, at every depth."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == name:
            yield equation
        for param in equation.params.values():
            for one in param if isinstance(param, (tuple, list)) else (param,):
                inner = getattr(one, "jaxpr", one)
                if hasattr(inner, "eqns"):
                    yield from equations(inner, name)
