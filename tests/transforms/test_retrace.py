"""One trace for each function, structure, shapes and dtypes; `explain_retrace` says why there was another."""

import contextlib
import copy
import dataclasses
import functools
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import ParamState, ShortTermState, State
from graphnode._caches import TRANSFORMED
from graphnode.transforms import _boundary, _jit, _kept, _retrace


class Leaf(gn.Node):
    size: int
    weight: ParamState[Any]
    trace: ShortTermState[Any] | None = None

    def step(self, x: Any) -> None:
        TRACES.append("step")
        self.weight.value = self.weight.value + x

    def __call__(self, x: Any) -> Any:
        TRACES.append("call")
        return self.weight.value * x

    @gn.jit
    def compiled(self, x: Any) -> None:
        TRACES.append("compiled")
        self.weight.value = self.weight.value + x


class Root(gn.Node):
    leaves: list[Leaf] = gn.subnode(default_factory=list)
    note: str = ""


TRACES: list[str] = []


@pytest.fixture(autouse=True)
def no_traces():
    TRACES.clear()


def leaf(size: int = 1, trace: Any = None) -> Leaf:
    return Leaf(size, ParamState(jnp.zeros(size)), trace)


def add(node: Any, x: Any) -> None:
    TRACES.append("add")
    for state in gn.states(node).values():
        state.value = state.value + x


# One trace


@pytest.mark.parametrize("donate", [False, True])
def test_an_equal_model_is_met_by_what_is_compiled(donate: bool):
    """A model that is built again, copied or merged costs no trace; one of another structure does."""
    run = gn.jit(add, donate=donate)
    run.clear_cache()
    one = Root([leaf(), leaf()])
    run(one, 1.0)
    for other in (Root([leaf(), leaf()]), one, copy.deepcopy(one), gn.clone(copy.deepcopy(one))):
        run(other, 2.0)
    assert TRACES == ["add"]
    run(Root([leaf(), leaf()], note="other"), 1.0)
    assert TRACES == ["add", "add"]


def test_a_change_and_its_reversal_meet_what_is_compiled():
    """A structure that was there before is compiled already."""
    run = gn.jit(lambda node, x: add(node, x))
    one = Root([leaf()])
    run(one, 1.0)
    one.leaves.append(leaf())
    run(one, 1.0)
    one.leaves.pop()
    run(one, 1.0)
    assert len(TRACES) == 2


def test_wrapping_again_traces_nothing():
    """`gn.jit(f)` in a loop compiles once for each set of options."""

    def local(node: Leaf, x: Any) -> None:
        add(node, x)

    one = leaf()
    for _ in range(3):
        gn.jit(local)(one, 1.0)
    assert len(TRACES) == 1
    for _ in range(3):
        gn.jit(local, donate=True)(one, 1.0)
        gn.jit(donate=True)(local)(one, 1.0)
    assert len(TRACES) == 2
    for _ in range(3):
        gn.jit(local, static_argnames="x")(one, 1.0)
        gn.jit(local, static_argnums=(1,))(one, 1.0)
    assert len(TRACES) == 3


def test_methods_of_all_instances_share_one_trace():
    """A bound method, a callable node and a method compiled in its class are one function for all nodes."""
    one, two = leaf(), leaf()
    for node in (one, two, one):
        gn.jit(node.step)(1.0)
        gn.jit(Leaf.step)(node, 1.0)
        gn.jit(node)(1.0)
        node.compiled(1.0)
        Leaf.compiled(node, 1.0)
    assert sorted(TRACES) == ["call", "compiled", "step"]
    assert (one.weight.value, two.weight.value) == (8.0, 4.0)


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("start", [0, 0.0, np.float32(0), np.zeros(2, np.float32), jnp.zeros(2), np.zeros((), "i4")])
def test_the_first_write_to_a_state_traces_nothing(start: Any, donate: bool):
    """A State that holds a number, or an array of NumPy's or JAX's, is the same to JAX before and after a write."""

    @gn.jit(donate=donate)
    def step(state: State[Any]) -> None:
        TRACES.append("step")
        state.value = state.value + 1

    held, expected = State(start), np.asarray(start) + 3
    for _ in range(3):
        step(held)
    assert isinstance(held.value, jax.Array)
    assert TRACES == ["step"]
    np.testing.assert_array_equal(held.value, expected)


def test_a_state_that_is_read_until_it_is_written_traces_once():
    """What is compiled does not depend on what was written before."""
    run = gn.jit(lambda node, x: node(x))
    one = leaf()
    run(one, 1.0)
    one.weight.value = jnp.ones(1)
    one.step(1.0)
    run(one, 1.0)
    assert TRACES == ["call", "step"]


