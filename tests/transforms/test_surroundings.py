"""Whatever changes around a jitted function, the next call has the result of the plain function."""

import dataclasses
import functools
import gc
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn
from graphnode.transforms._content import Walk, content_of, content_text
from graphnode.transforms._surroundings import Surroundings


class Net(gn.Node):
    w: gn.State[Any]
    factor: int = 1

    def __call__(self, x: Any) -> Any:
        return self.w.value * x * self.factor


def net(value: float = 3.0, factor: int = 1) -> Net:
    return Net(gn.State(jnp.float32(value)), factor)


def around(function: Callable[..., Any]) -> Surroundings:
    return Surroundings.of([function], gn.graphdef([]))


# A function of a number, and changes of what is around it, which keep all nodes alive.
Case = tuple[Callable[[Any], Any], list[Callable[[], Any]]]


def keys_of_a_dict() -> Case:
    nets = {"student": net(1.0), "teacher": net(2.0)}
    old = dict(nets)

    def turn() -> None:
        nets.clear()
        nets.update(teacher=old["teacher"], student=old["student"])

    return lambda x: nets["student"](x) + 10 * nets["teacher"](x), [
        turn,
        lambda: nets.update(teacher=old["student"], student=old["teacher"]),
    ]


def a_key_of_a_dict() -> Case:
    nets: dict[Any, Any] = {"a": net(1.0)}

    def rekey(new: Any) -> Any:
        return lambda: nets.update({new: nets.pop(next(iter(nets)))})

    return lambda x: sum([f(x) * (10 if key == "b" else 1) for key, f in nets.items()]), [rekey("b"), rekey(2)]


def objects_as_keys() -> Case:
    first, second = net(1.0), net(2.0)
    table = {first: net(5.0), second: net(7.0)}

    def swap() -> None:
        table[first], table[second] = table.pop(second), table.pop(first)

    return lambda x: table[first](x) + 10 * table[second](x), [swap]


def nested_lists() -> Case:
    groups = [[net(1.0), net(2.0)], [net(3.0)]]

    def move() -> None:
        groups[1].insert(0, groups[0].pop())

    return lambda x: sum([f(x) * 10**at for at, group in enumerate(groups) for f in group]), [move]


def a_pair_with_none() -> Case:
    pair: list[Any] = [net(1.0), None]
    return lambda x: sum([f(x) * 10**at for at, f in enumerate(pair) if f is not None]), [pair.reverse]


def a_deque() -> Case:
    row: deque[Any] = deque([net(1.0), None])
    return lambda x: sum([f(x) * 10**at for at, f in enumerate(row) if f is not None]), [lambda: row.rotate(1)]


def helpers_in_a_dict() -> Case:
    def closing_over(node: Net, factor: float) -> Callable[[Any], Any]:
        return lambda x: node(x) * factor

    helpers = {"a": closing_over(net(1.0), 1.0), "b": closing_over(net(2.0), 10.0)}

    def swap() -> None:
        helpers["a"], helpers["b"] = helpers["b"], helpers["a"]

    def turn() -> None:
        items = list(helpers.items())
        helpers.clear()
        helpers.update(reversed(items))

    return lambda x: helpers["a"](x) + 100 * helpers["b"](x), [swap, turn]


class Loss:
    """A plain callable."""

    def __init__(self, model: Net) -> None:
        self.model = model

    def __call__(self, x: Any) -> Any:
        return self.model(x)

    def method(self, x: Any) -> Any:
        return self(x) + 1.0


class Negative(Loss):
    def __call__(self, x: Any) -> Any:
        return -self.model(x)


def changes_of(loss: Loss) -> list[Callable[[], Any]]:
    return [
        lambda: setattr(loss.model, "factor", 4),
        lambda: setattr(loss, "model", net(5.0, 2)),
        lambda: setattr(loss.model, "w", gn.State(jnp.float32(9.0))),
    ]


def a_callable_object() -> Case:
    loss = Loss(net(2.0))
    return loss, changes_of(loss)


def a_method_of_an_object() -> Case:
    loss = Loss(net(2.0))
    return loss.method, changes_of(loss)


