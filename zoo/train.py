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
- `model.weights.h5`: the trained network as the library has it, without the
  normalisation of pixels: `AWResNet20(weights=...)`.
- `metrics.json`: the result on the test split. It is written last.
- `.lock`: held while a process trains there; another one is refused.

The test split only measures: nothing is chosen by it.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import pathlib
import signal
import sys

import filelock
import keras

from aw_keras.applications import complexity
from aw_keras.command import refuse
from aw_keras.files import replace_text, replacing
from zoo import checkpoints, data, pipeline
from zoo.callbacks import Progress, Recorder, Stopped
from zoo.distribute import Devices, check_backend
from zoo.evaluate import evaluate
from zoo.network import (
    SPARED,
    build,
    compile_for,
    on_pixels,
    preprocessing_for,
)
from zoo.provenance import commit
from zoo.recipe import Recipe

# Runs that follow each other often have the same data.
_load = functools.lru_cache(maxsize=1)(data.load)


def load_data(recipe):
    """The `zoo.data.Dataset` of a recipe."""
    dataset = _load(recipe.data, recipe.image_size is not None)
    if recipe.holdout:
        dataset = data.hold_out(dataset, recipe.holdout)
    if recipe.limit is None:
        return dataset
    return data.take(dataset, recipe.limit, recipe.seed)


