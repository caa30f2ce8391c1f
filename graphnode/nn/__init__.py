"""Layers: declared nodes, and nothing more."""

import sys
import typing

from . import initializers as initializers
from ._activation import Activation as Activation
from ._adaptive_pooling import AdaptiveAvgPool as AdaptiveAvgPool
from ._adaptive_pooling import AdaptiveMaxPool as AdaptiveMaxPool
from ._attention import MultiHeadAttention as MultiHeadAttention
from ._attention_base import Attention as Attention
from ._batch_norm import BatchNorm as BatchNorm
from ._bidirectional import Bidirectional as Bidirectional
from ._bilinear import Bilinear as Bilinear
from ._block import Block as Block
from ._cache import KeyValueCache as KeyValueCache
from ._cell import Cell as Cell
from ._context_cache import ContextCache as ContextCache
from ._conv import Conv as Conv
from ._conv_transpose import ConvTranspose as ConvTranspose
from ._dropout import Dropout as Dropout
from ._einsum import Einsum as Einsum
from ._embedding import Embedding as Embedding
from ._encoder_decoder import EncoderDecoder as EncoderDecoder
from ._gated_mlp import GatedMLP as GatedMLP
from ._generate import Decoder as Decoder
from ._generate import Generated as Generated
from ._generate import generate as generate
from ._group_norm import GroupNorm as GroupNorm
from ._gru_cell import GRUCell as GRUCell
from ._identity import Identity as Identity
from ._instance_norm import InstanceNorm as InstanceNorm
from ._layer_norm import LayerNorm as LayerNorm
from ._linear import Linear as Linear
from ._lora import LoRALinear as LoRALinear
from ._lora import LoRAState as LoRAState
from ._lru import LRU as LRU
from ._lstm_cell import LSTMCell as LSTMCell
from ._mamba2 import Mamba2 as Mamba2
from ._mamba2_cache import Mamba2Cache as Mamba2Cache
from ._masks import combine_masks as combine_masks
from ._masks import make_attention_mask as make_attention_mask
from ._masks import make_causal_mask as make_causal_mask
from ._masks import make_padding_mask as make_padding_mask
from ._masks import make_window_mask as make_window_mask
from ._mixture import MixtureOfExperts as MixtureOfExperts
from ._mixture import Routing as Routing
from ._mlp import MLP as MLP
from ._module import Layer as Layer
from ._module import Module as Module
from ._pooling import AvgPool as AvgPool
from ._pooling import MaxPool as MaxPool
from ._pooling import MinPool as MinPool
from ._prelu import PReLU as PReLU
from ._rg_lru import RGLRU as RGLRU
from ._rms_norm import RMSNorm as RMSNorm
from ._rnn import RNN as RNN
from ._rnn_cell import RNNCell as RNNCell
from ._rolling_cache import RollingCache as RollingCache
from ._rotary import LinearScaling as LinearScaling
from ._rotary import Llama3Scaling as Llama3Scaling
from ._rotary import Rotary as Rotary
from ._rotary import RotaryScaling as RotaryScaling
from ._rotary import YarnScaling as YarnScaling
from ._rotary import rotary as rotary
from ._sample import sample as sample
from ._score_bias import ALiBi as ALiBi
from ._score_bias import RelativePositionBias as RelativePositionBias
from ._score_bias import ScoreBias as ScoreBias
from ._sequential import Sequential as Sequential
from ._spectral_norm import SpectralNormLinear as SpectralNormLinear
from ._spiking import LIF as LIF
from ._spiking import ExponentialSynapse as ExponentialSynapse
from ._spiking import spike as spike
from ._transformer import TransformerBlock as TransformerBlock
from ._transformer_stack import TransformerStack as TransformerStack
from ._weight_norm import WeightNormLinear as WeightNormLinear

if not typing.TYPE_CHECKING:
    from .. import _foreign

    def __getattr__(name: str) -> object:
        names = dir(sys.modules[__name__.rpartition(".")[0]])
        raise _foreign.missing_name(
            __name__, name, _foreign.instead_of_layer(name, names), globals()
        )
