"""custom_vjp: the derivative that the caller gives, with nodes in arguments and residuals."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn

X = jnp.array([1.0, 2.0])


class Cell(gn.Node):
    weight: gn.ParamState
    bias: gn.ParamState
    count: gn.ShortTermState

    def __call__(self, x: jax.Array) -> jax.Array:
        self.count.value += 1
        return self.weight.value * x + self.bias.value


def cell() -> Cell:
    return Cell(gn.ParamState(jnp.array([0.5, -1.0])), gn.ParamState(jnp.zeros(2)), gn.ShortTermState(jnp.int32(0)))


def apply(one: Cell, x: jax.Array) -> jax.Array:
    """Apply a cell."""
    return one(x)


def forward(one: Cell, x: jax.Array) -> tuple[jax.Array, Any]:
    return one(x), {"node": one, "x": x}


def with_rule(backward: Callable[..., Any], function: Any = apply, fwd: Any = forward, **options: Any) -> Any:
    made = gn.custom_vjp(function, **options)
    made.defvjp(fwd, backward)
    return made


def total(made: Any) -> Callable[..., jax.Array]:
    return lambda *args: jnp.sum(made(*args))


def message(error: type[Exception], function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def exact(residuals: Any, g: jax.Array) -> Any:
    """The derivative that JAX would find."""
    one, x = residuals["node"], residuals["x"]
    return {"weight": g * x, "bias": g}, g * one.weight.value


# Rules


def test_a_true_rule_gives_what_jax_gives():
    """With the true derivative the gradients are JAX's, eager, under jit and by plain jax.grad."""
    made, one, plain = with_rule(exact), cell(), cell()
    expected = gn.grad(total(apply), (0, 1))(plain, X)
    for found in (gn.grad(total(made), (0, 1))(one, X), gn.jit(gn.grad(total(made), (0, 1)))(one, X)):
        assert found[0].layout is expected[0].layout
        assert all(map(jnp.array_equal, jax.tree.leaves(found), jax.tree.leaves(expected)))
    assert one.count.value == 2
    assert jnp.array_equal(jax.grad(lambda x: jnp.sum(with_rule(exact)(cell(), x)))(X), expected[1])


@pytest.mark.parametrize(
    "give",
    [
        lambda one, value: {"weight": value},
        lambda one, value: gn.treefy_states(one, gn.PathContains("weight")),
        lambda one, value: gn.states(one, gn.PathContains("weight")),
    ],
    ids=["mapping", "StateTree", "FlatStates"],
)
def test_partial_cotangents_are_zero_elsewhere(give: Any):
    """A cotangent of a node may leave States out, and None stands for zero; residual nodes are live."""

    def backward(residuals: Any, g: jax.Array) -> Any:
        assert isinstance(residuals["node"], Cell)
        return give(residuals["node"], residuals["node"].weight.value), None

    found = gn.grad(total(with_rule(backward)), (0, 1))(cell(), X)
    assert found[0]["weight"].value.tolist() == [0.5, -1.0]
    assert found[0]["bias"].value.tolist() == [0.0, 0.0]
    assert found[1].tolist() == [0.0, 0.0]


def test_a_whole_state_tree_passes():
    """Cotangents of integer States are dropped, so that a tree of all States fits."""
    made = with_rule(lambda residuals, g: (gn.treefy_states(residuals["node"]), None))
    assert gn.grad(total(made))(cell(), X)["weight"].value.tolist() == [0.5, -1.0]


def test_writes_reach_the_caller_with_and_without_derivative():
    """A plain call writes, and a differentiated one writes what fwd wrote."""
    made, one = with_rule(exact), cell()
    assert jnp.array_equal(made(one, X), cell()(X))
    assert one.count.value == 1
    gn.grad(total(made))(one, X)
    assert one.count.value == 2
    gn.jit(total(made))(one, X)
    assert one.count.value == 3


