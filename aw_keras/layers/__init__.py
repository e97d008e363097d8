"""Keras layers."""

from aw_keras.layers.attention_registry import (
    attention_layer,
    attention_names,
    register_attention,
)
from aw_keras.layers.aw_conv2d import AWConv2D
from aw_keras.layers.aw_depthwise_conv2d import AWDepthwiseConv2D
from aw_keras.layers.cbam import CBAM
from aw_keras.layers.dual_attention import DualAttention
from aw_keras.layers.eca import EfficientChannelAttention
from aw_keras.layers.gather_excite import GatherExcite
from aw_keras.layers.identity_shortcut import IdentityShortcut
from aw_keras.layers.non_local import NonLocal
from aw_keras.layers.sca import SpatialChannelAttention
from aw_keras.layers.spatial_softmax import SpatialSoftmaxAttention
from aw_keras.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "AWConv2D",
    "AWDepthwiseConv2D",
    "CBAM",
    "DualAttention",
    "EfficientChannelAttention",
    "GatherExcite",
    "IdentityShortcut",
    "NonLocal",
    "SpatialChannelAttention",
    "SpatialSoftmaxAttention",
    "SqueezeExcite",
    "attention_layer",
    "attention_names",
    "register_attention",
]