def test_transforms_inside_of_a_compiled_function_cost_no_trace_at_a_call():
    """A step with gn.grad in it is traced once, and differentiated functions inside it, too."""

    def loss(node: Leaf, x: Any) -> Any:
        TRACES.append("loss")
        return (node.weight.value * x).sum()

    @gn.jit
    def train(node: Leaf, x: Any) -> None:
        grads = gn.grad(loss)(node, x)
        node.weight.value = node.weight.value - grads["weight"].value

    one = leaf()
    for _ in range(3):
        train(one, 1.0)
    assert TRACES == ["loss"]


def test_a_wrapped_function_shares_nothing_with_its_wrapper():
    """What `functools.wraps` copies from a function is not used for the wrapper, before or after."""

    def plain(node: Leaf) -> None:
        node.weight.value = node.weight.value + 1.0

    gn.jit(plain)(leaf())

    @functools.wraps(plain)
    def twice(node: Leaf) -> None:
        plain(node)
        plain(node)

    one, two = leaf(), leaf()
    gn.jit(twice)(one), gn.jit(plain)(two), gn.jit(gn.jit(twice))(two)
    assert (one.weight.value, two.weight.value) == (2.0, 3.0)
    assert gn.explain_retrace(twice).endswith("plain was traced once")


def test_two_closures_of_one_code_share_nothing():
    """Functions are one by identity: closures over different values are compiled apart."""

    def make(by: float) -> Any:
        return gn.jit(lambda node: node.weight.value * by + by)

    assert [float(make(by)(leaf())[0]) for by in (1.0, 2.0)] == [1.0, 2.0]


# What is kept, and for how long


@pytest.mark.parametrize("donate", [False, True])
def test_a_function_dies_with_what_was_compiled(donate: bool):
    """A function that nobody holds is collected, with all that was made of it."""

    def local(node: Leaf) -> Any:
        node.weight.value = node.weight.value + 1.0
        return node, leaf()

    run = gn.jit(local, donate=donate)
    run(leaf()), run(leaf(2))
    refs: list[weakref.ref[Any]] = [weakref.ref(local), weakref.ref(run), weakref.ref(run._history)]
    del local, run
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]


@pytest.mark.parametrize("donate", [False, True])
def test_models_do_not_outlive_a_call(donate: bool):
    """Neither what is compiled nor a binding keeps a model, its States or arrays, and no collection is needed."""

    @gn.jit(donate=donate)
    def run(one: Leaf, two: Root, x: Any) -> Leaf:
        add([one, two], x)
        return one

    one, two = leaf(), Root([leaf()])
    run(one, two, 1.0), run(one, two, 1.0)
    refs = [weakref.ref(part) for part in (one, two, two.leaves[0], one.weight, one.weight.value)]
    gc.collect()
    gc.disable()
    try:
        del one, two
        assert [ref() for ref in refs] == [None] * len(refs)
    finally:
        gc.enable()


def test_a_compiled_method_keeps_its_node_no_longer_than_itself():
    """What jit gave for a bound method holds the node; what was compiled does not."""
    node = leaf()
    run = gn.jit(node.step)
    run(1.0)
    ref = weakref.ref(node)
    del node
    gc.collect()
    assert ref() is not None
    del run
    gc.collect()
    assert ref() is None


def test_a_method_of_a_plain_object_does_not_keep_it():
    """The object of a compiled method dies with what jit gave, whatever is compiled for others of its class."""

    class Trainer:
        def step(self, node: Leaf) -> None:
            add(node, 1.0)

    one, two = Trainer(), Trainer()
    first, second = gn.jit(one.step), gn.jit(two.step)
    first(leaf()), second(leaf())
    assert gn.explain_retrace(first).endswith("step was traced once")
    refs = [weakref.ref(one), weakref.ref(two)]
    del one, first
    gc.collect()
    assert refs[0]() is None
    assert refs[1]() is not None
    del two, second
    gc.collect()
    assert refs[1]() is None


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """A function that is called with ever new structures keeps a limited number, and still works."""
    monkeypatch.setattr(_jit._Compiled, "limit", 3)
    monkeypatch.setattr(_kept.KindCache, "limit", 4)

    def local(node: Leaf) -> None:
        node.weight.value = node.weight.value + 1.0

    run = gn.jit(local)
    for size in range(8):
        node = Leaf(size, ParamState(jnp.zeros(1)))
        run(node)
        assert node.weight.value == 1.0
        assert len(run._compiled) <= 3
        kinds = local.__dict__[TRANSFORMED].kinds
        assert max(map(len, kinds.values())) <= 4
    assert len(run._history._log[1]) == 8
    for size in range(_retrace._LIMIT):
        run._history.begin(*_arguments(size))
    assert len(run._history._log[1]) == _retrace._LIMIT


