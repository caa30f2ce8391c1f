"""Random streams under vmap and scan: split by the rule of axes, advanced by one draw."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn

XS = jnp.ones((3, 8))
FORKED = gn.axes({gn.RngState: 0, ...: None})


class Noisy(gn.Node):
    weight: gn.ParamState
    dropout: gn.nn.Dropout

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.dropout(self.weight.value * x)


def noisy(rngs: gn.Rngs) -> Noisy:
    return Noisy(gn.ParamState(jnp.full(8, 2.0, jnp.float32)), gn.nn.Dropout(0.5, rngs=rngs))


def count(rngs: gn.Rngs, name: str = "default") -> Any:
    return rngs[name].count.value.tolist()


def draw(rngs: gn.Rngs, x: Any = None) -> jax.Array:
    return jax.random.normal(rngs())


def lanes(seed: int, size: int) -> list[float]:
    """What a fork of a stream's first draw gives each lane."""
    streams = gn.Rngs(seed).fork(size)
    return [float(draw(one)) for one in gn.unstack(streams)]


def message(error: type[Exception], function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# vmap


def test_a_stream_with_an_axis_gives_each_lane_its_own():
    """Lanes draw what the forks of one draw would; the stream keeps its key, and advances by that one draw."""
    rngs = gn.Rngs(0)
    key = rngs["default"].key.value
    found = gn.vmap(draw)(rngs, XS)
    assert jnp.allclose(found, jnp.array(lanes(0, 3)))
    assert len(set(found.tolist())) == 3
    assert count(rngs) == 1
    assert rngs["default"].key.value is key
    again = gn.vmap(draw)(rngs, XS)
    assert not set(again.tolist()) & set(found.tolist())
    assert count(rngs) == 2


@pytest.mark.parametrize("draws", [0, 1, 3])
def test_a_stream_advances_by_one_draw_whatever_lanes_draw(draws: int):
    """The number of draws in the lanes does not change what comes after."""
    rngs = gn.Rngs(0)
    gn.vmap(lambda rngs, x: [draw(rngs) for _ in range(draws)])(rngs, XS)
    assert count(rngs) == 1
    other = gn.Rngs(0)
    other()
    assert draw(rngs) == draw(other)


def test_a_shared_stream_must_not_draw():
    """A stream without an axis would give all lanes the same keys: its count is named, and it does not advance."""
    model = noisy(gn.Rngs(0))
    apply = gn.vmap(lambda m, x: m(x), in_axes=(None, 0))
    assert message(gn.TraceError, apply, model, XS).startswith(
        "gn.vmap: m.dropout.rngs.streams.default.count was written, but has no axis to be written along"
    )
    assert model.dropout.rngs is not None
    assert count(model.dropout.rngs) == 0


def test_stacked_streams_are_mapped():
    """Streams that have the axis already are mapped like any State: each lane advances its own."""
    rngs = gn.Rngs(0).fork(3)
    expected = lanes(0, 3)
    assert jnp.allclose(gn.vmap(draw)(rngs, XS), jnp.array(expected))
    assert count(rngs) == [1, 1, 1]
    with pytest.raises(ValueError):
        gn.vmap(draw)(rngs, jnp.ones(4))


def test_streams_alone_need_a_size():
    """Where nothing else is mapped, axis_size says how many lanes there are."""
    rngs = gn.Rngs(0)
    assert message(ValueError, gn.vmap(draw), rngs) == (
        "gn.vmap: only random streams are mapped: say how many lanes with axis_size"
    )
    assert jnp.allclose(gn.vmap(draw, axis_size=3)(rngs), jnp.array(lanes(0, 3)))
    assert gn.vmap(draw, axis_size=0)(gn.Rngs(0)).shape[0] == 0
    assert count(rngs) == 1


def test_each_name_is_forked_and_a_shared_stream_once():
    """Two names of one stream are one stream in each lane, too."""
    stream = gn.Rngs(0)["default"]
    rngs = gn.Rngs(a=stream, b=stream, c=3)
    a, b, c = gn.vmap(lambda r, x: (jax.random.normal(r("a")), jax.random.normal(r("b")), jax.random.normal(r("c"))))(
        rngs, XS
    )
    assert len({*a.tolist(), *b.tolist(), *c.tolist()}) == 9
    assert rngs["a"] is rngs["b"] is stream
    assert (count(rngs, "a"), count(rngs, "c")) == (1, 1)


def test_streams_around_one_key_stay_apart_in_each_lane():
    """Their counts, which alone tell them apart, are kept; each advances by one draw."""
    key = gn.RngKey(jax.random.key(0))
    first, second = gn.RngStream(key), gn.RngStream(key, gn.RngCount(jnp.uint32(1000)))
    rngs = gn.Rngs(a=first, b=second)
    drawn = gn.vmap(lambda rngs, x: [jax.random.normal(rngs(name)) for name in "ab"])(rngs, XS)
    assert len(set(jnp.concatenate(drawn).tolist())) == 6
    _, drawn = gn.scan(lambda c, rngs: (c, [jax.random.normal(rngs(name)) for name in "ab"]), None, rngs, length=3)
    assert len(set(jnp.concatenate(drawn).tolist())) == 6
    assert [int(stream.count.value) for stream in (first, second)] == [2, 1002]


def test_a_key_that_is_written_into_a_fork_is_refused():
    """It would be lost; nothing is written, and the stream does not advance. What has the axis keeps it."""
    rngs = gn.Rngs(0)
    key = rngs["default"].key.value

    def reseed(rngs: gn.Rngs, seed: jax.Array) -> None:
        rngs["default"].key.value = jax.random.key(seed)

    def step(carry: None, item: tuple[gn.Rngs, jax.Array]) -> tuple[None, None]:
        reseed(*item)
        return None, None

    seeds = jnp.arange(3)
    text = (
        "rngs.streams.default.key was written, but its stream has no axis: it is forked, and what is written into a "
        "fork is lost. Write the key outside of the function, or give the stream an axis before, as by rngs.fork(n)"
    )
    assert message(gn.TraceError, gn.vmap(reseed), rngs, seeds) == f"gn.vmap: {text}"

    def scan(rngs: gn.Rngs, seeds: jax.Array) -> None:
        gn.scan(step, None, (rngs, seeds))

    for function in (scan, gn.jit(scan)):
        assert message(gn.TraceError, function, rngs, seeds) == f"gn.scan: {text.replace('rngs', 'item[0]', 1)}"
    assert rngs["default"].key.value is key
    assert count(rngs) == 0
    forks = rngs.fork(3)
    gn.vmap(reseed)(forks, seeds)
    assert jnp.array_equal(forks["default"].key.value, jax.vmap(jax.random.key)(seeds))


def test_dropout_drops_other_elements_in_each_lane():
    """nn.Dropout under vmap, with the streams' axis alone: lanes differ, under jit and grad too."""
    rngs = gn.Rngs(0)
    model = noisy(rngs)
    apply = gn.vmap(lambda m, x: m(x), in_axes=(FORKED, 0))
    y = apply(model, XS)
    assert set(y.ravel().tolist()) == {0.0, 4.0}
    assert len({tuple(row) for row in y.tolist()}) == 3
    gradient = gn.jit(gn.grad(lambda m: jnp.sum(apply(m, XS))))(model)  # ty: ignore[invalid-argument-type]
    assert gradient["weight"].value.shape == (8,)
    assert count(rngs) == 2
    assert rngs["default"].key.value.shape == ()


def test_nested_vmaps_fork_twice():
    """A fork of a fork: all lanes differ, and the stream advances by one draw."""
    rngs = gn.Rngs(0)
    found = gn.vmap(gn.vmap(draw), in_axes=(0, 0))(rngs, jnp.ones((2, 3)))
    assert len(set(found.ravel().tolist())) == 6
    assert count(rngs) == 1


def test_forks_that_are_returned_are_stacked():
    """A stream made in a lane comes out with a leading axis; the caller's comes out as itself."""
    rngs = gn.Rngs(0)
    same, made = gn.vmap(lambda rngs, x: (rngs, rngs.fork()))(rngs, XS)
    assert same is rngs
    assert made["default"].key.value.shape == (3,)
    assert count(rngs) == 1


# scan


def test_a_carried_stream_draws_on():
    """In the carry a stream is drawn from round after round, as by a Python loop."""
    rngs, eager = gn.Rngs(0), gn.Rngs(0)
    _, ys = gn.scan(lambda rngs, x: (rngs, draw(rngs)), rngs, None, length=3)
    assert jnp.allclose(ys, jnp.stack([draw(eager) for _ in range(3)]))
    assert count(rngs) == count(eager) == 3


@pytest.mark.parametrize("length", [None, 3])
def test_a_scanned_stream_gives_each_round_its_own(length: int | None):
    """In xs a stream is forked: rounds draw what its forks would, and it advances by one draw."""
    rngs = gn.Rngs(0)
    xs = (rngs, XS) if length is None else (rngs, None)
    _, ys = gn.scan(lambda c, item: (c, draw(item[0])), None, xs, length=length)
    assert jnp.allclose(ys, jnp.array(lanes(0, 3)))
    assert count(rngs) == 1
    _, again = gn.scan(lambda c, item: (c, draw(item[0])), None, xs, length=length)
    assert not set(again.tolist()) & set(ys.tolist())


def test_a_scanned_stream_needs_a_length_and_an_axis():
    """Streams alone need a length; without an axis a stream must not draw; captured ones are refused."""
    rngs = gn.Rngs(0)
    step = lambda c, r: (c, draw(r))  # noqa: E731  # its parameter is in the message
    assert message(ValueError, gn.scan, step, None, rngs) == (
        "gn.scan: only random streams are scanned: say how many rounds with length"
    )
    assert message(gn.TraceError, gn.scan, step, None, rngs, length=3, in_axes=None) == (
        "gn.scan: r.streams.default.count was written, but has no axis to be written along: all rounds share it. Give "
        "it one in in_axes, or put its node into the carry"
    )
    with pytest.raises(gn.TraceError):
        gn.scan(lambda c, x: (c, draw(rngs)), None, XS)
    assert count(rngs) == 0


def test_stacked_streams_are_scanned():
    """Streams with a leading axis are scanned like any State."""
    rngs = gn.Rngs(0).fork(3)
    _, ys = gn.scan(lambda c, r: (c, draw(r)), None, rngs)
    assert jnp.allclose(ys, jnp.array(lanes(0, 3)))
    assert count(rngs) == [1, 1, 1]


def test_the_ambient_stream_is_refused_inside():
    """graphnode.random in a mapped function names Rngs as the way."""
    with pytest.raises(gn.TraceError) as caught:
        gn.vmap(lambda x: gn.random.normal())(XS)
    assert "gn.Rngs" in str(caught.value)


# A deep network


class Block(gn.Node):
    linear: gn.nn.Linear
    norm: gn.nn.BatchNorm
    dropout: gn.nn.Dropout

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.dropout(self.norm(jnp.tanh(self.linear(x))))


def blocks() -> list[Block]:
    with gn.random.scope(0):
        streams = gn.unstack(gn.Rngs(dropout=1).fork(2))
        return [Block(gn.nn.Linear(4, 4), gn.nn.BatchNorm(4), gn.nn.Dropout(0.5, rngs=one)) for one in streams]


@pytest.mark.slow
def test_layers_with_dropout_and_statistics_are_scanned():
    """A scan over stacked layers equals the loop over them: results, gradients, statistics and counts."""
    x = jnp.linspace(-1.0, 1.0, 20).reshape(5, 4)
    stacked, layers = gn.stack(blocks()), blocks()

    def rolled(layers: Block, x: jax.Array) -> jax.Array:
        return jnp.sum(gn.scan(lambda h, layer: (layer(h), None), x, layers)[0] ** 2)

    def unrolled(layers: list[Block], x: jax.Array) -> jax.Array:
        for layer in layers:
            x = layer(x)
        return jnp.sum(x**2)

    found, gradient = gn.jit(gn.value_and_grad(rolled))(stacked, x)
    expected, plain = gn.value_and_grad(unrolled)(layers, x)
    assert jnp.allclose(found, expected, rtol=1e-4)
    for at, layer in enumerate(gn.unstack(stacked)):
        assert jnp.allclose(layer.norm.mean.value, layers[at].norm.mean.value, rtol=1e-4, atol=1e-6)
        assert jnp.allclose(layer.norm.var.value, layers[at].norm.var.value, rtol=1e-4, atol=1e-6)
        of_one = gradient["linear"]["weight"].value[at]
        assert jnp.allclose(of_one, plain[at]["linear"]["weight"].value, rtol=1e-3, atol=1e-4)
    assert stacked.dropout.rngs is not None
    assert count(stacked.dropout.rngs, "dropout") == [1, 1]


def test_one_stream_serves_all_layers():
    """A shared stream beside the stacked layers: each round its own keys, and one draw in all."""
    rngs, layers = gn.Rngs(dropout=1), gn.stack([gn.nn.Linear(8, 8), gn.nn.Linear(8, 8), gn.nn.Linear(8, 8)])
    dropout = gn.nn.Dropout(0.5)

    def step(h: jax.Array, item: Any) -> tuple[jax.Array, jax.Array]:
        layer, rngs = item
        mask = dropout(jnp.ones(8), rngs=rngs)
        return layer(h) * mask, mask

    _, masks = gn.scan(step, XS[0], (layers, rngs))
    assert len({tuple(mask) for mask in masks.tolist()}) == 3
    assert count(rngs, "dropout") == 1


# Streams that a function makes

SAME = (
    ": all members would draw the same numbers. Make its key from what is mapped: map over jax.random.split(key, n) "
    "and write gn.Rngs(key), or give the function a gn.Rngs with an axis and fork that"
)
KEYS = jax.random.split(jax.random.key(0), 4)


class Drawing(gn.Node):
    rngs: gn.Rngs

    def __call__(self) -> jax.Array:
        return jax.random.normal(self.rngs())


def scoped(key: Any) -> Drawing:
    with gn.random.scope(key):
        return Drawing(gn.Rngs(gn.random.split_key()))


CONSTANT: dict[str, Any] = {
    "a seed": lambda key: Drawing(gn.Rngs(0)),
    "a key of outside": lambda key: Drawing(gn.Rngs(KEYS[0])),
    "under jit": lambda key: gn.jit(lambda key: Drawing(gn.Rngs(0)))(key),
    "under plain jit": lambda key: Drawing(gn.Rngs(jax.jit(lambda key: KEYS[1])(key))),
    "an ambient scope": lambda key: scoped(0),
}
VARYING: dict[str, Any] = {
    "the key": lambda key: Drawing(gn.Rngs(key)),
    "a part of it": lambda key: Drawing(gn.Rngs(jax.random.split(key)[1])),
    "folded": lambda key: Drawing(gn.Rngs(jax.random.fold_in(KEYS[0], jax.random.bits(key)))),
    "a seed": lambda key: Drawing(gn.Rngs(jax.random.bits(key))),
    "under jit": lambda key: gn.jit(lambda key: Drawing(gn.Rngs(key)))(key),
    "under cond": lambda key: Drawing(gn.Rngs(jax.lax.cond(True, lambda key: key, lambda key: key, key))),
    "in a loop": lambda key: Drawing(gn.Rngs(jax.lax.fori_loop(0, 2, lambda i, k: jax.random.fold_in(k, i), key))),
    "an ambient scope": scoped,
    "one of a table": lambda key: Drawing(gn.Rngs(KEYS[jnp.argmax(key == KEYS)])),
    "unwrapped": lambda key: Drawing(gn.Rngs(jax.random.wrap_key_data(jax.random.key_data(key) + jnp.uint32(1)))),
    "a fork": lambda key: Drawing(gn.Rngs(key).fork()),
    "under remat": lambda key: Drawing(gn.Rngs(jax.checkpoint(lambda key: jax.random.fold_in(key, 1))(key))),
}


@pytest.mark.parametrize("build", CONSTANT.values(), ids=CONSTANT)
def test_a_made_stream_must_depend_on_the_mapped_axis(build: Any):
    """One that is the same in all lanes or rounds is refused, also where vmap is inside of jit or of vmap."""
    text = f"gn.vmap: result.rngs.streams.default.key does not depend on the mapped axis{SAME}"
    assert message(gn.StackError, gn.vmap(build), KEYS) == text
    assert message(gn.StackError, gn.jit(gn.vmap(build)), KEYS) == text
    assert message(gn.StackError, gn.vmap(gn.vmap(build)), KEYS.reshape(2, 2)) == text

    def both(key: jax.Array) -> dict[str, list[Drawing]]:
        return {"a": [build(key), Drawing(gn.Rngs(key))]}

    assert message(gn.StackError, gn.vmap(both), KEYS) == (
        f"gn.vmap: result['a'][0].rngs.streams.default.key does not depend on the mapped axis{SAME}"
    )

    def step(carry: Any, key: jax.Array) -> tuple[Any, Drawing]:
        return carry, build(key)

    text = f"gn.scan: result[1].rngs.streams.default.key does not depend on the round{SAME}"
    assert message(gn.StackError, gn.scan, step, 0.0, KEYS) == text
    assert message(gn.StackError, gn.jit(lambda keys: gn.scan(step, 0.0, keys)), KEYS) == text


SLOW_WAYS = ("a part of it", "a seed", "under cond", "in a loop", "one of a table", "unwrapped", "under remat")


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(build, id=way, marks=[pytest.mark.slow] if way in SLOW_WAYS else [])
        for way, build in VARYING.items()
    ],
)
def test_a_made_stream_may_depend_on_the_axis_in_any_way(build: Any):
    """Each lane and each round draws other numbers: under jit, in jit, nested and in the carry."""

    def step(carry: Any, key: jax.Array) -> tuple[Any, Drawing]:
        return carry, build(key)

    makers = [
        gn.vmap(build)(KEYS),
        gn.jit(gn.vmap(build))(KEYS),
        gn.vmap(gn.jit(build))(KEYS),
        gn.scan(step, 0.0, KEYS)[1],
        gn.jit(lambda keys: gn.scan(step, 0.0, keys)[1])(KEYS),
    ]
    for made in makers:
        assert len(set(gn.vmap(lambda node: node())(made).tolist())) == 4
    nested = gn.vmap(gn.vmap(build))(KEYS.reshape(2, 2))
    assert len(set(gn.vmap(gn.vmap(lambda node: node()))(nested).ravel().tolist())) == 4


