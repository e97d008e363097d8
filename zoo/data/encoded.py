"""Images as the bytes of their files: read when they are needed, by name."""

import contextlib
import dataclasses
import io
import pathlib
import threading
from collections.abc import Callable

from aw_keras.image_files import read_image

#: Bytes of an image, encoded.
LARGEST = 2**26

_failures = []
_failing = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A function that reads the bytes of an image, and what it is called."""

    name: str
    read: Callable[[], bytes]

    def __call__(self):
        return self.read()


def read_file(path):
    """The bytes of the file of an image.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is too large for one.
    """
    path = pathlib.Path(path)
    check_size(path, path.stat().st_size)
    return path.read_bytes()


def check_size(name, size):
    """Refuses what has too many bytes for an image.

    Raises:
        ValueError: If it has.
    """
    if size > LARGEST:
        raise ValueError(
            f"Expected images of at most {LARGEST} bytes. "
            f"Received: {name} of {size}"
        )


def decode(image, name):
    """The pixels of an image.

    Args:
        image: Function that returns its bytes, such as an `Encoded`.
        name: What an error calls it, if it does not say so itself.

    Raises:
        ValueError: If it cannot be read. `named_errors` knows it, too.
    """
    name = getattr(image, "name", name)
    try:
        return read_image(io.BytesIO(image()), name)
    except (OSError, ValueError) as error:
        with _failing:
            _failures.append(error)
        raise


@contextlib.contextmanager
def named_errors():
    """Raises what `decode` does, also where tf.data hides it in its own."""
    _failures.clear()
    try:
        yield
    except Exception as error:
        if _failures and error is not _failures[0]:
            raise ValueError(str(_failures[0])) from error
        raise
