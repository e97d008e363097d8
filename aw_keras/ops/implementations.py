"""Exact implementations of the per-sample convolution, forward and backward.

Every implementation computes the same values; they differ in what they are
fast at. A forward function takes `(geometry, source, x, own, shared)` and
returns the output; a backward function also takes the output's gradient and
returns `(dx, d_own, d_shared)`. Nothing but the arguments is kept between the
two, so any forward goes with any backward.

- `grouped`: one convolution with the batch folded into its groups.
- `loop`: one ordinary convolution per sample.
- `tiles`: forward as `loop`; backward per sample and kernel position by matrix
  products, so that nothing larger than one `(Ck, D)` tile is generated.
- `matmul`: patches of the input and one batched matrix product.
- `shifted`: one batched matrix product per kernel position.
"""

import collections

from keras import ops

from aw_keras.ops.backends import active
from aw_keras.ops.geometry import fold, spatial_size, taps

Implementation = collections.namedtuple("Implementation", "forward backward")


def _grouped_forward(geometry, source, x, own, shared):
    filters = _filters(source, shared, own)

    def convolve():
        kernels = _flat_groups(source.interleaved(shared, own))
        return _unfold_batch(
            active.convolve(geometry, _fold_batch(x), kernels), filters
        )

    def nothing():
        return ops.zeros(_output_shape(geometry, x, filters), dtype=x.dtype)

    return active.unless_empty(convolve, x, nothing)


def _grouped_backward(geometry, source, x, own, shared, dy):
    if not active.has_grouped_gradient(x.dtype):
        return _loop_backward(geometry, source, x, own, shared, dy)

    def pull():
        kernels = source.interleaved(shared, own)
        dx, d_kernels = active.convolve_vjp(
            geometry, _fold_batch(x), _flat_groups(kernels), _fold_batch(dy)
        )
        d_shared, d_own = source.interleaved_vjp(
            shared, own, ops.reshape(d_kernels, ops.shape(kernels))
        )
        return _unfold_batch(dx, x.shape[-1]), d_own, d_shared

    def nothing():
        zeros = tuple(ops.zeros_like(part) for part in shared)
        return ops.zeros_like(x), ops.zeros_like(own), zeros

    return active.unless_empty(pull, x, nothing)


def _loop_forward(geometry, source, x, own, shared):
    def convolve(_, sample):
        x_n, own_n = sample
        kernel = source.stacked(shared, own_n)
        return (), (active.convolve(geometry, x_n[None], kernel)[0],)

    shape = _output_shape(geometry, x, _filters(source, shared, own))
    _, (y,) = active.scan(convolve, (), (x, own), ((shape[1:], x.dtype),))
    return y


def _loop_backward(geometry, source, x, own, shared, dy):
    def pull(accumulators, sample):
        x_n, own_n, dy_n = sample
        kernel = source.stacked(shared, own_n)
        dx, d_kernel = active.convolve_vjp(
            geometry, x_n[None], kernel, dy_n[None]
        )
        d_own = []
        for index, position in enumerate(geometry.positions):
            _, pull_tile = source.tile(shared, own_n, index, position)
            accumulators, d_tile = pull_tile(accumulators, d_kernel[position])
            d_own.append(d_tile)
        return accumulators, (dx[0], _restack(d_own, own))

    return _scan_samples(pull, source, x, own, shared, dy)


def _tiles_backward(geometry, source, x, own, shared, dy):
    size = spatial_size(x)
    output_size = ops.shape(dy)[1:3]

    def pull(accumulators, sample):
        x_n, own_n, dy_n = sample
        views = taps(geometry, x_n[None])
        dy_n = ops.reshape(dy_n, (-1, dy_n.shape[-1]))
        columns, d_own = [], []
        for index, position in enumerate(geometry.positions):
            tile, pull_tile = source.tile(shared, own_n, index, position)
            column = _contract_dx(geometry, dy_n, tile)
            columns.append(
                ops.reshape(column, (1, *output_size, x.shape[-1]))
            )
            view = ops.reshape(views[index], (-1, x.shape[-1]))
            accumulators, d_tile = pull_tile(
                accumulators, _contract_dw(geometry, view, dy_n)
            )
            d_own.append(d_tile)
        dx = fold(geometry, columns, size)[0]
        return accumulators, (dx, _restack(d_own, own))

    return _scan_samples(pull, source, x, own, shared, dy)


def _scan_samples(pull, source, x, own, shared, dy):
    accumulators, (dx, d_own) = active.scan(
        pull,
        source.accumulators(shared),
        (x, own, dy),
        tuple((ops.shape(t)[1:], t.dtype) for t in (x, own)),
    )
    return dx, d_own, source.gradients(shared, accumulators)


def _matmul_forward(geometry, source, x, own, shared):
    kernels = _flat_patches(source.stacked(shared, own))
    y = _contract(geometry, _patches(geometry, x), kernels)
    return ops.reshape(y, _output_shape(geometry, x, kernels.shape[-1]))


def _matmul_backward(geometry, source, x, own, shared, dy):
    size, output_size = spatial_size(x), ops.shape(dy)[1:3]
    dy = ops.reshape(dy, (-1, output_size[0] * output_size[1], dy.shape[-1]))
    kernels = source.stacked(shared, own)
    columns = _contract_dx(geometry, dy, _flat_patches(kernels))
    columns = _split_patches(geometry, columns, output_size)
    d_kernels = _contract_dw(geometry, _patches(geometry, x), dy)
    d_kernels = ops.reshape(d_kernels, (-1, *kernels.shape[1:]))
    d_shared, d_own = _kernels_vjp(geometry, source, shared, own, d_kernels)
    return fold(geometry, columns, size), d_own, d_shared


