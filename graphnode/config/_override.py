"""Changes of a config by path, as a command line has them: `gn.config.override`."""

import json
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeVar

import jax
import numpy as np
import pydantic

from .._arguments import wrong_argument
from .._declare._node import Node
from .._errors import ConfigError, Fault, PathError, Place
from .._filters import Matcher
from .._hints import short
from .._nesting import is_container
from .._paths import Key, Path, parse_path
from .._static import DataValueError
from ._by_path import change_path
from ._config import Config, check_config, same_static
from ._defaults import opened
from ._graph import copied
from ._left_out import DEFAULT
from ._plain import Unordered, written
from ._read import Files
from ._registry import format_names, near_hint
from ._slots import form_at
from ._streams import STREAMS, is_streams
from ._typed import TYPE
from ._value_errors import value_faults, value_text
from ._walk import check_size, no_field, walk_value
from ._yaml import comment_in

M = TypeVar("M", bound=Node)

# Possessive (`*+`, `(?>...)`), so that a quoted key with `=` in it is never read
# otherwise.
_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
_CHANGE: Final = re.compile(rf"(?P<path>(?>{_QUOTED}|[^=])*+)=(?P<value>.*)", re.DOTALL)
_BRACKETS: Final = re.compile(rf"(?P<quoted>{_QUOTED})|\[(?P<position>-?\d+)\]")


def override(config: Config[M], changes: Iterable[str], /) -> Config[M]:
    """A copy of a config with some of its values replaced.

    Args:
        config: It stays as it is.
        changes: Each `path=value`, such as `enc.width=64` or `layers[2].act=relu`; the
            value is YAML without comments, so that a text with ` #` is quoted. Where a
            node stands, a mapping such as `{type: Linear, width: 3}` puts another one.
            `layers[-1]` is the last item. A path leads also into a node that the config
            leaves to the `default_factory` of its class, and to parts of a static
            value.

    Raises:
        ConfigError: A path that leads nowhere, a position in a filter or set, a value
            that the field does not take, a comment, or a part of a default of which
            only the `default_factory` knows how it is made; names all.

    Example:
        >>> config = gn.config.config_of(gn.nn.Linear)(in_size=2, out_size=3)
        >>> gn.config.override(config, ["out_size=4"]).out_size, config.out_size
        (4, 3)
    """
    check_config(config)
    if isinstance(changes, str) or not isinstance(changes, Iterable):
        raise TypeError(wrong_argument("a list of changes, each path=value", changes))
    return changed(config, changes)[0]


def changed(config: Config[M], changes: Iterable[str]) -> tuple[Config[M], list[Path]]:
    """The changed copy, and the paths at which other nodes, or containers of them, stand in place of what was there.

    For `override`, and for `config show`, which says that these come from the command
    line.

    Raises:
        ConfigError: As of `override`.
    """
    copy = copied(config)
    faults: list[Fault] = []
    replaced: list[Path] = []
    for change in changes:
        try:
            spot = _apply(copy, change)
        except ConfigError as error:
            faults += error.faults
            continue
        if spot.field in spot.owner.slots:
            replaced.append(spot.path)
    if faults:
        raise ConfigError(faults)
    return copy, replaced


class _Spot(NamedTuple):
    """Where a path leads.

    Of `layers[2].sizes[0]`, with `sizes` as a static field:

        owner               the config of `layers[2]`
        field, inside       "sizes", (0,)
        value, holder       the list of the sizes, twice

    Attributes:
        owner: The last config on the way.
        field: Its field.
        value: What that holds, as lists and dicts.
        holder: The list or dict that has the last key of the path, if that is not the
            field.
        path: The path from the root, with positions counted from the start.
        inside: The keys of it that are within the field.
    """

    owner: Config[Any]
    field: str
    value: Any
    holder: Any
    path: Path
    inside: Path


def _apply(root: Config[Any], change: str) -> _Spot:
    """Make a change in the copy of a config, `path=value`; gives where it was made."""
    keys, text = _parsed(change)
    spot = _find(root, keys)
    files = Files()
    value = files.read_text(text, "", "yaml").root
    if files.faults:
        # Of one change on a command line, lines and columns are useless.
        raise ConfigError([fault.at(Place()).below(change) for fault in files.faults])
    _check_no_comment(change, text, value)
    form = spot.owner.slots.get(spot.field)
    if form is None:
        check_size(value, spot.path)
    else:
        value = walk_value(value, form_at(form, spot.inside), spot.path)
    if spot.inside:
        # The field is assigned as a whole, so that it is validated as a whole.
        # This is in a copy, which is thrown away if the value turns out wrong.
        spot.holder[spot.path[-1]] = value
        value = spot.value
    _assign(spot, value)
    return spot


