"""Static values: what is hashable, what is equal, and what can never be part of the structure."""

import dataclasses
import enum
import hashlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import ParamState, static

NAN = float("nan")


class Const(gn.Node):
    x: Any = static()


class Masked(gn.Node):
    weight: ParamState
    mask: Any = static(default=None)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: Any
    note: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class Icy:
    a: Any


class Word(str):
    __slots__ = ()


def same(one: object, other: object) -> bool:
    """Whether two static values are one structure; the two answers of equality and hash agree."""
    a, b = gn.graphdef(Const(one)), gn.graphdef(Const(other))
    assert (a == b) is (b == a)
    if a == b:
        assert hash(a) == hash(b)
    return a == b


DEPTHS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda x: x,
    "tuple": lambda x: (x,),
    "tuple of tuples": lambda x: ("a", (x, None)),
    "named tuple": lambda x: Pair(x, 0),
    "frozenset": lambda x: frozenset([x]),
    "frozen dataclass": Frozen,
    "dataclass in a tuple": lambda x: (Frozen((x,)),),
    "array beside": lambda x: (np.arange(2), x),
}

DIFFERENT = {
    "1, True": (1, True),
    "1, 1.0": (1, 1.0),
    "True, 1.0": (True, 1.0),
    "0, False": (0, False),
    "1, 1+0j": (1, 1 + 0j),
    "0.0, -0.0": (0.0, -0.0),
    "0j, -0j": (complex(0.0, 0.0), complex(0.0, -0.0)),
    "a, b'a'": ("a", b"a"),
    "1, IntEnum": (1, Level.LOW),
    "Enum, Enum": (Colour.RED, Colour.BLUE),
    "1, np.int64": (1, np.int64(1)),
    "np.int32, np.int64": (np.int32(1), np.int64(1)),
    "1.0, np.float64": (1.0, np.float64(1.0)),
    "np.float32 zeros": (np.float32(0.0), np.float32(-0.0)),
    "str, subclass": ("a", Word("a")),
    "None, False": (None, False),
    "tuple, named tuple": ((1, 2), Pair(1, 2)),
    "dataclasses": (Frozen(1), Icy(1)),
    "NaN, 1.0": (NAN, 1.0),
    "classes": (int, bool),
    "nested": ((1, (2, 3)), ((1, 2), 3)),
}


@pytest.mark.parametrize("wrap", DEPTHS.values(), ids=DEPTHS)
@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_statics_of_another_type_or_value_differ_at_every_depth(wrap: Any, one: object, other: object):
    """What Python calls equal across types, or two zeros, are two structures, wherever they stand."""
    assert not same(wrap(one), wrap(other))


EQUAL = {
    "int": (10**20, 10**20),
    "str": ("ab" * 9, "ab" * 9),
    "NaN": (float("nan"), float("nan")),
    "complex NaN": (complex(NAN, -0.0), complex(float("nan"), -0.0)),
    "np.float32 NaN": (np.float32("nan"), np.float32("nan")),
    "-0.0": (-0.0, -0.0),
    "tuple": ((1, "a", None), (1, "a", None)),
    "frozenset": (frozenset("ab"), frozenset("ba")),
    "named tuple": (Pair(1, 2), Pair(1, 2)),
    "Enum": (Colour.RED, Colour.RED),
    "dtype": (np.dtype("float32"), jnp.dtype(jnp.float32)),
    "class": (int, int),
    "function": (jax.nn.relu, jax.nn.relu),
    "frozen dataclass": (Frozen(Frozen(2)), Frozen(Frozen(2))),
    "np.int8": (np.int8(3), np.int8(3)),
}


@pytest.mark.parametrize("wrap", DEPTHS.values(), ids=DEPTHS)
@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_statics_of_one_type_and_value_are_equal_at_every_depth(wrap: Any, one: object, other: object):
    """Equal values are one structure, also where Python calls a value unequal to itself."""
    assert same(wrap(one), wrap(other))


# Unhashable values

UNHASHABLE = {
    "list": ([1, 2], "a list ([1, 2]) is not hashable: write a tuple"),
    "dict": ({"a": 1}, "a dict ({'a': 1}) is not hashable: write a tuple of pairs"),
    "set": ({1}, "a set ({1}) is not hashable: write a frozenset"),
    "list in a tuple": ((1, [2]), "a list ([2]) is not hashable: write a tuple"),
    "list in a dataclass": (Frozen([2]), "a list ([2]) is not hashable: write a tuple"),
    "dict in a named tuple": (Pair(1, {}), "a dict ({}) is not hashable: write a tuple of pairs"),
    "bytearray": (
        bytearray(b"a"),
        "a bytearray (bytearray(b'a')) is not hashable: give it a hash, or hold it in a State",
    ),
    "long list": (
        list(range(1000)),
        "a list ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16...) is not hashable: write a tuple",
    ),
}


