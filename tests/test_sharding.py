"""Roles of axes, rules, and plans: all of it without a device but the one that runs the tests."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from click.testing import CliRunner
from jax.sharding import AbstractMesh
from jaxtyping import Array, Float

import graphnode as gn
from graphnode.__main__ import main
from graphnode._roles import roles_in
from graphnode.sharding import PlanError, Rules, _use, plan

P = jax.P
ones = jax.nn.initializers.ones
MESH = AbstractMesh((4, 2), ("data", "model"))


class Net(gn.Node):
    """Axes with a label, with a name, with neither, and a whole description of their own."""

    width: int = 8
    kernel: tuple[int, ...] = (3, 3)
    labelled: gn.ParamState[Float[Array, "embed=width mlp=4*width"]] = gn.state(ones)
    named: gn.ParamState[Float[Array, "width 8"]] = gn.state(ones)
    window: gn.ParamState[Float[Array, "*window=kernel embed=width"]] = gn.state(ones)
    said: gn.ParamState[Float[Array, "width width"]] = gn.state(ones, sharding=("a", None))
    scale: gn.ParamState[Float[Array, ""]] = gn.state(ones)


def roles(model: Any) -> dict[str, Any]:
    return {gn.path_str(path): row for path, row in zip(gn.states(model), roles_in(model), strict=True)}


def specs(model: Any, rules: Rules) -> dict[str, Any]:
    return {gn.path_str(row.path): tuple(row.spec) for row in plan(model, MESH, rules).rows}


def faults(model: Any, rules: Rules) -> list[str]:
    with pytest.raises(PlanError) as caught:
        plan(model, MESH, rules)
    return list(caught.value.faults)


# Roles


def test_an_annotation_says_the_roles():
    """A label, else an axis that is one name; a run of axes has one role, and a tuple of names is the last word."""
    assert roles(Net()) == {
        "labelled": ("embed", "mlp"),
        "named": ("width", None),
        "said": ("a", None),
        "scale": (),
        "window": ("window", "window", "embed"),
    }


def test_a_label_is_no_part_of_the_contract():
    """Messages, and what pickles compare, are as without it."""
    with pytest.raises(gn.ContractError) as caught:
        Net().labelled.value = jnp.ones((8, 8))
    text = 'Net.labelled: expected 4*width = 32 of Float[Array, "width 4*width"], found shape (8, 8)'
    assert str(caught.value) == text


def test_stacked_axes_have_the_names_that_were_given():
    """At their positions."""
    layers = gn.stack([gn.nn.Linear(2, 3) for _ in range(4)], axis=1, name="layers")
    assert roles(layers) == {"bias": ("out", "layers"), "weight": ("in", "layers", "out")}


def test_composite_layers_say_what_the_axes_of_their_parts_are():
    """Also of a part that was replaced; the roles that a `Linear` is given are the last word."""
    block = gn.nn.TransformerBlock(8, 2)
    assert isinstance(block.attention, gn.nn.MultiHeadAttention)
    block.attention.out = gn.nn.Linear(8, 8)
    block.attention.key = gn.nn.Linear(8, 8, axes=("a", "b"))
    found = roles(block)
    assert found["attention.query.weight"] == ("embed", "heads")
    assert found["attention.key.weight"] == ("a", "b")
    assert found["attention.out.weight"] == ("heads", "embed")
    assert found["mlp.layers.0.weight"] == ("embed", "mlp")
    assert found["mlp.layers.1.weight"] == ("mlp", "embed")
    assert found["mlp_norm.scale"] == ("embed",)
    mlp = roles(gn.nn.MLP(2, 4, 3, depth=2))
    assert [mlp[f"layers.{at}.weight"] for at in range(3)] == [("in", "mlp"), ("mlp_in", "mlp"), ("mlp", "out")]


def test_files_say_the_roles_of_a_linear_map():
    """And a config has them again; other values are refused."""
    config = gn.config.loads("{in_size: 2, out_size: 3, axes: [embed, mlp]}", gn.nn.Linear)
    layer = gn.config.build(config)
    assert layer.axes == ("embed", "mlp")
    assert roles(layer) == {"bias": ("mlp",), "weight": ("embed", "mlp")}
    assert gn.config.to_config(layer).axes == ("embed", "mlp")
    wrong: Any = ("embed", "")
    with pytest.raises(gn.ContractError, match=r"^Linear\.axes: expected a tuple of 2 roles, which are names; found "):
        gn.nn.Linear(2, 3, axes=wrong)


# Rules


def test_path_class_and_role_are_asked_in_this_order():
    """And a State's own `jax.P` before all of them."""
    first = gn.nn.Linear(8, 8)
    model = [first, gn.nn.Embedding(8, 8), Net()]
    first.bias = gn.ParamState(jnp.ones(8), sharding=P("model"))
    rules = Rules(
        params={
            "in": "data",
            "out": None,
            "embed": "data",
            "vocab": ("data", "model"),
            gn.nn.Embedding: {"embed": None},
            gn.PathIn("2.labelled"): {"embed": "model"},
            gn.PathIn("2.window"): P(None, None, "model"),
        },
        default=None,
    )
    assert specs(model, rules) == {
        "0.bias": ("model",),
        "0.weight": ("data", None),
        "1.weight": (("data", "model"), None),
        "2.labelled": ("model", None),
        "2.named": (None, None),
        "2.said": (None, None),
        "2.scale": (),
        "2.window": (None, None, "model"),
    }


