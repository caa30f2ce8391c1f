"""YAML text into plain data with the places of all of it, without recursion.

libyaml composes, and data is made here: scalars are those of YAML 1.2 (`no` and `12:30`
are strings, `1e-3` is a number), a repeated key is an error, an anchor gives one
object, and no tag makes anything.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError
from yaml.scanner import ScannerError

from .._errors import Fault, Place
from .._hints import short
from ._limits import MAX_DEPTH, MAX_DIGITS, MAX_FAULTS

MAX_DEEP: Final = 128 * 2**10
"""Characters of a text with more than 1,000 levels, which is read in Python, slowly."""
MAX_MERGED: Final = 100_000
"""Fields that `<<` copies: of merges of merges there may be many more than the file has letters."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX: Final = "tag:yaml.org,2002:"
_FLOAT: Final = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
# The core schema of YAML 1.2 (section 10.3.2), and the merge key, which it leaves out
# and everybody uses.
SCALARS: Final[tuple[tuple[str, str, str], ...]] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("merge", r"<<", "<"),
)
_PATTERNS: Final = {
    _PREFIX + name: re.compile(rf"(?:{pattern})\Z") for name, pattern, _ in SCALARS
}


class _Loader(_Base):  # type: ignore[misc]
    """A loader that composes, with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # its own, not its parent's


class _DeepLoader(yaml.SafeLoader):
    """A loader in Python, as libyaml refuses more than 1,000 levels; for its events only, which need no recursion."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
    possible_simple_keys: dict[int, Any]

    # PyYAML's own look for every token at what may turn out to be a key on each level,
    # which costs the square of the depth. The oldest comes first, so that looking at
    # one or two will do.

    def next_possible_simple_key(self) -> int | None:
        """The number of the oldest token that may turn out to begin a key.

        PyYAML asks for it at every token.
        """
        return next(
            (key.token_number for key in self.possible_simple_keys.values()), None
        )

    def stale_possible_simple_keys(self) -> None:
        """Drop what can begin a key no more: it is of another line, or more than 1,024 characters back."""
        here: Any = self
        for level, key in list(itertools.islice(self.possible_simple_keys.items(), 2)):
            if key.line != here.line or here.index - key.index > 1024:
                if key.required:
                    context = "while scanning a simple key"
                    what = "could not find expected ':'"
                    raise ScannerError(context, key.mark, what, here.get_mark())
                del self.possible_simple_keys[level]


# PyYAML looks up what a scalar may be by its first letter, an empty one by "".
for _name, _, _first in SCALARS:
    for _letter in [*_first, *([""] if _name == "null" else [])]:
        _Loader.yaml_implicit_resolvers.setdefault(_letter, []).append(
            (_PREFIX + _name, _PATTERNS[_PREFIX + _name])
        )


