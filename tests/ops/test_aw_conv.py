"""The whole AW-convolution, whose gradients are partly written by hand."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aw_keras import ops
from tests import reference
from tests.backends import (
    BACKEND,
    COMPILED_MODES,
    FASTEST_MODE,
    assert_close,
    cotangent,
    rounded,
    run,
    value_and_gradients,
)
from tests.ops.cases import CASES, FEW_CASES, IMPLEMENTATION_CASES, Case

NAMES = ("auto", *ops.IMPLEMENTATIONS)

every_implementation = pytest.mark.parametrize("name", NAMES)


def function_of(case, name):
    """The convolution of `case` as a function of its six tensors."""
    return lambda *tensors: ops.aw_conv2d(
        *tensors, implementation=name, **case.convolution
    )


def expectations(arrays, convolution):
    """The reference's value and gradients."""
    y = reference.aw_conv2d(*arrays, **convolution)
    return y, reference.aw_conv2d_gradients(
        cotangent(y.shape), *arrays, **convolution
    )


def check(case, name, dtype="float64", mode=FASTEST_MODE, factor=256):
    """One implementation against the reference, value and six gradients."""
    arrays = [rounded(array, dtype) for array in case.aw_arrays()]
    value, gradients = value_and_gradients(
        function_of(case, name), *arrays, dtype=dtype, mode=mode
    )
    expected, expected_gradients = expectations(arrays, case.convolution)
    assert_close(value, expected, dtype, factor)
    for gradient, expected_gradient in zip(gradients, expected_gradients):
        assert_close(gradient, expected_gradient, dtype, factor)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_of_the_automatic_choice(case):
    check(case, "auto")


@pytest.mark.parametrize("name", ops.IMPLEMENTATIONS)
@pytest.mark.parametrize("case", IMPLEMENTATION_CASES, ids=str)
def test_values_and_gradients(case, name):
    check(case, name)


@every_implementation
@pytest.mark.parametrize("mode", COMPILED_MODES)
@pytest.mark.parametrize("case", [FEW_CASES[0]], ids=str)
def test_values_and_gradients_when_compiled(case, mode, name):
    check(case, name, mode=mode)


@every_implementation
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", [FEW_CASES[7]], ids=str)
def test_values_and_gradients_in_lower_precision(case, dtype, name):
    """Inputs are exact in `dtype`, so only the computation rounds.

    The kernel, the output and what flows back are each rounded to `dtype`,
    and sums over taps and samples may be: some `eps` of the largest result.
    """
    check(case, name, dtype, factor=256 if dtype == "float32" else 6)


@every_implementation
def test_symmetric_padding_in_the_precision_of_networks(name):
    """Frameworks have other convolutions for float32 than for float64."""
    check(Case((8, 7), 3, 4, (3, 3), 2, "symmetric"), name, "float32")


@every_implementation
def test_gradients_are_the_finite_differences(name):
    """Of the library alone, in every argument: the reference has no say."""
    case = Case((4, 5), 4, 4, (3, 2), 2, batch=2, groups=2)
    arrays = case.aw_arrays()
    function = function_of(case, name)
    value, gradients = value_and_gradients(function, *arrays)
    dy = cotangent(value.shape)
    generator = np.random.default_rng(3)
    step = 1e-5
    for i, gradient in enumerate(gradients):
        direction = generator.normal(size=gradient.shape)
        ends = [list(arrays), list(arrays)]
        ends[0][i] = arrays[i] + step * direction
        ends[1][i] = arrays[i] - step * direction
        above, below = (np.sum(dy * run(function, *end)) for end in ends)
        np.testing.assert_allclose(
            np.sum(gradient * direction),
            (above - below) / (2 * step),
            rtol=1e-7,
            atol=1e-7,
        )


@every_implementation
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1)])
def test_samples_do_not_see_their_batch_mates(kernel, name):
    """What sample 0 holds reaches neither output nor `dx` of the others."""
    case = Case((5, 6), 4, 4, kernel, groups=2)
    x, *weights = case.aw_arrays()
    function = function_of(case, name)
    value, (dx, *_) = value_and_gradients(function, x, *weights)
    for poison in (1e30, np.nan, np.inf):
        poisoned = x.copy()
        poisoned[0] = poison
        poisoned_value, (poisoned_dx, *_) = value_and_gradients(
            function, poisoned, *weights
        )
        assert_close(poisoned_value[1:], value[1:], factor=8)
        assert_close(poisoned_dx[1:], dx[1:], factor=8)
    assert not np.isfinite(poisoned_value[0]).any()


