"""From a recipe and its data to a finished run: training, and its resuming."""

import dataclasses

import keras

from aw_keras.applications import complexity
from aw_keras.classifier import Classifier
from zoo.data import pipeline
from zoo.data.encoded import named_errors
from zoo.data.preprocessing import preprocessing_for
from zoo.training import checkpoints
from zoo.training.callbacks import Progress, Recorder
from zoo.training.distribute import Devices
from zoo.training.measuring import evaluate
from zoo.training.network import build, for_training, on_pixels
from zoo.training.optimization import SPARED, compile_for
from zoo.training.provenance import commit


@named_errors()
def train(recipe, dataset, run, stop=lambda: False):
    """Trains a network, or goes on with an interrupted training.

    Args:
        recipe: `zoo.recipe.Recipe`.
        dataset: `zoo.data.dataset.Dataset`, the one of the recipe.
        run: `zoo.run.Run` that the recipe has claimed.
        stop: Function without arguments, which is asked before every step
            whether to save and stop. Several workers cannot agree on a step
            and never ask.

    Returns:
        Dict of the metrics as they stand in the run; `None` in processes that
        only help another one.

    Raises:
        OSError: If a file cannot be written. What was there is kept.
        zoo.training.callbacks.Stopped: If `stop` said so. The same call goes
            on.
        ValueError: If the recipe needs another backend, if its weights do not
            fit, if an image cannot be read, or if all checkpoints are damaged.
    """
    keras.utils.set_random_seed(recipe.seed)
    devices = Devices(recipe.distribute, recipe.jit_compile)
    preprocessing = preprocessing_for(recipe, dataset)
    with devices.scope():
        network = for_training(recipe, dataset)
        model = trainable(network, recipe, dataset, preprocessing, devices)
        fit(model, recipe, dataset, run, devices, stop)
    if not devices.is_chief:
        return None
    record = checkpoints.restore(run.checkpoints, model)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    trained = build(recipe, dataset)
    trained.set_weights(network.get_weights())
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
        "held_out": dataset.held_out,
        "skipped": list(dataset.skipped),
        "train_seconds": sum(row["seconds"] for row in record["rows"]),
        "hardware": devices.describe(),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "commit": commit(),
    }
    run.finish(Classifier(trained, preprocessing, dataset.class_names), metrics)
    return metrics


def trainable(network, recipe, dataset, preprocessing, devices, spared=SPARED):
    """The compiled model of pixels that trains a network.

    Args:
        network: `keras.Model` of normalised images, which gives logits.
        recipe: `zoo.recipe.Recipe`.
        dataset: `zoo.data.dataset.Dataset`.
        preprocessing: What `preprocessing_for` says of both.
        devices: `zoo.training.distribute.Devices`, in whose scope this is
            called.
        spared: As for `zoo.training.optimization.compile_for`.
    """
    devices.prepare(network)
    model = on_pixels(network, preprocessing, devices.model)
    steps = pipeline.steps_per_epoch(dataset, recipe)
    compile_for(model, recipe, steps, spared)
    return model


def fit(model, recipe, dataset, run, devices, stop, callbacks=()):
    """Trains to the last epoch, from the last checkpoint if there is one."""
    steps = pipeline.steps_per_epoch(dataset, recipe)
    model.optimizer.build(model.trainable_variables)
    # The curves are those of the weights that the training ends with.
    averages = [keras.callbacks.SwapEMAWeights()] if recipe.ema else []
    # Keras' epochs all have as many steps: the rest of one that was
    # interrupted is a training of its own.
    record = checkpoints.restore(run.checkpoints, model)
    for part in _parts(record, recipe, steps):
        record = checkpoints.restore(run.checkpoints, model)
        progress = Progress(recipe, steps, record["step"], devices.is_chief)
        with progress.bar:
            model.fit(
                pipeline.training_batches(dataset, recipe, record["step"]),
                **part,
                validation_data=pipeline.test_batches(dataset, recipe),
                validation_batch_size=recipe.batch_size,
                shuffle=False,  # The batches are.
                callbacks=[
                    *averages,
                    Recorder(run, record, steps, devices, stop),
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
