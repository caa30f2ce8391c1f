"""The ambient random stream: seeds, scopes, threads, draws, and its refusal inside of a trace."""

import asyncio
import contextlib
import dataclasses
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import ParamState, _stream, random, state

from .interrupting import interrupt_everywhere

FIRST_DRAW = 671_749_195


@pytest.fixture(autouse=True)
def fresh_stream() -> Iterator[None]:
    """Each test starts from, and leaves, the stream that a process starts with."""
    random.seed(0)
    yield
    random.seed(0)


def data(key: jax.Array) -> tuple[int, ...]:
    """The bits of a key, to compare."""
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def drawn(count: int) -> list[tuple[int, ...]]:
    return [data(random.split_key()) for _ in range(count)]


# The stream


def test_a_seed_restarts_the_stream():
    """The same seed gives the same keys, another seed others."""
    random.seed(42)
    first = drawn(3)
    random.seed(42)
    assert drawn(3) == first
    random.seed(43)
    assert drawn(3) != first
    assert len(set(first)) == 3


@pytest.mark.parametrize("given", [7, np.int64(7), jax.random.key(7)], ids=["int", "np.int64", "key"])
def test_a_stream_starts_from_an_integer_or_a_key(given: Any):
    """An integer stands for its key. The folded numbers were computed once: they are those of every process."""
    key = jax.random.key(7)
    of_process, of_scope = (jax.random.fold_in(key, number) for number in (3_749_549_093, 3_074_642_939))
    random.seed(given)
    assert drawn(3) == [data(jax.random.fold_in(of_process, FIRST_DRAW + n)) for n in range(3)]
    with random.scope(given):
        assert drawn(3) == [data(jax.random.fold_in(of_scope, FIRST_DRAW + n)) for n in range(3)]


