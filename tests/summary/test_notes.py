"""The notes below the table of a summary: those of neighbours are one line."""

import itertools

import hypothesis
import hypothesis.strategies as st
import jax

import graphnode as gn
from graphnode._summary._fold_notes import folded_notes
from tests.summary.models import Scale

ROUNDS = "one round of a while loop is counted, as the number of rounds is not known"


class Loop(gn.Node):
    scale: Scale

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x.sum() < 3, self.scale, x)


class Net(gn.Node):
    blocks: list[Loop]
    last: Loop

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def test_notes_of_neighbours_are_one_line():
    """As their rows are; the data has each."""
    summary = gn.summary(Net([Loop(Scale(2, 2)) for _ in range(5)], Loop(Scale(2, 2))), "3 2")
    assert repr(summary).splitlines()[-2:] == [f"blocks.0..4: {ROUNDS}", f"last: {ROUNDS}"]
    assert summary.notes == tuple([f"blocks.{at}: {ROUNDS}" for at in range(5)] + [f"last: {ROUNDS}"])
    assert summary.to_dict()["notes"] == list(summary.notes)


def test_lists_in_lists_are_folded_in_turn():
    """The inner ones first; gaps, other texts and other keys keep lines apart."""
    inner = [("a", first, "b", second, "c") for first, second in itertools.product(range(3), range(2))]
    assert folded_notes([(path, "x") for path in inner], "Net") == ["a.0..2.b.0..1.c: x"]
    uneven = [path for path in inner if path != ("a", 1, "b", 0, "c")]
    assert folded_notes([(path, "x") for path in uneven], "Net") == [
        "a.0.b.0..1.c: x",
        "a.1.b.1.c: x",
        "a.2.b.0..1.c: x",
    ]
    notes = [(("a", 0), "x"), (("a", 1), "y"), (("a", 2), "x"), (("b.c", 3), "x"), ((), "x"), (None, "z")]
    assert folded_notes(notes, "Net") == ["a.0: x", "a.2: x", '"b.c".3: x', "Net: x", "a.1: y", "z"]


def test_no_more_notes_are_shown_than_fit():
    """With the number of those that are left out."""
    notes = [(("a", 2 * at), "x") for at in range(20)]
    assert folded_notes(notes, "Net", limit=2) == ["a.0: x", "a.2: x", "and 18 more notes: .notes has all"]
    assert len(folded_notes(notes[:16], "Net")) == 16


@hypothesis.given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_folded_notes_stand_for_each_path_once(places: set[tuple[int, int]]):
    """Whatever positions there are."""
    paths = [("a", first, "b", second) for first, second in sorted(places)]
    lines = folded_notes([(path, "x") for path in paths], "Net", limit=100)
    unfolded: list[tuple[int, int]] = []
    for line in lines:
        outer, inner = _ends(line)
        unfolded += itertools.product(outer, inner)
    assert sorted(unfolded) == sorted(places)


def _ends(line: str) -> list[range]:
    """The positions in `a.0..2.b.1: x`."""
    texts = line.removeprefix("a.").removesuffix(": x").split(".b.")
    ends = [text.split("..") for text in texts]
    return [range(int(both[0]), int(both[-1]) + 1) for both in ends]
