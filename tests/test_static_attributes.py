"""What a static value keeps beside its fields or items is a part of it, as it computes with that too."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode._registered import VALUES
from graphnode._static import JsonValueError, static_key, to_json
from graphnode._static._attributes import attributes_of


class Holder(gn.Node):
    value: Any = gn.static()


@dataclasses.dataclass(frozen=True)
class Window:
    size: int


@dataclasses.dataclass(frozen=True)
class Scaled:
    """Sets what its constructor alone takes."""

    size: int
    scale: dataclasses.InitVar[Any] = 1

    def __post_init__(self, scale: Any) -> None:
        object.__setattr__(self, "factor", scale)


class Shifted(Window):
    """No dataclass of its own, so that it may set what it likes."""

    def __init__(self, size: int, shift: int) -> None:
        super().__init__(size)
        self.shift = shift


class Slotted(Window):
    __slots__ = ("__hidden",)

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__(size)
        self.__hidden = hidden


@dataclasses.dataclass(frozen=True, slots=True)
class Compact:
    size: int


class Wider(Compact):
    """A subclass without slots, of a dataclass with them."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__(size)
        object.__setattr__(self, "width", width)


class Pair(NamedTuple):
    first: int
    second: int


class NamedPair(Pair):
    name: Any


class Row(tuple[Any, ...]):
    scale: Any


class Names(frozenset[str]):
    scale: Any


class Grid(np.ndarray[Any, Any]):
    spacing: Any


class Metre(np.float64):
    unit: Any


class Word(str):
    language: Any


def with_attribute(value: Any, name: str, content: object) -> Any:
    object.__setattr__(value, name, content)
    return value


# Makes a value with an attribute that is told.
MAKERS: dict[str, Callable[[Any], Any]] = {
    "variable of the constructor": lambda scale: Scaled(2, scale),
    "subclass of a dataclass": lambda shift: Shifted(2, shift),
    "slot of a subclass": lambda hidden: Slotted(2, hidden),
    "subclass of a dataclass with slots": lambda width: Wider(2, width),
    "set from outside": lambda k: with_attribute(Window(2), "k", k),
    "named tuple": lambda name: with_attribute(NamedPair(1, 2), "name", name),
    "tuple": lambda scale: with_attribute(Row((1, 2)), "scale", scale),
    "frozenset": lambda scale: with_attribute(Names("ab"), "scale", scale),
    "array": lambda spacing: with_attribute(np.ones(2).view(Grid), "spacing", spacing),
    "scalar of NumPy": lambda unit: with_attribute(Metre(1), "unit", unit),
    "string": lambda language: with_attribute(Word("a"), "language", language),
}


@pytest.mark.parametrize("name", MAKERS)
def test_attributes_make_other_structures(name: str):
    """Each node keeps its own value, also where `1` and `1.0` are all that differs; equal ones are one structure."""
    make = MAKERS[name]
    first, second, third = Holder(make(1)), Holder(make(2)), Holder(make(1.0))
    structures = {gn.graphdef(node) for node in (first, second, third)}
    assert len(structures) == 3
    assert gn.graphdef(Holder(make(1))) in structures
    for node in (first, second, third):
        assert static_key(gn.clone(node).value) == static_key(node.value)


@pytest.mark.parametrize("make", [Shifted, lambda size, shift: Scaled(size, shift)])
def test_compiled_function_tells_them_apart(make: Callable[..., Any]):
    """The first's result is not given for both."""
    run = gn.jit(lambda node: jnp.asarray(getattr(node.value, "shift", None) or node.value.factor))
    assert [int(run(Holder(make(2, k)))) for k in (3, 5, 3)] == [3, 5, 3]


@pytest.mark.parametrize("name", MAKERS)
def test_node_keeps_the_attributes(name: str):
    """Also of what is copied to be read-only."""
    value = MAKERS[name](7)
    kept = Holder(value).value
    assert type(kept) is type(value)
    assert 7 in attributes_of(kept).values()


def test_tuple_with_an_array_keeps_its_class_and_attributes():
    """Its copy is made around its constructor."""
    row = with_attribute(Row((np.ones(2), 1)), "scale", 3)
    kept = Holder(row).value
    assert (type(kept), kept.scale, kept[1]) == (Row, 3, 1)
    assert not kept[0].flags.writeable


