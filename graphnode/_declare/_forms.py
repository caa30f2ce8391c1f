"""A form: which values a field admits, as its annotation says it."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from .._contract import Contract
from .._fields import Kind, NodeBase
from .._nesting import ContainerKind
from .._paths import Key
from .._state import State

T = TypeVar("T")


class Cause(enum.Enum):
    """Why an annotation does not settle a kind."""

    OPEN = "it may hold values of several kinds"
    ARRAY = "it is a bare array"
    UNHASHABLE = "it holds static data in a form that is not hashable"
    MUTABLE_DATACLASS = "it is static data that may change"
    GUARDED_DATACLASS = "it is static data whose own __setattr__ may refuse changes"
    CONTRACTS = "one State would have to fulfil several contracts"
    CONTAINER = "nodes cannot keep such a container"


class AmbiguousError(Exception):
    """An annotation does not settle a kind; the text says why, and what to write instead.

    Raised by `form_of`. The schema compiler catches it, and adds the field.
    """

    def __init__(self, text: str, cause: Cause = Cause.OPEN) -> None:
        super().__init__(text)
        self.cause = cause


class Leaf(NamedTuple):
    """One class of States or nodes that a form admits, with the contract of its States."""

    cls: type
    contract: Contract | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """The values that a state or subnode field admits.

    Attributes:
        kind: What the leaves are; `None` while only `None` has been read.
        leaves: The classes of States or nodes admitted.
        optional: Whether `None` is.
        list_of: The form of a list's items, if a list is admitted.
        tuple_of: The forms of a tuple's items; a single form for any length.
        dict_of: The form of a dict's values.
        is_open: Whether the annotation said nothing: anything of the kind is admitted,
            at any nesting.
    """

    kind: Kind | None
    leaves: tuple[Leaf, ...] = ()
    optional: bool = False
    list_of: "Form | None" = None
    tuple_of: "Form | tuple[Form, ...] | None" = None
    dict_of: "Form | None" = None
    is_open: bool = False
    classes: tuple[type, ...] = dataclasses.field(init=False, repr=False, compare=False)
    """The classes of the leaves, for `isinstance`."""
    special_first: tuple[Leaf, ...] = dataclasses.field(
        init=False, repr=False, compare=False
    )
    """The leaves with each class before those that it extends: a State is held to the first whose class it is of."""
    all_leaves: tuple[Leaf, ...] = dataclasses.field(
        init=False, repr=False, compare=False
    )
    """The leaves at every depth: those of the items of its containers too."""
    _items: "Mapping[ContainerKind, Form | tuple[Form, ...] | None]" = (
        dataclasses.field(init=False, repr=False, compare=False)
    )
    """What the items of each kind of container are, an open form's included."""

    def __post_init__(self) -> None:
        # Worked out here, as every assignment to a field needs them.
        items: Mapping[ContainerKind, object] = {
            list: self.list_of,
            tuple: self.tuple_of,
            dict: self.dict_of,
        }
        if self.is_open:
            items = dict.fromkeys(items, self)
        all_leaves = list(self.leaves)
        of_tuple = (
            self.tuple_of if isinstance(self.tuple_of, tuple) else (self.tuple_of,)
        )
        for form in (self.list_of, self.dict_of, *of_tuple):
            all_leaves += [] if form is None else form.all_leaves
        # A subclass has a longer MRO than what it extends.
        special_first = sorted(self.leaves, key=lambda leaf: -len(leaf.cls.__mro__))
        # The dataclass is frozen, and its own assignment would raise.
        object.__setattr__(self, "classes", tuple(leaf.cls for leaf in self.leaves))
        object.__setattr__(self, "special_first", tuple(special_first))
        object.__setattr__(self, "all_leaves", tuple(all_leaves))
        object.__setattr__(self, "_items", items)

    @property
    def is_plain(self) -> bool:
        """Whether every value is one State or node: no `None`, no container.

        For the visit of a graph: in the value of such a field there is nothing to look
        for.
        """
        nested = self.list_of or self.dict_of or self.tuple_of is not None
        return not (self.optional or self.is_open or nested)

    @property
    def tuple_length(self) -> int | None:
        """How many items a tuple has; `None` where that is open, or no tuple is admitted.

        For files, which have to say how many items are missing.
        """
        return len(self.tuple_of) if isinstance(self.tuple_of, tuple) else None

    def admits(self, kind: ContainerKind) -> bool:
        """Whether the form admits containers of a kind: `list`, `tuple` or `dict`.

        For what reads a value along its annotation, before it looks at items.
        """
        # An open form has itself for each kind of container.
        return self._items[kind] is not None

    def item(self, kind: ContainerKind, key: Key = 0) -> "Form":
        """The form of an item of a container that the form admits.

        For what is put into a container, or read for it from a file.
        """
        form = self._items[kind]
        if isinstance(form, tuple):
            return form[int(key)]
        assert form is not None, f"{self} admits no {kind.__name__}"
        return form

    def items(
        self, kind: ContainerKind, pairs: Sequence[tuple[Key, T]]
    ) -> list[tuple[Key, T, "Form"]] | None:
        """Each item of a container with the form of its place: the one way to walk a value along its annotation.

        For checks of values, files and graphdefs: they agree on which item is of which
        form.

        Args:
            kind: What the container is, or is taken for.
            pairs: The key and the child of each item, as `_nesting.items` gives
                them. A child may be what stands for a value, such as its shape.

        Returns:
            Key, child and form of each item; `None` if the form admits no such
            container, or a tuple of another length.
        """
        form = self._items[kind]
        if isinstance(form, Form):
            return [(key, child, form) for key, child in pairs]
        if form is None or len(form) != len(pairs):
            return None
        return [
            (key, child, item_form)
            for (key, child), item_form in zip(pairs, form, strict=True)
        ]

    def __str__(self) -> str:
        # For messages: the annotation that admits the same values.
        return " | ".join(self._alternatives())

    def _alternatives(self) -> list[str]:
        """The annotations of which the form is a union, as `__str__` joins them by `|`.

        For messages, which print the form as an annotation.
        """
        if self.is_open:
            return ["a State" if self.kind is Kind.STATE else "a node"]
        alternatives = [leaf.cls.__name__ for leaf in self.leaves]
        if self.list_of is not None:
            alternatives.append(f"list[{self.list_of}]")
        if isinstance(self.tuple_of, Form):
            alternatives.append(f"tuple[{self.tuple_of}, ...]")
        elif self.tuple_of is not None:
            alternatives.append(f"tuple[{', '.join(map(str, self.tuple_of))}]")
        if self.dict_of is not None:
            alternatives.append(f"dict[str, {self.dict_of}]")
        return alternatives + ["None"] * self.optional


def open_form(kind: Kind) -> Form:
    """The form of a field whose specifier says its kind and whose annotation says nothing.

    For `gn.state()` and `gn.subnode()` at an annotation that settles nothing: any
    State, or any node, will do.
    """
    if kind is Kind.STATIC:
        return Form(kind)
    base: type = State if kind is Kind.STATE else NodeBase
    return Form(kind, (Leaf(base),), optional=True, is_open=True)
