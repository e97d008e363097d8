r"""How many images a second `zoo.train` trains on, augmentation included.

    KERAS_BACKEND=torch python -m zoo.throughput \
        zoo/recipes/cifar100_study.yaml --models ResNet20 AWResNet20 \
        --processes 2 --threads 1

trains each network on random images for some seconds, in as many processes at
once as are asked for, and prints the sum of their speeds. `--write` puts it
into `zoo/results/throughput.csv`, of which `python -m docs.tables` makes the
table in docs/training.md. Compiling is not in the figures.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np

from aw_keras.command import refuse
from zoo.data import pipeline
from zoo.data.dataset import Dataset
from zoo.data.preprocessing import preprocessing_for
from zoo.publishing import table
from zoo.recipe import Recipe
from zoo.training.commands import (
    add_process_arguments,
    add_recipe_arguments,
    limited,
)
from zoo.training.distribute import Devices
from zoo.training.loop import trainable
from zoo.training.network import for_training
from zoo.training.provenance import commit, processor

_STEPS = 20
_WARM_UP = 3
_WORKER = "import sys, zoo.throughput as t; t.work(*sys.argv[1:])"


def measure(recipe, seconds, ready=lambda: None):
    """Images a second of one process.

    Args:
        recipe: `zoo.recipe.Recipe`; its data are not read.
        seconds: Number of seconds to train for.
        ready: Function that is called when everything is compiled, and returns
            when the measurement is to begin.
    """
    rng = np.random.default_rng(0)
    count = _STEPS * recipe.batch_size
    images = rng.integers(0, 256, (count, 32, 32, 3), "uint8")
    labels = rng.integers(0, 100, count)
    names = tuple(map(str, range(100)))
    dataset = Dataset(names, images, labels, images[:1], labels[:1])
    devices = Devices(recipe.distribute, recipe.jit_compile)
    preprocessing = preprocessing_for(recipe, dataset)
    with devices.scope():
        network = for_training(recipe, dataset)
        model = trainable(network, recipe, dataset, preprocessing, devices)
    clock = _Clock(seconds, ready)
    with contextlib.suppress(_Enough):
        model.fit(
            pipeline.training_batches(dataset, recipe),
            steps_per_epoch=10**9,
            shuffle=False,
            callbacks=[clock],
            verbose=0,
        )
    return clock.batches * recipe.batch_size / clock.seconds


class _Enough(Exception):
    """The seconds are over."""


class _Clock(keras.callbacks.Callback):
    """Counts batches for some seconds, and ends the training."""

    def __init__(self, limit, ready):
        super().__init__()
        self.limit = limit
        self.ready = ready

    def on_train_batch_end(self, batch, logs=None):
        if batch < _WARM_UP:
            return
        if batch == _WARM_UP:
            self.ready()
            self.began = time.monotonic()
            return
        self.batches = batch - _WARM_UP
        self.seconds = time.monotonic() - self.began
        if self.seconds > self.limit:
            raise _Enough


def _together(recipe, options):
    """The speeds of several processes that measure at the same time."""
    with tempfile.TemporaryDirectory() as folder:
        settings = json.dumps(
            [dataclasses.asdict(recipe), options.seconds, options.processes]
        )
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", _WORKER, folder, settings],
                env=limited(options.threads),
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(options.processes)
        ]
        printed = [worker.communicate()[0] for worker in workers]
        if any(worker.returncode for worker in workers):
            raise OSError("Expected every process to measure. See above.")
    return [float(text.split()[-1]) for text in printed]


def work(folder, settings):
    """What one of several processes does: it prints its speed."""
    fields, seconds, processes = json.loads(settings)
    folder = pathlib.Path(folder)

    def ready():
        (folder / str(os.getpid())).touch()
        while len([*folder.iterdir()]) < processes:
            time.sleep(0.01)

    print(measure(Recipe.from_dict(fields), seconds, ready))


def path(places):
    """Path of the table of speeds."""
    return places.zoo / "results" / "throughput.csv"


def read(places):
    """The lines of the table, as dicts of strings."""
    return table.read_dicts(path(places))


_SAME = ("model", "backend", "dtype", "compiled", "processes", "threads")


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.throughput",
        description="Measure how many images a second are trained on.",
    )
    add_recipe_arguments(parser)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--write", action="store_true", help="put it into the table"
    )
    add_process_arguments(parser)
    return parser.parse_args(arguments)


def main(arguments=None, places=None):
    options = _parse(arguments)
    places = places or table.Places()
    lines = {tuple(line[n] for n in _SAME): line for line in read(places)}
    try:
        for model in options.models:
            recipe = Recipe.from_file(
                options.recipe, [*options.set, f"model={model}"]
            )
            speeds = _together(recipe, options)
            line = {
                "model": model,
                "backend": keras.backend.backend(),
                "dtype": recipe.dtype,
                "compiled": str(recipe.jit_compile),
                "processes": str(options.processes),
                "threads": str(options.threads or ""),
                "images_per_second": round(sum(speeds)),
                "hardware": processor(),
                "commit": commit() or "",
            }
            lines[tuple(line[n] for n in _SAME)] = line
            print(f"{model}: {sum(speeds):.0f} images a second", flush=True)
    except (OSError, ValueError) as error:
        refuse("zoo.throughput", error)
    if options.write:
        table.write_dicts(path(places), [lines[key] for key in sorted(lines)])


if __name__ == "__main__":
    main()
