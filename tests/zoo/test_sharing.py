"""Released networks on the Hugging Face hub, of which there is a stand-in."""

import keras
import numpy as np
import pytest
import yaml

from aw_keras import Classifier
from aw_keras.applications import AWResNet20
from aw_keras.applications.datasets import CIFAR10
from aw_keras.weights import manifest, released
from tests.hub import sharing
from tests.zoo.published import empty_places, made_up_run
from zoo import publish
from zoo.publishing import model_card

(FILE,) = (file for file in released() if file.architecture == "AWResNet20")
NAME = "user/awresnet20"
ADDRESS = f"hf://{NAME}"


@pytest.fixture
def hub(tmp_path):
    with sharing(tmp_path / "cache") as hub:
        yield hub


def test_a_released_file_becomes_a_model(hub, capsys):
    publish.main([model_card.stem(FILE), "--to", ADDRESS])
    printed = capsys.readouterr().out
    assert f"{hub.root}/{NAME}/commit/{hub.commit(NAME)}" in printed
    assert hub.commits[NAME] == 1
    model = keras.saving.load_model(ADDRESS)
    assert isinstance(model, Classifier)
    assert model.class_names == CIFAR10.class_names
    network = AWResNet20(weights="cifar10")
    for ours, theirs in zip(model.network.weights, network.weights):
        np.testing.assert_array_equal(*map(np.asarray, (ours, theirs)))
    assert model.preprocessing == network.weights_receipt.preprocessing


def test_what_lies_beside_the_model(hub):
    publish.share(model_card.stem(FILE), ADDRESS)
    files = hub.repositories[NAME]
    shipped = publish.table.Places().weights / FILE.name
    assert files[FILE.name] == shipped.read_bytes()
    _, front, card = files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "keras"
    assert f'load_model("{ADDRESS}")' in card
    assert FILE.sha256 in card
    assert "changes here are lost" not in card


def test_a_run_is_published_first(hub, tmp_path):
    places = empty_places(tmp_path / "places")
    run = made_up_run(tmp_path / "run")
    publish.share(str(run), "hf://user/resnet20", places)
    (file,) = manifest.read(places.manifest)
    assert file.architecture == "ResNet20"
    assert file.name in hub.repositories["user/resnet20"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "--to", ADDRESS), f"{model_card.stem(FILE)}.*: nothing"),
        (("a", "b", "--to", ADDRESS), "one run or released file"),
        (("a", "--to", "user/name"), "Expected hf://USER/NAME"),
        (("a", "--to", "hf://name"), "Expected hf://USER/NAME"),
    ],
)
def test_what_cannot_be_shared(arguments, message, hub, capsys):
    with pytest.raises(SystemExit, match=message) as end:
        publish.main(list(arguments))
    assert end.value.code == 2
    assert not hub.repositories


def test_without_a_token(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(SystemExit, match="401") as end:
        publish.main([model_card.stem(FILE), "--to", ADDRESS])
    assert end.value.code == 2
    assert not hub.repositories


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(
        publish.sharing.importlib.util, "find_spec", lambda name: None
    )
    with pytest.raises(SystemExit, match="aw-keras.hub"):
        publish.main([model_card.stem(FILE), "--to", ADDRESS])
