"""Settings as another program writes them, such as a `config.json` of Hugging Face: other names, and more of them.

A `Dialect` has what the caller of `load` knows of that program's words. A `Translation`
renames the keys of the data in place; what may be left out, and what a name means, the
walk asks the dialect later.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from .._arguments import wrong_argument
from .._errors import Fault, PathError
from .._nesting import children, is_container, items
from .._paths import Key, Path, parse_path, path_str, split_pattern
from .._patterns import Automaton, is_glob, pattern_of
from ._read import Document, Files, Home

P = TypeVar("P", Path, "tuple[Key | None, ...]")

_Steps: TypeAlias = tuple[Key | None, ...]
"""The keys of a path, or of many: `None` is a star, which stands for any key or position."""


class Rename(NamedTuple):
    """Where values are in a file, and where they are here; `text` is how messages call the first."""

    source: _Steps
    target: _Steps
    text: str

    def leads_to(self, path: Path) -> bool:
        """Whether the value at a path of ours may come from `source`: a message then names that path, too."""
        return len(path) == len(self.target) and self.passes(path)

    def passes(self, path: Path) -> bool:
        """Whether the value at a path of ours may hold what comes from `source`, so that it is never left out."""
        steps = zip(self.target, path, strict=False)
        return len(path) <= len(self.target) and all(
            step in (None, key) for step, key in steps
        )


class Dialect(NamedTuple):
    """How another program writes settings.

    Attributes:
        renames: What has another path in the file.
        unread: Paths of what is left out, whatever they hold.
        unknown: Globs of what is left out where no field takes it; `None` if there are
            none.
        names: What the names of values and classes mean.
        skips_null: Whether null stands for what is not given, where a field does not
            take it.
    """

    renames: tuple[Rename, ...] = ()
    unread: tuple[Path, ...] = ()
    unknown: Automaton | None = None
    names: Mapping[str, Any] = {}
    skips_null: bool = False

    def may_leave_out(self, path: Path) -> bool:
        """Whether the value at a path may be left out if no field takes it: not what was renamed, which is wanted."""
        if self.unknown is None or any(rename.passes(path) for rename in self.renames):
            return False
        return bool(self.unknown.fitting(path))

    def source_of(self, path: Path) -> str | None:
        """The path in the file, as text, of what has a path of ours; `None` if nothing renames it.

        So that a fault names what the user finds in the file.
        """
        for rename in self.renames:
            if rename.leads_to(path):
                return rename.text
        return None


OURS: Final = Dialect()
"""The dialect of our own files. It is compared by identity: the walk then translates nothing."""


def dialect_of(
    rename: Mapping[str, str] | None,
    ignore: Iterable[str],
    names: Mapping[str, Any] | None,
    skip_null: bool,
) -> Dialect:
    """The dialect that the arguments of `load` describe.

    Raises:
        TypeError: An argument is of another kind.
        PathError: A text is not a path, or one of `rename` has other globs than `*` for
            a whole key, or not as many of them as the other side.
    """
    _check_arguments(rename, ignore, names)
    # An iterator can be gone through only once.
    patterns = list(ignore)
    if not (rename or names or skip_null or patterns):
        return OURS
    globs = [text for text in patterns if is_glob(text)]
    paths = [text for text in patterns if not is_glob(text)]
    renames = [
        _parsed_rename(source, target) for source, target in (rename or {}).items()
    ]
    return Dialect(
        renames=tuple(renames),
        unread=tuple([_not_empty(parse_path(text)) for text in paths]),
        unknown=Automaton(map(pattern_of, globs)) if globs else None,
        names=names or {},
        skips_null=skip_null,
    )


def _check_arguments(rename: object, ignore: object, names: object) -> None:
    """Raise if an argument of `load` is of another type than its annotation says, such as one text as `ignore`.

    Raises:
        TypeError: One is; names it.
    """
    for argument, value in (("rename", rename), ("names", names)):
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(wrong_argument(f"a mapping as {argument}", value))
    if isinstance(ignore, str) or not isinstance(ignore, Iterable):
        raise TypeError(wrong_argument("a list of paths as ignore", ignore))


def _parsed_rename(source: str, target: str) -> Rename:
    """One entry of the argument `rename` of `load`, with both paths as steps, for `Translation`.

    Raises:
        PathError: A text is not a path, or the two have not the same number of stars.
    """
    sources, targets = _parsed_steps(source), _parsed_steps(target)
    if sources.count(None) != targets.count(None):
        raise PathError(
            f"rename: {source!r} and {target!r} have not the same number of stars"
        )
    return Rename(sources, targets, source)


def _parsed_steps(text: str) -> _Steps:
    """The keys of a path of `rename`, with `None` for each star.

    Raises:
        PathError: The path is empty, or has another glob than a star for a whole key.
    """
    tokens = split_pattern(text)
    for key, is_star in tokens:
        if is_star and key != "*":
            raise PathError(
                f"rename: {text!r}: a star stands for a whole key here, not for {key!r}"
            )
    return _not_empty(tuple([None if is_star else key for key, is_star in tokens]))


def _not_empty(path: P) -> P:
    """A path of `rename` or `ignore` itself; `PathError` if it has no key: it would mean the whole file."""
    if not path:
        raise PathError("the path of a key is expected, found the empty text")
    return path


def with_own_containers(value: Any) -> Any:
    """A copy of the lists and dicts of some data, with the same sharing and cycles; all else is the same object.

    For `validate`: the caller's data stay as they are when keys are renamed.
    """
    copies: dict[int, Any] = {}
    containers: list[Any] = []
    todo = [value]
    while todo:
        container = todo.pop()
        if not is_container(container) or id(container) in copies:
            continue
        is_dict = isinstance(container, dict)
        copies[id(container)] = dict(container) if is_dict else list(container)
        containers.append(container)
        todo += children(container, as_written=True)
    # All copies are there before one is filled, as containers may form cycles.
    for container in containers:
        copy = copies[id(container)]
        for key, child in items(container, as_written=True):
            copy[key] = copies.get(id(child), child)
    return copies.get(id(value), value)


class _Spot(NamedTuple):
    """Where a value is.

    Attributes:
        holder: The mapping that has it.
        path: Its path.
        stars: The keys in place of the stars.
    """

    holder: dict[Any, Any]
    path: Path
    stars: tuple[Key, ...]


_Position: TypeAlias = tuple[Any, Path, tuple[Key, ...]]
"""A value on the way to a spot, with its path and the keys in place of the stars."""


class _Move(NamedTuple):
    """A value on its way from one path to another."""

    spot: _Spot
    target: Path
    value: Any
    home: Home


class Translation:
    """The data of a document with the keys that they have here, in place of those of the file.

    Attributes:
        absent: The keys that are to be renamed, or that lead there, and are not there,
            by the id of the mapping that lacks them.
    """

    def __init__(self, files: Files, document: Document, dialect: Dialect) -> None:
        self.absent: dict[int, list[str]] = {}
        self._files, self._document = files, document
        moves = [move for rename in dialect.renames for move in self._moves(rename)]
        # All are read before one is taken out, as a mapping may stand in two places;
        # and all are taken out before one is put in, as two keys may change their names
        # with each other.
        for move in moves:
            # Gone already, if the mapping stands in two places.
            move.spot.holder.pop(move.spot.path[-1], None)
        # A mapping before what comes into it
        for move in sorted(moves, key=lambda move: len(move.target)):
            self._put(move)
        for path in dialect.unread:
            for spot in self._spots(path):
                del spot.holder[path[-1]]

    def _moves(self, rename: Rename) -> Iterator[_Move]:
        """The values that a rename finds, each with the path it moves to: its stars are keys of the source."""
        for spot in self._spots(rename.source, is_wanted=True):
            stars = iter(spot.stars)
            target = tuple(
                [next(stars) if step is None else step for step in rename.target]
            )
            home = self._files.home(self._document, spot.holder, spot.path[-1])
            yield _Move(spot, target, spot.holder[spot.path[-1]], home)

    def _spots(self, steps: _Steps, *, is_wanted: bool = False) -> Iterator[_Spot]:
        """The values at a path, or at those that a path with stars stands for: what is to be renamed or left out."""
        todo: list[_Position] = [(self._document.root, (), ())]
        while todo:
            value, path, stars = todo.pop()
            step = steps[len(path)]
            is_last = len(path) == len(steps) - 1
            keys = _keys_at(value, step)
            if not keys and is_wanted:
                self._note_absent(value, step)
            for key in reversed(keys):
                key_path = (*path, key)
                passed = (*stars, key) if step is None else stars
                if not is_last:
                    todo.append((value[key], key_path, passed))
                elif isinstance(value, dict):
                    yield _Spot(value, key_path, passed)
                else:
                    what = "an item of a list is neither renamed nor left out"
                    self._files.faults.append(Fault(what, path=path_str(key_path)))

    def _note_absent(self, value: Any, step: Key | None) -> None:
        """Note a key of a rename that a mapping lacks: the walk takes a key much like it for a misspelled one."""
        if isinstance(value, dict) and isinstance(step, str):
            self.absent.setdefault(id(value), []).append(step)

    def _put(self, move: _Move) -> None:
        """Store a moved value at its target; a fault if no mapping is there, or the key is taken."""
        *above, last = move.target
        holder = self._holder(above)
        source = path_str(move.spot.path)
        target = path_str(move.target)
        if holder is None:
            what = f"{source} is renamed to {target}, but {above[-1]} holds no mapping"
            self._files.faults.append(Fault(what))
        elif last not in holder:
            holder[last] = move.value
            self._files.keep_home(holder, last, move.home)
        # The same home is the same value: the mapping stands in two places, and the
        # first has put it.
        elif self._files.home(self._document, holder, last) != move.home:
            key = move.spot.path[-1]
            place = self._files.place(self._document, move.spot.holder, key)
            what = f"given twice, the second time as {source}"
            self._files.faults.append(Fault(what, path=target, place=place))

    def _holder(self, path: Sequence[Key]) -> dict[Any, Any] | None:
        """The mapping that a moved value goes into, made where it is not there; `None` where something else is."""
        holder: Any = self._document.root
        for key in path:
            if isinstance(holder, dict):
                holder = holder.setdefault(key, {})
            elif _keys_at(holder, key):
                holder = holder[key]
            else:
                return None
        return holder if isinstance(holder, dict) else None


def _keys_at(value: Any, step: Key | None) -> Sequence[Key]:
    """The keys or positions of a container that a step of a path stands for: one, all for a star, or none."""
    keys: Sequence[Key] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, (list, tuple)):
        keys = range(len(value))
    if step is None:
        return keys
    is_there = step in value if isinstance(value, dict) else step in keys
    return [step] if is_there else []
