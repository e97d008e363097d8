"""A detector from eight images to boxes drawn in one, by the commands."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from aw_keras.detection import predict
from aw_keras.detection.annotations import read_voc
from aw_keras.detection.export import export
from aw_keras.detection.prepare import prepare
from aw_keras.image_files import read_image
from tests.detection import pictures

pytestmark = pytest.mark.slow

#: A small network, of all parts.
OVERRIDES = """
runtime: {{mixed_precision_dtype: float32}}
task:
  annotation_file: {data}/annotations.json
  model:
    num_classes: 3
    input_size: [64, 64, 3]
    backbone: {{aw_resnet: {{aw_stages: [5], attention: se}}}}
    decoder: {{fpn: {{num_filters: 16}}}}
    rpn_head: {{num_filters: 16}}
    detection_head: {{fc_dims: 16}}
    roi_generator: {{num_proposals: 20, test_num_proposals: 20}}
    roi_sampler: {{num_sampled_rois: 8}}
    detection_generator: {{max_num_detections: 10,
      pre_nms_score_threshold: 0.0}}
  train_data:
    input_path: {data}/*.tfrecord
    global_batch_size: 4
  validation_data:
    input_path: {data}/*.tfrecord
trainer:
  train_steps: 2
  steps_per_loop: 1
  summary_interval: 1
  checkpoint_interval: 2
  validation_interval: 2
"""


def run(*arguments):
    """What a Python process prints, which succeeds."""
    process = subprocess.run(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-5000:]
    return process.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def printed(folder):
    """What the training printed; `folder / "run"` is its model_dir."""
    voc = pictures.write_voc(folder / "voc", 8)
    prepare(read_voc(voc, "train", pictures.CLASSES), folder / "data")
    config = folder / "overrides.yaml"
    config.write_text(OVERRIDES.format(data=folder / "data"))
    return run(
        "aw_keras.detection.train",
        "--experiment=fasterrcnn_aw_resnetfpn_bccd",
        "--mode=train_and_eval",
        f"--model_dir={folder / 'run'}",
        f"--config_file={config}",
    )


@pytest.fixture(scope="module")
def exported(folder, printed):
    export(
        str(folder / "run"),
        str(folder / "exported"),
        str(folder / "run/ckpt-2"),
    )
    return folder / "exported"


def test_training_shows_progress_and_evaluates(folder, printed):
    for step in (1, 2):
        assert re.search(rf"train \| step: +{step} \| steps/sec", printed)
    losses = re.findall(r"'total_loss': np.float32\((.*?)\)", printed)
    assert losses and np.isfinite(list(map(float, losses))).all()
    assert re.search(r"eval \| step: +2 .*(\n.*)*'AP50'", printed)
    assert "restored" not in printed
    assert (folder / "run/ckpt-2.index").exists()


def test_exported_model_takes_uint8_images_in_plain_tensorflow(exported):
    script = f"""if True:
        import sys
        import tensorflow as tf
        detect = tf.saved_model.load({str(exported)!r}).signatures[
            "serving_default"]
        outputs = detect(tf.zeros((2, 50, 70, 3), tf.uint8))
        assert outputs["detection_boxes"].shape == (2, 10, 4)
        assert outputs["image_info"].shape == (2, 4, 2)
        assert not {{"aw_keras", "official", "tf_keras"}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", script], check=True)


def test_exported_model_is_the_trained_one(folder, exported):
    """Its variables are those of the checkpoint."""
    checkpoint = tf.train.load_checkpoint(str(folder / "run/ckpt-2"))
    shapes = checkpoint.get_variable_to_shape_map()
    names = [
        name
        for name in shapes
        if name.startswith("backbone/") and "OPTIMIZER" not in name
    ]
    model = tf.saved_model.load(str(exported)).model
    stored = [checkpoint.get_tensor(name) for name in names]
    assert len(stored) == len(model.backbone.variables)
    totals = sorted(float(np.abs(value).sum()) for value in stored)
    exported_totals = sorted(
        float(np.abs(v.numpy()).sum()) for v in model.backbone.variables
    )
    np.testing.assert_allclose(exported_totals, totals, rtol=1e-6)


def test_boxes_are_in_pixels_of_the_image(exported):
    detector = predict.Detector(str(exported))
    assert detector.classes == {1: "red", 2: "blue"}
    image = np.full((40, 120, 3), 128, "uint8")
    found = detector(image)
    assert found and [d.score for d in found] == sorted(
        (d.score for d in found), reverse=True
    )
    for detection in found:
        assert 0 <= detection.left <= detection.right <= 120
        assert 0 <= detection.top <= detection.bottom <= 40
    # Wider than the network's input is, in pixels of the network.
    assert max(detection.right for detection in found) > 64
    least = found[0].score
    assert [d.score for d in detector(image, least)] == [least]


def test_predictions_are_drawn(exported, tmp_path, capsys):
    image = tmp_path / "image.jpg"
    image.write_bytes(pictures.jpeg())
    arguments = [str(exported), str(image), "--out", str(tmp_path / "out")]
    predict.main([*arguments, "--least-score", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert all(line.startswith(f"{image}\t") for line in lines)
    with Image.open(tmp_path / "out/image.png") as picture:
        assert picture.width == pictures.WIDTH
        whole = np.asarray(picture)[: pictures.HEIGHT]
        assert not np.array_equal(whole, read_image(image))
    predict.main([*arguments, "--least-score", "1.1"])
    assert capsys.readouterr().out == ""
    with Image.open(tmp_path / "out/image.png") as picture:
        whole = np.asarray(picture)[: pictures.HEIGHT]
        assert np.array_equal(whole, read_image(image))


def test_what_cannot_be_predicted(exported, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    text = tmp_path / "image.jpg"
    text.write_text("no image")
    assert predict.main([str(exported), str(text), *out]) == 2
    assert f"Received: {text} (none of BMP" in capsys.readouterr().err
    with pytest.raises(ValueError, match="exported detector.*path="):
        predict.main([str(tmp_path), str(text), *out])
    with pytest.raises(ValueError, match="different names"):
        predict.main([str(exported), "a/image.jpg", "b/image.png", *out])


def test_what_cannot_be_exported(folder, exported, tmp_path):
    with pytest.raises(ValueError, match="Expected `out`.*exported"):
        export(str(folder / "run"), str(exported))
    with pytest.raises(ValueError, match="Expected `model_dir`"):
        export(str(tmp_path), str(tmp_path / "out"))
    assert not os.listdir(tmp_path)


def test_training_goes_on_with_replicas_and_mixed_precision(folder, printed):
    again = run("tests.detection.mirrored", str(folder / "run"))
    assert "restored from checkpoint" in again and "ckpt-2" in again
    assert re.search(r"train \| step: +4 \| steps/sec", again)
    assert "2 bfloat16" in again
