"""`AWConv2D` as a Keras layer: contract, values, files, policies, errors."""

import importlib.util

import keras
import numpy as np
import pytest
from absl.testing import parameterized
from keras.src.testing import TestCase

import aw_keras
from aw_keras.layers import AWConv2D
from tests import reference
from tests.backends import (
    BACKEND,
    assert_close,
    cotangent,
    enable_float64,
    float64_if_needed,
    rounded,
    to_numpy,
    value_and_gradients,
)
from tests.layers.networks import small_data, small_network, train_one_step

ATTENTION_NAMES = [
    "attention_reduce_kernel",
    "attention_reduce_bias",
    "attention_expand_kernel",
    "attention_expand_bias",
]


def draw(*shape):
    return np.random.default_rng(17).normal(size=shape)


def randomised(layer, input_shape):
    """`layer`, built, no weight of which is zero."""
    layer.build(input_shape)
    generator = np.random.default_rng(19)
    for variable in layer.weights:
        noise = generator.normal(size=variable.shape) / 4
        variable.assign(to_numpy(variable) + noise)
    return layer


def reference_output(layer, x, dtype="float64"):
    """The reference's output for the layer's weights, bias included.

    Of the weights, those of the convolution are rounded to `dtype`.
    """
    values = {v.name: to_numpy(v) for v in layer.weights}
    attention = [values[name] for name in ATTENTION_NAMES]
    y = reference.aw_conv2d(
        rounded(x, dtype),
        rounded(values["kernel"], dtype),
        *attention,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        groups=layer.groups,
        data_format=layer.data_format,
    )
    if not layer.use_bias:
        return y
    bias = rounded(values["bias"], dtype)
    if layer.data_format == "channels_first":
        bias = bias[:, None, None]
    return y + bias


class KerasChecklist(TestCase):
    """Keras' own test of a layer."""

    @parameterized.named_parameters(
        ("defaults", dict(filters=4, kernel_size=3), (4, 3, 3, 4)),
        (
            "same_strides",
            dict(filters=6, kernel_size=3, strides=2, padding="same"),
            (4, 3, 3, 6),
        ),
        (
            "dilated_without_bias",
            dict(
                filters=4,
                kernel_size=(3, 2),
                dilation_rate=(2, 1),
                use_bias=False,
                activation="relu",
            ),
            (4, 1, 4, 4),
        ),
        (
            "grouped_larger_than_input",
            dict(filters=6, kernel_size=7, padding="same", groups=2),
            (4, 5, 5, 6),
        ),
        (
            "depthwise",
            dict(filters=8, kernel_size=3, padding="same", groups=4),
            (4, 5, 5, 8),
        ),
        (
            "pointwise_with_attention_arguments",
            dict(
                filters=5,
                kernel_size=1,
                strides=2,
                reduction=2,
                attention_expand_initializer="zeros",
                implementation="shifted",
            ),
            (4, 3, 3, 5),
        ),
    )
    def test_channels_last(self, init_kwargs, expected_output_shape):
        self.run_layer_test(
            AWConv2D,
            init_kwargs=init_kwargs,
            input_shape=(4, 5, 5, 4),
            expected_output_shape=expected_output_shape,
            expected_num_trainable_weights=(
                6 if init_kwargs.get("use_bias", True) else 5
            ),
            expected_num_non_trainable_weights=0,
            expected_num_seed_generators=0,
            expected_num_losses=0,
            supports_masking=False,
        )

    def test_channels_first(self):
        self.run_layer_test(
            AWConv2D,
            init_kwargs=dict(
                filters=6,
                kernel_size=3,
                strides=2,
                padding="same",
                groups=2,
                data_format="channels_first",
            ),
            input_shape=(3, 4, 5, 7),
            expected_output_shape=(3, 6, 3, 4),
            expected_num_trainable_weights=6,
        )

    def test_regularizers_and_constraints(self):
        self.run_layer_test(
            AWConv2D,
            init_kwargs=dict(
                filters=4,
                kernel_size=3,
                kernel_regularizer="l2",
                bias_regularizer="l1",
                activity_regularizer="l2",
                kernel_constraint="unit_norm",
                bias_constraint="non_neg",
            ),
            input_shape=(2, 5, 5, 4),
            expected_output_shape=(2, 3, 3, 4),
            expected_num_trainable_weights=6,
            expected_num_losses=3,
        )


