"""How much a file of weights may hold for its size: bombs stay packed.

Keras and PyTorch write numbers as they are. Archives that others have packed
again become smaller by little, as numbers that were learned are noise.
"""

import math
import os
import zipfile

import h5py

#: Bytes that a file may hold for each of its own, and in any case.
EXPANSION = 20
FLOOR = 2**26


def check_archive(path):
    """Refuses a zip archive that holds far more than its size.

    Args:
        path: Path of the archive.

    Raises:
        ValueError: If it does.
    """
    with zipfile.ZipFile(path) as archive:
        held = sum(member.file_size for member in archive.infolist())
    _check(held, os.path.getsize(path))


def check_arrays(file, size):
    """Refuses an HDF5 file that holds far more than its size.

    What counts is what is unpacked at once: all of an array, or a part of it
    that the file says is larger.

    Args:
        file: `h5py.File`.
        size: Its size in bytes.

    Raises:
        ValueError: If it does.
    """
    held = 0

    def add(name, item):
        nonlocal held
        if isinstance(item, h5py.Dataset):
            elements = max(item.size or 0, math.prod(item.chunks or (0,)))
            held += elements * item.dtype.itemsize

    file.visititems(add)
    _check(held, size)


def _check(held, size):
    if held > max(FLOOR, EXPANSION * size):
        raise ValueError(
            f"{size} bytes that would become {held}, which no file of weights "
            "does"
        )
