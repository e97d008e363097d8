"""Wrong arguments, files, names and images: one line, and exit code 2."""

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import NAME

PREDICT = ("predict", "aw.keras")
UNIT = ("--preprocessing", "unit")
EXPLAIN = ("explain", "aw.keras", "noise.png", *UNIT, "--out")

CASES = [
    ((), "COMMAND"),
    (("frobnicate",), "invalid choice: 'frobnicate'"),
    (("list", "--no"), "unrecognized arguments: --no"),
    (("list", "nothing"), "PATTERN=nothing"),
    (("summary", "AWResNet2"), "did you mean"),
    (("summary", "xyzzy"), "see aw-keras list"),
    (("summary", "missing.keras"), "missing.keras, which is no file"),
    (("summary", "noise.png"), "model.save('name.keras')"),
    (("summary", "text.keras"), "model.save('name.keras')"),
    (("summary", "."), "which is no file"),
    (("predict", "aw.keras"), "required: IMAGE"),
    ((*PREDICT, "missing.png", *UNIT), "No such file"),
    ((*PREDICT, ".", *UNIT), "Is a directory"),
    ((*PREDICT, "text.png", *UNIT), "text.png"),
    ((*PREDICT, "noise.png", "broken.png", *UNIT), "broken.png"),
    ((*PREDICT, "noise.png", "scan.tif", *UNIT), "scan.tif (grey values of 32"),
    ((*PREDICT, "script.png", *UNIT), "script.png (none of BMP"),
    ((*PREDICT, "noise.png"), "--preprocessing, one of imagenet"),
    ((*PREDICT, "noise.png", "--preprocessing", "no"), "invalid choice"),
    ((*PREDICT, "noise.png", *UNIT, "--top", "0"), "--top=0"),
    ((*PREDICT, "noise.png", *UNIT, "--weights", "x"), "which has its own"),
    (("predict", "AWResNet18", "noise.png"), "--weights PATH, because no"),
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
    (("convert", "plain.keras", "new.h5"), "a new .keras file"),
    (("convert", "plain.keras", "nowhere/new.keras"), "folder that exists"),
    (("convert", "plain.keras", "new.keras", "--where", "no*"), "['stem']"),
    (("convert", "plain.keras", "new.keras", "--reduction", "0"), "reduction"),
    (("convert", "ResNet50", "new.keras"), "which is no file"),
    (("export", "aw.keras", "nowhere/new", *UNIT), "a folder that exists"),
    (("export", "aw.keras", "new", *UNIT, "--precision", "int8"), "precision"),
    (("benchmark", "plain.keras"), "AWConv2D"),
    (("benchmark", "aw.keras", "--batch", "0"), "--batch=0"),
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
