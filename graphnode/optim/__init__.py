"""Optimizers as nodes: an optax transformation whose memory mirrors the States of a model."""

from . import _json as _json  # optimizers in the JSON of graphdefs
from ._calls import call as call
from ._labels import labels as labels
from ._lookahead import lookahead as lookahead
from ._memory import Transformation as Transformation
from ._optimizer import Optimizer as Optimizer
from ._optimizer import OptimizerState as OptimizerState
from ._parameters import Schedule as Schedule
