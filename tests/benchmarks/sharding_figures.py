"""The figures of models over eight simulated devices: what is compiled, plans, making a large model, and calls.

JAX is told of the devices before it starts, so each part runs in a process of its own, which prints its results.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import jax
import optax
from jaxtyping import Array, Float

import graphnode as gn

from ..collectives import KINDS, collectives_in
from .library import GRAPHNODE
from .measures import Result, as_result, record_of
from .memory import most_memory
from .models import transformer_on_graphnode as on_graphnode
from .models.transformer_by_hand import Axes, compiled_by_hand
from .step_figures import costs_of
from .steps import GN_JIT, JAX_TUPLE, advance
from .timing import Effort, always, interleave, sampler
from .transformer import LEARNING_RATE, Sizes, batch_of, weights_of

BY_HAND: Final = "JAX by hand"
ITS_BYTES: Final = "its bytes"
DEVICES: Final = 8
_ALL: Final = ("data", "model")
LAYOUTS: Final[Mapping[str, Axes]] = {
    "data parallel": Axes(batch=_ALL),
    "fully sharded": Axes(batch=_ALL, embed=_ALL),
    "tensor parallel": Axes(batch="data", heads="model"),
    "both": Axes(batch="data", embed="data", heads="model"),
}
SIZES: Final = Sizes(layers=2, width=64, heads=4, batch=8, length=32)
"""Small: what is compared is counted, and every layer is the same."""
_STEP_STATES: Final = 3 * (16 * SIZES.layers + 4) + 2
"""Parameters, adam's two averages of each, and the numbers of steps that it and the optimizer count."""
_MOST_BYTES: Final = 1.0001
"""An optimizer counts its steps, in one number that the hand-written step does not have."""
_PLAN_STATES: Final = 10_000
_PLAN_SECONDS: Final = 1.0
_LARGE_LAYERS: Final = 32
_LARGE_WIDTH: Final = 4096
"""2 GB in float32."""
_MOST_PEAK: Final = 1.3
_CALL_STATES: Final = 101
_MOST_CALL: Final = 1.15


def measure_sharding(effort: Effort) -> list[Result]:
    """All figures."""
    return [result for part in _PARTS for result in _in_a_process(part, effort)]


def _in_a_process(part: str, effort: Effort) -> list[Result]:
    print(f"sharding: {part}", flush=True)
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "tests.benchmarks.sharding_figures", part, str(effort.rounds), str(effort.seconds)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=root)
    return [as_result(record) for record in json.loads(done.stdout.splitlines()[-1])]


def mesh_of(data: int, model: int) -> jax.sharding.Mesh:
    """A mesh whose layouts XLA looks after."""
    return jax.make_mesh((data, model), _ALL, axis_types=(jax.sharding.AxisType.Auto,) * 2)


def rules_of(axes: Axes) -> gn.sharding.Rules:
    """What the hand-written program says of each parameter and in its code, as rules."""
    heads = {role: axes.heads for role in ("heads", "kv_heads", "mlp")}
    return gn.sharding.Rules(
        params={"embed": axes.embed, "width": axes.embed, "vocab": None, "length": None, **heads},
        activations={"batch": axes.batch, "embed": None, **heads},
    )


def compiled_on_graphnode(sizes: Sizes, mesh: jax.sharding.Mesh, axes: Axes) -> jax.stages.Compiled:
    """The training step that a plan lays out."""
    model = on_graphnode.model_of(sizes, weights_of(sizes))
    pair = model, gn.optim.Optimizer(model, optax.adam(LEARNING_RATE))
    plan = gn.sharding.plan(pair, mesh, rules_of(axes))
    gn.sharding.place(pair, plan)
    with plan:
        batch = gn.sharding.constrain(batch_of(sizes), "batch", None)
        return gn.jit(on_graphnode.train, donate=True).lower(*pair, batch).compile()


def compiled_figures(effort: Effort) -> list[Result]:
    """Collectives by kind, operations and bytes of the compiled step, beside the one that is written by hand."""
    weights, batch, mesh = weights_of(SIZES), batch_of(SIZES), mesh_of(2, 4)
    results: list[Result] = []
    for name, axes in LAYOUTS.items():
        compiled = {
            GRAPHNODE: compiled_on_graphnode(SIZES, mesh, axes),
            BY_HAND: compiled_by_hand(SIZES, weights, batch, mesh, axes),
        }
        numbers = {who: {**collectives_in(one.as_text() or ""), **costs_of(one)} for who, one in compiled.items()}
        for what in (*KINDS, "operations", "bytes"):
            measured = {who: float(found.get(what, 0)) for who, found in numbers.items()}
            if any(measured.values()):
                limit = _MOST_BYTES if what == "bytes" else 1.0
                results.append(_counted(f"{what} of a step, {name}", measured, limit))
    return results


