"""No two kinds of streams of one seed give the same key, and none gives one that JAX gives for the seed."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn

Bits: TypeAlias = tuple[int, ...]

DRAWS = 3


class Drawing(gn.Node):
    """A node that keeps two keys from the ambient stream, and may have another such node."""

    inner: "Drawing | None" = None
    first: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(gn.random.split_key()))
    second: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(gn.random.split_key()))


def bits(keys: jax.Array) -> list[Bits]:
    """The bits of each key of an array."""
    rows = np.asarray(jax.random.key_data(keys))
    return [tuple(row) for row in rows.reshape(-1, rows.shape[-1]).tolist()]


def ambient() -> list[Bits]:
    return [one for _ in range(DRAWS) for one in bits(gn.random.split_key())]


def drawn(stream: gn.RngStream) -> list[Bits]:
    return [one for _ in range(DRAWS) for one in bits(stream())]


def drawn_in_lanes(streams: gn.RngStream) -> list[Bits]:
    draw = gn.vmap(gn.RngStream.__call__)
    return [one for _ in range(DRAWS) for one in bits(draw(streams))]


def of_jax(seed: int) -> list[Bits]:
    """The key of a seed, what it is split into, and what small numbers give; those of two levels, too."""
    key = jax.random.key(seed)
    folded = jax.vmap(lambda n: jax.random.fold_in(key, n))(np.arange(100, dtype=np.uint32))
    assert bits(jax.random.split(key, 100)) == bits(folded)
    return bits(key) + bits(folded) + bits(jax.vmap(lambda key: jax.random.split(key, 10))(folded))


def of_process(seed: int) -> list[Bits]:
    gn.random.seed(seed)
    keys = ambient()
    gn.random.seed(0)
    return keys


def of_scopes(seed: int) -> list[Bits]:
    """A scope of the seed, one in it of a key that was drawn there, and again the outer one."""
    with gn.random.scope(seed):
        keys = ambient()
        with gn.random.scope(gn.random.split_key()):
            keys += ambient()
        return keys + ambient()


def of_streams(stream: gn.RngStream) -> list[Bits]:
    """A stream, forks of it, forks of the forks, and its forks in a stack and in lanes."""
    fork = stream.fork()
    keys = drawn(stream) + drawn(fork) + drawn(fork.fork()) + drawn_in_lanes(stream.fork(2))
    stacked = gn.stack([gn.nn.Dropout(0.5, rngs=gn.Rngs(stream)) for _ in range(2)])
    assert stacked.rngs is not None
    keys += drawn_in_lanes(stacked.rngs["default"])
    lanes = gn.vmap(gn.RngStream.__call__, axis_size=2)
    return keys + bits(lanes(stream)) + drawn(stream)


def of_stream(seed: int) -> list[Bits]:
    return of_streams(gn.RngStream(gn.RngKey(jax.random.key(seed))))


def of_rngs(seed: int) -> list[Bits]:
    rngs = gn.Rngs(seed, params=seed, dropout=jax.random.key(seed))
    return [key for name in rngs for key in of_streams(rngs[name])]


def of_config(seed: int) -> list[Bits]:
    make: Any = gn.config.config_of(Drawing)
    model: Any = gn.config.build(make(inner=make()), jax.random.key(seed))
    return [key for state in gn.states(model).values() for key in bits(state.value)]


KINDS: dict[str, Callable[[int], list[Bits]]] = {
    "key, split and fold_in": of_jax,
    "gn.random.seed": of_process,
    "gn.random.scope": of_scopes,
    "gn.RngStream": of_stream,
    "gn.Rngs": of_rngs,
    "gn.config.build": of_config,
}


def repeated(seed: int) -> Iterator[str]:
    """Which keys come twice for a seed: in which kinds."""
    kind_of: dict[Bits, str] = {}
    for kind, keys_of in KINDS.items():
        for key in keys_of(seed):
            if key in kind_of:
                yield f"{kind_of[key]} and {kind}"
            kind_of[key] = kind


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1) | st.integers(0, 100))
def test_no_key_comes_twice_for_one_seed(seed: int):
    """Whatever is seeded alike: no two streams, and none of JAX's own keys, are equal."""
    assert list(repeated(seed)) == []


def test_a_scope_of_a_seed_is_that_of_its_key():
    """An integer stands for its key, in the process's stream as in scopes and in `Rngs`."""
    key = jax.random.key(5)
    with gn.random.scope(5):
        of_integer = ambient()
    with gn.random.scope(key):
        assert ambient() == of_integer
    assert drawn(gn.Rngs(5)["default"]) == drawn(gn.Rngs(key)["default"])


def test_weights_and_data_of_one_seed_differ():
    """Who splits `jax.random.key(0)` for the data does not draw the weights of a model that was built with seed 0."""
    gn.random.seed(0)
    weight = gn.random.randn(8, 8)
    for key in jax.random.split(jax.random.key(0), 10):
        assert not np.array_equal(np.asarray(weight), np.asarray(jax.random.normal(key, (8, 8))))
