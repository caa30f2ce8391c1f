"""What `dump` writes loads as the same model, whatever its values; what no file can say is refused, with the path."""

import dataclasses
import enum
import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import pydantic
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn
from graphnode._registered import VALUES
from graphnode._static import static_key


@dataclasses.dataclass(frozen=True)
class Sgd:
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Adam:
    rate: float = 0.1
    slots: int = 2


@dataclasses.dataclass(frozen=True)
class AdamW(Adam):
    decay: float = 0.0


class Mode(enum.Enum):
    FAST = "fast"
    SAFE = "safe"


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Anything(gn.Node):
    value: Any = gn.static(default=None)


class Rules(gn.Node):
    one: Sgd | Adam | None = gn.static(default=None)
    more: tuple[Sgd | Adam, ...] = gn.static(default=())
    adam: Adam = gn.static(default=Adam())


class Choices(gn.Node):
    mode: str | Mode = gn.static(default="")
    point: Point | None = gn.static(default=None)
    content: str | bytes | complex = gn.static(default="")
    numbers: tuple[int, ...] | frozenset[int] = gn.static(default=())
    dtype: str | np.dtype[Any] = gn.static(default="")
    bare: tuple = gn.static(default=())  # type: ignore[type-arg]  # as people write it
    array: np.ndarray[Any, Any] | None = gn.static(default=None)
    device_array: jax.Array | None = gn.static(default=None)


class Leaf(gn.Node):
    size: int = 0


