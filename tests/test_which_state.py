"""Which State a path means: what is shared has several, and a filter, a look-up and an update take any of them."""

import functools
import gc
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn
from graphnode import ParamState
from tests.work import calls_of


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
    """A key that holds a star is written in quotes, and is not a pattern then."""

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
    many = [gn.PathIn(".".join(["**", *"ab" * at, "*"])) for at in range(10)]
    one_call, calls = (calls_of(functools.partial(gn.states, node, gn.Any(*some))) for some in (many[:1], many))
    assert calls < 20 * one_call


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
    """The same paths as `tied` has, but `b` is not part of the decoder."""
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
        merged: Any = gn.treefy_merge(graphdef, values)
        assert merged.b.w.value is other.b.w.value
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
    """A pytree at the root may have such a key. Where it would fit other States too, it has to be written as a path."""
    states = {"x*": leaf(), "y": leaf()}
    gn.update_states(states, {"x*": jnp.zeros(1)})
    assert [state.value.tolist() for state in states.values()] == [[0.0], [1.0]]
    states["xy"] = leaf()
    with pytest.raises(TypeError) as caught:
        gn.update_states(states, {"x*": jnp.ones(1)})
    assert str(caught.value) == "'x*' is a key here, and as a glob fits other paths too: write ('x*',) for the key"
    gn.update_states(states, {("x*",): jnp.full(1, 2.0)})
    assert [state.value.tolist() for state in states.values()] == [[2.0], [1.0], [1.0]]


def test_a_text_that_is_a_key_and_another_path_is_refused():
    """A look-up in a tree, a key of an update; with a tuple, both can be meant."""
    root = {"a": N(w=leaf()), "a.w": leaf(5.0)}
    text = "'a.w' is a key here, and the text of another path: write ('a.w',) or ('a', 'w')"
    with pytest.raises(TypeError) as caught:
        gn.update_states(root, {"a.w": jnp.zeros(1)})
    assert str(caught.value) == text
    with pytest.raises(KeyError) as missing:
        gn.treefy_states(root)["a.w"]
    assert missing.value.args == (text,)
    gn.update_states(root, {("a", "w"): jnp.zeros(1), ("a.w",): jnp.full(1, 3.0)})
    tree = gn.treefy_states(root)
    assert (tree["a", "w"].value.item(), tree["a.w",].value.item()) == (0, 3)


def test_a_bool_is_no_position_in_a_look_up():
    """It equals one, and the message does not suggest itself."""
    with pytest.raises(KeyError) as caught:
        gn.states(gn.nn.MLP(2, 3, 4))[("layers", True, "weight")]
    assert caught.value.args == ("('layers', True, 'weight'): no State there",)


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


def test_an_exact_path_may_lead_back():
    """A path that is written out names what it leads to, over a parent pointer too; what is below is found forwards."""
    child = N(w=leaf())
    parent = N(a=child, w=leaf())
    child.b = parent
    assert selected(parent, gn.PathIn("a.b.w")) == ["w"]
    assert selected(parent, gn.PathIn("a.b.a.b.a.w", "*.w")) == ["a.w"]
    assert list(gn.nodes(parent, gn.PathIn("a.b"))) == [()]


def test_filters_by_paths_are_themselves_after_pickling():
    """An optimizer keeps one in its structure, which is compared."""
    for filter in (gn.Under("b"), gn.PathIn("*.w"), gn.PathContains("b"), gn.PathIn((0,), ("0",))):
        copied = pickle.loads(pickle.dumps(filter))
        assert copied == filter
        assert hash(copied) == hash(filter)
    assert selected(tied(), pickle.loads(pickle.dumps(gn.Under("b")))) == ["a.a.v", "a.a.w"]


def test_nodes_are_found_by_any_path():
    """As filters and in look-ups, also what holds no State."""
    empty = N()
    node = N(a=N(a=empty), b=empty)
    assert list(gn.nodes(node, gn.PathIn("b"))) == [("a", "a")]
    assert list(gn.nodes(node, gn.Under("b"), gn.PathContains("a"))[1]) == [("a",)]
    found: Any = gn.nodes(node)
    assert list(found) == [("a", "a"), ("a",), ()]
    assert found["b",] is found["b"] is found["a.a"] is empty
    assert found == {("a", "a"): empty, ("a",): node.a, (): node}
    messages = {
        "a.b": "'a.b': no node there; did you mean 'a.a'?",
        "a.*": "'a.*': a look-up takes one path; select what fits with gn.PathIn('a.*')",
    }
    for path, text in messages.items():
        with pytest.raises(KeyError) as caught:
            found[path]
        assert caught.value.args == (text,)
    with pytest.raises(KeyError):
        gn.nodes(node, gn.PathIn("a"))["b",]