@pytest.mark.parametrize(("value", "text"), UNHASHABLE.values(), ids=UNHASHABLE)
def test_an_unhashable_static_is_refused_with_the_hashable_form(value: Any, text: str):
    """Lists, dicts and sets are told their hashable form, in construction and in assignment; nothing changes."""
    with pytest.raises(gn.FieldError) as caught:
        Const(value)
    assert str(caught.value) == f"Const.x: {text}"
    node = Const(1)
    with pytest.raises(gn.FieldError) as caught:
        node.x = value
    assert str(caught.value) == f"Const.x: {text}"
    assert node.x == 1


def test_an_inferred_static_is_checked_as_a_declared_one():
    """`sizes: tuple[int, ...]` given a list is refused."""

    class Sized(gn.Node):
        sizes: tuple[int, ...]

    make: Any = Sized
    with pytest.raises(gn.FieldError) as caught:
        make([1, 2])
    assert str(caught.value) == "Sized.sizes: a list ([1, 2]) is not hashable: write a tuple"


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), Frozen], ids=["itself", "tuple", "dataclass"])
@pytest.mark.parametrize("kind", ["State", "node"])
def test_states_and_nodes_are_never_static(wrap: Any, kind: str):
    """A State or node inside a static value is refused: it would be structure that changes."""
    value: Any = ParamState(jnp.ones(1)) if kind == "State" else Const(1)
    with pytest.raises(gn.FieldError) as caught:
        Const(wrap(value))
    name = type(value).__name__
    assert str(caught.value) == f"Const.x: a {name} cannot be static: declare the field state() or subnode()"


# Tracers


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (1, (x,)), Frozen], ids=["itself", "tuple", "dataclass"])
@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap], ids=["jit", "grad", "vmap"])
def test_a_tracer_in_a_static_is_refused(transform: Any, wrap: Any):
    """A traced value would be baked into the structure: it is refused with the field and the remedy."""
    x = jnp.ones(2) if transform is jax.vmap else jnp.ones(())
    with pytest.raises(gn.FieldError) as caught:
        transform(lambda x: (Const(wrap(x)), x)[1])(x)
    text = str(caught.value)
    assert text.startswith("Const.x: a traced value (")
    assert text.endswith(") cannot be static: it would be baked into the structure; hold it in a State")


def test_a_tracer_in_an_inferred_static_is_refused():
    """`n: int` given a traced integer is refused in construction and in assignment."""

    class Sized(gn.Node):
        n: int

    def assign(x: Any) -> Any:
        node = Sized(1)
        node.n = x
        return x

    for use in (Sized, assign):
        with pytest.raises(gn.FieldError, match=r"^Sized\.n: a traced value "):
            jax.jit(use)(3)


# Arrays


def masks(make: Any) -> list[Any]:
    """Values that differ in one respect each: content, shape, dtype."""
    return [
        make(np.array([1, 0], np.int32)),
        make(np.array([1, 1], np.int32)),
        make(np.array([[1, 0]], np.int32)),
        make(np.array([1, 0], np.int8)),
        make(np.array([1, 0], np.float32)),
        make(np.array([0.0, np.nan], np.float32)),
        make(np.array([-0.0, np.nan], np.float32)),
    ]


@pytest.mark.parametrize("make", [np.array, jnp.asarray], ids=["numpy", "jax"])
def test_static_arrays_are_compared_by_content(make: Any):
    """Equal dtype, shape and bytes are one structure; anything else is another."""
    for (i, one), (j, other) in itertools.product(enumerate(masks(make)), enumerate(masks(make))):
        assert same(one, other) == (i == j)
        assert same((1, one), (1, other)) == (i == j)


def test_static_arrays_of_numpy_and_of_jax_differ():
    """What a function computes with them differs, and so does the structure."""
    assert not same(np.ones(2, np.float32), jnp.ones(2))


def test_static_keys_are_compared_by_content():
    """Typed PRNG keys are static arrays as others."""
    assert same(jax.random.key(1), jax.random.key(1))
    assert not same(jax.random.key(1), jax.random.key(2))


def test_a_static_array_needs_an_explicit_static():
    """A field that is static by its annotation refuses an array, and says how to allow it."""

    class Sized(gn.Node):
        n: int

    make: Any = Sized
    for array in (jnp.ones(2), np.ones(2, np.float32)):
        with pytest.raises(gn.FieldError) as caught:
            make(array)
        assert str(caught.value) == (
            "Sized.n is static by its annotation; found an array float32[2]; hold it in a State, or declare the field "
            "gn.static() to make it part of the structure"
        )


