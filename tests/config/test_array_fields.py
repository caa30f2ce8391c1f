"""Arrays of static fields: nested lists of a file are read as the annotation and the default say."""

import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Complex, Float, Float16, Int, Num, Shaped
from jsonschema import Draft202012Validator

import graphnode as gn


class Arrays(gn.Node):
    """A field for each kind of annotation and default."""

    free: Float[Array, "c"] | None = gn.static(default=None)
    half: Float[Array, "c"] = gn.static(default_factory=lambda: jnp.ones(2, jnp.bfloat16))
    three: Float[Array, "3"] = gn.static(default_factory=lambda: jnp.ones(3))
    numpy: Float[np.ndarray, "c"] = gn.static(default_factory=lambda: np.ones(2, np.float32))
    wide: Float[np.ndarray, "..."] = gn.static(default_factory=lambda: np.ones(2))
    short: Float16[Array, ""] = gn.static(default_factory=lambda: jnp.float16(1))
    whole: Int[Array, "c"] = gn.static(default_factory=lambda: jnp.ones(2, int))
    table: Int[Array, "a 2"] = gn.static(default_factory=lambda: jnp.ones((1, 2), int))
    square: Num[Array, "a a"] = gn.static(default_factory=lambda: jnp.ones((2, 2)))
    mask: Bool[Array, "c"] = gn.static(default_factory=lambda: jnp.ones(2, bool))
    turned: Complex[Array, "c"] = gn.static(default_factory=lambda: jnp.ones(2, complex))
    any: Shaped[Array, "c"] = gn.static(default_factory=lambda: jnp.ones(2, bool))
    plain: jax.Array = gn.static(default_factory=lambda: jnp.ones(2))
    byte: jax.Array = gn.static(default_factory=lambda: jnp.ones(2, jnp.uint8))


class Unset(gn.Node):
    """Without defaults."""

    free: Float[Array, "c"] = gn.static()
    numpy: Float[np.ndarray, "c"] = gn.static()
    number: Num[Array, "c"] = gn.static()
    plain: jax.Array = gn.static()


@pytest.mark.parametrize(
    ("name", "given", "dtype"),
    [
        ("free", [1, 2], "float32"),
        ("free", [], "float32"),
        ("half", [1, 2.5], "bfloat16"),
        ("half", {"data": [1], "dtype": "float32"}, "float32"),
        ("three", {"data": [1, 2, 3]}, "float32"),
        ("numpy", [1], "float32"),
        ("wide", [[1]], "float64"),
        ("short", 3, "float16"),
        ("whole", [], "int32"),
        ("table", [[1, 2]], "int32"),
        ("square", [[1]], "float32"),
        ("mask", [True], "bool"),
        ("turned", [1, "2j"], "complex64"),
        ("any", [1, 2], "int32"),
        ("any", [True], "bool"),
        ("plain", [1, 2], "float32"),
        ("plain", {"dtype": "bool", "data": [True]}, "bool"),
        ("byte", [1, 2], "uint8"),
        ("byte", {"dtype": "float32", "data": [1.5]}, "float32"),
    ],
)
def test_numbers_are_read_as_the_field_means_them(name: str, given: object, dtype: str):
    """In the dtype of the default where the numbers and the annotation allow it, else in one that these say."""
    value = vars(gn.config.validate({name: given}, Arrays))[name]
    assert isinstance(value, jax.Array) is (name not in ("numpy", "wide"))
    assert value.dtype == dtype


def test_numbers_are_read_as_the_annotation_says_without_a_default():
    """In JAX's or NumPy's default dtype of the kind, where the numbers are of another."""
    config: Any = gn.config.loads("{free: [1], numpy: [1], number: [1], plain: [1]}", Unset)
    assert [str(value.dtype) for value in vars(config).values()] == ["float32", "float64", "int32", "int32"]


WRONG = [
    ("free", [True], 'expected dtype Float of Float[Array, "c"], found bool'),
    ("free", 1, 'expected rank 1 of Float[Array, "c"], found shape ()'),
    ("half", {"data": [1], "dtype": "int32"}, 'expected dtype Float of Float[Array, "c"], found int32'),
    ("three", [1, 2], 'expected 3 of Float[Array, "3"], found shape (2,)'),
    ("short", [1], 'expected rank 0 of Float16[Array, ""], found shape (1,)'),
    ("whole", [1.5], 'expected dtype Int of Int[Array, "c"], found float32'),
    ("table", [], 'expected rank 2 of Int[Array, "a 2"], found shape (0,)'),
    ("table", [[1, 2, 3]], 'expected 2 of Int[Array, "a 2"], found shape (1, 3)'),
    ("square", [[1, 2]], 'expected a = 1 of Num[Array, "a a"], found shape (1, 2)'),
    ("mask", [1], 'expected dtype Bool of Bool[Array, "c"], found int32'),
    (
        "byte",
        [1.5],
        "the default has uint8, and these numbers would be float32; write {dtype: float32, data: ...} if that is meant",
    ),
    (
        "plain",
        [True],
        "the default has float32, and these numbers would be bool; write {dtype: bool, data: ...} if that is meant",
    ),
    ("byte", [300], "no array: Python integer 300 out of bounds for uint8"),
]


