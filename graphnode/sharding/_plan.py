"""`plan`: how each State of a model is laid out over a mesh, as a table that was checked without a device.

roles of each State   ->  what splits each axis   ->  faults, or rows
_roles.roles_in           _Answers.of                 _checked
"""

import functools
import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from .._arguments import wrong_argument
from .._constrain import ACTIVATIONS, Activations, Entry, names_of, split_count
from .._errors import FilterError, GraphnodeError, listed
from .._filters import Paths
from .._graph._binding_cache import binding_of
from .._hints import did_you_mean
from .._inspect import live_objects
from .._paths import Path, path_str
from .._reads import looked_at
from .._roles import Roles, roles_in
from .._split import states
from .._state import State
from ._memory import with_those_of_memory
from ._rules import MISSING, Rules

# Any: JAX has no types for it.
_PartitionSpec: Final[Any] = PartitionSpec
AnyMesh: TypeAlias = Mesh | AbstractMesh


class PlanError(GraphnodeError, ValueError):
    """A model does not fit its rules and mesh.

    Attributes:
        faults: Every fault, as a text.
    """

    faults: tuple[str, ...]

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"gn.sharding.plan: {listed(faults)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self.faults),)


class Row(NamedTuple):
    """How one State is laid out.

    Attributes:
        path: Its canonical path.
        shape: The shape of its array; `()` for a State that holds several.
        dtype: The dtype, as a text.
        roles: What its axes are for.
        spec: The mesh axes that split each axis.
        bytes: What one device has of it.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str
    roles: Roles
    spec: Any  # PartitionSpec, for which JAX has no types
    bytes: int

    @property
    def is_replicated(self) -> bool:
        """Whether each device has all of it."""
        return all(entry is None for entry in self.spec)


class Plan:
    """How a model is laid out over a mesh: a row for each State, and what holds for activations. `print` shows it.

    As a context, `with plan:`, it is active: `constrain` and the layers lay out
    activations by its rules, and its mesh is JAX's.

    Attributes:
        mesh: The mesh; it may be abstract, where nothing is made yet.
        rules: The rules.
        rows: One for each State, in the order of the model's layout.
    """

    def __init__(self, mesh: AnyMesh, rules: Rules, rows: tuple[Row, ...]) -> None:
        self.mesh: AnyMesh = mesh
        self.rules: Rules = rules
        self.rows: tuple[Row, ...] = rows
        self._activations: Activations | None = None
        self._stack: list[ExitStack] = []

    @property
    def bytes(self) -> int:
        """What one device has of all States."""
        return sum(row.bytes for row in self.rows)

    @property
    def shardings(self) -> dict[Path, NamedSharding]:
        """The sharding of each State by its path, as `gn.checkpoint.restore(shardings=...)` takes it.

        Raises:
            ValueError: The mesh is abstract.
        """
        mesh = self._devices()
        return {row.path: NamedSharding(mesh, row.spec) for row in self.rows}

    def _devices(self) -> Mesh:
        """The mesh, if it has devices."""
        if not isinstance(self.mesh, Mesh):
            raise ValueError(
                "the plan was made for an abstract mesh, which has no devices; make it for one of jax.make_mesh"
            )
        return self.mesh

    def __enter__(self) -> "Plan":
        mesh = self._devices()
        # One object for each plan: what is compiled is known by it.
        if self._activations is None:
            self._activations = Activations(
                mesh,
                self.rules.activations,
                has_default=self.rules.default is None,
            )
        stack = ExitStack()
        set_mesh: Any = jax.set_mesh  # JAX has no types for it
        stack.enter_context(set_mesh(mesh))
        token = ACTIVATIONS.set(self._activations)
        stack.callback(ACTIVATIONS.reset, token)
        self._stack.append(stack)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.pop().close()

    def __repr__(self) -> str:
        head = ("path", "shape", "roles", "spec", "bytes per device", "")
        body = [
            (
                path_str(row.path),
                f"{row.dtype}{list(row.shape)}",
                ", ".join("-" if role is None else role for role in row.roles),
                f"P({', '.join(map(repr, row.spec))})",
                f"{row.bytes:,}",
                "replicated" if row.is_replicated else "",
            )
            for row in self.rows
        ]
        sizes = ", ".join(f"{name}={size}" for name, size in self.mesh.shape.items())
        table = [head, *body]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines: list[str] = []
        for row in table:
            cells = [
                cell.rjust(width) if at == 4 else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        rule = "-" * max(map(len, lines))
        foot = f"mesh {sizes}: {self.bytes:,} bytes per device"
        return "\n".join([lines[0], rule, *lines[1:], rule, foot])


def plan(model: object, mesh: AnyMesh, rules: Rules) -> Plan:
    """How each State of a model is laid out over a mesh, checked. Nothing is made or moved, and no device is needed.

    Scalars and keys of random streams are replicated: each device has them. Every other
    axis needs an answer of the rules.

    Args:
        model: A node, or a pytree of nodes, such as a model and its optimizer; it may be
            abstract, of `gn.eval_shape`.
        mesh: Of `jax.make_mesh`, or a `jax.sharding.AbstractMesh`.
        rules: Which mesh axes split the axes of each role.

    Raises:
        PlanError: A mesh axis that the mesh does not have, or that splits two axes of one
            State; a size that it does not divide; a rule that matches nothing; two rules
            for one State; axes that have no rule. Names all.
        StructureError: `model` is neither a node nor a pytree of nodes.
        TypeError: `mesh` is not a mesh, or `rules` are not `Rules`.

    Example:
        >>> mesh = jax.sharding.AbstractMesh((4, 2), ("data", "model"))
        >>> rules = gn.sharding.Rules(params={"in": "data", "out": "model"})
        >>> gn.sharding.plan(gn.eval_shape(lambda: gn.nn.Linear(8, 4)), mesh, rules)
        path    shape          roles    spec                bytes per device
        --------------------------------------------------------------------
        bias    float32[4]     out      P('model')                         8
        weight  float32[8, 4]  in, out  P('data', 'model')                16
        --------------------------------------------------------------------
        mesh data=4, model=2: 24 bytes per device
    """
    _check_arguments(mesh, rules)
    binding = binding_of(model)
    faults: list[str] = []
    sizes = dict(mesh.shape)
    answers = _Answers(model, rules, sizes, faults)
    unanswered: dict[str | None, list[str]] = {}
    rows: list[Row] = []
    # Most States are laid out as others are, each in its layer.
    judged: dict[tuple[Any, ...], tuple[list[str], int]] = {}
    all_roles = with_those_of_memory(model, roles_in(model))
    items = zip(binding.graphdef.layout.paths(), binding.states, all_roles, strict=True)
    for number, (path, state, roles) in enumerate(items):
        row = _row(number, path, state, roles, answers, unanswered)
        kind = row[1:]
        if kind not in judged:
            row_faults = _row_faults(row, sizes)
            # What does not fit has no number of bytes.
            judged[kind] = row_faults, 0 if row_faults else _bytes_of(row, sizes)
        row_faults, size = judged[kind]
        faults += [f"{path_str(path)}: {fault}" for fault in row_faults]
        rows.append(Row(*row[:-1], size))
    faults += answers.unused()
    faults += _unanswered_faults(unanswered)
    if faults:
        raise PlanError(list(dict.fromkeys(faults)))
    return Plan(mesh, rules, tuple(rows))


def _check_arguments(mesh: object, rules: object) -> None:
    """Raise if the arguments of `plan` are something else.

    Raises:
        TypeError: Says which.
    """
    if not isinstance(mesh, Mesh | AbstractMesh):
        takes = "a mesh second, such as that of jax.make_mesh"
        raise TypeError(wrong_argument(takes, mesh, "gn.sharding.plan"))
    if not isinstance(rules, Rules):
        takes = "gn.sharding.Rules third, such as Rules(params={'in': 'data'}, default=None)"
        raise TypeError(wrong_argument(takes, rules, "gn.sharding.plan"))


def check_plan(plan: object, function: str) -> None:
    """Raise if what a function was given is not a plan.

    Raises:
        TypeError: Names the function of `gn.sharding`.
    """
    if not isinstance(plan, Plan):
        takes = "a plan of gn.sharding.plan"
        raise TypeError(wrong_argument(takes, plan, f"gn.sharding.{function}"))


class _Answers:
    """What rules say of the axes of States, and which of them were of use."""

    def __init__(
        self,
        model: object,
        rules: Rules,
        sizes: Mapping[str, int],
        faults: list[str],
    ) -> None:
        self.sizes: Mapping[str, int] = sizes
        self._rules = rules
        self._used: set[tuple[Any, ...]] = set()
        self._by_path: dict[int, tuple[Any, Any]] = {}
        self._by_class: dict[int, list[tuple[Any, Any]]] = {}
        self._roles: dict[str | None, None] = {}
        binding = binding_of(model)
        numbers = {
            path: number for number, path in enumerate(binding.graphdef.layout.paths())
        }
        self._has_class: set[Any] = set()
        for key, value in rules.params.items():
            if isinstance(key, Paths):
                self._take_paths(model, key, value, numbers, faults)
        scoped = {
            key: value for key, value in rules.params.items() if isinstance(key, type)
        }
        scoped.update(rules.states)
        if scoped:
            self._take_classes(model, scoped, faults)

    def _take_paths(
        self,
        model: object,
        key: Paths,
        value: Any,
        numbers: Mapping[Path, int],
        faults: list[str],
    ) -> None:
        """Note a rule for paths."""
        try:
            selected = states(model, key)
        except FilterError as error:
            faults.append(f"params[{key!r}] matches nothing: {error}")
            return
        for path in selected:
            number = numbers[path]
            other = self._by_path.setdefault(number, (key, value))
            if other[1] != value:
                faults.append(
                    f"{path_str(path)}: params[{other[0]!r}] and params[{key!r}] say different things; write one rule"
                )

    def _take_classes(
        self, model: object, scoped: Mapping[Any, Any], faults: list[str]
    ) -> None:
        """Note rules for classes of States, and of the nodes that they are fields of."""
        binding = binding_of(model)
        table = binding.graphdef.table
        objects = live_objects(model, binding.graphdef)
        numbers = {id(state): number for number, state in enumerate(binding.states)}
        for at, value in enumerate(objects):
            if not isinstance(value, State):
                continue
            parent = table.parents[at]
            node = objects[parent] if parent >= 0 else None
            for key, rule in scoped.items():
                if isinstance(value, key) or isinstance(node, key):
                    self._has_class.add(key)
                    self._by_class.setdefault(numbers[id(value)], []).append(
                        (key, rule)
                    )
        faults += [
            f"params[{key.__name__}] matches nothing: no State is of it"
            for key in scoped
            # Rules of a model and its optimizer hold for the model alone, too.
            if key not in self._has_class and key not in self._rules.states
        ]

    def spec(self, number: int) -> Any | None:
        """The `jax.P(...)` that a rule gives for a State as a whole, if one does."""
        for _, rule in self._scopes(number):
            if isinstance(rule, PartitionSpec):
                return rule
        return None

    def entry(self, number: int, role: str | None) -> Any:
        """What splits an axis of a State, or `MISSING`."""
        self._roles[role] = None
        if role is not None:
            for key, rule in self._scopes(number):
                if isinstance(rule, Mapping) and role in rule:
                    self._used.add((key, role))
                    return rule[role]
            if role in self._rules.params:
                self._used.add((role,))
                return self._rules.params[role]
        return self._rules.default

    def _scopes(self, number: int) -> list[tuple[Any, Any]]:
        """The rules for a State's path and class, in the order in which they are asked."""
        by_path = self._by_path.get(number)
        by_class = self._by_class.get(number, [])
        return by_class if by_path is None else [by_path, *by_class]

    def unused(self) -> list[str]:
        """The faults of roles in rules that no axis has, and of mesh axes in them that the mesh does not have."""
        faults: list[str] = []
        known = [role for role in self._roles if role is not None]
        rules = self._rules
        for key, value in rules.params.items():
            if isinstance(key, str) and (key,) not in self._used:
                # A rule for a class or path may have answered all axes of the role.
                if key not in self._roles:
                    faults.append(
                        f"params[{key!r}] matches nothing: no axis has this role{_hint(key, known)}"
                    )
            elif isinstance(value, Mapping):
                faults += [
                    f"params[{_key_text(key)}][{role!r}] matches nothing{_hint(role, known)}"
                    for role in value
                    if (key, role) not in self._used
                ]
        for cls, roles in rules.states.items():
            faults += [
                f"states[{cls.__name__}][{role!r}] matches nothing{_hint(role, known)}"
                for role in roles
                if cls in self._has_class and (cls, role) not in self._used
            ]
        return [*_unknown_axes(rules, self.sizes), *faults]


