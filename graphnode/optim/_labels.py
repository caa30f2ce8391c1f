"""Labels for the parameters, by filter.

Data in: a mapping from filters to answers. Data out: a function of the parameters that
gives a state tree of answers, which is what optax takes as a mask or as labels.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, Generic, TypeVar, overload

from .._arguments import wrong_argument
from .._errors import FilterError, listed
from .._filters import Everything, Filter, Matcher, as_filters
from .._graph._layout import Layout
from .._paths import path_str
from .._statetree import StateTree, select

L = TypeVar("L")
# A mapping is invariant in its keys: this takes one of any kind of filters.
F = TypeVar("F", bound=Filter | EllipsisType)


@dataclasses.dataclass(frozen=True, slots=True)
class Labels(Generic[L]):
    """A label for each parameter; see `labels`.

    Attributes:
        filters: `...` may stand last.
        values: The label of the States that each filter selects.
    """

    filters: tuple[Matcher, ...]
    values: tuple[L, ...]

    def __call__(self, params: StateTree) -> StateTree:
        """A state tree with the label of each State as its value.

        Raises:
            FilterError: A path leads nowhere; two filters with different labels select
                one State; no filter selects some. Names all.
            TypeError: `params` is not a state tree.
        """
        if not isinstance(params, StateTree):
            raise TypeError(
                wrong_argument("the parameters as a StateTree", params, repr(self))
            )
        numbers = _answering(self, params)
        return StateTree(
            params.layout, tuple([self.values[number] for number in numbers])
        )

    def positions(self, params: StateTree) -> StateTree:
        """A state tree with the position of the filter that answers for each State, as text.

        Of two filters with equal labels that select one State, the first answers.

        Raises:
            FilterError: As of a call.
        """
        return StateTree(params.layout, tuple(map(str, _answering(self, params))))

    def __repr__(self) -> str:
        return f"labels({dict(zip(self.filters, self.values, strict=True))!r})"


# The first for mappings that are written out, whose keys mypy would join to `object`;
# the second for those with a name.
@overload
def labels(by_filter: Mapping[Filter | EllipsisType, L], /) -> Labels[L]: ...
@overload
def labels(by_filter: Mapping[F, L], /) -> Labels[L]: ...  # pyright: ignore[reportOverlappingOverload]
def labels(by_filter: Mapping[Any, L], /) -> Labels[L]:
    """Say by filters what optax wants of each parameter: a mask, such as that of `optax.adamw`, or `param_labels`.

    Args:
        by_filter: From filters to labels, or to booleans for a mask. `...`, which
            stands last, takes what no other one does. A State that two filters select
            must have one label by both. A function among the filters is given what
            optax has there, as a `TreefyState`: a parameter, its gradient, or nothing
            where it is masked.

    Returns:
        A function of the parameters, to be given to the transformation.

    Raises:
        TypeError: It is not a mapping.
        FilterTypeError: A key is not a filter.
        FilterError: `...` stands before another filter. Where the function is called,
            when an optimizer is made: a path leads nowhere; two filters give one State
            two labels; or a State has none. Names all.

    Example:
        >>> import optax
        >>> model = gn.nn.MLP(2, 8, 3)
        >>> of_weights = gn.optim.labels({gn.PathContains("weight"): True, ...: False})
        >>> of_weights(gn.treefy_states(model))["layers.0"].to_dict()
        {'bias': False, 'weight': True}
        >>> optimizer = gn.optim.Optimizer(model, optax.adamw(1e-3, mask=of_weights))

    See also: `Optimizer`, which takes a mapping from filters to transformations.
    """
    if not isinstance(by_filter, Mapping):
        raise TypeError(
            wrong_argument(
                "a mapping from filters to labels", by_filter, "gn.optim.labels"
            )
        )
    return Labels(as_filters(list(by_filter)), tuple(by_filter.values()))


def _answering(by_filter: Labels[Any], params: StateTree) -> Sequence[int]:
    """For each State the number of the filter that answers for it; decided once for each layout if all are fixed."""
    filters, values = by_filter.filters, by_filter.values
    alike = tuple([values.index(value) for value in values])
    if all(one.is_fixed for one in filters):
        question = ("answering", filters, alike)
        return params.layout.remember(question, lambda: _decide(filters, alike, params))
    return _decide(filters, alike, params)


def _decide(
    filters: Sequence[Matcher], alike: Sequence[int], params: StateTree
) -> list[int]:
    """As `_answering`; `alike` has for each filter the number of the first one with the same answer."""
    layout = params.layout
    selecting: list[list[int]] = [[] for _ in range(len(layout))]
    for number, one in enumerate(filters):
        ((selected, _),), _ = select(layout, (one,), params._treefied)
        for at in selected:
            # What has an answer is not part of the rest.
            if not (isinstance(one, Everything) and selecting[at]):
                selecting[at].append(number)
    double = [
        at
        for at, numbers in enumerate(selecting)
        if len({alike[number] for number in numbers}) > 1
    ]
    if double:
        faults: list[str] = []
        for at in double:
            selectors = " and by ".join(
                [repr(filters[number]) for number in selecting[at]]
            )
            faults.append(f"{_all_paths(layout, at)}, by {selectors}")
        raise FilterError(
            f"two answers for one State: {listed(faults)}",
            [layout.path(at) for at in double],
        )
    missing = [at for at, numbers in enumerate(selecting) if not numbers]
    if missing:
        shown = (
            f"({filters[0]!r},)"
            if len(filters) == 1
            else f"({', '.join(map(repr, filters))})"
        )
        texts = [
            f"{_all_paths(layout, at)} ({layout.specs[at].cls.__name__})"
            for at in missing
        ]
        raise FilterError(
            f"no filter of {shown} selects some States; add one, or put `...` last: {listed(texts)}",
            [layout.path(at) for at in missing],
        )
    return [numbers[0] for numbers in selecting]


def _all_paths(layout: Layout, at: int) -> str:
    """The path of a State, and further ones."""
    return " = ".join(map(path_str, [layout.path(at), *layout.other_paths(at)]))
