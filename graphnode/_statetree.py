"""State collections: `StateTree` (values), `FlatStates` (live States), `TreefyState` (one value with its description).

Each collection is a layout with a tuple of the same length. A `StateTree` is one pytree
node to JAX, whose treedef is the interned layout: JAX calls back into Python once for
the whole tree, and the treedef stays the same object when values change.
"""

import builtins
import dataclasses
from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterator,
    Mapping,
    Sequence,
    ValuesView,
)
from types import EllipsisType
from typing import Any, Generic, NamedTuple, overload

import jax
from jax.tree_util import DictKey, GetAttrKey
from typing_extensions import TypeVar

from ._errors import ConfigError, MergeError, listed
from ._exporting import register_export
from ._fields import NodeBase
from ._filters import Any as AnyOf
from ._filters import Filter, Matcher, as_filters
from ._graph._layout import Layout, TrieBuilder, layout_of_trie
from ._graph._layout_json import layout_from_json, layout_to_json
from ._paths import Key, Path, is_path, path_str
from ._pretty._records import Record, Text
from ._pretty._shown import Shown
from ._public import PublicMapping, PublicType
from ._selection import (
    ambiguity_fault,
    check_class_filters,
    group_by_filter,
    lookup_path,
    missing_path,
    unaccepted,
)
from ._sharding import NamedAxis
from ._state import State, StateSpec, state_record
from ._static import StaticValue
from ._value import all_rebuilt

T = TypeVar("T", default=Any)
# The State class of each filter; one that is not a class leaves the default.
S1 = TypeVar("S1", bound=State[Any], default=State[Any])
S2 = TypeVar("S2", bound=State[Any], default=State[Any])
S3 = TypeVar("S3", bound=State[Any], default=State[Any])
S4 = TypeVar("S4", bound=State[Any], default=State[Any])
S_co = TypeVar("S_co", bound=State[Any], covariant=True, default=State[Any])


@dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)
class TreefyState(Shown, Generic[T], metaclass=PublicType):
    """The value of one State with its description: an item of a `StateTree`. A pytree of its value.

    Attributes:
        spec: The interned description.
        value: The value, by identity.
    """

    spec: StateSpec
    value: T

    @property
    def type(self) -> "builtins.type[State[Any]]":
        """The State's class."""
        return self.spec.cls

    @property
    def name(self) -> str | None:
        """The State's name."""
        return self.spec.name

    @property
    def tag(self) -> str | None:
        """The State's tag."""
        return self.spec.tag

    @property
    def sharding(self) -> Hashable:
        """The State's sharding."""
        return self.spec.sharding

    @property
    def metadata(self) -> Mapping[str, StaticValue]:
        """The State's metadata."""
        return self.spec.metadata

    @property
    def stacked(self) -> tuple[NamedAxis, ...]:
        """The axes that `gn.stack(name=...)` has put into the value."""
        return self.spec.stacked

    def __pretty__(self) -> Record:
        first = [Text(self.type.__name__)]
        record = state_record("TreefyState", first, self.spec, self.value)
        return record._replace(cls=self.type)


jax.tree_util.register_pytree_with_keys(
    TreefyState,
    lambda state: (((GetAttrKey("value"), state.value),), state.spec),
    lambda spec, values: TreefyState(spec, *values),
)


def _spec_to_json(spec: StateSpec) -> str:
    """The description of one State as JSON: that of the layout of a State alone."""
    layout, _ = layout_of_trie([-1], [""], {0: spec})
    return layout_to_json(layout)


def _spec_from_json(text: str) -> StateSpec:
    """The description that `_spec_to_json` wrote.

    Raises:
        ConfigError: The text is no layout of a State alone.
    """
    layout = layout_from_json(text)
    if not layout.is_of_a_state:
        raise ConfigError(["a TreefyState has the layout of a State alone"])
    return layout.specs[0]


register_export(TreefyState, _spec_to_json, _spec_from_json)


class Item(NamedTuple):
    """One State of a collection, as a filter sees it."""

    layout: Layout
    at: int
    live: Any

    @property
    def path(self) -> Path:
        """The path."""
        return self.layout.path(self.at)

    @property
    def cls(self) -> "type[State[Any]]":
        """The State's class."""
        return self.layout.specs[self.at].cls

    @property
    def tag(self) -> str | None:
        """The State's tag."""
        return self.layout.specs[self.at].tag

    @property
    def other_paths(self) -> tuple[Path, ...]:
        """Further paths, by references."""
        return self.layout.other_paths(self.at)


