"""TensorFlow: loops by `tf.while_loop`, gradients by `tf.custom_gradient`."""

import functools

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from aw_keras.ops.backends.chunks import scan_equal_chunks
from aw_keras.ops.geometry import static

_PARALLEL_SAMPLES = 4

#: How many sizes of images a layer has graphs of its own for, called eagerly:
#: each takes a megabyte, and a tenth of a second to trace.
_SIZES = 2

tanh = tf.tanh


def tanh_gradient(tanh, gradient):
    return tf.raw_ops.TanhGrad(y=tanh, dy=gradient)


def barrier(x):
    if compiled():
        return gen_xla_ops.xla_optimization_barrier([x])[0]
    return x


def row_sum(x):
    return tf.reduce_sum(x, axis=-1)


def batch_sum(x, factor):
    """Sum of `x * factor` over the first axis."""
    return tf.reduce_sum(x * factor, axis=0)


def expansion_gradient(d_logits, hidden):
    """Gradients of the expansion's kernel and bias.

    One matrix product per input channel: XLA:CPU does not vectorise the sums.

    Args:
        d_logits: `(N, T, Ck, D)`.
        hidden: `(N, T, m, Ck)`.

    Returns:
        `(m, Ck, D)` and `(Ck, D)`.
    """
    _, _, channels, filters = d_logits.shape
    units = tf.concat([hidden, tf.ones_like(hidden[:, :, :1])], axis=2)
    rows = units.shape[2]
    units = tf.reshape(tf.transpose(units, (3, 2, 0, 1)), (channels, rows, -1))
    d_logits = tf.transpose(d_logits, (2, 0, 1, 3))
    d_logits = tf.reshape(d_logits, (channels, -1, filters))
    gradient = tf.transpose(tf.matmul(units, d_logits), (1, 0, 2))
    return gradient[:-1], gradient[-1]


def matmul(a, b, transpose_a=False, transpose_b=False):
    """Batched matrix product; a transposed factor is never copied."""
    if tf.executing_eagerly() and {*a.shape[:-2], *b.shape[:-2]} <= {1}:
        # oneDNN keeps a fifth of a megabyte for every shape of a batched one.
        y = tf.matmul(
            tf.reshape(a, a.shape[-2:]),
            tf.reshape(b, b.shape[-2:]),
            transpose_a=transpose_a,
            transpose_b=transpose_b,
        )
        rank = max(a.shape.rank, b.shape.rank)
        return tf.reshape(y, (*[1] * (rank - 2), *y.shape))
    if b.shape.rank < a.shape.rank:
        # oneDNN's broadcasting product writes out of bounds at axes of one.
        b = tf.broadcast_to(
            b, tf.concat([tf.shape(a)[:-2], tf.shape(b)[-2:]], axis=0)
        )
    return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def contract(equation, a, b, dtype):
    """`einsum` of two tensors, in `dtype`."""
    return tf.cast(tf.einsum(equation, a, b), dtype)


def convolve(geometry, x, kernel):
    """Channels-last convolution; groups follow from the channels."""
    padding = geometry.padding.upper()
    if padding == "SYMMETRIC":
        # Explicit padding has no gradient in groups on a CPU.
        x = tf.pad(x, ((0, 0), *geometry.pads(x.shape[1:3]), (0, 0)))
        padding = "VALID"
    if _suits_depthwise(geometry, x, kernel):
        height, width = geometry.kernel_size
        return tf.nn.depthwise_conv2d(
            x,
            tf.reshape(kernel, (height, width, tf.shape(x)[-1], -1)),
            strides=(1, *geometry.strides, 1),
            padding=padding,
        )
    # Not tf.nn.convolution: it dilates through space-to-batch, which corrupts
    # memory where the number of channels is unknown.
    return tf.nn.conv2d(
        x,
        kernel,
        strides=geometry.strides,
        padding=padding,
        dilations=geometry.dilation_rate,
    )


