"""fori_loop and while_loop carry nodes: the same objects over all rounds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

import graphnode as gn


class Counter(gn.Node):
    weight: gn.ParamState
    total: gn.ShortTermState
    count: gn.ShortTermState

    def add(self, x: jax.Array) -> jax.Array:
        self.total.value = self.total.value + self.weight.value * x
        self.count.value += 1
        return self.total.value

    def has_room(self, h: jax.Array) -> jax.Array:
        return self.count.value < 4

    def body(self, h: jax.Array) -> jax.Array:
        return h + self.add(h)

    def at(self, i: jax.Array, h: jax.Array) -> jax.Array:
        return h + self.add(i.astype(jnp.float32))


def counter(weight: float = 2.0) -> Counter:
    return Counter(
        gn.ParamState(jnp.float32(weight)), gn.ShortTermState(jnp.float32(0)), gn.ShortTermState(jnp.int32(0))
    )


def message(error: type[Exception], function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def double(i: jax.Array, carry: tuple[Counter, jax.Array]) -> tuple[Counter, jax.Array]:
    one, h = carry
    return one, h + one.add(i.astype(jnp.float32))


# fori_loop


def by_hand(lower: int, upper: int) -> tuple[Counter, jax.Array]:
    carry = counter(), jnp.float32(0)
    for i in range(lower, upper):
        carry = double(jnp.int32(i), carry)
    return carry


@pytest.mark.parametrize("bounds", [(0, 4), (1, 3), (np.int32(0), 4), (jnp.int32(2), jnp.int32(5)), (3, 3), (4, 2)])
@pytest.mark.parametrize("is_jitted", [False, True])
def test_a_node_is_carried_over_all_indices(bounds: Any, is_jitted: bool):
    """fori_loop gives what a Python loop gives, with static, concrete and traced bounds."""
    one = counter()

    def loop(lower: Any, upper: Any, start: tuple[Counter, jax.Array]) -> tuple[Counter, jax.Array]:
        return gn.fori_loop(lower, upper, double, start)

    found, h = (gn.jit(loop) if is_jitted else loop)(bounds[0], bounds[1], (one, jnp.float32(0)))
    expected, total = by_hand(*map(int, bounds))
    assert found is one
    assert h == total
    assert one.total.value == expected.total.value
    assert one.count.value == expected.count.value


@pytest.mark.parametrize("bounds", [(0, 3), (np.int32(0), np.int32(3)), (jnp.int32(0), 3)])
def test_static_bounds_are_differentiated_in_reverse(bounds: Any):
    """A loop whose bounds are not traced has a gradient, as in JAX; its writes reach the caller."""
    one, eager = counter(), counter()

    def loss(one: Counter) -> Any:
        return gn.fori_loop(bounds[0], bounds[1], double, (one, jnp.float32(1)))[1]

    def plain(one: Counter) -> Any:
        carry = one, jnp.float32(1)
        for i in range(3):
            carry = double(jnp.int32(i), carry)
        return carry[1]

    assert gn.grad(loss)(one)["weight"].value == gn.grad(plain)(eager)["weight"].value
    assert one.count.value == 3


def test_traced_bounds_are_not_differentiated_in_reverse():
    """With a traced bound JAX refuses the gradient."""
    step = gn.jit(lambda n, one: gn.grad(lambda one: gn.fori_loop(0, n, double, (one, jnp.float32(1)))[1])(one))
    with pytest.raises(ValueError):
        step(3, counter())


@pytest.mark.parametrize(
    "bounds", [(0, 3), (np.uint8(0), np.uint8(3)), (jnp.int16(0), jnp.int16(3)), (jnp.int16(0), 3)]
)
@pytest.mark.parametrize("is_jitted", [False, True])
def test_the_index_has_the_type_that_jax_gives_it(bounds: Any, is_jitted: bool):
    """In each trace of the body the index has the dtype, weak or not, that it has in jax.lax.fori_loop."""

    def types_in(loop: Any) -> set[str]:
        seen: set[str] = set()

        def body(i: Any, h: jax.Array) -> jax.Array:
            seen.add(str(jax.typeof(i)))
            return h

        run = (
            (lambda *given: loop(*given, body, 1.0))
            if not is_jitted
            else jax.jit(lambda *given: loop(*given, body, 1.0))
        )
        run(*bounds)
        return seen

    assert types_in(gn.fori_loop) == types_in(jax.lax.fori_loop)


def test_a_weak_index_meets_any_dtype():
    """An index of Python bounds may be added to floats under strict promotion, as in JAX."""
    one = counter()
    assert gn.fori_loop(0, 3, lambda i, h: h * one.weight.value + i, jnp.float32(1)) == 12.0


def test_the_arguments_have_jax_s_names():
    """lower, upper, body_fun, init_val and unroll."""
    assert gn.fori_loop(lower=0, upper=3, body_fun=lambda i, h: h + i, init_val=jnp.int32(0), unroll=True) == 3


def test_a_method_is_the_body_of_fori_loop():
    """The node of a method is carried itself."""
    one = counter()
    assert gn.fori_loop(0, 3, one.at, jnp.float32(0)) == by_hand(0, 3)[1]
    assert one.count.value == 3


def test_a_stable_body_is_traced_once():
    """Eager calls with the same body do not trace again; equal bounds of another dtype do."""
    count = 0

    def body(i: jax.Array, one: Counter) -> Counter:
        nonlocal count
        count += 1
        one.add(jnp.float32(1))
        return one

    gn.fori_loop(0, 3, body, counter())
    first = count
    for weight in (2.0, 3.0):
        gn.fori_loop(0, 3, body, counter(weight))
    assert count == first <= 2
    gn.fori_loop(np.int16(0), np.int16(3), body, counter())
    assert count > first


def test_read_only_states_are_no_carry_of_a_loop():
    """The while loop of traced bounds carries index, bound, the two written States and the array."""
    jaxpr = gn.make_jaxpr(lambda n, one: gn.fori_loop(0, n, double, (one, jnp.float32(0))))(3, counter())
    text = str(jaxpr)
    assert "while[" in text
    (equation,) = [eqn for eqn in _flat(jaxpr.jaxpr) if eqn.primitive.name == "while"]
    assert len(equation.outvars) == 5
    assert equation.params["body_nconsts"] == 1


def _flat(jaxpr: Any) -> list[Any]:
    found: list[Any] = []
    for equation in jaxpr.eqns:
        found.append(equation)
        for param in equation.params.values():
            inner = getattr(param, "jaxpr", None)
            if inner is not None and equation.primitive.name != "while":
                found += _flat(inner)
    return found


# while_loop


def test_a_node_is_carried_while_a_condition_holds():
    """The condition reads the node's current States; the node comes out as itself."""
    one = counter()

    def body(carry: tuple[Counter, jax.Array]) -> tuple[Counter, jax.Array]:
        inner, h = carry
        return inner, h + inner.add(jnp.float32(1))

    found, h = gn.while_loop(lambda carry: carry[0].total.value < 7, body, (one, jnp.float32(0)))
    assert found is one
    assert one.total.value == 8
    assert one.count.value == 4
    assert h == 2 + 4 + 6 + 8


