"""Wrong arguments, files, names and images: one line, and exit code 2."""

import json
import os
import subprocess
import sys
from http.client import IncompleteRead

import keras
import pytest
from keras.src.applications import imagenet_utils

from tests.cli.conftest import NAME
from tests.weights.server import serving

PREDICT = ("predict", "aw.keras")
UNIT = ("--preprocessing", "unit")
EXPLAIN = ("explain", "aw.keras", "noise.png", *UNIT, "--out")

CASES = [
    ((), "COMMAND"),
    (("frobnicate",), "invalid choice: 'frobnicate'"),
    (("list", "--no"), "unrecognized arguments: --no"),
    (("list", "nothing"), "PATTERN=nothing"),
    (("list", "--pretrained", "50"), "names of weights"),
    (("summary", "AWRestNet20"), "did you mean AWResNet20"),
    (("summary", "xyzzy"), "see aw-keras list"),
    (("summary", "missing.keras"), "missing.keras, which is no file"),
    (("summary", "noise.png"), "model.save('name.keras')"),
    (("summary", "text.keras"), "model.save('name.keras')"),
    (("summary", "timm/resnet50.a1"), "did you mean timm/resnet50."),
    (
        (*("predict", "timm/resnet50.a1_in1k", "noise.png"), "--weights", "x"),
        "which has its own",
    ),
    (("summary", "folder"), "folder, a folder without model.keras"),
    (("predict", "aw.keras"), "required: IMAGE"),
    ((*PREDICT, "missing.png", *UNIT), "No such file"),
    ((*PREDICT, ".", *UNIT), "Is a directory"),
    ((*PREDICT, "text.png", *UNIT), "text.png"),
    ((*PREDICT, "broken.png", "text.png", *UNIT), "broken.png"),
    ((*PREDICT, "scan.tif", *UNIT), "scan.tif (grey values of 32"),
    ((*PREDICT, "script.png", *UNIT), "script.png (none of BMP"),
    ((*PREDICT, "noise.png"), "--preprocessing, one of imagenet"),
    ((*PREDICT, "noise.png", "--preprocessing", "no"), "invalid choice"),
    ((*PREDICT, "noise.png", *UNIT, "--top", "0"), "positive"),
    ((*PREDICT, "noise.png", *UNIT, "--weights", "x"), "which has its own"),
    (("predict", "AWResNet18", "noise.png"), "--weights PATH, because no"),
    (
        ("predict", "ResNet20", "noise.png", "--weights", "akamaster/resnet2"),
        "did you mean akamaster/resnet20",
    ),
    (
        ("predict", NAME, "noise.png", "--weights", "imagenet"),
        "--weights to be cifar10 or a file",
    ),
    (
        ("predict", NAME, "noise.png", *UNIT, "--weights", "text.keras"),
        "written by Keras 3",
    ),
    (("predict", NAME, "noise.png", "--weights", "aw.weights.h5"), "one of"),
    ((*EXPLAIN, "figure.docx"), "--out to end in"),
    ((*EXPLAIN, "nowhere/figure.png"), "a folder that exists"),
    ((*EXPLAIN, "figure.png", "--layer", "no"), "one of ['stem']"),
    ((*EXPLAIN, "noise.png"), "noise.png, which exists; --force"),
    ((*EXPLAIN, "noise.jpg"), "--out to end in"),
    (("convert", "plain.keras", "new.h5"), "path of a .keras file"),
    (("convert", "plain.keras", "aw.keras"), "which exists; --force"),
    (("convert", "plain.keras", "nowhere/new.keras"), "folder that exists"),
    (("convert", "plain.keras", "new.keras", "--where", "no*"), "['stem']"),
    (("convert", "plain.keras", "new.keras", "--reduction", "0"), "positive"),
    (("convert", "ResNet50", "new.keras"), "which is no file"),
    (("convert", "missing.pth", "new.keras"), "which is no file"),
    (
        ("convert", "missing.h5", "new.keras", "--network", "ResNet20"),
        "the weights of ResNet20",
    ),
    (
        ("convert", "aw.weights.h5", "new.keras", "--network", "ResNte20"),
        "did you mean ResNet20",
    ),
    (("export", "aw.keras", "nowhere/new", *UNIT), "a folder that exists"),
    (("export", "aw.keras", "noise.png", *UNIT), "or has a SavedModel"),
    (("export", "aw.keras", "noise.png", "--force", *UNIT), "a SavedModel"),
    (("export", "aw.keras", "folder", "--force", *UNIT), "a SavedModel"),
    (("export", "aw.keras", "text.onnx", *UNIT), "(--force)"),
    (("export", "aw.keras", "noise.png", "--format", "onnx"), "(--force)"),
    (("export", "aw.keras", "n.onnx", "--format", "litert"), "as onnx does"),
    (("export", "aw.keras", "n.tflite", "--format", "onnx"), "in .tflite"),
    (("export", "aw.keras", "n.onnx", "--format", "saved_model"), "in .onnx"),
    (("export", "aw.keras", "new", *UNIT, "--precision", "int8"), "precision"),
    (("benchmark", "plain.keras"), "AWConv2D"),
    (("benchmark", "aw.keras", "--batch", "0"), "positive"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    CASES,
    ids=[" ".join(arguments) for arguments, _ in CASES],
)
def test_one_line_and_exit_code_2(arguments, message, run, tiny_net, files):
    before = sorted(files.iterdir())
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("aw-keras") and err.count("\n") == 1
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize(
    "failure", [Exception("URL fetch failure"), IncompleteRead(b"", 9)]
)
def test_what_keras_cannot_download(failure, run, monkeypatch):
    """Keras raises a bare `Exception`, and what http.client raises."""

    def offline(*arguments, **keywords):
        raise failure

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    code, out, err = run("predict", "AWResNet50", "noise.png")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Expected to download the weights" in err and str(failure) in err


def test_what_the_hub_does_not_give(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.root)
        for server.status, message in ((404, "404"), (401, "HF_TOKEN")):
            code, out, err = run("predict", "timm/resnet18.a1_in1k", "grey.jpg")
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert message in err


def test_names_that_keras_cannot_download(run, monkeypatch, tmp_path):
    def offline(*arguments, **keywords):
        raise Exception("URL fetch failure")

    keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1000),
        ]
    ).save(tmp_path / "many.keras")
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", None)
    monkeypatch.setattr(imagenet_utils.file_utils, "get_file", offline)
    code, out, err = run(
        *("predict", tmp_path / "many.keras", "noise.png"),
        *("--preprocessing", "imagenet"),
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Expected to download the names" in err


def test_damaged_images_do_not_cost_the_others(run):
    arguments = (*PREDICT, "noise.png", "broken.png", "grey.jpg", *UNIT)
    code, out, err = run(*arguments)
    assert code == 2 and "noise.png" in out and "grey.jpg" in out
    assert err.startswith("aw-keras predict: ") and "broken.png" in err
    assert err.count("\n") == 1
    code, out, err = run(*arguments, "--json")
    found = json.loads(out)
    assert [x["image"] for x in found["images"]] == ["noise.png", "grey.jpg"]
    assert [x["image"] for x in found["failed"]] == ["broken.png"]
    assert code == 2 and "broken.png" in err


def test_a_process_of_its_own(files):
    """As a user would type it: no traceback, and nothing on stdout."""
    process = subprocess.run(
        [sys.executable, "-m", "aw_keras.cli", *PREDICT, "text.png", *UNIT],
        cwd=files,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert line.startswith("aw-keras predict: ") and "text.png" in line


def test_a_reader_that_has_seen_enough(files):
    process = subprocess.Popen(
        [sys.executable, "-m", "aw_keras.cli", "list", "--json"],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0