def test_of_nested_vmaps_the_inner_axis_counts_too():
    """A stream of the outer axis alone is the same along the inner one, and the other way round."""
    text = f"gn.vmap: result.rngs.streams.default.key does not depend on the mapped axis{SAME}"
    inner = gn.vmap(lambda key, x: Drawing(gn.Rngs(key)), in_axes=(None, 0))
    assert message(gn.StackError, gn.vmap(inner, in_axes=(0, None)), KEYS, XS) == text
    outer = gn.vmap(lambda x: gn.vmap(lambda key: Drawing(gn.Rngs(key)))(KEYS))
    assert message(gn.StackError, outer, XS) == text
    named = gn.vmap(lambda x: Drawing(gn.Rngs(jax.random.fold_in(KEYS[0], jax.lax.axis_index("i")))), axis_name="i")
    assert len(set(gn.vmap(lambda node: node())(named(XS)).tolist())) == 3


def test_a_clone_of_a_shared_node_is_refused():
    """It draws what the node draws, in each lane."""
    clones = gn.vmap(lambda node, x: gn.clone(node), in_axes=(None, 0))
    assert message(gn.StackError, clones, Drawing(gn.Rngs(0)), XS).startswith("gn.vmap: result.rngs.streams.default")
    made = gn.vmap(lambda node, x: gn.clone(node))(Drawing(gn.Rngs(0)), XS)
    assert len(set(gn.vmap(lambda node: node())(made).tolist())) == 3


