"""Declaring node classes: what becomes a field, when a class compiles, and what construction and assignment refuse."""

import abc
import copy
import dataclasses
import functools
import gc
import inspect
import math
import pickle
import weakref
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, InitVar
from typing import Annotated, Any, ClassVar, Final, Generic, Protocol, TypeVar
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import LongTermState, ParamState, ShortTermState, state, static, subnode
from graphnode._describe import describe
from graphnode.nn import Linear

from . import declared_elsewhere as elsewhere
from .declared_for_checkers import Hidden
from .declaring import declare, fault_of, kind_of

ONES = jax.nn.initializers.ones
ZERO = jnp.zeros(())

N = TypeVar("N", bound=gn.Node)


class Leaf(gn.Node):
    n: int = 0


class Holder(gn.Node):
    weight: ParamState
    leaf: Leaf | None = None
    leaves: list[Leaf] = subnode(default_factory=list)
    table: dict[str, ParamState] = state(default_factory=dict)
    pair: tuple[ParamState, ParamState] | None = None


def holder() -> Any:
    """A `Holder`, as the type checker does not see it."""
    return Holder(ParamState(ZERO))


def kinds(cls: Any) -> dict[str, str]:
    return {name: str(field.kind) for name, field in gn.schema(cls).fields.items()}


def noted(notes: list[Any], note: object, result: Leaf) -> Leaf:
    """`result`, noting that it was made."""
    notes.append(note)
    return result


# What a declaration is


def test_every_subclass_is_a_dataclass_by_identity():
    """A node class is a dataclass without a decorator, whose equality and hash are identity."""
    one, other = Leaf(1), Leaf(1)
    assert one != other
    assert len({one, other, one}) == 2
    assert hash(one) == object.__hash__(one)
    assert dataclasses.is_dataclass(Leaf)


def test_the_constructor_has_the_fields_in_order():
    """The signature is that of the dataclass: `init` fields by position, in the order of the class body."""

    class Net(gn.Node):
        width: int
        weight: ParamState[Float[Array, "width"]] = state(ONES)
        made: Leaf = subnode(init=False)
        name: str = "net"
        last: int = static(default=3, kw_only=True)

        def __post_init__(self) -> None:
            self.made = Leaf()

    assert str(inspect.signature(Net)) == "(width: int, name: str = 'net', *, last: int = 3) -> None"
    assert Net.__match_args__ == ("width", "name")


def test_the_designs_example_builds():
    """The encoder of the design: initialisers, lists, optional nodes, a cycle, a field set in `__post_init__`."""

    class Affine(gn.Node):
        in_size: int
        out_size: int
        weight: ParamState[Float[Array, "in_size out_size"]] = state(jax.nn.initializers.lecun_normal())
        bias: ParamState[Float[Array, "out_size"]] = state(jax.nn.initializers.zeros)

    class Encoder(gn.Node):
        embed: Affine
        layers: list[Affine]
        head: Affine | None = None
        parent: "Encoder | None" = subnode(default=None)
        trace: ShortTermState[Array] = state(init=False)

        def __post_init__(self) -> None:
            self.trace = ShortTermState(jnp.zeros(self.embed.out_size))

    inner = Encoder(Affine(2, 3), [Affine(3, 3), Affine(3, 3)])
    inner.parent = Encoder(Affine(1, 2), [], parent=inner)
    assert inner.parent.parent is inner
    assert inner.layers[1].weight.value.shape == (3, 3)
    assert inner.trace.value.shape == (3,)


@pytest.mark.parametrize(
    ("given", "kind"), [(static, gn.Kind.STATIC), (state, gn.Kind.STATE), (subnode, gn.Kind.SUBNODE)]
)
def test_the_schema_names_each_fields_kind(given: Any, kind: gn.Kind):
    """`gn.schema` gives each field's kind, whether a specifier said it, and the class that declares it."""
    cls = declare(defaults={"x": given()}, x=Any)
    field = gn.schema(cls).fields["x"]
    assert (field.name, field.kind, field.is_explicit, field.owner) == ("x", kind, True, cls)
    assert gn.schema(cls).of_kind(kind) == (field,)


def test_the_schema_lists_fields_in_canonical_order():
    """States and subnodes come by name, however the source orders them; `fields` keeps the constructor's order."""
    cls = declare(zeta=ParamState, n=int, beta=Leaf, alpha=ParamState)
    assert list(gn.schema(cls).fields) == ["zeta", "n", "beta", "alpha"]
    assert [field.name for field in gn.schema(cls).dynamic_fields] == ["alpha", "beta", "zeta"]


def test_the_schema_is_the_same_object_at_every_call():
    """A class compiles once: asking for its schema, constructing, and asking again give one object."""
    assert gn.schema(Leaf) is gn.schema(Leaf)
    cls = declare(n=int, later="Sometime | None")
    cls.__module__ = __name__
    globals()["Sometime"] = Leaf
    try:
        compiled = gn.schema(cls)
        cls(1, None)
        assert gn.schema(cls) is compiled
    finally:
        del globals()["Sometime"]


def test_a_class_compiles_once(monkeypatch: pytest.MonkeyPatch):
    """Every annotation of a class is resolved once, whatever is asked of the class afterwards."""
    import graphnode._declare._schema as compiler

    resolved: list[object] = []
    resolve: Any = vars(compiler)["resolve"]

    def counting(annotation: object, *rest: Any) -> object:
        resolved.append(annotation)
        return resolve(annotation, *rest)

    monkeypatch.setattr(compiler, "resolve", counting)

    class Pair(gn.Node):
        n: int
        weight: ParamState

    for _ in range(3):
        gn.schema(Pair)
        gn.treefy_split(Pair(1, ParamState(ZERO)))
    assert resolved == [int, ParamState]


def test_a_schema_belongs_to_its_own_class():
    """A subclass never sees its parent's schema."""

    class Wide(Leaf):
        width: int = 1

    assert list(gn.schema(Leaf).fields) == ["n"]
    assert list(gn.schema(Wide).fields) == ["n", "width"]
    assert (gn.schema(Leaf).cls, gn.schema(Wide).cls) == (Leaf, Wide)


