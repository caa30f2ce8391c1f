"""Train one model over the devices of several hosts, and go on with it on other ones.

The processes have one mesh, one model and one checkpoint; each has its own part of the
data. To try it on this machine, with two processes that have four simulated devices each:

    python docs/examples/several_hosts.py --launch 2

The same files, in one process with one device, for four steps more:

    python docs/examples/several_hosts.py --model 1 --steps 8

On a cluster that JAX knows (Slurm, Open MPI, Kubernetes, Cloud TPU), each host runs

    python several_hosts.py --cluster --directory /shared/run

and elsewhere `--coordinator host0:1234 --processes 2 --process 0`, with its own number.
"""

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

import graphnode as gn

try:
    import optax
except ImportError as error:
    sys.exit(
        f"several_hosts.py needs {error.name}, which is not installed: pip install 'graphnode[examples]'"
    )

BATCH, LENGTH, TOKENS, LABELS = 16, 6, 16, 4
SIMULATED_DEVICES = 4


# The model, and how it is laid out


class Classifier(gn.nn.Module):
    """Says how many of the tokens are large, modulo the number of labels."""

    embedding: gn.nn.Embedding
    block: gn.nn.TransformerBlock
    dropout: gn.nn.Dropout
    head: gn.nn.Linear

    def __roles__(self) -> dict[str, dict[str, str]]:
        return {"head": {"in": "embed", "out": "labels"}}

    def __call__(
        self, tokens: Int[Array, "batch length"], rngs: gn.Rngs
    ) -> Float[Array, "batch labels"]:
        x = self.block(self.embedding(tokens))
        return self.head(self.dropout(x.mean(1), rngs=rngs))


class Training(gn.Node):
    """All that a run changes. What is not in the plan, each process would have for itself."""

    model: Classifier
    optimizer: gn.optim.Optimizer
    rngs: gn.Rngs


def build() -> Training:
    """Make it: in `gn.sharding.init`, where each device makes its part."""
    model = Classifier(
        gn.nn.Embedding(TOKENS, 16),
        gn.nn.TransformerBlock(16, 2),
        gn.nn.Dropout(0.1),
        gn.nn.Linear(16, LABELS),
    )
    return Training(model, gn.optim.Optimizer(model, optax.adam(1e-2)), gn.Rngs(7))


RULES = gn.sharding.Rules(
    params={
        "embed": "data",
        "heads": "model",
        "kv_heads": "model",
        "mlp": "model",
        "vocab": None,
        "labels": None,
    },
    activations={
        "batch": "data",
        "mlp": "model",
        "heads": "model",
        "kv_heads": "model",
    },
)


def plan_for(model_devices: int) -> gn.sharding.Plan:
    """The plan for all devices of all processes.

    Args:
        model_devices: How many devices one copy of an activation is split over.
    """
    if jax.local_device_count() % model_devices:
        sys.exit(
            f"--model divides the {jax.local_device_count()} devices of a process; found {model_devices}"
        )
    mesh = jax.make_mesh(
        (jax.device_count() // model_devices, model_devices),
        ("data", "model"),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )
    return gn.sharding.plan(gn.eval_shape(build), mesh, RULES)


# Data and training


def batch_of(step: int, plan: gn.sharding.Plan) -> tuple[jax.Array, jax.Array]:
    """The batch of a step, of which each process makes its own rows alone."""
    tokens = np.random.default_rng(step).integers(0, TOKENS, (BATCH, LENGTH))
    labels = (tokens >= TOKENS // 2).sum(1) % LABELS
    rows = BATCH // jax.process_count()
    own = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
    split: Any = jax.P  # JAX has no types for these two
    whole: Any = jax.make_array_from_process_local_data
    sharding = jax.NamedSharding(plan.mesh, split("data"))
    return (
        whole(sharding, tokens[own].astype(np.int32)),
        whole(sharding, labels[own].astype(np.int32)),
    )


@gn.jit(donate=True)
def train_step(
    training: Training, tokens: Int[Array, "batch length"], labels: Int[Array, "batch"]
) -> Float[Array, ""]:
    """Take one step, and give its loss: the same number in all processes."""

    def loss_of(model: Classifier, rngs: gn.Rngs) -> Float[Array, ""]:
        logits = model(tokens, rngs)
        losses: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    loss, gradients = gn.value_and_grad(loss_of)(training.model, training.rngs)
    training.optimizer.update(training.model, gradients)
    return loss


def train(plan: gn.sharding.Plan, directory: Path, steps: int) -> list[float]:
    """Train until so many steps are done, from the last checkpoint on if there is one, and give the losses."""
    losses: list[float] = []
    with gn.checkpoint.Checkpointer(directory, every=2, progress=False) as checkpoints:
        if checkpoints.latest is None:
            training = gn.sharding.init(build, jax.random.key(0), plan)
        else:
            shapes = gn.sharding.abstract(gn.eval_shape(build), plan)
            training = checkpoints.restore(shapes)
        done = int(training.optimizer.steps.value)
        with plan:
            for step in range(done + 1, steps + 1):
                loss = float(train_step(training, *batch_of(step, plan)))
                losses.append(loss)
                print(
                    f"process {jax.process_index()} of {jax.process_count()}: step {step}: loss {loss:.6f}",
                    flush=True,
                )
                checkpoints.save(step, training)
    return losses


# Processes


def join(options: argparse.Namespace) -> None:
    """Become one of several processes, before any device is asked for."""
    # Only for simulated devices: GPUs and TPUs have collectives of their own.
    config: Any = jax.config  # JAX has no types for it
    config.update("jax_cpu_collectives_implementation", "gloo")
    if options.cluster:
        jax.distributed.initialize()
    else:
        jax.distributed.initialize(
            options.coordinator, options.processes, options.process
        )


def launch(options: argparse.Namespace) -> int:
    """Start processes on this machine that do what was asked for, and wait for them."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    count = f"--xla_force_host_platform_device_count={SIMULATED_DEVICES}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": count}
    command = [
        *(sys.executable, __file__, "--coordinator", coordinator),
        *("--processes", str(options.launch), "--model", str(options.model)),
        *("--steps", str(options.steps), "--directory", str(options.directory)),
    ]
    processes = [
        subprocess.Popen([*command, "--process", str(number)], env=environment)
        for number in range(options.launch)
    ]
    return max(process.wait() for process in processes)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--launch", type=int, default=0, metavar="COUNT")
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--coordinator", metavar="HOST:PORT")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    parser.add_argument("--model", type=int, default=2, metavar="DEVICES")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--directory", type=Path, default=Path("several_hosts"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    options = parse(arguments)
    if options.launch:
        return launch(options)
    if options.cluster or options.coordinator:
        join(options)
    train(plan_for(options.model), options.directory, options.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
