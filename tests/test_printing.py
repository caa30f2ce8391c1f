"""Printing: what fits on one line, alike siblings as one, repeats by path; a screen at most, and never an error."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn
from graphnode import ParamState, ShortTermState, State, static, subnode
from graphnode._pretty import _text
from graphnode._pretty._records import Record
from graphnode._pretty._screen import Screen
from graphnode._pretty._text import lines_of
from graphnode._pretty._walk import MAX_ENTRIES, tree_of
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


def test_a_model_prints_by_lines_that_fit():
    """What fits on one line is on one; else static fields fill lines, and each part has its own, with the sizes."""
    model = Mlp(Linear(2, 3), Linear(3, 4, use_bias=False), ShortTermState(jnp.zeros(5)))
    assert str(model) == repr(model)
    assert repr(model) == (
        "Mlp(  # 21 parameters, 104 B\n"
        "  l1=Linear(  # 9 parameters, 36 B\n"
        "    in_size=(2,), out_size=(3,), weight=ParamState(f32[2,3]), bias=ParamState(f32[3])\n"
        "  ),\n"
        "  l2=Linear(in_size=(3,), out_size=(4,), weight=ParamState(f32[3,4]), bias=None),\n"
        "  st=ShortTermState(f32[5])\n"
        ")"
    )
    assert repr(model.l2) == "Linear(in_size=(3,), out_size=(4,), weight=ParamState(f32[3,4]), bias=None)"


def test_fields_that_do_not_fit_fill_lines():
    """Static fields stand beside each other; States, nodes and what was said of a State have lines."""

    class Wide(gn.Node):
        first_number: int
        second_number: int
        weight: ParamState
        third_number: int
        text: str

    weight = ParamState(X, name="projection", tag="decay", sharding=("embed",), metadata={"unit": "mV"})
    assert gn.pformat(Wide(1, 2, weight, 3, "x" * 60), width=50) == (
        "Wide(  # 2 parameters, 8 B\n"
        "  first_number=1, second_number=2,\n"
        "  weight=ParamState(\n"
        "    f32[2], name='projection', tag='decay',\n"
        "    sharding=('embed',), unit='mV'\n"
        "  ),\n"
        "  third_number=3,\n"
        "  text='xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\n"
        ")"
    )


def test_fields_print_in_the_order_of_the_class():
    """The source's order is for readers; the canonical order is for structure."""

    class Ordered(gn.Node):
        b: int
        a: int

    assert repr(Ordered(1, 2)) == "Ordered(b=1, a=2)"


def test_options_that_are_off_are_left_out():
    """A field whose default is `None`, `False` or empty is shown where it is something else, and others always."""

    class Options(gn.Node):
        flag: bool = False
        rate: float = 0.0
        text: str = ""
        axes: tuple[int, ...] = ()
        mask: Any = static(default=None)
        needed: bool = static(kw_only=True)

    assert repr(Options(needed=False)) == "Options(rate=0.0, text='', needed=False)"
    assert repr(Options(True, axes=(1,), mask=2, needed=True)) == (
        "Options(flag=True, rate=0.0, text='', axes=(1,), mask=2, needed=True)"
    )
    assert repr(gn.graphdef(Options(needed=False))) == "GraphDef[Options](needed=False, rate=0.0, text='')"


def test_options_that_are_off_are_left_out_of_configs():
    """As of the nodes that they describe; what is set otherwise is shown, also to what is off elsewhere."""

    class Options(gn.Node):
        size: int
        flag: bool = False
        on: bool = True
        rate: float = 0.0
        name: str | None = None
        axes: tuple[int, ...] = ()
        leaf: Leaf | None = None
        scale: dataclasses.InitVar[float | None] = None

    config: Any = gn.config.config_of(Options)
    assert repr(config(size=1)) == str(config(size=1)) == "Options(size=1, on=True, rate=0.0)"
    assert repr(config(size=1, flag=False, on=False, name=None, axes=())) == "Options(size=1, on=False, rate=0.0)"
    leaf = gn.config.to_config(Leaf(0))
    assert repr(config(size=1, flag=True, axes=(1,), scale=0.5, leaf=leaf)) == (
        "Options(size=1, flag=True, on=True, rate=0.0, axes=(1,), leaf=Leaf(n=0), scale=0.5)"
    )
    assert "None" not in repr(gn.config.to_config(gn.nn.TransformerBlock(16, 2)))


def test_a_node_without_fields_prints_in_one_line():
    """Nothing to show, no lines."""

    class Empty(gn.Node):
        pass

    assert repr(Empty()) == "Empty()"


