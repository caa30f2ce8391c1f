"""What stands in a class body, a base or a mixin is a field, or is refused with the line to write."""

import abc
import collections
import copy
import dataclasses
import functools
import pickle
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Generic, Protocol, TypeAlias, TypeVar
from typing import ClassVar as CV  # noqa: F401  # pyright: ignore[reportUnusedImport]  # in a text

import jax
import jax.numpy as jnp
import numpy as np
import pydantic.dataclasses
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import ParamState, state, static, subnode
from graphnode._versions import unmade
from tests.declaring import declare


class Leaf(gn.Node):
    """Something to hold."""

    n: int = 0


class Doubler(gn.Node):
    """Something to hold and to call."""

    def __call__(self, x: int) -> int:
        return 2 * x


LEAF: Final = Leaf()
STATE: Final = gn.State(jnp.zeros(2))


def faults_of(body: dict[str, Any], *bases: type, annotations: dict[str, Any] | None = None) -> list[str]:
    """The faults of a class with this body, without the name of the class."""
    namespace = {**body, "__annotations__": annotations or {}, "__module__": __name__}
    with pytest.raises(gn.SchemaError) as caught:
        type("Probe", bases or (gn.Node,), namespace)
    return [fault.removeprefix("Probe.") for fault in caught.value.faults]


# Values without an annotation

NODE_LINE: Final = "has no annotation, so that it is not a field, and one object for all instances; write x:"
ARRAY_LINE: Final = (
    "this {0} has no annotation, so that it is not a field; write x: ClassVar[{1}] = ... for a constant of the class, "
    "or "
    "x: {1} = gn.static(default=...) for a part of the structure"
)

UNANNOTATED: Final[dict[str, tuple[Any, str]]] = {
    "node": (LEAF, f"this Leaf {NODE_LINE} Leaf = gn.subnode(default_factory=lambda: Leaf(...))"),
    "State": (STATE, f"this State {NODE_LINE} State = gn.state(default_factory=lambda: State(...))"),
    "list": ([LEAF], f"this list of Leaf {NODE_LINE} list[Leaf] = gn.subnode(default_factory=lambda: ...)"),
    "tuple": ((1, STATE), f"this tuple of State {NODE_LINE} tuple[State, ...] = gn.state(default_factory=lambda: ...)"),
    "dict": ({"a": LEAF}, f"this dict of Leaf {NODE_LINE} dict[str, Leaf] = gn.subnode(default_factory=lambda: ...)"),
    "nested": ([({"a": LEAF},)], f"this list of Leaf {NODE_LINE} list[Leaf] = gn.subnode(default_factory=lambda: ...)"),
    "set": ({LEAF}, f"this set of Leaf {NODE_LINE} list[Leaf] = gn.subnode(default_factory=lambda: ...)"),
    "partial": (
        functools.partial(print, LEAF),
        f"this partial of Leaf {NODE_LINE} Leaf = gn.subnode(default_factory=lambda: ...)",
    ),
    "partial method": (
        functools.partialmethod(print, LEAF),
        f"this partialmethod of Leaf {NODE_LINE} Leaf = gn.subnode(default_factory=lambda: ...)",
    ),
    "static method": (
        staticmethod(Doubler()),
        f"this staticmethod of Doubler {NODE_LINE} Doubler = gn.subnode(default_factory=lambda: ...)",
    ),
    "UserDict": (
        collections.UserDict(a=LEAF),
        f"this UserDict of Leaf {NODE_LINE} dict[str, Leaf] = gn.subnode(default_factory=lambda: ...)",
    ),
    "array": (jnp.zeros(2), ARRAY_LINE.format("jax.Array", "jax.Array")),
    "NumPy array": (np.zeros(2), ARRAY_LINE.format("np.ndarray", "np.ndarray")),
    "list of arrays": ([jnp.zeros(2)], ARRAY_LINE.format("list of jax.Array", "list[jax.Array]")),
    "tuple of a specifier": (
        (subnode(),),
        "a tuple or list that holds gn.subnode(...) is not a field; remove the comma or bracket around the specifier",
    ),
}


@pytest.mark.parametrize(("value", "text"), UNANNOTATED.values(), ids=UNANNOTATED)
def test_a_value_without_an_annotation_is_refused(value: Any, text: str):
    """In the body of a node class, and in that of a class which it extends and which is not a node."""
    assert faults_of({"x": value}) == [f"x: {text}"]
    assert faults_of({}, type("Mixin", (), {"x": value}), gn.Node) == [f"x (in the body of Mixin): {text}"]


def test_a_node_in_place_of_a_method_of_python_is_refused():
    """Calls of the node would find it, and no split; no field can have such a name."""
    text = "this Doubler is not a field, and one object for all instances; hold it in a field of another name, and "
    text += "write a "
    assert faults_of({"__call__": Doubler()}) == [f"__call__: {text}method __call__ that uses it"]
    assert faults_of({"__call__": functools.partial(print, Doubler())}) == [
        f"__call__: {text}method __call__ that uses it"
    ]


def test_a_specifier_in_a_class_that_is_no_dataclass_is_refused():
    """`dataclasses` refuses it in a node class alone."""
    text = "has no annotation, and its class is not a node class, so that it is not a field; write x: ... ="
    assert faults_of({}, type("Mixin", (), {"x": state()}), gn.Node) == [
        f"x (in the body of Mixin): gn.state(...) {text} gn.state(...) in a class that derives from gn.Node"
    ]
    assert faults_of({"x": state()}) == ["Probe: 'x' is a field but has no type annotation"]


def test_what_else_stands_in_a_class_body_is_left_alone():
    """Numbers, functions, classes and class variables are what Python says they are."""

    class Net(gn.Node):
        limit = 3
        names = ("a", "b")
        layer_class = Leaf
        table: ClassVar[jax.Array] = jnp.arange(2)
        shared: ClassVar[Leaf] = LEAF
        helper = staticmethod(functools.partial(isinstance, 1))
        width: int = 2

        @functools.cached_property
        def double(self) -> int:
            return 2 * self.width

        @staticmethod
        def power(x: int) -> int:
            return x * x

    net = Net()
    assert (net.limit, net.names, net.layer_class, net.shared, net.double) == (3, ("a", "b"), Leaf, LEAF, 4)
    helper: Any = net.helper
    assert helper(int)
    assert net.power(3) == 9
    assert list(gn.schema(Net).fields) == ["width"]


def test_an_endless_list_in_a_class_body_ends():
    """A container that holds itself is looked through once."""
    endless: list[Any] = [1]
    endless.append(endless)
    assert type("Probe", (gn.Node,), {"x": endless}).__dict__["x"] is endless


def test_a_value_in_place_of_a_class_is_told():
    """`hidden: Linear(...)` instead of `hidden: Linear = ...`."""
    assert faults_of({}, annotations={"x": LEAF}) == [
        "x: this Leaf stands where its class belongs: the value comes behind a =; say which: x: ... = gn.static(), "
        "gn.state() or gn.subnode()"
    ]
    assert faults_of({}, annotations={"x": state()})[0].startswith("x: this specifier stands where its class belongs")


