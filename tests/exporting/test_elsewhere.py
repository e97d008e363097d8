"""Exports from Keras on other backends, by a process on TensorFlow."""

import importlib.util

import keras
import numpy as np
import pytest

import aw_keras
from aw_keras.applications import get_entry
from tests.applications.networks import predict, randomise
from tests.exporting.artifacts import Artifact

if keras.backend.backend() == "tensorflow":
    pytest.skip(
        "Keras on TensorFlow writes by itself: test_formats.py",
        allow_module_level=True,
    )

for package, extra in (
    ("tensorflow", "tensorflow"),
    ("ai_edge_litert", "litert"),
):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"pip install 'aw-keras[{extra}]'", allow_module_level=True)


def test_all_arguments_arrive(tmp_path):
    image = keras.Input((9, 8, 3))
    x = aw_keras.AWConv2D(8, 3, implementation="loop")(image)
    x = keras.layers.GlobalAveragePooling2D(name="scores")(x)
    model = randomise(keras.Model(image, x))
    model.compile("sgd", "mse")
    images = np.random.default_rng(0).integers(0, 256, (40, 9, 8, 3), "uint8")
    preprocessing = get_entry("ResNet50").preprocessing
    aw_keras.export(
        model,
        tmp_path / "artifact",
        "litert",
        preprocessing=preprocessing,
        class_names=list("abcdefgh"),
        precision="int8",
        representative_data=images,
    )
    artifact = Artifact("litert", tmp_path / "artifact")
    expected = predict(model, preprocessing.inputs(model, images))
    error = np.abs(artifact(images)["scores"] - expected).max()
    assert 0 < error < 0.05 * np.ptp(expected)
    assert artifact.per_sample_convolutions() == []
    assert artifact.metadata["class_names"] == list("abcdefgh")
    assert artifact.metadata["precision"] == "int8"


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return x


def test_a_layer_unknown_there_is_one_error(tmp_path):
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, Unregistered()(image))
    with pytest.raises(RuntimeError, match="class 'Unregistered'"):
        aw_keras.export(model, tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []
