"""capture and capture_grads: what nodes return while a function runs, and gradients with respect to it."""

import copy
import functools
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import graphnode as gn
from graphnode import nn
from graphnode._calls import has_handlers
from graphnode.transforms._arguments import StaticContents

UNTYPED: Any = gn
X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)


class Block(gn.Node):
    lin: nn.Linear
    count: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.int32(0)))

    def __call__(self, x: Any) -> Any:
        """Call it."""
        self.count.value += 1
        return x + jnp.tanh(self.lin(x))

    def twice(self, x: Any) -> Any:
        """Call it, and again."""
        return self(self(x))


class Net(gn.Node):
    blocks: list[Block]
    head: nn.Linear

    def __call__(self, x: Any) -> Any:
        """Call it."""
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Stacked(gn.Node):
    blocks: Block
    head: nn.Linear

    def __call__(self, x: Any) -> Any:
        """Call it."""
        h, _ = gn.scan(lambda h, block: (block(h), None), x, self.blocks)
        return self.head(h)


def block(seed: int = 0) -> Block:
    with gn.random.scope(seed):
        return Block(nn.Linear(3, 3))


def net(count: int = 2) -> Net:
    with gn.random.scope(9):
        return Net([block(seed) for seed in range(count)], nn.Linear(3, 2))


def stacked(count: int = 2) -> Stacked:
    with gn.random.scope(9):
        return Stacked(gn.stack([block(seed) for seed in range(count)]), nn.Linear(3, 2))


def loss(model: Any, x: Any) -> Any:
    """The loss."""
    return jnp.sum(model(x) ** 2)


def by_hand(model: Net, x: Any) -> list[Any]:
    """What each block returns."""
    results = []
    for one in model.blocks:
        x = one(x)
        results.append(x)
    return results


def assert_close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def fault(run: Callable[[], object]) -> str:
    with pytest.raises(gn.CaptureError) as caught:
        run()
    return str(caught.value)


# What is given

WAYS: dict[str, Callable[[Callable[..., Any], Any], Callable[..., Any]]] = {
    "eager": lambda f, sel: gn.capture(f, sel),
    "jit of it": lambda f, sel: gn.jit(gn.capture(f, sel)),
    "it of jit": lambda f, sel: gn.capture(gn.jit(f), sel),
    "jit of it of jit": lambda f, sel: gn.jit(gn.capture(gn.jit(f), sel)),
    "of remat": lambda f, sel: gn.capture(gn.remat(f), sel),
    "remat of it": lambda f, sel: gn.remat(gn.capture(f, sel)),
}


@pytest.mark.parametrize("way", WAYS)
def test_results_are_those_without_it_to_the_bit(way: str):
    """Result, what was captured, and written States are what a call without it gives."""
    plain, model = net(), net()
    expected, results = plain(X), by_hand(net(), X)
    out, seen = WAYS[way](lambda model, x: model(x), "blocks.*")(model, X)
    if way == "eager":
        assert np.array_equal(out, expected)
    assert_close(out, expected)
    assert list(seen) == ["blocks.0", "blocks.1"]
    for at, result in enumerate(results):
        assert_close(seen[f"blocks.{at}"], result)
    assert [one.count.value for one in model.blocks] == [1, 1]


def test_a_method_and_a_callable_node_bring_their_node():
    """As under any transform; paths begin below the node."""
    model = net(1)
    assert list(gn.capture(model, nn.Linear)(X)[1]) == ["blocks.0.lin", "head"]
    assert list(gn.capture(model.blocks[0].__call__, "lin")(X)[1]) == ["lin"]


def test_a_scan_over_a_stack_adds_an_axis():
    """The path is that of the stack; rounds are along the first axis."""
    _, seen = gn.capture(stacked(3), ["blocks", "blocks.lin"])(X)
    assert {path: value.shape for path, value in seen.items()} == {"blocks.lin": (3, 2, 3), "blocks": (3, 2, 3)}
    for at, result in enumerate(by_hand(net(3), X)):
        assert_close(seen["blocks"][at], result)


def test_vmap_adds_an_axis_inside_and_outside():
    """Also to what is the same in all lanes."""
    model, xs = net(1), jnp.stack([X, 2 * X, 3 * X])

    def run(model: Net, x: Any) -> Any:
        return model.head(model.blocks[0].lin(x)) + model.head(jnp.ones((1, 3)))

    inside = gn.capture(gn.vmap(run, in_axes=(None, 0)), ["head", "blocks.0.lin"])(model, xs)[1]
    outside = gn.vmap(gn.capture(run, ["head", "blocks.0.lin"]), in_axes=(None, 0))(model, xs)[1]
    for seen in (inside, outside):
        assert seen["blocks.0.lin"].shape == (3, 2, 3)
        assert [value.shape for value in seen.calls["head"]] == [(3, 2, 2), (3, 1, 2)]
        assert_close(seen["blocks.0.lin"], model.blocks[0].lin(xs))


