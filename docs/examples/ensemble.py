"""Fit an ensemble of networks to noisy points, and tell where it does not know.

`gn.vmap(build)(keys)` makes all members as one node, whose States have one more axis.
The training step is written for one member; `gn.vmap` runs it for all, `gn.scan` many
times in a row, and `gn.jit` compiles that. Each member draws batches from a stream of
its own.

    python docs/examples/ensemble.py --help
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import graphnode as gn

try:
    import optax
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from tqdm import tqdm
except ImportError as error:
    sys.exit(
        f"ensemble.py needs {error.name}, which is not installed: pip install 'graphnode[examples]'"
    )

# The share of new points that lie in the 95 % band; outside of this range the program
# fails
COVERED = (0.85, 0.98)
# How much more the members disagree where there are no points; below it the program
# fails
DOUBT = 3.0
GAP = (-1.0, 1.5)  # there are no points to train on between these
RANGE = (-4.0, 4.0)
BATCH_SIZE = 32
STEPS_AT_ONCE = 50
MEMBERS = 16

Points: TypeAlias = Float[Array, "batch"]


# The model


class Member(gn.nn.Module):
    """A network that predicts the mean of the points at a place, and their deviation from it."""

    width: int
    first: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(1, self.width))
    second: gn.nn.Linear = gn.subnode(
        factory=lambda self: gn.nn.Linear(self.width, self.width)
    )
    head: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(self.width, 2))

    def __call__(self, x: Points) -> tuple[Points, Points]:
        h = jnp.tanh(self.first(x[:, None]))
        mean, scale = jnp.moveaxis(self.head(jnp.tanh(self.second(h))), -1, 0)
        return mean, jax.nn.softplus(scale) + 1e-2


def build(key: jax.Array) -> Member:
    """One member with parameters of its own."""
    with gn.random.scope(key):
        return Member(32)


# The data


@dataclass(frozen=True)
class Data:
    """Points on a plane."""

    x: Points
    y: Points


def truth(x: Points) -> tuple[Points, Points]:
    """The mean of the points at a place, and their deviation, which grows to the right."""
    deviation: Points = 0.05 + 0.3 * jax.nn.sigmoid(x)
    return jnp.sin(1.5 * x) + 0.2 * x, deviation


def make_data(key: jax.Array, count: int) -> Data:
    """Points on both sides of the gap."""
    left, right = GAP[0] - RANGE[0], RANGE[1] - GAP[1]
    x = RANGE[0] + jax.random.uniform(key, (count,), maxval=left + right)
    x = jnp.where(x < GAP[0], x, x + GAP[1] - GAP[0])
    mean, deviation = truth(x)
    return Data(
        x, mean + deviation * jax.random.normal(jax.random.fold_in(key, 1), (count,))
    )


# Training


def train_member(
    member: Member, optimizer: gn.optim.Optimizer, rngs: gn.Rngs, x: Points, y: Points
) -> Float[Array, ""]:
    """A step of training for one member, in place; it knows nothing of the others."""
    rows = jax.random.randint(rngs("batches"), (BATCH_SIZE,), 0, len(x))

    def loss_of(member: Member) -> Float[Array, ""]:
        mean, deviation = member(x[rows])
        return -jnp.mean(jax.scipy.stats.norm.logpdf(y[rows], mean, deviation))

    loss, gradients = gn.value_and_grad(loss_of)(member)
    optimizer.update(member, gradients)
    return loss


# What a round of training changes: the members, their optimizers, and the stream that
# theirs are forked from.
Ensemble: TypeAlias = tuple[Member, gn.optim.Optimizer, gn.Rngs]


@gn.jit(donate=True, static_argnames="steps")
def train_all(
    ensemble: Ensemble, x: Points, y: Points, steps: int
) -> Float[Array, "steps members"]:
    """Some steps of training for all members, in place; the losses."""
    train_each = gn.vmap(train_member, in_axes=(0, 0, 0, None, None))

    def step(ensemble: Ensemble, _: None) -> tuple[Ensemble, Float[Array, "members"]]:
        return ensemble, train_each(*ensemble, x, y)

    return gn.scan(step, ensemble, length=steps)[1]


class Band(NamedTuple):
    """What the members predict at some places, taken together."""

    mean: Points
    noise: Points
    """The deviation of points that the members expect: it stays, however many points there are."""
    doubt: Points
    """The deviation of the members' means from each other: it is for want of points."""

    @property
    def deviation(self) -> Points:
        """Of both."""
        return jnp.hypot(self.noise, self.doubt)


