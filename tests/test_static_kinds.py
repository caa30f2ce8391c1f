"""The table of static kinds: each has samples that go through all that is made of a static value, or says why not."""

import dataclasses
import enum
import functools
import gc
import json
import math
import operator
import types
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jsonschema
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

import graphnode as gn
from graphnode._hints import with_article
from graphnode._registered import VALUES
from graphnode._static import (
    KINDS,
    ByName,
    DataForm,
    JsonValueError,
    StaticKind,
    _lookup,
    from_json,
    frozen,
    kind_of,
    match_kind,
    static_key,
    to_json,
)

GRAPHDEF: Any = json.loads((Path(__file__).parent.parent / "schemas/graphdef.schema.json").read_text(encoding="utf-8"))
KIND: dict[str, StaticKind[Any]] = {kind.name: kind for kind in KINDS}


class Colour(enum.Enum):
    RED = 1
    BLUE = (1, 2)


@dataclasses.dataclass(frozen=True)
class Window:
    size: int
    pads: tuple[float, ...] = ()

    def area(self) -> int:
        return self.size**2


WINDOW = Window(2)


class Pair(NamedTuple):
    first: int
    second: int


class Word(str):
    __slots__ = ()


class Sample(NamedTuple):
    """A value of a kind, made anew at each call, and an annotation of which a file gives it back."""

    annotation: Any
    make: Callable[[], Any]
    default: Any = dataclasses.MISSING


def mesh() -> Mesh:
    return Mesh(np.array(jax.devices()[:1]), ("x",))


