"""Files and folders that are complete, and on the disk, before they take their
names."""

import contextlib
import os
import pathlib
import stat
import tempfile


@contextlib.contextmanager
def replacing(path):
    """A path of the same name that takes the place of `path` without an error.

    What was written is on the disk before the name is: neither an exception
    nor a power failure leaves half of it under that name.

    Args:
        path: Path of a file or folder, which may exist, in a folder that
            exists. A file replaces a file, a folder a folder.

    Raises:
        OSError: If nothing can be written there.
    """
    path = pathlib.Path(path)
    try:
        work = tempfile.TemporaryDirectory(
            prefix=f".{path.name}-", dir=path.absolute().parent
        )
    except OSError as error:
        raise OSError(
            "Expected `path` to be in a folder that exists and can be "
            f"written. Received: path={path} ({error.strerror})"
        ) from error
    with work as folder:
        new = pathlib.Path(folder, path.name)
        yield new
        for written in [*new.rglob("*"), new]:
            _sync(written)
        old = pathlib.Path(folder, f"old-{path.name}")
        if path.is_dir() and new.is_dir():
            # A folder cannot be replaced in one step, only moved away.
            path.rename(old)
        try:
            os.replace(new, path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
        _sync(path.absolute().parent)


def replace_text(path, text):
    """Writes a text file that is complete before it takes its name.

    Args:
        path: Path as for `replacing`.
        text: What to write, as UTF-8.

    Raises:
        OSError: If it cannot be written. What `path` was, it still is.
    """
    with replacing(path) as new:
        new.write_bytes(text.encode())


@contextlib.contextmanager
def new_folder(out):
    """A path that becomes the folder `out` if no error occurs.

    Args:
        out: Path of a folder that is not there yet; its parents are made.

    Raises:
        ValueError: If there is something.
    """
    if os.path.lexists(out):
        raise ValueError(
            f"Expected `out` to be a path of nothing yet. Received: out={out}"
        )
    pathlib.Path(out).absolute().parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as new:
        yield new


def read_inside(folder, name, largest):
    """The content of a regular file that is in a folder, wherever links lead.

    Args:
        folder: Path of a folder, which may be a link itself.
        name: Path of a file, relative to it, that need not be trusted.
        largest: Integer, the most bytes that it may have.

    Returns:
        Bytes.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not in the folder, no regular file or too large.
    """
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath((root, path)) != root:
        raise ValueError(f"leads out of {folder}")
    # Opening a pipe would wait; a link has no place in a real path.
    flags = ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY")
    flags = sum(getattr(os, flag, 0) for flag in flags)
    with open(os.open(path, os.O_RDONLY | flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a regular file")
        if found.st_size > largest:
            raise ValueError(
                f"{found.st_size} bytes, more than the {largest} allowed"
            )
        return file.read(largest)


def _sync(path):
    """Waits until a file, or the names in a folder, are on the disk."""
    is_folder = path.is_dir()
    try:
        # Windows syncs only what may be written, and no folders.
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    except OSError:
        if is_folder:
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
