"""Say what a network is and costs.

MODEL is the name of a network, the folder of a training or a file.
Multiply-adds are those of one image.
"""

import math

from aw_keras.cli import networks
from aw_keras.cli.output import print_facts, print_table

EXAMPLES = """\
aw-keras summary AWResNet50
aw-keras summary model.keras --json
"""


def add_arguments(parser):
    networks.add_model(parser)


def run(options):
    model = networks.open_any(options.model)
    from aw_keras.applications.complexity import parameters
    from aw_keras.layers import AWConv2D

    return {
        "name": model.name,
        "inputs": _shapes(model, "inputs"),
        "outputs": _shapes(model, "outputs"),
        "parameters": model.count_params(),
        "trainable_parameters": parameters(model),
        "multiply_adds": _multiply_adds(model),
        "layers": sum(1 for _ in model._flatten_layers(include_self=False)),
        "aw_convolutions": [
            {
                "name": layer.name,
                "kernel": list(layer.kernel.shape),
                "reduction": layer.reduction,
                "attention_parameters": sum(
                    math.prod(weight.shape)
                    for weight in layer.weights
                    if weight.name.startswith("attention_")
                ),
            }
            for layer in model._flatten_layers()
            if isinstance(layer, AWConv2D)
        ],
    }


def _shapes(model, end):
    return [list(tensor.shape) for tensor in getattr(model, end, None) or []]


def _multiply_adds(model):
    """`None` where a layer's are not known, or depend on the image's size."""
    from aw_keras.applications.complexity import multiply_adds

    try:
        return multiply_adds(model)
    except (AttributeError, ValueError):
        return None


def show(summary):
    counts = {
        "parameters": "parameters",
        "trainable_parameters": "trainable parameters",
        "multiply_adds": "multiply-adds",
    }
    facts = {
        shown: f"{summary[name]:,}"
        for name, shown in counts.items()
        if summary[name] is not None
    }
    convolutions = summary["aw_convolutions"]
    print_facts(
        summary["name"],
        {
            "inputs": _listed(summary["inputs"]),
            "outputs": _listed(summary["outputs"]),
            **facts,
            "layers": summary["layers"],
            "AW-convolutions": len(convolutions),
        },
    )
    if convolutions:
        print_table(
            "AW-convolutions",
            ("layer", ">kernel", ">reduction", ">parameters of attention"),
            [
                (
                    layer["name"],
                    "x".join(map(str, layer["kernel"])),
                    layer["reduction"],
                    f"{layer['attention_parameters']:,}",
                )
                for layer in convolutions
            ],
        )


def _listed(shapes):
    return ", ".join(
        f"({', '.join('any' if n is None else str(n) for n in shape)})"
        for shape in shapes
    )
