"""An object as rich shows it: its fields by name, with neighbours that are alike as one."""

from collections.abc import Iterator

from ._fold import Group, groups_of
from ._parts import Plain, class_of
from ._tree import ROOT, Tree
from ._walk import tree_of

# A name and a value, or a value without a name: what `__rich_repr__` may yield.
_Part = tuple[str, object] | object


class _Shown:
    """One entry of a tree. Its class is called like the object, which is what rich prints."""

    __slots__ = ("number", "tree")

    def __init__(self, tree: Tree, number: int) -> None:
        self.tree = tree
        self.number = number

    def __rich_repr__(self) -> Iterator[_Part]:
        target = self.tree.entries[self.number].target
        if target >= 0:
            yield Plain(f"... = {self.tree.path(target)}")
        else:
            yield from _parts(self.tree, self.number)


def rich_parts(value: object) -> Iterator[_Part]:
    """The parts of an object: what its `__rich_repr__` gives."""
    tree = tree_of(value)
    if tree.entries[ROOT].is_list:
        yield _container(tree, ROOT)
    else:
        yield from _parts(tree, ROOT)


def _parts(tree: Tree, number: int) -> Iterator[_Part]:
    """The parts of an entry that is an object with a name."""
    for group in groups_of(tree, number):
        part = _shown(tree, group)
        yield (group.label[:-1], part) if group.label else part


def _shown(tree: Tree, group: Group) -> object:
    """One part, or the one that stands for several, whose number is a part of its name."""
    entry = tree.entries[group.first]
    times = f"{group.count:,} × " if group.count > 1 else ""
    if entry.is_plain:
        return Plain(times + entry.head)
    if entry.is_list and entry.target < 0:
        container = _container(tree, group.first)
        return class_of(_Alike, f"{times}")(container) if times else container
    return class_of(_Shown, times + entry.head[:-1])(tree, group.first)


class _Alike:
    """Several containers that are alike."""

    __slots__ = ("container",)

    def __init__(self, container: object) -> None:
        self.container = container

    def __rich_repr__(self) -> Iterator[_Part]:
        yield self.container


def _container(tree: Tree, number: int) -> object:
    """The list, tuple or mapping of an entry, with its parts."""
    groups = groups_of(tree, number)
    head = tree.entries[number].head
    if head == "{":
        return dict([_item(tree, group) for group in groups])
    parts = [_shown(tree, group) for group in groups]
    return tuple(parts) if head == "(" else parts


def _item(tree: Tree, group: Group) -> tuple[Plain, object]:
    """A key of a mapping, and what it has."""
    entry = tree.entries[group.first]
    if entry.left_out:
        return Plain("..."), Plain(entry.head.removeprefix("... "))
    return Plain(group.label.removesuffix(": ")), _shown(tree, group)
