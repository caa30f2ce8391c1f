"""Simulate a network of spiking neurons, in which synapses refer to populations and populations to synapses.

Excitatory and inhibitory leaky integrate-and-fire neurons are wired at random and driven by a noisy background. A
`Synapse` refers to the populations before and after it, and a `Population` lists the synapses that end on it: shared
references and cycles, which the graph keeps. `gn.scan` steps the whole network through time.

    python docs/examples/spiking.py --help
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

import graphnode as gn

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from tqdm import tqdm
except ImportError as error:
    sys.exit(f"spiking.py needs {error.name}, which is not installed: pip install 'graphnode[examples]'")

PLAUSIBLE = (1.0, 30.0)  # spikes per second and neuron; outside of this range the program fails
IRREGULAR = 0.5  # the coefficient of variation of the time between two spikes; below it the program fails
TIME_STEP = 0.2  # ms
STEPS_AT_ONCE = 250
SETTLING = 100.0  # ms that are not measured

# What a simulation records: for each population by name, whether each of its neurons spiked, step by step.
Spikes: TypeAlias = Bool[Array, "size"]
Record: TypeAlias = dict[str, Bool[Array, "time size"]]


# The network


class Population(gn.nn.Module):
    """Leaky integrate-and-fire neurons. Voltages are in mV above rest, times in ms."""

    size: int
    drive: float
    """What the background alone would take the voltage to, on average."""
    noise: float = 7.0
    """How much the background alone would make the voltage fluctuate."""
    threshold: float = 20.0
    leak: float = 20.0
    refractory: float = 2.0
    voltage: gn.ShortTermState[Float[Array, "size"]] = gn.state(jax.nn.initializers.uniform(20.0))
    resting: gn.ShortTermState[Float[Array, "size"]] = gn.state(jax.nn.initializers.zeros)
    """How long each neuron still rests after its last spike."""
    spikes: gn.ShortTermState[Bool[Array, "size"]] = gn.state(jax.nn.initializers.zeros)
    afferents: "list[Synapse]" = gn.subnode(default_factory=list)
    """The synapses that end on these neurons."""

    def step(self, key: jax.Array) -> Spikes:
        """Integrate what arrives for one time step; return which neurons spike."""
        arriving = sum((synapse.current.value for synapse in self.afferents), jnp.zeros(self.size))
        decay = jnp.exp(-TIME_STEP / self.leak)
        background = self.noise * jnp.sqrt(1 - decay**2) * jax.random.normal(key, (self.size,))
        voltage = decay * self.voltage.value + (1 - decay) * (self.drive + arriving) + background
        is_resting = self.resting.value > 0
        voltage = jnp.where(is_resting, 0.0, voltage)
        spikes = voltage >= self.threshold
        self.voltage.value = jnp.where(spikes, 0.0, voltage)
        self.resting.value = jnp.where(spikes, self.refractory, self.resting.value - TIME_STEP)
        self.spikes.value = spikes
        return spikes


class Synapse(gn.nn.Module):
    """Random connections from one population to another (or the same) one, with decaying currents."""

    before: Population
    after: Population
    strength: float
    """Of one connection, in mV: how far one spike moves the voltage, about."""
    density: float = 0.1
    """The share of all pairs of neurons that are connected."""
    decay: float = 5.0
    weight: gn.LongTermState[Float[Array, "n_before n_after"]] = gn.state(init=False)
    current: gn.ShortTermState[Float[Array, "n_after"]] = gn.state(init=False)

    def __post_init__(self) -> None:
        shape = (self.before.size, self.after.size)
        is_connected = jax.random.bernoulli(gn.random.split_key(), self.density, shape)
        self.weight = gn.LongTermState(self.strength * self.after.leak / self.decay * is_connected)
        self.current = gn.ShortTermState(jnp.zeros(shape[1]))
        self.after.afferents.append(self)

    def step(self) -> None:
        """Let the last spikes arrive, and the currents of earlier ones decay."""
        arriving = self.before.spikes.value.astype(jnp.float32) @ self.weight.value
        self.current.value = jnp.exp(-TIME_STEP / self.decay) * self.current.value + arriving


class Network(gn.nn.Module):
    """Populations by name; their synapses are found through them."""

    populations: dict[str, Population]
    rngs: gn.Rngs
    """With the stream "background"."""

    def step(self) -> dict[str, Spikes]:
        """One time step of everything; which neurons spike, by population."""
        for population in self.populations.values():
            for synapse in population.afferents:
                synapse.step()
        return {name: population.step(self.rngs("background")) for name, population in self.populations.items()}


@gn.jit
def make_network(key: jax.Array) -> Network:
    """Four excitatory neurons for each inhibitory one, whose connections are stronger."""
    build, run = jax.random.split(key)
    with gn.random.scope(build):
        excitatory, inhibitory = Population(800, drive=14.0), Population(200, drive=13.0)
        for before, strength in ((excitatory, 0.4), (inhibitory, -2.4)):
            for after in (excitatory, inhibitory):
                Synapse(before, after, strength)
    return Network({"excitatory": excitatory, "inhibitory": inhibitory}, gn.Rngs(background=run))


# The simulation


@gn.jit(donate=True, static_argnames="steps")
def simulate(network: Network, steps: int) -> Record:
    """Let the network run on, in place; the weights, which no step writes, are constants of the loop."""

    def at_one_time(network: Network, _: None) -> tuple[Network, dict[str, Spikes]]:
        return network, network.step()

    return gn.scan(at_one_time, network, length=steps)[1]


@dataclass
class Result:
    """What one simulation showed, by population."""

    spikes: dict[str, np.ndarray]
    """Of shape `[time, size]`, without the time of settling."""

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per second and neuron."""
        return {name: float(spikes.mean()) * 1000 / TIME_STEP for name, spikes in self.spikes.items()}

    @property
    def irregularity(self) -> float:
        """The coefficient of variation of the time between two spikes: 0 for a clock, 1 for chance. NaN if unknown."""
        found: list[float] = []
        for spikes in self.spikes.values():
            gaps = [np.diff(np.flatnonzero(row)) for row in spikes.T]
            found += [row.std() / row.mean() for row in gaps if len(row) >= 3]
        return float(np.mean(found)) if found else float("nan")

    def faults(self) -> list[str]:
        """What is not as in a living network."""
        low, high = PLAUSIBLE
        faults = [
            f"the {name} neurons spike at {rate:.1f} Hz, not between {low:g} and {high:g}"
            for name, rate in self.rates.items()
            if not low <= rate <= high
        ]
        if not self.irregularity >= IRREGULAR:
            faults.append(f"the irregularity of the spikes is {self.irregularity:.2f}, not {IRREGULAR:g} or more")
        return faults


