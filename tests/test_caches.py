"""What is worked out once is kept as long as it says, and no longer."""

import gc
import threading
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode._caches import Answers, Interned, Memo


class Few(Memo[int, Any]):
    limit: ClassVar[int] = 4


class Thing:
    """Something that can be referred to weakly."""


@given(st.lists(st.integers(0, 9), max_size=40))
def test_a_memo_keeps_the_newest_and_makes_nothing_twice_meanwhile(keys: list[int]):
    """A memo does what a dict does that drops its oldest key as soon as it has one too many."""
    memo, made = Few(), list[int]()
    reference: dict[int, int] = {}
    for key in keys:

        def make(key: int = key) -> int:
            made.append(key)
            return -key

        before = len(made)
        assert memo.of(key, make) == -key
        assert (len(made) > before) == (key not in reference)
        reference.setdefault(key, -key)
        if len(reference) > Few.limit:
            del reference[next(iter(reference))]
        assert list(memo.items()) == list(reference.items())


def test_nothing_is_an_answer_too():
    """`None` is not worked out again."""
    answers, asked = Answers(), list[int]()
    for _ in range(2):
        assert answers.to("question", lambda: asked.append(1)) is None
    assert asked == [1]


def test_a_value_that_cannot_be_made_is_not_kept_and_its_error_stands_alone():
    """The error is the maker's, without the look-up that came before it, and the next one makes the value."""
    memo, key = Few(), 123_456
    with pytest.raises(ZeroDivisionError) as caught:
        memo.of(key, lambda: 1 / 0)
    # Whoever runs the tests may be handling an error of his own.
    context = caught.value.__context__
    assert context is None or context.args != (key,)
    assert memo.of(key, lambda: 2) == 2


def test_of_two_that_make_a_value_at_once_both_use_the_first():
    """The second is given what the first has put in."""
    memo: Memo[int, Thing] = Memo()

    def make() -> Thing:
        memo.of(1, Thing)  # as another thread would meanwhile
        return Thing()

    assert memo.of(1, make) is memo[1]
    assert memo.of(1, Thing) is memo[1]


def test_one_object_for_each_description_as_long_as_somebody_holds_it():
    """It is made again after the last reference has gone, and the table does not grow."""
    interned: Interned[str, Thing] = Interned()
    thing = interned.of("a", Thing)
    assert interned.of("a", Thing) is thing
    assert list(interned) == [thing]
    del thing
    gc.collect()
    assert list(interned) == []
    assert interned.refs == {}


def test_threads_that_intern_at_once_get_one_object():
    """Whoever comes second gets the object of the first."""
    interned: Interned[int, Thing] = Interned()
    barrier = threading.Barrier(4)
    things: list[list[Thing]] = []

    def run() -> None:
        barrier.wait()
        things.append([interned.of(key, Thing) for key in range(200)])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len({id(thing) for thing in same}) == 1 for same in zip(*things, strict=True))