@every_implementation
def test_a_sample_alone_equals_itself_in_a_batch(name):
    """The weights' gradients of a batch are the sum of its samples'."""
    case = Case((5, 6), 4, 8, (3, 3), 2, groups=4)
    x, *weights = case.aw_arrays()
    function = function_of(case, name)
    together, (dx, *dweights) = value_and_gradients(function, x, *weights)
    dy = cotangent(together.shape)
    sums = [np.zeros_like(gradient) for gradient in dweights]
    for n in range(case.batch):
        alone = run(function, x[n : n + 1], *weights)
        assert_close(alone[0], together[n], factor=8)
        dx_alone, *gradients = reference.aw_conv2d_gradients(
            dy[n : n + 1], x[n : n + 1], *weights, **case.convolution
        )
        assert_close(dx[n], dx_alone[0], factor=256)
        sums = [total + g for total, g in zip(sums, gradients)]
    for gradient, total in zip(dweights, sums):
        assert_close(gradient, total, factor=256)


@every_implementation
def test_zero_expansion_is_the_plain_convolution_with_three_halves(name):
    """And its gradient with respect to the expand kernel is not zero."""
    case = Case((6, 5), 4, 6, (3, 3), 2)
    arrays = case.aw_arrays()
    arrays[4], arrays[5] = np.zeros_like(arrays[4]), np.zeros_like(arrays[5])
    value, gradients = value_and_gradients(function_of(case, name), *arrays)
    x, kernel = arrays[:2]
    plain = run(
        lambda x, kernel: keras.ops.conv(x, kernel, strides=2, padding="same"),
        x,
        1.5 * kernel,
    )
    assert_close(value, plain)
    assert np.abs(gradients[4]).max() > 1e-3


