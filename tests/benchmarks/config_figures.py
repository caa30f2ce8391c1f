"""The figures of configurations: making config classes, reading files, and deep files.

An absolute limit is one of time; all others are ratios inside of a round, as everywhere in the benchmark.
"""

import gc
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

import yaml

import graphnode as gn
from graphnode import config as gn_config

from .config_library import PYYAML, content_of
from .library import GRAPHNODE
from .measures import Result
from .models.on_gn_config import LIBRARY
from .timing import Call, Effort, Prepare, Sampler, Samples, always, interleave, sampler

_SLOW_ROUNDS: Final = 3
_CLASS_ROUNDS: Final = 7
_NODES: Final = 1_000
_DEPTH: Final = 5_000


@contextmanager
def own_garbage() -> Generator[None]:
    """Leave to the collector only what is made inside.

    A full collection looks at every object of the process, here JAX and all libraries: a run of a few milliseconds
    has none, a longer one has some, and would seem slower for it.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class ConfigFigure(Protocol):
    """What is measured of configurations."""

    @property
    def name(self) -> str: ...
    def measure(self, effort: Effort, folder: Path) -> list[Result]: ...


# --- imports ---


@dataclass(frozen=True)
class Imported:
    """Which modules of configurations `import graphnode` imports: none."""

    name: str = "config-import"

    def measure(self, effort: Effort, folder: Path) -> list[Result]:
        """One row, from a new interpreter."""
        prefixes = ("graphnode.config", "pydantic", "yaml", "click")
        program = (
            "import sys, graphnode; "
            f"print(sum(name == one or name.startswith(one + '.') for name in sys.modules for one in {prefixes}))"
        )
        shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
        title = "modules of `gn.config`, pydantic, PyYAML and click that `import graphnode` imports"
        return [Result(self.name, title, 0, float(shown), None, 0, {GRAPHNODE: float(shown)}, is_count=True)]


# --- classes ---

_HEAD: Final = """\
from collections.abc import Callable
from typing import Annotated, Literal

import jax
from jaxtyping import Array, Float
from pydantic import Field