def test_a_repeated_object_prints_its_path():
    """A node that was shown before is `# =` its path, and a State is shown again; the outermost one is `self`."""

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
        "Net(  # 2 parameters, 8 B\n"
        "  a=Leaf(n=1),\n"
        "  b=Leaf(...),  # = a\n"
        "  w=ParamState(f32[2]),\n"
        "  v=ParamState(f32[2]),  # = w\n"
        "  me=Net(...)  # = self\n"
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
        "  listed=[Leaf(n=0), None],\n"
        "  paired=(\n"
        "    Leaf(n=1),\n"
        "    Leaf(...)  # = paired.0\n"
        "  ),\n"
        "  named={\n"
        "    'b': Leaf(...),  # = paired.0\n"
        "    'a': Leaf(...)  # = paired.0\n"
        "  },\n"
        "  none=[]\n"
        ")"
    )


class Point(NamedTuple):
    """A named tuple of whatever."""

    x: Any
    y: Any = 0


def test_a_named_tuple_prints_its_name_and_fields():
    """Around nodes and arrays, as of numbers: on one line and on several, in paths, closed, in a State and by rich."""
    leaf = Leaf(1)
    assert gn.pformat(Point(1, 2)) == "Point(x=1, y=2)"
    assert gn.pformat(Point(leaf, 2)) == "Point(x=Leaf(n=1), y=2)"
    assert gn.pformat([Point(leaf, leaf)]) == "[\n  Point(\n    x=Leaf(n=1),\n    y=Leaf(...)  # = 0.x\n  )\n]"
    assert gn.pformat([Point(leaf, 2)], depth=1, width=20) == "[\n  Point(...)\n]"
    assert repr(State(Point(X, (X, 3)))) == "State(Point(x=f32[2], y=(f32[2], 3)))"
    assert gn.pformat(Point((leaf,), X)) == "Point(x=(Leaf(n=1),), y=f32[2])"


class Single(gn.Node):
    pair: tuple[Leaf]


def test_tuples_are_opened_where_something_is_in_them():
    """Arrays are not read, and objects are shown once, however deep in tuples they are; numbers are a text."""
    leaf, gone = Leaf(1), jnp.ones(2)
    gone.delete()
    assert gn.pformat((X, (gone, 1))) == "(f32[2], (f32[2] deleted, 1))"
    assert repr(Const((np.zeros(20), 3))) == "Const(x=(f64[20], 3))"
    assert gn.pformat((((leaf,),), leaf)).endswith("  Leaf(...)  # = 0.0.0\n)")
    deep: Any = (1,)
    for _ in range(5_000):
        deep = (deep, deep)
    assert gn.pformat(deep).startswith("(\n  (\n")
    assert gn.pformat((1, (2, 3), ())) == "(1, (2, 3), ())"


def test_named_tuples_of_two_classes_are_not_alike():
    """Though they have one name."""
    other = type("Point", (Point,), {"__module__": __name__})
    points = [Point(Leaf(1)), Point(Leaf(1))]
    assert narrow_folds(points) == ["0-1"]
    assert narrow_folds([points[0], other(Leaf(1), 0)]) == []


def test_a_tuple_of_one_has_its_comma():
    """On one line and on several, or it would be read as its item."""
    leaf = Leaf(1)
    assert gn.pformat((leaf,)) == "(Leaf(n=1),)"
    assert gn.pformat(((leaf,), [leaf], (leaf, 1))).splitlines()[1] == "  (Leaf(n=1),),"
    assert repr(gn.graphdef(Single((leaf,)))) == "GraphDef[Single](pair=(Leaf(n=1),))"
    assert gn.pformat((Leaf(10**20),), width=20) == "(\n  Leaf(\n    n=100000000000000...\n  ),\n)"
    assert gn.pformat([leaf, (leaf,)]).endswith("  (\n    Leaf(...),  # = 0\n  )\n]")
    assert repr(State((X,))) == "State((f32[2],))"
    assert gn.pformat((Leaf(10**20),), depth=0, width=20) == "(... 1 item)"


@given(st.integers(0, 10**30), st.integers(30, 60))
def test_the_comma_of_a_tuple_of_one_fits_into_the_line(n: int, width: int):
    """As all of it."""
    assert max(map(len, gn.pformat((Leaf(n),), width=width).splitlines())) <= width


# Siblings that are alike


class Block(gn.Node):
    size: int
    parts: list[Leaf]
    weight: ParamState


class Blocks(gn.Node):
    blocks: list[Block]
    shared: Leaf | None = None


def block(size: int = 2, *parts: Leaf) -> Block:
    return Block(size, list(parts) or [Leaf(n) for n in range(3)], ParamState(jnp.zeros(size)))


def test_neighbours_that_are_alike_are_one():
    """With their positions and their number; each parameter counts in the whole."""
    model = Blocks([block(), block(), block(3), block()])
    assert gn.pformat(model, width=60) == (
        "Blocks(  # 9 parameters, 36 B\n"
        "  blocks=[\n"
        "    0-1: Block(  # 2 alike, each 2 parameters, 8 B\n"
        "      size=2,\n"
        "      parts=[Leaf(n=0), Leaf(n=1), Leaf(n=2)],\n"
        "      weight=ParamState(f32[2])\n"
        "    ),\n"
        "    2: Block(  # 3 parameters, 12 B\n"
        "      size=3,\n"
        "      parts=[Leaf(n=0), Leaf(n=1), Leaf(n=2)],\n"
        "      weight=ParamState(f32[3])\n"
        "    ),\n"
        "    3: Block(  # 2 parameters, 8 B\n"
        "      size=2,\n"
        "      parts=[Leaf(n=0), Leaf(n=1), Leaf(n=2)],\n"
        "      weight=ParamState(f32[2])\n"
        "    )\n"
        "  ]\n"
        ")"
    )


