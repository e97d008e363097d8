"""The attention layers: values, gradients, files, policies, errors."""

import dataclasses
import functools
import math
from collections.abc import Callable

import keras
import numpy as np
import pytest
from absl.testing import parameterized
from keras.src.testing import TestCase

from aw_keras.layers import (
    CBAM,
    DualAttention,
    EfficientChannelAttention,
    GatherExcite,
    NonLocal,
    SpatialChannelAttention,
    SpatialSoftmaxAttention,
    SqueezeExcite,
)
from tests.backends import (
    BACKEND,
    assert_close,
    cotangent,
    enable_float64,
    rounded,
    run,
    to_numpy,
    value_and_gradients,
)
from tests.layers import attention_reference
from tests.reference import (
    channels_last,
    numerical_gradients,
    restore_format,
)


def by_name(function, **settings):
    """A reference that takes the layer's weights by their names."""

    def reference(x, weights):
        return function(x, **settings, **dict(weights))

    return reference


def gather_excite_reference(extent):
    """The reference for `gather1_conv`, `gather1_norm`, ... in this order."""

    def reference(x, weights):
        values = [value for _, value in weights]
        count = len(values) // 5
        # Trainable ones come first: kernel, gamma and beta of every step.
        trainable, statistics = values[: 3 * count], values[3 * count :]
        norms = [
            (*trainable[3 * i + 1 : 3 * i + 3], *statistics[2 * i : 2 * i + 2])
            for i in range(count)
        ]
        return attention_reference.parametrised_gather_excite(
            x, extent, trainable[::3], norms
        )

    return reference


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer with arguments, and what it should return."""

    layer: type
    reference: Callable
    arguments: dict = dataclasses.field(default_factory=dict)
    normalises: bool = False
    convolves: bool = False  # in the format of the input

    def make(self, **arguments):
        return self.layer(**self.arguments, **arguments)

    def expected(self, layer, x):
        """The reference's output for the layer's weights."""
        weights = [
            *((v.name, to_numpy(v)) for v in layer.trainable_weights),
            *((v.name, to_numpy(v)) for v in layer.non_trainable_weights),
        ]
        y = self.reference(channels_last(x, layer.data_format), weights)
        return restore_format(y, layer.data_format)


CASES = {
    "se": Case(
        SqueezeExcite,
        by_name(attention_reference.squeeze_excite),
        dict(reduction=2),
    ),
    "se_one_unit": Case(
        SqueezeExcite,
        by_name(attention_reference.squeeze_excite),
        dict(reduction=64),
    ),
    "cbam": Case(
        CBAM,
        by_name(attention_reference.cbam),
        dict(reduction=2),
        normalises=True,
    ),
    "cbam_kernel": Case(
        CBAM,
        by_name(attention_reference.cbam),
        dict(reduction=4, kernel_size=(3, 2)),
        normalises=True,
    ),
    "eca": Case(
        EfficientChannelAttention,
        by_name(attention_reference.efficient_channel_attention),
    ),
    "eca_kernel": Case(
        EfficientChannelAttention,
        by_name(attention_reference.efficient_channel_attention),
        dict(kernel_size=7),
    ),
    "gather_excite": Case(
        GatherExcite, by_name(attention_reference.gather_excite)
    ),
    "gather_excite_2": Case(
        GatherExcite,
        by_name(attention_reference.gather_excite, extent=2),
        dict(extent=2),
    ),
    "gather_excite_4": Case(
        GatherExcite,
        by_name(attention_reference.gather_excite, extent=4),
        dict(extent=4),
    ),
    "gather_excite_parametrised": Case(
        GatherExcite,
        gather_excite_reference(0),
        dict(parametrised=True),
        normalises=True,
        convolves=True,
    ),
    "gather_excite_parametrised_4": Case(
        GatherExcite,
        gather_excite_reference(4),
        dict(extent=4, parametrised=True),
        normalises=True,
        convolves=True,
    ),
    "non_local": Case(
        NonLocal, by_name(attention_reference.non_local), normalises=True
    ),
    "non_local_subsampled": Case(
        NonLocal,
        by_name(attention_reference.non_local, subsample=True),
        dict(inner_channels=3, subsample=True),
        normalises=True,
    ),
    "non_local_dot_product": Case(
        NonLocal,
        by_name(
            attention_reference.non_local, mode="dot_product", subsample=True
        ),
        dict(mode="dot_product", subsample=True),
        normalises=True,
    ),
    "dual": Case(DualAttention, by_name(attention_reference.dual_attention)),
    "sca": Case(
        SpatialChannelAttention,
        by_name(attention_reference.spatial_channel_attention),
        dict(reduction=2),
    ),
    "spatial_softmax": Case(
        SpatialSoftmaxAttention,
        by_name(attention_reference.spatial_softmax_attention),
    ),
    "spatial_softmax_literal": Case(
        SpatialSoftmaxAttention,
        by_name(attention_reference.spatial_softmax_attention, rescale=False),
        dict(kernel_size=(1, 1), rescale=False),
    ),
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

#: What the registry's names stand for, with the arguments that matter.
LAYERS = {
    name: CASES[name]
    for name in (
        *("se", "cbam", "eca", "gather_excite", "gather_excite_4"),
        *("gather_excite_parametrised_4", "non_local", "dual", "sca"),
        "spatial_softmax",
    )
}

every_layer = pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)


def draw(*shape):
    return np.random.default_rng(23).normal(size=shape)


def randomise(layer):
    """The same weights under every backend, none zero, variances positive."""
    generator = np.random.default_rng(31)
    for variable in layer.weights:
        values = generator.uniform(-1, 1, size=variable.shape)
        if variable.name == "moving_variance":
            values = 1 + values / 2
        variable.assign(values)


def randomised(layer, input_shape):
    layer.build(input_shape)
    randomise(layer)
    return layer


def output(layer, x):
    """The layer's output, of its compute dtype, as float64 NumPy."""

    def call(x):
        y = layer(x)
        assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
        return y

    return run(call, x, dtype=layer.compute_dtype)


