r"""Trains many networks in slices of minutes, for machines lent for a while.

    python -m zoo.train_many zoo/recipes/cifar10.yaml --seeds 0 1 2 \
        --models ResNet20 AWResNet20 --out runs/cifar10 --minutes 9

trains every network with every seed, the first seed of all of them first. When
the minutes are over, it saves and ends; the same command goes on from there,
on another machine too, if `--out` is brought along: everything is in there, a
folder for each run (see `zoo.train`). A run that fails does not stop the
others; it is tried again the next time.
"""

import argparse
import csv
import json
import math
import pathlib
import sys
import time
import traceback

import keras
import rich.console
import rich.table

from aw_keras.command import refuse
from zoo.callbacks import Stopped
from zoo.recipe import Recipe
from zoo.train import Signals, add_recipe_arguments, claim, load_data, train


def train_many(recipes, out, stop):
    """Trains recipes one after another, until it is told to stop.

    Args:
        recipes: Sequence of `zoo.recipe.Recipe`.
        out: `pathlib.Path` of the folder of their folders.
        stop: Function without arguments that says whether to stop.

    Returns:
        Dict from the name of a run to the exception that it failed with.
    """
    failures = {}
    for recipe in recipes:
        folder = out / recipe.run_name
        if stop():
            break
        if (folder / "metrics.json").exists():
            continue
        try:
            claim(folder, recipe)
            train(recipe, load_data(recipe), folder, stop)
        except Stopped:
            break
        except Exception as error:
            traceback.print_exc()
            failures[folder.name] = error
        keras.backend.clear_session()
    return failures


def table(recipes, out, failures):
    """What is done and what is left, as a `rich.table.Table`."""
    found = rich.table.Table("run", "epochs", "seconds", "top-1", "top-5")
    for recipe in recipes:
        folder = out / recipe.run_name
        rows = _rows(folder / "log.csv")
        seconds = sum(float(row["seconds"]) for row in rows)
        result = ("", "")
        if (folder / "metrics.json").exists():
            metrics = json.loads((folder / "metrics.json").read_text())
            result = tuple(f"{metrics[k]:.2%}" for k in ("top1", "top5"))
        elif folder.name in failures:
            result = (repr(failures[folder.name]), "")
        epochs = f"{len(rows)}/{recipe.epochs}"
        found.add_row(folder.name, epochs, f"{seconds:.0f}", *result)
    return found


def _rows(path):
    if not path.exists():
        return []
    with open(path) as file:
        return list(csv.DictReader(file))


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.train_many",
        description="Train networks with several seeds, as long as there is "
        "time. The same command goes on.",
    )
    add_recipe_arguments(parser)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="save and end after so many; compiling and the last evaluation "
        "of a run are not cut short",
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    began = time.monotonic()
    options = _parse(arguments)
    try:
        recipes = [
            Recipe.from_file(
                options.recipe, [*options.set, f"model={model}", f"seed={seed}"]
            )
            for seed in options.seeds
            for model in options.models
        ]
    except (OSError, ValueError) as error:
        refuse("zoo.train_many", error)
    signals = Signals()
    failures = train_many(
        recipes,
        options.out,
        lambda: signals() or time.monotonic() - began > 60 * options.minutes,
    )
    rich.console.Console().print(table(recipes, options.out, failures))
    left = sum(
        not (options.out / recipe.run_name / "metrics.json").exists()
        for recipe in recipes
    )
    print(f"{len(recipes) - left} of {len(recipes)} runs are complete.")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
