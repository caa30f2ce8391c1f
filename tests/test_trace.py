"""Traced values stay in their trace: a leak is a TraceError where it happens, in any nesting of transformations."""

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import ParamState, ShortTermState, State, state

Function: TypeAlias = Callable[[jax.Array], jax.Array]

X = jnp.ones(2)


def under_jit(f: Function) -> Function:
    return lambda x: jax.jit(f)(x)


def under_grad(f: Function) -> Function:
    return lambda x: jax.grad(lambda y: f(y).sum())(x)


def under_vmap(f: Function) -> Function:
    return lambda x: jax.vmap(lambda y: f(y))(jnp.stack([x, x]))[0]


def under_scan(f: Function) -> Function:
    return lambda x: jax.lax.scan(lambda carry, y: (f(y), None), x, jnp.stack([x, x]))[0]


def under_remat(f: Function) -> Function:
    return lambda x: jax.checkpoint(f)(x)


def under_cond(f: Function) -> Function:
    return lambda x: jax.lax.cond(x.sum() > 0, f, f, x)


def under_loop(f: Function) -> Function:
    return lambda x: jax.lax.fori_loop(0, 2, lambda i, carry: f(carry), x)


def under_jvp(f: Function) -> Function:
    return lambda x: jax.jvp(f, (x,), (x,))[0]


TRANSFORMS = {"jit": under_jit, "grad": under_grad, "vmap": under_vmap, "scan": under_scan}
OTHERS = {"remat": under_remat, "cond": under_cond, "loop": under_loop, "jvp": under_jvp}
ONES = [(name,) for name in (*TRANSFORMS, *OTHERS)]
PAIRS = list(itertools.product(TRANSFORMS, repeat=2))
TRIPLES = [
    ("jit", "grad", "vmap"),
    ("vmap", "grad", "scan"),
    ("scan", "vmap", "grad"),
    ("grad", "jit", "scan"),
    ("jit", "scan", "vmap"),
]

every_nesting = pytest.mark.parametrize("names", [*ONES, *PAIRS, *TRIPLES], ids="-".join)
every_pair = pytest.mark.parametrize("names", [*PAIRS, *TRIPLES], ids="-".join)


def nest(names: tuple[str, ...], f: Function) -> Function:
    """`f` under these transformations, the first outermost."""
    for name in reversed(names):
        f = {**TRANSFORMS, **OTHERS}[name](f)
    return f


def check_leak(error: pytest.ExceptionInfo[gn.TraceError], held: str) -> None:
    text = str(error.value)
    assert text.startswith(f"{held} was made outside of the running JAX transformation: writing a tracer float32[2] ")
    assert text.endswith(
        "into it would leak the tracer. Pass its node to the function as an argument, under gn.jit, gn.grad and so on; "
        "or split the node outside, merge it inside of the transformed function, and return treefy_states of the "
        "merged node"
    )


def check_kept(error: pytest.ExceptionInfo[gn.TraceError], held: str) -> None:
    text = str(error.value)
    assert text.startswith(
        f"{held} holds a tracer float32[2] of a JAX transformation that has ended: it was made there"
    )
    assert text.endswith("Return its value (or treefy_states of its node) from the transformed function instead")


@every_nesting
def test_a_traced_write_into_an_outer_state_is_refused(names: tuple[str, ...]):
    """A State from outside of all transformations refuses a tracer, and keeps its value."""
    outer = ParamState(X)

    def leak(x: jax.Array) -> jax.Array:
        outer.value = x * 2
        return x

    with pytest.raises(gn.TraceError) as caught:
        nest(names, leak)(X)
    check_leak(caught, "ParamState")
    assert outer.value is X


@every_pair
def test_a_traced_write_into_a_state_of_an_outer_trace_is_refused(names: tuple[str, ...]):
    """A State made under the outer transformation refuses the tracers of the inner one."""
    outer, *inner = names

    def between(x: jax.Array) -> jax.Array:
        held = ShortTermState(x)

        def leak(y: jax.Array) -> jax.Array:
            held.value = y * 2
            return y

        return nest(tuple(inner), leak)(x)

    with pytest.raises(gn.TraceError) as caught:
        nest((outer,), between)(X)
    check_leak(caught, "ShortTermState")