def test_a_specifier_in_a_tuple_is_a_comma_too_much():
    """`x: Leaf = gn.subnode(...),`."""
    text = (
        "x: a tuple or list that holds gn.static(...) is not a field; remove the comma or bracket around the specifier"
    )
    assert faults_of({"x": (static(),)}, annotations={"x": tuple[int, ...]}) == [text]


# Properties, methods and attributes of a field's name


def method(self: Any) -> int:
    """What `def x(self)` in the body of Probe makes."""
    return 1


method.__qualname__ = "Probe.x"

MEMBERS: Final[dict[str, tuple[Any, str]]] = {
    "property": (property(method), "property"),
    "cached property": (functools.cached_property(method), "cached property"),
    "class method": (classmethod(method), "class method"),
    "static method": (staticmethod(method), "static method"),
    "method": (method, "method"),
    "compiled method": (jax.jit(method), "method"),
    "partial method": (functools.partialmethod(method), "descriptor"),
    "nested class": (type("x", (), {"__qualname__": "Probe.x", "__module__": __name__}), "nested class"),
}


@pytest.mark.parametrize(("member", "word"), MEMBERS.values(), ids=MEMBERS)
def test_a_member_is_no_default(member: Any, word: str):
    """Of a field of its name, in the same body; also where a specifier says so."""
    text = f"x: the class body has a field and a {word} of this name; rename one"
    assert faults_of({"x": member}, annotations={"x": type}) == [text]
    if word not in ("method", "nested class", "static method"):
        assert faults_of({"x": static(default=member)}, annotations={"x": int}) == [text]


@pytest.mark.parametrize(("member", "word"), MEMBERS.values(), ids=MEMBERS)
def test_an_inherited_member_is_no_default(member: Any, word: str):
    """Of a base, a mixin in front of it, or one behind it; and no field hides it."""
    named = member if word not in ("method", "nested class") else property(method)
    word = "property" if named is not member else word
    text = f"has a {word} of this name, which no field replaces; rename one, or make the {word} abstract"
    base, mixin = type("Base", (gn.Node,), {"x": named}), type("Mixin", (), {"x": named})
    field = type("Field", (gn.Node,), {"x": 1, "__annotations__": {"x": int}})
    assert faults_of({}, base, annotations={"x": int}) == [f"x: Base {text}"]
    assert faults_of({"x": 2}, base, annotations={"x": int}) == [f"x: Base {text}"]
    assert faults_of({}, mixin, gn.Node, annotations={"x": int}) == [f"x: Mixin {text}"]
    assert faults_of({}, mixin, field) == [f"x: Mixin {text}"]
    assert faults_of({}, field, mixin) == [f"x: Mixin {text}"]


@pytest.mark.parametrize(("member", "word"), MEMBERS.values(), ids=MEMBERS)
def test_a_member_does_not_override_a_field(member: Any, word: str):
    """A field that is inherited."""
    field = type("Field", (gn.Node,), {"x": 1, "__annotations__": {"x": int}})
    assert faults_of({"x": member}, field) == [
        f"x: the class body has a {word} of the name of a field of Field; rename one"
    ]


def test_a_class_attribute_is_no_default():
    """Neither of a mixin, nor in the body of a subclass without an annotation."""
    mixin = type("Mixin", (), {"x": 2.5})
    text = "x: Mixin has a class attribute of this name, which is not a default of the field; rename one, or write"
    assert faults_of({}, mixin, gn.Node, annotations={"x": float}) == [f"{text} x: ... = 2.5"]
    field = type("Field", (gn.Node,), {"x": 1.0, "__annotations__": {"x": float}})
    override = "x: without an annotation this does not change the default of the field; write x: ... ="
    assert faults_of({"x": 2.5}, field) == [f"{override} 2.5"]
    assert faults_of({"x": LEAF}, field) == [f"{override} ..."]


class Constant(gn.Node):
    """Has a constant, annotated and not, and reads it."""

    momentum: ClassVar[float] = 0.9
    decay = 0.1


class Scheduled:
    """A mixin with constants of the same names."""

    momentum: ClassVar[float] = 0.9
    decay = 0.1


CONSTANT_BASES: dict[str, tuple[type[Any], ...]] = {
    "node": (Constant,),
    "mixin": (Scheduled, gn.Node),
    "mixin behind": (gn.Node, Scheduled),
}


@pytest.mark.parametrize("bases", CONSTANT_BASES.values(), ids=CONSTANT_BASES)
@pytest.mark.parametrize("name", ["momentum", "decay"])
def test_a_constant_becomes_a_field(bases: tuple[type[Any], ...], name: str):
    """By a default or a specifier of the subclass: the field then never has the value of the constant."""
    with_default: Any = type("Default", bases, {name: 0.5, "__annotations__": {name: float}})
    given: Any = type("Given", bases, {name: static(), "__annotations__": {name: float}})
    held: Any = type("Held", bases, {name: state(), "__annotations__": {name: ParamState}})
    below: Any = type("Below", (with_default,), {"width": 2, "__annotations__": {"width": int}})
    assert (getattr(with_default(), name), getattr(with_default, name), getattr(with_default(0.7), name)) == (
        0.5, 0.5, 0.7,
    )  # fmt: skip
    assert (getattr(below(), name), getattr(below, name), below(0.7).width) == (0.5, 0.5, 2)
    for cls in (given, held):
        (field,) = dataclasses.fields(cls)
        assert field.default is dataclasses.MISSING
        assert not hasattr(cls, name)
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            cls()
    node = held(ParamState(jnp.array(1.0)))
    gn.pop_states(node, ParamState)
    with pytest.raises(gn.UnsetFieldError, match=f"^Held.{name} holds nothing"):
        getattr(node, name)


def test_a_constant_becomes_no_field_without_a_value():
    """The constant is not a default; nor does a constant of one parent become what another one declares as a field."""
    faults = faults_of({}, Constant, annotations={"momentum": float})
    text = "momentum: Constant has a class attribute of this name, which is not a default of the field; rename one, or"
    assert faults == [f"{text} write momentum: ... = 0.9"]
    field = type("Field", (gn.Node,), {"momentum": 0.5, "__annotations__": {"momentum": float}})
    assert faults_of({}, Constant, field)
    assert faults_of({}, field, Constant)


def test_a_constant_becomes_an_argument():
    """Of the constructor; no node has it."""
    annotation: Any = dataclasses.InitVar[float]
    body = {"momentum": 0.5, "__annotations__": {"momentum": annotation}, "__post_init__": lambda self, momentum: None}
    cls: Any = type("Argument", (Constant,), body)
    assert cls.momentum == 0.5
    with pytest.raises(AttributeError, match="is an argument of the constructor"):
        _ = cls(0.7).momentum