@given(node=graphs(), pattern=GLOBS)
def test_patterns_select_nodes_that_some_path_fits(node: N, pattern: list[str]):
    """Against a listing of all paths of all nodes."""

    def paths_of(node: N, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], N]]:
        yield path, node
        for name, child in (("a", node.a), ("b", node.b)):
            if child is not None:
                yield from paths_of(child, (*path, name))

    listed = list(paths_of(node))
    text = ".".join(pattern)
    found = gn.nodes(node, gn.PathIn(text, missing_ok=True), gn.Under(text, missing_ok=True))
    at = {id(one) for path, one in listed if fits(pattern, path)}
    below = {id(one) for path, one in listed if fits([*pattern, "**"], path)}
    assert [{id(one) for one in part.values()} for part in found] == [at, below - at]
    every = gn.nodes(node)
    for path, one in listed:
        assert every[path] is one


ANSWERS: dict[str, tuple[Any, str]] = {
    "under": (
        {gn.Under("a.a"): 0, gn.Under("b"): None},
        "2 faults:\n"
        "  a.a.v and b.v are one ParamState, with 0 by Under('a.a') and None by Under('b')\n"
        "  a.a.w and b.w are one ParamState, with 0 by Under('a.a') and None by Under('b')",
    ),
    "paths": (
        {gn.ShortTermState: 2, gn.All(ParamState, gn.PathIn("b.w")): 0, gn.PathIn("**.a.w"): 1},
        "b.w and a.a.w are one ParamState, with 0 by All(ParamState, PathIn('b.w')) and 1 by PathIn('**.a.w')",
    ),
}


def test_an_exact_path_that_leads_back_contradicts_another_one():
    """It is a path of the State, though no glob follows it."""
    child = N(w=leaf())
    parent = N(a=child, w=leaf())
    child.b = parent
    with pytest.raises(gn.FilterError) as caught:
        gn.axes({gn.PathIn("a.b.w"): 0, gn.PathIn("w"): 1}).of(parent)
    assert str(caught.value) == (
        "two answers for one State: a.b.w and w are one ParamState, with 0 by PathIn('a.b.w') and 1 by PathIn('w')"
    )


@pytest.mark.parametrize("name", ANSWERS)
def test_two_axes_for_one_state_are_refused(name: str):
    """Where each State has one axis, filters that select it by different paths must agree; both paths are named."""
    by_filter, text = ANSWERS[name]
    with pytest.raises(gn.FilterError) as caught:
        gn.vmap(lambda node: node.b.w.value, in_axes=gn.axes(by_filter), axis_size=1)(tied())
    assert str(caught.value) == f"two answers for one State: {text}"
    assert ("b", "w") in caught.value.paths


def test_the_first_axis_holds_where_filters_do_not_contradict_each_other():
    """A filter of fewer paths before one of more, of a class, or of equal answers is what it looks like."""
    for by_filter in (
        {gn.Under("b"): 0, ...: None},
        {gn.PathIn("b.w"): 0, gn.PathIn("**.w"): None, ParamState: None},
        {gn.PathIn("**.w"): 0, gn.PathIn("b.w"): None},
        {gn.Under("b"): 0, gn.Not(gn.Under("b")): None},
        {gn.PathIn("b.w"): 0, gn.PathIn("a.a.w"): 0},
    ):
        filters: dict[Any, Any] = by_filter
        value = gn.vmap(lambda node: node.b.w.value, in_axes=gn.axes(filters), axis_size=1)(tied())
        assert value.shape == (1,)


@given(node=graphs(), patterns=st.lists(GLOBS, min_size=2, max_size=3))
def test_axes_contradict_each_other_as_a_listing_of_all_paths_says(node: N, patterns: list[list[str]]):
    """Two filters are refused exactly where each selects a State by a path that the other does not select."""
    listed = list(all_paths(node))
    by_filter = {gn.PathIn(".".join(pattern), missing_ok=True): at for at, pattern in enumerate(patterns)}
    expected = False
    for state in {id(state): state for _, state in listed}.values():
        paths = [path for path, other in listed if other is state]
        fitting = [{path for path in paths if fits(pattern, path)} for pattern in patterns]
        first = next((some for some in fitting if some), set[tuple[str, ...]]())
        expected |= any(first - other and other - first for other in fitting)
    axes = gn.axes(by_filter)
    if expected:
        with pytest.raises(gn.FilterError, match="two answers for one State"):
            axes.of(node)
    else:
        axes.of(node)


def loss_of(node: N) -> Any:
    return sum(jnp.sum(state.value) for state in gn.states(node).values())


