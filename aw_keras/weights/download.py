"""Downloads that can be cut at any moment, and end in a verified file or none.

What has arrived waits beside its destination, under a name with the expected
hash, and the next attempt goes on from there. Only a file with that hash ever
gets the final name, in one step; a lock makes processes take turns.
"""

import base64
import contextlib
import http.client
import os
import platform
import time
import urllib.error
import urllib.parse
import urllib.request

import filelock

from aw_keras.addresses import without_password
from aw_keras.weights.manifest import begins, sha256_of

#: How often a download is attempted, how many seconds longer each pause is
#: than the one before, and how many seconds without a byte are an interruption.
ATTEMPTS = 5
PAUSE = 0.5
TIMEOUT = 30.0

#: How many seconds of a pause that a server asks for are waited.
LONGEST_PAUSE = 30.0

#: Bytes a second that a download must have on average, after as many seconds.
LEAST_SPEED = 10_000
PATIENCE = 120.0

#: Bytes of the largest file whose size is not known before.
LARGEST = 2**32

#: How many seconds another process may take for the same file.
LONGEST_LOCK = 1800.0

_CHUNK = 1 << 16

#: Answers that the next one may not be: of a server that is busy, or slow.
_PASSING = (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS)


class _Interrupted(Exception):
    """The connection failed in a way that the next one may not.

    Attributes:
        pause: How many seconds the server asks to wait.
        anew: Whether what has arrived is of no use.
    """

    def __init__(self, pause=0.0, anew=False):
        super().__init__()
        self.pause = pause
        self.anew = anew


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects as they are, and keeps secrets from other servers."""

    def redirect_request(self, request, *arguments):
        new = super().redirect_request(request, *arguments)
        new.method = request.get_method()
        if _server(new.full_url) != _server(request.full_url):
            new.remove_header("Authorization")
        return new


class _NoRedirects(_Redirects):
    """Stays on one server: what sends to another one is the answer."""

    def redirect_request(self, request, *arguments):
        new = super().redirect_request(request, *arguments)
        same = _server(new.full_url) == _server(request.full_url)
        return new if same else None


def _server(url):
    """Scheme, host and port."""
    return urllib.parse.urlsplit(url)[:2]


def download(
    url, path, sha256, size=None, *, headers=None, lock=None, home="KERAS_HOME"
):
    """Downloads a file, unless it is there.

    Args:
        url: Address of the file.
        path: Where to put it. Missing folders are made.
        sha256: Hash that the content must have, or its beginning.
        size: Number of bytes that the content must have; `None` if only the
            server knows.
        headers: Dict of what the server is told, such as a token. Servers
            that it redirects to are not told the token.
        lock: Path of the file for which processes take turns; `None` for one
            beside `path`.
        home: The environment variable that decides about the folder, for the
            error.

    Raises:
        ValueError: If the content is not what it should be. It is deleted.
        ConnectionError: If the server does not give the file.
        OSError: If the folder cannot be written to.
    """
    folder = os.path.dirname(path)
    lock = lock or f"{path}.lock"
    url, headers = _without_password(url, headers)
    try:
        os.makedirs(folder, exist_ok=True)
        os.makedirs(os.path.dirname(lock), exist_ok=True)
        with _turn(lock):
            # Another process may have been faster.
            if not begins(path, sha256):
                _download(url, path, sha256, size, headers)
    except ConnectionError:
        raise
    except OSError as error:
        raise OSError(
            "Expected a folder to download weights to: set the environment "
            f"variable {home} to one that can be written. "
            f"Received: folder={folder} ({error})"
        ) from error


@contextlib.contextmanager
def _turn(lock):
    """Holds a lock, and says in a file beside it who does."""
    holder = f"{lock}.holder"
    try:
        with filelock.FileLock(lock, LONGEST_LOCK):
            try:
                with open(holder, "w", opener=_itself) as file:
                    file.write(f"process {os.getpid()} on {platform.node()}")
                yield
            finally:
                with contextlib.suppress(OSError):
                    os.remove(holder)
    except filelock.Timeout as error:
        by = "another process"
        with contextlib.suppress(OSError), open(holder) as file:
            by = file.read(200)
        raise ConnectionError(
            f"Expected a lock that is free in {LONGEST_LOCK:.0f} seconds. "
            f"Received: {lock}, held by {by}"
        ) from error


def _itself(path, flags):
    """Opens a file, never what a link in its place leads to."""
    if os.path.islink(path):
        os.remove(path)
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _without_password(url, headers):
    """An address that may be shown, and the headers that have its secrets."""
    headers = dict(headers or {})
    url, secret = without_password(url)
    if secret:
        secret = urllib.parse.unquote(secret).encode()
        basic = f"Basic {base64.b64encode(secret).decode()}"
        headers.setdefault("Authorization", basic)
    return url, headers


def head(url, headers=None):
    """What a server says of a file, before it sends to another server.

    Args:
        url: Address of the file.
        headers: As for `download`.

    Returns:
        The headers of the answer, a mapping from names in any case.

    Raises:
        ConnectionError: If the server does not answer, or has no such file.
    """

    url, headers = _without_password(url, headers)

    def ask():
        request = urllib.request.Request(url, headers=headers)
        request.method = "HEAD"
        try:
            with _interruptions(url), _answer(request, _NoRedirects) as answer:
                return answer.headers
        except ConnectionError as error:
            if 300 <= getattr(error.__cause__, "code", 0) < 400:
                return error.__cause__.headers
            raise

    return _repeated(ask, url)


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


def _download(url, path, sha256, size, headers):
    partial = f"{path}.{sha256}.partial"
    # Which files there are can be read where Keras is missing or broken.
    import keras

    if keras.config.is_interactive_logging_enabled():
        print(f"Downloading {url}")
    began = time.monotonic()
    _repeated(lambda: _continue(url, partial, size, headers, began), url)
    if not begins(partial, sha256):
        found = sha256_of(partial)
        os.remove(partial)
        raise ValueError(
            f"Expected {os.path.basename(path)} to have the sha256 {sha256}. "
            f"Received: url={url} with the sha256 {found}, which was deleted"
        )
    os.replace(partial, path)


def _repeated(action, url):
    """What an action returns, once nothing has interrupted it."""
    pause = 0.0
    for attempt in range(ATTEMPTS):
        time.sleep(max(PAUSE * attempt, pause))
        try:
            return action()
        except _Interrupted as error:
            cause, pause = error.__cause__, error.pause
        if pause > LONGEST_PAUSE:
            raise ConnectionError(
                f"Expected to download {_name(url)} now. Received: url={url}, "
                f"whose server asks to wait for {pause:.0f} seconds ({cause})"
            ) from cause
    raise ConnectionError(
        f"Expected to download {_name(url)}. What has arrived "
        f"is kept for the next attempt. Received: url={url} ({cause})"
    ) from cause


def _name(url):
    return os.path.basename(urllib.parse.urlsplit(url).path)


def _continue(url, partial, size, headers, began):
    """Adds what is missing to a partial file, up to one byte too many."""
    import keras

    limit = LARGEST if size is None else None
    with open(partial, "ab", opener=_itself) as file:
        offset = file.tell()
        if size is None:
            # The last byte again: no server has anything after the last one.
            offset = max(offset - 1, 0)
        elif offset >= size:
            return
        with _opened_or_anew(url, offset, headers, file) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                offset = 0
            file.seek(offset)
            file.truncate()
            if size is None and (left := response.headers["Content-Length"]):
                size = offset + int(left)
            progress = keras.utils.Progbar(size, unit_name="byte")
            while size is None or file.tell() <= size:
                if not (chunk := _read(response)):
                    break
                file.write(chunk)
                _check_speed(url, file.tell() - offset, began)
                if limit is not None and file.tell() > limit:
                    raise ConnectionError(
                        f"Expected {_name(url)} to have at most {limit} bytes. "
                        f"Received: url={url} with more"
                    )
                progress.update(min(file.tell(), size or file.tell()))
        if size is not None and file.tell() < size:
            raise _Interrupted from EOFError(
                f"the connection ended after {file.tell()} of {size} bytes"
            )


def _check_speed(url, count, began):
    """Gives up what would take for ever, though something still arrives."""
    seconds = time.monotonic() - began
    if seconds > PATIENCE + count / LEAST_SPEED:
        raise ConnectionError(
            f"Expected to download {_name(url)} at {LEAST_SPEED / 1000:.0f} kB "
            "a second. What has arrived is kept for the next attempt. "
            f"Received: url={url} with {count} bytes in {seconds:.0f} seconds"
        )


@contextlib.contextmanager
def _opened_or_anew(url, offset, headers, file):
    """`_opened`, of a file that begins anew where the server has no more."""
    try:
        with _opened(url, offset, headers) as response:
            yield response
    except _Interrupted as error:
        if error.anew:
            file.truncate(0)
        raise


@contextlib.contextmanager
def _opened(url, offset, headers):
    """The response of the server, from a byte of the file on."""
    request = urllib.request.Request(url, headers=headers)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    with _interruptions(url):
        response = _answer(request, _Redirects)
    with response:
        yield response


def _answer(request, redirects):
    opener = urllib.request.build_opener(redirects)
    return opener.open(request, timeout=TIMEOUT)


def _read(response):
    with _interruptions(response.url):
        # What is there: a whole chunk of a slow server takes long.
        return response.read1(_CHUNK)


@contextlib.contextmanager
def _interruptions(url):
    try:
        yield
    except urllib.error.HTTPError as error:
        if (
            error.code >= http.client.INTERNAL_SERVER_ERROR
            or error.code in _PASSING
        ):
            raise _Interrupted(_asked_pause(error)) from error
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _Interrupted(anew=True) from error
        raise ConnectionError(
            f"Expected a file to download. Received: url={url} ({error})"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted from error


def _asked_pause(error):
    """Seconds; servers may state a date instead, which is not waited for."""
    asked = error.headers.get("Retry-After") or ""
    return float(asked) if asked.isdecimal() else 0.0
