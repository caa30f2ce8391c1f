"""A graphdef as JSON: the same object comes back, of any graph; anything else is refused with all that is wrong."""

import copy
import dataclasses
import enum
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

import graphnode as gn
from graphnode._registered import VALUES
from tests.properties.strategies import Item, World, worlds
from tests.work import calls_of

SCHEMA = json.loads((Path(__file__).parent.parent / "schemas/graphdef.schema.json").read_text(encoding="utf-8"))
VALIDATOR: Any = jsonschema.Draft202012Validator(SCHEMA)


class Level(enum.IntEnum):
    LOW = 1


class Choice(enum.Enum):
    A = "a"


@dataclasses.dataclass(frozen=True)
class Window:
    size: int
    pads: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0:
            raise RuntimeError("a negative size")


def double(x: jax.Array) -> jax.Array:
    return 2 * x


class Holder(gn.Node):
    """Any static value."""

    fact: Any = gn.static(default=None)
    weight: gn.State | None = None


class Pair(gn.Node):
    """Two holders, and a list."""

    size: int
    first: Holder | None = None
    items: list[Holder] = gn.subnode(default_factory=list)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this program has registered."""
    for name, value in (("Level", Level), ("Window", Window), ("double", double)):
        monkeypatch.setitem(VALUES, name, value)


def again(graphdef: gn.GraphDef[Any]) -> gn.GraphDef[Any]:
    text = graphdef.to_json()
    VALIDATOR.validate(json.loads(text))
    return gn.GraphDef.from_json(text)


@given(worlds())
def test_same_graphdef_comes_back(world: World):
    """Of any graph, shared, cyclic and nested, and of any pytree of nodes; the schema admits what is written."""
    roots: tuple[Any, ...] = (world.root, {"b": world.nodes, "a": (world.root, None)}, [], {1: world.nodes[-1]})
    for root in roots:
        graphdef = gn.graphdef(root)
        assert again(graphdef) is graphdef


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
    | st.sampled_from([
        Level.LOW, Window(1, (2.0,)), double, jax.nn.relu, jnp.float32, jnp.bfloat16, np.float32, np.dtype("int8"),
        np.dtype(jnp.bfloat16), np.float32(1), np.int8(-1), np.bool_(True), ..., -0.0,
    ])
)  # fmt: skip
ARRAYS = st.sampled_from(["float32", "int8", "bool", "bfloat16", "complex64"]).flatmap(
    lambda dtype: st.sampled_from([(), (0,), (2, 3)]).map(
        lambda shape: np.arange(int(np.prod(shape))).reshape(shape).astype(jnp.dtype(dtype))
    )
)
STATIC = st.recursive(
    SCALARS | ARRAYS | ARRAYS.map(jnp.asarray),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(SCALARS, max_size=3),
    max_leaves=6,
)


@given(STATIC)
def test_static_value_comes_back_exactly(value: object):
    """Types and values at every depth: 1, True and 1.0, a tuple and a frozenset, dtypes in each form, arrays."""
    graphdef = gn.graphdef(Holder(value))
    assert again(graphdef) is graphdef


def test_equal_values_of_different_types_stay_apart():
    """What Python calls equal is not the same text."""
    values = (
        1,
        True,
        1.0,
        np.int8(1),
        np.float32(1),
        Level.LOW,
        (1,),
        frozenset({1}),
        1 + 0j,
        np.ones(()),
        jnp.ones(()),
    )
    assert len({gn.graphdef(Holder(value)).to_json() for value in values}) == len(values)


def test_description_of_a_state_comes_back():
    """Name, tag, sharding and metadata are part of the structure."""
    spec = PartitionSpec("x", None, ("y", "z"))
    state = gn.State(jnp.ones((2, 2, 2)), name="n", tag="t", sharding=spec, metadata={"unit": "mV", "at": (1, True)})
    graphdef = gn.graphdef(Holder(weight=state))
    assert again(graphdef) is graphdef
    assert gn.treefy_merge(again(graphdef), gn.treefy_states(Holder(weight=state))).weight.metadata["at"] == (1, True)


def test_text_is_literal():
    """The form is what its schema says; this is one, in full."""
    shared = Holder(True)
    assert json.loads(gn.graphdef(Pair(1, shared, [shared, Holder(1.0, gn.ParamState(jnp.ones(2)))])).to_json()) == {
        "graphnode": 1,
        "classes": [f"{__name__}.Pair", f"{__name__}.Holder", "graphnode.ParamState"],
        "specs": [
            {"node": 0, "static": {"size": 1}, "held": {"first": "object", "items": {"list": 2}}},
            {"node": 1, "static": {"fact": True}, "held": {"weight": None}},
            {"node": 1, "static": {"fact": 1.0}, "held": {"weight": "object"}},
            {"state": 2},
        ],
        "tokens": [{"new": 0}, {"new": 1}, {"again": 1}, {"new": 2}, {"new": 3}],
    }


def test_a_class_of_the_script_has_one_name_in_all_processes():
    """In those that `multiprocessing` spawns, the script's module is `__mp_main__`; the text says `__main__`."""

    class Spawned(gn.Node):
        __module__ = "__mp_main__"
        width: int = 2

    graphdef = gn.graphdef(Spawned())
    text = graphdef.to_json()
    assert json.loads(text)["classes"] == [f"__main__.{Spawned.__qualname__}"]
    assert gn.GraphDef.from_json(text) is graphdef


