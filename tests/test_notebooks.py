"""The notebooks run from top to bottom, and were committed as they ran.

Each prints what it is about; the same bounds hold for what is committed, from a
whole run, and for the run here, with `AW_KERAS_FAST=1`.
"""

import importlib.util
import re

import nbclient
import nbformat
import pytest

from aw_keras import home
from docs import notebooks

FOLDER = notebooks.FOLDER
LARGEST_FILE = 300_000

#: What is printed: a pattern of one number, and its bounds.
PRINTED = {
    "01_quickstart": [
        (r"accuracy on 450 held-out digits: ([\d.]+)%", 95, 100),
        (r"largest difference after loading: (\S+)", 0, 1e-5),
        (r"largest difference in plain TensorFlow: (\S+)", 0, 1e-5),
    ],
    "02_to_aw_and_fine_tune": [
        (r"accuracy on digits: ([\d.]+)%", 95, 100),
        (r"largest difference of a logit: (\S+)", 0, 1e-4),
        (r"not tuned: ([\d.]+)%", 0, 50),
        (r"plain fine-tuned: ([\d.]+)%", 65, 100),
        (r"AW    fine-tuned: ([\d.]+)%", 65, 100),
        (r"relative difference of the features: (\S+)", 0, 1e-4),
    ],
    "03_explain": [
        (r"accuracy on 450 held-out images: ([\d.]+)%", 40, 100),
        (r"heat on the digits: (\d+)%", 25, 100),
        (r"accuracy as it is: ([\d.]+) ", 0.4, 1),
    ],
    "04_detection": [
        (r"train: (\d+) images", 8, 120),
        (r"RBC +found (\d+) of", 0, 200),
    ],
}
#: And what is printed at the end of a whole run only.
COMMITTED = {
    "03_explain": [(r"accuracy as it is: ([\d.]+) ", 0.9, 1)],
    "04_detection": [(r"RBC +found (\d+) of", 70, 200)],
}
NAMES = sorted(PRINTED)


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def outputs(notebook):
    """The outputs of a notebook, and all text that it printed."""
    found = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    return found, "".join(o.text for o in found if o.output_type == "stream")


def check_printed(notebook, bounds):
    _, text = outputs(notebook)
    for pattern, least, most in bounds:
        (value,) = re.findall(pattern, text)
        assert least <= float(value) <= most, (pattern, value)


def test_all_notebooks_are_tested():
    assert NAMES == sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_as_committed(name):
    content = (FOLDER / f"{name}.ipynb").read_text()
    assert len(content) < LARGEST_FILE
    assert not re.search(r"/(home|root|tmp|work|Users)/", content)
    notebook = read(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1))
    found, _ = outputs(notebook)
    assert not [o for o in found if o.output_type == "error"]
    assert {"image/png", "image/jpeg"} & {
        t for o in found for t in o.get("data", {})
    }
    check_printed(notebook, PRINTED[name] + COMMITTED.get(name, []))


@pytest.mark.parametrize("name", NAMES)
def test_the_address_of_the_project(name, monkeypatch):
    """Badge and installation follow it; without one there is neither."""
    committed = (FOLDER / f"{name}.ipynb").read_text("utf-8")
    monkeypatch.setattr(home, "address", lambda: None)
    assert notebooks.filled(committed, name) == committed
    assert "colab" not in committed and "git+" not in committed
    monkeypatch.setattr(home, "address", lambda: "https://github.com/a/b")
    text = notebooks.filled(committed, name)
    assert notebooks.filled(text, name) == text
    first, install = nbformat.reads(text, as_version=4).cells[:2]
    page = f"github/a/b/blob/main/notebooks/{name}.ipynb"
    assert f"(https://colab.research.google.com/{page})" in first.source
    assert "@ git+https://github.com/a/b" in install.source
    monkeypatch.setattr(home, "address", lambda: "https://example.org/b")
    elsewhere = notebooks.filled(text, name)
    assert "colab" not in elsewhere and "git+https://example.org" in elsewhere


@pytest.mark.parametrize("name", NAMES)
def test_links_between_notebooks(name):
    for cell in read(name).cells:
        for target in re.findall(r"\]\((\w+\.ipynb)\)", cell.source):
            assert (FOLDER / target).is_file()


@pytest.mark.parametrize(
    "name",
    [
        "01_quickstart",
        "02_to_aw_and_fine_tune",
        pytest.param("03_explain", marks=pytest.mark.slow),
        pytest.param("04_detection", marks=pytest.mark.slow),
    ],
)
def test_runs(name, tmp_path, monkeypatch):
    if name == "04_detection" and importlib.util.find_spec("official") is None:
        pytest.skip("tf-models-official is not installed")
    monkeypatch.setenv("AW_KERAS_FAST", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("AW_KERAS_BCCD", raising=False)
    notebook = read(name)
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    check_printed(notebook, PRINTED[name])
