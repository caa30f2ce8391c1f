"""Settings as another program writes them, such as a `config.json` of Hugging Face: other names, and more of them.

Data in: plain data, and how its words stand to those of the classes here. Data out: the same data with keys of ours,
and answers to what the walk over it asks: what may be left out, and what a name means.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from .._arguments import wrong_argument
from .._containers import children, is_container, items
from .._errors import PathError
from .._paths import Key, Path, parse_path, path_str
from .._patterns import Automaton, is_glob, pattern_of
from ._read import Document, Files


class Dialect(NamedTuple):
    """How another program writes settings.

    Attributes:
        renames: From the path of a value in the file to the one that it has here.
        unread: Paths of what is left out, whatever they hold.
        unknown: Globs of what is left out where no field takes it; `None` if there are none.
        names: What the names of values and classes mean.
        skips_null: Whether null stands for what is not given, where a field does not take it.
    """

    renames: Mapping[Path, Path] = {}
    unread: tuple[Path, ...] = ()
    unknown: Automaton | None = None
    names: Mapping[str, Any] = {}
    skips_null: bool = False

    def may_leave_out(self, path: Path) -> bool:
        """Whether the value at a path may be left out if no field takes it: not what was renamed, which is wanted."""
        if self.unknown is None or path in self.renames.values():
            return False
        return bool(self.unknown.fitting(path))

    def source_of(self, path: Path) -> Path | None:
        """Where the file would have a value."""
        return next((source for source, target in self.renames.items() if target == path), None)


OURS: Final = Dialect()
"""That of our own files."""


def dialect_of(
    rename: Mapping[str, str] | None, ignore: Iterable[str], names: Mapping[str, Any] | None, skip_null: bool
) -> Dialect:
    """The dialect that the arguments of `load` describe.

    Raises:
        TypeError: An argument is of another kind.
        PathError: A text is no path.
        ValueError: Two paths are given one name.
    """
    for argument, given in (("rename", rename), ("names", names)):
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(wrong_argument(f"a mapping as {argument}", given))
    if isinstance(ignore, str) or not isinstance(ignore, Iterable):
        raise TypeError(wrong_argument("a list of paths as ignore", ignore))
    if not (rename or names or skip_null or (patterns := list(ignore))):
        return OURS
    patterns = list(ignore)
    renames = {_path(source): _path(target) for source, target in (rename or {}).items()}
    globs = [pattern_of(text) for text in patterns if is_glob(text)]
    return Dialect(
        renames=renames,
        unread=tuple([_path(text) for text in patterns if not is_glob(text)]),
        unknown=Automaton(globs) if globs else None,
        names=names or {},
        skips_null=skip_null,
    )


def _path(text: str) -> Path:
    path = parse_path(text)
    if not path:
        raise PathError("the path of a key is expected, found the empty text")
    return path


def with_own_containers(value: Any) -> Any:
    """A copy of the lists and dicts of some data, shared as they are; all else is the same object."""
    copies: dict[int, Any] = {}
    todo, found = [value], list[Any]()
    while todo:
        container = todo.pop()
        if is_container(container) and id(container) not in copies:
            copies[id(container)] = dict(container) if isinstance(container, dict) else list(container)
            found.append(container)
            todo += children(container, as_written=True)
    for container in found:
        copy = copies[id(container)]
        for key, child in items(container, as_written=True):
            copy[key] = copies.get(id(child), child)
    return copies.get(id(value), value)


def translate(files: Files, document: Document, dialect: Dialect) -> set[Path]:
    """Give the data of a document the keys that they have here, in place. Faults are in `files`.

    Returns:
        The paths that are to be renamed and are not there.
    """
    # All are taken out before any is put in: two keys may change their names with each other. What lies inside of a
    # mapping that is renamed itself is taken out of it first, and put in last.
    moved: list[tuple[Path, Path, Any, Any]] = []
    for source, target in sorted(dialect.renames.items(), key=lambda item: -len(item[0])):
        holder = _holder(document.root, source)
        if holder is not None:
            moved.append((source, target, holder, holder.pop(source[-1])))
    for source, target, origin, value in sorted(moved, key=lambda row: len(row[1])):
        _put(files, document, source, target, origin, value)
    for path in dialect.unread:
        holder = _holder(document.root, path)
        if holder is not None:
            del holder[path[-1]]
    return set(dialect.renames) - {source for source, *_ in moved}


def _holder(root: Any, path: Path) -> dict[Key, Any] | None:
    """The mapping that has the last key of a path; `None` if nothing stands there."""
    value = root
    for key in path[:-1]:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) and path[-1] in value else None


def _put(files: Files, document: Document, source: Path, target: Path, origin: Any, value: Any) -> None:
    holder = document.root
    for key in target[:-1]:
        holder = holder.setdefault(key, {})
        if not isinstance(holder, dict):
            files.faults.append(f"{path_str(source)} is renamed to {path_str(target)}, but {key} holds no mapping")
            return
    home = files.home(document, origin, source[-1])
    if target[-1] in holder:
        place = files.place(document, origin, source[-1])
        text = f"{path_str(target)}: given twice, the second time as {path_str(source)}"
        files.faults.append(f"{place}: {text}" if place else text)
        return
    holder[target[-1]] = value
    files.keep_home(holder, target[-1], home)
