"""Random streams as nodes: their keys, names, seeds and forks, and what they do inside of a transformation."""

import copy
import inspect
import pickle
import sys
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
import graphnode._keys
import graphnode._rngs

make: Any = gn.Rngs

FIRST_DRAW = 671_749_195


def data(key: jax.Array) -> tuple[int, ...]:
    """The bits of a key, to compare."""
    return tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())


def drawn(rngs: gn.Rngs, name: str = "default", count: int = 3) -> list[tuple[int, ...]]:
    return [data(rngs(name)) for _ in range(count)]


def stream(seed: int = 0) -> gn.RngStream:
    return gn.RngStream(gn.RngKey(jax.random.key(seed)))


# A stream


def test_draws_are_counted_from_a_number_far_from_zero():
    """A stream gives `fold_in(key, far)`, `fold_in(key, far + 1)` and so on, and its count says how many."""
    one = stream(7)
    expected = [data(jax.random.fold_in(jax.random.key(7), FIRST_DRAW + n)) for n in range(3)]
    assert [data(one()) for _ in range(3)] == expected
    assert int(one.count.value) == 3
    assert one.count.value.dtype == jnp.uint32


def test_a_key_of_a_stream_is_typed_and_has_no_shape():
    """What is drawn is a typed key array of shape `()`."""
    key = stream()()
    assert_type(key, jax.Array)
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert key.shape == ()


def test_the_states_of_streams_are_selected_by_class():
    """`RngState` selects keys and counts, its subclasses one of them."""
    rngs = gn.Rngs(0, dropout=1)
    assert len(gn.states(rngs, gn.RngState)) == 4
    keys, counts = gn.states(rngs, gn.RngKey, gn.RngCount)
    assert [gn.path_str(path) for path in keys] == ["streams.default.key", "streams.dropout.key"]
    assert [gn.path_str(path) for path in counts] == ["streams.default.count", "streams.dropout.count"]


def test_a_fork_is_a_stream_of_its_own():
    """A fork costs one draw, starts from that key at count zero, and draws other keys than its origin."""
    one, same = stream(), stream()
    fork = one.fork()
    assert data(fork.key.value) == data(same())
    assert (int(one.count.value), int(fork.count.value)) == (1, 0)
    keys = [data(source()) for source in (one, fork, one, fork)]
    assert len(set(keys)) == 4


def test_forks_are_told_apart_under_vmap():
    """A stream of n forks has a leading axis in key and count; under vmap each is a stream of its own."""
    one, same = stream(), stream()
    forks = one.fork(3)
    assert (forks.key.value.shape, forks.count.value.shape) == ((3,), (3,))
    assert forks.count.value.dtype == jnp.uint32
    graphdef, states = gn.treefy_split(forks)

    def draw(states: gn.StateTree) -> tuple[jax.Array, gn.StateTree]:
        source = gn.treefy_merge(graphdef, states)
        source()
        return source(), gn.treefy_states(source)

    keys, after = jax.vmap(draw)(states)
    origins = jax.random.split(same(), 3)
    assert [data(key) for key in keys] == [data(jax.random.fold_in(origin, FIRST_DRAW + 1)) for origin in origins]
    gn.update_states(forks, after)
    assert forks.count.value.tolist() == [2, 2, 2]


def test_forks_are_told_apart_in_a_scan():
    """A stream of n forks is what a scan runs over: each step draws from another."""
    graphdef, states = gn.treefy_split(stream().fork(4))

    def step(carry: jax.Array, states: gn.StateTree) -> tuple[jax.Array, jax.Array]:
        return carry, jax.random.key_data(gn.treefy_merge(graphdef, states)())

    _, bits = jax.lax.scan(step, jnp.zeros(()), states)
    assert len({tuple(row) for row in bits.tolist()}) == 4


def test_a_fork_keeps_the_structure_of_its_origin():
    """Names, tags and metadata of the States stay, so that a fork merges into the graphdef of its origin."""
    one = gn.RngStream(gn.RngKey(jax.random.key(0), tag="fixed"), gn.RngCount(jnp.uint32(0), metadata={"a": 1}))
    assert gn.graphdef(one.fork()) is gn.graphdef(one.fork(2)) is gn.graphdef(one)


