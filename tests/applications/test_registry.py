"""The registry: names, patterns, entries and what it says of unknown names."""

import dataclasses

import pytest

from aw_keras import applications
from aw_keras.applications import create_model, get_entry, list_models
from aw_keras.applications.registry import register


def test_every_network_is_exported():
    names = list_models()
    assert len(set(names)) == len(names)
    assert len([name for name in names if "ResNet" in name]) == 60
    for name in names:
        assert name in applications.__all__
        assert getattr(applications, name) is get_entry(name).factory
    for name in applications.__all__:
        assert callable(getattr(applications, name))


def test_patterns_in_any_case():
    assert list_models("awsersnet*") == []
    assert list_models("awseresnet?0") == ["AWSEResNet20", "AWSEResNet50"]
    assert list_models("DenseNet*") == ["DenseNetBC100", "DenseNetBC190"]


def test_pretrained():
    depths = (50, 101, 152)
    assert [
        name
        for name in list_models(pretrained=True)
        if "imagenet" in get_entry(name).weights
    ] == [f"{prefix}ResNet{depth}" for depth in depths for prefix in ("", "AW")]
    assert list_models("AW*50", pretrained=True) == ["AWResNet50"]


@pytest.mark.parametrize("name", ["AWResNet20", "awresnet20", "AWRESNET20"])
def test_any_case(name):
    model = create_model(name, classes=3, input_shape=(8, 8, 1))
    assert model.name == "awresnet20"
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize(
    "name, match",
    [
        ("AWRestNet20", "name=AWRestNet20; did you mean AWResNet20 or"),
        ("densenetbc10", "did you mean .*DenseNetBC100"),
        ("?", "one of `list_models..`. Received: name=.$"),
        (None, "Received: name=None"),
    ],
)
def test_unknown_names(name, match):
    for function in (create_model, get_entry):
        with pytest.raises(ValueError, match=match):
            function(name)


def test_entries_say_what_is_known():
    entry = get_entry("awresnet50")
    assert entry.name == "AWResNet50"
    assert entry.family == "imagenet_resnet"
    assert entry.input_shape == (224, 224, 3)
    assert entry.classes == 1000
    assert entry.weights == ("imagenet",)
    assert entry.licence == "Apache-2.0"
    assert entry.papers == (
        "https://arxiv.org/abs/1512.03385",
        "https://arxiv.org/abs/2108.08205",
    )
    assert dict(entry.results) == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.classes = 10
    with pytest.raises(TypeError):
        entry.results["imagenet"] = 0.8


@pytest.mark.parametrize("name", list_models())
def test_families_have_what_their_entries_say(name):
    entry = get_entry(name)
    family = getattr(applications, entry.family)
    assert getattr(family, name) is entry.factory
    assert callable(family.preprocess_input)
    assert callable(family.decode_predictions)


def test_names_are_taken_once():
    entry = dataclasses.replace(get_entry("ResNet20"), name="RESNET20")
    with pytest.raises(ValueError, match="not taken"):
        register(entry)
