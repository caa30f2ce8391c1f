"""Factories whose annotations are texts, of names that only a type checker imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optax
    from optax import GradientTransformation


def by_module(rate: optax.ScalarOrSchedule = 0.5) -> optax.GradientTransformation:
    """A transformation."""
    import optax

    return optax.sgd(rate)


def by_name(rate: float = 0.5) -> GradientTransformation:
    """A transformation."""
    import optax

    return optax.sgd(rate)
