"""What files of weights were released, and how to tell that one is whole.

`manifest.json` lists them, the oldest first. It is part of the package, so
that what a version of it may load is decided by that version alone: a file is
loaded under a released name only if it has the released hash.

`peers.json` lists files that others have published, for PyTorch, of networks
that are here too.
"""

import dataclasses
import fnmatch
import functools
import hashlib
import json
import os
import pathlib
import posixpath

from aw_keras.preprocessing import Preprocessing

PATH = pathlib.Path(__file__).with_name("manifest.json")
PEERS = PATH.with_name("peers.json")

#: Networks with AW-convolution begin as the plain ones.
_WARM_STARTED = "AW"


@dataclasses.dataclass(frozen=True)
class Verified:
    """What the content of a file was compared with.

    Attributes:
        sha256: Its hash, 64 hexadecimal digits.
        against: `"pinned"`: the hash that this version of the package knows;
            `"prefix"`: the first eight digits, which its name states; `"hub"`:
            the hash that the Hugging Face hub stated before it gave the file;
            or `"seen"`: no more than the hash it had when it was first used
            here, which the last three are compared with as well.
    """

    sha256: str
    against: str

    def __str__(self):
        return f"sha256 {self.sha256[:8]}... ({self.against})"


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
        preprocessing: What images go through before the network, a
            `Preprocessing`; `None` for that of the network.
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
    preprocessing: Preprocessing | None = None

    @property
    def name(self):
        """Name of the file, without a folder."""
        return posixpath.basename(self.url)


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """One file of weights by others, for PyTorch, and what is known about it.

    Attributes:
        name: What `weights=` takes, such as `"timm/resnet50.a1_in1k"`.
        architecture: Name of the plain network, as `list_models()` has it.
        dataset: Name of the data set that it was trained on.
        hub: Name of its repository at huggingface.co, or `None`.
        url: Address of the file in PyTorch's format, or `None`.
        sha256: Hash of the content at `url`, or `None` if it is not known.
        sha256_prefix: First eight digits of that hash, as the file's name
            states them, or `None`.
        verification: What a download is compared with, see `Verified`: it is
            the file of the hub if there is one, else that at `url`.
        licence: SPDX identifier of the licence of the file.
        top1: Published accuracy, a percentage, with that preprocessing.
        preprocessing: What images go through before the network, a
            `Preprocessing`.
    """

    name: str
    architecture: str
    dataset: str
    hub: str | None
    url: str | None
    sha256: str | None
    sha256_prefix: str | None
    verification: str
    licence: str
    top1: float
    preprocessing: Preprocessing


def read(path=PATH):
    """The files in a manifest, a list of `ReleasedFile`."""
    return [
        ReleasedFile(**entry | {"seeds": tuple(entry["seeds"])})
        for entry in _entries(path)
    ]


def _entries(path):
    """The entries of a list of files, as dicts."""
    for entry in json.loads(pathlib.Path(path).read_text("utf-8")):
        if fields := entry.get("preprocessing"):
            entry["preprocessing"] = Preprocessing(**fields)
        yield entry


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


@functools.cache
def _peers():
    return tuple(PublishedFile(**entry) for entry in _entries(PEERS))


def published(pattern="*", architecture=None):
    """The files of others that this version of the package knows.

    Example:

    >>> from aw_keras.weights import published
    >>> best = max(published("timm/resnet50*"), key=lambda file: file.top1)
    >>> best.name, best.top1, best.licence
    ('timm/resnet50.tv2_in1k', 80.846, 'BSD-3-Clause')

    Args:
        pattern: Shell-style pattern of names.
        architecture: Name of a network whose argument `weights` takes them;
            `None` for all.

    Returns:
        A tuple of `PublishedFile`.
    """
    return tuple(
        file
        for file in _peers()
        if fnmatch.fnmatchcase(file.name, pattern)
        and architecture
        in (None, file.architecture, _WARM_STARTED + file.architecture)
    )


def named(name, architecture):
    """The file of a name, if it is of a network; else `None`.

    Args:
        name: What a user gave as `weights`.
        architecture: Name of the network.

    Returns:
        The newest `ReleasedFile` of a data set, or a `PublishedFile`.
    """
    if not isinstance(name, str):
        return None
    others = {file.name: file for file in published(architecture=architecture)}
    return (others | newest(architecture)).get(name)


def sha256_of(path):
    """Hash of a file's content, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begins(path, digits):
    """Whether there is a file at a path whose hash begins with these digits."""
    return os.path.isfile(path) and sha256_of(path).startswith(digits)


def is_whole(path, file):
    """Whether there is a file at a path that has a released file's hash."""
    return begins(path, file.sha256)


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
