"""The commands about checkpoints: `graphnode checkpoint ...`. None imports Orbax or a class of the user's."""

import sys
from pathlib import Path
from typing import NoReturn

import click

from .._errors import CheckpointError
from ._inspect import manifest
from ._manifest import Manifest
from ._propose import proposed
from ._show import changed_values, differences, printable, shown

_PATH = click.Path(path_type=Path)


@click.group("checkpoint", context_settings={"help_option_names": ["-h", "--help"]})
def checkpoint_group() -> None:
    """Show and compare checkpoints, by their manifests alone.

    No array is read, and none of the classes of the model is needed.
    """


def _manifest_or_exit(path: Path) -> Manifest:
    """The manifest of a checkpoint, for the commands; a fault is printed, and ends the command."""
    try:
        return manifest(path)
    except CheckpointError as error:
        _exit_with(error)


def _exit_with(error: CheckpointError) -> NoReturn:
    """Print what is wrong, and end with 2."""
    for line in printable(str(error).split("\n")):
        click.echo(line, err=True)
    click.get_current_context().exit(2)
    raise AssertionError  # pragma: no cover  # exit does not return


@checkpoint_group.command("show")
@click.argument("path", type=_PATH)
@click.option(
    "--config",
    "is_config",
    is_flag=True,
    help="Print the text of its configuration instead.",
)
@click.pass_context
def show_command(context: click.Context, path: Path, is_config: bool) -> None:
    """Print the States of a checkpoint: paths, classes, shapes and dtypes, numbers, sharing.

    The exit code is 2 if there is no checkpoint at PATH, and 1 if --config is given and
    there is no configuration in it.
    """
    found = _manifest_or_exit(path)
    if not is_config:
        click.echo("\n".join(printable(shown(found))))
    elif found.config is None:
        text = f"{path} has no configuration: save(..., config=text) keeps one"
        click.echo(text, err=True)
        context.exit(1)
    elif _is_terminal():
        click.echo("\n".join(printable(found.config.splitlines())))
    else:
        # Into a file: to the character.
        click.echo(found.config, nl=False)


def _is_terminal() -> bool:
    """For `show_command`: whether what is printed goes to a person."""
    return sys.stdout.isatty()


@checkpoint_group.command("diff")
@click.argument("left", type=_PATH, metavar="A")
@click.argument("right", type=_PATH, metavar="B")
@click.option(
    "--values", is_flag=True, help="Name the States whose numbers differ, too."
)
@click.pass_context
def diff_command(context: click.Context, left: Path, right: Path, values: bool) -> None:
    """Print how two checkpoints differ: States that one has alone, classes, shapes, static values, sharing.

    And the changes (gn.checkpoint.Changes) that may lead from A to B, by shapes, dtypes
    and the nearest names: a guess, to be read before it is used.

    The exit code is 0 if they do not differ, 1 if they do, and 2 if one of them is no
    checkpoint. Other numbers in the arrays are a difference with --values alone.
    """
    manifests = _manifest_or_exit(left), _manifest_or_exit(right)
    lines = list(differences(*manifests))
    changed = changed_values(*manifests)
    if values:
        lines += [f"{path}: other values" for path in changed]
    changes = [f"  {change!r}," for change in proposed(*manifests)]
    if changes:
        lines += ["changes that may lead from A to B:", *changes]
    for line in printable(lines):
        click.echo(line)
    if not values and changed:
        click.echo(
            f"{len(changed):,} States have other values; --values names them", err=True
        )
    context.exit(1 if lines else 0)