def test_an_optimizer_follows_its_model_or_has_rules_of_its_own():
    """What these do not say is as for the model; they may wait for an optimizer."""
    model = gn.nn.Linear(8, 8)
    rules = Rules(params={"in": None, "out": "model"}, states={gn.optim.OptimizerState: {"in": "data"}})
    assert specs(model, rules)["weight"] == (None, "model")
    found = specs([model, gn.optim.Optimizer(model, optax.adam(0.1))], rules)
    assert found["0.weight"] == (None, "model")
    assert found["1.memory.0.mu.weight"] == ("data", "model")
    assert found["1.memory.0.count"] == ()
    found = specs([gn.optim.Optimizer([model, model], optax.adam(0.1)), [model, model]], rules)
    assert found["0.memory.0.mu.0.weight"] == ("data", "model")
    alone = gn.optim.Optimizer(model, optax.adam(0.1))
    assert faults(alone, Rules()) == [
        "axes without a role, in memory.0.mu.bias, memory.0.mu.weight, memory.0.nu.bias and 1 more: "
        "name them in the annotation, give jax.P(...), or default=None"
    ]


def test_all_faults_at_once():
    """Mesh axes that are not there or stand twice, sizes, rules without a State, axes without a rule."""
    model = gn.nn.TransformerBlock(6, 2)
    rules = Rules(
        params={"embed": "data", "heads": "dta", "mlp": "data", "kv_head": None}, activations={"batch": "dat"}
    )
    found = faults(model, rules)
    assert found[:4] == [
        "attention.key.weight: axis 0 (embed) of size 6 is not divided by data=4; 4 and 8 are",
        "attention.out.bias: axis 0 (embed) of size 6 is not divided by data=4; 4 and 8 are",
        "attention.out.weight: axis 1 (embed) of size 6 is not divided by data=4; 4 and 8 are",
        "attention.query.weight: axis 0 (embed) of size 6 is not divided by data=4; 4 and 8 are",
    ]
    assert found[-5:-1] == [
        "mlp_norm.scale: axis 0 (embed) of size 6 is not divided by data=4; 4 and 8 are",
        "params['heads']: the mesh has no axis 'dta', only 'data', 'model'",
        "activations['batch']: the mesh has no axis 'dat', only 'data', 'model'",
        "params['kv_head'] matches nothing: no axis has this role; did you mean 'kv_heads'?",
    ]
    assert found[-1] == (
        "the role 'kv_heads' has no rule, in attention.key.bias, attention.key.weight, attention.value.bias "
        "and 1 more: add one to params, or default=None"
    )
    assert "mlp.layers.0.weight: the mesh axis 'data' splits axis 0 and axis 1; it can split one" in found


def test_axes_without_a_role_need_an_answer_too():
    """All of them in one fault."""
    assert faults(Net(), Rules(params={"embed": None, "mlp": None, "width": None, "window": None, "a": None})) == [
        "axes without a role, in named, said: name them in the annotation, give jax.P(...), or default=None"
    ]


def test_rules_that_match_nothing():
    """A path, a class, and a role within one."""
    model = gn.nn.Linear(8, 8)
    rules = Rules(
        params={gn.PathIn("weigth"): {}, gn.nn.Conv: {}, gn.nn.Linear: {"inn": None}},
        default=None,
    )
    found = faults(model, rules)
    assert found[0].startswith("params[PathIn('weigth')] matches nothing: no State is at 'weigth'")
    assert found[1:] == [
        "params[Conv] matches nothing: no State is of it",
        "params[Linear]['inn'] matches nothing; did you mean 'in'?",
    ]


def test_what_cannot_be_a_rule_is_refused():
    """All at once."""
    wrong: Any = {3: "data", "embed": 4, gn.nn.Linear: "data"}
    with pytest.raises(TypeError) as caught:
        Rules(params=wrong, default="data")
    assert str(caught.value) == (
        "gn.sharding.Rules: 4 faults:\n"
        "  params[3]: expected a role, gn.PathIn, gn.Under or a class\n"
        "  params['embed']: expected a mesh axis, a tuple of them or None; found 4\n"
        f"  params[{gn.nn.Linear!r}]: expected a mapping from roles, or jax.P(...); found 'data'\n"
        "  default: expected None; found 'data'"
    )


# Plans