def test_attribute_that_cannot_be_static_is_refused():
    """A list that a dataclass keeps beside its fields, a node, an array that may be written to."""
    refused: list[tuple[Any, str]] = [
        (Scaled(1, [2]), "Holder.value: Scaled.factor: a list ([2]) is not hashable: write a tuple"),
        (
            Scaled(1, Holder(1)),
            "Holder.value: Scaled.factor: a Holder cannot be static: declare the field state() or subnode()",
        ),
        (
            Scaled(1, np.ones(2)),
            "Holder.value: Scaled.factor holds a NumPy array that may still be written to; copy it and set "
            "array.flags.writeable = False, or hold a jax.Array",
        ),
        (
            with_attribute(Row((1,)), "scale", (np.ones(2),)),
            "Holder.value: Row.scale holds a NumPy array that may still be written to; copy it and set "
            "array.flags.writeable = False, or hold a jax.Array",
        ),
        (
            with_attribute(Names("a"), "scale", np.ones(2)),
            "Holder.value: Names.scale holds a NumPy array that may still be written to; copy it and set "
            "array.flags.writeable = False, or hold a jax.Array",
        ),
    ]
    for value, text in refused:
        with pytest.raises(gn.FieldError) as caught:
            Holder(value)
        assert str(caught.value) == text


@dataclasses.dataclass(frozen=True)
class Remembering:
    size: int

    @functools.cached_property
    def table(self) -> list[int]:
        return list(range(self.size))


class Loose:
    """Equal by a rule of its own."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loose) and self.size == other.size

    def __hash__(self) -> int:
        return hash(self.size)

    @functools.cached_property
    def table(self) -> list[int]:
        return list(range(self.size))


@pytest.mark.parametrize("cls", [Remembering, Loose])
def test_cached_property_is_no_part_of_the_value(cls: Any):
    """It follows from the rest, need not be hashable, and changes no structure when it is read."""
    asked, fresh = cls(3), cls(3)
    assert asked.table == [0, 1, 2]
    assert gn.graphdef(Holder(asked)) is gn.graphdef(Holder(fresh))


# Files


@pytest.mark.parametrize(
    ("name", "annotation", "attribute"),
    [
        ("named tuple", tuple[int, int], "NamedPair keeps name"),
        ("frozenset", frozenset[str], "Names keeps scale"),
        ("array", np.ndarray, "Grid keeps spacing"),
        ("scalar of NumPy", Any, "a scalar of float64 does not stand in a file"),
        ("string", str, "Word keeps language"),
    ],
)
def test_value_with_attributes_does_not_go_to_files_as_its_base_class(name: str, annotation: Any, attribute: str):
    """What else it keeps would be lost."""
    cls = types.new_class("Configured", (gn.Node,), {}, lambda body: body.update(namespace_of(annotation)))
    config: Any = gn.config.config_of(cls)
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.dump(config.model_construct(value=MAKERS[name](7)))
    reason = ", which would not come back from a file: make it a frozen dataclass, with a field for each"
    assert str(caught.value) == f"value: {attribute}{reason if 'keeps' in attribute else ''}"
    with pytest.raises(gn.ConfigError):
        gn.graphdef(Holder(MAKERS[name](7))).to_json()


def namespace_of(annotation: Any) -> dict[str, Any]:
    return {"__annotations__": {"value": annotation}, "value": gn.static(), "__module__": __name__}


@dataclasses.dataclass(frozen=True)
class Doubled:
    """Its constructor does not take what it keeps."""

    size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", 2 * self.size)


@dataclasses.dataclass(frozen=True)
class Needing:
    size: dataclasses.InitVar[int]
    area: int = dataclasses.field(init=False)

    def __post_init__(self, size: int) -> None:
        object.__setattr__(self, "area", size * size)


OR_NAME = "or register the value with gn.config.register(name, value)"
LOSSES: list[tuple[Any, str]] = [
    (Scaled(2, 3), "Scaled keeps factor beside its fields, and files have fields alone: declare what it keeps"),
    (Shifted(2, 3), "Shifted keeps shift beside its fields, and files have fields alone: declare what it keeps"),
    (Doubled(2), "Doubled makes another value from its fields"),
    (
        Needing(2),
        "Needing cannot be made from its fields (Needing.__init__() missing 1 required positional argument: 'size')",
    ),
]


@pytest.mark.parametrize(("value", "reason"), LOSSES)
def test_what_would_not_come_back_does_not_go_to_files(value: Any, reason: str, monkeypatch: pytest.MonkeyPatch):
    """Neither to the JSON of a graphdef nor to a configuration file, unless it has a name."""
    monkeypatch.setitem(VALUES, "its class", type(value))

    class Configured(gn.Node):
        value: Any = gn.static()

    config: Any = gn.config.config_of(Configured)
    with pytest.raises(JsonValueError) as caught:
        to_json(value)
    assert str(caught.value) == f"{reason}, {OR_NAME}"
    with pytest.raises(gn.ConfigError) as refused:
        gn.config.dump(config(value=value))
    assert str(refused.value) == f"value: {reason}, {OR_NAME}"
    monkeypatch.setitem(VALUES, "itself", value)
    assert to_json(value) == {"name": "itself"}
    text = gn.config.dump(config(value=value))
    assert text.endswith("value: {type: registered, value: itself}")
    assert gn.config.loads(text, Configured).value is value
