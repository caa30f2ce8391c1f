"""Two processes under `jax.distributed`, with four simulated devices each: they make, train, move and save a model."""

import re
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.devices import run_together, run_two, run_with_devices
from tests.example_programs import EXAMPLES, load
from tests.example_programs import as_a_reader_has_it as as_a_reader_has_it

PREAMBLE = """
import jax.numpy as jnp, numpy as np, optax
import graphnode as gn
from graphnode import sharding

P = jax.P
AUTO = (jax.sharding.AxisType.Auto,) * 2

def mesh_of(*shape):
    return jax.make_mesh(shape, ("data", "model"), axis_types=AUTO)

MESH, KEY = mesh_of(4, 2), jax.random.key(3)
RULES = sharding.Rules(params={"in": "data", "out": "model"}, default=None)

class Net(gn.Node):
    linear: gn.nn.Linear
    scale: gn.ParamState
    rngs: gn.Rngs

def build():
    return Net(gn.nn.Linear(8, 4), gn.ParamState(jnp.asarray(2.0)), gn.Rngs(5))

def plan_for(build, rules=RULES, mesh=MESH):
    return sharding.plan(gn.eval_shape(build), mesh, rules)

PLAN = plan_for(build)

def bits(value):
    return jax.random.key_data(value) if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value

def assert_same(net, expected, plan):
    \"\"\"Each part is where the plan says, and has the numbers that one device has.\"\"\"
    for path, state in gn.states(net).items():
        host = np.asarray(bits(gn.states(expected)[path].value))
        assert state.value.sharding.is_equivalent_to(plan.shardings[path], state.value.ndim), path
        for shard in bits(state.value).addressable_shards:
            assert np.allclose(shard.data, host[shard.index], atol=1e-6), path

def error_of(call, *args):
    try:
        call(*args)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("nothing was raised")
"""


def run(body: str, folder: Path) -> None:
    """Run a program in two processes with four devices each."""
    run_two(PREAMBLE + textwrap.dedent(body), folder)


def losses_of(text: str, process: str = "process 0 of 1: ") -> dict[int, float]:
    """The losses that a process of the example has printed, by step."""
    return {int(step): float(loss) for step, loss in re.findall(process + r"step (\d+): loss ([\d.]+)", text)}


