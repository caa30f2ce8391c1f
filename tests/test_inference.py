"""A field's kind: what each annotation says, what a specifier decides, and what is refused."""

import collections
import collections.abc
import dataclasses
import enum
import typing
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, NewType, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typing_extensions
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import BatchState, HiddenState, LongTermState, ParamState, ShortTermState, State
from graphnode.nn import Linear

from .declaring import declare, fault_of, kind_of


class Colour(enum.Enum):
    RED = 1


class Named(enum.StrEnum):
    """Its members are strings of a class of their own, which no dict of a node keeps."""

    FIRST = "first"


class Level(enum.IntEnum):
    LOW = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    width: int


@dataclasses.dataclass
class Thawed:
    width: int


class Runs(Protocol):
    def run(self) -> int: ...


class Plain:
    pass


class Point(NamedTuple):
    x: int


class Segment(NamedTuple):
    start: Point
    end: "Point | None"
    colours: tuple[Colour, ...] = ()


class Reading(NamedTuple):
    source: object
    value: int


class Spectrum(NamedTuple):
    bins: Array


class Tree(NamedTuple):
    value: int
    branches: "tuple[Tree, ...]"


Untyped = collections.namedtuple("Untyped", ["x"])  # pyright: ignore[reportUntypedNamedTuple]  # it says nothing of its items


class Options(typing.TypedDict):
    width: int


@dataclasses.dataclass
class Guarded:
    width: int

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError(name)
        super().__setattr__(name, value)


class Count(State[Array]):
    pass


class Other(gn.Node):
    n: int = 0


T = TypeVar("T")
N = TypeVar("N", bound=gn.Node)
S = TypeVar("S", bound=ParamState)
H = TypeVar("H", bound="Other")
C = TypeVar("C", Other, Linear)
M = TypeVar("M", Other, ParamState)
K = TypeVar("K", bound=str)
Width = NewType("Width", int)
UserId = NewType("UserId", str)
Head = typing_extensions.TypeAliasType("Head", Literal["q", "k"])
Alias = typing_extensions.TypeAliasType("Alias", Other | None)
Nested = typing_extensions.TypeAliasType("Nested", "Other | list[Nested]")


class Registry(list[T]):
    """Not a container of Python's own: its parameter may say anything of it."""


STATIC = (
    *(bool, int, float, complex, str, bytes, "int", "int | None", int | None, int | str | None),
    *(Colour, Level, Literal["a", 1], Literal["a"] | None, type, type[int], type[Linear], type[Any]),
    *(np.dtype, np.dtype[Any], jnp.dtype, DTypeLike, DTypeLike | None, np.float32, np.generic),
    *(Frozen, Frozen | None, tuple[int, ...], tuple[int, str], tuple[()], tuple[tuple[int, ...], Frozen]),
    *(tuple[int | None, ...], frozenset[int], frozenset[tuple[str, int]], tuple[Literal["a"], ...]),
    *(Point, Segment, Segment | None, tuple[Point, ...], range, jax.lax.PrecisionLike),
    *(Annotated[int, "width"], Width, Final[int], typing.Optional[int], typing.Tuple[int, ...]),  # noqa: UP006, UP045  # pyrefly: ignore[invalid-annotation]
)
STATE = (
    *(State, ParamState, ShortTermState, LongTermState, HiddenState, BatchState, Count, "Count"),
    *(State[Array], ParamState[Float[Array, "a b"]], ParamState[dict[str, Array]], State[Any], State[int]),
    *(ParamState | None, ParamState[Array] | None, ParamState | ShortTermState, typing.Optional[ParamState]),  # noqa: UP045
    *(list[ParamState], tuple[ParamState, ...], tuple[ParamState, BatchState], dict[str, ParamState]),
    *(list[dict[str, tuple[ParamState, ...]]], list[ParamState | None], list[ParamState] | None),
    *(ParamState | list[ParamState], tuple[ParamState, None], S, Annotated[ParamState, "w"]),
    *(Sequence[ParamState], Mapping[str, ParamState], list["ParamState[Array]"]),
    list[S],  # type: ignore[valid-type]
)
SUBNODE = (
    *(gn.Node, Linear, Other, "Other", Other | None, Other | Linear, Other | Linear | None, list[Other]),
    *(list["Other"], tuple[Other, ...], tuple[Other, Linear], dict[str, Other], dict[str, list[Other]]),
    *(list[list[Other | None]], dict[str, Other] | None, Other | list[Other], Self),
    *(typing_extensions.Self, N, N | None, H, C, Alias, Annotated["Other", "tied"]),
    *(Sequence[Other], MutableSequence[Other], Mapping[str, Other], MutableMapping[str, Other]),
    *(typing.List[Other], typing.Dict[str, Other], typing.Tuple[Other, ...]),  # noqa: UP006
    *(dict[Literal["q", "k"], Other], dict[UserId, Other], dict[Head, Other], dict[Head | UserId, Other]),
    *(Mapping[Annotated[str, "user"], Other], dict[typing.LiteralString, list[Other]]),
    dict[K, Other],  # type: ignore[valid-type]
    list[N],  # type: ignore[valid-type]
    list[Self],  # type: ignore[misc]  # ty: ignore[invalid-type-form]
)
TABLE = [
    (annotation, kind)
    for kind, annotations in (("static", STATIC), ("state", STATE), ("subnode", SUBNODE))
    for annotation in annotations
]


