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
- `views`: one contraction over kernel positions and channels.
"""

import collections
import math

from keras import ops

from aw_keras.ops import tiles
from aw_keras.ops.backends import active
from aw_keras.ops.geometry import output_shape, static
from aw_keras.ops.kernels import add_sums, filters_of, zero_sums
from aw_keras.ops.products import (
    matmul_backward,
    matmul_forward,
    shifted_backward,
    shifted_forward,
    views_backward,
    views_forward,
)
from aw_keras.ops.tiles import tiles_backward, tiles_forward

_CHUNK_SAMPLES = 16
_ALL_SAMPLES = 2**24

Implementation = collections.namedtuple("Implementation", "forward backward")


def _grouped_forward(geometry, source, x, own, shared):
    filters = filters_of(shared, own)

    def convolve(carry, chunk):
        x_c, own_c = chunk
        kernels = _merge_batch(geometry, source.interleaved(shared, own_c))
        y = active.convolve(geometry, _fold_batch(x_c), kernels)
        return carry, (_unfold_batch(y, filters),)

    shape = output_shape(geometry, x, filters)
    _, (y,) = active.scan_chunks(
        _chunk_samples(geometry, x, own, shared),
        convolve,
        (),
        (x, own),
        ((shape[1:], x.dtype),),
    )
    return y


def _grouped_backward(geometry, source, x, own, shared, dy):
    if not active.has_gradient(geometry, x.dtype, grouped=True):
        return tiles_backward(geometry, source, x, own, shared, dy)

    def pull(d_shared, chunk):
        x_c, own_c, dy_c = chunk
        kernels = source.interleaved(shared, own_c)
        dx, d_kernels = active.convolve_vjp(
            geometry,
            _fold_batch(x_c),
            _merge_batch(geometry, kernels),
            _fold_batch(dy_c),
        )
        d_shared_c, d_own = source.interleaved_vjp(
            shared, own_c, ops.reshape(d_kernels, ops.shape(kernels))
        )
        dx = _unfold_batch(dx, x.shape[-1])
        return add_sums(d_shared, d_shared_c), (dx, d_own)

    d_shared, (dx, d_own) = active.scan_chunks(
        _chunk_samples(geometry, x, own, shared),
        pull,
        zero_sums(shared),
        (x, own, dy),
        ((ops.shape(x)[1:], x.dtype), (own.shape[1:], own.dtype)),
    )
    return dx, d_own, d_shared


def _chunk_samples(geometry, x, own, shared):
    """How many samples to fold into channels at a time.

    On a CPU, more of them move the pixels of one sample apart, beyond the
    reach of its caches; fewer leave too little to do at a time.
    """
    if active.device() != "cpu":
        return _ALL_SAMPLES
    shape = static(x.shape[1:])
    if None in shape:
        return _CHUNK_SAMPLES
    kernel = geometry.kernel_elements(shape[-1], filters_of(shared, own))
    elements = max(kernel, math.prod(shape))
    fitting = tiles.CACHE_ELEMENTS // max(elements, 1)
    return max(1, fitting // _CHUNK_SAMPLES) * _CHUNK_SAMPLES


def _loop_forward(geometry, source, x, own, shared):
    def convolve(_, sample):
        x_n, own_n = (part[None] for part in sample)
        kernel = _single(geometry, source.stacked(shared, own_n))
        return (), (active.convolve(geometry, x_n, kernel)[0],)

    shape = output_shape(geometry, x, filters_of(shared, own))
    _, (y,) = active.scan(convolve, (), (x, own), ((shape[1:], x.dtype),))
    return y


def _loop_backward(geometry, source, x, own, shared, dy):
    if not active.has_gradient(geometry, x.dtype, geometry.groups > 1):
        return tiles_backward(geometry, source, x, own, shared, dy)

    def pull(d_shared, sample):
        x_n, own_n, dy_n = (part[None] for part in sample)
        kernels, pull_kernels = source.stacked_with_vjp(shared, own_n)
        dx, d_kernel = active.convolve_vjp(
            geometry, x_n, _single(geometry, kernels), dy_n
        )
        d_shared_n, d_own = pull_kernels(ops.reshape(d_kernel, kernels.shape))
        return add_sums(d_shared, d_shared_n), (dx[0], d_own[0])

    d_shared, (dx, d_own) = active.scan(
        pull,
        zero_sums(shared),
        (x, own, dy),
        ((ops.shape(x)[1:], x.dtype), (own.shape[1:], own.dtype)),
    )
    return dx, d_own, d_shared


def _single(geometry, kernels):
    """`(1, T, Ck, D)` to `(h, w, Ck, D)`."""
    return ops.reshape(kernels, (*geometry.kernel_size, *kernels.shape[2:]))


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


def _implementation(forward, backward, loops=True):
    """A pair of functions that say whether they loop over samples."""

    def typed_backward(geometry, source, x, own, shared, dy):
        dx, d_own, d_shared = backward(geometry, source, x, own, shared, dy)
        return (
            ops.cast(dx, x.dtype),
            ops.cast(d_own, own.dtype),
            tuple(ops.cast(d, part.dtype) for d, part in zip(d_shared, shared)),
        )

    forward.loops = typed_backward.loops = loops
    return Implementation(forward, typed_backward)


TABLE = {
    "grouped": _implementation(_grouped_forward, _grouped_backward),
    "loop": _implementation(_loop_forward, _loop_backward),
    "matmul": _implementation(matmul_forward, matmul_backward, loops=False),
    "shifted": _implementation(shifted_forward, shifted_backward, loops=False),
    "tiles": _implementation(tiles_forward, tiles_backward),
    "views": _implementation(views_forward, views_backward, loops=False),
}