def trainable_gradients(layer, x):
    """Output in inference, gradients of `x` and of the trainable weights."""
    statistics = [v.value for v in layer.non_trainable_variables]

    def outputs(x, *weights):
        return layer.stateless_call(list(weights), statistics, x)[0]

    return value_and_gradients(
        outputs,
        x,
        *(to_numpy(v) for v in layer.trainable_weights),
        dtype=layer.compute_dtype,
    )


class KerasChecklist(TestCase):
    """Keras' own test of a layer."""

    @parameterized.named_parameters(
        (name, case)
        for name, case in LAYERS.items()
        if name != "gather_excite"  # of which there is nothing to train
    )
    def test_layer(self, case):
        weights = case.make()
        weights.build((3, 7, 6, 8))
        self.run_layer_test(
            case.layer,
            init_kwargs=case.arguments,
            input_shape=(3, 7, 6, 8),
            expected_output_shape=(3, 7, 6, 8),
            expected_num_trainable_weights=len(weights.trainable_weights),
            expected_num_non_trainable_weights=len(
                weights.non_trainable_weights
            ),
            expected_num_seed_generators=0,
            expected_num_losses=0,
            supports_masking=False,
            # The gradients' test compiles under JAX, not under TensorFlow.
            run_training_check=case.normalises or BACKEND == "tensorflow",
            run_mixed_precision_check=False,  # see test_mixed_policies
        )


