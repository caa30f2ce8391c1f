"""shard_map: a data-parallel step over eight devices, in a process of its own, and what one device shows."""

import inspect
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from tests.devices import run_with_devices

P = jax.sharding.PartitionSpec

PREAMBLE = """
import jax, jax.numpy as jnp
import graphnode as gn
jax.config.update("jax_numpy_dtype_promotion", "strict")
P = jax.P
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
assert len(jax.devices()) == 8

class Model(gn.Node):
    weight: gn.ParamState
    seen: gn.BatchState
    rows: gn.ShortTermState

    def __call__(self, x):
        self.rows.value = self.rows.value + x[:, 0]
        self.seen.value = self.seen.value + jax.lax.psum(jnp.sum(x), "data")
        return x @ self.weight.value

def model():
    return Model(gn.ParamState(jnp.array([1.0, -2.0])), gn.BatchState(jnp.float32(0)), gn.ShortTermState(jnp.zeros(16)))

SPECS = gn.axes({gn.ShortTermState: P("data"), ...: P()})
x = jnp.arange(32.0).reshape(16, 2)
"""


def run(body: str) -> None:
    """Run a program with eight host devices."""
    run_with_devices(PREAMBLE + textwrap.dedent(body), 8)


@pytest.mark.slow
def test_a_data_parallel_step_over_eight_devices():
    """The result, the gradient, a psum into replicated States and sharded States equal those of the whole batch."""
    run("""
    one = model()
    y = gn.shard_map(lambda m, x: m(x), mesh=mesh, in_specs=(SPECS, P("data")), out_specs=P("data"))(one, x)
    assert jnp.array_equal(y, x @ jnp.array([1.0, -2.0]))
    assert one.seen.value == jnp.sum(x)
    assert jnp.array_equal(one.rows.value, x[:, 0])
    assert not one.rows.value.sharding.is_fully_replicated

    def loss(m, x, target):
        return jax.lax.pmean(jnp.mean((m(x) - target) ** 2), "data")

    @gn.jit
    @gn.shard_map(mesh=mesh, in_specs=(SPECS, P("data"), P("data")), out_specs=P())
    def step(m, x, target):
        value, gradient = gn.value_and_grad(loss)(m, x, target)
        gn.update_states(m, jax.tree.map(lambda p, g: p - 0.001 * g, gn.treefy_states(m, gn.ParamState), gradient))
        return value

    target, two = jnp.ones(16), model()
    value = step(two, x, target)
    plain = lambda w: jnp.mean((x @ w - target) ** 2)
    w = jnp.array([1.0, -2.0])
    assert jnp.allclose(value, plain(w))
    assert jnp.allclose(two.weight.value, w - 0.001 * jax.grad(plain)(w), rtol=1e-5), two.weight.value
    assert step(two, x, target) < value
    assert two.seen.value == 2 * jnp.sum(x)
    assert jnp.array_equal(two.rows.value, 2 * x[:, 0])
    """)


@pytest.mark.slow
def test_a_replicated_state_written_with_other_values_is_refused():
    """A State with a replicated spec must get the same value from each shard; nothing is changed."""
    run("""
    one = model()
    def differ(m, x):
        m.seen.value = jnp.sum(x)
        return x
    try:
        gn.shard_map(differ, mesh=mesh, in_specs=(SPECS, P("data")), out_specs=P("data"))(one, x)
    except ValueError as error:
        assert error.__notes__[-1] == (
            "gn.shard_map: written here, and replicated: m.seen. All shards must write the same: combine what differs, "
            "as by jax.lax.pmean, or give the State a spec along the axis"
        )
    else:
        raise AssertionError("not refused")
    assert one.seen.value == 0
    """)


class Model(gn.Node):
    weight: gn.ParamState
    total: gn.ShortTermState

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply it."""
        self.total.value = self.total.value + jax.lax.psum(x.sum(), "data")
        return self.weight.value[None] * x


X = jnp.arange(4.0).reshape(2, 2)


def model() -> Model:
    return Model(gn.ParamState(jnp.array([2.0, 3.0])), gn.ShortTermState(jnp.float32(0)))


def mesh() -> Any:
    return jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def apply(one: Model, x: jax.Array) -> jax.Array:
    """Apply a model."""
    return one(x)


def mapped(in_specs: Any, function: Any = apply) -> Any:
    return gn.shard_map(function, mesh=mesh(), in_specs=in_specs, out_specs=P("data"))


@pytest.mark.parametrize("specs", [P(), gn.axes({...: P()}), gn.axes({gn.ParamState: P()})], ids=["one", "all", "some"])
def test_a_node_has_one_spec_or_one_for_each_state(specs: Any):
    """One spec for all States, or axes; States that no filter accepts are replicated."""
    one = model()
    assert jnp.array_equal(mapped((specs, P("data")))(one, X), X * jnp.array([[2.0, 3.0]]))
    assert one.total.value == 6.0


def test_a_callable_node_is_replicated():
    """in_specs speaks of the caller's arguments; the node is written, and read afresh under jit."""
    one = model()
    run_one = gn.jit(mapped((P("data"),), one))
    before = run_one(X)
    one.weight.value *= 2
    assert jnp.array_equal(run_one(X), 2 * before)
    assert jnp.array_equal(mapped(P("data"), one)(X), 2 * before)
    assert one.total.value == 18.0


