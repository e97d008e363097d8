"""The networks and data sets that there are, from a file.

The registry itself needs Keras.

    python -m aw_keras.cli.catalogue

writes the file again, after a change to the networks, the data sets or the
released weights.
"""

import functools
import json
import pathlib

PATH = pathlib.Path(__file__).with_name("catalogue.json")


def networks():
    """What `described` says of every network, in the registry's order."""
    return _read()["networks"]


def datasets():
    """Names of the data sets whose preprocessing is known."""
    return _read()["datasets"]


@functools.cache
def _read():
    return json.loads(PATH.read_text("utf-8"))


def find(name):
    """That of one network, its name in any case; `None` if there is none."""
    names = {network["name"].lower(): network for network in networks()}
    return names.get(name.lower())


def owner(weights):
    """The plain network of weights that others have published, or `None`."""
    return next((n for n in networks() if weights in n["published"]), None)


def described(entry):
    """An entry of the registry as a dict that JSON can hold.

    `published` is the accuracy of weights of others by their names.
    """
    from aw_keras.weights import published

    return {
        "name": entry.name,
        "family": entry.family,
        "input_shape": list(entry.input_shape),
        "classes": entry.classes,
        "published_parameters": entry.published_parameters,
        "weights": list(entry.weights),
        "results": dict(entry.results),
        "published": {
            file.name: round(file.top1 / 100, 5)
            for file in published(architecture=entry.name)
        },
        "papers": list(entry.papers),
        "licence": entry.licence,
    }


def text():
    """What the file should hold: a network a line."""
    from aw_keras.applications import get_entry, list_models
    from aw_keras.applications.datasets import DATASETS

    lines = [json.dumps(described(get_entry(name))) for name in list_models()]
    return (
        f'{{"datasets": {json.dumps([*DATASETS])},\n"networks": [\n'
        + ",\n".join(lines)
        + "\n]}\n"
    )


if __name__ == "__main__":
    PATH.write_text(text(), "utf-8")
