"""What the text of a module says of its classes: where their members stand, and what their methods assign.

Everything comes from the syntax tree; a class is found in it by its `__qualname__`, as
classes in functions and nested classes have one too.
"""

import ast
import functools
import inspect
import io
import itertools
import re
import sys
import tokenize
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Final, NamedTuple, TypeAlias

from ._members import own_annotations

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
# Their first parameter is not an instance, with or without a decorator.
_ON_CLASSES: Final = frozenset({"__new__", "__init_subclass__", "__class_getitem__"})
# They assign nothing, or `_read_call` knows what.
_KNOWN_FUNCTIONS: Final = frozenset(
    {
        "getattr",
        "hasattr",
        "id",
        "isinstance",
        "print",
        "repr",
        "setattr",
        "str",
        "super",
        "type",
        "vars",
    }
)
_KNOWN_METHODS: Final = frozenset({"__init__", "__post_init__", "__setattr__"})
_IGNORE: Final = re.compile(r"#\s*graphnode:\s*ignore(?:\[([^\]]*)\])?")


class Place(NamedTuple):
    """Where something stands, from its first line to its last; a column counts characters from 1."""

    line: int
    column: int
    end_line: int


class Assignment(NamedTuple):
    """An assignment to an attribute of `self`.

    Attributes:
        name: The attribute.
        place: Where the target stands.
        value: What is assigned, where one expression is.
        annotation: What the assignment is annotated with.
        is_checked: Whether `Node.__setattr__` sees it, and no `hasattr` of the method
            was asked before.
        method: The method that it stands in.
    """

    name: str
    place: Place
    value: ast.expr | None = None
    annotation: str | None = None
    is_checked: bool = True
    method: str = ""


# Where the code of a function stands: its file, and its first line, which may be that
# of a decorator.
_Origin: TypeAlias = tuple[str, int]


