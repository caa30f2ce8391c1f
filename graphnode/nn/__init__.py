"""Layers: declared nodes, and nothing more."""

from ._batch_norm import BatchNorm as BatchNorm
from ._dropout import Dropout as Dropout
from ._linear import Linear as Linear
from ._module import Module as Module
from ._spiking import LIF as LIF
from ._spiking import ExponentialSynapse as ExponentialSynapse
from ._spiking import spike as spike
