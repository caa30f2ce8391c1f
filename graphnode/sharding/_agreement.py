"""What the processes of a mesh must have in common, compared before a model is made or moved over their devices.

JAX takes the same program and the same values in each process for granted. Where they
differ it computes with both, and an array that counts as replicated holds other numbers on
other hosts.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh

from .._compat import alias_of
from .._errors import Fault, GraphnodeError, listed
from .._inspect import aliases, iter_leaf, iter_node
from .._keys import bits_of, is_key, is_on_host
from .._paths import Path, path_str
from .._processes import Difference, Group
from .._state import State
from .._static import JsonValueError, to_json
from ._plan import Plan


class ProcessError(GraphnodeError, RuntimeError):
    """The processes that share a mesh do not do the same, or one of them has failed; all of them raise.

    Attributes:
        task: What the message begins with: `gn.sharding.init needs the same in all processes`.
        faults: Each as the text `path: which process has what`, with its parts.
    """

    task: str
    faults: tuple[Fault, ...]

    def __init__(self, task: str, faults: list[Fault]) -> None:
        self.task = task
        self.faults = tuple(faults)
        super().__init__(f"{task}: {listed(faults)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.task, list(self.faults))


def group_of(mesh: Mesh, name: str) -> Group:
    """The processes whose devices a mesh has.

    Args:
        mesh: The mesh.
        name: The function that they call, for errors.
    """
    task = f"gn.sharding.{name}"
    members = {device.process_index for device in mesh.devices.flat}
    return Group(
        # A process without a device there has nobody to agree with.
        members if jax.process_index() in members else {jax.process_index()},
        lambda faults: ProcessError(task, faults),
        f"it does not call {task} with the others",
    )


def raise_if_any(differences: list[Difference], name: str, hint: str = "") -> None:
    """Raise if processes differ.

    Raises:
        ProcessError: Names all that differs.
    """
    faults = [Fault(str(each), path=each.path, hint=hint) for each in differences]
    if faults:
        raise ProcessError(
            f"gn.sharding.{name} needs the same in all processes", faults
        )


def rows_of(model: object, plan: Plan) -> Iterator[tuple[str, str]]:
    """What the structure of a model and its plan are, by path: States, static values, mesh and activations."""
    mesh = plan.mesh
    assert isinstance(mesh, Mesh)  # others are refused before
    numbers = [int(device.id) for device in mesh.devices.flat]
    yield "the mesh", f"{dict(mesh.shape)} on devices {numbers}, {mesh.axis_types}"
    yield "activations of the rules", repr(plan.rules.activations)
    specs = {row.path: row for row in plan.rows}
    for path, leaf in iter_leaf(model):
        if isinstance(leaf, State):
            row = specs[path]
            text = f"{type(leaf).__name__} {row.dtype}{list(row.shape)} {row.spec}"
        else:
            text = _static_text(leaf)
        yield path_str(path), text
    for path, node in iter_node(model):
        yield path_str(path) or "the root", type(node).__qualname__
    for path, others in aliases(model).items():
        place = path_str(path) or "the root"
        yield f"references to {place}", ", ".join(map(path_str, others))


# Any: what a user holds as a static value.
def _static_text(value: Any) -> str:
    """The text of a static value that is the same in all processes; of one without JSON, the name of its class."""
    try:
        return json.dumps(to_json(value))
    except JsonValueError:
        # Not its `repr`, which may have an address.
        return type(value).__name__


def key_text(key: jax.Array) -> str:
    """What a random key is, for processes to compare."""
    return f"{bits_of(key).tolist()} of {key.dtype}"


def program_text(text: str) -> str:
    """What a program is, with its constants, for processes to compare."""
    return (
        f"a program of {len(text):,} characters, CRC-32 {zlib.crc32(text.encode()):08x}"
    )


# Any: values of States are pytrees.
def value_rows(values: Mapping[Path, Any]) -> Iterator[tuple[str, str]]:
    """What the arrays are that this process has whole: dtype, shape, first items, checksum of all."""
    for path, value in values.items():
        for place, leaf in jax.tree.leaves_with_path(value):
            # The path alone is that of the State's structure.
            where = f"value of {path_str(path)}{jax.tree_util.keystr(place)}"
            if not is_on_host(leaf):
                yield where, "an array with parts in each process"
                continue
            host = host_copy(leaf)
            items = [str(item) for item in host.reshape(-1)[:3]]
            more = ", ..." if host.size > 3 else ""
            checksum = zlib.crc32(np.ascontiguousarray(host).tobytes())
            yield where, f"[{', '.join(items)}{more}], CRC-32 {checksum:08x}"


def host_copy(array: jax.Array) -> npt.NDArray[Any]:
    """An array that this process has whole, as NumPy's; of keys their bits."""
    if is_key(array):
        return bits_of(array)
    # An alias, as the array itself would keep the copy.
    return np.asarray(alias_of(array))
