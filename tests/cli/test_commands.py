"""What the commands do, in their words and as JSON."""

import json
import logging

import keras
import numpy as np
import pytest
from PIL import Image

from aw_keras import AWConv2D
from aw_keras.applications import create_model, list_models
from aw_keras.applications.preprocessing import CIFAR_CLASSES
from aw_keras.cli.commands import benchmark, doctor
from aw_keras.cli.main import COMMANDS
from tests.cli.conftest import NAME


@pytest.fixture
def run_json(run):
    def run_json(*arguments):
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return run_json


def assert_fits(text):
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_has_examples_and_fits(command, run):
    code, out, _ = run(*([command] if command else []), "--help")
    assert code == 0
    assert f"aw-keras {command or 'predict'}" in out.split("examples:")[1]
    assert_fits(out)


def test_list(tiny_net, run, run_json):
    code, out, _ = run("list")
    assert code == 0 and all(name in out for name in list_models())
    assert "cifar10 87.50%" in out
    assert_fits(out)
    (found,) = run_json("list", "tiny", "--pretrained")
    assert found["name"] == NAME
    assert found["weights"] == ["cifar10"]
    assert found["results"] == {"cifar10": 0.875}
    assert {network["name"] for network in run_json("list", "seresnet50")} == {
        "SEResNet50",
        "AWSEResNet50",
    }
    assert run_json("list", "attention*", "--pretrained") == []


def test_summary(run, run_json):
    found = run_json("summary", "aw.keras")
    model = keras.saving.load_model("aw.keras")
    assert found["parameters"] == model.count_params()
    assert found["inputs"] == [[None, 8, 8, 3]]
    (layer,) = found["aw_convolutions"]
    assert layer["kernel"] == [3, 3, 3, 4]
    plain = run_json("summary", "plain.keras")
    assert plain["aw_convolutions"] == []
    assert plain["multiply_adds"] == 64 * 27 * 4 + 4 * 10
    assert layer["attention_parameters"] == (
        found["parameters"] - plain["parameters"]
    )
    code, out, _ = run("summary", "ResNet20")
    assert code == 0 and "40,551,040" in out
    assert_fits(out)


def test_predict_with_released_weights(tiny_net, run, run_json):
    code, out, _ = run("predict", "tinynet", "noise.png", "grey.jpg")
    assert code == 0 and out.count("ship") == 2
    assert_fits(out)
    found = run_json("predict", NAME, "noise.png", "--top", 2)
    assert found["preprocessing"] == "cifar10"
    (image,) = found["images"]
    assert [p["class"] for p in image["predictions"]][0] == "ship"
    assert len(image["predictions"]) == 2


def test_predict_is_what_the_model_says_of_the_middle(run_json):
    """Of 20 x 12 pixels the middle 12 x 12, resized, from -1 to 1."""
    model = keras.saving.load_model("aw.keras")
    with Image.open("noise.png") as image:
        middle = (4, 0, 16, 12)
        pixels = image.resize((8, 8), Image.Resampling.BILINEAR, middle)
    pixels = np.asarray(pixels)
    expected = model.predict_on_batch(pixels[None] / np.float32(127.5) - 1)[0]
    found = run_json(
        *("predict", "aw.keras", "noise.png"),
        *("--preprocessing", "signed", "--top", 10),
    )
    scores = {
        prediction["index"]: prediction["score"]
        for prediction in found["images"][0]["predictions"]
    }
    assert list(scores) == list(np.argsort(-expected))
    np.testing.assert_allclose(
        [scores[i] for i in range(10)], expected, rtol=1e-4
    )


def test_predict_with_weights_of_ones_own(tiny_net, run_json):
    arguments = ("noise.png", "--preprocessing", "cifar10")
    own = run_json("predict", NAME, *arguments, "--weights", "aw.weights.h5")
    same = run_json("predict", "aw.keras", *arguments)
    assert own["images"] == same["images"]


def test_explain(run, run_json, tmp_path):
    figure = tmp_path / "figure.png"
    arguments = ("noise.png", "grey.jpg", "--preprocessing", "cifar10")
    found = run_json("explain", "aw.keras", *arguments, "--out", figure)
    with Image.open(figure) as image:
        assert image.width > 1000
    assert [layer["name"] for layer in found["layers"]] == ["stem"]
    assert found["layers"][0]["deviation"] > 0
    overview = figure.read_bytes()
    code, out, _ = run(
        *("explain", "aw.keras", *arguments),
        *("--layer", "stem", "--out", figure),
    )
    assert code == 0 and "ship" in out
    assert figure.read_bytes() != overview
    assert list(tmp_path.iterdir()) == [figure]


def test_explain_without_attention(run_json, tmp_path):
    found = run_json(
        *("explain", "plain.keras", "noise.png", "--preprocessing", "unit"),
        *("--out", tmp_path / "figure.svg"),
    )
    assert found["layers"] == []


def test_convert(run, run_json, tmp_path):
    out = tmp_path / "converted.keras"
    found = run_json("convert", "plain.keras", out, "--reduction", 1)
    assert found["converted"] == ["stem"]
    before = keras.saving.load_model("plain.keras")
    after = keras.saving.load_model(out)
    assert isinstance(after.get_layer("stem"), AWConv2D)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    np.testing.assert_allclose(
        *(model.predict_on_batch(images) for model in (before, after)),
        rtol=1e-4,
    )
    code, text, _ = run("convert", "plain.keras", tmp_path / "more.keras")
    assert code == 0
    written = out.read_bytes()
    code, _, err = run("convert", "plain.keras", out)
    assert code == 2 and "exists" in err
    assert out.read_bytes() == written


