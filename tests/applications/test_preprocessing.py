"""Normalisation and names of classes, for arrays and tensors of any layout."""

import keras
import numpy as np
import pytest

from aw_keras.applications import (
    cifar_resnet,
    get_entry,
    imagenet_resnet,
    list_models,
)
from aw_keras.applications.datasets import CIFAR10, CIFAR100, IMAGENET

CASES = {
    "imagenet": (
        imagenet_resnet.preprocess_input,
        {},
        IMAGENET.preprocessing,
    ),
    "cifar10": (cifar_resnet.preprocess_input, {}, CIFAR10.preprocessing),
    "cifar100": (
        cifar_resnet.preprocess_input,
        {"dataset": "cifar100"},
        CIFAR100.preprocessing,
    ),
}
cases = pytest.mark.parametrize(
    "function, arguments, statistics", CASES.values(), ids=CASES
)


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, "uint8")


def expected(x, statistics):
    """From the registry's data, in float64, channels last."""
    order = ["RGB".index(channel) for channel in statistics.channels]
    return (x[..., order] - np.array(statistics.mean)) / statistics.deviation


@cases
@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("tensor", [False, True])
def test_values(
    function, arguments, statistics, rank, data_format, dtype, tensor
):
    # As many columns as channels: a mean along the wrong axis would fit.
    x = pixels(2, 4, 3, 3) if rank == 4 else pixels(4, 3, 3)
    y = expected(x, statistics)
    if data_format == "channels_first":
        x, y = (np.moveaxis(a, -1, -3) for a in (x, y))
    x = x.astype(dtype)
    before = x.copy()
    given = keras.ops.convert_to_tensor(x) if tensor else x
    result = function(given, data_format=data_format, **arguments)
    assert isinstance(result, np.ndarray) is not tensor
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(result), y, rtol=1e-5, atol=1e-4
    )
    np.testing.assert_array_equal(x, before)


@cases
def test_as_part_of_a_model(function, arguments, statistics):
    image = keras.Input((None, None, 3), dtype="uint8")
    x = keras.ops.cast(image, "float32")
    model = keras.Model(image, function(x, **arguments))
    x = pixels(2, 5, 4, 3)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(x)),
        expected(x, statistics),
        rtol=1e-5,
        atol=1e-4,
    )


def test_imagenet_is_that_of_keras_applications():
    x = pixels(2, 4, 5, 3).astype("float32")
    np.testing.assert_array_equal(
        imagenet_resnet.preprocess_input(x),
        keras.applications.resnet.preprocess_input(x.copy()),
    )


def test_every_entry_has_the_statistics_of_its_data():
    for name in list_models():
        entry = get_entry(name)
        large = entry.classes == 1000
        known = IMAGENET if large else CIFAR10
        assert entry.preprocessing is known.preprocessing


@pytest.mark.parametrize(
    "classes, best, name",
    [
        (10, 0, "airplane"),
        (10, 9, "truck"),
        (100, 0, "apple"),
        (100, 52, "oak_tree"),
        (100, 99, "worm"),
    ],
)
def test_names_of_cifar(classes, best, name):
    probabilities = np.linspace(0, 0.1, 3 * classes).reshape(3, classes)
    probabilities[1, best] = 0.9
    decoded = cifar_resnet.decode_predictions(
        keras.ops.convert_to_tensor(probabilities.astype("float32")), top=3
    )
    assert [len(row) for row in decoded] == [3, 3, 3]
    assert decoded[1][0][:2] == (best, name)
    assert decoded[1][0][2] == pytest.approx(0.9)
    for row in decoded:
        scores = [score for _, _, score in row]
        assert scores == sorted(scores, reverse=True)


def test_errors():
    with pytest.raises(ValueError, match="Received: dataset=mnist"):
        cifar_resnet.preprocess_input(np.zeros((2, 2, 3)), dataset="mnist")
    for function, *_ in CASES.values():
        with pytest.raises(ValueError, match="Received: data_format=NHWC"):
            function(np.zeros((2, 2, 3)), data_format="NHWC")
    for shape in ((10,), (2, 11), (2, 2, 10)):
        with pytest.raises(ValueError, match="Expected `preds`"):
            cifar_resnet.decode_predictions(np.zeros(shape))
    with pytest.raises(ValueError):
        imagenet_resnet.decode_predictions(np.zeros((2, 10)))
