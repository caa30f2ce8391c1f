"""`LoRALinear`, `WeightNormLinear` and `SpectralNormLinear`: layers that take the place of a `Linear`, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn.peers import drawn, numbers

ADAPTERS: dict[str, Callable[[nn.Linear], Any]] = {
    "LoRALinear": lambda linear: nn.LoRALinear.of(linear, 2),
    "WeightNormLinear": nn.WeightNormLinear.of,
    "SpectralNormLinear": lambda linear: nn.SpectralNormLinear.of(linear, deterministic=True),
}
X = numbers(5, 3)


def linear(**options: Any) -> nn.Linear:
    return nn.Linear(3, 4, w_init=drawn, b_init=drawn, **options)


def trained(layer: Any) -> Any:
    """The layer with other values in what it adds to a `Linear`."""
    for path, state in gn.states(layer).items():
        if path[-1] in ("lora_a", "lora_b", "scale"):
            state.value = state.value + numbers(*state.value.shape).astype(state.value.dtype)
    return layer


def message(call: Callable[[], object], error: type[Exception] = gn.ContractError) -> str:
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


# Taking over


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_states_of_the_linear_map_are_taken_over(name: str):
    """The very States, at the same paths, and all of its fields; the map itself stays as it is."""
    options: dict[str, Any] = {"dtype": jnp.float32, "precision": "highest", "axes": ("embed", "mlp")}
    before = linear(param_dtype=jnp.bfloat16, **options)
    graphdef = gn.graphdef(before)
    layer = ADAPTERS[name](before)
    assert isinstance(layer, nn.Linear)
    assert type(layer).__name__ == name
    assert layer.weight is before.weight
    assert layer.bias is before.bias
    assert {key: getattr(layer, key) for key in options} == {key: getattr(before, key) for key in options}
    assert gn.graphdef(before) is graphdef
    assert ADAPTERS[name](linear(use_bias=False)).bias is None


@pytest.mark.parametrize("name", ["LoRALinear", "WeightNormLinear"])
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16], ids=str)
def test_an_adapted_layer_maps_at_first_as_before(name: str, dtype: Any):
    """Exactly: what is added is zero, or what is divided by is multiplied with."""
    before = linear(dtype=dtype)
    assert np.array_equal(ADAPTERS[name](before)(X), before(X))


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_folded_layer_holds_the_same_states_and_maps_alike(name: str):
    """A plain `Linear`, with the weight written into the State that was there; nothing is drawn."""
    layer = trained(ADAPTERS[name](linear()))
    expected = layer(X)
    with gn.random.scope(0):
        plain = layer.fold()
        drawn_next = gn.random.split_key()
    with gn.random.scope(0):
        assert gn.random.split_key() == drawn_next
    assert type(plain) is nn.Linear
    assert plain.weight is layer.weight
    assert plain.bias is layer.bias
    np.testing.assert_allclose(plain(X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(X), expected, rtol=1e-5, atol=1e-6)  # as a replacement may yet be refused


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_extends_linear_is_not_taken_over(name: str):
    """Its own call would be lost without a word."""

    class Doubled(nn.Linear):
        def __call__(self, x: jax.Array) -> jax.Array:
            return 2 * super().__call__(x)

    text = f"{name}.of: expected a Linear; found a"
    assert message(lambda: ADAPTERS[name](Doubled(2, 2))) == f"{text} Doubled: its own call would be lost"
    adapted = nn.WeightNormLinear.of(linear())
    assert message(lambda: ADAPTERS[name](adapted)) == f"{text} WeightNormLinear: fold it first"


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_stacked_layer_is_adapted_and_folded_under_vmap(name: str):
    """By itself it is refused, as it cannot be called; under `gn.vmap` its States stay, too."""
    stacked = gn.stack([linear(), linear(), linear()])
    assert message(lambda: ADAPTERS[name](stacked)).startswith("Linear is stacked: weight has the shape (3, 3, 4)")

    def adapt(layer: nn.Linear, key: jax.Array) -> Any:
        with gn.random.scope(key):
            return ADAPTERS[name](layer)

    adapted = gn.vmap(adapt)(stacked, jax.random.split(jax.random.key(0), 3))
    assert adapted.weight is stacked.weight
    folded = gn.vmap(lambda layer: layer.fold())(adapted)
    assert type(folded) is nn.Linear
    assert folded.weight is stacked.weight


def test_all_linear_maps_of_attention_are_replaced():
    """Query, key, value and output, wherever attention is; the model maps as before, and all of its States stay."""
    model = nn.Sequential([nn.TransformerBlock(4, 2)])
    call = gn.jit(lambda model, x: model(x))
    x = numbers(2, 3, 4)
    before, states = call(model, x), gn.states(model)
    gn.select(model, nn.Linear).under("**.attention").exactly(4).replace(lambda layer: nn.LoRALinear.of(layer, 2))
    assert len(gn.states(model, nn.LoRAState)) == 8
    np.testing.assert_allclose(call(model, x), before, rtol=1e-6)
    assert gn.states(model, gn.Not(nn.LoRAState)) == states


# Low rank


def test_scale_is_that_of_the_papers():
    """Of alpha and rank, or of the root of the rank."""
    assert nn.LoRALinear(2, 2, rank=4).scale == 1.0
    assert nn.LoRALinear(2, 2, rank=4, alpha=8.0).scale == 2.0
    assert nn.LoRALinear(2, 2, rank=4, alpha=8.0, rank_stabilized=True).scale == 4.0
    assert nn.LoRALinear(2, 2, rank=4, rank_stabilized=True).scale == 2.0


def test_an_adapter_has_a_dtype_of_its_own():
    """The weight may be kept in few digits, and the adapter trained in more; the fold is rounded once."""
    layer = trained(nn.LoRALinear.of(linear(param_dtype=jnp.bfloat16), 2, lora_dtype=jnp.float32))
    assert layer.lora_a.value.dtype == layer.delta().dtype == jnp.float32
    expected = (layer.weight.value.astype(jnp.float32) + layer.delta()).astype(jnp.bfloat16)
    assert np.array_equal(layer.fold().weight.value, expected)


def test_dropout_is_of_the_input_of_the_adapter_alone():
    """What the linear map gets is whole."""
    layer = trained(nn.LoRALinear.of(linear(), 2, dropout=nn.Dropout(1.0)))
    plain = linear()
    gn.update_states(plain, {"weight": layer.weight.value, "bias": layer.bias.value})
    assert np.array_equal(layer(X), plain(X))
    assert not np.array_equal(gn.view(layer, deterministic=True)(X), plain(X))


def test_training_the_adapters_moves_nothing_else():
    """Neither the weight nor the bias, nor a norm or an embedding."""
    model = nn.Sequential([linear(), nn.LayerNorm(4)])
    gn.select(model, nn.Linear).replace(lambda layer: trained(nn.LoRALinear.of(layer, 2)))
    optimizer = gn.optim.Optimizer(model, optax.sgd(0.1), wrt=nn.LoRAState)
    before = {path: state.value for path, state in gn.states(model).items()}
    target = numbers(5, 4)
    grads = gn.grad(lambda model: ((model(X) - target) ** 2).sum(), wrt=nn.LoRAState)(model)
    optimizer.update(model, grads)
    moved = {path[-1] for path, state in gn.states(model).items() if not np.array_equal(state.value, before[path])}
    assert moved == {"lora_a", "lora_b"}


def test_a_plan_answers_by_a_role_of_its_own():
    """The axis of the rank is called so; the others have the roles of the weight."""
    mesh = jax.sharding.AbstractMesh((2, 2), ("data", "model"))
    layer = gn.eval_shape(lambda: nn.LoRALinear(4, 4, rank=2, axes=("embed", "mlp")))
    rules = gn.sharding.Rules(params={"embed": "data", "mlp": "model", "rank": None})
    rows = {row.path[-1]: row for row in gn.sharding.plan(layer, mesh, rules).rows}
    assert (rows["lora_a"].roles, rows["lora_a"].spec) == (("embed", "rank"), jax.P("data", None))
    assert (rows["lora_b"].roles, rows["lora_b"].spec) == (("rank", "mlp"), jax.P(None, "model"))
    layer = gn.eval_shape(lambda: nn.LoRALinear(4, 4, rank=2))
    rows = {row.path[-1]: row for row in gn.sharding.plan(layer, mesh, gn.sharding.Rules(default=None)).rows}
    assert rows["lora_a"].roles == ("in", "rank")


# Files


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapted_model_goes_through_a_configuration(name: str):
    """Written and read again, it is the same structure."""
    model = nn.Sequential([ADAPTERS[name](linear()), linear()])
    text = gn.config.dump(gn.config.to_config(model))
    again = gn.eval_shape(lambda: gn.config.build(gn.config.loads(text, nn.Sequential)))
    assert gn.graphdef(again) is gn.graphdef(model)


def test_a_part_that_no_constructor_makes_is_named_by_a_configuration():
    """A file could not build it; a checkpoint keeps it."""
    model = nn.MLP(2, 3, 2)
    gn.select(model, nn.Linear).at("layers.1").replace(lambda layer: nn.LoRALinear.of(layer, 1))
    assert message(lambda: gn.config.to_config(model), gn.ConfigError) == (
        "MLP.layers.1: expected a Linear, as the constructor makes it; found a LoRALinear"
    )


def adapted_model() -> nn.MLP:
    model = nn.MLP(2, 3, 2)
    gn.select(model, nn.Linear).replace(lambda layer: nn.LoRALinear.of(layer, 1))
    return model


@pytest.mark.slow  # files of Orbax
def test_adapters_are_saved_and_loaded_alone(tmp_path: Path):
    """Beside another base model; what is missing is named."""
    model, other = adapted_model(), adapted_model()
    gn.select(model, nn.Linear).map(lambda value: value + 1, nn.LoRAState)
    adapters = gn.treefy_states(model, nn.LoRAState)
    gn.checkpoint.save(tmp_path / "adapters", adapters)
    weight = other.layers[0].weight.value
    gn.update_states(other, gn.checkpoint.restore(tmp_path / "adapters", gn.treefy_states(other, nn.LoRAState)))
    read, written = [gn.states(one)["layers.1.lora_b"].value for one in (other, model)]
    assert np.array_equal(read, written)
    assert other.layers[0].weight.value is weight
    gn.select(other, nn.LoRALinear).at("layers.0").replace(lambda layer: layer.fold())
    text = message(
        lambda: gn.checkpoint.restore(tmp_path / "adapters", gn.treefy_states(other, nn.LoRAState)),
        gn.CheckpointError,
    )
    assert "layers.0.lora_a" in text


@pytest.mark.slow
def test_a_checkpoint_of_the_plain_model_is_read_by_the_adapted_one(tmp_path: Path):
    """Where the paths alone count; in a checkpoint the classes are compared, and what may differ is named."""
    plain, model = nn.MLP(2, 3, 2), adapted_model()
    gn.checkpoint.write(plain, tmp_path / "model.safetensors")
    text = message(lambda: gn.checkpoint.read(tmp_path / "model.safetensors", into=model), gn.CheckpointError)
    assert "layers.0.lora_a: nothing is for it" in text
    gn.checkpoint.read(tmp_path / "model.safetensors", into=model, allow_missing=nn.LoRAState)
    assert np.array_equal(model.layers[0].weight.value, plain.layers[0].weight.value)
    gn.checkpoint.save(tmp_path / "plain", plain)
    other = adapted_model()
    gn.checkpoint.restore(tmp_path / "plain", other, allow_changed="layers.**", allow_missing=nn.LoRAState)
    assert np.array_equal(other.layers[1].weight.value, plain.layers[1].weight.value)


# Weight normalisation


def test_a_normalised_weight_has_the_lengths_of_scale():
    """Whatever the direction; one of zeros maps to zero, with finite gradients."""
    layer = nn.WeightNormLinear(3, 4, w_init=drawn)
    layer.scale.value = jnp.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(jnp.linalg.norm(layer.effective_weight(), axis=0), [1, 2, 3, 4], rtol=1e-6)
    layer.weight.value = layer.weight.value.at[:, 1].set(0)
    assert not layer.effective_weight()[:, 1].any()
    grads = gn.grad(lambda layer: (layer(X) ** 2).sum())(layer)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_a_mask_is_of_the_normalised_weight():
    """And stays one of the folded layer."""
    mask = jnp.array([[1.0, 0, 1, 1]] * 3)
    layer = trained(nn.WeightNormLinear.of(linear(w_mask=mask)))
    np.testing.assert_allclose(layer(X)[:, 1], jnp.broadcast_to(layer.bias.value[1], 5), rtol=1e-6)
    np.testing.assert_allclose(layer.fold()(X), layer(X), rtol=1e-5)


# Spectral normalisation


def test_the_largest_singular_value_becomes_one():
    """By NumPy's decomposition; the power iteration has converged after some calls."""
    layer = nn.SpectralNormLinear(3, 4, w_init=drawn, steps=20)
    layer(X)
    assert abs(np.linalg.norm(layer.effective_weight(), ord=2) - 1) < 1e-4