def test_a_condition_that_never_holds_writes_nothing():
    """No round, no write."""
    one = counter()
    total = one.total.value
    gn.while_loop(lambda one: one.total.value > 7, lambda one: (one.add(jnp.float32(1)), one)[1], one)
    assert one.total.value == total
    assert one.count.value == 0


def test_methods_are_condition_and_body():
    """Bound methods of one node, or of two, see the same States."""
    one, other = counter(), counter()
    assert gn.while_loop(one.has_room, one.body, jnp.float32(1)) == gn.jit(
        lambda other: gn.while_loop(other.has_room, other.body, jnp.float32(1))
    )(other)
    assert one.count.value == other.count.value == 4
    third, limit = counter(), counter()
    third.count = limit.count
    gn.while_loop(limit.has_room, third.body, jnp.float32(1))
    assert limit.count.value == 4


def test_the_condition_must_not_write():
    """A State that cond_fun writes is named, and nothing is changed."""
    one = counter()
    assert message(gn.TraceError, gn.while_loop, lambda c: c.add(jnp.float32(1)) < 7, lambda c: c, one) == (
        "gn.while_loop: c.count, c.total must not be written by cond_fun"
    )
    assert one.count.value == 0


def test_a_loop_in_vmap_runs_until_each_lane_is_done():
    """while_loop under vmap: each lane stops by its own condition."""
    one = gn.stack([counter(1.0), counter(3.0)])
    run = gn.vmap(lambda c: gn.while_loop(lambda c: c.total.value < 6, lambda c: (c.add(jnp.float32(1)), c)[1], c))
    assert run(one) is one
    assert one.count.value.tolist() == [6, 2]


