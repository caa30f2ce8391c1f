"""Teach a recurrent network to go on with a wave that it heard the beginning of.

The cell holds its hidden state in a `HiddenState`, which every call writes. `gn.scan`
runs the network over time: the network is in the carry, and stays one object. First it
hears the wave; after that it hears its own predictions.

    python docs/examples/recurrent.py --help
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

import graphnode as gn

try:
    import optax
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from tqdm import tqdm
except ImportError as error:
    sys.exit(
        f"recurrent.py needs {error.name}, which is not installed: pip install 'graphnode[examples]'"
    )

# The mean square error, as a share of the waves' variance; above it the program fails
TARGET = 0.2
BATCH_SIZE = 64
LENGTH = 80
HEARD = 40
EVALUATE_EVERY = 50

Waves: TypeAlias = Float[Array, "time batch"]


# The model


class GRUCell(gn.nn.Module):
    """A gated recurrent unit, which remembers a row of numbers for each wave of a batch."""

    batch: int
    n_in: int
    size: int
    hidden: gn.HiddenState[Float[Array, "batch size"]] = gn.state(
        jax.nn.initializers.zeros
    )
    gates: gn.nn.Linear = gn.subnode(
        factory=lambda self: gn.nn.Linear(self.n_in + self.size, 2 * self.size)
    )
    candidate: gn.nn.Linear = gn.subnode(
        factory=lambda self: gn.nn.Linear(self.n_in + self.size, self.size)
    )

    def reset(self) -> None:
        """Forget what was heard."""
        self.hidden.value = jnp.zeros_like(self.hidden.value)

    def __call__(self, x: Float[Array, "batch n_in"]) -> Float[Array, "batch size"]:
        h = self.hidden.value
        gates = jax.nn.sigmoid(self.gates(jnp.concatenate([x, h], axis=-1)))
        update, forget = jnp.split(gates, 2, axis=-1)
        candidate = jnp.tanh(self.candidate(jnp.concatenate([x, forget * h], axis=-1)))
        self.hidden.value = (1 - update) * h + update * candidate
        return self.hidden.value


class Network(gn.nn.Module):
    """A recurrent cell, and what reads the next value of a wave from it."""

    batch: int
    size: int
    cell: GRUCell = gn.subnode(factory=lambda self: GRUCell(self.batch, 1, self.size))
    readout: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(self.size, 1))

    def __call__(self, x: Float[Array, "batch"]) -> Float[Array, "batch"]:
        """From the values of waves at one time to a prediction of the next ones."""
        return self.readout(self.cell(x[:, None]))[:, 0]


@gn.jit
def make_network(key: jax.Array) -> Network:
    with gn.random.scope(key):
        return Network(BATCH_SIZE, size=48)


# What the scan carries: the network, and its last prediction.
Carry: TypeAlias = tuple[Network, Float[Array, "batch"]]


def go_on(network: Network, waves: Waves) -> Waves:
    """What the network takes for the next value at each time; it hears the first `HEARD` values, then itself."""

    def at_one_time(
        carry: Carry, now: tuple[Float[Array, "batch"], Bool[Array, ""]]
    ) -> tuple[Carry, Float[Array, "batch"]]:
        network, guess = carry
        value, is_heard = now
        guess = network(jnp.where(is_heard, value, guess))
        return (network, guess), guess

    network.cell.reset()
    is_heard = jnp.arange(len(waves)) < HEARD
    _, guesses = gn.scan(
        at_one_time, (network, jnp.zeros_like(waves[0])), (waves, is_heard)
    )
    return guesses


# Training


def make_waves(key: jax.Array) -> Waves:
    """Sums of two sine waves, with periods from 10 to 40 steps; one value more than the network gets."""
    periods, phases, sizes = jax.random.uniform(key, (3, 2, BATCH_SIZE))
    time = jnp.arange(LENGTH + 1)[:, None, None]
    waves: Float[Array, "time waves batch"] = (0.5 + sizes / 2) * jnp.sin(
        2 * jnp.pi * (time / (10 + 30 * periods) + phases)
    )
    return waves.sum(axis=1)


def loss_of(network: Network, waves: Waves) -> Float[Array, ""]:
    return jnp.mean((go_on(network, waves[:-1]) - waves[1:]) ** 2)


@gn.jit(donate=True)
def step(
    network: Network, optimizer: gn.optim.Optimizer, rngs: gn.Rngs
) -> Float[Array, ""]:
    """A step of training on new waves, in place: the parameters, the optimizer's memory, the stream of keys."""
    loss, gradients = gn.value_and_grad(loss_of)(network, make_waves(rngs("waves")))
    optimizer.update(network, gradients)
    return loss


@gn.jit
def evaluate(network: Network, waves: Waves) -> tuple[Waves, Float[Array, ""]]:
    """The predictions, and the error of those that follow from predictions, as a share of the waves' variance."""
    guesses = go_on(network, waves[:-1])
    errors = (guesses - waves[1:])[HEARD:]
    return guesses, jnp.mean(errors**2) / jnp.var(waves)


