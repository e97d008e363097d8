"""Where the per-sample kernels of a convolution come from.

A source turns what is shared by the batch and what each sample owns into
kernels, in the layout an implementation wants, and takes the kernels' gradient
back to both, in the dtype of the attention: sums over a batch need it. Kernels
are flat here: `T = h * w` positions instead of rows and columns.

`GivenKernels` are handed over as they are. `AttentionalKernels` are generated,
`AK = K * (1 + sigmoid(logits))`, and generated again in the backward pass:
keeping them would cost `N` times the memory of the kernel.
"""

from keras import ops

from aw_keras.ops.attention import accumulation_dtype, logits
from aw_keras.ops.backends import active


def filters_of(shared, own):
    """Number of filters, from either source's tensors."""
    return (shared[0] if shared else own).shape[-1]


def zero_sums(shared):
    """Where the gradients of what is shared are summed up from."""
    return tuple(
        ops.zeros(part.shape, dtype=accumulation_dtype(part.dtype))
        for part in shared
    )


def add_sums(left, right):
    return tuple(a + b for a, b in zip(left, right))


class GivenKernels:
    """Kernels `(N, T, Ck, D)` owned by the samples; nothing is shared."""

    own_channel_axis = -2
    shared_channel_axes = ()

    def stacked(self, shared, own):
        """Kernels of the whole batch, `(N, T, Ck, D)`."""
        return own

    def stacked_with_vjp(self, shared, own):
        """The same, with a function from its gradient to both parts'."""
        return own, lambda gradient: ((), gradient)

    def turned(self, shared, own):
        """Kernels of the whole batch, `(N, T, D, Ck)`."""
        return ops.swapaxes(own, -1, -2)

    def around(self, shared, own):
        """Both parts of the kernels that are turned by half a circle."""
        return shared, ops.flip(own, axis=1)

    def turned_vjp(self, shared, own, gradient):
        return (), ops.swapaxes(gradient, -1, -2)

    def interleaved(self, shared, own):
        """Kernels of the whole batch, `(T, Ck, N, D)`."""
        return ops.transpose(own, (1, 2, 0, 3))

    def interleaved_vjp(self, shared, own, gradient):
        return (), ops.transpose(gradient, (2, 0, 1, 3))


