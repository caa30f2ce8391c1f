"""Files into plain data: strings, numbers, lists and dicts, with the place of everything that may turn out wrong.

YAML is composed by libyaml and made into data here, without recursion: scalars are those of YAML 1.2 (`no` and `12:30`
are strings, `1e-3` is a number), a repeated key is an error, an anchor gives one object, and no tag makes anything.
JSON is read as JSON, TOML as TOML. `include: other.yaml` takes the fields of another file, which must lie below the
directory of the first one.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from .._errors import ConfigError

MAX_BYTES: Final = 64 * 2**20
MAX_ITEMS: Final = 5_000_000
MAX_DEPTH: Final = 6_000

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX: Final = "tag:yaml.org,2002:"
_FLOAT: Final = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
# The core schema of YAML 1.2 (section 10.3.2), and the merge key, which it leaves out and everybody uses.
SCALARS: Final[tuple[tuple[str, str, str], ...]] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("merge", r"<<", "<"),
)


class _Loader(_Base):  # type: ignore[misc]
    """A loader that composes, with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # its own, not its parent's


class _DeepLoader(yaml.SafeLoader):
    """The same in Python: libyaml refuses more than 1,000 levels. Only its events are used, which need no recursion."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


for _name, _pattern, _first in SCALARS:
    _compiled = re.compile(rf"(?:{_pattern})\Z")
    for _letter in [*_first, *([""] if _name == "null" else [])]:
        _Loader.yaml_implicit_resolvers.setdefault(_letter, []).append((_PREFIX + _name, _compiled))


def _int(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_MAKERS: Final[dict[str, Callable[[str], Any]]] = {
    _PREFIX + "str": str,
    _PREFIX + "bool": lambda text: text.lower() == "true",
    _PREFIX + "int": _int,
    _PREFIX + "float": _float,
    _PREFIX + "null": lambda text: None,
    _PREFIX + "merge": str,
}
_MERGE: Final = _PREFIX + "merge"


class Place(NamedTuple):
    """A line and a column of a file, from 1; 0 where they are not known."""

    line: int
    column: int


class Document:
    """One file as data.

    Attributes:
        name: How messages call it.
        parent: The document that includes it.
        root: Its data.
        path: Where it lies, if it is a file.
    """

    def __init__(self, name: str, path: Path | None, parent: "Document | None" = None) -> None:
        self.name, self.path, self.parent = name, path, parent
        self.root: Any = None
        self._nodes: dict[int, Any] = {}  # the YAML node of each container, for places
        self._text = ""

    def fault(self, place: Place, text: str) -> str:
        """`file:line:column: text`, as much as is known of it."""
        shown = ":".join(map(str, (*([self.name] if self.name else []), *(place if place.line else ()))))
        return f"{shown}: {text}" if shown else text

    def place(self, container: Any, key: str | int | None, *, of_key: bool = False) -> Place:
        """Where an item of a container stands (its key, with `of_key`); for `None`, where the container begins."""
        node = self._nodes.get(id(container))
        if node is None:
            return _toml_place(self._text, key) if self._text else Place(0, 0)
        found = node
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            found = node.value[key]
        elif isinstance(node, yaml.MappingNode) and key is not None:
            pair = next((pair for pair in node.value if pair[0].value == key), None)
            found = node if pair is None else pair[0] if of_key else pair[1]
        return Place(found.start_mark.line + 1, found.start_mark.column + 1)

    def read(self, text: str, suffix: str) -> list[str]:
        """Read a text into `root`; gives the faults, of which any makes the data useless."""
        if suffix == ".toml":
            return self._read_toml(text)
        if suffix == ".json":
            try:
                self.root = json.loads(text, object_pairs_hook=_unique)
            except (json.JSONDecodeError, RecursionError, _RepeatedKeyError):
                pass  # a wrong one is told with its place below, one that is nested too deeply is read there
            else:
                if not isinstance(self.root, dict | list) or not _has_tabs(text):
                    return self._read_yaml(text)
                return []
        return self._read_yaml(text)

    def _read_toml(self, text: str) -> list[str]:
        self._text = text
        try:
            self.root = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
            place = Place(int(found[1]), int(found[2])) if found else Place(0, 0)
            return [self.fault(place, re.sub(r" \(at .*\)$", "", str(error)))]
        except RecursionError:
            return [self.fault(Place(0, 0), "nested too deeply")]
        return []

    def _read_yaml(self, text: str) -> list[str]:
        try:
            node = _compose(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(mark.line + 1, mark.column + 1) if mark is not None else Place(0, 0)
            context = f" ({error.context})" if error.context and error.problem else ""
            return [self.fault(place, f"{error.problem or error.context}{context}")]
        except yaml.YAMLError as error:  # a character that no YAML has
            position = getattr(error, "position", 0)
            line = text.count("\n", 0, position) + 1
            column = position - text.rfind("\n", 0, position)
            return [self.fault(Place(line, column), str(getattr(error, "reason", error)))]
        maker = _Maker(self)
        self.root = maker.make(node) if node is not None else None
        self._nodes = maker.nodes
        return maker.faults


class _RepeatedKeyError(ValueError):
    """A key stands twice in a JSON object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _RepeatedKeyError
    return made


