"""intervene: other values in the place of what nodes return."""

import functools
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import graphnode as gn
from graphnode import nn

UNTYPED: Any = gn
X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)


class Block(gn.Node):
    lin: nn.Linear

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return x + jnp.tanh(self.lin(x))


class Net(gn.Node):
    blocks: list[Block]
    head: nn.Linear

    def __call__(self, x: Any) -> Any:
        """Call it."""
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Stacked(gn.Node):
    blocks: Block
    head: nn.Linear

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return self.head(gn.scan(lambda h, block: (block(h), None), x, self.blocks)[0])


def blocks(count: int) -> list[Block]:
    with gn.random.scope(1):
        return [Block(nn.Linear(3, 3)) for _ in range(count)]


def net(count: int = 2) -> Net:
    with gn.random.scope(9):
        return Net(blocks(count), nn.Linear(3, 2))


def stacked(count: int = 2) -> Stacked:
    with gn.random.scope(9):
        return Stacked(gn.stack(blocks(count)), nn.Linear(3, 2))


def assert_close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def fault(run: Callable[[], object]) -> str:
    with pytest.raises(gn.CaptureError) as caught:
        run()
    return str(caught.value)


def double(y: Any) -> Any:
    """A change."""
    return 2 * y


WAYS: dict[str, Callable[[Callable[..., Any], Any], Callable[..., Any]]] = {
    "eager": lambda f, changes: gn.intervene(f, changes),
    "jit of it": lambda f, changes: gn.jit(gn.intervene(f, changes)),
    "it of jit": lambda f, changes: gn.intervene(gn.jit(f), changes),
    "of remat": lambda f, changes: gn.intervene(gn.remat(f), changes),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by_value", [True, False])
def test_a_change_takes_the_place_of_a_result(way: str, by_value: bool):
    """A function of it, or a value."""
    model = net()
    change = jnp.ones((2, 3)) if by_value else jnp.ones_like
    out = WAYS[way](lambda model, x: model(x), {"blocks.1": change})(model, X)
    assert_close(out, model.head(jnp.ones((2, 3))))
    assert_close(net()(X), model(X))


def test_several_changes():
    """Each is for its own nodes; a class and a glob select many."""
    model = net()
    out = gn.intervene(model, {"blocks.*": double, "head": jnp.negative})(X)
    h = X
    for one in model.blocks:
        h = 2 * one(h)
    assert_close(out, -model.head(h))
    assert np.array_equal(gn.intervene(model, {Block: double})(X), gn.intervene(model, {"blocks.*": double})(X))


@pytest.mark.parametrize("make", [net, stacked])
@hypothesis.given(factor=st.floats(-3, 3, width=32))
@hypothesis.settings(max_examples=5)
def test_what_was_captured_of_another_call_goes_in_as_it_is(make: Any, factor: float):
    """Activation patching: with all that a call gave put in, the rest is that of the call."""
    model, other = make(), jnp.float32(factor) * X
    expected, seen = gn.capture(model, "blocks" if make is stacked else "blocks.*")(other)
    assert np.array_equal(gn.intervene(model, seen)(X), expected)


def test_no_change_changes_nothing():
    """For loops over sets of changes, of which one is empty."""
    assert np.array_equal(gn.intervene(net(), {})(X), net()(X))


def test_what_was_captured_of_one_argument_goes_back_into_that_alone():
    """Its keys have the name of the argument, as the other has nodes at the same paths."""
    student, teacher = net(), net()
    teacher.head.weight.value = 2 * teacher.head.weight.value

    def distance(student: Net, teacher: Net, x: Any) -> Any:
        return student(x) - teacher(x)

    plain = distance(student, teacher, X)
    for path in ("teacher.head", "student.head"):
        _, seen = gn.capture(distance, path)(student, teacher, X)
        assert list(seen) == [path]
        assert_close(gn.intervene(distance, seen)(student, teacher, X), plain)


def test_one_layer_of_another_run():
    """Only what follows it changes."""
    model = net(3)
    _, seen = gn.capture(model, "blocks.1")(2 * X)
    patched, after = gn.capture(gn.intervene(model, {"blocks.1": seen["blocks.1"]}), "blocks.*")(X)
    _, plain = gn.capture(model, "blocks.*")(X)
    assert np.array_equal(after["blocks.0"], plain["blocks.0"])
    assert np.array_equal(after["blocks.1"], seen["blocks.1"])
    assert_close(patched, model(2 * X))


def test_each_call_gets_its_own_value():
    """What a call with as many calls gave has them in order."""

    def twice(model: Net, x: Any) -> Any:
        return model.head(model.head(x)[:, :1] + x)

    model = net(1)
    _, seen = gn.capture(twice, "head")(model, 2 * X)
    assert np.array_equal(gn.intervene(twice, seen)(model, X), seen.calls["head"][1])
    assert fault(lambda: gn.intervene(twice, {"head": seen.calls["head"][0]})(model, X)) == (
        "gn.intervene: model.head is called 2 times; found 1 value. Give a function, or a gn.Captured with as many"
    )
    out = gn.intervene(twice, {"head": jnp.zeros_like})(model, X)
    assert not out.any()


def test_lanes_and_rounds_have_an_axis():
    """A value has one for each loop and each vmap; a function is called for each round and lane alike."""
    model, xs = stacked(), jnp.stack([X, X, X])
    run = gn.vmap(lambda model, x: model(x), in_axes=(None, 0))
    values = jnp.arange(36.0).reshape(2, 3, 2, 3)
    assert_close(gn.intervene(run, {"blocks": values})(model, xs), model.head(values[-1]))
    assert not gn.intervene(model, {"head": jnp.zeros_like})(X).any()
    assert fault(lambda: gn.intervene(run, {"blocks": jnp.zeros((2, 3))})(model, xs)) == (
        "gn.intervene: model.blocks returns float32[2,3,2,3]; found float32[2,3] to put in its place"
    )


def test_gradients_with_respect_to_what_is_added():
    """A steering vector is learned like any argument; so is one that is put in."""
    model = net()

    def loss(direction: Any) -> Any:
        steered = gn.intervene(model, {"blocks.0": lambda y: y + direction})
        return jnp.sum(steered(X) ** 2)

    def objective(model: Net, x: Any) -> Any:
        return jnp.sum(model(x) ** 2)

    _, seen, grads = gn.capture_grads(objective, "blocks.0")(model, X)
    assert_close(jax.grad(loss)(jnp.zeros((2, 3))), grads["blocks.0"])
    put = jax.grad(lambda value: gn.intervene(objective, {"blocks.0": value})(model, X))(seen["blocks.0"])
    assert_close(put, grads["blocks.0"])
    assert_close(jax.jit(jax.grad(loss))(jnp.zeros((2, 3))), grads["blocks.0"])


def test_a_value_that_is_put_in_has_no_derivative_inside():
    """What the node would have computed is not part of the function any more."""

    def gradient(model: Net, x: Any) -> Any:
        return gn.grad(lambda model, x: jnp.sum(model(x)))(model, x)

    tree = gn.intervene(gradient, {"blocks.1": jnp.ones((2, 3))})(net(), X)
    assert not tree["blocks", 0, "lin", "weight"].value.any()
    assert not tree["blocks", 1, "lin", "weight"].value.any()
    assert tree["head", "weight"].value.tolist() == [[2, 2]] * 3


def test_a_node_may_be_a_change():
    """Its States are followed, as those of any closure."""
    with gn.random.scope(5):
        probe = nn.Linear(3, 3)
    model = net()
    run = gn.intervene(model, {"blocks.1": probe})
    h = model.blocks[1](model.blocks[0](X))
    assert_close(run(X), model.head(probe(h)))
    probe.weight.value = 2 * probe.weight.value
    assert_close(run(X), model.head(probe(h)))


def test_the_second_call_traces_nothing():
    """Neither with other values nor with the same function; another function is traced."""
    traces = []

    def run(model: Net, x: Any) -> Any:
        traces.append(x.shape)
        return model(x)

    model = net()
    for factor in (1.0, 2.0):
        gn.intervene(run, {"blocks.0": jnp.full((2, 3), factor)})(model, X)
        gn.intervene(run, {"blocks.0": double})(model, X)
    assert len(traces) == 2
    gn.intervene(run, {"blocks.0": lambda y: 3 * y})(model, X)
    assert len(traces) == 3


def test_an_intervention_outside_sees_that_inside():
    """The outer change is of what the inner one gives."""
    inner = gn.intervene(net(), {"blocks.0": jnp.ones_like})
    out = gn.intervene(inner, {"blocks.0": double})(X)
    assert_close(out, gn.intervene(net(), {"blocks.0": lambda y: jnp.full_like(y, 2)})(X))


def test_what_does_not_fit_is_named():
    """All at once; structure, shape and dtype are those of what the node returns."""
    model = net()
    assert fault(
        lambda: gn.intervene(model, {"blocks.0": jnp.zeros(3), "head": (jnp.zeros((2, 2)),), "blocks.1": X})(X)
    ) == (
        "gn.intervene: 2 faults:\n"
        "  Net.blocks.0 returns float32[2,3]; found float32[3] to put in its place\n"
        "  Net.head returns float32[2,2]; found PyTreeDef((*,)) of float32[2,2] to put in its place"
    )
    assert fault(lambda: gn.intervene(model, {"head": lambda y: y.astype(jnp.bfloat16)})(X)) == (
        "gn.intervene: Net.head returns float32[2,2], and its change bfloat16[2,2]; keep structure, shapes and dtypes"
    )
    assert fault(lambda: gn.intervene(model, {"head": lambda y: "a"})(X)) == (
        "gn.intervene: Net.head returns float32[2,2], and its change str 'a'; keep structure, shapes and dtypes"
    )
    assert fault(lambda: gn.intervene(model, {Block: double, "blocks.0": double})(X)) == (
        "gn.intervene: Net.blocks.0 is selected by Block and 'blocks.0'; give one change for it"
    )
    assert fault(lambda: gn.intervene(model, {"blocks.7": double})(X)) == (
        "gn.intervene: no node is at 'blocks.7' (did you mean 'blocks.1'?)"
    )


def test_a_part_of_the_model_is_not_a_change():
    """Its States are arguments of the call, and no constants."""
    model = net()
    for change in (model.head, model.head.__call__):
        run = gn.intervene(model, {"blocks.0": change})
        assert fault(functools.partial(run, X)) == (
            "gn.intervene: the change for 'blocks.0' is Net.head, a part of the model that is changed; give "
            "gn.clone(...) of it, or a function that does not use it"
        )


def test_a_value_that_would_differ_in_lanes_that_have_one_result_is_refused():
    """As under `jacfwd`, whose lanes have the same result."""
    model = net()
    text = (
        "net.head would differ between the lanes of a vmap whose out_axes has None, such as that of jacfwd and "
        "hessian: use gn.jacrev, or functions as changes in gn.intervene"
    )

    def slopes(net: Net, x: Any) -> Any:
        return jnp.sum(jax.jacfwd(lambda x: net(x))(x))

    _, seen = gn.capture(slopes, "head")(model, X)
    assert fault(lambda: gn.intervene(slopes, seen)(model, X)) == f"gn.intervene: {text}"
    assert fault(lambda: gn.capture_grads(slopes, "head")(model, X)) == f"gn.capture_grads: {text}"
    assert gn.intervene(slopes, {"head": jnp.zeros_like})(model, X) == 0
    with pytest.raises(ValueError, match="of the user"):
        gn.intervene(_failing, seen)(model, X)


def _failing(net: Net, x: Any) -> Any:
    raise ValueError("of the user")


@pytest.mark.no_runtime_types
def test_what_is_no_change_is_refused_where_it_is_written():
    """Not only at the call."""
    with pytest.raises(TypeError) as caught:
        UNTYPED.intervene(net(), ["head"])
    assert str(caught.value) == (
        "gn.intervene takes a mapping of changes by path or node class second; found list ['head']"
    )
    with pytest.raises(TypeError) as caught:
        UNTYPED.intervene(net(), {"head": "zero"})
    assert str(caught.value) == (
        "gn.intervene: the change for 'head' is neither an array nor a function; found str 'zero'"
    )
    with pytest.raises(gn.FilterTypeError):
        UNTYPED.intervene(net(), {3: double})


@gn.custom_jvp
def by_jvp(one: Block, x: Any) -> Any:
    return one(x)


by_jvp.defjvp(lambda primals, tangents: (primals[0](primals[1]), 3 * tangents[1]))


@gn.custom_vjp
def by_vjp(one: Block, x: Any) -> Any:
    return one(x)


by_vjp.defvjp(lambda one, x: (one(x), None), lambda _, slope: (None, 3 * slope))


def ruled(one: Block, x: Any) -> Any:
    return by_vjp(one, x)


IN_RULE = (
    "gn.intervene: one.lin is called inside of a function with a derivative rule of its own, which would not know "
    "of another value"
)
OUTSIDE_OF_RULE = f"{IN_RULE}: differentiate inside, as gn.intervene(gn.grad(loss), ...) does"
RULED: dict[str, Callable[[Block, Any], Any]] = {
    "custom_jvp": lambda one, x: by_jvp(one, x),
    "custom_vjp": lambda one, x: by_vjp(one, x),
    "jit": lambda one, x: gn.jit(ruled)(one, x),
    "remat": lambda one, x: gn.remat(ruled)(one, x),
    "scan": lambda one, x: gn.scan(lambda h, _: (ruled(one, h), None), x, length=1)[0],
    "cond": lambda one, x: gn.cond(x[0, 0] < 0, ruled, lambda one, x: x, one, x),
}


@pytest.mark.parametrize("name", ["custom_jvp", "custom_vjp"])
def test_a_rule_of_its_own_refuses_a_value(name: str):
    """It would not know of it."""
    run = gn.intervene(RULED[name], {"lin": jnp.zeros((2, 3))})
    assert fault(lambda: run(net().blocks[0], X)) == IN_RULE


@pytest.mark.parametrize("name", RULED)
def test_a_rule_that_is_traced_later_does_not_lose_a_change(name: str):
    """The value is the changed one; a derivative around it is refused, and one inside of it has the change."""
    one, changes = net().blocks[0], {"lin": jnp.zeros_like}
    run = gn.intervene(RULED[name], changes)
    assert_close(run(one, X), X)
    assert_close(gn.vmap(run, in_axes=(None, 0))(one, X[None])[0], X)
    assert fault(lambda: jax.grad(lambda x: jnp.sum(run(one, x)))(X)) == OUTSIDE_OF_RULE

    def total(one: Block, x: Any) -> Any:
        return jnp.sum(run(one, x))

    outside: Any = gn.grad(total)
    assert fault(lambda: gn.jit(outside)(one, X)) == OUTSIDE_OF_RULE
    inside = gn.value_and_grad(lambda one, x: jnp.sum(RULED[name](one, x)), argnums=1)
    value, slopes = gn.intervene(inside, changes)(one, X)
    assert_close(value, jnp.sum(X))
    assert_close(slopes, jnp.full((2, 3), 3.0))


class Ruled(gn.Node):
    """Has a part that a function with a rule calls by another name."""

    part: Block
    kind: str

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return jnp.sum(RULED[self.kind](self.part, x))


@pytest.mark.parametrize("name", RULED)
def test_a_rule_that_is_traced_later_knows_its_nodes_by_the_paths_in_the_model(name: str):
    """Also where JAX traces it when the loop or the branch around it is over."""
    model = Ruled(net().blocks[0], name)
    inside = gn.value_and_grad(lambda model, x: model(x))
    value, _ = gn.intervene(inside, {"part.lin": jnp.zeros_like})(model, X)
    assert_close(value, jnp.sum(X))


def test_a_rule_for_lanes_that_is_traced_later_does_not_lose_a_change():
    """As one of derivatives."""

    def run(one: Block, x: Any) -> Any:
        rows = jax.custom_batching.custom_vmap(lambda x: one(x))
        rows.def_vmap(lambda size, is_batched, x: (one(x), True))
        return rows(x)

    one, changed = net().blocks[0], gn.intervene(run, {"lin": jnp.zeros_like})
    assert_close(changed(one, X), X)
    assert fault(lambda: gn.vmap(changed, in_axes=(None, 0))(one, X[None])) == (
        "gn.intervene: one.lin is called inside of a function with a rule of its own for vmap, which would not know of "
        "another value: use gn.vmap inside of gn.intervene"
    )
    inside = gn.vmap(run, in_axes=(None, 0))
    assert_close(gn.intervene(inside, {"lin": jnp.zeros_like})(one, X[None])[0], X)


def test_a_rule_that_was_traced_before_has_the_change():
    """`jax.lax.custom_root` differentiates what it has traced of its functions."""

    def root(one: Block, x: Any) -> Any:
        def residual(z: Any) -> Any:
            return z - 0.1 * one.lin(z) - x

        def solve(f: Any, z: Any) -> Any:
            return jax.lax.fori_loop(0, 20, lambda _, z: z - f(z), z)

        return jax.lax.custom_root(residual, jnp.zeros(3), solve, lambda g, y: jnp.linalg.solve(jax.jacobian(g)(y), y))

    one = net().blocks[0]
    run = gn.intervene(root, {"lin": lambda y: 0 * y + 1})
    assert_close(run(one, X[0]), X[0] + 0.1)
    assert_close(jax.jacobian(lambda x: run(one, x))(X[0]), jnp.eye(3))


@pytest.mark.parametrize("name", RULED)
def test_what_a_rule_computes_is_captured_where_a_derivative_is_inside(name: str):
    """It is called as the function is, under the same names."""
    one = net().blocks[0]
    inside = gn.value_and_grad(lambda one, x: jnp.sum(RULED[name](one, x)), argnums=1)
    if name == "cond":
        assert "inside of gn.cond" in fault(lambda: gn.capture(inside, "lin")(one, X))
        return
    _, seen = gn.capture(inside, "lin")(one, X)
    assert_close(jnp.reshape(seen["lin"], (2, 3)), one.lin(X))


class Scale(gn.Node):
    """Gives a number of weak dtype, which does not decide about the dtype of a product."""

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return jnp.where(x[0, 0] > 100, 1.0, 2.0)


class Plain(gn.Node):
    """Gives a number of Python."""

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return 2.0


class Strong(gn.Node):
    """Gives a number of a dtype of its own."""

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return jnp.float32(2.0)


class Scaled(gn.Node):
    scale: Scale | Plain | Strong

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return self.scale(x) * x.astype(jnp.bfloat16)


@pytest.mark.parametrize("scale", [Scale, Plain, Strong])
@pytest.mark.parametrize("change", [lambda y: y, lambda y: jnp.float32(3), lambda y: 3.0, lambda y: np.float32(3)])
def test_a_change_leaves_the_dtype_of_what_follows(scale: Any, change: Any):
    """The weak dtype of what was there stays, whatever takes its place."""
    model = Scaled(scale())
    with jax.numpy_dtype_promotion("standard"):
        out = gn.intervene(model, {"scale": change})(X)
        assert out.dtype == model(X).dtype == (jnp.float32 if scale is Strong else jnp.bfloat16)
        value = gn.intervene(model, {"scale": change(jnp.float32(2))})(X)
        assert value.dtype == out.dtype
