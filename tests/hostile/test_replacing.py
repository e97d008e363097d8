"""Writers of one folder at once, and ones that are killed at any moment."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from aw_keras import files
from aw_keras.files import remove_remains, replacing

#: Without Keras, which takes long.
FOLDER = pathlib.Path(files.__file__).parent

WRITE = """
import pathlib, sys
import files
path, text, times = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
{harm}
for _ in range(times):
    with files.replacing(path) as new:
        new.mkdir()
        for name in ("one", "two"):
            (new / name).write_text(text)
"""

#: A system that cannot exchange two names.
TWO_STEPS = "files._exchange = lambda *names: False\n"

KILL = "lambda *names: __import__('os').kill(__import__('os').getpid(), 9)"


def start(path, text, times=1, harm=""):
    code = WRITE.format(harm=harm)
    return subprocess.Popen(
        [sys.executable, "-c", code, path, text, str(times)],
        cwd=FOLDER,
        stderr=subprocess.PIPE,
    )


def run(path, text, harm=""):
    process = start(path, text, harm=harm)
    process.communicate()
    return process.returncode


def found(path):
    return [(path / name).read_text() for name in ("one", "two")]


@pytest.mark.parametrize("harm", ["", TWO_STEPS], ids=["one", "two"])
def test_four_writers(harm, tmp_path):
    path = tmp_path / "folder"
    writers = [start(path, str(n), 40, harm) for n in range(4)]
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors.decode()
    one, two = found(path)
    assert one == two
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_always_finds_a_folder(tmp_path):
    if not files._exchange(tmp_path, tmp_path):
        pytest.skip("The system cannot exchange two names.")
    path = tmp_path / "folder"
    assert run(path, "old") == 0
    writer = start(path, "new", 40)
    while writer.poll() is None:
        assert path.is_dir()
    assert found(path) == ["new", "new"]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_kill(moment, tmp_path):
    path = tmp_path / "folder"
    assert run(path, "old") == 0
    harm = {
        "before": f"files._put = {KILL}",
        "between": f"{TWO_STEPS}files.os.replace = {KILL}",
        "after": f"files._sync = lambda p: p == path.parent and ({KILL})()",
    }[moment]
    assert run(path, "new", harm) == -signal.SIGKILL
    assert path.exists() == (moment != "between")
    assert len(list(tmp_path.iterdir())) == (1 if moment == "between" else 2)
    # The next writer fails, too, but finds out first.
    with pytest.raises(KeyboardInterrupt), replacing(path):
        raise KeyboardInterrupt
    text = "new" if moment == "after" else "old"
    assert found(path) == [text, text]
    assert list(tmp_path.iterdir()) == [path]


def test_remains_of_any_name(tmp_path):
    """But not what is in use, nor what only looks like it."""
    for name in ("one", "two"):
        harm = f"files._put = {KILL}"
        assert run(tmp_path / name, "new", harm) == -signal.SIGKILL
    mine = [tmp_path / ".one-copy", tmp_path / "two.partial"]
    for path in mine:
        path.mkdir()
    assert len(os.listdir(tmp_path)) == 4
    with replacing(tmp_path / "three") as new:
        remove_remains(tmp_path)
        new.write_text("three")
    assert sorted(tmp_path.iterdir()) == sorted([*mine, tmp_path / "three"])
    remove_remains(tmp_path / "none")
