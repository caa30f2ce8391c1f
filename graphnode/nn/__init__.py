"""Layers: declared nodes, and nothing more."""

from ._linear import Linear as Linear
from ._module import Module as Module
