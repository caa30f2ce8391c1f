"""`gn.optim.Optimizer`: an optax transformation as a node, in step with plain optax."""

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Any, NamedTuple, assert_type

import jax
import jax.numpy as jnp
import optax
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode.optim import Optimizer, OptimizerState

from .properties.strategies import snapshot

# How a message ends where a model has changed.
FOLLOWING = "; change a model inside of `with optimizer.following(model):`"


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
    """The transformations compute with integer counts, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


class MLP(gn.Node):
    layers: list[gn.nn.Linear]
    scale: gn.ParamState
    count: gn.ShortTermState


class Trainer(gn.Node):
    model: MLP
    optimizer: Optimizer


class Tied(gn.Node):
    encoder: gn.nn.Linear
    decoder: gn.nn.Linear


class Pair(gn.Node):
    both: gn.ParamState[dict[str, Array]]


def pair() -> Pair:
    """A node whose State holds two arrays."""
    return Pair(gn.ParamState({"weight": jnp.ones((2, 3)), "bias": jnp.ones(3)}))


def mlp() -> MLP:
    with gn.random.scope(0):
        layers = [gn.nn.Linear(2, 3), gn.nn.Linear(3, 2)]
        scale = gn.ParamState(gn.random.randn(2, 2), tag="outer", metadata={"unit": "mV"}, sharding=("rows", None))
        return MLP(layers, scale, gn.ShortTermState(jnp.zeros(())))


def ones(node: object, *only: gn.Filter | EllipsisType) -> gn.StateTree:
    made: gn.StateTree = jax.tree.map(jnp.ones_like, gn.treefy_states(node, gn.Any(*only or (gn.ParamState,))))
    return made


def memory_paths(optimizer: Optimizer) -> list[str]:
    paths = map(gn.path_str, gn.states(optimizer, OptimizerState))
    return [path.removeprefix("memory.") for path in paths if path != "steps"]


def leaves(tree: Any) -> list[Any]:
    return [leaf.tolist() for leaf in jax.tree.leaves(tree)]


# In step with optax


def by_rank(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: "matrix" if leaf.ndim == 2 else "vector", tree)


def is_matrix(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim == 2, tree)


def square_sum(tree: Any) -> jax.Array:
    return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)), jnp.zeros(()))


schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 5)
adam = optax.adam(0.01)

TRANSFORMATIONS: dict[str, Any] = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": adam,
    "adamw with a schedule": optax.adamw(schedule),
    "lion": optax.lion(0.01),
    "rmsprop": optax.rmsprop(0.01, centered=True, momentum=0.9),
    "adafactor": optax.adafactor(0.01, min_dim_size_to_factor=2, momentum=0.9),
    "not chained": optax.scale_by_adam(),
    "clipped": optax.chain(optax.clip_by_global_norm(0.5), adam),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=schedule, b1=0.8),
    "several": optax.multi_transform({"matrix": adam, "vector": optax.sgd(0.1, momentum=0.9)}, by_rank),
    "masked": optax.masked(adam, is_matrix),
    "in two steps": optax.MultiSteps(adam, 2).gradient_transformation(),
    "skipping": optax.apply_if_finite(adam, 2),
    "plateau": optax.chain(adam, optax.contrib.reduce_on_plateau(patience=1)),
    "line search": optax.lbfgs(),
    "schedule free": optax.contrib.schedule_free_adamw(0.01),
    "prodigy": optax.contrib.prodigy(),
    "muon": optax.contrib.muon(0.01),
}
EXTRAS: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "plateau": lambda params, grads: {"value": square_sum(params)},
    "line search": lambda params, grads: {"value": square_sum(params), "grad": grads, "value_fn": square_sum},
}


MARKS = {name: pytest.mark.slow for name in ("line search", "muon", "adafactor", "schedule free", "prodigy")}


def assert_same(model: MLP, optimizer: Optimizer, params: Any, memory: Any) -> None:
    """Parameters in order; what is remembered in any order, since optax sorts no fields."""
    assert leaves(gn.treefy_states(model, gn.ParamState)) == leaves(params)
    remembered = leaves(gn.treefy_states(optimizer, gn.PathContains("memory", missing_ok=True)))
    assert sorted(map(str, remembered)) == sorted(map(str, leaves(memory)))
    assert int(optimizer.steps.value) == 4


def gradient(params: Any) -> Any:
    return jax.grad(square_sum)(params)


def plain_step(name: str, params: Any, memory: Any) -> tuple[Any, Any]:
    tx, grads = TRANSFORMATIONS[name], gradient(params)
    updates, memory = tx.update(grads, memory, params, **EXTRAS.get(name, lambda *_: {})(params, grads))
    return optax.apply_updates(params, updates), memory


def node_step(name: str, model: MLP, optimizer: Optimizer) -> None:
    params = gn.treefy_states(model, gn.ParamState)
    grads = gradient(params)
    optimizer.update(model, grads, **EXTRAS.get(name, lambda *_: {})(params, grads))


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_eager_steps_are_those_of_optax(name: str):
    """The parameters and all that is remembered are, to the last bit, those of plain optax on nested dicts."""
    model = mlp()
    params = gn.treefy_states(model, gn.ParamState).to_dict()
    memory = TRANSFORMATIONS[name].init(params)
    optimizer = Optimizer(model, TRANSFORMATIONS[name])
    for _ in range(4):
        params, memory = plain_step(name, params, memory)
        node_step(name, model, optimizer)
    assert_same(model, optimizer, params, memory)


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in TRANSFORMATIONS])
def test_compiled_steps_are_those_of_optax(name: str):
    """So they are inside of `jax.jit`, on merged copies of both, with as many compilations as plain optax needs."""
    model = mlp()
    params = gn.treefy_states(model, gn.ParamState).to_dict()
    optimizer = Optimizer(model, TRANSFORMATIONS[name])
    structure, values = gn.treefy_split((model, optimizer))
    compilations: list[str] = []

    @jax.jit
    def step(values: gn.StateTree) -> gn.StateTree:
        compilations.append("node")
        pair = gn.treefy_merge(structure, values)
        node_step(name, *pair)
        return gn.treefy_states(pair)

    @jax.jit
    def plain(params: Any, memory: Any) -> tuple[Any, Any]:
        compilations.append("plain")
        return plain_step(name, params, memory)

    memory = TRANSFORMATIONS[name].init(params)
    for _ in range(4):
        params, memory = plain(params, memory)
        values = step(values)
    gn.update_states((model, optimizer), values)
    assert_same(model, optimizer, params, memory)
    assert compilations.count("node") == compilations.count("plain")


def test_optimizer_works_under_strict_promotion():
    """Where the transformation does, so do construction and update."""
    model = mlp()
    with jax.numpy_dtype_promotion("strict"):
        optimizer = Optimizer(model, optax.sgd(0.1, momentum=0.9))
        optimizer.update(model, ones(model))
    assert optimizer.memory[0]["trace"]["scale"].value.tolist() == [[1.0, 1.0], [1.0, 1.0]]


# The memory


def test_memory_has_the_paths_of_the_model():
    """Each selected State has a State of its own in each part that follows the parameters; the rest has one."""
    optimizer = Optimizer(mlp(), adam)
    assert memory_paths(optimizer) == [
        "0.count",
        "0.mu.layers.0.bias",
        "0.mu.layers.0.weight",
        "0.mu.layers.1.bias",
        "0.mu.layers.1.weight",
        "0.mu.scale",
        "0.nu.layers.0.bias",
        "0.nu.layers.0.weight",
        "0.nu.layers.1.bias",
        "0.nu.layers.1.weight",
        "0.nu.scale",
    ]
    assert all(type(one) is OptimizerState for one in gn.states(optimizer).values())
    assert optimizer.memory[0]["mu"]["layers"][1]["bias"].value.shape == (2,)


OF_LAYERS = [f"layers.{at}.{name}" for at in (0, 1) for name in ("bias", "weight")]
PARAMETERS = [*OF_LAYERS, "scale"]
PATHS: dict[str, tuple[Any, list[str]]] = {
    "nothing to remember": (optax.sgd(0.1), []),
    "no container around it": (optax.trace(0.9), [f"trace.{path}" for path in PARAMETERS]),
    "scalars": (optax.scale_by_schedule(schedule), ["count"]),
    "a dict": (
        optax.multi_transform({"matrix": optax.sgd(0.1), "vector": optax.trace(0.9)}, by_rank),
        [
            "inner_states.vector.inner_state.trace.layers.0.bias",
            "inner_states.vector.inner_state.trace.layers.1.bias",
        ],
    ),
    "a dict with integers": (
        optax.multi_transform({0: optax.sgd(0.1), 7: optax.scale_by_schedule(schedule)}, lambda tree: 7),
        ['inner_states."7".inner_state.count'],
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_memory_holds_only_what_has_arrays(name: str):
    """Empty parts of an optax state take no State, at whatever depth; names are names and positions are positions."""
    tx, paths = PATHS[name]
    model = mlp()
    optimizer = Optimizer(model, tx)
    assert memory_paths(optimizer) == paths
    assert (optimizer.memory is None) == (not paths)
    optimizer.update(model, ones(model))


@pytest.mark.parametrize(
    ("keys", "stands_at"),
    [
        ([0, 1], [0, 1]),
        ([3], [3]),
        ([-1], ["-1"]),
        ([-1, 2], ["-1", "2"]),
        ([10**9, 1], ["1", "1000000000"]),
        (["0", "a"], ["0", "a"]),
    ],
)
def test_models_in_a_dict_have_their_memory_below_their_keys(keys: list[int | str], stands_at: list[int | str]):
    """A key that is not a position of a list becomes a text; what is remembered of each model is its own."""
    models = {key: gn.nn.Linear(2, 3, use_bias=False) for key in keys}
    optimizer = gn.optim.Optimizer(models, optax.trace(0.9))
    grads = {key: {"weight": jnp.full((2, 3), float(number))} for number, key in enumerate(keys)}

    optimizer.update(models, grads)

    traces = {path[2]: state for path, state in gn.states(optimizer).items() if "trace" in path}
    assert list(traces) == stands_at
    for number, key in enumerate(keys):
        trace = traces[key if key in traces else str(key)]
        assert jnp.array_equal(trace.value, jnp.full((2, 3), float(number)))


def test_memory_keeps_the_positions_of_a_chain():
    """What stands before it in the chain and holds nothing is `None` in the list."""
    optimizer = Optimizer(mlp(), optax.chain(optax.clip(1.0), optax.identity(), optax.trace(0.9), optax.scale(-1.0)))
    assert optimizer.memory[:2] == [None, None]
    assert len(optimizer.memory) == 3
    assert memory_paths(optimizer)[-1] == "2.trace.scale"


def test_state_of_one_array_is_the_whole_memory():
    """An optax state may be an array alone, or follow the parameters at its top."""

    def count_up(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return updates, state + 1

    def add_up(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return updates, jax.tree.map(jnp.add, state, updates)

    model = mlp()
    counting = Optimizer(model, optax.GradientTransformation(lambda params: jnp.int32(0), count_up))
    adding = Optimizer(model, optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), add_up))
    for optimizer in (counting, adding):
        optimizer.update(model, ones(model))
    assert counting.memory.value.tolist() == 1
    assert adding.memory["scale"].value.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_memory_is_described_as_the_model_is():
    """Tag, sharding and metadata are those of the model's State; a name is a State's own."""
    model = mlp()
    model.scale = model.scale.replace(name="mine")
    moment = Optimizer(model, adam).memory[0]["mu"]["scale"]
    described = {"name": moment.name, "tag": moment.tag, "sharding": moment.sharding, "metadata": dict(moment.metadata)}
    assert described == {"name": None, "tag": "outer", "sharding": ("rows", None), "metadata": {"unit": "mV"}}
    count = Optimizer(model, adam).memory[0]["count"]
    assert (count.tag, count.sharding, dict(count.metadata)) == (None, None, {})


def test_memory_of_other_shapes_has_no_sharding():
    """Rows and columns of a moment are not laid out as the matrix is, but belong to it all the same."""
    memory = Optimizer(mlp(), optax.adafactor(0.01, min_dim_size_to_factor=2)).memory[0]
    assert memory["v_row"]["scale"].value.shape == (2,)
    assert (memory["v_row"]["scale"].sharding, memory["v_row"]["scale"].tag) == (None, "outer")


def test_memory_shares_no_array_with_the_model():
    """Some transformations start from the parameters; both can be donated to one compiled function all the same."""

    def start(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return {"params": params, "scale": params["scale",].value, "zeros": zeros, "again": zeros}

    model = mlp()
    optimizer = Optimizer(model, optax.GradientTransformation(start, optax.identity().update))
    arrays = jax.tree.leaves(gn.treefy_states((model, optimizer)))
    assert len({id(array) for array in arrays}) == len(arrays)
    values = gn.treefy_states((model, optimizer))
    jax.block_until_ready(jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)(values))


def test_hyperparameter_is_changed_by_writing_to_it():
    """What `optax.inject_hyperparams` keeps is a State as any other."""
    model = mlp()
    optimizer = Optimizer(model, optax.inject_hyperparams(optax.sgd)(learning_rate=0.1))
    optimizer.memory["hyperparams"]["learning_rate"].value = jnp.float32(0.0)
    before = leaves(gn.treefy_states(model))
    optimizer.update(model, ones(model))
    assert leaves(gn.treefy_states(model)) == before


def test_masked_part_of_a_state_is_not_remembered():
    """Of a State with two arrays one may be masked: its moment holds the other, and the mark that optax puts."""
    optimizer = Optimizer(pair(), optax.masked(optax.trace(0.9), is_matrix))
    held = optimizer.memory["inner_state"]["trace"]["both"].value
    assert held["weight"].shape == (2, 3)
    assert held["bias"] == optax.MaskedNode()


class Chain(gn.Node):
    weight: gn.ParamState
    next: "Chain | None" = gn.subnode(default=None)


def test_memory_of_a_deep_model_is_refused():
    """Nodes nest as deep as memory allows, lists and dicts in one field do not; nothing recurses on the way there."""
    model: Chain | None = None
    for _ in range(2000):
        model = Chain(gn.ParamState(jnp.ones(2)), model)
    with pytest.raises(gn.FieldError) as caught:
        Optimizer(model, optax.trace(0.9))
    assert str(caught.value) == ("Optimizer.memory nests containers deeper than 32 levels, or a container in itself")
    Optimizer(model, optax.trace(0.9), wrt=gn.PathIn("next.next.weight"))
    Optimizer(model, optax.sgd(0.1))


# Several transformations, and labels by filter

momentum = optax.trace(0.9)
enc, dec = gn.Under("encoder"), gn.Under("decoder")


def tied(*, is_shared: bool = False) -> Tied:
    encoder = gn.nn.Linear(2, 2)
    return Tied(encoder, encoder if is_shared else gn.nn.Linear(2, 2))


def test_each_filter_has_a_transformation_of_its_own():
    """A mapping from filters to transformations does what `optax.multi_transform` does with labels."""
    plain, model = tied(), tied()
    gn.update_states(model, gn.treefy_states(plain))
    optimizer = Optimizer(model, {enc: momentum, ...: adam})
    labels = {"encoder": {"bias": 0, "weight": 0}, "decoder": {"bias": 1, "weight": 1}}
    tx = optax.multi_transform({0: momentum, 1: adam}, labels)
    params = gn.treefy_states(plain).to_dict()
    memory = tx.init(params)
    for _ in range(2):
        grads = gradient(params)
        updates, memory = tx.update(grads, memory, params)
        params = optax.apply_updates(params, updates)
        optimizer.update(model, grads)
    assert leaves(gn.treefy_states(model)) == leaves(params)
    assert memory_paths(optimizer) == [
        *[f'inner_states."0".inner_state.trace.encoder.{name}' for name in ("bias", "weight")],
        'inner_states."1".inner_state.0.count',
        *[f'inner_states."1".inner_state.0.{of}.decoder.{name}' for of in ("mu", "nu") for name in ("bias", "weight")],
    ]


def test_one_transformation_for_two_filters_acts_on_each_by_itself():
    """Each has a memory, as with optax; filters with one answer may overlap, where the first has the State."""
    optimizer = Optimizer(tied(), {enc: adam, gn.PathContains("bias"): adam, ...: None})
    counts = [path for path in memory_paths(optimizer) if path.endswith("count")]
    assert counts == [f'inner_states."{position}".inner_state.0.count' for position in (0, 1)]
    optimized = [gn.path_str(path) for path in optimizer.layout.paths()]
    assert optimized == ["decoder.bias", "encoder.bias", "encoder.weight"]


@pytest.mark.parametrize(
    "make", [lambda: optax.clip_by_global_norm(1.0), lambda: gn.optim.call(optax.clip_by_global_norm, 1.0)]
)
@pytest.mark.parametrize("is_shared", [True, False])
def test_equal_transformations_clip_what_their_own_filter_selects(make: Any, is_shared: bool):
    """Neither the same object nor an equal one makes one group of two."""
    clip = make()
    model = gn.nn.MLP(2, 3, 1)
    by_filter = {gn.Under("layers.0"): clip, gn.Under("layers.1"): clip if is_shared else make()}
    updates = Optimizer(model, by_filter).update(model, jax.tree.map(jnp.ones_like, gn.treefy_states(model)))
    for part in ("layers.0", "layers.1"):
        assert jnp.allclose(optax.tree_utils.tree_norm(updates[part]), 1.0)


LEFT_ALONE: list[Any] = [{enc: momentum, ...: None}, {dec: None, ...: momentum}, {enc: momentum, dec: None}]


@pytest.mark.parametrize("by_filter", LEFT_ALONE)
def test_states_of_no_transformation_are_left_alone(by_filter: Any):
    """`None` takes States out, as `wrt` does: they need no gradient, are not written, and take no memory."""
    model = tied()
    before = model.decoder.weight.value
    optimizer = Optimizer(model, by_filter)
    optimizer.update(model, {"encoder": ones(model.encoder)})
    assert model.decoder.weight.value is before
    assert [gn.path_str(path) for path in optimizer.layout.paths()] == ["encoder.bias", "encoder.weight"]


def test_a_mapping_shares_out_what_wrt_selects():
    """It need not speak of other States."""
    model = tied()
    optimizer = Optimizer(model, {enc: adam, dec: momentum}, wrt=gn.PathContains("weight"))
    assert [gn.path_str(path) for path in optimizer.layout.paths()] == ["decoder.weight", "encoder.weight"]


def test_optimizers_of_equal_mappings_have_one_structure():
    """So they are stacked, and compiled once."""
    made = [Optimizer(tied(), {enc: momentum, ...: adam}) for _ in range(2)]
    other = Optimizer(tied(), {dec: momentum, ...: adam})
    assert gn.graphdef(made[0]) is gn.graphdef(made[1])
    assert gn.graphdef(made[0]) is not gn.graphdef(other)


def test_optimizer_of_a_mapping_prints_it():
    """The filters, and the classes of the transformations."""
    shown = "{Under('encoder'): GradientTransformation(...), ...: GradientTransformationExtraArgs(...)}"
    optimizer = Optimizer(tied(), {enc: momentum, ...: adam})
    assert gn.pformat(optimizer.tx, width=120) == shown
    assert f"  tx={shown},\n" in gn.pformat(optimizer, width=120)


BAD_MAPPINGS: dict[str, tuple[Any, type[Exception], str]] = {
    "two answers": (
        {enc: momentum, gn.PathContains("bias"): adam, ...: None},
        gn.FilterError,
        "two answers for one State: encoder.bias, by Under('encoder') and by PathContains(key='bias')",
    ),
    "two answers, one of them None": (
        {enc: adam, gn.PathIn("encoder.bias"): None, ...: adam},
        gn.FilterError,
        "two answers for one State: encoder.bias, by Under('encoder') and by PathIn('encoder.bias')",
    ),
    "no answer": (
        {enc: adam},
        gn.FilterError,
        "no filter of (Under('encoder'),) selects some States; add one, or put `...` last: 2 faults:\n"
        "  decoder.bias (ParamState)\n"
        "  decoder.weight (ParamState)",
    ),
    "no path": (
        {gn.Under("encoders"): adam, ...: momentum},
        gn.FilterError,
        "no State is at or below 'encoders' (did you mean 'encoder'?); if that may be, write "
        "gn.Under('encoders', missing_ok=True)",
    ),
    "a text": (
        {"encoder": adam, ...: momentum},
        gn.FilterError,
        "no State has the tag 'encoder', which is the path of some: a text is a tag here; write gn.Under('encoder')",
    ),
    "no transformation": (
        {enc: 1e-3, ...: optax.adam},
        TypeError,
        "Optimizer takes a mapping from filters to optax transformations, or None; found 2 faults:\n"
        "  Under('encoder'): float 0.001\n"
        "  ...: the function adam: call it, as in optax.adam(1e-3)",
    ),
    "all are left alone": (
        {...: None},
        gn.FilterError,
        "no State of Tied is selected by wrt=All(ParamState, Any())",
    ),
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("name", BAD_MAPPINGS)
def test_faulty_mappings_are_refused(name: str):
    """Each State is meant once; all that are not are named."""
    by_filter, error, message = BAD_MAPPINGS[name]
    with pytest.raises(error) as caught:
        Optimizer(tied(), by_filter)
    assert str(caught.value) == message


def test_a_shared_state_has_one_answer():
    """Two transformations by two of its paths are refused; both paths are named."""
    with pytest.raises(gn.FilterError) as caught:
        Optimizer(tied(is_shared=True), {enc: momentum, dec: adam}, wrt=gn.PathContains("weight"))
    assert str(caught.value) == (
        "two answers for one State: decoder.weight = encoder.weight, by Under('encoder') and by Under('decoder')"
    )


def test_labels_by_filter_are_masks_and_labels_of_optax():
    """They are a state tree like the parameters, also where a part of them is masked."""
    mask = gn.optim.labels({gn.PathContains("weight"): True, ...: False})
    names = gn.optim.labels({enc: "first", dec: "second"})
    assert mask(ones(tied()))["encoder"].to_dict() == {"bias": False, "weight": True}
    tx = optax.multi_transform({"first": optax.masked(momentum, mask), "second": optax.sgd(0.1)}, names)
    model = tied()
    optimizer = Optimizer(model, tx)
    optimizer.update(model, ones(model))
    assert memory_paths(optimizer) == ["inner_states.first.inner_state.inner_state.trace.encoder.weight"]
    assert repr(names) == "labels({Under('encoder'): 'first', Under('decoder'): 'second'})"


def test_labels_by_a_function_see_the_parameters():
    """A function is asked for each State, with its value."""
    by_rank = gn.optim.labels({lambda path, one: one.value.ndim == 2: True, ...: False})
    assert by_rank(ones(tied()))["decoder"].to_dict() == {"bias": False, "weight": True}


@pytest.mark.wrong_types
def test_labels_take_a_mapping():
    """Anything else is named."""
    bad: Any = [enc]
    with pytest.raises(TypeError) as caught:
        gn.optim.labels(bad)
    assert str(caught.value) == "gn.optim.labels takes a mapping from filters to labels; found list [Under('encoder')]"


@pytest.mark.wrong_types
def test_labels_are_for_a_state_tree():
    """Nested dicts have no paths of States."""
    bad: Any = {"encoder": jnp.ones(2)}
    with pytest.raises(TypeError, match=r"^labels\({\.\.\.: True}\) takes the parameters as a StateTree; found dict"):
        gn.optim.labels({...: True})(bad)


MASKS: dict[str, Callable[[], Any]] = {
    "a nested dict": lambda: optax.masked(momentum, {"encoder": True, "decoder": False}),
    "a dict by path": lambda: optax.adamw(0.1, mask={"encoder.weight": True}),
    "labels": lambda: optax.multi_transform({"x": adam, "y": momentum}, {"encoder": "x", "decoder": "y"}),
    "a function that gives a dict": lambda: optax.masked(momentum, lambda params: {"encoder": True, "decoder": False}),
    "another model's": lambda: optax.masked(momentum, by_rank(ones(mlp()))),
}


@pytest.mark.parametrize("name", MASKS)
def test_mask_of_another_form_is_refused(name: str):
    """JAX's text names neither the mask nor the form that it is to have."""
    with pytest.raises(TypeError) as caught:
        Optimizer(tied(), MASKS[name]())
    assert str(caught.value) == (
        "the mask or labels in an optax transformation must be a state tree as the parameters are, or a function that "
        "gives one for them; for a dict by path write gn.optim.labels({gn.Under('encoder'): True, ...: False})"
    )


