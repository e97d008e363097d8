"""Trainings of a network of eight layers, here and in other processes.

    python -m tests.zoo.tiny RECIPE.yaml --set ... --out ...

is `python -m zoo.train` with that network in the place of any other.
"""

import os
import subprocess
import sys

import numpy as np

from aw_keras.applications import CIFARResNet
from zoo import train
from zoo.training import network

RECIPE = "zoo/recipes/digits.yaml"
SETTINGS = ["batch_size=32", "limit=96", "epochs=3"]


def create_model(name, **arguments):
    return CIFARResNet(depth=8, **arguments)


def start(out, *settings, backend="jax", **environment):
    """Starts a training in another process."""
    command = [sys.executable, "-m", "tests.zoo.tiny", RECIPE, "--out", out]
    return subprocess.Popen(
        [*map(str, command), "--set", *SETTINGS, *settings],
        env=os.environ | {"KERAS_BACKEND": backend} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Waits for trainings, which have to succeed."""
    for process in processes:
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 0, printed


def state(out):
    """Name and variables of the last checkpoint of a run."""
    path = max((out / "checkpoints").glob("*.npz"))
    with np.load(path) as archive:
        names = [name for name in archive.files if name != "record"]
        return path.name, {name: archive[name] for name in names}


def assert_same_end(run, expected):
    """Fails if two runs did not end at the same weights, up to rounding."""
    name, found = state(run)
    expected_name, wanted = state(expected)
    assert name == expected_name
    for (key, value), reference in zip(
        found.items(), wanted.values(), strict=True
    ):
        np.testing.assert_allclose(
            value, reference, rtol=1e-4, atol=1e-5, err_msg=key
        )


if __name__ == "__main__":
    network.create_model = create_model
    train.main()