@pytest.mark.parametrize(("annotation", "kind"), TABLE, ids=[str(annotation) for annotation, _ in TABLE])
def test_an_annotation_whose_members_agree_gives_the_kind(annotation: Any, kind: str):
    """An annotation whose every member says the same kind gives that kind, through containers and unions."""
    made = declare(defaults={"__module__": __name__}, x=annotation)  # strings name what stands in this module
    assert str(gn.schema(made).fields["x"].kind) == kind


WHICH = "; say which: x: ... = gn.static(), gn.state() or gn.subnode()"
OR_STATIC = ", or say x: ... = gn.static()"
MAY = " may hold a node, a State or static data" + WHICH
REFUSED = {
    "Any": (Any, "Any may hold anything" + WHICH),
    "object": (object, "object may hold anything" + WHICH),
    "Callable": (Callable[[int], int], "Callable[[int], int]" + MAY),
    "bare Callable": (Callable, "Callable" + MAY),
    "typing.Callable": (typing.Callable[[int], int], "Callable[[int], int]" + MAY),
    "Protocol": (Runs, "Runs" + MAY),
    "plain class": (Plain, "Plain" + MAY),
    "plain class | None": (Plain | None, "Plain" + MAY),
    "NamedTuple of anything": (Reading, "Reading" + MAY),
    "NamedTuple of an array": (Spectrum, "Spectrum" + MAY),
    "NamedTuple in itself": (Tree, "Tree" + MAY),
    "namedtuple": (Untyped, "Untyped" + MAY),
    "TypedDict": (Options, "Options" + MAY),
    "Iterable[int]": (collections.abc.Iterable[int], "Iterable[int]" + MAY),
    "deque[int]": (collections.deque[int], "deque[int]" + MAY),
    "Registry": (Registry[Other], "Registry[Other]" + MAY),
    "itself": (Nested, "Nested contains itself, and may be nested to any depth" + WHICH),
    "set[int]": (set[int], "set[int]" + MAY),
    "TypeVar": (T, "the type variable T has no bound" + WHICH),
    "list[TypeVar]": (list[T], "the type variable T has no bound" + WHICH),  # type: ignore[valid-type]
    "mixed TypeVar": (M, "~M mixes state and subnode" + WHICH),
    "None": (None, "None alone says nothing" + WHICH),
    "jax.Array": (Array, "Array is an array: hold it in a State, as ParamState[Array]" + OR_STATIC),
    "np.ndarray": (
        np.ndarray,
        "ndarray is an array: hold it in a State, as ParamState[ndarray]" + OR_STATIC,
    ),
    "Float[Array]": (
        Float[Array, "a b"],
        'Float[Array, "a b"] is an array: hold it in a State, as ParamState[Float[Array, "a b"]]' + OR_STATIC,
    ),
    "Array | None": (Array | None, "Array is an array: hold it in a State, as ParamState[Array]" + OR_STATIC),
    "list[Array]": (list[Array], "Array is an array: hold it in a State, as ParamState[Array]" + OR_STATIC),
    "ArrayLike": (ArrayLike, "Array is an array: hold it in a State, as ParamState[Array]" + OR_STATIC),
    "list[int]": (list[int], "list[int] is not hashable: write tuple[int, ...]"),
    "list[int] | None": (list[int] | None, "list[int] is not hashable: write tuple[int, ...]"),
    "list[list[int]]": (list[list[int]], "list[int] is not hashable: write tuple[int, ...]"),
    "list[Colour]": (list[Colour], "list[Colour] is not hashable: write tuple[Colour, ...]"),
    "dict[str, int]": (
        dict[str, int],
        "dict[str, int] is not hashable: write tuple[tuple[str, int], ...]",
    ),
    "dict[int, int]": (dict[int, int], "the keys of dict[int, int] are not strings: write dict[str, ...]" + WHICH),
    "ParamState | int": (ParamState | int, "ParamState | int mixes state and static" + WHICH),
    "Other | ParamState": (Other | ParamState, "Other | ParamState mixes state and subnode" + WHICH),
    "Other | str | None": (Other | str | None, "Other | str | None mixes static and subnode" + WHICH),
    "tuple[ParamState, int]": (
        tuple[ParamState, int],
        "tuple[ParamState, int] mixes state and static" + WHICH,
    ),
    "list[Other | ParamState]": (
        list[Other | ParamState],
        "Other | ParamState mixes state and subnode" + WHICH,
    ),
    "thawed dataclass": (
        Thawed,
        "the dataclass Thawed is not frozen: declare it @dataclass(frozen=True)",
    ),
    "guarded dataclass": (
        Guarded,
        "the dataclass Guarded is not frozen: declare it @dataclass(frozen=True)" + OR_STATIC,
    ),
    "list": (list, "list does not say what it contains" + WHICH),
    "tuple": (tuple, "tuple does not say what it contains" + WHICH),
    "dict": (dict, "dict does not say what it contains" + WHICH),
    "set": (set, "set does not say what it contains" + WHICH),
    "frozenset": (frozenset, "frozenset does not say what it contains" + WHICH),
    "list | None": (
        list | None,  # pyright: ignore[reportMissingTypeArgument]
        "list does not say what it contains" + WHICH,
    ),
    "typing.List": (typing.List, "List does not say what it contains" + WHICH),  # noqa: UP006
    "typing.Dict": (typing.Dict, "Dict does not say what it contains" + WHICH),  # noqa: UP006
    "typing.Tuple": (typing.Tuple, "Tuple does not say what it contains" + WHICH),  # noqa: UP006
    "typing.FrozenSet": (typing.FrozenSet, "FrozenSet does not say what it contains" + WHICH),  # noqa: UP006
    "typing.Sequence": (typing.Sequence, "Sequence does not say what it contains" + WHICH),
}


