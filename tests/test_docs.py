"""The documentation runs, and prints what it shows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docrun import ROOT, PageError, check_page, skipped_blocks

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "docs/*.md", "docs/guides/*.md")
    for path in ROOT.glob(pattern)
)
# What only development needs is not in an extra, so that it may be missing.
LIBRARIES = {"docs/guides/porting.md": ("flax", "safetensors")}


@pytest.mark.parametrize("page", PAGES)
def test_page_prints_what_it_shows(page: str, record_property: Callable[[str, object], None]):
    """Every block of a page runs, and every output that it shows is the real one."""
    path = Path(ROOT, page)
    for library in LIBRARIES.get(page, ()):
        pytest.importorskip(library, reason="what the page compares with is not installed")
    try:
        for block in skipped_blocks(path, page):
            record_property("no-run", block)
        messages = check_page(path, page)
    except PageError as error:
        messages = [str(error)]
    if messages:
        update = f"To write the real output into the page: python -m tests.docrun --update {page}"
        pytest.fail("\n\n".join([*messages, update]), pytrace=False)
