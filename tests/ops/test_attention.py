"""Adaptive pooling, the kernel attention and the attentional kernel."""

import keras
import numpy as np
import pytest

from aw_keras import ops
from tests import reference
from tests.backends import (
    BACKEND,
    MODES,
    assert_close,
    cotangent,
    epsilon,
    rounded,
    run,
    value_and_gradients,
)

FORMATS = ["channels_last", "channels_first"]
SIZES = [(7, 5), (2, 3), (1, 1), (6, 9), (8, 8)]
KERNELS = [(1, 1), (3, 3), (2, 4), (5, 5)]


def draw(*shapes):
    generator = np.random.default_rng(13)
    return [generator.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("output_size", KERNELS)
@pytest.mark.parametrize("input_size", SIZES)
def test_pooling(input_size, output_size, data_format):
    (x,) = draw((2, *input_size, 3))
    x = reference.restore_format(x, data_format)
    value, (gradient,) = value_and_gradients(
        lambda x: ops.adaptive_average_pool2d(x, output_size, data_format), x
    )
    assert_close(
        value, reference.adaptive_average_pool2d(x, output_size, data_format)
    )
    dy = reference.channels_last(cotangent(value.shape), data_format)
    expected = reference.adaptive_average_pool2d_gradient(dy, input_size)
    assert_close(gradient, reference.restore_format(expected, data_format))


@pytest.mark.parametrize("mode", MODES)
def test_pooling_is_that_of_torch(mode):
    torch = pytest.importorskip("torch")
    (x,) = draw((2, 3, 7, 5))
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(x), (3, 2))
    actual = run(
        lambda x: ops.adaptive_average_pool2d(x, (3, 2), "channels_first"),
        x,
        mode=mode,
    )
    assert_close(actual, expected.numpy())


def test_pooling_of_an_empty_batch():
    value = run(
        lambda x: ops.adaptive_average_pool2d(x, (3, 3)), np.zeros((0, 5, 5, 2))
    )
    assert value.shape == (0, 3, 3, 2)


