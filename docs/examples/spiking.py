"""Simulate a balanced network of spiking neurons, and compare its firing rates with theory and with the literature.

The network is model A of Brunel (2000), "Dynamics of sparsely connected networks of
excitatory and inhibitory spiking neurons", J. Comput. Neurosci. 8, 183-208: 12,500
neurons with 15,625,000 connections. A YAML file, `spiking.yaml`, describes it. A
`Projection` refers to the populations before and after it, and a `Population` lists the
projections that end on it: shared references and cycles, which the graph keeps.
`gn.scan` steps the whole network through time.

    python docs/examples/spiking.py --help
"""

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

import graphnode as gn

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pydantic import Field
    from tqdm import tqdm
except ImportError as error:
    sys.exit(
        f"spiking.py needs {error.name}, which is not installed: pip install 'graphnode[examples]'"
    )

CONFIG = Path(__file__).with_suffix(".yaml")
# Hz, of the network in that file: simulated, and in theory (Brunel 2000, table 1, row
# C)
PUBLISHED = (37.7, 38.0)
# Of the rate in theory; if a measured rate is further away, the program fails
TOLERANCE = 0.05
# The coefficient of variation of the time between two spikes; below it the program
# fails
IRREGULAR = 0.3
SETTLING = 200.0  # ms that are not measured
STEPS_AT_ONCE = 500

# Which neurons of a population spike, at one time and over time.
Spikes: TypeAlias = Bool[Array, "size"]
Record: TypeAlias = dict[str, Bool[Array, "time size"]]


# The network


class Background(gn.nn.Module):
    """Spikes from outside of the network: through each synapse of each neuron a Poisson process of its own."""

    synapses: Annotated[int, Field(gt=0)]
    """On each neuron."""
    rate: Annotated[float, Field(gt=0)]
    """Spikes per second through each synapse."""
    jump: float
    """How far one spike moves the voltage, in mV."""

    def __call__(self, key: jax.Array, size: int, dt: float) -> Float[Array, "size"]:
        """How far the spikes of one time step move the voltages of `size` neurons."""
        # By the inverse of the distribution: with its few steps that is faster than
        # jax.random.poisson.
        cumulative = jnp.asarray(
            poisson_cdf(self.synapses * self.rate * dt / 1000), jnp.float32
        )
        counts = jnp.sum(jax.random.uniform(key, (size, 1)) >= cumulative, axis=1)
        return self.jump * counts.astype(jnp.float32)


def poisson_cdf(mean: float) -> np.ndarray:
    """The probabilities that a Poisson variable is at most 0, 1, 2, ..., up to what 32 bits tell from 1."""
    counts = range(round(mean + 6 * math.sqrt(mean) + 6))
    return np.cumsum(
        [
            math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
            for count in counts
        ]
    )


