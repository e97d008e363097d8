"""Labelled images from wherever they are, behind one function.

`load` takes the name of an embedded data set, a folder of class folders, a tar
archive of one, a file of NumPy arrays, or the name of a data set of TensorFlow
Datasets. It gives NumPy arrays, or what reads the images one by one when they
do not all fit. Archives are read in place: nothing is ever unpacked to the
disk.
"""

import functools
import importlib.util
import lzma
import pathlib
import tarfile
import zlib

import numpy as np
import rich.progress

from aw_keras.image_files import SUFFIXES
from zoo.data.dataset import (
    Dataset,
    functions,
    hold_out,
    hold_out_a_fifth,
    take,
)
from zoo.data.encoded import Encoded, check_size, decode, read_file

#: What the folder of the test split may be called, the first one first.
_TEST = ("test", "val", "validation", "valid")
_SPLITS = ("train", *_TEST)


def load(source, encoded=False, skip_bad=False):
    """Loads labelled images.

    Args:
        source: `"digits"` for scikit-learn's 1,797 handwritten digits of 8x8
            grey pixels; or the path of a folder that holds
            `train/<class>/<image>` and `test/<class>/<image>`, where `test`
            may be `val`, `valid` or `validation`, too, or missing; or of one
            that holds `<class>/<image>`; or the path of a tar archive of such
            a folder, in any compression; or the path of an `.npz` file of the
            uint8 images `x_train` and `x_test`, the integers `y_train` and
            `y_test` and the names `classes`; or a name of TensorFlow Datasets,
            where that is installed. Images of files become RGB; all must have
            one size. Files that are not images are ignored.
        encoded: Whether to leave the images to be read later, of any size.
            Those of an archive stay in memory as they are encoded.
        skip_bad: Whether files that cannot be read as images are left out,
            and not refused. Then all are decoded once, even if `encoded`.

    Returns:
        A `Dataset`.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If the file is no tar archive, if there is no training
            split or only one class in it, if a class has no images, if the
            test split has a class that the training split lacks, if an image
            cannot be read or has another size, or if arrays do not fit
            together.
    """
    if source == "digits":
        return _digits()
    path = pathlib.Path(source)
    if not path.exists():
        if importlib.util.find_spec("tensorflow_datasets"):
            from zoo.data import tfds

            return tfds.load(str(source), encoded)
        raise FileNotFoundError(
            "Expected `source` to be 'digits', the path of a folder, a tar "
            "archive or an .npz file, or, with tensorflow-datasets installed, "
            f"a name of TensorFlow Datasets. Received: source={source}"
        )
    if path.suffix == ".npz":
        return _arrays(path)
    files, folders = [], []
    for parts, read in entries(path):
        if read is None:
            folders.append(parts)
        else:
            files.append((parts, read))
    return _from_files(files, folders, path, encoded, skip_bad)


# Runs that follow each other often have the same data.
_load = functools.lru_cache(maxsize=1)(load)


def load_data(recipe):
    """The `zoo.data.dataset.Dataset` of a `zoo.recipe.Recipe`."""
    dataset = _load(recipe.data, recipe.image_size is not None, recipe.skip_bad)
    if recipe.holdout:
        dataset = hold_out(dataset, recipe.holdout)
    elif not len(dataset.y_test):
        dataset = hold_out_a_fifth(dataset)
    if recipe.limit is None:
        return dataset
    return take(dataset, recipe.limit, recipe.seed)


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


def _from_files(files, folders, path, encoded, skip_bad):
    """The `Dataset` of files and folders, by the parts of their paths."""
    splits = _layout([parts for parts, _ in files], path)
    found = {split: [] for split in splits}
    skipped = []
    for parts, read in rich.progress.track(
        files, "Reading images", transient=True
    ):
        for split in (s for s, above in splits.items() if parts[:-2] in above):
            image = read
            if not encoded or skip_bad:
                try:
                    image = decode(read, path)
                except ValueError as error:
                    if not skip_bad:
                        raise
                    skipped.append(str(error))
                    continue
            found[split].append((parts, read if encoded else image))
    _check_classes(found, splits, folders, path)
    class_names = tuple(sorted({parts[-2] for parts, _ in found["train"]}))
    place = {name: index for index, name in enumerate(class_names)}
    arrays = []
    for images in found.values():
        arrays.append(_stacked(images, path, encoded))
        labels = [place[parts[-2]] for parts, _ in images]
        arrays.append(np.array(labels, "int64"))
    if len(found) == 1:
        arrays += [arrays[0][:0], arrays[1][:0]]
    return Dataset(class_names, *arrays, skipped=tuple(skipped))


