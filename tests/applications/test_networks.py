"""What every network has in common, in small and in the full size."""

import csv
import hashlib
import inspect
import math
import pathlib

import keras
import numpy as np
import pytest

from aw_keras import applications
from aw_keras.applications import CIFARResNet, complexity
from tests.applications.networks import (
    CHANNELS_FIRST_RUNS,
    RUN,
    VARIANTS,
    calibrate,
    images,
    predict,
    randomise,
    soften,
)

GOLDEN = pathlib.Path(__file__).parent / "networks.csv"
SIZE = (12, 16)

networks = pytest.mark.parametrize("build", RUN.values(), ids=RUN)


def facts(name):
    """A network's line in `networks.csv`.

    The digest is that of the names of its layers and of the names and shapes
    of their weights, all of which are part of the file format.
    """
    model = applications.create_model(name)
    layers = [layer for layer in model.layers if layer.weights]
    structure = [
        (layer.name, [(w.name, *w.shape) for w in layer.weights])
        for layer in layers
    ]
    return {
        "name": name,
        "layers": str(len(layers)),
        "parameters": str(complexity.parameters(model)),
        "multiply_adds": str(complexity.multiply_adds(model)),
        "digest": hashlib.sha256(repr(structure).encode()).hexdigest()[:16],
    }


def golden():
    with open(GOLDEN, newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def write_golden():
    """`python -m tests.applications.test_networks`, for new networks."""
    rows = [facts(name) for name in applications.list_models()]
    with open(GOLDEN, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def zeros_for_weights(monkeypatch):
    """Random numbers take most of the time in which networks are built."""
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype),
    )


if keras.backend.backend() == "tensorflow":  # Names and shapes are the same.

    @pytest.mark.parametrize("name", applications.list_models())
    def test_layers_and_costs_are_the_golden_ones(name, zeros_for_weights):
        assert facts(name) == golden()[name]


def test_published_numbers_of_parameters():
    """Equal to the digits that the papers give."""
    published = {
        name: entry.published_parameters
        for name in applications.list_models()
        if (entry := applications.get_entry(name)).published_parameters
    }
    assert len(published) >= 9
    rows = golden()
    for name, text in published.items():
        decimals = len(text.removesuffix(" M").partition(".")[2])
        millions = int(rows[name]["parameters"]) / 1e6
        assert f"{millions:.{decimals}f} M" == text, name


def test_variants_add_up():
    rows = golden()

    def parameters(prefix, name):
        return int(rows[prefix + name]["parameters"])

    for name in applications.list_models("ResNet*"):
        plain = parameters("", name)
        for attention in ("SE", "CBAM"):
            added = parameters("AW", name) + parameters(attention, name) - plain
            assert parameters(f"AW{attention}", name) == added


@pytest.mark.parametrize("name", applications.list_models())
def test_functions_have_signature_and_docstring(name):
    factory = getattr(applications, name)
    general = {
        "imagenet_resnet": applications.ImageNetResNet,
        "densenet": applications.DenseNetBC,
    }.get(applications.get_entry(name).family, CIFARResNet)
    fixed = {"depth", "growth_rate", "blocks", "bottleneck"}
    signature = inspect.signature(factory)
    assert factory.__name__ == name
    assert getattr(inspect.getmodule(factory), name) is factory
    assert list(signature.parameters) == [
        key for key in inspect.signature(general).parameters if key not in fixed
    ]
    assert list(signature.parameters)[:8] == list(
        inspect.signature(keras.applications.ResNet50).parameters
    )
    assert signature.parameters["name"].default == name.lower()
    for parameter in signature.parameters:
        assert f"    {parameter}: " in factory.__doc__
    for argument in fixed:
        assert f"    {argument}: " not in factory.__doc__
    with pytest.raises(TypeError):
        factory(depth=3)


def test_defaults_of_variants():
    for name in applications.list_models("*ResNet*"):
        prefix = name.partition("ResNet")[0]
        parameters = inspect.signature(getattr(applications, name)).parameters
        expected = {"conv": "plain", "attention": None} | VARIANTS[prefix]
        found = {key: parameters[key].default for key in expected}
        assert found == expected


@networks
def test_names_are_unique_and_those_of_every_other_instance(build):
    names = [layer.name for layer in build(name="first").layers[1:]]
    assert len(set(names)) == len(names)
    other = build(input_shape=(20, 20, 1), classes=4).layers
    assert [layer.name for layer in other[1:]] == names


