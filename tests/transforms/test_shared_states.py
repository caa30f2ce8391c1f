"""Derivatives of nodes that share States: a State is one variable, and has one derivative."""

from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import graphnode as gn

X = jnp.float32(3.0)


class Layer(gn.Node):
    w: gn.ParamState


class Net(gn.Node):
    first: Layer
    second: Layer


def layer(value: float = 2.0) -> Layer:
    return Layer(gn.ParamState(jnp.float32(value)))


def product(a: Layer, b: Layer) -> jax.Array:
    result: jax.Array = a.w.value * b.w.value
    return result


def message(error: type[Exception], function: Callable[[], Any]) -> str:
    with pytest.raises(error) as caught:
        function()
    return str(caught.value)


# Sums over gradients

# What an argument is made of: nodes of some variables, a State alone, or an array.
Item = tuple[str, int, int]
ITEMS = st.tuples(st.sampled_from(["layer", "net", "state", "array"]), st.integers(0, 2), st.integers(0, 2))
PATTERNS = st.tuples(st.lists(ITEMS, min_size=1, max_size=4), st.booleans())
WRTS: list[Any] = [
    gn.ParamState,
    gn.PathContains("first", missing_ok=True),
    gn.PathContains("w", missing_ok=True),
    lambda _, state: bool(state.value > 0),
]


def argument_of(items: list[Item], is_dict: bool, values: list[float]) -> Any:
    """Nodes in a list or a dict; they share the layers and States of a pool."""
    pool = [layer(value) for value in values]
    made: dict[str, Callable[[int, int], Any]] = {
        "layer": lambda one, _: pool[one],
        "net": lambda one, other: Net(pool[one], Layer(pool[other].w)),
        "state": lambda one, _: pool[one].w,
        "array": lambda one, _: jnp.float32(values[one]),
    }
    parts = [made[kind](one, other) for kind, one, other in items]
    return dict(zip("dacb", parts, strict=False)) if is_dict else parts


def is_node(leaf: object) -> bool:
    return isinstance(leaf, gn.Node | gn.State)


def keys_of(argument: Any) -> list[Any]:
    """What is read of an argument, in order: States by identity, arrays by their position."""
    keys: list[Any] = []
    for at, leaf in enumerate(jax.tree.leaves(argument)):
        if isinstance(leaf, Net):
            keys += [leaf.first.w, leaf.second.w]
        elif isinstance(leaf, Layer):
            keys.append(leaf.w)
        else:
            keys.append(leaf if isinstance(leaf, gn.State) else at)
    return keys


def combined(values: list[Any]) -> Any:
    """A function that tells all places apart, with mixed second derivatives."""
    total = jnp.float32(0)
    for at, value in enumerate(values):
        total = total + jnp.sin((at + 1) * value) + value * values[at - 1] * (at + 2)
    return total


def function(argument: Any) -> Any:
    leaves = jax.tree.leaves(argument)
    return combined([key.value if isinstance(key, gn.State) else leaves[key] for key in keys_of(argument)])


def by_hand(argument: Any) -> tuple[Callable[[dict[Any, Any]], Any], dict[Any, Any]]:
    """The function of one variable for each State and array, and where it is differentiated."""
    keys, leaves = keys_of(argument), jax.tree.leaves(argument)
    at = {key: key.value if isinstance(key, gn.State) else leaves[key] for key in keys}
    names = {key: number for number, key in enumerate(at)}
    values = {names[key]: value for key, value in at.items()}
    return lambda variables: combined([variables[names[key]] for key in keys]), values


def entries_of(derivative: Any, argument: Any) -> list[tuple[Any, Any]]:
    """What a derivative says, with the States and arrays that it is said of."""
    leaves, structure = jax.tree.flatten(argument)
    treedef: Any = structure  # whose stubs lack methods
    if all(map(is_node, leaves)):
        return of_tree(derivative, argument)
    pairs: list[tuple[Any, Any]] = []
    for at, (leaf, part) in enumerate(zip(leaves, treedef.flatten_up_to(derivative), strict=True)):
        pairs += of_tree(part, leaf) if is_node(leaf) else [(at, part)]
    return pairs


def of_tree(tree: gn.StateTree, node: Any) -> list[tuple[Any, Any]]:
    live = gn.states(node)
    return [(live[path], one.value) for path, one in tree.flat().items()]


# Each example compiles: fewer than the profile says, which is more where the slow tests run.
EXAMPLES = hypothesis.settings().max_examples // 4


def direction_of(key: Any, argument: Any) -> jax.Array:
    """A number for each State and array, all different."""
    direction: jax.Array = jnp.float32(0.3 + list(dict.fromkeys(keys_of(argument))).index(key))
    return direction


def along(derivative: Any, argument: Any, inner: Callable[[Any], Any] = lambda value: value) -> Any:
    """A derivative against the direction: the sum over all its entries."""
    return sum(inner(value) * direction_of(key, argument) for key, value in entries_of(derivative, argument))