def _int(text: str) -> int:
    """A decimal, octal or hexadecimal integer; a `ValueError` if it is too long."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of more than {MAX_DIGITS:,} digits")
    # With base 0 for all, `007` would be an error.
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(text: str) -> float:
    """A number, infinity or NaN, as YAML writes them."""
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_MAKERS: Final[dict[str, Callable[[str], Any]]] = {
    _PREFIX + "str": str,
    _PREFIX + "bool": lambda text: text.lower() == "true",
    _PREFIX + "int": _int,
    _PREFIX + "float": _float,
    _PREFIX + "null": lambda text: None,
    # As a value, `<<` is a text.
    _PREFIX + "merge": str,
}
_MERGE: Final = _PREFIX + "merge"
# An anchor at the start of a node, or behind its tag.
_ANCHOR: Final = re.compile(r"(?:!\S*\s+)?&")


class YamlReader:
    """One YAML text as data: each composed node is made once, so that an alias is the same object again.

    Attributes:
        root: The data.
        is_empty: Whether there is none: a text of blanks and comments.
        nodes: What `locate` takes, by the id of each container.
        faults: What is wrong, with its place.
    """

    def __init__(self, text: str) -> None:
        # Without the mark of byte order, which libyaml does not count.
        self._text = text = text.removeprefix("\ufeff")
        self.root: Any = None
        self.is_empty = False
        self.nodes: dict[int, Any] = {}
        self.faults: list[Fault] = []
        self._containers: dict[int, Any] = {}
        self._todo: list[tuple[Any, Any, bool]] = []
        # By the id of a mapping: its own fields and what it merges; then both in one.
        self._split: dict[int, tuple[dict[str, Any], list[Any]]] = {}
        self._flattened: dict[int, dict[str, Any]] = {}
        self._merged = 0
        self._pairs: dict[int, dict[str, tuple[Any, Any]]] = {}
        try:
            self._make(_compose(text))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            context = f" ({error.context})" if error.context and error.problem else ""
            what = f"{error.problem or error.context}{context}"
            self.faults.append(Fault(what, place=_place(mark)))
        except ReaderError as error:
            # A character that no YAML has.
            place = self._place_of_character(error.position)
            self.faults.append(Fault(str(error.reason), place=place))

    def _place_of_character(self, position: int) -> Place:
        """The line and column of a character that YAML does not have."""
        before = self._text[:position]
        if not issubclass(_Base, yaml.SafeLoader):  # libyaml counts bytes
            before = self._text.encode()[:position].decode(errors="ignore")
        return Place(before.count("\n") + 1, len(before) - before.rfind("\n"))

    def locate(self, node: Any, key: str | int | None, *, of_key: bool) -> Place:
        """Where an item of a container stands (its key, with `of_key`), or the container: the place of a fault."""
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            return _place(node.value[key].start_mark)
        pair = self._pairs_of(node).get(key) if isinstance(key, str) else None
        if pair is None:
            return _place(node.start_mark)
        key_node, value_node = pair
        return _place((key_node if of_key else value_node).start_mark)

    def _pairs_of(self, node: Any) -> dict[str, tuple[Any, Any]]:
        """The items of a mapping by key, each with the node of the key, which has the place.

        Made once, when a place is asked for.
        """
        if not isinstance(node, yaml.MappingNode):
            return {}
        if id(node) not in self._pairs:
            # Reversed, so that of equal keys the first one stays.
            pairs = [pair for pair in reversed(node.value) if _is_scalar(pair[0])]
            self._pairs[id(node)] = {pair[0].value: pair for pair in pairs}
        return self._pairs[id(node)]

    def _make(self, root: Any) -> None:
        """Make the data of a composed document: containers are filled one after the other, from `_todo`."""
        # A document of nothing but `---` has a root: a plain scalar of no characters.
        self.is_empty = root is None or (
            _is_scalar(root) and root.tag == _PREFIX + "null" and not root.value
        )
        self.root = None if root is None else self._value(root)
        while self._todo:
            node, container, is_copy = self._todo.pop()
            if isinstance(node, yaml.SequenceNode):
                container.extend(
                    [self._value(item, is_merged=is_copy) for item in node.value]
                )
                continue
            fields = self._flat(node)
            own, _ = self._own(node)
            for key, item in fields.items():
                container[key] = self._value(item, is_merged=is_copy or key not in own)

    def _value(self, node: Any, *, is_merged: bool = False) -> Any:
        """The data of a node; a container is filled later. `is_merged`: it came by `<<`."""
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        # `<<` takes the fields of a mapping, not its nodes: two that merge the same one
        # would share what is in it.
        is_copy = is_merged and not self._has_anchor(node)
        container = None if is_copy else self._containers.get(id(node))
        if container is not None:
            return container
        container = [] if isinstance(node, yaml.SequenceNode) else {}
        if node.tag not in (_PREFIX + "seq", _PREFIX + "map"):
            self._tag_fault(node)
        self.nodes[id(container)] = node
        if not is_copy:
            self._containers[id(node)] = container
        # Copies of copies double with each level: past the limit they stay empty.
        elif not self._may_merge(node, len(node.value)):
            return container
        # Filled later, so that nothing recurses.
        self._todo.append((node, container, is_copy))
        return container

    def _tag_fault(self, node: Any) -> None:
        """Note that a node has a tag (`!name`), which could stand for any class: no file chooses one by it."""
        name = _format_tag(node.tag)
        self._fault(node, f"tags are not supported; found {name}")

    def _has_anchor(self, node: Any) -> bool:
        """Whether a list or mapping has an anchor, of which a composed node does not know: its text begins with it.

        A part with one stays shared, also where `<<` copies the mapping around it.
        """
        start = node.start_mark.index
        # A mapping in block style begins with its first key, whose anchor it would be.
        if isinstance(node, yaml.MappingNode) and node.value:
            key, _ = node.value[0]
            if key.start_mark.index == start:
                return False
        return _ANCHOR.match(self._text, start) is not None

    def _scalar(self, node: Any) -> Any:
        """The value of a scalar by its tag; `None` if its text does not fit, which is noted."""
        tag = node.tag
        make = _MAKERS.get(tag)
        if make is None:
            self._tag_fault(node)
            return None
        pattern = _PATTERNS.get(tag)
        is_quoted = node.style is not None
        if pattern is not None and is_quoted and not pattern.match(node.value):
            self._fault(node, f"{_format_tag(tag)} does not fit {short(node.value)}")
            return None
        try:
            return make(node.value)
        except ValueError as error:
            # A plain scalar that contradicts its tag, or an integer of too many digits.
            self._fault(node, f"{_format_tag(tag)} does not fit: {error}")
            return None

    def _flat(self, mapping: Any) -> dict[str, Any]:
        """The nodes of a mapping by key: its own, then those that `<<` merges into it, of which its own win."""
        # A merged mapping is flattened before what merges it. One that is open already
        # merges itself, and is not waited for.
        stack, is_open = [mapping], set[int]()
        while stack:
            top = stack[-1]
            _, merges = self._own(top)
            waiting = [
                merged
                for merged in merges
                if id(merged) not in self._flattened and id(merged) not in is_open
            ]
            if waiting and id(top) not in self._flattened:
                is_open.add(id(top))
                stack += waiting
                continue
            stack.pop()
            if id(top) not in self._flattened:
                self._flatten(top)
        return self._flattened[id(mapping)]

    def _flatten(self, mapping: Any) -> None:
        """Note the fields of a mapping with those that `<<` merges, when the fields of all that it merges are known."""
        own, merges = self._own(mapping)
        self._flattened[id(mapping)] = fields = dict(own)
        for merged in merges:
            if id(merged) not in self._flattened or merged is mapping:
                self._fault(mapping, "`<<` merges a mapping into itself")
            elif self._may_merge(mapping, len(self._flattened[id(merged)])):
                for key, value in self._flattened[id(merged)].items():
                    fields.setdefault(key, value)

    def _may_merge(self, node: Any, count: int) -> bool:
        """Whether `<<` may copy `count` more fields, of all that it may; notes once that it may not."""
        before = self._merged
        self._merged += count
        # True once alone, as the count only grows.
        if before <= MAX_MERGED < self._merged:
            self._fault(node, f"`<<` copies more than {MAX_MERGED:,} fields")
        return self._merged <= MAX_MERGED

    def _own(self, mapping: Any) -> tuple[dict[str, Any], list[Any]]:
        """The nodes that a mapping itself has by key, and the mappings that it merges by `<<`."""
        if id(mapping) not in self._split:
            first: dict[str, Any] = {}
            own: dict[str, Any] = {}
            merges: dict[int, Any] = {}
            for key, value in mapping.value:
                if self._is_key(key, first):
                    first[key.value], own[key.value] = key, value
                elif _is_scalar(key) and key.tag == _MERGE:
                    merges |= {id(merged): merged for merged in self._mappings(value)}
            self._split[id(mapping)] = own, list(merges.values())
        return self._split[id(mapping)]

    def _is_key(self, node: Any, first: dict[str, Any]) -> bool:
        """Whether a node is a key that a mapping did not have before.

        Notes what is neither a key nor `<<`; `first` has the nodes of the keys before.
        """
        if not _is_scalar(node):
            self._fault(node, "a key is a string")
        elif node.tag == _MERGE:
            return False
        elif node.tag != _PREFIX + "str":
            self._fault(node, f"a key is a string; write {short(node.value)} in quotes")
        elif node.value in first:
            line = first[node.value].start_mark.line + 1
            self._fault(
                node, f"duplicate key {short(node.value)} (first at line {line})"
            )
        else:
            return True
        return False

    def _mappings(self, value: Any) -> Iterator[Any]:
        """The mappings that the value of a `<<` has: it is one, or a list of some."""
        nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for node in nodes:
            if isinstance(node, yaml.MappingNode):
                yield node
            else:
                self._fault(node, "`<<` merges mappings")

    def _fault(self, node: Any, text: str) -> None:
        """Note what is wrong with a node, at its place; not more than a report has."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(text, place=_place(node.start_mark)))


