"""A data set is one entry: tables, training and its data have it from there."""

import dataclasses
import types

import pytest

from aw_keras.applications.datasets import DATASETS, Dataset
from aw_keras.preprocessing import Preprocessing
from zoo.data.preprocessing import preprocessing_for
from zoo.publishing import model_card, table
from zoo.recipe import Recipe

PETS = Dataset(
    name="pets",
    label="Oxford-IIIT Pets",
    classes=2,
    preprocessing=Preprocessing(size=48, crop=0.9),
    class_names=("cat", "dog"),
    aliases=("oxford_iiit_pet",),
    test_split="holdout",
)


@pytest.fixture(autouse=True)
def one_entry_more(monkeypatch):
    monkeypatch.setitem(DATASETS, PETS.name, PETS)


def test_tables_and_cards():
    assert table.label("../data/oxford_iiit_pet.tar.xz") == PETS.label
    file = types.SimpleNamespace(dataset="pets", architecture="ResNet20")
    assert model_card._classes(file) == 2


def test_the_normalisation_and_the_crop_of_a_recipe():
    recipe = Recipe("ResNet20", "pets", 1)
    images = types.SimpleNamespace(encoded=False)
    assert preprocessing_for(recipe, images) == PETS.preprocessing
    large = dataclasses.replace(recipe, image_size=64)
    assert preprocessing_for(large, images) == dataclasses.replace(
        PETS.preprocessing, size=(64, 64), crop=0.875
    )


def test_the_split_to_test_on():
    tfds = pytest.importorskip(
        "zoo.data.tfds", reason="The extra `tfds` is not installed."
    )
    info = types.SimpleNamespace(
        name="oxford_iiit_pet", splits=("train", "test", "holdout")
    )
    assert tfds._test_split(info) == "holdout"
