"""Weights between tf_keras backbones and Keras 3 networks."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import types

import keras
import numpy as np
import pytest
import tf_keras

from aw_keras.applications import create_model, feature_pyramid
from aw_keras.detection import AWResNet, load_backbone, save_backbone
from tests.applications.networks import soften

SHAPE = (64, 32, 3)


def keras_network(name="AWSEResNet18", **arguments):
    """A Keras 3 network whose weights all have values of their own."""
    keras.utils.set_random_seed(1)
    arguments = {"include_top": False, "input_shape": SHAPE, **arguments}
    network = create_model(name, **arguments)
    rng = np.random.default_rng(1)
    for weight in network.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1 or "bias" in weight.name:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return soften(network)


def make_backbone(**arguments):
    arguments = {"conv": "aw", "attention": "se", **arguments}
    specs = tf_keras.layers.InputSpec(shape=[None, *SHAPE])
    return AWResNet(18, specs, **arguments)


def values(model):
    return [weight.numpy() for weight in model.weights]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A Keras 3 classifier, and the path of its weights."""
    path = tmp_path_factory.mktemp("weights") / "classifier.weights.h5"
    network = keras_network(include_top=True, classes=7)
    network.save_weights(path)
    return network, path


def test_a_classifier_s_weights_give_its_features(classifier, tmp_path):
    network, path = classifier
    backbone = make_backbone()
    detector = types.SimpleNamespace(backbone=backbone)
    receipt = load_backbone(detector, path)
    assert receipt.path == str(path)
    assert receipt.left == ("predictions",) and not receipt.adapted
    assert len(receipt.loaded) == 48
    images = np.random.default_rng(0).normal(size=(2, *SHAPE))
    expected = feature_pyramid(network)(images.astype("float32"))
    features = backbone(images.astype("float32"))
    assert set(features) == set(expected)
    for level, maps in features.items():
        scale = np.abs(expected[level]).max()
        np.testing.assert_allclose(
            maps / scale, expected[level] / scale, atol=1e-5, err_msg=level
        )

    saved = tmp_path / "backbone.weights.h5"
    save_backbone(detector, saved)
    assert list(tmp_path.iterdir()) == [saved]
    again = create_model(
        "AWSEResNet18", include_top=False, input_shape=SHAPE, weights=saved
    )
    for weight in again.weights:
        original = network.get_layer(weight.path.split("/")[0])
        assert any(
            weight.path == other.path
            and np.array_equal(weight.numpy(), other.numpy())
            for other in original.weights
        ), weight.path


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("CBAMResNet18", {"conv": "plain", "attention": "cbam"}),
        ("AWResNet18", {"attention": None, "aw_stages": (3, 5)}),
    ],
)
def test_variants_cross(name, arguments, tmp_path):
    narrowed = {k: v for k, v in arguments.items() if k == "aw_stages"}
    network = keras_network(name, **narrowed)
    path = tmp_path / "network.weights.h5"
    network.save_weights(path)
    backbone = make_backbone(**arguments)
    load_backbone(backbone, path)
    images = np.ones((1, *SHAPE), "float32")
    expected = feature_pyramid(network)(images)["5"]
    features = backbone(images)["5"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(features / scale, expected / scale, atol=1e-5)


def test_weights_of_pytorch(tmp_path):
    """Exactly, in a backbone that pads and strides as they need."""
    from tests.weights.peers import peer, randomised, stage_outputs, torch

    module = randomised(peer("timm").create_model("resnet18"))
    path = tmp_path / "resnet18.pth"
    torch.save(module.state_dict(), path)
    with pytest.raises(ValueError, match="padding='symmetric'"):
        load_backbone(make_backbone(attention=None), path)
    backbone = make_backbone(attention=None, padding="symmetric")
    receipt = load_backbone(backbone, path)
    assert receipt.left == ("predictions",)
    assert receipt.arguments == {"padding": "symmetric"}
    images = np.random.default_rng(0).normal(size=(2, *SHAPE))
    images = images.astype("float32")
    features = backbone(images).values()
    for maps, expected in zip(
        features, stage_outputs(module, images), strict=True
    ):
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-4)

    save_backbone(backbone, tmp_path / "saved.weights.h5")
    again = make_backbone(attention=None, padding="symmetric")
    load_backbone(again, tmp_path / "saved.weights.h5")
    for value, expected in zip(values(again), values(backbone), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_images_of_other_channels_are_adapted_on_request(classifier):
    _, path = classifier
    specs = tf_keras.layers.InputSpec(shape=[None, 64, 32, 1])
    backbone = AWResNet(18, specs, attention="se")
    with pytest.raises(ValueError, match="conv1_conv"):
        load_backbone(backbone, path)
    assert load_backbone(backbone, path, adapt=True).adapted == ("conv1_conv",)


@pytest.mark.parametrize("attention", [None, "cbam"])
def test_weights_that_do_not_fit_change_nothing(classifier, attention):
    _, path = classifier
    backbone = make_backbone(attention=attention)
    before = values(backbone)
    with pytest.raises(ValueError, match="(?s)do not fit.*_se"):
        load_backbone(backbone, path)
    for value, expected in zip(values(backbone), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_names_are_those_of_the_keras_3_network():
    with pytest.raises(ValueError, match="weights=cifar11"):
        load_backbone(make_backbone(), "cifar11")


@pytest.mark.parametrize("model", [None, tf_keras.Sequential()])
def test_what_is_not_a_backbone(model, tmp_path):
    for call, path in (
        (load_backbone, "imagenet"),
        (save_backbone, tmp_path / "x.weights.h5"),
    ):
        with pytest.raises(ValueError, match="Expected an `AWResNet`"):
            call(model, path)
    assert not list(tmp_path.iterdir())


def test_files_have_the_names_that_keras_3_reads(tmp_path):
    with pytest.raises(ValueError, match=r"end in '\.weights\.h5'"):
        save_backbone(make_backbone(), tmp_path / "backbone.h5")
