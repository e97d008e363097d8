"""Writes a trained detector as a SavedModel that takes uint8 images.

    python -m aw_keras.detection.export runs/bccd --out exported/bccd

The SavedModel loads in plain TensorFlow, without this library. Its signature
`serving_default` takes `inputs`, images `(batch, height, width, 3)` of any size
as uint8, and returns `num_detections` and as many `detection_boxes` (top, left,
bottom, right), `detection_classes` and `detection_scores`. The boxes are in
pixels of the resized image; divided by the third row of `image_info` they are
in those of the original.
"""

import argparse
import json
import os

import tensorflow as tf
from official.modeling import hyperparams
from official.vision.serving import export_saved_model_lib

from aw_keras.command import one_line_errors
from aw_keras.detection.experiments import fasterrcnn_aw_resnetfpn_coco
from aw_keras.files import new_folder

#: Where TensorFlow keeps files that a SavedModel does not read itself.
CLASSES = os.path.join("assets.extra", "classes.json")

PARAMETERS = "params.yaml"


def export(model_dir, out, checkpoint=None):
    """Writes a trained detector as a SavedModel.

    Args:
        model_dir: Path of the folder that `aw_keras.detection.train` wrote.
        out: Path of a folder that is not there yet. It appears when it is
            complete.
        checkpoint: Path of a checkpoint; `None` for the last of `model_dir`.

    Raises:
        ValueError: If there is no training in `model_dir`, or something in
            `out`.
    """
    parameters = os.path.join(model_dir, PARAMETERS)
    checkpoint = checkpoint or tf.train.latest_checkpoint(model_dir)
    if not os.path.isfile(parameters) or checkpoint is None:
        raise ValueError(
            f"Expected `model_dir` to have {PARAMETERS} and a checkpoint. "
            f"Received: model_dir={model_dir}"
        )
    # The file has every value: any experiment with these fields will do.
    params = hyperparams.override_params_dict(
        fasterrcnn_aw_resnetfpn_coco(), parameters, is_strict=True
    )
    params.validate()
    params.lock()
    with new_folder(out) as part:
        export_saved_model_lib.export_inference_graph(
            input_type="image_tensor",
            batch_size=None,
            input_image_size=list(params.task.model.input_size[:2]),
            params=params,
            checkpoint_path=checkpoint,
            export_dir=str(part),
        )
        _write_classes(params.task.annotation_file, part)


def _write_classes(annotations, folder):
    """Keeps the names of the classes, if the experiment has them."""
    if not annotations or not tf.io.gfile.exists(annotations):
        return
    with tf.io.gfile.GFile(annotations) as file:
        categories = json.load(file)["categories"]
    path = os.path.join(folder, CLASSES)
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as file:
        json.dump({c["id"]: c["name"] for c in categories}, file)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m aw_keras.detection.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model_dir", help="folder of the training")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--checkpoint", help="another one than the last")
    options = parser.parse_args(arguments)
    export(options.model_dir, options.out, options.checkpoint)


if __name__ == "__main__":
    with one_line_errors("aw_keras.detection.export"):
        main()
