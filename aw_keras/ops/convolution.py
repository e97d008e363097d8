"""Convolutions in which every sample has a kernel of its own."""

from keras import KerasTensor, Operation, ops
from keras.saving import register_keras_serializable

from aw_keras.ops import kernels as kernel_sources
from aw_keras.ops.attention import accumulation_dtype, hidden_units
from aw_keras.ops.backends import active
from aw_keras.ops.geometry import PADDINGS, Conv2DGeometry
from aw_keras.ops.selection import check_implementation, select
from aw_keras.ops.validation import (
    channels_last,
    check_attention_shapes,
    check_convolution,
    check_positive_integer,
    pair,
    require_rank,
    standard_data_format,
)

_GIVEN = kernel_sources.GivenKernels()
_ATTENTIONAL = kernel_sources.AttentionalKernels()


def per_sample_conv2d(
    x,
    kernels,
    strides=1,
    padding="valid",
    dilation_rate=1,
    groups=1,
    data_format=None,
    implementation="auto",
):
    """2D convolution of every sample with its own kernel.

    `y[n] = conv2d(x[n], kernels[n])`, with the arguments of
    `keras.ops.conv`. Symbolic inputs give a symbolic output.

    Args:
        x: `(N, H, W, C1)`, or `(N, C1, H, W)` for channels-first.
        kernels: `(N, h, w, C1 / groups, C2)`.
        strides: Integer or pair of integers.
        padding: `"valid"`, `"same"` or `"symmetric"`: as many zeros on both
            sides as with strides of one, as PyTorch pads.
        dilation_rate: Integer or pair of integers.
        groups: Number of groups into which channels and filters are split.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.
        implementation: `"auto"`, or one of `aw_keras.ops.IMPLEMENTATIONS`.
            All give the same values; they differ in speed and memory.

    Returns:
        `(N, H_out, W_out, C2)`, or `(N, C2, H_out, W_out)` for channels-first,
        in the dtype of `x`.

    Raises:
        ValueError: if arguments or shapes do not fit together.
    """
    operation = PerSampleConv2D(
        strides,
        padding,
        dilation_rate,
        groups,
        standard_data_format(data_format),  # Files must not say "the default".
        implementation,
    )
    return operation(x, kernels)


@register_keras_serializable(package="aw_keras")
class PerSampleConv2D(Operation):
    """`per_sample_conv2d` as a node of a functional model."""

    def __init__(
        self,
        strides=1,
        padding="valid",
        dilation_rate=1,
        groups=1,
        data_format=None,
        implementation="auto",
        *,
        name=None,
    ):
        super().__init__(name=name)
        self.strides = strides
        self.padding = padding
        self.dilation_rate = dilation_rate
        self.groups = groups
        self.data_format = standard_data_format(data_format)
        self.implementation = check_implementation(implementation)

    def call(self, x, kernels):
        geometry = self._geometry(x, kernels)
        x = channels_last(x, self.data_format)
        kernels = ops.cast(_flat(kernels, 1), x.dtype)
        return _convolve(
            geometry,
            _GIVEN,
            x,
            kernels,
            (),
            kernels.shape[-1],
            self.data_format,
            self.implementation,
        )

    def compute_output_spec(self, x, kernels):
        geometry = self._geometry(x, kernels)
        shape = x.shape
        if not self._last:
            shape = (shape[0], *shape[2:], shape[1])
        batch, *size, filters = geometry.static_output(shape, kernels.shape[-1])
        shape = (*size, filters) if self._last else (filters, *size)
        return KerasTensor((batch, *shape), dtype=x.dtype)

    @property
    def _last(self):
        return self.data_format == "channels_last"

    def _geometry(self, x, kernels):
        require_rank("kernels", kernels, 5)
        batches = {x.shape[0], kernels.shape[0]} - {None}
        if len(batches) > 1:
            raise ValueError(
                "Expected one kernel for every sample. Received: "
                f"x.shape={x.shape}, kernels.shape={kernels.shape}"
            )
        geometry = convolution_geometry(
            kernels.shape[1:3],
            self.strides,
            self.padding,
            self.dilation_rate,
            self.groups,
        )
        check_convolution(x, kernels.shape[1:], geometry, self.data_format)
        return geometry