def _arguments(size: int) -> tuple[Any, Any, Any, Any]:
    call = _boundary.Call("jit", add, (leaf(size), 1.0))
    return call.site, call.values, call.other_leaves, call.held


# Explanations


EXPLAINED: dict[str, tuple[dict[str, Any], Callable[[], list[tuple[Any, ...] | dict[str, Any]]], list[str]]] = {
    "shape": ({}, lambda: [(jnp.ones(2),), (jnp.ones((2, 3)),)], ["x: float32[2] != float32[2,3]"]),
    "dtype": ({}, lambda: [(jnp.ones(2),), (jnp.ones(2, "i4"),)], ["x: float32[2] != int32[2]"]),
    "weak type": ({}, lambda: [(1.0,), (np.float32(1),)], ["x: float32[], weak_type=True != float32[]"]),
    "static field": (
        {},
        lambda: [(Root([leaf()], "a"),), (Root([leaf()], "b"),)],
        ["x.note: 'a' != 'b'"],
    ),
    "static fields deep": (
        {},
        lambda: [({"k": Root([leaf(), leaf(2)])},), ({"k": Root([leaf(3), leaf(2)])},)],
        ["x['k'].leaves.0.size: 1 != 3", "x['k'].leaves.0.weight: float32[1] != float32[3]"],
    ),
    "path appeared": (
        {},
        lambda: [(Root([leaf()]),), (Root([leaf(), leaf()]),)],
        ["x.leaves.1: nothing != Leaf"],
    ),
    "path vanished": (
        {},
        lambda: [(leaf(1, ShortTermState(1.0)),), (leaf(1),)],
        ["x.trace: ShortTermState != nothing"],
    ),
    "shape of a State": (
        {},
        lambda: [(State(jnp.ones(2)),), (State(jnp.ones(3)),)],
        ["x: float32[2] != float32[3]"],
    ),
    "pytree of a State": (
        {},
        lambda: [(State(jnp.ones(2)),), (State({"a": jnp.ones(2)}),)],
        ["x: float32[2] != PyTreeDef({'a': *}) of float32[2]"],
    ),
    "node vanished": ({}, lambda: [([leaf(), leaf()],), ([leaf()],)], ["x[1]: Leaf != nothing"]),
    "class": ({}, lambda: [(leaf(),), (Root(),)], ["x: Leaf != Root"]),
    "node or array": ({}, lambda: [(Root(),), (1.0,)], ["x appeared: float32[], weak_type=True", "x: Root != nothing"]),
    "sharing": ({}, lambda: _shared_and_not(), ["y: Leaf != the object at x"]),
    "static argument": ({"static_argnames": "y"}, lambda: [(1.0, 1), (1.0, True)], ["y: 1 != True"]),
    "static argument by name": (
        {"static_argnums": 1},
        lambda: [{"x": 1.0, "y": 1}, {"x": 1.0, "y": 1.0}],
        ["y: 1 != 1.0"],
    ),
    "argument appeared": ({}, lambda: [(1.0,), (1.0, 2)], ["y appeared: int32[], weak_type=True"]),
    "further arguments": (
        {},
        lambda: [(1.0, 2.0), (1.0, 2.0, np.float32(3))],
        ["rest[0] appeared: float32[]"],
    ),
    "key vanished": ({}, lambda: [({"a": jnp.ones(2), "b": 2},), ({"b": 2},)], ["x['a'] vanished: float32[2]"]),
    "list or tuple": (
        {},
        lambda: [([1.0],), ((1.0,),)],
        ["the pytree of arguments: PyTreeDef((([*],), {})) != PyTreeDef((((*,),), {}))"],
    ),
    "by name": (
        {},
        lambda: [(1.0,), {"x": 1.0}],
        ["the pytree of arguments: PyTreeDef(((*,), {})) != PyTreeDef(((), {'x': *}))"],
    ),
}


def _shared_and_not() -> list[tuple[Any, ...] | dict[str, Any]]:
    one = leaf()
    return [(one, leaf()), (one, one)]


@pytest.mark.parametrize("case", EXPLAINED)
def test_an_explanation_names_what_differs(case: str):
    """The place is named by argument and path, with both values, for whatever made JAX trace again."""
    options, calls, lines = EXPLAINED[case]

    def local(x: Any, y: Any = 0, *rest: Any, **named: Any) -> None:
        gn.graph_to_tree((x, y, rest, named))  # looks at all States

    run: Any = gn.jit(local, **options)
    for call in calls():
        _ = run(**call) if isinstance(call, dict) else run(*call)
    first = f"gn.jit: {local.__qualname__} was traced 2 times; the last differs from the closest before in"
    expected = "".join(f"\n  {line}" for line in lines)
    assert gn.explain_retrace(run) == first + expected
    assert gn.explain_retrace(local) == first + expected


