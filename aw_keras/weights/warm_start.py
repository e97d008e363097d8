"""AW-convolutions that begin as the plain convolutions of a trained network.

With an attention of 1/2 everywhere, `kernel + A * kernel` is `1.5 * kernel`: a
third less of a trained kernel and a zero expansion compute what it computed.
The gradient of the expansion is not zero, so that the attention can learn.
"""

import keras
import numpy as np

from aw_keras.layers import AWConv2D
from aw_keras.weights.tensors import LazyArray

_KERNEL = "vars/0"
_IDENTITY_SCALE = 1.5


def add_attention(source, model):
    """Gives the AW-convolutions of a model what a plain network has not.

    Args:
        source: Dict as `loading.fill` takes it, of the plain network. Changed
            in place.
        model: `keras.Model`.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, AWConv2D) and layer.name in source:
            variables = source[layer.name]
            variables[_KERNEL] = _divided(variables[_KERNEL])
            for weight in layer.weights:
                if weight.name.startswith("attention_"):
                    variables[f"vars/{weight.name}"] = _attention(weight)


def _divided(kernel):
    return LazyArray(kernel.shape, lambda: np.asarray(kernel) / _IDENTITY_SCALE)


def _attention(weight):
    value = keras.ops.convert_to_numpy(weight)
    if weight.name.startswith("attention_expand"):
        return np.zeros_like(value)
    return value