@gn.jit
def predict(members: Member, x: Points) -> Band:
    means, deviations = gn.vmap(lambda member: member(x))(members)
    return Band(
        means.mean(axis=0), jnp.sqrt(jnp.mean(deviations**2, axis=0)), means.std(axis=0)
    )


@dataclass
class Result:
    """What one run measured."""

    losses: np.ndarray
    """By step and member."""
    covered: float
    """The share of new points that lie in the 95 % band."""
    doubt: float
    """How much more the members disagree in the gap than outside of it, in the mean."""

    def faults(self) -> list[str]:
        """What misses its target."""
        low, high = COVERED
        faults: list[str] = []
        if not low <= self.covered <= high:
            faults.append(
                f"the 95% band holds {self.covered:.1%} of new points, not {low:.0%} to {high:.0%}"
            )
        if not self.doubt >= DOUBT:
            faults.append(
                f"the members disagree in the gap {self.doubt:.1f} times as much as elsewhere, not {DOUBT:g}"
            )
        return faults


def train(members: Member, data: Data, key: jax.Array, steps: int) -> np.ndarray:
    """Train all members in place; the losses, by step and member."""
    # One transformation for all: an optimizer compares it by identity.
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    optimizers = gn.vmap(lambda member: gn.optim.Optimizer(member, adam))(members)
    ensemble, losses = (
        (members, optimizers, gn.Rngs(batches=key)),
        [np.zeros((0, MEMBERS))],
    )
    with tqdm(
        total=steps, desc="Training", unit="step", file=sys.stderr, dynamic_ncols=True
    ) as bar:
        while bar.n < steps:
            losses.append(
                np.asarray(
                    train_all(
                        ensemble,
                        data.x,
                        data.y,
                        steps=min(STEPS_AT_ONCE, steps - bar.n),
                    )
                )
            )
            bar.set_postfix(loss=f"{losses[-1].mean():.4f}", refresh=False)
            bar.update(len(losses[-1]))
    return np.concatenate(losses)


def measure(members: Member, new: Data, losses: np.ndarray) -> Result:
    """Hold the members to points that they were not trained on, and to places without any."""
    band = predict(members, new.x)
    covered = jnp.abs(new.y - band.mean) < 1.96 * band.deviation
    in_gap = predict(members, jnp.linspace(*GAP, 100))
    return Result(
        losses, float(covered.mean()), float(in_gap.doubt.mean() / band.doubt.mean())
    )


# The plot


