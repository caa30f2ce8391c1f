"""What makes two static values one: nodes that compute differently never share a structure."""

import cmath
import collections
import copy
import datetime
import functools
import math
import re
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn
from graphnode._static import static_key
from tests.devices import run_with_devices


class Holder(gn.Node):
    value: Any = gn.static()
    w: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.ones(2, jnp.bfloat16)))


class Loose:
    """Frozen by hand, equal to whatever has an equal value: to Python, 1 is 1.0."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loose) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def get(self) -> Any:
        return self.value


class Printed(Loose):
    """One prints as all others."""

    __eq__ = Loose.__eq__
    __hash__ = object.__hash__

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)

    def __repr__(self) -> str:
        return "printed"


class Unhashable:
    """Static as the owner of a method, which is the same for the same object."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)

    def get(self) -> Any:
        return self


UNHASHABLE = Unhashable()


class Named(Loose):
    """Pickled by the name of the global that it is, which another module may have too."""

    def __reduce_ex__(self, protocol: Any) -> str:
        return "NAMED"


class Settings(dict[str, Any]):
    """A dict with a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


class Sizes(list[int]):
    """A list with a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))


class Window(collections.deque[int]):
    """A deque with a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))


@dataclass(frozen=True)
class Metres(float):
    """A number that is a dataclass too, as what it extends counts beside its fields."""

    size: float
    unit: str = "m"

    def __new__(cls, size: float, unit: str = "m") -> "Metres":
        return super().__new__(cls, 2 * size)


@dataclass(frozen=True)
class Table(dict[str, int]):
    """A dict that is a dataclass too."""

    unit: str = "m"

    @classmethod
    def of(cls, **items: int) -> "Table":
        table = cls()
        table.update(items)
        return table


@dataclass(frozen=True)
class Scaling:
    factor: float

    def __call__(self, x: Any) -> Any:
        return x * self.factor


def metres(size: float, number: float) -> Metres:
    made = float.__new__(Metres, number)
    object.__setattr__(made, "size", size)
    return made


class Grid(np.ndarray[Any, Any]):
    """An array of another class, which may multiply in another way."""


@dataclass(frozen=True)
class Partly:
    seen: int
    unseen: int = field(default=0, compare=False)

    def sum(self, more: int = 0) -> int:
        return self.seen + self.unseen + more


def act(x: Any, slope: float = 1.0) -> Any:
    return x * slope


DIFFERENT: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "weak type": (lambda: jnp.float32(2), lambda: jnp.asarray(2.0)),
    "subclass of arrays": (lambda: np.ones((2, 2)), lambda: np.ones((2, 2)).view(Grid)),
    "byte order": (lambda: np.ones(2, ">f4"), lambda: np.ones(2, "<f4")),
    "own equality, int and float": (lambda: Loose(1), lambda: Loose(1.0)),
    "own equality, int and bool": (lambda: Loose(1), lambda: Loose(True)),
    "own equality, deep": (lambda: (Loose((1, 2)),), lambda: (Loose((1, 2.0)),)),
    "decimals": (lambda: Decimal("1"), lambda: Decimal("1.0")),
    "a field that does not compare": (lambda: Partly(1, 2), lambda: Partly(1, 3)),
    "negative zero": (lambda: 0.0, lambda: -0.0),
    "partials": (lambda: functools.partial(act, slope=2.0), lambda: functools.partial(act, slope=2)),
    "key implementations": (lambda: jax.random.key(0), lambda: jax.random.key(0, impl="rbg")),
    "ranges": (lambda: range(0, 3, 2), lambda: range(0, 4, 2)),
    "generic classes": (lambda: types.GenericAlias(tuple, (1,)), lambda: types.GenericAlias(tuple, (True,))),
    "functions of one name": (lambda: math.sin, lambda: cmath.sin),
    "globals of one name": (lambda: Named(1), lambda: Named(2)),
    "scalars of NumPy": (lambda: np.int64(2), lambda: 2),
    "booleans of NumPy": (lambda: np.True_, lambda: True),
    "methods of other content": (lambda: Loose(1).get, lambda: Loose(1.0).get),
    "methods of other names": (lambda: Loose(1).get, lambda: Loose(1).__hash__),
    "methods of objects that no key has": (lambda: Unhashable().get, lambda: UNHASHABLE.get),
    "dicts with a hash": (lambda: Settings(k=1), lambda: Settings(k=2)),
    "dicts of another order": (lambda: Settings(a=1, b=2), lambda: Settings(b=2, a=1)),
    "dicts with a hash, deep": (lambda: ((Settings(k=1),),), lambda: ((Settings(k=1.0),),)),
    "lists with a hash": (lambda: Sizes([1]), lambda: Sizes([2])),
    "deques with a hash": (lambda: Window([1]), lambda: Window([2])),
    "methods of dicts": (lambda: Settings(k=1).keys, lambda: Settings(k=2).keys),
    "dataclasses that are numbers": (lambda: metres(1.0, 1.0), lambda: metres(1.0, 2.0)),
    "dataclasses that are dicts": (lambda: Table.of(k=1), lambda: Table.of(k=2)),
    "order of keywords": (lambda: functools.partial(act, x=1, slope=2), lambda: functools.partial(act, slope=2, x=1)),
    "regular expressions": (lambda: re.compile("a"), lambda: re.compile("a", re.DOTALL)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_values_that_differ_make_other_structures(name: str):
    """Each node keeps its own value through a merge, and its graphdef is another."""
    first, second = (make() for make in DIFFERENT[name])
    nodes = [Holder(first), Holder(second)]
    assert gn.graphdef(nodes[0]) is not gn.graphdef(nodes[1])
    for node, value in zip(nodes, (first, second), strict=True):
        kept = gn.clone(node).value
        assert (type(kept), static_key(kept)) == (type(value), static_key(value))


EQUAL: dict[str, Callable[[], Any]] = {
    "arrays": lambda: jnp.arange(3),
    "weak arrays": lambda: jnp.asarray(2.0),
    "own equality": lambda: Loose((1, "a")),
    "fractions": lambda: Fraction(1, 3),
    "ranges": lambda: range(3),
    "unions": lambda: int | str,
    "paths": lambda: PurePosixPath("a/b"),
    "partials": lambda: functools.partial(act, 3, slope=2.0),
    "dataclasses": lambda: Partly(1, 2),
    "scalars of NumPy": lambda: np.int64(2),
    "scalars of NumPy in partials": lambda: functools.partial(act, np.float32(0.5)),
    "methods of equal dataclasses": lambda: Partly(1, 2).sum,
    "methods of equal objects": lambda: Loose((1, "a")).get,
    "methods of one object": lambda: UNHASHABLE.get,
    "dicts with a hash": lambda: Settings(a=1, b=2),
    "lists with a hash": lambda: Sizes([1, 2]),
    "deques with a hash": lambda: Window([1], 2),
    "dataclasses that are numbers": lambda: metres(1.0, 2.0),
    "dataclasses that are dicts": lambda: Table.of(k=1),
    "partials of methods": lambda: functools.partial(Partly(1, 2).sum, 3),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_values_make_one_structure(name: str):
    """Values that are made alike have one graphdef, so that nothing is traced twice."""
    make = EQUAL[name]
    assert gn.graphdef(Holder(make())) is gn.graphdef(Holder(make()))


@pytest.mark.parametrize("name", ["partials", "dataclasses"])
def test_what_was_compiled_of_a_callable_value_is_no_part_of_it(name: str):
    """A value that a transform was given, and an equal one that it was not, are one structure."""
    value = {"partials": functools.partial(act, slope=2.0), "dataclasses": Scaling(2.0)}[name]
    untouched = copy.copy(value)
    node = Holder(value)
    before = gn.graphdef(node)
    for transform in (gn.jit, gn.remat):
        transform(node.value)(jnp.ones(()))
    assert gn.graphdef(Holder(node.value)) is before is gn.graphdef(Holder(untouched))


def test_a_compiled_function_tells_a_weak_array_from_another():
    """Each node gets what it computes itself."""
    run = gn.jit(lambda node: node.value * node.w.value)
    strong, weak = Holder(jnp.float32(2)), Holder(jnp.asarray(2.0))
    with jax.numpy_dtype_promotion("standard"):
        dtypes = [run(node).dtype for node in (strong, weak)]
    assert dtypes == [jnp.float32, jnp.bfloat16]


def test_what_cannot_be_compared_is_refused():
    """A masked array, and an object with an equality of its own that does not say what it holds."""

    class Closed(Loose):
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise TypeError("closed")

    refused: list[tuple[Any, str]] = [
        (
            np.ma.array([1.0, 2.0], mask=[False, True]),
            "Holder.value: a masked array cannot be static: JAX has none; hold data and mask in two fields",
        ),
        (
            Loose([1]),
            "Holder.value: a Loose",
        ),
        (
            Closed(1),
            "compares by an __eq__ of its own, and its content cannot be read (closed): make it a frozen dataclass or "
            "a tuple",
        ),
    ]
    for value, text in refused:
        with pytest.raises(gn.FieldError) as caught:
            Holder(value)
        assert text in str(caught.value)


LEAVES = st.one_of(
    st.integers(-2, 2),
    st.booleans(),
    st.sampled_from([0.0, -0.0, 1.0, float("nan")]),
    st.sampled_from(["", "1"]),
    st.none(),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple) | inner.map(Loose), max_leaves=5)


def content(value: Any) -> Any:
    """The oracle: type and text at every depth."""
    if isinstance(value, tuple):
        return ("tuple", *map(content, value))
    if isinstance(value, Loose):
        return ("Loose", content(value.value))
    return (type(value).__name__, repr(value))


SLOTS = st.sampled_from([make for makes in DIFFERENT.values() for make in makes]).map(lambda make: make())
MORE = st.sampled_from(
    [
        np.int64(1),
        np.int32(1),
        np.True_,
        np.zeros(2000),
        np.arange(2000) // 1999,
        jnp.zeros(()),
        Loose(1).get,
        Printed(),
    ]
)


@given(one=VALUES | SLOTS | MORE, other=VALUES | SLOTS | MORE | st.builds(Printed), wrap=st.integers(0, 2))
def test_the_texts_of_values_that_differ_differ(one: Any, other: Any, wrap: int):
    """`gn.diff` says what differs, whatever the values print as, also inside of others."""
    for _ in range(wrap):
        one, other = functools.partial(act, one), (functools.partial(act, other))
    left, right = gn.graphdef(Holder(one)), gn.graphdef(Holder(other))
    found = gn.diff(left, right)
    assert len(found) == (left is not right)
    assert all(difference.left != difference.right for difference in found)


def test_the_shortest_text_that_tells_is_taken():
    """The value, its class, its module; then the part that differs."""
    local = type("Loose", (Loose,), {"__module__": "elsewhere", "__repr__": lambda self: "Loose"})
    shown = type("Loose", (Loose,), {"__module__": "here", "__repr__": lambda self: "Loose"})
    zeros = np.zeros(2000, np.uint8)
    ones = zeros.copy()
    ones[1000] = 1
    pairs = [
        (1, 2, "1 != 2"),
        (PurePosixPath("a"), PurePosixPath("b"), "PurePosixPath('a') != PurePosixPath('b')"),
        (local(1), shown(1), "elsewhere.Loose Loose != here.Loose Loose"),
        (Printed("1"), Printed(1), "printed with '1' != printed with int 1"),
        (zeros, ones, f"{zeros!r} with [1000] = 0 != {ones!r} with [1000] = 1"),
    ]
    for left, right, text in pairs:
        (difference,) = gn.diff(gn.graphdef(Holder(left)), gn.graphdef(Holder(right)))
        assert str(difference) == f"value: {text}"


@given(one=VALUES, other=VALUES)
def test_keys_are_equal_exactly_for_equal_types_and_content(one: Any, other: Any):
    """Whatever Python's own `==` says, at every depth."""
    assert (static_key(one) == static_key(other)) == (content(one) == content(other))