def _suits_depthwise(geometry, x, kernel):
    row_stride, column_stride = geometry.strides
    return (
        kernel.shape[-2] == 1
        and geometry.groups > 1
        and geometry.dilation_rate == (1, 1)
        and row_stride == column_stride
    )


def convolve_vjp(geometry, x, kernel, dy):
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        # Only its gradient's graph is used: the forward value is pruned.
        y = convolve(geometry, x, kernel)
    return tape.gradient(y, (x, kernel), dy)


def has_gradient(geometry, dtype, grouped):
    """Whether `convolve_vjp` can run.

    On CPUs, grouped and dilated convolutions have a gradient through oneDNN
    only, which serves some dtypes and can be turned off.
    """
    dilated = geometry.dilation_rate != (1, 1)
    if device() != "cpu" or compiled() or not (grouped or dilated):
        return True
    return _probe(tf.as_dtype(dtype).name, dilated)


@functools.cache
def _probe(dtype, dilated):
    with tf.init_scope(), tf.device("CPU:0"):
        try:
            tf.raw_ops.Conv2DBackpropFilter(
                input=tf.ones((1, 2, 2, 4), dtype),
                filter_sizes=(1, 1, 2, 4),
                out_backprop=tf.ones((1, 2, 2, 4), dtype),
                strides=(1, 1, 1, 1),
                padding="SAME",
                dilations=(1, 2, 2, 1) if dilated else (1, 1, 1, 1),
            )
        except tf.errors.OpError:
            return False
    return True


def scan(body, carry, elements, outputs):
    """Loop over the leading axis of `elements`, one sample at a time.

    `outputs` gives shape and dtype of each output of `body`.
    """
    if elements[0].shape[0] == 1:
        carry, parts = body(carry, tuple(e[0] for e in elements))
        return carry, tuple(part[None] for part in parts)
    count = tf.shape(elements[0])[0]
    carry, lists = _loop(
        lambda index, carry: body(carry, tuple(e[index] for e in elements)),
        carry,
        count,
        outputs,
    )
    stacks = (
        tf.raw_ops.TensorListStack(
            input_handle=handle,
            element_shape=tf.convert_to_tensor(shape, tf.int32),
            element_dtype=dtype,
        )
        for handle, (shape, dtype) in zip(lists, outputs)
    )
    return carry, _with_batch(stacks, elements[0].shape[0], outputs)


