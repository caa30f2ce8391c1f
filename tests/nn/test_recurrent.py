"""The recurrent cells and `RNN` beside those of flax and equinox."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import graphnode as gn
from graphnode import nn
from tests.nn.peers import BF16, Arrays, compare, drawn, numbers, permissive, pure, pure_eqx, pure_nnx, rngs

PEERS = {"GRUCell": "GRUCell", "LSTMCell": "OptimizedLSTMCell", "RNNCell": "SimpleCell"}
INITS: dict[str, Any] = {"w_init": drawn, "recurrent_init": drawn, "b_init": drawn}


def cell_of(name: str, **options: Any) -> Any:
    return getattr(nn, name)(3, 4, **INITS, **options)


def peer(name: str, **options: Any) -> Any:
    with permissive():
        inits = {"kernel_init": drawn, "recurrent_kernel_init": drawn}
        return getattr(nnx, PEERS[name])(3, 4, rngs=rngs(), **inits, **options)


def names(name: str, prefix: str = "") -> Any:
    """The parameters that flax's cell has, of ours."""
    bias = "dense_h.bias" if name == "LSTMCell" else "dense_i.bias"
    theirs = {"weight": "dense_i.kernel", "recurrent": "dense_h.kernel", "bias": bias}
    return lambda arrays: {prefix + their: arrays[prefix + ours] for ours, their in theirs.items()}


def without_candidate_bias(layer: Any) -> Any:
    """The GRUCell of flax has no bias for the part of the candidate that is reset."""
    cell = layer.cell if isinstance(layer, nn.RNN) else layer
    if isinstance(cell, nn.GRUCell):
        assert cell.candidate_bias is not None
        cell.candidate_bias.value = jnp.zeros_like(cell.candidate_bias.value)
    return layer


def carried(name: str, h: jax.Array) -> Any:
    return (2 * h, h) if name == "LSTMCell" else h


@pytest.mark.parametrize("dtype", [None, BF16], ids=str)
@pytest.mark.parametrize("name", PEERS)
def test_a_cell_is_that_of_flax(name: str, dtype: Any):
    """What is carried on, output and, in float32, gradients of one step."""

    def called(cell: Any, h: jax.Array, x: jax.Array) -> Any:
        return without_candidate_bias(cell)(carried(name, h), x)

    # flax's cells take bfloat16 parameters for bfloat16 results alone, SimpleCell with both.
    given = dtype or jnp.float32
    one = pure(cell_of(name, dtype=dtype, param_dtype=given), called)
    other = pure_nnx(peer(name, dtype=given, param_dtype=given), called)
    inputs = numbers(2, 4, dtype=given), numbers(2, 3, dtype=given)
    # Before its activation SimpleCell adds the bias first, so that other sums are rounded.
    ulps = 16 if name == "RNNCell" else 2
    compare(one, other, *inputs, names=names(name), with_gradients=dtype is None, ulps=ulps)


