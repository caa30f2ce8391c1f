"""Distil a classifier of handwritten digits into a smaller one that shares its encoder.

Teacher and student are two networks that refer to one encoder. They train together: the
teacher on the labels, the student on what the teacher says, and the encoder gets one
gradient, the sum of what both ask of it. Then the encoder is frozen, by an optimizer
for the student's head alone, and the student goes on learning from the teacher.

    python docs/examples/distillation.py --help
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

import graphnode as gn

try:
    import optax
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from tqdm import tqdm
except ImportError as error:
    sys.exit(
        f"distillation.py needs {error.name}, which is not installed: pip install 'graphnode[examples]'"
    )

TARGET = 0.95  # of the held-out images, for the student; below it the program fails
BATCH_SIZE = 64
EVALUATE_EVERY = 20
# The teacher's probabilities are softened by this temperature: they say more then than
# a label does
WARMTH = 3.0

Images: TypeAlias = Float[Array, "batch 64"]
Labels: TypeAlias = Int[Array, "batch"]
Logits: TypeAlias = Float[Array, "batch 10"]


# The models


class Encoder(gn.nn.Module):
    """From an image to what both networks see of it."""

    width: int
    hidden: gn.nn.Linear = gn.subnode(
        factory=lambda self: gn.nn.Linear(64, 2 * self.width)
    )
    out: gn.nn.Linear = gn.subnode(
        factory=lambda self: gn.nn.Linear(2 * self.width, self.width)
    )

    def __call__(self, x: Images) -> Float[Array, "batch width"]:
        return jnp.tanh(self.out(jax.nn.relu(self.hidden(x))))


class Network(gn.nn.Module):
    """An encoder and a head of as many layers as `widths` has."""

    encoder: Encoder
    widths: tuple[int, ...]
    head: list[gn.nn.Linear] = gn.subnode(
        factory=lambda self: [
            gn.nn.Linear(n_in, n_out)
            for n_in, n_out in zip(
                (self.encoder.width, *self.widths), self.widths, strict=False
            )
        ]
    )

    def __call__(self, x: Images) -> Logits:
        x = self.encoder(x)
        for layer in self.head[:-1]:
            x = jax.nn.relu(layer(x))
        return self.head[-1](x)


class Pair(gn.nn.Module):
    """Two networks."""

    teacher: Network
    student: Network


@gn.jit
def make_pair(key: jax.Array) -> Pair:
    """A teacher and a student with one encoder: sharing is nothing but referring to the same node."""
    with gn.random.scope(key):
        encoder = Encoder(32)
        return Pair(
            teacher=Network(encoder, (64, 64, 10)), student=Network(encoder, (10,))
        )


# The data


@dataclass(frozen=True)
class Digits:
    """Images with values from 0 to 1, and the digits they show."""

    images: Images
    labels: Labels


def load() -> tuple[Digits, Digits]:
    """Three quarters of the images to train on, one quarter held out: the same ones for every seed."""
    data: Any = load_digits()
    split = train_test_split(
        data.data / 16,
        data.target,
        test_size=0.25,
        random_state=0,
        stratify=data.target,
    )
    images, held_images, labels, held_labels = split
    return (
        Digits(jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32)),
        Digits(
            jnp.asarray(held_images, jnp.float32), jnp.asarray(held_labels, jnp.int32)
        ),
    )


# Training


def teacher_loss(pair: Pair, images: Images, labels: Labels) -> Float[Array, ""]:
    """How far the teacher is from the labels."""
    losses: Float[Array, "batch"] = optax.softmax_cross_entropy_with_integer_labels(
        pair.teacher(images), labels
    )
    return losses.mean()


def student_loss(pair: Pair, images: Images, _: Labels) -> Float[Array, ""]:
    """How far the student is from the teacher. It is told no label, and the teacher does not move towards it."""
    taught = jax.lax.stop_gradient(jax.nn.softmax(pair.teacher(images) / WARMTH))
    losses: Float[Array, "batch"] = optax.softmax_cross_entropy(
        pair.student(images) / WARMTH, taught
    )
    return losses.mean()


def loss_of(pair: Pair, images: Images, labels: Labels) -> Float[Array, ""]:
    return teacher_loss(pair, images, labels) + student_loss(pair, images, labels)


@gn.jit(donate=True)
def step(
    pair: Pair, optimizer: gn.optim.Optimizer, images: Images, labels: Labels
) -> Float[Array, ""]:
    """A step of training, in place, for the States that the optimizer is for."""
    loss, gradients = gn.value_and_grad(loss_of, wrt=optimizer.wrt)(
        pair, images, labels
    )
    optimizer.update(pair, gradients)
    return loss


@gn.jit
def predict(pair: Pair, images: Images) -> tuple[Logits, Logits]:
    return pair.teacher(images), pair.student(images)


@dataclass
class Result:
    """What one run measured."""

    sharing_error: float
    """How far the encoder's gradient is from the sum of what both losses ask of it, relative to its size."""
    encoder_moved: float = 0.0
    """How far the encoder's parameters moved at most while it was frozen."""
    losses: list[float] = field(default_factory=list)
    """By step."""
    accuracies: list[tuple[int, float, float]] = field(default_factory=list)
    """Steps done, accuracy of the teacher, accuracy of the student."""

    @property
    def accuracy(self) -> float:
        """The student's, at the end."""
        return self.accuracies[-1][2]


