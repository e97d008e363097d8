"""What the artifacts compute, in each format's own runtime."""

import functools
import importlib.util

import keras
import numpy as np
import pytest

import aw_keras
from aw_keras import artifacts
from aw_keras.applications import feature_pyramid, from_pytorch, get_entry
from aw_keras.applications.datasets import preprocess_cifar
from aw_keras.applications.imagenet_resnet import preprocess_input
from aw_keras.ops.convolution import per_sample_conv2d
from tests.applications.networks import SMALL, predict, randomise
from tests.exporting.artifacts import Artifact, size

if keras.backend.backend() != "tensorflow":
    pytest.skip(
        "other backends hand the model to TensorFlow: test_elsewhere.py",
        allow_module_level=True,
    )

FORMATS = [
    "saved_model",
    pytest.param(
        "onnx",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("tf2onnx") is None,
            reason="pip install 'aw-keras[onnx]'",
        ),
    ),
    "litert",
]
KINDS = ("AWCBAMResNet", "AttentionCNN", "AWDenseNet")
CIFAR = get_entry("AWResNet20").preprocessing
TOLERANCE = 1e-4


@functools.cache
def network(kind):
    """A small network that gives logits of ten classes."""
    return randomise(
        SMALL[kind](
            input_shape=(32, 32, 3), classes=10, classifier_activation=None
        )
    )


def image_bytes(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, "uint8")


def close(artifact, images, expected, tolerance=TOLERANCE):
    """Asserts the outputs of one, two and all images; at least seven."""
    assert len(images) >= 7
    for samples in (1, 2, len(images)):
        found = artifact(images[:samples])["predictions"]
        assert found.dtype == "float32"
        np.testing.assert_allclose(
            found, expected[:samples], rtol=0, atol=tolerance
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", FORMATS)
def test_bytes_of_any_size(format, kind, tmp_path):
    path = tmp_path / "artifact"
    aw_keras.export(network(kind), path, format, preprocessing=CIFAR)
    artifact = Artifact(format, path)
    images = image_bytes(7, 45, 61, 3)
    close(artifact, images, predict(network(kind), CIFAR(images)))
    images = image_bytes(7, 32, 32, 3)
    close(artifact, images, predict(network(kind), preprocess_cifar(images)))
    assert artifact.per_sample_convolutions() == []


@functools.cache
def all_convolutions():
    """A model with per-sample convolutions of every geometry."""
    x = image = keras.Input((11, 12, 6))
    layer = functools.partial(aw_keras.AWConv2D, activation="relu")
    x = layer(12, 3, strides=2, implementation="grouped")(x)
    x = layer(8, (2, 3), padding="same", groups=4, implementation="loop")(x)
    x = layer(8, 2, dilation_rate=2)(x)
    x = layer(8, 3, strides=2, padding="symmetric", groups=2)(x)
    x = layer(8, 1)(x)
    x = aw_keras.AWDepthwiseConv2D(3, padding="same")(x)
    kernels = keras.layers.Dense(8 * 10)(x[:, 0, 0])
    kernels = keras.layers.Reshape((1, 1, 8, 10))(kernels)
    x = per_sample_conv2d(x, kernels, implementation="grouped")
    x = keras.layers.GlobalAveragePooling2D(name="predictions")(x)
    return randomise(keras.Model(image, x))


@pytest.mark.parametrize("format", FORMATS)
def test_every_geometry_whatever_the_layers_name(format, tmp_path):
    model = all_convolutions()
    path = tmp_path / "artifact"
    aw_keras.export(model, path, format)
    artifacts.check_target(path, format, overwrite=False)  # Known again.
    artifact = Artifact(format, path)
    images = np.random.default_rng(1).normal(size=(7, 11, 12, 6))
    images = images.astype("float32")
    close(artifact, images, predict(model, images))
    assert artifact.per_sample_convolutions() == []
    named = [getattr(layer, "implementation", None) for layer in model.layers]
    assert {"grouped", "loop", "auto"} <= set(named)


@pytest.mark.parametrize("format", FORMATS)
def test_a_network_of_pytorch(format, tmp_path):
    """Its padding is not TensorFlow's, and its shortcuts are its own."""
    from tests.weights.peers import CIFARNet, compute, randomised, torch

    module = randomised(CIFARNet(projection=False))
    torch.save(module.state_dict(), tmp_path / "network.pth")
    model = from_pytorch(
        tmp_path / "network.pth", conv="aw", classifier_activation=None
    )
    aw_keras.export(model, tmp_path / "artifact", format)
    images = np.random.default_rng(2).normal(size=(7, 32, 32, 3))
    images = images.astype("float32")
    artifact = Artifact(format, tmp_path / "artifact")
    close(artifact, images, compute(module, images))
    assert artifact.per_sample_convolutions() == []


def test_the_reader_finds_a_batch_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "aw_keras.exporting.serving.force_implementation",
        lambda name: aw_keras.ops.use_implementation("grouped"),
    )
    aw_keras.export(network("AWDenseNet"), tmp_path / "artifact")
    artifact = Artifact("saved_model", tmp_path / "artifact")
    # The loop is in a function of the graph.
    assert "PartitionedCall" in artifact.per_sample_convolutions()


