"""Files into configs: three formats, sharing, includes, places, depth, size; and that no text does anything else."""

import functools
import json
import math
import operator
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

import graphnode as gn
from graphnode.config._json import JsonReader
from graphnode.config._toml import TomlReader
from graphnode.config._yaml import YamlReader
from tests.config.nets import Conv, Net, Noisy
from tests.work import calls_of

YAML = """\
name: a net
scale: 2.5
blocks:
- {type: Dense, width: 3, mode: exact}
- {type: Conv, window: {size: 3, pads: [1, 2]}, dtype: bfloat16, color: blue}
table:
  x.y: {type: Dense, act: gelu}
next: {name: inner, facts: [1, true, a, [null]]}
"""
JSON = json.dumps(yaml.safe_load(YAML), indent=1)
TOML = """\
name = "a net"
scale = 2.5

[[blocks]]
type = "Dense"
width = 3
mode = "exact"

[[blocks]]
type = "Conv"
window = {size = 3, pads = [1, 2]}
dtype = "bfloat16"
color = "blue"

[table."x.y"]
type = "Dense"
act = "gelu"

[next]
name = "inner"
facts = [1, true, "a"]
"""


def loads(text: str, cls: type[gn.Node] = Net, format: str = "yaml") -> Any:
    return gn.config.loads(text, cls, format=format)


def faults(text: str, format: str = "yaml") -> list[str]:
    with pytest.raises(gn.ConfigError) as caught:
        loads(text, format=format)
    return list(caught.value.faults)


# Formats


def test_formats_say_the_same():
    """The same model in YAML, JSON and TOML gives equal configs."""
    from_yaml, from_json, from_toml = loads(YAML), loads(JSON, format="json"), loads(TOML, format="toml")
    assert from_yaml == from_json
    assert from_toml != from_json  # TOML has no null
    from_toml.next.facts = (1, True, "a", (None,))
    assert from_yaml == from_toml
    assert [type(block).__name__ for block in from_yaml.blocks] == ["DenseConfig", "ConvConfig"]


def test_suffix_says_the_format(tmp_path: Path):
    """A file is read by its suffix, in capitals too."""
    texts = {"a.yaml": YAML, "a.yml": YAML, "a.JSON": JSON}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert all(gn.config.load(tmp_path / name, Net) == loads(YAML) for name in texts)


def test_a_mark_of_byte_order_is_no_part_of_the_text(tmp_path: Path):
    """UTF-8 that starts with a byte order mark is read as any."""
    for name, text in {"a.yaml": "name: ä", "a.json": '{"name": "ä"}', "a.toml": 'name = "ä"'}.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert gn.config.load(tmp_path / name, Net).name == "ä"


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n\n  # at all", "---\n", "--- # nothing\n...\n", "\ufeff"])
def test_an_empty_file_says_nothing(text: str, tmp_path: Path):
    """As `{}` does, also where it is included; a file that says null says something."""
    (tmp_path / "empty.yaml").write_text(text)
    (tmp_path / "including.yaml").write_text("include: empty.yaml\nname: a\n")
    assert gn.config.load(tmp_path / "empty.yaml", Net) == loads("{}")
    assert gn.config.load(tmp_path / "including.yaml", Net) == loads("name: a")
    with pytest.raises(gn.ConfigError, match="size: Noisy needs 'size'"):
        gn.config.load(tmp_path / "empty.yaml", Noisy)


def test_an_empty_text_is_one_of_its_format():
    """TOML has empty ones, and JSON has not; null is not a mapping anywhere."""
    assert loads("", format="toml") == loads("{}", format="json")
    for text, format, fault in [
        ("", "json", "1:1: a value is expected, found the end"),
        ("null", "json", "expected Net, found null"),
        ("null", "yaml", "expected Net, found null"),
        ("~", "yaml", "expected Net, found null"),
        ("''", "yaml", "expected Net, found str ''"),
    ]:
        with pytest.raises(gn.ConfigError) as caught:
            loads(text, format=format)
        assert str(caught.value) == fault


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1.", 1.0), (".5", 0.5), ("-.inf", -math.inf), ("0x1F", 31), ("0o17", 15), ("017", 17),
        ("no", "no"), ("on", "on"), ("12:30:45", "12:30:45"), ("2001-12-14", "2001-12-14"), ("1_000", "1_000"),
        ("~", None), ("True", True), ("'1'", "1"), ("!!str 1", "1"), ("!!int '1'", 1), ("!!float 1", 1.0),
        ("!!null ''", None), ("'<<'", "<<"), ("<<", "<<"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object):
    """Numbers are numbers, words are strings, and a tag of YAML's own core holds where it fits."""
    found = loads(f"facts: {text}").facts
    assert (type(found), found) == (type(value), value)