def test_a_pseudo_field_does_not_override_a_field():
    """A class variable or a constructor argument in place of an inherited field."""
    field = type("Field", (gn.Node,), {"x": 1, "__annotations__": {"x": int}})
    assert faults_of({"x": 2}, field, annotations={"x": "ClassVar[int]"}) == [
        "x: declared a class variable, but Field declares it a field; an override keeps the kind"
    ]
    assert faults_of({"x": 2}, field, annotations={"x": dataclasses.InitVar[int]}) == [
        "x: declared an argument of the constructor, but Field declares it a field; an override keeps the kind"
    ]


class Scaled(gn.Node):
    """Takes an argument that it does not keep."""

    factor: int = static(init=False)
    scale: dataclasses.InitVar[int] = 2

    def __post_init__(self, scale: int) -> None:
        self.factor = scale


def test_nothing_without_an_annotation_overrides_an_argument():
    """Of the constructor: neither a value nor a method, in the body or in a mixin."""
    line = "write scale: InitVar[...] = 3"
    assert faults_of({"scale": 3}, Scaled) == [
        f"scale: without an annotation this does not change the default of the argument; {line}"
    ]
    assert faults_of({}, type("Mixin", (), {"scale": 3}), Scaled) == [
        "scale: Mixin has a class attribute of this name, which is not a default of the argument; rename one, or "
        + line
    ]
    assert faults_of({"scale": property(method)}, Scaled) == [
        "scale: the class body has a property of the name of an argument of Scaled; rename one"
    ]
    assert faults_of({}, type("Mixin", (), {"scale": property(method)}), Scaled) == [
        "scale: Mixin has a property of this name, which no argument replaces; rename one"
    ]
    cls: Any = type("Right", (Scaled,), {"scale": 3, "__annotations__": {"scale": dataclasses.InitVar[int]}})
    assert (cls().factor, cls.scale) == (3, 3)


def test_an_argument_stays_an_argument():
    """Neither a field nor a class variable takes its place; two parents agree on its default."""
    for annotation, word in ((int, "a field"), ("ClassVar[int]", "a class variable")):
        assert faults_of({"scale": 3}, Scaled, annotations={"scale": annotation}) == [
            f"scale: declared {word}, but Scaled declares it an argument of the constructor; an override keeps the kind"
        ]
    same = type("Same", (Scaled,), {})
    other: Any = type("Other", (Scaled,), {"scale": 3, "__annotations__": {"scale": dataclasses.InitVar[int]}})
    assert faults_of({}, same, other) == [
        "scale: Other declares it anew, and Same brings that of a base of both; declare it in Probe"
    ]
    cls: Any = type("Probe", (other, same), {})
    assert cls().factor == 3


def test_an_argument_is_not_left_out_of_the_constructor():
    """As by a specifier with an initialiser, whose State no argument holds."""
    specifier = state(jax.nn.initializers.ones, shape=lambda self: (2,))
    assert faults_of({"x": specifier}, annotations={"x": dataclasses.InitVar[ParamState]}) == [
        "x: an InitVar is an argument of the constructor, and by gn.state(...) the constructor does not take it; "
        "remove InitVar[...] or the specifier"
    ]


# One specifier in several places


ONES: Final = state(jax.nn.initializers.ones)


def test_a_specifier_may_stand_behind_several_names():
    """In one class and in several, also where one of them waits for a name."""

    class Pair(gn.Node):
        a: ParamState[Float[Array, "3"]] = ONES
        b: ParamState[Float[Array, "2"]] = ONES

    class Waiting(gn.Node):
        a: ParamState[Float[Array, "4"]] = ONES
        peer: "Later | None" = None

    class Other(gn.Node):
        c: ParamState[Float[Array, "5"]] = ONES

    class Child(Pair):
        n: int = 0

    for cls in (Pair, Child):
        assert {path: one.value.shape for path, one in gn.states(cls()).items()} == {("a",): (3,), ("b",): (2,)}
    assert (Waiting().a.value.shape, Other().c.value.shape) == ((4,), (5,))


@pytest.mark.parametrize(
    "specifier",
    [static(default=3), subnode(default_factory=Leaf), dataclasses.field(default=3)],
    ids=["static", "subnode", "field"],
)
def test_any_specifier_may_stand_behind_several_names(specifier: Any):
    """Each name is a field."""
    annotation = Leaf if specifier.default is dataclasses.MISSING else int
    body = {"a": specifier, "b": specifier, "__annotations__": {"a": annotation, "b": annotation}}
    cls: Any = type("Probe", (gn.Node,), {**body, "__module__": __name__})
    assert list(gn.schema(cls).fields) == ["a", "b"]
    assert isinstance(cls().a, annotation)


def test_dataclasses_that_are_mixins_may_share_a_specifier():
    """`dataclasses` leaves the name and the annotation of the last one in it."""
    shared: Any = state(jax.nn.initializers.ones)

    def mixin(name: str, size: str) -> Any:
        body = {name: shared, "__annotations__": {name: ParamState[Float[Array, size]]}, "__module__": __name__}
        return dataclasses.dataclass(type("Mixin", (), body))

    mixins = mixin("x", "3"), mixin("x", "2"), mixin("y", "4")
    nets: list[Any] = [type("Net", (one, gn.Node), {}) for one in mixins]
    assert [path for net in nets for path in gn.states(net())] == [("x",), ("x",), ("y",)]
    assert [one.value.shape for net in nets for one in gn.states(net()).values()] == [(3,), (2,), (4,)]


def test_functions_are_values():
    """A function of elsewhere is a default, also one that JAX has compiled."""

    class Act(gn.Node):
        first: Callable[[int], int] = static(default=abs)
        second: Callable[[int], int] = static(default=jax.jit(abs))
        third: Callable[[int], int] = static(default=method)
        of: type = Leaf

    act = Act()
    assert (act.first(-1), act.second(-1), act.third, act.of) == (1, 1, method, Leaf)


def test_a_static_method_is_a_value_under_another_name():
    """The body has the wrapper, and the node the function, as in any dataclass."""

    class Act(gn.Node):
        @staticmethod
        def double(x: int) -> int:
            return 2 * x

        first: Callable[[int], int] = static(default=double)
        second: type | None = double  # type: ignore[assignment]  # pyright: ignore  # ty: ignore  # pyrefly: ignore

    class Sub(Act):
        pass

    for act in (Act(), Sub()):
        assert act.first is act.second is Act.double
        assert act.first(2) == 4


def test_an_array_of_numpy_may_be_a_default():
    """Each node has a read-only copy of what it was when the class was defined."""
    written = np.ones(3)

    class Masked(gn.Node):
        mask: np.ndarray[Any, Any] = static(default=written)

    written[0] = 5
    mask = Masked().mask
    assert mask.tolist() == [1, 1, 1]
    assert not mask.flags.writeable
    assert gn.graphdef(Masked()) == gn.graphdef(Masked())


def test_an_inherited_default_stays():
    """A field that is declared again without a default has that of its parent, as in any dataclass."""

    class Base(gn.Node):
        x: float = 1.0

    class Child(Base):
        x: float  # pyright: ignore[reportGeneralTypeIssues]

    child: Any = Child  # checkers ask for `x`
    assert child().x == 1.0


