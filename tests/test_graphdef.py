"""The graphdef: the static half of a graph, interned, hashable, picklable, shown nested."""

import copy
import dataclasses
import functools
import gc
import pickle
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode._graph._template import template_of


def param(size: int = 1) -> gn.ParamState:
    return gn.ParamState(jnp.zeros(size))


class Leaf(gn.Node):
    size: int
    weight: gn.ParamState


class Net(gn.Node):
    name: str = "net"
    first: Leaf | None = None
    again: Leaf | None = None
    items: list[Leaf] = gn.subnode(default_factory=list)
    table: dict[str, gn.State] = gn.state(default_factory=dict)
    parent: "Net | None" = None


class Loose(gn.Node):
    """A static that may be of several types."""

    fact: int | float | bool | str | tuple[int | bool, ...] | None
    weight: gn.State | None = None


def shared_net() -> Net:
    one = Leaf(2, param())
    net = Net(first=one, again=one, items=[Leaf(1, param())], table={"b": gn.State(jnp.zeros(1)), "a": one.weight})
    net.parent = net
    return net


def test_repr_is_that_of_a_node_without_shapes():
    """A graphdef prints like its node, with the class of each State; the view prints so too, from where it is."""
    graphdef = gn.graphdef(shared_net())
    assert repr(graphdef) == (
        "GraphDef[Net](\n"
        "  name='net',\n"
        "  again=Leaf(size=2, weight=ParamState()),\n"
        "  first=Leaf(...),  # = again\n"
        "  items=[Leaf(size=1, weight=ParamState())],\n"
        "  parent=Net(...),  # = self\n"
        "  table={\n"
        "    'a': ParamState(),  # = again.weight\n"
        "    'b': State()\n"
        "  }\n"
        ")"
    )
    assert repr(graphdef.root) == repr(graphdef).replace("GraphDef[Net]", "NodeDef[Net]")
    assert isinstance(graphdef.root, gn.NodeDef)
    parts = graphdef.root.subgraphs
    assert repr(parts["again"]) == "NodeDef[Leaf](size=2, weight=ParamState())"
    assert repr(parts["first"]) == "NodeRef(Leaf, index=1)"
    assert repr(parts["items"]) == "NodeDef[list]([Leaf(size=1, weight=ParamState())])"
    assert repr(parts["table"]) == "NodeDef[dict]({'a': ParamState(), 'b': State()})"


def test_repr_of_a_graphdef_of_several_nodes():
    """Of a list or dict of nodes, and of a State alone, it shows what is there."""
    leaf = Leaf(1, param())
    assert repr(gn.graphdef([leaf, leaf])) == (
        "GraphDef[list](\n  [\n    Leaf(size=1, weight=ParamState()),\n    Leaf(...)  # = 0\n  ]\n)"
    )
    assert repr(gn.graphdef({"a": leaf})) == "GraphDef[dict]({'a': Leaf(size=1, weight=ParamState())})"
    assert repr(gn.graphdef(param())) == "GraphDef(ParamState())"


def test_field_that_holds_none_is_a_static_field_of_the_view():
    """An optional field that holds None is shown among the static fields; an unset one is not shown."""
    loose = Loose(1)
    assert gn.graphdef(loose).root.static_fields == {"fact": 1, "weight": None}  # type: ignore[union-attr]  # ty: ignore[missing-union-attribute]
    del loose.weight
    root = gn.graphdef(loose).root
    assert isinstance(root, gn.NodeDef)
    assert root.static_fields == {"fact": 1}
    assert root.attributes == ("fact",)


def test_indices_count_nodes_and_states_in_one_pre_order():
    """One counter numbers nodes and States, in the order in which they are first reached."""
    graphdef = gn.graphdef(shared_net())
    assert [spec.cls.__name__ for spec in graphdef.table.specs] == [
        *("Net", "Leaf", "ParamState", "Leaf", "ParamState", "State")
    ]
    assert [gn.path_str(graphdef.path(at)) for at in range(6)] == [
        *("", "again", "again.weight", "items.0", "items.0.weight", "table.b")
    ]


