"""What a transform writes, and the nodes that it gives, keep the contracts of all fields that a State stands in."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode.transforms import _boundary
from graphnode.transforms._traits import TRAITS

Function = Callable[..., Any]
TEXT = 'Embedding.table: expected rows = 3 of Float[Array, "rows 2"], found shape (4, 2)'


class Embedding(gn.Node):
    """Holds its State to a contract."""

    rows: int
    table: gn.ParamState[Float[Array, "rows 2"]] = gn.state(jax.nn.initializers.ones)


class Rows(gn.Node):
    """Holds its State to a size, like an embedding."""

    rows: int
    weight: gn.ParamState[Float[Array, "rows 2"]]


class Matrix(gn.Node):
    """Holds its State to a rank and a dtype."""

    weight: gn.ParamState[Float[Array, "rows columns"]]


class Head(gn.Node):
    """Holds its State to nothing."""

    weight: gn.ParamState


def grow(head: Head) -> Array:
    """Give the State of a head one row more."""
    value: Array = head.weight.value
    head.weight.value = jnp.concatenate([value, jnp.zeros((1, 2))])
    return jnp.sum(value)


def beside(transform: Function) -> Function:
    """A transform that differentiates for a number before the node."""

    def of(function: Function) -> Function:
        return lambda head: transform(lambda x, head: x * jnp.sum(function(head)))(1.0, head)

    return of


def vjp(function: Function) -> Function:
    """The value alone."""
    return lambda head: gn.vjp(function, head)[0]


def jvp(function: Function) -> Function:
    """The value alone."""
    return lambda head: gn.jvp(function, (head,), ({},))[0]


def linearize(function: Function) -> Function:
    """The value alone."""
    return lambda head: gn.linearize(function, head)[0]


def custom_jvp(function: Function) -> Function:
    """Without a derivative."""
    made = gn.custom_jvp(function)
    made.defjvp(lambda primals, tangents: (function(*primals), tangents))
    return made


def custom_vjp(function: Function) -> Function:
    """Without a derivative."""
    made = gn.custom_vjp(function)
    made.defvjp(lambda head: (function(head), None), lambda _, cotangent: (None,))
    return made


def shard_map(function: Function) -> Function:
    """On one device."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    return gn.shard_map(function, mesh=mesh, in_specs=jax.P(), out_specs=jax.P())


TRANSFORMS: dict[str, Function] = {
    "eager": lambda function: function,
    "jit": gn.jit,
    "jit in jit": lambda function: gn.jit(gn.jit(function)),
    "donating": gn.jit(donate=True),
    "donating by name": gn.jit(donate_argnums=0),
    "remat": gn.remat,
    "grad": beside(gn.grad),
    "value_and_grad": beside(gn.value_and_grad),
    "jacfwd": beside(gn.jacfwd),
    "jacrev": beside(gn.jacrev),
    "hessian": beside(gn.hessian),
    "vjp": vjp,
    "jvp": jvp,
    "linearize": linearize,
    "custom_jvp": custom_jvp,
    "custom_vjp": custom_vjp,
    "checkify": gn.checkify,
    "capture": lambda function: gn.capture(function, ..., missing_ok=True),
    "capture_grads": beside(lambda function: gn.capture_grads(function, ..., missing_ok=True)),
    "intervene": lambda function: gn.intervene(function, {}),
    "shard_map": shard_map,
}
KEEPING_SHAPES: dict[str, Function] = {
    "cond": lambda function: lambda head: gn.cond(True, function, function, head),
    "switch": lambda function: lambda head: gn.switch(0, [function, function], head),
    "scan": lambda function: lambda head: gn.scan(lambda head, _: (head, function(head)), head, length=2),
    "fori_loop": lambda function: lambda head: gn.fori_loop(0, 2, lambda _, head: (function(head), head)[1], head),
    "while_loop": lambda function: (
        lambda head: gn.while_loop(
            lambda head: jnp.sum(head.weight.value) < 0, lambda head: (function(head), head)[1], head
        )
    ),
}
# The shapes that `eval_shape` and `make_jaxpr` give are of no State; in `associative_scan` none is written; `vmap` has
# tables of its own.
ELSEWHERE = {"associative_scan", "eval_shape", "make_jaxpr", "vmap"}


