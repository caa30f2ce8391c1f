"""Functions of cells, first carries, lengths of sequences and directions of time; beside loops in NumPy."""

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

BATCH, TIME = 3, 4
LENGTHS = (4, 2, 0)
INITS: dict[str, Any] = {"w_init": drawn, "recurrent_init": drawn, "b_init": drawn}


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-5)


def arrays(layer: Any) -> dict[str, Any]:
    """The parameters in float64, by name."""
    return {str(path[-1]): np.asarray(state.value, np.float64) for path, state in gn.states(layer).items()}


def hard(x: Any) -> Any:
    """The hard sigmoid."""
    return np.clip(x + 3, 0, 6) / 6


def softsign(x: Any) -> Any:
    return x / (1 + np.abs(x))


def loop(cell: nn.RNNCell, x: Any, order: Any, h: Any) -> tuple[Any, Any]:
    """One sequence, element by element in an order; outputs elsewhere are 0."""
    p, outputs = arrays(cell), np.zeros((len(x), 4))
    for at in order:
        h = np.tanh(x[at] @ p["weight"] + h @ p["recurrent"] + p["bias"])
        outputs[at] = h
    return h, outputs


def both_ways(cells: Any, x: Any, lengths: Any, start: Any) -> Any:
    """Ends and outputs of both directions, for each sequence of a batch."""
    rows: list[Any] = []
    for one, length, h in zip(x, lengths, start, strict=True):
        rows.append((loop(cells[0], one, range(length), h), loop(cells[1], one, range(length)[::-1], h)))
    ends = [np.stack([row[side][0] for row in rows]) for side in (0, 1)]
    outputs = [np.stack([row[side][1] for row in rows]) for side in (0, 1)]
    return ends, outputs


FUNCTIONS: dict[str, Any] = {"gate_fn": jax.nn.hard_sigmoid, "activation_fn": jax.nn.soft_sign}
GRU, LSTM = nn.GRUCell(3, 4, **FUNCTIONS, **INITS), nn.LSTMCell(3, 4, **FUNCTIONS, **INITS)
CELLS = nn.RNNCell(3, 4, **INITS), nn.RNNCell(3, 4, carry_init=nn.initializers.Constant(0.5), **INITS)
# Padding holds what would spoil everything that it reaches.
PADDED = numbers(BATCH, TIME, 3).at[1, 2:].set(jnp.nan).at[2].set(jnp.nan)
START = numbers(BATCH, 4)


@functools.cache
def outcomes() -> dict[str, Any]:
    """What all of them give, compiled once."""
    both = nn.Bidirectional(nn.RNN(CELLS[0]), nn.RNN(CELLS[1]))
    summed = nn.Bidirectional(nn.RNN(CELLS[0]), nn.RNN(CELLS[1]), merge_fn=jnp.add, time_major=True)

    def loss(both: Any, x: jax.Array, lengths: jax.Array) -> Any:
        found = both.run(x, (START, START), seq_lengths=lengths)
        return found[1].sum(), found

    def called(cells: Any, both: Any, summed: Any, padded: jax.Array, lengths: jax.Array) -> dict[str, Any]:
        gru, lstm = cells
        x = padded[0]
        whole = jnp.broadcast_to(x, (BATCH, TIME, 3))
        gradients, masked = gn.grad(loss, has_aux=True)(both, padded, lengths)
        return {
            "gru": gru(START[0], x[0])[0],
            "lstm": lstm((START[0], START[1]), x[0])[0],
            "masked": masked,
            "gradients": gradients,
            "summed": summed(jnp.swapaxes(whole, 0, 1), initial_carry=(START, START)),
            "from the start": both.backward_rnn(x, initial_carry=None),
        }

    return gn.jit(called)((GRU, LSTM), both, summed, PADDED, jnp.asarray(LENGTHS))


def test_a_gru_takes_functions_for_gates_and_candidate():
    """In place of the sigmoid and tanh."""
    p, h = arrays(GRU), np.asarray(START[0])
    r, z, n = np.split(np.asarray(PADDED[0, 0]) @ p["weight"] + p["bias"], 3)
    hr, hz, hn = np.split(h @ p["recurrent"], 3)
    update = hard(z + hz)
    new = softsign(n + hard(r + hr) * (hn + p["candidate_bias"]))
    close(outcomes()["gru"], (1 - update) * new + update * h)


def test_an_lstm_takes_functions_for_gates_and_memory():
    """In place of the sigmoid, and of tanh in both places."""
    p = arrays(LSTM)
    i, f, g, o = np.split(np.asarray(PADDED[0, 0]) @ p["weight"] + np.asarray(START[1]) @ p["recurrent"] + p["bias"], 4)
    memory = hard(f) * np.asarray(START[0]) + hard(i) * softsign(g)
    found = outcomes()["lstm"]
    close(found[0], memory)
    close(found[1], hard(o) * softsign(memory))


