"""Train a small convolutional classifier on scikit-learn's handwritten digits.

A YAML file, `digits.yaml`, says the whole run: the model, made of the layers of
`gn.nn`, its optimizer and how long it is trained. A compiled step takes the model and
its optimizer, and writes what it changes into them.

    python docs/examples/digits.py --help
    python docs/examples/digits.py steps=200 optimizer.tx.learning_rate.decay_steps=200
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import graphnode as gn

try:
    import optax
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pydantic import Field
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from tqdm import tqdm
except ImportError as error:
    sys.exit(
        f"digits.py needs {error.name}, which is not installed: pip install 'graphnode[examples]'"
    )

CONFIG = Path(__file__).with_suffix(".yaml")
TARGET = 0.98  # of the held-out images; below it the program fails
EVALUATE_EVERY = 20

Images: TypeAlias = Float[Array, "batch 8 8 1"]
Labels: TypeAlias = Int[Array, "batch"]
Logits: TypeAlias = Float[Array, "batch 10"]


# The model


class Standardize(gn.nn.Module):
    """Shift and scale images by statistics that are measured, not trained."""

    mean: gn.BatchState[Float[Array, ""]] = gn.state(jax.nn.initializers.zeros)
    deviation: gn.BatchState[Float[Array, ""]] = gn.state(jax.nn.initializers.ones)

    def measure(self, images: Images) -> None:
        """Take the statistics of these images."""
        self.mean.value = images.mean()
        self.deviation.value = images.std()

    def __call__(self, x: Images) -> Images:
        return (x - self.mean.value) / self.deviation.value


class Classifier(gn.nn.Module):
    """Layers that make features of an image, and one linear layer from their mean over the image to the ten digits."""

    features: gn.nn.Sequential
    """From `[batch, 8, 8, 1]` to features at each place that is left."""
    head: gn.nn.Linear
    """From the features to the digits."""
    standardize: Standardize = gn.subnode(default_factory=Standardize)

    def __call__(self, x: Images) -> Logits:
        return self.head(self.features(self.standardize(x)).mean(axis=(1, 2)))


class Training(gn.Node):
    """A model, and how it is trained."""

    model: Classifier
    optimizer: gn.optim.Optimizer
    steps: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)]
    """Images in each step."""
    seed: int = 0
    """Of the parameters and the batches."""


def make_training(config: gn.config.Config[Training]) -> Training:
    """With new parameters, drawn in one compiled function: faster than compiling each draw by itself."""

    @gn.jit
    def draw(key: jax.Array) -> Training:
        return gn.config.build(config, key)

    return draw(jax.random.key(config.seed))


# The data


@dataclass(frozen=True)
class Digits:
    """Images with values from 0 to 1, and the digits they show."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


def load() -> tuple[Digits, Digits]:
    """Three quarters of the images to train on, one quarter held out: the same ones for every seed."""
    data: Any = load_digits()
    split = train_test_split(
        data.images, data.target, test_size=0.25, random_state=0, stratify=data.target
    )
    seen_images, held_images, seen_labels, held_labels = split

    def digits(images: Any, labels: Any) -> Digits:
        return Digits(
            jnp.asarray(images[..., None] / 16, jnp.float32),
            jnp.asarray(labels, jnp.int32),
        )

    return digits(seen_images, seen_labels), digits(held_images, held_labels)


def batches(count: int, size: int, seed: int) -> Iterator[Int[Array, "size"]]:
    """Rows of random batches without end: every row once, then all again in another order."""
    rng = np.random.default_rng(seed)
    while True:
        rows = rng.permutation(count)
        for first in range(0, count - size + 1, size):
            yield jnp.asarray(rows[first : first + size])


# Training


def loss_of(model: Classifier, images: Images, labels: Labels) -> Float[Array, ""]:
    """The mean cross entropy of a batch."""
    losses: Float[Array, "batch"] = optax.softmax_cross_entropy_with_integer_labels(
        model(images), labels
    )
    return losses.mean()


@gn.jit(donate=True)
def train_step(
    model: Classifier, optimizer: gn.optim.Optimizer, images: Images, labels: Labels
) -> Float[Array, ""]:
    """One step of training, in place; gives the loss before it."""
    loss, gradients = gn.value_and_grad(loss_of)(model, images, labels)
    optimizer.update(model, gradients)
    return loss


@gn.jit
def predict(model: Classifier, images: Images) -> Labels:
    """The likeliest label of each image."""
    return model(images).argmax(axis=-1)


@dataclass
class Result:
    """What one run measured, and the predictions for the held-out images at its end."""

    losses: list[float] = field(default_factory=list)
    """By step."""
    accuracies: list[tuple[int, float]] = field(default_factory=list)
    """Of the held-out images, with the number of steps before."""
    predictions: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    @property
    def accuracy(self) -> float:
        """The last accuracy."""
        return self.accuracies[-1][1]


def train(training: Training, seen: Digits, held: Digits) -> Result:
    """Train the model in place."""
    model, optimizer, steps = training.model, training.optimizer, training.steps
    result = Result()
    with tqdm(
        total=steps, desc="Training", unit="step", file=sys.stderr, dynamic_ncols=True
    ) as bar:
        for done, rows in enumerate(
            batches(len(seen), training.batch_size, training.seed), start=1
        ):
            loss = train_step(model, optimizer, seen.images[rows], seen.labels[rows])
            result.losses.append(float(loss))
            bar.set_postfix(loss=f"{result.losses[-1]:.4f}", refresh=False)
            bar.update()
            if done % EVALUATE_EVERY == 0 or done == steps:
                result.predictions = np.asarray(predict(model, held.images))
                result.accuracies.append(
                    (done, float(np.mean(result.predictions == held.labels)))
                )
            if done == steps:
                break
    return result