Selection = tuple[tuple[tuple[int, ...], Layout], ...]


def select(
    layout: Layout, filters: tuple[Matcher, ...], live: Callable[[], Sequence[Any]]
) -> tuple[Selection, tuple[int, ...]]:
    """Group the States of a layout by filters. Cached on the layout if the filters are fixed.

    For all that takes filters of States.

    Args:
        layout: The layout.
        filters: Tried in order.
        live: Gives the live States; called only if a filter is not fixed.

    Returns:
        For each filter the numbers of the States that it selects, with a layout of them alone; and the rest's numbers.
    """
    if all(matcher.is_fixed for matcher in filters):
        return layout.remember(
            ("select", filters), lambda: _select(layout, filters, [None] * len(layout))
        )
    return _select(layout, filters, live())


def _select(
    layout: Layout, filters: tuple[Matcher, ...], live: Sequence[Any]
) -> tuple[Selection, tuple[int, ...]]:
    """For `select`, which caches it: group the States of a layout by filters.

    Args:
        layout: The layout.
        filters: Tried in order.
        live: What a caller's function gets for each State; `None` for each if no filter is one.
    """
    check_class_filters(
        filters, NodeBase, "States by State classes; gn.nodes filters nodes"
    )
    items = [Item(layout, at, state) for at, state in enumerate(live)]
    groups, rest = group_by_filter(lambda: layout, items, filters, "State")
    selection = [(tuple(numbers), layout.take(numbers)) for numbers in groups]
    return tuple(selection), tuple(rest)


