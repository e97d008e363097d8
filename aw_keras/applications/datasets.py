"""The data sets that networks were trained on, and all that is known of them.

Whatever needs the name, the classes, the statistics or the published figures
of a data set has them from here: a data set more is one entry more.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from keras import ops
from keras.applications import imagenet_utils

from aw_keras.choices import check_choice
from aw_keras.preprocessing import Preprocessing
from aw_keras.weights.download import by_keras


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What is known about a data set.

    Attributes:
        name: What the argument `weights` of networks calls it.
        label: What tables call it.
        classes: Number of its classes.
        preprocessing: `Preprocessing` of networks that are trained on it,
            unless their weights say otherwise.
        class_names: Names of the classes in the order of the labels; `None`
            if Keras has to download them.
        aliases: Other names that it goes by, such as that of TensorFlow
            Datasets.
        forms: Maps names of files that hold it in another form to what tables
            call that.
        test_split: Name of the split with labels to test on.
        published: Maps a network to the top-1 accuracy in percent that its
            paper states, on the original images.
    """

    name: str
    label: str
    classes: int
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    aliases: tuple[str, ...] = ()
    forms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    test_split: str = "test"
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)


#: Means and standard deviations are those of the 50,000 training images.
CIFAR10 = Dataset(
    name="cifar10",
    label="CIFAR-10",
    classes=10,
    preprocessing=Preprocessing(
        size=32,
        mean=(125.307, 122.950, 113.865),
        deviation=(62.993, 62.089, 66.705),
    ),
    class_names=tuple(
        "airplane automobile bird cat deer dog frog horse ship truck".split()
    ),
    forms={"cifar10-jpeg": "CIFAR-10 (JPEG)"},
    # He et al., Table 6; Huang et al., Table 2; Hu et al., Table 4.
    published={
        "ResNet20": 91.25,
        "ResNet32": 92.49,
        "ResNet44": 92.83,
        "ResNet56": 93.03,
        "ResNet110": 93.57,
        "SEResNet110": 94.79,
        "DenseNetBC100": 95.49,
        "DenseNetBC190": 96.54,
    },
)

CIFAR100 = Dataset(
    name="cifar100",
    label="CIFAR-100",
    classes=100,
    preprocessing=Preprocessing(
        size=32,
        mean=(129.304, 124.070, 112.434),
        deviation=(68.170, 65.392, 70.418),
    ),
    class_names=tuple(
        (
            "apple aquarium_fish baby bear beaver bed bee beetle bicycle "
            "bottle bowl boy bridge bus butterfly camel can castle caterpillar "
            "cattle chair chimpanzee clock cloud cockroach couch crab "
            "crocodile cup dinosaur dolphin elephant flatfish forest fox girl "
            "hamster house kangaroo keyboard lamp lawn_mower leopard lion "
            "lizard lobster man maple_tree motorcycle mountain mouse mushroom "
            "oak_tree orange orchid otter palm_tree pear pickup_truck "
            "pine_tree plain plate poppy porcupine possum rabbit raccoon ray "
            "road rocket rose sea seal shark shrew skunk skyscraper snail "
            "snake spider squirrel streetcar sunflower sweet_pepper table tank "
            "telephone television tiger tractor train trout tulip turtle "
            "wardrobe whale willow_tree wolf woman worm"
        ).split()
    ),
)

#: Preprocessed as for the networks that were trained with Caffe, and for
#: `keras.applications.resnet`.
IMAGENET = Dataset(
    name="imagenet",
    label="ImageNet",
    classes=1000,
    preprocessing=Preprocessing(
        size=224,
        crop=0.875,
        channels="BGR",
        mean=(103.939, 116.779, 123.68),
        deviation=(1.0, 1.0, 1.0),
    ),
    aliases=("imagenet2012",),
    # The one that is called so has no labels.
    test_split="validation",
)

#: By the name.
DATASETS = {dataset.name: dataset for dataset in (IMAGENET, CIFAR10, CIFAR100)}


def find(name):
    """The `Dataset` of a name or an alias, `None` if there is none."""
    for dataset in DATASETS.values():
        if name in (dataset.name, *dataset.aliases):
            return dataset
    return None


def class_names(name):
    """Names of the classes of a data set.

    Args:
        name: Key of `DATASETS`.

    Raises:
        ConnectionError: If they have to be downloaded and cannot be.
    """
    dataset = DATASETS[name]
    if dataset.class_names is not None:
        return dataset.class_names
    certain = np.eye(dataset.classes)
    return tuple(row[0][1] for row in decode_imagenet(certain, 1))


def label(name):
    """What tables call the data in a file of a name.

    Example:

    >>> label("cifar100"), label("imagenet2012"), label("pets")
    ('CIFAR-100', 'ImageNet', 'pets')
    """
    for dataset in DATASETS.values():
        if name in dataset.forms:
            return dataset.forms[name]
    dataset = find(name)
    return dataset.label if dataset else name


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
    return IMAGENET.preprocessing.normalise(x, data_format)


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
    check_choice("dataset", dataset, tuple(_CIFAR))
    return _CIFAR[dataset].preprocessing.normalise(x, data_format)


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
    names = {known.classes: known.class_names for known in _CIFAR.values()}
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


#: Those whose networks, classes and images are alike.
_CIFAR = {dataset.name: dataset for dataset in (CIFAR10, CIFAR100)}
