"""Parts of an object for libraries that show by the class of what they meet: rich and treescope."""

import functools
from typing import Any


class Plain:
    """A text that is shown as it is, without quotes."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


# Any: the class is made here.
@functools.cache
def class_of(base: type, name: str) -> Any:
    """A class that is called `name`, for a part that has no object of its own, such as those of a graphdef."""
    return type(name, (base,), {"__slots__": (), "__module__": __package__})
