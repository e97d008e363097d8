"""Put AW-convolutions in the place of a model's convolutions.

The new model computes what the old one does, and fine-tuning begins there. It
is not compiled.
"""

import pathlib

from aw_keras.cli import networks, output
from aw_keras.cli.output import positive_integer, print_facts
from aw_keras.files import replacing

EXAMPLES = """\
aw-keras convert model.keras aw_model.keras
aw-keras convert model.keras aw_model.keras --where 'conv4_*' 'conv5_*'
aw-keras convert seresnet50.safetensors aw_seresnet50.keras
"""


def add_arguments(parser):
    parser.add_argument(
        "source",
        metavar="IN",
        help="folder of a training, .keras file of a functional model, file "
        "of PyTorch, weights, the name of weights of others, or hf://USER/NAME",
    )
    parser.add_argument("target", metavar="OUT", help=".keras file to write")
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="the network that IN has the weights of (for .weights.h5)",
    )
    parser.add_argument(
        "--where",
        nargs="+",
        metavar="PATTERN",
        help="patterns of names of convolutions (default: all larger than 1x1)",
    )
    parser.add_argument(
        "--reduction",
        type=positive_integer,
        default=16,
        metavar="R",
        help="reduction ratio of the attention (%(default)s)",
    )
    output.add_force(parser)


def run(options):
    _check_target(options)
    if options.network is None:
        model = networks.load(options.source)
    else:
        model = networks.with_weights(options.network, options.source)
    from aw_keras.classifier import Classifier
    from aw_keras.convert import to_aw
    from aw_keras.layers import AWConv2D

    where = {"where": options.where, "reduction": options.reduction}
    if isinstance(model, Classifier):
        network = to_aw(model.network, **where)
        converted = Classifier(network, model.preprocessing, model.class_names)
    else:
        converted = to_aw(model, **where)
    with replacing(options.target) as path:
        converted.save(path)
    receipt = getattr(model, "weights_receipt", None)
    return {
        "written": options.target,
        "weights": str(receipt) if receipt else None,
        "converted": [
            layer.name
            for layer in converted._flatten_layers()
            if isinstance(layer, AWConv2D)
        ],
        "parameters_before": model.count_params(),
        "parameters_after": converted.count_params(),
    }


def _check_target(options):
    if pathlib.Path(options.target).suffix != ".keras":
        raise ValueError(
            "Expected OUT to be the path of a .keras file. "
            f"Received: OUT={options.target}"
        )
    output.check_target(options.target, options.force)


def show(result):
    print_facts(
        f"wrote {result['written']}",
        {
            "AW-convolutions": len(result["converted"]),
            "parameters before": f"{result['parameters_before']:,}",
            "parameters after": f"{result['parameters_after']:,}",
        },
    )