def test_convert_weights(run_json, tmp_path):
    """Of PyTorch, which say what they are of, and of a network that is said."""
    from tests.weights.peers import CIFARNet, compute, randomised, torch

    module = randomised(CIFARNet(projection=True))
    torch.save(module.state_dict(), tmp_path / "in.pth")
    found = run_json("convert", tmp_path / "in.pth", tmp_path / "1.keras")
    assert len(found["converted"]) == 7
    assert "with padding='symmetric', shortcut='projection'" in found["weights"]
    (image,) = run_json(
        *("predict", tmp_path / "in.pth", "noise.png"),
        *("--preprocessing", "cifar10", "--top", 1),
    )["images"]
    assert image["predictions"][0]["class"] in CIFAR_CLASSES["cifar10"]
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3))
    images = images.astype("float32")
    expected = np.exp(compute(module, images))
    np.testing.assert_allclose(
        keras.saving.load_model(tmp_path / "1.keras")(images),
        expected / expected.sum(-1, keepdims=True),
        atol=1e-4,
    )
    path = tmp_path / "in.weights.h5"
    create_model("ResNet20", classes=7).save_weights(path)
    found = run_json(
        *("convert", path, tmp_path / "2.keras", "--network", "resnet20"),
    )
    assert len(found["converted"]) == 19
    model = keras.saving.load_model(tmp_path / "2.keras")
    assert model.output_shape == (None, 7)


def test_convert_leaves_nothing_half_written(run, tmp_path, monkeypatch):
    def save(model, path):
        path.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(keras.Model, "save", save)
    code, _, err = run("convert", "plain.keras", tmp_path / "new.keras")
    assert code == 2 and "no space left" in err
    assert list(tmp_path.iterdir()) == []


def test_export(tiny_net, run, run_json, tmp_path, monkeypatch):
    """What reaches `aw_keras.export`, whose artifacts have their own tests."""
    calls = []

    def export(model, path, format, **arguments):
        calls.append(arguments)
        (tmp_path / "model").write_text("12345")

    monkeypatch.setattr("aw_keras.export", export)
    found = run_json("export", NAME, tmp_path / "model", "--format", "onnx")
    assert found["bytes"] == 5 and found["class_names"]
    assert calls[0]["class_names"][0] == "airplane"
    assert calls[0]["preprocessing"].deviation[0] == 62.993
    code, _, _ = run(
        *("export", "aw.keras", tmp_path / "model", "--precision", "int8"),
        *("--preprocessing", "unit", "--images", "noise.png", "grey.jpg"),
    )
    assert code == 0
    assert calls[1]["class_names"] is None
    assert calls[1]["representative_data"].shape == (2, 8, 8, 3)
    assert calls[1]["representative_data"].dtype == "uint8"


def test_benchmark(run, run_json):
    code, out, _ = run("benchmark", "aw.keras", "--rounds", 1)
    assert code == 0 and "training step" in out
    assert_fits(out)


def test_compare_takes_ratios_within_a_round():
    """Both become slower from round to round; the ratio stays 3."""
    now, calls = [0.0], {"subject": 0, "reference": 0}

    def work(name, factor):
        def function():
            calls[name] += 1
            now[0] += factor * calls[name]

        return function

    found = benchmark.compare(
        work("subject", 3.0), work("reference", 1.0), 4, lambda: now[0]
    )
    assert calls == {"subject": 6, "reference": 6}
    assert found["ratio"] == 3 and found["ratio_range"] == [3, 3]
    assert found["plain_ms"] == 4500 and found["ms"] == 13500


def test_doctor(run, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert found["versions"]["keras"] == keras.__version__
    assert found["backend"] == keras.backend.backend()
    assert found["cache"]["folder"] == str(tmp_path)
    assert found["cache"]["writable"]
    assert code == (1 if found["conflicts"] else 0)
    code, out, _ = run("doctor")
    assert keras.__version__ in out
    assert_fits(out)


def test_doctor_finds_conflicts_and_survives_what_is_broken(run, monkeypatch):
    versions = {"tensorflow": "2.20.1", "tf-keras": "2.19.0", "jax": "0.1"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setenv("KERAS_HOME", "noise.png/none")  # Below a file.

    def broken():
        raise RuntimeError("no driver")

    monkeypatch.setattr(doctor, "_devices", broken)
    monkeypatch.setattr(doctor, "_xla", lambda: "works")
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert code == 1
    assert found["devices"] == "RuntimeError: no driver"
    assert found["versions"]["torch"] is None
    conflicts = "\n".join(found["conflicts"])
    assert "pip install 'jax>=0.10'" in conflicts
    assert "pip install 'tf-keras==2.20.*'" in conflicts
    assert "TF_USE_LEGACY_KERAS" in conflicts
    assert "KERAS_HOME" in conflicts
    code, out, _ = run("doctor")
    assert code == 1 and out.count("conflict: ") == len(found["conflicts"])


def test_framework_chatter_is_no_part_of_the_result(run_json, monkeypatch):
    def noisy(path, **arguments):
        print("Downloading")
        return original(path, **arguments)

    original = keras.saving.load_model
    monkeypatch.setattr(keras.saving, "load_model", noisy)
    assert run_json("summary", "aw.keras")["name"] == "tiny_net"
    assert logging.getLogger("tensorflow").level == logging.ERROR
