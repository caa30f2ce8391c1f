"""The graph that a file describes, once its parts have other paths: for `load`, which makes nodes of it.

    items of a file, where changes have put them          JSON of a graph
    model       node        (Net)                         Net      held {"enc": object}
    model.enc   node        (Linear)                      Linear   held {"weight": object}
    model.enc.weight        State

The fields of a node are those whose paths are below it, and nest as they did in the file
where nothing in them has changed.
"""

from typing import Any

from .._errors import CheckpointError, Fault
from .._graph._states_json import classes_by_name
from .._paths import Path, path_order, path_str
from ._changes import Changes
from ._item import FIELD, NODE, REFERENCE, STATE, STATIC, Item
from ._items import LAYOUT, is_layout, items_of, other_paths
from ._manifest import Manifest
from ._plan_changes import Outcome, planned
from ._structure import VERSION, Spec, Structure, structure_of
from ._was import nodes_of_file, renamed_classes, renames_of


def changed_outcome(
    manifest: Manifest, changes: Changes, cls: type, task: str
) -> Outcome:
    """What changes, and what is said by `was=`, make of a file.

    Raises:
        CheckpointError: They do not fit; names all.
    """
    structure, others = manifest.structure, other_paths(manifest.structure)
    outcome = planned(items_of(manifest, changes, None), changes, others)
    by_name = classes_by_name()
    known = {**by_name, **renamed_classes(by_name, cls)}
    nodes = [
        (path, known[name])
        for path, name in nodes_of_file(outcome.items.values(), structure)
        if name in known
    ]
    renames, faults = renames_of(outcome.items.values(), nodes, follow=True)
    if renames:
        changes = changes + renames
        outcome = planned(items_of(manifest, changes, None), changes, others)
    faults += outcome.faults
    for change, _ in outcome.fills:
        what = f"{change!r}: load has no live node whose values could stay"
        faults.append(Fault(what, hint="restore(...) into one"))
    if faults:
        raise CheckpointError(task, faults)
    return outcome


def rebuilt(
    manifest: Manifest, outcome: Outcome, at: Path, cls: type, task: str
) -> tuple[Manifest, list[Item]]:
    """The node at a path of what changes make of a file: as if it had been saved so, and what each State is.

    Raises:
        CheckpointError: There is no graph of these paths; names all faults.
    """
    builder = _Builder(manifest.structure, outcome, at, cls)
    data = builder.data()
    faults = [*builder.faults, *_layout_faults(outcome, manifest.structure, at)]
    if faults:
        raise CheckpointError(task, faults)
    structure = structure_of(data)
    paths = [structure.paths[number] for number in structure.states]
    items = [builder.items[(*at, *path)] for path in paths]
    values = [item.value for item in items if item.value is not None]
    changed = Manifest(structure, values, manifest.fields, manifest.versions)
    return changed, items


