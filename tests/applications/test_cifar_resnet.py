"""The CIFAR residual networks: sizes, shapes, names, weights and errors."""

import keras
import numpy as np
import pytest

from aw_keras import AWConv2D
from aw_keras.applications import AWResNet20, CIFARResNet, ResNet20
from aw_keras.layers.identity_shortcut import IdentityShortcut

#: Every layer of the network with one block a stage, in the order of its
#: weights file. Names and order are part of the file format.
LAYERS_OF_RESNET8 = [
    "conv1_conv",
    "conv1_bn",
    "conv1_relu",
    "conv2_block1_1_conv",
    "conv2_block1_1_bn",
    "conv2_block1_1_relu",
    "conv2_block1_2_conv",
    "conv2_block1_2_bn",
    "conv2_block1_add",
    "conv2_block1_out",
    "conv3_block1_1_conv",
    "conv3_block1_1_bn",
    "conv3_block1_1_relu",
    "conv3_block1_2_conv",
    "conv3_block1_0_shortcut",
    "conv3_block1_2_bn",
    "conv3_block1_add",
    "conv3_block1_out",
    "conv4_block1_1_conv",
    "conv4_block1_1_bn",
    "conv4_block1_1_relu",
    "conv4_block1_2_conv",
    "conv4_block1_0_shortcut",
    "conv4_block1_2_bn",
    "conv4_block1_add",
    "conv4_block1_out",
    "avg_pool",
    "predictions",
]


def images(*shape):
    return np.random.default_rng(0).random(shape, "float32")