def test_no_transform_is_left_out():
    """Every transform stands in a table of this module, or elsewhere for a reason."""
    assert set(TRAITS) - ELSEWHERE <= {*TRANSFORMS, *KEEPING_SHAPES}


unused_donation = pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")


@unused_donation
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "shard_map" else ()) for name in TRANSFORMS]
)
def test_a_write_keeps_the_contract_of_a_field_that_is_no_argument(name: str):
    """As in eager code it is refused, and nothing is written; where no field asks for anything, it is written."""
    embedding = Embedding(3)
    run, before = TRANSFORMS[name](grow), embedding.table.value
    for _ in range(2):
        with pytest.raises(gn.ContractError, match=r"Embedding\.table: expected rows = 3"):
            run(Head(embedding.table))
    assert embedding.table.value is before
    assert not before.is_deleted()
    free = Head(gn.ParamState(jnp.ones((3, 2))))
    run(free)
    assert free.weight.value.shape == (4, 2)
    with pytest.raises(gn.ContractError):  # by what was compiled now
        run(Head(embedding.table))
    assert jnp.sum(embedding.table.value) == 6


@pytest.mark.parametrize("name", KEEPING_SHAPES)
def test_where_shapes_are_kept_contracts_are(name: str):
    """Loops and branches write no other shape, whatever fields ask for."""
    embedding = Embedding(3)
    before = embedding.table.value
    with pytest.raises(TypeError, match="shape"):
        KEEPING_SHAPES[name](grow)(Head(embedding.table))
    assert embedding.table.value is before


def test_a_write_in_a_lane_keeps_the_contract_of_the_whole():
    """The State of a stack is held to the shape that is there."""
    stacked = gn.stack([Embedding(3), Embedding(3)])
    before = stacked.table.value
    with pytest.raises(gn.ContractError, match=r"gn\.vmap: head\.weight is held to Embedding\.table: expected rank 2"):
        gn.vmap(grow)(Head(stacked.table))
    assert stacked.table.value is before


def test_the_message_names_the_argument_and_the_field():
    """And all States at once, also one that is itself the argument."""
    first, second = Embedding(3), Embedding(3)

    def write(head: Head, state: gn.State[Array]) -> None:
        grow(head)
        gn.update_states(state, {(): jnp.ones(9, jnp.int32)}, check=False)

    with pytest.raises(gn.ContractError) as caught:
        gn.jit(write)(Head(first.table), second.table)
    assert str(caught.value) == (
        f"gn.jit: 2 faults:\n  head.weight is held to {TEXT}\n  state is held to Embedding.table: expected dtype "
        'Float of Float[Array, "rows 2"], found int32'
    )
    assert jnp.sum(first.table.value) == 6


class Pair(gn.Node):
    """Two States."""

    head: Head
    count: gn.State


@unused_donation
def test_a_donating_call_that_breaks_a_contract_has_given_no_memory_away():
    """Not for a first trace, not for one of other shapes, and not for one that JAX has already."""
    traces: list[tuple[int, ...]] = []

    @gn.jit(donate=True)
    def step(pair: Pair) -> None:
        traces.append(pair.head.weight.value.shape)
        pair.count.value += 1
        if pair.head.weight.value.shape[0] == 3:
            grow(pair.head)

    def pair_of(state: gn.ParamState[Any]) -> Pair:
        return Pair(Head(state), gn.State(jnp.zeros(2)))

    step(pair_of(gn.ParamState(jnp.ones((2, 2)))))
    held = pair_of(Embedding(3).table)
    for _ in range(2):
        with pytest.raises(gn.ContractError, match=r"^gn\.jit: pair\.head\.weight is held to Embedding\.table: "):
            step(held)
    free = pair_of(gn.ParamState(jnp.ones((3, 2))))
    step(free)
    count = len(traces)
    with pytest.raises(gn.ContractError):
        step(held)
    assert len(traces) == count
    assert (free.head.weight.value.shape, int(free.count.value[0])) == ((4, 2), 1)
    assert (held.head.weight.value.shape, int(held.count.value[0])) == ((3, 2), 0)


