"""The complete programs of docs/examples run, report what they do, and reach what they promise."""

import argparse
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from tests.example_programs import EXAMPLES, load
from tests.example_programs import as_a_reader_has_it as as_a_reader_has_it

PROGRAMS = ("digits", "distillation", "recurrent", "ensemble", "spiking")
PNG = b"\x89PNG\r\n"


@pytest.fixture
def digits() -> ModuleType:
    return load("digits")


@pytest.fixture
def distillation() -> ModuleType:
    return load("distillation")


@pytest.fixture
def recurrent() -> ModuleType:
    return load("recurrent")


@pytest.fixture
def ensemble() -> ModuleType:
    return load("ensemble")


@pytest.fixture
def spiking() -> ModuleType:
    return load("spiking")


def options(program: ModuleType, *arguments: str) -> argparse.Namespace:
    parsed: argparse.Namespace = program.parse(arguments)
    return parsed


def changed(steps: int) -> tuple[str, str]:
    """The changes that make the run of the digits one of another length."""
    return f"steps={steps}", f"optimizer.tx.learning_rate.decay_steps={steps}"


@pytest.mark.slow
def test_default_run_reaches_the_target(digits: ModuleType, tmp_path: Path):
    """With its defaults the program recognises 98 % or more, and succeeds."""
    assert digits.main(["--output", str(tmp_path / "plot.png")]) == 0


