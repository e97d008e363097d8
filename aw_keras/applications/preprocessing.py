"""From pixels to what networks expect, and from probabilities to names."""

import dataclasses

import numpy as np
from keras import backend, config, ops
from keras.applications import imagenet_utils

from aw_keras.applications.topology import check_choice
from aw_keras.ops.validation import standard_data_format
from aw_keras.weights.download import by_keras


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Normalisation of images with values from 0 to 255, as data.

    Attributes:
        channels: Order of the colour channels that the network sees.
        mean: What is subtracted, of each channel in that order.
        deviation: What the rest is divided by, of each channel.
    """

    channels: str
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


#: That of the networks that were trained with Caffe, and of
#: `keras.applications.resnet`.
IMAGENET = Preprocessing("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))

#: Mean and standard deviation of the 50,000 training images.
CIFAR = {
    "cifar10": Preprocessing(
        "RGB", (125.307, 122.950, 113.865), (62.993, 62.089, 66.705)
    ),
    "cifar100": Preprocessing(
        "RGB", (129.304, 124.070, 112.434), (68.170, 65.392, 70.418)
    ),
}

CIFAR_CLASSES = {
    "cifar10": (
        "airplane automobile bird cat deer dog frog horse ship truck"
    ).split(),
    "cifar100": (
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle "
        "bowl boy bridge bus butterfly camel can castle caterpillar cattle "
        "chair chimpanzee clock cloud cockroach couch crab crocodile cup "
        "dinosaur dolphin elephant flatfish forest fox girl hamster house "
        "kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
        "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid "
        "otter palm_tree pear pickup_truck pine_tree plain plate poppy "
        "porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
        "shrew skunk skyscraper snail snake spider squirrel streetcar "
        "sunflower sweet_pepper table tank telephone television tiger tractor "
        "train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
    ).split(),
}


def preprocess_imagenet(x, data_format=None):
    """Normalises images as the networks for ImageNet expect them.

    What `keras.applications.resnet.preprocess_input` does, without writing
    over `x`: the channels become blue, green and red, and the mean colour of
    ImageNet is subtracted.

    Example:

    >>> import keras
    >>> from aw_keras.applications import imagenet_resnet
    >>> image = keras.ops.zeros((1, 2, 2, 3))
    >>> round(float(imagenet_resnet.preprocess_input(image)[0, 0, 0, 2]), 2)
    -123.68

    Args:
        x: Array or tensor, one image or a batch, channels red, green and blue
            with values from 0 to 255.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.

    Returns:
        An array for an array, a tensor for a tensor, of the same shape. What
        is not floating becomes `keras.config.floatx()`.
    """
    return imagenet_utils.preprocess_input(
        _floating_copy(x), standard_data_format(data_format), mode="caffe"
    )


def decode_imagenet(preds, top=5):
    """Names the most probable classes of ImageNet.

    That of `keras.applications`, which downloads the names at the first call.

    Args:
        preds: Array or tensor `(batch, 1000)` of probabilities.
        top: Integer, number of classes for each image.

    Returns:
        For each image a list of `(WordNet id, name, probability)`, the most
        probable first.

    Raises:
        ValueError: If `preds` has another shape.
        ConnectionError: If the names cannot be downloaded.
    """
    with by_keras("the names of the classes of ImageNet"):
        return imagenet_utils.decode_predictions(preds, top)


def preprocess_cifar(x, data_format=None, dataset="cifar10"):
    """Normalises images as the networks for CIFAR expect them.

    Subtracts the mean colour of the training images and divides every channel
    by its standard deviation.

    Example:

    >>> import keras
    >>> from aw_keras.applications import cifar_resnet
    >>> image = keras.ops.full((1, 32, 32, 3), 255.0)
    >>> float(cifar_resnet.preprocess_input(image)[0, 0, 0, 0])
    2.05...

    Args:
        x: Array or tensor, one image or a batch, channels red, green and blue
            with values from 0 to 255.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        dataset: `"cifar10"` or `"cifar100"`, whose statistics are used.

    Returns:
        An array for an array, a tensor for a tensor, of the same shape. What
        is not floating becomes `keras.config.floatx()`.

    Raises:
        ValueError: If `dataset` or `data_format` is unknown.
    """
    check_choice("dataset", dataset, tuple(CIFAR))
    shape = (3, 1, 1)
    if standard_data_format(data_format) == "channels_last":
        shape = (3,)
    statistics = CIFAR[dataset]
    x = _floating_copy(x)
    mean, deviation = (
        np.reshape(values, shape).astype(backend.standardize_dtype(x.dtype))
        for values in (statistics.mean, statistics.deviation)
    )
    if isinstance(x, np.ndarray):
        return (x - mean) / deviation
    return ops.divide(ops.subtract(x, mean), deviation)


def decode_cifar(preds, top=5):
    """Names the most probable classes of CIFAR-10 or CIFAR-100.

    Example:

    >>> import keras
    >>> from aw_keras.applications import cifar_resnet
    >>> probabilities = keras.ops.one_hot([3], 10)
    >>> cifar_resnet.decode_predictions(probabilities, top=1)[0][0][:2]
    (3, 'cat')

    Args:
        preds: Array or tensor `(batch, 10)` or `(batch, 100)` of probabilities
            or logits.
        top: Integer, number of classes for each image.

    Returns:
        For each image a list of `(class index, name, probability)`, the most
        probable first.

    Raises:
        ValueError: If `preds` has another shape.
    """
    preds = ops.convert_to_numpy(preds)
    names = {len(names): names for names in CIFAR_CLASSES.values()}
    if preds.ndim != 2 or preds.shape[1] not in names:
        raise ValueError(
            "Expected `preds` to have the shape (batch, 10) or (batch, 100). "
            f"Received: preds.shape={preds.shape}"
        )
    names = names[preds.shape[1]]
    order = np.argsort(-preds, axis=1)[:, :top]
    return [
        [(int(i), names[i], float(row[i])) for i in best]
        for row, best in zip(preds, order)
    ]


def _floating_copy(x):
    if isinstance(x, np.ndarray):
        floating = np.issubdtype(x.dtype, np.floating)
        return x.astype(x.dtype if floating else config.floatx())
    if "float" in backend.standardize_dtype(x.dtype):
        return x
    return ops.cast(x, config.floatx())
