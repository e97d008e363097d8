"""AW-convolution: a convolution whose kernel is recalibrated per sample."""

import math

import keras
from keras import initializers

from aw_keras import ops as aw_ops
from aw_keras.ops.convolution import convolution_geometry
from aw_keras.ops.selection import check_implementation
from aw_keras.ops.validation import check_positive_integer

_MINIMUM_UNITS = 4


def attention_specs(kernel_shape, groups, reduction, expand_initializer):
    """Shapes and initializers of the attention's weights, by name.

    Args:
        kernel_shape: Of the convolution's kernel, `(h, w, Ck, C2)`.
        groups: Integer, number of groups of the convolution.
        reduction: Integer, ratio of input channels to hidden units.
        expand_initializer: As `attention_expand_initializer` of the layer.

    Returns:
        A dict from names to pairs.
    """
    *_, kernel_channels, filters = kernel_shape
    channels = kernel_channels * groups
    units = max(channels // reduction, _MINIMUM_UNITS)
    units_per_logit = units // math.gcd(units, kernel_channels)
    bias_initializer = "zeros"
    if expand_initializer is None:
        # Data, not an object, so that each weight is drawn by its own.
        expand_initializer = bias_initializer = _uniform(
            1 / math.sqrt(units_per_logit)
        )
    expand_shape = (units_per_logit, kernel_channels, filters)
    return {
        "attention_reduce_kernel": ((channels, units), "he_normal"),
        "attention_reduce_bias": ((units,), "zeros"),
        "attention_expand_kernel": (expand_shape, expand_initializer),
        "attention_expand_bias": (expand_shape[1:], bias_initializer),
    }


def _uniform(limit):
    """An initializer as data, which Keras 3 and tf_keras read."""
    bounds = {"minval": -limit, "maxval": limit}
    return {"class_name": "RandomUniform", "config": bounds}


def symmetric_output_shape(layer, input_shape):
    """Output shape of a convolution that has the padding `"symmetric"`.

    Args:
        layer: `AWConv2D` of either framework.
        input_shape: Shape of its input; `None` is unknown.

    Returns:
        A tuple.
    """
    geometry = convolution_geometry(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        layer.dilation_rate,
        layer.groups,
    )
    shape = tuple(input_shape)
    if layer.data_format == "channels_last":
        return geometry.static_output(shape, layer.filters)
    shape = (shape[0], *shape[2:], shape[1])
    batch, *size, filters = geometry.static_output(shape, layer.filters)
    return (batch, filters, *size)


@keras.saving.register_keras_serializable(package="aw_keras")
class AWConv2D(keras.layers.Conv2D):
    """2D convolution with attention over its weights.

    For every sample an attention map `A` with the shape of the kernel `K` is
    computed from the input, and the sample is convolved with
    `AK = K + A * K`. `A` comes from average pooling to the size of the kernel,
    a pointwise convolution to `M = max(C1 // reduction, 4)` units, a ReLU, a
    pointwise convolution in `G = gcd(M, Ck)` groups to the shape of the kernel
    and a sigmoid, where `Ck = C1 / groups`.

    With a zero expansion (`attention_expand_initializer="zeros"`), `A` is 1/2
    everywhere and the layer is a plain convolution with `1.5 * K`.

    The attention is computed in float32 under every 16-bit dtype policy, and
    its weights are used unrounded.

    Spare the branch from weight decay, under which attention depends less on
    the image: `optimizer.exclude_from_weight_decay(var_names=["attention_"])`.

    Args:
        filters: Integer, number of filters `C2`.
        kernel_size: Integer or pair of integers, `(h, w)`.
        strides: Integer or pair of integers.
        padding: `"valid"`, `"same"` or `"symmetric"`: as many zeros on both
            sides as with strides of one, as PyTorch pads. `"same"` has the odd
            zero of a strided convolution at the end.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.
        dilation_rate: Integer or pair of integers.
        groups: Integer, number of convolution groups, up to depthwise
            (`groups == C1`).
        activation: Activation function, or `None`.
        use_bias: Whether to add a bias to the output.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel; the attention's weights
            have none.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the output.
        kernel_constraint: Constraint on the kernel.
        bias_constraint: Constraint on the bias.
        reduction: Integer, ratio of input channels to hidden units.
        attention_expand_initializer: Initializer of the expansion's kernel,
            whose bias begins at zero. `None` draws both uniformly from
            `±1 / sqrt(M / G)`, where `M / G` units is what one logit reads.
        implementation: `"auto"`, or one of `aw_keras.ops.IMPLEMENTATIONS`.
            All give the same values; they differ in speed and memory.
        **kwargs: Arguments of `keras.layers.Conv2D` and `keras.layers.Layer`:
            `name`, `dtype`, `trainable`, `lora_rank`, ...

    Input shape:
        `(N, H, W, C1)`, or `(N, C1, H, W)` for channels-first. `H` and `W` may
        be unknown, and smaller than the kernel unless the padding is
        `"valid"`.

    Output shape:
        `(N, H_out, W_out, C2)`, or `(N, C2, H_out, W_out)`.

    Weights:
        `kernel` `(h, w, Ck, C2)`, `bias` `(C2,)`,
        `attention_reduce_kernel` `(C1, M)`, `attention_reduce_bias` `(M,)`,
        `attention_expand_kernel` `(M / G, Ck, C2)`,
        `attention_expand_bias` `(Ck, C2)`.

    Raises:
        ValueError: for arguments out of range, or an input that is not of
            rank 4 with a known number of channels divisible by `groups`.

    Example:

    >>> import numpy as np
    >>> layer = AWConv2D(8, 3, padding="same")
    >>> tuple(layer(np.ones((2, 5, 5, 16), "float32")).shape)
    (2, 5, 5, 8)

    Reference:
        [An Attention Module for Convolutional Neural Networks](
        https://arxiv.org/abs/2108.08205), section 3. The grouping of the
        second pointwise convolution is this library's reading of it.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        *,
        reduction=16,
        attention_expand_initializer=None,
        implementation="auto",
        **kwargs,
    ):
        symmetric = str(padding).lower() == "symmetric"
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding="same" if symmetric else padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        if symmetric:
            self.padding = "symmetric"  # Keras refuses it.
        check_positive_integer("reduction", reduction)
        self.reduction = reduction
        self.attention_expand_initializer = initializers.get(
            attention_expand_initializer
        )
        self.implementation = check_implementation(implementation)
        self.input_spec = keras.InputSpec(ndim=4)

    def build(self, input_shape):
        channels = self._input_channels(input_shape)
        super().build(input_shape)
        self.input_spec = keras.InputSpec(
            ndim=4, axes={self._channel_axis: channels}
        )
        # add_weight is locked once LoRA, which the parent enables, is built.
        self._tracker.unlock()
        specs = attention_specs(
            self.kernel.shape,
            self.groups,
            self.reduction,
            self.attention_expand_initializer,
        )
        for name, (shape, initializer) in specs.items():
            # Not cast to 16 bits: the attention is computed in float32.
            weight = self.add_weight(
                name=name,
                shape=shape,
                initializer=initializer,
                dtype=self.variable_dtype,
                autocast=False,
            )
            setattr(self, name, weight)

    def compute_output_shape(self, input_shape):
        if self.padding == "symmetric":
            return symmetric_output_shape(self, input_shape)
        return super().compute_output_shape(input_shape)

    @property
    def _channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    def _input_channels(self, input_shape):
        channels = (
            input_shape[self._channel_axis] if len(input_shape) == 4 else None
        )
        if channels is None:
            raise ValueError(
                "Expected an input of rank 4 with a known number of channels. "
                f"Received: input_shape={input_shape}, "
                f"data_format={self.data_format}"
            )
        return channels

    @property
    def _attention_weights(self):
        return {
            "attention_reduce_kernel": self.attention_reduce_kernel,
            "attention_reduce_bias": self.attention_reduce_bias,
            "attention_expand_kernel": self.attention_expand_kernel,
            "attention_expand_bias": self.attention_expand_bias,
        }

    def call(self, inputs):
        outputs = self.convolution_op(inputs, self.kernel)
        if self.use_bias:
            bias = keras.ops.convert_to_tensor(self.bias)
            if self.data_format == "channels_first":
                bias = keras.ops.reshape(bias, (-1, 1, 1))
            # Not keras.ops.add, which on TensorFlow adds a channels-first bias
            # along the width where that equals the number of filters.
            outputs = outputs + bias
        if self.activation is not None:
            return self.activation(outputs)
        return outputs

    def convolution_op(self, inputs, kernel):
        return aw_ops.aw_conv2d(
            inputs,
            kernel,
            *self._attention_weights.values(),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
            data_format=self.data_format,
            implementation=self.implementation,
        )

    def kernel_attention(self, inputs):
        """Attention map `A` of every sample.

        Args:
            inputs: The layer's input, `(N, H, W, C1)` or `(N, C1, H, W)`.

        Returns:
            `(N, h, w, Ck, C2)` in (0, 1), float32 or wider.

        Raises:
            ValueError: if the layer is not built or the input does not fit.
        """
        if not self.built:
            raise ValueError(
                "Expected the layer to be built: call it on data first. "
                f"Received: layer={self.name}"
            )
        return aw_ops.kernel_attention(
            keras.ops.convert_to_tensor(inputs),
            *self._attention_weights.values(),
            kernel_size=self.kernel_size,
            data_format=self.data_format,
        )

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.built:
            for name, variable in self._attention_weights.items():
                store[name] = variable

    def load_own_variables(self, store):
        super().load_own_variables(store)
        if self.built:
            for name, variable in self._attention_weights.items():
                variable.assign(store[name])

    def get_config(self):
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "attention_expand_initializer": initializers.serialize(
                self.attention_expand_initializer
            ),
            "implementation": self.implementation,
        }
