"""The documentation site has every page and every public name, and its links lead where those of the repository do."""

import re
import types
from pathlib import Path

import pytest

import graphnode as gn
from tests import docsite
from tests.docrun import ROOT
from tests.docsite import page_on_site, pages, place_on_site
from tests.test_surface import NAMES, RANDOM_NAMES, public

REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
MODULES = {
    "check": gn.check,
    "checkpoint": gn.checkpoint,
    "config": gn.config,
    "families": gn.families,
    "metrics": gn.metrics,
    "nn": gn.nn,
    "optim": gn.optim,
    "sharding": gn.sharding,
}


def referenced() -> list[str]:
    """The names that the pages of the reference document, without `graphnode.`."""
    texts = [page.read_text(encoding="utf-8") for page in REFERENCE]
    return [name for text in texts for name in re.findall(r"^::: graphnode\.(\S+)$", text, re.MULTILINE)]


def test_the_reference_has_every_public_name_once():
    """The names of `gn`, of its layers and of the other modules, and no others."""
    modules = {name for name in NAMES if isinstance(getattr(gn, name), types.ModuleType)}
    inner = {f"{module}.{name}" for module, names in MODULES.items() for name in public(names)}
    random = {f"random.{name}" for name in RANDOM_NAMES}
    assert sorted(referenced()) == sorted({*NAMES} - modules | inner | random)
    assert modules == {*MODULES, "random", "transforms"}


def test_every_page_is_in_the_navigation():
    """mkdocs.yml names all pages, and none that there is not."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = text.partition("\nnav:\n")[2].partition("\n\n")[0]
    named = re.findall(r"[\w/]+\.md$", nav, re.MULTILINE)
    assert sorted(named) == sorted(pages())


def test_a_page_stands_where_its_links_say():
    """What lies at the top of the repository stands beside docs/, and the README is the first page."""
    places = ["README.md", "docs/tutorial.md", "docs/guides/config.md", "docs/examples/digits.py", "Makefile"]
    assert [place_on_site(path) for path in places] == [
        *("index.md", "tutorial.md", "guides/config.md", "examples/digits.py", None)
    ]


def test_links_and_blocks_are_as_the_site_needs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A link follows its page, one to what the site has not leaves its text, code stays, and `python` stands alone."""
    text = (
        "[a](../../CHANGELOG.md#added) [b](../limits.md) [c](../../Makefile) [d](#here) `x[y](z)`\n\n"
        "```python needs=flax\n[e](f)\n```\n"
    )
    for name in ("CHANGELOG.md", "Makefile", "docs/limits.md", "docs/guides/page.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(docsite, "ROOT", tmp_path)
    assert page_on_site("docs/guides/page.md") == (
        "[a](../changelog.md#added) [b](../limits.md) c [d](#here) `x[y](z)`\n\n```python\n[e](f)\n```\n"
    )


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the page and the target."""
    (tmp_path / "README.md").write_text("[a](docs/gone.md)", encoding="utf-8")
    monkeypatch.setattr(docsite, "ROOT", tmp_path)
    with pytest.raises(ValueError) as caught:
        page_on_site("README.md")
    assert str(caught.value) == "README.md: the link to docs/gone.md leads nowhere"


def test_the_version_is_one():
    """pyproject.toml, the package and what is cited agree."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'\nversion = "{gn.__version__}"\n' in project
    assert f"\nversion: {gn.__version__}\n" in citation
