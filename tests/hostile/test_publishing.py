"""Runs that no training wrote, and disks that are full amid publishing."""

import json
import re

import pytest

from aw_keras import files
from tests.zoo.published import (
    empty_places,
    made_up_run,
    without_reading_weights,
)
from tests.zoo.test_publish import everything
from zoo import pages, publish
from zoo.publish import read_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_up_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def changed(folder):
    """A function that changes the metrics of the run, for this test."""
    path = folder / "metrics.json"
    before = path.read_text()

    def change(**changes):
        metrics = json.loads(before) | changes
        kept = {k: v for k, v in metrics.items() if v is not KeyError}
        path.write_text(json.dumps(kept))
        return folder

    yield change
    path.write_text(before)


IMPOSSIBLE = [
    *(("top1", value) for value in (float("nan"), 1.01, -0.1, "0.8", None)),
    *(("top5", value) for value in (float("inf"), KeyError, [])),
    *(("loss", value) for value in (float("nan"), float("inf"), -1)),
    *(("train_seconds", value) for value in (float("nan"), -1)),
    *(("parameters", value) for value in (0, 1.5, True)),
    *(("seed", value) for value in (-1, "0")),
    *(("recipe", value) for value in ("../../x", "/etc/x", "", KeyError)),
    *(("dataset", value) for value in ("../x", 'x"); evil("', "a|b", "a\nb")),
    *(("hardware", value) for value in ("a\nb", "x" * 999, 3)),
    *(("commit", value) for value in ("<b>", 3)),
    *(("backend", value) for value in ("a b", "<script>")),
]


@pytest.mark.parametrize("name, value", IMPOSSIBLE)
def test_metrics_that_no_training_writes(name, value, changed):
    with pytest.raises(ValueError, match=f"Expected `{name}` of .*Received"):
        read_run(changed(**{name: value}))


@pytest.mark.parametrize("value", ["nan", "inf", "", "high"])
def test_a_log_that_no_training_writes(value, folder):
    path = folder / "log.csv"
    before = path.read_text()
    path.write_text(re.sub("(?m)^2,[^,]*", f"2,{value}", before))
    try:
        with pytest.raises(ValueError, match="Expected a log with finite"):
            read_run(folder)
    finally:
        path.write_text(before)


def test_text_is_text_in_pages(changed, tmp_path):
    places = empty_places(tmp_path)
    hostile = "1 x <script>|[a](b)`"
    data = "somewhere/<b>|cifar10.tar"
    with without_reading_weights():
        publish.publish(
            [read_run(changed(hardware=hostile, data=data))], places
        )
    pages_of = [places.zoo / "README.md", *places.zoo.glob("cards/*.md")]
    assert len(pages_of) == 2
    for path in pages_of:
        text = path.read_text("utf-8")
        assert "&#60;script&#62;&#124;&#91;a&#93;(b)&#96;" in text
        # But for the names of the model hubs, which are YAML.
        assert "<b>" not in text.split("---\n")[-1]
        assert "<script>" not in text


def test_nothing_or_all(folder, tmp_path, monkeypatch):
    """Whichever of its files cannot be written."""
    places = empty_places(tmp_path)
    run = read_run(folder)
    with without_reading_weights():
        publish.publish([run], places)
    again = made_up_run(tmp_path / "again", "SEResNet20", 0, 0.7)
    run = read_run(again)
    before = everything(places)
    put, left = files._put, [0]

    def full(*names):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        put(*names)

    failures = 0
    with without_reading_weights():
        monkeypatch.setattr(files, "_put", full)
        for writes in range(99):
            left[0] = writes
            try:
                publish.publish([run], places)
            except OSError:
                failures += 1
                assert everything(places) == before
            else:
                break
    # Weights, curve, table, manifest, pages and a figure.
    assert failures >= 6
    assert everything(places).keys() > before.keys()
    assert not pages.stale(places)
