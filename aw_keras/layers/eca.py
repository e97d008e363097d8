"""ECA: one gate per channel, from the means of neighbouring channels."""

import math

import keras
from keras import ops

from aw_keras.layers.base_attention import BaseAttention, mean


@keras.saving.register_keras_serializable(package="aw_keras")
class EfficientChannelAttention(BaseAttention):
    """Scales every channel by a gate computed from a few channels' means.

    `x * sigmoid(convolution(mean(x)))`, with a one-dimensional convolution
    along the channels, without bias, instead of the dense layers of
    `SqueezeExcite`.

    Args:
        kernel_size: Odd integer, number of channels that a gate depends on,
            or `None` for the paper's choice: the integer part of
            `(log2(C) + 1) / 2`, plus one where that is even.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`, or `(N, C, H, W)` for channels-first. `N`, `H` and `W`
        may be unknown.

    Output shape:
        That of the input.

    Weights:
        `kernel` `(kernel_size, 1, 1)`.

    Raises:
        ValueError: If an argument is out of range, or if the input is not of
            rank 4 with a known number of channels.

    Example:

    >>> from aw_keras.layers import EfficientChannelAttention
    >>> layer = EfficientChannelAttention()
    >>> tuple(layer(keras.ops.ones((2, 7, 5, 256))).shape)
    (2, 7, 5, 256)
    >>> tuple(layer.kernel.shape)
    (5, 1, 1)

    Reference:
        [Wang et al., ECA-Net: Efficient Channel Attention for Deep
        Convolutional Neural Networks](https://arxiv.org/abs/1910.03151),
        section 3.2, with its gamma = 2 and b = 1.
    """

    def __init__(self, kernel_size=None, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        if kernel_size is not None and not _is_odd(kernel_size):
            raise ValueError(
                "Expected `kernel_size` to be `None` or an odd positive "
                f"integer. Received: kernel_size={kernel_size}"
            )
        self.kernel_size = kernel_size

    def build(self, input_shape):
        super().build(input_shape)
        size = self.kernel_size or _adaptive_kernel_size(
            input_shape[self._channel_axis]
        )
        self.kernel = self._add_attention_weight(
            "kernel", (size, 1, 1), "glorot_uniform"
        )

    def call(self, inputs):
        squeezed = mean(inputs, self._spatial_axes)
        logits = ops.conv(
            squeezed[..., None],
            ops.cast(self.kernel, squeezed.dtype),
            padding="same",
            data_format="channels_last",
        )
        return self._gate(inputs, self._per_channel(logits[..., 0]))

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}


def _is_odd(value):
    return isinstance(value, int) and value > 0 and value % 2 == 1


def _adaptive_kernel_size(channels):
    size = int((math.log2(channels) + 1) / 2)
    return size if size % 2 else size + 1
