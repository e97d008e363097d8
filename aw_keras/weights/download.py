"""Downloads that can be cut at any moment, and end in a verified file or none.

What has arrived waits beside its destination, under a name with the expected
hash, and the next attempt goes on from there. Only a file with that hash ever
gets the final name, in one step; a lock makes processes take turns.
"""

import contextlib
import http.client
import os
import time
import urllib.error
import urllib.request

import filelock

from aw_keras.weights.manifest import sha256_of

#: How often a download is attempted, how many seconds longer each pause is
#: than the one before, and how many seconds without a byte are an interruption.
ATTEMPTS = 5
PAUSE = 0.5
TIMEOUT = 30.0

_CHUNK = 1 << 16


class _Interrupted(Exception):
    """The connection failed in a way that the next one may not."""


def download(url, path, sha256, size):
    """Downloads a file, unless it is there.

    Args:
        url: Address of the file.
        path: Where to put it. Missing folders are made.
        sha256: Hash that the content must have.
        size: Number of bytes that the content must have.

    Raises:
        ValueError: If the content is not what it should be. It is deleted.
        ConnectionError: If the server does not give the file.
        OSError: If the folder cannot be written to.
    """
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        with filelock.FileLock(f"{path}.lock"):
            # Another process may have been faster.
            if not os.path.exists(path) or sha256_of(path) != sha256:
                _download(url, path, sha256, size)
    except ConnectionError:
        raise
    except OSError as error:
        raise OSError(
            "Expected a folder to download weights to: set the environment "
            "variable KERAS_HOME to one that can be written. "
            f"Received: folder={folder} ({error})"
        ) from error


@contextlib.contextmanager
def by_keras(what):
    """Makes the errors of Keras' own downloads those of `download`.

    Args:
        what: What is downloaded, for the error.

    Raises:
        ConnectionError: If the server does not give it.
    """
    try:
        yield
    except Exception as error:
        # Keras raises a bare `Exception` if it cannot reach a server.
        if type(error) is Exception or isinstance(
            error, http.client.HTTPException
        ):
            raise ConnectionError(
                f"Expected to download {what}. Received: {error}"
            ) from error
        raise


def _download(url, path, sha256, size):
    partial = f"{path}.{sha256}.partial"
    # Which files there are can be read where Keras is missing or broken.
    import keras

    if keras.config.is_interactive_logging_enabled():
        print(f"Downloading {url}")
    progress = keras.utils.Progbar(size, unit_name="byte")
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        try:
            _continue(url, partial, size, progress)
            break
        except _Interrupted as error:
            cause = error.__cause__
    else:
        raise ConnectionError(
            f"Expected to download {os.path.basename(path)}. What has arrived "
            f"is kept for the next attempt. Received: url={url} ({cause})"
        ) from cause
    found = sha256_of(partial)
    if found != sha256:
        os.remove(partial)
        raise ValueError(
            f"Expected {os.path.basename(path)} to have the sha256 {sha256}. "
            f"Received: url={url} with the sha256 {found}, which was deleted"
        )
    os.replace(partial, path)


def _continue(url, partial, size, progress):
    """Adds what is missing to a partial file, up to one byte too many."""
    with open(partial, "ab") as file:
        if file.tell() >= size:
            return
        with _opened(url, file.tell()) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                file.seek(0)
                file.truncate()
            while file.tell() <= size and (chunk := _read(response)):
                file.write(chunk)
                progress.update(min(file.tell(), size))
        if file.tell() < size:
            raise _Interrupted from EOFError(
                f"the connection ended after {file.tell()} of {size} bytes"
            )


@contextlib.contextmanager
def _opened(url, offset):
    """The response of the server, from a byte of the file on."""
    request = urllib.request.Request(url)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    with _interruptions(url):
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    with response:
        yield response


def _read(response):
    with _interruptions(response.url):
        return response.read(_CHUNK)


@contextlib.contextmanager
def _interruptions(url):
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code >= http.client.INTERNAL_SERVER_ERROR:
            raise _Interrupted from error
        raise ConnectionError(
            f"Expected a file to download. Received: url={url} ({error})"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted from error
