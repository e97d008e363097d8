"""The attention maps that a network computes for images."""

import keras
import numpy as np

from aw_keras import convert


def kernel_attention(model, images, *, batch_size=32):
    """The attention maps of every AW-convolution, for every image.

    The model is copied and the copy runs eagerly; the model is not changed.
    The maps of one image take as much memory as the kernels of the model's
    AW-convolutions.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from aw_keras import AWConv2D
    >>> from aw_keras.explain import kernel_attention
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), AWConv2D(4, 3, name="stem")]
    ... )
    >>> attention = kernel_attention(model, np.ones((2, 8, 8, 3)))
    >>> attention["stem"].shape
    (2, 3, 3, 3, 4)

    Args:
        model: A functional model or a built `keras.Sequential` with `AWConv2D`
            or `AWDepthwiseConv2D` layers, also in nested models.
        images: What the model takes, preprocessed: an array, or for several
            inputs a list or dict of arrays.
        batch_size: Integer, images per batch.

    Returns:
        A dict from the name of a layer, in the order of the model, to an array
        `(N, h, w, Ck, C2)` in (0, 1).

    Raises:
        ValueError: If the model is subclassed or not built, if it has no
            AW-convolution, two of the same name, one that is called more than
            once, or one in a nested subclassed model or with LoRA, or if the
            images do not fit.

    Reference:
        [An Attention Module for Convolutional Neural Networks](
        https://arxiv.org/abs/2108.08205)
    """
    layers = convert.attentional_layers(model)
    batches = convert.Batches(model, images, batch_size)
    maps = {layer: [] for layer in layers}
    receivers = {layer: maps[layer].append for layer in layers}
    convert.record_attention(model, receivers, batches)
    count = sum(len(keras.tree.flatten(inputs)[0]) for inputs in batches)
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names) or any(
        len(found) != count for found in maps.values()
    ):
        raise ValueError(
            "Expected AW-convolutions of different names, each called once. "
            f"Received: model={model.name} with {names}"
        )
    if not count:
        raise ValueError("Expected at least one image. Received: none")
    return {layer.name: np.stack(found) for layer, found in maps.items()}


def by_class(attention, labels):
    """The mean attention of every class, to be compared and drawn like images.

    Example:

    >>> import numpy as np
    >>> from aw_keras.explain import by_class
    >>> maps = np.arange(4.0).reshape(4, 1, 1, 1, 1)
    >>> classes, attention = by_class({"stem": maps}, [7, 3, 7, 3])
    >>> classes, attention["stem"].ravel()
    ([3, 7], array([2., 1.]))

    Args:
        attention: What `kernel_attention` returns.
        labels: The class of every image, `(N,)`: numbers or names.

    Returns:
        `(classes, attention)`: the sorted classes, and a dict from the name of
        a layer to an array `(classes, h, w, Ck, C2)`.

    Raises:
        ValueError: If there is not a label for every image.
    """
    labels = np.asarray(labels)
    count = len(next(iter(attention.values())))
    if labels.shape != (count,):
        raise ValueError(
            f"Expected `labels` of the shape ({count},), one for each image. "
            f"Received: labels.shape={labels.shape}"
        )
    classes = np.unique(labels)
    means = {
        name: np.stack([maps[labels == c].mean(axis=0) for c in classes])
        for name, maps in attention.items()
    }
    return classes.tolist(), means


def variation(attention):
    """How much the attention of every layer varies over images.

    Example:

    >>> import numpy as np
    >>> from aw_keras.explain import variation
    >>> maps = np.array([0.4, 0.6]).reshape(2, 1, 1, 1, 1)
    >>> variation({"stem": maps}).round(2)
    array([0.1])

    Args:
        attention: What `kernel_attention` returns.

    Returns:
        Array `(layers,)`: the standard deviation over images, as the root mean
        square over the elements of the kernel.
    """
    return np.array(
        [np.sqrt(np.mean(np.var(maps, axis=0))) for maps in attention.values()]
    )


def distances(attention):
    """How far the attention of every image is from the mean over images.

    Args:
        attention: What `kernel_attention` returns.

    Returns:
        Array `(N, layers)`: root mean squares over the elements of the kernel.
    """
    columns = []
    for maps in attention.values():
        squares = np.square(maps - maps.mean(axis=0))
        columns.append(np.sqrt(squares.mean(axis=tuple(range(1, maps.ndim)))))
    return np.stack(columns, axis=1)
