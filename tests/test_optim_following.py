"""`Optimizer.following`: the memory follows a model that is changed, State by State."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphnode as gn
from graphnode import nn
from graphnode.optim import Optimizer


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
    """The transformations compute with integer counts, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


class Residual(nn.Layer):
    inner: nn.Layer

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.inner(x)


def model_and_optimizer(tx: Any, **options: Any) -> tuple[nn.Sequential, Optimizer]:
    """A model after one step, so that no memory is what it was at first."""
    model = nn.Sequential([nn.Linear(2, 2), nn.Linear(2, 2)])
    optimizer = Optimizer(model, tx, **options)
    step(model, optimizer)
    return model, optimizer


def step(model: nn.Sequential, optimizer: Optimizer) -> None:
    optimizer.update(model, jax.tree.map(jnp.ones_like, gn.treefy_states(model, optimizer.wrt)))


def memory(optimizer: Optimizer) -> dict[str, Any]:
    """What is remembered, by path."""
    return {gn.path_str(path): state for path, state in gn.states(optimizer).items()}


def test_states_keep_their_memory_wherever_they_stand_now():
    """The very States of the memory, at new paths; counts and steps go on."""
    model, optimizer = model_and_optimizer(optax.adam(0.1))
    before = memory(optimizer)
    with optimizer.following(model):
        gn.select(model, nn.Linear).at("layers.0").replace(Residual)
    after = memory(optimizer)
    assert after["memory.0.mu.layers.0.inner.weight"] is before["memory.0.mu.layers.0.weight"]
    assert after["memory.0.nu.layers.1.bias"] is before["memory.0.nu.layers.1.bias"]
    assert after["memory.0.count"] is before["memory.0.count"]
    assert len(after) == len(before)
    step(model, optimizer)
    assert int(optimizer.steps.value) == 2
    assert int(optimizer.memory[0]["count"].value) == 2


def test_new_states_get_memory_as_at_construction_and_that_of_gone_ones_is_dropped():
    """An adapter is new; a bias that is gone leaves nothing behind."""
    model, optimizer = model_and_optimizer(optax.adam(0.1))
    before = memory(optimizer)
    with optimizer.following(model):
        gn.select(model, nn.Linear).set(bias=None)
        gn.select(model, nn.Linear).at("layers.0").replace(lambda layer: nn.LoRALinear.of(layer, 1))
    after = memory(optimizer)
    assert after["memory.0.mu.layers.0.weight"] is before["memory.0.mu.layers.0.weight"]
    assert not after["memory.0.mu.layers.0.lora_a"].value.any()
    assert not [path for path in after if path.endswith("bias")]
    step(model, optimizer)


def test_a_new_state_at_an_old_path_does_not_take_over_the_memory():
    """States are known by their identity, not by where they stand."""
    model, optimizer = model_and_optimizer(optax.sgd(0.1, momentum=0.9))
    with optimizer.following(model):
        gn.select(model, nn.Linear).at("layers.0").replace(lambda _: nn.Linear(2, 2))
    assert not optimizer.memory[0]["trace"]["layers"][0]["weight"].value.any()
    assert optimizer.memory[0]["trace"]["layers"][1]["weight"].value.all()


def test_a_followed_model_goes_on_as_if_nothing_had_changed():
    """The steps after a change of structure alone are those without it."""
    model, optimizer = model_and_optimizer(optax.adam(0.1))
    twin, other = gn.clone((model, optimizer))
    with optimizer.following(model):
        gn.select(model, nn.Linear).replace(lambda layer: nn.Sequential([layer]))
    step(model, optimizer)
    step(twin, other)
    pairs = zip(gn.states(model).values(), gn.states(twin).values(), strict=True)
    assert all(np.array_equal(one.value, another.value) for one, another in pairs)