def test_type_is_the_class_of_the_root():
    """`GraphDef.type` is the node class, or the type of the pytree at the root."""
    assert gn.graphdef(Leaf(1, param())).type is Leaf
    assert gn.graphdef([Leaf(1, param())]).type is list
    assert gn.graphdef({"a": Leaf(1, param())}).type is dict


def test_equal_structures_are_one_object():
    """Graphdefs are interned: nodes of equal structure, whatever their values and shapes, share one."""
    left, right = shared_net(), shared_net()
    assert right.first is not None
    right.first.weight.value = jnp.ones((3, 3))
    assert gn.graphdef(left) is gn.graphdef(right)
    assert hash(gn.graphdef(left)) == hash(gn.graphdef(right))
    assert gn.graphdef(left) is gn.graphdef(gn.clone(left))
    assert gn.graphdef(left) is gn.graphdef(copy.deepcopy(left))


def test_hash_and_equality_look_at_no_content():
    """Comparing and hashing graphdefs is a matter of identity, whatever their size."""
    assert gn.GraphDef.__hash__ is object.__hash__
    assert gn.GraphDef.__eq__ is object.__eq__


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (1, 1.0),
        (0, False),
        (0.0, -0.0),
        (True, 1.0),
        ("1", 1),
        ((1,), (True,)),
        ((1, 0), (1, False)),
        (None, 0),
        ((), None),
        (1, 2),
    ],
)
def test_statics_differ_by_type_and_value(left: Any, right: Any):
    """Static values of another type or value, at any depth, give another structure."""
    assert gn.graphdef(Loose(left)) != gn.graphdef(Loose(right))
    assert gn.graphdef(Loose(left)) is gn.graphdef(Loose(left))


def test_nan_is_one_static():
    """A NaN equals itself as a static value: a node holding one has one structure."""
    assert gn.graphdef(Loose(float("nan"))) is gn.graphdef(Loose(float("nan")))


@pytest.mark.parametrize(
    "other",
    [
        gn.State(0),
        gn.ParamState(0),
        gn.BatchState(0, tag="t"),
        gn.BatchState(0, name="n"),
        gn.BatchState(0, sharding=("x",)),
        gn.BatchState(0, metadata={"unit": "mV"}),
        gn.BatchState(0, metadata={"unit": 1}),
        gn.BatchState(0, metadata={"unit": True}),
        None,
    ],
    ids=repr,
)
def test_description_of_a_state_is_structure(other: Any):
    """Class, name, tag, sharding and metadata of a State are structure; each of them tells two graphs apart."""
    plain = gn.graphdef(Loose(0, gn.BatchState(jnp.zeros(1))))
    assert gn.graphdef(Loose(0, other)) is not plain
    assert gn.graphdef(Loose(0, other)) is gn.graphdef(Loose(0, copy.deepcopy(other)))


def test_unset_empty_and_none_are_three_structures():
    """A field that holds None, one that is unset, an empty list and a list of nothing but None all differ."""

    class Many(gn.Node):
        held: list[Leaf | None] | None = None

    unset = Many()
    del unset.held
    found = [gn.graphdef(one) for one in (Many(), unset, Many([]), Many([None]))]
    assert len(set(found)) == 4


def test_shared_and_equal_parts_are_two_structures():
    """Two references to one node are another structure than references to two equal nodes."""
    one = Leaf(2, param())
    assert gn.graphdef(Net(first=one, again=one)) is not gn.graphdef(Net(first=one, again=Leaf(2, param())))


def test_list_and_tuple_and_dict_of_the_same_states_differ():
    """The type of a container is structure, of a field and of the root."""

    class Either(gn.Node):
        held: list[gn.State] | tuple[gn.State, ...] | dict[str, gn.State]

    one = gn.State(jnp.zeros(1))
    assert len({gn.graphdef(Either(held)) for held in ([one], (one,), {"0": one})}) == 3
    node = Leaf(1, param())

    class Pair(NamedTuple):
        left: Leaf
        right: Leaf

    roots: list[Any] = [[node], (node,), {"0": node}, [[node]], [node, None], Pair(node, node), [node, node]]
    assert len({gn.graphdef(root) for root in roots}) == 7


