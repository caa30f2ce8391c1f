"""Which State a path means: what is shared has several, and a filter, a look-up and an update take any of them."""

import pickle
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn
from graphnode import ParamState


class N(gn.Node):
    a: "N | None" = gn.subnode(default=None)
    b: "N | None" = gn.subnode(default=None)
    w: ParamState | None = gn.state(default=None)
    v: ParamState | None = gn.state(default=None)


def leaf(value: float = 1.0) -> ParamState:
    return ParamState(jnp.full(1, value))


def tied() -> N:
    """The encoder `b` is also the decoder's `a.a`, where its first path is."""
    encoder = N(w=leaf(), v=leaf())
    return N(a=N(a=encoder, w=leaf()), b=encoder)


def selected(node: Any, *filters: Any) -> list[str]:
    return [gn.path_str(path) for path in gn.states(node, gn.Any(*filters))]


def test_any_path_of_a_shared_state_selects_it():
    """Filters by path hold if some path fits, on a node and on its tree alike."""
    node = tied()
    tree = gn.treefy_states(node)
    both = ["a.a.v", "a.a.w"]
    cases: list[tuple[Any, list[str]]] = [
        (gn.PathIn("b.w"), ["a.a.w"]),
        (gn.PathContains("b"), both),
        (gn.Under("b"), both),
        (gn.Under("a", shared=False), ["a.w"]),
        (gn.Under("a"), [*both, "a.w"]),
        (gn.PathIn("*.w"), ["a.a.w", "a.w"]),
        (gn.PathIn("**.v"), ["a.a.v"]),
        (gn.Not(gn.Under("b")), ["a.w"]),
        (gn.All(gn.Under("b"), gn.PathIn("**.w")), ["a.a.w"]),
    ]
    for filter, expected in cases:
        assert selected(node, filter) == expected
        assert [gn.path_str(path) for path in tree.filter(filter).flat()] == expected


def test_a_frozen_encoder_is_not_trained_by_its_other_path():
    """`Not(PathContains("b"))` leaves out a State that the decoder shares, whatever its first path is."""
    node = tied()
    trainable = gn.All(ParamState, gn.Not(gn.PathContains("b")))
    optimizer = gn.optim.Optimizer(node, optax.sgd(0.1), wrt=trainable)

    def loss(node: N) -> Any:
        return sum(jnp.sum(state.value**2) for state in gn.states(node).values())

    assert node.b is not None
    assert node.b.w is not None
    before = node.b.w.value
    optimizer.update(node, gn.grad(loss, wrt=trainable)(node))
    assert node.b.w.value is before


def test_look_ups_take_any_path():
    """Trees and live States are read by any path, as a tuple or as a text."""
    node: Any = tied()
    tree, live = gn.treefy_states(node), gn.states(node)
    for path in ("b.w", ("b", "w"), "a.a.w"):
        assert tree[path].value is node.b.w.value
        assert live[path] is node.b.w
    assert list(tree) == ["a"]
    assert tree["b"].layout is tree["a.a"].layout is gn.treefy_states(node.b).layout


def test_updates_and_merges_take_texts_and_other_paths():
    """Keys may be whole paths as texts, over any reference."""
    node: Any = tied()
    gn.update_states(node, {"b.w": jnp.zeros(1), "a.w": jnp.zeros(1)})
    merged = gn.treefy_merge(gn.graphdef(node), {"b": {"w": 1.0, "v": 2.0}, "a.w": 3.0})
    assert (merged.a.a is merged.b, merged.b.v.value) == (True, 2.0)
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(node, {"b.x": 0})
    assert str(caught.value) == "cannot update N: b.x: N has no State there; did you mean 'b.w'?"


def test_a_shared_state_comes_back_at_all_its_places_from_a_tree():
    """A popped State that stood in two fields is put back in both, by FlatStates and by StateTree."""
    state = leaf()
    for use_tree in (False, True):
        node = N(w=state, v=state)
        tree, popped = gn.treefy_states(node), gn.pop_states(node, ...)
        gn.update_states(node, tree if use_tree else popped)
        assert node.w is node.v
        assert (node.w is state) is not use_tree


