"""Run the Python blocks of a markdown page, and compare what they print with what the page shows.

A page is one program: its ```python blocks share a namespace and run in order. A ```text block right after
one shows its output, as a REPL would print it. Floating-point numbers and addresses may differ; the rest
may not. Words after `python`:

    no-run              the block is not run, and is listed at the end of the tests
    raises=ErrorName    the block raises that error; its text block ends with `ErrorName: message`
    needs=flax          the block is left out where the module flax is not installed; several with commas. On the
                        first block of a page, which imports what the others use, it holds for the whole page

From the root of the repository,

    python -m tests.docrun docs/tutorial.md             compares
    python -m tests.docrun --update docs/tutorial.md    writes what was printed into the text blocks
"""

import argparse
import ast
import contextlib
import difflib
import importlib.util
import io
import linecache
import re
import sys
import tempfile
import traceback
import types
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parent.parent


class PageError(Exception):
    """A page that is malformed, or that stopped in the middle."""


# Reading a page


@dataclass(frozen=True)
class Fence:
    """One fenced block: the lines `first` to `last` (counted from 0, `last` excluded) between its fences."""

    words: tuple[str, ...]
    indent: str
    marks: str
    first: int
    last: int
    text: str


@dataclass(frozen=True)
class Block:
    """A ```python block, and the ```text block that shows its output, if one follows."""

    code: Fence
    shown: Fence | None
    skip: bool
    raises: str | None
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The modules that the block needs, and that are not installed."""
        return [name for name in self.needs if not _is_installed(name)]


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


_OPENING = re.compile(r"( *)(`{3,}|~{3,})([^`]*)$")


def parse_fences(text: str, page: str) -> Iterator[Fence]:
    """Every fenced block of a page, in order."""
    lines = enumerate(text.splitlines())
    for number, line in lines:
        opening = _OPENING.match(line)
        if opening is None:
            continue
        indent, marks, info = opening.groups()
        content: list[str] = []
        for _, inner in lines:
            closing = inner.strip()
            if len(closing) >= len(marks) and set(closing) == {marks[0]}:
                break
            content.append(inner.removeprefix(indent))
        else:
            raise PageError(f"{page}:{number + 1}: the block is never closed")
        first = number + 1
        yield Fence(tuple(info.split()), indent, marks, first, first + len(content), "\n".join(content))


def parse_blocks(text: str, page: str) -> list[Block]:
    """The ```python blocks of a page, each with the output shown for it."""
    lines = text.splitlines()
    fences = list(parse_fences(text, page))
    blocks: list[Block] = []
    for code, after in zip(fences, [*fences, None][1:], strict=True):
        if code.words[:1] != ("python",):
            continue
        words = _parse_words(code.words[1:], f"{page}:{code.first}")
        shown = after if after is not None and after.words == ("text",) else None
        if shown is not None and any(line.strip() for line in lines[code.last + 1 : shown.first - 1]):
            shown = None  # prose stands between them
        blocks.append(Block(code, shown, *words))
    return blocks


def _parse_words(words: Sequence[str], where: str) -> tuple[bool, str | None, tuple[str, ...]]:
    skip, raises = False, None
    needs: tuple[str, ...] = ()
    for word in words:
        name, _, value = word.partition("=")
        if word == "no-run":
            skip = True
        elif name == "raises" and value:
            raises = value
        elif name == "needs" and value:
            needs = tuple(value.split(","))
        else:
            usable = "use no-run, raises=ErrorName or needs=module"
            raise PageError(f"{where}: unknown word {word!r} after python; {usable}")
    return skip, raises, needs


# Running a page


def run_page(path: Path, page: str) -> list[tuple[Block, str]]:
    """Run a page; return each block that ran with what it printed.

    Args:
        path: The markdown file.
        page: How messages name it.

    Raises:
        PageError: The page is malformed, or a block raised, or did not raise what it announces. The
            blocks after that one are not run.
    """
    text = path.read_text(encoding="utf-8")
    blocks = [block for block in parse_blocks(text, page) if not block.skip and not block.missing()]
    with _page_module(path, text, blocks) as namespace, _surroundings(blocks):
        return [(block, _run_block(block, namespace, path, page)) for block in blocks]


@contextlib.contextmanager
def _page_module(path: Path, text: str, blocks: Sequence[Block]) -> Generator[dict[str, Any]]:
    """The page's namespace: `__main__`, as for a reader who runs the page as a script.

    It is a real module, as dataclasses, pickle and string annotations look a class's module up by name.
    """
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    # inspect.getsource parses the whole file: give it the page with all but the code blanked out, which
    # keeps the line numbers. No modification time, or linecache would read the file again.
    lines = ["\n"] * len(text.splitlines())
    for code in (block.code for block in blocks):
        lines[code.first : code.last] = [line + "\n" for line in code.text.splitlines()]
    linecache.cache[str(path)] = (len(text), None, lines, str(path))
    outer = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield module.__dict__
    finally:
        sys.modules["__main__"] = outer
        linecache.cache.pop(str(path), None)


@contextlib.contextmanager
def _surroundings(blocks: Sequence[Block]) -> Generator[None]:
    """A directory to write in, no windows, warnings as errors, and JAX as a reader has it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error")
        # The tests are stricter than a reader, to whom `x @ weight + bias` is good code.
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        if any("matplotlib" in block.code.text for block in blocks):
            stack.enter_context(_no_windows())
        yield


@contextlib.contextmanager
def _no_windows() -> Generator[None]:
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    show = plt.show
    plt.show = lambda *args, **kwargs: None  # the real one warns that Agg has no window  # ty: ignore[invalid-assignment]
    try:
        yield
    finally:
        plt.show = show
        plt.close("all")


def _run_block(block: Block, namespace: dict[str, Any], path: Path, page: str) -> str:
    where = f"{page}:{block.code.first + 1}"
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            _execute(block.code, namespace, str(path))
    except (Exception, SystemExit) as error:
        name = type(error).__name__
        if name != block.raises:
            wanted = f", not {block.raises}" if block.raises else ""
            message = f"{where}: the block raises {name}{wanted}\n\n{_traceback(error, path)}"
            raise PageError(message) from None
        message = str(error)
        return printed.getvalue() + (f"{name}: {message}" if message else name)
    if block.raises:
        raise PageError(f"{where}: the block does not raise {block.raises}")
    return printed.getvalue().rstrip("\n")


def _execute(code: Fence, namespace: dict[str, Any], filename: str) -> None:
    """Run one block; print its last expression as a REPL would."""
    # Blank lines in front give each line its number in the page.
    tree = ast.parse("\n" * code.first + code.text, filename)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, filename, "exec", dont_inherit=True), namespace)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), filename, "eval", dont_inherit=True), namespace)
        if value is not None:
            print(repr(value))


def _traceback(error: BaseException, path: Path) -> str:
    """The traceback from the page on, without the frames of this file."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != str(path):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()


# Comparing

# `layers.0.weight` and `0.10.2` hold no float: what touches a float is not a letter, and not a dotted word.
_FLOAT = re.compile(
    r"""(?<![\w.]) (?:(?<![\])])[-+])?
        (?: (?:\d+\.\d+|\.\d+)(?:[eE][-+]?\d+)?(?!\d|\.\w)     # 1.5, .5, 1.5e-3, and 1.5s
          | \d+\.(?:[eE][-+]?\d+)?(?![\w.])                    # 1. and 1.e-05
          | \d+[eE][-+]?\d+(?![\w.]) )                         # 1e-3
    """,
    re.VERBOSE,
)
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
_ROW = re.compile(r"\[(?:[\s#,.\d+-]|nan|inf|True|False)*\]")


def normalise(text: str) -> str:
    """Replace what may differ between two runs: floats, addresses, and the spacing around floats."""
    text = _FLOAT.sub("#", _ADDRESS.sub("0x#", text))
    text = _ROW.sub(_close_up, text)
    text = re.sub(r"\],\s+dtype=", "], dtype=", text)  # numpy wraps here when the last row is long
    text = re.sub(r"(?<=\S) +(?=#)|(?<=#) +(?=\S)", " ", text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def _close_up(row: re.Match[str]) -> str:
    """A row of numbers without the spaces that align it: numpy pads before the comma too."""
    words = " ".join(row[0][1:-1].split())
    return f"[{re.sub(' ?, ?', ', ', words)}]"


def compare(block: Block, printed: str, page: str) -> str | None:
    """What is wrong with the output shown for a block, as a diff; None if nothing is."""
    if block.shown is None or (shown := normalise(block.shown.text)) == (real := normalise(printed)):
        return None
    where = f"{page}:{block.shown.first + 1}"
    diff = difflib.unified_diff(
        shown.splitlines(), real.splitlines(), f"{where} (shown)", f"{where} (printed)", lineterm=""
    )
    return "\n".join([f"{where}: the page shows another output (# is any float)", *diff])


def check_page(path: Path, page: str) -> list[str]:
    """Run a page; return one message for each block that prints something else than shown.

    Raises:
        PageError: As `run_page`.
    """
    messages = [compare(block, printed, page) for block, printed in run_page(path, page)]
    return [message for message in messages if message is not None]


def skipped_blocks(path: Path, page: str) -> list[str]:
    """Where the page's `no-run` blocks are."""
    blocks = parse_blocks(path.read_text(encoding="utf-8"), page)
    return [f"{page}:{block.code.first}" for block in blocks if block.skip]


def missing_for_page(path: Path, page: str) -> list[str]:
    """The modules without which nothing of the page can run: those that its first block lacks."""
    blocks = parse_blocks(path.read_text(encoding="utf-8"), page)
    return blocks[0].missing() if blocks else []


def left_out_blocks(path: Path, page: str) -> str | None:
    """How many blocks of the page need what is not installed, and what that is; `None` if all can run."""
    blocks = parse_blocks(path.read_text(encoding="utf-8"), page)
    missing = [block.missing() for block in blocks if block.missing()]
    modules = sorted({module for modules in missing for module in modules})
    return f"{page}: {len(missing)} blocks left out, as {', '.join(modules)} is not installed" if missing else None


# Updating


def update_page(path: Path, page: str) -> bool:
    """Write what a page prints into its text blocks; tell whether that changed the file.

    Raises:
        PageError: As `run_page`, and when an output would close its own block. The file is as before.
    """
    before = path.read_text(encoding="utf-8")
    lines = before.splitlines()
    for block, printed in reversed(run_page(path, page)):
        if (shown := block.shown) is None:
            continue
        if shown.marks in printed:
            raise PageError(f"{page}:{shown.first}: the output holds {shown.marks}; use a longer fence")
        output = [(shown.indent + line).rstrip() for line in printed.strip("\n").splitlines()]
        lines[shown.first : shown.last] = output
    after = "\n".join(lines) + "\n"
    path.write_text(after, encoding="utf-8")
    return after != before


def main(arguments: Sequence[str] | None = None) -> int:
    """Check or update the pages named on the command line; return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.docrun", description="Run the code of markdown pages.")
    parser.add_argument("pages", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--update", action="store_true", help="write the real output into the text blocks")
    options = parser.parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")
    status = 0
    for page in options.pages:
        try:
            if missing := missing_for_page(page.resolve(), str(page)):
                print(f"{page}: needs {', '.join(missing)}, not installed")
                continue
            if left_out := left_out_blocks(page.resolve(), str(page)):
                print(left_out)
            if options.update:
                changed = update_page(page.resolve(), str(page))
                print(f"{page}: {'updated' if changed else 'unchanged'}")
                continue
            messages = check_page(page.resolve(), str(page))
        except PageError as error:
            messages = [str(error)]
        if messages:
            status = 1
        print("\n\n".join(messages) or f"{page}: as shown")
    return status


if __name__ == "__main__":
    sys.exit(main())
