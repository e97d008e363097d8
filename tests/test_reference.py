"""The reference against finite differences and plain convolutions."""

import keras
import numpy as np
import pytest

from tests import reference
from tests.backends import assert_close, cotangent, run

CONVOLUTIONS = {
    "same": dict(padding="same"),
    "valid": dict(padding="valid"),
    "strides": dict(padding="same", strides=(2, 3)),
    "dilation": dict(padding="same", dilation_rate=(2, 1)),
    "groups": dict(padding="same", groups=2),
    "depthwise": dict(padding="valid", strides=2, groups=4),
}


def draw(*shapes):
    generator = np.random.default_rng(7)
    return [generator.normal(size=shape) for shape in shapes]


def aw_arrays(batch=2, size=(5, 4), channels=4, filters=4, groups=1):
    """`x`, `K` and the attention weights of a small AW-convolution."""
    kernel_channels = channels // groups
    return draw(
        (batch, *size, channels),
        (3, 2, kernel_channels, filters),
        *reference.attention_shapes(channels, kernel_channels, filters),
    )


@pytest.mark.parametrize("input_size", [(7, 5), (2, 3), (1, 1), (6, 9)])
def test_bins_cover_every_position(input_size):
    """A bin's ends are those of the rule `floor`, `ceil`."""
    height, _ = input_size
    covered = [
        row for rows in reference.bins(height, 3) for row in range(height)[rows]
    ]
    assert set(covered) == set(range(height))
    x = draw((1, *input_size, 2))[0]
    np.testing.assert_allclose(
        reference.adaptive_average_pool2d(x, (1, 1))[:, 0, 0],
        x.mean(axis=(1, 2)),
    )
    np.testing.assert_array_equal(
        reference.adaptive_average_pool2d(x, input_size), x
    )


