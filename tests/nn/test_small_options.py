"""Windows of pools that are not whole or overlap, ellipses in weights, `PReLU` and `Identity`; beside NumPy."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn.peers import drawn, numbers

# Each compiles by itself.
pytestmark = pytest.mark.slow


def pooled(x: Any, window: int, stride: int, padding: tuple[int, int], kind: str) -> Any:
    """One axis as in PyTorch with `ceil_mode`, whose last window begins in the input or before it."""
    before, after = padding
    size = len(x)
    rows: list[Any] = []
    for start in range(-before, size, stride):
        # The last one that is whole, and one more.
        if rows and start - stride + window >= size + after:
            break
        part = x[max(start, 0) : start + window]
        if kind == "max":
            rows.append(part.max(0))
        else:
            count = min(start + window, size + after) - start if kind == "padded" else len(part)
            rows.append(part.sum(0) / count)
    return np.stack(rows)


def adaptive(x: Any, count: int, combine: Any) -> Any:
    """PyTorch's windows: from `floor(i * n / count)` to `ceil((i + 1) * n / count)`."""
    size = len(x)
    ends = [(int(np.floor(at * size / count)), int(np.ceil((at + 1) * size / count))) for at in range(count)]
    return np.stack([combine(x[start:end], 0) for start, end in ends])


# Size, window, stride, padding
CEIL: tuple[tuple[int, int, int, tuple[int, int]], ...] = (
    (6, 3, 2, (0, 0)),  # one window more
    (7, 3, 2, (0, 0)),  # all are whole
    (5, 2, 3, (0, 0)),
    (5, 2, 3, (1, 1)),
    (4, 2, 2, (1, 0)),
    (5, 3, 4, (0, 1)),  # a further one would begin behind the input
    (6, 4, 3, (2, 1)),
)
ADAPTIVE = ((7, 3), (6, 3), (2, 5), (10, 7))
EQUATIONS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], Any]] = {
    "flax's own": ("d...ab,bc...->ad...c", (2, 3, 4, 5), (5, 6, 3), "dnab,bcn->adnc"),
    "fewer axes in the weight": ("...ab,b...c->...ac", (2, 3, 4, 5), (5, 3, 6), "mnab,bnc->mnac"),
    "none": ("...a,ab...->...b", (2, 4), (4, 5), "ma,ab->mb"),
}


@functools.cache
def outcomes() -> dict[str, Any]:
    """What all of them give, compiled once."""

    def called() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for case in CEIL:
            size, window, stride, padding = case
            options: Any = {"strides": stride, "padding": (padding,), "use_ceil": True}
            x = numbers(size, 2)
            found[f"{case}, max"] = nn.MaxPool(window, **options)(x)
            found[f"{case}, padded"] = nn.AvgPool(window, **options)(x)
            found[f"{case}, alone"] = nn.AvgPool(window, count_include_pad=False, **options)(x)
        for size, count in ADAPTIVE:
            x = numbers(size, 2)
            found[f"{size}, {count}, max"] = nn.AdaptiveMaxPool(count, overlap=True)(x)
            found[f"{size}, {count}, mean"] = nn.AdaptiveAvgPool(count, overlap=True)(x)
        return found

    found: dict[str, Any] = jax.jit(called)()
    return found


@pytest.mark.parametrize("kind", ["max", "padded", "alone"])
@pytest.mark.parametrize("case", CEIL, ids=str)
def test_a_window_that_is_not_whole_counts_as_in_pytorch(case: Any, kind: str):
    """Means are of what is in the window; with padding that counts, of that too, and of nothing behind it."""
    size, window, stride, padding = case
    expected = pooled(np.asarray(numbers(size, 2)), window, stride, padding, kind)
    np.testing.assert_allclose(outcomes()[f"{case}, {kind}"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "count"), ADAPTIVE)
def test_adaptive_windows_may_overlap_as_in_pytorch(size: int, count: int):
    """Also where there are more of them than elements."""
    for kind, combine in (("max", np.max), ("mean", np.mean)):
        expected = adaptive(np.asarray(numbers(size, 2)), count, combine)
        np.testing.assert_allclose(outcomes()[f"{size}, {count}, {kind}"], expected, rtol=1e-5, atol=1e-6)


def test_a_pool_over_two_axes_rounds_each_up():
    """With any number of batch axes, and names of paddings."""
    x = numbers(2, 3, 5, 6, 2)
    layer = nn.MaxPool((2, 3), strides=2, use_ceil=True)
    y = jax.eval_shape(layer.__call__, x)
    assert y.shape == (2, 3, 3, 3, 2)
    assert jax.eval_shape(nn.AvgPool((2, 3), strides=2, padding="SAME", use_ceil=True).__call__, x).shape == y.shape


@pytest.mark.parametrize(("equation", "input", "weight", "letters"), EQUATIONS.values(), ids=EQUATIONS)
def test_the_weight_of_an_einsum_may_have_an_ellipsis(equation: str, input: Any, weight: Any, letters: str):
    """As with letters for all axes."""
    layer = nn.Einsum(equation, weight, w_init=drawn)
    x = numbers(*input)
    expected = np.einsum(letters, np.asarray(x), np.asarray(layer.weight.value))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_a_prelu_has_a_slope_for_all_or_for_each_feature():
    """Which is learnt: below 0 alone it has a gradient."""
    x = jnp.array([[-2.0, 3.0], [-4.0, -5.0]])
    one, each = nn.PReLU(negative_slope_init=0.5), nn.PReLU(2)
    each.negative_slope.value = jnp.array([0.25, 2.0])
    assert one(x).tolist() == [[-1.0, 3.0], [-2.0, -2.5]]
    assert each(x).tolist() == [[-0.5, 3.0], [-1.0, -10.0]]
    gradient = gn.grad(lambda layer: layer(x).sum())(each)
    assert gradient["negative_slope"].value.tolist() == [-6.0, -5.0]


def test_an_identity_gives_its_input():
    """The very array."""
    x = numbers(2)
    assert nn.Identity()(x) is x
    config = gn.config.loads("layers: [{type: Identity}]", nn.Sequential)
    assert gn.config.build(config)(x) is x


REFUSED: dict[str, tuple[Any, str]] = {
    "an empty axis": (
        lambda: nn.AdaptiveAvgPool(3, overlap=True)(jnp.ones((0, 2))),
        "AdaptiveAvgPool: expected an input of shape (..., at least 1, channels); found (0, 2)",
    ),
    "other features": (
        lambda: nn.PReLU(3)(jnp.ones((2, 4))),
        'PReLU: x: expected width = 3 of Float[Array, "... width"], found shape (2, 4)',
    ),
    "slopes of several layers": (
        lambda: gn.stack([nn.PReLU(), nn.PReLU()])(jnp.ones(2)),
        'PReLU is stacked: negative_slope has the shape (2,), and is declared Float[Array, "*shape"]. '
        "Call it under gn.vmap or gn.scan, or take the axis away: gn.unstack, gn.unbroadcast_states",
    ),
}


@pytest.mark.parametrize(("called", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(called: Any, text: str):
    """The layer, what would do, and what was found."""
    with pytest.raises(gn.ContractError) as caught:
        called()
    assert str(caught.value) == text