def test_groups_follow_by_their_filters():
    """What is new goes into the group whose filter selects it; the others keep their memory."""
    tx = {gn.Under("layers.0"): optax.sgd(0.1, momentum=0.9), ...: optax.adam(0.1)}
    model, optimizer = model_and_optimizer(tx)
    before = memory(optimizer)
    with optimizer.following(model):
        gn.select(model, nn.Linear).replace(lambda layer: nn.LoRALinear.of(layer, 1))
    after = memory(optimizer)
    assert all(after[path] is state for path, state in before.items())
    assert len(after) == len(before) + 2 + 4
    step(model, optimizer)


def test_a_state_that_would_lose_its_memory_to_another_group_is_refused():
    """Each group has a memory of its own, and that of the other would be dropped."""
    tx = {gn.Under("layers.0"): optax.sgd(0.1, momentum=0.9), ...: optax.sgd(0.2, momentum=0.9)}
    model, optimizer = model_and_optimizer(tx)
    before = gn.graphdef(optimizer)

    def drop_first() -> None:
        with optimizer.following(model):
            del model.layers[0]

    assert raises(gn.UpdateError, drop_first).startswith(
        "the memory of the optimizer cannot follow the model: 2 faults:\n"
        '  layers.0.bias has its memory in memory.inner_states."1".inner_state.0.trace, '
        'and would have it in memory.inner_states."0".inner_state.0.trace\n'
    )
    assert gn.graphdef(optimizer) is before


def test_one_array_for_all_states_follows_no_change_of_these():
    """Nobody knows which of its entries belong to which State."""
    model, optimizer = model_and_optimizer(optax.flatten(optax.sgd(0.1, momentum=0.9)))
    before = gn.graphdef(optimizer)

    def swap() -> None:
        with optimizer.following(model):
            model.layers.reverse()

    text = (
        "the memory of the optimizer cannot follow the model: memory.0.trace holds float32[12] of all States "
        "together, which are others now, or in another order; make a new Optimizer"
    )
    assert raises(gn.UpdateError, swap) == text
    model.layers.reverse()
    assert gn.graphdef(optimizer) is before

    def exchange() -> None:
        with optimizer.following(model):
            gn.select(model).at("layers.0").replace(lambda _: nn.Linear(2, 2))

    assert raises(gn.UpdateError, exchange) == text


def test_one_array_for_all_states_follows_where_these_stay_in_order():
    """Wherever they stand, its entries are theirs."""
    model, optimizer = model_and_optimizer(optax.flatten(optax.sgd(0.1, momentum=0.9)))
    before = optimizer.memory[0]["trace"]
    with optimizer.following(model):
        gn.select(model, nn.Linear).replace(lambda layer: nn.Sequential([layer]))
    assert optimizer.memory[0]["trace"] is before
    step(model, optimizer)


def test_a_key_of_a_transformation_is_of_no_state():
    """The key of noise goes on, whatever the States are."""
    model, optimizer = model_and_optimizer(optax.add_noise(0.1, 0.5, 0))
    with optimizer.following(model):
        gn.select(model).at("layers.0").replace(lambda _: nn.Linear(2, 2))
    step(model, optimizer)


def test_an_optimizer_of_adapters_alone_remembers_nothing_else():
    """Norms, embeddings and biases are not trained without a word."""
    model = nn.Sequential([nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)])
    gn.select(model, nn.Linear).exactly(2).replace(lambda layer: nn.LoRALinear.of(layer, 1))
    optimizer = Optimizer(model, optax.adam(0.1), wrt=nn.LoRAState)
    before = {path: state.value for path, state in gn.states(model).items()}
    step(model, optimizer)
    moved = [path for path, state in gn.states(model).items() if state.value is not before[path]]
    assert [path[-1] for path in moved] == ["lora_a", "lora_b"] * 2


