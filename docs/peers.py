"""The table of the files that others have published."""

from aw_keras.applications.datasets import DATASETS
from aw_keras.weights import published
from zoo.publishing import table

_HASHES = {
    "pinned": "pinned",
    "prefix": "first eight digits",
    "hub": "stated by the hub",
}


def pretrained():
    """All files, a table for each data set, the best of a network first."""
    known = {file.dataset for file in published()}
    return "\n\n".join(
        f"### {dataset.label}\n\n{_files(dataset.name)}"
        for dataset in DATASETS.values()
        if dataset.name in known
    )


def _files(dataset):
    files = [file for file in published() if file.dataset == dataset]
    networks = list(dict.fromkeys(file.architecture for file in files))
    ordered = sorted(
        files, key=lambda file: (networks.index(file.architecture), -file.top1)
    )
    header = (
        *("weights", "network", "top-1, %:", "licence", "size:", "crop:"),
        *("interpolation", "mean", "deviation", "sha256"),
    )
    return table.markdown(header, map(_line, ordered))


def _line(file):
    images = file.preprocessing
    return (
        *(f"`{file.name}`", file.architecture, f"{file.top1:.2f}"),
        *(file.licence, "x".join(map(str, images.size)), f"{images.crop:g}"),
        images.interpolation,
        *map(_numbers, (images.mean, images.deviation)),
        _HASHES[file.verification],
    )


def _numbers(channels):
    """Those of the channels, or the one that all have."""
    return ", ".join(f"{number:g}" for number in dict.fromkeys(channels))
