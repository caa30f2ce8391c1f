"""What may stand as a sharding, and how it follows the axes that `stack`, `vmap` and `scan` add and take away."""

import copy
import pickle
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

import graphnode as gn

P = jax.P
ones = jax.nn.initializers.ones


class Affine(gn.Node):
    """A node whose States say how they are laid out: by mesh axes, by roles, and not at all."""

    n: int = 2
    weight: gn.ParamState[Float[Array, "n 3"]] = gn.state(ones, sharding=P("data", "model"))
    bias: gn.ParamState[Float[Array, "3"]] = gn.state(ones, sharding=("mlp",))
    scale: gn.ParamState[Float[Array, ""]] = gn.state(ones)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scale.value * (x @ self.weight.value + self.bias.value)


def described(node: Affine) -> list[Any]:
    return [node.weight.sharding, node.bias.sharding, node.scale.sharding]


MEMBER = [P("data", "model"), ("mlp",), None]
STACKED = [P(None, "data", "model"), (None, "mlp"), None]


# What is a sharding

MATRIX = jnp.ones((2, 2))
FITTING = [
    None,
    P(),
    P("a"),
    P(None, "a"),
    P(("a", "b"), "c"),
    P(PartitionSpec.UNCONSTRAINED, "a"),
    ("a", "b"),
    (None, None),
    ("a", "a"),
]


@pytest.mark.parametrize("sharding", FITTING, ids=repr)
def test_mesh_axes_and_roles_are_shardings(sharding: Any):
    """`jax.P` up to the rank, and a tuple with a role or `None` for each axis; one role may stand twice."""
    assert gn.ParamState(MATRIX, sharding=sharding).sharding == sharding


MISFITS: dict[str, tuple[Any, str]] = {
    "too long": (
        P("a", "b", "c"),
        "jax.P('a', 'b', 'c') is for 3 axes, and the array has 2 axes: write jax.P('a', 'b')",
    ),
    "twice": (P("a", "a"), "the mesh axis 'a' stands twice in jax.P('a', 'a'): it can split one axis of an array"),
    "twice in a group": (
        P(("a", "b"), "b"),
        "the mesh axis 'b' stands twice in jax.P(('a', 'b'), 'b'): it can split one axis of an array",
    ),
    "no mesh axis": (
        P("a", 3),
        "3 in jax.P('a', 3) is not a mesh axis: write a name, a tuple of names or None for each axis",
    ),
    "too few roles": (("a",), "('a',) has roles for 1 axis, and the array has 2 axes: write ('a', None)"),
    "too many roles": (
        ("a", "b", "c"),
        "('a', 'b', 'c') has roles for 3 axes, and the array has 2 axes: write ('a', 'b')",
    ),
    "no role": (("a", 3), "3 in ('a', 3) is not a role: write a name or None for each axis"),
    "empty role": (("a", ""), "'' in ('a', '') is not a role: write a name or None for each axis"),
    "text": ("data", "'data' is not a sharding: write jax.P('data') for mesh axes, or ('data',) for roles"),
    "list": (
        ["data", None],
        "['data', None] is not a sharding: write jax.P('data', None) for mesh axes, or ('data', None) for roles",
    ),
    "number": (
        7,
        "7 is not a sharding: write jax.P(...) for mesh axes, or a tuple with a role or None for each axis",
    ),
}


@pytest.mark.parametrize(
    ("sharding", "text"),
    [
        pytest.param(*misfit, id=name, marks=[pytest.mark.wrong_types] if name == "list" else [])
        for name, misfit in MISFITS.items()
    ],
)
def test_what_is_not_a_sharding_is_refused(sharding: Any, text: str):
    """At creation and in `replace`, with the line to write; the State stays as it was."""
    with pytest.raises(gn.FieldError) as caught:
        gn.ParamState(MATRIX, sharding=sharding)
    assert str(caught.value) == f"ParamState: sharding: {text}"
    held = gn.ParamState(MATRIX, sharding=P("a"))
    with pytest.raises(gn.FieldError) as caught:
        held.replace(sharding=sharding)
    assert str(caught.value) == f"ParamState: sharding: {text}"
    assert held.sharding == P("a")


