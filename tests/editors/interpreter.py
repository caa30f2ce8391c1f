"""The same questions in a live interpreter: IPython, in which the program was imported or typed."""

import contextlib
import re
import sys
import types
from collections.abc import Generator
from pathlib import Path

from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.tokenutil import token_at_cursor
from traitlets.config import Config

from tests.editors.probes import CURSOR, PROGRAM, Feature, Probe

# jedi reads the source of what was imported, and has none of what was typed.
SHELLS = {
    "IPython, imported": "from tests.editors.program import *",
    "IPython, typed": PROGRAM.read_text(encoding="utf-8"),
}

_COLOUR = re.compile(r"\x1b\[[\d;]*m")


@contextlib.contextmanager
def shell_after(code: str, folder: Path) -> Generator[InteractiveShell]:
    """A shell in which some code was run.

    Args:
        code: What was typed into it.
        folder: Where IPython keeps its files.
    """
    config = Config()
    config.HistoryManager.enabled = False  # a thread with a database
    # Not `__main__`, which the shell would replace for all of the process.
    module = types.ModuleType("typed")
    try:
        shell = InteractiveShell(config=config, ipython_dir=str(folder), user_module=module, user_ns=vars(module))
        shell.run_cell(code).raise_error()
        yield shell
    finally:
        sys.modules.pop(module.__name__, None)


def ask(shell: InteractiveShell, probe: Probe) -> list[str]:
    """What the shell answers: to the Tab key for a completion, else to a question mark after the word."""
    before, after = probe.code.split(CURSOR)
    if probe.feature is Feature.COMPLETION:
        with provisionalcompleter():
            return [one.text for one in shell.Completer.completions(before + after, len(before))]
    word = token_at_cursor(before + after, len(before))
    return [_COLOUR.sub("", shell.object_inspect_mime(word)["text/plain"])]
