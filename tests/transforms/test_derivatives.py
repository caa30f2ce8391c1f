"""grad and its kin give what JAX gives for the split parts, and writes inside reach the caller."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn

# Each compiles by itself.
pytestmark = pytest.mark.slow

X = jnp.array([1.0, 2.0])


class Layer(gn.Node):
    weight: gn.ParamState
    bias: gn.ParamState
    mean: gn.BatchState
    count: gn.ShortTermState

    def __call__(self, x: jax.Array) -> jax.Array:
        """One layer."""
        self.count.value += 1
        self.mean.value = 0.5 * self.mean.value + 0.5 * x
        return jnp.tanh(self.weight.value * x + self.bias.value)

    def scaled(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """A method of two arrays."""
        return jnp.sum(self.weight.value * x * y**2)


class Net(gn.Node):
    first: Layer
    second: Layer

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(self.first(x))


def layer(scale: float = 1.0) -> Layer:
    return Layer(
        gn.ParamState(scale * jnp.array([0.5, -1.0])),
        gn.ParamState(jnp.array([0.1, 0.2])),
        gn.BatchState(jnp.zeros(2)),
        gn.ShortTermState(jnp.int32(0)),
    )


def net() -> Net:
    return Net(layer(), layer(2.0))


def loss(model: Net, x: jax.Array) -> jax.Array:
    return jnp.sum(model(x) ** 2)


def by_hand(model: Any, function: Callable[[Any], Any], wrt: Any = gn.ParamState) -> tuple[Callable[[Any], Any], Any]:
    """The functional version: a function of the state tree of `wrt`, and that tree."""
    graphdef, chosen, rest = gn.treefy_split(model, wrt, ...)
    return (lambda tree: function(gn.treefy_merge(graphdef, tree, rest))), chosen


def assert_same(left: Any, right: Any) -> None:
    """Equal trees, to the last bit."""
    treedefs: list[Any] = [jax.tree.structure(left), jax.tree.structure(right)]
    assert treedefs[0] == treedefs[1]
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert one.dtype == other.dtype
        assert jnp.array_equal(one, other)


WRTS: dict[str, Any] = {
    "class": gn.ParamState,
    "base class": gn.LongTermState,
    "any of": (gn.BatchState, gn.PathContains("weight")),
    "path": gn.PathIn("second.weight", ("first", "bias")),
    "callable": lambda path, state: path[-1] == "bias" and state.value.shape == (2,),
    "not": gn.Not(gn.Any(gn.ShortTermState, gn.PathContains("second"))),
}


# The same as JAX


@pytest.mark.parametrize("wrt", WRTS.values(), ids=WRTS)
def test_a_gradient_is_that_of_the_split_parts(wrt: Any):
    """`grad` and value_and_grad give what JAX gives for treefy_split and treefy_merge, in the layout of the filter."""
    model = net()
    function, tree = by_hand(model, lambda one: loss(one, X), wrt)
    value, gradient = jax.value_and_grad(function)(tree)
    found = gn.grad(loss, wrt=wrt)(model, X)
    assert isinstance(found, gn.StateTree)
    assert found.layout is gn.treefy_states(model, wrt).layout
    assert_same(found, gradient)
    assert_same(gn.value_and_grad(loss, wrt=wrt)(model, X), (value, gradient))


@pytest.mark.parametrize("name", ["jacrev", "jacfwd", "hessian"])
@pytest.mark.parametrize("wrt", [gn.ParamState, gn.PathContains("first")], ids=["params", "path"])
def test_a_jacobian_is_that_of_the_split_parts(name: str, wrt: Any):
    """jacrev, jacfwd and hessian give what JAX gives for the split parts, state trees in place of arrays."""
    model, chosen = net(), gn.All(wrt, gn.LongTermState)
    function, tree = by_hand(model, lambda one: {"out": one(X), "sum": one(X).sum()}, chosen)
    expected = getattr(jax, name)(function)(tree)
    found = getattr(gn, name)(lambda one: {"out": one(X), "sum": one(X).sum()}, wrt=chosen)(model)
    assert_same(found, expected)
    assert model.first.count.value == 2


def test_a_vjp_is_that_of_the_split_parts():
    """`vjp` gives the value, and a function to cotangents of all primals."""
    model = net()
    function, tree = by_hand(model, lambda one: one(X))
    value, pull_back = jax.vjp(function, tree)
    found, pull_back_nodes = gn.vjp(lambda one, x: one(x), model, X)
    assert_same(found, value)
    of_model, of_x = pull_back_nodes(jnp.ones(2))
    assert_same((of_model,), pull_back(jnp.ones(2)))
    assert_same(of_x, jax.vjp(lambda x: net()(x), X)[1](jnp.ones(2))[0])
    assert model.first.count.value == 1


def test_a_vjp_takes_a_filter_and_auxiliary_results():
    """`vjp` knows wrt and has_aux; nodes may be auxiliary results."""
    model = net()
    value, pull_back, aux = gn.vjp(
        lambda one: (one(X), {"model": one}), model, has_aux=True, wrt=gn.PathContains("bias")
    )
    assert value.shape == (2,)
    assert aux["model"] is model
    assert sorted(pull_back(X)[0].flat()) == [("first", "bias"), ("second", "bias")]


def test_a_jvp_is_that_of_the_split_parts():
    """`jvp` gives the value and its derivative along state trees, mappings and arrays."""
    model = net()
    tangent = jax.tree.map(lambda value: value + 1, gn.treefy_states(model, gn.ParamState))
    function, tree = by_hand(model, lambda one: one(X))
    expected = jax.jvp(function, (tree,), (tangent,))
    assert_same(gn.jvp(lambda one: one(X), (model,), (tangent,)), expected)
    assert_same(gn.jvp(lambda one: one(X), (model,), (tangent.to_dict(),)), expected)
    assert_same(gn.jvp(lambda one, x: one(x), (model, X), (tangent, 0 * X)), expected)
    assert model.first.count.value == 3


def test_a_jvp_takes_partial_tangents():
    """States that a tangent leaves out have a tangent of zero; an empty one is zero for all."""
    model = net()
    along = {"second": {"bias": jnp.ones(2)}}
    value, tangent = gn.jvp(lambda one: one(X), (model,), (along,))
    assert jnp.allclose(tangent, 1 - value**2)
    expected = jax.jvp(lambda x: net()(x), (X,), (X,))
    assert_same(gn.jvp(lambda one, x: one(x), (model, X), ({}, X)), expected)


def test_a_jvp_gives_nodes_as_auxiliary_results():
    """With has_aux a node may come out, as the same object."""
    model = net()
    _, _, aux = gn.jvp(lambda one: (one(X), [one, layer()]), (model,), ({},), has_aux=True)
    assert aux[0] is model
    assert isinstance(aux[1], Layer)


# Arguments


def test_argnums_choose_nodes_and_arrays():
    """`argnums`, an integer or several, also negative, choose among nodes and arrays alike."""
    of_x = jax.grad(lambda x: loss(net(), x))(X)
    of_model = gn.grad(loss)(net(), X)
    assert_same(gn.grad(loss, argnums=1)(net(), X), of_x)
    assert_same(gn.grad(loss, -1)(net(), X), of_x)
    assert_same(gn.grad(loss, (1, 0))(net(), X), (of_x, of_model))
    assert_same(gn.grad(loss, [0, -1])(net(), X), (of_model, of_x))
    of_both = gn.jacfwd(lambda one, x: one(x), (0, 1))(net(), X)
    assert_same(of_both, (gn.jacfwd(lambda one: one(X))(net()), jax.jacfwd(lambda x: net()(x))(X)))


def test_argnums_beyond_the_arguments_are_refused():
    """A position that no argument has is named."""
    for at in (2, -3):
        with pytest.raises(ValueError) as caught:
            gn.grad(loss, at)(net(), X)
        assert str(caught.value) == f"gn.grad: argnums names argument {at}, but 2 are given by position"
    # The node of a method is not counted.
    for at in (2, -3):
        with pytest.raises(ValueError) as caught:
            gn.grad(layer().scaled, at)(X, X)
        assert str(caught.value) == f"gn.grad: argnums names argument {at}, but 2 are given by position"


def test_argnums_name_an_argument_once():
    """An argument that is named twice would have two derivatives, each the whole one."""
    for argnums, found in (((0, 0), "(0, 0)"), ((1, 0, -2), "(1, 0, -2)")):
        with pytest.raises(ValueError) as caught:
            gn.grad(lambda x, y: x * y, argnums)(1.0, 2.0)
        assert str(caught.value) == f"gn.grad: argnums names argument 0 twice; found {found}"


def test_a_pytree_of_nodes_has_one_state_tree():
    """An argument that holds nodes alone has the derivative of treefy_states of it; one with arrays its own pytree."""
    models = {"a": layer(), "b": [layer(2.0)]}
    found = gn.grad(lambda both: jnp.sum(both["a"](X) * both["b"][0](X)))(models)
    assert isinstance(found, gn.StateTree)
    assert found.layout is gn.treefy_states(models, gn.ParamState).layout
    mixed = gn.grad(lambda both: jnp.sum(both["a"](both["x"])))({"a": models["a"], "x": X})
    assert set(mixed) == {"a", "x"}
    assert isinstance(mixed["a"], gn.StateTree)
    assert mixed["x"].shape == (2,)


def test_arguments_by_name_are_passed_on():
    """Keyword arguments reach the function, nodes among them, and what is written in those comes back."""
    model, other = net(), layer()
    found = gn.grad(lambda one, *, x, extra: loss(one, x) + extra(x).sum())(model, x=X, extra=other)
    assert_same(found, gn.grad(loss)(net(), X))
    assert other.count.value == 1


def test_other_arguments_may_be_anything():
    """What is not differentiated may be any object, as in JAX."""
    found = gn.grad(lambda one, power, name: jnp.sum(one(X) ** power[name]))(net(), {"two": 2}, "two")
    assert_same(found, gn.grad(loss)(net(), X))


def test_a_shared_state_gets_the_sum_of_all_uses():
    """A State used through several nodes or arguments is one variable; its gradient is the sum over all uses."""
    one = layer()
    tied = Net(one, Layer(one.weight, gn.ParamState(jnp.zeros(2)), gn.BatchState(X), gn.ShortTermState(jnp.int32(0))))
    function, tree = by_hand(tied, lambda model: loss(model, X))
    found = gn.grad(loss)(tied, X)
    assert list(found.flat()) == [("first", "bias"), ("first", "weight"), ("second", "bias")]
    assert_same(found, jax.grad(function)(tree))
    both = gn.grad(lambda pair: jnp.sum(pair[0].weight.value * X) + jnp.sum(pair[1].weight.value * 3))((one, one))
    assert both[0, "weight"].value.tolist() == [4.0, 5.0]


# Callables


def test_a_callable_node_and_a_method_are_functions():
    """`argnums` count the caller's arguments; the node is not among them, and what it writes comes back."""
    one = layer()
    found = gn.grad(one.scaled, 1)(X, 3 * X)
    assert_same(found, jax.grad(lambda y: layer().scaled(X, y))(3 * X))
    assert_same(gn.grad(one.scaled, (0, 1))(X, X), jax.grad(layer().scaled, (0, 1))(X, X))
    assert_same(gn.grad(one.scaled, -1)(X, 3 * X), found)
    assert_same(gn.jacrev(one)(X), jax.jacrev(lambda x: layer()(x))(X))
    value, pull_back = gn.vjp(one, X)
    assert_same(pull_back(value), jax.vjp(lambda x: layer()(x), X)[1](value))
    assert_same(gn.jvp(one, (X,), (X,)), jax.jvp(lambda x: layer()(x), (X,), (X,)))
    assert one.count.value == 3


