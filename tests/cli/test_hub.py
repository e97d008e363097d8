"""MODEL on the Hugging Face hub, of which there is a stand-in."""

import keras
import numpy as np
import pytest

from aw_keras import AWConv2D, Classifier
from aw_keras.cli import networks
from aw_keras.image_files import read_image
from tests.cli.conftest import tiny
from tests.cli.test_runs import NAMES, PREPROCESSING
from tests.hub import sharing

MODEL = "hf://user/birds"


@pytest.fixture
def hub(tmp_path):
    """The hub with a classifier, and with a network alone."""
    with sharing(tmp_path / "cache") as hub:
        Classifier(tiny(classes=3), PREPROCESSING, NAMES).save(MODEL)
        tiny(conv=keras.layers.Conv2D).save("hf://user/plain")
        yield hub


def test_keras_reads_what_it_has_written(hub):
    assert "model.weights.h5" in hub.repositories["user/birds"]
    model = keras.saving.load_model(MODEL)
    assert isinstance(model, Classifier)
    assert model.preprocessing == PREPROCESSING
    assert [*model.class_names] == NAMES
    assert isinstance(model.network.get_layer("stem"), AWConv2D)


def test_predict(hub, files, run, run_json):
    found = run_json("predict", MODEL, "noise.png")
    assert (found["weights"], found["preprocessing"]) == (MODEL, "its own")
    (image,) = found["images"]
    model = keras.saving.load_model(MODEL)
    photo = read_image(files / "noise.png")
    (scores,) = model.predict(photo[None], verbose=0)
    ours = {p["class"]: p["score"] for p in image["predictions"]}
    assert ours == pytest.approx(dict(zip(NAMES, map(float, scores))), abs=1e-5)
    code, out, err = run("predict", "hf://user/plain", "noise.png")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--preprocessing, one of imagenet" in err
    arguments = ("predict", "hf://user/plain", "noise.png")
    found = run_json(*arguments, "--preprocessing", "cifar10", "--top", 10)
    assert len(found["images"][0]["predictions"]) == 10


def test_convert_summary_and_export(hub, run_json, tmp_path):
    found = run_json("convert", "hf://user/plain", tmp_path / "aw.keras")
    assert found["converted"] == ["stem"]
    converted = keras.saving.load_model(tmp_path / "aw.keras")
    plain = keras.saving.load_model("hf://user/plain")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    np.testing.assert_allclose(
        *(keras.ops.convert_to_numpy(m(images)) for m in (converted, plain)),
        atol=1e-5,
    )
    assert run_json("summary", MODEL)["inputs"] == [[None, 8, 8, 3]]
    found = run_json("export", MODEL, tmp_path / "model.tflite")
    assert found["class_names"] and (tmp_path / "model.tflite").is_file()


def test_what_is_not_there(hub, run, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    hub.repositories["user/other"] = {"README.md": b"something else"}
    hub.gated.add("user/plain")
    for model, message in {
        "hf://user/nothing": "404 Client Error",
        "hf://user/plain": "gated",
        "hf://user/other": "config.json",
        "hf://a/b/c": "namespace/repo_name",
    }.items():
        code, out, err = run("summary", model)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert f"MODEL={model}" in err and message in err


def test_without_the_package(run, monkeypatch):
    find = networks.importlib.util.find_spec
    monkeypatch.setattr(
        networks.importlib.util,
        "find_spec",
        lambda name: None if name == "huggingface_hub" else find(name),
    )
    code, out, err = run("summary", MODEL)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "pip install 'aw-keras[hub]'" in err
