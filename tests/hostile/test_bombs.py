"""Files that are small on the disk and endless in memory."""

import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from aw_keras import weights
from aw_keras.cli import networks as cli
from aw_keras.weights import loading
from tests.hostile.archives import members, network, rewrite

HUGE = 2**26  # numbers, of 256 MiB
ALLOWED = 2**26  # bytes, a fourth of that

#: A chunk of zeros in which no number fits the shape of its array.
PACKED = zlib.compress(bytes(4 * HUGE), 1)


@pytest.fixture
def allocated():
    """Asserts that little was allocated at any time of the test."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < ALLOWED


def _packed(group, name, shape, chunks):
    """An array that says it has a shape, and has it in one chunk."""
    data = group.create_dataset(
        name, shape, "f4", chunks=chunks, compression="gzip", maxshape=chunks
    )
    data.id.write_direct_chunk((0,) * len(shape), PACKED)


def _another_layer(layers, stem):
    group = layers.create_group("another/vars")
    group.attrs["name"] = "another"
    _packed(group, "0", (HUGE,), (HUGE,))


def _another_variable(layers, stem):
    _packed(stem, "9", (HUGE,), (HUGE,))


def _another_shape(layers, stem):
    del stem["0"]
    _packed(stem, "0", (3, 3, HUGE // 36, 4), (3, 3, HUGE // 36, 4))


def _a_chunk_larger_than_its_array(layers, stem):
    del stem["0"]
    _packed(stem, "0", (3, 3, 3, 4), (3, 3, 3, HUGE // 27))


BOMBS = (
    *(_another_layer, _another_variable, _another_shape),
    _a_chunk_larger_than_its_array,
)


def write(path, change):
    """A file of weights of `network`, changed, at the path or in an archive."""
    file = path.with_name("file.weights.h5")
    network().save_weights(file)
    with h5py.File(file, "r+") as content:
        layers = content["layers"]
        (stem,) = (
            layer["vars"]
            for layer in layers.values()
            if layer["vars"].attrs.get("name") == "stem"
        )
        change(layers, stem)
    if path.suffix == ".keras":
        network().save(path)
        rewrite(path, members(path) | {"model.weights.h5": file.read_bytes()})
    return path


@pytest.mark.parametrize("name", ["file.weights.h5", "file.keras"])
@pytest.mark.parametrize("change", BOMBS, ids=lambda f: f.__name__)
def test_arrays(change, name, tmp_path, allocated):
    path = write(tmp_path / name, change)
    assert path.stat().st_size < 2e6
    check_refused(path)


def check_refused(path, message="would become"):
    model = network()
    before = model.get_weights()
    functions = [
        lambda: weights.load(model, path),
        lambda: weights.load(model, path, adapt=True),
        lambda: loading.read(str(path)),
        lambda: loading.shapes(str(path)),
    ]
    if path.suffix == ".keras":
        functions.append(lambda: cli.load(str(path)))
    for function in functions:
        with pytest.raises(ValueError, match=f"Expected .*{message}"):
            function()
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("member", ["model.weights.h5", "assets/large"])
def test_archives(member, tmp_path, allocated):
    path = tmp_path / "file.keras"
    network().save(path)
    contents = members(path) | {member: None}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            with archive.open(name, "w") as file:
                parts = [content] if content else [bytes(2**22)] * 64
                for part in parts:
                    file.write(part)
    check_refused(path)


def test_an_archive_of_pytorch(tmp_path, allocated):
    torch = pytest.importorskip("torch", reason="pip install 'aw-keras[torch]'")
    path = tmp_path / "file.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data/9", "w") as file:
            for _ in range(64):
                file.write(bytes(2**22))
    check_refused(path)


@pytest.mark.parametrize("levels", [1, 40])
def test_layers_with_several_names(levels, tmp_path):
    """Each doubles the number of ways to the last."""
    path = tmp_path / "file.weights.h5"
    network().save_weights(path)
    with h5py.File(path, "r+") as file:
        group = file["layers"]
        for _ in range(levels):
            group["one"] = group.create_group("two")
            group = group.create_group("one/layers")
    check_refused(path, "a place of its own")


def test_layers_within_themselves(tmp_path):
    path = tmp_path / "file.weights.h5"
    network().save_weights(path)
    with h5py.File(path, "r+") as file:
        inner = file["layers"].create_group("inner")
        inner["layers"] = file["layers"]
    check_refused(path, "a place of its own")
