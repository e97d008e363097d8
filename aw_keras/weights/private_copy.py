"""The bytes that were checked are the bytes that are loaded.

A file may be replaced between its check and its use, by a download or by
somebody else. What has a known hash is therefore copied while it is hashed,
into a folder of this process alone, and used from there.
"""

import contextlib
import contextvars
import hashlib
import os
import tempfile

from aw_keras.weights import manifest

_CHUNK = 1 << 20

#: Path of a file, and the hash that was found when it was looked for.
_expected = contextvars.ContextVar("aw_keras_expected", default=(None, None))


@contextlib.contextmanager
def expecting(path, sha256):
    """Has a file be loaded with this hash only, by whoever loads it inside.

    Args:
        path: Path of a file, a string.
        sha256: 64 hexadecimal digits.
    """
    token = _expected.set((path, sha256))
    try:
        yield
    finally:
        _expected.reset(token)


@contextlib.contextmanager
def content_of(path):
    """A path from which the content of a file can be read as it was checked.

    Args:
        path: Path of a file, a string.

    Yields:
        The path of a copy, for the file that is expected, and for one that has
        the name of a released file; else `path`.

    Raises:
        ValueError: If such a file has another hash.
    """
    sha256 = _hash_of(path) if os.path.isfile(path) else None
    if sha256 is None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(path))
        found = _copy(path, copy)
        if found != sha256:
            raise ValueError(
                f"Expected the file with the sha256 {sha256}. "
                f"Received: path={path} with the sha256 {found}"
            )
        yield copy


def _hash_of(path):
    """The hash that a file has to have, or `None`."""
    expected, sha256 = _expected.get()
    if path == expected:
        return sha256
    for file in manifest.released():
        if file.name == os.path.basename(path):
            return file.sha256
    return None


def _copy(path, copy):
    """Hash of what was copied."""
    digest = hashlib.sha256()
    with open(path, "rb") as source, open(copy, "wb") as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()
