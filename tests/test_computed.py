"""Static fields that a factory computes from other fields, where the constructor is not given them."""

import copy
import dataclasses
import functools
import inspect
import pickle
from collections.abc import Callable
from dataclasses import InitVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import cloudpickle  # type: ignore[import-untyped]
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import graphnode as gn

from .checking import found_in

ONES = jax.nn.initializers.ones
SPECIFIERS: Any = gn  # of which the type checkers know that these calls are wrong

T = TypeVar("T", int, str)


def fail(*args: object) -> Any:
    raise KeyError("mine")


def hidden_size_of(node: Any, factor: int = 4) -> int:
    return factor * int(node.width)


class Heads(gn.Node):
    """A computed size comes before what it is computed from, and is an axis of a State that comes before it."""

    weight: gn.ParamState[Float[Array, "head_size width"]] = gn.state(ONES)
    width: int
    head_size: int = gn.static(factory=lambda self: self.width // self.heads)
    heads: int = 2


class Wide(Heads):
    hidden_size: int = gn.static(factory=hidden_size_of, init=False)


def test_a_field_is_computed_where_it_is_not_given():
    """From what the constructor was given; a value that is given counts."""
    assert [one.head_size for one in (Heads(8), Heads(8, heads=4), Heads(8, 3), Heads(8, head_size=5))] == [4, 2, 3, 5]
    assert str(inspect.signature(Heads)) == "(width: int, head_size: int = <factory>, heads: int = 2) -> None"


def test_a_computed_size_is_that_of_an_axis():
    """Also of a State that is made before it."""
    assert Heads(8).weight.value.shape == (4, 8)
    assert Heads(8, 3).weight.value.shape == (3, 8)


def test_what_is_computed_is_the_same_structure_as_what_is_given():
    """Nothing in the node says which it was, nor in the graphdef."""
    assert gn.graphdef(Heads(8)) is gn.graphdef(Heads(8, 4))
    assert gn.graphdef(Heads(8)) is not gn.graphdef(Heads(8, 2))


def test_a_factory_runs_once_and_not_where_a_value_is_given():
    """When its field is first read, in whatever order, or else when all else is there."""
    calls: list[str] = []

    def noted(name: str, value: int) -> int:
        calls.append(name)
        return value

    class Chain(gn.Node):
        first: int = gn.static(factory=lambda self: noted("first", self.second + 1))
        inner: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(self.second, self.third))
        second: int = gn.static(factory=lambda self: noted("second", 2 * self.base))
        third: int = gn.static(factory=lambda self: noted("third", self.base))
        base: int = 3
        total: int = gn.static(init=False)

        def __post_init__(self) -> None:
            self.total = self.third

    chain = Chain()
    assert (chain.first, chain.second, chain.third, chain.total) == (7, 6, 3, 3)
    assert chain.inner.weight.value.shape == (6, 3)
    assert calls == ["third", "second", "first"]
    assert Chain(1, 2, 3).total == 3
    assert len(calls) == 3


def test_post_init_may_set_what_would_be_computed():
    """Its factory is then not called."""

    class Own(gn.Node):
        size: int = gn.static(factory=fail)

        def __post_init__(self) -> None:
            self.size = 7

    assert Own().size == 7


def test_an_own_setattr_hands_on_what_is_left_out():
    """Whatever it is: the field is computed afterwards, by an assignment like others."""
    assigned: list[str] = []

    class Noting(gn.Node):
        width: int
        size: int = gn.static(factory=hidden_size_of)

        if not TYPE_CHECKING:

            def __setattr__(self, name: str, value: Any) -> None:
                super().__setattr__(name, value)
                assigned.append(f"{name}={self.__dict__.get(name)}")

    assert Noting(2).size == 8
    assert assigned == ["width=2", "size=None", "size=8"]


def test_a_constructor_need_not_take_the_field():
    """By `init=False`, as what a node makes itself; and a constructor that is written by hand need not set it."""

    class Written(gn.Node):
        width: int
        size: int = gn.static(factory=hidden_size_of)

        def __init__(self) -> None:
            self.width = 2

    make: Any = Wide
    assert (Wide(3).hidden_size, Written().size) == (12, 8)
    with pytest.raises(TypeError, match="unexpected keyword argument 'hidden_size'"):
        make(3, hidden_size=4)


@pytest.mark.parametrize(
    "factory", [hidden_size_of, functools.partial(hidden_size_of, factor=4), lambda self: 4 * self.width]
)
def test_any_function_of_the_node_is_a_factory(factory: Callable[[Any], int]):
    """Of a module, with arguments, or written in place."""

    class Made(gn.Node):
        width: int
        size: int = gn.static(factory=factory, kw_only=True)

    assert (Made(2).size, Made(2, size=5).size) == (8, 5)


def test_a_function_of_the_class_body_is_a_factory():
    """It is a method, too."""

    class Made(gn.Node):
        width: int

        def doubled(self) -> int:
            return 2 * self.width

        size: int = gn.static(factory=doubled)

    assert Made(2).size == 4