def a_partial_of_an_object() -> Case:
    loss = Loss(net(2.0))
    return functools.partial(lambda loss, x: loss(x), loss), changes_of(loss)


def a_partial_of_a_node_and_an_object() -> Case:
    loss = Loss(net(2.0))
    return functools.partial(lambda node, loss, x: node(x) + loss(x), net(), loss), changes_of(loss)


def a_partial_in_a_closure() -> Case:
    node = net(2.0)
    partial = functools.partial(lambda given, x, *, by: given(x) * by["net"](x), node, by={"net": net(7.0)})
    return lambda x: partial(x), [
        lambda: setattr(node, "factor", 3),
        lambda: setattr(partial.keywords["by"]["net"], "factor", 3),
    ]


def a_method_in_a_list() -> Case:
    loss = Loss(net(2.0))
    methods = [loss.method, Loss(net(7.0)).method]
    return lambda x: methods[0](x) + 10 * methods[1](x), [*changes_of(loss), methods.reverse]


def objects_in_a_list() -> Case:
    losses = [Loss(net(2.0)), Loss(net(7.0))]
    return lambda x: losses[0](x) + 10 * losses[1](x), [*changes_of(losses[1]), losses.reverse]


def the_class_of_an_object() -> Case:
    loss = Loss(net(2.0))

    def other() -> None:
        nonlocal loss
        loss = Negative(loss.model)

    return lambda x: loss(x), [other]


GLOBAL = net(2.0)


def with_global(x: Any) -> Any:
    return GLOBAL(x)


class Reading:
    """A plain object with a method that reads a global."""

    def __init__(self) -> None:
        self.rate = 2.0

    def step(self, x: Any) -> Any:
        return self.scaled(x) * self.rate

    def scaled(self, x: Any) -> Any:
        return GLOBAL(x)

    @property
    def doubled(self) -> Any:
        return 2 * GLOBAL.w.value

    @staticmethod
    def apart(x: Any) -> Any:
        return with_global(x)

    @classmethod
    def of_class(cls, x: Any) -> Any:
        return cls.apart(x)


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """As by a decorator of another module."""
    code = "def decorate(f):\n    def wrapper(*args):\n        return f(*args)\n    return wrapper"
    names: dict[str, Any] = {"__name__": "another_module"}
    exec(code, names)
    return names["decorate"](function)  # type: ignore[no-any-return]


VALUE_AND_GRAD = gn.value_and_grad(with_global)
VMAPPED = jax.vmap(with_global)
REMAT = gn.remat(with_global)
DECORATED = decorated(with_global)


class ReadingLayer(gn.Node):
    w: gn.State[Any]

    def __call__(self, x: Any) -> Any:
        return GLOBAL(x) * self.w.value


class OfLayer(gn.Node):
    layer: ReadingLayer

    def __call__(self, x: Any) -> Any:
        return self.layer(x)


MODEL = OfLayer(ReadingLayer(gn.State(jnp.float32(1.0))))

READERS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "gn.value_and_grad in a global": lambda: lambda x: VALUE_AND_GRAD(x)[0],
    "jax.vmap in a global": lambda: lambda x: VMAPPED(jnp.ones(2) * x)[0],
    "gn.remat in a global": lambda: lambda x: REMAT(x),
    "a decorator of another module": lambda: lambda x: DECORATED(x),
    "a layer of a model": lambda: MODEL,
    "a layer of a captured model": lambda: lambda x: MODEL(x),
    "a layer of a model in a partial": lambda: functools.partial(lambda model, x: model(x), MODEL),
    "method": lambda: Reading().step,
    "method of a captured object": lambda: (lambda reading: lambda x: reading.step(x))(Reading()),
    "property": lambda: (lambda reading: lambda x: reading.doubled * x * GLOBAL.factor)(Reading()),
    "static method": lambda: (lambda reading: lambda x: reading.apart(x))(Reading()),
    "class method": lambda: Reading.of_class,
    "function": lambda: with_global,
    "jax.jit": lambda: jax.jit(with_global),
    "jax.vmap in a closure": lambda: (lambda f: lambda x: f(jnp.ones(2) * x)[0])(jax.vmap(with_global)),
    "gn.vmap in a closure": lambda: (lambda f: lambda x: f(jnp.ones(2) * x)[0])(gn.vmap(with_global)),
    "gn.jit in a closure": lambda: (lambda f: lambda x: f(x))(gn.jit(with_global)),
    "default": lambda: (lambda f: lambda x: f(x))(lambda x, g=with_global: g(x)),
    "keyword default": lambda: (lambda f: lambda x: f(x))(lambda x, *, g=with_global: g(x)),
}


