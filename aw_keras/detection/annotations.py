"""Reads and checks images with boxes, from a VOC folder or a COCO JSON.

Nothing of what is read is trusted. What is wrong with a whole set is a
ValueError; what is wrong with one image or one box is a `Fault`, and the
others are still read.
"""

import collections
import contextlib
import dataclasses
import io
import itertools
import json
import math
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from aw_keras.files import read_inside
from aw_keras.image_files import size_of
from aw_keras.suggestions import did_you_mean

_SPLITS = os.path.join("ImageSets", "Main")
_ANNOTATIONS = "Annotations"

# Corners with two decimals, as in COCO, may lie this far outside the image.
_ROUNDING = 0.01 + 1e-6
_LARGEST_ID = 2**31 - 1

#: Bytes of the files of images, and of splits and annotations of VOC.
_LARGEST_SPLIT = 2**26
_LARGEST_IMAGE = 2**26
_LARGEST_ANNOTATION = 2**24

#: What Pillow may find in what begins as a JPEG.
_FORMATS = ("JPEG", "MPO")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong with an image or a box.

    Attributes:
        file: Path of the image or of its annotation.
        reason: Text.
        whole_image: Whether the image cannot be used, or only one box.
    """

    file: str
    reason: str
    whole_image: bool

    def __str__(self):
        return f"{self.file}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Box:
    """An object: number of its class, corners and area in pixels."""

    label: int
    left: float
    top: float
    right: float
    bottom: float
    area: float
    crowd: bool


@dataclasses.dataclass(frozen=True)
class Listed:
    """An image as its annotation has it, unchecked.

    Attributes:
        id: Integer, unique in the set.
        file: Path of the annotation.
        folder: Path of the folder of the images.
        image: Path of the JPEG, relative to that.
        size: What the annotation says of width and height.
        objects: Objects as the annotation has them.
        parse: Function from such an object to a `Box`, which raises `Bad`.
    """

    id: int
    file: str
    folder: str
    image: str
    size: tuple[Any, Any]
    objects: list
    parse: Callable[[Any], Box]


@dataclasses.dataclass(frozen=True)
class Example:
    """A readable image, with the boxes that lie in it."""

    id: int
    name: str
    width: int
    height: int
    jpeg: bytes
    boxes: tuple[Box, ...]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images that are listed, but not looked at yet.

    Attributes:
        classes: Dict from the number of a class to its name.
        count: Number of images.
        listed: Iterator over a `Listed` or a `Fault` for each, and further
            faults.
    """

    classes: dict[int, str]
    count: int
    listed: Iterator[Listed | Fault]


class Bad(Exception):
    """Why an image or a box cannot be used."""


def read_voc(folder, split, classes):
    """A split of a folder with `Annotations`, `ImageSets` and `JPEGImages`.

    Objects that are marked as difficult become crowds, which neither train
    nor count in the evaluation.

    Args:
        folder: Path of the folder.
        split: Name of a text file in `ImageSets/Main`.
        classes: Sequence of names, which are numbered from 1.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: If the split or `classes` cannot be used.
    """
    path = os.path.join(folder, _SPLITS, f"{split}.txt")
    _check_split(folder, split)
    try:
        text = read_inside(*os.path.split(path), _LARGEST_SPLIT).decode()
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error
    names = [line.split()[0] for line in text.split("\n") if line.strip()]
    _check_unique("images", names, path)
    _check_unique("classes", classes, path)
    numbered = dict(enumerate(classes, 1))
    _check_classes(numbered.items(), path)
    _check_some_occur(classes, _classes_of(folder, names))
    return Dataset(numbered, len(names), _voc_images(folder, names, numbered))


def read_coco(path, images):
    """A JSON file with `images`, `annotations` and `categories`.

    Args:
        path: Path of the file.
        images: Path of the folder of the images.

    Returns:
        A `Dataset`, whose classes have the numbers of the categories.

    Raises:
        ValueError: If the file does not have these lists, or two images or
            categories have one number.
    """
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"not JSON: {error}") from error
    categories = _items(content, "categories", path)
    _check_unique("categories", [c.get("id") for c in categories], path)
    named = [(c.get("id"), c.get("name")) for c in categories]
    _check_classes(named, path)
    classes = dict(named)
    entries = _items(content, "images", path)
    _check_unique("images", [entry.get("id") for entry in entries], path)
    objects = _items(content, "annotations", path)
    listed = _coco_images(path, images, entries, objects, classes)
    return Dataset(classes, len(entries), listed)