def test_only_a_call_in_training_moves_the_vector():
    """Neither a deterministic call, nor one of a view; and no gradient reaches it."""
    layer = nn.SpectralNormLinear(3, 4, w_init=drawn)
    layer.u.value = jnp.ones(4) / 2
    before = layer.u.value
    layer(X, deterministic=True)
    gn.view(layer, deterministic=True)(X)
    assert layer.u.value is before
    gn.jit(lambda layer: layer(X))(layer)
    assert not np.array_equal(layer.u.value, before)
    np.testing.assert_allclose(jnp.linalg.norm(layer.u.value), 1, rtol=1e-6)
    assert gn.states(layer, gn.ParamState).keys() == {("bias",), ("weight",)}


# Zeros, and what was assigned


def test_the_vector_of_a_spectral_norm_keeps_its_length():
    """A weight of zeros says nothing of its direction: it stays, and serves the weight that comes then."""
    layer = nn.SpectralNormLinear(2, 3, w_init=nn.initializers.zeros, use_bias=False)
    assert np.isclose(jnp.linalg.norm(layer.u.value), 1)
    before = layer.u.value
    assert not layer(jnp.ones(2)).any()
    assert np.array_equal(layer.u.value, before)
    for size in (1.0, 1e-14):
        layer.weight.value = jnp.full((2, 3), size)
        layer(jnp.ones(2))
        assert np.isclose(jnp.linalg.norm(layer.u.value), 1)
    layer.weight.value = jnp.ones((2, 3))
    assert np.allclose(jnp.linalg.norm(layer.effective_weight(), ord=2), 1)


