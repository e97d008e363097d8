"""From the file of an image to its pixels: red, green and blue in 8 bits.

Whatever reads an image, does it here. Only formats for photographs are tried:
Pillow would go by the content and start Ghostscript for PostScript in a file
that is called `cat.png`.
"""

import threading
import warnings

import numpy as np

#: Formats of Pillow, each of which is decoded in this process.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

#: Endings of the names of such files.
SUFFIXES = (
    *(".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)

#: The levels of 16 bits in 8.
_EIGHT_BITS = np.round(np.arange(2**16) * (255 / 65535)).astype("uint8")

# Filters of warnings belong to the whole process.
_opening = threading.Lock()


def read_image(file, name=None):
    """Reads an image as a viewer shows it.

    It is turned upright, and what is transparent in it is white. 16 bits of
    grey become 8 of the whole range. Of several pictures it is the first.

    Args:
        file: Path of a file, or a binary file that is open.
        name: What an error calls it; its path by default.

    Returns:
        uint8 array `(height, width, 3)`: red, green and blue.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If it is no whole image of `FORMATS`, if it has more pixels
            than `PIL.Image.MAX_IMAGE_PIXELS`, or if its values have no known
            range, as those of 32 bits. The message names it.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(
            "Expected Pillow to be installed: pip install 'aw-keras[cli]'"
        ) from error
    try:
        with _opened(file, Image) as image:
            format = image.format
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(_rgb(image, format, Image))
    # What Pillow raises for damaged files depends on their format.
    except Exception as error:
        reason = str(error)
        if isinstance(error, UnidentifiedImageError):
            reason = f"none of {', '.join(FORMATS)}"
        raise ValueError(
            "Expected an image that can be read, such as a JPEG or PNG file. "
            f"Received: {name or file} ({reason})"
        ) from error


def size_of(file, formats=FORMATS):
    """Width and height of an image, of which only the header is read.

    Args:
        file: As for `read_image`.
        formats: Those of Pillow that it may have.

    Raises:
        Exception: What Pillow raises for a file of none of the formats, or of
            more pixels than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    from PIL import Image

    with _opened(file, Image, formats) as image:
        return image.size


def _opened(file, Image, formats=FORMATS):
    """The image, of which only the header was read, if it is not too large."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(file, formats=formats)


def _rgb(image, format, Image):
    """Without copies that are not needed: images may be large."""
    # In some formats Pillow has 16 bits in 32.
    wide = image.mode == "I" and format in ("PNG", "PPM")
    if wide or image.mode.startswith("I;16"):
        levels = np.asarray(image)
        image = Image.fromarray(_EIGHT_BITS[levels])
    if image.mode in ("I", "F"):
        raise ValueError("grey values of 32 bits, whose range is not known")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=image)
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")
