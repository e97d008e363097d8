"""What the layers of attention over feature maps have in common.

Such a layer returns feature maps of the shape it was given. Its attention is
computed in float32 under every 16-bit dtype policy, from unrounded weights:
sums over large float16 maps overflow, and softmax and sigmoid lose what
distinguishes their larger logits.
"""

import math

import keras
from keras import ops

from aw_keras.ops.attention import accumulation_dtype
from aw_keras.ops.validation import channels_last, standard_data_format


class BaseAttention(keras.layers.Layer):
    """Base of the layers that attend to positions or channels.

    Args:
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `data_format` is unknown, or if the input is not of
            rank 4 with a known number of channels.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = standard_data_format(data_format)
        self.input_spec = keras.InputSpec(ndim=4)

    def build(self, input_shape):
        if len(input_shape) != 4 or input_shape[self._channel_axis] is None:
            raise ValueError(
                "Expected an input of rank 4 with a known number of channels. "
                f"Received: input_shape={input_shape}, "
                f"data_format={self.data_format}"
            )
        self.input_spec = keras.InputSpec(
            ndim=4, axes={self._channel_axis: input_shape[self._channel_axis]}
        )

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}

    @property
    def _channel_axis(self):
        return 3 if self.data_format == "channels_last" else 1

    @property
    def _spatial_axes(self):
        return (1, 2) if self.data_format == "channels_last" else (2, 3)

    def _add_attention_weight(self, name, shape, initializer):
        # Not cast to 16 bits: the attention is computed in float32.
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, autocast=False
        )

    def _batch_norm(self, momentum, gamma_initializer="ones"):
        """Normalises the last axis of what the attention computes."""
        return keras.layers.BatchNormalization(
            momentum=momentum,
            epsilon=1e-5,
            gamma_initializer=gamma_initializer,
            dtype=accumulation_dtype(self.variable_dtype),
            name="norm",
        )

    def _per_channel(self, values):
        """`(N, C)` in a shape that broadcasts against the input."""
        return ops.expand_dims(values, self._spatial_axes)

    def _gate(self, inputs, logits):
        """`inputs`, scaled by the sigmoid of broadcast `logits`."""
        return inputs * ops.cast(ops.sigmoid(logits), self.compute_dtype)

    def _positions(self, x):
        """Input as `(N, H * W, C)`."""
        x = channels_last(x, self.data_format)
        batch, height, width, channels = ops.shape(x)
        return ops.reshape(x, (batch, height * width, channels))

    def _restore(self, positions, inputs):
        """`(N, H * W, C)` in shape and dtype of the layer's output."""
        shape = ops.shape(inputs)
        height, width = (shape[axis] for axis in self._spatial_axes)
        x = ops.reshape(
            positions, (shape[0], height, width, positions.shape[-1])
        )
        if self.data_format == "channels_first":
            x = ops.transpose(x, (0, 3, 1, 2))
        return ops.cast(x, self.compute_dtype)


def accurate(x):
    """`x` in the dtype of the attention, float32 or float64."""
    return ops.cast(x, accumulation_dtype(x.dtype))


def mean(x, axes):
    """Mean over axes whose extents may be unknown, float32 or float64."""
    # Not keras.ops.mean, which rounds float64 under JAX.
    x = accurate(x)
    count = math.prod(ops.shape(x)[axis] for axis in axes)
    return ops.sum(x, axes) / ops.cast(count, x.dtype)


def dense(x, kernel, bias=0):
    """Last axis of `x` times `kernel`, in the dtype of `x`."""
    y = ops.einsum("...c,cd->...d", x, ops.cast(kernel, x.dtype))
    return y + ops.cast(bias, x.dtype)


def check_choice(argument, value, choices):
    if value not in choices:
        raise ValueError(
            f"Expected `{argument}` to be one of {choices}. "
            f"Received: {argument}={value}"
        )
