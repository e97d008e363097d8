"""Tests of `aw_keras.exporting`."""
