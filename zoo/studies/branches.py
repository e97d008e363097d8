"""Attention branches that the study of AW-convolution compares.

Each computes from the input of a convolution how its kernel changes for every
sample. The formulae are plain, and the gradients automatic: what wins becomes
`aw_keras.layers.AWConv2D`, which computes the same faster.
"""

import math

import keras
from keras import ops

from aw_keras.ops import adaptive_average_pool2d, per_sample_conv2d

_EPSILON = 1e-5


class BranchConv2D(keras.layers.Conv2D):
    """A convolution with an attention branch of many parts.

    `z = pool(x) Wr` are `M` hidden units at each of the `T` positions of the
    kernel, `u = relu(norm(z) + br)`, and `v` is the mean of `u` over the
    positions. The logits of the kernel's elements are the sum of

    - the map, `u We`, in `gcd(M, Ck)` groups,
    - the gates, `v Wi` for each input channel and `v Wo + bo` for each filter,
    - a bias for each pair of channels,

    and `K` becomes `K (1 + sigmoid(logits))`, or `K 2 sigmoid(logits)`. Gates
    outside scale the input by `2 sigmoid(v Wi)` and the output by
    `2 sigmoid(v Wo + bo)` instead, which is a plain convolution's cost.

    The layer is channels-last and has one group.

    Args:
        *args: Arguments of `keras.layers.Conv2D`.
        reduction: Integer, ratio of input channels to hidden units.
        units: Integer, the least number of hidden units `M`.
        norm: Whether to normalise the hidden units of a sample, all `T M` of
            them, to mean 0 and variance 1, and to scale them by unit.
        map: How the map's weights and biases begin: `"uniform"` in
            `±1 / sqrt(M / gcd(M, Ck))` or `"zeros"`; `None` for no map.
        gates: `"inside"` the sigmoid, `"outside"` of the convolution, or
            `None`. They begin at zero.
        mean_one: Whether the factor is `2 sigmoid` instead of `1 + sigmoid`.
        blended: Whether the logits have the factor `blend`, a weight that is
            not trained and begins at 0.
        **kwargs: Arguments of `keras.layers.Conv2D`.
    """

    def __init__(
        self,
        *args,
        reduction=16,
        units=4,
        norm=False,
        map="uniform",
        gates=None,
        mean_one=False,
        blended=False,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.branch = {
            "reduction": reduction,
            "units": units,
            "norm": norm,
            "map": map,
            "gates": gates,
            "mean_one": mean_one,
            "blended": blended,
        }

    def get_config(self):
        return {**super().get_config(), **self.branch}

    def build(self, input_shape):
        super().build(input_shape)
        *_, channels, filters = self.kernel.shape
        of = self.branch
        units = max(channels // of["reduction"], of["units"])
        self._add("reduce_kernel", (channels, units), "he_normal")
        self._add("reduce_bias", (units,))
        if of["norm"]:
            self._add("reduce_scale", (units,), "ones")
        if of["map"]:
            per_logit = units // math.gcd(units, channels)
            begin = "zeros"
            if of["map"] == "uniform":
                limit = 1 / math.sqrt(per_logit)
                begin = keras.initializers.RandomUniform(-limit, limit)
            self._add("expand_kernel", (per_logit, channels, filters), begin)
        if of["gates"] != "outside":
            # A seed of its own: the same initializer draws the same again.
            if of["map"] == "uniform":
                begin = keras.initializers.RandomUniform(-limit, limit)
            else:
                begin = "zeros"
            self._add("expand_bias", (channels, filters), begin)
        if of["gates"]:
            self._add("input_kernel", (units, channels))
            self._add("filter_kernel", (units, filters))
            self._add("filter_bias", (filters,))
        if of["blended"]:
            self._add("blend", (), trainable=False)

    def _add(self, name, shape, initializer="zeros", trainable=True):
        weight = self.add_weight(
            name=f"attention_{name}",
            shape=shape,
            initializer=initializer,
            trainable=trainable,
            autocast=False,
        )
        setattr(self, name, weight)

    def _hidden(self, x):
        """The hidden units `u`, `(N, T, M)`."""
        pooled = adaptive_average_pool2d(
            x, self.kernel_size, data_format="channels_last"
        )
        positions = math.prod(self.kernel_size)
        pooled = ops.reshape(pooled, (-1, positions, pooled.shape[-1]))
        z = ops.matmul(pooled, self.reduce_kernel)
        if self.branch["norm"]:
            mean = ops.mean(z, axis=(1, 2), keepdims=True)
            variance = ops.mean((z - mean) ** 2, axis=(1, 2), keepdims=True)
            z = (z - mean) * ops.rsqrt(variance + _EPSILON) * self.reduce_scale
        return ops.relu(z + self.reduce_bias)

    def _gates(self, hidden):
        """Logits `(N, Ck)` of the input channels, `(N, D)` of the filters."""
        mean = ops.mean(hidden, axis=1)
        return (
            ops.matmul(mean, self.input_kernel),
            ops.matmul(mean, self.filter_kernel) + self.filter_bias,
        )

    def _logits(self, hidden):
        """`(N, T or 1, Ck, D)`."""
        logits = self.expand_bias + ops.zeros(())
        if self.branch["map"]:
            per_logit, channels, _ = self.expand_kernel.shape
            groups = hidden.shape[-1] // per_logit
            units = ops.reshape(hidden, (*hidden.shape[:2], groups, per_logit))
            units = ops.repeat(units, channels // groups, axis=2)
            if per_logit == 1:
                logits = logits + units * self.expand_kernel[0]
            else:
                logits = logits + ops.einsum(
                    "ntck,kcd->ntcd", units, self.expand_kernel
                )
        if self.branch["gates"]:
            of_input, of_filter = self._gates(hidden)
            logits = (
                logits
                + of_input[:, None, :, None]
                + of_filter[:, None, None, :]
            )
        return logits * self.blend if self.branch["blended"] else logits

    def kernel_factor(self, x):
        """What the kernel is multiplied by, `(N, T or 1, Ck, D)`, float32."""
        hidden = self._hidden(x)
        if self.branch["gates"] == "outside":
            of_input, of_filter = map(_mean_one, self._gates(hidden))
            return of_input[:, None, :, None] * of_filter[:, None, None, :]
        logits = self._logits(hidden)
        if self.branch["mean_one"]:
            return _mean_one(logits)
        return 1 + ops.sigmoid(logits)

    def convolution_op(self, inputs, kernel):
        if self.branch["gates"] == "outside":
            of_input, of_filter = (
                ops.cast(_mean_one(gate)[:, None, None], inputs.dtype)
                for gate in self._gates(self._hidden(inputs))
            )
            outputs = super().convolution_op(inputs * of_input, kernel)
            return outputs * of_filter
        height, width, channels, filters = kernel.shape
        flat = ops.reshape(kernel, (height * width, channels, filters))
        factor = self.kernel_factor(inputs)
        kernels = ops.cast(flat, factor.dtype) * factor
        return per_sample_conv2d(
            inputs,
            ops.reshape(ops.cast(kernels, inputs.dtype), (-1, *kernel.shape)),
            strides=self.strides,
            padding=self.padding,
            data_format="channels_last",
        )


def _mean_one(logits):
    return 2 * ops.sigmoid(logits)
