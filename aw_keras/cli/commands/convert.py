"""Put AW-convolutions in the place of a model's convolutions.

The new model computes what the old one does, and fine-tuning begins there. It
is not compiled.
"""

import os
import pathlib

from aw_keras import to_aw
from aw_keras.cli import networks, output
from aw_keras.cli.output import print_facts
from aw_keras.files import replacing
from aw_keras.layers import AWConv2D

EXAMPLES = """\
aw-keras convert model.keras aw_model.keras
aw-keras convert model.keras aw_model.keras --where 'conv4_*' 'conv5_*'
aw-keras convert seresnet50.safetensors aw_seresnet50.keras
"""


def add_arguments(parser):
    parser.add_argument(
        "source",
        metavar="IN",
        help=".keras file of a functional model, file of PyTorch, or weights",
    )
    parser.add_argument(
        "target", metavar="OUT", help=".keras file to write; must not exist"
    )
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
        type=int,
        default=16,
        metavar="R",
        help="reduction ratio of the attention (%(default)s)",
    )


def run(options):
    _check_target(options.target)
    if options.network is None:
        model = networks.load(options.source)
    else:
        model = networks.with_weights(options.network, options.source)
    converted = to_aw(model, options.where, reduction=options.reduction)
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


def _check_target(path):
    if pathlib.Path(path).suffix != ".keras" or os.path.lexists(path):
        raise ValueError(
            "Expected OUT to be the path of a new .keras file. "
            f"Received: OUT={path}"
            + (", which exists" if os.path.lexists(path) else "")
        )
    output.check_folder(path)


def show(result):
    print_facts(
        f"wrote {result['written']}",
        {
            "AW-convolutions": len(result["converted"]),
            "parameters before": f"{result['parameters_before']:,}",
            "parameters after": f"{result['parameters_after']:,}",
        },
    )
