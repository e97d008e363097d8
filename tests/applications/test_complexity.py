"""Multiply-adds of every kind of layer, counted by hand."""

import keras
import pytest
from keras import layers

from aw_keras.applications import CIFARResNet
from aw_keras.applications.complexity import multiply_adds, table
from aw_keras.layers import AWConv2D, AWDepthwiseConv2D, attention_layer

#: On maps of 6 x 4 with 8 channels.
P, C = 6 * 4, 8
CASES = {
    "conv": (layers.Conv2D(5, (3, 2), padding="same"), P * 6 * C * 5),
    "valid_strides": (layers.Conv2D(5, 3, strides=2), 2 * 9 * C * 5),
    "groups": (layers.Conv2D(6, 1, groups=2), P * 4 * 6),
    "depthwise": (
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        P * 9 * C * 2,
    ),
    "dense": (layers.Dense(5), P * C * 5),
    "aw": (
        AWConv2D(5, 3, padding="same"),
        P * 9 * C * 5 + 9 * (C * 4 + C * 5) + 9 * C * 5,
    ),
    "aw_depthwise": (
        AWDepthwiseConv2D(3, padding="same"),
        P * 9 * C + 9 * (C * 4 + 4 * C) + 9 * C,
    ),
    "se": (attention_layer("se", reduction=4), 2 * C * 2),
    "cbam": (attention_layer("cbam", reduction=4), 2 * 2 * C * 2 + P * 49 * 2),
    "eca": (attention_layer("eca", kernel_size=3), C * 3),
    "gather_excite": (attention_layer("gather_excite"), 0),
    "gather_excite_learned": (
        attention_layer("gather_excite", parametrised=True),
        P * C,
    ),
    "gather_excite_learned_windows": (
        attention_layer("gather_excite", parametrised=True, extent=4),
        (3 * 2 + 2 * 1) * 9 * C,
    ),
    "non_local": (attention_layer("non_local"), 4 * P * C * 4 + 2 * P * P * 4),
    "non_local_subsampled": (
        attention_layer("non_local", subsample=True),
        2 * P * C * 4 + 2 * 6 * C * 4 + 2 * P * 6 * 4,
    ),
    "dual": (
        attention_layer("dual"),
        P * (C + C + C * C) + P * P * (1 + C) + 2 * P * C * C,
    ),
    "sca": (
        attention_layer("sca", reduction=4),
        C * (2 + 2) + P * (C * 2 + 2),
    ),
    "spatial_softmax": (attention_layer("spatial_softmax"), P * 9 * C * C),
    "norm": (layers.BatchNormalization(), 0),
    "nested": (keras.Sequential([layers.Conv2D(5, 1)]), P * C * 5),
}


@pytest.mark.parametrize("layer, expected", CASES.values(), ids=CASES)
def test_layers(layer, expected):
    image = keras.Input((6, 4, C))
    assert multiply_adds(keras.Model(image, layer(image))) == expected


def test_data_formats_agree():
    arguments = {"conv": "aw", "attention": "cbam"}
    last = CIFARResNet(8, input_shape=(8, 12, 3), **arguments)
    first = CIFARResNet(
        8, input_shape=(3, 8, 12), data_format="channels_first", **arguments
    )
    assert multiply_adds(first) == multiply_adds(last)


def test_unknown_sizes_and_layers_are_refused():
    with pytest.raises(ValueError, match="known height and width"):
        multiply_adds(CIFARResNet(8, input_shape=(None, None, 3)))
    image = keras.Input((6, 4, C))
    model = keras.Model(image, layers.Conv2DTranspose(3, 2, name="up")(image))
    with pytest.raises(ValueError, match="layer=up of Conv2DTranspose"):
        multiply_adds(model)


def test_table():
    lines = table(["ResNet20", "AWResNet20"]).splitlines()
    assert lines[2:] == [
        "| ResNet20 | 269,722 | 0.27 M | 40.6 M |",
        "| AWResNet20 | 331,682 |  | 41.1 M |",
    ]
