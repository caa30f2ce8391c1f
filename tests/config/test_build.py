"""Configs into models and back: the same arrays from the same key, each node once, and the same structure again."""

import contextlib
import dataclasses
import itertools
import random
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

import graphnode as gn
from graphnode.config._build import constructor_faults
from graphnode.config._values import configurable
from tests.config.nets import Block, Color, Conv, Dense, Net, Noisy, Window


def noisy(text: str, key: int = 0) -> Any:
    return gn.config.build(gn.config.loads(text, Noisy), jax.random.key(key))


def arrays(node: gn.Node) -> dict[gn.Path, np.ndarray[Any, Any]]:
    return {path: np.asarray(state.value) for path, state in gn.states(node).items()}


def assert_same(one: dict[gn.Path, np.ndarray[Any, Any]], other: dict[gn.Path, np.ndarray[Any, Any]]) -> None:
    assert one.keys() == other.keys()
    for path, value in one.items():
        np.testing.assert_array_equal(value, other[path], strict=True)


TEXT = "{size: 2, left: {size: 3, left: {size: 4}}, right: {size: 3}}"


def test_same_key_gives_the_same_arrays():
    """Building again gives the same arrays, and another key gives others everywhere."""
    first, again, other = arrays(noisy(TEXT)), arrays(noisy(TEXT)), arrays(noisy(TEXT, 1))
    assert_same(first, again)
    assert all(not np.array_equal(first[path], other[path]) for path in first)


def test_places_draw_different_numbers():
    """Equal nodes at different paths are drawn apart, where the last or only another key differs."""
    made = noisy("{size: 3, left: {size: 3, left: {size: 3}, right: {size: 3}}, right: {size: 3, left: {size: 3}}}")
    values = list(arrays(made).values())
    assert len({value.tobytes() for value in values}) == len(values) == 6


class OneOrder(gn.Node):
    first: Noisy
    second: Noisy


class OtherOrder(gn.Node):
    second: Noisy
    first: Noisy


def test_the_order_of_fields_draws_the_same_numbers():
    """A shared node is drawn by the first of its paths by name, wherever the fields stand in the source."""
    shared = gn.config.validate({"size": 3}, Noisy)
    data = {"first": shared, "second": shared}
    one = gn.config.build(gn.config.validate(data, OneOrder), jax.random.key(0))
    other = gn.config.build(gn.config.validate(data, OtherOrder), jax.random.key(0))
    assert one.first is one.second
    np.testing.assert_array_equal(one.first.weight.value, other.first.weight.value)


class Table(gn.Node):
    items: dict[str, Noisy]
    pair: tuple[Noisy | None, Noisy | None] = gn.subnode(default=(None, None))


def test_the_order_of_a_dict_draws_the_same_numbers():
    """A shared node is drawn by the first of its keys by name, not as written."""
    shared = gn.config.validate({"size": 3}, Noisy)
    one, other = (gn.config.validate({"items": dict.fromkeys(keys, shared)}, Table) for keys in ("ab", "ba"))
    assert gn.config.dump(other).startswith("type: Table\nitems:\n  b:\n    type: Noisy\n    id: items.b\n")
    assert_same(arrays(gn.config.build(one)), arrays(gn.config.build(other)))


