"""The card of the study on blood cells, from the table of its runs.

It knows the table alone: pages are written without the Model Garden.
"""

import statistics

from zoo.publishing import table

_CARD = """{head}
# Faster R-CNN with ResNet-18-FPN on blood cells (BCCD)

What was measured here: COCO's average precision in percent on the 72 test
images of BCCD. Each network began at random weights and trained {steps} steps
of four images of 256x320 pixels on the 205 images of the split `train`; the
recipe, that of the experiment `fasterrcnn_aw_resnetfpn_bccd`, is the same for
all: its learning rate was chosen for the plain network, on the split `val`. The
last checkpoint counts: none was chosen by its result.

The mean over the seeds {seeds} is followed by the standard deviation; the
difference to the plain network pairs the runs of equal seeds, and `p` is that
of a paired t-test. {time} From
`zoo/results/bccd.csv`, which `python -m zoo.bccd` wrote.

{overall}

By class:

{by_class}

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

_OVERALL = ("AP", "AP50")


def path(places):
    """Path of the table of runs."""
    return places.zoo / "results" / "bccd.csv"


def page(places, head):
    """The card, `None` where there is no table."""
    runs = _runs(places)
    if runs is None:
        return None
    rows = [row for own in runs.values() for row in own]
    return _CARD.format(
        head=head,
        steps=rows[0]["steps"],
        seeds=", ".join(sorted({row["seed"] for row in rows})),
        time=_time(rows),
        overall=_overall(runs),
        by_class=_by_class(runs),
    )


def overall(places):
    """The average precisions over all classes, `None` without a table."""
    runs = _runs(places)
    return None if runs is None else _overall(runs)


def _overall(runs):
    header = ["backbone", "parameters:"]
    for name in _OVERALL:
        header += [f"{name}, %:", "to plain, points:"]
    lines = [
        [
            backbone,
            f"{int(own[0]['parameters']) / 1e6:.2f} M",
            *(cell for name in _OVERALL for cell in _compared(runs, own, name)),
        ]
        for backbone, own in runs.items()
    ]
    return table.markdown(header, lines)


def _runs(places):
    """Dict from backbone to the rows of its runs."""
    rows = table.read_dicts(path(places))
    if not rows:
        return None
    backbones = list(dict.fromkeys(row["backbone"] for row in rows))
    return {b: [r for r in rows if r["backbone"] == b] for b in backbones}


def _compared(runs, own, column):
    """Mean of a column, and its difference to the plain network."""
    plain = runs.get("plain", [])
    difference = table.show_comparison(
        table.compare(_by_seed(own, column), _by_seed(plain, column)), digits=1
    )
    return _mean(own, column), "" if own is plain else difference


def _by_class(runs):
    first = next(iter(runs.values()))[0]
    columns = [
        name for name in first if name.startswith("AP") and name not in _OVERALL
    ]
    lines = [
        [backbone, *(_mean(own, column) for column in columns)]
        for backbone, own in runs.items()
    ]
    header = ["backbone", *(f"{column}, %:" for column in columns)]
    return table.markdown(header, lines)


def _by_seed(rows, column):
    return {row["seed"]: float(row[column]) for row in rows}


def _mean(rows, column):
    values = _by_seed(rows, column).values()
    return table.show(*table.mean_and_deviation(list(values)), digits=1)


def _time(rows):
    seconds = [float(row["seconds"]) for row in rows if row["seconds"]]
    if not seconds:
        return "Every training was interrupted, so none was timed."
    minutes = statistics.median(seconds) / 60
    hardware = " or ".join(sorted({row["hardware"] for row in rows}))
    return f"A run took {minutes:.0f} minutes (median) on {hardware}."
