"""docs/your_own_data.md, command by command, with photos and small settings."""

import importlib
import json
import shlex
import signal

import keras
import numpy as np
import pytest
from PIL import Image

import aw_keras.cli
from tests.docs import test_pages
from tests.photos import photos
from zoo.recipe import Recipe

PAGE = test_pages.ROOT / "docs" / "your_own_data.md"
_HEADING = "## ImageNet, and more machines"


def own(text, tmp_path):
    """The page in the files of a reader: photos, and smaller settings."""
    path = tmp_path / "page.md"
    path.write_text(text)
    return list(test_pages.blocks(path))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of ResNet-18 as timm names them, with random numbers."""
    peers = pytest.importorskip("tests.weights.peers")
    torch = pytest.importorskip("torch")
    resnet = peers.peer("timm.models.resnet")
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet.resnet18().state_dict(), path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with `photos/`, `photo.jpg` and the project's zoo."""
    rng = np.random.default_rng(0)
    for name, of in (("heron", "landscape"), ("swan", "portrait")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        pixels = photos()[of]
        for number in range(10):
            height, width = rng.integers(60, 120, 2)
            top = rng.integers(pixels.shape[0] - height)
            left = rng.integers(pixels.shape[1] - width)
            part = pixels[top : top + height, left : left + width]
            Image.fromarray(part).save(
                tmp_path / "photos" / name / f"{number}.jpg"
            )
    Image.fromarray(photos()["landscape"]).save(tmp_path / "photo.jpg")
    (tmp_path / "zoo").symlink_to(test_pages.ROOT / "zoo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def handlers():
    """Trainings handle signals; afterwards they are handled as before."""
    numbers = signal.SIGTERM, signal.SIGINT
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(line, settings):
    """Runs a command line of the page in this process."""
    match shlex.split(line):
        case ["aw-keras", *arguments]:
            assert aw_keras.cli.main(arguments) == 0
        case ["python", "-m", module, *arguments]:
            if module == "zoo.train":
                arguments += ["--set", *settings]
            importlib.import_module(module).main(arguments)
        case _:
            pytest.fail(f"Nobody can run this: {line}")


def test_the_whole_way(folder, weights, handlers, capsys):
    small = f"weights={weights} image_size=32 epochs=1 batch_size=8"
    text, _, _ = PAGE.read_text().partition(_HEADING)
    names = {}
    (folder / "served" / "photos").mkdir(parents=True)
    for language, content in own(text, folder):
        if language == "sh":
            for line in content.splitlines():
                run(line, [*small.split(), "jit_compile=false"])
        elif language == "python":
            exec(content, names)
    printed = capsys.readouterr().out
    assert (
        "16 images of 2 classes to train AWResNet18 on, 4 held out" in printed
    )
    assert names["best"] in ("heron", "swan")
    (best, *_) = [line for line in printed.splitlines() if "photo.jpg" in line]
    assert names["best"] in best
    measured = json.loads((folder / "runs/photos/evaluation.json").read_text())
    metrics = json.loads((folder / "runs/photos/metrics.json").read_text())
    assert measured["top1"] == metrics["top1"] and measured["images"] == 4
    for path in ("explained.png", "photos.tflite", "runs/photos/confusion.png"):
        assert (folder / path).stat().st_size > 5000
    assert (folder / "served/photos/1/saved_model.pb").exists()
    network = keras.saving.load_model("runs/photos/model.keras").network
    assert network.get_layer("conv3_block1_1_conv").padding == "symmetric"


def test_recipes_of_more_machines(folder):
    _, _, text = PAGE.read_text().partition(_HEADING)
    kinds = set()
    for _, content in own(text, folder):
        for line in content.splitlines():
            _, _, module, path, *arguments = shlex.split(line)
            assert module == "zoo.train"
            settings = [a for a in arguments if "=" in a]
            kinds.add(Recipe.from_file(path, settings).distribute)
    known = {None, "mirrored", "data_parallel", "multi_worker", "tpu"}
    assert kinds == known
