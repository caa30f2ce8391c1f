"""What the text of a module says of its classes: where their members stand, and what their methods assign.

Everything comes from the syntax tree:

    Sources ──► ModuleSource ──► ClassSource ──► places of members, docs of fields
    (by module) (one file)       (one `class`)       │ each method
                                                     ▼
                                 _MethodReader ──► Assignment: self.name = ...
                                                   or "is opaque": anything may be assigned

A class is found by its `__qualname__`, as classes in functions and nested classes have
one too. Of several under one name, `ClassSource.likeness` says which it is.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        """Read and parse the file at a path; its classes are looked for in the text by name."""
        self.path = path
        raw = path.read_bytes()
        # As Python reads it: by a byte order mark or a coding comment.
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        self.lines: Sequence[str] = raw.decode(encoding).splitlines()
        self._classes: dict[str, list[ast.ClassDef]] = {}
        for qualname, node in _class_definitions(ast.parse(raw, str(path)), ""):
            self._classes.setdefault(qualname, []).append(node)
        # Weakly: a class that a notebook has defined again is to go.
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
        # From the last one, since `max` gives the first of equals
        sources = [
            ClassSource(self, node, members)
            for node in reversed(self._classes.get(cls.__qualname__, ()))
        ]
        source = max(sources, key=lambda source: source.likeness(cls), default=None)
        if source is not None:
            self._sources[cls] = source
        return source

    def place(
        self, node: ast.stmt | ast.expr, statement: ast.stmt | None = None
    ) -> Place:
        """The place of a node, for a finding; its last line is that of its statement, where `ignore` comments stand."""
        end = (statement or node).end_lineno or node.lineno
        # The syntax tree counts bytes of UTF-8.
        before = self.lines[node.lineno - 1].encode()[: node.col_offset]
        return Place(node.lineno, len(before.decode()) + 1, end)

    def is_ignored(self, place: Place, code: str) -> bool:
        """Whether a comment at a place says `graphnode: ignore`, for all codes or this one: it is no finding then."""
        for line in self.lines[place.line - 1 : place.end_line]:
            for comment in _IGNORE.finditer(line):
                if comment[1] is None:
                    return True
                prefixes = [prefix.strip() for prefix in comment[1].split(",")]
                if any(code.startswith(prefix) for prefix in prefixes if prefix):
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
        """The line with `class`: where a finding about the class as a whole stands."""
        first = self.module.place(self.node)
        # Up to its body: bases may take several lines, any of which may have a comment.
        return first._replace(end_line=max(first.line, self.node.body[0].lineno - 1))

    @functools.cached_property
    def members(self) -> dict[str, Place]:
        """Where each name of the class body stands, for findings about it; an annotation is what declares a field."""
        places: dict[str, Place] = {}
        annotated: dict[str, Place] = {}
        for statement in _flat(self.node.body):
            place = self.module.place
            if isinstance(statement, ast.AnnAssign):
                for name in self._annotated_names([statement]):
                    annotated[name] = place(statement)
            elif isinstance(statement, ast.Assign):
                names = _assigned_names(statement)
                places.update(dict.fromkeys(names, place(statement)))
            elif isinstance(statement, _FUNCTIONS):
                # Of a method the first line alone: comments in its body are its own.
                end = statement.lineno
                places[statement.name] = place(statement)._replace(end_line=end)
        # The annotation wins, wherever the name is also assigned.
        return {**places, **annotated}

    @functools.cached_property
    def docs(self) -> dict[str, str]:
        """The string under each annotated name: a field's documentation, which its config class and schema show."""
        docs: dict[str, str] = {}
        for statement, following in itertools.pairwise(self.node.body):
            text = _string_of(following)
            if text is not None:
                for name in self._annotated_names([statement]):
                    docs[name] = inspect.cleandoc(text)
        return docs

    def _annotated_names(self, statements: Iterable[ast.AST]) -> list[str]:
        """The names that statements annotate, as the class has them."""
        return [
            self._mangled(statement.target.id)
            for statement in statements
            if isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
        ]

    @functools.cached_property
    def assignments(self) -> Sequence[Assignment]:
        """What the methods assign to attributes of `self`: each must be a field, and each field needs a value."""
        return self._read[0]

    @property
    def is_opaque(self) -> bool:
        """Whether a method may assign what its text does not name, or has its text elsewhere.

        Then no field is reported as one that nothing assigns.
        """
        return self._read[1] or self._has_functions_of_elsewhere

    def calls_next(self, method: str) -> bool | None:
        """Whether a method of the class calls that of the next class in line; `None` where no text of it is seen.

        To know whether the same method of a base runs at all.
        """
        definitions = [
            definition
            for definition in self._methods
            if self._mangled(definition.name) == method
        ]
        if not definitions:
            return None
        return any(_mentions(definition, method) for definition in definitions)

    @functools.cached_property
    def _methods(self) -> Sequence[_Function]:
        """The methods, without those of branches that have not run."""
        by_name: dict[str, list[_Function]] = {}
        for method in _methods(self.node):
            by_name.setdefault(self._mangled(method.name), []).append(method)
        methods: list[_Function] = []
        for name, definitions in by_name.items():
            # In a branch that has not run, or deleted again.
            if name not in self._functions:
                continue
            own = set(map(self._origin, definitions))
            # Of a function that a decorator hides, it is not known where it stands: then
            # all count.
            origins = own & self._functions[name] or own
            methods += [node for node in definitions if self._origin(node) in origins]
        return methods

    @functools.cached_property
    def _has_functions_of_elsewhere(self) -> bool:
        """Whether a name of the body is assigned a function that is not defined there: `__post_init__ = init`.

        Such a function may assign what no text here shows.
        """
        statements = list(_flat(self.node.body))
        own = {
            self._origin(node) for node in statements if isinstance(node, _FUNCTIONS)
        }
        return any(
            self._functions.get(self._mangled(name), frozenset()) - own
            for statement in statements
            if isinstance(statement, ast.Assign)
            for name in _assigned_names(statement)
        )

    def _origin(self, function: _Function) -> _Origin:
        """Where a function of the text stands, as its code object would say: to tell which definition a class has."""
        return str(self.module.path), _first_line(function)

    @functools.cached_property
    def _read(self) -> tuple[Sequence[Assignment], bool]:
        """What all methods assign, and whether one of them is opaque: `assignments` and `is_opaque` are its parts."""
        assignments: list[Assignment] = []
        is_opaque = False
        for method in self._methods:
            parameters = [*method.args.posonlyargs, *method.args.args]
            # Without `self`, or where it may be another object, attributes say nothing
            # of the instance.
            if not parameters or _binds(method, parameters[0].arg, is_method=True):
                continue
            reader = _MethodReader(self.module, parameters[0].arg)
            reader.read(method.body)
            is_opaque |= reader.is_opaque
            method_name = self._mangled(method.name)
            for assignment in reader.assignments:
                # `if not hasattr(self, "x")` is for classes that have no such field.
                is_checked = (
                    assignment.is_checked and assignment.name not in reader.asked
                )
                name = self._mangled(assignment.name)
                assignments.append(
                    assignment._replace(
                        name=name, is_checked=is_checked, method=method_name
                    )
                )
        return assignments, is_opaque

    def likeness(self, cls: type) -> tuple[bool, bool, int]:
        """How well the text fits a class of its name: by line (from Python 3.13), annotated names, functions' lines."""
        annotated = set(self._annotated_names(_flat(self.node.body)))
        lines = [
            member.__code__.co_firstlineno
            for member in cls.__dict__.values()
            if isinstance(member, FunctionType)
        ]
        within = range(self.node.lineno, (self.node.end_lineno or self.node.lineno) + 1)
        return (
            cls.__dict__.get("__firstlineno__") == _first_line(self.node),
            annotated == set(own_annotations(cls)),
            sum(line in within for line in lines),
        )

    def _mangled(self, name: str) -> str:
        """A name of the text as Python has it in the class: `__name` with the class in front, as its fields have it."""
        is_private = name.startswith("__") and not name.endswith("__")
        return f"_{self.node.name.lstrip('_')}{name}" if is_private else name