def test_a_made_stream_without_an_axis_is_one_stream():
    """With `out_axes=None` it is not one of several, and may be constant; so may one that is not returned."""
    made, ys = gn.vmap(lambda x: (Drawing(gn.Rngs(0)), Drawing(gn.Rngs(0))() + x[0]), out_axes=(None, 0))(XS)
    assert (made.rngs["default"].key.value.shape, ys.shape) == ((), (3,))
    assert gn.scan(lambda carry, x: (carry, Drawing(gn.Rngs(0))() + x[0]), 0.0, XS)[1].shape == (3,)


def test_a_carry_that_stays_gives_no_new_streams():
    """A key that the carry hands on unchanged is the same in every round; one that it draws is not."""
    assert message(gn.StackError, gn.scan, lambda key, x: (key, Drawing(gn.Rngs(key))), KEYS[0], XS) == (
        f"gn.scan: result[1].rngs.streams.default.key does not depend on the round{SAME}"
    )
    for made in (
        gn.scan(lambda rngs, x: (rngs, Drawing(rngs.fork())), gn.Rngs(0), XS)[1],
        gn.scan(lambda key, x: (jax.random.fold_in(key, 1), Drawing(gn.Rngs(key))), KEYS[0], XS)[1],
    ):
        assert len(set(gn.vmap(lambda node: node())(made).tolist())) == 3


