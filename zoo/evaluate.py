"""Measures a trained network on the test split of a data set.

    python -m zoo.evaluate ResNet20 --data cifar10
    python -m zoo.evaluate runs/digits --out runs/digits
    python -m zoo.evaluate --check --data cifar10

Prints top-1 and top-5 accuracy, loss and calibration error, and writes them
with the accuracy of every class as JSON, and the confusion matrix as a picture.
With `--check` it measures every released file of weights again and fails if one
is not as good as it was published.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

from aw_keras.command import refuse
from aw_keras.files import replace_text, replacing
from zoo import data
from zoo.network import build, on_pixels, preprocessing_for
from zoo.recipe import Recipe


def evaluate(model, dataset, preprocessing, batch_size=256):
    """Measures a classifier on the test split.

    Args:
        model: `keras.Model` from pixels to probabilities, such as
            `zoo.network.on_pixels` makes.
        dataset: `zoo.data.Dataset`.
        preprocessing: `Preprocessing` that the model was made with, which
            crops images of any size.
        batch_size: Integer, number of images at a time.

    Returns:
        Dict of `"top1"`, `"top5"`, `"loss"` (mean cross-entropy in nats),
        `"ece"` (expected calibration error), `"images"` (their number),
        `"per_class"` (a dict from name to accuracy) and `"confusion"`, whose
        rows are the true classes and columns the predicted ones, as lists of
        counts. Accuracies are from 0 to 1.
    """
    return measures(
        _probabilities(model, dataset, preprocessing, batch_size),
        dataset.y_test,
        dataset.class_names,
    )


def measures(probabilities, labels, class_names):
    """What `evaluate` returns, from probabilities.

    Example:

    >>> import numpy as np
    >>> certain = np.eye(3)[[0, 1, 1]]
    >>> found = measures(certain, np.array([0, 1, 2]), "abc")
    >>> found["confusion"], round(found["top1"], 2), round(found["ece"], 2)
    ([[1, 0, 0], [0, 1, 0], [0, 1, 0]], 0.67, 0.33)

    Args:
        probabilities: Array `(images, classes)`.
        labels: Integer array `(images,)`.
        class_names: Sequence of the names of the classes.
    """
    probabilities = np.asarray(probabilities, "float64")
    places = np.arange(len(labels))
    of_label = probabilities[places, labels]
    # Ties count against the label.
    rank = (probabilities >= of_label[:, None]).sum(-1)
    predicted = probabilities.argmax(-1)
    confusion = np.zeros((len(class_names),) * 2, int)
    np.add.at(confusion, (labels, predicted), 1)
    counts = np.maximum(confusion.sum(1), 1)
    return {
        "images": len(labels),
        "top1": float((predicted == labels).mean()),
        "top5": float((rank <= 5).mean()),
        "loss": float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        "ece": calibration_error(probabilities.max(-1), predicted == labels),
        "per_class": {
            name: float(hits / count)
            for name, hits, count in zip(
                class_names, confusion.diagonal(), counts
            )
        },
        "confusion": confusion.tolist(),
    }


def calibration_error(confidence, correct, bins=15):
    """Expected calibration error: how far confidence is from accuracy.

    Args:
        confidence: Array `(images,)` of the probability of the predicted
            class.
        correct: Boolean array `(images,)`.
        bins: Integer, number of bins of equal width from 0 to 1.

    Returns:
        The mean over the images of the difference between mean confidence and
        accuracy in their bin.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(place, confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def draw_confusion(confusion, class_names, path):
    """Saves a picture of a confusion matrix."""
    from matplotlib.figure import Figure

    size = 3 + 0.35 * min(len(class_names), 100)
    figure = Figure(figsize=(size, size), layout="constrained")
    axis = figure.subplots()
    share = np.array(confusion) / np.maximum(np.sum(confusion, 1), 1)[:, None]
    picture = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(class_names) <= 100:
        places = range(len(class_names))
        axis.set_xticks(places, class_names, rotation=90)
        axis.set_yticks(places, class_names)
    axis.set(xlabel="predicted", ylabel="true")
    figure.colorbar(picture, shrink=0.7)
    with replacing(path) as new:
        figure.savefig(new, dpi=120)


def _probabilities(model, dataset, preprocessing, batch_size):
    if not dataset.encoded:
        return model.predict(dataset.x_test, batch_size=batch_size, verbose=0)
    from zoo import decoding

    images = decoding.test_batches(dataset, preprocessing, batch_size).map(
        lambda image, label: image
    )
    return model.predict(images, verbose=0)


def _trained(options):
    """The model from pixels to probabilities, its data and preprocessing."""
    path = pathlib.Path(options.model)
    folder = path if path.is_dir() else path.parent
    if path.exists() and (folder / "run.json").exists():
        fields = json.loads((folder / "run.json").read_text())
        recipe = Recipe.from_dict(fields)
        weights = folder / "model.weights.h5"
    elif path.is_file():
        # The name of a published file begins with network and data set.
        model, _, rest = path.name.partition("-")
        recipe = _recipe(model, rest.partition("-")[0], options)
        weights = path
    else:
        recipe = _recipe(options.model, options.weights, options)
        weights = options.weights
    source = options.data or recipe.data
    dataset = data.load(source, encoded=recipe.image_size is not None)
    network = build(recipe, dataset, weights=weights)
    preprocessing = preprocessing_for(recipe, dataset)
    return on_pixels(network, preprocessing), dataset, preprocessing


def _recipe(model, dataset, options):
    return Recipe(
        model,
        options.data or dataset,
        epochs=1,
        dataset=dataset,
        image_size=options.image_size,
    )


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.evaluate",
        description="Measure a trained network.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        help="folder of a run, path of a published weights file, or name of "
        "a network",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="measure every released file on --data instead, and fail if one "
        "has not the published accuracy",
    )
    parser.add_argument(
        "--data", help="what zoo.data.load takes; the run's own by default"
    )
    parser.add_argument(
        "--weights",
        default="cifar10",
        help="of a network that is given by its name",
    )
    parser.add_argument(
        "--image-size", type=int, help="size of the crops of images of any size"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder for evaluation.json and confusion.png",
    )
    options = parser.parse_args(arguments)
    if options.check and (options.model or not options.data):
        parser.error("--check takes --data, and no model")
    if not options.check and not options.model:
        parser.error("expected a model, or --check")
    return options


def _check(source):
    from zoo import check

    checked = check.check(source)
    print(check.report(checked))
    if not all(good for _, _, good in checked):
        sys.exit("zoo.evaluate: Expected the published accuracies.")


def main(arguments=None):
    options = _parse(arguments)
    try:
        if options.check:
            _check(options.data)
            return
        model, dataset, preprocessing = _trained(options)
        found = evaluate(model, dataset, preprocessing)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            replace_text(
                options.out / "evaluation.json",
                json.dumps(found, indent=2) + "\n",
            )
            draw_confusion(
                found["confusion"],
                dataset.class_names,
                options.out / "confusion.png",
            )
    except (OSError, ValueError) as error:
        refuse("zoo.evaluate", error)
    found.pop("confusion")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
