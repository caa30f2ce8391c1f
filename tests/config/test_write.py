"""Writing configs: what is written, that it is read back as it was, what differs, and what a change by path does."""

import copy
import dataclasses
import enum
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import graphnode as gn
from graphnode import static, subnode
from graphnode.config import MISSING, Change, Config, config_of, diff, dump, loads, override, validate
from graphnode.config._read import Files
from graphnode.config._yaml_text import flow, scalar

FORMATS: tuple[Literal["yaml", "json"], ...] = ("yaml", "json")


class Mode(enum.Enum):
    FAST = "fast"
    EXACT = "exact"


class Layer(gn.Node):
    width: int
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.relu)
    dtype: jax.typing.DTypeLike = static(default=jnp.float32)


class Wide(Layer):
    factor: float = 1.0


class Net(gn.Node):
    first: Layer
    second: Layer | None = None
    table: dict[str, list[Layer]] = subnode(default_factory=dict[str, list[Layer]])
    pair: tuple[Layer, Layer] | None = None
    mode: Mode = Mode.FAST
    sizes: tuple[int, ...] = ()
    text: str = ""
    other: "Net | None" = None


def net(text: str = "{first: {width: 1}}") -> Config[Net]:
    return loads(text, Net)


def data_of(text: str) -> Any:
    """What a text says, by the reader of files."""
    files = Files()
    document = files.read_text(text, "", "yaml")
    assert files.faults == []
    return document.root


# Text


def test_only_what_differs_from_the_defaults_is_written():
    """Defaults are left out, unless they are asked for."""
    config = net("{first: {width: 1, act: gelu}, mode: exact, sizes: [1, 2]}")
    assert dump(config) == ("type: Net\nfirst:\n  type: Layer\n  width: 1\n  act: gelu\nmode: exact\nsizes: [1, 2]")
    assert dump(config, defaults=True) == (
        "type: Net\n"
        "first:\n  type: Layer\n  width: 1\n  act: gelu\n  dtype: float32\n"
        'second: null\ntable: {}\npair: null\nmode: exact\nsizes: [1, 2]\ntext: ""\nother: null'
    )


def test_a_shared_config_is_written_once():
    """Where it is met first it has an id, which is its path; the other places refer to it."""
    config = net("{first: {id: a, width: 1}, second: {ref: a}, table: {x: [{ref: a}, {width: 2}]}}")
    assert dump(config) == (
        "type: Net\n"
        "first:\n  type: Layer\n  id: first\n  width: 1\n"
        "second: {ref: first}\n"
        "table:\n  x:\n    - {ref: first}\n    - type: Layer\n      width: 2"
    )


def test_a_cycle_is_written():
    """The root has the name of its class for an id."""
    config = net()
    config.other = config
    assert dump(config) == "type: Net\nid: Net\nfirst:\n  type: Layer\n  width: 1\nother: {ref: Net}"
    assert loads(dump(config), Net) == config


def test_json_is_written_too():
    """By format, or by the suffix of a file; each is read back."""
    config = net('{first: {id: a, width: 1}, second: {ref: a}, text: "x\\ny", table: {k: []}}')
    text = dump(config, format="json")
    assert text == (
        '{\n  "type": "Net",\n  "first": {\n    "type": "Layer",\n    "id": "first",\n    "width": 1\n  },\n'
        '  "second": {"ref": "first"},\n  "table": {"k": []},\n  "text": "x\\ny"\n}'
    )
    assert loads(text, Net, format="json") == config == loads(dump(config), Net)


def test_a_file_is_written(tmp_path: Path):
    """With a newline at its end; the suffix says the format."""
    config = net()
    for name, first in (("net.yaml", "type: Net"), ("net.json", "{")):
        text = dump(config, tmp_path / name)
        assert (tmp_path / name).read_text() == text + "\n"
        assert text.splitlines()[0] == first
        assert gn.config.load(tmp_path / name, Net) == config


def test_a_deep_config_stays_small():
    """Deep levels stand on one line, so that the text grows with the nodes and not with their square."""
    for format in FORMATS:
        lengths: list[int] = []
        for depth in (100, 200, 300):
            config = net("{first: {width: 1}, other: " * depth + "null" + "}" * depth)
            written = dump(config, format=format)
            assert loads(written, Net, format=format) == config
            lengths.append(len(written))
        assert lengths[2] - lengths[1] == lengths[1] - lengths[0]