@pytest.mark.parametrize(
    "given",
    [gn.Node, *(pytest.param(given, marks=pytest.mark.wrong_types) for given in (3, "Leaf", int, Leaf(), None))],
    ids=repr,
)
def test_a_schema_is_of_a_node_class_alone(given: Any):
    """`gn.schema` of anything but a node class is a TypeError that shows what was found."""
    with pytest.raises(TypeError) as caught:
        gn.schema(given)
    assert str(caught.value) == f"gn.schema takes a node class; found {describe(given)}"


def test_a_compiled_class_can_be_collected():
    """Nothing in graphnode keeps a class that has compiled, been instantiated, split and merged."""

    class Brief(gn.Node):
        n: int
        weight: ParamState[Float[Array, "n"]] = state(ONES)
        after: "Brief | None" = None

    node = Brief(2, after=Brief(1))
    gn.treefy_merge(*gn.treefy_split(node))
    repr(node)
    gone = weakref.ref(Brief)
    del Brief, node
    gc.collect()
    assert gone() is None


def test_a_class_that_waits_for_a_name_can_be_collected():
    """A class whose annotations never resolve keeps the frames it was defined in, and nothing keeps it."""
    cls = declare(after="Never | None")
    gone = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone() is None


def test_a_compiled_class_keeps_no_frame():
    """Local variables of the function that defines a class do not live as long as the class."""

    class Big:
        pass

    def define() -> tuple[type[gn.Node], "weakref.ref[Big]"]:
        local = Big()

        class Local(gn.Node):
            n: int

        return Local, weakref.ref(local)

    cls, local = define()
    gc.collect()
    assert cls is not None
    assert local() is None


INSIDE: Final = "Probe.x: gn.{0}(...) inside of Annotated declares nothing; write x: ... = gn.{0}(...)"


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (Annotated[ParamState[Float[Array, "2"]], state(ONES)], "state"),
        (Annotated[int, "a fact", static(kw_only=True)], "static"),
        (list[Annotated[Leaf, subnode()]], "subnode"),
        (dict[str, Annotated[Leaf, subnode()]], "subnode"),
    ],
    ids=["State", "static", "in a list", "in a dict"],
)
def test_a_specifier_inside_of_annotated_is_refused(annotation: Any, kind: str):
    """Nothing looks for one there; also beside a default, which is an argument of the specifier."""
    assert fault_of(annotation) == INSIDE.format(kind)
    with pytest.raises(gn.SchemaError) as caught:
        declare(defaults={"x": None}, x=annotation)
    assert str(caught.value) == INSIDE.format(kind) + ", with the default among its arguments"
    assert kind_of(Annotated[int, "a fact"]) == "static"


# Names that resolve late


def test_classes_inside_functions_see_local_names():
    """An annotation may name a class of the enclosing function, as an object or as text."""

    class Local(gn.Node):
        n: int = 0

    class Uses(gn.Node):
        one: "Local"
        many: "list[Local]"

    assert kinds(Uses) == {"one": "subnode", "many": "subnode"}
    assert Uses(Local(), [Local()]).many[0].n == 0


def recursive(depth: int) -> Any:
    """A class whose annotation names what comes after it, and what an outer call has already."""
    if depth == 2:

        class Kid(gn.Node):  # pyright: ignore[reportRedeclaration]
            n: int = depth

        return Kid, recursive(1)

    class Parent(gn.Node):
        kid: "Kid" = subnode(factory=lambda self: Kid())

    class Kid(gn.Node):  # type: ignore[no-redef]
        n: int = depth

    return Parent


def test_a_name_of_a_recursive_function_is_that_of_the_call():
    """An annotation waits for what its own call defines, and does not take what an outer one has."""
    _, parent = recursive(2)
    assert parent().kid.n == 1


def mutual() -> tuple[Any, Any]:
    """Two classes that name each other, after the function that holds them has returned."""

    class A(gn.Node):
        n: int
        b: "B | None" = None

    class B(gn.Node):
        a: A

    return A, B


def test_mutual_references_inside_a_function_resolve_after_it_returned():
    """Two local classes may name each other, whichever comes first."""
    A, B = mutual()
    a = A(1)
    a.b = B(a)
    assert a.b.a is a


def test_a_schema_asked_for_first_leaves_a_local_class_constructible():
    """`gn.schema(cls)` before the first construction changes nothing about it."""
    A, B = mutual()
    assert kinds(A) == {"n": "static", "b": "subnode"}
    assert A(1, B(A(2))).b.a.n == 2


def test_a_class_names_itself():
    """A class may name itself, in a module and in a function."""

    class Chain(gn.Node):
        after: "Chain | None" = None
        all: "list[Chain]" = subnode(default_factory=list)

    node = Chain(Chain())
    node.all.append(node)
    assert kinds(Chain) == {"after": "subnode", "all": "subnode"}


def test_a_nested_class_sees_the_body_around_it():
    """A class in a class body may name its siblings there, also later ones."""

    class Outer:
        class First(gn.Node):
            second: "Second | None" = None  # type: ignore[name-defined]  # ty: ignore[unresolved-reference]

        class Second(gn.Node):
            first: "First | None" = None  # type: ignore[name-defined]  # ty: ignore[unresolved-reference]

    made: Any = Outer.First(Outer.Second())
    assert made.second.first is None


def test_postponed_annotations_resolve_where_they_were_written():
    """With `from __future__ import annotations` every rule holds, in the names of the declaring module."""
    leaf = elsewhere.Leaf(2.0, 3)
    leaf.parent = elsewhere.Tree([leaf])
    assert kinds(elsewhere.Leaf) == {"width": "static", "weight": "state", "parent": "subnode", "after": "subnode"}
    assert leaf.weight.value.tolist() == [2.0, 2.0, 2.0]
    assert leaf.parent.leaves[0] is leaf


def test_a_postponed_keyword_only_marker_and_class_variable_are_seen():
    """`_: KW_ONLY` and `ClassVar` work as text."""
    make: Any = elsewhere.Leaf
    assert elsewhere.Leaf.made == 7
    with pytest.raises(TypeError, match="positional arguments"):
        make(2.0, 3, None)


