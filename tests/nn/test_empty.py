"""Batches of size 0, and none at all: every layer gives a result of the shape that it should, and finite gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn.layers import CACHES, CASES, PARTS, make, marked
from tests.nn.peers import numbers

# Each compiles by itself.
pytestmark = pytest.mark.slow

# How many of the last axes of an input are no batch; 1 where it is not said.
INNER = {
    "AdaptiveAvgPool": 3, "AdaptiveMaxPool": 2, "AvgPool": 2, "Conv": 3, "ConvTranspose": 2, "Embedding": 0,
    "Bidirectional": 2, "GroupNorm": 2, "InstanceNorm": 3, "LRU": 2, "Mamba2": 2, "MaxPool": 3, "MinPool": 2,
    "MultiHeadAttention": 2, "RGLRU": 2, "RNN": 2,
    "EncoderDecoder": 2, "TransformerBlock": 2, "TransformerStack": 2,
}  # fmt: skip
# These have as many neurons, or texts, as they were made with.
WITHOUT_BATCH = {"ExponentialSynapse", "LIF", "Mamba2Cache"} | CACHES | PARTS
BATCHES: list[Any] = [(), (0,), pytest.param((2, 0), marks=pytest.mark.slow)]
# Eagerly, each operation is compiled by itself, which takes long.
WAYS: list[Any] = [True, pytest.param(False, marks=pytest.mark.slow)]


def call(layer: Any, *inputs: Any) -> Any:
    if isinstance(layer, nn.LSTMCell):
        hidden, x = inputs
        return layer((hidden, hidden), x)
    return layer(*inputs)


def total(layer: Any, *inputs: Any) -> jax.Array:
    return sum((leaf.sum() for leaf in jax.tree.leaves(call(layer, *inputs))), jnp.zeros(()))


@pytest.mark.parametrize("is_compiled", WAYS, ids=["compiled", "eager"])
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("name", marked(sorted(CASES.keys() - WITHOUT_BATCH)))
def test_a_layer_takes_an_empty_batch(name: str, batch: tuple[int, ...], is_compiled: bool):
    """Eagerly and compiled, with gradients, all of which are finite; nothing that is not is written."""
    # Of an empty batch there is no mean: see below.
    options: dict[str, dict[str, Any]] = {"InstanceNorm": {"batch_axes": len(batch)}}
    if 0 in batch:
        options["BatchNorm"] = {"deterministic": True}
    layer = make(name, **options.get(name, {}))
    inner = INNER.get(name, 1)
    shapes = [shape[len(shape) - inner :] for shape in CASES[name].inputs or ((2, 4), (2, 3))]
    inputs = [
        jnp.zeros((*batch, *shape), jnp.int32) if name == "Embedding" else numbers(*batch, *shape) for shape in shapes
    ]
    argnums: Any = 0 if name == "Embedding" else tuple(range(len(inputs) + 1))

    def measured(layer: Any, *inputs: Any) -> Any:
        return call(layer, *inputs), gn.grad(total, argnums)(layer, *inputs)

    outputs, gradients = (gn.jit(measured) if is_compiled else measured)(layer, *inputs)
    for leaf in jax.tree.leaves(outputs):
        assert leaf.shape[: len(batch)] == batch
        assert leaf.ndim > len(batch)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
        assert 0 not in batch or not np.any(leaf)
    for path, state in gn.states(layer).items():
        assert np.isfinite(state.value).all(), gn.path_str(path)


def test_an_empty_batch_has_no_mean_to_train_with():
    """Nothing is written, compiled or not; where a mask leaves nobody, the running averages stay."""
    layer = nn.BatchNorm(2)
    before = {path: state.value for path, state in gn.states(layer).items()}
    for function in (call, gn.jit(call)):
        with pytest.raises(gn.ContractError) as caught:
            function(layer, jnp.ones((0, 2)))
        assert str(caught.value) == "BatchNorm: an empty batch has no mean; found an input of shape (0, 2)"
    assert all(state.value is before[path] for path, state in gn.states(layer).items())
    assert np.isfinite(layer(jnp.ones((3, 2)), mask=jnp.zeros(3, bool))).all()
    assert layer.mean.value.tolist() == [0.0, 0.0]
    assert layer.var.value.tolist() == [1.0, 1.0]


def test_attention_to_nothing_is_what_values_of_zero_give():
    """A context of length 0: the bias of the output, and finite gradients."""
    layer = make("MultiHeadAttention")
    x, context = numbers(2, 3, 8), jnp.zeros((2, 0, 5))
    assert layer.out.bias is not None
    expected = np.broadcast_to(layer.out.bias.value, (2, 3, 8))
    np.testing.assert_array_equal(np.asarray(layer(x, context)), expected)
    gradients = gn.jit(gn.grad(lambda layer, *inputs: layer(*inputs).sum(), (0, 1, 2)))(layer, x, context)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("cached", [False, True])
def test_attention_of_a_sequence_of_length_0_is_one(cached: bool):
    """With rotary positions, and with a cache, which stays where it was."""
    layer = make("MultiHeadAttention", context_size=8, is_causal=True, rotary_base=10.0)
    apply = gn.jit(call)
    if cached:
        layer.init_cache(2, 3)
        apply(layer, numbers(2, 1, 8))
    assert apply(layer, jnp.zeros((2, 0, 8))).shape == (2, 0, 8)
    assert layer.cache is None or int(layer.cache.position.value) == 1


@pytest.mark.parametrize("name", ["RNNCell", "GRUCell", "LSTMCell"])
def test_no_time_passes_in_a_sequence_of_length_0(name: str):
    """What is carried stays, and the gradients are 0."""
    rnn: Any = nn.RNN(make(name))
    start = rnn.cell.initial_carry((2,))
    carry, outputs = gn.jit(lambda rnn, x: rnn.run(x))(rnn, jnp.zeros((2, 0, 3)))
    assert outputs.shape == (2, 0, 4)
    assert jax.tree.map(jnp.shape, carry) == jax.tree.map(jnp.shape, start)
    gradients = gn.grad(lambda rnn: rnn(jnp.zeros((2, 0, 3))).sum())(rnn)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_a_batch_of_no_populations_spikes_nowhere():
    """Neurons and synapses over an axis of size 0, by `gn.vmap`."""

    @gn.vmap
    def build(key: jax.Array) -> tuple[nn.LIF, nn.ExponentialSynapse]:
        with gn.random.scope(key):
            return make("LIF"), make("ExponentialSynapse")

    @gn.vmap
    def step(neurons: nn.LIF, synapses: nn.ExponentialSynapse, x: jax.Array) -> jax.Array:
        return synapses(neurons(x))

    neurons, synapses = build(jax.random.split(jax.random.key(0), 0))
    assert step(neurons, synapses, jnp.zeros((0, 3))).shape == (0, 4)
    assert neurons.voltage.value.shape == (0, 3)