def draw(result: Result, members: Member, data: Data) -> Figure:
    """The points with the ensemble's band, where its uncertainty comes from, and the learning curves."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplot_mosaic(
        [["band", "band"], ["parts", "losses"]], height_ratios=(1.5, 1)
    )
    x = jnp.linspace(RANGE[0] - 0.5, RANGE[1] + 0.5, 400)
    band = predict(members, x)
    draw_band(axes["band"], band, x, data)
    parts = axes["parts"]
    parts.plot(x, band.noise, color="tab:green", label="noise, as predicted")
    parts.plot(
        x, truth(x)[1], color="tab:green", linestyle=":", label="noise, in truth"
    )
    parts.plot(x, band.doubt, color="tab:orange", label="disagreement of the members")
    parts.axvspan(*GAP, color="0.93", zorder=0)
    parts.set(
        xlabel="x",
        ylabel="deviation",
        ylim=(0, None),
        title="Where the uncertainty comes from",
    )
    losses = axes["losses"]
    losses.plot(result.losses, color="tab:blue", alpha=0.15, linewidth=0.5)
    losses.plot(
        result.losses.mean(axis=1), color="tab:blue", label=f"mean of {MEMBERS} members"
    )
    losses.set(xlabel="step", ylabel="negative log-likelihood", title="Learning curves")
    losses.set_ylim(result.losses.min(), np.quantile(result.losses, 0.995))
    parts.legend(frameon=False, fontsize="small", loc="upper left")
    losses.legend(frameon=False)
    for one in (parts, losses):
        one.grid(alpha=0.3)
    return figure


def draw_band(axes: Axes, band: Band, x: Points, data: Data) -> None:
    for part, alpha, label in (
        (band.deviation, 0.15, "95% band"),
        (band.doubt, 0.35, "of it, disagreement"),
    ):
        axes.fill_between(
            x,
            band.mean - 1.96 * part,
            band.mean + 1.96 * part,
            color="tab:orange",
            alpha=alpha,
            label=label,
            linewidth=0,
        )
    axes.plot(x, truth(x)[0], color="0.3", linestyle=":", label="truth")
    axes.plot(x, band.mean, color="tab:orange", label="mean of the members")
    axes.scatter(
        data.x,
        data.y,
        s=8,
        color="tab:blue",
        label=f"{len(data.x)} points to train on",
        zorder=3,
    )
    axes.set(
        xlabel="x",
        ylabel="y",
        xlim=(x[0], x[-1]),
        title="The band widens where there are no points",
    )
    axes.legend(frameon=False, ncols=2, loc="upper left")
    axes.grid(alpha=0.3)


# The program


def positive(text: str) -> int:
    """What argparse reads a positive number with."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    low, high = COVERED
    parser = argparse.ArgumentParser(
        description="Fit an ensemble of networks to noisy points; report how many new points its 95% band holds, and "
        "how much more its members disagree where there are none; write a plot. Fails if the band holds less than "
        f"{low:.0%} or more than {high:.0%} of them, or the members disagree less than {DOUBT:g} times as much.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        default=Path("ensemble.png"),
        metavar="FILE",
        help="where the plot goes",
    )
    add("--steps", type=positive, default=2000, metavar="N", help="steps of training")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the points, the parameters and the batches",
    )
    options = parser.parse_args(arguments)
    if not options.output.absolute().parent.is_dir():
        parser.error(
            f"argument --output: there is no directory {options.output.absolute().parent}"
        )
    return options


def run(options: argparse.Namespace) -> Result:
    """Build, train, report, draw."""
    for_data, for_new, for_members, for_batches = jax.random.split(
        jax.random.key(options.seed), 4
    )
    data, new = make_data(for_data, 200), make_data(for_new, 2000)
    members = gn.jit(gn.vmap(build))(jax.random.split(for_members, MEMBERS))
    count = sum(leaf.size for leaf in jax.tree.leaves(gn.treefy_states(members)))
    print(
        f"Data:  {len(data.x)} points to train on, {len(new.x)} new ones; none from {GAP[0]:g} to {GAP[1]:g}"
    )
    print(f"Model: {MEMBERS} members of {count // MEMBERS:,} parameters")
    print(
        f"Plan:  {options.steps} steps of Adam on batches of {BATCH_SIZE}, then a plot in {options.output}"
    )
    sys.stdout.flush()  # before the progress bar, which goes to stderr

    result = measure(members, new, train(members, data, for_batches, options.steps))
    print(f"New points in the 95% band: {result.covered:.1%}")
    print(f"Disagreement in the gap: {result.doubt:.1f} times that outside")
    draw(result, members, data).savefig(options.output, dpi=110)
    print(f"Plot: {options.output}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    faults = run(parse(arguments)).faults()
    for fault in faults:
        print(f"ensemble.py: {fault}; try more --steps", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