@pytest.mark.parametrize("use_bias", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_gru_is_that_of_equinox(use_bias: bool):
    """Which has the bias of the candidate, too, or none at all."""

    def theirs(arrays: Arrays) -> Arrays:
        biases = {"bias": arrays["bias"], "bias_n": arrays["candidate_bias"]} if use_bias else {}
        return {"weight_ih": arrays["weight"].T, "weight_hh": arrays["recurrent"].T, **biases}

    other = eqx.filter_eval_shape(lambda: eqx.nn.GRUCell(3, 4, use_bias=use_bias, key=jax.random.key(0)))
    one = pure(cell_of("GRUCell", use_bias=use_bias), lambda cell, h, x: cell(h, x)[1])
    compare(one, pure_eqx(other, lambda cell, h, x: cell(x, h)), numbers(4), numbers(3), names=theirs)


@pytest.mark.parametrize("use_bias", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_lstm_is_that_of_equinox(use_bias: bool):
    """Gates stand in the same order; with a bias or without."""

    def theirs(arrays: Arrays) -> Arrays:
        biases = {"bias": arrays["bias"]} if use_bias else {}
        return {"weight_ih": arrays["weight"].T, "weight_hh": arrays["recurrent"].T, **biases}

    other = eqx.filter_eval_shape(lambda: eqx.nn.LSTMCell(3, 4, use_bias=use_bias, key=jax.random.key(0)))
    one = pure(cell_of("LSTMCell", use_bias=use_bias), lambda cell, c, h, x: cell((c, h), x)[0])
    peers = pure_eqx(other, lambda cell, c, h, x: tuple(reversed(cell(x, (h, c)))))
    compare(one, peers, numbers(4), numbers(4, seed=1), numbers(3), names=theirs)


@pytest.mark.parametrize(
    ("name", "reverse"), [("GRUCell", False), ("GRUCell", True), ("LSTMCell", True), ("RNNCell", False)]
)
def test_an_rnn_is_that_of_flax(name: str, reverse: bool):
    """What is carried at the end, all outputs at the places of their inputs, and gradients."""

    def ours(rnn: Any, x: jax.Array, h: jax.Array) -> Any:
        return without_candidate_bias(rnn).run(x, carried(name, h))

    def theirs(rnn: Any, x: jax.Array, h: jax.Array) -> Any:
        return rnn(x, initial_carry=carried(name, h), return_carry=True)

    with permissive():
        other = nnx.RNN(peer(name), reverse=reverse, keep_order=True, rngs=rngs())
    one = pure(nn.RNN(cell_of(name), reverse=reverse), ours)
    compare(one, pure_nnx(other, theirs), numbers(2, 3, 3), numbers(2, 4), names=names(name, "cell."))


@pytest.mark.parametrize("batch", [(), (2,), (2, 1)], ids=str)
def test_an_rnn_is_its_cell_step_by_step(batch: tuple[int, ...]):
    """Over any batch axes, from the cell's initial carry on."""
    cell = cell_of("LSTMCell")
    rnn, x = nn.RNN(cell), numbers(*batch, 3, 3)

    def both(cell: Any, rnn: Any) -> Any:
        carry, outputs = cell.initial_carry(batch), []
        for at in range(3):
            carry, y = cell(carry, x[..., at, :])
            outputs.append(y)
        return rnn(x), jnp.stack(outputs, -2)

    found, expected = gn.jit(both)(cell, rnn)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-6)


@pytest.mark.parametrize("name", PEERS)
def test_the_initial_carry_is_zeros_of_the_dtype_that_is_computed_in(name: str):
    """For any batch axes."""
    for options, dtype in [({}, jnp.float32), ({"dtype": BF16}, BF16), ({"param_dtype": BF16}, BF16)]:
        for leaf in jax.tree.leaves(cell_of(name, **options).initial_carry((2, 3))):
            assert (leaf.shape, leaf.dtype) == ((2, 3, 4), dtype)
            assert not np.asarray(leaf).any()


class Counting(nn.Cell[jax.Array]):
    """A cell with a State: how many steps it made."""

    linear: nn.Linear
    steps: gn.ShortTermState[jax.Array] = gn.state(default_factory=lambda: gn.ShortTermState(jnp.zeros((), jnp.int32)))

    def initial_carry(self, batch: tuple[int, ...] = ()) -> jax.Array:
        return jnp.zeros((*batch, 2))

    def __call__(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        self.steps.value += 1
        carry = carry + self.linear(x)
        return carry, carry * self.steps.value.astype(carry.dtype)


def test_a_cell_of_ones_own_may_write_its_states():
    """At each step, eagerly and compiled; the outputs are those of a loop, in both directions of time."""
    for reverse in (False, True):
        cell = Counting(nn.Linear(3, 2, w_init=drawn))
        rnn, x = nn.RNN(cell, reverse=reverse), numbers(4, 3)
        sums = np.asarray(cell.linear(x))
        order = range(3, -1, -1) if reverse else range(4)
        carry, expected = np.zeros(2), np.zeros((4, 2))
        for count, at in enumerate(order, 1):
            carry = carry + sums[at]
            expected[at] = carry * count
        np.testing.assert_allclose(np.asarray(rnn(x)), expected, rtol=1e-5, atol=1e-5)
        assert int(cell.steps.value) == 4
        gn.jit(lambda rnn, x: rnn(x))(rnn, x)
        assert int(cell.steps.value) == 8


def test_a_cell_may_run_both_ways():
    """One cell in two layers, over several sequences: its parameters are shared."""

    class Both(gn.Node):
        forward: nn.RNN[jax.Array]
        backward: nn.RNN[jax.Array]

    cell = cell_of("GRUCell")
    model = Both(nn.RNN(cell), nn.RNN(cell, reverse=True))
    assert len(gn.states(model)) == 4


def test_a_cell_that_gives_no_carry_is_told_by_scan():
    """A step gives a pair."""

    class Wrong(nn.Cell[jax.Array]):
        def initial_carry(self, batch: tuple[int, ...] = ()) -> jax.Array:
            return jnp.zeros((*batch, 2))

        def __call__(self, carry: jax.Array, x: jax.Array) -> Any:
            return carry + x

    with pytest.raises((TypeError, ValueError)):
        nn.RNN(Wrong())(jnp.ones((3, 2)))
