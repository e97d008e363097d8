"""Layers and models under TensorFlow, with and without XLA.

The batch dimension is `None` in every traced signature, as it is in
`Model.fit`.
"""

import tensorflow as tf

from benchmarks.measure import Step

# It would warn that similar functions are traced anew, which is intended.
tf.get_logger().setLevel("ERROR")


def devices():
    found = {"cpu": "cpu"}
    for gpu in tf.config.list_physical_devices("GPU")[:1]:
        details = tf.config.experimental.get_device_details(gpu)
        found["gpu"] = details["device_name"]
    return found


def layer_step(layer, inputs, cotangent, mode):
    weights = [variable.value for variable in layer.trainable_variables]

    def train(x, output_gradient):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, [x, *weights], output_gradient)

    tensors = (inputs,) if cotangent is None else (inputs, cotangent)
    function = tf.function(
        layer if cotangent is None else train,
        input_signature=[
            tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
            for tensor in tensors
        ],
        jit_compile=mode == "xla",
    )
    return Step(
        launch=lambda: function(*tensors),
        wait=_wait,
        prepare=lambda: function(*(tensor[:1] for tensor in tensors)),
    )


def network_step(model, inputs, labels, mode):
    if labels is None:
        model.make_predict_function()
        return Step(
            launch=lambda: model.predict_function([(inputs,)]),
            wait=_wait,
            prepare=lambda: model.predict_function([(inputs[:1],)]),
        )
    model.make_train_function()
    batches = _endless(inputs, labels)
    return Step(
        launch=lambda: model.train_function(batches),
        wait=_wait,
        prepare=lambda: model.train_function(_endless(inputs[:1], labels[:1])),
    )


def device_growth(step):
    tf.config.experimental.reset_memory_stats("GPU:0")
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    step()
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] - before


def grouped_conv2d(inputs, kernels, strides):
    height, width, channels = inputs.shape[1:]
    rows, columns, _, filters = kernels.shape[1:]
    folded = tf.reshape(
        tf.transpose(inputs, (1, 2, 0, 3)), (1, height, width, -1)
    )
    folded_kernels = tf.reshape(
        tf.transpose(kernels, (1, 2, 3, 0, 4)), (rows, columns, channels, -1)
    )
    outputs = tf.nn.conv2d(folded, folded_kernels, strides, "SAME")
    outputs = tf.reshape(outputs, (*outputs.shape[1:3], -1, filters))
    return tf.transpose(outputs, (2, 0, 1, 3))


def _endless(inputs, labels):
    """Returns an iterator over one batch, its batch dimension unknown."""

    def forget_batch(*tensors):
        return tuple(
            tf.compat.v1.placeholder_with_default(
                tensor, [None, *tensor.shape[1:]]
            )
            for tensor in tensors
        )

    dataset = tf.data.Dataset.from_tensors((inputs, labels))
    return iter(dataset.map(forget_batch).repeat())


def _wait(results):
    tf.test.experimental.sync_devices()