def test_the_hessian_of_a_callable_node_writes_once():
    """A transform of a transform takes the node along: its writes reach the caller, once."""
    one = layer()
    assert_same(gn.hessian(one)(X), jax.hessian(lambda x: layer()(x))(X))
    assert one.count.value == 1


def test_a_method_in_two_transforms_is_no_constant():
    """`jit` of grad of a method sees the values that the node has at each call."""
    one = layer()
    step = gn.jit(gn.grad(one.scaled))
    before = step(X, X)
    one.weight.value *= 2
    assert_same(step(X, X), 2 * before)


@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jacrev", "jacfwd", "hessian"])
def test_decorators_keep_name_docs_and_signature(name: str):
    """With arguments and without, as decorator and as function."""
    transform: Any = getattr(gn, name)

    def energy(one: Layer, x: jax.Array) -> jax.Array:
        """The energy."""
        return jnp.sum(one(x))

    for made in (transform(energy), transform()(energy), transform(argnums=1, wrt=gn.BatchState)(energy)):
        assert (made.__name__, made.__doc__) == ("energy", "The energy.")
        assert inspect.signature(made) == inspect.signature(energy)
    method = transform(layer().scaled)
    assert (method.__name__, method.__doc__) == ("scaled", "A method of two arrays.")
    assert list(inspect.signature(method).parameters) == ["x", "y"]
    assert_same(transform(argnums=1)(energy)(layer(), X), transform(energy, 1)(layer(), X))


