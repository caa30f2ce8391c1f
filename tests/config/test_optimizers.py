"""Optimizers in files: transformations as calls of optax's factories, what is optimized by paths, and the way back."""

import copy
import enum
import functools
import inspect
import json
import math
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from pydantic import Field

import graphnode as gn
from graphnode.__main__ import main
from graphnode._registered import VALUES
from graphnode.optim._calls import ScheduleCall, TransformationCall, call_classes
from tests.config import optax_unimported

call: Any = gn.optim.call
"""With arguments of any kind; tests/typing has those that type checkers refuse."""


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
    """The transformations compute with integer counts, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers values for one test: others list the names."""

    def register(**values: Any) -> None:
        for name, value in values.items():
            monkeypatch.setitem(VALUES, name, value)

    return register


class Two(gn.Node):
    """Two layers."""

    encoder: gn.nn.Linear
    head: gn.nn.Linear


class Run(gn.Node):
    """A model and its optimizer."""

    model: Two
    optimizer: gn.optim.Optimizer


class Own(gn.Node):
    """Static fields of the two kinds."""

    tx: gn.optim.Transformation | None = gn.static(default=None)
    rate: gn.optim.Schedule | None = gn.static(default=None)


def raw_run(tx: Any, **more: Any) -> dict[str, Any]:
    # Two mappings: the same one twice would be one layer.
    encoder, head = [{"in_size": 2, "out_size": 2} for _ in range(2)]
    model = {"id": "model", "encoder": encoder, "head": head}
    return {"type": "Run", "model": model, "optimizer": {"model": {"ref": "model"}, "tx": tx, **more}}


def config_for(tx: Any, **more: Any) -> Any:
    return gn.config.validate(raw_run(tx, **more), Run)


def run_for(tx: Any, **more: Any) -> Run:
    config: gn.config.Config[Run] = config_for(tx, **more)
    return gn.config.build(config)


def model() -> Two:
    return run_for(SGD).model


def live(tx: Any, **more: Any) -> Run:
    """A run whose optimizer was made in Python."""
    made = model()
    return Run(made, gn.optim.Optimizer(made, tx, **more))


def fault(read: Callable[[], object]) -> str:
    with pytest.raises((gn.GraphnodeError, TypeError, ValueError)) as caught:
        read()
    return str(caught.value)


SGD = {"type": "sgd", "learning_rate": 0.1}
COSINE = {"type": "cosine_decay_schedule", "init_value": 0.1, "decay_steps": 3}
PIECES = {"type": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": [[2, 0.5]]}
JOINED = {"type": "join_schedules", "boundaries": [1]}
CLIP = {"type": "clip", "max_delta": 0.5}
ENCODER = gn.Under("encoder")


# What is built


def cosine() -> Any:
    return optax.cosine_decay_schedule(0.1, 3)


CASES: Mapping[str, tuple[Any, Callable[[], Any]]] = {
    "adamw with a schedule and a mask": (
        {"type": "adamw", "learning_rate": COSINE, "mask": {"encoder.**": True, "**": False}, "weight_decay": 0.3},
        lambda: optax.adamw(cosine(), mask=gn.optim.labels({ENCODER: True, ...: False}), weight_decay=0.3),
    ),
    "chain": (
        {"type": "chain", "args": [{"type": "clip_by_global_norm", "max_norm": 0.5}, {**SGD, "momentum": 0.9}]},
        lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1, momentum=0.9)),
    ),
    "MultiSteps": (
        {"type": "MultiSteps", "opt": {"type": "adam", "learning_rate": 0.1}, "every_k_schedule": 2},
        lambda: optax.MultiSteps(optax.adam(0.1), 2),
    ),
    "lookahead": (
        {"type": "lookahead", "fast_optimizer": SGD, "sync_period": 2, "slow_step_size": 0.5},
        lambda: gn.optim.lookahead(optax.sgd(0.1), 2, 0.5),
    ),
    "a schedule from pairs": (
        {**SGD, "learning_rate": {**PIECES, "init_value": 1}},
        lambda: optax.sgd(optax.piecewise_constant_schedule(1, {2: 0.5})),
    ),
    "joined schedules": (
        {**SGD, "learning_rate": {**JOINED, "schedules": [COSINE, {"type": "constant_schedule", "value": 3}]}},
        lambda: optax.sgd(optax.join_schedules([cosine(), optax.constant_schedule(3)], [1])),
    ),
    "what takes the loss": (
        {"type": "chain", "args": [CLIP, {"type": "polyak_sgd", "max_learning_rate": 0.1}]},
        lambda: optax.chain(optax.clip(0.5), optax.polyak_sgd(0.1)),
    ),
    "named parts": (
        {"type": "named_chain", "args": [["clip", CLIP], ["descend", SGD]]},
        lambda: optax.named_chain(("clip", optax.clip(0.5)), ("descend", optax.sgd(0.1))),
    ),
    "a mapping": (
        {"**": None, "encoder.**": {"type": "adam", "learning_rate": 0.1}},
        lambda: {ENCODER: optax.adam(0.1), ...: None},
    ),
    "a mapping of two": (
        {"encoder.**": {"type": "adam", "learning_rate": 0.1}, "head.**": SGD},
        lambda: {ENCODER: optax.adam(0.1), gn.Under("head"): optax.sgd(0.1)},
    ),
}


