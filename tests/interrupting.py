"""What a signal handler that raises does at every moment at which Python runs one, in turn and without a clock.

Python looks for signals at the entry of a function, after a call and at a jump backwards, and at no other instruction.
"""

import dis
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any


class Interrupted(Exception):
    """What the handler raises."""


class _Raising:
    """A trace function that raises at one moment in the functions of some file.

    Attributes:
        file: The end of the name of the file.
        moment: At which moment it raises.
        passed: How many moments there were.
    """

    def __init__(self, file: str, moment: int) -> None:
        self.file, self.moment, self.passed = file, moment, 0
        # The offset of the instruction before, in each frame.
        self.before: dict[FrameType, int] = {}

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.endswith(self.file):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if _is_moment(frame.f_code, self.before.get(frame, frame.f_lasti), frame.f_lasti):
                self.passed += 1
                if self.passed == self.moment:
                    raise Interrupted
            self.before[frame] = frame.f_lasti
        return self


def _is_moment(code: CodeType, before: int, now: int) -> bool:
    if dis.opname[code.co_code[now]] == "RESUME":
        return True
    if not dis.opname[code.co_code[before]].startswith(("CALL", "JUMP_BACKWARD")):
        return False
    # Python raises in the call, and a trace function before the next instruction: not the same at the end of a `try`.
    return _handler_at(code, before) == _handler_at(code, now)


def _handler_at(code: CodeType, offset: int) -> int | None:
    """Where an exception at an offset is handled."""
    bytecode: Any = dis.Bytecode(code)  # the table is not in typeshed
    entries = bytecode.exception_entries
    return next((entry.target for entry in entries if entry.start <= offset < entry.end), None)


def interrupt_everywhere(file: str, call: Callable[[], object], check: Callable[[], None]) -> int:
    """Make a call again and again, interrupted at each moment in turn, and check what is left of it each time.

    Args:
        file: The end of the name of the file in whose functions it is interrupted.
        call: What is called.
        check: Asked after each call, once its exception is gone.

    Returns:
        How many moments there are.
    """
    moment = 0
    while True:
        moment += 1
        raising = _Raising(file, moment)
        before = sys.gettrace()
        sys.settrace(raising)
        try:
            call()
        except Interrupted:
            pass
        finally:
            sys.settrace(before)
        check()
        if raising.passed < moment:
            return raising.passed
