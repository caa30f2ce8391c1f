"""Checkpoints as text, by their manifests alone: what one holds, and how two differ."""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from .._paths import path_str
from ._compare import Matching, matched, place_text
from ._expressions import bytes_of
from ._manifest import Manifest, Value
from ._report import table
from ._structure import OPAQUE, Structure, class_text, value_text


def shown(manifest: Manifest) -> Iterator[str]:
    """What a checkpoint holds, as lines: a summary, its States, and what it does not describe."""
    yield _summary(manifest)
    if manifest.metadata is not None:
        yield f"metadata: {json.dumps(manifest.metadata)}"
    if manifest.config is not None:
        count = len(manifest.config.splitlines())
        yield f"config: {count:,} lines, which --config prints"
    structure = manifest.structure
    others = _other_places(structure)
    rows: list[tuple[str, str, str, str]] = []
    for number in structure.states:
        path = place_text(structure.paths[number])
        cls = class_text(structure.specs[number].cls)
        rows.append(
            (
                path,
                cls,
                _content(manifest.by_state[number]),
                _notes(structure, number, others),
            )
        )
    yield from table(rows)
    for number, names in others.items():
        if not structure.specs[number].is_state:
            where = place_text(structure.paths[number])
            yield f"{where} ({class_text(structure.specs[number].cls)}) is also at {', '.join(names)}"
    for at, spec in enumerate(structure.specs):
        for name, value in spec.parts.items():
            if isinstance(value, dict) and OPAQUE in value:
                where = path_str((*structure.paths[at], name))
                yield f"{where} is not described: {value_text(value)}, which a live one must have"


def _summary(manifest: Manifest) -> str:
    """For `shown`: how much there is, and what has written it."""
    leaves = [
        leaf for value in manifest.values for leaf in value.leaves if leaf.is_array
    ]
    count = sum(math.prod(leaf.shape) for leaf in leaves)
    versions = ", ".join(
        f"{name} {version}" for name, version in manifest.versions.items()
    )
    size = float(sum(map(bytes_of, leaves)))
    return f"{len(manifest.values):,} States, {count:,} numbers in arrays, {_size_text(size)}; written by {versions}"


def _size_text(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1_000:
            return f"{size:.3g} {unit}"
        size /= 1_000
    return f"{size:,.3g} TB"


def _content(value: Value) -> str:
    """What a State holds: a number itself, else shapes and dtypes."""
    if len(value.leaves) == 1 and not value.leaves[0].is_array:
        return _cut(repr(value.leaves[0].data))
    return str(value) or "nothing"


def _cut(text: str) -> str:
    """A text of at most 60 characters."""
    return text if len(text) <= 60 else text[:57] + "..."


def _other_places(structure: Structure) -> dict[int, list[str]]:
    """The further paths of each object that is referred to more than once."""
    others: dict[int, list[str]] = {}
    for parent, edge, child in structure.repeats():
        above = structure.paths[parent] if parent >= 0 else ()
        others.setdefault(child, []).append(path_str((*above, *edge)))
    return others


def _notes(structure: Structure, number: int, others: dict[int, list[str]]) -> str:
    """What there is to say of a State beside its value."""
    parts = structure.specs[number].parts
    notes = [f"{name}={value_text(parts[name])}" for name in parts]
    if number in others:
        notes.append(f"also at {', '.join(others[number])}")
    return "; ".join(notes)


def differences(left: Manifest, right: Manifest) -> Iterator[str]:
    """How two checkpoints differ in what they hold, apart from the values of arrays, as lines sorted by path."""
    matching = matched(left.structure, right.structure)
    lines = [
        (change.path, f"{place_text(change.path)}: {change.left} -> {change.right}")
        for change in matching.changes
    ]
    for mark, manifest, numbers in (
        ("-", left, matching.left_only),
        ("+", right, matching.right_only),
    ):
        for number in numbers:
            path = manifest.structure.paths[number]
            cls = class_text(manifest.structure.specs[number].cls)
            lines.append(
                (
                    path,
                    f"{mark} {place_text(path)}: {cls} {_content(manifest.by_state[number])}",
                )
            )
    for a, b in matching.pairs():
        path = left.structure.paths[a]
        lines += [
            (path, f"{place_text(path)}: {text}")
            for text in _state_differences(left, right, a, b)
        ]
    lines.sort(key=lambda line: path_str(line[0]))
    return (text for _, text in lines)


def _state_differences(
    left: Manifest, right: Manifest, a: int, b: int
) -> Iterator[str]:
    """How a State differs in two checkpoints, apart from its numbers."""
    values = left.by_state[a], right.by_state[b]
    texts = [str(value) for value in values]
    if texts[0] != texts[1] or values[0].form != values[1].form:
        yield f"{texts[0]} -> {texts[1] if texts[1] != texts[0] else 'another tree'}"
    first, second = left.structure.specs[a].parts, right.structure.specs[b].parts
    for name in sorted(first.keys() | second.keys()):
        # As texts: to Python 1 equals True.
        before, after = (json.dumps(parts.get(name)) for parts in (first, second))
        if before != after:
            yield f"{name}={before} -> {name}={after}"


def changed_values(left: Manifest, right: Manifest) -> list[str]:
    """The paths of the States that two checkpoints have in common, and whose numbers differ."""
    matching: Matching = matched(left.structure, right.structure)
    return [
        place_text(left.structure.paths[a])
        for a, b in matching.pairs()
        if _numbers(left.by_state[a]) != _numbers(right.by_state[b])
    ]


def _numbers(value: Value) -> list[Any]:
    """For `changed_values`: what differs where the numbers of a State do."""
    return [
        repr(leaf.data) if leaf.checksum is None else leaf.checksum
        for leaf in value.leaves
    ]


def printable(lines: Iterable[str]) -> Iterator[str]:
    """Lines for a terminal, whose commands a file might hold: as escapes."""
    for line in lines:
        yield "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in line
        )
