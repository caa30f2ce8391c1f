"""What a class says for the type variables of its bases is read as if it stood in their annotations."""

import dataclasses
import sys
import types
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import pytest
import typing_extensions
from jaxtyping import Array, Float

import graphnode as gn

T = TypeVar("T")
S = TypeVar("S", bound=gn.State)
P = TypeVar("P", bound=gn.ParamState)
N = TypeVar("N", bound=gn.Node)
D = typing_extensions.TypeVar("D", bound=gn.State, default=gn.ParamState)
PlainState = typing_extensions.TypeVar("PlainState", bound=gn.State, default=gn.State)

ONES: Any = jax.nn.initializers.ones


class Dense(gn.Node, Generic[S]):
    n: int
    w: S = gn.state(ONES, shape=lambda self: (self.n,))


class Default(gn.Node, Generic[D]):
    w: D = gn.state(ONES, shape=lambda self: (2,))


class Trained(Dense[gn.ParamState]):
    pass


class Again(Trained):
    more: int = 0


class Middle(Dense[P], Generic[P]):
    pass


class Lowest(Middle[gn.ParamState[Array]]):
    pass


class Late(Dense["Buffer"]):
    pass


class Buffer(gn.BatchState[Array]):
    pass


class Left(Dense[S]):
    pass


class Both(Left[Any], Trained):  # pyright: ignore[reportGeneralTypeIssues]
    pass


class DefaultSub(Default):  # pyright: ignore[reportMissingTypeArgument]
    pass


class DefaultOther(Default[gn.BatchState]):
    pass


@pytest.mark.parametrize(
    ("make", "cls"),
    [
        (lambda: Trained(2), gn.ParamState),
        (lambda: Again(2), gn.ParamState),
        (lambda: Middle(2), gn.ParamState),
        (lambda: Lowest(2), gn.ParamState),
        (lambda: Late(2), Buffer),
        (lambda: Both(2), gn.ParamState),
        (lambda: Default(), gn.ParamState),
        (lambda: DefaultSub(), gn.ParamState),
        (lambda: DefaultOther(), gn.BatchState),
    ],
)
def test_an_initializer_makes_the_state_that_a_subclass_says(make: Any, cls: type):
    """Directly, through classes between, by a text, by a narrower bound or by a default."""
    assert type(make().w) is cls


def test_a_plain_state_is_made_where_the_default_says_it():
    """By the variable's default, and not by its bound."""

    class Plain(gn.Node, Generic[PlainState]):
        w: PlainState = gn.state(ONES, shape=lambda self: (2,))

    assert type(Plain().w) is gn.State


def test_a_class_of_states_that_nothing_says_is_not_made():
    """A class whose type variable is only bound to `State` is for its subclasses."""
    text = (
        "{0}.w: state(initializer) makes a State, and nothing says of which class S is; have a subclass say it, as "
        "class Sub(Dense[gn.ParamState]), or give S a default"
    )
    for cls in (Dense, Left):
        with pytest.raises(gn.FieldError) as caught:
            cls(2)
        assert str(caught.value) == text.format(cls.__name__)


class Table(gn.Node, Generic[T]):
    w: gn.ParamState[T]
    more: list[gn.ParamState[T]] = gn.state(default_factory=list)


class Square(Table[Float[Array, "n n"]]):
    pass


def test_a_contract_may_come_from_a_subclass():
    """Also that of the items of a list."""
    wide = gn.ParamState(jnp.ones((2, 3)))
    assert Table(wide).w is wide
    with pytest.raises(gn.ContractError, match=r"Square\.w: expected n = 2 of Float\[Array, \"n n\"\]"):
        Square(wide)
    with pytest.raises(gn.ContractError, match=r"Square\.more\.0: expected"):
        Square(gn.ParamState(jnp.ones((2, 2))), [wide])


def test_a_contract_of_a_subclass_is_compiled_as_its_own():
    """An initializer takes its shape from it; an axis that no static field gives is a fault of the subclass."""

    class Made(gn.Node, Generic[D]):
        n: int
        w: D = gn.state(ONES, shape=lambda self: (self.n, 3))

    class Fits(Made[gn.ParamState[Float[Array, "n 3"]]]):
        pass

    class Breaks(Made[gn.ParamState[Float[Array, "n n"]]]):
        pass

    assert Fits(2).w.value.shape == (2, 3)
    with pytest.raises(gn.ContractError, match=r"Breaks\.w: expected"):
        Breaks(2)