def trainable_parameters(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def predict(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def randomise(model):
    """Gives every weight, the batch norms' statistics too, its own value."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(rng.uniform(0.1, 0.3, weight.shape))
    return model


def plain_parameters(depth, channels=3, classes=10):
    """He et al.'s network, counted by hand."""
    blocks = (depth - 2) // 6
    total = 9 * channels * 16 + 2 * 16
    for before, filters in ((16, 16), (16, 32), (32, 64)):
        total += 9 * before * filters
        total += (2 * blocks - 1) * 9 * filters * filters
        total += 2 * blocks * 2 * filters
    return total + 64 * classes + classes


def attention_parameters(depth):
    """The AW branches with reduction 16: four hidden units, four groups."""
    blocks = (depth - 2) // 6
    units = 4

    def branch(channels, filters):
        reduce = channels * units + units
        expand = channels * filters + channels * filters
        return reduce + expand

    return sum(
        branch(before, filters) + (2 * blocks - 1) * branch(filters, filters)
        for before, filters in ((16, 16), (16, 32), (32, 64))
    )


@pytest.mark.parametrize("depth", [8, 20])
def test_number_of_parameters(depth):
    plain = CIFARResNet(depth)
    attention = CIFARResNet(depth, conv="aw")
    assert trainable_parameters(plain) == plain_parameters(depth)
    assert trainable_parameters(attention) == (
        plain_parameters(depth) + attention_parameters(depth)
    )


def test_published_number_of_parameters():
    assert plain_parameters(20) == 269_722
    assert plain_parameters(110) == 1_727_962


def test_projection_adds_two_strided_convolutions():
    model = ResNet20(shortcut="projection")
    extra = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert trainable_parameters(model) == 269_722 + extra
    assert model.get_layer("conv3_block1_0_conv").strides == (2, 2)
    model.get_layer("conv4_block1_0_bn")


@pytest.mark.parametrize("conv", ["plain", "aw"])
def test_layer_names(conv):
    layers = CIFARResNet(8, conv=conv).layers
    assert [layer.name for layer in layers[1:]] == LAYERS_OF_RESNET8


def test_aw_replaces_the_convolutions_of_the_blocks_only():
    model = AWResNet20(shortcut="projection", reduction=8)
    replaced = [x.name for x in model.layers if isinstance(x, AWConv2D)]
    assert len(replaced) == 18
    assert "conv1_conv" not in replaced
    assert "conv3_block1_0_conv" not in replaced
    assert {model.get_layer(name).reduction for name in replaced} == {8}


@pytest.mark.parametrize("conv", ["plain", "aw"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_any_size_and_channel_count(conv, data_format):
    def layout(height, width, channels):
        if data_format == "channels_last":
            return height, width, channels
        return channels, height, width

    kwargs = {"conv": conv, "data_format": data_format, "include_top": False}
    default = CIFARResNet(8, **kwargs)
    assert default.input_shape == (None, *layout(32, 32, 3))
    assert default.output_shape == (None, *layout(8, 8, 64))
    model = CIFARResNet(8, input_shape=layout(None, None, 2), **kwargs)
    assert model.output_shape == (None, *layout(None, None, 64))
    if keras.backend.backend() == "tensorflow" and (
        data_format == "channels_first"
    ):
        return  # TensorFlow has no channels-first convolution on the CPU.
    for height, width in ((16, 16), (9, 14), (1, 3)):
        maps = predict(model, images(2, *layout(height, width, 2)))
        expected = layout(-(-height // 4), -(-width // 4), 64)
        assert maps.shape == (2, *expected)


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no channels-first convolution on the CPU",
)
@pytest.mark.parametrize("shortcut", ["identity", "centered", "projection"])
def test_data_formats_agree(shortcut):
    kwargs = {"conv": "aw", "shortcut": shortcut}
    last = randomise(CIFARResNet(8, input_shape=(9, 12, 3), **kwargs))
    first = CIFARResNet(
        8, input_shape=(3, 9, 12), data_format="channels_first", **kwargs
    )
    first.set_weights(last.get_weights())
    x = images(2, 9, 12, 3)
    np.testing.assert_allclose(
        predict(first, x.transpose(0, 3, 1, 2)), predict(last, x), atol=1e-5
    )


def test_top_and_pooling():
    x = images(2, 12, 12, 3)
    kwargs = {"input_shape": (12, 12, 3)}
    maps = randomise(CIFARResNet(8, include_top=False, **kwargs))
    headless = {
        pooling: CIFARResNet(8, include_top=False, pooling=pooling, **kwargs)
        for pooling in ("avg", "max")
    }
    for model in headless.values():
        model.set_weights(maps.get_weights())
    expected = predict(maps, x)
    np.testing.assert_allclose(
        predict(headless["avg"], x), expected.mean((1, 2)), rtol=1e-5
    )
    np.testing.assert_allclose(
        predict(headless["max"], x), expected.max((1, 2)), rtol=1e-5
    )

    logits = CIFARResNet(8, classes=3, classifier_activation=None, **kwargs)
    top = randomise(logits).get_layer("predictions").get_weights()
    features = keras.Model(logits.input, logits.get_layer("avg_pool").output)
    np.testing.assert_allclose(
        predict(logits, x), predict(features, x) @ top[0] + top[1], rtol=1e-4
    )


def test_identity_shortcut_keeps_every_second_pixel():
    x = images(2, 5, 4, 3)
    y = predict(IdentityShortcut(7, strides=2), x)
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    np.testing.assert_array_equal(y[..., 3:], np.zeros((2, 3, 2, 4)))


def test_identity_shortcut_between_zeros():
    x = images(2, 5, 4, 3)
    y = predict(IdentityShortcut(8, strides=2, centered=True), x)
    np.testing.assert_array_equal(y[..., 2:5], x[:, ::2, ::2])
    y[..., 2:5] = 0
    np.testing.assert_array_equal(y, np.zeros((2, 3, 2, 8)))


def test_identity_shortcut_is_serialisable():
    layer = IdentityShortcut(
        4, 2, data_format="channels_first", centered=True, dtype="float16"
    )
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == layer.get_config()
    assert again.compute_output_shape((None, 3, None, 7)) == (None, 4, None, 4)


def test_keras_file_round_trip(tmp_path):
    model = randomise(CIFARResNet(8, conv="aw", input_shape=(None, None, 1)))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = images(3, 10, 9, 1)
    np.testing.assert_allclose(predict(again, x), predict(model, x), rtol=1e-6)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_from_a_file(tmp_path, suffix):
    path = tmp_path / f"network{suffix}"
    model = randomise(CIFARResNet(8, conv="aw", name="written"))
    if suffix == ".keras":
        model.save(path)
    else:
        model.save_weights(path)

    again = CIFARResNet(8, conv="aw", name="read", weights=path)
    assert again.name == "read"
    for expected, actual in zip(
        model.get_weights(), again.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)

    headless = CIFARResNet(8, conv="aw", include_top=False, weights=str(path))
    for expected, actual in zip(
        model.get_weights()[:-2], headless.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_weights_below_other_layers(tmp_path):
    path = tmp_path / "network.weights.h5"
    network = randomise(CIFARResNet(8, input_shape=(8, 8, 3)))
    network.save_weights(path)
    entry = keras.Input((8, 8, 1))
    coloured = keras.layers.Conv2D(3, 1, name="colour")(entry)
    model = CIFARResNet(8, input_tensor=coloured, weights=path)
    assert model.layers[1].name == "colour"
    x = images(2, 8, 8, 1)
    np.testing.assert_allclose(
        predict(model, x),
        predict(network, predict(model.layers[1], x)),
        rtol=1e-5,
    )


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize(
    "arguments",
    [
        {"conv": "plain"},
        {"depth": 14},
        {"shortcut": "projection"},
        {"classes": 9},
        {"reduction": 2},
        {"input_shape": (32, 32, 1)},
    ],
)
def test_weights_that_do_not_fit(tmp_path, arguments):
    path = tmp_path / "network.weights.h5"
    CIFARResNet(8, conv="aw").save_weights(path)
    with pytest.raises(ValueError):
        CIFARResNet(**{"depth": 8, "conv": "aw", "weights": path} | arguments)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_without_the_classifier(tmp_path):
    path = tmp_path / "network.weights.h5"
    CIFARResNet(8, include_top=False).save_weights(path)
    with pytest.raises(ValueError, match="predictions"):
        CIFARResNet(8, weights=path)


def test_mixed_precision():
    model = CIFARResNet(8, conv="aw", dtype="mixed_bfloat16")
    dtypes = {layer.compute_dtype for layer in model.layers[1:-1]}
    assert dtypes == {"bfloat16"}
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert model.output.dtype == "float32"
    probabilities = predict(model, images(2, 32, 32, 3))
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"depth": 18}, "depth=18"),
        ({"depth": 2}, "depth=2"),
        ({"depth": 20.0}, "depth=20.0"),
        ({"conv": "se"}, "conv=se"),
        ({"conv": ("aw", "aw")}, r"conv=\('aw', 'aw'\)"),
        ({"attention": "es"}, "attention=es"),
        ({"attention_after": {"conv2_block2": "se"}}, "attention_after="),
        ({"aw_stages": (2,)}, "aw_stages="),
        ({"conv": "aw", "aw_stages": (5,)}, "aw_stages="),
        ({"shortcut": "none"}, "shortcut=none"),
        ({"padding": "valid"}, "padding=valid"),
        ({"pooling": "sum"}, "pooling=sum"),
        ({"data_format": "NHWC"}, "data_format=NHWC"),
        ({"weights": "imagenet"}, "weights=imagenet"),
        ({"weights": 3}, "weights=3"),
        ({"weights": "cifar-10"}, "weights=cifar-10 .*did you mean cifar10"),
        ({"weights": "no.weights.h5"}, "weights=no.weights.h5 .*no such file"),
        ({"weights": "nowhere/no"}, "weights=nowhere/no .*no such file"),
        ({"input_shape": (32, 32)}, r"input_shape=\(32, 32\)"),
        ({"input_tensor": "image"}, "input_tensor=image"),
    ],
)
def test_errors(arguments, received):
    with pytest.raises(ValueError, match=f"Expected .* Received: {received}"):
        CIFARResNet(**{"depth": 8} | arguments)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"filters": 0}, "filters=0"),
        ({"filters": 4, "strides": 1.5}, "strides=1.5"),
        ({"filters": 4, "data_format": "NHWC"}, "data_format=NHWC"),
    ],
)
def test_identity_shortcut_errors(arguments, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        IdentityShortcut(**arguments)


@pytest.mark.parametrize("channels", [5, None])
def test_identity_shortcut_refuses_other_channels(channels):
    with pytest.raises(ValueError, match="at most `filters` channels"):
        IdentityShortcut(4).build((None, 8, 8, channels))
