"""What devices tell each other in a compiled program: its collectives, by kind."""

import re
from collections import Counter
from typing import Final

KINDS: Final = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
# A definition, `%name = shape all-reduce(...)`; an asynchronous one is counted where it starts.
_DEFINITION: Final = re.compile(rf"= .*? ({'|'.join(KINDS)})(?:-start)?\(")


def collectives_in(text: str) -> dict[str, int]:
    """How many collectives of each kind are in the text of a compiled program, of the kinds that there are."""
    return dict(sorted(Counter(_DEFINITION.findall(text)).items()))
