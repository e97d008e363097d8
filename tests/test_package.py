"""The wheel: what is in it, and that it works where TensorFlow is not."""

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from importlib import metadata

import keras
import numpy as np
import pytest

from aw_keras import home
from aw_keras.applications import AWResNet20
from aw_keras.weights import released

ROOT = pathlib.Path(__file__).parent.parent

SCRIPT = """
import importlib.util, sys
import numpy as np
assert importlib.util.find_spec("tensorflow") is None
assert importlib.util.find_spec("torch") is None
import aw_keras
from aw_keras import home
from aw_keras.applications import AWResNet20
layer = aw_keras.AWConv2D(4, 3, padding="same")
maps = layer(np.ones((2, 5, 6, 8), "float32"))
print(aw_keras.__version__, *maps.shape)
print(aw_keras.__file__)
model = AWResNet20(weights="cifar10")
images = np.indices((1, 32, 32, 3)).sum(0) * 2.0
inputs = model.weights_receipt.preprocessing.inputs(model, images)
print(model.weights_receipt.path)
print(*np.asarray(model(inputs, training=False))[0])
"""


def run(*command, backend="jax", variables=None, **kwargs):
    """Runs a command without this process's paths; gives what it prints."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "XLA_FLAGS")
    }
    return subprocess.run(
        list(map(str, command)),
        env=environment | {"KERAS_BACKEND": backend} | (variables or {}),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        **kwargs,
    ).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that nothing is left in the source."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(
        ROOT,
        folder / "source",
        ignore=shutil.ignore_patterns(
            ".*", "runs", "build", "dist", "*.egg-info", "__pycache__"
        ),
    )
    run(
        *(sys.executable, "-m", "build", "--wheel", "--outdir", folder),
        folder / "source",
    )
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_the_library_only(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"aw_keras"}
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "aw_keras").rglob("*.py")
    }
    assert modules == {name for name in names if name.endswith(".py")}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for suffix in (".json", ".weights.h5"):
        data = {
            str(path.relative_to(ROOT))
            for path in ROOT.glob(f"aw_keras/**/*{suffix}")
        }
        assert data == {name for name in names if name.endswith(suffix)}
    shipped = {name.split("/")[-1] for name in names}
    assert {file.name for file in released()} <= shipped


def test_the_address_of_the_project(monkeypatch):
    found = Message()
    monkeypatch.setattr(home.importlib.metadata, "metadata", lambda _: found)
    assert home.address() is home.weights() is home.requirement("jax") is None
    found["Home-page"] = "https://example.org/a"
    assert home.weights() == "https://example.org/a/releases/download/weights"
    assert (
        home.requirement("jax") == "aw-keras[jax] @ git+https://example.org/a"
    )


def test_wheel_metadata(wheel):
    (found,) = metadata.distributions(name="aw-keras", path=[str(wheel)])
    assert found.metadata["Version"] == "0.1.0"
    assert found.metadata["License"] == "Apache-2.0"
    assert found.metadata["Requires-Python"] == ">=3.11"
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert found.metadata.get("Home-page") == setup["metadata"].get("url")
    required = {text for text in found.requires if "extra ==" not in text}
    assert required == {"filelock>=3.16", "keras>=3.15", "numpy"}
    assert set(found.metadata.get_all("Provides-Extra")) == {
        *("tensorflow", "jax", "torch", "onnx", "litert"),
        *("explain", "cli", "detection", "zoo", "notebooks", "docs", "test"),
        *("safetensors", "hub", "tfds"),
    }


def test_wheel_with_jax_and_nothing_else(wheel, tmp_path):
    """Without a checkout, and without a network: it predicts the same."""
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    run(python, "-m", "pip", "install", "--quiet", wheel, "jax")
    home = {"KERAS_HOME": str(tmp_path / "keras")}
    printed = run(
        python, "-c", SCRIPT, cwd=tmp_path, variables=home
    ).splitlines()
    assert printed[0] == "0.1.0 2 5 6 4"
    assert printed[1].startswith(str(tmp_path))
    package = pathlib.Path(printed[1]).parent
    assert pathlib.Path(printed[2]).is_relative_to(package)
    found = np.array(printed[3].split(), float)
    model = AWResNet20(weights="cifar10")
    images = np.indices((1, 32, 32, 3)).sum(0) * 2.0
    inputs = model.weights_receipt.preprocessing.inputs(model, images)
    (expected,) = keras.ops.convert_to_numpy(model(inputs, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_import_adds_no_other_framework(backend):
    """Keras imports its backend; aw_keras must not import another one."""
    script = (
        "import sys, keras; before = set(sys.modules); import aw_keras; "
        "added = set(sys.modules) - before; "
        "print(*{name.split('.')[0] for name in added})"
    )
    added = run(sys.executable, "-c", script, backend=backend, cwd=ROOT).split()
    others = {"tensorflow", "jax", "torch"} - {backend}
    assert "aw_keras" in added
    assert not {*others, "tf_keras", "official", "matplotlib"} & set(added)


def test_import_without_tensorflow_under_jax():
    script = (
        "import sys, aw_keras, keras; "
        # A model with the layer can be loaded now.
        "assert keras.saving.get_registered_object('aw_keras>AWConv2D'); "
        "print(*{'tensorflow', 'tf_keras'} & set(sys.modules))"
    )
    assert run(sys.executable, "-c", script, cwd=ROOT).split() == []
