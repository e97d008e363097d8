"""The site builds without a warning, and the picture can be drawn again."""

import importlib.util
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from docs import picture
from docs.tables import ROOT


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="needs the docs extra"
)
def test_site_builds_without_warnings(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    front = (tmp_path / "index.html").read_text("utf-8")
    assert 'src="docs/attention.png"' in front
    assert (tmp_path / "docs" / "attention.png").is_file()
    layers = (tmp_path / "docs" / "api" / "layers" / "index.html").read_text()
    assert 'id="aw_keras.layers.AWConv2D"' in layers
    assert "<blockquote>" not in layers


def test_picture(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 8, 8, 3), "uint8")
    attention = {"conv": rng.uniform(size=(2, 3, 3, 4, 6))}
    figure = picture.draw(images, ("cat", "ship"), attention, "conv")
    figure.savefig(tmp_path / "drawn.png")
    with PIL.Image.open(picture.PATH) as kept:
        assert PIL.Image.open(tmp_path / "drawn.png").size == kept.size
    assert picture.PATH.stat().st_size < 150_000