# Abstract members


class Sized(gn.Node, abc.ABC):
    """Abstract: a size, a function."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """A size."""

    @abc.abstractmethod
    def act(self, x: int) -> int:
        """A function."""


class HasSize(Protocol):
    """A protocol with a member."""

    @property
    def size(self) -> int:
        """A size."""
        ...


class Fixed(Sized):
    """Both members as fields."""

    size: int  # pyright: ignore[reportIncompatibleMethodOverride]
    act: Any = static(default=abs)
    later: "Later | None" = None


class Later(gn.Node):
    """What the annotation of `Fixed` waits for."""


def test_a_field_implements_an_abstract_member():
    """Also where the class waits for a name; and it travels as any field does."""
    cls: Any = Fixed
    fixed = cls(3)
    assert (fixed.size, fixed.act(-2)) == (3, 2)
    for twin in (gn.clone(fixed), copy.copy(fixed), pickle.loads(pickle.dumps(fixed))):
        assert (twin.size, twin.act(-2)) == (3, 2)
    with pytest.raises(TypeError, match="abstract"):
        half: Any = type("Half", (Sized,), {"__annotations__": {"size": int}})
        half(3)


def test_a_field_implements_a_member_of_a_protocol():
    """Wherever the protocol stands among the bases."""
    for bases in ((gn.Node, HasSize), (HasSize, gn.Node)):
        cls: Any = type("Probe", bases, {"__annotations__": {"size": int}})
        assert cls(3).size == 3
        with pytest.raises(TypeError, match="size"):
            cls()


def test_an_abstract_mixin_in_front_of_a_field_does_not_hide_it():
    """The field of the class behind it is read."""
    base = type("Base", (gn.Node,), {"size": 3, "__annotations__": {"size": int}})
    mixin = type("Mixin", (abc.ABC,), {"size": property(abc.abstractmethod(lambda self: None))})
    cls: Any = type("Probe", (mixin, base), {})
    assert cls().size == 3


# Classes that are no nodes


MIXINS: Final[dict[str, dict[str, Any]]] = {
    "State": {"__annotations__": {"x": ParamState}},
    "node": {"__annotations__": {"x": "Leaf"}},
    "list": {"__annotations__": {"x": list[Leaf]}},
    "specifier": {"__annotations__": {"x": int}, "x": static(default=1)},
    "value": {"__annotations__": {"x": Leaf}, "x": LEAF},
}


@pytest.mark.parametrize("body", MIXINS.values(), ids=MIXINS)
def test_a_field_of_a_mixin_is_refused(body: dict[str, Any]):
    """It would be none; unless the node class declares it, too."""
    mixin = type("Mixin", (), {**body, "__module__": __name__})
    text = (
        "Mixin declares it, but is not a node class, so that it is not a field; derive Mixin from gn.Node, or declare "
    )
    text += "x in"
    assert faults_of({}, mixin, gn.Node) == [f"x: {text} Probe"]
    if "x" not in body:
        annotation = body["__annotations__"]["x"]
        cls = type("Probe", (mixin, gn.Node), {"__annotations__": {"x": annotation}, "__module__": __name__})
        assert list(gn.schema(cls).fields) == ["x"]


VALUES: Final[dict[str, tuple[Any, Any, str]]] = {
    "node": (Callable[[int], int], Doubler(), ""),
    "list": (list, [LEAF], ""),
    "array": (jax.Array, jnp.zeros(2), ", or write x: ClassVar[...] for a constant of the class"),
}


@pytest.mark.parametrize(("annotation", "value", "more"), VALUES.values(), ids=VALUES)
def test_a_value_in_a_mixin_is_a_field_by_itself(annotation: Any, value: Any, more: str):
    """Whatever the annotation says, and in a protocol too."""
    text = "x: Mixin declares it, but is not a node class, so that it is not a field; derive Mixin from gn.Node, or "
    text += "declare x in"
    body = {"x": value, "__annotations__": {"x": annotation}, "__module__": __name__}
    for mixin in (type("Mixin", (), dict(body)), types.new_class("Mixin", (Protocol,), {}, lambda ns: ns.update(body))):
        assert faults_of({}, mixin, gn.Node) == [f"{text} Probe{more}"]


def test_a_protocol_may_annotate_what_it_asks_for():
    """States and nodes too; and numbers have values there."""

    class HasLeaf(Protocol):
        leaf: Leaf
        size: int = 3

    class Net(HasLeaf, gn.Node):
        leaf: Leaf

    assert Net(LEAF).size == 3


@pytest.mark.parametrize("bases", [(), (Protocol,)], ids=["mixin", "protocol"])
def test_what_only_annotates_a_field_may_come_first(bases: Any):
    """In front of the class that declares it."""
    body = {"__annotations__": {"width": int}, "__module__": __name__}
    has_width = types.new_class("HasWidth", bases, {}, lambda namespace: namespace.update(body))
    base = type("Base", (gn.Node,), {"width": 3, "__annotations__": {"width": int}})
    net: Any = type("Net", (has_width, base), {})
    more: Any = type("More", (net,), {"depth": 1, "__annotations__": {"depth": int}})
    assert (net().width, net(4).width, more(5, 6).width) == (3, 4, 5)
    assert gn.config.build(gn.config.validate({}, net)).width == 3
    arguments: Any = type("Arguments", (types.new_class("Mixin", bases, {}, lambda ns: ns.update(
        {"__annotations__": {"scale": int}, "__module__": __name__})), Scaled), {})  # fmt: skip
    assert gn.config.build(gn.config.validate({"scale": 4}, arguments)).factor == 4


def test_a_dataclass_may_be_a_mixin():
    """Its fields are fields; what has no annotation there is refused as elsewhere."""

    @dataclasses.dataclass
    class Mixin:
        x: float
        y: Leaf = dataclasses.field(default_factory=Leaf)

    class Net(Mixin, gn.Node):
        z: int = 1

    assert list(gn.schema(Net).fields) == ["x", "y", "z"]
    assert [path for path, _ in gn.iter_node(Net(1.0))] == [("y",), ()]
    setattr(Mixin, "held", LEAF)  # noqa: B010  # checkers know no such attribute
    assert "this Leaf has no annotation" in faults_of({}, Mixin, gn.Node)[0]


@pytest.mark.parametrize("default", [STATE, LEAF, (LEAF,)], ids=["State", "node", "tuple"])
def test_a_dataclass_shares_no_default_either(default: Any):
    """Of a mixin that is one: all instances would hold one State."""
    body = {"x": default, "__annotations__": {"x": type(default)}, "__module__": __name__}
    mixin: Any = dataclasses.dataclass(type("Mixin", (), body))
    assert faults_of({}, mixin, gn.Node)[0].startswith("x: the default ")
    own = {"x": subnode(default_factory=Leaf), "__annotations__": {"x": Leaf}, "__module__": __name__}
    if default is LEAF:
        cls: Any = type("Probe", (mixin, gn.Node), own)
        assert cls().x is not cls().x


def test_a_member_is_no_default_in_a_dataclass_either():
    """Of a mixin that is one."""
    body = {"x": property(method), "__annotations__": {"x": int}, "__module__": __name__}
    mixin: Any = dataclasses.dataclass(type("Mixin", (), body))
    assert faults_of({}, mixin, gn.Node) == ["x: the body of Mixin has a field and a property of this name; rename one"]


# Two parents that do not agree


class Rated(gn.Node):
    """A default."""

    rate: float = 0.1


class Faster(Rated):
    """Another one."""

    rate: float = 0.9


class Same(Rated):
    """The same."""


def test_two_parents_agree_on_a_default():
    """Dataclasses would take that of the first parent's base, and Python's attributes that of the second parent."""
    assert faults_of({}, Same, Faster) == [
        "rate: Faster declares it anew, and Same brings that of a base of both; declare it in Probe"
    ]
    cls: Any = type("Probe", (Faster, Same), {})
    assert cls().rate == cls.rate == 0.9
    assert gn.config.build(gn.config.validate({}, cls)).rate == 0.9


def test_two_parents_agree_on_what_is_a_field():
    """Neither a class variable nor a property of the one takes a field of the other one away."""
    variable = type(
        "Variable", (gn.Node,), {"__module__": __name__, "rate": 3, "__annotations__": {"rate": "ClassVar[int]"}}
    )
    text = "rate: Variable declares it a class variable, but Rated declares it a field; an override keeps the kind"
    assert text in faults_of({}, variable, Rated)
    named = type("Named", (gn.Node,), {"rate": property(method)})
    for bases in ((named, Rated), (Rated, named)):
        assert faults_of({}, *bases) == [
            "rate: Named has a property of this name, which no field replaces; rename one, or make the property "
            "abstract"
        ]


# Constructors that somebody wrote


class Doubled(gn.Node):
    """Computes its field."""

    n: int = 5

    def __init__(self, n: int = 3) -> None:
        self.n = 2 * n


class TenTimes:
    """Hands on."""

    def __init__(self, n: int) -> None:
        hand_on: Any = super().__init__
        hand_on(10 * n)


class Plain(gn.Node):
    """Has a generated constructor."""

    n: int


def test_a_constructor_that_is_inherited_runs():
    """Unless the class declares a field or an argument: then it gets one of its own."""
    variable: Any = type(
        "Variable", (Doubled,), {"__module__": __name__, "name": "b", "__annotations__": {"name": "ClassVar[str]"}}
    )
    behind: Any = type("Behind", (type("Empty", (gn.Node,), {}), Doubled), {})
    assert [cls(4).n for cls in (variable, behind)] == [8, 8]
    assert behind().n == 6
    for base, n in ((Plain, 30), (Doubled, 60)):
        mixed: Any = type("Mixed", (TenTimes, base), {})
        assert mixed(3).n == n
    more: Any = type("More", (Doubled,), {"m": 1, "__annotations__": {"m": int}})
    assert (more(4).n, more(4).m) == (4, 1)


def test_the_first_constructor_counts():
    """Whether it was written or generated, as everywhere in Python."""
    more: Any = type("More", (Doubled,), {"m": 1, "__annotations__": {"m": int}})
    child: Any = type("Child", (more,), {})
    assert (more(4).n, child(4, m=2).n, child(4, m=2).m) == (4, 4, 2)
    other: Any = type("Other", (gn.Node,), {"k": 1, "__annotations__": {"k": int}})
    both: Any = type("Both", (other, Doubled), {})
    assert (both(4, k=2).n, both(4, k=2).k) == (4, 2)


def test_an_inherited_constructor_explains_a_wrong_argument_once():
    """It is called by the constructor of the class that inherits it."""
    child: Any = type("Child", (Doubled,), {})
    with pytest.raises(TypeError) as caught:
        child(m=1)
    assert str(caught.value) == "Doubled.__init__() got an unexpected keyword argument 'm'; it takes n"


def test_a_node_is_not_initialised_again():
    """What it has made itself would stay; where there is nothing of that, the fields are assigned."""

    class Net(gn.Node):
        n: int
        scale: ParamState = state(jax.nn.initializers.ones, shape=lambda self: (2,))

    net: Any = Net(1)
    with pytest.raises(gn.FieldError) as caught:
        net.__init__(2)
    assert str(caught.value) == (
        "Net.__init__ is called on a finished node, where scale would stay as before: construct a new Net"
    )
    assert net.n == 1
    plain: Any = Plain(1)
    plain.__init__(2)
    assert plain.n == 2


def test_no_field_is_assigned_before_the_constructor(monkeypatch: pytest.MonkeyPatch):
    """As a `__new__` would; also where the class waits for a name."""

    def new(cls: Any, *args: Any) -> Any:
        node: Any = gn.Node.__new__(cls)
        node.n = 2
        return node

    for annotations in ({"n": int}, {"n": int, "peer": "NobodyYet"}):
        cls: Any = type("Probe", (gn.Node,), {"__new__": new, "__annotations__": annotations, "__module__": __name__})
        with monkeypatch.context() as later, pytest.raises(gn.FieldError) as caught:
            later.setitem(globals(), "NobodyYet", Leaf)
            cls(1)
        assert str(caught.value) == unmade(cls)


def test_an_argument_of_the_constructor_is_no_attribute():
    """Its default stands in the class, and would be read in place of what was passed."""

    class Sized(gn.Node):
        n: dataclasses.InitVar[int] = 2
        leaf: Leaf = subnode(factory=lambda self: Leaf(self.n))

    with pytest.raises(AttributeError) as caught:
        Sized(5)
    assert str(caught.value) == (
        "Sized.n is an argument of the constructor, which __post_init__ gets and no node keeps: declare it as a field "
        "to read it elsewhere"
    )
    cls: Any = Sized
    assert cls.n == 2


def test_a_class_that_no_init_subclass_has_seen_is_refused():
    """One that does not call up leaves it unmade."""
    mixin = type("Mixin", (), {"__slots__": (), "__init_subclass__": classmethod(lambda cls: None)})
    text = "was not made a {}: an __init_subclass__ that it inherits does not call super().__init_subclass__()"
    for bases in ((mixin, gn.Node), (mixin, Leaf)):
        cls: Any = type("Probe", bases, {"x": 1})
        with pytest.raises(TypeError) as caught:
            cls()
        assert str(caught.value) == f"Probe {text.format('node class')}"
    with pytest.raises(TypeError) as refused:
        type("Probe", (mixin, gn.State), {"value": 3})
    assert str(refused.value) == f"Probe {text.format('class of States')}"


# Equality, and decorators


class ByName:
    """Compares as it likes."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