def _parsed(change: str) -> tuple[Path, str]:
    """The path of a change (`path=value`) as keys, and the text of its value."""
    match = _CHANGE.fullmatch(change) if isinstance(change, str) else None
    path = match["path"].strip() if match is not None else ""
    if match is None or not path:
        raise _refused(change or repr(change), "a change is path=value")
    try:
        # `layers[2]` is what paths elsewhere have as `layers.2`.
        return parse_path(_BRACKETS.sub(_dotted, path)), match["value"]
    except PathError as error:
        raise _refused(path, str(error)) from None


def _dotted(match: re.Match[str]) -> str:
    """A position in brackets as a dotted key, for `parse_path`; a key in quotes, where brackets are text, as it is."""
    return match["quoted"] or f".{match['position']}"


def _check_no_comment(change: str, text: str, value: Any) -> None:
    """Raise if a part of a value is a comment: on a command line, it is more likely meant as text.

    Raises:
        ConfigError: There is a comment; the message has how the text is quoted.
    """
    comment = comment_in(text)
    if comment is None:
        return
    hint = "leave it out"
    if not is_container(value):
        quoted = json.dumps(text.strip(), ensure_ascii=False)
        hint = f"write '{change.removesuffix(text)}{quoted}', or {hint}"
    raise _refused(change, f"YAML takes {comment} for a comment", hint)


def _assign(spot: _Spot, value: Any) -> None:
    """Assign the value that a change gives a field, or of which it has replaced a part.

    Raises:
        ConfigError: It does not take it; the text is that of a file.
    """
    try:
        setattr(spot.owner, spot.field, value)
    except pydantic.ValidationError as error:
        path = change_path(spot.path[: len(spot.path) - len(spot.inside)])
        faults: list[Fault] = []
        for fault in value_faults(error, {spot.field: value}):
            inside = path + fault.inside
            faults.append(Fault(fault.what, path=inside, hint=fault.hint))
        raise ConfigError(faults) from None


def _find(root: Config[Any], keys: Path) -> _Spot:
    """Follow the path of a change to where its value goes, which may not be there yet: a new key of a dict.

    Raises:
        ConfigError: It leads nowhere.
    """
    owner, field, at = root, "", 0
    path: Path = ()
    top: Any = None
    holder: Any = None
    value: Any = root
    for key in keys:
        if isinstance(value, Config) and is_streams(value.node_class):
            # The names of streams stand where fields do, without a key for the field.
            owner, field, at = value, STREAMS, len(path) - 1
            value = top = dict(value.__dict__[STREAMS])
        if isinstance(value, Config):
            owner, field, at = value, _field_of(value, key, path), len(path)
            path = (*path, field)
            # The last field is replaced as a whole, so that it need not be opened.
            value = top = None
            if len(path) < len(keys):
                top = _opened(owner, field, path)
                value = _part_with(owner, field, top, keys[len(path)])
            continue
        # Only the last key may be new, as a new one holds nothing yet.
        place = _place_in(value, key, path, may_be_new=len(path) == len(keys) - 1)
        holder, path = value, (*path, place)
        value = _item(value, place)
    return _Spot(owner, field, top, holder, path, path[at + 1 :])


def _part_with(config: Config[Any], name: str, data: Any, key: Key) -> Any:
    """The part of the data of a field that a key of a change leads into.

    A position in an array leads into its lists, beside which the dtype stays what it is.
    """
    is_array = isinstance(config.__dict__[name], jax.Array | np.ndarray)
    if is_array and isinstance(data, dict) and isinstance(key, int):
        return data["data"]
    return data