def test_a_stream_of_several_forks_is_not_drawn_from():
    """Outside of a map nobody could say which of the forks is meant."""
    forks = stream().fork(3)
    draws: list[Callable[[], object]] = [forks, forks.fork]
    for draw in draws:
        with pytest.raises(gn.ContractError) as caught:
            draw()
        assert str(caught.value) == (
            "RngStream: expected one key to draw from; found an array key<fry>[3] of 3 forks, which jax.vmap and "
            "jax.lax.scan tell apart along axis 0"
        )
    assert forks.count.value.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "n", [0, -1, True, *(pytest.param(n, marks=pytest.mark.wrong_types) for n in (2.0, "2"))], ids=repr
)
def test_a_number_of_forks_is_a_positive_integer(n: Any):
    """Anything else is refused, before anything is drawn."""
    one = stream()
    with pytest.raises(gn.ContractError) as caught:
        one.fork(n)
    assert str(caught.value) == f"fork: expected a positive integer n, or None for a single stream; found {n!r}"
    assert int(one.count.value) == 0
    assert one.fork(np.int64(2)).key.value.shape == (2,)


def test_threads_that_share_a_stream_draw_each_key_once():
    """No thread reads a count that another one is about to write; forks are draws, too."""
    one = stream()
    barrier = threading.Barrier(4)

    def draw(_: int) -> list[tuple[int, ...]]:
        barrier.wait()
        return [data(key) for _ in range(100) for key in (one(), one.fork().key.value)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            keys = [key for part in pool.map(draw, range(4)) for key in part]
    finally:
        sys.setswitchinterval(interval)
    assert len(set(keys)) == int(one.count.value) == 800


def test_a_signal_handler_may_draw_while_its_thread_draws(monkeypatch: pytest.MonkeyPatch):
    """The lock of a draw is the thread's, not the call's: a handler that runs in the middle does not wait for ever."""
    one = stream()
    other = stream(1)
    draw: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] = graphnode._keys.draw

    def interrupted(key: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
        monkeypatch.setattr(graphnode._rngs, "draw", draw)
        assert graphnode._rngs._counting.acquire(blocking=False)  # so that this fails where a draw would wait
        other()
        graphnode._rngs._counting.release()
        return draw(key, count)

    monkeypatch.setattr(graphnode._rngs, "draw", interrupted)
    one()
    assert (int(one.count.value), int(other.count.value)) == (1, 1)


# Streams by name


def test_each_name_draws_from_its_own_stream():
    """A draw advances one stream and leaves the others."""
    rngs = gn.Rngs(0, dropout=1)
    assert_type(rngs("dropout"), jax.Array)
    assert_type(rngs["dropout"], gn.RngStream)
    assert [int(rngs[name].count.value) for name in ("default", "dropout")] == [0, 1]
    assert data(rngs()) == data(gn.Rngs(0)("default"))


def test_the_same_seeds_give_the_same_keys():
    """Streams are reproducible, from process to process: these bits were computed once."""
    assert drawn(gn.Rngs(3, noise=4), "noise") == drawn(gn.Rngs(noise=4), "noise")
    default = jax.random.fold_in(jax.random.key(0), (FIRST_DRAW + 3_814_588_639) % 2**32)
    assert data(gn.Rngs(0)()) == data(jax.random.fold_in(default, FIRST_DRAW))


def test_streams_of_one_seed_differ():
    """The name is part of a stream's key, so that `Rngs(params=0, dropout=0)` is safe, with keys too."""
    key = jax.random.key(0)
    for rngs in (gn.Rngs(0, params=0, dropout=0), gn.Rngs(key, params=key, dropout=key)):
        keys = {key for name in rngs for key in drawn(rngs, name)}
        assert len(keys) == 9


def test_a_name_without_a_stream_draws_from_the_default():
    """The default stream serves every other name, and its count goes on."""
    rngs, same = gn.Rngs(0, params=1), gn.Rngs(0, params=1)
    assert rngs["dropout"] is rngs["default"]
    assert [data(rngs("dropout")), data(rngs())] == drawn(same, count=2)


def test_a_name_that_nothing_serves_is_refused():
    """Without a default, an unknown name is an error that lists the streams and the lines to write."""
    rngs = gn.Rngs(params=0, noise=1)
    with pytest.raises(gn.RngError) as caught:
        rngs("dropout")
    assert str(caught.value) == (
        "Rngs has no stream 'dropout' and no 'default'; it has 'noise', 'params'. Give it a seed by name, "
        "Rngs(dropout=0), or first for a default, Rngs(0)"
    )
    with pytest.raises(LookupError):
        rngs()


def test_rngs_are_iterated_by_name():
    """The names come in order, and a name is in it when it has a stream of its own."""
    rngs = gn.Rngs(0, params=1)
    assert list(rngs) == ["default", "params"]
    assert "params" in rngs
    assert "dropout" not in rngs


def test_a_misspelt_attribute_of_rngs_is_an_error():
    """Streams are items, not attributes: no name is looked up behind the back of a type checker."""
    rngs: Any = gn.Rngs(dropout=0)
    with pytest.raises(AttributeError):
        _ = rngs.dropout
    with pytest.raises(gn.UndeclaredFieldError):
        rngs.dropout = stream()


SEEDS: dict[str, Any] = {
    "NumPy integer": np.int64(5),
    "NumPy array": np.array(5),
    "JAX integer": jnp.int32(5),
    "key": jax.random.key(5),
    "legacy key": jax.random.PRNGKey(5),
    "legacy key in NumPy": np.asarray(jax.random.PRNGKey(5)),
}


@pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS)
def test_a_seed_is_an_integer_or_a_key(seed: Any):
    """Integers, typed keys and legacy keys of one seed give the same stream."""
    assert drawn(gn.Rngs(seed)) == drawn(gn.Rngs(5))


