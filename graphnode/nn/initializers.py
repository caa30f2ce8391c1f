"""JAX's initialisers, each made once, so that files can name them and a config can tell them apart.

`jax.nn.initializers.he_normal()` makes a new function at every call. These are always
the same objects, known to `gn.config` by their names. Those that take arguments are
classes, whose instances are equal by them: `TruncatedNormal(stddev=0.02)` is `{type:
truncated_normal, stddev: 0.02}` in a file. `gn.config.register("mine", initializer)`
names any other.

Example:
    >>> config = gn.config.validate({"in_size": 2, "out_size": 3, "w_init": "orthogonal"}, gn.nn.Linear)
    >>> config.w_init is gn.nn.initializers.orthogonal
    True
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Literal

import jax
from jax.typing import DTypeLike

from .._fields import Initializer
from .._registered import VALUES, by_float32

delta_orthogonal: Final[Initializer] = VALUES["delta_orthogonal"]
"""Xiao et al. 2018, "Dynamical Isometry and a Mean Field Theory of CNNs": orthogonal at the centre of a window."""
glorot_normal: Final[Initializer] = VALUES["glorot_normal"]
"""Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", eq. 16."""
glorot_uniform: Final[Initializer] = VALUES["glorot_uniform"]
"""Uniform, with the variance of `glorot_normal`."""
he_normal: Final[Initializer] = VALUES["he_normal"]
"""He et al. 2015, "Delving Deep into Rectifiers", eq. 10."""
he_uniform: Final[Initializer] = VALUES["he_uniform"]
"""Uniform, with the variance of `he_normal`."""
kaiming_normal: Final[Initializer] = he_normal
"""Another name of `he_normal`."""
kaiming_uniform: Final[Initializer] = he_uniform
"""Another name of `he_uniform`."""
lecun_normal: Final[Initializer] = VALUES["lecun_normal"]
"""LeCun et al. 1998, "Efficient BackProp", eq. 16."""
lecun_uniform: Final[Initializer] = VALUES["lecun_uniform"]
"""Uniform, with the variance of `lecun_normal`."""
normal: Final[Initializer] = VALUES["normal"]
"""Normal, with standard deviation 0.01."""
ones: Final[Initializer] = VALUES["ones"]
"""All ones."""
orthogonal: Final[Initializer] = VALUES["orthogonal"]
"""Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks"."""
truncated_normal: Final[Initializer] = VALUES["truncated_normal"]
"""Normal, cut at two standard deviations, of standard deviation 0.01 before."""
uniform: Final[Initializer] = VALUES["uniform"]
"""Uniform in [0, 0.01)."""
zeros: Final[Initializer] = VALUES["zeros"]
"""All zeros."""
xavier_normal: Final[Initializer] = glorot_normal
"""Another name of `glorot_normal`."""
xavier_uniform: Final[Initializer] = glorot_uniform
"""Another name of `glorot_uniform`."""


@dataclass(frozen=True)
class Preset(ABC):
    """An initialiser with arguments: equal by them, so that files can say it.

    Example:
        >>> text = "{in_size: 2, out_size: 3, w_init: {type: truncated_normal, stddev: 0.02}}"
        >>> config = gn.config.loads(text, gn.nn.Linear)
        >>> config.w_init == gn.nn.initializers.TruncatedNormal(stddev=0.02)
        True
    """

    def __init_subclass__(cls, *, name: str) -> None:
        super().__init_subclass__()
        # The name of the class in files, and in messages about them, is that of JAX's
        # function. Pickles and `repr` go by `__qualname__`, which stays.
        cls.__name__ = name

    @abstractmethod
    def _function(self) -> Initializer:
        """JAX's own function with these arguments."""

    def __call__(
        self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = float
    ) -> jax.Array:
        """The array, drawn with a key."""
        return self._function()(key, shape, dtype)


@dataclass(frozen=True)
class Constant(Preset, name="constant"):
    """All of one value.

    Example:
        >>> Constant(0.5)(jax.random.key(0), (2,))
        Array([0.5, 0.5], dtype=float32)
    """

    value: float
    """The value."""

    def _function(self) -> Initializer:
        return jax.nn.initializers.constant(self.value)


@dataclass(frozen=True)
class Normal(Preset, name="normal"):
    """Normal, with mean 0."""

    stddev: float = 0.01
    """The standard deviation."""

    def _function(self) -> Initializer:
        return jax.nn.initializers.normal(self.stddev)


@dataclass(frozen=True)
class TruncatedNormal(Preset, name="truncated_normal"):
    """Normal with mean 0, cut at some standard deviations."""

    stddev: float = 0.01
    """The standard deviation before."""
    lower: float = -2.0
    """Where it is cut below, in standard deviations."""
    upper: float = 2.0
    """Where it is cut above, in standard deviations."""

    def _function(self) -> Initializer:
        return jax.nn.initializers.truncated_normal(
            self.stddev, lower=self.lower, upper=self.upper
        )


@dataclass(frozen=True)
class Uniform(Preset, name="uniform"):
    """Uniform in [0, scale)."""

    scale: float = 0.01
    """Where it ends."""

    def _function(self) -> Initializer:
        return jax.nn.initializers.uniform(self.scale)


@dataclass(frozen=True)
class VarianceScaling(Preset, name="variance_scaling"):
    """Of variance `scale / n`, where `n` is the number of inputs or outputs, or a mean of both.

    All of `glorot_*`, `he_*` and `lecun_*` are of this kind: He et al. 2015, "Delving
    Deep into Rectifiers", eq. 10, is scale 2 with the mode `"fan_in"`.
    """

    scale: float
    """What the variance is multiplied with."""
    mode: Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
    """What `n` is: inputs, outputs, their mean or their geometric mean."""
    distribution: Literal["truncated_normal", "normal", "uniform"]
    """How the numbers are distributed."""
    in_axis: int | tuple[int, ...] = -2
    """The axes of the inputs."""
    out_axis: int | tuple[int, ...] = -1
    """The axes of the outputs."""
    batch_axis: int | tuple[int, ...] = ()
    """Axes that count neither among inputs nor outputs."""

    def _function(self) -> Initializer:
        return jax.nn.initializers.variance_scaling(
            self.scale,
            self.mode,
            self.distribution,
            self.in_axis,
            self.out_axis,
            self.batch_axis,
        )


@dataclass(frozen=True)
class Orthogonal(Preset, name="orthogonal"):
    """Orthogonal rows or columns: Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning"."""

    scale: float = 1.0
    """What the matrix is multiplied with."""
    column_axis: int = -1
    """The axis of the columns."""

    def _function(self) -> Initializer:
        return jax.nn.initializers.orthogonal(self.scale, self.column_axis)

    def __call__(
        self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = float
    ) -> jax.Array:
        """The array, drawn with a key; of half precision by way of float32."""
        return by_float32(self._function(), key, shape, dtype)


@dataclass(frozen=True)
class DeltaOrthogonal(Orthogonal, name="delta_orthogonal"):
    """Orthogonal at the centre of a window, and 0 around it.

    Xiao et al. 2018, "Dynamical Isometry and a Mean Field Theory of CNNs".
    """

    def _function(self) -> Initializer:
        return jax.nn.initializers.delta_orthogonal(self.scale, self.column_axis)
