"""From a recipe to a network that can be trained, or that classifies pixels.

Networks themselves begin at normalised images, as those of
`keras.applications` do. Here a layer without weights stands before them, so
that everything else deals with pixels from 0 to 255.
"""

import dataclasses

import keras
import numpy as np

from aw_keras.applications import create_model, datasets, get_entry
from aw_keras.preprocessing import Preprocessing

#: What the names of the weights begin with that kernel attention is computed
#: from.
ATTENTION = "attention_"

#: Parts of the names of weights that weight decay spares. No normalisation
#: would give attention back what it takes.
SPARED = ("bias", "beta", "gamma", ATTENTION)

#: The share of images of any size that is looked at in evaluation.
_CROP = 0.875


def preprocessing_for(recipe, dataset):
    """The `Preprocessing` of images of a recipe.

    Args:
        recipe: `Recipe`.
        dataset: `zoo.data.Dataset`, whose training split is measured if there
            is no published normalisation of its name.
    """
    published = datasets.find(recipe.dataset)
    if published:
        preprocessing = published.preprocessing
    elif dataset.encoded:
        preprocessing = get_entry(recipe.model).preprocessing
    else:
        mean, deviation = channel_statistics(dataset.x_train)
        preprocessing = Preprocessing(
            size=dataset.x_train.shape[1:3],
            channels="L" if len(mean) == 1 else "RGB",
            mean=mean,
            deviation=deviation,
        )
    if recipe.image_size is None:
        return preprocessing
    return dataclasses.replace(
        preprocessing, size=recipe.image_size, crop=_CROP
    )


def channel_statistics(images):
    """Mean and standard deviation (at least one grey level) of each channel."""
    # `einsum` converts as it goes; `images.std()` would need eight times the
    # memory of the images.
    count = images[..., 0].size
    mean = np.einsum("nhwc->c", images, dtype="float64") / count
    square = np.einsum("nhwc,nhwc->c", images, images, dtype="float64") / count
    return mean, np.sqrt(np.maximum(square - mean**2, 1))


def on_pixels(network, preprocessing, model=keras.Model):
    """A model of images of pixels, of the size that a network takes.

    Args:
        network: `keras.Model` of one input of images, channels last.
        preprocessing: `Preprocessing`.
        model: Class of the model.

    Returns:
        A `model` of float32 images `(batch, height, width, channels)`
        with values from 0 to 255 and channels red, green and blue.
    """
    image = keras.Input(network.input_shape[1:], name="image")
    # Whatever made the images of one size has cropped them.
    own = dataclasses.replace(preprocessing.for_model(network), crop=1.0)
    x = own(image, "channels_last")
    return model(image, network(x), name=network.name)


def build(recipe, dataset, **arguments):
    """The bare network of a recipe, for the images and classes of its data.

    Args:
        recipe: `Recipe`.
        dataset: `zoo.data.Dataset`.
        **arguments: Further arguments of the network's function.
    """
    return create_model(
        recipe.model,
        input_shape=image_shape(recipe, dataset),
        classes=len(dataset.class_names),
        data_format="channels_last",
        **arguments,
    )


def image_shape(recipe, dataset):
    """Height, width and channels of an image of a batch."""
    if dataset.encoded:
        return (recipe.image_size, recipe.image_size, 3)
    return dataset.x_train.shape[1:]


class SGD(keras.optimizers.SGD):
    """Gradient descent at another learning rate for kernel attention.

    Args:
        *args: Arguments of `keras.optimizers.SGD`.
        attention_rate: Factor of the learning rate of the weights that kernel
            attention is computed from.
        **kwargs: Arguments of `keras.optimizers.SGD`.
    """

    def __init__(self, *args, attention_rate=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.attention_rate = attention_rate

    def update_step(self, gradient, variable, learning_rate):
        if ATTENTION in variable.name:
            learning_rate = self.attention_rate * learning_rate
        super().update_step(gradient, variable, learning_rate)


def compile_for(model, recipe, steps, spared=SPARED):
    """Compiles a model of logits for a recipe.

    Args:
        model: `keras.Model`.
        recipe: `Recipe`.
        steps: Integer, number of steps of an epoch.
        spared: Parts of the names of weights that weight decay spares.
    """
    optimizer = SGD(
        learning_rate(recipe, steps),
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        # Keras decouples the weight decay from the momentum, which would
        # else multiply it by 1 / (1 - momentum).
        weight_decay=recipe.weight_decay / (1 - recipe.momentum) or None,
        use_ema=recipe.ema > 0,
        ema_momentum=recipe.ema,
        attention_rate=recipe.attention_rate,
    )
    optimizer.exclude_from_weight_decay(var_names=[*spared])
    if recipe.dtype == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        metrics=["accuracy"],
        jit_compile=recipe.jit_compile,
        steps_per_execution=largest_divisor(steps, recipe.steps_per_execution),
    )


def learning_rate(recipe, steps):
    """The learning rate of a recipe, a function of the step."""
    schedules = keras.optimizers.schedules
    if recipe.schedule == "steps":
        return schedules.PiecewiseConstantDecay(
            [epoch * steps for epoch in recipe.milestones],
            [
                recipe.learning_rate * 0.1**passed
                for passed in range(len(recipe.milestones) + 1)
            ],
        )
    warmup = round(recipe.warmup_epochs * steps)
    rest = max(recipe.epochs * steps - warmup, 1)
    if not warmup:
        return schedules.CosineDecay(recipe.learning_rate, rest)
    return schedules.CosineDecay(
        0.0, rest, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )


def largest_divisor(number, limit):
    """The largest divisor of a number up to a limit.

    Example:

    >>> largest_divisor(390, 32)
    30
    """
    return next(n for n in range(min(number, limit), 0, -1) if number % n == 0)
