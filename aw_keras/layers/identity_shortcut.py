"""The parameter-free shortcut of the CIFAR residual networks.

Where a residual block halves its maps and doubles its channels, He et al.
(option A) still add the block's input itself: every second pixel of it, with
zeros for the channels that it does not have. Which channels these are is left
open; a trained network depends on it.
"""

import keras
from keras import layers, ops

from aw_keras.ops.validation import (
    check_positive_integer,
    standard_data_format,
)


@keras.saving.register_keras_serializable(package="aw_keras")
class IdentityShortcut(layers.Layer):
    """Subsamples the positions and pads the channels with zeros.

    The result is the input at every `strides`-th row and column, beginning
    with the first, and channels of zeros up to `filters`: all of them behind
    it, or half of them in front of it.

    Args:
        filters: Integer, number of output channels, at least as many as the
            input has.
        strides: Integer, distance between the rows and columns that are kept.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        centered: Whether half of the channels of zeros are in front of the
            input's own, the smaller half of an odd number.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` with `"channels_first"`.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`, or
        channels first in the same way.

    Raises:
        ValueError: If `filters` or `strides` is not a positive integer, if
            `data_format` is unknown, or if the input has more channels than
            `filters` or an unknown number of them.

    Reference:
        [He et al., Deep Residual Learning for Image Recognition](
        https://arxiv.org/abs/1512.03385), section 4.2, option A.

    Example:

    >>> from aw_keras.layers.identity_shortcut import IdentityShortcut
    >>> images = keras.ops.ones((2, 7, 7, 16))
    >>> tuple(IdentityShortcut(32, strides=2)(images).shape)
    (2, 4, 4, 32)
    """

    def __init__(
        self, filters, strides=1, data_format=None, *, centered=False, **kwargs
    ):
        super().__init__(**kwargs)
        check_positive_integer("filters", filters)
        check_positive_integer("strides", strides)
        self.filters = filters
        self.strides = strides
        self.centered = centered
        self.data_format = standard_data_format(data_format)
        self.input_spec = layers.InputSpec(ndim=4)

    def build(self, input_shape):
        channels = input_shape[self._channel_axis]
        if channels is None or channels > self.filters:
            raise ValueError(
                "Expected an input of at most `filters` channels. Received: "
                f"input_shape={input_shape}, filters={self.filters}"
            )

    def call(self, inputs):
        every = slice(None, None, self.strides)
        padding = [[0, 0]] * 4
        zeros = self.filters - inputs.shape[self._channel_axis]
        front = zeros // 2 if self.centered else 0
        padding[self._channel_axis] = [front, zeros - front]
        if self.data_format == "channels_last":
            return ops.pad(inputs[:, every, every, :], padding)
        return ops.pad(inputs[:, :, every, every], padding)

    def compute_output_shape(self, input_shape):
        shape = [
            None if size is None else -(-size // self.strides)
            for size in input_shape
        ]
        shape[0] = input_shape[0]
        shape[self._channel_axis] = self.filters
        return tuple(shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "centered": self.centered,
            "data_format": self.data_format,
        }

    @property
    def _channel_axis(self):
        return 3 if self.data_format == "channels_last" else 1
