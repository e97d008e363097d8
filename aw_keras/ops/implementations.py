"""Exact implementations of the per-sample convolution, forward and backward.

Every implementation computes the same values; they differ in what they are
fast at. A forward function takes `(geometry, source, x, own, shared)` and
returns the output; a backward function also takes the output's gradient and
returns `(dx, d_own, d_shared)`. Nothing but the arguments is kept between the
two, so any forward goes with any backward.

- `grouped`: one convolution with the batch folded into its groups.
- `loop`: one ordinary convolution per sample.
- `matmul`: patches of the input and one batched matrix product.
- `tiles`: `matmul` on as many samples and input channels at a time as have
  kernels that fit the cache.
- `shifted`: one batched matrix product per kernel position.
"""

import collections

from keras import ops

from aw_keras.ops.attention import accumulation_dtype
from aw_keras.ops.backends import active
from aw_keras.ops.geometry import fold, spatial_size, static, taps

_TILE_ELEMENTS = 300000

Implementation = collections.namedtuple("Implementation", "forward backward")


def _grouped_forward(geometry, source, x, own, shared):
    filters = _filters(source, shared, own)

    def convolve():
        kernels = _merge_batch(geometry, source.interleaved(shared, own))
        return _unfold_batch(
            active.convolve(geometry, _fold_batch(x), kernels), filters
        )

    def nothing():
        return ops.zeros(_output_shape(geometry, x, filters), dtype=x.dtype)

    return active.unless_empty(convolve, x, nothing)


def _grouped_backward(geometry, source, x, own, shared, dy):
    if not active.has_gradient(geometry, x.dtype, grouped=True):
        return _tiles_backward(geometry, source, x, own, shared, dy)

    def pull():
        kernels = source.interleaved(shared, own)
        dx, d_kernels = active.convolve_vjp(
            geometry,
            _fold_batch(x),
            _merge_batch(geometry, kernels),
            _fold_batch(dy),
        )
        d_shared, d_own = source.interleaved_vjp(
            shared, own, ops.reshape(d_kernels, ops.shape(kernels))
        )
        return _unfold_batch(dx, x.shape[-1]), d_own, d_shared

    def nothing():
        return ops.zeros_like(x), ops.zeros_like(own), _zeros(shared)

    return active.unless_empty(pull, x, nothing)


def _loop_forward(geometry, source, x, own, shared):
    def convolve(_, sample):
        x_n, own_n = (part[None] for part in sample)
        kernel = _single(geometry, source.stacked(shared, own_n))
        return (), (active.convolve(geometry, x_n, kernel)[0],)

    shape = _output_shape(geometry, x, _filters(source, shared, own))
    _, (y,) = active.scan(convolve, (), (x, own), ((shape[1:], x.dtype),))
    return y


def _loop_backward(geometry, source, x, own, shared, dy):
    if not active.has_gradient(geometry, x.dtype, geometry.groups > 1):
        return _tiles_backward(geometry, source, x, own, shared, dy)

    def pull(d_shared, sample):
        x_n, own_n, dy_n = (part[None] for part in sample)
        kernels, pull_kernels = source.stacked_with_vjp(shared, own_n)
        dx, d_kernel = active.convolve_vjp(
            geometry, x_n, _single(geometry, kernels), dy_n
        )
        d_shared_n, d_own = pull_kernels(ops.reshape(d_kernel, kernels.shape))
        return _add(d_shared, d_shared_n), (dx[0], d_own[0])

    d_shared, (dx, d_own) = active.scan(
        pull,
        _zeros(shared),
        (x, own, dy),
        ((ops.shape(x)[1:], x.dtype), (own.shape[1:], own.dtype)),
    )
    return dx, d_own, d_shared


def _single(geometry, kernels):
    """`(1, T, Ck, D)` to `(h, w, Ck, D)`."""
    return ops.reshape(kernels, (*geometry.kernel_size, *kernels.shape[2:]))


def _tiles_forward(geometry, source, x, own, shared):
    samples, channels = _tile(geometry, source, x, own, shared)

    def convolve_block(y, block):
        x_b, own_b, shared_b = _take_block(
            source, x, own, shared, block, channels
        )

        def convolve(_, chunk):
            return (), (_matmul_forward(geometry, source, *chunk, shared_b),)

        _, (part,) = active.scan(
            convolve,
            (),
            _chunks(samples, x_b, own_b),
            (((samples, *shape[1:]), x.dtype),),
        )
        part = ops.reshape(part, (-1, *shape[1:]))
        return part if y is None else y + ops.cast(part, y.dtype), ()

    shape = _output_shape(geometry, x, _filters(source, shared, own))
    count = x.shape[-1] // channels
    if count == 1:
        return convolve_block(None, None)[0]
    zeros = ops.zeros(shape, dtype=accumulation_dtype(x.dtype))
    y, _ = active.scan(convolve_block, zeros, (ops.arange(count),), ())
    return ops.cast(y, x.dtype)


