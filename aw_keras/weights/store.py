"""Where released files are: in the package, in the Keras cache, or to download.

Whatever the place, a file is given out only if it has the released hash. Those
of others have a module of their own.
"""

import dataclasses
import os
import pathlib

from aw_keras import home
from aw_keras.weights import manifest, peers
from aw_keras.weights.download import download
from aw_keras.weights.manifest import PublishedFile, ReleasedFile, Verified

#: The folder with the files that are part of the package.
SHIPPED = pathlib.Path(__file__).with_name("files")


@dataclasses.dataclass(frozen=True)
class Stored:
    """A file that has a name, on this machine.

    Attributes:
        path: Its path, a string.
        file: The `ReleasedFile` or `PublishedFile` that it is.
        verified: `Verified`.
    """

    path: str
    file: ReleasedFile | PublishedFile
    verified: Verified


def resolve(weights, architecture):
    """The file that `weights` names, which is downloaded if it has to be.

    Args:
        weights: What a user gave as `weights`.
        architecture: Name of the network that they are for.

    Returns:
        A `Stored` for the name of a data set that the network was trained on,
        or of a file of others; else `None`.

    Raises:
        ImportError: If what reads the file is not installed.
        ValueError: If it has another hash than it should have.
        ConnectionError: If it has to be downloaded and cannot be.
        OSError: If the cache cannot be written to.
    """
    file = manifest.named(weights, architecture)
    return None if file is None else _stored(file)


def fetch(file):
    """The path of a file that has a name, which is downloaded if it has to be.

    Released files are looked for in the package itself, and in `models` of the
    Keras cache, whose place the environment variable `KERAS_HOME` decides;
    those of others in the Keras cache and in those of PyTorch and the Hugging
    Face hub, whose own variables are respected.

    Args:
        file: One of `aw_keras.weights.released()` or
            `aw_keras.weights.published()`.

    Returns:
        The path, a string.

    Raises:
        ImportError: If what reads the file is not installed.
        ValueError: If the file in the package or in the cache of others, or
            the one that the server has, is not that file.
        ConnectionError: If there is no address, no network or no such file.
        OSError: If the cache cannot be written to.
    """
    return _stored(file).path


def _stored(file):
    if isinstance(file, PublishedFile):
        path, verified = peers.locate(file, _cache())
        return Stored(path, file, verified)
    return Stored(_released(file), file, Verified(file.sha256, "pinned"))


def _released(file):
    shipped, path = _places(file)
    if os.path.isfile(shipped):
        manifest.check(shipped, file)
        return shipped
    if not manifest.is_whole(path, file):
        download(_base_url(file) + file.url, path, file.sha256, file.bytes)
    return path


def found(file):
    """The path of a released file that need not be downloaded, or `None`."""
    places = _places(file)
    return next((p for p in places if manifest.is_whole(p, file)), None)


def _places(file):
    """Where a released file may be: in the package, and in the Keras cache."""
    return str(SHIPPED / file.name), os.path.join(_cache(), file.name)


def _cache():
    return os.path.join(keras_home(), "models")


def keras_home():
    """Where Keras keeps what it downloads, as documented by Keras."""
    return os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")


def _base_url(file):
    """The address of all files, ending in a slash."""
    base = os.environ.get("AW_KERAS_WEIGHTS_URL") or home.weights()
    if not base:
        raise ConnectionError(
            f"Expected an address to download {file.name} from: set the "
            "environment variable AW_KERAS_WEIGHTS_URL to the one of a "
            "folder. Received: none, and this version of aw_keras has none"
        )
    return base.rstrip("/") + "/"