def _unknown_axes(rules: Rules, sizes: Mapping[str, int]) -> list[str]:
    """The faults of mesh axes in rules that the mesh does not have: once for each rule, not for each State."""
    tables: dict[str, Mapping[Any, Any]] = {
        "params": rules.params,
        "activations": rules.activations,
    }
    for key, rule in rules.params.items():
        if isinstance(rule, Mapping):
            tables[f"params[{_key_text(key)}]"] = rule
    for cls, roles in rules.states.items():
        tables[f"states[{cls.__name__}]"] = roles
    return [
        f"{where}[{role!r}]: {_unknown_axis(name, sizes)}"
        for where, table in tables.items()
        for role, entry in table.items()
        if isinstance(role, str)
        for name in names_of(entry)
        if name not in sizes
    ]


def _row(
    number: int,
    path: Path,
    state: State[Any],
    roles: Roles,
    answers: _Answers,
    unanswered: dict[str | None, list[str]],
) -> Row:
    """The row of a State, without its bytes; axes that have no rule are noted."""
    value = looked_at(state)
    shape: tuple[int, ...] = getattr(value, "shape", ())
    dtype = _dtype_text(value.dtype) if hasattr(value, "shape") else "pytree"
    if not shape or dtype.startswith("key<"):
        return Row(path, shape, dtype, roles, _PartitionSpec(), 0)
    spec: Any = state.sharding
    if not isinstance(spec, PartitionSpec):
        spec = answers.spec(number)
    if spec is None:
        entries: list[Entry] = []
        for role in roles:
            entry = answers.entry(number, role)
            if entry is MISSING:
                unanswered.setdefault(role, []).append(path_str(path))
                entry = None
            # What the mesh does not have is a fault of the rule.
            is_known = all(name in answers.sizes for name in names_of(entry))
            entries.append(entry if is_known else None)
        spec = _PartitionSpec(*entries)
    return Row(path, shape, dtype, roles, spec, 0)


