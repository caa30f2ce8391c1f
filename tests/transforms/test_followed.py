"""For random programs, with random edits between the calls: what is compiled computes what the function itself does."""

import dataclasses
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import graphnode as gn
from graphnode import State


class Net(gn.Node):
    """Three States of rows and one of a table; more may be appended."""

    rows: list[State[Any]]
    table: State[Any]
    factor: int = 1
    inner: "Net | None" = None


class Trainer:
    """A plain object around the function."""

    def __init__(self, net: Net) -> None:
        self.net = net


def full(size: int, value: float) -> jax.Array:
    return jnp.full(size, value, jnp.float32)


def net(value: float = 1.0) -> Net:
    return Net([State(full(1, value + at)) for at in range(3)], State({"x": full(1, value)}))


# A step of a program: what it does, and the numbers of two States.
Step = tuple[str, int, int]
# From a net, x and the total so far to the next total.
Work = Callable[[Net, jax.Array, jax.Array], Any]


class World:
    """A net to call a function with, the nodes around the function, and the function."""

    def __init__(self, steps: list[Step], more: list[Step]) -> None:
        """With the steps of all shapes of x, and those of more than one row alone."""
        self.net = net()
        self.net.inner = net(2.0)
        teacher = net(3.0)
        trainer = Trainer(net(4.0))
        nets = {"best": net(5.0)}

        def outside(at: int) -> Net:
            """A node around the function, by a number."""
            return (teacher, trainer.net, nets["best"])[at % 3]

        def rebind(at: int, new: Net) -> None:
            nonlocal teacher
            if at % 3 == 0:
                teacher = new
            elif at % 3 == 1:
                trainer.net = new
            else:
                nets["best"] = new

        self.outside, self.rebind = outside, rebind
        first, later = one_after_another(steps, outside), one_after_another(more, outside)

        def function(net: Net, x: jax.Array) -> Any:
            total = first(net, x, x.sum())
            return later(net, x, total) if x.shape[0] > 1 else total

        self.function: Callable[[Net, jax.Array], Any] = function

    def values(self) -> list[Any]:
        """The values of all States, those of the nodes around the function last.

        `None` for an array of a node around it that the argument had, too, and that was donated with it: where the
        function does not look at that node, nobody knows of it.
        """
        around = [gn.treefy_states(self.outside(at)) for at in range(3)]
        leaves = [None if leaf.is_deleted() else np.asarray(leaf) for leaf in jax.tree.leaves(around)]
        return [*map(np.asarray, jax.tree.leaves(gn.treefy_states(self.net))), *leaves]


def row(net: Net, at: int) -> State[Any]:
    return net.rows[at % len(net.rows)]


def one_after_another(steps: list[Step], outside: Callable[[int], Net]) -> Work:
    """A function for several steps. What is around the single ones is found through the cells of functions."""
    first, *others = steps
    work = work_of(first, outside)
    if not others:
        return work
    rest = one_after_another(others, outside)
    return lambda net, x, total: rest(net, x, work(net, x, total))


def work_of(step: Step, outside: Callable[[int], Net]) -> Work:
    """A function for a step; what loops and branches get is made once, so that its trace may be kept."""
    kind, i, j = step

    def mix(net: Net, total: jax.Array) -> Any:
        """Reads one State, writes another one."""
        target = row(net, j)
        target.value = target.value * 0.5 + row(net, i).value.sum() * 0.25
        return total * 0.5 + target.value.sum()

    def seen(total: Any) -> Any:
        """Reads a State of outside."""
        return total * 0.5 + row(outside(i), j).value.sum() * outside(i).factor

    def assign(net: Net, x: jax.Array, total: jax.Array) -> Any:
        row(net, i).value = row(net, j).value
        return total

    def grow(net: Net, x: jax.Array, total: jax.Array) -> Any:
        content = net.table.value
        content["sum"] = sum([leaf.sum() for leaf in content.values()], jnp.float32(0)) * 0.5
        return total + len(content)

    def merged(net: Net, x: jax.Array, total: jax.Array) -> Any:
        graphdef, params = gn.treefy_split(net)
        return total * 0.5 + row(gn.treefy_merge(graphdef, params), i).value.sum()

    inner = gn.jit(mix)
    gradient = gn.grad(lambda net, total: (row(net, i).value ** 2).sum() * total, wrt=...)
    slope = gn.grad(lambda total: (seen(total) ** 2).sum())

    def scanned(carry: tuple[Net, jax.Array], _: None) -> tuple[tuple[Net, jax.Array], None]:
        return (carry[0], mix(*carry)), None

    def scanned_around(total: jax.Array, _: None) -> tuple[jax.Array, None]:
        return seen(total), None

    def raised(net: Net, total: jax.Array) -> Any:
        return mix(net, total) + 1.0

    again = gn.remat(mix)
    again_around = gn.remat(seen)
    mapped = gn.vmap(lambda x, total: seen(total) * x, (0, None))
    compiled_around = gn.jit(seen)

    kinds: dict[str, Work] = {
        "read": lambda net, x, total: total * 0.5 + row(net, i).value.sum(),
        "mix": lambda net, x, total: mix(net, total),
        "assign": assign,
        "shape": lambda net, x, total: total + row(net, i).value.shape[0],
        "factor": lambda net, x, total: total + net.factor,
        "grow": grow,
        "clone": lambda net, x, total: total * 0.5 + row(gn.clone(net), i).value.sum(),
        "merge": merged,
        "below": lambda net, x, total: total if net.inner is None else mix(net.inner, total),
        "jit": lambda net, x, total: inner(net, total),
        "grad": lambda net, x, total: total * 0.5 + row(gradient_net(net, gradient(net, total)), i).value.sum() * 0.1,
        "scan": lambda net, x, total: gn.scan(scanned, (net, total), None, length=2)[0][1],
        "cond": lambda net, x, total: gn.cond(total > 2, mix, raised, net, total),
        "remat": lambda net, x, total: again(net, total),
        "around": lambda net, x, total: seen(total),
        "jit around": lambda net, x, total: compiled_around(total),
        "shape around": lambda net, x, total: total + row(outside(i), j).value.shape[0],
        "table around": lambda net, x, total: total + sum([leaf.sum() for leaf in outside(i).table.value.values()]),
        "clone around": lambda net, x, total: total + row(gn.clone(outside(i)), j).value.sum(),
        "scan around": lambda net, x, total: gn.scan(scanned_around, total, None, length=2)[0],
        "cond around": lambda net, x, total: gn.cond(total > 2, seen, jnp.sin, total),
        "switch around": lambda net, x, total: gn.switch(i, [jnp.sin, seen, seen], total),
        "while around": lambda net, x, total: gn.while_loop(lambda total: total < 4, lambda t: abs(seen(t)) + 3, total),
        "fori around": lambda net, x, total: gn.fori_loop(0, 2, lambda _, total: seen(total), total),
        "remat around": lambda net, x, total: again_around(total),
        "grad around": lambda net, x, total: slope(total) * 0.1,
        "vmap around": lambda net, x, total: mapped(x, total).sum() * 0.5,
        "lax.scan around": lambda net, x, total: jax.lax.scan(scanned_around, total, None, length=2)[0],
        "lax.cond around": lambda net, x, total: jax.lax.cond(total > 2, seen, jnp.sin, total),
    }
    return kinds[kind]


