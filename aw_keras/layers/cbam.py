"""CBAM: gates per channel, then gates per position."""

import keras
from keras import ops

from aw_keras.layers.base_attention import accurate, mean
from aw_keras.layers.squeeze_excite import SqueezeExcite
from aw_keras.ops.validation import pair


@keras.saving.register_keras_serializable(package="aw_keras")
class CBAM(SqueezeExcite):
    """Scales the channels, then the positions.

    The gates of the channels are those of `SqueezeExcite`, with the maximum
    of every channel beside its mean: `sigmoid(mlp(mean) + mlp(max))` with one
    `mlp` for both. The gates of the positions come from the mean and the
    maximum over the channels: a convolution of these two maps to one, a batch
    normalisation and a sigmoid.

    Args:
        reduction: Integer, ratio of channels to hidden units.
        kernel_size: Integer or pair of integers, of the convolution over the
            positions.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`, or `(N, C, H, W)` for channels-first. `N`, `H` and `W`
        may be unknown.

    Output shape:
        That of the input.

    Weights:
        Those of `SqueezeExcite`; `spatial_kernel` `(h, w, 2, 1)`, the mean's
        channel first; of the batch normalisation `norm`, `gamma`, `beta`,
        `moving_mean` and `moving_variance`, all `(1,)`.

    Raises:
        ValueError: If an argument is out of range, or if the input is not of
            rank 4 with a known number of channels.

    Example:

    >>> from aw_keras.layers import CBAM
    >>> images = keras.ops.ones((2, 7, 5, 32))
    >>> tuple(CBAM(reduction=4)(images).shape)
    (2, 7, 5, 32)

    Reference:
        [Woo et al., CBAM: Convolutional Block Attention Module](
        https://arxiv.org/abs/1807.06521), section 3. The batch normalisation
        is not in its text but in its authors' code.
    """

    def __init__(self, reduction=16, kernel_size=7, data_format=None, **kwargs):
        super().__init__(reduction, data_format=data_format, **kwargs)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.norm = self._batch_norm(momentum=0.99)

    def build(self, input_shape):
        super().build(input_shape)
        self.spatial_kernel = self._add_attention_weight(
            "spatial_kernel", (*self.kernel_size, 2, 1), "glorot_uniform"
        )
        self.norm.build((None, None, None, 1))

    def call(self, inputs, training=None):
        if inputs.shape[0] == 0:
            # TensorFlow has no maximum of it, and convolves it to other shapes.
            return inputs
        axes = self._spatial_axes
        logits = self._excite(mean(inputs, axes)) + self._excite(
            accurate(ops.amax(inputs, axes))
        )
        x = self._gate(inputs, self._per_channel(logits))
        axis = self._channel_axis
        # Channels-last in both formats: its two channels cost nothing to lay
        # out so, and TensorFlow convolves nothing else on the CPU.
        maps = ops.stack(
            [mean(x, (axis,)), accurate(ops.amax(x, axis))], axis=-1
        )
        logits = ops.conv(
            maps,
            ops.cast(self.spatial_kernel, maps.dtype),
            padding="same",
            data_format="channels_last",
        )
        logits = self.norm(logits, training=training)
        return self._gate(x, ops.expand_dims(logits[..., 0], axis))

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}
