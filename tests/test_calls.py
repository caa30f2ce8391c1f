"""Calls of nodes in a trace: the wrappers that see them, and the handlers that they go through."""

import copy
import functools
import inspect
import pickle
import threading
import traceback
import typing
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode import _calls, _method_wrappers
from graphnode._calls import Handler, NodeCall, calls_through
from tests.work import calls_of

X = jnp.float32(3)


class Base(gn.Node):
    weight: gn.ParamState

    def __call__(self, x: jax.Array) -> jax.Array:
        """Multiply."""
        return self.weight.value * x

    def twice(self, x: jax.Array, *, by: int = 2) -> jax.Array:
        """Call it, and multiply."""
        return by * self(x)


class Layer(Base):
    def __call__(self, x: jax.Array) -> jax.Array:
        """Multiply, and add."""
        return super().__call__(x) + 1

    def parts(self) -> Iterator[int]:
        """A generator."""
        yield 1

    def _hidden(self, x: jax.Array) -> jax.Array:
        return x

    @property
    def size(self) -> int:
        """A property."""
        return 1

    @staticmethod
    def fixed(x: jax.Array) -> jax.Array:
        """A static method."""
        return x

    @classmethod
    def made(cls) -> str:
        """A class method."""
        return cls.__name__

    @gn.jit
    def compiled(self, x: jax.Array) -> jax.Array:
        """Compiled."""
        return self.weight.value * x


class Pair(gn.Node):
    left: Layer
    right: Layer


class Adapter(gn.Node):
    inner: Layer
    via: Callable[..., Any] = gn.static()


def layer(value: float = 2) -> Layer:
    return Layer(gn.ParamState(jnp.float32(value)))


LAYER = layer()
# What a method has of its function.
TOLD = ["__code__", "__defaults__", "__kwdefaults__", "__name__", "__qualname__", "__module__", "__doc__", "__dict__"]


def cloned(value: Any) -> Any:
    """What pickle makes of it."""
    return pickle.loads(pickle.dumps(value))


