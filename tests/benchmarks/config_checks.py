"""What a configuration library keeps: a shared object, a cycle, the places of faults; found out by running it."""

import re
import traceback
from dataclasses import dataclass
from pathlib import Path

from .config_library import ConfigLibrary, Content, content_of

_NODES = 42
_MARK = 7919
"""The value of `n_in` that is broken: no other number of the file, nor the start of one."""


@dataclass(frozen=True)
class Kept:
    """What was found out, as the cells of a table say it."""

    shared: str
    """Whether an object in two places is one."""
    misspelled: str
    """What a misspelled field gives: an error that names file and line, another one, or none."""
    mistyped: str
    """The same of a string for a number."""
    cycle: str
    """Whether a cycle is built."""


def kept_by(library: ConfigLibrary, folder: Path) -> Kept:
    """Try everything with one library; its files go into this folder."""
    content = content_of(_NODES)
    *others, last = content.layers
    text = library.text(Content(content.encoder, [*others, {**last, "n_in": _MARK}]))
    return Kept(
        shared=_shared(library, _written(library, folder, text)),
        misspelled=_error(library, folder, text, library.key, library.key.replace("n_out", "n_uot")),
        mistyped=_error(library, folder, text, str(_MARK), '"four"'),
        cycle=_cycle(library, folder),
    )


def _written(library: ConfigLibrary, folder: Path, text: str) -> Path:
    file = folder / f"checked{library.suffix}"
    file.write_text(text, encoding="utf-8")
    return file


def _shared(library: ConfigLibrary, file: Path) -> str:
    model = library.build(library.load(file))
    return "yes" if model.encoder is model.decoder else "no: two objects"


def _error(library: ConfigLibrary, folder: Path, text: str, right: str, wrong: str) -> str:
    """What comes of the last place of a text that is broken."""
    at = text.rindex(right)
    file = _written(library, folder, text[:at] + wrong + text[at + len(right) :])
    line = text.count("\n", 0, at) + 1
    try:
        library.build(library.load(file))
    except Exception as error:  # whatever each library raises: it is what is looked at
        message = "".join(traceback.format_exception_only(error))
        if re.search(rf"(line |:){line}\b", message) is None:
            return "an error without line"
        return "file and line" if file.name in message else "line"
    return "**no error**"


def _cycle(library: ConfigLibrary, folder: Path) -> str:
    try:
        ring = library.cycle(folder)
    except Exception as error:  # the same
        return f"no: {type(error).__name__}"
    return "yes" if ring.next is ring else "no: another object"
