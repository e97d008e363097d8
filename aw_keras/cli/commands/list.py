"""List the networks.

PATTERN is part of a name, or a shell-style pattern of whole names, in any
case.
"""

import fnmatch

from aw_keras.cli import catalogue
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
    found = [
        network
        for network in catalogue.networks()
        if fnmatch.fnmatchcase(network["name"].lower(), pattern.lower())
    ]
    if not found:
        raise ValueError(
            "Expected PATTERN to match the name of a network (see aw-keras "
            f"list). Received: PATTERN={options.pattern}"
        )
    return [n for n in found if n["weights"] or not options.pretrained]


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