def after_three_steps(made: Run, **extra: float) -> list[np.ndarray[Any, Any]]:
    """The parameters and the memory, after steps with gradients that differ."""
    params = gn.treefy_states(made.model)
    for step in range(3):
        grads = jax.tree.map(lambda leaf, step=step: jnp.cos(leaf) * (step + 1), params)
        made.optimizer.update(made.model, grads, **extra)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(gn.treefy_states((made.model, made.optimizer)))]


@pytest.mark.parametrize("name", CASES)
def test_a_file_makes_what_the_same_calls_make_in_python(name: str):
    """After three steps the parameters and the memory are the same, bit for bit."""
    data, make = CASES[name]
    extra = {"value": 0.5} if name == "what takes the loss" else {}
    both = [after_three_steps(made, **extra) for made in (run_for(data), live(make()))]
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_arguments_after_defaults_that_a_file_leaves_out_are_passed(names: Callable[..., None]):
    """`*args` come behind parameters with defaults."""
    found: list[Any] = []

    def factory(first: float = 1.0, *rest: float, last: int = 3) -> optax.GradientTransformation:
        found.append((first, rest, last))
        return optax.sgd(first)

    names(factory=factory)
    run_for({"type": "factory", "rest": [2]})
    assert found[0] == (1.0, (2.0,), 3)


# What can be named

_REASONS = {
    "scale_by_factored_rms": "its annotations do not say that it gives a transformation",
    "monitor": "its annotations do not say that it gives a transformation",
    "multi_transform": "a mapping in `tx` says it",
    "partition": "a mapping in `tx` says it",
    "freeze": "`freeze` beside `tx` says it, and it takes trees alone",
    "selective_transform": "`freeze` beside `tx` says it, and it takes trees alone",
    "sgdr_schedule": "it takes a list of mappings: `join_schedules` says the same",
}
"""Factories of optax that files cannot name, and why not."""


def _gives(function: Any) -> bool:
    """Whether a function of optax gives a transformation or a schedule, by what is written in its source."""
    if inspect.isclass(function):
        return function is optax.MultiSteps
    if not inspect.isroutine(function):
        return False
    returned = inspect.signature(function).return_annotation
    is_transformation = "GradientTransformation" in str(returned) and "Callable" not in str(returned)
    return is_transformation or returned == optax.Schedule or function.__name__ in ("scale_by_factored_rms", "monitor")


def test_all_factories_of_optax_can_be_named_but_for_a_few():
    """What is new in optax is here too, or is a reason more."""
    public = {name: getattr(optax, name) for name in dir(optax) if not name.startswith("_")}
    factories = {
        name for name, one in public.items() if (inspect.isroutine(one) or inspect.isclass(one)) and _gives(one)
    }
    known = {cls.__name__ for base in _BASES for cls in call_classes(base) if cls.__name__ in public}
    assert factories - known == set(_REASONS)
    assert known - factories == set()


_BASES: tuple[Any, ...] = (TransformationCall, ScheduleCall)


def _sample(annotation: Any) -> Any:
    """A value for a parameter that is required."""
    text = str(annotation)
    for part, value in (
        ("Labels", {"**": True}),
        ("Transformation", SGD),
        ("tuple[graphnode.optim._parameters.Schedule", [COSINE]),
        ("Schedule", COSINE),
        ("Callable[[object], object]", "relu"),
        ("Callable[[object, object], object]", "two"),
        ("Callable", "relu"),
        ("tuple[int", [1]),
        ("str", "a"),
        ("int", 1),
        ("float", 0.5),
    ):
        if part in text:
            return value
    raise AssertionError(text)


def test_every_factory_is_read_and_written(names: Callable[..., None]):
    """With values for what is required, each is read, and written as it was."""
    names(two=lambda first, second: first)
    for base, field in zip(_BASES, ("tx", "rate"), strict=True):
        for cls in call_classes(base):
            required = [one for one in inspect.signature(cls).parameters.values() if one.default is one.empty]
            data = {"type": cls.__name__, **{one.name: _sample(one.annotation) for one in required}}
            config: Any = gn.config.validate({field: data}, Own)
            assert type(getattr(config, field)) is cls
            assert json.loads(gn.config.dump(config, format="json")) == {"type": "Own", field: data}, cls.__name__


