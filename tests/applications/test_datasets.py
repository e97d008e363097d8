"""A data set is one entry: whatever knows of data sets has it from there."""

import dataclasses

import numpy as np
import pytest

from aw_keras.applications import datasets, get_entry, list_models, registry
from aw_keras.applications.datasets import CIFAR10, DATASETS, IMAGENET
from aw_keras.preprocessing import Preprocessing
from aw_keras.weights import manifest
from tests.weights.test_download import released_file


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_entries_are_consistent(dataset):
    if dataset.class_names is not None:
        assert len({*dataset.class_names}) == dataset.classes
        assert datasets.class_names(dataset.name) == dataset.class_names
    assert {*dataset.published} <= {*list_models()}
    for name in (dataset.name, *dataset.aliases):
        assert datasets.find(name) is dataset
        assert datasets.label(name) == dataset.label
    assert dataset.preprocessing.size is not None


def test_names_are_taken_once():
    names = [
        name
        for dataset in DATASETS.values()
        for name in (dataset.name, *dataset.aliases, *dataset.forms)
    ]
    assert len({*names}) == len(names)


def test_names_of_imagenet_are_those_of_keras(monkeypatch):
    def decode(preds, top):
        best = np.argmax(preds, axis=-1)
        return [[(f"n{i}", f"class {i}", 1.0)] for i in best]

    monkeypatch.setattr(datasets, "decode_imagenet", decode)
    names = datasets.class_names("imagenet")
    assert len(names) == 1000 and names[7] == "class 7"


def test_released_weights_say_what_images_go_through(monkeypatch):
    own = Preprocessing(size=40, crop=0.95, interpolation="bicubic")
    files = (
        released_file(
            name="one.weights.h5",
            architecture="ResNet20",
            dataset="pets",
            preprocessing=own,
        ),
        released_file(
            name="two.weights.h5", architecture="ResNet20", dataset="cifar10"
        ),
    )
    monkeypatch.setattr(manifest, "released", lambda: files)
    entry = dataclasses.replace(
        get_entry("ResNet20"), weights=("pets", "cifar10")
    )
    monkeypatch.setitem(registry._entries, "resnet20", entry)
    assert get_entry("ResNet20").preprocessing_of("pets") == own
    known = get_entry("ResNet20").preprocessing_of("cifar10")
    assert known == CIFAR10.preprocessing
    imagenet = get_entry("ResNet50").preprocessing_of("imagenet")
    assert imagenet == IMAGENET.preprocessing
    with pytest.raises(ValueError, match="Received: weights=cifar100"):
        entry.preprocessing_of("cifar100")


def test_every_released_file_says_it():
    for file in manifest.read():
        known = get_entry(file.architecture).preprocessing_of(file.dataset)
        assert file.preprocessing == known
