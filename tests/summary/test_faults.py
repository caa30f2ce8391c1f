"""Shapes that do not fit: every fault of a model at once, and no more than is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int, jaxtyped

import graphnode as gn
from graphnode import nn
from tests.summary.models import Chain, Scale, abstract, chain


def faults_of(model: Any, *inputs: Any, **named: Any) -> list[str]:
    with pytest.raises(gn.SummaryError) as caught:
        gn.summary(model, *inputs, **named)
    return [str(fault) for fault in caught.value.faults]


def test_all_faults_are_told_at_once():
    """What a layer that fails would have given is put in the place of its result."""
    model = Chain([Scale(2, 3), Scale(4, 5), Scale(5, 6), Scale(7, 8)])
    with pytest.raises(gn.SummaryError) as caught:
        gn.summary(model, "batch 2")
    text = "TypeError: dot_general requires contracting dimensions to have the same shape, got"
    assert str(caught.value) == f"layers.1: {text} (3,) and (4,).\nlayers.3: {text} (6,) and (7,)."
    assert [fault.path for fault in caught.value.faults] == ["layers.1", "layers.3"]
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, TypeError)


def test_layers_say_what_they_would_have_given():
    """Those of `gn.nn` without annotations, too: by what they give for an input that fits."""

    def make() -> nn.Sequential:
        return nn.Sequential([nn.Linear(2, 3), nn.Linear(4, 5), nn.BatchNorm(7), nn.Linear(7, 2), nn.Linear(3, 1)])

    model = gn.eval_shape(make)
    assert [fault.partition(":")[0] for fault in faults_of(model, "batch 2")] == ["layers.1", "layers.2", "layers.4"]


def test_a_consequence_is_not_a_fault():
    """A residual connection fails where the layer in it does; it is not blamed, and neither is what is tried in it."""

    class Residual(gn.Node):
        layer: Scale
        last: Scale
        width: int = 7

        def __call__(self, x: Float[Array, "batch size"]) -> Float[Array, "batch 6"]:
            return self.last(self.layer(x) + x)

    assert [fault.partition(":")[0] for fault in faults_of(Residual(Scale(4, 5), Scale(5, 6)), "1 3")] == ["layer"]


def test_the_search_ends_where_it_is_not_known_what_a_node_gives():
    """And the last fault says so."""

    class Opaque(gn.Node):
        weight: gn.ParamState

        def __call__(self, x: jax.Array) -> jax.Array:
            return x @ self.weight.value

    class Net(gn.Node):
        first: Scale
        opaque: Opaque
        last: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.last(self.opaque(self.first(x)))

    model = Net(Scale(3, 4), Opaque(gn.ParamState(jnp.ones((5, 6)))), Scale(7, 8))
    text = "TypeError: dot_general requires contracting dimensions to have the same shape, got"
    assert faults_of(model, "2 2") == [
        f"first: {text} (2,) and (3,).",
        f"opaque: {text} (4,) and (5,).; what is called after it was not checked",
    ]


def test_an_annotation_says_what_a_node_would_have_given():
    """Where no input that fits can be made of its static fields."""

    class Sum(gn.Node):
        weight: gn.ParamState[Float[Array, "5 6"]]

        def __call__(self, x: Float[Array, "*batch time size"]) -> Float[Array, "*batch 6"]:
            return (x @ self.weight.value).sum(-2)

    class Net(gn.Node):
        sum: Sum
        last: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.last(self.sum(x))

    model = Net(Sum(gn.ParamState(jnp.ones((5, 6)))), Scale(7, 8))
    text = "TypeError: dot_general requires contracting dimensions to have the same shape, got"
    assert faults_of(model, "rows 2 4") == [f"sum: {text} (4,) and (5,).", f"last: {text} (6,) and (7,)."]


def test_a_dtype_of_several_is_not_known():
    """The result may have that of the input, or that of a State."""

    class Cast(gn.Node):
        weight: gn.ParamState

        def __call__(self, x: Float[Array, "batch size"]) -> Float[Array, "batch 6"]:
            return x @ self.weight.value

    class Net(gn.Node):
        cast: Cast
        last: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.last(self.cast(x))

    model = Net(Cast(gn.ParamState(jnp.ones((5, 6), jnp.bfloat16))), Scale(7, 8))
    (fault,) = faults_of(model, "3 4")
    assert fault.startswith("cast: TypePromotionError: Input dtypes")


@pytest.mark.parametrize(
    ("annotation", "is_known"),
    [
        (Float[Array, "batch 6"], True),
        (Float[Array, "... 6"], False),
        (Float[Array, "other 6"], False),
        (Float[Array, "_ 6"], False),
        (Int[Array, "batch 6"], False),
        (jax.Array, False),
    ],
)
def test_what_an_annotation_leaves_open_is_not_known(annotation: Any, is_known: bool):
    """Sizes that no input binds, and a dtype that no input and no State has."""

    class First(gn.Node):
        weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.ones((5, 6))))

        def __call__(self, x: Float[Array, "batch size"]) -> Any:
            return x @ self.weight.value

    First.__call__.__annotations__["return"] = annotation

    class Net(gn.Node):
        first: First
        last: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.last(self.first(x))

    paths = [fault.partition(":")[0] for fault in faults_of(Net(First(), Scale(7, 8)), "3 4")]
    assert paths == (["first", "last"] if is_known else ["first"])


def test_sizes_of_fields_that_give_different_results_are_not_known():
    """Which of them the input was meant to have is open."""

    class Either(gn.Node):
        first: int
        second: int

        def __call__(self, x: jax.Array) -> jax.Array:
            if x.shape[-1] not in {self.first, self.second}:
                raise ValueError("another size")
            return x

    class Net(gn.Node):
        either: Either
        last: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.last(self.either(x))

    stopped = "either: ValueError: another size; what is called after it was not checked"
    assert faults_of(Net(Either(5, 6), Scale(7, 8)), "4") == [stopped]
    known, last = faults_of(Net(Either(5, 5), Scale(7, 8)), "4")
    assert known == "either: ValueError: another size"
    assert last.startswith("last: TypeError: dot_general")


def test_names_that_two_inputs_bind_differently_are_not_known():
    """One of the two must be wrong."""

    class Add(gn.Node):
        def __call__(self, x: Float[Array, "rows"], y: Float[Array, "rows"]) -> Float[Array, "rows"]:
            return x + y

    class Net(gn.Node):
        add: Add
        last: Scale

        def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
            return self.last(self.add(x, y))

    (fault,) = faults_of(Net(Add(), Scale(7, 8)), "3", "4")
    assert fault.startswith("add: TypeError: add got incompatible shapes")
    assert fault.endswith("; what is called after it was not checked")


def test_a_node_that_needs_a_symbolic_size_is_named():
    """With the size, and what would do; a fault that numbers have, too, is not one of the symbol."""

    class Even(gn.Node):
        def __call__(self, x: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
            if x.shape[0] < 4:
                return x
            return -x

    class Net(gn.Node):
        even: Even
        last: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.last(self.even(x))

    first, second = faults_of(Net(Even(), Scale(3, 4)), "batch 2")
    assert first == (
        "even: InconclusiveDimensionOperation: Symbolic dimension comparison 'batch' < '4' is inconclusive.; "
        "batch can be any size here, and the node needs its value: give a number"
    )
    assert second.startswith("last: TypeError: dot_general")
    assert "any size" not in second
    assert gn.summary(Net(Even(), Scale(2, 4)), "3 2").flops == 48


def test_an_error_that_is_not_of_shapes_goes_on_as_it_is():
    """With its traceback."""

    class Broken(gn.Node):
        def __call__(self, x: Any) -> Any:
            return x.no_such_attribute

    with pytest.raises(AttributeError, match="no_such_attribute"):
        gn.summary(Broken(), "2")


def test_a_symbol_with_the_name_of_a_size_that_a_node_knows_is_to_be_a_number():
    """The model has no field of that name, and its parts have one."""
    stack = nn.TransformerStack([nn.TransformerBlock(8, 2)])
    text = 'blocks.0.attention_norm (LayerNorm): x: expected width = 8 of Float[Array, "... width"]'
    assert faults_of(stack, ...) == [
        f"blocks.0.attention_norm: TransformerStack.{text}, found shape (batch, time, width); "
        "width can be any size here: give its number in the input"
    ]
    assert gn.summary(stack, "batch time 8").symbols == ("batch", "time")


@pytest.mark.parametrize("needs_value", [bool, np.asarray, lambda x: range(3)[x]])
def test_an_error_of_code_that_needs_a_value_goes_on_as_it_is(needs_value: Callable[[Any], Any]):
    """It is a TypeError, and no fault of shapes; a note says why there is no value."""

    class Deciding(gn.Node):
        scale: Scale

        def __call__(self, x: Array) -> Array:
            needs_value(self.scale(x).sum().astype("int32"))
            return x

    with pytest.raises(TypeError) as caught:
        gn.summary(Deciding(Scale(2, 3)), "4 2")
    assert type(caught.value).__module__ == "jax.errors"
    assert caught.value.__notes__[-1] == "gn.summary traces the call with shapes, as gn.jit does: no array has a value"
    assert any(entry.name == "__call__" and entry.path == Path(__file__) for entry in caught.traceback)


def test_code_that_needs_a_value_ends_the_search_for_faults():
    """A fault of shapes before it is told, with what was not checked."""

    class Deciding(gn.Node):
        def __call__(self, x: Array) -> Array:
            return -x if x.sum() > 0 else x

    class Net(gn.Node):
        first: Scale
        second: Deciding

        def __call__(self, x: Array) -> Array:
            return self.second(self.first(x))

    (fault,) = faults_of(Net(Scale(3, 4), Deciding()), "2 2")
    assert fault.startswith("first: TypeError: dot_general")
    assert fault.endswith("; what is called after it was not checked")


def test_an_error_that_the_model_handles_is_no_fault():
    """It is tried what the model does by itself, first."""

    class Careful(gn.Node):
        layer: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            try:
                return self.layer(x)
            except TypeError:
                return x

    assert gn.summary(Careful(Scale(2, 3)), "5").rows[0].calls == ()


@pytest.mark.no_runtime_types
def test_faults_of_run_time_checks_are_faults():
    """Those of jaxtyping, in one line."""

    class Checked(gn.Node):
        size: int

        @jaxtyped(typechecker=gn.typechecker)
        def __call__(self, x: Float[Array, "batch size"]) -> Float[Array, "batch size"]:
            return x

    pytest.importorskip("beartype")
    (fault,) = faults_of(Checked(3), "2 4")
    assert fault.startswith("Checked: TypeCheckError: Type-check error whilst checking the parameters of ")
    assert "\n" not in fault


def test_faults_in_loops_and_branches_are_found():
    """A node in a body that is traced several times has each fault once."""

    class Loop(gn.Node):
        stack: Scale
        last: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            x, _ = gn.scan(lambda x, layer: (layer(x), None), x, self.stack)
            return self.last(x)

    model = Loop(gn.stack([Scale(3, 3) for _ in range(2)]), Scale(4, 5))
    paths = [fault.partition(":")[0] for fault in faults_of(model, "7 2")]
    assert paths[0] == "stack"
    assert len(paths) == len(set(paths))


def test_abstract_models_have_faults_too():
    """As live ones do."""
    assert faults_of(abstract(2, 3), "1 5") == faults_of(chain(2, 3), "1 5")
