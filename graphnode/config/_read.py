"""Files into plain data: strings, numbers, lists and dicts, with the place of everything that may turn out wrong.

Each format has its reader: `_yaml`, `_json`, `_toml`. `include: other.yaml` takes the
fields of another file, which must lie below the directory of the first one.
"""

import errno
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from .._errors import ConfigError, Fault, Place
from .._gc import gc_paused
from .._hints import short
from .._nesting import is_container, items
from ._formats import BY_SUFFIX, FORMATS, Reader
from ._limits import MAX_BYTES

_MAX_FILES: Final = 300
"""Files in all: where each includes two, their number doubles with every level."""


class _UnreadableError(Exception):
    """A file cannot be read, or not be included where it is: raised in this module, and noted as a fault in it."""


class Document:
    """One file as data.

    Attributes:
        name: How messages call it.
        parent: The document that includes it.
        root: Its data.
        is_empty: Whether it has nothing but comments: as a node, one of which
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
        self._reader: Reader | None = None

    def place(
        self, container: Any, key: str | int | None, *, of_key: bool = False
    ) -> Place:
        """Where an item of a container stands (its key, with `of_key`); for `None`, where the container begins."""
        node = self._nodes.get(id(container))
        if node is None or self._reader is None:
            return Place(file=self.name)
        place = self._reader.locate(node, key, of_key=of_key)
        return place._replace(file=self.name)

    def same_place(self, container: Any, other: Any) -> None:
        """Let a container have the place of another one: `_merge` copies a mapping, of which faults name the line."""
        self._nodes[id(container)] = self._nodes.get(id(other))

    def read(self, text: str, format: str) -> list[Fault]:
        """Read a text of a format into `root`; gives the faults, of which any makes the data useless."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            what = f"not a text: {error.reason} at character {error.start}"
            return [Fault(what, place=Place(file=self.name))]
        reader = self._reader = FORMATS[format].reader(text)
        self.root, self._nodes = reader.root, reader.nodes
        self.is_empty = reader.is_empty
        return [
            fault.at(fault.place._replace(file=self.name)) for fault in reader.faults
        ]


class Home(NamedTuple):
    """Where an item was read: the document, the container there, and its key in that."""

    document: Document
    container: Any
    key: str | int