def folds(model: object, width: int = 88) -> list[str]:
    """The positions that are printed before what stands for several; what fits into a line is not folded."""
    lines = gn.pformat(model, width=width, lines=None).splitlines()
    return [line.split(":")[0].strip() for line in lines if " alike" in line]


def test_what_blocks_share_keeps_none_apart():
    """A node that all have, or that each has twice, is the same in all of them; one that two have is not."""
    leaf, mine = Leaf(1), [Leaf(2), Leaf(2)]
    assert folds(Blocks([block(2, leaf), block(2, leaf), block(2, leaf)])) == ["1-2"]  # the first shows it
    assert folds(Blocks([block(2, mine[at], mine[at]) for at in range(2)])) == ["0-1"]
    assert folds(Blocks([block(2, mine[0]), block(2, mine[0]), block(2, mine[1])])) == []
    assert folds(Blocks([block(2, mine[0], mine[1]), block(2, Leaf(2), mine[0])])) == []
    assert folds(Blocks([block(2, leaf) for leaf in (*mine, *mine)])) == ["0-1"], "the others repeat different ones"


def test_a_reference_into_what_is_folded_keeps_its_path():
    """The path leads to the very object, though another one of its kind is shown."""
    model = Blocks([block(), block()])
    model.shared = model.blocks[1].parts[2]
    assert folds(model) == ["0-1"]
    assert "shared=Leaf(...)  # = blocks.1.parts.2\n" in repr(model)


@pytest.mark.parametrize("difference", ["size", "part", "shape", "class", "length"])
def test_blocks_that_differ_anywhere_are_shown_apart(difference: str):
    """In a static value, in a part, in a shape, in the class of a State, or in how many parts there are."""
    blocks = [block(), block()]
    if difference == "size":
        blocks[1].size = 3
    elif difference == "part":
        blocks[1].parts[2] = Leaf(3)
    elif difference == "shape":
        blocks[1].weight = ParamState(jnp.zeros(4))
    elif difference == "class":
        blocks[1].weight = Marked(jnp.zeros(2))
    else:
        blocks[1].parts.append(Leaf(3))
    assert folds(Blocks(blocks)) == []


def test_mappings_with_other_keys_are_shown_apart():
    """What they hold may be equal."""
    long = "k" * 50
    assert folds([{long: 1}, {long: 1}]) == ["0-1"]
    assert folds([{long: 1}, {f"{long}2": 1}]) == []


def narrow_folds(model: object) -> list[str]:
    """What `folds` finds where little fits into a line."""
    return folds(model, 20)


def scaled(factor: int) -> Callable[[jax.Array], jax.Array]:
    return lambda x: x * factor


class Scale:
    """It has the `repr` of any object, which is the same for all after the address is left out."""

    def __init__(self, factor: object) -> None:
        self.factor = factor


def of_one_name(base: type[Any], number: int) -> Any:
    """An object of a class that another one is called like."""
    return type("Same", (base,), {"__module__": __name__, "number": number})


class Const(gn.Node):
    x: Any = static()


# What prints the same, and is not: made of 1, and of 2.
LOOKALIKES: dict[str, Callable[[int], Any]] = {
    "closures of one factory": scaled,
    "partials": lambda n: functools.partial(Scale, Scale(n)),
    "objects with the default repr": Scale,
    "long arrays": lambda n: np.arange(20) * n,
    "arrays of JAX": lambda n: jnp.arange(20) * n,
    "texts that are cut": lambda n: "a" * 1_200 + str(n),
    "tuples that are opened": lambda n: (*range(200), Scale(n)),
    "classes": lambda n: of_one_name(object, n),
}


@pytest.mark.parametrize("make", LOOKALIKES.values(), ids=LOOKALIKES)
def test_static_values_that_only_print_alike_keep_nodes_apart(make: Callable[[int], Any]):
    """In nodes, graphdefs, descriptions of States and configs; one value in both keeps none apart."""
    first, other = make(1), make(2)
    for one, two, places in ((first, other, []), (first, first, ["0-1"])):
        nodes = [Const(one), Const(two)]
        assert narrow_folds(nodes) == narrow_folds(gn.graphdef(nodes)) == places
        assert narrow_folds([State(X, metadata={"m": one}), State(X, metadata={"m": two})]) == places
        assert narrow_folds([gn.config.to_config(node) for node in nodes]) == places


