"""What a summary calls a model with: arrays, shapes, texts, annotations, nodes, flags."""

import enum
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int, Key, Shaped

import graphnode as gn
from graphnode import nn
from tests.summary.models import Scale, coder


class Asked(gn.Node):
    """Says what it is called with: its outputs are its inputs."""

    size: int
    shape: tuple[int, ...] = (2, 3)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return inputs, named


class Annotated(gn.Node):
    size: int
    shape: tuple[int, ...] = (2, 3)

    def __call__(
        self,
        x: Float[Array, "... size"],
        t: Int[Array, "batch 2*size"],
        key: Key[Array, ""],
        *,
        image: Shaped[Array, "_ *shape channels"],
        scale: "Float[Array, '*any']",
        flag: bool = False,
    ) -> None:
        del x, t, key, image, scale, flag


def inputs_of(summary: gn.Summary) -> str:
    """The inputs of the model itself."""
    (call,) = summary.to_dict()["rows"][0]["calls"]
    return str(call["inputs"])


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("2 3", "f32[2,3]"),
        ("2,3", "f32[2,3]"),
        ("batch 28 28 1", "f32[batch,28,28,1]"),
        ("f32[]", "f32[]"),
        ("int32[batch,128]", "i32[batch,128]"),
        ("bf16[batch 128]", "bf16[batch,128]"),
        ("u8[4]", "u8[4]"),
        ("bool[]", "bool[]"),
        ("batch 2*batch", "f32[batch,2*batch]"),
        ("batch size", "f32[batch,7]"),
        ("batch 2*size *shape", "f32[batch,14,2,3]"),
        ("... 3", "f32[batch,3]"),
        ("key[4]", "key<fry>[4]"),
    ],
)
def test_a_text_is_a_shape(text: str, shape: str):
    """As JAX or jaxtyping write it; names are sizes of the node, or symbolic."""
    assert inputs_of(gn.summary(Asked(7), text)) == shape


RESERVED = "cannot name a symbolic size, as it is an operation on sizes in JAX; choose another name, or give a number"
NEITHER = "is neither a number, a name, nor + - * // ** of these"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("2 3.5", f"'2 3.5' is not a shape: '3.5' {NEITHER}"),
        ("b>=2 4", f"'b>=2 4' is not a shape: 'b>=2' {NEITHER}"),
        ("b=3 4", f"'b=3 4' is not a shape: 'b=3' {NEITHER}"),
        ("#b 4", f"'#b 4' is not a shape: '#b' {NEITHER}"),
        ("_b 4", f"'_b 4' is not a shape: '_b' {NEITHER}"),
        ("True 4", f"'True 4' is not a shape: 'True' {NEITHER}"),
        ("1" * 200 + "! 4", f"'{'1' * 200}! 4' is not a shape: '{'1' * 200}!' {NEITHER}"),
        ("f32[2", "'f32[2' is not a shape"),
        ("2 b-", "'2 b-' is not a shape"),
        ("... *shape", "'... *shape' is not a shape"),
        ("*b 4", "'*b 4' is not a shape: the node has no field 'b' with the sizes of '*b'"),
        ("f32[*b,4]", "'f32[*b,4]' is not a shape: the node has no field 'b' with the sizes of '*b'"),
        ("foo[2]", "'foo' is not a dtype"),
    ],
)
def test_a_text_that_is_no_shape_is_refused(text: str, fault: str):
    """With examples of what would do."""
    with pytest.raises(gn.SummaryError) as caught:
        gn.summary(Asked(7), text)
    assert str(caught.value) == f'inputs: {fault}; write "batch 28 28 1" or "int32[batch,128]"'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        *[(f"{name} 4", f"'{name}' {RESERVED}") for name in ("max", "min", "mod", "floordiv")],
        ("max-pool 4", f"'max' {RESERVED}"),
        ("2**b 4", "axis '2**b' cannot be worked out where b can be any size: give a number"),
        ("b//0 4", "axis 'b//0' cannot be worked out: integer division or modulo by zero"),
        ("b-2 4", "axis 'b-2' cannot be worked out where b can be any size: give a number"),
        ("b-c 4", "axis 'b-c' cannot be worked out where b, c can be any size: give a number"),
        ("0-b 4", "axis '0-b' cannot be worked out where b can be any size: give a number"),
        ("2-3 4", "axis '2-3' is negative: -1"),
        ("size-9 4", "axis 'size-9' is negative: -2"),
    ],
)
def test_a_size_that_cannot_be_symbolic_is_refused(text: str, fault: str):
    """JAX has names of its own for operations on sizes, and not all operations."""
    with pytest.raises(gn.SummaryError) as caught:
        gn.summary(Asked(7), text)
    assert str(caught.value) == f"inputs: {fault}"


