"""Arrays that are laid out over devices: saved on one mesh, restored on another, by one process and by two."""

import os
import textwrap
from pathlib import Path

import pytest

from tests.devices import run_two, run_with_devices

PREAMBLE = """
import sys, tempfile
import jax, jax.numpy as jnp, numpy as np
import graphnode as gn
from graphnode.checkpoint import _read
from tests.checkpoint.nets import refused, same
jax.config.update("jax_numpy_dtype_promotion", "strict")
P, NamedSharding = jax.P, jax.NamedSharding

def mesh(*shape):
    devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
    return jax.sharding.Mesh(devices, ("x", "y")[: len(shape)])

class Net(gn.Node):
    weight: gn.ParamState
    half: gn.ParamState
    small: gn.ParamState
    scale: gn.ParamState
    keys: gn.State
    cache: gn.State

def net(by=1):
    values = jnp.arange(64.0).reshape(8, 8) * by
    return Net(
        weight=gn.ParamState(values),
        half=gn.ParamState(values.astype(jnp.bfloat16)),
        small=gn.ParamState(values.astype(jnp.float8_e4m3)),
        scale=gn.ParamState(jnp.full(8, 2.0 * by)),
        keys=gn.State(jax.random.split(jax.random.key(by), 8)),
        cache=gn.State({"none": jnp.zeros((0, 8)), "ints": (values.astype(jnp.uint4), jax.random.key(by))}),
    )

def shardings(mesh):
    axes, first = P(*mesh.axis_names), mesh.axis_names[0]
    at = lambda *spec: NamedSharding(mesh, P(*spec))
    cache = {"none": at(None, first), "ints": (at(*axes), at())}
    flat = {"weight": at(*axes), "half": at(*axes), "small": at(None, first), "scale": at(first), "keys": at(first)}
    return flat, cache

def placed(node, mesh):
    flat, cache = shardings(mesh)
    for name, sharding in flat.items():
        state = getattr(node, name)
        state.value = jax.device_put(state.value, sharding)
    node.cache.value = jax.tree.map(jax.device_put, node.cache.value, cache)
    return node

def values(node):
    return [state.value for state in gn.states(node).values()]

def check(node, mesh, by=1):
    flat, cache = shardings(mesh)
    for name, sharding in flat.items():
        check_leaf(getattr(node, name).value, sharding)
    jax.tree.map(check_leaf, node.cache.value, cache)
    assert node.scale.value.weak_type and not node.weight.value.weak_type

def check_leaf(leaf, sharding):
    assert leaf.sharding == sharding, (leaf.sharding, sharding)
    expected = sharding.shard_shape(leaf.shape)
    assert {shard.data.shape for shard in leaf.addressable_shards} == {expected}
"""


def run(body: str) -> None:
    """Run a program with eight host devices."""
    run_with_devices(PREAMBLE + textwrap.dedent(body), 8)


@pytest.mark.slow
def test_values_come_back_on_another_mesh():
    """From any to any, where the live tree has them or where `shardings` says: dtypes, keys, weak types, no items."""
    run("""
    folder = tempfile.mkdtemp()
    requests = {}
    read = _read.read
    def counted(path, wanted):
        requests.clear()
        requests.update(wanted)
        return read(path, wanted)
    _read.read = counted

    for before, after in [((4, 2), (2, 4)), ((8,), (1,)), ((1,), (8,)), ((2, 4), (8,))]:
        source, target = mesh(*before), mesh(*after)
        saved = placed(net(), source)
        gn.checkpoint.save(folder + "/run", {"model": saved, "step": 3}, overwrite=True)

        live = {"model": placed(net(0), target), "step": 0}
        assert gn.checkpoint.restore(folder + "/run", live)["step"] == 3
        check(live["model"], target)
        assert same(values(live["model"]), values(saved))

        flat, cache = shardings(target)
        live = {"model": placed(net(0), source), "step": 0}
        gn.checkpoint.restore(folder + "/run", live, shardings={"model": {**flat, "cache": cache}})
        check(live["model"], target)
        assert same(values(live["model"]), values(saved))

        loaded = gn.checkpoint.load(folder + "/run", Net, at="model", shardings={**flat, "cache": cache})
        check(loaded, target)
        assert same(values(loaded), values(saved))

        # Each device is given its part by the store: nobody has asked for a whole array.
        stored = {"weight", "half", "small", "scale", "keys", "cache.ints.0", "cache.ints.1"}
        assert set(requests) == {f"model.{name}" for name in stored}
        for wanted in requests.values():
            if target.size > 1:
                assert isinstance(wanted, jax.ShapeDtypeStruct) and wanted.sharding.mesh == target
    """)