def test_pooling_gradient_is_the_finite_difference():
    (x,) = draw((2, 5, 3, 2))
    dpooled = cotangent((2, 3, 2, 2))
    (expected,) = reference.numerical_gradients(
        lambda x: reference.adaptive_average_pool2d(x, (3, 2)), [x], dpooled
    )
    actual = reference.adaptive_average_pool2d_gradient(dpooled, (5, 3))
    np.testing.assert_allclose(actual, expected, atol=1e-8)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("convolution", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution_gradients_are_the_finite_differences(
    convolution, data_format
):
    kernel_channels = 4 // convolution.get("groups", 1)
    x, kernels = draw((2, 5, 4, 4), (2, 3, 2, kernel_channels, 4))
    x = reference.restore_format(x, data_format)
    keywords = dict(convolution, data_format=data_format)

    def function(x, kernels):
        return reference.per_sample_conv2d(x, kernels, **keywords)

    dy = cotangent(function(x, kernels).shape)
    actual = reference.per_sample_conv2d_gradients(dy, x, kernels, **keywords)
    expected = reference.numerical_gradients(function, [x, kernels], dy)
    for a, e in zip(actual, expected):
        np.testing.assert_allclose(a, e, atol=1e-8)


@pytest.mark.parametrize("channels, groups", [(4, 1), (4, 4), (6, 2), (3, 1)])
def test_aw_convolution_gradients_are_the_finite_differences(channels, groups):
    arrays = aw_arrays(channels=channels, filters=2 * groups, groups=groups)
    keywords = dict(padding="same", strides=2, groups=groups)

    def function(*arrays):
        return reference.aw_conv2d(*arrays, **keywords)

    dy = cotangent(function(*arrays).shape)
    actual = reference.aw_conv2d_gradients(dy, *arrays, **keywords)
    expected = reference.numerical_gradients(function, arrays, dy)
    assert len(actual) == len(expected) == 6
    for a, e in zip(actual, expected):
        np.testing.assert_allclose(a, e, atol=1e-7)


def test_aw_convolution_gradients_in_channels_first():
    x, *weights = aw_arrays()
    dy = cotangent((2, 3, 3, 4))
    expected = reference.aw_conv2d_gradients(dy, x, *weights)
    actual = reference.aw_conv2d_gradients(
        reference.restore_format(dy, "channels_first"),
        reference.restore_format(x, "channels_first"),
        *weights,
        data_format="channels_first",
    )
    np.testing.assert_array_equal(actual[0].transpose(0, 2, 3, 1), expected[0])
    for a, e in zip(actual[1:], expected[1:]):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("convolution", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("size", [(7, 6), (5, 8)])
def test_each_sample_is_a_plain_convolution(convolution, size):
    """Keras' own convolution of one sample with one kernel, in float32."""
    convolution = dict(convolution)
    groups = convolution.pop("groups", 1)
    x, kernels = draw((2, *size, 4), (2, 3, 2, 4 // groups, 4))
    y = reference.per_sample_conv2d(x, kernels, groups=groups, **convolution)
    for n in range(2):
        expected = run(
            lambda x, kernel: keras.ops.conv(x, kernel, **convolution),
            x[n : n + 1],
            kernels[n],
            dtype="float32",
        )
        assert_close(y[n : n + 1], expected, "float32")


@pytest.mark.parametrize("convolution", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("size", [(7, 6), (3, 4)])
def test_values_and_gradients_are_those_of_torch(convolution, size):
    """PyTorch in float64, padded by hand as TensorFlow's "same" does."""
    torch = pytest.importorskip("torch")
    strides = reference.pair(convolution.get("strides", 1))
    dilation = reference.pair(convolution.get("dilation_rate", 1))
    groups = convolution.get("groups", 1)
    x, kernels = draw((1, *size, 4), (1, 3, 2, 4 // groups, 4))
    y = reference.per_sample_conv2d(x, kernels, **convolution)
    dy = cotangent(y.shape)

    pads = [
        reference.geometry(*axis[:3], convolution["padding"], axis[3])[1:]
        for axis in zip(size, (3, 2), strides, dilation)
    ]
    tx = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    tk = torch.tensor(kernels[0].transpose(3, 2, 0, 1), requires_grad=True)
    ty = torch.nn.functional.conv2d(
        torch.nn.functional.pad(tx, (*pads[1], *pads[0])),
        tk,
        stride=strides,
        dilation=dilation,
        groups=groups,
    )
    ty.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))

    dx, dkernels = reference.per_sample_conv2d_gradients(
        dy, x, kernels, **convolution
    )
    assert_close(y, ty.detach().numpy().transpose(0, 2, 3, 1))
    assert_close(dx, tx.grad.numpy().transpose(0, 2, 3, 1))
    assert_close(dkernels[0], tk.grad.numpy().transpose(2, 3, 1, 0))


@pytest.mark.parametrize("input_size", [(7, 5), (2, 3), (1, 1), (6, 9)])
@pytest.mark.parametrize("output_size", [(1, 1), (3, 3), (2, 4), (5, 5)])
def test_pooling_is_that_of_torch(input_size, output_size):
    torch = pytest.importorskip("torch")
    (x,) = draw((2, 3, *input_size))
    expected = torch.nn.functional.adaptive_avg_pool2d(
        torch.tensor(x), output_size
    )
    actual = reference.adaptive_average_pool2d(
        x, output_size, data_format="channels_first"
    )
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-12)


def test_logits_follow_the_formula_term_by_term():
    """The grouped pointwise convolution written out, M/G = 2 and Ck/G = 3."""
    x, *weights = draw((1, 4, 4, 6), *reference.attention_shapes(6, 6, 3))
    reduce_kernel, reduce_bias, expand_kernel, expand_bias = weights
    assert expand_kernel.shape == (2, 6, 3)
    pooled = reference.adaptive_average_pool2d(x, (2, 1))
    hidden = np.maximum(pooled @ reduce_kernel + reduce_bias, 0)
    attention = reference.kernel_attention(x, *weights, (2, 1))
    for i, c, d in np.ndindex(2, 6, 3):
        logit = expand_bias[c, d] + sum(
            hidden[0, i, 0, (c // 3) * 2 + k] * expand_kernel[k, c, d]
            for k in range(2)
        )
        np.testing.assert_allclose(
            attention[0, i, 0, c, d], 1 / (1 + np.exp(-logit))
        )
