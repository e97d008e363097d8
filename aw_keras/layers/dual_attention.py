"""Dual attention: between all positions and between all channels."""

import keras
from keras import ops

from aw_keras.layers.base_attention import BaseAttention, accurate, dense


@keras.saving.register_keras_serializable(package="aw_keras")
class DualAttention(BaseAttention):
    """Adds weighted sums over all positions and over all channels.

    `x + position_scale * P(x) + channel_scale * C(x)`. In `P`, a position is
    the sum of the values of all positions, weighted by the softmax of
    `query_i . key_j`; queries and keys have `max(C // 8, 1)` channels. In
    `C`, a channel is the sum of all channels, weighted by the softmax of
    `-x_c . x_d`: by how little they resemble it.

    Both scales begin at zero: a new layer returns its input, and only the
    scales have a gradient in the first step.

    Memory grows with the square of the number of positions.

    Args:
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`, or `(N, C, H, W)` for channels-first. `N`, `H` and `W`
        may be unknown.

    Output shape:
        That of the input.

    Weights:
        `query_kernel` and `key_kernel` `(C, max(C // 8, 1))`, `query_bias`,
        `value_kernel` `(C, C)`, `value_bias` `(C,)`, `position_scale` `()`,
        `channel_scale` `()`.

    Raises:
        ValueError: If `data_format` is unknown, or if the input is not of
            rank 4 with a known number of channels.

    Example:

    >>> from aw_keras.layers import DualAttention
    >>> images = keras.ops.ones((2, 7, 5, 32))
    >>> tuple(DualAttention()(images).shape)
    (2, 7, 5, 32)

    Reference:
        [Fu et al., Dual Attention Network for Scene Segmentation](
        https://arxiv.org/abs/1809.02983), section 3. The sign of `-x_c . x_d`
        is that of its authors' code; the paper's text has none. Its network
        convolves before and after each of the two attentions; here they are
        one layer, which adds the input once, not twice. Keys have no bias,
        which the softmax would cancel.
    """

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[self._channel_axis]
        units = max(channels // 8, 1)
        self.query_kernel = self._add_attention_weight(
            "query_kernel", (channels, units), "glorot_uniform"
        )
        self.query_bias = self._add_attention_weight(
            "query_bias", (units,), "zeros"
        )
        self.key_kernel = self._add_attention_weight(
            "key_kernel", (channels, units), "glorot_uniform"
        )
        self.value_kernel = self._add_attention_weight(
            "value_kernel", (channels, channels), "glorot_uniform"
        )
        self.value_bias = self._add_attention_weight(
            "value_bias", (channels,), "zeros"
        )
        self.position_scale = self._add_attention_weight(
            "position_scale", (), "zeros"
        )
        self.channel_scale = self._add_attention_weight(
            "channel_scale", (), "zeros"
        )

    def call(self, inputs):
        x = self._positions(accurate(inputs))
        attended = (
            x
            + ops.cast(self.position_scale, x.dtype) * self._over_positions(x)
            + ops.cast(self.channel_scale, x.dtype) * self._over_channels(x)
        )
        return self._restore(attended, inputs)

    def _over_positions(self, x):
        similarities = ops.einsum(
            "npm,nqm->npq",
            dense(x, self.query_kernel, self.query_bias),
            dense(x, self.key_kernel),
        )
        return ops.einsum(
            "npq,nqc->npc",
            ops.softmax(similarities, axis=-1),
            dense(x, self.value_kernel, self.value_bias),
        )

    def _over_channels(self, x):
        similarities = ops.einsum("npc,npd->ncd", x, x)
        return ops.einsum(
            "ncd,npd->npc", ops.softmax(-similarities, axis=-1), x
        )
