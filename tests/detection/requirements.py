"""Skips the test modules that import it where they cannot run."""

import importlib.util

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("needs Keras on TensorFlow", allow_module_level=True)

if importlib.util.find_spec("official") is None:
    pytest.skip("needs the detection extra", allow_module_level=True)