@pytest.mark.parametrize(("annotation", "text"), REFUSED.values(), ids=REFUSED)
def test_an_ambiguous_annotation_is_refused_with_the_line_to_write(annotation: Any, text: str):
    """An annotation that does not settle a kind names class and field, what was found, and what to write."""
    assert fault_of(annotation) == f"Probe.x: {text}"


class Both(NamedTuple):
    first: ParamState
    second: "Count | None"


class ByName(typing.TypedDict):
    a: ParamState
    b: typing_extensions.NotRequired[Count]


CONTAINERS: dict[str, Any] = {
    "an OrderedDict[str, Other]: write dict[str, Other]": collections.OrderedDict[str, Other],
    "a defaultdict[str, ParamState]: write dict[str, ParamState]": collections.defaultdict[str, ParamState],
    "a dict[int, Other]: write dict[str, Other]": dict[int, Other],
    "a dict[Literal['a', 1], Other]: write dict[str, Other]": dict[Literal["a", 1], Other],
    "a dict[Named, Other]: write dict[str, Other]": dict[Named, Other],
    "a deque[Other]: write list[Other]": collections.deque[Other],
    "an Iterable[ParamState | None]: write list[ParamState | None]": collections.abc.Iterable[ParamState | None],
    "a Collection[Other]: write list[Other]": typing.Collection[Other],
    "a set[Other]: write list[Other]": set[Other],
    "a frozenset[Other]: write list[Other]": frozenset[Other],
    "a Both: write tuple[ParamState, Count | None]": Both,
    "a ByName: write dict[str, ParamState | Count]": ByName,
}


@pytest.mark.parametrize("said", [(), (gn.state(),), (gn.subnode(),)], ids=["bare", "state", "subnode"])
@pytest.mark.parametrize(("text", "annotation"), CONTAINERS.items(), ids=CONTAINERS)
def test_a_container_that_no_node_keeps_is_refused_with_the_one_to_write(text: str, annotation: Any, said: Any):
    """Also under a specifier, which says nothing of the classes and contracts that the container was meant to hold."""
    assert fault_of(annotation, *said) == f"Probe.x: a node cannot keep {text}"
    assert fault_of(list[annotation], *said) == f"Probe.x: a node cannot keep {text}"


