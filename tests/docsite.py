"""Write the pages of the documentation site, which `make docs` builds: `python -m tests.docsite build/pages`.

On the site the README is the first page, and what lies at the top of the repository stands beside `docs/`. So links are
written anew. The words behind `python` of a block, which are for `tests.docrun`, are taken off: Markdown would not take
it for a block.
"""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

# Not that of tests.docrun, which imports jax: the site is built without it.
ROOT = Path(__file__).resolve().parent.parent

# What lies outside of docs/, by where it is in the repository.
MOVED: Mapping[str, str] = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.md",
    "SECURITY.md": "security.md",
    "graphnode/_declare/README.md": "code/_declare.md",
    "graphnode/_graph/README.md": "code/_graph.md",
    "graphnode/_static/README.md": "code/_static.md",
    "graphnode/check/README.md": "code/check.md",
    "graphnode/checkpoint/README.md": "code/checkpoint.md",
    "graphnode/config/README.md": "code/config.md",
    "graphnode/nn/README.md": "code/nn.md",
    "graphnode/optim/README.md": "code/optim.md",
    "graphnode/metrics/README.md": "code/metrics.md",
    "graphnode/sharding/README.md": "code/sharding.md",
    "graphnode/families/README.md": "code/families.md",
    "graphnode/transforms/README.md": "code/transforms.md",
}
STYLE = """\
/* Room for code of 120 columns. */
.md-grid { max-width: 78rem; }
.md-typeset pre > code { font-size: 0.64rem; }
.md-typeset table:not([class]) { font-size: 0.68rem; }
.md-typeset .doc-contents { margin-left: 0.8rem; }
.md-typeset h2.doc-heading { border-top: 1px solid var(--md-default-fg-color--lightest); padding-top: 1rem; }
"""
# Code comes first: `Dense[gn.ParamState](2)` in it is no link.
_CODE_OR_LINK = re.compile(r"(?<!\[)`[^`]*`|\[([^\]\[]*)\]\(([^)\s#]*)((?:#[^)\s]*)?)\)")
_FENCE = re.compile(r"^( *`{3,}python) .*$", re.MULTILINE)


def place_on_site(path: str) -> str | None:
    """Where a file of the repository is on the site, both relative to their roots; `None` if it is not there."""
    if path in MOVED:
        return MOVED[path]
    return path.removeprefix("docs/") if path.startswith("docs/") and (ROOT / path).is_file() else None


def page_on_site(path: str) -> str:
    """The text of a page, as it stands on the site. Of a link to what is not there, such as code, the text stays.

    Args:
        path: The page, relative to the root of the repository.

    Raises:
        ValueError: A link leads nowhere.
    """
    text = (ROOT / path).read_text(encoding="utf-8")
    if path == "LICENSE":
        return f"# License\n\n```text\n{text.strip()}\n```\n"
    here = place_on_site(path)
    assert here is not None

    def moved(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        if not target or "://" in target or target.startswith("mailto:"):
            return link[0]
        file = os.path.normpath(Path(path).parent / target)
        there = place_on_site(file)
        if not (ROOT / file).exists():
            raise ValueError(f"{path}: the link to {target} leads nowhere")
        if there is None:
            return text
        return f"[{text}]({os.path.relpath(there, Path(here).parent)}{anchor})"

    parts = re.split(r"(^ *`{3,}.*?^ *`{3,}$)", text, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [_CODE_OR_LINK.sub(moved, part) for part in parts[::2]]  # the others are blocks
    return _FENCE.sub(r"\1", "".join(parts))


def pages() -> dict[str, str]:
    """Every page of the site by its place there, and where it is in the repository."""
    sources = [*MOVED, *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md")))]
    return {place: path for path in sources if (place := place_on_site(path)) is not None}


def write(folder: Path) -> None:
    """Write all pages into a folder, which is emptied first, and what they link to."""
    shutil.rmtree(folder, ignore_errors=True)
    skipped = shutil.ignore_patterns("*.md", "_*", "*.png")
    shutil.copytree(ROOT / "docs", folder, ignore=skipped)
    for place, path in pages().items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(page_on_site(path), encoding="utf-8")
    (folder / "site.css").write_text(STYLE, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
