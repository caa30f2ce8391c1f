"""The names that users import: what pickles and texts say of graphnode's own classes, whatever module they are in.

`__module__` stays true: `inspect.getsource` and annotations that are strings go by it. The one list of public names is
what `graphnode` and its public modules offer.
"""

import copyreg
import functools
import re
import sys
from abc import ABCMeta
from collections.abc import Callable
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., object])

# Of classes of graphnode alone, which live as long as it.
_NAMES: Final[dict[type, str]] = {}
# A class of graphnode by its module.
_DOTTED: Final = re.compile(rf"\b({__package__}(?:\.\w+)*)\.(\w+)")


def public_name(cls: type) -> str | None:
    """The name in `graphnode` of one of its classes, such as `ParamState`; `None` for private ones and all others.

    Private modules are renamed now and then: what is printed or pickled should not
    change with them.
    """
    name = _NAMES.get(cls)
    # Only classes of graphnode are kept in `_NAMES`, so others are told apart by their
    # module each time.
    if name is None and cls.__module__.partition(".")[0] == __package__:
        name = _look_up(cls)
        if name is not None:
            _NAMES[cls] = name
    return name


def _look_up(cls: type) -> str | None:
    """The public name of a class, looked up in its public module; `None` if it is private.

    For `public_name`, the first time.
    """
    _, *modules = [
        part for part in cls.__module__.split(".") if not part.startswith("_")
    ]
    public: object = sys.modules[".".join([str(__package__), *modules])]
    # First by `dir`: to be asked for a name that it has not costs graphnode a search for what was meant.
    if cls.__name__ not in dir(public) or getattr(public, cls.__name__) is not cls:
        return None
    return ".".join([*modules, cls.__name__])


def with_public_names(text: str) -> str:
    """A text that Python has made of an annotation, such as `list[graphnode._state.State]`: `list[graphnode.State]`.

    For messages that show an annotation.
    """
    return _DOTTED.sub(lambda match: _public_or_same(match[1], match[2]), text)


def _public_or_same(module: str, attribute: str) -> str:
    """For `with_public_names`: a dotted name with the public name of its class, or as it was."""
    cls: object = getattr(sys.modules.get(module), attribute, None)
    name = public_name(cls) if isinstance(cls, type) else None
    return f"{module}.{attribute}" if name is None else f"{__package__}.{name}"


def named_in_pickles(name: str) -> Callable[[F], F]:
    """Have pickles find a function as `graphnode.<name>`, so that it may move and be renamed.

    Pickles that were saved go on loading.

    Of a function nothing goes by `__module__` but pickle.
    """

    def named(function: F) -> F:
        """Name a function, and put it where pickle looks for it: the decorator itself."""
        of_any: Any = function  # not every callable can be named, and a function can
        of_any.__module__, of_any.__qualname__ = __package__, name
        # Where pickle looks for it when it loads what was written.
        setattr(sys.modules[str(__package__)], name, function)
        return function

    return named


@named_in_pickles("_pickled_class")
def class_named(name: str) -> type:
    """The class of a public name: of graphnode alone, as a pickle may be allowed to name nothing else.

    For pickles: what `_reduce_class` writes.

    Raises:
        AttributeError: graphnode has no such class.
    """
    cls: object = functools.reduce(
        getattr, name.split("."), sys.modules[str(__package__)]
    )
    if not isinstance(cls, type) or cls.__module__.partition(".")[0] != __package__:
        raise AttributeError(f"graphnode has no class {name!r}")
    return cls


def _reduce_class(cls: type) -> str | tuple[Callable[[str], type], tuple[str]]:
    """For pickle: a class by its public name, or by module and name if it has none.

    So that a pickle can be loaded when the module of a class has another name.
    """
    name = public_name(cls)
    return (
        cls.__qualname__ if name is None else (class_named, (name,))
    )  # by its own module, as all classes


class PublicType(type):
    """A class that is printed and pickled by its public name, if it has one."""

    def __init_subclass__(cls) -> None:
        # For metaclasses that extend this one.
        super().__init_subclass__()
        # Pickle asks by the class of what it is to write, and not by the bases of that.
        copyreg.pickle(cls, _reduce_class)  # type: ignore[arg-type]  # typeshed has no reducer that gives a name

    def __repr__(cls) -> str:
        name = public_name(cls)
        return super().__repr__() if name is None else f"<class '{__package__}.{name}'>"


copyreg.pickle(PublicType, _reduce_class)  # type: ignore[arg-type]  # typeshed has no reducer that gives a name


class PublicMapping(PublicType, ABCMeta):
    """A mapping class that is printed and pickled by its public name."""