# The plot


def draw(result: Result, held: Digits) -> Figure:
    """The learning curve, and some held-out images with what the model takes them for."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.15), wspace=0.04)
    upper, lower = halves[0].subplots(2, 1, sharex=True)
    draw_loss(upper, result)
    draw_accuracy(lower, result)
    halves[0].align_ylabels()
    draw_predictions(halves[1], result, held)
    return figure


def draw_loss(axes: Axes, result: Result) -> None:
    losses = np.array(result.losses)
    width = min(20, len(losses))
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    axes.semilogy(
        np.arange(1, len(losses) + 1),
        losses,
        color="tab:blue",
        alpha=0.25,
        label="each batch",
    )
    axes.semilogy(
        np.arange(width, len(losses) + 1),
        smooth,
        color="tab:blue",
        label=f"mean of {width}",
    )
    axes.set(ylabel="training loss", title="Learning curve")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def draw_accuracy(axes: Axes, result: Result) -> None:
    steps, accuracies = zip(*result.accuracies, strict=True)
    axes.plot(steps, accuracies, color="tab:green", marker=".", label="held-out images")
    axes.axhline(
        TARGET, color="0.4", linestyle="--", linewidth=1, label=f"target {TARGET:.0%}"
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set(
        xlabel="step", ylabel="accuracy", ylim=(min(0.88, *accuracies) - 0.02, 1.005)
    )
    axes.legend(frameon=False, loc="lower right")
    axes.grid(alpha=0.3)


def draw_predictions(
    figure: Any, result: Result, held: Digits, rows: int = 5, columns: int = 7
) -> None:
    labels = np.asarray(held.labels)
    is_wrong = result.predictions != labels
    # The wrong ones are few and the interesting ones: they come first, and take up to
    # three rows.
    wrong = np.flatnonzero(is_wrong)[: 3 * columns]
    right = np.flatnonzero(~is_wrong)[: rows * columns - len(wrong)]
    shown = "The" if len(wrong) == is_wrong.sum() else f"{len(wrong)} of the"
    figure.suptitle(
        f"{result.accuracy:.1%} of {len(held)} held-out images are recognised\n"
        f"{shown} {is_wrong.sum()} wrong ones (red), and some of the others"
    )
    images = np.asarray(held.images)
    for axes, at in zip(
        figure.subplots(rows, columns).flat, [*wrong, *right], strict=False
    ):
        axes.imshow(images[at, :, :, 0], cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(
                color="tab:red" if is_wrong[at] else "0.8",
                linewidth=2.5 if is_wrong[at] else 1,
            )
        text = (
            f"{result.predictions[at]}, not {labels[at]}"
            if is_wrong[at]
            else f"{labels[at]}"
        )
        axes.set_title(
            text, fontsize="medium", pad=3, color="tab:red" if is_wrong[at] else "0.2"
        )


# The program


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; `training` is the run that the file and the changes describe."""
    parser = argparse.ArgumentParser(
        description="Train a small classifier of handwritten digits, made of graphnode nodes; report its accuracy on "
        f"held-out images, and write a plot. Fails if the accuracy is below {TARGET:.0%}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    changes = "values in place of those of the file, such as steps=200 optimizer.tx.learning_rate.decay_steps=200"
    add("changes", nargs="*", default=[], metavar="PATH=VALUE", help=changes)
    add(
        "--config", default=str(CONFIG), metavar="FILE", help="the YAML file of the run"
    )
    add(
        "--output",
        type=Path,
        default=Path("digits.png"),
        metavar="FILE",
        help="where the plot goes",
    )
    options = parser.parse_args(arguments)
    if not options.output.absolute().parent.is_dir():
        parser.error(
            f"argument --output: there is no directory {options.output.absolute().parent}"
        )
    try:
        options.training = gn.config.override(
            gn.config.load(options.config, Training), options.changes
        )
    except gn.ConfigError as error:
        parser.error(str(error))
    return options


def run(options: argparse.Namespace) -> Result:
    """Load, train, report, draw."""
    print(
        f"Train a convolutional classifier of handwritten digits, and plot what it learns in {options.output}"
    )
    seen, held = load()
    config: gn.config.Config[Training] = options.training
    if config.batch_size > len(seen):
        sys.exit(
            f"digits.py: batch_size is at most {len(seen)}, the number of images to train on"
        )
    training = make_training(config)
    training.model.standardize.measure(seen.images)
    trained, rest = gn.treefy_states(training.model, gn.ParamState, ...)
    count = sum(leaf.size for leaf in jax.tree.leaves(trained))
    print(
        f"Data:  {len(seen)} images of 8 by 8 pixels to train on, {len(held)} held out"
    )
    print(
        f"Model: {count:,} parameters in {len(trained.flat())} States, and {len(rest.flat())} States of statistics"
    )
    print(
        f"Plan:  {training.steps} steps on batches of {training.batch_size}; above {TARGET:.0%} is a success"
    )
    sys.stdout.flush()  # before the progress bar, which goes to stderr

    result = train(training, seen, held)
    right = int(np.sum(result.predictions == held.labels))
    print(f"Held-out accuracy: {result.accuracy:.2%} ({right} of {len(held)})")
    draw(result, held).savefig(options.output, dpi=110)
    print(f"Plot: {options.output}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    result = run(parse(arguments))
    if result.accuracy < TARGET:
        print(
            f"digits.py: the held-out accuracy is below {TARGET:.0%}; try more steps",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
