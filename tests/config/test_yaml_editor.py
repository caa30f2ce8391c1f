"""What editors show in a YAML file of a model: yaml-language-server over stdio, with the schema of `json_schema`."""

import asyncio
import json
import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import graphnode as gn
from tests.config.family import MODEL
from tests.editors.client import AnswerError, Question, Server, Session, started

CURSOR = "¦"
MODELINE = "# yaml-language-server: $schema=./part.schema.json\n"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="yaml-language-server needs node, and there is none"
)


class Probe(NamedTuple):
    """One question.

    Args:
        code: A file; `¦` is the cursor.
        answer: All that is offered, or the beginning of what is shown.
    """

    code: str
    answer: Sequence[str]


NODE = ["id", "include", "ref", "type"]
TAGS = ["Bounded", "Chosen", "Composed", "Holder", "Named", "Sized", "part"]
BOUNDED = ["code", "count", "flag", "id", "include", "name", "scale", "step"]
CHOSEN = ["either", "id", "include", "level", "maybe", "mode", "only", "order"]
HOLDER = ["alone", "any_of", "by_name", "either", "id", "include", "items", "nested", "one", "other", "pair", "plain"]

COMPLETIONS = {
    "root: keys": Probe("¦", ["id", "include", "type"]),
    "root: classes": Probe("type: ¦", TAGS),
    "root: fields after the type": Probe("type: Holder\n¦", [*HOLDER, "several", "two"]),
    "root: fields that are left": Probe("type: Bounded\ncount: 1\n¦", [name for name in BOUNDED if name != "count"]),
    "node: keys": Probe("type: Holder\none:\n  ¦", NODE),
    "node: one letter typed": Probe("type: Holder\none:\n  t¦", NODE),
    "node: classes": Probe("type: Holder\none:\n  type: ¦", TAGS),
    "node: fields after the type": Probe("type: Holder\none:\n  type: Bounded\n  ¦", BOUNDED),
    "node: fields in braces": Probe("type: Holder\none: {type: Chosen, m¦}", CHOSEN),
    "node: fields of the class that needs no type": Probe("type: Holder\nplain:\n  ¦", ["depth", *NODE]),
    "node: classes of a union": Probe("type: Holder\ntwo:\n  type: ¦", ["Bounded", "Plain", "Special"]),
    "optional node": Probe("type: Holder\nother:\n  ¦", NODE),
    "optional node: fields": Probe("type: Holder\nother:\n  type: Bounded\n  ¦", BOUNDED),
    "list: item": Probe("type: Holder\nitems:\n  - ¦", NODE),
    "list: fields of an item": Probe("type: Holder\nitems:\n  - type: Sized\n  - type: Chosen\n    ¦", CHOSEN),
    "list in a list": Probe("type: Holder\nnested:\n  - - ¦", ["depth", *NODE]),
    "tuple: first item": Probe("type: Holder\npair:\n  - ¦", ["depth", *NODE]),
    "dict: value": Probe("type: Holder\nby_name:\n  a:\n    ¦", NODE),
    "node or list: node": Probe("type: Holder\nany_of:\n  ¦", ["depth", *NODE]),
    "node or list: item": Probe("type: Holder\nany_of:\n  - ¦", ["depth", *NODE]),
    "literal": Probe("type: Chosen\nmode: ¦", ["3", "exact", "fast"]),
    "enum": Probe("type: Chosen\norder: ¦", ["PAIR", "first", "last"]),
    "enum of integers": Probe("type: Chosen\nlevel: ¦", ["1", "2"]),
    "boolean": Probe("type: Bounded\nflag: ¦", ["false", "true"]),
    "record": Probe("type: Composed\nrange:\n  ¦", ["high", "include", "labels", "low", "type"]),
    "record in a record": Probe("type: Composed\ntree:\n  left:\n    ¦", ["include", "left", "type", "value"]),
}

OFFERED = {
    "registered function": Probe("type: Named\nact: ¦", ["gelu", "relu", "tanh"]),
    "dtype": Probe("type: Named\ndtype: ¦", ["bfloat16", "float32", "int8"]),
}
"""Where not all that is offered is ours to list."""

HOVERS = {
    "class": Probe("type: Bo¦unded", ["Numbers and strings within bounds."]),
    "class of a node": Probe("type: Holder\none: {type: Chos¦en}", ["One of several."]),
    "field": Probe("type: Bounded\ncou¦nt: 1", ["How many there are."]),
    "field of an item": Probe("type: Holder\nitems:\n  - {type: Bounded, cou¦nt: 1}", ["How many there are."]),
    "field with a node": Probe("type: Holder\non¦e: {ref: a}", ["The first of them."]),
    "reference": Probe("type: Holder\none: {re¦f: a}", [r"The \`id\` of a node elsewhere in the file"]),
}

FINE = """\
type: Holder
id: root
one: &one {type: Bounded, count: 3}
other: *one
plain: {}
items:
  - {ref: root}
  - *one
  - type: Named
    dtype: bfloat16
    mask: [[1, 2], [3, 4]]
by_name: {a: {include: a.yaml}}
any_of: [{depth: 3}]
"""

