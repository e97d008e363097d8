"""Publishing: what becomes of runs, what is refused, what never changes."""

import dataclasses
import json
import re

import h5py
import keras
import numpy as np
import pytest

from aw_keras.applications.datasets import CIFAR10
from aw_keras.weights import loading, manifest, store
from tests.zoo.published import (
    DATA,
    empty_places,
    made_up_run,
    without_reading_weights,
)
from zoo import evaluate
from zoo.data.dataset import Dataset
from zoo.publish import main, publish, read_run
from zoo.publishing import check as zoo_check
from zoo.publishing import table


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Runs of two networks with three seeds each."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        (model, seed): made_up_run(
            folder / f"{model}-{seed}", model, seed, top1
        )
        for model, accuracies in (
            ("ResNet20", (0.80, 0.81, 0.82)),
            ("SEResNet20", (0.81, 0.83, 0.82)),
        )
        for seed, top1 in enumerate(accuracies)
    }


@pytest.fixture(scope="module")
def runs(folders):
    return {key: read_run(folder) for key, folder in folders.items()}


@pytest.fixture
def places(tmp_path):
    return empty_places(tmp_path)


@pytest.fixture
def quick():
    with without_reading_weights():
        yield


def everything(places):
    """The content of every file, by path."""
    folder = places.zoo.parent
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_becomes_row_curve_weights_and_entry(places, runs, folders):
    publish([runs["ResNet20", 0]], places)
    (row,) = table.read(places.table("cifar10"))
    assert dataclasses.astuple(row) == (
        *("ResNet20", "plain", 0, "cifar10_short", "CIFAR-10 (JPEG)", 8),
        *(269_722, 40_551_040, 80.0, 99.0, 600, "1 x CPU", "jax", "float32"),
        "",
    )
    curve = places.curve("cifar10", row).read_text().splitlines()
    assert curve[0] == "epoch,loss,accuracy,val_loss,val_accuracy"
    assert curve[3] == "3,0.33333,0.5,0.66667,0.46667"
    assert len(curve) == 9
    (file,) = manifest.read(places.manifest)
    path = places.weights / file.name
    assert list(path.parent.iterdir()) == [path]
    assert file == manifest.ReleasedFile(
        architecture="ResNet20",
        dataset="cifar10",
        url=f"resnet20-cifar10-{file.sha256[:8]}.weights.h5",
        sha256=manifest.sha256_of(path),
        bytes=path.stat().st_size,
        parameters=269_722,
        recipe="cifar10_short",
        seed=0,
        top1=80.0,
        seeds=(0,),
        top1_mean=80.0,
        top1_deviation=None,
        data="CIFAR-10 (JPEG)",
        licence="Apache-2.0",
        backend="jax",
        hardware="1 x CPU",
        preprocessing=CIFAR10.preprocessing,
    )
    ours, theirs = (
        loading.read(str(weights))
        for weights in (path, folders["ResNet20", 0] / "model.keras")
    )
    assert ours.keys() == theirs.keys()
    for layer, variables in ours.items():
        for name, value in variables.items():
            assert value.dtype == "float32"
            np.testing.assert_array_equal(value, theirs[layer][name])
    with h5py.File(path) as content:
        assert "optimizer" not in content


def test_publishing_again_changes_nothing(places, runs, quick):
    publish([runs["ResNet20", 0], runs["SEResNet20", 0]], places)
    before = everything(places)
    publish([runs["SEResNet20", 0]], places)
    publish([runs["ResNet20", 0], runs["ResNet20", 0]], places)
    assert everything(places) == before


def test_the_file_is_that_of_the_lowest_seed_and_stays(places, runs, quick):
    publish([runs["ResNet20", 2], runs["ResNet20", 1]], places)
    (first,) = manifest.read(places.manifest)
    assert (first.seed, first.top1) == (1, 81.0)
    assert (first.seeds, first.top1_mean) == ((1, 2), 81.5)
    assert first.top1_deviation == 0.71
    publish([runs["ResNet20", 0]], places)
    (later,) = manifest.read(places.manifest)
    assert (later.name, later.seed, later.top1) == (first.name, 1, 81.0)
    assert (later.seeds, later.top1_mean) == ((0, 1, 2), 81.0)
    assert later.top1_deviation == 1.0
    assert len(list((places.weights).iterdir())) == 1


def test_networks_are_compared_seed_by_seed(runs):
    plain, other = (
        {seed: run.row.top1 for (name, seed), run in runs.items() if name == m}
        for m in ("ResNet20", "SEResNet20")
    )
    found = table.compare(other, plain)
    # Differences of 1, 2 and 0 points: t = 1 / (1 / sqrt(3)).
    assert (found.pairs, round(found.mean, 6)) == (3, 1.0)
    assert found.deviation == pytest.approx(1)
    assert found.p == pytest.approx(0.2254, abs=1e-4)
    first, *rest = plain
    one = table.compare({first: other[first]}, plain)
    assert (one.pairs, one.p) == (1, None)
    assert table.compare({first: 1.0}, dict.fromkeys(rest, 1.0)) is None