def test_lookahead_is_that_of_optax():
    """The model has the fast parameters; the slow ones are remembered at its paths."""
    model = mlp()
    fast = optax.sgd(0.1, momentum=0.9)
    params: Any = optax.LookaheadParams.init_synced(gn.treefy_states(model, gn.ParamState))
    apply_updates: Any = optax.apply_updates
    on_pairs = optax.lookahead(fast, 2, 0.5, reset_state=True)
    memory = on_pairs.init(params)
    optimizer = Optimizer(model, optax.chain(optax.clip(1.0), gn.optim.lookahead(fast, 2, 0.5, reset_state=True)))
    for _ in range(3):
        updates, memory = on_pairs.update(ones(model), memory, params)
        params = apply_updates(params, updates)
        optimizer.update(model, ones(model))
    assert leaves(gn.treefy_states(model, gn.ParamState)) == leaves(params.fast)
    slow = optax.tree_utils.tree_get(optimizer.native_state(model), "slow")
    assert leaves(slow) == leaves(params.slow) != leaves(params.fast)
    assert leaves(optimizer.memory[1]["slow"]["scale"].value) == leaves(params.slow["scale",].value)


def test_lookahead_of_optax_is_refused():
    """Its parameters are pairs, which a model has not; also inside of a chain."""
    text = (
        "optax.lookahead does not work on the parameters of a model, but on pairs of fast and slow ones; write "
        "gn.optim.lookahead, which keeps the slow ones in the memory"
    )
    for tx in (optax.lookahead(momentum, 2, 0.5), optax.chain(optax.clip(1.0), optax.lookahead(momentum, 2, 0.5))):
        with pytest.raises(TypeError) as caught:
            Optimizer(tied(), tx)
        assert str(caught.value) == text


