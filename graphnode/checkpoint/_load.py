"""Load a node from a checkpoint: a new one of its class, around the values of the file, with no constructor run."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from jax.sharding import Sharding

from .. import (
    _filters_json as _filters_json,  # so that filters among static values are read
)
from .._compat import weakly_typed
from .._declare._node import Node
from .._errors import CheckpointError, ConfigError, Fault, PathError
from .._graph._graphdef import GraphDef
from .._graph._unflatten import build
from .._hints import did_you_mean
from .._paths import Path, parse_path, path_str
from ._added import with_added_fields
from ._changes import Change, Changes, as_changes
from ._choose import Given, Shardings, sharding_at, sharding_of_each
from ._compare import is_same_class, place_text
from ._embedded import embedded_manifest, is_array_file
from ._files import absolute, located, read_manifest
from ._fit import value_faults
from ._forms import other_pytrees
from ._item import NODE, Item
from ._manifest import Manifest
from ._plan_changes import Outcome, planned
from ._processes import together
from ._progress import Meter, Progress
from ._read import Checkpoint, Wanted, read_items
from ._rebuild import changed_outcome, rebuilt
from ._report import Report, report_of, tell
from ._source_values import WantedArray, values_of
from ._sources import opened
from ._structure import OPAQUE, Structure, class_text
from ._was import may_rename

N = TypeVar("N", bound=Node)


def load(
    path: "str | os.PathLike[str]",
    cls: type[N],
    /,
    *,
    at: "str | Path" = "",
    shardings: "Shardings | None" = None,
    changes: "Changes | Iterable[Change]" = (),
    report: "Callable[[Report], object] | None" = None,
    progress: Progress = None,
) -> N:
    """Make a node from a checkpoint alone: structure, static values, sharing and arrays are those that were saved.

    No constructor runs. The classes of its nodes and States must be imported; nothing is
    imported, called or evaluated because of what the file says.

    Args:
        path: The directory that `save` has written, or a file of safetensors that `write`
            has.
        cls: The class of the node, or a base of it.
        at: Where the node stands in the tree that was saved, once it is changed:
            `"model"`.
        shardings: As of `restore`, by paths from the node on.
        changes: How the classes have changed since: see `Changes`. Not for a file.
        report: As of `restore`.
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
    items: list[Item] | None = None
    with together(task):
        start, changes = _as_path(at, task), as_changes(changes)
        if is_array_file(absolute(path)):
            return _load_file(absolute(path), cls, start, shardings, changes, task)
        meter = Meter(progress, f"read {os.fspath(path)}", is_counted=True)
        directory = located(absolute(path), task)
        manifest, identity = read_manifest(directory, task)
        source = Checkpoint(directory, identity, manifest, task, meter)
        if changes or may_rename([manifest.structure], cls):
            outcome = changed_outcome(manifest, changes, cls, task)
            if _is_node(outcome, start):
                manifest, items = rebuilt(manifest, outcome, start, cls, task)
                start = ()
        manifest = with_added_fields(manifest)
        graphdef, numbers = _described(manifest, start, cls, task)
        given = sharding_of_each(graphdef.layout, (), shardings)
        places = [given.get(rank, {}) for rank in range(len(numbers))]
    with together(task), meter:
        if items is None:
            pairs = zip(numbers, places, strict=True)
            wanted = [_wanted(manifest, number, place) for number, place in pairs]
            values = source.read_all(wanted)
        else:
            values = _read_items(source, items, places)
            tell(_report(items, manifest), f"loaded from {os.fspath(path)}", report)
    node: N = build(graphdef, values)
    return node


def _load_file(
    path: str,
    cls: type[N],
    start: Path,
    shardings: "Shardings | None",
    changes: Changes,
    task: str,
) -> N:
    """For `load`: a node of a file of arrays, by what its metadata say of the model.

    Raises:
        CheckpointError: They say nothing, the file has not what they say, or there are
            changes.
    """
    if changes:
        what = "changes= are for what save has written"
        hint = "read(..., into=model) takes them for a file"
        raise CheckpointError(task, [Fault(what, hint=hint)])
    manifest, to_model = embedded_manifest(path, task)
    manifest = with_added_fields(manifest)
    graphdef, numbers = _described(manifest, start, cls, task)
    given = sharding_of_each(graphdef.layout, (), shardings)
    with opened(path, task) as source:
        outcome = planned(source.items(to_model, None), to_model, {})
        faults = list(outcome.faults)
        wanted: list[WantedArray] = []
        for rank, number in enumerate(numbers):
            state_path = manifest.structure.paths[number]
            value, item = manifest.by_state[number], outcome.items.get(state_path)
            if item is None:
                faults.append(Fault("missing in the file", path=path_str(state_path)))
                continue
            unfit = value_faults(state_path, value, item)
            faults += unfit
            # A State of the manifest may have no array, or several.
            if not unfit:
                sharding = sharding_at(given.get(rank, {}), ())
                wanted.append(WantedArray(item.expression, value.leaves[0], sharding))
        if faults:
            raise CheckpointError(task, faults)
        values = values_of(source, wanted)
    for at, one in enumerate(wanted):
        if one.leaf.weak:
            values[at] = weakly_typed(values[at])
    node: N = build(graphdef, values)
    return node


def _described(
    manifest: Manifest, start: Path, cls: type[N], task: str
) -> tuple[GraphDef[Any], list[int]]:
    """For `load`: the structure of the node at a path, and the numbers of its States.

    Raises:
        CheckpointError: There is none, or it cannot be made.
    """
    structure = manifest.structure
    number = _number_at(structure, start, cls, task)
    _check_described(structure, number, task)
    graphdef = _graphdef_of(structure, number, task)
    if not issubclass(graphdef.type, cls):
        what = f"is a {graphdef.type.__name__}, not a {cls.__name__}"
        raise CheckpointError(
            task, [Fault(what, path=place_text(structure.paths[number]))]
        )
    numbers = [at for at in structure.below(number) if structure.specs[at].is_state]
    _check_values(manifest, numbers, task)
    return graphdef, numbers


def _wanted(manifest: Manifest, number: int, place: Given) -> Wanted:
    """For `load`: a State to read, with the places for its arrays."""
    keys = manifest.by_state[number].keys
    return Wanted(number, [sharding_at(place, key) for key in keys])


def _is_node(outcome: Outcome, path: Path) -> bool:
    """For `load`: whether changes put a node at a path."""
    item = outcome.items.get(path)
    return item is not None and item.kind == NODE


def _read_items(
    source: Checkpoint, items: Sequence[Item], places: Sequence[Given]
) -> list[Any]:
    """For `load`: the values of States, as changes give them."""

    def wanted(at: int) -> Wanted:
        number = items[at].key
        assert isinstance(number, int)
        return _wanted(source.manifest, number, places[at])

    def place(at: int) -> tuple[str, Sharding | None]:
        value = items[at].value
        assert value is not None
        return value.leaves[0].kind, sharding_at(places[at], value.keys[0])

    return read_items(source, items, wanted, place)


def _report(items: Sequence[Item], manifest: Manifest) -> Report:
    """For `load`: what was read from where."""
    paths = [manifest.structure.paths[number] for number in manifest.structure.states]
    return report_of(zip(paths, items, strict=True), (), ())


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
