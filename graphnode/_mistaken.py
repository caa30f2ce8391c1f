"""Errors for mistaken uses: of a State as an array, and of a node or State as an argument of a JAX function.

States and nodes get members such as `__add__` and `__jax_array__` that raise and say
what to write. They are set when this module runs, so that type checkers do not see
them and still report the mistakes. A `__getattr__` would do, but slow down every
`getattr(state, "...", None)`.

    state + 1               NoArray.__add__             StateUseError: write state.value + ...
    state.shape             Hint("shape").__get__       AttributeError: write state.value.shape
    jnp.sum(state)          _JaxHint.__get__            JaxInputError: write state.value
    class S(gn.State, Mixin) with Mixin.__add__         `_later_member`: that of Mixin
"""

import enum
import inspect
import sys
from collections.abc import Callable
from typing import Any, Final

from ._compat import is_array_operator
from ._errors import JaxInputError, StateUseError

_BINARY: Final = {
    "add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "lshift": "<<", "rshift": ">>", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip
# Not `==` and `!=`, which ask for identity.
_COMPARISONS: Final = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}

_INSTEAD: Final = {
    **{
        name: f"state.value {operator} ..."
        for name, operator in (_BINARY | _COMPARISONS).items()
    },
    **{f"r{name}": f"... {operator} state.value" for name, operator in _BINARY.items()},
    **{
        f"i{name}": f"state.value {operator}= ..." for name, operator in _BINARY.items()
    },
    **{
        name: f"{name}(state.value)"
        for name in ("abs", "complex", "float", "int", "len", "round")
    },
    **{name: f"math.{name}(state.value)" for name in ("ceil", "floor", "trunc")},
    # Not `iter`, with which every State would be a `collections.abc.Iterable`. Python
    # iterates by `getitem` then, which raises.
    **dict.fromkeys(["getitem", "setitem", "delitem"], "state.value[...]"),
    "divmod": "divmod(state.value, ...)",
    "rdivmod": "divmod(..., state.value)",
    "neg": "-state.value",
    "pos": "+state.value",
    "invert": "~state.value",
    "index": "int(state.value)",
    "array": "np.asarray(state.value)",
}
"""What to write where Python calls a special method, by its name without the underscores."""

_ATTRIBUTES: Final = (
    "T", "all", "any", "argmax", "argmin", "astype", "at", "dtype", "flatten", "item", "max", "mean", "min", "ndim",
    "ravel", "reshape", "shape", "size", "squeeze", "std", "sum", "tolist", "transpose", "var",
)  # fmt: skip

_TRANSFORMS: Final = (
    "gn.jit in place of jax.jit, gn.grad in place of jax.grad, and so on"
)


class _Absent(enum.Enum):
    """The class of `ABSENT`, in place of a member that a class does not have."""

    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT


def _later_member(cls: type, name: str, ours: object) -> Any:
    """The member that a class has from a base after ours; `ABSENT` if there is none.

    In `class Net(gn.Node, Trainable)` our member comes first, and would hide a method
    of Trainable.
    """
    bases = iter(cls.__mro__[:-1])  # without `object`, which has comparisons, too
    for base in bases:
        if base.__dict__.get(name) is ours:
            break
    # The same iterator: these are the bases after ours.
    for base in bases:
        member = base.__dict__.get(name, ABSENT)
        if member is not ABSENT and not isinstance(member, Hint):
            return member
    return ABSENT


def _bound(member: Any, instance: object, cls: type) -> Any:
    """A member of a class as read from an instance, or from the class if `instance` is `None`.

    For a member of a later base, which Python would bind itself if ours did not stand
    before it.
    """
    bind = getattr(type(member), "__get__", None)
    # A plain constant has no `__get__`.
    return member if bind is None else bind(member, instance, cls)


class Hint:
    """An attribute that a class does not have: `hasattr` is false, and the error says what to write.

    A further base of the class may have the attribute; then that one is read.
    """

    __slots__ = ("name", "remedy")

    def __init__(self, name: str, remedy: str) -> None:
        self.name, self.remedy = name, remedy

    # Any: whatever the user's class has there.
    def __get__(self, instance: object, cls: type) -> Any:
        member = _later_member(cls, self.name, self)
        if member is not ABSENT:
            return _bound(member, instance, cls)
        if instance is None:
            raise AttributeError(
                f"type object {cls.__name__!r} has no attribute {self.name!r}"
            )
        raise self.error(cls)

    def __set__(self, instance: object, value: object) -> None:
        """Set a property of a later base; nothing else may be assigned."""
        member = _later_member(type(instance), self.name, self)
        if not hasattr(type(member), "__set__"):
            raise self.error(type(instance))
        type(member).__set__(member, instance, value)

    def is_shown(self, cls: type) -> bool:
        """Whether a class has the attribute from elsewhere.

        For `dir`, which leaves hints out.
        """
        return _later_member(cls, self.name, self) is not ABSENT

    def error(self, cls: type) -> Exception:
        """The error for reading the attribute of an instance of a class."""
        return AttributeError(
            f"{cls.__name__!r} object has no attribute {self.name!r}: {self.remedy}"
        )