class Paired(NamedTuple):
    slow: Any
    inner: Any


def test_lookahead_of_optax_stands_in_a_transformation_of_ones_own():
    """What is not optax's may give it pairs."""
    ahead = optax.lookahead(optax.sgd(1.0), 2, 0.5)

    def init(params: Any) -> Paired:
        return Paired(params, ahead.init(optax.LookaheadParams.init_synced(params)))

    def update(updates: Any, state: Paired, params: Any = None) -> tuple[Any, Paired]:
        moves: Any = ahead.update(updates, state.inner, optax.LookaheadParams(params, state.slow))
        return moves[0].fast, Paired(state.slow, moves[1])

    own: Any = optax.GradientTransformation
    model = tied()
    updates = Optimizer(model, own(init, update)).update(model, ones(model))
    assert updates["encoder.bias"].value.tolist() == [-1.0, -1.0]


# The state of optax's own classes


def test_native_state_is_that_of_optax():
    """Helpers of optax read it: it has optax's classes, with the arrays of the memory."""
    model = mlp()
    optimizer = Optimizer(model, optax.contrib.schedule_free_adamw(0.01))
    params = gn.treefy_states(model, gn.ParamState)
    plain = TRANSFORMATIONS["schedule free"].init(params.to_dict())
    for _ in range(2):
        node_step("schedule free", model, optimizer)
    native = optimizer.native_state(model)
    assert type(native) is type(plain)
    assert native.z["scale",].value is optimizer.memory["z"]["scale"].value
    averaged = optax.contrib.schedule_free_eval_params(native, gn.treefy_states(model, gn.ParamState))
    y, z = model.scale.value, native.z["scale",].value
    assert jnp.allclose(averaged["scale",].value, (y - (1 - native.b1) * z) / native.b1)
    assert optax.tree_utils.tree_get(native, "mu", default=None) is None
    assert optax.tree_utils.tree_get(native, "z") is native.z


