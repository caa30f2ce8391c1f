"""Spiking neurons: `spike`, which has a surrogate derivative, `LIF` neurons, and `ExponentialSynapse` between them."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from .._errors import ContractError
from .._fields import Initializer, state, static
from .._registered import VALUES
from .._signals import write_all
from .._state import HiddenState, ParamState
from . import initializers
from ._checks import check_inputs, finite, positive, size
from ._dtypes import init_vars, parameter
from ._module import Module
from ._spread import product

Input: TypeAlias = Float[Array, "size"]
Before: TypeAlias = Float[Array, "n_before"]
After: TypeAlias = Float[Array, "n_after"]


@jax.custom_jvp
def _spike(x: jax.Array) -> jax.Array:
    """The step at 0, with a surrogate derivative; `spike` is the function that users name."""
    return jnp.greater_equal(x, 0).astype(jnp.result_type(x))


@_spike.defjvp
def _spike_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The step, and its surrogate derivative along a tangent."""
    (x,), (dx,) = primals, tangents
    return _spike(x), dx / (1.0 + jnp.abs(x)) ** 2


def spike(x: jax.Array) -> jax.Array:
    """1 where `x >= 0`, else 0, in the dtype of `x`; with a derivative to train networks by.

    The true derivative is zero nearly everywhere. In its place stands `1 / (1 +
    |x|)**2`, that of a fast sigmoid (Zenke & Ganguli 2018, "SuperSpike", section
    3.3.2), where `x` is how far a voltage is above the threshold: it is half its
    largest at a distance of 0.41. Where thresholds are far above or below 1, scale `x`:
    `lambda x: spike(10 * x)`.

    Example:
        >>> gn.nn.spike(jnp.array([-1.0, 0.0, 3.0]))
        Array([0., 1., 1.], dtype=float32)
        >>> jax.vmap(jax.grad(gn.nn.spike))(jnp.array([-1.0, 0.0, 3.0]))
        Array([0.25  , 1.    , 0.0625], dtype=float32)
    """
    return _spike(x)


# Configurations, and the JSON of graphdefs, name the static value of a field.
VALUES.setdefault("spike", spike)


