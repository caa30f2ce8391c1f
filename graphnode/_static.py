"""What makes two static values the same: type and value at every depth, arrays by content.

`static_key` turns a static field's value into a hashable key with exactly that equality, or says why it cannot be
static. Python's own `==` will not do: to it `1`, `True` and `1.0` are one, a NaN is never itself, and an array has no
answer.
"""

import dataclasses
import functools
import hashlib
import weakref
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Final, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ._compat import Tracer

NO_TEMPLATE: Final = False
"""What stands in place of a template on the classes of States: a walk tells the two apart by one look at the class."""


class GraphObject:
    """The base of what carries structure of its own: nodes and States. It is never part of a static value."""

    __slots__ = ()

    # A node class's own template (never a parent's), once compiled; `None` before.
    _template: ClassVar[Any] = None


def compares_by_identity(cls: type) -> bool:
    """Whether a class has kept the equality and hash of `object`, which graph operations rely on."""
    members = {name: getattr(cls, name) for name in ("__eq__", "__hash__")}
    return all(member is getattr(object, name) for name, member in members.items())


class StaticValueError(TypeError):
    """Why a value cannot be static; the caller adds where it was found."""


# Values of these exact types have no look-alike of another type among keys, so they are their own key.
_OWN_KEY: Final = frozenset({str, bytes, type(None), type(...)})
_DIGESTS: dict[int, tuple["weakref.ref[Any]", Hashable]] = {}
_TUPLE_FORM: Final[dict[type, str]] = {list: "a tuple", dict: "a tuple of pairs", set: "a frozenset"}


# What may be part of the structure: arrays are compared by content.
StaticValue: TypeAlias = Hashable | jax.Array | np.ndarray[Any, np.dtype[Any]]


def static_key(value: object) -> Hashable:
    """A key that is equal for two static values exactly when they have the same type and content.

    Raises:
        StaticValueError: The value cannot be static: a tracer, a node or State, or something unhashable.
    """
    cls = type(value)
    if cls in _OWN_KEY:
        return value
    key = _KEYS.get(cls)
    return key(value) if key is not None else _other_key(cls, value)