def record(network: Network, steps: int) -> Result:
    """Let the network run, and drop what it does while it settles."""
    parts: list[dict[str, np.ndarray]] = []
    settling = min(round(SETTLING / TIME_STEP), steps // 2)
    with tqdm(total=steps, desc="Simulating", unit="step", file=sys.stderr, dynamic_ncols=True) as bar:
        while bar.n < steps:
            part = jax.tree.map(np.asarray, simulate(network, steps=min(STEPS_AT_ONCE, steps - bar.n)))
            parts.append(part)
            shown = {name: f"{spikes.mean() * 1000 / TIME_STEP:.1f} Hz" for name, spikes in part.items()}
            bar.set_postfix(shown, refresh=False)
            bar.update(len(part["excitatory"]))
    return Result({name: np.concatenate([part[name] for part in parts])[settling:] for name in parts[0]})


# The plot

COLORS = {"excitatory": "tab:blue", "inhibitory": "tab:red"}


def draw(result: Result) -> Figure:
    """Every fourth neuron's spikes, the rates over time, and how the rates are spread over the neurons."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    raster, rates, spread = figure.subplot_mosaic(
        [["raster", "raster"], ["rates", "spread"]], height_ratios=(1.6, 1), width_ratios=(2.2, 1)
    ).values()
    draw_raster(raster, result)
    draw_rates(rates, result)
    for name, spikes in result.spikes.items():
        rates_of_each, counts = np.unique(spikes.mean(axis=0) * 1000 / TIME_STEP, return_counts=True)
        spread.plot(rates_of_each, counts / counts.sum(), color=COLORS[name], marker=".", label=name)
    spread.set(
        xlabel="rate of one neuron (Hz)", ylabel="share of the neurons", ylim=(0, None), title="Rates of the neurons"
    )
    spread.legend(frameon=False)
    return figure


def draw_raster(axes: Axes, result: Result, every: int = 4) -> None:
    first = 0
    for name, spikes in result.spikes.items():
        times, neurons = np.nonzero(spikes[:, ::every])
        axes.scatter(times * TIME_STEP, first + neurons, s=8, marker="|", color=COLORS[name], linewidths=1)
        first += spikes[:, ::every].shape[1]
    time = len(next(iter(result.spikes.values()))) * TIME_STEP
    axes.set(ylabel=f"neuron (one of {every})", xlim=(0, time), ylim=(-1, first), xlabel="time (ms)")
    axes.set_title(f"Spikes: {', '.join(f'{name} {rate:.1f} Hz' for name, rate in result.rates.items())}")


def draw_rates(axes: Axes, result: Result, width: float = 5.0) -> None:
    window = max(1, round(width / TIME_STEP))
    for name, spikes in result.spikes.items():
        rate = np.convolve(spikes.mean(axis=1) * 1000 / TIME_STEP, np.full(window, 1 / window), mode="same")
        axes.plot(np.arange(len(rate)) * TIME_STEP, rate, color=COLORS[name], linewidth=1, label=name)
    axes.set(xlabel="time (ms)", ylabel="rate (Hz)", title=f"Rates of the populations (mean of {width:g} ms)")
    axes.set(xlim=axes.dataLim.intervalx, ylim=(0, None))
    axes.legend(frameon=False, ncols=2)
    axes.grid(alpha=0.3)


# The program


def positive(text: str) -> int:
    """What argparse reads a positive number with."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    low, high = PLAUSIBLE
    parser = argparse.ArgumentParser(
        description="Simulate excitatory and inhibitory spiking neurons; report how often and how regularly they "
        f"spike, and write a plot. Fails if a rate is not between {low:g} and {high:g} Hz, or if they are too regular.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("spiking.png"), metavar="FILE", help="where the plot goes")
    add("--steps", type=positive, default=5000, metavar="N", help=f"steps of {TIME_STEP:g} ms")
    add("--seed", type=int, default=0, metavar="N", help="seed of the connections and the background")
    options = parser.parse_args(arguments)
    if not options.output.absolute().parent.is_dir():
        parser.error(f"argument --output: there is no directory {options.output.absolute().parent}")
    return options


def run(options: argparse.Namespace) -> Result:
    """Build, simulate, report, draw."""
    network = make_network(jax.random.key(options.seed))
    synapses = gn.nodes(network, Synapse)
    connections = sum(int(jnp.count_nonzero(synapse.weight.value)) for synapse in synapses.values())
    sizes = " and ".join(f"{one.size} {name}" for name, one in network.populations.items())
    print(f"Model: {sizes} neurons, {len(synapses)} synapse nodes with {connections:,} connections")
    print(f"Plan:  {options.steps} steps, {options.steps * TIME_STEP:g} ms, then a plot in {options.output}")
    sys.stdout.flush()  # before the progress bar, which goes to stderr

    result = record(network, options.steps)
    print("Rates: " + ", ".join(f"{name} {rate:.1f} Hz" for name, rate in result.rates.items()))
    print(f"Irregularity: {result.irregularity:.2f} (0 for a clock, 1 for chance)")
    draw(result).savefig(options.output, dpi=110)
    print(f"Plot: {options.output}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    faults = run(parse(arguments)).faults()
    for fault in faults:
        print(f"spiking.py: {fault}; try more --steps", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
