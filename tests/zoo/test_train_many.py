"""Many trainings: slices of time, failures, and the table."""

import itertools
import json
import os
import subprocess
import sys

import pytest

from tests.zoo import tiny
from zoo import train_many
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.training.callbacks import Stopped

COMMAND = [
    *(tiny.RECIPE, "--models", "ResNet20", "AWResNet20"),
    *("--seeds", "0", "1", "--set", "limit=32", "epochs=2", "--out"),
]


@pytest.fixture
def trained(monkeypatch):
    """Replaces the training: each takes three looks at the clock."""
    calls = []

    def train(recipe, dataset, run, stop):
        calls.append(recipe.run_name)
        if recipe.run_name == "digits-AWResNet20-1":
            raise RuntimeError("diverged")
        for step in range(3):
            if stop():
                raise Stopped
            run.write_log("seconds\n" + "2.5\n" * step)
        metrics = {"top1": 0.75, "top5": 1.0}
        run._metrics.write_text(json.dumps(metrics))

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


def test_queue(tmp_path, trained, capsys, monkeypatch):
    monkeypatch.setattr(train_many, "Signals", lambda: lambda: False)
    queue = tmp_path / "queue"
    queue.write_text(
        f"# The short ones first.\n\n{tiny.RECIPE} seed=3 epochs=1\n"
        f"{tiny.RECIPE} model=AWResNet20 name='two words' # later\n"
    )
    out = tmp_path / "runs"
    train_many.main(
        ["--queue", str(queue), "--out", str(out), "--set", "limit=32"]
    )
    assert trained == ["digits-ResNet20-3", "two words-AWResNet20-0"]
    assert "2 of 2 runs are complete." in capsys.readouterr().out
    recipe = json.loads((out / trained[0] / "run.json").read_text())
    assert (recipe["epochs"], recipe["limit"]) == (1, 32)


@pytest.mark.parametrize(
    "text, message",
    [
        (f"{tiny.RECIPE} epochs=1\n{tiny.RECIPE} epochs=2", "Set `name`"),
        (f"{tiny.RECIPE} epoch=1", "Received: epoch"),
        ("no/such.yaml", "no/such.yaml"),
        (f"{tiny.RECIPE} 'epochs=1", "quotation"),
    ],
)
def test_wrong_queue(tmp_path, text, message):
    queue = tmp_path / "queue"
    queue.write_text(text)
    with pytest.raises(SystemExit, match=f"^zoo.train_many: .*{message}"):
        train_many.main(["--queue", str(queue), "--out", str(tmp_path)])


def test_a_recipe_or_a_queue(tmp_path, capsys):
    for command in ([], [tiny.RECIPE], [*COMMAND[:-1], "--queue", "x"]):
        with pytest.raises(SystemExit):
            train_many.main([*command, "--out", str(tmp_path)])
        assert "expected" in capsys.readouterr().err


def test_what_another_process_trains_is_left_out(tmp_path, trained):
    recipes = [
        Recipe.from_file(tiny.RECIPE, [f"seed={seed}", "limit=32"])
        for seed in (0, 1)
    ]
    busy = tmp_path / recipes[0].run_name
    busy.mkdir()
    with Run(busy).locked():
        with pytest.raises(BlockingIOError, match="no other process trains"):
            with Run(busy).locked():
                pass
        train_many.train_many(recipes, tmp_path, lambda: False)
    assert trained == ["digits-ResNet20-1"]
    train_many.train_many(recipes, tmp_path, lambda: False)
    assert trained == ["digits-ResNet20-1", "digits-ResNet20-0"]


def test_processes_share_the_work(tmp_path):
    """Two processes, each of one thread, of a command that lists them."""
    command = [
        *(sys.executable, "-c", PROCESS, "--out", str(tmp_path)),
        *(*COMMAND[:-1], "--processes", "2", "--threads", "1"),
    ]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("4 of 4 runs are complete.") == 1
    workers = [path.read_text() for path in tmp_path.glob("*/worker")]
    assert len(workers) == 4
    assert {text.split()[1] for text in workers} == {"1"}
    assert len({text.split()[0] for text in workers}) == 2


#: A command whose trainings wait until both processes have begun one, and
#: say by whom they were done.
PROCESS = """
import json, os, pathlib, sys, time
from zoo import train_many
from zoo.training import commands

def train(recipe, dataset, run, stop):
    out = run.folder
    (out.parent / f"process-{os.getpid()}").touch()
    while len([*out.parent.glob("process-*")]) < 2:
        time.sleep(0.1)
    threads = os.environ["OMP_NUM_THREADS"]
    (out / "worker").write_text(f"{os.getpid()} {threads}")
    (out / "metrics.json").write_text(json.dumps({"top1": 1, "top5": 1}))

train_many.train = train
commands.command = lambda module: [*sys.orig_argv]
train_many.main()
"""
