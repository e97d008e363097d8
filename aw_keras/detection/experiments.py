"""Experiments of the Model Garden with the backbone `aw_resnet`.

`fasterrcnn_aw_resnetfpn_coco` is Faster R-CNN on COCO with the backbone and the
schedule of the paper, ResNet-101-FPN with AW-convolution for twelve epochs (the
schedule called 1x). Its companions are overrides: `conv: plain`,
`attention: se` or `attention: cbam` under `task.model.backbone.aw_resnet`.
`fasterrcnn_aw_resnetfpn_bccd` is a small one for a few hundred small images,
such as the blood cells of BCCD, that trains on a CPU in minutes.
"""

import dataclasses

import tensorflow as tf
from official.core import config_definitions, exp_factory, task_factory
from official.vision import registry_imports  # noqa: F401
from official.vision.configs import maskrcnn
from official.vision.ops import preprocess_ops
from official.vision.tasks import maskrcnn as maskrcnn_task

from aw_keras.applications import topology
from aw_keras.detection.backbone import AWResNetConfig, Backbone
from aw_keras.detection.weights import load_backbone

IMAGENET = "imagenet"
_KERAS_FILES = (".weights.h5", ".keras")
#: What the networks of `keras.applications` subtract from red, green and blue.
_IMAGENET_MEANS = (123.68, 116.779, 103.939)


@dataclasses.dataclass
class FasterRCNNTask(maskrcnn.MaskRCNNTask):
    """The Model Garden's task, which may begin with weights of Keras 3.

    `init_checkpoint` may also be the path of a Keras 3 weights file of the
    backbone's network, or `"imagenet"`.
    """


@task_factory.register_task_cls(FasterRCNNTask)
class FasterRCNN(maskrcnn_task.MaskRCNNTask):
    """What a `FasterRCNNTask` configures."""

    def initialize(self, model):
        source = self.task_config.init_checkpoint
        if not source or not is_keras_source(source):
            super().initialize(model)
            return
        print(load_backbone(model, source))
        if source == IMAGENET:
            take_standardized_images(model.backbone)


@dataclasses.dataclass
class Experiment(config_definitions.ExperimentConfig):
    """An experiment that refuses what the Model Garden fails at later."""

    def validate(self):
        super().validate()
        model = self.task.model
        _check_input_size(model)
        if model.num_classes < 2:
            raise ValueError(
                "Expected at least two classes, the background included. "
                f"Received: task.model.num_classes={model.num_classes}"
            )
        if self.runtime.mixed_precision_dtype in ("float16", "bfloat16"):
            _check_suppression(model, self.runtime.mixed_precision_dtype)


@exp_factory.register_config_factory("fasterrcnn_aw_resnetfpn_coco")
def fasterrcnn_aw_resnetfpn_coco():
    """Faster R-CNN with AW-ResNet-101-FPN on COCO, twelve epochs."""
    experiment = _experiment(model_id=101)
    experiment.task.init_checkpoint = IMAGENET
    return experiment


@exp_factory.register_config_factory("fasterrcnn_aw_resnetfpn_bccd")
def fasterrcnn_aw_resnetfpn_bccd():
    """Faster R-CNN with AW-ResNet-18-FPN on blood cells, 500 steps."""
    experiment = _experiment(model_id=18)
    steps = 500
    experiment.override(
        {
            "runtime": {
                "distribution_strategy": "one_device",
                "mixed_precision_dtype": "float32",
            },
            "task": {
                "annotation_file": "bccd/test/annotations.json",
                "model": _SMALL_MODEL,
                "train_data": {
                    "input_path": "bccd/train/*.tfrecord",
                    "dtype": "float32",
                    "global_batch_size": 4,
                    "shuffle_buffer_size": 205,
                },
                "validation_data": {
                    "input_path": "bccd/test/*.tfrecord",
                    "dtype": "float32",
                    "global_batch_size": 4,
                },
            },
            "trainer": {
                "train_steps": steps,
                "steps_per_loop": 20,
                "summary_interval": 20,
                "checkpoint_interval": 100,
                "validation_interval": steps,
                "validation_steps": -1,
                "optimizer_config": {
                    "learning_rate": {
                        # For so few steps from random weights: the plain
                        # network reached more on the split `val` than with
                        # the halves, 0.02 and 0.01.
                        "stepwise": {
                            "boundaries": [350, 450],
                            "values": [0.04, 0.004, 0.0004],
                        }
                    },
                    "warmup": {
                        "linear": {
                            "warmup_steps": 10,
                            "warmup_learning_rate": 0.001,
                        }
                    },
                },
            },
        }
    )
    return experiment