def test_a_decorated_method_takes_its_instance():
    """A transformed function in a class body is a method."""

    class Energy(gn.Node):
        weight: gn.ParamState

        @gn.value_and_grad
        def both(self, x: jax.Array) -> jax.Array:
            return jnp.sum(self.weight.value * x)

    value, gradient = Energy(gn.ParamState(X)).both(X)
    assert value == 5.0
    assert gradient["weight"].value.tolist() == [1.0, 2.0]


# Results and writes


def test_writes_inside_reach_the_caller():
    """Statistics and counters are written to the caller's own States, and are no part of the gradient."""
    model, twin = net(), net()
    states = [model.first.mean, model.second.count]
    gn.grad(loss)(model, X)
    loss(twin, X)
    assert states[0] is model.first.mean
    assert_same(gn.treefy_states(model), gn.treefy_states(twin))
    assert model.second.count.value == 1


def test_a_written_parameter_keeps_its_gradient():
    """The gradient is at the value that went in; what the function assigned comes back."""
    one = layer()

    def square(model: Layer) -> jax.Array:
        model.weight.value = model.weight.value**2
        return jnp.sum(model.weight.value)

    assert gn.grad(square)(one)["weight"].value.tolist() == [1.0, -2.0]
    assert one.weight.value.tolist() == [0.25, 1.0]


