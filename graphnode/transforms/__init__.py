"""JAX's transforms for functions of nodes: one mechanism, in `_boundary`, and a page of code for each."""

from ._axes import Axes as Axes
from ._axes import axes as axes
from ._branches import cond as cond
from ._branches import switch as switch
from ._custom_jvp import custom_jvp as custom_jvp
from ._custom_vjp import custom_vjp as custom_vjp
from ._gradients import grad as grad
from ._gradients import value_and_grad as value_and_grad
from ._jacobians import hessian as hessian
from ._jacobians import jacfwd as jacfwd
from ._jacobians import jacrev as jacrev
from ._jit import Jitted as Jitted
from ._jit import jit as jit
from ._loops import fori_loop as fori_loop
from ._loops import scan as scan
from ._loops import while_loop as while_loop
from ._retrace import explain_retrace as explain_retrace
from ._vjp_jvp import jvp as jvp
from ._vjp_jvp import linearize as linearize
from ._vjp_jvp import vjp as vjp
from ._vmap import shard_map as shard_map
from ._vmap import vmap as vmap
from ._wrapped import checkify as checkify
from ._wrapped import eval_shape as eval_shape
from ._wrapped import make_jaxpr as make_jaxpr
from ._wrapped import remat as remat
