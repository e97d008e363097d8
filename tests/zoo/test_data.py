"""Loading of images: the digits, folders, archives, and what is refused."""

import io
import os
import tarfile

import numpy as np
import PIL.Image
import pytest

from zoo.data.dataset import Dataset, hold_out, hold_out_a_fifth, take
from zoo.data.sources import load

FILES = {
    "train/cat/0.png": 10,
    "train/cat/1.PNG": 20,
    "train/dog/0.png": 30,
    "test/dog/0.png": 40,
    "test/cat/0.png": 50,
}
IGNORED = {
    "README.txt": b"not an image",
    "train/labels.csv": b"not an image",
    "train/cat/notes.txt": b"not an image",
    "train/cat/._0.png": b"what macOS adds to archives",
    "validation/cat/0.png": b"another split",
}


def image(level, size=(6, 4), mode="RGB"):
    """A PNG of one grey level, as bytes."""
    buffer = io.BytesIO()
    PIL.Image.new("L", size, level).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def contents(**changes):
    files = {name: image(level) for name, level in FILES.items()}
    return files | IGNORED | changes


def write_folder(path, files):
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


def write_tar(path, files, mode="w:xz", prefix=""):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write(kind, path, files):
    if kind == "folder":
        return write_folder(path, files)
    return write_tar(path, files)


def check(dataset):
    assert dataset.class_names == ("cat", "dog")
    assert dataset.x_train.shape == (3, 4, 6, 3)
    assert dataset.x_train.dtype == dataset.x_test.dtype == np.uint8
    found = {
        split: sorted(
            (int(label), int(pixels.min()), int(pixels.max()))
            for label, pixels in zip(labels, images, strict=True)
        )
        for split, labels, images in (
            ("train", dataset.y_train, dataset.x_train),
            ("test", dataset.y_test, dataset.x_test),
        )
    }
    assert found == {
        "train": [(0, 10, 10), (0, 20, 20), (1, 30, 30)],
        "test": [(0, 50, 50), (1, 40, 40)],
    }


def test_digits():
    digits = load("digits")
    assert digits.class_names == tuple("0123456789")
    assert digits.x_train.shape == (1347, 8, 8, 1)
    assert digits.x_test.shape == (450, 8, 8, 1)
    assert digits.x_train.dtype == np.uint8
    assert digits.x_train.max() == 255
    assert min(np.bincount(digits.y_test)) >= 43
    again = load("digits")
    np.testing.assert_array_equal(again.x_test, digits.x_test)
    np.testing.assert_array_equal(again.y_train, digits.y_train)


def test_folder(tmp_path):
    check(load(write_folder(tmp_path, contents())))
    check(load(str(tmp_path)))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("prefix", ["", "./", "pets/"])
def test_tar_in_place(tmp_path, monkeypatch, mode, prefix):
    path = write_tar(tmp_path / "pets", contents(), mode, prefix)
    monkeypatch.chdir(tmp_path)
    check(load("pets"))
    assert os.listdir(tmp_path) == [path.name]