@pytest.mark.parametrize("name", ["adam", "several", "in two steps", "injected"])
def test_native_state_goes_back(name: str):
    """What was read is put back as it was, also into another optimizer of that transformation."""
    model, twin = mlp(), mlp()
    optimizer, other = [Optimizer(one, TRANSFORMATIONS[name]) for one in (model, twin)]
    node_step(name, model, optimizer)
    other.set_native_state(twin, optimizer.native_state(model))
    remembered = [gn.treefy_states(one, gn.PathContains("memory")) for one in (optimizer, other)]
    assert leaves(remembered[0]) == leaves(remembered[1])
    assert leaves(other.native_state(twin)) == leaves(optimizer.native_state(model))


def test_native_state_is_changed_by_optax():
    """`tree_set` of a rate and a count arrives in the memory, and counts in the next step."""
    model = mlp()
    optimizer = Optimizer(model, optax.inject_hyperparams(optax.sgd)(learning_rate=0.1))
    changed = optax.tree_utils.tree_set(optimizer.native_state(model), learning_rate=jnp.float32(2.0))
    optimizer.set_native_state(model, changed)
    updates = optimizer.update(model, ones(model))
    assert updates["scale",].value.tolist() == [[-2.0, -2.0], [-2.0, -2.0]]


def test_native_state_shares_nothing_that_changes():
    """A container in it is not the memory's; an array of the model that is put back is copied."""
    model = pair()
    optimizer = Optimizer(model, optax.trace(0.9))
    native = optimizer.native_state(model)
    native.trace["both",].value["weight"] = jnp.zeros(7)
    assert optimizer.memory["trace"]["both"].value["weight"].shape == (2, 3)
    optimizer.set_native_state(model, optax.TraceState(gn.treefy_states(model)))
    remembered = optimizer.memory["trace"]["both"].value["bias"]
    assert remembered.tolist() == [1.0, 1.0, 1.0]
    assert remembered is not model.both.value["bias"]