def _other_key(cls: type, value: Any) -> Hashable:
    if isinstance(value, Tracer):
        raise StaticValueError(
            f"a traced value ({value!r}) cannot be static: it would be baked into the structure; hold it in a State"
        )
    if isinstance(value, GraphObject):
        raise StaticValueError(f"a {cls.__name__} cannot be static: declare the field state() or subnode()")
    if isinstance(value, jax.Array | np.ndarray):
        return _array_key(value)
    if isinstance(value, np.generic):
        return (cls, value.dtype.str, value.tobytes())
    if isinstance(value, (tuple, frozenset)):
        return (cls, *map(static_key, value)) if isinstance(value, tuple) else (cls, frozenset(map(static_key, value)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and _compares_by_fields(cls):
        # Also those that the dataclass leaves out of its own `==`: a merge gives back one object for all equal ones.
        return (cls, *(static_key(getattr(value, f.name)) for f in dataclasses.fields(value)))
    if isinstance(value, functools.partial):
        named = [(name, static_key(value.keywords[name])) for name in sorted(value.keywords)]
        return (cls, static_key(value.func), *map(static_key, value.args), *named)
    try:
        hash(value)
    except TypeError:
        form = next((form for base, form in _TUPLE_FORM.items() if isinstance(value, base)), None)
        remedy = f"write {form}" if form else "give it a hash, or hold it in a State"
        raise StaticValueError(f"a {cls.__name__} ({_short(value)}) is not hashable: {remedy}") from None
    if _has_own_equality(cls):
        return (cls, *_content_key(cls, value))
    return (cls, value)


# Whose values equal exactly what they are: dtypes, shardings, meshes.
_TRUSTED: Final = frozenset({"builtins", "jax", "jaxlib", "ml_dtypes", "numpy"})


def _has_own_equality(cls: type) -> bool:
    """Whether a class says itself what its instances equal, as attrs, fractions and paths do."""
    equality: object = cls.__eq__
    return equality is not object.__eq__ and cls.__module__.partition(".")[0] not in _TRUSTED


def _content_key(cls: type, value: Any) -> tuple[Hashable, ...]:
    """The content of an object whose own `==` may take `1` for `1.0`: what pickle would write down of it.

    Raises:
        StaticValueError: The object does not say, or holds what cannot be static.
    """
    try:
        reduced = value.__reduce_ex__(2)
        if isinstance(reduced, str):  # the name of a global: itself
            return (reduced,)
        maker, args, *rest = reduced
        state = rest[0] if rest else None
        return (maker, *map(static_key, args), _state_key(state))
    except (TypeError, ValueError, AttributeError) as error:
        raise StaticValueError(
            f"a {cls.__name__} ({_short(value)}) compares by an __eq__ of its own, and its content cannot be read "
            f"({error}): make it a frozen dataclass or a tuple"
        ) from None


def _state_key(state: object) -> Hashable:
    if isinstance(state, dict):
        return tuple([(static_key(name), static_key(state[name])) for name in sorted(state, key=str)])
    if isinstance(state, tuple):  # attributes and slots
        return tuple(map(_state_key, state))
    return static_key(state)


def _compares_by_fields(cls: Any) -> bool:
    parameters = cls.__dataclass_params__  # set by `dataclasses.dataclass`
    return bool(parameters.frozen and parameters.eq)


def _array_key(array: Any) -> Hashable:
    if isinstance(array, np.ma.MaskedArray):
        raise StaticValueError("a masked array cannot be static: JAX has none; hold data and mask in two fields")
    # Hashed once an array: the digest stays as long as the array does.
    known = _DIGESTS.get(id(array))
    if known is not None and known[0]() is array:
        return known[1]
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        kind, content = str(array.dtype), np.asarray(jax.random.key_data(array))
    else:
        content = np.asarray(array)
        kind = str(content.dtype)
    # A weakly typed array gives way in arithmetic, and a matrix multiplies in another way.
    family = (jax.Array, array.aval.weak_type) if isinstance(array, jax.Array) else type(array)
    key = (family, kind, array.shape, hashlib.sha256(np.ascontiguousarray(content).tobytes()).digest())
    at = id(array)
    _DIGESTS[at] = (weakref.ref(array, lambda _: _DIGESTS.pop(at, None)), key)
    return key


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_KEYS: Final[dict[type, Callable[[Any], Hashable]]] = {
    int: lambda value: (int, value),
    bool: lambda value: (bool, value),
    float: lambda value: (float, value.hex()),
    complex: lambda value: (complex, value.real.hex(), value.imag.hex()),
    tuple: lambda value: (tuple, *map(static_key, value)),
}


def frozen(value: Any) -> Any:
    """`value` with read-only copies of the NumPy arrays in it: what was hashed must not change afterwards.

    Raises:
        StaticValueError: A dataclass holds an array that somebody could still write to.
    """
    if isinstance(value, np.ndarray):
        if _is_read_only(value):
            return value
        copy = value.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(value, tuple):
        items = [frozen(item) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return tuple(items) if type(value) is tuple else type(value)._make(items)  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            held = getattr(value, field.name, None)
            if frozen(held) is not held:
                raise StaticValueError(
                    f"{type(value).__name__}.{field.name} holds a NumPy array that may still be written to; copy it "
                    "and set array.flags.writeable = False, or hold a jax.Array"
                )
    return value


def _is_read_only(array: npt.NDArray[Any]) -> bool:
    """Whether nobody can write to the array's memory, also not through the array that it is a view of."""
    base = array.base
    return not array.flags.writeable and (base is None or (isinstance(base, np.ndarray) and _is_read_only(base)))
