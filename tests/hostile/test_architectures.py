"""Networks that nobody designed: built, saved, loaded and exported."""

import json

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from keras import layers

import aw_keras
from aw_keras import AWConv2D, AWDepthwiseConv2D, weights
from aw_keras.layers import attention_layer, attention_names
from aw_keras.ops import IMPLEMENTATIONS
from tests.applications.networks import images, predict, randomise
from tests.backends import BACKEND
from tests.exporting.artifacts import Artifact

implementations = st.sampled_from(("auto", *IMPLEMENTATIONS))
sizes = st.sampled_from((1, 2, 3, (1, 3), (3, 2)))
channels = st.sampled_from((2, 4, 6))


def _aw(draw, x):
    groups = draw(st.sampled_from([g for g in (1, 2) if not x.shape[-1] % g]))
    return AWConv2D(
        draw(channels),
        draw(sizes),
        strides=draw(st.sampled_from((1, 1, 2))),
        padding="same",
        groups=groups,
        activation=draw(st.sampled_from((None, "relu", "swish"))),
        use_bias=draw(st.booleans()),
        reduction=draw(st.sampled_from((1, 2, 16))),
        implementation=draw(implementations),
    )(x)


def _depthwise(draw, x):
    return AWDepthwiseConv2D(
        draw(sizes),
        padding="same",
        depth_multiplier=draw(st.sampled_from((1, 2))),
        implementation=draw(implementations),
    )(x)


def _attention(draw, x):
    return attention_layer(draw(st.sampled_from(attention_names())))(x)


def _plain(draw, x):
    layer = draw(
        st.sampled_from(
            (
                layers.BatchNormalization(),
                layers.LayerNormalization(),
                layers.Activation("gelu"),
                layers.AveragePooling2D(2, padding="same"),
                layers.Conv2D(4, 3, padding="same"),
                layers.Dropout(0.5),
            )
        )
    )
    # Of its own, whatever other examples have built.
    return type(layer).from_config(layer.get_config() | {"name": None})(x)


def _branches(draw, x):
    """Two ways from here, joined by a sum or side by side."""
    ways = [draw(st.sampled_from(STEPS[:3]))(draw, x) for _ in range(2)]
    filters = draw(channels)
    height, width = x.shape[1:3]
    ways = [AWConv2D(filters, 1)(_resized(way, height, width)) for way in ways]
    join = draw(st.sampled_from((layers.Add, layers.Concatenate)))
    return join()(ways)


def _resized(x, height, width):
    if x.shape[1:3] == (height, width):
        return x
    x = layers.UpSampling2D(2)(x)
    rows, columns = x.shape[1] - height, x.shape[2] - width
    return layers.Cropping2D(((0, rows), (0, columns)))(x)


STEPS = (_aw, _depthwise, _attention, _plain, _branches)


@st.composite
def architectures(draw):
    """A functional model of two to five steps, with random weights."""
    keras.backend.clear_session()
    x = image = keras.Input((*draw(st.sampled_from(((7, 6), (4, 5)))), 3))
    for _ in range(draw(st.integers(2, 5))):
        x = draw(st.sampled_from(STEPS))(draw, x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomise(keras.Model(image, layers.Dense(3, name="predictions")(x)))


def hypothesis_settings(max_examples):
    return settings(
        max_examples=max_examples,
        deadline=None,
        # Shrinking a failure would compile hundreds of convolutions.
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def assert_close(found, expected):
    """To 1e-4 of the largest output, which attentions may make large."""
    assert np.isfinite(expected).all()
    scale = max(np.abs(expected).max(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)


def as_json(model):
    """Its config, to which a file brings lists for tuples."""
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


@hypothesis_settings(12)
@given(model=architectures())
def test_files(model, tmp_path_factory):
    """A model's file, its weights by name, and a sample by itself."""
    path = tmp_path_factory.mktemp("architectures") / "model.keras"
    x = images(3, *model.input_shape[1:])
    expected = predict(model, x)
    assert_close(predict(model, x[1:2]), expected[1:2])

    model.save(path)
    loaded = keras.saving.load_model(path)
    assert as_json(loaded) == as_json(model)
    assert_close(predict(loaded, x), expected)

    copy = keras.models.clone_model(model)
    receipt = weights.load(copy, path)
    assert set(receipt.loaded) == {v.name for v in model.layers if v.weights}
    assert_close(predict(copy, x), expected)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Exports are TensorFlow's.")
@hypothesis_settings(4)
@given(
    model=architectures(),
    format=st.sampled_from(("saved_model", "onnx", "litert")),
)
def test_exports(model, format, tmp_path_factory):
    """Every number of samples from one artifact, whatever the network."""
    path = tmp_path_factory.mktemp("architectures") / "artifact"
    aw_keras.export(model, path, format)
    artifact = Artifact(format, path)
    x = images(3, *model.input_shape[1:])
    expected = predict(model, x)
    for samples in (1, 3):
        found = artifact(x[:samples])["predictions"]
        assert_close(found, expected[:samples])
