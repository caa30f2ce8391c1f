"""Say in JAX's own errors what the user calls the inputs of what is compiled.

JAX names its inputs by the parameters of the function that it compiles:

    argument values[0] of step has device ids [0], and argument captured[1] has [3]
    note: To JAX, values[0] is net.weight, captured[1] is scale.w

and names none whose layout is another than `in_shardings` says.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import jax
from jax.sharding import NamedSharding, PartitionSpec

from .._compat import Tracer
from ._boundary import Call
from ._shardings import Shardings

# As JAX speaks of them; an error of the user's is not likely to.
_INPUT: Final = re.compile(
    r"(?:[Aa]rgument|path) '?((?:donated\[[01]\]|values|captured|other_leaves)\[\d+\])"
)
_NOTE: Final = "To JAX, "
_OTHER_LAYOUT: Final = "does not match the sharding on the respective arg"


def note_input_names(error: ValueError, names: Mapping[str, str]) -> None:
    """Add a note to an error of JAX that names inputs.

    Args:
        error: The error.
        names: What the user calls each input, by JAX's names.
    """
    # That of a call inside of this one has its own.
    if any(note.startswith(_NOTE) for note in getattr(error, "__notes__", ())):
        return
    found = dict.fromkeys(_INPUT.findall(str(error)))
    texts = [f"{name} is {names[name]}" for name in found if name in names]
    if texts:
        error.add_note(f"{_NOTE}{', '.join(texts)}.")


def note_other_layouts(
    error: ValueError, call: Call, said: Shardings, numbers: Sequence[int]
) -> None:
    """Add a note to the error of JAX for arguments of another layout than `in_shardings` says: which these are.

    Args:
        error: The error.
        call: The call that it comes from.
        said: The shardings of its arguments.
        numbers: Of the States that are inputs.
    """
    if _OTHER_LAYOUT not in str(error):
        return
    spread, site = said.of_call(call), call.site
    states = list(
        zip(site.state_names(), call.binding.peek(), spread.values, strict=True)
    )
    leaves = zip(
        site.other_leaf_names(), call.other_leaves, spread.other_leaves, strict=True
    )
    faults = [
        f"{name} is laid out as {leaf.sharding}, and in_shardings says {sharding}."
        for name, value, shardings in [*[states[n] for n in numbers], *leaves]
        for leaf, sharding in _pairs(value, shardings)
        if not sharding.is_equivalent_to(leaf.sharding, leaf.ndim)
    ]
    if faults:
        error.add_note("\n".join(faults))


def _pairs(value: Any, shardings: Any) -> Iterator[tuple[jax.Array, Any]]:
    """The arrays of a value that are laid out for good, each with the sharding that is said of it."""
    leaves, said = jax.tree.leaves(value), jax.tree.leaves(shardings)
    # One for all arrays of the value
    if len(said) == 1:
        said *= len(leaves)
    for leaf, sharding in zip(leaves, said, strict=False):
        # The others JAX moves.
        if isinstance(leaf, Tracer) or not getattr(leaf, "committed", False):
            continue
        if not isinstance(sharding, PartitionSpec):
            yield leaf, sharding
        elif isinstance(leaf.sharding, NamedSharding):
            yield leaf, NamedSharding(leaf.sharding.mesh, sharding)