# Any: dtypes of NumPy and of JAX. NumPy puts together the text of one at each call.
@functools.cache
def _dtype_text(dtype: Any) -> str:
    """A dtype as a text: float32, key<fry>."""
    return str(dtype)


def _row_faults(row: Row, sizes: Mapping[str, int]) -> list[str]:
    """What is wrong with the layout of a State: mesh axes that are not there or stand twice, sizes that they miss.

    Without its path: the same is wrong with all States of its shape, roles and spec.
    """
    if len(row.spec) > len(row.shape):
        return [
            f"P({', '.join(map(repr, row.spec))}) is for {len(row.spec)} axes; the shape is {row.shape}"
        ]
    faults: list[str] = []
    seen: dict[str, int] = {}
    # A spec may be shorter: it does not split the last axes.
    for at, (entry, size) in enumerate(zip(row.spec, row.shape, strict=False)):
        names = names_of(entry)
        role = row.roles[at] if at < len(row.roles) else None
        axis = f"axis {at}" if role is None else f"axis {at} ({role})"
        unknown = [name for name in names if name not in sizes]
        faults += [f"{axis}: {_unknown_axis(name, sizes)}" for name in unknown]
        for name in names:
            if name in seen:
                faults.append(
                    f"the mesh axis {name!r} splits axis {seen[name]} and axis {at}; it can split one"
                )
            seen[name] = at
        count = 1 if unknown else split_count(names, sizes)
        if size % count:
            below, above = size // count * count, -(-size // count) * count
            nearest = f"{below} and {above} are" if below else f"{above} is"
            mesh_text = " * ".join(f"{name}={sizes[name]}" for name in names)
            faults.append(
                f"{axis} of size {size} is not divided by {mesh_text}; {nearest}"
            )
    return faults


