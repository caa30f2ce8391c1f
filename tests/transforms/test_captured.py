"""A transformed function works on copies of its arguments: reading the originals inside is an error, not a constant."""

import functools
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
    "capture": lambda f, node: gn.capture(f, ...)(node),
    "capture_grads": lambda f, node: gn.capture_grads(f, ...)(node),
    "intervene": lambda f, node: gn.intervene(f, {"": lambda y: y})(node),
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


# What is around the function may change


TRACES: list[str] = []


@pytest.fixture(autouse=True)
def no_traces():
    TRACES.clear()


class Net(gn.Node):
    w: gn.State[Any]
    factor: int = 1
    more: list[gn.State[Any]] = gn.state(default_factory=list)

    def __call__(self, x: Any) -> Any:
        TRACES.append("net")
        return sum([state.value for state in self.more], self.w.value * x * self.factor)


class Plain:
    """An object that is no node, such as a trainer."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def step(self, x: Any) -> Any:
        return self.net(x)


def net(value: float = 3.0, factor: int = 1) -> Net:
    return Net(gn.State(jnp.float32(value)), factor)


GLOBAL = net()


def of_global(x: Any) -> Any:
    return GLOBAL(x)


def rebind_global(new: Net) -> None:
    globals()["GLOBAL"] = new


# What gives a function of a number, and how its node is replaced.
Holding = tuple[Callable[[Any], Any], Callable[[Net], None]]


def in_a_cell() -> Holding:
    node = net()

    def rebind(new: Net) -> None:
        nonlocal node
        node = new

    return (lambda x: node(x)), rebind


def in_a_helper() -> Holding:
    helper, rebind = in_a_cell()
    return (lambda x: helper(x) + 0.0), rebind


def in_a_list_of_helpers() -> Holding:
    helper, rebind = in_a_cell()
    helpers: list[Any] = [lambda x: x, {"net": functools.partial(helper)}]
    return (lambda x: helpers[1]["net"](helpers[0](x))), rebind


def in_a_nested_function() -> Holding:
    helper, rebind = in_a_cell()

    def function(x: Any) -> Any:
        def inner() -> Any:
            return helper(x)

        return inner()

    return function, rebind


def in_a_global() -> Holding:
    rebind_global(net())
    return of_global, rebind_global


def in_a_method() -> Holding:
    trainer = Plain(net())
    return trainer.step, lambda new: setattr(trainer, "net", new)


def in_an_attribute() -> Holding:
    trainer = Plain(net())
    return (lambda x: trainer.net(x)), lambda new: setattr(trainer, "net", new)


def in_a_dict() -> Holding:
    nets = {"best": [net()]}
    return (lambda x: nets["best"][0](x)), lambda new: nets.update(best=[new])


def in_a_list_of_an_object() -> Holding:
    trainer = Plain((1, [net()]))
    return (lambda x: trainer.net[1][0](x)), lambda new: trainer.net[1].__setitem__(0, new)


def in_a_jitted_helper() -> Holding:
    helper, rebind = in_a_cell()
    compiled = gn.jit(helper)
    return (lambda x: compiled(x)), rebind


def in_a_body_of_jax() -> Holding:
    helper, rebind = in_a_cell()

    def body(carry: Any, _: None) -> tuple[Any, None]:
        return carry + helper(1.0), None

    return (lambda x: jax.lax.scan(body, x - 1.0, None, length=1)[0]), rebind


HOLDING = {
    "cell": in_a_cell,
    "helper": in_a_helper,
    "list of helpers": in_a_list_of_helpers,
    "nested": in_a_nested_function,
    "global": in_a_global,
    "method": in_a_method,
    "attribute": in_an_attribute,
    "dict": in_a_dict,
    "list of an object": in_a_list_of_an_object,
    "jitted helper": in_a_jitted_helper,
    "body of jax.lax.scan": in_a_body_of_jax,
}


@pytest.mark.parametrize("name", HOLDING)
def test_a_captured_node_may_be_rebound(name: str):
    """Another node of equal structure takes its place without a trace; one of another structure is traced."""
    function, rebind = HOLDING[name]()
    run = gn.jit(function)
    run.clear_cache()
    kept = [net(value) for value in (4.0, 5.0, 6.0)]  # alive: nothing is noticed by a death
    assert float(run(1.0)) == 3.0
    rebind(kept[0])
    assert float(run(1.0)) == 4.0
    kept[0].w.value = jnp.float32(7)
    assert float(run(1.0)) == 7.0
    assert TRACES == ["net"]
    kept[1].factor = 2
    rebind(kept[1])
    assert float(run(1.0)) == 10.0
    assert TRACES == ["net"] * 2
    rebind(kept[2])
    assert float(run(1.0)) == 6.0
    assert TRACES == ["net"] * 2


def test_a_helper_that_closes_over_a_node_may_be_rebound():
    """Another function is traced, and the place that it closes over is followed from then on."""
    kept = [net(value) for value in (3.0, 4.0, 5.0)]  # alive: nothing is noticed by a death

    def closing_over(node: Net) -> Callable[[Any], Any]:
        return lambda x: node(x)

    helper = closing_over(kept[0])
    run = gn.jit(lambda x: jax.lax.scan(lambda carry, _: (helper(carry), None), x, None, length=1)[0])
    assert float(run(1.0)) == 3.0
    helper = closing_over(kept[1])
    assert float(run(1.0)) == 4.0
    kept[1].factor = 2
    assert float(run(1.0)) == 8.0
    helper = closing_over(kept[2])
    assert float(run(1.0)) == 5.0
    assert TRACES == ["net"] * 4


def test_a_plain_object_that_holds_a_node_may_be_rebound():
    """As its attribute may be; nodes of equal structure need no trace."""
    trainer = Plain(net(3.0))
    run = gn.jit(lambda x: trainer.net(x))
    assert float(run(1.0)) == 3.0
    old, trainer = trainer, Plain(net(4.0))
    assert float(run(1.0)) == 4.0
    old.net = net(5.0)
    assert float(run(1.0)) == 4.0
    assert TRACES == ["net"]


@pytest.mark.parametrize("name", HOLDING)
def test_a_captured_node_may_change(name: str):
    """Its static field, its list, the State that stands in it, the shape of a value: each is seen by the next call."""
    function, rebind = HOLDING[name]()
    node = net()
    rebind(node)
    run = gn.jit(function)
    run.clear_cache()
    results = [run(1.0)]
    node.factor = 2
    results.append(run(1.0))
    node.more.append(gn.State(jnp.float32(10)))
    results.append(run(1.0))
    node.more[0].value = jnp.float32(20)
    results.append(run(1.0))
    node.w = gn.State(jnp.float32(7))
    results.append(run(1.0))
    assert list(map(float, results)) == [3.0, 6.0, 16.0, 26.0, 34.0]
    assert TRACES == ["net"] * 3
    del node.more[:]
    if name != "body of jax.lax.scan":  # whose carry keeps its shape
        node.w.value = jnp.full(2, jnp.float32(1))
        assert run(1.0).tolist() == [2.0, 2.0]
        assert TRACES == ["net"] * 4
        node.w.value = jnp.float32(5)
    assert float(run(1.0)) == 14.0 if name == "body of jax.lax.scan" else 10.0


def test_what_was_captured_is_freed():
    """A model that was rebound does not live on in what is compiled for it, nor in explanations."""
    node = net()
    run = gn.jit(lambda x: node(x))
    run(1.0)
    refs: list[weakref.ref[Any]] = [weakref.ref(node), weakref.ref(node.w)]
    node = net(5.0)
    gc.collect()
    assert [ref() for ref in refs] == [None, None]
    assert [float(run(1.0)), run(jnp.ones(2)).tolist()] == [5.0, [5.0, 5.0]]
    gn.explain_retrace(run)
    refs = [weakref.ref(node), weakref.ref(node.w)]
    node = net(5.0, 2)
    run(1.0)
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


# The body of a scan, and what calls it once.
Body = Callable[[Any, Any], tuple[Any, Any]]


def in_jit() -> Callable[[Body], float]:
    start = jnp.float32(0)
    return lambda body: float(gn.jit(lambda x: jax.lax.scan(body, x, None, length=1)[0])(start))


def in_one_jit() -> Callable[[Body], float]:
    runs: dict[Body, Any] = {}

    def call(body: Body) -> float:
        run = runs.setdefault(body, gn.jit(lambda x: body(x, None)[0]))
        return float(run(jnp.float32(0)))

    return call


def in_eager_code() -> Callable[[Body], float]:
    return lambda body: float(gn.scan(body, jnp.float32(0), None, length=1)[0])


@pytest.mark.parametrize("make", [in_jit, in_one_jit, in_eager_code])
def test_what_reads_a_node_that_is_gone_is_traced_again(make: Callable[[], Any]):
    """It stood where nobody looks, below an object of an object; what JAX has kept of a body is not used either."""
    trainer = Plain(Plain(net()))
    call = make()

    def body(carry: Any, _: Any) -> tuple[Any, None]:
        return carry + trainer.net.net(1.0), None

    for value in (3.0, 4.0, 5.0):
        trainer.net.net = net(value)
        gc.collect()
        seen = len(TRACES)
        assert [call(body), call(body)] == [value, value]
        trainer.net.net.w.value = jnp.float32(1)
        assert call(body) == 1.0
        assert len(TRACES) <= seen + 3


@pytest.mark.parametrize("run", [gn.jit, gn.remat], ids=["jit", "remat"])
def test_a_copy_that_was_left_around_the_function_is_in_nobodys_way(run: Callable[..., Any]):
    """A trace of before has put it there, as one does to look at it; what is beside it is followed."""
    node, left = net(), list[Any]()

    def step(given: Net, x: Any) -> Any:
        left.append(given)
        return given(x) + gn.cond(x > 0, lambda: node(x), lambda: (left, node(x))[1])

    call = run(step)
    for factor in (1, 2, 1, 2):
        for value in (3.0, 4.0):
            node.w.value = jnp.float32(value)
            assert float(call(net(5.0, factor), 1.0)) == 5.0 * factor + value
    assert len(left) >= 2


def test_a_captured_state_that_is_an_argument_is_refused():
    """Also where the trace is there already, for a node that was not captured; other calls go on."""
    node = net()
    run = gn.jit(lambda given, x: given(x) + node(x))
    message = (
        "gn.jit: given.w is read from outside of the function, as a constant, though its node is an argument of this "
        "call. Use the argument, or compute the constant outside"
    )
    for value in (1.0, 2.0):
        assert float(run(net(value), 1.0)) == 3.0 + value
        with pytest.raises(gn.TraceError) as caught:
            run(node, 1.0)
        assert str(caught.value) == message
        with pytest.raises(gn.TraceError):
            run.lower(node, 1.0)
    assert TRACES == ["net"] * 2
    assert node.w._mark is None


def test_an_array_that_is_donated_and_captured_stays():
    """It gets there in two States: the argument's memory is given away, and the captured one keeps its own."""
    node, given = net(), net()

    @gn.jit(donate=True)
    def step(given: Net, x: Any) -> Any:
        given.w.value = given.w.value + x
        return node(1.0)

    for value in (3.0, 4.0):
        given.w.value = node.w.value = jnp.float32(value)
        assert float(step(given, 1.0)) == value
        assert [float(given.w.value), float(node.w.value)] == [value + 1, value]
        assert float(step(given, 1.0)) == value
        assert [float(given.w.value), float(node.w.value)] == [value + 2, value]
    assert TRACES == ["net"]


