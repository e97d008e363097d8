"""Files and folders that are complete before they take their names."""

import contextlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def replacing(path):
    """A path of the same name that takes a file's place if no error occurs.

    Args:
        path: Path of the file, which may exist, in a folder that exists.
    """
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}-", dir=path.absolute().parent
    ) as folder:
        new = pathlib.Path(folder, path.name)
        yield new
        os.replace(new, path)


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