def test_a_subclass_may_say_otherwise():
    """A default or another factory in place of a factory, and a factory in place of nothing."""

    class Base(gn.Node):
        size: int

    class Computed(Base):
        size: int = gn.static(factory=lambda self: self.width + 1)
        width: int = 2

    class Again(Computed):
        size: int = gn.static(factory=lambda self: self.width + 2)

    class Fixed(Computed):
        size: int = 9

    assert [cls().size for cls in (Computed, Again, Fixed)] == [3, 4, 9]
    assert Wide(8).head_size == 4


def test_a_generic_class_may_compute():
    """Whatever stands for its type."""

    class Box(gn.Node, Generic[T]):
        one: T
        two: T = gn.static(factory=lambda self: 2 * self.one)

    class Words(Box[str]):
        pass

    assert (Box[int](3).two, Words("a").two) == (6, "aa")


def test_a_field_is_computed_inside_of_a_transformation():
    """A node may be made in any trace."""

    @jax.jit
    def total(x: jax.Array, key: jax.Array) -> jax.Array:
        with gn.random.scope(key):
            heads = Heads(4)
        return x * heads.head_size + heads.weight.value.sum()

    assert float(total(jnp.float32(1), jax.random.key(0))) == 2 + 8


def test_copies_keep_what_was_computed():
    """Without asking the factory, also where what it is computed from has changed since."""
    heads = Heads(8)
    heads.heads = 4
    graphdef, states = gn.treefy_split(heads)
    copies = [
        copy.copy(heads),
        copy.deepcopy(heads),
        gn.clone(heads),
        gn.treefy_merge(graphdef, states),
        pickle.loads(pickle.dumps(heads)),
    ]
    assert [(one.heads, one.head_size) for one in copies] == [(4, 4)] * 5


def test_a_class_that_is_sent_by_value_computes():
    """`cloudpickle` makes such a class anew, with all that its fields are declared with."""

    class Sent(gn.Node):
        width: int
        size: int = gn.static(factory=lambda self: 4 * self.width)

    dumped = cloudpickle.dumps(Sent)
    cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.clear()
    cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.clear()
    arrived = pickle.loads(dumped)
    assert arrived is not Sent
    assert (arrived(2).size, arrived(2, 3).size) == (8, 3)


def test_replace_takes_a_value_for_what_would_be_computed():
    """And for what it is computed from, where it is replaced itself."""
    plain = Plain(8)
    assert dataclasses.replace(plain, size=5).size == 5
    both = dataclasses.replace(plain, width=2, size=5)
    assert (both.width, both.size, plain.width, plain.size) == (2, 5, 8, 32)


class Plain(gn.Node):
    width: int
    size: int = gn.static(factory=lambda self: 4 * self.width)


class Cyclic(gn.Node):
    """Either may be given, and gives the other."""

    width: int = gn.static(factory=lambda self: 2 * self.half)
    half: int = gn.static(factory=lambda self: self.width // 2)


class Own(gn.Node):
    size: int = gn.static(factory=lambda self: self.size + 1, init=False)


class Early(gn.Node):
    size: int = gn.static(factory=lambda self: self.late + 1)
    late: int = gn.static(init=False)

    def __post_init__(self) -> None:
        self.late = self.size


class Failing(gn.Node):
    size: int = gn.static(factory=fail)


class DefaultFails(gn.Node):
    size: int = gn.static(factory=lambda self: 1)
    count: int = gn.static(default_factory=fail)


class Unhashable(gn.Node):
    sizes: Any = SPECIFIERS.static(factory=lambda self: [1, 2])


class UnhashableDefault(gn.Node):
    sizes: Any = SPECIFIERS.static(default_factory=lambda: [1, 2])


def test_settings_may_be_computed_from_each_other():
    """Where one of them is given."""
    assert (Cyclic(6).half, Cyclic(half=3).width) == (3, 6)


@pytest.mark.parametrize(
    ("make", "error", "text", "notes"),
    [
        (
            Cyclic,
            gn.FieldError,
            "Cyclic.width is computed from itself: have its factory read other fields, or pass it to the constructor",
            [
                "the factory of Cyclic.half was called as factory(self)",
                "the factory of Cyclic.width was called as factory(self)",
            ],
        ),
        (
            Own,
            gn.FieldError,
            "Own.size is computed from itself: have its factory read other fields",
            ["the factory of Own.size was called as factory(self)"],
        ),
        (
            Early,
            gn.UnsetFieldError,
            "Early.late is not set yet: assign it before it is read in __post_init__",
            ["the factory of Early.size was called as factory(self)"],
        ),
        (Failing, KeyError, "'mine'", ["the factory of Failing.size was called as factory(self)"]),
        (
            DefaultFails,
            KeyError,
            "'mine'",
            ["the default_factory of DefaultFails.count was called as default_factory()"],
        ),
        (
            lambda: Heads.__init__(Heads(4), 4),
            gn.FieldError,
            "Heads.__init__ is called on a finished node, where weight, head_size would stay as before: construct a "
            "new Heads",
            [],
        ),
        (
            lambda: Plain.__init__(Plain(4), 8),
            gn.FieldError,
            "Plain.__init__ is called on a finished node, where size would stay as before: construct a new Plain",
            [],
        ),
        (
            lambda: dataclasses.replace(Plain(8), width=2),
            gn.FieldError,
            "cannot replace width of Plain: the factory of size uses width. replace shares all States and subnodes, "
            "and runs nothing that makes them: construct a new Plain; or, to keep what is there, assign to a copy: "
            "other = copy.copy(node)",
            [],
        ),
    ],
)
def test_what_fails_says_which_field(make: Callable[[], object], error: type[Exception], text: str, notes: list[str]):
    """With a note that says what was called, as for other factories."""
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    assert str(caught.value) == text
    assert getattr(caught.value, "__notes__", []) == notes


def test_what_is_computed_is_validated_as_a_default_is():
    """A list is refused with the same text; an array is kept read-only."""
    texts: list[str] = []
    for cls in (Unhashable, UnhashableDefault):
        with pytest.raises(gn.FieldError) as caught:
            cls()
        texts.append(str(caught.value).removeprefix(cls.__name__))
    assert texts[0] == texts[1] == ".sizes: a list ([1, 2]) is not hashable: write a tuple"

    class Masked(gn.Node):
        mask: Any = gn.static(factory=lambda self: np.ones(2))

    assert not Masked().mask.flags.writeable


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (
            lambda: SPECIFIERS.static(factory=3),
            "gn.static: factory= takes a function from the node to the value of the field; found int 3; write "
            "factory=lambda self: ...",
        ),
        (
            lambda: SPECIFIERS.static(factory=hidden_size_of, default=3),
            "gn.static() with factory= computes the value that the constructor is not given, and takes no default=; "
            "write gn.static(factory=...) alone",
        ),
        (
            lambda: SPECIFIERS.static(factory=hidden_size_of, default=3, default_factory=int),
            "gn.static() with factory= computes the value that the constructor is not given, and takes no default= or "
            "default_factory=; write gn.static(factory=...) alone",
        ),
        (
            lambda: SPECIFIERS.static(fatcory=hidden_size_of),
            "gn.static() has no option 'fatcory'; did you mean 'factory'?",
        ),
    ],
)
def test_a_factory_is_a_function_and_stands_without_a_default(declare: Callable[[], object], text: str):
    """What cannot be meant is refused in the class body, with the line to write."""
    with pytest.raises(gn.FieldError) as caught:
        declare()
    assert str(caught.value) == text