def wide(dtype=None):
    """A model of few layers with many weights."""
    image = keras.Input((7, 7, 3))
    x = aw_keras.AWConv2D(64, 3, activation="relu", dtype=dtype)(image)
    x = aw_keras.AWConv2D(64, 3, dtype=dtype)(x)
    pool = keras.layers.GlobalAveragePooling2D
    x = pool(name="predictions", dtype=dtype)(x)
    return randomise(keras.Model(image, x))


@pytest.mark.parametrize("format", FORMATS)
def test_float16_takes_two_bytes_a_weight(format, tmp_path):
    model, path = wide(), tmp_path / "artifact"
    aw_keras.export(model, path, format, precision="float16")
    images = np.random.default_rng(1).normal(size=(7, 7, 7, 3))
    images = images.astype("float32")
    expected = predict(model, images)
    tolerance = 2**-9 * np.abs(expected).max()
    close(Artifact(format, path), images, expected, tolerance)
    arrays = path / "variables" if format == "saved_model" else path
    assert 2 < size(arrays) / model.count_params() < 2.7


def test_int8(tmp_path):
    model, path = network("AWDenseNet"), tmp_path / "artifact"
    images = image_bytes(32, 32, 32, 3)
    aw_keras.export(
        model,
        path,
        "litert",
        preprocessing=CIFAR,
        precision="int8",
        representative_data=images,
    )
    artifact = Artifact("litert", path)
    expected = predict(model, preprocess_cifar(images))
    close(artifact, images, expected, tolerance=0.2 * np.ptp(expected))
    dtypes = {"BATCH_MATMUL": [], "CONV_2D": []}
    for kind, inputs, _ in artifact.nodes:
        if kind in dtypes:
            factors = {artifact.dtypes[index].name for index in inputs[:2]}
            dtypes[kind].append(factors)
    # Two products resize. Every AW-convolution has one for the pooling, which
    # stays exact, too, and one with its kernels.
    assert dtypes["BATCH_MATMUL"] == [
        *2 * [{"float32"}],
        *3 * [{"float32"}, {"int8"}],
    ]
    assert dtypes["CONV_2D"] == 6 * [{"int8"}]


