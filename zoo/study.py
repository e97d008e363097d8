r"""Which attention branch helps: variants of one network, compared in rounds.

    python -m zoo.study zoo/recipes/cifar100_study.yaml --set data=CIFAR100 \
        --out runs/study --processes 2 --threads 1

trains ResNet-20 in the variants of `VARIANTS`, all with one recipe. `ROUNDS`
says how: many variants briefly with one seed, the best of them again and
longer. Part of the training images is held out to choose by; the test split is
not used. With `--publish` it trains nothing, and adds a line for each finished
run to `zoo/results/study.csv`, of which `python -m zoo.pages` makes a page.

The same command goes on where it was interrupted. What the table has is not
trained again, wherever that was done.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time

import keras
import numpy as np

from aw_keras.applications import complexity
from aw_keras.command import refuse
from aw_keras.files import replace_text
from aw_keras.layers import AWConv2D
from zoo import pipeline, table
from zoo.branches import BranchConv2D
from zoo.callbacks import Stopped
from zoo.distribute import Devices
from zoo.network import (
    ATTENTION,
    SPARED,
    build,
    preprocessing_for,
)
from zoo.provenance import commit
from zoo.recipe import Recipe
from zoo.train import (
    Signals,
    add_recipe_arguments,
    claim,
    fit,
    load_data,
    locked,
    trainable,
)
from zoo.train_many import add_process_arguments, shared

_RESULT = "result.json"
_IMAGES = 200
_PATIENCE = 60


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to compute attention.

    Attributes:
        meaning: What it is, in words.
        model: Name of the network.
        branch: Arguments of `BranchConv2D` for the AW-convolutions; `None`
            leaves the network as it is.
        settings: What differs from the recipe, by field.
        arguments: Further arguments of the network's function.
        decay: Whether weight decay acts on the attention branch.
    """

    meaning: str
    model: str = "AWResNet20"
    branch: dict | None = None
    settings: dict = dataclasses.field(default_factory=dict)
    arguments: dict = dataclasses.field(default_factory=dict)
    decay: bool = False


def _branch(meaning, **branch):
    return Variant(meaning, branch=branch)


_WIDE = {"norm": True, "units": 16}

VARIANTS = {
    "plain": Variant("the plain network, ResNet-20", model="ResNet20"),
    "paper": Variant("map `u We`, the paper's: AW-ResNet-20 as it is"),
    "gates": _branch(
        "gates in the place of the map", **_WIDE, map=None, gates="inside"
    ),
    "outside": _branch(
        "gates outside of the convolution", **_WIDE, map=None, gates="outside"
    ),
    "norm-units": _branch("map, normalised, 16 units", **_WIDE),
    "map-gates-zero": _branch(
        "map from zero, and gates", **_WIDE, map="zeros", gates="inside"
    ),
    "map-gates": _branch("map, and gates", **_WIDE, gates="inside"),
    "se": Variant("squeeze-and-excitation", model="SEResNet20"),
    "cbam": Variant("CBAM", model="CBAMResNet20"),
    "zero": _branch("map from zero", map="zeros"),
    "norm": _branch("map, normalised", norm=True),
    "units": _branch("map, 16 units", units=16),
    "norm-units-zero": _branch(
        "map from zero, normalised, 16 units", **_WIDE, map="zeros"
    ),
    "mean-one": _branch("map, factor `2 sigmoid`", mean_one=True),
    "gates-mean-one": _branch(
        "gates in the place of the map, factor `2 sigmoid`",
        **_WIDE,
        map=None,
        gates="inside",
        mean_one=True,
    ),
    "blend": _branch(
        "map from zero, blended in over the first third",
        map="zeros",
        blended=True,
    ),
    "rate5": Variant(
        "map, branch learns 5 times as fast", settings={"attention_rate": 5}
    ),
    "decay": Variant("map, weight decay on the branch", decay=True),
    "last": Variant(
        "map, in the last stage only", arguments={"aw_stages": (4,)}
    ),
    "plain-float32": Variant(
        "the plain network, in float32",
        model="ResNet20",
        settings={"dtype": "float32"},
    ),
    "paper-float32": Variant("map, in float32", settings={"dtype": "float32"}),
}


@dataclasses.dataclass(frozen=True)
class Round:
    """Variants that are trained for as long, and how they are chosen.

    Attributes:
        epochs: Number of epochs.
        seeds: Seeds of every variant.
        always: Variants that are trained in any case.
        best: How many of the variants of another round come along, by the mean
            of their losses on the images held out.
        of: The other round.
    """

    epochs: int
    seeds: tuple[int, ...]
    always: tuple[str, ...]
    best: int = 0
    of: "Round | None" = None