def test_a_key_keeps_its_implementation():
    """A typed key of another generator stays one."""
    assert gn.Rngs(jax.random.key(0, impl="rbg"))().dtype == jax.random.key(0, impl="rbg").dtype


def untyped(seed: Any, found: str) -> Any:
    """A seed that no type checker accepts either."""
    return pytest.param(seed, found, marks=pytest.mark.wrong_types)


BAD_SEEDS: dict[str, Any] = {
    "float": untyped(0.5, "float 0.5"),
    "boolean": (True, "bool True"),
    "text": untyped("0", "str '0'"),
    "None": untyped(None, "None"),
    "too large": (2**70, "int 1180591620717411303424"),
    "float array": (jnp.float32(1), "an array float32[]"),
    "boolean array": (jnp.array(True), "an array bool[]"),
    "integers": (jnp.zeros(2, jnp.int32), "an array int32[2]"),
    "another size than a key": (jnp.zeros(3, jnp.uint32), "an array uint32[3]"),
    "several keys": (jax.random.split(jax.random.key(0), 3), "an array key<fry>[3]"),
    "several legacy keys": (jnp.zeros((4, 2), jnp.uint32), "an array uint32[4,2]"),
    "a node": untyped(gn.nn.Linear(1, 1), "a Linear"),
}


@pytest.mark.parametrize(("seed", "found"), BAD_SEEDS.values(), ids=BAD_SEEDS)
def test_any_other_seed_is_refused(seed: Any, found: str):
    """The error names the stream and what was found."""
    with pytest.raises(gn.FieldError) as caught:
        make(0, noise=seed)
    assert str(caught.value) == f"Rngs.noise: expected an integer or a single key as its seed; found {found}"


def test_rngs_take_one_default_and_at_least_one_seed():
    """A default that is given twice, or no seed at all, is refused."""
    with pytest.raises(gn.FieldError) as caught:
        gn.Rngs(0, default=1)
    assert str(caught.value) == "Rngs takes the seed of 'default' once; found it as the first argument and by name"
    with pytest.raises(gn.FieldError) as caught:
        gn.Rngs()
    assert str(caught.value) == "Rngs takes at least one seed: write Rngs(0), or Rngs(params=0, dropout=1)"
    assert drawn(gn.Rngs(default=0)) == drawn(gn.Rngs(0))


def test_names_of_one_checksum_are_refused():
    """One seed would give both the same stream. A ready stream owes nothing to its name."""
    assert zlib.crc32(b"plumless") == zlib.crc32(b"buckeroo")
    with pytest.raises(gn.FieldError) as caught:
        gn.Rngs(plumless=0, other=0, buckeroo=0)
    assert str(caught.value) == (
        "Rngs: streams of the names 'plumless' and 'buckeroo' would be equal, as the names have one checksum; rename "
        "one of them"
    )
    gn.Rngs(plumless=0, buckeroo=gn.Rngs(0)["default"])


