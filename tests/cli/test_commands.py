"""What the commands do, in their words and as JSON."""

import json
import logging
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

from aw_keras import AWConv2D, exporting
from aw_keras.applications import create_model, list_models
from aw_keras.cli import catalogue
from aw_keras.cli.commands import benchmark, doctor
from aw_keras.cli.main import COMMANDS
from aw_keras.weights import released, store
from tests.cli.conftest import NAME


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


def test_list_weights_of_others(tiny_net, run, run_json):
    """`results` has the accuracy of those that match, and of no others."""
    for pattern in ("timm/*", "cifar10", "*/*a2_in1k"):
        found = run_json("list", "resnet*", "--pretrained", pattern)
        assert [network["name"] for network in found] == (
            list_models("resnet*", pretrained=pattern)
        )
    found = run_json("list", "seresnet50", "--pretrained", "*/*.ra2_in1k")
    assert [network["name"] for network in found] == [
        "SEResNet50",
        "AWSEResNet50",
    ]
    for network in found:
        assert network["weights"] == ["timm/seresnet50.ra2_in1k"]
        assert network["results"] == {"timm/seresnet50.ra2_in1k": 0.8026}
    (found,) = run_json("list", "tiny", "--pretrained", "c*")
    assert (found["weights"], found["results"]) == (
        ["cifar10"],
        {"cifar10": 0.875},
    )
    assert run_json("list", "tiny", "--pretrained", "timm/*") == []
    code, out, _ = run("list", "awresnet20", "--pretrained", "*ter/resnet20")
    assert code == 0 and "91." in out
    assert_fits(out)


def test_what_is_known_without_keras_is_what_the_library_has():
    """If not: `python -m aw_keras.cli.catalogue`."""
    assert catalogue.PATH.read_text("utf-8") == catalogue.text()


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
    """20 x 12 pixels become 13 x 8, of which it is 8 x 8, from -1 to 1."""
    model = keras.saving.load_model("aw.keras")
    with Image.open("noise.png") as image:
        channels = [
            # Without rounding, which Pillow does in bytes.
            channel.convert("F")
            .resize((13, 8), Image.Resampling.BILINEAR)
            .crop((2, 0, 10, 8))
            for channel in image.split()
        ]
    pixels = np.stack(list(map(np.asarray, channels)), axis=-1)
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


def test_predict_of_16_bits_is_that_of_8(run_json):
    found = run_json(
        *("predict", "aw.keras", "wide.png", "narrow.png"),
        *("--preprocessing", "unit"),
    )
    wide, narrow = (image["predictions"] for image in found["images"])
    assert wide == narrow


def test_grey_networks(run_json, tmp_path):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Dense(2)(keras.layers.Flatten()(image))
    path = tmp_path / "grey.keras"
    keras.Model(image, x).save(path)
    arguments = (path, "noise.png", "--preprocessing")
    found = run_json("predict", *arguments, "unit")
    assert len(found["images"][0]["predictions"]) == 2


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


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_explain_replaces_figures_only(suffix, run, tmp_path):
    out = tmp_path / f"figure.{suffix}"
    arguments = ("explain", "aw.keras", "noise.png", "--out", out)
    arguments += ("--preprocessing", "unit", "--layer", "stem")
    assert run(*arguments)[0] == 0
    assert run(*arguments)[0] == 0
    out.write_text("a photo")
    code, _, err = run(*arguments)
    assert code == 2 and "--force" in err and out.read_text() == "a photo"
    assert run(*arguments, "--force")[0] == 0
    assert b"Matplotlib" in out.read_bytes()


def test_explain_of_a_nested_model(run_json, tmp_path):
    inner = keras.saving.load_model("aw.keras").layers[:-1]
    backbone = keras.Sequential([keras.Input((8, 8, 3)), *inner])
    head = keras.layers.Dense(2, activation="softmax")
    keras.Sequential([backbone, head]).save(tmp_path / "nested.keras")
    found = run_json(
        *("explain", tmp_path / "nested.keras", "noise.png", "grey.jpg"),
        *("--preprocessing", "unit", "--out", tmp_path / "figure.png"),
    )
    assert [layer["name"] for layer in found["layers"]] == ["stem"]


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
    assert run("convert", "plain.keras", out, "--force")[0] == 0
    assert out.read_bytes() != written


