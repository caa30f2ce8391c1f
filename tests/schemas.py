"""Write the JSON Schemas that this repository keeps in `schemas/`.

From the root of the repository,

    python -m tests.schemas [DIRECTORY]
"""

import argparse
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import graphnode as gn
from tests.docrun import ROOT
from tests.graphdef_schema import GRAPHDEF


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


def schemas() -> Mapping[str, Mapping[str, object]]:
    """The schemas by the names of their files. Further ones are added here."""
    layers = {
        f"graphnode.nn.{name}.schema.json": gn.config.json_schema(cls) for name, cls in public_classes(gn.nn).items()
    }
    return {"graphdef.schema.json": GRAPHDEF, **layers}


def write(folder: Path) -> Iterable[Path]:
    """Write all, and remove those of classes that are gone."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.schema.json"):
        path.unlink()
    for name, schema in schemas().items():
        path = folder / name
        path.write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        yield path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT / "schemas")
    for path in write(parser.parse_args().directory):
        print(path)