def body(carry: Any, _: Any) -> tuple[Any, None]:
    return carry + GLOBAL(1.0), None


def branch(x: Any) -> Any:
    return x + GLOBAL(1.0)


def turn(carry: Any) -> Any:
    return carry[0] + 1, carry[1] + GLOBAL(1.0)


def is_early(carry: Any) -> Any:
    return carry[0] < 2


def other_branch(x: Any) -> Any:
    return x


BODIES: dict[str, Callable[[Any], Any]] = {
    "scan": lambda x: jax.lax.scan(body, x, None, length=2)[0],
    "while_loop": lambda x: jax.lax.while_loop(is_early, turn, (0, x))[1],
    "cond": lambda x: jax.lax.cond(x > 0, branch, other_branch, x) * 2,
    "switch": lambda x: jax.lax.switch(1, [other_branch, branch], x) * 2,
    "jit": lambda x: jax.jit(branch)(x) * 2,
    "checkpoint": lambda x: jax.checkpoint(branch)(x) * 2,
    "gn.remat": lambda x: gn.remat(branch)(x) * 2,
    "gn.scan": lambda x: gn.scan(body, x, None, length=2)[0],
}


@pytest.mark.parametrize("name", BODIES)
def test_what_jax_keeps_of_a_body_is_not_what_it_captured(name: str):
    """Functions of a module that two jitted ones use: JAX knows them by identity, before and after a rebinding."""
    rebind_global(net(1.0))
    use = BODIES[name]
    runs = [gn.jit(lambda x: use(x)), gn.jit(lambda x: use(x) + 100.0)]
    start = jnp.float32(1) if name in ("scan", "gn.scan", "while_loop") else jnp.float32(0.5)

    def results() -> list[float]:
        return [float(run(start)) for run in runs]

    assert results() == [3.0, 103.0]
    GLOBAL.w.value = jnp.float32(2)
    assert results() == [5.0, 105.0]
    seen = len(TRACES)
    for value in (4.0, 5.0):
        rebind_global(net(value))
        assert results() == [1.0 + 2 * value, 101.0 + 2 * value]
    assert len(TRACES) == seen
    rebind_global(net(4.0, 2))
    assert results() == [17.0, 117.0]
    GLOBAL.w.value = jnp.float32(1)
    assert results() == [5.0, 105.0]
    old, GLOBAL.w = GLOBAL.w, gn.State(jnp.float32(2))
    assert results() == [9.0, 109.0]
    runs.append(gn.jit(lambda x: use(x) + 200.0))
    assert results() == [9.0, 109.0, 209.0]
    assert float(old.value) == 1.0


