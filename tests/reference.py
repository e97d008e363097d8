"""AW-convolution in NumPy float64, with its analytic gradients.

Written for reading, from the formulas alone: it shares no code with the
library and serves as its judge. Shapes: `N` batch, `H, W` input size, `C1`
input channels, `C2` filters, `h, w` kernel size, `Ck = C1 / groups`, `M`
hidden units of the attention branch, `G = gcd(M, Ck)`.
"""

import math

import numpy as np


def pair(value):
    """`value` as a tuple of two integers."""
    return (value, value) if isinstance(value, int) else tuple(value)


def channels_last(x, data_format):
    """`x` of shape `(N, H, W, C)`, whatever its `data_format`."""
    x = np.asarray(x, "float64")
    return x.transpose(0, 2, 3, 1) if data_format == "channels_first" else x


def restore_format(x, data_format):
    """Channels-last `x` in `data_format`."""
    return x.transpose(0, 3, 1, 2) if data_format == "channels_first" else x


def bins(size, count):
    """The `count` slices that adaptive pooling averages along an axis."""
    return [
        slice(math.floor(i * size / count), math.ceil((i + 1) * size / count))
        for i in range(count)
    ]


def adaptive_average_pool2d(x, output_size, data_format="channels_last"):
    """Average of every bin: `(N, H, W, C1)` to `(N, h, w, C1)`."""
    x = channels_last(x, data_format)
    n, height, width, channels = x.shape
    pooled = np.empty((n, *output_size, channels))
    for i, rows in enumerate(bins(height, output_size[0])):
        for j, columns in enumerate(bins(width, output_size[1])):
            pooled[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    return restore_format(pooled, data_format)


def adaptive_average_pool2d_gradient(dpooled, input_size):
    """Gradient with respect to the channels-last input, `(N, H, W, C1)`."""
    n, h, w, channels = dpooled.shape
    dx = np.zeros((n, *input_size, channels))
    for i, rows in enumerate(bins(input_size[0], h)):
        for j, columns in enumerate(bins(input_size[1], w)):
            window = dx[:, rows, columns]
            area = window.shape[1] * window.shape[2]
            window += dpooled[:, i, j][:, None, None] / area
    return dx


def geometry(size, kernel, stride, padding, dilation):
    """Output size, padding before and padding after, of one axis."""
    extent = (kernel - 1) * dilation + 1
    if padding == "valid":
        return (size - extent) // stride + 1, 0, 0
    output = math.ceil(size / stride)
    if padding == "symmetric":
        # As many as with a stride of 1; the kernel may leave some unread.
        return output, (extent - 1) // 2, extent - 1 - (extent - 1) // 2
    total = max((output - 1) * stride + extent - size, 0)
    return output, total // 2, total - total // 2


class _Taps:
    """The strided views of the padded input that the kernel's taps see."""

    def __init__(self, x_shape, kernel_size, strides, padding, dilation_rate):
        strides, dilation_rate = pair(strides), pair(dilation_rate)
        rows, columns = (
            geometry(*axis, padding, dilation)
            for *axis, dilation in zip(
                x_shape[1:3], kernel_size, strides, dilation_rate
            )
        )
        self.output_size = (rows[0], columns[0])
        self.pads = ((0, 0), rows[1:], columns[1:], (0, 0))
        self.strides, self.dilation_rate = strides, dilation_rate
        self.kernel_size = kernel_size

    def pad(self, x):
        return np.pad(x, self.pads)

    def unpad(self, padded):
        (_, (top, bottom), (left, right), _) = self.pads
        _, height, width, _ = padded.shape
        return padded[:, top : height - bottom, left : width - right]

    def __iter__(self):
        """Yields `i, j, rows, columns`: the inputs that tap `(i, j)` meets."""
        for i in range(self.kernel_size[0]):
            for j in range(self.kernel_size[1]):
                yield i, j, self._positions(0, i), self._positions(1, j)

    def _positions(self, axis, tap):
        start = tap * self.dilation_rate[axis]
        steps = self.output_size[axis] - 1
        stride = self.strides[axis]
        return slice(start, start + steps * stride + 1, stride)


def _group_slices(groups, size):
    step = size // groups
    return [slice(i * step, (i + 1) * step) for i in range(groups)]


def per_sample_conv2d(
    x,
    kernels,
    strides=1,
    padding="valid",
    dilation_rate=1,
    groups=1,
    data_format="channels_last",
):
    """Sample `n` of `x` convolved with `kernels[n]` (h, w, Ck, C2)."""
    x, kernels = channels_last(x, data_format), np.asarray(kernels, "float64")
    n, h, w, _, filters = kernels.shape
    taps = _Taps(x.shape, (h, w), strides, padding, dilation_rate)
    padded = taps.pad(x)
    y = np.zeros((n, *taps.output_size, filters))
    for c, d in zip(
        _group_slices(groups, x.shape[-1]), _group_slices(groups, filters)
    ):
        for i, j, rows, columns in taps:
            y[..., d] += np.einsum(
                "nyxc,ncd->nyxd",
                padded[:, rows, columns, c],
                kernels[:, i, j, :, d],
            )
    return restore_format(y, data_format)


def per_sample_conv2d_gradients(
    dy,
    x,
    kernels,
    strides=1,
    padding="valid",
    dilation_rate=1,
    groups=1,
    data_format="channels_last",
):
    """Gradients `(dx, dkernels)` of `sum(dy * per_sample_conv2d(...))`."""
    x, dy = channels_last(x, data_format), channels_last(dy, data_format)
    kernels = np.asarray(kernels, "float64")
    taps = _Taps(x.shape, kernels.shape[1:3], strides, padding, dilation_rate)
    padded = taps.pad(x)
    dpadded, dkernels = np.zeros_like(padded), np.zeros_like(kernels)
    for c, d in zip(
        _group_slices(groups, x.shape[-1]),
        _group_slices(groups, kernels.shape[-1]),
    ):
        for i, j, rows, columns in taps:
            dpadded[:, rows, columns, c] += np.einsum(
                "nyxd,ncd->nyxc", dy[..., d], kernels[:, i, j, :, d]
            )
            dkernels[:, i, j, :, d] = np.einsum(
                "nyxc,nyxd->ncd", padded[:, rows, columns, c], dy[..., d]
            )
    return restore_format(taps.unpad(dpadded), data_format), dkernels


def hidden_units(channels, reduction=16):
    """`M`, the hidden units of the attention branch."""
    return max(channels // reduction, 4)


def attention_shapes(channels, kernel_channels, filters, reduction=16):
    """Shapes of `Wr, br, We, be`."""
    hidden = hidden_units(channels, reduction)
    groups = math.gcd(hidden, kernel_channels)
    return [
        (channels, hidden),
        (hidden,),
        (hidden // groups, kernel_channels, filters),
        (kernel_channels, filters),
    ]


def hidden_index(hidden, expand_kernel):
    """`index[c, k]`, the hidden unit that `expand_kernel[k, c]` weighs."""
    per_group, kernel_channels, _ = expand_kernel.shape
    groups = hidden // per_group
    first = np.arange(kernel_channels) // (kernel_channels // groups)
    return first[:, None] * per_group + np.arange(per_group)


def attention_branch(
    x,
    reduce_kernel,
    reduce_bias,
    expand_kernel,
    expand_bias,
    kernel_size,
    data_format="channels_last",
):
    """`A0`, `A0 . Wr + br`, and the attention `A` (N, h, w, Ck, C2)."""
    pooled = adaptive_average_pool2d(channels_last(x, data_format), kernel_size)
    reduced = pooled @ np.asarray(reduce_kernel, "float64") + reduce_bias
    index = hidden_index(reduced.shape[-1], expand_kernel)
    logits = expand_bias + np.einsum(
        "nijck,kcd->nijcd",
        np.maximum(reduced, 0)[..., index],
        np.asarray(expand_kernel, "float64"),
    )
    return pooled, reduced, 1 / (1 + np.exp(-logits))


def kernel_attention(*arguments, **keywords):
    """`A` (N, h, w, Ck, C2) of the arguments of `attention_branch`."""
    return attention_branch(*arguments, **keywords)[-1]


def attentional_kernel(kernel, attention):
    """`K + A * K` (N, h, w, Ck, C2)."""
    return kernel + attention * kernel


def aw_conv2d(
    x,
    kernel,
    reduce_kernel,
    reduce_bias,
    expand_kernel,
    expand_bias,
    data_format="channels_last",
    **convolution,
):
    """The attention-weighted convolution, without the bias."""
    attention = kernel_attention(
        x,
        reduce_kernel,
        reduce_bias,
        expand_kernel,
        expand_bias,
        kernel.shape[:2],
        data_format,
    )
    return per_sample_conv2d(
        x,
        attentional_kernel(kernel, attention),
        data_format=data_format,
        **convolution,
    )


def aw_conv2d_gradients(
    dy,
    x,
    kernel,
    reduce_kernel,
    reduce_bias,
    expand_kernel,
    expand_bias,
    data_format="channels_last",
    **convolution,
):
    """Gradients of `sum(dy * aw_conv2d(...))`, in the arguments' order."""
    x, dy = channels_last(x, data_format), channels_last(dy, data_format)
    pooled, reduced, attention = attention_branch(
        x,
        reduce_kernel,
        reduce_bias,
        expand_kernel,
        expand_bias,
        kernel.shape[:2],
    )
    dx, dattentional = per_sample_conv2d_gradients(
        dy, x, attentional_kernel(kernel, attention), **convolution
    )
    dkernel = np.sum(dattentional * (1 + attention), axis=0)

    dlogits = dattentional * kernel * attention * (1 - attention)
    index = hidden_index(reduced.shape[-1], expand_kernel)
    hidden = np.maximum(reduced, 0)
    dexpand_kernel = np.einsum("nijcd,nijck->kcd", dlogits, hidden[..., index])
    dexpand_bias = dlogits.sum(axis=(0, 1, 2))

    dgathered = np.einsum("nijcd,kcd->nijck", dlogits, expand_kernel)
    dhidden = np.zeros_like(hidden)
    for channel, units in enumerate(index):
        dhidden[..., units] += dgathered[..., channel, :]
    dreduced = dhidden * (reduced > 0)
    dreduce_kernel = np.einsum("nijc,nijm->cm", pooled, dreduced)
    dreduce_bias = dreduced.sum(axis=(0, 1, 2))

    dpooled = dreduced @ np.transpose(reduce_kernel)
    dx = dx + adaptive_average_pool2d_gradient(dpooled, x.shape[1:3])
    return (
        restore_format(dx, data_format),
        dkernel,
        dreduce_kernel,
        dreduce_bias,
        dexpand_kernel,
        dexpand_bias,
    )


def numerical_gradients(function, arrays, cotangent, step=1e-6):
    """Central differences of `sum(cotangent * function(*arrays))`."""
    arrays = [np.array(array, "float64") for array in arrays]

    def loss():
        return np.sum(cotangent * function(*arrays))

    gradients = []
    for array in arrays:
        gradient = np.empty_like(array)
        for position in np.ndindex(array.shape):
            value = array[position]
            array[position] = value + step
            above = loss()
            array[position] = value - step
            gradient[position] = (above - loss()) / (2 * step)
            array[position] = value
        gradients.append(gradient)
    return gradients
