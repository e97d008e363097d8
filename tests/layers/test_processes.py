"""One file on every backend, and training spread over several devices.

Each test starts processes, which choose their own backend and devices: it is
enough to run them once, under the backend that they are about.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.backends import BACKEND
from tests.layers.networks import (
    outputs_and_gradients,
    small_data,
    small_network,
)

ROOT = pathlib.Path(__file__).parents[2]
OTHERS = [
    name
    for name in ("jax", "torch")
    if importlib.util.find_spec(name) is not None
]

only_under = {
    name: pytest.mark.skipif(
        BACKEND != name, reason=f"Runs once, under the {name} backend."
    )
    for name in ("tensorflow", "jax")
}


def run_process(name, *arguments, **environment):
    """Runs a function of `processes`; its output becomes the failure's text."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.layers.processes", name, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout + process.stderr


def load(path):
    with np.load(path) as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]


def assert_all_close(actual, expected, tolerance=1e-5):
    """Within `tolerance` of the largest magnitude of each array."""
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected):
        scale = max(np.abs(e).max(), 1e-3)
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * scale)


@only_under["tensorflow"]
@pytest.mark.parametrize("backend", OTHERS)
def test_one_file_gives_the_same_on_every_backend(backend, tmp_path):
    """Outputs and all gradients agree to 1e-5, for both kinds of file."""
    model = small_network()
    # Attention biases are zero at first: let the file carry none that are.
    model.set_weights([w + 0.05 for w in model.get_weights()])
    x, _ = small_data()
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    np.save(tmp_path / "x.npy", x)
    expected = outputs_and_gradients(model, x)
    run_process(
        "evaluate_files",
        str(tmp_path),
        str(tmp_path / "out.npz"),
        KERAS_BACKEND=backend,
    )
    actual = load(tmp_path / "out.npz")
    assert_all_close(actual[: len(expected)], expected)
    assert_all_close(actual[len(expected) :], expected)


@only_under["jax"]
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow is not installed.",
)
def test_a_file_written_by_jax_is_read_by_tensorflow(tmp_path):
    model = small_network()
    x, _ = small_data()
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    np.save(tmp_path / "x.npy", x)
    expected = outputs_and_gradients(model, x)
    run_process(
        "evaluate_files",
        str(tmp_path),
        str(tmp_path / "out.npz"),
        KERAS_BACKEND="tensorflow",
    )
    assert_all_close(load(tmp_path / "out.npz"), [*expected, *expected])


@only_under["tensorflow"]
def test_mirrored_strategy(tmp_path):
    """Two replicas' step is the step of one device with the whole batch."""
    run_process("mirrored_strategy", str(tmp_path), KERAS_BACKEND="tensorflow")
    assert_all_close(
        load(tmp_path / "spread.npz"), load(tmp_path / "single.npz")
    )


@only_under["jax"]
def test_data_parallel(tmp_path):
    """Two devices' step is the step of one device with the whole batch."""
    run_process(
        "data_parallel",
        str(tmp_path),
        KERAS_BACKEND="jax",
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert_all_close(
        load(tmp_path / "spread.npz"), load(tmp_path / "single.npz")
    )
