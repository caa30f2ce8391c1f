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
from .._errors import ConfigError, Fault, SummaryError
from .._summary._errors import VALUE_ERRORS
from ._config import Config
from ._diff import diff
from ._json_schema import json_schema
from ._load import load
from ._override import override
from ._show import load_checked, value_rows
from ._summary import file_summary

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


def _exit_with(error: ConfigError | SummaryError) -> NoReturn:
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
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SHAPE",
    help='What the model is called with: "batch 28 28 1", "int32[batch,128]", or NAME=SHAPE for an input by name. '
    "A name is the size that a field of the model has, or else any size. ... stands for the inputs that are still "
    "needed, as their annotations have them.",
)
@click.option(
    "--method", metavar="NAME", help="Call this method, and not the model itself."
)
@click.option(
    "--depth", type=click.IntRange(min=0), help="Show so many nodes below the model."
)
@click.option("--states", is_flag=True, help="Show the States of each node, too.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print.",
)
@_set_option
@_import_option
def summary_command(
    file: Path,
    inputs: Sequence[str],
    method: str | None,
    depth: int | None,
    states: bool,
    style: str,
    changes: Sequence[str],
) -> None:
    """Print what the model of a file takes: shapes, parameters, bytes, sharing.

    With --input or --method also what each node is called with and gives, and the
    operations of its products and convolutions. No array is made. Where shapes do not
    fit, each fault is printed as FILE:LINE:COLUMN: PATH: what is wrong.

    The exit code is 0 if there are no faults, 1 if there are some, and 2 if the command
    was not understood.
    """
    args, named = _inputs_of(inputs)
    try:
        summary = file_summary(file, changes, args, named, method)
    except (ConfigError, SummaryError) as error:
        _exit_with(error)
    # Of the code of the model, as other errors of it.
    except VALUE_ERRORS:
        raise
    except TypeError as error:
        raise click.UsageError(str(error)) from None
    if style == "json":
        click.echo(json.dumps(summary.to_dict(), indent=2))
    else:
        click.echo(repr(summary.view(depth=depth, states=states or None, lines=None)))


# Any: a text, or `...`.
def _inputs_of(texts: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs of a command line: those by position, and those by name."""
    args: list[Any] = []
    named: dict[str, Any] = {}
    for text in texts:
        name, separator, shape = text.partition("=")
        if separator and name.isidentifier():
            named[name] = ... if shape == "..." else shape
        else:
            args.append(... if text == "..." else text)
    return tuple(args), named
