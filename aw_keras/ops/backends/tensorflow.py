"""TensorFlow: loops by `tf.while_loop`, gradients by `tf.custom_gradient`."""

import functools
import math

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

_PARALLEL_SAMPLES = 4


def barrier(x):
    if compiled():
        return gen_xla_ops.xla_optimization_barrier([x])[0]
    return x


def row_sum(x):
    """Sum over the last axis, in a form that XLA:CPU vectorises."""
    width = x.shape[-1]
    if device() != "cpu" or not compiled() or width % 16 or width == 16:
        return tf.reduce_sum(x, axis=-1)
    partial = tf.reshape(x, (-1, *x.shape[1:-1], width // 16, 16))
    return tf.reduce_sum(barrier(tf.reduce_sum(partial, axis=-2)), axis=-1)


def leading_sum(x, count):
    """Sum over the first `count` axes, in a form that XLA:CPU vectorises."""
    known = x.shape.is_fully_defined()
    if device() != "cpu" or not compiled() or not known:
        return tf.reduce_sum(x, axis=tuple(range(count)))
    rows = math.prod(x.shape[:count])
    x = tf.reshape(x, (rows, *x.shape[count:]))
    return tf.add_n([x[row] for row in range(rows)])


def matmul(a, b, transpose_a=False, transpose_b=False):
    """Batched matrix product; a transposed factor is never copied."""
    return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def convolve(geometry, x, kernel):
    """Channels-last convolution; groups follow from the channels."""
    if _suits_depthwise(geometry, x, kernel):
        height, width = geometry.kernel_size
        return tf.nn.depthwise_conv2d(
            x,
            tf.reshape(kernel, (height, width, tf.shape(x)[-1], -1)),
            strides=(1, *geometry.strides, 1),
            padding=geometry.padding.upper(),
            dilations=geometry.dilation_rate,
        )
    return tf.nn.convolution(
        x,
        kernel,
        strides=geometry.strides,
        padding=geometry.padding.upper(),
        dilations=geometry.dilation_rate,
    )


def _suits_depthwise(geometry, x, kernel):
    row_stride, column_stride = geometry.strides
    return (
        kernel.shape[-2] == 1
        and geometry.groups > 1
        and row_stride == column_stride
        and (row_stride == 1 or geometry.dilation_rate == (1, 1))
    )


def convolve_vjp(geometry, x, kernel, dy):
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        # Only its gradient's graph is used: the forward value is pruned.
        y = convolve(geometry, x, kernel)
    return tape.gradient(y, (x, kernel), dy)


def has_grouped_gradient(dtype):
    """TensorFlow has it on CPUs through oneDNN only, for some dtypes."""
    return device() != "cpu" or compiled() or _probe(tf.as_dtype(dtype).name)


@functools.cache
def _probe(dtype):
    with tf.init_scope(), tf.device("CPU:0"):
        try:
            tf.raw_ops.Conv2DBackpropFilter(
                input=tf.ones((1, 2, 2, 4), dtype),
                filter_sizes=(1, 1, 2, 4),
                out_backprop=tf.ones((1, 2, 2, 4), dtype),
                strides=(1, 1, 1, 1),
                padding="SAME",
            )
        except tf.errors.OpError:
            return False
    return True


def unless_empty(function, x, otherwise):
    """`function()`, or `otherwise()` where the batch turns out empty."""
    if x.shape[0] is not None:
        return function()
    return tf.cond(tf.shape(x)[0] > 0, function, otherwise)


def scan(body, carry, elements, outputs):
    """Loop over the leading axis of `elements`, one sample at a time.

    `outputs` gives shape and dtype of each output of `body`.
    """
    if elements[0].shape[0] == 1:
        carry, parts = body(carry, tuple(e[0] for e in elements))
        return carry, tuple(part[None] for part in parts)
    count = tf.shape(elements[0])[0]
    arrays = [
        tf.TensorArray(dtype, count, element_shape=_static(shape))
        for shape, dtype in outputs
    ]

    def step(index, arrays, carry):
        carry, parts = body(carry, tuple(e[index] for e in elements))
        arrays = [a.write(index, part) for a, part in zip(arrays, parts)]
        return index + 1, arrays, carry

    _, arrays, carry = tf.while_loop(
        lambda index, *_: index < count,
        step,
        (0, arrays, carry),
        parallel_iterations=_PARALLEL_SAMPLES,
        maximum_iterations=count,
    )
    return carry, tuple(array.stack() for array in arrays)


def _static(shape):
    return [extent if isinstance(extent, int) else None for extent in shape]


def differentiable(implementation, geometry, source, x, own, shared):
    """Apply `implementation`, keeping only its arguments for the gradient."""

    @tf.custom_gradient
    def apply(x, own, *shared):
        y = _graph(implementation.forward, geometry, source)(x, own, shared)

        def gradient(dy):
            dx, d_own, d_shared = _graph(
                implementation.backward, geometry, source
            )(x, own, shared, dy)
            return dx, d_own, *d_shared

        return y, gradient

    return apply(x, own, *shared)


def _graph(function, geometry, source):
    """`function` of tensors; eagerly, a loop in Python would be ruinous."""
    if tf.executing_eagerly():
        return _traced(function, geometry, source)
    return functools.partial(function, geometry, source)


@functools.lru_cache(maxsize=1024)
def _traced(function, geometry, source):
    return tf.function(
        functools.partial(function, geometry, source), reduce_retracing=True
    )


def device():
    """`"cpu"`, `"gpu"` or `"tpu"`: where computations go by default."""
    for kind in ("TPU", "GPU"):
        if tf.config.list_logical_devices(kind):
            return kind.lower()
    return "cpu"


def compiled():
    """Whether the graph being traced is to be compiled by XLA."""
    try:
        from tensorflow.python.framework import ops as framework_ops
        from tensorflow.python.ops import control_flow_util
    except ImportError:  # Private modules: without them, assume plain graphs.
        return False
    if tf.executing_eagerly():
        return False
    return bool(
        control_flow_util.GraphOrParentsInXlaContext(
            framework_ops.get_default_graph()
        )
    )


def splits_batch():
    return False