def test_an_equality_of_a_mixin_is_refused():
    """It would be dropped; the class may say so. What `dataclasses` or an abstract mapping has is nobody's wish."""
    text = "nodes are compared by identity; remove it, or write"
    for first, second in ((ByName, gn.Node), (gn.Node, ByName)):
        assert faults_of({}, first, second) == [
            f"Probe: ByName defines __eq__, but {text} __eq__ = object.__eq__ in Probe",
            f"Probe: ByName defines __hash__, but {text} __hash__ = object.__hash__ in Probe",
        ]
    own = {"__eq__": object.__eq__, "__hash__": object.__hash__}
    generated: Any = dataclasses.dataclass(unsafe_hash=True)(type("Generated", (), {}))
    mapping = {"__getitem__": method, "__iter__": method, "__len__": method}
    fine: list[Any] = [((ByName, gn.Node), own), ((generated, gn.Node), {}), ((gn.Node, Mapping), mapping)]
    for bases, body in fine:
        cls: Any = type("Probe", bases, body)
        assert cls() != cls()
    written: Any = dataclasses.dataclass(type("Written", (), {"__eq__": ByName.__eq__}))
    assert faults_of({}, written, gn.Node) == [
        f"Probe: Written defines __eq__, but {text} __eq__ = object.__eq__ in Probe"
    ]