def check(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.slow
@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(pattern=PATTERNS, wrt=st.sampled_from(WRTS))
def test_all_entries_of_a_derivative_together_are_the_derivative(pattern: tuple[list[Item], bool], wrt: Any):
    """However States are shared, each has one entry, and the sum over all entries is the directional derivative."""
    argument = argument_of(*pattern, [0.4, -1.1, 0.7])
    if not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(argument)):
        hypothesis.assume(len(gn.states(argument, wrt)) > 0)
    elif not keys_of(argument):
        hypothesis.reject()
    gradient = gn.grad(function, wrt=wrt)(argument)
    chosen = [key for key, _ in entries_of(gradient, argument)]
    assert len(set(map(id, chosen))) == len(chosen)

    plain, at = by_hand(argument)
    numbers = list(dict.fromkeys(keys_of(argument)))
    selected = {number for number, key in enumerate(numbers) if any(key is one for one in chosen)}
    tangent = {n: direction_of(key, argument) * float(n in selected) for n, key in enumerate(numbers)}
    value, expected = jax.jvp(plain, (at,), (tangent,))

    def slope(variables: dict[Any, Any]) -> Any:
        return jax.jvp(plain, (variables,), (tangent,))[1]

    check(along(gradient, argument), expected)
    check(gn.value_and_grad(function, wrt=wrt)(argument)[0], value)
    check(along(gn.vjp(function, argument, wrt=wrt)[1](jnp.float32(1))[0], argument), expected)
    check(along(gn.jacrev(function, wrt=wrt)(argument), argument), expected)
    check(along(gn.jacfwd(function, wrt=wrt)(argument), argument), expected)
    second = along(gn.hessian(function, wrt=wrt)(argument), argument, lambda row: along(row, argument))
    check(second, jax.jvp(slope, (at,), (tangent,))[1])

    # Along tangents of the form of a gradient.
    leaves, treedef = jax.tree.flatten(gradient)
    tangents = jax.tree.unflatten(treedef, [direction_of(key, argument) for key in chosen])
    assert len(leaves) == len(chosen)
    check(gn.jvp(function, (argument,), (tangents,)), (value, expected))


@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(pattern=PATTERNS)
def test_a_true_rule_gives_the_true_derivative_of_what_is_shared(pattern: tuple[list[Item], bool]):
    """`bwd` answers place by place, knowing nothing of sharing; the answers for one State are added."""
    argument = argument_of(*pattern, [0.4, -1.1, 0.7])
    leaves, treedef = jax.tree.flatten(argument)
    places = keys_of(argument)
    values = [key.value if isinstance(key, gn.State) else leaves[key] for key in places]

    holds_arrays = not all(map(is_node, leaves))
    trees = [gn.treefy_states(leaf) if isinstance(leaf, gn.State) and holds_arrays else None for leaf in leaves]

    def backward(residuals: Any, g: Any) -> Any:
        following = iter(jax.grad(combined)(residuals))

        def answer(leaf: Any, tree: Any) -> Any:
            if isinstance(leaf, Net):
                return {"first": {"w": g * next(following)}, "second": {"w": g * next(following)}}
            one = g * next(following)
            if isinstance(leaf, Layer):
                return {"w": one}
            # A State beside arrays is answered by a tree of it alone.
            return one if tree is None else jax.tree.map(lambda _: one, tree)

        return (wrapped(list(map(answer, leaves, trees))),)

    def wrapped(answers: list[Any]) -> Any:
        if holds_arrays:
            return jax.tree.unflatten(treedef, answers)
        return dict(zip(sorted(argument) if isinstance(argument, dict) else range(len(answers)), answers, strict=True))

    made = gn.custom_vjp(function)
    made.defvjp(lambda argument: (function(argument), values), backward)
    expected, found = gn.grad(function)(argument), gn.grad(lambda argument: made(argument))(argument)
    assert jax.tree.structure(expected) == jax.tree.structure(found)  # type: ignore[operator]  # JAX's stubs
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        check(left, right)


def test_arguments_that_share_a_state_are_refused():
    """Across arguments a shared State would count twice: all are named, with the call to make instead."""
    one = layer()
    calls: dict[str, Callable[[], Any]] = {
        "grad": lambda: gn.grad(product, (0, 1))(one, one),
        "value_and_grad": lambda: gn.value_and_grad(product, (0, 1))(one, one),
        "jacrev": lambda: gn.jacrev(product, (0, 1))(one, one),
        "jacfwd": lambda: gn.jacfwd(product, (0, 1))(one, one),
        "hessian": lambda: gn.hessian(product, (0, 1))(one, one),
    }
    for name, call in calls.items():
        assert message(gn.AliasError, call) == (
            f"gn.{name}: arguments share what is differentiated; take them as one, gn.{name}(f)((a, b)): a.w and b.w "
            "are one ParamState"
        )
    assert message(gn.AliasError, lambda: gn.vjp(product, one, one)) == (
        "gn.vjp: arguments share what is differentiated; take them as one, gn.vjp(f, (a, b)): a.w and b.w are one "
        "ParamState"
    )


def test_models_that_share_a_layer_are_refused_as_two_arguments():
    """A layer in two models is named at its place in each; a part that `wrt` leaves out may be shared."""
    shared = layer()
    a, b = Net(shared, layer()), Net(layer(), shared)

    def loss(a: Net, b: Net) -> Any:
        return product(a.first, a.second) + product(b.first, b.second)

    assert message(gn.AliasError, lambda: gn.grad(loss, (0, 1))(a, b)).endswith(
        "gn.grad(f)((a, b)): a.first.w and b.second.w are one ParamState"
    )
    of_a, of_b = gn.grad(loss, (0, 1), wrt=gn.PathContains("first"))(a, Net(layer(), shared))
    assert (list(of_a.flat()), list(of_b.flat())) == ([("first", "w")], [("first", "w")])


def test_the_gradient_of_a_pair_is_once_in_it():
    """Taken as one argument, a node given twice has its gradient in the tree of its first place."""
    one = layer()
    gradient = gn.grad(lambda pair: product(*pair))((one, one))
    assert [(path, float(value.value)) for path, value in gradient.flat().items()] == [((0, "w"), 4.0)]
    mixed = gn.grad(lambda d: product(d["a"], d["b"]) * d["x"])({"a": one, "b": one, "x": X})
    assert (float(mixed["a"]["w"].value), len(mixed["b"]), float(mixed["x"])) == (12.0, 0, 4.0)