def test_a_dict_whose_keys_are_named_strings_keeps_what_any_dict_keeps():
    """Through a split and a merge; a value that the field does not admit is named by its key."""
    cls = declare(defaults={"__module__": __name__}, heads=dict[Head, Other])
    node = cls({"q": Other(1), "k": Other(2)})
    merged = gn.treefy_merge(*gn.treefy_split(node))
    assert {key: head.n for key, head in merged.heads.items()} == {"q": 1, "k": 2}
    with pytest.raises(gn.FieldError, match=r"Probe\.heads\.q"):
        cls({"q": 1})


A = TypeVar("A")
B = TypeVar("B")
OF: Any = ParamState
LIST: Any = list
DICT: Any = dict
ANNOTATED: Any = Annotated
Three: Any = Float[Array, "3"]
# In newer versions of Python, what a `type` statement makes is not what typing-extensions makes.
# In an order that is the same in each process.
ALIAS_TYPES: list[Any] = list(
    dict.fromkeys([typing_extensions.TypeAliasType, getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType)])
)


@pytest.mark.parametrize("alias", ALIAS_TYPES, ids=lambda cls: cls.__module__)
def test_an_alias_is_what_it_stands_for(alias: Any):
    """The name of a `type` statement keeps class and contract, also with parameters, and of the value alone."""
    weight = alias("weight", ParamState[Three])
    of_value = alias("of_value", OF[A], type_params=(A,))
    turned = alias("turned", DICT[B, LIST[A]], type_params=(A, B))
    three = alias("three", Three)
    annotations: dict[Any, str] = {
        weight: "ParamState",
        weight | None: "ParamState | None",
        LIST[weight]: "list[ParamState]",
        alias("many", LIST[weight]): "list[ParamState]",
        of_value[Three]: "ParamState",
        of_value[three]: "ParamState",
        turned[weight, str]: "dict[str, list[ParamState]]",
        alias("same", A, type_params=(A,))[weight]: "ParamState",
        OF[three]: "ParamState",
        OF[ANNOTATED[three, "of a Linear"]]: "ParamState",
    }
    for annotation, text in annotations.items():
        form = gn.schema(declare(x=annotation)).fields["x"].form
        contracts = [leaf.contract.text for leaf in form.all_leaves if leaf.contract is not None]
        assert (str(form), contracts) == (text, ['Float[Array, "3"]'])


@pytest.mark.parametrize("said", [(), (gn.subnode(),)], ids=["bare", "subnode"])
def test_a_union_of_two_lists_is_refused(said: Any):
    """A specifier would admit lists of any nodes."""
    text = "list[Other] | list[Linear] has two containers of one type: put the union inside"
    assert fault_of(list[Other] | list[Linear], *said) == f"Probe.x: {text}"


AMBIGUOUS = [
    *(Any, object, Callable[[Array], Array], Runs, Plain, T, list, tuple, dict, None),
    *(ParamState | int, Other | ParamState, tuple[ParamState, int], list[T]),  # type: ignore[valid-type]
    *("Nowhere", "list[Nowhere]", "Nowhere | None"),
]


@pytest.mark.parametrize("specifier", [gn.static, gn.state, gn.subnode], ids=lambda s: s.__name__)
@pytest.mark.parametrize("annotation", AMBIGUOUS, ids=str)
def test_a_specifier_decides_what_an_annotation_leaves_open(annotation: Any, specifier: Any):
    """A specifier is the authority where the annotation is ambiguous, or names what nothing resolves."""
    assert kind_of(annotation, specifier()) == specifier.__name__


@pytest.mark.parametrize("annotation", [Array, Float[Array, "a"], np.ndarray, Array | None], ids=str)
def test_static_may_be_said_of_an_array(annotation: Any):
    """An array is static only where that is said: `static()`."""
    assert kind_of(annotation, gn.static()) == "static"


