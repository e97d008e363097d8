"""Released weights by name, and damaged files by path, into networks."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from aw_keras.applications import (
    AWResNet20,
    ResNet20,
    get_entry,
    list_models,
    registry,
)
from aw_keras.applications.cifar_resnet import CIFARResNet
from aw_keras.applications.complexity import parameters
from aw_keras.applications.datasets import CIFAR10
from aw_keras.applications.variants import register_variants
from aw_keras.weights import load, manifest, released, store
from tests.weights.test_download import mutations, released_file


@pytest.fixture(scope="module")
def source():
    """A ResNet-20 that is like no other."""
    model = ResNet20()
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(keras.random.uniform(layer.gamma.shape))
    return model


@pytest.fixture
def shipped(source, tmp_path, monkeypatch):
    """A package with the file of that network, which is released."""
    path = tmp_path / "resnet20-cifar10-1.weights.h5"
    source.save_weights(path)
    file = released_file(
        path.read_bytes(), path.name, architecture="ResNet20", dataset="cifar10"
    )
    monkeypatch.setattr(manifest, "released", lambda: (file,))
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    return path


def assert_same(model, source):
    for ours, theirs in zip(model.weights, source.weights):
        np.testing.assert_array_equal(*map(np.asarray, (ours, theirs)))


def test_weights_by_the_name_of_the_data(shipped, source):
    model = ResNet20(weights="cifar10", name="awresnet20")
    assert_same(model, source)
    assert model.name == "awresnet20"
    assert model.weights_receipt.path == str(shipped)
    assert len(model.weights_receipt.loaded) == 39
    assert model.weights_receipt.dataset == "cifar10"
    assert model.weights_receipt.preprocessing == CIFAR10.preprocessing
    assert model.weights_receipt.verified.against == "pinned"
    body = ResNet20(weights="cifar10", include_top=False, pooling="max")
    assert_same(body, source)
    assert body.weights_receipt.left == ("predictions",)


def test_other_classes_are_for_those_who_ask(shipped, source):
    with pytest.raises(ValueError, match="(?s)adapt=True.*predictions: vars/0"):
        ResNet20(weights="cifar10", classes=100)
    model = ResNet20(weights="cifar10", classes=100, adapt=True)
    assert model.weights_receipt.adapted == ("predictions",)


def test_other_networks_do_not_have_the_weights(shipped):
    with pytest.raises(ValueError, match="Received: weights=cifar10"):
        AWResNet20(weights="cifar10", name="resnet20")
    with pytest.raises(ValueError, match="conv2_block1_1_conv: .*missing"):
        ResNet20(weights="cifar10", conv="aw")
    with pytest.raises(ValueError, match="Received: weights=cifar100"):
        ResNet20(weights="cifar100")


def test_a_released_file_is_checked_by_path_too(shipped):
    content = shipped.read_bytes()
    shipped.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    hashes = f"{manifest.released()[0].sha256}.*{shipped}.*[0-9a-f]{{64}}"
    for weights in ("cifar10", shipped, str(shipped)):
        with pytest.raises(ValueError, match=hashes):
            ResNet20(weights=weights)


def test_the_registry_knows_what_was_released(shipped, monkeypatch):
    monkeypatch.setattr(registry, "_entries", {})
    register_variants(
        CIFARResNet,
        "ResNet20",
        "Instantiates a network",
        {"depth": 20},
        paper="resnet",
        family="cifar_resnet",
        prefixes=("", "AW"),
        weights={"": ("imagenet",)},
        input_shape=(32, 32, 3),
        classes=10,
        preprocessing=get_entry,
    )
    assert list_models(pretrained=True) == ["ResNet20"]
    assert get_entry("ResNet20").weights == ("imagenet", "cifar10")
    assert get_entry("ResNet20").results == {"cifar10": 0.91}
    assert get_entry("AWResNet20").results == {}
    with pytest.raises(ValueError, match="'cifar10' for one of ResNet20"):
        ResNet20(weights="cifar")


def test_released_names_are_never_used_twice():
    names = [file.name for file in released()]
    assert len({*names}) == len(names)


def test_every_released_file_is_what_the_manifest_says():
    for file in released():
        entry = get_entry(file.architecture)
        assert entry.name == file.architecture
        assert file.dataset in entry.weights
        assert file.url == (
            f"{entry.name.lower()}-{file.dataset}-{file.sha256[:8]}.weights.h5"
        )
        shipped = store.SHIPPED / file.name
        assert store.fetch(file) == str(shipped)
        assert shipped.stat().st_size == file.bytes
        model = entry.factory(weights=file.dataset)
        assert parameters(model) == file.parameters
        newest = manifest.newest(entry.name)[file.dataset]
        mean = newest.top1_mean / 100
        assert entry.results[file.dataset] == pytest.approx(mean)


@pytest.fixture(scope="module")
def tiny():
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="stem")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(3, name="predictions")(x))


# What Keras says of layers of which it goes on to say that they failed.
@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_damaged_files(tiny, tmp_path, suffix):
    """Without a known hash, too: an error, or what is in the file."""
    path = tmp_path / f"file{suffix}"
    tiny.save_weights(path) if suffix == ".weights.h5" else tiny.save(path)
    content, before = path.read_bytes(), tiny.get_weights()
    refused = 0
    for damaged in mutations(content, 200, seed=1):
        path.write_bytes(damaged)
        tiny.set_weights([value + 1 for value in before])
        try:
            load(tiny, path)
        except ValueError as error:
            refused += 1
            assert re.search(f"Received: path={path}", str(error))
            expected = [value + 1 for value in before]
        else:
            expected = before
            # The values of a bare HDF5 file have no checksum.
            if suffix == ".weights.h5":
                continue
        for value, wanted in zip(tiny.get_weights(), expected):
            np.testing.assert_array_equal(value, wanted)
    assert refused > 50
