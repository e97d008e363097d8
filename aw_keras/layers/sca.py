"""SCA: softmax over the channels, then softmax over the positions."""

import keras
from keras import ops

from aw_keras.layers.base_attention import (
    BaseAttention,
    accurate,
    dense,
    mean,
)
from aw_keras.ops.backends import active
from aw_keras.ops.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="aw_keras")
class SpatialChannelAttention(BaseAttention):
    """Scales the channels, then the positions, each by a softmax.

    The channels are multiplied by `C * softmax(channel(m))` of their means
    `m`, and the positions of the result, `y`, by
    `H * W * softmax(spatial(y))`. Both factors are 1 on average. `channel`
    and `spatial` are a hidden layer of `M` units with tanh, and a weighted
    sum of the units; `channel` sees one number, a channel's mean, `spatial`
    the `C` numbers of a position.

    Args:
        reduction: Integer, `M = max(C // reduction, 1)`.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`, or `(N, C, H, W)` for channels-first. `N`, `H` and `W`
        may be unknown.

    Output shape:
        That of the input.

    Weights:
        `channel_kernel` `(1, M)`, `channel_bias` `(M,)`,
        `channel_score_kernel` `(M, 1)`, `spatial_kernel` `(C, M)`,
        `spatial_bias` `(M,)`, `spatial_score_kernel` `(M, 1)`.

    Raises:
        ValueError: If an argument is out of range, or if the input is not of
            rank 4 with a known number of channels.

    Example:

    >>> from aw_keras.layers import SpatialChannelAttention
    >>> images = keras.ops.ones((2, 7, 5, 32))
    >>> tuple(SpatialChannelAttention(reduction=4)(images).shape)
    (2, 7, 5, 32)

    Reference:
        [Chen et al., SCA-CNN: Spatial and Channel-wise Attention in
        Convolutional Networks for Image Captioning](
        https://arxiv.org/abs/1611.05594), section 3, in the order
        channel-wise, spatial. There is no sentence to attend by in
        classification: the hidden layers lack the term of the language
        model's state. `M` is 512 there, and follows `C` here. The factors `C`
        and `H * W` are those of its authors' code. The sums have no bias,
        which the softmax would cancel.
    """

    def __init__(self, reduction=16, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        check_positive_integer("reduction", reduction)
        self.reduction = reduction

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[self._channel_axis]
        units = max(channels // self.reduction, 1)
        self.channel_kernel = self._add_attention_weight(
            "channel_kernel", (1, units), "glorot_uniform"
        )
        self.channel_bias = self._add_attention_weight(
            "channel_bias", (units,), "zeros"
        )
        self.channel_score_kernel = self._add_attention_weight(
            "channel_score_kernel", (units, 1), "glorot_uniform"
        )
        self.spatial_kernel = self._add_attention_weight(
            "spatial_kernel", (channels, units), "glorot_uniform"
        )
        self.spatial_bias = self._add_attention_weight(
            "spatial_bias", (units,), "zeros"
        )
        self.spatial_score_kernel = self._add_attention_weight(
            "spatial_score_kernel", (units, 1), "glorot_uniform"
        )

    def call(self, inputs):
        x = self._positions(accurate(inputs))
        of_channels = _attention(
            mean(x, (1,))[..., None],
            self.channel_kernel,
            self.channel_bias,
            self.channel_score_kernel,
        )
        x = x * ops.swapaxes(of_channels, 1, 2)
        of_positions = _attention(
            x,
            self.spatial_kernel,
            self.spatial_bias,
            self.spatial_score_kernel,
        )
        return self._restore(x * of_positions, inputs)

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}


def _attention(x, kernel, bias, score_kernel):
    """Factors `(N, K, 1)`, 1 on average, for the `K` vectors in `x`."""
    # Not keras.ops.tanh, which rounds float64 under JAX.
    hidden = active.tanh(dense(x, kernel, bias))
    attention = ops.softmax(dense(hidden, score_kernel), axis=1)
    return attention * ops.cast(ops.shape(x)[1], x.dtype)