def examples(dataset, report):
    """The images of a set that can be used.

    Args:
        dataset: `Dataset`.
        report: Function that is called with every `Fault`.

    Yields:
        `Example`.
    """
    for listed in dataset.listed:
        if isinstance(listed, Fault):
            report(listed)
            continue
        try:
            jpeg, width, height = _read_image(listed)
        except Bad as bad:
            path = os.path.join(listed.folder, listed.image)
            report(Fault(path, str(bad), True))
            continue
        boxes = []
        for item in listed.objects:
            try:
                boxes.append(_inside(listed.parse(item), width, height))
            except Bad as bad:
                report(Fault(listed.file, str(bad), False))
        name = os.path.basename(listed.image)
        yield Example(listed.id, name, width, height, jpeg, tuple(boxes))


def _check_split(folder, split):
    splits = sorted(
        path.stem for path in pathlib.Path(folder, _SPLITS).glob("*.txt")
    )
    if splits and split not in splits:
        raise ValueError(
            f"Expected one of the splits {', '.join(splits)}. Received: "
            f"{split}{did_you_mean(split, splits)}"
        )


def _classes_of(folder, names):
    """The classes that occur in annotations, as far as these can be read."""
    found = set()
    for name in names:
        with contextlib.suppress(OSError, ValueError, ElementTree.ParseError):
            root = _annotation(folder, name)
            found.update(x.findtext("name", "") for x in root.iter("object"))
    return found


def _check_some_occur(classes, occurring):
    """Refuses misspelt classes, which would make every box a fault.

    A class may be rare and not occur in one split. But if it is not there, and
    one like it is that nobody asked for, or if none is there, it is misspelt.
    """
    others = sorted(occurring.difference(classes))
    for name in classes:
        hint = "" if name in occurring else did_you_mean(name, others)
        if others and (hint or occurring.isdisjoint(classes)):
            raise ValueError(
                f"Expected classes that occur: {', '.join(sorted(occurring))}. "
                f"Received: {name}{hint}"
            )


def _annotation(folder, name):
    """The root of the annotation of an image."""
    folder = os.path.join(folder, _ANNOTATIONS)
    content = read_inside(folder, f"{name}.xml", _LARGEST_ANNOTATION)
    return ElementTree.fromstring(content)


def _voc_images(folder, names, classes):
    numbers = {name: number for number, name in classes.items()}

    def parse(item):
        name = item.findtext("name")
        if name not in numbers:
            raise Bad(f"unknown class {name}, not one of {list(numbers)}")
        edges = ("xmin", "ymin", "xmax", "ymax")
        left, top, right, bottom = corners = [
            _number(item.findtext(f"bndbox/{edge}")) for edge in edges
        ]
        _check_order(corners)
        return Box(
            numbers[name],
            *corners,
            area=(right - left) * (bottom - top),
            crowd=item.findtext("difficult") == "1",
        )

    images = os.path.join(folder, "JPEGImages")
    for number, name in enumerate(names, 1):
        file = os.path.join(folder, _ANNOTATIONS, f"{name}.xml")
        try:
            root = _annotation(folder, name)
            size = [
                int(_number(root.findtext(f"size/{side}")))
                for side in ("width", "height")
            ]
        except (OSError, ValueError, ElementTree.ParseError, Bad) as error:
            yield Fault(file, f"not an annotation of VOC: {error}", True)
            continue
        objects = root.findall("object")
        image = f"{name}.jpg"
        yield Listed(number, file, images, image, tuple(size), objects, parse)