BAD_STATES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another transformation's": (
        lambda native: optax.TraceState(native[0].mu),
        """the state does not fit the transformation of the optimizer: 4 faults:
  memory.0.count is missing
  memory.0.mu.scale is missing
  memory.0.nu.scale is missing
  memory.trace.scale is unknown""",
    ),
    "shape and dtype": (
        lambda native: optax.tree_utils.tree_set(
            native, count=jnp.float32(1), mu=jax.tree.map(lambda leaf: leaf[0], native[0].mu)
        ),
        """cannot update Optimizer: 2 faults:
  memory.0.count: expected int32[], found float32[]
  memory.0.mu.scale: expected float32[2,2], found float32[2]""",
    ),
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_native_state_that_does_not_fit_is_refused(name: str):
    """All faults are named by their paths, and nothing is written."""
    change, message = BAD_STATES[name]
    model = mlp()
    optimizer = Optimizer(model, adam, "outer")
    before = snapshot(optimizer)
    with pytest.raises(gn.UpdateError) as caught:
        optimizer.set_native_state(model, change(optimizer.native_state(model)))
    assert str(caught.value) == message
    assert snapshot(optimizer) == before


def test_native_state_is_read_and_written_inside_of_a_transform():
    """There the model and the optimizer are arguments, as for an update."""
    model = mlp()
    optimizer = Optimizer(model, adam)

    @gn.jit
    def forget(model: MLP, optimizer: Optimizer) -> None:
        native = optimizer.native_state(model)
        optimizer.set_native_state(model, jax.tree.map(jnp.zeros_like, native))

    optimizer.update(model, ones(model))
    forget(model, optimizer)
    assert not any(jnp.any(one.value) for path, one in gn.states(optimizer).items() if path[0] == "memory")


# Which States


def test_only_selected_states_change_and_are_remembered():
    """The others keep their values, whatever gradients they are given."""
    model = mlp()
    optimizer = Optimizer(model, optax.trace(0.9), wrt=gn.PathContains(0))
    before = {path: leaves(one.value) for path, one in gn.states(model).items()}
    optimizer.update(model, ones(model, ...))
    after = {path: leaves(one.value) for path, one in gn.states(model).items()}
    assert [path for path in before if before[path] != after[path]] == [("layers", 0, "bias"), ("layers", 0, "weight")]
    assert memory_paths(optimizer) == ["trace.layers.0.bias", "trace.layers.0.weight"]


FILTERS: dict[str, tuple[Any, list[str]]] = {
    "class": (gn.ParamState, PARAMETERS),
    "subscripted class": (gn.ParamState[Float[Array, "2 2"]], PARAMETERS),
    "tag": ("outer", ["scale"]),
    "path": (gn.PathIn("layers.1.weight"), ["layers.1.weight"]),
    "biases": (gn.PathContains("bias"), ["layers.0.bias", "layers.1.bias"]),
    "list": ([gn.PathContains(0), "outer"], ["layers.0.bias", "layers.0.weight", "scale"]),
    "nested": (gn.All(gn.ParamState, gn.Not([gn.PathContains(0)])), ["layers.1.bias", "layers.1.weight", "scale"]),
    "all": (..., ["count", *PARAMETERS]),
    "function": (lambda path, one: path[-1] == "scale", ["scale"]),
}


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_selects(name: str):
    """Any filter may say what is optimized, also one that could not be hashed; updates find the same States."""
    wrt, paths = FILTERS[name]
    model = mlp()
    optimizer = Optimizer(model, optax.trace(0.9), wrt)
    assert memory_paths(optimizer) == [f"trace.{path}" for path in paths]
    optimizer.update(model, ones(model, ...))
    hash(gn.graphdef(optimizer))


def test_filter_is_kept_as_it_was():
    """A list that is changed later does not change the optimizer."""
    wrt: list[gn.Filter | EllipsisType] = ["outer"]
    optimizer = Optimizer(mlp(), optax.trace(0.9), wrt)
    wrt.append(...)
    assert repr(optimizer.wrt) == "Any('outer')"


@pytest.mark.parametrize(("wrt", "text"), [("inner", "'inner'"), (None, "None"), (gn.BatchState, "BatchState")])
def test_optimizer_of_nothing_is_refused(wrt: gn.Filter, text: str):
    """A filter that selects no State is most likely a slip."""
    with pytest.raises(gn.FilterError) as caught:
        Optimizer(mlp(), adam, wrt)
    assert str(caught.value) == f"no State of MLP is selected by wrt={text}"


@pytest.mark.wrong_types
def test_what_is_no_filter_is_refused():
    """It is named, as everywhere."""
    bad: Any = 3
    with pytest.raises(gn.FilterTypeError, match=r"^not a filter: int 3; "):
        Optimizer(mlp(), adam, bad)


