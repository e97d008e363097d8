"""Images of any size: read, decoded, cropped and resized by tf.data.

Training takes a random part of an image (8 to 100 % of its area, an aspect
ratio from 3:4 to 4:3), evaluation the middle: the shorter side is resized to
8/7 of the size of the crop.
"""

import numpy as np
import tensorflow as tf


def training_batches(dataset, recipe, order, first_step):
    """tf.data of the number, the images and the labels of batches.

    Args:
        dataset: `zoo.data.Dataset` of encoded images.
        recipe: `zoo.recipe.Recipe`.
        order: `zoo.pipeline.Order`.
        first_step: Integer, the number of the first batch.
    """
    labels = tf.constant(dataset.y_train)

    def sample(position):
        step, place = position // order.batch, position % order.batch
        index = tf.numpy_function(order, [step], "int32")[place]
        content = _read(dataset.x_train, index)
        seed = tf.stack([tf.cast(recipe.seed, "int64"), position])
        image = random_crop(content, recipe.image_size, seed)
        return step, image, labels[index]

    return (
        tf.data.Dataset.counter(first_step * order.batch)
        .map(sample, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(order.batch, drop_remainder=True)
        .map(lambda steps, images, labels: (steps[0], images, labels))
        .prefetch(tf.data.AUTOTUNE)
    )


def test_batches(dataset, size, batch_size):
    """tf.data of images and probabilities of the classes."""
    classes = len(dataset.class_names)

    def read(index, label):
        content = _read(dataset.x_test, index)
        return centre_crop(content, size), tf.one_hot(label, classes)

    count = np.arange(len(dataset.x_test))
    return (
        tf.data.Dataset.from_tensor_slices((count, dataset.y_test))
        .map(read, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def random_crop(content, size, seed):
    """A random part of an encoded image, as uint8 `(size, size, 3)`."""
    image = _decode(content)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    return _resize(tf.slice(image, begin, extent), (size, size), size)


def centre_crop(content, size):
    """The middle of an encoded image, as uint8 `(size, size, 3)`."""
    image = _decode(content)
    shape = tf.cast(tf.shape(image)[:2], "float32")
    scale = size * 8 / 7 / tf.reduce_min(shape)
    extent = tf.cast(tf.round(shape * scale), "int32")
    return _resize(image, extent, size)


def _resize(image, extent, size):
    image = tf.image.resize(image, extent, antialias=True)
    image = tf.image.resize_with_crop_or_pad(image, size, size)
    image = tf.ensure_shape(image, (size, size, 3))
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), "uint8")


def _read(images, index):
    content = tf.numpy_function(lambda i: images[i](), [index], tf.string)
    return tf.ensure_shape(content, ())


def _decode(content):
    return tf.io.decode_image(content, channels=3, expand_animations=False)
