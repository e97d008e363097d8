"""Spatial softmax attention: one map of weights per channel."""

import keras
from keras import ops

from aw_keras.layers.base_attention import (
    BaseAttention,
    accurate,
    check_choice,
)
from aw_keras.ops.validation import channels_last, pair


@keras.saving.register_keras_serializable(package="aw_keras")
class SpatialSoftmaxAttention(BaseAttention):
    """Multiplies every channel by an attention map over its positions.

    `x * H * W * softmax(convolution(x))`, the softmax over the positions of
    each of the convolution's `C` maps. `rescale=False` leaves out `H * W`,
    without which the maps sum to 1 and activations shrink with the size of
    the image.

    Args:
        kernel_size: Integer or pair of integers, of the convolution.
        rescale: Whether the maps have the mean 1 (or the sum 1).
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`, or `(N, C, H, W)` for channels-first. `N`, `H` and `W`
        may be unknown.

    Output shape:
        That of the input.

    Weights:
        `kernel` `(h, w, C, C)`.

    Raises:
        ValueError: If an argument is out of range, or if the input is not of
            rank 4 with a known number of channels.

    Example:

    >>> from aw_keras.layers import SpatialSoftmaxAttention
    >>> images = keras.ops.ones((2, 7, 5, 32))
    >>> tuple(SpatialSoftmaxAttention()(images).shape)
    (2, 7, 5, 32)

    Reference:
        Davis, Dean, Devin, Attention-Based Convolutional Neural Networks for
        Image Classification. `H * W`, the size of the kernel and one map per
        channel are this library's choices. There is no bias, which the
        softmax would cancel.
    """

    def __init__(self, kernel_size=3, rescale=True, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        check_choice("rescale", rescale, (True, False))
        self.kernel_size = pair("kernel_size", kernel_size)
        self.rescale = rescale

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[self._channel_axis]
        self.kernel = self._add_attention_weight(
            "kernel",
            (*self.kernel_size, channels, channels),
            "glorot_uniform",
        )

    def call(self, inputs):
        x = accurate(inputs)
        # Channels-last in both formats, as the softmax needs it.
        logits = ops.conv(
            channels_last(x, self.data_format),
            ops.cast(self.kernel, x.dtype),
            padding="same",
            data_format="channels_last",
        )
        batch, height, width, channels = ops.shape(logits)
        logits = ops.reshape(logits, (batch, height * width, channels))
        attention = ops.softmax(logits, axis=1)
        if self.rescale:
            attention = attention * ops.cast(height * width, x.dtype)
        return self._restore(self._positions(x) * attention, inputs)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "rescale": self.rescale,
        }