def test_a_call_that_keeps_shapes_looks_at_no_contract(monkeypatch: pytest.MonkeyPatch):
    """What has the shape and dtype of before needs no look, at any call."""

    def refuse(*_: object) -> list[str]:
        raise AssertionError

    monkeypatch.setattr(_boundary, "contract_faults", refuse)

    @gn.jit
    def double(head: Head) -> None:
        head.weight.value *= 2

    embedding = Embedding(3)
    for _ in range(2):
        double(Head(embedding.table))
    assert jnp.sum(embedding.table.value) == 24


# What is written, and what holds the State that it is written into.
VALUES = [jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.ones((3, 2), jnp.int32), jnp.ones(3)]
HOLDERS: list[Callable[[Any], gn.Node]] = [functools.partial(Rows, 3), Matrix, Head]


def writing(value: Array) -> Callable[[Head], Array]:
    def write(head: Head) -> Array:
        head.weight.value = value
        return jnp.zeros(())

    return write


def outcome(run: Function, held_by: tuple[Callable[[Any], gn.Node], ...]) -> Any:
    """Whether a write into a State that stands in some nodes is refused, and what it leaves there."""
    state: gn.ParamState[Array] = gn.ParamState(jnp.ones((3, 2)))
    for holder in held_by:
        holder(state)
    try:
        run(Head(state))
    except gn.ContractError:
        return "refused", state.value.shape, state.value.dtype
    return "written", state.value.shape, state.value.dtype


@unused_donation
@pytest.mark.parametrize("name", ["jit", "donating", "remat", "grad", "vjp", "custom_vjp", "checkify"])
def test_what_is_refused_is_what_eager_code_refuses(name: str):
    """Whatever is written, and whichever fields hold the State: the same outcome."""
    for value in VALUES:
        write = writing(value)
        run = TRANSFORMS[name](write)
        for count in range(1, 4):
            for held_by in itertools.combinations(HOLDERS, count):
                assert outcome(run, held_by) == outcome(write, held_by), (value.shape, held_by)


class Sized(gn.Node):
    """Holds its State to a contract."""

    size: int
    weight: gn.ParamState[Float[Array, "size"]]


def sized(head: Head) -> Sized:
    """A node around the State of another one."""
    return Sized(3, head.weight)


GIVING: dict[str, Callable[[Head], Sized]] = {
    "eager": sized,
    "jit": gn.jit(sized),
    "jit in jit": gn.jit(gn.jit(sized)),
    "donating": gn.jit(sized, donate=True),
    "remat": gn.remat(sized),
    "eval_shape": lambda head: gn.eval_shape(sized, head),
    "grad": lambda head: gn.grad(lambda x, head: (x, sized(head)), has_aux=True)(1.0, head)[1],
    "cond": lambda head: gn.cond(True, sized, sized, head),
    "scan": lambda head: gn.scan(lambda head, _: (head, sized(head)), head, length=2)[1],
    "vmap": lambda head: gn.vmap(sized, in_axes=None, out_axes=None, axis_size=2)(head),
}


@pytest.mark.parametrize("name", GIVING)
def test_a_node_that_is_made_around_a_state_holds_it_to_its_contract(name: str):
    """Once the State of an argument is in a node that a transform gives, it keeps the contract of that, too."""
    head = Head(gn.ParamState(jnp.ones(3)))
    for _ in range(2):  # made by the trace, and by what is compiled
        node = GIVING[name](head)
        assert node.weight is head.weight
        with pytest.raises(gn.ContractError) as caught:
            head.weight.value = jnp.ones(7)
        assert str(caught.value) == 'Sized.weight: expected size = 3 of Float[Array, "size"], found shape (7,)'
        assert len(head.weight._contracts) == 1
        head.weight.value = jnp.zeros(3)
        head = Head(gn.ParamState(jnp.ones(3)))
