"""Augmentation of whole batches, decided by seed and step alone.

Keras' layers draw random numbers from a state that every call changes. Here
the state is set for each step, so that a step's batch is the same whoever
computes it, in whatever order, and after a resume.
"""

import keras
import numpy as np
from keras import ops


class Augmentation:
    """From images and labels to what a network is trained on.

    Example:

    >>> import numpy as np
    >>> from zoo.recipe import Recipe
    >>> recipe = Recipe("ResNet20", "digits", 1, crop_padding=1, flip=True)
    >>> augment = Augmentation(recipe, classes=10)
    >>> images, labels = augment(np.zeros((2, 8, 8, 1), "uint8"), [1, 2], 0)
    >>> tuple(images.shape), tuple(labels.shape)
    ((2, 8, 8, 1), (2, 10))

    Args:
        recipe: `zoo.recipe.Recipe`.
        classes: Integer, number of classes.
        background: Colour beyond the border of an image, one number or one
            for each channel.
    """

    def __init__(self, recipe, classes, background=0):
        self.seed = recipe.seed
        self.classes = classes
        self.of_images = []
        if recipe.crop_padding or recipe.flip:
            self.of_images.append(
                CropAndFlip(recipe.crop_padding, recipe.flip, background)
            )
        if recipe.rand_augment:
            self.of_images.append(
                keras.layers.RandAugment(factor=recipe.rand_augment)
            )
        if recipe.random_erasing:
            self.of_images.append(
                keras.layers.RandomErasing((recipe.random_erasing,) * 2)
            )
        # That of Keras does, under PyTorch.
        self.leaves_range = bool(recipe.rand_augment)
        self.of_pairs = []
        if recipe.mixup:
            self.of_pairs.append(keras.layers.MixUp(recipe.mixup))
        if recipe.cutmix:
            self.of_pairs.append(keras.layers.CutMix(recipe.cutmix))
        self.states = [
            variable
            for layer in self.of_images + self.of_pairs
            for variable in layer.variables
        ]

    def __call__(self, images, labels, step):
        """Augments a batch.

        Args:
            images: uint8 tensor `(batch, height, width, channels)`.
            labels: Integer tensor `(batch,)`.
            step: Integer or tensor, the number of the batch in the training.

        Returns:
            Images of the same shape, uint8 or float32, and float32 labels
            `(batch, classes)`.
        """
        labels = ops.one_hot(labels, self.classes, dtype="float32")
        with keras.StatelessScope(state_mapping=self._states_of(step)):
            for layer in self.of_images:
                images = layer(images)
            if self.leaves_range:
                images = ops.clip(images, 0, 255)
            if self.of_pairs:
                images = ops.cast(images, "float32")
            for layer in self.of_pairs:
                pair = layer({"images": images, "labels": labels})
                images, labels = pair["images"], pair["labels"]
        return images, labels

    def _states_of(self, step):
        """What the random states are at a step: no two of them the same."""
        for place, state in enumerate(self.states):
            # A layer counts the second half on by its draws.
            first = self.seed + 7919 * (place + 1)
            second = ops.cast(step, state.dtype) * 64
            yield state, ops.stack([ops.cast(first, state.dtype), second])


class CropAndFlip(keras.layers.Layer):
    """Moves every image by some pixels, and mirrors every second one.

    Args:
        padding: Integer, the most pixels that an image moves.
        flip: Whether to mirror.
        background: Colour of what comes in from beyond the border.
    """

    def __init__(self, padding, flip, background=0):
        super().__init__(dtype="uint8")
        self.padding = padding
        self.flip = flip
        self.background = background
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, images):
        batch, height, width, channels = images.shape
        tall, wide = height + 2 * self.padding, width + 2 * self.padding
        padded = self._padded(images, (1, tall, wide, channels))
        rows = self._place(batch) + ops.arange(height)
        columns = self._place(batch) + ops.arange(width)
        if self.flip:
            mirrored = self._draw(batch, 2) == 1
            columns = ops.where(mirrored, ops.flip(columns, 1), columns)
        # One look-up of whole pixels, instead of one for each axis.
        image = ops.arange(batch)[:, None, None] * (tall * wide)
        pixels = image + rows[:, :, None] * wide + columns[:, None, :]
        return ops.take(ops.reshape(padded, (-1, channels)), pixels, axis=0)

    def _padded(self, images, shape):
        if not self.padding:
            return images
        frame = np.empty(shape, "uint8")
        frame[:] = self.background
        inside = slice(self.padding, -self.padding)
        frame[:, inside, inside] = 0
        edge = (self.padding, self.padding)
        padded = ops.pad(images, ((0, 0), edge, edge, (0, 0)))
        return ops.add(padded, frame)

    def _place(self, batch):
        return self._draw(batch, 2 * self.padding + 1)

    def _draw(self, batch, count):
        return keras.random.randint(
            (batch, 1), 0, count, dtype="int32", seed=self.seed_generator
        )
