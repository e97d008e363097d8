"""Squeeze-and-excitation: one gate per channel, from global averages."""

import keras
from keras import ops

from aw_keras.layers.base_attention import BaseAttention, dense, mean
from aw_keras.ops.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="aw_keras")
class SqueezeExcite(BaseAttention):
    """Scales every channel by a gate computed from the means of all channels.

    `x * sigmoid(expand(relu(reduce(mean(x)))))`, where `reduce` and `expand`
    are dense layers with biases to `max(C // reduction, 1)` and to `C` units.

    Args:
        reduction: Integer, ratio of channels to hidden units.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`, or `(N, C, H, W)` for channels-first. `N`, `H` and `W`
        may be unknown.

    Output shape:
        That of the input.

    Weights:
        `reduce_kernel` `(C, M)`, `reduce_bias` `(M,)`, `expand_kernel`
        `(M, C)`, `expand_bias` `(C,)`.

    Raises:
        ValueError: If an argument is out of range, or if the input is not of
            rank 4 with a known number of channels.

    Example:

    >>> from aw_keras.layers import SqueezeExcite
    >>> images = keras.ops.ones((2, 7, 5, 32))
    >>> tuple(SqueezeExcite(reduction=4)(images).shape)
    (2, 7, 5, 32)

    Reference:
        [Hu et al., Squeeze-and-Excitation Networks](
        https://arxiv.org/abs/1709.01507), section 3. The biases are those of
        the published parameter counts (28.09 million for SE-ResNet-50).
    """

    def __init__(self, reduction=16, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        check_positive_integer("reduction", reduction)
        self.reduction = reduction

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[self._channel_axis]
        units = max(channels // self.reduction, 1)
        self.reduce_kernel = self._add_attention_weight(
            "reduce_kernel", (channels, units), "he_normal"
        )
        self.reduce_bias = self._add_attention_weight(
            "reduce_bias", (units,), "zeros"
        )
        self.expand_kernel = self._add_attention_weight(
            "expand_kernel", (units, channels), "glorot_uniform"
        )
        self.expand_bias = self._add_attention_weight(
            "expand_bias", (channels,), "zeros"
        )

    def call(self, inputs):
        logits = self._excite(mean(inputs, self._spatial_axes))
        return self._gate(inputs, self._per_channel(logits))

    def _excite(self, squeezed):
        """Logits `(N, C)` from one number per channel."""
        hidden = dense(squeezed, self.reduce_kernel, self.reduce_bias)
        return dense(ops.relu(hidden), self.expand_kernel, self.expand_bias)

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}
