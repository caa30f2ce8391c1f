"""The commands about configuration files: `graphnode config ...` and `graphnode summary`."""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from .._declare._node import Node
from .._errors import ConfigError, Fault
from .._paths import path_str
from ._build import constructor_faults
from ._config import Config
from ._diff import diff
from ._json_schema import json_schema
from ._load import load
from ._override import override
from ._show import load_checked, value_rows
from ._summary import summary

# Not `exists=True`: a missing file is a fault like others, and exits with 1.
_FILE = click.Path(path_type=Path)


def _imports(
    context: click.Context, parameter: click.Parameter, modules: Sequence[str]
) -> None:
    """Import the modules that define and register what files name; those beside the caller come first."""
    # As `python -m` does: a command in `bin` has its own directory there.
    sys.path.insert(0, os.getcwd())
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise click.BadParameter(f"{name}: {error}", context, parameter) from None


_import_option = click.option(
    "--import",
    "-i",
    "modules",
    multiple=True,
    metavar="MODULE",
    callback=_imports,
    expose_value=False,
    # Before the other parameters, as the command needs the classes.
    is_eager=True,
    help="Import a module first: the classes that it defines, and the names that it registers, are known then.",
)
_set_option = click.option(
    "--set",
    "-s",
    "changes",
    multiple=True,
    metavar="PATH=VALUE",
    help="Replace a value: -s encoder.width=64.",
)


def _exit_with(error: ConfigError) -> NoReturn:
    """Print every fault, the place in bold, and end with 1."""
    for fault in error.faults:
        # Without a place in a file, the path is the place.
        where = str(fault.place) or fault.path
        text = str(fault)
        if where:
            text = text.replace(where, click.style(where, bold=True), 1)
        click.echo(text, err=True)
    click.get_current_context().exit(1)
    raise AssertionError  # pragma: no cover  # exit does not return


def _load_or_exit(file: Path, changes: Sequence[str] = ()) -> Config[Any]:
    """The config of a file with the changes of the command line, for the commands that need no places.

    Faults are printed, and end the command.
    """
    try:
        config = load(file, Node)
        return override(config, changes) if changes else config
    except ConfigError as error:
        _exit_with(error)


@click.group("config", context_settings={"help_option_names": ["-h", "--help"]})
def config_group() -> None:
    """Check, show and compare the configuration files of models.

    A file names the class of its model as `type:`. Say with --import where that class
    is defined:

        graphnode config check --import my_package.models model.yaml
    """


@config_group.command("check")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@_import_option
def check_command(files: Sequence[Path]) -> None:
    """Report all faults of files, each as FILE:LINE:COLUMN: PATH: what is wrong.

    The models are made, too, without their arrays: what a constructor refuses is a
    fault of its node.

    The exit code is 0 if there are none, 1 if there are some, and 2 if the command was
    not understood.
    """
    faults: list[Fault] = []
    for file in files:
        try:
            load_checked(file, Node)
        except ConfigError as error:
            faults += error.faults
    if faults:
        _exit_with(ConfigError(faults))
    click.echo(f"no faults in {len(files)} file{'s' * (len(files) > 1)}", err=True)


@config_group.command("show")
@click.argument("file", type=_FILE)
@_set_option
@_import_option
def show_command(file: Path, changes: Sequence[str]) -> None:
    """Print every value of a file as it was understood, defaults included, with the place that it comes from."""
    try:
        rows = value_rows(file, Node, changes)
    except ConfigError as error:
        _exit_with(error)
    # At most 60, so that one long value does not push all places to the right.
    width = min(max(len(f"{path}: {value}") for path, value, _ in rows), 60)
    for path, value, origin in rows:
        left = f"{path}: {value}"
        # The width is that of the text without the codes of its colour.
        blanks = " " * max(width - len(left), 0)
        styled = click.style(path, fg="cyan")
        click.echo(f"{styled}: {value}{blanks}  # {origin}")


@config_group.command("diff")
@click.argument("left", type=_FILE, metavar="A")
@click.argument("right", type=_FILE, metavar="B")
@_import_option
@click.pass_context
def diff_command(context: click.Context, left: Path, right: Path) -> None:
    """Print the differences of two files, by path.

    The exit code is 0 if they say the same, and 1 if they differ or have faults.
    """
    changes = diff(_load_or_exit(left), _load_or_exit(right))
    for change in changes:
        click.echo(str(change))
    context.exit(1 if changes else 0)


@config_group.command("schema")
@click.argument("name", metavar="MODULE:CLASS")
@click.option(
    "--style",
    type=click.Choice(["editor", "strict"]),
    default="editor",
    show_default=True,
)
@_import_option
@click.pass_context
def schema_command(context: click.Context, name: str, style: Any) -> None:
    """Print the JSON Schema of a class, for editors and validators.

    Put it beside your files, and name it in their first line: # yaml-language-server:
    $schema=model.schema.json
    """
    module, _, qualname = name.partition(":")
    try:
        cls: Any = importlib.import_module(module)
        for part in qualname.split("."):
            cls = getattr(cls, part)
        schema = json_schema(cls, style=style)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise click.UsageError(
            f"{name}: {error}; write a module and a node class, as my_package.models:Model"
        ) from None
    click.echo(json.dumps(schema, indent=2))


@click.command("summary")
@click.argument("file", type=_FILE)
@_set_option
@_import_option
def summary_command(file: Path, changes: Sequence[str]) -> None:
    """Print the States of the model of a file: shapes, parameters, bytes, sharing. No array is made."""
    config = _load_or_exit(file, changes)
    faults = [
        Fault(what, path=path_str(visit.path))
        for visit, what in constructor_faults(config)
    ]
    if faults:
        _exit_with(ConfigError(faults))
    click.echo(repr(summary(config)))