DECORATED: Final = (
    "Probe: an explicit @dataclass makes its fields anew, without what their specifiers say; remove it, as Node "
    "applies it itself"
)


@pytest.mark.parametrize("options", [{}, {"kw_only": True}, {"init": False}], ids=str)
def test_an_explicit_dataclass_is_refused(options: dict[str, bool], monkeypatch: pytest.MonkeyPatch):
    """Where the class is used or extended first: the decorator runs when the class is there."""
    body = {"leaf": subnode(default_factory=Leaf), "n": 1, "later": None, "__module__": __name__}
    for waits in ({}, {"later": "NobodyYet | None"}):
        annotations = {"leaf": Leaf, "n": int, **waits}
        cls: Any = type("Probe", (gn.Node,), {**body, "__annotations__": annotations})
        decorated: Any = dataclasses.dataclass(eq=False, **options)(cls)
        with monkeypatch.context() as later, pytest.raises(gn.SchemaError) as used:
            later.setitem(globals(), "NobodyYet", Leaf)
            decorated(n=1)
        assert used.value.faults == (DECORATED,)
        assert faults_of({}, decorated) == [DECORATED]
    made: Any = dataclasses.make_dataclass("Probe", [("n", int, 1)], bases=(gn.Node,), eq=False)
    with pytest.raises(gn.SchemaError) as caught:
        made()
    assert caught.value.faults == (DECORATED,)


def test_a_dataclass_of_pydantic_is_refused():
    """By its decorator, where `@dataclass` is found at the first use."""
    for base in (gn.Node, Leaf):
        cls = type("Probe", (base,), {"n": 1, "__annotations__": {"n": int}})
        with pytest.raises(gn.SchemaError) as caught:
            pydantic.dataclasses.dataclass(cls)
        assert caught.value.faults == (DECORATED,)


CLASS_VARIABLES: dict[str, tuple[Any, str]] = {
    "state": (state(jax.nn.initializers.zeros), "gn.state(...)"),
    "factory": (state(default_factory=lambda: ParamState(0.0)), "gn.state(...)"),
    "static": (static(default=1), "gn.static(...)"),
    "subnode": (subnode(default_factory=Leaf), "gn.subnode(...)"),
    "dataclasses.field": (dataclasses.field(default=1), "field(...)"),
    "nothing": (dataclasses.field(), "field(...)"),
}


@pytest.mark.parametrize("annotation", ["ClassVar[ParamState]", "ClassVar[int]", ClassVar], ids=str)
@pytest.mark.parametrize(("specifier", "called"), CLASS_VARIABLES.values(), ids=CLASS_VARIABLES)
def test_a_specifier_of_a_class_variable_is_refused(specifier: Any, called: str, annotation: Any):
    """It declares a field; as a constant, it would be the value."""
    text = (
        f"x: {called} declares a field, and ClassVar[...] a constant of the class; remove ClassVar[...], or write a "
        f"value in place of {called}"
    )
    body = {"x": specifier, "__annotations__": {"x": annotation}, "__module__": __name__}
    assert faults_of({"x": specifier}, annotations={"x": annotation, "y": int}) == [text]
    assert faults_of({}, type("Mixin", (), body), gn.Node) == [text]
    in_state = [f"x: a State has a value and no fields; hold {called} in a node"]
    assert faults_of({"x": specifier}, gn.State, annotations={"x": annotation}) == in_state


# Defaults of arguments of the constructor


class Cast(gn.Node):
    """Has what arrays have."""

    dtype: str = "float32"


LINE: Final = "write x: InitVar[{} | None] = None, and make it in __post_init__"
ONE_OBJECT: Final = "x: the default {} would be one object for all calls; "
NO_FACTORY: Final = "x: an InitVar is an argument of the constructor, and takes no default_factory; "

ARGUMENT_DEFAULTS: Final[dict[str, tuple[Any, str]]] = {
    "list": ([], ONE_OBJECT.format("list") + LINE.format("list")),
    "node with a dtype": (Cast(), ONE_OBJECT.format("Cast") + LINE.format("Cast")),
    "node": (LEAF, ONE_OBJECT.format("Leaf") + LINE.format("Leaf")),
    "State": (STATE, ONE_OBJECT.format("State") + LINE.format("State")),
    "array": (jnp.zeros(2), ONE_OBJECT.format("array") + LINE.format("...")),
    "specifier": (state(default=STATE), ONE_OBJECT.format("State") + LINE.format("State")),
    "factory": (dataclasses.field(default_factory=list), NO_FACTORY + LINE.format("...")),
    "static array": (static(default=jnp.zeros(2)), NO_FACTORY + LINE.format("...")),
}


@pytest.mark.parametrize(("default", "message"), ARGUMENT_DEFAULTS.values(), ids=ARGUMENT_DEFAULTS)
def test_a_default_of_an_argument_that_may_change_is_made_in_the_constructor(default: Any, message: str):
    """An `InitVar` has no factory."""
    assert faults_of({"x": default}, annotations={"x": dataclasses.InitVar[Any]}) == [message]


def test_the_same_of_an_argument_of_a_dataclass_that_is_extended():
    """`dataclasses` looks at the types of lists and the like alone."""

    @dataclasses.dataclass
    class Base:
        x: dataclasses.InitVar[Any] = STATE

    assert faults_of({}, Base, gn.Node) == [ARGUMENT_DEFAULTS["State"][1]]


def test_what_is_written_instead_does():
    """Each node has a list of its own."""

    class Probe(gn.Node):
        kinds: tuple[str, ...] = static(init=False)
        x: dataclasses.InitVar[list[str] | None] = None

        def __post_init__(self, x: list[str] | None) -> None:
            self.kinds = tuple([] if x is None else x)

    assert (Probe().kinds, Probe(["a"]).kinds) == ((), ("a",))


# Classes that are registered with JAX

REGISTERED: Final = (
    "{} is registered with JAX as a pytree, and a transformation loses what it writes into a pytree; remove the "
    "registration (by a decorator, a call or a base class): graphnode's functions take nodes and States as they are, "
    "and gn.treefy_split and gn.graph_to_tree make pytrees of them for JAX's own"
)


