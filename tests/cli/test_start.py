"""Processes of `aw-keras`: how soon they answer, and what else they say."""

import json
import os
import resource
import signal
import subprocess
import sys

import pytest

FRAMEWORKS = {"keras", "tensorflow", "jax", "torch"}

#: As the script `aw-keras` does it; then the frameworks it has imported.
SCRIPT = """
import json, sys
sys.argv[0] = "/bin/aw-keras"
try:
    from aw_keras.cli import main
    code = main()
except SystemExit as error:
    code = error.code or 0
print(json.dumps([code, sorted({*FRAMEWORKS} & {*sys.modules})]))
""".replace("FRAMEWORKS", repr(FRAMEWORKS))


def start(*arguments, **variables):
    """A process, as from a terminal where nothing is set."""
    environment = os.environ | variables
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        # What was started in the background ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def seconds_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["export", "--help"], 0),
        (["list"], 0),
        (["list", "--pretrained", "timm/*"], 0),
        (["list", "nothing"], 2),
        (["frobnicate"], 2),
        (["predict", "AWResNet50"], 2),
        (["predict", "AWResNet50", "no.png"], 2),
        (["summary", "AWRestNet50"], 2),
        (["convert", "no.keras", "new.keras"], 2),
        (["convert", "no.pth", "new.keras"], 2),
        (["convert", "no.h5", "new.keras", "--network", "ResNet20"], 2),
        (["export", "AWResNet20", "new.onnx", "--format", "litert"], 2),
    ],
    ids=str,
)
def test_no_framework_is_waited_for(arguments, code):
    before = seconds_of_children()
    process = start("-c", SCRIPT, *arguments)
    assert json.loads(process.stdout.splitlines()[-1]) == [code, []]
    assert process.stderr.count("\n") == (1 if code else 0)
    # Of the processor, whatever else the machine does: Keras takes four.
    assert seconds_of_children() - before < 1


def test_the_module_starts_as_the_script_does():
    process = start("-X", "importtime", "-m", "aw_keras.cli", "list")
    assert process.returncode == 0 and "AWResNet50" in process.stdout
    imported = {line.split()[-1] for line in process.stderr.splitlines()}
    assert "aw_keras.cli.main" in imported and not FRAMEWORKS & imported


def test_interrupted_while_starting(files, tmp_path):
    """Ctrl-C, here while Keras is imported: no traceback."""
    (tmp_path / "keras.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    process = start(
        *("-m", "aw_keras.cli", "summary", files / "aw.keras"), PYTHONPATH=path
    )
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "")


def test_doctor_without_keras(tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('no keras')")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    process = start("-m", "aw_keras.cli", "doctor", PYTHONPATH=path)
    assert process.returncode == 1 and "no keras" in process.stdout
    assert process.stderr == ""


def test_tensorflow_is_quiet(files):
    process = start(
        *("-m", "aw_keras.cli", "predict", files / "aw.keras"),
        *(files / "noise.png", "--preprocessing", "unit"),
        KERAS_BACKEND="tensorflow",
    )
    assert (process.returncode, process.stderr) == (0, "")


CHATTER = """
import os, sys
sys.argv[0] = "aw-keras"
from aw_keras.cli.quiet import quiet_frameworks
lines = [
    "WARNING: All log messages before absl::InitializeLog() is called",
    "I0000 00:00:1795521003.089358    8986 devices.cc:67] Number of GPUs: 0",
    "W0000 00:00:1795521049.834759    9155 flatbuffer.cc:364] Ignored.",
    "2026-11-24 11:39:52.277748: I external/xla/cudart_stub.cc:31] Could not",
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
    "E0000 00:00:1795521049.834759    9155 stream.cc:364] Out of memory.",
    "terminate called",
]
with quiet_frameworks():
    print("Python is heard", file=sys.stderr)
    for line in lines:
        os.write(2, line.encode() + b"\\n")
    if sys.argv[1:]:
        os.abort()
os.write(2, b"afterwards: I am heard\\n")
"""


@pytest.mark.parametrize("abort", [False, True])
def test_only_chatter_is_filtered(abort):
    """And what is said before a process dies is heard."""
    process = start("-c", CHATTER, *["abort"] * abort)
    first, *lines = process.stderr.splitlines()
    assert first == "Python is heard"
    assert [line.split()[0] for line in lines] == [
        *("E0000", "terminate"),
        *([] if abort else ["afterwards:"]),
    ]
    assert process.returncode == (-signal.SIGABRT if abort else 0)
