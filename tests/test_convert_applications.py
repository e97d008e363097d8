"""`to_aw` on whole networks of `keras.applications`, with random weights."""

import keras
import numpy as np
import pytest

from aw_keras import AWConv2D, to_aw
from tests.backends import BACKEND, to_numpy
from tests.convert_cases import assert_same, draw, randomise

# Building them takes seconds, and what differs between backends is tested on
# small networks.
pytestmark = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="networks are tested once"
)

#: How many convolutions have a kernel larger than 1x1.
SPATIAL = {
    "ResNet50": 17,
    "MobileNetV2": 18,
    "EfficientNetB0": 17,
    "DenseNet121": 59,
}


def keep_signals(model):
    """Random weights of a scale with which no signal vanishes or explodes."""
    generator = np.random.default_rng(9)
    randomise(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
        elif isinstance(layer, keras.layers.BatchNormalization):
            gamma = generator.uniform(0.5, 1.5, layer.gamma.shape)
            layer.gamma.assign(gamma)
        elif hasattr(layer, "kernel"):
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            shape = layer.kernel.shape
            fan_in = np.prod(shape[:2] if depthwise else shape[:3])
            scale = np.sqrt(2 / fan_in)
            layer.kernel.assign(scale * generator.normal(size=shape))


@pytest.mark.parametrize("network", SPATIAL)
def test_networks_keep_their_outputs(network):
    model = getattr(keras.applications, network)(
        include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg"
    )
    keep_signals(model)
    converted = to_aw(model)
    replaced = [v for v in converted.layers if isinstance(v, AWConv2D)]
    assert len(replaced) == SPATIAL[network]
    assert [v.name for v in converted.layers] == [v.name for v in model.layers]
    # In the range of pixels: EfficientNet divides by 255.
    x = 100 * draw(2, 64, 64, 3)
    expected = to_numpy(model(x, training=False))
    assert np.ptp(expected, axis=0).max() > 1e-2 * np.abs(expected).max()
    assert_same(to_numpy(converted(x, training=False)), expected)
