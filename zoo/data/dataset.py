"""`Dataset`: images and labels of two splits, and smaller ones of it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and labels of a training and a test split.

    Attributes:
        class_names: Tuple of strings; a label is a place in it.
        x_train: uint8 array `(samples, height, width, channels)`; or array
            `(samples,)` of functions that read the bytes of an encoded image.
        y_train: int64 array `(samples,)`.
        x_test: Like `x_train`; without samples where there is no test split.
        y_test: Like `y_train`.
        held_out: Whether the test split is part of the training images.
        skipped: Tuple of strings, what was left out and why.
    """

    class_names: tuple
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    held_out: bool = False
    skipped: tuple = ()

    @property
    def encoded(self):
        """Whether images are yet to be read and decoded."""
        return self.x_train.dtype == object


def functions(items):
    """Array of functions, as `Dataset` has them for encoded images."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def take(dataset, limit, seed):
    """At most `limit` random images of each split of a `Dataset`."""
    rng = np.random.default_rng(seed)
    train = rng.permutation(len(dataset.x_train))[:limit]
    test = rng.permutation(len(dataset.x_test))[:limit]
    return dataclasses.replace(
        dataset,
        x_train=dataset.x_train[train],
        y_train=dataset.y_train[train],
        x_test=dataset.x_test[test],
        y_test=dataset.y_test[test],
    )


def hold_out(dataset, count):
    """Measures on random images of the training split, not on the test split.

    What is chosen by such measurements is chosen without the test split.

    Args:
        dataset: `Dataset`.
        count: Integer, number of images that the training loses. Which ones
            depends on the number of all images alone.

    Returns:
        A `Dataset` whose test split is these images.

    Raises:
        ValueError: If no image would be left.
    """
    images = len(dataset.x_train)
    if not 0 < count < images:
        raise ValueError(
            f"Expected to hold out fewer than all {images} training images. "
            f"Received: holdout={count}"
        )
    order = np.random.default_rng(0).permutation(images)
    return _held_out(dataset, order[:count])


def hold_out_a_fifth(dataset):
    """Measures on a fifth of the training images of every class.

    Which ones depends on the labels alone. A class of one image is only
    trained on.

    Args:
        dataset: `Dataset`.

    Returns:
        A `Dataset` whose test split is these images.

    Raises:
        ValueError: If every class has one image.
    """
    rng = np.random.default_rng(0)
    held = []
    for label in range(len(dataset.class_names)):
        places = rng.permutation(np.flatnonzero(dataset.y_train == label))
        held.append(places[: min(-(-len(places) // 5), len(places) - 1)])
    held = np.concatenate(held)
    if not len(held):
        raise ValueError(
            "Expected classes of more than one image, to train on some and "
            f"measure on others. Received: {len(dataset.y_train)} images of "
            f"{len(dataset.class_names)} classes"
        )
    return _held_out(dataset, held)


def _held_out(dataset, held):
    held = np.sort(held)
    kept = np.setdiff1d(np.arange(len(dataset.y_train)), held)
    return dataclasses.replace(
        dataset,
        x_train=dataset.x_train[kept],
        y_train=dataset.y_train[kept],
        x_test=dataset.x_train[held],
        y_test=dataset.y_train[held],
        held_out=True,
    )
