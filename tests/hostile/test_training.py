"""Trainings that diverge, and folders of runs that are damaged."""

import json

import numpy as np
import pytest

from tests.zoo import tiny
from tests.zoo.conftest import small_network  # noqa: F401
from zoo import evaluate as zoo_evaluate
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.train import main
from zoo.training import checkpoints
from zoo.training.measuring import measures

pytestmark = pytest.mark.usefixtures("small_network")

SETTINGS = [*tiny.SETTINGS, "epochs=2", "jit_compile=false"]


def refused(capsys, *settings, out):
    """The line with which a training ends."""
    arguments = [tiny.RECIPE, "--set", *SETTINGS, *settings, "--out", str(out)]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("good", [0, 1])
def test_a_training_that_diverges(good, tmp_path, capsys, monkeypatch):
    """The last checkpoint is from before, and the line says where it is."""
    save = checkpoints.save

    def diverged(folder, model, step, record, writes=True):
        if step > 3 * good:
            kernel = model.trainable_variables[0]
            kernel.assign(kernel * np.nan)
        save(folder, model, step, record, writes)

    monkeypatch.setattr(checkpoints, "save", diverged)
    line = refused(capsys, out=tmp_path)
    assert "the training has diverged" in line and "`learning_rate`" in line
    kept = sorted(tmp_path.glob("checkpoints/*"))
    assert [path.name for path in kept] == ["000000003.npz"][:good]
    last = kept[0] if kept else "none"
    assert line.endswith(f"the last good checkpoint is {last}")
    assert not Run(tmp_path).is_finished and len(Run(tmp_path).log) == good


def test_a_network_that_gives_nan():
    probabilities = np.full((4, 3), 1 / 3)
    probabilities[1] = np.nan
    with pytest.raises(ValueError, match="diverged. Received: 1 of 4 images"):
        measures(probabilities, np.zeros(4, int), "abc")


@pytest.fixture
def begun(tmp_path, capsys):
    """The folder of a training that was stopped."""
    run = Run(tmp_path / "run")
    run.claim(Recipe.from_file(tiny.RECIPE, SETTINGS))
    run.checkpoints.mkdir()
    return run


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\0" * 99, b"\xff\xfe", b"[]", b"{}", b"{", b"[" * 99_999),
        *(b'{"model": 3}', b'{"model": "ResNet20", "data": [], "epochs": 1}'),
    ],
)
def test_a_damaged_recipe_of_a_run(content, begun, capsys):
    (begun.folder / "run.json").write_bytes(content)
    line = refused(capsys, out=begun.folder)
    assert line.startswith("zoo.train: Expected ")


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_all_checkpoints_damaged(content, begun, capsys, recwarn):
    for name in ("000000003.npz", "000000006.npz"):
        path = begun.checkpoints / name
        if content is None:
            np.savez(path, record=np.array(json.dumps({"rows": []})))
        else:
            path.write_bytes(content)
    line = refused(capsys, out=begun.folder)
    assert "Expected a checkpoint that is whole" in line
    assert str(begun.checkpoints / "000000006.npz") in line
    assert not [w for w in recwarn if "passed over" in str(w.message)]


def test_what_killed_trainings_left_goes_at_the_next_start(begun):
    for folder in (begun.folder, begun.checkpoints):
        remains = folder / ".000000003.npz-abcdefgh.partial"
        remains.mkdir()
        (remains / "000000003.npz").write_bytes(b"half")
    with begun.locked():
        for folder in (begun.folder, begun.checkpoints):
            assert not list(folder.glob("*.partial"))
            assert not list(folder.glob(".*.partial"))


@pytest.mark.parametrize("field", ["name", "dataset"])
@pytest.mark.parametrize(
    "value", ["../../x", "/tmp/x", "a/b", "..", ".hidden", "a\\b", "a\nb", ""]
)
def test_names_that_lead_elsewhere(field, value):
    fields = {"model": "ResNet20", "data": "digits", "epochs": 1}
    with pytest.raises(ValueError, match=f"Expected `{field}` of the recipe"):
        Recipe(**fields | {field: value})


def test_a_damaged_model_of_a_run(begun, capsys):
    begun.model.write_bytes(b"damaged")
    (begun.folder / "metrics.json").write_text("{}")
    with pytest.raises(SystemExit) as end:
        zoo_evaluate.main([str(begun.folder)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("zoo.evaluate: Expected the file that")
