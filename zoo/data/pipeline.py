"""Batches for ever: shuffled, augmented, and the same for the same seed.

A batch depends on the seed and its number alone. On TensorFlow, and for images
that are decoded as they are read, tf.data prepares them; else the images lie
on the device, which cuts and augments its own batches.
"""

import functools

import keras
import numpy as np
from keras import ops

from zoo.data.augment import Augmentation
from zoo.data.preprocessing import preprocessing_for


def steps_per_epoch(dataset, recipe):
    """Number of whole batches that the training split has."""
    return len(dataset.x_train) // batch_size(dataset, recipe)


def batch_size(dataset, recipe):
    """Number of images of a batch; all of them, if there are too few."""
    return min(recipe.batch_size, len(dataset.x_train))


def training_batches(dataset, recipe, first_step=0):
    """The batches of a training from a step on, without an end.

    Args:
        dataset: `zoo.data.dataset.Dataset`.
        recipe: `zoo.recipe.Recipe`.
        first_step: Integer, the number of steps that were done.

    Returns:
        What `keras.Model.fit` takes, such as a `tf.data.Dataset`: batches
        `(images, labels)`, labels as probabilities of the classes.
    """
    background = 0
    if not dataset.encoded:
        background = dataset.x_train.mean((0, 1, 2)).astype("uint8")
    augment = Augmentation(recipe, len(dataset.class_names), background)
    order = Order(
        len(dataset.x_train), batch_size(dataset, recipe), recipe.seed
    )
    if dataset.encoded:
        from zoo.data import decoding

        batches = decoding.training_batches(dataset, recipe, order, first_step)
        if keras.backend.backend() != "tensorflow":
            return _augmented(batches.as_numpy_iterator(), augment)
    elif keras.backend.backend() == "tensorflow":
        batches = _gathered(dataset, order, first_step)
    else:
        return OnDevice(dataset, augment, order, first_step)
    import tensorflow as tf

    return batches.map(
        lambda step, images, labels: augment(images, labels, step),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


def test_batches(dataset, recipe):
    """The test split, as the `validation_data` of `keras.Model.fit`."""
    if dataset.encoded:
        from zoo.data import decoding

        preprocessing = preprocessing_for(recipe, dataset)
        return decoding.test_batches(dataset, preprocessing, recipe.batch_size)
    labels = np.eye(len(dataset.class_names), dtype="float32")[dataset.y_test]
    return dataset.x_test, labels


class Order:
    """Which images make a batch: every epoch is a permutation of them.

    Example:

    >>> order = Order(count=5, batch=2, seed=0)
    >>> first_epoch = [*order(0), *order(1)]
    >>> len(set(first_epoch)), set(first_epoch) < set(range(5))
    (4, True)

    Args:
        count: Integer, number of images.
        batch: Integer, number of images of a batch.
        seed: Integer, which decides the permutations.
    """

    def __init__(self, count, batch, seed):
        self.count = count
        self.batch = batch
        self.seed = seed
        self._epoch = functools.lru_cache(maxsize=2)(self._permutation)

    def __call__(self, step):
        """Places of the images of a step, an int32 array `(batch,)`."""
        epoch, place = divmod(int(step), self.count // self.batch)
        return self._epoch(epoch)[place * self.batch :][: self.batch]

    def _permutation(self, epoch):
        rng = np.random.default_rng((self.seed, epoch))
        return rng.permutation(self.count).astype("int32")


class OnDevice(keras.utils.PyDataset):
    """Batches that a compiled function cuts from images on the device."""

    #: There is no end.
    num_batches = None

    def __init__(self, dataset, augment, order, first_step):
        super().__init__()
        self.images = ops.convert_to_tensor(dataset.x_train)
        self.labels = ops.convert_to_tensor(dataset.y_train)
        self.order = order
        self.first_step = first_step

        @_compiled
        def batch(images, labels, chosen, step):
            return augment(
                ops.take(images, chosen, axis=0),
                ops.take(labels, chosen, axis=0),
                step,
            )

        self.batch = batch

    def __getitem__(self, index):
        step = self.first_step + index
        return self.batch(
            self.images, self.labels, self.order(step), np.int32(step)
        )


def _gathered(dataset, order, first_step):
    """tf.data of the number, the images and the labels of batches."""
    import tensorflow as tf

    with tf.device("CPU"):
        images = tf.constant(dataset.x_train)
        labels = tf.constant(dataset.y_train)

    def gather(step):
        chosen = tf.numpy_function(order, [step], "int32")
        chosen = tf.ensure_shape(chosen, (order.batch,))
        return step, tf.gather(images, chosen), tf.gather(labels, chosen)

    return tf.data.Dataset.counter(first_step).map(gather)


def _augmented(batches, augment):
    augment = _compiled(augment)
    for step, images, labels in batches:
        yield augment(images, labels, np.int32(step))


def _compiled(function):
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
