"""IPython's `autoreload` and `importlib.reload`: what is there goes on with the new definition of its class."""

import copy
import dataclasses
import importlib
import os
import pickle
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from IPython.extensions import autoreload

import graphnode as gn

HEAD = """
import functools
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import graphnode as gn
"""
# What writes the source of a module, and loads it.
Write = Callable[[str], ModuleType]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the module `reloaded`: the first time it is imported, later autoreload reloads it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # what is cached would be told by its time alone
    monkeypatch.delitem(sys.modules, "reloaded", raising=False)
    old_objects: dict[Any, Any] = {}

    def write_module(source: str) -> ModuleType:
        (tmp_path / "reloaded.py").write_text(HEAD + textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()
        if "reloaded" not in sys.modules:
            return importlib.import_module("reloaded")
        module = sys.modules["reloaded"]
        autoreload.superreload(module, importlib.reload, old_objects)
        return module

    return write_module


NET = """
class Net(gn.Node):
    width: int
    w: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.ones)
    def f(self): return 1
"""


def printed_by(program: str, folder: Path) -> list[str]:
    """What a program prints, line by line, that has a shell of its own in a folder, and no error."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env={**os.environ, "IPYTHONDIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    return run.stdout.splitlines()


def test_the_shell_reloads_a_module_with_nodes(tmp_path: Path):
    """In IPython itself, with `%autoreload 2`: instances of before run the new code, and so do new ones."""
    program = """
    import os, pathlib, sys
    sys.dont_write_bytecode = True
    source = "import graphnode as gn\\nclass Net(gn.Node):\\n    width: int\\n    def f(self): return 1\\n"
    path = pathlib.Path("arm.py"); path.write_text(source); sys.path.insert(0, "")
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.run_cell("%load_ext autoreload\\n%autoreload 2\\nimport arm as m\\nn = m.Net(3)")
    for k, more in ((2, ""), (3, "    more: int = gn.static(default=7)\\n")):
        path.write_text(source.replace("return 1", f"return {k}") + more)
        now = path.stat().st_mtime + 10 * k
        os.utime(path, (now, now))
        shell.run_cell("print(n.f(), m.Net(4).f(), type(n) is m.Net, vars(n))")
    """
    assert printed_by(program, tmp_path) == ["2 2 True {'width': 3}", "3 3 True {'width': 3, 'more': 7}"]


@pytest.mark.slow
def test_the_shell_makes_a_class_anew_whose_constructor_has_changed(tmp_path: Path):
    """Also at the second time, and where a default has changed, or an `__init__` went; methods change in place."""
    program = """
    import os, pathlib, sys
    sys.dont_write_bytecode = True
    head = "import graphnode as gn\\nclass Net(gn.Node):\\n    width: int\\n    rate: float = 0.5\\n"
    init = "    def __init__(self, n):\\n        super().__init__()\\n        self.width = n + 1\\n"
    path = pathlib.Path("arm.py"); path.write_text(head + init); sys.path.insert(0, "")
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.run_cell("%load_ext autoreload\\n%autoreload 2\\nimport arm as m\\nn = m.Net(3); first = m.Net")
    for k, source in enumerate((
        head + init.replace("+ 1", "+ 2"),
        head + init.replace("+ 1", "+ 3"),
        head.replace("0.5", "0.25") + init.replace("+ 1", "+ 3"),
        head.replace("0.5", "0.25"),
        head.replace("0.5", "0.25") + init,
    )):
        path.write_text(source)
        now = path.stat().st_mtime + 10 * (k + 1)
        os.utime(path, (now, now))
        shell.run_cell("print(vars(m.Net(4)), vars(n), type(n) is m.Net)")
    path.write_text(source + "    def f(self): return 1\\n")
    os.utime(path, (now + 10, now + 10))
    shell.run_cell("last = m.Net; print(n.f(), last is not first)")
    path.write_text(source + "    def f(self): return 2\\n")
    os.utime(path, (now + 20, now + 20))
    shell.run_cell("print(n.f(), m.Net is last)")
    """
    assert printed_by(program, tmp_path) == [
        "{'width': 6, 'rate': 0.5} {'width': 4, 'rate': 0.5} True",
        "{'width': 7, 'rate': 0.5} {'width': 4, 'rate': 0.5} True",
        "{'width': 7, 'rate': 0.25} {'width': 4, 'rate': 0.5} True",
        "{'width': 4, 'rate': 0.25} {'width': 4, 'rate': 0.5} True",
        "{'width': 5, 'rate': 0.25} {'width': 4, 'rate': 0.5} True",
        "1 True",
        "2 True",
    ]


@pytest.mark.slow
def test_the_shell_changes_the_methods_of_earlier_definitions_in_place(tmp_path: Path):
    """A class of before, which somebody imported or extended, and which was made anew since; also inside of another."""
    program = """
    import os, pathlib, sys
    sys.dont_write_bytecode = True
    body = "{0}def f(self): return 1\\n{0}@staticmethod\\n{0}def g(): return 1\\n"
    source = "import graphnode as gn\\nclass Net(gn.Node):\\n" + body.format("    ")
    source += "    class Block(gn.Node):\\n" + body.format(" " * 8)
    path = pathlib.Path("arm.py"); path.write_text(source); sys.path.insert(0, "")
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.run_cell("%load_ext autoreload\\n%autoreload 2\\nfrom arm import Net\\nBlock = Net.Block; net = Net()")
    shell.run_cell("class Sub(Net): ...\\nclass SubBlock(Block): ...")
    more = "    more: int = 0\\n"
    for k, added in ((2, more), (3, more)):
        path.write_text(source.replace("return 1", f"return {k}") + added)
        now = path.stat().st_mtime + 10 * k
        os.utime(path, (now, now))
        shell.run_cell("print([each.f() for each in (net, Sub(), Block(), SubBlock())], Net.g(), Block.g())")
    """
    assert printed_by(program, tmp_path) == ["[2, 2, 2, 2] 2 2", "[3, 3, 3, 3] 3 3"]


def test_instances_get_the_new_code(write: Write):
    """Nodes of before are those of the new class, with their values; so are methods that somebody has kept."""
    module = write(NET)
    node = module.Net(3)
    first, state, method = module.Net, node.w, node.f
    write(NET.replace("return 1", "return self.width"))
    assert type(node) is module.Net
    assert (node.f(), method(), module.Net(4).f()) == (3, 3, 4)
    assert node.w is state
    write(NET.replace("return 1", "return 'third'"))
    assert (node.f(), method(), type(node) is module.Net) == ("third", "third", True)
    write(NET.replace("return 1", "return super().__repr__()[:3]"))
    assert (node.f(), module.Net(3).f()) == ("Net", "Net")
    assert type(first(5)) is module.Net


@pytest.mark.slow
def test_graph_operations_see_the_new_class_alone(write: Write):
    """Structures, copies and merges are of the new class, below nodes of other modules too."""
    module = write(NET)

    class Holder(gn.Node):
        net: Any = gn.subnode()

    holder = Holder(module.Net(3))
    graphdef = gn.graphdef(holder)
    joint = gn.graphdef([holder, holder.net])
    write(NET.replace("return 1", "return 2"))
    assert gn.graphdef(holder) is not graphdef
    assert gn.graphdef([holder, holder.net]) is not joint
    assert gn.graphdef(holder.net).type is module.Net
    for other in (gn.clone(holder), copy.deepcopy(holder), gn.view(holder), gn.treefy_merge(*gn.treefy_split(holder))):
        assert type(other.net) is module.Net
    assert gn.graphdef(Holder(module.Net(3))) is gn.graphdef(holder)


def test_a_class_that_was_traced_often_gets_the_new_code(write: Write):
    """Its methods are functions of the module, as no trace leaves a wrapper in a class."""
    module = write(NET)
    node, method = module.Net(3), module.Net.f
    for _ in range(105):
        gn.eval_shape(lambda node: node.f(), node)
    write(NET.replace("return 1", "return 2"))
    assert [node.f(), module.Net(3).f(), method(node)] == [2, 2, 2]
    assert gn.eval_shape(lambda node: jnp.zeros(node.f()), node).shape == (2,)


@pytest.mark.slow
def test_a_compiled_function_is_traced_with_the_new_code(write: Write):
    """The new class is another structure: what was compiled for the old one is not used."""
    module = write(NET)
    node = module.Net(3)
    run = gn.jit(lambda node: node.f())
    assert run(node) == 1
    write(NET.replace("return 1", "return 2"))
    assert run(node) == 2


def test_a_field_that_was_added(write: Write):
    """It has what the constructor gives it, drawn if need be; one that nothing gives holds nothing until assigned."""
    module = write(NET)
    node = module.Net(3)
    write(
        NET + "    rate: float = 0.5\n"
        "    part: 'Part' = gn.subnode(factory=lambda self: Part(self.v))\n"
        '    v: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.zeros)\n'
        "    needed: str = gn.static(kw_only=True)\n"
        "class Part(gn.Node):\n    v: gn.ParamState\n"
    )
    assert (node.rate, node.v.value.tolist(), node.part.v is node.v) == (0.5, [0.0, 0.0, 0.0], True)
    with pytest.raises(gn.UnsetFieldError):
        node.needed
    with pytest.raises(gn.StructureError, match="Net has no value for its static needed; assign it"):
        gn.graphdef(node)
    node.needed = "a"
    assert gn.graphdef(node) is gn.graphdef(module.Net(3, needed="a"))


def test_a_computed_field_that_was_added(write: Write):
    """It is computed from what the node has."""
    module = write(NET)
    node = module.Net(3)
    write(NET + "    twice: int = gn.static(factory=lambda self: 2 * self.width)\n")
    assert (node.twice, module.Net(4).twice) == (6, 8)


TWINS = """
class Act(gn.Node):
    slope: float = 0.1
class Net(gn.Node):
    width: int
    mode: bool = False
    act: Act = gn.subnode(factory=lambda self: Act())
    w: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: (self.width,))
