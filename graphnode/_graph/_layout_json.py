"""Write a layout as JSON, and read it: what `jax.export` keeps of a state tree beside its arrays.

    net.a.weight, and net.b is net.a

    {"graphnode": 1,
     "classes": ["graphnode.ParamState"],
     "specs": [{"state": 0}],
     "entries": [[-1, ""], [0, "a"], [1, "weight"]],     the parent and the key of each
     "leaves": [[2, 0]],                                 the entry and the spec of each State
     "references": [[0, "b", 1]]}

What is read is checked to be canonical, as equal layouts have to be the same object.
"""

import bisect
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from .._errors import ConfigError
from .._paths import Key, key_order
from .._state import StateSpec
from .._static import (
    Json,
    JsonValueError,
    ReadPart,
    WritePart,
    add_json_form,
    tagged,
)
from .._trie import Trie, by_target, canonical, ends_of
from ._layout import Layout, intern_layout
from ._states_json import (
    STATE_PARTS,
    VERSION,
    StateReader,
    StateWriter,
    dumps,
    parse,
)

_PARTS: Final = ("classes", "specs", "entries", "leaves", "references")


def layout_to_json(layout: Layout) -> str:
    """A layout as JSON.

    Raises:
        ConfigError: A class was defined again, or a description has no JSON; names all.

    See also: `layout_from_json`, the inverse.
    """
    writer = StateWriter()
    # Specs are interned: those of one description are one object.
    numbers = {spec: at for at, spec in enumerate(dict.fromkeys(layout.specs))}
    specs = [writer.state_json(spec) for spec in numbers]
    writer.check()
    leaves = zip(layout.leaves, layout.specs, strict=True)
    return dumps(
        {
            "classes": list(writer.classes),
            "specs": specs,
            "entries": list(zip(layout.parents, layout.keys, strict=True)),
            "leaves": [(entry, numbers[spec]) for entry, spec in leaves],
            "references": layout.references,
        }
    )


def layout_from_json(text: str) -> Layout:
    """The layout that JSON describes: the same object as the one that was written.

    The classes of its States must be imported; nothing in the text imports or calls
    anything, apart from the constructors of dataclasses that the program has
    registered.

    Raises:
        ConfigError: The text is not a layout, or has unknown names; names all faults.

    See also: `layout_to_json`, the inverse.
    """
    return _Reader(parse(text, "layout", _PARTS)).layout()


