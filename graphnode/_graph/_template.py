"""Templates: a class's compiled visit and rebuild, and `NodeSpec`, what one node adds to a structure.

Data in: a schema. Data out: a function from a live node to its spec and its children,
and one from specs and children to live nodes. Both are generated source, straight-line
over the class's fields, since a loop over field records costs three times as much; only
nodes that hold containers are filled by a loop. No annotation is read from here on.
"""

import enum
import sys
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final, TypeAlias

from .._caches import LOCK, Interned, own_names
from .._declare._annotations import Form
from .._declare._node import plan_of
from .._declare._plan import place_of
from .._declare._schema import Field, late_fault, schema
from .._declare._tracked import Place, TrackedDict, TrackedList
from .._declare._unpickling import Declared, contracts_text, declared_by
from .._errors import SchemaError, StructureError, listed
from .._fields import Kind
from .._hints import with_article
from .._paths import Key, Path
from .._registered import pickled
from .._static import Uncompiled, static_key, template_there
from .._versions import Version, first_version


class _Unset(enum.Enum):
    UNSET = "unset"

    def __str__(self) -> str:
        return self.value


# The shape of what a field holds, apart from which objects: REF for a State or node,
# None, UNSET, or a container: (list, n) with n REFs, (list, shapes), (tuple, shapes),
# (dict, keys, shapes). Keys are sorted, as paths are. A model may go through a dict in
# the order that it was filled in: where that is another one, it is a fourth part.
Shape: TypeAlias = Any
REF: Final = True
UNSET: Final = _Unset.UNSET
_END: Final = object()

# What a walk collects beside children: the nodes and containers it read, and their
# versions before it did.
Watch: TypeAlias = tuple[list[Any], list[object]]


class NodeSpec:
    """What one node adds to a structure: class, static values, shapes of its other fields. Interned in the template."""

    __slots__ = ("__weakref__", "edges", "shapes", "statics", "template")

    template: "Template"
    statics: tuple[Any, ...]
    shapes: tuple[Shape, ...]
    edges: tuple[Path, ...]

    @property
    def cls(self) -> type[Any]:
        """The node's class."""
        return self.template.cls

    def forms(self) -> Iterator[tuple[Path, Form]]:
        """The path, within the node, of each State or node, and the form of its place; in the order of the edges."""
        for field, shape in zip(self.template.dynamic_fields, self.shapes, strict=True):
            yield from _forms_of(shape, field.form, (field.name,))

    def __reduce__(self) -> tuple[Callable[..., "NodeSpec"], tuple[object, ...]]:
        # By name: a class that has got, lost or renamed a field since must not give a
        # value to another one.
        statics = {
            name: pickled(value)
            for name, value in zip(self.template.statics, self.statics, strict=True)
        }
        shapes = {
            field.name: shape
            for field, shape in zip(
                self.template.dynamic_fields, self.shapes, strict=True
            )
        }
        return _restore_spec, (self.cls, statics, shapes, declared_by(self.cls))

    def __repr__(self) -> str:
        return f"<NodeSpec of {self.cls.__name__}>"


