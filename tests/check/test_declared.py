"""Faults of classes, static defaults and contracts, with their places."""

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

import graphnode as gn
from graphnode._class_faults import ClassFault, Rule, collecting_faults
from tests.checking import check_and_forget, codes_in, found_in, write_files
from tests.declaring import declare

# Faults


def test_all_faults_of_all_classes_are_found(tmp_path: Path):
    """A class with faults hides neither its own others nor those of the classes after it."""
    text = """
    class First(gn.Node):
        a: list[int]
        b: Any
    class Second(gn.Node):
        inner: First
        c: int = gn.state()
        def __eq__(self, other): return True
    class Count(gn.State[int]):
        def __hash__(self): return 1
    """
    assert found_in(tmp_path, text) == [
        "2:5: GN102 First.a: list[int] is not hashable: write tuple[int, ...]",
        "3:5: GN104 First.b: Any may hold anything; say which: b: ... = gn.static(), gn.state() or gn.subnode()",
        "6:5: GN101 Second.c: declared state(), but its annotation says static; write static()",
        "7:5: GN114 Second defines __eq__, but nodes are compared by identity; remove it",
        "8:1: GN114 Count defines __eq__ or __hash__; States compare by identity",
    ]


def test_a_class_with_faults_raises_where_it_is_used():
    """Constructed, asked for its schema, or held by another: the error comes then, and each time."""
    with collecting_faults() as defined:

        class Broken(gn.Node):
            a: list[int]
            b: list[gn.Node] = []
            c: int = gn.static(default=1)

        # `dataclasses` refuses it before it has any fields.
        Act: Any = type("Act", (gn.Node,), {"function": gn.static(default=1)})

        class Count(gn.State[int]):
            def __hash__(self) -> int:
                return 1

        class Fine(gn.Node):
            a: int

    assert defined == [Broken, Act, Count, Fine]
    assert Fine(1).a == 1
    refused: list[Any] = [Broken, Act]
    for cls in refused:
        for _ in range(2):
            with pytest.raises(gn.SchemaError, match=f"^{cls.__name__}"):
                cls()
            with pytest.raises(gn.SchemaError, match=f"^{cls.__name__}"):
                gn.schema(cls)
    with pytest.raises(gn.SchemaError, match=r"^Count"):
        Count(1)
    with pytest.raises(gn.SchemaError) as caught:
        gn.schema(Broken)
    assert [(fault.rule, fault.name) for fault in caught.value.faults if isinstance(fault, ClassFault)] == [
        (Rule.SHARED, "b"),
        (Rule.UNHASHABLE, "a"),
    ]
    with pytest.raises(gn.SchemaError):

        class Again(gn.Node):  # outside, faults are raised as ever
            a: list[int]


def test_a_fault_pickles_with_its_rule():
    """A test runner sends the error of a class to another process."""
    with pytest.raises(gn.SchemaError) as caught:
        declare(a=list[int])
    (fault,) = pickle.loads(pickle.dumps(caught.value)).faults
    assert (fault, fault.rule, fault.name) == (caught.value.faults[0], Rule.UNHASHABLE, "a")


def test_an_inherited_fault_is_reported_where_it_stands(tmp_path: Path):
    """Once, and not again for each class below; a class that declares the field anew has its own."""
    text = """
    class Base(gn.Node):
        a: Any
        w: gn.ParamState[Float[Array, "n"]] = gn.state(jax.nn.initializers.ones)
        def __eq__(self, other): return True
    class Below(Base):
        b: Any
    class Anew(Base):
        a: object
        def __eq__(self, other): return True
    """
    assert codes_in(tmp_path, text) == [
        (2, "GN104"),
        (3, "GN108"),
        (4, "GN114"),
        (6, "GN104"),
        (8, "GN104"),
        (9, "GN114"),
    ]


