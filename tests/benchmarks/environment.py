"""Where results come from: the machine, and the versions of what was measured."""

import datetime
import importlib.metadata
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """Where the results come from."""

    date: str
    cpu: str
    system: str
    python: str
    versions: dict[str, str]

    @property
    def python_version(self) -> str:
        """The version of Python without its last number: `3.11`."""
        return ".".join(self.python.split(".")[:2])

    @property
    def sentence(self) -> str:
        """All of it for a page."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.date}, on {self.cpu} ({self.system}), with Python {self.python}, {versions}."


def environment_of(distributions: Iterable[str]) -> Environment:
    """This machine and interpreter, and the versions of what is installed under these names."""
    return Environment(
        date=datetime.date.today().isoformat(),
        cpu=_cpu_name(),
        system=platform.system(),
        python=platform.python_version(),
        versions={name: _version(name) for name in distributions},
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