class Template:
    """The compiled visit and rebuild of one node class."""

    def __init__(self, cls: type[Any]) -> None:
        compiled, plan = schema(cls), plan_of(cls)
        if (fault := late_fault(cls)) is not None:
            raise SchemaError(cls.__name__, [fault])
        self.cls = cls
        self.statics: tuple[str, ...] = tuple(sorted(plan.statics))
        self.dynamic_fields: tuple[Field, ...] = compiled.dynamic_fields
        self.specs: Interned[Hashable, NodeSpec] = Interned()
        self.visit: Callable[[Any, Watch], tuple[NodeSpec, Sequence[Any]]] = (
            _generate_visit(self)
        )
        self.fills: dict[tuple[Shape, ...], Callable[..., None]] = {}

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # Only what pickles the class itself comes here (see `Kept`), as a `NodeSpec`
        # names the class.
        return template_there, (self.cls, own_names(self.cls))

    def spec(self, statics: tuple[Any, ...], shapes: tuple[Shape, ...]) -> NodeSpec:
        """The one spec with these static values (in the order of their names) and shapes (of the dynamic_fields)."""
        key = (tuple(map(static_key, statics)), shapes)
        return self.specs.of(key, lambda: self._new_spec(statics, shapes))

    def _new_spec(
        self, statics: tuple[Any, ...], shapes: tuple[Shape, ...]
    ) -> NodeSpec:
        spec = NodeSpec()
        spec.template, spec.statics, spec.shapes = self, statics, shapes
        named = zip(self.dynamic_fields, shapes, strict=True)
        spec.edges = tuple(
            chain.from_iterable(
                edges_of(shape, (field.name,)) for field, shape in named
            )
        )
        return spec

    def visit_any(self, node: Any, watch: Watch) -> tuple[NodeSpec, Sequence[Any]]:
        """The visit that reads any node, unset fields included; the generated one falls back to it."""
        fields = node.__dict__
        children: list[Any] = []
        shapes = [
            visit_value(fields.get(field.name, UNSET), children, watch)
            for field in self.dynamic_fields
        ]
        if missing := [name for name in self.statics if name not in fields]:
            raise StructureError(
                f"{self.cls.__name__} has no value for its static {', '.join(missing)}; assign it"
            )
        statics = tuple([fields[name] for name in self.statics])
        return self.spec(statics, tuple(shapes)), children


def template_of(cls: type[Any]) -> Template:
    """The template of a node class, compiled at its first use."""
    known: Template | Uncompiled | None = cls.__dict__.get("_template")
    if isinstance(known, Template):
        return known
    compiled = Template(cls)
    own: Mapping[str, Any] = cls.__dict__
    with LOCK:  # another thread's may be there by now; operators alone, as in `publish`
        if "_template" not in own or own["_template"].__class__ is not Template:
            cls._template = compiled
    return own["_template"]  # type: ignore[no-any-return]  # as it was put there


def _restore_spec(
    cls: type[Any],
    statics: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    declared: Declared,
) -> NodeSpec:
    """The spec that was pickled, of a class that may have changed since.

    Raises:
        StructureError: The class declares other fields now, or others of these
            contents; names all.
    """
    template, fields = template_of(cls), schema(cls).fields
    known = {**statics, **shapes}
    faults = [
        f"{name} is not declared any more" for name in known if name not in fields
    ]
    added = {
        name: _default_content(field)
        for name, field in fields.items()
        if name not in known
    }
    faults += [
        f"{name} was added, and has no default that is known here"
        for name in added
        if added[name] is UNSET
    ]
    for name, kind, contracts in declared:
        if name in fields:
            faults += _changes(
                fields[name], kind, contracts, shapes.get(name, UNSET), added
            )
    if faults:
        raise StructureError(
            f"{cls.__name__} has changed since its graphdef was pickled: {listed(faults)}"
        )
    values = [known.get(name, added.get(name)) for name in template.statics]
    return template.spec(
        tuple(
            [
                plan_of(cls).admit[name](None, value)
                for name, value in zip(template.statics, values, strict=True)
            ]
        ),
        tuple(
            [
                known.get(field.name, added.get(field.name))
                for field in template.dynamic_fields
            ]
        ),
    )


