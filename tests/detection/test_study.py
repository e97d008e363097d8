"""The study on blood cells: what it measures and what it writes."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import csv
import json

import PIL.Image
import pytest

from aw_keras.detection.annotations import read_voc
from aw_keras.detection.predict import Detection
from aw_keras.detection.prepare import prepare
from tests.detection import pictures
from zoo import bccd
from zoo.publishing import table
from zoo.studies import bccd_run

CELLS = (
    ("RBC", 8, 4, 40, 36),
    ("WBC", 44, 20, 60, 60),
    ("Platelets", 70, 10, 90, 30),
)


@pytest.fixture
def folders(tmp_path):
    """A data set of two test images, and its TFRecords."""
    voc = pictures.write_voc(tmp_path / "voc", 2, split="test")
    for path in (voc / "Annotations").iterdir():
        path.write_text(pictures.xml(CELLS))
    dataset = read_voc(voc, "test", bccd_run.CLASSES)
    prepare(dataset, tmp_path / "data" / "test")
    return voc, tmp_path / "data"


def finds(*labels):
    """A detector that finds the cells of some classes, exactly."""
    return lambda image: [
        Detection(label, 0.9, *CELLS[label - 1][1:]) for label in labels
    ]


@pytest.mark.parametrize(
    "labels, expected", [((1, 2, 3), 100), ((1, 3), 66.667), ((), 0)]
)
def test_measures_what_is_found(labels, expected, folders):
    measured = bccd_run.measure(finds(*labels), *folders)
    assert measured["AP"] == measured["AP50"] == pytest.approx(expected)
    for label, name in enumerate(bccd_run.CLASSES, 1):
        found = 100 if label in labels else 0
        assert measured[f"AP {name}"] == measured[f"AP50 {name}"] == found


def test_all_runs_have_one_recipe(tmp_path):
    first, *others = (
        bccd_run.configure(variant, 1, tmp_path, 500).as_dict()
        for variant in bccd_run.VARIANTS
    )
    for other in others:
        assert other != first
        for params in (first, other):
            params["task"]["model"]["backbone"]["aw_resnet"] = None
        assert other == first


def test_the_schedule_follows_the_steps(tmp_path):
    params = bccd_run.configure("AW", 2, tmp_path, 200)
    rate = params.trainer.optimizer_config.learning_rate.stepwise
    assert (rate.boundaries, rate.values) == ([140, 180], [0.04, 0.004, 0.0004])
    assert params.task.train_data.seed == 2


def test_results(folders, tmp_path, monkeypatch):
    runs = {}
    for variant, seed in (("plain", 1), ("AW", 1), ("plain", 2)):
        folder = runs[variant, seed] = tmp_path / f"{variant}{seed}"
        folder.mkdir()
        metrics = {"backbone": variant, "seed": seed, "AP": 40.0}
        (folder / bccd_run.METRICS).write_text(json.dumps(metrics))
    drawn = []
    monkeypatch.setattr(
        bccd, "draw", lambda *arguments: drawn.append(arguments)
    )
    bccd.write_results(runs, *folders, table.Places(zoo=tmp_path))
    assert drawn == [(runs, *folders, tmp_path / "results/bccd.png")]
    with open(tmp_path / "results/bccd.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(r["backbone"], r["seed"], r["AP"]) for r in rows] == [
        ("plain", "1", "40.0"),
        ("AW", "1", "40.0"),
        ("plain", "2", "40.0"),
    ]


def test_picture(folders, tmp_path, monkeypatch):
    asked = []

    class Detector:
        def __init__(self, path):
            asked.append(path)

        def __call__(self, image, least_score):
            return finds(1, 2, 3)(image)

        def name(self, label):
            return "cell"

    monkeypatch.setattr(bccd.predict, "Detector", Detector)
    path = tmp_path / "picture.png"
    runs = {
        ("plain", 1): tmp_path / "a",
        ("AW", 1): tmp_path / "b",
        ("plain", 2): tmp_path / "c",
    }
    bccd.draw(runs, *folders, path, count=2)
    assert asked == [str(tmp_path / name / "exported") for name in "ab"]
    with PIL.Image.open(path) as picture:
        # Two images; the annotations and two networks.
        assert picture.size == (800, 960)