"""


@pytest.mark.parametrize("name", [pytest.param("w", marks=pytest.mark.slow), "v"])
def test_nodes_that_share_their_states_share_what_is_made(write: Write, name: str):
    """Views and copies see one new State, also where none was left, or a child had none; other nodes have their own."""
    module = write(TWINS)
    node = module.Net(3)
    twins = [gn.view(node, mode=True), copy.copy(node), dataclasses.replace(node, mode=True)]
    clone, other = gn.clone(node), module.Net(3)
    source = TWINS.replace("    w: ", f"    {name}: ").replace(
        "slope: float = 0.1",
        "slope: float = 0.1\n    a: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: ())",
    )
    write(source + "    b: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: (self.width,))\n")
    for twin in twins:
        assert twin.b is node.b
        assert twin.act.a is node.act.a
        assert gn.states(twin) == gn.states(node)
    assert len({one.b for one in (node, clone, other)}) == 3
    assert len({one.act.a for one in (node, clone, other)}) == 3


def test_twins_get_what_one_of_them_has_kept(write: Write):
    """A field that was there before, and is again: a view of the time between gets the value of its original."""
    module = write(TWINS)
    source = TWINS + "    b: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: (2,))\n"
    write(source)
    node = module.Net(3)
    kept = node.b
    write(TWINS)
    view = gn.view(node)
    assert "b" not in vars(view)
    write(source)
    assert view.b is node.b is kept


def test_what_is_made_for_a_size_is_not_shared_by_another(write: Write):
    """A view of another size has its own."""
    source = TWINS.replace("(self.width,)", "(1,)")
    module = write(source)
    node = module.Net(3)
    view = gn.view(node, width=4)
    write(source + '    b: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.zeros)\n')
    assert (node.b.value.shape, view.b.value.shape, view.w is node.w) == ((3,), (4,), True)


def test_a_field_that_was_removed(write: Write):
    """It is not part of the structure; its value is there again with the field."""
    module = write(NET + "    extra: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: (2,))\n")
    node = module.Net(3)
    extra = node.extra
    write(NET)
    assert list(gn.states(node)) == [("w",)]
    assert gn.graphdef(node) is gn.graphdef(module.Net(3))
    write(NET + "    extra: gn.ParamState = gn.state(jax.nn.initializers.zeros, shape=lambda self: (2,))\n")
    assert node.extra is extra
    assert list(gn.states(node)) == [("extra",), ("w",)]


def test_what_has_the_name_of_a_removed_field(write: Write):
    """A constant or method of the class is what the node itself, its copies and a compiled function find."""
    source = "class Net(gn.Node):\n    w: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: ())\n"
    fields = "    scale: float = 2.0\n    bias: float = 0.5\n"
    module = write(source + fields)
    node = module.Net()
    node.scale = 3.0
    write(
        source + "    scale = 10.0\n    half: float = gn.static(init=False)\n"
        "    def bias(self): return 1\n    def __post_init__(self): self.half = 0.0\n"
        "    def __call__(self): return self.w.value * self.scale + self.bias()\n"
    )
    node.half = 0.0
    ways: list[Callable[[Any], Any]] = [
        lambda node: node,
        gn.jit,
        gn.clone,
        copy.copy,
        copy.deepcopy,
        lambda node: pickle.loads(pickle.dumps(node)),
    ]
    assert [float(way(node)()) for way in ways] == [11.0] * len(ways)
    assert vars(node).keys() == {"w", "half"}
    write(source + fields)
    assert (node.scale, node.bias) == (3.0, 0.5)


def test_a_factory_finds_what_has_the_name_of_a_removed_field(write: Write):
    """A field that is added in the same edit is made of the constant, as in a new node."""
    module = write(NET + "    scale: float = 2.0\n")
    node = module.Net(3)
    write(
        NET + "    scale = 10.0\n"
        "    part: 'Part' = gn.subnode(factory=lambda self: Part(self.scale))\nclass Part(gn.Node):\n    by: float\n"
    )
    assert node.part.by == module.Net(3).part.by == 10.0


def test_a_removed_field_that_is_of_another_kind_later(write: Write):
    """What it held before does not come back."""
    module = write(NET + "    rate: float = 0.5\n    part: gn.Node | None = None\n")
    node = module.Net(3)
    node.part = gn.nn.Sequential([])
    write(NET)
    write(
        NET + "    rate: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: ())\n"
        "    part: 'Part' = gn.subnode(factory=lambda self: Part())\nclass Part(gn.Node):\n    n: int = 1\n"
    )
    assert node.rate.value == 1.0
    assert type(node.part) is module.Part


def test_a_field_of_another_kind(write: Write):
    """A value that can no longer stand in its field is replaced by what the constructor would make."""
    module = write(NET + "    rate: float = 0.5\n")
    node = module.Net(3)
    write(NET + "    rate: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: ())\n")
    assert node.rate.value == 1.0
    write(NET + "    rate: float = 0.25\n")
    assert node.rate == 0.25
    assert gn.graphdef(node) is gn.graphdef(module.Net(3))


FORMS = """
class A(gn.Node):
    w: gn.ParamState = gn.state(jax.nn.initializers.ones, shape=lambda self: (2,))