def test_tar_ignores_links(tmp_path):
    path = tmp_path / "pets.tar"
    write_tar(path, contents(), "w")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("train/cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    check(load(path))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_every_image_becomes_rgb(tmp_path, mode):
    files = contents(**{"train/dog/0.png": image(255, mode=mode)})
    dataset = load(write_folder(tmp_path, files))
    np.testing.assert_array_equal(dataset.x_train[2], np.full((4, 6, 3), 255))


@pytest.mark.parametrize("encoded", [False, True])
def test_16_bits_are_not_white(tmp_path, encoded):
    """In arrays, and in the crops of images of any size."""
    grey = np.full((4, 6), 300 * 100, "uint16")
    buffer = io.BytesIO()
    PIL.Image.fromarray(grey).save(buffer, "PNG")
    files = contents(**{"train/dog/0.png": buffer.getvalue()})
    dataset = load(write_folder(tmp_path, files), encoded)
    pixels = dataset.x_train[2]
    if encoded:
        decoding = pytest.importorskip(
            "zoo.data.decoding", reason="no TensorFlow"
        )
        pixels = decoding._decode(dataset.x_train, 2)
    np.testing.assert_array_equal(pixels, np.full((4, 6, 3), 117))


def test_take(tmp_path):
    digits = load("digits")
    some = take(digits, 40, seed=1)
    assert some.x_train.shape == (40, 8, 8, 1)
    assert some.y_test.shape == (40,)
    assert len(set(some.y_train)) > 5
    again = take(digits, 40, seed=1)
    np.testing.assert_array_equal(again.x_train, some.x_train)
    other = take(digits, 40, seed=2)
    assert not np.array_equal(other.x_train, some.x_train)
    everything = take(digits, 10**6, seed=1)
    assert len(everything.x_train) == len(digits.x_train)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="Received: source=.*nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_no_images(tmp_path, kind):
    path = write(kind, tmp_path / "data", IGNORED)
    with pytest.raises(ValueError, match="Expected images in train/<class>/"):
        load(path)


def of_training(prefix="train/"):
    """The files of the training split, behind another prefix."""
    return {
        name.replace("train/", prefix): content
        for name, content in contents().items()
        if name.startswith("train/")
    }


@pytest.mark.parametrize("prefix", ["train/", "", "pets/"])
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_no_test_split(tmp_path, kind, prefix):
    path = write(kind, tmp_path / "data", of_training(prefix))
    dataset = load(path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.x_test.shape == (0, 4, 6, 3)
    levels = [int(pixels.min()) for pixels in dataset.x_train]
    assert sorted(zip(dataset.y_train, levels)) == [(0, 10), (0, 20), (1, 30)]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_of_the_test_split(tmp_path, name):
    files = {
        path.replace("test/", f"{name}/"): content
        for path, content in contents().items()
        if not path.startswith("validation")
    }
    check(load(write_folder(tmp_path, files)))


def test_a_fifth_of_every_class_is_held_out():
    labels = np.repeat([0, 1, 2], [10, 6, 1])
    images = np.arange(17, dtype="uint8")[:, None, None, None]
    dataset = Dataset(tuple("abc"), images, labels, images[:0], labels[:0])
    held = hold_out_a_fifth(dataset)
    assert held.held_out and not dataset.held_out
    assert list(np.bincount(held.y_test)) == [2, 2]
    assert list(np.bincount(held.y_train)) == [8, 4, 1]
    both = np.concatenate([held.x_train, held.x_test]).ravel()
    assert sorted(both) == list(range(17))
    np.testing.assert_array_equal(held.y_test, labels[held.x_test.ravel()])
    lonely = Dataset(tuple("ab"), images[:2], np.arange(2), images[:0], [])
    with pytest.raises(ValueError, match="2 images of 2 classes"):
        hold_out_a_fifth(lonely)


def test_one_class(tmp_path):
    files = {k: v for k, v in contents().items() if "dog" not in k}
    with pytest.raises(ValueError, match="two classes or more.*with cat"):
        load(write_folder(tmp_path, files))


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_class(tmp_path, kind, split):
    write_folder(tmp_path / "data", contents())
    (tmp_path / "data" / split / "cow").mkdir()
    path = tmp_path / "data"
    if kind == "tar":
        path = tmp_path / "data.tar"
        with tarfile.open(path, "w") as archive:
            archive.add(tmp_path / "data", "pets")
    with pytest.raises(ValueError, match=f"where cow of {split} has none"):
        load(path)


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("encoded", [False, True])
def test_bad_images_are_left_out(tmp_path, kind, encoded):
    bad = {"train/cat/bad.png": b"", "test/dog/worse.png": image(1)[:-30]}
    path = write(kind, tmp_path / "data", contents(**bad))
    dataset = load(path, encoded, skip_bad=True)
    assert len(dataset.x_train) == 3 and len(dataset.x_test) == 2
    assert [
        any(name in line for line in dataset.skipped)
        for name in ("train/cat/bad.png", "test/dog/worse.png")
    ] == [True, True]
    assert len(dataset.skipped) == 2
    if not encoded:
        check(dataset)
    path = write(
        kind, tmp_path / "all", contents(**{"train/dog/0.png": b"bad"})
    )
    with pytest.raises(ValueError, match="two classes or more"):
        load(path, encoded, skip_bad=True)


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("content", [b"", b"no image", image(1)[:-30]])
def test_unreadable_image_is_named(tmp_path, kind, content):
    files = contents(**{"train/dog/bad.png": content})
    path = write(kind, tmp_path / "data", files)
    with pytest.raises(ValueError, match="Expected an image.*dog/bad.png"):
        load(path)


def test_image_of_another_size_is_named(tmp_path):
    files = contents(**{"train/dog/big.png": image(1, (8, 8))})
    with pytest.raises(ValueError, match=r"dog/big.png of shape \(8, 8, 3\)"):
        load(write_folder(tmp_path, files))


def test_class_that_is_only_tested(tmp_path):
    files = contents(**{"test/cow/0.png": image(1)})
    with pytest.raises(ValueError, match="with cow in test/ only"):
        load(write_folder(tmp_path, files))


def test_file_that_is_no_archive(tmp_path):
    path = tmp_path / "data.tar"
    path.write_bytes(b"no archive" * 200)
    with pytest.raises(ValueError, match="complete tar archive.*data.tar"):
        load(path)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_truncated_archive(tmp_path, mode):
    path = write_tar(tmp_path / "data.tar", contents(), mode)
    whole = path.read_bytes()
    for eighths in range(1, 8):
        path.write_bytes(whole[: len(whole) * eighths // 8])
        with pytest.raises(ValueError, match="complete tar archive"):
            load(path)


def arrays(**changes):
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (5, 4, 6, 3), "uint8"),
        "y_train": np.array([0, 1, 2, 1, 0], "uint8"),
        "x_test": rng.integers(0, 256, (2, 4, 6, 3), "uint8"),
        "y_test": np.array([2, 0]),
        "classes": np.array(["ape", "bee", "cat"]),
        **changes,
    }


def test_arrays(tmp_path):
    path = tmp_path / "pets.npz"
    np.savez(path, **arrays())
    dataset = load(path)
    assert dataset.class_names == ("ape", "bee", "cat")
    assert dataset.y_train.dtype == np.int64
    np.testing.assert_array_equal(dataset.x_train, arrays()["x_train"])
    np.testing.assert_array_equal(dataset.y_test, [2, 0])


@pytest.mark.parametrize(
    "changes",
    [
        {"x_train": np.zeros((5, 4, 6, 3), "float32")},
        {"x_test": np.zeros((2, 4, 6), "uint8")},
        {"y_train": np.array([0, 1, 2, 1, 3])},
        {"y_train": np.array([0, 1, 2, 1, -1])},
        {"y_test": np.array([0.0, 1.0])},
        {"y_test": np.array([0])},
        {"x_test": np.zeros((0, 4, 6, 3), "uint8"), "y_test": np.zeros(0, int)},
        {"classes": np.array([{"ape"}, {"bee"}, {"cat"}])},
    ],
)
def test_arrays_that_do_not_fit(tmp_path, changes):
    path = tmp_path / "pets.npz"
    np.savez(path, **arrays(**changes))
    with pytest.raises(ValueError, match="Expected .*pets.npz"):
        load(path)


def test_files_that_are_no_arrays(tmp_path):
    path = tmp_path / "pets.npz"
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(ValueError, match="Expected an .npz file"):
        load(path)
    for content in (b"", b"PK", path.read_bytes()[:-30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="Expected an .npz file"):
            load(path)


def test_hold_out(tmp_path):
    path = tmp_path / "pets.npz"
    np.savez(path, **arrays())
    dataset = load(path)
    held = hold_out(dataset, 2)
    assert (len(held.x_train), len(held.x_test)) == (3, 2)
    both = np.concatenate([held.x_train, held.x_test])
    order = [
        next(i for i, x in enumerate(both) if np.array_equal(x, wanted))
        for wanted in dataset.x_train
    ]
    labels = np.concatenate([held.y_train, held.y_test])[order]
    np.testing.assert_array_equal(labels, dataset.y_train)
    for count in (0, 5):
        with pytest.raises(ValueError, match="Received: holdout"):
            hold_out(dataset, count)
