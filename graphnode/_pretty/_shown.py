"""`Shown`: the base of whatever is printed, in a terminal, by rich, in a notebook or by treescope."""

import importlib
from collections.abc import Iterable
from typing import Any


class Shown:
    """Has every form that is made from an object's `__pretty__`.

    The modules of the forms are imported when one of them is first asked for, so that
    `import graphnode` does not pay for them.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        text: str = _module("_text").pformat(self)
        return text

    def __rich_repr__(self) -> Iterable[Any]:  # Any: as rich has it
        parts: Iterable[Any] = _module("_rich").rich_parts(self)
        return parts

    def _repr_html_(self) -> str:
        html: str = _module("_html").html(self)
        return html

    # Any: treescope's own classes, which are not there without it.
    def __treescope_repr__(self, path: Any, subtree_renderer: Any) -> Any:
        return _module("_treescope").rendering(self, path, subtree_renderer)


# Any: a module has whatever names it has.
def _module(name: str) -> Any:
    """One of the modules beside this one, imported late."""
    return importlib.import_module(f"{__package__}.{name}")