def test_a_key_of_a_dict_is_a_string():
    """Python's dicts may have other keys, which no path leads through: they are refused, in data and in a config."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.validate({"items": {1: {"size": 3}, None: {"size": 2}}}, Table)
    assert str(caught.value) == "items: a key is a string, found int, NoneType"
    model: Any = gn.config.config_of(Table)
    with pytest.raises(pydantic.ValidationError, match="a key is a string, found int"):
        model(items={1: gn.config.validate({"size": 3}, Noisy)})


def _with_live_node(noisy: Noisy) -> gn.config.Config[Table]:
    config = gn.config.validate({"items": {"a": {"size": 3}}}, Table)
    config.items["b"] = noisy
    return config


USES: dict[str, Callable[[gn.config.Config[Table]], object]] = {
    "build": gn.config.build,
    "dump": gn.config.dump,
    "diff": lambda config: gn.config.diff(gn.config.validate({"items": {}}, Table), config),
    "summary": gn.config.summary,
    "override": lambda config: gn.config.override(config, ["items.a.size=2"]),
}


@pytest.mark.parametrize("use", USES)
def test_what_was_put_into_a_container_of_a_config_is_looked_at(use: str):
    """A live node would be in every model that is built, and in every copy; all such faults are told by their paths."""
    config = _with_live_node(Noisy(3))
    config.pair = [None, None]
    config.pair.append(None)
    with pytest.raises(gn.ConfigError) as caught:
        USES[use](config)
    assert caught.value.faults == (
        "items.b: expected a config of Noisy, found a Noisy node; gn.config.to_config(node) makes one",
        "pair: expected tuple[Noisy | None, Noisy | None], found 3 items",
    )


def test_configs_with_live_nodes_are_equal_to_themselves_alone():
    """What a live node says of itself is not looked at."""
    one, other = _with_live_node(Noisy(3)), _with_live_node(Noisy(2))
    assert one == one
    assert one != other


def test_a_list_that_holds_itself_is_refused():
    """Where it stands in a config, as where it comes in."""
    config = gn.config.validate({"items": {}}, Table)
    config.items["a"] = config.items
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.build(config)
    assert str(caught.value) == "items.a: expected Noisy, found dict"
    assert config != gn.config.validate({"items": {}}, Table)


def test_a_change_of_one_node_leaves_the_others_alone():
    """Numbers come by path: another size, a node more or less changes no other node's."""
    first = arrays(noisy(TEXT))
    changed = arrays(noisy("{size: 2, left: {size: 9, left: {size: 4}, right: {size: 1}}, right: {size: 3}}"))
    assert_same(
        {path: value for path, value in first.items() if path != ("left", "weight")},
        {path: changed[path] for path in first if path != ("left", "weight")},
    )
    assert changed["left", "weight"].shape == (9,)


class Inner(gn.Node):
    """A node with a default of its own."""

    noisy: Noisy = gn.subnode(default_factory=lambda: Noisy(3))
    weight: gn.ParamState[Float[Array, "3"]] = gn.state(jax.nn.initializers.normal())


class Defaults(gn.Node):
    """Nodes that the class makes itself, beside a State, and a layer that takes streams."""

    decoder: Noisy = gn.subnode(default_factory=lambda: Noisy(3))
    encoder: Noisy = gn.subnode(default_factory=lambda: Noisy(3))
    inner: Inner = gn.subnode(default_factory=Inner)
    layers: list[Noisy] = gn.subnode(default_factory=lambda: [Noisy(3), Noisy(3)])
    rngs: gn.Rngs | None = None
    head: gn.ParamState[Float[Array, "3"]] = gn.state(jax.nn.initializers.normal())


def weights(text: str) -> dict[gn.Path, bytes]:
    made = gn.config.build(gn.config.loads(text, Defaults), jax.random.key(1))
    return {path: np.asarray(state.value).tobytes() for path, state in gn.states(made, gn.ParamState).items()}


@pytest.mark.parametrize(
    ("text", "drawn_anew"),
    [
        ("encoder: {size: 3}", []),
        ("decoder: {size: 2}", ["decoder.weight"]),
        ("inner: {}", []),
        ("inner: {noisy: {size: 2}}", ["inner.noisy.weight"]),
        ("layers: [{size: 3}, {size: 3}]", ["layers.0.weight", "layers.1.weight"]),
        ("rngs: {}", []),
        ("rngs: 0", []),
        ("rngs: null", []),
    ],
)
def test_what_is_said_of_one_default_changes_no_other_node(text: str, drawn_anew: list[str]):
    """Each draws by its own path, as a config in its place does; so do streams that nothing is said of."""
    left_out, given = weights(""), weights(text)
    assert given.keys() == left_out.keys()
    assert len(set(left_out.values())) == len(left_out) == 7
    assert [gn.path_str(path) for path in given if given[path] != left_out[path]] == drawn_anew


