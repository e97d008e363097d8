"""Kernel attention: a map with the shape of the convolution's weights.

The attention branch of AW-convolution (arXiv 2108.08205, equation 3): average
pooling of the input to the size of the kernel, two pointwise convolutions with
a ReLU between, and a sigmoid. All of it is computed in float32 or wider,
whatever the input's dtype: pooling large float16 maps overflows, and an
attention near 0 or 1 loses its gradient.
"""

import numpy as np
from keras import backend, ops

from aw_keras.ops.backends import active
from aw_keras.ops.validation import (
    channels_last,
    check_attention_shapes,
    pair,
    require_rank,
    standard_data_format,
)

_SMALL_IMAGE = 64 * 64  # pixels


def adaptive_average_pool2d(x, output_size, data_format=None):
    """Average-pool to a fixed size, whatever the size of the input.

    Row bin `i` of `h` averages the rows from `floor(i * H / h)` up to, but not
    including, `ceil((i + 1) * H / h)`, and columns likewise: bins overlap or
    repeat where the sizes do not divide, so `H < h` works too.

    Args:
        x: Tensor `(N, H, W, C)`, or `(N, C, H, W)` for channels-first.
        output_size: `(h, w)`, or one integer for both.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.

    Returns:
        Tensor `(N, h, w, C)` (channels-first: `(N, C, h, w)`), float32, or
        float64 for float64 input.

    Raises:
        ValueError: if `x` is not of rank 4 or `output_size` is not positive.
    """
    require_rank("x", x, 4)
    size = pair("output_size", output_size)
    data_format = standard_data_format(data_format)
    pooled = pool(channels_last(x, data_format), size)
    if data_format == "channels_first":
        return ops.transpose(pooled, (0, 3, 1, 2))
    return pooled


def pool(x, output_size):
    """`adaptive_average_pool2d` of channels-last `x`, unchecked."""
    dtype = accumulation_dtype(x.dtype)
    x = ops.cast(x, dtype)
    _, height, width, channels = ops.shape(x)
    rows = _bins(height, output_size[0], dtype)
    columns = _bins(width, output_size[1], dtype)
    if _is_small(height, width):
        # One matrix product: what is fastest, forward and backward, on small
        # images. The matrix grows with the image, so not on large ones.
        bins = ops.convert_to_tensor(np.kron(rows, columns), dtype=dtype)
        pixels = ops.reshape(x, (-1, height * width, channels))
        return ops.reshape(
            active.matmul(bins, pixels), (-1, *output_size, channels)
        )
    rows = ops.convert_to_tensor(rows, dtype=dtype)
    columns = ops.convert_to_tensor(columns, dtype=dtype)
    by_row = ops.reshape(x, (-1, height, width * channels))
    by_row = active.matmul(rows, by_row)
    by_row = ops.reshape(by_row, (-1, width, channels))
    pooled = active.matmul(columns, by_row)
    return ops.reshape(pooled, (-1, *output_size, channels))


def _is_small(height, width):
    known = isinstance(height, int) and isinstance(width, int)
    return known and height * width <= _SMALL_IMAGE


def _bins(extent, count, dtype):
    """Averaging matrix `(count, extent)` of the adaptive pooling bins."""
    if not isinstance(extent, int):
        return _symbolic_bins(extent, count, dtype)
    matrix = np.zeros((count, extent), dtype)
    for row in range(count):
        start, stop = row * extent // count, -(-(row + 1) * extent // count)
        matrix[row, start:stop] = 1 / (stop - start)
    return matrix