_FLOAT32 = ("plain-float32", "paper-float32")
_FIRST = Round(8, (0,), tuple(VARIANTS))
_SECOND = Round(8, (0, 1, 2), ("plain",), best=5, of=_FIRST)
_THIRD = Round(16, (0, 1, 2, 3), ("plain", "paper"), best=2, of=_SECOND)

ROUNDS = (
    _FIRST,
    # What half precision costs, before more is built on it.
    Round(8, (0, 1), ("plain", "paper", *_FLOAT32)),
    _SECOND,
    _THIRD,
)

#: What is compared with AW-convolution and is no candidate itself.
REFERENCES = ("plain", "se", "cbam", *_FLOAT32)


def chosen(round_, results):
    """Names of the variants of a round, once those before are finished.

    Args:
        round_: `Round`.
        results: Dicts, the lines of the table.
    """
    wanted = {*round_.always}
    if round_.of is not None:
        names = {*chosen(round_.of, results)} - {*REFERENCES}
        ranked = sorted(names, key=lambda n: _loss(n, round_.of, results))
        wanted |= {*ranked[: round_.best]}
    return [name for name in VARIANTS if name in wanted]


def _loss(name, round_, results):
    """Mean loss of a variant in a round, on the images held out."""
    runs = [(name, round_.epochs, seed) for seed in round_.seeds]
    found = [float(r["loss"]) for r in results if _key(r) in runs]
    return float(np.mean(found))


def unfinished(results):
    """Variant, epochs and seed of what the first unfinished round lacks."""
    done = {_key(result) for result in results}
    for round_ in ROUNDS:
        runs = [
            (name, round_.epochs, seed)
            for seed in round_.seeds
            for name in chosen(round_, results)
        ]
        if left := [run_ for run_ in runs if run_ not in done]:
            return left
    return []


def _key(result):
    return result["variant"], int(result["epochs"]), int(result["seed"])


def network_of(name, recipe, dataset):
    """The network of a variant, which gives logits."""
    variant = VARIANTS[name]
    network = build(
        recipe,
        dataset,
        classifier_activation=None,
        dtype=recipe.dtype,
        **variant.arguments,
    )
    if variant.branch is None:
        return network

    def layer_of(layer):
        config = layer.get_config()
        if not isinstance(layer, AWConv2D):
            return type(layer).from_config(config)
        del config["attention_expand_initializer"], config["implementation"]
        return BranchConv2D(**{**config, **variant.branch})

    return keras.models.clone_model(network, clone_function=layer_of)


def spared(variant):
    """Parts of the names of weights that weight decay spares."""
    return [n for n in SPARED if n != ATTENTION or not variant.decay]


