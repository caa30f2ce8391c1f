"""Classes that are defined again, as by a notebook's cell or a reloaded module: which one is older, and what follows.

The old and the new class have one name. A message about both says which is which. And
IPython's `autoreload` moves instances and members from the one to the other:

    %autoreload 2, a module was edited
      deduperreload     changes functions and constants in place     _watch_patches sends
                                                                     what needs more on to:
      autoreload        UPDATE_RULES: our rule comes first           _applies, _move_class
      `_reload`         move_nodes, move_states                      registered by on_reload

Autoreload gets our rule when a class is defined while it is loaded: importing IPython
for its sake would cost everybody else.
"""

import ast
import functools
import itertools
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from ._hints import with_article

# The order in which classes of nodes and States were defined.
_ORDER: Final["weakref.WeakKeyDictionary[type, int]"] = weakref.WeakKeyDictionary()
_NUMBERS: Final = itertools.count()

# Moves things from an old class to its new definition.
Update: TypeAlias = Callable[[Any, Any], None]


class Mover(NamedTuple):
    """How autoreload treats an old class and its new definition; see `on_reload`."""

    move: Update
    update: Update


_MOVERS: Final[dict[type, Mover]] = {}
_AUTORELOAD: Final = "IPython.extensions.autoreload"
# Runs before autoreload: it changes functions, and constants of a class, in place.
_PATCHES: Final = "IPython.extensions.deduperreload.deduperreload"
# Methods that are wrapped when their class is made: a change in place would overwrite
# the wrapper.
_WRAPPED: Final = frozenset({"__getattr__", "__init__"})

# Old classes, each with the definition that autoreload has moved it to.
_MOVED: Final["weakref.WeakKeyDictionary[type, type]"] = weakref.WeakKeyDictionary()


def note_definition(cls: type) -> None:
    """Note that a class of nodes or States is being defined.

    For messages, which say which of two classes of one name is older. Autoreload gets
    our rule here.
    """
    _ORDER[cls] = next(_NUMBERS)
    autoreload: Any = sys.modules.get(_AUTORELOAD)
    if autoreload is not None and _RULE not in getattr(
        autoreload, "UPDATE_RULES", [_RULE]
    ):
        autoreload.UPDATE_RULES.insert(0, _RULE)
    patches: Any = sys.modules.get(_PATCHES)
    if patches is not None:
        _watch_patches(getattr(patches, "DeduperReloader", None))


def _watch_patches(reloader: Any) -> None:
    """Have autoreload make a class of nodes or States anew where a change of its members in place would not do."""
    patch = getattr(reloader, "_patch_namespace", None)
    # Another version of IPython, or watched already.
    if patch is None or hasattr(patch, "_is_watched"):
        return

    @functools.wraps(patch)
    def watched(self: Any, ns: Any, prefixes: "list[str] | None" = None) -> Any:
        """Takes the place of `_patch_namespace`, which changes in place what differs in a module or class.

        Args:
            self: The reloader.
            ns: The module.
            prefixes: The dotted name of the class in it; empty for the module itself.

        Returns:
            Whether all was changed; otherwise autoreload runs the whole module again.
        """
        # False: what is to be changed cannot be, and the whole module is reloaded.
        is_patched = not _needs_reload(self, ns, prefixes or []) and patch(
            self, ns, prefixes
        )
        if is_patched:
            _update_earlier(_class_at(ns, prefixes or []))
        return is_patched

    vars(watched)["_is_watched"] = True
    reloader._patch_namespace = watched


def _needs_reload(reloader: Any, module: Any, prefixes: list[str]) -> bool:
    """For `_watch_patches`: whether a change of a class in place would not do: of a field, or a wrapped method.

    Args:
        reloader: IPython's `DeduperReloader`, which knows what has changed.
        module: The module.
        prefixes: The dotted name of the class in it.
    """
    changes = reloader._to_autoreload.traverse_prefixes(prefixes)
    cls = _class_at(module, prefixes)
    if not isinstance(cls, type) or not issubclass(cls, tuple(_MOVERS)):
        return False
    names = set(changes.defs_to_delete)
    for changed, definition in changes.defs_to_reload:
        # A field with a default: it is compiled, and not just an attribute of the class.
        if isinstance(definition, ast.AnnAssign):
            return True
        names.update(changed)
    return not names.isdisjoint(
        _WRAPPED | getattr(cls, "__dataclass_fields__", {}).keys()
    )


def _class_at(module: object, prefixes: "list[str]") -> object:
    """For `_watch_patches`: the object at a dotted name in a module, by which IPython names a class that changed.

    Args:
        module: The module.
        prefixes: The parts of the name; none for the module itself.
    """
    value: Any = module
    for prefix in prefixes:
        value = vars(value).get(prefix)
    return value


def _update_earlier(cls: Any) -> None:
    """Give earlier definitions the changed methods of a class: subclasses elsewhere still derive from them."""
    for earlier in list(_MOVED):
        if latest(earlier) is cls:
            for base, mover in _MOVERS.items():
                if issubclass(earlier, base):
                    mover.update(earlier, cls)