def test_int8_that_cannot_run_is_an_error(tmp_path):
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    x = keras.layers.Conv2D(5, 1)(x)
    model = keras.Model(image, x)
    model.layers[1].bias.assign([-1e3] * 4)
    with pytest.raises(RuntimeError, match="XNNPACK"):
        aw_keras.export(
            model,
            tmp_path / "artifact",
            "litert",
            precision="int8",
            representative_data=np.ones((2, 4, 4, 3), "float32"),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_artifact_is_an_error(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="pip install 'aw-keras[onnx]'")
    monkeypatch.setattr(
        "aw_keras.exporting.formats._onnx_runner",
        lambda path: lambda images: {"maps": np.zeros((2, 2, 2, 4))},
    )
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, name="maps")(image))
    with pytest.raises(RuntimeError, match="its maps would be off by"):
        aw_keras.export(model, tmp_path / "artifact", "onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_unknown_size(format, tmp_path):
    image = keras.Input((None, None, 3))
    x = aw_keras.AWConv2D(8, 3, strides=2, padding="same")(image)
    x = aw_keras.AWConv2D(6, 3, dilation_rate=2)(x)
    x = keras.layers.GlobalAveragePooling2D(name="predictions")(x)
    model = randomise(keras.Model(image, x))
    imagenet = get_entry("ResNet50").preprocessing
    aw_keras.export(
        model, tmp_path / "artifact", format, preprocessing=imagenet
    )
    artifact = Artifact(format, tmp_path / "artifact")
    for extent in (13, 20):
        images = image_bytes(7, extent, 17, 3)
        expected = predict(model, preprocess_input(images))
        scale = np.abs(expected).max()
        close(artifact, images, expected, tolerance=1e-6 * scale)
    assert artifact.per_sample_convolutions() == []


@pytest.mark.parametrize("opset", [13, 16, 19, 22])
def test_versions_of_onnx(opset, tmp_path):
    """Of all of them, an AW-convolution and a preprocessing make use."""
    onnx = pytest.importorskip("onnx", reason="pip install 'aw-keras[onnx]'")
    image = keras.Input((8, 8, 3))
    x = aw_keras.AWConv2D(4, 3, padding="symmetric", strides=2)(image)
    x = keras.layers.GlobalAveragePooling2D(name="predictions")(x)
    model, path = randomise(keras.Model(image, x)), tmp_path / "model.onnx"
    aw_keras.export(model, path, preprocessing=CIFAR, opset=opset)
    images = image_bytes(7, 9, 12, 3)
    expected = predict(model, CIFAR.inputs(model, images))
    close(Artifact("onnx", path), images, expected)
    proto = onnx.load(path)
    assert proto.opset_import[0].version == opset
    for tensor in (*proto.graph.input, *proto.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("format", FORMATS)
def test_metadata(format, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            aw_keras.AWConv2D(4, 3),
            keras.layers.GlobalMaxPooling2D(name="scores"),
        ],
        name="tiny_1.00",
    )
    names = ["Äpfel", "pears", "plums", "figs"]
    aw_keras.export(
        model,
        tmp_path / "artifact",
        format,
        preprocessing=CIFAR,
        class_names=names,
    )
    assert Artifact(format, tmp_path / "artifact").metadata == {
        "name": "tiny_1.00",
        "inputs": {
            "images": {"shape": [None, None, None, 3], "dtype": "uint8"}
        },
        "outputs": {"scores": {"shape": [None, 4], "dtype": "float32"}},
        "class_names": names,
        "preprocessing": {
            "size": [8, 8],
            "crop": 1.0,
            "crop_mode": "center",
            "interpolation": "bilinear",
            "channels": "RGB",
            "mean": list(CIFAR.mean),
            "deviation": list(CIFAR.deviation),
        },
        "precision": "float32",
        "aw_keras": aw_keras.__version__,
    }


def test_channels_first(tmp_path):
    models = {}
    for data_format, shape in (
        ("channels_last", (8, 9, 3)),
        ("channels_first", (3, 8, 9)),
    ):
        image = keras.Input(shape)
        x = aw_keras.AWConv2D(4, 3, data_format=data_format)(image)
        pool = keras.layers.GlobalAveragePooling2D
        x = pool(data_format=data_format, name="predictions")(x)
        models[data_format] = keras.Model(image, x)
    randomise(models["channels_last"])
    models["channels_first"].set_weights(models["channels_last"].get_weights())
    aw_keras.export(
        models["channels_first"], tmp_path / "artifact", preprocessing=CIFAR
    )
    images = image_bytes(7, 8, 9, 3)
    expected = predict(models["channels_last"], preprocess_cifar(images))
    close(Artifact("saved_model", tmp_path / "artifact"), images, expected)


def test_named_outputs(tmp_path):
    pyramid = feature_pyramid(network("AWDenseNet"), levels=(2, 3))
    aw_keras.export(pyramid, tmp_path / "artifact")
    images = np.random.default_rng(1).random((2, 32, 32, 3), "float32")
    found = Artifact("saved_model", tmp_path / "artifact")(images)
    expected = pyramid(images, training=False)
    assert found.keys() == expected.keys() == {"2", "3"}
    for level, maps in expected.items():
        np.testing.assert_allclose(found[level], maps, atol=TOLERANCE)


def test_mixed_precision(tmp_path):
    model, path = wide(dtype="mixed_float16"), tmp_path / "artifact"
    aw_keras.export(model, path, precision="float16")
    images = np.random.default_rng(1).random((7, 7, 7, 3), "float32")
    expected = predict(model, images).astype("float32")
    tolerance = 2**-8 * np.abs(expected).max()
    close(Artifact("saved_model", path), images, expected, tolerance)


def test_what_a_format_lacks_is_one_error(tmp_path):
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.ops.erfinv(image / 9), name="inverse")
    with pytest.raises(
        RuntimeError, match="can be written as litert. Received: model inverse"
    ):
        aw_keras.export(model, tmp_path / "artifact", "litert")
    assert list(tmp_path.iterdir()) == []