def seen(run: Callable[[], object]) -> list[tuple[str, str]]:
    """The scope and method of each call that a handler sees while `run` runs."""
    found: list[tuple[str, str]] = []

    def note(call: NodeCall, proceed: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found.append((call.scope, call.method))
        return proceed(*args, **kwargs)

    with calls_through(note):
        run()
    return found


def is_wrapped(cls: type, name: str = "__call__") -> bool:
    return _method_wrappers.original_of(vars(cls)[name]) is not vars(cls)[name]


# Wrappers


def test_classes_have_wrappers_only_while_nodes_of_them_are_traced():
    """Outside of traces a call costs what it costs without: the methods are those that were written."""
    before = {cls: dict(vars(cls)) for cls in (Base, Layer)}
    inside: list[bool] = []

    def run(layer: Layer) -> Any:
        inside.extend([is_wrapped(Base), is_wrapped(Layer), is_wrapped(Base, "twice")])
        inside.append(is_wrapped(Layer, "parts") or is_wrapped(Layer, "_hidden"))
        return gn.grad(lambda layer: layer(X))(layer)["weight",].value

    gn.jit(run)(layer())
    assert inside == [True, True, True, False]
    for cls, attributes in before.items():
        assert all(vars(cls)[name] is value for name, value in attributes.items() if callable(value))
    assert not _method_wrappers._WRAPPED


def test_they_go_when_the_traced_function_fails():
    """Whatever it raises."""

    def fail(layer: Layer) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gn.jit(fail)(layer())
    assert not is_wrapped(Layer)
    assert _calls.current_arguments() is None


def test_what_somebody_puts_into_a_class_meanwhile_stays():
    """A patch that is made inside of a trace is not undone."""

    class Patched(Base):
        def __call__(self, x: jax.Array) -> jax.Array:
            return x

    def new(self: Patched, x: jax.Array) -> jax.Array:
        return -x

    def run(node: Patched) -> jax.Array:
        Patched.__call__ = new  # type: ignore[method-assign]
        return node(X)

    assert gn.jit(run)(Patched(gn.ParamState(X))) == -X
    assert vars(Patched)["__call__"] is new


def test_a_class_has_its_own_methods_in_a_trace():
    """`Layer.twice` is the function itself: a key, a static value, with attributes, and for pickle."""
    table, outside = {Layer.twice: 1}, Adapter(layer(), Layer.twice)

    def run(adapter: Adapter) -> Adapter:
        Layer.twice.__dict__.setdefault("seen", []).append(type(adapter.inner) is Layer)
        assert Layer.twice is adapter.via
        assert is_wrapped(Base, "twice")
        assert table[type(adapter.inner).twice] == 1
        assert pickle.loads(pickle.dumps(Layer.twice)) is Layer.twice
        return Adapter(adapter.inner, Layer.twice)

    try:
        made = gn.jit(run)(outside)
        assert Layer.twice.__dict__["seen"] == [True]
    finally:
        Layer.twice.__dict__.pop("seen", None)
    assert gn.treefy_split(made)[0] == gn.treefy_split(outside)[0]
    assert pickle.loads(pickle.dumps(made)).via is Layer.twice


def test_a_method_of_a_node_tells_of_the_function_in_a_trace():
    """Its code, its defaults, its signature and its source; and it equals itself."""

    def told(method: Any) -> list[object]:
        return [
            inspect.getfullargspec(method),
            inspect.signature(method),
            inspect.getsource(method),
            inspect.getfile(method),
            inspect.isfunction(method.__func__),
            typing.get_type_hints(method),
            functools.wraps(method)(lambda: None).__dict__.keys(),
            *[getattr(method, name) for name in TOLD],
        ]

    def run(layer: Layer) -> None:
        assert told(layer.twice) == outside
        assert told(layer.__call__) != outside
        assert layer.twice == layer.twice
        assert {layer.twice: 1}[layer.twice] == 1
        function = typing.cast(Any, layer.twice).__func__
        assert repr(function) == repr(Layer.twice)
        assert {Layer.twice: 1}[function] == 1
        assert function != Layer.__call__
        assert dict(inspect.getmembers(layer))["twice"] == layer.twice
        found.append(layer.twice)

    outside, found = told(LAYER.twice), list[Any]()
    gn.eval_shape(run, LAYER)
    for function in (copy.copy, copy.deepcopy, cloned):
        assert function(found[0].__func__) is Layer.twice


def test_a_function_that_looks_at_a_signature_finds_the_same_in_a_trace():
    """One that passes on what a method takes, as libraries do, would compute another number."""

    def scaled(layer: Layer, x: jax.Array, **kwargs: Any) -> jax.Array:
        known = inspect.getfullargspec(layer.twice).kwonlyargs
        by_code = layer.twice.__code__.co_varnames
        taken = {name: value for name, value in kwargs.items() if name in known and name in by_code}
        return layer.twice(x, **taken)

    eager = scaled(LAYER, X, by=5, other=1)
    assert gn.jit(lambda layer: scaled(layer, X, by=5, other=1))(LAYER) == eager


def test_what_is_put_back_after_a_trace_does_no_harm():
    """A patch that begins in a trace and ends outside of it puts a wrapper back, which the next trace takes out."""

    class Patched(Base):
        def __call__(self, x: jax.Array) -> jax.Array:
            return x

    function = vars(Patched)["__call__"]
    patch = mock.patch.object(Patched, "__call__", lambda self, x: -x)
    node = Patched(gn.ParamState(X))

    def run(node: Patched) -> jax.Array:
        patch.start()
        return node(X)

    gn.eval_shape(run, node)
    patch.stop()
    assert type(vars(Patched)["__call__"]) is _method_wrappers._Wrapper
    assert Patched.__call__ is function
    assert node(X) == X
    assert seen(lambda: gn.eval_shape(node, X)) == [("Patched", "__call__")]
    assert vars(Patched)["__call__"] is function


def test_a_method_that_is_borrowed_in_a_trace_is_the_function():
    """Also the entry of another class: under its new name it is a method of the new class."""
    made: list[Any] = []

    def run(layer: Layer) -> None:
        class Borrower(gn.Node):
            weight: gn.ParamState
            first = Base.twice
            second = vars(Base)["twice"]

            def __call__(self, x: jax.Array) -> jax.Array:
                return x

        made.append(Borrower)

    gn.eval_shape(run, LAYER)
    (borrower,) = made
    assert borrower.first is borrower.second is Base.twice
    node = borrower(gn.ParamState(X))
    assert seen(lambda: gn.eval_shape(lambda node: node.second(X), node)) == [("node", "second"), ("node", "__call__")]
    assert node.second(X) == 6


def test_a_thread_that_traces_nothing_calls_the_method_alone():
    """The class has wrappers in all threads; a call in another one has no name, and no handler."""
    results: list[Any] = []
    eager = layer()

    def run(layer: Layer) -> Any:
        thread = threading.Thread(target=lambda: results.append(eager(X)))
        thread.start()
        thread.join()
        return layer(X)

    assert seen(lambda: gn.eval_shape(run, layer())) == [("layer", "__call__")]
    assert results == [7]


def test_no_trace_leaves_anything_in_a_class():
    """However many there are: each method is the one that was written, with its code, and can be pickled."""
    before = dict(vars(Layer))
    code, table = Layer.__call__.__code__, {Layer.twice: 1}
    for _ in range(120):
        gn.eval_shape(lambda layer: layer(X), LAYER)
    assert all(vars(Layer)[name] is value for name, value in before.items())
    assert Layer.__call__.__code__ is code
    assert table[Layer.twice] == 1
    assert pickle.loads(pickle.dumps(before["__call__"])) is Layer.__call__


def test_a_class_is_changed_once_for_all_that_is_traced_inside(monkeypatch: pytest.MonkeyPatch):
    """Python gives up its cache of attributes for a class that changes too often: the outermost trace counts alone."""
    changed: list[type] = []
    put_in = _method_wrappers._put_in

    def counted(cls: type, wrapped: _method_wrappers._Wrapped) -> None:
        changed.append(cls)
        put_in(cls, wrapped)

    monkeypatch.setattr(_method_wrappers, "_put_in", counted)

    def run(pair: Pair) -> Any:
        for _ in range(3):
            gn.vmap(pair.left)(gn.jit(pair.right)(jnp.ones(2)))
        return gn.grad(lambda layer: layer(X))(pair.left)["weight",].value

    step = gn.jit(run)
    step(Pair(layer(), layer(3)))
    step(Pair(layer(), layer(3)))
    assert sorted(cls.__name__ for cls in changed) == ["Base", "Layer", "Pair"]


@pytest.mark.no_runtime_types
def test_an_error_that_the_traced_function_catches_has_no_frame_of_a_wrapper():
    """Nor has one that leaves a transform, which has no frame of graphnode at all."""
    frames: list[str] = []

    class Failing(Base):
        def __call__(self, x: jax.Array) -> jax.Array:
            raise ValueError("no")

    def run(node: Failing) -> Any:
        try:
            return node.twice(X)
        except ValueError as error:
            frames.extend(frame.name for frame in traceback.extract_tb(error.__traceback__))
            return X

    gn.jit(run)(Failing(gn.ParamState(X)))
    assert frames == ["run", "twice", "__call__"]


# What is called


def test_each_public_method_is_one_call():
    """Also one that a class inherits; what it calls by `super()` is part of it."""

    def run(node: Layer) -> None:
        node.twice(X)
        Base.__call__(node, X)
        node._hidden(X)
        node.fixed(X)
        node.made()
        list(node.parts())

    assert seen(lambda: gn.eval_shape(run, layer())) == [("node", "twice"), ("node", "__call__")]


def test_what_a_transform_is_given_is_a_call():
    """A node, a method, one that is in a partial or compiled: once, whatever the transform."""

    def run(pair: Pair) -> None:
        gn.jit(pair.left)(X)
        gn.remat(pair.right.twice)(X)
        pair.left.compiled(X)
        gn.while_loop(lambda x: x < 3, pair.right, X)
        gn.cond(X > 2, pair.left.twice, pair.right, X)
        gn.jit(functools.partial(pair.left.twice, by=3))(X)
        gn.jit(functools.partial(lambda node, x: node(x), pair.right))(X)

    assert seen(lambda: gn.eval_shape(run, Pair(layer(), layer(3)))) == [
        ("pair.left", "__call__"),
        ("pair.right", "twice"),
        ("pair.right", "__call__"),
        ("pair.left", "compiled"),
        ("pair.right", "__call__"),
        ("pair.left", "twice"),
        ("pair.left", "__call__"),
        ("pair.right", "__call__"),
        ("pair.left", "twice"),
        ("pair.left", "__call__"),
        ("pair.right", "__call__"),
    ]


def test_what_is_kept_on_a_method_is_kept_inside_of_a_trace_too():
    """A transform looks behind the wrapper: the second call finds what the first has traced."""
    count = 0

    class Counted(Base):
        def __call__(self, x: jax.Array) -> jax.Array:
            nonlocal count
            count += 1
            return x

    @gn.jit
    def run(left: Counted, right: Counted) -> jax.Array:
        return gn.jit(left)(gn.jit(right.__call__)(X))

    for make in (lambda: run, lambda: gn.jit(lambda left, right: run(left, right))):
        make()(Counted(gn.ParamState(X)), Counted(gn.ParamState(X)))
        assert count == 1


def test_a_label_is_made_for_what_is_called_alone(monkeypatch: pytest.MonkeyPatch):
    """A trace of a large model makes no path for each of its nodes."""
    made: list[int] = []
    new_label = _calls.Arguments._new_label

    def counted(self: _calls.Arguments, number: int) -> _calls.Label:
        made.append(number)
        return new_label(self, number)

    monkeypatch.setattr(_calls.Arguments, "_new_label", counted)
    layers = [layer() for _ in range(50)]
    gn.eval_shape(lambda layers: (layers[7](X), layers[7](X), layers[9](X)), layers)
    assert len(made) == 2


# Handlers


def doubling(call: NodeCall, proceed: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Double what a call gives."""
    return 2 * proceed(*args, **kwargs)


def test_a_handler_gives_what_the_call_returns():
    """It may change arguments and result; with its copies the function goes on."""
    with calls_through(doubling):
        assert gn.jit(lambda layer: layer(X))(layer()) == 14
    assert gn.jit(lambda layer: layer(X))(layer()) == 7


def test_an_outer_handler_sees_what_an_inner_one_gives():
    """Handlers compose as functions around functions do."""
    results: list[Any] = []

    def note(call: NodeCall, proceed: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = proceed(*args, **kwargs)
        results.append(result)
        return result

    def add(call: NodeCall, proceed: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return proceed(*args, **kwargs) + 1

    def value(first: Handler, second: Handler) -> Any:
        with calls_through(first), calls_through(second):
            return gn.jit(lambda layer: layer(X))(layer())

    assert value(doubling, add) == 16
    assert value(add, doubling) == 15
    value(note, add)
    assert len(results) == 1


def test_a_call_has_node_method_path_and_scope():
    """The node is the copy; the path is that of the outermost argument."""
    calls: list[NodeCall] = []

    def note(call: NodeCall, proceed: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        calls.append(call)
        return proceed(*args, **kwargs)

    def step(pairs: list[Pair]) -> Any:
        return gn.grad(lambda left: left.twice(X, by=5))(pairs[1].left)

    pair = Pair(layer(), layer(3))
    with calls_through(note):
        gn.eval_shape(step, [pair, gn.clone(pair)])
    outer, inner = calls
    assert outer[1:] == ("twice", (1, "left"), "pairs.1.left")
    assert inner[1:] == ("__call__", (1, "left"), "pairs.1.left")
    assert outer.node is inner.node
    assert isinstance(outer.node, Layer)
    assert outer.node is not pair.left


def test_what_was_compiled_before_is_traced_again_for_a_handler_and_not_kept():
    """Inside of a trace each call is seen, with its path; afterwards nothing of it is left."""
    count = 0

    @gn.jit
    def inner(layer: Layer) -> jax.Array:
        nonlocal count
        count += 1
        return layer(X)

    def run(pair: Pair) -> jax.Array:
        return inner(pair.left) + inner(pair.right)

    pair = Pair(layer(), layer(3))
    assert gn.jit(run)(pair) == 17
    assert count == 1
    for _ in range(2):
        assert seen(lambda: gn.eval_shape(run, pair)) == [("pair.left", "__call__"), ("pair.right", "__call__")]
    assert count == 5
    assert gn.jit(run)(pair) == 17
    assert inner(pair.left) == 7
    assert count == 5


def looped(function: Callable[[Layer, jax.Array], jax.Array]) -> Callable[[Layer, jax.Array], jax.Array]:
    """A loop of one round."""

    def body(carry: tuple[Layer, jax.Array], _: None) -> tuple[tuple[Layer, jax.Array], None]:
        return (carry[0], function(*carry)), None

    return lambda node, x: gn.scan(body, (node, x), length=1)[0][1]


@pytest.mark.parametrize("transform", [gn.remat, looped])
def test_what_jax_keeps_is_traced_again_too(transform: Callable[..., Any]):
    """Of a function that is called for two nodes of equal structure, each call is seen."""
    apply = transform(lambda node, x: node(x))

    @gn.jit
    def run(pair: Pair) -> Any:
        return apply(pair.left, X) + apply(pair.right, X)

    pair = Pair(layer(), layer(3))
    assert run(pair) == 17
    for _ in range(2):
        calls = seen(lambda: gn.eval_shape(run, pair))
        assert list(dict.fromkeys(calls)) == [("pair.left", "__call__"), ("pair.right", "__call__")]


def test_handlers_are_of_one_thread():
    """Another one that traces meanwhile does not meet them."""
    results: list[Any] = []
    with calls_through(doubling):
        thread = threading.Thread(target=lambda: results.append(gn.jit(lambda layer: layer(X))(layer())))
        thread.start()
        thread.join()
    assert results == [7]
    assert not _calls.has_handlers()


# What it costs


def test_a_compiled_function_runs_no_more_python():
    """The second call asks whether there are handlers, and no more."""
    step = gn.jit(lambda layer, x: layer(x))
    node = layer()
    step(node, X)
    step(node, X)
    assert calls_of(lambda: step(node, X), inside=_calls.__file__) == 0
    assert calls_of(lambda: step(node, X), inside=_method_wrappers.__file__) == 0
    assert calls_of(lambda: node(X), inside=_method_wrappers.__file__) == 0


# What is found around methods

around = layer()


class Plain:
    """An object with a method, which leads to a node."""

    def __init__(self, node: Layer) -> None:
        self.node = node

    def apply(self, x: jax.Array) -> jax.Array:
        """What the node makes of it."""
        return self.node(x)


class UsesGlobal(gn.Node):
    def __call__(self, x: jax.Array) -> jax.Array:
        """What another node makes of it."""
        return self.helped(x)

    def helped(self, x: jax.Array) -> jax.Array:
        """The same."""
        return around(x)


def test_a_transform_inside_finds_the_nodes_around_a_method(monkeypatch: pytest.MonkeyPatch):
    """It looks behind the wrapper: the next call sees the node that stands there then, and traces nothing again."""
    count = 0
    plain = Plain(layer())

    @gn.jit
    def inner(node: UsesGlobal, x: jax.Array) -> jax.Array:
        nonlocal count
        count += 1
        return node(x) + plain.apply(x)

    assert gn.jit(lambda node, x: inner(node, x))(UsesGlobal(), X) == 14
    monkeypatch.setitem(globals(), "around", layer(3))
    assert gn.jit(lambda node, x: inner(node, x))(UsesGlobal(), X) == 17
    assert count == 1


class UnnamedInside(gn.Node):
    def unnamed(self, x: jax.Array) -> jax.Array:
        """What another node makes of it; no other function of the class has its name."""
        return around(x)


def test_a_transform_inside_finds_what_is_around_a_method_that_it_is_given(monkeypatch: pytest.MonkeyPatch):
    """A bound method that was made in the trace leads to the same nodes as its function."""
    count = 0
    found: dict[str, Callable[[jax.Array], jax.Array]] = {}

    @gn.jit
    def inner(x: jax.Array) -> jax.Array:
        nonlocal count
        count += 1
        return found["method"](x)

    def run(node: UnnamedInside, x: jax.Array) -> jax.Array:
        found["method"] = node.unnamed
        return inner(x)

    node = UnnamedInside()
    assert gn.jit(lambda node, x: run(node, x))(node, X) == 7
    monkeypatch.setitem(globals(), "around", layer(3))
    assert gn.jit(lambda node, x: run(node, x))(node, X) == 10
    assert count == 1
