"""Pictures of what was found; exported detectors are tested with training."""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import numpy as np
import PIL.Image
import pytest

from aw_keras.detection import predict
from aw_keras.detection.predict import Detection, draw
from tests.detection import pictures

HEIGHT, WIDTH = 60, 90


def boxes_of(*corners, label=1):
    return [Detection(label, 0.9, *map(float, box)) for box in corners]


def drawn(detections, scores=True, size=(HEIGHT, WIDTH)):
    """Where a black image was drawn on."""
    picture = draw(np.zeros((*size, 3), np.uint8), detections, str, scores)
    assert picture.width == size[1] and picture.height > size[0]
    return np.asarray(picture)[: size[0]].any(axis=-1)


def test_box_and_score_are_where_they_should_be():
    marked = drawn(boxes_of((10, 30, 60, 50)))
    assert marked[30:51, [10, 60]].all() and marked[[30, 50], 10:61].all()
    assert not marked[33:48, 13:58].any()  # Nothing hides what was found.
    assert marked[28, 11]  # The score is above.
    assert not marked[:10].any() and not marked[51:].any()


@pytest.mark.parametrize(
    "box", [(0, 0, 20, 20), (70, 0, 89, 12), (60, 45, 89, 59), (0, 20, 89, 40)]
)
def test_scores_are_beside_boxes_and_in_the_picture(box):
    found = boxes_of(box)
    score = drawn(found) & ~drawn(found, scores=False)
    rows, columns = np.nonzero(score)
    # Whole: nothing of it lies outside, where it would be cut.
    assert np.ptp(rows) >= 10 and np.ptp(columns) >= 20
    left, top, right, bottom = box
    assert not score[top : bottom + 1, left : right + 1].any()


def test_no_score_covers_a_box():
    """In crowds some have no score; scores do not cover each other either."""
    rng = np.random.default_rng(0)
    size = 200, 300
    corners = rng.integers(0, (250, 150), (25, 2))
    boxes = [(x, y, x + 45, y + 45) for x, y in corners]
    found = boxes_of(*boxes)
    score = drawn(found, size=size) & ~drawn(found, scores=False, size=size)
    assert score.any()
    for left, top, right, bottom in boxes:
        assert not score[top : bottom + 1, left : right + 1].any()
    # Each alone covers as much: none is hidden by another.
    one = drawn(found[:1], size=size) & ~drawn(found[:1], False, size)
    assert score.sum() % one.sum() == 0


def test_classes_have_colours_and_names_below():
    one, other = boxes_of((5, 30, 40, 50)), boxes_of((5, 30, 40, 50), label=2)
    names = []
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    first, second, none = (
        np.asarray(draw(image, found, lambda x: names.append(x) or "cell"))
        for found in (one, other, [])
    )
    assert names == [1, 2]
    assert (first[50, 20] != second[50, 20]).any()
    assert (first[HEIGHT + 1, 1] == first[50, 20]).all()
    assert (second[HEIGHT + 1, 1] == second[50, 20]).all()
    assert (none[:HEIGHT] == image).all() and not image.any()


def test_a_name_is_not_cut_in_a_small_picture():
    picture = draw(
        np.zeros((30, 60, 3), np.uint8),
        boxes_of((5, 10, 40, 20)),
        lambda label: "erythrocyte",
    )
    colour = picture.getpixel((0, 31))
    assert picture.getpixel((59, 31)) != colour  # The name ends before.


class FakeDetector:
    """Finds a cell of 30 % in every image."""

    def __init__(self, path):
        pass

    def __call__(self, image, least_score=0.0):
        found = Detection(1, 0.3, 4.0, 4.0, 20.0, 20.0)
        return [found] if found.score >= least_score else []

    def name(self, label):
        return "cell"

    def caption(self, found):
        return f"cell {found.score:.0%}"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "Detector", FakeDetector)
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / name).write_bytes(pictures.jpeg())
    (tmp_path / "broken.jpg").write_bytes(pictures.jpeg()[:300])
    return tmp_path


def test_nothing_found_is_said(photos, capsys):
    arguments = ["model", str(photos / "one.jpg"), "--out", str(photos / "out")]
    assert predict.main(arguments) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "one.jpg: nothing with a score of 50% or more" in err
    assert "cell 30%" in err and err.count("\n") == 1
    assert predict.main([*arguments, "--least-score", "0.2"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err == ""


def test_a_damaged_image_does_not_cost_the_others(photos, capsys):
    names = ("one", "broken", "two")
    images = [str(photos / f"{name}.jpg") for name in names]
    arguments = ["model", *images, "--out", str(photos / "out")]
    assert predict.main([*arguments, "--least-score", "0"]) == 2
    out, err = capsys.readouterr()
    assert "one.jpg" in out and "two.jpg" in out
    assert "broken.jpg" in err and err.count("\n") == 1
    written = sorted(path.name for path in (photos / "out").iterdir())
    assert written == ["one.png", "two.png"]


def test_photos_are_not_replaced(photos):
    path = photos / "photo.png"
    PIL.Image.new("RGB", (90, 60)).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Expected another folder"):
        predict.main(["model", str(path), "--out", str(photos)])
    assert path.read_bytes() == before
