"""Runs a function in a process of its own, with a backend and a device.

Keras fixes its backend when it is imported and the frameworks find their
devices once, so each combination needs a process. Settings and results travel
as JSON.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import backends

ROOT = Path(__file__).resolve().parents[1]


def call(function, backend, device=None, /, **settings):
    """Calls `function(**settings)` in a new process.

    Args:
        function: A function of a module, by `"module:name"`.
        backend: The Keras backend there.
        device: `"cpu"` hides the accelerators. Otherwise the framework takes
            the device that it prefers.
        **settings: What the function takes, as JSON can hold it.

    Returns:
        What the function returned, as JSON can hold it.
    """
    environment = dict(os.environ, KERAS_BACKEND=backend)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if device == "cpu":
        environment.update(JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="-1")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.worker", function, results],
            input=json.dumps(settings),
            text=True,
            cwd=ROOT,
            env=environment,
            check=True,
        )
        return json.loads(results.read_text())


def devices():
    """Returns the devices that the backend of this process finds."""
    return backends.active().devices()


def main():
    function, results = sys.argv[1:]
    module, _, name = function.partition(":")
    settings = json.load(sys.stdin)
    answer = getattr(importlib.import_module(module), name)(**settings)
    Path(results).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
