"""Servers that never end, and secrets that nobody should read."""

import hashlib
import http.server
import os
import pathlib
import subprocess
import sys
import time

import pytest

from aw_keras.cli.commands import doctor
from aw_keras.weights import download as downloads
from aw_keras.weights.download import download
from tests.weights.server import serving

CONTENT = bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0)
    monkeypatch.setattr(downloads, "TIMEOUT", 5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "file"


@pytest.fixture
def server():
    with serving() as server:
        server.files["/file"] = CONTENT
        yield server


SIZE = len(CONTENT)


def get(url, path, size=SIZE):
    download(url, str(path), SHA256, size)
    assert path.read_bytes() == CONTENT


def partial(path):
    return path.with_name(f"{path.name}.{SHA256}.partial")


class Trickling(http.server.BaseHTTPRequestHandler):
    """A byte now and then, for ever."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:  # The other side has had enough.
            pass

    def log_message(self, *arguments):
        """Says nothing."""


class Flooding(Trickling):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(2**16))
        except OSError:
            pass


def serve(handler):
    return serving(lambda: http.server.ThreadingHTTPServer(*handler))


@pytest.mark.parametrize("size", [10**6, None])
def test_a_byte_now_and_then(size, path, monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE", 0.3)
    began = time.monotonic()
    with serve((("127.0.0.1", 0), Trickling)) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/file"
        with pytest.raises(ConnectionError, match="10 kB a second.*bytes in"):
            download(url, str(path), SHA256, size)
    assert time.monotonic() - began < 4
    assert partial(path).stat().st_size > 1  # For the next attempt.


def test_a_file_without_an_end(path, monkeypatch):
    monkeypatch.setattr(downloads, "LARGEST", 2**20)
    with serve((("127.0.0.1", 0), Flooding)) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/file"
        with pytest.raises(ConnectionError, match="at most 1048576 bytes"):
            download(url, str(path), SHA256)
    assert partial(path).stat().st_size < 2**21


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_answers_that_pass(status, path, server):
    server.statuses = [status, status]
    get(f"{server.root}/file", path)
    assert len(server.ranges) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_answers_that_stay(status, path, server):
    server.status = status
    with pytest.raises(ConnectionError, match=f"{status}"):
        get(f"{server.root}/file", path)
    assert len(server.ranges) == 1


def test_a_part_that_the_server_has_not(path, server):
    """Its file is smaller than what has arrived of another one."""
    path.parent.mkdir()
    partial(path).write_bytes(bytes(len(CONTENT) + 999))
    get(f"{server.root}/file", path, size=None)
    assert server.ranges == [f"bytes={len(CONTENT) + 998}-", None]


def test_a_lock_that_another_process_holds(path, server, monkeypatch):
    monkeypatch.setattr(downloads, "LONGEST_LOCK", 0.2)
    server.gate.clear()
    code = (
        "import sys; from aw_keras.weights.download import download\n"
        f"download(*sys.argv[1:], {len(CONTENT)})"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, f"{server.root}/file", path, SHA256],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"KERAS_BACKEND": "torch"},
    )
    while not server.ranges:
        time.sleep(0.05)
        assert other.poll() is None
    with pytest.raises(ConnectionError, match=f"held by process {other.pid} "):
        get(f"{server.root}/file", path)
    server.gate.set()
    assert other.wait() == 0
    get(f"{server.root}/file", path)
    assert not list(path.parent.glob("*.holder"))


@pytest.mark.parametrize("status", [None, 404, 503])
def test_a_password_in_an_address(status, path, server, capsys):
    server.status = status
    url = f"{server.root}/file".replace("//", "//user:s%65cret@")
    try:
        get(url, path)
        assert status is None
    except ConnectionError as error:
        shown = f"{error!r} {error.__cause__!r} {error.__context__!r}"
        assert "cret" not in shown and "user" not in shown
    printed = capsys.readouterr()
    assert "cret" not in printed.out + printed.err
    assert f"{server.root}/file" in printed.out
    assert set(server.tokens) == {"Basic dXNlcjpzZWNyZXQ="}


def test_a_password_in_the_environment(monkeypatch):
    url = "https://user:secret@example.org/weights"
    monkeypatch.setenv("AW_KERAS_WEIGHTS_URL", url)
    monkeypatch.setattr(doctor, "_probed", dict)
    monkeypatch.setattr(doctor, "_backend_conflicts", lambda backend: [])
    assert "secret" not in str(doctor.run(None))
    assert "https://example.org/weights" in str(doctor.run(None))


@pytest.mark.parametrize("name", ["partial", "holder"])
def test_links_in_the_place_of_files_are_not_followed(name, path, server):
    mine = path.parents[1] / "mine"
    mine.write_bytes(b"mine")
    path.parent.mkdir()
    place = {
        "partial": partial(path),
        "holder": path.with_name("file.lock.holder"),
    }[name]
    place.symlink_to(mine)
    get(f"{server.root}/file", path)
    assert mine.read_bytes() == b"mine" and not path.is_symlink()
