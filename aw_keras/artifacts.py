"""The formats of exports: their names, suffixes, and how files begin."""

import os
import pathlib

#: How the weights can be stored, by format.
PRECISIONS = {
    "saved_model": ("float32", "float16"),
    "onnx": ("float32", "float16"),
    "litert": ("float32", "float16", "int8"),
}

#: The versions of ONNX's operations that can be written.
OPSETS = range(13, 23)

#: The formats of files by what their names end in.
SUFFIXES = {".onnx": "onnx", ".tflite": "litert"}

_SAVED_MODEL = "saved_model.pb"


def format_of(path, format=None):
    """The format of what is written to a path.

    Args:
        path: Path of a file or folder.
        format: The format that was asked for, or `None`.

    Returns:
        A key of `PRECISIONS`: `format`, or else what the path ends in, or else
        a SavedModel.

    Raises:
        ValueError: If the path ends in what another format does.
    """
    suffix = pathlib.Path(path).suffix.lower()
    found = SUFFIXES.get(suffix, format or "saved_model")
    if format not in (None, found):
        raise ValueError(
            f"Expected a path that does not end in {suffix}, as {found} does, "
            f"for the format {format}. Received: path={path}"
        )
    return found


def check_target(path, format, overwrite):
    """Refuses to write where something would be lost.

    Args:
        path: Path of a file or folder.
        format: One of `PRECISIONS`.
        overwrite: Whether any file may be replaced, not only an export.

    Raises:
        FileExistsError: If something is there that must not be replaced.
    """
    path = pathlib.Path(path)
    if not os.path.lexists(path) or _is_export(path, format):
        return
    if path.is_file() and format != "saved_model":
        if overwrite:
            return
        raise FileExistsError(
            f"Expected a path that is free or has an earlier {format} export. "
            f"Received: path={path}, another file, which only `overwrite` "
            "(--force) replaces"
        )
    kind = "SavedModel" if format == "saved_model" else "file"
    raise FileExistsError(
        f"Expected a path that is free or has a {kind} to replace. "
        f"Received: path={path}"
    )


def _is_export(path, format):
    if format == "saved_model":
        return (path / _SAVED_MODEL).is_file()
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        begin = file.read(8)
    if format == "litert":
        return begin[4:] == b"TFL3"
    # ONNX has no magic number. It begins with two fields of the message: the
    # version of the format, and the producer, a graph or what is between.
    return begin[:1] == b"\x08" and begin[2:3] in (
        *(b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42"),
    )