class LIF(Module):
    """A population of leaky integrate-and-fire neurons, which a call moves on by one time step.

    Between spikes, `tau * dV/dt = -(V - v_rest) + resistance * current`. It is
    integrated exactly for a current that is constant over the step (Rotter & Diesmann
    1999, "Exact digital simulation of time-invariant linear systems"):

        V = v_inf + (V - v_inf) * exp(-dt / tau),    v_inf = v_rest + resistance * current

    Then `jump` is added, what arrives through synapses without a time course. A neuron
    that is at the threshold now, or above it, spikes: it is set to `v_reset`, and stays
    there for `t_refractory`, whatever arrives. So under a constant current it spikes
    every `t_refractory + tau * log((v_inf - v_reset) / (v_inf - v_threshold))`, rounded
    up to a step.

    Times are in ms, voltages in mV, the resistance in MΩ and currents in nA; or in any
    other units that agree. States have JAX's default floating-point dtype, inputs are
    converted to it. Gradients pass the threshold through `spike`; none passes through
    the reset, which Zenke & Vogels 2021 ("The Remarkable Robustness of Surrogate
    Gradient Learning") found to train better. For a batch, `gn.vmap`.

    Args:
        size: The number of neurons.
        tau: Time constant of the membrane, in ms.
        v_rest: What the voltage decays to without any input, in mV.
        v_reset: The voltage after a spike, in mV.
        v_threshold: The voltage of a spike, in mV.
        t_refractory: How long the voltage stays at `v_reset` after a spike, in ms: a
            multiple of `dt`.
        resistance: Of the membrane, in MΩ.
        dt: The time step, in ms.
        spike: From the distance to the threshold to spikes, 1 or 0; what gradients pass
            through.

    Raises:
        ContractError: A size that is not a positive integer, a time constant or time
            step that is not positive, a voltage that is not finite, a `v_reset` that is
            not below `v_threshold`, a `t_refractory` that is not a multiple of `dt`; an
            input of another size or dtype.

    Example:
        >>> neurons = gn.nn.LIF(2, tau=10.0, dt=1.0, v_threshold=1.0)
        >>> for _ in range(3):
        ...     spikes = neurons(jnp.array([1.0, 4.0]))
        ...     print(spikes, *[f"{v:.3f}" for v in neurons.voltage.value])
        [0. 0.] 0.095 0.381
        [0. 0.] 0.181 0.725
        [0. 1.] 0.259 0.000
    """

    size: int
    """The number of neurons."""
    _: KW_ONLY
    tau: float = 20.0
    """Time constant of the membrane, in ms."""
    v_rest: float = 0.0
    """What the voltage decays to without any input, in mV."""
    v_reset: float = 0.0
    """The voltage after a spike, in mV."""
    v_threshold: float = 20.0
    """The voltage of a spike, in mV."""
    t_refractory: float = 0.0
    """How long the voltage stays at `v_reset` after a spike, in ms: a multiple of `dt`."""
    resistance: float = 1.0
    """Of the membrane, in MΩ."""
    dt: float = 0.1
    """The time step, in ms."""
    spike: Callable[[jax.Array], jax.Array] = static(default=spike)
    """From the distance to the threshold to spikes, 1 or 0; what gradients pass through."""
    voltage: HiddenState[Float[Array, "neurons=size"]] = state(
        jax.nn.initializers.zeros
    )
    """In mV."""
    refractory: HiddenState[Int[Array, "neurons=size"]] = state(
        jax.nn.initializers.zeros
    )
    """For how many more steps each neuron stays at `v_reset`."""
    spikes: HiddenState[Float[Array, "neurons=size"]] = state(jax.nn.initializers.zeros)
    """What the last call returned."""

    def __post_init__(self) -> None:
        self.size = size("LIF.size", self.size)
        for name in ("tau", "resistance", "dt"):
            setattr(self, name, positive(f"LIF.{name}", getattr(self, name)))
        for name in ("v_rest", "v_reset", "v_threshold"):
            setattr(self, name, finite(f"LIF.{name}", getattr(self, name)))
        if not self.v_reset < self.v_threshold:
            raise ContractError(
                f"LIF.v_reset: expected less than v_threshold={self.v_threshold}; found {self.v_reset}"
            )
        self.t_refractory = finite("LIF.t_refractory", self.t_refractory)
        if self.t_refractory < 0 or not math.isclose(
            # Close is enough: 0.3 is not three times 0.1 to a computer.
            self.t_refractory,
            self._refractory_steps * self.dt,
            abs_tol=1e-9,
        ):
            raise ContractError(
                f"LIF.t_refractory: expected a multiple of dt={self.dt}; found {self.t_refractory}"
            )
        self.reset()

    @property
    def _refractory_steps(self) -> int:
        """How many steps a neuron stays at `v_reset` after a spike: `t_refractory` in units of `dt`."""
        return round(self.t_refractory / self.dt)

    def reset(self) -> None:
        """Set all neurons to `v_rest`, as if none had spiked."""
        at_rest = jnp.full_like(self.voltage.value, self.v_rest)
        none_left, no_spikes = (
            jnp.zeros_like(self.refractory.value),
            jnp.zeros_like(self.spikes.value),
        )
        write_all(
            (self.voltage, self.refractory, self.spikes),
            (at_rest, none_left, no_spikes),
        )

    def __call__(
        self, current: Input | None = None, *, jump: Input | None = None
    ) -> Input:
        """Move on by one time step.

        Args:
            current: Of shape `[size]`, in nA; none if it is left out.
            jump: Of shape `[size]`, in mV: added to the voltage at the end of the step.

        Returns:
            1 where a neuron spikes, else 0; of shape `[size]`.

        Raises:
            ContractError: `current` or `jump` has another shape, or is not of a
                floating-point dtype.
            TraceError: A JAX transformation runs that the neurons were not passed into.
        """
        inputs = {"current": current, "jump": jump}
        check_inputs(
            self, **{n: (x, Input) for n, x in inputs.items() if x is not None}
        )
        v, left = self.voltage.value, self.refractory.value
        v_inf: float | jax.Array = self.v_rest
        if current is not None:
            v_inf = v_inf + self.resistance * current.astype(v.dtype)
        # A number of Python: weak, so that the voltage keeps its dtype.
        v = v_inf + math.exp(-self.dt / self.tau) * (v - v_inf)
        if jump is not None:
            v = v + jump.astype(v.dtype)
        # Before the threshold is asked for: whatever arrives, a refractory neuron does
        # not spike.
        v = jnp.where(left > 0, self.v_reset, v)
        spikes = self.spike(v - self.v_threshold)
        # The reset is a choice, and not a product with `spikes`: no gradient passes
        # through it.
        is_spiking = spikes > 0
        v = jnp.where(is_spiking, self.v_reset, v)
        left = jnp.where(is_spiking, self._refractory_steps, jnp.maximum(left - 1, 0))
        # All or none: after an error, the neurons are as before the step.
        write_all((self.voltage, self.refractory, self.spikes), (v, left, spikes))
        return spikes


