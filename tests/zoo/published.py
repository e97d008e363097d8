"""Finished runs that nobody trained, and a place to publish them."""

import contextlib
import csv
import dataclasses
import functools
import json

import pytest

from aw_keras import Classifier
from aw_keras.applications import create_model
from aw_keras.applications.complexity import multiply_adds, parameters
from aw_keras.applications.datasets import CIFAR10
from zoo import publish
from zoo.publishing import table
from zoo.recipe import Recipe

RECIPE = table.Places().zoo / "recipes" / "cifar10_short.yaml"
DATA = "../somewhere/cifar10-jpeg.tar.xz"


def empty_places(folder):
    """Places in a folder, where nothing was published."""
    places = table.Places(
        *(folder / name for name in ("zoo", "manifest.json", "weights"))
    )
    places.zoo.mkdir(parents=True)
    places.manifest.write_text("[]")
    return places


@functools.cache
def network(model):
    """A network with random weights."""
    return create_model(model)


@contextlib.contextmanager
def without_reading_weights():
    """Publishes the weights of `network`, which are those of every run."""

    def trained(run):
        return Classifier(network(run.row.model), CIFAR10.preprocessing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "_trained", trained)
        yield


def made_up_run(folder, model="ResNet20", seed=0, top1=0.8, **changes):
    """Writes the folder of a run like those of `zoo.train`.

    Args:
        folder: `pathlib.Path`, is made.
        model: Name of the network, whose weights are random.
        seed: Seed that the run says it had.
        top1: Accuracy, from 0 to 1.
        **changes: What else should be in `metrics.json`.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    names = "abcdefghij"
    Classifier(network(model), CIFAR10.preprocessing, names).save(
        folder / "model.keras"
    )
    settings = dataclasses.asdict(
        Recipe.from_file(
            RECIPE, [f"model={model}", f"seed={seed}", f"data={DATA}"]
        )
    )
    metrics = {
        "recipe": settings.pop("name"),
        **settings,
        **{"top1": top1, "top5": 0.99, "loss": 0.5, "ece": 0.1},
        "parameters": parameters(network(model)),
        "multiply_adds": multiply_adds(network(model)),
        "train_seconds": 600.4,
        "hardware": "1 x CPU",
        "backend": "jax",
        "commit": None,
        **changes,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with open(folder / "log.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            "epoch loss accuracy val_loss val_accuracy seconds".split()
        )
        for epoch in range(1, settings["epochs"] + 1):
            writer.writerow(
                (epoch, 1 / epoch, 0.5, 2 / epoch, top1 - 1 / epoch, 75.123456)
            )
    return folder
