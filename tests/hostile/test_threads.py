"""Threads that share a model."""

import concurrent.futures
import logging
import threading

import keras
import pytest

import aw_keras
from tests.exporting.artifacts import Artifact

PATIENCE = 60  # seconds


def model_of(implementation):
    image = keras.Input((6, 6, 2))
    x = aw_keras.AWConv2D(4, 3, implementation=implementation)(image)
    x = keras.layers.GlobalMaxPooling2D(name="predictions")(x)
    return keras.Model(image, x)


def test_two_exports_and_a_prediction_at_once(tmp_path):
    """The second begins and ends while the first one has half a graph."""
    model = model_of("grouped")
    layer = model.layers[1]
    call = layer.call
    first_is_inside, second_is_done = threading.Event(), threading.Event()

    def waiting(*args, **kwargs):
        outputs = call(*args, **kwargs)
        if not first_is_inside.is_set():
            first_is_inside.set()
            assert second_is_done.wait(PATIENCE)
        return outputs

    layer.call = waiting
    with concurrent.futures.ThreadPoolExecutor() as threads:
        first = threads.submit(aw_keras.export, model, tmp_path / "first")
        assert first_is_inside.wait(PATIENCE)
        seen = layer.implementation
        aw_keras.export(model, tmp_path / "second")
        second_is_done.set()
        first.result()
    assert layer.implementation == seen == "grouped"
    for name in ("first", "second"):
        artifact = Artifact("saved_model", tmp_path / name)
        assert artifact.per_sample_convolutions() == []


def test_two_exports_leave_the_logger_as_it_was():
    """The second would keep the level that the first one has for a while."""
    pytest.importorskip("tf2onnx", reason="pip install 'aw-keras[onnx]'")
    from aw_keras.exporting import formats

    logger = logging.getLogger("tf2onnx")
    level = logger.level
    second_is_inside, first_is_done = threading.Event(), threading.Event()

    def second():
        with formats._quiet(logger.name):
            second_is_inside.set()
            assert first_is_done.wait(PATIENCE)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        with formats._quiet(logger.name):
            future = threads.submit(second)
            second_is_inside.wait(0.2)  # In vain, as it should be.
        first_is_done.set()
        future.result()
    assert logger.level == level