BAD_SEEDS: dict[str, tuple[Any, type[Exception], str]] = {
    "too large": (2**63, ValueError, "an integer of 64 bits; found int 9223372036854775808"),
    "too small": (-(2**63) - 1, ValueError, "an integer of 64 bits; found int -9223372036854775809"),
    "an array": (jnp.int32(3), TypeError, "an integer or a key of jax.random; found an array int32[]"),
    "floats": (jnp.ones(2), TypeError, "an integer or a key of jax.random; found an array float32[2]"),
    "a wrong size": (
        jnp.zeros(3, jnp.uint32),
        TypeError,
        "an integer or a key of jax.random; found an array uint32[3]",
    ),
    "several keys": (
        jax.random.split(jax.random.key(0), 3),
        ValueError,
        "a single key; found an array key<fry>[3]",
    ),
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("begin", [random.seed, random.scope], ids=["seed", "scope"])
@pytest.mark.parametrize(("given", "error", "text"), BAD_SEEDS.values(), ids=BAD_SEEDS)
def test_a_seed_that_no_draw_could_use_is_refused_at_once(
    begin: Callable[[Any], object], given: Any, error: type[Exception], text: str
):
    """Not at the first draw, which may be far away; the stream goes on as before."""
    expected = drawn(2)
    random.seed(0)
    with pytest.raises(error) as caught:
        begin(given)
    assert str(caught.value) == f"gn.random.{getattr(begin, '__name__', '')} takes {text}"
    assert drawn(2) == expected


def test_a_legacy_key_is_the_typed_key_of_its_bits():
    """As in `gn.Rngs`. What is drawn is typed."""
    with random.scope(jax.random.key(3)):
        expected = drawn(2)
    with random.scope(jax.random.PRNGKey(3)):
        assert drawn(2) == expected
        assert jnp.issubdtype(random.split_key().dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("begin", [random.seed, lambda given: random.scope(given).__enter__()], ids=["seed", "scope"])
def test_what_is_no_seed_is_refused_where_it_is_given(begin: Callable[[Any], Any]):
    """A seed that is neither integer nor key is refused at once, and the stream goes on as before."""
    expected = drawn(2)
    random.seed(0)
    with pytest.raises(TypeError):
        begin("seven")
    assert drawn(2) == expected


def test_a_key_is_typed_and_has_no_shape():
    """`split_key` gives a typed key array of shape `()`."""
    key = random.split_key()
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert key.shape == ()


def test_a_process_starts_with_seed_zero():
    """Every process makes the same parameters until it says otherwise."""
    import graphnode._stream as stream

    fresh = stream.Stream(0, stream._OF_PROCESS, trace=None)
    assert [data(fresh.draw()) for _ in range(2)] == drawn(2)


FIRST_IMPORT = """
import jax

def function(x):
    import graphnode as gn
    return x + gn.random.randn()

try:
    jax.jit(function)(0.0)
except Exception as error:
    print(type(error).__name__)
import graphnode as gn
print(float(gn.random.randn()))
print(gn.nn.BatchNorm(2)(jax.numpy.ones((2, 2))).sum(), gn.jit(lambda rngs: rngs())(gn.Rngs(0)).shape)
"""


@pytest.mark.slow
def test_a_first_import_in_a_traced_function_changes_nothing():
    """The process's stream is that of no trace, also where the first import of graphnode runs in one."""
    done = subprocess.run([sys.executable, "-c", FIRST_IMPORT], check=True, capture_output=True, text=True)
    random.seed(0)
    assert done.stdout.splitlines() == ["TraceError", str(float(random.randn())), "0.0 ()"]


def test_a_scope_stands_in_front_for_one_block():
    """Inside of a scope draws come from it; outside the stream goes on as if nothing had been drawn."""
    random.seed(1)
    expected = drawn(2)
    random.seed(1)
    first = drawn(1)
    with random.scope(5):
        inside = drawn(2)
    assert first + drawn(1) == expected
    with random.scope(5):
        assert drawn(2) == inside


def test_scopes_nest():
    """An inner scope leaves the outer one where it was."""
    with random.scope(1):
        expected = drawn(3)
    with random.scope(1):
        found = drawn(1)
        with random.scope(2):
            inner = drawn(1)
            with random.scope(1):
                assert drawn(1) == expected[:1]
        found += drawn(2)
    assert found == expected
    assert inner != expected[:1]


def test_a_scope_ends_with_an_error_too():
    """An exception inside of a scope ends the scope."""
    expected = drawn(2)[1:]
    random.seed(0)
    drawn(1)
    with pytest.raises(KeyError), random.scope(3):
        raise KeyError("stop")
    assert drawn(1) == expected


def test_threads_never_draw_the_same_key():
    """The process's stream is shared by threads, and gives each key once."""
    barrier = threading.Barrier(4)

    def draw(_: int) -> list[tuple[int, ...]]:
        barrier.wait()
        return drawn(25)

    with ThreadPoolExecutor(4) as pool:
        keys = [key for part in pool.map(draw, range(4)) for key in part]
    assert len(set(keys)) == 100


def test_an_interrupted_scope_is_not_open():
    """Wherever a signal handler raises while scopes begin, are drawn from and end: the process's stream is back."""

    def call() -> None:
        with random.scope(1), random.scope(2):
            random.split_key()

    def check() -> None:
        random.seed(7)
        assert drawn(1) == expected
        assert _stream._scopes.get() == ()

    random.seed(7)
    expected = drawn(1)
    assert interrupt_everywhere("graphnode/_stream.py", call, check) > 30


def test_an_interrupted_scope_leaves_the_outer_one():
    """Also where several are interrupted: each draw is from the scope whose block is open."""

    def call() -> None:
        with random.scope(2):
            random.split_key()

    def check() -> None:
        with random.scope(3):
            pass
        assert [scope.stream for scope in _stream._scopes.get()] == [outer]

    with random.scope(1):
        (scope,) = _stream._scopes.get()
        outer = scope.stream
        interrupt_everywhere("graphnode/_stream.py", call, check)
        found = drawn(1)
    with random.scope(1):
        assert found == drawn(1)


def test_a_scope_is_open_once():
    """One object stands for one block at a time."""
    scope = random.scope(1)
    with scope:
        first = drawn(1)
        with pytest.raises(gn.RngError) as caught, scope:
            pass
        assert str(caught.value) == "this gn.random.scope is open already: make one for each `with`"
        second = drawn(1)
    with scope:
        assert [first, second] == [drawn(1), drawn(1)]


def test_a_scope_decorates_functions():
    """Each call draws from the start of its stream."""
    with random.scope(3):
        expected = drawn(2)
    decorated = random.scope(3)(drawn)
    assert decorated(2) == expected
    assert decorated(2) == expected


def test_a_scope_decorates_no_function_whose_body_runs_later():
    """The scope would be over before the body begins."""

    async def later() -> None: ...

    kinds: dict[str, Callable[..., Any]] = {
        "a generator": numbers,
        "an async function": later,
        "an async generator": async_numbers,
    }
    for kind, function in kinds.items():
        with pytest.raises(TypeError) as caught:
            random.scope(3)(function)
        assert str(caught.value) == (
            f"gn.random.scope cannot decorate {getattr(function, '__qualname__', '')}: the body of {kind} runs after "
            "the call, when the scope is over. Write `with gn.random.scope(...):` in the body, and leave it before "
            "each yield"
        )


def test_a_scope_belongs_to_its_thread():
    """A scope opened in one thread is not seen by another."""
    random.seed(0)
    expected = drawn(1)
    random.seed(0)
    with random.scope(9), ThreadPoolExecutor(1) as pool:
        assert pool.submit(drawn, 1).result() == expected


def test_a_scope_belongs_to_its_task():
    """Tasks that run in turns each draw from their own scope."""

    async def draw(seed: int) -> list[tuple[int, ...]]:
        with random.scope(seed):
            keys = []
            for _ in range(3):
                keys += drawn(1)
                await asyncio.sleep(0)
            return keys

    async def both() -> list[list[tuple[int, ...]]]:
        return list(await asyncio.gather(draw(1), draw(2)))

    for seed, keys in zip((1, 2), asyncio.run(both()), strict=True):
        with random.scope(seed):
            assert drawn(3) == keys


def test_a_task_keeps_the_scope_that_it_was_started_in():
    """Also when who started it has left the scope."""

    async def draw() -> list[tuple[int, ...]]:
        with random.scope(2):
            drawn(1)
        return drawn(1)

    async def start() -> list[tuple[int, ...]]:
        with random.scope(1):
            task = asyncio.create_task(draw())
        return await task

    with random.scope(1):
        assert asyncio.run(start()) == drawn(1)


# In generators

SUSPENDED = (
    "the innermost gn.random.scope is that of the generator numbers, which has yielded inside of it: its consumer "
    "would draw from it. Leave a scope before the yield, or draw from a gn.Rngs that the generator holds. A generator "
    "whose scope is for its caller needs contextlib.contextmanager"
)


def numbers(seed: int) -> Generator[tuple[int, ...]]:
    """Keys from a scope that stays open while the consumer has control."""
    with random.scope(seed):
        while True:
            yield from drawn(1)


@pytest.mark.no_runtime_types
def test_the_consumer_of_a_generator_does_not_draw_from_its_scope():
    """A scope that a generator has open when it yields is refused to its consumer, who takes it for the process's."""
    generator = numbers(1)
    next(generator)
    for draw in DRAWS.values():
        with pytest.raises(gn.RngError) as caught:
            draw()
        assert str(caught.value) == SUSPENDED
    with pytest.raises(gn.RngError) as caught, random.scope(2):
        pass
    assert str(caught.value) == SUSPENDED
    generator.close()


@pytest.mark.no_runtime_types
def test_a_generator_goes_on_in_its_scope():
    """Alone, a generator draws from its scope from yield to yield; when it is closed, the stream of before is back."""
    with random.scope(1):
        expected = drawn(3)
    generator = numbers(1)
    assert [next(generator) for _ in range(3)] == expected
    generator.close()
    process = drawn(1)
    random.seed(0)
    assert process == drawn(1)


@pytest.mark.no_runtime_types
def test_generators_in_turn_do_not_draw_from_each_other():
    """The second one's scope would be the innermost when the first goes on."""
    first, second = numbers(1), numbers(2)
    next(first)
    with pytest.raises(gn.RngError) as caught:
        next(second)
    assert str(caught.value) == SUSPENDED
    first.close()


@pytest.mark.no_runtime_types
def test_a_generator_outlasts_the_scope_that_it_was_entered_in():
    """It goes on in its own, and when it is closed, the scope that was left is not back."""
    with random.scope(1):
        expected = drawn(3)
    generator = numbers(1)
    with random.scope(3):
        found = [next(generator)]
    found += [next(generator), next(generator)]
    assert found == expected
    generator.close()
    process = drawn(1)
    random.seed(0)
    assert process == drawn(1)


def test_a_generator_may_be_closed_in_another_thread():
    """What it has left there is not drawn from here."""
    generator = numbers(1)
    next(generator)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(generator.close).result()
    process = drawn(1)
    random.seed(0)
    assert process == drawn(1)


def test_a_scope_that_a_generator_has_left_is_gone():
    """Between two of its scopes a generator may yield: this is how it seeds each of its items."""

    def seeded() -> Iterator[tuple[int, ...]]:
        for seed in range(3):
            with random.scope(seed):
                key = drawn(1)[0]
            yield key

    expected = drawn(3)
    random.seed(0)
    found = [(key, drawn(1)[0]) for key in seeded()]
    assert [one for _, one in found] == expected
    assert len({key for key, _ in found}) == 3


@contextlib.contextmanager
def in_scope(seed: int) -> Generator[None]:
    """A generator whose scope is meant for its caller."""
    with random.scope(seed):
        yield


@contextlib.contextmanager
def in_nested_scope(seed: int) -> Generator[None]:
    """One that hands on to another generator."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(in_scope(seed))
        yield from in_scope_of(seed)


def in_scope_of(seed: int) -> Generator[None]:
    with random.scope(seed):
        yield


@pytest.mark.parametrize("manager", [in_scope, in_nested_scope])
def test_a_context_manager_may_yield_in_a_scope(manager: Any):
    """What `contextlib.contextmanager` makes of a generator is a block of its caller."""
    with random.scope(4):
        expected = drawn(2)
    with manager(4):
        assert drawn(1) == expected[:1]
        with random.scope(5):
            drawn(1)
        assert drawn(1) == expected[1:]

    assert manager(4)(drawn)(2) == expected


def test_an_asynchronous_context_manager_may_yield_in_a_scope():
    """So may one for `async with`."""
    manager = contextlib.asynccontextmanager(async_numbers)

    async def draw() -> list[tuple[int, ...]]:
        async with manager(4):
            return drawn(1)

    with random.scope(4):
        expected = drawn(2)[1:]
    assert asyncio.run(draw()) == expected


async def async_numbers(seed: int) -> AsyncGenerator[tuple[int, ...]]:
    with random.scope(seed):
        yield drawn(1)[0]


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("manager", [in_scope, in_nested_scope])
def test_a_generator_in_the_block_of_a_context_manager_is_noticed(manager: Any):
    """The scope is in the block of the generator that entered the context manager."""

    def leaking() -> Generator[None]:
        with manager(1):
            yield

    generator = leaking()
    next(generator)
    with pytest.raises(gn.RngError) as caught:
        random.split_key()
    assert (
        "is that of the generator test_a_generator_in_the_block_of_a_context_manager_is_noticed.<locals>.leaking, "
        in (str(caught.value))
    )
    generator.close()


class Scoped:
    """A context manager of a user's own, which enters a scope."""

    def __init__(self, seed: int) -> None:
        self.scope = random.scope(seed)

    def __enter__(self) -> None:
        self.scope.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.scope.__exit__(*error)

    async def __aenter__(self) -> None:
        self.scope.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        self.scope.__exit__(*error)


@pytest.mark.no_runtime_types
def test_a_context_manager_of_ones_own_enters_a_scope_for_its_block():
    """In a function it is drawn from; in a generator, its consumer's draw is refused."""
    with random.scope(4):
        expected = drawn(1)
    with Scoped(4):
        assert drawn(1) == expected

    def scoped(seed: int) -> Generator[tuple[int, ...]]:
        with Scoped(seed):
            while True:
                yield drawn(1)[0]

    generator = scoped(4)
    assert next(generator) == expected[0]
    with pytest.raises(gn.RngError, match=r"is that of the generator \S+scoped, which has yielded"):
        random.split_key()
    generator.close()
    assert _stream._scopes.get() == ()


@pytest.mark.no_runtime_types
def test_an_asynchronous_context_manager_of_ones_own_in_an_asynchronous_generator_is_noticed():
    """What `__aenter__` enters is a scope of the generator's block, too."""

    async def scoped() -> AsyncGenerator[None]:
        async with Scoped(4):
            yield

    async def consume() -> None:
        async for _ in scoped():
            drawn(1)

    with pytest.raises(gn.RngError, match=r"is that of the generator \S+scoped, which has yielded"):
        asyncio.run(consume())


@pytest.mark.no_runtime_types
def test_an_asynchronous_generator_is_noticed():
    """Its consumer shares its task's context, as that of other generators."""

    async def consume() -> None:
        async for _ in async_numbers(1):
            drawn(1)

    with pytest.raises(gn.RngError) as caught:
        asyncio.run(consume())
    assert str(caught.value) == SUSPENDED.replace("numbers", "async_numbers")


@pytest.fixture
def seeded_by_fixture() -> Iterator[None]:
    """A fixture whose scope is for the test."""
    with random.scope(6):
        yield


@pytest.mark.usefixtures("seeded_by_fixture")
def test_a_fixture_may_yield_in_a_scope():
    """The test that asks for a fixture draws from its scope, where fixtures share the test's context."""
    found = drawn(1)
    with random.scope(6):
        assert found == drawn(1)


# Inside of a trace

DRAWS: dict[str, Callable[[], jax.Array]] = {
    "split_key": random.split_key,
    "rand": lambda: random.rand(2),
    "randn": lambda: random.randn(2),
    "normal": lambda: random.normal(size=2),
    "uniform": lambda: random.uniform(size=2),
    "randint": lambda: random.randint(5, size=2),
    "choice": lambda: random.choice(5, size=2),
    "permutation": lambda: random.permutation(2),
}

REFUSED = (
    "the ambient random stream was opened outside of the running JAX transformation: a draw would be a constant of the "
    "compiled function. Pass a gn.Rngs in and draw from that, or pass a key in and draw inside "
    "`with gn.random.scope(key):`"
)


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_draw_inside_of_a_trace_is_refused(draw: Callable[[], jax.Array]):
    """A draw from outside would be frozen into the compiled function: it is refused, and draws nothing."""
    with pytest.raises(gn.TraceError) as caught:
        jax.eval_shape(draw)
    assert str(caught.value) == REFUSED
    expected = drawn(1)
    random.seed(0)
    assert drawn(1) == expected


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap], ids=["jit", "grad", "vmap"])
def test_every_transformation_refuses(transform: Any):
    """The rule holds under `jit`, `grad` and `vmap`, and for a scope that was opened outside."""
    x = jnp.ones(2) if transform is jax.vmap else jnp.ones(())
    with random.scope(3):
        with pytest.raises(gn.TraceError) as caught:
            transform(lambda x: x * random.rand())(x)
    assert str(caught.value) == REFUSED


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_scope_inside_of_a_trace_draws(draw: Callable[[], jax.Array]):
    """With a key passed in, every draw works in a scope of the traced function."""

    def scoped(key: jax.Array) -> jax.Array:
        with random.scope(key):
            return draw()

    found = jax.eval_shape(scoped, jax.random.key(11))
    assert (found.shape, found.dtype) == (draw().shape, draw().dtype)


