"""Layers: declared nodes, and nothing more."""

from ._batch_norm import BatchNorm as BatchNorm
from ._dropout import Dropout as Dropout
from ._linear import Linear as Linear
from ._module import Module as Module