def scan_chunks(samples, body, carry, elements, outputs):
    """`scan` over chunks of `samples`; the last one may be smaller.

    `body` takes and returns arrays with a leading axis, `outputs` says what
    is behind it.
    """
    if compiled():
        return scan_equal_chunks(scan, samples, body, carry, elements, outputs)
    batch = elements[0].shape[0]
    if batch is not None and batch <= samples:
        return body(carry, elements)

    def step(index, carry):
        chunk = slice(index * samples, (index + 1) * samples)
        return body(carry, tuple(e[chunk] for e in elements))

    chunks = -(-tf.shape(elements[0])[0] // samples)
    shapes = [((-1, *shape), dtype) for shape, dtype in outputs]
    carry, lists = _loop(step, carry, chunks, shapes)
    joined = (
        tf.raw_ops.TensorListConcatV2(
            input_handle=handle,
            element_shape=tf.convert_to_tensor(shape, tf.int32),
            leading_dims=tf.constant([], tf.int64),
            element_dtype=dtype,
        ).tensor
        for handle, (shape, dtype) in zip(lists, shapes)
    )
    return carry, _with_batch(joined, batch, outputs)


def _loop(step, carry, count, outputs):
    """Carry and handles of lists of outputs after `count` steps."""
    # Not tf.TensorArray: it cannot stack nothing where a shape is unknown.
    lists = [
        tf.raw_ops.TensorListReserve(
            element_shape=tf.convert_to_tensor(shape, tf.int32),
            num_elements=count,
            element_dtype=dtype,
        )
        for shape, dtype in outputs
    ]

    def body(index, lists, carry):
        carry, parts = step(index, carry)
        lists = [
            tf.raw_ops.TensorListSetItem(
                input_handle=handle, index=index, item=part
            )
            for handle, part in zip(lists, parts)
        ]
        return index + 1, lists, carry

    _, lists, carry = tf.while_loop(
        lambda index, *_: index < count,
        body,
        (0, lists, carry),
        parallel_iterations=_PARALLEL_SAMPLES,
        maximum_iterations=count,
    )
    return carry, lists


def _with_batch(tensors, batch, outputs):
    return tuple(
        tf.ensure_shape(tensor, (batch, *static(shape)))
        for tensor, (shape, _) in zip(tensors, outputs)
    )


def differentiable(implementation, geometry, source, x, own, shared):
    """Apply `implementation`, keeping only its arguments for the gradient."""

    @tf.custom_gradient
    def apply(x, own, *shared):
        y = _run(implementation.forward, geometry, source, x, own, shared)
        if not tf.executing_eagerly():  # Where each shape is a new operation.
            filters = (*shared, own)[0].shape[-1]
            y = tf.ensure_shape(y, geometry.static_output(x.shape, filters))

        def gradient(dy):
            dx, d_own, d_shared = _run(
                implementation.backward, geometry, source, x, own, shared, dy
            )
            return dx, d_own, *d_shared

        return y, gradient

    return apply(x, own, *shared)


def _run(function, geometry, source, x, own, shared, *dy):
    """Call `function`, loops as a graph of its own.

    Eagerly, a loop in Python is ruinous. In a graph on a CPU, layers of one
    shape share theirs: tracing and optimising it for each of them would be
    most of the time until the first step. XLA wants it all in one graph.
    """
    if not tf.executing_eagerly() and (
        not function.loops or compiled() or device() != "cpu"
    ):
        return function(geometry, source, x, own, shared, *dy)
    batched = [(None, *part.shape[1:]) for part in (x, own, *dy)]
    if tf.executing_eagerly() and not _has_own_graphs(
        function, geometry, source, x.shape
    ):
        for place in (0, *range(2, len(batched))):
            batched[place] = (None, None, None, batched[place][-1])
    shapes = (
        *batched[:2],
        *(tuple(part.shape) for part in shared),
        *batched[2:],
    )
    arguments = (x, own, *shared, *dy)
    if not dy and not tf.executing_eagerly():
        # A custom gradient is around it: without this a tape would have
        # TensorFlow make one of its own for the graph of the function.
        arguments = tuple(tf.stop_gradient(part) for part in arguments)
    dtypes = tuple(part.dtype for part in arguments)
    traced = _traced(function, geometry, source, len(shared), shapes, dtypes)
    return traced(*arguments)


def _has_own_graphs(function, geometry, source, shape):
    """Whether images of this size, which the first few have, have graphs.

    Photos may all have different sizes. The others share one graph.
    """
    _, height, width, channels = shape
    sizes = _sizes(function, geometry, source, channels)
    if len(sizes) < _SIZES:
        sizes.add((height, width))
    return (height, width) in sizes


@functools.lru_cache(maxsize=1024)
def _sizes(function, geometry, source, channels):
    """The sizes that have graphs of their own, a set to add to."""
    return set()


@functools.lru_cache(maxsize=1024)
def _traced(function, geometry, source, shared_count, shapes, dtypes):
    """A graph of `function` for any batch size, traced once."""

    def call(x, own, *rest):
        shared, dy = rest[:shared_count], rest[shared_count:]
        return function(geometry, source, x, own, shared, *dy)

    # Concrete, or TensorFlow would count every shape as a retracing, and warn.
    return tf.function(
        call,
        input_signature=tuple(map(tf.TensorSpec, shapes, dtypes)),
        autograph=False,
        experimental_attributes={"_noinline": True},
    ).get_concrete_function()


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