def _field_of(config: Config[Any], key: Key, path: Path) -> str:
    """The name of the field that a key of a change leads to; `path` is that of the config.

    Raises:
        ConfigError: The class has no such field, or the key is `type`.
    """
    if key == TYPE:
        node = change_path(path)
        whole = f"write the whole node, {node}={{type: ..., ...}}"
        raise _refused(
            change_path((*path, key)),
            "the class of a node is not changed in part",
            whole if node else "load a file that says it",
        )
    if not isinstance(key, str) or key not in type(config).model_fields:
        raise _refused(change_path((*path, key)), *no_field(type(config), key))
    return key


def _opened(config: Config[Any], name: str, path: Path) -> Any:
    """What a field holds, as lists, dicts and configs that the path of a change leads into.

    A default of the class becomes configs in its place, and a static value the data
    that a file has for it.
    """
    value = config.__dict__[name]
    if value is DEFAULT and name in config.slots:
        value = opened(config, name, path)
        # Kept in the copy, so that the next change goes into the same nodes.
        setattr(config, name, value)
    return value if name in config.slots else _data_of(config, name, path)


def _data_of(config: Config[Any], name: str, path: Path) -> Any:
    """A static value as data of a file, so that a change can replace a part of it.

    Raises:
        ConfigError: No file can hold it, the class computes it, the field reads its data
            as another value, or it is a filter, whose texts have an order of
            their own.
    """
    value = config.__dict__[name]
    if value is DEFAULT:
        where = change_path(path)
        raise _refused(where, "the class computes this value", _whole(where))
    if isinstance(value, Matcher):
        raise _without_positions("filter", path)
    try:
        data = written(config, name)
        # Read back before a part is changed: if that alone gives another value, the
        # change would alter more than it says.
        setattr(config, name, data)
    except DataValueError as error:
        where = change_path(path)
        raise _refused(where, str(error), "write the whole value") from None
    except pydantic.ValidationError:
        raise _unread(value, path) from None
    if not same_static(config.__dict__[name], value):
        raise _unread(value, path)
    return data


def _refused(path: str, what: str, hint: str = "") -> ConfigError:
    """The error of one change, which `changed` collects, to raise all at once."""
    return ConfigError([Fault(what, path=path, hint=hint)])


def _whole(path: str) -> str:
    """The hint to replace the value at a path as a whole."""
    return f"write the whole value, {path}=..."


def _without_positions(name: str, path: Path) -> ConfigError:
    """The error of a path that leads into a set or filter, by the name of its kind."""
    where = change_path(path)
    return _refused(where, f"a {name} has no positions", _whole(where))


def _unread(value: object, path: Path) -> ConfigError:
    """The error of a path into a value that its own data would not be read back as."""
    what = f"no file says this {type(value).__name__} as the field takes it"
    return _refused(change_path(path), what, "write the whole value")


def _item(holder: Any, key: Key) -> Any:
    """What stands at a key of a list or dict; `None` for a new key of a dict, which a change may add."""
    return holder.get(key) if isinstance(holder, dict) else holder[key]


def _place_in(value: Any, key: Key, path: Path, *, may_be_new: bool) -> Key:
    """The key of an item in a list or dict that a change leads to, with positions counted from the start.

    Raises:
        ConfigError: The key leads nowhere; lists the ones that do.
    """
    if isinstance(value, Unordered):
        raise _without_positions("set", path)
    if isinstance(value, list):
        return _position_in(value, key, path)
    if isinstance(value, dict):
        if isinstance(key, str) and (key in value or may_be_new):
            return key
        raise _no_key(value, key, path)
    where = change_path(path)
    raise _refused(where, f"{value_text(value)} has nothing inside", _whole(where))


def _position_in(value: list[Any], key: Key, path: Path) -> int:
    """A position in a list, counted from the start; an error if it is not there."""
    if isinstance(key, int) and -len(value) <= key < len(value):
        return key % len(value)  # as in Python, -1 is the last one
    what = f"no item {short(key)} in a list of {len(value)}"
    raise _refused(change_path(path), what)


def _no_key(value: dict[str, Any], key: Key, path: Path) -> ConfigError:
    """The error of a change whose path has a key that a dict lacks, with the key that was meant or those there."""
    where = change_path(path)
    if str(key) in value:
        hint = f"its key is {change_path((*path, str(key)))}"
        return _refused(where, f"no position {key} in a dict", hint)
    hint = near_hint(key, value) or f"its keys are {format_names(value) or 'none'}"
    return _refused(where, f"no key {short(key)}", hint)