def test_deep_graph_comes_back():
    """A chain of 5,000 nodes, without recursion."""
    node = None
    for size in range(5_000):
        node = Item(size, next=node)
    graphdef = gn.graphdef(node)
    assert gn.GraphDef.from_json(graphdef.to_json()) is graphdef


def test_values_without_json_are_all_named():
    """A function and a class without a name, a random key: each is told with its field."""
    values: dict[object, str] = {
        test_deep_graph_comes_back: "test_deep_graph_comes_back has no name: "
        "register it with gn.config.register(name, value)",
        Choice.A: "the class Choice has no name: register it with gn.config.register(name, cls)",
        2**5_000: "an integer of more than 4,096 bits has no JSON",
    }
    for value, text in values.items():
        with pytest.raises(gn.ConfigError) as caught:
            gn.graphdef(Holder(value)).to_json()
        assert str(caught.value) == f"Holder.fact: {text}"
    with pytest.raises(gn.ConfigError) as caught:
        gn.graphdef(Pair(1, Holder(print), [Holder(jax.random.key(0))])).to_json()
    assert caught.value.faults == (
        "Holder.fact: print has no name: register it with gn.config.register(name, value)",
        "Holder.fact: a random key has no JSON",
    )


def test_class_that_was_defined_again_is_told():
    """Two classes of one name would come back as the newer one."""

    def define() -> type[gn.Node]:
        class Twice(gn.Node):
            size: int = 0

        return Twice

    old, new = gn.graphdef(define()()), gn.graphdef(define()())
    assert again(new) is new
    with pytest.raises(gn.ConfigError, match="Twice is another class by now: it was defined again"):
        old.to_json()


# What is refused