@pytest.mark.slow
def test_shardings_are_checked_before_anything_is_read():
    """What does not divide an array, or is for another rank, is told for all arrays at once, with paths."""
    run("""
    folder = tempfile.mkdtemp()
    tree = {"a": jnp.ones((8, 6)), "b": jnp.ones(()), "c": jnp.ones((8, 8)), "d": jax.random.key(0)}
    gn.checkpoint.save(folder + "/run", tree)
    sharding = NamedSharding(mesh(2, 4), P("x", "y"))
    read, _read.read = _read.read, None
    try:
        gn.checkpoint.restore(folder + "/run", tree, shardings=sharding)
    except gn.CheckpointError as error:
        faults = error.faults
    assert [fault.path for fault in faults] == ["a", "b", "d"]
    layout = "cannot be laid out as " + str(sharding)
    assert str(faults[0]).startswith(f"a: float32[8,6] {layout}: "), faults[0]
    assert str(faults[1]) == f"b: float32[] {layout}: its spec is for 2 axes or more"

    node = net()
    gn.checkpoint.save(folder + "/net", node)
    for wrong in ({"weight": 3}, {gn.ParamState: {"a": sharding}}):
        try:
            gn.checkpoint.restore(folder + "/net", node, shardings=wrong)
        except gn.FilterTypeError as error:
            assert str(error).startswith("shardings takes a sharding by each path, glob or filter, or a pytree"), error
        else:
            raise AssertionError
    tree = gn.treefy_states(placed(net(), mesh(8)))
    _read.read = read
    gn.checkpoint.restore(folder + "/net", node, shardings=jax.tree.map(lambda leaf: leaf.sharding, tree))
    check(node, mesh(8))
    """)


ANOTHER_MESH = """
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

import graphnode as gn
from jaxtyping import Array, Float


class Net(gn.Node):
    n: int
    wide: gn.ParamState[Float[Array, "n n"]] = gn.state(jax.nn.initializers.lecun_normal())
    bias: gn.ParamState[Float[Array, "n"]] = gn.state(jax.nn.initializers.ones)
    keys: gn.State = gn.state(init=False)

    def __post_init__(self):
        self.keys = gn.State(jax.random.split(jax.random.key(0), 8))


assert len(jax.devices()) == 8
auto = (AxisType.Auto, AxisType.Auto)
first = jax.make_mesh((4, 2), ("data", "model"), axis_types=auto)
second = jax.make_mesh((2, 2), ("a", "b"), axis_types=auto, devices=jax.devices()[:4])
explicit = jax.make_mesh((8,), ("x",))


def on(mesh, *names):
    return jax.NamedSharding(mesh, jax.P(*names))


def place(net, mesh, row, column):
    net.wide.value = jax.device_put(net.wide.value, on(mesh, row, column))
    net.bias.value = jax.device_put(net.bias.value, on(mesh))
    net.keys.value = jax.device_put(net.keys.value, on(mesh, row))


def assert_same(net, other):
    assert np.array_equal(net.wide.value, other.wide.value)
    assert np.array_equal(net.bias.value, other.bias.value)
    assert np.array_equal(jax.random.key_data(net.keys.value), jax.random.key_data(other.keys.value))


net = Net(16)
place(net, first, "data", "model")
with tempfile.TemporaryDirectory() as folder:
    gn.checkpoint.save(f"{folder}/run", {"net": net})

    # Where the live arrays are.
    live = Net(16)
    place(live, second, "b", None)
    gn.checkpoint.restore(f"{folder}/run", {"net": live})
    assert_same(live, net)
    assert live.wide.value.sharding == on(second, "b", None)
    assert live.wide.value.addressable_shards[0].data.shape == (8, 16)
    assert live.keys.value.sharding.is_equivalent_to(on(second, "b"), 1)

    # From shapes alone, straight onto what is said.
    abstract = gn.eval_shape(lambda: Net(16))
    shardings = {"net.wide": on(explicit, "x", None), "**.keys": on(explicit, "x"), "**": on(explicit)}
    gn.checkpoint.restore(f"{folder}/run", {"net": abstract}, shardings=shardings)
    assert_same(abstract, net)
    assert abstract.wide.value.sharding == on(explicit, "x", None)
    assert abstract.wide.value.addressable_shards[3].data.shape == (2, 16)

    # As a new node, on one device and on eight.
    assert_same(gn.checkpoint.load(f"{folder}/run", Net, at="net"), net)
    loaded = gn.checkpoint.load(f"{folder}/run", Net, at="net", shardings={"wide": on(first, None, "model")})
    assert_same(loaded, net)
    assert loaded.wide.value.sharding == on(first, None, "model")
    assert len(loaded.bias.value.sharding.device_set) == 1
"""


