"""Subclasses that declare a field again which a base makes: they get what they declare, or are refused."""

import inspect
from dataclasses import InitVar
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import ParamState
from tests.checking import codes_in
from tests.declaring import declare

ZEROS = jax.nn.initializers.zeros
ONES = jax.nn.initializers.ones
Scale: TypeAlias = ParamState[Float[Array, "width"]] | None

LAYERS = [cls for _, cls in inspect.getmembers(gn.nn, inspect.isclass) if issubclass(cls, gn.Node)]
MADE = [
    (cls, field.name)
    for cls in LAYERS
    for field in gn.schema(cls).of_kind(gn.Kind.STATE)
    if not field.init and field.name not in cls._plan.makers
]


@pytest.mark.parametrize(("layer", "name"), MADE, ids=[f"{cls.__name__}.{name}" for cls, name in MADE])
def test_a_field_that_the_layer_makes_is_not_declared_with_a_value(layer: Any, name: str):
    """The constructor of the layer would replace it: an initializer, a default, an argument."""
    made = gn.state(ONES, shape=lambda node: (3,))
    default = gn.state(default=None, kw_only=True)
    factory = gn.state(default_factory=lambda: ParamState(0.0), kw_only=True)
    for specifier in (made, default, factory, gn.state(kw_only=True)):
        with pytest.raises(gn.SchemaError) as caught:
            declare((layer,), defaults={name: specifier}, **{name: ParamState})
        owner = next(cls for cls in layer.__mro__ if name in cls.__annotations__)
        assert str(caught.value).startswith(f"Probe.{name}: {owner.__name__} makes this field in its __post_init__")


def test_what_is_written_instead_is_said():
    """The line that declares the field, and where it is assigned; they do."""
    with pytest.raises(gn.SchemaError) as caught:

        class Zero(gn.nn.LayerNorm):
            scale: Scale = gn.state(ZEROS)

    assert str(caught.value) == (
        "Zero.scale: LayerNorm makes this field in its __post_init__, in place of what is declared here; write "
        "scale: ... = gn.state(init=False), and assign it after super().__post_init__(...)"
    )

    class Assigned(gn.nn.LayerNorm):
        scale: Scale = gn.state(init=False)

        def __post_init__(self, use_scale: bool, use_bias: bool, param_dtype: Any) -> None:
            super().__post_init__(use_scale, use_bias, param_dtype)
            self.scale = ParamState(jnp.zeros(self.width))

    assigned: Any = Assigned(2)
    assert assigned.scale.value.tolist() == [0.0, 0.0]


def test_a_field_of_a_mixin_that_the_layer_makes_is_refused():
    """Also of a node class that stands before the layer; and where a `__post_init__` of one's own calls the layer's."""

    class Scaled(gn.Node):
        scale: Scale = gn.state(ZEROS, shape=lambda node: (3,))

    with pytest.raises(gn.SchemaError, match=r"^Zero\.scale: LayerNorm makes this field"):

        class Zero(Scaled, gn.nn.LayerNorm):
            def __post_init__(self, use_scale: bool, use_bias: bool, param_dtype: Any) -> None:
                gn.nn.LayerNorm.__post_init__(self, use_scale, use_bias, param_dtype)


def test_a_layer_that_does_not_run_makes_nothing():
    """A constructor of one's own that does not call the layer's leaves the fields to what they declare."""

    class Own(gn.nn.LayerNorm):
        scale: Scale = gn.state(ZEROS)
        bias: Scale = gn.state(ONES)

        def __post_init__(self, use_scale: bool, use_bias: bool, param_dtype: Any) -> None:
            """Nothing is left to do."""

    class Written(gn.nn.LayerNorm):
        scale: Scale = gn.state(ZEROS)
        bias: Scale = gn.state(ONES)

        def __init__(self) -> None:
            self.width = 2

    own: Any = Own(2)
    written: Any = Written()
    assert [own.scale.value.tolist(), written.bias.value.tolist()] == [[0.0, 0.0], [1.0, 1.0]]


def test_what_the_layer_leaves_alone_is_declared_anew():
    """A field with an initializer, and an argument of the constructor."""

    class Norm(gn.nn.BatchNorm):
        mean: gn.BatchState[Float[Array, "width"]] = gn.state(ONES)
        use_bias: InitVar[bool] = False

    norm = Norm(2)
    assert (norm.mean.value.tolist(), norm.bias) == ([1.0, 1.0], None)


