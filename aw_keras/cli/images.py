"""Images from files to what a network takes."""

import numpy as np

from aw_keras.image_files import read_image


def read(paths):
    """Reads images, all of them before anything slow begins.

    Args:
        paths: Paths of image files.

    Returns:
        A list of uint8 arrays `(height, width, 3)`.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If a file is not a whole image: the message names it.
    """
    return [read_image(path) for path in paths]


def seen(images, preprocessing, model):
    """Images as a model sees them, to look at, and as it takes them.

    Args:
        images: List of uint8 arrays `(height, width, 3)`.
        preprocessing: `Preprocessing`.
        model: `keras.Model`.

    Returns:
        Two arrays with all of them: uint8 `(N, height, width, channels)`, and
        what the model takes.

    Raises:
        ValueError: If the model takes any size, and the images have several.
    """
    own = preprocessing.for_model(model)
    pixels = _stacked([own.pixels(image) for image in images])
    inputs = [own.inputs(model, image[np.newaxis]) for image in images]
    return pixels, np.concatenate(inputs)


def representative(images, preprocessing, model):
    """Images as an exported model takes them, in one array.

    Args:
        images: List of uint8 arrays `(height, width, 3)`.
        preprocessing: `Preprocessing` that the export does itself.
        model: `keras.Model`.

    Returns:
        uint8 array `(N, height, width, channels)`.

    Raises:
        ValueError: If the model takes any size, and the images have several.
    """
    own = preprocessing.for_model(model).before_crop()
    return _stacked([own.pixels(image) for image in images])


def _stacked(images):
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise ValueError(
            "Expected images of one size, because the model takes any. "
            f"Received: {shapes}"
        )
    return np.stack(images)
