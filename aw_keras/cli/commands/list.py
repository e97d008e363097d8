"""List the networks.

PATTERN is part of a name, or a shell-style pattern of whole names, in any
case.
"""

from aw_keras.applications import get_entry, list_models
from aw_keras.cli.output import print_table

EXAMPLES = """\
aw-keras list
aw-keras list 'awresnet*'
aw-keras list 50 --pretrained --json
"""


def add_arguments(parser):
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*")
    parser.add_argument(
        "--pretrained",
        action="store_true",
        help="only those that have weights to download",
    )


def run(options):
    pattern = options.pattern
    if not set("*?[") & set(pattern):
        pattern = f"*{pattern}*"
    if not list_models(pattern):
        raise ValueError(
            "Expected PATTERN to match the name of a network (see aw-keras "
            f"list). Received: PATTERN={options.pattern}"
        )
    names = list_models(pattern, pretrained=options.pretrained)
    return [_described(get_entry(name)) for name in names]


def _described(entry):
    return {
        "name": entry.name,
        "family": entry.family,
        "input_shape": list(entry.input_shape),
        "classes": entry.classes,
        "published_parameters": entry.published_parameters,
        "weights": list(entry.weights),
        "results": dict(entry.results),
        "papers": list(entry.papers),
        "licence": entry.licence,
    }


def show(networks):
    print_table(
        f"{len(networks)} networks",
        ("name", ">image", ">classes", ">parameters (paper)", "weights, top-1"),
        [
            (
                network["name"],
                "x".join(map(str, network["input_shape"])),
                network["classes"],
                network["published_parameters"],
                "\n".join(_accuracies(network)),
            )
            for network in networks
        ],
    )


def _accuracies(network):
    for weights in network["weights"]:
        accuracy = network["results"].get(weights)
        yield weights if accuracy is None else f"{weights} {accuracy:.2%}"