@pytest.mark.parametrize("name", READERS)
def test_a_global_that_something_around_reads_may_change(name: str, monkeypatch: pytest.MonkeyPatch):
    """Another node, another structure of it: also behind methods, wrappers and defaults."""
    function = READERS[name]()
    run = gn.jit(function)
    if name == "jax.jit":
        function = with_global  # alone, it has the first node as a constant
    kept = [net(4.0), net(5.0, 3)]
    for node in kept:
        monkeypatch.setitem(globals(), "GLOBAL", node)
        assert float(run(1.0)) == float(function(1.0))
        node.factor += 1
        assert float(run(1.0)) == float(function(1.0))
        node.w.value = jnp.float32(10)
        assert float(run(1.0)) == float(function(1.0))


def none_then_a_node() -> Case:
    best: Net | None = None

    def find() -> None:
        nonlocal best
        best = net(4.0)

    return lambda x: x if best is None else best(x), [find]


def an_empty_list_then_a_node() -> Case:
    nets: list[Net] = []
    return lambda x: sum([f(x) for f in nets], x), [lambda: nets.append(net(2.0)), lambda: nets.append(net(3.0))]


def an_attribute_of_none_then_a_node() -> Case:
    trainer = types.SimpleNamespace(ema=None, table={})
    return lambda x: x if trainer.ema is None else trainer.ema(x), [lambda: setattr(trainer, "ema", net(4.0))]


def a_cell_that_is_empty_for_a_time() -> Case:
    late = net(2.0)

    def empty() -> None:
        nonlocal late
        del late

    def fill() -> None:
        nonlocal late
        late = net(4.0)

    def function(x: Any) -> Any:
        try:
            return late(x)
        except NameError:
            return x

    return function, [empty, fill]


class WithDefault:
    """Its class has what an object may have of its own."""

    ema: Any = None

    def __init__(self, model: Net) -> None:
        self.model = model


def an_attribute_that_an_inner_object_gets_later() -> Case:
    trainer = types.SimpleNamespace(state=WithDefault(net(2.0)))

    def evaluate(x: Any) -> Any:
        state = trainer.state
        if state.ema is not None:
            return state.ema(x)
        return state.best(x) if hasattr(state, "best") else state.model(x)

    return evaluate, [
        lambda: setattr(trainer.state, "best", net(3.0)),
        lambda: setattr(trainer.state, "ema", net(4.0)),
    ]


def a_default_of_a_class() -> Case:
    class Local(WithDefault):
        ema: Any = None

    state = Local(net(2.0))
    return lambda x: state.model(x) if state.ema is None else state.ema(x), [lambda: setattr(Local, "ema", net(3.0))]


def one_object_in_two_places() -> Case:
    first = types.SimpleNamespace(model=net(2.0))
    pair = [first, first]
    return lambda x: pair[0].model(x) + 10 * pair[1].model(x), [
        lambda: pair.__setitem__(1, types.SimpleNamespace(model=net(3.0))),
        lambda: setattr(pair[1].model, "factor", 4),
        lambda: pair.__setitem__(0, pair[1]),
    ]


def deep_in_containers() -> Case:
    inner = [net(2.0)]
    outer: Any = inner
    for _ in range(20):
        outer = [outer]

    def read(x: Any) -> Any:
        part = outer
        while isinstance(part, list):
            part = part[0]
        return part(x)

    return read, [lambda: inner.__setitem__(0, net(3.0)), lambda: setattr(inner[0], "factor", 4)]


