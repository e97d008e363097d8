"""Pages on results: up to date, and made of nothing but the results."""

import io
import re

import PIL.Image
import pytest
import yaml

from aw_keras.weights import manifest
from tests.zoo.published import (
    empty_places,
    made_up_run,
    without_reading_weights,
)
from zoo import pages
from zoo.publish import publish, read_run
from zoo.publishing import table


def test_the_pages_of_this_checkout_are_up_to_date():
    assert pages.stale(table.Places()) == []
    pages.main(["--check"])


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Where two seeds of a network and of the plain one were published."""
    folder = tmp_path_factory.mktemp("pages")
    places = empty_places(folder)
    runs = [
        made_up_run(folder / f"{model}-{seed}", model, seed, top1)
        for model, seed, top1 in (
            ("ResNet20", 0, 0.80),
            ("ResNet20", 1, 0.82),
            ("AWResNet20", 0, 0.815),
            ("AWResNet20", 1, 0.825),
            ("SEResNet20", 1, 0.83),
        )
    ]
    with without_reading_weights():
        publish([read_run(run) for run in runs], places)
    return places


def rows_of(readme):
    rows = [line.strip("| ").split(" | ") for line in readme.splitlines()]
    return {cells[0]: cells for cells in rows if "ResNet20" in cells[0]}


def test_the_table(places):
    rows = rows_of((places.zoo / "README.md").read_text())
    assert list(rows) == ["ResNet20", "AWResNet20", "SEResNet20"]
    plain, aw, se = rows.values()
    assert plain[1:-1] == [
        *("269,722", "40.6 M", "2", "81.00 ± 1.41", "", "99.00 ± 0.00"),
        *("91.25", "10 min on jax, 1 x CPU"),
    ]
    # Differences of 1.5 and 0.5 points: t = 2.
    assert aw[4:6] == ["82.00 ± 0.71", "+1.00 ± 0.71 (p = 0.3)"]
    assert aw[7] == ""
    assert se[4:6] == ["83.00", "+1.00 (no test: one seed)"]


def test_every_figure_says_which_data(places):
    readme = (places.zoo / "README.md").read_text()
    assert "## CIFAR-10 (JPEG), recipe `cifar10_short`" in readme
    assert "| CIFAR-10 (JPEG) top-1, % |" in readme
    assert "A short recipe of 8 epochs" in readme
    assert "lossy compression" in readme


def test_links_lead_to_files(places):
    readme = (places.zoo / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert len(links) == 4
    for link in links:
        assert (places.zoo / link).is_file()


def test_every_file_has_a_card(places):
    files = manifest.read(places.manifest)
    assert [file.seed for file in files] == [0, 0, 1]
    for file in files:
        name = file.name.removesuffix(".weights.h5")
        card = (places.zoo / "cards" / f"{name}.md").read_text()
        _, front, body = card.split("---\n", 2)
        front = yaml.safe_load(front)
        assert front["library_name"] == "keras"
        assert front["license"] == "apache-2.0"
        (index,) = front["model-index"]
        (result,) = index["results"]
        assert result["dataset"]["name"] == "CIFAR-10 (JPEG)"
        assert result["metrics"][0]["value"] == file.top1
        assert f"# {file.architecture}, trained on CIFAR-10 (JPEG)" in body
        assert f"this file (seed {file.seed}) | {file.top1:.2f} % |" in body
        assert f'{file.architecture}(weights="cifar10")' in body
        assert file.sha256 in body
        assert "newer file" not in body


def test_a_card_says_that_there_is_a_newer_file(places):
    file = manifest.read(places.manifest)[0]
    card = pages.model_card.card(file, [file, file], places)
    assert "newer file" in card and f"weights/files/{file.name}" in card


def stale_after(places, path, change):
    """What is stale while a file is changed."""
    before = path.read_bytes() if path.exists() else None
    change(path)
    try:
        return pages.stale(places)
    finally:
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)


def append(path):
    path.write_bytes(path.read_bytes() + b"1,1,1,1,1\n")


def test_what_is_out_of_date_is_noticed(places):
    assert pages.stale(places) == []
    readme = places.zoo / "README.md"
    for change in (append, lambda path: path.unlink()):
        assert stale_after(places, readme, change) == [readme]
    (figure,) = (places.zoo / "results").glob("*.png")
    assert stale_after(places, figure, lambda path: path.unlink()) == [figure]
    curve = next((places.zoo / "results" / "curves").iterdir())
    assert stale_after(places, curve, append) == [figure]
    extra = places.zoo / "cards" / "extra.md"
    assert stale_after(places, extra, written_here) == [extra]


def picture():
    file = io.BytesIO()
    PIL.Image.new("RGB", (2, 2)).save(file, "png")
    return file.getvalue()


def written_here(path):
    path.write_text(f"{pages.model_card.HEAD}\n# A file that is gone\n")


def test_results_of_other_kinds_are_left_alone(places):
    readme = (places.zoo / "README.md").read_text()
    results = places.zoo / "results"
    others = {
        places.zoo / "cards" / "cells.md": b"# Detectors of cells",
        results / "cells.csv": b"backbone,seed,AP\nplain,1,54.4\n",
        results / "cells.png": picture(),
    }
    for path, content in others.items():
        path.write_bytes(content)
    assert pages.stale(places) == []
    pages.write(places)
    assert (places.zoo / "README.md").read_text() == readme
    for path, content in others.items():
        assert path.read_bytes() == content
        path.unlink()


def test_writing_mends_what_is_out_of_date(places):
    extra = places.zoo / "cards" / "extra.md"
    written_here(extra)
    readme = places.zoo / "README.md"
    text = readme.read_text()
    append(readme)
    pages.write(places)
    assert not extra.exists() and readme.read_text() == text
    assert pages.stale(places) == []
