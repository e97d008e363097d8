"""JAX: loops by `lax.scan`, gradients by `custom_vjp`."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from keras import distribution

from aw_keras.ops.backends.chunks import scan_equal_chunks

_UNROLLED_ROWS = 64
_LAYOUT = ("NHWC", "HWIO", "NHWC")

barrier = lax.optimization_barrier

# Not keras.ops.tanh, which rounds float64 where x64 is a context's.
tanh = jnp.tanh


def tanh_gradient(tanh, gradient):
    return gradient * (1 - tanh * tanh)


def row_sum(x):
    """Sum over the last axis, in a form that XLA:CPU vectorises.

    It keeps the strict order of a plain row reduction, one element at a time.
    """
    width = x.shape[-1]
    if device() != "cpu" or width % 16 or width == 16:
        return jnp.sum(x, axis=-1)
    partial = jnp.sum(jnp.reshape(x, (*x.shape[:-1], width // 16, 16)), axis=-2)
    return jnp.sum(lax.optimization_barrier(partial), axis=-1)


def batch_sum(x, factor):
    """Sum of `x * factor` over the first axis."""
    return _leading_sum(x, factor, axes=1)


def expansion_gradient(d_logits, hidden):
    """Gradients of the expansion's kernel and bias.

    Args:
        d_logits: `(N, T, Ck, D)`.
        hidden: `(N, T, m, Ck)`.

    Returns:
        `(m, Ck, D)` and `(Ck, D)`.
    """
    d_bias = _leading_sum(d_logits, 1.0, axes=2)
    if hidden.shape[2] == 1:
        units = hidden[:, :, 0, :, None]
        return _leading_sum(d_logits, units, axes=2)[None], d_bias
    return jnp.einsum("ntcd,ntkc->kcd", d_logits, hidden), d_bias


def _leading_sum(x, factor, axes):
    """Sum of `x * factor` over the first `axes` axes.

    XLA:CPU does not vectorise a reduction over leading axes; it does a sum of
    slices, or a matrix product.
    """
    lead, shape = x.shape[:axes], x.shape[axes:]
    rows = math.prod(lead)
    known = isinstance(rows, int)
    if device() != "cpu" or splits_batch() or not known:
        return jnp.sum(x * factor, axis=tuple(range(axes)))
    if 0 < rows <= _UNROLLED_ROWS:
        factor = jnp.broadcast_to(factor, (*lead, *jnp.shape(factor)[axes:]))
        return sum(x[row] * factor[row] for row in np.ndindex(lead))
    x = jnp.reshape(x * factor, (rows, math.prod(shape)))
    total = jnp.dot(jnp.ones(rows, x.dtype), x)
    return jnp.reshape(total, shape)


def matmul(a, b, transpose_a=False, transpose_b=False):
    """Batched matrix product; a transposed factor is never copied."""
    if not (transpose_a or transpose_b):
        return jnp.matmul(a, b)
    left = "...kp" if transpose_a else "...pk"
    right = "...dk" if transpose_b else "...kd"
    return jnp.einsum(f"{left},{right}->...pd", a, b)


def contract(equation, a, b, dtype):
    """`einsum` of two tensors, summed up and returned in `dtype`."""
    return jnp.einsum(equation, a, b, preferred_element_type=dtype)


def convolve(geometry, x, kernel):
    """Channels-last convolution; groups follow from the channels."""
    padding = geometry.padding.upper()
    if padding == "SYMMETRIC":
        padding = geometry.pads(x.shape[1:3])
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        padding,
        rhs_dilation=geometry.dilation_rate,
        dimension_numbers=_LAYOUT,
        feature_group_count=x.shape[-1] // kernel.shape[-2],
    )


def convolve_vjp(geometry, x, kernel, dy):
    _, pull = jax.vjp(functools.partial(convolve, geometry), x, kernel)
    return pull(dy)


def has_gradient(geometry, dtype, grouped):
    return True


def scan(body, carry, elements, outputs):
    """Loop over the leading axis of `elements`, one sample at a time."""
    return lax.scan(body, carry, elements)


scan_chunks = functools.partial(scan_equal_chunks, scan)


def differentiable(implementation, geometry, source, x, own, shared):
    """Apply `implementation`, keeping only its arguments for the gradient."""
    return _apply(implementation, geometry, source, x, own, shared)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _apply(implementation, geometry, source, x, own, shared):
    return implementation.forward(geometry, source, x, own, shared)


def _forward(implementation, geometry, source, x, own, shared):
    y = _apply(implementation, geometry, source, x, own, shared)
    return y, (x, own, shared)


def _backward(implementation, geometry, source, arguments, dy):
    return implementation.backward(geometry, source, *arguments, dy)


_apply.defvjp(_forward, _backward)


def device():
    """`"cpu"`, `"gpu"` or `"tpu"`: where computations go by default."""
    return jax.default_backend()


def compiled():
    return True


def splits_batch():
    """Whether the batch axis is spread over devices.

    A loop over that axis would then run in full on every one of them.
    """
    return distribution.distribution() is not None
