"""A small AW network, data for it, and its outputs and gradients."""

import keras
import numpy as np

from aw_keras.layers import AWConv2D, AWDepthwiseConv2D
from tests.backends import to_numpy, value_and_gradients


def small_network(input_shape=(None, None, 3), **compile_arguments):
    """Every kind of AW-convolution: strided, grouped, depthwise, 1x1."""
    network = keras.Sequential(
        [
            keras.Input(input_shape),
            AWConv2D(8, 3, strides=2, padding="same", activation="relu"),
            AWDepthwiseConv2D(3, padding="same", depth_multiplier=2),
            AWConv2D(8, 1, activation="relu"),
            AWConv2D(8, (2, 4), padding="same", groups=2, use_bias=False),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ],
        name="small",
    )
    network.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **compile_arguments,
    )
    return network


def small_data(batch=4, size=(9, 8)):
    """Inputs and labels of `small_network`."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(batch, *size, 3)).astype("float32")
    return x, generator.integers(0, 4, batch)


def outputs_and_gradients(model, x):
    """Outputs, and gradients with respect to `x` and the trainable weights."""
    state = [variable.value for variable in model.non_trainable_variables]

    def outputs(x, *weights):
        return model.stateless_call(list(weights), state, x, training=False)[0]

    weights = [to_numpy(variable) for variable in model.trainable_variables]
    value, gradients = value_and_gradients(
        outputs, x, *weights, dtype="float32"
    )
    return [value, *gradients]


def train_one_step(model, data):
    """The weights after one step on the whole of `data`."""
    x, y = data
    model.fit(x, y, batch_size=len(x), epochs=1, shuffle=False, verbose=0)
    return [to_numpy(variable) for variable in model.weights]