def test_order_of_fields_in_the_source_is_no_structure():
    """Moving a field in the source changes no path and no layout, and a parent's fields are sorted in with the own."""

    class Forwards(gn.Node):
        alpha: gn.ParamState
        beta: Leaf
        gamma: gn.State

    class Backwards(gn.Node):
        gamma: gn.State
        beta: Leaf
        alpha: gn.ParamState

    class Parent(gn.Node):
        beta: Leaf

    class Child(Parent):
        gamma: gn.State
        alpha: gn.ParamState

    def parts() -> dict[str, Any]:
        return {"alpha": param(), "beta": Leaf(1, param()), "gamma": gn.State(0)}

    layouts = {gn.graphdef(cls(**parts())).layout for cls in (Forwards, Backwards, Child)}
    (layout,) = layouts
    assert list(layout.paths()) == [("alpha",), ("beta", "weight"), ("gamma",)]


def test_canonical_order_is_by_name_position_and_key():
    """Fields go by name, sequences by position (2 before 10), dicts by key (as text)."""
    net = Net(
        items=[Leaf(1, param()) for _ in range(12)],
        table={key: gn.State(jnp.zeros(1)) for key in ("b", "10", "2", "a.b", "B")},
    )
    assert [gn.path_str(path) for path in gn.states(net)] == [
        *(f"items.{at}.weight" for at in range(12)),
        *('table."10"', 'table."2"', "table.B", 'table."a.b"', "table.b"),
    ]


@pytest.mark.no_runtime_types
def test_graphdef_dies_with_its_models():
    """Interning is weak: once models, trees and references are gone, so are graphdef and layout."""
    net = Net(name="dies", table={"dies": param()})  # a path of no other test, whose model may be alive
    graphdef, tree = gn.treefy_split(net)
    gone: list[weakref.ref[Any]] = [weakref.ref(graphdef), weakref.ref(tree.layout)]
    del net, graphdef, tree
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_class_dies_with_its_models():
    """A node class that is no longer used is freed, structure, template and all."""

    def use() -> "weakref.ref[type]":
        class Local(gn.Node):
            size: int
            weight: gn.ParamState
            items: list[Leaf]

        node = Local(1, param(), [Leaf(1, param())])
        gn.clone(gn.treefy_merge(*gn.treefy_split(node, gn.ParamState)))
        gn.states(node, gn.PathContains("items"))
        return weakref.ref(Local)

    gone = use()
    gc.collect()
    assert gone() is None


def test_pickle_gives_the_same_object():
    """Pickling and copying a graphdef gives the interned one back."""
    graphdef = gn.graphdef(shared_net())
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(graphdef, protocol)) is graphdef
    assert copy.copy(graphdef) is graphdef
    assert copy.deepcopy(graphdef) is graphdef
    root = gn.graphdef({"a": [shared_net()], "b": (Leaf(1, param()),)})
    assert pickle.loads(pickle.dumps(root)) is root


def test_pickle_survives_the_graphdef():
    """A pickled graphdef whose original is gone is made again, with unset fields, empty containers and statics."""
    net = shared_net()
    net.items, net.name = [], "gone"
    assert net.first is not None
    gn.pop_states(net, gn.PathContains("first"), gn.PathContains("again"))
    data = pickle.dumps(gn.graphdef(net))
    text = repr(gn.graphdef(net))
    del net
    gc.collect()
    again = gn.graphdef(gn.treefy_merge(pickle.loads(data), {"table": {"b": jnp.zeros(1)}}))
    assert repr(again) == text
    made = gn.treefy_merge(again, {"table": {"b": jnp.zeros(1)}})
    assert made.first is made.again
    assert made.parent is made
    with pytest.raises(gn.UnsetFieldError):
        made.first.weight


def test_pickle_goes_to_another_process(tmp_path: Path):
    """Split parts that one process pickles merge in another: unset stays unset, sharing is restored."""
    program = """
        import sys, pickle
        import graphnode as gn
        from tests.test_graphdef import Net, Leaf
        graphdef, tree = pickle.load(open(sys.argv[1], "rb"))
        net = gn.treefy_merge(graphdef, tree)
        print(net.first is net.again, net.parent is net, sorted(vars(net.first)), vars(net).get("again") is None)
        print(gn.graphdef(net) is graphdef)
    """
    net = shared_net()
    gn.pop_states(net, gn.PathIn("again.weight"))
    file = tmp_path / "parts.pickle"
    file.write_bytes(pickle.dumps(gn.treefy_split(net)))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(file)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
        env={"JAX_PLATFORMS": "cpu", "PATH": ""},
    )
    assert done.stderr == ""
    assert done.stdout == "True True ['size'] False\nTrue\n"