def claim(out, recipe):
    """Makes the folder of a run, or checks that it is this recipe's.

    Raises:
        OSError: If the folder cannot be made or written.
        ValueError: If the folder holds a run of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    owner = out / "run.json"
    wanted = dataclasses.asdict(recipe)
    if not owner.exists():
        replace_text(owner, _json(wanted))
        return
    found = json.loads(owner.read_text())
    differences = [
        f"{field}={value} (there {field}={found.get(field)})"
        for field, value in json.loads(_json(wanted)).items()
        if found.get(field) != value
    ]
    if differences:
        raise ValueError(
            f"Expected the recipe of the run in {out}. "
            f"Received: {', '.join(differences)}"
        )


@contextlib.contextmanager
def locked(out):
    """Keeps every other training out of the folder of a run.

    Raises:
        BlockingIOError: If another process trains there.
    """
    lock = filelock.FileLock(out / ".lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BlockingIOError(
            "Expected a folder in which no other process trains. "
            f"Received: {out}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def train(recipe, dataset, out, stop=lambda: False):
    """Trains a network, or goes on with an interrupted training.

    Args:
        recipe: `zoo.recipe.Recipe`.
        dataset: `zoo.data.Dataset`, the one of the recipe.
        out: `pathlib.Path` of the folder of the run, which exists.
        stop: Function without arguments, which is asked before every step
            whether to save and stop. Several workers cannot agree on a step
            and never ask.

    Returns:
        Dict of the metrics as they stand in `metrics.json`; `None` in
        processes that only help another one.

    Raises:
        OSError: If a file cannot be written. What was there is kept.
        zoo.callbacks.Stopped: If `stop` said so. The same call goes on.
        ValueError: If the recipe needs another backend, or if all
            checkpoints are damaged.
    """
    keras.utils.set_random_seed(recipe.seed)
    devices = Devices(recipe.distribute, recipe.jit_compile)
    preprocessing = preprocessing_for(recipe, dataset)
    with devices.scope():
        network = build(
            recipe, dataset, dtype=recipe.dtype, classifier_activation=None
        )
        model = trainable(network, recipe, dataset, preprocessing, devices)
        fit(model, recipe, dataset, out, devices, stop)
    if not devices.is_chief:
        return None
    record = checkpoints.restore(out / "checkpoints", model)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    weights = out / "model.weights.h5"
    with replacing(weights) as partial:
        network.save_weights(partial)
    trained = build(recipe, dataset, weights=weights)
    tested = on_pixels(trained, preprocessing)
    measured = evaluate(tested, dataset, preprocessing)
    settings = dataclasses.asdict(recipe)
    metrics = {
        "recipe": settings.pop("name"),
        **settings,
        **{name: measured[name] for name in ("top1", "top5", "loss", "ece")},
        "parameters": complexity.parameters(trained),
        "multiply_adds": complexity.multiply_adds(trained),
        "train_images": len(dataset.x_train),
        "test_images": len(dataset.x_test),
        "class_names": dataset.class_names,
        "preprocessing": dataclasses.asdict(preprocessing),
        "train_seconds": sum(row["seconds"] for row in record["rows"]),
        "hardware": devices.describe(),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "commit": commit(),
    }
    replace_text(out / "metrics.json", _json(metrics))
    return metrics


def trainable(network, recipe, dataset, preprocessing, devices, spared=SPARED):
    """The compiled model of pixels that trains a network.

    Args:
        network: `keras.Model` of normalised images, which gives logits.
        recipe: `zoo.recipe.Recipe`.
        dataset: `zoo.data.Dataset`.
        preprocessing: What `preprocessing_for` says of both.
        devices: `zoo.distribute.Devices`, in whose scope this is called.
        spared: As for `zoo.network.compile_for`.
    """
    devices.prepare(network)
    model = on_pixels(network, preprocessing, devices.model)
    steps = pipeline.steps_per_epoch(dataset, recipe)
    compile_for(model, recipe, steps, spared)
    return model


def fit(model, recipe, dataset, out, devices, stop, callbacks=()):
    """Trains to the last epoch, from the last checkpoint if there is one."""
    steps = pipeline.steps_per_epoch(dataset, recipe)
    model.optimizer.build(model.trainable_variables)
    folder = out / "checkpoints"
    # Keras' epochs all have as many steps: the rest of one that was
    # interrupted is a training of its own.
    for part in _parts(checkpoints.restore(folder, model), recipe, steps):
        record = checkpoints.restore(folder, model)
        progress = Progress(recipe, steps, record["step"], devices.is_chief)
        with progress.bar:
            model.fit(
                pipeline.training_batches(dataset, recipe, record["step"]),
                **part,
                validation_data=pipeline.test_batches(dataset, recipe),
                validation_batch_size=recipe.batch_size,
                shuffle=False,  # The batches are.
                callbacks=[
                    Recorder(out, record, steps, devices, stop),
                    progress,
                    *callbacks,
                ],
                verbose=0,
            )


def _parts(record, recipe, steps):
    """Arguments of the calls of `keras.Model.fit` that are still to do."""
    epoch, done = divmod(record["step"], steps)
    if done:
        yield {
            "initial_epoch": epoch,
            "epochs": epoch + 1,
            "steps_per_epoch": steps - done,
        }
        epoch += 1
    if epoch < recipe.epochs:
        yield {
            "initial_epoch": epoch,
            "epochs": recipe.epochs,
            "steps_per_epoch": steps,
        }


def _json(content):
    return json.dumps(content, indent=2) + "\n"


class Signals:
    """Says whether the process was asked to end; a second time ends it."""

    def __init__(self):
        self.received = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def __call__(self):
        return self.received is not None

    def _receive(self, number, frame):
        self.received = number
        signal.signal(number, signal.SIG_DFL)


def add_recipe_arguments(parser, optional=False):
    """Adds a recipe and what differs from it to an `ArgumentParser`."""
    parser.add_argument(
        "recipe",
        nargs="?" if optional else None,
        help="YAML file, see zoo/recipes/",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="what differs from the file: the fields of zoo.recipe.Recipe",
    )


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
    return parser.parse_args(arguments)


def main(arguments=None):
    options = _parse(arguments)
    try:
        recipe = Recipe.from_file(options.recipe, options.set)
        check_backend(recipe.distribute)
        out = options.out or pathlib.Path("runs", recipe.run_name)
        claim(out, recipe)
        if (out / "metrics.json").exists():
            print(f"{out / 'metrics.json'} exists: this run is complete.")
            return
        dataset = load_data(recipe)
    except (OSError, ValueError) as error:
        refuse("zoo.train", error)
    signals = Signals()
    try:
        # Each worker of several trains in it, and one of them writes.
        shared = recipe.distribute == "multi_worker"
        with contextlib.nullcontext() if shared else locked(out):
            metrics = train(recipe, dataset, out, signals)
    except Stopped:
        print("Stopped and saved. The same command goes on from here.")
        sys.exit(128 + signals.received)
    except OSError as error:
        refuse("zoo.train", error)
    if metrics:
        print(f"Test accuracy {metrics['top1']:.2%}, all of it in {out}.")


if __name__ == "__main__":
    main()