class Mode(enum.Enum):
    FAST = "fast"
    SAFE = "safe"


def test_functions_of_all_kinds_can_be_registered(names: Callable[..., None]):
    """With annotations that are texts, partly given arguments, a class; with lists, mappings, enums as arguments."""

    class Descent:
        def __init__(self, rate: float = 0.1) -> None:
            self.descent = optax.sgd(rate)

        def init(self, params: Any) -> Any:
            return self.descent.init(params)

        def update(self, updates: Any, state: Any, params: Any = None) -> Any:
            return self.descent.update(updates, state, params)

    def listed(rate: float = 0.1, sizes: list[int] = [1, 2]) -> optax.GradientTransformation:  # noqa: B006
        assert list(sizes) in ([1, 2], [3])
        return optax.sgd(rate)

    def mapped(table: dict[str, float] = {"a": 0.5}) -> optax.GradientTransformation:  # noqa: B006
        return optax.sgd(table["a"])

    def kinds(
        mode: Mode, rate: Annotated[float, Field(gt=0)], dtype: Any = jnp.float32, mask: bool = False
    ) -> gn.optim.Transformation:
        assert mode is Mode.SAFE
        transformation: gn.optim.Transformation = optax.adam(rate, mu_dtype=dtype)
        return transformation

    def copied(copy: float = 0.1, json: int = 3) -> optax.GradientTransformation:
        return optax.sgd(copy)

    momentum = functools.partial(optax.sgd, momentum=0.9)
    names(Descent=Descent, listed=listed, mapped=mapped, kinds=kinds, copied=copied, momentum=momentum)
    names(by_module=optax_unimported.by_module, by_name=optax_unimported.by_name)
    names(free=optax.contrib.schedule_free_sgd, other=lambda x: x, odd=_odd)
    for data in (
        {"type": "by_module", "rate": COSINE},
        {"type": "by_name", "rate": 0.25},
        {"type": "momentum", "learning_rate": 0.25},
        {"type": "Descent", "rate": 0.25},
        {"type": "listed", "sizes": [3]},
        {"type": "listed"},
        {"type": "mapped", "table": [["a", 0.25]]},
        {"type": "mapped"},
        {"type": "kinds", "mode": "safe", "rate": 0.25, "dtype": "bfloat16", "mask": True},
        {"type": "copied", "copy": 0.25},
        {"type": "free", "learning_rate": 0.25},
    ):
        made = run_for(data)
        written = json.loads(gn.config.dump(gn.config.to_config(made), format="json"))
        assert written["optimizer"]["tx"] == data


def _odd(rate: Any) -> None:
    """A function whose annotations mean nothing: what is registered for other fields must not be in the way."""


_odd.__annotations__["rate"] = "no such name"


def test_a_parameter_with_a_name_of_a_calls_own_is_left_to_its_default(names: Callable[..., None]):
    """`type`, `init` and the like mean other things; what needs one is not offered."""

    def typed(type: str = "a", init: float = 1.0, _hidden: int = 0, rate: float = 0.1) -> optax.GradientTransformation:
        assert (type, init) == ("a", 1.0)
        return optax.sgd(rate)

    def needing(update: float) -> optax.GradientTransformation:
        return optax.sgd(update)

    names(typed=typed, needing=needing)
    run_for({"type": "typed", "rate": 0.5})
    assert fault(lambda: config_for({"type": "typed", "init": 0.5})) == (
        "optimizer.tx: typed: init: Extra inputs are not permitted"
    )
    assert fault(lambda: config_for({"type": "needing", "update": 1})).startswith(
        "optimizer.tx: unknown type 'needing'; "
    )


# Round trips


@pytest.mark.parametrize("format", ["yaml", "json", "toml"])
@pytest.mark.parametrize("name", CASES)
def test_what_dump_writes_loads_as_the_same_run(name: str, format: Any):
    """In each format, but that TOML has no null."""
    if name == "a mapping" and format == "toml":
        return
    made = run_for(CASES[name][0])
    config = gn.config.to_config(made)
    again = gn.config.loads(gn.config.dump(config, format=format), Run, format=format)
    assert again == config
    assert gn.graphdef(gn.config.build(again)) == gn.graphdef(made)