def _shifted_forward(geometry, source, x, own, shared):
    kernels = source.stacked(shared, own)
    output_shape = _output_shape(geometry, x, kernels.shape[-1])
    y = sum(
        _contract(geometry, _flat_pixels(view), kernels[:, i, j])
        for (i, j), view in zip(geometry.positions, taps(geometry, x))
    )
    return ops.reshape(y, output_shape)


def _shifted_backward(geometry, source, x, own, shared, dy):
    size, output_size = spatial_size(x), ops.shape(dy)[1:3]
    dy = _flat_pixels(dy)
    kernels = source.stacked(shared, own)
    columns, d_tiles = [], []
    for (i, j), view in zip(geometry.positions, taps(geometry, x)):
        column = _contract_dx(geometry, dy, kernels[:, i, j])
        columns.append(ops.reshape(column, (-1, *output_size, x.shape[-1])))
        d_tiles.append(_contract_dw(geometry, _flat_pixels(view), dy))
    d_kernels = ops.stack(d_tiles, axis=1)
    d_kernels = ops.reshape(d_kernels, (-1, *kernels.shape[1:]))
    d_shared, d_own = _kernels_vjp(geometry, source, shared, own, d_kernels)
    return fold(geometry, columns, size), d_own, d_shared


def _kernels_vjp(geometry, source, shared, own, gradient):
    """Gradient of stacked kernels, in the order the device reduces best."""
    if not active.reduces_by_scan():
        return source.stacked_vjp(shared, own, gradient)

    def pull(accumulators, sample):
        own_n, gradient_n = sample
        d_own = []
        for index, position in enumerate(geometry.positions):
            _, pull_tile = source.tile(shared, own_n, index, position)
            accumulators, d_tile = pull_tile(accumulators, gradient_n[position])
            d_own.append(d_tile)
        return accumulators, (_restack(d_own, own),)

    accumulators, (d_own,) = active.scan(
        pull,
        source.accumulators(shared),
        (own, gradient),
        ((ops.shape(own)[1:], own.dtype),),
    )
    return source.gradients(shared, accumulators), d_own


# Contractions of pixels `(..., P, g * K)` with kernels `(..., K, D)`, and their
# two transposes. Depthwise products (K = 1) stay elementwise: a matrix product
# with an inner size of one is mostly overhead.


def _contract(geometry, pixels, kernel):
    if geometry.groups == 1:
        return ops.matmul(pixels, kernel)
    if kernel.shape[-2] == 1:
        multiplier = kernel.shape[-1] // geometry.groups
        return _repeat_channels(pixels, multiplier) * kernel
    return _join_groups(
        ops.matmul(
            _split_groups(pixels, geometry), _split_groups(kernel, geometry)
        )
    )


def _contract_dx(geometry, dy, kernel):
    if geometry.groups == 1:
        return ops.matmul(dy, ops.swapaxes(kernel, -1, -2))
    if kernel.shape[-2] == 1:
        return _sum_multiplier(dy * kernel, geometry)
    return _join_groups(
        ops.matmul(
            _split_groups(dy, geometry),
            ops.swapaxes(_split_groups(kernel, geometry), -1, -2),
        )
    )


def _contract_dw(geometry, pixels, dy):
    if geometry.groups == 1:
        return ops.matmul(ops.swapaxes(pixels, -1, -2), dy)
    if pixels.shape[-1] == geometry.groups:
        multiplier = dy.shape[-1] // geometry.groups
        product = _repeat_channels(pixels, multiplier) * dy
        return ops.sum(product, axis=-2, keepdims=True)
    return _join_groups(
        ops.matmul(
            ops.swapaxes(_split_groups(pixels, geometry), -1, -2),
            _split_groups(dy, geometry),
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
    """`(N, P, g * h * w * Ck)`: every output pixel's inputs, group by group."""
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
    """`(N, h, w, Ck, D)` to `(N, h * w * Ck, D)`."""
    _, height, width, channels, filters = kernels.shape
    return ops.reshape(kernels, (-1, height * width * channels, filters))


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


def _flat_groups(kernels):
    """`(h, w, Ck, N, D)` to `(h, w, Ck, N * D)`."""
    height, width, channels, n, filters = ops.shape(kernels)
    return ops.reshape(kernels, (height, width, channels, n * filters))


def _restack(parts, own):
    """Gradients of a sample's own part, from those of its positions."""
    return ops.cast(
        ops.reshape(ops.stack(parts), own.shape[1:]), own.dtype
    )


def _filters(source, shared, own):
    return (shared[0] if shared else own).shape[-1]


def _output_shape(geometry, x, filters):
    return (ops.shape(x)[0], *geometry.output_size(spatial_size(x)), filters)


TABLE = {
    "grouped": Implementation(_grouped_forward, _grouped_backward),
    "loop": Implementation(_loop_forward, _loop_backward),
    "matmul": Implementation(_matmul_forward, _matmul_backward),
    "shifted": Implementation(_shifted_forward, _shifted_backward),
    "tiles": Implementation(_loop_forward, _tiles_backward),
}
