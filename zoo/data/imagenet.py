"""The images that networks for ImageNet are measured on, all or some.

Networks of all libraries number the classes alike: in the order of their
WordNet ids, which name the folders. A folder with some of the classes, or a few
images of each, has the labels of the whole.
"""

import pathlib
import re

import numpy as np

from aw_keras.applications.datasets import IMAGENET, decode_imagenet
from zoo.data import sources
from zoo.data.dataset import Dataset, functions

_ID = re.compile(r"n\d{8}")
_SPLITS = ("val", "validation", "valid", "test")


def load(source):
    """The validation images, encoded, with labels of all 1,000 classes.

    Args:
        source: Path of a folder or a tar archive with `<id>/<image>`, where
            `<id>` is a WordNet id such as `n01440764`, in a folder `val`,
            `validation`, `valid` or `test` if there are others; or the name of
            a data set of TensorFlow Datasets with such names of classes, such
            as `"imagenet2012"` or `"imagenet_v2"`.

    Returns:
        A `zoo.data.dataset.Dataset` without training images, whose classes
        are named by their ids.

    Raises:
        ConnectionError: If there are not all classes, and Keras has to
            download the list of all and cannot.
        FileNotFoundError: If there is no such folder or data set.
        ValueError: If there are no such images.
    """
    path = pathlib.Path(source)
    if path.exists():
        images, ids = _of_files(path)
    else:
        images, ids = _of_tfds(source)
    known = sorted({*ids})
    if len(known) != IMAGENET.classes:
        known = _all_ids()
    place = {name: index for index, name in enumerate(known)}
    if unknown := {*ids} - {*place}:
        raise ValueError(
            "Expected WordNet ids of the classes of ImageNet. Received: "
            f"{source} with {', '.join(sorted(unknown)[:5])}"
        )
    labels = np.array([place[name] for name in ids], "int64")
    return Dataset(
        tuple(known), functions([]), labels[:0], functions(images), labels
    )


def _all_ids():
    """The ids of the 1,000 classes, in their order."""
    certain = np.eye(IMAGENET.classes)
    return [row[0][0] for row in decode_imagenet(certain, 1)]


def _of_files(path):
    found = [
        (parts, read)
        for parts, read in sources.entries(path)
        if read and len(parts) > 1 and _ID.fullmatch(parts[-2])
    ]
    above = {parts[:-2] for parts, _ in found}
    splits = [split for split in _SPLITS if any(split in a for a in above)]
    if splits:
        found = [(p, read) for p, read in found if splits[0] in p[:-2]]
        above = {parts[:-2] for parts, _ in found}
    if len(above) != 1 or "train" in next(iter(above)):
        raise ValueError(
            "Expected validation images in folders that are named by WordNet "
            f"ids, <id>/<image>, in one folder. Received: {path} with "
            + (", ".join("/".join(a) or "." for a in sorted(above)) or "none")
        )
    return [read for _, read in found], [parts[-2] for parts, _ in found]


def _of_tfds(name):
    from zoo.data import tfds

    dataset = tfds.load_test(name)
    ids = [dataset.class_names[label] for label in dataset.y_test]
    return dataset.x_test, ids
