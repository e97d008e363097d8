"""Files of others, from servers like the hub and like those of PyTorch.

Nothing here depends on the backend, and nothing leaves this machine.
"""

import hashlib
import json
import pathlib

import numpy as np
import pytest

from aw_keras.weights import download as downloads
from aw_keras.weights import fetch, hub, manifest, published, store, tensors
from aw_keras.weights.manifest import Verified
from tests.weights.server import COMMIT, put_on_hub, serving

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = CONTENT[::-1]
(FILE,) = published("timm/seresnet50.a1_in1k")

_VARIABLES = (
    *("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT"),
    *("HF_HUB_OFFLINE", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "TORCH_HOME"),
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, with all caches where they are by default."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(downloads, "PAUSE", 0)
    monkeypatch.setattr(downloads, "TIMEOUT", 5)
    return tmp_path


@pytest.fixture
def servers(home, monkeypatch):
    """The hub, and the server that it sends to."""
    with serving() as front, serving() as back:
        monkeypatch.setenv("HF_ENDPOINT", front.root + "/")
        yield front, back


@pytest.fixture
def answer(servers):
    """The headers with which the hub answers for the file."""
    return put_on_hub(*servers, FILE.hub, CONTENT)


def cached(home, commit=COMMIT):
    folder = home / ".cache/huggingface/hub/models--timm--seresnet50.a1_in1k"
    return folder / "snapshots" / commit / "model.safetensors"


def record(home):
    name = "timm--seresnet50.a1_in1k.safetensors.json"
    return home / "keras" / "models" / name


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_a_file_of_the_hub_is_downloaded_once(home, servers, answer, capsys):
    assert fetch(FILE) == str(cached(home))
    assert cached(home).read_bytes() == CONTENT
    assert COMMIT in capsys.readouterr().out
    kept = json.loads(record(home).read_text())
    assert (kept["sha256"], kept["against"]) == (SHA256, "hub")
    assert kept["source"] == hub.address(FILE.hub, "model.safetensors", COMMIT)
    for server in servers:
        server.shutdown()
    stored = store.resolve(FILE.name, "AWSEResNet50")
    assert stored.path == str(cached(home))
    assert stored.verified == Verified(SHA256, "hub")
    assert store.resolve(FILE.name, "AWResNet50") is None


def test_programs_of_the_hub_find_it(home, answer):
    theirs = pytest.importorskip("huggingface_hub")
    fetch(FILE)
    found = theirs.hf_hub_download(
        FILE.hub,
        "model.safetensors",
        cache_dir=home / ".cache/huggingface/hub",
        local_files_only=True,
    )
    assert found == str(cached(home))


def test_where_links_cannot_be_made(home, answer, monkeypatch):
    """As on Windows: then the hash is nowhere but in what is kept."""
    monkeypatch.setattr(pathlib.Path, "symlink_to", _refuse)
    for against in ("hub", "seen"):
        stored = store.resolve(FILE.name, "SEResNet50")
        assert stored.path == str(cached(home))
        assert stored.verified == Verified(SHA256, against)
        assert not cached(home).is_symlink()
    cached(home).write_bytes(OTHER)
    with pytest.raises(ValueError, match="when it was first used"):
        fetch(FILE)


def _refuse(*arguments, **keywords):
    raise OSError("no")


def test_a_cut_connection_is_taken_up_where_it_ended(home, servers, answer):
    _, back = servers
    back.cuts = [100_000, 0]
    fetch(FILE)
    assert cached(home).read_bytes() == CONTENT
    assert back.ranges == [None, *["bytes=100000-"] * 2]


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ],
)
def test_places_of_the_cache(variable, folder, home, answer, monkeypatch):
    monkeypatch.setenv("SCRATCH", str(home / "elsewhere"))
    monkeypatch.setenv(variable, str(home / "elsewhere"))
    if variable == "HF_HOME":
        monkeypatch.setenv(variable, "$SCRATCH")
    path = pathlib.Path(fetch(FILE))
    assert path.relative_to(home / "elsewhere" / folder).parts[1:] == (
        "snapshots",
        COMMIT,
        "model.safetensors",
    )
    assert not (home / ".cache").exists()


