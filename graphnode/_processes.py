"""Several processes, under `jax.distributed`: they raise together, and find what is not the same in all.

    process 0    a fault    ─┐                     raise it
                             ├─ told to each other
    process 1    none       ─┘                     raise that process 0 has one

A process that went on alone would wait for the others in the middle of a computation or of
a store, until it gives up. They talk by the texts that `jax.distributed` keeps, rather than
by arrays: threads may do that, whatever the devices do. A group of one process passes
through all of it.
"""

import contextlib
import itertools
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import jax

from ._compat import coordinator
from ._errors import Fault
from ._hints import cut

T = TypeVar("T")

_TIMEOUT_MS: Final = 600_000
# Texts that are equal for so many characters are shown from a bit before the difference.
_LONG: Final = 40
# All processes of a group take the same steps in the same order, so that the numbers are
# the same in each; not all processes are in each group.
_STEPS: Final[defaultdict[tuple[int, ...], Iterator[int]]] = defaultdict(
    itertools.count
)

# Makes the error that a group raises, of its faults.
RaiseAs: TypeAlias = Callable[[list[Fault]], Exception]


class Difference(NamedTuple):
    """What is not the same in all processes.

    Attributes:
        path: Where.
        processes: By the text of what is there, which processes have it; `None` for nothing.
    """

    path: str
    processes: Mapping[str | None, Sequence[int]]

    def __str__(self) -> str:
        texts = [text for text in self.processes if text is not None]
        start = _start_of_difference(texts)
        parts: list[str] = []
        for text, processes in self.processes.items():
            shown = "nothing there" if text is None else _excerpt(text, start)
            parts.append(f"{_names(processes)} {shown}")
        return "; ".join(parts)


def _start_of_difference(texts: Sequence[str]) -> int:
    """For excerpts of texts: where they begin to differ, if that would not be shown otherwise, else their start."""
    columns = enumerate(zip(*texts, strict=False))
    shortest = min(map(len, texts))
    common = next((at for at, column in columns if len(set(column)) > 1), shortest)
    return 0 if common < _LONG else common - _LONG // 2


def _excerpt(text: str, start: int) -> str:
    """What is shown of a text."""
    part = cut(text[start:])
    return f"...{part}" if start else part


def _names(processes: Sequence[int]) -> str:
    """For a message: some processes, and the verb."""
    if len(processes) == 1:
        return f"{process_name(processes[0])} has"
    return f"processes {', '.join(map(str, processes))} have"


def process_name(number: int) -> str:
    """The name of a process in messages."""
    return f"process {number}"


class Group:
    """Processes that do something together.

    Args:
        members: Their numbers; `None` for all. This process is one of them.
        error: Makes the error that they raise.
        absent: For the fault of a process that does not come: what it does not do.
    """

    def __init__(
        self, members: Iterable[int] | None, error: RaiseAs, absent: str
    ) -> None:
        everyone = range(jax.process_count())
        self.members: tuple[int, ...] = tuple(
            sorted(everyone if members is None else members)
        )
        self._error = error
        self._absent = absent

    @property
    def is_several(self) -> bool:
        """Whether there are other processes to agree with."""
        return len(self.members) > 1 and coordinator() is not None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that does what one of them does for all."""
        return not self.is_several or jax.process_index() == self.members[0]

    # Any: JSON.
    def exchange(self, message: Any) -> list[Any]:
        """What each process says at this step, in their order.

        Raises:
            The error of the group: A process does not come to this step.
        """
        step, client, own = (
            next(_STEPS[self.members]),
            coordinator(),
            jax.process_index(),
        )
        client.key_value_set(self._key(step, own), json.dumps(message))
        messages: list[Any] = []
        for process in self.members:
            try:
                text = client.blocking_key_value_get(
                    self._key(step, process), _TIMEOUT_MS
                )
            except jax.errors.JaxRuntimeError as error:
                fault = Fault(self._absent, path=process_name(process))
                raise self._error([fault]) from error
            messages.append(json.loads(text))
        # Who has come to this step has read what was said at the one before.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            client.key_value_delete(self._key(step - 1, own))
        return messages

    def _key(self, step: int, process: int) -> str:
        """For `exchange`: where a process puts what it says."""
        members = "-".join(map(str, self.members))
        return f"graphnode/{zlib.crc32(members.encode()):x}/{step}/{process}"

    @contextlib.contextmanager
    def together(self) -> Generator[None]:
        """A block that all processes run: if it raises in one, it raises in all.

        Raises:
            The error of the group: The block has raised in another process; names its faults.
        """
        if not self.is_several:
            yield
            return
        raised: Exception | None = None
        try:
            yield
        except Exception as error:
            raised = error
        self._raise_if_any(raised, self.exchange(_texts_of(raised)))

    def _raise_if_any(
        self, own: Exception | None, messages: Sequence[list[str]]
    ) -> None:
        """Raise the error of this process, or the faults of others by their numbers."""
        if own is not None:
            raise own
        faults = [
            Fault(text, path=process_name(process))
            for process, texts in zip(self.members, messages, strict=True)
            for text in texts
        ]
        if faults:
            raise self._error(faults)

    def by_first(self, work: Callable[[], T]) -> T:
        """What the first process gets when it does something, which no other one does; JSON.

        Raises:
            The error of the group: The first process has failed.
        """
        if not self.is_several:
            return work()
        raised: Exception | None = None
        result: Any = None
        if self.is_first:
            try:
                result = work()
            except Exception as error:
                raised = error
        messages = self.exchange([_texts_of(raised), result])
        self._raise_if_any(raised, [texts for texts, _ in messages])
        returned: T = messages[0][1]
        return returned

    def in_any(self, flag: bool) -> bool:
        """Whether something holds in one of the processes at least.

        Raises:
            The error of the group: A process does not come to this step.
        """
        return any(self.exchange(flag)) if self.is_several else flag

    def differences(
        self, describe: Callable[[], Iterable[tuple[str, str]]]
    ) -> list[Difference]:
        """What is not the same in all processes, by path.

        Args:
            describe: Gives paths, each once, with the text of what is there. Not called
                where there is one process.

        Raises:
            The error of the group: `describe` has raised in another process; or one does
                not come to this step.
        """
        if not self.is_several:
            return []
        with self.together():
            texts = dict(describe())
        # Numbers first, as there may be many texts, and they are nearly always the same.
        checksums = {path: zlib.crc32(text.encode()) for path, text in texts.items()}
        total = zlib.crc32(json.dumps(checksums, sort_keys=True).encode())
        if len(set(self.exchange(total))) == 1:
            return []
        all_checksums = self.exchange(checksums)
        paths = dict.fromkeys(path for each in all_checksums for path in each)
        different = [
            path
            for path in paths
            if len({each.get(path) for each in all_checksums}) > 1
        ]
        said = self.exchange({path: texts.get(path) for path in different})
        return [
            self._difference(path, [each[path] for each in said]) for path in different
        ]

    def _difference(self, path: str, texts: Sequence[str | None]) -> Difference:
        """What processes have at a path, by the texts of each of them."""
        processes: dict[str | None, list[int]] = {}
        for process, text in zip(self.members, texts, strict=True):
            processes.setdefault(text, []).append(process)
        return Difference(path, processes)


def _texts_of(error: Exception | None) -> list[str]:
    """The faults of an error, for other processes; none without an error."""
    if error is None:
        return []
    faults: Iterable[object] = getattr(error, "faults", ())
    return [str(fault) for fault in faults] or [f"{type(error).__name__}: {error}"]
