"""The bytes that were checked are the bytes that are loaded.

A file may be replaced between its check and its use, by a download or by
somebody else. What has a known hash is therefore copied while it is hashed,
into a folder of this process alone, and used from there.
"""

import contextlib
import hashlib
import os
import posixpath
import re
import tempfile

from aw_keras.weights import manifest

_CHUNK = 1 << 20
_SHA256 = re.compile("[0-9a-f]{64}")


@contextlib.contextmanager
def verified(path):
    """A path from which the content of a file can be read as it was checked.

    Args:
        path: Path of a file, a string.

    Yields:
        The path of a copy for a file that has the name of a released or
        published one; else `path`.

    Raises:
        ValueError: If such a file has another hash.
    """
    expected = _expected(path) if os.path.isfile(path) else None
    if expected is None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(path))
        found = _copy(path, copy)
        if not found.startswith(expected):
            raise ValueError(
                "Expected the file of that name, with a sha256 that begins "
                f"with {expected}. Received: path={path} with the sha256 "
                f"{found}"
            )
        yield copy


def _expected(path):
    """How the hash of a file of this name begins, or `None`."""
    name = os.path.basename(path)
    for file in manifest.released():
        if file.name == name:
            return file.sha256
    for file in manifest.published():
        if file.url and posixpath.basename(file.url) == name:
            return file.sha256 or file.sha256_prefix
    # The hub keeps a file under its hash, and links to it.
    blob = os.path.realpath(path)
    in_hub = os.path.basename(os.path.dirname(blob)) == "blobs"
    found = _SHA256.fullmatch(os.path.basename(blob)) if in_hub else None
    return found and found[0]


def _copy(path, copy):
    """Hash of what was copied."""
    digest = hashlib.sha256()
    with open(path, "rb") as source, open(copy, "wb") as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()
