"""The manifest of a checkpoint: what it holds, as a record and as strict JSON.

    {"format": 1,
     "versions": {"graphnode": "0.1.0", "jax": "0.10.2"},
     "graph": {...},                                          what `GraphDef.to_json` writes
     "states": [{"path": "model.weight", "shape": [2, 3], "dtype": "float32", "crc32": 7},
                {"path": "cache", "form": {"list": ["leaf"]}, "leaves": [{"int": 3}]}],
     "fields": {"graphnode.nn.Linear": [["weight", "state", "Float[Array, 'in out']"]]},
     "config": null,
     "metadata": null}

The States are in the order of the graph, each at its first path. A file is data from a
stranger: see `_structure` for the graph, and `_leaf` for what is said of values.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .._paths import Path, path_str
from ._forms import LEAF, Form, read_form
from ._leaf import Leaf, leaf_from_json, leaf_to_json
from ._structure import Structure, StructureFaultError, structure_of

FORMAT: Final = 1
_PARTS: Final = (
    "format",
    "versions",
    "graph",
    "states",
    "fields",
    "config",
    "metadata",
)


class ManifestFaultError(ValueError):
    """What is wrong with a manifest; the text says where. Raised and caught within `checkpoint`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """What a manifest says of the value of one State.

    Attributes:
        form: How it nests.
        keys: The path of each leaf within the value.
        leaves: The leaves, in that order.
    """

    form: Form
    keys: Sequence[Path]
    leaves: Sequence[Leaf]

    def __str__(self) -> str:
        return ", ".join(map(str, self.leaves[:4])) + ", ..." * (len(self.leaves) > 4)


@dataclasses.dataclass(frozen=True, eq=False)
class Manifest:
    """What a checkpoint holds, without its arrays.

    `gn.checkpoint.manifest` reads it; none of the classes of the model is needed.

    Attributes:
        structure: The graph, as names and numbers.
        values: What each State holds, in the order of `structure.states`.
        fields: The declared fields of each class of nodes: name, kind and contract.
        versions: Of graphnode and of JAX, which have written the checkpoint.
        config: The configuration of the model as text, if there is one.
        metadata: What the program has added: JSON.
    """

    structure: Structure
    values: Sequence[Value]
    fields: Mapping[str, Sequence[tuple[str, str, str]]]
    versions: Mapping[str, str]
    config: str | None = None
    # Any: whatever JSON the program has written.
    metadata: Any = None

    @functools.cached_property
    def by_state(self) -> dict[int, Value]:
        """The value of each State, by its number in the structure."""
        return dict(zip(self.structure.states, self.values, strict=True))

    def stored(self, number: int) -> Iterator[tuple[str, Leaf]]:
        """The leaves of a State, each with the name of its array in the store."""
        path, value = self.structure.paths[number], self.by_state[number]
        for key, leaf in zip(value.keys, value.leaves, strict=True):
            yield path_str((*path, *key)), leaf

    # What `print` shows is for `_show`, which stands to the right.
    def __repr__(self) -> str:
        return f"<Manifest of {len(self.values)} States>"