class StateTree(Shown, Mapping[Key | Path, Any], metaclass=PublicMapping):
    """The values of some States by path: reads as a nested mapping, and is one pytree to JAX.

    `tree["l1"]["weight"]` is a `TreefyState`, `tree["l1"]` a `StateTree`, `len(tree)`
    counts the top keys. A whole path leads to a `TreefyState` at once, for type
    checkers too: `tree["l1", "weight"]`; as a text, `tree["l1.weight"]`, it may lead to
    a tree too. Any path of a State will do, also one over a further reference to what
    it is part of, and the tree at a path holds what is shared there too. The tree of a
    State alone has one key, the empty path `()`. Arrays keep their identity. Hash and
    equality are identity, since arrays have no single equality.

    Attributes:
        layout: The paths and descriptions, in the order of the leaves; the treedef.

    Example:
        >>> tree = gn.treefy_states(gn.nn.Linear(2, 3))
        >>> tree["bias",].value.shape
        (3,)
        >>> jax.tree.map(jnp.zeros_like, tree)["bias",].value
        Array([0., 0., 0.], dtype=float32)
    """

    __slots__ = ("_values", "layout")

    layout: Layout
    _values: tuple[Any, ...]

    # Any: each State has a value of its own type.
    def __init__(self, layout: Layout, values: tuple[Any, ...]) -> None:
        self.layout = layout
        self._values = values

    @overload
    def __getitem__(self, key: Path) -> TreefyState[Any]: ...
    # Any: a key leads to a tree or to a value, and a union would refuse both
    # `tree["l1"]["w"]` and `tree["w"].value`.
    @overload
    def __getitem__(self, key: Key | Path) -> Any: ...
    def __getitem__(self, key: Key | Path) -> Any:
        if isinstance(key, tuple):
            at = self.layout.index(key)
            if at is None:
                raise KeyError(missing_path("State", self.layout, key))
            return TreefyState(self.layout.specs[at], self._values[at])
        part = self.layout.part((key,))
        if (
            part is not None
            and (fault := ambiguity_fault(self.layout, key)) is not None
        ):
            raise KeyError(fault)
        if part is None and isinstance(key, str) and is_path(key):
            path = lookup_path("State", key)
            part = None if path is None else self.layout.part(path)
        if part is None:
            raise KeyError(missing_path("State", self.layout, key))
        layout, numbers = part
        if layout.is_of_a_state:
            return TreefyState(layout.specs[0], self._values[numbers[0]])
        return StateTree(layout, tuple([self._values[at] for at in numbers]))

    def __iter__(self) -> Iterator[Key | Path]:
        return iter(self.layout.top_keys())

    def __len__(self) -> int:
        return len(self.layout.top_keys())

    # Not Mapping's, which would compare arrays.
    def __eq__(self, other: object) -> bool:
        return self is other

    # A class with an `__eq__` of its own has no hash otherwise.
    def __hash__(self) -> int:
        return id(self)

    def flat(self) -> dict[Path, TreefyState[Any]]:
        """All values with their descriptions, by full path, in canonical order."""
        specs = self.layout.specs
        return {
            path: TreefyState(specs[at], self._values[at])
            for at, path in enumerate(self.layout.paths())
        }

    # Any: values, and dicts of them, at any depth.
    def to_dict(self) -> dict[Key | Path, Any]:
        """A nested plain dict of the values. `update_states` and `treefy_merge` take it back.

        That of a State alone is `{(): value}`, as the tree's only key is the empty
        path.
        """
        # For each entry of the layout, in pre-order: a parent's dict is there before
        # its children.
        contents: list[Any] = []
        leaves = dict(zip(self.layout.leaves, all_rebuilt(self._values), strict=True))
        holding = self.layout.holding
        for entry, (parent, key) in enumerate(
            zip(self.layout.parents, self.layout.keys, strict=True)
        ):
            contents.append(leaves.get(entry, {}))
            if parent >= 0 and entry in holding:
                contents[parent][key] = contents[entry]
        return {(): contents[0]} if self.layout.is_of_a_state else contents[0]

    def filter(self, *filters: Filter | EllipsisType) -> "StateTree":
        """The part that any of the filters accepts.

        Raises:
            FilterError: There is nothing at a path of a filter; names the nearest.
            FilterTypeError: One is not a filter.
        """
        matchers = (AnyOf(*filters),)
        ((numbers, layout),), _ = select(self.layout, matchers, self._treefied)
        return self._take(numbers, layout)

    @overload
    def split(self, only: Filter | EllipsisType, /) -> "tuple[StateTree]": ...
    @overload
    def split(
        self, first: Filter, second: Filter | EllipsisType, /
    ) -> "tuple[StateTree, StateTree]": ...
    @overload
    def split(
        self, first: Filter, second: Filter, third: Filter | EllipsisType, /
    ) -> "tuple[StateTree, StateTree, StateTree]": ...
    @overload
    def split(
        self,
        first: Filter,
        second: Filter,
        third: Filter,
        fourth: Filter | EllipsisType,
        /,
    ) -> "tuple[StateTree, StateTree, StateTree, StateTree]": ...
    @overload
    def split(
        self,
        first: Filter | EllipsisType,
        second: Filter | EllipsisType,
        third: Filter | EllipsisType,
        fourth: Filter | EllipsisType,
        fifth: Filter | EllipsisType,
        /,
        *rest: Filter | EllipsisType,
    ) -> "tuple[StateTree, ...]": ...
    def split(self, *filters: Filter | EllipsisType) -> "tuple[StateTree, ...]":
        """One tree for each filter; the first that accepts wins.

        Raises:
            FilterError: No filter accepts some States (names all), there is nothing at
                a path of a filter (names the nearest), or `...` stands before another
                filter.
            FilterTypeError: One is not a filter.
        """
        matchers = as_filters(filters)
        selection, rest = select(self.layout, matchers, self._treefied)
        if rest:
            raise unaccepted(
                [Item(self.layout, at, None) for at in rest], matchers, "StateTree"
            )
        return tuple([self._take(numbers, layout) for numbers, layout in selection])

    def _treefied(self) -> list[TreefyState[Any]]:
        """What filters by a function get in place of live States: each value with its description."""
        return [
            TreefyState(spec, value)
            for spec, value in zip(self.layout.specs, self._values, strict=True)
        ]

    def _take(self, numbers: Sequence[int], layout: Layout) -> "StateTree":
        """For `filter`, `split` and `-`: the tree of some States, with containers of its own.

        Args:
            numbers: Their numbers in this tree.
            layout: The layout of the States with these numbers.
        """
        return StateTree(
            layout, all_rebuilt(tuple([self._values[at] for at in numbers]))
        )

    def __or__(self, other: "StateTree") -> "StateTree":
        """Both trees in one; where both have a State at a path, `other` wins.

        Raises:
            MergeError: The trees share differently: a path leads to a State of its own
                in one, and in the other to what stands elsewhere, or to several States;
                names all such paths.
        """
        if not isinstance(other, StateTree):
            return NotImplemented
        trie = TrieBuilder()
        by_entry: dict[int, Any] = {}
        for tree in (self, other):
            by_entry.update(
                zip(trie.add_layout(tree.layout), tree._values, strict=True)
            )
        faults = trie.contradictions()
        if faults:
            raise MergeError(
                f"cannot join two StateTrees: {listed(faults)}; take one of the two out first, with `-` or `filter`"
            )
        layout, order = trie.build()
        return StateTree(
            layout, all_rebuilt(tuple([by_entry[entry] for entry in order]))
        )

    def __sub__(self, other: "StateTree") -> "StateTree":
        """The States at whose paths `other` has nothing."""
        if not isinstance(other, StateTree):
            return NotImplemented
        numbers, further = other.layout.positions_of(self.layout)
        elsewhere = {at for at, number, _ in further if number is not None}
        remaining = [
            at
            for at, number in enumerate(numbers)
            if number is None and at not in elsewhere
        ]
        return self._take(remaining, self.layout.take(remaining))

    def __reduce__(self) -> "tuple[type[StateTree], tuple[Layout, tuple[Any, ...]]]":
        return StateTree, (self.layout, self._values)

    def __pretty__(self) -> Record:
        if self.layout.is_of_a_state:
            return Record("", [((), self[()])])
        return _Below(self, 0).__pretty__()