@settings(
    max_examples=10,
    deadline=None,
    # Shrinking a failure would compile hundreds of convolutions.
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_random_configurations(data):
    groups = data.draw(st.integers(1, 3))
    one_or_two = st.tuples(st.integers(1, 3), st.integers(1, 3))
    strides, dilation_rate = data.draw(
        st.one_of(
            st.tuples(one_or_two, st.just((1, 1))),
            st.tuples(st.just((1, 1)), one_or_two),
        )
    )
    case = Case(
        data.draw(st.tuples(st.integers(1, 8), st.integers(1, 8))),
        groups * data.draw(st.integers(1, 5)),
        groups * data.draw(st.integers(1, 3)),
        data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        strides,
        "same",
        dilation_rate,
        groups,
        data.draw(st.sampled_from(["channels_last", "channels_first"])),
        data.draw(st.integers(1, 3)),
        data.draw(st.sampled_from([1, 2, 16])),
    )
    check(case, data.draw(st.sampled_from(NAMES)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_output_has_the_dtype_of_the_input(dtype):
    case = Case((4, 4), 2, 2, (3, 3))
    tensors = [
        keras.ops.convert_to_tensor(array, dtype) for array in case.aw_arrays()
    ]
    for name in NAMES:
        y = function_of(case, name)(*tensors)
        assert keras.backend.standardize_dtype(y.dtype) == dtype


def test_large_float16_inputs_do_not_overflow_the_attention():
    """The branch pools in float32: its attention stays between 0 and 1."""
    case = Case((8, 8), 2, 2, (3, 3))
    arrays = case.aw_arrays()
    arrays[0] = np.full_like(arrays[0], 3e4)
    arrays[1] = rounded(arrays[1] / 1e4, "float16")
    arrays[1:] = [rounded(array, "float16") for array in arrays[1:]]
    for name in NAMES:
        value = run(function_of(case, name), *arrays, dtype="float16")
        expected = reference.aw_conv2d(*arrays, **case.convolution)
        assert_close(value, expected, "float16", factor=8)


ERRORS = {
    "input rank": {0: (2, 5, 4)},
    "kernel rank": {1: (3, 3, 4)},
    "kernel channels": {1: (3, 3, 3, 4)},
}


@pytest.mark.parametrize("changes", ERRORS.values(), ids=ERRORS)
def test_errors_of_shapes(changes):
    arrays = Case((5, 5), 4, 4, (3, 3), batch=2).aw_arrays()
    for position, shape in changes.items():
        arrays[position] = np.zeros(shape)
    tensors = [keras.ops.convert_to_tensor(a, "float32") for a in arrays]
    with pytest.raises(ValueError, match="(?s)Expected.*Received"):
        ops.aw_conv2d(*tensors, padding="same")


@pytest.mark.parametrize(
    "arguments",
    [
        dict(padding="reflect"),
        dict(data_format="NHWC"),
        dict(groups=3),
        dict(implementation="quick"),
        dict(dilation_rate=3),
    ],
    ids=str,
)
def test_errors_of_arguments(arguments):
    arrays = Case((5, 5), 4, 4, (3, 3), batch=2).aw_arrays()
    tensors = [keras.ops.convert_to_tensor(a, "float32") for a in arrays]
    with pytest.raises(ValueError, match="(?s)Expected.*Received"):
        ops.aw_conv2d(*tensors, **arguments)


if BACKEND == "tensorflow":
    import tensorflow as tf

    from tests.backends import tensorflow_cotangent

    @every_implementation
    def test_one_trace_serves_every_size(name):
        """Unknown batch, height and width."""
        convolution = dict(strides=2, padding="same", groups=2)
        weights = Case((1, 1), 4, 6, (3, 2), groups=2).aw_arrays()[1:]
        tensors = [tf.constant(array) for array in weights]

        @tf.function(
            input_signature=[tf.TensorSpec([None, None, None, 4], "float64")]
        )
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch([x, *tensors])
                y = ops.aw_conv2d(
                    x, *tensors, implementation=name, **convolution
                )
            return y, tape.gradient(y, [x, *tensors], tensorflow_cotangent(y))

        for batch, *size in [(2, 5, 6), (1, 4, 4), (3, 2, 1), (0, 3, 3)]:
            case = Case(tuple(size), 4, 6, (3, 2), batch=batch, groups=2)
            x = case.aw_arrays()[0]
            y, gradients = step(tf.constant(x))
            expected, expected_gradients = expectations(
                [x, *weights], convolution
            )
            assert_close(y, expected)
            for gradient, expected_gradient in zip(
                gradients, expected_gradients
            ):
                assert_close(gradient, expected_gradient, factor=256)

    @every_implementation
    def test_persistent_tape(name):
        """A tape may ask for each gradient by itself."""
        case = Case((5, 5), 4, 4, (3, 3))
        arrays = case.aw_arrays()
        tensors = [tf.constant(array) for array in arrays]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(tensors)
            y = function_of(case, name)(*tensors)
            dy = tensorflow_cotangent(y)
        _, expected = expectations(arrays, case.convolution)
        for tensor, gradient in zip(tensors, expected):
            assert_close(tape.gradient(y, tensor, dy), gradient, factor=256)

    @every_implementation
    def test_gradient_of_variables(name):
        """Weights are variables, read inside the function under the tape."""
        case = Case((5, 5), 4, 4, (3, 3))
        arrays = case.aw_arrays()
        x, *variables = map(tf.Variable, arrays)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                y = function_of(case, name)(x, *variables)
            return tape.gradient(y, variables, tensorflow_cotangent(y))

        _, (_, *expected) = expectations(arrays, case.convolution)
        for actual, gradient in zip(step(), expected):
            assert_close(actual, gradient, factor=256)


if BACKEND == "jax":
    import jax

    @every_implementation
    def test_shapes_and_dtypes_without_computing(name):
        case = Case((9, 8), 4, 6, (3, 3), 2)
        y = jax.eval_shape(
            function_of(case, name),
            *(
                jax.ShapeDtypeStruct(array.shape, "bfloat16")
                for array in case.aw_arrays()
            ),
        )
        assert (y.shape, y.dtype) == ((3, 5, 4, 6), "bfloat16")

    def test_rematerialisation():
        """`jax.checkpoint` around the whole keeps the gradients."""
        case = Case((5, 5), 4, 4, (3, 3))
        arrays = case.aw_arrays()
        _, gradients = value_and_gradients(
            jax.checkpoint(function_of(case, "auto")), *arrays
        )
        _, expected = expectations(arrays, case.convolution)
        for actual, gradient in zip(gradients, expected):
            assert_close(actual, gradient, factor=256)