def test_a_token_is_for_the_hub_alone(home, servers, answer, monkeypatch):
    front, back = servers
    fetch(FILE)
    assert {*front.tokens, *back.tokens} == {None}
    kept = home / ".cache/huggingface/token"
    kept.write_text("kept\n")
    for expected, variable, value in (
        ("Bearer kept", "HF_TOKEN", "set"),
        ("Bearer set", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        (None, "", ""),
    ):
        cached(home).resolve().unlink()
        front.tokens, back.tokens = [], []
        fetch(FILE)
        assert front.tokens == [expected] * 2
        assert back.tokens == [None]
        if variable:
            monkeypatch.setenv(variable, value)


def test_what_the_hub_gives_is_what_it_says(home, servers, answer):
    _, back = servers
    back.files[f"/{SHA256}?signature=1"] = OTHER
    with pytest.raises(ValueError, match=f"{SHA256}.*deleted"):
        fetch(FILE)
    assert not cached(home).exists() and not record(home).exists()


def test_another_file_of_the_same_name_is_noticed(home, servers, answer):
    fetch(FILE)
    cached(home).resolve().unlink()
    put_on_hub(*servers, FILE.hub, OTHER, commit="f" * 40)
    servers[1].ranges = []
    with pytest.raises(ValueError, match=f"{SHA256}.*first used") as error:
        fetch(FILE)
    assert str(record(home)) in str(error.value)
    assert servers[1].ranges == []  # Before it is downloaded.
    record(home).unlink()
    assert pathlib.Path(fetch(FILE)).read_bytes() == OTHER
    # What another program has put into the cache since, too.
    put_on_hub(*servers, FILE.hub, CONTENT)
    hub.fetch(hub.ask(FILE.hub, "model.safetensors"))
    with pytest.raises(ValueError, match="first used"):
        fetch(FILE)


def test_a_damaged_file_in_the_cache_of_the_hub(home, answer):
    fetch(FILE)
    cached(home).resolve().write_bytes(OTHER)
    with pytest.raises(ValueError, match=SHA256):
        fetch(FILE)


@pytest.mark.parametrize(
    "change",
    [
        {"X-Linked-ETag": '"1a2b"'},
        {"X-Linked-Size": ""},
        {"X-Repo-Commit": "../.."},
    ],
)
def test_a_hub_that_does_not_say_it(change, home, answer):
    answer.update(change)
    with pytest.raises(ConnectionError, match="say the sha256, size and comm"):
        fetch(FILE)
    assert files_of(home) == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "gated.*HF_TOKEN"),
        (403, "gated.*HF_TOKEN"),
        (404, "404"),
        (500, "500"),
        (503, "503"),
    ],
)
def test_errors_of_the_hub(status, message, home, servers, answer):
    front, _ = servers
    front.status = status
    with pytest.raises(ConnectionError, match=message) as error:
        fetch(FILE)
    assert FILE.hub in str(error.value)
    attempts = downloads.ATTEMPTS if status >= 500 else 1
    assert len(front.tokens) == attempts
    assert files_of(home) == []


def test_a_hub_that_asks_to_wait(home, servers, answer, monkeypatch):
    pauses = []
    monkeypatch.setattr(downloads.time, "sleep", pauses.append)
    for server in servers:
        server.statuses = [429]
        server.failure = {"Retry-After": "7"}
    fetch(FILE)
    assert pauses.count(7) == 2
    cached(home).resolve().unlink()
    servers[0].statuses = [429]
    servers[0].failure = {"Retry-After": "300"}
    with pytest.raises(ConnectionError, match="wait for 300 seconds.*429"):
        fetch(FILE)


def test_offline(home, servers, answer, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE=1"):
        fetch(FILE)
    assert servers[0].tokens == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fetch(FILE)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(FILE) == str(cached(home))


def test_a_renamed_repository(home, servers, answer):
    """The hub sends to another path of its own, then elsewhere."""
    front, _ = servers
    for revision in ("main", COMMIT):
        path = f"/{FILE.hub}/resolve/{revision}/model.safetensors"
        moved = path.replace("timm", "new")
        front.redirects[moved] = front.redirects[path]
        front.redirects[path] = {"Location": moved, "Content-Length": "0"}
    fetch(FILE)
    assert cached(home).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written(home, answer):
    (home / ".cache").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="HF_HOME") as error:
        fetch(FILE)
    assert str(home / ".cache") in str(error.value)