class Population(gn.nn.LIF):
    """Leaky integrate-and-fire neurons that hear the background, and the neurons of other populations."""

    _: KW_ONLY
    background: Background
    afferents: "list[Projection]" = gn.subnode(init=False)
    """The projections that end on these neurons; they add themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.afferents = []
        key, shape = gn.random.split_key(), (self.size,)
        self.voltage.value = jax.random.uniform(
            key, shape, minval=self.v_reset, maxval=self.v_threshold
        )

    def step(self, key: jax.Array) -> Spikes:
        """Integrate what arrives for one time step; return which neurons spike."""
        jump = self.background(key, self.size, self.dt)
        for projection in self.afferents:
            jump = jump + projection.arriving()
        return self(jump=jump) > 0


class Projection(gn.nn.Module):
    """Random connections from one population to another (or the same) one, through which spikes arrive after a delay.

    Each neuron after them has `indegree` connections, as in the paper. Here each neuron
    before them has equally many too, so that they make a table, with a row for each
    neuron before them.
    """

    before: Population
    after: Population
    indegree: Annotated[int, Field(gt=0)]
    """How many connections each neuron after them has."""
    jump: float
    """How far one spike moves the voltage, in mV."""
    delay: Annotated[float, Field(gt=0)]
    """In ms: a multiple of the time step."""
    targets: gn.LongTermState[Int[Array, "n_before outdegree"]] = gn.state(init=False)
    """For each neuron before, the neurons after that it is connected to."""
    underway: gn.ShortTermState[Bool[Array, "delay_steps n_before"]] = gn.state(
        init=False
    )
    """Which neurons spiked, for each time step of the delay."""
    slot: gn.ShortTermState[Int[Array, ""]] = gn.state(jax.nn.initializers.zeros)
    """The row of `underway` that arrives now, and that the next spikes go to."""

    def __post_init__(self) -> None:
        before, after, dt = self.before, self.after, self.after.dt
        if before.dt != dt:
            raise ValueError(
                f"the populations have two time steps: {before.dt} and {dt} ms"
            )
        steps = round(self.delay / dt)
        if steps < 1 or not math.isclose(steps * dt, self.delay):
            raise ValueError(
                f"delay: expected a multiple of the time step {dt} ms; found {self.delay}"
            )
        if self.indegree * after.size % before.size:
            raise ValueError(
                f"indegree: expected connections that {before.size} neurons can share; found {self.indegree} for each "
                f"of {after.size} neurons"
            )
        # `indegree` times all neurons after, each time in another order, dealt out to
        # the neurons before.
        order = jnp.argsort(
            jax.random.bits(gn.random.split_key(), (self.indegree, after.size)), axis=1
        )
        self.targets = gn.LongTermState(
            order.astype(jnp.int32).reshape(-1, before.size).T
        )
        self.underway = gn.ShortTermState(jnp.zeros((steps, before.size), bool))
        after.afferents.append(self)

    def arriving(self) -> Float[Array, "n_after"]:
        """How far the spikes that arrive now move the voltages."""
        spikes = self.underway.value[self.slot.value]
        # Only a few of a thousand neurons spike in a time step: a loop over them,
        # however many there are.
        neurons = jnp.flatnonzero(spikes, size=self.before.size)
        targets = self.targets.value

        def deliver(at: jax.Array, counts: jax.Array) -> jax.Array:
            return counts.at[targets[neurons[at]]].add(1.0)

        counts: Float[Array, "n_after"] = jax.lax.fori_loop(
            0, spikes.sum(), deliver, jnp.zeros(self.after.size)
        )
        return self.jump * counts

    def send(self) -> None:
        """Put the last spikes on their way."""
        spikes = self.before.spikes.value > 0
        self.underway.value = self.underway.value.at[self.slot.value].set(spikes)
        self.slot.value = (self.slot.value + 1) % len(self.underway.value)


class Network(gn.nn.Module):
    """Populations by name, and the projections between them."""

    populations: dict[str, Population]
    projections: list[Projection]
    rngs: gn.Rngs = gn.subnode(init=False)
    """With the stream "background"."""

    def __post_init__(self) -> None:
        self.rngs = gn.Rngs(background=gn.random.split_key())

    @property
    def dt(self) -> float:
        """The time step, in ms; projections see to it that all populations have the same."""
        return next(iter(self.populations.values())).dt

    def step(self) -> dict[str, Spikes]:
        """One time step of everything; which neurons spike, by population."""
        spikes = {
            name: population.step(self.rngs("background"))
            for name, population in self.populations.items()
        }
        for projection in self.projections:
            projection.send()
        return spikes


def make_network(seed: int, config: gn.config.Config[Network]) -> Network:
    """A network with new connections, drawn in one compiled function."""

    @gn.jit
    def draw(key: jax.Array) -> Network:
        return gn.config.build(config, key)

    return draw(jax.random.key(seed))


# Theory


def mean_field(network: Network) -> dict[str, float]:
    """The rates, in Hz, that keep themselves up: each population's input makes it spike as often as the others hear.

    What a neuron hears is taken for noise without memory, whose mean and variance
    follow from the rates of the populations before it (Brunel 2000, stationary states
    of model A).
    """
    rates = dict.fromkeys(network.populations.values(), 0.0)
    for _ in range(10_000):
        found = {
            population: rate_under_noise(population, rates) for population in rates
        }
        # A small part of the way: inhibition would make full steps go past the
        # solution, further each time.
        change = {
            population: 0.02 * (found[population] - rates[population])
            for population in rates
        }
        rates = {
            population: rates[population] + change[population] for population in rates
        }
        if max(map(abs, change.values())) < 1e-5:
            return {
                name: rates[population]
                for name, population in network.populations.items()
            }
    raise ArithmeticError("the mean-field equations have no solution that is found")


def rate_under_noise(population: Population, rates: dict[Population, float]) -> float:
    """The rate of a neuron, in Hz, for rates of all populations (Siegert 1951; Brunel 2000).

    `1 / rate = t_refractory + tau * sqrt(pi) * integral of exp(u**2) * (1 + erf(u))`,
    over `u` from the reset to the threshold, as distances from the mean of the input in
    units of its size.
    """
    background, tau = population.background, population.tau / 1000
    heard = [(background.synapses * background.rate, background.jump)]
    heard += [
        (one.indegree * rates[one.before], one.jump) for one in population.afferents
    ]
    mean = population.v_rest + tau * sum(rate * jump for rate, jump in heard)
    size = math.sqrt(tau * sum(rate * jump**2 for rate, jump in heard))
    low, high = (
        (population.v_reset - mean) / size,
        (population.v_threshold - mean) / size,
    )
    u = np.linspace(low, min(high, 20.0), 400)  # exp(20**2) seconds are for ever
    integrand = [
        math.exp(x * x) * math.erfc(-x) if x > -20 else 1 / (-x * math.sqrt(math.pi))
        for x in u
    ]
    return 1 / (
        population.t_refractory / 1000
        + tau * math.sqrt(math.pi) * float(np.trapezoid(integrand, u))
    )


# The simulation


@gn.jit(donate=True, static_argnames="steps")
def simulate(network: Network, steps: int) -> Record:
    """Let the network run on, in place; the connections, which no step writes, are constants of the loop."""

    def at_one_time(network: Network, _: None) -> tuple[Network, dict[str, Spikes]]:
        return network, network.step()

    return gn.scan(at_one_time, network, length=steps)[1]


@dataclass
class Events:
    """The spikes of one population."""

    size: int
    """Neurons of the population."""
    times: np.ndarray
    """The time step of each spike."""
    neurons: np.ndarray
    """The neuron of each spike."""

    @property
    def irregularity(self) -> np.ndarray:
        """Of neurons with four spikes or more, the coefficient of variation of the time between two."""
        order = np.lexsort((self.times, self.neurons))
        times, neurons = self.times[order], self.neurons[order]
        is_gap = neurons[1:] == neurons[:-1]
        gaps, owner = np.diff(times)[is_gap], neurons[1:][is_gap]
        count, total, squares = (
            np.bincount(owner, gaps**power, self.size) for power in (0, 1, 2)
        )
        enough = count >= 3
        mean = total[enough] / count[enough]
        return np.sqrt(np.maximum(squares[enough] / count[enough] - mean**2, 0)) / mean


@dataclass
class Result:
    """What one simulation showed, and what theory says."""

    events: dict[str, Events]
    """By population, without the time of settling."""
    theory: dict[str, float]
    """The rate of each population, in Hz, in the mean-field theory."""
    time: float
    """How long the spikes were counted, in ms."""
    dt: float
    """The time step, in ms."""

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per second and neuron."""
        return {
            name: 1000 * len(one.times) / one.size / self.time
            for name, one in self.events.items()
        }

    @property
    def irregularity(self) -> float:
        """The mean over the neurons: 0 for a clock, 1 for chance. NaN if unknown."""
        found = np.concatenate([one.irregularity for one in self.events.values()])
        return float(found.mean()) if len(found) else float("nan")

    def faults(self) -> list[str]:
        """What is not as it should be in the asynchronous irregular state."""
        faults = [
            f"the {name} neurons spike at {rate:.1f} Hz, not within {TOLERANCE:.0%} of {self.theory[name]:.1f} Hz"
            for name, rate in self.rates.items()
            if not abs(rate - self.theory[name]) <= TOLERANCE * self.theory[name]
        ]
        if not self.irregularity >= IRREGULAR:
            faults.append(
                f"the irregularity of the spikes is {self.irregularity:.2f}, not {IRREGULAR:g} or more"
            )
        return faults