def test_a_key_that_is_written_depends_on_the_axis_too():
    """To give all members one key is to let them draw the same; one for each is fine. Nothing is written."""
    members = gn.vmap(lambda key: Drawing(gn.Rngs(key)))(KEYS)
    before = jax.random.key_data(members.rngs["default"].key.value)

    def reseed(m: Drawing, key: jax.Array) -> None:
        m.rngs["default"].key.value = key

    def step(carry: Any, m: Drawing) -> tuple[Any, None]:
        m.rngs["default"].key.value = KEYS[0]
        return carry, None

    def reseed_step(carry: Any, item: tuple[Drawing, jax.Array]) -> tuple[Any, None]:
        reseed(*item)
        return carry, None

    text = f"m.rngs.streams.default.key does not depend on the mapped axis{SAME}"
    assert message(gn.StackError, gn.vmap(reseed, in_axes=(0, None)), members, KEYS[0]) == f"gn.vmap: {text}"
    text = f"gn.scan: m.rngs.streams.default.key does not depend on the round{SAME}"
    assert message(gn.StackError, gn.scan, step, 0.0, members) == text
    assert jnp.array_equal(jax.random.key_data(members.rngs["default"].key.value), before)
    gn.vmap(reseed)(members, KEYS[::-1])
    assert jnp.array_equal(jax.random.key_data(members.rngs["default"].key.value), jax.random.key_data(KEYS[::-1]))
    gn.scan(reseed_step, 0.0, (members, KEYS))
    assert jnp.array_equal(jax.random.key_data(members.rngs["default"].key.value), jax.random.key_data(KEYS))


def test_all_constant_streams_are_named_at_once():
    """Each with its place in the result."""

    def build(x: jax.Array) -> gn.Rngs:
        return gn.Rngs(0, dropout=1)

    assert message(gn.StackError, gn.vmap(build), XS) == (
        "gn.vmap: 2 faults:\n"
        "  result.streams.default.key does not depend on the mapped axis\n"
        "  result.streams.dropout.key does not depend on the mapped axis\n"
        f"{SAME[2:]}"
    )


def test_scan_traces_once_for_streams_too():
    """A round that makes a stream, which is looked at once more, is traced no more often than another."""
    traced: list[str] = []

    def plain(carry: Any, x: jax.Array) -> tuple[Any, gn.ParamState]:
        traced.append("plain")
        return carry, gn.ParamState(x)

    def drawing(carry: Any, key: jax.Array) -> tuple[Any, Drawing]:
        traced.append("drawing")
        return carry, Drawing(gn.Rngs(key))

    for _ in range(2):
        gn.scan(plain, 0.0, XS)
        gn.scan(drawing, 0.0, KEYS)
    assert (traced.count("plain"), traced.count("drawing")) == (1, 1)
