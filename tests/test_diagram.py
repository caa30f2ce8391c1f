"""Pictures of graphs: `gn.diagram`, and what it is written as."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import igraph
import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode._diagram._layout import crossings_of, lay_out, spread
from tests import readme_picture

assert igraph  # imported here, so that the file is left out where it is not installed

SVG = "{http://www.w3.org/2000/svg}"


class Leaf(gn.Node):
    """A leaf."""

    size: int
    weight: gn.ParamState
    bias: gn.ParamState | None = None


class Net(gn.Node):
    """A net."""

    leaves: list[Leaf]
    named: dict[str, Leaf]
    extra: Leaf | None = None
    parent: "Net | None" = gn.subnode(default=None)


def leaf(size: int = 2) -> Leaf:
    return Leaf(size, gn.ParamState(jnp.ones(size)))


def arrows_of(diagram: gn.Diagram) -> list[tuple[str, str, str, str]]:
    """The arrows by the labels of their boxes."""
    boxes = diagram.boxes
    return [(boxes[arrow.source].label, arrow.label, boxes[arrow.target].label, arrow.kind) for arrow in diagram.arrows]


# Boxes and arrows


def test_a_shared_node_is_one_box_with_an_arrow_for_each_reference():
    """Also where it stands twice in one list, and in a dict."""
    shared = leaf()
    diagram = gn.diagram(Net([shared, shared], {"a": shared}))
    assert arrows_of(diagram) == [
        ("Net", "leaves.0", "Leaf", "first"),
        ("Net", "leaves.1", "Leaf", "shared"),
        ("Net", "named.a", "Leaf", "shared"),
    ]
    assert [box.path for box in diagram.boxes] == [(), ("leaves", 0)]


def test_a_cycle_is_an_arrow_back():
    """To a node above, and to the node itself."""
    net = Net([], {})
    net.parent = net
    assert arrows_of(gn.diagram(net)) == [("Net", "parent", "Net", "back")]
    outer = Net([], {}, parent=Net([], {}))
    assert outer.parent is not None
    outer.parent.parent = outer
    assert [arrow.kind for arrow in gn.diagram(outer).arrows] == ["first", "back"]


def test_what_is_none_is_not_drawn():
    """An optional field gets an arrow if it has a node."""
    assert len(gn.diagram(Net([], {})).boxes) == 1
    assert arrows_of(gn.diagram(Net([], {}, leaf()))) == [("Net", "extra", "Leaf", "first")]


def test_a_pytree_of_nodes_has_a_box_for_its_container():
    """The arrows have its keys."""
    first = leaf()
    diagram = gn.diagram({"a": first, "b": [first]}, title="both")
    assert arrows_of(diagram) == [("dict", "a", "Leaf", "first"), ("dict", "b.0", "Leaf", "shared")]
    assert (diagram.title, diagram.boxes[0].kind, diagram.boxes[0].parameters) == ("both", "root", 2)


def test_a_tied_state_is_a_box_and_others_are_lines():
    """A tied State shows without `states=True`, which lists the others."""
    weight = gn.ParamState(jnp.ones((2, 3)))
    tied = Leaf(2, weight, weight)
    assert arrows_of(gn.diagram(tied)) == [
        ("Leaf", "bias", "ParamState", "first"),
        ("Leaf", "weight", "ParamState", "shared"),
    ]
    assert gn.diagram(tied).boxes[1].states == ("float32[2,3]",)
    assert gn.diagram(leaf(), states=True).boxes[0].states == ("weight: float32[2]",)
    assert gn.diagram(leaf()).boxes[0].states == ()


def test_a_box_says_what_the_constructor_got_and_how_large_it_is():
    """Each State counts once, at its first path; what is not a parameter counts in bytes alone."""

    class Counter(gn.Node):
        """Counts.

        And more.
        """

        limit: int
        step: int = 1
        count: gn.ShortTermState[jax.Array] = gn.state(jax.nn.initializers.zeros, shape=lambda self: (3,))
        rate: gn.ParamState[jax.Array] = gn.state(jax.nn.initializers.zeros, shape=lambda self: ())

    (box,) = gn.diagram(Counter(5)).boxes
    assert (box.label, box.fields, box.doc) == ("Counter", ("limit=5",), "Counts.")
    assert (box.parameters, box.bytes) == (1, 16)
    shared = leaf()
    assert [box.parameters for box in gn.diagram(Net([shared, leaf(3)], {"a": shared})).boxes] == [5, 2, 3]


# Folding


def test_equal_siblings_are_one_box():
    """A run of them in a list; a box says the size of one."""
    net = Net([leaf(), leaf(), leaf(3), leaf(), leaf()], {"a": leaf(), "b": leaf()})
    diagram = gn.diagram(net)
    assert arrows_of(diagram) == [
        ("Net", "leaves.0–1", "2 × Leaf", "first"),
        ("Net", "leaves.2", "Leaf", "first"),
        ("Net", "leaves.3–4", "2 × Leaf", "first"),
        ("Net", "named.a", "Leaf", "first"),
        ("Net", "named.b", "Leaf", "first"),
    ]
    assert (diagram.boxes[0].parameters, diagram.boxes[1].parameters) == (15, 2)
    assert len(gn.diagram(net, fold=False).boxes) == 8


def test_lists_in_lists_are_folded():
    """What is inside of equal siblings is drawn once, as it is in one of them."""
    inner = [Net([leaf() for _ in range(3)], {}) for _ in range(2)]
    diagram = gn.diagram({"nets": inner})
    assert arrows_of(diagram) == [
        ("dict", "nets.0–1", "2 × Net", "first"),
        ("2 × Net", "leaves.0–2", "3 × Leaf", "first"),
    ]


def test_siblings_that_share_a_node_or_their_parent_are_folded():
    """A reference to the same node does not tell them apart, wherever that is seen first."""
    shared = leaf()
    outer = Net([], {})
    nets = [Net([], {"a": shared}, parent=outer) for _ in range(3)]
    diagram = gn.diagram([*nets, outer])
    assert arrows_of(diagram) == [
        ("list", "0–2", "3 × Net", "first"),
        ("list", "3", "Net", "shared"),
        ("3 × Net", "named.a", "Leaf", "first"),
        ("3 × Net", "parent", "Net", "first"),
    ]


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(lambda: [leaf(3)], id="static value"),
        pytest.param(lambda: [Leaf(2, gn.ParamState(jnp.ones(3)))], id="shape of a State"),
        pytest.param(lambda: [Leaf(2, gn.ParamState(jnp.ones(2), tag="frozen"))], id="tag of a State"),
        pytest.param(lambda: [Leaf(2, gn.ParamState(jnp.ones(2)), gn.ParamState(jnp.ones(2)))], id="optional field"),
    ],
)
def test_siblings_that_differ_are_drawn_each(others):
    """In structure, or in the shape of a value."""
    assert [box.count for box in gn.diagram(Net([leaf(), *others()], {})).boxes] == [1, 1, 1]


def test_a_sibling_that_is_referred_to_from_elsewhere_is_drawn_by_itself():
    """No arrow leads to one of several."""
    first, second, third = leaf(), leaf(), leaf()
    diagram = gn.diagram(Net([first, second, third], {"last": third}))
    assert arrows_of(diagram) == [
        ("Net", "leaves.0–1", "2 × Leaf", "first"),
        ("Net", "leaves.2", "Leaf", "first"),
        ("Net", "named.last", "Leaf", "shared"),
    ]
    crossed = [Net([leaf()], {}), Net([leaf()], {})]
    crossed[0].extra, crossed[1].extra = crossed[1].leaves[0], crossed[0].leaves[0]
    assert len(gn.diagram(crossed).boxes) == 5


# Choosing


def test_depth_leaves_out_what_is_further_away():
    """The box above counts it, and an arrow from there to what is drawn stays."""
    net = Net([], {}, parent=Net([leaf(), leaf(3)], {}))
    assert net.parent is not None
    net.parent.parent = Net([], {}, parent=net)
    diagram = gn.diagram(net, depth=1)
    assert [box.hidden for box in diagram.boxes] == [0, 3]
    assert arrows_of(diagram) == [("Net", "parent", "Net", "first"), ("Net", "parent.parent", "Net", "back")]
    assert [box.hidden for box in gn.diagram(net, depth=0).boxes] == [4]


def test_depth_counts_what_is_left_out_of_one_of_equal_siblings():
    """As their box says the size of one."""
    nets = [Net([leaf(), leaf()], {}) for _ in range(3)]
    assert [(box.count, box.hidden) for box in gn.diagram(nets, depth=1).boxes] == [(1, 0), (3, 2)]


def test_a_filter_draws_what_it_accepts_and_the_root():
    """An arrow leads over what is left out; equal siblings that are left out are told apart."""
    net = Net([], {}, parent=Net([leaf(3)], {"a": leaf()}))
    leaves = [("Net", "parent.leaves.0", "Leaf", "first"), ("Net", "parent.named.a", "Leaf", "first")]
    assert arrows_of(gn.diagram(net, Leaf)) == leaves
    assert arrows_of(gn.diagram(net, gn.PathIn("parent.named.a"))) == leaves[1:]
    assert arrows_of(gn.diagram(net, gn.PathIn("parent.named.a"), gn.PathIn("parent.leaves.0"))) == leaves
    nets = [Net([leaf()], {}) for _ in range(2)]
    assert [label for _, label, _, _ in arrows_of(gn.diagram(nets, Leaf))] == ["0.leaves.0", "1.leaves.0"]


def test_an_abstract_model_and_a_config_are_drawn_as_the_model():
    """Shapes are all that is needed."""
    live = gn.diagram(gn.nn.Linear(2, 3), states=True)
    config = gn.config.config_of(gn.nn.Linear)(in_size=2, out_size=3)
    assert gn.diagram(gn.eval_shape(lambda: gn.nn.Linear(2, 3)), states=True).dot() == live.dot()
    assert gn.diagram(config, states=True).dot() == live.dot()


def test_a_picture_has_the_nodes_that_are_nearest_to_the_root():
    """However many there are, and however deep; the box above the others counts them."""
    chain = Net([], {})
    for number in range(500):
        chain = Net([leaf(number % 7 + 1)], {}, parent=chain)
    diagram = gn.diagram(chain)
    assert len(diagram.boxes) == 400
    assert sum(box.hidden for box in diagram.boxes) == 1_001 - 400


@pytest.mark.parametrize(
    ("depth", "error", "message"),
    [
        (-1, ValueError, "gn.diagram takes a depth of 0 or more (0 is the root alone); found -1"),
        pytest.param(
            "1",
            TypeError,
            "gn.diagram takes an int or None as depth; found str '1'",
            marks=pytest.mark.wrong_types,
        ),
    ],
)
def test_a_depth_is_a_number_of_steps(depth, error: type[Exception], message: str):
    """Anything else is refused."""
    with pytest.raises(error) as caught:
        gn.diagram(leaf(), depth=depth)
    assert str(caught.value) == message


# Mermaid and DOT


def example() -> Net:
    """A graph with a shared node, a list, a dict and a cycle."""
    net = Net([leaf(), leaf()], {"a": leaf(3)})
    net.extra, net.parent = net.named["a"], net
    return net


def test_mermaid():
    """Several nodes have double sides, and an arrow back is dotted."""
    assert (
        gn.diagram(example()).mermaid()
        == """\