def test_auxiliary_results_may_hold_nodes():
    """With has_aux, a node that went in comes out as itself, and a new one is live."""
    model = net()

    def with_aux(one: Net) -> tuple[jax.Array, Any]:
        made = layer()
        made.weight.value = one.first.weight.value
        return loss(one, X), {"same": one, "part": one.second, "new": Net(one.first, made)}

    gradient, aux = gn.grad(with_aux, has_aux=True)(model)
    assert aux["same"] is model
    assert aux["part"] is model.second
    assert aux["new"].first is model.first
    assert aux["new"].second.weight.value is not None
    (value, again), other = gn.value_and_grad(with_aux, has_aux=True)(model)
    assert value.shape == ()
    assert again["same"] is model
    assert gradient.layout is other.layout
    jacobian, aux = gn.jacrev(lambda one: (one(X), one), has_aux=True)(model)
    assert aux is model
    assert jacobian.layout is gradient.layout
    hessian, aux = gn.hessian(lambda one: (loss(one, X), one), has_aux=True)(model)
    assert aux is model
    assert hessian.layout is gradient.layout


def test_an_exception_inside_changes_nothing():
    """When the function fails, the caller's nodes are what they were."""
    model = net()
    before = gn.treefy_states(model)

    def fail(one: Net) -> jax.Array:
        one(X)
        raise KeyError("stop")

    with pytest.raises(KeyError):
        gn.grad(fail)(model)
    assert all(now is then for now, then in zip(gn.treefy_states(model)._values, before._values, strict=True))


def test_holomorphic_and_allow_int_are_jax_s():
    """Complex States and integer arrays are differentiated where JAX is told to."""
    one = layer()
    one.weight.value = one.weight.value.astype(jnp.complex64)
    found = gn.grad(lambda model: jnp.sum(model.weight.value**2), holomorphic=True, wrt=gn.PathContains("weight"))(one)
    assert_same(found["weight"].value, 2 * one.weight.value)
    of_count = gn.grad(lambda model: jnp.sum(model.bias.value), wrt=..., allow_int=True)(layer())
    assert of_count["count"].value.dtype == jax.dtypes.float0


# Nesting


def test_grad_in_jit_and_jit_in_grad_are_equal():
    """Compiling outside or inside changes neither gradients nor what is written."""
    plain, outside, inside = net(), net(), net()
    expected = gn.grad(loss)(plain, X)
    for found in (gn.jit(gn.grad(loss))(outside, X), gn.grad(gn.jit(loss))(inside, X)):
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert jnp.allclose(one, other, rtol=1e-6)
    assert outside.first.count.value == inside.first.count.value == plain.first.count.value == 1


def test_grad_of_grad_is_jax_s():
    """A gradient of a gradient is that of the split parts; the counter counts the one call."""
    model = net()

    def slope(one: Net) -> jax.Array:
        return jnp.sum(gn.grad(loss, 1)(one, X) ** 2)

    graphdef, params, rest = gn.treefy_split(net(), gn.ParamState, ...)

    def plain(params: Any) -> jax.Array:
        inner = jax.grad(lambda x: loss(gn.treefy_merge(graphdef, params, rest), x))
        return jnp.sum(inner(X) ** 2)

    assert_same(gn.grad(slope)(model), jax.grad(plain)(params))
    assert model.first.count.value == 1


