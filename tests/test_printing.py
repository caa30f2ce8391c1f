"""Printing: the tutorial's layout, repeats as `<path>`, bounded in depth, length and time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import ParamState, ShortTermState, State, static, subnode
from graphnode._pretty import MAX_DEPTH, Record, pretty
from graphnode.nn import Linear
from tests.work import calls_of

X = jnp.ones(2)


class Link(gn.Node):
    n: int = 0
    after: "Link | None" = None


class Leaf(gn.Node):
    n: int = 0


class Mlp(gn.Node):
    l1: Linear
    l2: Linear
    st: ShortTermState


def test_a_model_prints_as_the_tutorial_shows_it():
    """One field a line, shapes in place of numbers, nodes nested: the tutorial's MLP, two layers of it."""
    model = Mlp(Linear(2, 3), Linear(3, 4, use_bias=False), ShortTermState(jnp.zeros(5)))
    assert str(model) == repr(model)
    assert repr(model) == (
        "Mlp(\n"
        "  l1=Linear(\n"
        "    in_size=(2,),\n"
        "    out_size=(3,),\n"
        "    w_mask=None,\n"
        "    weight=ParamState(\n"
        "      value=ShapedArray(float32[2,3])\n"
        "    ),\n"
        "    bias=ParamState(\n"
        "      value=ShapedArray(float32[3])\n"
        "    )\n"
        "  ),\n"
        "  l2=Linear(\n"
        "    in_size=(3,),\n"
        "    out_size=(4,),\n"
        "    w_mask=None,\n"
        "    weight=ParamState(\n"
        "      value=ShapedArray(float32[3,4])\n"
        "    ),\n"
        "    bias=None\n"
        "  ),\n"
        "  st=ShortTermState(\n"
        "    value=ShapedArray(float32[5])\n"
        "  )\n"
        ")"
    )


def test_fields_print_in_the_order_of_the_class():
    """The source's order is for readers; the canonical order is for structure."""
    assert repr(Link(1)) == "Link(\n  n=1,\n  after=None\n)"


def test_a_node_without_fields_prints_in_one_line():
    """Nothing to show, no lines."""

    class Empty(gn.Node):
        pass

    assert repr(Empty()) == "Empty()"


def test_a_repeated_node_prints_its_path():
    """A node or State that was printed before is its path in what is printed, and the way back to that is `<self>`."""

    class Net(gn.Node):
        a: Leaf
        b: Leaf
        w: ParamState
        v: ParamState
        me: "Net | None" = None

    leaf, shared = Leaf(1), ParamState(X)
    net = Net(leaf, leaf, shared, shared)
    net.me = net
    assert repr(net) == (
        "Net(\n"
        "  a=Leaf(\n"
        "    n=1\n"
        "  ),\n"
        "  b=<a>,\n"
        "  w=ParamState(\n"
        "    value=ShapedArray(float32[2])\n"
        "  ),\n"
        "  v=<w>,\n"
        "  me=<self>\n"
        ")"
    )
    assert repr(net) == repr(net)


def test_containers_print_their_items():
    """Lists, tuples and dicts of nodes are opened; empty ones are not."""

    class Net(gn.Node):
        listed: list[Leaf | None]
        paired: tuple[Leaf, Leaf]
        named: dict[str, Leaf]
        none: list[Leaf] = subnode(default_factory=list)

    leaf = Leaf(1)
    assert repr(Net([Leaf(0), None], (leaf, leaf), {"b": leaf, "a": leaf})) == (
        "Net(\n"
        "  listed=[\n"
        "    Leaf(\n"
        "      n=0\n"
        "    ),\n"
        "    None\n"
        "  ],\n"
        "  paired=(\n"
        "    Leaf(\n"
        "      n=1\n"
        "    ),\n"
        "    <paired.0>\n"
        "  ),\n"
        "  named={\n"
        "    'b': <paired.0>,\n"
        "    'a': <paired.0>\n"
        "  },\n"
        "  none=[]\n"
        ")"
    )


VALUES = {
    "array": (jnp.ones((2, 3)), "ShapedArray(float32[2,3])"),
    "scalar": (jnp.ones(()), "ShapedArray(float32[])"),
    "bfloat16": (jnp.ones(2, jnp.bfloat16), "ShapedArray(bfloat16[2])"),
    "weak": (jnp.asarray(1.0), "ShapedArray(float32[], weak_type=True)"),
    "numpy": (np.ones(2, np.float32), "ShapedArray(float32[2])"),
    "key": (jax.random.key(0), "ShapedArray(key<fry>[])"),
    "abstract": (jax.ShapeDtypeStruct((2,), jnp.int8), "ShapedArray(int8[2])"),
    "number": (3.5, "3.5"),
    "None": (None, "None"),
    "text": ("a", "'a'"),
}


@pytest.mark.parametrize(("value", "text"), VALUES.values(), ids=VALUES)
def test_a_value_prints_its_shape(value: Any, text: str):
    """Every array prints as dtype and shape, whatever it is; anything else as itself."""
    assert repr(State(value)) == f"State(\n  value={text}\n)"