def test_a_captured_container_may_grow():
    """A key more is another trace; a value of a key is none."""
    table = Table(gn.State({"a": jnp.float32(1)}))

    def total(x: Any) -> Any:
        TRACES.append("total")
        return sum(table.w.value.values(), x)

    run = gn.jit(total)
    results = [run(1.0)]
    table.w.value["b"] = jnp.float32(5)
    results.append(run(1.0))
    table.w.value["a"] = jnp.float32(2)
    results.append(run(1.0))
    del table.w.value["b"]
    results.append(run(1.0))
    assert list(map(float, results)) == [2.0, 7.0, 8.0, 3.0]
    assert TRACES == ["total"] * 2


STANDS_FOR = (
    "It stands for the value of node.w, which is read from outside of the function: what it is at the time of a call "
    "is not known while the function is traced."
)


@pytest.mark.parametrize("convert", [float, int, bool, np.asarray], ids=["float", "int", "bool", "numpy"])
def test_a_captured_value_as_a_number_is_the_error_of_jax(convert: Callable[[Any], Any]):
    """It was a constant once, that is of no use for later calls; the text names the State."""
    node = net()
    with pytest.raises((jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)) as caught:
        gn.jit(lambda x: x * convert(node.w.value))(1.0)
    assert STANDS_FOR in str(caught.value)
    assert float(node.w.value) == 3.0


