"""The command line: `python -m graphnode`, or `graphnode` where it is installed."""

import importlib
from collections.abc import Sequence
from typing import ClassVar

import click

from . import __version__
from .check import CODES, REPORTS, Code, TargetError, check, summary


class _Commands(click.Group):
    """The commands. Those of other packages are imported when they are called, as these may need an extra."""

    # The package, and the name of the command in its module `_command`.
    _lazy: ClassVar = {
        "checkpoint": ("checkpoint", "checkpoint_group"),
        "config": ("config", "config_group"),
        "sharding": ("sharding", "sharding_group"),
        "summary": ("config", "summary_command"),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names that `--help` lists: those in `_lazy` too, which click does not know."""
        return sorted([*super().list_commands(ctx), *self._lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name. That of a package in `_lazy` is imported now."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        package, name = self._lazy[cmd_name]
        try:
            module = importlib.import_module(f"graphnode.{package}._command")
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"{cmd_name} needs {error.name}, which is not installed: pip install 'graphnode[{package}]'"
            ) from None
        command: click.Command = getattr(module, name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="graphnode")
def main() -> None:
    """Tools for models that are declared as graphnode classes."""


def _codes(
    context: click.Context, parameter: click.Parameter, value: Sequence[str]
) -> list[str]:
    """For click: the codes, and beginnings of codes, of `--select` or `--ignore`: `GN1,GN201`."""
    prefixes = [prefix.strip() for text in value for prefix in text.split(",")]
    for prefix in prefixes:
        if not any(prefix and code.startswith(prefix) for code in CODES):
            raise click.BadParameter(
                f"no code begins with {prefix!r}", context, parameter
            )
    return prefixes


def _explain(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> None:
    """For click: print what `--explain CODE` asks for, and exit; without the option, do nothing."""
    if value is None:
        return
    code: Code | None = CODES.get(value)
    if code is None:
        raise click.BadParameter(
            f"no code is {value!r}; they are {', '.join(CODES)}", context, parameter
        )
    click.echo(
        f"{code.code} {code.name}: {code.summary}\nMore, with examples: {code.anchor}"
    )
    context.exit()


@main.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="PACKAGE_OR_FILE...")
@click.option(
    "--strict",
    is_flag=True,
    help="Look also for States without a contract of shape and dtype.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(list(REPORTS)),
    default="text",
    show_default=True,
    help="How to print.",
)
@click.option(
    "--select",
    multiple=True,
    metavar="CODES",
    callback=_codes,
    help="Report these codes alone: GN1,GN201.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="CODES",
    callback=_codes,
    help="Do not report these codes.",
)
@click.option(
    "--explain",
    metavar="CODE",
    callback=_explain,
    expose_value=False,
    is_eager=True,
    help="Explain a code, and exit.",
)
@click.pass_context
def check_command(
    context: click.Context,
    targets: Sequence[str],
    strict: bool,
    style: str,
    select: list[str],
    ignore: list[str],
) -> None:
    """Find what no type checker can see in node classes.

    PACKAGE_OR_FILE is the dotted name of a module or package, a directory, or a Python
    file. The modules are imported, those of a package with all submodules, and every
    class of nodes or States in them is checked.

    A comment "# graphnode: ignore[GN201]" on the line keeps a finding back.

    The exit code is 0 if nothing was found, 1 if something was, and 2 if a module
    cannot be imported (GN001, which no option leaves out) or the command was not
    understood.
    """
    try:
        checked = check(*targets, strict=strict)
    except TargetError as error:
        raise click.UsageError(str(error), context) from None
    findings = [
        finding
        for finding in checked.findings
        if _is_selected(finding.code.code, select, ignore)
    ]
    click.echo(REPORTS[style](findings), nl=False)
    click.echo(summary(findings, checked.classes), err=True)
    # Before the findings: a module that cannot be imported may hide more of them.
    if not checked.is_complete:
        context.exit(2)
    context.exit(1 if findings else 0)


def _is_selected(code: str, select: Sequence[str], ignore: Sequence[str]) -> bool:
    """For `--select` and `--ignore`: whether a finding with this code is reported, by (beginnings of) their codes."""
    # What cannot be imported was not checked: that must not be hidden.
    if code == "GN001":
        return True
    if select and not code.startswith(tuple(select)):
        return False
    return not code.startswith(tuple(ignore))


if __name__ == "__main__":
    main()
