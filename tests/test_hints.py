"""Hints for names that are nearly right."""

import ast
from pathlib import Path

import graphnode
from graphnode._hints import did_you_mean


def test_close_name_is_asked_for():
    """The closest of the names is asked for; nothing where none is close, or what was written is not text."""
    assert did_you_mean("wieght", ["bias", "weight", "width"]) == "did you mean 'weight'?"
    assert did_you_mean("scale", ["bias", "weight"]) == ""
    assert did_you_mean(3, ["3"]) == ""
    assert did_you_mean("weigt", ["weight"], cutoff=0.99) == ""


def test_long_names_are_not_compared():
    """What is longer than the limit is left alone, on either side: the work grows with the product of the lengths."""
    assert did_you_mean("a" * 201, ["a" * 200]) == ""
    assert did_you_mean("a" * 200, ["a" * 201]) == ""
    assert did_you_mean("abcde", ["abcdf"], longest=4) == ""
    assert did_you_mean("abcde", ["abcdf"], longest=5) == "did you mean 'abcdf'?"


def test_no_other_module_words_its_own_hint():
    """`difflib` is imported by one module, so that all hints read alike."""
    package = Path(graphnode.__file__).parent
    importers = [
        file.name
        for file in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and any(alias.name == "difflib" for alias in node.names)
    ]
    assert importers == ["_hints.py"]