def test_traces_are_counted_and_compared_with_the_closest():
    """Never, once, and then with the earlier trace that differs least."""

    def local(x: Any, y: Any) -> None:
        pass

    run = gn.jit(local)
    assert gn.explain_retrace(run) == f"gn.jit: {local.__qualname__} has not been traced yet"
    run(jnp.ones(2), jnp.ones(2))
    run(jnp.ones(2), jnp.ones(2))
    assert gn.explain_retrace(run).endswith("local was traced once")
    run(Root(), jnp.ones(9))
    run(jnp.ones(2), jnp.ones(3))
    assert (
        gn.explain_retrace(run)
        .splitlines()[0]
        .endswith("was traced 3 times; the last differs from the closest before in")
    )
    assert gn.explain_retrace(run).splitlines()[1:] == ["  y: float32[2] != float32[3]"]


def test_a_cause_outside_of_the_arguments_is_told_as_such():
    """Where the arguments are equal, something else made JAX trace."""
    run = gn.jit(lambda x: x @ x)
    run(jnp.ones((2, 2)))
    with jax.default_matmul_precision("highest"):
        run(jnp.ones((2, 2)))
    assert gn.explain_retrace(run).splitlines()[1:] == [
        "  nothing in the arguments: JAX's configuration, a sharding or a device is another"
    ]


def test_a_trace_that_failed_is_told_as_one():
    """What raised, how often, and that it is traced again; a trace that follows is compared with those that did not."""
    errors: list[Exception | None] = [ValueError("a"), None, ValueError("b"), TypeError("c"), None, KeyError("d")]

    def step(x: Any) -> Any:
        error = errors[traced[0]]
        traced[0] += 1
        if error is not None:
            raise error
        return x

    traced = [0]
    run = gn.jit(step)
    again = ": a trace that raises is not kept, and the next call traces again"
    texts: list[str] = []
    for size in (2, 2, 3, 3, 3, 4):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            run(jnp.ones(size))
        texts.append(gn.explain_retrace(run).removeprefix(f"gn.jit: {step.__qualname__} was traced "))
    assert texts == [
        f"once; it raised ValueError{again}",
        "2 times; the earlier traces raised ValueError",
        f"3 times; the last raised ValueError{again}",
        f"4 times; the last 2 raised TypeError and ValueError{again}",
        "5 times; the last differs from the closest before in\n  x: float32[2] != float32[3]",
        f"6 times; the last raised KeyError{again}",
    ]


class Alike:
    """Another one is another value, and prints the same."""

    def __repr__(self) -> str:
        return "Alike"


def test_static_arguments_that_print_alike_are_told_apart():
    """By what differs in them; and so are fields, and trees of arguments."""
    run = gn.jit(lambda x, by: x, static_argnames="by")
    pairs: list[tuple[Any, Any]] = [(True, np.True_), (Alike(), Alike())]
    for left, right in pairs:
        for by in (left, right):
            run(jnp.ones(1), by=by)
        (line,) = gn.explain_retrace(run).splitlines()[1:]
        name, texts = line.strip().split(": ")
        first, second = texts.split(" != ")
        assert (name, first == second) == ("by", False)
        run.clear_cache()


def test_methods_are_explained_however_they_are_named():
    """The function, the bound method, what jit gave and a method compiled in its class all tell the same."""

    class Own(gn.Node):
        weight: ParamState[Any]

        def step(self, x: Any) -> None:
            pass

        @gn.jit
        def compiled(self, x: Any) -> None:
            pass

    one = Own(ParamState(jnp.ones(1)))
    for x in (jnp.ones(1), jnp.ones(2)):
        gn.jit(one.step)(x)
        one.compiled(x)
    texts = {gn.explain_retrace(one.step), gn.explain_retrace(Own.step), gn.explain_retrace(gn.jit(one.step))}
    assert [text.splitlines()[1:] for text in texts] == [["  x: float32[1] != float32[2]"]]
    assert gn.explain_retrace(one.compiled) == gn.explain_retrace(Own.compiled)
    assert gn.explain_retrace(one.compiled).splitlines()[1:] == ["  x: float32[1] != float32[2]"]