def test_an_argument_of_the_constructor_alone_is_not_computed():
    """It is not a field."""
    with pytest.raises(gn.SchemaError) as caught:

        class Scaled(gn.Node):
            scale: InitVar[int] = gn.static(factory=hidden_size_of)

    assert str(caught.value) == (
        "Scaled.scale: an InitVar is an argument of the constructor, and takes no factory; write scale: InitVar[... | "
        "None] = None, and make it in __post_init__"
    )


def test_a_parent_that_makes_the_field_refuses_a_factory():
    """It would never be asked."""

    class Base(gn.Node):
        size: int = gn.static(init=False)

        def __post_init__(self) -> None:
            self.size = 3

    with pytest.raises(gn.SchemaError) as caught:

        class Computed(Base):
            size: int = gn.static(factory=lambda self: 4)

    assert str(caught.value) == (
        "Computed.size: Base makes this field in its __post_init__, in place of what is declared here; write size: ... "
        "= gn.static(init=False), and assign it after super().__post_init__(...)"
    )


class Grown(gn.Node):
    """A class that gets a computed field after its nodes were pickled."""

    width: int = 2


def test_a_computed_field_that_was_added_since_a_pickle_is_an_error(monkeypatch: pytest.MonkeyPatch):
    """As what other factories make: nothing is made anew without being asked for."""
    dumped = pickle.dumps(Grown()), pickle.dumps(gn.graphdef(Grown()))

    class New(gn.Node):
        width: int = 2
        size: int = gn.static(factory=hidden_size_of)

    New.__name__ = New.__qualname__ = "Grown"
    monkeypatch.setitem(globals(), "Grown", New)
    with pytest.raises(gn.FieldError) as of_node:
        pickle.loads(dumped[0])
    assert str(of_node.value) == (
        "Grown.size was added since this Grown was pickled, and its factory would make it anew: give it a default, or "
        'a value in Grown: def __setstate__(self, state): super().__setstate__({"size": ..., **state})'
    )
    with pytest.raises(gn.StructureError) as of_graphdef:
        pickle.loads(dumped[1])
    assert str(of_graphdef.value) == (
        "Grown has changed since its graphdef was pickled: size was added, and has no default that is known here"
    )


def test_the_check_knows_that_a_factory_makes_its_field(tmp_path: Path):
    """It needs no method, and no default that could be looked at."""
    text = """
    class Cell(gn.Node):
        width: int
        size: int = gn.static(factory=lambda self: 4 * self.width)
        half: int = gn.static(factory=lambda self: self.width // 2, init=False)
        act: Callable[[Array], Array] = gn.static(factory=lambda self: lambda x: x)
        weight: gn.ParamState[Float[Array, "size half"]] = gn.state(jax.nn.initializers.ones)
    """
    assert found_in(tmp_path, text, strict=True) == []