class _MethodReader:
    """Collects what one method, and the functions in it that close over its `self`, assign.

    Attributes:
        assignments: To attributes of `self`, in order.
        asked: The names that `hasattr(self, ...)` asks for.
        is_opaque: Whether `self` gets out of sight: by another name, to a function that
            may assign what it likes, or as its `__dict__`.
    """

    def __init__(self, module: ModuleSource, self_name: str) -> None:
        """Begin with nothing found; `self_name` is what the method calls its instance."""
        self.module, self.self_name = module, self_name
        self.assignments: list[Assignment] = []
        self.asked: set[str] = set()
        self.is_opaque = False

    def read(self, nodes: Sequence[ast.AST], statement: ast.stmt | None = None) -> None:
        """Read some nodes and all below them.

        Args:
            nodes: The nodes.
            statement: The simple statement that they are part of, if they are.
        """
        for node in nodes:
            is_hidden = isinstance(node, ast.Lambda | _Function) and _binds(
                node, self.self_name
            )
            if is_hidden:
                continue
            if isinstance(node, ast.stmt):
                # The body of a compound statement is not part of what it assigns.
                is_compound = hasattr(node, "body") or hasattr(node, "cases")
                statement = None if is_compound else node
            self._read_one(node, statement)
            self.read(list(ast.iter_child_nodes(node)), statement)

    def _read_one(self, node: ast.AST, statement: ast.stmt | None) -> None:
        """Read one node, without those below it."""
        if isinstance(node, ast.Attribute) and self._is_self(node.value):
            # By which anything may be assigned.
            self.is_opaque |= node.attr == "__dict__"
            if isinstance(node.ctx, ast.Store):
                self._add_target(node, statement)
        elif isinstance(node, ast.Call):
            self.is_opaque |= self._hands_on(node)
            self._read_call(node, statement)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            self.is_opaque |= self._is_self(node.value)  # by another name

    def _hands_on(self, call: ast.Call) -> bool:
        """Whether a call gives the instance to a function that may assign what it likes: the method is opaque then."""
        function = call.func
        if isinstance(function, ast.Name) and function.id in _KNOWN_FUNCTIONS:
            return False
        if isinstance(function, ast.Attribute) and function.attr in _KNOWN_METHODS:
            return False  # of a base, whose text is read for itself
        arguments = [*call.args, *[keyword.value for keyword in call.keywords]]
        return any(map(self._holds_self, arguments))

    def _holds_self(self, value: ast.expr | None) -> bool:
        """Whether an argument is the instance, or a display such as `[self]`, which hands it on as well."""
        if isinstance(value, ast.Starred):
            return self._holds_self(value.value)
        if isinstance(value, (ast.List, ast.Tuple, ast.Set)):
            return any(map(self._holds_self, value.elts))
        if isinstance(value, ast.Dict):
            return any(map(self._holds_self, value.values))
        return self._is_self(value)

    def _add_target(self, node: ast.Attribute, statement: ast.stmt | None) -> None:
        """Note an assignment to an attribute of `self`, with its value where the statement shows one."""
        value, annotation = None, None
        if isinstance(statement, ast.Assign) and node in statement.targets:
            value = statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.target is node:
            if statement.value is None:
                return  # `self.x: int` assigns nothing
            annotation = ast.unparse(statement.annotation)
        self.assignments.append(
            Assignment(node.attr, self.module.place(node, statement), value, annotation)
        )

    def _read_call(self, call: ast.Call, statement: ast.stmt | None) -> None:
        """Read a call of `setattr`, `hasattr`, `vars` or `__setattr__`; any other says nothing of names."""
        function, arguments = call.func, call.args
        if isinstance(function, ast.Attribute):
            if function.attr == "__setattr__":
                self._read_setattr(call, statement, is_checked=False)
            return
        match getattr(function, "id", None):
            # It gives the `__dict__`.
            case "vars":
                self.is_opaque |= len(arguments) == 1 and self._is_self(arguments[0])
            case "hasattr" if len(arguments) == 2 and self._is_self(arguments[0]):
                self.asked.update(_constant_text(arguments[1]))
            case "setattr":
                self._read_setattr(call, statement, is_checked=True)
            case _:
                pass

    def _read_setattr(
        self, call: ast.Call, statement: ast.stmt | None, *, is_checked: bool
    ) -> None:
        """Read `setattr(self, name, value)`, which is checked, or `object.__setattr__(self, name, value)`."""
        if len(call.args) != 3:
            # `super().__setattr__(name, value)`
            self.is_opaque |= not is_checked
            return
        instance, name, value = call.args
        if not self._is_self(instance):
            return
        texts = _constant_text(name)
        # A name that is computed may be any.
        self.is_opaque |= not texts
        for text in texts:
            place = self.module.place(call, statement)
            self.assignments.append(
                Assignment(text, place, value, is_checked=is_checked)
            )

    def _is_self(self, node: ast.expr | None) -> bool:
        """Whether an expression is the instance, by the name that the method gives it."""
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
            path = Path(file or "")
            is_text = path.suffix == ".py" and path.is_file()
            # `None` is kept too: a module without text is asked for again and again.
            self._modules[name] = ModuleSource(path) if is_text else None
        return self._modules[name]

    def of_class(self, cls: type) -> ClassSource | None:
        """The source of a class; `None` where it has no text, as one that `make_dataclass` makes.

        For the descriptions of fields in JSON Schemas, and for `graphnode check`, which
        reads what methods assign.
        """
        module = self.module(cls.__module__)
        return module.class_source(cls) if module is not None else None


