r"""Trains one of the library's networks on labelled images.

    python -m zoo.train --model AWResNet20 --data digits --epochs 15 \
        --out runs/digits

The folder of the run then holds:

- `run.json`: what was asked for. The same command resumes an interrupted run
  at the last complete epoch; another command is refused.
- `checkpoint.keras`: model and optimizer after the last complete epoch. Its
  weights fit the network of the library, too: `AWResNet20(weights=...)`.
- `log.csv`: loss and accuracy of every epoch.
- `saved_model/`: takes pixels from 0 to 255 as float32, in the data's size,
  any number of images at once, and gives the probabilities of the classes.
- `metrics.json`: the result on the test split. It is written last.

The normalisation of the pixels is a layer without weights at the beginning of
the model. The test split only measures: nothing is chosen by it.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import sys

import keras
import numpy as np

from aw_keras.applications import create_model, list_models
from zoo.data import load, take


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What decides the result of a training.

    SGD with Nesterov momentum 0.9 and a weight decay of 1e-4 (in the usual
    sense, where learning rate and momentum multiply it), a tenth of the steps
    of linear warm-up, then half a cosine down to zero. Random crops with a
    padding of 4 and horizontal flips, except for the digits.

    Attributes:
        model: Name of a network of `aw_keras.applications`.
        data: What `zoo.data.load` takes.
        epochs: Number of epochs in all.
        batch_size: Number of images of a step. Those that an epoch's last
            whole batch leaves over wait for the next epoch.
        learning_rate: Learning rate after the warm-up.
        seed: Decides weights, order and augmentation.
        limit: Number of random images to use of each split, `None` for all.
    """

    model: str
    data: str
    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    seed: int = 0
    limit: int | None = None

    def load_data(self):
        dataset = load(self.data)
        if self.limit is None:
            return dataset
        return take(dataset, self.limit, self.seed)


def claim(out, recipe):
    """Makes the folder of a run, or checks that it is this recipe's.

    Raises:
        ValueError: If the folder holds a run of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    owner = out / "run.json"
    wanted = dataclasses.asdict(recipe)
    if not owner.exists():
        _write_json(owner, wanted)
    elif (found := json.loads(owner.read_text())) != wanted:
        raise ValueError(
            f"Expected the arguments of the run in {out}: {found}. "
            f"Received: {wanted}"
        )


def train(recipe, dataset, out):
    """Trains a network, or goes on with an interrupted training.

    Args:
        recipe: `Recipe`.
        dataset: `zoo.data.Dataset`, the one of the recipe.
        out: `pathlib.Path` of the folder of the run, which exists.

    Returns:
        The trained model, from pixels to probabilities, and the metrics as
        they stand in `metrics.json`.
    """
    keras.utils.set_random_seed(recipe.seed)
    model = build(recipe.model, dataset)
    batches = Batches(
        dataset,
        recipe.batch_size,
        recipe.seed,
        augment=recipe.data != "digits",
    )
    compile_for(model, recipe.epochs * len(batches), recipe.learning_rate)
    fit(model, batches, dataset, recipe.epochs, out)
    measured = model.evaluate(
        dataset.x_test,
        dataset.y_test,
        batches.batch_size,
        verbose=0,
        return_dict=True,
    )
    export(model, out)
    metrics = {
        "test_loss": measured["loss"],
        "test_accuracy": measured["accuracy"],
        "parameters": model.count_params(),
        "train_images": len(dataset.x_train),
        "test_images": len(dataset.x_test),
        "class_names": dataset.class_names,
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        **dataclasses.asdict(recipe),
    }
    _write_json(out / "metrics.json", metrics)
    return model, metrics


def build(name, dataset):
    """The network `name` on raw pixels, normalised by the training split."""
    mean, deviation = channel_statistics(dataset.x_train)
    image = keras.Input(dataset.x_train.shape[1:], name="image")
    normalised = keras.layers.Rescaling(
        (1 / deviation).tolist(), (-mean / deviation).tolist(), name="normalise"
    )(image)
    return create_model(
        name,
        input_tensor=normalised,
        classes=len(dataset.class_names),
        data_format="channels_last",
    )


def channel_statistics(images):
    """Mean and standard deviation (at least one grey level) of each channel."""
    # `einsum` converts as it goes; `images.std()` would need eight times the
    # memory of the images.
    count = images[..., 0].size
    mean = np.einsum("nhwc->c", images, dtype="float64") / count
    square = np.einsum("nhwc,nhwc->c", images, images, dtype="float64") / count
    return mean, np.sqrt(np.maximum(square - mean**2, 1))


def compile_for(model, steps, learning_rate):
    """Compiles a model for a training of so many steps."""
    warmup = max(steps // 10, 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        max(steps - warmup, 1),
        warmup_target=learning_rate,
        warmup_steps=warmup,
    )
    # Keras decouples the weight decay from the momentum, which would else
    # multiply it by 1 / (1 - 0.9).
    optimizer = keras.optimizers.SGD(
        schedule,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-3,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    model.compile(
        optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )


def fit(model, batches, dataset, epochs, out):
    """Trains up to so many epochs, from the checkpoint if there is one."""
    checkpoint = out / "checkpoint.keras"
    if checkpoint.exists():
        model.optimizer.build(model.trainable_variables)
        model.load_weights(checkpoint)
    epoch = int(model.optimizer.iterations) // len(batches)
    if epoch:
        print(f"Going on after epoch {epoch} of {epochs}.")
    model.fit(
        batches,
        initial_epoch=epoch,
        epochs=epochs,
        validation_data=(dataset.x_test, dataset.y_test),
        validation_batch_size=batches.batch_size,
        shuffle=False,  # `Batches` shuffles, by the seed.
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=batches.start),
            Checkpoint(checkpoint),
            keras.callbacks.CSVLogger(out / "log.csv", append=bool(epoch)),
        ],
    )


def export(model, out):
    """Writes a SavedModel, where TensorFlow is installed to write one."""
    if importlib.util.find_spec("tensorflow"):
        path = str(out / "saved_model")
        model.export(path, format="tf_saved_model", verbose=False)
    else:
        print("No SavedModel was exported: TensorFlow is not installed.")


class Batches(keras.utils.PyDataset):
    """Whole batches of the training split, shuffled and augmented.

    Seed, epoch and place in the epoch decide a batch, so that a resumed run
    sees what an uninterrupted one would have seen.
    """

    def __init__(self, dataset, batch_size, seed, augment):
        super().__init__()
        self.images, self.labels = dataset.x_train, dataset.y_train
        self.batch_size = min(batch_size, len(self.images))
        self.seed = seed
        self.augment = augment
        self.background = self.images.mean((0, 1, 2)).astype("uint8")
        self.start(0)

    def start(self, epoch, logs=None):
        """Shuffles for an epoch; the signature is a Keras callback's."""
        self.epoch = epoch
        rng = np.random.default_rng((self.seed, epoch))
        self.order = rng.permutation(len(self.images))

    def __len__(self):
        return len(self.images) // self.batch_size

    def __getitem__(self, index):
        begin = index * self.batch_size
        chosen = self.order[begin : begin + self.batch_size]
        images = self.images[chosen]
        if self.augment:
            rng = np.random.default_rng((self.seed, self.epoch, index))
            images = crop_and_flip(images, 4, self.background, rng)
        return images, self.labels[chosen]