def _changes(
    field: Field, kind: str, contracts: str, shape: Shape, added: Collection[str]
) -> list[str]:
    """What a field is now that it was not when a graphdef was pickled, or what it does not take any more.

    Args:
        field: The field as it is now.
        kind: Its kind then.
        contracts: Its contracts then.
        shape: What it held.
        added: The names of the fields that the class did not have then.
    """
    if str(field.kind) != kind:
        return [f"{field.name} is {field.kind}, and was {kind}"]
    if field.kind is Kind.STATIC:
        return []
    fault = misfit(field.form, shape, [], sys.maxsize)
    if fault is not None:
        return [f"{field.name}: {fault}"]
    # A graphdef has no values, so whether these would keep another contract is not
    # known here.
    if contracts_text(field) != contracts:
        return [
            f"{field.name} has the contract {contracts_text(field) or None}, and had {contracts or None}"
        ]
    # One of the same text asks for the size that a field gives, where it took any
    # before.
    named = [
        leaf.contract.names
        for leaf in field.form.all_leaves
        if leaf.contract is not None
    ]
    sizes = sorted(frozenset().union(*named) & set(added))
    return [
        f"{field.name} has the contract {contracts}, of which {size} is a static field only now"
        for size in sizes
    ]


def _default_content(field: Field) -> Any:
    """What a field holds in nodes that were there before it: a static value, or `None`; `UNSET` where nothing says."""
    default = UNSET if field.default is None else field.default()
    return default if field.kind is Kind.STATIC or default is None else UNSET


def watch_object(item: "TrackedList[Any] | TrackedDict[Any]", watch: Watch) -> None:
    """Put `item` under watch: give it a version, before anything of it is read."""
    version = item._version
    if not isinstance(version, Version):
        version = item._version = first_version(version, Version())
    watch[0].append(item)
    watch[1].append(version)


def visit_value(value: Any, children: list[Any], watch: Watch) -> Shape:
    """The shape of what a field holds; its States and nodes are added to `children`, in canonical order."""
    # Containers are taken apart by hand here and in `_fill_value`, not by
    # `_containers`: both run for each container of a graph that changed, where pairs of
    # keys and items that nobody reads would cost as much as all the rest.
    if value is None or value is UNSET:
        return value
    if type(value) is TrackedList:
        watch_object(value, watch)
        if value._form.is_plain:
            # Read once, here and below: another thread may be changing it
            items = list(value)
            children.extend(items)
            return (list, len(items))
        shapes = [visit_value(item, children, watch) for item in list(value)]
        return (
            (list, len(shapes))
            if all(shape is REF for shape in shapes)
            else (list, tuple(shapes))
        )
    if type(value) is TrackedDict:
        watch_object(value, watch)
        held = dict(value)
        return dict_shape(
            tuple(held),
            {key: visit_value(held[key], children, watch) for key in sorted(held)},
        )
    if isinstance(value, tuple):
        return (tuple, tuple([visit_value(item, children, watch) for item in value]))
    children.append(value)
    return REF


def edges_of(shape: Shape, path: Path) -> Iterator[Path]:
    """The path, within the node, of each State or node of a shape, in canonical order."""
    if shape is REF:
        yield path
    elif isinstance(shape, tuple):
        for key, inner in items_of(shape):
            yield from edges_of(inner, (*path, key))


def _forms_of(shape: Shape, form: Form, path: Path) -> Iterator[tuple[Path, Form]]:
    """The path and the form of the place of each State or node of a shape."""
    if shape is REF:
        yield path, form
    elif isinstance(shape, tuple):
        for key, inner in items_of(shape):
            yield from _forms_of(inner, form.item(shape[0], key), (*path, key))


def items_of(shape: tuple[Any, ...]) -> Iterator[tuple[Key, Shape]]:
    """The keys and shapes of a container shape's items: what `_containers.items` is for values."""
    if shape[0] is dict:
        yield from zip(shape[1], shape[2], strict=True)
    else:
        yield from enumerate(
            (REF,) * shape[1] if isinstance(shape[1], int) else shape[1]
        )


def filled_keys(shape: tuple[Any, ...]) -> tuple[str, ...]:
    """The keys of a dict's shape in the order that it was filled in: which the dict itself has."""
    return shape[-1] if len(shape) > 3 else shape[1]  # type: ignore[no-any-return]