MESSAGES: dict[str, tuple[Any, str]] = {
    "a path as a tag": (
        "b.w",
        "no State has the tag 'b.w', which is the path of some: a text is a tag here; write gn.Under('b.w')",
    ),
    "nothing below": (
        gn.Under("encoder"),
        "no State is at or below 'encoder'; if that may be, write gn.Under('encoder', missing_ok=True)",
    ),
    "nearly": (
        gn.Not(gn.PathIn("b.W")),
        "no State is at 'b.W' (did you mean 'b.w'?); if that may be, write gn.PathIn('b.W', missing_ok=True)",
    ),
    "two answers": (
        lambda path, _: path[0] == "b",
        "the filter <lambda> selects b.v and not a.a.v, which are one ParamState; decide by something else, or write "
        "gn.Under or gn.PathIn",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_filter_that_cannot_be_meant_is_refused(name: str):
    """The error says what was found and what to write."""
    filter, text = MESSAGES[name]
    with pytest.raises(gn.FilterError) as caught:
        gn.states(tied(), filter)
    assert str(caught.value) == text


def test_path_contains_takes_one_key():
    """A text with a dot or a star is a path or a pattern, not a key."""
    for text in ("b.w", "b*"):
        with pytest.raises(gn.FilterError) as caught:
            gn.PathContains(text)
        assert str(caught.value) == (
            f"PathContains takes one key; found {text!r}. For what is below a path write gn.Under({text!r}), for what "
            f"stands at paths gn.PathIn({text!r})"
        )


def test_a_star_in_a_key_is_quoted():
    """A key that holds a star is written in quotes, and is no pattern then."""

    class D(gn.Node):
        table: dict[str, ParamState]

    node = D({"x*": leaf(), "xy": leaf()})
    assert selected(node, gn.PathIn('table."x*"')) == ['table."x*"']
    assert selected(node, gn.PathIn("table.x*")) == ['table."x*"', "table.xy"]
    assert gn.parse_path(gn.path_str(("table", "x*"))) == ("table", "x*")
    collections: tuple[Any, ...] = (gn.states(node), gn.treefy_states(node))
    for collection in collections:
        assert collection['table."x*"'] is collection["table", "x*"] or collection is collections[1]
        with pytest.raises(KeyError, match="a look-up takes one path"):
            collection["table.x*"]
    assert collections[1]["table"]["x*"].value is node.table["x*"].value


def test_a_pattern_does_not_lead_back():
    """A parent pointer leads an exact path back, and no pattern: below a child is what is below it."""
    child = N(w=leaf())
    parent = N(a=child, w=leaf())
    child.b = parent
    assert selected(parent, gn.Under("a")) == ["a.w"]
    assert selected(parent, gn.PathIn("**.b.**", missing_ok=True)) == []
    assert gn.states(parent)["a.b.a.b.w"] is parent.w
    assert gn.states(parent)["w"] is parent.w
    assert gn.treefy_states(parent)["a.b.w"].value is gn.states(parent)["w"].value


def test_a_ring_ends():
    """In a ring, what is below a member is what its walk has not come from."""
    ring = [N(w=leaf()) for _ in range(4)]
    for at, member in enumerate(ring):
        member.a = ring[(at + 1) % 4]
    assert selected(ring[0], gn.Under("a.a")) == ["a.a.a.w", "a.a.w"]
    assert len(gn.states(ring[0], gn.PathIn("**.w"))) == 4


def test_endlessly_many_paths_cost_one_pass():
    """With 2^30 paths to one State, patterns are decided without listing them."""
    node = N(w=leaf())
    for _ in range(30):
        node = N(node, node)
    path = ".".join("ab" * 15)
    filters = (gn.PathIn("**.w"), gn.PathContains("b"), gn.Under("b.*.b"), gn.PathIn(f"{path}.w"), gn.Under(path))
    assert [len(gn.states(node, filter)) for filter in filters] == [1] * 5
    assert selected(node, gn.Under("a", shared=False)) == []


@st.composite
def graphs(draw: st.DrawFn) -> N:
    """A small graph without cycles, in which anything may be shared."""
    pool = [leaf() for _ in range(3)]
    pick = st.sampled_from([None, *range(3)])
    nodes: list[N] = []
    for _ in range(draw(st.integers(1, 5))):
        below = st.sampled_from([None, *range(len(nodes))])
        a, b, w, v = draw(below), draw(below), draw(pick), draw(pick)
        nodes.append(
            N(
                None if a is None else nodes[a],
                None if b is None else nodes[b],
                None if w is None else pool[w],
                None if v is None else pool[v],
            )
        )
    return nodes[-1]


def all_paths(node: N, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ParamState]]:
    for name in ("a", "b", "v", "w"):
        value = getattr(node, name)
        if isinstance(value, N):
            yield from all_paths(value, (*path, name))
        elif value is not None:
            yield (*path, name), value


GLOBS = st.lists(st.sampled_from(["a", "b", "w", "*", "**"]), min_size=1, max_size=4)


def fits(pattern: list[str], path: tuple[str, ...]) -> bool:
    if not pattern:
        return not path
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(fits(rest, path[at:]) for at in range(len(path) + 1))
    return bool(path) and first in ("*", path[0]) and fits(rest, path[1:])


@given(node=graphs(), pattern=GLOBS)
def test_patterns_select_what_some_path_fits(node: N, pattern: list[str]):
    """Against a listing of all paths: PathIn, Under, `shared=False`, on a node and on its tree; every path looks up."""
    listed = list(all_paths(node))
    text = ".".join(pattern)
    tree = gn.treefy_states(node)
    for below in (False, True):
        parts = [*pattern, "**"] if below else pattern
        expected = {id(state) for path, state in listed if fits(parts, path)}
        escaping = {id(state) for path, state in listed if not fits(parts, path)}
        filter = gn.Under(text, missing_ok=True) if below else gn.PathIn(text, missing_ok=True)
        live = gn.states(node, filter)
        assert {id(state) for state in live.values()} == expected
        assert tree.filter(filter).layout is live.layout
        if below:
            alone = gn.states(node, gn.Under(text, shared=False, missing_ok=True))
            assert {id(state) for state in alone.values()} == expected - escaping
    states = gn.states(node)
    for path, state in listed:
        assert states[path] is state
        assert tree[path].value is state.value


@given(node=graphs(), numbers=st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_parts_of_a_tree_make_the_whole_layout_again(node: N, numbers: list[int]):
    """However a tree is parted, its parts joined have the very layout of the whole, with all its references."""
    tree = gn.treefy_states(node)
    paths = list(gn.states(node))
    filters = [
        gn.PathIn(*[p for p, n in zip(paths, numbers, strict=False) if n == k], missing_ok=True) for k in range(3)
    ]
    parts = [tree.filter(filter) for filter in filters]
    joined = parts[2] | parts[0] | parts[1]
    assert joined.layout is tree.layout
    assert (tree - parts[0]).layout is (parts[1] | parts[2]).layout
    assert pickle.loads(pickle.dumps(tree.layout)) is tree.layout
    assert gn.treefy_states(gn.clone(node)).layout is tree.layout


def test_a_tied_and_an_untied_model_have_different_layouts():
    """References are part of a layout's identity."""
    shared = N(w=leaf())
    assert gn.treefy_states(N(shared, shared)).layout is not gn.treefy_states(N(shared)).layout


def test_a_merge_of_two_trees_of_one_state_is_matched_once():
    """Also for a structure of one State what a merge of several trees has worked out is kept."""
    node = N(w=leaf())
    graphdef, params, rest = gn.treefy_split(node, ParamState, ...)
    gn.treefy_merge(graphdef, params, rest)
    assert graphdef.plans.get((params.layout, rest.layout)) is not None


def untied() -> N:
    """The same paths as `tied` has, but `b` is no part of the decoder."""
    return N(a=N(a=N(w=leaf(2.0), v=leaf(3.0)), w=leaf(4.0)), b=N(w=leaf(5.0), v=leaf(6.0)))


TWO_VALUES = (
    "2 faults:\n  a.a.v is given two values, by a.a.v and by b.v\n  a.a.w is given two values, by a.a.w and by b.w"
)


@pytest.mark.parametrize("collection", [gn.treefy_states, gn.states, lambda node: gn.treefy_states(node).to_dict()])
def test_two_values_for_one_state_are_refused(collection: Any):
    """What an untied model holds does not fit a tied one, in whatever form it comes; nothing is written."""
    node, other = tied(), collection(untied())
    before = gn.treefy_states(node).to_dict()
    with pytest.raises(gn.UpdateError) as refused:
        gn.update_states(node, other)
    assert str(refused.value) == f"cannot update N: {TWO_VALUES}"
    assert gn.treefy_states(node).to_dict() == before
    with pytest.raises(gn.MergeError) as unmerged:
        gn.treefy_merge(gn.graphdef(node), other)
    assert str(unmerged.value) == f"cannot merge into N: {TWO_VALUES}"


def test_one_value_by_two_paths_is_fine():
    """The very arrays may come by several paths; and what was fine is looked at again when other arrays come."""
    node, other = tied(), untied()
    graphdef = gn.graphdef(node)
    assert other.b is not None
    assert other.b.w is not None
    assert other.b.v is not None
    gn.update_states(other, {"a.a.w": other.b.w.value, "a.a.v": other.b.v.value})
    values = gn.treefy_states(other)
    for _ in range(2):
        gn.update_states(node, values)
        assert gn.treefy_merge(graphdef, values).b.w.value is other.b.w.value  # type: ignore[union-attr]
    other.b.w.value += 1
    with pytest.raises(gn.UpdateError, match=r"a\.a\.w is given two values"):
        gn.update_states(node, gn.treefy_states(other))
    with pytest.raises(gn.MergeError, match=r"a\.a\.w is given two values"):
        gn.treefy_merge(graphdef, gn.treefy_states(other))


def test_of_several_collections_the_last_wins_by_whatever_path():
    """Only within one collection two values contradict each other."""
    node: Any = tied()
    gn.update_states(node, {"b.w": jnp.zeros(1)}, {"a.a.w": jnp.full(1, 7.0)})
    assert node.b.w.value.tolist() == [7.0]


def test_two_states_with_one_value_are_two():
    """`unflatten` puts live States together: two of them are no tied one, whatever they hold."""
    value = jnp.ones(1)
    with pytest.raises(gn.MergeError) as caught:
        gn.unflatten(
            gn.graphdef(N(b=N(w=(shared := leaf())), w=shared)),
            gn.states(N(b=N(w=ParamState(value)), w=ParamState(value))),
        )
    assert str(caught.value) == "cannot unflatten into N: b.w is given two values, by b.w and by w"


def test_two_states_for_one_popped_place_are_refused():
    """A place that was popped takes one State, by whichever of its paths."""
    node, other = tied(), untied()
    gn.pop_states(node, gn.Under("b"))
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(node, gn.pop_states(other, gn.PathIn("a.a.w", "b.w")))
    assert str(caught.value) == "cannot update N: a.a.w is given two States, by a.a.w and by b.w"
    assert len(gn.states(node)) == 1


def test_two_gradients_for_one_state_are_refused():
    """An optimizer takes one gradient for each State."""
    node = tied()
    optimizer = gn.optim.Optimizer(node, optax.sgd(0.1))
    with pytest.raises(gn.UpdateError) as caught:
        optimizer.update(node, {"**": jnp.ones(1), "b.w": jnp.zeros(1)})
    assert str(caught.value) == ("cannot update N by these gradients: a.a.w is given two values, by b.w and by **")


def test_a_glob_gives_its_value_to_all_that_it_fits():
    """Keys of updates and merges may be globs, over all paths of what is shared."""
    node: Any = tied()
    gn.update_states(node, {"*.w": jnp.full(1, 7.0), "b.v": jnp.zeros(1)})
    assert [state.value.tolist() for state in gn.states(node).values()] == [[0.0], [7.0], [7.0]]
    merged: Any = gn.treefy_merge(gn.graphdef(node), {"**.v": 1.0, "a": {"w": 2.0}, "b.*": 1.0})
    assert [state.value for state in gn.states(merged).values()] == [1.0, 1.0, 2.0]


GLOB_FAULTS: dict[str, tuple[Any, str]] = {
    "two globs": (
        {"*.w": jnp.zeros(1), "a.**": jnp.ones(1)},
        "2 faults:\n  a.a.w is given two values, by *.w and by a.**\n  a.w is given two values, by *.w and by a.**",
    ),
    "a glob and a path": (
        {"b.*": jnp.zeros(1), "b": {"w": jnp.ones(1)}},
        "a.a.w is given two values, by b.w and by b.*",
    ),
    "no fit": ({"b.W*": jnp.zeros(1)}, "b.W*: N has no State there"),
    "a glob within": ({"b": {"*": jnp.zeros(1)}}, 'b."*": N has no State there'),
    "a tuple": ({("b", "*"): jnp.zeros(1)}, 'b."*": N has no State there'),
}


@pytest.mark.parametrize("name", GLOB_FAULTS)
def test_a_glob_that_contradicts_or_fits_nothing_is_refused(name: str):
    """Both keys are named, or the nearest path."""
    given, text = GLOB_FAULTS[name]
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(tied(), given)
    assert str(caught.value) == f"cannot update N: {text}"


def test_a_glob_that_fits_nothing_names_the_nearest_path():
    """As a misspelt path does."""
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(gn.nn.MLP(2, 3, 4), {"layers.*.wieght": jnp.zeros(1)})
    assert str(caught.value) == (
        "cannot update MLP: layers.*.wieght: MLP has no State there; did you mean 'layers.1.weight'?"
    )


def test_a_glob_in_a_merge_that_fits_nothing_is_refused():
    """As an unknown path is."""
    with pytest.raises(gn.MergeError) as caught:
        gn.treefy_merge(gn.graphdef(tied()), {"**": 1.0, "c.*": 2.0})
    assert str(caught.value) == "cannot merge into N: unknown c.*: the graphdef has no State there"


def test_a_key_with_a_star_at_the_top_is_a_key():
    """A pytree at the root may have such a key."""
    states = {"x*": leaf(), "xy": leaf()}
    gn.update_states(states, {"x*": jnp.zeros(1)})
    assert [state.value.tolist() for state in states.values()] == [[0.0], [1.0]]


def test_one_path_given_twice_is_refused():
    """As keys and as a text."""
    with pytest.raises(TypeError) as caught:
        gn.update_states(tied(), {("b", "w"): jnp.zeros(1), "b.w": jnp.ones(1)})
    assert str(caught.value) == "b.w is given twice"


def test_a_look_up_takes_no_glob():
    """It gives one State; for several there is a filter."""
    node = tied()
    collections: tuple[Any, ...] = (gn.states(node), gn.treefy_states(node))
    for collection in collections:
        with pytest.raises(KeyError) as caught:
            collection["b.*"]
        assert caught.value.args == ("'b.*': a look-up takes one path; select what fits with gn.PathIn('b.*')",)
        assert "b.*" not in collection


@given(node=graphs(), pattern=GLOBS)
def test_a_glob_writes_what_it_selects(node: N, pattern: list[str]):
    """As a key of an update, a glob means the States that it selects as a filter, and no others."""
    text = ".".join([*pattern, "*"])
    selected = gn.states(node, gn.PathIn(text, missing_ok=True))
    if not selected:
        with pytest.raises(gn.UpdateError):
            gn.update_states(node, {text: jnp.zeros(1)})
        return
    gn.update_states(node, {text: jnp.zeros(1)})
    for path, state in gn.states(node).items():
        assert state.value.tolist() == [0.0 if path in selected else 1.0]
