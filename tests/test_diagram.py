"""Pictures of graphs: `gn.diagram`, what it draws, and its text in Mermaid and DOT."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from tests.drawn import Leaf, Net, example, leaf


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
    assert gn.diagram([first]).title == "list"
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
    """A reference to the same node does not tell them apart, wherever that is seen first; the arrow says so."""
    shared = leaf()
    outer = Net([], {})
    nets = [Net([], {"a": shared}, parent=outer) for _ in range(3)]
    diagram = gn.diagram([*nets, outer])
    assert arrows_of(diagram) == [
        ("list", "0–2", "3 × Net", "first"),
        ("list", "3", "Net", "shared"),
        ("3 × Net", "named.a", "Leaf", "shared"),
        ("3 × Net", "parent", "Net", "shared"),
    ]


def test_what_equal_siblings_share_is_counted_with_none_of_them():
    """So many times one, and what they share, are all; the picture is not that of siblings which share nothing."""
    shared = leaf(3)
    together = gn.diagram([Net([leaf()], {"a": shared}) for _ in range(4)])
    apart = gn.diagram([Net([leaf()], {"a": leaf(3)}) for _ in range(4)])
    assert [(box.label, box.parameters, box.bytes) for box in together.boxes] == [
        ("list", 11, 44),
        ("4 × Net", 2, 8),
        ("Leaf", 2, 8),
        ("Leaf", 3, 12),
    ]
    assert [box.parameters for box in apart.boxes] == [20, 5, 2, 3]
    assert [arrow.kind for arrow in together.arrows] == ["first", "first", "shared"]
    assert [arrow.kind for arrow in apart.arrows] == ["first"] * 3


def test_a_state_that_equal_siblings_share_is_a_box():
    """It is counted once, also where the siblings are in the items of a list of equal ones."""
    weight = gn.ParamState(jnp.ones(2))
    diagram = gn.diagram([Net([Leaf(2, weight), Leaf(2, weight)], {"own": leaf()}) for _ in range(3)])
    assert arrows_of(diagram) == [
        ("list", "0–2", "3 × Net", "first"),
        ("3 × Net", "leaves.0–1", "2 × Leaf", "first"),
        ("3 × Net", "named.own", "Leaf", "first"),
        ("2 × Leaf", "weight", "ParamState", "shared"),
    ]
    assert [box.parameters for box in diagram.boxes] == [8, 2, 0, 2, 2]


def test_an_arrow_over_what_is_not_drawn_is_common_if_a_part_of_it_is():
    """All blocks lead to the same leaf, each over a net of its own, or over one that they share."""
    end = leaf(3)
    own = gn.diagram([Net([leaf()], {}, parent=Net([end], {})) for _ in range(2)], Leaf, gn.PathIn("*"))
    assert ("2 × Net", "parent.leaves.0", "Leaf", "shared") in arrows_of(own)
    middle = Net([end], {})
    over_shared = gn.diagram([Net([leaf()], {}, parent=middle) for _ in range(2)], Leaf, gn.PathIn("*"))
    assert ("2 × Net", "parent.leaves.0", "Leaf", "shared") in arrows_of(over_shared)


def test_a_symbolic_size_is_drawn_as_a_formula():
    """As in a summary; what is of known size is added."""
    (b,) = jax.export.symbolic_shape("b")
    rows: Any = jax.ShapeDtypeStruct((b, 4), jnp.float32)
    net = Net([leaf(), Leaf(2, gn.ParamState(rows))], {})
    assert "4*b + 2 parameters, 16*b + 8 B" in gn.diagram(net).dot()


def test_a_state_alone_has_its_own_name():
    """As the root of a graph it is not an object of no class."""
    assert gn.diagram(gn.ParamState(jnp.ones(2))).title == "ParamState"


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
    config = gn.config.loads("{in_size: 2, out_size: 3}", gn.nn.Linear)
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
    last = max(gn.nodes(chain), key=len)
    assert [box.path for box in gn.diagram(chain, gn.PathIn(last)).boxes] == [(), last]


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
    """Keys and titles may hold what Mermaid gives a meaning."""
    diagram = gn.diagram(Net([], {'<"&#': leaf(), "a\x00b": leaf()}), title='<b> & "x"\n')
    assert diagram.mermaid().splitlines()[1] == 'title: "<b> & \\"x\\" "'
    labels = [arrow.label for arrow in diagram.arrows]
    assert labels == ['named."<\\"&#"', "named.a b"]
    assert '|"named.#34;#60;\\#34;#38;#35;#34;"|' in diagram.mermaid()
