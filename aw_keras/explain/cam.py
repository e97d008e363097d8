"""Grad-CAM: where in an image the evidence for a class is."""

import collections

import keras
import numpy as np
from keras import ops

from aw_keras.ops.validation import check_positive_integer


def grad_cam(model, images, classes=None, *, layer=None, batch_size=32):
    """Heat maps of the places that speak for a class.

    The maps of a layer are added up, weighted by the mean of the gradient of
    the class's score, before a softmax, with respect to each; what is negative
    becomes 0, and the largest value of every image 1.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from aw_keras.explain import grad_cam
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 3)),
    ...         keras.layers.Conv2D(4, 3, padding="same"),
    ...         keras.layers.GlobalAveragePooling2D(),
    ...         keras.layers.Dense(2, activation="softmax"),
    ...     ]
    ... )
    >>> grad_cam(model, np.ones((5, 8, 8, 3))).shape
    (5, 8, 8)

    Args:
        model: A functional model or a built `keras.Sequential` with one input
            of images and one output `(N, classes)`.
        images: Array of images as the model takes them, preprocessed.
        classes: Integers `(N,)`, a class for each image. Defaults to those
            that the model predicts.
        layer: Name of a layer with maps that every way through the model
            passes. Defaults to the last one: the last stage.
        batch_size: Integer, images per batch.

    Returns:
        Float32 array `(N, height, width)` from 0 to 1, of the size of the
        images; 0 everywhere if nothing in an image speaks for the class.

    Raises:
        ValueError: If the model, the images, the classes or the layer is not
            one of these.

    Reference:
        [Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization](https://arxiv.org/abs/1610.02391)
    """
    check_positive_integer("batch_size", batch_size)
    _check_model(model)
    images = np.asarray(images, keras.config.floatx())
    _check_images(images, model)
    body, score = _split(model, layer)
    heat = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        # Compiling the model would take longer than a few images do.
        maps = ops.stop_gradient(body(batch, training=False))
        if classes is None:
            chosen = ops.argmax(score(maps), axis=-1)
        else:
            chosen = np.asarray(classes)[start : start + batch_size]
            _check_classes(chosen, len(batch), model)
        chosen = ops.one_hot(chosen, model.outputs[0].shape[-1])
        gradient = _gradient(lambda x, c=chosen: ops.sum(score(x) * c), maps)
        heat.append(_weighted(maps, gradient, model, images.shape))
    return np.concatenate(heat)


def _check_model(model):
    inputs = getattr(model, "inputs", None) or []
    outputs = getattr(model, "outputs", None) or []
    if [len(tensor.shape) for tensor in inputs] != [4] or [
        len(tensor.shape) for tensor in outputs
    ] != [2]:
        raise ValueError(
            "Expected `model` to be a functional or built Sequential model "
            "with one input of images and one output `(N, classes)`. "
            f"Received: model={model}"
        )


def _check_images(images, model):
    shape = model.inputs[0].shape
    fits = images.ndim == 4 and all(
        wanted in (None, found) for wanted, found in zip(shape, images.shape)
    )
    if not fits or not len(images):
        raise ValueError(
            f"Expected `images` of the shape {shape}. "
            f"Received: images.shape={images.shape}"
        )


def _check_classes(classes, count, model):
    known = model.outputs[0].shape[-1]
    if (
        classes.shape != (count,)
        or not np.issubdtype(classes.dtype, np.integer)
        or not ((0 <= classes) & (classes < known)).all()
    ):
        raise ValueError(
            f"Expected `classes` to be an integer from 0 to {known - 1} for "
            f"each image. Received: classes={classes}"
        )


def _split(model, name):
    """The model up to a layer's maps, and the function from them to scores."""
    output = model.outputs[0]
    maps = _maps(output, name)
    last = output._keras_history.operation
    is_dense = type(last) is keras.layers.Dense
    try:
        body = keras.Model(model.inputs[0], maps)
        neck = keras.Model(maps, _inputs(output)[0] if is_dense else output)
    except ValueError as error:
        raise ValueError(
            "Expected a `layer` that every way through the model passes. "
            f"Received: layer={name}"
        ) from error

    def score(maps):
        outputs = ops.cast(neck(maps, training=False), "float32")
        if not is_dense:
            return outputs
        # Without the activation: a softmax mixes the classes.
        scores = ops.matmul(outputs, ops.cast(last.kernel, "float32"))
        return (
            scores + ops.cast(last.bias, "float32") if last.use_bias else scores
        )

    return body, score


def _maps(output, name):
    """The output of a layer, or the maps nearest to the model's output."""
    found = {}
    tensors = collections.deque([output])
    while tensors:
        tensor = tensors.popleft()
        layer = tensor._keras_history.operation.name
        if layer not in found:
            found[layer] = tensor
            tensors.extend(_inputs(tensor))
    maps = {
        layer: tensor
        for layer, tensor in found.items()
        if len(tensor.shape) == 4 and _inputs(tensor)
    }
    if not maps or name not in (None, *maps):
        raise ValueError(
            "Expected `layer` to be one of the layers of the model that have "
            f"maps, {list(maps)}. Received: layer={name}"
        )
    return maps[name or next(iter(maps))]


def _inputs(tensor):
    """The tensors that a tensor is computed from. `layer.input` would be those
    of the layer's first call, which in a Sequential model is another graph."""
    layer, node, _ = tensor._keras_history
    return layer._inbound_nodes[node].input_tensors


def _gradient(function, tensor):
    """The gradient of a scalar function of a tensor."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = function(tensor)
        return tape.gradient(value, tensor)
    if backend == "jax":
        import jax

        return jax.grad(function)(tensor)
    import torch

    tensor = tensor.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(function(tensor), tensor)
    return gradient


def _weighted(maps, gradient, model, shape):
    """Heat maps of the size of images, from maps and a gradient of them."""
    maps, gradient = (
        ops.cast(ops.stop_gradient(x), "float32") for x in (maps, gradient)
    )
    size = shape[1:3]
    if _channels_first(model):
        maps, gradient = (
            ops.transpose(x, (0, 2, 3, 1)) for x in (maps, gradient)
        )
        size = shape[2:]
    weights = ops.mean(gradient, axis=(1, 2), keepdims=True)
    heat = ops.relu(ops.sum(weights * maps, axis=-1, keepdims=True))
    heat = ops.image.resize(heat, size, data_format="channels_last")
    heat = ops.convert_to_numpy(heat)[..., 0]
    largest = heat.max(axis=(1, 2), keepdims=True)
    return heat / np.where(largest > 0, largest, 1)


def _channels_first(model):
    formats = [
        layer.data_format
        for layer in model.layers
        if hasattr(layer, "data_format")
    ]
    default = keras.config.image_data_format()
    return (formats or [default])[0] == "channels_first"