class _Reader(StateReader):
    """Reads JSON as a layout. It goes on after a fault, as far as the rest can be read."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data["classes"])
        self._data = data

    def layout(self) -> Layout:
        """The layout.

        Raises:
            ConfigError: Something is wrong.
        """
        specs = [
            self._read_spec(f"specs[{at}]", data)
            for at, data in enumerate(self._data["specs"])
        ]
        entries = self._rows("entries", "a parent and a key", (int, None))
        leaves = self._rows("leaves", "an entry and a spec", (int, int))
        expected = "an entry, a key and an entry"
        references = self._rows("references", expected, (int, None, int))
        self._check_numbers(len(specs), entries, leaves, references)
        # What rows refer to is looked at only where all of it is there
        self._raise_faults()
        trie = Trie(
            tuple([parent for parent, _ in entries]),
            tuple([key for _, key in entries]),
            tuple([entry for entry, _ in leaves]),
            tuple([(source, key, target) for source, key, target in references]),
        )
        for where, text in _structure_faults(trie):
            self.fault(where, text)
        self._raise_faults()
        by_leaf: list[Any] = [specs[number] for _, number in leaves]
        return intern_layout(
            trie.parents, trie.keys, trie.leaves, tuple(by_leaf), trie.references
        )

    def _raise_faults(self) -> None:
        """Raise if there are faults by now.

        Raises:
            ConfigError: Names all.
        """
        if self.faults:
            raise ConfigError(self.faults)

    def _read_spec(self, where: str, data: Any) -> StateSpec | None:
        """The spec of a State; `None` if it has faults."""
        if isinstance(data, dict) and "state" in data and data.keys() <= STATE_PARTS:
            return self.read_state(where, data)
        text = "a spec has state, name, tag, sharding, metadata and stacked"
        self.fault(where, text)
        return None

    def _rows(
        self, part: str, expected: str, types: tuple[type | None, ...]
    ) -> list[list[Any]]:
        """The rows of a part of the file, each a list of these types; those with faults are left out.

        Args:
            part: The key of the part.
            expected: What a row has, for messages.
            types: Of what it has; `None` for a key, which is a name or a position.
        """
        rows: list[list[Any]] = []
        for at, row in enumerate(self._data[part]):
            # By exact type: `True` is an `int` too, and would not be the same key.
            if (
                isinstance(row, list)
                and len(row) == len(types)
                and all(map(_is_of, row, types))
            ):
                rows.append(row)
            else:
                self.fault(f"{part}[{at}]", f"expected {expected}")
        return rows

    def _check_numbers(
        self,
        spec_count: int,
        entries: list[list[Any]],
        leaves: list[list[Any]],
        references: list[list[Any]],
    ) -> None:
        """Note each number that leads to no entry or spec, and each spec that no State has."""
        # Rows with faults were left out, so that the others do not stand where they did
        if self.faults:
            return
        count = len(entries)
        if not entries or entries[0] != [-1, ""]:
            self.fault("entries[0]", 'the root is [-1, ""]')
        for at, (parent, _) in enumerate(entries[1:], 1):
            if not 0 <= parent < at:
                self.fault(f"entries[{at}]", f"no entry {parent} stands before it")
        for at, (entry, number) in enumerate(leaves):
            if not 0 <= entry < count:
                self.fault(f"leaves[{at}]", f"there is no entry {entry}")
            if not 0 <= number < spec_count:
                self.fault(f"leaves[{at}]", f"there is no spec {number}")
        for at, (source, _, target) in enumerate(references):
            for entry in (source, target):
                if not 0 <= entry < count:
                    self.fault(f"references[{at}]", f"there is no entry {entry}")
        used = {number for _, number in leaves}
        for number in range(spec_count):
            if number not in used:
                self.fault(f"specs[{number}]", "no State is of it")


def _is_of(value: object, expected: type | None) -> bool:
    """Whether an item of a row is of a type, or, for `None`, a key."""
    return type(value) is expected or (expected is None and type(value) in (int, str))


def _structure_faults(trie: Trie) -> Iterator[tuple[str, str]]:
    """Why no layout has these entries: where each fault is, and what.

    Equal layouts are known by identity, so that no other order or choice of first paths
    may pass for one.
    """
    inner = {*trie.parents, *[source for source, _, _ in trie.references]}
    for at, entry in enumerate(trie.leaves):
        if entry in inner:
            yield f"leaves[{at}]", "a State has nothing below it"
    places: set[tuple[int, Key]] = set()
    parents = zip(trie.parents, trie.keys, strict=True)
    for at, place in enumerate(parents):
        if place in places:
            yield f"entries[{at}]", "another entry has this parent and key"
        places.add(place)
    children = _children(trie)
    ends = ends_of(trie.parents)
    for at, (source, key, target) in enumerate(trie.references):
        if (source, key) in places:
            yield f"references[{at}]", "something else has this source and key"
        places.add((source, key))
        # A walk meets an object first at its own path: before it comes by here
        later = _first_after(key, trie, children.get(source, []))
        if target >= (ends[source] if later is None else later):
            yield f"references[{at}]", "it comes before the path of its target"
    content = (trie.parents, trie.keys, trie.leaves, trie.references)
    found, _ = canonical(
        trie.parents, trie.keys, frozenset(trie.leaves), by_target(trie.references)
    )
    if content != (found.parents, found.keys, found.leaves, found.references):
        yield "entries", "they are not in order, or some lead to no State"


def _children(trie: Trie) -> dict[int, list[int]]:
    """The entries below each entry, in order."""
    children: dict[int, list[int]] = {}
    for entry in range(1, len(trie.parents)):
        children.setdefault(trie.parents[entry], []).append(entry)
    return children


def _first_after(key: Key, trie: Trie, siblings: Sequence[int]) -> int | None:
    """The first of some entries that comes after a key, or `None`."""
    at = bisect.bisect(
        siblings, key_order(key), key=lambda entry: key_order(trie.keys[entry])
    )
    return siblings[at] if at < len(siblings) else None


def _write_static(layout: Layout, write_part: WritePart) -> Json:
    """A layout that is a static value, as an optimizer has it: its JSON, as data."""
    try:
        return json.loads(layout_to_json(layout))
    except ConfigError as error:
        raise JsonValueError(str(error)) from None


def _read_static(data: Json, read_part: ReadPart) -> Layout:
    """The layout that such data describes."""
    try:
        return layout_from_json(json.dumps(data))
    except ConfigError as error:
        raise JsonValueError(error.faults[0]) from None


_SCHEMA: Final = {
    "description": "Paths and descriptions of States.",
    "type": "object",
    "required": ["graphnode", *_PARTS],
    "additionalProperties": False,
    "properties": {
        "graphnode": {"const": VERSION},
        **{name: {"type": "array"} for name in _PARTS},
    },
}
add_json_form(Layout, tagged("layout", _write_static, _read_static, _SCHEMA))