def _bytes_of(row: Row, sizes: Mapping[str, int]) -> int:
    """What one device has of a State."""
    if row.dtype == "pytree":
        return 0
    names = [name for entry in row.spec for name in names_of(entry)]
    itemsize = 8 if row.dtype.startswith("key<") else jnp.dtype(row.dtype).itemsize
    return math.prod(row.shape) // split_count(names, sizes) * itemsize


def _unanswered_faults(unanswered: Mapping[str | None, list[str]]) -> list[str]:
    """The faults of axes that have no rule, those of a role together."""
    faults: list[str] = []
    for role, paths in unanswered.items():
        unique = list(dict.fromkeys(paths))
        more = f" and {len(unique) - 3} more" if len(unique) > 3 else ""
        where = f"{', '.join(unique[:3])}{more}"
        if role is None:
            faults.append(
                f"axes without a role, in {where}: name them in the annotation, give jax.P(...), or default=None"
            )
        else:
            faults.append(
                f"the role {role!r} has no rule, in {where}: add one to params, or default=None"
            )
    return faults


def _unknown_axis(name: str, sizes: Mapping[str, int]) -> str:
    """For a fault: a mesh axis that the mesh does not have."""
    return f"the mesh has no axis {name!r}, only {', '.join(map(repr, sizes))}"


def _key_text(key: Any) -> str:
    """A key of rules as one writes it."""
    return key.__name__ if isinstance(key, type) else repr(key)


def _hint(role: str, known: list[str]) -> str:
    """For a role that no axis has: the one that may be meant, or all."""
    meant = did_you_mean(role, known)
    if meant:
        return f"; {meant}"
    return f"; there are {', '.join(sorted(known))}" if known else ""
