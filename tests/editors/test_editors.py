"""Completion, help and definitions, in language servers over stdio and in a live interpreter."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import graphnode as gn
from tests.docrun import ROOT
from tests.editors.client import AnswerError, Place, Server, Session, started
from tests.editors.interpreter import SHELLS, ask, shell_after
from tests.editors.probes import HERE, PROBES, Feature, Probe, fault_of, question_of
from tests.editors.servers import SERVERS
from tests.editors.table import COLUMNS, probes_for, stored, table

Answers = Mapping[str, Sequence[str]]


def check(column: str, answers: Answers) -> None:
    """Fail on every answer that is not as it must be, and on every gap that is none."""
    differences: list[str] = []
    for probe in probes_for(column):
        fault, gap = fault_of(probe, answers[probe.name]), probe.gaps.get(column)
        if fault and gap is None:
            differences.append(f"{probe.name}: {fault}")
        if gap is not None and not fault:
            differences.append(f"{probe.name}: works, so that it is not a gap: {gap}")
    if differences:
        pytest.fail("\n".join([f"{column} differs from its probes:", *differences]), pytrace=False)


# Language servers


async def asked(session: Session, probe: Probe) -> list[str]:
    """The answer of a server."""
    question = question_of(probe)
    match probe.feature:
        case Feature.COMPLETION:
            return await session.completions(question)
        case Feature.HOVER:
            return [await session.hover(question)]
        case Feature.SIGNATURE:
            return [await session.signature(question)]
        case Feature.DEFINITION:
            return [shown(place, question.text) for place in await session.definition(question)]


def shown(place: Place, program: str) -> str:
    """A place as `file: line`; the file relative to this checkout, or that of the program."""
    inside = place.file.is_relative_to(ROOT)
    text = place.file.read_text(encoding="utf-8") if place.file.exists() else program
    name = place.file.relative_to(ROOT).as_posix() if inside else str(place.file) if place.file.exists() else HERE
    return f"{name}: {text.splitlines()[place.line - 1].strip()}"


async def all_asked(server: Server, folder: Path) -> Answers:
    answers: dict[str, Sequence[str]] = {}
    async with started(server, folder) as session:
        for probe in probes_for(server.name):
            try:
                answers[probe.name] = await asked(session, probe)
            except AnswerError as error:
                answers[probe.name] = [str(error)]  # in which nothing will be found
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_language_server_answers_as_the_probes_say(server: Server, tmp_path: Path):
    """One session with a server: every probe is answered, and every gap is one."""
    # One test for all: the probes take seconds, a server for each of them would take minutes.
    check(server.name, asyncio.run(all_asked(server, tmp_path)))


# A live interpreter


def held(names: Mapping[str, object]) -> list[tuple[str, object, dict[gn.Path, int]]]:
    """What the nodes among some names hold: structure, and values by identity."""
    return [
        (name, gn.graphdef(node), {path: id(one.value) for path, one in gn.states(node).items()})
        for name, node in names.items()
        if isinstance(node, gn.Node)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHELLS)
def test_live_interpreter_answers_as_the_probes_say_and_changes_nothing(name: str, tmp_path: Path):
    """Where the objects themselves are there they complete too, and hold afterwards what they held before."""
    with shell_after(SHELLS[name], tmp_path) as shell:
        before = held(shell.user_ns)
        answers = {probe.name: ask(shell, probe) for probe in probes_for(name)}
        assert len(before) > 5
        assert held(shell.user_ns) == before
    check(name, answers)


# The table


def test_the_page_shows_the_table(record_property: Callable[[str, object], None]):
    """The documentation has the table that the probes declare."""
    record_property("note", f"\nCompletion and hover:\n\n{table()}\n")
    assert stored() == table(), "write it with: python -m tests.editors --update"


def test_probes_are_told_apart():
    """No two rows of the table have one name, and gaps name columns."""
    names = [probe.name for probe in PROBES]
    assert len(set(names)) == len(names)
    assert {column for probe in PROBES for column in probe.gaps} <= set(COLUMNS)
    assert not [probe.name for probe in PROBES if SHELLS.keys() & probe.gaps.keys() and not probe.is_live]
