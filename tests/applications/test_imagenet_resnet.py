"""The ImageNet residual networks against those of `keras.applications`."""

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import resnet as keras_resnet
from keras.src.legacy.saving import legacy_h5_format

from aw_keras import AWConv2D, applications
from aw_keras.applications import AWResNet50, ImageNetResNet, ResNet50
from tests.applications.networks import images, predict, randomise

SHAPE = (40, 48, 3)


@pytest.fixture(scope="module")
def peer():
    """`keras.applications.ResNet50` with random weights, giving logits."""
    model = keras.applications.ResNet50(
        weights=None, classifier_activation=None
    )
    return randomise(model)


def without_top(peer):
    return keras.Model(peer.input, peer.get_layer("conv5_block3_out").output)


@pytest.fixture(scope="module")
def files(peer, tmp_path_factory):
    """Files of the peer's weights in the format of those to download."""
    folder = tmp_path_factory.mktemp("keras")
    name = "resnet50_weights_tf_dim_ordering_tf_kernels"
    for model, ending in ((peer, ".h5"), (without_top(peer), "_notop.h5")):
        with h5py.File(folder / (name + ending), "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return folder


@pytest.fixture
def downloads(files, monkeypatch):
    """The names of the files that were asked for, and given."""
    asked = []

    def get_file(name, url, cache_subdir, file_hash):
        assert url == keras_resnet.BASE_WEIGHTS_PATH + name
        assert file_hash in keras_resnet.WEIGHTS_HASHES["resnet50"]
        asked.append(name)
        return str(files / name)

    monkeypatch.setattr(keras_resnet.file_utils, "get_file", get_file)
    return asked


def assert_same_features(model, peer):
    """Compares what enters the classifiers, on images of `SHAPE`."""
    same = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=SHAPE
    )
    same.set_weights(peer.get_weights()[:-2])
    x = 50 * images(2, *SHAPE)
    expected = predict(same, x)
    np.testing.assert_allclose(
        predict(model, x), expected, rtol=0, atol=1e-4 * np.abs(expected).max()
    )


def features(model):
    """Of a network with a classifier, what enters it."""
    return keras.Model(model.input, model.get_layer("avg_pool").output)


@pytest.mark.parametrize("build", [ResNet50, AWResNet50])
def test_warm_start_has_the_outputs_of_keras_applications(
    build, peer, downloads
):
    model = build(weights="imagenet", input_shape=SHAPE)
    assert downloads == ["resnet50_weights_tf_dim_ordering_tf_kernels.h5"]
    receipt = model.weights_receipt
    assert receipt.path == "keras.applications.ResNet50(weights='imagenet')"
    assert len(receipt.loaded) == 107
    assert receipt.adapted == receipt.left == ()
    assert_same_features(features(model), peer)
    for weight, expected in zip(
        model.get_layer("predictions").get_weights(), peer.get_weights()[-2:]
    ):
        np.testing.assert_array_equal(weight, expected)
    if build is AWResNet50:
        assert_can_learn(model.get_layer("conv2_block1_2_conv"))


def assert_can_learn(layer):
    """The attention is 1/2 everywhere, but its gradient does not vanish."""
    attention = keras.ops.convert_to_numpy(
        layer.kernel_attention(images(1, 4, 4, 64))
    )
    np.testing.assert_array_equal(attention, np.full((1, 3, 3, 64, 64), 0.5))
    assert keras.ops.convert_to_numpy(layer.attention_reduce_kernel).any()


def test_warm_start_without_top_and_adapted(peer, downloads):
    model = AWResNet50(
        include_top=False,
        weights="imagenet",
        pooling="avg",
        input_shape=SHAPE,
        conv=("plain", "aw", "aw", "plain"),
        dtype="float32",
    )
    assert downloads == ["resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"]
    assert_same_features(model, peer)
    model = ResNet50(
        weights="imagenet", classes=3, input_shape=(40, 48, 1), adapt=True
    )
    assert model.weights_receipt.adapted == ("conv1_conv", "predictions")


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("SEResNet50", {}),
        ("ResNet18", {}),
        ("ResNet34", {}),
        ("AWCBAMResNet101", {}),
        ("ResNet50", {"stride_in_3x3": True}),
        ("ResNet20", {}),
        ("DenseNetBC100", {}),
    ],
)
def test_networks_without_weights_list_those_that_have_some(name, arguments):
    with pytest.raises(ValueError, match="ResNet50, AWResNet50, ResNet101"):
        applications.create_model(name, weights="imagenet", **arguments)


@pytest.mark.parametrize("include_top", [True, False])
def test_layer_names_are_those_of_keras_applications(include_top, peer):
    if not include_top:
        peer = without_top(peer)
    model = ResNet50(include_top=include_top)
    assert [(layer.name, type(layer)) for layer in model.layers[1:]] == [
        (layer.name, type(layer)) for layer in peer.layers[1:]
    ]
    assert model.output_shape[1:] == (
        peer.output_shape[1:] if include_top else (None, None, 2048)
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert layer.epsilon == peer.get_layer(layer.name).epsilon


def test_aw_replaces_the_spatial_convolutions_of_the_blocks_only():
    model = ImageNetResNet((1, 2, 1, 1), conv="aw", aw_stages=(3, 5))
    replaced = [x.name for x in model.layers if isinstance(x, AWConv2D)]
    assert replaced == [
        "conv3_block1_2_conv",
        "conv3_block2_2_conv",
        "conv5_block1_2_conv",
    ]


@pytest.mark.parametrize("size", [(1, 1), (33, 65), (7, 40)])
def test_any_size(size):
    model = ImageNetResNet(
        (1, 1, 1, 1), bottleneck=False, input_shape=(*size, 2), classes=3
    )
    assert predict(model, images(2, *size, 2)).shape == (2, 3)


def test_the_place_of_the_strides():
    models = [
        ImageNetResNet((1, 1, 1, 1), stride_in_3x3=last) for last in (0, 1)
    ]
    strides = [
        [model.get_layer(f"conv4_block1_{n}_conv").strides[0] for n in (1, 2)]
        for model in models
    ]
    assert strides == [[2, 1], [1, 2]]


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"blocks": (1, 1, 1)}, r"blocks=\(1, 1, 1\)"),
        ({"blocks": (1, 1, 0, 1)}, r"blocks=\(1, 1, 0, 1\)"),
        ({"blocks": 50}, "blocks=50"),
        ({"conv": "se"}, "conv=se"),
        ({"conv": ("aw",) * 3}, "conv="),
        ({"aw_stages": (2,)}, "aw_stages="),
        ({"attention": "es"}, "attention=es"),
        ({"pooling": "sum"}, "pooling=sum"),
        ({"weights": "cifar"}, "weights=cifar"),
        ({"weights": 3}, "weights=3"),
        ({"input_shape": (32, 32)}, r"input_shape=\(32, 32\)"),
        ({"input_tensor": "image"}, "input_tensor=image"),
    ],
)
def test_errors(arguments, received):
    with pytest.raises(ValueError, match=f"Expected .* Received: {received}"):
        ImageNetResNet(**{"blocks": (1, 1, 1, 1)} | arguments)
