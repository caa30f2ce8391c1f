"""Whatever changes around a jitted function, the next call has the result of the plain function."""

import dataclasses
import functools
import gc
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
from graphnode.transforms._content import Walk, content_text
from graphnode.transforms._surroundings import Surroundings


class Net(gn.Node):
    w: gn.State[Any]
    factor: int = 1

    def __call__(self, x: Any) -> Any:
        return self.w.value * x * self.factor


def net(value: float = 3.0, factor: int = 1) -> Net:
    return Net(gn.State(jnp.float32(value)), factor)


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


READERS: dict[str, Callable[[], Callable[[Any], Any]]] = {
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
    walk, parts = Walk.of([value], ["v"])
    texts = list(map(content_text, walk.paths))
    assert texts == ["v", 'v."a b"', "v.2", "v.o", 'v."a b".0', "v.2[1.5]", "v.o.x", "v.o.x.func", "v.o.x.0"]
    assert walk.again([value]) == parts
    assert walk.again([{**value, 3: None}]) is None


def test_functions_without_nodes_have_no_places():
    """A call of most functions costs nothing of this: what they use are modules, functions and numbers."""
    config = types.SimpleNamespace(rate=1.0, name=None)
    rates = [1.0, 2.0]
    assert Surroundings.of(lambda x: jnp.sin(x) * config.rate * rates[0] + dataclasses.MISSING).is_empty


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
    held = Surroundings.of(lambda x: (module.first, lazy.first, lazy.second)).held()
    assert (held.nodes, asked) == ((), [])


NODES = [net(float(number)) for number in range(4)]
LEAVES = st.sampled_from([*NODES, None, 1.0, "text"])
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
        return box

    surroundings = Surroundings.of(function)
    for content in [*contents, *contents]:
        box[1] = content
        held, fresh = surroundings.held(), Surroundings.of(function).held()
        assert (held.paths, held.key) == (fresh.paths, fresh.key)
        assert list(map(id, held.nodes)) == list(map(id, fresh.nodes))
        walk, parts = Walk.of([box], ["box"])
        again = walk.again([box])
        assert again is not None
        assert list(map(id, again)) == list(map(id, parts))