def test_shared_state_has_one_memory():
    """Tied weights are one parameter: one moment, moved once, by the gradient at either path."""
    shared = gn.nn.Linear(2, 2)
    model = Tied(shared, shared)
    optimizer = Optimizer(model, optax.chain(optax.trace(0.9), optax.scale(-1.0)))
    assert memory_paths(optimizer) == ["0.trace.decoder.bias", "0.trace.decoder.weight"]
    assert shared.bias is not None
    optimizer.update(model, {"encoder": ones(shared).to_dict()})
    assert shared.bias.value.tolist() == [-1.0, -1.0]


def test_two_models_have_one_optimizer():
    """A model may be a pytree of nodes, whose keys begin the paths."""
    models = {"generator": gn.nn.Linear(2, 2), "critic": gn.nn.Linear(2, 2)}
    optimizer = Optimizer(models, optax.trace(0.9))
    optimizer.update(models, ones(models))
    assert memory_paths(optimizer) == [
        f"trace.{model}.{name}" for model in ("critic", "generator") for name in ("bias", "weight")
    ]


# As a node


def test_optimizer_prints_as_a_node():
    """The memory shows as in a model; a transformation only by its class."""
    assert repr(Optimizer(gn.nn.Linear(2, 3), optax.chain(optax.clip(1.0), optax.trace(0.9)))) == (
        "Optimizer(  # 40 B\n"
        "  tx=GradientTransformationExtraArgs(...), wrt=ParamState,\n"
        "  layout=Layout(bias: ParamState, weight: ParamState),\n"
        "  steps=OptimizerState(i32[]),\n"
        "  memory=[  # 36 B\n"
        "    None,\n"
        "    {'trace': {'bias': OptimizerState(f32[3]), 'weight': OptimizerState(f32[2,3])}}\n"
        "  ]\n"
        ")"
    )


def test_model_and_optimizer_split_and_merge_together():
    """Both come back, with values by identity, and optimizers of equal models have one structure."""
    model, optimizer = mlp(), Optimizer(mlp(), adam)
    structure, params, memory, rest = gn.treefy_split((model, optimizer), gn.ParamState, OptimizerState, ...)
    assert [len(tree.flat()) for tree in (params, memory, rest)] == [5, 12, 1]
    merged = gn.treefy_merge(structure, params, memory, rest)
    assert_type(merged, tuple[MLP, Optimizer])
    assert merged[1].steps.value is optimizer.steps.value
    assert gn.graphdef(Optimizer(mlp(), adam)) is gn.graphdef(optimizer)
    assert gn.graphdef(Optimizer(mlp(), optax.adam(0.01))) is not gn.graphdef(optimizer)


def decay(params: Any) -> Any:
    return Decayed(jax.tree.map(jnp.zeros_like, params))


def decay_on(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    total = jax.tree.map(lambda old, new: 0.5 * old + new, state.total, updates)
    return jax.tree.map(jnp.negative, total), Decayed(total)


class Decayed(NamedTuple):
    total: Any


COPIES: dict[str, Callable[[Any], Any]] = {
    "clone": gn.clone,
    "deepcopy": copy.deepcopy,
    "merge": lambda pair: gn.treefy_merge(*gn.treefy_split(pair)),
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
}


@pytest.mark.parametrize("name", COPIES)
def test_copy_goes_on_by_itself(name: str):
    """A copy of model and optimizer has the same structure, takes the same steps, and moves nothing but itself."""
    model = mlp()
    optimizer = Optimizer(model, optax.GradientTransformation(decay, decay_on))
    optimizer.update(model, ones(model))
    twin, again = COPIES[name]((model, optimizer))
    assert gn.graphdef((twin, again)) is gn.graphdef((model, optimizer))
    before = [snapshot(model), snapshot(optimizer)]
    again.update(twin, ones(twin))
    assert [snapshot(model), snapshot(optimizer)] == before
    optimizer.update(model, ones(model))
    assert leaves(gn.treefy_states((twin, again))) == leaves(gn.treefy_states((model, optimizer)))


def test_optimizer_is_part_of_a_node():
    """A trainer may hold the model and its optimizer, and be split as a whole."""
    model = mlp()
    trainer = Trainer(model, Optimizer(model, optax.trace(0.9)))
    structure, values = gn.treefy_split(trainer)

    @jax.jit
    def step(values: gn.StateTree) -> gn.StateTree:
        trainer = gn.treefy_merge(structure, values)
        trainer.optimizer.update(trainer.model, ones(trainer.model))
        return gn.treefy_states(trainer)

    gn.update_states(trainer, step(values))
    assert int(trainer.optimizer.steps.value) == 1
    moment = gn.states(trainer, OptimizerState)["optimizer", "memory", "trace", "scale"]
    assert moment.value.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_optimizer_is_extended_as_a_node_is():
    """A subclass adds fields, and takes the same arguments."""

    class Named(Optimizer):
        label: str = "main"

        def __init__(self, model: object, tx: optax.GradientTransformation, label: str) -> None:
            super().__init__(model, tx)
            self.label = label

    model = mlp()
    optimizer = Named(model, optax.trace(0.9), "other")
    optimizer.update(model, ones(model))
    assert optimizer.label == "other"


def test_attributes_are_typed():
    """What is read from an optimizer has its type."""
    optimizer = Optimizer(mlp(), adam)
    assert_type(optimizer.steps, OptimizerState[jax.Array])
    assert_type(optimizer.layout, gn.Layout)


# Gradients


GRADIENTS: dict[str, Callable[[MLP], Any]] = {
    "of the selected States": lambda model: ones(model),
    "of all States": lambda model: ones(model, ...),
    "in another order": lambda model: ones(model, "outer") | ones(model, gn.PathContains("layers")),
    "as nested dicts": lambda model: ones(model).to_dict(),
    "as nested dicts of all": lambda model: ones(model, ...).to_dict(),
    "as live States": lambda model: gn.states(gn.treefy_merge(gn.graphdef(model), ones(model, ...))),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_come_in_every_form(name: str):
    """Any collection by path that holds a gradient for each selected State is as good."""
    model = mlp()
    before = model.scale.value
    Optimizer(model, optax.sgd(1.0)).update(model, GRADIENTS[name](model))
    assert jnp.allclose(model.scale.value, before - 1.0)


def test_update_gives_what_it_has_added():
    """The updates have the paths of the parameters: norms are taken of them, also in a compiled step."""
    model = mlp()
    before = gn.treefy_states(model, gn.ParamState)
    optimizer = Optimizer(model, optax.chain(optax.clip_by_global_norm(1.0), optax.scale(-1.0)))

    @gn.jit
    def step(model: MLP, optimizer: Optimizer) -> tuple[Array, gn.StateTree]:
        updates = optimizer.update(model, ones(model))
        return optax.tree_utils.tree_norm(updates), updates

    norm, updates = step(model, optimizer)
    assert float(norm) == pytest.approx(1.0)
    assert updates.layout is optimizer.layout
    assert leaves(jax.tree.map(jnp.add, before, updates)) == leaves(gn.treefy_states(model, gn.ParamState))


def test_parameters_keep_their_dtype():
    """Gradients of a wider dtype do not widen them."""
    model = gn.nn.Linear(2, 3, param_dtype=jnp.bfloat16)
    grads = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, jnp.float32), gn.treefy_states(model))
    Optimizer(model, optax.sgd(0.1)).update(model, grads)
    assert {leaf.dtype for leaf in jax.tree.leaves(gn.treefy_states(model))} == {jnp.dtype("bfloat16")}


