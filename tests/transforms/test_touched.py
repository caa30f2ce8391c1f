"""Under `jit` the States that the trace touches are inputs of what is compiled, and no others."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import State


class Table(gn.Node):
    """States of different sizes, by which the inputs of what is compiled are told apart."""

    a: State[Any]
    b: State[Any]
    c: State[Any]
    d: State[Any]
    size: int = 0


class Rows(gn.Node):
    """A State with a contract."""

    w: State[Float[Array, "rows"]]
    other: State[Any]


class Pair(gn.Node):
    left: State[Any]
    right: State[Any]


class Ring(gn.Node):
    w: State[Any]
    next: "Ring | None" = None


TRACES: list[Any] = []


@pytest.fixture(autouse=True)
def no_traces():
    TRACES.clear()
    functions: list[Any] = [read_a, by_size]
    for function in functions:
        for donate in (False, True):
            gn.jit(function, donate=donate).clear_cache()


def full(size: int, value: float) -> jax.Array:
    """A row of one number, whose type is not weak."""
    return jnp.full(size, value, jnp.float32)


def table(**values: Any) -> Table:
    """A table with 1.0, [2, 2], [3, 3, 3] ..., or with other values."""
    filled = {name: full(at, at) for at, name in enumerate("abcd", 1)} | values
    a, b, c, d = [State(filled[name]) for name in "abcd"]
    return Table(a, b, c, d)


def write(state: State[Any], value: Any) -> None:
    state.value = value


def done(_: object) -> None:
    """Nothing, as the result of a function that has used something."""


def refused(act: Callable[[], Any]) -> None:
    """What a function does that goes on after the error: which of the two happens depends on shapes."""
    with pytest.raises((gn.ContractError, gn.StackError, gn.UpdateError)):
        act()


def numbers(node: Any) -> list[Any]:
    """The values of all States, in path order."""
    return [jnp.asarray(state.value).tolist() for state in gn.states(node).values()]


def inputs(run: Any, *args: Any) -> str:
    """The names of the States of a table that are inputs of what is compiled."""
    leaves = jax.tree.leaves(run.lower(*args).args_info)
    return "".join(["abcd"[leaf.shape[0] - 1] for leaf in leaves])


# What is a touch

TOUCHES: dict[str, tuple[Callable[[Table], Any], str]] = {
    "nothing": (lambda node: None, ""),
    "a static field": (lambda node: node.size, ""),
    "the State itself": (lambda node: node.a is node.b, ""),
    "its structure": (lambda node: done(gn.graphdef(node)), ""),
    "its metadata": (lambda node: done((node.a.tag, node.a.name)), ""),
    "the value": (lambda node: node.a.value, "a"),
    "the shape": (lambda node: node.b.value.shape[0], "b"),
    "the dtype": (lambda node: done(node.c.value.dtype), "c"),
    "a write": (lambda node: write(node.c, jnp.zeros(3)), "c"),
    "an update": (lambda node: gn.update_states(node, {"c": jnp.zeros(3)}), "c"),
    "a look-up": (lambda node: gn.states(node)["b"].value, "b"),
    "a split": (lambda node: done(gn.treefy_split(node)), "abcd"),
    "state trees": (lambda node: done(gn.treefy_states(node)), "abcd"),
    "a clone": (lambda node: done(gn.clone(node)), "abcd"),
    "the node as a result": (lambda node: node, ""),
    "a State as a result": (lambda node: [node.d], ""),
    "jit": (lambda node: gn.jit(lambda inner: inner.a.value)(node), "a"),
    "jit in jit in jit": (lambda node: gn.jit(gn.jit(lambda inner: inner.c.value))(node), "c"),
    "a write in jit": (lambda node: gn.jit(lambda inner: write(inner.b, inner.b.value + inner.a.value))(node), "ab"),
    "a node made of its States": (lambda node: Pair(node.a, node.c).right.value, "c"),
    "a text": (lambda node: done(repr(node.b)), "b"),
    "the text of a node": (lambda node: done(str(node)), "abcd"),
    "the text of States": (lambda node: done(str(gn.states(node, gn.PathIn("a", "d")))), "ad"),
    "an update that does not fit": (lambda node: refused(lambda: gn.update_states(node, {"c": full(2, 1)})), "c"),
    "stacked States that differ": (lambda node: refused(lambda: gn.unstack(node)), "abcd"),
    "a method": (lambda node: gn.jit(node.b.value.__add__)(1.0), "b"),
    "a closure of jax.jit": (lambda node: jax.jit(lambda x: x * node.a.value)(2.0), "a"),
    "a closure of jax.lax.scan": (
        lambda node: jax.lax.scan(lambda carry, _: (carry + node.b.value, None), jnp.zeros(2), length=2)[0],
        "b",
    ),
    "a closure of jax.grad": (lambda node: jax.grad(lambda x: x * node.c.value.sum())(1.0), "c"),
    "a closure of gn.scan": (
        lambda node: gn.scan(lambda x, _: (x + node.d.value, None), jnp.zeros(4), length=2)[0],
        "d",
    ),
    "a closure of gn.cond": (lambda node: gn.cond(True, lambda: node.d.value, lambda: node.d.value), "d"),
    "a closure of gn.remat": (lambda node: gn.remat(lambda x: x * node.a.value)(1.0), "a"),
    "one State of gn.grad": (lambda node: done(gn.grad(lambda one: one.value.sum(), wrt=...)(node.b)), "b"),
}


@pytest.mark.parametrize("name", TOUCHES)
def test_only_what_is_touched_is_an_input(name: str):
    """Values, shapes, writes and all that is taken in bulk; not what the trace only passes by."""
    function, expected = TOUCHES[name]
    assert inputs(gn.jit(function), table()) == expected


BULK: dict[str, Callable[[Table], Any]] = {
    "grad": lambda node: gn.grad(lambda inner: inner.a.value.sum(), wrt=gn.PathIn("a"))(node)["a"].value,
    "vmap": lambda node: gn.vmap(lambda inner: inner.a.value, in_axes=None, axis_size=2)(node),
    "scan": lambda node: gn.scan(lambda inner, _: (inner, inner.a.value), node, length=2)[1],
    "cond": lambda node: gn.cond(True, lambda inner: inner.a.value, lambda inner: inner.a.value, node),
    "remat": lambda node: gn.remat(lambda inner: inner.a.value)(node),
}


@pytest.mark.parametrize("name", BULK)
def test_other_transforms_inside_take_all_states_of_their_arguments(name: str):
    """They take them out in bulk; and their results are right after all values have changed."""
    run = gn.jit(BULK[name])
    node = table()
    assert inputs(run, node) == "abcd"
    for value in (1.0, 5.0):
        node.a.value = full(1, value)
        assert run(node).tolist() == BULK[name](table(a=node.a.value)).tolist()


CHECKS: dict[str, Callable[[Rows], Any]] = {
    "a write": lambda node: write(node.w, jnp.ones(2)),
    "another State": lambda node: refused(lambda: setattr(node, "w", State(jnp.ones((2, 2))))),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_of_a_contract_is_a_touch(name: str):
    """What is new is compared with the shape that is there; a State beside it is not looked at."""
    run = gn.jit(CHECKS[name])
    leaves = jax.tree.leaves(run.lower(Rows(State(jnp.zeros(2)), State(jnp.zeros(5)))).args_info)
    assert [leaf.shape for leaf in leaves] == [(2,)]


def test_a_node_that_is_made_of_a_state_checks_its_contract():
    """So its shape is an input: for another shape the constructor runs again, and raises."""

    def build(state: State[Any]) -> float:
        TRACES.append("build")
        return 0.0 if Rows(state, State(jnp.zeros(1))).w is state else 1.0

    run = gn.jit(build)
    for _ in range(2):
        assert run(State(jnp.zeros(2))) == 0.0
    assert TRACES == ["build"]
    with pytest.raises(gn.ContractError):
        run(State(jnp.zeros((2, 2))))


# What is not touched may change


def read_a(node: Any) -> Any:
    TRACES.append("read_a")
    return node.a.value * 2


OTHERS: dict[str, Any] = {
    "shape": jnp.zeros((7, 7)),
    "dtype": jnp.zeros(2, jnp.int32),
    "weak type": jnp.asarray(1.0),
    "a container": {"x": jnp.zeros(2), "y": [jnp.zeros(1)]},
    "an empty container": {},
    "a key": jax.random.key(0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_touched_changes_without_a_trace(name: str):
    """Its shape, its dtype, the structure of its value; what was there stays there."""
    run = gn.jit(read_a)
    node = table()
    assert run(node).tolist() == [2.0]
    node.b.value = value = OTHERS[name]
    node.a.value = full(1, 5.0)
    assert run(node).tolist() == [10.0]
    assert jax.tree.all(jax.tree.map(lambda one, two: one is two, node.b.value, value))
    assert TRACES == ["read_a"]
    node.a.value = jnp.zeros(2)
    assert run(node).tolist() == [0.0, 0.0]
    assert len(TRACES) == 2


def test_what_is_not_touched_is_not_looked_at_in_later_traces():
    """A trace for other shapes of what is touched takes whatever the others hold then."""
    run = gn.jit(read_a)
    for size, other in enumerate([jnp.zeros(1), {"x": jnp.zeros(2)}, jax.random.key(0), jnp.zeros((3, 3))], 1):
        assert run(table(a=jnp.ones(size), b=other)).tolist() == [2.0] * size
    for other in ({}, jnp.zeros(9)):
        for size in range(1, 5):
            assert run(table(a=jnp.ones(size), b=other)).tolist() == [2.0] * size
    assert len(TRACES) == 4


def test_a_shape_that_was_looked_at_is_traced_again():
    """Though nothing is computed with the value."""

    def count(node: Table) -> Any:
        TRACES.append("count")
        return node.a.value * node.b.value.shape[0]

    run = gn.jit(count)
    for size in (2, 5, 2, 5):
        assert run(table(b=jnp.zeros(size))).tolist() == [float(size)]
    assert len(TRACES) == 2


def test_a_shape_that_was_printed_is_traced_again():
    """The text is of the shape that is there."""
    texts: list[str] = []
    run = gn.jit(lambda node: texts.append(repr(node.b)))
    for size in (2, 5, 2):
        run(table(b=jnp.zeros(size)))
    assert texts == [f"State(f32[{size}])" for size in (2, 5)]


def test_the_text_of_an_original_is_a_look_at_the_argument():
    """It shows the shape of the argument, and reads nothing of before the call."""
    node = table()
    assert inputs(gn.jit(lambda given: done((repr(node.b), given.a.value))), node) == "ab"


def test_another_structure_is_traced_again_though_nothing_of_it_is_touched():
    """What node stands where, and its static fields, are part of the key, as ever."""
    run = gn.jit(read_a)
    node = table()
    for size in (0, 1, 0, 1):
        node.size = size
        assert run(node).tolist() == [2.0]
    assert len(TRACES) == 2


def test_a_state_that_is_shared_is_one_input():
    """Two places of one State, in two arguments, are one input; apart they are two."""

    def both(left: State[Any], pair: Pair) -> Any:
        TRACES.append("both")
        left.value = left.value + 1
        return pair.left.value

    run = gn.jit(both)
    shared, other = State(jnp.zeros(3)), State(jnp.zeros(4))
    assert len(jax.tree.leaves(run.lower(shared, Pair(shared, other)).args_info)) == 1
    assert run(shared, Pair(shared, other)).tolist() == [1.0] * 3
    apart = State(jnp.zeros(3))
    assert run(apart, Pair(shared, other)).tolist() == [1.0] * 3
    assert run(apart, Pair(other, shared)).tolist() == [0.0] * 4
    assert (shared.value.tolist(), apart.value.tolist()) == ([1.0] * 3, [2.0] * 3)
    assert len(TRACES) == 3


def test_a_cycle_is_as_good_as_a_tree():
    """A State that is found by going round is the same input, and the untouched one beside it none."""

    def around(ring: Any) -> Any:
        TRACES.append("around")
        ring.next.next.w.value += 1.0
        return ring.w.value

    ring = Ring(State(jnp.zeros(3)))
    ring.next = Ring(State(jnp.zeros(4)), ring)
    run = gn.jit(around)
    for at, size in enumerate((4, 5, 6), 1):
        ring.next.w.value = jnp.zeros(size)
        assert run(ring).tolist() == [float(at)] * 3
    assert TRACES == ["around"]


def test_a_container_is_touched_as_a_whole():
    """All its arrays are inputs, and its structure is followed; what is written comes back."""

    def step(node: Table) -> Any:
        TRACES.append("step")
        content = node.a.value
        content["sum"] = sum([value.sum() for value in content.values()], jnp.zeros(()))
        return len(content)

    run = gn.jit(step)
    node = table(a={"x": jnp.ones(2)})
    results = [(int(run(node)), float(node.a.value["sum"])) for _ in range(3)]
    assert results == [(2, 2.0), (2, 4.0), (2, 6.0)]
    assert len(TRACES) == 2


def test_streams_are_inputs_where_they_are_drawn_from():
    """Only one branch of Python draws: elsewhere the streams are no inputs, and are not advanced."""

    class Noisy(gn.Node):
        rngs: gn.Rngs
        key: State[Any]

    def draw(node: Noisy, x: jax.Array) -> Any:
        TRACES.append("draw")
        return x + jax.random.uniform(node.rngs()) if x.shape[0] > 1 else x

    run = gn.jit(draw)
    node, twin = Noisy(gn.Rngs(0), State(jax.random.key(1))), gn.Rngs(0)
    for size in (1, 2, 1, 2, 2):
        expected = jax.random.uniform(twin()) if size > 1 else 0.0
        assert run(node, jnp.zeros(size)).tolist() == [float(expected)] * size
        assert int(node.rngs["default"].count.value) == int(twin["default"].count.value)
    assert len(TRACES) <= 3  # the first shape once more, with the streams


def test_a_typed_key_is_an_input():
    """A key that is read and written goes in and out as a key."""

    def split(state: State[Any], other: State[Any]) -> Any:
        state.value, key = jax.random.split(state.value)
        return key

    state, key = State(jax.random.key(3)), jax.random.key(3)
    run = gn.jit(split)
    for _ in range(2):
        key, expected = jax.random.split(key)
        assert run(state, state) == expected
        assert state.value == key


# Later traces touch more


def by_size(node: Table, x: jax.Array) -> Any:
    """Reads and writes more States, the longer x is."""
    TRACES.append(x.shape[0])
    total = node.a.value.sum()
    for state in [node.b, node.c, node.d][: x.shape[0] - 1]:
        total = total + state.value.sum()
        state.value = state.value + x.sum()
    return total


def plain(node: Table, x: jax.Array) -> Any:
    """What `by_size` does, without a note of it."""
    result = by_size(node, x)
    TRACES.pop()
    return result


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("sizes", ["1234123412", "4321432121", "1414231423", "2211443344"])
def test_other_shapes_may_touch_more(sizes: str, donate: bool):
    """Back and forth, all values are right, and each shape is traced at most once for each set of inputs."""
    run = gn.jit(by_size, donate=donate)
    node, twin = table(), table()
    for size in map(int, sizes):
        x = jnp.ones(size)
        assert run(node, x) == plain(twin, x)
        assert numbers(node) == numbers(twin)
    # When the inputs grow, what was compiled for fewer is not used any more.
    growths = len({max(sizes[: at + 1]) for at in range(len(sizes))}) - 1
    for size in map(int, sizes):
        run(node, jnp.ones(size))
    assert len(TRACES) <= 4 + 3 * growths
    seen = len(TRACES)
    for size in map(int, sizes):
        run(node, jnp.ones(size))
    assert len(TRACES) == seen


def test_inputs_grow_and_stay():
    """What was touched once is an input from then on, for all shapes."""
    run = gn.jit(by_size)
    node = table()
    assert [len(jax.tree.leaves(run.lower(node, jnp.ones(size)).args_info)) for size in (1, 3, 1)] == [2, 4, 4]


def test_a_state_that_a_wider_trace_takes_is_followed():
    """Once it is an input, another shape of it is another trace, also for calls that do not look at it."""
    run = gn.jit(by_size)
    for size in (1, 2):
        run(table(), jnp.ones(size))
    for b in (3, 4):
        assert float(run(table(b=jnp.ones(b)), jnp.ones(1))) == 1.0
        assert float(run(table(b=jnp.ones(b)), jnp.ones(2))) == 1.0 + b
    node = table(b={"x": jnp.ones(2)})
    assert float(run(node, jnp.ones(1))) == 1.0
    assert list(node.b.value) == ["x"]


def test_static_arguments_have_inputs_of_their_own():
    """Each static argument is another program, whose inputs are its own."""

    def pick(node: Table, name: str) -> Any:
        TRACES.append(name)
        return getattr(node, name).value.sum()

    run = gn.jit(pick, static_argnames="name")
    node = table()
    for _ in range(2):
        assert [float(run(node, name)) for name in "abcd"] == [1.0, 4.0, 9.0, 16.0]
    assert "".join(TRACES) == "abcd"
    assert [len(jax.tree.leaves(run.lower(node, name).args_info)) for name in "ad"] == [1, 1]


def test_what_is_donated_follows_what_traces_write():
    """A State that only a later shape writes is donated from then on; one that a shape does not write is given back."""
    run = gn.jit(by_size, donate=True)
    node, twin = table(), table()
    for size, donated in ((2, "b"), (1, "b"), (3, "bc"), (1, "bc"), (4, "bcd"), (1, "bcd")):
        old = {name: getattr(node, name).value for name in "abcd"}
        run(node, jnp.ones(size))
        plain(twin, jnp.ones(size))
        assert numbers(node) == numbers(twin)
        assert "".join([name for name in "abcd" if old[name].is_deleted()]) == donated


# Errors


class Stop(Exception):
    """On purpose."""


def test_an_error_in_a_trace_leaves_all_as_it_was():
    """The values, the inputs, and what is noted of a trace; the next call goes on."""

    def step(node: Table, x: jax.Array) -> Any:
        TRACES.append(x.shape[0])
        node.a.value = node.a.value + 1
        if x.shape[0] == 3:
            node.b.value = node.b.value + 1
            raise Stop
        return node.c.value

    node = table()
    for donate in (False, True):
        run = gn.jit(step, donate=donate)
        node.b.value = full(2, 2.0)
        with pytest.raises(Stop):
            run(node, jnp.ones(3))
        assert numbers(node) == numbers(table())
        assert run(node, jnp.ones(1)).tolist() == [3.0] * 3
        for _ in range(2):  # a trace that would touch more
            with pytest.raises(Stop):
                run(node, jnp.ones(3))
            assert numbers(node)[:2] == [[2.0], [2.0, 2.0]]
        seen = len(TRACES)
        node.b.value = jnp.zeros(9)
        assert run(node, jnp.ones(1)).tolist() == [3.0] * 3
        assert numbers(node)[0] == [3.0]
        assert len(TRACES) == seen
        node.a.value = full(1, 1.0)
    assert gn.jit(read_a)(node).tolist() == [2.0]
    assert jax.jit(lambda x: node.a.value + x)(1.0).tolist() == [2.0]


def test_an_error_of_a_wider_trace_inside_leaves_the_outer_function_well():
    """The inner function looks at more for one shape; an outer one that has failed once is traced afresh."""
    inner = gn.jit(by_size)
    fail = [True]

    def outer(node: Table, x: jax.Array) -> Any:
        result = inner(node, x)
        if fail[0]:
            raise Stop
        return result

    node = table()
    assert float(inner(node, jnp.ones(1))) == 1.0
    with pytest.raises(Stop):
        gn.jit(outer)(node, jnp.ones(3))
    assert numbers(node) == numbers(table())
    fail[0] = False
    twin = table()
    for size in (3, 1, 3):
        assert gn.jit(outer)(node, jnp.ones(size)) == plain(twin, jnp.ones(size))
        assert numbers(node) == numbers(twin)


# Within other transforms

AROUND: dict[str, Callable[[Any, Table], Any]] = {
    "jit": lambda run, node: gn.jit(lambda inner, x: run(inner, x))(node, jnp.ones(2)),
    "grad": lambda run, node: gn.value_and_grad(lambda x, inner: run(inner, x))(jnp.ones(2), node)[0],
    "grad of the node": lambda run, node: gn.value_and_grad(run, wrt=...)(node, jnp.ones(2))[0],
    "vmap": lambda run, node: gn.vmap(lambda x: run(gn.clone(node), x))(jnp.ones((1, 2)))[0],
    "scan": lambda run, node: gn.scan(lambda inner, x: (inner, run(inner, x)), node, jnp.ones((1, 2)))[1][0],
    "cond": lambda run, node: gn.cond(True, run, run, node, jnp.ones(2)),
    "remat": lambda run, node: gn.remat(run)(node, jnp.ones(2)),
    "jax.jit": lambda run, node: jax.jit(lambda x: run(gn.clone(node), x))(jnp.ones(2)),
    "jax.grad": lambda run, node: jax.value_and_grad(lambda x: run(gn.clone(node), x))(jnp.ones(2))[0],
    "jax.vmap": lambda run, node: jax.vmap(lambda x: run(gn.clone(node), x))(jnp.ones((1, 2)))[0],
    "jax.disable_jit": lambda run, node: without_compiling(run, node),
}


def without_compiling(run: Any, node: Table) -> Any:
    with jax.disable_jit():
        return run(node, jnp.ones(2))


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("name", AROUND)
def test_a_jitted_function_inside_of_another_transform(name: str, donate: bool, is_first: bool):
    """It does there what it does alone, also where it was compiled before for a shape that touches less, and after."""
    run = gn.jit(by_size, donate=donate)
    run.clear_cache()
    node, twin = table(), table()
    if not is_first:
        assert run(node, jnp.ones(1)) == 1.0
    assert float(AROUND[name](run, node)) == float(AROUND[name](plain, twin)) == 5.0
    assert numbers(node) == numbers(twin)
    for size in (2, 1, 3):
        assert run(node, jnp.ones(size)) == plain(twin, jnp.ones(size))
        assert numbers(node) == numbers(twin)


def test_a_gradient_through_a_jitted_function():
    """With respect to the touched States; the untouched have zeros."""
    node = table()

    @gn.jit
    def loss(inner: Table) -> Any:
        return (inner.b.value**2).sum()

    grads = gn.grad(loss, wrt=...)(node)
    assert [grads[name].value.tolist() for name in "abcd"] == [[0.0], [4.0, 4.0], [0.0] * 3, [0.0] * 4]


def test_the_outer_function_touches_what_the_inner_one_does():
    """Also where the inner one is compiled already, and is not traced again."""
    inner: Any = gn.jit(read_a)
    inner(table())
    outer: Any = gn.jit(lambda node: inner(node) + node.b.value.sum())
    assert inputs(outer, table()) == "ab"
    node = table()
    for c in (3, 9):
        node.c.value = jnp.zeros(c)
        node.a.value = full(1, c)
        assert outer(node).tolist() == [2.0 * c + 4.0]
    assert len(TRACES) == 1


# Threads


def test_two_threads_trace_one_function_at_once():
    """Each notes its own reads; all results are right, and nothing is noted afterwards."""
    barrier = threading.Barrier(2, timeout=30)
    met = {threading.get_ident()}  # the threads that need not wait

    def step(node: Table, x: jax.Array) -> Any:
        is_first = threading.get_ident() not in met
        met.add(threading.get_ident())
        if is_first:
            barrier.wait()
        result = by_size(node, x)
        if is_first:
            barrier.wait()
        return result

    run = gn.jit(step)
    nodes = {size: table() for size in (1, 4)}
    results: dict[int, float] = {}

    def call(size: int) -> None:
        results[size] = float(run(nodes[size], jnp.ones(size)))

    threads = [threading.Thread(target=call, args=(size,)) for size in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == {1: 1.0, 4: 30.0}
    assert numbers(nodes[1]) == numbers(table())
    assert numbers(nodes[4])[1:] == [[6.0] * 2, [7.0] * 3, [8.0] * 4]
    for size in (1, 4, 1, 4):
        assert float(run(table(), jnp.ones(size))) == results[size]
    assert len(TRACES) <= 4
    assert inputs(gn.jit(read_a), table()) == "a"