Loss: TypeAlias = Callable[[Pair, Images, Labels], Float[Array, ""]]


@gn.jit
def sharing_error(pair: Pair, images: Images, labels: Labels) -> Float[Array, ""]:
    """How far the encoder's gradient is from the sum of the two that it consists of, relative to its size."""
    losses: list[Loss] = [loss_of, teacher_loss, student_loss]
    both, teachers, students = [
        gn.grad(loss)(pair, images, labels).filter(gn.PathContains("encoder"))
        for loss in losses
    ]
    error = jax.tree.map(
        lambda both, one, other: both - (one + other), both, teachers, students
    )
    sizes: list[Float[Array, ""]] = [
        jnp.linalg.norm(ravel_pytree(tree)[0]) for tree in (error, both)
    ]
    return sizes[0] / sizes[1]


def train(
    pair: Pair, seen: Digits, held: Digits, options: argparse.Namespace
) -> Result:
    """Train both networks, then the student's head alone; in place."""
    result = Result(float(sharing_error(pair, seen.images, seen.labels)))
    rng, done = np.random.default_rng(options.seed), 0
    # The encoder has the path of the reference that a walk finds first. The student's
    # comes before the teacher's, so that "student" alone would select the encoder too.
    head_of_student = gn.All(
        gn.ParamState, gn.PathContains("student"), gn.PathContains("head")
    )
    with tqdm(
        total=2 * options.steps,
        desc="Training",
        unit="step",
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        for wrt in (gn.All(gn.ParamState), head_of_student):
            optimizer = gn.optim.Optimizer(
                pair,
                optax.adam(optax.cosine_decay_schedule(5e-3, options.steps)),
                wrt=wrt,
            )
            before = jax.tree.map(np.asarray, gn.treefy_states(pair.student.encoder))
            for at in range(1, options.steps + 1):
                batch = rng.choice(len(seen.labels), BATCH_SIZE, replace=False)
                result.losses.append(
                    float(step(pair, optimizer, seen.images[batch], seen.labels[batch]))
                )
                bar.set_postfix(loss=f"{result.losses[-1]:.4f}", refresh=False)
                bar.update()
                if at % EVALUATE_EVERY == 0 or at == options.steps:
                    result.accuracies.append((done + at, *accuracies_of(pair, held)))
            done += options.steps
            after = gn.treefy_states(pair.student.encoder)
            moves = jax.tree.map(
                lambda old, new: float(np.abs(new - old).max()), before, after
            )
            result.encoder_moved = max(jax.tree.leaves(moves))
    return result


def accuracies_of(pair: Pair, data: Digits) -> tuple[float, float]:
    """Of the teacher and of the student."""
    teacher, student = (
        np.asarray(logits).argmax(axis=-1) for logits in predict(pair, data.images)
    )
    labels = np.asarray(data.labels)
    return float(np.mean(teacher == labels)), float(np.mean(student == labels))


# The plot


def draw(result: Result, pair: Pair, held: Digits, steps: int) -> Figure:
    """The learning curves, and what both networks make of the images that the student is least sure of."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.15), wspace=0.04)
    upper, lower = halves[0].subplots(2, 1, sharex=True)
    draw_curves(upper, lower, result, steps)
    draw_doubts(halves[1], pair, held)
    return figure


def draw_curves(upper: Axes, lower: Axes, result: Result, steps: int) -> None:
    upper.semilogy(
        np.arange(1, len(result.losses) + 1),
        result.losses,
        color="tab:purple",
        linewidth=1,
    )
    upper.set(ylabel="loss, teacher + student", title="Learning curves")
    done, teacher, student = zip(*result.accuracies, strict=True)
    lower.plot(done, teacher, color="tab:blue", marker=".", label="teacher")
    lower.plot(done, student, color="tab:orange", marker=".", label="student")
    lower.axhline(
        TARGET, color="0.4", linestyle="--", linewidth=1, label=f"target {TARGET:.0%}"
    )
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    lower.set(
        xlabel="step",
        ylabel="held-out accuracy",
        ylim=(min(0.85, *teacher, *student) - 0.02, 1.005),
    )
    lower.legend(frameon=False, loc="lower right", ncols=3)
    for axes in (upper, lower):
        axes.axvline(steps, color="tab:red", linewidth=1)
        axes.grid(alpha=0.3)
    upper.annotate(
        "encoder frozen",
        (steps, 0.92),
        (4, 0),
        ("data", "axes fraction"),
        "offset points",
        color="tab:red",
    )


def draw_doubts(figure: Any, pair: Pair, held: Digits, rows: int = 4) -> None:
    images, labels = np.asarray(held.images), np.asarray(held.labels)
    teacher, student = (
        np.asarray(jax.nn.softmax(logits)) for logits in predict(pair, held.images)
    )
    figure.suptitle("Held-out images that the student is least sure of")
    grid = figure.subplots(rows, 4, width_ratios=(1, 2, 1, 2)).reshape(-1, 2)
    for (picture, chart), at in zip(
        grid, np.argsort(student.max(axis=-1)), strict=False
    ):
        picture.imshow(images[at].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        picture.set(xticks=[], yticks=[])
        picture.set_title(f"a {labels[at]}", fontsize="medium", pad=3)
        for shift, color, shares in (
            (-0.2, "tab:blue", teacher[at]),
            (0.2, "tab:orange", student[at]),
        ):
            chart.bar(np.arange(10) + shift, shares, 0.4, color=color)
        chart.set(xticks=range(10), ylim=(0, 1), yticks=(0, 1))
        chart.tick_params(labelsize="small")
    for chart in grid[-2:, 1]:
        chart.set_xlabel("digit")
    handles = [grid[0, 1].containers[number] for number in (0, 1)]
    figure.legend(
        handles,
        ("teacher's probability", "student's"),
        loc="outside lower center",
        ncols=2,
        frameon=False,
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
        description="Train a classifier of handwritten digits and a smaller one that learns from it, with one encoder; "
        f"report their accuracies on held-out images, and write a plot. Fails if the student's is below {TARGET:.0%}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        default=Path("distillation.png"),
        metavar="FILE",
        help="where the plot goes",
    )
    add(
        "--steps",
        type=positive,
        default=400,
        metavar="N",
        help="steps with the encoder, and as many without",
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the parameters and the batches",
    )
    options = parser.parse_args(arguments)
    if not options.output.absolute().parent.is_dir():
        parser.error(
            f"argument --output: there is no directory {options.output.absolute().parent}"
        )
    return options


def size_of(node: gn.Node) -> int:
    """How many numbers the States of a node hold, what is shared counted once."""
    return sum(leaf.size for leaf in jax.tree.leaves(gn.treefy_states(node)))


def run(options: argparse.Namespace) -> Result:
    """Load, train, report, draw."""
    seen, held = load()
    pair = make_pair(jax.random.key(options.seed))
    teacher, student = pair.teacher, pair.student
    print(
        f"Data:  {len(seen.labels)} images of 8 by 8 pixels to train on, {len(held.labels)} held out"
    )
    print(
        f"Model: {size_of(pair):,} parameters; the teacher has {size_of(teacher):,}, the student {size_of(student):,}, "
        f"the encoder of both {size_of(student.encoder):,}"
    )
    print(
        f"Plan:  {options.steps} steps of both, {options.steps} of the student's head, then a plot in {options.output}"
    )
    sys.stdout.flush()  # before the progress bar, which goes to stderr

    result = train(pair, seen, held, options)
    print(
        f"Gradient of the encoder: the sum of both networks' within {result.sharing_error:.1g} of its size"
    )
    print(f"Encoder, once frozen: moved by {result.encoder_moved:g}")
    _, teacher_accuracy, student_accuracy = result.accuracies[-1]
    print(
        f"Held-out accuracy: teacher {teacher_accuracy:.2%}, student {student_accuracy:.2%}"
    )
    draw(result, pair, held, options.steps).savefig(options.output, dpi=110)
    print(f"Plot: {options.output}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    result = run(parse(arguments))
    faults = []
    if result.accuracy < TARGET:
        faults.append(
            f"the student's held-out accuracy is below {TARGET:.0%}; try more --steps"
        )
    if result.sharing_error > 1e-5:
        faults.append("the gradient of the encoder is not the sum of both networks'")
    if result.encoder_moved:
        faults.append("the encoder moved while it was frozen")
    for fault in faults:
        print(f"distillation.py: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
