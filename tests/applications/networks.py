"""Small members of every family, and what the tests do with them."""

import functools

import keras
import numpy as np

from aw_keras.applications import CIFARResNet, DenseNetBC, ImageNetResNet

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

#: Those that the tests run: under JAX, which compiles every shape of every
#: operation, one of each kind of block.
RUN = (
    ("AWCBAMResNet", "AttentionCNN", "AWDenseNet", "SEBottleneck")
    if keras.backend.backend() == "jax"
    else tuple(SMALL)
)

CHANNELS_FIRST_RUNS = keras.backend.backend() != "tensorflow"


def images(*shape):
    return np.random.default_rng(0).random(shape, "float32")


def predict(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def randomise(model):
    """Gives every weight, the batch norms' statistics too, its own value.

    Activations keep their scale, whatever the depth.
    """
    rng = np.random.default_rng(1)
    for weight in model.weights:
        fan = np.prod(weight.shape[:-1])
        value = rng.normal(0, (2 / max(fan, 8)) ** 0.5, weight.shape)
        if weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        weight.assign(value)
    return model
