"""Nodes in a `functools.partial` or in a default value are arguments: writes are seen, and nothing is a constant."""

import copy
import functools
import gc
import inspect
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import pytest
from jaxtyping import Array

import graphnode as gn

TRACES: list[str] = []


class Meter(gn.Node):
    """A weight, and the sum of what went through it."""

    weight: gn.ParamState[Any] = gn.state(default_factory=lambda: gn.ParamState(jnp.float32(2)))
    total: gn.ShortTermState[Any] = gn.state(default_factory=lambda: gn.ShortTermState(jnp.float32(0)))

    def take(self, x: Any, power: int = 1) -> Any:
        TRACES.append("take")
        self.total.value += x
        return self.weight.value * x**power


def step(scale: float, meter: Meter, x: Any, *, power: int = 1) -> Any:
    TRACES.append("step")
    meter.total.value += x
    return scale * meter.weight.value * x**power


def by_name(x: Any, meter: Meter, power: int = 1) -> Any:
    return step(1.0, meter, x, power=power)


def of_list(meters: list[Meter], x: Any) -> Any:
    return step(1.0, meters[-1], x)


def of_dict(x: Any, parts: dict[str, Any]) -> Any:
    return step(parts["scale"], parts["meters"][0], x, power=len(range(parts["power"])))


@pytest.fixture(autouse=True)
def no_traces() -> None:
    TRACES.clear()


PARTIALS: dict[str, Callable[[Meter], "functools.partial[Array]"]] = {
    "by position": lambda meter: functools.partial(step, 1.0, meter),
    "by name": lambda meter: functools.partial(by_name, meter=meter),
    "nested": lambda meter: functools.partial(functools.partial(step, 1.0), meter, power=1),
    "a method": lambda meter: functools.partial(meter.take, power=1),
    "a list": lambda meter: functools.partial(of_list, [Meter(), meter]),
    "a dict with settings": lambda meter: functools.partial(
        of_dict, parts={"meters": [meter], "scale": 1.0, "power": 1}
    ),
    "a compiled function": lambda meter: functools.partial(gn.jit(step, static_argnums=0), 1.0, meter),
    "a compiled method": lambda meter: functools.partial(gn.jit(meter.take), power=1),
}


@pytest.mark.parametrize("name", PARTIALS)
def test_nodes_of_a_partial_are_arguments_of_jit(name: str):
    """Writes from both sides are seen, and neither a second call nor a second `jit` traces again."""
    meter = Meter()
    partial = PARTIALS[name](meter)
    compiled = gn.jit(partial)
    assert compiled(3.0) == 6.0
    meter.weight.value = jnp.float32(5)
    assert compiled(3.0) == 15.0
    assert gn.jit(partial)(1.0) == 5.0
    assert meter.total.value == 7.0
    assert len(TRACES) == 1


def test_equal_partials_share_one_trace():
    """Partials of nodes alone meet what another was compiled for; other constants make another function."""

    def take(x: Any, meter: Meter, power: int = 1) -> Any:
        return meter.take(x, power)

    meters = [Meter(), Meter()]
    for meter in meters:
        assert gn.jit(functools.partial(take, meter=meter))(3.0) == 6.0
        assert meter.total.value == 3.0
    assert len(TRACES) == 1
    for power in (1, 2):
        assert gn.jit(functools.partial(take, meter=meters[0], power=power))(3.0) == 2.0 * 3.0**power


@pytest.mark.parametrize("name", PARTIALS)
def test_nodes_of_a_partial_are_arguments_of_other_transforms(name: str):
    """The caller's arguments are counted without them: derivatives, lanes, rounds and branches."""
    meter = Meter()
    partial = PARTIALS[name](meter)
    assert gn.grad(partial)(3.0) == 2.0
    assert meter.total.value == 3.0
    branches: list[Callable[..., Any]] = [partial, lambda x: x]
    assert gn.switch(0, branches, jnp.float32(3)) == 6.0
    assert gn.cond(False, branches[1], branches[0], jnp.float32(0)) == 0.0
    assert meter.total.value == 6.0
    assert gn.remat(partial)(1.0) == 2.0
    result, pull_back = gn.vjp(partial, 2.0)
    assert (result, *pull_back(jnp.float32(1))) == (4.0, 2.0)
    assert meter.total.value == 9.0


def test_a_partial_is_mapped_and_scanned():
    """`in_axes` and the carry are those of the caller: a node in the partial is shared by lanes, and carried."""
    meter = Meter()
    read = functools.partial(lambda meter, x, y: meter.weight.value * x + y, meter)
    assert jnp.array_equal(gn.vmap(read, in_axes=(0, None))(jnp.arange(2.0), 1.0), jnp.array([1.0, 3.0]))

    def body(meter: Meter, carry: Array, x: Array) -> tuple[Array, Array]:
        return carry + meter.take(x), meter.total.value

    for count in (1, 2):
        carry, totals = gn.scan(functools.partial(body, meter), jnp.float32(0), jnp.ones(3))
        assert carry == 6.0
        assert totals[-1] == meter.total.value == 3.0 * count
        # Another partial of the same function, and no other constants in it
        assert len(TRACES) == 1


def test_other_values_of_a_partial_stay_what_they_are():
    """Numbers in it are static, and an array is a constant; an argument by name may be another one at a call."""
    meter, other = Meter(), Meter()
    partial = functools.partial(by_name, meter=meter, power=2)
    compiled = gn.jit(partial, static_argnames="power")
    assert compiled(3.0) == 18.0
    assert compiled(3.0, power=1) == 6.0
    assert compiled(1.0, meter=other) == 2.0
    assert (meter.total.value, other.total.value) == (6.0, 1.0)


