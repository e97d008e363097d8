"""Photos of many sizes, one after the other, without compiling."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from aw_keras import AWConv2D
from aw_keras.layers import AWDepthwiseConv2D
from aw_keras.ops import IMPLEMENTATIONS, use_implementation
from aw_keras.ops.backends import tensorflow as backend
from tests.applications.networks import images, randomise
from tests.hostile.test_long_runs import STATUS, resident_bytes

SIZES = [(height, width) for height in range(20, 30) for width in range(20, 32)]
MiB = 2**20


def graphs():
    return backend._traced.cache_info().currsize


def train_step(layer, size):
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(layer(tf.ones((1, *size, 8))))
    return tape.gradient(y, layer.trainable_variables)


def test_graphs_do_not_grow_with_the_number_of_sizes():
    layer = AWConv2D(8, 3, padding="same")
    for size in SIZES[:4]:
        train_step(layer, size)
    before = graphs()
    for size in SIZES[4:24]:
        train_step(layer, size)
    assert graphs() == before


@pytest.mark.skipif(
    not pathlib.Path(STATUS).exists(),
    reason="The system does not tell the memory in use.",
)
def test_memory_is_that_of_a_plain_convolution():
    """Which grows, too: oneDNN keeps what it has planned for a shape."""

    def growth(layer):
        for size in SIZES[:4]:
            layer(tf.zeros((1, *size, 16)))
        before = resident_bytes()
        for size in SIZES[4:]:
            layer(tf.zeros((1, *size, 16)))
        return resident_bytes() - before

    plain = growth(keras.layers.Conv2D(16, 3, padding="same"))
    assert growth(AWConv2D(16, 3, padding="same")) < 1.5 * plain + 4 * MiB


LAYERS = {
    "grouped": lambda: AWConv2D(4, 3, padding="same", groups=2),
    "loop": lambda: AWConv2D(4, 3, strides=2, padding="symmetric"),
    "matmul": lambda: AWConv2D(4, (2, 3), dilation_rate=2),
    "shifted": lambda: AWDepthwiseConv2D(3, padding="same"),
    "tiles": lambda: AWConv2D(4, 3, strides=2, padding="same"),
    "views": lambda: AWConv2D(4, 3, padding="same"),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_graph_for_all_sizes_computes_the_same(implementation, monkeypatch):
    make = LAYERS[implementation]
    layer = make()
    layer.build((None, None, None, 4))
    randomise(layer)

    def values(own_graphs):
        monkeypatch.setattr(backend, "_SIZES", own_graphs)
        backend._sizes.cache_clear()
        found = []
        for shape in [(2, 7, 9, 4), (1, 8, 6, 4)]:
            x = tf.constant(images(*shape))
            with tf.GradientTape() as tape, use_implementation(implementation):
                tape.watch(x)
                y = layer(x)
            sources = [x, *layer.trainable_variables]
            found += [y, *tape.gradient(y, sources, tf.cos(y))]
        return found

    for found, expected in zip(values(0), values(9), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
