"""An optax state as a row of parts, one for each State of the memory: taken apart, put together, nested.

What `tx.init` and `tx.update` give is a pytree that holds state trees where optax follows
the parameters:

    optax state of adam                 parts                        memory
    -----------------------------------------------------------------------------------
    (ScaleByAdamState(
        count=Array,                    ("memory", 0, "count")       [{"count": State,
        mu=StateTree(weight, bias),     ("memory", 0, "mu", ...)       "mu": {"weight": State,
        nu=StateTree(...)), ...)        ...                                   "bias": State}}]

Putting it together needs a form, which is worked out from the transformation and the
shapes of the parameters: a treedef of optax's own classes, kept on a node, could not be
pickled.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jax.tree_util import FlattenedIndexKey, SequenceKey, keystr

from .._paths import Key, Path
from .._state import State
from .._statetree import StateTree

# What an integer may be as a place in a list that is filled up with `None`: no such
# list becomes long.
_POSITIONS = range(1000)


@runtime_checkable
class Transformation(Protocol):
    """What optax's transformations have; so has `optax.MultiSteps`, which is not a `GradientTransformation`."""

    # Any: optax's own types know no parameters but containers of arrays, and no further
    # arguments.
    @property
    def init(self) -> Callable[..., Any]:
        """From the parameters to the state."""
        ...

    # Any: the same.
    @property
    def update(self) -> Callable[..., tuple[Any, Any]]:
        """From the gradients, the state and the parameters to the updates and the next state."""
        ...


class Part(NamedTuple):
    """A part of an optax state that has a State of its own in the memory.

    Attributes:
        path: The path of that State, from the optimizer.
        value: What it holds.
        mirrors: The path of the model's State that it belongs to, if it belongs to one.
    """

    path: Path
    value: Any
    mirrors: Path | None


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """An optax state without values: shapes and dtypes stand in their place.

    Attributes:
        tree: The optax state.
        parts: Its parts, in its order.
    """

    tree: Any
    parts: tuple[Part, ...]

    def join(self, values: Iterable[Any]) -> Any:
        """The optax state with these values for its parts: what the transformation takes at a step."""
        following = iter(values)

        def put(leaf: Any) -> Any:
            """The next value in place of a leaf, or a state tree with the next ones in place of what has arrays."""
            if not isinstance(leaf, StateTree):
                return next(following)
            new = [next(following) if _has_arrays(old) else old for old in leaf._values]
            return StateTree(leaf.layout, tuple(new))

        return jax.tree.map(put, self.tree, is_leaf=_is_tree)


def _is_tree(value: object) -> bool:
    """For `is_leaf`: a state tree is left whole, since its States have paths of the model."""
    return isinstance(value, StateTree)


def _has_arrays(value: object) -> bool:
    """Whether a value of a state tree is to be remembered: where a parameter is masked, it has no leaves."""
    return bool(jax.tree.leaves(value))


def form_of(tx: Transformation, params: StateTree) -> Form:
    """The form of the state of a transformation, by which a step knows which parts the memory must have.

    It costs a trace once: JAX keeps what it traced, weakly, for each function and its
    shapes.
    """
    init = tx.init
    if inspect.ismethod(init):
        # Of a method there is a new object each time, for which JAX would trace anew.
        method = init
        init = params.layout.remember(("init", method), lambda: method)
    # Shapes are enough, and no memory is used for them.
    tree = jax.eval_shape(init, params)
    return Form(tree, tuple(take_apart(tree)))


def take_apart(memory: Any) -> list[Part]:
    """The parts of an optax state, of which each gets a State: the values of its state trees, and its other leaves."""
    parts: list[Part] = []
    for key_path, leaf in jax.tree.leaves_with_path(memory, is_leaf=_is_tree):
        place: Path = ("memory", *map(_key_of_entry, key_path))
        if isinstance(leaf, StateTree):
            paths = list(leaf.layout.paths())
            rows = zip(paths, _below(paths), leaf._values, strict=True)
            parts += [
                Part((*place, *below), value, path)
                for path, below, value in rows
                if _has_arrays(value)
            ]
        else:
            parts.append(Part(place, leaf, None))
    return parts


def _below(paths: list[Path]) -> list[Path]:
    """The paths of parameters as paths in the memory: integer keys of a dict of models may be no positions in a list.

    Only the first keys can be such: dicts in nodes have texts for keys. As long as they
    could all be positions, they are taken for them. Otherwise they become texts.
    """
    roots = {path[0] for path in paths if isinstance(path[0], int)}
    if roots.issubset(_POSITIONS):
        return paths
    return [(str(path[0]), *path[1:]) for path in paths]


def _key_of_entry(entry: Any) -> Key:
    """An entry of a key path of JAX as a key of the memory's path: the position, or the name as text."""
    match entry:
        case SequenceKey(idx=int(key)) | FlattenedIndexKey(key=int(key)):
            return key
        case _:
            return keystr((entry,), simple=True)


def unshared(memory: Any, params: StateTree) -> Any:
    """The optax state with a copy of each array that is a parameter too, or stands in it twice.

    A transformation may start from the parameters themselves, and two States that hold
    one array cannot both be donated to a compiled function.
    """
    seen = {id(leaf) for leaf in jax.tree.leaves(params)}

    def own(leaf: Any) -> Any:
        """An array, or a copy of it if it was seen before."""
        if isinstance(leaf, jax.Array) and id(leaf) in seen:
            return leaf.copy()
        seen.add(id(leaf))
        return leaf

    return jax.tree.map(own, memory)


def nested(states: Mapping[Path, State[Any]], field: str) -> Any:
    """The value of a field such as `memory`: States in lists and dicts along their paths; `None` if there are none.

    Args:
        states: By their paths, which begin with the name of the field.
        field: That name.
    """
    top: dict[Key, Any] = {}
    # Each level by what holds it, from the top down
    levels: list[tuple[dict[Key, Any], Key]] = []
    for path, state in states.items():
        level = top
        for key in path[:-1]:
            if key not in level:
                level[key] = {}
                levels.append((level, key))
            level = level[key]
        level[path[-1]] = state
    for holder, key in reversed(levels):
        holder[key] = _level(holder[key])
    return top.get(field)


def _level(items: dict[Key, Any]) -> list[Any] | dict[Key, Any]:
    """For `nested`: a list where the keys are positions, with `None` at those that hold nothing; else the dict."""
    positions = [key for key in items if isinstance(key, int)]
    if not positions:
        return items
    # Filled up to the largest one; `_below` has seen to it that none is large.
    return [items.get(at) for at in range(max(positions) + 1)]
