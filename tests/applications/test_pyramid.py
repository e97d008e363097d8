"""The feature pyramid: levels, shapes, shared weights, errors."""

import keras
import numpy as np
import pytest

from aw_keras.applications import (
    CIFARResNet,
    DenseNetBC,
    ImageNetResNet,
    feature_pyramid,
)
from tests.applications.networks import images, predict, randomise


def shapes(pyramid):
    return {level: tuple(x.shape[1:]) for level, x in pyramid.output.items()}


@pytest.mark.parametrize("include_top", [True, False])
def test_levels_have_strides_4_to_32(include_top):
    model = ImageNetResNet(
        (1, 2, 1, 1), input_shape=(64, 96, 3), include_top=include_top
    )
    assert shapes(feature_pyramid(model)) == {
        "2": (16, 24, 256),
        "3": (8, 12, 512),
        "4": (4, 6, 1024),
        "5": (2, 3, 2048),
    }


def test_small_networks_have_three_levels():
    levels = (2, 3, 4)
    assert shapes(feature_pyramid(CIFARResNet(8), levels)) == {
        "2": (32, 32, 16),
        "3": (16, 16, 32),
        "4": (8, 8, 64),
    }
    assert shapes(feature_pyramid(DenseNetBC(10, 4), levels)) == {
        "2": (32, 32, 12),
        "3": (16, 16, 10),
        "4": (8, 8, 9),
    }


def test_attention_after_the_last_block_is_part_of_the_stage():
    model = CIFARResNet(8, attention_after={"conv3_block1": "spatial_softmax"})
    pyramid = feature_pyramid(model, [3])
    module = model.get_layer("conv3_block1_spatial_softmax")
    assert pyramid.output["3"] is module.output


def test_values_and_weights_are_those_of_the_model(tmp_path):
    model = randomise(
        CIFARResNet(8, conv="aw", input_shape=(8, 8, 3), include_top=False)
    )
    pyramid = feature_pyramid(model, (4, 2))
    x = images(2, 8, 8, 3)
    outputs = pyramid(x)
    assert set(outputs) == {"4", "2"}
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(outputs["4"]), predict(model, x)
    )
    assert {id(w) for w in pyramid.weights} == {id(w) for w in model.weights}
    pyramid.save(tmp_path / "pyramid.keras")
    restored = keras.saving.load_model(tmp_path / "pyramid.keras")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(restored(x)["2"]),
        keras.ops.convert_to_numpy(outputs["2"]),
        rtol=1e-5,
    )


@pytest.mark.parametrize("levels", [(2, 3, 4, 5), (1,), ()])
def test_levels_that_are_not_there(levels):
    with pytest.raises(ValueError, match=r"\[2, 3, 4\]. Received: levels="):
        feature_pyramid(CIFARResNet(8), levels)


def test_models_without_stages():
    sequential = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"Expected `levels` .*\[\]"):
        feature_pyramid(sequential)
    for model in ("ResNet20", keras.Model()):
        with pytest.raises(ValueError, match="Expected `model`"):
            feature_pyramid(model)
