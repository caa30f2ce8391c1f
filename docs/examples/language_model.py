r"""Train a small language model on the text of Python's own help, byte by byte, and let it write.

A YAML file says the whole run: the model, made of the layers of `gn.nn`, its optimizer
and how long it is trained. Its bits per byte on a part of the text that is held out are
compared with those of n-grams. Text is written with a key-value cache, and what was
trained is saved as it goes, so that a run that was stopped goes on to the same losses.

    python docs/examples/language_model.py --help
    python docs/examples/language_model.py --config language_model.yaml --config language_model_long.yaml
    python docs/examples/language_model.py --checkpoints runs --resume
    python docs/examples/language_model.py batch_size=64 "optimizer.tx.args[1].weight_decay=0.2"

With a mesh it is trained on many devices, laid out as --layout says. A run that was saved
goes on with any mesh and layout, and also without. XLA simulates devices that there are
not:

    XLA_FLAGS=--xla_force_host_platform_device_count=8 \
        python docs/examples/language_model.py --mesh data=2,model=4 --layout both
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

import graphnode as gn
from graphnode import nn

try:
    import optax
    from matplotlib.figure import Figure
    from tqdm import tqdm
except ImportError as error:
    sys.exit(
        f"language_model.py needs {error.name}, which is not installed: pip install 'graphnode[examples]'"
    )

CONFIG = Path(__file__).with_suffix(".yaml")
HELD_OUT = 0.1  # of the text, at its end
ORDERS = (1, 2, 3, 4, 5)  # of the n-grams
EVALUATIONS = 8  # in a run, evenly
CACHE_TOLERANCE = 1e-5  # of the largest logit; above it the program fails
TEMPERATURE = 0.7
PROMPT = "The "

# How a run is laid out over a mesh with the axes "data" and "model". What has no rule is
# not split.
_ALL = ("data", "model")
_HEADS = {"heads": "model", "kv_heads": "model", "mlp": "model"}
LAYOUTS: Final[Mapping[str, gn.sharding.Rules]] = {
    # Each device has the whole model and a part of the batch.
    "data": gn.sharding.Rules(activations={"batch": _ALL}, default=None),
    # The same, but of each parameter, and of what Adam remembers of it, it has a part, and
    # gathers the rest when it is needed.
    "sharded": gn.sharding.Rules(
        params={"embed": _ALL}, activations={"batch": _ALL}, default=None
    ),
    # The devices along "model" share the work of each layer: each has some of the heads,
    # and some of the hidden features of the perceptrons.
    "tensor": gn.sharding.Rules(
        params=_HEADS, activations={"batch": "data", **_HEADS}, default=None
    ),
    # That along "model", and parts of parameters along "data".
    "both": gn.sharding.Rules(
        params={"embed": "data", **_HEADS},
        activations={"batch": "data", **_HEADS},
        default=None,
    ),
}

Tokens: TypeAlias = Int[Array, "batch time"]
Logits: TypeAlias = Float[Array, "batch time 256"]


# The model


class LanguageModel(nn.Module):
    """A decoder-only transformer over bytes: from each byte of a text to the logits of the next one."""

    width: int
    """Features of each byte."""
    num_heads: int
    """Of the attention in each layer."""
    num_layers: int
    context: int
    """How many bytes it is trained to look back at."""
    dropout: float = 0.0
    """The probability with which a feature becomes zero in training."""
    embed: nn.Embedding = gn.subnode(factory=lambda self: nn.Embedding(256, self.width))
    """From bytes to features, and back from features to bytes."""
    blocks: list[nn.TransformerBlock] = gn.subnode(init=False)
    norm: nn.RMSNorm = gn.subnode(factory=lambda self: nn.RMSNorm(self.width))
    """Of what the last block gives."""

    def __post_init__(self) -> None:
        dropout = nn.Dropout(self.dropout, rngs=gn.Rngs(gn.random.split_key()))
        self.blocks = [
            nn.TransformerBlock(
                self.width,
                self.num_heads,
                is_causal=True,
                rotary_base=10_000.0,
                norm="RMSNorm",
                use_bias=False,
                dropout=dropout,
            )
            for _ in range(self.num_layers)
        ]

    def init_cache(
        self,
        batch_size: int,
        length: int,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> None:
        """Let it keep the keys and values of what it reads, as `nn.generate` asks for."""
        for block in self.blocks:
            block.init_cache(batch_size, length, dtype, ragged=ragged)

    def __call__(self, tokens: Tokens) -> Logits:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.embed.attend(self.norm(x))


class Training(gn.Node):
    """A model, and how it is trained."""

    model: LanguageModel
    optimizer: gn.optim.Optimizer
    steps: int
    batch_size: int
    """Texts in each step, of the length of the model's context."""
    beats: int = 3
    """The order of the n-grams that the model must be better than."""
    seed: int = 0
    """Of the parameters, the batches and the text that is written."""


