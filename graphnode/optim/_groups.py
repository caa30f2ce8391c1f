"""Transformations for parts of the parameters, by filter.

From a mapping from filters to transformations to one transformation, which shares the
parameters out, and the filter of those that it changes.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .._filters import All, Everything, Matcher, Not, as_filters
from .._filters import Any as AnyOf
from .._pretty._records import Record, Text
from .._pretty._shown import Shown
from .._statetree import StateTree
from ._arguments import imported_optax
from ._calls import Call, resolved
from ._labels import Labels
from ._memory import Transformation


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Groups(Shown):
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
        """As of optax's own transformations: the state for these parameters."""
        return self._multi_transform().init(params)

    def update(
        self,
        updates: StateTree,
        state: Any,
        params: StateTree | None = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        """As of optax's own transformations: the updates and the next state."""
        return self._multi_transform().update(updates, state, params, **extra)

    def changing(self) -> Iterator[tuple[Matcher, Transformation]]:
        """The filters of the States that are changed, with the transformation of each."""
        for matcher, tx in zip(self.filters, self.transformations, strict=True):
            if tx is not None:
                yield matcher, tx

    def _multi_transform(self) -> Transformation:
        """The transformation of optax that all of them make together, each for its own States."""
        filters, transformations = zip(*self.changing(), strict=True)
        # By position, as a filter may print differently in every process, and the
        # memory has the names in its paths. Equal ones stay apart: each clips, or
        # counts, what its own filter selects.
        by_name: Any = {
            str(position): resolved(tx) for position, tx in enumerate(transformations)
        }
        positions = Labels(filters, transformations).positions
        return imported_optax().multi_transform(by_name, positions)  # type: ignore[no-any-return]  # optax is imported late

    def __pretty__(self) -> Record:
        return Record("", [(key, shown(tx)) for key, tx in self.changing()])


def shown(tx: object) -> object:
    """What is printed of a transformation: the functions of optax's own would print as addresses."""
    if isinstance(tx, Groups | Call):
        return tx
    return Text(f"{type(tx).__name__}(...)", tx)


def grouped(
    by_filter: Mapping[Any, Transformation | None],
    wrt: Matcher,
    choose: Callable[[Matcher], StateTree],
) -> tuple[Groups, Matcher]:
    """For `Optimizer`: the transformation that a mapping from filters stands for, and what it optimizes as a filter.

    Args:
        by_filter: `None` stands for the States that are left as they are.
        wrt: What the mapping shares out.
        choose: Gives the parameters that a filter selects.

    Raises:
        FilterError: As of `Labels`.
        FilterTypeError: A key is not a filter.
    """
    filters, transformations = as_filters(list(by_filter)), tuple(by_filter.values())
    # With the filters of what stays unchanged, which optax never sees.
    Labels(filters, transformations)(choose(wrt))  # raises if they do not fit
    groups = Groups(filters, transformations)
    pairs = zip(filters, transformations, strict=True)
    unchanged = [matcher for matcher, tx in pairs if tx is None]
    # Then the filter can stay as the caller wrote it.
    if not unchanged:
        return groups, wrt
    if any(isinstance(matcher, Everything) for matcher in unchanged):
        # `...` stands for what the others do not select, and so cannot be negated.
        changing = [matcher for matcher, _ in groups.changing()]
        return groups, All(wrt, AnyOf(*changing))
    return groups, All(wrt, Not(AnyOf(*unchanged)))
