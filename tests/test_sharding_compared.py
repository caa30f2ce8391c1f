"""`docs/sharding_compared.md`: what flax.nnx says there is what it says; eight devices, in a process of its own."""

import importlib.metadata
import re

import pytest

from tests.devices import run_with_devices
from tests.docrun import ROOT

PROGRAM = """
import contextlib, io
from tests import plans_on_nnx
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    plans_on_nnx.main()
assert printed.getvalue() == {shown!r}, printed.getvalue()
"""


@pytest.mark.slow
def test_the_page_has_the_words_of_flax():
    """Of the version that it names, for each of the nine wrong plans."""
    pytest.importorskip("flax")
    page = (ROOT / "docs" / "sharding_compared.md").read_text()
    version = re.search(r"flax ([\d.]+) were compared", page)
    assert version is not None
    if importlib.metadata.version("flax") != version[1]:
        pytest.skip(f"the page is about flax {version[1]}")
    shown = re.search(r"<!-- nnx -->\n\n```text\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    run_with_devices(PROGRAM.format(shown=shown[1]), 8)
