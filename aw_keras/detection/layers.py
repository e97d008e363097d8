"""AW-convolution and attention as tf_keras layers, for the Model Garden.

They have the arguments, the names of weights and the arithmetic of the layers
of the same names in `aw_keras.layers`, but variables of their own: a tf_keras
network tracks no others. Their attention is computed in float32 under every
16-bit policy too.
"""

import tensorflow as tf
import tf_keras
from keras import ops

from aw_keras import ops as aw_ops
from aw_keras.layers.aw_conv2d import attention_specs, symmetric_output_shape
from aw_keras.layers.base_attention import accurate, dense, mean
from aw_keras.ops.selection import check_implementation
from aw_keras.ops.validation import check_positive_integer, pair

_POSITIONS = (1, 2)
_CHANNELS = 3

_register = tf_keras.utils.register_keras_serializable(package="aw_keras")


@_register
class AWConv2D(tf_keras.layers.Conv2D):
    """2D convolution with attention over its weights.

    See `aw_keras.layers.AWConv2D`, which has the same weights.

    Args:
        filters: Integer, number of filters.
        kernel_size: Integer or pair of integers.
        padding: `"valid"`, `"same"` or `"symmetric"`.
        reduction: Integer, ratio of input channels to hidden units.
        attention_expand_initializer: As in `aw_keras.layers.AWConv2D`.
        implementation: `"auto"`, or one of `aw_keras.ops.IMPLEMENTATIONS`.
        **kwargs: Arguments of `tf_keras.layers.Conv2D`. `kernel_regularizer`
            is for the kernel; the attention's weights have none.

    Input shape:
        `(N, H, W, C1)`, or `(N, C1, H, W)` for channels-first.

    Output shape:
        `(N, H_out, W_out, C2)`, or `(N, C2, H_out, W_out)`.

    Raises:
        ValueError: For arguments out of range, or an input that does not fit.

    Example:

    >>> import tensorflow as tf
    >>> layer = AWConv2D(8, 3, padding="same")
    >>> tuple(layer(tf.ones((2, 5, 5, 16))).shape)
    (2, 5, 5, 8)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        *,
        padding="valid",
        reduction=16,
        attention_expand_initializer=None,
        implementation="auto",
        **kwargs,
    ):
        symmetric = str(padding).lower() == "symmetric"
        padding = "same" if symmetric else padding
        super().__init__(filters, kernel_size, padding=padding, **kwargs)
        if symmetric:
            self.padding = "symmetric"  # tf_keras refuses it.
        check_positive_integer("reduction", reduction)
        self.reduction = reduction
        self.attention_expand_initializer = tf_keras.initializers.get(
            attention_expand_initializer
        )
        self.implementation = check_implementation(implementation)

    def build(self, input_shape):
        super().build(input_shape)
        specs = attention_specs(
            self.kernel.shape,
            self.groups,
            self.reduction,
            self.attention_expand_initializer,
        )
        self._attention_weights = [
            _add_uncast(self, name, shape, initializer)
            for name, (shape, initializer) in specs.items()
        ]

    def compute_output_shape(self, input_shape):
        if self.padding == "symmetric":
            return tf.TensorShape(symmetric_output_shape(self, input_shape))
        return super().compute_output_shape(input_shape)

    @tf.autograph.experimental.do_not_convert  # There is nothing to convert.
    def convolution_op(self, inputs, kernel):
        return aw_ops.aw_conv2d(
            inputs,
            tf.convert_to_tensor(kernel),
            *map(tf.convert_to_tensor, self._attention_weights),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
            data_format=self.data_format,
            implementation=self.implementation,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "attention_expand_initializer": tf_keras.initializers.serialize(
                self.attention_expand_initializer
            ),
            "implementation": self.implementation,
        }


@_register
class SqueezeExcite(tf_keras.layers.Layer):
    """Scales every channel by a gate computed from the means of all channels.

    See `aw_keras.layers.SqueezeExcite`, which has the same weights.

    Args:
        reduction: Integer, ratio of channels to hidden units.
        kernel_regularizer: Regularizer of the kernels.
        bias_regularizer: Regularizer of the biases.
        **kwargs: Arguments of `tf_keras.layers.Layer`.

    Input shape:
        `(N, H, W, C)`.

    Output shape:
        That of the input.

    Raises:
        ValueError: If `reduction` is not a positive integer.

    Example:

    >>> import tensorflow as tf
    >>> tuple(SqueezeExcite(reduction=4)(tf.ones((2, 7, 5, 32))).shape)
    (2, 7, 5, 32)
    """

    def __init__(
        self,
        reduction=16,
        kernel_regularizer=None,
        bias_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integer("reduction", reduction)
        self.reduction = reduction
        self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = tf_keras.regularizers.get(bias_regularizer)
        self.input_spec = tf_keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        channels = input_shape[_CHANNELS]
        units = max(channels // self.reduction, 1)
        self.reduce_kernel = self._add_kernel(
            "reduce_kernel", (channels, units), "he_normal"
        )
        self.reduce_bias = self._add_bias("reduce_bias", units)
        self.expand_kernel = self._add_kernel(
            "expand_kernel", (units, channels), "glorot_uniform"
        )
        self.expand_bias = self._add_bias("expand_bias", channels)
        super().build(input_shape)

    def _add_kernel(self, name, shape, initializer):
        return _add_uncast(
            self, name, shape, initializer, self.kernel_regularizer
        )

    def _add_bias(self, name, units):
        return _add_uncast(self, name, (units,), "zeros", self.bias_regularizer)

    def call(self, inputs):
        return self._gate_channels(inputs, self._excite(_means(inputs)))

    def _excite(self, squeezed):
        """Logits `(N, C)` from one number per channel."""
        hidden = dense(squeezed, self.reduce_kernel, self.reduce_bias)
        return dense(ops.relu(hidden), self.expand_kernel, self.expand_bias)

    def _gate_channels(self, inputs, logits):
        return _gate(inputs, ops.expand_dims(logits, _POSITIONS))

    def get_config(self):
        serialize = tf_keras.regularizers.serialize
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "kernel_regularizer": serialize(self.kernel_regularizer),
            "bias_regularizer": serialize(self.bias_regularizer),
        }


@_register
class CBAM(SqueezeExcite):
    """Scales the channels, then the positions.

    See `aw_keras.layers.CBAM`, which has the same weights.

    Args:
        reduction: Integer, ratio of channels to hidden units.
        kernel_size: Integer or pair of integers, of the convolution over the
            positions.
        synchronized: Whether the batch normalisation takes the statistics of
            all replicas together.
        norm_trainable: Whether the batch normalisation trains.
        **kwargs: Arguments of `SqueezeExcite`.

    Input shape:
        `(N, H, W, C)`.

    Output shape:
        That of the input.

    Raises:
        ValueError: If `reduction` or `kernel_size` is out of range.

    Example:

    >>> import tensorflow as tf
    >>> tuple(CBAM(reduction=4)(tf.ones((2, 7, 5, 32))).shape)
    (2, 7, 5, 32)
    """

    def __init__(
        self,
        reduction=16,
        kernel_size=7,
        synchronized=False,
        norm_trainable=True,
        **kwargs,
    ):
        super().__init__(reduction, **kwargs)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.synchronized = synchronized
        self.norm_trainable = norm_trainable
        self.norm = tf_keras.layers.BatchNormalization(
            momentum=0.99,
            epsilon=1e-5,
            synchronized=synchronized,
            trainable=norm_trainable,
            dtype=self.variable_dtype,
            name="norm",
        )

    def build(self, input_shape):
        super().build(input_shape)
        self.spatial_kernel = self._add_kernel(
            "spatial_kernel", (*self.kernel_size, 2, 1), "glorot_uniform"
        )
        with tf.name_scope(self.norm.name):
            self.norm.build((None, None, None, 1))

    def call(self, inputs, training=None):
        logits = self._excite(_means(inputs)) + self._excite(
            accurate(ops.amax(inputs, _POSITIONS))
        )
        x = self._gate_channels(inputs, logits)
        maps = ops.stack(
            [mean(x, (_CHANNELS,)), accurate(ops.amax(x, _CHANNELS))], axis=-1
        )
        logits = ops.conv(
            maps,
            ops.cast(self.spatial_kernel, maps.dtype),
            padding="same",
            data_format="channels_last",
        )
        return _gate(x, self.norm(logits, training=training))

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "synchronized": self.synchronized,
            "norm_trainable": self.norm_trainable,
        }


def _add_uncast(layer, name, shape, initializer, regularizer=None):
    """A weight that is not cast to 16 bits."""
    return layer.add_weight(
        name=name,
        shape=shape,
        initializer=initializer,
        regularizer=regularizer,
        experimental_autocast=False,
    )


def _means(inputs):
    return mean(inputs, _POSITIONS)


def _gate(inputs, logits):
    """`inputs`, scaled by the sigmoid of broadcast `logits`."""
    return inputs * ops.cast(ops.sigmoid(logits), inputs.dtype)
