"""Messages that name two classes of one name say which of them is older."""

from typing import Any

import jax.numpy as jnp
import optax
import pytest

import graphnode as gn
from graphnode import nn
from graphnode._redefinition import a_class, class_name, distinct_class_name, is_older


def define() -> Any:
    """A State class, and nodes that hold it, as a cell of a notebook that runs twice."""

    class Mark(gn.State): ...

    class Layer(gn.Node):
        mark: Mark

    class Net(gn.Node):
        layer: Layer
        layers: list[Layer]

    return Mark, Layer, Net


class Probe(gn.Node):
    """Takes any State, or node."""

    mark: gn.State
    node: gn.Node


OLD = "of before it was defined again"
NEW = "of after it was defined again"


def test_the_older_class_is_told_from_the_newer():
    """By the order of their definitions; a class of another place has its full name."""
    (old, *_), (new, *_) = define(), define()
    assert (is_older(old, new), is_older(new, old), is_older(old, old)) == (True, False, False)
    assert (class_name(old, new), class_name(new, old), class_name(old, old)) == (f"the Mark {OLD}", "Mark", "Mark")
    assert (a_class(old, new), a_class(new, old)) == (f"the Mark {OLD}", "a Mark")
    assert (distinct_class_name(old, new), distinct_class_name(new, old)) == (f"the Mark {OLD}", f"the Mark {NEW}")

    class Mark(gn.State): ...

    here = f"{__name__}.test_the_older_class_is_told_from_the_newer.<locals>.Mark"
    assert (class_name(Mark, old), class_name(old, Mark)) == (here, f"{__name__}.define.<locals>.Mark")
    assert class_name(Mark, gn.State) == "Mark"


def test_a_field_says_which_class_it_found():
    """Of before or after the definition that it was declared with; in containers too."""
    (old_mark, old_layer, old_net), (new_mark, new_layer, _) = define(), define()
    with pytest.raises(gn.FieldError) as caught:
        new_layer(old_mark(jnp.zeros(1)))
    assert str(caught.value) == f"Layer.mark takes Mark; found the Mark {OLD}"
    with pytest.raises(gn.FieldError) as caught:
        old_layer(new_mark(jnp.zeros(1)))
    assert str(caught.value) == f"Layer.mark takes Mark; found the Mark {NEW}"
    with pytest.raises(gn.FieldError) as caught:
        old_net(old_layer(old_mark(jnp.zeros(1))), [new_layer(new_mark(jnp.zeros(1)))])
    assert str(caught.value) == f"Net.layers.0 takes Layer; found the Layer {NEW}"


def probes() -> tuple[Probe, Probe]:
    """Two nodes that hold a State, and another node, of one class of before and after."""
    (old, layer, _), (new, new_layer, _) = define(), define()
    value = jnp.zeros(1)
    return Probe(old(value), layer(old(value))), Probe(new(value), new_layer(new(value)))


def test_updates_and_merges_say_it():
    """Each of the two texts names the State's place, and both classes."""
    before, after = probes()
    states = gn.treefy_states(after)
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(before, {"mark": states["mark"]})
    assert str(caught.value) == f"cannot update Probe: mark: expected the Mark {OLD}, found Mark"
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(after, {"mark": gn.treefy_states(before)["mark"]})
    assert str(caught.value) == f"cannot update Probe: mark: expected Mark, found the Mark {OLD}"
    with pytest.raises(gn.MergeError) as refused:
        gn.treefy_merge(gn.graphdef(before), states)
    text = f"is a Mark, the graphdef has the Mark {OLD} there"
    assert str(refused.value) == f"cannot merge into Probe: 2 faults:\n  mark {text}\n  node.mark {text}"


def test_differences_say_it():
    """`gn.diff`, and what names its differences: `gn.stack`, and why a function was traced again."""
    before, after = probes()
    assert [str(difference) for difference in gn.diff(gn.graphdef(before), gn.graphdef(after))] == [
        f"mark: the Mark {OLD} != Mark",
        f"node: the Layer {OLD} != Layer",
    ]
    assert [str(difference) for difference in gn.diff(gn.graphdef(after.node), gn.graphdef(before.node))] == [
        f"the root: Layer != the Layer {OLD}"
    ]
    with pytest.raises(gn.StructureError, match=f"mark: the Mark {OLD} != Mark"):
        gn.stack([before, after])
    run = gn.jit(lambda probe: probe.mark.value)
    run(before)
    run(after)
    assert f"probe.mark: the Mark {OLD} != Mark" in str(gn.explain_retrace(run))


def test_filters_say_it():
    """A State that no filter accepts, beside a filter of the same name."""
    (old, *_), (new, *_) = define(), define()
    probe = Probe(new(jnp.zeros(1)), nn.Dropout(0.5, rngs=gn.Rngs(0)))
    with pytest.raises(gn.FilterError) as caught:
        gn.treefy_split(probe, old, gn.RngState)
    assert str(caught.value) == (
        f"no filter of (Mark, RngState) accepts Probe.mark (the Mark {NEW}); add one, or pass `...` last"
    )


def test_a_filter_of_another_definition_is_refused():
    """A cell that runs again: the model is of one definition, the filter of the other, at whatever depth."""

    def cell() -> Any:
        names: dict[str, Any] = {"gn": gn, "__name__": "a_notebook"}
        exec("class Mark(gn.State): ...", names)
        return names["Mark"]

    before, after = cell(), cell()
    models = [before(jnp.zeros(1)), gn.ParamState(1.0)], [after(jnp.zeros(1))]
    remedy = "make the model anew, or select by the class that it was made of"
    for filter in (after, gn.Not(after), (gn.ParamState, after)):
        with pytest.raises(gn.FilterError) as caught:
            gn.states(models[0], filter)
        assert (
            str(caught.value)
            == f"the filter Mark is the Mark {NEW}, and some States here are of the Mark {OLD}: {remedy}"
        )
    with pytest.raises(gn.FilterError) as caught:
        gn.states(models, before, ...)
    assert (
        str(caught.value) == f"the filter Mark is the Mark {OLD}, and some States here are of the Mark {NEW}: {remedy}"
    )
    assert len(gn.states(models, before | after)) == 2

    (mark, *_), (other, *_) = define(), define()
    assert list(gn.states([mark(1.0), other(2.0)], mark)) == [(0,)]


def test_optimizers_say_it():
    """An optimizer that was made for a model of before."""

    def parameters() -> Any:
        class Weight(gn.ParamState): ...

        return Weight

    old, new = parameters(), parameters()
    node = gn.Rngs(0)
    optimizer = gn.optim.Optimizer(Probe(old(jnp.zeros(1)), node), optax.sgd(0.1))
    after = Probe(new(jnp.zeros(1)), node)
    with pytest.raises(gn.UpdateError, match=f"mark: expected the Weight {OLD}, found Weight"):
        optimizer.update(after, gn.treefy_states(after, gn.ParamState, ...)[0])
