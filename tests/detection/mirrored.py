"""Goes on with a training on two virtual devices, in bfloat16.

python -m tests.detection.mirrored MODEL_DIR
"""

import os
import sys

import tensorflow as tf
from official.core import task_factory, train_lib
from official.modeling import hyperparams, performance

from aw_keras.detection.experiments import fasterrcnn_aw_resnetfpn_bccd


def main(model_dir):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    params = hyperparams.override_params_dict(
        fasterrcnn_aw_resnetfpn_bccd(),
        os.path.join(model_dir, "params.yaml"),
        is_strict=True,
    )
    params.override(
        {
            "runtime": {"mixed_precision_dtype": "bfloat16"},
            "trainer": {"train_steps": 4},
            "task": {
                "train_data": {"dtype": "bfloat16"},
                "model": {
                    "roi_generator": {"use_batched_nms": False},
                    "detection_generator": {"nms_version": "v2"},
                    "norm_activation": {"use_sync_bn": True},
                },
            },
        }
    )
    params.validate()
    performance.set_mixed_precision_policy("bfloat16")
    strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
    with strategy.scope():
        task = task_factory.get_task(params.task, logging_dir=model_dir)
    model, _ = train_lib.run_experiment(
        strategy, task, "train", params, model_dir
    )
    layer = model.backbone.get_layer("conv5_block1_1_conv")
    print(strategy.num_replicas_in_sync, layer.compute_dtype)


if __name__ == "__main__":
    main(sys.argv[1])