class B(gn.Node):
    w: gn.ParamState = gn.state(jax.nn.initializers.zeros, shape=lambda self: (2,))
def ones(): return gn.ParamState(jnp.ones(2))
class Net(gn.Node):
    w: gn.ParamState
    head: A = gn.subnode(factory=lambda self: A())
    layers: list[A] = gn.subnode(factory=lambda self: [A()])
    many: list[gn.ParamState] = gn.state(default_factory=lambda: [ones()])
    given: list[A] = gn.subnode(default_factory=list, kw_only=True)
    mode: bool = False
"""


def test_a_state_of_another_class(write: Write):
    """It becomes one of the class that its field takes now, for all that refer to it, and is not trained any more."""
    module = write(FORMS)
    net = module.Net(gn.ParamState(jnp.ones(2), tag="a"))
    view, w = gn.view(net, mode=True), net.w
    optimizer = gn.optim.Optimizer(net, optax.sgd(1.0))
    grads = jax.tree.map(jnp.ones_like, gn.treefy_states(net, gn.ParamState))
    write(FORMS.replace("    w: gn.ParamState\n", "    w: gn.BatchState\n").replace("list[gn.Param", "list[gn.Batch"))
    assert (type(w), w.tag, w.value.tolist(), w is net.w is view.w) == (gn.BatchState, "a", [1.0, 1.0], True)
    assert type(net.many[0]) is gn.BatchState
    net.many.append(gn.BatchState(jnp.ones(2)))
    with pytest.raises(gn.UpdateError):
        optimizer.update(net, grads)
    assert w.value.tolist() == [1.0, 1.0]
    assert pickle.loads(pickle.dumps(net)).w.value.tolist() == [1.0, 1.0]


def test_values_that_their_fields_do_not_take_any_more(write: Write):
    """They are made anew, and shared with views; what nothing makes is named, and holds nothing."""
    module = write(FORMS)
    net = module.Net(gn.ParamState(jnp.ones(2)), given=[module.A()])
    view = gn.view(net, mode=True)
    source = FORMS.replace(
        "head: A = gn.subnode(factory=lambda self: A())", "head: B = gn.subnode(factory=lambda self: B())"
    )
    source = source.replace(
        "layers: list[A] = gn.subnode(factory=lambda self: [A()])",
        "layers: dict[str, A] = gn.subnode(factory=lambda self: {'a': A()})",
    )
    source = source.replace(
        "given: list[A] = gn.subnode(default_factory=list, kw_only=True)", "given: A = gn.subnode(kw_only=True)"
    )
    with pytest.warns(UserWarning, match="defined again") as caught:
        write(source)
    assert [str(warning.message) for warning in caught] == [
        "Net was defined again: Net.given holds nothing, as what it held does not fit: assign it"
    ]
    assert (type(net.head), list(net.layers)) == (module.B, ["a"])
    assert (view.head.w is net.head.w, view.layers["a"].w is net.layers["a"].w) == (True, True)
    for node in (net, view):
        with pytest.raises(gn.UnsetFieldError):
            node.given
        node.given = module.A()
        assert gn.graphdef(pickle.loads(pickle.dumps(node))) is gn.graphdef(node)


STACKED = """
class Act(gn.Node): ...
class Net(gn.Node):
    width: int
    act: Act
    w: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.ones)
