"""`diagram`: a picture of a model's graph, and what it is written as."""

from pathlib import Path as FilePath
from typing import Any, Final

from .._arguments import wrong_argument
from .._filters import NodeFilter
from .._graph._binding_cache import binding_of
from .._inspect import live_objects, nodes
from .._summary._abstract import model_of
from ._collect import Options, collect
from ._dot import dot_text
from ._layout import import_igraph
from ._mermaid import mermaid_text
from ._parts import Arrow, Box, Drawing
from ._svg import svg_text


class Diagram:
    """A picture of a graph: boxes, and arrows between them. A notebook shows it; `save` writes it into a file.

    Example:
        >>> class Tied(gn.Node):
        ...     encoder: gn.nn.Linear
        ...     decoder: gn.nn.Linear
        >>> shared = gn.nn.Linear(2, 2)
        >>> gn.diagram(Tied(shared, shared))
        <Diagram of Tied: 2 boxes, 2 arrows>
    """

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing

    @property
    def title(self) -> str:
        """What stands above it."""
        return self._drawing.title

    @property
    def boxes(self) -> tuple[Box, ...]:
        """One for each node or State that is drawn, the root first.

        Each has its `label`, `cls` (the name of the class), `kind`, `path`, `count` (of
        equal siblings), `parameters` and `bytes` (of one of these), `hidden` (nodes below
        that are not drawn), `fields`, `states` and `doc`.
        """
        return self._drawing.boxes

    @property
    def arrows(self) -> tuple[Arrow, ...]:
        """One for each reference between the boxes.

        Each has `source` and `target`, which are numbers of boxes, a `label`, and a `kind`:
        `"first"`, `"shared"` for a further reference, `"back"` for one that closes a cycle.
        """
        return self._drawing.arrows

    def mermaid(self) -> str:
        """The picture as Mermaid, which GitHub, GitLab and JupyterLab draw in Markdown.

        Example:
            >>> print(gn.diagram(gn.nn.Linear(2, 3)).mermaid().splitlines()[3])
            flowchart LR
        """
        return mermaid_text(self._drawing)

    def dot(self) -> str:
        """The picture as DOT, which Graphviz draws.

        Example:
            >>> print(gn.diagram(gn.nn.Linear(2, 3)).dot().splitlines()[0])
            digraph model {
        """
        return dot_text(self._drawing)

    def svg(self) -> str:
        """The picture as SVG, for web pages and papers.

        Raises:
            ModuleNotFoundError: igraph is not installed, which the extra `diagram`
                brings.
        """
        return svg_text(self._drawing)

    def save(self, path: str | FilePath) -> None:
        """Write the picture into a file: `.svg`, `.mmd` or `.mermaid`, `.dot` or `.gv`.

        Raises:
            ModuleNotFoundError: igraph is not installed, and the file is an SVG.
            ValueError: The name ends otherwise.
        """
        suffix = FilePath(path).suffix
        if suffix not in _WRITERS:
            raise ValueError(
                f"gn.Diagram.save writes {', '.join(_WRITERS)}; found {str(path)!r}"
            )
        text = _WRITERS[suffix](self._drawing)
        FilePath(path).write_text(text, encoding="utf-8")

    def __repr__(self) -> str:
        counts = f"{_counted(self.boxes, 'box', 'boxes')}, {_counted(self.arrows, 'arrow', 'arrows')}"
        return f"<Diagram of {self.boxes[0].cls}: {counts}>"

    # Inline and not as an image, so that a browser shows the tooltips.
    def _repr_html_(self) -> str | None:
        return self._repr_svg_()

    def _repr_svg_(self) -> str | None:
        return self.svg() if _has_igraph() else None

    # Of several forms JupyterLab prefers this one to SVG.
    def _repr_markdown_(self) -> str | None:
        return None if _has_igraph() else f"```mermaid\n{self.mermaid()}```\n"


_WRITERS: Final = {
    ".svg": svg_text,
    ".mmd": mermaid_text,
    ".mermaid": mermaid_text,
    ".dot": dot_text,
    ".gv": dot_text,
}


def _has_igraph() -> bool:
    try:
        import_igraph()
    except ImportError:
        return False
    return True


def _counted(items: tuple[object, ...], singular: str, plural: str) -> str:
    return f"{len(items)} {singular if len(items) == 1 else plural}"


def diagram(
    model: object,
    /,
    *filters: NodeFilter,
    depth: int | None = None,
    states: bool = False,
    fold: bool = True,
    title: str | None = None,
) -> Diagram:
    """A picture of a graph: a box for each node, and an arrow for each reference to it.

    A node or State that is referred to twice is one box with two arrows, and a cycle is
    an arrow that leads back. Of a graph with very many nodes, those nearest to the root
    are drawn.

    Args:
        model: A node, a pytree of nodes, or a config of `gn.config`, which is not
            built. Arrays are not looked at, so shapes in their place will do.
        *filters: Node classes, paths or functions of path and node; beside the root,
            nodes that one of them accepts are drawn. By default, all are.
        depth: How many references away from the root nodes are drawn; by default, any
            number.
        states: Whether the States of each node are listed with their shapes. A State
            that is shared is always drawn.
        fold: Whether neighbours in a list that are equal are one box, such as
            `24 × TransformerBlock`.
        title: What stands above the picture; by default, the class of the root and
            the first line of its docstring.

    Raises:
        FilterError: There is no node at a path.
        FilterTypeError: Something is not a filter.
        StructureError: `model` is neither a node, a pytree of nodes, nor a config.
        TypeError: `depth` is not a whole number.
        ValueError: `depth` is negative.

    Example:
        >>> class Ring(gn.Node):
        ...     next: "Ring | None" = None
        >>> ring = Ring()
        >>> ring.next = Ring(ring)
        >>> for arrow in gn.diagram(ring).arrows:
        ...     print(arrow)
        Arrow(source=0, target=1, label='next', kind='first')
        Arrow(source=1, target=0, label='next', kind='back')
    """
    if depth is not None:
        _check_depth(depth)
    root = model_of(model)
    graphdef = binding_of(root).graphdef
    objects = live_objects(root, graphdef)
    selected: set[int] | None = None
    if filters:
        accepted = {id(node) for node in nodes(root, filters).values()}
        selected = {at for at, item in enumerate(objects) if id(item) in accepted}
    options = Options(depth, selected, states, fold, title)
    return Diagram(collect(graphdef, objects, options))


# Any: a user may pass anything.
def _check_depth(depth: Any) -> None:
    """Refuse a depth that is not a number of steps.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is negative.
    """
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise TypeError(wrong_argument("an int or None as depth", depth, "gn.diagram"))
    if depth < 0:
        raise ValueError(
            f"gn.diagram takes a depth of 0 or more (0 is the root alone); found {depth}"
        )
