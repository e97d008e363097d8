"""What 8 bits cost: accuracies and sizes of what LiteRT runs."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from aw_keras.applications import ResNet20
from aw_keras.applications.datasets import CIFAR10
from tests.applications.networks import images, predict
from zoo import quantize
from zoo.data.dataset import Dataset
from zoo.training.network import on_pixels


@pytest.fixture
def network():
    return ResNet20(weights="cifar10")


def patches(count):
    """Parts of a photograph: 8 bits are chosen for images, not for noise."""
    photograph = load_sample_image("flower.jpg")
    corners = np.random.default_rng(0).integers(0, 360, (count, 2))
    return np.stack([photograph[y:, x:][:32, :32] for y, x in corners])


def test_accuracy_and_size(network):
    pixels = patches(30)
    preprocessing = CIFAR10.preprocessing
    labels = predict(on_pixels(network, preprocessing), pixels).argmax(-1)
    wrong = 6
    labels[:wrong] = (labels[:wrong] + 1) % 10
    dataset = Dataset(tuple("abcdefghij"), pixels, labels, pixels, labels)
    found = quantize.quantize(network, dataset, preprocessing, images=30)
    (exact, size), (rounded, smaller) = found.values()
    assert exact == 1 - wrong / 30
    assert abs(rounded - exact) < 0.25
    assert smaller < 0.6 * size


def test_data_of_no_network(capsys):
    with pytest.raises(SystemExit):
        quantize.main(["--data", "digits"])
    assert "no weights were trained on" in capsys.readouterr().err


def test_all_images_in_batches(network, tmp_path):
    path = tmp_path / "network"
    quantize.export(network, path, "litert")
    batch = images(2 * quantize._BATCH + 1, 32, 32, 3)
    np.testing.assert_allclose(
        quantize.run(path, batch), predict(network, batch), atol=1e-4
    )
