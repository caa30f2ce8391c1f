"""Static fields that a class has got since a checkpoint was written: the file is read as if it had their defaults.

As pickles do: `Linear.axes` was added, and is `None` where nobody has said otherwise. A
field without a default is a difference like any other.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from .._declare._schema import schema
from .._fields import Kind, NodeBase
from .._graph._states_json import classes_by_name
from .._static import JsonValueError, to_json
from ._manifest import Manifest
from ._structure import structure_of


def with_added_fields(manifest: Manifest) -> Manifest:
    """A manifest with the defaults of static fields that it lacks, of the classes that the program has; or itself."""
    data = manifest.structure.data
    classes = classes_by_name()
    specs = [_completed(spec, data["classes"], classes) for spec in data["specs"]]
    if specs == data["specs"]:
        return manifest
    structure = structure_of({**data, "specs": specs})
    return dataclasses.replace(manifest, structure=structure)


def _completed(
    spec: dict[str, Any], names: list[str], classes: Mapping[str, Any]
) -> dict[str, Any]:
    """The description of an object (Any: JSON), with the defaults of static fields that it lacks.

    Args:
        spec: The description.
        names: The names of the classes, by number.
        classes: The classes of the program, by name.
    """
    cls = classes.get(names[spec["node"]]) if "node" in spec else None
    # A damaged file may call a node what is none.
    if cls is None or not issubclass(cls, NodeBase):
        return spec
    added = added_fields(cls, spec["static"])
    return {**spec, "static": {**spec["static"], **added}} if added else spec


# Any: the class of a node, which is a dataclass; JSON.
def added_fields(cls: type[Any], known: Collection[str]) -> dict[str, Any]:
    """The defaults of the static fields of a class that a file does not know, as JSON."""
    added: dict[str, Any] = {}
    for name, field in schema(cls).fields.items():
        # A factory is not called: nothing runs because of what a file says.
        default = cls.__dataclass_fields__[name].default
        if (
            field.kind is Kind.STATIC
            and name not in known
            and default is not dataclasses.MISSING
        ):
            try:
                added[name] = to_json(default)
            # It stays a difference.
            except JsonValueError:
                continue
    return added
