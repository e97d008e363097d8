"""Draws what an exported detector finds in images.

    python -m aw_keras.detection.predict exported/bccd cells.jpg --out found

Writes a PNG of the same name for each image into the folder `--out`, and
prints one line for each box: image, class, score and corners in pixels. Where
nothing is found, and which images cannot be read, is said on stderr; the exit
code is 2 if there are such images.
"""

import argparse
import colorsys
import dataclasses
import json
import math
import os
import sys

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from aw_keras.command import DONE, REFUSED, complain, one_line_errors
from aw_keras.detection.export import CLASSES
from aw_keras.image_files import read_image

_NAME = "aw_keras.detection.predict"


@dataclasses.dataclass(frozen=True)
class Detection:
    """An object that was found: corners in pixels of the image."""

    label: int
    score: float
    left: float
    top: float
    right: float
    bottom: float


class Detector:
    """An exported detector.

    Args:
        path: Path of a folder that `aw_keras.detection.export` wrote.

    Attributes:
        classes: Dict from the number of a class to its name; empty if the
            names were not exported.

    Raises:
        ValueError: If there is no such SavedModel.
    """

    def __init__(self, path):
        try:
            self._model = tf.saved_model.load(path)
            self._detect = self._model.signatures["serving_default"]
        except (OSError, KeyError) as error:
            raise ValueError(
                "Expected the folder of an exported detector. "
                f"Received: path={path}"
            ) from error
        self.classes = {}
        if os.path.isfile(names := os.path.join(path, CLASSES)):
            with open(names) as file:
                self.classes = {int(k): v for k, v in json.load(file).items()}

    def __call__(self, image, least_score=0.0):
        """What is in one image.

        Args:
            image: `(height, width, 3)`, uint8.
            least_score: Number from 0 to 1, of the objects that count.

        Returns:
            A list of `Detection`, the surest first.
        """
        outputs = self._detect(tf.constant(image[None]))
        outputs = {key: value[0].numpy() for key, value in outputs.items()}
        count = int(outputs["num_detections"])
        # Rows of the information: size, size of the input, scale, offset.
        scale = outputs["image_info"][2]
        boxes = outputs["detection_boxes"][:count].reshape(-1, 2, 2) / scale
        boxes = np.clip(boxes, 0, image.shape[:2])
        found = zip(
            outputs["detection_classes"],
            outputs["detection_scores"],
            boxes,
        )
        return [
            Detection(
                int(label),
                float(score),
                *map(float, (left, top, right, bottom)),
            )
            for label, score, ((top, left), (bottom, right)) in found
            if score >= least_score
        ]

    def name(self, label):
        """The name of a class, or its number as text."""
        return self.classes.get(label, str(label))

    def caption(self, found):
        """Class and score of a `Detection`, as text."""
        return f"{self.name(found.label)} {found.score:.0%}"