def test_a_stream_around_a_legacy_key_is_refused():
    """The error says what it is, and what makes a typed key of it."""
    legacy = jax.random.PRNGKey(3)
    stream = gn.RngStream(gn.RngKey(legacy))
    with pytest.raises(gn.ContractError) as caught:
        stream()
    assert str(caught.value) == (
        "RngStream: expected a typed key, as jax.random.key makes; found an array uint32[2]. A legacy key of "
        "jax.random.PRNGKey becomes one by jax.random.wrap_key_data"
    )
    assert int(stream.count.value) == 0
    assert gn.RngStream(gn.RngKey(jax.random.wrap_key_data(legacy)))().shape == ()


def test_a_ready_stream_is_taken_as_it_is():
    """A stream may have two names, and is one node; also after a fork."""
    one = stream()
    rngs = gn.Rngs(one, noise=one)
    assert rngs["noise"] is rngs["default"] is one
    assert gn.aliases(rngs) == {("streams", "default"): (("streams", "noise"),)}
    fork = rngs.fork()
    assert fork["noise"] is fork["default"]
    assert int(one.count.value) == 1


def test_a_fork_of_rngs_forks_each_stream():
    """The names stay; each stream is forked from its own, alone or into several."""
    rngs, same = gn.Rngs(0, dropout=1), gn.Rngs(0, dropout=1)
    fork = rngs.fork()
    assert_type(fork, gn.Rngs)
    assert {name: data(fork[name].key.value) for name in fork} == {name: data(same(name)) for name in same}
    forks = rngs.fork(2)
    assert [forks[name].key.value.shape for name in forks] == [(2,), (2,)]
    assert gn.graphdef(forks) is gn.graphdef(rngs)


def test_rngs_are_copied_with_their_counts():
    """A clone, a deep copy, a merged copy and a pickled one go on from the same place, each for itself."""
    rngs = gn.Rngs(0)
    rngs()
    copies = [
        gn.clone(rngs),
        copy.deepcopy(rngs),
        gn.treefy_merge(*gn.treefy_split(rngs)),
        pickle.loads(pickle.dumps(rngs)),
    ]
    expected = drawn(rngs)
    for one in copies:
        assert drawn(one) == expected


# The draws of jax.random


DRAWS: dict[str, tuple[Any, ...]] = {
    "ball": (3,),
    "bernoulli": (0.3, (4,)),
    "beta": (1.0, 2.0, (4,)),
    "binomial": (5.0, 0.5, (4,)),
    "bits": ((4,),),
    "categorical": (jnp.arange(3.0), -1, (4,)),
    "cauchy": ((4,),),
    "chisquare": (2.0, (4,)),
    "choice": (jnp.arange(5), (4,)),
    "dirichlet": (jnp.ones(3),),
    "double_sided_maxwell": (0.0, 1.0, (4,)),
    "exponential": ((4,),),
    "f": (2.0, 3.0, (4,)),
    "gamma": (2.0, (4,)),
    "generalized_normal": (2.0, (4,)),
    "geometric": (0.5, (4,)),
    "gumbel": ((4,),),
    "laplace": ((4,),),
    "loggamma": (2.0, (4,)),
    "logistic": ((4,),),
    "lognormal": (1.0, (4,)),
    "maxwell": ((4,),),
    "multinomial": (5.0, jnp.full(2, 0.5)),
    "multivariate_normal": (jnp.zeros(2), jnp.eye(2)),
    "normal": ((4,), jnp.bfloat16),
    "orthogonal": (2,),
    "pareto": (2.0, (4,)),
    "permutation": (np.arange(4),),
    "poisson": (2.0, (4,)),
    "rademacher": ((4,),),
    "randint": ((4,), 0, 10),
    "rayleigh": (1.0, (4,)),
    "t": (2.0, (4,)),
    "triangular": (0.0, 0.5, 1.0, (4,)),
    "truncated_normal": (-1.0, 1.0, (4,)),
    "uniform": ((4,), float, -1.0, 1.0),
    "wald": (1.0, (4,)),
    "weibull_min": (1.0, 2.0, (4,)),
}
FEW = ["bernoulli", "choice", "normal", "permutation", "randint", "uniform"]
ALL_DRAWS = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in DRAWS]