def test_an_axis_of_an_annotation_that_cannot_be_symbolic_is_refused():
    """As one of a text is."""

    class Pooled(gn.Node):
        def __call__(self, x: Float[Array, "max"]) -> None: ...

    with pytest.raises(gn.SummaryError) as caught:
        gn.summary(Pooled(), ...)
    assert str(caught.value) == f"x: 'max' {RESERVED}"


class Mode(enum.Enum):
    MEAN = "mean"


class Of:
    """A class that says nothing of arrays."""


Name = typing.NewType("Name", str)
Rows = typing.NewType("Rows", Array)
TextT = typing.TypeVar("TextT", bound=str)
RowsT = typing.TypeVar("RowsT", bound=Array)
AnythingT = typing.TypeVar("AnythingT")

TEXT = "batch mean"
SHAPE = "f32[batch,mean]"


@pytest.mark.parametrize(
    ("annotation", "read"),
    [
        (str, repr(TEXT)),
        ("str", repr(TEXT)),
        (str | None, repr(TEXT)),
        (Literal["mean", "sum"], repr(TEXT)),
        (Mode, repr(TEXT)),
        (typing.Annotated[str, "a mode"], repr(TEXT)),
        (dict[str, str], repr(TEXT)),
        (bool, repr(TEXT)),
        (Callable[[Array], Array], repr(TEXT)),
        (type[Of], repr(TEXT)),
        (Name, repr(TEXT)),
        (TextT, repr(TEXT)),
        (typing.AnyStr, repr(TEXT)),
        (typing.LiteralString, repr(TEXT)),
        (Rows, SHAPE),
        (RowsT, SHAPE),
        (AnythingT, None),
        (Array, SHAPE),
        ("Array | None", SHAPE),
        (jax.typing.ArrayLike, SHAPE),
        (np.ndarray, SHAPE),
        (np.typing.NDArray[np.float32], SHAPE),
        (Float[Array, "a b"], SHAPE),
        (dict[str, Array], SHAPE),
        (tuple[Array, ...] | int, SHAPE),
        (Array | str, None),
        (Array | Literal["mean"], None),
        (list, None),
        (Mapping[str, Any], None),
        (object, None),
        (Of, None),
        ("Unknown", None),
        (inspect.Parameter.empty, None),
    ],
)
def test_a_text_is_what_the_annotation_of_its_parameter_says(annotation: Any, read: str | None):
    """A value where no array is expected, a shape where there are arrays; else neither, and no summary."""

    class Mixed(gn.Node):
        def __call__(self, x): ...

    if annotation is not inspect.Parameter.empty:
        Mixed.__call__.__annotations__["x"] = annotation
    if read is not None:
        assert inputs_of(gn.summary(Mixed(), TEXT)) == read
        assert inputs_of(gn.summary(Mixed(), x={"a": [TEXT]})) == f"x={{'a': [{read}]}}"
        return
    with pytest.raises(gn.SummaryError) as caught:
        gn.summary(Mixed(), TEXT)
    assert str(caught.value) == (
        "x: 'batch mean' may be a shape or a value, and no annotation says which; annotate the parameter as an array "
        'or as str; or write "float32[batch mean]" for a shape, or bind a value with functools.partial'
    )
    assert inputs_of(gn.summary(Mixed(), f"f32[{TEXT}]")) == SHAPE
    assert inputs_of(gn.summary(Mixed(), "batch 2")) == "f32[batch,2]"
    for mode in ("top-5", "utf-8", "l2"):
        with pytest.raises(gn.SummaryError, match="may be a shape or a value"):
            gn.summary(Mixed(), mode)


