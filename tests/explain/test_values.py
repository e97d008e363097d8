"""Attention maps, Grad-CAM and ablation against NumPy and `fold_attention`."""

import keras
import numpy as np
import pytest
from keras import layers

from aw_keras import AWConv2D, explain, fold_attention
from aw_keras.explain import variation
from aw_keras.explain.attention import distances

CLASSES = 3


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).normal(size=(6, 8, 6, 3)).astype("float32")


@pytest.fixture(scope="module")
def model(images):
    """Of its two AW-convolutions, only `second` looks at the image.

    The weights are the same on every backend, and no class always wins.
    """
    model = keras.Sequential(
        [
            keras.Input((8, 6, 3)),
            AWConv2D(5, 3, name="first", attention_expand_initializer="zeros"),
            AWConv2D(4, 3, name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, name="scores"),
        ]
    )
    rng = np.random.default_rng(6)
    for weight in model.weights:
        if "first/attention_expand" not in weight.path:
            weight.assign(rng.normal(size=weight.shape))
    second = model.get_layer("second")
    second.attention_expand_kernel.assign(100 * second.attention_expand_kernel)
    bias = model.get_layer("scores").bias
    bias.assign(bias - model.predict_on_batch(images).mean(axis=0))
    return model


def predicted(model, images):
    return model.predict_on_batch(images).argmax(-1)


def test_kernel_attention_is_that_of_every_layer(model, images):
    attention = explain.kernel_attention(model, images, batch_size=4)
    assert list(attention) == ["first", "second"]
    first, second = model.layers[:2]
    assert np.all(attention["first"] == 0.5)
    expected = second.kernel_attention(first(images))
    np.testing.assert_allclose(
        attention["second"],
        keras.ops.convert_to_numpy(expected),
        rtol=1e-4,
        atol=1e-5,
    )


def test_kernel_attention_refuses_layers_that_are_called_twice(images):
    shared = AWConv2D(3, 3, padding="same")
    image = keras.Input((8, 6, 3))
    with pytest.raises(ValueError, match="each called once"):
        explain.kernel_attention(
            keras.Model(image, shared(shared(image))), images
        )


def test_kernel_attention_refuses_no_images(model, images):
    with pytest.raises(ValueError, match="at least one image"):
        explain.kernel_attention(model, images[:0])


def test_statistics_over_images():
    attention = {
        "a": np.array([1.0, 3.0, 5.0]).reshape(3, 1, 1, 1, 1),
        "b": np.zeros((3, 1, 1, 2, 1)),
    }
    np.testing.assert_allclose(variation(attention), [np.sqrt(8 / 3), 0])
    np.testing.assert_allclose(distances(attention), [[2, 0], [0, 0], [2, 0]])
    classes, means = explain.by_class(attention, ["y", "x", "y"])
    assert classes == ["x", "y"]
    assert means["a"].ravel().tolist() == [3, 3]
    with pytest.raises(ValueError, match="one for each image"):
        explain.by_class(attention, [1])


def expected_cam(maps, kernel, classes):
    """Grad-CAM where the head is global pooling and a dense layer."""
    heat = np.einsum("nhwk,kn->nhw", maps, kernel[:, classes])
    heat = np.maximum(heat, 0)
    largest = heat.max(axis=(1, 2), keepdims=True)
    return heat / np.where(largest > 0, largest, 1)


@pytest.mark.parametrize("activation", ["softmax", None])
def test_grad_cam(activation, images):
    model = keras.Sequential(
        [
            keras.Input((8, 6, 3)),
            AWConv2D(4, 3, padding="same", name="maps"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation),
        ]
    )
    maps = keras.ops.convert_to_numpy(model.layers[0](images))
    kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel)
    classes = predicted(model, images)
    np.testing.assert_allclose(
        explain.grad_cam(model, images, batch_size=4),
        expected_cam(maps, kernel, classes),
        atol=1e-5,
    )
    others = (classes + 1) % CLASSES
    np.testing.assert_allclose(
        explain.grad_cam(model, images, others, layer="maps"),
        expected_cam(maps, kernel, others),
        atol=1e-5,
    )


def test_grad_cam_with_channels_first(images):
    model = keras.Sequential(
        [
            keras.Input((3, 8, 6)),
            layers.Activation("relu"),
            layers.GlobalAveragePooling2D(data_format="channels_first"),
            layers.Dense(CLASSES),
        ]
    )
    first = images.transpose(0, 3, 1, 2)
    kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel)
    np.testing.assert_allclose(
        explain.grad_cam(model, first),
        expected_cam(np.maximum(images, 0), kernel, predicted(model, first)),
        atol=1e-5,
    )


