"""Add hints to the errors of constructors, once they have failed.

Python's own text stays, with a hint behind it: `rngs` was passed, a name is misspelt, a
list was passed as several arguments. What a `default_factory` raised stays as it is, with
a note that names its field.
"""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from .._fields import NodeBase, left_out
from .._hints import did_you_mean
from ._makers import note_call
from ._schema import schema

_AMBIENT: Final = (
    "nodes draw their initial values from the ambient random stream: call gn.random.seed(0) before, or construct "
    "inside `with gn.random.scope(key):` (gn.nn.Dropout takes rngs)"
)
# What flax.nnx and equinox call the random numbers that a constructor takes.
_RANDOM_NAMES: Final = frozenset({"rngs", "rng", "key"})
_POSITIONAL: Final = frozenset(
    {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
)


def explain_init(
    error: Exception,
    node: NodeBase,
    init: Callable[..., None],
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> None:
    """Add a hint to an error of a constructor, if there is one.

    For the guarded constructor: Python's texts do not know that fields are its
    parameters.

    Args:
        error: What it raised; its text or its notes change.
        node: The node under construction.
        init: The `__init__` that was called.
        args: What it was called with, without the node.
        kwargs: What it was called with by name.
    """
    # A `TypeError` from inside of a constructor has nothing to do with its arguments.
    if type(error) is TypeError and not _is_bindable(init, node, args, kwargs):
        hint = _lost_constructor_hint(node, args, kwargs)
        hint = hint or _argument_hint(type(node), init, args, kwargs)
        # An inherited constructor, through which the error came, may have added it.
        if hint and not str(error).endswith(hint):
            # From 3.13 on, Python adds a hint of its own.
            pythons_text = str(error).partition(". Did you mean")[0]
            error.args = (f"{pythons_text}; {hint}",)
        return
    name = _failed_default(node, init, error)
    if name is not None:
        note_call(error, node, name, "default_factory", "default_factory()")


def _is_bindable(
    init: Callable[..., None],
    node: NodeBase,
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> bool:
    """Whether the signature takes the arguments, so that an error must come from inside.

    For `explain_init`: then the arguments are no reason, and get no hint.
    """
    try:
        inspect.signature(init).bind(node, *args, **kwargs)
    except TypeError:
        return False
    return True


def _lost_constructor_hint(
    node: NodeBase, args: Sequence[object], kwargs: Mapping[str, object]
) -> str:
    """What to write if the arguments are those of a base's own constructor, which a generated one has replaced.

    A field that is added in a subclass has this effect, which one does not expect.

    As in any dataclass, the constructor of a class that declares fields is generated.
    """
    cls: Any = type(node)
    bases: Sequence[Any] = cls.__mro__[1:]
    written = [base for base in bases if base.__dict__.get("_has_own_init", False)]
    if cls._has_own_init or not written:
        return ""
    base = written[0]
    # Only if the hand-written one would have taken them: other arguments are wrong for
    # both.
    if not _is_bindable(base.__init__, node, args, kwargs):
        return ""
    parameters = list(inspect.signature(base.__init__).parameters.values())
    signature = ", ".join(_parameter_text(parameter) for parameter in parameters)
    arguments = ", ".join(_argument_text(parameter) for parameter in parameters[1:])
    return (
        f"{cls.__name__} declares fields of its own, so that its constructor is generated, and takes the fields; to "
        f"keep that of {base.__name__}, write def __init__({signature}): super().__init__({arguments})"
    )


_STARS: Final[Mapping[object, str]] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def _parameter_text(parameter: inspect.Parameter) -> str:
    """A parameter as a signature has it, without its annotation and with `...` for its default.

    For the constructor that `_lost_constructor_hint` suggests.
    """
    has_default = parameter.default is not inspect.Parameter.empty
    default = "=..." if has_default else ""
    return f"{_STARS.get(parameter.kind, '')}{parameter.name}{default}"


def _argument_text(parameter: inspect.Parameter) -> str:
    """A parameter as the argument that passes it on.

    For the call of the base's constructor that `_lost_constructor_hint` suggests.
    """
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        return f"{parameter.name}={parameter.name}"
    return _STARS.get(parameter.kind, "") + parameter.name


def _argument_hint(
    cls: type[NodeBase],
    init: Callable[..., None],
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> str:
    """What to do about arguments that a constructor does not take.

    For `explain_init`, which puts it behind the text of Python's `TypeError`.
    """
    # Without `self`.
    parameters = list(inspect.signature(init).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    positional = [
        parameter.name for parameter in parameters if parameter.kind in _POSITIONAL
    ]
    unknown = [name for name in kwargs if name not in names]
    if unknown:
        return _unknown_hint(cls, names, unknown[0])
    if len(args) > len(positional):
        return _surplus_hint(cls, names, positional)
    return ""


def _unknown_hint(cls: type[NodeBase], names: Collection[str], name: str) -> str:
    """What to write instead of a keyword argument that a constructor does not take.

    For `_argument_hint`, such as the nearest name, or what to do about `rngs=`.

    Args:
        cls: The class that is constructed.
        names: The parameters of its constructor.
        name: The argument.
    """
    if name in _RANDOM_NAMES:
        return _AMBIENT
    hint = did_you_mean(name, names)
    # A field with `init=False`: the name is right, but it is no argument.
    if name in schema(cls).fields:
        reason = f"class sets {name} itself"
        return f"{hint} The {reason}" if hint else f"the {reason}"
    if hint:
        return hint
    return f"it takes {_first_names(names)}" if names else "it takes no arguments"


def _surplus_hint(
    cls: type[NodeBase], names: Sequence[str], positional: Sequence[str]
) -> str:
    """What to do with more positional arguments than there are.

    For `_argument_hint`, as for `Net(a, b)` where `Net([a, b])` is meant.
    """
    last = schema(cls).fields.get(positional[-1]) if positional else None
    # As in `Net(a, b)` where `Net([a, b])` is meant.
    if last is not None and not last.form.is_open and last.form.admits(list):
        return f"{last.name} takes one list: {cls.__name__}([...])"
    by_keyword = [name for name in names if name not in positional]
    return f"by keyword alone: {_first_names(by_keyword)}" if by_keyword else ""


_MAX_NAMES: Final = 8


def _first_names(names: Collection[str]) -> str:
    """The first of some names, and how many others there are.

    For messages, which a class of many fields would fill.
    """
    text = ", ".join(list(names)[:_MAX_NAMES])
    others = len(names) - _MAX_NAMES
    return f"{text} and {others} more" if others > 0 else text


def _failed_default(node: NodeBase, init: Any, error: Exception) -> str | None:
    """The field whose `default_factory` raised inside of an `__init__` that `dataclasses` has written.

    For `explain_init`: the traceback shows a generated `__init__`, in which no line can
    be read.

    It sets the fields in their order: the first with a factory that is not set yet is
    the one, if the error comes neither from an assignment nor from `__post_init__`.
    """
    cls: Any = type(node)  # a `Node`, which is defined to the right of here
    if cls._has_own_init:
        return None
    code = getattr(inspect.unwrap(init), "__code__", None)
    traceback = _entry_of(error.__traceback__, code)
    if traceback is None:
        return None
    # The frame below the constructor. A factory written in C has none.
    callee = traceback.tb_next
    if callee is not None:
        name = callee.tb_frame.f_code.co_name
        if name in ("__setattr__", "__post_init__"):
            return None
    for field in dataclasses.fields(cls):
        factory = field.default_factory
        has_factory = factory is not dataclasses.MISSING and factory is not left_out
        if has_factory and field.name not in node.__dict__:
            return field.name
    return None


def _entry_of(traceback: TracebackType | None, code: object) -> TracebackType | None:
    """The entry of a traceback at which a function runs.

    For `_failed_default`, to see by whom the error was raised.
    """
    while traceback is not None and traceback.tb_frame.f_code is not code:
        traceback = traceback.tb_next
    return traceback