def run(name, recipe, dataset, out, stop=lambda: False):
    """Trains a variant, or goes on with an interrupted training.

    Args:
        name: Key in `VARIANTS`.
        recipe: `zoo.recipe.Recipe` of its network.
        dataset: `zoo.data.Dataset`.
        out: `pathlib.Path` of the folder of the run, which exists.
        stop: As in `zoo.train.train`.

    Returns:
        Dict of the result, the line of the table, as it stands in
        `result.json`.
    """
    keras.utils.set_random_seed(recipe.seed)
    devices = Devices(None, recipe.jit_compile)
    network = network_of(name, recipe, dataset)
    steps = pipeline.steps_per_epoch(dataset, recipe)
    preprocessing = preprocessing_for(recipe, dataset)
    model = trainable(
        network,
        recipe,
        dataset,
        preprocessing,
        devices,
        spared(VARIANTS[name]),
    )
    clock = Clock(steps * pipeline.batch_size(dataset, recipe))
    blend = Blend(network, recipe.epochs * steps // 3)
    fit(model, recipe, dataset, out, devices, stop, [clock, blend])
    last = {
        k: float(v) for k, v in table.read_dicts(out / "log.csv")[-1].items()
    }
    pixels = dataset.x_test[:_IMAGES].astype("float32")
    normalised = preprocessing.normalise(pixels, "channels_last")
    result = {
        "variant": name,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "recipe": recipe.name,
        "data": table.label(recipe.data),
        "train_images": len(dataset.x_train),
        "held_out": len(dataset.x_test),
        "parameters": complexity.parameters(network),
        "top1": round(100 * last["val_accuracy"], 2),
        "loss": round(last["val_loss"], 4),
        "train_loss": round(last["loss"], 4),
        "variation": kernel_variation(network, normalised),
        "images_per_second": clock.images_per_second,
        "dtype": recipe.dtype,
        "hardware": devices.describe(),
        "backend": keras.backend.backend(),
        "commit": commit(),
    }
    replace_text(out / _RESULT, json.dumps(result, indent=2) + "\n")
    return result


class Clock(keras.callbacks.Callback):
    """Images a second of processor time, in the fastest epoch.

    Time of the processor hardly depends on what else it does.

    Args:
        images: Integer, number of images of an epoch.
    """

    def __init__(self, images):
        super().__init__()
        self.images = images
        self.images_per_second = None

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.process_time()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.seconds = time.process_time() - self.began

    def on_epoch_end(self, epoch, logs=None):
        if self.batches == self.params["steps"]:
            found = round(self.images / self.seconds, 1)
            self.images_per_second = max(found, self.images_per_second or 0)


class Blend(keras.callbacks.Callback):
    """Raises the weights `blend` of a network from 0 to 1.

    Args:
        network: `keras.Model`.
        steps: Integer, the step from which on they are 1.
    """

    def __init__(self, network, steps):
        super().__init__()
        self.weights = [
            layer.blend for layer in network.layers if hasattr(layer, "blend")
        ]
        self.steps = max(steps, 1)

    def on_train_batch_begin(self, batch, logs=None):
        if self.weights:
            step = int(self.model.optimizer.iterations)
            for weight in self.weights:
                weight.assign(min(step / self.steps, 1.0))


def kernel_variation(network, images):
    """How far kernels vary over images, `None` if none does.

    The standard deviation over images of what an element of a kernel is
    multiplied by, as a share of its mean: root mean square over the elements
    and layers.
    """
    layers = [
        layer
        for layer in network.layers
        if isinstance(layer, (AWConv2D, BranchConv2D))
    ]
    if not layers:
        return None
    inputs = keras.Model(network.inputs, [layer.input for layer in layers])
    shares = []
    outputs = keras.tree.flatten(inputs.predict(images, verbose=0))
    for layer, x in zip(layers, outputs):
        x = keras.ops.convert_to_tensor(x)
        if isinstance(layer, AWConv2D):
            factor = 1 + layer.kernel_attention(x)
        else:
            factor = layer.kernel_factor(x)
        factor = keras.ops.convert_to_numpy(factor)
        shares.append(np.mean((factor.std(0) / factor.mean(0)) ** 2))
    return round(float(np.sqrt(np.mean(shares))), 4)


def path(places):
    """Path of the table of runs."""
    return places.zoo / "results" / "study.csv"


def read(places):
    """The lines of the table, as dicts of strings."""
    return table.read_dicts(path(places))


def collect(out, places):
    """The lines of the table, and those of finished runs in a folder."""
    lines = {_key(line): line for line in read(places)}
    for found in sorted(out.glob(f"*/{_RESULT}")):
        result = json.loads(found.read_text())
        lines.setdefault(_key(result), result)
    order = list(VARIANTS)
    return sorted(
        lines.values(),
        key=lambda r: (int(r["epochs"]), order.index(r["variant"]), _key(r)),
    )


_PAGE = """{head}
# Which attention branch helps

Variants of ResNet-20 on {data}, trained by one recipe, `{recipe}`: on
{train_images:,} training images, measured on the {held_out:,} others. The test
split was not used. Every variant was trained briefly with one seed; the best
of them, by their loss on the images held out, with more seeds, and the best of
these for longer. From `results/study.csv`, which `python -m zoo.study` wrote:
{hardware}, Keras on {backend}, {dtype}.
{progress}
*Held-out loss* and *training loss* are cross-entropies after the last epoch,
the latter the mean over that epoch. *Variation* is the standard deviation over
images of what an element of a kernel is multiplied by, as a share of its mean
(root mean square over elements and layers): zero is a plain convolution.
*Images/s* are those of training on one core, per second of processor time. The
mean over the seeds is followed by the standard deviation; differences pair the
runs of equal seeds, and `p` is that of a paired t-test.

What the layers compute: with `z = pool(x) Wr`, hidden units at each of the
positions of the kernel, and `u = relu(z + br)`, the *map* is `u We`: the
branch of the paper. *Gates* are `v Wi` for each input channel and
`v Wo + bo` for each filter, where `v` is the mean of `u` over the positions;
*normalised* is `z` by its mean and variance in the sample. Map and gates are
added up, with a bias for each pair of channels, and the kernel becomes
`K (1 + sigmoid(.))`. Gates outside scale the input and the output of a plain
convolution by `2 sigmoid(.)` each.
{sections}"""

_PROGRESS = """
**The study is under way.** The round that it is in still lacks {left} runs:
nothing follows from what is here yet.
"""

_SECTION = """
## {epochs} epochs

{table}
"""

_HEADER = (
    *("", "parameters:", "seeds:", "top-1, %:", "to plain, points:"),
    *("held-out loss:", "training loss:", "variation:", "images/s:"),
)


def page(places, head):
    """The page that shows the table, `None` where there is no table."""
    lines = read(places)
    if not lines:
        return None
    first = lines[0]
    left = len(unfinished(lines))
    sections = ""
    for epochs in sorted({int(line["epochs"]) for line in lines}):
        runs = [line for line in lines if int(line["epochs"]) == epochs]
        rows = [_line(name, runs) for name in VARIANTS]
        rows = sorted(
            filter(None, rows), key=lambda row: float(row[5].split()[0])
        )
        sections += _SECTION.format(
            epochs=epochs, table=table.markdown(_HEADER, rows)
        )
    return _PAGE.format(
        head=head,
        sections=sections,
        progress=_PROGRESS.format(left=left) if left else "",
        **{name: int(first[name]) for name in ("train_images", "held_out")},
        **{
            name: first[name] for name in ("recipe", "data", "backend", "dtype")
        },
        hardware=" or ".join(sorted({line["hardware"] for line in lines})),
    )


def _line(name, lines):
    runs = [line for line in lines if line["variant"] == name]
    if not runs:
        return None
    top1, plain = (
        {r["seed"]: float(r["top1"]) for r in lines if r["variant"] == n}
        for n in (name, "plain")
    )
    return [
        VARIANTS[name].meaning,
        f"{int(runs[0]['parameters']):,}",
        len(runs),
        _mean(runs, "top1", 2),
        ""
        if name == "plain"
        else table.show_comparison(table.compare(top1, plain)),
        _mean(runs, "loss", 3),
        _mean(runs, "train_loss", 3),
        _mean(runs, "variation", 3) if runs[0]["variation"] else "",
        f"{max(float(r['images_per_second'] or 0) for r in runs):.0f}",
    ]


def _mean(runs, column, digits):
    values = [float(row[column]) for row in runs]
    return table.show(*table.mean_and_deviation(values), digits)


def recipe_of(name, path, settings, epochs, seed):
    """The `Recipe` of a variant, a length and a seed."""
    variant = VARIANTS[name]
    own = {"model": variant.model, "seed": seed, "epochs": epochs}
    changes = [f"{k}={v}" for k, v in (own | variant.settings).items()]
    return Recipe.from_file(path, [*settings, *changes])


def work(options, places, stop):
    """Trains what is missing, round by round, beside other processes.

    A process that has nothing to train waits for those that do.
    """
    while not stop():
        left = unfinished(collect(options.out, places))
        if not left:
            return
        if not any(_trained(options, *run_, stop) for run_ in left):
            time.sleep(_PATIENCE)


def _trained(options, name, epochs, seed, stop):
    """Trains one run, unless another process does; whether it did."""
    recipe = recipe_of(name, options.recipe, options.set, epochs, seed)
    out = options.out / f"{name}-{epochs}-{seed}"
    claim(out, recipe)
    try:
        with locked(out):
            if not (out / _RESULT).exists():
                run(name, recipe, load_data(recipe), out, stop)
    except BlockingIOError:
        return False
    keras.backend.clear_session()
    return True


def main(arguments=None, places=None):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.study",
        description="Compare attention branches, in rounds.",
    )
    add_recipe_arguments(parser)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument(
        "--publish",
        action="store_true",
        help="add finished runs to the table, and train nothing",
    )
    add_process_arguments(parser)
    options = parser.parse_args(arguments)
    places = places or table.Places()
    if options.publish:
        table.write_dicts(path(places), collect(options.out, places))
        return
    signals = Signals()
    try:
        if (code := shared(options, "zoo.study")) is not None:
            sys.exit(code)
        work(options, places, signals)
    except (OSError, ValueError) as error:
        refuse("zoo.study", error)
    except Stopped:
        print("Stopped and saved. The same command goes on from here.")
        sys.exit(128 + signals.received)
    for line in collect(options.out, places):
        print(line["variant"], line["epochs"], line["seed"], line["top1"])


if __name__ == "__main__":
    main()