def test_a_tracer_prints_its_shape():
    """A model prints inside of a traced function as outside."""
    seen: list[str] = []

    def show(x: jax.Array) -> jax.Array:
        seen.append(repr(State(x)))
        return x

    jax.eval_shape(show, X)
    assert seen == ["State(\n  value=ShapedArray(float32[2])\n)"]


def test_a_static_array_prints_inside_of_the_layout():
    """A value of several lines is indented with its field."""

    class Masked(gn.Node):
        mask: Any = static()

    class Net(gn.Node):
        inner: Masked

    mask = np.array([[1, 0], [0, 1]])
    assert repr(Net(Masked(mask))) == (
        "Net(\n"
        "  inner=Masked(\n"
        "    mask=array([[1, 0],\n"  # as numpy aligns it, moved in by the depth of the field
        "           [0, 1]])\n"
        "  )\n"
        ")"
    )


def test_a_node_without_some_fields_prints():
    """A node under construction, or with a popped field, shows what it has."""
    node = Mlp(Linear(1, 1), Linear(1, 1), ShortTermState(X))
    del node.l1, node.l2
    assert repr(node) == "Mlp(\n  st=ShortTermState(\n    value=ShapedArray(float32[2])\n  )\n)"

    class Shows(gn.Node):
        a: int
        text: str = static(init=False)

        def __post_init__(self) -> None:
            self.text = repr(self)

    assert Shows(1).text == "Shows(\n  a=1\n)"


def chain(length: int) -> Link:
    link = Link()
    for n in range(length):
        link = Link(n, link)
    return link


def test_a_reference_is_a_path_from_what_is_printed():
    """The path leads from the object that is printed, through containers and quoted keys, also where that is inner."""

    class Net(gn.Node):
        table: dict[str, list[Leaf]]
        last: "Leaf | Net"

    leaf = Leaf(1)
    inner = Net({"a.b": [Leaf(0), leaf]}, leaf)
    assert repr(inner).endswith('  last=<table."a.b".1>\n)')
    assert repr(Net({}, inner)).endswith('    last=<last.table."a.b".1>\n  )\n)')


def test_a_reference_in_a_flat_mapping_is_one_path():
    """The keys of `gn.states` are whole paths: what follows them goes on from there."""

    class Held(NamedTuple):
        """Prints with a key that is a path."""

        leaf: Leaf

        def __pretty__(self) -> Record:
            return Record("", [(("head", 0), self.leaf), ("again", self.leaf)])

    assert pretty(Held(Leaf(1))) == "{\n  ('head', 0): Leaf(\n    n=1\n  ),\n  'again': <head.0>\n}"


def test_what_was_cut_is_shown_where_it_comes_again():
    """An object that lay too deep to be opened is not a reference where it can be opened."""
    leaf = Leaf(7)

    class Net(gn.Node):
        down: "Net | Leaf"
        leaf: Leaf | None = None

    net = Net(leaf)
    for _ in range(MAX_DEPTH - 1):
        net = Net(net)
    net.leaf = leaf
    text = repr(net)
    assert "down=Leaf(...)" in text
    assert text.endswith("\n  leaf=Leaf(\n    n=7\n  )\n)")


def test_a_deep_graph_is_cut():
    """Nesting is shown to a bounded depth, and the rest is `(...)`."""
    text = repr(chain(60))
    lines = text.split("\n")
    assert max(len(line) - len(line.lstrip()) for line in lines) <= 2 * 25
    assert "after=Link(...)" in text
    assert text == repr(chain(60))


def test_a_wide_graph_is_cut():
    """A long list shows its first items, then `...`."""

    class Net(gn.Node):
        leaves: list[Leaf]

    text = repr(Net([Leaf(n) for n in range(300)]))
    assert text.count("Leaf(") == 200
    assert text.endswith("    ...\n  ]\n)")


def test_a_wide_and_deep_graph_is_cut():
    """The number of lines is bounded too, however the graph is spread."""

    class Net(gn.Node):
        parts: list["Net"]

    def tree(depth: int) -> Net:
        return Net([tree(depth - 1) for _ in range(12)] if depth else [])

    assert repr(tree(4)).count("\n") < 5_000


LONG: dict[str, Any] = {
    "static tuple": lambda: Const(tuple(range(20_000))),
    "static text": lambda: Const("x" * 200_000),
    "static tuples": lambda: Const(((tuple(range(20_000)),),)),
    "value list": lambda: State([X] * 20_000),
    "value tuple": lambda: State((X,) * 20_000),
    "value dict": lambda: State({str(n): X for n in range(20_000)}),
    "metadata": lambda: State(X, metadata={"ids": tuple(range(20_000))}),
}


class Const(gn.Node):
    x: Any = static()


@pytest.mark.parametrize("make", LONG.values(), ids=LONG)
def test_a_long_value_is_cut(make: Any):
    """A value of any length prints as a bounded text."""
    length = len(repr(make()))
    assert length < 100_000


@pytest.mark.slow
def test_a_chain_of_nodes_of_any_length_prints_with_the_same_work():
    """Depth costs nothing: no recursion error, and as many calls for 100,000 nodes as for 1,000."""
    short, long = chain(1_000), chain(100_000)
    assert len(repr(long)) < 10_000
    assert len(repr(gn.graphdef(long))) < 100_000
    assert calls_of(lambda: repr(long)) == calls_of(lambda: repr(short))
