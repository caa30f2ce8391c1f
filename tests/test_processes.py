"""Classes and functions of a script in other processes: cloudpickle, joblib and spawn, before and after use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Annotations that are texts mean nothing where the class arrives: its module is another `__main__` there.
HEAD = """
from __future__ import annotations
import dataclasses, functools, multiprocessing, pickle, sys
import cloudpickle, jax, jax.numpy as jnp
from jaxtyping import Array, Float
import graphnode as gn
"""

SCRIPT = (
    HEAD
    + '''
class Memory(gn.State):
    pass

class Head(gn.Node):
    width: int = 2
    weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.ones(2)))
    memory: Memory = gn.state(default_factory=lambda: Memory(jnp.zeros(2)))

    def __call__(self, x):
        self.memory.value = self.memory.value + 1
        return (self.weight.value * x).sum()

    @gn.jit
    def twice(self, x):
        return 2 * self(x)

class Net(gn.Node):
    size: int
    head: Head
    vector: gn.ParamState[Float[Array, "size"]]
    heads: list[Head] = gn.subnode(default_factory=list)

    def __call__(self, x):
        return self.head(x) + self.vector.value.sum()

@jax.custom_jvp
def spike(x):
    return x * 2

spike.defjvps(lambda tangent, result, x: tangent)

class Scale:
    def __init__(self, by):
        self.by = by
    def __call__(self, net, x):
        return self.by * net(x)

def make():
    return Net(2, Head(), gn.ParamState(jnp.ones(2)), [Head()])

def loss(net, x):
    return net(x)

def body(carry, net):
    return carry + net(jnp.ones(2)), None

step = gn.jit(loss)

def fault(make, *args):
    try:
        make(*args)
    except (TypeError, gn.ContractError, AttributeError) as error:
        return str(error)

def work(net, scale):
    """All transforms; a write must be seen by what was compiled before it."""
    x = jnp.ones(2)
    found = [float(step(net, x)), float(gn.jit(loss)(net, x)), float(gn.jit(scale)(net, x)), float(net.head.twice(x))]
    net.head.weight.value = 3 * net.head.weight.value
    found += [float(step(net, x)), float(gn.grad(loss)(net, x)["head", "weight"].value[0])]
    found += [gn.vmap(loss, in_axes=(0, None))(gn.stack([make(), make()]), x).tolist()]
    found += [float(gn.scan(body, 0.0, gn.stack([make(), make()]))[0]), float(gn.cond(True, loss, scale, net, x))]
    found += [gn.graphdef(gn.clone(net)) is gn.graphdef(net), gn.graphdef(make()) is gn.graphdef(net)]
    found += [gn.config.build(gn.config.validate({"width": 3}, Head)).width, float(net.head.memory.value[0])]
    found += [fault(Net, 3, Head(), gn.ParamState(jnp.ones(2))), fault(Net, 3), fault(getattr, Net, "size")]
    found += [list(gn.schema(Net).fields), net.vector.value.tolist(), float(spike(1.0))]
    found += [dataclasses.replace(net, size=2).vector is net.vector]
    return found
'''
)

EXPECTED = (
    "[4.0, 4.0, 8.0, 4.0, 8.0, 1.0, [4.0, 4.0], 8.0, 8.0, True, True, 3, 7.0, "
    "'Net.vector: expected size = 3 of Float[Array, \"size\"], found shape (2,)', "
    "\"Net.__init__() missing 2 required positional arguments: 'head' and 'vector'\", "
    "\"type object 'Net' has no attribute 'size'\", ['size', 'head', 'vector', 'heads'], [1.0, 1.0], 2.0, True]"
)


def run(tmp_path: Path, text: str, *args: str) -> list[str]:
    """The lines that a script prints."""
    file = tmp_path / f"script{len(list(tmp_path.iterdir()))}.py"
    file.write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(file), *args], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_what_a_script_defines_goes_by_cloudpickle(tmp_path: Path):
    """Nodes, classes, functions and callable objects, before and after all transforms, into a process without them."""
    sender = (
        SCRIPT
        + """
if __name__ == "__main__":
    scale = Scale(2.0)
    before = cloudpickle.dumps((work, make(), scale))
    print(work(make(), scale))
    after = cloudpickle.dumps((work, make(), scale))
    parts = cloudpickle.dumps((gn.treefy_split(make()), gn.graphdef(make()), step, functools.partial(loss, make())))
    pickle.dump([before, after, parts], open(sys.argv[1], "wb"))
    print(len(after) < len(before) + 1000, b"_contracts" in cloudpickle.dumps(Memory))
"""
    )
    receiver = (
        HEAD
        + """
