"""Gather-excite: gates per channel and place, from their surroundings."""

import keras
from keras import layers, ops

from aw_keras.layers.base_attention import (
    BaseAttention,
    accurate,
    check_choice,
    mean,
)


@keras.saving.register_keras_serializable(package="aw_keras")
class GatherExcite(BaseAttention):
    """Scales every activation by a gate from its channel's surroundings.

    `x * sigmoid(upsample(gather(x)))`. `gather` summarises each channel, over
    the whole map or over windows at every `extent`-th row and column, and
    `upsample` repeats what was gathered for the next `extent` rows and
    columns.

    Without parameters (the paper's GE-theta-minus), `gather` averages over
    the map, or over those rows and columns less than `extent` away. With
    parameters (GE-theta), it is a depthwise convolution as large as the map,
    or `log2(extent)` depthwise 3x3 convolutions with stride 2; a batch
    normalisation follows each, and a ReLU all but the last.

    Args:
        extent: Integer, 0 for the whole map or the distance between windows,
            a power of two.
        parametrised: Whether `gather` is learned.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`, or `(N, C, H, W)` for channels-first. `N`, `H` and `W`
        may be unknown; `H` and `W` not with parameters and `extent=0`.

    Output shape:
        That of the input.

    Weights:
        None, or those of the depthwise convolutions `gather1_conv`, ... and
        of the batch normalisations `gather1_norm`, ...

    Raises:
        ValueError: If an argument is out of range, or if the input is not of
            rank 4 with a known number of channels, and a known height and
            width where they are needed.

    Example:

    >>> from aw_keras.layers import GatherExcite
    >>> images = keras.ops.ones((2, 8, 8, 32))
    >>> tuple(GatherExcite(extent=4, parametrised=True)(images).shape)
    (2, 8, 8, 32)

    Reference:
        [Hu et al., Gather-Excite: Exploiting Feature Context in Convolutional
        Neural Networks](https://arxiv.org/abs/1810.12348), section 3. Its
        GE-theta-plus is not offered. This library's choices are
        `padding="same"` for the strided convolutions, and where a gathered
        value goes if `extent` does not divide the size.
    """

    def __init__(
        self, extent=0, parametrised=False, data_format=None, **kwargs
    ):
        super().__init__(data_format=data_format, **kwargs)
        if not _is_extent(extent):
            raise ValueError(
                "Expected `extent` to be 0 or a power of two above 1. "
                f"Received: extent={extent}"
            )
        check_choice("parametrised", parametrised, (True, False))
        self.extent = extent
        self.parametrised = parametrised
        self.gather_layers = []

    def build(self, input_shape):
        super().build(input_shape)
        if not self.parametrised:
            return
        shape = tuple(input_shape)
        for layer in self._parametrised_gather(shape):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
            self.gather_layers.append(layer)

    def _parametrised_gather(self, input_shape):
        """Yields the layers of a learned `gather`."""
        convolutions = self.extent.bit_length() - 1
        arguments = dict(kernel_size=3, strides=2, padding="same")
        if self.extent == 0:
            size = tuple(input_shape[axis] for axis in self._spatial_axes)
            if None in size:
                raise ValueError(
                    "Expected a known height and width for a parametrised "
                    "gathering over the whole map. Received: "
                    f"input_shape={input_shape}, extent={self.extent}"
                )
            convolutions, arguments = 1, dict(kernel_size=size)
        for index in range(1, convolutions + 1):
            yield layers.DepthwiseConv2D(
                **arguments,
                use_bias=False,
                data_format=self.data_format,
                dtype=self.dtype_policy,
                name=f"gather{index}_conv",
            )
            yield layers.BatchNormalization(
                axis=self._channel_axis,
                momentum=0.9,
                epsilon=1e-5,
                dtype=self.dtype_policy,
                name=f"gather{index}_norm",
            )
            if index < convolutions:
                yield layers.ReLU(dtype=self.dtype_policy)

    def call(self, inputs, training=None):
        gathered = self._gather(inputs, training)
        if self.extent == 0:
            return self._gate(inputs, gathered)
        for axis in self._spatial_axes:
            position = ops.arange(ops.shape(inputs)[axis], dtype="int32")
            gathered = ops.take(gathered, position // self.extent, axis=axis)
        return self._gate(inputs, gathered)

    def _gather(self, inputs, training):
        if self.parametrised:
            x = inputs
            for layer in self.gather_layers:
                x = layer(x, training=training)
            return accurate(x)
        if self.extent == 0:
            return self._per_channel(mean(inputs, self._spatial_axes))
        return self._window_means(accurate(inputs))

    def _window_means(self, x):
        rows, columns = (
            _averaging(ops.shape(x)[axis], self.extent, x.dtype)
            for axis in self._spatial_axes
        )
        if self.data_format == "channels_last":
            x = ops.einsum("uh,nhwc->nuwc", rows, x)
            return ops.einsum("vw,nuwc->nuvc", columns, x)
        x = ops.einsum("uh,nchw->ncuw", rows, x)
        return ops.einsum("vw,ncuw->ncuv", columns, x)

    def get_config(self):
        return {
            **super().get_config(),
            "extent": self.extent,
            "parametrised": self.parametrised,
        }


def _is_extent(value):
    return isinstance(value, int) and (
        value == 0 or (value > 1 and value.bit_count() == 1)
    )


def _averaging(size, extent, dtype):
    """Matrix `(ceil(size / extent), size)` that averages over the windows."""
    centre = extent * ops.arange(-(-size // extent), dtype="int32")
    position = ops.arange(size, dtype="int32")
    near = ops.abs(position[None, :] - centre[:, None]) < extent
    near = ops.cast(near, dtype)
    return near / ops.sum(near, axis=1, keepdims=True)