def test_a_scope_draws_the_same_inside_and_outside_of_a_trace():
    """A compiled function draws what the same scope draws outside."""

    def scoped(key: jax.Array) -> jax.Array:
        with random.scope(key):
            return random.rand(2) + random.rand(2)

    key = jax.random.key(11)
    np.testing.assert_allclose(np.asarray(jax.jit(scoped)(key)), np.asarray(scoped(key)), rtol=1e-6)


def test_a_scope_of_the_outer_trace_is_refused_in_the_inner_one():
    """A scope opened in one trace gives the constant draws of no other."""

    def outer(key: jax.Array) -> jax.Array:
        with random.scope(key):
            random.rand()
            made: jax.Array = jax.lax.map(lambda x: x + random.rand(), jnp.ones(2))
            return made

    with pytest.raises(gn.TraceError) as caught:
        jax.jit(outer)(jax.random.key(0))
    assert str(caught.value) == REFUSED


def test_a_scope_per_example_differs_under_vmap():
    """Keys passed through `vmap` give each example draws of its own."""

    def scoped(key: jax.Array) -> jax.Array:
        with random.scope(key):
            return random.rand()

    one, other = jax.vmap(scoped)(jax.random.split(jax.random.key(0))).tolist()
    assert one != other


def test_seed_is_refused_inside_of_a_trace():
    """A traced function must not change the process."""

    def reseed(x: jax.Array) -> jax.Array:
        random.seed(1)
        return x

    with pytest.raises(gn.TraceError) as caught:
        jax.eval_shape(reseed, jnp.ones(()))
    assert str(caught.value) == "seed would change the process from inside a JAX transformation; use `with scope(key):`"