# Errors of both


def test_carries_that_change_are_refused():
    """Another structure, another node or another dtype of a State are errors of the loop, with its name."""
    two = (counter(), counter())

    def grow(one: Counter) -> Counter:
        one.total.value = jnp.zeros(3)
        return one

    assert message(TypeError, gn.fori_loop, 0, 3, lambda i, c: (c, c), jnp.float32(0)) == (
        "gn.fori_loop: the carry that the function gives has another structure than the one that it got: "
        "PyTreeDef((*, *)) instead of PyTreeDef(*)"
    )
    assert message(gn.StructureError, gn.fori_loop, 0, 3, lambda i, c: c[::-1], two) == (
        "gn.fori_loop: the carry holds a node where it held c[0]; a node of the carry is the same in every round: "
        "write to its States, and give it back in the carry"
    )
    assert message(gn.StructureError, gn.while_loop, lambda c: True, lambda c: counter(), counter()) == (
        "gn.while_loop: the carry holds a node where it held c; a node of the carry is the same in every round: write "
        "to its States, and give it back in the carry"
    )
    assert message(TypeError, gn.while_loop, lambda c: c.total.value < 7, grow, counter()) == (
        "gn.while_loop: a State keeps its structure, shapes and dtypes here; one.total was float32[] and became "
        "float32[3]"
    )
    assert message(TypeError, gn.fori_loop, 0, 3, lambda i, one: grow(one), counter()) == (
        "gn.fori_loop: a State keeps its structure, shapes and dtypes here; one.total was float32[] and became "
        "float32[3]"
    )


def test_a_change_of_structure_is_named():
    """So is a change of structure."""

    def body(one: Counter) -> Counter:
        one.total = one.count
        return one

    text = message(gn.StructureError, gn.while_loop, lambda c: True, body, counter())
    assert text.startswith("the structure of an argument changed inside of gn.while_loop: one.total")


class Step:
    """A plain object, whose attributes are constants of each trace."""

    k = 0.0

    def item(self, h: Any, x: Any) -> tuple[Any, None]:
        return h + self.k * x, None

    def body(self, _: Any, h: Any) -> Any:
        return h + self.k

    def once(self, h: Any) -> Any:
        return h + self.k

    def is_above(self, h: Any) -> Any:
        return h < self.k


def one_more(h: Any) -> Any:
    return h + 1.0


PLAIN_METHODS: dict[str, tuple[Callable[[Step], Any], Callable[[Step], Any]]] = {
    "scan": (
        lambda step: gn.scan(step.item, 0.0, jnp.ones(1))[0],
        lambda step: jax.lax.scan(step.item, 0.0, jnp.ones(1))[0],
    ),
    "fori_loop": (
        lambda step: gn.fori_loop(0, 1, step.body, 0.0),
        lambda step: jax.lax.fori_loop(0, 1, step.body, 0.0),
    ),
    "while_loop": (
        lambda step: gn.while_loop(lambda h: h == 0, step.once, 0.0),
        lambda step: jax.lax.while_loop(lambda h: h == 0, step.once, 0.0),
    ),
    "condition": (
        lambda step: gn.while_loop(step.is_above, one_more, 0.0),
        lambda step: jax.lax.while_loop(step.is_above, one_more, 0.0),
    ),
    "cond": (
        lambda step: gn.cond(True, step.once, step.once, 0.0),
        lambda step: jax.lax.cond(True, step.once, step.once, 0.0),
    ),
    "switch": (
        lambda step: gn.switch(1, [one_more, step.once], 0.0),
        lambda step: jax.lax.switch(1, [one_more, step.once], 0.0),
    ),
    "jit": (lambda step: gn.jit(step.once)(0.0), lambda step: jax.jit(step.once)(0.0)),
    "remat": (lambda step: gn.remat(step.once)(0.0), lambda step: jax.checkpoint(step.once)(0.0)),
}


