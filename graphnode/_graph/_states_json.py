"""The JSON of States' descriptions, and of the classes that they name: a part of the JSON of graphdefs and layouts.

Files that nobody has checked are read here: a class is looked up among those that the
program has defined, never imported; and a reader notes faults and goes on, so that one
error has all of them.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from .._errors import ConfigError, Fault, FieldError
from .._fields import NodeBase
from .._sharding import NamedAxis
from .._state import State, StateSpec, spec_of
from .._static import JsonValueError, from_json, to_json

VERSION: Final = 1
STATE_PARTS: Final = frozenset(
    ["state", "name", "tag", "sharding", "metadata", "stacked"]
)

# A bound for files that nobody has checked.
_MAX_FAULTS: Final = 1_000


def dumps(parts: dict[str, Any]) -> str:
    """The text of a file with these parts, for `parse`."""
    return json.dumps(
        {"graphnode": VERSION, **parts}, allow_nan=False, separators=(",", ":")
    )


def parse(text: str, kind: str, parts: Sequence[str]) -> dict[str, Any]:
    """JSON as an object with lists under all parts; what is in the lists is checked by a reader.

    Args:
        text: The JSON.
        kind: What it is of, "graphdef" or "layout", for messages.
        parts: The keys of the object, beside the version.

    Raises:
        ConfigError: It is no such object; names all faults.
    """
    try:
        data = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_with_unique_keys
        )
    except RecursionError:
        raise ConfigError([f"not a {kind}: nested too deeply"]) from None
    except ValueError as error:
        raise ConfigError([f"not a {kind}: {str(error)[:200]}"]) from None
    version = data.get("graphnode") if isinstance(data, dict) else None
    if type(version) is not int or version != VERSION:
        expected = f'expected an object with "graphnode": {VERSION}'
        raise ConfigError([f"not a {kind}: {expected}"])
    unknown = [key for key in data if key not in ("graphnode", *parts)]
    missing = [part for part in parts if not isinstance(data.get(part), list)]
    faults = [f"{key[:40]!r} is not part of a {kind}" for key in unknown]
    faults += [f"{part} is missing, or not a list" for part in missing]
    if faults:
        raise ConfigError(faults[:_MAX_FAULTS])
    return data  # type: ignore[no-any-return]


def _refuse_constant(name: str) -> Any:
    """For `json.loads`: raise at NaN and the infinities, which are no JSON."""
    raise ValueError(f"JSON has no {name}")


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: an object of its keys and values; raises `ValueError` if a key stands twice."""
    # By itself, `json` takes the last of equal keys.
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return fields


def classes_by_name() -> dict[str, type]:
    """All classes of nodes and States by name, the newest of each: by full names, and by public ones if unambiguous.

    For reading and writing: a name counts only if it leads back to the class that is
    written.
    """
    by_name: dict[str, type] = {}
    full_names: dict[str, set[str]] = {}
    todo: list[type] = [NodeBase, State]
    seen: set[type] = set()
    # Later classes replace earlier ones of their name: `__subclasses__` has the newest
    # last.
    for cls in todo:  # which grows
        if cls not in seen:
            seen.add(cls)
            by_name[_full_name(cls)] = cls
            full_names.setdefault(_public_name(cls), set()).add(_full_name(cls))
            todo += cls.__subclasses__()
    for public_name, (full_name, *others) in full_names.items():
        if not others:
            by_name.setdefault(public_name, by_name[full_name])
    return by_name


def _full_name(cls: type) -> str:
    """The full name of a class, with its module.

    What a file calls a class without a public name; two classes of one name differ in
    it.
    """
    return f"{_module(cls)}.{cls.__qualname__}"


def _module(cls: type) -> str:
    """The module of a class. That of the script has another name in processes that `multiprocessing` spawns.

    For the names of classes in files.
    """
    return "__main__" if cls.__module__ == "__mp_main__" else cls.__module__


def _public_name(cls: type) -> str:
    """The name without private modules, `graphnode.nn.Linear`: in another version it may be in another one.

    So that files can still be read when a private module was renamed.
    """
    parts = [
        part
        for part in _module(cls).split(".")
        if not part.startswith("_") or part.startswith("__")
    ]
    return ".".join([*parts, cls.__qualname__])