def test_vmap_of_grad_gives_a_gradient_for_each_example():
    """Per-example gradients have a leading axis; shared parameters are not written."""
    xs = jnp.stack([X, 2 * X, -X])
    frozen = gn.axes({gn.LongTermState: None, ...: None})

    def pure_loss(one: Layer, x: jax.Array) -> jax.Array:
        return one.scaled(x, x)

    found = gn.vmap(gn.grad(pure_loss), in_axes=(frozen, 0))(layer(), xs)
    graphdef, params, rest = gn.treefy_split(layer(), gn.ParamState, ...)
    expected = jax.vmap(jax.grad(lambda p, x: pure_loss(gn.treefy_merge(graphdef, p, rest), x)), (None, 0))(params, xs)
    assert_same(found, expected)


def test_grad_through_scan_and_cond_writes_back():
    """Loops and branches inside of a differentiated function differentiate, and their writes reach the caller."""
    model, eager = layer(), layer()

    def unrolled(one: Layer) -> jax.Array:
        def step(carry: tuple[Layer, jax.Array], _: None) -> tuple[tuple[Layer, jax.Array], None]:
            inner, h = carry
            return (inner, gn.cond(h[0] > 0, lambda m, h: m(h), lambda m, h: h - m(h), inner, h)), None

        return jnp.sum(gn.scan(step, (one, X), length=3)[0][1])

    def plain(one: Layer) -> jax.Array:
        h = X
        for _ in range(3):
            h = one(h) if h[0] > 0 else h - one(h)
        return jnp.sum(h)

    found, expected = gn.jit(gn.grad(unrolled))(model), gn.grad(plain)(eager)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert jnp.allclose(one, other, rtol=1e-5)
    assert model.count.value == eager.count.value == 3


def test_a_training_step_moves_statistics_and_parameters():
    """nn.BatchNorm under jit of value_and_grad: running averages move as in the eager step."""

    class Block(gn.Node):
        linear: gn.nn.Linear
        norm: gn.nn.BatchNorm

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.norm(self.linear(x))

    model = Block(gn.nn.Linear(2, 2), gn.nn.BatchNorm(2))
    eager = gn.clone(model)
    batch = jnp.array([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]])

    @gn.jit
    def step(one: Block, x: jax.Array) -> jax.Array:
        value, gradient = gn.value_and_grad(lambda inner, x: jnp.mean(inner(x) ** 2))(one, x)
        params = gn.treefy_states(one, gn.ParamState)
        gn.update_states(one, jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient))
        return value

    step(model, batch)
    eager(batch)
    assert jnp.allclose(model.norm.mean.value, eager.norm.mean.value)
    assert not jnp.array_equal(model.norm.mean.value, jnp.zeros(2))
    assert not jnp.array_equal(model.linear.weight.value, eager.linear.weight.value)


# Errors


def message(error: type[Exception], function: Callable[[], Any]) -> str:
    with pytest.raises(error) as caught:
        function()
    return str(caught.value)


@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jacrev", "jacfwd"])
def test_integer_states_under_wrt_are_named(name: str):
    """States that hold no floating-point numbers have no derivative; all are named."""
    transform: Any = getattr(gn, name)
    assert message(TypeError, lambda: transform(loss, wrt=...)(net(), X)) == (
        f"gn.{name}: model.first.count (int32[]), model.second.count (int32[]) holds no floating-point numbers to "
        "differentiate; select others with wrt"
    )


def test_integer_states_under_wrt_are_named_by_vjp():
    """So does vjp."""
    assert message(TypeError, lambda: gn.vjp(loss, net(), X, wrt=gn.PathContains("count"))) == (
        "gn.vjp: model.first.count (int32[]), model.second.count (int32[]) holds no floating-point numbers to "
        "differentiate; select others with wrt"
    )


@pytest.mark.parametrize(("wrt", "shown"), [(gn.HiddenState, "HiddenState"), ("tag", "'tag'"), (None, "None")])
def test_nothing_to_differentiate_is_refused(wrt: Any, shown: str):
    """A filter that selects no State, without an array beside it, is a FilterError that shows it."""
    expected = f": nothing to differentiate: no State of it is selected by {shown}"
    assert message(gn.FilterError, lambda: gn.grad(loss, wrt=wrt)(net(), X)) == "gn.grad" + expected
    assert message(gn.FilterError, lambda: gn.vjp(lambda one: one(X), net(), wrt=wrt)) == "gn.vjp" + expected
    both = gn.grad(loss, (0, 1), wrt=wrt)(net(), X)
    assert len(both[0]) == 0
    assert both[1].shape == (2,)


