"""What is in a file becomes red, green and blue in 8 bits, or is refused."""

import io
import pathlib
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from PIL import Image

from aw_keras.image_files import read_image

GREY = np.arange(256, dtype="uint8").reshape(16, 16)
COLOUR = np.stack([GREY, GREY[::-1], GREY.T], axis=-1)


def stored(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    buffer.seek(0)
    return buffer


def png(kind, depth, samples, width):
    """A PNG that Pillow cannot write: of 16 bits in every kind of colour."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + (struct.pack(">I", checksum))
        )

    rows = np.asarray(samples, f">u{depth // 8}")
    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def grey(levels):
    return np.repeat(np.asarray(levels, "uint8")[..., None], 3, axis=-1)


def equal(file, expected, atol=0):
    found = read_image(file)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), expected, atol=atol)


@pytest.mark.parametrize("format", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_colour_and_grey(format):
    lossless = {"lossless": True} if format == "WEBP" else {}
    equal(stored(Image.fromarray(COLOUR), format, **lossless), COLOUR)
    equal(stored(Image.fromarray(GREY), format, **lossless), grey(GREY))


def test_black_and_white():
    equal(stored(Image.fromarray(GREY > 99)), grey(255 * (GREY > 99)))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bits_of_grey(format):
    """Not white from 256 on, as Pillow converts them."""
    wide = GREY.astype("uint16") * 257
    equal(stored(Image.fromarray(wide), format), grey(GREY))


def test_16_bits_of_grey_that_lie_on_their_side():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(GREY.astype("uint16") * 257)
    equal(stored(wide, exif=exif), grey(np.rot90(GREY, -1)))


def test_16_bits_of_colour_and_of_grey_with_alpha():
    wide = COLOUR.astype("uint16") * 257
    equal(png(2, 16, wide.reshape(16, -1), 16), COLOUR)
    half = np.stack([GREY, np.full_like(GREY, 255)], -1).astype("uint16") * 257
    equal(png(4, 16, half.reshape(16, -1), 16), grey(GREY))


def test_what_is_transparent_is_white():
    alpha = np.where(GREY < 128, 0, 255).astype("uint8")
    shown = np.where(alpha[..., None] > 0, COLOUR, 255)
    rgba = Image.fromarray(np.dstack([COLOUR, alpha]))
    equal(stored(rgba), shown)
    grey_shown = np.where(alpha > 0, GREY, 255)
    la = Image.fromarray(np.dstack([GREY, alpha]), "LA")
    equal(stored(la), grey(grey_shown))
    half = np.dstack([COLOUR, np.full_like(GREY, 128)])
    equal(stored(Image.fromarray(half)), COLOUR / 2 + 127.5, atol=1)


def test_palette():
    image = Image.fromarray(COLOUR).quantize(16)
    equal(stored(image), np.asarray(image.convert("RGB")))
    one = image.copy()
    one.info["transparency"] = 3
    shown = np.asarray(image.convert("RGB")).copy()
    shown[np.asarray(image) == 3] = 255
    equal(stored(one, transparency=3), shown)
    equal(stored(image, "GIF"), np.asarray(image.convert("RGB")))


def test_cmyk():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for format, tolerance in (("TIFF", 0), ("JPEG", 3)):
        equal(stored(red, format), np.full((8, 8, 3), [255, 0, 0]), tolerance)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    upright = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2),
        6: np.rot90(COLOUR, -1),
        7: np.rot90(COLOUR, 2).transpose(1, 0, 2),
        8: np.rot90(COLOUR),
    }[orientation]
    path = tmp_path / "photo.png"
    path.write_bytes(stored(Image.fromarray(COLOUR), exif=exif).getvalue())
    equal(path, upright)


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_32_bits_are_refused(kind):
    file = stored(Image.fromarray(GREY.astype(kind)), "TIFF")
    with pytest.raises(ValueError, match="Received: scan.tif .*32 bits"):
        read_image(file, "scan.tif")


def test_postscript_starts_nothing(tmp_path, monkeypatch):
    def started(*arguments, **options):
        raise AssertionError("Ghostscript")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", started)
    path = tmp_path / "cat.png"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    )
    with Image.open(path) as image:
        assert image.format == "EPS"
    with pytest.raises(ValueError, match="Received: .*cat.png .*none of BMP"):
        read_image(path)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    file = stored(Image.new("L", (100, 100)))
    for limit in (9_999, 4_000):
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            with pytest.raises(ValueError, match="Received: big.png.*limit"):
                read_image(file, "big.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10_000)
    assert read_image(file).shape == (100, 100, 3)


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_what_is_no_image_is_named(content, tmp_path):
    path = tmp_path / "photo.jpg"
    if content is None:
        whole = stored(Image.fromarray(COLOUR), "JPEG").getvalue()
        content = whole[: len(whole) // 2]
    path.write_bytes(content)
    for named in (path, str(path)):
        with pytest.raises(ValueError, match="Received: .*photo.jpg"):
            read_image(named)
    with pytest.raises(ValueError, match="none.png .*No such file"):
        read_image(pathlib.Path(tmp_path, "none.png"))