def test_inherited_fields_resolve_where_they_were_declared():
    """A subclass in another module needs none of the names that its parent's annotations use."""

    class Here(elsewhere.Leaf):
        extra: Hidden | None = None

    assert kinds(Here) == kinds(elsewhere.Leaf) | {"extra": "subnode"}
    assert Here(1.0, 2, extra=Hidden()).weight.value.shape == (2,)
    assert kinds(elsewhere.Grafted)["twin"] == "subnode"


UNRESOLVED = (
    "nothing defines 'Hidden' of the annotation {!r}; import it at run time (not only under TYPE_CHECKING), define it "
    "in the module, or say static(), state() or subnode()"
)


def test_a_name_for_type_checkers_only_is_named_with_its_field():
    """An annotation that nothing resolves names field and missing name, at the first use and not before."""
    make: Any = elsewhere.Untagged
    expected = (
        "Untagged has 2 faults:"
        f"\n  Untagged.hidden: {UNRESOLVED.format('Hidden')}"
        f"\n  Untagged.other: {UNRESOLVED.format('list[Hidden] | None')}"
    )
    for use in (lambda: gn.schema(elsewhere.Untagged), lambda: make(1, Hidden()), lambda: gn.schema(make)):
        with pytest.raises(gn.SchemaError) as caught:
            use()
        assert str(caught.value) == expected


def test_a_name_for_type_checkers_only_works_with_a_specifier():
    """A specifier says the kind, so nothing needs the name."""
    node = elsewhere.Tagged(1, Hidden(2))
    assert kinds(elsewhere.Tagged) == {"width": "static", "hidden": "subnode", "config": "static", "held": "state"}
    assert node.hidden.depth == 2


def test_a_specifier_without_a_known_class_still_checks_the_kind():
    """Where the annotation is unknown, a value of another kind is refused all the same."""
    make: Any = elsewhere.Tagged
    with pytest.raises(gn.FieldError) as caught:
        make(1, 3)
    assert str(caught.value) == "Tagged.hidden takes a node; found int 3"


def test_an_initializer_needs_a_name_that_resolves():
    """A State that the node makes itself must have a known class."""
    cls = declare(defaults={"w": state(ONES, shape=lambda self: ())}, w="Hidden")
    with pytest.raises(gn.SchemaError) as caught:
        cls()
    assert str(caught.value) == "Probe.w: " + UNRESOLVED.format("Hidden")


def test_an_annotation_that_does_not_evaluate_is_a_fault():
    """An annotation that raises is reported with its field, not as a bare traceback."""
    with pytest.raises(gn.SchemaError) as caught:
        declare(n=int, x="int[")
    assert str(caught.value).startswith("Probe.x: the annotation 'int[' does not evaluate: ")
    for text, error in {"1 / 0": "ZeroDivisionError", "{}['x']": "KeyError", "int('x')": "ValueError"}.items():
        with pytest.raises(gn.SchemaError) as caught:
            declare(n=int, x=text)
        assert str(caught.value).startswith(f"Probe.x: the annotation {text!r} does not evaluate: {error}(")


def test_a_class_defined_again_is_another_class():
    """A notebook's second definition of a class under one name is told apart, in fields and in lists."""

    def define() -> Any:
        class Layer(gn.Node):
            n: int = 0

        return Layer

    old, new = define(), define()
    cls = declare(one=old, many=list[old])  # type: ignore[valid-type]  # ty: ignore[invalid-type-form]
    node = cls(old(), [old()])
    with pytest.raises(gn.FieldError) as caught:
        node.one = new()
    assert str(caught.value) == "Probe.one takes Layer; found the Layer of after it was defined again"
    with pytest.raises(gn.FieldError) as caught:
        node.many.append(new())
    assert str(caught.value) == "Probe.many.1 takes Layer; found the Layer of after it was defined again"


def test_a_class_defined_again_names_itself_anew():
    """A self reference of a redefined class means the new class, for a class that waited for other names too."""

    class Link(gn.Node):  # pyright: ignore[reportRedeclaration]
        after: "Link | None" = None
        late: "Late | None" = None

    first: Any = Link

    class Link(gn.Node):  # type: ignore[no-redef]
        after: "Link | None" = None

    second: Any = Link

    class Late(gn.Node):
        pass

    assert gn.schema(first).fields["after"].form.classes == (first,)
    assert gn.schema(second).fields["after"].form.classes == (second,)


# Faults of a class


def test_all_faults_of_a_class_are_reported_at_once():
    """One SchemaError lists each fault with class and field."""
    with pytest.raises(gn.SchemaError) as caught:

        class Broken(gn.Node):
            a: list[int]
            b: Any
            n: int
            c: int = state()
            d: ParamState = static()
            e: ParamState = state(ONES)
            f: ParamState[Float[Array, "width"]] = state(ONES)

    assert caught.value.cls_name == "Broken"
    assert len(caught.value.faults) == 6
    assert str(caught.value) == (
        "Broken has 6 faults:"
        "\n  Broken.a: list[int] is not hashable: write tuple[int, ...]"
        "\n  Broken.b: Any may hold anything; say which: b: ... = gn.static(), gn.state() or gn.subnode()"
        "\n  Broken.c: declared state(), but its annotation says static; write static()"
        "\n  Broken.d: declared static(), but its annotation says state; write state()"
        '\n  Broken.e: state(initializer) needs a shape: annotate ParamState[Float[Array, "rows cols"]], or pass '
        "shape=lambda self: (...)"
        "\n  Broken.f: axis 'width' of Float[Array, \"width\"] names no static field; declare width: int"
    )


def test_mutable_defaults_are_reported_with_all_other_faults():
    """A mutable default hides no other fault of its class."""
    with pytest.raises(gn.SchemaError) as caught:

        class Broken(gn.Node):
            a: list[int]
            b: list[Leaf] = []
            c: Any = None

    assert sorted(fault.partition(":")[0] for fault in caught.value.faults) == ["Broken.a", "Broken.b", "Broken.c"]