class _Builder:
    """Makes the JSON of a graph of items."""

    def __init__(
        self, structure: Structure, outcome: Outcome, at: Path, cls: type
    ) -> None:
        self._structure = structure
        self._at = at
        self.faults: list[Fault] = []
        self.items = {
            path: item for path, item in outcome.items.items() if path[: len(at)] == at
        }
        self._classes: dict[str, int] = {}
        self._specs: list[dict[str, Any]] = []
        self._new_names = {
            name: next(text for text, cls in by_name.items() if cls is new)
            for by_name in [classes_by_name()]
            for name, new in renamed_classes(by_name, cls).items()
        }
        # Where what a later reference leads to is now.
        self._place: dict[int, Path] = {}
        numbers = {path: number for number, path in enumerate(structure.paths)}
        for path, item in self.items.items():
            if item.kind in (STATE, NODE) and len(item.sources) == 1:
                self._place.setdefault(numbers[item.sources[0]], path)
        self._number = numbers
        # The static values of each node, and its fields without States and nodes.
        self._fields: dict[Path, dict[str, Item]] = {}
        for path, item in self.items.items():
            if item.kind in (STATIC, FIELD):
                self._fields.setdefault(path[:-1], {})[str(path[-1])] = item

    def data(self) -> dict[str, Any]:
        """The JSON."""
        edges = self._edges()
        tokens: list[dict[str, int]] = []
        seen: dict[Path, int] = {}
        todo = [self._at]
        while todo:
            path = todo.pop()
            item = self.items[path]
            if item.kind == REFERENCE:
                target = self._target(item)
                if target is None:
                    continue
                path, item = target, self.items[target]
            if path in seen:
                tokens.append({"again": seen[path]})
                continue
            seen[path] = len(seen)
            tokens.append({"new": len(self._specs)})
            if item.kind == STATE:
                self._specs.append(self._state_spec(item))
                continue
            below = sorted(edges.get(path, []), key=path_order)
            self._specs.append(self._node_spec(path, item, below))
            todo += [(*path, *edge) for edge in reversed(below)]
        return {
            "graphnode": VERSION,
            "classes": list(self._classes),
            "specs": self._specs,
            "tokens": tokens,
        }

    def _edges(self) -> dict[Path, list[Path]]:
        """For `data`: the paths of the States and nodes within each node."""
        edges: dict[Path, list[Path]] = {}
        for path, item in self.items.items():
            if item.kind not in (STATE, NODE, REFERENCE) or path == self._at:
                continue
            for cut in range(len(path) - 1, len(self._at) - 1, -1):
                above = self.items.get(path[:cut])
                if above is not None and above.kind != STATIC:
                    if above.kind == NODE:
                        edges.setdefault(path[:cut], []).append(path[cut:])
                        break
                    what = "it would stand below what is no node"
                    self.faults.append(Fault(what, path=path_str(path)))
                    break
        return edges

    def _target(self, item: Item) -> Path | None:
        """For `data`: where that is now to which a later reference leads."""
        number: int = item.key[1] if isinstance(item.key, tuple) else -1
        place = self._place.get(number)
        if place is None:
            what = (
                f"what it refers to is gone, {path_str(self._structure.paths[number])}"
            )
            self.faults.append(Fault(what, path=path_str(item.path)))
        return place

    def _class(self, name: str) -> int:
        name = self._new_names.get(name, name)
        return self._classes.setdefault(name, len(self._classes))

    def _state_spec(self, item: Item) -> dict[str, Any]:
        """For `data`: the description of a State: that of the first one that it is made of."""
        number = self._number[item.sources[0]]
        spec = self._structure.specs[number]
        parts = dict(spec.parts)
        if item.key is None:
            # It is of axes, which may be others now.
            parts.pop("sharding", None)
        return {"state": self._class(spec.cls), **parts}

    def _node_spec(self, path: Path, item: Item, edges: list[Path]) -> dict[str, Any]:
        """For `data`: what a node is."""
        number = self._number[item.sources[0]]
        spec = self._structure.specs[number]
        static: dict[str, Any] = {}
        held: dict[str, Any] = {}
        fields: dict[str, list[Path]] = {}
        for edge in edges:
            fields.setdefault(str(edge[0]), []).append(edge[1:])
        for place, other in self._fields.get(path, {}).items():
            partner, name = other.key if isinstance(other.key, tuple) else (0, "")
            source = self._structure.specs[partner]
            if other.kind == STATIC:
                static[place] = source.parts[name]
            elif place not in fields:
                held[place] = source.held[name]
        for name, inner in fields.items():
            held[name] = self._shape_before(path, name, inner, spec) or _shape(inner)
        ordered = {name: held[name] for name in sorted(held)}
        return {"node": self._class(spec.cls), "static": static, "held": ordered}

    def _shape_before(
        self, path: Path, name: str, edges: list[Path], spec: Spec
    ) -> Any:
        """For `_node_spec`: how a field nested in the file, under its name there; `None` where it has changed."""
        first = self.items[(*path, name, *edges[0])].sources[0]
        size = len(edges[0])
        former = first[len(first) - size - 1 :][:1]
        before = [edge[1:] for edge in spec.edges if edge[:1] == former]
        return spec.held[str(former[0])] if before == edges else None


def _shape(edges: list[Path]) -> Any:
    """For `_node_spec`: how a field nests that has these paths, by recursion; lists where the keys are positions."""
    if edges == [()]:
        return "object"
    parts: dict[Any, list[Path]] = {}
    for edge in edges:
        parts.setdefault(edge[0] if edge else "", []).append(edge[1:])
    if list(parts) == list(range(len(parts))):
        return {"list": [_shape(part) for part in parts.values()]}
    return {"dict": [[str(key), _shape(part)] for key, part in parts.items()]}


def _layout_faults(outcome: Outcome, structure: Structure, at: Path) -> list[Fault]:
    """Optimizers whose parameters have other paths than in the file: what they say of these is theirs alone."""
    faults: list[Fault] = []
    optimizers = {
        path
        for path, item in outcome.items.items()
        if item.kind == NODE
        and path[: len(at)] == at
        and isinstance(item.key, int)
        and is_layout(structure.specs[item.key].parts.get(LAYOUT))
    }
    for path in optimizers:
        moved = [
            item
            for place, item in outcome.items.items()
            if place[: len(path)] == path
            and item.mirror is not None
            and (item.steps or item.sources[0][-1:] != place[-1:])
        ]
        if moved:
            what = "is an optimizer of parameters that had other paths"
            hint = "restore(...) into a live one"
            faults.append(Fault(what, path=path_str(path), hint=hint))
    return faults
