"""The dense networks: their blocks are those of `keras.applications`."""

import keras
import numpy as np
import pytest
from keras.src.applications import densenet as keras_densenet

from aw_keras import AWConv2D
from aw_keras.applications import DenseNetBC
from aw_keras.applications.densenet import dense_layer
from aw_keras.applications.toolkit import KerasToolkit
from aw_keras.applications.topology import Stage
from tests.applications.networks import images, predict, randomise


def parameters(depth, growth_rate, classes=10):
    """Huang et al.'s network, counted by hand."""
    channels = 2 * growth_rate
    total = 27 * channels
    for block in range(3):
        for _ in range((depth - 4) // 6):
            total += 2 * channels + channels * 4 * growth_rate
            total += 8 * growth_rate + 9 * 4 * growth_rate * growth_rate
            channels += growth_rate
        if block < 2:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
    return total + 2 * channels + channels * classes + classes


@pytest.mark.parametrize("depth, growth_rate", [(10, 4), (16, 6)])
def test_number_of_parameters(depth, growth_rate):
    model = DenseNetBC(depth, growth_rate)
    counted = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert counted == parameters(depth, growth_rate)


def test_published_number_of_parameters():
    assert parameters(100, 12) == 769_162
    assert parameters(190, 40) == 25_624_430


def test_dense_layer_is_that_of_keras_applications():
    image = keras.Input((5, 6, 7))
    toolkit = KerasToolkit.from_arguments(
        "channels_last", "float32", reduction=16, epsilon=1.001e-5
    )
    stage = Stage(level=2, filters=32, blocks=1, strides=1)
    model = randomise(
        keras.Model(image, dense_layer(toolkit, image, stage, "conv2_block1"))
    )
    peer = keras.Model(
        image, keras_densenet.conv_block(image, 32, "conv2_block1")
    )
    names = [layer.name for layer in peer.layers]
    assert [layer.name for layer in model.layers] == names
    peer.set_weights(model.get_weights())
    x = images(2, 5, 6, 7)
    np.testing.assert_allclose(predict(model, x), predict(peer, x), rtol=1e-5)


def test_network_is_the_one_of_dense_and_transition_blocks():
    """All of it but the stem, by the functions of `keras.applications`."""
    model = DenseNetBC(10, 32, include_top=False, input_shape=(8, 12, 3))
    randomise(model)
    stem = model.get_layer("conv1_conv")
    x = image = keras.Input(stem.output.shape[1:])
    for level in (2, 3, 4):
        if level > 2:
            x = keras_densenet.transition_block(x, 0.5, f"pool{level - 1}")
        x = keras_densenet.dense_block(x, 1, f"conv{level}")
    x = keras.layers.BatchNormalization(epsilon=1.001e-5, name="bn")(x)
    peer = keras.Model(image, keras.layers.ReLU(name="relu")(x))
    assert [layer.name for layer in peer.layers[1:]] == [
        layer.name for layer in model.layers[2:]
    ]
    peer.set_weights(model.get_weights()[1:])
    x = images(2, 8, 12, 3)
    np.testing.assert_allclose(
        predict(model, x), predict(peer, predict(stem, x)), rtol=1e-4, atol=1e-5
    )


def test_aw_replaces_the_spatial_convolutions_of_the_dense_blocks_only():
    model = DenseNetBC(16, 4, conv="aw", aw_stages=(2, 4), reduction=8)
    replaced = [x for x in model.layers if isinstance(x, AWConv2D)]
    assert [layer.name for layer in replaced] == [
        f"conv{level}_block{block}_2_conv"
        for level in (2, 4)
        for block in (1, 2)
    ]
    assert {layer.reduction for layer in replaced} == {8}


def test_attention_of_what_a_layer_adds():
    model = DenseNetBC(10, 16, attention=("se", None, "eca"))
    names = [layer.name for layer in model.layers]
    assert "conv2_block1_se" in names
    assert "conv4_block1_eca" in names
    assert model.get_layer("conv2_block1_se").output.shape[-1] == 16


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"depth": 12}, "depth=12"),
        ({"depth": 4}, "depth=4"),
        ({"growth_rate": 0}, "growth_rate=0"),
        ({"growth_rate": 1.5}, "growth_rate=1.5"),
        ({"conv": "se"}, "conv=se"),
        ({"weights": "imagenet"}, "weights=imagenet"),
    ],
)
def test_errors(arguments, received):
    with pytest.raises(ValueError, match=f"Expected .* Received: {received}"):
        DenseNetBC(**{"depth": 10, "growth_rate": 4} | arguments)