def test_bases_outside_are_not_reported_on(tmp_path: Path):
    """A dataclass or node class of another module is not; a node class that its fields break is, where it stands."""
    files = {
        "package/__init__.py": "",
        "package/outside.py": """
            import dataclasses, typing
            import graphnode as gn
            @dataclasses.dataclass
            class Mixin:
                callback: typing.Any = None
            class Bad(gn.Node):
                a: typing.Any
            """,
        "package/inside.py": """
            from .outside import Mixin
            import graphnode as gn
            class Net(Mixin, gn.Node):
                width: int = 0
            """,
    }
    write_files(tmp_path, files)
    checked = check_and_forget(str(tmp_path / "package/inside.py"))
    assert [(Path(one.file).name, one.line, one.code.code) for one in checked.findings] == [("inside.py", 4, "GN104")]


def test_an_explicit_dataclass_is_found(tmp_path: Path):
    """It gives a node class another equality after its creation, which graph operations would refuse."""
    text = """
    import dataclasses
    @dataclasses.dataclass
    class Net(gn.Node):
        width: int
    """
    assert found_in(tmp_path, text) == [
        "3:1: GN114 Net defines __eq__ or __hash__, but nodes are compared by identity; remove them (or an explicit "
        "@dataclass: Node applies it itself)"
    ]


def test_classes_are_found_wherever_they_are_defined(tmp_path: Path):
    """Nested, in functions that ran, under conditions, generic, and twice under one name."""
    text = """
    from typing import Generic, TypeVar
    N = TypeVar("N", bound=gn.Node)
    class Outer(gn.Node):
        class Inner(gn.Node):
            a: Any
    def make():
        class Local(gn.Node):
            a: Any
        return Local
    make()
    if len("x") == 2:
        class Either(gn.Node):
            a: int
    else:
        class Either(gn.Node):
            a: Any
            b: int
    class Box(gn.Node, Generic[N]):
        held: N
        a: Any
    Box[Outer]
    class Twice(gn.Node):
        first: Any
    class Twice(gn.Node):
        second: Any
    """
    assert [line for line, _ in codes_in(tmp_path, text)] == [5, 8, 16, 20, 23, 25]


def test_generic_classes_of_either_syntax_have_their_places(tmp_path: Path):
    """Type parameters change neither the name of a class nor where its fields stand."""
    heads = {(3, 11): "N = typing.TypeVar('N', bound=gn.Node)\nclass Box(gn.Node, typing.Generic[N]):\n"}
    heads[3, 12] = "\nclass Box[N: gn.Node](gn.Node):\n"
    body = "    held: N\n    def build(self):\n        self.heldd = 1\n    class Inner(gn.Node):\n        a: Any\n"
    for head in [heads[version] for version in heads if version <= sys.version_info]:
        assert codes_in(tmp_path, "import typing\n" + head + body) == [(6, "GN201"), (8, "GN104")]


def test_of_two_definitions_that_look_alike_the_last_is_reported(tmp_path: Path):
    """Python 3.13 and later tell them apart."""
    text = "class Twice(gn.Node):\n    a: Any\n"
    lines = [2, 4] if sys.version_info >= (3, 13) else [4]
    assert codes_in(tmp_path, text + text) == [(line, "GN104") for line in lines]


def test_two_definitions_with_methods_are_told_apart(tmp_path: Path):
    """By the lines of their functions."""
    text = "class Twice(gn.Node):\n    a: Any\n    def f(self): ...\n"
    assert codes_in(tmp_path, text + text) == [(2, "GN104"), (5, "GN104")]


def test_fields_of_a_class_body_with_conditions_have_their_lines(tmp_path: Path):
    """A multi-line declaration is reported at its first line; a column counts characters."""
    text = """
    class Net(gn.Node):
        if True:
            a: Any = (
                gn.state(default=None)
            )
            é = 1; b: Any = 1
    """
    assert found_in(tmp_path, text) == [
        "6:16: GN104 Net.b: Any may hold anything; say which: b: ... = gn.static(), gn.state() or gn.subnode()"
    ]


def test_names_for_type_checkers_are_resolved_or_reported(tmp_path: Path):
    """Under postponed annotations and TYPE_CHECKING: with a specifier they may stay unknown."""
    text = """
    from __future__ import annotations
    from typing import TYPE_CHECKING
    import graphnode as gn
    if TYPE_CHECKING:
        from nowhere import Hidden
    class Net(gn.Node):
        after: Later | None
        hidden: Hidden = gn.subnode()
        other: list[Hidden]
        def build(self):
            self.after = self.hidden = None
            self.afetr = None
    class Later(gn.Node):
        n: int
    """
    write_files(tmp_path, {"postponed.py": text})
    found = check_and_forget(str(tmp_path / "postponed.py")).findings
    assert [(one.line, one.column, one.code.code) for one in found] == [(10, 5, "GN105"), (13, 9, "GN201")]