def comment_in(text: str) -> str | None:
    """The first comment of a YAML text that has no faults, with its `#`; `None` if there is none.

    For `override`: in `name=run #3`, more likely a text is meant.
    """
    text = text.removeprefix("\ufeff")
    if "#" not in text:
        return None
    try:
        tokens = list(yaml.scan(text, Loader=_Base))
    except ScannerError:  # of more than 1,000 levels
        tokens = list(yaml.scan(text, Loader=_DeepLoader))
    at = 0
    # What no token has is blanks and comments.
    for token in tokens:
        skipped = text[at : token.start_mark.index]
        if "#" in skipped:
            return skipped[skipped.index("#") :].partition("\n")[0].rstrip()
        at = max(at, token.end_mark.index)
    return None


def _is_scalar(node: Any) -> bool:
    """Whether a node is a scalar: a list or mapping is no key."""
    return isinstance(node, yaml.ScalarNode)


def _place(mark: Any) -> Place:
    """The place of a mark, as faults name it: PyYAML counts from 0, and faults from 1."""
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place()


def _format_tag(tag: str) -> str:
    """A tag as a file writes it, for messages: `!!int`."""
    return tag.replace(_PREFIX, "!!")[:80]


def _compose(text: str) -> Any:
    """The node at the root of a YAML document.

    Raises:
        yaml.YAMLError: It is not one YAML document.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except ScannerError as error:
        # libyaml tells this error by its words only.
        if "nesting depth" not in str(error.problem):
            raise
        if len(text) > MAX_DEEP:
            what = f"nested more than 1,000 levels deep, which YAML may be up to {MAX_DEEP // 1024} KiB; write JSON"
            raise ComposerError(None, None, what, error.problem_mark) from None
    finally:
        loader.dispose()
    return _DeepComposer(text).compose()


class _DeepComposer:
    """Composes a document from events, on a stack of its own: PyYAML's composer recurses with the depth."""

    def __init__(self, text: str) -> None:
        self._loader: Any = _DeepLoader(text)
        self._root: Any = None
        self._anchors: dict[str, Any] = {}
        # Each node that is not closed yet; of a mapping, with a key that has no value yet.
        self._open: list[tuple[Any, list[Any]]] = []
        self._has_started = False

    def compose(self) -> Any:
        """The node at the root.

        Raises:
            yaml.YAMLError: It is not one YAML document.
        """
        while self._loader.check_event():
            self._take(self._loader.get_event())
        return self._root

    def _take(self, event: Any) -> None:
        """Take one event: the start of a document or node, an alias, or the end of a container."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._start_document(event.start_mark)
        elif isinstance(event, yaml.AliasEvent):  # before nodes, of which it is one
            self._attach(self._anchored(event))
        elif isinstance(event, yaml.NodeEvent):
            self._take_node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()

    def _start_document(self, mark: Any) -> None:
        """Raise `ComposerError` at a second document: a text is one."""
        if self._has_started:
            context, what = "expected a single document", "but found another document"
            raise ComposerError(context, None, what, mark)
        self._has_started = True

    def _anchored(self, event: Any) -> Any:
        """The node that an alias refers to."""
        if event.anchor not in self._anchors:
            what = f"found undefined alias {event.anchor!r}"
            raise ComposerError(None, None, what, event.start_mark)
        return self._anchors[event.anchor]

    def _take_node(self, event: Any) -> None:
        """Attach the node that an event starts; a container is open then."""
        mark = event.start_mark
        node = _node_of(self._loader, event)
        # Before its items, which may refer back to it.
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append((node, []))
            if len(self._open) > MAX_DEPTH:
                what = f"nested more than {MAX_DEPTH:,} levels deep"
                raise ComposerError(None, None, what, mark)

    def _attach(self, node: Any) -> None:
        """Put a new node into the innermost that is open: as an item, as a key, or as the value of the key before."""
        if not self._open:
            self._root = node
            return
        parent, keys = self._open[-1]
        if isinstance(parent, yaml.SequenceNode):
            parent.value.append(node)
        elif keys:
            parent.value.append((keys.pop(), node))
        else:
            keys.append(node)


def _node_of(loader: Any, event: Any) -> Any:
    """The node that an event starts, without items, which later events give it."""
    start, end = event.start_mark, event.end_mark
    if isinstance(event, yaml.ScalarEvent):
        tag = _tag_of(loader, event, yaml.ScalarNode, event.value)
        return yaml.ScalarNode(tag, event.value, start, end, style=event.style)
    is_sequence = isinstance(event, yaml.SequenceStartEvent)
    cls: Any = yaml.SequenceNode if is_sequence else yaml.MappingNode
    return cls(_tag_of(loader, event, cls, None), [], start, end)


def _tag_of(loader: Any, event: Any, cls: Any, value: str | None) -> Any:
    """The tag of a node, from which its value is made: that of the text, or else what its value is resolved to."""
    has_tag = event.tag is not None and event.tag != "!"
    return event.tag if has_tag else loader.resolve(cls, value, event.implicit)
