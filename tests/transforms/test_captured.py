"""A transformed function works on copies of its arguments: reading the originals inside is an error, not a constant."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode import ParamState


class Holder(gn.Node):
    w: ParamState
    size: int = 2

    def __call__(self, x: Any) -> Any:
        return jnp.sum(self.w.value * x)


def holder() -> Holder:
    return Holder(ParamState(jnp.full(2, 3.0)))


X = jnp.ones(2)

CALLS: dict[str, Callable[[Callable[[Holder], Any], Holder], Any]] = {
    "jit": lambda f, node: gn.jit(f)(node),
    "grad": lambda f, node: gn.grad(f)(node),
    "value_and_grad": lambda f, node: gn.value_and_grad(f)(node),
    "vjp": lambda f, node: gn.vjp(f, node),
    "jvp": lambda f, node: gn.jvp(f, (node,), (jax.tree.map(jnp.ones_like, gn.treefy_states(node)),)),
    "jacrev": lambda f, node: gn.jacrev(f)(node),
    "jacfwd": lambda f, node: gn.jacfwd(f)(node),
    "vmap": lambda f, node: gn.vmap(f, in_axes=None, axis_size=2)(node),
    "scan": lambda f, node: gn.scan(lambda carry, _: (carry, f(carry)), node, None, length=2),
    "fori_loop": lambda f, node: gn.fori_loop(0, 2, lambda _, carry: (f(carry), carry)[1], node),
    "cond": lambda f, node: gn.cond(True, f, f, node),
    "remat": lambda f, node: gn.remat(f)(node),
    "eval_shape": lambda f, node: gn.eval_shape(f, node),
    "make_jaxpr": lambda f, node: gn.make_jaxpr(f)(node),
    "checkify": lambda f, node: gn.checkify(f)(node),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_argument_must_not_be_read_from_outside(name: str):
    """The commonest slip in a loss function would train nothing without a word; the error names the argument."""
    node = holder()
    with pytest.raises(gn.TraceError) as caught:
        CALLS[name](lambda given: node(X) + 0 * given(X), node)
    text = str(caught.value)
    assert text.startswith(f"gn.{name}: ")
    assert text.endswith(
        ".w is read from outside of the function, as a constant, though its node is an argument of this call. Use the "
        "argument, or compute the constant outside"
    )
    assert node.w._mark is None
    assert float(node(X)) == 6.0


@pytest.mark.parametrize("name", CALLS)
def test_the_argument_itself_and_static_fields_may_be_read(name: str):
    """What is given is read as ever, and so are the static fields of the original."""
    node = holder()
    CALLS[name](lambda given: given(X) * node.size, node)
    assert node.w._mark is None


BULK: dict[str, Callable[[Holder], Any]] = {
    "treefy_states": gn.treefy_states,
    "treefy_split": gn.treefy_split,
    "clone": gn.clone,
    "a result": lambda node: node,
    "an argument": lambda node: gn.jit(lambda inner: inner(X))(node),
}


@pytest.mark.parametrize("name", BULK)
def test_taking_an_argument_apart_from_outside_is_reading_it(name: str):
    """Splitting, cloning, returning or passing the original on inside of the function is refused as well."""
    node = holder()

    def apart(given: Holder) -> Any:
        BULK[name](node)
        return node if name == "a result" else given(X)

    with pytest.raises(gn.TraceError, match="is read from outside of the function"):
        gn.jit(apart)(node)


def test_a_nested_transform_guards_the_copies_too():
    """Inside of `jit`, `grad` takes the copy as an argument, and the copy is then its original."""

    def loss(node: Holder) -> Any:
        return gn.grad(lambda given: node(X) + 0 * given(X))(node)

    with pytest.raises(gn.TraceError, match=r"^gn\.grad: given\.w is read"):
        gn.jit(loss)(holder())


def test_a_function_that_raised_leaves_no_guard():
    """After an exception the node is read as before, inside of other transformations too."""
    node = holder()

    def fail(given: Holder) -> Any:
        raise KeyError("on purpose")

    with pytest.raises(KeyError):
        gn.jit(fail)(node)
    assert node.w._mark is None
    assert float(jax.jit(lambda x: node(x))(X)) == 6.0


def test_another_thread_may_read():
    """The guard is of the thread that traces."""
    node = holder()
    seen: list[float] = []

    def step(given: Holder) -> Any:
        thread = threading.Thread(target=lambda: seen.append(float(jax.jit(node)(X))))
        thread.start()
        thread.join()
        return given(X)

    gn.jit(step)(node)
    assert seen == [6.0]


def test_another_node_may_be_captured():
    """A node that is not an argument is a constant, as before."""
    node, other = holder(), holder()
    assert float(gn.grad(lambda given: given(X) * other(X))(node)["w"].value[0]) == 6.0
