"""Shape and dtype contracts: what initialisers are given, and which States a field refuses."""

from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jaxtyping import Array, BFloat16, Bool, Complex, Float, Float16, Float32, Int, Int8, Key, Shaped, UInt, UInt8

import graphnode as gn
from graphnode import ParamState, state, static

from .declaring import declare, fault_of

ONES = jax.nn.initializers.ones


class Count(gn.State[Array]):
    """A State class of the user's own."""


def contracted(annotation: Any) -> Any:
    """A maker of nodes with one State under a contract, where `n` is 2, `m` is 3 and `shape` is (4, 5)."""
    cls = declare(n=int, m=int, shape=tuple[int, ...], w=ParamState[annotation])
    return lambda value: cls(2, 3, (4, 5), ParamState(value))


# Initialisers


def recording(calls: list[tuple[Any, ...]]) -> Any:
    def initializer(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        calls.append((key, shape, dtype))
        return jnp.ones(shape, dtype)

    return initializer


def test_an_initializer_gets_key_shape_and_dtype():
    """An initializer is called once, with a typed key, a tuple of plain integers and a dtype."""
    calls: list[tuple[Any, ...]] = []
    cls = declare(defaults={"w": state(recording(calls))}, rows=int, cols=int, w=ParamState[Float[Array, "rows cols"]])
    node = cls(2, np.int64(3))
    ((key, shape, dtype),) = calls
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert key.shape == ()
    assert (shape, [type(size) for size in shape], dtype) == ((2, 3), [int, int], jnp.dtype("float32"))
    assert node.w.value.shape == (2, 3)


SHAPES = {
    "named": ("rows cols", (2, 3)),
    "integers": ("4 1 rows", (4, 1, 2)),
    "scalar": ("", ()),
    "tuple": ("*shape", (5, 6, 7)),
    "tuple among others": ("rows *shape cols", (2, 5, 6, 7, 3)),
    "empty tuple": ("*none 2", (2,)),
    "arithmetic": ("2*rows rows+cols cols-1 cols//2 rows**3", (4, 5, 2, 1, 8)),
    "broadcast": ("#rows cols", (2, 3)),
    "documented": ("height=4 width=cols", (4, 3)),
}


@pytest.mark.parametrize(("axes", "shape"), SHAPES.values(), ids=SHAPES)
def test_the_shape_comes_from_the_annotation_and_the_static_fields(axes: str, shape: tuple[int, ...]):
    """Named axes are looked up in the node's static fields; integers, `*shape` and arithmetic are read too."""
    cls = declare(
        defaults={"w": state(ONES)},
        rows=int,
        cols=int,
        shape=tuple[int, ...],
        none=tuple[int, ...],
        w=ParamState[Float[Array, axes]],
    )
    assert cls(2, 3, (5, 6, 7), ()).w.value.shape == shape


DTYPES: list[tuple[Any, str]] = [
    *((Float, "float32"), (Float32, "float32"), (BFloat16, "bfloat16"), (Float16, "float16"), (Int, "int32")),
    *((Int8, "int8"), (UInt, "uint32"), (UInt8, "uint8"), (Bool, "bool"), (Complex, "complex64")),
    *((Shaped, "float32"), (jaxtyping.Num, "float32"), (jaxtyping.Inexact, "float32"), (jaxtyping.Real, "float32")),
    *((jaxtyping.Integer, "int32"), (jaxtyping.Complex64, "complex64"), (jaxtyping.UInt16, "uint16")),
]


@pytest.mark.parametrize(("kind", "dtype"), DTYPES, ids=[kind.__name__ for kind, _ in DTYPES])
def test_the_dtype_comes_from_the_annotation(kind: Any, dtype: str):
    """A named dtype is itself; a kind of dtypes is JAX's default of that kind."""
    calls: list[tuple[Any, ...]] = []
    cls = declare(defaults={"w": state(recording(calls))}, w=ParamState[kind[Array, "2"]])
    assert cls().w.value.dtype == jnp.dtype(dtype)
    assert calls[0][2] == jnp.dtype(dtype)


def test_a_key_may_have_an_initializer():
    """A State of `Key` arrays is made by an initializer as any other."""
    cls = declare(defaults={"w": state(lambda key, shape, dtype: key)}, w=ParamState[Key[Array, ""]])
    assert jnp.issubdtype(cls().w.value.dtype, jax.dtypes.prng_key)


def test_a_shape_function_gives_the_shape():
    """`shape=lambda self: ...` stands for an annotation without axes, and sees the node."""
    calls: list[tuple[Any, ...]] = []
    cls = declare(defaults={"w": state(recording(calls), shape=lambda self: (self.n, 2))}, n=int, w=ParamState)
    assert cls(3).w.value.shape == (3, 2)
    assert calls[0][1:] == ((3, 2), jnp.dtype("float32"))


def test_a_shape_function_goes_before_the_annotation():
    """With both, the function gives the shape and the annotation the dtype and the contract."""
    cls = declare(defaults={"w": state(ONES, shape=lambda self: (3, 2))}, w=ParamState[Int[Array, "rows 2"]])
    assert (cls().w.value.shape, cls().w.value.dtype) == ((3, 2), jnp.dtype("int32"))


def test_an_initializer_that_breaks_the_contract_is_refused():
    """What an initializer returns must keep the contract."""
    cls = declare(defaults={"w": state(lambda key, shape, dtype: jnp.ones(5))}, w=ParamState[Float[Array, "2"]])
    with pytest.raises(gn.ContractError) as caught:
        cls()
    assert str(caught.value) == 'Probe.w: expected 2 of Float[Array, "2"], found shape (5,)'


def test_each_initializer_has_a_key_of_its_own():
    """Fields and instances never share a key; the same seed makes the same parameters."""
    normal = jax.nn.initializers.normal(1.0)
    cls = declare(
        defaults={"a": state(normal), "b": state(normal)},
        a=ParamState[Float[Array, "2"]],
        b=ParamState[Float[Array, "2"]],
    )
    with gn.random.scope(1):
        made = [cls(), cls()]
    values = {float(held.value[0]) for node in made for held in (node.a, node.b)}
    assert len(values) == 4
    with gn.random.scope(1):
        again = cls()
    assert again.a.value.tolist() == made[0].a.value.tolist()


def test_an_initializer_makes_the_annotated_state_with_its_description():
    """The State that is made has the class of the annotation, and the name, tag and sharding of the specifier."""
    described = state(ONES, shape=lambda self: (2,), name="scale", tag="slow", sharding=("data",))
    cls = declare(defaults={"w": described}, w=Count)
    held = cls().w
    assert type(held) is Count
    assert (held.name, held.tag, held.sharding) == ("scale", "slow", ("data",))


def test_a_state_with_an_initializer_is_no_argument():
    """The constructor does not take a State that the node makes; `init=True` takes a ready one."""
    made = declare(defaults={"w": state(ONES)}, w=ParamState[Float[Array, "2"]])
    ready = declare(defaults={"w": state(init=True)}, w=ParamState[Float[Array, "2"]])
    with pytest.raises(TypeError, match="argument"):
        made(ParamState(jnp.ones(2)))
    assert ready(ParamState(jnp.ones(2))).w.value.shape == (2,)


# Faults of the declaration


def test_an_axis_that_names_no_static_field_is_a_fault():
    """An initializer's axis must be a static field; a near name is suggested."""
    with pytest.raises(gn.SchemaError) as caught:
        declare(
            defaults={"w": state(ONES)},
            out_size=int,
            inner=gn.Node | None,
            w=ParamState[Float[Array, "out_siz 2*rows inner"]],
        )
    text = 'Float[Array, "out_siz 2*rows inner"]'
    assert caught.value.faults == (
        f"Probe.w: axis 'out_siz' of {text} names no static field; did you mean 'out_size'?",
        f"Probe.w: axis 'rows' of {text} names no static field; declare rows: int",
        f"Probe.w: axis 'inner' of {text} names no static field; declare inner: int",
    )


@pytest.mark.parametrize("axis", ["_", "...", "_batch", "*_rest"])
def test_an_axis_of_any_size_cannot_be_initialised(axis: str):
    """An initializer needs every size."""
    assert fault_of(ParamState[Float[Array, f"{axis} 2"]], state(ONES)) == (
        f'Probe.x: axis {axis!r} of Float[Array, "{axis} 2"] has no size to initialise with'
    )


def test_an_initializer_without_a_shape_is_a_fault():
    """Neither axes nor `shape=`: the fault says what to write."""
    assert fault_of(ParamState, state(ONES)) == (
        'Probe.x: state(initializer) needs a shape: annotate ParamState[Float[Array, "rows cols"]], or pass '
        "shape=lambda self: (...)"
    )


@pytest.mark.parametrize(
    ("annotation", "found"),
    [(list[ParamState], "list[ParamState]"), (ParamState | Count, "ParamState | Count"), (Any, "a State")],
    ids=str,
)
def test_an_initializer_makes_one_state(annotation: Any, found: str):
    """An initializer stands for one State of one class."""
    assert fault_of(annotation, state(ONES, shape=lambda self: ())) == (
        f"Probe.x: state(initializer) makes one State: annotate one State class, found {found}"
    )


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        ("rows/2", "axis 'rows/2' may use static fields, integers and + - * // ** alone"),
        ("f(rows)", "axis 'f(rows)' may use static fields, integers and + - * // ** alone"),
        ("rows+", "axis 'rows+' does not parse"),
    ],
)
def test_an_axis_that_cannot_be_read_is_a_fault(axes: str, text: str):
    """An axis is a name, an integer or plain arithmetic: nothing else is evaluated."""
    assert fault_of(ParamState[Float[Array, axes]]) == f"Probe.x: {text}"