class Real(gn.Node):
    number: float = 0.0
    numbers: tuple[float, ...] = ()
    table: dict[str, "Real"] = subnode(default_factory=dict)


def test_json_has_no_infinities():
    """All of them are told by path; YAML has them, also where it is so deep that it stands on one line."""
    config = validate({"number": float("inf"), "table": {"ä.\U0001f600": {"numbers": [1.0, float("nan")]}}}, Real)
    with pytest.raises(gn.ConfigError) as caught:
        dump(config, format="json")
    assert caught.value.faults == (
        "number: JSON has no .inf: write YAML (format='yaml'), which has it",
        "table.\"ä.\U0001f600\".numbers: JSON has no .nan: write YAML (format='yaml'), which has it",
    )
    for _ in range(30):
        config = validate({"table": {"ä.\U0001f600": config}}, Real)
    assert diff(loads(dump(config), Real), config) == ()


def test_values_without_a_name_are_all_told():
    """No file can say a function that is not registered; nothing is written."""
    config = net("{first: {width: 1}, second: {width: 2}}")
    config.first.act = config.second.act = lambda x: x
    with pytest.raises(gn.ConfigError) as caught:
        dump(config)
    name = "test_values_without_a_name_are_all_told.<locals>.<lambda>"
    remedy = "has no name: register it with gn.config.register(name, value)"
    assert caught.value.faults == (f"first.act: {name} {remedy}", f"second.act: {name} {remedy}")


@hypothesis.given(st.text() | st.from_regex(r"[-+.0-9eExoa-fA-F:~<]{1,8}|(true|no|null|on|inf|nan)", fullmatch=True))
def test_any_string_is_read_back(text: str):
    """As a value, as a key and in a list, whatever YAML would make of it without quotes."""
    text = text.encode("utf-8", "ignore").decode()  # no lone surrogates: a file has none
    assert data_of(f"a: {scalar(text)}\n{scalar(text)}: 1\n" if text != "a" else "a: a")["a"] == text
    assert data_of(f"- {flow([text, {'k': text}])}") == [[text, {"k": text}]]


@hypothesis.given(st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_any_number_is_read_back(value: object):
    """With its type; other readers of YAML 1.1 agree on numbers too."""
    read = data_of(f"a: {scalar(value)}")["a"]
    assert (type(read), read) == (type(value), value)
    if isinstance(value, int) and abs(value) < 10**15:
        assert yaml.safe_load(scalar(value)) == value


class Part(gn.Node):
    size: int = 1


class Whole(gn.Node):
    part: Part
    parts: dict[str, list[Part]] = subnode(default_factory=dict[str, list[Part]])


def test_classes_of_one_name_are_written_so_that_they_are_read():
    """With their modules, where the place of the node admits both."""
    twins: list[type[Part]] = [type("Double", (Part,), {"__module__": f"doubles_{at}"}) for at in "ab"]
    part, other = (config_of(cls)() for cls in twins)
    config = validate({"part": part, "parts": {"x": [other]}}, Whole)
    text = dump(config)
    assert "part:\n  type: doubles_a.Double\n" in text
    assert "type: doubles_b.Double" in text
    assert loads(text, Whole) == config


# Differences


def test_differences_are_told_by_path():
    """Values, types, references, and what only one of two has."""
    one = net("{first: {id: a, width: 1}, second: {ref: a}, sizes: [1]}")
    other = net("{first: {type: Wide, width: 1}, second: {width: 1}, sizes: [1, 2], mode: exact}")
    assert [str(change) for change in diff(one, other)] == [
        "first.factor: MISSING -> 1.0",
        "first.type: Layer -> Wide",
        "mode: fast -> exact",
        "second: {ref: first} -> MISSING",
        "second.act: MISSING -> relu",
        "second.dtype: MISSING -> float32",
        "second.type: MISSING -> Layer",
        "second.width: MISSING -> 1",
        "sizes: [1] -> [1, 2]",
    ]
    assert diff(one, other)[0] == Change(("first", "factor"), MISSING, 1.0)
    assert diff(one, one) == ()


def test_missing_prints_as_its_public_name_and_stays_itself():
    """`MISSING` prints without its private class, and is the same object in a copy and a pickle of a difference."""
    assert (str(MISSING), repr(MISSING), f"{MISSING}") == ("MISSING",) * 3
    change = Change(("width",), MISSING, 1)
    assert copy.deepcopy(change).left is MISSING
    assert pickle.loads(pickle.dumps(change)).left is MISSING


class Word(gn.Node):
    text: str


class Words(gn.Node):
    words: dict[str, Word | list[Word]]


def words(text: str) -> Config[Words]:
    return loads(text, Words)


def test_the_order_of_a_dict_is_a_difference():
    """A model may go through its nodes in that order; keys that one of the two lacks have no place in it."""
    one = words("words: {a: {text: x}, c: [], b: {text: y}}")
    other = words("words: {b: {text: y}, a: {text: x}, d: []}")
    assert one != other
    assert [str(change) for change in diff(one, other)] == [
        "words: order [a, b] -> order [b, a]",
        "words.c: [] -> MISSING",
        "words.d: MISSING -> []",
    ]
    assert [str(change) for change in diff(words("words: {a: [], b: []}"), words("words: {b: [], a: []}"))] == [
        "words: {a: [], b: []} -> {b: [], a: []}"
    ]


class Leaves(gn.Node):
    """Leaves nodes to its class."""

    one: Wide = subnode(default_factory=lambda: Wide(3))
    inner: Word | None = subnode(default_factory=lambda: Word("a"))
    many: list[Word] = subnode(default_factory=lambda: [Word("a"), Word("b")])
    unknown: gn.nn.MultiHeadAttention = subnode(default_factory=lambda: gn.nn.MultiHeadAttention(8, 2))


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("one: {width: 3}", ["one: (made by Leaves) -> (the same, written out)"]),
        ("one: {width: 3, factor: 2.0}", ["one.factor: 1.0 -> 2.0"]),
        ("many: [{text: a}, {text: c}]", ["many.1.text: b -> c"]),
        ("many: [{text: a}]", ["many.1.text: b -> MISSING", "many.1.type: Word -> MISSING"]),
        ("inner: null", ["inner: (made by Leaves) -> null"]),
    ],
)
def test_a_default_of_the_class_is_compared_by_what_it_is(text: str, changes: list[str]):
    """As far as the class says it; what is equal otherwise is told as such, as the configs are not."""
    one, other = loads("", Leaves), loads(text, Leaves)
    assert one != other
    assert [str(change) for change in diff(one, other)] == changes
    assert [(change.right, change.left) for change in diff(other, one)] == [(c.left, c.right) for c in diff(one, other)]