def test_a_class_that_was_not_written_as_one_stands_in_the_first_line(tmp_path: Path):
    """It has no place of its own."""
    text = """
    import types
    def body(namespace): namespace["__annotations__"] = {"a": Any}; namespace["__module__"] = __name__
    Made = types.new_class("Made", (gn.Node,), exec_body=body)
    """
    assert [found.partition(" ")[0].partition(":")[2] for found in found_in(tmp_path, text)] == ["1:"]


def test_comments_keep_findings_back(tmp_path: Path):
    """For all codes, for some, or for those that begin so; on any line of the declaration."""
    text = """
    class Net(gn.Node):
        a: Any  # graphnode: ignore
        b: Any  # graphnode: ignore[GN104]  and why
        c: Any  # graphnode:ignore[GN201, GN1]
        d: Any  # graphnode: ignore[GN201]
        e: Any  # graphnode: ignore[]
        f: Callable = gn.static(
            default=lambda x: x,  # graphnode: ignore[GN301]
        )
        def build(self):
            self.size = [  # graphnode: ignore[GN201]
                1,
            ]
            with open("x") as self.file:
                pass  # graphnode: ignore[GN201]
    """
    assert codes_in(tmp_path, text) == [(5, "GN104"), (6, "GN104"), (14, "GN201")]


# Static defaults

DEFAULT = """
class Parts:
    def method(self): ...
    @classmethod
    def make(cls): ...
parts = Parts()
def function(x): ...
def maker():
    def inner(x): ...
    return inner
class Callable_:
    def __call__(self): ...
import dataclasses; Config = dataclasses.make_dataclass("Config", ["f"], frozen=True)
class Act(dataclasses.make_dataclass("Loose", ["f"], eq=False, frozen=True), Callable_): ...
class Net(gn.Node):
    f: Any = gn.static({})
class Below(Net):
    n: int = 1
"""


@pytest.mark.parametrize(
    ("default", "shown"),
    [
        ("lambda x: x", "lambda"),
        ("maker()", "local function maker.<locals>.inner"),
        ("jax.nn.initializers.lecun_normal()", "local function variance_scaling.<locals>.init"),
        ("functools.partial(lambda x: x, 1)", "lambda"),
        ("parts.method", "bound method Parts.method"),
        ("Callable_()", "Callable_"),
        ("(1, (function, lambda x: x))", "lambda"),
        ("Config(lambda x: x)", "lambda"),
        ("Act(function)", "Act"),
    ],
)
def test_a_default_that_compares_by_identity_is_found(default: str, shown: str, tmp_path: Path):
    """At every depth, if no import gives it back."""
    assert found_in(tmp_path, DEFAULT.format(f"default={default}")) == [
        f"15:5: GN301 Net.f: the default {shown} compares by identity and has no importable name, so that a structure "
        "which holds it does not pickle, or is another one once loaded, and is traced again; use a function that a "
        "module defines"
    ]


@pytest.mark.parametrize(
    "default",
    [
        "function",
        "Parts",
        "Parts.make",
        "Parts.method",
        "jax.nn.relu",
        "jnp.add",
        "jnp.sin",
        "jax.nn.initializers.zeros",
        "str.upper",
        "len",
        "jax.numpy.float32",
        "gn.Kind.STATIC",
        "(1, 'a', None, function)",
        "Config(function)",
        "functools.partial(function, 1, key=jax.nn.relu)",
        "jnp.ones(3)",
    ],
)
def test_a_default_that_an_import_gives_back_is_not(default: str, tmp_path: Path):
    """Functions of modules, classes and their methods, what JAX compiles, and plain data."""
    assert found_in(tmp_path, DEFAULT.format(f"default={default}")) == []