# What Python asks of the right operand: a comparison is the reflection of another one.
_REFLECTED: Final = (
    *[f"__r{name}__" for name in (*_BINARY, "divmod")],
    *[f"__{name}__" for name in _COMPARISONS],
)


def _has_reflected_operator(cls: type) -> bool:
    """For `_JaxHint`: whether a class or one of its bases defines an operator for its instances on the right."""
    # `NoArray` has all operators, and `object` has comparisons.
    bases = [base for base in cls.__mro__[:-1] if base is not NoArray]
    return any(name in base.__dict__ for base in bases for name in _REFLECTED)


class _JaxHint(Hint):
    """`__jax_array__`, by which JAX turns other objects into arrays.

    It raises as soon as JAX looks it up: `jax.jit` refuses any object that has the
    method, without calling it. The error must not be a `TypeError`: JAX would replace it
    by its own, which advises to mark the argument as static.

    Operators of arrays look it up, too, before they leave `array @ other` to
    `other.__rmatmul__`: then an `AttributeError` lets them go on.
    """

    __slots__ = ()

    def error(self, cls: type) -> Exception:
        """The refusal; while an operator of JAX asks, an `AttributeError`: it then asks the right operand."""
        if _has_reflected_operator(cls) and is_array_operator(sys._getframe(1)):
            return super().error(cls)
        return JaxInputError(f"{cls.__name__} {self.remedy}")


def _dir(instance: object) -> list[str]:
    """The `dir` of a State or node without hints, which would raise: editors and `inspect.getmembers` read it."""
    cls = type(instance)
    members = {
        name: inspect.getattr_static(cls, name, None)
        for name in object.__dir__(instance)
    }
    return [
        name
        for name, member in members.items()
        if not isinstance(member, Hint) or member.is_shown(cls)
    ]


class NoArray:
    """A base of `State`: what was meant for the value raises an error that says `.value`."""

    __slots__ = ()


class NoPytree:
    """A base of nodes: passing a node to JAX raises an error that says which functions take nodes."""

    __slots__ = ()


# Any: what a special method of the user's returns.
def _refusal(name: str, mistake: str) -> Callable[..., Any]:
    """A special method that raises, unless a later base of the class has it.

    For `State`: `state + 1` says that `state.value + ...` is to be written.

    Args:
        name: The name of the method: `__add__`.
        mistake: What the error says after the name of the class.
    """

    def refuse(self: object, *args: object, **kwargs: object) -> Any:
        """Call the method of a later base, or raise."""
        cls = type(self)
        member = _later_member(cls, name, refuse)
        if member is not ABSENT:
            return _bound(member, self, cls)(*args, **kwargs)
        raise StateUseError(f"{cls.__name__} {mistake}")

    return refuse


def _set_hint(cls: type, hint: Hint) -> None:
    """Let a class have a hint under the name of the attribute."""
    setattr(cls, hint.name, hint)


for _name, _instead in _INSTEAD.items():
    setattr(
        NoArray,
        f"__{_name}__",
        _refusal(f"__{_name}__", f"is not an array: write {_instead}"),
    )
_truth = _refusal(
    "__bool__", "is neither true nor false: write .value, or `is not None`"
)
setattr(NoArray, "__bool__", _truth)  # noqa: B010  # an assignment would declare it to type checkers
for _name in _ATTRIBUTES:
    _set_hint(NoArray, Hint(_name, f"write state.value.{_name}"))
_set_hint(
    NoArray,
    _JaxHint(
        "__jax_array__",
        f"is not an array: write state.value; to transform a function of it, use {_TRANSFORMS}",
    ),
)
_set_hint(
    NoPytree,
    _JaxHint(
        "__jax_array__",
        f"is a node, which JAX does not take: use {_TRANSFORMS}; or split it with gn.treefy_split, and merge it inside",
    ),
)
for _base in (NoArray, NoPytree):
    setattr(_base, "__dir__", _dir)  # noqa: B010  # as above
