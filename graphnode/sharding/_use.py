"""What is done by a plan: make a model in place, move one, and make it whole again."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec

from .._compat import jaxpr_as_fun, weakly_typed
from .._errors import listed
from .._graph._binding_cache import binding_of
from .._keys import is_key, is_on_host
from .._paths import Path, path_str
from .._processes import Group
from .._split import clone, states
from .._stream import scope
from .._update import update_states
from ..transforms import eval_shape
from ._agreement import (
    group_of,
    host_copy,
    key_text,
    program_text,
    raise_if_any,
    rows_of,
    value_rows,
)
from ._plan import Plan, check_plan

T = TypeVar("T")

# What `init` makes at once: XLA needs as much again for the random numbers of all arrays
# of a program, which it makes side by side.
_PART: Final = 1 / 8
_LEAST_PART: Final = 256 * 2**20  # bytes, of the whole model


def init(build: Callable[[], T], key: jax.Array, plan: Plan) -> T:
    """Make a model laid out as a plan says: each device makes its own part, and nothing is whole anywhere.

    The values are those that `build()` gives under `gn.random.scope(key)`, within
    rounding. `build` runs twice, as JAX traces it; what it does beside making the model
    happens twice. Several processes call it together, and compare first what they are about
    to make.

    Args:
        build: A function without arguments that makes the model, or a pytree of nodes.
        key: What its random numbers come from.
        plan: The plan, of an abstract model of the same build.

    Raises:
        TypeError: `plan` is not a plan.
        ValueError: The plan is of another model, or its mesh is abstract.
        ProcessError: Key, plan, model, or what `build` computes are not the same in all
            processes, or one of them has failed; names all.

    Example:
        >>> build = lambda: gn.nn.Linear(8, 4)
        >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        >>> rules = gn.sharding.Rules(params={"in": "data"}, default=None)
        >>> plan = gn.sharding.plan(gn.eval_shape(build), mesh, rules)
        >>> gn.sharding.init(build, jax.random.key(0), plan).weight.value.sharding.spec
        P('data', None)
    """
    check_plan(plan, "init")
    group = group_of(plan._devices(), "init")
    with group.together():
        model = eval_shape(build)
        shardings = tuple(_of_model("init", model, plan).values())
    given = group.differences(lambda: [("key", key_text(key)), *rows_of(model, plan)])
    raise_if_any(given, "init")

    def make(key: jax.Array) -> tuple[Any, ...]:
        """The values of all States."""
        with scope(key):
            made = build()
        return tuple([state.value for state in binding_of(made).states])

    _write(model, _in_parts(make, key, shardings, group))
    return model


def _in_parts(
    make: Callable[[jax.Array], tuple[Any, ...]],
    key: jax.Array,
    shardings: Sequence[NamedSharding],
    group: Group,
) -> tuple[Any, ...]:
    """What a function gives for a key, laid out so, by a compiled program for each part of a large result.

    XLA leaves out of each program what its part does not need.

    Raises:
        ProcessError: A program is not the same in all processes.
    """
    program, result = jax.make_jaxpr(make, return_shape=True)(key)
    run = jaxpr_as_fun(program)
    shapes, treedef = jax.tree.flatten(result)
    # A State may hold several arrays.
    places = [
        sharding
        for sharding, value in zip(shardings, result, strict=True)
        for _ in jax.tree.leaves(value)
    ]
    leaves: list[jax.Array] = []
    for part in _parts([shape.size * shape.dtype.itemsize for shape in shapes]):
        lowered = jax.jit(
            lambda key, part=part: run(key)[part], out_shardings=places[part]
        ).lower(key)
        # The constants in it too: arrays of NumPy that `build` has made or read.
        describe = partial(_program_rows, lowered)
        raise_if_any(group.differences(describe), "init", _OWN_CONSTANT)
        # The memory of one part is free before the next one begins.
        leaves += [leaf.block_until_ready() for leaf in lowered.compile()(key)]
    made: tuple[Any, ...] = jax.tree.unflatten(treedef, leaves)
    return made


def _program_rows(lowered: jax.stages.Lowered) -> list[tuple[str, str]]:
    """For `_in_parts`: what processes compare of a program."""
    return [("what build computes", program_text(lowered.as_text()))]


_OWN_CONSTANT: Final = (
    "numbers that differ between processes, such as those of np.random, a file or "
    "jax.process_index(), are constants there: draw them from the key"
)


def _parts(sizes: Sequence[int]) -> list[slice]:
    """Consecutive arrays that are made at once, by the bytes of all arrays."""
    most = max(_LEAST_PART, _PART * sum(sizes))
    starts, size = [0], 0
    for number, own in enumerate(sizes):
        if size and size + own > most:
            starts.append(number)
            size = 0
        size += own
    return [
        slice(start, end)
        for start, end in zip(starts, [*starts[1:], len(sizes)], strict=True)
    ]


def place(model: T, plan: Plan) -> T:
    """Move the States of a model to where a plan says. In place: nodes and States keep their identity.

    Args:
        model: The model, or a pytree of nodes.
        plan: Its plan.

    Returns:
        The model itself.

    Raises:
        TypeError: `plan` is not a plan.
        ValueError: The plan is of another model, or its mesh is abstract.
        ProcessError: Plan, model, or the values that each process has whole are not the
            same in all processes, or one of them has failed; names all.

    Example:
        >>> model = gn.nn.Linear(8, 4)
        >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        >>> plan = gn.sharding.plan(model, mesh, gn.sharding.Rules(params={"in": "data"}, default=None))
        >>> gn.sharding.place(model, plan).weight.value.sharding.spec
        P('data', None)

    See also: `gather`, the inverse; `init`, for a model that is too large for one device.
    """
    _place("place", model, plan)
    return model


def gather(model: T, plan: Plan) -> T:
    """Give each device of a plan's mesh all of every State. In place: nodes and States keep their identity.

    Args:
        model: The model, or a pytree of nodes.
        plan: Its plan.

    Returns:
        The model itself.

    Raises:
        TypeError: `plan` is not a plan.
        ValueError: The plan is of another model, or its mesh is abstract.
        ProcessError: As of `place`.
    """
    # What processes have on devices of their own would count as replicated, whatever it is.
    shardings = _place("gather", model, plan)
    everywhere: Any = PartitionSpec
    whole = NamedSharding(plan._devices(), everywhere())
    current = states(model)
    values = tuple([current[path].value for path in shardings])
    # Compiled, so that several hosts can take part.
    _write(model, jax.jit(tuple, out_shardings=whole)(values))
    return model


def abstract(model: T, plan: Plan) -> T:
    """A copy of a model that has no arrays: shapes, dtypes, and where each is to be. Checkpoints restore into it.

    Args:
        model: The model, abstract or not.
        plan: Its plan.

    Raises:
        TypeError: `plan` is not a plan.
        ValueError: The plan is of another model, or its mesh is abstract.
    """
    check_plan(plan, "abstract")
    shardings = _of_model("abstract", model, plan)
    copy = eval_shape(lambda: clone(model))
    current = states(copy)
    struct: Any = jax.ShapeDtypeStruct  # JAX has no types for it
    _write(
        copy,
        [
            jax.tree.map(
                lambda leaf, sharding=sharding: struct(
                    leaf.shape, leaf.dtype, sharding=sharding
                ),
                current[path].value,
            )
            for path, sharding in shardings.items()
        ],
    )
    return copy


@contextmanager
def use(plan: Plan) -> Generator[Plan]:
    """Make a plan active, as `with plan:` does.

    Raises:
        ValueError: The mesh is abstract.
    """
    check_plan(plan, "use")
    with plan:
        yield plan


def _place(name: str, model: object, plan: Plan) -> dict[Path, NamedSharding]:
    """For `place` and `gather`: move the States of a model to where a plan says.

    Returns:
        The shardings, by path.
    """
    check_plan(plan, name)
    group = group_of(plan._devices(), name)
    with group.together():
        shardings = _of_model(name, model, plan)
    current = states(model)
    values = {path: current[path].value for path in shardings}
    different = group.differences(lambda: [*rows_of(model, plan), *value_rows(values)])
    raise_if_any(different, name)
    _write(
        model,
        [
            jax.tree.map(partial(_moved, sharding=sharding), values[path])
            for path, sharding in shardings.items()
        ],
    )
    return shardings


# Any: abstract values are JAX's to refuse.
def _moved(leaf: Any, sharding: NamedSharding) -> Any:
    """An array where a sharding says. Of one that this process has whole, each of its devices takes its part."""
    if jax.process_count() == 1 or not is_on_host(leaf) or leaf.sharding == sharding:
        return jax.device_put(leaf, sharding)
    # Not by `device_put`: it takes no keys here, and no arrays that were put on a device;
    # of others it sends all items to all processes, to compare them.
    host = host_copy(leaf)
    moved = jax.make_array_from_callback(
        host.shape, sharding, lambda index: host[index]
    )
    if is_key(leaf):
        keys: Any = jax.random.wrap_key_data(moved, impl=jax.random.key_impl(leaf))
        return keys
    return weakly_typed(moved) if leaf.weak_type else moved


def _write(model: object, values: Any) -> None:
    """Give all States their values, in layout order."""
    layout = binding_of(model).graphdef.layout
    update_states(model, dict(zip(layout.paths(), values, strict=True)))


def _of_model(name: str, model: object, plan: Plan) -> dict[Path, NamedSharding]:
    """The shardings of the States of a model, in its order.

    Raises:
        ValueError: The plan has others, or was made for other shapes.
    """
    shardings = plan.shardings
    rows = {row.path: row for row in plan.rows}
    faults: list[str] = []
    binding = binding_of(model)
    paths = list(binding.graphdef.layout.paths())
    for path, value in zip(paths, binding.peek(), strict=True):
        shape = getattr(value, "shape", ())
        if path not in rows:
            faults.append(f"{path_str(path)}: not in the plan")
        elif rows[path].shape != shape:
            faults.append(
                f"{path_str(path)}: the plan is for the shape {rows[path].shape}, found {shape}"
            )
    faults += [
        f"{path_str(path)}: in the plan alone"
        for path in rows
        if path not in set(paths)
    ]
    if faults:
        raise ValueError(
            f"gn.sharding.{name}: the plan is of another model: {listed(faults)}"
        )
    return {path: shardings[path] for path in paths}
