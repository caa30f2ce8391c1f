"""Write JSON Schemas into `schemas/`: that of graphdefs, which is kept, and those that editors complete by.

From the root of the repository,

    python -m tests.schemas [DIRECTORY]
"""

import argparse
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import graphnode as gn
from tests.docrun import ROOT
from tests.graphdef_schema import GRAPHDEF

GENERATED = "*.schema.json"
"""The files that are written here."""

KEPT = "graphdef.schema.json"
"""The one that is under version control: no command makes it."""


def public_classes(module: object) -> dict[str, type[gn.Node]]:
    """The node classes of a module that configurations may describe, by their public names."""
    found: dict[str, type[gn.Node]] = {}
    for name, cls in inspect.getmembers(module, inspect.isclass):
        if issubclass(cls, gn.Node):
            try:
                gn.config.config_of(cls)
            except gn.ConfigError:  # it has a constructor of its own
                continue
            found[name] = cls
    return found


# The models of the examples that are built from a file: the program, and the class.
EXAMPLES = {"digits": "Training", "language_model": "Training", "spiking": "Network"}


def example_class(program: str, name: str) -> type[gn.Node]:
    """A class of an example program."""
    path = ROOT / "docs" / "examples" / f"{program}.py"
    spec = importlib.util.spec_from_file_location(program, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[program] = module  # where annotations that are strings are looked up
    spec.loader.exec_module(module)
    cls: type[gn.Node] = getattr(module, name)
    return cls


def schemas() -> Mapping[str, Mapping[str, object]]:
    """The schemas by the names of their files. Further ones are added here."""
    made: dict[str, Mapping[str, object]] = {KEPT: GRAPHDEF}
    made["graphnode.nn.Module.schema.json"] = gn.config.json_schema(gn.nn.Module)
    for program, name in EXAMPLES.items():
        made[f"graphnode.examples.{program}.schema.json"] = gn.config.json_schema(example_class(program, name))
    return made


def write(folder: Path) -> list[Path]:
    """Write all, and remove those that are written no more."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob(GENERATED):
        path.unlink()
    written: list[Path] = []
    for name, schema in schemas().items():
        written.append(folder / name)
        written[-1].write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT / "schemas")
    for path in write(parser.parse_args().directory):
        print(path)