def crop_and_flip(images, padding, background, rng):
    """Moves every image up to `padding` pixels and mirrors every second one.

    Args:
        images: Array `(samples, height, width, channels)`.
        padding: Integer, number of pixels.
        background: Array `(channels,)`, the colour beyond the border.
        rng: `numpy.random.Generator`.

    Returns:
        An array like `images`.
    """
    samples, height, width, channels = images.shape
    canvas = np.empty(
        (samples, height + 2 * padding, width + 2 * padding, channels),
        images.dtype,
    )
    canvas[:] = background
    canvas[:, padding : padding + height, padding : padding + width] = images
    windows = np.lib.stride_tricks.sliding_window_view(
        canvas, (height, width), axis=(1, 2)
    )
    top, left = rng.integers(0, 2 * padding + 1, (2, samples))
    crops = np.moveaxis(windows[np.arange(samples), top, left], 1, -1)
    mirrored = rng.random(samples) < 0.5
    return np.where(mirrored[:, None, None, None], crops[:, :, ::-1], crops)


class Checkpoint(keras.callbacks.Callback):
    """Saves model and optimizer after every epoch.

    The file is replaced in one step: whoever kills the run finds a whole one.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        partial = self.path.with_name("partial.keras")
        self.model.save(partial)
        os.replace(partial, self.path)


def _write_json(path, content):
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.train",
        description="Train a network. The same command resumes it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, choices=list_models())
    parser.add_argument(
        "--data",
        required=True,
        help="'digits', a folder of train/<class>/ and test/<class>/, or a "
        "tar archive of one",
    )
    parser.add_argument("--epochs", required=True, type=_positive)
    parser.add_argument("--batch-size", type=_positive, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit", type=_positive, help="use so many images of each split"
    )
    parser.add_argument(
        "--out", required=True, type=pathlib.Path, help="folder of the run"
    )
    return parser.parse_args(arguments)


def _positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(
            f"Expected a positive integer. Received: {text}"
        )
    return int(text)


def main(arguments=None):
    options = vars(_parse(arguments))
    out = options.pop("out")
    recipe = Recipe(**options)
    try:
        claim(out, recipe)
        if (out / "metrics.json").exists():
            print(f"{out / 'metrics.json'} exists: this run is complete.")
            return
        dataset = recipe.load_data()
    except (OSError, ValueError) as error:
        sys.exit(f"zoo.train: {error}")
    try:
        _, metrics = train(recipe, dataset, out)
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on from here.")
    print(f"Test accuracy {metrics['test_accuracy']:.2%}, all of it in {out}.")


if __name__ == "__main__":
    main()