"""


@pytest.mark.parametrize("name", [None, "members"])
def test_what_is_made_for_one_member_does_not_come_into_a_stack(write: Write, name: str | None):
    """It would be cut along its own axis: it holds nothing, which is said, in a node below that has no State too."""
    module = write(STACKED)
    stack = gn.stack([module.Net(2, module.Act()) for _ in range(2)], name=name)
    member = module.Net(2, module.Act())
    mean = '    mean: gn.BatchState[Float[Array, "2"]] = gn.state(jax.nn.initializers.zeros)\n'
    with pytest.warns(UserWarning, match="defined again") as caught:
        write(STACKED.replace("Act(gn.Node): ...\n", "Act(gn.Node):\n" + mean) + mean + "    rate: float = 0.5\n")
    rest = "holds nothing in stacked nodes, as what is made is for one member: assign it, or stack anew"
    assert [str(warning.message) for warning in caught] == [
        f"{cls} was defined again: {cls}.mean {rest}" for cls in ("Act", "Net")
    ]
    for node in (stack, stack.act):
        with pytest.raises(gn.UnsetFieldError):
            node.mean
    assert (stack.rate, member.mean.value.shape, member.act.mean.value.shape) == (0.5, (2,), (2,))


FAILING = """
class Net(gn.Node):
    width: int
    fails: bool = False
    def __post_init__(self):
        if self.fails: raise ValueError("failed")
class Mark(gn.State):
    def __init__(self, value): super().__init__(1 / value)
"""


def test_what_no_constructor_has_finished_is_left_alone(write: Write):
    """Nodes and States in the traceback of a constructor that failed, and nodes that were only made by `__new__`."""
    module = write(FAILING)
    net, empty = module.Net(2), object.__new__(module.Net)
    with pytest.raises(ValueError, match="failed") as caught:
        module.Net(2, fails=True)
    with pytest.raises(ZeroDivisionError) as also_caught:
        module.Mark(0)
    gn.graphdef(net)
    write(
        FAILING.replace(
            "fails: bool",
            "b: gn.ParamState = gn.state(lambda *_: jnp.ones(2), shape=lambda self: (2,))\n    fails: bool",
        )
    )
    assert net.b.value.tolist() == [1.0, 1.0]
    assert gn.graphdef(net) is gn.graphdef(module.Net(2))
    assert caught.value.__traceback__ is not also_caught.value.__traceback__ is not empty


def test_a_field_that_cannot_be_made_keeps_no_other_from_being(write: Write):
    """It holds nothing, and a warning says why; other nodes and other classes are moved."""
    source = FAILING + "class Last(gn.Node):\n    n: int = 1\n"
    module = write(source)
    net, last = module.Net(0), module.Last()
    other = module.Net(2)
    added = (
        "    size: gn.State = gn.state(jax.nn.initializers.ones, shape=lambda self: (6 // self.width,), init=False)\n"
    )
    with pytest.warns(UserWarning, match="defined again") as caught:
        write(source.replace("width: int\n", "width: int\n" + added) + "    m: int = 2\n")
    assert [str(warning.message) for warning in caught] == [
        "Net was defined again: Net.size holds nothing, as what makes it raised ZeroDivisionError: "
        "integer division or modulo by zero; assign it"
    ]
    assert (other.size.value.shape, last.m) == ((3,), 2)
    net.size = gn.State(jnp.ones(2))
    assert gn.clone(net).size.value.shape == (2,)


def test_a_popped_field_stays_popped(write: Write):
    """Only what was added is made."""
    module = write(NET)
    node = module.Net(3)
    popped = gn.pop_states(node, gn.ParamState)
    write(NET.replace("return 1", "return 2"))
    with pytest.raises(gn.UnsetFieldError):
        node.w
    gn.update_states(node, popped)
    assert node.w.value.tolist() == [1.0, 1.0, 1.0]


LAYERS = """
class Mark(gn.State): ...
class Layer(gn.Node):
    n: int = 0
    mark: Mark = gn.state(default_factory=lambda: Mark(jnp.zeros(2), tag="a"))
    def f(self): return 1
class Net(gn.Node):
    layers: list[Layer]
    table: dict[str, list[Layer]]
    pair: tuple[Layer, ...] = ()