def test_faults_wait_together_for_a_late_name():
    """A class that waits for a name reports its other faults with that one, at first use."""
    cls = declare(a=list[int], b="Never", c=Any)
    with pytest.raises(gn.SchemaError) as caught:
        gn.schema(cls)
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["Probe.a", "Probe.b", "Probe.c"]


MUTABLE = {
    "list": (list[Leaf], [], "list", "default_factory=list"),
    "dict": (dict[str, Leaf], {}, "dict", "default_factory=dict"),
    "node": (Leaf, Leaf(), "Leaf", "gn.subnode(default_factory=lambda: Leaf(...))"),
    "State": (ParamState, ParamState(ZERO), "ParamState", "gn.state(default_factory=lambda: ParamState(...))"),
    "subnode(default=)": (Leaf, subnode(default=Leaf()), "Leaf", "gn.subnode(default_factory=lambda: Leaf(...))"),
    "tuple": (
        tuple[Leaf, ...],
        (Leaf(),),
        "tuple",
        "default_factory=lambda: (...), or remove a comma behind the default",
    ),
}


@pytest.mark.parametrize(("annotation", "default", "found", "remedy"), MUTABLE.values(), ids=MUTABLE)
def test_a_mutable_default_is_refused(annotation: Any, default: Any, found: str, remedy: str):
    """A default that all instances would share names the factory to write."""
    with pytest.raises(gn.SchemaError) as caught:
        declare(defaults={"x": default}, x=annotation)
    assert str(caught.value) == (
        f"Probe.x: the default {found} would be one object shared by all instances; use {remedy}"
    )


def test_a_mutable_class_variable_is_no_default():
    """`ClassVar` is not a field: it may hold what it likes."""

    class Registry(gn.Node):
        known: ClassVar[dict[str, int]] = {}
        order: "ClassVar[list[int]]" = []
        n: int = 0

    Registry.known["a"] = 1
    assert Registry(2).known == {"a": 1}
    assert list(gn.schema(Registry).fields) == ["n"]


def test_a_required_field_after_a_default_is_a_schema_error():
    """What the dataclass itself refuses is a SchemaError too."""
    with pytest.raises(gn.SchemaError) as caught:
        declare(defaults={"a": 1}, a=int, b=int)
    # Python 3.12 and later name the default too.
    assert str(caught.value).startswith("Probe: non-default argument 'b' follows default argument")


def test_a_schema_error_is_a_type_error():
    """Errors extend our base class and the built-in that callers catch."""
    for error, builtin in (
        (gn.SchemaError, TypeError),
        (gn.FieldError, TypeError),
        (gn.UndeclaredFieldError, AttributeError),
        (gn.UnsetFieldError, AttributeError),
        (gn.ContractError, ValueError),
        (gn.TraceError, RuntimeError),
        (gn.PathError, ValueError),
    ):
        assert issubclass(error, gn.GraphnodeError)
        assert issubclass(error, builtin)
        assert error.__module__ == "graphnode"


def test_a_schema_error_pickles():
    """A SchemaError keeps its faults through pickle, as test runners send it."""
    again = pickle.loads(pickle.dumps(gn.SchemaError("A", ["A.x: no", "A.y: no"])))
    assert (again.faults, str(again)) == (("A.x: no", "A.y: no"), "A has 2 faults:\n  A.x: no\n  A.y: no")


# Dataclass features


def test_a_subclass_inherits_fields_and_overrides_defaults():
    """An override may change the default and narrow the annotation; the field keeps its place."""

    class Base(gn.Node):
        width: int
        layer: Leaf | Linear
        name: str = "base"

    class Narrow(Base):
        layer: Linear  # pyright: ignore[reportIncompatibleVariableOverride]  # ty: ignore[incompatible-mutable-override]  # pyrefly: ignore[bad-override-mutable-attribute]
        name: str = "narrow"

    node = Narrow(3, Linear(1, 1))
    assert (node.width, node.name) == (3, "narrow")
    assert list(gn.schema(Narrow).fields) == ["width", "layer", "name"]
    assert gn.schema(Narrow).fields["layer"].form.classes == (Linear,)
    make: Any = Narrow
    with pytest.raises(gn.FieldError, match=r"^Narrow\.layer takes Linear; found a Leaf$"):
        make(3, Leaf())


def test_an_override_keeps_an_inherited_default():
    """As in any dataclass, an annotation repeated without a default keeps the parent's."""

    class Again(Leaf):
        n: int  # pyright: ignore[reportGeneralTypeIssues]  # which sees a field without a default

    make: Any = Again
    assert make().n == 0


@pytest.mark.parametrize(
    ("annotation", "now"), [(ParamState, "state"), (Leaf, "subnode"), (list[Leaf], "subnode")], ids=str
)
def test_an_override_keeps_the_kind(annotation: Any, now: str):
    """An override that changes a field's kind is refused."""
    base = declare(x=int)
    with pytest.raises(gn.SchemaError) as caught:
        declare((base,), x=annotation)
    assert str(caught.value) == (f"Probe.x: declared {now}, but Probe declares it static; an override keeps the kind")


def test_two_bases_that_disagree_on_a_kind_are_refused():
    """A class whose bases declare one field with two kinds overrides one of them with another kind."""
    with pytest.raises(gn.SchemaError) as caught:
        declare((declare(x=int), declare(x=ParamState)))
    assert str(caught.value) == "Probe.x: declared static, but Probe declares it state; an override keeps the kind"


def test_an_override_of_a_class_that_waits_keeps_the_kind():
    """The rule holds too where the parent waited for a name while the child compiled."""
    base = declare(x=int, later="Never | None")
    cls = declare((base,), x=ParamState, later=Leaf | None)
    with pytest.raises(gn.SchemaError, match="an override keeps the kind"):
        gn.schema(cls)


def test_a_diamond_of_node_classes_has_each_field_once():
    """Multiple inheritance of node classes follows the dataclass order."""

    class Base(gn.Node):
        x: int

    class Left(Base):
        y: int = 1

    class Right(Base):
        z: int = 2

    class Both(Left, Right):
        pass

    assert list(gn.schema(Both).fields) == ["x", "z", "y"]
    assert Both(3, y=5).y == 5