def _counted(title: str, measured: Mapping[str, float], limit: float) -> Result:
    own, other = measured[GRAPHNODE], measured[BY_HAND]
    # Where the other has none, none is the limit.
    ratio = own / other if other else own
    return Result("sharding-compiled", title, _STEP_STATES, ratio, BY_HAND, limit, measured, is_count=True)


class Affine(gn.Node):
    """A weight and a bias."""

    n_in: int
    n_out: int
    weight: gn.ParamState[Float[Array, "in=n_in out=n_out"]] = gn.state(jax.nn.initializers.lecun_normal())
    bias: gn.ParamState[Float[Array, "out=n_out"]] = gn.state(jax.nn.initializers.zeros)


_AFFINE_RULES: Final = gn.sharding.Rules(params={"in": "data", "out": "model"})


def affine_maps(states: int, width: int) -> list[Affine]:
    """So many States, two in each map."""
    return [Affine(width, width) for _ in range(states // 2)]


def plan_figures(effort: Effort) -> list[Result]:
    """How long a plan of many States takes, without a device."""
    model = gn.eval_shape(partial(affine_maps, _PLAN_STATES, 8))
    mesh = jax.sharding.AbstractMesh((2, 4), _ALL)
    samples = [_seconds(partial(gn.sharding.plan, model, mesh, _AFFINE_RULES)) for _ in range(effort.rounds)]
    seconds = median(samples)
    measured = {GRAPHNODE: seconds}
    return [Result("sharding-plan", "a plan", _PLAN_STATES, seconds, None, _PLAN_SECONDS, measured, per="plan")]


def _seconds(call: Callable[[], object]) -> float:
    """Of the processor: what else runs on the machine hardly counts."""
    start = time.process_time()
    call()
    return time.process_time() - start


def init_figures(effort: Effort) -> list[Result]:
    """The most memory that is taken while a large model is made, over the bytes of the model."""
    build = partial(affine_maps, 2 * _LARGE_LAYERS, _LARGE_WIDTH)
    plan = gn.sharding.plan(gn.eval_shape(build), mesh_of(2, 4), _AFFINE_RULES)
    size = plan.bytes * DEVICES
    # What JAX and XLA take for themselves at the first program.
    jax.block_until_ready(gn.sharding.init(partial(affine_maps, 2, 8), jax.random.key(0), plan_of_small()))
    before = most_memory()
    model = gn.sharding.init(build, jax.random.key(0), plan)
    peak = most_memory() - before
    title = f"most memory of `init` of {size / 1e9:.1f} GB over {DEVICES} devices"
    measured = {GRAPHNODE: float(peak), ITS_BYTES: float(size)}
    states = len(gn.states(model))
    return [Result("sharding-init", title, states, peak / size, ITS_BYTES, _MOST_PEAK, measured, is_count=True)]


def plan_of_small() -> gn.sharding.Plan:
    """Of the smallest model."""
    return gn.sharding.plan(gn.eval_shape(partial(affine_maps, 2, 8)), mesh_of(2, 4), _AFFINE_RULES)


def call_figures(effort: Effort) -> list[Result]:
    """A call of a compiled function that writes all States of a model, laid out by a plan."""
    build = partial(affine_maps, _CALL_STATES, 8)
    plan = gn.sharding.plan(gn.eval_shape(build), mesh_of(2, 4), _AFFINE_RULES)
    model = gn.sharding.init(build, jax.random.key(0), plan)
    arrays = tuple([state.value for state in gn.states(model).values()])

    @gn.jit
    def on_nodes(model: list[Affine]) -> None:
        for state in gn.states(model).values():
            state.value = advance(state.value)

    @jax.jit
    def on_tuple(arrays: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(map(advance, arrays))

    def call_on_nodes() -> None:
        on_nodes(model)
        jax.block_until_ready(model[-1].weight.value)

    def call_on_tuple() -> None:
        nonlocal arrays
        arrays = on_tuple(arrays)
        jax.block_until_ready(arrays[-1])

    calls = {GN_JIT: call_on_nodes, JAX_TUPLE: call_on_tuple}
    with plan:
        samplers = {name: sampler(always(call), effort.seconds, time.perf_counter) for name, call in calls.items()}
        samples = interleave(samplers, effort.rounds)
    return [
        Result(
            "sharding-call",
            "a call that writes all, over 8 devices",
            len(arrays),
            samples.ratio(GN_JIT, JAX_TUPLE),
            JAX_TUPLE,
            _MOST_CALL,
            {name: samples.median(name) for name in calls},
        )
    ]


_PARTS: Final[Mapping[str, Callable[[Effort], list[Result]]]] = {
    "compiled": compiled_figures,
    "plan": plan_figures,
    "init": init_figures,
    "call": call_figures,
}


def main() -> None:
    """Measure one part, as the command line says, and print its results as JSON."""
    part, rounds, seconds = sys.argv[1:]
    results = _PARTS[part](Effort(int(rounds), float(seconds)))
    print(json.dumps([record_of(result) for result in results]))


if __name__ == "__main__":
    main()
