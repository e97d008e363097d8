"""Labelled images from wherever they are, behind one function.

`load` takes the name of an embedded data set, a folder of class folders, a tar
archive of one, a file of NumPy arrays, or the name of a data set of TensorFlow
Datasets. It gives NumPy arrays, or what reads the images one by one when they
do not all fit. Archives are read in place: nothing is ever unpacked to the
disk.
"""

import dataclasses
import functools
import importlib.util
import io
import lzma
import pathlib
import tarfile
import zlib

import numpy as np
import rich.progress

from aw_keras.image_files import SUFFIXES, read_image


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and labels of a training and a test split.

    Attributes:
        class_names: Tuple of strings; a label is a place in it.
        x_train: uint8 array `(samples, height, width, channels)`; or array
            `(samples,)` of functions that read the bytes of an encoded image.
        y_train: int64 array `(samples,)`.
        x_test: Like `x_train`.
        y_test: Like `y_train`.
    """

    class_names: tuple
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def encoded(self):
        """Whether images are yet to be read and decoded."""
        return self.x_train.dtype == object


def load(source, encoded=False):
    """Loads labelled images.

    Args:
        source: `"digits"` for scikit-learn's 1,797 handwritten digits of 8x8
            grey pixels; or the path of a folder that holds
            `train/<class>/<image>` and `test/<class>/<image>`; or the path of
            a tar archive of such a folder, in any compression; or the path
            of an `.npz` file of the uint8 images `x_train` and `x_test`, the
            integers `y_train` and `y_test` and the names `classes`; or a name
            of TensorFlow Datasets, where that is installed. Images of files
            become RGB; all must have one size. Files that are not images are
            ignored.
        encoded: Whether to leave the images to be read later, of any size.
            Those of an archive stay in memory as they are encoded.

    Returns:
        A `Dataset`.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If the file is no tar archive, if a split has no images,
            if the test split has a class that the training split lacks, if
            an image cannot be read or has another size, or if arrays do not
            fit together.
    """
    if source == "digits":
        return _digits()
    path = pathlib.Path(source)
    if not path.exists():
        if importlib.util.find_spec("tensorflow_datasets"):
            from zoo import tfds

            return tfds.load(str(source), encoded)
        raise FileNotFoundError(
            "Expected `source` to be 'digits', the path of a folder, a tar "
            "archive or an .npz file, or, with tensorflow-datasets installed, "
            f"a name of TensorFlow Datasets. Received: source={source}"
        )
    if path.suffix == ".npz":
        return _arrays(path)
    files = _folder_files(path) if path.is_dir() else _tar_files(path)
    splits = {"train": ([], []), "test": ([], [])}
    for split, label, name, read in files:
        images, labels = splits[split]
        images.append(read if encoded else (name, _decode(read(), path, name)))
        labels.append(label)
    return _from_splits(splits, path, encoded)


def take(dataset, limit, seed):
    """At most `limit` random images of each split of a `Dataset`."""
    rng = np.random.default_rng(seed)
    train = rng.permutation(len(dataset.x_train))[:limit]
    test = rng.permutation(len(dataset.x_test))[:limit]
    return dataclasses.replace(
        dataset,
        x_train=dataset.x_train[train],
        y_train=dataset.y_train[train],
        x_test=dataset.x_test[test],
        y_test=dataset.y_test[test],
    )


def hold_out(dataset, count):
    """Measures on random images of the training split, not on the test split.

    What is chosen by such measurements is chosen without the test split.

    Args:
        dataset: `Dataset`.
        count: Integer, number of images that the training loses. Which ones
            depends on the number of all images alone.

    Returns:
        A `Dataset` whose test split is these images.

    Raises:
        ValueError: If no image would be left.
    """
    images = len(dataset.x_train)
    if not 0 < count < images:
        raise ValueError(
            f"Expected to hold out fewer than all {images} training images. "
            f"Received: holdout={count}"
        )
    order = np.random.default_rng(0).permutation(images)
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    return dataclasses.replace(
        dataset,
        x_train=dataset.x_train[kept],
        y_train=dataset.y_train[kept],
        x_test=dataset.x_train[held],
        y_test=dataset.y_train[held],
    )


_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")


def _arrays(path):
    """The `Dataset` of an `.npz` file."""
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in _ARRAYS}
    # What NumPy and zipfile raise for damaged files depends on the damage.
    except Exception as error:
        raise ValueError(
            f"Expected an .npz file of the arrays {', '.join(_ARRAYS)}. "
            f"Received: {path} ({error})"
        ) from error
    *_, classes = arrays.values()
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        fits = x.ndim == 4 and x.dtype == "uint8" and y.shape == x.shape[:1]
        whole = np.issubdtype(y.dtype, np.integer) and len(y)
        if not fits or not whole or not set(y) <= set(range(len(classes))):
            raise ValueError(
                f"Expected x_{split} to be uint8 images (samples, height, "
                f"width, channels) and y_{split} places in `classes`. "
                f"Received: {path} with x_{split} of {x.dtype} {x.shape}, "
                f"y_{split} of {y.dtype} {y.shape}"
            )
        arrays[f"y_{split}"] = y.astype("int64")
    del arrays["classes"]
    return Dataset(tuple(map(str, classes)), **arrays)


def _digits():
    # Imported here: only the embedded data set needs scikit-learn.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    # 17 levels of grey, spread over the range of a byte.
    images = np.round(digits.images * (255 / 16)).astype("uint8")[..., None]
    x_train, x_test, y_train, y_test = train_test_split(
        images,
        digits.target,
        test_size=0.25,
        stratify=digits.target,
        random_state=0,
    )
    class_names = tuple(str(name) for name in digits.target_names)
    return Dataset(class_names, x_train, y_train, x_test, y_test)


def _from_splits(splits, path, encoded):
    for split, (images, _) in splits.items():
        if not images:
            raise ValueError(
                f"Expected images in {split}/<class>/ with one of the "
                f"suffixes {', '.join(SUFFIXES)}. Received: {path}"
            )
    class_names = tuple(sorted(set(splits["train"][1])))
    unknown = set(splits["test"][1]) - set(class_names)
    if unknown:
        raise ValueError(
            "Expected every class of test/ to be in train/ too. Received: "
            f"{path} with {', '.join(sorted(unknown))} in test/ only"
        )
    place = {name: index for index, name in enumerate(class_names)}
    stack = functions if encoded else functools.partial(_stacked, path=path)
    arrays = []
    for images, labels in splits.values():
        arrays.append(stack(images))
        arrays.append(np.array([place[label] for label in labels]))
    return Dataset(class_names, *arrays)


def functions(items):
    """Array of functions, as `Dataset` has them for encoded images."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def _stacked(named_images, path):
    size = named_images[0][1].shape
    for name, image in named_images:
        if image.shape != size:
            raise ValueError(
                f"Expected every image to have the shape {size} of the first; "
                "set `image_size` for images of any size. "
                f"Received: {path}: {name} of shape {image.shape}"
            )
    return np.stack([image for _, image in named_images])