BROKEN = """\
type: Holder
one: {type: Bounded, count: 0}
plain: {dept: 1}
other: 3
two: {type: Chosen}
alone: {}
items:
  - {type: Boundd, count: 1}
  - {}
  - {type: Chosen, mode: fats, order: first}
  - {ref: 3}
  - {type: Composed, sizes: [1], range: {low: a}}
nested: [[{depth: 1.5}]]
by_name: {a: {type: Named, dtype: flot32, zzz: 1}}
pair: [{}]
either: {a: {depth: q}}
"""

FAULTS = [
    "2:29: Value is below the exclusive minimum of 0.",
    "3:9: Property dept is not allowed.",
    "4:8: Incorrect type. Expected one of object, null.",
    '5:13: Value is not accepted. Valid values: "Bounded", "Plain", "Special".',
    '6:1: Missing property "count".',
    "8:12: Value is not accepted. Valid values: " + ", ".join(f'"{tag}"' for tag in TAGS) + ".",
    '9:5: Missing property "type".',
    '10:26: Value is not accepted. Valid values: "fast", "exact", 3.',
    '11:11: Incorrect type. Expected "string".',
    "12:29: Array has too few items. Expected 2 or more.",
    '12:47: Incorrect type. Expected "number".',
    '13:19: Incorrect type. Expected "integer".',
    '14:35: Value is not accepted. Valid values: "bfloat16", ',
    "14:43: Property zzz is not allowed.",
    "15:7: Array has too few items. Expected 2 or more.",
    '16:21: Incorrect type. Expected "integer".',
]


def server(**settings: Any) -> Server:
    """The server, which looks for no schemas elsewhere."""
    yaml = {"validate": True, "completion": True, "hover": True, "schemaStore": {"enable": False}, **settings}
    return Server("yaml-language-server", ("yaml-language-server", "--stdio"), {}, {"yaml": yaml}, ("yaml", ".yaml"))


def run(folder: Path, ask: Callable[[Session], Awaitable[list[str]]], **settings: Any) -> list[str]:
    """Ask the server about files beside the schema of `Part`."""
    (folder / "part.schema.json").write_text(json.dumps(gn.config.json_schema(MODEL)), encoding="utf-8")

    async def asked() -> list[str]:
        async with started(server(**settings), folder) as session:
            return await ask(session)

    return asyncio.run(asked())


def question_of(probe: Probe) -> Question:
    before, after = (MODELINE + probe.code).split(CURSOR)
    lines = before.split("\n")
    return Question(before + after, len(lines) - 1, len(lines[-1]))


async def diagnosed(session: Session, text: str, first: int = 0) -> list[str]:
    """The diagnostics of a text as `line:column: message`, lines counted from after the first ones."""
    found = await session.diagnostics(text)
    return [f"{one.range.start.line + 1 - first}:{one.range.start.character + 1}: {one.message}" for one in found]


def test_completion_offers_what_the_classes_have(tmp_path: Path):
    """Keys, classes, the fields of the class that `type` names, and values: these and no others."""

    async def ask(session: Session) -> list[str]:
        faults: list[str] = []
        for name, probe in (COMPLETIONS | OFFERED).items():
            try:
                found = await session.completions(question_of(probe))
            except AnswerError as error:
                found = [str(error)]
            if not set(probe.answer) <= set(found) or (name in COMPLETIONS and sorted(found) != sorted(probe.answer)):
                faults.append(f"{name}: expected {probe.answer}, found {found}")
        return faults

    assert run(tmp_path, ask) == []


def test_hover_shows_docstrings(tmp_path: Path):
    """The first paragraph of the class over its tag, and the text of a field over its name."""

    async def ask(session: Session) -> list[str]:
        shown = {name: await session.hover(question_of(probe)) for name, probe in HOVERS.items()}
        return [f"{name}: {text}" for name, text in shown.items() if not text.startswith(HOVERS[name].answer[0])]

    assert run(tmp_path, ask) == []


def test_each_fault_has_one_diagnostic(tmp_path: Path):
    """A broken file has exactly the diagnostics of its faults, on the lines that `load` tells; a fine file has none."""

    async def ask(session: Session) -> list[str]:
        assert await diagnosed(session, MODELINE + FINE) == []
        return await diagnosed(session, MODELINE + BROKEN, first=1)

    found = run(tmp_path, ask)
    assert [text[: len(fault)] for text, fault in zip(found, FAULTS, strict=False)] == FAULTS
    assert len(found) == len(FAULTS)
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads(BROKEN, MODEL, name="broken.yaml")
    lines = [re.match(r"broken\.yaml:(\d+):", fault) for fault in caught.value.faults]
    assert [line and line[1] for line in lines] == [fault.split(":")[0] for fault in FAULTS]


def test_settings_name_the_schema_too(tmp_path: Path):
    """Without a line in the file, by the setting `yaml.schemas` and the name of the file."""
    schema = (tmp_path / "part.schema.json").as_uri()
    found = run(tmp_path, lambda session: diagnosed(session, "type: Sizd\n"), schemas={schema: "*.yaml"})
    assert found == ["1:7: Value is not accepted. Valid values: " + ", ".join(f'"{tag}"' for tag in TAGS) + "."]


def test_without_a_schema_nothing_is_told(tmp_path: Path):
    """What the other tests see comes from the schema."""
    assert run(tmp_path, lambda session: diagnosed(session, BROKEN)) == []