C = typing_extensions.TypeVar("C", default=Float[Array, "2"])


class Pair(gn.ParamState[C]):
    pass


class Pairs(gn.Node):
    bare: Pair
    wider: Pair[Float[Array, "3"]]


def test_a_contract_may_be_the_default_of_a_class_of_states():
    """Where its annotation has no other."""
    two, three = jnp.ones(2), jnp.ones(3)
    assert Pairs(Pair(two), Pair(three)).bare.value is two
    with pytest.raises(gn.ContractError, match=r"Pairs\.bare: expected 2"):
        Pairs(Pair(three), Pair(three))


@dataclasses.dataclass
class Mixin(Generic[T]):
    w: gn.ParamState[T]


class Mixed(Mixin[Float[Array, "3"]], gn.Node):
    pass


class MixedSub(Mixed):
    pass


@pytest.mark.parametrize("cls", [Mixed, MixedSub])
def test_a_generic_dataclass_may_be_a_mixin(cls: Any):
    """Its fields are narrowed as those of nodes are."""
    with pytest.raises(gn.ContractError, match=rf"{cls.__name__}\.w: expected 3"):
        cls(gn.ParamState(jnp.ones(2)))


Ts = typing_extensions.TypeVarTuple("Ts")


class Variadic(gn.Node, Generic[S, *Ts]):
    w: S
    function: Callable[[typing_extensions.Unpack[Ts]], S] = gn.static()


class Fixed(Variadic[gn.ParamState, int, str]):
    pass


def test_a_class_may_have_any_number_of_type_variables():
    """Those before them are read."""
    assert [leaf.cls for leaf in gn.schema(Fixed).fields["w"].form.leaves] == [gn.ParamState]
    assert gn.schema(Fixed).fields["function"].kind is gn.Kind.STATIC


class Box(gn.Node, Generic[T, N]):
    label: T = gn.static()
    item: N


class Leaf(gn.Node):
    k: int = 0


class Other(gn.Node):
    k: int = 0


class Labelled(Box[int, Leaf]):
    pass


def test_configuration_files_take_what_a_subclass_says():
    """The schema has the narrowed fields."""
    assert gn.schema(Labelled).fields["label"].annotation is int
    with pytest.raises(gn.FieldError, match=r"Labelled\.item"):
        Labelled(1, Other())  # type: ignore[arg-type]  # pyright: ignore  # ty: ignore  # pyrefly: ignore
    made = gn.config.build(gn.config.loads("label: 3\nitem: {k: 2}", Labelled))
    assert (made.label, made.item.k) == (3, 2)
    with pytest.raises(gn.ConfigError, match="label: Input should be a valid integer"):
        gn.config.loads("label: a\nitem: {k: 2}", Labelled)


def test_a_subclass_says_no_other_kind():
    """Nor a name that nothing defines."""
    with pytest.raises(gn.SchemaError) as caught:
        _subclass("Wrong", Dense, int)
    assert str(caught.value) == "Wrong.w: declared state(), but its annotation says static; write static()"
    nowhere: Any = _subclass("Nowhere", Dense, "Undefined")
    with pytest.raises(gn.SchemaError) as caught:
        nowhere(2)
    assert str(caught.value) == (
        "Nowhere.w: nothing defines 'Undefined', which Nowhere says of Dense; import it at run time, or define it in "
        "the module"
    )


def _subclass(name: str, base: Any, argument: object) -> type:
    """A subclass of `base[argument]`, which a type checker would refuse."""
    return types.new_class(name, (base[argument],), {}, lambda body: body.update(__module__=__name__))


BRACKETS = """
class Bound[S: gn.State](gn.Node):
    w: S = gn.state(ONES, shape=lambda self: (2,))
class Default[S: gn.State = gn.ParamState](gn.Node):
    w: S = gn.state(ONES, shape=lambda self: (2,))
class Trained(Bound[gn.ParamState]):
    pass
class Sub(Default):
    pass
made = [Trained(), Default(), Sub()]
"""


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the syntax is that of Python 3.13")
def test_type_variables_may_stand_in_brackets():
    """With their bounds and defaults."""
    names: dict[str, Any] = {"gn": gn, "ONES": ONES, "__name__": __name__}
    exec(BRACKETS, names)
    assert [type(node.w) for node in names["made"]] == [gn.ParamState] * 3
