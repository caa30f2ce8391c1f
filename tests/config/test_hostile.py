"""Hostile and broken files: a clean error in under a second, nothing executed, nothing imported, nothing else read."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

import graphnode as gn
from graphnode._registered import VALUES
from tests.config.nets import Net
from tests.work import calls_of

# They measure time, and what Python executes.
pytestmark = [pytest.mark.no_runtime_types, pytest.mark.slow]

HOSTILE = Path(__file__).parent / "hostile"
FILES = sorted(path.name.removesuffix(".error") for path in HOSTILE.glob("*.error"))
MOST_CALLS = 6_000_000

# What no configuration has a reason to do, by the names of the interpreter's audit events.
FORBIDDEN = ("exec", "compile", "import", "os.", "subprocess.", "socket.", "ctypes.", "pickle.", "shutil.", "urllib.")
ALLOWED = ("os.listdir", "os.scandir")
_events: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is None:
        return
    if event == "open":
        _events.append(f"open {os.path.abspath(str(arguments[0]))}")
    elif event.startswith(FORBIDDEN) and event not in ALLOWED:
        _events.append(f"{event} {arguments!r:.80}")


sys.addaudithook(_audit)


def refused(load: Callable[[], object], inside: Path) -> str:
    """The error of a load, which makes a bounded number of calls and does nothing but read files inside."""
    global _events
    texts: list[str] = []
    events: list[str] = []
    calls: list[int] = []

    def attempt() -> None:
        with pytest.raises(gn.ConfigError) as caught:
            load()
        texts.append(str(caught.value))

    for _ in range(2):
        _events = events = []
        try:
            calls.append(calls_of(attempt))
        finally:
            _events = None
    assert [event for event in events if not event.startswith(f"open {inside}")] == []
    assert min(calls) < MOST_CALLS
    assert texts[0] == texts[1]
    return texts[0]


@pytest.fixture(autouse=True)
def nothing_happened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The working directory is that of the files, where a payload would leave its mark."""
    monkeypatch.chdir(HOSTILE)
    before, modules = sorted(HOSTILE.rglob("*")), "antigravity" in sys.modules
    gn.config.config_of(Net)
    for name in set(VALUES) - set(dir(jax.nn)):  # what other tests have registered
        monkeypatch.delitem(VALUES, name)
    yield
    assert sorted(HOSTILE.rglob("*")) == before
    assert ("antigravity" in sys.modules) == modules


def test_there_are_many_hostile_files():
    """The collection is as large as it is said to be, and no file lies there without its error."""
    assert len(FILES) >= 100
    loaded_by_others = {"include_cycle_b.yaml", "notes.txt"}
    assert {path.name for path in HOSTILE.iterdir() if path.is_file() and path.suffix != ".error"} == {
        *FILES,
        *loaded_by_others,
    }


def test_the_audit_sees_what_it_is_for(tmp_path: Path):
    """A load that executed something, or read another file, would be noticed."""

    def load() -> None:
        eval("1")
        Path("/etc/hosts").read_text()
        raise gn.ConfigError(["a fault"])

    with pytest.raises(AssertionError, match=r"compile.*/etc/hosts"):
        refused(load, tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_hostile_file_gives_its_error(name: str):
    """Each file of the collection gives the report that stands beside it, and nothing else."""
    expected = (HOSTILE / f"{name}.error").read_text(encoding="utf-8")
    assert refused(lambda: gn.config.load(name, Net), HOSTILE) == expected.rstrip("\n")


# Large ones, made here


def _chain(count: int, line: Callable[[int], str]) -> str:
    return "".join(line(number) for number in range(count))


def _laughs(key: str) -> str:
    """Ten of ten of ten ...: 10**9 items, if somebody wrote them out."""
    lines = ["facts:\n", f"- &a0 {key}\n"]
    lines += [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)]
    return "".join(lines)


