"""Fold the notes of a summary: what is said of neighbours in a list is one line, `blocks.0..29.norm: ...`."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from .._paths import Path, path_str

_MOST: Final = 16


class _Range(NamedTuple):
    """The positions of some neighbours in a list, in the place of a key of a path."""

    first: int
    last: int


# Any: a path with ranges in it.
_Folded: TypeAlias = tuple[Any, ...]


def folded_notes(
    notes: Sequence[tuple[Path | None, str]], root: str, limit: int = _MOST
) -> list[str]:
    """The lines of notes: those of neighbours in lists in one, and how many more there are than the limit.

    Args:
        notes: Each with its path; `None` for what is of no node.
        root: What stands for the path of the root.
        limit: How many lines there may be.
    """
    paths_by_text: dict[str, list[Path]] = {}
    for path, text in notes:
        paths_by_text.setdefault(text, []).extend([] if path is None else [path])
    lines: list[str] = []
    for text, paths in paths_by_text.items():
        names = [path or root for path in _folded_paths(paths)]
        lines += [f"{name}: {text}" for name in names] or [text]
    if len(lines) > limit:
        lines[limit:] = [f"and {len(lines) - limit} more notes: .notes has all"]
    return lines


def _folded_paths(paths: Sequence[Path]) -> list[str]:
    """The texts of paths, those of neighbours in lists in one."""
    folded: dict[_Folded, None] = dict.fromkeys(paths)
    deepest = max(map(len, paths), default=0)
    # The innermost lists first, so that equal ranges in them can be folded in turn.
    for at in reversed(range(deepest)):
        folded = _folded_at(folded, at)
    return [_range_text(path) for path in folded]


def _folded_at(paths: dict[_Folded, None], at: int) -> dict[_Folded, None]:
    """Paths that follow each other at one place, and are the same at all others, in one."""
    runs: dict[_Folded, _Folded] = {}
    folded: dict[_Folded, _Folded] = {}
    for path in paths:
        key = path[at] if at < len(path) else None
        if not isinstance(key, int):
            folded[path] = path
            continue
        others = (*path[:at], None, *path[at + 1 :])
        start = runs.get(others)
        run = None if start is None else folded[start][at]
        if start is None or run is None or run.last + 1 != key:
            runs[others] = start = path
            run = _Range(key, key)
        folded[start] = (*path[:at], _Range(run.first, key), *path[at + 1 :])
    return dict.fromkeys(folded.values())


def _range_text(path: _Folded) -> str:
    """A path with ranges, as a text."""
    parts: list[str] = []
    for key in path:
        if not isinstance(key, _Range):
            parts.append(path_str((key,)))
        elif key.first == key.last:
            parts.append(str(key.first))
        else:
            parts.append(f"{key.first}..{key.last}")
    return ".".join(parts)