def test_what_is_computed_of_a_captured_value_is_no_number_either():
    """JAX's error has the operations, and the note has the State; that of an argument has the argument."""
    node = net()
    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        gn.jit(lambda x: x if node.w.value > 0 else -x)(1.0)
    assert (
        "The value of node.w, which is read from outside of the function, is not known while it is traced."
        in caught.value.__notes__
    )
    with pytest.raises(jax.errors.TracerBoolConversionError, match=r"the argument other_leaves\[0\]") as caught:
        gn.jit(lambda x: x if x > 0 else -x)(1.0)
    note = caught.value.__notes__[-1]
    assert note.startswith("To JAX, other_leaves[0] is x, values are the States.")


LEAKED = (
    "node.w was read from outside of a function while it was traced, and what that gave was kept until the trace was "
    "over: it stood there for the value at each call, and is no array. Return it from the function, or read the State "
    "again"
)


@functools.cache
def kept_value() -> Any:
    """What a traced function has read of a captured State, and put into a cache."""
    node, cache = net(), list[Any]()

    def keep(x: Any) -> Any:
        cache.append(node.w.value)
        return x * node.w.value

    gn.jit(keep)(1.0)
    # Kept as well: it is not that the State is gone.
    KEPT.append(node)
    return cache[0]


KEPT: list[Any] = []

