"""Functions and methods that hold nodes or States are no static values: their weights would become constants."""

import enum
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode._static import _captured, static_key


class Layer(gn.Node):
    weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.ones(2)))

    def go(self, x: Any) -> Any:
        return x * self.weight.value

    @classmethod
    def zeros(cls) -> "Layer":
        return cls(gn.ParamState(jnp.zeros(2)))


class Holder(gn.Node):
    act: Any = gn.static()


def apply(layer: Any, x: Any) -> Any:
    return layer.go(x)


def closure(layer: Any) -> Callable[[Any], Any]:
    return lambda x: apply(layer, x)


def default(layer: Any) -> Callable[[Any], Any]:
    def act(x: Any, y: int = 0, layer: Any = layer) -> Any:
        return apply(layer, x)

    return act


def keyword_default(layer: Any) -> Callable[[Any], Any]:
    def act(x: Any, *, layer: Any = layer) -> Any:
        return apply(layer, x)

    return act


class Runner:
    def __init__(self, layer: Any) -> None:
        self.layer = layer

    @property
    def run(self) -> Any:
        layer = self.layer
        return types.MethodType(lambda self, x: apply(layer, x), object())


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "method": (
        lambda layer: layer.go,
        "a method of a Layer (Layer.go) cannot be static: declare a field state() or subnode() for the Layer, and call "
        "its method",
    ),
    "partial of a method": (
        lambda layer: functools.partial(layer.go, jnp.ones(2)),
        "a method of a Layer (Layer.go) cannot be static: declare a field state() or subnode() for the Layer, and call "
        "its method",
    ),
    "method of a State": (
        lambda layer: (layer.weight.replace,),
        "a method of a ParamState (ParamState.replace) cannot be static: declare a field state() or subnode() for the "
        "ParamState, and call its method",
    ),
    "partial": (
        lambda layer: functools.partial(apply, layer),
        "a Layer cannot be static: declare the field state() or subnode()",
    ),
}
HELD = "whose values would become constants; declare a field state() or subnode() for it, and pass it to the function"
CAPTURED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "closure": (closure, "the function closure.<locals>.<lambda> cannot be static: its layer holds a Layer"),
    "default": (default, "the function default.<locals>.act cannot be static: its layer holds a Layer"),
    "keyword default": (
        keyword_default,
        "the function keyword_default.<locals>.act cannot be static: its layer holds a Layer",
    ),
    "State in a closure": (
        lambda layer: closure(layer.weight),
        "the function closure.<locals>.<lambda> cannot be static: its layer holds a ParamState",
    ),
    "containers in a closure": (
        lambda layer: closure([{"a": (layer,)}]),
        "the function closure.<locals>.<lambda> cannot be static: its layer holds a Layer",
    ),
    "method in a closure": (
        lambda layer: closure(layer.go),
        "the function closure.<locals>.<lambda> cannot be static: its layer holds a Layer",
    ),
    "partial in a closure": (
        lambda layer: closure(functools.partial(apply, x=layer)),
        "the function closure.<locals>.<lambda> cannot be static: its layer holds a Layer",
    ),
    "function in a closure": (
        lambda layer: closure(default(layer)),
        "the function closure.<locals>.<lambda> cannot be static: its layer holds a Layer",
    ),
    "method whose function holds one": (
        lambda layer: Runner(layer).run,
        "the function Runner.run.<locals>.<lambda> cannot be static: its layer holds a Layer",
    ),
    "compiled method": (
        lambda layer: jax.jit(layer.go),
        "a PjitFunction cannot be static: its __wrapped__ holds a Layer",
    ),
    "compiled function": (
        lambda layer: gn.jit(closure(layer)),
        "a Jitted cannot be static: its __wrapped__ holds a Layer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_method_of_a_node_is_refused_as_the_node_is(name: str):
    """Where it is assigned, by the name of the field."""
    make, text = REFUSED[name]
    with pytest.raises(gn.FieldError) as caught:
        Holder(make(Layer()))
    assert str(caught.value) == f"Holder.act: {text}"


@pytest.mark.parametrize("name", CAPTURED)
def test_function_that_holds_a_node_is_refused(name: str):
    """Whichever variable holds it, and however deep."""
    make, text = CAPTURED[name]
    with pytest.raises(gn.FieldError) as caught:
        Holder(make(Layer()))
    assert str(caught.value) == f"Holder.act: {text}, {HELD}"


def test_static_argument_that_holds_a_node_is_refused():
    """As in a field: the weights would be constants of the compiled function."""
    run = gn.jit(lambda x, act: act(x), static_argnames="act")
    with pytest.raises(gn.FieldError) as caught:
        run(jnp.ones(2), act=closure(Layer()))
    assert str(caught.value).startswith(
        "the static argument act: the function closure.<locals>.<lambda> cannot be static: its layer holds a Layer, "
    )


def recursive() -> Callable[[int], int]:
    def count(n: int) -> int:
        return n and count(n - 1)

    return count


@pytest.mark.parametrize(
    "act",
    [
        apply,
        closure(jnp.ones(2)),
        closure(Layer),
        default(None),
        recursive(),
        Layer.zeros,
        Runner(1).run,
        jax.jit(closure(3)),
        jax.nn.relu,
        jax.nn.gelu,
        jax.nn.initializers.normal(),
        len,
    ],
)
def test_other_functions_are_static(act: Any):
    """With arrays, classes and themselves around them; class methods; compiled ones."""
    node = Holder(act)
    assert node.act == act
    assert gn.graphdef(node) is gn.graphdef(Holder(act))


def test_variable_that_is_set_later_is_looked_at_then():
    """A function that was defined before its node is not taken for one without."""

    def act(x: Any) -> Any:
        return apply(layer, x)

    assert static_key(act) is act
    layer = Layer()
    with pytest.raises(gn.FieldError):
        Holder(act)


def test_function_is_looked_into_once(monkeypatch: pytest.MonkeyPatch):
    """What is asked at each visit of a node is a look-up; it keeps no function alive."""
    act = closure(1)
    static_key(act)
    monkeypatch.setattr(_captured, "_check_function", lambda function: pytest.fail("again"))
    assert static_key(act) is act
    at = id(act)
    assert at in _captured._CHECKED
    del act
    assert at not in _captured._CHECKED


def test_no_member_of_an_enum_stands_for_a_node():
    """Its values would be constants, too; a function that holds none is fine."""

    class Mode(enum.Enum):
        LAYER = Layer.zeros()
        CLOSURE = (closure(Layer.zeros()),)
        ACT = (abs,)
        ONE = 1

    for name in ("LAYER", "CLOSURE"):
        with pytest.raises(gn.FieldError) as caught:
            Holder(Mode[name])
        assert str(caught.value) == (
            f"Holder.act: the member Mode.{name} cannot be static: its value holds a Layer, whose values would become "
            "constants; declare a field state() or subnode() for it, and keep only its name in the enum"
        )
    assert [Holder(mode).act for mode in (Mode.ACT, Mode.ONE)] == [Mode.ACT, Mode.ONE]
