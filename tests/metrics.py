"""Measure the source of a package: size, density, branches, comments, names. `make metrics` prints the figures.

No test holds them: a number can be met by worse code. They say where to look.

    python -m tests.metrics                          of graphnode
    python -m tests.metrics path/to/package ...      of others, a column each
    python -m tests.metrics --worst 20               functions with the most branches, lines with the most tokens
    python -m tests.metrics --words                  where names stand that say nothing
    python -m tests.metrics --sample 30 --seed 1     functions drawn at random, for somebody to read
"""

import argparse
import ast
import collections
import io
import random
import statistics
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

PACKAGE = Path(__file__).resolve().parent.parent / "graphnode"

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

# Participles and numerals as names: they say how a value came about, and not what it is.
EMPTY_NAMES = frozenset(
    (
        "one",
        "ones",
        "found",
        "made",
        "given",
        "held",
        "said",
        "known",
        "kept",
        "told",
        "shown",
        "wanted",
        "got",
        "taken",
    )
)
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.BoolOp, ast.comprehension, ast.ExceptHandler)
LAYOUT = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
)


@dataclass
class Source:
    """One module: its tree, and how many tokens and which comments each line has."""

    path: Path
    text: str
    tree: ast.Module = field(init=False)
    tokens: collections.Counter[int] = field(default_factory=collections.Counter, init=False)
    code_lines: set[int] = field(default_factory=set, init=False)
    comment_lines: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        docstring_lines = {line for node in ast.walk(self.tree) for line in _docstring_lines(node)}
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            first, last = token.start[0], token.end[0]
            if token.type == tokenize.COMMENT:
                self.comment_lines.add(first)
            elif token.type not in LAYOUT and first not in docstring_lines:
                self.tokens[first] += 1
                self.code_lines.update(range(first, last + 1))

    def functions(self) -> Iterator[Function]:
        """Every function and method, also those inside of others."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node

    def lines_of(self, function: Function) -> int:
        """How many lines of code a function has, without its docstring."""
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        return len(self.code_lines.intersection(range(first, (function.end_lineno or first) + 1)))


def _docstring_lines(node: ast.AST) -> range:
    """The lines of a node's docstring, if it has one."""
    if not isinstance(node, ast.Module | ast.ClassDef | Function) or ast.get_docstring(node, clean=False) is None:
        return range(0)
    docstring = node.body[0]
    return range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)


def branches_of(function: Function) -> int:
    """How often a function decides or repeats: if, `x if y`, loop, and/or, comprehension, except."""
    return sum(isinstance(node, BRANCHES) for node in ast.walk(function))


def bound_names(tree: ast.AST) -> Iterator[ast.AST]:
    """Every place that binds a name: an assignment, a parameter, a loop, an `as`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
            yield node


def name_of(node: ast.AST) -> str:
    """The name that a node of `bound_names` binds."""
    return node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else ""


def read(package: Path) -> list[Source]:
    """All modules of a package."""
    return [Source(path, path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))]


def figures(sources: Sequence[Source]) -> dict[str, str]:
    """The figures of a package, by what they measure."""
    functions = [(source, function) for source in sources for function in source.functions()]
    branches = sorted(branches_of(function) for _, function in functions)
    function_lines = sorted(source.lines_of(function) for source, function in functions)
    module_lines = sorted(len(source.text.splitlines()) for source in sources)
    code_lines = sum(len(source.code_lines) for source in sources)
    comment_lines = sum(len(source.comment_lines) for source in sources)
    tokens = sum(source.tokens.total() for source in sources)
    names = [name_of(node) for source in sources for node in bound_names(source.tree)]
    empty_names = sum(name in EMPTY_NAMES for name in names)
    overgrown = sum(count > 10 for count in branches)
    return {
        "modules": f"{len(sources):,}",
        "lines of code": f"{code_lines:,}",
        "tokens": f"{tokens:,}",
        "tokens a line of code": f"{tokens / code_lines:.1f}",
        "comments per 100 lines of code": f"{100 * comment_lines / code_lines:.1f}",
        "lines of a module, median / p90 / max": _quantiles(module_lines, 0.9),
        "functions": f"{len(functions):,}",
        "lines of a function, median / p95 / max": _quantiles(function_lines, 0.95),
        "branches of a function, median / p95 / max": _quantiles(branches, 0.95),
        "functions with over 10 branches": f"{100 * overgrown / len(branches):.1f} % ({overgrown})",
        "empty names per 1,000 bound": f"{1000 * empty_names / len(names):.1f} ({empty_names})",
    }


def _quantiles(values: Sequence[int], upper: float) -> str:
    """Median, an upper quantile and the maximum of sorted values."""
    return f"{statistics.median(values):g} / {values[int(upper * (len(values) - 1))]} / {values[-1]}"


def print_figures(packages: Sequence[Path]) -> None:
    """Print a table: a row for each figure, a column for each package."""
    columns = {package.name: figures(read(package)) for package in packages}
    width = max(len(value) for column in columns.values() for value in column.values())
    print(f"{'':44}", *(f"{name:>{width}}" for name in columns))
    for row in next(iter(columns.values())):
        print(f"{row:44}", *(f"{column[row]:>{width}}" for column in columns.values()))


def print_worst(package: Path, count: int) -> None:
    """Print the functions with the most branches, and the lines with the most tokens."""
    sources = read(package)
    functions = [(branches_of(function), source, function) for source in sources for function in source.functions()]
    functions.sort(key=lambda item: -item[0])
    print("branches")
    for branches, source, function in functions[:count]:
        print(f"{branches:4}  {source.path.relative_to(package)}:{function.lineno} {function.name}")
    lines = [(tokens, source, line) for source in sources for line, tokens in source.tokens.items()]
    lines.sort(key=lambda item: -item[0])
    print("tokens")
    for tokens, source, line in lines[:count]:
        print(f"{tokens:4}  {source.path.relative_to(package)}:{line} {source.text.splitlines()[line - 1].strip()}")


def print_words(package: Path) -> None:
    """Print how often each module binds a name that says nothing, and where."""
    for source in read(package):
        places = [node for node in bound_names(source.tree) if name_of(node) in EMPTY_NAMES]
        if places:
            words = ", ".join(f"{name_of(node)}:{getattr(node, 'lineno', 0)}" for node in places)
            print(f"{source.path.relative_to(package)} ({len(places)}): {words}")


def print_sample(package: Path, count: int, seed: int) -> None:
    """Print functions drawn at random, without their docstrings, for somebody who does not know them."""
    functions = [(source, function) for source in read(package) for function in source.functions()]
    for source, function in random.Random(seed).sample(functions, count):
        lines = source.text.splitlines()[function.lineno - 1 : function.end_lineno]
        print(f"# {source.path.relative_to(package)}:{function.lineno}", *lines, "", sep="\n")


def main() -> None:
    """Read the command line, and print what it asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("packages", nargs="*", type=Path, default=[PACKAGE], help="folders of packages")
    parser.add_argument("--worst", type=int, metavar="N", help="functions and lines to look at first")
    parser.add_argument("--words", action="store_true", help="where names stand that say nothing")
    parser.add_argument("--sample", type=int, metavar="N", help="functions drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    options = parser.parse_args()
    if options.worst is not None:
        print_worst(options.packages[0], options.worst)
    elif options.words:
        print_words(options.packages[0])
    elif options.sample is not None:
        print_sample(options.packages[0], options.sample, options.seed)
    else:
        print_figures(options.packages)


if __name__ == "__main__":
    main()
