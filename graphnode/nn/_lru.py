"""`LRU`, a linear recurrent unit: a sequence layer with a diagonal recurrence of complex numbers."""

import functools
import math
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from .._errors import ContractError
from .._fields import Initializer, state
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, finite, positive, size
from ._dtypes import (
    at_least_float32,
    drawn,
    dtype_of,
    inexact,
    init_vars,
    of_rank,
    parameter,
    promoted,
)
from ._linear_scan import carried_on, linear_scan, with_whole_time
from ._module import Layer
from ._spread import product

Sequence: TypeAlias = Float[Array, "*batch time width"]
Element: TypeAlias = Float[Array, "*batch width"]
Carry: TypeAlias = Complex[Array, "*batch state_size"]

# `B` is complex: both of its parts together have the variance of an initialiser.
_OF_TWO_PARTS: Final = 1 / math.sqrt(2)


class _Terms(NamedTuple):
    """What the formulas are made of, for an input."""

    decay: jax.Array
    """`lambda`, in the rank of `inputs`."""
    inputs: jax.Array
    """What comes in, of shape `[..., state_size]`."""
    x: jax.Array
    """The input, in the dtype that is computed in, as what follows."""
    C_real: jax.Array
    C_imag: jax.Array
    skip: jax.Array
    dtype: Any  # NumPy's, which is generic
    """Of the result."""