LIVE: Mapping[str, tuple[Callable[[], Run], dict[str, Any]]] = {
    "a call": (
        lambda: live(call(optax.adamw, call(optax.cosine_decay_schedule, 0.1, 3), b1=0.9, b2=0.5)),
        {"tx": {"type": "adamw", "learning_rate": COSINE, "b2": 0.5}},
    ),
    "calls in a list": (
        lambda: live(call(optax.sgd, call(optax.join_schedules, [call(optax.cosine_decay_schedule, 0.1, 3)] * 2, [1]))),
        {"tx": {**SGD, "learning_rate": {**JOINED, "schedules": [COSINE, COSINE]}}},
    ),
    "pairs": (
        lambda: live(call(optax.sgd, call(optax.piecewise_constant_schedule, 1.0, {2: 0.5}))),
        {
            "tx": {
                **SGD,
                "learning_rate": {
                    "type": "piecewise_constant_schedule",
                    "init_value": 1.0,
                    "boundaries_and_scales": [[2, 0.5]],
                },
            }
        },
    ),
    "labels": (
        lambda: live(call(optax.masked, call(optax.sgd, 0.1), gn.optim.labels({ENCODER: True, ...: False}))),
        {"tx": {"type": "masked", "inner": SGD, "mask": {"encoder.**": True, "**": False}}},
    ),
    "a mapping": (
        lambda: live({gn.PathIn("*.bias"): call(optax.sgd, 0.1), ...: None}),
        {"tx": {"*.bias": SGD, "**": None}},
    ),
    "what is frozen": (
        lambda: live(call(optax.sgd, 0.1), wrt=gn.All(gn.ParamState, gn.Not(ENCODER))),
        {"tx": SGD, "freeze": "encoder.**"},
    ),
    "a mapping of what is not frozen": (
        lambda: live(
            {gn.PathIn("*.bias"): call(optax.sgd, 0.1), gn.PathIn("*.weight"): None},
            wrt=gn.All(gn.ParamState, gn.Not(gn.PathIn("head.bias"))),
        ),
        {"tx": {"*.bias": SGD, "*.weight": None}, "freeze": "head.bias"},
    ),
    "what is changed": (
        lambda: live(call(optax.sgd, 0.1), wrt=gn.All(gn.ParamState, gn.Any(ENCODER, gn.PathIn("head.bias")))),
        {"tx": SGD, "wrt": ["ParamState", "encoder.**", "head.bias"]},
    ),
}


@pytest.mark.parametrize("name", LIVE)
def test_an_optimizer_made_in_python_says_what_it_is(name: str):
    """`to_config` writes its calls, masks and filters, and `build` makes an equal one."""
    make, expected = LIVE[name]
    made = make()
    config = gn.config.to_config(made)
    found = json.loads(gn.config.dump(config, format="json"))["optimizer"]
    assert found == {"type": "Optimizer", "model": {"ref": "model"}, **expected}
    assert gn.graphdef(gn.config.build(config)) == gn.graphdef(made)


class Many(gn.Node):
    """Models in a list, and optimizers."""

    models: list[Two]
    optimizer: gn.optim.Optimizer
    other: gn.optim.Optimizer | None = None


def test_an_optimizer_of_a_list_and_one_in_two_places():
    """The model may be a list, in a file as in Python; a shared optimizer is shared, and a model may have two."""
    models = [model(), model()]
    optimizer = gn.optim.Optimizer(models, call(optax.sgd, 0.1))
    for other in (optimizer, gn.optim.Optimizer(models, call(optax.adam, 0.1)), None):
        made = Many(models, optimizer, other)
        config = gn.config.to_config(made)
        again = gn.config.build(gn.config.loads(gn.config.dump(config), Many))
        assert gn.graphdef(again) == gn.graphdef(made)
        assert (again.other is again.optimizer) == (other is optimizer)
        assert gn.path_str(next(iter(again.optimizer.layout.paths()))) == "0.encoder.bias"


class Learner(gn.Node):
    """A model that holds the optimizer of one of its parts."""

    part: gn.nn.Linear
    optimizer: gn.optim.Optimizer | None = gn.subnode(default=None)


def test_a_model_may_hold_the_optimizer_of_a_part_but_not_its_own():
    """Its own would need the model before that is made."""
    layer = "{id: part, in_size: 2, out_size: 2}"
    text = "{id: me, part: %s, optimizer: {model: {ref: %s}, tx: {type: sgd, learning_rate: 1}}}"
    made = gn.config.build(gn.config.loads(text % (layer, "part"), Learner))
    assert gn.graphdef(gn.config.build(gn.config.to_config(made))) == gn.graphdef(made)
    assert fault(lambda: gn.config.build(gn.config.loads(text % (layer, "me"), Learner))) == (
        "optimizer: model refers back to a node that holds this one, so it must allow None until that is made"
    )