def test_a_weight_norm_of_zeros_has_no_length():
    """It maps to zero, also later on; its gradients are finite."""
    layer = nn.WeightNormLinear.of(nn.Linear(2, 3, w_init=nn.initializers.zeros))
    assert not layer.scale.value.any()
    grads = gn.grad(lambda layer: (layer(jnp.ones(2)) ** 2).sum())(layer)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    layer = nn.WeightNormLinear(2, 3)
    layer.scale.value = jnp.array([0.0, 1.0, 2.0])
    before = layer(jnp.ones(2))
    layer.fold()
    assert np.allclose(layer.scale.value, [0, 1, 2])
    assert np.allclose(layer(jnp.ones(2)), before)
    grads = gn.grad(lambda layer: (layer(jnp.ones(2)) ** 2).sum())(layer)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_weight_norm_takes_no_keys_of_the_stream():
    """It draws nothing."""
    linear = nn.Linear(2, 3)
    with gn.random.scope(0):
        expected = gn.random.normal()
    with gn.random.scope(0):
        nn.WeightNormLinear.of(linear)
        assert gn.random.normal() == expected


def test_an_adapter_refuses_what_was_assigned_past_its_constructor():
    """A mask, which the product would not keep; an alpha that is not positive."""
    layer = nn.LoRALinear(2, 3, rank=1)
    gn.select(layer).set(alpha=-3.0)
    with pytest.raises(gn.ContractError, match=r"^LoRALinear.alpha: expected a positive number; found -3.0$"):
        layer(jnp.ones(2))
    gn.select(layer).set(alpha=None, w_mask=np.ones((2, 3), bool))
    for call in (lambda: layer(jnp.ones(2)), layer.delta, layer.fold):
        with pytest.raises(gn.ContractError, match=r"^LoRALinear.w_mask: expected no mask"):
            call()


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_abstract_layer_has_no_values_to_take_over(name: str):
    """Neither `of` nor `fold` can be worked out; inside of `gn.eval_shape` both can."""
    of = ADAPTERS[name]
    text = "is abstract: it has a shape, and no values; call of and fold in the function that gn.eval_shape is given"
    with pytest.raises(gn.ContractError, match=f"^Linear.weight {text}$"):
        of(gn.eval_shape(lambda: nn.Linear(2, 3)))
    adapted = gn.eval_shape(lambda: of(nn.Linear(2, 3)))
    with pytest.raises(gn.ContractError, match=f"^{type(adapted).__name__}.weight {text}$"):
        adapted.fold()
    assert type(gn.eval_shape(lambda: of(nn.Linear(2, 3)).fold())) is nn.Linear