def _layout(paths, path):
    """Where the folders of classes are: sets of paths by split, as parts."""
    above = {parts[:-2] for parts in paths if len(parts) > 1}
    named = {
        split: {parts for parts in above if parts[-1:] == (split,)}
        for split in _SPLITS
    }
    if named["train"]:
        test = next(filter(None, map(named.get, _TEST)), None)
        return {"train": named["train"]} | ({"test": test} if test else {})
    if len(above) == 1 and not any(named.values()):
        return {"train": above}
    raise ValueError(
        "Expected images in train/<class>/, or in <class>/ alone, with one of "
        f"the suffixes {', '.join(SUFFIXES)}. Received: {path}"
    )


def _check_classes(found, splits, folders, path):
    """Refuses classes without images, and what is no classification."""
    seen = {
        split: {parts[-2] for parts, _ in images}
        for split, images in found.items()
    }
    if len(seen["train"]) < 2:
        raise ValueError(
            "Expected images of two classes or more. Received: "
            f"{path} with {' and '.join(seen['train']) or 'none'}"
        )
    for split, above in splits.items():
        empty = {parts[-1] for parts in folders if parts[:-1] in above}
        empty -= seen[split]
        if empty:
            raise ValueError(
                "Expected images in the folder of every class, with one of the "
                f"suffixes {', '.join(SUFFIXES)}. Received: {path}, where "
                f"{', '.join(sorted(empty))} of {split} has none"
            )
    unknown = seen.get("test", set()) - seen["train"]
    if unknown:
        raise ValueError(
            "Expected every class of test/ to be in train/ too. Received: "
            f"{path} with {', '.join(sorted(unknown))} in test/ only"
        )


def _stacked(named_images, path, encoded):
    images = [image for _, image in named_images]
    if encoded:
        return functions(images)
    size = images[0].shape
    for parts, image in named_images:
        if image.shape != size:
            raise ValueError(
                f"Expected every image to have the shape {size} of the first; "
                "set `image_size` for images of any size. "
                f"Received: {path}: {'/'.join(parts)} of shape {image.shape}"
            )
    return np.stack(images)


def entries(path):
    """What is in a folder or a tar archive.

    Args:
        path: `pathlib.Path`.

    Yields:
        Pairs of the parts of a path, and of images a function that reads their
        bytes, of folders `None`.

    Raises:
        ValueError: If it is neither.
    """
    return _folder_entries(path) if path.is_dir() else _tar_entries(path)


def _folder_entries(folder):
    """Yields parts of the path and `read` of images, `None` of folders."""
    for parts, path, is_folder in sorted(_walk(folder)):
        if is_folder:
            yield parts, None
        elif _is_image(parts) and path.is_file():
            yield parts, Encoded(str(path), functools.partial(read_file, path))


def _walk(folder, parts=(), above=()):
    """Yields parts, path, and whether it is a folder; links are followed.

    Raises:
        ValueError: If a link leads to a folder that it is in.
    """
    above = (*above, folder.resolve())
    for path in folder.iterdir():
        inner = (*parts, path.name)
        if not _is_seen(inner):
            continue
        yield inner, path, (is_folder := path.is_dir())
        if is_folder:
            if path.resolve() in above:
                raise ValueError(
                    "Expected links to files, and to folders that they are not "
                    f"in. Received: {path}"
                )
            yield from _walk(path, inner, above)


class _Member(tarfile.TarInfo):
    """A member of an archive that has to be complete.

    For `tarfile`, whatever is no member is the end of it.
    """

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no end: {error}") from error


def _tar_entries(path):
    """Yields parts of the path and `read` of images, `None` of folders."""
    try:
        with (
            rich.progress.open(
                path, "rb", description="Reading the archive", transient=True
            ) as file,
            tarfile.open(fileobj=file, mode="r:*", tarinfo=_Member) as archive,
        ):
            for member in archive:
                parts = pathlib.PurePosixPath(member.name).parts
                if not _is_seen(parts):
                    continue
                if member.isdir():
                    yield parts, None
                elif _is_image(parts) and member.isfile():
                    name = f"{path}: {'/'.join(parts)}"
                    check_size(name, member.size)
                    content = archive.extractfile(member).read()
                    yield parts, Encoded(name, lambda content=content: content)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ValueError(
            "Expected a folder or a complete tar archive. "
            f"Received: {path} ({error})"
        ) from error


def _is_seen(parts):
    """Whether no part of a path is hidden, as copies of systems leave them."""
    hidden = (".", "__MACOSX")
    return not any(p.startswith(hidden) and p != ".." for p in parts)


def _is_image(parts):
    return pathlib.PurePath(parts[-1]).suffix.lower() in SUFFIXES