def beside_much_else() -> Case:
    trainer = types.SimpleNamespace(nets={"student": net(2.0)})
    for number in range(12):
        setattr(trainer, f"metric_{number}", [0.1] * 900)

    def grow() -> None:
        for number in range(12):
            getattr(trainer, f"metric_{number}").append(0.2)

    return lambda x: trainer.nets["student"](x), [grow, lambda: trainer.nets.update(student=net(3.0))]


def a_class_with_equality() -> Case:
    class Meta(type):
        def __eq__(cls, other: object) -> bool:
            return True

    def forward(self: Any, x: Any) -> Any:
        return self.model(x) * self.sign

    one: Any = Meta("One", (), {"__call__": forward, "sign": 1.0})()
    other: Any = Meta("Other", (), {"__call__": lambda self, x: -self.model(x)})()
    one.model = other.model = net(2.0)
    box = [one]
    return lambda x: box[0](x), [lambda: box.__setitem__(0, other)]


def an_attribute_of_an_attribute() -> Case:
    trainer = types.SimpleNamespace(state=types.SimpleNamespace(model=net(2.0)))
    return lambda x: trainer.state.model(x), [
        lambda: setattr(trainer.state.model, "factor", 3),
        lambda: setattr(trainer.state, "model", net(4.0, 2)),
        lambda: setattr(trainer, "state", types.SimpleNamespace(model=net(4.0, 5))),
    ]


@dataclasses.dataclass(slots=True)
class Slotted:
    model: Net
    other: Net | None = None


def slots() -> Case:
    trainer = Slotted(net(2.0))
    return lambda x: trainer.model(x) + (0.0 if trainer.other is None else trainer.other(x)), [
        lambda: setattr(trainer.model, "factor", 3),
        lambda: setattr(trainer, "model", net(4.0, 2)),
        lambda: setattr(trainer, "other", net(4.0, 2)),
    ]


def a_class() -> Case:
    class Models:
        first = net(2.0)

        def run(self, x: Any) -> Any:
            return self.first(x)

    models = Models()
    return lambda x: models.run(x) + 10 * Models.first(x), [
        lambda: setattr(Models.first, "factor", 3),
        lambda: setattr(Models, "first", net(4.0, 2)),
        lambda: setattr(models, "first", net(9.0)),
    ]


def a_module() -> Case:
    module: Any = types.ModuleType("models")
    module.first = net(2.0)
    return lambda x: module.first(x), [
        lambda: setattr(module.first, "factor", 3),
        lambda: setattr(module, "first", net(4.0, 2)),
    ]


def a_list_that_holds_itself() -> Case:
    row: list[Any] = [net(2.0)]
    row.append(row)
    return lambda x: row[1][1][0](x), [lambda: setattr(row[0], "factor", 3), lambda: row.__setitem__(0, net(4.0, 2))]


CASES: list[Callable[[], Case]] = [
    keys_of_a_dict,
    a_key_of_a_dict,
    objects_as_keys,
    nested_lists,
    a_pair_with_none,
    a_deque,
    helpers_in_a_dict,
    a_callable_object,
    a_method_of_an_object,
    a_partial_of_an_object,
    a_partial_of_a_node_and_an_object,
    a_partial_in_a_closure,
    a_method_in_a_list,
    objects_in_a_list,
    the_class_of_an_object,
    none_then_a_node,
    an_empty_list_then_a_node,
    an_attribute_of_none_then_a_node,
    a_cell_that_is_empty_for_a_time,
    an_attribute_that_an_inner_object_gets_later,
    a_default_of_a_class,
    one_object_in_two_places,
    deep_in_containers,
    beside_much_else,
    a_class_with_equality,
    an_attribute_of_an_attribute,
    slots,
    a_class,
    a_module,
    a_list_that_holds_itself,
]


@pytest.mark.parametrize("case", CASES)
def test_what_is_around_a_function_may_change(case: Callable[[], Case]):
    """After each change the result is that of the plain function, whether or not it is traced again."""
    function, changes = case()
    run = gn.jit(function)
    assert float(run(1.0)) == float(function(1.0))
    for number, change in enumerate(changes):
        change()
        assert float(run(1.0)) == float(function(1.0)), number
        assert float(run(1.0)) == float(function(1.0)), number