class ModuleSource:
    """The text of one module, and the classes that it defines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        self.lines: Sequence[str] = raw.decode(encoding).splitlines()
        self._classes: dict[str, list[ast.ClassDef]] = {}
        for qualname, node in _class_definitions(ast.parse(raw, str(path)), ""):
            self._classes.setdefault(qualname, []).append(node)
        self._sources: weakref.WeakKeyDictionary[type, ClassSource] = (
            weakref.WeakKeyDictionary()
        )

    def class_source(self, cls: type) -> "ClassSource | None":
        """The definition of a class; of several under one name, the one that fits it best, and the last of those."""
        if cls in self._sources:
            return self._sources[cls]
        members = {
            name: frozenset(_origins(value)) for name, value in cls.__dict__.items()
        }
        found = [
            ClassSource(self, node, members)
            for node in self._classes.get(cls.__qualname__, ())
        ]
        source = max(
            reversed(found), key=lambda source: source.likeness(cls), default=None
        )
        if source is not None:
            self._sources[cls] = source
        return source

    def place(
        self, node: ast.stmt | ast.expr, statement: ast.stmt | None = None
    ) -> Place:
        """The place of a node; its last line is that of its statement, where comments about it stand."""
        end = (statement or node).end_lineno or node.lineno
        before = self.lines[node.lineno - 1].encode()[: node.col_offset]
        return Place(node.lineno, len(before.decode()) + 1, end)

    def is_ignored(self, place: Place, code: str) -> bool:
        """Whether a comment at a place says `graphnode: ignore`, for all codes or for this one."""
        for line in self.lines[place.line - 1 : place.end_line]:
            for ignored in _IGNORE.finditer(line):
                codes = ignored[1]
                if codes is None or any(
                    code.startswith(one.strip())
                    for one in codes.split(",")
                    if one.strip()
                ):
                    return True
        return False


class ClassSource:
    """The definition of one class.

    Args:
        module: Where it stands.
        node: Its text, of which not all has run: a body may have branches.
        functions: Where the functions stand that each name of the class has.
    """

    def __init__(
        self,
        module: ModuleSource,
        node: ast.ClassDef,
        functions: Mapping[str, frozenset[_Origin]],
    ) -> None:
        self.module, self.node, self._functions = module, node, functions

    @property
    def place(self) -> Place:
        """The line with `class`."""
        first = self.module.place(self.node)
        return first._replace(end_line=max(first.line, self.node.body[0].lineno - 1))

    @functools.cached_property
    def members(self) -> dict[str, Place]:
        """Where each name of the class body stands; an annotation is what declares a field."""
        places: dict[str, Place] = {}
        annotated: dict[str, Place] = {}
        for statement in _flat(self.node.body):
            if isinstance(statement, ast.AnnAssign) and isinstance(
                statement.target, ast.Name
            ):
                annotated[self._mangled(statement.target.id)] = self.module.place(
                    statement
                )
            elif isinstance(statement, ast.Assign):
                names = [
                    target.id
                    for target in statement.targets
                    if isinstance(target, ast.Name)
                ]
                places.update(dict.fromkeys(names, self.module.place(statement)))
            elif isinstance(statement, _FUNCTIONS):
                places[statement.name] = self.module.place(statement)._replace(
                    end_line=statement.lineno
                )
        return {**places, **annotated}

    @functools.cached_property
    def docs(self) -> dict[str, str]:
        """The string under each annotated name: a field's documentation."""
        found: dict[str, str] = {}
        for declared, after in itertools.pairwise(self.node.body):
            if isinstance(declared, ast.AnnAssign) and isinstance(
                declared.target, ast.Name
            ):
                text = (
                    after.value.value
                    if isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                    else None
                )
                if isinstance(text, str):
                    found[self._mangled(declared.target.id)] = inspect.cleandoc(text)
        return found

    @functools.cached_property
    def assignments(self) -> Sequence[Assignment]:
        """What the methods assign to attributes of `self`."""
        return self._read[0]

    @property
    def is_opaque(self) -> bool:
        """Whether a method may assign what its text does not name, or has its text elsewhere."""
        return self._read[1] or self._has_functions_of_elsewhere

    def calls_next(self, method: str) -> bool | None:
        """Whether a method of the class calls that of the next class in line; `None` where no text of it is seen."""
        written = [one for one in self._methods if self._mangled(one.name) == method]
        return any(_mentions(one, method) for one in written) if written else None

    @functools.cached_property
    def _methods(self) -> Sequence[_Function]:
        """The methods, without those of branches that have not run."""
        written = [
            (self._mangled(method.name), method) for method in _methods(self.node)
        ]
        there: list[_Function] = []
        for name, method in written:
            own = {
                self._origin(other)
                for other_name, other in written
                if other_name == name
            }
            # Of a function that a decorator hides, it is not known where it stands.
            origins = own & self._functions.get(name, frozenset()) or own
            if name in self._functions and self._origin(method) in origins:
                there.append(method)
        return there

    @functools.cached_property
    def _has_functions_of_elsewhere(self) -> bool:
        """Whether a name of the body is assigned a function that is not defined there: `__post_init__ = init`."""
        own = {
            self._origin(statement)
            for statement in _flat(self.node.body)
            if isinstance(statement, _FUNCTIONS)
        }
        assigned = [
            statement
            for statement in _flat(self.node.body)
            if isinstance(statement, ast.Assign)
        ]
        names = [
            target.id
            for one in assigned
            for target in one.targets
            if isinstance(target, ast.Name)
        ]
        return any(
            self._functions.get(self._mangled(name), frozenset()) - own
            for name in names
        )

    def _origin(self, function: _Function) -> _Origin:
        lines = [
            function.lineno,
            *(decorator.lineno for decorator in function.decorator_list),
        ]
        return str(self.module.path), min(lines)

    @functools.cached_property
    def _read(self) -> tuple[Sequence[Assignment], bool]:
        found: list[Assignment] = []
        is_opaque = False
        for method in self._methods:
            parameters = [*method.args.posonlyargs, *method.args.args]
            if parameters and not _binds(method, parameters[0].arg, is_method=True):
                reader = _MethodReader(self.module, parameters[0].arg)
                reader.read(method.body)
                for one in reader.found:
                    is_checked = one.is_checked and one.name not in reader.asked
                    name, method_name = (
                        self._mangled(one.name),
                        self._mangled(method.name),
                    )
                    found.append(
                        one._replace(
                            name=name, is_checked=is_checked, method=method_name
                        )
                    )
                is_opaque |= reader.is_opaque
        return found, is_opaque

    def likeness(self, cls: type) -> tuple[bool, bool, int]:
        """How well the text fits a class: its line (from Python 3.13), its annotated names, its functions' lines."""
        annotated = {
            self._mangled(statement.target.id)
            for statement in _flat(self.node.body)
            if isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
        }
        lines = [
            one.__code__.co_firstlineno
            for one in cls.__dict__.values()
            if isinstance(one, FunctionType)
        ]
        within = range(self.node.lineno, (self.node.end_lineno or self.node.lineno) + 1)
        first = min(
            [
                self.node.lineno,
                *(decorator.lineno for decorator in self.node.decorator_list),
            ]
        )
        is_there = cls.__dict__.get("__firstlineno__") == first
        return (
            is_there,
            annotated == set(own_annotations(cls)),
            sum(line in within for line in lines),
        )

    def _mangled(self, name: str) -> str:
        is_private = name.startswith("__") and not name.endswith("__")
        return f"_{self.node.name.lstrip('_')}{name}" if is_private else name


