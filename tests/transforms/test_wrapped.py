"""remat, eval_shape, make_jaxpr and checkify: JAX's own, for functions of nodes."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import checkify

import graphnode as gn

X = jnp.array([1.0, 2.0])


class Cell(gn.Node):
    weight: gn.ParamState
    count: gn.ShortTermState
    seen: gn.BatchState

    def __call__(self, x: jax.Array) -> jax.Array:
        """Call it."""
        self.count.value += 1
        return jnp.sin(self.weight.value * x)


def cell() -> Cell:
    return Cell(gn.ParamState(jnp.array([0.5, -1.0])), gn.ShortTermState(jnp.int32(0)), gn.BatchState(jnp.zeros(3)))


def loss(one: Cell, x: jax.Array) -> jax.Array:
    """The loss."""
    return jnp.sum(one(x) ** 2)


def shape(*sizes: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(sizes, dtype)


def primitives(jaxpr: Any) -> set[str]:
    found = set()
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for param in equation.params.values():
            inner = getattr(param, "jaxpr", param)
            if hasattr(inner, "eqns"):
                found |= primitives(inner)
    return found


# remat


def test_remat_changes_no_numbers():
    """Value, gradient and written States are those without it."""
    one, other = cell(), cell()
    value, gradient = gn.value_and_grad(gn.remat(loss))(one, X)
    expected, plain = gn.value_and_grad(loss)(other, X)
    assert value == expected
    assert jnp.allclose(gradient["weight"].value, plain["weight"].value)
    assert one.count.value == other.count.value == 1
    assert gn.remat(loss)(one, X) == loss(other, X)
    assert one.count.value == 2


def test_remat_computes_again():
    """The backward pass computes sin again in a checkpoint; a policy that saves everything does not."""
    jaxpr = gn.make_jaxpr(gn.grad(gn.remat(loss)))(cell(), X).jaxpr
    (equation,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("checkpoint", "remat", "remat2")]
    assert "cos" in primitives(equation.params["jaxpr"])
    saving = gn.remat(loss, policy=jax.checkpoint_policies.everything_saveable)
    jaxpr = gn.make_jaxpr(gn.grad(saving))(cell(), X).jaxpr
    inside = [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("checkpoint", "remat", "remat2")]
    assert all("cos" not in primitives(one.params["jaxpr"]) for one in inside)


def test_remat_takes_static_arguments_and_names():
    """Static arguments are passed as they are, by position, and keyword arguments may be nodes."""
    one = cell()

    @gn.remat(static_argnums=(0,), prevent_cse=False)
    def scaled(mode: str, one: Cell, *, x: jax.Array) -> jax.Array:
        return loss(one, x) * len(mode)

    assert scaled("abc", one, x=X) == 3 * loss(cell(), X)
    assert scaled("ab", one=one, x=X) == 2 * loss(cell(), X)
    assert gn.grad(scaled, 1)("ab", one, x=X)["weight"].value.shape == (2,)
    with pytest.raises(gn.FieldError) as caught:
        scaled(["abc"], one, x=X)  # type: ignore[arg-type]  # what a user might write  # ty: ignore[invalid-argument-type]
    assert str(caught.value).startswith("the static argument mode: ")


def test_remat_of_a_callable_node():
    """The node is an argument: it is written, and read afresh under jit."""
    one = cell()
    run = gn.jit(gn.remat(one))
    assert jnp.array_equal(run(X), jnp.sin(one.weight.value * X))
    one.weight.value *= 2
    assert jnp.allclose(run(X), jnp.sin(one.weight.value * X))
    assert one.count.value == 2


@pytest.mark.parametrize("transform", [gn.remat, gn.checkify, gn.make_jaxpr, gn.remat(policy=None)])
def test_name_docs_and_signature_are_kept(transform: Any):
    """The made function looks like the given one, also for methods."""
    made = transform(loss)
    assert (made.__name__, made.__doc__) == ("loss", "The loss.")
    assert inspect.signature(made).parameters == inspect.signature(loss).parameters
    method = transform(cell().__call__)
    assert (method.__name__, method.__doc__) == ("__call__", "Call it.")
    assert list(inspect.signature(method).parameters) == ["x"]


@pytest.mark.parametrize("name", ["remat", "checkify", "make_jaxpr", "eval_shape"])
def test_a_change_of_structure_is_named(name: str):
    """It names the transform; nothing is changed outside."""
    one = cell()

    def replace(one: Cell) -> None:
        one.seen = gn.BatchState(jnp.ones(3))

    calls: dict[str, Callable[[], Any]] = {
        "remat": lambda: gn.remat(replace)(one),
        "checkify": lambda: gn.checkify(replace)(one),
        "make_jaxpr": lambda: gn.make_jaxpr(replace)(one),
        "eval_shape": lambda: gn.eval_shape(replace, one),
    }
    with pytest.raises(gn.StructureError) as caught:
        calls[name]()
    assert str(caught.value) == (
        f"the structure of an argument changed inside of gn.{name}: one.seen is another BatchState; write to its "
        ".value instead. Change it outside, or return a new node"
    )
    assert one.seen.value.tolist() == [0.0, 0.0, 0.0]


# eval_shape


def test_eval_shape_of_a_builder_computes_nothing():
    """A node that is built comes out live, with shapes in place of arrays: also a large one."""

    def build(key: jax.Array) -> gn.nn.Linear:
        with gn.random.scope(key):
            return gn.nn.Linear(10**5, 10**6)

    abstract = gn.eval_shape(build, jax.random.key(0))
    assert isinstance(abstract, gn.nn.Linear)
    assert [state.value for state in gn.states(abstract).values()] == [shape(10**6), shape(10**5, 10**6)]
    assert gn.eval_shape(lambda one, x: one(x), abstract, shape(7, 10**5)) == shape(7, 10**6)


def test_eval_shape_of_a_constructor_draws_nothing():
    """No key has to be passed in for what is never drawn; the ambient stream goes on where it was."""
    gn.random.seed(3)
    expected = gn.random.split_key()
    gn.random.seed(3)
    assert gn.eval_shape(lambda: gn.nn.Linear(10**5, 10**6)).weight.value == shape(10**5, 10**6)
    assert gn.random.split_key() == expected
    with pytest.raises(gn.TraceError, match=r"^the ambient random stream was opened outside"):
        gn.eval_shape(jax.jit(lambda: gn.random.normal()))


def test_eval_shape_writes_nothing():
    """Nodes that came in are given back as they are; arrays may be given as shapes, and by name."""
    one = cell()
    found, y = gn.eval_shape(lambda one, x: (one, one(x)), one, x=shape(2))
    assert found is one
    assert y == shape(2)
    assert one.count.value == 0
    assert gn.eval_shape(one, shape(2)) == shape(2)
    assert gn.eval_shape(loss, one, X) == shape()


# make_jaxpr


def test_make_jaxpr_takes_the_states_it_looks_at_and_gives_the_written_ones():
    """Inputs are touched States in canonical order, then captured ones, then other leaves; outputs are the written."""
    jaxpr = gn.make_jaxpr(loss)(cell(), X)
    assert [str(one) for one in jaxpr.in_avals] == ["int32[]", "float32[2]", "float32[2]"]
    assert [str(one) for one in jaxpr.out_avals] == ["int32[]", "float32[]"]


def test_make_jaxpr_knows_shapes_statics_and_axes():
    """return_shape gives the result as eval_shape does, nodes alive; static arguments and axis_env are JAX's."""
    one = cell()
    jaxpr, (found, made, y) = gn.make_jaxpr(
        lambda one, n: (one, gn.ParamState(jnp.zeros(n)), one(X)), static_argnums=1, return_shape=True
    )(one, 5)
    assert found is one
    assert made.value == shape(5)
    assert y == shape(2)
    assert one.count.value == 0
    assert len(jaxpr.in_avals) == 2
    summed = gn.make_jaxpr(lambda x: jax.lax.psum(x, "i"), axis_env=[("i", 2)])(X)
    assert "psum" in str(summed)