def test_pooling_takes_one_integer_for_a_square():
    (x,) = draw((1, 5, 7, 2))
    assert_close(
        run(lambda x: ops.adaptive_average_pool2d(x, 3), x),
        reference.adaptive_average_pool2d(x, (3, 3)),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("value", [60000.0, 1e-4])
def test_the_mean_of_extreme_values_is_finite_and_accurate(value, dtype):
    """16 bits hold the mean, yet neither the sum nor a tiny product.

    1,600 values near 60000 sum to 9.6e7, float16 ends at 65504; a bin's
    average of equal values is that value, rounded to `dtype` once.
    """
    x = np.full((2, 40, 40, 3), value)
    actual = run(
        lambda x: ops.adaptive_average_pool2d(x, (2, 3)), x, dtype=dtype
    )
    np.testing.assert_allclose(
        actual,
        rounded(value, dtype) * np.ones_like(actual),
        rtol=epsilon(dtype),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_mean_of_many_values_does_not_drift(dtype):
    """A running sum in 16 bits would stop growing after `1 / eps` terms."""
    x = rounded(1 + draw((1, 64, 64, 2))[0] / 8, dtype)
    actual = run(
        lambda x: ops.adaptive_average_pool2d(x, (1, 1)), x, dtype=dtype
    )
    np.testing.assert_allclose(
        actual,
        reference.adaptive_average_pool2d(x, (1, 1)),
        rtol=epsilon(dtype),
    )


def attention_arrays(channels, groups, filters, size, reduction=16):
    shapes = reference.attention_shapes(
        channels, channels // groups, filters, reduction
    )
    return draw((3, *size, channels), *shapes)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(
    "channels, groups, reduction",
    [(4, 1, 16), (3, 1, 16), (10, 1, 2), (18, 3, 2), (6, 6, 16), (96, 1, 16)],
)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
def test_kernel_attention(kernel, channels, groups, reduction, data_format):
    x, *weights = attention_arrays(channels, groups, 6, (5, 4), reduction)
    x = reference.restore_format(x, data_format)
    value, gradients = value_and_gradients(
        lambda *arrays: ops.kernel_attention(*arrays, kernel, data_format),
        x,
        *weights,
    )
    assert value.shape == (3, *kernel, channels // groups, 6)
    expected = reference.kernel_attention(x, *weights, kernel, data_format)
    assert_close(value, expected)
    # The gradient along a random direction is the finite difference.
    dy = cotangent(value.shape)
    directions = draw(*(array.shape for array in [x, *weights]))
    step = 1e-6
    above, below = (
        reference.kernel_attention(
            *(a + s * d for a, d in zip([x, *weights], directions)),
            kernel,
            data_format,
        )
        for s in (step, -step)
    )
    np.testing.assert_allclose(
        sum(np.sum(g * d) for g, d in zip(gradients, directions)),
        np.sum(dy * (above - below)) / (2 * step),
        rtol=1e-6,
        atol=1e-8,
    )


@pytest.mark.parametrize("mode", MODES)
def test_kernel_attention_in_every_mode(mode):
    arrays = attention_arrays(6, 1, 4, (5, 7))
    assert_close(
        run(lambda *a: ops.kernel_attention(*a, (3, 3)), *arrays, mode=mode),
        reference.kernel_attention(*arrays, (3, 3)),
    )


def test_a_zero_expansion_is_one_half_everywhere():
    x, reduce_kernel, reduce_bias, expand, bias = attention_arrays(
        4, 1, 6, (5, 4)
    )
    attention = run(
        lambda *a: ops.kernel_attention(*a, (3, 3)),
        x,
        reduce_kernel,
        reduce_bias,
        np.zeros_like(expand),
        np.zeros_like(bias),
    )
    np.testing.assert_array_equal(attention, np.full((3, 3, 3, 4, 6), 0.5))


def test_extreme_logits_saturate_without_nan():
    """The sigmoid's exponential must not overflow into its gradient."""
    x, reduce_kernel, reduce_bias, expand, bias = attention_arrays(
        4, 1, 6, (5, 4)
    )
    for sign in (1, -1):
        value, gradients = value_and_gradients(
            lambda *a: ops.kernel_attention(*a, (3, 3)),
            x,
            reduce_kernel,
            reduce_bias,
            expand,
            np.full_like(bias, sign * 1e4),
            dtype="float32",
        )
        np.testing.assert_array_equal(value, max(sign, 0))
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_attention_of_16_bit_inputs_is_accurate(dtype):
    """Rounded once, at the end: half a unit in the last place, or a little."""
    arrays = attention_arrays(32, 1, 4, (16, 16))
    arrays[0] += 20
    arrays[1] /= 32
    arrays = [rounded(array, dtype) for array in arrays]
    actual = run(
        lambda *a: ops.kernel_attention(*a, (3, 3)), *arrays, dtype=dtype
    )
    expected = reference.kernel_attention(*arrays, (3, 3))
    np.testing.assert_allclose(actual, expected, atol=epsilon(dtype))


def test_attentional_kernel():
    kernel, attention = draw((3, 2, 4, 6), (5, 3, 2, 4, 6))
    value, gradients = value_and_gradients(
        ops.attentional_kernel, kernel, attention
    )
    assert_close(value, kernel + attention * kernel)
    dy = cotangent(value.shape)
    assert_close(gradients[0], np.sum(dy * (1 + attention), axis=0))
    assert_close(gradients[1], dy * kernel)


@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 2, 5, 4, 3)])
def test_pooling_needs_four_axes(shape):
    with pytest.raises(ValueError, match="(?s)Expected.*Received"):
        ops.adaptive_average_pool2d(keras.ops.zeros(shape), (3, 3))


def test_pooling_knows_two_data_formats():
    with pytest.raises(ValueError, match="(?s)Expected.*Received"):
        ops.adaptive_average_pool2d(
            keras.ops.zeros((1, 5, 5, 3)), (3, 3), data_format="NHWC"
        )


if BACKEND == "tensorflow":
    import tensorflow as tf

    @pytest.mark.parametrize("jit_compile", [False, True])
    @pytest.mark.parametrize("data_format", FORMATS)
    def test_one_trace_serves_every_size(data_format, jit_compile):
        """Unknown batch, height and width."""
        arrays = attention_arrays(6, 1, 4, (5, 4))
        weights = [tf.constant(array) for array in arrays[1:]]
        signature = (
            [None, None, None, 6]
            if data_format == "channels_last"
            else [None, 6, None, None]
        )

        @tf.function(
            input_signature=[tf.TensorSpec(signature, "float64")],
            jit_compile=jit_compile,
        )
        def attention(x):
            return ops.kernel_attention(x, *weights, (3, 2), data_format)

        for size in [(5, 4), (2, 1), (9, 7)]:
            (x,) = draw((2, *size, 6))
            x = reference.restore_format(x, data_format)
            assert_close(
                attention(tf.constant(x)),
                reference.kernel_attention(x, *arrays[1:], (3, 2), data_format),
            )


def test_symbolic_inputs_of_unknown_size_are_refused():
    weights = [
        np.zeros(shape, "float32")
        for shape in reference.attention_shapes(4, 4, 2, 16)
    ]
    message = "Expected the height and width.*Received: x.shape=.*None"
    with pytest.raises(ValueError, match=message):
        ops.kernel_attention(
            keras.Input((None, None, 4)), *weights, kernel_size=3
        )
