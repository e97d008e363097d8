"""Resizing with antialiasing: two products with small matrices.

Every row of the result is a weighted mean of rows of the image, every column
one of columns, so that resizing is `rows @ image @ columns.T`. The weights are
those of Pillow's `Image.resize`: a kernel that is as wide as a pixel of the
result, or of the image where that is wider. They are computed from the sizes
by arithmetic that NumPy and every backend and runtime have, so that all of
them resize alike; and those of a crop are some of their rows, so that nothing
is computed that is cut off again.
"""

import dataclasses
from typing import Any

import numpy as np
from keras import ops


def _triangle(xp, distance):
    return xp.maximum(1 - distance, 0)


def _cubic(xp, distance):
    """That of Catmull and Rom, which Pillow takes: `a = -1/2`."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return xp.where(distance < 1, near, xp.where(distance < 2, far, 0.0))


#: Functions of a distance in pixels, by the name of the interpolation.
KERNELS = {"bilinear": _triangle, "bicubic": _cubic}


@dataclasses.dataclass(frozen=True)
class Axis:
    """What becomes of the height or the width of images.

    Sizes are integers, or integer tensors where a graph does not know them.

    Attributes:
        extent: Size of the image, in pixels.
        resized: Size of the resized image.
        first: The first pixel of that to be kept.
        kept: Number of pixels that are, always an integer.
    """

    extent: Any
    resized: Any
    first: Any
    kept: int

    def weights(self, interpolation):
        """Matrix `(kept, extent)`, float32; an array if the sizes are known."""
        known = isinstance(self.extent, int) and isinstance(self.resized, int)
        xp = np if known else ops
        # Positions in units in which they are integers, and exact as long as
        # they have 24 bits.
        kept = xp.arange(self.kept, dtype="float32")
        kept = (2 * xp.add(kept, self.first) + 1)[:, None]
        given = 2 * xp.arange(self.extent, dtype="float32")[None, :] + 1
        distance = xp.abs(
            xp.subtract(
                xp.multiply(given, self.resized), xp.multiply(kept, self.extent)
            )
        )
        reach = 2 * xp.maximum(self.extent, self.resized)
        weights = KERNELS[interpolation](
            xp, xp.divide(distance, float(reach) if known else reach)
        )
        return weights / xp.sum(weights, axis=1, keepdims=True)


def resize(images, height, width, interpolation):
    """Resizes images with antialiasing.

    Args:
        images: Float32 array or tensor `(..., channels, height, width)`.
        height: `Axis` of the rows.
        width: `Axis` of the columns.
        interpolation: Key of `KERNELS`.

    Returns:
        Array or tensor `(..., channels, height.kept, width.kept)`.
    """
    xp = np if isinstance(images, np.ndarray) else ops
    rows, columns = (axis.weights(interpolation) for axis in (height, width))
    images = xp.matmul(images, xp.transpose(columns))
    if interpolation == "bicubic":
        # Between its two passes Pillow has bytes.
        images = xp.clip(images, 0.0, 255.0)
    images = xp.matmul(rows, images)
    return xp.clip(images, 0.0, 255.0) if interpolation == "bicubic" else images
