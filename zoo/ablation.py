r"""Whether and why AW-convolution helps: one thing changed at a time.

    python -m zoo.ablation zoo/recipes/cifar10_short.yaml --set data=CIFAR10 \
        limit=10000 --seeds 0 1 --out runs/ablation

trains AW-ResNet-20 in the variations of its attention that `VARIATIONS` lists,
and the plain network, all with one recipe, and writes one line for each run to
`zoo/results/ablation.csv`; `python -m zoo.pages` makes a page of it. The same
command goes on where it was interrupted. Besides the accuracy it measures how
much the attention varies over images: a branch that learns nothing stays as it
began.
"""

import argparse
import csv
import dataclasses
import json
import pathlib
import sys

import keras
import numpy as np

from aw_keras.explain import kernel_attention
from aw_keras.explain.attention import variation
from aw_keras.layers import AWConv2D
from zoo import data, pipeline, table
from zoo.callbacks import Stopped
from zoo.checkpoints import replace_text
from zoo.distribute import Devices
from zoo.network import (
    ATTENTION,
    SPARED,
    build,
    compile_for,
    on_pixels,
    preprocessing_for,
)
from zoo.provenance import commit
from zoo.recipe import Recipe
from zoo.train import Signals, add_recipe_arguments, claim, fit, load_data

_RESULT = "result.json"
_IMAGES = 200


@dataclasses.dataclass(frozen=True)
class Variation:
    """What is changed.

    Attributes:
        meaning: The change in words.
        model: Name of the network.
        settings: What differs from the recipe, by field.
        arguments: Further arguments of the network's function.
        expansion: Name of an initializer of the expansions' kernels, whose
            biases begin at zero; `None` leaves both to the layer.
        decay: Whether weight decay acts on the attention branch.
    """

    meaning: str
    model: str = "AWResNet20"
    settings: dict = dataclasses.field(default_factory=dict)
    arguments: dict = dataclasses.field(default_factory=dict)
    expansion: str | None = None
    decay: bool = False


_GLOROT = "glorot_uniform"
_FAST = {"attention_rate": 10}

VARIATIONS = {
    "plain": Variation("the plain network, ResNet-20", model="ResNet20"),
    "uniform": Variation("AW-ResNet-20 as it is: expansion uniform in ±1"),
    "uniform-rate10": Variation(
        "branch learns 10 times as fast", settings=_FAST
    ),
    "units": Variation(
        "8 times the hidden units (`reduction=2`)", arguments={"reduction": 2}
    ),
    "first": Variation(
        "AW-convolution in the first stage only", arguments={"aw_stages": (2,)}
    ),
    "last": Variation(
        "AW-convolution in the last stage only", arguments={"aw_stages": (4,)}
    ),
    "zero": Variation("expansion begins at zero", expansion="zeros"),
    "glorot": Variation("expansion by Glorot's rule", expansion=_GLOROT),
    "rate10": Variation(
        "the same, branch learns 10 times as fast",
        settings=_FAST,
        expansion=_GLOROT,
    ),
    "decay": Variation(
        "expansion by Glorot's rule, weight decay on the branch",
        expansion=_GLOROT,
        decay=True,
    ),
}


def spared(changed):
    """Parts of the names of weights that weight decay spares."""
    return [n for n in SPARED if n != ATTENTION or not changed.decay]


def halves(dataset, seed=0):
    """One half of the training split to train on, the other to measure on.

    Whatever is chosen by the measurements is chosen without the test split.

    Args:
        dataset: `zoo.data.Dataset`.
        seed: Integer, which decides the halves.

    Returns:
        A `zoo.data.Dataset`.
    """
    order = np.random.default_rng(seed).permutation(len(dataset.x_train))
    train, test = np.array_split(order, 2)
    return dataclasses.replace(
        dataset,
        x_train=dataset.x_train[train],
        y_train=dataset.y_train[train],
        x_test=dataset.x_train[test],
        y_test=dataset.y_train[test],
    )


def run(name, recipe, dataset, out, stop=lambda: False):
    """Trains a variation, or goes on with an interrupted training.

    Args:
        name: Key in `VARIATIONS`.
        recipe: `zoo.recipe.Recipe` of its network.
        dataset: `zoo.data.Dataset`.
        out: `pathlib.Path` of the folder of the run, which exists.
        stop: As in `zoo.train.train`.

    Returns:
        Dict of the result, the line of the table, as it stands in
        `result.json`.
    """
    changed = VARIATIONS[name]
    keras.utils.set_random_seed(recipe.seed)
    devices = Devices(None)
    preprocessing = preprocessing_for(recipe, dataset)
    network = build(
        recipe, dataset, classifier_activation=None, **changed.arguments
    )
    if changed.expansion is not None:
        reinitialise(network, changed.expansion)
    model = on_pixels(network, preprocessing)
    steps = pipeline.steps_per_epoch(dataset, recipe)
    compile_for(model, recipe, steps, spared(changed))
    fit(model, recipe, dataset, out, devices, stop)
    with open(out / "log.csv", newline="") as file:
        log = list(csv.DictReader(file))
    last = {column: float(value) for column, value in log[-1].items()}
    pixels = dataset.x_test[:_IMAGES].astype("float32")
    normalised = preprocessing.normalise(pixels, "channels_last")
    result = {
        "variation": name,
        "seed": recipe.seed,
        "recipe": recipe.name,
        "data": table.label(recipe.data),
        "train_images": len(dataset.x_train),
        "other_images": len(dataset.x_test),
        "epochs": recipe.epochs,
        "top1": round(100 * last["val_accuracy"], 2),
        "train_loss": round(last["loss"], 4),
        "attention": attention_variation(network, normalised),
        "hardware": devices.describe(),
        "backend": keras.backend.backend(),
        "commit": commit(),
    }
    replace_text(out / _RESULT, json.dumps(result, indent=2) + "\n")
    return result