def _has_tabs(text: str) -> bool:
    return "\t" in text


def _toml_place(text: str, key: str | int | None) -> Place:
    """The first line that sets a key: tomllib keeps no places."""
    if isinstance(key, str):
        found = re.search(rf'(?m)^[ \t\[]*(?:[\w."\']+\.)?["\']?{re.escape(key)}["\']?\s*(?:=|\])', text)
        if found is not None:
            start = found.start() + len(found[0]) - len(found[0].lstrip(" \t["))
            return Place(text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))
    return Place(0, 0)


def _compose(text: str) -> Any:
    """The node at the root of a YAML document.

    Raises:
        yaml.YAMLError: It is none.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except yaml.scanner.ScannerError as error:
        if "nesting depth" not in str(error.problem):
            raise
    finally:
        loader.dispose()
    return _compose_deep(text)


def _compose_deep(text: str) -> Any:
    """The same from events, level by level on a stack of our own."""
    loader: Any = _DeepLoader(text)
    anchors: dict[str, Any] = {}
    root: Any = None
    open_nodes: list[tuple[Any, list[Any]]] = []
    documents = 0

    def attach(node: Any) -> None:
        nonlocal root
        if not open_nodes:
            root = node
            return
        parent, keys = open_nodes[-1]
        if isinstance(parent, yaml.SequenceNode):
            parent.value.append(node)
        elif keys:
            parent.value.append((keys.pop(), node))
        else:
            keys.append(node)

    while loader.check_event():
        event: Any = loader.get_event()
        mark: Any = event.start_mark
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise yaml.composer.ComposerError(
                    "expected a single document", None, "but found another document", mark
                )
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise yaml.composer.ComposerError(None, None, f"found undefined alias {event.anchor!r}", mark)
            attach(anchors[event.anchor])
        elif isinstance(event, yaml.NodeEvent):
            node = _node_of(loader, event)
            if event.anchor is not None:
                anchors[event.anchor] = node
            attach(node)
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((node, []))
                if len(open_nodes) > MAX_DEPTH:
                    raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep", mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
    return root


def _node_of(loader: Any, event: Any) -> Any:
    tag, is_scalar = event.tag, isinstance(event, yaml.ScalarEvent)
    if is_scalar:
        if tag is None or tag == "!":
            tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        return yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark, style=event.style)
    cls = yaml.SequenceNode if isinstance(event, yaml.SequenceStartEvent) else yaml.MappingNode
    if tag is None or tag == "!":
        tag = loader.resolve(cls, None, event.implicit)
    return cls(tag, [], event.start_mark, event.end_mark)


class _Maker:
    """Data from composed nodes, each made once: an alias is the same object again."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults: list[str] = []
        self.nodes: dict[int, Any] = {}
        self._made: dict[int, Any] = {}
        self._merged: dict[int, dict[Any, Any]] = {}
        self._todo: list[tuple[Any, Any]] = []

    def make(self, root: Any) -> Any:
        """The data of a node."""
        made = self._value(root)
        items = 0
        while self._todo:
            node, container = self._todo.pop()
            items += len(node.value)
            if items > MAX_ITEMS:
                self._fault(node, f"more than {MAX_ITEMS:,} items")
                break
            if isinstance(node, yaml.SequenceNode):
                container.extend([self._value(item) for item in node.value])
            else:
                container.update({key: self._value(item) for key, item in self._pairs(node).items()})
        return made

    def _value(self, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            maker = _MAKERS.get(node.tag)
            if maker is None:
                self._fault(node, f"no tags are known here; found {_shown_tag(node.tag)}")
                return None
            try:
                return maker(node.value)
            except ValueError as error:  # a tag that its text contradicts, or an integer of too many digits
                self._fault(node, f"{_shown_tag(node.tag)} does not fit: {error}")
                return None
        made = self._made.get(id(node))
        if made is None:
            made = [] if isinstance(node, yaml.SequenceNode) else {}
            if node.tag not in (_PREFIX + "seq", _PREFIX + "map"):
                self._fault(node, f"no tags are known here; found {_shown_tag(node.tag)}")
            self._made[id(node)] = made
            self.nodes[id(made)] = node
            self._todo.append((node, made))
        return made

    def _pairs(self, mapping: Any) -> dict[Any, Any]:
        """The nodes of a mapping by key, those of merged ones after its own, which win."""
        found: dict[Any, Any] = {}
        merges: list[Any] = []
        first: dict[Any, Any] = {}
        for key_node, value in mapping.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(key_node, "a key is a string")
            elif key_node.tag == _MERGE:
                merges += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif key_node.tag != _PREFIX + "str":
                self._fault(key_node, f"a key is a string; write {key_node.value!r} in quotes")
            elif key_node.value in first:
                line = first[key_node.value].start_mark.line + 1
                self._fault(key_node, f"duplicate key {key_node.value!r} (first at line {line})")
            else:
                first[key_node.value], found[key_node.value] = key_node, value
        for merged in merges:
            if not isinstance(merged, yaml.MappingNode):
                self._fault(merged, "`<<` merges mappings")
            else:
                for key, value in self._flat(merged).items():
                    found.setdefault(key, value)
        return found

    def _flat(self, mapping: Any) -> dict[Any, Any]:
        # Once for each mapping, so that merges of merges cost no more than they give; a cycle merges nothing.
        if id(mapping) not in self._merged:
            self._merged[id(mapping)] = {}
            self._merged[id(mapping)] = self._pairs(mapping)
        return self._merged[id(mapping)]

    def _fault(self, node: Any, text: str) -> None:
        if len(self.faults) < 1_000:
            mark = node.start_mark
            self.faults.append(self.document.fault(Place(mark.line + 1, mark.column + 1), text))


def _shown_tag(tag: str) -> str:
    return tag.replace(_PREFIX, "!!")


class Files:
    """The documents of one configuration: the first file, and what it includes."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._homes: dict[tuple[int, str | int], tuple[Document, Any]] = {}
        self._kept: list[Any] = []  # what is known by its id must not go away

    def read_text(self, text: str, name: str, suffix: str, path: Path | None = None) -> Document:
        """Read a text; faults are in `faults`."""
        document = Document(name, path)
        self.faults += document.read(text, suffix)
        if not self.faults:
            self._include(document, path.parent.resolve() if path is not None else None)
        return document

    def read_file(self, path: Path) -> Document:
        """Read a file."""
        text, fault = _text_of(path)
        if fault:
            self.faults.append(f"{path}: {fault}")
            return Document(str(path), path)
        return self.read_text(text, str(path), path.suffix.lower(), path)

    def home(self, document: Document, container: Any, key: str | int) -> tuple[Document, Any]:
        """The document, and the container there, that an item comes from."""
        return self._homes.get((id(container), key), (document, container))

    def place(self, document: Document, container: Any, key: str | int | None, *, of_key: bool = False) -> str:
        """`file:line:column`, as much as is known."""
        if key is not None:
            document, container = self.home(document, container, key)
        return document.fault(document.place(container, key, of_key=of_key), "")[:-2]

    def _include(self, document: Document, top: Path | None) -> None:
        todo: list[tuple[Document, Any]] = [(document, document.root)]
        seen: set[int] = set()
        while todo:
            current, value = todo.pop()
            if not isinstance(value, dict | list) or id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, dict) and "include" in value:
                included = self._included(current, value, top)
                if included is not None:
                    self._merge(current, value, included)
            keys = value if isinstance(value, dict) else range(len(value))
            todo += [(self.home(current, value, key)[0], value[key]) for key in keys]

    def _included(self, document: Document, mapping: dict[str, Any], top: Path | None) -> Document | None:
        named = mapping.pop("include")
        at = document.place(mapping, "include")
        if top is None or document.path is None:
            self.faults.append(document.fault(at, "include: only a file includes others"))
            return None
        if not isinstance(named, str):
            self.faults.append(document.fault(at, "include: the name of a file is expected"))
            return None
        path = (document.path.parent / named).resolve()
        if not path.is_relative_to(top):
            self.faults.append(document.fault(at, f"include: {named} lies outside of {top}"))
            return None
        chain = [one.path for one in _chain(document) if one.path is not None]
        if path in [one.resolve() for one in chain]:
            shown = " -> ".join(one.name for one in reversed([*chain, path]))
            self.faults.append(document.fault(at, f"include: the files include each other: {shown}"))
            return None
        if len(self._kept) > 1_000:
            self.faults.append(document.fault(at, "include: more than 1,000 files"))
            return None
        text, fault = _text_of(path)
        if fault:
            self.faults.append(document.fault(at, f"include: {named}: {fault}"))
            return None
        made = Document(str(document.path.parent / named), path, document)
        self._kept.append(made)
        faults = made.read(text, path.suffix.lower())
        self.faults += faults
        if not faults and not isinstance(made.root, dict):
            self.faults.append(document.fault(at, f"include: {named} holds no mapping"))
            return None
        return None if faults else made

    def _merge(self, document: Document, mapping: dict[str, Any], included: Document) -> None:
        """Take the fields of an included file, apart from those that are given beside."""
        own = dict(mapping)
        if own:
            # Places are looked up by the container: that of the own fields is one of its own from now on.
            self._kept.append(own)
            document._nodes[id(own)] = document._nodes.get(id(mapping))
            self._homes |= {(id(mapping), key): (document, own) for key in own}
        for key, value in included.root.items():
            if key not in own:
                mapping[key] = value
                self._homes[id(mapping), key] = (included, included.root)


def _chain(document: Document) -> Iterator[Document]:
    found: Document | None = document
    while found is not None:
        yield found
        found = found.parent


def _text_of(path: Path) -> tuple[str, str]:
    """The text of a file, or what is wrong with it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return "", f"larger than {MAX_BYTES // 2**20} MiB"
        return path.read_bytes().decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        return "", f"no UTF-8: {error.reason} at byte {error.start}"
    except OSError as error:
        return "", f"{error.strerror}"


def check_no_faults(faults: list[str]) -> None:
    """Raise all faults, if there are any.

    Raises:
        ConfigError: There are.
    """
    if faults:
        raise ConfigError(faults)
