"""Load a node from a checkpoint: a new one of its class, around the values of the file, with no constructor run."""

import json
import os
from typing import Any, TypeVar

from .. import (
    _filters_json as _filters_json,  # so that filters among static values are read
)
from .._declare._node import Node
from .._errors import CheckpointError, ConfigError, Fault, PathError
from .._graph._graphdef import GraphDef
from .._graph._unflatten import build
from .._hints import did_you_mean
from .._paths import Path, parse_path, path_str
from ._added import with_added_fields
from ._choose import Shardings, sharding_at, sharding_of_each
from ._compare import is_same_class, place_text
from ._files import absolute, located, read_manifest
from ._forms import other_pytrees
from ._manifest import Manifest
from ._processes import together
from ._progress import Progress, Report
from ._read import Wanted, read_values
from ._structure import OPAQUE, Structure, class_text

N = TypeVar("N", bound=Node)


def load(
    path: "str | os.PathLike[str]",
    cls: type[N],
    /,
    *,
    at: "str | Path" = "",
    shardings: "Shardings | None" = None,
    progress: Progress = None,
) -> N:
    """Make a node from a checkpoint alone: structure, static values, sharing and arrays are those that were saved.

    No constructor runs. The classes of its nodes and States must be imported; nothing is
    imported, called or evaluated because of what the file says.

    Args:
        path: The directory.
        cls: The class of the node, or a base of it.
        at: Where the node stands in the tree that was saved: `"model"`.
        shardings: As of `restore`, by paths from the node on.
        progress: As of `restore`.

    Returns:
        A new node, of the class that was saved.

    Raises:
        CheckpointError: There is no checkpoint, or no such node in it; a class is not
            imported, or is another one by now; a static value was not described; or
            the file is damaged. Names all.
        ModuleNotFoundError: Orbax is not installed.

    Example:
        >>> gn.checkpoint.save("runs/layer", {"model": gn.nn.Linear(2, 3)})
        >>> gn.checkpoint.load("runs/layer", gn.nn.Linear, at="model").out_features
        3

    See also: `restore`, which reads into live nodes; `save`.
    """
    task = f"cannot load from {os.fspath(path)}"
    with together(task):
        report = Report(progress, f"read {os.fspath(path)}", is_counted=True)
        directory = located(absolute(path), task)
        manifest, identity = read_manifest(directory, task)
        manifest = with_added_fields(manifest)
        structure = manifest.structure
        number = _number_at(structure, _as_path(at, task), cls, task)
        _check_described(structure, number, task)
        graphdef = _graphdef_of(structure, number, task)
        if not issubclass(graphdef.type, cls):
            what = f"is a {graphdef.type.__name__}, not a {cls.__name__}"
            raise CheckpointError(
                task, [Fault(what, path=place_text(structure.paths[number]))]
            )
        numbers = [at for at in structure.below(number) if structure.specs[at].is_state]
        _check_values(manifest, numbers, task)
        given = sharding_of_each(graphdef.layout, (), shardings)
        wanted: list[Wanted] = []
        for rank, number in enumerate(numbers):
            keys, shardings_of_one = manifest.by_state[number].keys, given.get(rank, {})
            targets = [sharding_at(shardings_of_one, key) for key in keys]
            wanted.append(Wanted(number, targets))
    with together(task), report:
        values = read_values(directory, identity, manifest, wanted, task, report)
    node: N = build(graphdef, values)
    return node


def _as_path(at: "str | Path", task: str) -> Path:
    """For `load`: the argument `at` as keys."""
    try:
        return parse_path(at) if isinstance(at, str) else at
    except PathError as error:
        raise CheckpointError(task, [f"at: {error}"]) from None


def _number_at(structure: Structure, path: Path, cls: type[Node], task: str) -> int:
    """For `load`: the number of the node at a path of the file.

    Raises:
        CheckpointError: There is none; says where nodes of the class are.
    """
    number = structure.find(path)
    if number is not None and not structure.specs[number].is_state:
        return number
    what = "there is no node" if number is None else "there is a State, and not a node"
    own_name = f"{cls.__module__}.{cls.__qualname__}"
    places = [
        path_str(structure.paths[at])
        for at, spec in enumerate(structure.specs)
        if class_text(spec.cls) == class_text(own_name)
        or is_same_class(spec.cls, own_name)
    ]
    hint = did_you_mean(path_str(path), places) if path else ""
    if not hint and places:
        hint = f"a {cls.__name__} is at {', '.join(places[:3])}: pass at={places[0]!r}"
    raise CheckpointError(task, [Fault(what, path=place_text(path), hint=hint)])


def _check_described(structure: Structure, number: int, task: str) -> None:
    """For `load`: raise if the file does not say what a static value is.

    Raises:
        CheckpointError: Names all such values.
    """
    faults: list[Fault] = []
    for at in structure.below(number):
        spec = structure.specs[at]
        for name, value in spec.parts.items():
            if isinstance(value, dict) and OPAQUE in value:
                path = path_str((*structure.paths[at], name))
                what = f"the file does not say what it is, {value[OPAQUE]}"
                hint = "restore(...) into a live node, which has it" + _REMEDIES.get(
                    name, ""
                )
                faults.append(Fault(what, path=path, hint=hint))
    if faults:
        raise CheckpointError(task, faults)


_REMEDIES = {"tx": "; gn.optim.call makes transformations that files describe"}


def _graphdef_of(structure: Structure, number: int, task: str) -> GraphDef[Any]:
    """For `load`: the structure of the node, of the classes that the program has.

    Raises:
        CheckpointError: A class is not there, or has changed; names all.
    """
    try:
        return GraphDef.from_json(json.dumps(structure.part(number)))
    except ConfigError as error:
        raise CheckpointError(task, error.faults) from None


def _check_values(manifest: Manifest, numbers: list[int], task: str) -> None:
    """For `load`: raise if a value holds a pytree that only a live value says how to make.

    Raises:
        CheckpointError: Names all such States.
    """
    faults: list[Fault] = []
    for number in numbers:
        names = other_pytrees(manifest.by_state[number].form)
        if names:
            what = f"holds a {names[0]}, which a file alone does not say how to make"
            path = path_str(manifest.structure.paths[number])
            faults.append(Fault(what, path=path, hint="restore(...) into a live node"))
    if faults:
        raise CheckpointError(task, faults)
