"""Paths have one text form: what is written parses to the same path, and what does not parse says where."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import graphnode as gn

# Keys that look like something else, beside any text: hypothesis would rarely write them.
TRICKY = ["", "0", "-1", "-0", "007", "1.5", "a.b", '"', "\\", '"0"', " ", "a b", "\n", "\u00a0", "\u2028", "٣", "Δ"]
names = st.one_of(st.text(), st.sampled_from(TRICKY), st.text(alphabet='.-019"\\ ab\n'))
keys = st.one_of(names, st.integers(), st.integers(-2, 12))
paths = st.lists(keys, max_size=6).map(tuple)
texts = st.one_of(st.text(), st.text(alphabet='.-019"\\ abu\n\t'), paths.map(gn.path_str))

TEXTS = {
    "root": ((), ""),
    "names": (("layers", 0, "weight"), "layers.0.weight"),
    "one name": (("weight",), "weight"),
    "one position": ((3,), "3"),
    "negative": ((-1, "a"), "-1.a"),
    "text of an integer": (("table", "0"), 'table."0"'),
    "text of a negative": (("-1",), '"-1"'),
    "dot": (("a.b", "c"), '"a.b".c'),
    "empty": (("", 0), '"".0'),
    "quote": (('say "hi"',), r'"say \"hi\""'),
    "backslash": (("a\\b",), r'"a\\b"'),
    "blank": (("a b",), '"a b"'),
    "line": (("a\nb",), r'"a\nb"'),
    "other letters": (("Δt", "größe", "λ_1"), "Δt.größe.λ_1"),
    "signs": (("a-b", "x:y", "1a", "--1", "+1"), "a-b.x:y.1a.--1.+1"),
}


@pytest.mark.parametrize(("path", "text"), TEXTS.values(), ids=TEXTS)
def test_a_path_has_this_text(path: gn.Path, text: str):
    """Keys are joined by dots; a string key that would read as something else is quoted."""
    assert gn.path_str(path) == text
    assert gn.parse_path(text) == path


def typed(path: gn.Path) -> list[tuple[type, str | int]]:
    """The keys with their types: `1` and `"1"` are two."""
    return [(type(key), key) for key in path]


@given(paths)
def test_a_path_survives_its_text(path: gn.Path):
    """Any tuple of strings and integers, written and parsed, is the same tuple, type by type."""
    assert typed(gn.parse_path(gn.path_str(path))) == typed(path)


@given(st.lists(paths, min_size=2, max_size=2, unique=True))
def test_two_paths_never_share_a_text(pair: list[gn.Path]):
    """Different paths have different texts."""
    if typed(pair[0]) != typed(pair[1]):
        assert gn.path_str(pair[0]) != gn.path_str(pair[1])


@given(texts)
@example('"a"')
@example("a.")
@example(".")
@example('"')
@example('"\\x"')
@example("-0")
@example("01")
@example('a"b')
@example('"\\ud800"')
def test_a_text_parses_to_a_canonical_path_or_is_refused(text: str):
    """Any text either parses to a path whose own text parses to it again, or raises PathError."""
    try:
        path = gn.parse_path(text)
    except gn.PathError:
        return
    canonical = gn.path_str(path)
    assert typed(gn.parse_path(canonical)) == typed(path)
    assert gn.path_str(gn.parse_path(canonical)) == canonical


DOT, QUOTE = "separate keys by dots", "quote keys that hold blanks, dots, quotes or backslashes"
REFUSED = {
    "trailing dot": ("a.", f"expected a key at column 3, found the end; {QUOTE}"),
    "leading dot": (".a", f"expected a key at column 1, found '.a'; {QUOTE}"),
    "double dot": ("a..b", f"expected a key at column 3, found '.b'; {QUOTE}"),
    "blank": ("a b", f"expected a dot at column 2, found ' b'; {DOT}"),
    "leading blank": (" a", f"expected a key at column 1, found ' a'; {QUOTE}"),
    "open quote": ('a."b', f"expected a key at column 3, found '\"b'; {QUOTE}"),
    "quote inside": ('a"b"', f"expected a dot at column 2, found '\"b\"'; {DOT}"),
    "after a quote": ('"a"b', f"expected a dot at column 4, found 'b'; {DOT}"),
    "bad escape": (r'a."\x"', r"""expected a quoted key at column 3, found '"\\x"'; JSON says: Invalid \escape"""),
    "padded integer": (
        "a.007",
        "expected an integer at column 3, found '007'; write 7 for a position or \"007\" for a string key",
    ),
    "negative zero": (
        "-0",
        "expected an integer at column 1, found '-0'; write 0 for a position or \"-0\" for a string key",
    ),
}


@pytest.mark.parametrize(("text", "fault"), REFUSED.values(), ids=REFUSED)
def test_a_text_that_does_not_parse_says_where(text: str, fault: str):
    """The error shows the text, the column, what was expected and found, and the remedy."""
    with pytest.raises(gn.PathError) as caught:
        gn.parse_path(text)
    assert str(caught.value) == f"path {text!r} does not parse: {fault}"


def test_an_integer_of_any_length_parses_or_is_refused():
    """An integer that Python will not read is a PathError too."""
    with pytest.raises(gn.PathError):
        gn.parse_path("9" * 5000)


def test_the_texts_of_paths_of_operations_parse():
    """The paths that operations give are tuples of this grammar: their text leads back to them."""

    class Leaf(gn.Node):
        n: int = 0

    class Net(gn.Node):
        table: dict[str, list[Leaf]]

    net = Net({"0": [Leaf()], "a.b": [Leaf(), Leaf()]})
    found = [where for where, _ in gn.iter_node(net)]
    assert ("table", "0", 0) in found
    assert ("table", "a.b", 1) in found
    assert all(gn.parse_path(gn.path_str(where)) == where for where in found)
