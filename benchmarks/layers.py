"""The layers and shapes under measurement, for one backend.

Keras is imported by the functions, not by the module: the process that
collects the results does not choose a backend.
"""

from typing import NamedTuple

import numpy as np

from benchmarks import backends
from benchmarks.measure import REFERENCE, SUBJECT

TRICK = "grouped trick"
FORWARD = "forward"
TRAIN = "forward + backward"


class Shape(NamedTuple):
    """A convolution: batch, height and width, channels, filters and so on."""

    batch: int
    size: int
    channels: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1

    def __str__(self):
        text = (
            f"{self.batch}×{self.size}² "
            f"{self.channels}→{self.filters} {self.kernel}×{self.kernel}"
        )
        if self.stride > 1:
            text += f" /{self.stride}"
        if self.groups > 1:
            text += f" g{self.groups}"
        return text

    @property
    def output_size(self):
        """Height and width of the output under `padding="same"`."""
        return -(-self.size // self.stride)


def make_layer(contender, shape, dtype):
    """Returns a built layer.

    Args:
        contender: `REFERENCE` for `keras.layers.Conv2D`, `TRICK`, `SUBJECT`, or
            the name of an implementation that AWConv2D is to use.
        shape: `Shape`.
        dtype: Name of a dtype policy.
    """
    import keras

    import aw_keras
    from benchmarks.trick import GroupedTrickConv2D

    special = {REFERENCE: keras.layers.Conv2D, TRICK: GroupedTrickConv2D}
    arguments = dict(
        filters=shape.filters,
        kernel_size=shape.kernel,
        strides=shape.stride,
        padding="same",
        data_format="channels_last",
        groups=shape.groups,
        use_bias=False,
        dtype=dtype,
    )
    if contender in special:
        layer = special[contender](**arguments)
    else:
        implementation = "auto" if contender == SUBJECT else contender
        layer = aw_keras.AWConv2D(**arguments, implementation=implementation)
    layer.build((None, shape.size, shape.size, shape.channels))
    return layer


def make_step(layer, shape, direction, mode, seed):
    """Returns the `Step` of a layer on random data.

    Args:
        layer: A layer from `make_layer`.
        shape: `Shape`.
        direction: `FORWARD` or `TRAIN`.
        mode: One of the backend's modes.
        seed: Seed of the data.
    """
    import keras

    generator = np.random.default_rng(seed)

    def normal(size, channels):
        values = generator.normal(size=(shape.batch, size, size, channels))
        return keras.ops.convert_to_tensor(values, layer.compute_dtype)

    inputs = normal(shape.size, shape.channels)
    cotangent = None
    if direction == TRAIN:
        cotangent = normal(shape.output_size, shape.filters)
    return backends.active().layer_step(layer, inputs, cotangent, mode)
