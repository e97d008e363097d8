"""Per-sample convolutions as batched matrix products.

`matmul` multiplies patches of the input by whole kernels; `shifted` multiplies
one view of the input for each kernel position; `views` contracts positions and
channels of both at once, with the channels of the kernels last. The functions
have the contract of `aw_keras.ops.implementations`.
"""

from keras import ops

from aw_keras.ops.attention import accumulation_dtype
from aw_keras.ops.backends import active
from aw_keras.ops.geometry import fold, output_shape, spatial_size, taps


def matmul_forward(geometry, source, x, own, shared):
    kernels = _flat_patches(source.stacked(shared, own))
    y = _contract(geometry, _patches(geometry, x), kernels)
    return ops.reshape(y, output_shape(geometry, x, kernels.shape[-1]))


def matmul_backward(geometry, source, x, own, shared, dy):
    size, output_size = spatial_size(x), ops.shape(dy)[1:3]
    dy = _flat_pixels(dy)
    kernels, pull_kernels = source.stacked_with_vjp(shared, own)
    columns = _contract_dx(geometry, dy, _flat_patches(kernels))
    columns = _split_patches(geometry, columns, output_size)
    d_kernels = _contract_dw(geometry, _patches(geometry, x), dy)
    d_kernels = ops.reshape(d_kernels, (-1, *kernels.shape[1:]))
    d_shared, d_own = pull_kernels(d_kernels)
    return fold(geometry, columns, size), d_own, d_shared


def shifted_forward(geometry, source, x, own, shared):
    kernels = source.stacked(shared, own)
    shape = output_shape(geometry, x, kernels.shape[-1])
    y = sum(
        _contract(geometry, _flat_pixels(view), kernels[:, position])
        for position, view in enumerate(taps(geometry, x))
    )
    return ops.reshape(y, shape)


def shifted_backward(geometry, source, x, own, shared, dy):
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


def views_forward(geometry, source, x, own, shared):
    if geometry.groups > 1:
        return matmul_forward(geometry, source, x, own, shared)
    kernels = source.turned(shared, own)
    views = _stacked_views(geometry, x)
    y = active.contract("ntpc,ntdc->npd", views, kernels, x.dtype)
    return ops.reshape(y, output_shape(geometry, x, kernels.shape[-2]))


def views_backward(geometry, source, x, own, shared, dy):
    if geometry.groups > 1:
        return matmul_backward(geometry, source, x, own, shared, dy)
    size, output_size = spatial_size(x), ops.shape(dy)[1:3]
    dtype = accumulation_dtype(x.dtype)
    pixels = _flat_pixels(dy)
    if geometry.keeps_size:
        # The transpose is a convolution with the kernel turned around, which
        # needs no `fold`.
        kernels = source.turned(*source.around(shared, own))
        views = _stacked_views(geometry, dy)
        dx = active.contract("ntpd,ntdc->npc", views, kernels, x.dtype)
        dx = ops.reshape(dx, ops.shape(x))
    else:
        kernels = source.turned(shared, own)
        columns = active.contract("npd,ntdc->ntpc", pixels, kernels, dtype)
        columns = [
            ops.reshape(columns[:, position], (-1, *output_size, x.shape[-1]))
            for position in range(len(geometry.positions))
        ]
        dx = fold(geometry, columns, size)
    views = _stacked_views(geometry, x)
    d_kernels = active.contract("ntpc,npd->ntdc", views, pixels, dtype)
    d_shared, d_own = source.turned_vjp(shared, own, d_kernels)
    return dx, d_own, d_shared


def _stacked_views(geometry, x):
    """`(N, T, P, C)`: what each kernel position multiplies."""
    return ops.stack([_flat_pixels(v) for v in taps(geometry, x)], axis=1)


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