@pytest.mark.parametrize(("name", "given", "message"), WRONG)
def test_what_does_not_fit_the_annotation_is_told(name: str, given: object, message: str):
    """Another kind of numbers, another number of axes, another size."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.validate({name: given}, Arrays)
    assert str(caught.value) == f"{name}: {message}"


@pytest.mark.parametrize("style", ["editor", "strict"])
def test_the_schema_says_what_lists_an_array_field_takes(style: Any):
    """Their depth, sizes and kind of number; what a `dtype` beside them does, and that sizes are equal, it cannot."""
    validator = Draft202012Validator(gn.config.json_schema(Arrays, style=style))
    right = {"three": [1, 2, 3], "table": [[1, 2]], "short": 1.5, "wide": [[1]], "turned": [1, "2j"], "mask": [True]}
    with_dtype = {"half": {"data": [1], "dtype": "float32"}, "free": None}
    assert [error.message for error in validator.iter_errors({**right, **with_dtype})] == []
    beyond = [("half", WRONG[2][1]), ("square", [[1, 2]]), ("byte", [1.5]), ("plain", [True]), ("byte", [300])]
    accepted = [(name, given) for name, given, _ in WRONG if validator.is_valid({name: given})]
    assert accepted == beyond


def test_an_override_keeps_the_dtype_of_an_array():
    """Whole numbers for an array of floats made one of integers, with which the model computes otherwise."""
    config: Any = gn.config.override(gn.config.loads("", Arrays), ["three=[1, 2, 3]", "plain=[1, 2]"])
    assert [config.three.dtype, config.plain.dtype] == ["float32", "float32"]


def test_arrays_come_back_from_a_file():
    """Each in its dtype."""
    config = gn.config.loads("{half: [1], wide: [[2]], turned: ['1j'], short: 2}", Arrays)
    assert gn.config.loads(gn.config.dump(config), Arrays) == config


@dataclasses.dataclass(frozen=True)
class Masked:
    mask: np.ndarray[Any, Any]


class Kept(gn.Node):
    """Arrays of NumPy, alone and in other values."""

    scale: np.ndarray[Any, Any] = gn.static(default_factory=lambda: np.ones(2))
    rows: tuple[np.ndarray[Any, Any], ...] = gn.static(default=())
    masked: Masked | None = gn.static(default=None)
    data: Any = gn.static(default=None)


def test_a_config_keeps_arrays_as_a_node_does():
    """What the caller writes to an array of theirs is not in the config, and nobody writes to that of the config."""
    own = np.ones(2)
    kept: Any = gn.config.config_of(Kept)
    config, default, assigned = kept(scale=own, rows=[own], data=(own, (own,))), kept(), kept()
    assigned.scale = own
    own[0] = 7
    for array in (config.scale, *config.rows, config.data[0], config.data[1][0], default.scale, assigned.scale):
        assert array.tolist() == [1.0, 1.0]
        with pytest.raises(ValueError, match="read-only"):
            array[1] = 5
    with pytest.raises(ValueError, match=r"Masked.mask holds a NumPy array that may still be written to; copy it and"):
        kept(masked=Masked(own))


def test_arrays_of_files_are_read_only():
    """In records too, which can then be built."""
    text = "{scale: [1, 2], rows: [[1, 2]], masked: {mask: [1, 2]}, data: [{type: ndarray, value: [1, 2]}]}"
    config: Any = gn.config.loads(text, Kept)
    for array in (config.scale, *config.rows, config.masked.mask, config.data[0]):
        with pytest.raises(ValueError, match="read-only"):
            array[1] = 5
    assert gn.config.build(config).masked is config.masked


def test_copies_of_a_config_share_no_array_that_can_be_written_to():
    """A deep copy of Python has one, and is its caller's alone."""
    config: Any = copy.deepcopy(gn.config.config_of(Kept)())
    run: Any = gn.config.override(config, [])
    config.scale[0] = 5
    assert run.scale.tolist() == [1.0, 1.0]
