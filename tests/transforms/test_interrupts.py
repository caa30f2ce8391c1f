"""Signals in the main thread, at any moment of a call: all as before, or all as after."""

import gc
import signal
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphnode as gn
from graphnode import ParamState
from graphnode._signals import undivided


class Many(gn.Node):
    states: list[ParamState]


# So many that a loop of writes takes a good part of the time.
LARGE = 3000
ZERO, ONE = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)


def many(count: int = 40) -> Many:
    # Arrays of their own: what is donated must not stand in another test's node.
    return Many([ParamState(ZERO.copy() if count < LARGE else ZERO) for _ in range(count)])


def add(node: Many) -> None:
    for state in node.states:
        state.value += 1


class Interrupted(Exception):
    """What the handler of the signal raises."""


def interrupt(call: Callable[[], object], seconds: float) -> None:
    """Make a call into which a signal comes after so many seconds, whose handler raises."""
    assert threading.current_thread() is threading.main_thread()
    is_armed, was_raised = True, False

    def handle(number: int, frame: object) -> None:
        nonlocal was_raised
        if is_armed:
            was_raised = True
            raise Interrupted

    before = signal.signal(signal.SIGALRM, handle)
    gc.disable()  # what is raised in a callback of the collector is lost
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
    except Interrupted:
        pass
    except ValueError as error:
        # Where it comes into a comparison of JAX's cache keys, JAX tells of it in an error of its own.
        if not (was_raised and "Cache keys should be comparable" in str(error)):
            raise
    finally:
        is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


def values_of(node: Many) -> set[int]:
    return {int(state.value) for state in node.states}


plain_step = gn.jit(add)
donating_step = gn.jit(add, donate=True)
ONES = jax.tree.map(lambda _: ONE, gn.treefy_states(many(LARGE)))


def update(node: Many) -> None:
    gn.update_states(node, ONES)


BY_PATH = {"states": dict.fromkeys(range(40), ONE)}


def update_by_path(node: Many) -> None:
    gn.update_states(node, BY_PATH)


# The call, how many States, and how many microseconds it takes about: the signal comes earlier, mostly.
CALLS: dict[str, tuple[Callable[[Many], None], int, int]] = {
    "jit": (plain_step, 40, 1500),
    "donating jit": (donating_step, 40, 1500),
    "update": (update, LARGE, 2500),
    "update by path": (update_by_path, 40, 1500),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupted_call_has_written_all_or_nothing(name: str):
    """Wherever the signal comes, the States are all as before or all as after, and the next call works."""
    call, count, longest = CALLS[name]
    call(many(count))
    outcomes: set[int] = set()

    @settings(max_examples=150, deadline=None, database=None)
    @given(microseconds=st.integers(30, longest))
    def check(microseconds: int) -> None:
        node = many(count)
        gn.update_states(node, gn.treefy_states(node))  # walked and matched before
        interrupt(lambda: call(node), microseconds * 1e-6)
        values = values_of(node)
        assert len(values) == 1
        outcomes.update(values)
        call(node)
        assert len(values_of(node)) == 1

    check()
    assert outcomes <= {0, 1}


def test_an_interrupted_optimizer_has_made_a_step_or_none():
    """Parameters, memory and the count of steps go together."""

    class Floats(gn.Node):
        states: list[ParamState]

    def make() -> Any:
        node = Floats([ParamState(jnp.zeros(())) for _ in range(20)])
        return node, gn.optim.Optimizer(node, optax.sgd(1.0))

    node, optimizer = make()
    grads = jax.tree.map(jnp.ones_like, gn.treefy_states(node))
    optimizer.update(node, grads)

    @settings(max_examples=60, deadline=None, database=None)
    @given(microseconds=st.integers(30, 6000))
    def check(microseconds: int) -> None:
        node, optimizer = make()
        interrupt(lambda: optimizer.update(node, grads), microseconds * 1e-6)
        values = {float(state.value) for state in node.states}
        assert values == ({-1.0} if int(optimizer.steps.value) else {0.0})

    check()


def test_an_interrupted_pop_has_taken_all_or_nothing():
    """States are taken out of all fields, or of none; and put back likewise."""

    class Fields(gn.Node):
        a: ParamState
        b: ParamState
        c: dict[str, ParamState]

    @settings(max_examples=80, deadline=None, database=None)
    @given(microseconds=st.integers(30, 400))
    def check(microseconds: int) -> None:
        table = {str(number): ParamState(jnp.ones(())) for number in range(9)}
        node = Fields(ParamState(jnp.zeros(())), ParamState(jnp.zeros(())), table)
        interrupt(lambda: gn.pop_states(node, ...), microseconds * 1e-6)
        assert len(gn.states(node)) in (0, 11)

    check()


def test_a_donating_call_that_fails_says_so_when_its_states_are_read():
    """Where XLA or a callback fails after memory was given away, each State says so, until it gets another value."""

    def explode(value: Any) -> Any:
        raise ValueError("on purpose")

    @gn.jit(donate=True)
    def step(node: Many) -> None:
        for state in node.states:
            state.value = jax.pure_callback(explode, jax.ShapeDtypeStruct((), jnp.int32), state.value) + state.value

    node = many(2)
    with pytest.raises(Exception, match="on purpose"):
        step(node)
        jax.block_until_ready([state._value for state in node.states])
    lost = [state for state in node.states if state._mark is not None]
    for state in lost:
        for look in (lambda state=state: state.value, lambda: gn.treefy_states(node), lambda: gn.clone(node)):
            with pytest.raises(gn.DonationError) as caught:
                look()
            assert "its memory was donated to a call of step that failed, and no value is left" in str(caught.value)
    for state in node.states:
        state.value = jnp.zeros((), jnp.int32)
    assert values_of(node) == {0}
    assert len(gn.treefy_states(node).flat()) == 2


def test_a_signal_that_waits_is_handled_when_the_writes_are_done():
    """The handler runs once, after the action; before the action has begun to show, it runs at once."""
    order: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: order.append("handler"))
    try:

        def action() -> int:
            signal.raise_signal(signal.SIGUSR1)
            order.append("done")
            return 5

        assert undivided(action) == 5
        assert undivided(action, lambda: False) == 5
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert order == ["done", "handler", "handler", "done"]


def test_handlers_are_put_back_whatever_is_raised():
    """An action that raises, and a handler that does, leave the program's own handlers in place."""

    def raising(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, raising)
    other = signal.getsignal(signal.SIGINT)
    try:

        def fail() -> None:
            signal.raise_signal(signal.SIGUSR1)
            raise KeyError("on purpose")

        with pytest.raises(Interrupted):
            undivided(fail)
        assert signal.getsignal(signal.SIGUSR1) is raising
        assert signal.getsignal(signal.SIGINT) is other
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_values_are_written_in_another_thread_too():
    """Only the main thread handles signals; elsewhere there is nothing to hold back."""
    node = many()
    thread = threading.Thread(target=lambda: donating_step(node))
    thread.start()
    thread.join()
    assert values_of(node) == {1}
    assert np.ndim(node.states[0].value) == 0
