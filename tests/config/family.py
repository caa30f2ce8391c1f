"""Node classes with every kind of field that a file may set, and what files say of them, right and wrong."""

import abc
import enum
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Optional

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from pydantic import Field

import graphnode as gn

Act = Callable[[jax.Array], jax.Array]


class Order(enum.Enum):
    FIRST = "first"
    LAST = "last"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Range:
    """Two bounds.

    This is not a first paragraph.
    """

    low: float
    high: Annotated[float, Field(ge=0)] = 1.0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tree:
    value: int
    left: Optional["Tree"] = None


class Part(gn.Node, abc.ABC):
    """What a model is made of."""

    @abc.abstractmethod
    def size(self) -> int: ...


MODEL: Any = Part
"""For the type checkers, that take no abstract class for one: only its subclasses are made."""


class Sized(Part):
    """A part that has a size."""

    def size(self) -> int:
        return 1


class Bounded(Sized):
    """Numbers and strings within bounds.

    The schema does not have this paragraph.
    """

    count: Annotated[int, Field(gt=0, le=10)]
    """How many there are."""
    scale: Annotated[float, Field(ge=0.5, lt=100)] = 2.5
    step: Annotated[int, Field(multiple_of=3)] = 3
    name: Annotated[str, Field(min_length=1, max_length=4)] = "a"
    code: Annotated[str, Field(pattern="^[a-z]+$")] = "x"
    flag: bool = True
    weights: gn.ParamState[jax.Array] = gn.state(init=False)


class Chosen(Sized):
    """One of several."""

    mode: Literal["fast", "exact", 3]
    order: Order
    level: Level = Level.LOW
    maybe: Annotated[int | None, Field(ge=0)] = None
    either: int | str | tuple[bool, ...] = "a"
    only: Literal[Level.HIGH] = Level.HIGH


class Composed(Sized):
    """Values of several parts."""

    sizes: tuple[int, str]
    many: Annotated[tuple[float, ...], Field(min_length=1)] = (1.5,)
    names: frozenset[str] = frozenset()
    range: Range = Range(0.0)
    tree: Tree | None = None


class Named(Sized):
    """What has a name, or is data of its own."""

    dtype: DTypeLike
    act: Act = gn.static(default=jax.nn.relu)
    cls: type[Part] | None = None
    mask: jax.Array | None = gn.static(default=None)
    z: complex = 1j
    raw: bytes = b""
    anything: Any = gn.static(default=None)
    fallback: DTypeLike | None = jnp.float32


class Plain(gn.Node):
    """The class that stands where no type is given."""

    depth: int = 1


class Special(Plain, kw_only=True):
    """A plain node with more."""

    more: str


class Holder(Sized):
    """Holds others."""

    one: Part
    """The first of them."""
    plain: Plain
    other: Part | None = None
    two: Plain | Bounded | None = None
    alone: Bounded | None = None
    items: list[Part] = gn.subnode(default_factory=list)
    """All the rest."""
    nested: list[list[Plain]] = gn.subnode(default_factory=list)
    by_name: dict[str, Part] = gn.subnode(default_factory=dict)
    pair: tuple[Plain, Part | None] | None = None
    several: tuple[Plain, ...] = ()
    any_of: Plain | list[Plain] | None = None
    either: Part | dict[str, Plain] | None = None


gn.config.register("part", Sized)

# Data


class Fields(NamedTuple):
    """What a file says of one class: strategies for its required fields and for the others."""

    required: dict[str, st.SearchStrategy[Any]]
    optional: dict[str, st.SearchStrategy[Any]] = {}


_small = st.integers(-3, 5)
_texts = st.text("abx-", max_size=4)
_floats = st.sampled_from([0.5, 1.5, 99.25, 7])
_trees: st.SearchStrategy[Any] = st.deferred(
    lambda: st.fixed_dictionaries({"value": _small}, optional={"left": st.none() | _trees})
)
_RANGE = st.fixed_dictionaries({"low": _floats}, optional={"high": _floats, "labels": st.lists(_texts, max_size=2)})
_arrays = st.sampled_from(
    [[1, 2], [[1.5], [2]], 3, True, [], {"data": [1, 0], "dtype": "int8"}, {"data": [[1.5]], "dtype": "bfloat16"}]
)