class Heads(gn.Node):
    heads: list[Leaf] | None = gn.subnode(default=None)
    table: dict[str, Leaf] = gn.subnode(default_factory=dict)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What files may name where the annotation says no class."""
    for cls in (Adam, Mode, Point):
        monkeypatch.setitem(VALUES, cls.__name__, cls)


# The model, and the line of YAML that its value is written as
WRITTEN: dict[str, tuple[Callable[[], gn.Node], str]] = {
    "a record of two classes, by its fields": (lambda: Rules(one=Adam(0.5)), "one: {rate: 0.5, slots: 2}"),
    "a record of two classes, by its type": (lambda: Rules(one=Sgd(0.5)), "one: {type: Sgd, rate: 0.5}"),
    "records in a tuple": (
        lambda: Rules(more=(Sgd(1.0), AdamW(2.0))),
        "more: [{type: Sgd, rate: 1.0}, {type: AdamW, rate: 2.0, slots: 2, decay: 0.0}]",
    ),
    "a record of a class that extends": (
        lambda: Rules(adam=AdamW(0.5)),
        "adam: {type: AdamW, rate: 0.5, slots: 2, decay: 0.0}",
    ),
    "a record of the class itself": (lambda: Rules(adam=Adam(0.5)), "adam: {rate: 0.5, slots: 2}"),
    "a string beside an enum": (lambda: Choices(mode="fast"), "mode: fast"),
    "an enum beside strings": (lambda: Choices(mode=Mode.FAST), "mode: {type: Mode, value: fast}"),
    "a named tuple": (lambda: Choices(point=Point(1)), "point: {x: 1, y: 0.5}"),
    "bytes beside strings": (lambda: Choices(content=b"a"), "content: {type: bytes, value: a}"),
    "a complex number beside strings": (lambda: Choices(content=1 + 2j), 'content: {type: complex, value: "(1+2j)"}'),
    "a frozenset beside tuples": (lambda: Choices(numbers=frozenset({2, 1})), "{type: frozenset, value: [1, 2]}"),
    "a dtype beside strings": (lambda: Choices(dtype=np.dtype("float32")), "dtype: {type: dtype, value: float32}"),
    "a bare tuple": (lambda: Choices(bare=(1, ("a",))), "bare: [1, [a]]"),
    "an array without numbers": (
        lambda: Choices(array=np.ones((0, 3), np.float32)),
        "array: {dtype: float32, shape: [0, 3], data: []}",
    ),
    "an array of another order of bytes": (
        lambda: Choices(array=np.arange(2, dtype=">i2")),
        'array: {dtype: ">i2", data: [0, 1]}',
    ),
    "an array of complex numbers": (
        lambda: Choices(array=np.array([[1 + 2j]])),
        'array: {dtype: complex128, data: [["(1+2j)"]]}',
    ),
    "an array of JAX": (lambda: Choices(device_array=jnp.ones(2, jnp.bfloat16)), "{dtype: bfloat16, data: [1.0, 1.0]}"),
    "anything: bytes": (lambda: Anything(b"a"), "value: {type: bytes, value: a}"),
    "anything: a dtype": (lambda: Anything(np.dtype("int8")), "value: {type: dtype, value: int8}"),
    "anything: a frozenset": (lambda: Anything(frozenset({1})), "value: {type: frozenset, value: [1]}"),
    "anything: a fraction": (lambda: Anything(Fraction(1, 3)), 'value: {type: Fraction, value: "1/3"}'),
    "anything: a slice": (lambda: Anything(slice(1, 2)), "value: {type: slice, value: [1, 2, null]}"),
    "anything: a scalar of NumPy": (lambda: Anything(np.float32(0.5)), "value: {type: float32, value: 0.5}"),
    "anything: a scalar that is a float, too": (lambda: Anything(np.float64(0.5)), "{type: float64, value: 0.5}"),
    "anything: an array": (lambda: Anything(jnp.ones(1)), "{type: array, value: {dtype: float32, data: [1.0]}}"),
    "anything: a registered record": (lambda: Anything(Adam()), "value: {type: Adam, rate: 0.1, slots: 2}"),
    "anything: a registered enum": (lambda: Anything((1, Mode.SAFE)), "value: [1, {type: Mode, value: safe}]"),
    "anything: a registered function": (lambda: Anything(jax.nn.relu), "value: {type: registered, value: relu}"),
    "anything: the name of a function": (lambda: Anything("relu"), "value: relu"),
    "an empty list, which is not None": (lambda: Heads(heads=[]), "heads: []"),
    "a word of YAML 1.1": (lambda: Anything("NO"), 'value: "NO"'),
    "a number that YAML 1.1 takes for a text": (lambda: Anything(1e-05), "value: 1.0e-05"),
    "a text of such a number": (lambda: Anything("1e-05"), 'value: "1e-05"'),
}


@pytest.mark.parametrize("format", ["yaml", "json", "toml"])
@pytest.mark.parametrize(("make", "line"), WRITTEN.values(), ids=WRITTEN)
def test_a_value_comes_back(make: Callable[[], gn.Node], line: str, format: Any):
    """It is written with its class only where it would be another value without."""
    node = make()
    if format == "toml" and "null" in line:
        with pytest.raises(gn.ConfigError, match=r"TOML has no null: write YAML \(format='yaml'\), which has it"):
            gn.config.dump(gn.config.to_config(node), format=format)
        return
    text = gn.config.dump(gn.config.to_config(node), format=format)
    if format == "yaml":
        assert line in text
    again = gn.config.build(gn.config.loads(text, type(node), format=format))
    assert gn.graphdef(again) is gn.graphdef(node)
    if format == "json":
        jsonschema.Draft202012Validator(gn.config.json_schema(type(node))).validate(json.loads(text))


DTYPE_FAULT = "the dtype dtype('>f4') does not stand in a file, which names those that JAX computes with"
NOT_WRITTEN: dict[str, tuple[Callable[[], gn.Node], str]] = {
    "a record that is not registered": (
        lambda: Anything(Sgd()),
        "value: unknown type 'Sgd'; one of Adam, Fraction, Mode, PartitionSpec, Point, array, bool, bytes, complex, "
        "complex128, complex64, dtype and 14 more, or a class that gn.config.register has named; it would not load "
        "again",
    ),
    "bytes that are no text": (
        lambda: Choices(content=b"\xff"),
        "content: bytes that are not UTF-8 do not stand in a file: write an array of uint8",
    ),
    "a class of scalars": (
        lambda: Anything(np.float32),
        "value: no file says the class float32, which would be read back as str 'float32'",
    ),
    "a class without a name": (
        lambda: Anything(Leaf),
        "value: Leaf has no name: register it with gn.config.register(name, value)",
    ),
    "a class with an attribute dtype": (
        lambda: Anything(gn.nn.Linear),
        "value: Linear has no name: register it with gn.config.register(name, value)",
    ),
    "a dtype of another order of bytes": (lambda: Anything(np.dtype(">f4")), f"value: {DTYPE_FAULT}"),
    "a weak type": (
        lambda: Choices(device_array=jnp.asarray(1.0)),
        "device_array: no file says an array float32[], weak_type=True, which would be read back as an array float32[]",
    ),
    "half of a pair of surrogates": (
        lambda: Anything("\ud83d"),
        "value: a text with half of a surrogate pair does not stand in a file",
    ),
    "a key that includes a file": (
        lambda: Heads(table={"include": Leaf()}),
        "table.include: files use the key 'include' otherwise; choose another",
    ),
}


@pytest.mark.parametrize(("make", "text"), NOT_WRITTEN.values(), ids=NOT_WRITTEN)
def test_what_would_be_read_as_another_value_is_not_written(make: Callable[[], gn.Node], text: str):
    """The error has the path, what stands there, and what it would become."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.dump(gn.config.to_config(make()))
    assert str(caught.value) == text