def _symbolic_bins(extent, count, dtype):
    bins = ops.arange(count, dtype="int32")[:, None]
    start = bins * extent // count
    stop = -(-(bins + 1) * extent // count)
    position = ops.arange(extent, dtype="int32")[None, :]
    inside = ops.logical_and(position >= start, position < stop)
    return ops.cast(inside, dtype) / ops.cast(stop - start, dtype)


def accumulation_dtype(dtype):
    """Float32, or float64 for float64: where the attention is computed."""
    dtype = backend.standardize_dtype(dtype)
    return "float64" if dtype == "float64" else "float32"


def hidden_units(x, reduce_kernel, reduce_bias, expand_kernel, kernel_size):
    """Pooled and reduced input, laid out as the expansion reads it.

    Args:
        x: `(N, H, W, C1)`.
        reduce_kernel: `(C1, M)`.
        reduce_bias: `(M,)`.
        expand_kernel: `(m, Ck, C2)` with `m = M / G`.
        kernel_size: `(h, w)`.

    Returns:
        `(N, h * w, m, Ck)`: for every position and input channel of the
        kernel the `m` hidden units of its group.
    """
    dtype = accumulation_dtype(x.dtype)
    pooled = ops.reshape(pool(x, kernel_size), (-1, x.shape[-1]))
    hidden = ops.relu(
        active.matmul(pooled, ops.cast(reduce_kernel, dtype))
        + ops.cast(reduce_bias, dtype)
    )
    per_group, channels, _ = expand_kernel.shape
    groups = hidden.shape[-1] // per_group
    positions = kernel_size[0] * kernel_size[1]
    hidden = ops.reshape(hidden, (-1, positions, groups, per_group))
    hidden = ops.repeat(hidden, channels // groups, axis=2)
    return ops.swapaxes(hidden, 2, 3)


def logits(hidden, expand_kernel, expand_bias):
    """Second pointwise convolution: `(..., m, Ck)` to `(..., Ck, C2)`."""
    if expand_kernel.shape[0] == 1:
        # Not `[..., 0, :, None]`: LiteRT has no such slice of a free batch.
        hidden = ops.swapaxes(hidden, -2, -1)
        return hidden * expand_kernel[0] + expand_bias
    return ops.einsum("...kc,kcd->...cd", hidden, expand_kernel) + expand_bias


def kernel_attention(
    x,
    reduce_kernel,
    reduce_bias,
    expand_kernel,
    expand_bias,
    kernel_size,
    data_format=None,
):
    """Attention map with the shape of a convolution kernel, per sample.

    `A = sigmoid(expand(relu(reduce(adaptive_average_pool(x, (h, w))))))`,
    where `reduce` is a pointwise convolution to `M` units and `expand` a
    pointwise convolution in `G = M / m` groups to `Ck * C2` logits.

    Args:
        x: `(N, H, W, C1)`, or `(N, C1, H, W)` for channels-first.
        reduce_kernel: `(C1, M)`.
        reduce_bias: `(M,)`.
        expand_kernel: `(m, Ck, C2)`; `m` divides `M`, and `M / m` divides
            `Ck`, the input channels of one convolution group.
        expand_bias: `(Ck, C2)`.
        kernel_size: `(h, w)`, or one integer for both.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.

    Returns:
        `A`: `(N, h, w, Ck, C2)` in (0, 1), float32, or float64 for float64
        input.

    Raises:
        ValueError: if shapes do not fit together.

    Reference:
        [An Attention Module for Convolutional Neural Networks](
        https://arxiv.org/abs/2108.08205), section 3. The grouping of the
        second convolution is this library's reading of it.
    """
    data_format = standard_data_format(data_format)
    check_attention_shapes(
        x, reduce_kernel, reduce_bias, expand_kernel, expand_bias, data_format
    )
    kernel_size = pair("kernel_size", kernel_size)
    hidden = hidden_units(
        channels_last(x, data_format),
        reduce_kernel,
        reduce_bias,
        expand_kernel,
        kernel_size,
    )
    attention = ops.sigmoid(
        logits(
            hidden,
            ops.cast(expand_kernel, hidden.dtype),
            ops.cast(expand_bias, hidden.dtype),
        )
    )
    return ops.reshape(attention, (-1, *kernel_size, *expand_bias.shape))


def attentional_kernel(kernel, attention):
    """Kernels recalibrated by attention, `AK = K + A * K`.

    Args:
        kernel: `K`, `(h, w, Ck, C2)`.
        attention: `A`, `(N, h, w, Ck, C2)`.

    Returns:
        `AK`: `(N, h, w, Ck, C2)` in the kernel's dtype; computed in the
        attention's.

    Raises:
        ValueError: if the shapes differ beyond the batch axis.

    Reference:
        [An Attention Module for Convolutional Neural Networks](
        https://arxiv.org/abs/2108.08205), equation 4.
    """
    require_rank("kernel", kernel, 4)
    require_rank("attention", attention, 5)
    if tuple(attention.shape[1:]) != tuple(kernel.shape):
        raise ValueError(
            "Expected `attention` to have the kernel's shape behind its batch "
            f"axis. Received: attention.shape={attention.shape}, "
            f"kernel.shape={kernel.shape}"
        )
    kernels = ops.cast(kernel, attention.dtype) * (1 + attention)
    return ops.cast(kernels, kernel.dtype)