# Suffix, content, error.
LARGE: dict[str, tuple[str, str | bytes, str]] = {
    "bom and utf-16": (".yaml", "name: a".encode("utf-16"), "FILE: not UTF-8: invalid start byte at byte 0"),
    "utf-16 without bom": (".yaml", "name: a".encode("utf-16-le"), "FILE:1:2: control characters are not allowed"),
    "invalid utf-8": (".yaml", b"name: \xff\xfe\n", "FILE: not UTF-8: invalid start byte at byte 6"),
    "overlong utf-8": (".json", b'{"name": "\xc0\xaf"}', "FILE: not UTF-8: invalid start byte at byte 10"),
    "surrogate in utf-8": (".toml", b'name = "\xed\xa0\x80"', "FILE: not UTF-8: invalid continuation byte at byte 8"),
    "nul": (".yaml", "name: a\nscale: \0\n", "FILE:2:8: control characters are not allowed"),
    "nul after other letters": (".yaml", "name: äöü€\n'€': \0\n", "FILE:2:6: control characters are not allowed"),
    "nul in json": (".json", '{"name": \0}', "FILE:1:10: a value is expected, found '\\x00'"),
    "nul in toml": (".toml", 'name = "\0"', "FILE:1:9: Illegal character '\\x00'"),
    "escape code": (".yaml", "name: \x1b[31mred\n", "FILE:1:7: control characters are not allowed"),
    "integer of 5,000 digits": (
        ".yaml",
        f"scale: {'9' * 5_000}\n",
        "FILE:1:8: !!int does not fit: an integer of more than 1,000 digits",
    ),
    "integer of 5,000 digits in json": (
        ".json",
        f'{{"scale": {"9" * 5_000}}}',
        "FILE:1:11: an integer of more than 1,000 digits",
    ),
    "integer of 5,000 digits in toml": (
        ".toml",
        f"scale = {'9' * 5_000}\n",
        "FILE: an integer of more than 1,000 digits",
    ),
    "hexadecimal integer": (
        ".yaml",
        f"facts: 0x{'f' * 100_000}\n",
        "FILE:1:8: !!int does not fit: an integer of more than 1,000 digits",
    ),
    "hexadecimal integer in toml": (
        ".toml",
        f"facts = 0x{'f' * 100_000}\n",
        "FILE:1:1: facts: an integer of more than 1,000 digits",
    ),
    "long key": (
        ".json",
        f'{{"{"k" * 5_000_000}": 1}}',
        f"FILE:1:2: {'k' * 5_000_000}: Net has no field '{'k' * 57}...'; its fields are name, scale, blocks, table, "
        "first, pair, next, facts",
    ),
    "long tag": (
        ".yaml",
        f"next: {{type: {'T' * 1_000_000}}}\n",
        f"FILE:1:14: next.type: unknown type '{'T' * 57}...'; one of Net",
    ),
    "long name of a function": (
        ".json",
        f'{{"first": {{"type": "Dense", "act": "{"relu" * 500_000}"}}}}',
        f"FILE:1:36: first.act: nothing is registered as '{'relu' * 14}r...'; known are celu, elu, gelu, glu, "
        "hard_sigmoid, hard_silu, hard_swish, hard_tanh, identity, leaky_relu, log_sigmoid, log_softmax and 14 more",
    ),
    "brackets without end": (".json", "[" * 1_000_000, "FILE:1:6001: nested more than 6,000 levels deep"),
    "brackets without end in yaml": (
        ".yaml",
        "[" * 100_000,
        "FILE:1:6001: nested more than 6,000 levels deep",
    ),
    "braces without end in yaml": (
        ".yaml",
        "{a: " * 1_000_000,
        "FILE:1:4001: nested more than 1,000 levels deep, which YAML may be up to 128 KiB; write JSON",
    ),
    "dashes without end": (
        ".yaml",
        "- " * 500_000,
        "FILE:1:1999: nested more than 1,000 levels deep, which YAML may be up to 128 KiB; write JSON",
    ),
    "brackets without end in toml": (".toml", "facts = " + "[" * 100_000, "FILE: nested too deeply"),
    "dots without end in toml": (
        ".toml",
        "next." * 100_000 + "name = 'a'",
        "FILE:1:0: a key of more than 100 parts",
    ),
    "words in a line": (".toml", f"name = {'a' * 1_000_000}", "FILE:1:8: Invalid value"),
    "deep static value": (
        ".json",
        f'{{"facts": {"[" * 5_000}{"]" * 5_000}}}',
        "FILE:1:11: facts: nested more than 32 levels deep",
    ),
    "deep type": (
        ".json",
        f'{{"next": {{"type": {"[" * 5_000}{"]" * 5_000}}}}}',
        "FILE:1:19: next.type: unknown type list; one of Net",
    ),
    "billion laughs": (".yaml", _laughs("lol"), "FILE:2:1: facts: aliases repeat more than 100,000 items"),
    "billion laughs of blocks": (
        ".yaml",
        "blocks: &b0 [{type: Dense}]\n" + _chain(30, lambda n: f"x{n}: &b{n + 1} [*b{n}, *b{n}]\n"),
        "\n".join(
            f"FILE:{n + 2}:1: x{n}: Net has no field 'x{n}'; its fields are name, scale, blocks, table, first, pair, "
            "next, facts"
            for n in range(30)
        ),
    ),
    "one list in many nets": (
        ".yaml",
        f"blocks: &b [{', '.join(['{type: Dense}'] * 1_000)}]\nnext: " + "{blocks: *b, next: " * 300 + "}" * 300,
        "FILE:1:9: " + "next." * 101 + "blocks: aliases repeat more than 100,000 items",
    ),
    "one value in many blocks": (
        ".yaml",
        f"blocks:\n- {{type: Conv, shape: &s [{'1, ' * 1_000}1]}}\n" + "- {type: Conv, shape: *s}\n" * 200,
        "FILE:2:23: blocks.100.shape: aliases repeat more than 100,000 items",
    ),
    "merges of merges": (
        ".yaml",
        "x0: &x0 {a: 1}\n" + _chain(8_000, lambda n: f"x{n + 1}: &x{n + 1} {{<<: *x{n}, k{n}: 1}}\n"),
        "FILE:448:7: `<<` copies more than 100,000 fields",
    ),
    "wide merges": (
        ".yaml",
        f"x: &x {{{', '.join(f'k{n}: 1' for n in range(1_000))}}}\n"
        + _chain(1_000, lambda n: f"y{n}: {{<<: [*x, *x, *x, *x, *x]}}\n"),
        "FILE:901:7: `<<` copies more than 100,000 fields",
    ),
    "merges in merges": (
        ".yaml",
        "x0: &x0 {a: {}}\n" + _chain(60, lambda n: f"x{n + 1}: &x{n + 1} {{<<: *x{n}, k{n}: {{<<: *x{n}}}}}\n"),
        "FILE:2:23: `<<` copies more than 100,000 fields",
    ),
    "aliases of aliases": (
        ".yaml",
        "first: &d {type: Dens}\nblocks: [" + "*d, " * 100_000 + "]\n",
        "",
    ),
    "thousands of faults": (
        ".yaml",
        "blocks:\n" + "- {type: Dense, widht: 0, mode: fats, act: rellu}\n" * 5_000,
        "",
    ),
    "thousands of unknown refs": (
        ".yaml",
        "blocks:\n"
        + _chain(3_000, lambda n: f"- {{type: Dense, id: {'n' * 30}{n}}}\n")
        + _chain(3_000, lambda n: f"- {{ref: {'n' * 30}x{n}}}\n"),
        "",
    ),
    "thousands of unknown keys": (".yaml", _chain(30_000, lambda n: f"blocks{n}: 1\n"), ""),
    "thousands of duplicate keys": (".json", "{" + '"name": 1, ' * 30_000 + '"name": 1}', ""),
}


