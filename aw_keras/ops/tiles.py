"""`matmul`, on as much at a time as has kernels that fit the cache."""

from keras import ops

from aw_keras.ops.attention import accumulation_dtype
from aw_keras.ops.backends import active
from aw_keras.ops.backends.chunks import largest_divisor
from aw_keras.ops.geometry import output_shape, static
from aw_keras.ops.kernels import add_sums, filters_of, zero_sums
from aw_keras.ops.products import matmul_backward, matmul_forward

CACHE_ELEMENTS = 300_000


def tiles_forward(geometry, source, x, own, shared):
    samples, channels = _tile(geometry, source, x, own, shared)

    def convolve_block(y, block):
        x_b, own_b, shared_b = _take_block(
            source, x, own, shared, block, channels
        )

        def convolve(_, chunk):
            return (), (matmul_forward(geometry, source, *chunk, shared_b),)

        _, (part,) = active.scan_chunks(
            samples, convolve, (), (x_b, own_b), ((shape[1:], x.dtype),)
        )
        return part if y is None else y + ops.cast(part, y.dtype), ()

    shape = output_shape(geometry, x, filters_of(shared, own))
    count = x.shape[-1] // channels
    if count == 1:
        return convolve_block(None, None)[0]
    zeros = ops.zeros(shape, dtype=accumulation_dtype(x.dtype))
    y, _ = active.scan(convolve_block, zeros, (ops.arange(count),), ())
    return ops.cast(y, x.dtype)


def tiles_backward(geometry, source, x, own, shared, dy):
    samples, channels = _tile(geometry, source, x, own, shared)

    def pull_block(carry, block):
        x_b, own_b, shared_b = _take_block(
            source, x, own, shared, block, channels
        )

        def pull(d_shared, chunk):
            x_n, own_n, dy_n = chunk
            dx, d_own, d_shared_n = matmul_backward(
                geometry, source, x_n, own_n, shared_b, dy_n
            )
            return add_sums(d_shared, d_shared_n), (dx, d_own)

        d_shared, (dx, d_own) = active.scan_chunks(
            samples,
            pull,
            zero_sums(shared_b),
            (x_b, own_b, dy),
            tuple((ops.shape(part)[1:], part.dtype) for part in (x_b, own_b)),
        )
        return carry, (dx, d_own, *d_shared)

    count = x.shape[-1] // channels
    if count == 1:
        _, (dx, d_own, *d_shared) = pull_block((), None)
        return dx, d_own, tuple(d_shared)
    axes = (-1, source.own_channel_axis, *source.shared_channel_axes)
    primals = (x, own, *shared)
    outputs = tuple(
        (_resized(ops.shape(part), axis, channels), dtype)
        for part, axis, dtype in zip(
            primals,
            axes,
            (x.dtype, own.dtype, *(z.dtype for z in zero_sums(shared))),
        )
    )
    _, blocks = active.scan(pull_block, (), (ops.arange(count),), outputs)
    dx, d_own, *d_shared = (
        _join_blocks(part, axis % len(primal.shape))
        for part, axis, primal in zip(blocks, axes, primals)
    )
    return dx, d_own, tuple(d_shared)


def _tile(geometry, source, x, own, shared):
    """Samples and input channels to take at a time.

    Chosen so that their kernels, and their patches, fit the cache.
    """
    rows, columns = geometry.kernel_size
    per_channel = rows * columns * filters_of(shared, own)
    channels = x.shape[-1]
    if geometry.groups == 1:
        channels = largest_divisor(channels, CACHE_ELEMENTS // per_channel)
    size = static(x.shape[1:3])
    if None in size:
        return 1, channels
    height, width = geometry.output_size(size)
    patches = height * width * rows * columns * channels
    kernel = per_channel * channels // geometry.groups
    return max(1, CACHE_ELEMENTS // max(kernel, patches)), channels


def _take_block(source, x, own, shared, block, channels):
    """What one block of input channels needs; all of it without a block."""
    if block is None:
        return x, own, shared
    start = block[0] * channels

    def take(part, axis):
        shape = ops.shape(part)
        # All of one dtype, that of the loop's counter: JAX takes no other.
        starts = [0 * start] * len(shape)
        starts[axis] = start
        return ops.slice(part, starts, _resized(shape, axis, channels))

    return (
        take(x, -1),
        take(own, source.own_channel_axis),
        tuple(map(take, shared, source.shared_channel_axes)),
    )


def _resized(shape, axis, extent):
    shape = list(shape)
    shape[axis] = extent
    return tuple(shape)


def _join_blocks(blocks, axis):
    """`(B, ..., C, ...)` to `(..., B * C, ...)`."""
    blocks = ops.moveaxis(blocks, 0, axis)
    shape = list(ops.shape(blocks))
    shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    return ops.reshape(blocks, shape)
