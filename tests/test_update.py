"""Writing values into a live node: in place, whole or partial, all or nothing."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import graphnode as gn

from .properties.strategies import snapshot


class Linear(gn.Node):
    weight: gn.ParamState
    bias: gn.ParamState | None = None


class Net(gn.Node):
    first: Linear
    again: Linear
    items: list[Linear]
    table: dict[str, gn.State]
    mean: gn.BatchState


def linear() -> Linear:
    return Linear(gn.ParamState(jnp.zeros((2, 3))), gn.ParamState(jnp.zeros(3)))


def net() -> Net:
    shared = linear()
    return Net(
        shared, shared, [linear()], {"a": gn.State(jnp.zeros(1)), "s": shared.weight}, gn.BatchState(jnp.zeros(()))
    )


def ones(node: object) -> gn.StateTree:
    made: gn.StateTree = jax.tree.map(jnp.ones_like, gn.treefy_states(node))
    return made


def total(node: object) -> float:
    return sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(gn.treefy_states(node)))


def test_update_writes_in_place():
    """Values are written into the node's own States, which keep their identity; values pass by identity."""
    one = net()
    before = list(gn.states(one).values())
    new = ones(one)
    gn.update_states(one, new)
    assert list(gn.states(one).values()) == before
    assert all(state.value is value for state, value in zip(before, new._values, strict=True))
    assert total(one) == 6 + 3 + 6 + 3 + 1 + 1


FORMS: dict[str, Callable[[gn.StateTree, Net], Any]] = {
    "a whole tree": lambda new, one: [new],
    "a part": lambda new, one: [new.filter(gn.ParamState)],
    "two parts": lambda new, one: new.split(gn.ParamState, ...),
    "the other order": lambda new, one: new.split(gn.ParamState, ...)[::-1],
    "a nested dict": lambda new, one: [new.to_dict()],
    "live States": lambda new, one: [gn.states(gn.treefy_merge(gn.graphdef(one), new))],
    "a dict of TreefyStates": lambda new, one: [{"mean": new.flat()["mean",]}],
    "a dict of States": lambda new, one: [{"table": {"a": gn.State(jnp.ones(1))}}],
    "a mixture": lambda new, one: [new.filter(gn.BatchState), {"items": {0: {"bias": jnp.ones(3)}}}],
    "nothing": lambda new, one: [],
    "an empty tree": lambda new, one: [new.filter(), {}],
    "NumPy arrays": lambda new, one: [jax.tree.map(np.asarray, new)],
}
SUMS = {
    "a whole tree": 20,
    "a part": 18,
    "two parts": 20,
    "the other order": 20,
    "a nested dict": 20,
    "live States": 20,
    "a dict of TreefyStates": 1,
    "a dict of States": 1,
    "a mixture": 4,
    "nothing": 0,
    "an empty tree": 0,
    "NumPy arrays": 20,
}


@pytest.mark.parametrize("form", FORMS)
def test_update_takes_every_form_whole_or_partial(form: str):
    """StateTrees, FlatStates and nested mappings, of values or States, whole or partial, several at once."""
    one = net()
    for _ in range(2):  # the second time from what the first remembered
        gn.update_states(one, *FORMS[form](ones(one), one))
        assert total(one) == SUMS[form]


def test_last_one_wins():
    """Where several collections hold a path, the last is written."""
    one = net()
    gn.update_states(one, ones(one), {"table": {"a": jnp.full(1, 5.0)}}, {"table": {"a": jnp.full(1, 7.0)}})
    assert one.table["a"].value.tolist() == [7.0]


def test_any_path_of_a_shared_state_will_do():
    """A shared State may be updated over any of its paths."""
    one = net()
    for at, tree in enumerate(
        (
            {"first": {"bias": jnp.full(3, 0.0)}},
            {"again": {"bias": jnp.full(3, 1.0)}},
            {"first": {"bias": jnp.full(3, 2.0)}},
        )
    ):
        gn.update_states(one, tree)
        assert one.first.bias is not None
        assert one.first.bias.value.tolist() == [at] * 3
    gn.update_states(one, {"table": {"s": jnp.ones((2, 3))}})
    assert float(one.first.weight.value[0, 0]) == 1.0
    gn.update_states(one, gn.treefy_states({"table": {"s": gn.ParamState(jnp.zeros((2, 3)))}}))
    assert float(one.first.weight.value[0, 0]) == 0.0


def test_update_is_the_inverse_of_treefy_states():
    """Writing back what was read restores every value by identity."""
    one = net()
    old = gn.treefy_states(one)
    gn.update_states(one, ones(one))
    gn.update_states(one, old)
    assert all(a is b for a, b in zip(gn.treefy_states(one)._values, old._values, strict=True))


