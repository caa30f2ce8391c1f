"""associative_scan: prefix sums of an operation on nodes and arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn

# Each compiles by itself.
pytestmark = pytest.mark.slow

XS = jnp.arange(1.0, 5.0)
X3 = jnp.ones(3)


class Affine(gn.Node):
    """A map `x -> scale * x + shift`."""

    size: int
    scale: gn.ParamState[Float[Array, "size"]]
    shift: gn.ParamState[Float[Array, "size"]]


class Adder(gn.Node):
    """An operation that is a node."""

    offset: gn.ParamState
    count: gn.ShortTermState
    rngs: gn.Rngs

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return a + b + self.offset.value

    def counting(self, a: jax.Array, b: jax.Array) -> jax.Array:
        self.count.value += 1
        return a + b

    def drawing(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return a + b * jax.random.normal(self.rngs())


def adder() -> Adder:
    return Adder(gn.ParamState(jnp.float32(10)), gn.ShortTermState(jnp.int32(0)), gn.Rngs(0))


def affine(scale: float) -> Affine:
    return Affine(2, gn.ParamState(jnp.array([scale, -scale])), gn.ParamState(jnp.ones(2)))


def steps(name: str | None = None) -> Affine:
    return gn.stack([affine(0.5 * n) for n in range(1, 8)], name=name)


def then(a: Affine, b: Affine) -> Affine:
    """First `a`, then `b`."""
    scale, shift = a.scale.value * b.scale.value, b.scale.value * a.shift.value + b.shift.value
    return Affine(a.size, gn.ParamState(scale), gn.ParamState(shift))


def plain(a: Any, b: Any) -> Any:
    return a[0] * b[0], b[0] * a[1] + b[1]


def parts(node: Affine) -> tuple[jax.Array, jax.Array]:
    return node.scale.value, node.shift.value


def message(error: type[Exception], function: Any, elems: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        gn.associative_scan(function, elems, **options)
    return str(caught.value).splitlines()[0] if error is not TypeError else str(caught.value)


# Values


@pytest.mark.parametrize("reverse", [False, True])
def test_sums_of_nodes_are_those_of_their_arrays(reverse: bool):
    """New nodes of the structure of the elements, with what JAX gives for the arrays; the elements stay."""
    elems = steps("steps")
    before = parts(elems)
    sums = gn.associative_scan(gn.vmap(then), elems, reverse=reverse)
    expected = jax.lax.associative_scan(plain, before, reverse=reverse)
    assert all(map(jnp.array_equal, parts(sums), expected))
    assert sums is not elems
    assert gn.graphdef(sums) is gn.graphdef(elems)
    assert all(now is value for now, value in zip(parts(elems), before, strict=True))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arrays_are_scanned_as_by_jax(axis: int):
    """Along any axis, also in a pytree with nodes, and without a compilation."""
    xs = jnp.arange(6.0).reshape(2, 3)
    expected = jax.lax.associative_scan(jnp.add, xs, axis=axis)
    assert jnp.array_equal(gn.associative_scan(jnp.add, xs, axis=axis), expected)
    with jax.disable_jit():
        assert jnp.array_equal(gn.associative_scan(jnp.add, xs, axis=axis), expected)


def test_a_pytree_of_nodes_and_arrays_and_state_trees():
    """All of them are summed together; a State that two nodes share stays shared."""
    shared = gn.ParamState(XS)

    class Pair(gn.Node):
        left: gn.ParamState
        right: gn.ParamState

    def add(a: Any, b: Any) -> Any:
        total = gn.ParamState(a["pair"].left.value + b["pair"].right.value)
        tree = jax.tree.map(jnp.add, a["tree"], b["tree"])
        return {"pair": Pair(total, total), "tree": tree, "x": a["x"] * b["x"]}

    elems: Any = {"pair": Pair(shared, shared), "tree": gn.treefy_states(Pair(shared, gn.ParamState(XS))), "x": XS}
    sums: Any = gn.associative_scan(add, elems)
    assert sums["pair"].left is sums["pair"].right
    assert sums["pair"].left.value.tolist() == [1.0, 3.0, 6.0, 10.0]
    assert sums["tree"]["right"].value.tolist() == [1.0, 3.0, 6.0, 10.0]
    assert sums["x"].tolist() == [1.0, 2.0, 6.0, 24.0]


def test_the_operation_may_give_back_a_node_that_it_got():
    """The last element, at all places."""
    elems = steps()
    assert jnp.array_equal(gn.associative_scan(lambda a, b: b, elems).scale.value, elems.scale.value)


def test_the_operation_may_be_a_method_or_a_callable_node_and_read():
    """What it reads, of its own node or of one of outside, is read anew at each call."""
    one = adder()
    for function in (one, one.__call__, lambda a, b: one(a, b)):
        one.offset.value = jnp.float32(10)
        assert gn.associative_scan(function, XS).tolist() == [1.0, 13.0, 26.0, 40.0]
        one.offset.value = jnp.float32(0)
        assert gn.associative_scan(function, XS).tolist() == [1.0, 3.0, 6.0, 10.0]


def test_an_associative_scan_nests():
    """Under gn.jit, gn.grad and gn.vmap."""
    elems = steps()

    def last(elems: Affine) -> jax.Array:
        return gn.associative_scan(gn.vmap(then), elems).shift.value[-1].sum()

    def plain_last(arrays: Any) -> jax.Array:
        return jnp.sum(jax.lax.associative_scan(plain, arrays)[1][-1])

    of_scale, of_shift = jax.grad(plain_last)(parts(elems))
    for gradient in (gn.grad(last), gn.jit(gn.grad(last))):
        found = gradient(elems)
        assert jnp.allclose(found["scale",].value, of_scale)
        assert jnp.allclose(found["shift",].value, of_shift)
    pair = gn.stack([elems, steps()])
    assert jnp.allclose(gn.vmap(last)(pair), plain_last(parts(elems)))
    weight = gn.grad(lambda one: gn.associative_scan(one, XS)[-1])(adder())
    assert weight["offset",].value == 3.0


def test_an_operation_is_traced_once_for_each_type_of_elements():
    """A second call runs no Python of the operation."""
    calls: list[int] = []

    def add(a: jax.Array, b: jax.Array) -> jax.Array:
        calls.append(1)
        return a + b

    gn.associative_scan(add, XS)
    count = len(calls)
    gn.associative_scan(add, 2 * XS)
    assert len(calls) == count


# Errors

REFUSAL = (
    "must not be written, nor drawn from: the function runs on many elements at once, in no order. Give what changes "
    "back in the result"
)


def write_first(a: Affine, b: Affine) -> Affine:
    a.scale.value = b.scale.value
    return a


def test_writes_and_draws_are_refused():
    """Into elements, the node of a method, and nodes of outside; nothing of the caller's is written."""
    one, elems = adder(), steps()
    assert message(gn.TraceError, write_first, elems) == f"gn.associative_scan: a.scale {REFUSAL}"
    assert message(gn.TraceError, gn.vmap(write_first), elems) == f"gn.associative_scan: a.scale {REFUSAL}"
    assert message(gn.TraceError, one.counting, XS) == f"gn.associative_scan: self.count {REFUSAL}"
    assert message(gn.TraceError, one.drawing, XS) == (
        f"gn.associative_scan: self.rngs.streams.default.count {REFUSAL}"
    )
    for function in (lambda a, b: one.counting(a, b), lambda a, b: one.drawing(a, b)):
        assert "was made outside of the running JAX transformation" in message(gn.TraceError, function, XS)
    assert one.count.value == 0
    assert one.rngs["default"].count.value == 0