def test_fields_of_ones_own_take_calls_and_registered_values(names: Callable[..., None]):
    """`Transformation` and `Schedule` are annotations for static fields."""
    ready, rate = optax.sgd(0.1), optax.constant_schedule(0.1)
    names(ready=ready, rate=rate)
    config: Any = gn.config.loads("{tx: ready, rate: rate}", Own)
    assert (config.tx, config.rate) == (ready, rate)
    assert gn.config.dump(config) == "type: Own\ntx: ready\nrate: rate"
    called: Any = gn.config.validate({"tx": SGD}, Own)
    assert called.tx == call(optax.sgd, 0.1)


# Overrides

ADAM = {"type": "adam", "learning_rate": COSINE}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["optimizer.tx.learning_rate.decay_steps=7"], {"tx": {**ADAM, "learning_rate": {**COSINE, "decay_steps": 7}}}),
        (["optimizer.tx.b1=0.8"], {"tx": {**ADAM, "b1": 0.8}}),
        (["optimizer.tx.learning_rate=1"], {"tx": {"type": "adam", "learning_rate": 1}}),
        (["optimizer.tx.type=radam"], {"tx": {**ADAM, "type": "radam"}}),
        (["optimizer.tx={encoder.**: null, '**': {type: sgd, learning_rate: 2}}",
          'optimizer.tx."**".learning_rate=0.1'], {"tx": {"encoder.**": None, "**": SGD}}),
        (["optimizer.tx={type: chain, args: [{type: sgd, learning_rate: 2}]}",
          "optimizer.tx.args[0].learning_rate=0.1"], {"tx": {"type": "chain", "args": [SGD]}}),
        (["optimizer.freeze=[encoder.**]"], {"tx": ADAM, "freeze": "encoder.**"}),
        (["optimizer.freeze=encoder.**", "optimizer.freeze=null"], {"tx": ADAM}),
    ],
    ids=str,
)  # fmt: skip
def test_overrides_lead_into_calls(changes: list[str], expected: dict[str, Any]):
    """By the names of the arguments, positions, and paths in quotes."""
    changed = gn.config.override(config_for(ADAM), changes)
    found = json.loads(gn.config.dump(changed, format="json"))["optimizer"]
    assert found == {"type": "Optimizer", "model": {"ref": "model"}, **expected}


