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
aw-keras list 50 --pretrained 'timm/*'
"""


def add_arguments(parser):
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*")
    parser.add_argument(
        "--pretrained",
        metavar="WEIGHTS",
        nargs="?",
        const=True,
        help="only those that have weights to download, or weights of such "
        "names: a pattern, of those that others have published too",
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
    if options.pretrained is None:
        return found
    if options.pretrained is True:
        return [network for network in found if network["weights"]]
    return _with_weights(found, options.pretrained)


def _with_weights(networks, pattern):
    """Those that have weights of such names, and of their weights these."""
    if not any(_names(network, pattern) for network in catalogue.networks()):
        raise ValueError(
            "Expected --pretrained to match names of weights, such as cifar10 "
            f"or 'timm/*'. Received: --pretrained {pattern}"
        )
    return [
        network | {"weights": names, "results": _results(network, names)}
        for network in networks
        if (names := _names(network, pattern))
    ]


def _names(network, pattern):
    names = [*network["weights"], *network["published"]]
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def _results(network, names):
    known = network["results"] | network["published"]
    return {name: known[name] for name in names if name in known}


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
