"""Data sets become TFRecords, or nothing, whatever is wrong with them."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import json
import os
import runpy

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder

from aw_keras.detection import annotations
from aw_keras.detection.annotations import read_coco, read_voc
from aw_keras.detection.prepare import main, prepare
from tests.detection import pictures


@pytest.fixture
def voc(tmp_path):
    return pictures.write_voc(tmp_path / "voc", 3)


def prepared(dataset, out, **arguments):
    """Decoded images, the annotations, the report and the faults."""
    faults = []
    report = prepare(dataset, out, log=faults.append, **arguments)
    paths = sorted(map(str, out.glob("*.tfrecord")))
    records = tf.data.TFRecordDataset(paths)
    decoder = TfExampleDecoder()
    images = [
        {k: v.numpy() for k, v in decoder.decode(record).items()}
        for record in records
    ]
    images.sort(key=lambda image: int(image["source_id"]))
    content = json.loads((out / "annotations.json").read_text())
    assert [e["id"] for e in content["images"]] == [
        int(image["source_id"]) for image in images
    ]
    assert report.images == len(images)
    assert report.boxes == len(content["annotations"])
    return images, content, report, [str(fault) for fault in faults]


def assert_decoded(image, seed, labels):
    pixels = tf.io.decode_jpeg(pictures.jpeg(seed))
    np.testing.assert_array_equal(image["image"], pixels)
    assert (image["height"], image["width"]) == (64, 96)
    assert list(image["groundtruth_classes"]) == labels
    corners = [
        (top, left, bottom, right)
        for _, left, top, right, bottom in pictures.OBJECTS
    ]
    np.testing.assert_allclose(
        image["groundtruth_boxes"] * (64, 96, 64, 96), corners, rtol=1e-6
    )


def test_round_trip_of_a_voc_folder(voc, tmp_path):
    dataset = read_voc(voc, "train", pictures.CLASSES)
    images, content, report, faults = prepared(
        dataset, tmp_path / "out", shards=2
    )
    assert not faults and not report.faults
    assert len(images) == 3
    for seed, image in enumerate(images):
        assert_decoded(image, seed, [1, 2])
        assert list(image["groundtruth_area"]) == [32 * 32, 16 * 40]
    assert content["categories"] == [
        {"id": 1, "name": "red"},
        {"id": 2, "name": "blue"},
    ]
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [8, 4, 32, 32],
        "area": 1024,
        "iscrowd": 0,
        "segmentation": [],
    }
    assert sorted(os.listdir(tmp_path / "out")) == [
        "00000-of-00002.tfrecord",
        "00001-of-00002.tfrecord",
        "annotations.json",
    ]


def test_round_trip_of_a_coco_json(tmp_path):
    path = pictures.write_coco(tmp_path, pictures.coco(2))
    images, content, report, _ = prepared(
        read_coco(path, tmp_path), tmp_path / "out"
    )
    for seed, image in enumerate(images):
        assert_decoded(image, seed, [3, 7])
        assert list(image["groundtruth_is_crowd"]) == [False, True]
        assert list(image["groundtruth_area"]) == [5.5, 5.5]
    assert content["images"] == pictures.coco(2)["images"]
    assert content["categories"] == pictures.coco()["categories"]
    assert "num_classes=8" in str(report)


def test_images_without_boxes_are_kept(voc, tmp_path):
    (voc / "Annotations/image1.xml").write_text(pictures.xml(objects=()))
    dataset = read_voc(voc, "train", pictures.CLASSES)
    images, _, report, faults = prepared(dataset, tmp_path / "out")
    assert not faults and (report.images, report.boxes) == (3, 4)
    assert images[1]["groundtruth_boxes"].shape == (0, 4)


def test_rounding_may_put_a_corner_outside(tmp_path):
    content = pictures.coco()
    content["annotations"][0]["bbox"] = [-0.01, 10.34, 96.02, 53.67]
    path = pictures.write_coco(tmp_path, content)
    _, written, _, _ = prepared(read_coco(path, tmp_path), tmp_path / "out")
    assert written["annotations"][0]["bbox"] == [0, 10.34, 96, 64 - 10.34]


def remove(path):
    return lambda voc: (voc / path).unlink()


def replace(path, content):
    return lambda voc: (voc / path).write_bytes(content)


def annotate(*boxes, **size):
    """Gives `image1` these boxes beside the good ones."""
    text = pictures.xml((*pictures.OBJECTS, *boxes), **size)
    return replace("Annotations/image1.xml", text.encode())


PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
IMAGE_FAULTS = {
    "missing image": (remove("JPEGImages/image1.jpg"), "cannot be read"),
    "empty image": (replace("JPEGImages/image1.jpg", b""), "not a JPEG"),
    "text": (replace("JPEGImages/image1.jpg", b"image"), "not a JPEG"),
    "other format": (replace("JPEGImages/image1.jpg", PNG), "not a JPEG"),
    "cut image": (
        replace("JPEGImages/image1.jpg", pictures.jpeg()[:600]),
        "not a readable JPEG",
    ),
    "other size": (annotate(width=64), "96 by 64 pixels, but 64 by 64"),
    "missing annotation": (remove("Annotations/image1.xml"), "No such file"),
    "empty annotation": (
        replace("Annotations/image1.xml", b""),
        "not an annotation",
    ),
    "no size": (
        replace("Annotations/image1.xml", b"<annotation/>"),
        "not a number: None",
    ),
    "size that is no number": (annotate(width="wide"), "not a number: 'wide'"),
}
BOX_FAULTS = {
    "unknown class": (annotate(("green", 1, 1, 9, 9)), "class green"),
    "empty box": (annotate(("red", 5, 5, 5, 9)), "empty box"),
    "turned box": (annotate(("red", 5, 9, 15, 4)), "empty box"),
    "outside": (annotate(("red", 5, 5, 97, 9)), "outside the image"),
    "negative": (annotate(("red", -1, 5, 7, 9)), "outside the image"),
    "nan": (annotate(("red", "nan", 5, 7, 9)), "not a number: 'nan'"),
    "infinite": (annotate(("red", 1, 5, "1e999", 9)), "not a number"),
    "words": (annotate(("red", "one", 5, 7, 9)), "not a number: 'one'"),
}


@pytest.mark.parametrize("kind", [*IMAGE_FAULTS, *BOX_FAULTS])
def test_faults_are_refused_or_skipped(kind, voc, tmp_path):
    harm, reason = {**IMAGE_FAULTS, **BOX_FAULTS}[kind]
    harm(voc)
    faults = []
    dataset = read_voc(voc, "train", pictures.CLASSES)
    with pytest.raises(ValueError, match=f"(?s)1 faults.*{reason}"):
        prepare(dataset, tmp_path / "out", log=faults.append)
    assert "image1." in faults[0].file and reason in faults[0].reason
    assert os.listdir(tmp_path) == ["voc"]
    dataset = read_voc(voc, "train", pictures.CLASSES)
    _, _, report, noted = prepared(dataset, tmp_path / "out", skip_bad=True)
    assert noted == [str(faults[0])]
    assert report.images == (2 if kind in IMAGE_FAULTS else 3)
    assert report.boxes == 2 * report.images
    whole = "1 images and 0" if kind in IMAGE_FAULTS else "0 images and 1"
    assert f"skipped {whole} boxes" in str(report)


def test_every_fault_is_listed(voc, tmp_path, capsys):
    for name in ("image0", "image2"):
        (voc / f"JPEGImages/{name}.jpg").unlink()
    arguments = [str(voc), "--split", "train", "--classes", "red"]
    arguments += ["--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="3 faults"):
        main(arguments)
    printed = capsys.readouterr().out
    for name in ("image0.jpg", "image1.xml", "image2.jpg"):
        assert name in printed
    main([*arguments, "--skip-bad"])
    assert "1 images with 1 boxes; skipped 2 images and 1 boxes. " in (
        capsys.readouterr().out
    )


def test_nothing_is_written_over(voc, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    dataset = read_voc(voc, "train", pictures.CLASSES)
    with pytest.raises(ValueError, match="Expected `out`.*Received: out="):
        prepare(dataset, out)
    assert not list(out.iterdir())


def test_nothing_is_left_of_what_is_interrupted(voc, tmp_path):
    def interrupt(fault):
        raise KeyboardInterrupt

    (voc / "JPEGImages/image2.jpg").unlink()
    dataset = read_voc(voc, "train", pictures.CLASSES)
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, tmp_path / "out", log=interrupt)
    assert os.listdir(tmp_path) == ["voc"]


def test_a_set_of_which_nothing_is_left(voc, tmp_path):
    for path in (voc / "JPEGImages").iterdir():
        path.unlink()
    dataset = read_voc(voc, "train", pictures.CLASSES)
    with pytest.raises(ValueError, match="at least one good image"):
        prepare(dataset, tmp_path / "out", skip_bad=True, log=str)


def test_misspelt_splits_and_classes_are_told(voc):
    (voc / "ImageSets/Main/val.txt").write_text("image0")
    with pytest.raises(ValueError) as error:
        read_voc(voc, "trian", pictures.CLASSES)
    assert str(error.value) == (
        "Expected one of the splits train, val. Received: trian; did you mean "
        "train?"
    )
    for classes in (["red", "Blue"], ["RED", "blue"]):
        with pytest.raises(
            ValueError, match="did you mean (red|blue)"
        ) as error:
            read_voc(voc, "train", classes)
        assert str(error.value).startswith("Expected classes that occur: blue,")
    with pytest.raises(ValueError, match="blue, red. Received: cell$"):
        read_voc(voc, "train", ["cell"])


def test_a_class_may_be_in_other_splits_only(voc, tmp_path):
    dataset = read_voc(voc, "train", [*pictures.CLASSES, "green"])
    _, _, report, faults = prepared(dataset, tmp_path / "out")
    assert not faults and report.classes[3] == "green"


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
@pytest.mark.parametrize("module", ["prepare", "predict", "export"])
def test_refused_in_a_line(module, voc, tmp_path, monkeypatch, capsys):
    arguments = {
        "prepare": [voc, "--split", "trian", "--classes", "red"],
        "predict": [tmp_path, "no.jpg"],
        "export": [tmp_path],
    }[module]
    arguments = [module, *arguments, "--out", tmp_path / "out"]
    monkeypatch.setattr("sys.argv", [*map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"aw_keras.detection.{module}", run_name="__main__")
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"aw_keras.detection.{module}: Expected ")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "split, classes, reason",
    [
        ("train", [], "no classes"),
        ("train", ["red", "red"], "twice"),
        ("train", ["red", " "], "class 2"),
    ],
)
def test_unusable_voc_folders(split, classes, reason, voc):
    with pytest.raises(ValueError, match=f"Expected .*Received: .*{reason}"):
        read_voc(voc, split, classes)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "'categories'"),
        ('{"categories": 3}', "'categories'"),
        ('{"categories": [3]}', "'categories'"),
        ('{"categories": []}', "no classes"),
        ('{"categories": [{"id": 0, "name": "red"}]}', "class 0"),
        ('{"categories": [{"id": [1], "name": "red"}]}', "class \\[1\\]"),
        ('{"categories": [{"id": true, "name": "red"}]}', "class True"),
        ('{"categories": [{"id": 1, "name": "\\ud800"}]}', "class 1"),
        ('{"categories": [{"id": 1}, {"id": 1}]}', "twice"),
        ('{"categories": [{"id": 1, "name": "red"}]}', "'images'"),
        (
            '{"categories": [{"id": 1, "name": "red"}], "images": '
            '[{"id": 4}, {"id": 4}]}',
            "twice",
        ),
    ],
)
def test_unusable_json(text, reason, tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)Received: .*{reason}"):
        read_coco(path, tmp_path)


def test_boxes_of_no_image(tmp_path):
    content = pictures.coco()
    content["annotations"].append({"image_id": 4})
    path = pictures.write_coco(tmp_path, content)
    _, _, report, faults = prepared(
        read_coco(path, tmp_path), tmp_path / "out", skip_bad=True
    )
    assert (report.images, report.boxes) == (1, 2)
    assert faults == [f"{path}: box of no image: {{'image_id': 4}}"]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-5, 100),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["image1.jpg", "..", "/", "\0", 10**400]),
    st.lists(st.floats(-10, 100), min_size=3, max_size=5),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@st.composite
def hostile(draw):
    """A good COCO JSON with some of its values, keys or items exchanged."""
    content = pictures.coco(2)
    for _ in range(draw(st.integers(1, 4))):
        owner = content
        while True:
            keys = list(owner) if isinstance(owner, dict) else range(len(owner))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            deeper = isinstance(owner[key], (dict, list))
            if deeper and draw(st.integers(0, 9)):
                owner = owner[key]
                continue
            if draw(st.booleans()):
                owner[key] = draw(VALUES)
            else:
                del owner[key]
            break
    return content


@settings(max_examples=80, deadline=None)
@given(content=hostile())
def test_hostile_json(content, tmp_path_factory):
    """A clear error, or images and boxes that the Model Garden can read."""
    folder = tmp_path_factory.mktemp("hostile")
    path = pictures.write_coco(folder, content)
    before = sorted(os.listdir(folder))
    try:
        images, _, report, _ = prepared(
            read_coco(path, folder), folder / "out", skip_bad=True
        )
    except ValueError as error:
        assert "Expected " in str(error) and "Received: " in str(error)
        assert sorted(os.listdir(folder)) == before
        return
    for image in images:
        boxes = image["groundtruth_boxes"]
        assert (
            np.isfinite(boxes).all()
            and np.isfinite(image["groundtruth_area"]).all()
        )
        assert (boxes >= 0).all() and (boxes <= 1).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()
        assert set(image["groundtruth_classes"]) <= set(report.classes)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(junk=st.binary(max_size=300), place=st.integers(0, 10_000))
def test_hostile_jpeg(junk, place, tmp_path):
    """A damaged image is bad, or an image of the size that was said."""
    content = bytearray(pictures.jpeg())
    place %= len(content)
    content[place : place + len(junk)] = junk
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    size = (pictures.WIDTH, pictures.HEIGHT)
    listed = annotations.Listed(1, "file", tmp_path, path.name, size, [], None)
    dataset = annotations.Dataset({1: "red"}, 1, iter([listed]))
    faults = []
    good = list(annotations.examples(dataset, faults.append))
    assert len(good) + len(faults) == 1
