"""What the images of a recipe go through before its network."""

import dataclasses
import functools
import os

import numpy as np

from aw_keras import suffixes
from aw_keras.applications import datasets, get_entry
from aw_keras.preprocessing import Preprocessing
from aw_keras.weights import pytorch
from zoo.run import Run

#: The share of images of any size that is looked at in evaluation.
_CROP = 0.875


def preprocessing_for(recipe, dataset):
    """The `Preprocessing` of images of a recipe.

    Args:
        recipe: `Recipe`.
        dataset: `zoo.data.dataset.Dataset`, whose training split is measured
            if there is no known normalisation, neither of the weights that
            the recipe begins with nor of the data set.
    """
    size = recipe.image_size
    if known := _of_weights(recipe.weights, recipe.model):
        return dataclasses.replace(known, size=size) if size else known
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
    if size is None:
        return preprocessing
    return dataclasses.replace(preprocessing, size=size, crop=_CROP)


def image_shape(recipe, dataset):
    """Height, width and channels of an image of a batch."""
    if dataset.encoded:
        return (recipe.image_size, recipe.image_size, 3)
    return dataset.x_train.shape[1:]


def weights_of(recipe):
    """What the `weights` of a recipe are for its network: a name or a file."""
    if os.path.isdir(recipe.weights):
        return str(Run(recipe.weights).model)
    return recipe.weights


# A training asks several times, and a run answers by loading its model.
@functools.lru_cache(maxsize=1)
def _of_weights(weights, model):
    """The `Preprocessing` of the weights of a network, if it is known."""
    if weights is None:
        return None
    if os.path.isdir(weights):
        return Run(weights).classifier().preprocessing
    if suffixes.is_pytorch(weights):
        return pytorch.read(weights).preprocessing
    if os.path.exists(weights):
        return None
    return get_entry(model).preprocessing_of(weights)


def channel_statistics(images):
    """Mean and standard deviation (at least one grey level) of each channel."""
    # `einsum` converts as it goes; `images.std()` would need eight times the
    # memory of the images.
    count = images[..., 0].size
    mean = np.einsum("nhwc->c", images, dtype="float64") / count
    square = np.einsum("nhwc,nhwc->c", images, images, dtype="float64") / count
    return mean, np.sqrt(np.maximum(square - mean**2, 1))
