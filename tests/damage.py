"""Damage JSON at random, for readers of files from strangers."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any


def damage(rng: random.Random, data: Any, junk: Sequence[Any], similar: Callable[[Any], Any] | None = None) -> None:
    """Change one thing somewhere in JSON, in place.

    Args:
        rng: What draws.
        data: The JSON.
        junk: What may come in the place of something.
        similar: Gives something that is nearly right for what was there, and comes as often as junk.
    """
    while True:
        items = list(data.items() if isinstance(data, dict) else enumerate(data))
        if not items:
            return
        key, item = rng.choice(items)
        if isinstance(item, (list, dict)) and item and rng.random() < 0.9:
            data = item
            continue
        kind = rng.randrange(4 if similar is None else 5)
        if kind == 0:
            del data[key]
        elif kind == 1 and isinstance(data, list):
            data.insert(rng.randrange(len(data) + 1), copy.deepcopy(rng.choice(data)))
        elif kind == 2 and isinstance(data, list):
            rng.shuffle(data)
        elif kind == 3 and similar is not None:
            data[key] = similar(item)
        else:
            # A copy: the next damage may change it.
            data[key] = copy.deepcopy(rng.choice(junk))
        return
