"""Where released files are: in a checkout, in the Keras cache, or to download.

Whatever the place, a file is given out only if it has the released hash.
"""

import importlib.metadata
import os
import pathlib

from aw_keras.weights import manifest
from aw_keras.weights.download import download

#: The folder with the files, in a checkout of the project.
CHECKOUT = pathlib.Path(__file__).parents[2] / "zoo" / "weights"

_DISTRIBUTION = "aw-keras"
_LABEL = "Weights"


def resolve(weights, architecture):
    """The path of a released file, if that is what `weights` names.

    Args:
        weights: What a user gave as `weights`.
        architecture: Name of the network that they are for.

    Returns:
        A path for the name of a data set that the network was trained on,
        anything else as it is.
    """
    file = isinstance(weights, str) and manifest.newest(architecture).get(
        weights
    )
    return fetch(file) if file else weights


def fetch(file):
    """The path of a released file, which is downloaded if it has to be.

    Looked for in the folder `zoo/weights` of a checkout and in `models` of
    the Keras cache, whose place the environment variable `KERAS_HOME` decides.

    Args:
        file: One of `aw_keras.weights.released()`.

    Returns:
        The path, a string.

    Raises:
        ValueError: If the file in the checkout, or the one that the server
            has, is not the released one.
        ConnectionError: If there is no address, no network or no such file.
        OSError: If the cache cannot be written to.
    """
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
    """Where a released file may be: in a checkout, and in the Keras cache."""
    cache = os.path.join(keras_home(), "models")
    return str(CHECKOUT / file.name), os.path.join(cache, file.name)


def keras_home():
    """Where Keras keeps what it downloads, as documented by Keras."""
    return os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")


def _base_url(file):
    """The address of all files, ending in a slash."""
    base = os.environ.get("AW_KERAS_WEIGHTS_URL") or _release_page()
    if not base:
        raise ConnectionError(
            f"Expected an address to download {file.name} from: set the "
            "environment variable AW_KERAS_WEIGHTS_URL to the one of a "
            "folder. Received: none, and this version of aw_keras has none"
        )
    return base.rstrip("/") + "/"


def _release_page():
    """The address in the metadata of the package, or `None`."""
    try:
        found = importlib.metadata.metadata(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    pairs = (url.split(", ", 1) for url in found.get_all("Project-URL", []))
    return dict(pairs).get(_LABEL)