def gradient_net(net: Net, grads: Any) -> Net:
    """A net with the gradients in it."""
    made = gn.clone(net)
    gn.update_states(made, grads)
    return made


INSIDE = ["read", "mix", "assign", "shape", "factor", "grow", "clone", "merge", "below"]
COMPILED = ["jit", "grad", "scan", "cond", "remat"]
AROUND = ["around", "shape around", "table around", "clone around", "jit around", "scan around", "cond around"]
COMPILED_AROUND = ["switch around", "while around", "fori around", "remat around", "grad around", "vmap around"]
KINDS = INSIDE + COMPILED + AROUND + COMPILED_AROUND
# These keep what they read of outside as a constant where nothing of graphnode traces, as JAX has it.
PLAIN = ["lax.scan around", "lax.cond around"]


@dataclasses.dataclass
class Edit:
    """A change between two calls, which is made in each world.

    Attributes:
        kind: What is done.
        at: A number that selects the node; 0 is the argument.
        number: Of the State.
        size: Of the new value.
        value: Its number.
    """

    kind: str
    at: int
    number: int
    size: int
    value: float

    def make(self, world: World) -> None:
        target = world.net if self.at == 0 else world.outside(self.at)
        new = net(self.value)
        new.factor = self.size
        match self.kind:
            case "value":
                row(target, self.number).value = full(self.size, self.value)
            case "key":
                target.table.value = {"x": full(1, self.value), "y": full(self.size, self.value)}
            case "factor":
                target.factor = self.size
            case "append":
                target.rows.append(State(full(self.size, self.value)))
            case "State":
                target.rows[self.number % len(target.rows)] = State(full(self.size, self.value))
            case "rebind":
                world.rebind(self.at, new)
            case "alias":
                world.rebind(self.at, world.outside(self.at + 1))
            case "array":
                row(world.outside(self.at), self.number).value = row(world.net, self.number).value
            case "argument":
                world.net = gn.clone(world.net)
            case "inner":
                target.inner = new if target.inner is None else None
            case _:
                raise AssertionError(self.kind)


EDITS = ["value", "key", "factor", "append", "State", "rebind", "alias", "array", "argument", "inner"]


def steps_of(kinds: list[str]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=4)


edits = st.builds(
    Edit, st.sampled_from(EDITS), st.integers(0, 3), st.integers(0, 2), st.integers(1, 2), st.sampled_from([0.5, 2.0])
)
calls = st.lists(st.tuples(st.lists(edits, max_size=2), st.integers(1, 3)), min_size=1, max_size=5)


@hypothesis.settings(max_examples=8)
@hypothesis.given(steps=steps_of(KINDS + PLAIN), more=steps_of(KINDS + PLAIN), calls=calls, donate=st.booleans())
def test_what_is_compiled_follows_all_changes(
    steps: list[Step], more: list[Step], calls: list[tuple[list[Edit], int]], donate: bool
):
    """Of values, shapes, nodes and static fields, of the argument and around the function."""
    world, twin = World(steps, more), World(steps, more)
    compare(world, twin, gn.jit(world.function, donate=donate), calls)


@pytest.mark.slow
@hypothesis.settings(max_examples=8)
@hypothesis.given(steps=steps_of(KINDS), more=steps_of(KINDS), calls=calls)
def test_what_loops_and_branches_keep_follows_all_changes(
    steps: list[Step], more: list[Step], calls: list[tuple[list[Edit], int]]
):
    """Without `jit` around them."""
    world, twin = World(steps, more), World(steps, more)
    compare(world, twin, world.function, calls)


def compare(world: World, twin: World, run: Any, calls: list[tuple[list[Edit], int]]) -> None:
    """Call one of two equal worlds by `run`, and the other without compiling, with edits of both in between."""
    for changes, size in [([], 1), *calls]:
        for change in changes:
            change.make(world)
            change.make(twin)
        x = full(size, 0.5)
        result = run(world.net, x)
        with jax.disable_jit():
            expected = twin.function(twin.net, x)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
        values, expected_values = world.values(), twin.values()
        assert len(values) == len(expected_values)
        for one, two in zip(values, expected_values, strict=True):
            if one is not None:
                np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
