"""Files into plain data: strings, numbers, lists and dicts, with the place of everything that may turn out wrong.

Each format has its reader: `_yaml`, `_json`, `_toml`. `include: other.yaml` takes the
fields of another file, which must lie below the directory of the first one.
"""

import errno
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from .._containers import is_container, items
from .._errors import ConfigError
from .._gc import uncollected
from .._hints import short
from ._json import JsonReader
from ._places import MAX_BYTES, Place
from ._toml import TomlReader
from ._yaml import YamlReader

_READERS: Final[dict[str, Any]] = {
    ".yaml": YamlReader,
    ".yml": YamlReader,
    ".json": JsonReader,
    ".toml": TomlReader,
}
FORMATS: Final = ("yaml", "json", "toml")
_MAX_FILES: Final = 300


class Document:
    """One file as data.

    Attributes:
        name: How messages call it.
        parent: The document that includes it.
        root: Its data.
        is_empty: Whether it says nothing, apart from comments: as a node, one of which
            every field has its default.
        path: Where it lies, if it is a file.
    """

    def __init__(
        self, name: str, path: Path | None, parent: "Document | None" = None
    ) -> None:
        self.name, self.path, self.parent = name, path, parent
        self.root: Any = None
        self.is_empty = False
        # What the reader knows of each container, for places
        self._nodes: dict[int, Any] = {}
        self._reader: Any = None

    def fault(self, place: Place, text: str) -> str:
        """`file:line:column: text`, as much as is known of it."""
        shown = ":".join(
            map(
                str,
                (*([self.name] if self.name else []), *(place if place.line else ())),
            )
        )
        return f"{shown}: {text}" if shown else text

    def place(
        self, container: Any, key: str | int | None, *, of_key: bool = False
    ) -> Place:
        """Where an item of a container stands (its key, with `of_key`); for `None`, where the container begins."""
        node = self._nodes.get(id(container))
        if node is None or self._reader is None:
            return Place(0, 0)
        return Place(*self._reader.locate(node, key, of_key=of_key))

    def same_place(self, container: Any, other: Any) -> None:
        """Let a container stand where another one does."""
        self._nodes[id(container)] = self._nodes.get(id(other))

    def read(self, text: str, suffix: str) -> list[str]:
        """Read a text into `root`; gives the faults, of which any makes the data useless."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return [
                self.fault(
                    Place(0, 0), f"no text: {error.reason} at character {error.start}"
                )
            ]
        reader = self._reader = _READERS[suffix](text)
        self.root, self._nodes = reader.root, reader.nodes
        # JSON has no empty texts, and an empty one of TOML is a mapping.
        self.is_empty = isinstance(reader, YamlReader) and reader.is_empty
        return [self.fault(place, fault) for place, fault in reader.faults]


class Home(NamedTuple):
    """Where an item was read: the document, the container there, and its key in that."""

    document: Document
    container: Any
    key: str | int


class Files:
    """The documents of one configuration: the first file, and what it includes."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._homes: dict[tuple[int, str | int], Home] = {}
        self._kept: list[Any] = []  # what is known by its id must not go away
        self._count = 0
        self._bytes = 0

    @uncollected
    def read_text(
        self, text: str, name: str, suffix: str, path: Path | None = None
    ) -> Document:
        """Read a text; faults are in `faults`."""
        document = Document(name, path)
        self.faults += document.read(text, suffix)
        if not self.faults:
            self._include(document, path.parent.resolve() if path is not None else None)
        return document

    def read_file(self, path: Path) -> Document:
        """Read a file."""
        text, fault = self._text_of(path)
        if fault:
            self.faults.append(f"{path}: {fault}")
            return Document(str(path), path)
        return self.read_text(text, str(path), path.suffix.lower(), path)

    def home(self, document: Document, container: Any, key: str | int) -> Home:
        """Where an item comes from."""
        return self._homes.get((id(container), key), Home(document, container, key))

    def keep_home(self, container: Any, key: str | int, home: Home) -> None:
        """Let an item come from elsewhere."""
        self._kept.append(container)
        self._homes[id(container), key] = home

    def place(
        self,
        document: Document,
        container: Any,
        key: str | int | None,
        *,
        of_key: bool = False,
    ) -> str:
        """`file:line:column`, as much as is known."""
        if key is not None:
            document, container, key = self.home(document, container, key)
        return document.fault(document.place(container, key, of_key=of_key), "")[:-2]

    def _include(self, document: Document, top: Path | None) -> None:
        todo: list[tuple[Document, Any]] = [(document, document.root)]
        seen: set[int] = set()
        while todo:
            current, value = todo.pop()
            if not is_container(value) or id(value) in seen:
                continue
            seen.add(id(value))
            # Again, where the included file includes one
            while isinstance(value, dict) and "include" in value:
                home, container, _ = self.home(current, value, "include")
                at = home.place(container, "include")
                included = self._included(home, value.pop("include"), at, top)
                if included is not None:
                    self._merge(current, value, included)
            todo += [
                (self.home(current, value, key).document, child)
                for key, child in items(value, as_written=True)
            ]

    def _included(
        self, document: Document, named: object, at: Place, top: Path | None
    ) -> Document | None:
        if top is None or document.path is None:
            self.faults.append(
                document.fault(at, "include: only a file includes others")
            )
            return None
        if not isinstance(named, str):
            self.faults.append(
                document.fault(at, "include: the name of a file is expected")
            )
            return None
        try:
            path = (document.path.parent / named).resolve()
        except (
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # links in a circle; characters that no path has
            self.faults.append(
                document.fault(at, f"include: {short(named)}: {_path_fault(error)}")
            )
            return None
        if not path.is_relative_to(top):
            self.faults.append(
                document.fault(
                    at,
                    f"include: {short(named)} lies outside of the directory of the first file",
                )
            )
            return None
        chain = [
            one.path for one in reversed(list(_chain(document))) if one.path is not None
        ]
        if path in [one.resolve() for one in chain]:
            shown = " -> ".join(one.name for one in [*chain, path])
            self.faults.append(
                document.fault(at, f"include: the files include each other: {shown}")
            )
            return None
        self._count += 1
        if self._count > _MAX_FILES:
            if self._count == _MAX_FILES + 1:
                self.faults.append(
                    document.fault(at, f"include: more than {_MAX_FILES:,} files")
                )
            return None
        text, fault = self._text_of(path)
        if fault:
            self.faults.append(document.fault(at, f"include: {short(named)}: {fault}"))
            return None
        made = Document(str(document.path.parent / named), path, document)
        self._kept.append(made)
        faults = made.read(text, path.suffix.lower())
        if made.is_empty:
            made.root = {}
        self.faults += faults
        if not faults and not isinstance(made.root, dict):
            self.faults.append(
                document.fault(at, f"include: {short(named)} holds no mapping")
            )
            return None
        return None if faults else made

    def _merge(
        self, document: Document, mapping: dict[str, Any], included: Document
    ) -> None:
        """Take the fields of an included file, apart from those that are given beside."""
        own = dict(mapping)
        if own:
            # Places are looked up by the container: that of the own fields is one of
            # its own from now on.
            self._kept.append(own)
            document.same_place(own, mapping)
            for key in own:
                self._homes.setdefault((id(mapping), key), Home(document, own, key))
        for key, value in included.root.items():
            if key not in own:
                mapping[key] = value
                self._homes[id(mapping), key] = Home(included, included.root, key)

    def _text_of(self, path: Path) -> tuple[str, str]:
        """The text of a file, or what is wrong with it."""
        if path.suffix.lower() not in _READERS:
            return "", f"the name of a configuration ends with {', '.join(_READERS)}"
        try:
            # Only of a file that has an end: no device, no pipe.
            if not stat.S_ISREG(path.stat().st_mode):
                return "", "a directory" if path.is_dir() else "no regular file"
            with path.open("rb") as file:
                read = file.read(MAX_BYTES - self._bytes + 1)
            self._bytes += len(read)
            if self._bytes > MAX_BYTES:
                return (
                    "",
                    f"larger than {MAX_BYTES // 2**20} MiB, with all that is included",
                )
            # A mark of the byte order, which UTF-8 needs not
            return read.decode().removeprefix("\ufeff"), ""
        except UnicodeDecodeError as error:
            return "", f"no UTF-8: {error.reason} at byte {error.start}"
        except OSError as error:
            return "", _path_fault(error)
        except ValueError as error:
            return "", _path_fault(error)


def _chain(document: Document) -> Iterator[Document]:
    found: Document | None = document
    while found is not None:
        yield found
        found = found.parent


def check_no_faults(faults: list[str]) -> None:
    """Raise all faults, if there are any.

    Raises:
        ConfigError: There are.
    """
    if faults:
        raise ConfigError(faults)


def _path_fault(error: OSError | RuntimeError | ValueError) -> str:
    """What is wrong with a path, in words of ours where those of Python differ from version to version."""
    if isinstance(error, ValueError):
        return "a path holds no null character"
    if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:
        return "a circle of links"
    return str(error.strerror)