def test_a_placed_sharding_is_refused_with_its_spec():
    """The mesh is the program's, not the model's: what is written is the spec."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    placed = NamedSharding(mesh, P("data"))
    with pytest.raises(gn.FieldError, match=r"the mesh is chosen later; write its spec, jax\.P\('data'\)$"):
        gn.ParamState(MATRIX, sharding=placed)


def test_a_new_value_must_have_the_rank_of_the_sharding():
    """`replace` with a value of another rank needs another sharding beside it."""
    held = gn.ParamState(MATRIX, sharding=("a", "b"))
    with pytest.raises(gn.FieldError) as caught:
        held.replace(value=jnp.ones(2))
    assert str(caught.value) == (
        "ParamState: sharding: ('a', 'b') has roles for 2 axes, and the array has 1 axis: write ('a',)"
    )
    assert held.replace(value=jnp.ones(2), sharding=("a",)).sharding == ("a",)
    assert held.replace(tag="t").sharding == ("a", "b")


def test_a_value_of_several_arrays_has_a_sharding_that_fits_one():
    """Of a pytree, one array must have the rank; where no arrays are, nothing is known."""
    values: Any = {"weight": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    assert gn.State(values, sharding=P("a", "b")).sharding == P("a", "b")
    with pytest.raises(gn.FieldError) as caught:
        gn.State(values, sharding=("a", "b", "c"))
    assert str(caught.value) == (
        "State: sharding: ('a', 'b', 'c') has roles for 3 axes, and the arrays have ranks 1, 2: write ('a', 'b')"
    )
    text: Any = "no array"
    assert gn.State(text, sharding=("a", "b", "c")).sharding == ("a", "b", "c")


# Where a class declares it


def test_a_class_is_refused_with_all_its_shardings():
    """The rank is that of the annotation; each field that is wrong is named with what to write."""
    with pytest.raises(gn.SchemaError) as caught:

        class Bad(gn.Node):
            n: int
            a: gn.ParamState[Float[Array, "n n"]] = gn.state(ones, sharding=P("a", "b", "c"))
            b: gn.ParamState[Float[Array, "n n"]] = gn.state(ones, sharding=("a",))
            c: gn.ParamState[Float[Array, "n"]] = gn.state(ones, sharding="data")

    assert str(caught.value) == (
        "Bad has 3 faults:\n"
        "  Bad.a: sharding: jax.P('a', 'b', 'c') is for 3 axes, and the array has 2 axes: write jax.P('a', 'b')\n"
        "  Bad.b: sharding: ('a',) has roles for 1 axis, and the array has 2 axes: write ('a', None)\n"
        "  Bad.c: sharding: 'data' is not a sharding: write jax.P('data') for mesh axes, or ('data',) for roles"
    )


def test_a_rank_that_only_the_node_knows_is_checked_there():
    """Where an axis stands for several, or the shape is a function, construction names the field."""

    class Late(gn.Node):
        shape: tuple[int, ...]
        a: gn.ParamState[Float[Array, "*shape"]] = gn.state(ones, sharding=P("a", "b"))

    assert Late((2, 3, 4)).a.sharding == P("a", "b")
    with pytest.raises(gn.FieldError) as caught:
        Late((2,))
    assert str(caught.value) == (
        "Late.a: ParamState: sharding: jax.P('a', 'b') is for 2 axes, and the array has 1 axis: write jax.P('a')"
    )


def test_a_description_without_an_initializer_is_refused():
    """There the node makes no State that it could describe: it would be lost."""
    options: Any = {"default_factory": lambda: gn.ParamState(MATRIX), "sharding": P("a")}
    with pytest.raises(gn.FieldError) as caught:
        gn.state(**options)
    assert str(caught.value) == (
        "state() takes sharding with an initializer, for the State that the node makes; without one, describe the "
        "State where it is made, as in ParamState(value, sharding=...)"
    )


# Stacks


def entries(rank: int) -> st.SearchStrategy[Any]:
    """Shardings of an array of some rank."""
    names = st.permutations(["a", "b", "c", "d"]).map(lambda drawn: drawn[:rank])
    masks = st.lists(st.booleans(), min_size=rank, max_size=rank)
    masked = st.builds(
        lambda drawn, mask: [name if keep else None for name, keep in zip(drawn, mask, strict=True)], names, masks
    )
    specs = st.builds(lambda drawn, length: P(*drawn[:length]), masked, st.integers(0, rank))
    return st.one_of(st.none(), specs, masked.map(tuple))


members = st.lists(
    st.integers(0, 3).flatmap(lambda rank: st.tuples(st.just(rank), entries(rank))), min_size=1, max_size=3
)
names_of_axes = st.lists(st.sampled_from([None, "layers", "blocks"]), min_size=1, max_size=3)


def positions_of(rows: list[tuple[int, Any]], added: int) -> list[int]:
    """The axes that all arrays have a place for, from the front and from the end."""
    least = min(rank for rank, _ in rows) + added
    return list(range(-least - 1, least + 1))


@hypothesis.given(members, names_of_axes, st.data())
def test_unstacking_gives_the_shardings_back(rows: list[tuple[int, Any]], names: list[Any], data: st.DataObject):
    """Any row of stacks, along any axes, with names and without, comes apart into members of the same structure."""
    node: Any = [gn.ParamState(jnp.ones((2,) * rank), sharding=sharding) for rank, sharding in rows]
    before = [gn.graphdef(node)]
    axes: list[int] = []
    for name in names:
        axis = data.draw(st.sampled_from(positions_of(rows, len(axes))))
        node = gn.stack([node, gn.clone(node)], axis, name=name)
        axes.append(axis)
        before.append(gn.graphdef(node))
        for state, (rank, sharding) in zip(node, rows, strict=True):
            assert state.value.ndim == rank + len(axes)
            assert not isinstance(sharding, tuple) or len(state.sharding) == state.value.ndim
            state.replace(value=state.value)  # the sharding fits the value
    for axis in reversed(axes):
        before.pop()
        if axis >= 0:
            assert gn.member_graphdef(gn.graphdef(node), axis) is before[-1]
        node = gn.unstack(node, axis)[0]
        assert gn.graphdef(node) is before[-1]


def test_a_stack_puts_its_axis_into_shardings():
    """An explicit sharding gets `None` where the axis stands, also at the end; nothing else changes."""
    nodes = [Affine() for _ in range(3)]
    assert described(gn.stack(nodes)) == STACKED
    assert described(gn.stack([gn.stack(nodes), gn.stack(nodes)]))[0] == P(None, None, "data", "model")
    weights = [node.weight for node in nodes]
    assert gn.stack(weights, 1).sharding == P("data", None, "model")
    # Behind its last entry a spec splits nothing anyway.
    assert gn.stack(weights, -1).sharding == gn.stack(weights, 2).sharding == P("data", "model")
    assert gn.stack([node.bias for node in nodes], -1).sharding == ("mlp", None)
    assert [described(node) for node in gn.unstack(gn.stack(nodes))] == [MEMBER] * 3
    plain = [gn.nn.Linear(2, 3) for _ in range(3)]
    assert gn.graphdef(gn.stack(plain)) is gn.graphdef(plain[0])


def test_a_name_is_recorded_with_its_position():
    """All States have it; among roles it stands as one; names of nested stacks move on."""
    layers = gn.stack([Affine() for _ in range(3)], name="layers")
    assert described(layers) == [P(None, "data", "model"), ("layers", "mlp"), None]
    assert [list(state.stacked) for state in gn.states(layers).values()] == [[(0, "layers")]] * 3
    blocks = gn.stack([layers, gn.clone(layers)], name="blocks")
    assert list(blocks.bias.stacked) == [(0, "blocks"), (1, "layers")]
    assert blocks.bias.sharding == ("blocks", "layers", "mlp")
    (again, _) = gn.unstack(blocks, 1)[:2]
    assert (list(again.bias.stacked), again.bias.sharding) == ([(0, "blocks")], ("blocks", "mlp"))
    assert repr(layers.scale) == "ParamState(f32[3], stacked={0: 'layers'})"
    assert gn.treefy_states(layers)["scale"].stacked == layers.scale.stacked


def test_a_named_stack_is_copied_pickled_and_written():
    """The name goes along in pickles, copies, `replace` and JSON, and comes back as the same structure."""
    layers = gn.stack([Affine() for _ in range(2)], name="layers")
    graphdef = gn.graphdef(layers)
    for same in (gn.clone(layers), copy.deepcopy(layers), pickle.loads(pickle.dumps(layers))):
        assert gn.graphdef(same) is graphdef
    assert gn.GraphDef.from_json(graphdef.to_json()) is graphdef
    assert pickle.loads(pickle.dumps(graphdef)) is graphdef
    assert layers.scale.replace(tag="t").stacked == layers.scale.stacked


@pytest.mark.parametrize("stacked", [3, [0], [[0]], [["0", "a"]], [[True, "a"]], [[1, "a"], [0, "b"]], [[-1, "a"]]])
def test_stacked_axes_in_json_are_checked(stacked: Any):
    """A file in which they are anything else is refused with the place."""
    text = gn.graphdef(gn.stack([gn.ParamState(MATRIX)] * 2, name="layers")).to_json()
    damaged = text.replace('[[0,"layers"]]', repr(stacked).replace("'", '"').replace("True", "true"))
    damaged = damaged.replace('[[0, "layers"]]', repr(stacked).replace("'", '"').replace("True", "true"))
    assert damaged != text
    with pytest.raises(gn.ConfigError) as caught:
        gn.GraphDef.from_json(damaged)
    assert "stacked: expected a list of positions with their names, in order" in str(caught.value)


@pytest.mark.parametrize("name", ["", pytest.param(3, marks=pytest.mark.wrong_types)])
def test_a_name_is_a_text(name: Any):
    """Anything else is refused."""
    with pytest.raises(gn.StackError) as caught:
        gn.stack([Affine(), Affine()], name=name)
    found = "int 3" if name else "str ''"
    assert str(caught.value) == f"cannot stack Affine: the name of an axis is a text such as 'layers'; found {found}"


def test_an_axis_that_has_no_one_position_is_refused():
    """Counted from the end, it stands at several positions in a pytree of several ranks; without a sharding it may."""

    def mixed(sharding: Any) -> gn.State[Any]:
        return gn.State({"weight": jnp.ones((2, 3)), "bias": jnp.ones(3)}, sharding=sharding)

    assert gn.stack([[mixed(None)], [mixed(None)]], -1)[0].value["weight"].shape == (2, 3, 2)
    text = (
        "0: axis -1 stands at several positions in the arrays of its value, and its sharding holds for all of them: "
        "count the axis from the front"
    )
    with pytest.raises(gn.StackError) as caught:
        gn.stack([[mixed(P("a"))], [mixed(P("a"))]], -1)
    assert str(caught.value) == text
    with pytest.raises(gn.StackError) as caught:
        gn.unstack([gn.State({"a": jnp.ones((3, 2)), "b": jnp.ones(2)}, sharding=P("a"))], -1)
    assert str(caught.value) == text
    assert gn.stack([[mixed(P("a"))], [mixed(P("a"))]])[0].sharding == P(None, "a")


# Transforms


def test_vmap_shows_and_takes_members():
    """Inside, States have the shardings of one member; what is written and what is made comes out with the axis."""
    ensemble = gn.stack([Affine() for _ in range(3)], name="members")
    graphdef, of_one, seen = gn.graphdef(ensemble), gn.graphdef(Affine()), []

    def run(node: Affine, x: jax.Array) -> tuple[jax.Array, Affine, Affine, Affine]:
        seen.append(described(node))
        assert gn.graphdef(node) is of_one
        node.scale.value = node.scale.value * x[0]
        return node(x), node, gn.clone(node), gn.clone(node)

    y, same, made, again = gn.vmap(run, in_axes=(0, None))(ensemble, jnp.ones(2))
    assert seen == [MEMBER]
    assert (y.shape, same is ensemble, gn.graphdef(ensemble) is graphdef) == ((3, 3), True, True)
    assert gn.graphdef(made) is gn.graphdef(again) is graphdef
    assert made.weight.value.shape == (3, 2, 3)


def test_vmap_of_a_builder_puts_the_axis_in():
    """Where `out_axes` says, counted from either end; none where it says none."""
    keys = jax.random.split(jax.random.key(0), 4)

    def build(key: jax.Array) -> Affine:
        with gn.random.scope(key):
            return Affine()

    assert described(gn.vmap(build)(keys)) == STACKED
    assert described(gn.jit(gn.vmap(build))(keys)) == STACKED
    assert described(gn.vmap(gn.vmap(build))(keys.reshape(2, 2)))[0] == P(None, None, "data", "model")

    def weight(key: jax.Array) -> list[Any]:
        return [build(key).weight, {"bias": build(key).bias}]

    made, rest = gn.vmap(weight, out_axes=[1, -1])(keys)
    assert (made.sharding, made.value.shape) == (P("data", None, "model"), (2, 4, 3))
    assert (rest["bias"].sharding, rest["bias"].value.shape) == (("mlp", None), (3, 4))
    assert described(gn.vmap(lambda key: build(jax.random.key(0)), out_axes=None)(keys)) == MEMBER


@pytest.mark.parametrize("axis", [1, -1])
def test_vmap_takes_the_axis_off_where_it_stands(axis: int):
    """In place of `in_axes`, and only from the States that have an axis."""
    node = [gn.stack([Affine().weight, Affine().weight], axis), Affine().bias]
    seen: list[Any] = []
    gn.vmap(lambda node: seen.append([one.sharding for one in node]), in_axes=([axis, None],))(node)
    assert seen == [[P("data", "model"), ("mlp",)]]


def test_scan_shows_members_and_stacks_outputs():
    """A round sees one layer; nodes in the outputs get a leading axis; the carry is as it was."""
    layers, carried = gn.stack([Affine(3) for _ in range(4)], name="layers"), Affine(3)
    graphdef, seen = gn.graphdef(layers), []

    def step(carry: tuple[Affine, jax.Array], layer: Affine) -> tuple[Any, Affine]:
        node, h = carry
        seen.append([described(node), described(layer)])
        return (node, layer(h)), gn.clone(layer)

    (same, h), made = gn.scan(step, (carried, jnp.ones(3)), layers)
    assert all(one == [MEMBER, MEMBER] for one in seen)
    assert (same is carried, h.shape, gn.graphdef(layers) is graphdef) == (True, (3,), True)
    assert (gn.graphdef(made), described(carried)) == (graphdef, MEMBER)
    assert made.weight.value.shape == (4, 3, 3)


def shardings_in(tree: Any) -> list[Any]:
    """The shardings in state trees, of what has one."""
    parts = jax.tree.leaves(tree, is_leaf=lambda part: isinstance(part, gn.TreefyState | gn.StateTree))
    states = [list(part.flat().values()) if isinstance(part, gn.StateTree) else [part] for part in parts]
    return [state.sharding for of_part in states for state in of_part if state.sharding is not None]


@pytest.mark.parametrize("name", ["members", None])
@pytest.mark.parametrize("axis", [0, -1])
def test_state_trees_are_shown_and_taken_like_nodes(name: str | None, axis: int):
    """They lose the mapped axis on the way in and get it on the way out, whole, in part, by path, or converted."""
    ensemble, of_one = gn.stack([Affine() for _ in range(3)], axis, name=name), Affine()
    tree, part = gn.treefy_states(ensemble), gn.treefy_states(ensemble, gn.PathIn("bias"))
    converted = gn.graph_to_tree([ensemble, {"again": ensemble}])[0]
    given = [tree, part, tree.flat(), converted]
    layouts = [gn.treefy_states(of_one).layout, gn.treefy_states(of_one, gn.PathIn("bias")).layout]

    def run(given: Any) -> Any:
        assert [tree.layout for tree in given[:2]] == layouts
        assert shardings_in(given[2]) == shardings_in(gn.treefy_states(of_one))
        assert gn.graphdef(gn.tree_to_graph(given[3])[0]) is gn.graphdef(of_one)
        return given

    after = gn.vmap(run, axis, axis)(given)
    jax.tree.map(jnp.subtract, given, after)  # which takes pytrees of one structure
    again, other = gn.tree_to_graph(after[3])
    assert (gn.graphdef(again) is gn.graphdef(ensemble), other["again"] is again) == (True, True)
    assert gn.vmap(lambda _, tree: tree, (axis, None), None)(given, gn.treefy_states(of_one)).layout is (
        gn.treefy_states(of_one).layout
    )


def test_gradients_of_an_ensemble_are_laid_out_like_it():
    """One tree for all members, which goes into `jax.tree.map` beside the parameters; a named axis keeps its name."""

    def loss(node: Affine) -> jax.Array:
        return jnp.sum(node(jnp.ones(2)))

    for name in ("members", None):
        ensemble = gn.stack([Affine() for _ in range(3)], name=name)
        params = gn.treefy_states(ensemble, gn.ParamState)
        gradients = gn.vmap(gn.grad(loss))(ensemble)
        stepped = jax.tree.map(lambda value, gradient: value - gradient, params, gradients)
        assert shardings_in(stepped) == shardings_in(params)
        assert stepped["weight",].value.shape == (3, 2, 3)


def test_the_history_of_a_state_tree_has_a_leading_axis():
    """As that of a clone has, in the outputs of a scan; what is carried stays as it is."""

    def step(node: Affine, x: jax.Array) -> tuple[Affine, Any]:
        node.scale.value = node.scale.value * x
        hessian = gn.hessian(lambda node: jnp.sum(node.bias.value**2))(node)
        return node, (gn.clone(node), gn.treefy_states(node), hessian)

    node, (clones, history, hessians) = gn.scan(step, Affine(), jnp.ones(4))
    assert described(node) == MEMBER
    assert history.layout is gn.treefy_states(clones).layout
    assert shardings_in(history)[0] == (None, "mlp")
    inner = hessians["bias",].value["bias",]
    assert (inner.sharding, inner.value.shape) == ((None, None, "mlp"), (4, 3, 3))
    layers = gn.treefy_states(gn.stack([Affine(3) for _ in range(4)], name="layers"))
    (kept, _), same = gn.scan(lambda carry, layer: (carry, layer), (gn.treefy_states(Affine(3)), 0.0), layers)
    assert (kept.layout, same.layout) == (gn.treefy_states(Affine(3)).layout, layers.layout)


@pytest.mark.slow
def test_hessians_of_an_ensemble_have_its_axis_where_it_was_asked_for():
    """Counted from the end, it stands at another position in each array."""

    def loss(node: Affine) -> jax.Array:
        return jnp.sum(node.bias.value**2)

    ensemble = gn.stack([Affine() for _ in range(4)], name="members")
    for axis, sharding, shape in (
        (0, ("members", None, "mlp"), (4, 3, 3)),
        (-1, (None, "mlp", "members"), (3, 3, 4)),
    ):
        inner = gn.vmap(gn.hessian(loss), out_axes=axis)(ensemble)["bias",].value["bias",]
        assert (inner.sharding, inner.value.shape) == (sharding, shape)


def test_plain_vmap_takes_the_graphdef_of_a_member():
    """`member_graphdef` is what `jax.vmap` needs; update and merge take trees of either."""
    ensemble = gn.stack([Affine() for _ in range(3)], name="members")
    graphdef, params = gn.treefy_split(ensemble)
    member = gn.member_graphdef(graphdef)
    assert member is gn.graphdef(Affine()) is gn.member_graphdef(graphdef)
    seen: list[Any] = []

    def run(params: gn.StateTree) -> gn.StateTree:
        node = gn.treefy_merge(member, params)
        seen.append(described(node))
        node.scale.value = node.scale.value + 1
        return gn.treefy_states(node)

    gn.update_states(ensemble, jax.vmap(run)(params))
    assert seen == [MEMBER]
    assert gn.graphdef(ensemble) is graphdef
    assert ensemble.scale.value.tolist() == [2.0, 2.0, 2.0]
    plain = gn.graphdef(gn.nn.Linear(2, 3))
    assert gn.member_graphdef(plain, 5) is plain
    with pytest.raises(gn.StackError) as caught:
        gn.member_graphdef(graphdef, -1)
    assert str(caught.value) == (
        "member_graphdef: a structure does not say how many axes its arrays have; found axis -1: count the axis from "
        "the front"
    )


def test_jacobians_have_the_axes_of_the_result_in_front():
    """Each State of a Jacobian gets one for each axis of the result; a gradient has the State's own."""
    node, x = Affine(), jnp.ones((5, 2))

    def affine(node: Affine, x: jax.Array) -> jax.Array:
        return x @ node.weight.value + node.bias.value[None]

    for transform in (gn.jacrev, gn.jacfwd):
        jacobian = transform(lambda node, x: (affine(node, x), jnp.sum(affine(node, x))))(node, x)
        assert jacobian[0]["weight"].sharding == P(None, None, "data", "model")
        assert jacobian[0]["bias"].sharding == (None, None, "mlp")
        assert jacobian[0]["weight"].value.shape == (5, 3, 2, 3)
        assert jacobian[1]["weight"].sharding == P("data", "model")
    assert gn.grad(lambda node, x: jnp.sum(affine(node, x)))(node, x)["bias"].sharding == ("mlp",)