def test_values_that_are_equal_are_alike_whoever_made_them():
    """As graphdefs compare them: by content; and empty lists, sets and dicts, which cannot be static, by equality."""
    for make in (lambda: np.arange(20), lambda: jnp.arange(20), lambda: ("a", 1.5), lambda: float("nan")):
        assert narrow_folds([Const(make()), Const(make())]) == ["0-1"]
    assert narrow_folds([[set(), {}, []], [set(), {}, []]]) == ["0-1"]
    assert narrow_folds([[{1, 2}, "a" * 50], [{1, 2}, "a" * 50]]) == ["0-1"]


@pytest.mark.parametrize("base", [gn.Node, ParamState], ids=["node", "State"])
def test_classes_of_one_name_are_not_alike(base: type[Any]):
    """In lists, graphdefs and state trees."""
    args = () if base is gn.Node else (X,)
    one, two = (of_one_name(base, number)(*args) for number in (1, 2))
    nodes = [Const(1), one, two]
    assert narrow_folds(nodes) == []
    assert narrow_folds(gn.graphdef(nodes)) == []
    assert narrow_folds(gn.treefy_states(nodes)) == []
    assert narrow_folds([type(one)(*args) for _ in range(4)]) == ["0-3"]


def test_transformations_of_optax_that_only_print_alike_keep_optimizers_apart():
    """A transformation is functions, and prints as its class."""
    optimizers = [gn.optim.Optimizer(Linear(2, 3), optax.sgd(rate)) for rate in (0.1, 0.2)]
    assert narrow_folds(optimizers) == []


def test_keys_that_only_print_alike_keep_mappings_apart():
    """A key is compared, as a value is, and its text may be cut."""
    for one, two in ((Scale(1), Scale(2)), ("k" * 300 + "1", "k" * 300 + "2")):
        assert narrow_folds([{one: 1, "a": X}, {two: 1, "a": X}]) == []
        assert narrow_folds([{one: 1, "a": X}, {one: 1, "a": X}]) == ["0-1"]


def test_arrays_in_lists_of_anybody_are_not_read():
    """They are alike by dtype and shape, as in States: they may be large, on devices, or gone."""
    gone = jnp.ones(3)
    gone.delete()
    assert narrow_folds([jnp.ones(3), jnp.zeros(3), jnp.arange(3.0), jnp.ones(3)]) == ["0-3"]
    assert narrow_folds([np.arange(n, n + 9) for n in range(4)]) == ["0-3"]
    assert narrow_folds([gone] * 4) == ["0-3"]
    assert narrow_folds([State([np.arange(9, dtype=np.int32)]), State([np.ones(9, np.int32)])]) == ["0-1"]


class Moody:
    """Nothing can be asked of it."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("asked")

    def __hash__(self) -> int:
        raise RuntimeError("asked")

    def __repr__(self) -> str:
        return "Moody()"


def test_values_that_cannot_be_compared_are_shown_apart():
    """Without an error."""
    apart, together = [Const(1) for _ in range(2)], [Const(1) for _ in range(2)]
    for node in apart:
        node.__dict__["x"] = Moody()
    for node in together:
        node.__dict__["x"] = apart[0].x
    assert narrow_folds(apart) == []
    assert narrow_folds(together) == ["0-1"]
    texts: list[list[str]] = []

    def traced(x: jax.Array) -> jax.Array:
        for node, value in zip(apart, (x, x + 1), strict=True):
            node.__dict__["x"] = value
        texts.append(narrow_folds(apart))
        return x

    jax.eval_shape(traced, X)
    assert texts == [[]]


class Marked(ParamState):
    """A class of parameters."""


def test_state_trees_and_graphdefs_fold_too():
    """They print by the same rules, and say of States what they know."""
    graphdef, tree = gn.treefy_split(Blocks([block() for _ in range(12)]))
    assert repr(tree) == (
        "{  # 24 parameters, 96 B\n"
        "  'blocks': {\n"
        "    0-11: {'weight': TreefyState(ParamState, f32[2])}  # 12 alike\n"
        "  }\n"
        "}"
    )
    assert gn.pformat(graphdef, width=60) == (
        "GraphDef[Blocks](\n"
        "  blocks=[\n"
        "    0-11: Block(  # 12 alike\n"
        "      size=2,\n"
        "      parts=[Leaf(n=0), Leaf(n=1), Leaf(n=2)],\n"
        "      weight=ParamState()\n"
        "    )\n"
        "  ]\n"
        ")"
    )


def test_plain_values_fold_when_they_are_many():
    """Three equal numbers are shown; of a thousand arrays in a State, one."""
    assert repr(State([X] * 3)) == "State([f32[2], f32[2], f32[2]])"
    assert repr(State([X] * 1000)) == ("State(  # 8.00 kB\n  [\n    0-999: f32[2]  # 1,000 alike\n  ]\n)")


# Values


VALUES: dict[str, tuple[Any, str]] = {
    "array": (jnp.ones((2, 3)), "f32[2,3]"),
    "scalar": (jnp.ones(()), "f32[]"),
    "bfloat16": (jnp.ones(2, jnp.bfloat16), "bf16[2]"),
    "float8": (jnp.ones(2, jnp.float8_e4m3fn), "f8_e4m3fn[2]"),
    "int": (jnp.ones(2, jnp.int32), "i32[2]"),
    "unsigned": (jnp.ones(2, jnp.uint8), "u8[2]"),
    "bool": (jnp.ones(2, bool), "bool[2]"),
    "complex": (jnp.ones(2, jnp.complex64), "c64[2]"),
    "float0": (np.zeros(2, jax.dtypes.float0), "float0[2]"),
    "weak": (jnp.asarray(1.0), "weak f32[]"),
    "numpy": (np.ones(2, np.float32), "f32[2]"),
    "numpy scalar": (np.float32(1), "f32[]"),
    "key": (jax.random.key(0), "key<fry>[]"),
    "keys": (jax.random.split(jax.random.key(0, impl="rbg"), 3), "key<rbg>[3]"),
    "abstract": (jax.ShapeDtypeStruct((2,), jnp.int8), "i8[2]"),
    "symbolic": (jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, 2"), jnp.int8), "i8[n,2]"),
    "number": (3.5, "3.5"),
    "None": (None, "None"),
    "text": ("a", "'a'"),
    "dict": ({"b": X, "a": [X, 3]}, "{'a': [f32[2], 3], 'b': f32[2]}"),
}


@pytest.mark.parametrize(("value", "text"), VALUES.values(), ids=VALUES)
def test_a_value_prints_its_shape(value: Any, text: str):
    """Every array prints as JAX's own short dtype and its shape, whatever it is; anything else as itself."""
    assert repr(State(value)) == f"State({text})"
    assert repr(gn.treefy_states(State(value))[()]) == f"TreefyState(State, {text})"


