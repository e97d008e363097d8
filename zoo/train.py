r"""Trains one of the library's networks on labelled images.

    python -m zoo.train zoo/recipes/digits.yaml --set model=AWResNet20 seed=1 \
        --out runs/digits

The folder of the run then holds:

- `run.json`: the recipe. The same command resumes an interrupted run where it
  stopped; another recipe is refused.
- `checkpoints/`: model and optimizer, the last two; written after every
  epoch, and where SIGTERM or Ctrl-C stops the run.
- `log.csv`: loss, accuracy, learning rate and seconds of every epoch;
  `tensorboard/` the same where Keras runs on TensorFlow.
- `model.keras`: the trained network with the preprocessing of its images and
  the names of its classes, an `aw_keras.Classifier`. `aw-keras predict`,
  `explain`, `export` and `summary` take the folder.
- `metrics.json`: the result on the test split. It is written last.
- `.lock`: held while a process trains there; another one is refused.

The test split only measures: nothing is chosen by it. Data without one lose
every fifth training image of each class to it.
"""

import argparse
import contextlib
import pathlib
import sys

from aw_keras.command import refuse
from zoo.data.sources import load_data
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.training.callbacks import Stopped
from zoo.training.commands import Signals, add_recipe_arguments
from zoo.training.distribute import check_backend
from zoo.training.loop import train


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.train",
        description="Train a network. The same command resumes it.",
    )
    add_recipe_arguments(parser)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder of the run; runs/RECIPE-MODEL-SEED by default",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out and list images that cannot be read; the same as "
        "--set skip_bad=true",
    )
    return parser.parse_args(arguments)


def _describe(recipe, dataset):
    """Says what is trained on, and what was left out."""
    for skipped in dataset.skipped:
        print(f"Left out: {skipped}")
    if dataset.skipped:
        print(f"{len(dataset.skipped)} images cannot be read.")
    print(
        f"{len(dataset.x_train):,} images of {len(dataset.class_names)} "
        f"classes to train {recipe.model} on, {len(dataset.x_test):,} "
        f"{'held out of them ' if dataset.held_out else ''}to measure it on."
    )


def main(arguments=None):
    options = _parse(arguments)
    settings = [*options.set, *["skip_bad=true"] * options.skip_bad]
    try:
        recipe = Recipe.from_file(options.recipe, settings)
        check_backend(recipe.distribute)
        run = Run(options.out or pathlib.Path("runs", recipe.run_name))
        run.claim(recipe)
        if run.is_finished:
            print(f"{run.folder} has metrics.json: this run is complete.")
            return
        dataset = load_data(recipe)
    except (OSError, ValueError) as error:
        refuse("zoo.train", error)
    _describe(recipe, dataset)
    signals = Signals()
    try:
        # Each worker of several trains in it, and one of them writes.
        shared = recipe.distribute == "multi_worker"
        with contextlib.nullcontext() if shared else run.locked():
            metrics = train(recipe, dataset, run, signals)
    except Stopped:
        print("Stopped and saved. The same command goes on from here.")
        sys.exit(128 + signals.received)
    except (OSError, ValueError) as error:
        refuse("zoo.train", error)
    if metrics:
        top1 = metrics["top1"]
        print(f"Test accuracy {top1:.2%}, all of it in {run.folder}.")


if __name__ == "__main__":
    main()
