"""A folder as a user has it, and a registered network that is tiny."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from aw_keras import AWConv2D
from aw_keras.applications import registry
from aw_keras.applications.datasets import CIFAR10
from aw_keras.cli import catalogue, main
from aw_keras.weights import Receipt

NAME = "TinyNet"
CLASSES = CIFAR10.classes
BEST = CIFAR10.class_names.index("ship")


def tiny(weights=None, classes=CLASSES, conv=AWConv2D):
    """A network that says "ship" if its weights are those released."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            conv(4, 3, padding="same", name="stem"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(classes, activation="softmax", name="predictions"),
        ],
        name="tiny_net",
    )
    if weights == "cifar10":
        bias = 4.0 * np.eye(CLASSES)[BEST]
        model.get_layer("predictions").bias.assign(bias)
        model.weights_receipt = Receipt(
            *("cifar10", (), (), ()),
            dataset="cifar10",
            preprocessing=CIFAR10.preprocessing,
        )
    elif weights:
        model.load_weights(weights)
    return model


@pytest.fixture
def tiny_net(monkeypatch):
    """`tiny` as a network with released weights."""
    entry = registry.Entry(
        name=NAME,
        factory=tiny,
        family="tests",
        input_shape=(8, 8, 3),
        classes=CLASSES,
        preprocessing=CIFAR10.preprocessing,
        papers=(),
        weights=("cifar10",),
        results={"cifar10": 0.875},
    )
    monkeypatch.setitem(registry._entries, NAME.lower(), entry)
    known = [*catalogue.networks(), catalogue.described(entry)]
    monkeypatch.setattr(catalogue, "networks", lambda: known)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with images, models, and files that are neither."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 20, 3), "uint8")
    Image.fromarray(pixels).save(folder / "noise.png")
    Image.fromarray(pixels[..., 0]).save(folder / "grey.jpg")
    wide = pixels[..., 0].astype("uint16") * 257
    Image.fromarray(wide).save(folder / "wide.png")
    Image.fromarray(pixels[..., 0]).save(folder / "narrow.png")
    Image.fromarray(pixels[..., 0].astype("float32")).save(folder / "scan.tif")
    (folder / "script.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    )
    (folder / "broken.png").write_bytes(
        (folder / "noise.png").read_bytes()[:200]
    )
    (folder / "text.png").write_text("no image")
    (folder / "text.onnx").write_text("no model")
    (folder / "folder").mkdir()
    (folder / "text.keras").write_text("no model")
    released = tiny("cifar10")
    released.save(folder / "aw.keras")
    released.save_weights(folder / "aw.weights.h5")
    tiny(conv=layers.Conv2D).save(folder / "plain.keras")
    return folder


@pytest.fixture
def run(files, monkeypatch, capsys):
    """Runs a command line in the folder: its exit code and what it printed."""
    monkeypatch.chdir(files)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            code = error.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def run_json(run):
    """The result of a command line that works, from JSON."""

    def run_json(*arguments):
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return run_json
