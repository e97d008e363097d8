"""Training: one small run, its interruptions, its files and its command."""

import csv
import dataclasses
import errno
import itertools
import json
import os
import shutil
import signal

import numpy as np
import pytest

from aw_keras.applications import CIFARResNet, ResNet20
from aw_keras.applications.datasets import CIFAR10, CIFAR100, IMAGENET
from aw_keras.weights import loading
from tests.zoo import tiny
from zoo import train as zoo_train
from zoo.data.dataset import Dataset
from zoo.data.preprocessing import channel_statistics, preprocessing_for
from zoo.data.sources import load_data
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.train import main
from zoo.training import checkpoints, network, optimization
from zoo.training.callbacks import Recorder, Stopped
from zoo.training.loop import train

pytestmark = pytest.mark.usefixtures("small_network")

# Eager loops are slow to trace twice, XLA is slow to compile once.
SETTINGS = [*tiny.SETTINGS, "jit_compile=false"]
COMMAND = [tiny.RECIPE, "--set", *SETTINGS, "--out"]
RECIPE = Recipe.from_file(tiny.RECIPE, SETTINGS)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of a run of `RECIPE` from the command line."""
    out = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "create_model", tiny.create_model)
        main([*COMMAND, str(out)])
    return out


def claimed(folder, recipe):
    """The `Run` of a recipe in a folder."""
    run = Run(folder)
    run.claim(recipe)
    return run


def stop_at(step):
    """A function that says to stop before so many steps."""
    steps = itertools.count()
    return lambda: next(steps) == step


def test_run_leaves_its_files(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {
        ".lock",
        "checkpoints",
        "log.csv",
        "metrics.json",
        "model.keras",
        "run.json",
        "tensorboard",
    }
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    assert metrics["recipe"] == "digits"
    assert metrics["model"] == "ResNet20"
    assert metrics["dataset"] == "digits"
    assert metrics["train_images"] == metrics["test_images"] == 96
    assert Run(uninterrupted).classifier().class_names == tuple("0123456789")
    assert metrics["parameters"] > 50_000
    assert metrics["multiply_adds"] > 500_000
    assert metrics["top1"] <= metrics["top5"] <= 1
    assert "core" in metrics["hardware"]
    with open(uninterrupted / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["loss"]) < float(rows[0]["loss"])
    assert float(rows[2]["learning_rate"]) == 0
    assert metrics["top1"] == pytest.approx(float(rows[2]["val_accuracy"]))
    assert metrics["loss"] == pytest.approx(
        float(rows[2]["val_loss"]), rel=1e-4
    )
    seconds = sum(float(row["seconds"]) for row in rows)
    assert metrics["train_seconds"] == pytest.approx(seconds)
    (events,) = (uninterrupted / "tensorboard").iterdir()
    assert b"val_accuracy" in events.read_bytes()


def test_weights_fit_the_network_of_the_library(uninterrupted):
    model = CIFARResNet(
        8,
        input_shape=(8, 8, 1),
        weights=uninterrupted / "model.keras",
    )
    dataset = load_data(RECIPE)
    mean, deviation = channel_statistics(dataset.x_train)
    labels = model.predict((dataset.x_test - mean) / deviation, verbose=0)
    accuracy = float(np.mean(labels.argmax(-1) == dataset.y_test))
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    assert accuracy == pytest.approx(metrics["top1"])


def test_stopped_run_ends_the_same(uninterrupted, tmp_path):
    """It stops amid the second of three epochs of three steps."""
    run = claimed(tmp_path, RECIPE)
    dataset = load_data(RECIPE)
    with pytest.raises(Stopped):
        train(RECIPE, dataset, run, stop_at(4))
    assert not (tmp_path / "metrics.json").exists()
    assert tiny.state(tmp_path)[0] == "000000004.npz"
    metrics = train(RECIPE, dataset, run)
    tiny.assert_same_end(tmp_path, uninterrupted)
    expected = json.loads((uninterrupted / "metrics.json").read_text())
    assert metrics["top1"] == pytest.approx(expected["top1"])
    log = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "1", "2", "3"]


def test_damaged_checkpoint_costs_an_epoch(uninterrupted, tmp_path):
    """The one before it is there, and the log is that of one training."""
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "metrics.json").unlink()
    last = max((run / "checkpoints").iterdir())
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="000000009.npz is damaged"):
        train(RECIPE, load_data(RECIPE), Run(run))
    tiny.assert_same_end(run, uninterrupted)
    assert len((run / "log.csv").read_text().splitlines()) == 4


def test_full_disk(tmp_path, monkeypatch):
    def full(file, **arrays):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints.np, "savez", full)
    with pytest.raises(SystemExit, match="zoo.train: .*No space left"):
        main([*COMMAND, str(tmp_path)])
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="zoo.train: .*Not a directory"):
        main([*COMMAND, str(tmp_path / "file" / "run")])


def test_moving_average_replaces_the_weights(tmp_path):
    """Also where a run goes on after its last epoch was complete."""
    recipe = dataclasses.replace(RECIPE, epochs=1, ema=0.5)
    run = claimed(tmp_path, recipe)
    train(recipe, load_data(recipe), run)
    _, state = tiny.state(tmp_path)
    averages = {k: v for k, v in state.items() if k.endswith("kernel_average")}
    model = CIFARResNet(
        8, input_shape=(8, 8, 1), weights=tmp_path / "model.keras"
    )
    kernels = [w for w in model.trainable_variables if w.name == "kernel"]
    for kernel, average in zip(kernels, averages.values(), strict=True):
        np.testing.assert_allclose(kernel, average, rtol=1e-6)
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "model.keras").unlink()
    train(recipe, load_data(recipe), run)
    again = run.classifier().network.trainable_variables
    for one, other in zip(again, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_complete_run_is_left_alone(uninterrupted, monkeypatch, capsys):
    monkeypatch.setattr(zoo_train, "train", None)
    main([*COMMAND, str(uninterrupted)])
    assert "this run is complete" in capsys.readouterr().out


def test_folder_of_another_run_is_refused(tmp_path):
    claimed(tmp_path, RECIPE)
    claimed(tmp_path, RECIPE)
    with pytest.raises(SystemExit, match=r"Received: seed=1 \(there seed=0\)"):
        main([*COMMAND, str(tmp_path), "--set", "seed=1"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model=ResNet21", "Received: name=ResNet21"),
        ("data=nowhere", "Expected .*nowhere"),
        ("distribute=data_parallel", "Expected the backend jax"),
    ],
)
def test_wrong_settings(tmp_path, setting, message):
    with pytest.raises(SystemExit, match=f"zoo.train: .*{message}"):
        main([*COMMAND, str(tmp_path / "run"), "--set", setting])


def test_signals(tmp_path, monkeypatch, capsys):
    """SIGTERM before the first step saves, and says how to go on."""
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    begin = Recorder.on_epoch_begin

    def killed(recorder, epoch, logs=None):
        os.kill(os.getpid(), signal.SIGTERM)
        begin(recorder, epoch, logs)

    monkeypatch.setattr(Recorder, "on_epoch_begin", killed)
    try:
        with pytest.raises(SystemExit) as caught:
            main([*COMMAND, str(tmp_path)])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert caught.value.code == 128 + signal.SIGTERM
    assert "The same command goes on" in capsys.readouterr().out
    assert tiny.state(tmp_path)[0] == "000000000.npz"


def test_mixed_precision(tmp_path):
    recipe = dataclasses.replace(
        RECIPE, epochs=1, limit=32, dtype="mixed_float16"
    )
    run = claimed(tmp_path, recipe)
    metrics = train(recipe, load_data(recipe), run)
    assert np.isfinite(metrics["loss"])
    variables = loading.read(str(tmp_path / "model.keras"))
    assert variables["conv1_conv"]["vars/0"].dtype == "float32"


def test_normalisation_is_that_of_the_library():
    cifar = Recipe("ResNet20", "../cifar.tar", 1, dataset="cifar100")
    assert preprocessing_for(cifar, None) == CIFAR100.preprocessing
    dataset = colour_images()
    own = preprocessing_for(Recipe("ResNet20", "pets", 1), dataset)
    np.testing.assert_allclose(own.mean, dataset.x_train.mean((0, 1, 2)))
    model = ResNet20(input_shape=(8, 8, 3))
    images = dataset.x_test.astype("float32")
    for preprocessing in (CIFAR10.preprocessing, IMAGENET.preprocessing):
        step = 1 if preprocessing.channels == "RGB" else -1
        normalised = images[..., ::step] - np.array(preprocessing.mean)
        np.testing.assert_allclose(
            network.on_pixels(model, preprocessing)(images),
            model(normalised / np.array(preprocessing.deviation)),
            atol=1e-5,
        )


def colour_images(samples=4, size=8):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (samples, size, size, 3), "uint8")
    labels = np.arange(samples) % 2
    return Dataset(("a", "b"), images, labels, images, labels)


def test_channel_statistics():
    images = colour_images().x_train
    images[..., 2] = 7
    mean, deviation = channel_statistics(images)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)))
    expected = images.std((0, 1, 2))
    np.testing.assert_allclose(deviation[:2], expected[:2])
    assert deviation[2] == 1


def test_weight_decay_spares_biases_norms_and_attention():
    model = CIFARResNet(8, conv="aw")
    optimization.compile_for(model, RECIPE, steps=10)
    spared = {
        variable.name
        for variable in model.trainable_variables
        if not model.optimizer._use_weight_decay(variable)
    }
    assert spared == {
        "attention_expand_bias",
        "attention_expand_kernel",
        "attention_reduce_bias",
        "attention_reduce_kernel",
        "beta",
        "bias",
        "gamma",
    }
    assert model.optimizer.weight_decay == pytest.approx(1e-3)


def test_steps_per_execution(uninterrupted, tmp_path):
    recipe = dataclasses.replace(RECIPE, steps_per_execution=3)
    run = claimed(tmp_path, recipe)
    train(recipe, load_data(recipe), run)
    tiny.assert_same_end(tmp_path, uninterrupted)