def test_rows_survive_their_file(places, runs):
    rows = [run.row for run in runs.values()]
    rows[0] = dataclasses.replace(rows[0], hardware='8 x "GPU", of 80 GB')
    path = places.table("cifar10")
    table.write(path, reversed(rows))
    assert table.read(path) == rows


REFUSED = {
    "metrics.json": "without metrics.json",
    "log.csv": "0 of 8 epochs",
    "model.keras": "without model.keras",
}


@pytest.mark.parametrize("missing", REFUSED)
def test_unfinished_runs_are_refused(folders, tmp_path, missing):
    folder = tmp_path / "run"
    folder.mkdir()
    for path in folders["ResNet20", 0].iterdir():
        if path.name != missing:
            (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=REFUSED[missing]):
        read_run(folder)
    with pytest.raises(SystemExit, match=f"finished run.*{missing[:3]}") as end:
        main([str(folder)])
    assert end.value.code == 2


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"epochs": 10}, r"epochs=10 \(there epochs=8\)"),
        ({"limit": 1000}, "limit=1000"),
        ({"learning_rate": 0.1}, "learning_rate=0.1"),
        ({"recipe": "another"}, "another.yaml"),
    ],
)
def test_runs_that_are_not_of_their_recipe_are_refused(
    folders, tmp_path, changes, match
):
    metrics = json.loads((folders["ResNet20", 0] / "metrics.json").read_text())
    for name in ("log.csv", "model.keras"):
        (tmp_path / name).touch()
    (tmp_path / "metrics.json").write_text(json.dumps(metrics | changes))
    with pytest.raises((OSError, ValueError), match=match):
        read_run(tmp_path)


def test_a_log_of_too_few_epochs_is_refused(folders, tmp_path):
    for path in folders["ResNet20", 0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (tmp_path / "log.csv").read_text().splitlines()
    (tmp_path / "log.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match="7 of 8 epochs"):
        read_run(tmp_path)


def test_another_result_of_the_same_run_is_refused(places, runs, quick):
    run = runs["ResNet20", 0]
    publish([run], places)
    before = everything(places)
    other = dataclasses.replace(
        run, row=dataclasses.replace(run.row, top1=80.01)
    )
    with pytest.raises(ValueError, match="top1=80.01.*top1=80.0,"):
        publish([runs["SEResNet20", 0], other], places)
    assert everything(places) == before


def test_weights_of_another_network_are_refused(places, runs):
    run = dataclasses.replace(
        runs["SEResNet20", 0], run=runs["ResNet20", 0].run
    )
    before = everything(places)
    with pytest.raises(ValueError, match="do not fit"):
        publish([runs["ResNet20", 0], run], places)
    assert everything(places) == before


@pytest.fixture(scope="module")
def released(runs, tmp_path_factory):
    """A place where two files were released."""
    places = empty_places(tmp_path_factory.mktemp("released"))
    with without_reading_weights():
        publish([runs["ResNet20", 0], runs["SEResNet20", 0]], places)
    return places


@pytest.fixture
def files(released, monkeypatch):
    """These two files, and six random images to measure them on."""
    files = tuple(manifest.read(released.manifest))
    monkeypatch.setattr(zoo_check, "released", lambda: files)
    monkeypatch.setattr(store, "SHIPPED", released.weights)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), "uint8")
    labels = np.arange(6)
    dataset = Dataset(tuple("abcdefghij"), images, labels, images, labels)
    monkeypatch.setattr(zoo_check.sources, "load", lambda source: dataset)
    return files


@pytest.mark.parametrize(
    "backend, measured, good",
    [
        (None, 0.8005, True),
        (None, 0.8006, False),
        ("other", 0.8010, True),
        ("other", 0.7989, False),
    ],
)
def test_how_far_accuracies_may_be_off(
    files, monkeypatch, backend, measured, good
):
    monkeypatch.setattr(
        zoo_check, "network_of", lambda *arguments: (None, None)
    )
    monkeypatch.setattr(zoo_check, "on_pixels", lambda *arguments: None)
    monkeypatch.setattr(
        zoo_check, "evaluate", lambda *arguments: {"top1": measured}
    )
    file = dataclasses.replace(
        files[0], backend=backend or keras.backend.backend()
    )
    assert zoo_check.check(DATA, [file]) == [(file, 100 * measured, good)]


def test_the_command_that_measures_again(files, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="published accuracies"):
        evaluate.main(["--check", "--data", DATA])
    lines = capsys.readouterr().out.splitlines()
    for line, file in zip(lines, files, strict=True):
        assert re.match(
            rf"NOT {file.name}: [\d.]+ %, published {file.top1:.2f} % on "
            r"CIFAR-10 \(JPEG\)",
            line,
        )
    good = [(file, file.top1, True) for file in files]
    monkeypatch.setattr(zoo_check, "check", lambda source: good)
    evaluate.main(["--check", "--data", DATA])
    assert f"ok  {files[0].name}: 80.00 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--check"], ["--check", "ResNet20", "--data", DATA], []]
)
def test_commands_that_say_too_little_or_too_much(arguments):
    with pytest.raises(SystemExit):
        evaluate.main(arguments)


def test_other_data_are_not_measured(files):
    with pytest.raises(ValueError, match=r"\(JPEG\).*which is CIFAR-10$"):
        zoo_check.check("cifar10")