USES: dict[str, Callable[[Any], Any]] = {
    "operator": lambda kept: kept + 1,
    "function": lambda kept: jnp.sum(kept),
    "argument of jax.jit": lambda kept: jax.jit(lambda x: x)(kept),
    "constant of jax.jit": lambda kept: jax.jit(lambda x: x * kept)(1.0),
    "result of jax.jit": lambda kept: jax.jit(lambda: kept)(),
    "argument of gn.jit": lambda kept: gn.jit(lambda x: x)(kept),
    "constant of gn.jit": lambda kept: gn.jit(lambda x: x * kept)(1.0),
    "result of gn.jit": lambda kept: gn.jit(lambda: kept)(),
    "jax.grad": lambda kept: jax.grad(lambda x: x * kept)(1.0),
    "jax.vmap": lambda kept: jax.vmap(lambda x: x * kept)(X),
    "jax.lax.scan": lambda kept: jax.lax.scan(lambda carry, x: (carry, x * kept), 0.0, X),
    "gn.scan": lambda kept: gn.scan(lambda carry, x: (carry, x * kept), 0.0, X),
    "State": lambda kept: gn.State(kept),
    "State of a dict": lambda kept: gn.State({"a": kept}),
    "replace": lambda kept: gn.State(jnp.ones(2)).replace(value=kept),
    "setter": lambda kept: setattr(gn.State(jnp.ones(())), "value", kept),
    "write in gn.jit": lambda kept: gn.jit(lambda node: setattr(node.w, "value", kept))(holder()),
    "update": lambda kept: gn.update_states(net(), {"w": kept}),
    "merge": lambda kept: gn.treefy_merge(
        gn.graphdef(holder()), jax.tree.map(lambda _: kept, gn.treefy_states(holder()))
    ),
}


@pytest.mark.parametrize("name", USES)
def test_a_captured_value_that_was_kept_is_refused(name: str):
    """It would be the value at the time of its use, without a word, or an error of XLA."""
    with pytest.raises(gn.TraceError) as caught:
        USES[name](kept_value())
    assert str(caught.value) == LEAKED


@pytest.mark.parametrize("convert", [float, int, bool, np.asarray], ids=["float", "int", "bool", "numpy"])
def test_a_captured_value_that_was_kept_is_no_number(convert: Callable[[Any], Any]):
    """The text is of the trace that is over."""
    with pytest.raises((jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)) as caught:
        convert(kept_value())
    assert f"{LEAKED}.\n" in str(caught.value)


