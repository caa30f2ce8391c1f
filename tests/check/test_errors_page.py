"""`docs/errors.md` documents each code, with an example that has it and one that has not."""

import re
from pathlib import Path

import pytest

from graphnode._class_faults import Rule
from graphnode.check import CODES
from graphnode.check._codes import OF_RULE, STRICT
from tests.checking import check_and_forget, write_files
from tests.docrun import ROOT, parse_blocks

PAGE = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (GN\d+) [^\n]+\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def test_the_headings_are_the_codes():
    """The page has one heading for each code, in order, with its name."""
    assert re.findall(r"^## (GN\d+.*)$", PAGE, re.MULTILINE) == [f"{code.code} {code.name}" for code in CODES.values()]
    assert list(CODES) == sorted(CODES)


def test_every_rule_of_the_schema_has_a_code():
    """A fault of any rule can be reported."""
    assert set(OF_RULE) == set(Rule)
    assert len({code.name for code in CODES.values()}) == len(CODES)


@pytest.mark.parametrize("example", ["bad", "good"])
@pytest.mark.parametrize("code", CODES)
def test_the_example_has_the_code_or_nothing(code: str, example: str, tmp_path: Path):
    """The first block of a section has its finding and no other, and the last has none."""
    imports = parse_blocks(PAGE, "errors.md")[0].code.text
    blocks = [block.code.text for block in parse_blocks(SECTIONS[code], code)]
    assert len(blocks) > 1
    text = f"{imports}\n\ndef power(x, exponent): ...\n\n{blocks[0 if example == 'bad' else -1]}\n"
    write_files(tmp_path, {"example.py": text})
    checked = check_and_forget(str(tmp_path / "example.py"), strict=code in STRICT)
    assert [one.code.code for one in checked.findings] == ([code] if example == "bad" else [])
    assert checked.is_complete == (code != "GN001" or example == "good")
