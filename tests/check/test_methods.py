"""What methods assign: names that are no fields, and fields that nothing assigns."""

from pathlib import Path

import pytest

from tests.checking import codes_in, found_in

NET = """
class Net(gn.Node):
    width: int
    made: int = 0
    known: ClassVar[int] = 3
    {head}:
        {body}
"""


def lines_found(tmp_path: Path, body: str, head: str = "def build(self, other)") -> list[str]:
    """What is found in a method."""
    return [found.partition(" ")[2] for found in found_in(tmp_path, NET.format(head=head, body=body))]


@pytest.mark.parametrize(
    ("statement", "name", "annotation"),
    [
        ("self.size = 1", "size", "int"),
        ("self.size = 1.5", "size", "float"),
        ("self.size = ''", "size", "str"),
        ("self.size = [1]", "size", "..."),
        ("self.size = other", "size", "..."),
        ("self.size: int | None = other", "size", "int | None"),
        ("self.size += 1", "size", "..."),
        ("self.width, (self.size, *self.made) = other", "size", "..."),
        ("other = self.size = 1", "size", "int"),
        ("for self.size in other: pass", "size", "..."),
        ("with other as self.size: pass", "size", "..."),
        ("[0 for self.size in other]", "size", "..."),
        ("setattr(self, 'size', 1)", "size", "int"),
        ("self.known = 4", "known", "int"),
        ("self._version = 4", "_version", "int"),
    ],
)
def test_an_undeclared_assignment_is_found(statement: str, name: str, annotation: str, tmp_path: Path):
    """Every form of assignment is, with the text of the error that it would raise."""
    assert lines_found(tmp_path, statement) == [
        f"GN201 Net has no field {name!r}; declare it in the class: {name}: {annotation}"
    ]


def test_a_near_match_is_suggested_and_a_state_is_named(tmp_path: Path):
    """As at run time."""
    assert lines_found(tmp_path, "self.widht = 3") == [
        "GN201 Net has no field 'widht'; did you mean 'width'? Otherwise declare it in the class: widht: int"
    ]
    text = """
    from graphnode import ShortTermState
    class Net(gn.Node):
        def build(self):
            self.calls = ShortTermState(1)
    """
    assert found_in(tmp_path, text) == [
        "4:9: GN201 Net has no field 'calls'; declare it in the class: calls: ShortTermState"
    ]


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("def build(self, other)", "self.width = other.size = self.made.size = 1"),
        ("def build(self, other)", "self.size: int"),
        ("def build(self, other)", "del self.size"),
        ("def build(self, other)", "self.size[0] = 1"),
        ("def build(self, other)", "self = other; self.size = 1"),
        ("def build(self, other)", "object.__setattr__(self, 'size', 1)"),
        ("def build(self, other)", "setattr(other, 'size', 1)"),
        ("def build(self, other)", "def inner(self): self.size = 1"),
        ("def build(self, other)", "lambda self: setattr(self, 'size', 1)"),
        ("@staticmethod\n    def build(other)", "other.size = 1"),
        ("@classmethod\n    def build(cls, other)", "cls.size = 1"),
        ("def __init_subclass__(cls)", "cls.size = 1"),
        ("def __new__(cls)", "cls.size = 1"),
        ("def build()", "pass"),
        ("@property\n    def size(self): return 1\n    @size.setter\n    def size(self, value)", "self.size = 1"),
    ],
)
def test_what_graphnode_allows_is_not_found(head: str, body: str, tmp_path: Path):
    """Declared fields, properties with setters, other objects, and annotations alone."""
    assert lines_found(tmp_path, body, head) == []


@pytest.mark.parametrize(
    "body",
    [
        "def inner(): self.size = 1",
        "async def inner(x): self.size = 1",
        "other(lambda: setattr(self, 'size', 1))",
        "return [setattr(self, 'size', x) for x in other]",
        "\n        match other:\n            case 1: self.size = 1",
        "\n        try: pass\n        except ValueError: self.size = 1",
    ],
)
def test_functions_in_a_method_count_as_long_as_self_is_the_same(body: str, tmp_path: Path):
    """A closure assigns to the same object."""
    assert [found[:5] for found in lines_found(tmp_path, body)] == ["GN201"]


