"""Stateless tensor functions: kernel attention, per-sample convolution."""

from aw_keras.ops.attention import (
    adaptive_average_pool2d,
    attentional_kernel,
    kernel_attention,
)
from aw_keras.ops.convolution import aw_conv2d, per_sample_conv2d
from aw_keras.ops.selection import IMPLEMENTATIONS, use_implementation

__all__ = [
    "IMPLEMENTATIONS",
    "adaptive_average_pool2d",
    "attentional_kernel",
    "aw_conv2d",
    "kernel_attention",
    "per_sample_conv2d",
    "use_implementation",
]
