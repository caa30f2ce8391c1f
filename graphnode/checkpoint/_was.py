"""Fields and classes that had other names: what `was=` says of them, as changes.

    class Block(gn.Node, was="Layer"):
        weight: ... = gn.state(..., was="kernel")

    file   blocks.0.kernel (of a Layer)      gives   Rename("blocks.0.kernel.**", "blocks.0.weight.**")

A former name counts only where the file lacks the new one.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .._errors import Fault
from .._fields import NodeBase, specifier_of
from .._graph._states_json import classes_by_name
from .._paths import Path, path_str
from ._changes import Rename
from ._compare import is_same_class
from ._item import NODE, Item
from ._structure import Structure


def former_fields(cls: type) -> dict[str, tuple[str, ...]]:
    """The fields of a class that had other names, with these."""
    if not (issubclass(cls, NodeBase) and dataclasses.is_dataclass(cls)):
        return {}
    fields: dict[str, tuple[str, ...]] = {}
    for field in dataclasses.fields(cls):
        specifier = specifier_of(field)
        if specifier is not None and specifier.was:
            fields[field.name] = specifier.was
    return fields


def former_classes(cls: type) -> tuple[str, ...]:
    """The full names that a class had; what was said without a module was in that of the class."""
    names: Sequence[str] = cls.__dict__.get("_was", ())
    return tuple(
        [name if "." in name else f"{cls.__module__}.{name}" for name in names]
    )


def was_class(file: str, cls: "type | None") -> bool:
    """Whether the class of a file is one that a class of the program was before."""
    if cls is None:
        return False
    return any(is_same_class(file, name) for name in former_classes(cls))


def renamed_classes(
    by_name: Mapping[str, type], wanted: "type | None" = None
) -> dict[str, type]:
    """The classes of the program by the names that they had before.

    Args:
        by_name: All classes, by the names that they have.
        wanted: A class that has its former names even if other classes have them now.
    """
    renamed = {
        name: cls
        for cls in by_name.values()
        for name in former_classes(cls)
        if name not in by_name
    }
    if wanted is not None:
        renamed.update(dict.fromkeys(former_classes(wanted), wanted))
    return renamed


def may_rename(structures: Iterable[Structure], wanted: "type | None" = None) -> bool:
    """Whether some class of these graphs, or one that had its name, has had other names or fields."""
    by_name = classes_by_name()
    known = {**by_name, **renamed_classes(by_name, wanted)}
    names = {spec.cls for structure in structures for spec in structure.specs}
    classes = [known[name] for name in names if name in known]
    return any(former_fields(cls) or former_classes(cls) for cls in classes)


def renames_of(
    items: Iterable[Item],
    nodes: Iterable[tuple[Path, type]],
    *,
    follow: bool = False,
) -> tuple[list[Rename], list[Fault]]:
    """The changes that give fields their new names.

    Args:
        items: What the file has, once other changes are made.
        nodes: The path and class of each node that the fields are of, those above first.
        follow: Whether the paths of nodes are those of the file, and change as well.

    Returns:
        The changes, and what is wrong: a field under two names.
    """
    there: dict[Path, set[str]] = {}
    for item in items:
        for at, key in enumerate(item.path):
            if isinstance(key, str):
                there.setdefault(item.path[:at], set()).add(key)
    renames: list[Rename] = []
    moves: list[tuple[Path, Path]] = []
    faults: list[Fault] = []
    for path, cls in nodes:
        former = former_fields(cls)
        if follow:
            for rename in moves:
                if path[: len(rename[0])] == rename[0]:
                    path = (*rename[1], *path[len(rename[0]) :])
        # Any: only a dataclass has former fields.
        fields: Any = getattr(cls, "__dataclass_fields__", {})
        current = set(fields)
        for name, others in former.items():
            keys = there.get(path, set())
            old = [key for key in others if key in keys and key not in current]
            if not old:
                continue
            if name in keys or len(old) > 1:
                texts = [repr(key) for key in (name, *old) if key in keys]
                what = f"the file has {' and '.join(texts)}, which are one field now"
                where = path_str((*path, name))
                faults.append(Fault(what, path=where, hint="leave out one by Drop"))
                continue
            start, end = (*path, old[0]), (*path, name)
            renames.append(Rename(f"{path_str(start)}.**", f"{path_str(end)}.**"))
            moves.append((start, end))
            _move(there, start, end)
    return renames, faults


def _move(there: dict[Path, set[str]], start: Path, end: Path) -> None:
    """For `renames_of`: give what is at and below a path another one."""
    for path in [path for path in there if path[: len(start)] == start]:
        there[(*end, *path[len(start) :])] = there.pop(path)
    there[start[:-1]].remove(str(start[-1]))
    there[start[:-1]].add(str(end[-1]))


def nodes_of_file(
    items: Iterable[Item], structure: Structure
) -> Iterator[tuple[Path, str]]:
    """The nodes of a file, where changes have put them, with the names of their classes."""
    for item in items:
        if item.kind == NODE and isinstance(item.key, int):
            yield item.path, structure.specs[item.key].cls
