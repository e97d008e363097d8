"""`fold_attention`: convolutions with the mean attention, and a report."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from aw_keras import AWConv2D, AWDepthwiseConv2D, fold_attention, to_aw
from tests.backends import to_numpy
from tests.convert_cases import (
    CASES,
    assert_same,
    draw,
    outputs,
    randomise,
    small_cnn,
)


def aw_network():
    """One AW-convolution of each kind, in a nested model."""
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            AWDepthwiseConv2D(2, depth_multiplier=2, name="depthwise"),
        ],
        name="inner",
    )
    inputs = keras.Input((8, 8, 3))
    x = AWConv2D(4, 3, activation="tanh", name="full")(inputs)
    return keras.Model(inputs, inner(x), name="aw")


def one_layer(**arguments):
    return keras.Sequential(
        [keras.Input((8, 8, 3)), AWConv2D(4, 3, **arguments)]
    )


def samples(count=7):
    """Images of differing scale: the attention differs too."""
    return draw(count, 8, 8, 3) * np.linspace(
        1, 3, count, dtype="float32"
    ).reshape(-1, 1, 1, 1)


def mean_attention(model, x):
    """By the layers' own public method, on their own inputs."""
    full, inner = model.get_layer("full"), model.get_layer("inner")
    depthwise = inner.layers[0]
    return {
        "full": to_numpy(full.kernel_attention(x)),
        "depthwise": to_numpy(depthwise.kernel_attention(full(x))),
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_there_and_back(case):
    """The original kernels, arguments and outputs, to rounding."""
    model, x = case()
    plain, report = fold_attention(to_aw(model), x)
    assert plain.name == model.name
    for actual, expected in zip(
        plain._flatten_layers(), model._flatten_layers()
    ):
        assert type(actual) is type(expected)
        assert actual.name == expected.name
        if not isinstance(actual, keras.Model):
            assert actual.get_config() == expected.get_config()
    for actual, expected in zip(plain.weights, model.weights):
        assert actual.name == expected.name
        np.testing.assert_allclose(
            to_numpy(actual), to_numpy(expected), rtol=3e-7
        )
    assert_same(outputs(plain, x), outputs(model, x))
    assert report.relative_difference < 1e-5
    assert {(v.mean, v.deviation) for v in report.layers} == {(0.5, 0.0)}


def test_kernels_and_report():
    """The mean over samples, not over batches, and what it does."""
    model, x = aw_network(), samples()
    before = model.get_weights()
    plain, report = fold_attention(model, x, batch_size=3)
    for actual, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(actual, expected)
    attention = mean_attention(model, x)
    for network, layer in (("aw", "full"), ("inner", "depthwise")):
        old = model if network == "aw" else model.get_layer(network)
        new = plain if network == "aw" else plain.get_layer(network)
        old, new = old.get_layer(layer), new.get_layer(layer)
        expected = to_numpy(old.kernel) * (1 + attention[layer].mean(0))
        np.testing.assert_allclose(
            to_numpy(new.kernel).ravel(), expected.ravel(), rtol=1e-5, atol=1e-7
        )
        np.testing.assert_array_equal(to_numpy(new.bias), to_numpy(old.bias))
    assert type(plain.get_layer("full")) is layers.Conv2D
    depthwise = plain.get_layer("inner").get_layer("depthwise")
    assert type(depthwise) is layers.DepthwiseConv2D
    assert depthwise.depth_multiplier == 2

    assert [layer.name for layer in report.layers] == ["full", "depthwise"]
    for layer in report.layers:
        maps = attention[layer.name]
        np.testing.assert_allclose(layer.mean, maps.mean(), rtol=1e-5)
        np.testing.assert_allclose(
            layer.deviation, np.sqrt(maps.var(0).mean()), rtol=1e-4
        )
        assert layer.deviation > 1e-3
    expected, actual = outputs(model, x), outputs(plain, x)
    assert report.samples == len(x)
    np.testing.assert_allclose(
        report.max_difference, np.abs(actual - expected).max(), rtol=1e-3
    )
    np.testing.assert_allclose(
        report.relative_difference,
        np.linalg.norm(actual - expected) / np.linalg.norm(expected),
        rtol=1e-3,
    )
    assert report.relative_difference > 1e-3


@pytest.mark.parametrize("cls", [AWConv2D, AWDepthwiseConv2D])
def test_symmetric_padding(cls):
    """Which plain convolutions have not: a layer in front of them pads."""
    arguments = dict(padding="symmetric", name="strided")
    if cls is AWConv2D:
        arguments["filters"] = 4
    inputs = keras.Input((8, 8, 3))
    x = cls(kernel_size=3, strides=2, **arguments)(inputs)
    x = AWConv2D(4, 3, padding="symmetric", name="dense")(x)
    model = keras.Model(inputs, x)
    for layer in model.layers[1:]:
        layer.attention_expand_kernel.assign(0 * layer.attention_expand_kernel)
    plain, report = fold_attention(model, samples())
    pad, convolution = plain.get_layer("strided").layers
    assert pad.padding == ((1, 1), (1, 1))
    assert (convolution.name, convolution.padding) == ("strided", "valid")
    assert plain.get_layer("dense").padding == "same"
    assert_same(outputs(plain, samples()), outputs(model, samples()))
    assert report.relative_difference < 1e-5


def test_report_as_text():
    _, report = fold_attention(aw_network(), samples())
    header, *rows, summary = str(report).split("\n")
    assert header.split()[0] == "layer"
    assert [row.split() for row in rows] == [
        [layer.name, f"{layer.mean:.4f}", f"{layer.deviation:.4f}"]
        for layer in report.layers
    ]
    assert len({len(line) for line in (header, *rows)}) == 1
    assert "7 samples" in summary
    assert f"{report.relative_difference:.3g}" in summary
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.samples = 0


class Batches(keras.utils.PyDataset):
    """Never raises an IndexError, as a `PyDataset` may do."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index % len(self.batches)]


def batched(x, y=None):
    """Batches of unequal sizes, one of them empty."""
    cuts = [(0, 3), (3, 3), (3, 7)]
    if y is None:
        return [x[i:j] for i, j in cuts]
    return [(x[i:j], y[i:j]) for i, j in cuts]


class Reiterable:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


DATA = {
    "tensor": keras.ops.convert_to_tensor,
    "float64": lambda x: x.astype("float64"),
    "dataset": lambda x: Batches(batched(x)),
    "dataset with labels": lambda x: Batches(batched(x, x)),
    "iterable": lambda x: Reiterable(batched(x)),
    "iterator": lambda x: iter(batched(x)),
    "generator with labels": lambda x: (batch for batch in batched(x, x)),
}


@pytest.fixture(scope="module")
def folded():
    """A network, data, and what it becomes with them."""
    keras.utils.set_random_seed(1)
    model, x = one_layer(), samples()
    return model, x, *fold_attention(model, x)


@pytest.mark.parametrize("form", DATA.values(), ids=DATA)
def test_forms_of_data(folded, form):
    model, x, expected, expected_report = folded
    plain, report = fold_attention(model, form(x), batch_size=4)
    for a, b in zip(plain.get_weights(), expected.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert report.samples == expected_report.samples == 7
    np.testing.assert_allclose(
        report.relative_difference,
        expected_report.relative_difference,
        rtol=1e-3,
    )


def two_inputs(structure):
    a, b = keras.Input((6, 6, 3), name="a"), keras.Input((6, 6, 3), name="b")
    shared = AWConv2D(4, 3, name="shared")
    inputs = {"a": a, "b": b} if structure is dict else structure([a, b])
    return keras.Model(inputs, {"sum": shared(a) + shared(b), "a": shared(a)})


@pytest.mark.parametrize("structure", [list, tuple, dict])
def test_several_inputs_of_a_shared_layer(structure):
    """The mean over all calls: two with `a`, one with `b`."""
    model = two_inputs(structure)
    a, b = draw(5, 6, 6, 3), 3 * draw(5, 6, 6, 3, seed=9)
    x = {"a": a, "b": b} if structure is dict else structure([a, b])
    plain, report = fold_attention(model, x, batch_size=2)
    layer = model.get_layer("shared")
    attention = [to_numpy(layer.kernel_attention(v)) for v in (a, b)]
    mean = (2 * attention[0].mean(0) + attention[1].mean(0)) / 3
    np.testing.assert_allclose(
        to_numpy(plain.get_layer("shared").kernel),
        to_numpy(layer.kernel) * (1 + mean),
        rtol=1e-5,
        atol=1e-7,
    )
    assert report.samples == 5
    assert set(plain(x)) == {"sum", "a"}


def test_other_layers_keep_their_weights():
    model, x = small_cnn()
    converted = randomise(to_aw(model, "stem"))
    converted.get_layer("norm").trainable = False
    plain, report = fold_attention(converted, x)
    assert [layer.name for layer in report.layers] == ["stem"]
    assert not plain.get_layer("norm").trainable
    for name in ("norm", "depthwise", "pointwise", "last"):
        old, new = converted.get_layer(name), plain.get_layer(name)
        for a, b in zip(new.get_weights(), old.get_weights()):
            np.testing.assert_array_equal(a, b)


def test_mixed_precision():
    model = one_layer(dtype="mixed_bfloat16")
    plain, report = fold_attention(model, samples())
    assert plain.layers[0].dtype_policy.name == "mixed_bfloat16"
    assert 0 < report.relative_difference < 1


def test_zero_outputs_have_not_moved():
    _, report = fold_attention(one_layer(), np.zeros((2, 8, 8, 3)))
    assert report.max_difference == report.relative_difference == 0


def test_files(tmp_path):
    plain, _ = fold_attention(aw_network(), samples())
    plain.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(outputs(loaded, samples()), outputs(plain, samples()))


WRONG_DATA = {
    "nothing": None,
    "text": "images",
    "number": 3,
    "mapping of text": {"a": "b"},
    "no arrays": [],
    "empty array": np.zeros((0, 8, 8, 3)),
    "no batches": iter([]),
    "empty batches": iter([np.zeros((0, 8, 8, 3))]),
    "list of batches": [np.zeros((2, 8, 8, 3))] * 2,
    "scalar": np.zeros(()),
    "not finite": np.full((1, 8, 8, 3), np.nan),
}


@pytest.mark.parametrize("data", WRONG_DATA.values(), ids=WRONG_DATA)
def test_errors_of_data(data):
    with pytest.raises(ValueError, match="(?s)Expected.*`data`.*Received: "):
        fold_attention(one_layer(), data)


def test_error_of_unequal_numbers_of_samples():
    with pytest.raises(ValueError, match="same number of samples.*Received"):
        x = [np.zeros((2, 6, 6, 3)), np.zeros((3, 6, 6, 3))]
        fold_attention(two_inputs(list), x)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, None])
def test_error_of_the_batch_size(batch_size):
    with pytest.raises(ValueError, match="Expected `batch_size`.*Received"):
        fold_attention(one_layer(), samples(), batch_size=batch_size)


def test_errors_of_models():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = AWConv2D(4, 3)

        def call(self, x):
            return self.convolution(x)

        def get_config(self):
            return super().get_config()

    subclassed = Subclassed()
    inputs = keras.Input((8, 8, 3))
    nested = keras.Model(inputs, subclassed(inputs))
    adapted = one_layer()
    adapted.layers[0].enable_lora(2)
    for model, message in (
        (subclassed, "functional or Sequential"),
        (None, "functional or Sequential"),
        (keras.Sequential([AWConv2D(4, 3)]), "to be built"),
        (small_cnn()[0], "to have AWConv2D"),
        (nested, "Subclassed"),
        (adapted, "without LoRA"),
    ):
        with pytest.raises(ValueError, match=f"Expected.*{message}"):
            fold_attention(model, samples())
