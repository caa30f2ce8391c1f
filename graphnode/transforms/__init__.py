"""JAX's transforms for functions of nodes: one mechanism, in `_boundary`, and a page of code for each."""

from ._jit import Jitted as Jitted
from ._jit import jit as jit
from ._retrace import explain_retrace as explain_retrace