@every_nesting
def test_a_state_kept_after_its_trace_is_reported_at_first_use(names: tuple[str, ...]):
    """Reading a State that was made in a trace and kept says so, every time; a concrete value cures it."""
    kept: list[State] = []

    def keep(x: jax.Array) -> jax.Array:
        kept.append(State(x * 2))
        return kept[-1].value

    nest(names, keep)(X)
    assert kept
    for held in kept:
        for _ in range(2):
            with pytest.raises(gn.TraceError) as caught:
                held.value
            check_kept(caught, "State")
        held.value = X
        assert held.value is X


@every_nesting
def test_writes_inside_of_a_trace_work(names: tuple[str, ...]):
    """A State made in the innermost trace is read and written there, and the result is that of plain JAX."""

    def triple(x: jax.Array) -> jax.Array:
        held = State(x)
        held.value = held.value * 2
        held.value += x
        return held.value

    assert nest(names, triple)(X).tolist() == nest(names, lambda x: x * 3)(X).tolist()


@every_pair
def test_a_state_of_an_outer_trace_is_read_and_then_written(names: tuple[str, ...]):
    """An inner trace may read a State of the outer one, which may write it again when the inner one is done."""
    outer, *inner = names

    def between(x: jax.Array) -> jax.Array:
        held = State(x)
        y = nest(tuple(inner), lambda y: y * held.value)(x)
        held.value = held.value + y
        return held.value

    def plain(x: jax.Array) -> jax.Array:
        return x + nest(tuple(inner), lambda y: y * x)(x)

    assert nest((outer,), between)(X).tolist() == nest((outer,), plain)(X).tolist()


@every_pair
def test_a_state_kept_from_an_inner_trace_is_reported_in_the_outer_one(names: tuple[str, ...]):
    """A State that outlives the inner trace alone is reported in the outer one already."""
    outer, *inner = names
    seen: list[str] = []

    def between(x: jax.Array) -> jax.Array:
        kept: list[State] = []

        def keep(y: jax.Array) -> jax.Array:
            kept.append(State(y * 2))
            return y

        y = nest(tuple(inner), keep)(x)
        with pytest.raises(gn.TraceError) as caught:
            kept[0].value
        check_kept(caught, "State")
        seen.append("reported")
        return y

    nest((outer,), between)(X)
    assert seen


def test_nothing_leaks_by_jaxs_own_check():
    """JAX's leak checker finds nothing in a trace that makes, writes and drops States."""

    def double(x: jax.Array) -> jax.Array:
        held = State({"x": x})
        held.value = {"x": held.value["x"] * 2}
        return held.value["x"]

    with jax.checking_leaks():
        assert jax.jit(jax.vmap(double))(jnp.ones((2, 2))).tolist() == [[2.0, 2.0], [2.0, 2.0]]


@pytest.mark.parametrize("wrap", [lambda x: {"a": [X, x]}, lambda x: (x, 1), lambda x: [None, (x,)]])
def test_a_tracer_anywhere_in_a_value_is_found(wrap: Callable[[Any], Any]):
    """A pytree with one tracer in it is refused and reported as the tracer itself."""
    outer: State[Any] = State(X)
    kept: list[State[Any]] = []

    def leak(x: jax.Array) -> jax.Array:
        kept.append(State(wrap(x)))
        outer.value = wrap(x)
        return x

    with pytest.raises(gn.TraceError) as caught:
        jax.jit(leak)(X)
    check_leak(caught, "State")
    with pytest.raises(gn.TraceError) as caught:
        kept[0].value
    check_kept(caught, "State")


@pytest.mark.parametrize("value", [jnp.ones(2), np.ones(2, np.float32), 3, None, {"a": 1.0}], ids=str)
def test_a_concrete_value_is_refused_from_inside_a_trace(value: Any):
    """What holds no tracer cannot leak, but would be written while the function is traced alone."""
    outer: State[Any] = State(X)

    def write(x: jax.Array) -> jax.Array:
        outer.value = value
        return x

    with pytest.raises(gn.TraceError) as caught:
        jax.jit(write)(X)
    assert str(caught.value) == (
        "State was made outside of the running JAX transformation: a write to it would happen once, while the function "
        "is traced, and never when it runs. Pass its node to the function as an argument, under gn.jit, gn.grad and so "
        "on; or split the node outside, merge it inside of the transformed function, and return treefy_states of the "
        "merged node"
    )
    assert outer.value is X