# What a contract accepts

KEY = jax.random.key(0)
ACCEPTED = {
    "named": (Float[Array, "n m"], jnp.ones((2, 3))),
    "integer": (Float[Array, "2 n"], jnp.ones((2, 2))),
    "scalar": (Float[Array, ""], jnp.ones(())),
    "any size": (Float[Array, "_ n"], jnp.ones((7, 2))),
    "any size with a name": (Float[Array, "_batch n"], jnp.ones((7, 2))),
    "any rank": (Float[Array, "... n"], jnp.ones((7, 1, 2))),
    "any rank, none": (Float[Array, "... n"], jnp.ones(2)),
    "any rank in the middle": (Float[Array, "n ... m"], jnp.ones((2, 5, 5, 3))),
    "tuple": (Float[Array, "*shape m"], jnp.ones((4, 5, 3))),
    "arithmetic": (Float[Array, "2*n n+m"], jnp.ones((4, 5))),
    "broadcast, full": (Float[Array, "#n"], jnp.ones(2)),
    "broadcast, one": (Float[Array, "#n m"], jnp.ones((1, 3))),
    "free name": (Float[Array, "free n"], jnp.ones((9, 2))),
    "free name twice": (Float[Array, "free free"], jnp.ones((9, 9))),
    "free tuple": (Float[Array, "*rest n"], jnp.ones((9, 8, 2))),
    "float": (Float[Array, "n"], jnp.ones(2, jnp.bfloat16)),
    "float32": (Float32[Array, "n"], jnp.ones(2)),
    "bfloat16": (BFloat16[Array, "n"], jnp.ones(2, jnp.bfloat16)),
    "int": (Int[Array, "n"], jnp.ones(2, jnp.int8)),
    "bool": (Bool[Array, "n"], jnp.ones(2, bool)),
    "key": (Key[Array, ""], KEY),
    "keys": (Key[Array, "n"], jax.random.split(KEY)),
    "any dtype": (Shaped[Array, "n"], jnp.ones(2, bool)),
    "any dtype, keys": (Shaped[Array, "n"], jax.random.split(KEY)),
    "numpy": (Float[Array, "n"], np.ones(2, np.float32)),
    "python scalar": (Float[Array, ""], 1.0),
    "abstract": (Float[Array, "n"], jax.ShapeDtypeStruct((2,), jnp.float32)),
}