class _MethodReader:
    """Collects what one method, and the functions in it that close over its `self`, assign."""

    def __init__(self, module: ModuleSource, self_name: str) -> None:
        self.module, self.self_name = module, self_name
        self.found: list[Assignment] = []
        self.asked: set[str] = set()
        self.is_opaque = False

    def read(self, nodes: Sequence[ast.AST], statement: ast.stmt | None = None) -> None:
        for node in nodes:
            if isinstance(node, ast.Lambda | _Function) and _binds(
                node, self.self_name
            ):
                continue
            if isinstance(node, ast.stmt):
                # The body of a compound statement is not part of what it assigns.
                statement = (
                    None if hasattr(node, "body") or hasattr(node, "cases") else node
                )
            self._read_one(node, statement)
            self.read(list(ast.iter_child_nodes(node)), statement)

    def _read_one(self, node: ast.AST, statement: ast.stmt | None) -> None:
        if isinstance(node, ast.Attribute) and self._is_self(node.value):
            self.is_opaque |= node.attr == "__dict__"
            if isinstance(node.ctx, ast.Store):
                self._add_target(node, statement)
        elif isinstance(node, ast.Call):
            self.is_opaque |= self._hands_on(node)
            self._read_call(node, statement)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            self.is_opaque |= self._is_self(node.value)  # by another name

    def _hands_on(self, call: ast.Call) -> bool:
        """Whether a call gives the instance to a function that may assign what it likes."""
        function = call.func
        only_looks = isinstance(function, ast.Name) and function.id in _KNOWN_FUNCTIONS
        # Of a base, whose text is read for itself.
        is_method = (
            isinstance(function, ast.Attribute) and function.attr in _KNOWN_METHODS
        )
        given = [*call.args, *[keyword.value for keyword in call.keywords]]
        return not (only_looks or is_method) and any(map(self._holds_self, given))

    def _holds_self(self, value: ast.expr | None) -> bool:
        """Whether an argument is the instance, or a display of a container that has it."""
        if isinstance(value, ast.Starred):
            return self._holds_self(value.value)
        if isinstance(value, (ast.List, ast.Tuple, ast.Set)):
            return any(map(self._holds_self, value.elts))
        return (
            any(map(self._holds_self, value.values))
            if isinstance(value, ast.Dict)
            else self._is_self(value)
        )

    def _add_target(self, node: ast.Attribute, statement: ast.stmt | None) -> None:
        value, annotation = None, None
        if isinstance(statement, ast.Assign) and node in statement.targets:
            value = statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.target is node:
            if statement.value is None:
                return  # `self.x: int` assigns nothing
            annotation = ast.unparse(statement.annotation)
        self.found.append(
            Assignment(node.attr, self.module.place(node, statement), value, annotation)
        )

    def _read_call(self, call: ast.Call, statement: ast.stmt | None) -> None:
        function, arguments = call.func, call.args
        if isinstance(function, ast.Name) and function.id == "vars":
            self.is_opaque |= len(arguments) == 1 and self._is_self(arguments[0])
            return
        if isinstance(function, ast.Name) and function.id == "hasattr":
            self._read_question(arguments)
            return
        is_builtin = isinstance(function, ast.Name) and function.id == "setattr"
        is_slot = isinstance(function, ast.Attribute) and function.attr == "__setattr__"
        if not (is_builtin or is_slot):
            return
        if len(arguments) != 3:
            self.is_opaque |= is_slot  # `super().__setattr__(name, value)`
        elif self._is_self(arguments[0]):
            name = arguments[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                place = self.module.place(call, statement)
                self.found.append(
                    Assignment(name.value, place, arguments[2], is_checked=is_builtin)
                )
            else:
                self.is_opaque = True

    def _read_question(self, arguments: Sequence[ast.expr]) -> None:
        if len(arguments) == 2 and self._is_self(arguments[0]):
            name = arguments[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self.asked.add(name.value)

    def _is_self(self, node: ast.expr | None) -> bool:
        return isinstance(node, ast.Name) and node.id == self.self_name


class Sources:
    """The sources of modules, each read once.

    Args:
        files: The files of modules that may not be in `sys.modules`, as their import
            has failed.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._modules: dict[str, ModuleSource | None] = {}

    def module(self, name: str) -> ModuleSource | None:
        """The source of a module, or `None` where it has none."""
        if name not in self._modules:
            file: str | None = getattr(
                sys.modules.get(name), "__file__", self._files.get(name)
            )
            is_text = file is not None and file.endswith(".py") and Path(file).is_file()
            self._modules[name] = (
                ModuleSource(Path(file)) if file is not None and is_text else None
            )
        return self._modules[name]

    def of_class(self, cls: type) -> ClassSource | None:
        """The source of a class, or `None` where it was not written as one."""
        module = self.module(cls.__module__)
        return module.class_source(cls) if module is not None else None


def _origins(member: object) -> Iterator[_Origin]:
    """Where the functions stand that a member of a class is made of: one for a method, several for a property."""
    if isinstance(member, property):
        parts: Sequence[object] = (member.fget, member.fset, member.fdel)
    elif isinstance(member, (functools.cached_property, functools.partialmethod)):
        parts = (member.func,)
    else:
        # Of a static method or a class method
        parts = (getattr(member, "__func__", member),)
    for part in parts:
        function = inspect.unwrap(part) if callable(part) else None
        if isinstance(function, FunctionType):
            yield function.__code__.co_filename, function.__code__.co_firstlineno


def _mentions(method: _Function, name: str) -> bool:
    """Whether a method asks an object for something of this name, as `super().<name>()` does."""
    nodes = list(ast.walk(method))
    is_asked = any(
        isinstance(node, ast.Attribute) and node.attr == name for node in nodes
    )
    return is_asked or any(
        isinstance(node, ast.Constant) and node.value == name for node in nodes
    )


def _class_definitions(
    node: ast.AST, prefix: str
) -> Iterator[tuple[str, ast.ClassDef]]:
    for statement in _statements(node):
        if isinstance(statement, ast.ClassDef):
            yield prefix + statement.name, statement
            yield from _class_definitions(statement, f"{prefix}{statement.name}.")
        elif isinstance(statement, _FUNCTIONS):
            yield from _class_definitions(
                statement, f"{prefix}{statement.name}.<locals>."
            )
        else:
            yield from _class_definitions(statement, prefix)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements right inside of one, with the branches of `try` and `match`: never expressions, which are many."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner: object = getattr(node, block, ())
        if isinstance(inner, list):
            yield from inner


def _flat(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """The statements of a class body, also those under `if`, `try`, `with`, `for` and `match`."""
    for statement in body:
        yield statement
        if not isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
            yield from _flat(list(_statements(statement)))


def _methods(node: ast.ClassDef) -> Iterator[_Function]:
    for statement in _flat(node.body):
        if isinstance(statement, _FUNCTIONS) and statement.name not in _ON_CLASSES:
            decorators = {
                one.id for one in statement.decorator_list if isinstance(one, ast.Name)
            }
            if not decorators & {"staticmethod", "classmethod"}:
                yield statement


def _binds(
    function: _Function | ast.Lambda, name: str, *, is_method: bool = False
) -> bool:
    """Whether a function has a name of its own that hides an outer one; a method, whether it assigns its `self`."""
    arguments = function.args
    parameters = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    if not is_method and any(one is not None and one.arg == name for one in parameters):
        return True
    return not isinstance(function, ast.Lambda) and any(
        _stores(statement, name) for statement in function.body
    )


def _stores(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Name):
        return node.id == name and not isinstance(node.ctx, ast.Load)
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return node.name == name
    if isinstance(node, ast.Lambda):
        return False
    return any(_stores(inner, name) for inner in ast.iter_child_nodes(node))