def test_the_size_of_an_open_dimension_is_not_known():
    """A shape for `jax.export` may have names in it: the bytes of the others are a lower bound."""
    states = [State(jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, 2"), jnp.int8)), State(X)]
    assert gn.pformat(states, depth=0) == "[State(i8[n,2]), State(f32[2])]"
    assert gn.pformat(states, depth=0, width=20) == "[... 2 items]  # more than 8 B"


HELD: dict[str, tuple[Any, int, int]] = {
    "float": (3.0, 1, 4),
    "int": (7, 1, 4),
    "bool": (True, 1, 1),
    "complex": (1j, 1, 8),
    "scalar": (jnp.zeros((), jnp.bfloat16), 1, 2),
    "text": ("abc", 0, 0),
    "container": ({"s": 3.0, "n": None, "t": "abc", "x": X, "y": [1, 2]}, 5, 20),
}


@pytest.mark.parametrize(("value", "numbers", "size"), HELD.values(), ids=HELD)
def test_a_number_has_the_size_of_the_array_that_jax_makes_of_it(value: Any, numbers: int, size: int):
    """What prints, a summary and a diagram say the same."""
    model = Holder(ParamState(value), Linear(2, 3))
    assert gn.pformat(model, depth=0, width=20) == f"Holder(...)  # {9 + numbers} parameters, {36 + size} B"
    box, summary = gn.diagram(model).boxes[0], gn.summary(model)
    assert (box.parameters, box.bytes) == (9 + numbers, 36 + size)
    assert (summary.parameters, summary.bytes) == (9 + numbers, 36 + size)


def test_a_number_that_jax_makes_no_array_of_prints():
    """It is too large, and counts as others do."""
    assert gn.pformat([State(2**70)], depth=0, width=20) == "[... 1 item]  # 4 B"


class Holder(gn.Node):
    state: ParamState
    layer: Linear


def test_a_state_prints_what_was_said_of_it():
    """Name, tag, sharding, axes of stacks and metadata, where there are any."""
    layers = gn.stack([Linear(2, 3, axes=("in", "out")) for _ in range(4)], name="layers")
    assert repr(layers.weight) == "ParamState(f32[4,2,3], sharding=('layers', 'in', 'out'), stacked={0: 'layers'})"
    assert repr(State(X, name="n", tag="t", metadata={"unit": "mV"})) == "State(f32[2], name='n', tag='t', unit='mV')"


def test_a_deleted_array_says_so():
    """After a donation a model still prints, and says which States have lost their arrays."""
    state, other = State(jnp.ones(2)), State({"a": jnp.ones(3), "b": X})
    state.value.delete()
    other.value["a"].delete()
    assert repr(state) == "State(f32[2] deleted)"
    assert repr(other) == "State({'a': f32[3] deleted, 'b': f32[2]})"
    assert repr(Mlp(Linear(1, 1), Linear(1, 1), ShortTermState(state._value))).endswith("f32[2] deleted)\n)")


def test_a_tracer_prints_its_shape():
    """A model prints inside of a traced function as outside; so does one that a transformation works on a copy of."""
    seen: list[str] = []
    outside = ParamState(X)

    def show(x: jax.Array) -> jax.Array:
        seen.append(repr(State(x)))
        return x

    jax.eval_shape(show, X)

    def loss(state: ParamState) -> jax.Array:
        seen.extend([repr(state), repr(outside)])
        return state.value.sum()

    gn.grad(loss)(outside)
    assert seen == ["State(f32[2])", *["ParamState(f32[2])"] * 2]


def test_static_values_print_briefly():
    """Arrays of more than a few numbers by shape, functions and classes by name, and no address."""

    class Const(gn.Node):
        value: Any = static()

    texts: dict[str, tuple[Any, str]] = {
        "few": (np.array([[1, 0], [0, 1]]), "array([[1, 0], [0, 1]])"),
        "many": (np.zeros((10, 10)), "f64[10,10]"),
        "function": (jax.nn.initializers.zeros, "<function zeros>"),
        "jitted": (jax.nn.gelu, "<function gelu>"),
        "custom_jvp": (jax.nn.relu, "<function relu>"),
        "class": (int, "<class 'int'>"),
        "dtype": (jnp.dtype("float32"), "dtype('float32')"),
        "own": (gn.OfType(ParamState), "ParamState"),
    }
    for value, text in texts.values():
        assert repr(Const(value)) == f"Const(value={text})"


class Bad:
    """Its `repr` raises."""

    def __repr__(self) -> str:
        raise ValueError("never printed")


def test_a_repr_never_raises():
    """A value that does not print says so; so does a node whose fields do not."""

    class Odd(gn.Node):
        def __pretty__(self) -> Record:
            raise RuntimeError("half made")

    class Net(gn.Node):
        odd: Odd
        bad: Any = static(default=None)

    net = Net(Odd())
    net.__dict__["bad"] = Bad()
    assert repr(net) == "Net(odd=Odd(<__pretty__ raises RuntimeError>), bad=<Bad, whose repr raises ValueError>)"
    assert repr(Net.__new__(Net)) == "Net()"
    assert repr([net]).startswith("[Net(")


def test_a_foreign_pretty_is_no_description():
    """Pydantic's models have a `__pretty__` of another kind: they print by their `repr`."""

    class Settings(pydantic.BaseModel):
        size: int

    class Held(gn.Node):
        settings: Any = static(default=None)

    held = Held()
    held.__dict__["settings"] = Settings(size=1)
    assert repr(held) == "Held(settings=Settings(size=1))"


def test_a_node_without_some_fields_prints():
    """A node under construction, or with a popped field, shows what it has."""
    node = Mlp(Linear(1, 1), Linear(1, 1), ShortTermState(X))
    del node.l1, node.l2
    assert repr(node) == "Mlp(st=ShortTermState(f32[2]))"

    class Shows(gn.Node):
        a: int
        text: str = static(init=False)

        def __post_init__(self) -> None:
            self.text = repr(self)

    assert Shows(1).text == "Shows(a=1)"


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
    assert repr(inner).endswith('  last=Leaf(...)  # = table."a.b".1\n)')
    assert repr(Net({}, inner)).endswith('    last=Leaf(...)  # = last.table."a.b".1\n  )\n)')


def test_a_reference_in_a_flat_mapping_is_one_path():
    """The keys of `gn.states` are whole paths: what follows them goes on from there."""

    class Held(NamedTuple):
        """Prints with a key that is a path."""

        leaf: Leaf

        def __pretty__(self) -> Record:
            return Record("", [(("head", 0), self.leaf), ("again", self.leaf)])

    assert gn.pformat(Held(Leaf(1))) == "{\n  ('head', 0): Leaf(n=1),\n  'again': Leaf(...)  # = head.0\n}"


# Bounds


class Row(gn.Node):
    leaves: list[Leaf]


class Tree(gn.Node):
    parts: list["Tree"]
    n: int = 0


COUNTER = itertools.count()


def tree(depth: int, width: int) -> Tree:
    return Tree([tree(depth - 1, width) for _ in range(width)] if depth else [], next(COUNTER))


def test_a_wide_graph_shows_its_first_items():
    """A long list shows as many as fill the screen, and says how many there are more."""
    text = repr(Row([Leaf(n) for n in range(300)]))
    assert text.count("Leaf(") == 43
    assert text.endswith("    Leaf(n=42),\n    ... 257 more\n  ]\n)")
    assert len(text.splitlines()) == 48


def test_what_lies_deepest_is_closed_first():
    """Level after level is opened, as long as the lines last; a closed list says how long it is."""
    model = tree(3, 4)
    assert gn.pformat(model, depth=1).splitlines()[1:] == ["  parts=[... 4 items],", f"  n={model.n}", ")"]
    assert gn.pformat(model, depth=2).count("Tree(...)") == 4
    for lines in range(1, 130):
        text = gn.pformat(model, lines=lines)
        depths = {len(line) - len(line.lstrip()) for line in text.splitlines() if "..." in line}
        assert len(text.splitlines()) <= lines
        assert len(depths) == 0 or max(depths) - min(depths) <= 4, "no level is opened before the one above"
    assert "..." not in gn.pformat(model, lines=None)


def test_any_graph_fits_a_screen():
    """However it is spread, 48 lines and 88 columns are enough, but for comments."""
    for model in (tree(4, 12), chain(1000), Row([Leaf(n) for n in range(300)])):
        lines = repr(model).splitlines()
        assert len(lines) <= 48
        assert max(len(line.split("  # ")[0]) for line in lines) <= 88
    text = repr(chain(1000))
    assert "after=Link(...)" in text
    assert max(len(line) - len(line.lstrip()) for line in text.splitlines()) == 2 * 15


class ANameThatIsTooLongForTheLineItIsOn(gn.Node):
    pass


def nested(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["a", "b", "a_rather_long_key", 0, 1, 2])
    return st.one_of(st.lists(parts), st.dictionaries(keys, parts), st.lists(parts).map(tuple))


PLAIN = st.one_of(st.integers(), st.text("xyz", max_size=100), st.just(X), st.builds(Leaf, st.integers(0, 2)))
SAME = ANameThatIsTooLongForTheLineItIsOn()
ANYTHING = st.recursive(st.one_of(PLAIN, st.just(SAME)), nested, max_leaves=60)


@given(ANYTHING, st.integers(20, 100), st.integers(0, 5) | st.none(), st.integers(1, 60))
def test_anything_is_shown_within_the_bounds(value: Any, width: int, depth: int | None, lines: int):
    """Whatever it is: lines, width and levels are kept, and closed parts are said."""
    text = gn.pformat(value, width=width, depth=depth, lines=lines)
    rows = [line.split("  # ")[0] for line in text.splitlines()]
    indents = [len(row) - len(row.lstrip()) for row in rows]
    assert len(rows) <= lines
    assert depth is None or max(indents) <= 2 * depth
    # Names, keys and what is closed are not cut.
    assert all(len(row) <= width or len(row) - indent <= 70 for row, indent in zip(rows, indents, strict=True))
    whole = gn.pformat(value, width=width, depth=100, lines=None)
    assert "..." in text or text == whole


def test_two_alike_in_two_alike_are_both_told():
    """A comment that says the same as the one above is left out only of a part that stands for one."""
    rows = [Row([Leaf(1), Leaf(1)]) for _ in range(2)]
    text = gn.pformat([Blocks([Block(2, [Leaf(10**40)] * 2, ParamState(X)) for _ in range(2)]) for _ in range(2)])
    assert gn.pformat(rows) == "[Row(leaves=[Leaf(n=1), Leaf(n=1)]), Row(leaves=[Leaf(n=1), Leaf(n=1)])]"
    assert text.count("# 2 alike") == 2
    wide = [[[10**40], [10**40]], [[10**40], [10**40]]]
    assert gn.pformat(wide).count("# 2 alike") == 2


def test_what_was_not_looked_at_is_said():
    """How many items there are is known of all of them; the sizes are lower bounds."""
    row = Row([Leaf(n) for n in range(MAX_ENTRIES)])
    assert repr(row).endswith(f"  ... {MAX_ENTRIES - 43:,} more\n  ]\n)")
    assert gn.pformat(row, depth=1) == f"Row(\n  leaves=[... {MAX_ENTRIES:,} items]\n)"
    states = [State(X) for _ in range(MAX_ENTRIES)]
    assert gn.pformat(states, depth=0) == f"[... {MAX_ENTRIES:,} items]  # more than 80.0 kB"
    assert gn.pformat(states) == (
        "[  # more than 80.0 kB\n  0-9998: State(f32[2]),  # 9,999 alike\n  9999: State(...),\n  ... 10,000 more\n]"
    )


def shown_of(value: object, max_entries: int) -> str:
    """What is printed of a value where no more than so much of it is looked at."""
    screen = Screen(tree_of(value, max_entries), 88, None, None)
    return "\n".join(lines_of(screen))


class Several(gn.Node):
    parts: list[Leaf]
    first: Leaf
    second: Leaf
    state: State


def test_what_was_not_looked_at_has_a_number_in_all_that_prints():
    """The fields of an object, the items of a list, tuple and mapping; of graphdefs and state trees, too."""
    node = Several([Leaf(1), Leaf(2), Leaf(3)], Leaf(4), Leaf(5), State(X))
    assert shown_of(node, 5).endswith("Several(parts=[Leaf(n=1), Leaf(...), ... 1 more], ... 3 more)")
    assert (
        shown_of(gn.graphdef(node), 5)
        == "GraphDef[Several](first=Leaf(n=4), parts=[Leaf(...), ... 2 more], ... 2 more)"
    )
    assert shown_of(gn.treefy_states([State(n) for n in range(9)]), 6) == (
        "{0: TreefyState(State, 0), 1: TreefyState(State, ... 1 more), ... 7 more}"
    )
    assert shown_of(gn.states([State(n) for n in range(9)]), 5) == "{(0,): State(0), (1,): State(1), ... 7 more}"
    assert shown_of((Leaf(1), Leaf(2), Leaf(3)), 3) == "(Leaf(n=1), ... 2 more)"
    assert shown_of([[1, 2], 3], 2) == "[[... 2 items], ... 1 more]"


def test_all_is_shown_where_all_is_asked_for():
    """With `lines=None`, as deep as `depth` goes: more than is looked at for a screen."""
    states = [State(jax.ShapeDtypeStruct((n % 2,), jnp.float32)) for n in range(MAX_ENTRIES // 2 + 1)]
    text = gn.pformat(states, lines=None)
    assert text.count("State(f32[") == len(states)
    assert "..." not in text
    assert gn.pformat([State(X) for _ in range(25_000)], lines=None) == (
        "[  # 200 kB\n  0-24999: State(f32[2])  # 25,000 alike\n]"
    )


def test_there_is_an_end_to_all(monkeypatch: pytest.MonkeyPatch):
    """As of lists that hold one list twice, thirty times over, and it is said what is left out."""
    value: list[Any] = [0]
    for _ in range(30):
        value = [value, value]
    monkeypatch.setattr(_text, "MAX_ALL", 100)
    assert gn.pformat(value, lines=None).endswith("    ... 1 more\n  ],\n  ... 1 more\n]")


def test_long_paths_are_looked_at_as_so_many_parts():
    """Or a flat mapping of a deep graph would take minutes to print, and gigabytes."""
    paths = [(*range(1_600), n) for n in range(300)]
    shown = (MAX_ENTRIES - 1) // 101 + 1
    assert shown_of(dict.fromkeys(paths, 0), MAX_ENTRIES).endswith(f",\n  ... {300 - shown} more\n}}")
    assert not shown_of(dict.fromkeys(paths, 0), 100 * MAX_ENTRIES).endswith("more\n}")


def test_a_list_or_dict_in_itself_ends():
    """It is said where it stands, as of an object; what is there twice without being in itself is shown twice."""
    one: list[Any] = [1]
    one.append({"one": one})
    assert gn.pformat(one) == "[\n  1,\n  {\n    'one': [...]  # = self\n  }\n]"
    assert gn.pformat([["a"], one]).endswith("      'one': [...]  # = 1\n    }\n  ]\n]")
    twice = ["a"]
    assert gn.pformat([twice, twice]) == "[['a'], ['a']]"


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "width": ({"width": 3}, ValueError, "gn.pformat takes a width of 20 or more; found 3"),
    "depth": ({"depth": -1}, ValueError, "gn.pformat takes a depth of 0 or more; found -1"),
    "lines": ({"lines": 0}, ValueError, "gn.pformat takes a number of lines of 1 or more; found 0"),
    "text": ({"depth": "2"}, TypeError, "gn.pformat takes an int or None as depth; found str '2'"),
    "none": ({"width": None}, TypeError, "gn.pformat takes an int as width; found None"),
    "bool": ({"lines": True}, TypeError, "gn.pformat takes an int or None as lines; found bool True"),
}


WRONG_CASES = [
    pytest.param(*case, marks=pytest.mark.wrong_types if name in ("text", "none") else (), id=name)
    for name, case in WRONG.items()
]


@pytest.mark.parametrize(("options", "error", "text"), WRONG_CASES)
def test_wrong_options_are_named(options: Any, error: type[Exception], text: str):
    """The message says which option, what it takes and what was found."""
    with pytest.raises(error) as caught:
        gn.pformat(chain(2), **options)
    assert str(caught.value) == text


LONG: dict[str, Any] = {
    "static tuple": lambda: Const(tuple(range(20_000))),
    "static text": lambda: Const("x" * 200_000),
    "static tuples": lambda: Const(((tuple(range(20_000)),),)),
    "value list": lambda: State([X] * 20_000),
    "value tuple": lambda: State((X,) * 20_000),
    "value dict": lambda: State({str(n): X for n in range(20_000)}),
    "metadata": lambda: State(X, metadata={"ids": tuple(range(20_000))}),
}


@pytest.mark.parametrize("make", LONG.values(), ids=LONG)
def test_a_long_value_is_cut(make: Any):
    """A value of any length prints as a bounded text."""
    text = repr(make())
    assert len(text.splitlines()) <= 48
    assert max(map(len, text.splitlines())) <= 88 + len("  # 20,000 alike, 80.0 kB")


@pytest.mark.slow
def test_a_chain_of_nodes_of_any_length_prints_with_the_same_work():
    """No recursion error, and beyond a bound as many calls for 100,000 nodes as for 20,000."""
    short, long = chain(20_000), chain(100_000)
    assert len(repr(long)) < 10_000
    assert len(repr(gn.graphdef(long))) < 10_000
    assert calls_of(lambda: repr(long)) == calls_of(lambda: repr(short))


@pytest.mark.slow
def test_a_deep_graph_is_printed_as_deep_as_one_asks():
    """A thousand levels, without recursion."""
    assert gn.pformat(chain(1_000), depth=1_000, lines=None).count("Link(") == 1_001
