"""JAX's initialisers, each made once, so that files can name them and a config can tell them apart.

`jax.nn.initializers.he_normal()` makes a new function at every call. These are always
the same objects, known to `gn.config` by their names. `gn.config.register("normal_02",
jax.nn.initializers.normal(0.02))` names another.

Example:
    >>> config = gn.config.validate({"in_size": 2, "out_size": 3, "w_init": "orthogonal"}, gn.nn.Linear)
    >>> config.w_init is gn.nn.initializers.orthogonal
    True
"""

from typing import Final

from .._fields import Initializer
from .._registered import VALUES

glorot_normal: Final[Initializer] = VALUES["glorot_normal"]
"""Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", eq. 16."""
glorot_uniform: Final[Initializer] = VALUES["glorot_uniform"]
"""Uniform, with the variance of `glorot_normal`."""
he_normal: Final[Initializer] = VALUES["he_normal"]
"""He et al. 2015, "Delving Deep into Rectifiers", eq. 10."""
he_uniform: Final[Initializer] = VALUES["he_uniform"]
"""Uniform, with the variance of `he_normal`."""
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
