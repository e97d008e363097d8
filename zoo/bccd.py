"""Faster R-CNN on blood cells: what attention in the backbone changes.

    python -m zoo.bccd BCCD --out runs/bccd

trains ResNet-18-FPN, plain and with AW-convolution, squeeze-and-excitation and
both, with one recipe and the same seeds, from random weights, and measures each
on the test images. `BCCD` is the folder of the data set of that name that has
`Annotations`, `ImageSets` and `JPEGImages`. The same command goes on where it
was interrupted, after the last checkpoint of the run that it was at.

When all runs are finished it writes `zoo/results/bccd.csv`, one line a run,
`zoo/results/bccd.png`, what the networks of the first seed find, and the card
`zoo/cards/bccd.md`. It needs the extras `detection` and `zoo`.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from matplotlib.figure import Figure

from aw_keras.detection import annotations, predict
from aw_keras.detection.prepare import ANNOTATIONS, prepare
from zoo import table
from zoo.bccd_run import (
    CLASSES,
    METRICS,
    VARIANTS,
    read_image,
)

SPLITS = ("train", "test")
SEEDS = (1, 2, 3)
STEPS = 500

_ZOO = pathlib.Path(__file__).parent


def prepare_data(bccd, data):
    """Writes the splits that are not there yet as TFRecords."""
    for split in SPLITS:
        if not (data / split).exists():
            dataset = annotations.read_voc(bccd, split, CLASSES)
            # Two boxes of the set are empty.
            print(prepare(dataset, data / split, skip_bad=True))


def write_results(folders, bccd, data, zoo):
    """Writes table, picture and card of finished runs.

    Args:
        folders: Dict from variant and seed to the folder of a run.
        bccd: Path of the data set.
        data: Path of its TFRecords.
        zoo: Path of the folder with `results` and `cards`.
    """
    rows = [json.loads((f / METRICS).read_text()) for f in folders.values()]
    table.write_dicts(zoo / "results" / "bccd.csv", rows)
    (zoo / "cards").mkdir(exist_ok=True)
    draw(folders, bccd, data, zoo / "results" / "bccd.png")
    (zoo / "cards" / "bccd.md").write_text(card(rows))


def draw(folders, bccd, data, path, count=3):
    """Draws what the networks of the first seed find in test images."""
    content = json.loads((data / "test" / ANNOTATIONS).read_text())
    names = [entry["file_name"] for entry in content["images"][:count]]
    seed = min(seed for _, seed in folders)
    shown = {v: f for (v, s), f in folders.items() if s == seed}
    figure = Figure(
        figsize=(4 * len(names), 3.2 * len(shown)), layout="constrained"
    )
    axes = figure.subplots(len(shown), len(names), squeeze=False)
    for row, (variant, folder) in zip(axes, shown.items()):
        detector = predict.Detector(str(folder / "exported"))
        for axis, name in zip(row, names):
            image = read_image(bccd, name)
            found = detector(image, least_score=0.5)
            axis.imshow(predict.draw(image, found, detector.name))
            axis.set_title(f"{variant}, {name}", fontsize=8)
            axis.axis("off")
    figure.savefig(path, dpi=100)


def card(rows):
    """The card of the study, as Markdown."""
    columns = [name for name in rows[0] if name.startswith("AP")]
    lines = [
        " | ".join(["backbone", "parameters", *columns]),
        " | ".join(["---"] * (2 + len(columns))),
    ]
    for variant in dict.fromkeys(row["backbone"] for row in rows):
        runs = [row for row in rows if row["backbone"] == variant]
        figures = [
            table.mean_and_deviation([r[c] for r in runs]) for c in columns
        ]
        cells = [table.show(*figure, digits=1) for figure in figures]
        parameters = f"{runs[0]['parameters'] / 1e6:.2f} M"
        lines.append(" | ".join([variant, parameters, *cells]))
    seeds = sorted({row["seed"] for row in rows})
    return _CARD.format(
        table="\n".join(f"| {line} |" for line in lines),
        seeds=", ".join(map(str, seeds)),
        steps=rows[0]["steps"],
        time=_time(rows),
    )


def _time(rows):
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    if not seconds:
        return "Every training was interrupted, so none was timed."
    minutes = statistics.median(seconds) / 60
    return f"A run took {minutes:.0f} minutes on {rows[0]['hardware']}."


_CARD = """# Faster R-CNN with ResNet-18-FPN on blood cells (BCCD)

Written by `python -m zoo.bccd`, from `zoo/results/bccd.csv`.

What was measured here: COCO's average precision in percent on the 72 test
images of BCCD, mean and standard deviation over the seeds {seeds}. Each network
began at random weights and trained {steps} steps of four images of 256x320
pixels on the 205 images of the split `train`; the recipe, that of the
experiment `fasterrcnn_aw_resnetfpn_bccd`, is the same for all, and none was
tuned. {time} The last checkpoint
counts: none was chosen by its result.

{table}

![What the networks find](../results/bccd.png)

What the paper reports, and this project has not measured: on COCO, with Faster
R-CNN and ResNet-101-FPN, AW-convolution raises the average precision by 0.63,
and by up to 0.45 more together with attention over activations
([arXiv 2108.08205](https://arxiv.org/abs/2108.08205), abstract). That takes
COCO and a machine with several accelerators. The recipe is here:

    python -m aw_keras.detection.prepare instances_train2017.json \\
        --images train2017 --shards 256 --skip-bad --out coco/train
    python -m aw_keras.detection.prepare instances_val2017.json \\
        --images val2017 --shards 32 --skip-bad --out coco/val
    python -m aw_keras.detection.train --mode=train_and_eval \\
        --experiment=fasterrcnn_aw_resnetfpn_coco --model_dir=runs/coco \\
        --params_override=runtime.num_gpus=8

It trains 22,500 steps of 64 images of 1024x1024 pixels, twelve epochs, which is
about 2.4e18 floating-point operations, and begins at the weights of
`keras.applications.ResNet101` for ImageNet. For the plain network of this size
and as many images, the authors of Detectron2 report 0.286 seconds for 16 images
on eight V100, that is about seven hours or 57 hours of one V100; expect more
for AW-convolution.
"""


def main(arguments=None):
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
    parser.add_argument(
        "--zoo", type=pathlib.Path, default=_ZOO, help="where results go"
    )
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
                [sys.executable, "-m", "zoo.bccd_run", *map(str, call)],
                check=True,
            )
    write_results(folders, options.bccd, data, options.zoo)


if __name__ == "__main__":
    main()
