"""Depthwise AW-convolution: one recalibrated kernel per input channel."""

import keras
from keras import initializers

from aw_keras.layers.aw_conv2d import AWConv2D
from aw_keras.ops.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="aw_keras")
class AWDepthwiseConv2D(AWConv2D):
    """`AWConv2D` in as many groups as the input has channels.

    It has the signature of `keras.layers.DepthwiseConv2D` and the weights of
    `AWConv2D`: the depthwise kernel `(h, w, C1, depth_multiplier)` of Keras is
    `kernel` `(h, w, 1, C1 * depth_multiplier)` here, with the same order of
    elements.

    Args:
        kernel_size: Integer or pair of integers, `(h, w)`.
        strides: Integer or pair of integers.
        padding: `"valid"`, `"same"` or `"symmetric"`; see `AWConv2D`.
        depth_multiplier: Integer, output channels per input channel.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.
        dilation_rate: Integer or pair of integers.
        activation: Activation function, or `None`.
        use_bias: Whether to add a bias to the output.
        depthwise_initializer: Initializer of the kernel, called with the shape
            `(h, w, C1, depth_multiplier)`.
        bias_initializer: Initializer of the bias.
        depthwise_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the output.
        depthwise_constraint: Constraint on the kernel.
        bias_constraint: Constraint on the bias.
        reduction: Integer, ratio of input channels to hidden units.
        attention_expand_initializer: As in `AWConv2D`.
        implementation: `"auto"`, or one of `aw_keras.ops.IMPLEMENTATIONS`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, H, W, C1)`, or `(N, C1, H, W)` for channels-first.

    Output shape:
        `(N, H_out, W_out, C1 * depth_multiplier)`, or channels-first.

    Raises:
        ValueError: as `AWConv2D`, or if `depth_multiplier` is not positive.
    """

    def __init__(
        self,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=(1, 1),
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        *,
        reduction=16,
        attention_expand_initializer=None,
        implementation="auto",
        **kwargs,
    ):
        check_positive_integer("depth_multiplier", depth_multiplier)
        super().__init__(
            filters=None,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=depthwise_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=depthwise_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=depthwise_constraint,
            bias_constraint=bias_constraint,
            reduction=reduction,
            attention_expand_initializer=attention_expand_initializer,
            implementation=implementation,
            **kwargs,
        )
        self.depth_multiplier = depth_multiplier
        self.depthwise_initializer = self.kernel_initializer

    def build(self, input_shape):
        channels = self._input_channels(input_shape)
        self.groups = channels
        self.filters = channels * self.depth_multiplier
        self.kernel_initializer = self._flat_initializer
        super().build(input_shape)
        self.kernel_initializer = self.depthwise_initializer

    def _flat_initializer(self, shape, dtype=None):
        # The initializer must see the fans of a depthwise kernel.
        kernel = self.depthwise_initializer(
            (*self.kernel_size, self.groups, self.depth_multiplier), dtype=dtype
        )
        return keras.ops.reshape(kernel, shape)

    def compute_output_shape(self, input_shape):
        self.filters = self._input_channels(input_shape) * self.depth_multiplier
        return super().compute_output_shape(input_shape)

    def get_config(self):
        config = super().get_config()
        for name in ("filters", "groups"):
            del config[name]
        for name in ("initializer", "regularizer", "constraint"):
            config[f"depthwise_{name}"] = config.pop(f"kernel_{name}")
        config["depthwise_initializer"] = initializers.serialize(
            self.depthwise_initializer
        )
        config["depth_multiplier"] = self.depth_multiplier
        return config
