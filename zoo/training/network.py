"""From a recipe to a network that can be trained, or that classifies pixels.

Networks themselves begin at normalised images, as those of
`keras.applications` do. Here a layer without weights stands before them, so
that everything else deals with pixels from 0 to 255.
"""

import dataclasses
import re

import keras
from keras import ops

from aw_keras.applications import create_model
from zoo.data.preprocessing import image_shape, weights_of


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
        dataset: `zoo.data.dataset.Dataset`.
        **arguments: Further arguments of the network's function.

    Raises:
        ValueError: If the weights of the recipe do not fit.
    """
    if recipe.weights:
        arguments |= {"weights": weights_of(recipe), "adapt": recipe.adapt}
    return create_model(
        recipe.model,
        input_shape=image_shape(recipe, dataset),
        classes=len(dataset.class_names),
        data_format="channels_last",
        **arguments,
    )


def for_training(recipe, dataset):
    """`build` with all that only training needs; it gives logits."""
    network = build(
        recipe, dataset, dtype=recipe.dtype, classifier_activation=None
    )
    if recipe.drop_path:
        network = _with_drop_path(network, recipe.drop_path)
    if recipe.frozen_stages:
        _freeze(network, recipe.frozen_stages)
    return network


class DropPathAdd(keras.layers.Add):
    """The sum of a shortcut and a residual branch that samples may skip.

    In training `x + d / (1 - rate) * r` with `d`, of each sample, 0 with
    probability `rate` and else 1: stochastic depth, arXiv 1603.09382, equation
    2, divided as dropout is so that inference has nothing to scale.

    Args:
        rate: Float from 0 to below 1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: List of the shortcut `(N, ...)` and the residual, alike.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs, training=False):
        shortcut, residual = inputs
        if training and self.rate:
            residual = keras.random.dropout(
                residual,
                self.rate,
                noise_shape=(ops.shape(residual)[0], 1, 1, 1),
                seed=self.seed_generator,
            )
        return super().call([shortcut, residual])

    def compute_output_spec(self, inputs, training=False):
        return super().compute_output_spec(inputs)


def _with_drop_path(network, rate):
    """The network whose blocks are skipped, the last one with `rate`."""
    sums = [
        layer.name
        for layer in network.layers
        if isinstance(layer, keras.layers.Add)
    ]
    if not sums:
        raise ValueError(
            "Expected a network of residual blocks for drop_path. "
            f"Received: model={network.name}"
        )
    steps = max(len(sums) - 1, 1)
    rates = {name: rate * place / steps for place, name in enumerate(sums)}

    def layer_of(layer):
        config = layer.get_config()
        if layer.name in rates:
            return DropPathAdd(rates[layer.name], **config)
        return type(layer).from_config(config)

    clone = keras.models.clone_model(network, clone_function=layer_of)
    clone.set_weights(network.get_weights())
    return clone


def _freeze(network, stages):
    """Lets the stages up to a level be, by the names of their layers."""
    levels = {
        layer: int(found[1])
        for layer in network.layers
        if (found := re.match(r"(?:conv|pool)(\d+)_", layer.name))
    }
    most = max(levels.values(), default=0)
    if stages > most:
        raise ValueError(
            f"Expected frozen_stages of at most the {most} of the network. "
            f"Received: frozen_stages={stages}"
        )
    for layer, level in levels.items():
        if level <= stages:
            layer.trainable = False