REFUSED = {
    "one: {rate: 0.5}": "one: Sgd and Adam take these fields: write `type: Sgd` beside them, or another one",
    "one: {type: Adm}": "one: unknown type 'Adm'; did you mean 'Adam'?",
    "one: {type: 3}": "one: unknown type 3; one of Adam, AdamW, Sgd",
    "one: {speed: 1.0}": (
        "one: Sgd: speed: Extra inputs are not permitted; or Adam: speed: Extra inputs are not permitted"
    ),
    "one: 3": "one: the fields of Sgd or Adam are expected here",
    "adam: {type: Sgd}": "adam: unknown type 'Sgd'; one of Adam, AdamW",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_record_of_no_class_is_refused(line: str):
    """Two classes that take the fields are told apart by `type`, never chosen from."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads(line, Rules)
    assert str(caught.value).partition(": ")[2] == REFUSED[line]


def test_a_fault_in_a_record_is_named_by_the_keys_of_the_file():
    """Not by the members of a union that were tried, one of which was the address of a function."""

    @dataclasses.dataclass(frozen=True)
    class Scheduled:
        rate: float | Sgd = 0.1
        rates: tuple[float | Sgd, ...] = ()

    class Holder(gn.Node):
        tx: Scheduled = gn.static()

    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads("tx: {rate: {speed: 1}, rates: [0.1, {speed: 1}]}", Holder)
    record = "Sgd: speed: Extra inputs are not permitted"
    assert str(caught.value) == f"1:5: tx: Scheduled: rate: {record}; rates[1]: {record}"


def test_two_classes_of_one_name_are_not_chosen_from():
    """Of two that extend one record, neither is the one that a file means."""

    @dataclasses.dataclass(frozen=True)
    class Base:
        size: int = 0

    @dataclasses.dataclass(frozen=True)
    class Wide(Base): ...

    class Another:
        @dataclasses.dataclass(frozen=True)
        class Wide(Base): ...

    class Holder(gn.Node):
        base: Base = gn.static()

    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads("base: {type: Wide}", Holder)
    assert str(caught.value) == (
        "1:7: base: several classes are named 'Wide': register them under two names with gn.config.register"
    )
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.dump(gn.config.to_config(Holder(Another.Wide(1))))
    assert "base: no file says Wide " in str(caught.value)


# Random values

TEXTS = st.one_of(
    st.text(max_size=6), st.sampled_from(["NO", "on", "1e5", "0o7", "~", "<<", "=", "2020-01-01", "1:30"])
)
NUMBERS = st.one_of(st.booleans(), st.integers(), st.floats(), st.none())
SCALARS = st.one_of(
    TEXTS,
    NUMBERS,
    st.binary(max_size=3),
    st.complex_numbers(),
    st.fractions(),
    st.sampled_from([*Mode, Adam(0.5), AdamW(0.1), Sgd(), Point(2), np.dtype("int8"), np.float32(0.1), np.int8(3)]),
)
VALUES_OF_ANY_KIND = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.tuples(inner), st.tuples(inner, inner), st.frozensets(inner, max_size=2)),
    max_leaves=4,
)


@given(value=VALUES_OF_ANY_KIND, format=st.sampled_from(["yaml", "json", "toml"]))
def test_any_value_comes_back_or_is_refused(value: Any, format: Literal["yaml", "json", "toml"]):
    """Whatever stands in a field that says nothing of its class."""
    config = gn.config.to_config(Anything(value))
    try:
        text = gn.config.dump(config, format=format)
    except gn.ConfigError:
        return
    assert static_key(gn.config.loads(text, Anything, format=format).value) == static_key(value)


@given(st.one_of(TEXTS, NUMBERS, st.tuples(TEXTS, NUMBERS)))
def test_every_reader_of_yaml_finds_the_same(value: Any):
    """PyYAML, which knows YAML 1.1, reads what is written as the same plain data."""
    config = gn.config.to_config(Anything(value))
    try:
        text = gn.config.dump(config, defaults=True)
    except gn.ConfigError:
        return
    found = yaml.safe_load(text)["value"]
    pairs = zip(value, found, strict=True) if isinstance(value, tuple) else [(value, found)]
    for mine, theirs in pairs:
        assert type(mine) is type(theirs)
        assert mine == theirs or (isinstance(mine, float) and math.isnan(mine) and math.isnan(theirs))


LOST = {
    "device_array: [4294967297]": "4294967297 does not fit into int32",
    "device_array: {data: [1.5, 2.9], dtype: int32}": "1.5 does not fit into int32",
    "array: {data: [2, 0.5], dtype: bool}": "2.0 does not fit into bool",
    "device_array: {data: [70000.0], dtype: float16}": "70000.0 does not fit into float16",
    "device_array: [1.0e+300]": "1e+300 does not fit into float32",
    "device_array: {data: [1.0], dtype: float64}": "a JAX array of float64 needs jax_enable_x64",
}


@pytest.mark.parametrize("line", LOST)
def test_numbers_of_an_array_stay_what_they_are(line: str):
    """But for the rounding of floats; infinities and NaN are numbers here."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads(line, Choices)
    assert str(caught.value).endswith(LOST[line])
    kept = gn.config.loads("device_array: {data: [.inf, .nan, 0.1], dtype: bfloat16}", Choices).device_array
    assert jnp.isinf(kept[0])
    assert jnp.isnan(kept[1])


class Speed(enum.Enum):
    FAST = 1
    SLOW = 2


@dataclasses.dataclass(frozen=True)
class Outer:
    mode: Speed = Speed.FAST
    inside: "Outer | None" = None


@dataclasses.dataclass(frozen=True)
class Extended(Outer):
    more: int = 0


class Nested(gn.Node):
    value: Outer = gn.static()


def test_a_record_says_its_class_and_what_is_in_it_need_not():
    """Where one record has to say its class, enums beside it are written as always."""
    node = Nested(Outer(Speed.SLOW, Extended(more=3)))
    text = gn.config.dump(gn.config.to_config(node))
    inside = "{type: Extended, mode: 1, inside: null, more: 3}"
    assert text == f"type: Nested\nvalue: {{type: Outer, mode: 2, inside: {inside}}}"
    assert gn.config.build(gn.config.loads(text, Nested)).value == node.value


class Mixed(gn.Node):
    """Fields of which several members take a number or a text."""

    weight: float | jax.Array = gn.static(default=1.0)
    weights: tuple[float | jax.Array, ...] = gn.static(default=())
    phase: float | complex = 1.0
    label: bytes | str = gn.static(default="")
    loose: jax.Array | float = gn.static(default=0.0)
    count: int | float | None = None
    positive: Annotated[int, pydantic.Field(gt=0)] | str = 1


def test_a_number_is_of_the_class_that_files_have():
    """An integer is a float rather than an array or a complex number, a text is no bytes, wherever they stand."""
    text = "{weight: 3, weights: [3, 1.5], phase: 3, label: a, loose: 1.0, count: 3, positive: x}"
    node = gn.config.build(gn.config.loads(text, Mixed))
    assert gn.graphdef(node) == gn.graphdef(Mixed(3.0, (3.0, 1.5), 3.0, "a", 1.0, 3, "x"))


def test_other_members_say_what_they_are():
    """They come back, too."""
    array = jnp.ones((), jnp.float32)
    node = Mixed(array, (array, 2.0), 3j, b"a", array, 2.0, 4)
    text = gn.config.dump(gn.config.to_config(node))
    assert "label: {type: bytes, value: a}" in text
    assert gn.graphdef(gn.config.build(gn.config.loads(text, Mixed))) == gn.graphdef(node)
