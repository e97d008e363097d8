"""What the attention of each layer is worth: accuracy without it."""

import dataclasses

import keras
import numpy as np

from aw_keras import convert


@dataclasses.dataclass(frozen=True)
class AblatedLayer:
    """What became of a model when one layer's attention was fixed.

    Attributes:
        name: Name of the layer.
        deviation: Standard deviation of its attention over samples, as the
            root mean square over the elements of the kernel.
        accuracy: Accuracy, from 0 to 1, with the mean attention in its place.
    """

    name: str
    deviation: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Ablation:
    """The accuracies that `ablate` measured; `str` gives a table.

    Attributes:
        layers: An `AblatedLayer` for every AW-convolution.
        samples: Number of samples in the data.
        accuracy: Accuracy of the model as it is, from 0 to 1.
        all_fixed: Accuracy with the mean attention in all the layers at once.
    """

    layers: tuple[AblatedLayer, ...]
    samples: int
    accuracy: float
    all_fixed: float

    def __str__(self):
        head = "mean attention in"
        width = max(len(head), *(len(x.name) for x in self.layers))
        rows = [
            *((x.name, f"{x.deviation:.4f}", x.accuracy) for x in self.layers),
            ("every layer", "", self.all_fixed),
        ]
        return "\n".join(
            [
                f"{head:{width}}  deviation  accuracy   change",
                *(
                    f"{name:{width}}  {deviation:>9}  {accuracy:8.4f}  "
                    f"{accuracy - self.accuracy:+7.4f}"
                    for name, deviation, accuracy in rows
                ),
                f"accuracy as it is: {self.accuracy:.4f} "
                f"({self.samples} samples)",
            ]
        )


def ablate(model, data, *, batch_size=32):
    """Accuracy of a classifier with the attention of its layers taken away.

    One AW-convolution at a time is replaced as `fold_attention` does it: by a
    plain convolution with the mean of its attention over the data. Where the
    accuracy falls, the network uses that this layer's attention depends on the
    image. Differences below `1 / sqrt(samples)` may be chance.

    The model is not changed. It runs over the data as often as it has such
    layers, and three times more.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from aw_keras import AWConv2D
    >>> from aw_keras.explain import ablate
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 3)),
    ...         AWConv2D(4, 3, attention_expand_initializer="zeros"),
    ...         keras.layers.GlobalAveragePooling2D(),
    ...     ]
    ... )
    >>> images = np.random.default_rng(0).normal(size=(6, 8, 8, 3))
    >>> ablation = ablate(model, (images, np.zeros(6)))
    >>> ablation.samples, ablation.accuracy == ablation.all_fixed
    (6, True)

    Args:
        model: A classifier as for `fold_attention`, whose one output is
            `(N, classes)`.
        data: A tuple `(images, labels)` of arrays; or a finite iterable of
            batches `(images, labels)` (`keras.utils.PyDataset`,
            `tf.data.Dataset`, a generator, ...). Labels are integers, `(N,)`
            or `(N, 1)`, or one-hot, `(N, classes)`.
        batch_size: Integer, samples per batch of arrays.

    Returns:
        An `Ablation`.

    Raises:
        ValueError: As `fold_attention` does, or if the model is no classifier
            or the data have no labels that fit.
    """
    _check_classifier(model)
    layers = convert.attentional_layers(model)
    if isinstance(data, tuple):
        data = _sliced(data, batch_size)
    batches = convert.Batches(model, data, batch_size)
    accuracy, samples = _accuracy(model, batches)
    moments = convert.attention_moments(model, layers, batches)

    def fixed(layers):
        chosen = {layer: moments[layer] for layer in layers}
        return _accuracy(convert.fold_layers(model, chosen), batches)[0]

    return Ablation(
        tuple(
            AblatedLayer(
                layer.name,
                float(np.sqrt(moments[layer].variance.mean())),
                fixed([layer]),
            )
            for layer in layers
        ),
        samples,
        accuracy,
        fixed(layers),
    )


def _check_classifier(model):
    shapes = [output.shape for output in getattr(model, "outputs", None) or []]
    if [len(shape) for shape in shapes] != [2]:
        raise ValueError(
            "Expected `model` to be a built classifier with one output "
            f"`(N, classes)`. Received: outputs of the shapes {shapes}"
        )


def _sliced(data, size):
    """The batches of arrays, as an iterator: a list would be inputs."""
    if len(data) != 2 or len(data[0]) != len(data[1]):
        raise ValueError(
            "Expected `data` to be `(images, labels)`, as many labels as "
            f"images. Received: lengths {[len(array) for array in data]}"
        )
    images, labels = data
    return iter(
        [
            (images[i : i + size], labels[i : i + size])
            for i in range(0, len(images), size)
        ]
    )


def _accuracy(model, batches):
    """The part of the samples that a model classifies right; their number."""
    right = samples = 0
    for inputs, targets in batches.with_targets():
        outputs = np.asarray(model.predict_on_batch(inputs))
        right += int((outputs.argmax(-1) == _labels(targets, outputs)).sum())
        samples += len(outputs)
    if not samples:
        raise ValueError("Expected at least one sample. Received: none")
    return right / samples, samples


def _labels(targets, outputs):
    labels = keras.ops.convert_to_numpy(targets[0]) if targets else np.empty(0)
    if labels.shape == outputs.shape and labels.shape[1] > 1:
        labels = labels.argmax(-1)
    labels = labels.reshape(-1)
    if labels.shape != outputs.shape[:1]:
        raise ValueError(
            "Expected `data` to have a label for every sample, an integer or "
            f"one-hot. Received: labels of the shapes "
            f"{[tuple(np.shape(target)) for target in targets]} for outputs "
            f"of the shape {outputs.shape}"
        )
    return labels