def test_a_node_with_initialisers_is_built_in_a_trace_with_a_scope():
    """Without a scope a node's initialiser is refused; with one the node is built."""

    class Layer(gn.Node):
        w: ParamState[Float[Array, "2"]] = state(jax.nn.initializers.normal(1.0))

    def build(key: jax.Array) -> jax.Array:
        with random.scope(key):
            return Layer().w.value

    with pytest.raises(gn.TraceError) as caught:
        jax.eval_shape(lambda: Layer().w.value)
    assert str(caught.value) == REFUSED
    assert jax.eval_shape(build, jax.random.key(0)).shape == (2,)


# Scopes of constructors


class Noise(gn.Node):
    n: int
    w: ParamState[Float[Array, "n"]] = state(jax.nn.initializers.normal(1.0))


class Seeded(Noise):
    """Opens a scope, and leaves it before anything is drawn."""

    def __init__(self, n: int, key: jax.Array) -> None:
        with random.scope(key):
            super().__init__(n)


class SeededByItself(gn.Node):
    """Draws something in its scope, and not its State."""

    n: int
    first: ParamState
    w: ParamState[Float[Array, "n"]] = state(jax.nn.initializers.normal(1.0))

    def __init__(self, n: int, key: jax.Array) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(random.scope(key))
            self.n, self.first = n, ParamState(random.rand())


