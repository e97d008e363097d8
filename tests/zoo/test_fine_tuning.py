"""What recipes of fine-tuning add: where it begins, and how it trains."""

import csv
import dataclasses
import math

import keras
import numpy as np
import pytest
from keras import ops

from aw_keras.applications import CIFARResNet
from aw_keras.applications.datasets import CIFAR10
from tests.zoo import tiny
from zoo.data.augment import Augmentation
from zoo.data.dataset import Dataset
from zoo.data.preprocessing import preprocessing_for
from zoo.data.sources import load_data
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.training import network, optimization
from zoo.training.loop import train
from zoo.training.network import DropPathAdd, build, for_training

pytestmark = pytest.mark.usefixtures("small_network")

SETTINGS = ["batch_size=32", "limit=64", "epochs=1", "jit_compile=false"]
RECIPE = Recipe.from_file(tiny.RECIPE, [*SETTINGS, "warmup_epochs=0"])


def trained(folder, **changes):
    """The `Run` of a recipe, and its metrics."""
    recipe = dataclasses.replace(RECIPE, **changes)
    run = Run(folder)
    run.claim(recipe)
    return run, train(recipe, load_data(recipe), run)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run from random weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "create_model", tiny.create_model)
        run, _ = trained(tmp_path_factory.mktemp("runs") / "digits")
    return run


def weights_of(model):
    return {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}


def test_a_run_is_where_another_begins(digits, tmp_path):
    """Of other classes, with its preprocessing; what is frozen stays."""
    two = [str(n) for n in (0, 1)]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8, 1), "uint8")
    labels = np.arange(40) % 2
    dataset = Dataset(tuple(two), images, labels, images, labels)
    recipe = dataclasses.replace(
        RECIPE,
        data="two",
        dataset=None,
        limit=None,
        weights=str(digits.folder),
        adapt=True,
        frozen_stages=3,
        optimizer="adamw",
        learning_rate=0.01,
    )
    run = Run(tmp_path / "run")
    run.claim(recipe)
    train(recipe, dataset, run)
    before, after = digits.classifier(), run.classifier()
    assert after.class_names == ("0", "1")
    assert after.preprocessing == before.preprocessing
    assert preprocessing_for(recipe, dataset) == before.preprocessing
    old, new = weights_of(before.network), weights_of(after.network)
    same = {path for path in old if np.array_equal(old[path], new[path])}
    stages = {path.split("/")[-2].split("_")[0] for path in same}
    assert stages == {"conv1", "conv2", "conv3"}
    assert {path for path in old if "conv3_" in path} <= same
    moved = {path.split("/")[-2].split("_")[0] for path in old.keys() - same}
    assert moved == {"conv4", "predictions"}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"weights": "nowhere.keras"}, "nowhere.keras"),
        ({"weights": "RUN"}, "adapt=True"),
        (
            {"weights": "RUN", "adapt": True, "frozen_stages": 5},
            "at most the 4",
        ),
    ],
)
def test_what_does_not_fit(digits, changes, match):
    zeros = np.zeros((4, 8, 8, 1), "uint8")
    dataset = Dataset(("a", "b"), zeros, np.zeros(4), zeros, np.zeros(4))
    if changes["weights"] == "RUN":
        changes = changes | {"weights": str(digits.folder)}
    recipe = dataclasses.replace(RECIPE, **changes)
    with pytest.raises((OSError, ValueError), match=match):
        for_training(recipe, dataset)


def test_weights_of_a_name():
    recipe = Recipe("ResNet20", "pets", 1, weights="cifar10", adapt=True)
    assert preprocessing_for(recipe, None) == CIFAR10.preprocessing
    large = dataclasses.replace(recipe, image_size=64)
    assert preprocessing_for(large, None) == dataclasses.replace(
        CIFAR10.preprocessing, size=64
    )


@pytest.mark.parametrize(
    "field, value", [("frozen_stages", 1), ("adapt", True)]
)
def test_fields_that_need_weights(field, value):
    with pytest.raises(ValueError, match=f"Received: {field}={value}"):
        dataclasses.replace(RECIPE, **{field: value})


