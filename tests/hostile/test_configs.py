"""Configs with keys too many, too few, or damaged, and other settings."""

import dataclasses
import json

import keras
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aw_keras import AWConv2D, AWDepthwiseConv2D, Classifier
from aw_keras.cli import networks as cli
from aw_keras.layers import IdentityShortcut
from aw_keras.preprocessing import Preprocess, Preprocessing
from tests.hostile import previous
from tests.hostile.archives import members, network, rewrite

PREPROCESSING = dataclasses.asdict(Preprocessing(size=8))
CLASSES = {
    name: value
    for name, value in sorted(keras.saving.get_custom_objects().items())
    if value.__module__.startswith("aw_keras.")
}
REQUIRED = {
    AWConv2D: {"filters": 4, "kernel_size": 3},
    AWDepthwiseConv2D: {"kernel_size": 3},
    IdentityShortcut: {"filters": 4},
    Preprocess: {"preprocessing": PREPROCESSING},
    Classifier: {
        "network": keras.saving.serialize_keras_object(previous.small()),
        "preprocessing": PREPROCESSING,
    },
}

every_class = pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)


def deserialize(cls, config):
    return keras.saving.deserialize_keras_object(
        {
            "module": cls.__module__,
            "class_name": cls.__name__,
            "config": config,
            "registered_name": f"aw_keras>{cls.__name__}",
        }
    )


@every_class
def test_an_unknown_key_is_named(cls):
    """As from a file of a later version, whose option cannot be ignored."""
    config = REQUIRED.get(cls, {}) | {"from_the_future": 1}
    with pytest.raises(TypeError, match=f"{cls.__name__}.*from_the_future"):
        deserialize(cls, config)


@every_class
def test_a_missing_key_is_named_or_has_its_default(cls):
    required = REQUIRED.get(cls, {})
    for key in required:
        rest = {k: v for k, v in required.items() if k != key}
        with pytest.raises(TypeError, match=f"{cls.__name__}.*missing.*{key}"):
            deserialize(cls, rest)
    whole = cls(**required, name="layer").get_config()
    assert deserialize(cls, required | {"name": "layer"}).get_config() == whole


def test_a_file_says_its_data_format(tmp_path):
    """Keras' setting when it is loaded changes nothing."""
    path = tmp_path / "model.keras"
    model = previous.build()
    model.save(path)
    keras.config.set_image_data_format("channels_first")
    try:
        loaded = keras.saving.load_model(path)
    finally:
        keras.config.set_image_data_format("channels_last")
    found = [
        operation.data_format
        for operation in loaded.operations
        if hasattr(operation, "data_format")
    ]
    assert set(found) == {"channels_last"}
    assert loaded.output_shape == model.output_shape


def places(value, path=()):
    """Paths of keys and indices to everything in a JSON value."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Path of a model's file, and what is in it."""
    path = tmp_path_factory.mktemp("configs") / "model.keras"
    network().save(path)
    return path, members(path)


JUNK = (None, -1, 0, 1e400, 2**70, "", "\0", "aw", [], [[]], {}, {"a": None})


@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(draw=st.data())
def test_a_damaged_config_is_a_model_or_one_error(draw, whole):
    """Whatever is removed or replaced by junk, and wherever."""
    path, contents = whole
    config = json.loads(contents["config.json"])
    *parents, key = draw.draw(st.sampled_from(list(places(config))))
    owner = config
    for parent in parents:
        owner = owner[parent]
    junk = draw.draw(st.sampled_from(("remove", *JUNK)))
    if junk == "remove":
        del owner[key]
    else:
        owner[key] = junk
    rewrite(path, contents | {"config.json": json.dumps(config)})
    try:
        model = cli.load(str(path))
    except ValueError as error:
        assert str(error).startswith("Expected a .keras file written by")
    else:
        assert isinstance(model, keras.Model)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", "[" * 10**5])
def test_a_config_that_is_none(text, whole):
    path, contents = whole
    rewrite(path, contents | {"config.json": text})
    with pytest.raises(ValueError, match="Expected a .keras file written by"):
        cli.load(str(path))
