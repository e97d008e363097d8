"""Files of PyTorch: images go through what is known, or usual, for them."""

import numpy as np
import pytest

from aw_keras import exporting
from aw_keras.applications import get_entry
from aw_keras.applications.datasets import CIFAR10
from aw_keras.cli import catalogue
from aw_keras.image_files import read_image
from aw_keras.preprocessing import Preprocessing
from aw_keras.weights import manifest
from tests.weights.peers import CIFARNet, compute, randomised, torch
from tests.weights.test_published import PREPROCESSING, write

#: That of chenyaofo: the mean of the pixels is not rounded as it is here.
USUAL = Preprocessing(
    size=32,
    mean=(125.307, 122.961, 113.8575),
    deviation=(51.5865, 50.847, 51.255),
)


@pytest.fixture(scope="module")
def module():
    return randomised(CIFARNet(projection=True))


@pytest.fixture
def path(module, tmp_path):
    path = tmp_path / "network.pth"
    torch.save(module.state_dict(), path)
    return path


def scores(module, preprocessing, image):
    logits = compute(module, preprocessing(read_image(image))[None])[0]
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def check_predictions(found, module, preprocessing):
    (image,) = found["images"]
    ours = {p["class"]: p["score"] for p in image["predictions"]}
    theirs = scores(module, preprocessing, image["image"])
    assert ours == pytest.approx(
        dict(zip(CIFAR10.class_names, theirs)), abs=1e-4
    )


def test_predict(path, module, run_json):
    found = run_json("predict", path, "noise.png", "--top", 10)
    assert found["preprocessing"] == "usual for cifar10"
    check_predictions(found, module, USUAL)
    other = ("--preprocessing", "cifar10")
    found = run_json("predict", path, "noise.png", "--top", 10, *other)
    assert found["preprocessing"] == "cifar10"
    check_predictions(found, module, CIFAR10.preprocessing)


def test_explain_and_export(path, run_json, tmp_path, monkeypatch):
    figure = tmp_path / "figure.png"
    found = run_json("explain", path, "noise.png", "--out", figure)
    assert found["preprocessing"] == "usual for cifar10" and figure.exists()
    calls = []

    def export(model, path, format, **arguments):
        calls.append(arguments)
        (tmp_path / path).write_text("12345")

    monkeypatch.setattr(exporting, "export", export)
    found = run_json("export", path, tmp_path / "model.onnx")
    assert found["preprocessing"] == "usual for cifar10"
    (arguments,) = calls
    assert arguments["preprocessing"] == USUAL
    assert arguments["class_names"] == CIFAR10.class_names


def test_names_of_weights_of_others(run_json, tmp_path, monkeypatch):
    """What is known of them goes before what is usual."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    module = randomised(CIFARNet(projection=False, blocks=3))
    path = write(module, tmp_path / "models", monkeypatch)
    known = [catalogue.described(get_entry("ResNet20"))]
    monkeypatch.setattr(catalogue, "networks", lambda: known)
    (file,) = manifest.published()
    arguments = ("predict", "resnet20", "noise.png", "--top", 10, "--weights")
    found = run_json(*arguments, file.name)
    assert found["preprocessing"] == found["weights"] == file.name
    check_predictions(found, module, PREPROCESSING)
    short = run_json("predict", file.name, "noise.png", "--top", 10)
    assert short == found
    found = run_json("convert", file.name, tmp_path / "aw.keras")
    assert "sha256" in found["weights"] and len(found["converted"]) == 19
    found = run_json(*arguments, path)
    assert found["preprocessing"] == "usual for cifar10"
    assert found["weights"] == str(path)
