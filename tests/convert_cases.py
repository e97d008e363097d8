"""Small networks of every structure that can be converted, and their data.

The weights and the statistics of the normalisations are random, and the
activations are of the order of one.
"""

import keras
import numpy as np
from keras import layers

from tests.backends import run


def draw(*shape, seed=7):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(model):
    """Gives every weight that is not a kernel a random value; the model."""
    generator = np.random.default_rng(8)
    for variable in model.weights:
        if "kernel" not in variable.name and variable.dtype == "float32":
            low, high = (0.5, 2) if "var" in variable.name else (-1, 1)
            variable.assign(generator.uniform(low, high, variable.shape))
    return model


def outputs(model, x):
    """All the outputs at inference, one after the other, in one vector."""

    def flat_outputs(*flat_inputs):
        inputs = keras.tree.pack_sequence_as(x, list(flat_inputs))
        tensors = keras.tree.flatten(model(inputs, training=False))
        return keras.ops.concatenate([keras.ops.ravel(y) for y in tensors])

    return run(flat_outputs, *keras.tree.flatten(x), dtype="float32")


def assert_same(actual, expected, tolerance=1e-5):
    """The relative error is at most `tolerance`, and the data matter."""
    assert actual.shape == expected.shape
    assert np.std(expected) > 1e-3
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def small_cnn(name="small"):
    """Every kind of convolution, activations and a normalisation."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="stem")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(4, 1, activation="relu", name="pointwise")(x)
    x = layers.Conv2D(4, 2, strides=2, use_bias=False, name="last")(x)
    model = keras.Model(inputs, x, name=name)
    return randomise(model), draw(2, 8, 8, 3)


def sequential():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Dropout(0.5),
            layers.Conv2D(4, 3, dilation_rate=2),
            layers.Flatten(),
            layers.Dense(3),
        ],
        name="stack",
    )
    return randomise(model), draw(2, 8, 8, 3)


def sequential_built_later():
    model = keras.Sequential([layers.Conv2D(4, 3), layers.Conv2D(4, 2)])
    model.build((None, 6, 6, 3))
    return randomise(model), draw(2, 6, 6, 3)


def nested():
    """Models in models in models, one of them used twice."""
    deepest = keras.Sequential(
        [layers.Conv2D(3, 3, padding="same"), layers.ReLU()], name="deepest"
    )
    middle_input = keras.Input((None, None, 3))
    middle_output = deepest(layers.Conv2D(3, 3)(deepest(middle_input)))
    middle = keras.Model(middle_input, middle_output, name="middle")
    outer = keras.Sequential(
        [keras.Input((8, 8, 3)), middle, layers.Conv2D(2, 3)], name="outer"
    )
    inputs = keras.Input((8, 8, 3))
    x = layers.concatenate([outer(inputs), outer(inputs * 2)])
    return randomise(keras.Model(inputs, x, name="nested")), draw(2, 8, 8, 3)


def operations():
    """Keras operations, functions and arguments among the layers."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(inputs)
    x = keras.ops.relu(x) + 1
    y = layers.BatchNormalization()(x, training=False)
    x = keras.ops.concatenate([x[:, 1:3], 2 * y[:, :2]], axis=-1)
    x = keras.ops.reshape(x, (-1, 4, 3, 8))
    model = keras.Model(inputs, layers.Conv2D(2, 2)(x))
    return randomise(model), draw(2, 8, 8, 3)


def preprocessing():
    normalization = layers.Normalization()
    normalization.adapt(3 + 2 * draw(16, 8, 8, 3))
    inputs = keras.Input((8, 8, 3))
    x = normalization(layers.Rescaling(2.0)(inputs))
    return keras.Model(inputs, layers.Conv2D(4, 3)(x)), draw(2, 8, 8, 3)


def frames():
    """Convolutions of the frames of videos, in a nested model too."""
    inner = keras.Sequential([layers.Conv2D(3, 2), layers.ReLU()])
    inputs = keras.Input((3, 6, 6, 2))
    x = layers.TimeDistributed(layers.Conv2D(4, 3, name="in"))(inputs)
    x = layers.TimeDistributed(inner, name="frames")(x)
    return randomise(keras.Model(inputs, x)), draw(2, 3, 6, 6, 2)


CASES = {
    "functional": small_cnn,
    "sequential": sequential,
    "sequential built later": sequential_built_later,
    "nested": nested,
    "operations": operations,
    "preprocessing": preprocessing,
    "time-distributed": frames,
}
if keras.backend.backend() == "jax":  # Compiles every shape of every operation.
    CASES = {name: CASES[name] for name in ("nested", "time-distributed")}


@keras.saving.register_keras_serializable(package="tests")
class Opaque(layers.Layer):
    """A layer with a convolution that only its own code calls."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(2, 3)

    def build(self, input_shape):
        self.convolution.build(input_shape)

    def call(self, inputs):
        return self.convolution(inputs)