@pytest.mark.parametrize("name", PLAIN_METHODS)
def test_a_method_of_a_plain_object_is_another_function_each_time(name: str):
    """No trace of it is kept: a later call finds the attributes that are there, as in `jax.lax`."""
    ours, jaxs = PLAIN_METHODS[name]
    step = Step()
    for k in (1.0, 2.0, 3.0):
        step.k = k
        assert ours(step) == jaxs(step) == k


Body = Callable[[Counter], Counter]
NESTED: dict[str, Callable[[Body], Body]] = {
    "scan": lambda body: lambda one: gn.scan(lambda one, _: (body(one), None), one, None, length=2)[0],
    "fori_loop": lambda body: lambda one: gn.fori_loop(0, 2, lambda _, one: body(one), one),
    "while_loop": lambda body: (
        lambda one: gn.while_loop(lambda one: one.count.value % 2 == 0, lambda one: body(one), one)
    ),
    "cond": lambda body: lambda one: gn.cond(True, lambda one: body(one), lambda one: one, one),
    "switch": lambda body: lambda one: gn.switch(0, [lambda one: body(one), lambda one: one], one),
}


@pytest.mark.parametrize("name", NESTED)
def test_a_body_is_traced_once_at_any_depth(name: str):
    """What a loop or branch writes, and what it compiles, come of one trace: nesting does not double them."""
    for depth in range(1, 5):
        traces = 0

        def body(one: Counter) -> Counter:
            nonlocal traces
            traces += 1
            one.count.value += 1
            return one

        nested: Body = body
        for _ in range(depth):
            nested = NESTED[name](nested)
        one = counter()
        nested(one)
        assert traces == 1
        assert one.count.value == (2**depth if name in ("scan", "fori_loop") else 1)


def test_a_carry_that_gets_a_stronger_type_is_traced_again():
    """JAX traces a round anew for the type that a weak carry takes; the States are what they were."""
    one = counter()

    def body(carry: tuple[Counter, Any], x: Any) -> tuple[tuple[Counter, Any], Any]:
        node, h = carry
        return (node, h + node.add(x)), h

    (same, h), outputs = gn.scan(body, (one, 0.0), jnp.arange(3.0))
    assert same is one
    assert (float(h), float(one.total.value), int(one.count.value)) == (8.0, 6.0, 3)
    np.testing.assert_array_equal(outputs, [0.0, 0.0, 2.0])


def test_a_round_reads_what_is_traced_around_it():
    """A tracer of a transformation around the loop is a constant of the rounds, at each level."""

    def loss(x: Any) -> Any:
        def inner(node: Counter, _: Any) -> tuple[Counter, Any]:
            return node, node.add(x)

        def outer(node: Counter, _: Any) -> tuple[Counter, Any]:
            return gn.scan(inner, node, None, length=2)[0], None

        return gn.scan(outer, counter(), None, length=2)[0].total.value

    assert jax.grad(loss)(3.0) == jax.jit(jax.grad(loss))(3.0) == 8.0
    np.testing.assert_array_equal(jax.vmap(loss)(jnp.arange(2.0)), [0.0, 8.0])


def test_rounds_see_values_without_compilation():
    """Under jax.disable_jit each round is the user's function, with what it computes."""
    seen: list[float] = []

    def body(node: Counter, x: Any) -> tuple[Counter, None]:
        if not isinstance(x, Tracer):
            seen.append(float(x))
        node.count.value += 1
        return node, None

    one = counter()
    with jax.disable_jit():
        gn.scan(body, one, jnp.arange(3.0))
    assert seen == [0.0, 1.0, 2.0]
    assert one.count.value == 3


def test_no_round_without_compilation_changes_nothing():
    """Under jax.disable_jit, a loop whose body never runs gives back what it was given."""

    def body(node: Counter) -> Counter:
        node.count.value += 1
        return node

    one = counter()
    with jax.disable_jit():
        assert gn.fori_loop(0, 0, lambda _, node: body(node), one) is one
        assert gn.while_loop(lambda node: node.count.value < 0, body, one) is one
    assert one.count.value == 0