def test_the_check_reports_it(tmp_path: Path):
    """As any other override."""
    text = """
    class Zero(gn.nn.LayerNorm):
        bias: gn.ParamState | None = gn.state(default=None)
    """
    assert codes_in(tmp_path, text) == [(2, "GN112")]


# Bases that are no layers of ours


WEIGHT: Any = ParamState[Float[Array, "n"]]


class Made(gn.Node):
    """Makes its weight itself, after a choice of something else."""

    n: int
    w: ParamState[Float[Array, "n"]] = gn.state(init=False)

    def __post_init__(self) -> None:
        size = self.n if self.n > 1 else 1
        self.w = ParamState(jnp.zeros(size))


class Between(Made):
    """Adds something to what its parent does."""

    names: tuple[str, ...] = gn.static(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.names = tuple(str(number) for number in range(self.n))


VALUES = {
    "initializer": gn.state(ONES),
    "factory": gn.state(default_factory=lambda: ParamState(jnp.ones(2))),
    "default": gn.state(default=None),
    "argument": gn.state(kw_only=True),
}


@pytest.mark.parametrize("base", [Made, Between])
@pytest.mark.parametrize("specifier", VALUES.values(), ids=VALUES)
def test_a_field_that_a_base_makes_in_every_call_is_not_declared_with_a_value(base: Any, specifier: Any):
    """The `__post_init__` of the base, or of its base, would replace it."""
    with pytest.raises(gn.SchemaError) as caught:
        declare((base,), defaults={"w": specifier}, w=WEIGHT if specifier is VALUES["initializer"] else WEIGHT | None)
    assert str(caught.value) == (
        "Probe.w: Made makes this field in its __post_init__, in place of what is declared here; write "
        "w: ... = gn.state(init=False), and assign it after super().__post_init__(...)"
    )


def test_what_a_base_may_leave_alone_is_declared_with_a_value():
    """A base that asks before, in a branch or by the value, and one that may leave earlier or fail on its way."""

    class Asking(Made):
        def __post_init__(self) -> None:
            if not hasattr(self, "w"):
                self.w = ParamState(jnp.zeros(self.n))

    class Reading(Made):
        def __post_init__(self) -> None:
            self.w = ParamState(2 * self.w.value)

    class Leaving(Made):
        def __post_init__(self) -> None:
            if self.n > 1:
                return
            self.w = ParamState(jnp.zeros(self.n))

    class Trying(Made):
        def __post_init__(self) -> None:
            try:
                self.w = ParamState(jnp.zeros(self.n)[self.n :][:0].reshape(self.n))
            except TypeError:
                self.n = 2

    class Looping(Made):
        def __post_init__(self) -> None:
            for _ in range(self.n - 2):
                self.w = ParamState(jnp.zeros(self.n))

    class Handing(Made):
        def __post_init__(self) -> None:
            twice = lambda: 2 * self.w.value  # noqa: E731
            self.w = ParamState(twice())

    first = {}
    for base in (Asking, Reading, Leaving, Trying, Looping, Handing):
        first[base.__name__] = float(declare((base,), defaults={"w": gn.state(ONES)}, w=WEIGHT)(2).w.value[0])
    assert first == {"Asking": 1, "Reading": 2, "Leaving": 1, "Trying": 1, "Looping": 1, "Handing": 2}


def sum_of(node: Any) -> int:
    return int(node.hidden) + 1


def names_in(node: Any) -> dict[str, Any]:
    return dict(vars(node))


class Sized(gn.Node):
    """Has a size that it may normalise, and several ways to read it."""

    hidden: int = 0
    n: int = 4
    drift: ParamState = gn.state(ZEROS, shape=lambda node: (node.hidden,))

    def pick(self) -> int:
        return self.hidden + 1

    @property
    def next(self) -> int:
        return self.hidden + 1

    @next.setter
    def next(self, value: int) -> None:
        self.n = self.hidden + value


class Above(Sized):
    """Reads the size in a constructor that another one calls first."""

    def __post_init__(self) -> None:
        self.n = self.hidden + 1


class CallsMethod(Sized):
    def __post_init__(self) -> None:
        self.hidden = self.pick()


class CallsFunction(Sized):
    def __post_init__(self) -> None:
        self.hidden = sum_of(self)


class ReadsByName(Sized):
    def __post_init__(self) -> None:
        self.hidden = sum([getattr(self, name) + 1 for name in ("hidden",)])


class ReadsProperty(Sized):
    def __post_init__(self) -> None:
        self.hidden = self.next


class SetsProperty(Sized):
    def __post_init__(self) -> None:
        self.next = 1
        self.hidden = self.n


class ReadsVars(Sized):
    def __post_init__(self) -> None:
        self.hidden = vars(self)["hidden"] + 1


class ReadsLocals(Sized):
    def __post_init__(self) -> None:
        self.hidden = sum_of(locals()["self"])


class CallsParent(Above):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.hidden = self.n


class ReadsByAnother(Sized):
    def __post_init__(self) -> None:
        me = self
        self.hidden = me.hidden + 1


class ReadsInside(Sized):
    def __post_init__(self) -> None:
        values = lambda: names_in(self)  # noqa: E731
        self.hidden = values()["hidden"] + 1


class ReadsWhatIsMade(Sized):
    def __post_init__(self) -> None:
        self.hidden = len(self.drift.value) + 1


class Watches(Sized):
    def __post_init__(self) -> None:
        self.n = 1
        self.hidden = self.n

    def __setattr__(self, name: str, value: int) -> None:
        super().__setattr__(name, value + self.hidden if name == "n" and "n" in vars(self) else value)


NORMALISING = [
    CallsMethod, CallsFunction, ReadsByName, ReadsProperty, SetsProperty, ReadsVars, ReadsLocals, CallsParent,
    ReadsByAnother, ReadsInside, ReadsWhatIsMade, Watches,
]  # fmt: skip


@pytest.mark.parametrize("base", NORMALISING)
def test_a_field_that_a_base_may_have_read_before_is_declared_anew(base: Any):
    """A base that normalises the field by any code of its own uses what a subclass declares."""
    assert declare((base,), defaults={"hidden": 7}, hidden=int)().hidden == 8


class Zeroing(Sized):
    def __post_init__(self) -> None:
        self.hidden = 8


class CallsFunctionBefore(Zeroing):
    def __post_init__(self) -> None:
        self.n = sum_of(self)
        super().__post_init__()


class CallsParentBefore(Zeroing):
    def __post_init__(self) -> None:
        self.n = super().pick()
        super().__post_init__()


class CallsMethodAfter(Zeroing):
    def __post_init__(self) -> None:
        self.n = 2 * self.n
        super().__post_init__()
        self.n = self.pick()


class NamesParent(Zeroing):
    def __post_init__(self) -> None:
        Zeroing.__post_init__(self)
        self.n = self.pick()


def test_a_class_between_may_read_what_is_declared_before_the_other_makes_it():
    """What it reads afterwards is what the other has made."""
    reading, asking = (CallsFunctionBefore, CallsParentBefore), (CallsMethodAfter, NamesParent)
    for base in reading:
        assert declare((base,), defaults={"hidden": 5}, hidden=int)().n == 6
    for other in asking:
        with pytest.raises(gn.SchemaError, match=r"^Probe\.hidden: Zeroing makes this field in its __post_init__"):
            declare((other,), defaults={"hidden": 5}, hidden=int)


def test_what_reads_other_fields_alone_has_not_read_it():
    """Also what a field holds, called; what comes behind the assignment does not count either."""

    class Base(Sized):
        act: Any = gn.static(default=abs, kw_only=True)

        def __post_init__(self) -> None:
            self.n = max([self.n, 2])
            self.hidden = self.act(-self.n)
            self.hidden = sum_of(self)

    with pytest.raises(gn.SchemaError, match=r"^Probe\.hidden: Base makes this field in its __post_init__"):
        declare((Base,), defaults={"hidden": 7}, hidden=int)


def test_a_constructor_of_the_subclass_decides_for_itself():
    """Also one that keeps what was declared over what its base makes."""

    class Kept(Made):
        w: ParamState[Float[Array, "n"]] = gn.state(ONES)

        def __post_init__(self) -> None:
            declared = self.w
            super().__post_init__()
            self.w = declared

    class Open(Made):
        w: ParamState[Float[Array, "n"]] = gn.state(init=False)

    assert (Kept(2).w.value.tolist(), Open(2).w.value.tolist()) == ([1.0, 1.0], [0.0, 0.0])
