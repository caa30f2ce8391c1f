"""The command `graphnode sharding show`: the plan of the model of a file, without a device."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click
from jax.sharding import AbstractMesh

from .._declare._node import Node
from .._errors import ConfigError
from ..config import build, load
from ..transforms import eval_shape
from ._plan import PlanError, plan
from ._rules import Rules


@click.group("sharding", context_settings={"help_option_names": ["-h", "--help"]})
def sharding_group() -> None:
    """Look at how a model would be laid out over devices."""


def _mesh(
    context: click.Context, parameter: click.Parameter, value: str
) -> AbstractMesh:
    """For click: a mesh from `data=4,model=2`."""
    sizes: dict[str, int] = {}
    for part in value.split(","):
        name, _, size = part.strip().partition("=")
        if not name or not size.isdecimal() or int(size) < 1 or name in sizes:
            raise click.BadParameter(
                f"{part!r}: write a name and a size for each axis, as data=4,model=2",
                context,
                parameter,
            )
        sizes[name] = int(size)
    return AbstractMesh(tuple(sizes.values()), tuple(sizes))


def _rules(name: str | None, changes: tuple[str, ...]) -> Rules:
    """The rules of the command line: those of a name, or of `--rule`; without any, nothing is split."""
    if name is not None:
        module, _, attribute = name.partition(":")
        sys.path.insert(0, os.getcwd())  # as `python -m` does
        try:
            found: Any = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise click.UsageError(
                f"--rules {name}: {error}; write a module and a name, as my_package.layout:RULES"
            ) from None
        if not isinstance(found, Rules):
            raise click.UsageError(
                f"--rules {name}: expected gn.sharding.Rules; found {type(found).__name__}"
            )
        return found
    params: dict[str, Any] = {}
    for change in changes:
        role, _, axes = change.partition("=")
        names = tuple(axes.split("+"))
        params[role] = None if not axes else names[0] if len(names) == 1 else names
    return Rules(params=params, default=None)


@sharding_group.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--mesh",
    required=True,
    metavar="NAME=SIZE,...",
    callback=_mesh,
    help="The axes of the mesh: data=4,model=2.",
)
@click.option(
    "--rules",
    "name",
    metavar="MODULE:NAME",
    help="Where the program has its gn.sharding.Rules.",
)
@click.option(
    "--rule",
    "-r",
    "changes",
    multiple=True,
    metavar="ROLE=AXIS",
    help="Split the axes of a role: -r mlp=model, -r vocab=data+model. What has no rule is not split.",
)
@click.option(
    "--import",
    "-i",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import a module first: the classes that it defines are known then.",
)
def show_command(
    file: Path,
    mesh: AbstractMesh,
    name: str | None,
    changes: tuple[str, ...],
    modules: tuple[str, ...],
) -> None:
    """Print how each State of the model of FILE would be laid out over a mesh. No array is made, no device needed.

    The exit code is 0 if the plan has no faults, 1 if it has some, and 2 if the command
    was not understood.
    """
    sys.path.insert(0, os.getcwd())
    for module in modules:
        importlib.import_module(module)
    try:
        loaded = load(file, Node)
        model = eval_shape(lambda: build(loaded))
        click.echo(repr(plan(model, mesh, _rules(name, changes))))
    except (ConfigError, PlanError) as error:
        for fault in error.faults:
            click.echo(str(fault), err=True)
        click.get_current_context().exit(1)
