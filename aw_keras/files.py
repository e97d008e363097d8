"""Files and folders that are complete before they take their names."""

import contextlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def replacing(path):
    """A path of the same name that takes the place of `path` without an error.

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
        old = pathlib.Path(folder, f"old-{path.name}")
        if path.is_dir() and new.is_dir():
            # A folder cannot be replaced in one step, only moved away.
            path.rename(old)
        try:
            os.replace(new, path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise


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
