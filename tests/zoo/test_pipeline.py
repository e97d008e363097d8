"""Batches: their order, their augmentation, and images of any size."""

import io
import itertools

import keras
import numpy as np
import PIL.Image
import pytest

from aw_keras.preprocessing import Preprocessing
from zoo.data import decoding, pipeline, sources
from zoo.data.augment import Augmentation, CropAndFlip
from zoo.data.dataset import Dataset
from zoo.recipe import Recipe


def colour_images(samples=20, size=8):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (samples, size, size, 3), "uint8")
    labels = np.arange(samples) % 2
    return Dataset(("a", "b"), images, labels, images, labels)


def recipe(**settings):
    settings = {"batch_size": 6, "seed": 3} | settings
    return Recipe("ResNet20", "pets", 1, **settings)


def batches(dataset, settings, count, first_step=0):
    stream = pipeline.training_batches(dataset, settings, first_step)
    return [
        tuple(map(np.asarray, batch))
        for batch in itertools.islice(iter(stream), count)
    ]


def assert_equal(found, expected):
    for batch, reference in zip(found, expected, strict=True):
        for part, other in zip(batch, reference, strict=True):
            np.testing.assert_array_equal(part, other)


EVERYTHING = {
    "crop_padding": 1,
    "flip": True,
    "rand_augment": 0.5,
    "mixup": 0.4,
    "cutmix": 1.0,
}
AUGMENTATIONS = [{}, {"crop_padding": 2, "flip": True}, EVERYTHING]
NAMES = ["none", "crop", "everything"]


def test_every_image_once():
    dataset = colour_images(20)
    found = batches(dataset, recipe(), 6)
    for epoch in (found[:3], found[3:]):
        images = np.concatenate([images for images, _ in epoch])
        distinct = {image.tobytes() for image in images}
        assert len(distinct) == 18
        assert distinct < {image.tobytes() for image in dataset.x_train}
    labels = {x.tobytes(): y for x, y in zip(dataset.x_train, dataset.y_train)}
    for images, probabilities in found:
        assert [labels[x.tobytes()] for x in images] == list(
            probabilities.argmax(-1)
        )


def test_one_batch_of_few_images():
    dataset = colour_images(5)
    assert pipeline.steps_per_epoch(dataset, recipe()) == 1
    ((images, labels),) = batches(dataset, recipe(), 1)
    assert images.shape == (5, 8, 8, 3)
    assert labels.shape == (5, 2)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=NAMES)
def test_seed_and_step_decide(augmentation):
    """On the device and by tf.data, from the beginning and after a resume."""
    dataset, settings = colour_images(), recipe(**augmentation)
    found = batches(dataset, settings, 5)
    assert_equal(batches(dataset, settings, 5), found)
    assert_equal(batches(dataset, settings, 2, first_step=3), found[3:])
    augment = Augmentation(settings, 2, dataset.x_train.mean((0, 1, 2)) // 1)
    order = pipeline.Order(20, 6, settings.seed)
    on_device = pipeline.OnDevice(dataset, augment, order, 1)
    again = [tuple(map(np.asarray, on_device[i])) for i in range(4)]
    for batch, reference in zip(again, found[1:], strict=True):
        for part, other in zip(batch, reference, strict=True):
            np.testing.assert_allclose(part, other, atol=1e-3)
    other = batches(dataset, recipe(seed=4, **augmentation), 5)
    assert not np.array_equal(other[0][0], found[0][0])


def test_no_two_steps_have_the_same_augmentation():
    images = colour_images(6).x_train
    augment = Augmentation(recipe(crop_padding=2, flip=True), 2)
    found = {
        np.asarray(augment(images, [0] * 6, step)[0]).tobytes()
        for step in range(20)
    }
    assert len(found) == 20


def test_mixing_keeps_probabilities():
    images, labels = batches(colour_images(), recipe(**EVERYTHING), 1)[0]
    assert images.dtype == labels.dtype == "float32"
    np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-5)
    assert 0 < labels.max(-1).min() < 1
    assert 0 <= images.min() and images.max() <= 255


