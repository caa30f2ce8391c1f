"""No `Any` in a public signature without a comment that says why: what it stands for, a checker cannot check."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from itertools import groupby
from typing import TypeAlias

import pytest

import graphnode as gn
from tests.test_surface import public

# `State[Any]` says "of whatever value", which no other word does, as they are invariant.
OF_ANY = {"State", "FlatStates", "GraphDef", "TreefyState", "Schema", "Field", "type", "dtype", "ndarray"}
METHODS = {"__init__", "__call__", "__getitem__", "__iter__", "__or__", "__sub__"}

Function: TypeAlias = ast.FunctionDef


def public_definitions() -> dict[str, set[str]]:
    """The names of the public functions and classes, by the module that defines them."""
    found: dict[str, set[str]] = {}
    for module in (gn, gn.nn, gn.optim, gn.random):
        for value in public(module).values():
            # Another module's names are its imports; the errors, whose module is the public one, are short.
            if inspect.isfunction(value) or inspect.isclass(value):
                home = value.__module__
                if home != "graphnode" and (module is gn or home.startswith(module.__name__)):
                    found.setdefault(home, set()).add(value.__qualname__)
    return found


DEFINITIONS = public_definitions()


def has_any(annotation: ast.AST) -> bool:
    """Whether an annotation says Any, other than of what a State holds and its kin."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:  # the axes of an array
            return False
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).split(".")[-1] in OF_ANY:
        return False
    if isinstance(annotation, ast.Name):
        return annotation.id in ("Any", "AnyType")
    return any(has_any(child) for child in ast.iter_child_nodes(annotation))


def annotations_of(function: Function) -> Iterator[ast.AST]:
    """The annotations of the parameters and of the result."""
    given = function.args
    for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
        if argument is not None and argument.annotation is not None:
            yield argument.annotation
    if function.returns is not None:
        yield function.returns


def first_line(statement: ast.stmt) -> int:
    """The line on which a statement begins, decorators included."""
    decorators = statement.decorator_list if isinstance(statement, ast.FunctionDef | ast.ClassDef) else []
    return min([statement.lineno, *[one.lineno for one in decorators]])


def signatures(body: list[ast.stmt], names: set[str] | None) -> Iterator[tuple[str, list[Function], int, int]]:
    """The functions of a body, overloads together: name, signatures, and the lines from what is before to the code."""
    ends = [0, *[statement.end_lineno or 0 for statement in body]]
    numbered = [(at, one) for at, one in enumerate(body) if isinstance(one, ast.FunctionDef)]
    for name, group in groupby(numbered, key=lambda item: item[1].name):
        members = list(group)
        is_public = (not name.startswith("_") or name in METHODS) if names is None else name in names
        if is_public:
            functions = [one for _, one in members]
            overloads = [one for one in functions if any(ast.unparse(d) == "overload" for d in one.decorator_list)]
            yield name, overloads or functions, ends[members[0][0]], first_line(functions[-1].body[0])


def undocumented(module: str, names: set[str]) -> Iterator[str]:
    """The public signatures of a module that say Any and not why."""
    source = inspect.getsource(importlib.import_module(module))
    lines = source.splitlines()
    tree = ast.parse(source)
    bodies: list[tuple[str, list[ast.stmt], set[str] | None]] = [("", tree.body, names)]
    bodies += [
        (f"{one.name}.", one.body, None) for one in tree.body if isinstance(one, ast.ClassDef) and one.name in names
    ]
    for prefix, body, wanted in bodies:
        for name, functions, start, end in signatures(body, wanted):
            says_any = any(has_any(annotation) for one in functions for annotation in annotations_of(one))
            comments = [text for line in lines[start : end - 1] for _, mark, text in [line.partition("# ")] if mark]
            if says_any and not any("Any" in comment for comment in comments):
                yield f"{module}:{functions[0].lineno} {prefix}{name}"


@pytest.mark.parametrize("module", sorted(DEFINITIONS))
def test_a_signature_says_why_it_says_any(module: str):
    """A comment beside the signature gives the reason."""
    assert list(undocumented(module, DEFINITIONS[module])) == []


def test_an_any_without_a_reason_is_found(tmp_path: object):
    """The search finds Any in parameters, results, strings and parts, but not as what a State holds."""
    said = ["x: Any", "x: 'list[Any]'", "x: dict[str, Any] | None", "*x: Any", "**x: Any", "*, x: Callable[..., Any]"]
    for text in said:
        (function,) = ast.parse(f"def f({text}): ...").body
        assert isinstance(function, ast.FunctionDef)
        assert any(map(has_any, annotations_of(function))), text
    for text in ("x: State[Any]", "x: type[Any]", "x: object", "x: 'GraphDef[Any]'"):
        (function,) = ast.parse(f"def f({text}): ...").body
        assert isinstance(function, ast.FunctionDef)
        assert not any(map(has_any, annotations_of(function))), text