def test_make_jaxpr_of_a_method():
    """The node of a method is among the inputs."""
    assert len(gn.make_jaxpr(cell())(X).in_avals) == 3


def test_make_jaxpr_shows_what_is_captured():
    """A State of outside is an input between those of the arguments and the other leaves, and no constant."""
    other = gn.State(jnp.ones((4, 2)))
    jaxpr = gn.make_jaxpr(lambda one, x: other.value @ one(x))(cell(), X)
    assert [str(one) for one in jaxpr.in_avals] == ["int32[]", "float32[2]", "float32[4,2]", "float32[2]"]
    assert jaxpr.consts == []


# checkify


def counted(one: Cell, x: jax.Array) -> tuple[Cell, jax.Array]:
    checkify.check(one.count.value < 1, "called {n} times", n=one.count.value)
    return one, one(x)


@pytest.mark.parametrize("is_jitted", [False, True])
def test_checkify_gives_the_error_and_the_result(is_jitted: bool):
    """A check that holds gives no error; one that fails gives it beside the result, and writes are kept either way."""
    one = cell()
    run = gn.checkify(counted)
    if is_jitted:
        run = gn.jit(run)
    error, (found, y) = run(one, X)
    assert error.get() is None
    assert found is one
    assert jnp.allclose(y, jnp.sin(one.weight.value * X))
    error, _ = run(one, X)
    assert error.get() == "called 1 times (`check` failed)"
    with pytest.raises(checkify.JaxRuntimeError):
        error.throw()
    assert one.count.value == 2


def test_checkify_takes_errors_and_methods():
    """Automatic checks are chosen by errors, as in JAX; a callable node is a function."""
    one = cell()
    error, _ = gn.checkify(lambda one, x: jnp.log(one(x) - 5), errors=checkify.float_checks)(one, X)
    assert error.get() == "nan generated by primitive: log."
    error, y = gn.jit(gn.checkify(one))(X)
    assert error.get() is None
    assert y.shape == (2,)
    assert one.count.value == 2