@dataclass(unsafe_hash=True)
class Thawed:
    size: int


@dataclass(eq=False)
class ThawedByIdentity:
    size: int


@dataclass(unsafe_hash=True)
class FrozenByHand:
    size: int

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError(name)
        super().__setattr__(name, value)


@pytest.mark.parametrize("cls", [Thawed, ThawedByIdentity])
def test_dataclass_that_may_change_is_refused(cls: Any):
    """Whatever it is hashed by; one that refuses by itself to be written to is as good as frozen."""
    with pytest.raises(gn.FieldError) as caught:
        Holder((1, cls(1)))
    name = cls.__name__
    assert str(caught.value) == f"Holder.value: the dataclass {name} is not frozen: declare it @dataclass(frozen=True)"
    assert gn.graphdef(Holder(FrozenByHand(1))) is gn.graphdef(Holder(FrozenByHand(1)))


def noted(dtype: str, note: object) -> Any:
    return np.dtype(dtype, metadata={"unit": note})


OTHER_DTYPES: dict[str, list[Any]] = {
    "dtypes": [np.dtype("f4"), noted("f4", 1), noted("f4", 1.0), np.dtype("f8"), np.dtype(">f4")],
    "dtypes of fields": [np.dtype([("x", "f4")]), np.dtype([("x", noted("f4", 1))]), np.dtype([("y", "f4")])],
    "dtypes with axes": [np.dtype(("f4", (2,))), np.dtype((noted("f4", 1), (2,)))],
}


