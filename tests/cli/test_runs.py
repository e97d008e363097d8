"""MODEL as the folder of a training, or the file in it."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from aw_keras import AWConv2D, Classifier
from aw_keras.preprocessing import Preprocessing
from tests.cli.conftest import tiny

NAMES = ["heron", "swan", "gull"]
PREPROCESSING = Preprocessing(
    size=8, crop=0.8, mean=(9, 99, 0), deviation=(50, 60, 70)
)


@pytest.fixture
def folder(files, tmp_path):
    """Like those of `zoo.train`, as far as the command looks at it."""
    Classifier(tiny(classes=3), PREPROCESSING, NAMES).save(
        tmp_path / "model.keras"
    )
    return tmp_path


def expected(folder, files):
    """Class and probability of the likeliest class, by the library."""
    network = keras.saving.load_model(folder / "model.keras").network
    photo = np.asarray(Image.open(files / "noise.png").convert("RGB"))
    (scores,) = network(PREPROCESSING(photo[None], "channels_last"))
    return NAMES[np.argmax(scores)], pytest.approx(float(np.max(scores)))


def test_predict(folder, files, run, run_json):
    for source in (folder, folder / "model.keras"):
        found = run_json("predict", source, "noise.png")
        assert found["preprocessing"] == "its own"
        (image,) = found["images"]
        best = image["predictions"][0]
        assert (best["class"], best["score"]) == expected(folder, files)
        assert {p["class"] for p in image["predictions"]} == {*NAMES}
    code, _, err = run(
        "predict", folder, "noise.png", "--preprocessing", "unit"
    )
    assert code == 2 and "Expected no --preprocessing" in err


def test_summary(folder, run_json):
    found = run_json("summary", folder)
    assert found["inputs"] == [[None, 8, 8, 3]]
    assert found["multiply_adds"] > 0
    assert [layer["name"] for layer in found["aw_convolutions"]] == ["stem"]


def test_explain(folder, files, run_json, tmp_path):
    figure = tmp_path / "figure.png"
    found = run_json("explain", folder, "noise.png", "--out", figure)
    assert found["images"][0]["class"] == expected(folder, files)[0]
    assert figure.stat().st_size > 10_000


def test_export(folder, files, run_json, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "birds.onnx"
    assert run_json("export", folder, path)["class_names"]
    session = runtime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert NAMES == json.loads(metadata["metadata.json"])["class_names"]
    photo = np.asarray(Image.open(files / "noise.png").convert("RGB"))
    (scores,), *_ = session.run(None, {"images": photo[None]})
    best = NAMES[scores.argmax()], float(scores.max())
    name, score = expected(folder, files)
    assert best[0] == name and best[1] == pytest.approx(
        score.expected, abs=1e-3
    )


def test_convert(folder, run_json, tmp_path):
    """The converted file has preprocessing and names, too."""
    plain = tiny(classes=3, conv=keras.layers.Conv2D)
    Classifier(plain, PREPROCESSING, NAMES).save(folder / "model.keras")
    found = run_json("convert", folder, tmp_path / "aw.keras")
    assert found["converted"] == ["stem"]
    before = run_json("predict", folder, "noise.png")["images"]
    after = run_json("predict", tmp_path / "aw.keras", "noise.png")["images"]
    for one, other in zip(
        before[0]["predictions"], after[0]["predictions"], strict=True
    ):
        assert one["class"] == other["class"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    model = keras.saving.load_model(tmp_path / "aw.keras")
    assert isinstance(model.network.get_layer("stem"), AWConv2D)


def test_unfinished(folder, run):
    (folder / "model.keras").unlink()
    (folder / "run.json").touch()
    code, out, err = run("predict", folder, "noise.png")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "without model.keras" in err


def test_damaged(folder, run):
    path = folder / "model.keras"
    path.write_bytes(path.read_bytes()[:-100])
    code, _, err = run("summary", folder)
    assert code == 2 and err.count("\n") == 1
    shutil.rmtree(folder)
    code, _, err = run("summary", folder)
    assert code == 2 and "which is no file" in err