def test_a_list_in_a_partial_may_get_another_node():
    """The list of nodes is the argument, as it is at the time of the call."""
    first, second = Meter(), Meter()
    meters = [first]
    compiled = gn.jit(functools.partial(of_list, meters))
    compiled(1.0)
    meters[0] = second
    compiled(1.0)
    assert (first.total.value, second.total.value) == (1.0, 1.0)
    assert len(TRACES) == 1


def test_positions_are_those_of_the_callers_arguments():
    """`static_argnums` and `donate_argnums` count after the partial; a name may be that of a node in it."""
    meter = Meter()

    def scaled(meter: Meter, x: Any, count: int) -> Any:
        meter.total.value += x
        return meter.weight.value * x * len(range(count))

    partial = functools.partial(scaled, meter)
    assert gn.jit(partial, static_argnums=1)(1.0, 3) == 6.0
    assert gn.jit(gn.grad(partial), static_argnums=-1)(1.0, 3) == 6.0
    before = meter.total.value
    gn.jit(partial, static_argnums=1, donate_argnames="meter")(1.0, 3)
    assert before.is_deleted()
    with pytest.raises(ValueError, match="argument") as caught:
        gn.jit(partial, static_argnums=2)
    assert str(caught.value) == "scaled has no argument 2: it takes (x: Any, count: int)"
    assert str(inspect.signature(gn.jit(partial))) == "(x: Any, count: int) -> Any"


def wrong_total(label: str, *meters: Any, extra: Any) -> Any:
    for part in (meters[0], *extra):
        part.total.value = jnp.zeros(2)
    return meters[1:]


def test_messages_name_the_parameters():
    """A State of a node in a partial is named by the parameter that it is given to, with the place in it."""
    partial = functools.partial(wrong_total, "label", Meter(), extra=[Meter()])
    with pytest.raises(TypeError) as caught:
        gn.scan(partial, jnp.float32(0), jnp.ones(2))
    assert str(caught.value) == (
        "gn.scan: a State keeps its structure, shapes and dtypes here; meters[0].total was float32[] and became "
        "float32[2]; extra[0].total was float32[] and became float32[2]"
    )


METER = Meter()


def with_default(x: Any, meter: Meter = METER, *, other: Meter = METER, power: int = 1) -> Any:
    TRACES.append("default")
    meter.total.value += x
    return meter.weight.value * x**power + 0 * other.total.value


def test_nodes_that_are_defaults_are_arguments():
    """The call without the argument writes into the default, the call with it does not; each is traced once."""
    compiled, meter = gn.jit(with_default), Meter()
    before = METER.total.value
    for _ in range(2):
        assert compiled(3.0) == 6.0
        assert compiled(3.0, meter) == 6.0
        assert gn.jit(with_default)(3.0, meter=meter, other=meter) == 6.0
    assert METER.total.value - before == 6.0
    assert meter.total.value == 12.0
    assert len(TRACES) == 3


def test_defaults_are_arguments_of_all_transforms():
    """Of derivatives, lanes, rounds, branches, methods and lambdas, counted without them."""
    meter = Meter()

    def body(carry: Array, x: Array, meter: Meter = meter) -> tuple[Array, None]:
        return carry + meter.take(x), None

    class Reader(gn.Node):
        def read(self, x: Any, *, meter: Meter = meter) -> Any:
            return meter.take(x)

        @gn.jit
        def compiled(self, x: Any, meter: Meter = meter) -> Any:
            return meter.take(x)

    assert gn.grad(lambda x, meter=meter: meter.take(x))(3.0) == 2.0
    assert gn.scan(body, jnp.float32(0), jnp.ones(3))[0] == 6.0
    assert gn.cond(True, Reader().read, lambda x: x, 3.0) == 6.0
    assert gn.jit(Reader().read)(3.0) == Reader().compiled(3.0) == 6.0
    assert gn.grad(Reader().compiled)(3.0) == 2.0
    assert gn.jit(functools.partial(body, jnp.float32(1)))(jnp.float32(1))[0] == 3.0
    assert meter.total.value == 19.0
    read = gn.vmap(lambda x, meter=meter: meter.weight.value * x)
    assert jnp.array_equal(read(jnp.ones(2)), jnp.full(2, 2.0))


def test_a_default_does_not_live_longer_than_its_function():
    """Neither the node nor the function waits for the collector."""

    def function(x: Any, meter: Meter = Meter()) -> Any:  # noqa: B008  # what is tested
        return meter.take(x)

    gn.grad(function)(1.0)
    default = (function.__defaults__ or (None,))[0]
    alive: list[weakref.ref[Any]] = [weakref.ref(function), weakref.ref(default)]
    gc.disable()
    try:
        del function, default
        assert [ref() for ref in alive] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("transform", [gn.jit, gn.grad, gn.vmap, gn.remat])
def test_what_is_made_of_a_partial_is_pickled(transform: Any):
    """With its nodes, as of a method: the copy has its own."""
    meter = Meter()
    partial = functools.partial(by_name, meter=meter)
    made = transform(partial)
    x = jnp.ones(2) if transform is gn.vmap else 1.0
    if transform is not gn.vmap:
        made(x)
    for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        found = other.__wrapped__.keywords["meter"]
        assert found is not meter
        if transform is not gn.vmap:
            other(x)
            assert found.total.value == meter.total.value + 1