def raises(error: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def test_without_following_a_changed_model_is_refused():
    """The message says what to do."""
    model, optimizer = model_and_optimizer(optax.adam(0.1))
    gn.select(model, nn.Linear).at("layers.0").replace(lambda layer: nn.LoRALinear.of(layer, 1))
    assert raises(gn.UpdateError, lambda: step(model, optimizer)) == (
        "cannot update Sequential: the optimizer was made for other States: 2 faults:\n"
        "  layers.0.lora_a: expected nothing, found LoRAState\n"
        "  layers.0.lora_b: expected nothing, found LoRAState; "
        "change a model inside of `with optimizer.following(model):`"
    )
    assert "was made for other States" in raises(gn.UpdateError, lambda: optimizer.following(model).__enter__())


def test_an_optimizer_that_cannot_follow_stays_as_it_is():
    """When the block raises, when nothing is left to optimize, and when what stays has another shape."""
    model, optimizer = model_and_optimizer(optax.adam(0.1), wrt=gn.PathContains("bias"))
    before = gn.graphdef(optimizer)

    def fail() -> None:
        with optimizer.following(model):
            raise KeyError("x")

    def remove() -> None:
        with optimizer.following(model):
            gn.select(model, nn.Linear).set(bias=None)

    def stack() -> None:
        with optimizer.following(model):
            gn.broadcast_states(model, gn.ParamState, 3)

    assert raises(KeyError, fail) == "'x'"
    assert raises(gn.FilterError, remove).startswith("no State has 'bias' in its path")
    assert gn.graphdef(optimizer) is before
    model, optimizer = model_and_optimizer(optax.sgd(0.1, momentum=0.9))
    assert raises(gn.UpdateError, stack) == (
        "the memory of the optimizer cannot follow the model: 4 faults:\n"
        "  memory.0.trace.layers.0.bias holds float32[2], and would be float32[3,2]\n"
        "  memory.0.trace.layers.0.weight holds float32[2,2], and would be float32[3,2,2]\n"
        "  memory.0.trace.layers.1.bias holds float32[2], and would be float32[3,2]\n"
        "  memory.0.trace.layers.1.weight holds float32[2,2], and would be float32[3,2,2]; make a new Optimizer"
    )


def test_a_constant_of_a_transformation_stays():
    """Such as the coefficients of muon: an array that would be made just the same, whatever the States are."""
    model, optimizer = model_and_optimizer(optax.contrib.muon(0.1))
    (path,) = [path for path in memory(optimizer) if path.endswith("ns_coeffs")]
    before = memory(optimizer)
    with optimizer.following(model):
        gn.select(model, nn.Linear).at("layers.0").replace(lambda linear: nn.LoRALinear.of(linear, 1))
    after = memory(optimizer)
    assert after[path] is before[path]
    assert after["memory.inner_states.muon.inner_state.0.mu.layers.0.weight"].value.any()
    step(model, optimizer)


@pytest.mark.parametrize(
    ("next_sums", "stays"), [(lambda sums: sums, True), (jnp.negative, False), (lambda sums: sums + 1, False)]
)
def test_an_array_of_all_states_stays_only_as_it_is_made(next_sums: Callable[[Any], Any], stays: bool):
    """To the bit, as zero has two: what has learned something of the States before is refused."""

    def init(params: Any) -> Any:
        return {"sums": jnp.zeros(2), "key": jax.random.key(0)}

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return updates, {**state, "sums": next_sums(state["sums"])}

    model, optimizer = model_and_optimizer(optax.GradientTransformation(init, update))

    def change() -> None:
        with optimizer.following(model):
            gn.select(model, nn.Linear).at("layers.0").replace(lambda _: nn.Linear(2, 2))

    if stays:
        change()
        step(model, optimizer)
        return
    assert raises(gn.UpdateError, change) == (
        "the memory of the optimizer cannot follow the model: memory.sums holds float32[2] of all States together, "
        "which are others now, or in another order; make a new Optimizer"
    )


def test_weights_that_are_made_again_keep_their_memory():
    """They are the same States: other values only."""
    model, optimizer = model_and_optimizer(optax.adam(0.1))
    before = memory(optimizer)["memory.0.mu.layers.0.weight"]
    momentum = np.asarray(before.value)
    with optimizer.following(model):
        gn.select(model, nn.Linear).reinit(0)
    after = memory(optimizer)["memory.0.mu.layers.0.weight"]
    assert after is before
    assert after.value.any()
    np.testing.assert_array_equal(after.value, momentum)