LAYERS = {
    "plain": dict(filters=5, kernel_size=3),
    "same": dict(filters=6, kernel_size=(2, 3), padding="same", groups=2),
    "strided": dict(filters=4, kernel_size=5, strides=2, padding="same"),
    "symmetric": dict(filters=4, kernel_size=3, strides=2, padding="symmetric"),
    "dilated": dict(filters=4, kernel_size=3, dilation_rate=2, padding="same"),
    "depthwise": dict(filters=8, kernel_size=3, groups=4, reduction=1),
    "pointwise": dict(filters=3, kernel_size=1, use_bias=False),
    "reduction": dict(filters=3, kernel_size=2, reduction=1),
}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("arguments", LAYERS.values(), ids=LAYERS)
def test_output_is_that_of_the_reference(arguments, data_format):
    channels = 6 if arguments.get("reduction") == 1 else 4
    if "groups" in arguments:
        channels = 4
    x = reference.restore_format(draw(3, 7, 6, channels), data_format)
    layer = AWConv2D(**arguments, data_format=data_format)
    randomised(layer, x.shape)
    y = to_numpy(layer(x.astype("float32")))
    assert_close(y, reference_output(layer, rounded(x, "float32")), "float32")
    assert layer.compute_output_shape(x.shape) == y.shape


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_kernel_attention_is_that_of_the_reference(data_format):
    x = reference.restore_format(draw(3, 7, 6, 4), data_format)
    x = x.astype("float32")
    layer = AWConv2D(6, (3, 2), groups=2, data_format=data_format)
    randomised(layer, x.shape)
    attention = to_numpy(layer.kernel_attention(x))
    assert attention.shape == (3, 3, 2, 2, 6)
    weights = [to_numpy(getattr(layer, name)) for name in ATTENTION_NAMES]
    expected = reference.kernel_attention(x, *weights, (3, 2), data_format)
    assert_close(attention, expected, "float32")


def test_kernel_attention_needs_a_built_layer():
    with pytest.raises(ValueError, match="(?s)Expected.*built.*Received"):
        AWConv2D(6, 3).kernel_attention(np.zeros((1, 5, 5, 4)))


@pytest.mark.parametrize(
    "channels, groups, reduction, hidden, hidden_per_group",
    [
        (64, 1, 16, 4, 1),
        (128, 1, 16, 8, 1),
        (10, 1, 2, 5, 1),
        (3, 1, 16, 4, 4),
        (18, 1, 2, 9, 1),
        (6, 1, 16, 4, 2),
        (12, 12, 16, 4, 4),
    ],
)
def test_weights(channels, groups, reduction, hidden, hidden_per_group):
    """Names, order and shapes, which files depend on."""
    layer = AWConv2D(groups * 2, (3, 2), groups=groups, reduction=reduction)
    layer.build((None, None, None, channels))
    kernel_channels, filters = channels // groups, groups * 2
    assert {v.name: tuple(v.shape) for v in layer.weights} == {
        "kernel": (3, 2, kernel_channels, filters),
        "bias": (filters,),
        "attention_reduce_kernel": (channels, hidden),
        "attention_reduce_bias": (hidden,),
        "attention_expand_kernel": (
            hidden_per_group,
            kernel_channels,
            filters,
        ),
        "attention_expand_bias": (kernel_channels, filters),
    }
    assert [v.name for v in layer.trainable_weights] == [
        "kernel",
        "bias",
        *ATTENTION_NAMES,
    ]
    unbiased = AWConv2D(filters, 3, groups=groups, use_bias=False)
    unbiased.build((None, None, None, channels))
    assert [v.name for v in unbiased.weights] == ["kernel", *ATTENTION_NAMES]


def test_config_holds_every_argument():
    layer = AWConv2D(
        6,
        (3, 2),
        strides=(2, 1),
        padding="same",
        data_format="channels_first",
        groups=2,
        activation="relu",
        use_bias=False,
        kernel_initializer="he_normal",
        reduction=3,
        attention_expand_initializer="zeros",
        implementation="shifted",
        name="aw",
        dtype="mixed_bfloat16",
    )
    config = layer.get_config()
    assert config["reduction"] == 3
    assert config["implementation"] == "shifted"
    assert config["attention_expand_initializer"]["class_name"] == "Zeros"
    copy = AWConv2D.from_config(config)
    assert copy.get_config() == config
    assert copy.dtype_policy.name == "mixed_bfloat16"
    assert copy.name == "aw"
    by_name = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(by_name) is AWConv2D
    assert by_name.get_config() == config


