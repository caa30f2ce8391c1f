"""No stray operations: a layer compiles to what one would write by hand for the same arrays."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from tests.nn.by_hand import BY_HAND, lstm
from tests.nn.layers import CACHES, CASES, PARTS, abstract, arrays, inputs
from tests.nn.peers import BF16


def primitives(jaxpr: Any) -> Iterator[str]:
    """The primitives at every depth, without those that only call others."""
    for equation in jaxpr.eqns:
        inner = [
            getattr(one, "jaxpr", one)
            for param in equation.params.values()
            for one in (param if isinstance(param, (tuple, list)) else (param,))
            if hasattr(getattr(one, "jaxpr", one), "eqns")
        ]
        if not inner or equation.primitive.name == "scan":
            yield str(equation.primitive.name)
        for one in inner:
            yield from primitives(one)


def jaxpr_of(layer: Any, *inputs: Any) -> Any:
    """Of a call through plain JAX, which gives what is written too."""
    graphdef, states = gn.treefy_split(layer)

    def call(states: Any, *inputs: Any) -> Any:
        one: Any = gn.treefy_merge(graphdef, states)
        return one(*inputs), gn.treefy_states(one, gn.BatchState, ...)[0]

    return jax.make_jaxpr(call)(states, *inputs)


@pytest.mark.parametrize(("case", "options", "by_hand"), [(case, *row) for case, row in BY_HAND.items()], ids=BY_HAND)
def test_a_layer_is_what_one_writes_by_hand(case: str, options: dict[str, Any], by_hand: Callable[..., Any]):
    """The same number of each primitive, at every depth."""
    name = case.partition(",")[0]
    layer = abstract(name, **options)
    found = Counter(primitives(jaxpr_of(layer, *inputs(name)).jaxpr))
    expected = Counter(primitives(jax.make_jaxpr(by_hand)(arrays(layer), *inputs(name)).jaxpr))
    assert found == expected


def test_an_lstm_is_what_one_writes_by_hand():
    """Whose carry is a pair."""
    layer, h, x = abstract("LSTMCell"), jax.ShapeDtypeStruct((2, 4), jnp.float32), *inputs("RNNCell")[1:]
    found = Counter(primitives(jaxpr_of(layer, (h, h), x).jaxpr))
    assert found == Counter(primitives(jax.make_jaxpr(lstm)(arrays(layer), h, h, x).jaxpr))


def test_every_layer_is_in_the_table():
    """But for adaptive pools, whose parts differ, caches and parts, which are no layers, and those of other tests."""
    left = set(CASES) - {case.partition(",")[0] for case in BY_HAND} - PARTS - CACHES
    assert left == {"AdaptiveAvgPool", "AdaptiveMaxPool", "ExponentialSynapse", "LIF", "LSTMCell", "Mamba2Cache"}


@pytest.mark.parametrize("name", ["Conv", "Linear", "LayerNorm", "MLP", "MultiHeadAttention", "TransformerBlock"])
def test_a_dtype_that_all_have_costs_nothing(name: str):
    """Arrays that are of the dtype already are not cast."""
    plain, told = abstract(name), abstract(name, dtype=jnp.float32)
    one, other = (Counter(primitives(jaxpr_of(layer, *inputs(name)).jaxpr)) for layer in (plain, told))
    assert one == other


def test_a_dtype_casts_each_array_once():
    """Input, weight and bias."""
    layer = abstract("Conv", dtype=BF16)
    found = Counter(primitives(jaxpr_of(layer, *inputs("Conv")).jaxpr))
    plain = Counter(primitives(jaxpr_of(abstract("Conv"), *inputs("Conv")).jaxpr))
    assert found - plain == {"convert_element_type": 3}


def test_gn_make_jaxpr_adds_nothing():
    """To what plain JAX has."""
    layer = abstract("TransformerBlock")
    found = gn.make_jaxpr(lambda layer, x: layer(x))(layer, *inputs("TransformerBlock"))
    plain = jaxpr_of(layer, *inputs("TransformerBlock"))
    assert Counter(primitives(found.jaxpr)) == Counter(primitives(plain.jaxpr))