def test_a_concrete_value_is_written_to_a_state_of_the_trace():
    """A State that was made in the running trace takes what holds no tracer."""

    def write(x: jax.Array) -> jax.Array:
        inner = State(x)
        inner.value = jnp.ones(2)
        return inner.value

    assert jax.jit(write)(X).tolist() == [1.0, 1.0]


def test_a_state_with_a_concrete_value_outlives_its_trace():
    """A State made in a trace that holds no tracer is used afterwards as any other."""
    kept: list[State[Any]] = []

    def keep(x: jax.Array) -> jax.Array:
        kept.append(State(np.ones(2, np.float32)))
        return x

    jax.jit(keep)(X)
    assert kept[0].value.tolist() == [1.0, 1.0]
    kept[0].value = X
    assert kept[0].value is X


USES: dict[str, Callable[[Any], Any]] = {
    "split": gn.treefy_states,
    "clone": gn.clone,
    "jit": gn.jit(lambda kept: kept.value),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_state_that_nobody_has_asked_for_its_trace_outlives_it(use: Callable[[Any], Any]):
    """That the trace is gone by then is not an error."""
    kept: list[State] = []

    def keep(x: Any) -> Any:
        kept.append(State(jnp.ones(2)))
        return x

    jax.grad(keep)(3.0)
    assert jax.tree.leaves(use(kept[0])) != []


def test_a_state_of_a_finished_trace_belongs_to_no_later_one():
    """A State kept from one trace refuses the tracers of the next."""
    kept: list[State[Any]] = []

    def keep(x: jax.Array) -> jax.Array:
        if not kept:
            kept.append(State(np.ones(2, np.float32)))
        kept[0].value = x
        return x

    jax.jit(keep)(X)
    with pytest.raises(gn.TraceError) as caught:
        jax.jit(lambda x: keep(x))(X)
    check_leak(caught, "State")


def test_the_error_names_a_named_state():
    """A State's own name is in the message."""
    outer = ParamState(X, name="scale")

    def leak(x: jax.Array) -> jax.Array:
        outer.value = x
        return x

    with pytest.raises(gn.TraceError) as caught:
        jax.jit(leak)(X)
    check_leak(caught, "ParamState 'scale'")


class Net(gn.Node):
    layers: list["Layer"]


class Layer(gn.Node):
    w: ParamState


def test_an_update_names_the_path_and_writes_nothing():
    """`update_states` of an outer node with tracers names the State's path; no State is written."""
    net = Net([Layer(ParamState(X)), Layer(ParamState(X))])

    def leak(x: jax.Array) -> jax.Array:
        gn.update_states(net, {"layers": {1: {"w": x * 2}}})
        return x

    with pytest.raises(gn.TraceError) as caught:
        jax.jit(leak)(X)
    check_leak(caught, "layers.1.w (ParamState)")
    assert all(layer.w.value is X for layer in net.layers)


@pytest.mark.parametrize(
    "use", [gn.treefy_split, gn.treefy_states, gn.clone], ids=["treefy_split", "treefy_states", "clone"]
)
def test_an_operation_names_the_path_of_a_kept_state(use: Any):
    """A node that was made in a trace and kept is reported with the path of its first State, at its first use."""
    kept: list[Net] = []

    def keep(x: jax.Array) -> jax.Array:
        kept.append(Net([Layer(ParamState(np.ones(2, np.float32))), Layer(ParamState(x * 2))]))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
        return x

    jax.jit(keep)(X)
    with pytest.raises(gn.TraceError) as caught:
        use(kept[0])
    check_kept(caught, "layers.1.w (ParamState)")


def test_split_and_merge_carry_a_node_through_a_trace():
    """The remedy of the message: split outside, merge inside, return the States."""
    net = Net([Layer(ParamState(X)), Layer(ParamState(X))])

    @jax.jit
    def double(graphdef: gn.GraphDef[Net], states: Any) -> Any:
        merged = gn.treefy_merge(graphdef, states)
        for layer in merged.layers:
            layer.w.value = layer.w.value * 2
        return gn.treefy_states(merged)

    gn.update_states(net, double(*gn.treefy_split(net)))
    assert [layer.w.value.tolist() for layer in net.layers] == [[2.0, 2.0], [2.0, 2.0]]


def test_copies_of_a_kept_state_are_refused():
    """A State that holds a dead tracer is neither pickled nor copied on."""
    kept: list[State] = []

    def keep(x: jax.Array) -> jax.Array:
        kept.append(State(x * 2))
        return x

    jax.jit(keep)(X)
    for use in (copy.copy, copy.deepcopy, pickle.dumps, lambda held: held.replace(tag="a")):
        with pytest.raises(gn.TraceError) as caught:
            use(kept[0])
        check_kept(caught, "State")
    assert repr(kept[0]) == "State(f32[2])"


def test_replace_and_copy_inside_a_trace_belong_to_it():
    """A State made from an outer one inside of a trace takes its tracers."""
    outer = ParamState(X, tag="a")

    def f(x: jax.Array) -> jax.Array:
        made = outer.replace(value=x)
        made.value = made.value * 2
        copied = copy.deepcopy(outer)
        copied.value = x * 3
        return made.value + copied.value

    assert jax.jit(f)(X).tolist() == [5.0, 5.0]
    assert outer.value is X


def test_a_node_built_inside_a_trace_is_used_there():
    """Construction, initialisers and methods work in a trace with a random scope of its own."""

    class Scale(gn.Node):
        w: ParamState = state(jax.nn.initializers.ones, shape=lambda self: (2,))

        def __call__(self, x: jax.Array) -> jax.Array:
            self.w.value = self.w.value + x
            return self.w.value * x

    def f(x: jax.Array) -> jax.Array:
        with gn.random.scope(0):
            return Scale()(x)

    assert jax.jit(jax.grad(lambda x: f(x).sum()))(X).tolist() == [3.0, 3.0]


def test_an_evaluation_of_shapes_leaks_nothing():
    """`jax.eval_shape` is a trace as any other."""
    outer = ParamState(X)

    def leak(x: jax.Array) -> jax.Array:
        outer.value = x
        return x

    with pytest.raises(gn.TraceError):
        jax.eval_shape(leak, X)
    assert outer.value is X


def test_eager_work_after_a_failed_trace_is_clean():
    """A trace that ended in an error leaves nothing behind: States are made, read and written as before."""

    def fail(x: jax.Array) -> jax.Array:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        jax.jit(jax.vmap(fail))(jnp.ones((2, 2)))
    held = State(X)
    held.value = held.value * 2
    assert held.value.tolist() == [2.0, 2.0]


CHANGES: dict[str, Callable[[Net], object]] = {
    "Net.layers": lambda net: net.layers.append(Layer(ParamState(X))),
    "Net.layers ": lambda net: net.layers.pop(),
    "Net.layers  ": lambda net: net.layers.sort(key=id),
    "Net.layers   ": lambda net: setattr(net, "layers", []),
    "Layer.w": lambda net: setattr(net.layers[0], "w", ParamState(X)),
    "Layer.w ": lambda net: delattr(net.layers[0], "w"),
    "Layer.w  ": lambda net: gn.pop_states(net, ...),
}


@pytest.mark.parametrize("where", CHANGES)
def test_the_structure_of_a_node_from_outside_does_not_change_in_a_trace(where: str):
    """A node that is part of a known structure and was made outside of a trace is refused a change of it inside."""
    net = Net([Layer(ParamState(X)), Layer(ParamState(X))])
    before = gn.graphdef(net)

    def change(x: jax.Array) -> jax.Array:
        CHANGES[where](net)
        return x

    with pytest.raises(gn.TraceError) as caught:
        jax.jit(change)(X)
    assert str(caught.value) == (
        f"{where.strip()} belongs to a node from outside of the running JAX transformation, whose structure must not "
        "change inside: the change would stay after the trace. Change it outside, or return a new node"
    )
    assert gn.graphdef(net) is before


def test_the_structure_of_a_node_of_the_trace_may_change():
    """What was merged or built inside a trace is its own."""
    net = Net([Layer(ParamState(X)), Layer(ParamState(X))])
    graphdef, tree = gn.treefy_split(net)

    @jax.jit
    def change(tree: gn.StateTree) -> gn.StateTree:
        inner = gn.treefy_merge(graphdef, tree)
        inner.layers.pop()
        inner.layers.append(Layer(ParamState(X * 2)))
        return gn.treefy_states(inner)

    assert change(tree)["layers", 1, "w"].value.tolist() == (X * 2).tolist()