def test_convert_weights(run_json, tmp_path):
    """Of PyTorch, which say what they are of, and of a network that is said."""
    from tests.weights.peers import CIFARNet, compute, randomised, torch

    module = randomised(CIFARNet(projection=True))
    torch.save(module.state_dict(), tmp_path / "in.pth")
    found = run_json("convert", tmp_path / "in.pth", tmp_path / "1.keras")
    assert len(found["converted"]) == 7
    assert "with padding='symmetric', shortcut='projection'" in found["weights"]
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
        calls.append(arguments | {"format": format})
        (tmp_path / path).write_text("12345")

    monkeypatch.setattr(exporting, "export", export)
    found = run_json("export", NAME, tmp_path / "model.onnx", "--opset", 21)
    assert found["bytes"] == 5 and found["class_names"]
    assert found["format"] == calls[0]["format"] == "onnx"
    assert calls[0]["class_names"][0] == "airplane"
    assert calls[0]["opset"] == 21
    assert calls[0]["preprocessing"].deviation[0] == 62.993
    code, _, _ = run(
        *("export", "aw.keras", tmp_path / "m.tflite", "--precision", "int8"),
        *("--preprocessing", "unit", "--images", "noise.png", "grey.jpg"),
    )
    assert code == 0
    assert calls[1]["class_names"] is None and calls[1]["format"] == "litert"
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
    assert found["devices"] and found["xla"] == "works"
    assert found["cache"]["folder"] == str(tmp_path)
    assert found["cache"]["writable"]
    assert code == (1 if found["conflicts"] else 0)


def test_doctor_counts_released_weights(run, monkeypatch, tmp_path):
    """Those of the package too, and only if they are whole."""
    monkeypatch.setattr(doctor, "_probed", dict)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    files = [file.name for file in released()]
    code, out, _ = run("doctor", "--json")
    cache = json.loads(out)["cache"]
    assert [pathlib.Path(path).name for path in cache["weights"]] == files
    assert cache["missing"] == []
    (tmp_path / "models").mkdir()
    for name, content in zip(files, [None, b"damaged"]):
        path = tmp_path / "models" / name
        path.write_bytes(content or (store.SHIPPED / name).read_bytes())
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    code, out, _ = run("doctor", "--json")
    assert json.loads(out)["cache"]["missing"] == files[1:]
    code, out, _ = run("doctor")
    assert f"1 of {len(files)} are here" in out
    assert_fits(out)


def test_doctor_finds_conflicts(run, monkeypatch):
    versions = {"tensorflow": "2.20.1", "tf-keras": "2.19.0", "jax": "0.1"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    monkeypatch.setattr(doctor, "_probed", dict)
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setenv("KERAS_HOME", "noise.png/none")  # Below a file.
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert code == 1
    assert found["versions"]["torch"] is None
    conflicts = "\n".join(found["conflicts"])
    assert "pip install 'jax>=0.10'" in conflicts
    assert "pip install 'tf-keras==2.20.*'" in conflicts
    assert "TF_USE_LEGACY_KERAS" in conflicts
    assert "KERAS_HOME" in conflicts
    code, out, _ = run("doctor")
    assert code == 1 and out.count("conflict: ") == len(found["conflicts"])


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        ("raise RuntimeError('no driver')", "RuntimeError: no driver"),
        ("import os; os.write(2, b'bad flag'); os._exit(9)", "9, bad flag"),
    ],
)
def test_doctor_survives_what_is_broken(
    backend, says, run, monkeypatch, tmp_path
):
    """Whether it raises an error or ends the process that imports it."""
    (tmp_path / "keras.py").write_text(backend)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, out, _ = run("doctor")
    assert code == 1 and "does not start" in out
    (line,) = [x for x in out.splitlines() if x.startswith("conflict: Keras")]
    assert says in line and "pip install" in line


def test_framework_chatter_is_no_part_of_the_result(run_json, monkeypatch):
    def noisy(path, **arguments):
        print("Downloading")
        return original(path, **arguments)

    original = keras.saving.load_model
    monkeypatch.setattr(keras.saving, "load_model", noisy)
    assert run_json("summary", "aw.keras")["name"] == "tiny_net"


@pytest.mark.parametrize(
    ("level", "hidden"), [("0", False), ("1", False), ("2", True), ("3", True)]
)
def test_frameworks_log_what_was_asked_for(level, hidden, run, monkeypatch):
    found = []
    logger = logging.getLogger("tensorflow")

    def load(path, **arguments):
        found.append(logger.isEnabledFor(logging.WARNING))
        raise OSError("enough")

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    monkeypatch.setattr(keras.saving, "load_model", load)
    enabled = logger.isEnabledFor(logging.WARNING)
    run("summary", "aw.keras")
    assert found == [enabled and not hidden]
    assert logger.isEnabledFor(logging.WARNING) == enabled
