"""Signals in the main thread, at any moment of a call: all as before, or all as after."""

import gc
import inspect
import itertools
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax._src.core import eval_trace, trace_ctx

import graphnode as gn
from graphnode import ParamState, _marks, _signals
from graphnode._caches import Interned
from graphnode._gc import gc_paused
from graphnode._marks import captured, mark_lost
from graphnode._signals import undivided
from tests.interrupting import interrupt_everywhere


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
    except Exception as error:
        # Where it comes into code of JAX or NumPy that handles errors, they may tell of it in one of their own: of
        # cache keys that do not compare, of a variable that no branch has set, of a traceback without a line.
        is_theirs = "Cache keys should be comparable" in str(error) or isinstance(error, UnboundLocalError)
        if not (was_raised and (is_theirs or "TracebackType" in _last_line(error))):
            raise
    finally:
        is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
        # JAX's own way in and out of a trace is no one step: an interrupt there leaves its trace to all that follows.
        trace_ctx.set_trace(eval_trace)


def _last_line(error: Exception) -> str:
    """The line of code that raised an error."""
    return traceback.extract_tb(error.__traceback__)[-1].line or ""


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


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "update" else []) for name in CALLS]
)
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


@pytest.mark.slow  # traces at each step: the interrupt may come into what JAX itself does not protect
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


@pytest.mark.no_runtime_types
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


RAISING, COUNTING = signal.SIGALRM, signal.SIGUSR1


