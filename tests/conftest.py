"""What every test of the library starts from: two threads and one seed."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest


def pytest_configure(config):
    """Limits the backend to two threads, before it runs its first op."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(2)
        tf.config.threading.set_inter_op_parallelism_threads(2)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(2108)


@pytest.fixture(autouse=True)
def _no_forced_implementation(monkeypatch):
    """The caller's environment must not choose what the tests run."""
    monkeypatch.delenv("AW_KERAS_IMPLEMENTATION", raising=False)
