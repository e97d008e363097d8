"""Data sets of TensorFlow Datasets, which it writes itself here."""

import io

import numpy as np
import pytest

from aw_keras.image_files import read_image

tfds = pytest.importorskip(
    "tensorflow_datasets", reason="The extra `tfds` is not installed."
)

from zoo import train as zoo_train  # noqa: E402
from zoo.data import imagenet, sources  # noqa: E402
from zoo.recipe import Recipe  # noqa: E402


class _Shapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    #: Keys of the features that are handed out as a pair.
    KEYS = ("image", "label")
    SIZES = ((6, 5),)
    SPLITS = {"train": 5, "test": 3}
    NAMES = ("disc", "ring")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=self.NAMES),
                    "note": tfds.features.Text(),
                }
            ),
            supervised_keys=self.KEYS,
        )

    def _split_generators(self, manager):
        return {s: self._generate_examples(n) for s, n in self.SPLITS.items()}

    def _generate_examples(self, count):
        for n in range(count):
            height, width = self.SIZES[n % len(self.SIZES)]
            image = np.full((height, width, 3), 10 * n, "uint8")
            yield n, {"image": image, "label": n % 2, "note": "none"}


class TinyShapes(_Shapes):
    """Images of one size."""


class TinyPhotos(_Shapes):
    """Images of several sizes, and no split that is called a test."""

    SIZES = ((6, 5), (9, 12))
    SPLITS = {"train": 5, "validation": 3}


class TinyImagenet(_Shapes):
    """Two of the classes of ImageNet."""

    SIZES = ((6, 5), (9, 12))
    SPLITS = {"train": 5, "validation": 3}
    NAMES = ("n00000007", "n00000003")


class TinyTexts(_Shapes):
    """No pairs of image and label."""

    KEYS = ("note", "label")


class TinyUnsplit(_Shapes):
    """Nothing to measure on."""

    SPLITS = {"train": 5}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where data sets are written and looked for."""
    builder = tfds.builder

    def here(name, **options):
        return builder(name, data_dir=tmp_path, **options)

    monkeypatch.setattr(tfds, "builder", here)


def test_arrays():
    dataset = sources.load("tiny_shapes")
    assert dataset.class_names == ("disc", "ring")
    assert dataset.x_train.shape == (5, 6, 5, 3)
    assert dataset.x_train.dtype == np.uint8
    # In whatever order they are read, an image keeps its label.
    np.testing.assert_array_equal(
        dataset.x_train[:, 0, 0, 0] // 10 % 2, dataset.y_train
    )
    assert sorted(dataset.y_test) == [0, 0, 1]


def test_encoded():
    dataset = sources.load("tiny_photos", encoded=True)
    assert dataset.encoded and len(dataset.x_test) == 3
    for read, label in zip(dataset.x_train, dataset.y_train):
        image = read_image(io.BytesIO(read()), "an image")
        assert image.shape in ((6, 5, 3), (9, 12, 3))
        assert image[0, 0, 0] // 10 % 2 == label


def test_what_is_refused():
    with pytest.raises(ValueError, match="images of one size.*tiny_photos"):
        sources.load("tiny_photos")
    with pytest.raises(ValueError, match="one label each.*tiny_texts"):
        sources.load("tiny_texts")
    with pytest.raises(ValueError, match="'validation'.*tiny_unsplit"):
        sources.load("tiny_unsplit")
    with pytest.raises(FileNotFoundError, match="source=no_such_data"):
        sources.load("no_such_data")


def test_a_recipe_by_name():
    recipe = Recipe.from_file(
        "zoo/recipes/cifar10.yaml", ["data=tiny_shapes", "limit=2"]
    )
    assert len(zoo_train.load_data(recipe).x_train) == 2


def test_validation_images_of_imagenet(monkeypatch):
    """Labels are the places of the names among those of all classes."""
    ids = [f"n{n:08}" for n in range(1000)]
    monkeypatch.setattr(imagenet, "_all_ids", lambda: ids)
    dataset = imagenet.load("tiny_imagenet")
    assert len(dataset.x_train) == 0
    found = {
        int(read_image(io.BytesIO(read()))[0, 0, 0]) // 10: label
        for read, label in zip(dataset.x_test, dataset.y_test)
    }
    assert found == {0: 7, 1: 3, 2: 7}