@pytest.mark.slow
def test_arrays_are_restored_onto_another_mesh():
    """With the sharding of the live arrays, or one that is given; of shapes alone, and of new nodes."""
    run_with_devices(ANOTHER_MESH, 8)


TOGETHER = """
def together(value, sharding):
    host = np.asarray(value)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

def shared(by, mesh):
    flat, _ = shardings(mesh)
    values = np.arange(64.0, dtype=np.float32).reshape(8, 8) * by
    def array(name, dtype):
        return together(values.astype(dtype), flat[name])
    keys = together(jax.random.key_data(jax.random.split(jax.random.key(by), 8)), flat["keys"])
    return Net(
        weight=gn.ParamState(array("weight", np.float32)),
        half=gn.ParamState(array("half", jnp.bfloat16)),
        small=gn.ParamState(array("small", jnp.float8_e4m3)),
        scale=gn.ParamState(jnp.full(8, 2.0 * by)),
        keys=gn.State(jax.random.wrap_key_data(keys)),
        cache=gn.State({"none": together(np.zeros((0, 8)), NamedSharding(mesh, P())), "own": jax.random.key(by)}),
    )

def raised(call, *args, **options):
    try:
        call(*args, **options)
    except gn.CheckpointError as error:
        return [str(fault) for fault in error.faults]
    raise AssertionError("nothing was raised")

def parts(node):
    flat = jax.tree.leaves(values(node))
    flat = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in flat]
    return [(shard.index, np.asarray(shard.data).tobytes()) for x in flat for shard in x.addressable_shards]
"""


def run_processes(body: str, folder: Path) -> None:
    """Run a program in two processes with four devices each."""
    run_two(PREAMBLE + TOGETHER + textwrap.dedent(body), folder)


