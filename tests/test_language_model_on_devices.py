"""The language model of docs/examples over eight simulated devices: what each layout does, in a process of its own."""

import textwrap

import pytest

from tests.devices import run_with_devices

PREAMBLE = """
import shutil, sys, tempfile
import jax, numpy as np
import graphnode as gn
import tests.test_language_model as tests
from tests.collectives import collectives_in

program = tests.load("language_model")
LAYERS = 2
CONFIG = '''
type: Training
steps: 4
batch_size: 8
beats: 1
model: {id: model, width: 16, num_heads: 4, num_layers: 2, context: 8}
optimizer:
  model: {ref: model}
  tx: {type: adamw, learning_rate: 0.01}
'''
config = gn.config.loads(CONFIG, program.Training)
MESH = program.mesh_of("data=2,model=4")
"""


def run(body: str) -> None:
    """Run a program with eight host devices."""
    pytest.importorskip("matplotlib", reason="the examples extra is not installed")
    pytest.importorskip("tqdm", reason="the examples extra is not installed")
    run_with_devices(PREAMBLE + textwrap.dedent(body), 8)


@pytest.mark.slow
def test_each_layout_computes_the_same_and_communicates_as_it_must():
    """The losses of one device; collectives by kind and number; a device holds less where more is split."""
    run("""
    def losses_of(training, count=3):
        batches = program.Batches(tests.text(program).seen, training)
        return [float(program.step(training.model, training.optimizer, next(batches))) for _ in range(count)]

    expected = losses_of(program.make_training(config))
    assert expected[-1] < expected[0]
    collectives, memory = {}, {}
    for layout in program.LAYOUTS:
        plan = program.plan_of(config, MESH, layout)
        training = program.make_training(config, plan)
        with plan:
            batch = program.placed(np.zeros((8, 9)))
            compiled = program.step.lower(training.model, training.optimizer, batch).compile()
            assert np.allclose(losses_of(training), expected, rtol=1e-5), layout
        collectives[layout] = collectives_in(compiled.as_text())
        memory[layout] = compiled.memory_analysis()
        # All States are arguments, the step being one of training, with the batch beside them.
        arguments = memory[layout].argument_size_in_bytes - plan.bytes
        assert 0 < arguments <= batch.nbytes, layout
        assert all(
            state.value.sharding.is_equivalent_to(plan.shardings[path], state.value.ndim)
            for path, state in gn.states(training).items()
        ), layout

    # The gradients of all parameters are added up over the batch at once.
    assert collectives["data"] == {"all-reduce": 1}
    # A layer gathers each of its six weights once, and each of its two scales twice. Around the layers are the last
    # scale, twice, the embedding, and the features that are looked up in it.
    assert collectives["sharded"] == {"all-gather": 10 * LAYERS + 4, "all-reduce": 1, "all-to-all": 2}
    # The attention and the perceptron of a layer add up their parts, on the way and on the way back; and the gradients.
    assert collectives["tensor"] == {"all-reduce": 4 * LAYERS + 1}
    both = collectives["both"]
    assert both["all-reduce"] == 4 * LAYERS + 2
    # Which of those around the layers are gathered, and which exchanged, differs between versions of XLA.
    assert both["all-gather"] >= 10 * LAYERS + 4
    assert both["all-gather"] + both["all-to-all"] == 10 * LAYERS + 6
    assert both["collective-permute"] == 3

    arguments = {layout: each.argument_size_in_bytes for layout, each in memory.items()}
    assert arguments["sharded"] < arguments["data"] / 7.9
    assert arguments["both"] < arguments["tensor"] / 1.9 < arguments["data"] / 3
    assert memory["sharded"].temp_size_in_bytes < memory["data"].temp_size_in_bytes
    """)


@pytest.mark.slow
def test_a_run_goes_on_with_another_mesh_and_layout():
    """Saved with one mesh, it goes on with a smaller one, and without one, to the same losses within rounding."""
    run("""
    program.load = lambda: tests.text(program)
    program.EVALUATIONS = 2  # saved after 2 and 4 steps
    program.evaluate = lambda model, held: float(model.norm.scale.value.sum())
    program.cache_error = lambda model, text: (0.0, 0.0)
    program.sample = lambda model, prompt, length, seed: prompt
    found = []
    program.draw = lambda results, ngrams: found.extend(results) or type("Figure", (), {"savefig": lambda *a, **k: 0})()

    with tempfile.TemporaryDirectory() as folder:
        def train(*options):
            program.main(["--config", f"{folder}/tiny.yaml", "--output", f"{folder}/plot.png",
                          "--checkpoints", f"{folder}/runs", *options])

        with open(f"{folder}/tiny.yaml", "w") as file:
            file.write(CONFIG)
        train("--mesh", "data=2,model=4", "--layout", "both")
        for mesh in (["--mesh", "data=4", "--layout", "sharded"], []):
            shutil.rmtree(f"{folder}/runs/tiny/4")
            train("--resume", *mesh)
    whole, *others = found
    assert len(whole.losses) == 4 and len(others) == 2
    for other in others:
        assert other.losses[:2] == whole.losses[:2]
        assert np.allclose(other.losses, whole.losses, rtol=1e-5)
    """)
