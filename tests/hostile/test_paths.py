"""Archives and files of weights that reach for other files."""

import io
import tarfile

import h5py
import keras
import numpy as np
import pytest

from aw_keras import weights
from aw_keras.cli import networks as cli
from aw_keras.weights import loading
from tests.hostile.archives import members, network, rewrite
from zoo.data import sources


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


TRAVERSALS = [
    *("../escaped.png", "assets/../../../escaped.png"),
    *("/{folder}/escaped.png", "..\\escaped.png"),
]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_members_of_a_model_that_leave_it(name, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    network().save(path)
    member = name.format(folder=tmp_path)
    rewrite(path, members(path) | {"assets/a": b"", member: b"escaped"})
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = files_in(tmp_path)
    assert cli.load(str(path)).get_layer("stem").filters == 4
    weights.load(network(), path)
    assert files_in(tmp_path) == before


def test_members_of_an_archive_of_images_that_leave_it(tmp_path):
    """They are images like others, which nobody writes to the disk."""
    image = keras.utils.array_to_img(np.full((4, 4, 3), 7))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    secret = tmp_path / "secret.png"
    secret.write_bytes(buffer.getvalue())
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w") as archive:
        for split in ("train", "test"):
            for parent in ("..", f"{tmp_path}/..", "."):
                for name in ("cat", "dog"):
                    member = tarfile.TarInfo(f"{parent}/{split}/{name}/0.png")
                    member.size = buffer.tell()
                    archive.addfile(member, io.BytesIO(buffer.getvalue()))
            for kind in (
                *(tarfile.LNKTYPE, tarfile.SYMTYPE),
                *(tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE),
            ):
                member = tarfile.TarInfo(f"{split}/cat/special.png")
                member.type, member.linkname = kind, str(secret)
                archive.addfile(member)
    before = files_in(tmp_path)
    dataset = sources.load(path)
    assert len(dataset.x_train) == len(dataset.x_test) == 6
    assert files_in(tmp_path) == before


def _external(group, name, other):
    shape = group[name].shape
    del group[name]
    group.create_dataset(name, shape, "f4", external=[(other, 0, 2**20)])


def _virtual(group, name, other):
    shape, place = group[name].shape, group[name].name
    del group[name]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(other, place, shape)
    group.create_virtual_dataset(name, layout)


def _never_written(group, name, other):
    shape = group[name].shape
    del group[name]
    group.create_dataset(name, shape, "f4", chunks=True)


def _no_numbers(group, name, other):
    shape = group[name].shape
    del group[name]
    group[name] = np.full(shape, 1j)


def _linked_variable(group, name, other):
    place = group[name].name
    del group[name]
    group[name] = h5py.ExternalLink(other, place)


def _linked_layer(group, name, other):
    layer = group.parent
    place, parent = layer.name, layer.parent
    del parent[place]
    parent[place] = h5py.ExternalLink(other, place)


def _linked_layers(group, name, other):
    file = group.file
    del file["layers"]
    file["layers"] = h5py.ExternalLink(other, "layers")


def _endless(group, name, other):
    group.parent["layers"] = group.file["layers"]


VALUES_ELSEWHERE = (
    *(_external, _virtual, _never_written, _no_numbers),
    *(_linked_variable, _linked_layer, _linked_layers, _endless),
)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("hide", VALUES_ELSEWHERE, ids=lambda f: f.__name__)
def test_values_that_are_not_in_the_file(hide, suffix, tmp_path):
    """Loaded all the same, they would be of another file, or zeros."""
    other, path = tmp_path / "other.weights.h5", tmp_path / "file.weights.h5"
    model = network()
    for file in (other, path):
        model.save_weights(file)
    with h5py.File(path, "r+") as file:
        groups = [layer["vars"] for layer in file["layers"].values()]
        (group,) = (g for g in groups if g.attrs.get("name") == "stem")
        hide(group, "0", str(other))
    if suffix == ".keras":
        archive = tmp_path / "file.keras"
        rewrite(archive, {"model.weights.h5": path.read_bytes()})
        path = archive
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match="Expected .*Received: path="):
        weights.load(model, path)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    try:
        assert "vars/0" not in loading.read(str(path)).get("stem", {})
    except ValueError:
        assert hide in (_linked_layers, _endless)