SAMPLES: dict[str, list[Sample]] = {
    "null": [Sample(type(None), lambda: None)],
    "boolean": [Sample(bool, lambda: True)],
    "integer": [Sample(int, lambda: 10**20)],
    "float": [Sample(float, lambda: 0.1), Sample(float, lambda: 1.0)],
    "complex": [Sample(complex, lambda: 1 - 2j), Sample(complex, lambda: complex(-0.0, 1e300))],
    "string": [Sample(str, lambda: "a: 'b'\n")],
    "bytes": [Sample(bytes, lambda: "é".encode())],
    "ellipsis": [Sample(types.EllipsisType, lambda: ...)],
    "fraction": [Sample(Fraction, lambda: Fraction(-1, 3)), Sample(Fraction, lambda: Fraction(2))],
    "array": [
        Sample(np.ndarray, lambda: np.arange(6, dtype=np.int8).reshape(2, 3)),
        Sample(jax.Array, lambda: jnp.asarray([0.1, -0.0], jnp.bfloat16)),
    ],
    "enum": [Sample(Colour, lambda: Colour.RED), Sample(Colour, lambda: Colour.BLUE)],
    "scalar of NumPy": [
        Sample(np.float32, lambda: np.float32(0.1)),
        Sample(np.bool_, lambda: np.bool_(True)),
        Sample(np.int64, lambda: np.int64(2**63 - 1)),
        Sample(np.complex64, lambda: np.complex64(1 + 2j)),
        Sample(ml_dtypes.bfloat16, lambda: ml_dtypes.bfloat16(1.5)),
    ],
    "dtype": [Sample(np.dtype[Any], lambda: np.dtype("int8")), Sample(np.dtype[Any], lambda: jnp.dtype("bfloat16"))],
    "dtype of JAX": [Sample(jax.typing.DTypeLike, lambda: jnp.bfloat16, default=jnp.float32)],
    "class": [Sample(type[Window], lambda: Window)],
    "partition spec": [Sample(PartitionSpec, lambda: jax.P("x", None, ("y", "z")))],
    "mesh": [Sample(Mesh, mesh), Sample(AbstractMesh, lambda: AbstractMesh((1,), ("x",)))],
    "tuple": [Sample(tuple[int, tuple[str, ...]], lambda: (1, ("a", "b")))],
    "named tuple": [Sample(Pair, lambda: Pair(1, 2))],
    "frozenset": [Sample(frozenset[int], lambda: frozenset({1, 2, 3}))],
    "slice": [Sample(slice, lambda: slice(1, None, 2)), Sample(slice, lambda: slice(None))],
    "record": [Sample(Window, lambda: Window(1, (2.0,)))],
    "partial": [Sample(Callable[[Any], Any], lambda: functools.partial(operator.add, 1))],
    "subclass of a number or string": [Sample(Word, lambda: Word("a"))],
    "function": [Sample(Callable[[Any, Any], Any], lambda: is_same)],
    "method": [Sample(Callable[[], Any], lambda: WINDOW.area)],
    "object": [Sample(Callable[[Any], Any], lambda: math.sin)],
}
# A file does not say of which subclass a value is: it is written as its base class, and read as that.
ALL = [
    pytest.param(name, sample, id=f"{name}-{number}")
    for name, samples in SAMPLES.items()
    for number, sample in enumerate(samples)
]


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes that files name."""
    for cls in (Colour, Window):
        monkeypatch.setitem(VALUES, cls.__name__, cls)


def holder_class(annotation: Any, default: Any = dataclasses.MISSING) -> Any:
    """A node class with one static field."""
    field = gn.static() if default is dataclasses.MISSING else gn.static(default=default)
    body = {"__annotations__": {"value": annotation}, "value": field, "__module__": __name__}
    return types.new_class("Configured", (gn.Node,), {}, lambda namespace: namespace.update(body))


class Holder(gn.Node):
    value: Any = gn.static()


def is_same(first: object, second: object) -> bool:
    return type(first) is type(second) and static_key(first) == static_key(second)


def test_every_kind_has_samples():
    """A kind that is added to the table needs samples here; what is refused has none."""
    assert list(SAMPLES) == [kind.name for kind in KINDS if kind.name not in ("tracer", "node or State")]


@pytest.mark.parametrize(("name", "sample"), ALL)
def test_kind_of_a_value(name: str, sample: Sample):
    """A value is of the kind whose samples it is among."""
    assert kind_of(sample.make()) is KIND[name]


@pytest.mark.parametrize(("name", "sample"), ALL)
def test_values_of_a_kind_make_one_structure(name: str, sample: Sample):
    """Two that are made alike are one graphdef, and come back from a merge as they are."""
    first, second = Holder(sample.make()), Holder(sample.make())
    assert gn.graphdef(first) is gn.graphdef(second)
    assert is_same(gn.clone(first).value, sample.make())
    assert is_same(frozen(sample.make()), sample.make())


@pytest.mark.parametrize(("name", "sample"), ALL)
def test_kind_in_the_json_of_a_graphdef(name: str, sample: Sample):
    """It comes back exactly and is what the schema says, or is refused with the reason of its kind."""
    value, form = sample.make(), KIND[name].json
    if isinstance(form, ByName):
        with pytest.raises(JsonValueError) as caught:
            to_json(value)
        assert str(caught.value) == form.fault(
            getattr(value, "__qualname__", None) or with_article(type(value).__name__)
        )
        return
    graphdef = gn.graphdef(Holder(value))
    text = graphdef.to_json()
    jsonschema.Draft202012Validator(GRAPHDEF).validate(json.loads(text))
    assert gn.GraphDef.from_json(text) is graphdef


@pytest.mark.parametrize("format", ["yaml", "json"])
@pytest.mark.parametrize(("name", "sample"), ALL)
def test_kind_in_a_configuration_file(name: str, sample: Sample, format: Any):
    """It comes back exactly and is what the schema says, or is refused with the reason of its kind."""
    value, form = sample.make(), KIND[name].data
    cls = holder_class(sample.annotation, sample.default)
    config: Any = gn.config.config_of(cls)
    if isinstance(form, ByName):
        with pytest.raises(gn.ConfigError) as caught:
            gn.config.dump(config(value=value), format=format)
        assert str(caught.value) == f"value: {form.fault(getattr(value, '__qualname__', None) or repr(value))}"
        return
    if name == "subclass of a number or string":
        with pytest.raises(gn.ConfigError) as caught:
            gn.config.dump(config(value=value), format=format)
        assert str(caught.value) == "value: nothing is registered as 'a'; known are none; it would not load again"
        return
    text = gn.config.dump(config(value=value), format=format)
    if format == "json":
        jsonschema.Draft202012Validator(gn.config.json_schema(cls)).validate(json.loads(text))
    node: Any = gn.config.build(gn.config.loads(text, cls, format=format))
    assert is_same(node.value, value)


@pytest.mark.parametrize(
    "name", [name for name, kind in KIND.items() if isinstance(kind.data, DataForm) and kind.data.read]
)
def test_a_kind_that_files_have_a_form_for_has_a_name_there(name: str):
    """Where a field admits anything, a file says the class, unless it has the values of the kind themselves."""
    kind = KIND[name]
    assert isinstance(kind.data, DataForm)
    # A dtype of JAX is read as the dtype that it stands for, and programs register their enums.
    has_none = kind.data.is_own or name in ("dtype of JAX", "enum")
    assert bool(kind.type_names) is not has_none


def test_mesh_is_left_out_of_files_with_the_reason():
    """It is another one on each machine."""
    reason = (
        "stands for devices, which differ from one machine to the next: make it in the program, and register it with "
        "gn.config.register(name, value)"
    )
    with pytest.raises(gn.ConfigError) as caught:
        gn.graphdef(Holder(mesh())).to_json()
    assert str(caught.value) == f"Holder.value: a Mesh {reason}"
    config: Any = gn.config.config_of(holder_class(Mesh))
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.dump(config(value=mesh()))
    assert str(caught.value) == f"value: {mesh()!r} {reason}"


BY_NAME = [param for param in ALL if isinstance(KIND[str(param.values[0])].json, ByName)]


@pytest.mark.parametrize(("name", "sample"), BY_NAME)
def test_what_has_no_form_stands_in_files_by_its_name(name: str, sample: Sample, monkeypatch: pytest.MonkeyPatch):
    """Once it is registered, a value without a form comes back from both kinds of files."""
    value = sample.make()
    monkeypatch.setitem(VALUES, "registered", value)
    assert to_json(value) == {"name": "registered"}
    assert from_json({"name": "registered"}) is value
    cls = holder_class(sample.annotation)
    node: Any = gn.config.build(gn.config.loads("type: Configured\nvalue: registered", cls))
    assert is_same(node.value, value)


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "a"])
def test_what_files_have_themselves_is_never_a_name(value: object, monkeypatch: pytest.MonkeyPatch):
    """Also if the program registered that very number or string."""
    monkeypatch.setitem(VALUES, "registered", value)
    assert to_json(value) == value
    config: Any = gn.config.config_of(holder_class(type(value)))
    assert gn.config.dump(config(value=value), format="json").endswith(f'"value": {json.dumps(value)}\n}}')


# The look-up


def test_class_is_compared_with_the_kinds_once(monkeypatch: pytest.MonkeyPatch):
    """Whatever is asked of its values afterwards is a look-up by class."""
    asked: list[type] = []
    match_kind = _lookup.match_kind

    def counting(cls: type) -> StaticKind[Any]:
        asked.append(cls)
        return match_kind(cls)

    static_key(np.ones(1))  # the class of whose dtype others may have asked for or not
    monkeypatch.setattr(_lookup, "match_kind", counting)
    fresh: Any = enum.Enum("fresh", ["A", "B"])
    for value in (fresh.A, fresh.B, fresh.A, 1, "a", 1.0, (1, "a"), np.ones(2), slice(1), is_same, len, int):
        static_key(value)
        frozen(value)
    assert asked == [fresh]


def test_look_up_keeps_no_class_alive():
    """A class that a function defines goes away with its last value."""
    fresh: Any = enum.Enum("fresh", ["A"])
    static_key(fresh.A)
    gone = weakref.ref(fresh)
    del fresh
    gc.collect()
    assert gone() is None


def test_class_that_becomes_a_dataclass_later_is_one():
    """What an annotation was compared with before says nothing about the values."""

    class Late:
        size: int

    assert match_kind(Late) is KIND["object"]
    late: Any = dataclasses.dataclass(frozen=True)(Late)
    assert kind_of(late(1)) is KIND["record"]


# Slices, fractions and other kinds that are one entry


def fault_of(annotation: Any, data: Any) -> str:
    """What is wrong with data in a configuration file."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.validate({"value": data}, holder_class(annotation))
    return str(caught.value)