def test_static_argument_of_jit_does_not_retrace():
    """A graphdef is a static pytree: an equal model meets the compiled function, another structure compiles anew."""
    traced: list[object] = []

    @jax.jit
    def total(graphdef: gn.GraphDef[Leaf], tree: gn.StateTree) -> jax.Array:
        traced.append(graphdef)
        return jnp.sum(gn.treefy_merge(graphdef, tree).weight.value)

    def static_total(graphdef: gn.GraphDef[Leaf], tree: gn.StateTree) -> jax.Array:
        traced.append(graphdef)
        return jnp.sum(gn.treefy_merge(graphdef, tree).weight.value)

    by_number = jax.jit(static_total, static_argnums=0)
    for size in (1, 1, 1):
        total(*gn.treefy_split(Leaf(size, param(2))))
    assert len(traced) == 1
    for size in (1, 1):
        by_number(*gn.treefy_split(Leaf(size, param(2))))
    assert len(traced) == 2
    total(*gn.treefy_split(Leaf(2, param(2))))
    assert len(traced) == 3
    assert jax.tree.leaves(gn.graphdef(Leaf(1, param()))) == []


def test_find_follows_first_and_later_references():
    """`find` gives the number of the object at a path, over containers and later references; None elsewhere."""
    graphdef = gn.graphdef(shared_net())
    numbers = {
        "": 0,
        "again": 1,
        "first": 1,
        "first.weight": 2,
        "table.a": 2,
        "items.0.weight": 4,
        "parent.parent.items.0": 3,
        "items": None,
        "items.1": None,
        "first.size": None,
        "first.weight.x": None,
        "nothing": None,
    }
    assert {path: graphdef.find(gn.parse_path(path)) for path in numbers} == numbers
    pytree = gn.graphdef({"a": [Leaf(1, param())]})
    assert pytree.find(("a", 0, "weight")) == 1
    assert pytree.find(("a",)) is None


# Roots


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, "found None"),
        (3, "found int 3"),
        ("x", "found str 'x'"),
        (np.zeros(2), "found an array float64[2]"),
        ([Leaf(1, param()), {"a": 3, "b": "x"}], "found int 3 at 1.a, str 'x' at 1.b"),
        (Leaf, "found the class Leaf"),
        (jax.ShapeDtypeStruct((2,), np.float32), "found an array float32[2]"),
    ],
)
def test_root_that_is_no_node_is_refused(root: Any, message: str):
    """A root that is neither node nor pytree of nodes is named in one error, all wrong leaves with their paths."""
    operations: list[Callable[[Any], object]] = [
        gn.graphdef,
        gn.treefy_split,
        gn.states,
        gn.treefy_states,
        gn.flatten,
        gn.clone,
        gn.nodes,
        gn.aliases,
        lambda one: list(gn.iter_node(one)),
        lambda one: list(gn.iter_leaf(one)),
        lambda one: gn.update_states(one, {}),
        lambda one: gn.pop_states(one, ...),
    ]
    for operation in operations:
        with pytest.raises(gn.StructureError) as caught:
            operation(root)
        assert f" takes a node or a pytree of nodes; {message}" in str(caught.value)


def test_node_under_construction_is_refused():
    """A node whose constructor still runs has no structure yet."""

    class Early(gn.Node):
        size: int
        weight: gn.ParamState = gn.state(init=False)

        def __post_init__(self) -> None:
            self.weight = param()
            gn.graphdef([self])

    with pytest.raises(gn.StructureError) as caught:
        Early(1)
    assert str(caught.value) == "an Early of the graph is still being constructed"


def test_odd_keys_of_a_pytree_are_refused():
    """A pytree whose keys are neither names nor positions has no paths."""
    with pytest.raises(gn.StructureError) as caught:
        gn.graphdef({1.5: Leaf(1, param())})
    assert str(caught.value) == "the key [1.5] of the pytree of nodes is neither a name nor a position"