@every_case
def test_output_and_gradients_are_those_of_the_reference(case):
    """Gradients of the input and of every trainable weight, in inference."""
    x = rounded(draw(2, 4, 5, 4), "float32")
    # PyTorch's float64 convolution on the CPU has no gradient of a kernel
    # with one output channel.
    float32 = BACKEND == "torch" and case.layer is CBAM
    with enable_float64():
        layer = case.make(dtype="float32" if float32 else "float64")
        randomised(layer, x.shape)
        y, gradients = trainable_gradients(layer, x)
    # Keras' own batch normalisation rounds float64.
    precision = "float32" if case.normalises else "float64"
    assert_close(y, case.expected(layer, x), precision)

    names = [v.name for v in layer.trainable_weights]
    statistics = [(v.name, to_numpy(v)) for v in layer.non_trainable_weights]

    def reference(x, *weights):
        return case.reference(x, [*zip(names, weights), *statistics])

    expected = numerical_gradients(
        reference,
        [x, *(to_numpy(v) for v in layer.trainable_weights)],
        cotangent(y.shape),
    )
    for name, actual, gradient in zip(
        ["input", *names], gradients, expected, strict=True
    ):
        assert np.any(gradient), name
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(
            actual, gradient, rtol=0, atol=1e-5 * scale, err_msg=name
        )


@every_layer
def test_channels_first(case):
    if BACKEND == "tensorflow" and case.convolves:
        pytest.skip("No channels-first convolution on TensorFlow's CPU.")
    x = rounded(draw(3, 8, 7, 6), "float32")
    layer = randomised(case.make(data_format="channels_first"), x.shape)
    assert layer.compute_output_shape(x.shape) == x.shape
    assert_close(output(layer, x), case.expected(layer, x), "float32")


@pytest.mark.parametrize(
    "layer, reached",
    [
        (NonLocal, {"gamma", "beta"}),
        (DualAttention, {"position_scale", "channel_scale"}),
    ],
)
def test_identity_at_the_start(layer, reached):
    """The first step changes what the zero does not block."""
    x = rounded(draw(2, 7, 6, 8), "float32")
    layer = layer()
    np.testing.assert_array_equal(to_numpy(layer(x, training=True)), x)
    _, (_, *gradients) = trainable_gradients(layer, x)
    assert reached == {
        v.name
        for v, gradient in zip(layer.trainable_weights, gradients)
        if np.any(gradient)
    }


@pytest.mark.parametrize(
    "case",
    [case for case in LAYERS.values() if case.normalises],
    ids=[name for name, case in LAYERS.items() if case.normalises],
)
def test_statistics_follow_the_data_in_training_only(case):
    x = draw(4, 8, 8, 8).astype("float32")
    layer = randomised(case.make(), x.shape)
    before = [to_numpy(v) for v in layer.non_trainable_weights]
    layer(x, training=False)
    for variable, value in zip(layer.non_trainable_weights, before):
        np.testing.assert_array_equal(to_numpy(variable), value)
    layer(x, training=True)
    for variable, value in zip(layer.non_trainable_weights, before):
        assert np.all(to_numpy(variable) != value), variable.path


@every_layer
def test_every_size_in_one_model_and_its_file(case, tmp_path):
    """Unknown batch, height and width; the same after a round trip."""
    inputs = keras.Input((None, None, 8))
    layer = case.make(name="attention")
    outputs = layer(inputs)
    assert tuple(outputs.shape) == (None, None, None, 8)
    randomise(layer)
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("attention").get_config() == layer.get_config()
    for saved, restored in zip(model.weights, loaded.weights, strict=True):
        assert saved.path == restored.path
        np.testing.assert_array_equal(to_numpy(saved), to_numpy(restored))
    for size in [(2, 9, 7), (3, 1, 1)]:
        x = draw(*size, 8).astype("float32")
        y = loaded.predict(x, verbose=0)
        assert_close(y, case.expected(layer, x), "float32")


@every_layer
def test_empty_batch(case):
    assert output(case.make(), np.zeros((0, 7, 6, 8))).shape == (0, 7, 6, 8)


@pytest.mark.parametrize("compute", ["float16", "bfloat16"])
@every_layer
def test_mixed_policies(case, compute):
    """Float32 weights, 16-bit output, and no rounding in between."""
    x = rounded(draw(3, 7, 6, 8), compute)
    layer = case.make(dtype=f"mixed_{compute}")
    randomised(layer, x.shape)
    assert {v.dtype for v in layer.weights} <= {"float32"}
    # The convolutions that gather round by themselves.
    factor = 8 if case.convolves else 2
    y = output(layer, x)
    assert_close(y, case.expected(layer, x), compute, factor=factor)
    symbolic = layer(keras.KerasTensor((None, 7, 6, 8), dtype=compute))
    assert symbolic.dtype == compute