SLICE = "Input should be a list of start, stop and step, each an integer or null"
FRACTION = "Input should be an integer, or such as '1/3'"
AXES = "Input should be a list of mesh axes: a name, a list of names or null for each axis"


@pytest.mark.parametrize(
    ("annotation", "data", "text"),
    [
        (slice, 3, f"{SLICE}, found int 3"),
        (slice, [3], f"{SLICE}, found list"),
        (slice, [0, 1.5], f"{SLICE}, found list"),
        (slice, [0, True], f"{SLICE}, found list"),
        (slice, [0, 1, 2, 3], f"{SLICE}, found list"),
        (Fraction, 0.5, f"{FRACTION}, found float 0.5"),
        (Fraction, True, f"{FRACTION}, found bool true"),
        (Fraction, "1/0", f"{FRACTION}, found str '1/0'"),
        (Fraction, "1/-3", f"{FRACTION}, found str '1/-3'"),
        (Fraction, "a", f"{FRACTION}, found str 'a'"),
        (PartitionSpec, "x", f"{AXES}, found str 'x'"),
        (PartitionSpec, ["x", 1], f"{AXES}, found list"),
        (np.int8, 300, "300 does not fit into int8"),
        (np.int8, 1.0, "Input should be an integer, found float 1.0"),
        (np.int8, True, "Input should be an integer, found bool true"),
        (np.float16, 1e6, "1000000.0 does not fit into float16"),
        (np.float32, "float32", "Input should be a number, found str 'float32'"),
        (np.bool_, 1, "Input should be a boolean, found int 1"),
        (np.complex64, "i", "Input should be a number, or such as '1+2j', found str 'i'"),
        (np.floating, 1.0, "a file does not say which floating is meant: annotate such as np.float32"),
        (bytes, 1, "Input should be a string, whose UTF-8 is meant, found int 1"),
        (Mesh, "x", "nothing is registered as 'x'; known are none"),
    ],
)
def test_data_that_is_no_value_of_a_kind(annotation: Any, data: Any, text: str):
    """What is expected is said, with what was found."""
    assert fault_of(annotation, data) == f"value: {text}"


