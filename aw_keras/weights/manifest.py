"""What files of weights were released, and how to tell that one is whole.

`manifest.json` lists them, the oldest first. It is part of the package, so
that what a version of it may load is decided by that version alone: a file is
loaded under a released name only if it has the released hash.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import posixpath
from collections.abc import Mapping
from typing import Any

PATH = pathlib.Path(__file__).with_name("manifest.json")


@dataclasses.dataclass(frozen=True)
class ReleasedFile:
    """One file of weights, and how it came to be.

    Accuracies are percentages of the test split.

    Attributes:
        architecture: Name of the network, as `list_models()` has it.
        dataset: Name of the data set, which `weights=` takes.
        url: Address of the file, relative to the one of all files.
        sha256: Hash of the content, 64 hexadecimal digits.
        bytes: Size of the file.
        parameters: Number of trainable parameters.
        recipe: Name of the recipe of the training.
        seed: Seed of the run that the file is from.
        top1: Accuracy of this file.
        seeds: Seeds of all runs of this network with this recipe.
        top1_mean: Mean accuracy of those runs.
        top1_deviation: Standard deviation of their accuracies, `None` if
            there is one run only.
        data: The form of the data set that was trained on and tested with.
        licence: SPDX identifier of the licence of the file.
        backend: Keras backend of the training.
        hardware: What it was trained on.
        preprocessing: What images go through before the network, a dict of
            the fields of `aw_keras.applications.preprocessing.Preprocessing`;
            `None` for that of the network.
    """

    architecture: str
    dataset: str
    url: str
    sha256: str
    bytes: int
    parameters: int
    recipe: str
    seed: int
    top1: float
    seeds: tuple[int, ...]
    top1_mean: float
    top1_deviation: float | None
    data: str
    licence: str
    backend: str
    hardware: str
    preprocessing: Mapping[str, Any] | None = None

    @property
    def name(self):
        """Name of the file, without a folder."""
        return posixpath.basename(self.url)


def read(path=PATH):
    """The files in a manifest, a list of `ReleasedFile`."""
    return [
        ReleasedFile(**entry | {"seeds": tuple(entry["seeds"])})
        for entry in json.loads(pathlib.Path(path).read_text("utf-8"))
    ]


@functools.cache
def released():
    """The files that this version of the package knows.

    Returns:
        A tuple of `ReleasedFile`, the oldest first.
    """
    return tuple(read())


def newest(architecture):
    """The newest file for each data set that a network was trained on.

    Args:
        architecture: Name of the network.

    Returns:
        A dict from the name of a data set to a `ReleasedFile`.
    """
    return {
        file.dataset: file
        for file in released()
        if file.architecture == architecture
    }


def sha256_of(path):
    """Hash of a file's content, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path, file):
    """Whether there is a file at a path that has a released file's hash."""
    return os.path.isfile(path) and sha256_of(path) == file.sha256


def check(path, file):
    """Refuses a file that is not the released one.

    Args:
        path: Path of a file.
        file: The `ReleasedFile` that it should be.

    Raises:
        ValueError: If it has another hash.
    """
    found = sha256_of(path)
    if found != file.sha256:
        raise ValueError(
            f"Expected the released file with the sha256 {file.sha256}. "
            f"Received: path={path} with the sha256 {found}"
        )


def check_name(path):
    """Refuses a file that has a released name but not the released hash."""
    for file in released():
        if file.name == os.path.basename(path) and os.path.isfile(path):
            check(path, file)