class SeededAfterwards(gn.Node):
    """Opens its scope in a method that `__post_init__` calls, and reads its State too late."""

    n: int
    key: dataclasses.InitVar[jax.Array]
    w: ParamState[Float[Array, "n"]] = state(jax.nn.initializers.normal(1.0))

    def __post_init__(self, key: jax.Array) -> None:
        self.reset(key)
        assert self.w is not None

    def reset(self, key: jax.Array) -> None:
        with random.scope(key):
            pass


def made_in_a_scope(node: gn.Node) -> Noise:
    with random.scope(3):
        return Noise(2)


class SeededByFactory(gn.Node):
    """Draws in a factory, outside of its scope."""

    n: int
    w: Noise = gn.subnode(factory=lambda self: Noise(self.n))

    def __init__(self, n: int, key: jax.Array) -> None:
        with random.scope(key):
            self.n = n


LATE = [Seeded, SeededByItself, SeededAfterwards, SeededByFactory]


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("cls", LATE)
@pytest.mark.parametrize("is_traced", [False, True])
def test_a_field_drawn_after_the_scope_of_its_constructor_is_refused(cls: Any, is_traced: bool):
    """It would not depend on the key of the scope; the error is the same in a trace."""
    name = cls.__name__
    with pytest.raises(gn.RngError) as caught:
        if is_traced:
            gn.eval_shape(lambda key: gn.vmap(lambda one: cls(2, one))(key[None]), jax.random.key(0))
        else:
            cls(2, jax.random.key(0))
    assert str(caught.value) == (
        f"{name}.w is drawn after the constructor has left the gn.random.scope that it has opened, and would not "
        "depend on its key. Read self.w inside of that scope, which makes it there; or open none in the constructor, "
        f"and call it in one: with gn.random.scope(key): {name}(...)"
    )


