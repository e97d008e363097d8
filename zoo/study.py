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
import pathlib
import sys
import time

import keras
import numpy as np

from aw_keras.applications import complexity
from aw_keras.command import refuse
from aw_keras.files import replace_text
from aw_keras.layers import AWConv2D
from zoo.data import pipeline
from zoo.data.preprocessing import preprocessing_for
from zoo.data.sources import load_data
from zoo.publishing import table
from zoo.recipe import Recipe
from zoo.run import Run, to_json
from zoo.studies.attention import (
    RESULT,
    VARIANTS,
    collect,
    path,
    unfinished,
)
from zoo.studies.branches import BranchConv2D
from zoo.training.callbacks import Stopped
from zoo.training.commands import (
    Signals,
    add_process_arguments,
    add_recipe_arguments,
    shared,
)
from zoo.training.distribute import Devices
from zoo.training.loop import fit, trainable
from zoo.training.network import build
from zoo.training.optimization import ATTENTION, SPARED
from zoo.training.provenance import commit

_IMAGES = 200
_PATIENCE = 60


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


def train_variant(name, recipe, dataset, run, stop=lambda: False):
    """Trains a variant, or goes on with an interrupted training.

    Args:
        name: Key in `VARIANTS`.
        recipe: `zoo.recipe.Recipe` of its network.
        dataset: `zoo.data.dataset.Dataset`.
        run: `zoo.run.Run` that the recipe has claimed.
        stop: As in `zoo.training.loop.train`.

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
    clock = Clock(steps, pipeline.batch_size(dataset, recipe))
    blend = Blend(network, recipe.epochs * steps // 3)
    fit(model, recipe, dataset, run, devices, stop, [clock, blend])
    last = {k: float(v) for k, v in run.log[-1].items()}
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
    replace_text(run.folder / RESULT, to_json(result))
    return result


class Clock(keras.callbacks.Callback):
    """Images a second of processor time, in the fastest whole epoch.

    Time of the processor hardly depends on what else it does. What is left of
    an epoch that was interrupted tells nothing: compiling is in it.

    Args:
        steps: Integer, number of steps of an epoch.
        batch_size: Integer, number of images of a step.
    """

    def __init__(self, steps, batch_size):
        super().__init__()
        self.steps = steps
        self.batch_size = batch_size
        self.images_per_second = None

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.process_time()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.seconds = time.process_time() - self.began

    def on_epoch_end(self, epoch, logs=None):
        if self.batches == self.steps:
            images = self.steps * self.batch_size
            found = round(images / self.seconds, 1)
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
    run = Run(options.out / f"{name}-{epochs}-{seed}")
    run.claim(recipe)
    try:
        with run.locked():
            if not (run.folder / RESULT).exists():
                train_variant(name, recipe, load_data(recipe), run, stop)
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