def test_a_static_array_is_hashed_once(monkeypatch: pytest.MonkeyPatch):
    """The content of an array is digested once, however many structures it is part of."""
    digests: list[object] = []
    sha256 = hashlib.sha256

    def counting(*args: Any) -> Any:
        digests.append(args)
        return sha256(*args)

    monkeypatch.setattr(hashlib, "sha256", counting)
    mask = jnp.array([True, False])
    for _ in range(3):
        gn.graphdef(Const(mask))
        gn.graphdef(Const((1, mask)))
    assert digests.count((b"\x01\x00",)) == 1


def test_jit_works_with_static_arrays():
    """A graphdef with a static array goes through `jax.jit`: traced once for equal content, again for other content."""
    traces: list[int] = []

    @jax.jit
    def masked_sum(graphdef: gn.GraphDef[Masked], states: Any) -> jax.Array:
        traces.append(1)
        model = gn.treefy_merge(graphdef, states)
        return jnp.sum(model.weight.value * model.mask)

    def run(mask: list[float]) -> float:
        return float(masked_sum(*gn.treefy_split(Masked(ParamState(jnp.arange(1.0, 3.0)), jnp.array(mask)))))

    assert (run([1.0, 0.0]), run([1.0, 0.0]), len(traces)) == (1.0, 1.0, 1)
    assert (run([0.0, 1.0]), len(traces)) == (2.0, 2)


def test_a_static_numpy_array_is_read_only_and_the_callers_is_not():
    """The node keeps a read-only copy, so that what was hashed cannot change; the caller's array stays writable."""
    given = np.zeros(2)
    node = Const(given)
    before = gn.graphdef(node)
    given[0] = 1.0
    assert node.x.tolist() == [0.0, 0.0]
    assert gn.graphdef(node) is before
    with pytest.raises(ValueError, match="read-only"):
        node.x[0] = 1.0


HIDDEN: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "tuple": lambda array: (array,),
    "tuple of tuples": lambda array: (1, (array, 2)),
    "named tuple": lambda array: Pair(array, 1),
}


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)
def test_what_was_hashed_never_changes(hide: Any):
    """An array inside of a static value cannot be changed from outside."""
    array = np.zeros(2)
    node = Const(hide(array))
    before = gn.graphdef(node)
    try:
        array[0] = 1.0
    except ValueError:  # refused: that would do too
        return
    changed, copied = Const(hide(array)), Const(hide(np.array([1.0, 0.0])))
    assert gn.graphdef(node) == before == gn.graphdef(Const(hide(np.zeros(2))))
    assert gn.graphdef(changed) == gn.graphdef(copied) != before


def test_an_array_in_a_dataclass_must_be_read_only():
    """A dataclass is kept by identity, so an array in it that could still change is refused; a read-only one is not."""
    array = np.zeros(2)
    with pytest.raises(gn.FieldError) as caught:
        Const(Frozen(array))
    assert str(caught.value) == (
        "Const.x: Frozen.a holds a NumPy array that may still be written to; copy it and set "
        "array.flags.writeable = False, or hold a jax.Array"
    )
    array.flags.writeable = False
    twin = array.copy()
    twin.flags.writeable = False
    assert gn.graphdef(Const(Frozen(array))) == gn.graphdef(Const(Frozen(twin)))


def test_a_read_only_view_of_a_writable_array_is_copied():
    """A view that cannot be written shows what is written to its base: the node keeps its content as it was."""
    base = np.zeros(2)
    node = Const(np.broadcast_to(base, (2, 2)))
    base[0] = 1.0
    assert not node.x.any()


def test_metadata_arrays_never_change():
    """Metadata is structure, so an array in it is kept as it was given."""
    array = np.zeros(2)
    held = ParamState(jnp.ones(1), metadata={"mask": array})
    array[0] = 1.0
    assert held.metadata["mask"].tolist() == [0.0, 0.0]  # type: ignore[union-attr]  # ty: ignore[missing-union-attribute]


def test_an_array_is_a_default_by_factory():
    """Two nodes with an array default of equal content are one structure."""

    class Default(gn.Node):
        mask: Any = static(default_factory=lambda: np.ones(2))

    assert gn.graphdef(Default()) == gn.graphdef(Default())


def test_callables_are_compared_by_identity():
    """Functions have no content to compare: two lambdas of one text are two structures."""
    assert not same(lambda x: x, lambda x: x)
    assert same(len, len)


def test_a_static_change_is_a_change_of_structure():
    """Assigning a static field gives another graphdef, and the old value the old one."""
    node = Const((1, 2))
    before = gn.graphdef(node)
    node.x = (1, True)
    assert gn.graphdef(node) != before
    node.x = (1, 2)
    assert gn.graphdef(node) == before