---
title: "Net: A net."
---
flowchart LR
  n0["Net<br/>7 parameters, 28 B"]:::c0
  n1["Leaf<br/>size=3<br/>3 parameters, 12 B"]:::c1
  n2[["2 × Leaf<br/>size=2<br/>2 parameters, 8 B each"]]:::c1
  n0 -->|"extra"| n1
  n0 -->|"leaves.0–1"| n2
  n0 -->|"named.a"| n1
  n0 -.->|"parent"| n0
  classDef c0 fill:#77aadd,stroke:#425e7a,color:#1a1a1a
  classDef c1 fill:#ee8866,stroke:#844b38,color:#1a1a1a
  linkStyle 2 stroke:#c2570c
  linkStyle 3 stroke:#3576c9
"""
    )


def test_dot():
    """The tooltip is the path."""
    assert (
        gn.diagram(example(), title='a "net"').dot()
        == """\
digraph model {
  graph [rankdir=LR, labelloc=t, fontname="Helvetica", label="a \\"net\\""]
  node [shape=box, style="rounded,filled", fontname="Helvetica", fontcolor="#1a1a1a"]
  edge [fontname="Helvetica", fontsize=10]
  n0 [label="Net\\n7 parameters, 28 B", fillcolor="#77aadd"]
  n1 [label="Leaf\\nsize=3\\n3 parameters, 12 B", fillcolor="#ee8866", tooltip="extra"]
  n2 [label="2 × Leaf\\nsize=2\\n2 parameters, 8 B each", fillcolor="#ee8866", tooltip="leaves.0", peripheries=2]
  n0 -> n1 [label="extra", color="#767b84", fontcolor="#767b84"]
  n0 -> n2 [label="leaves.0–1", color="#767b84", fontcolor="#767b84"]
  n0 -> n1 [label="named.a", color="#c2570c", fontcolor="#c2570c"]
  n0 -> n0 [label="parent", color="#3576c9", fontcolor="#3576c9", style=dashed]
}
"""
    )


def test_texts_are_escaped():
    """Keys and titles may hold what the three forms give a meaning."""
    diagram = gn.diagram(Net([], {'<"&#\x00': leaf()}), title='<b> & "x"\n')
    assert diagram.mermaid().splitlines()[1] == 'title: "<b> & \\"x\\" "'
    label = gn.diagram(Net([], {'<"&#\x00': leaf()})).arrows[0].label
    assert "\x00" not in label
    assert '|"named.#' in diagram.mermaid()
    assert "<b>" not in diagram.svg()
    assert ElementTree.fromstring(diagram.svg()).findtext(f"{SVG}title") == '<b> & "x" '


# SVG


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


def test_arrows_of_a_tree_do_not_cross():
    """And of a graph with few crossings few remain."""
    links = [(0, 1), (0, 2), *[(1, at) for at in range(3, 6)], *[(2, at) for at in range(6, 9)]]
    assert crossings_of(lay_out([20.0] * 9, links).columns, links) == 0
    crossed = [(0, 1), (0, 2), (1, 4), (2, 3)]
    assert crossings_of([[0], [1, 2], [3, 4]], crossed) == 1
    assert crossings_of(lay_out([20.0] * 5, crossed).columns, crossed) == 0


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
