"""Tiles smaller than these tests' arrays, so that there are several."""

import pytest

from aw_keras.ops import implementations
from aw_keras.ops.backends import active
from aw_keras.ops.convolution import convolution_geometry
from tests.backends import BACKEND
from tests.ops import test_aw_conv, test_per_sample_conv
from tests.ops.cases import Case

CASES = [
    Case((5, 4), 6, 4, (3, 3), batch=4),
    Case((6, 5), 8, 3, (3, 2), 2, batch=6, data_format="channels_first"),
    Case((5, 5), 12, 4, (1, 1), (2, 1), "valid", batch=4),
    Case((6, 6), 4, 6, (3, 3), dilation_rate=2, groups=2, batch=4),
]


@pytest.fixture(params=[1, 80])
def tile_elements(request, monkeypatch):
    monkeypatch.setattr(implementations, "_TILE_ELEMENTS", request.param)
    # TensorFlow keeps graphs, and they the tiles they were traced with.
    forget = active._traced.cache_clear if BACKEND == "tensorflow" else int
    forget()
    yield request.param
    forget()


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
    tile = implementations._tile(geometry, None, x, own, ())
    assert tile == {1: (1, 1), 80: (1, 2)}[tile_elements]
