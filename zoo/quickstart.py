"""The whole way once, on data that need no download.

    python -m zoo.quickstart

Trains AW-ResNet-20 on scikit-learn's handwritten digits, exports it as a
SavedModel, and lets a new process that has TensorFlow but neither this library
nor Keras predict the same. It ends with an error if it does not, or if the
accuracy on the held-out digits is too low.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import matplotlib
import numpy as np
import rich.console
import rich.table

from zoo.data.sources import load_data
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.training.loop import train
from zoo.training.network import on_pixels

RECIPE = Recipe.from_file(
    pathlib.Path(__file__).with_name("recipes") / "digits.yaml",
    ["model=AWResNet20"],
)
REQUIRED_ACCURACY = 0.97
ALLOWED_DIFFERENCE = 1e-5


def main(out=pathlib.Path("runs/quickstart"), recipe=RECIPE):
    start = time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    run = Run(out)
    run.claim(recipe)
    dataset = load_data(recipe)
    print(
        f"Training {recipe.model} on {len(dataset.x_train):,} handwritten "
        "digits of 8x8 pixels. The first step compiles the network."
    )
    metrics = train(recipe, dataset, run)
    trained = run.classifier()
    model = on_pixels(trained.network, trained.preprocessing)
    model.export(
        str(out / "saved_model"), format="tf_saved_model", verbose=False
    )
    expected = model.predict(dataset.x_test, verbose=0)
    served = predict_elsewhere(out / "saved_model", dataset.x_test)
    difference = float(np.abs(served - expected).max())
    draw(dataset, served.argmax(-1), out / "predictions.png")
    report(metrics, difference, time.monotonic() - start, out)
    if not metrics["top1"] > REQUIRED_ACCURACY:
        sys.exit(
            f"Expected an accuracy above {REQUIRED_ACCURACY:.0%}. "
            f"Received: {metrics['top1']:.2%}"
        )
    if not difference <= ALLOWED_DIFFERENCE:
        sys.exit(
            f"Expected predictions within {ALLOWED_DIFFERENCE}. "
            f"Received: a difference of {difference}"
        )


def predict_elsewhere(saved_model, images):
    """Outputs of a SavedModel in a new process without Keras and aw_keras.

    Args:
        saved_model: `pathlib.Path` of the SavedModel.
        images: Array `(samples, height, width, channels)`.

    Returns:
        Array `(samples, classes)`.

    Raises:
        subprocess.CalledProcessError: If the process fails.
    """
    script = pathlib.Path(__file__).with_name("plain_tensorflow.py").resolve()
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "images.npy")
        target = pathlib.Path(folder, "probabilities.npy")
        np.save(source, images)
        subprocess.run(
            # -I: neither the environment nor the working folder add modules.
            [
                *(sys.executable, "-I", script),
                *(saved_model.resolve(), source, target),
            ],
            cwd=folder,
            check=True,
        )
        return np.load(target)


def draw(dataset, predicted, path, rows=5, columns=10):
    """Saves a picture of test images under their predicted classes.

    Every class that is wrong is red, with the right one beside it.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        rows, columns, figsize=(columns, 1.25 * rows), layout="constrained"
    )
    for axis, image, label, prediction in zip(
        axes.flat, dataset.x_test, dataset.y_test, predicted, strict=False
    ):
        title, colour = dataset.class_names[prediction], "black"
        if prediction != label:
            title += f" (is {dataset.class_names[label]})"
            colour = "red"
        axis.imshow(image, cmap="gray_r")
        axis.set_title(title, color=colour)
        axis.axis("off")
    figure.savefig(path)
    pyplot.close(figure)


def report(metrics, difference, seconds, out):
    table = rich.table.Table(title="Quickstart", show_header=False)
    rows = {
        "Network": f"{metrics['model']}, {metrics['parameters']:,} parameters",
        "Trained on": f"{metrics['train_images']:,} handwritten digits, "
        f"{metrics['epochs']} epochs, {metrics['backend']} backend",
        "Accuracy": f"{metrics['top1']:.2%} of "
        f"{metrics['test_images']} held-out digits",
        "SavedModel": f"predicts in plain TensorFlow what Keras predicts, "
        f"within {difference:.1e}",
        "Time": f"{seconds:.0f} s",
        "Files": "\n".join(sorted(str(path) for path in out.iterdir())),
    }
    for row in rows.items():
        table.add_row(*row)
    rich.console.Console().print(table)


if __name__ == "__main__":
    main()
