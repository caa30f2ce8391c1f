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
    "linearize": lambda f, node: gn.linearize(f, node),
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
    "an argument": lambda node: gn.jit(lambda inner: inner(X))(node),
}


@pytest.mark.parametrize("name", BULK)
def test_taking_an_argument_apart_from_outside_is_reading_it(name: str):
    """Splitting, cloning or passing the original on inside of the function is refused as well."""
    node = holder()

    def apart(given: Holder) -> Any:
        BULK[name](node)
        return given(X)

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


class Pair(gn.Node):
    both: list[Holder]


# Functions that give a node back that they did not get.
RETURNS: dict[str, tuple[Callable[[Holder], Any], str]] = {
    "jit": (lambda node: gn.jit(lambda x: node)(X), "gn.jit: result is from outside"),
    "jit of the argument": (lambda node: gn.jit(lambda given: node)(node), "gn.jit: result is from outside"),
    "in a new node": (lambda node: gn.jit(lambda x: Pair([node]))(X), "gn.jit: result.both.0 is from outside"),
    "a State": (lambda node: gn.jit(lambda x: [x, node.w])(X), r"gn.jit: result\[1\] is from outside"),
    "cond": (lambda node: gn.cond(True, lambda: node, lambda: node), "gn.cond: result is from outside"),
    "vmap": (lambda node: gn.vmap(lambda x: {"net": node})(X), r"gn.vmap: result\['net'\] is from outside"),
    "aux": (
        lambda node: gn.grad(lambda given: (given(X), node), has_aux=True)(holder()),
        r"gn.grad: result\[1\] is from outside",
    ),
    "inner": (
        lambda node: gn.jit(lambda given: gn.cond(True, lambda: given, lambda: given))(node),
        "gn.cond: result is from outside",
    ),
}


@pytest.mark.parametrize("name", RETURNS)
def test_a_captured_node_is_no_result(name: str):
    """It would come back as a copy, and what is written to that would be lost."""
    run, message = RETURNS[name]
    with pytest.raises(gn.TraceError, match=message) as caught:
        run(holder())
    assert "give its node to the function as an argument, or return a gn.clone of it" in str(caught.value)


def test_what_is_made_of_a_captured_node_is_a_result():
    """A clone of it, and the structure alone."""
    node = holder()
    twin = gn.jit(lambda x: gn.clone(node))(X)
    assert twin is not node
    assert float(twin(X)) == float(node(X))
    assert gn.eval_shape(lambda: node).w.value.shape == node.w.value.shape
    assert gn.jit(lambda given: Pair([given]))(node).both[0] is node


def eager(function: Callable[[Holder], Any]) -> Callable[[Holder], Any]:
    """The function with a rule for derivatives, which nobody asks for: JAX runs it without a trace."""
    with_rule = gn.custom_vjp(function)
    with_rule.defvjp(lambda node: (function(node), None), lambda _, cotangent: (None,))
    return with_rule


READ = (
    "gn.custom_vjp: given.w is read from outside of the function, as a constant, though its node is an argument of "
    "this call. Use the argument, or compute the constant outside"
)
WRITTEN = (
    "gn.custom_vjp: given.w is written from outside of the function, though its node is an argument of this call, "
    "which works on a copy. Write to the argument"
)


class Table(gn.Node):
    w: gn.State[Any]


@pytest.mark.parametrize("use", ["value", "split", "states of both", "inner call"])
def test_an_argument_must_not_be_read_from_outside_in_eager_code(use: str):
    """What runs without a trace works on copies too: the original has the values of before."""
    node = holder()
    reads: dict[str, Callable[[], Any]] = {
        "value": lambda: node.w.value,
        "split": lambda: gn.treefy_split(node),
        "states of both": lambda: gn.treefy_states([node, holder()]),
        "inner call": lambda: gn.jit(lambda other: other.w.value)(node),
    }
    reads[use]()  # what bindings keep is there

    def function(given: Holder) -> Any:
        given.w.value = given.w.value + 1
        reads[use]()
        return given(X)

    with pytest.raises(gn.TraceError) as caught:
        eager(function)(node)
    assert str(caught.value) == READ
    reads[use]()
    assert node.w._mark is None
    assert node.w.value.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("use", ["value", "update"])
def test_an_argument_must_not_be_written_from_outside_in_eager_code(use: str):
    """The write would be undone by that of the copy, or not, as the function goes on."""
    node, new = holder(), gn.treefy_states(Holder(ParamState(jnp.zeros(2))))
    writes: dict[str, Callable[[], None]] = {
        "value": lambda: setattr(node.w, "value", jnp.zeros(2)),
        "update": lambda: gn.update_states(node, new),
    }

    def function(given: Holder) -> Any:
        writes[use]()
        return given(X)

    with pytest.raises(gn.TraceError) as caught:
        eager(function)(node)
    assert str(caught.value) == WRITTEN
    assert node.w.value.tolist() == [3.0, 3.0]
    writes[use]()
    assert node.w.value.tolist() == [0.0, 0.0]