@pytest.mark.parametrize(
    ("factory", "what", "remedy"),
    [
        ("lambda: functools.partial(lambda x: x, 1)", "lambda", "use a function that a module defines"),
        ("lambda: lambda x: x", "lambda", "use a function that a module defines"),
        ("iter(range(9)).__next__", "int", "pass it to the constructor"),
    ],
)
def test_a_factory_that_makes_another_value_each_time_is_found(factory: str, what: str, remedy: str, tmp_path: Path):
    """It gives each instance a structure of its own."""
    assert found_in(tmp_path, DEFAULT.format(f"default_factory={factory}")) == [
        f"15:5: GN302 Net.f: its default_factory makes another {what} for each instance, so each has its own structure "
        f"and is traced again; {remedy}"
    ]


def test_a_factory_that_fails_is_found(tmp_path: Path):
    """Its error is reported, not raised."""
    assert found_in(tmp_path, DEFAULT.format("default_factory=lambda: {}['a']")) == [
        "15:5: GN303 Net.f: its default_factory raises KeyError: 'a'; so does the class, constructed without f"
    ]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("f: tuple[int, ...] = gn.static(default=([1],))", "GN102 Net.f: a list ([1]) is not hashable: write a tuple"),
        (
            "f: int = gn.static(default_factory=lambda: {})",
            "GN102 Net.f: a dict ({}) is not hashable: write a tuple of pairs",
        ),
        (
            "f: int = dataclasses.field(default_factory=lambda: jnp.ones(3))",
            "GN103 Net.f is static by its annotation; found an array float32[3]; hold it in a State, or declare the "
            "field gn.static() to make it part of the structure",
        ),
        (
            "f: Any = gn.static(default_factory=lambda: gn.State(1))",
            "GN101 Net.f: a State cannot be static: declare the field state() or subnode()",
        ),
    ],
)
def test_a_default_that_construction_would_refuse_is_found(field: str, message: str, tmp_path: Path):
    """With the text of the error that it would raise."""
    text = f"import dataclasses\nclass Net(gn.Node):\n    {field}\n"
    assert found_in(tmp_path, text) == [f"3:5: {message}"]


def test_only_static_factories_are_called(tmp_path: Path):
    """Those of States and nodes make what is meant to differ, and may be dear."""
    text = """
    class Net(gn.Node):
        s: gn.State = gn.state(default_factory=lambda: 1 / 0)
        n: gn.nn.Linear = gn.subnode(default_factory=lambda: 1 / 0)
    """
    assert found_in(tmp_path, text) == []


# Contracts

AXES = """
class Net(gn.Node):
    features: int
    a: gn.ParamState[Float[Array, "featuers batch"]]
    b: gn.ParamState[Float[Array, "steps features"]]
    c: list[gn.ParamState[Float[Array, "steps _any 3"]]]
    d: gn.ParamState
    e: gn.ParamState | gn.ShortTermState[Float[Array, ""]] | None = None
    f: gn.ParamState[Float[Array, "fetus"]] | None = None
"""


def test_an_axis_that_is_nearly_a_field_is_found(tmp_path: Path):
    """Also where no initializer needs its size; other names are for the first array to decide."""
    assert found_in(tmp_path, AXES) == [
        "3:5: GN108 Net.a: axis 'featuers' of Float[Array, \"featuers batch\"] names no static field; did you mean "
        "'features'?"
    ]


def test_strict_asks_for_contracts_and_axes_that_say_something(tmp_path: Path):
    """A State without a contract, and an axis whose name stands once."""
    assert found_in(tmp_path, AXES, strict=True)[1:-1] == [
        "3:5: GN402 Net.a: axis 'batch' of Float[Array, \"featuers batch\"] stands nowhere else in the class and says "
        "nothing; declare batch: int, or write _batch",
        "6:5: GN401 Net.d: ParamState without a contract takes any shape and dtype; write "
        'ParamState[Float[Array, "..."]], or the axes that it has',
        "7:5: GN401 Net.e: ParamState without a contract takes any shape and dtype; write "
        'ParamState[Float[Array, "..."]], or the axes that it has',
    ]


def test_a_state_class_may_have_the_contract(tmp_path: Path):
    """It holds for every field of that class."""
    text = """
    class Count(gn.State[Float[Array, ""]]): ...
    class Net(gn.Node):
        count: Count
    """
    assert found_in(tmp_path, text, strict=True) == []
