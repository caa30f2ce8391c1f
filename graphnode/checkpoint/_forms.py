"""How a value nests: the containers of a pytree as JSON, apart from its leaves.

    {"mu": array, "nu": (array, None)}     form     {"dict": [["mu", "leaf"], ["nu", {"tuple": ["leaf", null]}]]}
                                           leaves   mu, nu.0

Lists, tuples and dicts are made again from a file alone. Of other registered pytrees the
file has the name of the class and the items, which a live value of that class takes.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from jax.tree_util import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    SequenceKey,
    tree_flatten_with_path,
)

from .._compat import PLAIN
from .._paths import Key, Path, key_order
from ._leaf import UnsavableError

# JSON: "leaf", `None`, or an object with one of the keys list, tuple, dict and pytree.
Form: TypeAlias = Any
LEAF: Final = "leaf"

_MAX_LEVELS: Final = 64


class Taken(NamedTuple):
    """A value taken apart.

    Attributes:
        form: How it nests.
        keys: The path of each leaf within the value.
        leaves: The leaves, in that order.
    """

    form: Form
    keys: list[Path]
    leaves: list[Any]


def take_form(value: Any) -> Taken:
    """A value taken apart; `put_together` is the inverse.

    Raises:
        UnsavableError: It is nested too deeply.
    """
    taken = Taken(None, [], [])
    return taken._replace(form=_take(value, (), taken))


def _take(value: Any, path: Path, taken: Taken) -> Form:
    """For `take_form`, which collects the leaves: the form of a part of the value, by recursion."""
    if len(path) > _MAX_LEVELS:
        raise UnsavableError(f"it is nested more than {_MAX_LEVELS} levels deep")
    if value is None:
        return None
    if type(value) in PLAIN:
        return _take_leaf(value, path, taken)
    if type(value) in (list, tuple):
        items = [_take(item, (*path, at), taken) for at, item in enumerate(value)]
        return {type(value).__name__: items}
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        # As JAX does: the order in which a dict was filled is not part of a value.
        keys = _keys_in_order(value)
        return {"dict": [[key, _take(value[key], (*path, key), taken)] for key in keys]}
    pairs, treedef = _level_of(value)
    if treedef.num_nodes == 1 and treedef.num_leaves == 1:
        return _take_leaf(value, path, taken)
    content = [[key, _take(item, (*path, key), taken)] for key, item in pairs]
    return {"pytree": [type(value).__name__, content]}


# Any: of a dict whose keys were looked at.
def _keys_in_order(value: dict[Any, Any]) -> list[Key]:
    """For `_take`: the keys of a dict, as paths order them."""
    return sorted(value, key=key_order)


def _take_leaf(value: Any, path: Path, taken: Taken) -> Form:
    """For `_take`: note a leaf, and give its form."""
    taken.keys.append(path)
    taken.leaves.append(value)
    return LEAF


# Any: the treedef of JAX, whose stubs do not name it alike in all versions.
def _level_of(value: Any) -> tuple[list[tuple[Key, Any]], Any]:
    """The items of a registered pytree, one level deep, with keys that are all different; and its treedef."""
    pairs, treedef = tree_flatten_with_path(
        value, is_leaf=lambda item: item is not value
    )
    keys = [_key_of(entries[0]) if entries else 0 for entries, _ in pairs]
    if len(set(map(key_order, keys))) < len(keys):
        keys = list(range(len(keys)))
    return list(zip(keys, [item for _, item in pairs], strict=True)), treedef


def _key_of(entry: Any) -> Key:
    """For `_level_of`: a key of a key path of JAX as a key of our paths; another one by its text."""
    match entry:
        case SequenceKey(idx=int(key)) | FlattenedIndexKey(key=int(key)):
            return key
        case DictKey(key=str(key)) | GetAttrKey(name=str(key)):
            return key
        case _:
            return str(entry)


def put_together(form: Form, leaves: Sequence[Any], like: Any = None) -> Any:
    """The value of a form and its leaves.

    Args:
        form: As `take_form` or `read_form` gives it.
        leaves: As many as the form has.
        like: A value of the same form; only needed where the form has other pytrees
            than lists, tuples and dicts.
    """
    return _put(form, iter(leaves), like)


def _put(form: Form, leaves: Iterator[Any], like: Any) -> Any:
    """For `put_together`: a part of the value, by recursion, which takes its leaves."""
    if form is None:
        return None
    if form == LEAF:
        return next(leaves)
    ((kind, content),) = form.items()
    if kind == "dict":
        return {key: _put(item, leaves, _part(like, key)) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_put(item, leaves, _part(like, at)) for at, item in enumerate(content)]
        return items if kind == "list" else tuple(items)
    pairs, treedef = _level_of(like)
    parts = zip(content[1], pairs, strict=True)
    return treedef.unflatten(
        [_put(item, leaves, part) for (_, item), (_, part) in parts]
    )


def _part(like: Any, key: Key) -> Any:
    """For `_put`: the item of the model value at a key; `None` where there is no model value."""
    return None if like is None else like[key]


def read_form(data: Any) -> tuple[Form, list[Path]]:
    """The form that JSON stands for, with the paths of its leaves.

    Raises:
        ValueError: It stands for none.
    """
    keys: list[Path] = []
    _check(data, (), keys)
    return data, keys


def _check(data: Any, path: Path, keys: list[Path]) -> None:
    """For `read_form`: check a part of a form, by recursion, and collect the paths of its leaves."""
    if len(path) > _MAX_LEVELS:
        raise ValueError(f"nested more than {_MAX_LEVELS} levels deep")
    if data is None:
        return
    if data == LEAF:
        keys.append(path)
        return
    kind, content = _container(data)
    if kind == "pytree":
        if (
            not isinstance(content, list)
            or len(content) != 2
            or not isinstance(content[0], str)
        ):
            raise ValueError("a pytree has the name of its class, and its items")
        kind, content = "dict", content[1]
    if not isinstance(content, list):
        raise ValueError(f"{kind} holds a list")
    if kind != "dict":
        for at, item in enumerate(content):
            _check(item, (*path, at), keys)
        return
    seen: set[tuple[bool, Key]] = set()
    for pair in content:
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or type(pair[0]) not in (str, int)
        ):
            raise ValueError("dict holds a list of pairs, each a key and an item")
        seen.add(key_order(pair[0]))
        _check(pair[1], (*path, pair[0]), keys)
    if len(seen) < len(content):
        raise ValueError("a key stands once in a dict")


def _container(data: Any) -> tuple[str, Any]:
    """For `_check`: the kind of a container, and its content."""
    if isinstance(data, dict) and len(data) == 1:
        ((kind, content),) = data.items()
        if kind in ("list", "tuple", "dict", "pytree"):
            return kind, content
    raise ValueError(
        'a form is null, "leaf" or an object with one of the keys list, tuple, dict and pytree'
    )


def other_pytrees(form: Form) -> list[str]:
    """The names of the classes in a form that a file alone does not say how to make."""
    if form is None or form == LEAF:
        return []
    ((kind, content),) = form.items()
    if kind == "pytree":
        return [content[0]]
    items = [item for _, item in content] if kind == "dict" else content
    return [name for item in items for name in other_pytrees(item)]


def form_text(form: Form) -> str:
    """A form for a message: `{mu: *, nu: (*, None)}`, cut where it is long."""
    text = _text(form)
    return text if len(text) <= 80 else text[:77] + "..."


def _text(form: Form) -> str:
    """For `form_text`: the whole text."""
    if form is None:
        return "None"
    if form == LEAF:
        return "*"
    ((kind, content),) = form.items()
    if kind == "dict":
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in content) + "}"
    if kind == "pytree":
        return f"{content[0]}({', '.join(_text(item) for _, item in content[1])})"
    texts = ", ".join(map(_text, content))
    if kind == "list":
        return f"[{texts}]"
    return f"({texts},)" if len(content) == 1 else f"({texts})"