def test_self_may_have_another_name_and_a_field_a_private_one(tmp_path: Path):
    """The first parameter is the instance; two underscores are mangled as Python does."""
    text = """
    class _Net(gn.Node):
        __width: int = 0
        def build(this, /):
            this.__width = 1
            this.__size = 1
    """
    assert found_in(tmp_path, text) == [
        "5:9: GN201 _Net has no field '_Net__size'; did you mean '_Net__width'? Otherwise declare it in the class: "
        "_Net__size: int"
    ]


def test_an_inherited_field_and_property_may_be_assigned(tmp_path: Path):
    """Also those of a mixin that is not a node."""
    text = """
    class Mixin:
        @property
        def size(self): return 0
        @size.setter
        def size(self, value): self.width = value
    class Base(gn.Node):
        width: int
    class Net(Mixin, Base):
        def build(self):
            self.width = self.size = 1
    """
    assert found_in(tmp_path, text) == []


def test_a_method_of_an_abstract_class_may_assign_what_all_below_declare(tmp_path: Path):
    """It runs on their instances alone."""
    text = """
    import abc
    class Base(gn.Node, abc.ABC):
        def build(self):
            self.width = 1
        @abc.abstractmethod
        def call(self): ...
    class One(Base):
        width: int = 0
        def call(self): ...
    class Two(Base):
        {}: int = 0
        def call(self): ...
    """
    assert codes_in(tmp_path, text.format("width")) == []
    assert codes_in(tmp_path, text.format("depth")) == [(4, "GN201")]


def test_a_class_with_a_setattr_of_its_own_is_left_out(tmp_path: Path):
    """What it takes is not known."""
    text = """
    class Loose(gn.Node):
        def __setattr__(self, name, value): ...
        def build(self):
            self.size = 1
    """
    assert found_in(tmp_path, text) == []


def test_a_class_with_other_faults_is_read_too(tmp_path: Path):
    """Its methods are, with the fields that it has."""
    text = """
    class Net(gn.Node):
        a: Any
        width: int
        def build(self):
            self.width = self.a = 1
            self.size = 1
    """
    assert codes_in(tmp_path, text) == [(2, "GN104"), (6, "GN201")]


def test_a_class_that_dataclasses_refuses_has_no_fields_to_compare_with(tmp_path: Path):
    """Its methods are not read before it is one."""
    text = """
    class Base(gn.Node):
        depth: int
    class Net(Base):
        width: int
        act = gn.static()
        def build(self):
            self.width = 1
    """
    assert codes_in(tmp_path, text) == [(3, "GN116")]


@pytest.mark.parametrize(
    ("body", "bases", "text"),
    [
        ("self.count = 1", "Mixin, gn.Node", ""),
        ("self.cuont = 1", "gn.Node", ""),
        ("self.cuont = 1", "Mixin, gn.Node", "did you mean 'count'? Otherwise declare it in the class: cuont: int"),
        ("self.cuont = 1", "gn.Node, Mixin", "did you mean 'count'? Otherwise declare it in the class: cuont: int"),
        ("self.speed = 1", "Mixin, gn.Node", ""),
        ("if hasattr(self, 'cuont'): self.cuont = 1", "Mixin, gn.Node", ""),
        ("object.__setattr__(self, 'cuont', 1)", "Mixin, gn.Node", ""),
    ],
)
def test_a_mixins_method_is_read_for_the_nodes_that_extend_it(body: str, bases: str, text: str, tmp_path: Path):
    """It runs on their instances; the mixin's own setters count, and what it asks for before."""
    module = f"""
    class Mixin:
        def tick(self):
            {body}
        @property
        def speed(self): ...
        @speed.setter
        def speed(self, value): ...
    class Net({bases}):
        count: int = 0
    class Deep(Net):
        depth: int = 0
    """
    assert found_in(tmp_path, module) == ([f"3:9: GN201 Net has no field 'cuont'; {text}"] if text else [])


@pytest.mark.parametrize(("call", "codes"), [("...", []), ("super().tick()", [(2, "GN201")])])
def test_a_mixins_method_that_is_overridden_counts_if_it_is_called(call: str, codes: object, tmp_path: Path):
    """What does not run assigns nothing."""
    text = f"""
    class Mixin:
        def tick(self): self.count = 1
        def run(self): self.depth = 1
    class Net(Mixin, gn.Node):
        depth: int = 0
        def tick(self): {call}
    """
    assert codes_in(tmp_path, text) == codes


def test_a_mixin_that_a_constructor_does_not_run_is_not_read(tmp_path: Path):
    """The `__init__` of a mixin gives way to that of the dataclass."""
    text = """
    class Mixin:
        def __init__(self): self.count = 1
    class Net(Mixin, gn.Node):
        depth: int = 0
    """
    assert codes_in(tmp_path, text) == []


