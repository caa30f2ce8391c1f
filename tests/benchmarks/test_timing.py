"""The measurement itself: what is called, when, and how rounds become one ratio."""

from functools import partial
from itertools import count

from .timing import Call, Samples, always, interleave, sampler


def test_a_ratio_is_taken_inside_each_round():
    """A machine that slows down in one round changes no ratio, though it changes both medians."""
    samples = Samples({"ours": [1.0, 10.0, 3.0], "base": [2.0, 20.0, 6.0]})
    assert samples.ratio("ours", "base") == 0.5
    assert samples.median("ours") == 3.0


def test_a_difference_is_taken_inside_each_round():
    """A slow round moves it no more than any other."""
    samples = Samples({"ours": [3.0, 30.0, 4.0], "base": [2.0, 20.0, 2.0]})
    assert samples.difference("ours", "base") == 2.0


def test_the_ratio_is_the_median_of_the_rounds():
    """One wild round does not move the ratio."""
    samples = Samples({"ours": [1.0, 1.0, 900.0], "base": [4.0, 2.0, 1.0]})
    assert samples.ratio("ours", "base") == 0.5


def test_each_round_runs_every_contender_once_in_a_turning_order():
    """No contender always runs after the same neighbour."""
    order: list[str] = []

    def note(name: str) -> float:
        order.append(name)
        return 1.0

    samples = interleave({name: partial(note, name) for name in "abc"}, rounds=3)
    assert "".join(order) == "abcbcacab"
    assert samples.seconds == {"a": [1.0] * 3, "b": [1.0] * 3, "c": [1.0] * 3}


def test_every_call_is_prepared_anew_before_any_is_timed():
    """A sample prepares all its calls, reads the clock, makes each once, and reads the clock again."""
    events: list[str] = []
    seconds = count()

    def clock() -> float:
        events.append("clock")
        return next(seconds)

    def prepare() -> Call:
        events.append("prepare")
        return lambda: events.append("call")

    sample = sampler(prepare, 1.0, clock)
    assert events[:2] == ["prepare", "call"], "the warm-up is not timed"
    events.clear()
    assert sample() == 1.0
    assert events == ["prepare", "clock", "call", "clock"]


def test_a_sampler_makes_as_many_calls_as_fill_its_seconds():
    """The number of calls is doubled until they take long enough; a sample is the time of one call."""
    now = 0.0

    def tick() -> None:
        nonlocal now
        now += 0.25

    sample = sampler(always(tick), 1.5, lambda: now)
    before = now
    assert sample() == 0.25
    assert now - before == 2.0, "4 calls take 1.0 and are too few, 8 take 2.0"