def _origins(member: object) -> Iterator[_Origin]:
    """Where the functions of a member of a class stand, to find their text: one of a method, several of a property."""
    if isinstance(member, property):
        parts: Sequence[object] = (member.fget, member.fset, member.fdel)
    elif isinstance(member, (functools.cached_property, functools.partialmethod)):
        parts = (member.func,)
    else:
        # Of a static method or a class method
        parts = (getattr(member, "__func__", member),)
    for part in parts:
        function = inspect.unwrap(part) if callable(part) else None
        # What is written in C has no text.
        if isinstance(function, FunctionType):
            yield function.__code__.co_filename, function.__code__.co_firstlineno


def _mentions(method: _Function, name: str) -> bool:
    """Whether a method asks an object for something of this name, as `super().<name>()` does: taken for such a call."""
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and node.attr == name:
            return True
        if isinstance(node, ast.Constant) and node.value == name:
            return True  # as in `getattr(super(), "__init__")`
    return False


def _first_line(node: _Function | ast.ClassDef) -> int:
    """The line where Python says that a function or class begins: that of its first decorator."""
    return min([node.lineno, *[decorator.lineno for decorator in node.decorator_list]])


def _assigned_names(statement: ast.Assign) -> list[str]:
    """The plain names among the targets of an assignment: in a class body, what becomes its attributes."""
    return [target.id for target in statement.targets if isinstance(target, ast.Name)]