def _with_keys(cls: Any) -> Any:
    jax.tree_util.register_pytree_with_keys(cls, lambda one: ((("x", one.x),), None), lambda _, parts: cls(*parts))
    return cls


class _Flattening:
    """The methods that JAX asks for."""

    def tree_flatten(self: Any) -> Any:
        return (self.x.value,), None

    @classmethod
    def tree_unflatten(cls: Any, _: None, values: Any) -> Any:
        return cls(gn.State(values[0]))


class _Registering(_Flattening):
    """A base that registers what extends it, as `flax.struct.PyTreeNode` does."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        jax.tree_util.register_pytree_node_class(cls)


REGISTRATIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "class": jax.tree_util.register_pytree_node_class,
    "static": jax.tree_util.register_static,
    "dataclass": jax.tree_util.register_dataclass,
    "with keys": _with_keys,
}


@pytest.mark.parametrize("register", REGISTRATIONS.values(), ids=REGISTRATIONS)
def test_a_node_class_that_is_registered_with_jax_is_refused(register: Callable[[Any], Any]):
    """Where it is used or extended first: JAX would take its nodes apart before a transformation sees them."""
    probe = register(declare((gn.Node, _Flattening), x=gn.State))
    with pytest.raises(gn.SchemaError) as used:
        probe(STATE)
    assert used.value.faults == (REGISTERED.format("Probe"),)
    assert faults_of({}, probe) == [REGISTERED.format("Probe")]


@pytest.mark.parametrize("bases", [(gn.Node, _Registering), (_Registering, gn.Node)], ids=["after", "before"])
def test_a_base_that_registers_node_classes_with_jax_is_refused(bases: tuple[type, ...]):
    """Where the class is defined, or used: a base that comes first registers it after its definition."""
    with pytest.raises(gn.SchemaError) as caught:
        declare(bases, x=gn.State)(STATE)
    assert str(caught.value) == REGISTERED.format("Probe")


@pytest.mark.parametrize("tag", [None, "tag"])
def test_a_class_of_states_that_is_registered_with_jax_is_refused(tag: str | None):
    """Where a State of it is made."""

    @jax.tree_util.register_static
    class Registered(gn.State[Array]):
        """A role."""

    with pytest.raises(gn.SchemaError) as caught:
        Registered(jnp.zeros(2), tag=tag)
    assert str(caught.value) == REGISTERED.format("Registered")


@pytest.mark.parametrize("register", [REGISTRATIONS["class"], REGISTRATIONS["static"]], ids=["class", "static"])
def test_a_class_that_is_registered_after_its_first_use_is_found_at_an_argument(register: Callable[[Any], Any]):
    """Where a transformation meets its first argument that JAX takes apart, or a split a list with one.

    What is compiled for a node itself never asks JAX about it, and goes on.
    """
    probe = declare((gn.Node, _Flattening), x=gn.State)
    increment = gn.jit(_increment)
    node = probe(gn.State(jnp.zeros(())))
    increment(node)
    register(probe)
    uses: list[Callable[[Any], Any]] = [
        lambda node: increment(node=node),
        gn.jit(lambda node: _increment(node)),
        lambda node: gn.treefy_split([node]),
    ]
    for use in uses:
        with pytest.raises(gn.SchemaError) as caught:
            use(node)
        assert str(caught.value) == REGISTERED.format("Probe")
    increment(node)
    assert float(node.x.value) == 2.0


def _increment(node: Any) -> None:
    node.x.value += 1.0


# Descriptors that take assignments


class Typed:
    """Keeps what is assigned in the `__dict__`, as in the textbook."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.prefix + name

    def __set__(self, node: Any, value: Any) -> None:
        node.__dict__[self.name] = value


def test_a_descriptor_keeps_nothing_beside_the_fields():
    """Neither under its name, nor a node under another one."""
    text = "beside the fields, where no copy or merge finds it; declare a field in its place: x:"
    for prefix, value, line in (("", 3, "int"), ("_", LEAF, "Leaf"), ("_", [LEAF], "list[Leaf]")):
        net: Any = type("Probe", (gn.Node,), {"x": Typed(prefix)})()
        with pytest.raises(gn.UndeclaredFieldError) as caught:
            net.x = value
        assert str(caught.value) == f"Probe.x keeps its value in __dict__['{prefix}x'], {text} {line}"
        assert net.__dict__ == {}
    cache: Any = type("Probe", (gn.Node,), {"x": Typed("_")})()
    cache.x = 3
    assert cache.__dict__ == {"_x": 3}


def test_a_setter_may_assign_what_a_cached_property_holds():
    """That is the user's, and was there before."""

    class Net(gn.Node):
        leaf: Leaf

        @functools.cached_property
        def first(self) -> Leaf:
            return self.leaf

        @property
        def alias(self) -> Leaf:
            return self.leaf

        @alias.setter
        def alias(self, leaf: Leaf) -> None:
            self.leaf = leaf

    net = Net(LEAF)
    assert net.first is LEAF
    net.alias = LEAF
    assert net.first is net.alias


# Names


RESERVED: Final = ["_binding", "_has_own_init", "_joint", "_plan", "_popped", "_template", "_version"]


@pytest.mark.parametrize("name", RESERVED)
def test_names_of_graphnode_are_refused(name: str):
    """As a field, as an attribute, as a method, and in a mixin."""
    text = f"{name}: this name is graphnode's own; choose another"
    assert faults_of({}, annotations={name: int}) == [text]
    assert faults_of({name: 3}) == [text]
    assert faults_of({name: method}) == [text]
    assert faults_of({}, type("Mixin", (), {name: 3}), gn.Node) == [text]


@pytest.mark.parametrize("name", ["__dict__", "__class__", "__init__", "__graphnode_schema__", "__x__"])
def test_names_of_python_are_no_fields(name: str):
    """Names with two underscores on both sides."""
    text = f"{name}: names with two underscores on both sides are Python's own; choose another"
    assert faults_of({}, annotations={name: int}) == [text]


def test_fields_may_have_the_names_that_constructors_use():
    """`self` above all."""

    class Odd(gn.Node):
        self: int
        args: int
        kwargs: int
        cls: int
        init: int = 4

    odd = Odd(self=0, args=1, kwargs=2, cls=3)
    assert [odd.self, odd.args, odd.kwargs, odd.cls, odd.init] == [0, 1, 2, 3, 4]
    assert gn.clone(odd).self == 0


def test_annotations_see_the_class_body():
    """Its aliases and classes first, as Python and type checkers do; not its fields and methods."""

    class Net(gn.Node):
        Width = int

        class Part(gn.Node):
            n: int = 0

        width: "Width"  # type: ignore[valid-type]
        part: "Part"
        int: "int" = 3  # ty: ignore[invalid-type-form]
        depth: "int" = 4  # type: ignore[valid-type]  # ty: ignore[invalid-type-form]

        def list(self) -> None:
            """No type."""

        parts: "list[Part]" = subnode(default_factory=lambda: [])  # type: ignore[valid-type]  # ty: ignore[invalid-type-form]

    net: Any = Net(1, Net.Part())
    assert (net.width, net.int, net.depth) == (1, 3, 4)
    assert gn.schema(Net).fields["parts"].form.list_of is not None


