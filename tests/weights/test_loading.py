"""Files of weights: what fits, what is adapted, what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

from aw_keras.layers import AWConv2D
from aw_keras.weights import Receipt, load


def network(
    channels=3,
    classes=5,
    top=True,
    filters=4,
    conv=layers.Conv2D,
    name="network",
    size=6,
):
    """A stem, a normalisation and a classifier."""
    image = keras.Input((size, size, channels))
    x = layers.Conv2D(filters, 3, name="stem")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = conv(filters, 3, name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if top:
        x = layers.Dense(classes, name="predictions")(x)
    return randomised(keras.Model(image, x, name=name))


def randomised(model):
    for weight in model.weights:
        weight.assign(keras.random.uniform(weight.shape, 0.5, 1.5))
    return model


def values(model):
    return {
        (layer.name, weight.name): keras.ops.convert_to_numpy(weight)
        for layer in model.layers
        for weight in layer.weights
    }


def assert_equal(model, expected, layers=None):
    for key, value in values(model).items():
        if layers is None or key[0] in layers:
            np.testing.assert_array_equal(value, expected[key], str(key))


@pytest.fixture(params=[".weights.h5", ".keras"])
def written(request, tmp_path):
    """A function that writes a model to a file and returns the path."""
    path = tmp_path / f"file{request.param}"

    def write(model):
        if request.param == ".keras":
            model.save(path)
        else:
            model.save_weights(path)
        return path

    return write


@pytest.mark.parametrize("conv", [layers.Conv2D, AWConv2D])
def test_a_file_that_fits(written, conv):
    source = network(conv=conv, name="other")
    path = written(source)
    model = network(conv=conv)
    receipt = load(model, path)
    assert receipt == Receipt(
        str(path), ("stem", "norm", "second", "predictions"), (), ()
    )
    assert_equal(model, values(source))


def test_the_receipt_is_readable():
    receipt = Receipt("a.keras", ("x", "y"), ("predictions",), ())
    assert str(receipt) == (
        "a.keras: 2 layers loaded, adapted: predictions, left in the file: none"
    )


def test_order_of_layers_does_not_matter(written):
    """Keras numbers layers of a class; names tell which is which."""

    def branches(names):
        image = keras.Input((4,))
        outputs = {name: layers.Dense(3, name=name)(image) for name in names}
        added = layers.Add()([outputs["first"], outputs["second"]])
        return randomised(keras.Model(image, [added, *outputs.values()]))

    source = branches(["first", "second"])
    model = branches(["second", "first"])
    load(model, written(source))
    assert_equal(model, values(source))


def test_layers_in_front_and_nested_models_are_found(written):
    source = network()
    image = keras.Input((6, 6, 3))
    nested = keras.Sequential([layers.Rescaling(2.0), source])
    path = written(keras.Model(image, nested(image)))
    model = network()
    load(model, path)
    assert_equal(model, values(source))
    other = network()
    outer = keras.Sequential([keras.Input((6, 6, 3)), other])
    receipt = load(outer, path)
    assert set(receipt.loaded) == {"stem", "norm", "second", "predictions"}
    assert_equal(other, values(source))


def test_the_classifier_may_stay_in_the_file(written):
    source = network()
    model = network(top=False)
    receipt = load(model, written(source))
    assert receipt.left == ("predictions",)
    assert_equal(model, values(source))


MISFITS = {
    "classes": ({"classes": 4}, "predictions"),
    "channels": ({"channels": 1}, "stem"),
    "filters": ({"filters": 3}, "norm"),
    "convolution": ({"conv": AWConv2D}, "second"),
}


@pytest.mark.parametrize("arguments, layer", MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_changes_nothing(written, arguments, layer):
    path = written(network())
    model = network(**arguments)
    before = values(model)
    with pytest.raises(ValueError, match="Expected a file that fits") as error:
        load(model, path)
    assert type(error.value) is ValueError  # Its name is what to catch.
    adaptable = "adapt=True" in str(error.value)
    assert adaptable == (layer in ("predictions", "stem"))
    assert str(path) in str(error.value)
    assert layer in str(error.value)
    assert "pool" not in str(error.value)
    assert_equal(model, before)


@pytest.mark.parametrize("there, here", [(True, False), (False, True)])
def test_other_layers_are_refused(written, there, here):
    def with_extra(extra):
        model = network(top=False)
        x = model.output
        if extra:
            x = layers.Dense(2, name="extra")(x)
        return keras.Model(model.input, x)

    path = written(with_extra(there))
    model = with_extra(here)
    before = values(model)
    with pytest.raises(ValueError, match="extra: .*not in the"):
        load(model, path, adapt=True)
    assert_equal(model, before)


def test_a_missing_classifier_is_refused(written):
    path = written(network(top=False))
    with pytest.raises(ValueError, match="predictions: not in the file"):
        load(network(), path)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_keep_the_activations_of_grey_images(written, channels):
    source = network()
    model = network(channels=channels)
    receipt = load(model, written(source), adapt=True)
    assert receipt.adapted == ("stem",)
    assert receipt.loaded == ("norm", "second", "predictions")
    grey = np.random.default_rng(0).random((2, 6, 6, 1), "float32")
    outputs = [
        keras.ops.convert_to_numpy(m(np.repeat(grey, m.input_shape[-1], -1)))
        for m in (source, model)
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-4)


@pytest.mark.parametrize("arguments", [{"classes": 7}, {"top": False}])
def test_an_adapted_classifier_keeps_its_own_weights(written, arguments):
    path = written(network(**arguments))
    model = network()
    before = values(model)
    receipt = load(model, path, adapt=True)
    assert receipt.adapted == ("predictions",)
    assert_equal(model, before, layers=["predictions"])
    assert (before["stem", "kernel"] != values(model)["stem", "kernel"]).any()


@pytest.mark.parametrize(
    "arguments", [{"filters": 3}, {"conv": AWConv2D}], ids=str
)
def test_adapting_is_for_the_two_ends_only(written, arguments):
    path = written(network())
    with pytest.raises(ValueError, match="second"):
        load(network(**arguments), path, adapt=True)


def test_half_precision_goes_into_float32(written):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("bfloat16")
    try:
        source = network()
    finally:
        keras.config.set_dtype_policy(policy)
    model = network()
    load(model, written(source))
    assert model.get_layer("stem").kernel.dtype == "float32"
    assert_equal(
        model,
        {key: np.asarray(v, "float32") for key, v in values(source).items()},
    )


def test_equal_names_in_nested_models_are_refused(written):
    """One of both layers would stay as it was."""

    def twins():
        image = keras.Input((4,))
        halves = [
            keras.Sequential([keras.Input((4,)), layers.Dense(2, name="same")])
            for _ in range(2)
        ]
        return keras.Model(image, [half(image) for half in halves])

    path = written(twins())
    with pytest.raises(ValueError, match="different names.*'same', 'same'"):
        load(twins(), path)


def hostile(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5", ".txt", ""])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n?"])
def test_files_that_are_none(tmp_path, suffix, content):
    path = hostile(tmp_path / f"file{suffix}", content)
    model = network()
    before = values(model)
    with pytest.raises(ValueError, match="Expected `path`") as error:
        load(model, path)
    assert str(path) in str(error.value)
    assert_equal(model, before)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="none.weights.h5: no such file"):
        load(network(), tmp_path / "none.weights.h5")


def test_truncated_files(written, tmp_path):
    path = written(network())
    content = path.read_bytes()
    model = network()
    before = values(model)
    for size in range(0, len(content), len(content) // 8):
        hostile(path, content[:size])
        with pytest.raises(ValueError, match="Received: path="):
            load(model, path)
    assert_equal(model, before)


def test_links_to_other_files_are_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    secret, path = tmp_path / "secret.weights.h5", tmp_path / "file.weights.h5"
    source = network()
    for file in (secret, path):
        source.save_weights(file)
    with h5py.File(path, "r+") as file:
        (group,) = (
            layer["vars"]
            for layer in file["layers"].values()
            if layer["vars"].attrs["name"] == "stem"
        )
        location = group["0"].name
        del group["0"]
        group["0"] = h5py.ExternalLink(str(secret), location)
    model = network()
    before = values(model)
    with pytest.raises(ValueError, match="stem"):
        load(model, path)
    assert_equal(model, before)


def test_models_without_named_layers_are_refused(tmp_path):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model(np.ones((1, 3)))
    path = tmp_path / "file.weights.h5"
    model.save_weights(path)
    with pytest.raises(ValueError, match="functional or Sequential"):
        load(network(), path)