@pytest.mark.parametrize("name", ALL_DRAWS)
def test_a_draw_is_that_of_jax_with_the_next_key(name: str):
    """Each draw has the numbers, shape and dtype of JAX's function, and advances the stream once."""
    rngs, same = gn.Rngs(0, noise=1), gn.Rngs(0, noise=1)
    draw: Any = getattr(jax.random, name)
    expected = draw(same("noise"), *DRAWS[name])
    found = getattr(rngs["noise"], name)(*DRAWS[name])
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype
    assert [int(rngs[stream].count.value) for stream in rngs] == [0, 1]


def test_all_functions_of_jax_that_draw_are_methods():
    """What takes a key and gives numbers is there, with the arguments after the key; and nothing else."""
    about_keys = {"clone", "fold_in", "split"}
    of_jax = {name: inspect.signature(function) for name, function in vars(jax.random).items() if callable(function)}
    names = {name for name, signature in of_jax.items() if next(iter(signature.parameters), None) == "key"}
    assert names - about_keys == DRAWS.keys()
    for name in DRAWS:
        _, *parameters = of_jax[name].parameters.values()
        method = getattr(gn.Rngs(0), name)
        assert list(inspect.signature(method).parameters.values()) == parameters
        assert method.__name__ == name
        assert method.__doc__ == f"`jax.random.{name}` with the next key, and its other arguments."


def test_rngs_draw_from_their_default():
    """A draw of `Rngs` is one of its stream "default", by arguments in order or by name."""
    rngs, same = gn.Rngs(0), gn.Rngs(0)
    first = rngs.normal((2, 3))
    assert_type(first, jax.Array)
    np.testing.assert_array_equal(first, jax.random.normal(same(), (2, 3)))
    np.testing.assert_array_equal(
        rngs.randint(shape=(2,), minval=0, maxval=10), jax.random.randint(same(), (2,), 0, 10)
    )
    assert rngs["dropout"] is rngs["default"]
    with pytest.raises(gn.RngError, match="Rngs has no stream 'default'"):
        gn.Rngs(params=0).normal()


def test_a_stream_may_have_the_name_of_a_draw():
    """Streams are items and draws are methods: neither hides the other."""
    rngs, same = gn.Rngs(0, normal=1), gn.Rngs(0, normal=1)
    np.testing.assert_array_equal(rngs["normal"].normal(), jax.random.normal(same("normal")))
    np.testing.assert_array_equal(rngs.normal(), jax.random.normal(same()))


def test_a_draw_that_fails_draws_nothing():
    """JAX's error says which arguments the method takes, and the next draw is the one that would have been."""
    rngs, same = gn.Rngs(0), gn.Rngs(0)
    with pytest.raises(TypeError, match="Cannot interpret '3' as a data type") as caught:
        make_normal: Any = rngs.normal
        make_normal(2, 3)
    note = caught.value.__notes__[-1]
    assert note.startswith("normal(shape=(), dtype=None")
    assert note.endswith(": the arguments of jax.random.normal without the key; nothing was drawn")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'maxval'"):
        make_randint: Any = rngs.randint
        make_randint(0, 10)
    assert int(rngs["default"].count.value) == 0
    np.testing.assert_array_equal(rngs.normal((2,)), jax.random.normal(same(), (2,)))


def test_a_draw_that_fails_while_another_thread_draws_gives_no_key_twice():
    """The key of the failed draw is lost then, as the count cannot go back."""
    rngs, same = gn.Rngs(0), gn.Rngs(0)
    drawn_between: list[jax.Array] = []

    def fails(key: jax.Array) -> jax.Array:
        drawn_between.append(rngs())
        raise ValueError

    with pytest.raises(ValueError):
        rngs._draw_with(fails, (), {})
    assert [*map(data, drawn_between), *drawn(rngs, count=1)] == drawn(same)[1:]


