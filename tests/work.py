"""Count work: how many Python functions run, which does not depend on how fast or how busy the machine is."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import graphnode

PACKAGE = str(Path(graphnode.__file__).parent)


def calls_of(run: Callable[[], object], *, inside: str = "") -> int:
    """How many Python functions are called, and calls of C functions made from Python, while `run` runs.

    Args:
        run: What is run.
        inside: Only functions of files below this directory are counted, and C functions called from them.
    """
    count = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(inside):
            count += 1

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # a collection runs the callbacks of what others left behind
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count
