"""The names that files may use: who has one, and which class a tag means."""

import functools
import typing
from collections.abc import Callable

import jax
import pytest

import graphnode as gn
from graphnode._registered import VALUES
from graphnode.config import _registry, register
from graphnode.config._registry import Tags, value_of


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers goes with it."""
    monkeypatch.setattr(_registry, "VALUES", dict(VALUES))
    monkeypatch.setattr(_registry, "_TAGS", dict(_registry._TAGS))


def define(module: str, name: str) -> Callable[[int], int]:
    """A function as a module would define it."""

    def made(x: int) -> int:
        return x

    made.__module__, made.__qualname__ = module, name
    return made


def test_a_name_is_given_once():
    """Another value under it is refused; the same one is not, and so is the same definition run again."""
    first, again, other = define("m", "f"), define("m", "f"), define("m", "g")
    assert register("test.once", first) is first
    register("test.once", first)
    register("test.once", again)
    with pytest.raises(ValueError, match=r"^the name 'test.once' is taken by <function "):
        register("test.once", other)


def test_two_lambdas_are_two_values():
    """Though they have one name in their module."""
    one, other = define("m", "<lambda>"), define("m", "<lambda>")
    register("test.lambda", one)
    with pytest.raises(ValueError, match=r"^the name 'test.lambda' is taken by "):
        register("test.lambda", other)


@pytest.mark.parametrize("name", ["", "a b", "1a", "a:b", "a/b", "ä!"])
def test_what_is_no_name_is_refused(name: str):
    """Letters, digits, `_`, `-` and dots."""
    with pytest.raises(ValueError) as caught:
        register(name, 1)
    assert str(caught.value) == f"{name!r} is not a name: write letters, digits, _, - and dots"


def test_a_decorator_registers():
    """And gives the function back."""
    function = define("m", "decorated")
    assert register("test.decorated")(function) is function


def test_classes_of_one_name_are_told_apart():
    """By their modules; a registered name says it too."""
    made = [type("Twin", (gn.nn.Module,), {"__module__": f"twins_{at}"}) for at in ("a", "b")]
    tags = Tags((gn.nn.Module,))
    assert {tag for tag, cls in tags.by_tag.items() if cls in made} == {"twins_a.Twin", "twins_b.Twin"}
    with pytest.raises(ValueError, match=r"several classes are named 'Twin': write one of twins_a.Twin, twins_b.Twin"):
        tags.find("Twin")
    register("test.Twin", made[0])
    assert Tags((gn.nn.Module,)).find("test.Twin") is made[0]


def test_jax_activations_have_their_names():
    """They are the same objects, so that two models with one compile once."""
    assert [value_of(name) for name in ("relu", "gelu")] == [jax.nn.relu, jax.nn.gelu]


def test_the_two_forms_of_gelu_have_two_names():
    """The approximation is that of JAX itself; the exact one is known by its name, wherever it was made."""
    assert value_of("gelu") is value_of("gelu_tanh") is jax.nn.gelu
    assert value_of("gelu_exact")(1.0) == jax.nn.gelu(1.0, approximate=False)
    made = gn.nn.Activation(functools.partial(jax.nn.gelu, approximate=False))
    assert gn.config.dump(gn.config.to_config(made)) == "type: Activation\nfunction: gelu_exact"


def test_jax_initialisers_have_their_names():
    """One object for each name, though JAX makes a new function at every call."""
    assert value_of("he_normal") is gn.nn.initializers.he_normal
    assert value_of("zeros") is jax.nn.initializers.zeros


def test_an_initialiser_is_no_activation():
    """A function must take as many arguments as its field's type says; what is known lists those that do."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.validate(
            {"in_size": 1, "hidden_size": 2, "out_size": 1, "act": "he_normal", "w_init": "relu"}, gn.nn.MLP
        )
    assert caught.value.faults == (
        "act: 'he_normal' is not a function of 1 argument: register one with gn.config.register(name, value)",
        "w_init: 'relu' is not a function of 3 arguments: register one with gn.config.register(name, value)",
    )
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.validate({"in_size": 1, "out_size": 1, "w_init": "qqq"}, gn.nn.Linear)
    assert str(caught.value).startswith(
        "w_init: nothing is registered as 'qqq'; known are delta_orthogonal, glorot_normal, "
    )


class AnyFunction(gn.Node):
    """Annotated with a `Callable` that says nothing, of either module."""

    f: typing.Callable = gn.static(default=jax.nn.relu)  # type: ignore[type-arg]
    g: Callable = gn.static(default=jax.nn.relu)  # type: ignore[type-arg]


def test_a_callable_without_parameters_is_any_function():
    """It is read, written and described as one with parameters is."""
    config = gn.config.loads("{f: tanh, g: lecun_normal}", AnyFunction)
    assert (config.f, config.g) == (VALUES["tanh"], VALUES["lecun_normal"])
    assert gn.config.loads(gn.config.dump(config), AnyFunction) == config
    assert "tanh" in gn.config.json_schema(AnyFunction)["$defs"]["function"]["enum"]