@pytest.mark.slow
def test_a_run_goes_on_with_other_processes_and_devices(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Two processes, then one with eight devices on another mesh, then one device: the losses of one device alone."""
    example, directory = load("several_hosts"), str(tmp_path / "run")
    assert example.main(["--launch", "2", "--directory", directory]) == 0
    printed = capfd.readouterr().out
    first, second = [losses_of(printed, f"process {rank} of 2: ") for rank in range(2)]
    assert first == second
    assert list(first) == [1, 2, 3, 4]

    command = [str(EXAMPLES / "several_hosts.py"), "--directory", directory]
    (text,) = run_together([[*command, "--model", "4", "--steps", "6"]], tmp_path, devices=8)
    third = losses_of(text)
    (text,) = run_together([[*command, "--model", "1", "--steps", "8"]], tmp_path, devices=1)
    last = losses_of(text)

    assert len(jax.devices()) == 1
    expected = example.train(example.plan_for(1), tmp_path / "alone", 8)
    losses = first | third | last
    assert list(losses) == list(range(1, 9))
    assert np.allclose(list(losses.values()), expected, rtol=1e-4)


@pytest.mark.slow
def test_a_model_is_made_moved_gathered_and_saved_by_two_processes(tmp_path: Path):
    """The numbers of one device, keys too; what one process has whole is moved, whatever device it was put on."""
    run(
        """
        with gn.random.scope(KEY):
            one = build()
        net = sharding.init(build, KEY, PLAN)
        assert_same(net, one, PLAN)
        assert not net.linear.weight.value.is_fully_addressable

        # Neither of these fetches what another process has.
        assert repr(net.linear.weight) == "ParamState(f32[8,4])", repr(net.linear.weight)
        optimizer = gn.optim.Optimizer(net.linear, optax.adam(0.1))
        for text in map(repr, (net, optimizer, gn.states(net), gn.treefy_states(net), gn.graphdef(net), PLAN)):
            assert "8,4" in text.replace(" ", "") or "Linear" in text

        def moved():
            with gn.random.scope(KEY):
                return build()
        live = moved()
        assert sharding.place(live, PLAN) is live
        assert_same(live, one, PLAN)
        assert live.scale.value.weak_type == one.scale.value.weak_type
        own = jax.local_devices()[1]
        committed = moved()
        for state in gn.states(committed).values():
            state.value = jax.device_put(state.value, own)
        assert_same(sharding.place(committed, PLAN), one, PLAN)

        sharding.gather(live, PLAN)
        assert np.allclose(live.linear.weight.value, one.linear.weight.value, atol=1e-6)
        local = jax.sharding.Mesh(np.array(jax.local_devices()).reshape(2, 2), ("data", "model"))
        for mesh in (mesh_of(2, 4), local):
            sharding.gather(live, PLAN)
            assert_same(sharding.place(live, plan_for(build, mesh=mesh)), one, plan_for(build, mesh=mesh))
            if mesh is not local:
                sharding.place(live, PLAN)

        gn.checkpoint.save(folder + "/saved", {"net": net})
        other = plan_for(build, mesh=mesh_of(2, 4))
        copy = sharding.abstract(gn.eval_shape(build), other)
        gn.checkpoint.restore(folder + "/saved", {"net": copy})
        assert_same(copy, one, other)

        for suffix in ("npz", "safetensors"):
            text = error_of(gn.checkpoint.write, net.linear, f"{folder}/{rank}.{suffix}")
            assert "weight: this process has a part of it alone; gather it in all processes first" in text, text
        sharding.gather(net, PLAN)
        for suffix in ("npz", "safetensors"):
            gn.checkpoint.write(net.linear, f"{folder}/{rank}.{suffix}")
        """,
        tmp_path,
    )
    program = f"""
    with gn.random.scope(KEY):
        one = build()
    eight = plan_for(build, mesh=mesh_of(8, 1))
    copy = sharding.abstract(gn.eval_shape(build), eight)
    gn.checkpoint.restore({str(tmp_path / "saved")!r}, {{"net": copy}})
    assert_same(copy, one, eight)
    for name in ("0.npz", "1.npz", "0.safetensors", "1.safetensors"):
        linear = gn.nn.Linear(8, 4)
        gn.checkpoint.read({str(tmp_path)!r} + "/" + name, into=linear)
        assert np.allclose(linear.weight.value, one.linear.weight.value, atol=1e-6)
    """
    run_with_devices("import jax\n" + PREAMBLE + textwrap.dedent(program), 8)


@pytest.mark.slow
def test_processes_that_do_not_do_the_same_are_told_what_differs(tmp_path: Path):
    """Keys, models, static values, plans, constants, values and faults of one process: all raise, before any harm."""
    run(
        """
        NEEDS = "ProcessError: gn.sharding.init needs the same in all processes: "

        text = error_of(sharding.init, build, jax.random.key(rank), PLAN)
        assert text == NEEDS + "key: process 0 has [0, 0] of key<fry>; process 1 has [0, 1] of key<fry>", text

        def dropout():
            return gn.nn.Dropout([0.1, 0.2][rank])
        text = error_of(sharding.init, dropout, KEY, plan_for(dropout, sharding.Rules(default=None)))
        assert text == NEEDS + "rate: process 0 has 0.1; process 1 has 0.2", text

        rules = sharding.Rules(params={"in": ["data", "model"][rank], "out": None}, default=None)
        text = error_of(sharding.init, build, KEY, plan_for(build, rules))
        assert text == NEEDS + (
            "linear.weight: process 0 has ParamState float32[8, 4] P('data', None); "
            "process 1 has ParamState float32[8, 4] P('model', None)"
        ), text

        rules = sharding.Rules(activations={"batch": ["data", "model"][rank]}, default=None)
        text = error_of(sharding.init, build, KEY, plan_for(build, rules))
        activations = "activations of the rules: process 0 has {'batch': 'data'}; process 1 has {'batch': 'model'}"
        assert text == NEEDS + activations, text

        text = error_of(sharding.init, build, KEY, plan_for(build, mesh=mesh_of(*[(4, 2), (2, 4)][rank])))
        assert text.startswith(NEEDS + "the mesh: process 0 has {'data': 4, 'model': 2} on devices [0, "), text

        def tied():
            first, second = gn.nn.Linear(2, 2), gn.nn.Linear(2, 2)
            return {"a": first, "b": first if rank else second}
        text = error_of(sharding.init, tied, KEY, plan_for(tied, sharding.Rules(default=None)))
        assert "\\n  references to a: process 0 has nothing there; process 1 has b" in text, text
        assert "\\n  b.weight: process 0 has ParamState" in text, text

        def constant():
            numbers = np.arange(9.0, dtype=np.float32) + rank
            return Net(gn.nn.Linear(8, 4), gn.ParamState(jnp.asarray(numbers)), gn.Rngs(5))
        text = error_of(sharding.init, constant, KEY, plan_for(constant))
        assert text.startswith(NEEDS + "what build computes: process 0 has a program of "), text
        assert text.endswith("jax.process_index(), are constants there: draw them from the key"), text

        def failing():
            if rank:
                raise OSError("no file")
            return build()
        text = error_of(sharding.init, failing, KEY, PLAN)
        assert text == ["ProcessError: gn.sharding.init: process 1: OSError: no file", "OSError: no file"][rank], text

        for name in ("place", "gather"):
            with gn.random.scope(KEY):
                net = build()
            net.linear.bias.value += rank
            value, before = net.linear.bias.value, net.linear.weight.value
            text = error_of(getattr(sharding, name), net, PLAN)
            assert text == f"ProcessError: gn.sharding.{name} needs the same in all processes: " + (
                "value of linear.bias: process 0 has [0.0, 0.0, 0.0, ...], CRC-32 ecbb4b55; "
                "process 1 has [1.0, 1.0, 1.0, ...], CRC-32 e8681456"
            ), text
            assert net.linear.bias.value is value and net.linear.weight.value is before

        class Masked(gn.Node):
            mask: jax.Array = gn.static()
        net = sharding.init(build, KEY, PLAN)
        text = error_of(Masked, net.linear.weight.value)
        assert text == (
            "FieldError: Masked.mask: an array with parts in other processes cannot be static, "
            "as its content is not known here: hold it in a State"
        ), text

        # The processes are in step, after all of these.
        sharding.gather(net, PLAN)
        """,
        tmp_path,
    )