def test_a_field_that_is_read_in_the_scope_of_its_constructor_is_drawn_there():
    """Also in the outer scope of two, when the inner one is over."""

    class SeededTwice(Noise):
        def __init__(self, n: int, key: jax.Array) -> None:
            with random.scope(key):
                with random.scope(7):
                    super().__init__(n)
                assert self.w is not None

    key = jax.random.key(11)
    with random.scope(key):
        expected = Noise(2).w.value
    np.testing.assert_array_equal(SeededTwice(2, key).w.value, expected)


def test_what_makes_the_same_of_every_key_is_made_after_the_scope_of_the_constructor():
    """Zeros do not depend on the key; they count as a draw of the stream around the constructor, as ever."""

    class Mixed(gn.Node):
        noise: Noise
        zeros: ParamState[Float[Array, "2"]] = state(jax.nn.initializers.zeros)
        norm: gn.nn.LayerNorm = gn.subnode(factory=lambda self: gn.nn.LayerNorm(2))

        def __init__(self, key: jax.Array) -> None:
            with random.scope(key):
                self.noise = Noise(2)

    mixed = Mixed(jax.random.key(0))
    np.testing.assert_array_equal(mixed.zeros.value, np.zeros(2, np.float32))
    following = drawn(1)
    random.seed(0)
    expected = drawn(4)
    assert following == expected[3:]