#: The method of Faster R-CNN with fewer proposals and narrower layers: for few
#: classes in small images, several times faster on a CPU.
_SMALL_MODEL = {
    "num_classes": 4,
    "input_size": [256, 320, 3],
    "norm_activation": {"use_sync_bn": False, "norm_momentum": 0.95},
    "anchor": {"anchor_size": 4.0},
    "decoder": {"fpn": {"num_filters": 128}},
    "rpn_head": {"num_filters": 128},
    "detection_head": {"num_convs": 0, "fc_dims": 256},
    "roi_generator": {
        "use_batched_nms": True,
        "pre_nms_top_k": 600,
        "num_proposals": 300,
        "test_pre_nms_top_k": 600,
        "test_num_proposals": 300,
    },
    "roi_sampler": {"num_sampled_rois": 128},
    "detection_generator": {"nms_version": "batched", "pre_nms_top_k": 300},
}


def is_keras_source(init_checkpoint):
    """Whether weights are those of Keras 3, not of a TensorFlow checkpoint."""
    return init_checkpoint == IMAGENET or init_checkpoint.endswith(_KERAS_FILES)


def take_standardized_images(backbone):
    """Adapts a stem that was trained as those of `keras.applications` are.

    They take blue, green and red, each less its mean. The Model Garden feeds
    red, green and blue, less the mean and divided by the deviation.

    Args:
        backbone: `AWResNet` of images with three channels.
    """
    conv = backbone.get_layer("conv1_conv")
    norm = backbone.get_layer("conv1_bn")
    kernel = tf.reverse(conv.kernel, axis=[2])
    offset = tf.constant(preprocess_ops.MEAN_RGB) - _IMAGENET_MEANS
    shift = tf.einsum("hwcd,c->d", kernel, offset)
    norm.moving_mean.assign_sub(shift)
    scale = tf.constant(preprocess_ops.STDDEV_RGB)
    conv.kernel.assign(kernel * scale[:, None])


def _experiment(model_id):
    """The Model Garden's experiment on COCO, with another backbone."""
    stock = exp_factory.get_exp_config("fasterrcnn_resnetfpn_coco")
    task = FasterRCNNTask(**_fields(stock.task))
    task.init_checkpoint = None
    task.model.backbone = Backbone(
        type="aw_resnet", aw_resnet=AWResNetConfig(model_id=model_id)
    )
    task.model.norm_activation.norm_epsilon = topology.NORM_EPSILON
    return Experiment(
        **{**_fields(stock), "task": task},
        restrictions=[
            "task.train_data.is_training != None",
            "task.validation_data.is_training != None",
        ],
    )


def _fields(config):
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def _check_input_size(model):
    multiple = 2**model.max_level
    size = list(model.input_size)
    if len(size) != 3 or any(n < 1 or n % multiple for n in size[:2]):
        raise ValueError(
            "Expected height, width and channels, of which the first two are "
            f"multiples of {multiple}, 2 to the power of task.model.max_level. "
            f"Received: task.model.input_size={size}"
        )


def _check_suppression(model, dtype):
    """Batched suppression of overlapping boxes has no kernel for 16 bits."""
    proposals = model.roi_generator.use_batched_nms
    detections = model.detection_generator.nms_version
    if proposals or detections == "batched":
        raise ValueError(
            "Expected task.model.roi_generator.use_batched_nms=false and "
            "task.model.detection_generator.nms_version=v2 with mixed "
            f"precision. Received: use_batched_nms={proposals}, "
            f"nms_version={detections}, "
            f"runtime.mixed_precision_dtype={dtype}"
        )
