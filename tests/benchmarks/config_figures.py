"""The figures of configurations: making config classes, reading files, deep files, and the peers side by side.

An absolute limit is one of time; all others are ratios inside of a round, as everywhere in the benchmark.
"""

import gc
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Final, Protocol

import yaml

import graphnode as gn
from graphnode import config as gn_config

from .config_checks import Kept, kept_by
from .config_library import PYYAML, ConfigLibrary, content_in, content_of
from .library import GRAPHNODE
from .measures import Result
from .models.on_gn_config import LIBRARY
from .timing import Call, Effort, Prepare, Sampler, Samples, always, interleave, sampler

_SLOW_ROUNDS: Final = 3
_CLASS_ROUNDS: Final = 7
PEER_NODES: Final = 1_000
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


def _make_configs(number: int, folder: Path) -> Call:
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
        samples = _rounds(
            {str(size): sampler(prepare, 0) for size, prepare in prepares.items()}, _slow(effort, _CLASS_ROUNDS)
        )
        few, many = self.sizes
        title = "`config_of(cls)`, the first of a class: `Schema` and pydantic model"
        rows = [
            Result(self.name, title, size, samples.median(str(size)) / size, None, self.seconds, {}, per="class")
            for size in self.sizes
        ]
        growth = samples.ratio(str(many), str(few)) * few / many
        # The classes go: no other figure shall find them among the subclasses of Node.
        for module in [module for module in sys.modules if module.startswith(_MODULE)]:
            del sys.modules[module]
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
    sizes: tuple[int, int, int] = (PEER_NODES, 10_000, 100_000)
    most: float = 3
    growth: float = 2

    def measure(self, effort: Effort, folder: Path) -> list[Result]:
        """A row for each size against PyYAML, and one for the growth from the middle one to the largest."""
        first, few, many = self.sizes
        samples = {first: _rounds(_readers(first, folder, effort), effort)}
        # In the same rounds, to be compared with each other.
        samples[few] = samples[many] = _rounds(
            {**_readers(few, folder, effort), **_readers(many, folder, effort)}, _slow(effort)
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
        samples = _rounds({str(size): sampler(always(call), 0) for size, call in calls.items()}, effort)
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


# --- beside the peers ---


@dataclass(frozen=True)
class Beside:
    """One library in the table: the median seconds, those of graphnode in the same round, and what it keeps."""

    name: str
    load: float
    load_ratio: float
    """Of this library's time to graphnode's, the median over the rounds."""
    build: float
    build_ratio: float
    kept: Kept


def as_beside(record: Mapping[str, Any]) -> Beside:
    """What a record for programs was made of."""
    rest = {name: value for name, value in record.items() if name != "kept"}
    return Beside(**rest, kept=Kept(**record["kept"]))


def measure_peers(libraries: tuple[ConfigLibrary, ...], effort: Effort, folder: Path) -> list[Beside]:
    """Load and build the model of a thousand nodes with every library.

    Raises:
        ValueError: A library builds something else than the file says.
    """
    content = content_of(PEER_NODES)
    loads: dict[str, Sampler] = {}
    builds: dict[str, Sampler] = {}
    for library in libraries:
        print(f"{PEER_NODES:,} nodes: {library.name}", flush=True)
        file = folder / f"{library.name}{library.suffix}"
        file.write_text(library.text(content), encoding="utf-8")
        config = library.load(file)
        if content_in(library.build(config)) != content:
            raise ValueError(f"{library.name} does not build what the file says")
        # No second call to find how many fill a moment: one takes half a minute.
        loads[library.name] = _once(partial(library.load, file))
        builds[library.name] = _once(partial(library.build, config))
    load, build = _rounds(loads, _slow(effort)), _rounds(builds, _slow(effort))
    return [
        Beside(
            name=library.name,
            load=load.median(library.name),
            load_ratio=load.ratio(library.name, GRAPHNODE),
            build=build.median(library.name),
            build_ratio=build.ratio(library.name, GRAPHNODE),
            kept=kept_by(library, folder),
        )
        for library in libraries
    ]


CONFIG_FIGURES: tuple[ConfigFigure, ...] = (Imported(), Classes(), Load(), Deep())
PEERS: Final = "config-peers"
"""The name of the table beside the peers, on the command line."""


def measure_configs(
    libraries: tuple[ConfigLibrary, ...], effort: Effort, only: str | None = None
) -> tuple[list[Result], list[Beside]]:
    """Everything about configurations, or one figure: the rows, and the table beside the peers."""
    results: list[Result] = []
    with TemporaryDirectory() as name:
        for figure in CONFIG_FIGURES:
            if only in (None, figure.name):
                print(f"configurations: {figure.name}", flush=True)
                results += figure.measure(effort, Path(name))
        beside = measure_peers(libraries, effort, Path(name)) if only in (None, PEERS) else []
    return results, beside


def _rounds(samplers: Mapping[str, Sampler], effort: Effort) -> Samples:
    with own_garbage():
        return interleave(samplers, effort.rounds)


def _slow(effort: Effort, rounds: int = _SLOW_ROUNDS) -> Effort:
    return Effort(min(effort.rounds, rounds), effort.seconds)


def _once(call: Call) -> Sampler:
    def sample() -> float:
        gc.collect(1)
        start = time.thread_time()
        call()
        return time.thread_time() - start

    return sample


def _grown(
    name: str, title: str, size: int, growth: float, most: float, measured: Mapping[str, float] | None = None
) -> Result:
    return Result(name, title, size, growth, GRAPHNODE, most, measured or {})
