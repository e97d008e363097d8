"""Writes a `serving_module` in each of the formats, its metadata included."""

import contextlib
import json
import logging
import pathlib
import re
import tempfile
import threading
import warnings
import zipfile

import numpy as np
import tensorflow as tf

from aw_keras.exporting.serving import INPUT, PREPROCESS, serving_module

METADATA = "metadata.json"

_NEWEST_WRITTEN = 18  # by tf2onnx; ONNX brings what it wrote to newer ones

#: What the first axis of the input, and of every output, is called in ONNX.
_BATCH = "batch"

#: Of the largest output: what converters do wrong is far more.
_TOLERANCE = 1e-2
#: Names of the tensors that no quantisation may touch.
_EXACT = re.compile(rf"\b{PREPROCESS}(_\d+)?/")

_EXTENT = 64  # pixels, where any number is possible


def write(model, request, path):
    """Writes a model.

    Args:
        model: `keras.Model` that `request.check` accepts.
        request: `Request`.
        path: `pathlib.Path` where nothing is.

    Raises:
        RuntimeError: If the model has an operation that the format lacks.
    """
    module = serving_module(model, request)
    metadata = json.dumps(_metadata(model, request, module))
    try:
        _WRITERS[request.format](module, request, metadata, path)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise RuntimeError(
            f"Expected a model that can be written as {request.format}. "
            f"Received: model {model.name} ({type(error).__name__}: {reason})"
        ) from error


def _metadata(model, request, module):
    """What whoever runs the artifact has to know, for JSON."""
    import aw_keras

    graph = module.serve.get_concrete_function()
    preprocessing = request.preprocessing
    if preprocessing is not None:
        preprocessing = vars(preprocessing.for_model(model))
    return {
        "name": model.name,
        "inputs": {INPUT: _described(graph.structured_input_signature[0][0])},
        "outputs": {
            name: _described(output)
            for name, output in graph.structured_outputs.items()
        },
        "class_names": request.class_names,
        "preprocessing": preprocessing,
        "precision": request.precision,
        "aw_keras": aw_keras.__version__,
    }


def _described(tensor):
    return {"shape": tensor.shape.as_list(), "dtype": tensor.dtype.name}


def _write_saved_model(module, request, metadata, path):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, METADATA)
        file.write_text(metadata)
        module.metadata = tf.saved_model.Asset(str(file))
        # Saving would trace the `tf.function` again, and keep both graphs.
        module.serve = module.serve.get_concrete_function()
        tf.saved_model.save(
            module,
            str(path),
            {"serving_default": module.serve},
            tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )


def _write_onnx(module, request, metadata, path):
    import onnx
    import tf2onnx
    from onnx import version_converter

    opset = request.opset or _NEWEST_WRITTEN
    with _quiet("tf2onnx"):
        proto, _ = tf2onnx.convert.from_function(
            module.serve,
            module.serve.input_signature,
            opset=min(opset, _NEWEST_WRITTEN),
            custom_op_handlers={"FloorDiv": (_floor_division, [])},
        )
    if opset > _NEWEST_WRITTEN:
        proto = version_converter.convert_version(proto, opset)
        # Of the files that have this opset, too.
        proto.ir_version = onnx.helper.find_min_ir_version_for(
            proto.opset_import
        )
    _name_batch(proto.graph)
    if request.precision == "float16":
        _halve(proto.graph)
    onnx.helper.set_model_props(proto, {METADATA: metadata})
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())
    _check(module, _onnx_runner(path))


def _name_batch(graph):
    """One name on both sides, or runtimes take them for different numbers."""
    for value in (*graph.input, *graph.output):
        for axis in value.type.tensor_type.shape.dim[:1]:
            if not axis.HasField("dim_value"):
                axis.dim_param = _BATCH


def _floor_division(graph, node, name, arguments):
    """`FloorDiv` in double precision: that of ONNX rounds integers to zero."""
    from onnx import TensorProto

    output = node.output[0]
    dtype, shape = graph.get_dtype(output), graph.get_shape(output)
    graph.remove_node(node.name)
    wide = [
        graph.make_node("Cast", [x], attr={"to": TensorProto.DOUBLE}).output[0]
        for x in node.input
    ]
    quotient = graph.make_node("Div", wide).output
    graph.make_node(
        "Cast",
        graph.make_node("Floor", quotient).output,
        attr={"to": dtype},
        name=node.name,
        outputs=[output],
        shapes=[shape],
        dtypes=[dtype],
    )


def _halve(graph):
    """Stores the arrays in half precision; runtimes widen them once."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        half = numpy_helper.to_array(tensor).astype(np.float16)
        name, stored = tensor.name, f"{tensor.name}_float16"
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(
            helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


# A level is the whole process's: of two at once, one would keep the other's.
_quieting = threading.Lock()


@contextlib.contextmanager
def _quiet(name):
    """Hides the warnings of a logger.

    tf2onnx prints tracebacks of what it could not optimise and left as it was.
    """
    logger = logging.getLogger(name)
    with _quieting:
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _write_litert(module, request, metadata, path):
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    if request.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if request.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if request.precision == "int8":
        converter.representative_dataset = lambda: (
            [image[None]] for image in request.representative_data
        )
    quantized = request.precision == "int8"
    path.write_bytes(
        _quantized(converter) if quantized else converter.convert()
    )
    # Behind the model, as TensorFlow Lite's own metadata keeps files.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, metadata)
    _check(
        module,
        _litert_runner(path),
        # A random image is not what the 8 bits were chosen for.
        np.inf if quantized else _TOLERANCE,
    )


def _quantized(converter):
    """The model in 8 bits, but for the preprocessing.

    Its weights depend on the size of an image: what is measured in those of
    one size is wrong for others.
    """
    from ai_edge_litert.interpreter import Interpreter

    lite = tf.lite.experimental
    with warnings.catch_warnings():
        # Of the interpreter that it runs, which is an old one.
        warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is depr")
        debugger = lite.QuantizationDebugger(
            converter=converter, debug_dataset=converter.representative_dataset
        )
        calibrated = Interpreter(model_content=debugger.calibrated_model)
        names = [tensor["name"] for tensor in calibrated.get_tensor_details()]
        debugger.options = lite.QuantizationDebugOptions(
            denylisted_nodes=[name for name in names if _EXACT.search(name)]
        )
    return debugger.get_nondebug_quantized_model()


def _litert_runner(path):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path)).get_signature_runner()


def _onnx_runner(path):
    from onnxruntime import InferenceSession

    session = InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(
        zip(names, session.run(names, {INPUT: images}), strict=True)
    )


def _check(module, run, tolerance=_TOLERANCE):
    """Raises unless the artifact computes what the module does, in two images.

    Converters are large and make mistakes, of which the worst are silent.
    """
    (spec,) = module.serve.input_signature
    shape = (2, *(_EXTENT if n is None else n for n in spec.shape[1:]))
    brightest = 255 if spec.dtype == tf.uint8 else 1
    images = np.random.default_rng(0).uniform(0, brightest, shape)
    images = images.astype(spec.dtype.as_numpy_dtype)
    found = run(images=images)
    for name, expected in module.serve(tf.constant(images)).items():
        error = np.max(np.abs(found[name] - expected), initial=0)
        scale = np.max(np.abs(expected), initial=0)
        if not error <= tolerance * scale:
            raise ValueError(
                f"its {name} would be off by {error:.2g} in {scale:.2g}"
            )


_WRITERS = {
    "saved_model": _write_saved_model,
    "onnx": _write_onnx,
    "litert": _write_litert,
}