class Drawing(gn.Node):
    """Leaves nodes to its class that draw."""

    alone: gn.nn.Linear = subnode(default_factory=lambda: gn.nn.Linear(2, 2))
    many: list[gn.nn.Linear] = subnode(default_factory=lambda: [gn.nn.Linear(2, 2), gn.nn.Linear(2, 2)])
    within: gn.nn.Sequential = subnode(default_factory=lambda: gn.nn.Sequential([gn.nn.Linear(2, 2)]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("alone.use_bias=true", ["alone: (made by Drawing) -> (the same, written out)"]),
        ("many[0].use_bias=true", ["many: (made by Drawing) -> (written out: it draws other numbers)"]),
        (
            "many[0].use_bias=false",
            ["many: (made by Drawing) -> (written out: it draws other numbers)", "many.0.use_bias: true -> false"],
        ),
        ("within.layers[0].use_bias=true", ["within: (made by Drawing) -> (written out: it draws other numbers)"]),
    ],
)
def test_a_default_that_draws_otherwise_when_written_out_is_told(change: str, told: list[str]):
    """A function draws all its nodes in one go, and nodes that are written out draw by their own paths."""
    one = loads("", Drawing)
    other = override(one, [change])
    assert [str(line) for line in diff(one, other)] == told
    weight = change.rpartition(".")[0].replace("[0]", ".0") + ".weight"
    drawn, drawn_again = [gn.states(gn.config.build(config), gn.PathIn(weight)).values() for config in (one, other)]
    is_same = all((state.value == again.value).all() for state, again in zip(drawn, drawn_again, strict=True))
    assert is_same is ("the same" in told[0])


class Array(gn.Node):
    """What a file says for it is an array of JAX; a program may give another."""

    data: jax.Array = static()


def redefined() -> Any:
    class Again(gn.Node):
        number: int = 1

    return config_of(Again)()


