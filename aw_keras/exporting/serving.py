"""A model as a TensorFlow function of any number of images.

Every format is written from this function. A per-sample convolution becomes a
batched matrix product in it: folded into groups, the batch would be a constant
of the graph, and in loops few runtimes are fast.
"""

import keras
import tensorflow as tf

from aw_keras.ops.selection import force_implementation

INPUT = "images"

#: Scope of the operations of a preprocessing, as that of the layer.
PREPROCESS = "preprocess"

#: Vectors (biases, statistics) are few, and what is added up needs precision.
_HALVED_RANK = 2


def serving_module(model, request):
    """The model, ready to be written in any format.

    Args:
        model: `keras.Model` that `request.check` accepts.
        request: `Request`.

    Returns:
        `tf.Module` whose attribute `serve` is a `tf.function` of one signature,
        from `images` to a dict from the name of an output to a tensor.
    """
    module = tf.Module()
    module.state = [_stored(v, request.precision) for v in model.variables]
    spec = tf.TensorSpec(
        request.input_shape(model), request.input_dtype(model), INPUT
    )

    @tf.function(input_signature=[spec], autograph=False)
    def serve(images):
        # Not by the signature alone: kernels of TensorFlow abort the process
        # where the rank is not what the graph was traced for.
        images = tf.ensure_shape(images, spec.shape)
        count = tf.shape(images)[0]
        if request.format == "saved_model":
            images = _at_least_one(images, count)
        if request.format == "litert" and request.preprocessing is not None:
            # LiteRT keeps no assertion, and would spread grey over channels.
            size = tf.shape(images)[:-1]
            images = tf.reshape(images, (*tf.unstack(size), spec.shape[-1]))
        if request.preprocessing is not None:
            with tf.name_scope(PREPROCESS):
                images = request.preprocessing.inputs(model, images)
        pairs = [
            (variable, tf.cast(value, variable.dtype))
            for variable, value in zip(model.variables, module.state)
        ]
        # Layers that name an implementation would freeze the batch, too.
        with (
            force_implementation("matmul"),
            keras.StatelessScope(state_mapping=pairs),
        ):
            outputs = _named(model, model(images, training=False))
        if request.format == "saved_model":
            outputs = {name: x[:count] for name, x in outputs.items()}
        _forget_gradients()
        return outputs

    module.serve = serve
    return module


def _at_least_one(images, count):
    """A black image where there is none, which few kernels compute with."""
    missing = tf.cast(tf.equal(count, 0), tf.int32)
    rest = [(0, 0)] * (images.shape.rank - 1)
    return tf.pad(images, [(0, missing), *rest])


def _forget_gradients():
    """Nobody asks them of a server, and they would be most of the graph."""
    for operation in tf.compat.v1.get_default_graph().get_operations():
        if "_gradient_op_type" in operation.node_def.attr:
            operation._clear_attr("_gradient_op_type")


def _stored(variable, precision):
    value = keras.ops.convert_to_numpy(variable)
    halved = precision == "float16" and value.ndim >= _HALVED_RANK
    if halved and variable.dtype == "float32":
        value = value.astype("float16")
    return tf.Variable(value, trainable=False, name=variable.name)


def _named(model, outputs):
    """The outputs as a dict; half precision, which JSON lacks, widened."""
    if not isinstance(outputs, dict):
        names = [t._keras_history.operation.name for t in model.outputs]
        outputs = dict(zip(names, keras.tree.flatten(outputs), strict=True))
    return {
        name: tf.cast(output, tf.float32) if _is_half(output) else output
        for name, output in outputs.items()
    }


def _is_half(tensor):
    return tensor.dtype in (tf.float16, tf.bfloat16)