def test_nodes_of_the_same_form_need_no_trace():
    """Others of equal structure at the same keys, also in new containers and objects."""
    traces: list[None] = []
    holder = types.SimpleNamespace(nets={"a": [net(1.0)], "b": [net(2.0)]}, steps=0)

    def total(x: Any) -> Any:
        traces.append(None)
        return holder.nets["a"][0](x) + 10 * holder.nets["b"][0](x)

    run = gn.jit(total)
    assert float(run(1.0)) == 21.0
    holder.nets["a"], holder.steps = [net(5.0)], 1
    assert float(run(1.0)) == 25.0
    holder = types.SimpleNamespace(nets={"a": [net(6.0)], "b": [net(7.0)]}, steps=1.5)
    assert float(run(1.0)) == 76.0
    assert len(traces) == 1
    gc.collect()


def test_another_order_is_explained():
    """By the keys, and where functions or classes are others by these."""
    nets = {"a": net(1.0), "b": net(2.0)}
    run = gn.jit(lambda x: nets["a"](x))
    run(1.0)
    nets = {"b": nets["b"], "a": nets["a"]}
    run(1.0)
    assert str(gn.explain_retrace(run)).splitlines()[-1].strip() == (
        "nodes around the function: nets.a, nets.b != nets.b, nets.a"
    )
    loss = Loss(nets["a"])
    run = gn.jit(lambda x: loss(x))
    run(1.0)
    loss = Negative(loss.model)
    run(1.0)
    assert str(gn.explain_retrace(run)).splitlines()[-1].strip() == "loss: another function or class"


def test_paths_have_texts():
    """Keys that are names or positions as in a path, others as Python has them."""
    value = {"a b": [1], 2: {1.5: None}, "o": types.SimpleNamespace(x=functools.partial(max, 3))}
    content = content_of([value], ["v"])
    texts = [content_text(part.path) for part in content.parts]
    assert texts == ["v", 'v."a b"', "v.2", "v.o", 'v."a b".0', "v.2[1.5]", "v.o.x", "v.o.x.func", "v.o.x.0"]
    walk = Walk(content, [texts.index('v."a b".0')])
    assert [texts[at] for at in walk.positions] == ["v", 'v."a b"', "v.2", "v.o", 'v."a b".0']
    assert walk.again([value]) == [value, [1], value[2], value["o"], 1]
    assert walk.again([{**value, 3: None}]) is None


def test_functions_without_nodes_have_no_places():
    """A call of most functions costs nothing of this: what they use are modules, functions and numbers."""
    config = types.SimpleNamespace(rate=1.0, name=None)
    rates = [1.0, 2.0]
    assert around(lambda x: jnp.sin(x) * config.rate * rates[0] + dataclasses.MISSING).is_empty