def test_what_a_file_says_alike_is_a_difference_all_the_same():
    """As the configs are not equal; the two sides print differently."""
    of: Any = config_of(Array)
    one, weak = of(data=np.ones((2, 1), np.float32)), of(data=jnp.asarray(1.0))
    (change,) = diff(one, of(data=jnp.ones((2, 1))))
    assert str(change) == "data: array([[1.], [1.]], dtype=float32) -> Array([[1.], [1.]], dtype=float32)"
    (change,) = diff(weak, of(data=jnp.float32(1)))
    assert str(change) == "data: Array(1., dtype=float32, weak_type=True) -> Array(1., dtype=float32)"
    (change,) = diff(redefined(), redefined())
    left, _, right = str(change).removeprefix("type: ").partition(" -> ")
    assert left != right
    assert diff(one, of(data=np.ones((2, 1), np.float32))) == ()


def test_a_default_that_nothing_is_known_of_is_told_as_left_out():
    """Its factory may have said what the class computes."""
    changes = diff(loads("", Leaves), loads("unknown: {width: 8, num_heads: 2}", Leaves))
    assert str(changes[0]) == "unknown: (made by Leaves) -> MISSING"


@dataclasses.dataclass(frozen=True)
class Source:
    path: str
    seed: int | None = None
    limit: int | None = 3


class Sources(gn.Node):
    source: Source = static(default=Source("a"))
    others: tuple[Source, ...] = static(default=())
    maybe: Source | None = static(default=None)


def test_toml_leaves_out_null_where_it_is_the_default():
    """It has no null; of a record whose default is another one, it is an error."""
    config = loads("{source: {path: b, seed: null}, others: [{path: c}, {path: d, seed: 1}]}", Sources)
    text = dump(config, format="toml", defaults=True)
    assert "seed" in text
    assert loads(text, Sources, format="toml") == config
    with pytest.raises(gn.ConfigError) as caught:
        dump(override(config, ["source.limit=null"]), format="toml")
    assert caught.value.faults == ("source: TOML has no null: write YAML (format='yaml'), which has it",)


def test_toml_says_where_it_changes_the_order():
    """It has tables behind what stands on one line."""
    config = words("words: {a: {text: x}, b: []}")
    with pytest.raises(gn.ConfigError) as caught:
        dump(config, format="toml")
    text = "TOML would give order [b, a] in place of order [a, b]: write YAML (format='yaml'), which keeps it"
    assert caught.value.faults == (f"words: {text}",)
    assert loads(dump(config), Words) == config


def test_a_reference_to_the_root_has_the_name_that_a_file_gives_it():
    """The class of the model."""
    one, other = net("{first: {width: 1}}"), net("{id: a, first: {width: 1}, other: {ref: a}}")
    assert [str(change) for change in diff(one, other)] == ["other: null -> {ref: Net}"]


def test_a_number_differs_from_its_likes():
    """`1` and `1.0` and `true` are three values; NaN is itself."""
    one, other = (validate({"width": 1, "factor": value}, Wide) for value in (1.0, float("nan")))
    assert [str(change) for change in diff(one, other)] == ["factor: 1.0 -> .nan"]
    assert diff(other, validate({"width": 1, "factor": float("nan")}, Wide)) == ()


class Loose(gn.Node):
    numbers: tuple[int | float, ...]


def test_a_number_within_a_value_differs_from_its_likes():
    """As it does for `==`, which python's own comparison of tuples does not say."""
    one, other = (validate({"numbers": numbers}, Loose) for numbers in [(1, 2), (1.0, 2)])
    assert one != other
    assert [str(change) for change in diff(one, other)] == ["numbers: [1, 2] -> [1.0, 2]"]


# fmt: off
CHANGES = st.lists(
    st.sampled_from([
        "first.width=2", "first.act=gelu", "second={width: 3}", "second={type: Wide, width: 3, factor: 2}",
        "mode=exact", "table.x=[{width: 1}]", "table.y=[]", "sizes=[3]", "text=a b", "other={first: {width: 1}}",
        "second=null",
        "pair=[{width: 1}, {width: 2}]",
    ]),
    max_size=5,
)
# fmt: on


@hypothesis.given(CHANGES, CHANGES)
def test_configs_are_equal_where_they_do_not_differ(first: list[str], second: list[str]):
    """`diff` and `==` agree, and what is written of a config is that config."""
    one, other = override(net(), first), override(net(), second)
    assert (one == other) is (diff(one, other) == ())
    for format in FORMATS:
        assert loads(dump(one, format=format), Net, format=format) == one


# Changes by path