def test_two_pairs_with_one_key_are_refused():
    """A mapping would have the second alone."""
    schedule = {"type": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": [[2, 0.5], [4, 0.1]]}
    config = gn.config.validate({"rate": schedule}, Own)
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.override(config, ["rate.boundaries_and_scales[1][0]=2"])
    assert caught.value.faults == (
        "rate: piecewise_constant_schedule: boundaries_and_scales has two pairs with the key 2; write one of them",
    )


@pytest.mark.parametrize("freeze", [["encoder.**"], ["head.bias", "encoder.**"]])
def test_a_filter_has_no_positions(freeze: list[str]):
    """Its paths are regrouped: those below a node come first, so that a position would mean another item."""
    config = config_for(ADAM, freeze=freeze)
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.override(config, ["optimizer.freeze[0]=head.**", "optimizer.wrt[0]=head.**"])
    assert caught.value.faults == (
        "optimizer.freeze: a filter has no positions; write the whole value, optimizer.freeze=...",
        "optimizer.wrt: a filter has no positions; write the whole value, optimizer.wrt=...",
    )


# Equality


def test_equal_calls_are_traced_once():
    """Also with NaN, masks and mappings, and however the arguments were given; other ones are traced anew."""
    traced: list[str] = []

    @gn.jit
    def step(made: Two, optimizer: gn.optim.Optimizer) -> None:
        traced.append("")
        optimizer.update(made, gn.treefy_states(made))

    def traces(*transformations: Any) -> int:
        traced.clear()
        for one in transformations:
            made = model()
            step(made, gn.optim.Optimizer(made, one))
        return len(traced)

    def mask() -> Any:
        return gn.optim.labels({ENCODER: True, ...: False})

    assert traces(call(optax.sgd, 0.1), call(optax.sgd, learning_rate=0.1, momentum=None)) == 1
    assert traces(call(optax.sgd, 0.2), call(optax.sgd, 0.3)) == 2
    assert traces(*[call(optax.sgd, math.nan) for _ in range(2)]) == 1
    assert traces(*[call(optax.add_decayed_weights, 0.1, mask()) for _ in range(2)]) == 1
    assert traces(*[{ENCODER: call(optax.sgd, 0.1), ...: None} for _ in range(2)]) == 1
    assert traces(*[optax.sgd(0.1) for _ in range(2)]) == 2


def test_copies_and_pickles_are_equal():
    """Of calls, and of optimizers with them; a field of another value makes another one."""
    for one in (
        call(optax.adamw, call(optax.cosine_decay_schedule, 0.1, 3), mask=gn.optim.labels({ENCODER: True, ...: False})),
        call(optax.chain, call(optax.clip, 1.0), call(optax.sgd, 0.1)),
        call(optax.piecewise_constant_schedule, 1.0, {2: 0.5}),
        call(functools.partial(optax.sgd, momentum=0.9), 0.1).explicit(),
    ):
        for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert again == one
            assert type(again) is type(one)
    assert call(optax.sgd, 0.1) != call(optax.sgd, 0.2)
    assert call(optax.sgd, 0.1) != call(optax.noisy_sgd, 0.1)
    assert hash(call(optax.sgd, 0.1)) == hash(call(optax.sgd, 0.1))
    optimizer = live(call(optax.adam, 0.1)).optimizer
    assert gn.graphdef(pickle.loads(pickle.dumps(optimizer))) == gn.graphdef(optimizer)


def test_a_call_prints_its_arguments():
    """But for defaults; in an optimizer, too."""
    made = call(optax.chain, call(optax.clip, 1.0), call(optax.sgd, call(optax.constant_schedule, 0.5), nesterov=True))
    text = "chain(args=(clip(max_delta=1.0), sgd(learning_rate=constant_schedule(value=0.5), nesterov=True)))"
    assert gn.pformat(made, width=120) == text
    assert f"  tx={text},\n" in gn.pformat(live(made).optimizer, width=120)


# JSON Schema

RIGHT = [
    *[raw_run(data) for data, _ in CASES.values()],
    raw_run({"type": "sgd", "learning_rate": 1, "momentum": None}),
    raw_run(SGD, freeze=None),
    raw_run(SGD, freeze="encoder.**"),
    raw_run(SGD, wrt=["ParamState", "encoder.**"], freeze=["encoder.bias"]),
]
WRONG = [
    raw_run(tx)
    for tx in (
        None,
        3,
        "adam",
        [SGD],
        {"type": "sgd"},
        {"type": "sdg", "learning_rate": 1},
        {"learning_rate": 0.1},
        {**SGD, "rate": 1},
        {**SGD, "learning_rate": "a"},
        {**SGD, "learning_rate": True},
        {**SGD, "learning_rate": {"type": "adam", "learning_rate": 1}},
        {**SGD, "nesterov": 1},
        {"encoder.**": {"type": "sgd"}},
        {"type": "chain", "args": [SGD, {}]},
        {"type": "chain", "args": SGD},
        {"type": "adamw", "learning_rate": 1, "mask": True},
        {"type": "adamw", "learning_rate": 1, "mask": {"**": 1}},
        {"type": "adam", "learning_rate": 1, "mu_dtype": "float31"},
        COSINE,
    )
] + [raw_run(SGD, freeze=3), raw_run(SGD, freeze=[]), raw_run(SGD, wrt=None), raw_run(SGD, more=1)]


@functools.cache
def schema_validator(style: Any) -> Draft202012Validator:
    schema: Any = gn.config.json_schema(Run, style=style)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


STYLES = [pytest.param("strict", marks=pytest.mark.slow), "editor"]


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_the_schema_accepts_what_loads(style: Any):
    """All that is built and written above."""
    for raw in RIGHT:
        gn.config.validate(raw, Run)
        assert [error.message for error in schema_validator(style).iter_errors(raw)] == []


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_the_schema_refuses_what_does_not_load(style: Any):
    """Neither takes it."""
    for raw in WRONG:
        with pytest.raises(gn.ConfigError):
            gn.config.validate(raw, Run)
        assert not schema_validator(style).is_valid(raw), raw


# Errors


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        ({"type": "adamww"}, "unknown type 'adamww'; did you mean 'adamw'?"),
        ({"type": "adam"}, "adam: learning_rate: Field required"),
        ({**SGD, "rate": 1}, "sgd: rate: Extra inputs are not permitted"),
        ("adam", "a mapping with `type` is expected here, found 'adam'; write {type: adam, ...}"),
        (3, "a mapping with `type` is expected here, found 3"),
        (
            {**SGD, "learning_rate": {"type": "cosine_decay_schedule", "init_value": 1}},
            "sgd: learning_rate: cosine_decay_schedule: decay_steps: Field required",
        ),
        (
            {**SGD, "learning_rate": {"type": "constant_shedule"}},
            "sgd: learning_rate: unknown type 'constant_shedule'; did you mean 'constant_schedule'?",
        ),
        (
            {**SGD, "learning_rate": "a"},
            "sgd: learning_rate: Input should be a valid number, or: a mapping with `type` is expected here, found 'a'",
        ),
        (
            {**SGD, "accumulator_dtype": "bfloat61"},
            "sgd: accumulator_dtype: 'bfloat61' is not a valid dtype; did you mean 'bfloat16'?",
        ),
        (
            {"a..b": SGD},
            "path 'a..b' does not parse: expected a key at column 3, found '.b'; "
            "quote keys that hold blanks, dots, quotes or backslashes",
        ),
    ],
    ids=str,
)
def test_a_wrong_transformation_is_told(tx: Any, message: str):
    """With the path, what was found, and what would do."""
    assert fault(lambda: config_for(tx)) == f"optimizer.tx: {message}"


