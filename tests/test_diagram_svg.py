"""Pictures of graphs as SVG, which igraph lays out; and as files and in notebooks."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import graphnode as gn
from graphnode._diagram._layout import crossings_of, import_igraph, lay_out, spread
from tests import readme_picture
from tests.drawn import Net, example, leaf

import_igraph()  # without it, this file is left out
SVG = "{http://www.w3.org/2000/svg}"


def test_texts_of_an_svg_are_escaped():
    """Titles and keys may hold what XML gives a meaning, or may not hold."""
    svg = gn.diagram(Net([], {'<"&': leaf(), "a\x00b": leaf()}), title='<b> & "x"\n').svg()
    assert ElementTree.fromstring(svg).findtext(f"{SVG}title") == '<b> & "x" '


def groups(svg: str, name: str) -> list[ElementTree.Element]:
    """The groups of one class."""
    return [group for group in ElementTree.fromstring(svg).iter(f"{SVG}g") if group.get("class") == name]


def test_svg_has_each_box_and_arrow():
    """With the texts of each, and a tooltip; several nodes are three rectangles."""
    diagram = gn.diagram(example())
    boxes = groups(diagram.svg(), "box")
    assert [[text.text for text in box.iter(f"{SVG}text")] for box in boxes] == [
        ["Net", "7 parameters, 28 B"],
        ["Leaf", "size=3", "3 parameters, 12 B"],
        ["2 × Leaf", "size=2", "2 parameters, 8 B each"],
    ]
    assert [box.findtext(f"{SVG}title") for box in boxes] == [
        "the root: Net\nA net.",
        "extra: Leaf\nA leaf.",
        "leaves.0: Leaf\nA leaf.",
    ]
    assert [len(box.findall(f"{SVG}rect")) for box in boxes] == [1, 1, 3]
    arrows = groups(diagram.svg(), "arrow")
    labels = [arrow.label for arrow in diagram.arrows]
    assert [arrow.findtext(f"{SVG}text") for arrow in arrows] == labels


def test_svg_is_the_same_each_time():
    """A picture that is kept in a repository changes with its model alone."""
    assert gn.diagram(example()).svg() == gn.diagram(example()).svg()


def test_boxes_do_not_overlap():
    """Nor do they leave the picture."""
    nets = [Net([leaf(1), leaf(2), leaf(3)], {"a": leaf()}) for _ in range(3)]
    nets[0].extra, nets[1].parent, nets[2].parent = nets[2].leaves[0], nets[0], nets[1]
    svg = gn.diagram(nets, states=True).svg()
    rects = [
        [float(rect.get(name, "")) for name in ("x", "y", "width", "height")]
        for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect")
    ]
    assert len(rects) == 1 + 3 + 12
    width, height = map(float, ElementTree.fromstring(svg).get("viewBox", "").split()[2:])
    for at, (x, y, w, h) in enumerate(rects):
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
        for other_x, other_y, other_w, other_h in rects[:at]:
            assert x + w <= other_x or other_x + other_w <= x or y + h <= other_y or other_y + other_h <= y


def test_arrows_from_a_box_to_itself_are_side_by_side():
    """And the box is as wide as they are."""
    net = Net([], {})
    net.parent, net.next = net, net
    svg = gn.diagram(net).svg()
    (rect,) = ElementTree.fromstring(svg).iter(f"{SVG}rect")
    ends = [float(text.get("x", "")) for arrow in groups(svg, "arrow") for text in arrow.iter(f"{SVG}text")]
    assert float(rect.get("x", "")) < min(ends)
    assert abs(ends[0] - ends[1]) > 40


def test_arrows_of_a_tree_do_not_cross():
    """And of a graph with few crossings few remain."""
    links = [(0, 1), (0, 8), (1, 2), (1, 6), (2, 3), (2, 5), (3, 4), (6, 7)]
    assert crossings_of(lay_out([20.0] * 9, links).columns, links) == 0
    crossed = [(0, 1), (0, 2), (1, 4), (2, 3)]
    assert crossings_of([[0], [1, 2], [3, 4]], crossed) == 1
    assert crossings_of(lay_out([20.0] * 5, crossed).columns, crossed) == 0


def test_a_picture_of_many_long_arrows_is_drawn():
    """Where they would need more stops than are laid out, they go straight."""
    ring = [Net([], {}) for _ in range(500)]
    for at, net in enumerate(ring):
        net.next, net.parent = ring[(at + 1) % 500], ring[at * 79 % 500]
    diagram = gn.diagram(ring[0])
    svg = diagram.svg()
    assert (len(groups(svg, "box")), len(groups(svg, "arrow"))) == (400, len(diagram.arrows))


def test_boxes_are_spread_around_where_they_want_to_be():
    """What wants to be in one place is put around it, in order and with gaps; others stay."""
    assert spread([5.0, 5.0, 100.0], [10.0, 10.0], [1.0, 1.0, 1.0]) == [0.0, 10.0, 100.0]
    assert spread([5.0, 5.0], [10.0], [3.0, 1.0]) == [2.5, 12.5]


def test_without_igraph_a_picture_is_mermaid(monkeypatch: pytest.MonkeyPatch):
    """SVG says what to install, and a notebook draws Mermaid."""
    diagram = gn.diagram(leaf())
    assert diagram._repr_html_() == diagram._repr_svg_() == diagram.svg()
    assert diagram._repr_markdown_() is None
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        diagram.svg()
    assert str(caught.value) == (
        "a picture as SVG needs igraph, which is not installed: pip install 'graphnode[diagram]'; mermaid() and dot() "
        "need nothing"
    )
    assert diagram._repr_html_() is None
    assert diagram._repr_svg_() is None
    assert diagram._repr_markdown_() == f"```mermaid\n{diagram.mermaid()}```\n"


def test_save_goes_by_the_ending(tmp_path: Path):
    """Another one is refused, and nothing is written."""
    diagram = gn.diagram(leaf())
    for name in ("a.svg", "a.mmd", "a.mermaid", "a.dot", "a.gv"):
        diagram.save(tmp_path / name)
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in ("a.svg", "a.mmd", "a.gv")]
    assert texts == [diagram.svg(), diagram.mermaid(), diagram.dot()]
    with pytest.raises(ValueError) as caught:
        diagram.save("a.png")
    assert str(caught.value) == "gn.Diagram.save writes .svg, .mmd, .mermaid, .dot, .gv; found 'a.png'"


def test_the_picture_in_the_readme_is_new():
    """To write it: python -m tests.readme_picture."""
    assert readme_picture.FILE.read_text(encoding="utf-8") == readme_picture.picture()
    assert readme_picture.FILE.stat().st_size < 30_000
