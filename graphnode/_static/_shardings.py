"""What JAX lays arrays out by: the axes of a mesh, which files may name, and meshes, which they may not."""

from typing import Any, Final, TypeAlias

from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from ._json_parts import VALUES_SCHEMA, items
from ._kind import (
    ByName,
    DataForm,
    ExpectedError,
    Json,
    StaticKind,
    Target,
    WritePart,
    tagged,
)
from ._object_key import object_key

_Spec: TypeAlias = Any  # JAX has no types for it
_SPEC_CLASS: Final[Any] = PartitionSpec

_NAMES: Final = {"type": ["string", "null", "array"], "items": {"type": "string"}}
_MESH_BY_NAME: Final = ByName(
    "{value} stands for devices, which differ from one machine to the next: make it in the program, and register it "
    "with gn.config.register(name, value)"
)


def _is_axis(axis: object) -> bool:
    """Whether data of a file says how one axis is laid out: by a mesh axis, by several, or not at all."""
    if isinstance(axis, (list, tuple)):
        return all(isinstance(name, str) for name in axis)
    return axis is None or isinstance(axis, str)


def _spec_to_data(value: _Spec, write_part: WritePart) -> Json:
    """For a config file: a partition spec as a list, with a mesh axis, a list of these, or null for each axis."""
    return [
        list(axis) if isinstance(axis, tuple) else write_part(axis) for axis in value
    ]


def _spec_from_data(data: Json, target: Target) -> _Spec:
    """The partition spec that a list of mesh axes stands for."""
    if isinstance(data, PartitionSpec):
        return data
    if isinstance(data, (list, tuple)) and all(map(_is_axis, data)):
        # Tuples, as JAX has them: a list has no hash.
        return _SPEC_CLASS(
            *[tuple(axis) if isinstance(axis, list) else axis for axis in data]
        )
    raise ExpectedError(
        "a list of mesh axes: a name, a list of names or null for each axis"
    )


SHARDINGS: Final[tuple[StaticKind[Any], ...]] = (
    StaticKind[_Spec](
        name="partition spec",
        classes=(PartitionSpec,),
        key=object_key,
        is_annotation=True,
        json=tagged(
            "partition_spec",
            lambda value, write_part: [write_part(axis) for axis in value],
            lambda data, read_part: _SPEC_CLASS(*items(data, read_part)),
            VALUES_SCHEMA,
        ),
        data=DataForm(
            _spec_to_data,
            _spec_from_data,
            lambda target: {
                "type": "array",
                "items": _NAMES,
                "description": "The mesh axes of each array axis.",
            },
        ),
        type_names={"PartitionSpec": PartitionSpec},
    ),
    StaticKind[Any](
        name="mesh",
        classes=(Mesh, AbstractMesh),
        key=object_key,
        is_annotation=True,
        json=_MESH_BY_NAME,
        data=_MESH_BY_NAME,
    ),
)
