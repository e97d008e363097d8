"""Files that others have published: what is known, and where they are."""

import hashlib
import re

import keras
import numpy as np
import pytest

from aw_keras.applications import (
    AWResNet20,
    ResNet20,
    SEResNet50,
    get_entry,
    list_models,
)
from aw_keras.applications.datasets import DATASETS
from aw_keras.preprocessing import Preprocessing
from aw_keras.weights import Verified, manifest, published
from aw_keras.weights import download as downloads
from tests.weights.peers import (
    CIFARNet,
    compute,
    images,
    peer,
    randomised,
    torch,
)
from tests.weights.server import put_on_hub, serving

#: That of no other file.
PREPROCESSING = Preprocessing(size=32, crop=0.9, mean=(0.5, 1.0, 1.5))


def test_names_and_networks():
    names = [file.name for file in published()]
    assert len({*names}) == len(names) == 67
    for file in published():
        entry = get_entry(file.architecture)
        assert entry.name == file.architecture
        preprocessing = file.preprocessing
        assert entry.input_shape == (*preprocessing.size, 3)
        assert entry.preprocessing_of(file.name) == preprocessing
        assert file.dataset in DATASETS
        assert file in published(architecture=entry.name)
        assert file in published(architecture=f"AW{entry.name}")
        assert file.hub or file.url
        assert 60 < file.top1 < 95 and 0.8 < preprocessing.crop <= 1
        if file.url:
            assert f"-{file.sha256_prefix}." in file.url
        if file.sha256:
            assert len(file.sha256) == 64
            assert file.sha256.startswith(file.sha256_prefix)
        known = "pinned" if file.sha256 else "prefix"
        assert file.verification == ("hub" if file.hub else known)
        assert file.licence in {"Apache-2.0", "BSD-3-Clause", "BSD-2-Clause"}
    assert not published(architecture="CBAMResNet50")
    assert not [name for name in names if "fb_" in name]


def test_networks_that_have_weights_of_others():
    assert list_models(pretrained="akamaster/*") == [
        f"{prefix}ResNet{depth}"
        for depth in (20, 32, 44, 56, 110)
        for prefix in ("", "AW")
    ]
    assert list_models("*50", pretrained="timm/*.ra2_in1k") == [
        "SEResNet50",
        "AWSEResNet50",
    ]
    assert "ResNet20" in list_models(pretrained="cifar10")
    assert list_models(pretrained="nobody/*") == []


def test_preprocessing_of_timm():
    """Size and crop are one of the two that timm has for each."""
    timm = peer("timm")
    for file in published("timm/*"):
        known = timm.get_pretrained_cfg(file.hub.removeprefix("timm/"))
        assert known.architecture == file.architecture.lower()
        assert known.hf_hub_id == file.hub
        assert (known.url or None) == file.url
        assert known.license == file.licence.lower()
        preprocessing = file.preprocessing
        assert known.interpolation == preprocessing.interpolation
        assert preprocessing.channels == "RGB"
        sizes = [(known.input_size[1], known.crop_pct)]
        if known.test_input_size:
            crop = known.test_crop_pct or known.crop_pct
            sizes.append((known.test_input_size[1], crop))
        height, width = preprocessing.size
        assert height == width and (height, preprocessing.crop) in sizes
        for ours, theirs in (
            (preprocessing.mean, known.mean),
            (preprocessing.deviation, known.std),
        ):
            np.testing.assert_allclose(ours, 255 * np.array(theirs))


@pytest.fixture
def module():
    return randomised(CIFARNet(projection=False, blocks=3))


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Folders of each cache, all empty."""
    for name in ("XDG_CACHE_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return {
        "keras": tmp_path / "keras" / "models",
        "torch": tmp_path / "torch" / "hub" / "checkpoints",
        "hub": tmp_path / "hub",
    }


def write(module, folder, monkeypatch, **changes):
    """A published file with this network in a cache."""
    folder.mkdir(parents=True)
    path = folder / "file.th"
    torch.save(module.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    (file,) = published("akamaster/resnet20")
    facts = vars(file) | {
        "name": "someone/small",
        "url": f"https://example.org/small-{sha256[:8]}.th",
        "sha256": None,
        "preprocessing": PREPROCESSING,
        "sha256_prefix": sha256[:8],
    }
    path = path.rename(folder / f"small-{sha256[:8]}.th")
    file = manifest.PublishedFile(**facts | changes)
    monkeypatch.setattr(manifest, "_peers", lambda: (file,))
    return path


@pytest.mark.parametrize("cache", ["keras", "torch"])
@pytest.mark.parametrize("build", [ResNet20, AWResNet20])
def test_weights_by_name(build, cache, module, caches, monkeypatch):
    path = write(module, caches[cache], monkeypatch)
    model = build(weights="someone/small", classifier_activation=None)
    assert model.weights_receipt.path == str(path)
    assert model.weights_receipt.preprocessing == PREPROCESSING
    assert model.weights_receipt.dataset == "cifar10"
    assert model.weights_receipt.verified.against == "prefix"
    x = images(2, 32, 32, 3)
    found = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(found, compute(module, x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("sha256", [None, "0" * 64])
def test_a_file_with_another_hash(sha256, module, caches, monkeypatch):
    path = write(module, caches["torch"], monkeypatch, sha256=sha256)
    if sha256 is None:
        path.write_bytes(b"?")
    with pytest.raises(
        ValueError, match=f"begins with.*{re.escape(str(path))}"
    ):
        ResNet20(weights="someone/small")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("akamaster/resnet32", "which are those of ResNet32"),
        (
            "akamaster/resnet2",
            "no such file; did you mean .*akamaster/resnet20 ",
        ),
    ],
)
def test_names_of_other_networks(name, message):
    with pytest.raises(ValueError, match=f"weights={name} for.*{message}"):
        ResNet20(weights=name)


def test_a_download_to_a_network(module, caches, tmp_path, monkeypatch):
    pytest.importorskip("safetensors.torch").save_file(
        module.state_dict(), tmp_path / "small.safetensors"
    )
    content = (tmp_path / "small.safetensors").read_bytes()
    write(
        module, tmp_path / "other", monkeypatch, hub="someone/small", url=None
    )
    with serving() as front, serving() as back:
        put_on_hub(front, back, "someone/small", content)
        monkeypatch.setenv("HF_ENDPOINT", front.root)
        model = ResNet20(weights="someone/small", classifier_activation=None)
    receipt = model.weights_receipt
    assert receipt.verified == Verified(
        hashlib.sha256(content).hexdigest(), "hub"
    )
    assert str(receipt).endswith("... (hub)")
    assert receipt.path.startswith(str(caches["hub"]))
    assert receipt.preprocessing == PREPROCESSING
    x = images(2, 32, 32, 3)
    found = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(found, compute(module, x), rtol=0, atol=1e-4)


def test_files_that_cannot_be_downloaded(caches, monkeypatch):
    with serving() as server:
        address = server.root
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr(downloads, "PAUSE", 0)
    with pytest.raises(ConnectionError, match=f"{address}/timm/.*refused"):
        SEResNet50(weights="timm/seresnet50.a1_in1k")
