"""From images of any size to what a network takes: as data, and done.

A `Preprocessing` says what the images of a network have to go through, in
fields that JSON can hold, and does it: to NumPy arrays, to tensors of every
backend, in a functional model, and in the graph of an export. Nothing else in
this library resizes, crops or normalises images.
"""

import dataclasses

import keras
import numpy as np
from keras import backend, config, ops

from aw_keras.choices import check_choice
from aw_keras.ops import resampling
from aw_keras.ops.validation import pair, standard_data_format

CHANNELS = ("RGB", "BGR", "L")
_COUNTS = {len(order) for order in CHANNELS}

CROP_MODES = ("center", "squash")

#: How red, green and blue add up to grey: ITU-R BT.601, as Pillow does.
_GREY = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What images go through before a network.

    An image, with values from 0 to 255, is resized with antialiasing until the
    crop covers `crop` of its shorter edge; the middle of it is cut out; the
    channels are put in order and normalised. Geometry and weights are those of
    `timm` and torchvision, which call Pillow for it. That of released weights
    is `get_entry(name).preprocessing_of(weights)`.

    Example:

    >>> import numpy as np
    >>> from aw_keras.applications import get_entry
    >>> preprocessing = get_entry("AWResNet20").preprocessing
    >>> photo = np.full((427, 640, 3), 255, "uint8")
    >>> preprocessing(photo).shape
    (32, 32, 3)
    >>> preprocessing.size, preprocessing.crop, preprocessing.interpolation
    ((32, 32), 1.0, 'bilinear')

    Attributes:
        size: Height and width of what a network takes, in pixels; one integer
            for both. `None` leaves images at the size they have.
        crop: The share of the resized image that is kept, from above 0 to 1,
            in height and width.
        crop_mode: `"center"` keeps the proportions and cuts off what is
            beyond them. `"squash"` gives up the proportions.
        interpolation: `"bilinear"` or `"bicubic"`.
        channels: Order of the channels that the network sees: `"RGB"`,
            `"BGR"`, or `"L"` for one channel of grey.
        mean: What is subtracted, of each channel in that order.
        deviation: What the rest is divided by, of each channel.

    Raises:
        ValueError: If a value is not one of these.
    """

    size: tuple[int, int] | None = None
    crop: float = 1.0
    crop_mode: str = "center"
    interpolation: str = "bilinear"
    channels: str = "RGB"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self):
        check_choice("crop_mode", self.crop_mode, CROP_MODES)
        check_choice(
            "interpolation", self.interpolation, tuple(resampling.KERNELS)
        )
        check_choice("channels", self.channels, CHANNELS)
        if not 0 < self.crop <= 1:
            raise ValueError(
                "Expected `crop` to be above 0 and at most 1. "
                f"Received: crop={self.crop}"
            )
        if self.size is not None:
            # JSON has lists.
            object.__setattr__(self, "size", pair("size", self.size))
        for field in ("mean", "deviation"):
            values = tuple(map(float, getattr(self, field)))
            if len(values) != len(self.channels):
                raise ValueError(
                    f"Expected `{field}` to have a number for each channel "
                    f"of {self.channels}. Received: {field}={values}"
                )
            object.__setattr__(self, field, values)
        if min(self.deviation) <= 0:
            raise ValueError(
                "Expected `deviation` to be positive. "
                f"Received: deviation={self.deviation}"
            )

    def __call__(self, images, data_format=None):
        """What a network of `size` takes, from images of any one size.

        Args:
            images: Array, tensor or Keras tensor, one image or a batch, with
                values from 0 to 255 and the channels red, green and blue, or
                grey for a network of grey images.
            data_format: `"channels_last"` or `"channels_first"`, of `images`
                and of what is returned. Defaults to
                `keras.config.image_data_format()`.

        Returns:
            The same kind of array or tensor, float32.
        """
        data_format = standard_data_format(data_format)
        if isinstance(images, keras.KerasTensor):
            return Preprocess(self, data_format)(images)
        return self.normalise(self.resize(images, data_format), data_format)

    def resize(self, images, data_format=None):
        """The first half: size and number of channels.

        Args:
            images: As for a call, but for Keras tensors.
            data_format: As for a call.

        Returns:
            A float32 array or tensor with values from 0 to 255.
        """
        last = standard_data_format(data_format) == "channels_last"
        xp = np if isinstance(images, np.ndarray) else ops
        images = self._resized(xp, images, last)
        if self.channels == "L":
            return _grey(xp, images, axis=-1 if last else -3)
        return images

    def _resized(self, xp, images, last):
        sizes = slice(-3, -1) if last else slice(-2, None)
        done = self.crop == 1 and tuple(images.shape[sizes]) == self.size
        if self.size is None or done:
            return _cast(images, "float32")
        shape = images.shape if xp is np else ops.shape(images)
        if last:
            images = xp.moveaxis(images, -1, -3)
        images = resampling.resize(
            _cast(images, "float32"),
            *self._axes(*shape[sizes]),
            self.interpolation,
        )
        return xp.moveaxis(images, -3, -1) if last else images

    def pixels(self, image):
        """`resize` of an array with channels last, rounded to uint8."""
        resized = self.resize(image, "channels_last")
        return np.round(resized).astype("uint8")

    def before_crop(self):
        """The same up to the crop.

        What it makes of an image, it would crop as it does the image.
        """
        if self.size is None:
            return self
        return dataclasses.replace(self, size=self._scale(), crop=1.0)

    def _scale(self):
        """The size that the shorter edge, or the whole, is resized to."""
        return tuple(int(extent / self.crop) for extent in self.size)

    def _axes(self, height, width):
        """What becomes of height and width, which may be tensors."""
        rows, columns = self._scale()
        if self.crop_mode == "center":
            # The proportions of the image, around that.
            rows, columns = (
                _largest(rows, height * columns // width),
                _largest(columns, width * rows // height),
            )
        return (
            resampling.Axis(extent, resized, _half(resized - kept), kept)
            for extent, resized, kept in zip(
                (height, width), (rows, columns), self.size
            )
        )

    def normalise(self, images, data_format=None):
        """The second half: order of the channels, mean and deviation.

        Args:
            images: As for a call, with as many channels as the network sees.
            data_format: As for a call.

        Returns:
            An array for an array, a tensor for a tensor. What is not floating
            becomes `keras.config.floatx()`.
        """
        last = standard_data_format(data_format) == "channels_last"
        images = _floating_copy(images)
        dtype = backend.standardize_dtype(images.dtype)
        xp = np if isinstance(images, np.ndarray) else ops
        axis = -1 if last else -3

        def by_channel(values):
            shape = (-1,) if last else (-1, 1, 1)
            return np.reshape(values, shape).astype(dtype)

        if self.channels == "BGR":
            images = xp.take(images, [2, 1, 0], axis=axis)
        return xp.divide(
            xp.subtract(images, by_channel(self.mean)),
            by_channel(self.deviation),
        )

    def for_model(self, model):
        """The same for the size, and the number of channels, of a model.

        Args:
            model: `keras.Model` with one input of images.

        Returns:
            A `Preprocessing` whose `size` is that of the model's input, or
            `None` for a model of images of any size. It is one of grey images
            if the model is and the statistics do not tell colours apart.

        Raises:
            ValueError: If the model takes no such images.
        """
        height, width, channels = image_shape(model)
        if (height is None) != (width is None):
            raise ValueError(
                "Expected a model that knows both height and width of its "
                f"images, or neither. Received: {model.name} of {height} x "
                f"{width}"
            )
        own = {"size": None if height is None else (height, width)}
        same = len({*self.mean}) == len({*self.deviation}) == 1
        if channels == 1 and same:
            own["channels"] = "L"
            own |= {n: getattr(self, n)[:1] for n in ("mean", "deviation")}
        elif channels != len(self.channels):
            raise ValueError(
                f"Expected a model of images of {len(self.channels)} channels, "
                f"for a `preprocessing` of such images. Received: {model.name} "
                f"of {channels}"
            )
        return dataclasses.replace(self, **own)

    def inputs(self, model, images):
        """What a model takes, in the size, layout and dtype of its input.

        Args:
            model: `keras.Model` with one input of images.
            images: Array or tensor `(N, height, width, channels)` with values
                from 0 to 255, in whatever layout the model is.

        Returns:
            An array for an array, a tensor for a tensor.

        Raises:
            ValueError: If the model takes no such images.
        """
        (target,) = model.inputs
        images = self.for_model(model)(images, "channels_last")
        if not _is_channels_last(target.shape):
            xp = np if isinstance(images, np.ndarray) else ops
            images = xp.transpose(images, (0, 3, 1, 2))
        return _cast(images, backend.standardize_dtype(target.dtype))


def image_shape(model):
    """Height and width, `None` where any, and channels of a model's images.

    Args:
        model: `keras.Model`.

    Raises:
        ValueError: If it has not one input of images with 1 or 3 channels.
    """
    shapes = [tensor.shape for tensor in getattr(model, "inputs", None) or []]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(
            "Expected a network with one input of images. Received: "
            f"{model.name} with inputs of the shapes {shapes}"
        )
    _, *shape = shapes[0]
    if not _is_channels_last(shape):
        shape = [*shape[1:], shape[0]]
    if shape[-1] not in _COUNTS:
        raise ValueError(
            "Expected a network of images with 1 or 3 channels. Received: "
            f"{model.name} with inputs of the shape {shapes[0]}"
        )
    return tuple(shape)


def _is_channels_last(shape):
    return shape[-1] in _COUNTS or shape[-3] not in _COUNTS


@keras.saving.register_keras_serializable(package="aw_keras")
class Preprocess(keras.layers.Layer):
    """A `Preprocessing` as a layer, which is what a call in a model adds.

    Args:
        preprocessing: `Preprocessing`, or a dict of its fields.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(N, height, width, channels)`, or channels first; any size, and any
        dtype, with values from 0 to 255.

    Output shape:
        The same with the size of the preprocessing; float32.
    """

    def __init__(self, preprocessing, data_format=None, **kwargs):
        # Half precision does not tell 256 levels apart.
        super().__init__(**{"dtype": "float32", "autocast": False} | kwargs)
        if isinstance(preprocessing, dict):
            preprocessing = Preprocessing(**preprocessing)
        self.preprocessing = preprocessing
        self.data_format = standard_data_format(data_format)

    def call(self, images):
        return self.preprocessing(images, self.data_format)

    def compute_output_spec(self, images):
        last = self.data_format == "channels_last"
        batch, *shape = images.shape
        size = shape[:2] if last else shape[1:]
        size = self.preprocessing.size or size
        channels = (len(self.preprocessing.channels),)
        shape = (*size, *channels) if last else (*channels, *size)
        return keras.KerasTensor((batch, *shape), "float32")

    def get_config(self):
        return super().get_config() | {
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "data_format": self.data_format,
        }


def _largest(one, other):
    known = isinstance(one, int) and isinstance(other, int)
    return max(one, other) if known else ops.maximum(one, other)


def _half(number):
    """Half of a whole number; of an odd one, the even neighbour of that."""
    floor = number // 2
    return (number + floor - floor // 2 * 2) // 2


def _grey(xp, images, axis):
    if images.shape[axis] == 1:
        return images
    shape = (-1,) if axis == -1 else (-1, 1, 1)
    weights = np.reshape(_GREY, shape).astype("float32")
    return xp.sum(xp.multiply(images, weights), axis=axis, keepdims=True)


def _cast(images, dtype):
    if isinstance(images, np.ndarray):
        # In order: products of others take an age.
        return images.astype(dtype, order="C", copy=False)
    return ops.cast(images, dtype)


def _floating_copy(x):
    if isinstance(x, np.ndarray):
        floating = np.issubdtype(x.dtype, np.floating)
        return x.astype(x.dtype if floating else config.floatx())
    if "float" in backend.standardize_dtype(x.dtype):
        return x
    return ops.cast(x, config.floatx())