"""


def test_containers_take_the_new_class(write: Write):
    """Lists and dicts that nodes hold are the same objects, and take nodes of the new class and no others."""
    module = write(LAYERS)
    old_layer = module.Layer
    node = module.Net([old_layer()], {"a": [old_layer()]}, (old_layer(),))
    layers, inner = node.layers, node.table["a"]
    write(LAYERS.replace("return 1", "return 2"))
    layers.append(module.Layer(1))
    inner.append(module.Layer(2))
    assert [layer.f() for layer in (*layers, *inner, *node.pair)] == [2] * 5
    assert (node.layers is layers, len(gn.states(node))) == (True, 5)
    with pytest.raises(gn.FieldError, match="list"):
        layers.append([])


def test_states_are_of_the_new_class(write: Write):
    """A State has the new class, in its description too: filters, updates and merges know it."""
    module = write(LAYERS)
    node = module.Net([module.Layer()], {})
    state, graphdef = node.layers[0].mark, gn.graphdef(node)
    write(LAYERS.replace("class Mark(gn.State): ...", "class Mark(gn.State):\n    def twice(self): return 2"))
    assert (type(state) is module.Mark, state.tag, state.twice()) == (True, "a", 2)
    assert gn.graphdef(node) is not graphdef
    assert list(gn.states(node, module.Mark).values()) == [state]
    gn.update_states(node, gn.treefy_states(module.Net([module.Layer()], {})))
    twin = gn.treefy_merge(*gn.treefy_split(node))
    assert type(twin.layers[0].mark) is module.Mark
    assert module.Mark(jnp.zeros(2), tag="a")._spec is state._spec


def test_states_are_held_to_the_new_contract(write: Write):
    """What the old class asked of a State is forgotten; what the new one asks holds at the next write."""
    module = write(NET)
    node = module.Net(3)
    write(NET.replace('[Float[Array, "width"]]', "").replace("ones)", "ones, shape=lambda self: (self.width,))"))
    node.w.value = jnp.zeros(5)
    write(NET)
    assert node.w.value.shape == (5,)
    with pytest.raises(gn.ContractError, match="expected width = 3"):
        node.w.value = jnp.zeros(6)
    node.w.value = jnp.zeros(3)


def test_the_old_class_makes_nodes_of_the_new(write: Write):
    """A module that has imported the class, and was not reloaded, goes on to construct it."""
    of = "    @classmethod\n    def of(cls, n): return cls(n + 0)\n"
    module = write(NET + of + "    def gone(self): ...\n    LIMIT = 1\n")
    old = module.Net
    added = NET.replace("int\n", "int\n    rate: float = 0.5\n") + of
    write(added.replace("n + 0", "n + 1"))
    write(added.replace("n + 0", "n + 2"))
    node = old(3, rate=0.25)
    assert (type(node) is module.Net, node.rate, old.of(3).width) == (True, 0.25, 5)
    assert not hasattr(old, "gone")
    assert not hasattr(old, "LIMIT")
    assert gn.graphdef(node) is gn.graphdef(module.Net(3, rate=0.25))


def test_a_subclass_elsewhere_has_the_new_methods(write: Write):
    """A subclass that was not reloaded keeps its fields and its parent, which has the new methods."""
    module = write(NET + "    def g(self): return 1\n")

    class Sub(module.Net):  # type: ignore[name-defined,misc]
        name: str = "a"

        def f(self) -> int:
            return int(super().f() * 10)

    sub, run = Sub(3), gn.jit(lambda node: node.f())
    assert run(sub) == 10
    write(NET.replace("return 1", "return 2") + "    def h(self): return self.f()\n")
    assert type(Sub(3)) is Sub
    assert (sub.f(), run(sub), sub.h(), hasattr(sub, "g"), type(sub) is Sub) == (20, 20, 20, False, True)
    assert (Sub(4).f(), Sub(4).width, gn.clone(sub).h()) == (20, 4, 20)


METHODS = """
def twice(function):
    @functools.wraps(function)
    def call(self): return 2 * function(self) if call else later
    return call
    later = call
class Net(gn.Node):
    width: int = 3
    w: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.ones)
    @gn.jit
    def __call__(self): return 1
    __len__ = functools.partialmethod(lambda self, n: n, 1)
    @functools.lru_cache
    def __int__(self): return 1
    @property
    def __float__(self): return lambda: 1.0
    @gn.remat
    def rematted(self): return self.w.value[0] * 1
    @gn.jit
    def jitted(self): return self.w.value[0] * 1
    @twice
    @gn.remat
    def both(self): return self.width * 0 + 1
"""


NESTED = """
class Net(gn.Node):
    class Block(gn.Node):
        class Inner(gn.Node):
            def f(self): return 1
        class Weight(gn.ParamState):
            def f(self): return 1
        inner: Inner = gn.subnode(factory=lambda self: Net.Block.Inner())
        w: Weight = gn.state(jax.nn.initializers.ones, shape=lambda self: ())
        def f(self): return 1
    class Options:
        def f(self): return 1
    blocks: list[Block] = gn.subnode(factory=lambda self: [Net.Block()])
class Outer:
    class Middle:
        class Block(gn.Node):
            def f(self): return 1
class Weight(gn.ParamState):
    class Block(gn.Node):
        def f(self): return 1