@pytest.mark.slow
def test_two_processes_save_and_restore_together(tmp_path: Path):
    """Each its parts, also over what is there; on another mesh, and in one process alone."""
    run_processes(
        """
        for by in (1, 2):
            saved = shared(by, mesh(4, 2))
            gn.checkpoint.save(folder + "/run", {"model": saved, "step": by}, overwrite=True)
        live = {"model": shared(0, mesh(2, 4)), "step": 0}
        assert gn.checkpoint.restore(folder + "/run", live)["step"] == 2
        assert live["model"].weight.value.sharding == NamedSharding(mesh(2, 4), P("x", "y"))
        assert parts(live["model"]) == parts(shared(2, mesh(2, 4)))
        flat, _ = shardings(mesh(8))
        loaded = gn.checkpoint.load(folder + "/run", Net, at="model", shardings=flat)
        expected = shared(2, mesh(8))
        loaded.cache = expected.cache
        expected.scale.value = together(expected.scale.value, flat["scale"])
        assert parts(loaded) == parts(expected)
        """,
        tmp_path,
    )
    assert os.listdir(tmp_path) == ["run"]
    program = f"""
    loaded = gn.checkpoint.load({str(tmp_path / "run")!r}, Net, at="model")
    expected = net(2)
    for name in ("weight", "half", "small", "scale", "keys"):
        assert same(getattr(loaded, name).value, getattr(expected, name).value), name
    """
    run(program)


@pytest.mark.slow
def test_two_processes_get_an_error_each(tmp_path: Path):
    """What one of them finds is told by both, none waits for the other, and nothing is changed."""
    run_processes(
        """
        saved = shared(1, mesh(4, 2))
        gn.checkpoint.save(folder + "/run", {"model": saved, "step": 1})
        assert raised(gn.checkpoint.save, folder + "/run", {"step": 1}) == [
            ["", "process 0: "][rank] + "it exists already; pass overwrite=True to replace it"
        ]

        # All of them find it.
        live = {"model": shared(0, mesh(2, 4)), "steps": 0}
        before = values(live["model"])
        missing, unexpected = raised(gn.checkpoint.restore, folder + "/run", live)
        assert missing.startswith("step: unexpected"), missing
        assert unexpected.startswith("steps: missing"), unexpected

        # One of them finds it.
        live = {"model": shared(0, mesh(2, 4)), "step": [0, 0.5][rank]}
        text = "step: the tree has a float, the checkpoint an int"
        assert raised(gn.checkpoint.restore, folder + "/run", live) == [["process 1: ", ""][rank] + text]
        class Other(gn.Node):
            pass
        cls = [Net, Other][rank]
        (text,) = raised(gn.checkpoint.load, folder + "/run", cls, at="model")
        assert text.startswith(["process 1: model: is a Net", "model: is a Net"][rank]), text

        # A data iterator refuses in one of them: that of the other one goes back.
        class Counter:
            def __init__(self, at, stubborn=False):
                self.at, self.stubborn = at, stubborn
            def get_state(self):
                return self.at
            def set_state(self, state):
                if self.stubborn:
                    raise RuntimeError("no way back")
                self.at = state
        gn.checkpoint.save(folder + "/data", {"data": Counter(3)})
        counter = Counter(0, stubborn=rank == 1)
        (text,) = raised(gn.checkpoint.restore, folder + "/data", {"data": counter})
        assert text.endswith("data: Counter refuses the state that was saved: no way back"), text
        assert counter.at == 0

        # What is not the same in both.
        one = {"model": shared(1, mesh(8)), "step": rank, "own": jnp.full(3, rank)}
        own, step = raised(gn.checkpoint.save, folder + "/other", one)
        assert own.startswith("own: process 1 has another one than process 0; a checkpoint has one for all"), own
        assert step.startswith("step: process 1 has another one"), step
        (text,) = raised(gn.checkpoint.save, folder + "/other", {"a": 1, **({"b": 2} if rank else {})})
        assert text == "b: process 1 has it, process 0 has not", text
        (text,) = raised(lambda: gn.checkpoint.save(folder + "/other", {"a": 1}, metadata=rank))
        assert text.startswith("the manifest's metadata: process 1 has another one than process 0"), text
        gn.checkpoint.save(folder + "/other", {"a": 1})
        """,
        tmp_path,
    )
    assert sorted(os.listdir(tmp_path)) == ["data", "other", "run"]