def _folder_files(folder):
    """Yields `(split, class, name, read)` of every image in a folder."""
    files = [
        (file, where)
        for file in sorted(folder.rglob("*"))
        if (where := _where(file.relative_to(folder))) and file.is_file()
    ]
    for file, (split, label) in rich.progress.track(
        files, "Reading images", transient=True
    ):
        name = file.relative_to(folder)
        yield split, label, name, file.read_bytes


def _tar_files(path):
    """Yields `(split, class, name, read)` of every image in an archive."""
    try:
        with (
            rich.progress.open(
                path, "rb", description="Reading images", transient=True
            ) as file,
            tarfile.open(fileobj=file, mode="r:*") as archive,
        ):
            for member in archive:
                where = _where(pathlib.PurePosixPath(member.name))
                if where and member.isfile():
                    content = archive.extractfile(member).read()
                    yield *where, member.name, lambda content=content: content
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ValueError(
            "Expected a folder or a complete tar archive. "
            f"Received: {path} ({error})"
        ) from error


def _where(path):
    """`(split, class)` of the path of an image, `None` of other paths."""
    if len(path.parts) < 3 or path.name.startswith("."):
        return None
    split, label, _ = path.parts[-3:]
    if split in ("train", "test") and path.suffix.lower() in SUFFIXES:
        return split, label
    return None


def _decode(content, path, name):
    return read_image(io.BytesIO(content), f"{path}: {name}")