def test_a_mapping_without_a_type_and_a_wrong_filter_are_told():
    """A call whose type was forgotten, a row that is none, and filters that are no texts."""
    forgotten = fault(lambda: config_for({"learning_rate": 0.1}))
    assert forgotten.startswith("optimizer.tx: type is missing: one of MultiSteps, adabelief, ")
    expected = "paths, or names of State classes, are expected here, found"
    row = fault(lambda: config_for({"encoder.**": "adam"}))
    assert (
        row == "optimizer.tx.encoder.**: a mapping with `type` is expected here, found 'adam'; write {type: adam, ...}"
    )
    assert fault(lambda: config_for(SGD, freeze=3)) == f"optimizer.freeze: {expected} 3"
    assert fault(lambda: config_for(SGD, wrt=[1])) == f"optimizer.wrt: {expected} list"
    assert fault(lambda: config_for(SGD, wrt=None)) == f"optimizer.wrt: {expected} null"


NO_OTHER = "model: no other node here has the parameters that it optimizes, and it does not keep them"


def test_what_no_file_can_say_is_told(names: Callable[..., None]):
    """A transformation that no call made, a function without a name, filters of other kinds, and models."""

    def mine(rate: float) -> optax.GradientTransformation:
        return optax.sgd(rate)

    def written(tx: Any, **more: Any) -> str:
        return fault(lambda: gn.config.dump(gn.config.to_config(live(tx, **more))))

    made = "optimizer.tx: a transformation does not say what made it: make it with gn.optim.call"
    assert written(optax.sgd(0.1)) == made
    assert written(call(optax.chain, optax.sgd(0.1))) == made
    assert written({ENCODER: optax.sgd(0.1), ...: None}) == made
    assert written(call(optax.sgd, optax.constant_schedule(1.0))) == (
        "optimizer.tx: a schedule does not say what made it: make it with gn.optim.call"
    )
    assert written(call(mine, 0.1)) == (
        "optimizer.tx: mine(...): no file names the function that made it; "
        "register it with gn.config.register('mine', mine)"
    )
    names(mine=mine)
    assert "type: mine" in gn.config.dump(gn.config.to_config(live(call(mine, 0.1))))
    assert written(call(optax.sgd, 0.1), wrt=gn.PathContains("bias")) == (
        "optimizer.wrt: no file says the filter PathContains(key='bias'): "
        "paths and classes of States are what it can say"
    )
    alone = live(call(optax.sgd, 0.1)).optimizer
    assert fault(lambda: gn.config.to_config(alone)) == f"Optimizer.{NO_OTHER}"
    others = [model(), model()]
    several = Many(others, gn.optim.Optimizer(others[0], call(optax.sgd, 0.1)))
    assert fault(lambda: gn.config.to_config(several)) == (
        "optimizer.model: 2 nodes (Two, Two) have the parameters that it optimizes: which, it does not know"
    )


@pytest.mark.wrong_types
def test_a_call_of_what_is_no_factory_is_told():
    """What is called, and which argument is not as it takes them."""

    def keywords(rate: float, **more: float) -> optax.GradientTransformation:
        return optax.sgd(rate)

    def untold(rate: float) -> Any:
        return optax.sgd(rate)

    prefix = "gn.optim.call"
    taken = "takes what no file can say, or has a name that is used otherwise"
    assert fault(lambda: call(None)) == (
        f"{prefix} takes a function first, such as optax.adam, then its arguments; found None"
    )
    assert fault(lambda: call(optax.adam(1.0))).startswith(f"{prefix} takes a function first")
    says = "its annotations do not say that it returns a transformation or a schedule"
    assert fault(lambda: call(untold, 1.0)) == f"{prefix}: untold: {says}"
    assert fault(lambda: call(optax.adam)) == f"{prefix}: adam: missing a required argument: 'learning_rate'"
    assert fault(lambda: call(optax.adam, 1, b9=2)).startswith(f"{prefix}: adam: got an unexpected keyword")
    assert fault(lambda: call(keywords, 1.0, more=2.0)) == f"{prefix}: keywords: its parameter 'more' {taken}"
    assert fault(lambda: call(optax.partition, {}, {})) == f"{prefix}: partition: its parameter 'transforms' {taken}"


