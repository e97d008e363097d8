"""Measures of a classifier, against their definitions, and the command."""

import json

import numpy as np
import pytest
from PIL import Image

from aw_keras import Classifier
from aw_keras.applications import ResNet20
from aw_keras.preprocessing import Preprocessing
from tests.zoo import tiny
from zoo import evaluate
from zoo.data import sources
from zoo.data.preprocessing import preprocessing_for
from zoo.data.sources import load_data
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.training import measuring

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.ones(8), 200)
LABELS = RNG.integers(0, 8, 200)
NAMES = tuple("abcdefgh")


def test_measures():
    found = measuring.measures(PROBABILITIES, LABELS, NAMES)
    ranked = np.argsort(-PROBABILITIES, axis=1)
    hits = [label in row[:5] for label, row in zip(LABELS, ranked)]
    right = ranked[:, 0] == LABELS
    assert found["images"] == 200
    assert found["top1"] == pytest.approx(right.mean())
    assert found["top5"] == pytest.approx(np.mean(hits))
    logs = [-np.log(row[k]) for row, k in zip(PROBABILITIES, LABELS)]
    assert found["loss"] == pytest.approx(np.mean(logs))
    for place, name in enumerate(NAMES):
        assert found["per_class"][name] == pytest.approx(
            right[LABELS == place].mean()
        )
    confusion = np.array(found["confusion"])
    assert confusion.sum() == 200
    assert confusion[3, 5] == ((LABELS == 3) & (ranked[:, 0] == 5)).sum()


def test_calibration_error():
    confidence = PROBABILITIES.max(-1)
    right = PROBABILITIES.argmax(-1) == LABELS
    expected = 0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            gap = abs(confidence[inside].mean() - right[inside].mean())
            expected += inside.mean() * gap
    found = measuring.calibration_error(confidence, right)
    assert found == pytest.approx(expected)
    assert measuring.calibration_error(np.ones(4), np.ones(4) > 0) == 0


def test_equal_probabilities_do_not_count_as_found():
    found = measuring.measures(np.full((4, 8), 1 / 8), np.arange(4), NAMES)
    assert found["top5"] == 0


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run, as far as evaluation looks at it."""
    run = Run(tmp_path / "run")
    recipe = Recipe.from_file(tiny.RECIPE)
    run.claim(recipe)
    digits = load_data(recipe)
    network = ResNet20(input_shape=(8, 8, 1))
    preprocessing = preprocessing_for(recipe, digits)
    run.finish(Classifier(network, preprocessing, digits.class_names), {})
    return run


def test_command(run, tmp_path, capsys):
    """A run's folder and a file of its weights give the same."""
    evaluate.main([str(run.folder), "--out", str(tmp_path / "out")])
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written.pop("confusion")
    assert printed == written
    assert set(printed["per_class"]) == set("0123456789")
    picture = (tmp_path / "out" / "confusion.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000
    published = tmp_path / "resnet20-digits-01234567.weights.h5"
    run.classifier().network.save_weights(published)
    evaluate.main([str(published), "--data", "digits"])
    assert json.loads(capsys.readouterr().out) == printed


def test_data_of_other_classes(run, tmp_path):
    for place in ("cat/0.png", "dog/0.png"):
        path = tmp_path / "pets" / "train" / place
        path.parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(path)
    with pytest.raises(SystemExit, match="classes of the run.*cat, dog"):
        evaluate.main([str(run.folder), "--data", str(tmp_path / "pets")])


def test_unknown_network():
    with pytest.raises(SystemExit, match="zoo.evaluate: .*ResNet21") as end:
        evaluate.main(["ResNet21", "--data", "digits"])
    assert end.value.code == 2


def test_encoded_images(tmp_path):
    """Of the size that the model takes, in the order of the labels."""
    from tests.zoo.test_pipeline import encoded

    dark, bright = (
        np.full((shade // 4, 40, 3), shade, "uint8") for shade in (80, 160)
    )
    for split in ("train", "test"):
        for name, pixels in (("dark", dark), ("light", bright)):
            path = tmp_path / split / name / "0.jpg"
            path.parent.mkdir(parents=True)
            path.write_bytes(encoded(Image.fromarray(pixels)))
    dataset = sources.load(tmp_path, encoded=True)

    class Threshold:
        def predict(self, images, verbose):
            bright = [np.mean(x) > 120 for batch in images for x in batch]
            return np.eye(2)[np.array(bright, int)]

    eight = Preprocessing(size=8)
    assert measuring.evaluate(Threshold(), dataset, eight)["top1"] == 1
