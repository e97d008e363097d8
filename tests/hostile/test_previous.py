"""Files of earlier versions load and give the outputs that they gave."""

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy as convert

from aw_keras import weights
from tests.applications.networks import predict
from tests.hostile import previous

PATHS = sorted(previous.FOLDER.glob("*.keras"))

every_file = pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)


def check_outputs(model, path):
    with np.load(path.with_suffix(".npz")) as recorded:
        expected = recorded["outputs"]
        found = predict(model, recorded["x"])
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


@every_file
def test_the_model(path):
    check_outputs(keras.saving.load_model(path), path)


@every_file
def test_its_weights_by_name(path):
    whole = keras.saving.load_model(path)
    network = getattr(whole, "network", whole)
    model = keras.models.clone_model(network)
    receipt = weights.load(model, path)
    assert set(receipt.loaded) == {
        layer.name for layer in model.layers if layer.weights
    }
    for one, other in zip(model.weights, network.weights, strict=True):
        np.testing.assert_array_equal(*map(convert, (one, other)))


def test_todays_code_takes_the_last_weights():
    """Names of layers and of their weights are what they were."""
    model = previous.build()
    weights.load(model, PATHS[-1])
    check_outputs(model, PATHS[-1])


def test_the_last_file_has_everything_that_is_registered():
    registered = {
        value
        for value in keras.saving.get_custom_objects().values()
        if value.__module__.startswith("aw_keras.")
    }
    assert len(registered) >= 12
    classifier, model = map(keras.saving.load_model, PATHS[-2:])
    saved = {type(operation) for operation in model.operations}
    assert registered == saved & registered | {type(classifier)}
