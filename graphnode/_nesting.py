"""The lists, tuples and dicts that fields hold: how to iterate over one, and how to build another like it.

A field holds nested containers around nodes, States, configs or `None`. A path leads to
each leaf:

    {"b": [s, t], "a": (u,)}    items:  ("a", (u,))  ("b", [s, t])
                                leaves: ("a", 0) u   ("b", 0) s   ("b", 1) t

Canonical order is by position and, in dicts, by key. A dict still keeps its own order:
a model may apply its layers in that. Nothing here knows what the leaves are; what a
field accepts is for `Form.items`. The value inside a State is any pytree, and JAX takes
it apart.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import TypeIs

from ._paths import Key, Path, key_order

# Any: what a container holds depends on its field.
Container: TypeAlias = list[Any] | tuple[Any, ...] | dict[Any, Any]

# `list`, `tuple` or `dict` itself.
if TYPE_CHECKING:
    ContainerKind: TypeAlias = (
        type[list[Any]] | type[tuple[Any, ...]] | type[dict[Any, Any]]
    )
else:
    ContainerKind = type  # beartype takes no parameters there


def is_container(value: object) -> TypeIs[Container]:
    """Whether a value of a field is a list, tuple or dict, of whatever subclass, in which more is to be found."""
    return isinstance(value, (list, tuple, dict))


def kind_of(value: Container) -> ContainerKind:
    """Which of `list`, `tuple` and `dict` a container is; a tracked or named one too.

    Forms and static keys tell these three apart, and none of their subclasses.
    """
    if isinstance(value, list):
        return list
    return dict if isinstance(value, dict) else tuple


def items(value: Container, *, as_written: bool = False) -> list[tuple[Key, Any]]:
    """The key and the child of each item, in canonical order: how a dict was filled changes no structure.

    Args:
        value: A container.
        as_written: Whether the items of a dict keep its own order; their keys may then
            be of any type.
    """
    if not isinstance(value, dict):
        return list(enumerate(value))
    pairs = list(value.items())  # read once: another thread may be changing it
    if not as_written:
        pairs.sort(key=lambda pair: key_order(pair[0]))
    return pairs


def children(value: Container, *, as_written: bool = False) -> Sequence[Any]:
    """The children alone, in the order of `items`."""
    if not isinstance(value, dict):
        return value
    return list(value.values()) if as_written else [child for _, child in items(value)]


def assembled(kind: ContainerKind, pairs: Iterable[tuple[Key, Any]]) -> Container:
    """For configs and what is built of them: a container of a kind from its items, in the order that they come."""
    return dict(pairs) if kind is dict else kind([child for _, child in pairs])


def rebuilt(value: Container, pairs: Iterable[tuple[Key, Any]]) -> Container:
    """For `mapped`: a container like `value` with other children, given with their keys as `items` gives them.

    A named tuple keeps its class, and a dict its order. A tracked list or dict becomes a
    plain one, which does not belong to a node yet: a field that takes it makes a
    tracked copy.
    """
    if isinstance(value, dict):
        by_key = dict(pairs)
        return {key: by_key[key] for key in value}
    replacements = [child for _, child in pairs]
    if isinstance(value, list):
        return replacements
    # `_make` is that of named tuples, whose constructor takes the items one by one.
    make: Callable[[Sequence[Any]], Container] = getattr(type(value), "_make", tuple)
    return make(replacements)


def leaves(value: object, *, as_written: bool = False) -> Iterator[tuple[Path, Any]]:
    """The path and the value of each leaf, in canonical order; a value that is not a container is a leaf at `()`.

    For walks over the States and nodes that a field holds.

    Args:
        value: What a field holds.
        as_written: Whether the items of dicts keep their own order.
    """
    if not is_container(value):
        yield (), value
        return
    # The containers around the next leaf, each with its remaining items.
    open_containers: list[tuple[Path, Iterator[tuple[Key, Any]]]] = [
        ((), iter(items(value, as_written=as_written)))
    ]
    while open_containers:
        path, rest = open_containers[-1]
        for key, child in rest:
            if is_container(child):
                open_containers.append(
                    ((*path, key), iter(items(child, as_written=as_written)))
                )
                break
            yield (*path, key), child
        else:
            open_containers.pop()


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """The value with `function` of each leaf in place of the leaf.

    For plain copies of what a field holds, and for its config. A tuple in which nothing
    changes stays the same object. Lists and dicts are always new: a later change of the
    result must not change `value`.
    """
    if not is_container(value):
        return function(value)
    # By recursion, which is bounded: a field accepts at most 32 levels, or as many as
    # its annotation has. Leaves are called here: one more call for each of them would
    # double the time of a copy.
    pairs = [
        (key, mapped(function, child) if is_container(child) else function(child))
        for key, child in items(value, as_written=True)
    ]
    if isinstance(value, tuple) and all(
        new is old for (_, new), old in zip(pairs, value, strict=True)
    ):
        return value
    return rebuilt(value, pairs)