def test_an_argument_may_be_a_pytree():
    """A pytree of nodes gets one tree by path, one of arrays its own pytree."""

    def both(cells: list[Cell], xs: dict[str, jax.Array]) -> jax.Array:
        return cells[0](xs["a"]) + cells[1](xs["b"])

    def backward(residuals: None, g: jax.Array) -> Any:
        return {0: {"weight": g}, 1: {"bias": 2 * g}}, {"a": 3 * g, "b": None}

    made = with_rule(backward, both, lambda cells, xs: (both(cells, xs), None))
    of_cells, of_xs = gn.grad(total(made), (0, 1))([cell(), cell()], {"a": X, "b": X})
    flat = {path: state.value.tolist() for path, state in of_cells.flat().items()}
    assert flat == {
        (0, "bias"): [0.0, 0.0],
        (0, "weight"): [1.0, 1.0],
        (1, "bias"): [2.0, 2.0],
        (1, "weight"): [0.0, 0.0],
    }
    assert of_xs["a"].tolist() == [3.0, 3.0]
    assert of_xs["b"].tolist() == [0.0, 0.0]


def test_cotangents_of_a_shared_state_are_added():
    """A State that two arguments share gets the sum of what the rule gives for both, as an array does in JAX."""

    def both(a: Cell, b: Cell) -> jax.Array:
        return a(X) + b(X)

    def backward(residuals: None, g: jax.Array) -> Any:
        return {"weight": g}, {"weight": 10 * g, "bias": g}

    made = with_rule(backward, both, lambda a, b: (both(a, b), None))
    found = gn.grad(lambda one: jnp.sum(made(one, one)))(cell())
    assert found["weight"].value.tolist() == [11.0, 11.0]
    assert found["bias"].value.tolist() == [1.0, 1.0]
    apart = gn.grad(total(made), (0, 1))(cell(), cell())
    assert [one["weight"].value.tolist() for one in apart] == [[1.0, 1.0], [10.0, 10.0]]