def test_a_change_leaves_the_original():
    """The copy has the same sharing and cycles."""
    config = net("{id: me, first: {id: a, width: 1}, second: {ref: a}, other: {ref: me}}")
    before = dump(config)
    made = override(config, ["first.width=5", "sizes=[7, 8]", "table.new=[{width: 3}]", "mode=exact"])
    assert dump(config) == before
    assert made.first is made.second
    assert made.other is made
    assert (made.first.width, made.sizes, made.mode) == (5, (7, 8), Mode.EXACT)
    assert made.table["new"][0].width == 3


def test_items_are_named_by_brackets_or_dots():
    """`table.x[1].width` and `table.x.1.width` are one path."""
    config = net("{first: {width: 1}, table: {x: [{width: 1}, {width: 2}]}, pair: [{width: 1}, {width: 2}]}")
    for path in ("table.x[1].width", "table.x.1.width"):
        assert dump(override(config, [f"{path}=9"])).endswith(
            "width: 9\npair:\n  - type: Layer\n    width: 1\n  - type: Layer\n    width: 2"
        )
    made = override(config, ["pair[0]={type: Wide, width: 4}", "table.x[0]={width: 8}"])
    assert [type(one) for one in made.pair or ()] == [config_of(Wide), config_of(Layer)]


def test_wrong_changes_are_all_told():
    """Each by its path, and nothing is changed."""
    config = net("{first: {width: 1}, table: {x: [{width: 1}]}}")
    before = dump(config)
    with pytest.raises(gn.ConfigError) as caught:
        override(
            config,
            ["first.wdith=3", "table.x[5].width=1", "first.width=x", "first.act=zz", "x", "second.width=3",
             "first={type: Lyaer, width: 1}", "sizes=[a]", "first.width.z=3", "text=[", "table.x[0]=3"],
        )  # fmt: skip
    assert [fault[:80] for fault in caught.value.faults] == [
        "first.wdith: Layer has no field 'wdith'; did you mean 'width'?",
        "table.x: no item 5 in a list of 1",
        "first.width: Input should be a valid integer, found str 'x'",
        "first.act: nothing is registered as 'zz'; known are celu, elu, gelu, gelu_exact,",
        "x: a change is path=value",
        "second: null has nothing inside; write the whole value, second=...",
        "first.type: unknown type 'Lyaer'; did you mean 'Layer'?",
        "sizes[0]: Input should be a valid integer, found str 'a'",
        "first.width: int 1 has nothing inside; write the whole value, first.width=...",
        "text=[: did not find expected node content (while parsing a flow node)",
        "table.x.0: expected Layer, found int 3",
    ]
    assert dump(config) == before


def test_a_shared_node_in_toml(tmp_path: Path):
    """Tables in tables; the suffix of the file chooses the format."""
    config = net("{first: {width: 1}, mode: exact, sizes: [1, 2]}")
    text = dump(config, tmp_path / "net.toml")
    assert text == 'type = "Net"\nmode = "exact"\nsizes = [\n    1,\n    2,\n]\n\n[first]\ntype = "Layer"\nwidth = 1'
    assert gn.config.load(tmp_path / "net.toml", Net) == config


@pytest.mark.wrong_types
def test_an_unknown_format_is_refused():
    """It was taken for YAML once."""
    with pytest.raises(ValueError, match=r"^format: expected one of yaml, json, toml; found 'ini'$"):
        dump(net("{first: {width: 1}}"), format="ini")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


def test_diff_tells_values_apart_that_no_file_can_say():
    """By their content: two partials of one function are two values."""

    class Act(gn.Node):
        act: Callable[..., Any] = gn.static()

    one, other, same = [Act(functools.partial(jax.nn.leaky_relu, negative_slope=slope)) for slope in (0.1, 0.5, 0.1)]
    changes = gn.config.diff(gn.config.to_config(one), gn.config.to_config(other))
    assert [change.path for change in changes] == [("act",)]
    left, right = str(changes[0]).removeprefix("act: ").split(" -> ")
    assert left != right
    assert gn.config.diff(gn.config.to_config(one), gn.config.to_config(same)) == ()


class Shared(gn.Node):
    first: "Holding"
    last: "Holding"


class Holding(gn.Node):
    drop: gn.nn.Dropout = gn.subnode(default_factory=lambda: gn.nn.Dropout(0.1))


def test_a_default_of_a_shared_node_is_opened_at_its_first_path():
    """Its other paths say nothing of it."""
    config = gn.config.loads("{first: &both {}, last: *both}", Shared)
    changes = gn.config.diff(config, gn.config.override(config, ["first.drop.rate=0.5"]))
    assert [str(change) for change in changes] == ["first.drop.rate: 0.1 -> 0.5"]