def test_a_result_that_is_no_pair_is_refused():
    """With has_aux the function gives a pair; what it gave is told."""
    for give, found in (
        (lambda one: jnp.sum(one.weight.value), "a tracer float32[]"),
        (lambda one: (1.0, 2.0, 3.0), "a tuple of 3"),
        (lambda one: one, "a node"),
    ):
        assert message(TypeError, lambda give=give: gn.grad(give, has_aux=True)(layer())) == (  # type: ignore[misc]  # ty: ignore[no-matching-overload]
            f"gn.grad: with has_aux=True the function gives (result, aux); found {found}"
        )


@pytest.mark.parametrize("name", ["grad", "jacrev", "vjp", "jvp"])
def test_a_node_is_no_result_to_differentiate(name: str):
    """A node in the differentiated part of the result is refused, with the remedy."""
    calls: dict[str, Callable[[], Any]] = {
        "grad": lambda: gn.grad(lambda one: one)(layer()),
        "jacrev": lambda: gn.jacrev(lambda one: [X, one])(layer()),
        "vjp": lambda: gn.vjp(lambda one: one, layer()),
        "jvp": lambda: gn.jvp(lambda one: one, (layer(),), ({},)),
    }
    expected = f"gn.{name} differentiates arrays, but the result holds a node; give it as aux"
    assert message(gn.StructureError, calls[name]) == expected


def test_a_change_of_structure_is_named():
    """A change of structure inside names path and transform; nothing is changed outside."""
    model = net()
    second = model.second

    def swap(one: Net) -> jax.Array:
        one.second = one.first
        return loss(one, X)

    assert message(gn.StructureError, lambda: gn.grad(swap)(model)) == (
        "the structure of an argument changed inside of gn.grad: one.second: Layer != the object at one.first. Change "
        "it outside, or return a new node"
    )
    assert model.second is second


def test_faulty_tangents_are_named():
    """`jvp` wants a tangent for each primal, at paths that are there, one for each State."""
    one = layer()
    assert message(TypeError, lambda: gn.jvp(loss, (net(), X), ({},))) == (
        "gn.jvp takes a tangent for each primal; found 2 primals, 1 tangents"
    )
    assert message(gn.FilterError, lambda: gn.jvp(one, (one,), ({"gain": X, "weight": X, "a": {"b": X}},))) == (
        "gn.jvp: a tangent has gain, a.b, where its node has no State"
    )
    twice = ({"weight": X}, {"weight": 2 * X, "bias": X})
    assert message(gn.AliasError, lambda: gn.jvp(lambda a, b: a(X) + b(X), (one, one), twice)) == (
        "gn.jvp: give the tangent of a State at one of its places alone: a.weight and b.weight are one ParamState with "
        "two tangents"
    )
    assert one.count.value == 0


def test_a_captured_node_is_a_constant_and_is_not_written():
    """A node that was closed over can be read, and a write to it is refused."""
    one = layer()
    assert gn.grad(lambda x: jnp.sum(one.weight.value * x))(X).tolist() == one.weight.value.tolist()
    with pytest.raises(gn.TraceError):
        gn.grad(lambda x: jnp.sum(one(x)))(X)
    assert one.count.value == 0


def test_tangents_that_do_not_fit_are_told():
    """By the place of the State, or the name of the argument."""
    layer = gn.nn.Linear(2, 3)

    def call(layer: gn.nn.Linear, x: Any) -> Any:
        return layer(x)

    cases: list[tuple[Any, type[Exception], str]] = [
        ((None, X), TypeError, "layer must be a StateTree, FlatStates or a nested mapping by path; found None"),
        (({"bias": X}, X), ValueError, "layer.bias must have its shape, (3,); found (2,)"),
        (({}, jnp.ones(3)), ValueError, "x must have its shape, (2,); found (3,)"),
        (({}, None), ValueError, "x must have its shape, (2,); found None"),
    ]
    for tangents, error, text in cases:
        found = message(error, functools.partial(gn.jvp, call, (layer, X), tangents))
        assert found == f"gn.jvp: the tangent of {text}"