class Greets:
    """A plain mixin: methods, a class attribute, an annotation that declares no field."""

    greeting = "hello"
    name: str

    def greet(self) -> str:
        return f"{self.greeting} {getattr(self, 'n', None)}"


@pytest.mark.parametrize("bases", [(Greets, gn.Node), (gn.Node, Greets)], ids=["before", "after"])
def test_a_plain_mixin_adds_methods_and_no_fields(bases: tuple[type, ...]):
    """A mixin that is not a node stands before or after Node and declares nothing."""
    cls = declare(bases, defaults={"n": 2}, n=int)
    assert cls().greet() == "hello 2"
    assert list(gn.schema(cls).fields) == ["n"]


def test_a_mixin_may_have_a_subclass_hook_and_keywords():
    """`__init_subclass__` cooperates: a mixin before Node takes its own keywords, and passes on those of Node."""
    seen: list[str] = []

    class Named:
        def __init_subclass__(cls, *, alias: str = "", **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            seen.append(alias)

    class Net(Named, gn.Node, alias="net", kw_only=True):
        n: int

    assert seen == ["net"]
    assert Net(n=1).n == 1
    with pytest.raises(TypeError, match="unexpected keyword argument 'kw_onyl'"):
        type("Misspelt", (gn.Node,), {}, kw_onyl=True)


@dataclasses.dataclass
class Coloured:
    colour: str


@pytest.mark.parametrize("bases", [(Coloured, gn.Node), (gn.Node, Coloured)], ids=["before", "after"])
def test_a_dataclass_mixin_gives_its_fields_and_no_equality(bases: tuple[type, ...]):
    """The fields of a plain dataclass among the bases are fields; equality, hash and repr stay those of a node."""
    cls = declare(bases, n=int)
    node = cls("red", 1)
    assert kinds(cls) == {"colour": "static", "n": "static"}
    assert repr(node) == "Probe(colour='red', n=1)"
    assert node != cls("red", 1)
    assert hash(node) == object.__hash__(node)


def test_a_protocol_can_be_implemented_by_name():
    """A Protocol among the bases is a mixin as any other."""

    class Runs(Protocol):
        def run(self) -> int: ...

    class Runner(gn.Node, Runs):
        n: int

        def run(self) -> int:
            return self.n

    assert Runner(3).run() == 3


def test_an_abstract_base_is_not_instantiated():
    """An abstract node class declares fields; only a class that implements it is constructed."""

    class Layer(gn.Node, abc.ABC):
        n: int

        @abc.abstractmethod
        def run(self) -> int: ...

    class Real(Layer):
        def run(self) -> int:
            return self.n

    make: Any = Layer
    with pytest.raises(TypeError, match="abstract class Layer"):
        make(1)
    assert Real(4).run() == 4
    assert gn.schema(declare(layer=Layer)).fields["layer"].form.classes == (Layer,)


class Box(gn.Node, Generic[N]):
    item: N
    others: list[N] = subnode(default_factory=list)
    n: int = 1


def test_a_subscripted_class_leaks_nothing_into_the_structure():
    """`Box[Leaf](...)` is a `Box`: same fields, no extra attribute, same graphdef."""
    plain, subscripted = Box(Leaf()), Box[Leaf](Leaf())
    assert type(subscripted) is Box
    assert set(vars(subscripted)) == set(vars(plain)) == {"item", "others", "n"}
    assert gn.graphdef(subscripted) == gn.graphdef(plain)


def test_a_subclass_of_a_subscripted_class_keeps_its_fields():
    """`class B(Box[Leaf])` inherits the fields of `Box`, read through the bound of the type variable."""

    class Leaves(Box[Leaf]):
        extra: int = 2

    assert kinds(Leaves) == {"item": "subnode", "others": "subnode", "n": "static", "extra": "static"}
    assert Leaves(Leaf(), [Leaf(1)]).others[0].n == 1


def test_an_init_variable_reaches_post_init_alone():
    """`InitVar` is an argument of the constructor, and neither field nor attribute."""

    class Scaled(gn.Node):
        factor: InitVar[int]
        text: "InitVar[str]"
        n: int = 2

        # pyright does not count an InitVar in quotes.
        def __post_init__(self, factor: int, text: str) -> None:  # pyright: ignore[reportGeneralTypeIssues]
            self.n = self.n * factor + len(text)

    node = Scaled(5, "abc")
    assert node.n == 13
    assert vars(node) == {"n": 13}
    assert list(gn.schema(Scaled).fields) == ["n"]


def test_keyword_only_by_class_by_field_and_by_marker():
    """A required field may follow a default where it is keyword-only, however that is said."""

    class ByClass(gn.Node, kw_only=True):
        a: int = 1
        b: int

    class ByField(gn.Node):
        a: int = 1
        b: int = static(kw_only=True)
        c: ParamState = state(kw_only=True)
        d: Leaf = subnode(kw_only=True)

    class ByMarker(gn.Node):
        a: int = 1
        _: KW_ONLY
        b: int

    assert ByClass(b=2).b == ByField(b=2, c=ParamState(ZERO), d=Leaf()).b == ByMarker(b=2).b == 2
    for make in (ByClass, ByField, ByMarker):
        called: Any = make
        with pytest.raises(TypeError, match="argument"):
            called(1, 2)


def test_kw_only_of_a_class_is_not_inherited():
    """`class A(Node, kw_only=True)` speaks of the fields of `A` alone."""

    class Base(gn.Node, kw_only=True):
        a: int = 1

    class Child(Base):
        b: int

    assert Child(2, a=3).b == 2


def test_default_factories_run_for_each_instance():
    """Each instance gets what its factory makes."""
    one, other = Holder(ParamState(ZERO)), Holder(ParamState(ZERO))
    one.leaves.append(Leaf())
    assert len(other.leaves) == 0


def test_a_factory_sees_the_node():
    """`subnode(factory=...)` builds from static fields, is called once, and stays out of the constructor."""
    calls: list[int] = []

    class Square(gn.Node):
        width: int
        inner: Leaf = subnode(factory=lambda self: noted(calls, self.width, Leaf(self.width)))

    assert Square(3).inner.n == 3
    assert calls == [3]
    make: Any = Square
    with pytest.raises(TypeError, match="argument"):
        make(3, Leaf())


def test_fields_that_make_themselves_are_read_in_post_init():
    """`__post_init__` and other factories read what the node makes itself, in any order, and each is made once."""
    made: list[str] = []

    def ones(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        made.append("weight")
        return jnp.ones(shape, dtype)

    class Lazy(gn.Node):
        first: Leaf = subnode(factory=lambda self: noted(made, "first", Leaf(self.second.n + 1)))
        second: Leaf = subnode(factory=lambda self: noted(made, "second", Leaf(self.width)))
        width: int
        weight: ParamState[Float[Array, "width"]] = state(ones)
        total: float = static(init=False)

        def __post_init__(self) -> None:
            self.total = float(self.weight.value.sum()) + self.first.n

    node = Lazy(2)
    assert (node.total, node.first.n, node.second.n) == (5.0, 3, 2)
    assert sorted(made) == ["first", "second", "weight"]


def test_post_init_may_set_what_would_make_itself():
    """A field that is assigned in `__post_init__` is not made again."""
    never: Callable[..., Any] = lambda *_: pytest.fail("called")  # noqa: E731

    class Own(gn.Node):
        weight: ParamState[Float[Array, "2"]] = state(never)
        inner: Leaf = subnode(factory=never)

        def __post_init__(self) -> None:
            self.weight = ParamState(jnp.ones(2))
            self.inner = Leaf(7)

    assert Own().inner.n == 7


def test_a_post_init_calls_its_parents():
    """`super().__post_init__()` works, also where the parent sets fields."""

    class Base(gn.Node):
        a: int = static(init=False)

        def __post_init__(self) -> None:
            self.a = 1

    class Child(Base):
        b: int = static(init=False)

        def __post_init__(self) -> None:
            super().__post_init__()
            self.b = self.a + 1

    assert Child().b == 2


def test_an_own_constructor_sets_the_fields():
    """A class may write its own `__init__`, and call its parent's."""

    class Base(gn.Node):
        a: int

    class Child(Base):
        b: Leaf

        def __init__(self, b: int) -> None:
            super().__init__(3)
            self.b = Leaf(b)

    node = Child(4)
    assert (node.a, node.b.n) == (3, 4)


def test_an_own_constructor_keeps_no_order_of_defaults():
    """A field without a default may stand behind one with a default: only a generated constructor needs the order."""

    class Gained(Linear):
        gain: ParamState  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]  # pyrefly: ignore  # ty: ignore

        def __init__(self, size: int) -> None:
            super().__init__(size, size)
            self.gain = ParamState(ZERO)

    assert list(gn.states(Gained(2))) == [("bias",), ("gain",), ("weight",)]


def test_an_own_constructor_that_forgets_a_field_is_told_where_to_set_it():
    """It calls no `__post_init__`."""

    class Own(gn.Node):
        n: int

        def __init__(self) -> None:
            pass

    with pytest.raises(gn.FieldError) as caught:
        Own()
    text = "Own was constructed without n; set it in __init__, or give it an initializer, factory or default"
    assert str(caught.value) == text


def test_an_own_constructor_leaves_defaults_in_place():
    """A field with a default that an own `__init__` does not assign holds its default, as in any dataclass."""

    class Own(gn.Node):
        name: str = "own"
        leaf: Leaf | None = None
        width: int = static(default=4)

        def __init__(self, factor: int) -> None:
            self.width = self.width * factor

    node = Own(2)
    assert (node.name, node.leaf, node.width) == ("own", None, 8)


def test_a_subclass_without_fields_inherits_an_own_constructor():
    """A subclass that adds methods alone is constructed as its parent is."""

    class Loud(Linear):
        def shout(self) -> str:
            return "!"

    make: Any = Loud
    assert make(2, 3, use_bias=False).weight.value.shape == (2, 3)


def test_properties_and_methods_work():
    """A property reads fields; with a setter it is assigned through; without one the assignment is an error."""

    class Square(gn.Node):
        width: int

        @property
        def area(self) -> int:
            return self.width**2

        @area.setter
        def area(self, area: int) -> None:
            self.width = math.isqrt(area)

        @property
        def fixed(self) -> int:
            return 1

    node = Square(3)
    node.area = 16
    assert (node.width, node.area) == (4, 16)
    with pytest.raises(AttributeError, match="fixed"):
        node.fixed = 2  # type: ignore[misc]  # ty: ignore[invalid-assignment]
    assert vars(node) == {"width": 4}


def test_a_cached_property_is_computed_once_and_is_no_structure():
    """`functools.cached_property` works, and neither split, copy nor repr see what it keeps."""
    calls: list[int] = []

    class Square(gn.Node):
        width: int

        @functools.cached_property
        def area(self) -> int:
            calls.append(self.width)
            return self.width**2

    node = Square(3)
    assert (node.area, node.area, calls) == (9, 9, [3])
    assert gn.graphdef(node) == gn.graphdef(Square(3))
    assert vars(gn.clone(node)) == vars(copy.copy(node)) == vars(copy.deepcopy(node)) == {"width": 3}
    assert repr(node) == "Square(width=3)"
    node.width = 4
    del node.area
    assert node.area == 16


def test_dataclasses_replace_makes_another_node():
    """`dataclasses.replace` constructs a node with other arguments; what is kept is shared, lists are copied."""
    node = Holder(ParamState(ZERO), leaves=[Leaf(1)])
    other = dataclasses.replace(node, leaf=Leaf(5))
    assert (node.leaf, other.weight is node.weight, other.leaves[0] is node.leaves[0]) == (None, True, True)
    other.leaves.append(Leaf())
    assert len(node.leaves) == 1


def test_a_default_is_a_class_attribute():
    """The default of a field is read from the class; a field without one is not an attribute of it."""
    assert Leaf.n == 0
    with pytest.raises(AttributeError) as caught:
        Holder.weight
    assert str(caught.value) == "type object 'Holder' has no attribute 'weight'"


# What fields hold


def containers() -> Iterator[tuple[str, Any, Any]]:
    """Annotations of containers with a value of each."""
    leaf, param = Leaf(), ParamState(ZERO)
    yield "Leaf | None", Leaf | None, None
    yield "Leaf | Linear", Leaf | Linear, leaf
    yield "list[Leaf]", list[Leaf], [leaf, leaf]
    yield "tuple[Leaf, ...]", tuple[Leaf, ...], (leaf, leaf, leaf)
    yield "tuple[Leaf, Linear | None]", tuple[Leaf, Linear | None], (leaf, None)
    yield "dict[str, Leaf]", dict[str, Leaf], {"b": leaf, "a": leaf}
    yield "list[dict[str, tuple[Leaf, ...]]]", list[dict[str, tuple[Leaf, ...]]], [{"a": (leaf,)}, {}]
    yield "list[Leaf | None]", list[Leaf | None], [None, leaf]
    yield "Leaf | list[Leaf]", Leaf | list[Leaf], [leaf]
    yield "list[ParamState]", list[ParamState], [param]
    yield "dict[str, list[ParamState]]", dict[str, list[ParamState]], {"x": [param, param]}
    yield "tuple[ParamState, ...] | None", tuple[ParamState, ...] | None, (param,)
    yield "empty list", list[Leaf], []
    yield "empty dict", dict[str, ParamState], {}


def outline(value: Any) -> Any:
    """The containers of `value`, with the class of each item."""
    if isinstance(value, dict):
        return {key: outline(item) for key, item in sorted(value.items())}
    return [outline(item) for item in value] if isinstance(value, (list, tuple)) else type(value)


@pytest.mark.parametrize(("annotation", "value"), [row[1:] for row in containers()], ids=[r[0] for r in containers()])
def test_containers_hold_nodes_and_states(annotation: Any, value: Any):
    """Lists, tuples, dicts and their nestings read back as they were given, items by identity."""
    node = declare(x=annotation)(value)
    assert node.x == value
    merged = gn.treefy_merge(*gn.treefy_split(node))
    assert outline(merged.x) == outline(node.x) == outline(value)


def test_a_nodes_list_is_its_own():
    """Assigning a list copies it: later changes of the caller's list do not reach the node."""
    given = [Leaf(1)]
    node = declare(x=list[Leaf])(given)
    given.append(Leaf(2))
    assert isinstance(node.x, list)
    assert len(node.x) == 1


def test_shared_and_cyclic_references_are_kept():
    """One node may stand in many fields, in itself, and in a container of its own."""
    cls = declare(a=gn.Node | None, b=list[gn.Node])
    leaf = Leaf()
    node = cls(leaf, [leaf, leaf])
    node.b.append(node)
    node.a = node
    assert node.a is node.b[2] is node
    assert node.b[0] is node.b[1]
    assert copy.deepcopy(node).a.a.b[2].b[0].n == 0


REFUSED_VALUES = {
    "array": ("weight", jnp.ones(2), "Holder.weight takes ParamState; found an array float32[2]; wrap the array: "),
    "int": ("weight", 3, "Holder.weight takes ParamState; found int 3"),
    "None": ("weight", None, "Holder.weight takes ParamState; found None"),
    "other State": ("weight", ShortTermState(ZERO), "Holder.weight takes ParamState; found a ShortTermState"),
    "parent State": ("weight", LongTermState(ZERO), "Holder.weight takes ParamState; found a LongTermState"),
    "node as state": ("weight", Leaf(), "Holder.weight takes ParamState; found a Leaf"),
    "State as node": ("leaf", ParamState(ZERO), "Holder.leaf takes Leaf | None; found a ParamState"),
    "int as node": ("leaf", 3, "Holder.leaf takes Leaf | None; found int 3"),
    "class as node": ("leaf", Leaf, "Holder.leaf takes Leaf | None; found the class Leaf"),
    "list item": ("leaves", [Leaf(), 1], "Holder.leaves.1 takes Leaf; found int 1"),
    "tuple as list": ("leaves", (Leaf(),), "Holder.leaves takes list[Leaf]; found tuple"),
    "dict as list": ("leaves", {}, "Holder.leaves takes list[Leaf]; found dict {}"),
    "dict value": ("table", {"a.b": 3}, 'Holder.table."a.b" takes ParamState; found int 3'),
    "dict key": ("table", {1: ParamState(ZERO)}, "Holder.table takes string keys; found 1"),
    "tuple length": ("pair", (), "Holder.pair takes tuple[ParamState, ParamState] | None; found tuple ()"),
}


@pytest.mark.parametrize(("name", "value", "text"), REFUSED_VALUES.values(), ids=REFUSED_VALUES)
def test_a_value_of_another_kind_is_refused_and_changes_nothing(name: str, value: Any, text: str):
    """A value that its field does not admit names the full place, what it takes and what was found."""
    node = holder()
    before = dict(vars(node))
    with pytest.raises(gn.FieldError) as caught:
        setattr(node, name, value)
    message = str(caught.value)
    assert message.startswith(text)
    assert message == message.rstrip()
    assert "\n" not in message
    assert vars(node) == before


class Abstract(gn.Node, abc.ABC):
    """A node class that others can be registered with."""


@Abstract.register
class Registered:
    """No node, whatever it is registered with."""


A_LEAF = Leaf()
CLAIMS: dict[str, Any] = {
    "registered": Registered(),
    "proxy": weakref.proxy(A_LEAF),
    "mock": mock.Mock(spec=Leaf),
}


@pytest.mark.parametrize("value", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value]], ids=["alone", "in a list"])
def test_what_only_says_that_it_is_a_node_is_refused(wrap: Any, value: Any):
    """A class that is registered with an abstract one, a weak proxy and a mock are no nodes of the graph."""
    cls = declare(x=Abstract | Leaf | list[Abstract | Leaf])
    node = cls(Leaf())
    for assign in (lambda: setattr(node, "x", wrap(value)), lambda: cls(wrap(value))):
        with pytest.raises(gn.FieldError) as caught:
            assign()
        assert str(caught.value).endswith(
            ", which says that it is a node and is not; pass what is behind it, or derive it from gn.Node"
        )
    assert type(node.x) is Leaf