def _tiles_backward(geometry, source, x, own, shared, dy):
    samples, channels = _tile(geometry, source, x, own, shared)

    def pull_block(carry, block):
        x_b, own_b, shared_b = _take_block(
            source, x, own, shared, block, channels
        )

        def pull(d_shared, chunk):
            x_n, own_n, dy_n = chunk
            dx, d_own, d_shared_n = _matmul_backward(
                geometry, source, x_n, own_n, shared_b, dy_n
            )
            return _add(d_shared, d_shared_n), (dx, d_own)

        d_shared, (dx, d_own) = active.scan(
            pull,
            _zeros(shared_b),
            _chunks(samples, x_b, own_b, dy),
            tuple(
                ((samples, *ops.shape(part)[1:]), part.dtype)
                for part in (x_b, own_b)
            ),
        )
        dx = ops.reshape(dx, (-1, *ops.shape(x_b)[1:]))
        d_own = ops.reshape(d_own, (-1, *own_b.shape[1:]))
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
            (x.dtype, own.dtype, *(z.dtype for z in _zeros(shared))),
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
    per_channel = rows * columns * _filters(source, shared, own)
    channels = x.shape[-1]
    if geometry.groups == 1:
        channels = _divisor(channels, _TILE_ELEMENTS // per_channel)
    if None in static(x.shape):
        return 1, channels  # No other number divides every batch.
    height, width = geometry.output_size(x.shape[1:3])
    patches = height * width * rows * columns * channels
    kernel = per_channel * channels // geometry.groups
    samples = _divisor(x.shape[0], _TILE_ELEMENTS // max(kernel, patches))
    return samples, channels


def _divisor(number, limit):
    """Largest divisor of `number` up to `limit`, at least 1."""
    return next(
        (n for n in range(min(number, limit), 0, -1) if number % n == 0), 1
    )


def _chunks(samples, *parts):
    return tuple(
        ops.reshape(part, (-1, samples, *ops.shape(part)[1:])) for part in parts
    )


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


def _zeros(shared):
    return tuple(
        ops.zeros(part.shape, dtype=accumulation_dtype(part.dtype))
        for part in shared
    )


def _add(left, right):
    return tuple(a + b for a, b in zip(left, right))


def _matmul_forward(geometry, source, x, own, shared):
    kernels = _flat_patches(source.stacked(shared, own))
    y = _contract(geometry, _patches(geometry, x), kernels)
    return ops.reshape(y, _output_shape(geometry, x, kernels.shape[-1]))


def _matmul_backward(geometry, source, x, own, shared, dy):
    size, output_size = spatial_size(x), ops.shape(dy)[1:3]
    dy = ops.reshape(dy, (-1, output_size[0] * output_size[1], dy.shape[-1]))
    kernels, pull_kernels = source.stacked_with_vjp(shared, own)
    columns = _contract_dx(geometry, dy, _flat_patches(kernels))
    columns = _split_patches(geometry, columns, output_size)
    d_kernels = _contract_dw(geometry, _patches(geometry, x), dy)
    d_kernels = ops.reshape(d_kernels, (-1, *kernels.shape[1:]))
    d_shared, d_own = pull_kernels(d_kernels)
    return fold(geometry, columns, size), d_own, d_shared


def _shifted_forward(geometry, source, x, own, shared):
    kernels = source.stacked(shared, own)
    output_shape = _output_shape(geometry, x, kernels.shape[-1])
    y = sum(
        _contract(geometry, _flat_pixels(view), kernels[:, position])
        for position, view in enumerate(taps(geometry, x))
    )
    return ops.reshape(y, output_shape)


def _shifted_backward(geometry, source, x, own, shared, dy):
    size, output_size = spatial_size(x), ops.shape(dy)[1:3]
    dy = _flat_pixels(dy)
    kernels, pull_kernels = source.stacked_with_vjp(shared, own)
    columns, d_tiles = [], []
    for position, view in enumerate(taps(geometry, x)):
        column = _contract_dx(geometry, dy, kernels[:, position])
        columns.append(ops.reshape(column, (-1, *output_size, x.shape[-1])))
        d_tiles.append(_contract_dw(geometry, _flat_pixels(view), dy))
    d_shared, d_own = pull_kernels(ops.stack(d_tiles, axis=1))
    return fold(geometry, columns, size), d_own, d_shared


# Contractions of pixels `(..., P, g * K)` with kernels `(..., K, D)`, and their
# two transposes. Depthwise products (K = 1) stay elementwise: a matrix product
# with an inner size of one is mostly overhead.


def _contract(geometry, pixels, kernel):
    if geometry.groups == 1:
        return active.matmul(pixels, kernel)
    if kernel.shape[-2] == 1:
        multiplier = kernel.shape[-1] // geometry.groups
        return _repeat_channels(pixels, multiplier) * kernel
    return _join_groups(
        active.matmul(
            _split_groups(pixels, geometry), _split_groups(kernel, geometry)
        )
    )


def _contract_dx(geometry, dy, kernel):
    if geometry.groups == 1:
        return active.matmul(dy, kernel, transpose_b=True)
    if kernel.shape[-2] == 1:
        return _sum_multiplier(dy * kernel, geometry)
    return _join_groups(
        active.matmul(
            _split_groups(dy, geometry),
            _split_groups(kernel, geometry),
            transpose_b=True,
        )
    )


def _contract_dw(geometry, pixels, dy):
    if geometry.groups == 1:
        return active.matmul(pixels, dy, transpose_a=True)
    if pixels.shape[-1] == geometry.groups:
        multiplier = dy.shape[-1] // geometry.groups
        product = _repeat_channels(pixels, multiplier) * dy
        return ops.sum(product, axis=-2, keepdims=True)
    return _join_groups(
        active.matmul(
            _split_groups(pixels, geometry),
            _split_groups(dy, geometry),
            transpose_a=True,
        )
    )


def _split_groups(x, geometry):
    """`(..., P, g * K)` to `(..., g, P, K)`."""
    lead = ops.shape(x)[:-1]
    x = ops.reshape(x, (*lead, geometry.groups, x.shape[-1] // geometry.groups))
    return ops.swapaxes(x, -2, -3)


def _join_groups(x):
    """`(..., g, P, K)` to `(..., P, g * K)`."""
    x = ops.swapaxes(x, -2, -3)
    return ops.reshape(x, (*ops.shape(x)[:-2], x.shape[-1] * x.shape[-2]))


def _repeat_channels(x, multiplier):
    return x if multiplier == 1 else ops.repeat(x, multiplier, axis=-1)


def _sum_multiplier(x, geometry):
    multiplier = x.shape[-1] // geometry.groups
    if multiplier == 1:
        return x
    x = ops.reshape(x, (*ops.shape(x)[:-1], geometry.groups, multiplier))
    return ops.sum(x, axis=-1)


def _patches(geometry, x):
    """`(N, P, g * T * Ck)`: every output pixel's inputs, group by group."""
    views = [_flat_pixels(view) for view in taps(geometry, x)]
    if len(views) == 1:
        return views[0]
    if geometry.groups == 1:
        return ops.concatenate(views, axis=-1)
    views = ops.stack(views, axis=2)
    _, pixels, count, channels = ops.shape(views)
    views = ops.reshape(
        views,
        (-1, pixels, count, geometry.groups, channels // geometry.groups),
    )
    views = ops.swapaxes(views, 2, 3)
    return ops.reshape(views, (-1, pixels, count * channels))


def _split_patches(geometry, columns, output_size):
    """Transpose of `_patches`, up to `fold`: one array per position."""
    count = len(geometry.positions)
    width = columns.shape[-1] // count
    columns = ops.reshape(
        columns,
        (-1, *output_size, geometry.groups, count, width // geometry.groups),
    )
    return [
        ops.reshape(columns[..., index, :], (-1, *output_size, width))
        for index in range(count)
    ]


def _flat_pixels(x):
    _, height, width, channels = ops.shape(x)
    return ops.reshape(x, (-1, height * width, channels))


def _flat_patches(kernels):
    """`(N, T, Ck, D)` to `(N, T * Ck, D)`."""
    _, positions, channels, filters = kernels.shape
    return ops.reshape(kernels, (-1, positions * channels, filters))


def _fold_batch(x):
    """`(N, H, W, C)` to one image of `N * C` channels."""
    n, height, width, channels = ops.shape(x)
    return ops.reshape(
        ops.transpose(x, (1, 2, 0, 3)), (1, height, width, n * channels)
    )


def _unfold_batch(y, channels):
    _, height, width, _ = ops.shape(y)
    y = ops.reshape(y, (height, width, -1, channels))
    return ops.transpose(y, (2, 0, 1, 3))


def _merge_batch(geometry, kernels):
    """`(T, Ck, N, D)` to one kernel `(h, w, Ck, N * D)`."""
    _, channels, n, filters = ops.shape(kernels)
    return ops.reshape(kernels, (*geometry.kernel_size, channels, n * filters))


def _filters(source, shared, own):
    return (shared[0] if shared else own).shape[-1]


def _output_shape(geometry, x, filters):
    return (ops.shape(x)[0], *geometry.output_size(spatial_size(x)), filters)


def _implementation(forward, backward):
    def typed_backward(geometry, source, x, own, shared, dy):
        dx, d_own, d_shared = backward(geometry, source, x, own, shared, dy)
        return (
            ops.cast(dx, x.dtype),
            ops.cast(d_own, own.dtype),
            tuple(ops.cast(d, part.dtype) for d, part in zip(d_shared, shared)),
        )

    return Implementation(forward, typed_backward)


TABLE = {
    "grouped": _implementation(_grouped_forward, _grouped_backward),
    "loop": _implementation(_loop_forward, _loop_backward),
    "matmul": _implementation(_matmul_forward, _matmul_backward),
    "shifted": _implementation(_shifted_forward, _shifted_backward),
    "tiles": _implementation(_tiles_forward, _tiles_backward),
}
