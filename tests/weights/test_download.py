"""Released files: found, downloaded, taken up again, verified or refused.

Nothing here depends on the backend, and nothing leaves this machine.
"""

import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import pathlib
import re
import time

import filelock
import numpy as np
import pytest

from aw_keras import home
from aw_keras.weights import ReleasedFile, fetch, manifest, store
from aw_keras.weights import download as downloads
from tests.weights.server import serving

CONTENT = np.random.default_rng(0).bytes(300_000)


def released_file(content=CONTENT, name="net-data-1.weights.h5", **fields):
    known = {
        "architecture": "Net",
        "dataset": "data",
        "url": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": 3,
        "recipe": "short",
        "seed": 0,
        "top1": 91.5,
        "seeds": (0, 1),
        "top1_mean": 91.0,
        "top1_deviation": 0.7,
        "data": "Data (JPEG)",
        "licence": "Apache-2.0",
        "backend": "jax",
        "hardware": "CPU",
    }
    return ReleasedFile(**known | fields)


FILE = released_file()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A package and a Keras cache that are empty, and no address."""
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "package")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(home, "address", lambda: None)
    monkeypatch.delenv("AW_KERAS_WEIGHTS_URL", raising=False)
    monkeypatch.setattr(downloads, "PAUSE", 0)
    monkeypatch.setattr(downloads, "TIMEOUT", 5)
    return tmp_path


@pytest.fixture
def server(places, monkeypatch):
    """A server with the file, whose address is set."""
    with serving() as server:
        server.files[f"/weights/{FILE.name}"] = CONTENT
        monkeypatch.setenv("AW_KERAS_WEIGHTS_URL", server.url)
        yield server


def cached(places):
    return places / "home" / "models" / FILE.name


def partial(places):
    return cached(places).with_name(f"{FILE.name}.{FILE.sha256}.partial")


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_is_downloaded_once(places, server, capsys):
    assert fetch(FILE) == str(cached(places))
    assert cached(places).read_bytes() == CONTENT
    assert "300000/300000" in capsys.readouterr().out
    server.shutdown()
    assert fetch(FILE) == str(cached(places))
    assert server.ranges == [None]
    assert not partial(places).exists()


def test_the_slash_at_the_end_of_the_address_is_optional(server, monkeypatch):
    monkeypatch.setenv("AW_KERAS_WEIGHTS_URL", server.url + "/")
    assert pathlib.Path(fetch(FILE)).read_bytes() == CONTENT


def test_a_folder_is_an_address(places, monkeypatch):
    put(places / "mirror" / FILE.name, CONTENT)
    address = (places / "mirror").as_uri()
    monkeypatch.setenv("AW_KERAS_WEIGHTS_URL", address)
    assert pathlib.Path(fetch(FILE)).read_bytes() == CONTENT


def test_the_package_comes_first(places, server):
    put(cached(places), CONTENT)
    shipped = put(places / "package" / FILE.name, CONTENT)
    assert fetch(FILE) == str(shipped)
    assert server.ranges == []


def test_a_cut_connection_is_taken_up_where_it_ended(places, server):
    server.cuts = [100_000, 0, 50_000]
    assert pathlib.Path(fetch(FILE)).read_bytes() == CONTENT
    resumed = [100_000, 100_000, 150_000]
    assert server.ranges == [None, *(f"bytes={n}-" for n in resumed)]


def test_what_has_arrived_waits_for_the_next_attempt(places, server):
    server.cuts = [1_000] * downloads.ATTEMPTS
    with pytest.raises(ConnectionError, match="kept for the next") as error:
        fetch(FILE)
    assert f"{server.url}/{FILE.name}" in str(error.value)
    assert not cached(places).exists()
    assert partial(places).read_bytes() == CONTENT[:5_000]
    assert pathlib.Path(fetch(FILE)).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=5000-"


def test_servers_without_ranges_begin_again(places, server):
    server.with_ranges = False
    server.cuts = [100_000]
    assert pathlib.Path(fetch(FILE)).read_bytes() == CONTENT


def test_a_part_of_another_file_is_left_alone(places, server):
    other = put(partial(places).with_suffix(".0.partial"), b"other")
    assert pathlib.Path(fetch(FILE)).read_bytes() == CONTENT
    assert server.ranges == [None]
    assert other.read_bytes() == b"other"


FLIPPED = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])

#: What the server has, and what has arrived before.
WRONG = {
    "flipped": (FLIPPED, b""),
    "flipped later": (FLIPPED, CONTENT[:7]),
    "longer": (CONTENT + CONTENT, b""),
    "damaged part": (CONTENT, b"damaged"),
    "longer part": (CONTENT, CONTENT + b"0"),
    "other part": (CONTENT, FLIPPED),
}


@pytest.mark.parametrize("served, begun", WRONG.values(), ids=WRONG)
def test_another_hash_is_refused_and_deleted(places, server, served, begun):
    server.files[f"/weights/{FILE.name}"] = served
    put(partial(places), begun)
    with pytest.raises(ValueError, match="deleted") as error:
        fetch(FILE)
    found = re.findall("[0-9a-f]{64}", str(error.value))
    assert len(set(found)) == 2 and FILE.sha256 in found
    assert f"{server.url}/{FILE.name}" in str(error.value)
    assert not cached(places).exists()
    assert not partial(places).exists()
    if served == CONTENT:
        assert pathlib.Path(fetch(FILE)).read_bytes() == CONTENT


def test_a_shorter_file_never_gets_the_name(places, server):
    server.files[f"/weights/{FILE.name}"] = CONTENT[:-1]
    with pytest.raises(ConnectionError, match="299999 of 300000|416"):
        fetch(FILE)
    assert not cached(places).exists()


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_errors_of_the_server(places, server, status):
    server.status = status
    with pytest.raises(ConnectionError, match=str(status)) as error:
        fetch(FILE)
    assert f"{server.url}/{FILE.name}" in str(error.value)
    attempts = downloads.ATTEMPTS if status >= 500 else 1
    assert len(server.ranges) == attempts


def test_no_network(places, monkeypatch):
    with serving() as server:
        address = server.url
    monkeypatch.setenv("AW_KERAS_WEIGHTS_URL", address)
    with pytest.raises(ConnectionError, match="refused") as error:
        fetch(FILE)
    assert f"url={address}/{FILE.name}" in str(error.value)


def test_no_address(places):
    with pytest.raises(ConnectionError, match="AW_KERAS_WEIGHTS_URL"):
        fetch(FILE)


def test_the_address_of_the_project(places, server, monkeypatch):
    monkeypatch.delenv("AW_KERAS_WEIGHTS_URL")
    monkeypatch.setattr(home, "address", lambda: f"{server.root}/project")
    path = f"/project/releases/download/weights/{FILE.name}"
    server.files[path] = CONTENT
    assert fetch(FILE) == str(cached(places))


def test_a_cache_that_cannot_be_written(places, server):
    put(places / "home", b"a file where a folder should be")
    with pytest.raises(OSError, match="KERAS_HOME") as error:
        fetch(FILE)
    assert str(places / "home") in str(error.value)
    assert server.ranges == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_read_only_or_full_cache(places, server, monkeypatch, number):
    """A superuser may write anywhere, so that permissions do not test this."""

    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(downloads, "open", refuse, raising=False)
    with pytest.raises(OSError, match="KERAS_HOME") as error:
        fetch(FILE)
    assert os.strerror(number) in str(error.value)
    assert not isinstance(error.value, ConnectionError)


def test_a_file_in_a_read_only_cache_needs_no_lock(places, monkeypatch):
    put(cached(places), CONTENT)
    monkeypatch.setattr(filelock, "FileLock", None)
    assert fetch(FILE) == str(cached(places))


def _fetch_in_a_process(shipped, results):
    store.SHIPPED = shipped
    results.put("begun")
    results.put(fetch(FILE))


def test_two_processes_at_once(places, server):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    results = context.Queue()
    arguments = (places / "package", results)
    processes = [
        context.Process(target=_fetch_in_a_process, args=arguments)
        for _ in range(2)
    ]
    server.gate.clear()
    for process in processes:
        process.start()
    assert [results.get(), results.get()] == ["begun", "begun"]
    time.sleep(0.3)  # For the second one to reach the lock.
    assert not cached(places).exists()
    server.gate.set()
    assert [results.get(), results.get()] == 2 * [str(cached(places))]
    for process in processes:
        process.join()
    assert cached(places).read_bytes() == CONTENT
    assert server.ranges == [None]


def mutations(content, count, seed):
    """Damaged copies: cut short, or with bits or a few bytes changed."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        damaged = bytearray(content)
        place = int(rng.integers(len(content)))
        if number % 4 == 0:
            del damaged[place:]
        elif number % 4 == 1:
            damaged[place : place + 8] = rng.bytes(8)
        else:
            damaged[place] ^= 1 << int(rng.integers(8))
        if damaged != content:
            yield bytes(damaged)


def test_a_damaged_file_is_never_given_out(places):
    """Neither from the package, nor from a cache that cannot be mended."""
    shipped, kept = places / "package" / FILE.name, cached(places)
    for place, error in ((shipped, ValueError), (kept, ConnectionError)):
        for damaged in mutations(CONTENT, 150, seed=1):
            put(place, damaged)
            with pytest.raises(error, match=FILE.name):
                fetch(FILE)
        place.unlink()


def test_a_damaged_file_in_the_cache_is_replaced(places, server):
    put(cached(places), FLIPPED)
    fetch(FILE)
    assert cached(places).read_bytes() == CONTENT


def test_the_newest_file_of_a_network_is_taken(monkeypatch):
    older = released_file(name="older.weights.h5")
    other = released_file(name="other.weights.h5", dataset="other")
    released = (older, other, FILE, released_file(architecture="Else"))
    monkeypatch.setattr(manifest, "released", lambda: released)
    assert manifest.newest("Net") == {"data": FILE, "other": other}
    assert manifest.newest("net") == {}


def test_manifests_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([dataclasses.asdict(FILE)]))
    assert manifest.read(path) == [FILE]
