"""The rule of dtypes, the same for all layers, and the making of parameters.

Parameters have the dtype `param_dtype`. With `dtype` left out, a layer computes in the
dtype that JAX promotes its input and parameters to; otherwise both are cast to `dtype`
first, and the result has it.
"""

from typing import Any, TypeVar, TypeVarTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._errors import ContractError
from .._fields import Initializer
from .._state import ParamState, State
from .._stream import split_key_for
from ._spread import beside

T = TypeVar("T")


def drawn(
    initializer: Initializer, shape: tuple[int, ...], dtype: DTypeLike
) -> jax.Array:
    """What an initialiser makes of a key of the ambient random stream.

    Raises:
        ContractError: It is not a function, or the dtype is neither a floating-point
            nor a complex one.
    """
    inexact("param_dtype", dtype)
    key = split_key_for(lambda key: initializer(key, shape, dtype))
    return _call_initializer(initializer, key, shape, dtype)


def parameter(
    initializer: Initializer,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    roles: tuple[str, ...] | None = None,
) -> ParamState[jax.Array]:
    """A new parameter, whose value an initialiser draws from the ambient random stream; see `drawn`.

    Args:
        initializer: The initialiser.
        shape: Its shape.
        dtype: Its dtype.
        roles: What its axes are for, if it is something else than the annotation says.
    """
    return ParamState(drawn(initializer, shape, dtype), sharding=roles)


def optional_parameter(
    is_used: bool,
    initializer: Initializer,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    roles: tuple[str, ...] | None = None,
) -> ParamState[jax.Array] | None:
    """A new parameter, such as a bias, if the layer has it: without, nothing is drawn from the random stream."""
    return parameter(initializer, shape, dtype, roles) if is_used else None


def each(initializer: Initializer, count: int) -> Initializer:
    """An initialiser of `count` parts side by side along the last axis, each of them made by itself.

    For `GRUCell` and `LSTMCell`, which have the weights of all gates in one array: what
    most initialisers draw depends on the shape, and that of a gate is meant.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Parts side by side, each from a key of its own."""
        # The fans that an initialiser scales by are those of the part.
        part = (*shape[:-1], shape[-1] // count)
        keys = jax.random.split(key, count)
        return jnp.concatenate(
            [_call_initializer(initializer, k, part, dtype) for k in keys], -1
        )

    return init


def stacked(initializer: Initializer) -> Initializer:
    """An initialiser of parts that are stacked along the first axis, each of them made by itself.

    For `MixtureOfExperts`: an initialiser that scales by fans would count the experts
    among them.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """Parts one behind the other, each from a key of its own."""
        keys = jax.random.split(key, shape[0])
        return jnp.stack(
            [_call_initializer(initializer, k, shape[1:], dtype) for k in keys]
        )

    return init


def _call_initializer(
    initializer: Initializer, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike
) -> jax.Array:
    """What an initialiser gives for a key; its errors get a note of how it was called.

    Raises:
        ContractError: It is not a function.
    """
    if not callable(initializer):
        expected = "an initialiser, a function of key, shape and dtype"
        raise ContractError(
            f"expected {expected}; found {initializer!r}; gn.nn.initializers has some by their names"
        )
    try:
        return initializer(key, shape, dtype)
    except Exception as error:
        name = getattr(initializer, "__name__", type(initializer).__name__)
        error.add_note(
            f"the initializer {name} was called as initializer(key, {shape}, {jnp.dtype(dtype)})"
        )
        raise


def inexact(where: str, dtype: DTypeLike | None) -> "np.dtype[np.generic] | None":
    """The dtype to compute with, in the one form that compares equal to itself however it was written.

    Raises:
        ContractError: It is neither a floating-point nor a complex one.
    """
    if dtype is None:
        return None
    try:
        # NumPy's dtype: `jnp.float32` and "float32" are not equal, and would be two
        # structures.
        numpy_dtype = jnp.dtype(dtype)
    except TypeError:
        numpy_dtype = None
    if numpy_dtype is None or not jnp.issubdtype(numpy_dtype, jnp.inexact):
        raise ContractError(
            f"{where}: expected a floating-point or complex dtype; found {dtype!r}"
        )
    return numpy_dtype


_Arrays = TypeVarTuple("_Arrays")


def promoted(dtype: DTypeLike | None, /, *arrays: *_Arrays) -> tuple[*_Arrays]:
    """The arrays in `dtype`, or where it is `None` in the dtype that JAX promotes them to. A `None` stays one.

    Raises:
        ContractError: The dtype is neither a floating-point nor a complex one, as a
            view may say.
    """
    # An array comes back for each array, which no type says of a row of types.
    row: Any = arrays
    if dtype is None:
        common: Any = jnp.result_type(*[array for array in row if array is not None])
    else:
        common = inexact("dtype", dtype)
    result: Any = tuple(
        [None if array is None else array.astype(common) for array in row]
    )
    return result  # type: ignore[no-any-return]


def at_least_float32(dtype: "np.dtype[np.generic]") -> "np.dtype[np.generic]":
    """The dtype for sums, means and angles of numbers of `dtype`: half precision would count and add too coarsely."""
    # By its size: NumPy's `finfo` knows neither bfloat16 nor those of 8 bits.
    return dtype if dtype.itemsize >= 4 else np.dtype(np.float32)


def dtype_of(dtype: DTypeLike | None, weight: State[jax.Array]) -> DTypeLike:
    """The dtype of what a layer makes itself, such as a first carry: its own, or that of its parameters."""
    return weight.value.dtype if dtype is None else dtype


def value_of(state: State[T] | None) -> T | None:
    """The value of a parameter that may be left out, as a bias; `promoted` leaves its `None` as it is."""
    return None if state is None else state.value


def scalar_type(array: jax.Array | jax.ShapeDtypeStruct) -> object:
    """For `__init_vars__`: the dtype of an array as one writes it, such as `jnp.float32`.

    The array of an abstract model has nothing but a dtype and a shape.
    """
    return getattr(jnp, array.dtype.name)


def init_vars(
    weight: State[jax.Array], *bias: State[jax.Array] | None
) -> dict[str, object]:
    """The init variables of a layer that its parameters still show: `param_dtype`, and `use_bias` if it may have one.

    Args:
        weight: The weight, whose dtype tells.
        *bias: The bias, or `None` for none; left out for a layer that always has one.
    """
    variables: dict[str, object] = {"param_dtype": scalar_type(weight.value)}
    return {"use_bias": bias[0] is not None, **variables} if bias else variables


def masked(weight: jax.Array, mask: jax.Array | None) -> jax.Array:
    """`weight * mask`, if there is a mask: at each call, since an optimizer may move what is masked."""
    return weight if mask is None else weight * mask.astype(weight.dtype)


def add_bias(y: jax.Array, bias: jax.Array | None) -> jax.Array:
    """`y + bias` over the last axis, if there is a bias."""
    if bias is None:
        return y
    # Products may have another dtype than their operands: `preferred_element_type`.
    if bias.dtype != y.dtype:
        bias = bias.astype(y.dtype)
    return y + of_rank(bias, y)


def of_rank(features: jax.Array, x: jax.Array) -> jax.Array:
    """Values for each feature in the rank of `x`, as JAX may be configured to refuse rank promotion."""
    return along(features, x, tuple(range(x.ndim - features.ndim, x.ndim)))


def along(features: jax.Array, x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Values for each feature in the rank of `x`, where the features have these axes, counted from the first one."""
    others = [axis for axis in range(x.ndim) if axis not in axes]
    return beside(jnp.expand_dims(features, others), x)
