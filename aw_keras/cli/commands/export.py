"""Write a network for TensorFlow, ONNX Runtime or LiteRT.

What is written takes uint8 images of any size and preprocesses them itself;
with --preprocessing none, it takes what the network takes.
"""

import pathlib

from aw_keras.artifacts import OPSETS, PRECISIONS, check_target, format_of
from aw_keras.cli import images, networks, output
from aw_keras.cli.output import print_facts

DESCRIPTION = networks.DESCRIPTION

EXAMPLES = """\
aw-keras export AWResNet50 saved_model/
aw-keras export AWResNet50 model.onnx --precision float16
aw-keras export runs/folder-AWResNet20-0 model.onnx
aw-keras export model.keras model.tflite --precision int8 \\
    --preprocessing imagenet --images photos/*.jpg
"""


def add_arguments(parser):
    networks.add_arguments(parser)
    parser.add_argument(
        "path",
        metavar="PATH",
        help="what to write: a name.onnx, a name.tflite (litert) or else the "
        "folder of a saved_model",
    )
    parser.add_argument(
        "--format", choices=PRECISIONS, help="default: what PATH ends in"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS["litert"],
        default="float32",
        help="how weights are stored (%(default)s); int8 for litert only",
    )
    parser.add_argument(
        "--images",
        metavar="IMAGE",
        nargs="+",
        help="for int8: a hundred or more images like those of the training",
    )
    parser.add_argument(
        "--opset",
        type=int,
        choices=OPSETS,
        metavar="N",
        help=f"of a name.onnx, from {OPSETS[0]} to {OPSETS[-1]} (18)",
    )
    output.add_force(parser)


def run(options):
    format = format_of(options.path, options.format)
    check_target(options.path, format, options.force)
    output.check_folder(options.path)
    pictures = images.read(options.images) if options.images else None
    network = networks.open_trained(options)
    data = None
    if pictures:
        arguments = pictures, network.preprocessing, network.model
        if network.served_preprocessing is None:
            _, data = images.seen(*arguments)
        else:
            data = images.representative(*arguments)
    names = network.class_names()
    from aw_keras import exporting

    try:
        exporting.export(
            network.model,
            options.path,
            format,
            preprocessing=network.served_preprocessing,
            class_names=names,
            precision=options.precision,
            representative_data=data,
            opset=options.opset,
            overwrite=options.force,
        )
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return {
        "written": options.path,
        "format": format,
        "precision": options.precision,
        "model": network.model.name,
        "weights": network.weights,
        "preprocessing": network.kind,
        "class_names": names is not None,
        "bytes": _size(pathlib.Path(options.path)),
    }


def _size(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def show(result):
    print_facts(
        f"wrote {result['written']}",
        {
            "model": result["model"],
            "weights": result["weights"],
            "format": f"{result['format']}, {result['precision']}",
            "preprocessing": result["preprocessing"],
            "names of classes": "inside" if result["class_names"] else "none",
            "size": f"{result['bytes'] / 1e6:.1f} MB",
        },
    )
