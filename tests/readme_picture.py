"""The picture in the README, made by the first block of the guide to pictures.

From the root of the repository,

    python -m tests.readme_picture    writes it into docs/images
"""

import sys
import types
from typing import Final

from tests.docrun import ROOT, parse_blocks

PAGE: Final = "docs/guides/diagrams.md"
FILE: Final = ROOT / "docs" / "images" / "translator.svg"


def picture() -> str:
    """The text of the SVG."""
    first, *_ = parse_blocks((ROOT / PAGE).read_text(encoding="utf-8"), PAGE)
    # A real module, as the annotations of its classes are looked up there.
    module = types.ModuleType("translator")
    sys.modules[module.__name__] = module
    try:
        exec(first.code.text, vars(module))
        text: str = vars(module)["diagram"].svg()
    finally:
        del sys.modules[module.__name__]
    return text


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
