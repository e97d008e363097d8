"""Turns images with boxes into what the Model Garden trains on.

    python -m aw_keras.detection.prepare BCCD --split train \\
        --classes RBC WBC Platelets --skip-bad --out bccd/train
    python -m aw_keras.detection.prepare instances_val2017.json \\
        --images val2017 --shards 8 --out coco/val

Writes a folder with the images and boxes as TFRecords and the boxes once more
as `annotations.json`, for the evaluation. Every image and box is looked at
first. What cannot be used is listed with its file, and nothing is written; or,
with `--skip-bad`, it is left out and counted.
"""

import argparse
import dataclasses
import json
import os

import keras
import tensorflow as tf
from official.vision.data import tfrecord_lib

from aw_keras.command import one_line_errors
from aw_keras.detection.annotations import examples, read_coco, read_voc
from aw_keras.files import new_folder

ANNOTATIONS = "annotations.json"


@dataclasses.dataclass(frozen=True)
class Report:
    """What `prepare` wrote, and what it left out.

    Attributes:
        images: Number of images that were written.
        boxes: Number of their boxes.
        classes: Dict from the number of a class to its name.
        faults: Sequence of `aw_keras.detection.annotations.Fault`.
    """

    images: int
    boxes: int
    classes: dict[int, str]
    faults: tuple

    def __str__(self):
        images = sum(fault.whole_image for fault in self.faults)
        return (
            f"{self.images} images with {self.boxes} boxes; skipped "
            f"{images} images and {len(self.faults) - images} boxes. "
            f"task.model.num_classes={max(self.classes) + 1}"
        )


def prepare(dataset, out, shards=1, skip_bad=False, log=print):
    """Writes a set of images with boxes for the Model Garden.

    Args:
        dataset: `aw_keras.detection.annotations.Dataset`.
        out: Path of a folder that is not there yet. It appears when it is
            complete.
        shards: Integer, number of TFRecords.
        skip_bad: Whether to leave out what has faults, or to refuse it.
        log: Function that is called with every fault.

    Returns:
        A `Report`.

    Raises:
        ValueError: If there are faults and they are not skipped, if no image
            is left, or if an argument cannot be used.
    """
    if shards < 1:
        raise ValueError(
            f"Expected `shards` to be positive. Received: shards={shards}"
        )
    faults = []

    def note(fault):
        faults.append(fault)
        log(fault)

    with new_folder(out) as part:
        part.mkdir()
        good = _with_progress(examples(dataset, note), dataset.count)
        written = _write(good, dataset.classes, part, shards)
        report = Report(*written, dataset.classes, tuple(faults))
        if faults and not skip_bad:
            raise ValueError(
                "Expected a set without faults, or `skip_bad`. Received: "
                f"{len(faults)} faults, the first of which is {faults[0]}"
            )
        if not report.images:
            raise ValueError(
                f"Expected at least one good image. Received: {report}"
            )
    return report


def _with_progress(items, count):
    progress = keras.utils.Progbar(count, unit_name="image")
    for item in items:
        yield item
        progress.add(1)


def _write(images, classes, folder, shards):
    """Writes records and annotations; returns the counts of both."""
    writers = [
        tf.io.TFRecordWriter(
            os.path.join(folder, f"{shard:05d}-of-{shards:05d}.tfrecord")
        )
        for shard in range(shards)
    ]
    entries, annotations = [], []
    for index, example in enumerate(images):
        writers[index % shards].write(tf_example(example, classes))
        entries.append(
            {
                "id": example.id,
                "file_name": example.name,
                "width": example.width,
                "height": example.height,
            }
        )
        for box in example.boxes:
            number = len(annotations) + 1
            annotations.append(_annotation(number, example.id, box))
    for writer in writers:
        writer.close()
    content = {
        "images": entries,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name} for number, name in classes.items()
        ],
    }
    with open(os.path.join(folder, ANNOTATIONS), "w") as file:
        json.dump(content, file)
    return len(entries), len(annotations)


def _annotation(number, image, box):
    return {
        "id": number,
        "image_id": image,
        "category_id": box.label,
        "bbox": [
            box.left,
            box.top,
            box.right - box.left,
            box.bottom - box.top,
        ],
        "area": box.area,
        "iscrowd": int(box.crowd),
        "segmentation": [],
    }


def tf_example(example, classes):
    """An image with boxes as a serialised `tf.train.Example`."""
    feature = tfrecord_lib.convert_to_feature
    features = tfrecord_lib.image_info_to_feature_dict(
        example.height,
        example.width,
        example.name,
        example.id,
        example.jpeg,
        "jpg",
    )
    boxes = example.boxes
    floats = {
        "bbox/xmin": [box.left / example.width for box in boxes],
        "bbox/xmax": [box.right / example.width for box in boxes],
        "bbox/ymin": [box.top / example.height for box in boxes],
        "bbox/ymax": [box.bottom / example.height for box in boxes],
        "area": [box.area for box in boxes],
    }
    integers = {
        "class/label": [box.label for box in boxes],
        "is_crowd": [int(box.crowd) for box in boxes],
    }
    texts = {"class/text": [classes[b.label].encode() for b in boxes]}
    for kind, named in (
        ("float_list", floats),
        ("int64_list", integers),
        ("bytes_list", texts),
    ):
        for name, values in named.items():
            features[f"image/object/{name}"] = feature(values, kind)
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m aw_keras.detection.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="VOC folder or COCO JSON")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--split", help="of a VOC folder")
    parser.add_argument("--classes", nargs="+", help="of a VOC folder")
    parser.add_argument(
        "--images", help="folder of a COCO JSON's images (its own folder)"
    )
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--skip-bad", action="store_true")
    options = parser.parse_args(arguments)
    if os.path.isdir(options.source):
        if not options.split or not options.classes:
            parser.error("a VOC folder needs --split and --classes")
        dataset = read_voc(options.source, options.split, options.classes)
    else:
        images = options.images or os.path.dirname(options.source)
        dataset = read_coco(options.source, images)
    print(prepare(dataset, options.out, options.shards, options.skip_bad))


if __name__ == "__main__":
    with one_line_errors("aw_keras.detection.prepare"):
        main()