@pytest.mark.wrong_types
def test_what_is_no_function_has_no_explanation():
    """explain_retrace takes what jit takes."""
    with pytest.raises(TypeError) as caught:
        gn.explain_retrace(3)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    assert str(caught.value) == "gn.explain_retrace takes a function, a method or a callable node; found int 3"


def test_each_trace_is_logged_where_the_environment_asks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """With GRAPHNODE_LOG=retrace each trace logs what explain_retrace says; without it none does."""
    monkeypatch.setattr(_retrace._LOGGER, "level", logging.WARNING)
    run = gn.jit(lambda x: None)
    run([leaf(), leaf()])
    assert caplog.messages == []
    monkeypatch.setenv("GRAPHNODE_LOG", "other,retrace")
    run([leaf()])
    first = gn.explain_retrace(run)
    run([leaf()])
    run(1.0)
    assert caplog.messages == [first, gn.explain_retrace(run)]
    assert first.splitlines()[1:] == ["  x[1]: Leaf != nothing"]
    assert _retrace._LOGGER.handlers == []  # others see to it already


# Threads and the run-time checker of annotations do not go together; see `tests/test_bindings.py`.
@pytest.mark.no_runtime_types
def test_two_threads_trace_at_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """A trace that is noted while another thread's is being described is explained by what was noted before it."""
    monkeypatch.setenv("GRAPHNODE_LOG", "retrace")
    run = gn.jit(lambda x: None)
    describing, noted = threading.Event(), threading.Event()
    describe = _retrace._record_of

    def describe_slowly(*args: Any) -> _retrace.TraceRecord:
        if threading.current_thread() is other:
            describing.set()
            assert noted.wait(60)
        return describe(*args)

    monkeypatch.setattr(_retrace, "_record_of", describe_slowly)
    other = threading.Thread(target=run, args=(1.0,))
    other.start()
    assert describing.wait(60)
    run(2)
    assert caplog.messages == [gn.explain_retrace(run)]
    noted.set()
    other.join()
    change = "x: int32[], weak_type=True != float32[], weak_type=True"
    assert [message.partition("traced ")[2] for message in caplog.messages] == [
        "once",
        f"2 times; the last differs from the closest before in\n  {change}",
    ]


def test_an_argument_that_is_given_by_name_is_the_difference():
    """Of two earlier traces, the one that differs in nothing but the form of the call is the closest."""
    run = gn.jit(lambda x: None)
    for call in (lambda: run(1.0), lambda: run(jnp.float32(1)), lambda: run(x=1.0)):
        call()
    (line,) = gn.explain_retrace(run).splitlines()[1:]
    assert line.startswith("  the pytree of arguments: PyTreeDef(((*,), {})) != PyTreeDef(((), {'x': *}))")


@dataclasses.dataclass
class Scaled:
    """A callable that may change, and is not hashable, as `jax.jit` would need it."""

    by: float

    def __call__(self, node: Leaf, *_: Any) -> Any:
        return (self.by * node.weight.value).sum()


@dataclasses.dataclass(frozen=True)
class Frozen:
    by: float

    def __call__(self, node: Leaf) -> Any:
        return (self.by * node.weight.value).sum()


KEPT: dict[str, Callable[[Any, Leaf], Any]] = {
    "jit": lambda function, node: gn.jit(function)(node),
    "remat": lambda function, node: gn.remat(function)(node),
    "cond": lambda function, node: gn.cond(True, lambda node: 0.0, function, node),
    "scan": lambda function, node: gn.scan(function, node, jnp.arange(2)),
    "eval_shape": lambda function, node: gn.eval_shape(function, node),
}


@pytest.mark.parametrize("name", KEPT)
def test_an_object_that_may_change_is_not_traced_for_later_calls(name: str):
    """Where a trace is kept, a callable that is not hashable is refused; what traces each time sees its fields."""
    function = Scaled(2.0)
    with pytest.raises(TypeError) as caught:
        KEPT[name](function, leaf())
    assert str(caught.value) == (
        "a Scaled is called by a transformed function, and is not hashable (unhashable type: 'Scaled'): it may "
        "change, and what was traced of it would stay. Make it a frozen dataclass of hashable values, or a node; or "
        "pass what changes as an argument"
    )


def test_an_object_that_may_change_is_differentiated_as_it_is():
    """What runs its function at every call takes one that is not hashable; a frozen one is taken everywhere."""
    function, node = Scaled(2.0), leaf()
    slopes: list[float] = []
    for by in (2.0, 3.0):
        function.by = by
        slopes.append(float(gn.grad(function)(node)["weight"].value.sum()))
    assert slopes[1] == 1.5 * slopes[0]
    assert gn.jit(Frozen(3.0))(node) == function(node)