def test_each_call_counts():
    """A node that is called several times has all results, in order, and no single one."""

    def twice(model: Net, x: Any) -> Any:
        return model.head(model.blocks[0](model.blocks[0](x)))

    model = net(1)
    _, seen = gn.capture(twice, Block)(model, X)
    first, second = seen.calls["blocks.0"]
    again = net(1).blocks[0]
    assert np.array_equal(first, again(X))
    assert np.array_equal(second, again(first))
    assert repr(seen) == "Captured(blocks.0 (2 calls): f32[2,3], f32[2,3])"
    assert fault(lambda: seen["blocks.0"]) == "blocks.0 was called 2 times: .calls['blocks.0'] has all results"
    assert model.blocks[0].count.value == 2


@pytest.mark.parametrize("transform", [gn.jit, gn.remat])
def test_one_transformed_function_for_several_nodes(transform: Any):
    """Each node has its own path, though JAX would trace the function once."""
    apply = transform(lambda one, x: one(x))

    def run(model: Net, x: Any) -> Any:
        for one in model.blocks:
            x = apply(one, x)
        return x

    run(net(3), X)  # what is kept of it has no taps
    _, seen = gn.capture(run, Block)(net(3), X)
    assert list(seen) == ["blocks.0", "blocks.1", "blocks.2"]
    for path, result in zip(seen, by_hand(net(3), X), strict=True):
        assert_close(seen[path], result)
    model = net(3)
    assert_close(run(model, X), by_hand(net(3), X)[-1])
    assert [one.count.value for one in model.blocks] == [1, 1, 1]


class Parts(gn.Node):
    lin: nn.Linear

    def __call__(self, x: Any) -> Any:
        """A pytree, with a number and `None` in it."""
        return {"y": self.lin(x), "factor": 3, "none": None}, jnp.int32(4)

    def nothing(self, x: Any) -> None:
        """Gives nothing."""

    def part(self, x: Any) -> nn.Linear:
        """Gives a node."""
        return self.lin


class Whole(gn.Node):
    parts: Parts

    def __call__(self, x: Any) -> Any:
        """Use all methods."""
        self.parts.nothing(x)
        tree, four = self.parts(x)
        # A number stays one: Python may compute with it.
        return self.parts.part(x)(jnp.concatenate([tree["y"]] * tree["factor"])) * jnp.float32(four)


def whole() -> Whole:
    with gn.random.scope(0):
        return Whole(Parts(nn.Linear(3, 3)))


def test_results_may_be_any_pytree():
    """Numbers are arrays in what is captured; `None` stays."""
    _, seen = gn.capture(whole(), "parts")(X)
    tree, four = seen["parts"]
    assert (tree["factor"], tree["none"], four) == (3, None, 4)
    assert isinstance(tree["factor"], jax.Array)
    assert repr(seen) == ("Captured(parts: ({'factor': i32[], 'none': None, 'y': f32[2,3]}, i32[]))")


def test_another_method_is_named():
    """What `method` says is captured, and nothing else; `None` is a result, too."""
    _, seen = gn.capture(whole(), "parts", method="nothing")(X)
    assert seen["parts"] is None
    assert repr(seen) == "Captured(parts: None)"
    assert gn.jit(gn.capture(whole(), "parts", method="nothing"))(X)[1]["parts"] is None


def test_a_node_as_a_result_is_refused():
    """It is no value."""
    assert fault(lambda: gn.capture(whole(), "parts", method="part")(X)) == (
        "gn.capture: Whole.parts returns a Linear, and only arrays and numbers can be captured or replaced; select the "
        "nodes inside of it, or another method"
    )


def test_a_shared_node_is_found_by_any_of_its_paths():
    """What it gave stands under the first one."""

    class Tied(gn.Node):
        encoder: nn.Linear
        decoder: nn.Linear

        def __call__(self, x: Any) -> Any:
            return self.encoder(self.decoder(x))

    with gn.random.scope(0):
        shared = nn.Linear(3, 3)
    for path in ("encoder", "decoder", gn.Under("encoder"), nn.Linear):
        _, seen = UNTYPED.capture(Tied(shared, shared), path)(X)
        assert [*map(len, seen.calls.values())] == [2]
        assert list(seen) == ["decoder"]


def two(student: Net, teacher: Net, x: Any) -> Any:
    """Of two models."""
    return student(x) - teacher(x)


