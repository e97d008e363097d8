"""Convolutional networks with attention, as ordinary Keras models."""

from aw_keras import applications, explain, layers, ops, weights
from aw_keras.convert import fold_attention, to_aw
from aw_keras.exporting import export
from aw_keras.layers import AWConv2D, AWDepthwiseConv2D

__version__ = "0.1.0"

__all__ = [
    "AWConv2D",
    "AWDepthwiseConv2D",
    "applications",
    "explain",
    "export",
    "fold_attention",
    "layers",
    "ops",
    "to_aw",
    "weights",
]
