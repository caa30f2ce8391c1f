"""Count how often JAX calls back into Python while it flattens a pytree."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import jax

_JAX = str(Path(jax.__file__).parent)


def count_callbacks(tree: Any) -> int:
    """The number of Python functions outside of JAX that `jax.tree.flatten(tree)` calls.

    What such a function calls in turn is not counted.
    """
    count = 0

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        if event == "call" and not _is_in_jax(frame) and frame.f_back and _is_in_jax(frame.f_back):
            count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        jax.tree.flatten(tree)
    finally:
        sys.setprofile(before)
    return count


def _is_in_jax(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_JAX)