CHECKED = """
import graphnode as gn


class Checked(gn.Node):
    model: gn.nn.MLP
    optimizer: gn.optim.Optimizer
"""


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (
            "tx: {type: sgd, learning_rate: 1}, freeze: [layers.7.**]",
            "no State is at or below 'layers.7' (did you mean 'layers.1'?)",
        ),
        (
            "tx: {layers.**: {type: sgd, learning_rate: 1}, layers.0.bias: null}",
            "two answers for one State: layers.0.bias, by Under('layers') and by PathIn('layers.0.bias')",
        ),
        ("tx: {layers.0.**: null, layers.1.bias: null}", "no filter of "),
        (
            "tx: {type: sgd, learning_rate: {type: cosine_decay_schedule, init_value: 1, decay_steps: -1}}",
            "ValueError: The cosine_decay_schedule requires positive decay_steps, got decay_steps=-1.",
        ),
    ],
)
def test_the_command_finds_what_the_model_shows(
    optimizer: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A path that leads nowhere, an overlap, a State of no filter, what optax refuses: each at its line."""
    Path(tmp_path, "checked_run.py").write_text(CHECKED)
    model = "{id: model, in_size: 2, hidden_size: 3, out_size: 1}"
    Path(tmp_path, "run.yaml").write_text(
        f"type: Checked\nmodel: {model}\noptimizer: {{model: {{ref: model}}, {optimizer}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(main, ["config", "check", "--import", "checked_run", "run.yaml"])
    monkeypatch.delitem(sys.modules, "checked_run")
    assert result.exit_code == 1
    assert result.output.startswith(f"run.yaml:3:12: optimizer: {message}")


class Peer(gn.Node):
    layer: gn.nn.Linear
    peer: "Peer | None" = None


class Peers(gn.Node):
    first: Peer
    optimizer: gn.optim.Optimizer


@pytest.mark.parametrize("model", ["a", "b"])
def test_an_optimizer_is_made_when_its_model_is_complete(model: str):
    """References back in the model are set before it looks at the States."""
    text = f"""
    first:
      id: a
      layer: {{in_size: 1, out_size: 1}}
      peer: {{id: b, layer: {{in_size: 1, out_size: 2}}, peer: {{ref: a}}}}
    optimizer: {{model: {{ref: {model}}}, tx: {{type: adam, learning_rate: 0.1}}}}
    """
    node = gn.config.build(gn.config.loads(text, Peers))
    optimized = node.first if model == "a" else node.first.peer
    node.optimizer.update(optimized, gn.treefy_states(optimized))
    assert len(node.optimizer.layout) == 4
    assert gn.graphdef(gn.config.build(gn.config.to_config(node))) == gn.graphdef(node)


class Inside(gn.Node):
    layer: gn.nn.Linear
    outside: "Outside | None" = None


class Outside(gn.Node):
    model: Inside
    optimizer: gn.optim.Optimizer | None = None


def test_a_model_may_refer_back_to_what_holds_its_optimizer():
    """That reference is set last."""
    text = """
    id: run
    model: {id: model, layer: {in_size: 1, out_size: 1}, outside: {ref: run}}
    optimizer: {model: {ref: model}, tx: {type: sgd, learning_rate: 0.1}}
    """
    node = gn.config.build(gn.config.loads(text, Outside))
    assert node.model.outside is node
    assert node.optimizer is not None
    node.optimizer.update(node.model, gn.treefy_states(node.model, gn.Under("layer")))


class Whole(gn.Node):
    hidden: gn.nn.Linear
    head: gn.nn.Linear


class WholeRun(gn.Node):
    model: Whole
    optimizer: gn.optim.Optimizer


def test_an_alias_is_the_model_as_a_reference_is():
    """Though a mapping without a type is no node elsewhere."""
    layers = "hidden: {in_size: 2, out_size: 3}, head: {in_size: 3, out_size: 1}"
    tx = "tx: {type: sgd, learning_rate: 0.1}"
    alias = gn.config.loads(f"model: &m {{{layers}}}\noptimizer: {{model: *m, {tx}}}", WholeRun)
    ref = gn.config.loads(f"model: {{id: m, {layers}}}\noptimizer: {{model: {{ref: m}}, {tx}}}", WholeRun)
    assert alias.optimizer.model is alias.model
    assert alias == ref


def test_a_call_is_pickled_by_what_was_given():
    """What optax has as a default may be no function of a module."""
    made = gn.optim.call(optax.lbfgs, 0.1)
    assert pickle.loads(pickle.dumps(made)) == made
