"""Layers that several plugins share, and the one builder of projection and prediction heads.

Each exists because the stock layer is slower, or wrong for self-supervision. Where there is a stock layer, weights and
configuration carry its names, so that weights move both ways.
"""

from kzoo.layers.batch_norm import BatchNormalization, swap_batch_normalization
from kzoo.layers.closed_form import LayerNormalization, gelu
from kzoo.layers.dropout import Dropout
from kzoo.layers.heads import UnitDense, mlp_head
from kzoo.layers.inputs import image_input
from kzoo.layers.scope import dropout_keys, split_batch_statistics
from kzoo.layers.transformer import SelfAttention, TransformerBlock
from kzoo.system.private import every_layer

__all__ = [
    "BatchNormalization",
    "Dropout",
    "LayerNormalization",
    "SelfAttention",
    "TransformerBlock",
    "UnitDense",
    "dropout_keys",
    "every_layer",
    "gelu",
    "image_input",
    "mlp_head",
    "split_batch_statistics",
    "swap_batch_normalization",
]
