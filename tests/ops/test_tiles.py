"""Tiles and chunks smaller than the arrays, so that there are several."""

import keras
import numpy as np
import pytest

from aw_keras import ops
from aw_keras.ops import implementations, tiles
from aw_keras.ops.backends import active
from aw_keras.ops.backends.chunks import largest_divisor
from aw_keras.ops.convolution import convolution_geometry
from tests.backends import BACKEND
from tests.ops import test_aw_conv, test_per_sample_conv
from tests.ops.cases import Case

CASES = [
    Case((5, 4), 6, 4, (3, 3), batch=4),
    Case((6, 5), 8, 3, (3, 2), 2, batch=6, data_format="channels_first"),
    Case((5, 5), 12, 4, (1, 1), (2, 1), "valid", batch=4),
    Case((6, 6), 4, 6, (3, 3), dilation_rate=2, groups=2, batch=5),
]


@pytest.fixture
def fresh_graphs():
    """TensorFlow keeps graphs, and they the sizes they were traced with."""
    forget = active._traced.cache_clear if BACKEND == "tensorflow" else int
    forget()
    yield
    forget()


@pytest.fixture(params=[1, 80])
def tile_elements(request, monkeypatch, fresh_graphs):
    monkeypatch.setattr(tiles, "CACHE_ELEMENTS", request.param)
    return request.param


@pytest.fixture
def chunks_of_two(monkeypatch, fresh_graphs):
    monkeypatch.setattr(tiles, "CACHE_ELEMENTS", 1)
    monkeypatch.setattr(implementations, "_CHUNK_SAMPLES", 2)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tiles_of_an_aw_convolution(case, tile_elements):
    test_aw_conv.check(case, "tiles")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tiles_of_given_kernels(case, tile_elements):
    test_per_sample_conv.check(case, "tiles")


def test_there_are_several_tiles(tile_elements):
    case = CASES[0]
    x, own = case.per_sample_arrays()
    geometry = convolution_geometry(case.kernel, 1, "same", 1, 1)
    own = own.reshape(len(own), 9, *own.shape[3:])
    tile = tiles._tile(geometry, None, x, own, ())
    assert tile == {1: (1, 1), 80: (1, 2)}[tile_elements]


@pytest.mark.parametrize("case", [CASES[0], CASES[3]], ids=str)
def test_chunks_of_an_aw_convolution(case, chunks_of_two):
    test_aw_conv.check(case, "grouped")


@pytest.mark.parametrize("case", [CASES[1], CASES[3]], ids=str)
def test_chunks_of_given_kernels(case, chunks_of_two):
    test_per_sample_conv.check(case, "grouped")


@pytest.mark.parametrize("implementation", ["grouped", "tiles"])
def test_chunks_of_an_unknown_batch(implementation, chunks_of_two):
    """One model for every batch: full chunks, a rest, and nothing at all."""
    inputs = keras.Input((6, 5, 4))
    layer = keras.layers.Lambda(
        lambda x: ops.per_sample_conv2d(
            x,
            keras.ops.ones((keras.ops.shape(x)[0], 3, 3, 4, 2)),
            implementation=implementation,
        ),
        output_shape=(4, 3, 2),
    )
    model = keras.Model(inputs, layer(inputs))
    predict = model
    if BACKEND == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec((None, 6, 5, 4), "float32")]
        predict = tf.function(model, input_signature=signature)
    x = np.random.default_rng(0).normal(size=(5, 6, 5, 4)).astype("float32")
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    expected = windows.sum((-1, -2, -3))[..., None].repeat(2, -1)
    for batch in (5, 4, 1, 0):
        y = keras.ops.convert_to_numpy(
            predict(keras.ops.convert_to_tensor(x[:batch]))
        )
        np.testing.assert_allclose(y, expected[:batch], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "number, limit, divisor",
    [(12, 5, 4), (12, 12, 12), (12, 50, 12), (7, 6, 1), (8, 0, 1), (0, 3, 1)],
)
def test_largest_divisor(number, limit, divisor):
    assert largest_divisor(number, limit) == divisor