def test_the_scope_of_a_factory_or_of_a_function_is_not_that_of_the_constructor():
    """What they give is their own, and the constructor's fields are drawn from the stream around it."""

    class Student(gn.Node):
        n: int
        teacher: Noise
        twin: Noise = gn.subnode(factory=made_in_a_scope)
        w: ParamState[Float[Array, "n"]] = state(jax.nn.initializers.normal(1.0))

        def __init__(self, n: int) -> None:
            self.n = n
            self.teacher = scoped()

    def scoped() -> Noise:
        with random.scope(3):
            return Noise(2)

    student = Student(2)
    np.testing.assert_array_equal(student.teacher.w.value, student.twin.w.value)
    random.seed(0)
    np.testing.assert_array_equal(student.w.value, Noise(2).w.value)


# Draws

SHAPES: list[tuple[str, Callable[[], jax.Array], tuple[int, ...], str]] = [
    ("rand()", random.rand, (), "float32"),
    ("rand(2, 3)", lambda: random.rand(2, 3), (2, 3), "float32"),
    ("rand(dtype)", lambda: random.rand(2, dtype=jnp.bfloat16), (2,), "bfloat16"),
    ("randn(2, 3)", lambda: random.randn(2, 3), (2, 3), "float32"),
    ("randn(dtype)", lambda: random.randn(dtype=jnp.float16), (), "float16"),
    ("normal()", random.normal, (), "float32"),
    ("normal(size=3)", lambda: random.normal(size=3), (3,), "float32"),
    ("normal(size=[2, 3])", lambda: random.normal(1, 2, size=[2, 3]), (2, 3), "float32"),
    ("normal(array)", lambda: random.normal(jnp.zeros((2, 1)), jnp.ones((1, 3))), (2, 3), "float32"),
    ("normal(ranks)", lambda: random.normal(jnp.zeros(3), jnp.ones((2, 1))), (2, 3), "float32"),
    ("normal(array, size)", lambda: random.normal(jnp.zeros(3), size=(2, 3)), (2, 3), "float32"),
    ("normal(integers)", lambda: random.normal(jnp.arange(3), 2), (3,), "float32"),
    ("normal(dtype)", lambda: random.normal(0.0, 1.0, (2,), jnp.bfloat16), (2,), "bfloat16"),
    ("uniform()", random.uniform, (), "float32"),
    ("uniform(size=3)", lambda: random.uniform(2, 3, size=3), (3,), "float32"),
    ("uniform(array)", lambda: random.uniform(jnp.zeros((2, 1)), jnp.ones((1, 3))), (2, 3), "float32"),
    ("uniform(ranks)", lambda: random.uniform(jnp.zeros(3), jnp.ones((2, 1))), (2, 3), "float32"),
    ("uniform(array, size)", lambda: random.uniform(jnp.zeros(3), size=(2, 3)), (2, 3), "float32"),
    ("uniform(dtype)", lambda: random.uniform(size=2, dtype=jnp.float16), (2,), "float16"),
    ("randint(5)", lambda: random.randint(5), (), "int32"),
    ("randint(2, 5, 3)", lambda: random.randint(2, 5, 3), (3,), "int32"),
    ("randint(dtype)", lambda: random.randint(5, size=(2, 3), dtype=jnp.uint8), (2, 3), "uint8"),
    ("choice(5)", lambda: random.choice(5), (), "int32"),
    ("choice(5, 3)", lambda: random.choice(5, 3), (3,), "int32"),
    ("choice(rows)", lambda: random.choice(jnp.zeros((4, 2)), 3), (3, 2), "float32"),
    ("choice(columns)", lambda: random.choice(jnp.zeros((4, 2)), (3,), axis=1), (4, 3), "float32"),
    ("choice(numpy)", lambda: random.choice(np.ones(2, np.float32), 3), (3,), "float32"),
    ("choice(p)", lambda: random.choice(3, 5, p=np.array([0.2, 0.3, 0.5])), (5,), "int32"),
    ("permutation(4)", lambda: random.permutation(4), (4,), "int32"),
    ("permutation(rows)", lambda: random.permutation(jnp.zeros((4, 2))), (4, 2), "float32"),
    ("permutation(numpy)", lambda: random.permutation(np.ones(2, np.float32)), (2,), "float32"),
]