def test_each_config_is_one_node():
    """A config that is referred to in two places is built once."""
    made: Any = gn.config.build(gn.config.loads("first: &d {type: Dense}\nblocks: [*d, *d, {type: Dense}]", Net))
    assert made.first is made.blocks[0] is made.blocks[1]
    assert made.blocks[2] is not made.first


def test_cycles_are_closed_after_construction():
    """A reference back is set when there is something to refer to, in fields and in lists."""
    made: Any = gn.config.build(gn.config.loads("id: r\nnext: {next: {ref: r}}", Net))
    assert made.next.next is made


def test_cycle_that_cannot_wait_is_told():
    """A field that must hold a node cannot wait for one that is made later."""

    class Ring(gn.Node):
        next: "Ring"

    gn.schema(Ring)
    config = gn.config.loads("id: r\nnext: {next: {ref: r}}", Ring)
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.build(config)
    assert str(caught.value) == (
        "next: next refers back to a node that holds this one, so it must allow None until that is made"
    )


def test_faults_of_constructors_say_the_path():
    """An error of a constructor has a note that names the node."""
    config = gn.config.loads("{size: 2, left: {size: -3}}", Noisy)
    with pytest.raises((TypeError, ValueError)) as caught:  # of JAX
        gn.config.build(config)
    assert caught.value.__notes__ == ["while left was built from its configuration"]


def test_all_constructors_that_fail_are_found():
    """Each by itself, without arrays; one that holds a failed node is left out, and what looks at values is made."""
    text = "{blocks: [{type: Conv, window: {size: 1}}], next: {name: a}}"
    assert constructor_faults(gn.config.loads(text, Net)) == []
    noisy = gn.config.loads("{size: 2, left: {size: -3}, right: {size: 1, left: {size: -4}}}", Noisy)
    faults = constructor_faults(noisy)
    assert [visit.name for visit, _ in faults] == ["left", "right.left"]
    assert "Noisy.weight" in faults[0][1]
    assert constructor_faults(gn.config.loads("{size: 2}", Looks)) == []


class Renamed(gn.Node):
    width: Annotated[int, pydantic.Field(alias="hidden_size", gt=0)]


