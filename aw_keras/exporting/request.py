"""What an export is asked for, and what is refused before it begins."""

import dataclasses
import importlib.util

import keras
import numpy as np

from aw_keras.artifacts import OPSETS, PRECISIONS
from aw_keras.choices import check_choice
from aw_keras.preprocessing import Preprocessing

#: Packages that write a format, and the extras that install them.
_NEEDED = {
    "saved_model": (("tensorflow",), "tensorflow"),
    "onnx": (
        ("tensorflow", "onnx", "onnxruntime", "tf2onnx"),
        "tensorflow,onnx",
    ),
    "litert": (("tensorflow", "ai_edge_litert"), "tensorflow,litert"),
}


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of `export` behind the path."""

    format: str
    preprocessing: Preprocessing | None
    class_names: tuple[str, ...] | None
    precision: str
    representative_data: np.ndarray | None
    opset: int | None = None

    def check(self, model):
        """Raises unless the model can be exported so."""
        check_choice("format", self.format, tuple(PRECISIONS))
        check_choice("precision", self.precision, PRECISIONS[self.format])
        self._check_opset()
        _check_model(model)
        _check_preprocessing(self.preprocessing, model)
        _check_class_names(self.class_names, model)
        self._check_representative_data(model)
        _check_packages(self.format)

    def input_shape(self, model):
        """Shape of a batch of images as the artifact takes them."""
        if self.preprocessing is None:
            return (None, *model.inputs[0].shape[1:])
        channels = self.preprocessing.for_model(model).channels
        return (None, None, None, len(channels))

    def input_dtype(self, model):
        if self.preprocessing is None:
            return keras.backend.standardize_dtype(model.inputs[0].dtype)
        return "uint8"

    def _check_opset(self):
        if self.opset is None:
            return
        if self.format != "onnx" or self.opset not in OPSETS:
            raise ValueError(
                f"Expected `opset` to be from {OPSETS[0]} to {OPSETS[-1]}, for "
                f"the format onnx only. Received: format={self.format}, "
                f"opset={self.opset}"
            )

    def _check_representative_data(self, model):
        data = self.representative_data
        if (data is not None) != (self.precision == "int8"):
            raise ValueError(
                "Expected `representative_data` for `precision='int8'`, and "
                f"for it only. Received: precision={self.precision}, "
                f"representative_data of type {type(data).__name__}"
            )
        if data is None:
            return
        shape, dtype = self.input_shape(model), self.input_dtype(model)
        fits = data.ndim == len(shape) and all(
            wanted in (None, found) for wanted, found in zip(shape, data.shape)
        )
        if not fits or not len(data) or data.dtype != dtype:
            raise ValueError(
                f"Expected `representative_data` to be {dtype} images of shape "
                f"{shape}. Received: {data.dtype} of shape {data.shape}"
            )


def _check_model(model):
    inputs = getattr(model, "inputs", None) if _is_model(model) else None
    if inputs is None or len(inputs) != 1:
        raise ValueError(
            "Expected `model` to be a functional or a built Sequential model "
            f"with one input. Received: model={model}"
        )


def _is_model(model):
    return isinstance(model, keras.Model) and model.built


def _check_preprocessing(preprocessing, model):
    if preprocessing is None:
        return
    if not isinstance(preprocessing, Preprocessing):
        raise ValueError(
            "Expected `preprocessing` to be a `Preprocessing`, such as "
            "`get_entry('AWResNet50').preprocessing`. "
            f"Received: preprocessing={preprocessing}"
        )
    preprocessing.for_model(model)


def _check_class_names(class_names, model):
    if class_names is None:
        return
    counts = {output.shape[-1] for output in model.outputs}
    if not all(isinstance(n, str) for n in class_names) or counts != {
        len(class_names)
    }:
        raise ValueError(
            "Expected `class_names` to be as many strings as the model has "
            f"outputs, {sorted(map(str, counts))}. "
            f"Received: class_names={class_names}"
        )


def _check_packages(format):
    packages, extras = _NEEDED[format]
    missing = [
        package
        for package in packages
        if importlib.util.find_spec(package) is None
    ]
    if missing:
        raise ImportError(
            f"Expected {' and '.join(missing)} to be installed, for "
            f"`format='{format}'`: pip install 'aw-keras[{extras}]'"
        )
