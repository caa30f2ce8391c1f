"""Labels for the parameters, by filter.

From a mapping from filters to labels to a function of the parameters, which gives a
state tree of labels: what optax takes as a mask or as `param_labels`.
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
        numbers = _selecting(self, params)
        return StateTree(
            params.layout, tuple([self.values[number] for number in numbers])
        )

    def positions(self, params: StateTree) -> StateTree:
        """For `Groups`, as optax names its groups by text: the position of the filter whose label each State gets.

        Of two filters with equal labels that select one State, it is the first.

        Raises:
            FilterError: As of a call.
        """
        return StateTree(params.layout, tuple(map(str, _selecting(self, params))))

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


def _selecting(by_filter: Labels[Any], params: StateTree) -> Sequence[int]:
    """For each State the number of the filter whose label it gets; found once for each layout if all filters are fixed.

    Raises:
        FilterError: Two filters with different labels select one State, or none does;
            names all.
    """
    filters, values = by_filter.filters, by_filter.values
    # For each filter the first one with the same label: filters may share States then.
    first_alike = tuple([values.index(value) for value in values])

    def select_all() -> list[int]:
        """The number of the filter for each State, with both checks."""
        selectors = _selectors(filters, params)
        _check_one_label(filters, selectors, first_alike, params.layout)
        _check_some_label(filters, selectors, params.layout)
        # All that select a State have equal labels; `positions` promises the first.
        return [numbers[0] for numbers in selectors]

    # A function among the filters may answer otherwise for other values: nothing is
    # kept then.
    if all(matcher.is_fixed for matcher in filters):
        # Not the labels themselves, which may be unhashable: it matters only which of
        # them are equal.
        question = ("labels", filters, first_alike)
        return params.layout.remember(question, select_all)
    return select_all()


def _selectors(filters: Sequence[Matcher], params: StateTree) -> list[list[int]]:
    """For each State, in layout order, the numbers of all filters that select it: there should be one label."""
    layout = params.layout
    selectors: list[list[int]] = [[] for _ in range(len(layout))]
    for number, matcher in enumerate(filters):
        ((selected, _),), _ = select(layout, (matcher,), params._treefied)
        for at in selected:
            # `...` selects what no filter before it does.
            if not (isinstance(matcher, Everything) and selectors[at]):
                selectors[at].append(number)
    return selectors


def _check_one_label(
    filters: Sequence[Matcher],
    selectors: Sequence[Sequence[int]],
    first_alike: Sequence[int],
    layout: Layout,
) -> None:
    """Raise if filters with different labels select one State, perhaps by different paths: it can have one only.

    Args:
        filters: The filters.
        selectors: For each State the numbers of all filters that select it.
        first_alike: For each filter the number of the first one with an equal label.
        layout: Of the States.

    Raises:
        FilterError: Names all such States, by all their paths.
    """
    double = [
        at
        for at, numbers in enumerate(selectors)
        if len({first_alike[number] for number in numbers}) > 1
    ]
    if double:
        faults: list[str] = []
        for at in double:
            by = " and by ".join([repr(filters[number]) for number in selectors[at]])
            faults.append(f"{_all_paths(layout, at)}, by {by}")
        raise FilterError(
            f"two answers for one State: {listed(faults)}",
            [layout.path(at) for at in double],
        )


def _check_some_label(
    filters: Sequence[Matcher], selectors: Sequence[Sequence[int]], layout: Layout
) -> None:
    """Raise if there are States that no filter selects: optax wants a label for each.

    Args:
        filters: The filters.
        selectors: For each State the numbers of all filters that select it.
        layout: Of the States.

    Raises:
        FilterError: Names all such States, by all their paths.
    """
    missing = [at for at, numbers in enumerate(selectors) if not numbers]
    if missing:
        faults = [
            f"{_all_paths(layout, at)} ({layout.specs[at].cls.__name__})"
            for at in missing
        ]
        raise FilterError(
            f"no filter of {tuple(filters)!r} selects some States; add one, or put `...` last: {listed(faults)}",
            [layout.path(at) for at in missing],
        )


def _all_paths(layout: Layout, at: int) -> str:
    """For a message: all paths of a State, the one that it goes by first."""
    return " = ".join(map(path_str, [layout.path(at), *layout.other_paths(at)]))
