"""Grad-CAM: where in an image the evidence for a class is."""

import collections
import itertools

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
            passes, also in nested models. Defaults to the last one: the last
            stage.
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
        maps = ops.stop_gradient(body(batch))
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
    levels = _levels(model, name)
    try:
        body, neck, last = _body(levels), *_neck(levels)
    except ValueError as error:
        raise ValueError(
            "Expected a `layer` that every way through the model passes. "
            f"Received: layer={name}"
        ) from error

    def score(maps):
        outputs = ops.cast(_applied(neck, maps), "float32")
        if last is None:
            return outputs
        # Without the activation: a softmax mixes the classes.
        scores = ops.matmul(outputs, ops.cast(last.kernel, "float32"))
        return (
            scores + ops.cast(last.bias, "float32") if last.use_bias else scores
        )

    return lambda images: _applied(body, images), score


def _applied(parts, x):
    """What models compute one after the other."""
    for part in parts:
        x = part(x, training=False)
    return x


def _levels(model, name):
    """Where the maps are: pairs of a model and a tensor in it.

    The tensor of the last pair is the output of the layer, or the maps nearest
    to the model's output; those before are the outputs of nested models, each
    in the model around it.
    """
    found = _all_maps(model)
    if not found or name not in (None, *found):
        raise ValueError(
            "Expected `layer` to be one of the layers of the model that have "
            f"maps, {list(found)}. Received: layer={name}"
        )
    return found[name or next(iter(found))]


def _all_maps(model):
    """Dict from the names of layers with maps, the last first, to levels."""
    maps, seen = {}, set()
    tensors = collections.deque(model.outputs)
    while tensors:
        tensor = tensors.popleft()
        layer = tensor._keras_history.operation
        if layer in seen or not _inputs(tensor):
            continue
        seen.add(layer)
        tensors.extend(_inputs(tensor))
        if len(tensor.shape) == 4:
            maps.setdefault(layer.name, [(model, tensor)])
        if _is_chain(layer):
            for inner, levels in _all_maps(layer).items():
                maps.setdefault(inner, [(model, tensor), *levels])
    return maps


def _is_chain(layer):
    """Whether it is a model in which tensors can be followed."""
    ends = [getattr(layer, end, None) or [] for end in ("inputs", "outputs")]
    return isinstance(layer, keras.Model) and [*map(len, ends)] == [1, 1]


def _body(levels):
    """Models that one after the other compute the maps from images."""
    *around, (model, maps) = levels
    parts = [
        _between(outer.inputs[0], _inputs(tensor)[0])
        for outer, tensor in around
    ]
    return [*itertools.chain(*parts), *_between(model.inputs[0], maps)]


def _neck(levels):
    """Models from the maps to what the scores are of, and the last layer.

    The layer is a `Dense`, which the models leave out, or `None`.
    """
    (model, tensor), *inner = levels
    (output,) = model.outputs
    if inner and tensor is output:  # The nested model has the last word.
        return _neck(inner)
    parts = [
        part
        for nested, maps in reversed(inner)
        for part in _between(maps, nested.outputs[0])
    ]
    return _before_last(parts, tensor, output)


def _before_last(parts, start, output):
    """`_neck`, with models to put before it, where no maps are nested."""
    last = output._keras_history.operation
    if type(last) is keras.layers.Dense:
        return [*parts, *_between(start, _inputs(output)[0])], last
    if start is not output and _is_chain(last):
        parts = [*parts, *_between(start, _inputs(output)[0])]
        return _before_last(parts, last.inputs[0], last.outputs[0])
    return [*parts, *_between(start, output)], None


def _between(start, end):
    """A list of the model from one tensor to another; empty for the same."""
    return [] if start is end else [keras.Model(start, end)]


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
        for layer in model._flatten_layers()
        if hasattr(layer, "data_format")
    ]
    default = keras.config.image_data_format()
    return (formats or [default])[0] == "channels_first"