@functools.partial(jax.tree_util.register_dataclass, data_fields=["leaf"], meta_fields=["scale"])
@dataclasses.dataclass
class Scaled:
    leaf: Leaf
    scale: Any


@pytest.mark.parametrize("other", [1.0, True, np.int32(1)], ids=repr)
@pytest.mark.parametrize("wrap", [lambda scale: scale, lambda scale: ("a", scale)], ids=["alone", "in a tuple"])
def test_pytrees_whose_data_is_equal_and_of_another_type_are_other_roots(other: Any, wrap: Callable[[Any], Any]):
    """What a pytree says of itself comes back of its own type, also beside the same node in an equal one."""
    leaf = Leaf(1, param())
    roots = [Scaled(leaf, wrap(1)), Scaled(leaf, wrap(other)), Scaled(leaf, wrap(1))]
    graphdefs = list(map(gn.graphdef, roots))
    assert graphdefs[0] is graphdefs[2]
    assert graphdefs[0] is not graphdefs[1]
    assert pickle.loads(pickle.dumps(graphdefs[1])) is graphdefs[1]
    for root in roots:
        made = [gn.clone(root), gn.treefy_merge(*gn.treefy_split(root)), gn.view(root), gn.stack([root, root])]
        assert [repr(one.scale) for one in made] == [repr(root.scale)] * 4
    (difference,) = gn.diff(graphdefs[0], graphdefs[1])
    assert (difference.path, difference.left != difference.right) == ((), True)


def test_data_that_cannot_be_static_is_told_by_its_type():
    """To JAX the data of a pytree may be whatever can be compared."""

    class Range:
        def __init__(self, state: gn.State) -> None:
            self.state = state

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Range)

        def __hash__(self) -> int:
            return 0

    leaf, held = Leaf(1, param()), param()
    assert gn.graphdef(Scaled(leaf, held)) is gn.graphdef(Scaled(leaf, held))
    assert gn.clone(Scaled(leaf, Range(held))).scale.state is held


def test_equal_keys_of_other_types_are_other_roots():
    """The keys of a dict keep their types, also beside the same nodes."""
    leaf = Leaf(1, param())
    for keys in ([1, 2], [True, 2], [1, 2]):
        assert repr(list(gn.clone(dict.fromkeys(keys, leaf)))) == repr(keys)
    (difference,) = gn.diff(gn.graphdef({1: leaf}), gn.graphdef({True: leaf}))
    assert (difference.left, difference.right) == ("PyTreeDef({1: *})", "PyTreeDef({True: *})")


def test_pytrees_of_nodes_are_roots():
    """A root may be any pytree of nodes: nested, empty, a named tuple, a node's own list; paths start with its keys."""

    class Pair(NamedTuple):
        right: Leaf
        left: list[Leaf]

    pair = Pair(Leaf(1, param()), [Leaf(2, param())])
    assert list(gn.states(pair)) == [("left", 0, "weight"), ("right", "weight")]
    made = gn.treefy_merge(*gn.treefy_split(pair))
    assert type(made) is Pair
    assert (made.right.size, made.left[0].size) == (1, 2)
    net = shared_net()
    assert list(gn.states(net.items)) == [(0, "weight")]
    assert type(gn.clone(net.items)) is list
    assert gn.clone([]) == []
    assert gn.clone({"a": None, "b": ()}) == {"a": None, "b": ()}
    made_dict = gn.clone({3: net, 20: net, -1: net})
    assert made_dict[3] is made_dict[20]
    assert list(gn.states({3: net.first, 20: net.first, -1: net.first})) == [(-1, "weight")]


def test_the_source_of_a_visit_can_be_read():
    """A template has the text that its visit is compiled from."""
    assert template_of(Leaf).source.splitlines() == [
        "def visit(node, watch):",
        "    fields = node.__dict__",
        "    try:",
        "        s0 = fields['size']",
        "        h0 = fields['weight']",
        "    except KeyError:",
        "        return visit_any(node, watch)",
        "    children = (h0, )",
        "    cached = refs.get((((s0.__class__, s0) if s0.__class__ in EXACT else static_key(s0), ), (True, )))",
        "    spec = cached and cached()",
        "    if spec is None:",
        "        spec = new_spec((s0, ), (True, ))",
        "    return spec, children",
    ]
