"""JSON text into plain data with the places of all of it, without recursion.

The json module keeps no places, recurses, takes `NaN`, and lets a repeated key win; so
the text is read here, token by token. What it accepts and gives is otherwise the same.
"""

import bisect
import json
import re
from typing import Any, Final, NamedTuple

from .._errors import Fault, Place
from .._hints import short
from ._limits import MAX_DEPTH, MAX_DIGITS, MAX_FAULTS

# Possessive (`*+`), so that no text makes it try twice.
_TOKEN: Final = re.compile(
    r"""(?P<mark>[\[\]{},:])
    |(?P<string>"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")
    |(?P<number>-?(?:0|[1-9][0-9]*+)(?P<real>(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?))
    |(?P<word>true|false|null)""",
    re.VERBOSE,
)
_BLANKS: Final = re.compile(r"[ \t\r\n]*+")
_WORD: Final = re.compile(r"[\w.+-]+|.", re.DOTALL)
_WORDS: Final = {"true": True, "false": False, "null": None}


class _SyntaxFaultError(ValueError):
    """What is wrong, and at which offset: the rest of the text cannot be read. Raised and caught by the reader."""

    def __init__(self, at: int, text: str) -> None:
        self.at, self.text = at, text


class _Offsets(NamedTuple):
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
        self.is_empty = False  # an empty text is not JSON
        self.nodes: dict[int, _Offsets] = {}
        self.faults: list[Fault] = []
        self._text = text
        self._at = 0
        self._open: list[Any] = []
        self._starts = [0, *(newline.end() for newline in re.finditer("\n", text))]
        try:
            self._read()
        except _SyntaxFaultError as error:
            self.faults.append(Fault(error.text, place=self._place(error.at)))

    def locate(self, node: _Offsets, key: str | int | None, *, of_key: bool) -> Place:
        """Where an item of a container stands (its key, with `of_key`), or the container: the place of a fault."""
        offsets = node.items.get(key) if key is not None else None
        if offsets is None:
            return self._place(node.start)
        key_at, value_at = offsets
        return self._place(key_at if of_key else value_at)

    def _place(self, at: int) -> Place:
        """The line and column of an offset, both counted from 1, as faults name them."""
        line = bisect.bisect_right(self._starts, at)
        return Place(line, at - self._starts[line - 1] + 1)

    # A cursor goes through the text once. What is open is a list, not calls in calls:
    #
    #   [1, {"a": 2 ...     self._open == [[1, {...}], {...}], the innermost last
    #              ^        self._at; each round of `_read` closes a container or reads
    #                       the beginning of its next item
    def _read(self) -> None:
        """Read the text into `root`; raises `_SyntaxFaultError` where it cannot go on."""
        self._skip_blanks()
        self.root = self._read_value()
        while self._open:
            holder = self._open[-1]
            if self._ends(holder):
                self._open.pop()
            else:
                self._read_item(holder)
        if self._at < len(self._text):
            rest = self._text[self._at : self._at + 40].strip()
            raise self._expected("the end", rest)

    def _ends(self, holder: Any) -> bool:
        """Whether a container ends at the cursor; if not, its next item stands there."""
        end = "}" if isinstance(holder, dict) else "]"
        start = self._at
        # No comma stands before the first item.
        if not holder and self._text[start : start + 1] != end:
            return False
        token = self._token(f"`,` or `{end}`")
        if token["mark"] == end:
            return True
        if token["mark"] != ",":
            raise self._expected(f"`,` or `{end}`", token[0], start)
        if self._text[self._at : self._at + 1] == end:
            raise _SyntaxFaultError(start, f"a comma stands before `{end}`")
        return False

    def _read_item(self, holder: Any) -> None:
        """Read the next item of an open container, and note where its key and value begin."""
        key_at = self._at
        key: Any = self._read_key(holder) if isinstance(holder, dict) else len(holder)
        value_at = self._at
        value = self._read_value()
        if isinstance(holder, dict):
            holder[key] = value
        else:
            holder.append(value)
        self.nodes[id(holder)].items[key] = key_at, value_at

    def _read_key(self, holder: dict[str, Any]) -> str:
        """The key at the cursor, which moves behind the colon; that a key is repeated is noted."""
        start = self._at
        token = self._token("a key in double quotes")
        if token["string"] is None:
            raise self._expected("a key in double quotes", token[0], start)
        key = self._string(token)
        if key in holder and len(self.faults) < MAX_FAULTS:
            line = self._place(self.nodes[id(holder)].items[key][0]).line
            what = f"duplicate key {short(key)} (first at line {line})"
            self.faults.append(Fault(what, place=self._place(start)))
        if self._text[self._at : self._at + 1] != ":":
            raise _SyntaxFaultError(self._at, "`:` is expected after a key")
        self._at += 1
        self._skip_blanks()
        return key

    def _read_value(self) -> Any:
        """The value at the cursor. Of a container only the beginning is read, and it is open then."""
        start = self._at
        token = self._token("a value")
        mark = token["mark"]
        if mark is None:
            return self._scalar(token)
        if mark not in "[{":
            raise _SyntaxFaultError(start, f"a value is expected, found {mark!r}")
        container: Any = [] if mark == "[" else {}
        self.nodes[id(container)] = _Offsets(start, {})
        self._open.append(container)
        if len(self._open) > MAX_DEPTH:
            what = f"nested more than {MAX_DEPTH:,} levels deep"
            raise _SyntaxFaultError(start, what)
        return container

    def _scalar(self, token: re.Match[str]) -> Any:
        """The string, number, boolean or null that a token stands for."""
        if token["string"] is not None:
            return self._string(token)
        if token["word"] is not None:
            return _WORDS[token["word"]]
        # The fraction and exponent, which are empty for an integer.
        if token["real"]:
            return float(token[0])
        # The time that int() takes grows with the square of the digits.
        if len(token[0]) > MAX_DIGITS:
            what = f"an integer of more than {MAX_DIGITS:,} digits"
            raise _SyntaxFaultError(token.start(), what)
        return int(token[0])

    def _string(self, token: re.Match[str]) -> str:
        """The text of a token in quotes, with its escapes replaced."""
        # Most strings have no escapes, and need no second parser.
        if "\\" not in token[0]:
            return token[0][1:-1]
        try:
            text = str(json.loads(token[0]))
            # The json module lets half of a surrogate pair through.
            text.encode()
        except json.JSONDecodeError as error:
            at = token.start() + error.pos
            raise _SyntaxFaultError(at, "not an escape of JSON") from None
        except UnicodeEncodeError:
            what = "a string with half of a surrogate pair"
            raise _SyntaxFaultError(token.start(), what) from None
        return text

    def _token(self, expected: str) -> re.Match[str]:
        """The token at the cursor, which goes on to the next one; `expected` is what an error says was expected."""
        start = self._at
        token = _TOKEN.match(self._text, start)
        if token is not None:
            self._at = token.end()
            self._skip_blanks()
            return token
        if start >= len(self._text):
            what = f"{expected} is expected, found the end"
        elif self._text[start] == '"':
            what = "a string that does not end, or holds a control character"
        else:
            word = _WORD.match(self._text, start)
            assert word is not None  # any character is one
            raise self._expected(expected, word[0])
        raise _SyntaxFaultError(start, what)

    def _skip_blanks(self) -> None:
        """Move the cursor behind blanks, so that a token or the end stands there."""
        blanks = _BLANKS.match(self._text, self._at)
        if blanks is not None:
            self._at = blanks.end()

    def _expected(
        self, expected: str, text: str, at: int | None = None
    ) -> _SyntaxFaultError:
        """The error to raise where `text` stands and something else is expected; at the cursor by default."""
        what = f"{expected} is expected, found {short(text)}"
        return _SyntaxFaultError(self._at if at is None else at, what)
