"""What stands beside a path while it is replaced, and how it comes back after a process was killed."""

import contextlib
import os
import shutil
from typing import Final

NEW: Final = ".graphnode-new"
"""At the end of the path: what is about to take its place."""
OLD: Final = ".graphnode-old"
"""What was there before; it is read as long as nothing is at the path."""


def put_back(path: str) -> None:
    """Give a path back what was put aside, where nothing has taken its place; else delete that."""
    with contextlib.suppress(OSError):
        if os.path.isdir(path + OLD):
            if os.path.lexists(path):
                shutil.rmtree(path + OLD)
            else:
                os.rename(path + OLD, path)
