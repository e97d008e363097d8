"""Small data sets of coloured rectangles, as VOC folders and COCO JSON."""

import io
import json

import numpy as np
from PIL import Image

CLASSES = ("red", "blue")
COLOURS = {"red": (220, 40, 40), "blue": (40, 40, 220)}
#: Class, left, top, right, bottom.
OBJECTS = (("red", 8, 4, 40, 36), ("blue", 44, 20, 60, 60))
WIDTH, HEIGHT = 96, 64


def jpeg(seed=0, objects=OBJECTS, width=WIDTH, height=HEIGHT):
    """A JPEG of rectangles on noise, as bytes."""
    rng = np.random.default_rng(seed)
    image = rng.integers(100, 140, (height, width, 3)).astype("uint8")
    for name, left, top, right, bottom in objects:
        image[top:bottom, left:right] = COLOURS[name]
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=95)
    return file.getvalue()


def xml(objects=OBJECTS, width=WIDTH, height=HEIGHT):
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin>"
        f"<ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
        "</bndbox></object>"
        for name, left, top, right, bottom in objects
    )
    return (
        f"<annotation><size><width>{width}</width><height>{height}</height>"
        f"</size>{boxes}</annotation>"
    )


def write_voc(folder, count, split="train"):
    """A VOC folder of images `image0`, `image1`, ..."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    names = [f"image{number}" for number in range(count)]
    (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    for seed, name in enumerate(names):
        (folder / f"Annotations/{name}.xml").write_text(xml())
        (folder / f"JPEGImages/{name}.jpg").write_bytes(jpeg(seed))
    return folder


def coco(count=1):
    """A COCO JSON as a dict."""
    return {
        "images": [
            {
                "id": 10 + number,
                "file_name": f"image{number}.jpg",
                "width": WIDTH,
                "height": HEIGHT,
            }
            for number in range(count)
        ],
        "categories": [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}],
        "annotations": [
            {
                "id": 100 * number + index,
                "image_id": 10 + number,
                "category_id": {"red": 3, "blue": 7}[name],
                "bbox": [left, top, right - left, bottom - top],
                "area": 5.5,
                "iscrowd": index,
            }
            for number in range(count)
            for index, (name, left, top, right, bottom) in enumerate(OBJECTS)
        ],
    }


def write_coco(folder, content):
    """A COCO JSON with its images beside it; returns its path."""
    for number in range(2):
        (folder / f"image{number}.jpg").write_bytes(jpeg(number))
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return path
