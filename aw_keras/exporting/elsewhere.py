"""Exports from Keras on JAX or PyTorch, by a process on TensorFlow.

All formats are written from a TensorFlow graph, and Keras cannot change its
backend. The model goes to the other process as a `.keras` file; loading one
runs no code but that of Keras and this library.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np

from aw_keras.exporting.request import Request
from aw_keras.preprocessing import Preprocessing

_MODEL = "model.keras"
_ARGUMENTS = "arguments.json"
_DATA = "representative_data.npy"
_ERROR = "error.txt"


def write(model, request, path):
    """`formats.write`, with the same arguments, in a new process."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _put(folder, model, request, path)
        _run(folder)


def _put(folder, model, request, path):
    model.save(folder / _MODEL)
    arguments = vars(request) | {
        "preprocessing": request.preprocessing and vars(request.preprocessing),
        "representative_data": None,
        "path": str(path.absolute()),
    }
    (folder / _ARGUMENTS).write_text(json.dumps(arguments))
    if request.representative_data is not None:
        np.save(folder / _DATA, request.representative_data)


def _get(folder):
    arguments = json.loads((folder / _ARGUMENTS).read_text())
    path = pathlib.Path(arguments.pop("path"))
    if arguments["preprocessing"]:
        arguments["preprocessing"] = Preprocessing(**arguments["preprocessing"])
    if (folder / _DATA).exists():
        arguments["representative_data"] = np.load(folder / _DATA)
    model = keras.saving.load_model(folder / _MODEL, compile=False)
    return model, Request(**arguments), path


def _run(folder):
    environment = os.environ | {
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    # XLA aborts on flags of another version.
    environment.pop("XLA_FLAGS", None)
    process = subprocess.run(
        [sys.executable, "-m", __name__, folder],
        env=environment,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        error = folder / _ERROR
        raise RuntimeError(
            error.read_text()
            if error.exists()
            else f"Expected a process on TensorFlow to export the model. "
            f"Received: {process.stderr}"
        )


def _main(folder):
    try:
        from aw_keras.exporting import formats

        formats.write(*_get(folder))
    except Exception as error:
        (folder / _ERROR).write_text(str(error))
        sys.exit(1)


if __name__ == "__main__":
    _main(pathlib.Path(sys.argv[1]))
