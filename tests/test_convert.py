"""`to_aw`: the same outputs, the same structure, nothing shared."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from aw_keras import AWConv2D, AWDepthwiseConv2D, to_aw
from aw_keras.applications import CIFARResNet
from tests.backends import BACKEND, to_numpy
from tests.convert_cases import (
    CASES,
    Opaque,
    assert_same,
    draw,
    outputs,
    randomise,
    small_cnn,
)

CHANNELS_FIRST = BACKEND != "tensorflow"


def convolutions(model):
    """Every convolution, by name, nested models included."""
    return {
        layer.name: layer
        for layer in model._flatten_layers()
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D))
    }


def classes(model):
    return {name: type(v).__name__ for name, v in convolutions(model).items()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_same_outputs(case):
    model, x = case()
    before = model.get_weights()
    converted = to_aw(model)
    assert any(
        isinstance(v, AWConv2D) for v in convolutions(converted).values()
    )
    assert_same(outputs(converted, x), outputs(model, x))
    assert converted.name == model.name
    assert converted.output_shape == model.output_shape
    assert [v.name for v in converted.layers] == [v.name for v in model.layers]
    assert not {id(v) for v in model.variables} & {
        id(v) for v in converted.variables
    }
    for actual, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_files(case, tmp_path):
    model, x = case()
    converted = to_aw(model)
    converted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(outputs(loaded, x), outputs(converted, x), tolerance=1e-6)


def test_identity_in_numbers():
    model = keras.Sequential(
        [
            keras.Input((5, 5, 4)),
            layers.Conv2D(6, 3, groups=2, name="grouped"),
            layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise"),
        ]
    )
    randomise(model)
    converted = to_aw(model, reduction=1, implementation="loop")
    for name, cls in (("grouped", AWConv2D), ("depthwise", AWDepthwiseConv2D)):
        layer, new = model.get_layer(name), converted.get_layer(name)
        assert type(new) is cls
        assert (new.reduction, new.implementation) == (1, "loop")
        np.testing.assert_allclose(
            1.5 * to_numpy(new.kernel).ravel(),
            to_numpy(layer.kernel).ravel(),
            rtol=1e-6,
        )
        np.testing.assert_array_equal(to_numpy(new.bias), to_numpy(layer.bias))
        assert not to_numpy(new.attention_expand_kernel).any()
        assert not to_numpy(new.attention_expand_bias).any()
        assert to_numpy(new.attention_reduce_kernel).any()


def test_arguments_stay():
    arguments = dict(
        strides=2,
        padding="same",
        data_format="channels_last",
        activation="relu",
        use_bias=False,
        bias_initializer="ones",
        activity_regularizer=keras.regularizers.L2(0.25),
        bias_regularizer=keras.regularizers.L1(0.5),
        bias_constraint="non_neg",
        trainable=False,
        dtype="mixed_bfloat16",
    )
    model = keras.Sequential(
        [
            keras.Input((9, 9, 4)),
            layers.Conv2D(
                8,
                (2, 3),
                groups=2,
                kernel_initializer="he_normal",
                kernel_regularizer=keras.regularizers.L2(0.5),
                kernel_constraint="max_norm",
                **arguments,
            ),
            layers.DepthwiseConv2D(
                3,
                depth_multiplier=2,
                depthwise_initializer="he_normal",
                depthwise_regularizer=keras.regularizers.L2(0.5),
                depthwise_constraint="max_norm",
                **arguments,
            ),
            layers.Conv2D(4, 2, dilation_rate=2),
        ]
    )
    for layer, new in zip(model.layers, to_aw(model).layers):
        config = new.get_config()
        assert config.items() >= layer.get_config().items()
        assert set(config) - set(layer.get_config()) == {
            "reduction",
            "attention_expand_initializer",
            "implementation",
        }


def test_where():
    model, _ = small_cnn()
    assert classes(to_aw(model)) == {
        "stem": "AWConv2D",
        "depthwise": "AWDepthwiseConv2D",
        "pointwise": "Conv2D",
        "last": "AWConv2D",
    }

    def converted(where):
        found = classes(to_aw(model, where))
        return {name for name, v in found.items() if v.startswith("AW")}

    assert converted("stem") == {"stem"}
    assert converted("*wise") == {"depthwise", "pointwise"}
    assert converted(["st*m", "last"]) == {"stem", "last"}
    assert converted(lambda layer: layer.kernel_size == (1, 1)) == {"pointwise"}
    assert converted(lambda layer: layer.name != "stem") == {
        *("depthwise", "pointwise", "last")
    }


@pytest.mark.parametrize(
    "where", ["dense", [], ["stem", "no*"], lambda layer: False]
)
def test_error_of_where_without_a_match(where):
    model, _ = small_cnn()
    with pytest.raises(ValueError, match="(?s)Expected .*Received.*depthwise"):
        to_aw(model, where)


@pytest.mark.parametrize("where", [1, [1], {"stem": True}])
def test_error_of_where(where):
    with pytest.raises(ValueError, match="Expected `where`.*Received: where="):
        to_aw(small_cnn()[0], where)


def test_error_of_a_model_without_convolutions():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"Received.*convolutions=\[\]"):
        to_aw(model)


def test_only_what_is_plain_is_converted():
    """A second conversion finds nothing, a partial one the rest."""
    model, x = small_cnn()
    partly = randomise(to_aw(model, "stem"))
    converted = to_aw(partly)
    assert set(classes(converted).values()) == {
        *("AWConv2D", "AWDepthwiseConv2D", "Conv2D")
    }
    assert_same(outputs(converted, x), outputs(partly, x))
    for a, b in zip(
        converted.get_layer("stem").weights, partly.get_layer("stem").weights
    ):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    with pytest.raises(ValueError, match="pointwise"):
        to_aw(converted)


def test_other_convolutions_are_left_alone():
    class Standardised(layers.Conv2D):
        pass

    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="plain"),
            layers.SeparableConv2D(4, 3),
            layers.Conv2DTranspose(4, 3),
            Standardised(4, 3),
            layers.SpectralNormalization(layers.Conv2D(4, 3)),
            layers.Reshape((-1, 4)),
            layers.Conv1D(2, 3),
        ]
    )
    x = draw(2, 8, 8, 3)
    with keras.saving.custom_object_scope({"Standardised": Standardised}):
        converted = to_aw(randomise(model))
    changed = [
        type(new) is not type(layer)
        for layer, new in zip(model.layers, converted.layers)
    ]
    assert changed == [True, *[False] * 6]
    assert_same(outputs(converted, x), outputs(model, x))


def test_shared_layers_stay_shared():
    convolution = layers.Conv2D(3, 3, padding="same", name="shared")
    inner = keras.Sequential([convolution, layers.ReLU()], name="inner")
    a, b = keras.Input((6, 6, 3), name="a"), keras.Input((6, 6, 3), name="b")
    y = layers.add([inner(convolution(a)), inner(b), convolution(b)])
    model = randomise(keras.Model([a, b], y))
    converted = to_aw(model)
    new = converted.get_layer("shared")
    assert new is converted.get_layer("inner").layers[0]
    assert len(converted.weights) == 6
    x = [draw(2, 6, 6, 3), draw(2, 6, 6, 3) + 1]
    assert_same(outputs(converted, x), outputs(model, x))


def test_structures_of_inputs_and_outputs():
    a, b = keras.Input((6, 6, 3), name="a"), keras.Input((6, 6, 3), name="b")
    y = layers.Conv2D(4, 3)(a)
    z = layers.Conv2D(4, 3)(b)
    model = keras.Model({"a": a, "b": b}, {"sum": y + z, "all": [y, (z,)]})
    converted = to_aw(randomise(model))
    x = {"a": draw(2, 6, 6, 3), "b": draw(2, 6, 6, 3)}
    actual, expected = converted(x), model(x)
    keras.tree.assert_same_structure(actual, expected)
    assert_same(outputs(converted, x), outputs(model, x))
    assert [v.name for v in converted.inputs] == ["a", "b"]


def padded(pads, last=None, **arguments):
    """A convolution behind a layer that pads."""
    x = keras.Input((9, 8, 3))
    y = layers.ZeroPadding2D(pads, name="pad")(x)
    z = (last or layers.Conv2D(4, 3, strides=2, **arguments))(y)
    return x, y, z


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    "layer, pads",
    [
        (lambda: layers.Conv2D(4, 3, strides=2), 1),
        (lambda: layers.Conv2D(4, (5, 3)), (2, 1)),
        (lambda: layers.Conv2D(4, 2, dilation_rate=2), 1),
        (lambda: layers.DepthwiseConv2D(3, strides=2), 1),
    ],
)
def test_paddings_in_front_of_a_convolution(layer, pads, sequential):
    """The attention begins behind them, and sees no zeros."""
    x, y, z = padded(pads, layer())
    model = keras.Model(x, z)
    if sequential:
        model = keras.Sequential([keras.Input((9, 8, 3)), *model.layers[1:]])
    randomise(model)
    converted = to_aw(model)
    x = draw(2, 9, 8, 3)
    assert_same(outputs(converted, x), outputs(model, x))
    copy = type(converted).from_config(converted.get_config())
    copy.set_weights(converted.get_weights())
    assert_same(outputs(copy, x), outputs(model, x))
    *_, pad, convolution = converted.layers
    assert convolution.padding == "symmetric"
    assert (type(pad), pad.name) == (layers.Identity, "pad")


def test_paddings_that_stay():
    """Others than those of `"symmetric"`, and of more than one layer."""
    x, _, z = padded(((0, 1), (0, 1)))
    models = [keras.Model(x, z)]
    x, _, z = padded(2)
    models.append(keras.Model(x, z))
    x, _, z = padded(1, padding="same")
    models.append(keras.Model(x, z))
    x, y, z = padded(1)
    models.append(keras.Model(x, [y, z]))
    x, y, z = padded(1)
    models.append(keras.Model(x, [z, layers.ReLU()(y)]))
    shared = layers.Conv2D(3, 3, name="shared")
    x, _, z = padded(1, shared)
    models.append(keras.Model(x, shared(z)))
    for model in models:
        converted = to_aw(model)
        assert type(converted.get_layer("pad")) is layers.ZeroPadding2D
        (convolution,) = convolutions(converted).values()
        assert convolution.padding != "symmetric"
        x = draw(2, 9, 8, 3)
        for ours, theirs in zip(
            *(keras.tree.flatten(outputs(m, x)) for m in (converted, model))
        ):
            assert_same(ours, theirs)


def test_networks_with_symmetric_padding():
    """A converted one is what is built with AW-convolutions: weights fit."""
    arguments = dict(padding="symmetric", input_shape=(12, 12, 3))
    converted = to_aw(CIFARResNet(8, **arguments), "conv?_block?_?_conv")
    built = CIFARResNet(8, conv="aw", **arguments)
    assert [w.shape for w in converted.weights] == [
        w.shape for w in built.weights
    ]
    randomise(converted)
    built.set_weights(converted.get_weights())
    x = draw(2, 12, 12, 3)
    assert_same(outputs(built, x), outputs(converted, x))


def test_unknown_sizes():
    inputs = keras.Input((None, None, 3))
    y = layers.Conv2D(4, 5, strides=2, padding="same")(inputs)
    model = randomise(keras.Model(inputs, y))
    converted = to_aw(model)
    assert converted.output_shape == model.output_shape
    for batch, height, width in [(2, 9, 7), (1, 2, 3), (3, 1, 1)]:
        x = draw(batch, height, width, 3)
        assert_same(outputs(converted, x), outputs(model, x))


@pytest.mark.skipif(
    not CHANNELS_FIRST,
    reason=("TensorFlow has no channels-first convolution on the CPU"),
)
def test_channels_first():
    inputs = keras.Input((3, 8, 8))
    options = dict(padding="same", data_format="channels_first")
    y = layers.Conv2D(4, 3, activation="relu", **options)(inputs)
    y = layers.DepthwiseConv2D(3, depth_multiplier=2, **options)(y)
    model = randomise(keras.Model(inputs, y))
    x = draw(2, 3, 8, 8)
    assert_same(outputs(to_aw(model), x), outputs(model, x))


@pytest.mark.parametrize(
    "policy, tolerance", [("mixed_float16", 4e-3), ("mixed_bfloat16", 3e-2)]
)
def test_mixed_precision(policy, tolerance):
    inputs = keras.Input((8, 8, 3))
    y = layers.Conv2D(8, 3, activation="relu", dtype=policy)(inputs)
    y = layers.Conv2D(4, 3, dtype=policy)(y)
    model = randomise(keras.Model(inputs, layers.Activation("linear")(y)))
    converted = to_aw(model)
    assert [v.dtype_policy.name for v in converted.layers] == [
        v.dtype_policy.name for v in model.layers
    ]
    x = draw(2, 8, 8, 3)
    assert_same(outputs(converted, x), outputs(model, x), tolerance)


def test_frozen_layers_stay_frozen():
    inner, _ = small_cnn("inner")
    inner.trainable = False
    inner.get_layer("last").trainable = True
    inputs = keras.Input((8, 8, 3))
    y = layers.Conv2D(3, 3, padding="same", trainable=False)(inputs)
    y = layers.BatchNormalization(trainable=False)(y)
    model = keras.Model(inputs, layers.Dense(2)(inner(y)))
    converted = to_aw(model)
    assert [v.trainable for v in converted._flatten_layers()] == [
        v.trainable for v in model._flatten_layers()
    ]
    trained = {v.path for v in converted.trainable_variables}
    assert {path.split("/")[-1] for path in trained} == {
        *("kernel", "bias", "attention_reduce_kernel", "attention_reduce_bias"),
        *("attention_expand_kernel", "attention_expand_bias"),
    }
    assert len(trained) == 7


def test_fine_tuning_moves_the_expansion():
    """The gradient of the expansion is not zero at the identity."""
    model, x = small_cnn()
    converted = to_aw(model)
    assert not converted.compiled
    converted.compile(keras.optimizers.SGD(1e-3), "mse")
    target = np.zeros((len(x), *converted.output_shape[1:]), "float32")
    converted.train_on_batch(x, target)
    for layer in converted.layers:
        if isinstance(layer, AWConv2D):
            assert to_numpy(layer.attention_expand_kernel).any()


def test_compiled_models():
    """Nothing of the compilation is read: it may not be serializable."""
    model, x = small_cnn()
    model.compile("sgd", lambda y, z: keras.ops.mean(y - z))
    converted = to_aw(model)
    assert not converted.compiled
    assert model.compiled
    assert_same(outputs(converted, x), outputs(model, x))


def test_name():
    """Both models in one: their names have to differ."""
    model, x = small_cnn()
    converted = to_aw(model, name="converted")
    inputs = keras.Input((8, 8, 3))
    both = keras.Model(
        inputs, layers.subtract([model(inputs), converted(inputs)])
    )
    assert np.abs(outputs(both, x)).max() < 1e-4
    sequential = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3)])
    assert to_aw(sequential, name="converted").name == "converted"


def test_class_of_the_copy():
    class Network(keras.Model):
        def __init__(self, filters, **kwargs):
            inputs = keras.Input((8, 8, 3))
            super().__init__(inputs, layers.Conv2D(filters, 3)(inputs))
            self.filters = filters

    model = Network(4)
    x = draw(2, 8, 8, 3)
    converted = to_aw(model)
    assert type(converted) is type(small_cnn()[0])
    assert_same(outputs(converted, x), outputs(model, x))
    sequential = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3)])
    assert type(to_aw(sequential)) is keras.Sequential


class Unconfigured(keras.Model):
    def __init__(self, convolution=True, **kwargs):
        super().__init__(**kwargs)
        self.convolution = convolution
        self.inner = [layers.Conv2D(3, 3) if convolution else layers.Dense(3)]

    def call(self, x):
        return self.inner[0](x)


class Subclassed(Unconfigured):
    def get_config(self):
        return {**super().get_config(), "convolution": self.convolution}


def test_error_of_subclassed_models():
    model = Subclassed()
    model(draw(1, 5, 5, 3))
    for wrong in (model, layers.Conv2D(3, 3), None, "model"):
        with pytest.raises(ValueError, match="Expected `model`.*Received"):
            to_aw(wrong)


def test_nested_subclassed_models():
    """Left alone as long as none of their convolutions is chosen."""

    def network(inner):
        inputs = keras.Input((8, 8, 3))
        y = layers.Conv2D(3, 3, name="outer")(inputs)
        return randomise(keras.Model(inputs, inner(y)))

    x = draw(2, 8, 8, 3)
    model = network(Subclassed(convolution=False))
    assert_same(outputs(to_aw(model), x), outputs(model, x))
    model = network(Subclassed(convolution=True))
    assert_same(outputs(to_aw(model, "outer"), x), outputs(model, x))
    with pytest.raises(ValueError, match="Expected.*Received.*Subclassed"):
        to_aw(model)
    with pytest.raises(ValueError, match="`get_config`.*Unconfigured"):
        to_aw(network(Unconfigured(convolution=False)))


def test_layers_with_convolutions_inside_are_left_alone():
    inputs = keras.Input((8, 8, 3))
    y = Opaque()(layers.Conv2D(3, 3, name="outer")(inputs))
    model = randomise(keras.Model(inputs, y))
    converted = to_aw(model)
    assert sorted(classes(converted).values()) == ["AWConv2D", "Conv2D"]
    x = draw(2, 8, 8, 3)
    assert_same(outputs(converted, x), outputs(model, x))


def test_error_of_a_model_that_is_not_built():
    with pytest.raises(ValueError, match="Expected `model` to be built"):
        to_aw(keras.Sequential([layers.Conv2D(3, 3)]))


def test_error_of_lora():
    model, _ = small_cnn()
    model.get_layer("stem").enable_lora(2)
    with pytest.raises(ValueError, match="LoRA.*Received: layer=stem"):
        to_aw(model)
    to_aw(model, "last")


def test_error_of_quantization():
    model = keras.Sequential(
        [
            keras.Input((5, 5, 3)),
            layers.Conv2D(3, 3, name="stem", dtype="int8_from_float32"),
        ]
    )
    with pytest.raises(ValueError, match="quantization. Received: layer=stem"):
        to_aw(model)


@pytest.mark.parametrize(
    "arguments", [dict(reduction=0), dict(implementation="quick")]
)
def test_errors_of_arguments(arguments):
    with pytest.raises(ValueError, match="Received"):
        to_aw(small_cnn()[0], **arguments)


def convolution_layers():
    shared = dict(
        kernel_size=st.tuples(*[st.integers(1, 3)] * 2),
        padding=st.sampled_from(["same", "valid"]),
        use_bias=st.booleans(),
        activation=st.sampled_from([None, "relu", "tanh"]),
    )
    return st.one_of(
        st.builds(
            layers.Conv2D,
            st.sampled_from([2, 4]),
            groups=st.sampled_from([1, 2]),
            dilation_rate=st.integers(1, 2),
            **shared,
        ),
        st.builds(
            layers.DepthwiseConv2D,
            strides=st.integers(1, 2),
            depth_multiplier=st.integers(1, 2),
            **shared,
        ),
    )


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(st.lists(convolution_layers(), min_size=1, max_size=3))
def test_any_stack_of_convolutions(stack):
    model = randomise(keras.Sequential([keras.Input((17, 18, 4)), *stack]))
    x = draw(2, 17, 18, 4)
    converted = to_aw(model, lambda layer: True)
    assert {type(layer) for layer in converted.layers} <= {
        *(AWConv2D, AWDepthwiseConv2D)
    }
    assert_same(outputs(converted, x), outputs(model, x))