def record(network: Network, steps: int, theory: dict[str, float]) -> Result:
    """Let the network run, and drop what it does while it settles."""
    dt, sizes = (
        network.dt,
        {name: population.size for name, population in network.populations.items()},
    )
    settling = min(round(SETTLING / dt), steps // 2)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in sizes}
    with tqdm(
        total=steps, desc="Simulating", unit="step", file=sys.stderr, dynamic_ncols=True
    ) as bar:
        while bar.n < steps:
            length = min(STEPS_AT_ONCE, steps - bar.n)
            for name, spikes in simulate(network, steps=length).items():
                # NumPy alone is much faster here
                times, neurons = np.nonzero(np.asarray(spikes))
                parts[name].append(np.stack([times + bar.n, neurons]))
            bar.update(length)
            counts = {
                name: sum(part.shape[1] for part in parts[name]) for name in sizes
            }
            so_far = {
                name: f"{1000 * counts[name] / (sizes[name] * bar.n * dt):.1f} Hz"
                for name in sizes
            }
            bar.set_postfix(so_far)
    events: dict[str, Events] = {}
    for name, size in sizes.items():
        times, neurons = np.concatenate(parts[name], axis=1)
        is_settled = times >= settling
        events[name] = Events(size, times[is_settled] - settling, neurons[is_settled])
    return Result(events, theory, time=(steps - settling) * dt, dt=dt)


# The plot

COLORS = ("tab:blue", "tab:red")


def draw(result: Result) -> Figure:
    """The spikes of some neurons, the rates over time beside the rate in theory, and how irregular the neurons are."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplot_mosaic(
        [["raster", "rates of each"], ["rates", "irregularity"]],
        height_ratios=(1.3, 1),
        width_ratios=(2.4, 1),
    )
    axes["rates"].sharex(axes["raster"])
    draw_raster(axes["raster"], result)
    draw_rates(axes["rates"], result)
    draw_rates_of_each(axes["rates of each"], result)
    draw_irregularity(axes["irregularity"], result)
    return figure


def draw_raster(
    axes: Axes, result: Result, shown: int = 60, window: float = 300.0
) -> None:
    total, first = sum(one.size for one in result.events.values()), 0
    for (name, one), color in zip(result.events.items(), itertools.cycle(COLORS)):
        count = max(1, round(shown * one.size / total))
        is_shown = one.neurons < count
        axes.scatter(
            one.times[is_shown] * result.dt,
            first + one.neurons[is_shown],
            s=14,
            marker="|",
            color=color,
        )
        axes.annotate(
            name,
            (1.01, (first + count / 2) / shown),
            xycoords="axes fraction",
            color=color,
            rotation=270,
            va="center",
        )
        first += count
    end = result.time
    axes.set(ylabel="neuron", xlim=(max(0.0, end - window), end), ylim=(-1, first))
    axes.set_title(f"Spikes of {first} of {total:,} neurons")
    axes.tick_params(labelbottom=False)


def draw_rates(axes: Axes, result: Result, width: float = 1.0) -> None:
    bins = max(1, round(result.time / width))
    for (name, one), color in zip(result.events.items(), itertools.cycle(COLORS)):
        counts, edges = np.histogram(one.times * result.dt, bins, (0.0, result.time))
        axes.stairs(
            1000 * counts / one.size / (edges[1] - edges[0]),
            edges,
            color=color,
            label=name,
        )
    for rate in sorted({round(rate, 1) for rate in result.theory.values()}):
        axes.axhline(rate, color="0.2", linestyle="--", label=f"theory, {rate:.1f} Hz")
    axes.set(
        xlabel="time (ms)",
        ylabel=f"rate in {width:g} ms (Hz)",
        ylim=(0, 1.15 * axes.dataLim.ymax),
    )
    axes.set_title(f"On average: {in_words(result.rates)}")
    axes.legend(frameon=False, loc="upper left", ncols=3)
    axes.grid(alpha=0.3)


def draw_rates_of_each(axes: Axes, result: Result) -> None:
    for (_, one), color in zip(result.events.items(), itertools.cycle(COLORS)):
        counts = np.bincount(one.neurons, minlength=one.size)
        found, neurons = np.unique(counts, return_counts=True)
        axes.plot(
            1000 * found / result.time, neurons / one.size, color=color, marker="."
        )
    axes.set(
        xlabel="rate of one neuron (Hz)",
        ylabel="share of the neurons",
        title="Rates",
        ylim=(0, None),
    )


def draw_irregularity(axes: Axes, result: Result) -> None:
    for (_, one), color in zip(result.events.items(), itertools.cycle(COLORS)):
        found = one.irregularity
        axes.hist(
            found,
            50,
            range=(0.0, 1.0),
            weights=np.full(len(found), 1 / one.size),
            histtype="step",
            color=color,
        )
    axes.axvline(
        result.irregularity,
        color="0.2",
        linestyle=":",
        label=f"mean, {result.irregularity:.2f}",
    )
    axes.set(
        xlabel="variation of the time between spikes",
        ylabel="share of the neurons",
        title="Irregularity",
    )
    axes.legend(frameon=False)


# The program


def positive(text: str) -> int:
    """What argparse reads a positive number with."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def config_file(text: str) -> gn.config.Config[Network]:
    """The network that a file describes, for argparse."""
    try:
        return gn.config.load(text, Network)
    except gn.ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Simulate a network of excitatory and inhibitory spiking neurons (Brunel 2000); report how often "
        "they spike beside what theory says, and how regularly, and write a plot. Fails if a rate is more than "
        f"{TOLERANCE:.0%} away from theory, or if the neurons are too regular.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--config",
        type=config_file,
        default=str(CONFIG),
        metavar="FILE",
        help="the YAML file of the network",
    )
    add(
        "--output",
        type=Path,
        default=Path("spiking.png"),
        metavar="FILE",
        help="where the plot goes",
    )
    add(
        "--steps",
        type=positive,
        default=20_000,
        metavar="N",
        help="time steps to simulate",
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the connections and the background",
    )
    options = parser.parse_args(arguments)
    if not options.output.absolute().parent.is_dir():
        parser.error(
            f"argument --output: there is no directory {options.output.absolute().parent}"
        )
    return options