def draw(image, detections, name, scores=True):
    """A picture of an image with boxes, and below it what their colours mean.

    The score of a box is written beside it, if it fits there without covering
    any box or leaving the image; else the box has none.

    Args:
        image: `(height, width, 3)`, uint8.
        detections: Sequence of `Detection`, the surest first.
        name: Function from the number of a class to what it is called.
        scores: Whether to write scores.

    Returns:
        A `PIL.Image.Image` of the same width, with the image at the top.
    """
    height, width, _ = image.shape
    labels = sorted({found.label for found in detections})
    key = _key({label: name(label) for label in labels}, width, height)
    picture = Image.new("RGB", (width, height + key.height))
    picture.paste(Image.fromarray(image))
    canvas = ImageDraw.Draw(picture)
    line = max(2, height // 240)
    for found in reversed(detections):  # The surest on top.
        canvas.rectangle(
            _corners(found), outline=_colour(found.label), width=line
        )
    # After the boxes, whose lines may end below the image.
    picture.paste(key, (0, height))
    font = _font(height)
    taken = [_corners(found) for found in detections]
    for found in detections if scores else ():
        text = f"{found.score:.0%}"
        place = _free_place(
            _corners(found), _size(text, font), taken, (width, height)
        )
        if place is not None:
            canvas.rectangle(place, fill=_colour(found.label))
            _write(canvas, place, text, font)
            taken.append(place)
    return picture


def _corners(found):
    return found.left, found.top, found.right, found.bottom


def _font(height):
    # Legible, too, where a large photograph is shown in the width of a page.
    return ImageFont.load_default(size=max(11, height // 30))


def _size(text, font):
    """Width and height of a text with a little space around it."""
    left, top, right, bottom = font.getbbox(text)
    return math.ceil(right - left) + 4, math.ceil(bottom - top) + 4


def _write(canvas, place, text, font):
    left, top, *_ = font.getbbox(text)
    canvas.text(
        (place[0] + 2 - left, place[1] + 2 - top), text, fill="white", font=font
    )


def _free_place(box, size, taken, limits):
    """Where a text beside a box covers nothing, as corners, or `None`."""
    left, top, right, bottom = box
    width, height = size
    beside = (
        *(
            (x, y)
            for y in (top - height - 1, bottom + 1)
            for x in (left, right - width)
        ),
        *(
            (x, y)
            for x in (left - width - 1, right + 1)
            for y in (top, bottom - height)
        ),
    )
    for x, y in beside:
        place = (x, y, x + width, y + height)
        inside = min(x, y) >= 0 and all(
            end < limit for end, limit in zip(place[2:], limits)
        )
        if inside and not any(_overlap(place, other) for other in taken):
            return place
    return None


def _overlap(one, other):
    return (
        one[0] <= other[2]
        and other[0] <= one[2]
        and one[1] <= other[3]
        and other[1] <= one[3]
    )


def _key(names, width, height):
    """What the colours mean, as a strip as wide as the image."""
    font = _font(height)
    texts = [(_colour(label), text) for label, text in names.items()]
    texts = texts or [((80, 80, 80), "nothing found")]
    while font.size > 6 and any(
        _size(text, font)[0] >= width for _, text in texts
    ):
        font = font.font_variant(size=font.size - 1)
    row = math.ceil(font.size * 1.4) + 4
    places, x, y = [], 0, 0
    for colour, text in texts:
        wide = _size(text, font)[0]
        if x and x + wide > width:
            x, y = 0, y + row
        places.append(((x, y, x + wide, y + row - 2), colour, text))
        x += wide + 4
    strip = Image.new("RGB", (width, y + row), "white")
    canvas = ImageDraw.Draw(strip)
    for place, colour, text in places:
        canvas.rectangle(place, fill=colour)
        _write(canvas, place, text, font)
    return strip


def _colour(label):
    """Dark, and as different as can be from the last few labels'."""
    hue = label * 0.618 % 1  # The golden ratio.
    return tuple(int(255 * v) for v in colorsys.hsv_to_rgb(hue, 1, 0.7))


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m aw_keras.detection.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="folder of an exported detector")
    parser.add_argument("images", nargs="+", metavar="image")
    parser.add_argument("--out", required=True, help="folder of the PNGs")
    parser.add_argument("--least-score", type=float, default=0.5)
    options = parser.parse_args(arguments)
    pictures = _pictures(options.images, options.out)
    detector = Detector(options.model)
    os.makedirs(options.out, exist_ok=True)
    code = DONE
    for path, picture in pictures.items():
        try:
            image = read_image(path)
        except ValueError as error:
            complain(_NAME, error)
            code = REFUSED
            continue
        detections = detector(image)
        sure = [d for d in detections if d.score >= options.least_score]
        for found in sure:
            print(
                f"{path}\t{detector.name(found.label)}\t{found.score:.3f}\t"
                f"{found.left:.0f} {found.top:.0f} "
                f"{found.right:.0f} {found.bottom:.0f}"
            )
        if not sure:
            best = map(detector.caption, detections[:1])
            print(
                f"{path}: nothing with a score of {options.least_score:.0%} or "
                f"more; the surest is {next(best, 'nothing')}",
                file=sys.stderr,
            )
        draw(image, sure, detector.name).save(picture)
    return code


def _pictures(images, folder):
    """Dict from the paths of images to those of their pictures."""
    pictures = {}
    for path in images:
        stem = os.path.splitext(os.path.basename(path))[0]
        pictures[path] = os.path.join(folder, f"{stem}.png")
    for path, picture in pictures.items():
        if os.path.exists(picture) and os.path.samefile(path, picture):
            raise ValueError(
                "Expected another folder than that of the images, which the "
                f"pictures would replace. Received: out={folder}, {path}"
            )
    if len(set(pictures.values())) < len(images):
        raise ValueError(
            "Expected images with different names, as their pictures have. "
            f"Received: {images}"
        )
    return pictures


if __name__ == "__main__":
    with one_line_errors(_NAME):
        sys.exit(main())