@pytest.mark.parametrize(
    "name",
    [
        *("se", "cbam", "gather_excite_4", "non_local", "dual", "sca"),
        "spatial_softmax_literal",
    ],
)
def test_large_float16_activations(name):
    """A sum over one of these maps is far beyond 65504."""
    case = CASES[name]
    x = np.broadcast_to(np.linspace(1e4, 2e4, 8), (2, 32, 32, 8))
    x = rounded(x, "float16")
    layer = case.make(dtype="mixed_float16")
    layer.build(x.shape)
    y = output(layer, x)
    assert_close(y, case.expected(layer, x), "float16", factor=2)


NORM = ("gamma", "beta", "moving_mean", "moving_variance")

WEIGHTS = {
    "se": {
        "reduce_kernel": (8, 4),
        "reduce_bias": (4,),
        "expand_kernel": (4, 8),
        "expand_bias": (8,),
    },
    "cbam": {
        "reduce_kernel": (8, 4),
        "reduce_bias": (4,),
        "expand_kernel": (4, 8),
        "expand_bias": (8,),
        "spatial_kernel": (7, 7, 2, 1),
        **{f"norm/{name}": (1,) for name in NORM},
    },
    "eca": {"kernel": (3, 1, 1)},
    "gather_excite": {},
    "gather_excite_parametrised": {
        "gather1_conv/kernel": (7, 6, 8, 1),
        **{f"gather1_norm/{name}": (8,) for name in NORM},
    },
    "gather_excite_parametrised_4": {
        "gather1_conv/kernel": (3, 3, 8, 1),
        **{f"gather1_norm/{name}": (8,) for name in NORM},
        "gather2_conv/kernel": (3, 3, 8, 1),
        **{f"gather2_norm/{name}": (8,) for name in NORM},
    },
    "non_local": {
        "theta_kernel": (8, 4),
        "phi_kernel": (8, 4),
        "g_kernel": (8, 4),
        "out_kernel": (4, 8),
        **{f"norm/{name}": (8,) for name in NORM},
    },
    "dual": {
        "query_kernel": (8, 1),
        "query_bias": (1,),
        "key_kernel": (8, 1),
        "value_kernel": (8, 8),
        "value_bias": (8,),
        "position_scale": (),
        "channel_scale": (),
    },
    "sca": {
        "channel_kernel": (1, 4),
        "channel_bias": (4,),
        "channel_score_kernel": (4, 1),
        "spatial_kernel": (8, 4),
        "spatial_bias": (4,),
        "spatial_score_kernel": (4, 1),
    },
    "spatial_softmax": {"kernel": (3, 3, 8, 8)},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name):
    """Names, order and shapes, which files depend on."""
    layer = CASES[name].make(name="attention")
    layer.build((None, 7, 6, 8))
    shapes = {
        v.path.removeprefix("attention/"): tuple(v.shape) for v in layer.weights
    }
    assert list(shapes.items()) == list(WEIGHTS[name].items())


#: Of a ResNet-50 and -101: parameters, with batch normalisation but without
#: biases of convolutions, and the number of blocks by their channels.
RESNETS = {
    50: (25_557_032, {256: 3, 512: 4, 1024: 6, 2048: 3}),
    101: (44_549_160, {256: 3, 512: 4, 1024: 23, 2048: 3}),
}


@functools.cache
def trainable_parameters(layer, channels):
    layer = layer()
    layer.build((None, None, None, channels))
    return sum(math.prod(v.shape) for v in layer.trainable_weights)