def test_the_argument_stands_in_front_where_there_are_several():
    """A path selects in all arguments, one with a name in that argument alone; keys have the name in any case."""
    _, seen = gn.capture(two, "head")(net(), net(), X)
    assert list(seen) == ["student.head", "teacher.head"]
    assert list(gn.capture(two, "teacher.head")(net(), net(), X)[1]) == ["teacher.head"]
    both = gn.capture(two, ["teacher.blocks.0", "student.head"])(net(), net(), X)[1]
    assert list(both) == ["student.head", "teacher.blocks.0"]
    models = {"a": net(), "b": net()}
    assert list(gn.capture(lambda models, x: models["a"](x) + models["b"](x), "a.head")(models, X)[1]) == ["a.head"]


def test_a_path_that_may_mean_two_nodes_is_refused():
    """By the name of an argument, and by a field of an argument; both are named."""

    class Named(gn.Node):
        student: nn.Linear

        def __call__(self, x: Any) -> Any:
            return self.student(x)

    def run(student: Net, other: Named, x: Any) -> Any:
        return student(x) + other(x)[:, :2]

    with gn.random.scope(0):
        other = Named(nn.Linear(3, 3))
    text = (
        "'student' is other.student by its path in an argument, and student by the name of an argument; "
        "write 'other.student' for the first, or give the argument another name"
    )
    assert fault(lambda: gn.capture(run, "student")(net(), other, X)) == f"gn.capture: {text}"
    changes = {"student": jnp.zeros_like}
    assert fault(lambda: gn.intervene(run, changes)(net(), other, X)) == f"gn.intervene: {text}"
    assert list(gn.capture(run, "other.student")(net(), other, X)[1]) == ["other.student"]


def test_a_star_of_a_single_argument_is_what_is_in_it():
    """The argument itself, which has a name, is not meant."""
    with gn.random.scope(0):
        head = Head(nn.Linear(3, 3))
    assert list(gn.capture(lambda head, x: head(x), "*")(head, X)[1]) == ["lin"]


