"""Files and folders that are complete, and on the disk, before they take their
names."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import stat
import tempfile

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None

#: What the folders end in that work is done in, and what is moved away there
#: begins with.
_PARTIAL = ".partial"
_OLD = "old-"


@contextlib.contextmanager
def replacing(path):
    """A path of the same name that takes the place of `path` without an error.

    What was written is on the disk before the name is: neither an exception
    nor a power failure leaves half of it under that name. Of several writers
    at once, each replaces all of it, the last one for good. What a process
    that was killed has left behind is removed, and where a folder cannot be
    replaced in one step, put where it belongs.

    Args:
        path: Path of a file or folder, which may exist, in a folder that
            exists. A file replaces a file, a folder a folder.

    Raises:
        OSError: If nothing can be written there.
    """
    path = pathlib.Path(path)
    parent = path.absolute().parent
    with contextlib.ExitStack() as stack:
        try:
            with _turn(parent):
                _clean(parent, f".{path.name}-*{_PARTIAL}")
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(
                        _PARTIAL, f".{path.name}-", parent
                    )
                )
                stack.enter_context(_turn(folder))
        except OSError as error:
            raise OSError(
                "Expected `path` to be in a folder that exists and can be "
                f"written. Received: path={path} ({error.strerror})"
            ) from error
        new = pathlib.Path(folder, path.name)
        yield new
        for written in [*new.rglob("*"), new]:
            _sync(written)
        with _turn(parent):
            _put(new, path)
        _sync(parent)


def remove_remains(folder):
    """Removes what processes that were killed have left of `replacing`.

    Args:
        folder: Path of a folder, which need not exist.
    """
    if os.path.isdir(folder):
        with _turn(folder):
            _clean(pathlib.Path(folder), f".*{_PARTIAL}")


def _put(new, path):
    """Gives what is new the name of what was there, if anything was."""
    if not (path.is_dir() and new.is_dir()):
        os.replace(new, path)
    elif not _exchange(new, path):
        # Where a kill in between leaves nothing: see `_clean`.
        old = new.with_name(f"{_OLD}{path.name}")
        path.rename(old)
        try:
            os.replace(new, path)
        except BaseException:
            old.rename(path)
            raise


def _exchange(one, other):
    """Exchanges two names in one step, where the system can; or is false."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2
    names = map(os.fsencode, (one, other))
    return not renameat2(here, next(names), here, next(names), exchange)


def _clean(parent, pattern):
    """Removes the folders of writers that are no more, and ends their work."""
    for folder in parent.glob(pattern):
        try:
            with _turn(folder, wait=False):
                for old in folder.glob(f"{_OLD}*"):
                    path = parent / old.name.removeprefix(_OLD)
                    if not os.path.lexists(path):
                        old.rename(path)
                shutil.rmtree(folder)
        except OSError:  # It is in use, or not ours.
            continue


@contextlib.contextmanager
def _turn(folder, wait=True):
    """Holds a folder for one at a time: the system frees it at any end.

    Raises:
        OSError: If it is held, or cannot be, and `wait` is false.
    """
    if fcntl is None:
        if not wait:
            raise OSError("folders cannot be held")
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            flags = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
            fcntl.flock(descriptor, flags)
        except OSError:
            # Not every disk of a network can.
            if not wait:
                raise
        yield
    finally:
        os.close(descriptor)


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