@networks
def test_files_and_the_network_without_top(build, tmp_path):
    """Unknown sizes, a `.keras` file, a weights file and what it fits."""
    shape = (None, None, 2)
    model = calibrate(randomise(build(input_shape=shape, classes=5)))
    x = images(2, *SIZE, 2)
    expected = predict(model, x)
    assert expected.shape == (2, 5)
    np.testing.assert_allclose(expected.sum(-1), 1, rtol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-4  # Samples make a difference.

    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict(restored, x), expected, rtol=1e-5)

    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    headless = build(
        input_shape=shape, include_top=False, pooling="avg", weights=path
    )
    assert headless.weights_receipt.left == ("predictions",)
    for weight, value in zip(
        headless.weights, model.get_weights()[:-2], strict=True
    ):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)
    kernel, bias = model.get_layer("predictions").get_weights()
    logits = predict(headless, x) @ kernel + bias
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(
        exponentials / exponentials.sum(-1, keepdims=True), expected, rtol=1e-4
    )


@pytest.mark.skipif(
    not CHANNELS_FIRST_RUNS,
    reason="TensorFlow has no channels-first convolution on the CPU",
)
@networks
def test_data_formats_agree(build):
    last = calibrate(randomise(build(input_shape=(*SIZE, 3), classes=5)))
    first = build(
        input_shape=(3, *SIZE), classes=5, data_format="channels_first"
    )
    first.set_weights(last.get_weights())
    x = images(2, *SIZE, 3)
    np.testing.assert_allclose(
        predict(first, x.transpose(0, 3, 1, 2)), predict(last, x), atol=1e-5
    )


@networks
def test_channels_first_builds(build):
    model = build(data_format="channels_first", include_top=False)
    assert model.input_shape[1] == 3
    assert model.output_shape[1] > model.input_shape[1]


@networks
def test_mixed_precision(build):
    kwargs = {"input_shape": (*SIZE, 3), "classes": 5}
    model = build(dtype="mixed_bfloat16", **kwargs)
    exact = build(dtype="float32", **kwargs)
    calibrate(randomise(exact))
    model.set_weights(exact.get_weights())
    dtypes = {layer.compute_dtype for layer in model.layers[1:-1]}
    assert dtypes == {"bfloat16"}
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert model.output.dtype == "float32"
    x = images(2, *SIZE, 3)
    np.testing.assert_allclose(predict(model, x), predict(exact, x), atol=0.1)


@networks
def test_a_training_step_lowers_the_loss(build):
    x, y = images(8, *SIZE, 1), np.arange(8) % 4
    model = soften(build(classes=4, input_shape=(*SIZE, 1)))
    optimizer = keras.optimizers.SGD(1e-2, momentum=0.9)
    model.compile(
        optimizer,
        "sparse_categorical_crossentropy",
        # Compiling takes longer than these steps.
        run_eagerly=keras.backend.backend() != "jax",
    )
    losses = [float(model.train_on_batch(x, y)) for _ in range(2)]
    assert losses[1] < losses[0]
    without_gradient = [
        weight.path
        for weight, momentum in zip(
            model.trainable_variables, optimizer.momentums, strict=True
        )
        if not np.any(keras.ops.convert_to_numpy(momentum))
    ]
    assert not without_gradient
    begun = {"moving_mean": 0, "moving_variance": 1}
    for weight in model.non_trainable_variables:
        value = keras.ops.convert_to_numpy(weight)
        assert np.any(value != begun[weight.name]), weight.path


def test_counts_by_hand():
    """`facts` counts what is there: a network small enough for that."""
    model = CIFARResNet(8, input_shape=(8, 8, 3), conv=("aw", "plain", "plain"))
    blocks = [9 * 16 * 16 * 64] * 2  # Two 3x3 convolutions on 8x8 pixels.
    blocks += [9 * 16 * 32 * 16, 9 * 32 * 32 * 16]
    blocks += [9 * 32 * 64 * 4, 9 * 64 * 64 * 4]
    units = 4
    branch = 9 * (16 * units + 16 * 16) + 9 * 16 * 16
    stem, top = 9 * 3 * 16 * 64, 64 * 10
    expected = stem + sum(blocks) + 2 * branch + top
    assert complexity.multiply_adds(model) == expected
    assert complexity.parameters(model) == sum(
        math.prod(w.shape) for w in model.trainable_variables
    )


if __name__ == "__main__":
    write_golden()