def test_a_container_must_not_be_read_from_outside_in_eager_code():
    """Nor one of a State, through which the original could be written to."""
    table = Table(gn.State({"a": jnp.ones(2)}))
    with_rule = gn.custom_vjp(lambda given: table.w.value["a"] + given.w.value["a"])
    with_rule.defvjp(lambda given: (given.w.value["a"], None), lambda _, cotangent: (None,))
    with pytest.raises(gn.TraceError) as caught:
        with_rule(table)
    assert str(caught.value) == READ


def test_others_are_plain_python_in_eager_code():
    """A node that is not an argument is read and written as anywhere else, also by a call that fails afterwards."""
    node, other = holder(), holder()

    def function(given: Holder) -> Any:
        other.w.value = other.w.value + given.w.value
        if float(other.w.value[0]) > 7:
            raise KeyError
        return given(X)

    assert eager(function)(node) == 6.0
    with pytest.raises(KeyError):
        eager(function)(node)
    assert other.w.value.tolist() == [9.0, 9.0]


def test_loops_without_compilation_work_on_copies_too():
    """Under `jax.disable_jit` a round reads no original either."""
    node = holder()
    with jax.disable_jit(), pytest.raises(gn.TraceError, match="is read from outside of the function"):
        gn.scan(lambda given, _: (given, node.w.value + given.w.value), node, None, length=2)


# Copies afterwards


class Noisy(gn.Node):
    rngs: gn.Rngs
    draws: gn.ShortTermState

    def draw(self) -> jax.Array:
        self.draws.value += 1
        return self.rngs()


def noisy() -> Noisy:
    return Noisy(gn.Rngs(0), gn.ShortTermState(jnp.int32(0)))


def kept_by_custom_vjp(function: Callable[[Noisy], list[float]], node: Noisy) -> None:
    rule = gn.custom_vjp(function)
    rule.defvjp(lambda node: ([], None), lambda residuals, cotangent: (None,))
    rule(node)


KEEPING: dict[str, Callable[[Callable[[Noisy], list[float]], Noisy], Any]] = {
    "grad": lambda function, node: gn.grad(lambda x, node: (x, function(node)), has_aux=True)(1.0, node),
    "vmap": lambda function, node: gn.vmap(lambda x, node: (x, function(node)), (0, None))(jnp.ones(2), node),
    "jit": lambda function, node: gn.jit(function)(node),
    "scan": lambda function, node: gn.scan(lambda node, _: (node, function(node)), node, length=1),
    "custom_vjp": kept_by_custom_vjp,
}


@pytest.mark.parametrize("transform", KEEPING)
def test_a_copy_that_outlives_its_call_is_not_written(transform: str):
    """What it drew would be drawn again, and what is written to it would be lost; the caller's node goes on."""
    kept: list[Any] = []
    node = noisy()

    def keep(copy: Noisy) -> list[float]:
        kept.extend([copy, copy.draw])
        return []

    KEEPING[transform](keep, node)
    copy, draw = kept[:2]
    uses: list[Callable[[], Any]] = [
        draw,
        lambda: setattr(copy.draws, "value", jnp.int32(5)),
        lambda: gn.update_states(copy, {"draws": jnp.int32(5)}),
        lambda: gn.update_states(copy, gn.treefy_states(node)),
    ]
    if transform != "custom_vjp":  # which has run as plain Python
        uses += [lambda: gn.clone(copy), lambda: gn.jit(lambda node: None)(copy)]
    of_tracer = "holds a tracer .* of a JAX transformation that has ended"
    for use in uses:
        with pytest.raises(gn.TraceError, match=f"copy of an argument that gn.{transform} has worked|{of_tracer}"):
            use()
    node.draw()
    assert [int(node.draws.value), int(node.rngs["default"].count.value)] == [1, 1]


def test_a_copy_that_outlives_its_call_is_named():
    """The text says what it is, and what would do."""
    _, draw = gn.grad(lambda x, node: (x, node.draw), has_aux=True)(1.0, noisy())
    with pytest.raises(gn.TraceError) as caught:
        draw()
    assert str(caught.value) == (
        "ShortTermState is part of the copy of an argument that gn.grad has worked on, and its call is over: what is "
        "drawn from it or written to it would be lost. Use the node that was given to the call; or return the value "
        "(or treefy_states of the node) from the transformed function instead"
    )
