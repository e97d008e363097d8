"""Batches for ever: shuffled, augmented, and the same for the same seed.

A batch depends on the seed and its number alone. On TensorFlow, and for images
that are decoded as they are read, tf.data prepares them; else the images lie
on the device, which cuts and augments its own batches.
"""

import functools
import itertools

import keras
import numpy as np
from keras import ops

from zoo.augment import Augmentation


def steps_per_epoch(dataset, recipe):
    """Number of whole batches that the training split has."""
    return len(dataset.x_train) // batch_size(dataset, recipe)


def batch_size(dataset, recipe):
    """Number of images of a batch; all of them, if there are too few."""
    return min(recipe.batch_size, len(dataset.x_train))


def training_batches(dataset, recipe, first_step=0):
    """The batches of a training from a step on, without an end.

    Args:
        dataset: `zoo.data.Dataset`.
        recipe: `zoo.recipe.Recipe`.
        first_step: Integer, the number of steps that were done.

    Returns:
        What `keras.Model.fit` takes: a `tf.data.Dataset` or a generator of
        `(images, labels)`, labels as probabilities of the classes.
    """
    background = 0
    if not dataset.encoded:
        background = dataset.x_train.mean((0, 1, 2)).astype("uint8")
    augment = Augmentation(recipe, len(dataset.class_names), background)
    order = functools.partial(
        _order,
        len(dataset.x_train),
        batch_size(dataset, recipe),
        recipe.seed,
        first_step,
    )
    if dataset.encoded:
        from zoo import decoding

        batches = decoding.training_batches(dataset, recipe, order)
        if keras.backend.backend() != "tensorflow":
            return _augmented(batches.as_numpy_iterator(), augment)
    elif keras.backend.backend() == "tensorflow":
        batches = _gathered(dataset, order)
    else:
        return _on_device(dataset, augment, order)
    import tensorflow as tf

    return batches.map(
        lambda step, images, labels: augment(images, labels, step),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


def test_batches(dataset, recipe):
    """The test split, as the `validation_data` of `keras.Model.fit`."""
    if dataset.encoded:
        from zoo import decoding

        return decoding.test_batches(
            dataset, recipe.image_size, recipe.batch_size
        )
    labels = np.eye(len(dataset.class_names), dtype="float32")[dataset.y_test]
    return dataset.x_test, labels


def _order(count, batch, seed, first_step):
    """Yields number and places of every batch: each epoch a permutation."""
    steps = count // batch
    for epoch in itertools.count(first_step // steps):
        places = np.random.default_rng((seed, epoch)).permutation(count)
        for step in range(max(first_step - epoch * steps, 0), steps):
            chosen = places[step * batch : (step + 1) * batch]
            yield epoch * steps + step, chosen


def _gathered(dataset, order):
    """tf.data of the number, the images and the labels of batches."""
    import tensorflow as tf

    with tf.device("CPU"):
        images = tf.constant(dataset.x_train)
        labels = tf.constant(dataset.y_train)
    _, first = next(order())
    return tf.data.Dataset.from_generator(
        order,
        output_signature=(
            tf.TensorSpec((), "int64"),
            tf.TensorSpec(first.shape, "int64"),
        ),
    ).map(
        lambda step, chosen: (
            step,
            tf.gather(images, chosen),
            tf.gather(labels, chosen),
        )
    )


def _on_device(dataset, augment, order):
    """Yields batches that a compiled function makes on the device."""
    images = ops.convert_to_tensor(dataset.x_train)
    labels = ops.convert_to_tensor(dataset.y_train)

    @_compiled
    def batch(images, labels, chosen, step):
        return augment(
            ops.take(images, chosen, axis=0),
            ops.take(labels, chosen, axis=0),
            step,
        )

    for step, chosen in order():
        yield batch(images, labels, chosen.astype("int32"), np.int32(step))


def _augmented(batches, augment):
    augment = _compiled(augment)
    for step, images, labels in batches:
        yield augment(images, labels, np.int32(step))


def _compiled(function):
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
