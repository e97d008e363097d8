"""Data sets that are cut, far too large, or made of links."""

import io
import os
import sys
import tarfile

import keras
import numpy as np
import pytest

from tests.zoo import tiny
from tests.zoo.test_data import FILES, check, image, write_folder, write_tar
from zoo.data import encoded
from zoo.data.sources import load
from zoo.train import main
from zoo.training import network


def contents():
    return {name: image(level) for name, level in FILES.items()}


def test_an_archive_that_is_cut_anywhere(tmp_path):
    """At the end of a member, a reader of archives takes it for whole."""
    path = write_tar(tmp_path / "data.tar", contents(), "w")
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        ends = {member.offset for member in archive} | {archive.offset}
    end = max(ends)
    check(load(path))
    rng = np.random.default_rng(0)
    for length in (*sorted(ends), *rng.integers(1, end + 512, 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="complete tar archive.*data.tar"):
            load(path)
    path.write_bytes(whole[: end + 512])
    check(load(path))


def test_an_archive_with_junk_between_members(tmp_path):
    path = write_tar(tmp_path / "data.tar", contents(), "w")
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1].offset
    path.write_bytes(whole[:last] + b"junk" * 128 + whole[last:])
    with pytest.raises(ValueError, match="complete tar archive"):
        load(path)


def declared(path, size):
    """An archive with a member that says it has so many bytes."""
    with tarfile.open(path, "w") as archive:
        for name, content in contents().items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo("train/cat/large.png")
        member.size = size
        archive.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
    return path


@pytest.mark.parametrize("size", [2**26 + 1, 2**40])
@pytest.mark.parametrize("as_files", [False, True])
def test_a_member_that_is_far_too_large(as_files, size, tmp_path):
    path = declared(tmp_path / "data.tar", size)
    with pytest.raises(ValueError, match=f"at most.*large.png of {size}"):
        load(path, as_files)


def test_a_member_that_unpacks_to_a_lot(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "LARGEST", 2**20)
    files = contents() | {"train/cat/large.png": bytes(2**20 + 1)}
    path = write_tar(tmp_path / "data.tgz", files, "w:gz")
    assert path.stat().st_size < 2**14
    with pytest.raises(ValueError, match="at most.*large.png of 1048577"):
        load(path)


def test_a_file_that_is_far_too_large(tmp_path):
    write_folder(tmp_path, contents())
    with open(tmp_path / "train/cat/large.png", "wb") as file:
        file.truncate(2**40)  # of which the disk has nothing
    with pytest.raises(ValueError, match="at most.*large.png of 1099511627776"):
        load(tmp_path)
    assert len(load(tmp_path, skip_bad=True).x_train) == 3


def test_links_are_followed(tmp_path):
    write_folder(tmp_path / "elsewhere", contents())
    folder = tmp_path / "data"
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            real = tmp_path / "elsewhere" / split / name
            (folder / split / name).symlink_to(real)
    check(load(folder))
    (tmp_path / "linked").symlink_to(folder)
    check(load(tmp_path / "linked"))


def test_links_that_lead_to_themselves(tmp_path):
    write_folder(tmp_path, contents())
    (tmp_path / "train/cat/again").symlink_to(tmp_path / "train")
    with pytest.raises(ValueError, match="Expected links.*cat/again"):
        load(tmp_path)


def test_special_files_are_no_images(tmp_path):
    write_folder(tmp_path, contents())
    os.mkfifo(tmp_path / "train/cat/pipe.png")
    (tmp_path / "train/cat/device.png").symlink_to("/dev/zero")
    (tmp_path / "train/cat/nowhere.png").symlink_to(tmp_path / "nowhere")
    check(load(tmp_path))


@pytest.mark.parametrize("suffix", ["", ".tar"])
def test_a_damaged_photo_in_the_middle_of_a_training(
    suffix, tmp_path, monkeypatch, capsys
):
    """It is decoded by tf.data, whose errors say much but not its name."""
    monkeypatch.setattr(network, "create_model", tiny.create_model)
    monkeypatch.setattr(sys, "argv", ["train"])
    files = contents()
    files["train/dog/bad.jpg"] = image(1)[:-40]
    path = tmp_path / f"data{suffix}"
    write_tar(path, files, "w") if suffix else write_folder(path, files)
    settings = [f"data={path}", "image_size=16", "batch_size=4", "epochs=1"]
    arguments = [tiny.RECIPE, "--set", *settings, "crop_padding=0"]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("zoo.train: Expected an image")
    assert "dog/bad.jpg" in line
    keras.backend.clear_session()