@pytest.mark.parametrize("name", OTHER_DTYPES)
def test_dtypes_are_compared_with_what_numpy_leaves_out(name: str):
    """Their metadata; also as the dtypes of arrays and of scalars."""
    dtypes = OTHER_DTYPES[name]
    assert len(set(map(static_key, dtypes))) == len(dtypes)
    arrays = [np.zeros(2, dtype) for dtype in dtypes]
    assert len(set(map(static_key, arrays))) == len(arrays)
    scalars = [array[0] for array in arrays if isinstance(array[0], np.void)]
    assert len(set(map(static_key, scalars))) == len(scalars)


POINTERS: dict[str, tuple[Callable[[], Any], str]] = {
    "strings": (lambda: np.array(["a", "b"], np.dtypes.StringDType()), "StringDType()"),
    "objects": (lambda: np.array([1, "a"], object), "object"),
    "structured": (lambda: np.zeros(2, [("a", "i4"), ("b", [("c", object)])]), "[('a', '<i4'), ('b', [('c', 'O')])]"),
    "structured scalar": (lambda: np.zeros(2, [("a", object)])[0], "[('a', 'O')]"),
}


@pytest.mark.parametrize("name", POINTERS)
def test_array_whose_bytes_are_pointers_is_refused(name: str):
    """Their bytes would be equal for other content, and differ for equal one; the line to write says what to hold."""
    make, dtype = POINTERS[name]
    text = (
        f"Holder.value: an array of {dtype} cannot be static, as its bytes are pointers to what it holds: write its "
        "items as a tuple, tuple(array.ravel().tolist())"
    )
    for value in (make(), (1, make())):
        with pytest.raises(gn.FieldError) as caught:
            Holder(value)
        assert str(caught.value) == text