def dict_shape(filled: tuple[str, ...], inner: Mapping[str, Shape]) -> Shape:
    """The shape of a dict that was filled in an order of its keys."""
    keys = tuple(sorted(filled))
    shapes = tuple([inner[key] for key in keys])
    return (dict, keys, shapes) if keys == filled else (dict, keys, shapes, filled)


def misfit(
    form: Form, shape: Shape, admitted: list[tuple[type, ...]], room: int
) -> str | None:
    """What is wrong with a shape in a field; the classes of its references are added to `admitted`, in their order."""
    todo: list[Iterator[tuple[Form, Shape]]] = [iter([(form, shape)])]
    while todo:
        form, shape = next(todo[-1], (form, _END))
        if shape is _END:
            todo.pop()
        elif shape is None:
            if not form.optional:
                return f"expected {form}, found null"
        elif shape is REF:
            if not form.classes:
                return f"expected {form}, found an object"
            admitted.append(form.classes)
            if len(admitted) > room:
                return "it refers to more objects than follow"
        elif isinstance(shape, tuple):
            kind, inner = shape[0], list(items_of(shape))
            placed = form.items(kind, inner)
            if placed is None:
                found = (
                    f"{len(inner)} items"
                    if form.admits(kind)
                    else with_article(kind.__name__)
                )
                return f"expected {form}, found {found}"
            todo.append(iter([(item_form, item) for _, item, item_form in placed]))
    return None


def _generate_visit(
    template: Template,
) -> Callable[[Any, Watch], tuple[NodeSpec, Sequence[Any]]]:
    """The visit of a class's nodes: reads each field once, and falls back to `visit_any` when one is unset."""
    statics, dynamic_fields = template.statics, template.dynamic_fields
    plain = [field.form.is_plain for field in dynamic_fields]
    reads = [f"s{i} = fields[{name!r}]" for i, name in enumerate(statics)]
    reads += [
        f"h{i} = fields[{field.name!r}]" for i, field in enumerate(dynamic_fields)
    ]
    keys = "".join(
        f"(s{i}.__class__, s{i}) if s{i}.__class__ in EXACT else static_key(s{i}), "
        for i in range(len(statics))
    )
    shapes = "".join(
        "True, " if is_plain else f"p{i}, " for i, is_plain in enumerate(plain)
    )
    lines = ["def visit(node, watch):", "    fields = node.__dict__"]
    if reads:
        lines += [
            "    try:",
            *(f"        {read}" for read in reads),
            "    except KeyError:",
        ]
        lines += ["        return visit_any(node, watch)"]
    if all(plain):
        lines += [
            f"    children = ({''.join(f'h{i}, ' for i in range(len(dynamic_fields)))})"
        ]
    else:
        lines += ["    children = []"]
        lines += [
            f"    children.append(h{i})"
            if is_plain
            else f"    p{i} = visit_value(h{i}, children, watch)"
            for i, is_plain in enumerate(plain)
        ]
    values = "".join(f"s{i}, " for i in range(len(statics)))
    lines += [
        f"    known = refs.get((({keys}), ({shapes})))",
        "    spec = known and known()",
        "    if spec is None:",
        f"        spec = new_spec(({values}), ({shapes}))",
        "    return spec, children",
    ]
    names = {
        "EXACT": frozenset({int, bool}),
        "static_key": static_key,
        "visit_value": visit_value,
        "visit_any": template.visit_any,
        "refs": template.specs.refs,
        "new_spec": template.spec,
    }
    return _compiled(lines, names, f"visit of {template.cls.__qualname__}", "visit")


def _compiled(
    lines: list[str], names: dict[str, Any], title: str, result: str
) -> Callable[..., Any]:
    exec(compile("\n".join(lines), f"<graphnode {title}>", "exec"), names)
    return names[result]  # type: ignore[no-any-return]  # the function that the source defines


# From all nodes and States of a structure to a row for each node of one spec: the node
# (still empty), then each of its States and nodes, in the order of the edges.
Picker: TypeAlias = Callable[[list[Any]], Iterable[Sequence[Any]]]


