"""Many trainings: slices of time, failures, and the table."""

import itertools
import json

import pytest

from tests.zoo import tiny
from zoo import train_many
from zoo.callbacks import Stopped
from zoo.recipe import Recipe

COMMAND = [
    *(tiny.RECIPE, "--models", "ResNet20", "AWResNet20"),
    *("--seeds", "0", "1", "--set", "limit=32", "epochs=2", "--out"),
]


@pytest.fixture
def trained(monkeypatch):
    """Replaces the training: each takes three looks at the clock."""
    calls = []

    def train(recipe, dataset, out, stop):
        calls.append(recipe.run_name)
        if recipe.run_name == "digits-AWResNet20-1":
            raise RuntimeError("diverged")
        for step in range(3):
            if stop():
                raise Stopped
            (out / "log.csv").write_text("seconds\n" + "2.5\n" * step)
        metrics = {"top1": 0.75, "top5": 1.0}
        (out / "metrics.json").write_text(json.dumps(metrics))

    monkeypatch.setattr(train_many, "train", train)
    return calls


@pytest.fixture
def minutes(monkeypatch):
    """A clock that is a minute later whenever somebody looks at it."""
    clock = itertools.count(step=60)
    monkeypatch.setattr(train_many.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(train_many, "Signals", lambda: lambda: False)


def test_slices(tmp_path, trained, minutes, capsys):
    command = [*COMMAND, str(tmp_path), "--minutes", "6"]
    train_many.main(command)
    assert trained == ["digits-ResNet20-0", "digits-AWResNet20-0"]
    printed = capsys.readouterr().out
    assert "1 of 4 runs are complete." in printed
    assert "75.00%" in printed
    with pytest.raises(SystemExit) as caught:
        train_many.main([*command, "--minutes", "60"])
    assert caught.value.code == 1
    assert trained[2:] == [
        "digits-AWResNet20-0",
        "digits-ResNet20-1",
        "digits-AWResNet20-1",
    ]
    printed = capsys.readouterr()
    assert "3 of 4 runs are complete." in printed.out
    assert "diverged" in printed.err


def test_a_real_run(tmp_path, small_network, monkeypatch, capsys):
    monkeypatch.setattr(train_many, "Signals", lambda: lambda: False)
    recipe = Recipe.from_file(
        tiny.RECIPE, ["epochs=1", "limit=32", "jit_compile=false"]
    )
    assert train_many.train_many([recipe], tmp_path, lambda: False) == {}
    folder = tmp_path / "digits-ResNet20-0"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == 1
    rows = train_many.table([recipe], tmp_path, {}).columns[1]
    assert list(rows.cells) == ["1/1"]


def test_wrong_recipe(tmp_path):
    with pytest.raises(SystemExit, match="zoo.train_many: .*Received: epoch"):
        train_many.main([*COMMAND, str(tmp_path), "--set", "epoch=1"])
