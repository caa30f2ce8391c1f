"""How far a long read or write is: told to a function of the program's, or shown by a bar of tqdm.

The store tells nothing while it works. A read is made of portions, and counted after each;
a write is one call, of which the time that it takes is all that is known.
"""

import importlib
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TypeAlias

import jax

Progress: TypeAlias = "Callable[[int, int], None] | bool | None"
"""Who is told: a function, a bar, or nobody; `None` for a bar that a person may be waiting for."""

# In seconds. What is done sooner shows no bar, unless one was asked for.
_DELAY: Final = 2.0
_BETWEEN: Final = 0.2


class Meter:
    """What is told of one read or write; its end without an error is the end of the work.

    Args:
        progress: Who is told.
        title: What the bar says, such as `read runs/100`.
        is_counted: Whether there is something to tell between the beginning and the end.

    Raises:
        ModuleNotFoundError: A bar was asked for, and tqdm is not installed.
    """

    def __init__(self, progress: Progress, title: str, *, is_counted: bool) -> None:
        self._tell = progress if callable(progress) else None
        self._is_asked_for = progress is True
        self._may_show = progress is True or progress is None
        self._title, self._is_counted = title, is_counted
        self._done = self._total = 0
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        if self._is_asked_for and _imported_tqdm() is None:
            text = (
                "progress=True needs tqdm, which is not installed: pip install tqdm; "
                "or give a function"
            )
            raise ModuleNotFoundError(text, name="tqdm")

    def start(self, total: int) -> None:
        """The work begins.

        Args:
            total: The bytes that it has in all.
        """
        self._total = total
        if self._tell is not None:
            self._tell(0, total)
        elif self._may_show and (self._is_asked_for or _is_watched()):
            # A thread, which waits first: tqdm is not even imported for short work.
            self._thread = threading.Thread(target=self._show, daemon=True)
            self._thread.start()

    def add(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        if self._tell is not None:
            self._tell(self._done, self._total)

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._done < self._total:
            self.add(self._total - self._done)
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _show(self) -> None:
        """Show a bar until the work is over; none if it is soon."""
        if not self._is_asked_for and self._is_over.wait(_DELAY):
            return
        tqdm = _imported_tqdm()
        if tqdm is None:
            return
        bar_format = (
            None if self._is_counted else "{desc}: {total_fmt}{unit}, {elapsed}"
        )
        with tqdm(
            desc=self._title,
            total=self._total,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            bar_format=bar_format,
        ) as bar:
            while not self._is_over.wait(_BETWEEN):
                bar.n = self._done
                bar.refresh()
            bar.n = self._done


def _is_watched() -> bool:
    """Whether a person may see a bar: at a terminal, and of several processes only the first one's."""
    # Without a console, as in a service, there is no stderr.
    has_terminal = sys.stderr is not None and sys.stderr.isatty()
    return has_terminal and jax.process_index() == 0


# Any: a module that type checkers may not find.
def _imported_tqdm() -> Any:
    """The class `tqdm`, or `None` where it is not installed."""
    try:
        return importlib.import_module("tqdm").tqdm
    except ModuleNotFoundError:
        return None
