"""Filters as static values: they say what they select, and equal ones make one structure."""

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import graphnode as gn
from graphnode._filters import Matcher, as_filter
from graphnode._static import static_key


class Holder(gn.Node):
    selector: Any = gn.static()


def is_bias(path: gn.Path, state: Any) -> bool:
    return path[-1] == "bias"


FILTERS: dict[str, Callable[[], Any]] = {
    "everything": lambda: ...,
    "nothing": lambda: None,
    "class": lambda: gn.ParamState,
    "OfType": lambda: gn.OfType(gn.ParamState),
    "tag": lambda: "running",
    "function": lambda: is_bias,
    "PathIn": lambda: gn.PathIn("weight", ("layers", 0)),
    "PathIn with a glob": lambda: gn.PathIn("layers.*.weight", "**.bias"),
    "Under": lambda: gn.Under("layers.0"),
    "Under with a glob": lambda: gn.Under("layers.*"),
    "Under, apart from what is shared": lambda: gn.Under("layers.*", shared=False),
    "Under, where nothing may be": lambda: gn.Under("layers.*", missing_ok=True),
    "PathContains": lambda: gn.PathContains("weight"),
    "PathContains with a position": lambda: gn.PathContains(0),
    "Any": lambda: gn.Any(gn.Under("layers.*"), gn.ParamState),
    "All": lambda: gn.All(gn.Under("layers.*"), gn.ParamState),
    "Not": lambda: gn.Not(gn.Under("layers.*")),
    "tuple": lambda: (gn.Under("layers.*"), is_bias, "running"),
    "tuple in a tuple": lambda: (gn.ParamState, (gn.PathIn("*.a"), None)),
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("form", [lambda given: given, as_filter], ids=["as it is written", "as a filter"])
def test_filters_that_are_made_alike_make_one_structure(name: str, form: Callable[[Any], Any]):
    """A filter is a static value in each of its forms."""
    first, second = form(FILTERS[name]()), form(FILTERS[name]())
    assert gn.graphdef(Holder(first)) is gn.graphdef(Holder(second))
    assert gn.clone(Holder(first)).selector == second


def test_filters_that_differ_make_other_structures():
    """No two of them are one static value, though `True` equals 1 and a key may look like a glob."""
    filters: list[Matcher] = [as_filter(make()) for name, make in FILTERS.items() if name not in ("class",)]
    filters += [gn.PathIn(("layers", "*")), gn.PathIn("layers.*"), gn.PathIn(("layers", "0")), gn.PathIn("layers.0")]
    assert len({static_key(matcher) for matcher in filters}) == len(filters)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (gn.Under("a", "b"), gn.Under("b", "a")),
        (gn.Under("a", "a"), gn.Under("a")),
        (gn.Under("a.*", "a.*"), gn.Under("a.*")),
        (gn.PathIn("a.0"), gn.PathIn(("a", 0))),
        (gn.PathIn('"a".*'), gn.PathIn("a.*")),
        (gn.PathIn('"a b".*'), gn.PathIn('"a b".*')),
    ],
)
def test_equal_filters_make_one_structure_however_they_are_written(first: Any, second: Any):
    """In another order, twice, as keys or as a text, or with quotes that are not needed."""
    assert first == second
    assert repr(first) == repr(second)
    assert static_key(first) == static_key(second)


def test_glob_keeps_the_quotes_that_it_needs():
    """A key that holds a star or a blank stays a key."""
    assert repr(gn.PathIn('"a*"."b c".*.0."0"')) == 'PathIn(\'"a*"."b c".*.0."0"\')'


@pytest.mark.parametrize("name", FILTERS)
def test_filter_is_the_same_after_a_copy(name: str):
    """Also what it compiled comes back."""
    selector = as_filter(FILTERS[name]())
    for other in (copy.deepcopy(selector), pickle.loads(pickle.dumps(selector))):
        assert other == selector
        assert static_key(other) == static_key(selector)


@pytest.mark.parametrize(
    "wrt",
    [
        gn.Under("layers.*"),
        gn.PathIn("layers.*.weight"),
        (gn.PathIn("layers.*.bias"), gn.PathIn("layers.0.weight")),
        gn.All(gn.ParamState, gn.Not(gn.Under("**.bias"))),
    ],
    ids=repr,
)
def test_optimizer_takes_filters_with_globs(wrt: Any):
    """It selects what the filter does, and a second one like it is one structure with it."""
    model = gn.nn.MLP(2, 4, 3)
    tx = optax.sgd(0.5)
    first, second = gn.optim.Optimizer(model, tx, wrt=wrt), gn.optim.Optimizer(model, tx, wrt=wrt)
    assert gn.graphdef(first) is gn.graphdef(second)
    before = {path: state.value for path, state in gn.states(model).items()}
    first.update(model, jax.tree.map(jnp.ones_like, gn.treefy_states(model)))
    changed = [path for path, state in gn.states(model).items() if not jnp.array_equal(state.value, before[path])]
    assert changed == list(gn.states(model, wrt))


def test_compiled_regular_expression_is_a_static_value():
    """It says what it holds where pickle looks for it: compared by pattern and flags."""
    assert gn.graphdef(Holder(re.compile("a.b"))) is gn.graphdef(Holder(re.compile("a.b")))
    others = [re.compile("a.b"), re.compile("a.b", re.DOTALL), re.compile(b"a.b"), re.compile("a")]
    assert len(set(map(static_key, others))) == len(others)