@pytest.mark.parametrize(
    ("annotation", "data", "value"),
    [
        (slice, [1, 2], slice(1, 2)),
        (Fraction, 3, Fraction(3)),
        (Fraction, "+2/6", Fraction(1, 3)),
        (np.float32, 1, np.float32(1)),
        (np.float32, math.inf, np.float32(math.inf)),
        (np.complex64, 1, np.complex64(1)),
    ],
)
def test_data_in_another_form(annotation: Any, data: Any, value: Any):
    """A slice without a step, a fraction that is whole or not reduced, an integer for a float."""
    node = gn.config.build(gn.config.validate({"value": data}, holder_class(annotation)))
    assert is_same(node.value, value)


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (slice, slice("a"), "slice(None, 'a', None) does not stand in a file: only slices of integers and None do"),
        (bytes, b"\xff", "bytes that are not UTF-8 do not stand in a file: write an array of uint8"),
        (
            jax.Array,
            jax.random.key(0),
            "a random key does not stand in a file: register it with gn.config.register(name, value)",
        ),
        (np.generic, np.str_("a"), "a scalar of <U1 does not stand in a file"),
    ],
)
def test_value_that_no_configuration_file_can_say(annotation: Any, value: Any, text: str):
    """It is named with its field, and the reason."""
    config_class: Any = gn.config.config_of(holder_class(annotation))
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.dump(config_class(value=value))
    assert str(caught.value) == f"value: {text}"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"slice": [1, 2]}, "slice is a list of start, stop and step"),
        ({"slice": 1}, "a list of items does not fit: int"),
        ({"fraction": [1, 0]}, "fraction is a list of two integers, of which the second is above 0"),
        ({"fraction": [1, True]}, "fraction is a list of two integers, of which the second is above 0"),
        ({"fraction": [1]}, "fraction is a list of two integers, of which the second is above 0"),
        ({"bytes": 1}, "base64 does not fit: int"),
    ],
)
def test_json_that_is_no_value_of_a_kind(data: Any, text: str):
    """The text says what the tag holds."""
    with pytest.raises(JsonValueError) as caught:
        from_json(data)
    assert str(caught.value) == text


def test_slices_and_fractions_are_compared_by_type_and_content():
    """As tuples are: 1, True and 1.0 are three bounds; a slice is not a tuple."""
    values = (slice(1), slice(True), slice(1.0), slice(1, None), (None, 1, None), Fraction(1), Fraction(1, 2), 1)
    assert len({static_key(value) for value in values}) == len(values)


@pytest.mark.parametrize("annotation", [slice, Fraction, PartitionSpec, Mesh, np.float32, Colour, Word])
def test_annotation_says_that_a_field_is_static(annotation: Any):
    """Without a specifier, as an int does."""
    body = {"__annotations__": {"value": annotation}, "__module__": __name__}
    cls: Any = types.new_class("Inferred", (gn.Node,), {}, lambda namespace: namespace.update(body))
    assert gn.schema(cls).fields["value"].kind is gn.Kind.STATIC


@pytest.mark.parametrize(
    "make",
    [
        lambda array: functools.partial(np.add, array),
        lambda array: functools.partial(np.add, out=array),
        lambda array: jax.tree_util.Partial(np.add, array),
        lambda array: slice(array),
    ],
    ids=["argument", "keyword", "partial of JAX", "slice"],
)
def test_array_in_a_partial_or_slice_becomes_read_only(make: Callable[[Any], Any]):
    """What was hashed cannot change from outside, and the caller's array stays as it is."""
    array = np.zeros(2)
    node = Holder(make(array))
    before = gn.graphdef(node)
    array[0] = 1.0
    assert gn.graphdef(Holder(make(np.zeros(2)))) is before
    assert gn.graphdef(Holder(make(array))) is not before
    assert type(node.value) is type(make(array))