def test_the_annotation_of_any_number_of_arguments_is_that_of_each():
    """By position, and by name."""

    class Many(gn.Node):
        def __call__(self, *inputs: Array, **modes: str) -> None: ...

    assert inputs_of(gn.summary(Many(), "a", "a b", mode="2 mean")) == "f32[a], f32[a,b], mode='2 mean'"


def test_an_inherited_method_means_the_names_of_its_own_module():
    """Its annotations may be strings."""

    class Parent(gn.Node):
        size: int

        def __call__(self, x: "Float[Array, 'rows size']", mode: "str") -> None: ...

    class Child(Parent): ...

    Child.__module__ = "builtins"
    assert inputs_of(gn.summary(Child(2), ..., mode="mean")) == "f32[rows,2], mode='mean'"


def test_all_faults_of_inputs_are_told_at_once():
    """By parameter."""
    with pytest.raises(gn.SummaryError) as caught:
        gn.summary(coder(), "2 3.5", scale="f33[2]")
    assert [fault.path for fault in caught.value.faults] == ["tokens", "scale"]


def test_arrays_and_shapes_are_inputs():
    """Of NumPy, too; a key is one of its own dtype."""
    inputs = jnp.ones(2), jax.ShapeDtypeStruct((3,), "int32"), np.ones((4,), "float32"), jax.random.key(0)
    assert inputs_of(gn.summary(Asked(7), *inputs)) == "f32[2], i32[3], f32[4], key<fry>[]"


def test_the_arguments_of_a_partial_are_taken_as_they_are():
    """Of a node, a method, one that is transformed, or another partial; an array is its shape, a text no shape."""
    model = Asked(7)
    text = "f32[2], mode='4 mean'"
    assert inputs_of(gn.summary(functools.partial(model, mode="4 mean"), "2")) == text
    inner = functools.partial(model.__call__, jnp.ones(2), mode="x")
    assert inputs_of(gn.summary(functools.partial(inner, mode="4 mean"))) == text
    assert inputs_of(gn.summary(functools.partial(inner), mode="4")) == "f32[2], mode=f32[4]"
    scale = Scale(2, 3)
    assert gn.summary(functools.partial(gn.jit(scale)), "4 2").flops == 48
    with pytest.raises(TypeError) as caught:
        gn.summary(functools.partial(len), "2")
    assert str(caught.value).startswith("gn.summary takes a node that can be called, or a method of one")


def test_inputs_may_be_pytrees():
    """Of whatever is an input."""
    assert inputs_of(gn.summary(Asked(7), {"a": ["2 3", jnp.ones(1)], "b": None})) == (
        "{'a': [f32[2,3], f32[1]], 'b': None}"
    )


def test_flags_and_functions_are_taken_as_they_are():
    """The method can decide by them: they are no tracers. What is `None` by name is left out of the text."""
    model = coder()
    called = {
        flag: [row.path for row in gn.summary(model, "2 3", "2 3 1", flag=flag).rows if row.calls]
        for flag in (False, True)
    }
    assert called == {False: [("embed",), ("head",)], True: [("embed",), ("head",)]}
    assert inputs_of(gn.summary(model, "2 3", "2 3 1", flag=True)) == "i32[2,3], f32[2,3,1], flag=True"
    assert inputs_of(gn.summary(Asked(7), None, mask=None, act=len)) == "None, act=<built-in function len>"


def test_nodes_are_inputs_and_are_not_rows():
    """What is done in them counts for the node that calls them; they do not change."""

    class Noisy(gn.Node):
        layer: Scale
        dropout: nn.Dropout

        def __call__(self, x: jax.Array, *, rngs: gn.Rngs) -> jax.Array:
            return self.dropout(self.layer(x), rngs=rngs)

    class Calling(gn.Node):
        def __call__(self, layer: Scale, x: jax.Array) -> jax.Array:
            return layer(x)

    calling = gn.summary(Calling(), Scale(2, 3), "4 2")
    assert (calling.flops, calling.rows) == (48, [])
    rngs = gn.Rngs(0)
    before = gn.treefy_split(rngs)[1].to_dict()
    summary = gn.summary(Noisy(Scale(2, 3), nn.Dropout(0.5)), "4 2", rngs=rngs)
    assert [row.path for row in summary.rows] == [("layer",), ("dropout",)]
    assert inputs_of(summary) == "f32[4,2], rngs=Rngs"
    assert str(gn.treefy_split(rngs)[1].to_dict()) == str(before)