def test_name_docs_and_signature_are_kept():
    """As a function and as a decorator."""
    options: dict[str, Any] = {"mesh": mesh(), "in_specs": (P(), P("data")), "out_specs": P("data")}
    for made in (gn.shard_map(apply, **options), gn.shard_map(**options)(apply)):
        assert (made.__name__, made.__doc__) == ("apply", "Apply a model.")  # ty: ignore[missing-attribute]
        assert inspect.signature(made) == inspect.signature(apply)


def test_two_specs_of_one_state_are_named():
    """A State that is reached with two specs is an AliasError with both places."""
    one = model()
    with pytest.raises(gn.AliasError) as caught:
        mapped((P(), {"total": P("data")}), lambda a, b: a(X))(one, {"total": one.total})
    assert str(caught.value) == (
        f"gn.shard_map: inconsistent axes: one ShortTermState is reached as a.total with {P()!r} and as b['total'] "
        f"with {P('data')!r}"
    )


def test_specs_that_do_not_fit_are_refused():
    """A prefix of another structure is told."""
    with pytest.raises(ValueError) as caught:
        mapped((P(), P("data"), P()))(model(), X)
    assert "is not a prefix of the arguments: " in str(caught.value)


def test_a_change_of_structure_is_named():
    """It names the transform."""

    def replace(one: Model, x: jax.Array) -> jax.Array:
        one.total = gn.ShortTermState(jnp.float32(1))
        return x

    with pytest.raises(gn.StructureError) as caught:
        mapped((P(), P("data")), replace)(model(), X)
    assert str(caught.value) == (
        "the structure of an argument changed inside of gn.shard_map: one.total is another ShortTermState; write to "
        "its .value instead. Change it outside, or return a new node"
    )


# Random streams

REMEDY = (
    "all members would draw the same numbers. Make its key from what is mapped: fold the shard in, as in "
    "gn.Rngs(jax.random.fold_in(key, jax.lax.axis_index('data')))"
)


def folded(x: jax.Array) -> gn.Rngs:
    """A stream for each shard."""
    return gn.Rngs(jax.random.fold_in(jax.random.key(0), jax.lax.axis_index("data"))).fork(1)


@pytest.mark.slow
def test_a_stream_that_is_made_must_depend_on_the_shard():
    """A constant key would be that of all devices; one that the shard is folded into is none."""
    with pytest.raises(gn.StackError) as caught:
        mapped((P("data"),), lambda x: gn.Rngs(0, noise=1).fork(1))(X)
    assert str(caught.value) == (
        "gn.shard_map: 2 faults:\n"
        "  result.streams.default.key does not depend on all axes of its spec\n"
        "  result.streams.noise.key does not depend on all axes of its spec\n"
        f"{REMEDY}"
    )
    assert mapped((P("data"),), folded)(X)["default"].key.value.shape == (1,)


def test_a_stream_must_depend_on_each_axis_of_its_spec():
    """Of two axes of the mesh, the one that is not folded in has equal keys along it."""
    two = jax.make_mesh((1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    def made(spec: jax.sharding.PartitionSpec) -> gn.Rngs:
        return gn.shard_map(folded, mesh=two, in_specs=(P("data"),), out_specs=spec)(X)

    with pytest.raises(gn.StackError) as caught:
        made(P(("data", "model")))
    assert str(caught.value) == (
        f"gn.shard_map: result.streams.default.key does not depend on all axes of its spec: {REMEDY}"
    )
    assert made(P("data"))["default"].key.value.shape == (1,)


def test_a_stream_that_is_reseeded_must_depend_on_the_shard():
    """A key that the function writes is watched as one that it makes."""
    rngs = gn.Rngs(0).fork(1)

    def reseed(rngs: gn.Rngs, x: jax.Array) -> jax.Array:
        rngs["default"].key.value = jax.random.split(jax.random.key(1), 1)
        return x

    before = rngs["default"].key.value
    with pytest.raises(gn.StackError) as caught:
        mapped((P("data"), P("data")), reseed)(rngs, X)
    assert str(caught.value) == (
        f"gn.shard_map: rngs.streams.default.key does not depend on all axes of its spec: {REMEDY}"
    )
    assert bool(jnp.all(rngs["default"].key.value == before))


def test_a_replicated_stream_is_taken_as_meant():
    """One whose spec has no axis is one stream for all devices, made or written; so is what JAX does not follow."""
    made: gn.Rngs = gn.shard_map(lambda x: gn.Rngs(0), mesh=mesh(), in_specs=(P("data"),), out_specs=P())(X)
    assert bool(made() == gn.Rngs(0)())
    unchecked = gn.shard_map(
        lambda x: gn.Rngs(0).fork(1), mesh=mesh(), in_specs=(P("data"),), out_specs=P("data"), check_vma=False
    )
    assert unchecked(X)["default"].key.value.shape == (1,)