def test_a_captured_value_is_there_where_jax_computes_at_once():
    """What is compiled keeps that of the trace, as it was asked to; also through a function that JAX knows."""
    node = net()
    inner = jax.jit(lambda x: x * node.w.value)

    def run(x: Any) -> Any:
        value = node.w.value
        with jax.ensure_compile_time_eval():
            return x * jnp.square(value) * inner(2.0)

    assert float(gn.jit(run)(1.0)) == 54.0


def test_captured_states_are_in_texts():
    """`lower` has them as inputs, and an explanation names them."""
    node = net()
    run = gn.jit(lambda x: node(x))
    assert [leaf.shape for leaf in jax.tree.leaves(run.lower(jnp.ones(2)).args_info)] == [(), (2,)]
    assert "(%arg0: tensor<f32>" in run.lower(jnp.ones(2)).as_text()
    changes: list[tuple[Callable[[], Any], str]] = [
        (lambda: setattr(node.w, "value", jnp.ones(2)), "node.w: float32[] != float32[2]"),
        (lambda: setattr(node, "factor", 4), "node.factor: 1 != 4"),
        (lambda: node.more.append(gn.State(jnp.ones(2))), "node.more.0: nothing != State"),
    ]
    run(jnp.ones(2))
    for change, text in changes:
        change()
        run(jnp.ones(2))
        assert gn.explain_retrace(run).splitlines()[1:] == [f"  {text}"]


@functools.cache
def body_of(read: Callable[[Any], Any]) -> Any:
    return lambda carry, _: (carry + read(1.0), None)


@functools.cache
def turn_of(read: Callable[[Any], Any]) -> Any:
    return lambda _, carry: carry + read(1.0)


@functools.cache
def step_of(read: Callable[[Any], Any]) -> Any:
    return lambda carry: carry + read(1.0)


@functools.cache
def is_less(read: Callable[[Any], Any]) -> Any:
    return lambda carry: carry < read(2.0)


EAGER: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "scan": lambda read: gn.scan(body_of(read), jnp.float32(0), None, length=2)[0],
    "fori_loop": lambda read: gn.fori_loop(0, 2, turn_of(read), jnp.float32(0)),
    "while_loop": lambda read: gn.while_loop(is_less(read), step_of(read), jnp.float32(0)),
    "cond": lambda read: 2 * gn.cond(True, read, read, 1.0),
    "switch": lambda read: 2 * gn.switch(1, [read, read], 1.0),
    "remat": lambda read: 2 * gn.remat(read)(1.0),
}


@pytest.mark.parametrize("name", EAGER)
def test_loops_and_branches_follow_what_they_capture(name: str):
    """Without `jit`: values, static fields, another node; a trace that is kept is used for later values."""
    node = net()

    def read(x: Any) -> Any:
        return node(x)

    def result() -> float:
        return float(EAGER[name](read))

    assert result() == 6.0
    seen = len(TRACES)
    node.w.value = jnp.float32(5)
    assert result() == 10.0
    if name != "remat":  # which is traced each time
        assert len(TRACES) == seen
    node.factor = 2
    assert result() == 20.0
    kept, node = node, net(1.0)
    assert result() == 2.0
    node.w.value = jnp.float32(4)
    assert result() == 8.0
    assert float(kept.w.value) == 5.0


def test_a_captured_node_that_a_loop_gets_later_as_its_argument_is_refused():
    """The check of the first trace holds for all calls: the loop would read the value of before beside its copy."""
    other = holder()

    def body(given: Holder, _: None) -> tuple[Holder, Any]:
        return given, given(X) + other(X)

    assert gn.scan(body, holder(), None, length=1)[1].tolist() == [12.0]
    with pytest.raises(gn.TraceError, match=r"^gn\.scan: given\.w is read from outside of the function"):
        gn.scan(body, other, None, length=1)
    assert other.w._mark is None