def test_an_alias_of_pydantic_is_refused():
    """A file, `dump`, `override` and the schema name a field as its class does."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.config_of(Renamed)
    assert str(caught.value) == (
        "Renamed.width: files name a field as its class does; take the alias out of its pydantic.Field, or rename the "
        "field"
    )


# Configs


def test_assignment_is_validated():
    """A value that the field does not take is refused, and the config is as it was."""
    model: Any = gn.config.config_of(Dense)
    config = model(width=3)
    for name, value in {"width": 0, "mode": "slow", "act": 3, "nothing": 1}.items():
        with pytest.raises(pydantic.ValidationError):
            setattr(config, name, value)
    assert config == model(width=3)
    config.width = 4
    assert config.width == 4
    net: Any = gn.config.config_of(Net)()
    with pytest.raises(pydantic.ValidationError, match=r"expected list\[Block\], found a config of Dense"):
        net.blocks = config
    net.blocks = [config]
    assert net.blocks[0] is config


class Slots(gn.Node):
    one: Dense
    two: tuple[Dense, Dense]


def test_what_stands_in_the_place_of_a_node_is_told_once():
    """Null, and a config of another class, beside other faults too."""
    block = gn.config.config_of(Conv)()
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"one": None, "two": [None, {}]}, ("one: expected Dense, found null", "two.0: expected Dense, found null")),
        (
            {"one": block, "two": [block]},
            ("one: expected Dense, found a config of Conv", "two: expected 2 items, found 1"),
        ),
    ]
    for data, faults in cases:
        with pytest.raises(gn.ConfigError) as caught:
            gn.config.validate(data, Slots)
        assert caught.value.faults == faults


def test_names_that_configs_need_are_refused():
    """A class whose fields have the names of what every config has is told, with all of them."""
    fields = {"slots": int, "node_class": int, "model_config": int, "_hidden": int, "ref": int, "copy": int}
    cls: Any = type("Odd", (gn.Node,), {"__annotations__": fields, "__module__": __name__})
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.config_of(cls)
    other = "no configuration has a field of this name; choose another"
    assert caught.value.faults == (
        f"Odd.slots: {other}",
        f"Odd.node_class: {other}",
        f"Odd.model_config: {other}",
        f"Odd._hidden: {other}",
        "Odd.ref: files use 'ref' otherwise; choose another name",
    )


def test_dtypes_are_known_names():
    """A dtype of a file is a name that JAX has; NumPy would take `null`, lists and texts that it parses."""
    model: Any = gn.config.config_of(Conv)
    assert model(dtype="bfloat16").dtype is jax.numpy.bfloat16
    assert model(dtype=np.dtype("int8")).dtype == np.dtype("int8")
    for wrong in (None, "f4", "f4,f4", "O", "M8[ns]", [("a", "f4")], 3, int.__add__):
        with pytest.raises(pydantic.ValidationError, match="is not a valid dtype"):
            model(dtype=wrong)


def test_summary_is_literal():
    """The table has a line for each State, marks what is shared, and makes no array."""
    text = "first: &d {type: Dense, width: 3}\nblocks: [*d, {type: Dense, width: 1000000000000}]\n"
    found = gn.config.summary(gn.config.loads(text, Net))
    assert repr(found) == "\n".join(
        [
            "path             class       shape                      parameters              bytes  shared with",
            "---------------------------------------------------------------------------------------------------",
            "blocks.0.weight  ParamState  f32[3]                              3                 12  first.weight",
            "blocks.1.weight  ParamState  f32[1000000000000]  1,000,000,000,000  4,000,000,000,000",
            "---------------------------------------------------------------------------------------------------",
            "Net                                              1,000,000,000,003  4,000,000,000,012",
        ]
    )


def test_summary_names_a_few_of_many_paths():
    """The shortest; all of them are in the row."""
    text = "first: &d {type: Dense, width: 3}\nblocks: [*d, *d, *d]\n"
    found = gn.config.summary(gn.config.loads(text, Net))
    (row,) = found.rows
    assert len(row.others) == 3
    assert repr(found).splitlines()[2].endswith("  first.weight, blocks.1.weight and 1 more")


# The round trip


def random_model(rng: random.Random) -> Net:
    """Nets and blocks that hold each other at random: shared, cyclic, nested, empty."""
    blocks: list[Block] = [Block(rng.randrange(1, 4)) for _ in range(2)]
    blocks += [
        Dense(rng.randrange(1, 4), act=rng.choice((jax.nn.relu, jax.nn.gelu)), mode=rng.choice(("fast", "exact")))
        for _ in range(3)
    ]
    blocks += [
        Conv(
            1,
            window=rng.choice((None, Window(1), Window(2, (1, 2)))),
            dtype=rng.choice((jax.numpy.float32, jax.numpy.bfloat16)),
            color=rng.choice(list(Color)),
            shape=rng.choice(((), (1, 2))),
        )
        for _ in range(2)
    ]
    nets = [Net(rng.choice(("net", "1", "null", "a: b")), rng.choice((1.0, -0.0, 1e300))) for _ in range(4)]
    for net in nets:
        net.blocks = [rng.choice(blocks) for _ in range(rng.randrange(4))]
        net.table = {key: rng.choice(blocks) for key in rng.sample(("a", "0", "a.b", "B"), rng.randrange(3))}
        net.first = rng.choice((None, *blocks))
        net.pair = (rng.choice((None, *blocks)), rng.choice((None, *blocks)))
        net.next = rng.choice((None, *nets))
        net.facts = rng.choice((None, 1, True, 1.0, "1", (1, ("a", True)), ()))
    return nets[0]


@given(st.randoms(use_true_random=False))
def test_config_of_a_model_builds_its_structure(rng: random.Random):
    """`build(to_config(model))` has the graphdef of the model; the config is equal to its own round trip."""
    model = random_model(rng)
    config = gn.config.to_config(model)
    built = gn.config.build(config)
    assert gn.graphdef(built) is gn.graphdef(model)
    assert gn.config.to_config(built) == config
    assert gn.GraphDef.from_json(gn.graphdef(model).to_json()) is gn.graphdef(model) if _has_names(model) else True


@given(st.randoms(use_true_random=False), st.sampled_from(["yaml", "json", "toml"]), st.booleans())
def test_a_model_comes_back_from_a_file(rng: random.Random, format: Literal["yaml", "json", "toml"], defaults: bool):
    """In each format, with its sharing and cycles; what TOML has not is told."""
    config = gn.config.to_config(random_model(rng))
    # Any fault of another kind is one of the test.
    has_null = contextlib.suppress(gn.ConfigError) if format == "toml" else contextlib.nullcontext()
    text = ""
    with has_null:
        text = gn.config.dump(config, defaults=defaults, format=format)
    assert not text or gn.config.loads(text, Net, format=format) == config


class Pair(gn.Node):
    enc: gn.nn.Linear
    dec: gn.nn.Linear


class Scale(gn.Node):
    factor: float = 1.0
    offset: gn.ParamState | None = gn.state(default_factory=lambda: gn.ParamState(jnp.zeros(2)))


class Grows(gn.Node):
    """Of which each constructor call makes more."""

    layers: list[gn.nn.Linear] = gn.subnode(default_factory=list)

    def __post_init__(self) -> None:
        self.layers.append(gn.nn.Linear(2, 2))


def linear() -> gn.nn.Linear:
    return gn.nn.Linear(2, 2, use_bias=False)


def tied() -> gn.Node:
    pair = Pair(linear(), linear())
    pair.dec.weight = pair.enc.weight
    return pair


def tagged() -> gn.Node:
    layer = linear()
    layer.weight = layer.weight.replace(tag="frozen")
    return layer


OTHERWISE = "build would make it otherwise"

UNSAID: dict[str, tuple[Callable[[], gn.Node], str]] = {
    "tied States": (tied, f"enc.weight: the object at dec.weight != ParamState: {OTHERWISE}"),
    "a tag": (tagged, f"weight: ParamState(tag='frozen') != ParamState: {OTHERWISE}"),
    "a State left out": (lambda: Scale(offset=None), f"offset: nothing != ParamState: {OTHERWISE}"),
    "a scalar of NumPy": (lambda: Scale(np.float64(0.5)), f"factor: np.float64(0.5) != 0.5: {OTHERWISE}"),
    "a constructor that adds": (Grows, f"layers.1: nothing != Linear: {OTHERWISE}"),
}


@pytest.mark.parametrize("name", UNSAID)
def test_what_a_config_cannot_say_is_an_error(name: str):
    """A model that was changed past its constructor, or whose constructor makes another one, has no config."""
    make, text = UNSAID[name]
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.to_config(make())
    assert str(caught.value) == text


class Looks(gn.Node):
    """Its constructor looks at a value."""

    size: int
    w: gn.ParamState = gn.state(init=False)

    def __post_init__(self) -> None:
        value = gn.random.normal(size=(self.size,))
        self.w = gn.ParamState(jnp.maximum(value, 0.0) if bool(value[0] > 0) else value)


def test_a_constructor_may_look_at_values():
    """Where no shapes are enough to build the model, it is built."""
    assert gn.config.dump(gn.config.to_config(Looks(3))) == "type: Looks\nsize: 3"


def _has_names(model: Net) -> bool:
    return not any(isinstance(node, Conv) for node in gn.nodes(model).values())


@given(st.integers(0, 30), st.integers(0, 30))
def test_equality_of_configs_is_that_of_structures(one: int, other: int):
    """Two configs are equal exactly where the graphdefs of their models are, and equality is symmetric."""
    models = [random_model(random.Random(seed)) for seed in (one, other)]
    left, right = (gn.config.to_config(model) for model in models)
    assert (left == right) == (right == left) == (gn.graphdef(models[0]) is gn.graphdef(models[1]))
    assert left == left


def test_summary_takes_a_live_model():
    """A live model is summarized as it is, shared nodes and plain numbers included; nothing of it changes."""

    class Tied(gn.Node):
        encoder: gn.nn.Linear
        decoder: gn.nn.Linear
        scale: gn.ShortTermState[Any]

    linear = gn.nn.Linear(2, 3)
    linear.bias = None
    assert repr(gn.config.summary(Tied(linear, linear, gn.ShortTermState(1.0)))) == (
        "path            class           shape     parameters  bytes  shared with\n"
        "---------------------------------------------------------------------------\n"
        "decoder.weight  ParamState      f32[2,3]           6     24  encoder.weight\n"
        "scale           ShortTermState  f32[]              1      4\n"
        "---------------------------------------------------------------------------\n"
        "Tied                                               7     28"
    )
    assert isinstance(linear.weight.value, jax.Array)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("value", "found"), [(3, "int 3"), (gn.nn.Linear, "the class Linear"), (gn.ParamState(1.0), "a ParamState")]
)
def test_summary_says_what_it_takes(value: Any, found: str):
    """What is neither a config nor a node is named."""
    with pytest.raises(TypeError) as caught:
        gn.config.summary(value)
    assert str(caught.value) == f"gn.config.summary takes a config or a node; found {found}"


T = TypeVar("T")
TUPLE: Any = tuple
Nested = TypeAliasType("Nested", "int | tuple[Nested, ...]")
# In an order that is the same in each process.
ALIAS_TYPES: list[Any] = list(dict.fromkeys([TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType)]))


@pytest.mark.parametrize("alias", ALIAS_TYPES, ids=lambda cls: cls.__module__)
def test_an_alias_of_a_type_is_read_as_what_it_stands_for(alias: Any):
    """Also with parameters; of one that leads back to itself, any data is taken."""
    sizes = alias("sizes", tuple[int, ...])
    pair = alias("pair", TUPLE[T, T], type_params=(T,))
    assert pydantic.TypeAdapter(configurable(sizes)).validate_python([1, 2]) == (1, 2)
    assert pydantic.TypeAdapter(configurable(pair[sizes])).validate_python([[1], [2]]) == ((1,), (2,))
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(configurable(pair[int])).validate_python([1, "a"])
    assert pydantic.TypeAdapter(configurable(Nested)).validate_python([1, [2]]) == (1, (2,))


class Paths(gn.nn.Module):
    """Whose paths are equal texts without what stands between their keys."""

    up: list[gn.nn.Linear]
    up1: gn.nn.Linear
    table: dict[str, dict[str, gn.nn.Linear]] = gn.subnode(default_factory=dict)


def test_no_two_paths_draw_the_same():
    """`up.1` is not `up1`, and `x.yz` not `xy.z`."""
    layer = "{in_size: 2, out_size: 2}"
    text = f"{{up: [{layer}, {layer}], up1: {layer}, table: {{x: {{yz: {layer}}}, xy: {{z: {layer}}}}}}}"
    node = gn.config.build(gn.config.loads(text, Paths))
    weights = [state.value.tolist() for path, state in gn.states(node).items() if path[-1] == "weight"]
    assert all(one != other for one, other in itertools.combinations(weights, 2))


def test_a_stack_is_no_model_of_a_config():
    """It has the structure of a member, which is what would come back."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.to_config(gn.stack([gn.nn.Linear(2, 3) for _ in range(4)]))
    assert caught.value.faults == (
        "bias: an array float32[4,3] != an array float32[3]: build would make it otherwise",
        "weight: an array float32[4,2,3] != an array float32[2,3]: build would make it otherwise",
    )


class Summed(gn.Node):
    """Whose constructor changes a list that it is given."""

    items: dataclasses.InitVar[list[int]]
    total: int = gn.static(init=False)

    def __post_init__(self, items: list[int]) -> None:
        items.append(1)
        self.total = sum(items)


def test_lists_of_init_variables_are_not_shared():
    """Neither with the nodes that are built, nor with copies of the config, nor with who gave it."""
    own = [5]
    summed: Any = gn.config.config_of(Summed)
    config = summed(items=own)
    own.append(2)
    gn.config.override(config, []).items.append(3)
    assert [gn.config.build(config).total for _ in range(2)] == [6, 6]
