"""Annotations that reach for other files than the images of their set."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import io
import os
import threading

import PIL.Image
import pytest

from aw_keras.detection import annotations
from aw_keras.detection.annotations import read_coco, read_voc
from aw_keras.detection.prepare import prepare
from tests.detection import pictures

SECRET = "secret.jpg"


@pytest.fixture
def folder(tmp_path):
    """An empty folder beside an image that is not of it."""
    (tmp_path / SECRET).write_bytes(pictures.jpeg(1))
    (tmp_path / "secret.xml").write_text(pictures.xml())
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def _traversal(folder, name):
    return f"../../{'../' * 9}{folder.parent / SECRET}"


def _neighbour(folder, name):
    return f"../{SECRET}"


def _absolute(folder, name):
    return str(folder.parent / SECRET)


def _link(folder, name):
    (folder / name).symlink_to(folder.parent / SECRET)
    return name


def _link_of_a_folder(folder, name):
    (folder / "more").symlink_to(folder.parent)
    return f"more/{SECRET}"


def _pipe(folder, name):
    os.mkfifo(folder / name)
    return name


def _folder(folder, name):
    (folder / name).mkdir()
    return name


def _device(folder, name):
    (folder / name).symlink_to("/dev/zero")
    return name


def _absolute_device(folder, name):
    return "/dev/zero"


def _large(folder, name):
    with open(folder / name, "wb") as file:
        file.truncate(2**40)  # of which the disk has nothing
    return name


PLACES = (
    *(_traversal, _neighbour, _absolute, _link, _link_of_a_folder),
    *(_pipe, _folder, _device, _absolute_device, _large),
)


def prepared(dataset, out):
    """The report, and the faults, of what is prepared; in a minute at most."""
    result = []
    thread = threading.Thread(
        target=lambda: result.append(
            prepare(dataset, out, skip_bad=True, log=str)
        ),
        daemon=True,
    )
    thread.start()
    thread.join(60)
    assert result
    return result[0], [str(fault) for fault in result[0].faults]


@pytest.mark.parametrize("place", PLACES, ids=lambda f: f.__name__)
def test_images_of_a_json_elsewhere(place, folder):
    content = pictures.coco(2)
    content["images"][0]["file_name"] = place(folder, "other.jpg")
    path = pictures.write_coco(folder, content)
    report, faults = prepared(read_coco(path, folder), folder / "out")
    (fault,) = faults
    assert report.images == 1 and "cannot be read: " in fault
    for reason in ("leads out of", "not a regular file", "bytes, more than"):
        if reason in fault:
            return
    assert place is _folder and "Is a directory" in fault


@pytest.mark.parametrize("kind", ["JPEGImages", "Annotations"])
@pytest.mark.parametrize("place", PLACES, ids=lambda f: f.__name__)
def test_files_of_a_folder_elsewhere(place, kind, folder):
    pictures.write_voc(folder / "voc", 2)
    suffix = {"JPEGImages": ".jpg", "Annotations": ".xml"}[kind]
    name = place(folder / "voc" / kind, f"other{suffix}")
    with open(folder / "voc/ImageSets/Main/train.txt", "a") as file:
        file.write("\n" + name.removesuffix(".jpg").removesuffix(".xml"))
    dataset = read_voc(folder / "voc", "train", pictures.CLASSES)
    report, faults = prepared(dataset, folder / "out")
    assert report.images == 2 and len(faults) == 1


@pytest.mark.parametrize("place", [_pipe, _device, _large])
def test_a_split_that_is_none(place, folder):
    pictures.write_voc(folder / "voc", 2)
    splits = folder / "voc/ImageSets/Main"
    (splits / "train.txt").unlink()
    place(splits, "train.txt")
    with pytest.raises(ValueError, match="Received: .*train.txt"):
        read_voc(folder / "voc", "train", pictures.CLASSES)


def test_folders_may_be_links_themselves(folder):
    pictures.write_voc(folder / "voc", 2)
    images = folder / "voc/JPEGImages"
    images.rename(folder / "elsewhere")
    images.symlink_to(folder / "elsewhere")
    (folder / "linked").symlink_to(folder / "voc")
    dataset = read_voc(folder / "linked", "train", pictures.CLASSES)
    report, faults = prepared(dataset, folder / "out")
    assert report.images == 2 and not faults


def test_an_image_with_too_many_pixels(folder, monkeypatch):
    """Its header tells, and nothing decodes it."""
    pictures.write_voc(folder / "voc", 2)
    file = io.BytesIO()
    PIL.Image.new("L", (3000, 3000)).save(file, "JPEG")
    (folder / "voc/JPEGImages/image0.jpg").write_bytes(file.getvalue())
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 2999 * 3000)
    decode = annotations.tf.io.decode_jpeg
    sizes = []

    def decoded(content, **arguments):
        sizes.append(len(content))
        return decode(content, **arguments)

    monkeypatch.setattr(annotations.tf.io, "decode_jpeg", decoded)
    dataset = read_voc(folder / "voc", "train", pictures.CLASSES)
    report, faults = prepared(dataset, folder / "out")
    assert report.images == 1 and "JPEG: Image size" in faults[0]
    assert len(sizes) == 1


@pytest.mark.parametrize("area", [-1, -1e-9, float("-inf")])
def test_a_negative_area(area, folder):
    content = pictures.coco(2)
    content["annotations"][0]["area"] = area
    path = pictures.write_coco(folder, content)
    report, faults = prepared(read_coco(path, folder), folder / "out")
    assert (report.images, report.boxes) == (2, 3) and len(faults) == 1
