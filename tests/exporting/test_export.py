"""What `export` refuses, and that it loses nothing."""

import importlib
import importlib.util

import keras
import numpy as np
import pytest

from aw_keras import export
from aw_keras.applications import get_entry

WRITER = importlib.import_module(
    "aw_keras.exporting.formats"
    if keras.backend.backend() == "tensorflow"
    else "aw_keras.exporting.elsewhere"
)
CIFAR = get_entry("AWResNet20").preprocessing


class Subclassed(keras.Model):
    def call(self, x):
        return x


def network(channels=3):
    image = keras.Input((4, 4, channels))
    return keras.Model(image, keras.layers.GlobalMaxPooling2D()(image))


def two_inputs():
    images = [keras.Input((4, 4, 3)), keras.Input((4, 4, 3))]
    return keras.Model(images, keras.layers.Add()(images))


@pytest.fixture(params=["saved_model", "onnx"])
def format(request):
    """One that writes a folder, and one that writes a file."""
    return request.param


@pytest.fixture(autouse=True)
def _all_packages(monkeypatch):
    """What is refused does not depend on what is installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


#: What files of ONNX begin with: their version, and then the producer.
_ONNX = "\x08\x08\x12"


def put(path, text):
    """Writes an artifact of sorts: a folder if its file is in one."""
    path.mkdir()
    (path / "saved_model.pb").write_text(text)


def write_text(text, error=None):
    """A writer that writes `text`, and raises `error` after it."""

    def write(model, request, path):
        if request.format == "saved_model":
            put(path, text)
        else:
            path.write_text(_ONNX + text)
        if error is not None:
            raise error

    return write


def contents(folder):
    """Dict from the path of each file in a folder to its text."""
    return {
        str(file.relative_to(folder)): file.read_text().removeprefix(_ONNX)
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_replaces_what_was_there(format, tmp_path, monkeypatch):
    path = tmp_path / "artifact"
    for text in ("first", "second"):
        monkeypatch.setattr(WRITER, "write", write_text(text))
        export(network(), path, format)
        assert list(contents(tmp_path).values()) == [text]
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_keeps_what_was_there(format, error, tmp_path, monkeypatch):
    path = tmp_path / "artifact"
    failing = write_text("partial", error())
    monkeypatch.setattr(WRITER, "write", failing)
    with pytest.raises(error):
        export(network(), path, format)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(WRITER, "write", write_text("first"))
    export(network(), path, format)
    before = contents(tmp_path)
    monkeypatch.setattr(WRITER, "write", failing)
    with pytest.raises(error):
        export(network(), path, format)
    assert contents(tmp_path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_at_the_last_moment(tmp_path, monkeypatch):
    put(tmp_path / "artifact", "first")
    monkeypatch.setattr(WRITER, "write", lambda *arguments: None)
    with pytest.raises(FileNotFoundError):
        export(network(), tmp_path / "artifact")
    assert contents(tmp_path) == {"artifact/saved_model.pb": "first"}


@pytest.mark.parametrize("place", ["missing/artifact", "file/artifact"])
def test_a_place_that_cannot_be_written(format, place, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="in a folder that exists and can be"):
        export(network(), tmp_path / place, format)
    assert contents(tmp_path) == {"file": "mine"}


def test_keeps_what_is_no_export(format, tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "photo.png").write_text("mine")
    file.write_text("mine")
    for path in (file, folder):
        with pytest.raises(FileExistsError, match="Expected a path that is"):
            export(network(), path, format)
    for path in (folder, *([file] if format == "saved_model" else [])):
        with pytest.raises(FileExistsError, match="Received: path="):
            export(network(), path, format, overwrite=True)
    assert set(contents(tmp_path).values()) == {"mine"}


def test_overwrites_a_file_if_told_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(WRITER, "write", write_text("new"))
    export(network(), tmp_path / "file", "onnx", overwrite=True)
    assert contents(tmp_path) == {"file": "new"}


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("m.onnx", "onnx"),
        ("M.ONNX", "onnx"),
        ("m.tflite", "litert"),
        ("m.v1", "saved_model"),
        ("m", "saved_model"),
    ],
)
def test_the_format_is_what_the_path_ends_in(
    name, format, tmp_path, monkeypatch
):
    formats = []

    def write(model, request, path):
        formats.append(request.format)
        write_text("new")(model, request, path)

    monkeypatch.setattr(WRITER, "write", write)
    export(network(), tmp_path / name)
    assert formats == [format]


def test_another_format_than_the_path_ends_in(format, tmp_path):
    for name in ("m.tflite", *(["m.onnx"] if format != "onnx" else [])):
        with pytest.raises(ValueError, match=f"for the format {format}"):
            export(network(), tmp_path / name, format)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(format="tflite"), "`format` to be one of"),
        (dict(precision="int4"), "`precision` to be one of"),
        (dict(format="onnx", precision="int8"), "`precision` to be one of"),
        (dict(model=Subclassed()), "a functional or a built Sequential"),
        (dict(model=keras.Sequential()), "a functional or a built Sequential"),
        (dict(model="AWResNet20"), "Received: model=AWResNet20"),
        (dict(model=two_inputs()), "with one input"),
        (dict(preprocessing="cifar10"), "Received: preprocessing=cifar10"),
        (dict(model=network(1), preprocessing=CIFAR), "images of 3 channels"),
        (dict(class_names=["a", "b"]), "Received: class_names="),
        (dict(class_names=[1, 2, 3]), "Received: class_names="),
        (dict(format="litert", precision="int8"), "`representative_data` for"),
        (dict(representative_data=np.ones(3)), "`representative_data` for"),
        *(
            (dict(format=format, opset=opset), "`opset` to be from 13 to 22")
            for format, opset in (("onnx", 12), ("onnx", 23), ("litert", 18))
        ),
        *(
            (
                dict(
                    format="litert", precision="int8", representative_data=data
                ),
                r"float32 images of shape \(None, 4, 4, 3\)",
            )
            for data in (
                np.ones((4, 4, 3), "float32"),
                np.ones((2, 5, 4, 3), "float32"),
                np.ones((0, 4, 4, 3), "float32"),
                np.ones((2, 4, 4, 3), "uint8"),
            )
        ),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    arguments = {"model": network(), "path": tmp_path / "artifact"} | arguments
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        export(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_missing_package(tmp_path, monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name == "tensorflow" or None
    )
    with pytest.raises(
        ImportError,
        match=r"Expected onnx and onnxruntime and tf2onnx to be installed.*"
        r"pip install 'aw-keras\[tensorflow,onnx\]'",
    ):
        export(network(), tmp_path / "artifact", "onnx")