def scaled(x: Any, scale: Any = 1.0) -> Any:
    return x * scale


class NamedPartial(functools.partial[Any]):
    """Its constructor takes something else."""

    __slots__ = ("note",)
    note: Any

    def __new__(cls, note: Any) -> Any:
        partial = super().__new__(cls, scaled, scale=1.0)
        partial.note = note
        return partial


@pytest.mark.parametrize(
    ("make", "within"),
    [
        (lambda partial: partial, lambda value: value),
        (lambda partial: (1, partial), lambda value: value[1]),
        (lambda partial: frozenset({partial}), lambda value: next(iter(value))),
        (lambda partial: slice(partial), lambda value: value.stop),
        (lambda partial: functools.partial(map, partial), lambda value: value.args[0]),
    ],
    ids=["itself", "in a tuple", "in a frozenset", "in a slice", "in a partial"],
)
@pytest.mark.parametrize("cls", [functools.partial, jax.tree_util.Partial])
def test_later_write_to_a_partial_does_not_reach_the_node(cls: Any, make: Any, within: Any):
    """The node has a copy of it, of the same class."""
    partial = cls(scaled, scale=2.0)
    partial.note = "first"
    node = Holder(make(partial))
    structure = gn.graphdef(node)
    partial.keywords["scale"] = 3.0
    partial.note = "second"
    kept = within(node.value)
    assert (type(kept), kept(1.0) if cls is functools.partial else kept.keywords["scale"], kept.note) == (
        cls,
        2.0,
        "first",
    )
    assert gn.graphdef(Holder(make(partial))) is not structure
    partial.keywords["scale"] = 2.0
    assert gn.graphdef(Holder(make(partial))) is not structure
    partial.note = "first"
    assert gn.graphdef(Holder(make(partial))) is structure


def test_partial_of_a_subclass_is_copied_around_its_constructor():
    """With its slots, which make it another value."""
    first, second = Holder(NamedPartial("a")), Holder(NamedPartial("b"))
    assert (type(first.value), first.value.note, first.value(2.0)) == (NamedPartial, "a", 2.0)
    assert gn.graphdef(first) is not gn.graphdef(second)
    assert gn.graphdef(first) is gn.graphdef(Holder(NamedPartial("a")))


def test_partial_with_the_notes_of_a_function_is_static():
    """The annotations that `functools.update_wrapper` copies are a dict, and say nothing about what is computed."""
    node = Holder(functools.update_wrapper(functools.partial(scaled, scale=2.0), scaled))
    assert (node.value.__name__, node.value.__annotations__) == ("scaled", scaled.__annotations__)


def test_partial_in_a_dataclass_is_left_to_the_dataclass():
    """Which is never copied; an array in the partial may not be written to."""

    @dataclasses.dataclass(frozen=True)
    class Options:
        act: Any

    options = Options(functools.partial(scaled, scale=2.0))
    assert Holder(options).value is options
    with pytest.raises(gn.FieldError) as caught:
        Holder(Options((functools.partial(scaled, scale=np.ones(2)),)))
    assert str(caught.value) == (
        "Holder.value: Options.act holds a NumPy array that may still be written to; copy it and set "
        "array.flags.writeable = False, or hold a jax.Array"
    )


def test_registered_partial_that_changed_names_no_copy(monkeypatch: pytest.MonkeyPatch):
    """Nor does one that cannot be compared."""
    partial = functools.partial(scaled, scale=2.0)
    monkeypatch.setitem(VALUES, "unhashable", functools.partial(scaled, scale=[2.0]))
    monkeypatch.setitem(VALUES, "doubled", partial)
    node = Holder(partial)
    assert to_json(node.value) == {"name": "doubled"}
    partial.keywords["scale"] = 3.0
    with pytest.raises(JsonValueError) as caught:
        to_json(node.value)
    assert str(caught.value) == "a partial has no name: register it with gn.config.register(name, value)"


@pytest.mark.parametrize("dtype", [np.dtype(">f4"), np.dtype("f4", metadata={"unit": "m"}), np.dtype([("a", "i4")])])
def test_dtype_that_is_more_than_its_name_does_not_go_to_files(dtype: Any):
    """It would come back as another one."""
    config: Any = gn.config.config_of(holder_class(np.dtype[Any]))
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.dump(config(value=dtype))
    reason = "does not stand in a file, which names those that JAX computes with"
    assert str(caught.value) == f"value: the dtype {dtype!r} {reason}"
    with pytest.raises(gn.ConfigError):
        gn.graphdef(Holder(dtype)).to_json()