class _Program:
    """What a program handles its signals with, and a signal at chosen moments: where `_signals` looks up or sets one.

    These are the moments at which Python would run a handler.

    Attributes:
        moments: The numbers of the moments at which a signal comes whose handler raises.
        passed: How many moments there were.
        raised: What its handler has raised.
        counted: How often the handler of another signal has run.
    """

    def __init__(self, moments: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
        self.moments, self.passed, self.counted = moments, 0, 0
        self.raised: list[BaseException] = []
        self.handlers = {RAISING: self.fail, COUNTING: self.count}
        for name in ("_get_handler", "_set_handler"):
            monkeypatch.setattr(_signals, name, self.between(getattr(_signals, name)))

    def between(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self.pass_moment()
            answer = function(*args)
            self.pass_moment()
            return answer

        return run

    def pass_moment(self) -> None:
        self.passed += 1
        if self.passed in self.moments:
            signal.raise_signal(RAISING)

    def fail(self, number: int, frame: object) -> None:
        self.raised.append(Interrupted(len(self.raised)))
        raise self.raised[-1]

    def count(self, number: int, frame: object) -> None:
        self.counted += 1


@contextmanager
def handling(handlers: Mapping[signal.Signals, Any]) -> Generator[None]:
    """Signals have these handlers; what they had before is put back, whatever happened to them."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def contexts_of(error: BaseException | None) -> list[BaseException]:
    """An error, and what was being handled when it was raised, back to the first that the test has to do with.

    Python 3.11 may go on handling an error for ever, where a test has raised another one at an opcode of its handler.
    """
    if error is None or error is sys.exc_info()[1]:
        return []
    return [error, *contexts_of(error.__context__)]


@pytest.mark.parametrize("is_committed", [True, False])
def test_handlers_are_back_and_no_signal_is_lost_whenever_another_handler_raises(is_committed: bool):
    """At every moment, and at every two: the program's handlers are in place, and each signal was handled once."""

    def run(moments: set[int]) -> int:
        with pytest.MonkeyPatch.context() as monkeypatch:
            program = _Program(moments, monkeypatch)
            came = 0

            def action() -> None:
                nonlocal came
                came = 1
                signal.raise_signal(COUNTING)

            with handling(program.handlers):
                interrupt_handler = signal.getsignal(signal.SIGINT)
                error: BaseException | None = None
                try:
                    undivided(action, lambda: is_committed)
                except Interrupted as caught:
                    error = caught
                assert signal.getsignal(RAISING) == program.fail
                assert signal.getsignal(COUNTING) == program.count
                assert signal.getsignal(signal.SIGINT) is interrupt_handler
            assert program.counted == came
            assert contexts_of(error) == program.raised[::-1]
            assert len(program.raised) == len([moment for moment in moments if moment <= program.passed])
            return program.passed

    count = run(set())
    assert count > 30
    for first in range(1, count + 1):
        run({first})
    # Close together: the second comes into what the first has set off.
    for first, second in itertools.product(range(1, count + 1), range(1, 12)):
        run({first, first + second})


def test_all_signals_that_wait_are_handled_where_the_first_handler_raises():
    """Each handler runs, in the order in which the signals came; of two that raise, the first is the context."""
    order: list[str] = []

    def handler(name: str) -> Callable[[int, object], None]:
        def handle(number: int, frame: object) -> None:
            order.append(name)
            raise Interrupted(name)

        return handle

    def action() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        raise KeyError("on purpose")

    with handling({signal.SIGTERM: handler("first"), signal.SIGUSR1: handler("second")}):
        with pytest.raises(Interrupted) as caught:
            undivided(action)
    assert order == ["first", "second"]
    assert [str(error) for error in contexts_of(caught.value)] == ["second", "first", "'on purpose'"]


@pytest.mark.parametrize("is_committed", [True, False])
def test_what_a_handler_registers_stays(is_committed: bool):
    """The next signal is handled by it, whether it waits or comes later; until the action is over, it waits as well."""
    order: list[str] = []

    def first(number: int, frame: object) -> None:
        order.append("first")
        assert signal.getsignal(number) is first
        signal.signal(number, second)
        signal.signal(signal.SIGTERM, second)

    def second(number: int, frame: object) -> None:
        order.append(f"second {signal.Signals(number).name}")

    def action() -> None:
        nonlocal is_committed
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        is_committed = True
        signal.raise_signal(signal.SIGTERM)
        order.append("done")

    with handling({signal.SIGUSR1: first, signal.SIGTERM: signal.SIG_IGN}):
        # The signal that is ignored does not come at all, unless the first handler runs before.
        at_once = ["first", "second SIGUSR1"]
        expected = ["done", *at_once] if is_committed else [*at_once, "done", "second SIGTERM"]
        undivided(action, lambda: is_committed)
        assert signal.getsignal(signal.SIGUSR1) is second
        assert signal.getsignal(signal.SIGTERM) is second
    assert order == expected


def test_a_handler_that_another_one_registers_while_ours_is_put_in_or_taken_out_stays():
    """Setting a handler runs those of signals that have come, which may register the one that is to be set."""

    def run(moment: int) -> int:
        with pytest.MonkeyPatch.context() as monkeypatch:
            program = _Program({moment}, monkeypatch)

            def register(number: int, frame: object) -> None:
                program.raised.append(Interrupted())
                signal.signal(COUNTING, program.fail)

            with handling({RAISING: register, COUNTING: program.count}):
                undivided(lambda: None)
                assert signal.getsignal(RAISING) is register
                assert signal.getsignal(COUNTING) == (program.fail if program.raised else program.count)
            return program.passed

    for moment in range(1, run(0) + 1):
        run(moment)


def test_a_second_signal_is_what_the_first_handler_has_made_of_it():
    """It is ignored where the first handler says so, and has its default action where that was restored."""

    def ignore(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)

    def restore(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})  # the default action would end the tests

    def action() -> None:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)

    with handling({signal.SIGUSR1: ignore}):
        undivided(action)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    with handling({signal.SIGUSR1: restore}):
        undivided(action)
        try:
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
            assert signal.sigpending() == {signal.SIGUSR1}
            assert signal.sigwait({signal.SIGUSR1}) is signal.SIGUSR1
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


def test_what_a_program_found_in_the_place_of_its_handler_goes_on_handling():
    """A handler that was looked up while the action ran, and is put back later, swallows nothing."""
    handled: list[int] = []
    found: list[Any] = []

    def handle(number: int, frame: object) -> None:
        handled.append(number)

    with handling({signal.SIGUSR1: handle}):
        undivided(lambda: found.append(signal.getsignal(signal.SIGUSR1)))
        assert found != [handle]
        signal.signal(signal.SIGUSR1, found[0])
        signal.raise_signal(signal.SIGUSR1)
        assert handled == [signal.SIGUSR1]
        undivided(lambda: signal.raise_signal(signal.SIGUSR1))
    assert handled == [signal.SIGUSR1] * 2


