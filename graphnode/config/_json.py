"""JSON text into plain data with the places of all of it, without recursion.

The json module keeps no places, recurses, takes `NaN`, and lets a repeated key win; so
the text is read here, token by token. What it accepts and gives is otherwise the same.
"""

import bisect
import json
import re
from typing import Any, Final, NamedTuple

from .._hints import short
from ._places import MAX_DEPTH, MAX_DIGITS, MAX_FAULTS, Place

# Possessive (`*+`), so that no text makes it try twice.
_TOKEN: Final = re.compile(
    r"""(?P<mark>[\[\]{},:])
    |(?P<string>"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")
    |(?P<number>-?(?:0|[1-9][0-9]*+)(?P<real>(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?))
    |(?P<word>true|false|null)""",
    re.VERBOSE,
)
_BLANK: Final = re.compile(r"[ \t\r\n]*+")
_WORDS: Final = {"true": True, "false": False, "null": None}


class _SyntaxFaultError(ValueError):
    """What is wrong, and at which offset: the rest of the text cannot be read."""

    def __init__(self, at: int, text: str) -> None:
        self.at, self.text = at, text


class _Spots(NamedTuple):
    """Offsets of a container and of its items: the key's and the value's, which are one in a list."""

    start: int
    items: dict[str | int, tuple[int, int]]


class JsonReader:
    """One JSON text as data.

    Attributes:
        root: The data.
        nodes: What `locate` takes, by the id of each container.
        faults: What is wrong, with its place.
    """

    def __init__(self, text: str) -> None:
        self.root: Any = None
        self.nodes: dict[int, _Spots] = {}
        self.faults: list[tuple[Place, str]] = []
        self._text = text
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        try:
            self._read()
        except _SyntaxFaultError as fault:
            self.faults.append((self._place(fault.at), fault.text))

    def locate(self, node: _Spots, key: str | int | None, *, of_key: bool) -> Place:
        """Where an item of a container stands, or the container."""
        spots = node.items.get(key) if key is not None else None
        return self._place(
            node.start if spots is None else spots[0] if of_key else spots[1]
        )

    def _place(self, at: int) -> Place:
        line = bisect.bisect_right(self._starts, at)
        return Place(line, at - self._starts[line - 1] + 1)

    def _read(self) -> None:
        text, open_ones = self._text, list[Any]()
        holder: Any = None  # the innermost open container
        at = self._blank(0)
        while True:
            # A value, or the end of a container that is empty.
            key: str | int | None = None
            key_at = at
            if isinstance(holder, dict) and text[at : at + 1] != "}":
                key, at = self._key(holder, at)
            elif isinstance(holder, list):
                key = len(holder)
            value_at = at
            token = self._token(at, "a value")
            at = self._blank(token.end())
            mark = token["mark"]
            end = "}" if isinstance(holder, dict) else "]"
            is_end = (
                holder is not None
                and not holder
                and mark == end
                and not isinstance(key, str)
            )
            if not is_end:
                if mark is not None and mark not in "[{":
                    raise _SyntaxFaultError(
                        value_at, f"a value is expected, found {mark!r}"
                    )
                value: Any = (
                    [] if mark == "[" else {} if mark == "{" else self._scalar(token)
                )
                self._put(holder, key, value, key_at, value_at)
                if mark is not None:
                    self.nodes[id(value)] = _Spots(value_at, {})
                    open_ones.append(value)
                    holder = value
                    if len(open_ones) > MAX_DEPTH:
                        raise _SyntaxFaultError(
                            value_at, f"nested more than {MAX_DEPTH:,} levels deep"
                        )
                    continue
            else:
                open_ones.pop()
            # Whatever ends here, up to the next comma.
            while open_ones:
                holder = open_ones[-1]
                end = "}" if isinstance(holder, dict) else "]"
                token = self._token(at, f"`,` or `{end}`")
                if token["mark"] not in (",", end):
                    raise _SyntaxFaultError(
                        at, f"`,` or `{end}` is expected, found {short(token[0])}"
                    )
                comma, at = at, self._blank(token.end())
                if token["mark"] == ",":
                    if text[at : at + 1] == end:
                        raise _SyntaxFaultError(comma, f"a comma stands before `{end}`")
                    break
                open_ones.pop()
            else:
                break
        if at < len(text):
            raise _SyntaxFaultError(
                at, f"the end is expected, found {short(text[at : at + 40].strip())}"
            )

    def _key(self, holder: dict[str, Any], at: int) -> tuple[str, int]:
        token = self._token(at, "a key in double quotes")
        if token["string"] is None:
            raise _SyntaxFaultError(
                at, f"a key in double quotes is expected, found {short(token[0])}"
            )
        key = self._scalar(token)
        if key in holder and len(self.faults) < MAX_FAULTS:
            line = self._place(self.nodes[id(holder)].items[key][0]).line
            self.faults.append(
                (self._place(at), f"duplicate key {short(key)} (first at line {line})")
            )
        colon = self._blank(token.end())
        if self._text[colon : colon + 1] != ":":
            raise _SyntaxFaultError(colon, "`:` is expected after a key")
        return key, self._blank(colon + 1)

    def _put(
        self, holder: Any, key: Any, value: Any, key_at: int, value_at: int
    ) -> None:
        if holder is None:
            self.root = value
            return
        if isinstance(holder, dict):
            holder[key] = value
        else:
            holder.append(value)
        self.nodes[id(holder)].items[key] = key_at, value_at

    def _scalar(self, token: re.Match[str]) -> Any:
        if token["string"] is not None:
            return self._string(token)
        if token["word"] is not None:
            return _WORDS[token["word"]]
        if token["real"]:
            return float(token[0])
        if len(token[0]) > MAX_DIGITS:
            raise _SyntaxFaultError(
                token.start(), f"an integer of more than {MAX_DIGITS:,} digits"
            )
        return int(token[0])

    def _string(self, token: re.Match[str]) -> str:
        if "\\" not in token[0]:
            return token[0][1:-1]
        try:
            text = str(json.loads(token[0]))
            text.encode()
        except json.JSONDecodeError as error:
            raise _SyntaxFaultError(
                token.start() + error.pos, "no escape of JSON"
            ) from None
        except UnicodeEncodeError:
            raise _SyntaxFaultError(
                token.start(), "a string with half of a surrogate pair"
            ) from None
        return text

    def _token(self, at: int, expected: str) -> re.Match[str]:
        token = _TOKEN.match(self._text, at)
        if token is None:
            if at >= len(self._text):
                raise _SyntaxFaultError(at, f"{expected} is expected, found the end")
            if self._text[at] == '"':
                raise _SyntaxFaultError(
                    at, "a string that does not end, or holds a control character"
                )
            found = re.compile(r"[\w.+-]+|.", re.DOTALL).match(self._text, at)
            assert found is not None
            raise _SyntaxFaultError(
                at, f"{expected} is expected, found {short(found[0])}"
            )
        return token

    def _blank(self, at: int) -> int:
        found = _BLANK.match(self._text, at)
        return found.end() if found is not None else at
