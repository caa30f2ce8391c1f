"""graphnode beside other configuration libraries: the same model from a file, and what each keeps of it."""

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from .config_checks import Kept, kept_by
from .config_figures import CONFIG_FIGURES, rounds_of, slowly
from .config_library import ConfigLibrary, content_in, content_of
from .library import GRAPHNODE
from .measures import Result
from .timing import Call, Effort, Sampler

PEER_NODES: Final = 1_000
"""Of the model that all build."""
PEERS: Final = "config-peers"
"""The name of the table beside the peers, on the command line."""


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
    load, build = rounds_of(loads, slowly(effort)), rounds_of(builds, slowly(effort))
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


def _once(call: Call) -> Sampler:
    def sample() -> float:
        gc.collect(1)
        start = time.thread_time()
        call()
        return time.thread_time() - start

    return sample
