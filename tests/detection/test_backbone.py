"""The backbone, in the manner of the Model Garden's tests of its ResNet."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import functools
import json

import numpy as np
import pytest
import tf_keras
from official.vision.configs import common, decoders, maskrcnn, retinanet
from official.vision.modeling import factory as detectors
from official.vision.modeling.backbones import factory, resnet
from official.vision.modeling.decoders.fpn import FPN

from aw_keras.detection import AWConv2D, AWResNet
from aw_keras.detection.backbone import AWResNetConfig, Backbone


def specs(*shape):
    return tf_keras.layers.InputSpec(shape=[None, *shape])


@functools.cache
def small():
    return AWResNet(18, specs(64, 64, 3), aw_stages=(5,))


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize("model_id", [18, 50])
def test_shapes_of_the_levels(model_id):
    network = AWResNet(model_id, conv="plain")
    endpoints = network(tf_keras.Input((128, 96, 3), batch_size=1))
    expansion = 4 if model_id == 50 else 1
    assert {k: tuple(maps.shape) for k, maps in endpoints.items()} == {
        "2": (1, 32, 24, 64 * expansion),
        "3": (1, 16, 12, 128 * expansion),
        "4": (1, 8, 6, 256 * expansion),
        "5": (1, 4, 3, 512 * expansion),
    }
    assert {k: shape[-1] for k, shape in network.output_specs.items()} == {
        k: maps.shape[-1] for k, maps in endpoints.items()
    }


def test_begins_as_the_model_garden_s_resnet_does():
    ours, theirs = (
        {
            weight.shape: float(np.std(weight))
            for weight in network.trainable_weights
            if len(weight.shape) == 4
        }
        for network in (AWResNet(18, conv="plain"), resnet.ResNet(18))
    )
    theirs = {shape: theirs[shape] for shape in ours}
    assert ours == pytest.approx(theirs, rel=0.05)


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_of_images(channels):
    network = AWResNet(18, specs(None, 32, channels), conv="plain")
    features = network(np.zeros((1, 64, 32, channels), "float32"))
    assert tuple(features["5"].shape) == (1, 2, 1, 512)


def test_round_trip_of_the_config():
    arguments = {
        "model_id": 18,
        "input_specs": specs(64, None, 4).get_config(),
        "conv": "aw",
        "attention": "se",
        "aw_stages": [4, 5],
        "reduction": 8,
        "stride_in_3x3": True,
        "padding": "symmetric",
        "activation": "swish",
        "use_sync_bn": True,
        "norm_momentum": 0.95,
        "norm_epsilon": 0.001,
        "bn_trainable": False,
        "kernel_initializer": "he_normal",
        "kernel_regularizer": tf_keras.regularizers.serialize(
            tf_keras.regularizers.L2(0.01)
        ),
        "bias_regularizer": None,
        "name": "backbone",
    }
    network = AWResNet(**arguments)
    assert network.get_config() == arguments
    json.dumps(arguments)
    again = AWResNet.from_config(network.get_config())
    assert again.get_config() == arguments
    assert again.output_specs == network.output_specs
    assert [w.name for w in again.weights] == [w.name for w in network.weights]
    assert len(again.losses) == len(network.losses)
    network.to_json()


def test_arguments_reach_the_layers():
    network = AWResNet(
        18,
        aw_stages=(5,),
        attention="cbam",
        reduction=8,
        activation="swish",
        use_sync_bn=True,
        norm_momentum=0.5,
        norm_epsilon=0.5,
        kernel_regularizer="l2",
        bias_regularizer="l2",
    )
    norms = layers_of(network, tf_keras.layers.BatchNormalization)
    assert {(n.momentum, n.epsilon, n.synchronized) for n in norms} == {
        (0.5, 0.5, True)
    }
    convs = layers_of(network, AWConv2D)
    assert {conv.name[:5] for conv in convs} == {"conv5"}
    assert {conv.reduction for conv in convs} == {8}
    kernels = len(layers_of(network, tf_keras.layers.Conv2D))
    modules = [layer for layer in network.layers if "cbam" in layer.name]
    assert {module.norm.synchronized for module in modules} == {True}
    assert len(network.losses) == kernels + 5 * len(modules)
    relu = network.get_layer("conv1_relu")
    assert relu.activation(-1.0).numpy() == pytest.approx(-0.2689, abs=1e-4)


@pytest.mark.parametrize("attention", [None, "cbam"])
def test_frozen_batch_norm(attention):
    network = AWResNet(
        18, conv="plain", attention=attention, bn_trainable=False
    )
    names = [w.name for w in network.trainable_weights]
    assert names and not [n for n in names if "gamma" in n or "beta" in n]
    statistics = [w for w in network.weights if "moving_" in w.name]
    before = [w.numpy() for w in statistics]
    network(np.ones((1, 32, 32, 3), "float32"), training=True)
    for weight, value in zip(statistics, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"model_id": 20},
        {"attention": "eca"},
        {"conv": "AW"},
        {"aw_stages": (6,)},
        {"input_specs": specs(100, 64, 3)},
        {"input_specs": specs(64, 64, None)},
        {"input_specs": tf_keras.layers.InputSpec(shape=[None, 64, 64])},
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="(?s)Expected .*Received: "):
        AWResNet(**{"model_id": 18, **arguments})


def backbone_config(**arguments):
    config = AWResNetConfig(model_id=18, aw_stages=[5], **arguments)
    return Backbone(type="aw_resnet", aw_resnet=config)


def test_factory():
    norm = common.NormActivation(
        activation="swish",
        use_sync_bn=True,
        norm_momentum=0.9,
        norm_epsilon=0.01,
    )
    regularizer = tf_keras.regularizers.L2(0.01)
    network = factory.build_backbone(
        input_specs=specs(64, 64, 3),
        backbone_config=backbone_config(attention="se", bn_trainable=False),
        norm_activation_config=norm,
        l2_regularizer=regularizer,
    )
    expected = AWResNet(
        18,
        specs(64, 64, 3),
        aw_stages=[5],
        attention="se",
        bn_trainable=False,
        activation="swish",
        use_sync_bn=True,
        norm_momentum=0.9,
        norm_epsilon=0.01,
        kernel_regularizer=regularizer,
        name=network.name,
    )
    assert network.get_config() == expected.get_config()


def test_feeds_a_feature_pyramid():
    decoder = FPN(small().output_specs, min_level=2, max_level=6)
    features = decoder(small()(np.zeros((1, 64, 64, 3), "float32")))
    assert {k: maps.shape[1] for k, maps in features.items()} == {
        str(level): 64 // 2**level for level in range(2, 7)
    }


def test_detectors_of_the_model_garden_take_it():
    """RetinaNet, and Mask R-CNN with all heads that Faster R-CNN has."""
    common_arguments = {
        "num_classes": 3,
        "input_size": [128, 128, 3],
        "max_level": 6,
        "backbone": backbone_config(),
        "decoder": decoders.Decoder(
            type="fpn", fpn=decoders.FPN(num_filters=16)
        ),
    }
    for config, build in (
        (retinanet.RetinaNet, detectors.build_retinanet),
        (maskrcnn.MaskRCNN, detectors.build_maskrcnn),
    ):
        model = build(specs(128, 128, 3), config(**common_arguments))
        assert isinstance(model.backbone, AWResNet)
        assert layers_of(model.backbone, AWConv2D)
        model(
            tf_keras.Input((128, 128, 3)),
            image_shape=tf_keras.Input((2,)),
            training=False,
        )
