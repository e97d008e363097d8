"""Where the per-sample kernels of a convolution come from.

A source turns what is shared by the batch and what each sample owns into
kernels, in the layout an implementation wants, and takes the kernels' gradient
back to both. `GivenKernels` are handed over as they are. `AttentionalKernels`
are generated, `AK = K * (1 + sigmoid(logits))`, and generated again in the
backward pass: keeping them would cost `N` times the memory of the kernel.
"""

from keras import ops

from aw_keras.ops.attention import logits
from aw_keras.ops.backends import active


class GivenKernels:
    """Kernels `(N, h, w, Ck, D)` owned by the samples; nothing is shared."""

    def stacked(self, shared, own):
        """Kernels of the whole batch, `(N, h, w, Ck, D)`."""
        return own

    def stacked_vjp(self, shared, own, gradient):
        return (), gradient

    def interleaved(self, shared, own):
        """Kernels of the whole batch, `(h, w, Ck, N, D)`."""
        return ops.transpose(own, (1, 2, 3, 0, 4))

    def interleaved_vjp(self, shared, own, gradient):
        return (), ops.transpose(gradient, (3, 0, 1, 2, 4))

    def accumulators(self, shared):
        """Zeros to which `tile`'s pull-backs add the shared gradients."""
        return ()

    def gradients(self, shared, accumulators):
        """Shared gradients from the filled accumulators."""
        return ()

    def tile(self, shared, own, index, position):
        """One sample's kernel at one position, `(Ck, D)`, and its pull-back.

        The pull-back takes the accumulators and the tile's gradient, and
        returns the new accumulators and the gradient of the sample's own part
        at that position.
        """

        def pull(accumulators, gradient):
            return accumulators, gradient

        return own[position], pull


class AttentionalKernels:
    """Kernels `K * (1 + A)`; own are the hidden units `(N, h, w, m, Ck)`.

    Shared are `K` `(h, w, Ck, D)` and the expansion's kernel `(m, Ck, D)` and
    bias `(Ck, D)`.
    """

    def stacked(self, shared, own):
        kernel, expand_kernel, expand_bias = shared
        gain = _gain(logits(own, expand_kernel, expand_bias))
        return ops.cast(ops.cast(kernel, gain.dtype) * gain, kernel.dtype)

    def stacked_vjp(self, shared, own, gradient):
        kernel, expand_kernel, expand_bias = shared
        gain = _gain(logits(own, expand_kernel, expand_bias))
        gradient = ops.cast(gradient, gain.dtype)
        d_kernel = ops.sum(gradient * gain, axis=0)
        d_logits = gradient * ops.cast(kernel, gain.dtype) * _slope(gain)
        if expand_kernel.shape[0] == 1:
            d_expand = ops.sum(
                d_logits * own[:, :, :, 0, :, None], axis=(0, 1, 2)
            )[None]
            d_own = ops.sum(d_logits * expand_kernel[0], axis=-1)[:, :, :, None]
        else:
            d_expand = ops.einsum("nijcd,nijkc->kcd", d_logits, own)
            d_own = ops.einsum("nijcd,kcd->nijkc", d_logits, expand_kernel)
        d_bias = ops.sum(d_logits, axis=(0, 1, 2))
        return (ops.cast(d_kernel, kernel.dtype), d_expand, d_bias), d_own

    # With the batch inside, the affine part of the logits and both reductions
    # of its gradient are matrix products per input channel, which a BLAS does
    # faster than broadcast sums. The bias rides along as one more hidden unit.

    def interleaved(self, shared, own):
        kernel = shared[0]
        gain, _, _ = _interleaved_gain(shared, own)
        kernels = ops.cast(kernel, gain.dtype)[:, :, :, None, :] * gain
        return ops.cast(kernels, kernel.dtype)

    def interleaved_vjp(self, shared, own, gradient):
        kernel, expand_kernel, _ = shared
        gain, units, weights = _interleaved_gain(shared, own)
        gradient = ops.cast(gradient, gain.dtype)
        d_kernel = ops.sum(gradient * gain, axis=3)
        d_logits = (
            gradient
            * ops.cast(kernel, gain.dtype)[:, :, :, None, :]
            * _slope(gain)
        )
        d_weights = ops.sum(
            ops.matmul(ops.swapaxes(units, -1, -2), d_logits), axis=(0, 1)
        )
        d_units = ops.matmul(d_logits, ops.swapaxes(weights, -1, -2))
        per_group = expand_kernel.shape[0]
        d_own = ops.transpose(d_units[..., :per_group], (3, 0, 1, 4, 2))
        d_expand = ops.transpose(d_weights[:, :per_group], (1, 0, 2))
        d_bias = d_weights[:, per_group]
        return (ops.cast(d_kernel, kernel.dtype), d_expand, d_bias), d_own

    def accumulators(self, shared):
        kernel, expand_kernel, expand_bias = shared
        height, width = kernel.shape[:2]
        tiles = [ops.zeros_like(expand_bias) for _ in range(height * width)]
        return tiles, ops.zeros_like(expand_kernel), ops.zeros_like(expand_bias)

    def gradients(self, shared, accumulators):
        kernel = shared[0]
        tiles, d_expand, d_bias = accumulators
        d_kernel = ops.reshape(ops.stack(tiles), kernel.shape)
        return ops.cast(d_kernel, kernel.dtype), d_expand, d_bias

    def tile(self, shared, own, index, position):
        kernel, expand_kernel, expand_bias = shared
        units = own[position]
        weights = ops.cast(kernel[position], units.dtype)
        gain = _gain(logits(units, expand_kernel, expand_bias))
        # Without the barrier XLA computes the sigmoid again at every use.
        gain, tile = active.barrier(gain, weights * gain)

        def pull(accumulators, gradient):
            tiles, d_expand, d_bias = accumulators
            gradient = ops.cast(gradient, gain.dtype)
            d_logits = gradient * weights * _slope(gain)
            tiles = list(tiles)
            tiles[index] = tiles[index] + gradient * gain
            d_expand = d_expand + units[:, :, None] * d_logits[None]
            d_units = active.row_sum(d_logits[None] * expand_kernel)
            return (tiles, d_expand, d_bias + d_logits), d_units

        return ops.cast(tile, kernel.dtype), pull


def _gain(logit):
    """`1 + sigmoid(logit)`: by tanh, a fifth faster and as exact."""
    return 1.5 + 0.5 * ops.tanh(0.5 * logit)


def _slope(gain):
    """Derivative of the sigmoid, from `gain = 1 + sigmoid`."""
    return (gain - 1) * (2 - gain)


def _interleaved_gain(shared, own):
    """Gain `(h, w, Ck, N, D)` and the two factors of its logits."""
    _, expand_kernel, expand_bias = shared
    units = ops.transpose(own, (1, 2, 4, 0, 3))
    units = ops.concatenate([units, ops.ones_like(units[..., :1])], axis=-1)
    weights = ops.concatenate(
        [ops.transpose(expand_kernel, (1, 0, 2)), expand_bias[:, None]], axis=1
    )
    return _gain(ops.matmul(units, weights)), units, weights
