"""custom_jvp: the derivative along tangents that the caller gives, with nodes among the primals."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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


def affine(one: Cell, x: jax.Array) -> jax.Array:
    """What `apply` computes, without a write."""
    return one.weight.value * x + one.bias.value


def with_rule(rule: Callable[..., Any], function: Any = apply, **options: Any) -> Any:
    made = gn.custom_jvp(function, **options)
    made.defjvp(rule)
    return made


def total(made: Any) -> Callable[..., jax.Array]:
    return lambda *args: jnp.sum(made(*args))


def message(error: type[Exception], function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def exact(primals: Any, tangents: Any) -> Any:
    """The derivative that JAX would find."""
    (one, x), (of_one, of_x) = primals, tangents
    along = of_one["weight"].value * x + one.weight.value * of_x + of_one["bias"].value
    return one(x), along


# Rules


def test_a_true_rule_gives_what_jax_gives():
    """With the true derivative, tangents and gradients are JAX's of the split parts, eager and under jit."""
    made, one = with_rule(exact), cell()
    graphdef, params, rest = gn.treefy_split(cell(), gn.ParamState, ...)

    def plain(params: Any, x: jax.Array) -> jax.Array:
        return gn.treefy_merge(graphdef, params, rest)(x)

    along = ({"weight": X, "bias": 3 * X}, 5 * X)
    tangents = (jax.tree.unflatten(jax.tree.structure(params), [3 * X, X]), 5 * X)
    expected = jax.jvp(plain, (params, X), tangents)
    for found in (gn.jvp(made, (one, X), along), gn.jit(lambda one: gn.jvp(made, (one, X), along))(one)):
        assert all(map(jnp.allclose, found, expected))
    gradients = jax.grad(lambda *args: jnp.sum(plain(*args)), (0, 1))(params, X)
    for found in (gn.grad(total(made), (0, 1))(one, X), gn.jit(gn.grad(total(made), (0, 1)))(one, X)):
        assert all(map(jnp.array_equal, jax.tree.leaves(found), jax.tree.leaves(gradients)))
    assert one.count.value == 4


def test_a_rule_gets_live_nodes_and_whole_state_trees():
    """Primals have new nodes; tangents have all States, zero where nothing changes, and float0 for an integer."""
    seen: list[Any] = []

    def rule(primals: Any, tangents: Any) -> Any:
        seen.extend([primals, tangents])
        return primals[0](primals[1]), tangents[1]

    one = cell()
    gn.jvp(with_rule(rule), (one, X), ({"weight": X}, 2 * X))
    (primal, x), (of_one, of_x) = seen
    assert isinstance(primal, Cell)
    assert primal is not one
    assert (x.tolist(), of_x.tolist()) == ([1.0, 2.0], [2.0, 4.0])
    assert of_one.layout is gn.treefy_states(one).layout
    assert of_one["weight"].value.tolist() == [1.0, 2.0]
    assert of_one["bias"].value.tolist() == [0.0, 0.0]
    assert of_one["count"].value.dtype == jax.dtypes.float0


def test_what_a_rule_gets_gn_jvp_takes():
    """The tangents of a rule are those that `gn.jvp` takes, also of a State that two arguments share."""

    def both(a: Cell, parts: dict[str, Any]) -> Any:
        return a.weight.value * parts["b"].weight.value * parts["x"] * a.count.value.astype(X.dtype)

    made = with_rule(lambda primals, tangents: gn.jvp(both, primals, tangents), both)
    one = cell()
    one.count.value += 3

    def squared(function: Any) -> Callable[[Cell], jax.Array]:
        return lambda one: jnp.sum(function(one, {"b": one, "x": X}))

    expected = gn.grad(squared(both))(one)
    for found in (gn.grad(squared(made))(one), gn.jit(gn.grad(squared(made)))(one)):
        assert jnp.array_equal(found["weight"].value, expected["weight"].value)


def test_writes_reach_the_caller_with_and_without_derivative():
    """A plain call writes, and a differentiated one writes what the rule wrote, once."""
    made, one = with_rule(exact), cell()
    assert jnp.array_equal(made(one, X), cell()(X))
    assert one.count.value == 1
    gn.grad(total(made))(one, X)
    assert one.count.value == 2
    gn.jit(total(made))(one, X)
    assert one.count.value == 3