def test_a_node_of_a_registered_class_is_admitted():
    """It is one."""

    @Abstract.register
    class Other(gn.Node):
        n: int = 0

    other = Other()
    assert declare(x=Abstract)(other).x is other
    assert declare(x=list[Abstract])([other]).x[0] is other


def test_an_array_for_a_state_is_told_how_to_wrap_it():
    """The error for a bare array says how to wrap it."""
    node = holder()
    with pytest.raises(gn.FieldError) as caught:
        node.weight = jnp.ones(2)
    assert str(caught.value).endswith("; wrap the array: ParamState(...), or write to .value")


def test_construction_refuses_what_assignment_refuses():
    """The constructor checks the same as an assignment."""
    make: Any = Holder
    with pytest.raises(gn.FieldError) as caught:
        make(ParamState(ZERO), leaves=[3])
    assert str(caught.value) == "Holder.leaves.0 takes Leaf; found int 3"


def test_a_failing_construction_changes_nothing():
    """Parts that were given to a constructor that fails are as before, and can be used again."""
    leaf, given = Leaf(1), [Leaf(2)]
    make: Any = Holder
    before = gn.graphdef(leaf)
    with pytest.raises(gn.FieldError):
        make(ParamState(ZERO), leaf, given, table=3)
    assert gn.graphdef(leaf) is before
    assert type(given) is list
    assert len(given) == 1
    assert make(ParamState(ZERO), leaf, given).leaf is leaf


