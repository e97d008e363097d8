"""The non-local block: every position sees every other one."""

import keras
from keras import ops

from aw_keras.layers.base_attention import (
    BaseAttention,
    accurate,
    check_choice,
    dense,
)
from aw_keras.ops.validation import channels_last, check_positive_integer

_MODES = ("embedded_gaussian", "dot_product")


@keras.saving.register_keras_serializable(package="aw_keras")
class NonLocal(BaseAttention):
    """Adds to every position a weighted mean over all positions.

    `x + norm(out(sum_j f(x_i, x_j) g(x_j)))` for every position `i`. With
    `mode="embedded_gaussian"`, the weights `f` are the softmax over `j` of
    `theta(x_i) . phi(x_j) / sqrt(M)`; with `"dot_product"`, they are
    `theta(x_i) . phi(x_j)` divided by the number of positions `j`.

    `theta`, `phi` and `g` are pointwise convolutions to `M` channels, `out`
    is one to `C`. The scale of the batch normalisation begins at zero: a new
    layer returns its input, and only `gamma` and `beta` have a gradient in
    the first step.

    Memory grows with the square of the number of positions; `subsample=True`
    divides it by four.

    Args:
        inner_channels: Integer `M`, or `None` for `max(C // 2, 1)`.
        mode: `"embedded_gaussian"` or `"dot_product"`.
        subsample: Whether `phi` and `g` see the maximum of 2x2 positions
            instead of every position.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`, or `(N, C, H, W)` for channels-first. `N`, `H` and `W`
        may be unknown.

    Output shape:
        That of the input.

    Weights:
        `theta_kernel`, `phi_kernel` and `g_kernel` `(C, M)`, `out_kernel`
        `(M, C)`; of the batch normalisation `norm`, `gamma`, `beta`,
        `moving_mean` and `moving_variance`, all `(C,)`.

    Raises:
        ValueError: If an argument is out of range, or if the input is not of
            rank 4 with a known number of channels.

    Example:

    >>> from aw_keras.layers import NonLocal
    >>> images = keras.ops.ones((2, 7, 5, 32))
    >>> tuple(NonLocal(subsample=True)(images).shape)
    (2, 7, 5, 32)

    Reference:
        [Wang et al., Non-local Neural Networks](
        https://arxiv.org/abs/1711.07971), section 3. The division by
        `sqrt(M)` is that of its authors' code. The convolutions have no bias:
        the softmax or the normalisation cancels all but that of `theta`.
    """

    def __init__(
        self,
        inner_channels=None,
        mode="embedded_gaussian",
        subsample=False,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        if inner_channels is not None:
            check_positive_integer("inner_channels", inner_channels)
        check_choice("mode", mode, _MODES)
        check_choice("subsample", subsample, (True, False))
        self.inner_channels = inner_channels
        self.mode = mode
        self.subsample = subsample
        self.norm = self._batch_norm(momentum=0.9, gamma_initializer="zeros")

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[self._channel_axis]
        inner = self.inner_channels or max(channels // 2, 1)
        self.theta_kernel, self.phi_kernel, self.g_kernel = (
            self._add_attention_weight(
                f"{name}_kernel", (channels, inner), "glorot_uniform"
            )
            for name in ("theta", "phi", "g")
        )
        self.out_kernel = self._add_attention_weight(
            "out_kernel", (inner, channels), "glorot_uniform"
        )
        self.norm.build((None, None, channels))

    def call(self, inputs, training=None):
        x = accurate(inputs)
        positions = self._positions(x)
        context = self._positions(self._subsampled(x))
        similarities = ops.einsum(
            "npm,nqm->npq",
            dense(positions, self.theta_kernel),
            dense(context, self.phi_kernel),
        )
        means = ops.einsum(
            "npq,nqm->npm",
            self._weights_of_positions(similarities),
            dense(context, self.g_kernel),
        )
        residual = self.norm(dense(means, self.out_kernel), training=training)
        return self._restore(positions + residual, inputs)

    def _subsampled(self, x):
        if not self.subsample:
            return x
        x = channels_last(x, self.data_format)
        x = ops.max_pool(
            x, (2, 2), (2, 2), padding="same", data_format="channels_last"
        )
        if self.data_format == "channels_last":
            return x
        return ops.transpose(x, (0, 3, 1, 2))

    def _weights_of_positions(self, similarities):
        if self.mode == "embedded_gaussian":
            scale = self.theta_kernel.shape[1] ** -0.5
            return ops.softmax(scale * similarities, axis=-1)
        count = ops.cast(ops.shape(similarities)[-1], similarities.dtype)
        return similarities / count

    def get_config(self):
        return {
            **super().get_config(),
            "inner_channels": self.inner_channels,
            "mode": self.mode,
            "subsample": self.subsample,
        }