def test_what_is_written_has_a_tangent_of_zero():
    """No derivative flows through a State that the function writes."""

    def keep(one: Cell, x: jax.Array) -> jax.Array:
        one.bias.value = x
        return x

    def rule(primals: Any, tangents: Any) -> Any:
        return keep(*primals), tangents[1]

    def loss(one: Cell, x: jax.Array, function: Any) -> jax.Array:
        return jnp.sum(function(one, x) + 10 * one.bias.value)

    assert gn.grad(lambda one, x: loss(one, x, keep), 1)(cell(), X).tolist() == [11.0, 11.0]
    assert gn.grad(lambda one, x: loss(one, x, with_rule(rule, keep)), 1)(cell(), X).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("options", [{"nondiff_argnums": (1,)}, {"nondiff_argnums": 1}, {"nondiff_argnames": "scale"}])
def test_static_arguments_come_first_in_the_rule(options: dict[str, Any]):
    """`nondiff` arguments, by position or name, are no arrays; the rule gets them before primals and tangents."""

    def scaled(one: Cell, scale: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        return jnp.asarray(scale(one(x)))

    def rule(scale: Any, primals: Any, tangents: Any) -> Any:
        (one, x), (of_one, _) = primals, tangents
        return scaled(one, scale, x), scale(x) * of_one["weight"].value

    made = with_rule(rule, scaled, **options)
    assert gn.grad(total(made), (0, 2))(cell(), jnp.sin, X)[0]["weight"].value.tolist() == jnp.sin(X).tolist()
    by_name = gn.grad(lambda one: jnp.sum(made(one, x=X, scale=jnp.cos)))(cell())
    assert by_name["weight"].value.tolist() == jnp.cos(X).tolist()


def test_arguments_count_in_the_order_of_the_signature():
    """However they are given, and defaults too, as in JAX."""

    def function(z: jax.Array, a: jax.Array, m: float = 2.0) -> jax.Array:
        return z * a * m

    def rule(primals: Any, tangents: Any) -> Any:
        of_z, of_a, _ = tangents
        return function(*primals), of_z + 10 * of_a

    made = with_rule(rule, function)
    for call in (lambda z, a: made(z, a), lambda z, a: made(a=a, z=z), lambda z, a: made(z, a=a, m=2.0)):
        found = jax.grad(lambda z, a, call=call: jnp.sum(call(z, a)), (0, 1))(X, X)
        assert [one.tolist() for one in found] == [[1.0, 1.0], [10.0, 10.0]]


# A rule for each argument


def test_rules_for_each_argument_are_added_up():
    """`defjvps` takes a rule for each argument, given its tangent, the result and the primals; None is zero."""
    made = gn.custom_jvp(affine)
    made.defjvps(
        lambda of_one, y, one, x: of_one["weight"].value * x + of_one["bias"].value,
        lambda of_x, y, one, x: y * of_x,
    )
    one = cell()
    of_one, of_x = gn.grad(total(made), (0, 1))(one, X)
    assert of_one["weight"].value.tolist() == [1.0, 2.0]
    assert of_x.tolist() == affine(one, X).tolist()
    made.defjvps(None, lambda of_x, y, one, x: 3 * of_x)
    of_one, of_x = gn.jit(gn.grad(total(made), (0, 1)))(one, X)
    assert of_one["weight"].value.tolist() == [0.0, 0.0]
    assert of_x.tolist() == [3.0, 3.0]


def test_a_rule_for_each_argument_is_differentiated_again():
    """The result in a rule of `defjvps` has the derivative that the rules say, as in JAX."""
    plain = jax.custom_jvp(jnp.sin)
    plain.defjvps(lambda of_x, y, x: y * of_x)
    made = gn.custom_jvp(lambda x: jnp.sin(x))
    made.defjvps(lambda of_x, y, x: y * of_x)
    twice = jax.grad(jax.grad(made))(1.0)
    assert twice == jax.grad(jax.grad(plain))(1.0)


def test_rules_for_each_argument_of_a_function_that_writes_are_refused():
    """No rule could write what the function does; static arguments and another number of rules are refused, too."""
    made = gn.custom_jvp(apply)
    made.defjvps(None, None)
    assert message(gn.TraceError, gn.grad(total(made)), cell(), X) == (
        "gn.custom_jvp: the function writes one.count, and the rules of defjvps give tangents alone: give defjvp one "
        "rule, which writes them too"
    )
    made = gn.custom_jvp(affine)
    made.defjvps(None)
    assert message(TypeError, gn.grad(total(made)), cell(), X) == (
        "gn.custom_jvp: defjvps takes a rule, or None, for each argument; found 1 rules for the 2 arguments of affine"
    )
    assert message(TypeError, gn.custom_jvp(affine, nondiff_argnums=1).defjvps, None) == (
        "gn.custom_jvp: affine has nondiff_argnums, which defjvps does not take: give one rule to defjvp"
    )


# Callables and nesting


def test_a_method_in_a_class_body():
    """A decorated method takes its instance, which is differentiated like any argument; `defjvp` is a decorator."""

    class Clipped(gn.Node):
        weight: gn.ParamState

        @gn.custom_jvp
        def apply(self, x: jax.Array) -> jax.Array:
            return self.weight.value * x

        @apply.defjvp
        @staticmethod
        def rule(primals: Any, tangents: Any) -> Any:
            (self, x), (of_self, _) = primals, tangents
            return self.weight.value * x, 7 * self.weight.value * of_self["weight"].value

    one = Clipped(gn.ParamState(X))
    assert one.apply(X).tolist() == [1.0, 4.0]
    assert gn.grad(lambda one: jnp.sum(one.apply(X)))(one)["weight"].value.tolist() == [7.0, 14.0]


def test_a_callable_node():
    """The rule of a callable node takes the node first; jit of it reads and writes the node."""
    one = cell()

    def rule(primals: Any, tangents: Any) -> Any:
        (one, x), (_, of_x) = primals, tangents
        return one(x), 5 * of_x

    made = with_rule(rule, one)
    y, tangent = gn.jvp(made, (X,), (X,))
    assert jnp.array_equal(y, cell()(X))
    assert tangent.tolist() == [5.0, 10.0]
    run = gn.jit(made)
    assert jnp.array_equal(run(X), y)
    one.weight.value *= 2
    assert jnp.array_equal(run(X), 2 * y)
    assert one.count.value == 3


def test_a_rule_in_vmap_scan_and_remat():
    """The rule holds under other transforms."""
    xs = jnp.stack([X, -X, 3 * X])

    def rule(primals: Any, tangents: Any) -> Any:
        (one, x), (of_one, _) = primals, tangents
        return one(x), 3 * x * of_one["weight"].value

    made = with_rule(rule)
    each = gn.vmap(gn.grad(total(made)), in_axes=(gn.axes({gn.ParamState: None, ...: 0}), 0))
    one = cell()
    one.count.value = jnp.zeros(3, jnp.int32)
    assert jnp.array_equal(each(one, xs)["weight"].value, 3 * xs)
    assert one.count.value.tolist() == [1, 1, 1]

    def summed(one: Cell, wrap: Any) -> jax.Array:
        step = wrap(lambda one, x: (one, total(made)(one, x)))
        return jnp.sum(gn.scan(step, one, xs)[1])

    for wrap in (lambda f: f, gn.remat):
        two = cell()
        found = gn.jit(gn.grad(lambda one, wrap=wrap: summed(one, wrap)))(two)  # ty: ignore[invalid-argument-type]
        assert jnp.array_equal(found["weight"].value, 3 * xs.sum(0))
        assert two.count.value == 3


def test_name_docs_and_signature_are_kept():
    """The object looks like the function."""
    made = gn.custom_jvp(apply)
    assert (made.__name__, made.__doc__) == ("apply", "Apply a cell.")  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
    assert inspect.signature(made) == inspect.signature(apply)


# Errors


def test_a_missing_rule_is_named():
    """Without defjvp a call is refused."""
    assert message(AttributeError, gn.custom_jvp(apply), cell(), X) == (
        "gn.custom_jvp: no derivative of apply: call defjvp(rule) first"
    )


@pytest.mark.parametrize(
    ("give", "text"),
    [
        (lambda y: y, "the rule gives (result, tangent); found an array float32[2]"),
        (lambda y: (y, y, y), "the rule gives (result, tangent); found a tuple of 3"),
        (
            lambda y: ([y], y),
            "the result that the rule gives has another structure than the result of the function: PyTreeDef([*]) "
            "instead of PyTreeDef(*)",
        ),
        (
            lambda y: (y, {"a": y}),
            "the tangent that the rule gives has another structure than the result of the function: PyTreeDef({'a': *})"
            " instead of PyTreeDef(*)",
        ),
    ],
)
def test_a_rule_gives_the_result_and_its_tangent(give: Any, text: str):
    """Anything else is refused."""
    made = with_rule(lambda primals, tangents: give(primals[0](primals[1])))
    assert message(TypeError, gn.grad(total(made)), cell(), X) == f"gn.custom_jvp: {text}"


def test_a_tangent_of_another_shape_is_jax_s_error():
    """Shapes and dtypes are JAX's to check."""
    made = with_rule(lambda primals, tangents: (primals[0](primals[1]), jnp.ones(3)))
    assert "primal float32[2] with tangent float32[3]" in message(TypeError, gn.grad(total(made)), cell(), X)


def test_nodes_where_arrays_belong_are_refused():
    """A node in the result of the function or the rule, and keyword-only arguments are refused."""
    text = "gn.custom_jvp differentiates arrays, but the result holds a node"
    made = with_rule(lambda primals, tangents: (primals[0], primals[0]), lambda one: one)
    assert message(gn.StructureError, made, cell()) == text
    made = with_rule(lambda primals, tangents: (primals[0], X), affine)
    assert message(gn.StructureError, gn.grad(total(made)), cell(), X) == text

    def named(one: Cell, *, x: jax.Array) -> jax.Array:
        return one(x)

    made = with_rule(exact, named)
    assert message(TypeError, lambda: made(cell(), x=X)) == (
        "gn.custom_jvp: x of named is keyword-only, and has no place among the tangents that the rule gets"
    )


def test_a_change_of_structure_is_named():
    """In the function or in the rule."""

    def replace(one: Cell, x: jax.Array) -> jax.Array:
        one.bias = one.weight
        return x

    text = (
        "the structure of an argument changed inside of gn.custom_jvp: one.weight: ParamState != the object at one.bias"
        ". Change it outside, or return a new node"
    )
    assert message(gn.StructureError, with_rule(exact, replace), cell(), X) == text
    made = with_rule(lambda primals, tangents: (replace(*primals), tangents[1]), affine)
    assert message(gn.StructureError, gn.grad(total(made)), cell(), X) == text


ONLY = "is written by {} alone: the function and the rule must write the same States"


@pytest.mark.parametrize(
    ("function", "by_rule", "writer"), [(apply, affine, "the function"), (affine, apply, "the rule")]
)
def test_a_write_that_would_depend_on_differentiation_is_an_error(function: Any, by_rule: Any, writer: str):
    """What the function writes and the rule does not, or the other way round; nothing is written then."""
    made, one = with_rule(lambda primals, tangents: (by_rule(*primals), tangents[1]), function), cell()
    for gradient in (gn.grad(total(made)), gn.jit(gn.grad(total(made)))):
        text = message(gn.TraceError, gradient, one, X)
        assert text.splitlines()[0] == f"gn.custom_jvp: one.count {ONLY.format(writer)}"
        assert one.count.value == 0


def test_numpy_values_and_numbers_are_primals():
    """States may hold what is not an array of JAX."""
    made = with_rule(lambda primals, tangents: gn.jvp(affine, primals, tangents), affine)
    values: list[Any] = [np.ones(2, np.float32), 0.5, 0]
    one = Cell(gn.ParamState(values[0]), gn.ParamState(values[1]), gn.ShortTermState(values[2]))
    assert gn.grad(total(made))(one, X)["bias"].value == 2.0