def test_a_fork_has_the_axis_of_its_streams():
    """Key and count of several forks have one axis more than the stream's."""
    key = gn.RngKey(jax.random.key(0), sharding=())
    forks = gn.RngStream(key).fork(3)
    assert (forks.key.sharding, forks.count.sharding) == ((None,), None)


def test_an_optimizer_of_a_stack_serves_its_members():
    """Its memory has the axes of the stack; under vmap the shardings of the members are no others."""
    ensemble = gn.stack([Affine() for _ in range(3)], name="members")
    optimizer = gn.optim.Optimizer(ensemble, optax.sgd(0.1, momentum=0.9))
    memory = optimizer.memory[0]["trace"]
    assert (memory["bias"].sharding, list(memory["bias"].stacked)) == (("members", "mlp"), [(0, "members")])
    gn.broadcast_states(optimizer, gn.PathIn("steps"), 3)

    def step(node: Affine, optimizer: gn.optim.Optimizer) -> None:
        optimizer.update(node, gn.grad(lambda node: jnp.sum(node(jnp.ones(2))))(node))

    gn.vmap(step)(ensemble, optimizer)
    assert jnp.allclose(ensemble.scale.value, 1 - 0.1 * 9.0)
    built = gn.vmap(lambda node: gn.optim.Optimizer(node, optax.adam(0.1)))(ensemble)
    assert built.memory[0]["mu"]["bias"].sharding == ("members", "mlp")