def test_update_of_a_pytree_of_nodes():
    """Several nodes are updated in one call, by the paths of the pytree."""
    one, two = linear(), linear()
    gn.update_states((one, {"b": two}), ones((one, {"b": two})))
    assert total(one) == total(two) == 9


def test_weak_types_and_other_array_libraries_fit():
    """A value fits by shape and dtype: NumPy arrays, weakly typed arrays and Python numbers do where they agree."""
    one = net()
    gn.update_states(one, {"mean": 2.5})
    assert one.mean.value == 2.5
    gn.update_states(one, {"mean": np.float32(3)})
    gn.update_states(one, {"mean": jnp.asarray(4.0)})
    assert float(one.mean.value) == 4.0


FAULTS: dict[str, tuple[list[Any], str]] = {
    "unknown": ([{"nothing": jnp.zeros(1)}], "nothing: Net has no State there"),
    "unknown below a State": (
        [gn.treefy_states({"mean": {"x": gn.State(0)}})],
        "mean.x: Net has no State there; did you mean 'mean'?",
    ),
    "unknown item": (
        [{"items": {3: {"bias": 0}}}],
        "items.3.bias: Net has no State there; did you mean 'items.0.bias'?",
    ),
    "a static": ([{"first": {"nothing": 0}}], "first.nothing: Net has no State there; did you mean 'first.weight'?"),
    "a node": ([{"first": 3}], "first: Net has no State there; did you mean 'first.bias'?"),
    "a path of a None": (
        [{"items": {0: {"scale": 0}}}],
        "items.0.scale: Net has no State there; did you mean 'items.0.bias'?",
    ),
    "a shape": (
        [{"items": {0: {"bias": jnp.zeros((3, 1))}}}],
        "items.0.bias: expected float32[3], found float32[3,1]",
    ),
    "a dtype": ([{"mean": jnp.zeros((), jnp.int32)}], "mean: expected float32[], found int32[]"),
    "a Python number": ([{"mean": 3}], "mean: expected float32[], found int32[]"),
    "a tree structure": (
        [{"mean": {"x": jnp.zeros(())}}],
        "mean: expected the tree PyTreeDef(*), found PyTreeDef({'x': *})",
    ),
    "a text": ([{"mean": "x"}], "mean: expected float32[], found str 'x'"),
    "a class": (
        [gn.treefy_states({"mean": gn.HiddenState(jnp.zeros(()))})],
        "mean: expected BatchState, found HiddenState",
    ),
    "a class of a live State": (
        [{"mean": gn.LongTermState(jnp.zeros(()))}],
        "mean: expected BatchState, found LongTermState",
    ),
    "everything": (
        [
            {"nothing": 0, "first": {"bias": jnp.zeros(3, jnp.float16), "weight": jnp.zeros((3, 2))}},
            gn.treefy_states({"mean": gn.ParamState(jnp.zeros(1))}),
            {"table": {"a": jnp.ones(1)}},
        ],
        """5 faults:
  nothing: Net has no State there
  mean: expected BatchState, found ParamState
  first.bias: expected float32[3], found float16[3]
  first.weight: expected float32[2,3], found float32[3,2]
  mean: expected float32[], found float32[1]""",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_update_names_all_and_writes_nothing(fault: str):
    """Every fault is named with its path, what was expected and what was found, and nothing is written."""
    trees, message = FAULTS[fault]
    one = net()
    before = snapshot(one)
    for given in (trees, [ones(one), *trees]):
        with pytest.raises(gn.UpdateError) as caught:
            gn.update_states(one, *given)
        assert str(caught.value) == f"cannot update Net: {message}"
        assert isinstance(caught.value, ValueError)
        assert snapshot(one) == before


def test_faulty_part_of_a_value_is_named_inside_the_state():
    """In a State whose value is a pytree the wrong leaf is named."""
    one = Linear(gn.ParamState({"a": [jnp.zeros(1), jnp.zeros(2)]}))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    before = snapshot(one)
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(one, {"weight": {"a": [jnp.zeros(1), jnp.zeros(3)]}})
    assert str(caught.value) == "cannot update Linear: weight['a'][1]: expected float32[2], found float32[3]"
    assert snapshot(one) == before


@pytest.mark.wrong_types
def test_no_collection_of_states_is_refused():
    """What names no States is a TypeError, and nothing is written, whatever came before it."""
    one = net()
    before = snapshot(one)
    takes = "a StateTree, FlatStates or a nested mapping by path"
    wrong: list[tuple[Any, str]] = [(3, "int 3"), ([1], "list [1]"), (one, "a Net"), (None, "None")]
    wrong.append((jnp.zeros(1), "an array float32[1]"))
    for bad, found in wrong:
        with pytest.raises(TypeError) as caught:
            gn.update_states(one, ones(one), bad)
        assert str(caught.value) == f"gn.update_states takes {takes}; found {found}"
        assert snapshot(one) == before


def test_check_false_skips_the_comparison():
    """With `check=False` other shapes, dtypes, structures and classes are written; unknown paths still raise."""
    one = net()
    new = jax.tree.map(lambda leaf: jnp.zeros((9,), jnp.int32), gn.treefy_states(one))
    gn.update_states(one, new, check=False)
    assert one.mean.value.shape == (9,)
    gn.update_states(one, {"mean": {"x": 1}, "table": {"a": gn.HiddenState(3)}}, check=False)
    assert one.mean.value == {"x": 1}
    assert one.table["a"].value == 3
    before = snapshot(one)
    with pytest.raises(gn.UpdateError):
        gn.update_states(one, {"mean": 1, "nothing": 2}, check=False)
    assert snapshot(one) == before


def test_tracer_from_elsewhere_is_refused_and_nothing_is_written():
    """A traced value that would leak into an outer State raises a TraceError, and no other value is written."""
    one, good = net(), np.ones(3, np.float32)
    before = snapshot(one)

    @jax.jit
    def leak(x: jax.Array) -> jax.Array:
        gn.update_states(one, {"mean": x, "items": {0: {"bias": good}}})
        return x

    with pytest.raises(gn.TraceError) as caught:
        leak(jnp.zeros(()))
    assert "mean (BatchState)" in str(caught.value)
    assert snapshot(one) == before


def test_update_inside_jit_writes_merged_states():
    """Inside a transformed function the States of a merged node take traced values, whole or partial."""
    one = net()

    @jax.jit
    def step(graphdef: gn.GraphDef[Net], tree: gn.StateTree) -> gn.StateTree:
        made = gn.treefy_merge(graphdef, tree)
        gn.update_states(made, jax.tree.map(lambda leaf: leaf + 1, gn.treefy_states(made)))
        gn.update_states(made, {"mean": jnp.sum(made.first.weight.value)})
        return gn.treefy_states(made)

    gn.update_states(one, step(*gn.treefy_split(one)))
    assert float(one.mean.value) == 6.0
    assert total(one) == 6 + 3 + 6 + 3 + 1 + 6


# What was popped comes back


class Tied(gn.Node):
    weight: gn.ParamState[Float[Array, "2"]]
    mean: gn.BatchState
    table: dict[str, gn.ParamState]


def tied() -> Tied:
    weight = gn.ParamState(jnp.zeros(2))
    return Tied(weight, gn.BatchState(jnp.zeros(1)), {"a": weight, "b": gn.ParamState(jnp.zeros(1))})


def test_popped_states_come_back_with_other_values_in_one_call():
    """One update may put popped States back and write others."""
    one = tied()
    popped = gn.pop_states(one, gn.BatchState)
    gn.update_states(one, popped, {"weight": jnp.ones(2)})
    assert one.mean is popped["mean",]
    assert one.weight.value.tolist() == [1.0, 1.0]


PUT_BACK_FAULTS: dict[str, tuple[Any, str]] = {
    "another class": (
        {"weight": gn.ParamState(jnp.zeros(2)), "mean": gn.ParamState(jnp.zeros(1))},
        "Tied.mean takes BatchState; found a ParamState",
    ),
    "another shape": (
        {"mean": gn.BatchState(jnp.zeros(1)), "weight": gn.ParamState(jnp.zeros(3))},
        "Tied.weight: ",
    ),
    "a bare value": (
        {"weight": gn.ParamState(jnp.zeros(2)), "mean": jnp.zeros(1)},
        "mean: it was popped; put it back as a State, or with a StateTree that describes it",
    ),
    "another field": (
        {"weight": gn.ParamState(jnp.zeros(2)), "means": gn.BatchState(jnp.zeros(1))},
        "means: Tied has no State there",
    ),
    "another class in a dict": (
        {"weight": gn.ParamState(jnp.zeros(2)), "table": {"a": gn.State(0)}},
        "Tied.table.a takes ParamState; found a State",
    ),
}


@pytest.mark.parametrize("fault", PUT_BACK_FAULTS)
def test_faulty_return_of_popped_states_changes_nothing(fault: str):
    """Putting popped States back is all or nothing: when one does not fit, none comes back and nothing is written."""
    given, message = PUT_BACK_FAULTS[fault]
    one = tied()
    gn.pop_states(one, gn.Not(gn.PathIn("table.b")))
    before = snapshot(one)
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(one, {"table": {"b": jnp.ones(1)}}, given)
    assert message in str(caught.value)
    assert snapshot(one) == before


def test_state_tree_describes_what_it_puts_back():
    """A StateTree puts a popped State back as a new State of the recorded class, tag and metadata."""
    one = Linear(gn.ParamState(jnp.zeros(1), tag="t", metadata={"unit": "mV"}))
    tree = gn.treefy_states(one)
    graphdef = gn.graphdef(one)
    (old,) = gn.pop_states(one, ...).values()
    gn.update_states(one, tree)
    assert one.weight is not old
    assert gn.graphdef(one) is graphdef
    assert one.weight.value is old.value


@pytest.mark.parametrize("bad", [jnp.zeros(7), jnp.zeros(3, jnp.int32)], ids=["shape", "dtype"])
@pytest.mark.parametrize("at", range(6))
def test_whole_tree_with_one_bad_value_writes_nothing(at: int, bad: jax.Array):
    """A tree of plain arrays that fits up to its last value is refused whole: the values before it are put back."""
    one = net()
    before = snapshot(one)
    leaves, treedef = jax.tree.flatten(gn.treefy_states(one))
    new = [jnp.ones_like(leaf) for leaf in leaves]
    new[at] = bad
    with pytest.raises(gn.UpdateError):
        gn.update_states(one, jax.tree.unflatten(treedef, new))
    assert snapshot(one) == before


def test_whole_tree_of_weak_types_is_written():
    """A value that differs from what is there in its weak type alone fits."""
    one = net()
    leaves, treedef = jax.tree.flatten(gn.treefy_states(one))
    new = [*[jnp.ones_like(leaf) for leaf in leaves[:-1]], jnp.full(leaves[-1].shape, 2.0)]
    gn.update_states(one, jax.tree.unflatten(treedef, new))
    assert all(state.value is value for state, value in zip(gn.states(one).values(), new, strict=True))


class Pair(gn.Node):
    both: gn.ParamState[dict[str, jax.Array]]


def test_whole_paths_may_be_keys():
    """As those of `gn.states`, and on into the value of a State; a mapping of both kinds of keys is fine too."""
    one, other = net(), net()
    values = {path: jnp.full_like(state.value, at) for at, (path, state) in enumerate(gn.states(one).items())}
    gn.update_states(one, values)
    assert all(state.value is values[path] for path, state in gn.states(one).items())
    gn.update_states(other, {("items", 0, "weight"): values["items", 0, "weight"], "mean": jnp.ones(())})
    assert total(other) == float(values["items", 0, "weight"].sum()) + 1

    pair = Pair(gn.ParamState({"a": jnp.zeros(2), "b": jnp.zeros(3)}))
    gn.update_states(pair, {("both", "a"): jnp.ones(2), ("both", "b"): jnp.ones(3)})
    assert [leaf.tolist() for leaf in jax.tree.leaves(pair.both.value)] == [[1.0, 1.0], [1.0, 1.0, 1.0]]
    merged = gn.treefy_merge(gn.graphdef(one), values)
    assert all(state.value is values[path] for path, state in gn.states(merged).items())


@pytest.mark.parametrize("paths", [(("first",), ("first", "weight")), (("first", "weight"), ("first",))], ids=str)
def test_a_path_within_another_one_is_refused(paths: tuple[gn.Path, gn.Path]):
    """In whichever order they come; nothing is written."""
    one = net()
    with pytest.raises(TypeError) as caught:
        gn.update_states(one, {path: {"weight": jnp.ones((2, 3))} if len(path) == 1 else jnp.ones(1) for path in paths})
    assert (
        str(caught.value)
        == {
            1: "first.weight is given, and first as a whole",
            2: "first is given as a whole and in parts",
        }[len(paths[0])]
    )
    assert total(one) == 0


def test_a_path_that_leads_nowhere_is_told_as_a_path():
    """Also one of a single key, and the empty one."""
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(net(), {("first", "wieght"): jnp.ones(1), ("items", 7, "bias"): jnp.ones(3)})
    assert "first.wieght" in str(caught.value)
    assert "items.7.bias" in str(caught.value)
    with pytest.raises(TypeError) as refused:
        gn.update_states(net(), {(): jnp.ones(1)})
    assert str(refused.value) == "expected paths of States as keys, found ()"