CONTRADICTIONS = [
    (ParamState, "static", "state"),
    (ParamState[Array] | None, "static", "state"),
    (list[ParamState], "static", "state"),
    (Other, "static", "subnode"),
    (dict[str, Other], "static", "subnode"),
    (Self, "static", "subnode"),
    (int, "state", "static"),
    (tuple[int, ...], "state", "static"),
    (Frozen, "state", "static"),
    (Other, "state", "subnode"),
    (list[Other], "state", "subnode"),
    (int | None, "subnode", "static"),
    (Colour, "subnode", "static"),
    (ParamState, "subnode", "state"),
    (tuple[ParamState, ...], "subnode", "state"),
]


@pytest.mark.parametrize(("annotation", "said", "found"), CONTRADICTIONS, ids=map(str, CONTRADICTIONS))
def test_a_specifier_that_contradicts_its_annotation_is_refused(annotation: Any, said: str, found: str):
    """`static()` on a State, `state()` on an int and their like name both, and the specifier to write."""
    text = f"Probe.x: declared {said}(), but its annotation says {found}; write {found}()"
    assert fault_of(annotation, getattr(gn, said)()) == text


@pytest.mark.parametrize("said", ["state", "subnode"])
def test_an_array_is_neither_state_nor_subnode(said: str):
    """A bare array under `state()` is refused with the State to wrap it in."""
    assert fault_of(Array, getattr(gn, said)()) == (
        f"Probe.x: {said}() holds no bare array; Array is an array: hold it in a State, as ParamState[Array]"
    )


@pytest.mark.parametrize("said", ["state", "subnode"])
@pytest.mark.parametrize("annotation", [list[int], dict[str, int], list[int] | None], ids=str)
def test_plain_data_is_neither_state_nor_subnode(annotation: Any, said: str):
    """An annotation that can hold neither a State nor a node contradicts `state()` and `subnode()`, hashable or not."""
    assert fault_of(annotation, getattr(gn, said)()).startswith(f"Probe.x: declared {said}(), but ")


FORMS = {
    "Other": Other,
    "Other | None": Other | None,
    "Other | Linear | None": typing.Optional[Other | Linear],  # noqa: UP045
    "list[Other]": list[Other],
    "list[Other | None]": list[Other | None],
    "tuple[Other, ...]": tuple[Other, ...],
    "tuple[Other, Linear]": tuple[Other, Linear],
    "dict[str, list[Other]]": dict[str, list[Other]],
    "ParamState": ParamState[Float[Array, "a b"]],
    "Other | list[Other] | None": Other | list[Other] | None,
    "list[Other] | tuple[Other, ...]": Sequence[Other],
    "dict[str, ParamState]": Mapping[str, ParamState],
}


@pytest.mark.parametrize(("text", "annotation"), FORMS.items(), ids=FORMS)
def test_the_form_of_a_field_says_what_it_admits(text: str, annotation: Any):
    """A field's form is read from its annotation, and prints as one would write it."""
    assert str(gn.schema(declare(x=annotation)).fields["x"].form) == text


def test_a_static_field_has_no_leaves():
    """The form of a static field admits no State and no node, also where the annotation leaves it open."""
    assert gn.schema(declare(x=int)).fields["x"].form.leaves == ()
    assert gn.schema(declare(defaults={"x": gn.static()}, x=Any)).fields["x"].form.leaves == ()


def test_a_self_annotation_admits_the_declaring_class():
    """`Self` admits the class that declares the field."""
    made = declare(x=Self | None)  # pyrefly: ignore[invalid-annotation]
    assert gn.schema(made).fields["x"].form.classes == (made,)


@pytest.mark.parametrize("name", ["_binding", "_version", "_plan", "_template", "_has_own_init"])
def test_names_of_graphnode_itself_are_refused_as_fields(name: str):
    """A field may not take a name that nodes use themselves."""
    with pytest.raises(gn.SchemaError) as caught:
        declare(**{name: int})  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    assert str(caught.value) == f"Probe.{name}: this name is graphnode's own; choose another"


def test_specifiers_set_jaxs_static_key():
    """The dataclass metadata of a static field says `static`, as `jax.tree.static()` does."""
    made = declare(defaults={"a": gn.static(), "b": gn.state(), "c": gn.subnode()}, a=Any, b=Any, c=Any)
    assert [field.metadata["static"] for field in dataclasses.fields(made)] == [True, False, False]


def test_jax_array_and_jaxtyping_array_are_one():
    """`jax.Array` is refused just as jaxtyping's `Array`."""
    assert fault_of(jax.Array) == fault_of(Array)