@pytest.mark.parametrize(("draw", "shape", "dtype"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_a_draw_has_numpys_shape_and_jaxs_dtype(draw: Callable[[], jax.Array], shape: tuple[int, ...], dtype: str):
    """Shapes are NumPy's, also under strict promotion; dtypes are JAX's defaults unless given."""
    found = draw()
    assert (found.shape, str(found.dtype)) == (shape, dtype)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_draw_repeats_with_its_seed(draw: Callable[[], jax.Array]):
    """Every draw takes one key: the same seed gives the same draw, and the same key after it."""
    random.seed(3)
    first, after = draw(), drawn(1)
    random.seed(3)
    drawn(1)
    assert after == drawn(1)
    random.seed(3)
    assert bool(jnp.all(draw() == first))


COUNT = 20_000


def test_uniform_draws_fill_their_range():
    """`rand` and `uniform` stay in the half-open range, with its mean and spread."""
    for draw, low, high in ((random.rand(COUNT), 0.0, 1.0), (random.uniform(-2.0, 4.0, COUNT), -2.0, 4.0)):
        values = np.asarray(draw)
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() < high
        assert abs(values.mean() - (low + high) / 2) < 0.02 * (high - low)
        assert abs(values.std() - (high - low) / 12**0.5) < 0.02 * (high - low)


def test_normal_draws_have_their_mean_and_deviation():
    """`randn` and `normal` have mean, deviation and tails of the normal distribution."""
    for draw, mean, deviation in ((random.randn(COUNT), 0.0, 1.0), (random.normal(3.0, 0.5, COUNT), 3.0, 0.5)):
        values = (np.asarray(draw) - mean) / deviation
        assert abs(values.mean()) < 0.03
        assert abs(values.std() - 1.0) < 0.03
        assert abs((np.abs(values) < 1.0).mean() - 0.6827) < 0.02


def test_normal_takes_a_mean_and_deviation_for_each_element():
    """Arrays of means and deviations are broadcast over the draw."""
    values = np.asarray(random.normal(jnp.array([0.0, 100.0]), jnp.array([1.0, 0.0]), size=(50, 2)))
    assert (values[:, 1] == 100.0).all()
    assert np.abs(values[:, 0]).max() < 10.0


def test_integers_cover_their_range():
    """`randint` gives every integer of the half-open range, and no other."""
    assert set(random.randint(5, size=500).tolist()) == {0, 1, 2, 3, 4}
    assert set(random.randint(-1, 2, 500).tolist()) == {-1, 0, 1}


def test_choice_follows_its_probabilities():
    """`choice` draws with the given probabilities, and without replacement each item once."""
    found = np.asarray(random.choice(jnp.array([10, 20, 30]), COUNT, p=jnp.array([0.1, 0.0, 0.9])))
    assert set(found.tolist()) == {10, 30}
    assert abs((found == 30).mean() - 0.9) < 0.02
    assert sorted(random.choice(6, 6, replace=False).tolist()) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="larger sample"):
        random.choice(3, 4, replace=False)


def test_a_permutation_has_every_item_once():
    """`permutation` orders the items along its axis anew; `independent` does so for each row."""
    order = random.permutation(50).tolist()
    assert order != sorted(order)
    assert sorted(order) == list(range(50))
    table = jnp.arange(40).reshape(2, 20)
    columns = np.asarray(random.permutation(table, axis=1))
    assert (columns[1] - columns[0] == 20).all()
    rows = np.asarray(random.permutation(table, axis=1, independent=True))
    assert not (rows[1] - rows[0] == 20).all()
    assert sorted(rows[0].tolist()) == list(range(20))