@pytest.mark.parametrize(("annotation", "value"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_contract_accepts(annotation: Any, value: Any):
    """A State that keeps the contract is taken."""
    node = contracted(annotation)(value)
    assert node.w.value is value or isinstance(value, np.ndarray)
    assert getattr(node.w.value, "dtype", None) == getattr(value, "dtype", None)


BROKEN = {
    "size": (Float[Array, "n m"], jnp.ones((2, 4)), 'expected m = 3 of Float[Array, "n m"], found shape (2, 4)'),
    "integer": (Float[Array, "5"], jnp.ones(4), 'expected 5 of Float[Array, "5"], found shape (4,)'),
    "rank": (Float[Array, "n"], jnp.ones((2, 2)), 'expected rank 1 of Float[Array, "n"], found shape (2, 2)'),
    "scalar": (Float[Array, ""], jnp.ones(1), 'expected rank 0 of Float[Array, ""], found shape (1,)'),
    "rank below": (
        Float[Array, "... n m"],
        jnp.ones(3),
        'expected rank at least 2 of Float[Array, "... n m"], found shape (3,)',
    ),
    "last of any rank": (
        Float[Array, "... n"],
        jnp.ones((2, 5)),
        'expected n = 2 of Float[Array, "... n"], found shape (2, 5)',
    ),
    "tuple": (
        Float[Array, "*shape n"],
        jnp.ones((4, 6, 2)),
        'expected *shape = (4, 5) of Float[Array, "*shape n"], found shape (4, 6, 2)',
    ),
    "tuple rank": (
        Float[Array, "*shape"],
        jnp.ones(4),
        'expected *shape = (4, 5) of Float[Array, "*shape"], found shape (4,)',
    ),
    "arithmetic": (Float[Array, "2*n"], jnp.ones(3), 'expected 2*n = 4 of Float[Array, "2*n"], found shape (3,)'),
    "broadcast": (Float[Array, "#n"], jnp.ones(3), 'expected #n = 2 of Float[Array, "#n"], found shape (3,)'),
    "free name": (
        Float[Array, "free free"],
        jnp.ones((8, 9)),
        'expected free = 8 of Float[Array, "free free"], found shape (8, 9)',
    ),
    "dtype": (Float[Array, "n"], jnp.ones(2, int), 'expected dtype Float of Float[Array, "n"], found int32'),
    "float32": (
        Float32[Array, "n"],
        jnp.ones(2, jnp.bfloat16),
        'expected dtype Float32 of Float32[Array, "n"], found bfloat16',
    ),
    "bfloat16": (BFloat16[Array, "n"], jnp.ones(2), 'expected dtype BFloat16 of BFloat16[Array, "n"], found float32'),
    "int": (Int[Array, "n"], jnp.ones(2, bool), 'expected dtype Int of Int[Array, "n"], found bool'),
    "bool": (Bool[Array, "n"], jnp.ones(2, int), 'expected dtype Bool of Bool[Array, "n"], found int32'),
    "key": (Key[Array, ""], jnp.ones(()), 'expected dtype Key of Key[Array, ""], found float32'),
    "no key": (Float[Array, ""], KEY, 'expected dtype Float of Float[Array, ""], found key<fry>'),
    "no array": (Float[Array, "n"], {"a": 1}, 'expected Float[Array, "n"], found a dict'),
    "None": (Float[Array, ""], None, 'expected Float[Array, ""], found None'),
    "text": (Float[Array, "n"], "ab", 'expected Float[Array, "n"], found a str'),
}


@pytest.mark.parametrize(("annotation", "value", "text"), BROKEN.values(), ids=BROKEN)
def test_a_contract_refuses(annotation: Any, value: Any, text: str):
    """A State of another rank, size or dtype is refused with place, expectation and finding."""
    make = contracted(annotation)
    with pytest.raises(gn.ContractError) as caught:
        make(value)
    assert str(caught.value) == f"Probe.w: {text}"


def test_a_free_name_is_one_size_within_a_node():
    """A name that no static field gives is bound by the first State and holds for all States of the node."""
    cls = declare(a=ParamState[Float[Array, "free"]], b=ParamState[Float[Array, "2 free"]])
    assert cls(ParamState(jnp.ones(3)), ParamState(jnp.ones((2, 3)))).b.value.shape == (2, 3)
    assert cls(ParamState(jnp.ones(4)), ParamState(jnp.ones((2, 4)))).b.value.shape == (2, 4)
    with pytest.raises(gn.ContractError) as caught:
        cls(ParamState(jnp.ones(3)), ParamState(jnp.ones((2, 4))))
    assert str(caught.value) == 'Probe.b: expected free = 3 of Float[Array, "2 free"], found shape (2, 4)'


def test_a_free_tuple_is_one_shape_within_a_node():
    """`*free` is bound to a run of sizes in the same way."""
    cls = declare(a=ParamState[Float[Array, "*free"]], b=ParamState[Float[Array, "*free 1"]])
    assert cls(ParamState(jnp.ones((3, 2))), ParamState(jnp.ones((3, 2, 1)))).b.value.shape == (3, 2, 1)
    with pytest.raises(gn.ContractError):
        cls(ParamState(jnp.ones((3, 2))), ParamState(jnp.ones((3, 1))))


def test_a_static_size_that_is_none_is_a_free_name():
    """The first State binds it, and the others of the node must fit: also for a run of sizes, and in arithmetic."""
    cls = declare(
        defaults={"n": None}, w=ParamState[Float[Array, "n k"]], b=ParamState[Float[Array, "n"]], n=int | None
    )
    assert cls(ParamState(jnp.ones((3, 2))), ParamState(jnp.ones(3))).n is None
    with pytest.raises(gn.ContractError) as caught:
        cls(ParamState(jnp.ones((3, 2))), ParamState(jnp.ones(4)))
    assert str(caught.value) == 'Probe.b: expected n = 3 of Float[Array, "n"], found shape (4,)'
    with pytest.raises(gn.ContractError):
        cls(ParamState(jnp.ones((3, 2))), ParamState(jnp.ones(3)), 4)
    runs = declare(
        defaults={"s": None},
        w=ParamState[Float[Array, "*s 1"]],
        b=ParamState[Float[Array, "*s"]],
        s=tuple[int, ...] | None,
    )
    assert runs(ParamState(jnp.ones((3, 2, 1))), ParamState(jnp.ones((3, 2)))).s is None
    with pytest.raises(gn.ContractError, match=r"Probe\.b: expected \*s = \(3,\)"):
        runs(ParamState(jnp.ones((3, 1))), ParamState(jnp.ones(4)))
    double = declare(
        defaults={"n": None}, w=ParamState[Float[Array, "2*n"]], b=ParamState[Float[Array, "n"]], n=int | None
    )
    assert double(ParamState(jnp.ones(6)), ParamState(jnp.ones(3))).n is None
    with pytest.raises(gn.ContractError, match=r"Probe\.w: expected 2\*n = 6"):
        double(ParamState(jnp.ones(5)), ParamState(jnp.ones(3)))


def test_a_broadcast_axis_of_one_binds_no_name():
    """A size of one under `#free` fits any other size of that name, so it must not bind it."""
    cls = declare(a=ParamState[Float[Array, "#free"]], b=ParamState[Float[Array, "free"]])
    assert cls(ParamState(jnp.ones(1)), ParamState(jnp.ones(3))).b.value.shape == (3,)
    with pytest.raises(gn.ContractError):
        cls(ParamState(jnp.ones(2)), ParamState(jnp.ones(3)))


def test_a_free_name_in_arithmetic_is_checked_wherever_it_is_bound():
    """`2*free` holds also where the State that binds `free` is declared later."""
    cls = declare(a=ParamState[Float[Array, "2*free"]], b=ParamState[Float[Array, "free"]])
    assert cls(ParamState(jnp.ones(6)), ParamState(jnp.ones(3))).a.value.shape == (6,)
    with pytest.raises(gn.ContractError) as caught:
        cls(ParamState(jnp.ones(5)), ParamState(jnp.ones(3)))
    assert str(caught.value) == 'Probe.a: expected 2*free = 6 of Float[Array, "2*free"], found shape (5,)'


def test_all_broken_contracts_of_a_node_are_reported_at_once():
    """One ContractError lists every State that breaks its contract."""
    cls = declare(n=int, a=ParamState[Float[Array, "n"]], b=ParamState[Int[Array, "n"]])
    with pytest.raises(gn.ContractError) as caught:
        cls(2, ParamState(jnp.ones(3)), ParamState(jnp.ones(2)))
    assert str(caught.value) == (
        "2 faults:"
        '\n  Probe.a: expected n = 2 of Float[Array, "n"], found shape (3,)'
        '\n  Probe.b: expected dtype Int of Int[Array, "n"], found float32'
    )


CONTAINED = {
    "list": (list[ParamState[Float[Array, "n"]]], lambda s: [ParamState(jnp.ones(2)), s], "x.1"),
    "tuple": (tuple[ParamState, ParamState[Float[Array, "n"]]], lambda s: (ParamState(0), s), "x.1"),
    "tuples": (tuple[ParamState[Float[Array, "n"]], ...], lambda s: (s,), "x.0"),
    "dict": (dict[str, ParamState[Float[Array, "n"]]], lambda s: {"a": s}, "x.a"),
    "nested": (dict[str, list[ParamState[Float[Array, "n"]]]], lambda s: {"b": [], "a": [s]}, "x.a.0"),
    "optional": (ParamState[Float[Array, "n"]] | None, lambda s: s, "x"),
}


@pytest.mark.parametrize(("annotation", "wrap", "place"), CONTAINED.values(), ids=CONTAINED)
def test_contracts_hold_inside_containers(annotation: Any, wrap: Any, place: str):
    """The States in lists, tuples and dicts keep the contract of their item."""
    cls = declare(n=int, x=annotation)
    cls(2, wrap(ParamState(jnp.ones(2))))
    with pytest.raises(gn.ContractError) as caught:
        cls(2, wrap(ParamState(jnp.ones(3))))
    assert str(caught.value) == f'Probe.{place}: expected n = 2 of Float[Array, "n"], found shape (3,)'


def test_a_keyed_place_is_quoted_as_in_a_path():
    """A contract's place is written in the path grammar."""
    cls = declare(x=dict[str, ParamState[Float[Array, "2"]]])
    with pytest.raises(gn.ContractError, match=r'^Probe\.x\."a\.b": '):
        cls({"a.b": ParamState(jnp.ones(3))})


def test_a_state_put_into_a_container_later_keeps_the_contract():
    """A State that is appended to a list or set in a dict is checked as one that is assigned."""
    cls = declare(n=int, x=list[ParamState[Float[Array, "n"]]], y=dict[str, ParamState[Float[Array, "n"]]])
    node = cls(2, [], {})
    with pytest.raises(gn.ContractError):
        node.x.append(ParamState(jnp.ones(3)))
    with pytest.raises(gn.ContractError):
        node.y["a"] = ParamState(jnp.ones(3))
    assert (len(node.x), len(node.y)) == (0, 0)


def test_an_assignment_that_breaks_a_contract_changes_nothing():
    """A finished node refuses a State of another size, and keeps what it has."""
    cls = declare(n=int, w=ParamState[Float[Array, "n"]])
    held = ParamState(jnp.ones(2))
    node = cls(2, held)
    with pytest.raises(gn.ContractError) as caught:
        node.w = ParamState(jnp.ones(3))
    assert str(caught.value) == 'Probe.w: expected n = 2 of Float[Array, "n"], found shape (3,)'
    assert node.w is held


def test_a_static_size_that_breaks_a_contract_is_refused():
    """Changing the static field that a contract reads is checked against the States that are there."""
    node = declare(n=int, w=ParamState[Float[Array, "n"]])(2, ParamState(jnp.ones(2)))
    with pytest.raises(gn.ContractError) as caught:
        node.n = 3
    assert str(caught.value) == 'Probe.w: expected n = 3 of Float[Array, "n"], found shape (2,)'
    assert node.n == 2


def test_a_contract_is_checked_when_construction_is_done():
    """In `__init__` and `__post_init__` fields are set in any order; the contract holds at the end."""

    class Late(gn.Node):
        w: ParamState[Float[Array, "n"]] = state(init=False)
        n: int = static(init=False)
        given: int = 2

        def __post_init__(self) -> None:
            self.w = ParamState(jnp.ones(2))
            self.n = 3
            self.n = self.given

    assert Late().n == 2
    with pytest.raises(gn.ContractError):
        Late(3)


@pytest.mark.parametrize(
    ("axes", "size", "text"),
    [
        ("n", "two", "axis 'n' takes an integer, its static field holds 'two'"),
        ("n", 2.0, "axis 'n' takes an integer, its static field holds 2.0"),
        ("n", True, "axis 'n' takes an integer, its static field holds True"),
        ("n", (2,), "axis 'n' takes an integer, its static field holds (2,)"),
        ("*n", (2, "x"), "axis '*n' takes an integer, its static field holds (2, 'x')"),
    ],
)
@pytest.mark.parametrize("made", [True, False], ids=["made", "given"])
def test_a_static_field_that_is_no_size_is_a_contract_error(axes: str, size: Any, text: str, made: bool):
    """An axis whose static field holds no integer names the field of the State."""
    specifier = state(ONES) if made else state()
    cls = declare(defaults={"n": static(), "w": specifier}, n=Any, w=ParamState[Float[Array, axes]])
    with pytest.raises(gn.ContractError) as caught:
        cls(size) if made else cls(size, ParamState(jnp.ones(2)))
    assert str(caught.value).startswith(f"Probe.w: {text}")


def test_arithmetic_over_what_is_no_number_is_a_contract_error():
    """`2*n` where `n` holds None is a ContractError too, not what Python says of the multiplication."""
    cls = declare(n=int | None, w=ParamState[Float[Array, "2*n"]])
    with pytest.raises(gn.ContractError):
        cls(None, ParamState(jnp.ones(2)))


def test_a_value_that_is_written_keeps_the_contract():
    """A State is held to the contract of its field wherever it is written; a refused value changes nothing."""
    node = declare(n=int, w=ParamState[Float[Array, "n"]])(2, ParamState(jnp.ones(2)))
    before = node.w.value
    with pytest.raises(gn.ContractError) as caught:
        node.w.value = jnp.ones(5)
    assert str(caught.value) == 'Probe.w: expected n = 2 of Float[Array, "n"], found shape (5,)'
    assert node.w.value is before


class Row(gn.Node):
    """Takes a State of its size, or of one that is broadcast to it."""

    size: int
    weight: ParamState[Float[Array, "#size"]]


def is_writable(state: ParamState[Any], size: int) -> bool:
    """Whether a State takes a row of this size."""
    try:
        state.replace(value=jnp.ones(size))
    except gn.ContractError:
        return False
    return True


def test_a_state_of_two_nodes_of_one_class_keeps_the_contracts_of_both():
    """Also where they are of different sizes, in a merged copy, and in a view."""
    shared = ParamState(jnp.ones(1))
    rows = [Row(3, shared), Row(4, shared)]
    assert not is_writable(shared, 3)
    assert not is_writable(shared, 4)
    assert is_writable(shared, 1)
    copied = gn.clone(rows)[0].weight
    assert not is_writable(copied, 3)
    assert not is_writable(copied, 4)
    viewed = Row(3, ParamState(jnp.ones(1)))
    gn.view(viewed, size=5)
    assert not is_writable(viewed.weight, 5)


def test_a_size_that_is_assigned_asks_in_the_place_of_the_one_before():
    """What the node had asked for before is asked no longer."""
    row = Row(3, ParamState(jnp.ones(1)))
    for size in range(4, 9):
        row.size = size
    assert is_writable(row.weight, 8)
    assert not is_writable(row.weight, 3)
    assert len(row.weight._contracts) == 1


def test_an_update_of_another_shape_is_refused():
    """What is loaded into a node keeps its contracts: path, expected and found; nothing is written."""
    node = declare(n=int, w=ParamState[Float[Array, "n"]])(2, ParamState(jnp.ones(2)))
    with pytest.raises((gn.UpdateError, gn.ContractError)) as caught:
        gn.update_states(node, {"w": jnp.ones(3)})
    assert "w: expected" in str(caught.value)
    assert node.w.value.shape == (2,)


def test_one_state_is_held_to_one_contract():
    """Of two members of a union that it is both of, none is chosen in silence."""
    text = (
        'x: State[Float[Array, "3"]] | ParamState[Float[Array, "2"]] holds one State to Float[Array, "3"] and '
        'Float[Array, "2"]: write one contract, with an axis of each size ("n") or any axes ("...")'
    )
    assert fault_of(ParamState[Float[Array, "3"]] | ParamState).startswith(
        'Probe.x: ParamState[Float[Array, "3"]] | ParamState holds one State to Float[Array, "3"] and anything: write'
    )
    union: Any = gn.State[Float[Array, "3"]] | ParamState[Float[Array, "2"]]
    assert fault_of(union) == f"Probe.{text}"
    assert fault_of(union, state()) == f"Probe.{text}"
    assert fault_of(list[union]) == f"Probe.{text}"
    apart = declare(x=gn.ShortTermState[Float[Array, "3"]] | ParamState[Float[Array, "2"]])
    assert apart(ParamState(jnp.ones(2))).x.value.shape == (2,)
    assert apart(gn.ShortTermState(jnp.ones(3))).x.value.shape == (3,)


class Joint(gn.Node):
    """Two States that share an axis which no static field gives."""

    w: ParamState[Float[Array, "n k"]]
    b: ParamState[Float[Array, "k"]]


def test_what_is_put_back_fits_its_neighbours():
    """The shape that stood there excuses an axis of a stack, and no other size."""
    node: Any = Joint(ParamState(jnp.ones((2, 1))), ParamState(jnp.ones(1)))
    popped = gn.pop_states(node, gn.PathIn("b"))
    node.w = ParamState(jnp.ones((2, 9)))
    with pytest.raises(gn.UpdateError, match=r"Joint\.b: expected k = 9"):
        gn.update_states(node, popped)
    with pytest.raises(gn.ContractError, match=r"Joint\.b: expected k = 9"):
        node.b = popped["b"]
    node.b = ParamState(jnp.ones(9))
    stacked = gn.stack([node, gn.clone(node)])
    again = gn.pop_states(stacked, gn.PathIn("b"))
    gn.update_states(stacked, again)
    assert stacked.b is again["b"]


def test_an_item_at_a_negative_position_replaces_the_one_that_stands_there():
    """It binds no axis any more."""
    cls = declare(x=list[ParamState[Float[Array, "k"]]])
    node = cls([ParamState(jnp.ones(3))])
    node.x[-1] = ParamState(jnp.ones(5))
    node.x.insert(-1, ParamState(jnp.ones(5)))
    node.x[::-1] = [ParamState(jnp.ones(2)), ParamState(jnp.ones(2))]
    assert [state.value.shape for state in node.x] == [(2,), (2,)]
    with pytest.raises(gn.ContractError) as caught:
        node.x.insert(-1, ParamState(jnp.ones(4)))
    assert str(caught.value).startswith("Probe.x.1: ")


U = TypeVar("U")
W = TypeVar("W")


class Tagged(gn.State[W], Generic[U, W]):
    """A class of States with a parameter of its own, which comes first."""


class Flat(gn.ParamState[Float[Array, "2"]], Generic[U]):
    """One whose value is settled."""


def test_the_contract_of_a_class_with_parameters_of_its_own():
    """It is that of the value, wherever its parameter stands."""
    two, seven = jnp.ones(2), jnp.ones(7)
    annotations: list[Any] = [Tagged[int, Float[Array, "2"]], Flat[str], Flat[Float[Array, "5"]]]
    for annotation in annotations:
        cls: Any = declare(x=annotation)
        made: Any = annotation.__origin__
        assert cls(made(two)).x.value.shape == (2,)
        with pytest.raises(gn.ContractError):
            cls(made(seven))


class Scalar(gn.State[Float[Array, ""]]):
    """A class of States with a contract."""


class LearnedScalar(ParamState, Scalar):
    """Of two classes of States, the second has one."""


class ScalarLearned(Scalar, ParamState):
    """The same, in the other order."""


class Third(ParamState[Float[Array, "3"]]):
    """A class with a contract of a class without one."""


class Both(Third, Scalar):
    """Its bases do not agree."""


@pytest.mark.parametrize("annotation", [LearnedScalar, ScalarLearned], ids=lambda cls: cls.__name__)
def test_a_state_class_has_the_contract_of_whichever_base_has_one(annotation: Any):
    """In whatever order they stand."""
    cls = declare(x=annotation)
    assert cls(annotation(jnp.ones(()))).x.value.shape == ()
    with pytest.raises(
        gn.ContractError, match=r'^Probe\.x: expected rank 0 of Float\[Array, ""\], found shape \(7,\)$'
    ):
        cls(annotation(jnp.ones(7)))


def test_a_state_class_whose_bases_do_not_agree_is_refused():
    """A State of it would be held to one of two contracts."""
    text = 'Both has the contracts of several bases, Float[Array, "3"] and Float[Array, ""]: derive it from one of them'
    assert fault_of(Both) == f"Probe.x: {text}"
    assert fault_of(list[Both], state()) == f"Probe.x: {text}"


@pytest.mark.parametrize("union", [ParamState | Third, Third | ParamState], ids=str)
def test_of_a_union_the_most_special_class_says_the_contract(union: Any):
    """In whatever order its members stand: a State of that class is held to it, another one is not."""
    cls = declare(x=union)
    assert cls(ParamState(jnp.ones(7))).x.value.shape == (7,)
    with pytest.raises(gn.ContractError, match="expected"):
        cls(Third(jnp.ones(7)))