def test_config_of_symmetric_padding():
    """Which Keras' own layer refuses."""
    layer = AWConv2D(6, 3, strides=2, padding="SYMMETRIC")
    assert layer.padding == "symmetric"
    copy = AWConv2D.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


def test_config_survives_a_version_without_the_attention_arguments():
    """The attention's arguments have defaults, as every argument after them."""
    config = AWConv2D(6, 3).get_config()
    for name in ("reduction", "attention_expand_initializer", "implementation"):
        del config[name]
    assert AWConv2D.from_config(config).reduction == 16


@pytest.mark.parametrize(
    "channels, groups, limit", [(64, 1, 1.0), (6, 1, 0.5**0.5), (64, 64, 0.5)]
)
def test_expansion_begins_as_wide_as_its_fan_in_allows(channels, groups, limit):
    layer = AWConv2D(640, 3, groups=groups)
    layer.build((None, 8, 8, channels))
    assert limit == layer.attention_expand_kernel.shape[0] ** -0.5
    drawn = [
        keras.ops.convert_to_numpy(weight).ravel()
        for weight in (
            layer.attention_expand_kernel,
            layer.attention_expand_bias,
        )
    ]
    for values in drawn:
        assert np.abs(values).max() <= limit
        np.testing.assert_allclose(values.std(), limit / 3**0.5, rtol=0.1)
    size = min(map(len, drawn))
    together = np.corrcoef(drawn[0][:size], drawn[1][:size])[0, 1]
    assert abs(together) < 0.15


def test_expansion_with_an_initializer_begins_without_bias():
    layer = AWConv2D(8, 3, attention_expand_initializer="ones")
    layer.build((None, 8, 8, 16))
    kernel, bias = map(
        keras.ops.convert_to_numpy,
        (layer.attention_expand_kernel, layer.attention_expand_bias),
    )
    assert np.all(kernel == 1)
    assert np.all(bias == 0)


def test_attention_arguments_are_keyword_only():
    positional = list(AWConv2D(6, 3).get_config())
    with pytest.raises(TypeError, match="positional"):
        AWConv2D(6, 3, *([None] * len(positional)))


def test_public_names():
    assert aw_keras.AWConv2D is AWConv2D is aw_keras.layers.AWConv2D
    assert issubclass(AWConv2D, keras.layers.Conv2D)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution = AWConv2D(4, 3, padding="same")
        self.pool = keras.layers.GlobalAveragePooling2D()

    def call(self, x):
        return self.pool(self.convolution(x))


