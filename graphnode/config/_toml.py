"""TOML text into plain data with the places of its keys: tomllib keeps none, so that they are found line by line."""

import re
import tomllib
from typing import Any, Final, TypeAlias

from .._errors import Fault, Place
from .._nesting import is_container, items
from ._limits import MAX_DEPTH, MAX_DIGITS

_Path: TypeAlias = tuple[str | int, ...]

_KEY: Final = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LINE: Final = re.compile(
    rf"""(?m)^[ \t]*+(?P<open>\[{{0,2}})[ \t]*+(?P<keys>{_KEY}(?:[ \t]*+\.[ \t]*+{_KEY})*+)[ \t]*+[\]=]"""
)
# All that may hold what looks like a line with a key, and what may hold its quotes.
_TEXTS: Final = re.compile(
    r"""(?s)"{3}(?:[^\\]|\\.)*?"{3,5}|'{3}.*?'{3,5}"""
    r"""|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|\#[^\n]*+"""
)
_MAX_PARTS: Final = 100
# A key starts where no word or escape is open, so that no text is looked at again and
# again.
_LONG_KEY: Final = re.compile(
    rf"(?<![\w.\\-])(?:{_KEY}[ \t]*+\.[ \t]*+){{{_MAX_PARTS}}}"
)
_MAX_PLACED: Final = 50
"""Levels to which places are known; the paths of a deeper chain would cost its square."""


class TomlReader:
    """One TOML text as data.

    Attributes:
        root: The data.
        nodes: What `locate` takes, by the id of each container: its path.
        faults: What is wrong, with its place.
    """

    def __init__(self, text: str) -> None:
        self.root: Any = None
        self.is_empty = False  # an empty text is an empty table
        self.nodes: dict[int, _Path] = {}
        self.faults: list[Fault] = []
        self._text = text
        self._places: dict[_Path, Place] | None = None
        long_key = _LONG_KEY.search(text)
        # Tomllib takes the square of its length, in time and memory
        if long_key is not None:
            place = Place(text.count("\n", 0, long_key.start()) + 1, 0)
            self.faults.append(
                Fault(f"a key of more than {_MAX_PARTS} parts", place=place)
            )
            return
        try:
            self.root = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            numbers = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
            place = Place(int(numbers[1]), int(numbers[2])) if numbers else Place()
            what = re.sub(r" \(at .*\)$", "", str(error))
            self.faults.append(Fault(what, place=place))
        except RecursionError:
            self.faults.append(Fault("nested too deeply"))
        except ValueError:  # of int(), which tomllib lets through
            self.faults.append(Fault(f"an integer of more than {MAX_DIGITS:,} digits"))
        else:
            self._number(self.root)

    def locate(self, node: _Path, key: str | int | None, *, of_key: bool) -> Place:
        """Where a key of a table stands, or what is nearest above it: values and keys have one place."""
        if self._places is None:
            self._places = _places_of(self._text)
        path = node if key is None else (*node, key)
        while path and path not in self._places:
            path = path[:-1]
        return self._places.get(path, Place())

    def _number(self, root: Any) -> None:
        """Note the path of each container, level by level: from it, `locate` knows the place."""
        level: list[tuple[_Path, Any]] = [((), root)]
        depth = 0
        while level:
            depth += 1
            if depth > MAX_DEPTH:
                self.faults.append(Fault(f"nested more than {MAX_DEPTH:,} levels deep"))
                return
            below: list[tuple[_Path, Any]] = []
            for path, value in level:
                if depth <= _MAX_PLACED:
                    self.nodes[id(value)] = path
                for key, item in items(value, as_written=True):
                    if is_container(item):
                        item_path = (*path, key) if depth < _MAX_PLACED else ()
                        below.append((item_path, item))
            level = below


def _without_lines(text: re.Match[str]) -> str:
    """A string or comment, for `_TEXTS.sub`, such that nothing in it looks like a line with a key.

    Of a string over several lines only the line breaks are left, by which lines are
    counted.
    """
    if text[0].startswith(('"' * 3, "'" * 3)):
        return re.sub(r"[^\n]", " ", text[0])
    return text[0]


def _places_of(text: str) -> dict[_Path, Place]:
    """Where each key of a text stands, by its path, as tomllib does not say.

    A path is that of the open table and the keys of the line. Below an array of tables
    it has the position of the table that is open there:

        [model]                 model
        width = 3               model.width
        [[model.layers]]        model.layers, and model.layers[0]
        [model.layers.act]      model.layers[0].act
        [[model.layers]]        model.layers[1]
    """
    places: dict[_Path, Place] = {}
    last: dict[_Path, int] = {}  # of each array of tables, the position of the open one
    table: _Path = ()
    line, counted = 1, 0
    for match in _LINE.finditer(_TEXTS.sub(_without_lines, text)):
        keys = [_unquoted(key) for key in re.findall(_KEY, match["keys"])]
        # What stands below has the place of the nearest table above.
        if len(keys) > _MAX_PLACED:
            continue
        start = match.start("open")
        # From the last match on: counting from the start would cost the square.
        line, counted = line + text.count("\n", counted, start), start
        place = Place(line, start - text.rfind("\n", 0, start))
        # A header counts from the root, a key from the table that is open.
        path: _Path = () if match["open"] else table
        for at, key in enumerate(keys):
            path = (*path, key)
            # The first place stays: later headers may go through the same table.
            places.setdefault(path, place)
            is_new = match["open"] == "[[" and at == len(keys) - 1
            if match["open"] and path in last and not is_new:
                path = (*path, last[path])
        if match["open"] == "[[":
            last[path] = last.get(path, -1) + 1
            path = (*path, last[path])
            places[path] = place
        if match["open"]:
            table = path
    return places


def _unquoted(key: str) -> str:
    """The text that a key of TOML stands for."""
    return str(next(iter(tomllib.loads(f"{key} = 0")))) if key[0] in "\"'" else key