JSON_TEXT = st.characters(exclude_categories=["Cs"])
JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(JSON_TEXT),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(JSON_TEXT), inner),
)


@given(JSON_DATA, st.sampled_from([None, 1]), st.booleans())
def test_json_is_read_as_the_json_module_reads_it(data: Any, indent: int | None, ascii_only: bool):
    """Any data that is written comes back, and each item of it has a place."""
    reader = JsonReader(text := json.dumps(data, indent=indent, ensure_ascii=ascii_only))
    assert repr(reader.root) == repr(json.loads(text))
    assert reader.faults == []
    lines = text.split("\n")
    for held in _containers(reader.root):
        for key in held if isinstance(held, dict) else range(len(held)):
            line, column, _ = reader.locate(reader.nodes[id(held)], key, of_key=False)
            assert lines[line - 1][column - 1 :].startswith(json.dumps(held[key], ensure_ascii=ascii_only)[:1])


def _containers(data: Any) -> list[Any]:
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    own = [data] if isinstance(data, dict | list) else []
    return own + [one for item in inner for one in _containers(item)]


@settings(max_examples=1_000)
@given(st.text('[]{},:"\\a01.e-+ \ntruefalsn', max_size=12) | st.lists(st.sampled_from('[]{},:1" ')).map("".join))
@example('{"a":}')
@example("[1,]")
@example('{"a":1,}')
@example("[1}")
def test_json_is_refused_where_the_json_module_refuses_it(text: str):
    """Any text: the same data, or a fault; apart from NaN and repeated keys, which are faults here."""

    def refuse(_: str) -> None:
        raise ValueError

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError
        return dict(pairs)

    reader = JsonReader(text)
    try:
        data = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except ValueError:
        assert reader.faults
    else:
        assert (reader.root, reader.faults) == (data, [])


# Sharing


def test_anchors_and_ids_share():
    """An alias, or a ref to an id, is the same config; also before the id, and over cycles."""
    by_anchor = loads("first: &d {type: Dense}\nblocks: [*d, {type: Dense}]\nnext: {first: *d}")
    by_id = loads("first: {ref: d}\nblocks: [{type: Dense, id: d}, {type: Dense}]\nnext: {first: {ref: d}}")
    assert by_anchor.first is by_anchor.blocks[0] is by_anchor.next.first
    assert by_anchor.first is not by_anchor.blocks[1]
    assert by_anchor == by_id
    cycle = loads("id: root\nnext: {next: {ref: root}}")
    assert cycle.next.next is cycle
    assert cycle == loads("&r\nnext: {next: *r}")


def test_equality_sees_sharing():
    """One config twice is not two equal ones, and an empty list is neither null nor a list of null."""
    shared = loads("blocks: [&d {type: Dense}, *d]")
    apart = loads("blocks: [{type: Dense}, {type: Dense}]")
    assert shared != apart
    assert apart != shared
    dense = "{type: Dense}"
    texts = ("{}", "pair: [null, null]", f"pair: [{dense}, null]", f"pair: [null, {dense}]", f"table: {{a: {dense}}}")
    configs = [loads(text) for text in texts]
    assert [[one == other for one in configs] for other in configs] == [
        [at == by for at in range(len(configs))] for by in range(len(configs))
    ]


def test_merge_keys_take_fields():
    """`<<` takes the fields of other mappings, the first ones first, and own fields win; the node is another one."""
    made = loads(
        "first: &a {type: Dense, width: 2}\nblocks:\n- {<<: *a, width: 3}\n- {<<: [{mode: exact}, *a]}\n- <<: *a"
    )
    assert [(block.width, block.mode) for block in made.blocks] == [(3, "fast"), (2, "exact"), (2, "fast")]
    assert made.blocks[2] is not made.first


