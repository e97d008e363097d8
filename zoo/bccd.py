"""Faster R-CNN on blood cells: what attention in the backbone changes.

    python -m zoo.bccd BCCD --out runs/bccd

trains ResNet-18-FPN, plain and with AW-convolution, squeeze-and-excitation and
both, with one recipe and the same seeds, from random weights, and measures each
on the test images. `BCCD` is the folder of the data set of that name that has
`Annotations`, `ImageSets` and `JPEGImages`. The same command goes on where it
was interrupted, after the last checkpoint of the run that it was at.

When all runs are finished it writes `zoo/results/bccd.csv`, one line a run, and
`zoo/results/bccd.png`, what the networks of the first seed find; `python -m
zoo.pages` makes a card of it. It needs the extras `detection` and `zoo`.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from matplotlib.figure import Figure

from aw_keras.command import one_line_errors
from aw_keras.detection import annotations, predict
from aw_keras.detection.prepare import ANNOTATIONS, prepare
from zoo.publishing import table
from zoo.studies import bccd_card
from zoo.studies.bccd_run import CLASSES, METRICS, VARIANTS, read_image

SPLITS = ("train", "test")
SEEDS = (1, 2, 3)
STEPS = 500


def prepare_data(bccd, data):
    """Writes the splits that are not there yet as TFRecords."""
    for split in SPLITS:
        if not (data / split).exists():
            dataset = annotations.read_voc(bccd, split, CLASSES)
            # Two boxes of the set are empty.
            print(prepare(dataset, data / split, skip_bad=True))


def write_results(folders, bccd, data, places):
    """Writes table and picture of finished runs.

    Args:
        folders: Dict from variant and seed to the folder of a run.
        bccd: Path of the data set.
        data: Path of its TFRecords.
        places: `zoo.publishing.table.Places`.
    """
    rows = [json.loads((f / METRICS).read_text()) for f in folders.values()]
    path = bccd_card.path(places)
    table.write_dicts(path, rows)
    draw(folders, bccd, data, path.with_suffix(".png"))


def draw(folders, bccd, data, path, count=3):
    """Draws test images: as annotated, and what networks of one seed find."""
    content = json.loads((data / "test" / ANNOTATIONS).read_text())
    numbers = {e["file_name"]: e["id"] for e in content["images"][:count]}
    images = {name: read_image(bccd, name) for name in numbers}
    seed = min(seed for _, seed in folders)
    shown = {v: f for (v, s), f in folders.items() if s == seed}
    figure = Figure(
        figsize=(4 * len(images), 3.2 * (len(shown) + 1)), layout="constrained"
    )
    axes = figure.subplots(len(shown) + 1, len(images), squeeze=False)
    pictures = {
        "annotated": [
            predict.draw(
                image, _annotated(content, numbers[name]), _class, scores=False
            )
            for name, image in images.items()
        ]
    }
    for variant, folder in shown.items():
        detector = predict.Detector(str(folder / "exported"))
        pictures[variant] = [
            predict.draw(image, detector(image, 0.5), detector.name)
            for image in images.values()
        ]
    for row, (title, drawn) in zip(axes, pictures.items()):
        for axis, name, picture in zip(row, images, drawn):
            axis.imshow(picture)
            axis.set_title(f"{title}, {name}", fontsize=8)
            axis.axis("off")
    figure.savefig(path, dpi=100)


def _annotated(content, image):
    """The boxes of an image, as if they were found."""
    return [
        predict.Detection(
            box["category_id"], 1.0, left, top, left + width, top + height
        )
        for box in content["annotations"]
        if box["image_id"] == image
        for left, top, width, height in [box["bbox"]]
    ]


def _class(label):
    return CLASSES[label - 1]


def main(arguments=None, places=None):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.bccd",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bccd", type=pathlib.Path, help="folder of the images")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args(arguments)
    data = options.out / "data"
    prepare_data(options.bccd, data)
    folders = {
        (variant, seed): options.out / f"{variant}-{seed}-{options.steps}"
        for seed in options.seeds
        for variant in options.variants
    }
    for (variant, seed), folder in folders.items():
        if not (folder / METRICS).exists():
            # A process of its own gives the memory back.
            call = (variant, seed, options.bccd, data, folder, options.steps)
            subprocess.run(
                [sys.executable, "-m", "zoo.studies.bccd_run", *map(str, call)],
                check=True,
            )
    write_results(folders, options.bccd, data, places or table.Places())


if __name__ == "__main__":
    with one_line_errors("zoo.bccd"):
        main()
