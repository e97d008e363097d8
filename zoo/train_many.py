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
import json
import math
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
import traceback

import keras
import rich.console
import rich.table

from aw_keras.command import refuse
from zoo.callbacks import Stopped
from zoo.recipe import Recipe
from zoo.table import read_dicts
from zoo.train import (
    Signals,
    add_recipe_arguments,
    claim,
    load_data,
    locked,
    train,
)

#: What limits the threads of NumPy, PyTorch and TensorFlow.
_THREADS = (
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TORCHINDUCTOR_COMPILE_THREADS",
)

#: Says to a process that it is one of several.
_WORKER = "AW_KERAS_TRAIN_MANY_WORKER"


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
        folder = out / recipe.run_name
        if stop():
            break
        try:
            claim(folder, recipe)
            with locked(folder):
                if not (folder / "metrics.json").exists():
                    train(recipe, load_data(recipe), folder, stop)
        except Stopped:
            break
        except BlockingIOError:
            continue
        except Exception as error:
            traceback.print_exc()
            failures[folder.name] = error
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
        folder = out / recipe.run_name
        rows = read_dicts(folder / "log.csv")
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


def add_process_arguments(parser):
    """Adds how many processes share the work to an `ArgumentParser`."""
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        help="processes that share the work",
    )
    parser.add_argument(
        "--threads",
        type=int,
        help="threads of each process, under TensorFlow and PyTorch",
    )


def limited(threads):
    """The environment of a process of so many threads, `None` for any."""
    limits = {} if threads is None else dict.fromkeys(_THREADS, str(threads))
    return {**os.environ, **limits}


def command(module):
    """The command of this process again."""
    return [sys.executable, "-m", module, *sys.argv[1:]]


def shared(options, module):
    """Runs the command of this process in several others, if it asks for it.

    Args:
        options: What `add_process_arguments` has parsed.
        module: Name of the module that is the command.

    Returns:
        The exit code of the command; `None` if this process is to do the work.
    """
    alone = options.processes == 1 and options.threads is None
    if alone or os.environ.get(_WORKER):
        return None
    environment = limited(options.threads) | {_WORKER: "1"}
    workers = [
        subprocess.Popen(command(module), env=environment)
        for _ in range(options.processes)
    ]

    def forward(number, frame):
        for worker in workers:
            worker.send_signal(number)

    # Ctrl-C reaches all processes of a terminal by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, forward)
    return max(worker.wait() for worker in workers)


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
    if not os.environ.get(_WORKER):
        rich.console.Console().print(table(recipes, options.out, failures))
        left = sum(
            not (options.out / recipe.run_name / "metrics.json").exists()
            for recipe in recipes
        )
        print(f"{len(recipes) - left} of {len(recipes)} runs are complete.")
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