def moved(**changes):
    """How far gradients of one move the weights of a network."""
    recipe = dataclasses.replace(RECIPE, weight_decay=0.0, **changes)
    model = CIFARResNet(8, conv="aw")
    optimization.compile_for(model, recipe, steps=10)
    before = weights_of(model)
    variables = model.trainable_variables
    model.optimizer.build(variables)
    model.optimizer.apply([ops.ones(v.shape) for v in variables], variables)
    after = weights_of(model)
    return {
        path: float(np.mean(before[path] - after[path]))
        for path in (v.path for v in variables)
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_rates(optimizer):
    usual = moved(optimizer=optimizer)
    other = moved(optimizer=optimizer, head_rate=10.0, attention_rate=3.0)
    heads = [path for path in usual if path.startswith("predictions/")]
    assert len(heads) == 2
    for path, step in usual.items():
        rate = 10 if path in heads else 3 if "/attention_" in path else 1
        assert step > 1e-4
        assert other[path] == pytest.approx(rate * step, rel=1e-3)


def test_clipping():
    usual, clipped = moved(), moved(clip_norm=2.0)
    variables = CIFARResNet(8, conv="aw").trainable_variables
    count = sum(math.prod(v.shape) for v in variables)
    for path, step in usual.items():
        assert clipped[path] == pytest.approx(step * 2 / count**0.5, rel=1e-2)


def test_binary_cross_entropy():
    recipe = dataclasses.replace(
        RECIPE, cross_entropy="binary", label_smoothing=0.2
    )
    model = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    optimization.compile_for(model, recipe, steps=1)
    logits = np.array([[1.0, -2, 0.5], [0, 3, -1]])
    labels = np.eye(3)[[0, 2]]
    smooth = labels * 0.8 + 0.2 / 3
    p = 1 / (1 + np.exp(-logits))
    expected = -(smooth * np.log(p) + (1 - smooth) * np.log(1 - p)).mean()
    found = model.compute_loss(
        logits, ops.convert_to_tensor(labels), ops.convert_to_tensor(logits)
    )
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_drop_path():
    recipe = dataclasses.replace(RECIPE, drop_path=0.5)
    dataset = load_data(recipe)
    plain = for_training(dataclasses.replace(recipe, drop_path=0.0), dataset)
    dropping = for_training(recipe, dataset)
    dropping.set_weights(plain.get_weights())
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    found, expected = (
        ops.convert_to_numpy(model(x)) for model in (dropping, plain)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    sums = [s for s in dropping.layers if isinstance(s, DropPathAdd)]
    assert [layer.rate for layer in sums] == [0, 0.25, 0.5]
    assert len(build(recipe, dataset).weights) == len(dropping.weights)


def test_drop_path_keeps_the_mean():
    layer = DropPathAdd(0.25)
    shortcut, residual = np.full((2000, 1, 1, 2), 7.0), np.ones((2000, 1, 1, 2))
    np.testing.assert_array_equal(layer([shortcut, residual]), 8)
    found = np.array(layer([shortcut, residual], training=True)) - 7
    np.testing.assert_allclose(np.unique(found), [0, 4 / 3], rtol=1e-5)
    np.testing.assert_array_equal(found[..., 0], found[..., 1])
    assert np.mean(found == 0) == pytest.approx(0.25, abs=0.05)


def test_random_erasing():
    recipe = Recipe("ResNet20", "digits", 1, random_erasing=0.4)
    images = np.full((500, 16, 16, 3), 50, "uint8")
    augment = Augmentation(recipe, classes=2)
    found, _ = augment(images, np.zeros(500, int), 3)
    changed = (np.array(found) != 50).any(-1)
    assert changed.any((1, 2)).mean() == pytest.approx(0.4, abs=0.08)
    assert 0.01 < changed[changed.any((1, 2))].mean() < 0.4


def test_curves_are_those_of_the_average(tmp_path):
    run, metrics = trained(tmp_path, epochs=2, ema=0.9)
    with open(tmp_path / "log.csv") as file:
        last = list(csv.DictReader(file))[-1]
    assert metrics["top1"] == pytest.approx(float(last["val_accuracy"]))
    assert metrics["loss"] == pytest.approx(float(last["val_loss"]), rel=1e-4)


def test_everything_at_once(tmp_path):
    _, metrics = trained(
        tmp_path,
        drop_path=0.2,
        random_erasing=0.3,
        cutmix=1.0,
        mixup=0.2,
        clip_norm=1.0,
        ema=0.5,
        cross_entropy="binary",
        optimizer="adamw",
        learning_rate=1e-3,
        dtype="mixed_float16",
    )
    assert np.isfinite(metrics["loss"])
