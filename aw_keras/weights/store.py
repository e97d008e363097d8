"""Where released files are: in a checkout, in the Keras cache, or to download.

Whatever the place, a file is given out only if it has the released hash. Files
of others are looked for where PyTorch and the Hugging Face hub keep what they
have downloaded, too.
"""

import importlib.metadata
import os
import pathlib
import re

from aw_keras.weights import manifest
from aw_keras.weights.download import download

#: The folder with the files, in a checkout of the project.
CHECKOUT = pathlib.Path(__file__).parents[2] / "zoo" / "weights"

_DISTRIBUTION = "aw-keras"
_LABEL = "Weights"

_SHA256 = re.compile("[0-9a-f]{64}")


def resolve(weights, architecture):
    """The path of a released file, if that is what `weights` names.

    Args:
        weights: What a user gave as `weights`.
        architecture: Name of the network that they are for.

    Returns:
        A path for the name of a data set that the network was trained on, or
        of a file of others; anything else as it is.
    """
    file = manifest.named(weights, architecture)
    if file is None:
        return weights
    get = locate if isinstance(file, manifest.PublishedFile) else fetch
    return get(file)


def locate(file):
    """The path of a file of others, which has been downloaded.

    Args:
        file: One of `aw_keras.weights.published()`.

    Returns:
        The path, a string.

    Raises:
        ValueError: If what is there has another hash than its name says.
        ConnectionError: If it is nowhere.
    """
    kept = pathlib.Path(keras_home(), "models")
    if file.url:
        name = pathlib.PurePosixPath(file.url).name
        for path in (kept / name, _torch_home() / "checkpoints" / name):
            if path.is_file():
                _check_hash(path, file.sha256 or file.sha256_prefix)
                return str(path)
    if file.hub:
        snapshots = _hub_home() / f"models--{file.hub.replace('/', '--')}"
        for path in sorted(snapshots.glob("snapshots/*/model.safetensors")):
            # A link to a file whose name is the hash.
            blob = path.resolve().name
            _check_hash(path, blob if _SHA256.fullmatch(blob) else "")
            return str(path)
    address = file.url or f"https://huggingface.co/{file.hub}"
    raise ConnectionError(
        f"Expected {file.name} in {kept}, or in the cache of PyTorch or of the "
        f"Hugging Face hub. Received: none; download it from {address}"
    )


def _check_hash(path, beginning):
    found = manifest.sha256_of(path)
    if not found.startswith(beginning):
        raise ValueError(
            f"Expected a file with a sha256 that begins with {beginning}. "
            f"Received: path={path} with the sha256 {found}"
        )


def _cache():
    return pathlib.Path(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    )


def _torch_home():
    home = os.environ.get("TORCH_HOME") or _cache() / "torch"
    return pathlib.Path(home, "hub")


def _hub_home():
    if cache := os.environ.get("HF_HUB_CACHE"):
        return pathlib.Path(cache)
    home = os.environ.get("HF_HOME") or _cache() / "huggingface"
    return pathlib.Path(home, "hub")


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
