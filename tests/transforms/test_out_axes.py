"""`out_axes=gn.axes({...})`: the axis of each State in a result of `gn.vmap`, by filter."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn

XS = jnp.arange(8.0).reshape(4, 2)


class Norm(gn.Node):
    """What differs from lane to lane, and what does not."""

    scale: gn.ParamState
    mean: gn.BatchState


class Pair(gn.Node):
    """A node, and something of its own."""

    norm: Norm
    own: gn.ParamState


def build(x: jax.Array) -> Norm:
    return Norm(gn.ParamState(x), gn.BatchState(jnp.zeros(3)))


def shapes(norm: Norm) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return norm.scale.value.shape, norm.mean.value.shape


def message(error: type[Exception], function: Any, *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_each_state_of_a_new_node_has_the_axis_of_its_filter(axis: int):
    """What no filter accepts has none, as in in_axes; the numbers are those of JAX."""
    norm = gn.vmap(build, out_axes=gn.axes({gn.ParamState: axis}))(XS)
    np.testing.assert_array_equal(norm.scale.value, jax.vmap(lambda x: x, out_axes=axis)(XS))
    assert norm.mean.value.shape == (3,)
    member = gn.vmap(lambda norm: norm.scale.value, in_axes=gn.axes({gn.ParamState: axis}))(norm)
    np.testing.assert_array_equal(member, XS)


def test_axes_stand_anywhere_in_a_prefix_of_the_result():
    """Beside axes of arrays, for one node or a pytree of them, and for state trees."""
    by_filter = gn.axes({gn.ParamState: 1, ...: None})

    def make(x: jax.Array) -> Any:
        return [build(x), build(2 * x)], {"x": x, "mean": jnp.zeros(3)}, gn.treefy_states(build(3 * x))

    (first, second), arrays, tree = gn.vmap(make, out_axes=(by_filter, {"x": 1, "mean": None}, by_filter))(XS)
    assert shapes(first) == shapes(second) == ((2, 4), (3,))
    np.testing.assert_array_equal(second.scale.value, 2 * XS.T)
    np.testing.assert_array_equal(arrays["x"], XS.T)
    assert arrays["mean"].shape == (3,)
    np.testing.assert_array_equal(tree["scale",].value, 3 * XS.T)
    assert tree["mean",].value.shape == (3,)


@pytest.mark.parametrize(
    "which", [gn.PathIn("scale"), gn.Under("scale"), lambda path, state: state.value.shape == (2,), "main"]
)
def test_any_filter_will_do(which: Any):
    """Filters by path go by the path from the node, functions get States with the values of a lane."""

    def make(x: jax.Array) -> Norm:
        return Norm(gn.ParamState(x, tag="main"), gn.BatchState(jnp.zeros(3)))

    assert shapes(gn.vmap(make, out_axes=gn.axes({which: 0}))(XS)) == ((4, 2), (3,))


def test_the_node_is_one_like_any_other():
    """It is split, cloned and pickled, and has the structure of a member."""
    norm = gn.vmap(build, out_axes=gn.axes({gn.ParamState: 1}))(XS)
    assert gn.graphdef(norm) is gn.graphdef(build(XS[0]))
    assert shapes(gn.clone(norm)) == shapes(pickle.loads(pickle.dumps(norm))) == ((2, 4), (3,))


def test_it_works_inside_of_other_transforms():
    """Under gn.jit, gn.scan and another gn.vmap."""
    by_filter = gn.axes({gn.ParamState: 1, ...: None})
    mapped = gn.vmap(build, out_axes=by_filter)
    assert shapes(gn.jit(mapped)(XS)) == ((2, 4), (3,))
    assert shapes(gn.vmap(mapped, out_axes=gn.axes({gn.ParamState: 0}))(XS[None])) == ((1, 2, 4), (3,))
    _, rounds = gn.scan(lambda carry, x: (carry, mapped(x)), None, jnp.stack([XS, XS]))
    assert shapes(rounds) == ((2, 2, 4), (2, 3))


def test_explicit_shardings_get_the_axis():
    """Those of the States that have one, at its position."""

    def make(x: jax.Array) -> Norm:
        return Norm(gn.ParamState(x, sharding=jax.P("model")), gn.BatchState(jnp.zeros(3), sharding=jax.P("model")))

    norm = gn.vmap(make, out_axes=gn.axes({gn.ParamState: 0, ...: None}))(XS)
    assert (norm.scale.sharding, norm.mean.sharding) == (jax.P(None, "model"), jax.P("model"))


def test_what_went_in_keeps_its_axes():
    """A State of an argument comes out as itself, where no filter says another axis."""
    norm = build(XS)
    wrap = gn.vmap(
        lambda norm, x: Pair(norm, gn.ParamState(x)),
        in_axes=(gn.axes({gn.ParamState: 0}), 0),
        out_axes=gn.axes({gn.PathIn("own"): 1, gn.ParamState: 0}),
    )
    pair = wrap(norm, XS)
    assert pair.norm is norm
    assert shapes(norm) == ((4, 2), (3,))
    assert pair.own.value.shape == (2, 4)


def test_another_axis_for_what_went_in_is_refused():
    """All are named, as the argument and in the result; nothing is written."""
    mapped = gn.vmap(
        lambda norm: {"norm": norm}, in_axes=gn.axes({gn.ParamState: 0}), out_axes=gn.axes({gn.ParamState: 1, ...: 0})
    )
    assert message(gn.AliasError, mapped, build(XS)) == (
        "gn.vmap: inconsistent axes: 2 faults:\n"
        "  one State is reached as the argument norm.mean with None and as result['norm'].mean with 0\n"
        "  one State is reached as the argument norm.scale with 0 and as result['norm'].scale with 1"
    )


def test_two_axes_for_a_state_that_results_share_are_refused():
    """By two places of the result, the first of which may be given one axis for all its States."""

    def make(x: jax.Array) -> tuple[Pair, Norm]:
        norm = build(x)
        return Pair(norm, gn.ParamState(x)), norm

    zero, one = gn.axes({gn.ParamState: 0}), gn.axes({gn.ParamState: 1})
    assert message(gn.AliasError, gn.vmap(make, out_axes=(zero, one)), XS) == (
        "gn.vmap: inconsistent axes: one State is reached as result[0].norm.scale with 0 and as result[1].scale with 1"
    )
    assert message(gn.AliasError, gn.vmap(make, out_axes=(0, one)), XS) == (
        "gn.vmap: inconsistent axes: one State is reached as result[0] with 0 and as result[1].scale with 1"
    )
    pair, norm = gn.vmap(make, out_axes=(one, one))(XS)
    assert pair.norm is norm
    assert shapes(norm) == ((2, 4), (3,))


def test_an_axis_without_a_place_is_refused():
    """All are named, with the shape in a lane."""
    mapped = gn.vmap(build, out_axes=gn.axes({gn.ParamState: 3, ...: -3}))
    assert message(ValueError, mapped, XS) == (
        "gn.vmap: 2 faults:\n"
        "  result.mean has shape (3,) in a lane, and no place for an axis -3\n"
        "  result.scale has shape (2,) in a lane, and no place for an axis 3"
    )


def test_what_differs_from_lane_to_lane_needs_an_axis():
    """JAX would not say which State it is."""
    mapped = gn.vmap(lambda x: {"norm": build(x)}, out_axes=gn.axes({gn.BatchState: 0}))
    assert message(ValueError, mapped, XS) == (
        "gn.vmap: result['norm'].scale differs from lane to lane: give it an axis in out_axes"
    )


def test_axes_of_what_has_no_states_are_refused():
    """An array has one axis, said without filters."""
    mapped = gn.vmap(lambda x: [x], out_axes=gn.axes({gn.ParamState: 0}))
    assert message(TypeError, mapped, XS) == (
        "gn.vmap: result[0] is neither a node nor a state tree, and takes no axes({ParamState: 0})"
    )


def test_what_is_not_an_axis_is_refused_where_it_is_written():
    """A partition spec is for shard_map, and a boolean is a mistake, also behind an equal integer."""
    for wrong, found in [({...: jax.P()}, "P P()"), ({gn.ParamState: 1, ...: True}, "bool True")]:
        make: Any = gn.axes
        with pytest.raises(TypeError) as caught:
            gn.vmap(build, out_axes=make(wrong))
        assert str(caught.value).endswith(f"an axis is an integer or None; found {found}")


def test_a_filter_of_a_path_that_leads_nowhere_is_refused():
    """As in in_axes."""
    mapped = gn.vmap(build, out_axes=gn.axes({gn.Under("scael"): 0}))
    assert message(gn.FilterError, mapped, XS).startswith("no State is at or below 'scael'")


def test_out_axes_that_do_not_fit_the_result_are_refused():
    """The error begins with what was written."""
    mapped = gn.vmap(build, out_axes=[gn.axes({gn.ParamState: 0})])
    assert message(ValueError, mapped, XS).startswith(
        "gn.vmap: out_axes [axes({ParamState: 0})] is not a prefix of the result: "
    )


def test_streams_with_an_axis_depend_on_it():
    """A stream without one may be constant, as all lanes have it."""
    constant = gn.vmap(lambda x: gn.Rngs(0), out_axes=gn.axes({...: 0}))
    assert message(gn.StackError, constant, XS).startswith(
        "gn.vmap: result.streams.default.key does not depend on the mapped axis"
    )
    shared = gn.vmap(lambda x: gn.Rngs(0), out_axes=gn.axes({...: None}))(XS)
    np.testing.assert_array_equal(shared.normal((2,)), gn.Rngs(0).normal((2,)))
