"""One training of the study of `zoo.bccd`, in a process of its own.

    python -m zoo.studies.bccd_run VARIANT SEED BCCD DATA FOLDER STEPS

Goes on from the last checkpoint in `FOLDER`, and writes `metrics.json` there
when it has trained, exported and measured the network.
"""

import json
import pathlib
import sys
import time

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import task_factory, train_lib, train_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aw_keras import image_files
from aw_keras.detection import predict
from aw_keras.detection.experiments import fasterrcnn_aw_resnetfpn_bccd
from aw_keras.detection.export import export
from aw_keras.detection.prepare import ANNOTATIONS
from aw_keras.files import replace_text
from zoo.training.provenance import commit, processor

#: What distinguishes the backbones.
VARIANTS = {
    "plain": {"conv": "plain"},
    "AW": {"conv": "aw"},
    "SE": {"conv": "plain", "attention": "se"},
    "AW+SE": {"conv": "aw", "attention": "se"},
}
CLASSES = ("RBC", "WBC", "Platelets")
METRICS = "metrics.json"


def configure(variant, seed, data, steps):
    """The experiment of one run: the recipe is the same for all."""
    params = fasterrcnn_aw_resnetfpn_bccd()
    params.override(
        {
            "task": {
                "annotation_file": str(data / "test" / ANNOTATIONS),
                "model": {"backbone": {"aw_resnet": VARIANTS[variant]}},
                "train_data": {
                    "input_path": str(data / "train" / "*.tfrecord"),
                    "seed": seed,
                },
                "validation_data": {
                    "input_path": str(data / "test" / "*.tfrecord")
                },
            },
            "trainer": {
                "train_steps": steps,
                "validation_interval": steps,
                "optimizer_config": {
                    "learning_rate": {
                        "stepwise": {
                            "boundaries": [steps * 7 // 10, steps * 9 // 10]
                        }
                    }
                },
            },
        }
    )
    params.validate()
    params.lock()
    return params


def run(variant, seed, bccd, data, folder, steps):
    """Trains one network, measures it, and writes `metrics.json` last."""
    tf_keras.utils.set_random_seed(seed)
    params = configure(variant, seed, data, steps)
    train_utils.serialize_config(params, str(folder))
    task = task_factory.get_task(params.task, logging_dir=str(folder))
    strategy = tf.distribute.OneDeviceStrategy("cpu:0")
    begun = tf.train.latest_checkpoint(str(folder)) is not None
    start = time.perf_counter()
    with strategy.scope():
        model, _ = train_lib.run_experiment(
            strategy, task, "train", params, str(folder)
        )
    seconds = time.perf_counter() - start
    exported = folder / "exported"
    if not exported.exists():
        export(str(folder), str(exported))
    metrics = {
        "backbone": variant,
        "seed": seed,
        "steps": steps,
        **measure(predict.Detector(str(exported)), bccd, data),
        "parameters": model.count_params(),
        # Only of a training that was not interrupted.
        "seconds": None if begun else round(seconds),
        "hardware": processor(),
        "tensorflow": tf.__version__,
        "commit": commit(),
    }
    replace_text(folder / METRICS, json.dumps(metrics))


def measure(detector, bccd, data):
    """COCO's average precisions on the test images, all and by class."""
    truth = COCO(str(data / "test" / ANNOTATIONS))
    results = [
        {
            "image_id": entry["id"],
            "category_id": found.label,
            "bbox": [
                found.left,
                found.top,
                found.right - found.left,
                found.bottom - found.top,
            ],
            "score": found.score,
        }
        for entry in truth.dataset["images"]
        for found in detector(read_image(bccd, entry["file_name"]))
    ]
    if not results:
        return precisions(np.zeros((10, 101, len(CLASSES))))
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    # Thresholds of overlap, recalls, classes; all areas, 100 detections.
    return precisions(evaluation.eval["precision"][:, :, :, 0, 2])


def precisions(table):
    """Average precisions in percent, by the names of columns.

    Args:
        table: Precisions `(10, 101, classes)`, for the thresholds of overlap
            0.5, 0.55, ... 0.95 and the recalls 0, 0.01, ... 1.
    """
    tables = {"": table}
    for index, name in enumerate(CLASSES):
        tables[f" {name}"] = table[:, :, index]
    return {
        f"{metric}{name}": round(100 * float(np.mean(values)), 3)
        for name, every in tables.items()
        for metric, values in (("AP", every), ("AP50", every[0]))
    }


def read_image(bccd, name):
    return image_files.read_image(bccd / "JPEGImages" / name)


def main(variant, seed, bccd, data, folder, steps):
    run(
        variant,
        int(seed),
        pathlib.Path(bccd),
        pathlib.Path(data),
        pathlib.Path(folder),
        int(steps),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