# Each of these takes seconds.
LONG = {
    "one list in many nets",
    "merges of merges",
    "merges in merges",
    "aliases of aliases",
    "thousands of faults",
    "thousands of unknown refs",
    "thousands of unknown keys",
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in LARGE])
def test_hostile_text_gives_its_error(name: str, tmp_path: Path):
    """Encodings, depth, size and aliases: each limit is told, in under a second."""
    suffix, content, expected = LARGE[name]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = refused(lambda: gn.config.load(path, Net), tmp_path).replace(str(path), "FILE")
    if expected:
        assert found == expected
    else:
        lines = found.splitlines()
        assert len(lines) in (1_000, 1_001), lines[:3]
        assert all(line.startswith("FILE:") for line in lines[:1_000])
        assert lines[1_000:] in ([], ["more than 1,000 faults"])


# Files that are none, and includes of them


def report(path: Path, inside: Path) -> str:
    """The error of loading a path, where the directory is called DIR."""
    return refused(lambda: gn.config.load(path, Net), inside).replace(str(inside), "DIR")


def test_only_regular_files_are_read(tmp_path: Path):
    """A directory, a pipe, a device, a circle of links, a missing file: each is told, none waited for."""
    (tmp_path / "directory.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    (tmp_path / "text.txt").write_text("name: a")
    expected = {
        "directory.yaml": "a directory",
        "pipe.yaml": "not a regular file",
        "zero.yaml": "not a regular file",
        "circle.yaml": "a circle of links",
        "missing.yaml": "No such file or directory",
        "text.txt": "the name of a configuration ends with .yaml, .yml, .json, .toml",
        "no_suffix": "the name of a configuration ends with .yaml, .yml, .json, .toml",
        "a\0b.yaml": "a path holds no null character",
        "x" * 300 + ".yaml": "File name too long",
    }
    assert {name: report(tmp_path / name, tmp_path) for name in expected} == {
        name: f"DIR/{name}: {text}" for name, text in expected.items()
    }


def test_includes_stay_in_their_directory(tmp_path: Path):
    """Links that lead out of the tree, pipes and circles are no includes."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "secret.yaml").write_text("name: secret")
    (tree / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (tree / "up").symlink_to(tmp_path)
    (tree / "circle.yaml").symlink_to("circle.yaml")
    os.mkfifo(tree / "pipe.yaml")
    names = ["link.yaml", "up/secret.yaml", "circle.yaml", "pipe.yaml", "up/tree/../secret.yaml"]
    path = tree / "model.yaml"
    path.write_text("".join(f"x{at}: {{include: {name}}}\n" for at, name in enumerate(names)))
    outside = "lies outside of the directory of the first file"
    expected = [
        f"DIR/model.yaml:1:15: include: 'link.yaml' {outside}",
        f"DIR/model.yaml:2:15: include: 'up/secret.yaml' {outside}",
        "DIR/model.yaml:3:15: include: 'circle.yaml': a circle of links",
        "DIR/model.yaml:4:15: include: 'pipe.yaml': not a regular file",
        f"DIR/model.yaml:5:15: include: 'up/tree/../secret.yaml' {outside}",
    ]
    assert report(path, tree).splitlines() == expected


@pytest.mark.slow
def test_includes_are_counted(tmp_path: Path):
    """Files that include two others, many levels deep, end at some hundred."""
    for level in range(20):
        below = f"{{include: level{level + 1}.json}}"
        (tmp_path / f"level{level}.json").write_text("{}")
        (tmp_path / f"level{level}.yaml").write_text(
            f"next: {below}\npair: [{below}, {below}]\n".replace("json", "yaml")
        )
    (tmp_path / "level20.yaml").write_text("name: a\n")
    assert "include: more than 300 files" in report(tmp_path / "level0.yaml", tmp_path)


def test_size_of_all_files_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Files that are small enough one by one are too large together."""
    monkeypatch.setattr("graphnode.config._read.MAX_BYTES", 2**20)
    (tmp_path / "part.yaml").write_text(f"name: {'a' * 2**19}\n")
    (tmp_path / "large.yaml").write_text(f"name: {'a' * 2**20}\n")
    (tmp_path / "model.yaml").write_text("next: {include: part.yaml, next: {include: part.yaml}}\n")
    told = "larger than 1 MiB, with all that is included"
    assert report(tmp_path / "large.yaml", tmp_path) == f"DIR/large.yaml: {told}"
    assert report(tmp_path / "model.yaml", tmp_path) == f"DIR/model.yaml:1:44: include: 'part.yaml': {told}"


def test_number_of_nodes_is_limited(monkeypatch: pytest.MonkeyPatch):
    """More nodes than the limit are one fault."""
    monkeypatch.setattr("graphnode.config._walk.MAX_NODES", 1_000)
    text = f"blocks: [{'{type: Dense}, ' * 999}]"
    assert len(gn.config.loads(text, Net).blocks) == 999
    with pytest.raises(gn.ConfigError, match=r"^more than 1,000 nodes$"):
        gn.config.loads(text.replace("]", "{type: Dense}, {type: Dense}]"), Net)


def test_unknown_format_and_odd_texts_are_faults():
    """A text that is not Unicode, and a format that nobody knows."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads("name: \ud800", Net, name="here")
    assert str(caught.value) == "here: not a text: surrogates not allowed at character 6"
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads("name: a", Net, format="xml")
    assert str(caught.value) == "no format 'xml': one of yaml, json, toml"
