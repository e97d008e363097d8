"""Every implementation of the per-sample convolution against the reference."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
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


def expectations(x, kernels, convolution):
    """The reference's value and gradients."""
    y = reference.per_sample_conv2d(x, kernels, **convolution)
    return y, reference.per_sample_conv2d_gradients(
        cotangent(y.shape), x, kernels, **convolution
    )


def check(case, name, dtype="float64", mode=FASTEST_MODE, factor=64):
    """One implementation against the reference, value and gradients."""
    arrays = [rounded(array, dtype) for array in case.per_sample_arrays()]
    value, gradients = value_and_gradients(
        lambda x, kernels: ops.per_sample_conv2d(
            x, kernels, implementation=name, **case.convolution
        ),
        *arrays,
        dtype=dtype,
        mode=mode,
    )
    expected, expected_gradients = expectations(*arrays, case.convolution)
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
@pytest.mark.parametrize("case", [FEW_CASES[0]], ids=str)
def test_values_and_gradients_in_lower_precision(case, dtype, name):
    """Inputs are exact in `dtype`, so only the computation rounds.

    A product is rounded when it is stored, and a sum over a kernel's taps may
    be rounded once a tap: a few `eps` of the largest result, 4 here.
    """
    factor = 64 if dtype == "float32" else 4
    check(case, name, dtype, factor=factor)


@every_implementation
def test_gradients_are_the_finite_differences(name):
    """Of the library alone: the reference has no say."""
    case = Case((4, 3), 4, 4, (3, 2), 2, groups=2, batch=2)
    arrays = case.per_sample_arrays()

    def function(x, kernels):
        return ops.per_sample_conv2d(
            x, kernels, implementation=name, **case.convolution
        )

    value, gradients = value_and_gradients(function, *arrays)
    dy = cotangent(value.shape)
    generator = np.random.default_rng(3)
    for i, gradient in enumerate(gradients):
        # The function is linear in each array: a step of 1 is exact.
        direction = generator.normal(size=gradient.shape)
        ends = [list(arrays), list(arrays)]
        ends[0][i] = arrays[i] + direction
        ends[1][i] = arrays[i] - direction
        above, below = (np.sum(dy * run(function, *end)) for end in ends)
        np.testing.assert_allclose(
            np.sum(gradient * direction), (above - below) / 2, rtol=1e-11
        )


@every_implementation
@pytest.mark.parametrize(
    "case",
    [Case((5, 6), 4, 4, (3, 3), groups=2), Case((4, 4), 4, 6, (1, 1))],
    ids=str,
)
def test_samples_do_not_see_their_batch_mates(case, name):
    """What sample 0 holds reaches neither outputs nor gradients of others."""
    x, kernels = case.per_sample_arrays()

    def function(x, kernels):
        return ops.per_sample_conv2d(
            x, kernels, implementation=name, **case.convolution
        )

    value, gradients = value_and_gradients(function, x, kernels)
    for poison in (1e30, np.nan, np.inf):
        poisoned_x, poisoned_kernels = x.copy(), kernels.copy()
        poisoned_x[0], poisoned_kernels[0] = poison, poison
        poisoned_value, poisoned_gradients = value_and_gradients(
            function, poisoned_x, poisoned_kernels
        )
        assert_close(poisoned_value[1:], value[1:], factor=8)
        for poisoned, clean in zip(poisoned_gradients, gradients):
            assert_close(poisoned[1:], clean[1:], factor=8)
        if not np.isfinite(poison):
            assert not np.isfinite(poisoned_value[0]).any()


@every_implementation
def test_a_sample_alone_equals_itself_in_a_batch(name):
    case = Case((5, 6), 4, 8, (3, 3), 2, groups=4)
    x, kernels = case.per_sample_arrays()

    def function(x, kernels):
        return ops.per_sample_conv2d(
            x, kernels, implementation=name, **case.convolution
        )

    together = run(function, x, kernels)
    for n in range(case.batch):
        alone = run(function, x[n : n + 1], kernels[n : n + 1])
        assert_close(alone[0], together[n], factor=8)


