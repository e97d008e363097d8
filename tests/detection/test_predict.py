"""Pictures of what was found; exported detectors are tested with training."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import numpy as np
import pytest

from aw_keras.detection.predict import Detection, draw

SIZE = 60, 90


def boxes_of(*corners, label=1):
    return [Detection(label, 0.9, *map(float, box)) for box in corners]


def drawn(detections, caption=lambda found: "x"):
    """Where a black image was drawn on."""
    picture = draw(np.zeros((*SIZE, 3), np.uint8), detections, caption)
    assert picture.size == SIZE[::-1]
    return np.asarray(picture).any(axis=-1)


def test_box_and_label_are_where_they_should_be():
    marked = drawn(boxes_of((10, 30, 40, 50)))
    assert marked[30:51, [10, 40]].all() and marked[[30, 50], 10:41].all()
    assert not marked[33:48, 13:38].any()  # Nothing hides what was found.
    assert marked[29, 11]  # The label is above.
    assert not marked[:10].any() and not marked[51:].any()


@pytest.mark.parametrize(
    "box", [(0, 0, 20, 20), (85, 0, 90, 4), (80, 55, 90, 60)]
)
def test_labels_stay_in_the_picture(box):
    found = boxes_of(box)
    label = drawn(found).sum() - drawn(found, lambda found: "").sum()
    assert label > 20


def test_classes_have_colours_and_captions():
    one, other = boxes_of((5, 30, 40, 50)), boxes_of((5, 30, 40, 50), label=2)
    captions = []
    image = np.zeros((*SIZE, 3), np.uint8)
    pictures = [
        np.asarray(draw(image, found, lambda d: captions.append(d) or "cell"))
        for found in (one, other)
    ]
    assert captions == [*one, *other]
    assert (pictures[0][50, 20] != pictures[1][50, 20]).any()
    assert not image.any()
