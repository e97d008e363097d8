"""Where files of others are: in a cache, or to download; and whether they are.

Few hashes of these are known in full. What a file has when it is first used is
kept in the Keras cache, so that another content of the same name is noticed.
"""

import json
import os
import pathlib

from aw_keras.files import replace_text
from aw_keras.weights import hub, manifest, tensors
from aw_keras.weights.download import download
from aw_keras.weights.manifest import Verified

_ON_THE_HUB = "model.safetensors"


def locate(file, cache):
    """The path of a file of others, which is downloaded if it has to be.

    Looked for in the Keras cache, and in those of PyTorch and the Hugging Face
    hub.

    Args:
        file: One of `aw_keras.weights.published()`.
        cache: Folder of the Keras cache for models.

    Returns:
        A pair of the path, a string, and a `Verified`.

    Raises:
        ImportError: If what reads the file is not installed.
        ValueError: If it has another hash than it should have.
        ConnectionError: If it has to be downloaded and cannot be.
        OSError: If the cache cannot be written to.
    """
    cache = pathlib.Path(cache)
    if file.url:
        path = _torch_home() / "checkpoints" / _name(file.url)
        if path.is_file():
            return _checked(path, *_known(file), _record(file.url, cache))
        if file.hub is None or (cache / path.name).is_file():
            return _from_address(file, cache)
    record = cache / f"{file.hub.replace('/', '--')}.safetensors.json"
    if found := hub.cached(file.hub, _ON_THE_HUB):
        path, sha256 = found
        return _checked(path, sha256, "hub" if sha256 else "seen", record)
    tensors.check_reader(_ON_THE_HUB)
    remote = hub.ask(file.hub, _ON_THE_HUB)
    source = hub.address(file.hub, _ON_THE_HUB, remote.commit)
    verified = Verified(remote.sha256, "hub")
    _compare(verified, source, record)
    path = hub.fetch(remote)
    _keep(verified, source, record)
    return str(path), verified


def _from_address(file, cache):
    path = cache / _name(file.url)
    sha256, against = _known(file)
    if not manifest.begins(path, sha256):
        tensors.check_reader(path)
        download(file.url, str(path), sha256)
    return _checked(path, sha256, against, _record(file.url, cache))


def _known(file):
    """What the file at an address is compared with: digits, and their kind."""
    if file.sha256:
        return file.sha256, "pinned"
    return file.sha256_prefix, "prefix"


def _name(url):
    return pathlib.PurePosixPath(url).name


def _record(url, cache):
    return cache / f"{_name(url)}.json"


def _checked(path, beginning, against, record):
    """A path and a `Verified`, of a file that may be loaded."""
    found = manifest.sha256_of(path)
    if not found.startswith(beginning):
        raise ValueError(
            f"Expected a file with a sha256 that begins with {beginning}. "
            f"Received: path={path} with the sha256 {found}"
        )
    verified = Verified(found, against)
    _compare(verified, path, record)
    _keep(verified, path, record)
    return str(path), verified


def _compare(verified, source, record):
    """Refuses what has changed since it was first used."""
    if not record.is_file():
        return
    kept = json.loads(record.read_text("utf-8"))
    if kept["sha256"] != verified.sha256:
        raise ValueError(
            f"Expected a file with the sha256 {kept['sha256']}, which it had "
            f"when it was first used here. Received: {source} with the sha256 "
            f"{verified.sha256}; delete {record} to take it nevertheless"
        )


def _keep(verified, source, record):
    """Remembers a hash that this version of the package does not know."""
    if verified.against == "pinned" or record.is_file():
        return
    text = json.dumps(vars(verified) | {"source": str(source)}, indent=2)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        replace_text(record, f"{text}\n")
    except OSError:
        # Files in the caches of others load without a cache of our own, too.
        pass


def _torch_home():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return pathlib.Path(home, "hub")
