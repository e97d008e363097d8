"""The quickstart: what it leaves behind, and that it notices failures."""

import dataclasses
import subprocess

import numpy as np
import pytest

from tests.zoo import tiny
from zoo import quickstart
from zoo.data.sources import load_data
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.training import network
from zoo.training.network import on_pixels

pytestmark = pytest.mark.usefixtures("small_network")

RECIPE = Recipe(
    "AWResNet20", "digits", epochs=1, batch_size=32, limit=64, jit_compile=False
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a quickstart that trains too little."""
    out = tmp_path_factory.mktemp("runs") / "quickstart"
    out.mkdir()
    (out / "left-over").touch()
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(SystemExit, match="Expected an accuracy above 97%"),
    ):
        patch.setattr(network, "create_model", tiny.create_model)
        quickstart.main(out, RECIPE)
    return out


def test_files(finished):
    assert not (finished / "left-over").exists()
    picture = (finished / "predictions.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


def test_saved_model_elsewhere(finished):
    dataset = load_data(RECIPE)
    trained = Run(finished).classifier()
    model = on_pixels(trained.network, trained.preprocessing)
    images = dataset.x_test[:7]
    expected = model.predict(images, verbose=0)
    for samples in (1, 7):
        served = quickstart.predict_elsewhere(
            finished / "saved_model", images[:samples]
        )
        np.testing.assert_allclose(served, expected[:samples], atol=1e-5)


def test_missing_saved_model(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        quickstart.predict_elsewhere(tmp_path, np.zeros((1, 8, 8, 1)))


def test_a_different_prediction_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "REQUIRED_ACCURACY", -1)
    monkeypatch.setattr(
        quickstart,
        "predict_elsewhere",
        lambda path, images: np.full((len(images), 10), np.nan),
    )
    recipe = dataclasses.replace(RECIPE, limit=5)
    with pytest.raises(SystemExit, match="a difference of nan"):
        quickstart.main(tmp_path / "quickstart", recipe)