@pytest.mark.parametrize(
    "layer, depth, total, published",
    [
        (SqueezeExcite, 50, 28_088_024, 28.09),
        (SqueezeExcite, 101, 49_326_872, 49.33),
        (CBAM, 50, 28_089_624, 28.09),
    ],
)
def test_published_number_of_parameters(layer, depth, total, published):
    parameters, blocks = RESNETS[depth]
    parameters += sum(
        count * trainable_parameters(layer, channels)
        for channels, count in blocks.items()
    )
    assert parameters == total
    assert round(parameters / 1e6, 2) == published


@pytest.mark.parametrize(
    "channels, size",
    [(1, 1), (4, 1), (16, 3), (64, 3), (128, 5), (512, 5), (2048, 7)],
)
def test_adaptive_kernel_size_of_eca(channels, size):
    layer = EfficientChannelAttention()
    layer.build((None, None, None, channels))
    assert tuple(layer.kernel.shape) == (size, 1, 1)


def test_spatial_softmax_keeps_the_scale():
    """Each map has the mean 1, or the sum 1 in the literal form."""
    x = np.ones((2, 6, 5, 8), "float32")
    for rescale, total in ((True, 30), (False, 1)):
        layer = SpatialSoftmaxAttention(rescale=rescale)
        attention = to_numpy(layer(x))
        np.testing.assert_allclose(attention.sum((1, 2)), total, rtol=1e-5)
        assert attention.std() > 0


@every_case
def test_config(case):
    layer = case.make(
        name="attention", data_format="channels_first", dtype="mixed_bfloat16"
    )
    config = layer.get_config()
    assert config == {**config, **case.arguments}
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is case.layer
    assert copy.get_config() == config
    assert copy.dtype_policy.name == "mixed_bfloat16"


ARGUMENT_ERRORS = [
    (SqueezeExcite, dict(reduction=0)),
    (SqueezeExcite, dict(reduction=1.5)),
    (SqueezeExcite, dict(reduction="16")),
    (CBAM, dict(reduction=-1)),
    (CBAM, dict(kernel_size=0)),
    (CBAM, dict(kernel_size=(3, 3, 3))),
    (EfficientChannelAttention, dict(kernel_size=4)),
    (EfficientChannelAttention, dict(kernel_size=-3)),
    (EfficientChannelAttention, dict(kernel_size=3.0)),
    (GatherExcite, dict(extent=3)),
    (GatherExcite, dict(extent=1)),
    (GatherExcite, dict(extent=-2)),
    (GatherExcite, dict(extent=None)),
    (GatherExcite, dict(parametrised="yes")),
    (NonLocal, dict(inner_channels=0)),
    (NonLocal, dict(mode="gaussian")),
    (NonLocal, dict(subsample=2)),
    (SpatialChannelAttention, dict(reduction=None)),
    (SpatialSoftmaxAttention, dict(kernel_size="3x3")),
    (SpatialSoftmaxAttention, dict(rescale=None)),
]


@pytest.mark.parametrize("layer, arguments", ARGUMENT_ERRORS)
def test_errors_of_arguments(layer, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"(?s)Expected.*Received: {name}="):
        layer(**arguments)


@every_layer
def test_errors_of_inputs(case):
    with pytest.raises(ValueError, match="Received: data_format=NHWC"):
        case.make(data_format="NHWC")
    with pytest.raises(ValueError, match="(?i)expected.*ndim"):
        case.make()(np.zeros((4, 5, 8), "float32"))
    with pytest.raises(ValueError, match="Expected.*rank 4"):
        case.make().build((4, 5, 8))
    with pytest.raises(ValueError, match="Expected.*known number of channels"):
        case.make()(keras.Input((5, 5, None)))
    with pytest.raises(ValueError, match="Expected.*known number of channels"):
        case.make(data_format="channels_first")(keras.Input((None, 5, 5)))
    layer = case.make()
    layer.build((None, 7, 6, 8))
    with pytest.raises(ValueError, match="(?i)expected"):
        layer(np.zeros((1, 7, 6, 4), "float32"))


def test_gathering_over_the_whole_map_needs_its_size():
    layer = GatherExcite(parametrised=True)
    with pytest.raises(ValueError, match="Expected a known height and width"):
        layer(keras.Input((None, 5, 8)))