def test_default_whose_bytes_are_pointers_is_refused():
    """When a node is made with it."""

    class Defaulted(gn.Node):
        names: Any = gn.static(default_factory=lambda: np.array(["a"], object))

    with pytest.raises(gn.FieldError) as caught:
        Defaulted()
    assert str(caught.value).startswith("Defaulted.names: an array of object cannot be static, as its bytes are ")


@pytest.mark.parametrize("dtype", ["<U3", "S3", "M8[s]", "m8[D]", "V3", [("a", "i4"), ("b", "U2")], "f2"])
def test_array_that_holds_its_bytes_is_static(dtype: Any):
    """Texts of a fixed length, times and structured arrays of them too."""
    assert gn.graphdef(Holder(np.zeros(2, dtype))) is gn.graphdef(Holder(np.zeros(2, dtype)))


def put(value: Any) -> Any:
    return jax.device_put(value, jax.devices()[0])


UNPLACED = "give jnp.asarray(np.asarray(array)), and lay it out where it is used"


@pytest.mark.parametrize("make", [lambda: jnp.arange(3), lambda: jax.random.key(0)], ids=["array", "key"])
def test_array_that_was_put_on_a_device_is_another_value(make: Callable[[], Any]):
    """It does not mix with arrays of other devices, which one that JAX moves as it likes does."""
    loose, committed = Holder(make()), Holder(put(make()))
    assert gn.graphdef(loose) is not gn.graphdef(committed)
    assert gn.graphdef(committed) is gn.graphdef(Holder(put(make())))