def test_form_of_the_memory_is_worked_out_once():
    """The transformation is asked at construction, once more at the first update, and never again."""
    asked: list[None] = []

    def init(params: Any) -> Any:
        asked.append(None)
        return decay(params)

    model = mlp()
    optimizer = Optimizer(model, optax.GradientTransformation(init, decay_on))
    for _ in range(3):
        optimizer.update(model, ones(model))
    assert len(asked) == 2
    again = gn.clone(optimizer)
    again.update(model, ones(model))
    assert len(asked) == 2


# What does not fit


def refuse(optimizer: Optimizer, model: Any, grads: Any, **extra: Any) -> str:
    """The message of an update that fails, and leaves all as it was."""
    before = [snapshot(model), snapshot(optimizer)]
    with pytest.raises(gn.UpdateError) as caught:
        optimizer.update(model, grads, **extra)
    assert [snapshot(model), snapshot(optimizer)] == before
    return str(caught.value)


def without(tree: gn.StateTree, *only: gn.Filter | EllipsisType) -> gn.StateTree:
    return tree.filter(gn.Not(only))


BAD_GRADIENTS: dict[str, tuple[Callable[[MLP], Any], str]] = {
    "missing": (lambda model: without(ones(model), "outer"), "scale: no gradient"),
    "all missing": (
        lambda model: {},
        """5 faults:
  layers.0.bias: no gradient
  layers.0.weight: no gradient
  layers.1.bias: no gradient
  layers.1.weight: no gradient
  scale: no gradient""",
    ),
    "shape": (
        lambda model: ones(model).to_dict() | {"scale": jnp.ones((2, 3))},
        "scale: expected shape (2, 2), found (2, 3)",
    ),
    "shape that would broadcast": (
        lambda model: ones(model).to_dict() | {"scale": 1.0},
        "scale: expected shape (2, 2), found ()",
    ),
    "several": (
        lambda model: {
            "layers": {0: {"weight": jnp.ones((2, 3)), "bias": jnp.ones(4)}, 1: {"weight": jnp.ones(2)}},
            "scales": jnp.ones((2, 2)),
        },
        """5 faults:
  scales: MLP has no State there
  layers.0.bias: expected shape (3,), found (4,)
  layers.1.bias: no gradient
  layers.1.weight: expected shape (3, 2), found (2,)
  scale: no gradient""",
    ),
}


@pytest.mark.parametrize("name", BAD_GRADIENTS)
def test_faulty_gradients_are_all_named(name: str):
    """Every gradient that is missing, unknown or of another form is named by its path, and nothing is written."""
    grads, message = BAD_GRADIENTS[name]
    model = mlp()
    found = refuse(Optimizer(model, adam), model, grads(model))
    assert found == f"cannot update MLP by these gradients: {message}"


def test_a_faulty_gradient_of_a_part_of_a_value_is_named():
    """By the keys that lead to it, or by the trees, if they differ."""
    model = pair()
    optimizer = Optimizer(model, adam)
    cases: list[tuple[Any, str]] = [
        ({"weight": jnp.ones((2, 3)), "bias": jnp.ones(4)}, "both['bias']: expected shape (3,), found (4,)"),
        (jnp.ones(2), "both: expected the tree PyTreeDef({'bias': *, 'weight': *}), found PyTreeDef(*)"),
    ]
    for gradient, message in cases:
        assert refuse(optimizer, model, {"both": gradient}) == f"cannot update Pair by these gradients: {message}"


@pytest.mark.wrong_types
def test_gradients_must_be_a_collection():
    """Anything else is a TypeError."""
    model, bad = mlp(), jnp.ones(3)
    with pytest.raises(TypeError) as caught:
        Optimizer(model, adam).update(model, bad)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # ty: ignore[invalid-argument-type]
    takes = "a StateTree, FlatStates or a nested mapping by path"
    assert str(caught.value) == f"Optimizer.update takes {takes}; found an array float32[3]"


@pytest.mark.parametrize("tx", [adam, optax.sgd(0.1)], ids=["adam", "sgd"])
def test_another_model_is_refused(tx: optax.GradientTransformation):
    """A model of other States is told apart by the paths that differ, also where nothing is remembered."""
    optimizer, model = Optimizer(mlp(), tx), mlp()
    model.layers.append(gn.nn.Linear(2, 2))
    del model.layers[0]
    model.layers.append(gn.nn.Linear(2, 2))
    model.scale = gn.ParamState(model.scale.value)
    assert refuse(optimizer, model, ones(model)) == (
        "cannot update MLP: the optimizer was made for other States: 3 faults:\n"
        "  scale: expected ParamState(tag='outer', sharding=('rows', None), unit='mV'), found ParamState\n"
        "  layers.2.bias: expected nothing, found ParamState\n"
        "  layers.2.weight: expected nothing, found ParamState" + FOLLOWING
    )
    assert refuse(optimizer, gn.nn.Linear(2, 2), {}) == (
        "cannot update Linear: the optimizer was made for other States: 7 faults:\n"
        "  layers.0.bias: expected ParamState, found nothing\n"
        "  layers.0.weight: expected ParamState, found nothing\n"
        "  layers.1.bias: expected ParamState, found nothing\n"
        "  layers.1.weight: expected ParamState, found nothing\n"
        "  scale: expected ParamState(tag='outer', sharding=('rows', None), unit='mV'), found nothing\n"
        "  bias: expected nothing, found ParamState\n"
        "  weight: expected nothing, found ParamState" + FOLLOWING
    )


def test_model_with_values_of_other_shapes_is_refused():
    """Its memory would not fit: the places are named."""
    model = mlp()
    optimizer = Optimizer(model, optax.trace(0.9))
    model.scale.value = jnp.ones(3)
    assert refuse(optimizer, model, ones(model)) == (
        "the memory of the optimizer does not fit its transformation: "
        "memory.trace.scale: expected shape (3,), found (2, 2)"
    )


def test_another_transformation_is_refused():
    """One that remembers something else does not take over; one that remembers the same does."""
    model = mlp()
    optimizer = Optimizer(model, optax.scale_by_rss(), "outer")
    optimizer.tx = optax.scale_by_rss(0.5)
    optimizer.update(model, ones(model))
    optimizer.tx = optax.trace(0.9)
    assert refuse(optimizer, model, ones(model)) == (
        "the memory of the optimizer does not fit its transformation: 2 faults:\n"
        "  memory.trace.scale is missing\n"
        "  memory.sum_of_squares.scale is unknown"
    )