def test_random_keys_are_refused():
    """JAX does not sum them."""
    assert message(TypeError, lambda a, b: a, {"rngs": gn.stack([gn.Rngs(0), gn.Rngs(1)])}) == (
        "gn.associative_scan: random keys cannot be scanned, and elems holds elems['rngs'].streams.default.key: take "
        "them out of elems"
    )
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(TypeError):
        jax.lax.associative_scan(lambda a, b: a, keys)


class Other(gn.Node):
    size: int
    scale: gn.ParamState


def share(a: Affine, b: Affine) -> Affine:
    return Affine(2, a.scale, a.scale)


def cast(a: Affine, b: Affine) -> Affine:
    return Affine(2, gn.ParamState(a.scale.value.astype(jnp.bfloat16)), gn.ParamState(b.shift.value))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (
            lambda a, b: (a, b),
            "the function gives another structure than that of elems: PyTreeDef((*, *)) instead of PyTreeDef(*)",
        ),
        (lambda a, b: a.scale.value, "result is a tracer float32[3,2], where elems holds a node"),
        (gn.vmap(cast), "result.scale is bfloat16[3,2], where elems holds float32[3,2]"),
    ],
    ids=["structure", "array", "dtype"],
)
def test_another_result_than_the_elements_is_refused(function: Callable[..., Any], text: str):
    """In structure, in place of a node, or in types."""
    assert message(TypeError, function, steps()) == f"gn.associative_scan: {text}"


def test_another_node_than_the_elements_is_refused():
    """Of another class, or with other sharing."""
    start = "gn.associative_scan: the function gives nodes of another structure than those in elems: result"
    assert message(gn.StructureError, lambda a, b: Other(2, gn.ParamState(a.scale.value)), steps()) == (
        f"{start}: Other, where elems holds Affine"
    )
    assert message(gn.StructureError, gn.vmap(share), steps()) == (
        f"{start}.shift: the object at result.scale, where elems holds ParamState"
    )


def test_an_array_where_there_was_none_is_refused():
    """A node where the elements hold an array, and other shapes."""
    one = Other(1, gn.ParamState(XS))
    assert message(TypeError, lambda a, b: {"x": one}, {"x": XS}) == (
        "gn.associative_scan: result['x'] is an Other, where elems holds an array"
    )
    assert message(TypeError, lambda a, b: {"x": a["x"].sum()}, {"x": XS}) == (
        "gn.associative_scan: result['x'] is float32[], where elems holds float32[2]"
    )


@pytest.mark.parametrize(
    ("elems", "options", "error", "text"),
    [
        (jnp.ones(3), {"axis": 1}, ValueError, "elems has shape (3,), and no axis 1. "),
        ([XS, X3], {}, ValueError, "sizes along the mapped axes differ: 4 of elems[0]; 3 of elems[1]. "),
        (Other(1, gn.ParamState(jnp.float32(1))), {}, ValueError, "elems.scale has shape (), and no axis 0. "),
        (None, {}, ValueError, "elems holds no array"),
        (jnp.ones(3), {"axis": 0.5}, TypeError, "axis is an integer; found float 0.5"),
    ],
)
def test_elements_without_the_axis_are_named(elems: Any, options: Any, error: type[Exception], text: str):
    """Before anything is computed."""
    remedy = "All States and arrays of elems have the axis, such as gn.stack makes of several nodes"
    expected = f"gn.associative_scan: {text}" + (remedy if text.endswith(" ") else "")
    assert message(error, lambda a, b: a, elems, **options) == expected
