"""Resizing and crops: those of Pillow, torchvision and timm, everywhere."""

import dataclasses
import json
import math

import keras
import numpy as np
import PIL.Image
import pytest

from aw_keras.preprocessing import Preprocess, Preprocessing
from tests.photos import photos

RESAMPLING = {
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
}

#: Images that are much larger, smaller, longer than what becomes of them.
IMAGES = {
    **photos(),
    "small": photos()["landscape"][200:217, 300:323],
    "strip": photos()["landscape"][:, 300:307],
    "same": photos()["landscape"][100:132, 300:332],
}


#: Wider and less high at once. Versions of Pillow differ in which comes first,
#: and so in what is cut off where a cubic overshoots.
_STRETCHED = "bicubic", "squash", "strip"


def timm(image, preprocessing):
    """What `timm` and torchvision do for an evaluation, by Pillow."""
    height, width = preprocessing.size
    scale = [math.floor(n / preprocessing.crop) for n in (height, width)]
    picture = PIL.Image.fromarray(image)
    if preprocessing.crop_mode == "squash":
        resized = scale[1], scale[0]
    else:
        short = min(picture.size)
        resized = [int(scale[0] * extent / short) for extent in picture.size]
    picture = picture.resize(resized, RESAMPLING[preprocessing.interpolation])
    left = round((resized[0] - width) / 2)
    top = round((resized[1] - height) / 2)
    return np.asarray(picture.crop((left, top, left + width, top + height)))


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("crop", [1.0, 0.95, 0.875])
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
def test_is_that_of_timm_by_pillow(interpolation, crop, crop_mode):
    """Pillow rounds to bytes after each of two passes: one grey level."""
    for size in (32, 33, 96):
        preprocessing = Preprocessing(
            size=size,
            crop=crop,
            crop_mode=crop_mode,
            interpolation=interpolation,
        )
        for name, image in IMAGES.items():
            if (interpolation, crop_mode, name) == _STRETCHED:
                continue
            found = preprocessing.pixels(image).astype(int)
            error = np.abs(found - timm(image, preprocessing))
            assert error.max() <= 1, (size, name)
            assert error.mean() < 0.3, (size, name)


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
def test_arrays_tensors_and_layouts_are_the_same(interpolation, crop_mode):
    preprocessing = Preprocessing(
        size=(24, 32),
        crop=0.9,
        crop_mode=crop_mode,
        interpolation=interpolation,
        channels="BGR",
        mean=(1, 2, 3),
        deviation=(4, 5, 6),
    )
    image = photos()["portrait"]
    expected = preprocessing(image, "channels_last")
    assert expected.shape == (24, 32, 3) and expected.dtype == "float32"
    batch = np.stack([image, image[::-1]])
    for layout, images in (
        ("channels_last", batch),
        ("channels_first", batch.transpose(0, 3, 1, 2)),
    ):
        for given in (images, keras.ops.convert_to_tensor(images)):
            found = preprocessing(given, layout)
            assert isinstance(found, np.ndarray) is (given is images)
            found = keras.ops.convert_to_numpy(found)
            if layout == "channels_first":
                found = found.transpose(0, 2, 3, 1)
            np.testing.assert_allclose(found[0], expected, atol=1e-3)


def test_nothing_is_done_to_what_has_the_size():
    image = IMAGES["same"]
    done = Preprocessing(size=32).resize(image)
    np.testing.assert_array_equal(done, image)
    np.testing.assert_array_equal(Preprocessing().resize(image), image)
    smaller = Preprocessing(size=32, crop=0.8).resize(image)
    assert np.abs(smaller - image).max() > 10