def written() -> dict[str, Any]:
    """The text that the faults below are put into: a pair, a holder twice, a holder with a State."""
    shared = Holder(True)
    made: dict[str, Any] = json.loads(
        gn.graphdef(Pair(1, shared, [shared, Holder(1.0, gn.ParamState(jnp.ones(2)))])).to_json()
    )
    return made


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Put the last of the arguments where the others lead."""

    def change(data: Any) -> None:
        *above, key, value = path
        for step in above:
            data = data[step]
        data[key] = value

    return change


FACT = ("specs", 1, "static", "fact")
FAULTS: list[tuple[Callable[[dict[str, Any]], object], list[str]]] = [
    (put("graphnode", 2), ['not a graphdef: expected an object with "graphnode": 1']),
    (put("graphnode", True), ['not a graphdef: expected an object with "graphnode": 1']),
    (put("more", 1), ["'more' is not part of a graphdef"]),
    (put("specs", {}), ["specs is missing, or not a list"]),
    (put("tokens", []), ["tokens: expected 1 more"]),
    (put("tokens", 4, {"again": 2}), ["tokens[4]: Holder is not a State"]),
    (lambda data: data["specs"].append({"state": 2}), ["specs[4]: no token is of it"]),
    (put("classes", 0, "os.system"), ["classes[0]: no class of nodes or States is 'os.system'; import it first"]),
    (put("classes", 0, ["a"]), ["classes[0]: no class of nodes or States is list; import it first"]),
    (put("classes", 2, f"{__name__}.Holder"), ["specs[3]: Holder is not a class of States"]),
    (put("classes", 0, "graphnode.ParamState"), ["specs[0]: ParamState is not a class of nodes"]),
    (put("specs", 1, "node", True), ["specs[1]: expected the number of a class"]),
    (put("specs", 1, "node", -1), ["specs[1]: expected the number of a class"]),
    (
        put("specs", 1, "extra", 1),
        ["specs[1]: a spec has node, static and held, or state, name, tag, sharding, metadata and stacked"],
    ),
    (put("specs", 1, "static", []), ["specs[1].static: expected an object"]),
    (
        put("specs", 1, "static", {"fat": 1}),
        ["specs[1].static: Holder has no such field 'fat'", "specs[1].static: 'fact' of Holder is missing"],
    ),
    (put("specs", 0, "held", "items", {"list": 1}), ["tokens[3]: nothing refers to it"]),
    (put("specs", 0, "held", "items", {"list": 3}), ["tokens: expected 1 more"]),
    (
        put("specs", 0, "held", "items", {"list": 10**12}),
        ["specs[0].held.items: a list of 1000000000000 objects, which do not follow"],
    ),
    (put("specs", 0, "held", "items", None), ["specs[0].held.items: expected list[Holder], found null"]),
    (put("specs", 0, "held", "items", {"tuple": []}), ["specs[0].held.items: expected list[Holder], found a tuple"]),
    (put("specs", 0, "held", "items", "object"), ["specs[0].held.items: expected list[Holder], found an object"]),
    (
        put("specs", 0, "held", "items", {"list": ["object"]}),
        ["specs[0].held.items: a list of objects alone gives their number"],
    ),
    (put("specs", 0, "held", "items", {"list": ["unset", None]}), ["specs[0].held.items: only a field is unset"]),
    (
        put("specs", 0, "held", "items", {"set": []}),
        ['specs[0].held.items: expected null, "object" or an object with one of the keys list, tuple and dict'],
    ),
    (
        put("tokens", 1, {"new": 3}),
        [f"tokens[{n}]: ParamState is not a Holder" for n in (1, 2)],
    ),
    (put("tokens", 2, {"again": 2}), ["tokens[2]: no object 2 was seen before"]),
    (put("tokens", 2, {"again": 0}), ["tokens[2]: Pair is not a Holder"]),
    (put("tokens", 2, {"again": -1}), ["tokens[2]: no object -1 was seen before"]),
    (put("tokens", 2, {"new": 9}), ["tokens[2]: there is no spec 9"]),
    (put("tokens", 2, {"new": True}), ['tokens[2]: a token is {"new": spec} or {"again": object}']),
    (put("tokens", 2, 1), ['tokens[2]: a token is {"new": spec} or {"again": object}']),
    (
        put("tokens", 0, {"root": {"set": []}}),
        ['tokens[0].root: expected null, "object" or an object with one of the keys list, tuple and dict'],
    ),
    (
        put(*FACT, [1]),
        ["specs[1].static.fact: a value is null, a boolean, a number, a string, or an object with one key"],
    ),
    (
        put(*FACT, {"python": "os.system"}),
        [
            "specs[1].static.fact: no kind of value is named 'python': one of array, bytes, complex, dtype, ellipsis, "
            "enum, float, fraction, frozenset, jax_dtype, name, numpy_dtype, partition_spec, record, slice, tuple"
        ],
    ),
    (put(*FACT, {"name": "os.system"}), ["specs[1].static.fact: nothing is registered as 'os.system'"]),
    (put(*FACT, {"name": 1}), ["specs[1].static.fact: name does not fit: int"]),
    (put(*FACT, {"float": "1e5"}), ["specs[1].static.fact: float is one of nan, inf, -inf; others are numbers"]),
    (put(*FACT, {"complex": [1, 2]}), ["specs[1].static.fact: complex is a list of two floats"]),
    (put(*FACT, {"dtype": "O"}), ["specs[1].static.fact: 'O' is not a valid dtype"]),
    (put(*FACT, {"ellipsis": 1}), ["specs[1].static.fact: ellipsis is true"]),
    (put(*FACT, {"tuple": {"a": 1}}), ["specs[1].static.fact: a list of items does not fit: dict"]),
    (put(*FACT, {"enum": {"class": "Window", "member": "LOW"}}), ["specs[1].static.fact: 'Window' is not an enum"]),
    (put(*FACT, {"enum": {"class": "Level", "member": "mro"}}), ["specs[1].static.fact: Level has no member 'mro'"]),
    (put(*FACT, {"record": {"class": "double", "fields": {}}}), ["specs[1].static.fact: 'double' is not a dataclass"]),
    (put(*FACT, {"record": {"class": "Window", "fields": {}}}), ["specs[1].static.fact: Window takes size, pads"]),
    (
        put(*FACT, {"record": {"class": "Window", "fields": {"size": -1, "pads": {"tuple": []}}}}),
        ["specs[1].static.fact: Window: a negative size"],
    ),
    (
        put(*FACT, {"array": {"kind": "jax", "dtype": "int8", "shape": [2], "data": "AA=="}}),
        ["specs[1].static.fact: an array of shape (2,) and int8 does not have 1 bytes"],
    ),
    (
        put(*FACT, {"array": {"kind": "jax", "dtype": "int8", "shape": [-1], "data": ""}}),
        ["specs[1].static.fact: a shape is a list of sizes"],
    ),
    (
        put(*FACT, {"array": {"kind": "jax", "dtype": "float64", "shape": [0], "data": ""}}),
        ["specs[1].static.fact: a JAX array of float64 needs jax_enable_x64"],
    ),
    (put(*FACT, {"bytes": "%"}), ["specs[1].static.fact: no base64: Only base64 data is allowed"]),
]


def refusal(text: str) -> tuple[str, ...]:
    found: list[gn.ConfigError] = []

    def read() -> None:
        with pytest.raises(gn.ConfigError) as caught:
            gn.GraphDef.from_json(text)
        found.append(caught.value)

    assert calls_of(read) < 3_000_000
    return found[0].faults


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_each_fault_is_told(number: int):
    """What is wrong with a text is told with its place in it."""
    change, expected = FAULTS[number]
    data = written()
    change(data)
    found = refusal(json.dumps(data))
    assert found == tuple(expected)


def test_several_faults_are_told_at_once():
    """The specs are looked at one by one, whatever is wrong with the others."""
    data = written()
    for number, value in ((0, "size"), (1, "fact"), (2, "fact")):
        data["specs"][number]["static"][value] = {"name": f"x{number}"}
    assert refusal(json.dumps(data)) == tuple(
        f"specs[{number}].static.{name}: nothing is registered as 'x{number}'"
        for number, name in ((0, "size"), (1, "fact"), (2, "fact"))
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not a graphdef: Expecting value: line 1 column 1 (char 0)"),
        ("[]", 'not a graphdef: expected an object with "graphnode": 1'),
        ('{"graphnode": 1, "graphnode": 1}', "not a graphdef: a key stands twice in an object"),
        ('{"graphnode": NaN}', "not a graphdef: JSON has no NaN"),
        ("[" * 100_000, "not a graphdef: nested too deeply"),
    ],
    ids=range(5),
)
def test_text_that_is_no_graphdef_is_refused(text: str, fault: str):
    """Broken JSON, and JSON of something else."""
    assert refusal(text) == (fault,)


def test_huge_integers_and_deep_values_are_refused():
    """Neither digits nor brackets without end reach a parser that has no limit."""
    (fault,) = refusal('{"graphnode": ' + "1" * 10_000 + "}")
    assert fault.startswith("not a graphdef: Exceeds the limit")
    data = written()
    deep: Any = 1
    for _ in range(100):
        deep = {"tuple": [deep]}
    data["specs"][1]["static"]["fact"] = deep
    assert refusal(json.dumps(data))[0] == "specs[1].static.fact: nested more than 64 levels deep"


def test_specs_that_claim_more_than_follows_are_refused_early():
    """Many specs of many references each would take the square of the text."""
    data = written()
    wide = copy.deepcopy(data["specs"][0])
    wide["held"]["items"] = {"list": 20_000}
    data["specs"] = [wide | {"static": {"size": n}} for n in range(1_000)] + data["specs"][1:]
    data["tokens"] = [{"new": n % 1_000} for n in range(20_000)]
    assert "more objects than follow" in refusal(json.dumps(data))[0]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.sampled_from(["object", "unset", "list", "graphnode.State"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["new", "again", "root", "list", "dict", "tuple", "name"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(st.randoms(use_true_random=False), JSON_VALUES)
def test_changed_text_is_refused_or_stands_for_a_graphdef(rng: random.Random, value: Any):
    """Whatever is put in place of a part: a graphdef that can be written again, or a ConfigError."""
    data = written()
    places: list[tuple[Any, Any]] = []
    todo: list[Any] = [data]
    while todo:
        held = todo.pop()
        keys = list(held) if isinstance(held, dict) else range(len(held)) if isinstance(held, list) else ()
        places += [(held, key) for key in keys]
        todo += [held[key] for key in keys]
    held, key = rng.choice(places)
    held[key] = value
    try:
        graphdef = gn.GraphDef.from_json(json.dumps(data))
    except gn.ConfigError:
        return
    assert again(graphdef) is graphdef
    VALIDATOR.validate(data)
    assert repr(graphdef)


# Optimizers


def optimizer(tx: Any, wrt: Any = gn.ParamState) -> gn.optim.Optimizer:
    return gn.optim.Optimizer(gn.nn.MLP(2, 3, 2), tx, wrt)


def adam(**arguments: Any) -> Any:
    call: Any = gn.optim.call
    return call(optax.adamw, **{"learning_rate": 1e-3, **arguments})


OPTIMIZERS: dict[str, Callable[[], gn.optim.Optimizer]] = {
    "schedule": lambda: optimizer(adam(learning_rate=gn.optim.call(optax.linear_schedule, 1.0, 0.0, 9))),
    "labels": lambda: optimizer(adam(mask=gn.optim.labels({gn.PathContains("weight"): True, ...: False}))),
    "groups": lambda: optimizer({gn.Under("layers.0"): adam(), gn.PathIn("layers.1.bias"): None, ...: adam()}),
    "filters": lambda: optimizer(
        adam(), gn.All(gn.Any(gn.ParamState, "tag"), gn.Not(gn.Under("layers.1", shared=False)), True)
    ),
    "nothing": lambda: optimizer(adam(), gn.Any(gn.Any(False, gn.OfType(gn.ParamState | gn.BatchState)), "tag")),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_made_by_call_come_back(name: str):
    """Transformation, filters and layout: the structure of an optimizer says what it is made of."""
    graphdef = gn.graphdef(OPTIMIZERS[name]())
    VALIDATOR.validate(json.loads(graphdef.to_json()))
    assert again(graphdef) is graphdef


FAULTY_VALUES: dict[str, tuple[str, Any, str]] = {
    "factory": ("tx", {"call": ["system", {}]}, "no factory is named 'system'; import optax or register it first"),
    "parameter": ("tx", {"call": ["sgd", {"rate": 1}]}, "sgd has no parameter 'rate'"),
    "argument": ("tx", {"call": ["sgd", {}]}, "sgd: sgd.__init__() missing 1 required keyword-only argument"),
    "no call": ("tx", {"call": "sgd"}, "a call is the name of a factory and its arguments"),
    "groups": ("tx", {"groups": [[], [1]]}, "there is one value for each filter"),
    "class": (
        "wrt",
        {"filter": {"class": ["os.system"]}},
        "no class of nodes or States is 'os.system'; import it first",
    ),
    "path": ("wrt", {"filter": {"paths": ["a b"], "missing_ok": True}}, "path 'a b' does not parse: expected a dot"),
    "filter": ("wrt", {"filter": {"eval": "1"}}, "not a valid filter"),
    "layout": ("layout", {"layout": {}}, 'not a layout: expected an object with "graphnode": 1'),
}


@pytest.mark.parametrize("name", FAULTY_VALUES)
def test_each_fault_of_an_optimizer_is_told(name: str):
    """With its place; nothing is looked up but what optax and the program have for files."""
    field, value, fault = FAULTY_VALUES[name]
    data = json.loads(gn.graphdef(OPTIMIZERS["schedule"]()).to_json())
    data["specs"][0]["static"][field] = value
    assert refusal(json.dumps(data))[0].startswith(f"specs[0].static.{field}: {fault}")


def is_any(path: gn.Path, state: gn.State[Any]) -> bool:
    return True


def test_optimizers_made_by_hand_and_functions_have_no_json():
    """What no file can say is refused when it is written."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.graphdef(optimizer(optax.sgd(0.1), is_any)).to_json()
    assert [fault.partition(" has no ")[0] for fault in caught.value.faults] == [
        "Optimizer.tx: a GradientTransformationExtraArgs",
        "Optimizer.wrt: the filter is_any is a function",
    ]


def test_nothing_is_imported():
    """A name of a module that is not imported stays a name."""
    data = written()
    data["classes"][0] = "antigravity.Node"
    known = set(sys.modules)
    assert refusal(json.dumps(data))[0].startswith("classes[0]: no class of nodes or States is 'antigravity.Node'")
    assert set(sys.modules) == known