def test_nothing_is_downloaded_that_cannot_be_read(
    home, servers, answer, monkeypatch
):
    monkeypatch.setattr(
        tensors.importlib.util, "find_spec", lambda package: None
    )
    with pytest.raises(ImportError, match=r"aw-keras\[safetensors\]"):
        fetch(FILE)
    assert servers[0].tokens == []
    with pytest.raises(ImportError, match=r"aw-keras\[torch\]"):
        fetch(published("akamaster/resnet20")[0])


@pytest.fixture
def address(servers, answer, monkeypatch):
    """The address of a file for PyTorch, which is given by another server."""
    front, back = servers
    path = f"/small-{SHA256[:8]}.th"
    front.redirects[path] = answer
    monkeypatch.setattr(tensors, "check_reader", lambda path: None)
    return front.root + path


def file_at(address, **changes):
    facts = {"hub": None, "url": address, "sha256_prefix": SHA256[:8]}
    return manifest.PublishedFile(**vars(FILE) | facts | changes)


def kept_at(home, address):
    return home / "keras" / "models" / pathlib.PurePosixPath(address).name


@pytest.mark.parametrize("with_lengths", [True, False])
@pytest.mark.parametrize("with_ranges", [True, False])
def test_a_file_whose_size_is_not_known(
    with_lengths, with_ranges, home, servers, address
):
    """A connection that ends too early is noticed by the hash at the latest."""
    _, back = servers
    back.with_lengths, back.with_ranges = with_lengths, with_ranges
    back.cuts = [100_000]
    for _ in range(2):
        try:
            path = fetch(file_at(address))
            break
        except ValueError as error:
            assert "deleted" in str(error) and not with_lengths
    assert path == str(kept_at(home, address))
    assert pathlib.Path(path).read_bytes() == CONTENT
    if with_lengths and with_ranges:
        assert back.ranges == [None, "bytes=99999-"]
    kept = json.loads(pathlib.Path(f"{path}.json").read_text())
    assert (kept["sha256"], kept["against"]) == (SHA256, "prefix")


def test_a_part_that_is_whole(home, address):
    path = kept_at(home, address)
    path.parent.mkdir(parents=True)
    partial = path.with_name(f"{path.name}.{SHA256[:8]}.partial")
    partial.write_bytes(CONTENT)
    assert pathlib.Path(fetch(file_at(address))).read_bytes() == CONTENT


def test_the_digits_of_a_name_are_checked(home, servers, address):
    servers[1].files[f"/{SHA256}?signature=1"] = OTHER
    with pytest.raises(ValueError, match=f"sha256 {SHA256[:8]}[.].*deleted"):
        fetch(file_at(address))
    assert not kept_at(home, address).exists()


def test_a_hash_that_is_known_is_pinned(home, servers, address):
    file = file_at(address, sha256=SHA256)
    stored = store._stored(file)
    assert stored.verified == Verified(SHA256, "pinned")
    assert not pathlib.Path(f"{stored.path}.json").exists()
    wrong = SHA256[:8] + "0" * 56
    with pytest.raises(ValueError, match=wrong):
        fetch(file_at(address, sha256=wrong))


def test_a_damaged_file_in_our_cache_is_replaced(home, address):
    path = kept_at(home, address)
    path.parent.mkdir(parents=True)
    path.write_bytes(OTHER)
    assert fetch(file_at(address)) == str(path)
    assert path.read_bytes() == CONTENT


def test_files_in_the_cache_of_pytorch(home, servers, address):
    path = home / ".cache/torch/hub/checkpoints" / kept_at(home, address).name
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    for repository in (None, FILE.hub):
        assert fetch(file_at(address, hub=repository)) == str(path)
    assert servers[0].tokens == []


def test_a_cache_of_ours_that_cannot_be_written(home, servers, address):
    """Files of others are loaded without it."""
    path = home / ".cache/torch/hub/checkpoints" / kept_at(home, address).name
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    (home / "keras").write_text("a file where a folder should be")
    assert fetch(file_at(address)) == str(path)