def test_no_lock_stops_a_handler_that_comes_while_it_is_held():
    """A handler runs in the thread that it interrupts, which would wait for itself."""
    plain = type(threading.Lock())
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "graphnode"]
    locks = [value for module in modules for value in vars(module).values() if isinstance(value, plain)]
    assert len(modules) > 40
    assert locks == []


@pytest.mark.parametrize("name", ["mark_of", "_release", "drop_empty_mark"])
def test_a_handler_that_traces_while_captures_come_or_go_leaves_them_right(name: str, monkeypatch: pytest.MonkeyPatch):
    """What an argument's original is captured by still holds, and nothing stays when the call is over."""
    state = ParamState(jnp.ones(2))
    function = getattr(_marks, name)
    handled: list[int] = []

    def handle(number: int, frame: object) -> None:
        handled.append(number)
        with captured([state], str):
            pass

    def then_signal(state: Any) -> Any:
        answer = function(state)
        if not handled:
            signal.raise_signal(signal.SIGUSR1)
        return answer

    monkeypatch.setattr(_marks, name, then_signal)
    with handling({signal.SIGUSR1: handle}):
        with captured([state], lambda state, use: "it is captured"):
            with pytest.raises(gn.TraceError, match=r"^it is captured"):
                jax.eval_shape(lambda: state.value)
        assert handled == [signal.SIGUSR1]
    assert state._mark is None
    assert state.value.shape == (2,)


def test_a_mark_that_a_handler_makes_meanwhile_is_the_one(monkeypatch: pytest.MonkeyPatch):
    """Of two marks that are made for one State at once, none takes the place of the other."""
    state = ParamState(jnp.ones(2))

    class Interrupting(_marks.Mark):
        def __init__(self, trace: Any) -> None:
            super().__init__(trace)
            monkeypatch.undo()
            mark_lost([(state, state._value)], "it is lost")

    monkeypatch.setattr(_marks, "Mark", Interrupting)
    monkeypatch.setattr(_marks, "isinstance", lambda value, _: value is not None, raising=False)
    with captured([state], str):
        pass
    with pytest.raises(gn.DonationError, match="it is lost"):
        jnp.sum(state.value)


def test_an_object_that_a_handler_interns_meanwhile_is_the_one():
    """Of two that are made of one description at once, both makers get the same; what is dead hides no later one."""

    class Thing:
        """Can be referred to weakly."""

    things: Interned[str, Thing] = Interned()
    inner: list[Thing] = []

    def make() -> Thing:
        inner.append(things.of("a", Thing))
        return Thing()

    outer = things.of("a", make)
    assert [outer] == inner
    assert list(things) == [outer]
    # The reference to one that is gone is told late, when another one stands there.
    things._forget("a", weakref.ref(Thing()))
    assert list(things) == [outer]
    # It is dead, and its callback has not come yet.
    things.refs["b"] = weakref.ref(Thing())
    other = things.of("b", Thing)
    assert things.of("b", Thing) is other
    del outer, other
    inner.clear()
    assert things.refs == {}


def test_handlers_are_looked_up_and_set_by_functions_in_c():
    """Python's wrappers of them cost as much as the rest of a donating call."""
    assert inspect.isbuiltin(_signals._get_handler)
    assert inspect.isbuiltin(_signals._set_handler)


def test_values_are_written_in_another_thread_too():
    """Only the main thread handles signals; elsewhere there is nothing to hold back."""
    node = many()
    thread = threading.Thread(target=lambda: donating_step(node))
    thread.start()
    thread.join()
    assert values_of(node) == {1}
    assert np.ndim(node.states[0].value) == 0


def test_an_interrupted_walk_leaves_the_collector_on():
    """Wherever the signal comes, what is paused while a walk runs goes on."""
    assert gc.isenabled()
    paused = gc_paused(lambda: gc.isenabled())
    assert paused() is False

    def check() -> None:
        is_on = gc.isenabled()
        gc.enable()
        assert is_on

    assert interrupt_everywhere("graphnode/_gc.py", paused, check) > 2
