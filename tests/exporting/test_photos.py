"""What is exported says of photographs what `predict` says of them."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from aw_keras import export
from aw_keras.applications import CIFARResNet
from aw_keras.applications.datasets import CIFAR10
from aw_keras.cli import main
from tests.applications.networks import predict, randomise
from tests.exporting.artifacts import Artifact
from tests.exporting.test_formats import FORMATS
from tests.photos import photos

#: The runtimes round differently, and nothing else.
TOLERANCE = 1e-3

PHOTOS = photos()


@pytest.fixture(scope="module")
def network():
    """A small network that is sure of a class of its own for each photo."""
    model = randomise(CIFARResNet(8, classifier_activation=None))
    inputs = [CIFAR10.preprocessing(photo) for photo in PHOTOS.values()]
    logits = predict(model, np.stack(inputs))
    classifier = model.get_layer("predictions")
    kernel, bias = classifier.get_weights()
    scale = 5 / logits.std(0)
    classifier.set_weights([kernel * scale, (bias - logits.mean(0)) * scale])
    classifier.activation = keras.activations.softmax
    return model


@pytest.fixture(scope="module")
def predicted(network, tmp_path_factory):
    """What the command says: arrays `(classes,)`, in the order of `PHOTOS`."""
    folder = tmp_path_factory.mktemp("photos")
    network.save(folder / "network.keras")
    paths = [folder / f"{name}.png" for name in PHOTOS]
    for path, photo in zip(paths, PHOTOS.values()):
        Image.fromarray(photo).save(path)
    command = ["predict", folder / "network.keras", *paths, "--json"]
    options = ["--preprocessing", "cifar10", "--top", "10"]
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        assert main([*map(str, command), *options]) == 0
    found = []
    for image in json.loads(printed[-1])["images"]:
        scores = {p["index"]: p["score"] for p in image["predictions"]}
        found.append(np.array([scores[index] for index in range(10)]))
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_predict(format, network, predicted, tmp_path):
    path = tmp_path / "artifact"
    export(network, path, format, preprocessing=CIFAR10.preprocessing)
    artifact = Artifact(format, path)
    for photo, expected in zip(PHOTOS.values(), predicted):
        assert min(photo.shape[:2]) > 9 * 32
        for batch in (photo[None], np.stack([photo, photo[::-1]])):
            scores = artifact(batch)["predictions"]
            assert len(scores) == len(batch)
            assert scores[0].argmax() == expected.argmax()
            np.testing.assert_allclose(
                scores[0], expected, rtol=0, atol=TOLERANCE
            )
    assert len({scores.argmax() for scores in predicted}) == len(PHOTOS)


def test_what_resizes_is_not_in_8_bits(tmp_path):
    """Its weights are small for large images, and were measured in others."""
    image = keras.Input((32, 32, 3))
    layer = keras.layers.Conv2D(3, 1, use_bias=False, name="maps")
    model = keras.Model(image, layer(image))
    layer.set_weights([np.eye(3)[None, None]])
    preprocessing = CIFAR10.preprocessing
    pixels = [preprocessing.pixels(photo) for photo in PHOTOS.values()]
    export(
        model,
        tmp_path / "artifact",
        "litert",
        preprocessing=preprocessing,
        precision="int8",
        representative_data=np.stack(pixels),
    )
    artifact = Artifact("litert", tmp_path / "artifact")
    (convolution,) = (node for node in artifact.nodes if node[0] == "CONV_2D")
    assert artifact.dtypes[convolution[1][0]] == "int8"
    for photo in PHOTOS.values():
        expected = preprocessing(photo, "channels_last")
        (found,) = artifact(photo[None])["maps"]
        step = 255 / min(preprocessing.deviation) / 255
        np.testing.assert_allclose(found, expected, atol=2.5 * step)
