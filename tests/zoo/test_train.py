"""Training: one small run, its interruption, its files and its command."""

import csv
import json

import keras
import numpy as np
import pytest

from aw_keras.applications import ResNet20
from zoo import train as zoo_train
from zoo.data import Dataset, load, take
from zoo.train import (
    Batches,
    Checkpoint,
    Recipe,
    build,
    channel_statistics,
    claim,
    compile_for,
    crop_and_flip,
    main,
)

RECIPE = Recipe("ResNet20", "digits", epochs=2, batch_size=32, limit=96)
COMMAND = [
    *("--model", RECIPE.model, "--data", RECIPE.data),
    *("--epochs", str(RECIPE.epochs), "--batch-size", str(RECIPE.batch_size)),
    *("--limit", str(RECIPE.limit), "--out"),
]


def colour_images(samples=20, size=8):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (samples, size, size, 3), "uint8")
    labels = np.arange(samples) % 2
    return Dataset(("a", "b"), images, labels, images, labels)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of a run of `RECIPE` from the command line, and its log."""
    out = tmp_path_factory.mktemp("uninterrupted")
    main([*COMMAND, str(out)])
    return out


def final_weights(out):
    return keras.saving.load_model(out / "checkpoint.keras").get_weights()


def test_run_leaves_its_files(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {
        "checkpoint.keras",
        "log.csv",
        "metrics.json",
        "run.json",
        "saved_model",
    }
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    assert metrics["model"] == "ResNet20"
    assert metrics["train_images"] == metrics["test_images"] == 96
    assert metrics["class_names"] == list("0123456789")
    with open(uninterrupted / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert metrics["test_accuracy"] == pytest.approx(
        float(rows[1]["val_accuracy"])
    )


def test_checkpoint_predicts_from_pixels(uninterrupted):
    model = keras.saving.load_model(uninterrupted / "checkpoint.keras")
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    some = take(load("digits"), RECIPE.limit, RECIPE.seed)
    labels = model.predict(some.x_test, verbose=0).argmax(-1)
    accuracy = float(np.mean(labels == some.y_test))
    assert accuracy == pytest.approx(metrics["test_accuracy"])


def test_weights_fit_the_network_of_the_library(tmp_path):
    dataset = colour_images()
    trained = build("ResNet20", dataset)
    trained.save(tmp_path / "checkpoint.keras")
    network = ResNet20(
        input_shape=(8, 8, 3),
        classes=2,
        weights=tmp_path / "checkpoint.keras",
    )
    mean, deviation = channel_statistics(dataset.x_train)
    np.testing.assert_allclose(
        network.predict((dataset.x_test - mean) / deviation, verbose=0),
        trained.predict(dataset.x_test, verbose=0),
        atol=1e-5,
    )


def test_interrupted_run_ends_the_same(uninterrupted, tmp_path, monkeypatch):
    """The second of two epochs of three steps is interrupted in its middle."""
    steps = []

    def interrupt(callback, batch, logs=None):
        steps.append(batch)
        if len(steps) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_batch_end", interrupt)
        with pytest.raises(SystemExit, match="The same command goes on"):
            main([*COMMAND, str(tmp_path)])
    assert steps == [0, 1, 2, 0, 1]
    assert (tmp_path / "checkpoint.keras").exists()
    assert not (tmp_path / "metrics.json").exists()

    main([*COMMAND, str(tmp_path)])
    for resumed, expected in zip(
        final_weights(tmp_path), final_weights(uninterrupted), strict=True
    ):
        np.testing.assert_allclose(resumed, expected, rtol=1e-3, atol=1e-4)
    log = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "0", "1"]


def test_complete_run_is_left_alone(uninterrupted, monkeypatch, capsys):
    monkeypatch.setattr(zoo_train, "train", None)
    main([*COMMAND, str(uninterrupted)])
    assert "this run is complete" in capsys.readouterr().out


def test_folder_of_another_run_is_refused(tmp_path):
    claim(tmp_path, RECIPE)
    claim(tmp_path, RECIPE)
    with pytest.raises(SystemExit, match="Expected the arguments of the run"):
        main([*COMMAND, str(tmp_path), "--seed", "1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "ResNet21"], "invalid choice"),
        (["--epochs", "0"], "Expected a positive integer. Received: 0"),
        (["--limit", "some"], "Expected a positive integer. Received: some"),
    ],
)
def test_wrong_arguments(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        main([*COMMAND, str(tmp_path), *arguments])
    assert message in capsys.readouterr().err


def test_missing_data(tmp_path):
    with pytest.raises(SystemExit, match="zoo.train: Expected .*nowhere"):
        main([*COMMAND, str(tmp_path / "run"), "--data", "nowhere"])


def test_checkpoint_survives_a_failing_save(tmp_path, monkeypatch):
    dataset = colour_images()
    model = build("ResNet20", dataset)
    compile_for(model, steps=10, learning_rate=0.1)
    checkpoint = Checkpoint(tmp_path / "checkpoint.keras")
    checkpoint.set_model(model)
    checkpoint.on_epoch_end(0)
    before = (tmp_path / "checkpoint.keras").read_bytes()

    def half_a_file(path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(model, "save", half_a_file)
    with pytest.raises(OSError):
        checkpoint.on_epoch_end(1)
    assert (tmp_path / "checkpoint.keras").read_bytes() == before


def test_batches_use_every_image_once():
    dataset = colour_images(20)
    batches = Batches(dataset, 6, seed=3, augment=False)
    assert len(batches) == 3
    images = np.concatenate([batches[i][0] for i in range(3)])
    distinct = {image.tobytes() for image in images}
    assert len(distinct) == 18
    assert distinct < {image.tobytes() for image in dataset.x_train}


def test_one_batch_of_few_images():
    batches = Batches(colour_images(5), 128, seed=0, augment=False)
    assert len(batches) == 1
    assert len(batches[0][0]) == 5


def test_batches_are_decided_by_seed_and_epoch():
    dataset = colour_images()
    one, other = (Batches(dataset, 6, seed=3, augment=True) for _ in range(2))
    one[0], one[2]
    np.testing.assert_array_equal(one[1][0], other[1][0])
    one.start(1)
    assert not np.array_equal(one[1][0], other[1][0])
    other.start(1)
    np.testing.assert_array_equal(one[1][0], other[1][0])
    third = Batches(dataset, 6, seed=4, augment=True)
    third.start(1)
    assert not np.array_equal(third[1][0], other[1][0])


def test_crop_and_flip_gives_windows_of_the_padded_image():
    images = colour_images(40, 5).x_train
    background = np.array([1, 2, 3], "uint8")
    crops = crop_and_flip(images, 2, background, np.random.default_rng(0))
    assert crops.dtype == np.uint8
    seen = set()
    for image, crop in zip(images, crops, strict=True):
        padded = np.empty((9, 9, 3), "uint8")
        padded[:] = background
        padded[2:7, 2:7] = image
        seen |= {
            (top, left, step)
            for top in range(5)
            for left in range(5)
            for step in (1, -1)
            if np.array_equal(
                padded[top : top + 5, left : left + 5][:, ::step], crop
            )
        }
    assert {top for top, _, _ in seen} == set(range(5))
    assert {left for _, left, _ in seen} == set(range(5))
    assert {step for _, _, step in seen} == {1, -1}


def test_channel_statistics():
    images = colour_images().x_train
    images[..., 2] = 7
    mean, deviation = channel_statistics(images)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)))
    expected = images.std((0, 1, 2))
    np.testing.assert_allclose(deviation[:2], expected[:2])
    assert deviation[2] == 1


def test_weight_decay_spares_biases_and_norms():
    model = build("AWResNet20", colour_images())
    compile_for(model, steps=10, learning_rate=0.1)
    spared = {
        variable.name
        for variable in model.trainable_variables
        if not model.optimizer._use_weight_decay(variable)
    }
    assert spared == {
        "attention_expand_bias",
        "attention_reduce_bias",
        "beta",
        "bias",
        "gamma",
    }
