"""Images of no number, and ones that lie on their side."""

import warnings

import keras
import numpy as np
import pytest

from aw_keras.applications import CIFARResNet
from aw_keras.layers import attention_layer, attention_names
from tests.backends import to_numpy


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", attention_names())
def test_no_images(name, data_format):
    layer = attention_layer(name, data_format=data_format)
    nothing = np.zeros((0, 8, 8, 8), "float32")
    assert to_numpy(layer(nothing)).shape == nothing.shape


@pytest.fixture(params=["channels_last", "channels_first"])
def last(request):
    """Whether channels are last, as Keras is told for the time of a test."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(request.param)
    yield request.param == "channels_last"
    keras.config.set_image_data_format(before)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_at_the_other_end(channels, last):
    right, turned = (32, 32, channels), (channels, 32, 32)
    if not last:
        right, turned = turned, right
    where = "last" if last else "first"
    with pytest.warns(UserWarning, match=f"channels {where}.*of 32 channels"):
        CIFARResNet(8, input_shape=turned)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CIFARResNet(8, input_shape=right)
        CIFARResNet(8, input_shape=(32, 32, 7) if last else (7, 32, 32))