class LRU(Layer):
    """A linear recurrent unit: numbers in the complex plane that turn and decay, each at a rate of its own.

        lambda = exp(-exp(nu_log) + i * exp(theta_log))
        h[t] = lambda * h[t - 1] + exp(gamma_log) * (x[t] @ B)
        y[t] = real(h[t] @ C) + skip * x[t]

    where `B` and `C` are complex; a real and an imaginary part are a parameter each. As
    `abs(lambda) < 1` whatever the parameters, nothing explodes (Orvieto et al. 2023,
    "Resurrecting Recurrent Neural Networks for Long Sequences", section 3 and appendix
    A). A whole sequence is computed at once, by `jax.lax.associative_scan`. All is
    computed in at least float32 and complex64; the dtype of the result is `dtype`, or
    what JAX promotes input and parameters to.

    Args:
        width: Features of input and output.
        state_size: Complex numbers that are carried.
        r_min: The least of the first absolute values of `lambda`.
        r_max: The largest of them, at most 1.
        max_phase: The largest of the first angles of `lambda`.
        w_init: Initialiser of `B` and `C`.
        dtype: What the result is given in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer, radii that are not
            `0 <= r_min < r_max <= 1`, a phase that is not positive; an input of another
            shape.

    Example:
        >>> layer = LRU(3, 4)
        >>> gn.eval_shape(layer, jnp.ones((2, 7, 3))).shape
        (2, 7, 3)
        >>> carry, y = layer.step(layer.initial_carry((2,)), jnp.ones((2, 3)))
        >>> y.shape
        (2, 3)
    """

    width: int
    """Features of input and output."""
    state_size: int
    """Complex numbers that are carried."""
    _: KW_ONLY
    r_min: InitVar[float] = 0.0
    """The least of the first absolute values."""
    r_max: InitVar[float] = 1.0
    """The largest of the first absolute values."""
    max_phase: InitVar[float] = 2 * math.pi
    """The largest of the first angles."""
    w_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of the weight."""
    dtype: DTypeLike | None = None
    """What the result is given in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    nu_log: ParamState[Float[Array, "hidden=state_size"]] = state(init=False)
    """The logarithm of how fast each number decays."""
    theta_log: ParamState[Float[Array, "hidden=state_size"]] = state(init=False)
    """The logarithm of how fast each number turns."""
    gamma_log: ParamState[Float[Array, "hidden=state_size"]] = state(init=False)
    """The logarithm of what the input of each number is multiplied with."""
    B_real: ParamState[Float[Array, "in=width hidden=state_size"]] = state(init=False)
    """From the input to the real parts."""
    B_imag: ParamState[Float[Array, "in=width hidden=state_size"]] = state(init=False)
    """From the input to the imaginary parts."""
    C_real: ParamState[Float[Array, "hidden=state_size out=width"]] = state(init=False)
    """From the real parts to the output."""
    C_imag: ParamState[Float[Array, "hidden=state_size out=width"]] = state(init=False)
    """From the imaginary parts to the output, which they are subtracted from."""
    skip: ParamState[Float[Array, "out=width"]] = state(init=False)
    """How much of each feature is passed on."""

    def __post_init__(
        self,
        r_min: float,
        r_max: float,
        max_phase: float,
        w_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.width = size("LRU.width", self.width)
        self.state_size = size("LRU.state_size", self.state_size)
        low, high = finite("LRU.r_min", r_min), finite("LRU.r_max", r_max)
        if not 0 <= low < high <= 1:
            raise ContractError(
                f"LRU.r_min, LRU.r_max: expected 0 <= r_min < r_max <= 1; found {r_min!r} and {r_max!r}"
            )
        phase = positive("LRU.max_phase", max_phase)
        self.dtype = inexact("LRU.dtype", self.dtype)
        of_state = (self.state_size,)

        def decays(
            key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike
        ) -> jax.Array:
            """First values of `nu_log`: `lambda` is uniform in the ring between the radii."""
            squares = low**2 + _shares(key, shape) * (high**2 - low**2)
            return jnp.log(-0.5 * jnp.log(squares)).astype(dtype)

        def angles(
            key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike
        ) -> jax.Array:
            """First values of `theta_log`: the angles are uniform."""
            return jnp.log(phase * _shares(key, shape)).astype(dtype)

        self.nu_log = parameter(decays, of_state, param_dtype)
        self.theta_log = parameter(angles, of_state, param_dtype)
        self.gamma_log = ParamState(_normalizers(self.nu_log.value))
        inward, outward = (self.width, self.state_size), (self.state_size, self.width)
        for name in ("B_real", "B_imag"):
            part = drawn(w_init, inward, param_dtype) * _OF_TWO_PARTS
            setattr(self, name, ParamState(part))
        for name in ("C_real", "C_imag"):
            setattr(self, name, parameter(w_init, outward, param_dtype))
        self.skip = parameter(jax.random.normal, (self.width,), param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variable that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.skip)

    def initial_carry(self, batch: tuple[int, ...] = ()) -> jax.Array:
        """Complex zeros of shape `[*batch, state_size]`."""
        dtype = jnp.dtype(dtype_of(self.dtype, self.skip))
        zeros = jnp.zeros((*batch, self.state_size), at_least_float32(dtype))
        return jax.lax.complex(zeros, zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `x` of shape `[..., time, width]` to the same shape.

        Raises:
            ContractError: `x` is of another shape.
        """
        check_inputs(self, x=(x, Sequence))
        return self._whole(x, None)[1]

    def run(
        self, x: Sequence, carry: Carry | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """What is carried at the end, and the outputs.

        Args:
            x: Of shape `[..., time, width]`.
            carry: What is carried into the first step; by default zeros.

        Raises:
            ContractError: An array of another shape.

        Example:
            >>> layer = LRU(3, 4)
            >>> carry, first = layer.run(jnp.ones((5, 3)))
            >>> carry, then = layer.run(jnp.ones((5, 3)), carry)
            >>> then.shape
            (5, 3)
        """
        # Any: to type checkers, the annotations of arrays are not classes.
        arrays: dict[str, tuple[jax.Array, Any]] = {"x": (x, Sequence)}
        if carry is not None:
            arrays["carry"] = (carry, Carry)
        check_inputs(self, **arrays)
        states, outputs = self._whole(x, carry)
        zeros = functools.partial(self.initial_carry, x.shape[:-2])
        return carried_on(states, carry, zeros), outputs

    def step(self, carry: Carry, x: Element) -> tuple[jax.Array, jax.Array]:
        """One step, from `carry` of shape `[..., state_size]` and `x` of shape `[..., width]`.

        Returns:
            What is carried on, and the output.

        Raises:
            ContractError: An array of another shape.
        """
        check_inputs(self, carry=(carry, Carry), x=(x, Element))
        terms = self._terms(x)
        after = terms.decay * carry.astype(terms.inputs.dtype) + terms.inputs
        return after, _outputs(after, terms)

    def _whole(
        self, x: jax.Array, carry: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """What is carried after each element of a sequence, and the outputs."""
        terms = self._terms(with_whole_time(x))
        # The same at each time
        decays = jnp.broadcast_to(terms.decay, terms.inputs.shape)
        before = None if carry is None else carry.astype(terms.inputs.dtype)
        states = linear_scan(decays, terms.inputs, before, axis=-2)
        return states, _outputs(states, terms)

    def _terms(self, x: jax.Array) -> _Terms:
        """What the formulas are made of."""
        values = promoted(
            self.dtype,
            x,
            self.nu_log.value,
            self.theta_log.value,
            self.gamma_log.value,
            self.B_real.value,
            self.B_imag.value,
            self.C_real.value,
            self.C_imag.value,
            self.skip.value,
        )
        dtype = values[0].dtype
        wide = at_least_float32(dtype)
        x, nu, theta, gamma, *in_parts, out_real, out_imag, passed = [
            value.astype(wide) for value in values
        ]
        decay = jnp.exp(jax.lax.complex(-jnp.exp(nu), jnp.exp(theta)))
        real, imag = (product(x, part) for part in in_parts)
        factor = of_rank(jnp.exp(gamma), real)
        inputs = jax.lax.complex(real * factor, imag * factor)
        return _Terms(
            of_rank(decay, inputs), inputs, x, out_real, out_imag, passed, dtype
        )


def _outputs(states: jax.Array, terms: _Terms) -> jax.Array:
    """What is given for what is carried."""
    y = product(states.real, terms.C_real) - product(states.imag, terms.C_imag)
    y = y + of_rank(terms.skip, y) * terms.x
    return y.astype(terms.dtype)


def _shares(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform numbers above 0, whose logarithms are finite."""
    least = float(np.finfo(np.float32).tiny)
    return jax.random.uniform(key, shape, jnp.float32, minval=least)


def _normalizers(nu_log: jax.Array) -> jax.Array:
    """First values of `gamma_log`, with which what is carried has the variance of what comes in."""
    wide = nu_log.astype(at_least_float32(nu_log.dtype))
    # log(sqrt(1 - abs(lambda) ** 2)), which for abs(lambda) near 1 would be lost.
    squares = -jnp.expm1(-2 * jnp.exp(wide))
    return (0.5 * jnp.log(squares)).astype(nu_log.dtype)