class Files:
    """The documents of one configuration: the first file, and what it includes."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._homes: dict[tuple[int, str | int], Home] = {}
        self._kept: list[Any] = []  # what is known by its id must not go away
        self._count = 0
        self._bytes = 0

    @gc_paused
    def read_text(
        self, text: str, name: str, format: str, path: Path | None = None
    ) -> Document:
        """Read the first text of a configuration, with all that it includes; faults are in `faults`."""
        document = Document(name, path)
        self.faults += document.read(text, format)
        if not self.faults:
            self._include(document, path.parent.resolve() if path is not None else None)
        return document

    def read_file(self, path: Path) -> Document:
        """Read the first file of a configuration, with all that it includes; faults are in `faults`."""
        try:
            text = self._text_of(path)
        except _UnreadableError as error:
            self.faults.append(Fault(str(error), place=Place(file=str(path))))
            return Document(str(path), path)
        return self.read_text(text, str(path), BY_SUFFIX[path.suffix.lower()], path)

    def home(self, document: Document, container: Any, key: str | int) -> Home:
        """Where an item was read, as faults name it: not where it stands, if it was included or renamed."""
        return self._homes.get((id(container), key), Home(document, container, key))

    def keep_home(self, container: Any, key: str | int, home: Home) -> None:
        """Note where an item was read that a rename has put at `key` of a container, so that faults name that place."""
        self._kept.append(container)
        self._homes[id(container), key] = home

    def place(
        self,
        document: Document,
        container: Any,
        key: str | int | None,
        *,
        of_key: bool = False,
    ) -> Place:
        """Where an item stands in the file that it comes from, or else its container; see `Document.place`."""
        if key is not None:
            document, container, key = self.home(document, container, key)
        return document.place(container, key, of_key=of_key)

    def _include(self, document: Document, top: Path | None) -> None:
        """Merge all that a document includes; `top` is the directory that the files must lie in or below."""
        todo: list[tuple[Document, Any]] = [(document, document.root)]
        seen: set[int] = set()
        while todo:
            current, value = todo.pop()
            if not is_container(value) or id(value) in seen:
                continue
            seen.add(id(value))
            # Again, where the included file includes one
            while isinstance(value, dict) and "include" in value:
                # The name is relative to the file that it stands in, which may be an
                # included one.
                home, container, _ = self.home(current, value, "include")
                at = home.place(container, "include")
                try:
                    included = self._included(home, value.pop("include"), top)
                except _UnreadableError as error:
                    self.faults.append(Fault(str(error), path="include", place=at))
                else:
                    if included is not None:
                        self._merge(current, value, included)
            todo += [
                (self.home(current, value, key).document, child)
                for key, child in items(value, as_written=True)
            ]

    def _included(
        self, document: Document, name: object, top: Path | None
    ) -> Document | None:
        """The document that an `include` names; `None` if it has faults of its own, which are noted.

        Raises:
            _UnreadableError: The name is not one of a file that may be included here.
        """
        shown_name, path = _included_path(document, name, top)
        self._count += 1
        if self._count > _MAX_FILES:
            if self._count > _MAX_FILES + 1:  # reported once
                return None
            raise _UnreadableError(f"more than {_MAX_FILES:,} files")
        try:
            text = self._text_of(path)
        except _UnreadableError as error:
            raise _UnreadableError(f"{short(name)}: {error}") from None
        included = Document(shown_name, path, document)
        # Places know its containers by their ids, also where it is merged away.
        self._kept.append(included)
        faults = included.read(text, BY_SUFFIX[path.suffix.lower()])
        if faults:
            self.faults += faults
            return None
        if included.is_empty:
            included.root = {}
        if not isinstance(included.root, dict):
            raise _UnreadableError(f"{short(name)} holds no mapping")
        return included

    def _merge(
        self, document: Document, mapping: dict[str, Any], included: Document
    ) -> None:
        """Take the fields of an included file into the mapping that includes it; those given there win."""
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

    def _text_of(self, path: Path) -> str:
        """The text of a file, within limits: another suffix, a device, or too many bytes is an error.

        Raises:
            _UnreadableError: The file has none, or too much.
        """
        if path.suffix.lower() not in BY_SUFFIX:
            endings = ", ".join(BY_SUFFIX)
            raise _UnreadableError(f"the name of a configuration ends with {endings}")
        try:
            # Only of a file that has an end: no device, no pipe.
            if not stat.S_ISREG(path.stat().st_mode):
                what = "a directory" if path.is_dir() else "not a regular file"
                raise _UnreadableError(what)
            with path.open("rb") as file:
                # One byte too many shows that a file is too large, however large.
                data = file.read(MAX_BYTES - self._bytes + 1)
        except (OSError, ValueError) as error:
            raise _UnreadableError(_path_fault(error)) from None
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            size = f"{MAX_BYTES // 2**20} MiB"
            raise _UnreadableError(f"larger than {size}, with all that is included")
        try:
            # Without the mark of byte order, which UTF-8 does not need.
            return data.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            what = f"not UTF-8: {error.reason} at byte {error.start}"
            raise _UnreadableError(what) from None


def _included_path(
    document: Document, name: object, top: Path | None
) -> tuple[str, Path]:
    """A file that a document includes: how messages call it, and its path.

    Raises:
        _UnreadableError: It may not be included there.
    """
    if top is None or document.path is None:
        raise _UnreadableError("only a file includes others")
    if not isinstance(name, str):
        raise _UnreadableError("the name of a file is expected")
    beside = document.path.parent / name
    try:
        path = beside.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        # Links in a circle; characters that no path has.
        raise _UnreadableError(f"{short(name)}: {_path_fault(error)}") from None
    # Checked after links were followed, so that none leads out.
    if not path.is_relative_to(top):
        raise _UnreadableError(
            f"{short(name)} lies outside of the directory of the first file"
        )
    including = list(_chain(document))[::-1]
    if path in [file.resolve() for file in including]:
        circle = " -> ".join(file.name for file in [*including, path])
        raise _UnreadableError(f"the files include each other: {circle}")
    return str(beside), path


def _chain(document: Document) -> Iterator[Path]:
    """The files of a document and of all that include it, from the inside out, among which it must not include one."""
    including: Document | None = document
    while including is not None:
        if including.path is not None:
            yield including.path
        including = including.parent


def check_no_faults(faults: Sequence[Fault]) -> None:
    """Raise all faults that a pass over files has noted, if there are any.

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