class ExponentialSynapse(Module):
    """Connections whose currents jump with each spike, and decay.

    A call moves on by one time step: `current = current * exp(-dt / tau) + spikes @
    weight`, the exact solution of `tau * dI/dt = -I` between spikes (Rotter & Diesmann
    1999, as for `LIF`). Currents have the dtype of the weight, inputs are converted to
    it. With the units of `LIF`, both are in nA.

    Args:
        n_before: The number of neurons that send spikes.
        n_after: The number of neurons that get the current.
        tau: Time constant of the current, in ms.
        dt: The time step, in ms.
        w_init: Initialiser of the weight.
        param_dtype: Dtype of the weight and of the currents.

    Raises:
        ContractError: A number of neurons that is not a positive integer, a time
            constant or time step that is not positive; an input of another size or
            dtype.

    Example:
        >>> before, after = gn.nn.LIF(2), gn.nn.LIF(3)
        >>> synapse = gn.nn.ExponentialSynapse(2, 3, tau=1.0, dt=1.0, w_init=jax.nn.initializers.ones)
        >>> synapse(jnp.array([1.0, 1.0]))
        Array([2., 2., 2.], dtype=float32)
        >>> synapse(before.spikes.value).round(3)
        Array([0.736, 0.736, 0.736], dtype=float32)
        >>> after(synapse.current.value)
        Array([0., 0., 0.], dtype=float32)
    """

    n_before: int
    """The number of neurons that send spikes."""
    n_after: int
    """The number of neurons that get the current."""
    _: KW_ONLY
    tau: float = 5.0
    """Time constant of the current, in ms."""
    dt: float = 0.1
    """The time step, in ms."""
    w_init: InitVar[Initializer] = initializers.lecun_normal
    param_dtype: InitVar[DTypeLike] = jnp.float32
    weight: ParamState[Float[Array, "before=n_before after=n_after"]] = state(
        init=False
    )
    """How far one spike moves the current, in nA."""
    current: HiddenState[Float[Array, "after=n_after"]] = state(init=False)
    """In nA; what the last call returned."""

    def __post_init__(self, w_init: Initializer, param_dtype: DTypeLike) -> None:
        for name in ("n_before", "n_after"):
            setattr(self, name, size(f"ExponentialSynapse.{name}", getattr(self, name)))
        for name in ("tau", "dt"):
            setattr(
                self, name, positive(f"ExponentialSynapse.{name}", getattr(self, name))
            )
        self.weight = parameter(w_init, (self.n_before, self.n_after), param_dtype)
        self.current = HiddenState(jnp.zeros(self.n_after, param_dtype))

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight)

    def reset(self) -> None:
        """Set all currents to zero."""
        self.current.value = jnp.zeros_like(self.current.value)

    def __call__(self, spikes: Before) -> After:
        """Move on by one time step.

        Args:
            spikes: Of shape `[n_before]`: 1 where a neuron spikes, else 0.

        Returns:
            The current, of shape `[n_after]`.

        Raises:
            ContractError: `spikes` has another shape, or is not of a floating-point
                dtype.
            TraceError: A JAX transformation runs that the synapses were not passed
                into.
        """
        check_inputs(self, spikes=(spikes, Before))
        weight = self.weight.value
        arriving = product(spikes.astype(weight.dtype), weight)
        self.current.value = current = (
            math.exp(-self.dt / self.tau) * self.current.value + arriving
        )
        return current
