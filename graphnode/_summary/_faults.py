"""Find every node of a model whose call does not fit its inputs.

The call is traced once more. Where a node fails, what it would have given is put in the
place of its result, so that the nodes after it are looked at, too; where that is not
known, the search ends, and the last fault says so.
"""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from .._calls import NodeCall, Proceed
from .._errors import Fault, Place
from .._paths import Path
from ._declared import declared_output, output_by_trial
from ._errors import SHAPE_ERRORS, VALUE_ERRORS, error_text
from ._trace import Invocation, Recorder, traced

# Gives the place of a node in a file, by its path.
PlaceOf: TypeAlias = Callable[[Path], Place]

_STOPPED = "what is called after it was not checked"


def faults_of(
    invocation: Invocation, with_numbers: Invocation, place_of: PlaceOf | None
) -> list[Fault]:
    """What does not fit in the call of a method.

    Args:
        invocation: The call.
        with_numbers: The same with numbers in place of symbolic sizes.
        place_of: Says where faults are in a file.
    """
    finder = _search(invocation)
    symbols = invocation.inputs.symbols
    of_symbols: set[Path] = set()
    if symbols:
        # What fails with numbers, too, is no fault of the symbols.
        of_symbols = finder.faults.keys() - _search(with_numbers).faults.keys()
    faults: list[Fault] = []
    for path, errors in finder.faults.items():
        hints = [_symbols_hint(symbols)] if path in of_symbols else []
        if finder.is_stopped and path == finder.last:
            hints.append(_STOPPED)
        place = Place() if place_of is None else place_of(path)
        name = finder.name_of(path)
        for text in errors:
            hint = "; ".join([*_number_hints(text, symbols), *hints])
            faults.append(Fault(text, path=name, hint=hint, place=place))
    return faults


def _search(invocation: Invocation) -> "_FaultFinder":
    """A finder that has seen a call."""
    finder = _FaultFinder(type(invocation.node).__name__)
    try:
        traced(invocation, finder)
    except (_StoppedError, *SHAPE_ERRORS):
        finder.is_stopped = True
    return finder


class _StoppedError(Exception):
    """It is not known what a failed call would have given, so that nothing after it can be looked at."""


class _FaultFinder(Recorder):
    """Notes each node whose call fails, and goes on with what it would have given.

    Attributes:
        faults: What was raised by the node at a path, each text once.
        last: The path of the last of them.
        is_stopped: Whether the search ended there.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.faults: dict[Path, dict[str, None]] = {}
        self.last: Path | None = None
        self.is_stopped = False
        self._count = 0
        self._is_trying = False

    def run(
        self,
        call: NodeCall,
        proceed: Proceed,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call, or give what it would have given."""
        if self._is_trying:
            return proceed(*args, **kwargs)
        before = self._count
        try:
            return proceed(*args, **kwargs)
        # No fault of shapes, and nothing to go on with.
        except VALUE_ERRORS as error:
            raise _StoppedError from error
        except SHAPE_ERRORS as error:
            # What a node does with the result of one that has failed may be a
            # consequence, and no fault of its own.
            if self._count == before:
                self._note(call.path, error)
            output = self._try(call, proceed, args, kwargs)
            if output is None:
                output = declared_output(call.node, call.method, args, kwargs)
            if output is None:
                raise _StoppedError from error
            return output

    def _note(self, path: Path, error: Exception) -> None:
        """Note that the node at a path has failed."""
        self.faults.setdefault(path, {})[error_text(error)] = None
        self.last = path
        self._count += 1

    def _try(
        self,
        call: NodeCall,
        proceed: Proceed,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """What the method gives for inputs that fit; what fails meanwhile is no fault."""
        self._is_trying = True
        try:
            return output_by_trial(call.node, proceed, args, kwargs)
        finally:
            self._is_trying = False


def _symbols_hint(symbols: tuple[str, ...]) -> str:
    """What to do where a node cannot do with a symbolic size."""
    names = ", ".join(symbols)
    pronoun = "its value" if len(symbols) == 1 else "the value of one"
    return f"{names} can be any size here, and the node needs {pronoun}: give a number"


def _number_hints(text: str, symbols: tuple[str, ...]) -> list[str]:
    """What to do where a fault is that a size of the same name as a symbolic one is known: `expected width = 8`."""
    known = [name for name in symbols if re.search(rf"\b{name} = \d+\b", text)]
    return [
        f"{name} can be any size here: give its number in the input" for name in known
    ]
