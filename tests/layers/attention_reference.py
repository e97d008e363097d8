"""The attention layers in NumPy float64, channels-last, in inference.

Written for reading, from the papers' formulas: every function takes the input
`(N, H, W, C)` and the layer's weights by their names, and loops where the
library multiplies matrices.
"""

import math

import numpy as np

EPSILON = 1e-5  # of every batch normalisation


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2


def relu(x):
    return np.maximum(x, 0)


def softmax(x, axis):
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def batch_norm(x, gamma, beta, moving_mean, moving_variance):
    return (x - moving_mean) / np.sqrt(moving_variance + EPSILON) * gamma + beta


def convolution(x, kernel):
    """Stride 1, zeros around: the output has the input's height and width."""
    h, w = kernel.shape[:2]
    padded = np.pad(
        x,
        (
            (0, 0),
            ((h - 1) // 2, h - 1 - (h - 1) // 2),
            ((w - 1) // 2, w - 1 - (w - 1) // 2),
            (0, 0),
        ),
    )
    _, height, width, _ = x.shape
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(h)
        for j in range(w)
    )


def depthwise_convolution(x, kernel, stride):
    """Padded as `padding="same"` pads, more at the end than at the start."""
    h, w = kernel.shape[:2]
    outputs = [math.ceil(size / stride) for size in x.shape[1:3]]
    total = [
        max((output - 1) * stride + extent - size, 0)
        for output, extent, size in zip(outputs, (h, w), x.shape[1:3])
    ]
    padded = np.pad(x, ((0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)))
    y = np.zeros((len(x), *outputs, x.shape[-1]))
    for i in range(outputs[0]):
        for j in range(outputs[1]):
            top, left = i * stride, j * stride
            window = padded[:, top : top + h, left : left + w]
            y[:, i, j] = np.sum(window * kernel[..., 0], axis=(1, 2))
    return y


def excite(
    squeezed, reduce_kernel, reduce_bias, expand_kernel, expand_bias, **_
):
    hidden = relu(squeezed @ reduce_kernel + reduce_bias)
    return hidden @ expand_kernel + expand_bias


def squeeze_excite(x, **weights):
    gate = sigmoid(excite(x.mean(axis=(1, 2)), **weights))
    return x * gate[:, None, None]


def cbam(
    x,
    spatial_kernel,
    gamma,
    beta,
    moving_mean,
    moving_variance,
    **weights,
):
    of_means = excite(x.mean(axis=(1, 2)), **weights)
    of_maxima = excite(x.max(axis=(1, 2)), **weights)
    x = x * sigmoid(of_means + of_maxima)[:, None, None]
    maps = np.stack([x.mean(axis=-1), x.max(axis=-1)], axis=-1)
    logits = convolution(maps, spatial_kernel)
    return x * sigmoid(
        batch_norm(logits, gamma, beta, moving_mean, moving_variance)
    )


def efficient_channel_attention(x, kernel):
    squeezed = x.mean(axis=(1, 2))
    size, channels = len(kernel), x.shape[-1]
    logits = np.zeros_like(squeezed)
    for channel in range(channels):
        for tap in range(size):
            neighbour = channel + tap - size // 2
            if 0 <= neighbour < channels:
                logits[:, channel] += squeezed[:, neighbour] * kernel[tap, 0, 0]
    return x * sigmoid(logits)[:, None, None]


def gather_excite(x, extent=0):
    """Without parameters."""
    _, height, width, _ = x.shape
    y = np.empty_like(x)
    for i in range(height):
        for j in range(width):
            window = x
            if extent:
                row, column = i // extent * extent, j // extent * extent
                window = x[
                    :,
                    max(row - extent + 1, 0) : row + extent,
                    max(column - extent + 1, 0) : column + extent,
                ]
            y[:, i, j] = x[:, i, j] * sigmoid(window.mean(axis=(1, 2)))
    return y


def parametrised_gather_excite(x, extent, convolutions, norms):
    """With depthwise kernels, and `gamma, beta, mean, variance` of norms."""
    gathered = x
    for index, (kernel, norm) in enumerate(zip(convolutions, norms)):
        if index:
            gathered = relu(gathered)
        if extent:
            gathered = depthwise_convolution(gathered, kernel, stride=2)
        else:
            gathered = np.sum(
                gathered * kernel[..., 0], axis=(1, 2), keepdims=True
            )
        gathered = batch_norm(gathered, *norm)
    y = np.empty_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            place = (i // extent, j // extent) if extent else (0, 0)
            y[:, i, j] = x[:, i, j] * sigmoid(gathered[:, *place])
    return y


def maximum_of_2x2(x):
    _, height, width, _ = x.shape
    return np.stack(
        [
            np.stack(
                [
                    x[:, i : i + 2, j : j + 2].max(axis=(1, 2))
                    for j in range(0, width, 2)
                ],
                axis=1,
            )
            for i in range(0, height, 2)
        ],
        axis=1,
    )


def non_local(
    x,
    theta_kernel,
    phi_kernel,
    g_kernel,
    out_kernel,
    gamma,
    beta,
    moving_mean,
    moving_variance,
    mode="embedded_gaussian",
    subsample=False,
):
    n, height, width, channels = x.shape
    context = (maximum_of_2x2(x) if subsample else x).reshape(n, -1, channels)
    y = np.empty((n, height, width, theta_kernel.shape[1]))
    for i in range(height):
        for j in range(width):
            theta = x[:, i, j] @ theta_kernel
            f = np.sum(theta[:, None] * (context @ phi_kernel), axis=-1)
            if mode == "embedded_gaussian":
                f = softmax(f / np.sqrt(theta.shape[-1]), axis=1)
            else:
                f = f / context.shape[1]
            y[:, i, j] = np.sum(f[..., None] * (context @ g_kernel), axis=1)
    return x + batch_norm(
        y @ out_kernel, gamma, beta, moving_mean, moving_variance
    )


def dual_attention(
    x,
    query_kernel,
    query_bias,
    key_kernel,
    value_kernel,
    value_bias,
    position_scale,
    channel_scale,
):
    y = np.empty_like(x)
    for n, sample in enumerate(x):
        positions = sample.reshape(-1, x.shape[-1])
        queries = positions @ query_kernel + query_bias
        keys = positions @ key_kernel
        values = positions @ value_kernel + value_bias
        by_position = softmax(queries @ keys.T, axis=1) @ values
        by_channel = softmax(-positions.T @ positions, axis=1) @ positions.T
        y[n] = (
            positions
            + position_scale * by_position
            + channel_scale * by_channel.T
        ).reshape(sample.shape)
    return y


def spatial_channel_attention(
    x,
    channel_kernel,
    channel_bias,
    channel_score_kernel,
    spatial_kernel,
    spatial_bias,
    spatial_score_kernel,
):
    n, height, width, channels = x.shape
    means = x.mean(axis=(1, 2))
    hidden = np.tanh(means[..., None] * channel_kernel[0] + channel_bias)
    beta = softmax((hidden @ channel_score_kernel)[..., 0], axis=1)
    x = x * channels * beta[:, None, None]
    hidden = np.tanh(x @ spatial_kernel + spatial_bias)
    logits = (hidden @ spatial_score_kernel).reshape(n, -1)
    alpha = softmax(logits, axis=1).reshape(n, height, width, 1)
    return x * height * width * alpha


def spatial_softmax_attention(x, kernel, rescale=True):
    n, height, width, channels = x.shape
    logits = convolution(x, kernel).reshape(n, -1, channels)
    attention = softmax(logits, axis=1).reshape(x.shape)
    return x * attention * (height * width if rescale else 1)
