"""Faster R-CNN with an AW backbone against a plain one, in the Model Garden.

`python -m benchmarks.detection` times training steps and the detection in one
image with ResNet-18-FPN at 320x320 pixels: AW-convolution against plain
convolution, and against the Model Garden's own ResNet-18. It needs the extra
`detection`. The detector is that of `fasterrcnn_aw_resnetfpn_bccd`.
"""

import os
import tempfile

import numpy as np

from benchmarks import measure, session
from benchmarks.measure import REFERENCE, SUBJECT

TRAIN = "training step"
PREDICT = "inference step"
PEER = "model garden"
CASES = ((TRAIN, 4), (PREDICT, 1), (PREDICT, 4))
SIZE = 320
OBJECTS = 12


def make_task(contender, batch, size, records):
    """The Model Garden's task of one contender.

    Args:
        contender: `REFERENCE`, `SUBJECT`, or `PEER` for the Model Garden's
            own ResNet.
        batch: Batch size.
        size: Height and width of the images.
        records: Path of TFRecords.
    """
    from official.core import task_factory

    from aw_keras.detection.experiments import fasterrcnn_aw_resnetfpn_bccd

    params = fasterrcnn_aw_resnetfpn_bccd()
    backbone = params.task.model.backbone
    if contender == PEER:
        backbone.type = "resnet"
        backbone.resnet.model_id = 18
    else:
        backbone.aw_resnet.conv = contender
    params.override(
        {
            "task": {
                "annotation_file": None,
                "model": {"input_size": [size, size, 3]},
                "train_data": {
                    "input_path": records,
                    "global_batch_size": batch,
                },
            }
        }
    )
    params.validate()
    task = task_factory.get_task(params.task)
    return task, params.trainer.optimizer_config


def make_step(contender, direction, batch, size, seed):
    """The `Step` of a detector on random images.

    Args:
        contender: As for `make_task`.
        direction: `TRAIN` or `PREDICT`.
        batch: Batch size.
        size: Height and width of the images.
        seed: Seed of weights and data.
    """
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        records = os.path.join(folder, "images.tfrecord")
        write_records(records, batch, size, seed)
        task, optimizer_config = make_task(contender, batch, size, records)
        data = task.build_inputs(task.task_config.train_data)
        images, labels = next(iter(data))
    model = task.build_model()
    if direction == TRAIN:
        optimizer = task.create_optimizer(optimizer_config)

        def run():
            return task.train_step((images, labels), model, optimizer)

    else:

        def run():
            return model(
                images,
                anchor_boxes=labels["anchor_boxes"],
                image_shape=labels["image_info"][:, 1, :],
                training=False,
            )

    return measure.Step(
        launch=tf.function(run),
        wait=lambda results: tf.nest.map_structure(np.asarray, results),
    )


def write_records(path, count, size, seed):
    """Writes random images with boxes as a TFRecord."""
    import tensorflow as tf

    from aw_keras.detection.annotations import Box, Example
    from aw_keras.detection.prepare import tf_example

    generator = np.random.default_rng(seed)
    with tf.io.TFRecordWriter(path) as writer:
        for number in range(count):
            pixels = generator.integers(256, size=(size, size, 3))
            jpeg = tf.io.encode_jpeg(pixels.astype("uint8")).numpy()
            corners = generator.uniform(0, size / 2, (OBJECTS, 2))
            extents = generator.uniform(size / 16, size / 2, (OBJECTS, 2))
            boxes = tuple(
                Box(1, *start, *(start + extent), extent.prod(), False)
                for start, extent in zip(corners, extents)
            )
            example = Example(number, "image", size, size, jpeg, boxes)
            writer.write(tf_example(example, {1: "object"}))


def measure_times(mode, dtype, seed, size, contenders, effort):
    """Times detectors in this process.

    Args:
        mode: `"graph"`.
        dtype: `"float32"`.
        seed: Seed of weights and data.
        size: Height and width of the images.
        contenders: Names that `make_step` takes.
        effort: Keyword arguments of `measure.interleave`.

    Returns:
        List of rows as `measure.row` returns them.
    """
    rows = []
    for direction, batch in CASES:
        label = f"Faster R-CNN, ResNet-18-FPN, {batch}×{size}²"
        session.progress(f"  {label}, {direction}")
        steps = {
            contender: make_step(contender, direction, batch, size, seed)
            for contender in contenders
        }
        rows.append(measure.row(label, direction, steps, effort))
    return rows


def main(command=None):
    options = session.parser(__doc__)
    options.add_argument(
        "--size", type=int, default=SIZE, help="height and width of images"
    )
    options.set_defaults(backends=["tensorflow"], modes=["graph"])
    arguments = options.parse_args(command)
    chosen = (*arguments.backends, *arguments.modes, arguments.dtype)
    if chosen != ("tensorflow", "graph", "float32"):
        options.error("this detector runs on tensorflow graph in float32")
    return session.compare_times(
        "detection",
        arguments,
        [REFERENCE, SUBJECT, PEER],
        size=arguments.size,
    )


if __name__ == "__main__":
    main()