def test_a_property_without_a_setter_is_not_assigned(tmp_path: Path):
    """Python refuses it."""
    text = """
    class Net(gn.Node):
        width: int = 1
        @property
        def size(self): return self.width
        def grow(self): self.size = 3
    """
    assert found_in(tmp_path, text) == [
        "5:21: GN201 Net.size is a property without a setter; give it one, or assign what it is computed from"
    ]


BRANCHES = """
def make(deep):
    class Net(gn.Node):
        if deep:
            a: int = 1
            def build(self): self.a = 2
            @property
            def size(self): return self.a
            @size.setter
            def size(self, value): self.a = value
        else:
            b: int = 1
            def build(self): self.{name} = 2
            def only(self): self.b = 3
    return Net
Deep, Flat = make(True), make(False)
"""


def test_of_a_body_with_branches_the_one_that_has_run_is_read(tmp_path: Path):
    """Of each class that it has made."""
    assert found_in(tmp_path, BRANCHES.format(name="b")) == []
    assert codes_in(tmp_path, BRANCHES.format(name="a")) == [(12, "GN201")]


# Fields that nothing assigns

UNASSIGNED = """
def fill(self): self.memory = gn.ShortTermState(1)
class Cell(gn.Node):
    size: int
    memory: gn.ShortTermState = gn.state(init=False{more})
    {method}
"""


def test_a_field_that_nothing_assigns_is_found(tmp_path: Path):
    """A class whose instances cannot be made is reported at the field."""
    assert found_in(tmp_path, UNASSIGNED.format(more="", method="")) == [
        "4:5: GN202 Cell.memory: the constructor does not take it and no method assigns it; set it in __post_init__, "
        "or give it an initializer, factory or default"
    ]


@pytest.mark.parametrize(
    "method",
    [
        "def __post_init__(self): assert isinstance(self, Cell) and not hasattr(self, 'memory')",
        "def __post_init__(self): fill(self.size)",
        "def __post_init__(self): print(self, type(self), getattr(self, 'size'))",
        "def __post_init__(self): gn.Node.__init__(self)",
    ],
)
def test_what_only_looks_at_the_instance_assigns_nothing(method: str, tmp_path: Path):
    """A built-in function, one that gets a field, and the method of a base, which is read for itself."""
    assert codes_in(tmp_path, UNASSIGNED.format(more="", method=method)) == [(4, "GN202")]


@pytest.mark.parametrize(
    ("more", "method"),
    [
        (", default_factory=lambda: gn.ShortTermState(1)", ""),
        ("", "def __post_init__(self): self.memory = gn.ShortTermState(1)"),
        ("", "def __init__(self): self.memory, self.size = gn.ShortTermState(1), 2"),
        ("", "def build(self): setattr(self, 'memory', 1)"),
        ("", "def build(self): object.__setattr__(self, 'memory', 1)"),
        ("", "def build(self, name): setattr(self, name, 1)"),
        ("", "def build(self, name): super().__setattr__(name, 1)"),
        ("", "def build(self): self.__dict__['memory'] = 1"),
        ("", "def build(self): vars(self).update(memory=1)"),
        ("", "def __post_init__(self): fill(self)"),
        ("", "def __post_init__(self): fill(node=self)"),
        ("", "def __post_init__(self): fill([self, {'node': self}])"),
        ("", "def __post_init__(self): me = self; me.memory = gn.ShortTermState(1)"),
        ("", "__post_init__ = fill"),
        ("", "__post_init__ = functools.partialmethod(fill)"),
        ("", "__post_init__ = lambda self: setattr(self, 'memory', gn.ShortTermState(1))"),
    ],
)
def test_a_field_that_may_be_assigned_is_not_found(more: str, method: str, tmp_path: Path):
    """It has a default, a method assigns it, or one might."""
    assert found_in(tmp_path, UNASSIGNED.format(more=more, method=method)) == []


OWN_INIT = """
class Pair(gn.Node):
    left: int
    right: int
class Net(Pair):
    extra: int
    made: int = 1
    def __init__(self, n):
        {body}
    def build(self): self.{built} = 1
{below}
"""