def _coco_images(path, folder, entries, objects, classes):
    def parse(item):
        label = item.get("category_id")
        if not _is_id(label) or label not in classes:
            raise Bad(f"unknown class in {_short(item)}")
        bbox = item.get("bbox")
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise Bad(f"no box in {_short(item)}")
        left, top, width, height = map(_number, bbox)
        corners = left, top, left + width, top + height
        _check_order(corners)
        area = _number(item.get("area", width * height))
        if area < 0:
            raise Bad(f"negative area in {_short(item)}")
        return Box(
            label,
            *corners,
            area=area,
            crowd=bool(item.get("iscrowd")),
        )

    by_image = collections.defaultdict(list)
    for item in objects:
        by_image[_hashable(item.get("image_id"))].append(item)
    for entry in entries:
        number, name = entry.get("id"), entry.get("file_name")
        own = by_image.pop(_hashable(number), [])
        if not _is_id(number) or not isinstance(name, str):
            yield Fault(path, f"not an image: {_short(entry)}", True)
            continue
        size = entry.get("width"), entry.get("height")
        yield Listed(number, path, folder, name, size, own, parse)
    for item in itertools.chain(*by_image.values()):
        yield Fault(path, f"box of no image: {_short(item)}", False)


def _read_image(listed):
    """JPEG, width and height of a listed image, or `Bad`."""
    try:
        jpeg = read_inside(listed.folder, listed.image, _LARGEST_IMAGE)
    except (OSError, ValueError) as error:
        raise Bad(f"cannot be read: {error}") from error
    # Else TensorFlow would read other formats too.
    if not tf.io.is_jpeg(jpeg):
        raise Bad("not a JPEG")
    try:
        size_of(io.BytesIO(jpeg), _FORMATS)
        height, width, _ = tf.io.decode_jpeg(jpeg, channels=3).shape
    # What Pillow raises for damaged headers depends on where the damage is.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise Bad(f"not a readable JPEG: {reason}") from error
    if listed.size != (width, height):
        raise Bad(
            f"{width} by {height} pixels, but {listed.size[0]} by "
            f"{listed.size[1]} in {listed.file}"
        )
    return jpeg, width, height


def _inside(box, width, height):
    """The box without what rounding puts outside, or `Bad`."""
    if (
        min(box.left, box.top) < -_ROUNDING
        or box.right > width + _ROUNDING
        or box.bottom > height + _ROUNDING
    ):
        corners = (box.left, box.top, box.right, box.bottom)
        raise Bad(f"box {corners} outside the image of {width} by {height}")
    return dataclasses.replace(
        box,
        left=max(box.left, 0.0),
        top=max(box.top, 0.0),
        right=min(box.right, float(width)),
        bottom=min(box.bottom, float(height)),
    )


def _check_order(corners):
    left, top, right, bottom = corners
    if not (left < right and top < bottom):
        raise Bad(f"empty box {tuple(corners)}")


def _number(value):
    """A finite number, from a number or its text, or `Bad`."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Bad(f"not a number: {_short(value)}")
    return number


def _is_id(value):
    return type(value) is int and 0 <= value <= _LARGEST_ID


def _hashable(value):
    return value if _is_id(value) else None


def _short(value):
    text = repr(value)
    return text if len(text) < 100 else text[:97] + "..."


def _items(content, key, path):
    """A list of dicts in a dict, or a ValueError."""
    items = content.get(key) if isinstance(content, dict) else None
    if not isinstance(items, list) or not all(
        isinstance(item, dict) for item in items
    ):
        raise _unusable(path, f"no list of objects as {key!r}")
    return items


def _check_classes(classes, path):
    for number, name in classes:
        printable = isinstance(name, str) and name.strip().isprintable()
        if not (_is_id(number) and number > 0 and printable and name.strip()):
            reason = f"class {_short(number)} named {_short(name)}"
            raise _unusable(path, reason)
    if not classes:
        raise _unusable(path, "no classes")


def _check_unique(what, values, path):
    count = collections.Counter(map(repr, values))
    if twice := [value for value, times in count.items() if times > 1]:
        raise _unusable(path, f"{what} that are there twice: {twice[:10]}")


def _text(path):
    try:
        with open(path, encoding="utf8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error


def _unusable(path, reason):
    return ValueError(
        "Expected a VOC folder with images and classes, or a COCO JSON. "
        f"Received: {path}: {reason}"
    )
