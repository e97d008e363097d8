"""Files that are complete before they take their names."""

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
