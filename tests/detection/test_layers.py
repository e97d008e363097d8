"""The tf_keras layers against the Keras 3 layers of the same weights."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from aw_keras import detection
from aw_keras import layers as keras_layers
from aw_keras.detection.weights import layer_variables

CASES = {
    "AWConv2D": {"filters": 12, "kernel_size": 3, "reduction": 4},
    "SqueezeExcite": {"reduction": 4},
    "CBAM": {"reduction": 4, "kernel_size": 3},
}
CONVOLUTIONS = [
    {"padding": "same"},
    {"strides": 2, "padding": "same", "activation": "relu"},
    {"dilation_rate": 2, "use_bias": False},
    {"padding": "same", "groups": 2},
    {"strides": 2, "padding": "symmetric"},
]


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def make_pair(name, **arguments):
    """The two layers, built, with the same random weights."""
    pair = [
        getattr(module, name)(**CASES[name], **arguments, name="layer")
        for module in (keras_layers, detection)
    ]
    for layer in pair:
        layer.build((None, 8, 7, 16))
    theirs, ours = map(layer_variables, pair)
    assert {k: tuple(v.shape) for k, v in theirs.items()} == {
        k: tuple(v.shape) for k, v in ours.items()
    }
    rng = np.random.default_rng(1)
    for key, variable in theirs.items():
        value = rng.uniform(0.1, 0.5, variable.shape)
        variable.assign(value)
        ours[key].assign(value)
    return pair


@pytest.mark.parametrize("initializer", [None, "zeros", "he_uniform"])
def test_expansions_begin_alike(initializer):
    drawn = []
    for module in (keras_layers, detection):
        layer = module.AWConv2D(
            512, 3, attention_expand_initializer=initializer, name="layer"
        )
        layer.build((None, 8, 7, 24))
        copy = type(layer).from_config(layer.get_config())
        assert copy.get_config() == layer.get_config()
        weights = layer_variables(layer)
        drawn.append(
            [
                np.std(weights[f"attention_expand_{name}"].numpy())
                for name in ("kernel", "bias")
            ]
        )
    np.testing.assert_allclose(*drawn, rtol=0.05)


def outcome(layer, x, **arguments):
    """Output, gradients and the weights afterwards, the last two by name."""
    variables = layer_variables(layer)
    sources = {
        name: variable.value
        if isinstance(variable, keras.Variable)
        else variable
        for name, variable in variables.items()
        if variable.trainable
    }
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **arguments)
        loss = tf.reduce_sum(tf.sin(y))
    gradients = tape.gradient(loss, {"x": x, **sources})
    return {
        "y": y,
        **{f"gradient of {name}": g for name, g in gradients.items()},
        **{name: tf.convert_to_tensor(v) for name, v in variables.items()},
    }


def assert_same(theirs, ours, x, but=(), **arguments):
    expected = outcome(theirs, x, **arguments)
    values = outcome(ours, x, **arguments)
    assert set(values) == set(expected)
    for name in set(values) - set(but):
        np.testing.assert_allclose(
            values[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("arguments", CONVOLUTIONS)
def test_convolves_as_the_keras_3_layer_does(arguments):
    theirs, ours = make_pair("AWConv2D", **arguments)
    assert_same(theirs, ours, tf.constant(images(3, 8, 7, 16)))


@pytest.mark.parametrize("name", ["SqueezeExcite", "CBAM"])
def test_attends_as_the_keras_3_layer_does(name):
    theirs, ours = make_pair(name)
    assert_same(theirs, ours, tf.constant(images(3, 8, 7, 16)))


def test_normalises_as_the_keras_3_layer_does_in_training():
    theirs, ours = make_pair("CBAM")
    before = ours.norm.moving_variance.numpy()
    x = tf.constant(images(3, 8, 7, 16))
    assert_same(theirs, ours, x, training=True, but=["norm/moving_variance"])
    # tf_keras counts the degrees of freedom, Keras 3 the samples.
    samples = 3 * 8 * 7
    increment = theirs.norm.moving_variance.numpy() - 0.99 * before
    np.testing.assert_allclose(
        ours.norm.moving_variance,
        0.99 * before + increment * samples / (samples - 1),
        rtol=1e-5,
    )


def test_a_frozen_norm_keeps_its_statistics():
    layer = detection.CBAM(norm_trainable=False)
    x = tf.constant(images(2, 4, 4, 16))
    layer.build(x.shape)
    before = [w.numpy() for w in layer.norm.weights]
    layer(x, training=True)
    assert not layer.norm.trainable_weights
    for weight, value in zip(layer.norm.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize("name", CASES)
def test_round_trip_of_the_config(name):
    more = {} if name == "AWConv2D" else {"bias_regularizer": "l2"}
    layer = getattr(detection, name)(
        **CASES[name], kernel_regularizer="l2", **more
    )
    config = tf_keras.layers.serialize(layer)
    again = tf_keras.layers.deserialize(config)
    assert tf_keras.layers.serialize(again) == config
    again.build((None, 4, 4, 16))
    penalised = {"AWConv2D": 1, "SqueezeExcite": 4, "CBAM": 5}[name]
    assert len(again.losses) == penalised


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", CASES)
def test_attention_of_16_bits_is_computed_in_32(name, dtype):
    """A large map overflows a sum in float16."""
    x = np.full((1, 64, 64, 16), 100, "float32")
    full, mixed = (
        getattr(detection, name)(**CASES[name], name="layer", dtype=policy)
        for policy in ("float32", dtype)
    )
    for layer in (full, mixed):
        layer.build(x.shape)
    mixed.set_weights(full.get_weights())
    y = mixed(x)
    assert y.dtype == dtype.removeprefix("mixed_")
    assert {w.dtype for w in mixed.weights} == {tf.float32}
    expected = full(x).numpy()
    error = np.abs(tf.cast(y, "float32") - expected).max()
    assert error < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_images_of_unknown_size_in_a_graph(name):
    layer = getattr(detection, name)(**CASES[name])
    x = images(2, 5, 6, 16)
    expected = layer(x)
    spec = tf.TensorSpec((None, None, None, 16))
    y = tf.function(layer, input_signature=[spec])(x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("AWConv2D", {"reduction": 0}),
        ("AWConv2D", {"implementation": "fast"}),
        ("SqueezeExcite", {"reduction": 1.5}),
        ("CBAM", {"kernel_size": -1}),
    ],
)
def test_bad_arguments(name, arguments):
    with pytest.raises(ValueError, match="Expected .*Received: "):
        getattr(detection, name)(**{**CASES[name], **arguments})
