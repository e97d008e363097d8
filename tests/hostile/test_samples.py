"""Samples and values that break arithmetic: NaN, infinite, huge and tiny."""

import numpy as np
import pytest

from aw_keras.layers import (
    AWConv2D,
    AWDepthwiseConv2D,
    GatherExcite,
    NonLocal,
    attention_layer,
    attention_names,
)
from aw_keras.ops import IMPLEMENTATIONS, use_implementation
from tests.applications.networks import SMALL, images, randomise
from tests.backends import epsilon, to_numpy

TINIEST = 2.0**-24  # of float16, above 0

#: Functions that make a layer from the arguments of `keras.layers.Layer`.
ATTENTIONS = {
    **{
        name: lambda name=name, **kwargs: attention_layer(name, **kwargs)
        for name in attention_names()
    },
    "gather_excite_4": lambda **kwargs: GatherExcite(4, **kwargs),
    "non_local_dot": lambda **kwargs: NonLocal(
        mode="dot_product", subsample=True, **kwargs
    ),
    "gather_excite_learned": lambda **kwargs: GatherExcite(
        4, parametrised=True, **kwargs
    ),
}
CONVOLUTIONS = {
    "aw": lambda **kwargs: AWConv2D(8, 3, padding="same", **kwargs),
    "aw_groups": lambda **kwargs: AWConv2D(8, 2, groups=4, **kwargs),
    "aw_1x1": lambda **kwargs: AWConv2D(8, 1, **kwargs),
    "aw_depthwise": lambda **kwargs: AWDepthwiseConv2D(3, **kwargs),
}


def every(layers):
    return pytest.mark.parametrize("make", layers.values(), ids=layers)


def built(make, dtype="float32"):
    """The layer with random weights, the same for every dtype."""
    layer = make(dtype=dtype)
    layer.build((None, 6, 5, 8))
    return randomise(layer)


def check_poison_stays(function, x):
    """What sample 1 holds changes sample 1 alone, whatever it is."""
    expected = function(x)
    assert np.isfinite(expected).all()
    for poison in (np.nan, np.inf, -np.inf, 3e38):
        for place in [(1,), (1, 2, 3, 0)]:  # The whole sample, one number.
            poisoned = x.copy()
            poisoned[place] = poison
            found = function(poisoned)
            assert not np.array_equal(found[1], expected[1])
            others = np.arange(len(x)) != 1
            np.testing.assert_allclose(
                found[others], expected[others], rtol=1e-5, atol=1e-6
            )


@every(ATTENTIONS)
def test_poison_stays_in_its_sample_of_an_attention(make):
    layer = built(make)
    check_poison_stays(
        lambda x: to_numpy(layer(x, training=False)), images(3, 6, 5, 8)
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_poison_stays_in_its_sample_of_a_network(implementation):
    """Compiled, and with the batch known and folded where that is faster."""
    model = randomise(
        SMALL["AWCBAMResNet"](
            input_shape=(6, 5, 3), classes=4, classifier_activation=None
        )
    )
    with use_implementation(implementation):
        check_poison_stays(model.predict_on_batch, images(3, 6, 5, 3))


def check_float16(make, scale, factor):
    """The outputs of float32, rounded: infinite beyond 65504 only."""
    x = np.random.default_rng(3).uniform(-scale, scale, (2, 6, 5, 8))
    x = x.astype("float16")
    expected = to_numpy(built(make)(x.astype("float32"), training=False))
    found = to_numpy(built(make, "mixed_float16")(x, training=False))
    largest = float(np.finfo("float16").max)
    fits = np.abs(expected) < largest
    scale = np.abs(expected[fits]).max(initial=0)
    assert np.isfinite(found[fits]).all()
    np.testing.assert_allclose(
        np.clip(found, -largest, largest),
        np.clip(expected, -largest, largest),
        rtol=0,
        atol=factor * epsilon("float16") * scale + TINIEST,
    )


@pytest.mark.parametrize("scale", [6e4, 6e-5, 4 * TINIEST])
@every(ATTENTIONS)
def test_huge_and_tiny_values_of_an_attention_under_float16(make, scale):
    check_float16(make, scale, factor=2)


@pytest.mark.parametrize("scale", [6e3, 6e-5, 4 * TINIEST])
@every(CONVOLUTIONS)
def test_huge_and_tiny_values_of_a_convolution_under_float16(make, scale):
    """Not as huge: sums over a kernel may be float16, and have to fit."""
    check_float16(make, scale, factor=4)
