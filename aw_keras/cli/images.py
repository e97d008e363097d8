"""Images from files to what a network takes."""

import numpy as np

_MODES = {1: "L", 3: "RGB"}


def read(paths):
    """Reads images, all of them before anything slow begins.

    Args:
        paths: Paths of image files.

    Returns:
        A list of `PIL.Image.Image`, turned upright.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If a file is not a whole image: the message names it.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            "Expected Pillow to be installed: pip install 'aw-keras[cli]'"
        ) from error

    def opened(path):
        try:
            with Image.open(path) as image:
                return ImageOps.exif_transpose(image)
        # What Pillow raises for damaged files depends on their format.
        except Exception as error:
            raise ValueError(
                "Expected the path of an image that can be read, such as a "
                f"JPEG or PNG file. Received: {path} ({error})"
            ) from error

    return [opened(path) for path in paths]


def fit(image, model):
    """An image of the size and the colours of a model's input.

    The middle of the image in the input's proportions, resized with
    antialiasing; the whole image where the model takes any size.

    Args:
        image: `PIL.Image.Image`.
        model: `keras.Model` with one input of images.

    Returns:
        uint8 array `(height, width, channels)`.
    """
    from PIL import Image, ImageOps

    height, width, channels = input_shape(model)
    image = image.convert("RGB").convert(_MODES[channels])
    size = (width or image.width, height or image.height)
    image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return np.asarray(image, "uint8").reshape(size[1], size[0], channels)


def fit_all(images, model):
    """`fit` of all the images as one array."""
    fitted = [fit(image, model) for image in images]
    shapes = sorted({array.shape for array in fitted})
    if len(shapes) > 1:
        raise ValueError(
            "Expected images of one size, because the model takes any. "
            f"Received: {shapes}"
        )
    return np.stack(fitted)


def normalise(images, preprocessing, model):
    """What a model takes, from images with values from 0 to 255.

    Args:
        images: uint8 array `(N, height, width, channels)`.
        preprocessing: `Preprocessing`, or `None` for the values as they are.
        model: `keras.Model` with one input of images.

    Returns:
        float32 array, channels first if the model's input is so.
    """
    images = images.astype("float32")
    if preprocessing is not None:
        if images.shape[-1] != len(preprocessing.mean):
            raise ValueError(
                "Expected --preprocessing none for a network of grey images."
            )
        if preprocessing.channels == "BGR":
            images = images[..., ::-1]
        images = (images - preprocessing.mean) / preprocessing.deviation
    if not _channels_last(model):
        images = images.transpose(0, 3, 1, 2)
    return images.astype("float32")


def input_shape(model):
    """Height and width, `None` where any, and channels of a model's images."""
    shapes = [tensor.shape for tensor in getattr(model, "inputs", None) or []]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(
            "Expected a network with one input of images. Received: "
            f"{model.name} with inputs of the shapes {shapes}"
        )
    (_, *shape) = shapes[0]
    if shape[-1] not in _MODES and shape[0] in _MODES:
        shape = [*shape[1:], shape[0]]
    if shape[-1] not in _MODES:
        raise ValueError(
            "Expected a network of images with 1 or 3 channels. Received: "
            f"{model.name} with inputs of the shape {shapes[0]}"
        )
    return tuple(shape)


def _channels_last(model):
    return model.inputs[0].shape[-1] in _MODES
