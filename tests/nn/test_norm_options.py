"""What normalisations take statistics over: axes, elements that count, devices; beside their formulas in NumPy."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn.peers import numbers

# Each compiles by itself.
pytestmark = pytest.mark.slow

SHAPE = (2, 3, 4, 6)
MASK = np.random.default_rng(0).random(SHAPE) > 0.4


def standardized(x: Any, axes: tuple[int, ...], epsilon: float, mask: Any = None) -> Any:
    """`(x - mean) / sqrt(var + epsilon)`, in float64, of the elements that count."""
    x = np.asarray(x, np.float64)
    where = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask, x.shape)
    mean = x.mean(axes, keepdims=True, where=where)
    var = np.square(x - mean).mean(axes, keepdims=True, where=where)
    return (x - mean) / np.sqrt(var + epsilon)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=1e-4, atol=1e-5)


def scaled(layer: Any) -> Any:
    """The layer with a scale and a bias that are not 1 and 0."""
    for seed, name in enumerate(("scale", "bias")):
        state = getattr(layer, name, None)
        if state is not None:
            state.value = 1 + numbers(*state.value.shape, seed=seed)
    return layer


class Case(NamedTuple):
    """A layer, and what it computes."""

    layer: Any
    axes: tuple[int, ...]
    """Over which its statistics are."""
    beside: tuple[int, ...]
    """The shape in which its features stand beside the input."""
    mask: Any = None


LAST = (6,)
CASES: dict[str, Case] = {
    "two axes of features": Case(nn.LayerNorm((4, 6)), (2, 3), (4, 6)),
    "other features": Case(nn.LayerNorm(3, feature_axes=1), (3,), (3, 1, 1)),
    "features and statistics apart": Case(
        nn.LayerNorm((3, 6), feature_axes=(1, -1), reduction_axes=-2), (2,), (3, 1, 6)
    ),
    "all but the batch": Case(nn.LayerNorm(6, reduction_axes=(1, 2, 3)), (1, 2, 3), LAST),
    "instances": Case(nn.InstanceNorm(6), (1, 2), LAST),
    "a batch of channels first": Case(nn.BatchNorm(3, axis=1, epsilon=1e-6), (0, 2, 3), (3, 1, 1)),
    "masked": Case(nn.LayerNorm(6, reduction_axes=(1, 2, 3)), (1, 2, 3), LAST, MASK),
    "masked, axes of size 1": Case(nn.LayerNorm(6, reduction_axes=(1, 2, 3)), (1, 2, 3), LAST, MASK[:, :1, :, :1]),
    "masked instances": Case(nn.InstanceNorm(6), (1, 2), LAST, MASK),
    "one group over some axes": Case(nn.GroupNorm(6, 1, reduction_axes=(-2, -1)), (2, 3), LAST, MASK),
}
# These have no further axis for the features of a group.
GROUPS: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "over all positions": (nn.GroupNorm(6, 2), (1, 2, 4), MASK),
    "over some positions": (nn.GroupNorm(6, 2, reduction_axes=(-2, -1)), (2, 4), None),
}
# One layer over the parts of `gn.vmap`, and over which axes of all parts together its statistics are.
MAPPED: dict[str, tuple[Any, tuple[int, ...]]] = {
    "BatchNorm": (nn.BatchNorm(6, axis_name="parts", momentum=0.0, epsilon=1e-6), (0, 1, 2)),
    "LayerNorm": (nn.LayerNorm(6, axis_name="parts"), (0, 3)),
    "GroupNorm": (nn.GroupNorm(6, 1, axis_name="parts"), (0, 2, 3)),
    "InstanceNorm": (nn.InstanceNorm(6, axis_name="parts"), (0, 2)),
}
# Of each sequence some; the first part has fewer than the other.
COUNTED = np.ones(SHAPE[:-1], bool)
COUNTED[0, :, 1:] = False


def mapped(layer: Any, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The layer over both parts of `x`."""

    def part(layer: Any, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        if mask is None:
            return layer(x)  # type: ignore[no-any-return]
        return layer(x, mask=mask if isinstance(layer, nn.BatchNorm) else mask[..., None])  # type: ignore[no-any-return]

    # A State that is written along the axis has one value for each part.
    axes: Any = gn.axes({gn.BatchState: 0, ...: None}) if isinstance(layer, nn.BatchNorm) else None
    return gn.vmap(part, in_axes=(axes, 0, 0), axis_name="parts")(layer, x, mask)


@functools.cache
def outcomes() -> dict[str, Any]:
    """What all of them give, compiled once."""

    def called(cases: Any, groups: Any, parts: Any, square: Any, x: jax.Array) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, layer in cases.items():
            mask = CASES[name].mask
            found[name] = layer(x) if mask is None else layer(x, mask=jnp.asarray(mask))
        for name, layer in groups.items():
            mask = GROUPS[name][2]
            found[name] = layer(x, mask=None if mask is None else jnp.asarray(mask))
        for name, layer in parts.items():
            for mask in (None, jnp.asarray(COUNTED)):
                found[f"{name}, {'all' if mask is None else 'masked'}"] = mapped(layer, x, mask)
        found["RMSNorm"] = square(x, mask=jnp.asarray(MASK))
        return found

    cases = {name: scaled(case.layer) for name, case in CASES.items()}
    groups = {name: row[0] for name, row in GROUPS.items()}
    parts = {name: row[0] for name, row in MAPPED.items()}
    square = nn.RMSNorm((4, 6), feature_axes=(2, 3), reduction_axes=(1, 2))
    gn.broadcast_states(parts["BatchNorm"], gn.BatchState, size=SHAPE[0])
    return gn.jit(called)(cases, groups, parts, square, numbers(*SHAPE))


@pytest.mark.parametrize("name", CASES)
def test_statistics_are_taken_over_the_axes_that_are_said(name: str):
    """Of the elements that count; scale and bias stand along the axes of the features."""
    # Before the layers are looked at, which get their scales there.
    found = outcomes()[name]
    layer, axes, beside, mask = CASES[name]
    scale, bias = (np.asarray(state.value).reshape(beside) for state in (layer.scale, layer.bias))
    close(found, standardized(numbers(*SHAPE), axes, 1e-6, mask) * scale + bias)


@pytest.mark.parametrize("name", GROUPS)
def test_statistics_of_a_group_are_taken_over_the_axes_that_are_said(name: str):
    """All positions or some."""
    _, axes, mask = GROUPS[name]
    shape = (*SHAPE[:-1], 2, 3)
    grouped = None if mask is None else mask.reshape(shape)
    expected = standardized(np.asarray(numbers(*SHAPE)).reshape(shape), axes, 1e-6, grouped)
    close(outcomes()[name], expected.reshape(SHAPE))


def test_the_mean_square_is_taken_over_the_axes_that_are_said():
    """Of the elements that count."""
    values = np.asarray(numbers(*SHAPE), np.float64)
    squares = np.square(values).mean((1, 2), keepdims=True, where=MASK)
    close(outcomes()["RMSNorm"], values / np.sqrt(squares + 1e-6))


@pytest.mark.parametrize("kind", ["all", "masked"])
@pytest.mark.parametrize("name", MAPPED)
def test_statistics_go_over_all_that_is_mapped(name: str, kind: str):
    """Along an axis of `gn.vmap`; a part in which few elements count weighs less."""
    layer, axes = MAPPED[name]
    mask = COUNTED[..., None] if kind == "masked" else None
    x, found = numbers(*SHAPE), outcomes()[f"{name}, {kind}"]
    close(found, standardized(x, axes, 1e-6, mask))
    # The masked call was the last one.
    if isinstance(layer, nn.BatchNorm) and mask is not None:
        where = np.broadcast_to(mask, SHAPE)
        first, second = layer.mean.value
        np.testing.assert_array_equal(first, second)
        close(first, np.asarray(x, np.float64).mean(axes, where=where))


def test_where_nothing_counts_mean_and_variance_are_zero():
    """Result and gradient are finite."""
    layer, x, mask = nn.LayerNorm(3, epsilon=1.0), numbers(2, 3), jnp.zeros((2, 3), bool)
    y, pullback = jax.vjp(jax.jit(lambda x: layer(x, mask=mask)), x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(pullback(jnp.ones((2, 3)))[0], np.ones((2, 3)))


@pytest.mark.parametrize("cls", [nn.LayerNorm, nn.InstanceNorm, nn.BatchNorm], ids=lambda cls: cls.__name__)
def test_scale_and_bias_have_initialisers(cls: Any):
    """Of one's own."""
    layer = cls(3, scale_init=nn.initializers.zeros, bias_init=nn.initializers.ones)
    assert (layer.scale.value.tolist(), layer.bias.value.tolist()) == ([0.0] * 3, [1.0] * 3)


X, BITS = numbers(*SHAPE), jnp.ones(5, bool)


def test_the_size_of_groups_says_how_many_there_are():
    """It is one structure, however it was said."""
    layer = nn.GroupNorm(6, group_size=2)
    assert layer.num_groups == 3
    assert gn.graphdef(layer) is gn.graphdef(nn.GroupNorm(6, 3))
    config = gn.config.loads("{width: 6, group_size: 2}", nn.GroupNorm)
    assert gn.graphdef(gn.config.build(config)) is gn.graphdef(layer)


REFUSED: dict[str, tuple[Any, str]] = {
    "groups of which nothing is said": (
        lambda: nn.GroupNorm(6),
        "GroupNorm.num_groups: expected num_groups or group_size; found neither",
    ),
    "groups of which both is said": (
        lambda: nn.GroupNorm(6, 3, group_size=2),
        "GroupNorm.num_groups: expected num_groups or group_size; found both",
    ),
    "groups of a size that does not divide": (
        lambda: nn.GroupNorm(6, group_size=4),
        "GroupNorm.group_size: expected a positive integer that divides width=6; found 4",
    ),
    "no sizes": (
        lambda: nn.LayerNorm(()),
        "LayerNorm.width: expected a positive integer or a tuple of them; found ()",
    ),
    "an axis twice": (
        lambda: nn.LayerNorm(6, reduction_axes=(1, 1)),
        "LayerNorm.reduction_axes: expected an integer or a tuple of different ones; found (1, 1)",
    ),
    "no name of an axis": (
        lambda: nn.RMSNorm(6, axis_name=""),
        "RMSNorm.axis_name: expected the name of an axis, as gn.vmap and gn.shard_map give it; found ''",
    ),
    "an axis that is no integer": (
        lambda: nn.BatchNorm(6, axis=True),
        "BatchNorm.axis: expected an integer; found True",
    ),
    "an axis that is not there": (
        lambda: nn.LayerNorm(6, reduction_axes=(4,))(X),
        "LayerNorm: x: expected the different axes (4,) of reduction_axes; found shape (2, 3, 4, 6)",
    ),
    "one axis by two numbers": (
        lambda: nn.LayerNorm(6, reduction_axes=(3, -1))(X),
        "LayerNorm: x: expected the different axes (3, -1) of reduction_axes; found shape (2, 3, 4, 6)",
    ),
    "other sizes": (
        lambda: nn.LayerNorm((3, 6))(X),
        "LayerNorm: x: expected the sizes (3, 6) along the axes (-2, -1); found shape (2, 3, 4, 6)",
    ),
    "features in another order": (
        lambda: nn.LayerNorm((6, 4), feature_axes=(3, 2))(X),
        "LayerNorm: x: expected feature_axes in the order of the axes of x; found (3, 2) for shape (2, 3, 4, 6)",
    ),
    "groups without the features": (
        lambda: nn.GroupNorm(6, 2, reduction_axes=(1, 2))(X),
        "GroupNorm: x: expected the last axis, of the features, among reduction_axes; found (1, 2) for shape "
        "(2, 3, 4, 6)",
    ),
    "instances without positions": (
        lambda: nn.InstanceNorm(6)(X[0, 0]),
        "InstanceNorm: x: expected axes of positions between the 1 of the batch and the features; found shape (4, 6)",
    ),
    "another mask": (
        lambda: nn.LayerNorm(6)(X, mask=BITS),
        "LayerNorm: mask: expected a shape that broadcasts to (2, 3, 4, 6) of x; found (5,)",
    ),
    "a mask with more axes": (
        lambda: nn.LayerNorm(6)(X[0, 0], mask=jnp.ones((1, 4, 6), bool)),
        "LayerNorm: mask: expected a shape that broadcasts to (4, 6) of x; found (1, 4, 6)",
    ),
    "a mask of numbers": (
        lambda: nn.GroupNorm(6, 2)(X, mask=X),
        'GroupNorm: mask: expected dtype Bool of Bool[Array, "..."], found float32',
    ),
    "another mask of a batch": (
        lambda: nn.BatchNorm(3, axis=1)(X, mask=BITS),
        "BatchNorm: mask: expected the shape (2, 4, 6) of x without the features; found (5,)",
    ),
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("called", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(called: Any, text: str):
    """The layer, what would do, and what was found."""
    with pytest.raises(gn.ContractError) as caught:
        called()
    assert str(caught.value) == text