def test_crop_and_flip_gives_windows_of_the_padded_image():
    images = colour_images(40, 5).x_train
    layer = CropAndFlip(2, True, background=[1, 2, 3])
    crops = np.asarray(layer(keras.ops.convert_to_tensor(images)))
    assert crops.dtype == np.uint8
    seen = set()
    for image, crop in zip(images, crops, strict=True):
        padded = np.empty((9, 9, 3), "uint8")
        padded[:] = [1, 2, 3]
        padded[2:7, 2:7] = image
        seen |= {
            (top, left, step)
            for top in range(5)
            for left in range(5)
            for step in (1, -1)
            if np.array_equal(
                padded[top : top + 5, left : left + 5][:, ::step], crop
            )
        }
    assert len(seen) >= 15
    assert {top for top, _, _ in seen} == set(range(5))
    assert {left for _, left, _ in seen} == set(range(5))
    assert {step for _, _, step in seen} == {1, -1}


def test_test_split_is_left_as_it_is():
    dataset = colour_images()
    images, labels = pipeline.test_batches(dataset, recipe(**EVERYTHING))
    assert images is dataset.x_test
    np.testing.assert_array_equal(labels.argmax(-1), dataset.y_test)


def encoded(image, kind="JPEG"):
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of JPEGs of different sizes: left halves dark, right bright."""
    folder = tmp_path_factory.mktemp("photographs")
    sizes = [(40, 30), (30, 50), (64, 33), (35, 35), (90, 31), (33, 70)]
    for split in ("train", "test"):
        for place, (width, height) in enumerate(sizes):
            path = folder / split / "ab"[place % 2] / f"{place}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((height, width, 3), 40, "uint8")
            pixels[:, width // 2 :] = 200
            path.write_bytes(encoded(PIL.Image.fromarray(pixels)))
    return folder


def test_images_of_any_size(photographs):
    dataset = sources.load(photographs, encoded=True)
    assert dataset.encoded
    settings = recipe(batch_size=3, image_size=16, flip=True)
    found = batches(dataset, settings, 3)
    assert found[0][0].shape == (3, 16, 16, 3)
    assert found[0][0].dtype == "uint8"
    assert_equal(batches(dataset, settings, 2, first_step=1), found[1:])
    labels = [list(labels.argmax(-1)) for _, labels in found[:2]]
    assert sorted(sum(labels, [])) == [0, 0, 0, 1, 1, 1]
    tests = pipeline.test_batches(dataset, settings)
    images = np.concatenate([images for images, _ in tests])
    assert images.shape == (6, 16, 16, 3)
    # The middle of each image is where dark meets bright.
    np.testing.assert_allclose(images[:, :, 0].mean(), 40, atol=4)
    np.testing.assert_allclose(images[:, :, -1].mean(), 200, atol=4)


def test_images_of_any_size_need_a_size(photographs):
    with pytest.raises(ValueError, match="set `image_size`.*Received.*jpg"):
        sources.load(photographs)


def test_random_crops_differ():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (50, 40, 3), "uint8")
    twelve = Preprocessing(size=12)
    crops = [
        decoding.random_crop(noise, twelve, (0, position))
        for position in (1, 2, 1)
    ]
    assert {(crop.shape, crop.dtype.name) for crop in crops} == {
        ((12, 12, 3), "uint8")
    }
    crops = [crop.tobytes() for crop in crops]
    assert crops[0] == crops[2] != crops[1]


def test_random_parts_have_the_area_and_the_proportions():
    boxes = [decoding.random_box(300, 400, (0, n)) for n in range(300)]
    sizes = [[len(range(400)[part]) for part in box] for box in boxes]
    areas = np.prod(sizes, axis=1) / (300 * 400)
    assert 0.07 < areas.min() < 0.12 and 0.8 < areas.max() <= 1
    ratios = np.array([columns / rows for rows, columns in sizes])
    assert 0.73 < ratios.min() < 0.77 and 1.3 < ratios.max() < 1.36
    assert len({(rows.start, columns.start) for rows, columns in boxes}) > 200
    # What is too long for them is not cut.
    rows, columns = decoding.random_box(10, 1000, (0, 0))
    assert (rows, columns) == (slice(10), slice(1000))