SELECTIONS: dict[str, tuple[Any, list[str]]] = {
    "path": ("blocks.1", ["blocks.1"]),
    "glob": ("blocks.*.lin", ["blocks.0.lin", "blocks.1.lin"]),
    "any depth": ("**.lin", ["blocks.0.lin", "blocks.1.lin"]),
    "root": ("", [""]),
    "class": (Block, ["blocks.0", "blocks.1"]),
    "union": (Block | nn.Linear, ["blocks.0.lin", "blocks.0", "blocks.1.lin", "blocks.1", "head"]),
    "several": (["head", Block], ["blocks.0", "blocks.1", "head"]),
    "Under": (gn.Under("blocks.0"), ["blocks.0.lin", "blocks.0"]),
    "PathIn": (gn.PathIn("blocks.0", ("head",)), ["blocks.0", "head"]),
    "all but": (gn.All(nn.Linear, gn.Not(gn.Under("blocks"))), ["head"]),
    "all": (..., ["blocks.0.lin", "blocks.0", "blocks.1.lin", "blocks.1", "head", ""]),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_what_selects(name: str):
    """Results come in the order in which they were computed."""
    selection, paths = SELECTIONS[name]
    assert list(UNTYPED.capture(net(), selection)(X)[1]) == paths


def test_pairs_of_paths_and_nodes_select_by_the_path():
    """As iteration over a selection of nodes gives them."""
    model = net()
    pairs = gn.nodes(model, Block).items()
    assert list(gn.capture(model, pairs)(X)[1]) == ["blocks.0", "blocks.1"]


# What is wrong


def test_what_selects_nothing_is_named_with_the_nearest():
    """All at once, before anything runs."""
    assert fault(lambda: gn.capture(net(), ["blocks.7", "hed", nn.Embedding, "head"])(X)) == (
        "gn.capture: 3 faults:\n"
        "  no node is at 'blocks.7' (did you mean 'blocks.1'?)\n"
        "  no node is at 'hed' (did you mean 'head'?)\n"
        "  none of the nodes is an Embedding; there are Net, Block, Linear"
    )
    assert fault(lambda: gn.capture(two, "teachr.head")(net(), net(), X)) == (
        "gn.capture: no node is at 'teachr.head' (did you mean 'teacher.head'?)"
    )
    model = net()
    assert fault(lambda: gn.capture(lambda x: model(x), "head")(X)) == (
        "gn.capture: no argument has a node; pass the model as an argument"
    )
    assert model.blocks[0].count.value == 0


def test_a_selected_node_that_is_not_called_is_named():
    """With what is called of it, and nothing is written; `missing_ok` says that it may be so."""
    model = net()

    def first(model: Net, x: Any) -> Any:
        return model.blocks[0](x)

    assert fault(lambda: gn.capture(first, Block)(model, X)) == ("gn.capture: __call__ of model.blocks.1 is not called")
    assert fault(lambda: gn.capture(first, "blocks.0", method="twice")(model, X)) == (
        "gn.capture: twice of model.blocks.0 is not called; what is called is selected by method='__call__'"
    )
    assert fault(lambda: gn.capture(first, ..., method="twice")(model, X)) == ("gn.capture: twice of no node is called")
    assert model.blocks[0].count.value == 0
    assert list(gn.capture(first, Block, missing_ok=True)(model, X)[1]) == ["blocks.0"]
    assert list(gn.capture(first, "head", missing_ok=True)(model, X)[1]) == []


class Methods(gn.Node):
    """Has methods of all kinds."""

    lin: nn.Linear

    def encode(self, x: Any) -> Any:
        """Is seen."""
        return x

    def later(self, x: Any) -> Any:
        """Runs later."""
        yield x

    async def elsewhere(self, x: Any) -> Any:
        """Runs elsewhere."""
        return x

    @property
    def size(self) -> int:
        """A number."""
        return 3

    @staticmethod
    def of_none(x: Any) -> Any:
        """Of no node."""
        return x

    @classmethod
    def of_class(cls, x: Any) -> Any:
        """Of the class."""
        return x

    half = functools.partialmethod(encode, x=0.5)


KINDS = {
    "later": "a generator",
    "elsewhere": "a coroutine",
    "size": "a property",
    "of_none": "a static method",
    "of_class": "a class method",
    "half": "a partialmethod",
}


@pytest.mark.parametrize("missing_ok", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_a_method_whose_calls_are_never_seen_is_refused(name: str, missing_ok: bool):
    """Also where nodes need not be called."""
    with gn.random.scope(0):
        one = Methods(nn.Linear(3, 3))
    run = gn.capture(lambda one, x: x, "", method=name, missing_ok=missing_ok)
    assert fault(lambda: run(one, X)) == (
        f"gn.capture: one has {name!r} as {KINDS[name]}, whose calls cannot be seen; select a method that it calls, "
        "or is called by"
    )


def test_a_method_that_no_selected_node_has_is_refused():
    """It may be misspelt, which `missing_ok` must not hide; private ones are refused where they are written."""
    with gn.random.scope(0):
        one = Methods(nn.Linear(3, 3))
    run = gn.capture(lambda one, x: one.encode(x), "", method="encod", missing_ok=True)
    assert fault(lambda: run(one, X)) == "gn.capture: one has no method 'encod' (did you mean 'encode'?)"
    both = gn.capture(lambda one, x: one.lin(one.encode(x)), ["", "lin"], method="encode", missing_ok=True)
    assert list(both(one, X)[1]) == [""]
    assert fault(lambda: gn.capture(lambda one, x: x, "", method="_encode")) == (
        "gn.capture: only calls of public methods and of __call__ are seen; found '_encode'"
    )


class Head(gn.Node):
    lin: nn.Linear

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return self.lin(x)


def _looped(one: Head, x: Any) -> Any:
    return gn.while_loop(lambda carry: carry[1][0, 0] < 9, lambda carry: (carry[0], carry[0](carry[1]) + 1), (one, x))


def _branched(one: Head, x: Any) -> Any:
    return gn.cond(x[0, 0] > 0, lambda one, x: one(x), lambda one, x: x, one, x)


def _sharded(one: Head, x: Any) -> Any:
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    return gn.shard_map(lambda one, x: one(x), mesh=mesh, in_specs=(jax.P(), jax.P("d")), out_specs=jax.P("d"))(one, x)


HIDDEN: dict[str, tuple[Callable[..., Any], str]] = {
    "while_loop": (
        _looped,
        "a while loop, whose number of rounds is not known: use gn.scan, or gn.fori_loop with bounds that are Python "
        "integers",
    ),
    "cond": (_branched, "gn.cond or gn.switch, and so perhaps not at all: call it outside, and choose with jnp.where"),
    "shard_map": (_sharded, "gn.shard_map, where each shard has values of its own: return what you need from there"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_call_whose_values_cannot_be_had_is_refused(name: str):
    """The error says where it is, and what would do."""
    function, where = HIDDEN[name]
    with gn.random.scope(0):
        one = Head(nn.Linear(3, 3))
    assert fault(lambda: gn.capture(function, "lin")(one, X)) == (f"gn.capture: one.lin is called inside of {where}")


def test_a_fori_loop_of_known_length_has_an_axis():
    """JAX knows its rounds."""
    with gn.random.scope(0):
        one = Head(nn.Linear(3, 3))

    def run(one: Head, x: Any) -> Any:
        return gn.fori_loop(0, 4, lambda _, carry: (carry[0], carry[0](carry[1])), (one, x))[1]

    out, seen = gn.capture(run, "lin")(one, X)
    assert seen["lin"].shape == (4, 2, 3)
    assert_close(seen["lin"][-1], out)


@pytest.mark.no_runtime_types
def test_what_selects_no_calls_is_refused_where_it_is_written():
    """Not only at the call."""
    takes = (
        "selects by paths, globs, node classes, filters by path such as gn.Under, a gn.select(...), or several of these"
    )
    for wrong, found in [(3, "int 3"), (None, "None"), ([1.5], "float 1.5")]:
        with pytest.raises(gn.FilterTypeError) as caught:
            UNTYPED.capture(net(), wrong)
        assert str(caught.value) == f"gn.capture {takes}; found {found}"
    with pytest.raises(gn.FilterTypeError) as caught:
        gn.capture(net(), [])
    assert str(caught.value) == "gn.capture: nothing is selected; found an empty list"
    with pytest.raises(gn.FilterTypeError, match="found function"):
        UNTYPED.capture(net(), lambda path, node: True)
    with pytest.raises(gn.PathError):
        gn.capture(net(), "blocks..0")


# Other transforms


def test_values_of_python_stay_what_they_are():
    """Python may compute with them; another value is another trace."""
    traces = []

    def run(model: Net, x: Any, mode: str, *, deterministic: bool = False, times: int = 1) -> Any:
        traces.append((mode, deterministic, times))
        for _ in range(times):
            x = model.blocks[0](x) if deterministic and mode == "block" else model.head(x)
        return x

    captured = gn.capture(run, ["blocks.0", "head"], missing_ok=True)
    for _ in range(2):
        assert list(captured(net(), X, "block", deterministic=True, times=2)[1].calls) == ["blocks.0"]
        assert list(captured(net(), X, "head")[1]) == ["head"]
    assert traces == [("block", True, 2), ("head", False, 1)]


CONTAINERS: list[tuple[Any, Any]] = [
    ({"a": ["s", 1]}, {"a": ["s", 2]}),
    ({"a": ["s", 1]}, {"a": ["s", True]}),
    ({1, 2}, {1, 3}),
    (["s"], ["s", None]),
    (["s"], [{"s"}]),
    (bytearray(b"q"), bytearray(b"r")),
    ([{"a": {1}}, (2.0, "b")], [{"a": {1}}, [2.0, "b"]]),
    ({1: "s"}, {True: "s"}),
    ({"b": "s", "a": "t"}, {"a": "t", "b": "s"}),
]


@pytest.mark.parametrize(("options", "others"), CONTAINERS)
def test_containers_of_python_values_are_compared_by_their_contents(options: Any, others: Any):
    """Each trace gets one of its own, of the same types; with other contents it is another trace."""
    traces: list[Any] = []

    def run(model: Net, x: Any, given: Any) -> Any:
        traces.append(given)
        return model.head(x)

    captured = gn.capture(run, "head")
    for given in (options, copy.deepcopy(options), others, options):
        assert list(captured(net(), X, given)[1]) == ["head"]
    assert traces == [options, others]
    assert traces[0] is not options
    assert repr(traces) == repr([options, others])


def test_numbers_in_containers_are_traced():
    """As those of other transforms: each would be another trace."""
    traces: list[Any] = []

    def run(model: Net, x: Any, given: Any) -> Any:
        traces.append(given)
        return model.head(x) * given["scale"]

    captured = gn.capture(run, "head")
    results = [captured(net(), X, {"scale": 1.0 + number})[0] for number in range(3)]
    assert len(traces) == 1
    assert jnp.allclose(results[2], 3 * results[0])


def test_what_is_written_to_a_static_container_is_not_lost():
    """A function gets one of its own, as it runs in the first call alone."""
    log = ["s"]
    with pytest.raises(gn.CaptureError) as caught:
        gn.capture(lambda model, x, log: (log.append("t"), model.head(x))[1], "head")(net(), X, log)
    assert str(caught.value) == (
        "gn.capture: the function writes to log, which is static, so that what it writes is lost; return it"
    )
    assert log == ["s"]


def test_a_container_in_itself_is_no_static_argument():
    """Its contents have no end."""
    value: list[Any] = ["s"]
    value.append(value)
    with pytest.raises(gn.FieldError) as caught:
        StaticContents("options", value)
    assert str(caught.value) == "the static argument options: a list is in itself"


def test_without_compilation_a_loop_gives_its_rounds_as_calls():
    """JAX runs the rounds one by one then."""
    with jax.disable_jit():
        _, seen = gn.capture(stacked(), "blocks")(X)
    assert [call.shape for call in seen.calls["blocks"]] == [(2, 3)] * len(seen.calls["blocks"])
    assert len(seen.calls["blocks"]) > 1


def test_what_is_no_argument_is_told_what_would_do():
    """None of these functions has static arguments."""
    run = gn.capture(lambda model, x, options: model.head(x), "head")
    with pytest.raises(TypeError) as caught:
        run(net(), X, {"weights": np.ones(2), "mode": "fast"})
    assert str(caught.value) == (
        "gn.capture takes arrays, numbers and nodes; options['mode'] is str 'fast': pass it in an argument of plain "
        "lists, dicts and sets without arrays, bind it with functools.partial, or make it a static field of a node"
    )


@pytest.mark.parametrize("checkpoint", [True, 2, 3])
def test_a_scan_by_segments_has_one_axis(checkpoint: Any):
    """However its backward pass is computed."""

    def run(model: Stacked, x: Any) -> Any:
        return gn.scan(lambda h, block: (block(h), None), x, model.blocks, checkpoint=checkpoint)[0]

    out, seen = gn.capture(run, "blocks")(stacked(4), X)
    assert seen["blocks"].shape == (4, 2, 3)
    assert_close(out, seen["blocks"][-1])
    _, _, grads = gn.capture_grads(lambda model, x: jnp.sum(run(model, x)), "blocks")(stacked(4), X)
    assert (grads["blocks"][-1] == 1).all()


def test_derivatives_through_what_was_captured():
    """`grad` outside takes it like any result."""
    model = net(1)
    gradient = gn.grad(lambda model, x: jnp.sum(gn.capture(model, "blocks.0")(x)[1]["blocks.0"]))(model, X)
    expected = gn.grad(lambda model, x: jnp.sum(model.blocks[0](x)))(net(1), X)
    assert_close(gradient["blocks", 0, "lin", "weight"].value, expected["blocks", 0, "lin", "weight"].value)
    assert not gradient["head", "weight"].value.any()


def test_derivatives_inside():
    """`grad` inside stays what it is, and its forward pass is captured once."""
    expected = gn.grad(loss)(net(), X)
    for differentiated in (gn.grad(loss), gn.grad(gn.remat(loss)), gn.jit(gn.grad(loss))):
        gradient, seen = gn.capture(differentiated, "blocks.*")(net(), X)
        assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.allclose(a, b)), gradient, expected))
        assert [*map(len, seen.calls.values())] == [1, 1]


def test_a_rule_of_its_own_holds_inside_and_outside():
    """What is captured inside is computed beside, and the rule stays the function's."""

    @gn.custom_vjp
    def clipped(one: Head, x: Any) -> Any:
        return one(x)

    clipped.defvjp(lambda one, x: (one(x), x), lambda x, cotangent: (None, jnp.full_like(x, 7.0)))
    with gn.random.scope(0):
        one = Head(nn.Linear(3, 3))
    run = gn.capture(lambda one, x: jnp.sum(clipped(one, x)), "lin")
    _, seen = run(one, X)
    assert_close(seen["lin"], one(X))
    gradient = gn.grad(lambda one, x: run(one, x)[0], argnums=1)(one, X)
    assert (gradient == 7).all()


def test_captures_nest():
    """Each has its own; of a part of a model, paths begin at the part."""

    def inner(model: Net, x: Any) -> Any:
        return gn.capture(model.blocks[1], "lin")(x)

    (out, within), around = gn.capture(inner, "blocks.1.lin")(net(), X)
    assert (list(within), list(around)) == (["lin"], ["blocks.1.lin"])
    assert np.array_equal(within["lin"], around["blocks.1.lin"])
    assert list(gn.jit(inner)(net(), X)[1]) == ["lin"]
    assert out.shape == (2, 3)


def test_random_streams_draw_what_they_draw_without():
    """And go on from there."""

    class Noisy(gn.Node):
        lin: nn.Linear
        rngs: gn.Rngs

        def __call__(self, x: Any) -> Any:
            return self.lin(x + self.rngs.normal(x.shape))

    def noisy() -> Noisy:
        with gn.random.scope(0):
            return Noisy(nn.Linear(3, 3), gn.Rngs(1))

    plain, captured = noisy(), noisy()
    for _ in range(2):
        assert np.array_equal(plain(X), gn.capture(captured, "lin")(X)[0])


def test_states_of_outside_are_followed():
    """What the function reads from a closure is what it is at the call."""
    factor, model = gn.State(jnp.float32(2)), net(1)
    run = gn.capture(lambda model, x: factor.value * model(x), "head")
    before, _ = run(model, X)
    factor.value = jnp.float32(4)
    after, _ = run(model, X)
    assert_close(after, 2 * before)


def test_the_second_call_traces_nothing():
    """Neither alone nor under `jit`, nor where it is wrapped again; other shapes do."""
    traces = []

    def run(model: Net, x: Any) -> Any:
        traces.append(x.shape)
        return model(x)

    model = net(1)
    for _ in range(2):
        gn.capture(run, Block)(model, X)
        gn.capture(run, Block)(net(1), X)
    assert traces == [(2, 3)]
    gn.capture(run, Block)(model, X[:1])
    gn.capture(run, Block)(model, X)
    assert traces == [(2, 3), (1, 3)]
    for wrapped in (gn.jit(gn.capture(run, Block)), gn.capture(gn.jit(run), Block)):
        wrapped(model, X)
        traces.clear()
        wrapped(model, X)
        assert traces == []
    gn.capture(run, "head")(model, X)
    assert traces == [(2, 3)]


def test_a_call_without_it_is_compiled_as_before():
    """What is traced for a capture is kept for captures alone."""
    run = gn.jit(lambda model, x: model(x))
    model = net(1)
    text = run.lower(model, X).as_text()
    gn.capture(run, Block)(model, X)
    assert run.lower(model, X).as_text() == text


def apply(one: Block, x: Any) -> Any:
    """Call a block."""
    return one(x)


def test_operations_have_the_names_of_each_place():
    """What is kept for one block is not that of another."""

    def run(model: Net, x: Any) -> Any:
        for one in model.blocks:
            x, _ = gn.capture(apply, "lin")(one, x)
        return x

    text = gn.jit(run).lower(net(), X).as_text(debug_info=True)
    assert {f"model.blocks.{at}.lin/dot_general" in text for at in range(2)} == {True}


def primitives(jaxpr: Any) -> list[str]:
    return [equation.primitive.name for equation in jaxpr.eqns]


def test_the_program_computes_nothing_else():
    """Only its outputs are more."""
    plain = gn.make_jaxpr(loss)(net(), X)
    captured = gn.make_jaxpr(gn.capture(loss, "**"))(net(), X)
    assert primitives(captured) == primitives(plain)
    assert len(captured.out_avals) == len(plain.out_avals) + 6


def test_nothing_is_kept_alive():
    """Neither the model nor the function, nor the function of a change."""

    def capture_all() -> list[weakref.ref[Any]]:
        def own(model: Net, x: Any) -> Any:
            return loss(model, x)

        def change(y: Any) -> Any:
            return 2 * y

        model = net(1)
        for run in (gn.capture(own, "head"), gn.capture_grads(own, Block), gn.intervene(own, {"head": change})):
            run(model, X)
        return [weakref.ref(one) for one in (own, change, model, model.head.weight)]

    refs = capture_all()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4


def test_an_error_inside_ends_the_capture():
    """Calls after it are not watched, and nothing is written."""

    class Failing(gn.Node):
        block: Block

        def __call__(self, x: Any) -> Any:
            self.block(x)
            raise ValueError("no")

    model = Failing(block())
    with pytest.raises(ValueError, match="no"):
        gn.capture(model, "block")(X)
    assert not has_handlers()
    assert model.block.count.value == 0


def test_within_a_shard():
    """There each shard has its own, as results of `gn.shard_map` do."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    def run(one: Head, x: Any) -> Any:
        return gn.capture(one, "lin")(x)[1]["lin"]

    with gn.random.scope(0):
        one = Head(nn.Linear(3, 3))
    rows = gn.shard_map(run, mesh=mesh, in_specs=(jax.P(), jax.P("d")), out_specs=jax.P("d"))(one, X)
    assert_close(rows, one(X))


def test_threads_capture_for_themselves():
    """What one traces is not watched by another."""
    seen: dict[int, list[str]] = {}

    def work(count: int) -> None:
        for _ in range(3):
            seen[count] = list(gn.capture(lambda model, x: model(x), "blocks.*")(net(count), X)[1])

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {count: [f"blocks.{at}" for at in range(count)] for count in (1, 2, 3)}


# What is captured, as an object


def test_captured_is_a_mapping_and_a_pytree():
    """Transforms take it apart and put it together again; it equals itself alone."""
    _, seen = gn.capture(net(), Block)(X)
    assert (len(seen), "blocks.0" in seen, "head" in seen) == (2, True, False)
    assert repr(seen) == "Captured(blocks.0: f32[2,3], blocks.1: f32[2,3])"
    with pytest.raises(KeyError) as caught:
        seen["blocks.00"]
    assert caught.value.args == ("nothing was captured at 'blocks.00'; did you mean 'blocks.0'?",)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, seen)
    assert isinstance(doubled, gn.Captured)
    assert np.array_equal(doubled["blocks.1"], 2 * seen["blocks.1"])
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(seen)]
    assert paths == ["['blocks.0'][0]", "['blocks.1'][0]"]
    assert seen != doubled
    assert len({seen, doubled}) == 2


@hypothesis.given(st.dictionaries(st.text(max_size=3), st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=4))
def test_captured_comes_back_from_its_leaves(calls: dict[str, tuple[int, ...]]):
    """Whatever paths and however many calls."""
    leaves, treedef = jax.tree.flatten(gn.Captured(calls))
    assert dict(jax.tree.unflatten(treedef, leaves).calls) == calls


# Gradients


def test_gradients_are_those_of_adding_something_there():
    """Of each selected node, with the value of the loss and what was captured."""
    model = net()
    value, seen, grads = gn.capture_grads(loss, "blocks.*")(model, X)
    assert np.array_equal(value, loss(net(), X))
    head = net().head

    def rest(model: Net, h: Any, at: int) -> Any:
        for one in model.blocks[at + 1 :]:
            h = one(h)
        return jnp.sum(head(h) ** 2)

    for at in range(2):
        h = seen[f"blocks.{at}"]
        expected = jax.grad(lambda h, at=at: rest(net(), h, at))(h)
        assert_close(grads[f"blocks.{at}"], expected)
    assert [one.count.value for one in model.blocks] == [1, 1]


@pytest.mark.parametrize("way", ["scan", "remat", "jit", "jit outside"])
def test_gradients_through_transforms(way: str):
    """A stack has those of each block; remat and jit change none."""
    _, _, expected = gn.capture_grads(loss, "blocks.*")(net(), X)
    if way == "scan":
        _, _, grads = gn.capture_grads(loss, "blocks")(stacked(), X)
        rows = list(grads["blocks"])
    else:
        inside: dict[str, Callable[..., Any]] = {"remat": gn.remat(loss), "jit": gn.jit(loss), "jit outside": loss}
        run = gn.capture_grads(inside[way], "blocks.*")
        _, _, grads = (gn.jit(run) if way == "jit outside" else run)(net(), X)
        rows = [grads["blocks.0"], grads["blocks.1"]]
    for row, plain_row in zip(rows, expected.values(), strict=True):
        assert_close(row, plain_row)


def test_gradients_of_each_lane():
    """Under `vmap`, each lane has its own."""
    with gn.random.scope(0):
        one = Head(nn.Linear(3, 3))
    rows = gn.vmap(lambda one, x: loss(one, x), in_axes=(None, 0))
    _, _, grads = gn.capture_grads(lambda one, x: jnp.sum(rows(one, x)), "lin")(one, X)
    assert_close(grads["lin"], 2 * one(X))


def test_what_has_no_derivative_has_none():
    """Integers have no gradient."""
    _, _, grads = gn.capture_grads(lambda model, x: jnp.sum(model(x)), "parts")(whole(), X)
    tree, four = grads["parts"]
    assert (tree["factor"], tree["none"], four) == (None, None, None)
    assert tree["y"].shape == (2, 3)


@pytest.mark.parametrize("given", [2.0, np.float32(2), np.full((1, 3), 2, np.float32), np.full((2, 3), 2.0)])
def test_numbers_and_arrays_of_numpy_have_gradients(given: Any):
    """A floating result has one, whatever it is made of."""

    class Constant(gn.Node):
        def __call__(self, x: Any) -> Any:
            return given

    class Product(gn.Node):
        factor: Constant

        def __call__(self, x: Any) -> Any:
            return jnp.sum(jnp.abs(x * self.factor(x)))

    model = Product(Constant())
    value, seen, grads = gn.capture_grads(model, "factor")(X)
    assert_close(value, model(X))
    expected = jax.grad(lambda y: jnp.sum(jnp.abs(X * y)))(jnp.asarray(given))
    assert_close(grads["factor"], expected)
    assert seen["factor"].shape == grads["factor"].shape == jnp.shape(given)
    assert jax.typeof(grads["factor"]) == jax.typeof(seen["factor"])


def test_a_loss_is_one_real_number():
    """As for `grad`."""
    with pytest.raises(TypeError) as caught:
        gn.capture_grads(net(), "head")(X)
    assert str(caught.value) == "gn.capture_grads: the function must return one real number; found float32[2,2]"
    with pytest.raises(TypeError, match=r"found PyTreeDef\(\(\*, \*\)\) of float32\[\], int32\[\]"):
        gn.capture_grads(lambda model, x: (loss(model, x), jnp.int32(1)), "head")(net(), X)


def test_complex_results_have_gradients():
    """As `jax.vjp` gives them."""

    class Wave(gn.Node):
        def __call__(self, x: Any) -> Any:
            return jnp.fft.fft(x)

    class Waves(gn.Node):
        wave: Wave

        def __call__(self, x: Any) -> Any:
            return jnp.sum(jnp.abs(self.wave(x)) ** 2)

    _, seen, grads = gn.capture_grads(Waves(Wave()), "wave")(X)
    assert_close(grads["wave"], 2 * jnp.conj(seen["wave"]))
