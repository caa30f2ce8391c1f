"""What States and nodes have in place of what they are mistaken for: it raises, and says what to write.

A State that is used as an array, and a node or State that is given to JAX. The members
are set when this module runs, so that type checkers, which see none of them, report the
mistakes as ever. There is no `__getattr__`, which would slow down every `getattr(state,
"...", None)`.
"""

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
    # Not `iter`, with which every State would be a `collections.abc.Iterable`:
    # iteration comes to `getitem`, too.
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


_ABSENT: Final = object()


def _behind(cls: type, name: str, ours: object) -> Any:
    """What a class has under a name from a base that stands behind ours; `_ABSENT` if it has nothing there.

    Of `class Net(gn.Node, Trainable)`, what stands in place of a mistake comes first,
    and would hide a method.
    """
    bases = iter(cls.__mro__[:-1])  # without `object`, which compares, too
    for base in bases:
        if base.__dict__.get(name) is ours:
            break
    found = (base.__dict__[name] for base in bases if name in base.__dict__)
    return next((member for member in found if not isinstance(member, Hint)), _ABSENT)


def _bound(member: Any, instance: object, cls: type) -> Any:
    """A member of a class as it is read from an instance, or from the class if that is `None`."""
    bind = getattr(type(member), "__get__", None)
    return member if bind is None else bind(member, instance, cls)


class Hint:
    """Stands in a class for an attribute that it lacks: `hasattr` is false, and the error says what to write.

    A class that is extended beside ours may have the attribute; then it is that.
    """

    __slots__ = ("name", "remedy")

    def __init__(self, name: str, remedy: str) -> None:
        self.name, self.remedy = name, remedy

    # Any: what a class of the user's has there.
    def __get__(self, instance: object, cls: type) -> Any:
        member = _behind(cls, self.name, self)
        if member is not _ABSENT:
            return _bound(member, instance, cls)
        if instance is None:
            raise AttributeError(
                f"type object {cls.__name__!r} has no attribute {self.name!r}"
            )
        raise self.error(cls)

    def __set__(self, instance: object, value: object) -> None:
        """Only for a property behind ours: nothing else may be assigned under the name."""
        member = _behind(type(instance), self.name, self)
        if not hasattr(type(member), "__set__"):
            raise self.error(type(instance))
        type(member).__set__(member, instance, value)

    def is_shown(self, cls: type) -> bool:
        """Whether a class has the attribute from elsewhere."""
        return _behind(cls, self.name, self) is not _ABSENT

    def error(self, cls: type) -> Exception:
        """What is raised where an instance of a class is asked for the attribute."""
        return AttributeError(
            f"{cls.__name__!r} object has no attribute {self.name!r}: {self.remedy}"
        )


# What Python asks of the right operand: a comparison is the reflection of another one.
_REFLECTED: Final = (
    *[f"__r{name}__" for name in (*_BINARY, "divmod")],
    *[f"__{name}__" for name in _COMPARISONS],
)


def _has_reflected_operator(cls: type) -> bool:
    """Whether a class says itself, or by what it extends, what an operator does that has it on the right."""
    # Which has them all, and `object` compares
    bases = [base for base in cls.__mro__[:-1] if base is not NoArray]
    return any(name in base.__dict__ for base in bases for name in _REFLECTED)


class _JaxHint(Hint):
    """Stands for `__jax_array__`, by which JAX asks what is not an array to become one.

    The error comes when JAX looks the method up: `jax.jit` refuses whatever has one,
    and never calls it. It is no `TypeError`, in whose place JAX raises one of its own,
    which advises to mark the argument as static.

    The operators of arrays ask for it, too, before they leave `array @ other` to the
    other's own `__rmatmul__`.
    """

    __slots__ = ()

    def error(self, cls: type) -> Exception:
        if _has_reflected_operator(cls) and is_array_operator(sys._getframe(1)):
            return super().error(cls)
        return JaxInputError(f"{cls.__name__} {self.remedy}")


def _shown(instance: object) -> list[str]:
    """What `dir` shows: no hints, so that no editor offers them and `inspect.getmembers` does not ask for them."""
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
    """A base of `State`: what was meant for the value, and is done with the State, raises and says `.value`."""

    __slots__ = ()


class NoPytree:
    """A base of nodes: a node that is given to JAX raises an error, which says what takes nodes."""

    __slots__ = ()


# Any: what a special method of the user's gives.
def _refusal(name: str, mistake: str) -> Callable[..., Any]:
    """A special method that raises, where no class that is extended beside ours has one."""

    def refuse(self: object, *args: object, **kwargs: object) -> Any:
        cls = type(self)
        member = _behind(cls, name, refuse)
        if member is not _ABSENT:
            return _bound(member, self, cls)(*args, **kwargs)
        raise StateUseError(f"{cls.__name__} {mistake}")

    return refuse


def _set_hint(cls: type, hint: Hint) -> None:
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
    setattr(_base, "__dir__", _shown)  # noqa: B010  # as above