@dataclass
class Result:
    """What one run measured, and the held-out waves with what the network makes of them at its end."""

    waves: np.ndarray
    guesses: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    losses: list[float] = field(default_factory=list)
    """By step."""
    errors: list[tuple[int, float]] = field(default_factory=list)
    """Of the held-out waves, with the number of steps before."""

    @property
    def error(self) -> float:
        """The last error."""
        return self.errors[-1][1]


def train(network: Network, options: argparse.Namespace) -> Result:
    """Train the network in place."""
    held_key, seen_key = jax.random.split(jax.random.key(options.seed))
    held, rngs = make_waves(held_key), gn.Rngs(waves=seen_key)
    schedule = optax.cosine_decay_schedule(1e-2, options.steps)
    optimizer = gn.optim.Optimizer(
        network, optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    )
    result = Result(np.asarray(held))
    with tqdm(
        total=options.steps,
        desc="Training",
        unit="step",
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        for done in range(1, options.steps + 1):
            result.losses.append(float(step(network, optimizer, rngs)))
            bar.set_postfix(loss=f"{result.losses[-1]:.4f}", refresh=False)
            bar.update()
            if done % EVALUATE_EVERY == 0 or done == options.steps:
                guesses, error = evaluate(network, held)
                result.guesses = np.asarray(guesses)
                result.errors.append((done, float(error)))
    return result


# The plot


def draw(result: Result) -> Figure:
    """Some held-out waves with what the network makes of them, and the learning curve."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    curve, *charts = figure.subplot_mosaic(
        [["curve", 0, 1], ["curve", 2, 3], ["curve", 4, 5]]
    ).values()
    draw_curve(curve, result)
    for number, axes in enumerate(charts):
        draw_wave(axes, result.waves[:, number], result.guesses[:, number])
    for axes in charts[-2:]:
        axes.set_xlabel("time")
    for axes in charts[::2]:
        axes.set_ylabel("value")
    charts[0].legend(frameon=False, fontsize="small", loc="lower left", ncols=2)
    return figure


def draw_curve(axes: Axes, result: Result) -> None:
    axes.semilogy(
        np.arange(1, len(result.losses) + 1),
        result.losses,
        color="tab:blue",
        alpha=0.4,
        label="loss of a step",
    )
    steps, errors = zip(*result.errors, strict=True)
    axes.semilogy(
        steps, errors, color="tab:green", marker=".", label="held-out waves, continued"
    )
    axes.axhline(
        TARGET, color="0.4", linestyle="--", linewidth=1, label=f"target {TARGET:g}"
    )
    axes.set(
        xlabel="step",
        ylabel="mean square error, and as a share of the variance",
        title="Learning curve",
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def draw_wave(axes: Axes, wave: np.ndarray, guesses: np.ndarray) -> None:
    times = np.arange(len(wave))
    axes.axvspan(0, HEARD, color="0.93", zorder=0)
    axes.plot(times, wave, color="0.3", linewidth=1.5, label="wave")
    axes.plot(
        times[1:],
        guesses,
        color="tab:orange",
        linewidth=1.5,
        linestyle="--",
        label="prediction",
    )
    error = np.mean((guesses - wave[1:])[HEARD:] ** 2)
    axes.set(xlim=(0, len(wave) - 1), ylim=(-2.6, 2.2))
    axes.set_title(
        f"heard (grey), then continued: error {error:.3f}", fontsize="medium"
    )


# The program


def positive(text: str) -> int:
    """What argparse reads a positive number with."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train a recurrent network to continue waves; report its error on waves that it did not train on, "
        f"as a share of their variance, and write a plot. Fails if the error is above {TARGET:g}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        default=Path("recurrent.png"),
        metavar="FILE",
        help="where the plot goes",
    )
    add("--steps", type=positive, default=1200, metavar="N", help="steps of training")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the parameters and the waves",
    )
    options = parser.parse_args(arguments)
    if not options.output.absolute().parent.is_dir():
        parser.error(
            f"argument --output: there is no directory {options.output.absolute().parent}"
        )
    return options


def run(options: argparse.Namespace) -> Result:
    """Build, train, report, draw."""
    network = make_network(jax.random.key(options.seed))
    count = sum(
        leaf.size for leaf in jax.tree.leaves(gn.treefy_states(network, gn.ParamState))
    )
    print(
        f"Data:  sums of two sine waves, of which {HEARD} values are heard and {LENGTH - HEARD} continued"
    )
    print(
        f"Model: {count:,} parameters, a hidden state of {network.size} numbers for each wave"
    )
    print(
        f"Plan:  {options.steps} steps on {BATCH_SIZE} new waves each, then a plot in {options.output}"
    )
    sys.stdout.flush()  # before the progress bar, which goes to stderr

    result = train(network, options)
    print(
        f"Held-out error: {result.error:.3f} of the variance, from step {HEARD} to {LENGTH}"
    )
    draw(result).savefig(options.output, dpi=110)
    print(f"Plot: {options.output}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    result = run(parse(arguments))
    if not result.error <= TARGET:
        print(
            f"recurrent.py: the held-out error is above {TARGET:g}; try more --steps",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
