"""Draws what an exported detector finds in images.

    python -m aw_keras.detection.predict exported/bccd cells.jpg --out found

Writes a PNG of the same name for each image into the folder `--out`, and
prints one line for each box: image, class, score and corners in pixels.
"""

import argparse
import colorsys
import dataclasses
import json
import os
import sys

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from aw_keras.detection.export import CLASSES


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


def read_image(path):
    """`(height, width, 3)` of an image file, uint8, or a ValueError."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(
            f"Expected a readable image. Received: {path} ({error})"
        ) from error


def draw(image, detections, caption):
    """A picture of an image with boxes.

    Args:
        image: `(height, width, 3)`, uint8.
        detections: Sequence of `Detection`.
        caption: Function from a `Detection` to what is written at its box.

    Returns:
        A `PIL.Image.Image` of the same size.
    """
    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    # Legible, too, where a large photograph is shown in the width of a page.
    font = ImageFont.load_default(size=max(11, picture.height // 30))
    line = max(2, picture.height // 240)
    for found in reversed(detections):  # The surest on top.
        colour = _colour(found.label)
        corners = (found.left, found.top, found.right, found.bottom)
        canvas.rectangle(corners, outline=colour, width=line)
        text = caption(found)
        _, _, width, height = canvas.textbbox((0, 0), text, font=font)
        # Above the box, or else in it, but never outside the picture.
        place = (
            max(min(found.left, picture.width - width), 0),
            max(found.top - height, 0),
        )
        canvas.rectangle(canvas.textbbox(place, text, font=font), fill=colour)
        canvas.text(place, text, fill="white", font=font)
    return picture


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
    for path, picture in pictures.items():
        image = read_image(path)
        detections = detector(image, options.least_score)
        for found in detections:
            print(
                f"{path}\t{detector.name(found.label)}\t{found.score:.3f}\t"
                f"{found.left:.0f} {found.top:.0f} "
                f"{found.right:.0f} {found.bottom:.0f}"
            )
        draw(image, detections, detector.caption).save(picture)


def _pictures(images, folder):
    """Dict from the paths of images to those of their pictures."""
    pictures = {}
    for path in images:
        stem = os.path.splitext(os.path.basename(path))[0]
        pictures[path] = os.path.join(folder, f"{stem}.png")
    if len(set(pictures.values())) < len(images):
        raise ValueError(
            "Expected images with different names, as their pictures have. "
            f"Received: {images}"
        )
    return pictures


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