LEAVES = {
    "Bounded": Fields(
        {"count": st.integers(1, 10)},
        {
            "scale": _floats,
            "step": st.sampled_from([-3, 0, 9]),
            "name": st.text("ab", min_size=1, max_size=4),
            "code": st.text("ab", min_size=1),
            "flag": st.booleans(),
        },
    ),
    "Chosen": Fields(
        {"mode": st.sampled_from(["fast", "exact", 3]), "order": st.sampled_from(["first", "last", "PAIR"])},
        {
            "level": st.sampled_from([1, 2]),
            "maybe": st.none() | st.integers(0, 3),
            "either": _small | _texts | st.lists(st.booleans()),
            "only": st.just(2),
        },
    ),
    "Composed": Fields(
        {"sizes": st.tuples(_small, _texts).map(list)},
        {
            "many": st.lists(_floats, min_size=1, max_size=3),
            "names": st.lists(_texts, max_size=3),
            "range": _RANGE,
            "tree": st.none() | _trees,
        },
    ),
    "Named": Fields(
        {"dtype": st.sampled_from(["float32", "bfloat16", "bool"])},
        {
            "act": st.sampled_from(["relu", "gelu"]),
            "cls": st.none(),
            "mask": st.none() | _arrays,
            "z": _small | st.sampled_from(["1+2j", "(1.5e3-2j)", "2j", "inf", 1.5]),
            "raw": _texts,
            "anything": st.sampled_from([None, 3, "a", [1, ["b", []]]]),
            "fallback": st.sampled_from([None, "int4"]),
        },
    ),
    "Sized": Fields({}),
    "part": Fields({}),
}


def _node(fields: Fields, tag: str | None) -> st.SearchStrategy[Any]:
    required = fields.required if tag is None else {"type": st.just(tag), **fields.required}
    return st.fixed_dictionaries(required, optional=fields.optional)


PLAINS = st.one_of(
    _node(Fields({}, {"depth": _small}), None),
    _node(Fields({}, {"depth": _small}), "Plain"),
    _node(Fields({"more": _texts}, {"depth": _small}), "Special"),
)
LEAF_PARTS = st.one_of([_node(fields, tag) for tag, fields in LEAVES.items()])
REF = st.just({"ref": "root"})


def _holders(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    part = REF | parts
    fields = Fields(
        {"one": part, "plain": PLAINS},
        {
            "other": st.none() | part,
            "two": st.none() | _node(Fields({"depth": _small}), "Plain") | _node(LEAVES["Bounded"], "Bounded"),
            "alone": st.none() | _node(LEAVES["Bounded"], "Bounded") | _node(LEAVES["Bounded"], None),
            "items": st.lists(part, max_size=3),
            "nested": st.lists(st.lists(PLAINS, max_size=2), max_size=2),
            "by_name": st.dictionaries(st.sampled_from(["a", "type", "ref"]), part, max_size=2),
            "pair": st.none() | st.tuples(PLAINS, st.none() | part).map(list),
            "several": st.lists(PLAINS, max_size=2),
            "any_of": st.none() | PLAINS | st.lists(PLAINS, max_size=2),
            "either": st.none() | part | st.dictionaries(st.sampled_from("ab"), PLAINS, max_size=2),
        },
    )
    return _node(fields, "Holder")


CONFIGS = st.recursive(LEAF_PARTS, _holders, max_leaves=6).map(lambda raw: {**raw, "id": "root"})
"""Configurations of a `Part`; references name the root."""

# Mutations

# Numbers with a fraction alone: 1.0 is an integer for JSON Schema.
_WRONG = st.sampled_from(
    [None, True, False, -1, 0, 11, 2.5, "", "relu", "zzz", "1", "float32", "abcdef", [], ["a"], [1], [1, "a"], {}]
    + [
        {"type": "Plain"},
        {"type": "Bounded", "count": 1},
        {"depth": 3},
        {"data": [1]},
        {"low": 1},
        [{}],
        {"a": {}},
        [[[[{}]]]],
    ]
)
_ATOMS = ("mask", "anything")
"""Fields that are replaced as a whole: that the rows of an array are of one length is beyond a schema."""

Steps = tuple[str | int, ...]


def _paths(raw: Any, steps: Steps = ()) -> Iterator[Steps]:
    yield steps
    if steps and steps[-1] in _ATOMS:
        return
    pairs: Sequence[tuple[str | int, Any]] = (
        list(raw.items()) if isinstance(raw, dict) else list(enumerate(raw)) if isinstance(raw, list) else []
    )
    for key, value in pairs:
        # Whether a name is known is beyond a schema, and the root must keep its own.
        if key not in ("ref", "id") or not isinstance(value, str):
            yield from _paths(value, (*steps, key))


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A configuration with one change, most of them wrong."""
    root = deepcopy([draw(CONFIGS)])
    steps = draw(st.sampled_from(list(_paths(root[0]))))
    holder: Any = root
    last: Any = 0
    for step in steps:
        holder, last = holder[last], step
    found = holder[last]
    change = draw(st.sampled_from(["replace", "drop", "add", "tag"]))
    if change == "drop" and steps:
        del holder[last]
    elif change == "add" and isinstance(found, dict):
        found[draw(st.sampled_from(["zzz", "depth", "count", "type", "dtype"]))] = deepcopy(draw(_WRONG))
    elif change == "add" and isinstance(found, list):
        found.append(deepcopy(draw(_WRONG)))
    elif change == "tag" and isinstance(found, dict):
        found["type"] = draw(st.sampled_from(["Sized", "Plain", "Bounded", "Part", "Linear", "Holdr", 3]))
    elif steps:
        holder[last] = deepcopy(draw(_WRONG))
    return root[0]