@dataclasses.dataclass(frozen=True, slots=True)
class _Below:
    """What lies below one entry of a tree, for printing: a `StateTree` for every level would cost a layout each."""

    tree: StateTree
    entry: int

    def __pretty__(self) -> Record:
        return Record(
            "", map(self.child, self.tree.layout.below_entry.get(self.entry, ()))
        )

    def child(self, entry: int) -> "tuple[Key, _Below | TreefyState[Any]]":
        """For `__pretty__`: what one entry below has: its key, and the part below it or the value of a State."""
        layout = self.tree.layout
        at = layout.leaf_numbers.get(entry)
        if at is None:
            return layout.keys[entry], _Below(self.tree, entry)
        state = TreefyState(layout.specs[at], self.tree._values[at])
        return layout.keys[entry], state


def _flatten_with_keys(tree: StateTree) -> tuple[list[tuple[Any, Any]], Layout]:
    """For JAX: the values, each with a key for messages, and the layout as the treedef."""
    # One key for each State, with its whole path: JAX's messages show
    # `['layers.0.weight']`. They accept only keys of JAX's own classes.
    keys = [DictKey(path_str(path)) for path in tree.layout.paths()]
    return list(zip(keys, tree._values, strict=True)), tree.layout


jax.tree_util.register_pytree_with_keys(
    StateTree,
    _flatten_with_keys,
    lambda layout, values: StateTree(layout, tuple(values)),
    lambda tree: (tree._values, tree.layout),
)
register_export(StateTree, layout_to_json, layout_from_json)


class FlatStates(Shown, Mapping[Path, S_co], metaclass=PublicMapping):
    """Live States by full path, in canonical order. Read-only; the States themselves are not copied.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> found = gn.states(model)
        >>> found[("weight",)] is model.weight
        True
    """

    __slots__ = ("_states", "layout")

    layout: Layout
    _states: tuple[S_co, ...]

    def __init__(
        self,
        layout: Layout,
        states: tuple[S_co, ...],
    ) -> None:
        self.layout = layout
        self._states = states

    def __getitem__(self, path: Path | str) -> S_co:
        keys = lookup_path("State", path)
        at = None if keys is None else self.layout.index(keys)
        if at is None:
            raise KeyError(missing_path("State", self.layout, path))
        return self._states[at]

    def __iter__(self) -> Iterator[Path]:
        return self.layout.paths()

    def __len__(self) -> int:
        return len(self._states)

    # Not Mapping's, which look up each path.
    def values(self) -> ValuesView[S_co]:
        """The States, in canonical order."""
        return _StatesView(self)

    def items(self) -> ItemsView[Path, S_co]:
        """The States with their paths, in canonical order."""
        return _ItemsView(self)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same State objects at the same paths."""
        if not isinstance(other, FlatStates):
            return NotImplemented
        theirs: FlatStates[Any] = other
        # By identity, as layouts are interned, and States have no other equality.
        return self.layout is theirs.layout and all(
            a is b for a, b in zip(self._states, theirs._states, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __pretty__(self) -> Record:
        return Record("", self.items())


class _StatesView(ValuesView[S_co]):
    _mapping: FlatStates[S_co]

    def __iter__(self) -> Iterator[S_co]:
        return iter(self._mapping._states)


class _ItemsView(ItemsView[Path, S_co]):
    _mapping: FlatStates[S_co]

    def __iter__(self) -> Iterator[tuple[Path, S_co]]:
        return zip(self._mapping.layout.paths(), self._mapping._states, strict=True)