def test_popped_memory_is_missed():
    """What was taken out is named."""
    model = mlp()
    optimizer = Optimizer(model, optax.trace(0.9))
    popped = gn.pop_states(optimizer, gn.PathIn("memory.trace.scale"))
    with pytest.raises(gn.UpdateError, match=r"transformation: memory\.trace\.scale is missing$"):
        optimizer.update(model, ones(model))
    gn.update_states(optimizer, popped)
    optimizer.update(model, ones(model))


def test_transformation_that_changes_its_structure_is_refused():
    """A State cannot appear in the middle of a training."""

    def grow(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return updates, {"more": jnp.zeros(()), **state}

    model = mlp()
    optimizer = Optimizer(model, optax.GradientTransformation(lambda params: {"count": jnp.zeros(())}, grow))
    assert refuse(optimizer, model, ones(model)) == (
        "the transformation changed the structure of its state: memory.more is unknown"
    )


def test_unknown_extra_argument_is_refused():
    """What the transformation does not take, it refuses itself, and nothing is written."""
    model = mlp()
    optimizer = Optimizer(model, optax.GradientTransformation(decay, decay_on))
    before = [snapshot(model), snapshot(optimizer)]
    with pytest.raises(TypeError, match="unexpected keyword argument 'value'"):
        optimizer.update(model, ones(model), value=1.0)
    assert [snapshot(model), snapshot(optimizer)] == before


@pytest.mark.parametrize("outside", ["model", "optimizer"])
def test_traced_value_does_not_leak(outside: str):
    """Where either stays outside of the compiled function, that is an error, and neither is written."""
    model = mlp()
    optimizer = Optimizer(model, optax.trace(0.9))
    before = [snapshot(model), snapshot(optimizer)]
    structure, values = gn.treefy_split((model, optimizer))
    inside: list[Any] = []

    @jax.jit
    def step(values: gn.StateTree) -> None:
        merged, its = gn.treefy_merge(structure, values)
        inside.extend([merged, its])
        held = [one.value for one in gn.states((merged, its)).values()]
        with pytest.raises(gn.TraceError) as caught:
            if outside == "model":
                its.update(model, ones(merged))
            else:
                optimizer.update(merged, ones(merged))
        place = "layers.0.bias (ParamState)" if outside == "model" else "memory.trace.layers.0.bias (OptimizerState)"
        assert str(caught.value).startswith(f"{place} was made outside of the running JAX transformation")
        assert all(a is b.value for a, b in zip(held, gn.states((merged, its)).values(), strict=True))

    step(values)
    assert [snapshot(model), snapshot(optimizer)] == before


def test_missing_optax_is_named(monkeypatch: pytest.MonkeyPatch):
    """Without optax the module imports; an optimizer says what to install."""
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(ImportError) as caught:
        Optimizer(mlp(), adam)
    assert str(caught.value) == "graphnode.optim needs optax, which is not installed: pip install 'graphnode[optim]'"
    assert caught.value.name == "optax"


def test_names_of_the_module_are_these():
    """`graphnode.optim` has two classes of nodes and States, three functions, and what annotates fields."""
    public = sorted(name for name in vars(gn.optim) if not name.startswith("_"))
    assert public == ["Optimizer", "OptimizerState", "Schedule", "Transformation", "call", "labels", "lookahead"]


class Named(gn.Node):
    """One State, and others by name."""

    weight: gn.ParamState
    named: dict[str, gn.ParamState] = gn.state(default_factory=dict)


def test_a_state_that_has_got_an_earlier_path_is_the_same_state():
    """The optimizer knows it by the path that it had; others are still others."""
    model, twin = [Named(gn.ParamState(jnp.ones(2))) for _ in range(2)]
    optimizer, reference = [Optimizer(one, optax.adam(0.1)) for one in (model, twin)]
    for step in range(4):
        if step == 2:
            model.named["first"] = model.weight
        gradient = jnp.array([1.0, step])
        optimizer.update(model, {"weight": gradient} if step < 3 else {("named", "first"): gradient})
        reference.update(twin, {"weight": gradient})
    assert jnp.array_equal(model.weight.value, twin.weight.value)
    model.named["other"] = gn.ParamState(jnp.zeros(2))
    with pytest.raises(gn.UpdateError) as caught:
        optimizer.update(model, {"weight": jnp.ones(2)})
    assert str(caught.value) == (
        "cannot update Named: the optimizer was made for other States: named.other: expected nothing, found ParamState"
        + FOLLOWING
    )


def test_states_that_have_become_one_are_refused():
    """Two memories for one State."""
    model = Named(gn.ParamState(jnp.ones(2)), {"a": gn.ParamState(jnp.ones(2))})
    optimizer = Optimizer(model, optax.adam(0.1))
    model.named["a"] = model.weight
    with pytest.raises(gn.UpdateError) as caught:
        optimizer.update(model, {"weight": jnp.ones(2)})
    assert str(caught.value) == (
        "cannot update Named: the optimizer was made for other States: States that were apart are one: named.a"
        + FOLLOWING
    )


UNTYPED: Any = Optimizer
SECOND = "Optimizer takes an optax transformation second"


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(
    ("model", "tx", "text"),
    [
        (
            optax.sgd(0.1),
            gn.nn.Linear(2, 3),
            "Optimizer takes the model first: gn.optim.Optimizer(model, tx); found GradientTransformationExtraArgs, "
            "then a Linear",
        ),
        (
            gn.nn.Linear(2, 3),
            optax.adam,
            f"{SECOND}; found the function adam: call it, as in optax.adam(1e-3)",
        ),
        (gn.nn.Linear(2, 3), None, f"{SECOND}, such as optax.adam(1e-3); found None"),
        (gn.nn.Linear(2, 3), gn.nn.Linear(2, 3), f"{SECOND}, such as optax.adam(1e-3); found a Linear"),
        (gn.nn.Linear(2, 3), 1e-3, f"{SECOND}, such as optax.adam(1e-3); found float 0.001"),
    ],
)
def test_arguments_in_the_wrong_order_are_told(model: Any, tx: Any, text: str):
    """What is not a transformation is refused in the words of who calls the optimizer, not of who wrote it."""
    with pytest.raises(TypeError) as caught:
        UNTYPED(model, tx)
    assert type(caught.value) is TypeError
    assert str(caught.value) == text


def test_whatever_has_init_and_update_is_a_transformation():
    """`MultiSteps` is not a `GradientTransformation`, and is taken; its form is worked out once too."""
    asked: list[None] = []

    def init(params: Any) -> optax.EmptyState:
        asked.append(None)
        return optax.EmptyState()

    model = gn.nn.Linear(2, 3)
    before = model.weight.value
    inner = optax.GradientTransformation(init, optax.scale(-1.0).update)
    optimizer = Optimizer(model, optax.MultiSteps(inner, 2))
    for _ in range(4):
        optimizer.update(model, ones(model))
    assert jnp.allclose(model.weight.value, before - 2.0)
    assert len(asked) == 2