@pytest.mark.parametrize("shape", [(None, None, 3), (427, 640, 3)])
def test_in_a_functional_model(shape, tmp_path):
    preprocessing = Preprocessing(
        size=32, crop=0.9, mean=(120,) * 3, deviation=(60,) * 3
    )
    image = keras.Input(shape, dtype="uint8")
    output = preprocessing(image, "channels_last")
    assert output.shape == (None, 32, 32, 3) and output.dtype == "float32"
    model = keras.Model(image, output)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    batch = photos()["landscape"][None]
    expected = preprocessing(batch, "channels_last")
    for each in (model, loaded):
        found = each.predict(batch, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    (layer,) = (x for x in loaded.layers if isinstance(x, Preprocess))
    assert layer.preprocessing == preprocessing


def test_half_precision_does_not_reach_it():
    """It would not tell 256 levels apart."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        image = keras.Input((None, None, 3))
        model = keras.Model(image, Preprocessing(size=32)(image))
    finally:
        keras.config.set_dtype_policy(policy)
    photo = photos()["square"][None].astype("float32")
    expected = Preprocessing(size=32).resize(photo)
    np.testing.assert_allclose(
        model.predict(photo, verbose=0), expected, atol=1e-3
    )


def test_channels_first_in_a_functional_model():
    preprocessing = Preprocessing(size=16)
    image = keras.Input((3, 20, None))
    output = preprocessing(image, "channels_first")
    assert output.shape == (None, 3, 16, 16)


def test_grey():
    grey = Preprocessing(size=16, channels="L", mean=(100,), deviation=(50,))
    image = photos()["square"]
    found = grey(image, "channels_last")
    assert found.shape == (16, 16, 1)
    weights = np.array([0.299, 0.587, 0.114])
    colour = Preprocessing(size=16).resize(image, "channels_last")
    expected = (colour @ weights - 100) / 50
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-4)
    first = grey(image.transpose(2, 0, 1), "channels_first")
    np.testing.assert_allclose(first[0], found[..., 0], atol=1e-4)
    already = grey(image[..., :1], "channels_last")
    expected = (colour[..., 0] - 100) / 50
    np.testing.assert_allclose(already[..., 0], expected, atol=1e-4)


def model(*shape):
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Identity()(image))


def test_for_a_model():
    preprocessing = Preprocessing(
        size=224, crop=0.875, mean=(1, 1, 1), deviation=(2, 2, 2)
    )
    own = preprocessing.for_model(model(24, 32, 3))
    assert own == dataclasses.replace(preprocessing, size=(24, 32))
    assert preprocessing.for_model(model(3, 24, 32)) == own
    assert preprocessing.for_model(model(None, None, 3)).size is None
    grey = preprocessing.for_model(model(8, 8, 1))
    assert (grey.channels, grey.mean, grey.deviation) == ("L", (1,), (2,))
    colourful = dataclasses.replace(preprocessing, mean=(1, 2, 3))
    with pytest.raises(ValueError, match="of 3 channels.*of 1"):
        colourful.for_model(model(8, 8, 1))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        preprocessing.for_model(model(8, 8, 5))
    with pytest.raises(ValueError, match="both height and width"):
        preprocessing.for_model(model(None, 8, 3))


def test_inputs_of_a_model():
    preprocessing = Preprocessing(size=1, deviation=(255,) * 3)
    batch = photos()["landscape"][None]
    last = preprocessing.inputs(model(24, 32, 3), batch)
    first = preprocessing.inputs(model(3, 24, 32), batch)
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)
    any_size = preprocessing.inputs(model(None, None, 3), batch)
    np.testing.assert_allclose(any_size, batch / 255, rtol=1e-6)


def test_what_is_done_before_the_crop_changes_nothing():
    preprocessing = Preprocessing(size=56, crop=0.875)
    image = photos()["landscape"]
    before = preprocessing.before_crop()
    assert before.size == (64, 64)
    found = preprocessing.resize(before.pixels(image))
    error = np.abs(found - preprocessing.resize(image))
    assert error.max() <= 0.51


def test_json():
    preprocessing = Preprocessing(
        size=48,
        crop=0.95,
        crop_mode="squash",
        interpolation="bicubic",
        channels="BGR",
        mean=(103.939, 116.779, 123.68),
        deviation=[1, 2, 3],
    )
    text = json.dumps(dataclasses.asdict(preprocessing))
    again = Preprocessing(**json.loads(text))
    assert again == preprocessing and hash(again) == hash(preprocessing)
    assert again.size == (48, 48)


@pytest.mark.parametrize(
    "field, value",
    [
        ("size", 0),
        ("size", (3, 4, 5)),
        ("crop", 0),
        ("crop", 1.01),
        ("crop_mode", "border"),
        ("interpolation", "nearest"),
        ("channels", "RGBA"),
        ("channels", "L"),
        ("mean", (1.0,)),
        ("deviation", (1.0, 0.0, 1.0)),
    ],
)
def test_refused(field, value):
    with pytest.raises(ValueError, match="Expected.*Received: "):
        Preprocessing(**{field: value})
