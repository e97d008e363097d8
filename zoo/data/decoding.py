"""Images of any size: read, decoded, cropped and resized by tf.data.

Training takes a random part of an image (8 to 100 % of its area, an aspect
ratio from 3:4 to 4:3), evaluation what the preprocessing of the network does.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from zoo.data.encoded import decode
from zoo.data.preprocessing import preprocessing_for

_AREA = 0.08, 1.0
_RATIO = 3 / 4, 4 / 3
_ATTEMPTS = 10


def training_batches(dataset, recipe, order, first_step):
    """tf.data of the number, the images and the labels of batches.

    Args:
        dataset: `zoo.data.dataset.Dataset` of encoded images.
        recipe: `zoo.recipe.Recipe`.
        order: `zoo.data.pipeline.Order`.
        first_step: Integer, the number of the first batch.
    """
    labels = tf.constant(dataset.y_train)
    resizing = preprocessing_for(recipe, dataset)

    def crop(index, position):
        image = _decode(dataset.x_train, index)
        return random_crop(image, resizing, (recipe.seed, position))

    def sample(position):
        step, place = position // order.batch, position % order.batch
        index = tf.numpy_function(order, [step], "int32")[place]
        image = _image(crop, [index, position], resizing.size)
        return step, image, labels[index]

    return (
        tf.data.Dataset.counter(first_step * order.batch)
        .map(sample, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(order.batch, drop_remainder=True)
        .map(lambda steps, images, labels: (steps[0], images, labels))
        .prefetch(tf.data.AUTOTUNE)
    )


def test_batches(dataset, preprocessing, batch_size):
    """tf.data of images and probabilities of the classes.

    Args:
        dataset: `zoo.data.dataset.Dataset` of encoded images.
        preprocessing: `Preprocessing` of a size.
        batch_size: Integer.
    """
    classes = len(dataset.class_names)

    def crop(index):
        return preprocessing.pixels(_decode(dataset.x_test, index))

    def read(index, label):
        image = _image(crop, [index], preprocessing.size)
        return image, tf.one_hot(label, classes)

    count = np.arange(len(dataset.x_test))
    return (
        tf.data.Dataset.from_tensor_slices((count, dataset.y_test))
        .map(read, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def random_crop(image, preprocessing, seed):
    """A random part of an image, in the size of a preprocessing.

    Args:
        image: uint8 array `(height, width, 3)`.
        preprocessing: `Preprocessing` of a size.
        seed: Integers that decide the part.
    """
    rows, columns = random_box(*image.shape[:2], seed)
    whole = dataclasses.replace(preprocessing, crop=1.0, crop_mode="squash")
    return whole.pixels(image[rows, columns])


def random_box(height, width, seed):
    """Slices of the rows and the columns of a random part of an image.

    Example:

    >>> rows, columns = random_box(300, 400, seed=(0, 1))
    >>> 0.08 <= len(range(300)[rows]) * len(range(400)[columns]) / 120000 <= 1
    True
    """
    rng = np.random.default_rng(seed)
    for _ in range(_ATTEMPTS):
        area = height * width * rng.uniform(*_AREA)
        ratio = np.exp(rng.uniform(*np.log(_RATIO)))
        rows, columns = (
            round((area / ratio) ** 0.5),
            round((area * ratio) ** 0.5),
        )
        if 0 < rows <= height and 0 < columns <= width:
            top = rng.integers(height - rows + 1)
            left = rng.integers(width - columns + 1)
            return slice(top, top + rows), slice(left, left + columns)
    # An image that is too long: all of it.
    return slice(height), slice(width)


def _image(function, arguments, size):
    """What a function of Python makes: uint8 `(*size, 3)`."""
    image = tf.numpy_function(function, arguments, "uint8")
    return tf.ensure_shape(image, (*size, 3))


def _decode(images, index):
    return decode(images[index], f"image {index} of the data set")