@settings(
    max_examples=20,
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
    draw_pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    strides, dilation_rate = data.draw(
        st.one_of(
            st.tuples(draw_pair, st.just((1, 1))),
            st.tuples(st.just((1, 1)), draw_pair),
        )
    )
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    size = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    padding = data.draw(st.sampled_from(["same", "valid"]))
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation_rate)]
    assume(padding == "same" or all(e <= s for e, s in zip(extents, size)))
    check(
        Case(
            size,
            groups * data.draw(st.integers(1, 3)),
            groups * data.draw(st.integers(1, 3)),
            kernel,
            strides,
            padding,
            dilation_rate,
            groups,
            data.draw(st.sampled_from(["channels_last", "channels_first"])),
            data.draw(st.integers(1, 3)),
        ),
        data.draw(st.sampled_from(NAMES)),
    )


def test_defaults_are_those_of_the_signature():
    """Strides 1, valid padding, no dilation, one group."""
    case = Case((5, 6), 3, 4, (3, 2), padding="valid")
    x, kernels = case.per_sample_arrays()
    assert_close(
        run(ops.per_sample_conv2d, x, kernels),
        reference.per_sample_conv2d(x, kernels),
    )


def test_data_format_defaults_to_the_one_of_keras():
    case = Case((5, 6), 3, 4, (3, 2), data_format="channels_first")
    x, kernels = case.per_sample_arrays()
    keras.config.set_image_data_format("channels_first")
    try:
        actual = run(
            lambda *a: ops.per_sample_conv2d(*a, padding="same"), x, kernels
        )
    finally:
        keras.config.set_image_data_format("channels_last")
    assert_close(
        actual, reference.per_sample_conv2d(x, kernels, **case.convolution)
    )


def test_the_output_has_the_dtype_of_the_input():
    case = Case((4, 4), 2, 2, (3, 3))
    for dtype in ("float32", "float16", "bfloat16"):
        x, kernels = (
            keras.ops.convert_to_tensor(array, dtype)
            for array in case.per_sample_arrays()
        )
        for name in NAMES:
            y = ops.per_sample_conv2d(
                x, kernels, padding="same", implementation=name
            )
            assert keras.backend.standardize_dtype(y.dtype) == dtype


@every_implementation
def test_functional_model(name, tmp_path):
    """Symbolic tensors in, a model that saves and loads out."""
    case = Case((6, 5), 4, 6, (3, 3), 2, groups=2)
    x, kernels = case.per_sample_arrays()
    inputs = [keras.Input(x.shape[1:]), keras.Input(kernels.shape[1:])]
    outputs = ops.per_sample_conv2d(
        *inputs, implementation=name, **case.convolution
    )
    expected = reference.per_sample_conv2d(x, kernels, **case.convolution)
    assert tuple(outputs.shape) == (None, *expected.shape[1:])
    model = keras.Model(inputs, outputs)
    value = model.predict([x, kernels], verbose=0)
    assert_close(value, expected, "float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict([x, kernels], verbose=0), value
    )


def test_symbolic_shapes_of_unknown_size():
    x = keras.Input((None, None, 4))
    kernels = keras.Input((3, 3, 2, 6))
    y = ops.per_sample_conv2d(x, kernels, groups=2, padding="same")
    assert tuple(y.shape) == (None, None, None, 6)


ERRORS = {
    "input rank": dict(x=(2, 5, 4)),
    "kernel rank": dict(kernels=(3, 3, 4, 4)),
    "batch of kernels": dict(kernels=(3, 3, 3, 4, 4)),
    "channels of kernels": dict(kernels=(2, 3, 3, 3, 4)),
    "channels and groups": dict(x=(2, 5, 5, 5), groups=2),
    "filters and groups": dict(kernels=(2, 3, 3, 2, 5), groups=2),
    "kernel larger than input": dict(x=(2, 5, 2, 4), padding="valid"),
    "dilated kernel larger than input": dict(dilation_rate=3, padding="valid"),
    "padding": dict(padding="reflect"),
    "data format": dict(data_format="NHWC"),
    "strides": dict(strides=0),
    "groups": dict(groups=0),
    "implementation": dict(implementation="quick"),
}