def sequential():
    return keras.Sequential(
        [
            AWConv2D(4, 3, padding="same"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def functional():
    x = keras.Input((None, None, 3))
    y = AWConv2D(4, 3, padding="same")(x)
    return keras.Model(x, keras.layers.GlobalAveragePooling2D()(y))


@pytest.mark.parametrize("build", [sequential, functional, Subclassed])
def test_models_of_every_kind(build, tmp_path):
    """Predicts as the reference, trains, and its weights file restores it."""
    x, _ = small_data()
    model = build()
    model(x)
    (layer,) = (
        layer for layer in model._flatten_layers() if type(layer) is AWConv2D
    )
    expected = reference_output(layer, x).mean(axis=(1, 2))
    assert_close(model.predict(x, verbose=0), expected, "float32", factor=256)

    model.compile("sgd", "mse")
    before = [to_numpy(v) for v in layer.weights]
    after = train_one_step(model, (x, np.ones((len(x), 4), "float32")))
    changed = {
        v.name: not np.array_equal(a, b)
        for v, b, a in zip(layer.weights, before, after)
    }
    assert all(changed.values()), changed

    model.save_weights(tmp_path / "model.weights.h5")
    restored = build()
    restored(x)
    restored.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(
        restored.predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_model_file(tmp_path):
    model, (x, _) = small_network(), small_data()
    for variable in model.weights:
        variable.assign(to_numpy(variable) + 0.05)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for saved, restored in zip(model.weights, loaded.weights):
        assert saved.name == restored.name
        np.testing.assert_array_equal(to_numpy(saved), to_numpy(restored))
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_weights_file_of_another_shape_is_refused(tmp_path):
    def model(reduction):
        return keras.Sequential(
            [
                keras.Input((5, 5, 32)),
                AWConv2D(4, 3, reduction=reduction, name="aw"),
            ]
        )

    model(16).save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError):
        model(4).load_weights(tmp_path / "model.weights.h5")


def test_names_in_the_weights_file(tmp_path):
    """Keras numbers the convolution's own; the attention's have their names."""
    h5py = pytest.importorskip("h5py")
    layer = AWConv2D(4, 3, name="aw")
    keras.Sequential([keras.Input((5, 5, 3)), layer]).save_weights(
        tmp_path / "model.weights.h5"
    )
    with h5py.File(tmp_path / "model.weights.h5") as file:
        (group,) = file["layers"].values()
        assert set(group["vars"]) == {"0", "1", *ATTENTION_NAMES}


def test_fit():
    """A compiled step is the uncompiled one, and steps reduce the loss."""
    data = small_data()
    model = small_network(jit_compile=BACKEND != "torch")
    uncompiled = small_network(jit_compile=False)
    uncompiled.set_weights(model.get_weights())
    before = model.evaluate(*data, verbose=0)
    steps = zip(train_one_step(model, data), train_one_step(uncompiled, data))
    for actual, expected in steps:
        assert_close(actual, expected, "float32", factor=128)
    history = model.fit(*data, epochs=10, verbose=0).history["loss"]
    assert history[-1] < history[0] < before


@pytest.mark.parametrize(
    "policy",
    ["float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"],
)
def test_dtype_policies(policy):
    """Output in the compute dtype, as accurate as that dtype allows.

    The reference takes input and kernel rounded to the compute dtype, so that
    what is left is the rounding of the attentional kernel and of the output.
    """
    compute = policy.removeprefix("mixed_")
    variables = "float32" if policy.startswith("mixed") else policy
    x = draw(3, 7, 6, 4)
    with float64_if_needed(policy):
        layer = AWConv2D(6, 3, padding="same", groups=2, dtype=policy)
        randomised(layer, x.shape)
        assert {v.dtype for v in layer.weights} == {variables}
        y = layer(keras.ops.convert_to_tensor(x, compute))
        assert keras.backend.standardize_dtype(y.dtype) == compute
        factor = 64 if compute == "float64" else 4
        assert_close(
            to_numpy(y),
            reference_output(layer, x, compute),
            compute,
            factor=factor,
        )
        symbolic = layer(keras.KerasTensor((None, 7, 6, 4), dtype=compute))
        assert symbolic.dtype == compute


@pytest.mark.parametrize("compute", ["float16", "bfloat16"])
def test_attention_stays_accurate_under_mixed_policies(compute):
    """Its weights and sums are float32: no rounding but the input's."""
    x = rounded(30 + draw(2, 32, 32, 16), compute)
    layer = AWConv2D(4, 3, padding="same", dtype=f"mixed_{compute}")
    randomised(layer, x.shape)
    weights = [to_numpy(getattr(layer, name)) for name in ATTENTION_NAMES]
    weights[0] /= 64
    layer.attention_reduce_kernel.assign(weights[0])
    expected = reference.kernel_attention(x, *weights, (3, 3))
    actual = to_numpy(
        layer.kernel_attention(keras.ops.convert_to_tensor(x, compute))
    )
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_training_under_mixed_float16():
    """Finite losses that fall: 16-bit convolution, float32 weights."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small_network()
    finally:
        keras.config.set_dtype_policy("float32")
    history = model.fit(*small_data(), epochs=10, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]


def test_float64_gradients_through_the_layer():
    """Every weight's gradient, by the layer's call, is the reference's."""
    x = draw(2, 5, 4, 4)
    with enable_float64():
        layer = AWConv2D(
            6, 3, strides=2, padding="same", use_bias=False, dtype="float64"
        )
        randomised(layer, x.shape)
        weights = [to_numpy(v) for v in layer.weights]

        def outputs(x, *weights):
            return layer.stateless_call(list(weights), [], x)[0]

        value, gradients = value_and_gradients(outputs, x, *weights)
    expected = reference.aw_conv2d_gradients(
        cotangent(value.shape), x, *weights, strides=2, padding="same"
    )
    for actual, gradient in zip(gradients, expected):
        assert_close(actual, gradient, factor=256)


def test_unknown_height_and_width():
    """One model for every size, also smaller than the kernel."""
    inputs = keras.Input((None, None, 3))
    layer = AWConv2D(4, 5, strides=2, padding="same")
    outputs = layer(inputs)
    assert tuple(outputs.shape) == (None, None, None, 4)
    model = keras.Model(inputs, outputs)
    for size in [(9, 7), (2, 3), (1, 1)]:
        x = draw(2, *size, 3).astype("float32")
        y = model.predict(x, verbose=0)
        assert_close(y, reference_output(layer, x), "float32")


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("groups", [1, 4])
def test_empty_batch(kernel_size, groups):
    """An empty output of the right shape, in a model too."""
    layer = AWConv2D(8, kernel_size, strides=2, padding="same", groups=groups)
    x = np.zeros((0, 5, 6, 4), "float32")
    y = layer(x)
    assert tuple(y.shape) == (0, 3, 3, 8)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, layer(inputs))
    assert tuple(model(x).shape) == (0, 3, 3, 8)


def test_empty_batch_trains_nothing():
    """Zero gradients, not missing ones."""
    layer = AWConv2D(4, 3)
    layer.build((None, 5, 5, 4))
    weights = [to_numpy(v) for v in layer.weights]
    _, gradients = value_and_gradients(
        lambda x, *weights: layer.stateless_call(list(weights), [], x)[0],
        np.zeros((0, 5, 5, 4)),
        *weights,
        dtype="float32",
    )
    for gradient, weight in zip(gradients[1:], weights):
        np.testing.assert_array_equal(gradient, np.zeros_like(weight))


@pytest.mark.parametrize("groups", [1, 2])
def test_zero_expansion_is_a_convolution_with_three_halves(groups):
    arguments = dict(
        filters=6, kernel_size=3, strides=2, padding="same", groups=groups
    )
    x = draw(2, 7, 6, 4).astype("float32")
    layer = AWConv2D(**arguments, attention_expand_initializer="zeros")
    plain = keras.layers.Conv2D(**arguments)
    y = layer(x)
    plain.build(x.shape)
    kernel, bias = layer.get_weights()[:2]
    plain.set_weights([1.5 * kernel, bias])
    assert_close(to_numpy(y), to_numpy(plain(x)), "float32")
    np.testing.assert_array_equal(
        to_numpy(layer.kernel_attention(x)),
        np.full((2, 3, 3, 4 // groups, 6), 0.5),
    )


def test_every_implementation_of_the_layer():
    x = draw(3, 6, 5, 4).astype("float32")
    weights = randomised(AWConv2D(6, 3), x.shape).get_weights()
    for name in ("auto", *aw_keras.ops.IMPLEMENTATIONS):
        layer = AWConv2D(6, 3, implementation=name)
        layer.build(x.shape)
        layer.set_weights(weights)
        assert_close(to_numpy(layer(x)), reference_output(layer, x), "float32")


def test_regularizers_see_the_kernel_only():
    layer = AWConv2D(
        6,
        3,
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_initializer="ones",
        bias_regularizer=keras.regularizers.L1(0.25),
        activity_regularizer=keras.regularizers.L1(0.125),
    )
    x = draw(2, 5, 5, 4).astype("float32")
    y = to_numpy(layer(x))
    expected = [
        0.5 * np.sum(to_numpy(layer.kernel) ** 2),
        0.25 * 6,
        0.125 * np.sum(np.abs(y)),
    ]
    np.testing.assert_allclose(
        sorted(to_numpy(loss) for loss in layer.losses),
        sorted(
            # Keras divides an activity regularizer's loss by the batch size.
            [*expected[:2], expected[2] / len(x)]
        ),
        rtol=1e-5,
    )


def test_constraints_hold_after_a_step():
    layer = AWConv2D(
        4, 3, kernel_constraint="non_neg", bias_constraint="non_neg"
    )
    model = keras.Sequential([layer, keras.layers.GlobalMaxPooling2D()])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, _ = small_data()
    train_one_step(model, (x, np.zeros((len(x), 4), "float32")))
    assert to_numpy(layer.kernel).min() == 0
    assert to_numpy(layer.kernel).max() > 0
    assert to_numpy(layer.bias).min() == 0
    assert to_numpy(layer.attention_reduce_kernel).min() < 0


def test_lora():
    """LoRA adds to the kernel, which freezes; the attention goes on."""
    x = draw(2, 5, 5, 4).astype("float32")
    layer = AWConv2D(6, 3)
    before = to_numpy(layer(x))
    layer.enable_lora(2, lora_alpha=4)
    assert_close(to_numpy(layer(x)), before, "float32", factor=8)
    assert [v.name for v in layer.non_trainable_weights] == ["kernel"]
    assert {v.name for v in layer.trainable_weights} == {
        "bias",
        *ATTENTION_NAMES,
        "lora_kernel_a",
        "lora_kernel_b",
    }
    layer.lora_kernel_b.assign(draw(2, 6))
    adapted = AWConv2D(6, 3)
    adapted.build(x.shape)
    kernel = to_numpy(layer._kernel) + 2 * to_numpy(
        layer.lora_kernel_a
    ) @ to_numpy(layer.lora_kernel_b)
    others = [to_numpy(getattr(layer, name)) for name in ATTENTION_NAMES]
    adapted.set_weights([kernel, to_numpy(layer.bias), *others])
    assert_close(to_numpy(layer(x)), to_numpy(adapted(x)), "float32")


def test_lora_is_merged_in_files(tmp_path):
    x = draw(2, 5, 5, 4).astype("float32")
    layer = AWConv2D(6, 3, lora_rank=2)
    model = keras.Sequential([keras.Input((5, 5, 4)), layer])
    layer.lora_kernel_b.assign(draw(2, 6))
    model.save_weights(tmp_path / "model.weights.h5")
    plain = keras.Sequential([keras.Input((5, 5, 4)), AWConv2D(6, 3)])
    plain.load_weights(tmp_path / "model.weights.h5")
    assert_close(to_numpy(plain(x)), to_numpy(model(x)), "float32")
    assert AWConv2D.from_config(layer.get_config()).lora_rank == 2


def test_a_frozen_layer_keeps_its_weights():
    layer = AWConv2D(4, 3, padding="same")
    model = keras.Sequential(
        [
            layer,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ]
    )
    x, _ = small_data()
    model(x)
    layer.trainable = False
    model.compile("sgd", "mse")
    before = layer.get_weights()
    train_one_step(model, (x, np.ones((len(x), 4), "float32")))
    for a, b in zip(layer.get_weights(), before):
        np.testing.assert_array_equal(a, b)


ARGUMENT_ERRORS = {
    "reduction of zero": dict(reduction=0),
    "negative reduction": dict(reduction=-16),
    "fractional reduction": dict(reduction=1.5),
    "reduction as text": dict(reduction="16"),
    "implementation": dict(implementation="quick"),
    "no implementation": dict(implementation=None),
}


@pytest.mark.parametrize(
    "arguments", ARGUMENT_ERRORS.values(), ids=ARGUMENT_ERRORS
)
def test_errors_of_arguments(arguments):
    with pytest.raises(ValueError, match="(?s)Expected.*Received: "):
        AWConv2D(6, 3, **arguments)


INHERITED_ERRORS = {
    "filters and groups": dict(filters=6, groups=4),
    "no filters": dict(filters=0),
    "no groups": dict(groups=0),
    "strides and dilation": dict(strides=2, dilation_rate=2),
    "padding": dict(padding="causal"),
    "data format": dict(data_format="NHWC"),
}


@pytest.mark.parametrize(
    "arguments", INHERITED_ERRORS.values(), ids=INHERITED_ERRORS
)
def test_errors_of_the_convolution_arguments(arguments):
    with pytest.raises(ValueError, match="(?i)received"):
        AWConv2D(**{"filters": 8, "kernel_size": 3, **arguments})


@pytest.mark.parametrize("shape", [(4, 5, 4), (2, 3, 5, 5, 4), (4, 4)])
def test_errors_of_rank(shape):
    layer = AWConv2D(6, 3)
    with pytest.raises(ValueError, match="(?i)expected.*(?:rank|ndim)"):
        layer(np.zeros(shape, "float32"))
    with pytest.raises(ValueError, match="(?i)expected.*(?:rank|ndim)"):
        AWConv2D(6, 3).build(shape)


@pytest.mark.parametrize(
    "data_format, shape",
    [
        ("channels_last", (5, 5, None)),
        ("channels_first", (None, 5, 5)),
    ],
)
def test_error_of_unknown_channels(data_format, shape):
    with pytest.raises(ValueError, match="(?s)Expected.*channels.*Received"):
        AWConv2D(6, 3, data_format=data_format)(keras.Input(shape))


def test_error_of_channels_and_groups():
    with pytest.raises(ValueError, match="Received"):
        AWConv2D(6, 3, groups=3)(np.zeros((1, 5, 5, 4), "float32"))


def test_error_of_other_channels_than_built_for():
    layer = AWConv2D(6, 3)
    layer(np.zeros((1, 5, 5, 4), "float32"))
    with pytest.raises(ValueError, match="(?i)expected"):
        layer(np.zeros((1, 5, 5, 3), "float32"))


def test_error_of_an_input_smaller_than_the_kernel():
    with pytest.raises(ValueError, match="(?i)received"):
        AWConv2D(6, 5)(np.zeros((1, 4, 7, 4), "float32"))


def test_exported_model_serves_every_batch(tmp_path):
    """One artifact of each kind: the same outputs for 1, 2 and 7 samples."""
    model = small_network((9, 8, 3))
    for variable in model.weights:
        variable.assign(to_numpy(variable) + 0.05)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    exported = exported_function(model, tmp_path / "saved_model")
    x, _ = small_data(7)
    expected = model.predict(x, verbose=0)
    for batch in (1, 2, 7):
        for function in (loaded, exported):
            y = to_numpy(function(x[:batch]))
            assert_close(y, expected[:batch], "float32")


def exported_function(model, path):
    """The SavedModel's function, served by TensorFlow."""
    if BACKEND == "torch" or importlib.util.find_spec("tensorflow") is None:
        return lambda x: model(x)
    import tensorflow as tf

    model.export(path, verbose=False)
    artifact = tf.saved_model.load(str(path))
    # Its variables live as long as the artifact itself.
    return lambda x: artifact.serve(x)


if BACKEND == "tensorflow":
    import tensorflow as tf

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_tf_function_with_an_unknown_batch(jit_compile):
        layer = AWConv2D(6, 3, strides=2, padding="same", groups=2)
        randomised(layer, (None, 7, 6, 4))

        @tf.function(
            input_signature=[tf.TensorSpec([None, 7, 6, 4])],
            jit_compile=jit_compile,
        )
        def call(x):
            return layer(x)

        for batch in (1, 3):
            x = draw(batch, 7, 6, 4).astype("float32")
            assert_close(
                call(tf.constant(x)).numpy(),
                reference_output(layer, x),
                "float32",
            )


if BACKEND == "jax":

    def test_jit_of_the_stateless_call():
        import jax

        layer = AWConv2D(6, 3, padding="same")
        x = draw(2, 5, 5, 4).astype("float32")
        randomised(layer, x.shape)

        @jax.jit
        def call(weights, x):
            return layer.stateless_call(weights, [], x)[0]

        y = call([v.value for v in layer.weights], x)
        assert_close(to_numpy(y), reference_output(layer, x), "float32")


if BACKEND == "torch":

    def test_torch_compile():
        """Traced ahead of time, without the generation of C++."""
        import torch

        layer = AWConv2D(6, 3, padding="same", strides=2)
        x = torch.tensor(draw(2, 5, 5, 4).astype("float32"))
        randomised(layer, x.shape)
        compiled = torch.compile(lambda x: layer(x), backend="aot_eager")
        parameters = [v.value for v in layer.trainable_weights]
        results = []
        for call in (compiled, layer):
            y = call(x)
            results.append((y, *torch.autograd.grad(y.sum(), parameters)))
        for actual, expected in zip(*results):
            assert_close(to_numpy(actual), to_numpy(expected), "float32")


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="It is about its graphs."
)
def test_layers_of_one_shape_share_a_graph():
    """A deep network is not traced layer by layer."""
    from aw_keras.ops.backends import tensorflow as backend

    image = x = keras.Input((9, 7, 6))
    for _ in range(3):
        x = AWConv2D(6, 3, padding="same", implementation="grouped")(x)
    model = keras.Model(image, x)
    model.compile("sgd", "mse", jit_compile=False)
    batch = np.zeros((2, 9, 7, 6), "float32")
    traced = backend._traced.cache_info().misses
    model.train_on_batch(batch, batch)
    # A graph of the layers, and one of their gradient.
    assert backend._traced.cache_info().misses - traced == 2
