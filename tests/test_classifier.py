"""`Classifier`: what it computes, its file, and what it refuses."""

import keras
import numpy as np
import pytest

from aw_keras import AWConv2D, Classifier
from aw_keras.preprocessing import Preprocessing
from tests.photos import photos

NAMES = ("heron", "swan", "gull")
PREPROCESSING = Preprocessing(
    size=16, crop=0.9, mean=(9, 99, 0), deviation=(50, 60, 70)
)


def network(shape=(16, 16, 3), data_format="channels_last"):
    image = keras.Input(shape)
    options = {"data_format": data_format}
    x = AWConv2D(4, 3, strides=2, padding="same", **options)(image)
    x = keras.layers.GlobalAveragePooling2D(**options)(x)
    x = keras.layers.Dense(3, activation="softmax")(x)
    return keras.Model(image, x, name="birds")


@pytest.mark.parametrize("name", ["landscape", "portrait"])
def test_pixels_of_any_size(name):
    model = network()
    classifier = Classifier(model, PREPROCESSING, NAMES)
    photo = photos()[name][None]
    expected = model(PREPROCESSING(photo, "channels_last"))
    found = classifier(photo)
    np.testing.assert_allclose(
        *map(keras.ops.convert_to_numpy, (found, expected)), atol=1e-5
    )


def test_file(tmp_path):
    classifier = Classifier(network(), PREPROCESSING, NAMES)
    path = tmp_path / "birds.keras"
    classifier.save(path)
    loaded = keras.saving.load_model(path)
    assert isinstance(loaded, Classifier)
    assert loaded.name == "birds" and loaded.class_names == NAMES
    assert loaded.preprocessing == PREPROCESSING
    pixels = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), "uint8")
    np.testing.assert_array_equal(
        classifier.predict(pixels, verbose=0),
        loaded.predict(pixels, verbose=0),
    )
    # To save it again changes nothing.
    loaded.save(path)
    assert keras.saving.load_model(path).class_names == NAMES


def test_grey_and_channels_first():
    grey = Classifier(network((16, 16, 1)), Preprocessing(deviation=[255] * 3))
    assert grey.class_names is None
    assert grey.preprocessing.channels == "L"
    assert grey.input_shape == (None, None, None, 1)
    if keras.backend.backend() == "tensorflow":
        return  # Its convolutions on the CPU have channels last.
    first = network((3, 16, 16), "channels_first")
    last = network()
    last.set_weights(first.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), "uint8")
    found = [
        keras.ops.convert_to_numpy(Classifier(model, PREPROCESSING)(pixels))
        for model in (first, last)
    ]
    np.testing.assert_allclose(*found, atol=1e-5)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"\(None, 3\).*Received: 2 names"):
        Classifier(network(), PREPROCESSING, ["heron", "swan"])
    with pytest.raises(ValueError, match="one input of images"):
        dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        Classifier(dense, PREPROCESSING, NAMES)