class Proxy:
    """Stands for an object of another context, such as a request; outside of it nothing of it can be read."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_what_cannot_be_read_is_passed_by():
    """A proxy whose object is gone, and one that refuses each question; what stands beside them is followed."""

    class Gone:
        net = net()

    gone = weakref.proxy(Gone())
    proxy = Proxy()
    beside: list[Any] = [proxy, net(2.0)]

    def step(x: Any) -> Any:
        return beside[1](x) if gone is not proxy else x

    run = gn.jit(step)
    assert float(run(1.0)) == 2.0
    beside = [net(3.0), net(4.0, 2)]
    assert float(run(1.0)) == 8.0


def test_no_code_of_an_object_runs():
    """Properties, `__getattr__` of modules, attributes that are computed: they may do anything."""
    module: Any = types.ModuleType("lazy")
    asked: list[str] = []
    module.__getattr__ = asked.append

    class Lazy:
        @property
        def first(self) -> Any:
            asked.append("first")
            return 1.0

        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            raise AttributeError(name)

    lazy = Lazy()
    held = around(lambda x: (module.first, lazy.first, lazy.second)).held()
    assert (held.nodes, asked) == ((), [])


NODES = [net(float(number)) for number in range(4)]
# Where other values stood, no node is expected later.
LEAVES = st.sampled_from([*NODES, None])
CONTENTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["a", "b", 1, NODES[0]]), inner, max_size=3)
        | st.builds(lambda value: types.SimpleNamespace(x=value, y=1), inner)
        | st.builds(lambda value: functools.partial(max, value, key=None), inner)
    ),
    max_leaves=6,
)


@given(st.lists(CONTENTS, min_size=2, max_size=5))
def test_what_is_read_again_is_what_a_look_would_find(contents: list[Any]):
    """The same nodes at the same paths, whatever stood there at the look; of the same form, nothing is opened anew."""
    box = [NODES[3], contents[0]]

    def function() -> Any:
        part: Any = box[1]
        return part.x

    surroundings = around(function)
    for content in [*contents, *contents]:
        box[1] = content
        held, fresh = surroundings.held(), around(function).held()
        assert (held.paths, held.key) == (fresh.paths, fresh.key)
        assert list(map(id, held.nodes)) == list(map(id, fresh.nodes))
        whole = content_of([box], ["box"])
        again = Walk(whole, range(len(whole.parts))).again([box])
        assert again is not None
        assert list(map(id, again)) == [id(part.value) for part in whole.parts]


@dataclasses.dataclass
class Record:
    epoch: int
    loss: float


def test_what_collects_on_a_trainer_needs_no_trace():
    """Records, events, functions that lead to no node, and attributes that are set after the first step."""

    class Trainer:
        def __init__(self) -> None:
            self.model, self.best = net(1.0), None
            self.history: list[Any] = []
            self.traces = 0

        def loss(self, x: Any) -> Any:
            self.traces += 1
            return self.model(x) * (1 if self.best is None else 2)

    trainer = Trainer()
    loss = gn.jit(trainer.loss)
    for epoch in range(5):
        trainer.history += [Record(epoch, float(loss(1.0))), threading.Event(), {"epoch": epoch}]
        setattr(trainer, f"on_end_{epoch}", lambda: None)
    assert trainer.traces == 1


def test_a_search_is_short():
    """Each object and function is met once, in modules that refer to each other and in objects that hold themselves."""
    modules = [types.ModuleType(f"part_{number}") for number in range(6)]
    for module in modules:
        vars(module).update({other.__name__: other for other in modules})
        vars(module)["net"] = net()
    part: Any = modules[0]
    looked: list[int] = []
    walks = [content_of([part], ["part"], {module.__name__ for module in modules} | {"net"})]
    looked.append(len(walks[0].parts))
    assert looked[0] < 100
    run = gn.jit(lambda x: part.part_1.part_2.net(x))
    assert float(run(1.0)) == 3.0
    vars(modules[2])["net"].factor = 2
    assert float(run(1.0)) == 6.0


def test_a_long_chain_of_functions_is_followed():
    """As far as Python itself goes."""
    node = net(2.0)

    def after(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: function(x) + 1.0

    function: Callable[[Any], Any] = lambda x: node(x)  # noqa: E731
    for _ in range(300):
        function = after(function)
    run = gn.jit(function)
    assert float(run(1.0)) == 302.0
    node.factor = 2
    assert float(run(1.0)) == 304.0


def test_places_keep_nothing_alive():
    """What a helper closes over goes with the helper, without another call."""
    hooks: dict[str, Any] = {}
    step = gn.jit(lambda x: hooks["f"](x))

    def hook() -> "weakref.ref[Net]":
        node = net()
        hooks["f"] = lambda x: node(x)
        return weakref.ref(node)

    ref = hook()
    step(1.0)
    hooks.clear()
    gc.collect()
    assert ref() is None


def test_an_empty_slot_is_read_without_asking_the_object():
    """A lazy object makes what is asked for; nothing asks here."""
    asked: list[str] = []

    class Lazy:
        __slots__ = ("made",)

        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            raise KeyError(name)

    held: list[Any] = [Lazy(), net(2.0)]
    run = gn.jit(lambda x: held[1](x))
    assert (float(run(1.0)), float(run(2.0)), asked) == (2.0, 4.0, [])