class StateWriter:
    """Writes descriptions of States as JSON, with the table of classes that they refer to.

    Attributes:
        classes: The number of each class, by its name.
        faults: What has no JSON.
    """

    def __init__(self) -> None:
        self.classes: dict[str, int] = {}
        self.faults: list[Fault] = []
        self._class_by_name = classes_by_name()

    def check(self) -> None:
        """Raise if anything had no JSON.

        Raises:
            ConfigError: Names all.
        """
        if self.faults:
            raise ConfigError(list(dict.fromkeys(self.faults)))

    def class_number(self, cls: type) -> int:
        """The number of a class in the table of classes, which it is added to.

        So that each name stands in the file once. A class that its name does not lead
        back to is a fault.
        """
        name = _public_name(cls)
        if self._class_by_name.get(name) is not cls:
            # Another class has the public name, or none is unambiguous.
            name = _full_name(cls)
        if self._class_by_name.get(name) is not cls:
            what = f"{name} is another class by now: it was defined again"
            self.faults.append(Fault(what))
        return self.classes.setdefault(name, len(self.classes))

    def state_json(self, spec: StateSpec) -> dict[str, Any]:
        """The JSON of a State spec: its class, and of its description only what is set.

        An entry of the list "specs" of the file.
        """
        data: dict[str, Any] = {"state": self.class_number(spec.cls)}
        where = spec.cls.__name__
        if spec.name is not None:
            data["name"] = spec.name
        if spec.tag is not None:
            data["tag"] = spec.tag
        if spec.sharding is not None:
            data["sharding"] = self.value_json(f"{where}.sharding", spec.sharding)
        if spec.metadata:
            data["metadata"] = {
                key: self.value_json(f"{where}.{key}", value)
                for key, value in spec.metadata.items()
            }
        if spec.stacked:
            data["stacked"] = [list(axis) for axis in spec.stacked]
        return data

    def value_json(self, where: str, value: Any) -> Any:
        """The JSON of a static value; `None`, and a fault, if it has none.

        It goes on after a fault, so that one error names all.
        """
        try:
            return to_json(value)
        except JsonValueError as error:
            self.faults.append(Fault(str(error), path=where))
            return None


class StateReader:
    """Reads descriptions of States. It goes on after a fault, as far as the rest can be read.

    Attributes:
        faults: What is wrong, so far.
    """

    def __init__(self, class_names: list[Any]) -> None:
        self.faults: list[Fault] = []
        self._classes = self._read_classes(class_names)

    def fault(self, where: str, text: str) -> None:
        """Note what is wrong at a place; a file could have any number of faults, so they are bounded.

        One `ConfigError` then names them together.
        """
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(Fault(text, path=where))

    def _read_classes(self, names: list[Any]) -> list[Any]:
        """The classes of these names, and `None` for unknown ones.

        So that each spec refers to its class by a number.
        """
        by_name = classes_by_name()
        classes: list[Any] = []
        for at, name in enumerate(names):
            is_name = isinstance(name, str)
            cls = by_name.get(name) if is_name else None
            classes.append(cls)
            if cls is None:
                text = repr(name[:80]) if is_name else type(name).__name__
                self.fault(
                    f"classes[{at}]",
                    f"no class of nodes or States is {text}; import it first",
                )
        return classes

    def class_at(self, where: str, number: Any, base: type) -> Any:
        """The class of a number in the table of classes; `None`, with a fault, if it is not a `base`.

        For a spec of a node, and of a State: neither may name a class of the other
        sort.
        """
        if type(number) is not int or not 0 <= number < len(self._classes):
            self.fault(where, "expected the number of a class")
            return None
        cls = self._classes[number]
        if cls is not None and not issubclass(cls, base):
            what = "States" if base is State else "nodes"
            self.fault(where, f"{cls.__name__} is not a class of {what}")
            return None
        return cls

    def read_state(self, where: str, data: dict[str, Any]) -> StateSpec | None:
        """The spec of a State; `None` if it has faults.

        An entry of the list "specs" whose keys are some of `STATE_PARTS`, with "state".
        """
        cls = self.class_at(where, data["state"], State)
        sharding = self.read_value(f"{where}.sharding", data.get("sharding"))
        metadata = data.get("metadata", {})
        if not isinstance(metadata, dict):
            self.fault(f"{where}.metadata", "expected an object")
            return None
        values = {
            key: self.read_value(f"{where}.metadata.{key[:40]}", value)
            for key, value in metadata.items()
        }
        stacked = _stacked_from_json(data.get("stacked", []))
        if stacked is None:
            text = "expected a list of positions with their names, in order"
            self.fault(f"{where}.stacked", text)
        if cls is None or stacked is None:
            return None
        name, tag = data.get("name"), data.get("tag")
        try:
            return spec_of(cls, name, tag, sharding, values, stacked)
        except FieldError as error:
            self.fault(where, str(error))
            return None

    def read_value(self, where: str, data: Any) -> Any:
        """The static value that JSON stands for; `None`, with a fault, if it stands for none.

        For `_read_fields`, and for the metadata of States.
        """
        try:
            return from_json(data)
        except JsonValueError as error:
            self.fault(where, str(error))
            return None


def _stacked_from_json(data: Any) -> tuple[NamedAxis, ...] | None:
    """The named axes of a State; `None` if the data is not a list of them in order.

    For `read_state`: what `gn.stack` wrote into the description of a State.
    """
    if not isinstance(data, list):
        return None
    axes: list[NamedAxis] = []
    for pair in data:
        if not isinstance(pair, list) or [type(part) for part in pair] != [int, str]:
            return None
        axis = NamedAxis(*pair)
        # Ascending, each position once: the first is at least 0.
        if axis.position < (axes[-1].position + 1 if axes else 0):
            return None
        axes.append(axis)
    return tuple(axes)