@pytest.mark.slow
def test_two_processes_write_the_steps_of_a_run(tmp_path: Path):
    """A fault of one is told by both, and a SIGTERM that has come to one ends both after the same step."""
    run_processes(
        """
        import signal
        saved, small = shared(1, mesh(4, 2)), shared(2, mesh(4, 2))
        try:
            with gn.checkpoint.Checkpointer(folder + "/run", keep=2, every=10) as checkpoints:
                for step in range(21):
                    checkpoints.save(step, {"model": saved, "step": step})
                (text,) = raised(checkpoints.save, 30, {"model": saved, "step": 30 + rank})
                assert text.startswith("step: process 1 has another one than process 0"), text
                (text,) = raised(checkpoints.save, [30, 20][rank], {"model": saved, "step": 30})
                assert text == ["process 1: ", ""][rank] + "there is such a step already", text
                live = {"model": shared(0, mesh(2, 4)), "step": 0}
                assert checkpoints.restore(live)["step"] == 20
                assert parts(live["model"]) == parts(shared(1, mesh(2, 4)))
                (text,) = raised(checkpoints.restore, live, step=7)
                assert text == ["", "process 0: "][rank] + "there is no step 7; there are 10, 20", text
                for step in range(25, 50):
                    if rank == 1 and step == 25:
                        signal.raise_signal(signal.SIGTERM)
                    checkpoints.save(step, {"model": small, "step": step})
        except SystemExit:
            assert step == 30
        else:
            raise AssertionError("nothing has ended the run")
        assert gn.checkpoint.restore(folder + "/run/30", live)["step"] == 30
        assert parts(live["model"]) == parts(shared(2, mesh(2, 4)))
        """,
        tmp_path,
    )
    assert sorted(os.listdir(tmp_path / "run")) == ["20", "30"]


@pytest.mark.slow
def test_a_file_of_another_program_is_read_onto_a_mesh():
    """Each device gets its part of what changes make, and no array is read as a whole, unless it is reshaped."""
    run("""
from graphnode.checkpoint import Changes, Rename, Reshape, Split, Stack, Transpose
from graphnode.checkpoint import _safetensors
from graphnode.checkpoint._safetensors_write import write_safetensors

class Wide(gn.Node):
    query: gn.ParamState
    key: gn.ParamState
    layers: gn.ParamState
    flat: gn.ParamState

rng = np.random.default_rng(0)
arrays = {
    "qk": rng.standard_normal((32, 8), np.float32),
    **{f"layers.{at}": rng.standard_normal((8, 4), np.float32) for at in range(4)},
    "flat": rng.standard_normal(64, np.float32),
}
shapes = {"query": (8, 16), "key": (8, 16), "layers": (4, 8, 4), "flat": (8, 8)}
spread = NamedSharding(mesh(2, 4), P("x", "y"))
zeros = {name: jax.device_put(np.zeros(shape, np.float32), spread) for name, shape in shapes.items()}
wide = Wide(**{name: gn.ParamState(value) for name, value in zeros.items()})
sizes = []
read = _safetensors.FileArray.read
def noted(self, index=...):
    part = read(self, index)
    sizes.append((self.name, part.size))
    return part
_safetensors.FileArray.__getitem__ = noted
with tempfile.TemporaryDirectory() as folder:
    path = folder + "/wide.safetensors"
    write_safetensors(path, arrays)
    gn.checkpoint.read(path, into=wide, changes=Changes([
        Transpose("qk"), Split("qk", ["query", "key"], axis=1),
        Stack("layers.*", "layers", axis=0), Reshape("flat", (8, 8)),
    ]))
expected = {
    "query": arrays["qk"].T[:, :16], "key": arrays["qk"].T[:, 16:],
    "layers": np.stack([arrays[f"layers.{at}"] for at in range(4)]), "flat": arrays["flat"].reshape(8, 8),
}
for name, value in expected.items():
    found = getattr(wide, name).value
    check_leaf(found, spread)
    np.testing.assert_array_equal(found, value)
largest = {}
for name, size in sizes:
    largest[name] = max(largest.get(name, 0), size)
assert largest == {"qk": 16, **{f"layers.{at}": 8 for at in range(4)}, "flat": 64}, largest
""")