V = TypeVar("V", bound="Bound")


class Held(gn.Node, Generic[V]):
    """Its type variable is bound by a class that comes later."""

    x: V


class Bound(gn.Node):
    """That class."""

    n: int = 1


def test_names_mean_what_they_mean_where_they_stand():
    """Bounds that come later; aliases; class variables by another name; a bare `Final`; a mixin's own module."""
    assert gn.schema(Held).fields["x"].form.classes == (Bound,)
    namespace = {
        "W": int,
        "n": 1,
        "x": 2,
        "table": jnp.zeros(1),
        "__annotations__": {"W": TypeAlias, "n": Final, "x": "W", "table": "CV[Any]"},
        "__module__": __name__,
    }
    cls: Any = type("Probe", (gn.Node,), namespace)
    assert list(gn.schema(cls).fields) == ["n", "x"]
    assert (cls.W, cls().x) == (int, 2)

    class Local(gn.Node):
        """Hides a name of the module in this function alone."""

    hidden = {"Leaf": Local}
    assert hidden
    mixin: Any = dataclasses.dataclass(
        type("Mixin", (), {"x": 3, "__annotations__": {"x": "Amount"}, "__module__": __name__})
    )

    class Amount(gn.Node):
        """Another one of this name."""

    class Net(mixin, gn.Node):  # type: ignore[misc]
        """Extends it."""

    assert str(gn.schema(Net).fields["x"].kind) == "static"
    assert Amount is not None


Amount = int


def test_the_rest_of_keyword_only_fields_is_no_field():
    """`_: KW_ONLY`."""
    cls = type("Kw", (gn.Node,), {"b": 2, "__annotations__": {"_": dataclasses.KW_ONLY, "b": int}})
    assert list(gn.schema(type("Probe", (cls,), {"_": 3})).fields) == ["b"]


def test_a_function_is_no_default_of_a_number():
    """What a decorator has made of a method has another name."""
    text = "x: the class body has a field and a function of this name; rename one"
    for annotation in (int, "int"):
        assert faults_of({"x": lambda self: 3}, annotations={"x": annotation}) == [text]


def test_final_fields_may_be_written_as_texts():
    """As under `from __future__ import annotations`."""
    cls = type("Probe", (gn.Node,), {"x": 3, "__annotations__": {"x": "Final[int]"}, "__module__": __name__})
    assert gn.schema(cls).fields["x"].kind is gn.schema(Leaf).fields["n"].kind


# Attribute access that is handed on


class Inner(gn.Node):
    """What a wrapper hands on to."""

    w: ParamState
    width: int = 3


class Wrapper(gn.Node):
    """Hands on what it has not."""

    inner: Inner
    v: ParamState
    made: ParamState = state(jax.nn.initializers.ones, shape=lambda self: (self.width,))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Outer(Wrapper):
    """Inherits it."""

    depth: int = 1


class Mixin:
    """Hands on, and is not a node."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Mixed(Mixin, gn.Node):
    """Has it from a mixin."""

    inner: Inner
    v: ParamState


@pytest.mark.parametrize("cls", [Wrapper, Outer, Mixed])
def test_attributes_are_handed_on_but_for_fields(cls: Any):
    """Constructed, copied and popped as any node; a field that holds nothing never reads as the other's."""
    wrapper = cls(Inner(ParamState(jnp.zeros(3))), ParamState(jnp.ones(3)))
    assert wrapper.width == 3
    for twin in (wrapper, gn.clone(wrapper), copy.deepcopy(wrapper), pickle.loads(pickle.dumps(wrapper))):
        assert twin.w is twin.inner.w
        assert gn.graphdef(twin) is gn.graphdef(wrapper)
    assert gn.graphdef(wrapper.inner) is not gn.graphdef(wrapper)
    gn.pop_states(wrapper, gn.PathIn("v"))
    with pytest.raises(gn.UnsetFieldError) as caught:
        _ = wrapper.v
    assert str(caught.value) == (
        f"{cls.__name__}.v holds nothing: it was popped or deleted; assign it, or put it back with update_states"
    )
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = wrapper.no_such_name


# Classes of States


OWN_NAMES: Final = ["value", "name", "tag", "sharding", "metadata", "stacked", "replace", "_value", "_spec"]


@pytest.mark.parametrize("name", OWN_NAMES)
def test_what_a_state_has_is_not_overridden(name: str):
    """A property `value` would be read, and graphnode would go on writing the real one."""
    text = f"{name}: a State has this itself, and graphnode relies on it; choose another name"
    assert faults_of({name: property(method)}, gn.State) == [text]
    assert faults_of({}, type("Mixin", (), {name: 1, "__slots__": ()}), gn.State) == [text]


@pytest.mark.parametrize("name", ["__setattr__", "__getattribute__"])
def test_a_state_that_watches_its_value_is_refused(name: str):
    """Updates, optimizers and splits write and read the value itself, so that nothing would hold in training."""
    text = (
        f"{name}: a State has this itself, and graphnode relies on it: updates, merges and transforms would never call "
        "it; change or check the value where it is used, or in the optimizer"
    )
    assert faults_of({name: method}, gn.ParamState) == [text]
    assert faults_of({}, type("Mixin", (), {name: method, "__slots__": ()}), gn.State) == [text]


def test_a_class_of_states_has_no_fields():
    """An annotation there declares none."""
    assert faults_of({"rate": 0.5}, gn.State, annotations={"rate": float}) == [
        "rate: a State has a value and no fields; write rate: ClassVar[...] for a constant, or give States "
        "metadata={'rate': ...}"
    ]
    for name, value in (("held", [LEAF]), ("__call__", Doubler())):
        assert faults_of({name: value}, gn.State) == [
            f"{name}: what stands in the body of a State is part of no model; hold it in a field of a node"
        ]
    assert faults_of({"x": static(default=1)}, gn.State) == [
        "x: a State has a value and no fields; hold gn.static(...) in a node"
    ]


def test_a_class_of_states_takes_no_attributes_that_a_merge_would_lose():
    """Neither by slots of its own, nor by a mixin without any."""
    assert faults_of({"__slots__": ("extra",)}, gn.State) == [
        "Probe: no merge would keep what is in the __slots__ of Probe; give facts as metadata={...}"
    ]
    assert faults_of({}, gn.ParamState, type("Mixin", (), {})) == [
        "Probe: States take any attribute from Mixin, and no merge would keep it; write __slots__ = () in Mixin"
    ]
    cls: Any = type("Fine", (gn.ParamState, type("Mixin", (), {"__slots__": (), "double": method})), {})
    assert cls(jnp.zeros(2)).double() == 1
    with pytest.raises(AttributeError):
        cls(jnp.zeros(2)).extra = 1