"""


def test_classes_in_the_body_of_a_class(write: Write):
    """They are moved too, at any depth, each time; subclasses of the first of them have the newest code."""
    module = write(NESTED)
    net, options = module.Net(), module.Net.Options()
    first, in_plain, in_state = module.Net.Block, module.Outer.Middle.Block(), module.Weight.Block()
    elsewhere = type("Elsewhere", (first,), {"__module__": __name__})()
    block, inner, weight = net.blocks[0], net.blocks[0].inner, net.blocks[0].w
    for k in (2, 3):
        write(NESTED.replace("return 1", f"return {k}") + "    more = 1\n")
        objects = [block, inner, weight, options, in_plain, in_state, elsewhere, first()]
        assert [each.f() for each in objects] == [k] * len(objects)
        nested = module.Net.Block
        assert [type(each) for each in (block, inner, weight, options, in_plain, in_state, first())] == [
            nested,
            nested.Inner,
            nested.Weight,
            module.Net.Options,
            module.Outer.Middle.Block,
            module.Weight.Block,
            nested,
        ]
        net.blocks.append(module.Net.Block())
    assert gn.graphdef(net.blocks[0]) is gn.graphdef(module.Net.Block())


class First(gn.Node): ...


class Second(gn.Node): ...


def test_another_class_under_a_name_is_not_a_new_definition(write: Write):
    """An alias that stands for another class now: the nodes of the one before stay what they are."""
    bodies = [f"class {head}:\n    layer = First\n" for head in ("Net(gn.Node)", "Plain", "Weight(gn.ParamState)")]
    source = f"from {__name__} import First, Second\nAlias = First\n" + "".join(bodies)
    module = write(source)
    node = First()
    write(source.replace("= First\n", "= Second\n"))
    assert type(node) is type(First()) is First
    assert module.Net.layer is module.Plain.layer is module.Weight.layer is module.Alias is Second


def test_decorated_methods_are_the_new_ones(write: Write):
    """Whatever a decorator made of them, and under Python's own names, also in a subclass that was not reloaded."""
    module = write(METHODS)

    class Sub(module.Net):  # type: ignore[name-defined,misc]
        name: str = "a"

    def results(node: Any) -> list[Any]:
        return [node(), len(node), int(node), float(node), node.rematted(), node.jitted(), node.both()]

    nodes = [module.Net(), Sub()]
    assert [results(node) for node in nodes] == [[1, 1, 1, 1, 1, 1, 2]] * 2
    module = write(re.sub(r"\b1\b", "5", METHODS) + "    more: int = 2\n")
    assert [results(node) for node in nodes] == [[5, 5, 5, 5, 5, 5, 10]] * 2
    write(METHODS.replace("    @gn.jit\n    def __call__(self): return 1\n", ""))
    assert not any(callable(node) for node in nodes)


def test_super_in_a_subclass_that_was_not_reloaded(write: Write):
    """In a new method of the old parent it is that of the parent, also below decorators."""
    source = """
    class Net(gn.Node):
        width: int = 3
        def f(self): return 1
        @gn.remat
        def g(self): return 1
        @property
        def h(self): return 1
        @classmethod
        def k(cls): return 1
    """
    module = write(source)

    class Sub(module.Net):  # type: ignore[name-defined,misc]
        pass

    nodes = [module.Net(), Sub()]
    called = "super().__sizeof__() * 0 + 2"
    module = write(
        source.replace("k(cls): return 1", "k(cls): return super().__subclasshook__(int)").replace(
            "return 1", f"return {called}"
        )
    )
    for node in nodes:
        assert (node.f(), node.g(), node.h, node.k()) == (2, 2, 2, NotImplemented)


def test_a_constructor_of_ones_own(write: Write):
    """A hand-written `__init__`, and a State's, are those of the new class, for subclasses elsewhere too."""
    source = """
    class Net(gn.Node):
        width: int
        def __init__(self, n): self.width = n + 1
    class Mark(gn.State):
        def __init__(self, n): super().__init__(jnp.full(2, n))
    """
    module = write(source)
    old, old_mark = module.Net, module.Mark

    class Sub(module.Net):  # type: ignore[name-defined,misc]
        pass

    class Calls(module.Net):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__(1)

    write(source.replace("n + 1", "n + 2").replace("full(2, n)", "full(3, n)"))
    assert (module.Net(1).width, old(1).width, Sub(1).width) == (3, 3, 3)
    assert (type(Sub(1)), type(Calls()), Calls().width) == (Sub, Calls, 3)
    assert [cls(1.0).value.shape for cls in (module.Mark, old_mark)] == [(3,), (3,)]
    assert type(old_mark(1.0)) is module.Mark
    write(source.replace("n + 1", "n + 3"))
    assert (module.Net(1).width, old(1).width, Sub(1).width) == (4, 4, 4)


def test_postponed_annotations(write: Write):
    """A class whose annotations name what comes later is moved when the whole module is there."""
    source = """
    class Net(gn.Node):
        part: 'Part | None' = None
        def f(self): return 1
    class Part(gn.Node):
        n: int = 1
    """
    module = write(source)
    node, unused = module.Net(module.Part(2)), module.Net
    write(source.replace("return 1", "return self.part.n").replace("n: int = 1", "n: int = 1\n        m: int = 4"))
    assert (node.f(), node.part.m, type(node.part) is module.Part) == (2, 4, True)
    node.part = module.Part(5)
    assert (unused(node.part).f(), gn.clone(node).f()) == (5, 5)


def test_a_class_of_another_sort_is_left_alone(write: Write):
    """A node class that becomes a plain class: what is there stays what it was."""
    module = write(NET)
    node, old = module.Net(3), module.Net
    write("class Net:\n    def f(self): return 2\n")
    assert (type(node) is old, node.f(), module.Net().f()) == (True, 1, 2)
    assert gn.clone(node).width == 3


def test_importlib_reload_makes_other_classes(write: Write, tmp_path: Path):
    """As of every class, instances of before keep the old one, and both work."""
    module = write(NET)
    node = module.Net(3)
    path = tmp_path / "reloaded.py"
    path.write_text(path.read_text(encoding="utf-8").replace("return 1", "return 2"), encoding="utf-8")
    importlib.reload(module)
    assert (node.f(), module.Net(3).f(), type(node) is module.Net) == (1, 2, False)
    assert gn.clone(node).f() == 1
    assert copy.deepcopy(node).f() == 1


