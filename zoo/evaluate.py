"""Measures a trained network on the test split of a data set.

    python -m zoo.evaluate ResNet20 --data cifar10
    python -m zoo.evaluate runs/digits --out runs/digits
    python -m zoo.evaluate --check --data cifar10
    python -m zoo.evaluate --imagenet FOLDER --weights timm/resnet50.a1_in1k

Prints top-1 and top-5 accuracy, loss and calibration error, and writes them
with the accuracy of every class as JSON, and the confusion matrix as a picture.
With `--check` it measures every released file of weights again and fails if one
is not as good as it was published. With `--imagenet` it measures any weights
for ImageNet, those of others too, with their own preprocessing, on a folder of
validation images or on a data set of TensorFlow Datasets.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

from aw_keras.applications.datasets import IMAGENET
from aw_keras.cli import networks
from aw_keras.command import refuse
from aw_keras.files import replace_text, replacing
from aw_keras.weights import published
from zoo.data import imagenet
from zoo.data.preprocessing import preprocessing_for
from zoo.data.sources import load, load_data
from zoo.publishing import check
from zoo.recipe import Recipe
from zoo.run import Run, to_json
from zoo.training.measuring import evaluate
from zoo.training.network import build, on_pixels


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


def _on_imagenet(options):
    """The model from pixels, its data and preprocessing, and what it is."""
    wanted = argparse.Namespace(
        model=options.model or options.weights,
        weights=options.model and options.weights,
        preprocessing=None,
    )
    network = networks.open_trained(wanted)
    model = network.model
    if [tensor.shape for tensor in model.outputs] != [(None, IMAGENET.classes)]:
        raise ValueError(
            f"Expected a network of the {IMAGENET.classes} classes of "
            f"ImageNet. Received: {wanted.model} with outputs of the shapes "
            f"{[tensor.shape for tensor in model.outputs]}"
        )
    about = {"network": model.name, "weights": network.weights}
    receipt = getattr(model, "weights_receipt", None)
    if receipt and receipt.verified:
        about["sha256"] = receipt.verified.sha256
    for file in published(network.weights):
        about["published"] = file.top1 / 100
    preprocessing = network.preprocessing.for_model(model)
    data = imagenet.load(options.imagenet)
    return on_pixels(model, preprocessing), data, preprocessing, about


def _trained(options):
    """The model from pixels to probabilities, its data and preprocessing."""
    run = Run(options.model)
    if run.exists:
        classifier = run.classifier()
        return (
            on_pixels(classifier.network, classifier.preprocessing),
            _data_of(run, classifier, options),
            classifier.preprocessing,
        )
    path = pathlib.Path(options.model)
    if path.is_file():
        # The name of a published file begins with network and data set.
        model, _, rest = path.name.partition("-")
        recipe = _recipe(model, rest.partition("-")[0], options)
        weights = path
    else:
        weights = options.weights or "cifar10"
        recipe = _recipe(options.model, weights, options)
    dataset = load_data(recipe)
    network = build(recipe, dataset, weights=weights)
    preprocessing = preprocessing_for(recipe, dataset)
    return on_pixels(network, preprocessing), dataset, preprocessing


def _data_of(run, classifier, options):
    """The data of a run, or others of the same classes."""
    if options.data is None:
        return load_data(run.recipe)
    dataset = load(options.data, encoded=run.recipe.image_size is not None)
    if dataset.class_names != classifier.class_names:
        raise ValueError(
            "Expected --data of the classes of the run, "
            f"{', '.join(classifier.class_names)}. "
            f"Received: {options.data} with {', '.join(dataset.class_names)}"
        )
    return dataset


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
        "--data",
        help="what zoo.data.sources.load takes; the run's own by default",
    )
    parser.add_argument(
        "--imagenet",
        metavar="FOLDER|NAME",
        help="measure on ImageNet: validation images in folders named by "
        "WordNet ids, or a name of TensorFlow Datasets; model is what "
        "aw-keras predict takes then",
    )
    parser.add_argument(
        "--weights",
        help="of a network that is given by its name (cifar10); with "
        "--imagenet, in the place of a model: weights of others, or a file",
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
    if options.imagenet and (options.check or options.data):
        parser.error("--imagenet takes neither --check nor --data")
    if options.check and (options.model or not options.data):
        parser.error("--check takes --data, and no model")
    named = options.imagenet and options.weights
    if not (options.check or options.model or named):
        parser.error("expected a model, or --check, or --imagenet --weights")
    return options


def _check(source):
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
        about = {}
        if options.imagenet:
            *measured, about = _on_imagenet(options)
        else:
            measured = _trained(options)
        found = about | evaluate(*measured)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            replace_text(
                options.out / "evaluation.json",
                to_json(found),
            )
            draw_confusion(
                found["confusion"],
                measured[1].class_names,
                options.out / "confusion.png",
            )
    except (ImportError, OSError, ValueError) as error:
        refuse("zoo.evaluate", error)
    found.pop("confusion")
    if options.imagenet:
        found.pop("per_class")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