def manifest_to_json(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON data; `manifest_of` is the inverse."""
    paths = manifest.structure.paths
    states = [
        _state_to_json(path_str(paths[number]), value)
        for number, value in zip(
            manifest.structure.states, manifest.values, strict=True
        )
    ]
    return {
        "format": FORMAT,
        "versions": dict(manifest.versions),
        "graph": manifest.structure.data,
        "states": states,
        "fields": manifest.fields,
        "config": manifest.config,
        "metadata": manifest.metadata,
    }


def _state_to_json(path: str, value: Value) -> dict[str, Any]:
    """For `manifest_to_json`: what is said of one State."""
    if value.form == LEAF:
        return {"path": path, **leaf_to_json(value.leaves[0])}
    leaves = [leaf_to_json(leaf) for leaf in value.leaves]
    return {"path": path, "form": value.form, "leaves": leaves}


def manifest_of(data: Any) -> Manifest:
    """The manifest that JSON data stands for.

    Raises:
        ManifestFaultError: It stands for none; says where.
    """
    if not isinstance(data, dict):
        raise ManifestFaultError("the manifest is not an object")
    version = data.get("format")
    if type(version) is not int or version != FORMAT:
        found = version if type(version) is int else "none"
        raise ManifestFaultError(
            f"this version of graphnode reads manifests of format {FORMAT}; found {found}"
        )
    if set(data) != set(_PARTS):
        raise ManifestFaultError(f"the manifest has the parts {', '.join(_PARTS)}")
    try:
        structure = structure_of(data["graph"])
    except StructureFaultError as error:
        raise ManifestFaultError(f"graph: {error}") from None
    config = data["config"]
    if config is not None and not isinstance(config, str):
        raise ManifestFaultError("config is a text, or null")
    return Manifest(
        structure,
        _read_states(data["states"], structure),
        _read_fields(data["fields"]),
        _read_versions(data["versions"]),
        config,
        data["metadata"],
    )


def _read_states(data: Any, structure: Structure) -> list[Value]:
    """For `manifest_of`: what is said of each State of the graph."""
    if not isinstance(data, list) or len(data) != len(structure.states):
        raise ManifestFaultError(f"states: expected a list of {len(structure.states)}")
    values: list[Value] = []
    for at, number in enumerate(structure.states):
        try:
            values.append(_read_state(data[at], structure.paths[number]))
        except (ValueError, RecursionError) as error:
            raise ManifestFaultError(f"states[{at}]: {error}") from None
    return values


def _read_state(data: Any, path: Path) -> Value:
    """For `_read_states`: what is said of the State at a path."""
    if not isinstance(data, dict) or data.get("path") != path_str(path):
        raise ValueError(f"expected the State at {path_str(path)}")
    rest = {key: part for key, part in data.items() if key != "path"}
    if "form" not in rest:
        return Value(LEAF, [()], [leaf_from_json(rest)])
    if set(rest) != {"form", "leaves"} or not isinstance(rest["leaves"], list):
        raise ValueError("a State has a form and leaves, or is a leaf")
    form, keys = read_form(rest["form"])
    if len(keys) != len(rest["leaves"]):
        raise ValueError(
            f"the form has {len(keys)} leaves, and {len(rest['leaves'])} follow"
        )
    return Value(form, keys, [leaf_from_json(leaf) for leaf in rest["leaves"]])


def _read_fields(data: Any) -> dict[str, list[tuple[str, str, str]]]:
    """For `manifest_of`: the declared fields of each class."""
    if not isinstance(data, dict):
        raise ManifestFaultError("fields is not an object")
    fields: dict[str, list[tuple[str, str, str]]] = {}
    for cls, rows in data.items():
        if not isinstance(rows, list) or not all(map(_is_field, rows)):
            raise ManifestFaultError(
                "fields: a field has a name, a kind and a contract"
            )
        fields[cls] = [(name, kind, contract) for name, kind, contract in rows]
    return fields


def _is_field(row: Any) -> bool:
    """For `_read_fields`: whether JSON is a row of name, kind and contract."""
    is_row = isinstance(row, list) and len(row) == 3
    return is_row and all(isinstance(part, str) for part in row)


def _read_versions(data: Any) -> dict[str, str]:
    """For `manifest_of`: the versions of what has written the checkpoint."""
    if not isinstance(data, dict) or not all(
        isinstance(text, str) for text in data.values()
    ):
        raise ManifestFaultError("versions are texts by name")
    return dict(data)


def parse(text: str | bytes) -> Any:
    """JSON as data, without what the json module lets pass: repeated keys, NaN.

    Raises:
        ManifestFaultError: It is not JSON.
    """
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_with_unique_keys
        )
    except RecursionError:
        raise ManifestFaultError("it is nested too deeply") from None
    except ValueError as error:
        raise ManifestFaultError(f"it is not JSON: {str(error)[:100]}") from None


def _refuse_constant(name: str) -> Any:
    """For `parse`: raise at NaN and the infinities."""
    raise ValueError(f"JSON has no {name}")


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `parse`: an object of its keys and values; raises if a key stands twice."""
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return data
