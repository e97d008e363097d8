"""Data sets of TensorFlow Datasets by their name, as `zoo.data` has them."""

import functools

import numpy as np
import tensorflow_datasets as tfds

from aw_keras.applications import datasets
from zoo.data.dataset import Dataset, functions


def load(name, encoded):
    """Loads images and labels, and downloads them if need be.

    Args:
        name: Name of a data set of single images with single labels.
        encoded: Whether to leave the images to be read later. Their labels
            are read at once, which takes one pass over the files.

    Returns:
        A `zoo.data.dataset.Dataset`.

    Raises:
        FileNotFoundError: If there is no such data set.
        ValueError: If it is none of labelled images with a training and a
            test or validation split.
    """
    builder, image, label, class_names = _prepared(name, encoded)
    read = _encoded if encoded else _decoded
    arrays = []
    for split in ("train", _test_split(builder.info)):
        arrays += read(builder, split, image, label)
    return Dataset(class_names, *arrays)


def load_test(name):
    """The test split of a data set alone, encoded, as `load` has it."""
    builder, image, label, class_names = _prepared(name, encoded=True)
    test = _encoded(builder, _test_split(builder.info), image, label)
    return Dataset(class_names, functions([]), test[1][:0], *test)


def _prepared(name, encoded):
    """The builder of a data set, its keys and the names of its classes."""
    # Only this format can be read at any place.
    options = {"file_format": "array_record"} if encoded else {}
    try:
        builder = tfds.builder(name, **options)
    except ValueError as error:
        raise FileNotFoundError(
            "Expected `source` to be 'digits', the path of a folder or a tar "
            "archive, or a name of TensorFlow Datasets. "
            f"Received: source={name}"
        ) from error
    image, label, class_names = _keys(builder.info)
    builder.download_and_prepare()
    return builder, image, label, class_names


def _keys(info):
    image, label = info.supervised_keys or (None, None)
    features = dict(info.features.items())
    if not isinstance(
        features.get(image), tfds.features.Image
    ) or not isinstance(features.get(label), tfds.features.ClassLabel):
        raise ValueError(
            f"Expected images with one label each. Received: {info.name}"
        )
    return image, label, tuple(features[label].names)


def _test_split(info):
    known = datasets.find(info.name)
    named = [known.test_split] if known else []
    for candidate in (*named, "test", "validation"):
        if candidate in info.splits:
            return candidate
    raise ValueError(
        "Expected a split 'test' or 'validation'. "
        f"Received: {info.name} with {', '.join(info.splits)}"
    )


def _decoded(builder, split, image, label):
    pairs = builder.as_dataset(split=split, as_supervised=True)
    images, labels = zip(*tfds.as_numpy(pairs))
    if len({one.shape for one in images}) > 1:
        raise ValueError(
            "Expected images of one size; set `image_size` for others. "
            f"Received: {builder.info.name}"
        )
    return np.stack(images), np.array(labels, "int64")


def _encoded(builder, split, image, label):
    records = builder.as_data_source(
        split=split, decoders={image: tfds.decode.SkipDecoding()}
    )

    def read(place):
        return records[place][image]

    count = range(len(records))
    return (
        functions([functools.partial(read, place) for place in count]),
        np.array([records[place][label] for place in count], "int64"),
    )