from graphnode import Node, ParamState, state, static, subnode
"""
_CLASS: Final = '''

class Block{at}(Node):
    """A block."""

    n_in: Annotated[int, Field(gt=0)]
    """Features of the input."""
    n_out: Annotated[int, Field(gt=0)]
    """Features of the output."""
    act: Callable[[Array], Array] = static(default=jax.nn.relu)
    """What follows the affine map."""
    reduce: Literal["mean", "sum"] = "mean"
    rate: float = 0.1
    below: list[Node] = subnode(default_factory=list)
    weight: ParamState[Float[Array, "n_in n_out"]] = state(jax.nn.initializers.lecun_normal())

    def __call__(self, x: Float[Array, "... n_in"]) -> Float[Array, "... n_out"]:
        return self.act(x @ self.weight.value)
'''
_MODULE: Final = "graphnode_benchmark_"
_numbers = count()


def fresh_classes(number: int, folder: Path) -> list[Any]:
    """New node classes from a module of their own, which is a file, as the docs of fields are read from it."""
    name = f"{_MODULE}{next(_numbers)}"
    file = folder / f"{name}.py"
    file.write_text(_HEAD + "".join(_CLASS.replace("{at}", str(at)) for at in range(number)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return [getattr(module, f"Block{at}") for at in range(number)]


def _drop_classes() -> None:
    """Let go of all that were made: neither the collector nor another figure shall find them."""
    for module in [module for module in sys.modules if module.startswith(_MODULE)]:
        del sys.modules[module]
    gc.collect()


def _make_configs(number: int, folder: Path) -> Call:
    _drop_classes()
    classes = fresh_classes(number, folder)
    return lambda: [gn_config.config_of(cls) for cls in classes]


@dataclass(frozen=True)
class Classes:
    """What `config_of` takes for a class that it sees for the first time."""

    name: str = "config-classes"
    sizes: tuple[int, int] = (50, 500)
    seconds: float = 0.004
    growth: float = 2

    def measure(self, effort: Effort, folder: Path) -> list[Result]:
        """A row for each number of classes, and one for the growth from one to the other."""
        prepares: dict[int, Prepare] = {size: partial(_make_configs, size, folder) for size in self.sizes}
        samples = rounds_of(
            {str(size): sampler(prepare, 0) for size, prepare in prepares.items()}, slowly(effort, _CLASS_ROUNDS)
        )
        few, many = self.sizes
        title = "`config_of(cls)`, the first of a class: `Schema` and pydantic model"
        rows = [
            Result(self.name, title, size, samples.median(str(size)) / size, None, self.seconds, {}, per="class")
            for size in self.sizes
        ]
        growth = samples.ratio(str(many), str(few)) * few / many
        _drop_classes()
        return [*rows, _grown(self.name, f"the same per class, over that of {few}", many, growth, self.growth)]


# --- files ---


def _file_of(nodes: int, folder: Path) -> Path:
    file = folder / f"{nodes}.yaml"
    file.write_text(LIBRARY.text(content_of(nodes)), encoding="utf-8")
    return file


def _parse(file: Path) -> object:
    return yaml.load(file.read_bytes(), yaml.CSafeLoader)


@dataclass(frozen=True)
class Load:
    """Reading and validating a file, over parsing it into plain data; and its growth from one size to the next."""

    name: str = "config-load"
    sizes: tuple[int, int, int] = (_NODES, 10_000, 100_000)
    most: float = 3
    growth: float = 2

    def measure(self, effort: Effort, folder: Path) -> list[Result]:
        """A row for each size against PyYAML, and one for the growth from the middle one to the largest."""
        first, few, many = self.sizes
        samples = {first: rounds_of(_readers(first, folder, effort), effort)}
        # In the same rounds, to be compared with each other.
        samples[few] = samples[many] = rounds_of(
            {**_readers(few, folder, effort), **_readers(many, folder, effort)}, slowly(effort)
        )
        title = "`load` of a YAML file: read and validate"
        rows = [
            Result(
                figure=self.name,
                title=title,
                states=size,
                value=samples[size].ratio(f"{GRAPHNODE}, {size}", f"{PYYAML}, {size}"),
                against=PYYAML,
                limit=self.most,
                measured={name: samples[size].median(f"{name}, {size}") for name in (GRAPHNODE, PYYAML)},
            )
            for size in self.sizes
        ]
        growth = samples[many].ratio(f"{GRAPHNODE}, {many}", f"{GRAPHNODE}, {few}") * few / many
        return [*rows, _grown(self.name, f"the same per node, over that of {few:,}", many, growth, self.growth)]


def _readers(size: int, folder: Path, effort: Effort) -> dict[str, Sampler]:
    file = _file_of(size, folder)
    calls = {GRAPHNODE: partial(LIBRARY.load, file), PYYAML: partial(_parse, file)}
    return {f"{name}, {size}": sampler(always(call), effort.seconds) for name, call in calls.items()}


class Chain(gn.Node):
    """A node in a node."""

    size: int
    next: "Chain | None" = None


def _chain_file(depth: int, folder: Path) -> Path:
    # In flow style: in block style the indentation alone grows with the square of the depth.
    file = folder / f"chain-{depth}.yaml"
    text = "{size: 1, next: " * (depth - 1) + "{size: 1}" + "}" * (depth - 1)
    file.write_text(text + "\n", encoding="utf-8")
    return file


def _load_and_build(file: Path) -> Chain:
    return gn_config.build(gn_config.load(file, Chain))


@dataclass(frozen=True)
class Deep:
    """A chain of nodes, loaded and built: time per level, and how deep Python's stack gets."""

    name: str = "config-depth"
    sizes: tuple[int, int] = (_DEPTH // 2, _DEPTH)
    growth: float = 1.5
    """libyaml refuses either depth, so both are read by our own composer."""

    def measure(self, effort: Effort, folder: Path) -> list[Result]:
        """A row for the time, and one for the stack."""
        few, many = self.sizes
        calls = {size: partial(_load_and_build, _chain_file(size, folder)) for size in self.sizes}
        samples = rounds_of({str(size): sampler(always(call), 0) for size, call in calls.items()}, effort)
        growth = samples.ratio(str(many), str(few)) * few / many
        title = f"`load` and `build` of a chain of nodes, per level, over that of {few:,}"
        stacks = {size: stack_of(call) for size, call in calls.items()}
        return [
            _grown(self.name, title, many, growth, self.growth, {GRAPHNODE: samples.median(str(many))}),
            Result(
                self.name,
                f"Python's stack in that, over that of {few:,}",
                many,
                stacks[many] / stacks[few],
                GRAPHNODE,
                1,
                {GRAPHNODE: float(stacks[many])},
                is_count=True,
            ),
        ]


def stack_of(call: Callable[[], object]) -> int:
    """How many Python functions are open at once, at most, while a call runs."""
    now, most = 0, 0

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal now, most
        if event == "call":
            now += 1
            most = max(most, now)
        elif event == "return":
            now -= 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return most


def rounds_of(samplers: Mapping[str, Sampler], effort: Effort) -> Samples:
    """All rounds, with their own garbage alone."""
    with own_garbage():
        return interleave(samplers, effort.rounds)


def slowly(effort: Effort, rounds: int = _SLOW_ROUNDS) -> Effort:
    """No more rounds than what takes seconds can have."""
    return Effort(min(effort.rounds, rounds), effort.seconds)


def _grown(
    name: str, title: str, size: int, growth: float, most: float, measured: Mapping[str, float] | None = None
) -> Result:
    return Result(name, title, size, growth, GRAPHNODE, most, measured or {})


CONFIG_FIGURES: tuple[ConfigFigure, ...] = (Imported(), Classes(), Load(), Deep())
