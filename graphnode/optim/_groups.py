"""Transformations for parts of the parameters, by filter.

Data in: a mapping from filters to transformations. Data out: one transformation that
shares the parameters out, and the filter of those that it changes.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .._filters import All, Everything, Matcher, Not, as_filters
from .._filters import Any as AnyOf
from .._statetree import StateTree
from ._arguments import imported_optax
from ._calls import resolved
from ._labels import Labels
from ._memory import Transformation


@dataclasses.dataclass(frozen=True, slots=True)
class Groups:
    """A transformation that is made of several, each for the States that its filter selects.

    Two that were made of the same ones are equal, so that the optimizers with them have
    one structure.

    Attributes:
        filters: `...` may stand last.
        transformations: One for each filter; `None` for States that are left as they
            are.
    """

    filters: tuple[Matcher, ...]
    transformations: tuple[Transformation | None, ...]

    # Any: optax's states are of its own classes.
    def init(self, params: StateTree) -> Any:
        """The state for these parameters."""
        return self._joined().init(params)

    def update(
        self,
        updates: StateTree,
        state: Any,
        params: StateTree | None = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        """The updates and the next state."""
        return self._joined().update(updates, state, params, **extra)

    def changing(self) -> Iterator[tuple[Matcher, Transformation]]:
        """The filters of the States that are changed, with the transformation of each."""
        for one, tx in zip(self.filters, self.transformations, strict=True):
            if tx is not None:
                yield one, tx

    def _joined(self) -> Transformation:
        filters, transformations = zip(*self.changing(), strict=True)
        # By position, as a filter may print differently in every process, and the
        # memory has the names in its paths. Equal ones stay apart: each clips, or
        # counts, what its own filter selects.
        by_name: Any = {
            str(position): resolved(tx) for position, tx in enumerate(transformations)
        }
        made: Transformation = imported_optax().multi_transform(
            by_name, Labels(filters, transformations).positions
        )
        return made

    def __repr__(self) -> str:
        return f"{{{', '.join([f'{one!r}: {type(tx).__name__}(...)' for one, tx in self.changing()])}}}"


def grouped(
    by_filter: Mapping[Any, Transformation | None],
    wrt: Matcher,
    choose: Callable[[Matcher], StateTree],
) -> tuple[Groups, Matcher]:
    """The transformation that a mapping from filters stands for, and the filter of what it optimizes.

    Args:
        by_filter: `None` stands for the States that are left as they are.
        wrt: What the mapping shares out.
        choose: Gives the parameters that a filter selects.

    Raises:
        FilterError: As of `Labels`.
        FilterTypeError: A key is not a filter.
    """
    answers = Labels(as_filters(list(by_filter)), tuple(by_filter.values()))
    answers(choose(wrt))
    groups = Groups(answers.filters, answers.values)
    left = [
        one
        for one, tx in zip(answers.filters, answers.values, strict=True)
        if tx is None
    ]
    if any(isinstance(one, Everything) for one in left):
        return groups, All(wrt, AnyOf(*[one for one, _ in groups.changing()]))
    return groups, All(wrt, Not(AnyOf(*left))) if left else wrt