def test_missing_fields_are_listed_in_one_error():
    """What construction leaves without a value is listed, all of it, with the remedy."""
    cls = declare(
        defaults={"a": state(init=False), "b": subnode(init=False), "c": static(init=False)},
        a=ParamState,
        b=Leaf,
        c=int,
    )
    with pytest.raises(gn.FieldError) as caught:
        cls()
    assert str(caught.value) == (
        "Probe was constructed without a, b, c; set it in __post_init__, or give it an initializer, factory or default"
    )


def test_reading_a_field_before_it_is_set_says_so():
    """A field that `__post_init__` reads too early is an AttributeError that says when to set it."""

    class Early(gn.Node):
        a: ParamState = state(init=False)

        def __post_init__(self) -> None:
            self.a.value

    with pytest.raises(gn.UnsetFieldError) as caught:
        Early()
    assert str(caught.value) == "Early.a is not set yet: assign it before it is read in __post_init__"


def test_a_deleted_field_says_that_it_holds_nothing():
    """A deleted State is unset until it is assigned; reading it or deleting it again says so."""
    node = holder()
    weight = node.weight
    del node.weight
    text = "Holder.weight holds nothing: it was popped or deleted; assign it, or put it back with update_states"
    with pytest.raises(gn.UnsetFieldError) as caught:
        node.weight
    assert str(caught.value) == text
    with pytest.raises(gn.UnsetFieldError) as caught:
        del node.weight
    assert str(caught.value) == text
    assert not hasattr(node, "weight")
    node.weight = weight
    assert node.weight is weight