class AttentionalKernels:
    """Kernels `K * (1 + A)`; own are the hidden units `(N, T, m, Ck)`.

    Shared are `K` `(T, Ck, D)` and the expansion's kernel `(m, Ck, D)` and
    bias `(Ck, D)`.
    """

    own_channel_axis = -1
    shared_channel_axes = (1, 1, 0)

    def stacked(self, shared, own):
        kernel = shared[0]
        return _recalibrated(kernel, _half_tanh(shared, own))

    def stacked_with_vjp(self, shared, own):
        kernel, expand_kernel, _ = shared
        # Without barriers XLA computes the tanh again at every use.
        tanh = active.barrier(_half_tanh(shared, own))

        def pull(gradient):
            gradient = ops.cast(gradient, tanh.dtype)
            d_kernel = active.batch_sum(gradient, _gain(tanh))
            d_scaled = active.barrier(_scaled_gradient(kernel, tanh, gradient))
            d_expand, d_bias = active.expansion_gradient(d_scaled, own)
            weights = 0.25 * expand_kernel
            if expand_kernel.shape[0] == 1:
                d_own = active.row_sum(d_scaled * weights[0])
                d_own = ops.expand_dims(d_own, axis=-2)
            else:
                d_own = ops.einsum("ntcd,kcd->ntkc", d_scaled, weights)
            return (d_kernel, 0.25 * d_expand, 0.25 * d_bias), d_own

        return _recalibrated(kernel, tanh), pull

    # A TPU computes kernels as it multiplies them, and keeps none of them,
    # fastest where the hidden units need not be spread over its lanes: with
    # the input channels last. No barriers then.

    def turned(self, shared, own):
        kernel, tanh, _ = _turned_tanh(shared, own)
        return _recalibrated(kernel, tanh)

    def around(self, shared, own):
        kernel, *expansion = shared
        return (ops.flip(kernel, axis=0), *expansion), ops.flip(own, axis=1)

    def turned_vjp(self, shared, own, gradient):
        kernel, tanh, expand_kernel = _turned_tanh(shared, own)
        gradient = ops.cast(gradient, tanh.dtype)
        d_kernel = ops.sum(gradient * _gain(tanh), axis=0)
        d_scaled = _scaled_gradient(kernel, tanh, gradient)
        d_bias = ops.sum(d_scaled, axis=(0, 1))
        weights = 0.25 * expand_kernel
        if expand_kernel.shape[0] == 1:
            d_expand = ops.sum(d_scaled * own, axis=(0, 1))[None]
            d_own = ops.sum(d_scaled * weights[0], axis=2)
            d_own = ops.expand_dims(d_own, axis=2)
        else:
            d_expand = ops.einsum("ntdc,ntkc->kdc", d_scaled, own)
            d_own = ops.einsum("ntdc,kdc->ntkc", d_scaled, weights)
        d_shared = d_kernel, 0.25 * d_expand, 0.25 * d_bias
        return tuple(ops.swapaxes(d, -1, -2) for d in d_shared), d_own

    # With the batch inside, the affine part of the logits and both reductions
    # of its gradient are matrix products per input channel, which a BLAS does
    # faster than broadcast sums. The bias rides along as one more hidden unit.

    def interleaved(self, shared, own):
        tanh, _, _ = _interleaved_tanh(shared, own)
        return _recalibrated(shared[0][:, :, None], tanh)

    def interleaved_vjp(self, shared, own, gradient):
        kernel, expand_kernel, _ = shared
        tanh, units, weights = _interleaved_tanh(shared, own)
        gradient = ops.cast(gradient, tanh.dtype)
        d_kernel = ops.sum(gradient * _gain(tanh), axis=2)
        d_scaled = _scaled_gradient(kernel[:, :, None], tanh, gradient)
        d_weights = 0.25 * ops.sum(
            active.matmul(units, d_scaled, transpose_a=True), axis=0
        )
        per_group = expand_kernel.shape[0]
        weights = 0.25 * weights[:, :per_group]
        d_units = active.matmul(d_scaled, weights, transpose_b=True)
        d_own = ops.transpose(d_units, (2, 0, 3, 1))
        d_expand = ops.transpose(d_weights[:, :per_group], (1, 0, 2))
        d_bias = d_weights[:, per_group]
        return (d_kernel, d_expand, d_bias), d_own


# `1 + sigmoid(logit) = 1.5 + 0.5 * tanh(logit / 2)`: a fifth faster and as
# exact. Constants go into small factors where they can, not into the kernels.


def _half_tanh(shared, own):
    """`tanh(logits / 2)`, `(N, T, Ck, D)`."""
    _, expand_kernel, expand_bias = shared
    return active.tanh(logits(own, 0.5 * expand_kernel, 0.5 * expand_bias))


def _gain(tanh):
    return 1.5 + 0.5 * tanh


def _recalibrated(kernel, tanh):
    gain = _gain(tanh)
    return ops.cast(ops.cast(kernel, gain.dtype) * gain, kernel.dtype)


def _scaled_gradient(kernel, tanh, gradient):
    """Four times the gradient of the logits."""
    return active.tanh_gradient(tanh, gradient * ops.cast(kernel, tanh.dtype))


def _turned_tanh(shared, own):
    """`K` `(T, D, Ck)`, `tanh(logits / 2)` and the expansion, likewise."""
    kernel, expand_kernel, expand_bias = (
        ops.swapaxes(part, -1, -2) for part in shared
    )
    if expand_kernel.shape[0] == 1:
        scaled = own * (0.5 * expand_kernel[0])
    else:
        scaled = ops.einsum("ntkc,kdc->ntdc", own, 0.5 * expand_kernel)
    return kernel, active.tanh(scaled + 0.5 * expand_bias), expand_kernel


def _interleaved_tanh(shared, own):
    """`tanh(logits / 2)`, `(T, Ck, N, D)`, and the two factors of logits."""
    _, expand_kernel, expand_bias = shared
    units = ops.transpose(own, (1, 3, 0, 2))
    units = ops.concatenate([units, ops.ones_like(units[..., :1])], axis=-1)
    weights = ops.concatenate(
        [ops.transpose(expand_kernel, (1, 0, 2)), expand_bias[:, None]], axis=1
    )
    return active.tanh(active.matmul(units, 0.5 * weights)), units, weights
