"""Runs exported artifacts in their own runtimes, and reads their graphs."""

import json
import zipfile

import numpy as np
import pytest

#: The module that runs a format, and the extra that installs it.
RUNTIMES = {
    "saved_model": ("tensorflow", "tensorflow"),
    "onnx": ("onnxruntime", "onnx"),
    "litert": ("ai_edge_litert", "litert"),
}

_CONVOLUTIONS = {
    *("Conv2D", "DepthwiseConv2dNative"),
    "Conv",
    *("CONV_2D", "DEPTHWISE_CONV_2D"),
}

#: What a graph without loops and branches does not have; functions are inlined
#: unless XLA is to compile them.
_CONTROL = {
    *("While", "StatelessWhile", "If", "StatelessIf", "Case", "XlaCallModule"),
    *("PartitionedCall", "StatefulPartitionedCall"),
    *("Loop", "Scan"),
    *("WHILE", "IF", "CALL_ONCE"),
}


class Artifact:
    """An exported model: call it on images for a dict of arrays.

    Attributes:
        metadata: Dict.
        nodes: List of `(kind, names of inputs, names of outputs)`, sorted so
            that inputs come first.
        image: Name of the input among those.
    """

    def __new__(cls, format, path):
        module, extra = RUNTIMES[format]
        pytest.importorskip(
            module, reason=f"pip install 'aw-keras[{extra}]' for {format}"
        )
        return object.__new__(_CLASSES[format])

    def __init__(self, format, path):
        self._open(path)

    def per_sample_convolutions(self):
        """Kinds of nodes that need the batch to be known, or go through it.

        A convolution whose kernel depends on the images is one that has the
        batch folded into its groups.
        """
        dependent, found = {self.image}, []
        for kind, inputs, outputs in self.nodes:
            computed_kernel = kind in _CONVOLUTIONS and inputs[1] in dependent
            if kind in _CONTROL or computed_kernel:
                found.append(kind)
            if dependent & set(inputs):
                dependent |= set(outputs)
        return found


class _SavedModel(Artifact):
    def _open(self, path):
        import tensorflow as tf
        from tensorflow.python.framework import convert_to_constants

        self._loaded = tf.saved_model.load(str(path))
        self._constant = tf.constant
        file = self._loaded.metadata.asset_path
        self.metadata = json.loads(tf.io.read_file(file).numpy())
        graph = convert_to_constants.convert_variables_to_constants_v2(
            self._loaded.signatures["serving_default"],
            lower_control_flow=False,
        ).graph
        self.image = graph.inputs[0].name
        self.nodes = [
            (
                operation.type,
                [tensor.name for tensor in operation.inputs],
                [tensor.name for tensor in operation.outputs],
            )
            for operation in graph.get_operations()
        ]

    def __call__(self, images):
        signature = self._loaded.signatures["serving_default"]
        outputs = signature(images=self._constant(images))
        return {name: value.numpy() for name, value in outputs.items()}


class _Onnx(Artifact):
    def _open(self, path):
        import onnx
        import onnxruntime

        proto = onnx.load(path)
        self._session = onnxruntime.InferenceSession(path)
        (prop,) = proto.metadata_props
        assert prop.key == "metadata.json"
        self.metadata = json.loads(prop.value)
        self.image = self._session.get_inputs()[0].name
        self.nodes = [
            (node.op_type, node.input, node.output) for node in proto.graph.node
        ]

    def __call__(self, images):
        names = [output.name for output in self._session.get_outputs()]
        outputs = self._session.run(names, {"images": images})
        return dict(zip(names, outputs))


class _LiteRT(Artifact):
    def _open(self, path):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with zipfile.ZipFile(path) as archive:
            self.metadata = json.loads(archive.read("metadata.json"))
        self._interpreter = Interpreter(str(path))
        # Delegates would hide the operations that they take over.
        bare = Interpreter(
            str(path),
            experimental_op_resolver_type=(
                OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
        )
        self.image = bare.get_input_details()[0]["index"]
        self.nodes = [
            (details["op_name"], list(details["inputs"]), details["outputs"])
            for details in bare._get_ops_details()
        ]
        self.dtypes = {
            details["index"]: np.dtype(details["dtype"])
            for details in bare.get_tensor_details()
        }

    def __call__(self, images):
        return self._interpreter.get_signature_runner()(images=images)


_CLASSES = {"saved_model": _SavedModel, "onnx": _Onnx, "litert": _LiteRT}


def size(path):
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