# The text, and what n-grams make of it


@dataclass(frozen=True)
class Text:
    """Bytes to train on, and bytes that are held out."""

    seen: np.ndarray
    held: np.ndarray


def load() -> Text:
    """The help texts of Python itself, each of them once."""
    text = np.frombuffer("\n\n".join(sorted(set(topics.values()))).encode(), np.uint8)
    cut = round(len(text) * (1 - HELD_OUT))
    return Text(text[:cut], text[cut:])


def ngram_bits(seen: bytes, held: bytes, order: int) -> float:
    """Bits per byte of `held`, each byte predicted from the `order - 1` before it, as often as they are in `seen`.

    Interpolated Kneser-Ney smoothing, with one discount for each order (Chen & Goodman
    1999, "An empirical study of smoothing techniques for language modeling", eq. 20 to
    22).
    """
    chances = np.full(len(held) - order + 1, 1 / 256)
    counts = [Counter(seen[at : at + order] for at in range(len(seen) - order + 1))]
    # Of shorter ones: before how many different bytes they stand
    for _ in range(order - 1):
        counts.append(Counter(gram[1:] for gram in counts[-1]))
    for length, count in enumerate(reversed(counts), start=1):
        totals, kinds = Counter[bytes](), Counter[bytes]()
        for gram, number in count.items():
            totals[gram[:-1]] += number
            kinds[gram[:-1]] += 1
        once, twice = (sum(number == n for number in count.values()) for n in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.0
        for at in range(len(chances)):
            gram = held[at + order - length : at + order]
            total = totals[gram[:-1]]
            if total:
                rest = discount * kinds[gram[:-1]] * chances[at]
                chances[at] = (max(count[gram] - discount, 0.0) + rest) / total
    return float(-np.log2(chances).mean())


# Training


@dataclass
class Result:
    """What one run measured."""

    name: str
    beats: int
    losses: list[float] = field(default_factory=list)
    """Bits per byte of the batch, by step."""
    held: list[tuple[int, float]] = field(default_factory=list)
    """Bits per byte of the held-out text, with the number of steps before."""

    @property
    def bits(self) -> float:
        """The last bits per byte of the held-out text."""
        return self.held[-1][1]


def make_training(
    config: gn.config.Config[Training], plan: gn.sharding.Plan | None = None
) -> Training:
    """With new parameters, drawn in one compiled function: faster than compiling each draw by itself.

    With a plan, each device draws its own part.
    """
    key = jax.random.key(config.seed)
    if plan is not None:
        return gn.sharding.init(lambda: build(config), key, plan)

    @gn.jit
    def draw(key: jax.Array) -> Training:
        with gn.random.scope(key):
            return build(config)

    return draw(key)


def build(config: gn.config.Config[Training]) -> Training:
    """Parameters from the ambient stream, and not from the key that a config is built with by default."""
    return gn.config.build(config, gn.random.split_key())


def bits_of(model: LanguageModel, text: Tokens) -> Float[Array, "batch time-1"]:
    """How many bits each byte but the first takes, when it is predicted from those before."""
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(
        model(text[:, :-1]), text[:, 1:]
    )
    return losses / jnp.log(2)


@gn.jit(donate=True)
def step(
    model: LanguageModel, optimizer: gn.optim.Optimizer, text: Tokens
) -> Float[Array, ""]:
    """A step of training, in place."""
    loss, gradients = gn.value_and_grad(lambda model: bits_of(model, text).mean())(
        model
    )
    optimizer.update(model, gradients)
    return loss


def placed(text: np.ndarray) -> Tokens:
    """Texts on the devices: where a plan is active, each of those that split the batch has its part."""
    return gn.sharding.constrain(jnp.asarray(text, jnp.int32), "batch", None)


class Batches:
    """A batch for each step: pieces of the text at random places. It says where it is, and goes on from there."""

    def __init__(self, text: np.ndarray, training: Training) -> None:
        self._text, self._seed = text, training.seed
        self._shape = (training.batch_size, training.model.context + 1)
        self._number = 0

    def __next__(self) -> Tokens:
        self._number += 1
        count, length = self._shape
        rng = np.random.default_rng([self._seed, self._number])
        starts = rng.integers(0, len(self._text) - length, count)
        return placed(self._text[starts[:, None] + np.arange(length)])

    def get_state(self) -> dict[str, int]:
        """The number of the last batch, for a checkpoint."""
        return {"number": self._number}

    def set_state(self, state: dict[str, int]) -> None:
        """Let the next batch be the one after that."""
        self._number = state["number"]


@gn.jit
def second_half(model: LanguageModel, text: Tokens) -> Float[Array, "batch"]:
    """The bits of the second half of each text."""
    bits = bits_of(model, text)
    return bits[:, bits.shape[1] // 2 :].sum(axis=1)


def evaluate(model: LanguageModel, text: np.ndarray, rows: int = 64) -> float:
    """Bits per byte of a text, each byte predicted from at least half of the context."""
    model = gn.view(model, deterministic=True)
    half = model.context // 2
    starts = np.arange(0, len(text) - 2 * half, half)
    # Batches of one size, for which one function is compiled: the last one is filled
    # with rows that are not counted.
    filled = np.resize(starts, (-(-len(starts) // rows), rows))
    pieces = map(placed, text[filled[..., None] + np.arange(2 * half + 1)])
    bits = np.concatenate([second_half(model, one) for one in pieces])[: len(starts)]
    return float(bits.sum() / (len(starts) * half))


def train(
    training: Training, text: Text, result: Result, directory: Path | None = None
) -> None:
    """Train the model in place, and `result` with it; go on from the newest step of `directory`, if it has one.

    Args:
        training: The model, and how it is trained.
        text: What it is trained on and measured with.
        result: What was measured so far, which is added to.
        directory: Where the run is saved at each evaluation, and before SIGTERM ends it.
    """
    every = -(-training.steps // EVALUATIONS)
    batches = Batches(text.seen, training)
    if directory is None:
        train_on(training, batches, text, result, every, None)
        return
    with gn.checkpoint.Checkpointer(directory, every=every) as checkpoints:
        if checkpoints.latest is not None:
            step = directory / str(checkpoints.latest)
            resume(step, training, batches, result)
        train_on(training, batches, text, result, every, checkpoints)


def train_on(
    training: Training,
    batches: Batches,
    text: Text,
    result: Result,
    every: int,
    checkpoints: gn.checkpoint.Checkpointer | None,
) -> None:
    """For `train`: the steps after those that `result` has."""
    config = config_text(training)
    bar = tqdm(
        total=training.steps,
        initial=len(result.losses),
        desc=result.name,
        unit="step",
        dynamic_ncols=True,
    )
    with bar:
        for done in range(len(result.losses) + 1, training.steps + 1):
            loss = step(training.model, training.optimizer, next(batches))
            result.losses.append(float(loss))
            bar.set_postfix(loss=f"{result.losses[-1]:.2f} bits", refresh=False)
            bar.update()
            is_last = done == training.steps
            if done % every == 0 or is_last:
                result.held.append((done, evaluate(training.model, text.held)))
            if checkpoints is not None:
                checkpoints.save(
                    done,
                    run_at(done, training, batches),
                    metadata={"losses": result.losses, "held": result.held},
                    config=config,
                    force=is_last,
                )


# What is saved


def run_at(done: int, training: Training, batches: Batches) -> dict[str, Any]:
    """All that the next steps depend on; the streams of dropout are in the model."""
    return {"training": training, "batches": batches, "step": done}


def config_text(training: Training) -> str:
    """The configuration that makes such a run."""
    return gn.config.dump(gn.config.to_config(training))


def resume(path: Path, training: Training, batches: Batches, result: Result) -> None:
    """Go on from a step that was saved, with what was measured up to it."""
    manifest = gn.checkpoint.manifest(path)
    if manifest.config != config_text(training):
        sys.exit(
            f"language_model.py: {path.parent} is of a run with another configuration; "
            "graphnode checkpoint show --config prints that of a step"
        )
    gn.checkpoint.restore(path, run_at(0, training, batches))
    result.losses[:] = manifest.metadata["losses"]
    result.held[:] = [(steps, bits) for steps, bits in manifest.metadata["held"]]


# Writing, with a cache


def sample(model: LanguageModel, prompt: str, length: int, seed: int) -> str:
    """A text that begins with `prompt`: half a context is read, and half a context written, again and again."""
    half = model.context // 2
    text = prompt.encode()
    while len(text) < length:
        read = jnp.asarray(np.frombuffer(text[-half:], np.uint8), jnp.int32)[None]
        key = jax.random.fold_in(jax.random.key(seed), len(text))
        written = nn.generate(model, read, half, key=key, temperature=TEMPERATURE)
        text += np.asarray(written.tokens, np.uint8).tobytes()
    return text[:length].decode(errors="replace")


def cache_error(model: LanguageModel, text: np.ndarray) -> tuple[float, float]:
    """The largest difference of logits, with the cache (half of a text at once, then byte by byte) and without.

    Returns:
        The difference; and as a share of the largest logit, as the precision of float32
        is one of shares.
    """
    tokens = jnp.asarray(text[: model.context], jnp.int32)[None]
    half = model.context // 2
    evaluated, decoder = (gn.view(model, deterministic=True) for _ in range(2))
    decoder.init_cache(1, model.context)

    @gn.jit
    def differences(
        model: LanguageModel, decoder: LanguageModel
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        first = decoder(tokens[:, :half])
        read = lambda decoder, byte: (decoder, decoder(byte[:, None])[:, 0])  # noqa: E731
        _, rest = gn.scan(read, decoder, tokens[:, half:].T)
        cached = jnp.concatenate([first, jnp.swapaxes(rest, 0, 1)], axis=1)
        whole = model(tokens)
        return jnp.abs(cached - whole).max(), jnp.abs(whole).max()

    error, largest = differences(evaluated, decoder)
    return float(error), float(error / largest)


# The plot


def draw(results: Sequence[Result], ngrams: dict[int, float]) -> Figure:
    """Bits per byte of each run, and of the n-grams."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for result, color in zip(
        results, ("tab:blue", "tab:red", "tab:green", "tab:purple"), strict=False
    ):
        width = min(20, len(result.losses))
        smooth = np.convolve(result.losses, np.full(width, 1 / width), mode="valid")
        axes.plot(
            np.arange(width, len(result.losses) + 1),
            smooth,
            color=color,
            alpha=0.35,
            linewidth=1,
        )
        axes.plot(
            *zip(*result.held, strict=True),
            color=color,
            marker="o",
            label=f"{result.name}: {result.bits:.2f}",
        )
    for order, bits in ngrams.items():
        axes.axhline(bits, color="0.4", linestyle="--", linewidth=1)
        where = ("axes fraction", "data")
        axes.annotate(
            f"{order}-gram {bits:.2f}",
            (1, bits),
            (6, 0),
            where,
            "offset points",
            va="center",
            color="0.3",
        )
    lowest = min([*ngrams.values(), *(result.bits for result in results)])
    axes.set(
        xlabel="step",
        ylabel="bits per byte",
        ylim=(lowest - 0.3, ngrams[1] + 0.3),
        xlim=(0, None),
    )
    axes.set_title(
        "Language models of Python's help texts: the held-out part (dots), and the batches (thin)"
    )
    axes.legend(loc="upper right", title="held-out bits per byte")
    axes.grid(alpha=0.3)
    return figure


# The program


def mesh_of(text: str) -> jax.sharding.Mesh:
    """The mesh that `data=2,model=4` describes: of the first devices, with axes that XLA looks after.

    Raises:
        argparse.ArgumentTypeError: The text is not understood, or there are fewer devices.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        if name not in ("data", "model") or name in sizes or not size.isdecimal():
            raise argparse.ArgumentTypeError(f"{text!r}: write data=2,model=4")
        sizes[name] = int(size)
    # The layouts name both: of size 1, an axis splits nothing.
    shape = (sizes.get("data", 1), sizes.get("model", 1))
    if not 0 < math.prod(shape) <= len(jax.devices()):
        raise argparse.ArgumentTypeError(
            f"{text} has {math.prod(shape)} devices, and JAX has {len(jax.devices())}; with "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={math.prod(shape)} it simulates more"
        )
    automatic = (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh(shape, ("data", "model"), axis_types=automatic)


def plan_of(
    config: gn.config.Config[Training], mesh: jax.sharding.Mesh, layout: str
) -> gn.sharding.Plan:
    """How a run is laid out over a mesh.

    Raises:
        PlanError: A size is not divided by the devices that are to split it; names all.
    """
    abstract = gn.eval_shape(lambda: build(config))
    return gn.sharding.plan(abstract, mesh, LAYOUTS[layout])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; `configs` has the name of each run, and what its file and the changes describe."""
    parser = argparse.ArgumentParser(
        description="Train a small language model on Python's help texts, byte by byte; compare its bits per byte on "
        "held-out text with those of n-grams, let it write, and draw its learning curve. Fails if it is no better than "
        "the n-grams that the file names, or if the key-value cache changes what it computes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    example = "such as batch_size=64 model.width=64"
    add(
        "changes",
        nargs="*",
        default=[],
        metavar="PATH=VALUE",
        help=f"values in place of those of the files, {example}",
    )
    files = (
        f"the YAML file of a run; may be given several times (default: {CONFIG.name})"
    )
    add(
        "--config",
        action="append",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help=files,
    )
    add(
        "--output",
        type=Path,
        default=Path("language_model.png"),
        metavar="FILE",
        help="where the plot goes",
    )
    add(
        "--checkpoints",
        type=Path,
        metavar="DIRECTORY",
        help="where each run is saved as it goes, in a directory of its name",
    )
    add(
        "--resume",
        action="store_true",
        help="go on from the newest steps in --checkpoints; from the beginning if there are none",
    )
    add(
        "--length",
        type=int,
        default=300,
        metavar="N",
        help="bytes of the text that the model writes",
    )
    add(
        "--mesh",
        type=mesh_of,
        metavar="data=N,model=M",
        help="train on so many devices",
    )
    add(
        "--layout",
        choices=LAYOUTS,
        default="both",
        help="what is split over the mesh: the batch; also each parameter; heads and hidden features, and the batch; "
        "or all of these",
    )
    options = parser.parse_args(arguments)
    try:
        options.configs = [
            (
                Path(file).stem,
                gn.config.override(gn.config.load(file, Training), options.changes),
            )
            for file in getattr(options, "config", [str(CONFIG)])
        ]
        options.plans = [
            None
            if options.mesh is None
            else plan_of(config, options.mesh, options.layout)
            for _, config in options.configs
        ]
    except (gn.ConfigError, gn.sharding.PlanError) as error:
        parser.error(str(error))
    folder = options.output.absolute().parent
    if not folder.is_dir():
        parser.error(f"there is no directory {folder}")
    if options.resume and options.checkpoints is None:
        parser.error("--resume needs --checkpoints, where the run was saved")
    for name, _ in options.configs:
        directory = directory_of(name, options)
        if directory is not None and directory.exists() and not options.resume:
            parser.error(f"{directory} is there already: --resume goes on with its run")
    return options


def directory_of(name: str, options: argparse.Namespace) -> Path | None:
    """Where a run is saved; `None` if it is not."""
    return None if options.checkpoints is None else options.checkpoints / name


def run_one(
    name: str,
    config: gn.config.Config[Training],
    plan: gn.sharding.Plan | None,
    text: Text,
    options: argparse.Namespace,
) -> tuple[Result, float]:
    """Train one model, let it write; what was measured, and how far the cache is off."""
    training = make_training(config, plan)
    model, result = training.model, Result(name, training.beats)
    parameters = sum(
        leaf.size for leaf in jax.tree.leaves(gn.treefy_states(model, gn.ParamState))
    )
    size = f"{training.batch_size} x {model.context} bytes"
    print(f"Model: {name}, {parameters:,} parameters; {training.steps} steps of {size}")
    if plan is not None:
        sizes = ", ".join(f"{axis}={size}" for axis, size in plan.mesh.shape.items())
        print(
            f"Mesh:  {sizes}; layout {options.layout}, {plan.bytes:,} bytes on each device"
        )
    sys.stdout.flush()  # before the progress bar, which goes to stderr
    train(training, text, result, directory_of(name, options))
    error, share = cache_error(model, text.held)
    print(f"Held-out bits per byte: {result.bits:.3f}")
    print(
        f"Largest difference of logits with the cache and without: {error:.1e}, {share:.1e} of the largest"
    )
    print("It writes:")
    print(
        "\n".join(
            f"    {line}"
            for line in sample(
                model, PROMPT, options.length, training.seed
            ).splitlines()
        )
    )
    return result, share


def run(options: argparse.Namespace) -> list[str]:
    """Train, report, draw; what is not as it should be."""
    names = " and ".join(name for name, _ in options.configs)
    print(
        f"Train {names} on Python's help texts, compare with n-grams, and plot it in {options.output}"
    )
    text = load()
    print(f"Data:  {len(text.seen):,} bytes to train on, {len(text.held):,} held out")
    ngrams = {
        order: ngram_bits(text.seen.tobytes(), text.held.tobytes(), order)
        for order in ORDERS
    }
    print(
        "N-grams: "
        + ", ".join(f"{order}: {bits:.3f}" for order, bits in ngrams.items())
        + " bits per byte"
    )
    results, faults = [], []
    for (name, config), plan in zip(options.configs, options.plans, strict=True):
        with nullcontext() if plan is None else plan:
            result, share = run_one(name, config, plan, text, options)
        results.append(result)
        if not result.bits < ngrams[result.beats]:
            faults.append(
                f"{name}: {result.bits:.3f} bits per byte is no better than the {result.beats}-gram's"
            )
        if not share <= CACHE_TOLERANCE:
            faults.append(
                f"{name}: the cache changes logits by {share:.1e} of the largest, not {CACHE_TOLERANCE:.0e}"
            )
    draw(results, ngrams).savefig(options.output, dpi=110)
    print(f"Plot: {options.output}")
    return faults


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options = parse(arguments)
    try:
        faults = run(options)
    except gn.CheckpointError as error:
        faults = [str(error)]
    for fault in faults:
        print(f"language_model.py: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