def test_short_run_reports_and_draws(digits: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The program says what it will do, shows its progress, and learns within a few steps."""
    output = tmp_path / "plot.png"
    result = digits.run(options(digits, *changed(60), "--output", str(output)))
    printed = capsys.readouterr()

    right = round(result.accuracy * 450)
    assert printed.out.splitlines() == [
        f"Train a convolutional classifier of handwritten digits, and plot what it learns in {output}",
        "Data:  1347 images of 8 by 8 pixels to train on, 450 held out",
        "Model: 65,642 parameters in 10 States, and 2 States of statistics",
        "Plan:  60 steps on batches of 64; above 98% is a success",
        f"Held-out accuracy: {result.accuracy:.2%} ({right} of 450)",
        f"Plot: {output}",
    ]
    assert "60/60" in printed.err  # the progress bar
    assert "loss=" in printed.err
    assert output.read_bytes().startswith(PNG)
    assert len(result.losses) == 60
    assert [done for done, _ in result.accuracies] == list(range(20, 61, 20))
    assert result.accuracy >= 0.8


@pytest.mark.slow
def test_training_changes_the_model_given(digits: ModuleType):
    """Training writes the parameters into the caller's model; the accuracy is that of this model."""
    seen, held = digits.load()
    training = digits.make_training(options(digits, *changed(3)).training)
    model = training.model
    model.standardize.measure(seen.images)
    before, statistics = gn.treefy_states(model, gn.ParamState, gn.BatchState)
    result = digits.train(training, seen, held)

    after, untrained = gn.treefy_states(model, gn.ParamState, gn.BatchState)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert not np.array_equal(old, new)
    for old, new in zip(jax.tree.leaves(statistics), jax.tree.leaves(untrained), strict=True):
        assert np.array_equal(old, new)
    predictions = jnp.argmax(model(held.images), axis=-1)
    right = sum(int(found) == int(label) for found, label in zip(predictions, held.labels, strict=True))
    assert result.accuracies == [(3, pytest.approx(right / 450))]
    assert np.array_equal(predictions, result.predictions)


@pytest.mark.slow
def test_no_held_out_image_is_trained_on(digits: ModuleType):
    """The two parts are disjoint, cover all 1797 images, and hold equal shares of each digit."""
    from sklearn.datasets import load_digits

    seen, held = digits.load()
    images = sorted(np.asarray(image).tobytes() for part in (seen, held) for image in part.images[..., 0])
    data: Any = load_digits()
    every = sorted((image / 16).astype(np.float32).tobytes() for image in data.images)
    assert images == every
    shares = np.bincount(held.labels) / (np.bincount(seen.labels) + np.bincount(held.labels))
    assert np.all(np.abs(shares - 0.25) < 0.01)


def test_low_accuracy_is_a_failure(
    digits: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The program fails, with a message, below its target and not at it."""
    for accuracy, status in ((0.98, 0), (0.9799, 1)):
        monkeypatch.setattr(digits, "run", lambda _, reached=accuracy: digits.Result(accuracies=[(1, reached)]))
        assert digits.main([]) == status
    message = "digits.py: the held-out accuracy is below 98%; try more steps"
    assert capsys.readouterr().err.splitlines() == [message]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        *[
            (name, ["--output", "/no/such/plot.png"], "argument --output: there is no directory /no/such")
            for name in PROGRAMS
        ],
        *[
            (name, ["--steps", "0"], r"argument --steps: invalid positive( int)? value: '0'")
            for name in PROGRAMS
            if name != "digits"
        ],
        ("digits", ["steps=0"], "error: steps: Input should be greater than 0, found int 0"),
        ("digits", ["optimizer.tx.learning_rate=fast"], "tx: adam: learning_rate: .*, found 'fast'"),
        ("digits", ["--config", "/no/such.yaml"], "/no/such.yaml.*"),
    ],
)
def test_bad_option_is_refused(name: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    """An option that cannot work ends the program before it begins, and says which."""
    with pytest.raises(SystemExit) as caught:
        load(name).parse(arguments)
    assert caught.value.code == 2
    assert re.search(f"{message}$", capsys.readouterr().err.splitlines()[-1])


def test_batch_larger_than_the_data_is_refused(digits: ModuleType):
    """A batch cannot have more images than there are to train on."""
    with pytest.raises(SystemExit) as caught:
        digits.run(options(digits, "batch_size=1348"))
    assert caught.value.code == "digits.py: batch_size is at most 1347, the number of images to train on"


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("digits", ("digits.png",)),
        ("distillation", ("distillation.png", "400", "0")),
        ("recurrent", ("recurrent.png", "1200", "0")),
        ("ensemble", ("ensemble.png", "2000", "0")),
        ("spiking", ("spiking.png", "20000", "0")),
    ],
)
def test_help_names_every_option(name: str, defaults: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    """`--help` shows each option with its default."""
    with pytest.raises(SystemExit):
        load(name).parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for default in defaults:
        assert f"(default: {default})" in text
    assert "%%" not in text


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "digits" else pytest.mark.slow) for name in PROGRAMS]
)
def test_missing_dependency_is_one_line(name: str, tmp_path: Path):
    """Without one of the libraries of the extra, the program names it and the command that installs it."""
    hide = "import sys; sys.modules['tqdm'] = None; import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    program = str(EXAMPLES / f"{name}.py")
    run = subprocess.run(
        [sys.executable, "-c", hide, program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    message = f"{name}.py needs tqdm, which is not installed: pip install 'graphnode[examples]'"
    assert run.stderr.splitlines() == [message]


NUMBER = r"-?\d[\d,]*(\.\d+)?(e-?\d+)?"
REPORTS = {
    "distillation": (
        "Data:  # images of 8 by 8 pixels to train on, # held out",
        "Model: # parameters; the teacher has #, the student #, the encoder of both #",
        "Plan:  3 steps of both, 3 of the student's head, then a plot in @",
        "Gradient of the encoder: the sum of both networks' within # of its size",
        "Encoder, once frozen: moved by 0",
        "Held-out accuracy: teacher #%, student #%",
    ),
    "recurrent": (
        "Data:  sums of two sine waves, of which 40 values are heard and 40 continued",
        "Model: # parameters, a hidden state of 48 numbers for each wave",
        "Plan:  3 steps on 64 new waves each, then a plot in @",
        "Held-out error: # of the variance, from step 40 to 80",
    ),
    "ensemble": (
        "Data:  200 points to train on, 2000 new ones; none from -1 to 1.5",
        "Model: 16 members of 1,186 parameters",
        "Plan:  3 steps of Adam on batches of 32, then a plot in @",
        "New points in the 95% band: #%",
        "Disagreement in the gap: # times that outside",
    ),
    "spiking": (
        "Model: 800 excitatory and 200 inhibitory neurons, 4 projections with 100,000 connections",
        "Plan:  3 steps, 0.3 ms, then a plot in @",
        "Rates measured:       excitatory # Hz, inhibitory # Hz",
        "Rates in theory:      excitatory # Hz, inhibitory # Hz",
        "Irregularity: nan (0 for a clock, 1 for chance)",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTS)
def test_short_run_reports_draws_and_misses_its_target(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """After three steps the program shows its progress, what it measured and its plot, and fails with a reason."""
    output = tmp_path / "plot.png"
    small = ["--config", str(small_spiking(tmp_path))] if name == "spiking" else []
    status = load(name).main(["--steps", "3", "--output", str(output), *small])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    expected = [*REPORTS[name], "Plot: @"]
    assert len(lines) == len(expected)
    for line, form in zip(lines, expected, strict=True):
        pattern = re.escape(form).replace(r"\#", NUMBER).replace("@", re.escape(str(output)))
        assert re.fullmatch(pattern, line), line
    assert output.read_bytes().startswith(PNG)
    total = 6 if name == "distillation" else 3
    assert f"{total}/{total}" in printed.err  # the progress bar
    assert status == 1
    assert re.search(rf"^{name}\.py: .*; try more --steps$", printed.err, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("seed", ["0", "1"])
def test_default_run_reaches_its_target(name: str, seed: str, tmp_path: Path):
    """With its defaults, and with another seed, the program reaches what it promises."""
    assert load(name).main(["--output", str(tmp_path / "plot.png"), "--seed", seed]) == 0


def test_the_file_of_the_digits_says_the_steps_once(digits: ModuleType):
    """The schedule ends with the training."""
    config = options(digits).training
    assert config.optimizer.tx.learning_rate.decay_steps == config.steps == 400


# Distillation: sharing survives the transforms


@pytest.mark.slow
def test_both_networks_refer_to_one_encoder_through_training(distillation: ModuleType):
    """The encoder is one node, has one gradient, and is still one node after a donated step."""
    pair = distillation.make_pair(jax.random.key(0))
    encoder = pair.teacher.encoder
    assert encoder is pair.student.encoder
    images, labels = jnp.ones((64, 64)), jnp.zeros(64, int)
    gradients = gn.grad(distillation.loss_of)(pair, images, labels)
    encoders = [gn.path_str(path) for path in gradients.flat() if "encoder" in path]
    assert encoders == [f"student.encoder.{layer}.{name}" for layer in ("hidden", "out") for name in ("bias", "weight")]
    before = np.asarray(encoder.out.weight.value)
    optimizer = gn.optim.Optimizer(pair, distillation.optax.adam(1e-2))
    distillation.step(pair, optimizer, images, labels)
    assert pair.teacher.encoder is encoder
    assert pair.student.encoder is encoder
    assert not np.array_equal(before, encoder.out.weight.value)


@pytest.mark.slow
def test_frozen_parts_keep_their_values_and_take_no_memory(distillation: ModuleType):
    """In the second half only the student's head learns, and only it has memory in the optimizer."""
    pair = distillation.make_pair(jax.random.key(0))
    wrt = gn.All(gn.ParamState, gn.PathContains("student"), gn.PathContains("head"))
    optimizer = gn.optim.Optimizer(pair, distillation.optax.adam(1e-2), wrt=wrt)
    before = jax.tree.map(np.asarray, gn.treefy_states(pair))
    distillation.step(pair, optimizer, jnp.ones((64, 64)), jnp.zeros(64, int))
    changed = [
        gn.path_str(path)
        for path, old in before.flat().items()
        if not np.array_equal(old.value, gn.states(pair)[path].value)
    ]
    assert changed == ["student.head.0.bias", "student.head.0.weight"]
    assert [gn.path_str(path) for path in gn.states(optimizer)] == [
        "memory.0.count",
        "memory.0.mu.student.head.0.bias",
        "memory.0.mu.student.head.0.weight",
        "memory.0.nu.student.head.0.bias",
        "memory.0.nu.student.head.0.weight",
        "steps",
    ]


def test_a_drifting_encoder_or_a_wrong_gradient_is_a_failure(
    distillation: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The program fails for each of its claims, with a message."""
    cases = [
        ({"sharing_error": 0.0}, 0.95, []),
        ({"sharing_error": 0.0}, 0.9499, ["the student's held-out accuracy is below 95%; try more --steps"]),
        ({"sharing_error": 1e-3}, 1.0, ["the gradient of the encoder is not the sum of both networks'"]),
        ({"sharing_error": 0.0, "encoder_moved": 1e-9}, 1.0, ["the encoder moved while it was frozen"]),
    ]
    for fields, accuracy, messages in cases:
        result = distillation.Result(**fields, accuracies=[(1, 1.0, accuracy)])
        monkeypatch.setattr(distillation, "run", lambda _, result=result: result)
        assert distillation.main([]) == bool(messages)
        assert capsys.readouterr().err.splitlines() == [f"distillation.py: {message}" for message in messages]


# The recurrent network: a hidden state is carried


@pytest.mark.slow
def test_scan_over_time_is_a_loop_over_time(recurrent: ModuleType):
    """What `gn.scan` predicts, and the hidden state that it leaves, are those of a Python loop over the network."""
    network = recurrent.make_network(jax.random.key(0))
    waves = recurrent.make_waves(jax.random.key(1))[:45]
    scanned = recurrent.go_on(network, waves)
    hidden = np.asarray(network.cell.hidden.value)
    network.cell.reset()
    looped: list[jax.Array] = []
    for time, value in enumerate(waves):
        looped.append(network(value if time < recurrent.HEARD else looped[-1]))
    np.testing.assert_allclose(scanned, jnp.stack(looped), atol=1e-5)
    np.testing.assert_allclose(hidden, network.cell.hidden.value, atol=1e-5)
    assert np.abs(hidden).max() > 0.01


# The ensemble: each member is trained as if it were alone


@pytest.mark.slow
def test_ensemble_trains_as_its_members_would_alone(ensemble: ModuleType):
    """A step for all members gives each what a step for it alone gives, with batches of its own."""
    optax = ensemble.optax
    members = gn.vmap(ensemble.build)(jax.random.split(jax.random.key(0), 3))
    alone, adam = gn.unstack(members), optax.adam(1e-2)
    data = ensemble.make_data(jax.random.key(1), 50)
    optimizers = gn.vmap(lambda member: gn.optim.Optimizer(member, adam))(members)
    forks = gn.unstack(gn.Rngs(batches=7).fork(3))
    losses = ensemble.train_all((members, optimizers, gn.Rngs(batches=7)), data.x, data.y, steps=1)

    assert losses.shape == (1, 3)
    for member, trained, rngs, loss in zip(alone, gn.unstack(members), forks, losses[0], strict=True):
        found = ensemble.train_member(member, gn.optim.Optimizer(member, adam), rngs, data.x, data.y)
        np.testing.assert_allclose(found, loss, rtol=1e-5)
        for one, other in zip(*(jax.tree.leaves(gn.treefy_states(node)) for node in (member, trained)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_band_outside_of_its_range_is_a_failure(ensemble: ModuleType):
    """A band that holds too few or too many new points, or members that agree in the gap, are faults."""
    result = ensemble.Result(np.zeros((1, 16)), covered=0.95, doubt=3.0)
    assert result.faults() == []
    low, high = (dataclasses.replace(result, covered=covered) for covered in (0.8, 0.99))
    assert low.faults() == ["the 95% band holds 80.0% of new points, not 85% to 98%"]
    assert high.faults() == ["the 95% band holds 99.0% of new points, not 85% to 98%"]
    unsure = dataclasses.replace(result, doubt=float("nan"))
    assert unsure.faults() == ["the members disagree in the gap nan times as much as elsewhere, not 3"]


# The spiking network: references in both directions, and what theory says of it


def small_spiking(folder: Path) -> Path:
    """The example's file with a twelfth of the neurons and connections, which are stronger instead."""
    program = load("spiking")
    changes = ["populations.excitatory.size=800", "populations.inhibitory.size=200"]
    for at, (indegree, jump) in enumerate([(80, 0.5), (80, 0.5), (20, -2.5), (20, -2.5)]):
        changes += [f"projections[{at}].indegree={indegree}", f"projections[{at}].jump={jump}"]
    config = gn.config.override(gn.config.load(program.CONFIG, program.Network), changes)
    path = folder / "small.yaml"
    path.write_text(gn.config.dump(config))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The config of a small network."""
    return gn.config.load(small_spiking(tmp_path_factory.mktemp("spiking")), load("spiking").Network)


@pytest.fixture(scope="module")
def small_network(small: Any) -> Any:
    return load("spiking").make_network(0, small)


@pytest.fixture
def network(small_network: Any) -> Any:
    """A small network of one's own; it is compiled once for all tests."""
    return copy_of(small_network)


def copy_of(network: Any) -> Any:
    """A network with arrays of its own: a run donates them."""
    graphdef, tree = gn.treefy_split(network)
    return gn.treefy_merge(graphdef, jax.tree.map(jnp.copy, tree))


def test_file_describes_the_network_of_the_paper(spiking: ModuleType):
    """Model A of Brunel (2000): 12,500 neurons, a tenth of all pairs connected, and the constants of figure 8C."""
    config = gn.config.load(spiking.CONFIG, spiking.Network)
    model = gn.eval_shape(lambda: gn.config.build(config))
    sizes = {name: one.size for name, one in model.populations.items()}
    assert sizes == {"excitatory": 10_000, "inhibitory": 2_500}
    assert [one.indegree / one.before.size for one in model.projections] == [0.1] * 4
    assert {(one.jump, one.delay) for one in model.projections} == {(0.1, 1.5), (-0.5, 1.5)}
    for one in model.populations.values():
        assert (one.tau, one.v_rest, one.v_reset, one.v_threshold, one.t_refractory) == (20, 0, 10, 20, 2)
        threshold_rate = 1000 * one.v_threshold / (one.background.synapses * one.background.jump * one.tau)
        assert one.background.rate == 2 * threshold_rate
    assert sum(one.targets.value.size for one in model.projections) == 15_625_000


@pytest.mark.slow
def test_synapses_and_populations_refer_to_each_other(spiking: ModuleType, small: Any, network: Any):
    """The references of the file and the cycles that come of them are kept by all that compiles, runs and writes."""
    excitatory, inhibitory = network.populations.values()
    spiking.simulate(network, steps=200)
    assert list(network.populations.values()) == [excitatory, inhibitory]
    assert excitatory.background is inhibitory.background
    for population in (excitatory, inhibitory):
        assert [projection.before for projection in population.afferents] == [excitatory, inhibitory]
        assert [projection.after for projection in population.afferents] == [population] * 2
    assert len(gn.nodes(network, spiking.Projection)) == 4
    assert gn.config.diff(gn.config.to_config(network), small) == ()


@pytest.mark.slow
def test_each_neuron_has_as_many_connections_as_the_file_says(network: Any):
    """Each neuron after a projection is a target `indegree` times; no neuron before it is left out."""
    for one in network.projections:
        targets = np.asarray(one.targets.value)
        assert np.bincount(targets.ravel()).tolist() == [one.indegree] * one.after.size
        assert targets.shape == (one.before.size, one.indegree * one.after.size // one.before.size)
        apart = np.diff(targets, axis=0)
        assert len(np.unique(apart)) > 0.5 * one.after.size  # in no order


@pytest.mark.slow
def test_a_spike_arrives_after_the_delay_at_all_targets(network: Any):
    """A spike moves the voltage of each target by `jump` for each connection, `delay` later, and never again."""
    projection = network.projections[2]
    spikes = np.zeros(projection.before.size, np.float32)
    spikes[[0, 7, 150]] = 1
    counts = np.bincount(np.asarray(projection.targets.value)[[0, 7, 150]].ravel(), minlength=projection.after.size)

    @gn.jit
    def step(projection: Any, spikes: jax.Array) -> jax.Array:
        arriving: jax.Array = projection.arriving()
        projection.before.spikes.value = spikes
        projection.send()
        return arriving

    sent, silence = jnp.asarray(spikes), jnp.zeros(len(spikes))
    arrived = [np.asarray(step(projection, sent if time == 3 else silence)) for time in range(40)]
    np.testing.assert_allclose(arrived[3 + 15], -2.5 * counts)
    assert np.flatnonzero(np.any(np.array(arrived) != 0, axis=1)).tolist() == [18]


@pytest.mark.slow
def test_every_spike_arrives_when_all_neurons_spike(network: Any):
    """There is no largest number of spikes at one time: each neuron after hears all of its connections."""
    projection = network.projections[0]
    projection.before.spikes.value = jnp.ones(800)
    for _ in range(15):
        projection.send()
    np.testing.assert_allclose(projection.arriving(), 0.5 * 80, rtol=1e-6)


@pytest.mark.parametrize("mean", [0.01, 2.0, 1000.0])
def test_counts_end_where_their_probability_does(spiking: ModuleType, mean: float):
    """The table of probabilities rises to 1 within what 32 bits show, whatever the mean."""
    cumulative = spiking.poisson_cdf(mean)
    assert np.all(np.diff(cumulative) >= 0)
    assert cumulative[-1] == pytest.approx(1, abs=2**-24)


def test_background_is_poisson(spiking: ModuleType):
    """Mean and variance of the counts, and their distribution, are those of a Poisson process."""
    background = spiking.Background(synapses=1000, rate=20.0, jump=0.5)
    counts = np.asarray(background(jax.random.key(0), 200_000, dt=0.1)) / 0.5
    assert counts.mean() == pytest.approx(2, abs=0.02)
    assert counts.var() == pytest.approx(2, abs=0.04)
    for count, probability in enumerate([0.1353, 0.2707, 0.2707, 0.1804]):
        assert np.mean(counts == count) == pytest.approx(probability, abs=0.005)


def test_mean_field_gives_the_rate_of_the_paper(spiking: ModuleType):
    """Brunel (2000), table 1, row C: 38.0 Hz in theory."""
    config = gn.config.load(spiking.CONFIG, spiking.Network)
    model = gn.eval_shape(lambda: gn.config.build(config))
    rates = spiking.mean_field(model)
    assert rates == {name: pytest.approx(38.0, abs=0.1) for name in ("excitatory", "inhibitory")}


def test_rate_under_little_noise_is_that_of_a_clock(spiking: ModuleType):
    """With many weak spikes of a strong background, Siegert's formula is the interval of a constant input."""
    background = spiking.Background(synapses=1_000_000, rate=20.0, jump=1e-4)
    population = spiking.Population(1, v_reset=10.0, t_refractory=2.0, background=background)
    expected = 1000 / (2 + 20 * np.log((40 - 10) / (40 - 20)))
    assert spiking.rate_under_noise(population, {}) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_small_network_fires_as_theory_says(spiking: ModuleType, network: Any):
    """A network of other constants has the rates of the theory too, and is irregular."""
    result = spiking.record(network, 4000, spiking.mean_field(network))
    assert (result.time, result.dt) == (pytest.approx(200), 0.1)
    for name, rate in result.rates.items():
        assert rate == pytest.approx(result.theory[name], rel=0.1)
    assert result.irregularity > 0.4


@pytest.mark.slow
def test_simulation_in_parts_is_the_simulation_in_one(spiking: ModuleType, network: Any):
    """The network goes on where it was, its random stream included; the connections are never written."""
    whole, parts = copy_of(network), network
    targets = [projection.targets.value for projection in parts.projections]
    record = spiking.simulate(whole, steps=400)
    records = [spiking.simulate(parts, steps=200) for _ in range(2)]
    for name, spikes in record.items():
        assert spikes.any()
        np.testing.assert_array_equal(spikes, jnp.concatenate([part[name] for part in records]))
    assert all(one.targets.value is table for one, table in zip(parts.projections, targets, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("populations.inhibitory.dt=0.2", "the populations have two time steps: 0.1 and 0.2 ms"),
        ("projections[1].delay=0.25", "delay: expected a multiple of the time step 0.1 ms; found 0.25"),
        ("projections[1].delay=0.01", "delay: expected a multiple of the time step 0.1 ms; found 0.01"),
        (
            "projections[1].indegree=81",
            "indegree: expected connections that 800 neurons can share; found 81 for each of 200 neurons",
        ),
    ],
)
def test_network_that_cannot_be_is_refused(spiking: ModuleType, small: Any, change: str, message: str):
    """What the constructors refuse is told, with the projection's place in the file."""
    with pytest.raises(ValueError) as caught:
        gn.config.build(gn.config.override(small, [change]))
    assert str(caught.value) == message
    assert caught.value.__notes__ == ["while projections.1 was built from its configuration"]


def test_unexpected_spikes_are_a_failure(spiking: ModuleType):
    """Neurons that spike less or more often than theory says, or like a clock, are faults."""

    def result(*steps: int) -> Any:
        times = np.repeat(steps, 2)
        events = spiking.Events(2, times, np.tile([0, 1], len(steps)))
        return spiking.Result({"a": events}, {"a": 20.0}, time=500.0, dt=0.1)

    chance = (0, 10, 400, 500, 1500, 1600, 3500, 4300, 4400, 4900)
    assert result(*chance).faults() == []
    assert result(*chance[:4]).faults() == ["the a neurons spike at 8.0 Hz, not within 5% of 20.0 Hz"]
    assert result(*range(0, 5000, 500)).faults() == ["the irregularity of the spikes is 0.00, not 0.3 or more"]
    assert result().faults() == [
        "the a neurons spike at 0.0 Hz, not within 5% of 20.0 Hz",
        "the irregularity of the spikes is nan, not 0.3 or more",
    ]