def test_elements_behind_the_length_of_a_sequence_do_not_count():
    """In both directions: carries at the end and outputs are those of each sequence alone, in padding 0."""
    ends, (forward, backward) = both_ways(CELLS, np.asarray(PADDED), LENGTHS, np.asarray(START))
    found_ends, outputs = outcomes()["masked"]
    for found, end in zip(found_ends, ends, strict=True):
        close(found, end)
    close(outputs, np.concatenate([forward, backward], -1))


def test_padding_does_not_reach_gradients():
    """Though it is NaN."""
    for leaf in jax.tree.leaves(outcomes()["gradients"]):
        assert np.isfinite(leaf).all()


def test_time_may_be_the_first_axis():
    """And the outputs of both directions may be merged by another function."""
    x = np.broadcast_to(np.asarray(PADDED[0]), (BATCH, TIME, 3))
    _, (forward, backward) = both_ways(CELLS, x, (TIME,) * BATCH, np.asarray(START))
    close(outcomes()["summed"], np.swapaxes(forward + backward, 0, 1))


def test_a_cell_begins_with_what_its_initialiser_makes():
    """Of one value without a key, and drawn with one; memory and output are drawn apart."""
    expected = loop(CELLS[1], np.asarray(PADDED[0]), range(TIME), np.full(4, 0.5))[1]
    close(outcomes()["from the start"], expected)
    cell = nn.LSTMCell(3, 4, carry_init=nn.initializers.uniform, **INITS)
    memory, output = cell.initial_carry((2,), key=jax.random.key(0))
    assert memory.shape == output.shape == (2, 4)
    assert (np.asarray(memory) != np.asarray(output)).all()


def test_an_initialiser_of_a_carry_that_draws_needs_a_key():
    """What would do is said; with a key, its own errors stay."""
    cell = nn.GRUCell(3, 4, carry_init=nn.initializers.normal, **INITS)
    with pytest.raises(gn.RngError) as caught:
        nn.RNN(cell)(jnp.ones((TIME, 3)))
    assert str(caught.value) == (
        "RNN.cell (GRUCell): its carry_init needs a key: pass key= to initial_carry, and what it gives to the RNN "
        "as initial_carry="
    )

    def divided(key: Any, shape: Any, dtype: Any) -> Any:
        return 1 / 0

    failing = nn.GRUCell(3, 4, carry_init=divided, **INITS)
    with pytest.raises(ZeroDivisionError):
        failing.initial_carry(key=jax.random.key(0))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["all", "lengths"])
def test_an_unrolled_loop_gives_the_same(lengths: Any):
    """With several steps in a round."""
    given = None if lengths is None else jnp.asarray(lengths)
    layers = [nn.RNN(CELLS[0], unroll=count) for count in (1, 2)]
    assert [unrolled(gn.make_jaxpr(run)(layer, given).jaxpr) for layer in layers] == [[1], [2]]
    one, other = (gn.jit(run)(layer, given) for layer in layers)
    close(one, other)


def run(rnn: Any, lengths: Any) -> Any:
    return rnn(numbers(BATCH, TIME, 3), seq_lengths=lengths)


def unrolled(jaxpr: Any) -> list[int]:
    """How many steps a round has, of each loop."""
    found: list[int] = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            found.append(equation.params["unroll"])
        elif "jaxpr" in equation.params:
            found += unrolled(getattr(equation.params["jaxpr"], "jaxpr", equation.params["jaxpr"]))
    return found


REFUSED: dict[str, tuple[Any, str]] = {
    "no steps in a round": (
        lambda: nn.RNN(CELLS[0], unroll=0),
        "RNN.unroll: expected a positive integer; found 0",
    ),
    "lengths of another batch": (
        lambda: nn.RNN(CELLS[0])(PADDED, seq_lengths=jnp.asarray([1, 2])),
        "RNN: seq_lengths: expected the shape (3,) of the batch; found (2,)",
    ),
    "lengths that are no integers": (
        lambda: nn.RNN(CELLS[0])(PADDED, seq_lengths=jnp.ones(3)),
        'RNN: seq_lengths: expected dtype Integer of Integer[Array, "..."], found float32',
    ),
    "no time": (
        lambda: nn.RNN(CELLS[0], time_major=True)(jnp.ones(3)),
        "RNN: x: expected shape (time, ..., features); found (3,)",
    ),
    "a gate by name": (
        lambda: nn.LSTMCell(3, 4, gate_fn="sigmoid"),  # type: ignore[arg-type]  # pyright: ignore  # ty: ignore[invalid-argument-type]
        "LSTMCell.gate_fn: expected a function, such as jax.nn.relu; found 'sigmoid'",
    ),
    "a merge by name": (
        lambda: nn.Bidirectional(nn.RNN(CELLS[0]), nn.RNN(CELLS[1]), merge_fn="add"),  # type: ignore[arg-type]  # pyright: ignore  # ty: ignore[invalid-argument-type]
        "Bidirectional.merge_fn: expected a function, such as jax.nn.relu; found 'add'",
    ),
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("called", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(called: Any, text: str):
    """The layer, what would do, and what was found."""
    with pytest.raises(gn.ContractError) as caught:
        called()
    assert str(caught.value) == text