# fmt: off
MERGED = {
    "{first: {width: 2}}": 0,
    "{first: &f {width: 2}}": 1,
    "{first: !!map &f {width: 2}}": 1,
    "{first: *d}": 1,
    "{first: {&k width: 2}}": 0,
    "\n  first:\n    &k width: 2": 0,
    "\n  first: &f\n    width: 2": 1,
    "\n  first:\n    &f\n    width: 2": 1,
    "{blocks: [{width: 2}]}": 0,
    "{blocks: &f [{width: 2}]}": 2,
    "{blocks: [&f {width: 2}]}": 1,
    "{next: {next: {blocks: [{width: 2}]}}}": 0,
    "{next: {next: {blocks: [&f {width: 2}]}}}": 1,
    "{next: {<<: {first: {width: 2}}}}": 0,
    "{next: {<<: {first: *d}}}": 1,
    "{next: {<<: *d, width: 4}}": 0,
}
# fmt: on


def containers(value: Any) -> dict[int, Any]:
    """A list or mapping and all in it, by their ids."""
    if not isinstance(value, (list, dict)):
        return {}
    below = [containers(child) for child in (value.values() if isinstance(value, dict) else value)]
    return functools.reduce(operator.or_, below, {id(value): value})


@pytest.mark.parametrize("start", ["", "\ufeff", f"deep: {'[' * 1_100}{']' * 1_100}\n"], ids=["plain", "mark", "deep"])
@pytest.mark.parametrize("merged", MERGED)
def test_what_is_merged_is_other_nodes_unless_it_has_an_anchor(merged: str, start: str):
    """`<<` repeats what a mapping says; an anchor or alias in there ties nodes, as it does elsewhere."""
    text = f"note: äÿ𝄞\r\nd: &d {{width: 3}}\nb: &b {merged}\nmore: [{{<<: *b}}, {{<<: *b}}]\n"
    reader = YamlReader(start + text)
    one, other = reader.root["more"]
    assert reader.faults == []
    assert one == other
    assert len(containers(one).keys() & containers(other).keys()) == MERGED[merged]


def test_merges_of_merges_need_no_recursion():
    """A chain of 3,000 mappings, each of which merges the one before, is read."""
    lines = ["b0: &b0 {type: Dense, width: 7}"]
    lines += [f"b{n}: &b{n} {{<<: *b{n - 1}}}" for n in range(1, 3_000)]
    made = loads("table:\n" + "".join(f"  {line}\n" for line in reversed(lines[::-1])))
    assert {block.width for block in made.table.values()} == {7}


