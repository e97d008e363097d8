"""`export`: one call from a model to a file that runs without this library."""

import pathlib

import keras
import numpy as np

from aw_keras.artifacts import PRECISIONS, check_target, format_of
from aw_keras.choices import check_choice
from aw_keras.classifier import Classifier
from aw_keras.exporting.request import Request
from aw_keras.files import replacing


def export(
    model,
    path,
    format=None,
    *,
    preprocessing=None,
    class_names=None,
    precision="float32",
    representative_data=None,
    opset=None,
    overwrite=False,
):
    """Writes a model for TensorFlow, ONNX Runtime or LiteRT.

    The artifact needs neither this library nor Keras, and takes any number of
    images at once. Its input is called `images`, its outputs have the names of
    the model's last layers (`predictions` for this library's classifiers), or
    of the keys where the model returns a dict, and are float32 where they would
    be half precision.

    - `"saved_model"`: a folder for TensorFlow and TensorFlow Serving, with the
      signature `serving_default`, which is the attribute `serve` of
      `tf.saved_model.load(path)`, too.
    - `"onnx"`: a file for ONNX Runtime; `pip install 'aw-keras[onnx]'`.
    - `"litert"`: a file for LiteRT, once TensorFlow Lite; `pip install
      'aw-keras[litert]'`. Call it by `get_signature_runner()`, or
      `resize_tensor_input` to the number of images.

    Names of the classes, preprocessing, shapes and dtypes are in
    `metadata.json`: an asset of the SavedModel (attribute `metadata`), a
    metadata property of the ONNX model, a file in the archive that the LiteRT
    file is, too (`zipfile.ZipFile(path)`).

    TensorFlow has to be installed, whatever backend Keras runs on: under JAX
    and PyTorch a process of its own writes the artifact.

    Example:

    >>> import pathlib, tempfile
    >>> from aw_keras import export
    >>> from aw_keras.applications import ResNet20, get_entry
    >>> path = pathlib.Path(tempfile.mkdtemp(), "resnet20")
    >>> preprocessing = get_entry("ResNet20").preprocessing
    >>> export(ResNet20(), path, preprocessing=preprocessing)
    >>> sorted(file.name for file in path.iterdir())
    ['assets', 'fingerprint.pb', 'saved_model.pb', 'variables']

    Args:
        model: A functional or built Sequential model with one input. It is
            not changed. A `Classifier` has a preprocessing and names of
            classes, which need not be said.
        path: Path of the folder (SavedModel) or file to write, in a folder
            that exists. An earlier export there is replaced once the new one
            is complete; anything else is kept, and an error.
        format: `"saved_model"`, `"onnx"` or `"litert"`. Defaults to what
            `path` ends in: `.onnx`, `.tflite`, or anything else.
        preprocessing: `None` for an artifact that takes what the model takes;
            or a `Preprocessing`, such as `get_entry(name).preprocessing`, for
            one that takes uint8 images `(batch, height, width, 3)` of any
            size, red, green and blue, `(batch, height, width, 1)` for a model
            of grey images. They go through the preprocessing for the model's
            size: as they are where it takes any.
        class_names: Names of the classes, in the order of the outputs, for
            the metadata; or `None`.
        precision: How weights are stored. `"float32"` stands for the model's
            own dtypes. `"float16"`: matrices and kernels in half precision,
            in half the space; arithmetic stays as it is. `"int8"`, for LiteRT
            only: weights and, where LiteRT can, arithmetic in 8 bits.
        representative_data: For `"int8"`, array of images as the artifact
            takes them, from which the ranges of the activations are measured:
            a hundred or more from the training data.
        opset: For ONNX, the version of its operations, from 13 to 22; `None`
            for 18.
        overwrite: Whether a file at `path` is replaced whatever it is.

    Raises:
        ValueError: If an argument is not one of these.
        ImportError: If a package that the format needs is not installed.
        OSError: If `path` cannot be written, or has what must not be
            replaced.
        RuntimeError: If the model has an operation that the format lacks, or
            cannot run in 8 bits: then a layer may give nothing but zeros for
            `representative_data`.
    """
    if isinstance(model, Classifier):
        preprocessing = preprocessing or model.preprocessing
        class_names = class_names or model.class_names
        model = model.network
    if format is not None:
        check_choice("format", format, tuple(PRECISIONS))
    format = format_of(path, format)
    check_target(path, format, overwrite)
    request = Request(
        format,
        preprocessing,
        None if class_names is None else tuple(class_names),
        precision,
        None
        if representative_data is None
        else np.asarray(representative_data),
        opset,
    )
    request.check(model)
    if keras.backend.backend() == "tensorflow":
        # Imports TensorFlow, which importing this library must not.
        from aw_keras.exporting.formats import write
    else:
        from aw_keras.exporting.elsewhere import write
    with replacing(pathlib.Path(path)) as new:
        write(model, request, new)
