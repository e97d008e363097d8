r"""Trains many networks in slices of minutes, for machines lent for a while.

    python -m zoo.train_many zoo/recipes/cifar10.yaml --seeds 0 1 2 \
        --models ResNet20 AWResNet20 --out runs/cifar10 --minutes 9

trains every network with every seed, the first seed of all of them first. When
the minutes are over, it saves and ends; the same command goes on from there,
on another machine too, if `--out` is brought along: everything is in there, a
folder for each run (see `zoo.train`). A run that fails does not stop the
others; it is tried again the next time.

What differs in more than network and seed stands in a queue, a file of one run
a line, the first ones first: the path of a recipe, and what differs from it.

    zoo/recipes/cifar100_20.yaml model=ResNet20 seed=0
    zoo/recipes/cifar10_20.yaml model=AWResNet20 seed=0 dtype=float32

    python -m zoo.train_many --queue QUEUE --out runs --processes 2 --threads 1

Several processes, started at once or one by one, share the work: none takes a
run that another one is at. On a CPU two of one thread train more than one of
two, and do not wait for each other where cores are shared.
"""

import argparse
import math
import pathlib
import shlex
import sys
import time
import traceback

import keras
import rich.console
import rich.table

from aw_keras.command import refuse
from zoo.data.sources import load_data
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.training.callbacks import Stopped
from zoo.training.commands import (
    Signals,
    add_process_arguments,
    add_recipe_arguments,
    is_worker,
    shared,
)
from zoo.training.loop import train


def train_many(recipes, out, stop):
    """Trains recipes one after another, until it is told to stop.

    Those that are complete, or that another process trains, are left out.

    Args:
        recipes: Sequence of `zoo.recipe.Recipe`.
        out: `pathlib.Path` of the folder of their folders.
        stop: Function without arguments that says whether to stop.

    Returns:
        Dict from the name of a run to the exception that it failed with.
    """
    failures = {}
    for recipe in recipes:
        run = Run(out / recipe.run_name)
        if stop():
            break
        try:
            run.claim(recipe)
            with run.locked():
                if not run.is_finished:
                    train(recipe, load_data(recipe), run, stop)
        except Stopped:
            break
        except BlockingIOError:
            continue
        except Exception as error:
            traceback.print_exc()
            failures[run.folder.name] = error
        keras.backend.clear_session()
    return failures


def read_queue(path, settings=()):
    """The recipes of a queue.

    Args:
        path: Path of a text file. Each line is the path of a recipe, and
            settings as `Recipe.from_file` takes them; empty lines and lines
            that begin with `#` are left out.
        settings: Settings for all of them.

    Returns:
        A list of `zoo.recipe.Recipe`.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a line is none of a recipe, or two lines are of one run.
    """
    recipes = {}
    for line in pathlib.Path(path).read_text("utf-8").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        recipe = Recipe.from_file(words[0], [*words[1:], *settings])
        if recipe.run_name in recipes:
            raise ValueError(
                "Expected a queue of runs with different names. Set `name` "
                f"where more than network and seed differ. Received: {line}"
            )
        recipes[recipe.run_name] = recipe
    return list(recipes.values())


def table(recipes, out, failures):
    """What is done and what is left, as a `rich.table.Table`."""
    found = rich.table.Table("run", "epochs", "seconds", "top-1", "top-5")
    for recipe in recipes:
        run = Run(out / recipe.run_name)
        seconds = sum(float(row["seconds"]) for row in run.log)
        result = ("", "")
        if run.is_finished:
            result = tuple(f"{run.metrics[k]:.2%}" for k in ("top1", "top5"))
        elif recipe.run_name in failures:
            result = (repr(failures[recipe.run_name]), "")
        epochs = f"{len(run.log)}/{recipe.epochs}"
        found.add_row(recipe.run_name, epochs, f"{seconds:.0f}", *result)
    return found


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.train_many",
        description="Train networks with several seeds, as long as there is "
        "time. The same command goes on.",
    )
    add_recipe_arguments(parser, optional=True)
    parser.add_argument(
        "--queue", help="text file of one run a line, in the place of a recipe"
    )
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="save and end after so many; compiling and the last evaluation "
        "of a run are not cut short",
    )
    add_process_arguments(parser)
    options = parser.parse_args(arguments)
    if bool(options.queue) == bool(options.recipe):
        parser.error("expected a recipe, or --queue")
    if bool(options.models) != bool(options.recipe):
        parser.error("expected --models with a recipe, and with no --queue")
    return options


def _recipes(options):
    if options.queue:
        return read_queue(options.queue, options.set)
    return [
        Recipe.from_file(
            options.recipe, [*options.set, f"model={model}", f"seed={seed}"]
        )
        for seed in options.seeds
        for model in options.models
    ]


def main(arguments=None):
    began = time.monotonic()
    options = _parse(arguments)
    try:
        recipes = _recipes(options)
    except (OSError, ValueError) as error:
        refuse("zoo.train_many", error)
    code = shared(options, "zoo.train_many")
    failures = {}
    if code is None:
        signals = Signals()
        failures = train_many(
            recipes,
            options.out,
            lambda: (
                signals() or time.monotonic() - began > 60 * options.minutes
            ),
        )
        code = 1 if failures else 0
    if not is_worker():
        rich.console.Console().print(table(recipes, options.out, failures))
        left = sum(
            not Run(options.out / recipe.run_name).is_finished
            for recipe in recipes
        )
        print(f"{len(recipes) - left} of {len(recipes)} runs are complete.")
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