@pytest.mark.parametrize("changes", ERRORS.values(), ids=ERRORS)
def test_errors(changes):
    arguments = dict(x=(2, 5, 5, 4), kernels=(2, 3, 3, 4, 4), padding="same")
    arguments.update(changes)
    x = np.zeros(arguments.pop("x"), "float32")
    kernels = np.zeros(arguments.pop("kernels"), "float32")
    with pytest.raises(ValueError, match="(?s)Expected.*Received"):
        ops.per_sample_conv2d(
            keras.ops.convert_to_tensor(x),
            keras.ops.convert_to_tensor(kernels),
            **arguments,
        )


if BACKEND == "tensorflow":
    import tensorflow as tf

    from tests.backends import tensorflow_cotangent

    @every_implementation
    @pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
    @pytest.mark.parametrize("kernel", [(3, 3), (1, 1)])
    def test_one_trace_serves_every_size(kernel, data_format, name):
        """Unknown batch, height and width; from nothing to several samples."""
        convolution = dict(
            strides=2, padding="same", groups=2, data_format=data_format
        )
        signature = (
            [None, None, None, 4]
            if data_format == "channels_last"
            else [None, 4, None, None]
        )

        @tf.function(
            input_signature=[
                tf.TensorSpec(signature, "float64"),
                tf.TensorSpec([None, *kernel, 2, 6], "float64"),
            ]
        )
        def step(x, kernels):
            with tf.GradientTape() as tape:
                tape.watch([x, kernels])
                y = ops.per_sample_conv2d(
                    x, kernels, implementation=name, **convolution
                )
            return y, tape.gradient(y, [x, kernels], tensorflow_cotangent(y))

        for batch, *size in [(2, 5, 6), (1, 4, 4), (3, 2, 1), (0, 3, 3)]:
            case = Case(tuple(size), 4, 6, kernel, batch=batch, **convolution)
            arrays = case.per_sample_arrays()
            y, gradients = step(*map(tf.constant, arrays))
            expected, expected_gradients = expectations(*arrays, convolution)
            assert_close(y, expected)
            for gradient, expected_gradient in zip(
                gradients, expected_gradients
            ):
                assert_close(gradient, expected_gradient)

    @every_implementation
    def test_persistent_tape(name):
        """A tape may ask for each gradient by itself, more than once."""
        case = Case((5, 5), 4, 4, (3, 3))
        x, kernels = map(tf.constant, case.per_sample_arrays())
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, kernels])
            y = ops.per_sample_conv2d(
                x, kernels, implementation=name, **case.convolution
            )
            dy = tensorflow_cotangent(y)
        _, (dx, dkernels) = expectations(
            x.numpy(), kernels.numpy(), case.convolution
        )
        for _ in range(2):
            assert_close(tape.gradient(y, x, dy), dx)
            assert_close(tape.gradient(y, kernels, dy), dkernels)

    @every_implementation
    def test_shapes_are_known_where_the_inputs_are(name):
        @tf.function
        def shape_of(x, kernels):
            y = ops.per_sample_conv2d(
                x, kernels, 2, "same", implementation=name
            )
            shapes.append(y.shape.as_list())
            return y

        shapes = []
        shape_of.get_concrete_function(
            tf.TensorSpec([None, 9, 8, 4]), tf.TensorSpec([None, 3, 3, 4, 6])
        )
        shape_of.get_concrete_function(
            tf.TensorSpec([5, 9, None, 4]), tf.TensorSpec([5, 3, 3, 4, 6])
        )
        assert shapes == [[None, 5, 4, 6], [5, 5, None, 6]]


if BACKEND == "jax":
    import jax

    @every_implementation
    def test_shapes_and_dtypes_without_computing(name):
        y = jax.eval_shape(
            lambda x, kernels: ops.per_sample_conv2d(
                x, kernels, 2, "same", implementation=name
            ),
            jax.ShapeDtypeStruct((5, 9, 8, 4), "bfloat16"),
            jax.ShapeDtypeStruct((5, 3, 3, 4, 6), "bfloat16"),
        )
        assert (y.shape, y.dtype) == ((5, 5, 4, 6), "bfloat16")