def on_reload(base: type, move: Update, update: Update) -> None:
    """Register how autoreload moves from a subclass of `base` to its new definition.

    Args:
        base: The class.
        move: Moves everything.
        update: Gives the old class the methods of the new one; the rest was moved
            before.
    """
    _MOVERS[base] = Mover(move, update)


def _applies(old: object, new: object) -> bool:
    """The first half of our rule for autoreload: whether it is for an old and a new value of one name."""
    return (
        isinstance(old, type)
        and isinstance(new, type)
        and issubclass(old, tuple(_MOVERS))
    )


def _move_class(old: type, new: type) -> None:
    """The second half of our rule for autoreload: give all that is of the old class to its new definition."""
    # Moved before, by another name of the class; or its name in a class or module now
    # belongs to an unrelated class.
    if _MOVED.get(old) is new or not has_same_name(old, new):
        return
    for base, mover in _MOVERS.items():
        if old is not new and issubclass(old, base) and issubclass(new, base):
            # Noted first: a class that is reached again while it is moved is left alone.
            _MOVED[old] = new
            mover.move(old, new)


def has_same_name(cls: type, other: type) -> bool:
    """Whether two classes are one, or definitions of one: equal in module and qualified name.

    A class that is defined again is another object: only its name tells what it was.
    """
    return (cls.__module__, cls.__qualname__) == (other.__module__, other.__qualname__)


def move_nested(old: object, new: object) -> None:
    """Have autoreload move a class in the body of one that it moves, as it does for plain classes.

    Args:
        old: A member of the old class.
        new: The member of the new class that has the same name.
    """
    if not (isinstance(old, type) and isinstance(new, type)):
        return
    if old is new or not has_same_name(old, new):
        return
    # Earlier definitions too: autoreload looks at the newest one only.
    earlier = [cls for cls in list(_MOVED) if latest(cls) is old]
    autoreload: Any = sys.modules[_AUTORELOAD]
    for cls in [*earlier, old]:
        autoreload.update_generic(cls, new)


# A pair of functions, as autoreload has them: whether it applies, and what to do.
_RULE: Final = (_applies, _move_class)


def latest(cls: type) -> type:
    """The definition that autoreload has moved a class to; the class itself where it has not.

    So that what still names the old class, such as a form or a filter, means the new
    one.
    """
    while cls in _MOVED:
        cls = _MOVED[cls]
    return cls


def is_one_class(first: type, second: type) -> bool:
    """Whether two classes are the same, or were moved to the same definition.

    For merges and updates: a value that was taken from a State of the old class still
    fits.
    """
    return first is second or latest(first) is latest(second)


def first_moved(classes: Iterable[type]) -> type | None:
    """The first of some classes that autoreload has moved to a new definition, if any.

    For graphdefs: one that has an old class would build nodes that run old code, and is
    refused.
    """
    if not _MOVED:
        return None
    return next((cls for cls in classes if cls in _MOVED), None)


def derives(cls: type, bases: tuple[type, ...]) -> bool:
    """`issubclass` across redefinitions: what derives from the old class derives from the new one.

    For filters by class, and for what a field accepts.
    """
    if issubclass(cls, bases):
        return True
    if not _MOVED:
        return False
    newest = {latest(base) for base in bases}
    return any(latest(base) in newest for base in cls.__mro__)


def is_older(cls: type, other: type) -> bool:
    """Whether `other` is a later definition of a class.

    For messages that name two classes of one name, and to refuse a filter by the wrong
    one of them.
    """
    return (
        has_same_name(cls, other)
        and cls is not other
        and _ORDER.get(cls, -1) < _ORDER.get(other, -1)
    )


def class_name(cls: type, *beside: type) -> str:
    """The name of a class for a message that names others too: no two get the same text.

    Args:
        cls: The class.
        *beside: The others.
    """
    for other in beside:
        if cls is other or cls.__name__ != other.__name__:
            continue
        if is_older(cls, other):
            return f"the {cls.__name__} of before it was defined again"
        if not is_older(other, cls):
            return f"{cls.__module__}.{cls.__qualname__}"
    return cls.__name__


def distinct_class_name(cls: type, *beside: type) -> str:
    """The name of a class for a message that calls others by their bare names: a newer class says so too.

    Args:
        cls: The class.
        *beside: The others, which `class_name` would call older.
    """
    if any(is_older(other, cls) for other in beside):
        return f"the {cls.__name__} of after it was defined again"
    return class_name(cls, *beside)


def a_class(cls: type, *beside: type) -> str:
    """The name of a class with an article, for a message: `a Linear`, `an Embedding`.

    Args:
        cls: The class.
        *beside: Other classes that the message names, as in `class_name`.
    """
    name = class_name(cls, *beside)
    return name if name.startswith("the ") else with_article(name)


def instance_text(cls: type, *beside: type) -> str:
    """What an instance of a class is, for a message: `a Linear`, or which of two definitions it is of.

    Args:
        cls: The class.
        *beside: Other classes that the message names by `distinct_class_name`.
    """
    name = distinct_class_name(cls, *beside)
    return f"of {name}" if name.startswith("the ") else with_article(name)