def reinitialise(network, initializer):
    """Lets the expansions of all attention branches begin anew."""
    for layer in network.layers:
        if isinstance(layer, AWConv2D):
            kernel = layer.attention_expand_kernel
            kernel.assign(keras.initializers.get(initializer)(kernel.shape))
            bias = layer.attention_expand_bias
            bias.assign(keras.ops.zeros_like(bias))


def attention_variation(network, images):
    """Standard deviation of attention over images, `None` without attention.

    It is the root mean square over layers and elements of their kernels.
    """
    if not any(isinstance(layer, AWConv2D) for layer in network.layers):
        return None
    by_layer = variation(kernel_attention(network, images))
    return round(float(np.sqrt(np.mean(by_layer**2))), 4)


def path(places):
    """Path of the table of runs."""
    return places.zoo / "results" / "ablation.csv"


_PAGE = """{head}
# Whether and why AW-convolution helps

One recipe, one change at a time: `{recipe}` with {train_images:,} random
images of the training split of {data}, {epochs} epochs, measured on
{other_images:,} others of it after the last one; the test split was not used.
{hardware}, Keras on {backend}. From `results/ablation.csv`, which
`python -m zoo.ablation` wrote.

The mean over the seeds is followed by the standard deviation; the difference to
the plain network pairs the runs of equal seeds. *Attention* is the standard
deviation over images of an element of the attention map, which lies between 0
and 1 (root mean square over all layers and elements): zero would be a plain
convolution. The training loss is that of the last epoch. `p` is that of a
paired t-test; a difference of one seed says nothing about accuracy.

{table}
"""


def page(places, head):
    """The page that shows the table, `None` where there is no table."""
    if not path(places).exists():
        return None
    with open(path(places), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    first = rows[0]
    counts = ("train_images", "other_images", "epochs")
    header = (
        *("", "seeds:", "top-1, %:", "to plain, points:"),
        *("training loss:", "attention:"),
    )
    lines = (_line(name, rows) for name in VARIATIONS)
    return _PAGE.format(
        head=head,
        **{name: int(first[name]) for name in counts},
        **{n: first[n] for n in ("recipe", "data", "backend")},
        hardware=" or ".join(sorted({row["hardware"] for row in rows})),
        table=table.markdown(header, filter(None, lines)),
    )


def _line(name, rows):
    runs = [row for row in rows if row["variation"] == name]
    if not runs:
        return None
    top1, plain = (
        {r["seed"]: float(r["top1"]) for r in rows if r["variation"] == n}
        for n in (name, "plain")
    )
    return [
        VARIATIONS[name].meaning,
        len(runs),
        _mean(runs, "top1", 2),
        ""
        if name == "plain"
        else table.show_comparison(table.compare(top1, plain)),
        _mean(runs, "train_loss", 3),
        "" if name == "plain" else _mean(runs, "attention", 3),
    ]


def _mean(runs, column, digits):
    values = [float(row[column]) for row in runs]
    return table.show(*table.mean_and_deviation(values), digits)


def collect(out, places):
    """Writes the table of all finished runs in the folders of a folder."""
    results = [json.loads(p.read_text()) for p in out.glob(f"*/{_RESULT}")]
    order = list(VARIATIONS)
    results.sort(key=lambda r: (order.index(r["variation"]), r["seed"]))
    if results:
        table.write_dicts(path(places), results)
    return results


def recipe_of(name, path, settings, seed):
    """The `Recipe` of a variation and a seed."""
    changed = VARIATIONS[name]
    own = {"model": changed.model, "seed": seed, **changed.settings}
    changes = [f"{field}={value}" for field, value in own.items()]
    return Recipe.from_file(path, [*settings, *changes])


def images(recipe):
    """The images of a run: `limit` of each half of the training split."""
    every = load_data(dataclasses.replace(recipe, limit=None))
    return data.take(halves(every), recipe.limit, recipe.seed)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.ablation",
        description="Train AW-ResNet-20 in variations of its attention.",
    )
    add_recipe_arguments(parser)
    parser.add_argument(
        "--variations",
        nargs="+",
        default=[*VARIATIONS],
        choices=VARIATIONS,
        metavar="NAME",
        help=", ".join(VARIATIONS),
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", required=True, type=pathlib.Path)
    return parser.parse_args(arguments)


def main(arguments=None, places=None):
    options = _parse(arguments)
    signals = Signals()
    try:
        for seed in options.seeds:
            for name in options.variations:
                recipe = recipe_of(name, options.recipe, options.set, seed)
                out = options.out / f"{name}-{seed}"
                claim(out, recipe)
                if not (out / _RESULT).exists():
                    run(name, recipe, images(recipe), out, signals)
                    keras.backend.clear_session()
    except (OSError, ValueError) as error:
        sys.exit(f"zoo.ablation: {error}")
    except Stopped:
        print("Stopped and saved. The same command goes on from here.")
        sys.exit(128 + signals.received)
    for result in collect(options.out, places or table.Places()):
        print(result["variation"], result["seed"], f"{result['top1']:.2f} %")


if __name__ == "__main__":
    main()
