"""Models over eight simulated devices: made, trained, moved and saved by a plan, in processes of their own."""

import textwrap

import pytest

from tests.devices import run_with_devices

PREAMBLE = """
import sys, tempfile
import jax, jax.numpy as jnp, numpy as np, optax
import graphnode as gn
from graphnode import sharding
from jax.sharding import AxisType

P = jax.P
RULES = sharding.Rules(
    params={"embed": "data", "heads": "model", "kv_heads": "model", "mlp": "model", "vocab": None},
    activations={"batch": "data", "mlp": "model", "heads": "model", "kv_heads": "model"},
    states={gn.optim.OptimizerState: {"vocab": "model"}},
)

class Language(gn.Node):
    embedding: gn.nn.Embedding
    block: gn.nn.Block

    def __call__(self, tokens):
        return self.embedding.attend(self.block(self.embedding(tokens)))

def build():
    block = gn.nn.TransformerBlock(8, 2, is_causal=True, norm="RMSNorm", rotary_base=100.0)
    model = Language(gn.nn.Embedding(16, 8), block)
    return [model, gn.optim.Optimizer(model, optax.adam(1e-2))]

def mesh_of(kind):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))

def plan_of(kind):
    return sharding.plan(gn.eval_shape(build), mesh_of(kind), RULES)

def is_in_place(both, plan):
    return all(
        state.value.sharding.is_equivalent_to(plan.shardings[path], state.value.ndim)
        for path, state in gn.states(both).items()
    )

KEY, TOKENS = jax.random.key(3), jax.random.randint(jax.random.key(0), (8, 4), 0, 16)
KINDS = (AxisType.Auto, AxisType.Explicit)
traces = []

@gn.jit(donate=True)
def step(both, tokens):
    traces.append(1)
    model, optimizer = both

    def loss(model):
        chosen = jax.nn.one_hot((tokens + 1) % 16, 16)
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(model(tokens)) * chosen, -1))

    value, grads = gn.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value

with gn.random.scope(KEY):
    one = build()
"""


def run(body: str) -> None:
    """Run a program with eight host devices."""
    run_with_devices(PREAMBLE + textwrap.dedent(body), 8)


@pytest.mark.slow
def test_a_model_is_made_and_trained_by_a_plan():
    """The values and losses of one device, one trace, and all States stay in place, with both kinds of axes."""
    run("""
    first = {path: np.asarray(state.value) for path, state in gn.states(one).items()}
    expected = [float(step(one, TOKENS)) for _ in range(3)]
    for kind in KINDS:
        plan = plan_of(kind)
        both = sharding.init(build, KEY, plan)
        for path, state in gn.states(both).items():
            assert np.allclose(state.value, first[path], atol=1e-6), path
        assert is_in_place(both, plan)
        traces.clear()
        with plan:
            tokens = jax.device_put(TOKENS, jax.NamedSharding(plan.mesh, P("data")))
            losses = [float(step(both, tokens)) for _ in range(3)]
        assert np.allclose(losses, expected, rtol=1e-4), losses
        assert len(traces) == 1
        assert is_in_place(both, plan)
    """)


@pytest.mark.slow
def test_a_model_is_moved_gathered_and_restored_by_a_plan():
    """Values stay, nodes keep their identity, and a checkpoint restores into an abstract model, each part in place."""
    run("""
    plan = plan_of(AxisType.Auto)
    values = [np.asarray(state.value) for state in gn.states(one).values()]
    assert sharding.place(one, plan) is one
    assert is_in_place(one, plan)
    copy = sharding.abstract(one, plan)
    assert gn.states(copy)["0.embedding.weight"].value.sharding.spec == P(None, "data")
    with tempfile.TemporaryDirectory() as directory:
        gn.checkpoint.save(directory + "/saved", one)
        gn.checkpoint.restore(directory + "/saved", copy)
    assert is_in_place(copy, plan)
    sharding.gather(one, plan)
    assert all(state.value.sharding.is_fully_replicated for state in gn.states(one).values())
    for each in (one, copy):
        assert all(np.array_equal(s.value, v) for s, v in zip(gn.states(each).values(), values, strict=True))
    """)


@pytest.mark.slow
def test_activations_are_laid_out_where_a_plan_is_active():
    """As its rules say; another plan is another trace, and a role without a rule is an error."""
    run("""
    scaled = gn.jit(lambda x: traces.append(1) or sharding.constrain(2 * x, "batch", None, "mlp"))
    for kind in KINDS:
        plan = plan_of(kind)
        other = sharding.plan(gn.eval_shape(build), plan.mesh, sharding.Rules(
            activations={"batch": "model"}, default=None))
        x = jnp.ones((8, 4, 8))
        traces.clear()
        with plan:
            assert scaled(x).sharding.spec == P("data", None, "model")
            scaled(x)
            assert len(traces) == 1
        with sharding.use(other):
            assert scaled(x).sharding.is_equivalent_to(jax.NamedSharding(plan.mesh, P("model")), 3)
        assert len(traces) == 2
        with plan:
            for roles, text in [
                (("batch", "batch_2"), "the role 'batch_2' has no rule in activations="),
                (("batch",), "expected a role, or None, for each of the 2 axes; found ('batch',)"),
                (("mlp", "heads"), "one mesh axis can split one axis of an array; ('mlp', 'heads') gives"),
            ]:
                try:
                    sharding.constrain(x[0], *roles)
                except ValueError as error:
                    assert str(error).startswith("gn.sharding.constrain: " + text), error
                else:
                    raise AssertionError(roles)
        assert scaled(x).shape == x.shape
    try:
        sharding.place(gn.nn.Linear(2, 2), plan)
    except ValueError as error:
        assert "gn.sharding.place: the plan is of another model: " in str(error)
        assert "\\n  weight: not in the plan\\n" in str(error)
    else:
        raise AssertionError("not refused")
    """)


@pytest.mark.slow
def test_blocks_that_are_scanned_are_trained_by_a_plan():
    """Their new axis has a role: whole, it is what scan runs over; the losses are those of the loop on one device."""
    run("""
    RULES = sharding.Rules(
        params={**dict(RULES.params), "layers": None}, activations=RULES.activations, default=None
    )

    def make(scan):
        blocks = [
            gn.nn.TransformerBlock(8, 2, is_causal=True, norm="RMSNorm", rotary_base=100.0) for _ in range(2)
        ]
        stack = gn.nn.TransformerStack(blocks, scan=scan, remat=scan)
        model = Language(gn.nn.Embedding(16, 8), stack)
        return [model, gn.optim.Optimizer(model, optax.adam(1e-2))]

    with gn.random.scope(KEY):
        looped = make(False)
    expected = [float(step(looped, TOKENS)) for _ in range(3)]
    for kind in KINDS:
        plan = sharding.plan(gn.eval_shape(lambda: make(True)), mesh_of(kind), RULES)
        both = sharding.init(lambda: make(True), KEY, plan)
        weight = gn.states(both)["0.block.blocks.attention.query.weight"].value
        assert weight.shape == (2, 8, 8) and weight.sharding.spec == P(None, "data", "model"), weight.sharding
        with plan:
            tokens = jax.device_put(TOKENS, jax.NamedSharding(plan.mesh, P("data")))
            losses = [float(step(both, tokens)) for _ in range(3)]
        assert np.allclose(losses, expected, rtol=1e-4), (kind, losses, expected)
        assert is_in_place(both, plan)
    """)