# What takes a filter of States, each with a node and the filter.
OPERATIONS: dict[str, Any] = {
    "states": gn.states,
    "states, second": lambda node, filter: gn.states(node, gn.ShortTermState, filter),
    "treefy_states": gn.treefy_states,
    "treefy_split": lambda node, filter: gn.treefy_split(node, filter, ...),
    "pop_states": gn.pop_states,
    "filter": lambda node, filter: gn.treefy_states(node).filter(filter),
    "split": lambda node, filter: gn.treefy_states(node).split(filter, ...),
    "grad": lambda node, filter: gn.grad(loss_of, wrt=filter)(node),
    "value_and_grad": lambda node, filter: gn.value_and_grad(loss_of, wrt=filter)(node),
    "vjp": lambda node, filter: gn.vjp(loss_of, node, wrt=filter),
    "jacrev": lambda node, filter: gn.jacrev(loss_of, wrt=filter)(node),
    "jacfwd": lambda node, filter: gn.jacfwd(loss_of, wrt=filter)(node),
    "hessian": lambda node, filter: gn.hessian(loss_of, wrt=filter)(node),
    "Optimizer": lambda node, filter: gn.optim.Optimizer(node, optax.sgd(0.1), wrt=filter),
    "vmap": lambda node, filter: gn.vmap(loss_of, in_axes=gn.axes({filter: 0, ...: None}))(node),
    "scan": lambda node, filter: gn.scan(
        lambda total, node: (total + loss_of(node), None), 0.0, node, in_axes=gn.axes({filter: 0, ...: None})
    ),
    "broadcast_states": lambda node, filter: gn.broadcast_states(node, filter, 2),
    "unbroadcast_states": gn.unbroadcast_states,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_path_that_is_nowhere_is_refused_everywhere(operation: str):
    """With the nearest one, or what to write where it names a node; nothing is changed."""
    node = tied()
    cases = {
        gn.Not(gn.PathIn("b.W")): (
            "no State is at 'b.W' (did you mean 'b.w'?); if that may be, write gn.PathIn('b.W', missing_ok=True)"
        ),
        gn.PathIn("b"): (
            "no State is at 'b' (for what is below write gn.Under('b')); if that may be, write "
            "gn.PathIn('b', missing_ok=True)"
        ),
        gn.Any(gn.Under("a.b"), ParamState): (
            "no State is at or below 'a.b' (did you mean 'a.w'?); if that may be, write "
            "gn.Under('a.b', missing_ok=True)"
        ),
    }
    for filter, text in cases.items():
        with pytest.raises(gn.FilterError) as caught:
            OPERATIONS[operation](node, filter)
        assert str(caught.value) == text
    assert len(gn.states(node)) == 3


class Child(gn.Node):
    parent: "Parent | None" = None


class Parent(gn.Node):
    kids: list[Child]
    w: ParamState


def test_a_path_that_leads_to_what_is_on_the_way_alone_is_no_misspelling():
    """The message says what is there, and does not propose the path that was written."""
    parent = Parent([Child()], ParamState(jnp.ones(1)))
    parent.kids[0].parent = parent
    with pytest.raises(gn.FilterError) as caught:
        gn.states(parent, gn.Under("kids.0"))
    assert str(caught.value) == (
        "no State is at or below 'kids.0' (below it there is nothing but what is on the way there); if that may be, "
        "write gn.Under('kids.0', missing_ok=True)"
    )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_path_that_may_be_missing_is_fine_everywhere(operation: str):
    """`missing_ok=True` says so."""
    OPERATIONS[operation](tied(), gn.Any(gn.Under("c", missing_ok=True), gn.PathIn("b.w")))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_function_that_contradicts_itself_is_refused_everywhere(operation: str):
    """It is given the first path, and must say the same of every other one."""
    with pytest.raises(gn.FilterError) as caught:
        OPERATIONS[operation](tied(), MESSAGES["two answers"][0])
    assert str(caught.value) == MESSAGES["two answers"][1]
    assert caught.value.paths == (("a", "a", "v"), ("b", "v"))


def test_a_path_at_which_there_is_no_node_is_refused():
    """In `nodes` as in `states`; a State is not a node."""
    cases: dict[Any, str] = {
        gn.PathIn("b.w"): "no node is at 'b.w'; if that may be, write gn.PathIn('b.w', missing_ok=True)",
        gn.Under("a.b"): (
            "no node is at or below 'a.b' (did you mean 'a.a'?); if that may be, write gn.Under('a.b', missing_ok=True)"
        ),
        "b": "no node has the tag 'b', which is the path of some: a text is a tag here; write gn.Under('b')",
    }
    for filter, text in cases.items():
        with pytest.raises(gn.FilterError) as caught:
            gn.nodes(tied(), filter)
        assert str(caught.value) == text
    assert gn.nodes(tied(), gn.PathIn("c", missing_ok=True)) == {}


def test_a_function_of_nodes_that_contradicts_itself_is_refused():
    """It is given the first path of a node, and must say the same of every other one."""
    with pytest.raises(gn.FilterError) as caught:
        gn.nodes(tied(), lambda path, _: path[:1] == ("b",))
    assert str(caught.value).startswith("the filter test_a_function_of_nodes")
    assert caught.value.paths == (("a", "a"), ("b",))


def test_a_pointer_to_the_parent_is_no_other_path():
    """A function that looks at paths is not asked about those that lead back."""
    child = N(w=leaf())
    parent = N(a=child, w=leaf())
    child.b = parent
    assert selected(N(a=parent), lambda path, _: path == ("a", "w")) == ["a.w"]


class Part(gn.Node):
    """A part of a model, which may know the whole."""

    whole: "Whole | None" = gn.subnode(default=None)
    w: ParamState = gn.state(default_factory=leaf)


class Whole(gn.Node):
    parts: list[Part]


def whole(size: int, *, with_pointers: bool) -> Whole:
    node = Whole([Part() for _ in range(size)])
    for part in node.parts if with_pointers else ():
        part.whole = node
    return node


GLOBS_OF_PARTS = [*[f"parts.{at}.w*" for at in range(100)], *[f"parts.*.w*{at}" for at in range(100)]]
IN_ONE = (gn.PathIn(*GLOBS_OF_PARTS, missing_ok=True),)
IN_MANY = tuple([gn.PathIn(glob, missing_ok=True) for glob in GLOBS_OF_PARTS])


@pytest.mark.parametrize(
    ("operation", "filters", "with_pointers"),
    [(gn.states, IN_ONE, True), (gn.states, IN_MANY, False), (gn.nodes, IN_ONE, True), (gn.nodes, IN_MANY, True)],
)
def test_many_patterns_cost_one_pass(operation: Any, filters: tuple[gn.Filter, ...], with_pointers: bool):
    """With 200 patterns, a further node costs about what it does with one: all are matched in one pass."""

    def calls_for_a_node(*filters: gn.Filter) -> float:
        calls: list[int] = []
        for size in (10, 500, 1000):  # at first what is done once
            gc.collect()  # what is still known of an equal structure would be work that is not done
            node = whole(size, with_pointers=with_pointers)
            operation(node)
            calls.append(calls_of(functools.partial(operation, node, *filters)))
        return (calls[2] - calls[1]) / 500

    assert calls_for_a_node(*filters) < 3 * calls_for_a_node(gn.PathIn("parts.*.*", missing_ok=True))


def sharing(*names: str) -> gn.StateTree:
    """The tree of a node whose fields hold States of these names: equal names are one State, with one value."""
    states = {name: leaf(ord(name)) for name in names}
    return gn.treefy_states([states[name] for name in names])


# Two trees each, and what `|` says of them in either order.
JOINS: dict[str, tuple[gn.StateTree, gn.StateTree, str]] = {
    "shares others": (
        sharing("p", "p", "q"),
        sharing("p", "q", "q"),
        "2 faults:\n  1 is another path of 0 in one, and a place of its own in the other\n"
        "  2 is another path of 1 in one, and a place of its own in the other",
    ),
    "tied": (
        gn.treefy_states(tied()),
        gn.treefy_states(N(a=N(a=N(w=leaf()), w=leaf()), b=N(w=leaf()))),
        "b is another path of a.a in one, and a place of its own in the other",
    ),
    "a State and what holds States": (
        gn.treefy_states({"enc": leaf()}),
        gn.treefy_states({"enc": N(w=leaf())}),
        "enc is a State in one, and has States below it in the other",
    ),
    "a State and what is shared below": (
        gn.treefy_states({"enc": leaf()}),
        gn.treefy_states((lambda state: {"dec": state, "enc": {"w": state}})(leaf())),
        "enc is a State in one, and has States below it in the other",
    ),
}


@pytest.mark.parametrize("name", JOINS)
def test_trees_that_share_differently_are_not_joined(name: str):
    """Whichever stands on the right: no path could lead to one State in a look-up and to another in the list."""
    left, right, text = JOINS[name]
    for first, second in ((left, right), (right, left)):
        with pytest.raises(gn.MergeError) as caught:
            first | second
        assert str(caught.value) == (
            f"cannot join two StateTrees: {text}; take one of the two out first, with `-` or `filter`"
        )


def test_a_path_that_leads_to_two_states_is_not_joined():
    """Both are named, the left one first."""
    left, right = sharing("p", "q", "p"), sharing("p", "q", "q")
    with pytest.raises(gn.MergeError) as caught:
        left | right
    assert str(caught.value) == (
        "cannot join two StateTrees: 2 is another path of 0 in one, and of 1 in the other; take one of the two out "
        "first, with `-` or `filter`"
    )


@given(left=graphs(), right=graphs())
def test_a_joined_tree_does_not_contradict_itself(left: N, right: N):
    """Where two trees are joined, every path of either one leads to what that one, or the right one, has there."""
    first, second = gn.treefy_states(left), gn.treefy_states(right)
    try:
        joined = first | second
    except gn.MergeError:
        return
    for path, _ in [*all_paths(left), *all_paths(right)]:
        values = [tree[path].value for tree in (second, first) if tree.layout.index(path) is not None]
        # What the left one alone has at a path may be what the right one has at another path of that State.
        assert joined[path].value is values[0] or second.layout.index(path) is None
    for at, state in joined.flat().items():
        assert joined[at].value is state.value


def values_of(node: Any) -> dict[str, float]:
    return {gn.path_str(path): float(state.value[0]) for path, state in gn.states(node).items()}


# What a tied model holds, in all forms that know its layout.
OF_TIED: dict[str, Any] = {
    "tree": gn.treefy_states,
    "live": gn.states,
    "parts": lambda node: gn.treefy_states(node, gn.Under("b")) | gn.treefy_states(node, gn.PathIn("a.w")),
    "below": lambda node: {"a": gn.treefy_states(node)["a"], "b": gn.states(node.b)},
    "whole below": lambda node: {"x": gn.treefy_states(node)},
    "live below": lambda node: {"x": gn.states(node)},
}


@pytest.mark.parametrize("form", OF_TIED)
def test_what_a_tied_model_holds_is_written_at_all_places_of_an_untied_one(form: str):
    """An update and a merge give each value to every State that a path of the tied one leads to."""
    collection = OF_TIED[form](tied())
    node: Any = {"x": untied()} if "x" in collection else untied()
    gn.update_states(node, collection)
    assert set(values_of(node).values()) == {1.0}
    assert set(values_of(gn.treefy_merge(gn.graphdef(node), collection)).values()) == {1.0}


def test_a_part_of_a_tied_model_is_written_at_all_its_places():
    """A filtered tree knows the further paths of what it holds, and leaves the rest alone."""
    node = untied()
    gn.update_states(node, gn.treefy_states(tied(), gn.PathIn("b.w")))
    assert values_of(node) == {"a.a.v": 3.0, "a.a.w": 1.0, "a.w": 4.0, "b.v": 6.0, "b.w": 1.0}


def test_a_place_of_a_tied_model_that_is_not_there_is_refused():
    """Half of an update is none; nothing is written."""
    node = N(a=N(a=N(w=leaf(2.0), v=leaf(3.0)), w=leaf(4.0)))
    for collection in (gn.treefy_states(tied()), gn.states(tied())):
        with pytest.raises(gn.UpdateError) as caught:
            gn.update_states(node, collection)
        assert str(caught.value) == (
            "cannot update N: 2 faults:\n  b.v: N has no State there\n  b.w: N has no State there; did you mean 'a.w'?"
        )
        with pytest.raises(gn.MergeError, match=r"unknown b\.w: the graphdef has no State there"):
            gn.treefy_merge(gn.graphdef(node), collection)
    assert values_of(node) == {"a.a.v": 3.0, "a.a.w": 2.0, "a.w": 4.0}


def test_what_was_popped_comes_back_over_all_paths_of_a_tied_tree():
    """The two places lie in two nodes of the untied model, and in one of the tied."""
    node: Any = untied()
    gn.pop_states(node, ...)
    gn.update_states(node, gn.treefy_states(tied()))
    assert set(values_of(node).values()) == {1.0}
    assert node.b.w is node.a.a.w
    node.b.w = None
    node.b.w = leaf(2.0)
    gn.pop_states(node, gn.PathIn("b.w"))
    gn.update_states(node, gn.treefy_states(tied()))
    assert (node.b.w.value.tolist(), node.b.w is node.a.a.w) == ([1.0], False)


def test_live_states_of_a_tied_model_do_not_make_an_untied_one():
    """`unflatten` keeps the States themselves: one State cannot be two."""
    with pytest.raises(gn.MergeError) as caught:
        gn.unflatten(gn.graphdef(untied()), gn.states(tied()))
    assert (
        str(caught.value)
        == "cannot unflatten into N: 2 faults:\n  missing b.v (ParamState)\n  missing b.w (ParamState)"
    )


def numbered(node: N) -> N:
    """The same node, each State with a value of its own."""
    for at, state in enumerate(gn.states(node).values()):
        state.value = jnp.full(1, float(at))
    return node


@given(source=graphs(), target=graphs())
def test_no_update_is_half_applied(source: N, target: N):
    """Every path of what is given leads to its value afterwards, in a merge too; else all is refused."""
    numbered(source)
    listed = list(all_paths(source))
    for collection in (gn.treefy_states(source), gn.states(source), {"x": gn.treefy_states(source)}):
        root: Any = {"x": target} if "x" in collection else target
        try:
            gn.update_states(root, collection)
        except gn.UpdateError:
            continue
        found = dict(all_paths(target))
        assert all(found[path].value is state.value for path, state in listed)
    try:
        merged = gn.treefy_merge(gn.graphdef(target), gn.treefy_states(source))
    except gn.MergeError:
        return
    found = dict(all_paths(merged))
    assert all(found[path].value is state.value for path, state in listed)


@given(left=graphs(), right=graphs())
def test_a_difference_has_no_path_of_the_right(left: N, right: N):
    """Whichever path of a State the right tree has."""
    first, second = gn.treefy_states(left), gn.treefy_states(right)
    difference = first - second
    there = {path for path, _ in all_paths(right)}
    kept = {id(state) for _, state in all_paths(left)} - {id(state) for path, state in all_paths(left) if path in there}
    live = gn.states(left)
    assert {id(live[path]) for path in difference.flat()} == kept


def test_a_difference_costs_one_pass():
    """With 2^30 paths to one State, it is found without listing them that no path or some path is there."""
    node, other = N(w=leaf()), N(v=leaf())
    for _ in range(30):
        node, other = N(node, node), N(other, other)
    tree = gn.treefy_states(node)
    assert len((tree - gn.treefy_states(other)).flat()) == 1
    below: Any = leaf()
    for key in reversed([*"ab" * 15, "w"]):
        below = {key: below}
    assert (tree - gn.treefy_states(below)).flat() == {}


def test_an_unknown_path_is_refused_though_nothing_is_said_of_it():
    """An empty mapping at a path that is nowhere is a misspelt path too; at a node it says nothing."""
    node = N(a=N(v=leaf()), w=leaf())
    gn.pop_states(node, gn.PathIn("a.v"))
    gn.update_states(node, {"a": {}, "w": jnp.zeros(1)})
    empty: Any
    for empty in ({}, gn.states(N()), gn.treefy_states(N())):
        for key, text in (("nope", "nope: N has no State there"), ("a.v", "a.v: it was popped")):
            with pytest.raises(gn.UpdateError, match=f"^cannot update N: {text}"):
                gn.update_states(node, {key: empty})
    with pytest.raises(gn.MergeError, match="unknown nope: the graphdef has no State there"):
        gn.treefy_merge(gn.graphdef(node), {"w": jnp.zeros(1), "nope": {}})


def test_mappings_hold_collections_and_whole_paths_at_any_depth():
    """As at the top."""
    node, other = N(a=N(w=leaf())), N(w=leaf(2.0))
    given: Any
    for given in (gn.states(other), gn.treefy_states(other), {("w",): jnp.full(1, 2.0)}):
        gn.update_states(node, {"a": {"w": jnp.zeros(1)}})
        gn.update_states(node, {"a": given})
        assert values_of(node) == {"a.w": 2.0}
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(node, {"b": gn.states(other)})
    assert str(caught.value) == "cannot update N: b.w: N has no State there; did you mean 'a.w'?"


@pytest.mark.parametrize("key", [True, 1.5, None, ("a", None)], ids=repr)
def test_a_key_of_a_mapping_is_a_name_or_a_position(key: Any):
    """Anything else is refused in words; an integer of NumPy is a position."""
    with pytest.raises(TypeError) as caught:
        gn.update_states([leaf(), leaf()], {key: jnp.zeros(1)})
    assert str(caught.value) == f"expected paths of States as keys, found {key[-1] if isinstance(key, tuple) else key}"
    states = [leaf(), leaf()]
    gn.update_states(states, {np.int64(1): jnp.zeros(1)})
    assert states[1].value.tolist() == [0.0]


class Tables(gn.Node):
    """What States may be popped from, with all around them."""

    e: dict[str, dict[str, ParamState]]
    rows: list[dict[str, ParamState]]


GONE: dict[str, tuple[Any, str]] = {
    "a dict": (lambda node: setattr(node, "e", {}), "e.u.w: e.u is gone, in which it was"),
    "a list": (lambda node: setattr(node, "rows", []), "rows.0.w: rows.0 is gone, in which it was"),
    "a field": (lambda node: delattr(node, "e"), "e.u.w: e is gone, in which it was"),
}


@pytest.mark.parametrize("name", GONE)
def test_what_was_popped_does_not_go_where_nothing_is_any_more(name: str):
    """The error says which place is gone, and nothing is put back."""
    change, text = GONE[name]
    node = Tables({"u": {"w": leaf()}}, [{"w": leaf()}])
    popped = gn.pop_states(node, gn.Under("rows" if name == "a list" else "e"))
    change(node)
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(node, popped)
    assert str(caught.value) == f"cannot update Tables: {text}"
    assert len(gn.states(node)) == 1


@pytest.mark.parametrize("text", ["a.", 'a"', "a. b"])
def test_a_text_that_is_no_path_leads_nowhere(text: str):
    """As for a dict: no such key; the error of a look-up says what does not parse."""
    node = tied()
    collections: tuple[Any, ...] = (gn.states(node), gn.treefy_states(node), gn.nodes(node))
    for collection, kind in zip(collections, ("State", "State", "node"), strict=True):
        assert text not in collection
        assert collection.get(text, 3) == 3
        with pytest.raises(KeyError) as caught:
            collection[text]
        assert caught.value.args[0].startswith(f"{text!r}: no {kind} there; path {text!r} does not parse: expected ")


def test_a_function_is_asked_for_every_combination_of_references():
    """One State in two fields of a node in two fields has four paths, of which each may be the one that is meant."""
    shared = N(w=(state := leaf()), v=state)
    node = N(a=shared, b=shared)

    def is_at(path: tuple[str, str]) -> Any:
        return lambda at, _: at == path

    for path in (("a", "w"), ("b", "v"), ("b", "w")):
        with pytest.raises(gn.FilterError) as caught:
            gn.states(node, is_at(path))
        assert caught.value.paths == (("a", "v"), path)
    assert selected(node, lambda at, _: at[-1] in "vw") == ["a.v"]


@given(node=graphs(), pattern=GLOBS)
def test_a_function_selects_what_it_selects_by_every_path(node: N, pattern: list[str]):
    """Against a listing of all paths: what it says of all paths of a State, or an error where it says both."""
    listed = list(all_paths(node))
    answers = {id(state): {fits(pattern, path) for path, other in listed if other is state} for _, state in listed}
    fitting: Any = functools.partial(fits, pattern)
    try:
        found = gn.states(node, lambda path, _: fitting(path))
    except gn.FilterError:
        assert any(len(both) == 2 for both in answers.values())
        return
    assert {id(state): {state in set(found.values())} for _, state in listed} == answers


def test_a_function_is_asked_for_64_paths_at_most():
    """Where there are more, as many as 2^30, it is asked for the first and 63 others."""
    node = N(w=leaf())
    for _ in range(30):
        node = N(node, node)
    asked: list[Any] = []

    def ask(path: Any, _: object) -> bool:
        asked.append(path)
        return True

    assert len(gn.states(node, ask)) == 1
    assert len(set(asked)) == len(asked) == 64
    assert asked[0] == (*"a" * 30, "w")


class R(gn.Node):
    """As N, with names in another order."""

    z: "R | None" = gn.subnode(default=None)  # as `a` of N
    y: "R | None" = gn.subnode(default=None)  # as `b` of N
    w: ParamState | None = gn.state(default=None)


# The edges of a graph of N or R: for each node, which nodes are its `a` and `b`.
EDGES = st.integers(1, 6).flatmap(
    lambda count: st.lists(st.tuples(*[st.sampled_from([None, *range(count)])] * 2), min_size=count, max_size=count)
)


def rings(edges: list[tuple[int | None, int | None]], cls: Any) -> Any:
    """A graph with any references, also those that go round, in which the value of each State is its node's number."""
    nodes = [cls(w=leaf(float(at))) for at in range(len(edges))]
    for node, children in zip(nodes, edges, strict=True):
        for name, child in zip("ab" if cls is N else "zy", children, strict=True):
            setattr(node, name, None if child is None else nodes[child])
    return nodes[0]


def numbers_in(node: Any, *filters: Any) -> set[int]:
    return {int(state.value[0]) for state in gn.states(node, gn.Any(*filters)).values()}


def reached(edges: list[tuple[int | None, int | None]], path: list[str]) -> set[int]:
    """What is at and below a path, without the nodes on the way to it, by looking at all of them."""
    way = [0]
    for key in path:
        child = edges[way[-1]]["ab".index(key)]
        if child is None:
            return set()
        way.append(child)
    found: set[int] = set()
    pending = [way[-1]]
    while pending:
        at = pending.pop()
        if at not in found:
            found.add(at)
            pending += [child for child in edges[at] if child is not None and child not in way]
    return found


@given(edges=EDGES, path=st.lists(st.sampled_from(["a", "b"]), max_size=5))
def test_what_is_under_a_path_is_reached_without_the_nodes_on_the_way(edges: Any, path: list[str]):
    """In any graph, over any references, as a written-out path is walked; whatever the names are."""
    expected = reached(edges, path)
    for cls, names in ((N, path), (R, ["zy"["ab".index(key)] for key in path])):
        node = rings(edges, cls)
        assert numbers_in(node, gn.Under(tuple(names), missing_ok=True)) == expected
        assert {
            int(one.value[0])
            for one in gn.treefy_states(node).filter(gn.Under(tuple(names), missing_ok=True)).flat().values()
        } == expected


@given(edges=EDGES, pattern=GLOBS)
def test_what_a_glob_means_does_not_depend_on_the_order_of_names(edges: Any, pattern: list[str]):
    """The same graph with fields of other names: the same States, below too, and those that are only below."""
    renamed = [{"a": "z", "b": "y"}.get(key, key) for key in pattern]
    for make in (gn.PathIn, gn.Under, functools.partial(gn.Under, shared=False)):
        left = numbers_in(rings(edges, N), make(".".join(pattern), missing_ok=True))
        right = numbers_in(rings(edges, R), make(".".join(renamed), missing_ok=True))
        assert left == right


def simple_paths(edges: Any, way: tuple[int, ...] = (0,), path: tuple[str, ...] = ()) -> Iterator[tuple[int, Any]]:
    yield way[-1], (*path, "w")
    for name, child in zip("ab", edges[way[-1]], strict=True):
        if child is not None and child not in way:
            yield from simple_paths(edges, (*way, child), (*path, name))


@given(edges=EDGES, pattern=GLOBS)
def test_a_glob_selects_at_least_what_a_path_without_repetition_fits(edges: Any, pattern: list[str]):
    """It may go round between nodes that refer to each other, and never to a node that encloses the place."""
    node = rings(edges, N)
    found = numbers_in(node, gn.PathIn(".".join(pattern), missing_ok=True))
    assert found >= {at for at, path in simple_paths(edges) if fits(pattern, path)}
    if all(child is None or child > at for at, children in enumerate(edges) for child in children):
        assert found == {at for at, path in simple_paths(edges) if fits(pattern, path)}


@given(edges=EDGES)
def test_a_function_is_asked_for_all_paths_without_repetition(edges: Any):
    """Of each State, in any graph."""
    asked: set[Any] = set()

    def ask(path: Any, state: Any) -> bool:
        asked.add((int(state.value[0]), path))
        return True

    gn.states(rings(edges, N), ask)
    assert asked == set(simple_paths(edges))


@pytest.mark.parametrize("name", ["enc", "a_enc"])
def test_two_that_refer_to_each_other_are_below_each_other(name: str):
    """Neither encloses the other, in whatever order the two fields come."""
    first, second = N(w=leaf(1.0)), N(w=leaf(2.0))
    first.a, second.a = second, first
    node = {name: first, "dec": second}
    for path in (name, "dec", f"{name}.a", f"{name}.a.a", "*"):
        exact = {f"{name}.a": {2}, f"{name}.a.a": {1}}
        assert numbers_in(node, gn.Under(path)) == exact.get(path, {1, 2})
    assert numbers_in(node, gn.Under(name, shared=False)) == set()
    assert numbers_in(node, gn.PathIn("*.a.a.w")) == {1, 2}


def test_under_takes_a_written_path_that_leads_back():
    """As PathIn does; below it is what is reached without the nodes on the way."""
    child = N(w=leaf(1.0))
    node = N(a=child, b=N(w=leaf(2.0)), w=leaf(3.0))
    child.b = node
    assert numbers_in(node, gn.Under("a.b")) == {2, 3}
    assert numbers_in(node, gn.Under("a.b.b")) == {2}
    assert numbers_in(node, gn.Under("a")) == numbers_in(node, gn.Under("a*")) == {1}
    with pytest.raises(gn.FilterError) as caught:
        gn.axes({gn.Under("a.b.b"): 0, gn.PathIn("b.w"): 1}).of(node)
    assert str(caught.value) == (
        "two answers for one State: a.b.b.w and b.w are one ParamState, with 0 by Under('a.b.b') and 1 by PathIn('b.w')"
    )


def test_rings_of_many_nodes_cost_one_pass():
    """Neighbours that know each other, and children that know a parent far up, cost as much for each further one."""

    def calls(size: int) -> int:
        nodes = [N(w=leaf()) for _ in range(size)]
        for left, right in itertools.pairwise(nodes):
            left.a, right.b = right, left
        chain = N(w=leaf())
        for _ in range(size):
            chain = N(a=chain, w=leaf())
        top = below = chain.a
        while below is not None:
            below.b = top
            below = below.a
        node = [[nodes[-1], *nodes[:-1]], chain]
        gn.states(node)
        gc.collect()
        return calls_of(lambda: gn.states(node, gn.PathIn("**.b.w")))

    first, second, third = calls(10), calls(210), calls(410)
    assert third - second < 1.3 * (second - first)


def test_a_tree_in_a_tree_holds_what_is_shared_there():
    """What has its first path elsewhere is read step by step as it is by a whole path."""
    block = N(w=leaf(2.0))
    node = {"blocks": [N(w=leaf()), block], "a_block": block, "only": [block]}
    tree: Any = gn.treefy_states(node)
    assert tree["blocks"][1]["w"].value is tree["blocks", 1, "w"].value is tree["only"][0]["w"].value
    assert list(tree["blocks"]) == [0, 1]
    assert list(tree["blocks"].flat()) == [(0, "w"), (1, "w")]
    assert list(tree["only"]) == [0]
    for missing in ("1", 2, True):
        with pytest.raises(KeyError):
            tree["blocks"][missing]


@given(node=graphs())
def test_a_tree_in_a_tree_is_that_of_the_node_there(node: N):
    """The same layout, and the same values, by every path."""
    tree: Any = gn.treefy_states(numbered(node))
    for path, _ in all_paths(node):
        inner: Any = node
        step: Any = tree
        for length, key in enumerate(path[:-1], start=1):
            inner, step = getattr(inner, key), step[key]
            expected = gn.treefy_states(inner)
            found = (step, tree[".".join(path[:length])] if length > 1 else step)
            for one in found:
                assert one.layout is expected.layout
                assert all(a is b for a, b in zip(one._values, expected._values, strict=True))


@given(edges=EDGES, path=st.lists(st.sampled_from(["a", "b"]), min_size=2, max_size=5))
def test_a_tree_in_a_tree_ends(edges: Any, path: list[str]):
    """Where references go round it holds what is under the path, and not what is on the way."""
    text = ".".join(path)
    tree: Any = gn.treefy_states(rings(edges, N))
    expected = reached(edges, path)
    if not expected:
        assert text not in tree
        return
    assert {int(state.value[0]) for state in tree[text].flat().values()} == expected
