"""Weights of others are measured on ImageNet, of which there are some photos.

The network is one of timm with random weights, from a server of this machine.
"""

import json

import numpy as np
import pytest
from keras.src.applications import imagenet_utils
from PIL import Image

from aw_keras.image_files import read_image
from aw_keras.weights import published
from tests.photos import photos
from tests.weights.peers import compute, peer, randomised, tiny_timm
from tests.weights.server import put_on_hub, serving
from zoo import evaluate
from zoo.data import imagenet

(FILE,) = published("timm/resnet18.a1_in1k")

#: Ids of four classes, as folders have them, and their numbers.
CLASSES = {"n01440764": 0, "n02123159": 282, "n11939491": 985, "n15075141": 999}


@pytest.fixture(autouse=True)
def ids(monkeypatch):
    """What Keras would download: of the other classes, made up."""
    known = {str(n): [f"n{n:08}", f"class {n}"] for n in range(1000)}
    known |= {str(n): [name, name] for name, n in CLASSES.items()}
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", known)
    return [name for name, _ in known.values()]


@pytest.fixture
def folder(tmp_path):
    """Photos of any size in the folders of four classes."""
    for name, photo in zip(CLASSES, photos().values()):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.fromarray(photo).save(tmp_path / "val" / name / "photo.png")
    return tmp_path


def paths(folder):
    return sorted(folder.rglob("*.png"))


def expected(module, preprocessing, folder):
    """Loss and labels by PyTorch; the labels are those of the folders."""
    losses, found = [], []
    for path in paths(folder):
        image = preprocessing(read_image(path))
        (logits,) = compute(module, image[None]).astype("float64")
        shifted = logits - logits.max()
        chances = np.exp(shifted) / np.exp(shifted).sum()
        losses.append(-np.log(chances[CLASSES[path.parent.name]]))
        found.append(int(logits.argmax()))
    return np.mean(losses), found


def test_a_named_file(folder, tmp_path, monkeypatch, capsys):
    save = pytest.importorskip("safetensors.torch").save
    module = randomised(peer("timm").create_model("resnet18"))
    content = save(module.state_dict())
    preprocessing = FILE.preprocessing
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    loss, guesses = expected(module, preprocessing, folder)
    # One photo goes where the network thinks that it belongs.
    right = imagenet.load(folder).class_names[guesses[0]]
    with serving() as front, serving() as back:
        put_on_hub(front, back, FILE.hub, content)
        monkeypatch.setenv("HF_ENDPOINT", front.root)
        arguments = ["--imagenet", str(folder), "--weights", FILE.name]
        evaluate.main(arguments)
        found = last_json(capsys)
        assert (found["images"], found["top1"]) == (4, 0)
        assert found["loss"] == pytest.approx(loss, abs=1e-3)
        assert found["weights"] == FILE.name
        assert found["published"] == FILE.top1 / 100
        assert len(found["sha256"]) == 64
        (folder / "val" / right).mkdir()
        paths(folder)[0].rename(folder / "val" / right / "photo.png")
        evaluate.main([*arguments, "--out", str(tmp_path / "out")])
    assert last_json(capsys)["top1"] == 0.25
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert kept["per_class"][right] == 1


def last_json(capsys):
    printed = capsys.readouterr().out
    return json.loads(printed[printed.index("{\n") :])


def test_a_file_by_its_path(folder, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    module = tiny_timm(classes=1000)
    path = tmp_path / "network.pth"
    torch.save(module.state_dict(), path)
    evaluate.main(["--imagenet", str(folder), "--weights", str(path)])
    found = last_json(capsys)
    assert found["images"] == 4 and "published" not in found
    other = tmp_path / "other.pth"
    torch.save(tiny_timm(classes=7).state_dict(), other)
    with pytest.raises(SystemExit, match="the 1000 classes"):
        evaluate.main(["--imagenet", str(folder), "--weights", str(other)])


def test_labels_are_those_of_all_classes(folder, ids):
    dataset = imagenet.load(folder)
    assert dataset.class_names == tuple(ids)
    assert [*dataset.y_test] == [*CLASSES.values()]
    assert len(dataset.x_train) == 0 and dataset.encoded
    (folder / "train" / "n01440764").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "train" / "n01440764" / "x.png")
    assert len(imagenet.load(folder).x_test) == 4
    assert len(imagenet.load(folder / "val").x_test) == 4


def test_all_classes_need_no_list(folder, monkeypatch):
    monkeypatch.setattr(imagenet, "_all_ids", None)
    (folder / "val").rename(folder / "moved")
    for n in range(1000 - len(CLASSES)):
        (folder / "moved" / f"n2{n:07}").mkdir()
        (folder / "moved" / f"n2{n:07}" / "x.jpg").touch()
    dataset = imagenet.load(folder / "moved")
    assert len(dataset.class_names) == 1000
    assert [*dataset.y_test] == [*range(1000)]


def test_what_is_not_imagenet(folder, tmp_path):
    (tmp_path / "none").mkdir()
    for source in (tmp_path / "none", folder / "val" / "n01440764"):
        with pytest.raises(ValueError, match="named by WordNet ids.*none"):
            imagenet.load(source)
    (folder / "val" / "n99999999").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "val" / "n99999999" / "x.png")
    with pytest.raises(ValueError, match="with n99999999"):
        imagenet.load(folder)
    (folder / "val").rename(folder / "train")
    with pytest.raises(ValueError, match="Received: .* with train"):
        imagenet.load(folder)


@pytest.mark.parametrize(
    "arguments",
    [["--imagenet", "x"], ["--imagenet", "x", "--weights", "y", "--check"]],
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        evaluate.main(arguments)
    assert end.value.code == 2
