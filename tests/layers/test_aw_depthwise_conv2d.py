"""`AWDepthwiseConv2D`: a depthwise signature for `AWConv2D` in C1 groups."""

import inspect

import keras
import numpy as np
import pytest
from absl.testing import parameterized
from keras.src.testing import TestCase

import aw_keras
from aw_keras.layers import AWConv2D, AWDepthwiseConv2D
from tests.backends import assert_close, rounded, to_numpy
from tests.layers.test_aw_conv2d import draw, randomised, reference_output


class KerasChecklist(TestCase):
    """Keras' own test of a layer."""

    @parameterized.named_parameters(
        ("defaults", dict(kernel_size=3), (3, 3, 4, 4)),
        (
            "multiplier_without_bias",
            dict(
                kernel_size=(2, 3),
                strides=2,
                padding="same",
                depth_multiplier=3,
                activation="relu",
                use_bias=False,
                reduction=2,
                attention_expand_initializer="zeros",
                implementation="grouped",
            ),
            (3, 3, 3, 12),
        ),
    )
    def test_channels_last(self, init_kwargs, expected_output_shape):
        self.run_layer_test(
            AWDepthwiseConv2D,
            init_kwargs=init_kwargs,
            input_shape=(3, 5, 6, 4),
            expected_output_shape=expected_output_shape,
            expected_num_trainable_weights=(
                6 if init_kwargs.get("use_bias", True) else 5
            ),
            expected_num_non_trainable_weights=0,
            expected_num_seed_generators=0,
            expected_num_losses=0,
            supports_masking=False,
        )

    def test_channels_first_with_regularizers_and_constraints(self):
        self.run_layer_test(
            AWDepthwiseConv2D,
            init_kwargs=dict(
                kernel_size=3,
                data_format="channels_first",
                depthwise_regularizer="l2",
                bias_regularizer="l1",
                activity_regularizer="l2",
                depthwise_constraint="unit_norm",
                bias_constraint="non_neg",
            ),
            input_shape=(2, 4, 5, 6),
            expected_output_shape=(2, 4, 3, 4),
            expected_num_trainable_weights=6,
            expected_num_losses=3,
        )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "arguments",
    [
        dict(kernel_size=3, padding="same"),
        dict(kernel_size=(2, 3), strides=2, depth_multiplier=2),
        dict(kernel_size=3, dilation_rate=2, padding="same", use_bias=False),
        dict(kernel_size=1, depth_multiplier=3),
    ],
    ids=str,
)
def test_equals_the_grouped_layer_with_the_same_weights(arguments, data_format):
    shape = (3, 7, 6, 4) if data_format == "channels_last" else (3, 4, 7, 6)
    x = draw(*shape).astype("float32")
    layer = AWDepthwiseConv2D(**arguments, data_format=data_format)
    randomised(layer, shape)
    arguments = dict(arguments)
    filters = 4 * arguments.pop("depth_multiplier", 1)
    grouped = AWConv2D(filters, **arguments, groups=4, data_format=data_format)
    grouped.build(shape)
    assert [(v.name, v.shape) for v in layer.weights] == [
        (v.name, v.shape) for v in grouped.weights
    ]
    grouped.set_weights(layer.get_weights())
    y = to_numpy(layer(x))
    assert_close(y, to_numpy(grouped(x)), "float32", factor=8)
    assert_close(y, reference_output(layer, x), "float32")
    np.testing.assert_array_equal(
        to_numpy(layer.kernel_attention(x)),
        to_numpy(grouped.kernel_attention(x)),
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_zero_expansion_is_the_depthwise_convolution_of_keras(data_format):
    """`depthwise_kernel` (h, w, C1, m) and `kernel` (h, w, 1, C1 * m) agree."""
    shape = (2, 7, 6, 4) if data_format == "channels_last" else (2, 4, 7, 6)
    arguments = dict(
        kernel_size=3,
        strides=2,
        padding="same",
        depth_multiplier=2,
        data_format=data_format,
    )
    x = draw(*shape).astype("float32")
    layer = AWDepthwiseConv2D(**arguments, attention_expand_initializer="zeros")
    y = to_numpy(layer(x))
    kernel, bias = layer.get_weights()[:2]
    arguments["data_format"] = "channels_last"
    plain = keras.layers.DepthwiseConv2D(**arguments)
    if data_format == "channels_first":
        x, y = x.transpose(0, 2, 3, 1), y.transpose(0, 2, 3, 1)
    plain.build(x.shape)
    plain.set_weights([1.5 * kernel.reshape(3, 3, 4, 2), bias])
    assert_close(y, to_numpy(plain(x)), "float32")


def test_the_signature_is_that_of_the_depthwise_convolution_of_keras():
    theirs = inspect.signature(keras.layers.DepthwiseConv2D.__init__)
    ours = inspect.signature(AWDepthwiseConv2D.__init__)
    positional = [
        (p.name, p.default)
        for p in ours.parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    assert positional == [
        (p.name, p.default)
        for p in theirs.parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]


def test_the_initializer_sees_the_fans_of_a_depthwise_kernel():
    """As `keras.layers.DepthwiseConv2D`: the same seed, the same numbers."""
    arguments = dict(kernel_size=3, depth_multiplier=2)
    x = np.zeros((1, 5, 5, 64), "float32")
    kernels = []
    for layer_class in (AWDepthwiseConv2D, keras.layers.DepthwiseConv2D):
        layer = layer_class(
            **arguments,
            depthwise_initializer=keras.initializers.GlorotUniform(seed=3),
        )
        layer(x)
        kernels.append(layer.get_weights()[0])
    np.testing.assert_array_equal(
        kernels[0].reshape(kernels[1].shape), kernels[1]
    )


def test_config_round_trip():
    layer = AWDepthwiseConv2D(
        (3, 2),
        strides=2,
        padding="same",
        depth_multiplier=3,
        data_format="channels_first",
        activation="relu",
        use_bias=False,
        depthwise_initializer="he_normal",
        depthwise_regularizer="l2",
        depthwise_constraint="non_neg",
        reduction=3,
        attention_expand_initializer="zeros",
        implementation="shifted",
        name="aw",
    )
    config = layer.get_config()
    signature = inspect.signature(AWDepthwiseConv2D.__init__).parameters
    arguments = set(signature) - {"self", "kwargs"}
    assert arguments <= set(config)
    assert not {"filters", "groups", "kernel_initializer"} & set(config)
    assert AWDepthwiseConv2D.from_config(config).get_config() == config
    layer.build((None, 4, 7, 6))
    assert layer.get_config() == config
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is AWDepthwiseConv2D
    assert copy.get_config() == config


def test_model_file(tmp_path):
    inputs = keras.Input((None, None, 4))
    layer = AWDepthwiseConv2D(3, depth_multiplier=2, padding="same")
    model = keras.Model(inputs, layer(inputs))
    for variable in layer.weights:
        variable.assign(to_numpy(variable) + 0.05)
    x = draw(2, 5, 6, 4).astype("float32")
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    model.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_one_instance_knows_its_output_before_it_is_built():
    layer = AWDepthwiseConv2D(3, depth_multiplier=2)
    assert layer.compute_output_shape((None, 7, 6, 5)) == (None, 5, 4, 10)
    assert layer.compute_output_shape((None, 7, 6, 4)) == (None, 5, 4, 8)
    assert tuple(layer(np.zeros((1, 7, 6, 4), "float32")).shape) == (1, 5, 4, 8)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_policies(policy):
    compute = policy.removeprefix("mixed_")
    x = rounded(draw(3, 7, 6, 4), compute)
    layer = AWDepthwiseConv2D(3, padding="same", dtype=policy)
    randomised(layer, x.shape)
    y = layer(keras.ops.convert_to_tensor(x, compute))
    assert keras.backend.standardize_dtype(y.dtype) == compute
    assert_close(
        to_numpy(y), reference_output(layer, x, compute), compute, factor=4
    )


def test_public_names():
    assert aw_keras.AWDepthwiseConv2D is AWDepthwiseConv2D
    assert issubclass(AWDepthwiseConv2D, AWConv2D)


@pytest.mark.parametrize("depth_multiplier", [0, -1, 1.5])
def test_errors_of_the_depth_multiplier(depth_multiplier):
    with pytest.raises(ValueError, match="(?s)Expected.*Received: "):
        AWDepthwiseConv2D(3, depth_multiplier=depth_multiplier)


@pytest.mark.parametrize(
    "arguments", [dict(reduction=0), dict(implementation="x")]
)
def test_errors_of_the_attention_arguments(arguments):
    with pytest.raises(ValueError, match="(?s)Expected.*Received: "):
        AWDepthwiseConv2D(3, **arguments)


@pytest.mark.parametrize("shape", [(4, 5, 4), (2, 3, 5, 5, 4)])
def test_errors_of_rank(shape):
    with pytest.raises(ValueError, match="(?i)expected.*(?:rank|ndim)"):
        AWDepthwiseConv2D(3)(np.zeros(shape, "float32"))


def test_error_of_unknown_channels():
    with pytest.raises(ValueError, match="(?s)Expected.*channels.*Received"):
        AWDepthwiseConv2D(3)(keras.Input((5, 5, None)))