def test_array_that_was_put_on_a_device_does_not_go_to_files():
    """Files know no devices."""

    class Configured(gn.Node):
        value: jax.Array = gn.static()

    with pytest.raises(gn.ConfigError) as caught:
        gn.graphdef(Holder(put(jnp.arange(3)))).to_json()
    assert str(caught.value) == f"Holder.value: an array that was put on devices has no JSON: {UNPLACED}"
    config: Any = gn.config.config_of(Configured)
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.dump(config(value=put(jnp.arange(3))))
    assert str(caught.value) == f"value: an array that was put on devices does not stand in a file: {UNPLACED}"
    loose = jnp.asarray(np.asarray(put(jnp.arange(3))))
    assert gn.GraphDef.from_json(gn.graphdef(Holder(loose)).to_json()) is gn.graphdef(Holder(loose))


PROGRAM = """
import jax
import jax.numpy as jnp

import graphnode as gn

class Table(gn.Node):
    rows: jax.Array = gn.static()
    weight: gn.ParamState = gn.state()

mesh = jax.make_mesh((2,), ("x",))
places = [*jax.devices()[:3], jax.NamedSharding(mesh, jax.P()), jax.NamedSharding(mesh, jax.P("x"))]
tables = [Table(jax.device_put(jnp.ones(4), place), gn.ParamState(jax.device_put(2.0, place_of)))
          for place, place_of in zip(places, [*places[:3], places[3], places[3]], strict=True)]
assert len({gn.graphdef(table) for table in tables}) == len(tables)

run = gn.jit(lambda table: table.rows * table.weight.value)
for table in tables:
    for copy in (table, gn.clone(table), gn.treefy_merge(*gn.treefy_split(table))):
        assert copy.rows.sharding == table.rows.sharding
        assert (copy.rows * copy.weight.value).devices() == table.rows.devices()
        assert run(copy).devices() == table.rows.devices()

loose = []
for device in jax.devices()[:2]:
    with jax.default_device(device):
        loose.append(Table(jnp.ones(4), gn.ParamState(jnp.ones(()))))
assert gn.graphdef(loose[0]) is gn.graphdef(loose[1])
"""


@pytest.mark.slow
def test_arrays_on_other_devices_are_other_values():
    """Each node computes with its own; what JAX moves as it likes is one value wherever it lies."""
    run_with_devices(PROGRAM, 4)


def test_the_two_hours_of_one_name_are_two_times():
    """When clocks are set back; they are equal to Python."""
    first, second = (datetime.datetime(2020, 10, 25, 2, 30, fold=fold) for fold in (0, 1))
    assert first == second
    assert static_key(first) != static_key(second)
    assert static_key(first) == static_key(datetime.datetime(2020, 10, 25, 2, 30))