def aw_conv2d(
    x,
    kernel,
    reduce_kernel,
    reduce_bias,
    expand_kernel,
    expand_bias,
    strides=1,
    padding="valid",
    dilation_rate=1,
    groups=1,
    data_format=None,
    implementation="auto",
):
    """AW-convolution: every sample convolved with its recalibrated kernel.

    Equal to `per_sample_conv2d(x, attentional_kernel(kernel,
    kernel_attention(x, ...)))`, but the kernels are not kept for the gradient
    and, where that is faster, never exist for more than one sample at a time.

    Args:
        x: `(N, H, W, C1)`, or `(N, C1, H, W)` for channels-first.
        kernel: `(h, w, C1 / groups, C2)`.
        reduce_kernel: `(C1, M)`.
        reduce_bias: `(M,)`.
        expand_kernel: `(M / G, C1 / groups, C2)`.
        expand_bias: `(C1 / groups, C2)`.
        strides: Integer or pair of integers.
        padding: `"valid"`, `"same"` or `"symmetric"`: as many zeros on both
            sides as with strides of one, as PyTorch pads.
        dilation_rate: Integer or pair of integers.
        groups: Number of groups into which channels and filters are split.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.
        implementation: `"auto"`, or one of `aw_keras.ops.IMPLEMENTATIONS`.

    Returns:
        `(N, H_out, W_out, C2)`, or `(N, C2, H_out, W_out)` for channels-first,
        in the dtype of `x`.

    Raises:
        ValueError: if arguments or shapes do not fit together.

    Reference:
        [An Attention Module for Convolutional Neural Networks](
        https://arxiv.org/abs/2108.08205), section 3.
    """
    data_format = standard_data_format(data_format)
    require_rank("kernel", kernel, 4)
    geometry = convolution_geometry(
        kernel.shape[:2], strides, padding, dilation_rate, groups
    )
    check_convolution(x, kernel.shape, geometry, data_format)
    check_attention_shapes(
        x, reduce_kernel, reduce_bias, expand_kernel, expand_bias, data_format
    )
    if tuple(expand_bias.shape) != tuple(kernel.shape[2:]):
        raise ValueError(
            "Expected the expansion to end in the kernel's last two axes. "
            f"Received: expand_bias.shape={expand_bias.shape}, "
            f"kernel.shape={kernel.shape}"
        )
    x = channels_last(x, data_format)
    dtype = accumulation_dtype(x.dtype)
    expand_kernel = ops.cast(expand_kernel, dtype)
    expand_bias = ops.cast(expand_bias, dtype)
    hidden = hidden_units(
        x, reduce_kernel, reduce_bias, expand_kernel, geometry.kernel_size
    )
    kernel = ops.cast(_flat(kernel, 0), x.dtype)
    shared = (kernel, expand_kernel, expand_bias)
    return _convolve(
        geometry,
        _ATTENTIONAL,
        x,
        hidden,
        shared,
        kernel.shape[-1],
        data_format,
        implementation,
    )


def convolution_geometry(kernel_size, strides, padding, dilation_rate, groups):
    """A checked `Conv2DGeometry` from the arguments users write."""
    padding = str(padding).lower()
    if padding not in PADDINGS:
        raise ValueError(
            f"Expected `padding` to be one of {PADDINGS}. "
            f"Received: padding={padding}"
        )
    check_positive_integer("groups", groups)
    return Conv2DGeometry(
        kernel_size=pair("kernel_size", kernel_size),
        strides=pair("strides", strides),
        padding=padding,
        dilation_rate=pair("dilation_rate", dilation_rate),
        groups=groups,
    )


def _flat(kernels, axis):
    """Merge the rows and columns of kernels, which begin at `axis`."""
    shape = list(kernels.shape)
    shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    return ops.reshape(kernels, (-1, *shape[1:]) if axis else shape)


def _convolve(
    geometry, source, x, own, shared, filters, data_format, implementation
):
    implementation = select(implementation, geometry, x.shape, filters)
    y = active.differentiable(implementation, geometry, source, x, own, shared)
    if data_format == "channels_first":
        return ops.transpose(y, (0, 3, 1, 2))
    return y