@pytest.mark.parametrize("options", [{"nondiff_argnums": (1,)}, {"nondiff_argnums": 1}, {"nondiff_argnames": "scale"}])
def test_static_arguments_come_first_in_bwd(options: dict[str, Any]):
    """`nondiff` arguments, by position or name, are no arrays; bwd gets them before the residuals."""

    def scaled(one: Cell, scale: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        return jnp.asarray(scale(one(x)))

    def backward(scale: Any, residuals: Any, g: jax.Array) -> Any:
        return {"weight": scale(residuals)}, None

    made = with_rule(backward, scaled, lambda one, scale, x: (scaled(one, scale, x), x), **options)
    assert gn.grad(total(made), (0, 2))(cell(), jnp.sin, X)[0]["weight"].value.tolist() == jnp.sin(X).tolist()
    by_name = gn.grad(lambda one: jnp.sum(made(one, x=X, scale=jnp.cos)))(cell())
    assert by_name["weight"].value.tolist() == jnp.cos(X).tolist()


def test_arguments_count_in_the_order_of_the_signature():
    """However they are given, and defaults too, as in JAX."""

    def function(z: jax.Array, a: jax.Array, m: float = 2.0) -> jax.Array:
        return z * a * m

    def backward(residuals: None, g: jax.Array) -> Any:
        return g, 10 * g, None

    made = with_rule(backward, function, lambda z, a, m: (function(z, a, m), None))
    for call in (lambda z, a: made(z, a), lambda z, a: made(a=a, z=z), lambda z, a: made(z, a=a, m=2.0)):
        found = jax.grad(lambda z, a, call=call: jnp.sum(call(z, a)), (0, 1))(X, X)
        assert [one.tolist() for one in found] == [[1.0, 1.0], [10.0, 10.0]]


# Callables and nesting


def test_a_method_in_a_class_body():
    """A decorated method takes its instance, which is differentiated like any argument."""

    class Clipped(gn.Node):
        weight: gn.ParamState

        @gn.custom_vjp
        def apply(self, x: jax.Array) -> jax.Array:
            return self.weight.value * x

    Clipped.apply.defvjp(
        lambda self, x: (self.weight.value * x, self), lambda node, g: ({"weight": 7 * node.weight.value}, None)
    )
    one = Clipped(gn.ParamState(X))
    assert one.apply(X).tolist() == [1.0, 4.0]
    assert gn.grad(lambda one: jnp.sum(one.apply(X)))(one)["weight"].value.tolist() == [7.0, 14.0]


def test_a_callable_node():
    """The rule of a callable node takes the node first; jit of it reads and writes the node."""
    one = cell()
    made = gn.custom_vjp(one)
    made.defvjp(forward, lambda residuals, g: (None, 5 * g))
    y, pull_back = gn.vjp(made, X)
    assert jnp.array_equal(y, cell()(X))
    assert pull_back(X)[0].tolist() == [5.0, 10.0]
    run = gn.jit(made)
    assert jnp.array_equal(run(X), y)
    one.weight.value *= 2
    assert jnp.array_equal(run(X), 2 * y)
    assert one.count.value == 3


def test_residuals_may_hold_nodes_and_converted_nodes():
    """A node comes to the backward pass as a node, and what `gn.graph_to_tree` gave as that."""
    seen: list[type] = []
    scaled = gn.custom_vjp(lambda state, x: state.value * x)

    def backward(residuals: Any, cotangent: jax.Array) -> tuple[Any, jax.Array]:
        state, tree = residuals["state"], residuals["tree"]
        seen.extend([type(state), type(tree)])
        return {(): cotangent * 7}, cotangent * state.value * gn.tree_to_graph(tree).value

    def forward(state: gn.ParamState, x: jax.Array) -> tuple[jax.Array, Any]:
        other = gn.ParamState(state.value * 10)
        return state.value * x, {"tree": gn.graph_to_tree(other)[0], "state": state}

    scaled.defvjp(forward, backward)
    gradient = gn.grad(scaled, argnums=1)(gn.ParamState(jnp.float32(2)), jnp.float32(1))
    assert (gradient, seen) == (40.0, [gn.ParamState, gn.NodeStates])


def test_a_rule_in_vmap_scan_and_remat():
    """The rule holds under other transforms."""
    xs = jnp.stack([X, -X, 3 * X])
    made = with_rule(lambda residuals, g: ({"weight": 3 * g * residuals["x"]}, None))

    def pure(one: Cell, x: jax.Array) -> jax.Array:
        return jnp.sum(made(one, x))

    each = gn.vmap(gn.grad(pure), in_axes=(gn.axes({gn.ParamState: None, ...: 0}), 0))
    one = cell()
    one.count.value = jnp.zeros(3, jnp.int32)
    assert jnp.array_equal(each(one, xs)["weight"].value, 3 * xs)
    assert one.count.value.tolist() == [1, 1, 1]

    def summed(one: Cell, wrap: Any) -> jax.Array:
        step = wrap(lambda one, x: (one, pure(one, x)))
        return jnp.sum(gn.scan(step, one, xs)[1])

    for wrap in (lambda f: f, gn.remat):
        two = cell()
        found = gn.jit(gn.grad(lambda one, wrap=wrap: summed(one, wrap)))(two)  # ty: ignore[invalid-argument-type]
        assert jnp.array_equal(found["weight"].value, 3 * xs.sum(0))
        assert two.count.value == 3


def test_name_docs_and_signature_are_kept():
    """The object looks like the function."""
    made = gn.custom_vjp(apply)
    assert (made.__name__, made.__doc__) == ("apply", "Apply a cell.")  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
    assert inspect.signature(made) == inspect.signature(apply)


# Errors


def test_a_missing_rule_is_named():
    """Without defvjp a call is refused."""
    assert message(AttributeError, gn.custom_vjp(apply), cell(), X) == (
        "gn.custom_vjp: no derivative of apply: call defvjp(fwd, bwd) first"
    )


@pytest.mark.parametrize(
    ("give", "found"),
    [
        (lambda g: ({"weight": g},), "a tuple of 1"),
        (lambda g: (None, None, None), "a tuple of 3"),
        (lambda g: 3, "int 3"),
        (lambda g: [None, None], "list [None, None]"),
    ],
)
def test_another_number_of_cotangents_is_refused(give: Any, found: str):
    """`bwd` gives a tuple with one cotangent for each argument."""
    made = with_rule(lambda residuals, g: give(g))
    assert message(TypeError, gn.grad(total(made)), cell(), X) == (
        f"gn.custom_vjp: bwd gives a cotangent for each of the 2 arguments; found {found}"
    )


def test_unknown_paths_are_named():
    """A cotangent at a path where the node has no State is refused; all are named."""
    made = with_rule(lambda residuals, g: ({"weight": g, "gain": g, "deep": {"er": g}}, None))
    assert message(gn.FilterError, gn.grad(total(made)), cell(), X) == (
        "gn.custom_vjp: a cotangent has gain, deep.er, where its node has no State"
    )


def test_a_cotangent_of_another_shape_is_jax_s_error():
    """Shapes are JAX's to check."""
    made = with_rule(lambda residuals, g: ({"weight": jnp.ones(3)}, None))
    with pytest.raises(ValueError):
        gn.grad(total(made))(cell(), X)


def test_nodes_where_arrays_belong_are_refused():
    """A node in the result, and keyword-only arguments are refused."""
    made = with_rule(lambda r, g: (None,), lambda one: one, lambda one: (one, None))
    assert message(gn.StructureError, made, cell()) == (
        "gn.custom_vjp differentiates arrays, but the result holds a node"
    )

    def named(one: Cell, *, x: jax.Array) -> jax.Array:
        return one(x)

    made = with_rule(lambda r, g: (None, None), named)
    assert message(TypeError, lambda: made(cell(), x=X)) == (
        "gn.custom_vjp: x of named is keyword-only, and has no place among the cotangents that bwd gives"
    )


def test_a_change_of_structure_is_named():
    """In the function or in fwd."""

    def replace(one: Cell, x: jax.Array) -> jax.Array:
        one.bias = one.weight
        return x

    made = with_rule(exact, replace)
    assert message(gn.StructureError, made, cell(), X) == (
        "the structure of an argument changed inside of gn.custom_vjp: one.weight: ParamState != the object at one.bias"
        ". Change it outside, or return a new node"
    )


def _counting(in_function: bool, in_forward: bool, in_backward: bool = False) -> Any:
    @gn.custom_vjp
    def apply(one: Any, x: Any) -> Any:
        if in_function:
            one.count.value += 1
        return one.weight.value * x

    def forward(one: Any, x: Any) -> Any:
        if in_forward:
            one.count.value += 1
        return one.weight.value * x, (one, x)

    def backward(residuals: Any, cotangent: Any) -> Any:
        one, x = residuals
        if in_backward:
            one.count.value += 1
        return {"weight": cotangent * x}, None

    apply.defvjp(forward, backward)
    return lambda one: apply(one, 2.0).sum()


ONLY = "is written by {} alone: the function and fwd must write the same States"


@pytest.mark.parametrize(
    ("writers", "message"),
    [
        ((True, False), "gn.custom_vjp: one.count " + ONLY.format("the function")),
        ((False, True), "gn.custom_vjp: one.count " + ONLY.format("fwd")),
        (
            (True, True, True),
            "gn.custom_vjp: bwd writes into its residuals (0.count), and the write would be lost: bwd gives cotangents "
            "alone. Write in the function and in fwd",
        ),
    ],
)
def test_a_write_that_would_depend_on_differentiation_is_an_error(writers: tuple[bool, ...], message: str):
    """What the function writes and `fwd` does not, or the other way round, and what `bwd` writes."""
    for gradient in (gn.grad(_counting(*writers)), gn.jit(gn.grad(_counting(*writers)))):
        one = cell()
        with pytest.raises(gn.TraceError) as caught:
            gradient(one)
        assert str(caught.value).splitlines()[0] == message
        assert one.count.value == 0


def test_a_write_by_both_is_made_once():
    """The function and `fwd` write the same: the count is one more, differentiated or not."""
    loss = _counting(True, True)
    one = cell()
    gn.grad(loss)(one)
    assert one.count.value == 1
    loss(one)
    assert one.count.value == 2


def test_a_cotangent_of_another_shape_is_told():
    """By the place of the State, or the name of the argument."""
    wrong = with_rule(lambda residuals, g: ({"weight": jnp.ones(3)}, None))
    assert message(ValueError, gn.grad(total(wrong)), cell(), X) == (
        "gn.custom_vjp: the cotangent of one.weight must have its shape, (2,); found (3,)"
    )
    wrong = with_rule(lambda residuals, g: (None, {"x": g}))
    assert message(ValueError, gn.grad(total(wrong), 1), cell(), X) == (
        "gn.custom_vjp: the cotangent of x must have its shape, (2,); found {'x': (2,)}"
    )
    wrong = with_rule(lambda residuals, g: (3, None))
    assert message(TypeError, gn.grad(total(wrong)), cell(), X) == (
        "gn.custom_vjp: the cotangent of one must be a StateTree, FlatStates or a nested mapping by path; found int 3"
    )