def _string_of(statement: ast.stmt) -> str | None:
    """The string that a statement consists of, as the documentation under a field does; else `None`."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return value if isinstance(value, str) else None
    return None


def _constant_text(node: ast.expr) -> list[str]:
    """The attribute that an argument of `setattr` or `hasattr` names, if it is a constant; else nothing."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    return []


def _class_definitions(
    node: ast.AST, prefix: str
) -> Iterator[tuple[str, ast.ClassDef]]:
    """All classes defined inside of a node, each after its qualified name, by which a class finds its text.

    Args:
        node: The module, class, function or compound statement to look into.
        prefix: What comes before the names of those that stand right in it.
    """
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
    """The functions of a class body whose first parameter is an instance: those that may assign to its fields."""
    for statement in _flat(node.body):
        if isinstance(statement, _FUNCTIONS) and statement.name not in _ON_CLASSES:
            decorators = [
                getattr(node, "id", None) for node in statement.decorator_list
            ]
            if not {"staticmethod", "classmethod"}.intersection(decorators):
                yield statement


def _binds(
    function: _Function | ast.Lambda, name: str, *, is_method: bool = False
) -> bool:
    """Whether a function has a name of its own that hides an outer one; a method, whether it assigns its `self`.

    Either way an attribute of that name says nothing of the instance.
    """
    arguments = function.args
    parameters = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    names = [parameter.arg for parameter in parameters if parameter is not None]
    if not is_method and name in names:
        return True
    if isinstance(function, ast.Lambda):
        return False
    return any(_stores(statement, name) for statement in function.body)


def _stores(node: ast.AST, name: str) -> bool:
    """Whether a name is bound in a node: assigned, deleted, or that of a function or class; not in inner scopes."""
    if isinstance(node, ast.Name):
        return node.id == name and not isinstance(node.ctx, ast.Load)
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return node.name == name
    if isinstance(node, ast.Lambda):
        return False
    return any(_stores(inner, name) for inner in ast.iter_child_nodes(node))