# From all of something to some of them, in C.
Column: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]


def picker(rows: Sequence[tuple[int, ...]]) -> Picker:
    """What picks objects by rows of their numbers: column by column, in C, where there are many rows."""
    if len(rows[0]) > len(rows):
        return lambda objects: ([objects[number] for number in row] for row in rows)
    columns = [column_of(column) for column in zip(*rows, strict=True)]
    return lambda objects: zip(*[column(objects) for column in columns], strict=True)


def column_of(numbers: Sequence[int]) -> Column:
    """What picks objects by their numbers, in C."""
    if len(numbers) > 1:
        return itemgetter(*numbers)
    (number,) = numbers
    return lambda objects: (objects[number],)


def fill(spec: NodeSpec, rows: Iterable[Sequence[Any]], watch: Watch) -> None:
    """Give the nodes of one spec their fields.

    Args:
        spec: The spec of all of them.
        rows: For each node, itself and what it holds, as a `Picker` gives them.
        watch: Takes the containers that are made.
    """
    shapes = spec.shapes
    if any(isinstance(shape, tuple) for shape in shapes):
        _fill_containers(spec, rows, watch)
        return
    filler = spec.template.fills.get(shapes)
    if filler is None:
        filler = spec.template.fills[shapes] = _generate_fill(spec.template, shapes)
    filler(rows, spec.statics)


def _generate_fill(
    template: Template, shapes: tuple[Shape, ...]
) -> Callable[..., None]:
    """The fill of nodes without containers whose fields have these shapes."""
    refs = [i for i, shape in enumerate(shapes) if shape is REF]
    statics = "".join(f"s{i}, " for i in range(len(template.statics)))
    lines = ["def fill(rows, statics):"]
    lines += [f"    {statics}= statics"] if statics else []
    lines += [
        f"    for node, {''.join(f'h{i}, ' for i in refs)} in rows:",
        "        fields = node.__dict__",
    ]
    stores = {name: f"s{i}" for i, name in enumerate(template.statics)}
    for i, (field, shape) in enumerate(
        zip(template.dynamic_fields, shapes, strict=True)
    ):
        if shape is not UNSET:
            stores[field.name] = f"h{i}" if shape is REF else "None"
    declared = [name for name in schema(template.cls).fields if name in stores]
    lines += [f"        fields[{name!r}] = {stores[name]}" for name in declared]
    return _compiled(lines, {}, f"fill of {template.cls.__qualname__}", "fill")


def _fill_containers(
    spec: NodeSpec, rows: Iterable[Sequence[Any]], watch: Watch
) -> None:
    template = spec.template
    for node, *parts in rows:
        fields = node.__dict__
        fields.update(zip(template.statics, spec.statics, strict=True))
        held = iter(parts)
        for field, shape in zip(template.dynamic_fields, spec.shapes, strict=True):
            if shape is not UNSET:
                fields[field.name] = _fill_value(
                    shape, field.form, held, place_of(node, field), watch
                )


def _fill_value(
    shape: Shape, form: Form, held: Iterator[Any], place: Place, watch: Watch
) -> Any:
    if shape is None:
        return None
    if shape is REF:
        return next(held)
    if shape[0] is list and isinstance(shape[1], int):
        items: Any = list(islice(held, shape[1]))
    else:
        items = [
            _fill_value(inner, form.item(shape[0], key), held, place.below(key), watch)
            for key, inner in items_of(shape)
        ]
    if shape[0] is tuple:
        return tuple(items)
    container: TrackedList[Any] | TrackedDict[Any]
    if shape[0] is list:
        container = TrackedList.restore(form.item(list), place, items)
    else:
        by_key = dict(zip(shape[1], items, strict=True))
        container = TrackedDict.restore(
            form.item(dict), place, {key: by_key[key] for key in filled_keys(shape)}
        )
    watch_object(container, watch)
    return container