def test_a_field_that_a_written_constructor_forgets_is_found(tmp_path: Path):
    """Nothing else takes it."""
    text = OWN_INIT.format(body="self.left = n", built="right", below="")
    assert found_in(tmp_path, text) == [
        "5:5: GN202 Net.extra: __init__ is written by hand and no method assigns it; set it in __init__, or give it an "
        "initializer, factory or default"
    ]
    text = OWN_INIT.format(body="super().__init__(n, n)", built="made", below="")
    assert [found.partition(":")[0] for found in found_in(tmp_path, text)] == ["5"]
    text = OWN_INIT.format(body="self.extra = n", built="left", below="")
    assert codes_in(tmp_path, text) == [(4, "GN202")]


@pytest.mark.parametrize(
    ("body", "built", "below"),
    [
        ("super().__init__(n, n); self.extra = n", "made", ""),
        ("Pair.__init__(self, n, n)", "extra", ""),
        ("self.left = self.right = n; self.build()", "extra", ""),
        ("for name in ('left', 'right', 'extra'): setattr(self, name, n)", "made", ""),
        ("self.__dict__.update(left=n, right=n, extra=n)", "made", ""),
        (
            "super().__init__(n, n)",
            "made",
            "class Sub(Net):\n    def __init__(self): super().__init__(1); self.extra = 2",
        ),
    ],
)
def test_a_field_that_a_written_constructor_may_set_is_not_found(body: str, built: str, below: str, tmp_path: Path):
    """By itself, by that of a base, by another method, or in a class below."""
    assert found_in(tmp_path, OWN_INIT.format(body=body, built=built, below=below)) == []


def test_a_written_constructor_that_is_overridden_assigns_nothing(tmp_path: Path):
    """Where the one below does not call it."""
    below = "class Sub(Net):\n    def __init__(self): self.left = self.right = 2"
    text = OWN_INIT.format(body="super().__init__(n, n); self.extra = n", built="made", below=below)
    assert codes_in(tmp_path, text) == [(10, "GN202")]


def test_initializers_and_factories_make_their_fields(tmp_path: Path):
    """They need no method."""
    text = """
    class Cell(gn.Node):
        size: int
        weight: gn.ParamState[Float[Array, "size"]] = gn.state(jax.nn.initializers.ones)
        inner: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(self.size, 2))
    """
    assert found_in(tmp_path, text) == []


def test_a_base_that_is_extended_is_not_reported_but_who_does_not_assign(tmp_path: Path):
    """Of three classes below, one assigns, one inherits that, and one lacks the field."""
    text = """
    class Base(gn.Node):
        memory: gn.ShortTermState = gn.state(init=False)
    class Sets(Base):
        def __post_init__(self): self.memory = gn.ShortTermState(1)
    class Inherits(Sets):
        pass
    class Lacks(Base):
        pass
    """
    assert found_in(tmp_path, text) == [
        "7:1: GN202 Lacks.memory: the constructor does not take it and no method assigns it; set it in "
        "__post_init__, or give it an initializer, factory or default"
    ]


def test_an_abstract_class_is_not_reported(tmp_path: Path):
    """It has no instances; a class below that has some is, where it stands."""
    text = """
    import abc
    class Base(gn.Node, abc.ABC):
        memory: gn.ShortTermState = gn.state(init=False)
        @abc.abstractmethod
        def call(self): ...
    """
    assert codes_in(tmp_path, text) == []
    below = "class Net(Base):\n    def call(self): ...\n"
    assert codes_in(tmp_path, text.replace("\n    ", "\n") + below) == [(6, "GN202")]


def test_a_field_is_reported_once_for_all_who_inherit_it(tmp_path: Path):
    """At the class that declares it, if that lacks it too."""
    text = UNASSIGNED.format(more="", method="") + "class Below(Cell):\n    pass\n"
    assert codes_in(tmp_path, text) == [(4, "GN202")]


@pytest.mark.parametrize(
    ("call", "codes"),
    [
        ("self.size += 1", [(5, "GN202")]),
        ("super().__post_init__()", []),
        ("Base.__post_init__(self)", []),
        ("self.memory = gn.ShortTermState(1)", []),
    ],
)
def test_a_post_init_that_is_overridden_assigns_nothing(call: str, codes: object, tmp_path: Path):
    """Unless the one that overrides it calls it."""
    text = f"""
    class Base(gn.Node):
        size: int = 1
        memory: gn.ShortTermState = gn.state(init=False)
        def __post_init__(self): self.memory = gn.ShortTermState(1)
    class Net(Base):
        def __post_init__(self): {call}
    """
    assert codes_in(tmp_path, text) == codes