def run(options: argparse.Namespace) -> Result:
    """Build, simulate, report, draw."""
    network = make_network(options.seed, options.config)
    theory = mean_field(network)
    sizes = " and ".join(
        f"{one.size:,} {name}" for name, one in network.populations.items()
    )
    count = sum(one.targets.value.size for one in network.projections)
    print(
        f"Model: {sizes} neurons, {len(network.projections)} projections with {count:,} connections"
    )
    print(
        f"Plan:  {options.steps} steps, {options.steps * network.dt:g} ms, then a plot in {options.output}"
    )
    sys.stdout.flush()  # before the progress bar, which goes to stderr

    result = record(network, options.steps, theory)
    print("Rates measured:       " + in_words(result.rates))
    print("Rates in theory:      " + in_words(theory))
    if not gn.config.diff(options.config, gn.config.load(CONFIG, Network)):
        print(
            "Rates in Brunel 2000: {:.1f} Hz simulated, {:.1f} Hz in theory".format(
                *PUBLISHED
            )
        )
    print(f"Irregularity: {result.irregularity:.2f} (0 for a clock, 1 for chance)")
    draw(result).savefig(options.output, dpi=110)
    print(f"Plot: {options.output}")
    return result


def in_words(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:.1f} Hz" for name, rate in rates.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    faults = run(parse(arguments)).faults()
    for fault in faults:
        print(f"spiking.py: {fault}; try more --steps", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
