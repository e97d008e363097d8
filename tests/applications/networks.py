"""The networks that the tests run, and what they do with them.

These are small members of every family, or, with `AW_KERAS_TEST_NETWORKS=all`
in the environment, every registered network.
"""

import functools
import os
import re

import keras
import numpy as np

from aw_keras.applications import (
    CIFARResNet,
    DenseNetBC,
    ImageNetResNet,
    create_model,
    list_models,
)

#: What distinguishes the variants of a network, by the prefix of its name.
VARIANTS = {
    "": {},
    "AW": {"conv": "aw"},
    "SE": {"attention": "se"},
    "CBAM": {"attention": "cbam"},
    "AWSE": {"conv": "aw", "attention": "se"},
    "AWCBAM": {"conv": "aw", "attention": "cbam"},
}

_residual = functools.partial(CIFARResNet, 8)

#: One network for every kind of block and variant.
SMALL = {
    **{
        f"{prefix}ResNet": functools.partial(_residual, **arguments)
        for prefix, arguments in VARIANTS.items()
    },
    "AttentionCNN": functools.partial(
        _residual, attention_after={"conv3_block1": "spatial_softmax"}
    ),
    "AWDenseNet": functools.partial(DenseNetBC, 10, 4, conv="aw"),
    "AWBasic": functools.partial(
        ImageNetResNet, (1, 1, 1, 1), bottleneck=False, conv="aw"
    ),
    "SEBottleneck": functools.partial(
        ImageNetResNet, (1, 1, 1, 1), attention="se"
    ),
}

CHANNELS_FIRST_RUNS = keras.backend.backend() != "tensorflow"


def _run():
    if os.environ.get("AW_KERAS_TEST_NETWORKS") == "all":
        return {
            name: functools.partial(create_model, name)
            for name in list_models()
        }
    if keras.backend.backend() != "jax":
        return SMALL
    # JAX compiles every shape of every operation: one of each family.
    kinds = ("AWCBAMResNet", "AWDenseNet")
    return {name: SMALL[name] for name in kinds}


#: The networks that the tests run, by name.
RUN = _run()


def images(*shape):
    return np.random.default_rng(0).random(shape, "float32")


def predict(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def randomise(model):
    """Gives every weight, the batch norms' statistics too, its own value."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        fan = np.prod(weight.shape[:-1])
        value = rng.normal(0, (2 / max(fan, 8)) ** 0.5, weight.shape)
        if weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        weight.assign(value)
    return model


def soften(model):
    """Makes what residual branches add small, as in trained networks.

    Otherwise a hundred random layers make a thousand times more of a rounding
    error, and a step along the gradient, however small, raises the loss.
    """
    ends = {}
    for layer in model.layers:
        if match := re.fullmatch(r"(conv\d+_block\d+)_[1-9]_bn", layer.name):
            ends[match[1]] = max(layer.name, ends.get(match[1], ""))
    for name in ends.values():
        gamma = model.get_layer(name).gamma
        gamma.assign(0.1 * gamma)
    return model


def calibrate(model):
    """Softens a model and gives batch norms the statistics of their input.

    Random ones would let activations grow from block to block until a network
    of a hundred layers gives nothing but zeros and ones.
    """
    soften(model)
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for norm in norms:
        norm.momentum = 0.0
    shape = [size or 12 for size in model.input_shape[1:]]
    model(images(16, *shape), training=True)
    for norm in norms:
        norm.momentum = 0.99
    return model