PARTS = """
class Mark(gn.ParamState): ...
class Layer(gn.Node):
    n: int = 0
    def f(self): return 1
"""
MODEL = """
from __future__ import annotations
import jax.numpy as jnp
import graphnode as gn
from reloaded import Layer, Mark
class Model(gn.Node):
    child: Layer
    table: dict[str, list[Layer | None]] = gn.subnode(factory=lambda self: {"a": [Layer()]})
    pair: tuple[Layer, ...] = gn.subnode(factory=lambda self: (Layer(),))
    two: tuple[Layer, Layer] | None = None
    mark: Mark = gn.state(default_factory=lambda: Mark(jnp.ones(2)))
class Deep(Layer): ...
class Own(Mark): ...
class Unused(gn.Node):
    child: Later
class Later(Layer): ...
"""


@pytest.fixture
def model(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that takes classes from `reloaded`, and is never reloaded itself."""
    write(PARTS)
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "model", raising=False)
    importlib.invalidate_caches()
    return importlib.import_module("model")


@pytest.mark.parametrize("times", [1, 2])
def test_fields_elsewhere_take_the_new_class(write: Write, model: ModuleType, times: int):
    """A class of a module that was not reloaded constructs, copies, loads and assigns nodes of the new class."""
    node = model.Model(model.Layer())
    gn.graphdef(node)
    blob = pickle.dumps(node)
    module: Any = None
    for k in range(times):
        write(PARTS.replace("return 1", f"return {k + 2}") + f"    more{k}: int = {k}\n")
    module = sys.modules["reloaded"]
    copies = [
        model.Model(module.Layer()),
        model.Model(model.Layer(), two=(module.Layer(), model.Layer())),
        copy.deepcopy(node),
        copy.copy(node),
        dataclasses.replace(node, mark=module.Mark(jnp.zeros(2))),
        pickle.loads(pickle.dumps(node)),
        pickle.loads(blob),
        gn.clone(node),
    ]
    for twin in (node, *copies):
        twin.child = module.Layer(2)
        twin.two = (module.Layer(), module.Layer())
        twin.mark = module.Mark(jnp.ones(2))
        twin.table["a"].append(module.Layer())
        twin.table["b"] = [module.Layer(), None]
        assert [layer.f() for layer in (twin.child, *twin.two, *twin.pair, *twin.table["a"])] == [times + 1] * 6
        assert type(gn.clone(twin).mark) is module.Mark
    with pytest.raises(gn.FieldError, match=r"^Model\.child takes Layer; found a Mark"):
        node.child = module.Mark(jnp.ones(2))


def test_classes_elsewhere_that_extend_the_old_one(write: Write, model: ModuleType):
    """A subclass of the old class still stands in fields of the class, also in those that are declared later."""
    model.Model(model.Layer())
    module = write(PARTS.replace("return 1", "return 2"))
    node = model.Model(model.Deep(), mark=model.Own(jnp.ones(2)))
    assert (node.child.f(), type(node.child), type(node.mark)) == (2, model.Deep, model.Own)

    class Late(gn.Node):
        child: model.Layer  # type: ignore[name-defined]
        mark: model.Mark | None = gn.state(default=None)  # type: ignore[name-defined]

    for layer in (module.Layer(), model.Layer(), model.Deep()):
        assert Late(layer, module.Mark(jnp.ones(2))).child.f() == 2
    assert model.Unused(model.Later()).child.f() == 2
    with pytest.raises(gn.FieldError, match=r"^Late\.child takes Layer; found a Late"):
        Late(Late(module.Layer()))


def test_a_contract_of_the_class_is_moved_too(write: Write):
    """A State of a field elsewhere is held to the contract that its new class has, wherever it stands."""
    source = 'class Count(gn.State[Float[Array, "2"]]): ...'
    module = write(source)

    class Holder(gn.Node):
        count: module.Count  # type: ignore[name-defined]
        many: list[module.Count]  # type: ignore[name-defined]

    node, old = Holder(module.Count(jnp.ones(2)), []), module.Count
    gn.clone(node)
    module = write(source.replace('"2"', '"3"'))

    class Late(gn.Node):
        count: old  # type: ignore[valid-type]  # ty: ignore[invalid-type-form]

    for made in (Holder(module.Count(jnp.ones(3)), []), Late(module.Count(jnp.ones(3)))):
        assert made.count.value.shape == (3,)
    refused = r'expected 3 of Float\[Array, "3"\], found shape \(2,\)'
    with pytest.raises(gn.ContractError, match=rf"^Holder\.count: {refused}"):
        Holder(module.Count(jnp.ones(2)), [])
    with pytest.raises(gn.ContractError, match=rf"^Holder\.many\.0: {refused}"):
        node.many.append(module.Count(jnp.ones(2)))
    for twin in (node, gn.clone(node)):
        twin.count.value = jnp.ones(3)
        twin.many.append(module.Count(jnp.ones(3)))
        with pytest.raises(gn.ContractError, match=refused):
            twin.count.value = jnp.ones(2)


def test_states_that_nodes_elsewhere_make(write: Write, model: ModuleType):
    """An initializer makes a State of the new class, in a class of before and in one that is declared later."""

    class Early(gn.Node):
        mark: model.Mark = gn.state(jax.nn.initializers.ones, shape=lambda self: (2,))  # type: ignore[name-defined]

    module = write(PARTS.replace("return 1", "return 2"))

    class Late(gn.Node):
        mark: model.Mark = gn.state(jax.nn.initializers.ones, shape=lambda self: (2,))  # type: ignore[name-defined]

    for node in (Early(), Late()):
        assert type(node.mark) is module.Mark
        assert node.mark._spec.cls is module.Mark


BEFORE = "this graphdef was made before {} was defined again; make another one from the node: gn.treefy_split(node), "


def test_a_graphdef_of_before_makes_no_nodes(write: Write, model: ModuleType):
    """Neither a merge nor a function that JAX has compiled with it goes on with the old code: each says what to do."""
    node = model.Model(model.Layer())
    graphdef, states = gn.treefy_split(node)
    flat = gn.flatten(node)
    closed = jax.jit(lambda states: gn.treefy_merge(graphdef, states).child.f())
    static = jax.jit(lambda graphdef, states: gn.treefy_merge(graphdef, states).child.f(), static_argnums=0)
    assert (closed(states), static(graphdef, states)) == (1, 1)
    write(PARTS.replace("return 1", "return 2"))
    uses = (
        lambda: gn.treefy_merge(graphdef, states),
        lambda: gn.unflatten(*flat),
        lambda: closed(states),
        lambda: static(graphdef, states),
    )
    for use in uses:
        with pytest.raises(gn.StructureError, match=f"^{re.escape(BEFORE.format('Layer'))}"):
            use()
    graphdef, states = gn.treefy_split(node)
    assert (gn.treefy_merge(graphdef, states).child.f(), static(graphdef, states), closed(states)) == (2, 2, 2)


def test_a_graphdef_of_before_makes_no_states(write: Write):
    """A class of States that was defined again is found out as one of nodes is."""
    source = "class Mark(gn.State):\n    def f(self): return 1"
    module = write(source)
    graphdef, states = gn.treefy_split([module.Mark(jnp.ones(2))])
    run = jax.jit(lambda states: gn.treefy_merge(graphdef, states)[0].f())
    assert run(states) == 1
    write(source.replace("1", "2"))
    with pytest.raises(gn.StructureError, match=f"^{re.escape(BEFORE.format('Mark'))}"):
        run(states)


@pytest.mark.parametrize("donate", [False, True])
def test_a_compiled_function_makes_nodes_of_the_new_class(write: Write, donate: bool):
    """Also one that gets no node, of whose compiled form the graphdef is a part."""
    module = write(PARTS)
    make = gn.jit(lambda x, state: (module.Layer(), state.value + x), donate=donate)
    state = gn.State(jnp.ones(2))
    for k in (1, 2, 3):
        write(PARTS.replace("return 1", f"return {k}"))
        node = make(jnp.ones(2), state)[0]
        assert (type(node) is module.Layer, node.f(), gn.clone(node).f()) == (True, k, k)


def test_filters_of_before_select_the_new_states(write: Write, model: ModuleType):
    """A class that was imported by name selects States of its new definition; and that, those of old subclasses."""
    node = model.Model(model.Layer())
    kept = gn.OfType(model.Mark)
    assert list(gn.states(node, model.Mark)) == list(gn.states(node, kept)) == [("mark",)]
    module = write(PARTS.replace("return 1", "return 2"))
    for only in (model.Mark, kept, module.Mark, module.Mark | gn.ShortTermState):
        assert list(gn.states(node, only)) == [("mark",)]
        assert gn.grad(lambda node: node.mark.value.sum(), wrt=only)(node)["mark"].value.tolist() == [1.0, 1.0]
    node.mark = model.Own(jnp.ones(2))
    assert list(gn.states(node, module.Mark)) == list(gn.states(node, model.Mark)) == [("mark",)]
    assert list(gn.states(node, gn.ShortTermState)) == []


def test_collections_of_before_are_taken(write: Write, model: ModuleType):
    """State trees, popped States and optimizers of before fit the node, whose States are of the new class."""
    node = model.Model(model.Layer())
    optimizer = gn.optim.Optimizer(node, optax.sgd(1.0, momentum=0.5))
    tree = gn.treefy_states(node)
    for k in (2, 3):
        module = write(PARTS.replace("return 1", f"return {k}"))
        optimizer.update(node, jax.tree.map(jnp.ones_like, gn.treefy_states(node)))
        optimizer.update(node, tree)
        assert node.mark.value.tolist() != [1.0, 1.0]
        gn.update_states(node, tree)
        gn.update_states(node, tree, tree)
        gn.update_states(node, tree, check=False)
        assert node.mark.value.tolist() == [1.0, 1.0]
        assert gn.treefy_merge(gn.graphdef(node), tree).mark.value.tolist() == [1.0, 1.0]
        gn.pop_states(node, model.Mark)
        gn.update_states(node, tree)
        assert (type(node.mark), node.mark._spec.cls) == (module.Mark, module.Mark)


def test_static_values_of_a_class_that_was_defined_again(write: Write):
    """A difference says which of two enums, or dataclasses, is the one of before."""
    source = """
    import dataclasses, enum
    class Mode(enum.Enum): A = 1
    @dataclasses.dataclass(frozen=True)
    class Size:
        n: int = 1
    """
    module = write(source)

    class Holder(gn.Node):
        value: Any = gn.static()

    for name, value in (("<enum 'Mode'>", lambda: module.Mode.A), ("<class 'reloaded.Size'>", lambda: module.Size())):
        old = gn.graphdef(Holder(value()))
        importlib.reload(module)
        shown = f"{value()!r} with {name}"
        new = gn.graphdef(Holder(value()))
        texts = (shown + " of before it was defined again", shown)
        assert [(place.left, place.right) for place in gn.diff(old, new)] == [texts]
        assert [(place.left, place.right) for place in gn.diff(new, old)] == [texts[::-1]]