def test_a_numpy_array_may_be_written_after_a_draw():
    """A draw copies NumPy arrays, which JAX may read later."""
    rngs = gn.Rngs(0)
    items = np.arange(1000)
    drawn = rngs.permutation(items)
    items[:] = 0
    assert sorted(drawn.tolist()) == list(range(1000))


def test_a_field_of_a_subclass_has_no_name_of_a_draw():
    """A method is not replaced by a field, as elsewhere."""
    with pytest.raises(gn.SchemaError, match=r"Noise.normal: Draws has a method of this name"):

        class Noise(gn.RngStream):
            normal: Any = 0  # type: ignore[misc]  # pyright: ignore  # pyrefly: ignore[bad-override]  # ty: ignore


# Inside of transformations


def test_draws_inside_of_transforms_write_the_count():
    """Under gn.jit a draw is the one outside; under gn.vmap and gn.scan each lane and round has its own stream."""
    rngs, same = gn.Rngs(0), gn.Rngs(0)

    def draw(rngs: gn.Rngs) -> jax.Array:
        return rngs.normal((2,))

    np.testing.assert_allclose(gn.jit(draw)(rngs), jax.random.normal(same(), (2,)), rtol=1e-6)
    keys = [gn.RngStream(gn.RngKey(key))() for key in jax.random.split(same(), 3)]
    expected = jnp.stack([jax.random.normal(key, (2,)) for key in keys])
    lanes = gn.vmap(draw, in_axes=gn.axes({gn.RngState: 0}), axis_size=3)(rngs)
    np.testing.assert_allclose(lanes, expected, rtol=1e-6)
    _, rounds = gn.scan(lambda carry, rngs: (carry, draw(rngs)), None, rngs, length=3)
    assert len({*rounds.ravel().tolist(), *lanes.ravel().tolist()}) == 12
    assert int(rngs["default"].count.value) == 3


def test_rngs_are_an_argument_of_a_jitted_function():
    """Split, drawn from inside and written back, they give the keys that they give outside."""
    rngs, same = gn.Rngs(0), gn.Rngs(0)
    graphdef, states = gn.treefy_split(rngs)

    @jax.jit
    def draw(states: gn.StateTree) -> tuple[jax.Array, gn.StateTree]:
        inner = gn.treefy_merge(graphdef, states)
        return inner(), gn.treefy_states(inner)

    found: list[tuple[int, ...]] = []
    for _ in range(3):
        key, states = draw(states)
        found.append(data(key))
    assert found == drawn(same)
    gn.update_states(rngs, states)
    assert drawn(rngs) == drawn(same)


def test_rngs_that_a_jitted_function_closes_over_refuse():
    """A draw would leak a traced count; nothing is drawn."""
    rngs = gn.Rngs(0)
    with pytest.raises(gn.TraceError) as caught:
        jax.jit(lambda: jax.random.normal(rngs()))()
    assert str(caught.value) == (
        "RngCount was made outside of the running JAX transformation: writing a tracer uint32[] into it would leak the "
        "tracer. Pass its node to the function as an argument, under gn.jit, gn.grad and so on; or split the node "
        "outside, merge it inside of the transformed function, and return treefy_states of the merged node"
    )
    assert int(rngs["default"].count.value) == 0


def test_rngs_that_vmap_closes_over_refuse():
    """All elements would see the same key; nothing is drawn."""
    rngs = gn.Rngs(0)
    with pytest.raises(gn.TraceError, match="a write to it would happen once"):
        jax.vmap(lambda x: x + jax.random.normal(rngs()))(jnp.zeros(3))
    assert int(rngs["default"].count.value) == 0


def test_rngs_are_made_inside_of_a_jitted_function():
    """A key that is an argument, or a traced integer, seeds streams that live inside."""

    @jax.jit
    def draw(seed: jax.Array) -> jax.Array:
        return jax.random.key_data(gn.Rngs(seed)())

    expected = list(data(gn.Rngs(5)()))
    assert draw(jax.random.key(5)).tolist() == draw(jnp.int32(5)).tolist() == expected


def test_a_second_split_of_rngs_walks_nothing():
    """A draw writes values alone: the structure, and so the binding, stays."""
    rngs = gn.Rngs(0)
    gn.graphdef(rngs)
    before = rngs._binding
    rngs()
    gn.graphdef(rngs)
    assert rngs._binding is before
