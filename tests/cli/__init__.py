"""Tests of `aw_keras.cli`."""