def test_a_static_field_is_not_deleted():
    """A static field always holds a value."""
    node = Leaf(1)
    with pytest.raises(gn.FieldError) as caught:
        del node.n
    assert str(caught.value) == "Leaf.n is static: it always holds a value, and is not deleted"
    assert node.n == 1


UNDECLARED = {
    "near int": ("wieght", 3, "did you mean 'weight'? Otherwise declare it in the class: wieght: int"),
    "near node": ("leafs", Leaf(), "did you mean 'leaf'? Otherwise declare it in the class: leafs: Leaf"),
    "far State": ("count", ShortTermState(ZERO), "declare it in the class: count: ShortTermState"),
    "far array": (
        "x",
        jnp.ones(2),
        "declare it in the class: x: ParamState, and assign ParamState(...); or x: jax.Array = gn.static() for what "
        "never changes",
    ),
    "far list of nodes": ("bodies", [Leaf(), Leaf()], "declare it in the class: bodies: list[Leaf]"),
    "far list": ("bodies", [Leaf(), 1], "declare it in the class: bodies: ..."),
    "far function": ("f", jnp.ones, "declare it in the class: f: ..."),
    "far str": ("mode", "fast", "declare it in the class: mode: str"),
}


@pytest.mark.parametrize(("name", "value", "hint"), UNDECLARED.values(), ids=UNDECLARED)
def test_an_undeclared_attribute_is_refused_with_the_line_to_write(name: str, value: Any, hint: str):
    """Assigning what the class does not declare names near matches and the line that would declare it."""
    node = holder()
    with pytest.raises(gn.UndeclaredFieldError) as caught:
        setattr(node, name, value)
    assert str(caught.value) == f"Holder has no field {name!r}; {hint}"
    assert not hasattr(node, name)


def test_an_undeclared_attribute_is_refused_during_construction_too():
    """An own `__init__` and `__post_init__` declare no attributes by assigning them."""

    class Typo(gn.Node):
        weight: ParamState = state(init=False)

        def __post_init__(self) -> None:
            self.wieght = ParamState(ZERO)

    with pytest.raises(gn.UndeclaredFieldError) as caught:
        Typo()
    assert str(caught.value) == (
        "Typo has no field 'wieght'; did you mean 'weight'? Otherwise declare it in the class: wieght: ParamState"
    )


def test_a_class_variable_is_not_assigned_on_an_instance():
    """An instance holds declared fields alone: a `ClassVar` is assigned on the class."""
    cls = declare(defaults={"known": 1}, n=int, known=ClassVar[int])  # pyrefly: ignore[invalid-annotation]
    node = cls(2)
    with pytest.raises(gn.UndeclaredFieldError):
        node.known = 3
    assert (node.known, vars(node)) == (1, {"n": 2})


def test_a_nodes_dict_holds_the_declared_fields_alone():
    """After construction `vars(node)` has exactly the declared fields."""
    assert set(vars(holder())) == set(gn.schema(Holder).fields)


def test_the_base_class_is_not_constructed():
    """`Node` itself declares nothing; constructing it says to derive a class."""
    make: Any = gn.Node
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == "Node is a base class: derive a class from it, and declare its fields"