def test_what_the_model_shares_with_an_input_stays_shared():
    """A node of the model that is an input, too, is the node of the model."""

    class Outer(gn.Node):
        inner: Scale

        def __call__(self, other: Scale, x: jax.Array) -> jax.Array:
            assert other is self.inner
            return other(x)

    model = Outer(Scale(2, 2))
    assert [row.flops for row in gn.summary(model, model.inner, "3 2").rows] == [24]


def test_inputs_follow_from_annotations():
    """A last `...` is the inputs that are needed: names are sizes of the node, or symbolic; a run of axes is one."""
    model = Annotated(5)
    assert inputs_of(gn.summary(model, ...)) == (
        "f32[batch,5], i32[batch,10], key<fry>[], image=f32[any1,2,3,channels], scale=f32[any]"
    )
    assert gn.summary(model, ...).symbols == ("batch", "any1", "channels", "any")
    some = gn.summary(model, "7 5", ..., image="1 2 3 4")
    assert inputs_of(some) == "f32[7,5], i32[batch,10], key<fry>[], image=f32[1,2,3,4], scale=f32[any]"
    one = gn.summary(model, "7 5", "7 10", jax.random.key(0), image=..., scale="3")
    assert inputs_of(one) == "f32[7,5], i32[7,10], key<fry>[], image=f32[any0,2,3,channels], scale=f32[3]"


def test_a_text_without_a_dtype_has_that_of_the_annotation():
    """Tokens are integers without saying so."""
    assert inputs_of(gn.summary(coder(), "2 3", "2 3 1")) == "i32[2,3], f32[2,3,1]"


def test_inputs_that_no_annotation_describes_are_named():
    """All of them."""

    class Plain(gn.Node):
        def __call__(self, x: jax.Array, y: int) -> None: ...

    with pytest.raises(gn.SummaryError) as caught:
        gn.summary(Plain(), ...)
    text = "no annotation with a jaxtyping array says its shape; give an array, or its shape as a text"
    assert str(caught.value) == f"x: {text}\ny: {text}"


def test_a_static_field_that_is_no_size_is_named():
    """As a fault of the input."""

    class Half(gn.Node):
        size: float

        def __call__(self, x: Float[Array, "size"]) -> None: ...

    with pytest.raises(gn.SummaryError) as caught:
        gn.summary(Half(0.5), ...)
    assert str(caught.value) == "x: axis 'size' takes an integer, its static field holds 0.5"


def test_inputs_that_the_method_does_not_take_are_a_type_error():
    """With its name."""
    with pytest.raises(TypeError) as caught:
        gn.summary(coder(), "2 3")
    assert str(caught.value) == "gn.summary: Coder.__call__: missing a required argument: 'scale'"
    with pytest.raises(TypeError) as caught:
        gn.summary(coder().encode, "2 3", "4")
    assert str(caught.value) == "gn.summary: Coder.encode: too many positional arguments"


def test_a_method_that_takes_nothing_is_called():
    """A bound method says that it is to be called."""

    class OfOnes(gn.Node):
        def make(self) -> jax.Array:
            return jnp.ones(3)

    (call,) = gn.summary(OfOnes().make).to_dict()["rows"][0]["calls"]
    assert call == {"method": "make", "inputs": "", "outputs": "f32[3]"}


def test_inputs_keep_their_layout_over_an_explicit_mesh():
    """There it is part of the type; States keep theirs, too."""

    class Moved(gn.Node):
        weight: gn.ParamState

        def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return x, self.weight.value

    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))
    array = jax.device_put(jnp.ones((2, 3)), jax.NamedSharding(mesh, jax.P("rows")))
    (call,) = gn.summary(Moved(gn.ParamState(array)), array).to_dict()["rows"][0]["calls"]
    assert (call["inputs"], call["outputs"]) == ("f32[2@rows,3]", "(f32[2@rows,3], f32[2@rows,3])")


def test_sizes_of_jax_may_be_symbolic():
    """Those that the caller has made are kept, and named."""
    (rows,) = jax.export.symbolic_shape("rows")
    summary = gn.summary(Scale(2, 3), jax.ShapeDtypeStruct((rows, 2), "float32"))
    assert (summary.flops, summary.symbols) == ("12*rows", ("rows",))
