"""The experiments: what they are, what they refuse, where they begin."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import exp_factory, task_factory
from official.modeling import hyperparams
from official.vision.ops import preprocess_ops

from aw_keras.applications import imagenet_resnet
from aw_keras.detection import AWResNet, experiments, save_backbone
from aw_keras.detection.backbone import Backbone

COCO = "fasterrcnn_aw_resnetfpn_coco"
BCCD = "fasterrcnn_aw_resnetfpn_bccd"
BACKBONE = "task.model.backbone.aw_resnet"


def configure(name, *overrides):
    params = exp_factory.get_exp_config(name)
    return hyperparams.override_params_dict(
        params, ",".join(overrides), is_strict=True
    )


def test_coco_is_the_paper_s_recipe():
    params = exp_factory.get_exp_config(COCO)
    params.validate()
    backbone = params.task.model.backbone
    assert (backbone.type, backbone.get().model_id) == ("aw_resnet", 101)
    assert (backbone.get().conv, backbone.get().attention) == ("aw", None)
    assert not params.task.model.include_mask
    images = (
        params.trainer.train_steps * params.task.train_data.global_batch_size
    )
    assert images / 118_287 == pytest.approx(12, abs=0.2)
    stock = exp_factory.get_exp_config("fasterrcnn_resnetfpn_coco")
    assert params.trainer.as_dict() == stock.trainer.as_dict()
    assert params.runtime.as_dict() == stock.runtime.as_dict()


@pytest.mark.parametrize("name", [COCO, BCCD])
def test_overrides_survive_yaml(name, tmp_path):
    params = configure(
        name, f"{BACKBONE}.attention=se", f"{BACKBONE}.conv=plain"
    )
    assert params.task.model.backbone.get().attention == "se"
    path = str(tmp_path / "params.yaml")
    hyperparams.save_params_dict_to_yaml(params, path)
    again = hyperparams.override_params_dict(
        exp_factory.get_exp_config(name), path, is_strict=True
    )
    assert again.as_dict() == params.as_dict()
    assert isinstance(again.task.model.backbone, Backbone)
    assert exp_factory.get_exp_config(name).as_dict() != params.as_dict()


@pytest.mark.parametrize(
    "name, override",
    [
        (BCCD, "task.model.input_size=[250,320,3]"),
        (BCCD, "task.model.input_size=[256,320]"),
        (BCCD, "task.model.input_size=[0,320,3]"),
        (BCCD, "task.model.num_classes=1"),
        (BCCD, "runtime.mixed_precision_dtype=bfloat16"),
        (COCO, "task.model.detection_generator.nms_version=batched"),
        (COCO, "task.model.roi_generator.use_batched_nms=true"),
    ],
)
def test_what_would_fail_later_is_refused(name, override):
    key = override.split("=")[0].rpartition(".")[2]
    with pytest.raises(ValueError, match=f"Expected .*Received: .*{key}="):
        configure(name, override).validate()


@pytest.mark.parametrize(
    "source, expected",
    [
        ("imagenet", True),
        ("runs/aw.weights.h5", True),
        ("network.keras", True),
        ("gs://bucket/ckpt-28080", False),
    ],
)
def test_sources_of_keras_3(source, expected):
    assert experiments.is_keras_source(source) is expected


class Detector(tf_keras.Model):
    """As much of a detector as `initialize` looks at."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


def make_detector():
    specs = tf_keras.layers.InputSpec(shape=[None, 64, 64, 3])
    return Detector(AWResNet(18, specs, conv="plain"))


def first_values(detector):
    return [weight.numpy() for weight in detector.backbone.weights[:3]]


def initialized(source, modules="all"):
    params = configure(BCCD, f"{BACKBONE}.conv=plain")
    params.task.init_checkpoint = source
    params.task.init_checkpoint_modules = modules
    detector = make_detector()
    before = first_values(detector)
    task_factory.get_task(params.task).initialize(detector)
    return detector, before


def test_training_begins_with_keras_3_weights(tmp_path, capsys):
    trained = make_detector()
    path = str(tmp_path / "backbone.weights.h5")
    save_backbone(trained, path)
    detector, _ = initialized(path)
    for value, expected in zip(first_values(detector), first_values(trained)):
        np.testing.assert_array_equal(value, expected)
    assert f"{path}: 40 layers loaded" in capsys.readouterr().out


def test_training_begins_with_a_checkpoint_of_the_model_garden(tmp_path):
    trained = make_detector()
    checkpoint = tf.train.Checkpoint(backbone=trained.backbone)
    path = checkpoint.write(str(tmp_path / "ckpt"))
    detector, _ = initialized(path, modules="backbone")
    for value, expected in zip(first_values(detector), first_values(trained)):
        np.testing.assert_array_equal(value, expected)


def test_training_begins_at_random():
    detector, before = initialized(None)
    for value, expected in zip(first_values(detector), before):
        np.testing.assert_array_equal(value, expected)


def test_the_stem_of_imagenet_takes_the_images_of_the_model_garden():
    """In the interior: the border is padded with another grey."""
    network = make_detector().backbone
    stem = tf_keras.Model(network.input, network.get_layer("conv1_bn").output)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), "uint8")
    expected = stem(imagenet_resnet.preprocess_input(pixels.astype("float32")))
    experiments.take_standardized_images(network)
    standardized = preprocess_ops.normalize_image(
        tf.cast(pixels, "float32"),
        offset=preprocess_ops.MEAN_RGB,
        scale=preprocess_ops.STDDEV_RGB,
    )
    inner = slice(2, -2)
    np.testing.assert_allclose(
        stem(standardized)[:, inner, inner],
        expected[:, inner, inner],
        rtol=1e-3,
        atol=1e-2,
    )
