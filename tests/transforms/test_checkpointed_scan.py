"""scan with `checkpoint`: the same results and derivatives, and less kept for the backward pass."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

import graphnode as gn

# Each compiles by itself.
pytestmark = pytest.mark.slow

WAYS: list[Any] = [True, 3, 7, 100, jax.checkpoint_policies.dots_saveable]


class Cell(gn.Node):
    """A noisy recurrent cell with a count."""

    weight: gn.ParamState
    h: gn.HiddenState
    count: gn.ShortTermState
    rngs: gn.Rngs

    def __call__(self, x: jax.Array) -> jax.Array:
        self.count.value += 1
        inner = checkpoint_name(jnp.sin(self.weight.value @ self.h.value), "inner")
        self.h.value = jnp.tanh(inner + x) * jax.random.normal(self.rngs(), x.shape)
        return self.h.value


class Layer(gn.Node):
    weight: gn.ParamState
    count: gn.ShortTermState

    def __call__(self, h: jax.Array, draw: jax.Array) -> jax.Array:
        self.count.value += jnp.int32(h.sum() > 0)
        return jnp.tanh(self.weight.value * h) + draw


def cell(width: int = 3) -> Cell:
    weight = jax.random.normal(jax.random.key(0), (width, width)) / jnp.sqrt(jnp.float32(width))
    count = gn.ShortTermState(jnp.int32(0))
    return Cell(gn.ParamState(weight), gn.HiddenState(jnp.ones(width)), count, gn.Rngs(0))


def layer(scale: float) -> Layer:
    return Layer(gn.ParamState(jnp.float32(scale) * jnp.ones(3)), gn.ShortTermState(jnp.int32(0)))


def assert_close(found: Any, expected: Any) -> None:
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    assert all(jnp.allclose(*pair) for pair in pairs)


def message(error: type[Exception], function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def run(one: Cell, xs: jax.Array, options: Any) -> tuple[jax.Array, jax.Array]:
    """A loss over all steps, which counts each differently, and the outputs."""
    _, ys = gn.scan(lambda one, x: (one, one(x)), one, xs, **options)
    return jnp.sum(ys * jnp.arange(len(ys), dtype=jnp.float32)[:, None]), ys


def after(options: Any, transform: Callable[..., Any] = lambda f: f) -> Any:
    """Gradients and outputs of a scan over seven steps, and what its States hold afterwards."""
    one, xs = cell(), jnp.arange(21, dtype=jnp.float32).reshape(7, 3) / 10
    gradient = transform(lambda one, xs: gn.grad(run, (0, 1), has_aux=True)(one, xs, options))
    of_all, ys = gradient(one, xs)
    return of_all, ys, one.h.value, one.count.value, one.rngs["default"].count.value


# Results


@pytest.mark.parametrize("reverse", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("checkpoint", WAYS, ids=["True", "3", "7", "100", "dots_saveable"])
def test_results_and_gradients_are_those_of_the_plain_scan(checkpoint: Any, reverse: bool):
    """With States written in the carry and a random stream, also where the length is no multiple of a segment."""
    assert_close(after({"checkpoint": checkpoint, "reverse": reverse}), after({"reverse": reverse}))


@pytest.mark.parametrize("options", [{"checkpoint": 2, "unroll": 2}, {"checkpoint": True, "unroll": True}], ids=str)
def test_a_checkpointed_scan_is_compiled_and_unrolled(options: Any):
    """Under gn.jit, with `unroll`."""
    assert_close(after(options, gn.jit), after({}))


def layered(checkpoint: Any) -> Any:
    """Gradients of a scan over layers and a stream, and what they hold afterwards."""
    layers, rngs = gn.stack([layer(0.1 * n) for n in range(5)]), gn.Rngs(0)

    def loss(layers: Layer, x: jax.Array, rngs: gn.Rngs) -> tuple[jax.Array, jax.Array]:
        def step(h: jax.Array, item: tuple[Layer, gn.Rngs]) -> tuple[jax.Array, jax.Array]:
            one, rngs = item
            h = one(h, jax.random.normal(rngs(), (3,)))
            return h, h

        h, hs = gn.scan(step, x, (layers, rngs), checkpoint=checkpoint)
        return jnp.sum(h), hs

    of_all, hs = gn.grad(loss, (0, 1), has_aux=True)(layers, jnp.ones(3), rngs)
    return of_all, hs, layers.count.value, rngs["default"].count.value


@pytest.mark.parametrize("checkpoint", [True, 2, 5])
def test_scanned_nodes_and_forked_streams(checkpoint: Any):
    """A node in `xs` is written back item by item, and each round draws the same numbers when it is computed again."""
    assert_close(layered(checkpoint), layered(False))


def test_outputs_may_be_nodes():
    """Nodes that rounds make are stacked over all segments, in order."""

    def step(total: jax.Array, x: jax.Array) -> tuple[jax.Array, Layer]:
        return total + x, Layer(gn.ParamState(total), gn.ShortTermState(x))

    for reverse in (False, True):
        plain = gn.scan(step, jnp.float32(0), jnp.arange(5.0), reverse=reverse)[1]
        made = gn.scan(step, jnp.float32(0), jnp.arange(5.0), reverse=reverse, checkpoint=2)[1]
        assert isinstance(made, Layer)
        assert made.weight.value.tolist() == plain.weight.value.tolist()
        assert made.count.value.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("checkpoint", [True, 2])
def test_no_rounds_and_no_items(checkpoint: Any):
    """A scan of no rounds gives the carry; one without items has its length said."""

    def step(carry: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
        return 2 * carry, carry

    carry, outputs = gn.scan(step, jnp.float32(1), jnp.ones((0, 3)), checkpoint=checkpoint)
    assert (carry, outputs.shape) == (1.0, (0,))
    carry, outputs = gn.scan(step, jnp.float32(1), length=5, checkpoint=checkpoint)
    assert (carry, outputs.tolist()) == (32.0, [1.0, 2.0, 4.0, 8.0, 16.0])


def test_outputs_keep_their_weak_type():
    """Where segments are put together, too: a number stays one that gives way to other dtypes."""
    plain, made = [gn.scan(lambda c, _: (2 * c, c), 1, length=5, checkpoint=n)[1] for n in (False, 2)]
    assert jax.typeof(made) == jax.typeof(plain)


def test_a_checkpointed_scan_under_vmap_and_without_compilation():
    """It nests in gn.vmap, and runs under `jax.disable_jit`."""
    xs = jnp.ones((2, 5, 3))

    def loss(checkpoint: Any) -> Any:
        ensemble = gn.vmap(lambda scale: layer_of(scale))(jnp.array([0.1, 0.2]))

        def total(one: Layer, xs: jax.Array) -> jax.Array:
            return jnp.sum(gn.scan(lambda one, x: (one, one(x, x)), one, xs, checkpoint=checkpoint)[1])

        return gn.vmap(gn.grad(total))(ensemble, xs), ensemble.count.value

    def layer_of(scale: jax.Array) -> Layer:
        return Layer(gn.ParamState(scale * jnp.ones(3)), gn.ShortTermState(jnp.int32(0)))

    assert_close(loss(2), loss(False))
    one = layer(0.5)
    with jax.disable_jit():
        _, ys = gn.scan(lambda one, x: (one, one(x, x)), one, xs[0], checkpoint=2)
    assert jnp.allclose(ys, gn.scan(lambda one, x: (one, one(x, x)), layer(0.5), xs[0])[1])
    assert one.count.value == 5


# Memory


def temporary_bytes(length: int, checkpoint: Any, width: int = 16) -> int:
    """The memory that a compiled gradient uses beside its arguments and results."""

    def last(one: Cell, xs: jax.Array) -> jax.Array:
        one, _ = gn.scan(lambda one, x: (one, (one(x), None)[1]), one, xs, checkpoint=checkpoint)
        return jnp.sum(one.h.value)

    gradient = gn.jit(gn.grad(last))
    analysis = gradient.lower(cell(width), jnp.ones((length, width))).compile().memory_analysis()
    assert analysis is not None
    return int(analysis.temp_size_in_bytes)


@pytest.mark.slow
def test_the_memory_of_segments_grows_as_their_number_and_length():
    """Four times the length: plain scans keep four times as much, segments of its root twice."""
    plain = [temporary_bytes(length, False) for length in (256, 1024)]
    rooted = [temporary_bytes(256, 16), temporary_bytes(1024, 32)]
    assert plain[1] > 3.8 * plain[0]
    assert rooted[1] < 2.2 * rooted[0]
    assert rooted[1] < plain[1] / 8
    assert temporary_bytes(1024, True) < plain[1] / 3


def residuals(checkpoint: Any) -> int:
    """How many numbers are kept between the forward and the backward pass of a scan over 64 items."""
    weight, xs = jnp.ones(3), jnp.ones((64, 3))

    def total(weight: jax.Array) -> jax.Array:
        def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            return jnp.sin(checkpoint_name(jnp.tanh(weight * h), "inner") + x), None

        return jnp.sum(gn.scan(step, jnp.ones(3), xs, checkpoint=checkpoint)[0])

    _, pull_back = jax.vjp(total, weight)
    kept: int = sum(leaf.size for leaf in jax.tree.leaves(pull_back))
    return kept - xs.size


def test_what_is_kept_between_the_passes():
    """A carry for each round, or for each segment; a policy keeps what it names beside it."""
    assert residuals(False) > 2 * 64 * 3
    assert residuals(True) <= 64 * 3 + 8
    assert residuals(8) <= 8 * 3 + 8
    named = residuals(jax.checkpoint_policies.save_only_these_names("inner"))
    assert 2 * 64 * 3 <= named <= 2 * 64 * 3 + 8


# Errors


@pytest.mark.parametrize(
    ("checkpoint", "error", "text"),
    [
        (0, ValueError, "the number of rounds of a segment, at least 1; found 0"),
        (-2, ValueError, "the number of rounds of a segment, at least 1; found -2"),
        ("all", TypeError, "a bool, the number of rounds of a segment or a policy of jax.checkpoint; found str 'all'"),
        (2.5, TypeError, "a bool, the number of rounds of a segment or a policy of jax.checkpoint; found float 2.5"),
        (None, TypeError, "a bool, the number of rounds of a segment or a policy of jax.checkpoint; found None"),
    ],
)
def test_what_is_no_checkpoint_is_refused(checkpoint: Any, error: type[Exception], text: str):
    """A bool, a number of at least one, or a policy."""
    assert message(error, run, cell(), jnp.ones((2, 3)), {"checkpoint": checkpoint}) == f"gn.scan: checkpoint is {text}"


def test_faults_of_rounds_are_named_as_ever():
    """A State that all rounds share must not be written, and one that is carried keeps its shape."""

    def write_shared(h: jax.Array, item: tuple[jax.Array, Layer]) -> tuple[jax.Array, None]:
        return item[1](h, item[0]), None

    def grow(one: Layer, x: jax.Array) -> tuple[Layer, None]:
        one.weight.value = jnp.ones(4)
        return one, None

    for checkpoint in (False, 2):
        options: dict[str, Any] = {"checkpoint": checkpoint}
        shared = (jnp.ones((4, 3)), layer(1.0))
        text = message(gn.TraceError, lambda: gn.scan(write_shared, jnp.ones(3), shared, in_axes=(0, None), **options))
        assert text.startswith("gn.scan: item[1].count was written, but has no axis to be written along")
        text = message(TypeError, lambda: gn.scan(grow, layer(1.0), jnp.ones(4), **options))
        assert text == (
            "gn.scan: a State keeps its structure, shapes and dtypes here; one.weight was float32[3] and became "
            "float32[4]"
        )
