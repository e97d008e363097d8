"""Files of the Hugging Face hub, in the cache that all its programs share.

It is found, asked and trusted as `huggingface_hub` does, by the same
environment variables: https://huggingface.co/docs/huggingface_hub. That package
is not needed. The hub says which hash a file has before it gives it; that is
what the file is called in the cache.
"""

import dataclasses
import os
import pathlib
import re

from aw_keras.files import replace_text
from aw_keras.weights import download as downloads

_SHA256 = re.compile("[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}")
_TRUE = ("1", "ON", "YES", "TRUE")
_REVISION = "main"


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file of a repository of models, as the hub has it.

    Attributes:
        repository: Its name, such as `"timm/resnet50.a1_in1k"`.
        name: Name of the file.
        commit: Commit that has it.
        sha256: Hash that the hub says it has.
        size: Number of bytes that the hub says it has.
    """

    repository: str
    name: str
    commit: str
    sha256: str
    size: int


def address(repository, name, revision=_REVISION):
    """The address of a file."""
    return f"{_endpoint()}/{repository}/resolve/{revision}/{name}"


def cached(repository, name):
    """Where a file is in the cache, and what the hub has said of its hash.

    Args:
        repository: Name of the repository.
        name: Name of the file.

    Returns:
        A pair of a path and a hash, which is empty where the cache does not
        say it; or `None`.
    """
    folder = _folder(repository)
    main = folder / "refs" / _REVISION
    newest = main.read_text("utf-8").strip() if main.is_file() else "*"
    for path in sorted(folder.glob(f"snapshots/{newest}/{name}")):
        if path.is_file():
            # Usually a link to a file whose name is the hash.
            blob = path.resolve().name
            return path, blob if _SHA256.fullmatch(blob) else ""
    return None


def ask(repository, name):
    """What the hub says of a file.

    Args:
        repository: Name of the repository.
        name: Name of the file.

    Returns:
        A `HubFile`.

    Raises:
        ConnectionError: If the hub cannot be asked, or does not say it.
    """
    url = address(repository, name)
    if _is_set("HF_HUB_OFFLINE"):
        raise ConnectionError(
            f"Expected to download {url}. Received: the environment variable "
            f"HF_HUB_OFFLINE={os.environ['HF_HUB_OFFLINE']}"
        )
    try:
        said = downloads.head(url, _headers())
    except ConnectionError as error:
        raise _explained(error, repository) from error
    sha256 = (said.get("X-Linked-ETag") or "").strip('W/"')
    size = said.get("X-Linked-Size") or ""
    commit = said.get("X-Repo-Commit") or ""
    if not (
        _SHA256.fullmatch(sha256)
        and size.isdecimal()
        and _COMMIT.fullmatch(commit)
    ):
        raise ConnectionError(
            "Expected the hub to say the sha256, size and commit of the file. "
            f"Received: url={url} with X-Linked-ETag={sha256!r}, "
            f"X-Linked-Size={size!r}, X-Repo-Commit={commit!r}"
        )
    return HubFile(repository, name, commit, sha256, int(size))


def fetch(file):
    """Downloads a file into the cache, unless it is there.

    Args:
        file: A `HubFile`.

    Returns:
        The path.

    Raises:
        ValueError: If it has another hash than the hub says.
        ConnectionError: If the hub does not give it.
        OSError: If the cache cannot be written to.
    """
    folder = _folder(file.repository)
    blob = folder / "blobs" / file.sha256
    downloads.download(
        address(file.repository, file.name, file.commit),
        str(blob),
        file.sha256,
        file.size,
        headers=_headers(),
        lock=str(_home() / ".locks" / folder.name / f"{file.sha256}.lock"),
        home="HF_HOME",
    )
    path = folder / "snapshots" / file.commit / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        try:
            path.symlink_to(os.path.relpath(blob, path.parent))
        except OSError:
            # Links are not for everybody on Windows. The cache may have the
            # file itself instead.
            os.replace(blob, path)
    main = folder / "refs" / _REVISION
    main.parent.mkdir(exist_ok=True)
    replace_text(main, file.commit)
    return path


def _explained(error, repository):
    """A `ConnectionError` that says what to do about closed doors."""
    if getattr(error.__cause__, "code", None) not in (401, 403):
        return error
    return ConnectionError(
        f"{error}: if it is private or gated, accept its terms at "
        f"{_endpoint()}/{repository} and set the environment variable HF_TOKEN"
    )


def _endpoint():
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _hugging_face():
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _path(os.environ.get("HF_HOME") or f"{cache}/huggingface")


def _home():
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if cache := os.environ.get(name):
            return _path(cache)
    return _hugging_face() / "hub"


def _path(text):
    return pathlib.Path(os.path.expandvars(os.path.expanduser(text)))


def _folder(repository):
    return _home() / f"models--{repository.replace('/', '--')}"


def _headers():
    token = _token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token():
    """That of the user, from where `hf auth login` leaves it, if anywhere."""
    if _is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        return None
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := os.environ.get(name, "").strip():
            return token
    path = os.environ.get("HF_TOKEN_PATH") or _hugging_face() / "token"
    path = _path(path)
    return path.read_text("utf-8").strip() if path.is_file() else None


def _is_set(name):
    return os.environ.get(name, "").upper() in _TRUE
