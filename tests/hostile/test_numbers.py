"""Files whose numbers are none to compute with, or not those checked."""

import hashlib
import shutil

import keras
import numpy as np
import pytest

from aw_keras import weights
from aw_keras.cli import networks as cli
from aw_keras.weights import loading, manifest, pytorch
from tests.applications.networks import randomise
from tests.hostile.archives import network
from tests.hostile.test_bombs import write


def replace_by(values):
    def change(layers, stem):
        kernel = stem["0"][()]
        del stem["0"]
        stem["0"] = values(kernel)

    return change


def poisoned(poison):
    def values(kernel):
        kernel[1, 2, 0, 1] = poison
        return kernel

    return replace_by(values)


@pytest.mark.parametrize("name", ["file.weights.h5", "file.keras"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(poison, name, tmp_path):
    path = write(tmp_path / name, poisoned(poison))
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match="finite weights.*vars/0"):
        weights.load(model, path)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    if path.suffix == ".keras":
        with pytest.raises(ValueError, match="finite weights.*stem/kernel"):
            cli.load(str(path))


def test_half_precision_that_is_not_finite(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy("float32")
    kernel = model.get_layer("stem").kernel
    kernel.assign(kernel * np.inf)
    model.save_weights(tmp_path / "file.weights.h5")
    with pytest.raises(ValueError, match="finite weights.*vars/0"):
        weights.load(network(), tmp_path / "file.weights.h5")


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint32", "bool"])
@pytest.mark.parametrize("adapt", [False, True])
def test_whole_numbers_for_a_kernel(dtype, adapt, tmp_path):
    change = replace_by(lambda kernel: kernel.astype(dtype))
    path = write(tmp_path / "file.weights.h5", change)
    with pytest.raises(ValueError, match=f"stem: vars/0 of {dtype} for float"):
        weights.load(network(), path, adapt)


class Counter(keras.layers.Layer):
    def build(self, input_shape):
        self.count = self.add_weight((), "zeros", "int32", trainable=False)

    def call(self, x):
        return x


def test_whole_numbers_where_they_belong(tmp_path):
    def counting():
        image = keras.Input((4,))
        return keras.Model(image, Counter(name="counter")(image))

    path = tmp_path / "file.weights.h5"
    model = counting()
    model.layers[1].count.assign(7)
    model.save_weights(path)
    model = counting()
    weights.load(model, path)
    assert int(model.layers[1].count) == 7


@pytest.fixture
def swapped(tmp_path):
    """Two files of a network, and a function that has one replace the other."""
    networks = [randomise(network()), network()]
    paths = [tmp_path / f"{n}.weights.h5" for n in range(2)]
    for model, path in zip(networks, paths):
        model.save_weights(path)

    def swap():
        shutil.copy(paths[1], paths[0])

    return networks[0], paths[0], swap


def test_a_file_that_is_replaced_after_its_check(swapped, monkeypatch):
    source, path, swap = swapped
    (file,) = manifest.released()[:1]
    facts = vars(file) | {
        "url": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    released = (manifest.ReleasedFile(**facts),)
    monkeypatch.setattr(manifest, "released", lambda: released)
    opened = loading._opened

    def late(*arguments):
        swap()
        return opened(*arguments)

    monkeypatch.setattr(loading, "_opened", late)
    model = network()
    assert weights.load(model, path).path == str(path)
    for value, expected in zip(
        model.get_weights(), source.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(value, expected)
    with pytest.raises(ValueError, match=released[0].sha256):
        weights.load(model, path)


def test_a_file_of_others_that_is_replaced_after_its_check(
    tmp_path, monkeypatch
):
    peers = pytest.importorskip(
        "tests.weights.peers", reason="pip install 'aw-keras[torch]'"
    )
    from aw_keras.applications import ResNet20

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    modules = [peers.randomised(peers.CIFARNet(False, blocks=3))]
    modules.append(peers.randomised(peers.CIFARNet(False, blocks=3)))
    (tmp_path / "models").mkdir()
    paths = [tmp_path / "models" / f"{n}.th" for n in range(2)]
    for module, path in zip(modules, paths):
        peers.torch.save(module.state_dict(), path)
    sha256 = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    facts = vars(weights.published("akamaster/resnet20")[0])
    changes = {
        "name": "someone/small",
        "url": f"https://example.org/{paths[0].name}",
        "sha256": sha256,
    }
    peer = manifest.PublishedFile(**facts | changes)
    monkeypatch.setattr(manifest, "_peers", lambda: (peer,))
    read = pytorch.read

    def late(path, content=None):
        if content:
            shutil.copy(paths[1], paths[0])
        return read(path, content)

    monkeypatch.setattr(pytorch, "read", late)
    model = ResNet20(weights="someone/small")
    kernel = modules[0].state_dict()["conv1.weight"].numpy()
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model.get_layer("conv1_conv").kernel),
        kernel.transpose(2, 3, 1, 0),
    )