def test_a_plan_is_a_table():
    """It prints without a device."""
    made = plan(gn.eval_shape(lambda: gn.nn.Linear(8, 6)), MESH, Rules(params={"in": "data"}, default=None))
    assert repr(made).splitlines() == [
        "path    shape          roles    spec             bytes per device",
        "-----------------------------------------------------------------------------",
        "bias    float32[6]     out      P(None)                        24  replicated",
        "weight  float32[8, 6]  in, out  P('data', None)                48",
        "-----------------------------------------------------------------------------",
        "mesh data=4, model=2: 72 bytes per device",
    ]
    with pytest.raises(ValueError, match="abstract mesh, which has no devices"):
        made.__enter__()


@pytest.mark.slow
def test_a_plan_of_ten_thousand_states_takes_a_second():
    """Twice as much is allowed here, where other work may run."""
    model = gn.eval_shape(lambda: [gn.nn.Linear(8, 8) for _ in range(5000)])
    rules = Rules(params={"in": "data", "out": "model"})
    start = time.perf_counter()
    assert len(plan(model, MESH, rules).rows) == 10_000
    assert time.perf_counter() - start < 2


class PlannedLinear(gn.nn.Linear):
    """Of a name that no other test has."""


def test_the_command_prints_a_plan(tmp_path: Any):
    """Of a file and a mesh; faults are printed, and end it with 1."""
    file = tmp_path / "model.yaml"
    file.write_text("{type: PlannedLinear, in_size: 8, out_size: 6}\n")
    run = CliRunner().invoke(main, ["sharding", "show", str(file), "--mesh", "data=4,model=2", "-r", "in=data+model"])
    assert run.exit_code == 0, run.output
    assert "weight  float32[8, 6]  in, out  P(('data', 'model'), None)" in run.output
    run = CliRunner().invoke(main, ["sharding", "show", str(file), "--mesh", "data=4,model=2", "-r", "out=data"])
    assert run.exit_code == 1
    assert "bias: axis 0 (out) of size 6 is not divided by data=4; 4 and 8 are" in run.output
    run = CliRunner().invoke(main, ["sharding", "show", str(file), "--mesh", "data"])
    assert run.exit_code == 2


def test_nothing_is_traced_without_a_plan():
    """`constrain` gives back its argument, and layers trace what they did."""
    x = jnp.ones((2, 3, 8))
    assert gn.sharding.constrain(x, "batch", "length", "embed") is x
    block = gn.nn.TransformerBlock(8, 2)
    assert "sharding_constraint" not in str(gn.make_jaxpr(lambda block, x: block(x))(block, x))


def test_a_large_model_is_made_in_parts_of_the_same_values(monkeypatch: pytest.MonkeyPatch):
    """A program for each part of the bytes: XLA makes the random numbers of one program side by side."""

    def build() -> list[gn.nn.Linear]:
        return [gn.nn.Linear(4, 4) for _ in range(3)]

    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    layout = plan(gn.eval_shape(build), mesh, Rules(params={"in": "data"}, default=None))
    whole = gn.sharding.init(build, jax.random.key(0), layout)
    # In layout order, biases of 16 bytes and weights of 64
    assert _use._parts([16, 64, 16, 64, 16, 64]) == [slice(0, 6)]
    monkeypatch.setattr(_use, "_LEAST_PART", 80)
    assert _use._parts([16, 64, 16, 64, 16, 64]) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert _use._parts([100, 1, 100]) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    parts = gn.sharding.init(build, jax.random.key(0), layout)
    for path, state in gn.states(whole).items():
        value = gn.states(parts)[path].value
        assert value.tolist() == state.value.tolist()
        assert value.sharding == state.value.sharding


WRONG_ARGUMENTS: dict[str, tuple[Any, str]] = {
    "rules": (
        lambda untyped: untyped.plan(Net(), MESH, {"in": "d"}),
        "gn.sharding.plan takes gn.sharding.Rules third, such as Rules(params={'in': 'data'}, default=None); found "
        "dict {'in': 'd'}",
    ),
    "mesh": (
        lambda untyped: untyped.plan(Net(), (4, 2), Rules(default=None)),
        "gn.sharding.plan takes a mesh second, such as that of jax.make_mesh; found tuple (4, 2)",
    ),
    **{
        name: (
            lambda untyped, name=name: getattr(untyped, name)(Net(), "d"),
            f"gn.sharding.{name} takes a plan of gn.sharding.plan; found str 'd'",
        )
        for name in ("place", "gather", "abstract")
    },
    "init": (
        lambda untyped: untyped.init(Net, jax.random.key(0), "d"),
        "gn.sharding.init takes a plan of gn.sharding.plan; found str 'd'",
    ),
    "use": (
        lambda untyped: untyped.use("d").__enter__(),
        "gn.sharding.use takes a plan of gn.sharding.plan; found str 'd'",
    ),
    "params": (
        lambda untyped: untyped.Rules(params=3),
        "gn.sharding.Rules takes a mapping of rules as params; found int 3",
    ),
}


@pytest.mark.wrong_types
@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_what_is_neither_mesh_nor_rules_nor_plan_is_told(name: str):
    """With the function, what it takes and what was found."""
    call, text = WRONG_ARGUMENTS[name]
    with pytest.raises(TypeError) as caught:
        call(gn.sharding)
    assert str(caught.value) == text
