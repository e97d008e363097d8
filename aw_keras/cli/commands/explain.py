"""Draw what a network attends to in images.

The figure has the Grad-CAM of every image, how much each layer's attention
differs between the images if there are several, and the attention of every
layer; with --layer, that of one layer for every image.
"""

import importlib.util
import pathlib

from aw_keras.cli import images, networks, output
from aw_keras.cli.commands import predict
from aw_keras.files import replacing

DESCRIPTION = networks.DESCRIPTION

EXAMPLES = """\
aw-keras explain AWResNet50 cat.jpg dog.jpg --out figure.png
aw-keras explain model.keras cat.jpg dog.jpg --preprocessing imagenet \\
    --layer conv5_block3_2_conv --out layer.png
"""


_SUFFIXES = (".png", ".pdf", ".svg")


def add_arguments(parser):
    networks.add_arguments(parser)
    predict.add_images(parser)
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="figure to write: .png, .pdf or .svg",
    )
    parser.add_argument(
        "--layer", metavar="NAME", help="draw one AW-convolution"
    )
    output.add_force(parser)


def run(options):
    _check_out(options)
    pictures = images.read(options.images)
    network = networks.open_trained(options)
    from aw_keras import explain
    from aw_keras.layers import AWConv2D

    model = network.model
    pixels, inputs = images.seen(pictures, network.preprocessing, model)
    scores = predict.outputs(model, inputs)
    best = [first for (first,) in predict.ranked(network, scores, 1)]
    attention = {}
    if any(isinstance(layer, AWConv2D) for layer in model._flatten_layers()):
        attention = explain.kernel_attention(model, inputs, batch_size=8)
    titles = [
        f"{pathlib.Path(path).name}: {predict.label(prediction)}"
        for path, prediction in zip(options.images, best)
    ]
    if options.layer:
        figure = explain.plot_layer(attention, options.layer, pixels, titles)
    else:
        heat = explain.grad_cam(
            model, inputs, [p["index"] for p in best], batch_size=8
        )
        figure = explain.plot_overview(pixels, heat, attention, titles)
    with replacing(options.out) as path:
        figure.savefig(path)
    return {
        "model": model.name,
        "weights": network.weights,
        "preprocessing": network.kind,
        "figure": options.out,
        "images": [
            {"image": path, **prediction}
            for path, prediction in zip(options.images, best)
        ],
        "layers": _layers(attention),
    }


def _check_out(options):
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            "Expected matplotlib to be installed: pip install 'aw-keras[cli]'"
        )
    if pathlib.Path(options.out).suffix.lower() not in _SUFFIXES:
        raise ValueError(
            "Expected --out to end in .png, .pdf or .svg. "
            f"Received: --out {options.out}"
        )
    output.check_target(options.out, options.force, _is_figure)


def _is_figure(path):
    """Whether matplotlib, which signs its files, has written a file."""
    return b"Matplotlib" in path.read_bytes()


def _layers(attention):
    from aw_keras.explain import variation

    several = len(next(iter(attention.values()), ())) > 1
    deviations = variation(attention) if several else [None] * len(attention)
    return [
        {
            "name": name,
            "mean": float(maps.mean()),
            "deviation": None if deviation is None else float(deviation),
        }
        for (name, maps), deviation in zip(attention.items(), deviations)
    ]


def show(result):
    output.print_table(
        f"{result['model']}, weights {result['weights']}",
        ("image", "class", ">score"),
        [
            (image["image"], predict.label(image), f"{image['score']:.4f}")
            for image in result["images"]
        ],
    )
    if result["layers"]:
        output.print_table(
            "Attention",
            ("layer", ">mean", ">deviation over images"),
            [
                (
                    layer["name"],
                    f"{layer['mean']:.4f}",
                    None
                    if layer["deviation"] is None
                    else f"{layer['deviation']:.4f}",
                )
                for layer in result["layers"]
            ],
        )
    print(f"wrote {result['figure']}")
