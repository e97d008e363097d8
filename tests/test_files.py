"""Files and folders that take their names when they are complete."""

import os
import pathlib

import pytest

from aw_keras import files
from aw_keras.files import new_folder, replace_text, replacing


def tree(folder):
    """Dict from the paths below a folder to the texts of files."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else 0
        for path in folder.rglob("*")
    }


def write(path, kind, text):
    """A file of this text, or a folder with one."""
    if kind == "folder":
        path.mkdir()
        path /= "inside"
    path.write_text(text)


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("there", [True, False])
def test_what_is_complete_takes_its_place(kind, there, tmp_path):
    path = tmp_path / "name"
    if there:
        write(path, kind, "old")
    with replacing(path) as new:
        assert new.name == "name" and new != path
        write(new, kind, "new")
        if there:
            assert "old" in tree(tmp_path).values()
    write(tmp_path / "expected", kind, "new")
    found = tree(tmp_path)
    assert len(found) == (4 if kind == "folder" else 2)
    assert "new" in found.values() and "old" not in found.values()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_interrupted_leaves_the_old_and_no_trace(kind, tmp_path):
    path = tmp_path / "name"
    write(path, kind, "old")
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt), replacing(path) as new:
        write(new, kind, "half")
        raise KeyboardInterrupt
    assert tree(tmp_path) == before


@pytest.mark.parametrize("old, new", [("folder", "file"), ("file", "folder")])
def test_files_and_folders_do_not_replace_each_other(old, new, tmp_path):
    path = tmp_path / "name"
    write(path, old, "old")
    before = tree(tmp_path)
    with pytest.raises(OSError), replacing(path) as part:
        write(part, new, "new")
    assert tree(tmp_path) == before


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    path = tmp_path / "name"
    write(path, "folder", "old")
    before = tree(tmp_path)

    def fail(*arguments):
        raise OSError("full")

    monkeypatch.setattr(files, "_exchange", lambda *names: False)
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="full"), replacing(path) as part:
        write(part, "folder", "new")
    assert tree(tmp_path) == before


def test_there_has_to_be_a_folder_to_write_into(tmp_path):
    path = tmp_path / "missing" / "name"
    with pytest.raises(OSError, match="Expected .* folder that exists.*name"):
        with replacing(path):
            pass


def test_new_folders_replace_nothing(tmp_path):
    path = tmp_path / "made" / "name"
    with new_folder(path) as part:
        write(part, "folder", "new")
    with pytest.raises(ValueError, match="Expected `out` .*name"):
        with new_folder(path):
            pass
    assert pathlib.Path(path, "inside").read_text() == "new"


def test_a_text_is_replaced_whole(tmp_path):
    path = tmp_path / "log.csv"
    replace_text(path, "first\n")
    replace_text(path, "Ø\n")
    assert path.read_bytes() == "Ø\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_content_is_on_the_disk_before_the_name(
    kind, tmp_path, monkeypatch
):
    """And the name is, before anyone hears of it."""
    path, synced = tmp_path / "name", []
    fsync = os.fsync

    def spy(descriptor):
        found = os.fstat(descriptor)
        synced.append((found.st_ino, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", spy)
    with replacing(path) as new:
        write(new, kind, "new")
    for written in [path, *path.rglob("*")]:
        assert (written.stat().st_ino, False) in synced
    assert synced[-1] == (tmp_path.stat().st_ino, True)
