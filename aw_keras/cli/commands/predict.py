"""Say what is in images.

Of every image the middle is taken, in the proportions that the network wants.
"""

from aw_keras.cli import images, networks
from aw_keras.cli.output import positive_integer, print_table, track
from aw_keras.command import DONE, REFUSED, complain

DESCRIPTION = networks.DESCRIPTION

EXAMPLES = """\
aw-keras predict AWResNet50 cat.jpg dog.jpg
aw-keras predict AWResNet50 photos/*.jpg --top 1 --json
aw-keras predict timm/resnet50.a1_in1k cat.jpg
aw-keras predict hf://USER/NAME cat.jpg
aw-keras predict AWResNet20 ship.png --weights my.weights.h5 \\
    --preprocessing cifar10
aw-keras predict runs/folder-AWResNet20-0 ship.png
aw-keras predict model.keras ship.png --preprocessing unit
"""


def add_arguments(parser):
    networks.add_arguments(parser)
    add_images(parser)
    parser.add_argument(
        "--top",
        type=positive_integer,
        default=5,
        metavar="K",
        help="how many classes of each image (%(default)s)",
    )


def add_images(parser):
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="path of an image file"
    )


def run(options):
    paths, pictures, failed = _read_what_can_be(options.images)
    network = networks.open_trained(options)
    scores = [score(network, image) for image in track(pictures, "Predicting")]
    return {
        "model": network.model.name,
        "weights": network.weights,
        "preprocessing": network.kind,
        "images": [
            {"image": path, "predictions": best}
            for path, best in zip(paths, ranked(network, scores, options.top))
        ],
        "failed": failed,
    }


def exit_code(result):
    return REFUSED if result["failed"] else DONE


def _read_what_can_be(paths):
    """The paths of good images, these, and what is wrong with the others.

    A damaged image does not cost the results of the others; where none is
    left, there is nothing to do.
    """
    good, pictures, failed = [], [], []
    for path in paths:
        try:
            pictures += images.read([path])
            good.append(path)
        except ValueError as error:
            failed.append({"image": path, "error": str(error)})
    if not good:
        raise ValueError("; ".join(failure["error"] for failure in failed))
    for failure in failed:
        complain("aw-keras predict", failure["error"])
    return good, pictures, failed


def score(network, image):
    """The outputs for one image, an array `(classes,)`."""
    model = network.model
    inputs = network.preprocessing.inputs(model, image[None])
    return outputs(model, inputs)[0]


def outputs(model, inputs):
    """What a classifier returns, an array `(N, classes)`.

    Compiling it would take longer than a few images do.
    """
    import keras

    shapes = [tensor.shape for tensor in model.outputs]
    if [len(shape) for shape in shapes] != [2]:
        raise ValueError(
            "Expected a classifier, with one output (N, classes). "
            f"Received: {model.name} with outputs of the shapes {shapes}"
        )
    (found,) = keras.tree.flatten(model(inputs, training=False))
    return keras.ops.convert_to_numpy(found).astype("float64")


def ranked(network, scores, top):
    """For each image its best classes, as dicts, the best first."""
    import numpy as np

    names = network.class_names()
    return [
        [
            {
                "index": int(index),
                "class": names[index] if names else None,
                "score": float(row[index]),
            }
            for index in np.argsort(-row, kind="stable")[:top]
        ]
        for row in scores
    ]


def label(prediction):
    """What a class is called."""
    return prediction["class"] or f"class {prediction['index']}"


def show(result):
    print_table(
        f"{result['model']}, weights {result['weights']}, "
        f"preprocessing {result['preprocessing']}",
        ("image", "class", ">score"),
        [
            (
                image["image"] if place == 0 else None,
                label(prediction),
                f"{prediction['score']:.4f}",
            )
            for image in result["images"]
            for place, prediction in enumerate(image["predictions"])
        ],
    )