at = int(sys.argv[2])
found = pickle.load(open(sys.argv[1], "rb"))
work, net, scale = pickle.loads(found[at])
print(work(net, scale))
(split, graphdef, step, partial) = pickle.loads(found[2])
print(graphdef is split[0], float(step(gn.treefy_merge(*split), jnp.ones(2))), float(partial(jnp.ones(2))))
"""
    )
    file = str(tmp_path / "pickles")
    assert run(tmp_path, sender, file) == [EXPECTED, "True False"]
    for at in ("0", "1"):
        assert run(tmp_path, receiver, file, at) == [EXPECTED, "True 4.0 4.0"]


@pytest.mark.slow
def test_a_class_without_fields_of_its_own_goes_by_cloudpickle(tmp_path: Path):
    """It is made where it arrives, and loaded there once more: the second time it is there already."""
    sender = (
        HEAD
        + """
class Base(gn.Node):
    width: int = 2
    weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.ones(2)))

class Sub(Base):
    def total(self):
        return float(self.width * self.weight.value.sum())

if __name__ == "__main__":
    first = cloudpickle.dumps(Sub)
    node = Sub(3)
    gn.graphdef(node)
    pickle.dump([first, cloudpickle.dumps(node)], open(sys.argv[1], "wb"))
"""
    )
    receiver = (
        HEAD
        + """
found = pickle.load(open(sys.argv[1], "rb"))
for order in ([0, 1, 0, 1], [1, 0, 1]):
    loaded = [pickle.loads(found[at]) for at in order]
    nodes = [node for node in loaded if isinstance(node, gn.Node)]
    print([node.total() for node in nodes], len({gn.graphdef(node) for node in nodes}), type(nodes[0])().total())
"""
    )
    file = str(tmp_path / "pickles")
    assert run(tmp_path, sender, file) == []
    assert run(tmp_path, receiver, file) == ["[6.0, 6.0] 1 4.0", "[6.0, 6.0] 1 4.0"]


@pytest.mark.slow
def test_a_class_that_adds_a_field_goes_where_its_parent_is(tmp_path: Path):
    """The parent can be imported there, or has come in an earlier pickle."""
    sender = (
        HEAD
        + """
class Gained(gn.nn.Linear):
    gain: float = 2.0

class Counting(gn.nn.Dropout):
    count: gn.State = gn.state(default_factory=lambda: gn.State(jnp.zeros(2)))

class Rate(gn.Node):
    width: int
    rate: float = 0.1

class Faster(Rate):
    rate: float = 0.2
    depth: int = 3

if __name__ == "__main__":
    nodes = [Gained(2, 3), Counting(0.5), Rate(1), Faster(2)]
    pickle.dump([cloudpickle.dumps(node) for node in nodes], open(sys.argv[1], "wb"))
"""
    )
    receiver = (
        HEAD
        + """
gained, counting, rate, faster = [pickle.loads(part) for part in pickle.load(open(sys.argv[1], "rb"))]
print(gained.gain, gained(jnp.ones(2)).shape, type(gained)(2, 4, gain=3.0).gain)
print(counting.count.value.tolist(), counting.rate)
print(rate.rate, type(faster).__base__ is type(rate), faster.rate, faster.depth, type(faster)(2).rate)
print(dataclasses.fields(faster)[0] is dataclasses.fields(rate)[0], dataclasses.replace(faster, depth=4).depth)
"""
    )
    file = str(tmp_path / "pickles")
    assert run(tmp_path, sender, file) == []
    assert run(tmp_path, receiver, file) == [
        "2.0 (3,) 3.0",
        "[0.0, 0.0] 0.5",
        "0.1 True 0.2 3 0.2",
        "True 4",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["joblib", "spawn"])
def test_what_a_script_defines_goes_to_workers(pool: str, tmp_path: Path):
    """Pools of joblib with its default backend, and of the standard library, which starts new processes."""
    use = {
        "joblib": """
    import joblib
    workers = joblib.Parallel(n_jobs=2)
    run = lambda: workers(joblib.delayed(work)(make(), scale) for _ in range(2))
""",
        "spawn": """
    pool = multiprocessing.get_context("spawn").Pool(1)
    run = lambda: pool.starmap(work, [(make(), scale)])
    import atexit
    atexit.register(pool.terminate)
""",
    }[pool]
    text = SCRIPT + '\nif __name__ == "__main__":\n    scale = Scale(2.0)' + use
    text += "    first = run()\n    print(first[0])\n    work(make(), scale)\n    print(run() == first)\n"
    assert run(tmp_path, text) == [EXPECTED, "True"]


@pytest.mark.slow
def test_a_graphdef_goes_between_a_script_and_its_worker_as_json(tmp_path: Path):
    """In a spawned process, the classes of the script are of another module."""
    text = (
        HEAD
        + """
class Net(gn.Node):
    width: int = 2

def there(text):
    return text == gn.graphdef(Net(3)).to_json() and gn.GraphDef.from_json(text) is gn.graphdef(Net(3))

def made():
    return gn.graphdef(Net(4)).to_json()

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(there, [gn.graphdef(Net(3)).to_json()]))
        print(gn.GraphDef.from_json(pool.apply(made)) is gn.graphdef(Net(4)))
"""
    )
    assert run(tmp_path, text) == ["True", "True"]