# Includes


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes files, and gives the first."""

    def write(**texts: str) -> Path:
        paths = [tmp_path / name.replace("__", "/").replace("_", ".") for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return paths[0]

    return write


def test_included_fields_stand_behind_own_ones(tree: Callable[..., Path]):
    """The fields of an included file are taken where the file itself says nothing; formats mix, includes nest."""
    path = tree(
        model_yaml="next: {include: part/net.json, name: own}\nblocks: [{include: part/dense.toml}]",
        part__net_json='{"include": "more.yaml", "scale": 3.0}',
        part__more_yaml="name: more\nscale: 4.0\nfirst: {include: dense.toml, width: 9}\n",
        part__dense_toml='type = "Dense"\nwidth = 5\nmode = "exact"\n',
    )
    made: Any = gn.config.load(path, Net)
    assert (made.next.name, made.next.scale, made.next.first.width, made.next.first.mode) == ("own", 3.0, 9, "exact")
    assert made.blocks[0].width == 5


def test_faults_of_included_files_have_their_places(tree: Callable[..., Path], tmp_path: Path):
    """A fault stands in the file that says it: also where several includes are nested."""
    path = tree(
        model_yaml="next:\n  include: part/net.json\n  name: 1\n",
        part__net_json='{"include": "more.yaml",\n "scale": "x"}',
        part__more_yaml="name: 2\nscale: y\nfacts: {}\nfirst: {include: dense.toml}\n",
        part__dense_toml='type = "Dense"\n\nwidth = 0\n',
    )
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.load(path, Net)
    assert str(caught.value).replace(str(tmp_path), "DIR").splitlines() == [
        "DIR/model.yaml:3:9: next.name: Input should be a valid string, found int 1",
        "DIR/part/dense.toml:3:1: next.first.width: Input should be greater than 0, found int 0",
        "DIR/part/more.yaml:3:8: next.facts: a mapping says its class here, with `type`, as the field does not",
        "DIR/part/net.json:2:11: next.scale: Input should be a valid number, found str 'x'",
    ]


def test_ids_hold_in_their_file_and_below(tree: Callable[..., Path]):
    """A file that is included twice gives two nodes; it may refer to the ids of the file that includes it."""
    path = tree(
        model_yaml="first: {type: Dense, id: d}\nnext: {include: a.yaml, next: {include: a.yaml}}\n",
        a_yaml="blocks: [{type: Dense, id: own}, {ref: own}, {ref: d}]\n",
    )
    made: Any = gn.config.load(path, Net)
    outer, inner = made.next, made.next.next
    assert outer.blocks[0] is outer.blocks[1]
    assert inner.blocks[0] is inner.blocks[1] is not outer.blocks[0]
    assert made.first is outer.blocks[2] is inner.blocks[2]


# Places


def test_places_of_a_large_file_are_exact():
    """One fault in every tenth of 2,000 blocks, in each format: line and column of each."""
    rows = [{"type": "Dense", "width": -1 if n % 10 == 7 else n + 1} for n in range(2_000)]
    as_yaml = "blocks:\n" + "".join(f"- type: Dense\n  width: {row['width']}\n" for row in rows)
    as_toml = "".join(f'[[blocks]]\ntype = "Dense"\nwidth = {row["width"]}\n' for row in rows)
    wrong = range(7, 2_000, 10)
    told = "Input should be greater than 0, found int -1"
    assert faults(as_yaml) == [f"{2 * n + 3}:10: blocks.{n}.width: {told}" for n in wrong]
    assert faults(json.dumps({"blocks": rows}, indent=1), "json") == [
        f"{4 * n + 5}:13: blocks.{n}.width: {told}" for n in wrong
    ]
    assert faults(as_toml, "toml") == [f"{3 * n + 3}:1: blocks.{n}.width: {told}" for n in wrong]


def test_place_of_a_toml_table_below_an_array_of_the_same_name():
    """`[[a.a]]` is the array in the open table of `[[a]]`, not a second `[[a]]`."""
    reader = TomlReader("[[a]]\n[[a.a]]\nb = 1\n")
    table = reader.root["a"][0]["a"][0]
    assert reader.locate(reader.nodes[id(table)], "b", of_key=True).line == 3


def test_places_of_toml_follow_its_headers():
    """A key that stands in many tables has the place of its own."""
    text = (
        'name = "a"\n[next]\nname = 1\n[next.next]\nname = 2\nnext.next.name = 3\n'
        '[table."a.b"]\ntype = "Dense"\n  width = 0\n[[next.blocks]]\ntype = "Dense"\nwidth = 0\n'
    )
    string = "Input should be a valid string, found int"
    positive = "Input should be greater than 0, found int 0"
    assert faults(text, "toml") == [
        f"3:1: next.name: {string} 1",
        f"5:1: next.next.name: {string} 2",
        f"6:1: next.next.next.next.name: {string} 3",
        f'9:3: table."a.b".width: {positive}',
        f"12:1: next.blocks.0.width: {positive}",
    ]


# Depth and size


def chain(depth: int) -> str:
    return '{"next": ' * depth + '{"name": "end"}' + "}" * depth


@pytest.mark.slow
@pytest.mark.parametrize("format", ["yaml", "json"])
def test_depth_of_5000_loads_builds_and_compares(format: str):
    """Nested in the file: nothing recurses, up to the graphdef of what is built and back."""
    made = loads(chain(5_000), format=format)
    assert made == loads(chain(5_000), format="json")
    assert made != loads(chain(4_999), format="json")
    model = gn.config.build(made)
    assert gn.config.to_config(model) == gn.config.to_config(gn.config.build(gn.config.to_config(model)))
    assert len(repr(made)) < 100_000  # it ends with dots


def test_depth_of_5000_by_refs():
    """A chain of refs in a flat table is as deep as a nested one."""

    class Link(gn.Node):
        next: "Link | None" = None
        all: "list[Link]" = gn.subnode(default_factory=list)

    gn.schema(Link)
    lines = [f"- {{id: n{n}, next: {{ref: n{n + 1}}}}}" for n in range(5_000)]
    made = loads("next: {ref: n0}\nall:\n" + "\n".join([*lines, "- {id: n5000}"]), Link)
    model: Any = gn.config.build(made)
    assert model.next.next.next is model.all[2]
    assert gn.graphdef(gn.config.build(gn.config.to_config(model))) is gn.graphdef(model)


def blocks(count: int) -> str:
    return "blocks:\n" + "- type: Conv\n  width: 3\n  color: blue\n  shape: [1, 2, 3]\n" * count


@pytest.mark.no_runtime_types
def test_work_is_linear_in_the_number_of_nodes():
    """Each node costs the same number of calls, for 100 nodes and for 1,000; so do comparisons of configs."""
    small, large = blocks(100), blocks(1_000)
    gn.config.config_of(Conv)
    loads(small)
    once = calls_of(lambda: loads(small))
    assert once < 600 * 100
    assert calls_of(lambda: loads(large)) < 10.5 * once
    pairs = [(loads(text), loads(text)) for text in (small, large)]
    few, many = (calls_of(functools.partial(operator.eq, *pair)) for pair in pairs)
    assert many < 10.5 * few


# Any text


VALID = (YAML, JSON, TOML, "first: &d {type: Dense}\nblocks: [*d]\n", "id: a\nnext: {ref: a}\n")
PIECES = (*"{}[]\n'#\t\0", '"', "&a ", "*a", "<<: ", "!!int ", "- ", ": ", "id: ", "ref: ")


def mutated(rng: random.Random, text: str) -> str:
    for _ in range(rng.randrange(1, 5)):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        piece = rng.choice((*PIECES, text[at:to], chr(rng.randrange(0x110000))))
        text = text[:at] + piece + text[rng.choice((at, to)) :]
    return text


def is_read(text: str, format: str) -> None:
    """The text gives a config that can be printed, compared and built, or a ConfigError with faults."""
    try:
        made = loads(text, format=format)
    except gn.ConfigError as error:
        assert all(error.faults), "a fault without a text"  # noqa: PT017  # nothing else may come out
    else:
        assert isinstance(made, gn.config.Config)
        assert made == made  # also of what is cyclic
        assert repr(made)


@given(st.text(), st.sampled_from(["yaml", "json", "toml"]))
@example("\ud800", "yaml")
@example("\ud800", "json")
@example("%YAML 1.1\n---\n!!map {}", "yaml")
def test_any_text_is_read_or_refused(text: str, format: str):
    """Whatever the letters: a config or a ConfigError."""
    assert calls_of(lambda: is_read(text, format)) < 1_000_000


@pytest.mark.slow
@settings(max_examples=500)
@given(st.randoms(use_true_random=False), st.sampled_from(VALID), st.sampled_from(["yaml", "json", "toml"]))
def test_any_changed_file_is_read_or_refused(rng: random.Random, text: str, format: str):
    """Pieces taken out of good files, put elsewhere, or put in: a config or a ConfigError."""
    mutant = mutated(rng, text)
    assert calls_of(lambda: is_read(mutant, format)) < 1_000_000


SCALAR = st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | st.sampled_from(["Dense", "a", "relu", ""])
FIELDS = list(gn.config.config_of(Net).model_fields)
DATA = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*FIELDS, "type", "id", "ref", "width", "window", "shape", "size"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*FIELDS, "id"]), DATA, max_size=4))
def test_any_data_is_validated_or_refused(data: dict[str, Any]):
    """Data of any form in any place: a config or a ConfigError."""
    try:
        made = gn.config.validate(data, Net)
    except gn.ConfigError:
        return
    assert repr(made)


@pytest.mark.parametrize(("quotes", "others"), [('"' * 3, "'" * 3), ("'" * 3, '"' * 3)])
def test_a_key_in_a_text_over_several_lines_is_no_key(quotes: str, others: str):
    """A fault has the line of the key in TOML, and not that of a line in a text which looks like it."""

    class Noted(gn.Node):
        note: str
        width: int

    text = f'# {others}\nnote = {quotes}\nwidth = 3 {others}\n[a]\n{quotes}\nwidth = "x"\n'
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads(text, Noted, format="toml")
    assert str(caught.value) == "6:1: width: Input should be a valid integer, found str 'x'"
