"""Tests of `aw_keras.explain`."""
