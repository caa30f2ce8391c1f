"""Compile node classes to templates: the visit, from a node to its `NodeSpec` and children, and the fill, back.

For a class with a static field `rate`, a State `weight` and a list of nodes `layers`, the
visit is this source, and the fill of a node without containers is the one below it:

    def visit(node, watch):
        fields = node.__dict__
        try:
            s0 = fields['rate']
            h0 = fields['layers']
            h1 = fields['weight']
        except KeyError:                                # a field is not set
            return visit_any(node, watch)
        children = []
        p0 = visit_value(h0, children, watch)           # the shape, such as (list, 3)
        children.append(h1)                             # its shape is always True
        cached = refs.get((((s0.__class__, s0) if s0.__class__ in EXACT else static_key(s0), ), (p0, True, )))
        spec = cached and cached()                      # a weak reference
        if spec is None:
            spec = new_spec((s0, ), (p0, True, ))
        return spec, children

    def fill(rows, statics):
        (s0, ) = statics
        for (node, h1, ) in rows:                       # `layers` is not set, or no list
            fields = node.__dict__
            fields['rate'] = s0
            fields['weight'] = h1

Generated, as a loop over field records costs three times as much; only nodes that hold
containers are filled by a loop. `template_of(cls).source` has the text of the visit. No
annotation is read from here on.
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
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from .._caches import LOCK, Interned, own_names
from .._declare._containers import Place, TrackedDict, TrackedList
from .._declare._forms import Form
from .._declare._node import plan_of
from .._declare._plan import contracts_of, place_of
from .._declare._schema import Field, late_fault, schema
from .._declare._unpickling import Declared, contracts_text, declared_by
from .._errors import SchemaError, StructureError, listed
from .._fields import Kind
from .._hints import with_article
from .._paths import Key, Path
from .._public import named_in_pickles
from .._registered import pickled
from .._static import Uncompiled, static_key, template_there
from .._versions import Version, first_version


class _Unset(enum.Enum):
    """The class of `UNSET`; pickles of graphdefs have it by its name."""

    UNSET = "unset"

    def __str__(self) -> str:
        return self.value


# How the value of a field nests, whatever objects are in it:
#
#     a State or node     REF
#     None, nothing       None, UNSET
#     [w, w]              (list, 2)            a list of objects alone
#     [w, None]           (list, (REF, None))
#     (w, [w])            (tuple, (REF, (list, 1)))
#     {"b": w, "a": v}    (dict, ("a", "b"), (REF, REF), ("b", "a"))
#
# Keys are sorted, as in paths. The fourth part is the order in which the dict was filled,
# which a model may rely on; it is left out where it is the sorted one.
Shape: TypeAlias = Any
REF: Final = True
UNSET: Final = _Unset.UNSET


class Watch(NamedTuple):
    """What a walk has read.

    Attributes:
        objects: Nodes and tracked containers.
        versions: The version of each before it was read.
    """

    objects: list[Any]
    versions: list[object]


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
        """The path, within the node, of each State or node, and the form of its place; in the order of the edges.

        To check a class that was pickled or changed, and to find the contracts of what
        stands there.
        """
        for field, shape in self.template.with_shapes(self.shapes):
            yield from _forms_of(shape, field.form, (field.name,))

    def __reduce__(self) -> tuple[Callable[..., "NodeSpec"], tuple[object, ...]]:
        # For graphdefs in pickles; `_restore_spec` compares this with what the class is
        # then.
        # By name: fields of the class may be added, removed or renamed until it is
        # loaded.
        named = zip(self.template.statics, self.statics, strict=True)
        statics = {name: pickled(value) for name, value in named}
        shapes = {
            field.name: shape for field, shape in self.template.with_shapes(self.shapes)
        }
        return _restore_spec, (self.cls, statics, shapes, declared_by(self.cls))

    def __repr__(self) -> str:
        return f"<NodeSpec of {self.cls.__name__}>"


class Template:
    """The compiled visit and rebuild of one node class."""

    def __init__(self, cls: type[Any]) -> None:
        # For `template_of`; the order of the fields here is that of all paths below a
        # node.
        compiled, plan = schema(cls), plan_of(cls)
        # A decorator may have changed the class since it was compiled.
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

    @property
    def source(self) -> str:
        """The source of the visit.

        To read what was generated; tracebacks show its lines.
        """
        return "\n".join(_visit_lines(self))

    def spec(self, statics: tuple[Any, ...], shapes: tuple[Shape, ...]) -> NodeSpec:
        """The one spec with these static values (in the order of their names) and shapes (of the dynamic_fields).

        So that nodes that are alike have one spec, and structures are compared by
        identity.
        """
        key = (tuple(map(static_key, statics)), shapes)
        return self.specs.of(key, lambda: self._new_spec(statics, shapes))

    def _new_spec(
        self, statics: tuple[Any, ...], shapes: tuple[Shape, ...]
    ) -> NodeSpec:
        """For `spec`: a new one, with the paths of the States and nodes that the shapes hold.

        They are the edges of the node, in the order in which the visit gives its
        children.
        """
        spec = NodeSpec()
        spec.template, spec.statics, spec.shapes = self, statics, shapes
        edges: list[Path] = []
        for field, shape in self.with_shapes(shapes):
            edges += edges_of(shape, (field.name,))
        spec.edges = tuple(edges)
        return spec

    def with_shapes(self, shapes: Sequence[Shape]) -> Iterator[tuple[Field, Shape]]:
        """The dynamic fields with the shape of each.

        A shape is known by its position alone.
        """
        return zip(self.dynamic_fields, shapes, strict=True)

    def visit_any(self, node: Any, watch: Watch) -> tuple[NodeSpec, Sequence[Any]]:
        """The visit that reads any node, unset fields included; the generated one falls back to it.

        A model may be split before all of its fields are set; generated code for that
        would be asked for nearly never.
        """
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
    """The template of a node class, compiled at its first use.

    Not at the definition of the class: annotations may still wait for a name, and many
    classes are never split.
    """
    cached: Template | Uncompiled | None = cls.__dict__.get("_template")
    if isinstance(cached, Template):
        return cached
    compiled = Template(cls)
    own: Mapping[str, Any] = cls.__dict__
    # Another thread may have put its own there by now. No calls under the lock, as in
    # `publish`.
    with LOCK:
        if "_template" not in own or own["_template"].__class__ is not Template:
            cls._template = compiled
    return own["_template"]  # type: ignore[no-any-return]  # as it was put there


@named_in_pickles("_pickled_node_spec")
def _restore_spec(
    cls: type[Any],
    statics: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    declared: Declared,
) -> NodeSpec:
    """The spec that was pickled, of a class that may have changed since.

    For `pickle`: `NodeSpec.__reduce__` names it.

    Raises:
        StructureError: Fields were added, removed or changed, so that the spec does not
            fit any more; names all.
    """
    template, fields = template_of(cls), schema(cls).fields
    pickled_parts = {**statics, **shapes}
    added: dict[str, Any] = {}
    removed = [name for name in pickled_parts if name not in fields]
    faults = [f"{name} is not declared any more" for name in removed]
    for name, field in fields.items():
        if name not in pickled_parts:
            added[name] = _default_content(field)
            if added[name] is UNSET:
                text = f"{name} was added, and has no default that is known here"
                faults.append(text)
    for name, kind, contracts in declared:
        if name in fields:
            shape = shapes.get(name, UNSET)
            faults += _changes(fields[name], kind, contracts, shape, added)
    if faults:
        raise StructureError(
            f"{cls.__name__} has changed since its graphdef was pickled: {listed(faults)}"
        )
    parts = {**added, **pickled_parts}
    admit = plan_of(cls).admit
    # A graphdef has no nodes; a static field is admitted without one.
    values = [admit[name](None, parts.get(name)) for name in template.statics]
    field_shapes = [parts.get(field.name) for field in template.dynamic_fields]
    return template.spec(tuple(values), tuple(field_shapes))


def _changes(
    field: Field, kind: str, contracts: str, shape: Shape, added: Collection[str]
) -> list[str]:
    """What has changed about a field since a graphdef was pickled, so that the graphdef does not fit any more.

    For `_restore_spec`, which joins what is wrong with all fields in one error.

    Args:
        field: The field as it is now.
        kind: Its kind then.
        contracts: Its contracts then.
        shape: Its shape then.
        added: The names of the fields that the class did not have then.
    """
    name = field.name
    if str(field.kind) != kind:
        return [f"{name} is {field.kind}, and was {kind}"]
    if field.kind is Kind.STATIC:
        return []
    fault = shape_mismatch(field.form, shape, [], sys.maxsize)
    if fault is not None:
        return [f"{name}: {fault}"]
    # Whether values would fulfil another contract is not known: a graphdef has none.
    now = contracts_text(field)
    # `*width` takes what `width` takes: one axis, where the field is one integer.
    if contracts not in (now, now.replace("*", "")):
        return [f"{name} has the contract {now or None}, and had {contracts or None}"]
    # An axis that was free is not if a field of its name was added.
    sizes = {size for contract in contracts_of(field) for size in contract.names}
    return [
        f"{name} has the contract {contracts}, of which {size} is a static field only now"
        for size in sorted(sizes.intersection(added))
    ]


def _default_content(field: Field) -> Any:
    """A static value, or the shape, by default of a field that was added; `UNSET` if it has no default, or a State.

    For `_restore_spec`, so that a graphdef from before is loaded where a field was
    added since.
    """
    default = UNSET if field.default is None else field.default()
    return default if field.kind is Kind.STATIC or default is None else UNSET


def watch_container(
    container: "TrackedList[Any] | TrackedDict[Any]", watch: Watch
) -> None:
    """Give a container a version, if it has none, and note it; to be called before anything of it is read.

    For a walk or rebuild: a binding remembers the versions of containers as those of
    nodes, and a change of a list is found by them.
    """
    version = container._version
    if not isinstance(version, Version):
        version = container._version = first_version(version, Version())
    watch.objects.append(container)
    watch.versions.append(version)


def visit_value(value: Any, children: list[Any], watch: Watch) -> Shape:
    """The shape of a field's value; its States and nodes are added to `children`, in canonical order.

    For the generated visit, where a field may hold a container or nothing.
    """
    # By hand here and in `_fill_value`, without `_nesting.items`: both run for each
    # container of a graph that changed, where the pairs of keys and items would cost as
    # much as all the rest.
    if value is None or value is UNSET:
        return value
    if type(value) is TrackedList:
        return _visit_list(value, children, watch)
    if type(value) is TrackedDict:
        watch_container(value, watch)
        # A copy, as another thread may be changing it.
        items = dict(value)
        shapes = {
            key: visit_value(items[key], children, watch) for key in sorted(items)
        }
        return dict_shape(tuple(items), shapes)
    if isinstance(value, tuple):
        return (tuple, tuple([visit_value(item, children, watch) for item in value]))
    children.append(value)
    return REF


def _visit_list(value: "TrackedList[Any]", children: list[Any], watch: Watch) -> Shape:
    """The shape of a list; its States and nodes are added to `children`, in order.

    For `visit_value`; a long list of nodes, the usual case, costs no shape for each
    item.
    """
    watch_container(value, watch)
    # Copied once: another thread may be changing it.
    items = list(value)
    # No `None` and no container can be in it: nothing has to be looked at.
    if value._form.is_plain:
        children.extend(items)
        return (list, len(items))
    shapes = [visit_value(item, children, watch) for item in items]
    if all(shape is REF for shape in shapes):
        return (list, len(shapes))
    return (list, tuple(shapes))


def edges_of(shape: Shape, path: Path) -> Iterator[Path]:
    """The path, within the node, of each State or node of a shape, in canonical order.

    What the walk calls the way from a node to what is in one of its fields.
    """
    if shape is REF:
        yield path
    elif isinstance(shape, tuple):
        for key, inner in items_of(shape):
            yield from edges_of(inner, (*path, key))


def _forms_of(shape: Shape, form: Form, path: Path) -> Iterator[tuple[Path, Form]]:
    """The path and the form of the place of each State or node of a shape.

    For `NodeSpec.forms`: which classes, and which contract, belong to each place.
    """
    if shape is REF:
        yield path, form
    elif isinstance(shape, tuple):
        for key, inner in items_of(shape):
            yield from _forms_of(inner, form.item(shape[0], key), (*path, key))


def items_of(shape: tuple[Any, ...]) -> Iterator[tuple[Key, Shape]]:
    """The key and the shape of each item of a container's shape, as `_nesting.items` gives those of a value.

    So that a shape is walked like the value that it stands for.
    """
    if shape[0] is dict:
        yield from zip(shape[1], shape[2], strict=True)
        return
    inner = shape[1]
    yield from enumerate((REF,) * inner if isinstance(inner, int) else inner)


def filled_keys(shape: tuple[Any, ...]) -> tuple[str, ...]:
    """The keys of a dict's shape in the order in which the dict was filled, which is the order of the dict.

    The order counts: to iterate over a dict gives it, so two orders are two structures.
    """
    return shape[-1] if len(shape) > 3 else shape[1]  # type: ignore[no-any-return]


def dict_shape(filled: tuple[str, ...], inner: Mapping[str, Shape]) -> Shape:
    """The shape of a dict that was filled in this order of its keys.

    Its items come in the order of keys, as everywhere in a structure; the order of
    filling stands beside them.
    """
    keys = tuple(sorted(filled))
    shapes = tuple([inner[key] for key in keys])
    return (dict, keys, shapes) if keys == filled else (dict, keys, shapes, filled)


def shape_mismatch(
    form: Form, shape: Shape, admitted: list[tuple[type, ...]], limit: int
) -> str | None:
    """What is wrong with a shape in a field, or `None`; the check of a shape that was read from a file.

    Of JSON and of pickles: a node that was built by it would hold what its constructor
    refuses.

    Args:
        form: The form of the field.
        shape: The shape.
        admitted: Takes the classes that each reference of the shape may have, in order.
        limit: How many references there may be: a file could claim any number.
    """
    todo: list[tuple[Form, Shape]] = [(form, shape)]
    while todo:
        form, shape = todo.pop()
        if shape is REF and form.classes:
            admitted.append(form.classes)
            if len(admitted) > limit:
                return "it refers to more objects than follow"
        elif isinstance(shape, tuple):
            kind, inner = shape[0], list(items_of(shape))
            placed = form.items(kind, inner)
            if placed is None:
                is_length = form.admits(kind)
                text = (
                    f"{len(inner)} items" if is_length else with_article(kind.__name__)
                )
                return f"expected {form}, found {text}"
            # Reversed, so that `admitted` has the references in order.
            todo += [(item_form, item) for _, item, item_form in reversed(placed)]
        elif shape is REF:
            return f"expected {form}, found an object"
        elif shape is None and not form.optional:
            return f"expected {form}, found null"
    return None


def _generate_visit(
    template: Template,
) -> Callable[[Any, Watch], tuple[NodeSpec, Sequence[Any]]]:
    """The visit of a class's nodes: see the module docstring.

    For `Template`: what a walk runs for each node.
    """
    names = {
        # Their values are their own keys, but for the class; `static_key` is a call.
        "EXACT": frozenset({int, bool}),
        "static_key": static_key,
        "visit_value": visit_value,
        "visit_any": template.visit_any,
        "refs": template.specs.refs,
        "new_spec": template.spec,
    }
    lines = _visit_lines(template)
    return _compiled(lines, names, f"visit of {template.cls.__qualname__}", "visit")


def _visit_lines(template: Template) -> list[str]:
    """The source of a class's visit, line by line: the module docstring has an example.

    What `_generate_visit` compiles.
    """
    statics = {f"s{i}": name for i, name in enumerate(template.statics)}
    dynamic = {f"h{i}": field for i, field in enumerate(template.dynamic_fields)}
    reads = [f"{local} = fields[{name!r}]" for local, name in statics.items()]
    reads += [f"{local} = fields[{field.name!r}]" for local, field in dynamic.items()]
    lines = ["def visit(node, watch):", "    fields = node.__dict__"]
    if reads:
        lines += ["    try:", *[f"        {read}" for read in reads]]
        lines += ["    except KeyError:", "        return visit_any(node, watch)"]
    shapes: list[str] = []
    # All children are known by name: the tuple is made at once.
    if all(field.form.is_plain for field in dynamic.values()):
        shapes = ["True"] * len(dynamic)
        lines.append(f"    children = {_tuple_text(dynamic)}")
    else:
        lines.append("    children = []")
        for local, field in dynamic.items():
            if field.form.is_plain:
                shapes.append("True")
                lines.append(f"    children.append({local})")
            else:
                # `h1` becomes `p1`.
                shape = local.replace("h", "p")
                shapes.append(shape)
                lines.append(f"    {shape} = visit_value({local}, children, watch)")
    keys = [
        f"({local}.__class__, {local}) if {local}.__class__ in EXACT else static_key({local})"
        for local in statics
    ]
    lines += [
        f"    cached = refs.get(({_tuple_text(keys)}, {_tuple_text(shapes)}))",
        "    spec = cached and cached()",
        "    if spec is None:",
        f"        spec = new_spec({_tuple_text(statics)}, {_tuple_text(shapes)})",
        "    return spec, children",
    ]
    return lines


def _tuple_text(parts: Iterable[str]) -> str:
    """The source of a tuple of any length.

    For generated code: a tuple of one item needs its comma.
    """
    return f"({''.join(f'{part}, ' for part in parts)})"


def _compiled(
    lines: list[str], names: dict[str, Any], title: str, result: str
) -> Callable[..., Any]:
    """The function that source code defines.

    For the visit and the fill; tracebacks show its lines.

    Args:
        lines: The source.
        names: Its globals.
        title: What tracebacks call it.
        result: The name of the function.
    """
    exec(compile("\n".join(lines), f"<graphnode {title}>", "exec"), names)
    return names[result]  # type: ignore[no-any-return]  # the function that the source defines


# From all nodes and States of a structure to a row for each node of one spec: the node
# (still empty), then each of its States and nodes, in the order of the edges.
Picker: TypeAlias = Callable[[list[Any]], Iterable[Sequence[Any]]]


# From a sequence to some of its items, in C.
Column: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]


def picker(rows: Sequence[tuple[int, ...]]) -> Picker:
    """What picks objects by rows of their numbers: column by column, in C, if there are many rows.

    For `assemble`: a rebuild picks each node with its children, for all nodes of one
    spec at once.

    rows (1, 2, 3), (4, 5, 2): columns (1, 4), (2, 5), (3, 2), each an `itemgetter`.
    """
    # Few long rows: as many calls into C as columns would cost more than the rows.
    if len(rows[0]) > len(rows):
        return lambda objects: ([objects[number] for number in row] for row in rows)
    columns = [column_of(column) for column in zip(*rows, strict=True)]
    return lambda objects: zip(*[column(objects) for column in columns], strict=True)


def column_of(numbers: Sequence[int]) -> Column:
    """What picks objects by their numbers, in C.

    For `assemble` and `gn.treefy_merge`: an `itemgetter` of one number would give no
    tuple.
    """
    if len(numbers) > 1:
        return itemgetter(*numbers)
    # An `itemgetter` of one number returns the object, not a tuple of it.
    (number,) = numbers
    return lambda objects: (objects[number],)


def fill(spec: NodeSpec, rows: Iterable[Sequence[Any]], watch: Watch) -> None:
    """Give the nodes of one spec their fields.

    For `rebuild`, which has made these nodes empty: no constructor and no `__setattr__`
    runs.

    Args:
        spec: The spec of all of them.
        rows: For each node, itself and its States and nodes, as a `Picker` gives them.
        watch: Takes the containers that are made.
    """
    shapes = spec.shapes
    # Containers have a place, which belongs to one node: they are made one by one.
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
    """The fill of nodes without containers whose fields have these shapes: see the module docstring.

    For `fill`, which keeps it for each row of shapes that it meets.
    """
    sources = {name: f"s{i}" for i, name in enumerate(template.statics)}
    statics = list(sources.values())
    children: list[str] = []
    for i, (field, shape) in enumerate(template.with_shapes(shapes)):
        if shape is REF:
            children.append(f"h{i}")
            sources[field.name] = f"h{i}"
        # `UNSET` is left out: such a field holds nothing afterwards, too.
        elif shape is None:
            sources[field.name] = "None"
    lines = ["def fill(rows, statics):"]
    if statics:
        lines.append(f"    {_tuple_text(statics)} = statics")
    lines += [
        f"    for {_tuple_text(['node', *children])} in rows:",
        "        fields = node.__dict__",
    ]
    # In the order of declaration, as a constructor fills a `__dict__`.
    for name in schema(template.cls).fields:
        if name in sources:
            lines.append(f"        fields[{name!r}] = {sources[name]}")
    return _compiled(lines, {}, f"fill of {template.cls.__qualname__}", "fill")


def _fill_containers(
    spec: NodeSpec, rows: Iterable[Sequence[Any]], watch: Watch
) -> None:
    """Give nodes of one spec their fields, where some fields hold containers.

    For `fill`: each node gets tracked containers of its own.

    Args:
        spec: The spec of all of them.
        rows: For each node, itself and its States and nodes, in the order of the edges.
        watch: Takes the containers that are made.
    """
    template = spec.template
    for node, *parts in rows:
        fields = node.__dict__
        fields.update(zip(template.statics, spec.statics, strict=True))
        children = iter(parts)
        for field, shape in template.with_shapes(spec.shapes):
            if shape is not UNSET:
                place = place_of(node, field)
                value = _fill_value(shape, field.form, children, place, watch)
                fields[field.name] = value


def _fill_value(
    shape: Shape, form: Form, children: Iterator[Any], place: Place, watch: Watch
) -> Any:
    """The value of a shape around the next of some children: the inverse of `visit_value`.

    For a rebuild: the field gets its containers back, with the new States and nodes in
    them.
    """
    if shape is None:
        return None
    if shape is REF:
        return next(children)
    kind = shape[0]
    # A list of objects alone: its shape is only a length.
    if kind is list and isinstance(shape[1], int):
        items: Any = list(islice(children, shape[1]))
    else:
        items = [
            _fill_value(inner, form.item(kind, key), children, place.below(key), watch)
            for key, inner in items_of(shape)
        ]
    if kind is tuple:
        return tuple(items)
    container: TrackedList[Any] | TrackedDict[Any]
    if kind is list:
        container = TrackedList.restore(form.item(list), place, items)
    else:
        by_key = dict(zip(shape[1], items, strict=True))
        in_order = {key: by_key[key] for key in filled_keys(shape)}
        container = TrackedDict.restore(form.item(dict), place, in_order)
    # A new container needs a version before the binding is made of it.
    watch_container(container, watch)
    return container