def nested(images):
    """The parts of one classifier, flat and nested in several ways.

    Returns:
        The flat one, and a dict from the name of a way to a model.
    """
    backbone = [
        AWConv2D(4, 3, padding="same", name="stem"),
        layers.Conv2D(5, 3, strides=2, padding="same", name="maps"),
    ]
    neck = [layers.ReLU(), layers.GlobalAveragePooling2D()]
    head = [layers.Dense(CLASSES, "softmax")]

    def sequential(parts, shape):
        return keras.Sequential([keras.Input(shape), *parts])

    shape = images.shape[1:]
    flat = sequential([*backbone, *neck, *head], shape)
    body = sequential(backbone, shape)
    pooled = sequential([*backbone, *neck], shape)
    top = sequential([*neck, *head], body.output_shape[1:])
    image = keras.Input(shape)
    models = {
        "maps at the end": [body, *neck, *head],
        "maps inside": [pooled, *head],
        "the head is nested": [body, top],
        "all is nested": [flat],
        "twice": [sequential([body, *neck], shape), *head],
    }
    return flat, {
        **{kind: sequential(models[kind], shape) for kind in models},
        "functional": keras.Model(image, head[0](pooled(image))),
    }


def test_grad_cam_descends_into_nested_models(images):
    flat, models = nested(images)
    for layer in ("stem", "maps", None):
        expected = explain.grad_cam(flat, images, layer=layer)
        assert 0 < expected.mean() < 1
        for kind, model in models.items():
            found = explain.grad_cam(model, images, layer=layer)
            np.testing.assert_allclose(
                found, expected, atol=1e-5, err_msg=f"{kind}, {layer}"
            )
    with pytest.raises(ValueError, match="maps.*'stem'"):
        explain.grad_cam(models["twice"], images, layer="nothing")


def test_grad_cam_of_coarse_maps_through_a_head_without_dense(images):
    image = keras.Input((8, 6, 3))
    maps = layers.AveragePooling2D(2, name="coarse")(image)
    scores = layers.GlobalMaxPooling2D()(maps)
    heat = explain.grad_cam(keras.Model(image, scores), images, [0] * 6)
    # Only the largest pixel of channel 0 has a gradient: the map is channel 0.
    coarse = images[..., 0].reshape(6, 4, 2, 3, 2).mean(axis=(2, 4))
    assert heat.shape == (6, 8, 6)
    assert heat.min() == 0 and heat.max() == 1
    corners = np.maximum(coarse[:, 0, 0], 0) > 0
    assert ((heat[:, 0, 0] > 0) == corners).all()


def test_grad_cam_leaves_the_model_as_it_is(model, images):
    config, output = model.get_config(), predicted(model, images)
    explain.grad_cam(model, images)
    assert model.get_config() == config
    assert (predicted(model, images) == output).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "nothing"}, "have maps"),
        ({"classes": [CLASSES] * 6}, "integer from 0 to 2"),
        ({"classes": [0]}, "for each image"),
        ({"images": np.zeros((2, 8, 8, 3))}, "`images` of the shape"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_grad_cam_refuses(arguments, message, model, images):
    with pytest.raises(ValueError, match=message):
        explain.grad_cam(model, **{"images": images, **arguments})


def test_grad_cam_refuses_a_layer_with_a_way_around_it(images):
    image = keras.Input((8, 6, 3))
    branch = layers.Conv2D(3, 1, name="branch")(image)
    scores = layers.GlobalAveragePooling2D()(layers.Add()([image, branch]))
    with pytest.raises(ValueError, match="every way through the model"):
        explain.grad_cam(keras.Model(image, scores), images, layer="branch")


def test_ablation_finds_the_layer_that_matters(model, images):
    labels = predicted(model, images)
    plain, report = fold_attention(model, images)
    fixed = float(np.mean(predicted(plain, images) == labels))
    assert fixed < 1
    ablation = explain.ablate(model, (images, labels), batch_size=4)
    assert (ablation.samples, ablation.accuracy) == (6, 1.0)
    assert ablation.all_fixed == fixed
    assert [layer.name for layer in ablation.layers] == ["first", "second"]
    assert [layer.accuracy for layer in ablation.layers] == [1.0, fixed]
    assert [layer.deviation for layer in ablation.layers] == pytest.approx(
        [layer.deviation for layer in report.layers]
    )
    assert f"{fixed - 1:+.4f}" in str(ablation)


def test_ablation_takes_batches_with_one_hot_labels(model, images):
    labels = np.eye(CLASSES)[predicted(model, images)]
    labels[0] = np.roll(labels[0], 1)
    batches = ((images[i : i + 4], labels[i : i + 4]) for i in (0, 4))
    assert explain.ablate(model, batches).accuracy == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda x: x, "a label for every sample"),
        (lambda x: (x, np.zeros(5)), "as many labels as"),
        (lambda x: (x, np.zeros((6, 2))), "a label for every sample"),
    ],
)
def test_ablation_refuses(data, message, model, images):
    with pytest.raises(ValueError, match=message):
        explain.ablate(model, data(images))


def test_ablation_refuses_what_is_no_classifier(images):
    model = keras.Sequential([keras.Input((8, 6, 3)), AWConv2D(2, 3)])
    with pytest.raises(ValueError, match="classifier"):
        explain.ablate(model, (images, np.zeros(6)))
