"""Keras layers."""

from aw_keras.layers.aw_conv2d import AWConv2D
from aw_keras.layers.aw_depthwise_conv2d import AWDepthwiseConv2D
from aw_keras.layers.identity_shortcut import IdentityShortcut

__all__ = ["AWConv2D", "AWDepthwiseConv2D", "IdentityShortcut"]
