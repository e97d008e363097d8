"""PyTorch: loops in Python, gradients by `autograd.Function`."""

import torch
import torch.nn.functional as F
from keras import ops

tanh = torch.tanh


def tanh_gradient(tanh, gradient):
    return torch.ops.aten.tanh_backward(gradient, tanh)


def barrier(x):
    return x


def row_sum(x):
    return torch.sum(x, dim=-1)


def batch_sum(x, factor):
    """Sum of `x * factor` over the first axis."""
    return torch.sum(x * factor, dim=0)


def expansion_gradient(d_logits, hidden):
    """Gradients of the expansion's kernel and bias."""
    d_expand = torch.einsum("ntcd,ntkc->kcd", d_logits, hidden)
    return d_expand, torch.sum(d_logits, dim=(0, 1))


def matmul(a, b, transpose_a=False, transpose_b=False):
    """Batched matrix product; a transposed factor is never copied.

    Not keras.ops.matmul, which rounds float64 outside of TensorFlow.
    """
    return torch.matmul(a.mT if transpose_a else a, b.mT if transpose_b else b)


def contract(equation, a, b, dtype):
    """`einsum` of two tensors, in `dtype`."""
    return ops.cast(torch.einsum(equation, a, b), dtype)


def convolve(geometry, x, kernel):
    """Channels-last convolution; groups follow from the channels."""
    x, padding, groups = _prepare(geometry, x, kernel)
    y = F.conv2d(
        x,
        kernel.permute(3, 2, 0, 1),
        stride=geometry.strides,
        padding=padding,
        dilation=geometry.dilation_rate,
        groups=groups,
    )
    return y.permute(0, 2, 3, 1)


def convolve_vjp(geometry, x, kernel, dy):
    padded, padding, groups = _prepare(geometry, x, kernel)
    dx, d_kernel, _ = torch.ops.aten.convolution_backward(
        dy.permute(0, 3, 1, 2),
        padded,
        kernel.permute(3, 2, 0, 1).contiguous(),
        None,
        geometry.strides,
        padding,
        geometry.dilation_rate,
        False,
        (0, 0),
        groups,
        (True, True, False),
    )
    if padding == (0, 0):
        (top, _), (left, _) = geometry.pads(x.shape[1:3])
        height, width = x.shape[1:3]
        dx = dx[:, :, top : top + height, left : left + width]
    return dx.permute(0, 2, 3, 1), d_kernel.permute(2, 3, 1, 0)


def _prepare(geometry, x, kernel):
    """Channels-first input with what one `padding` argument cannot say."""
    (top, bottom), (left, right) = geometry.pads(x.shape[1:3])
    groups = x.shape[-1] // kernel.shape[-2]
    x = x.permute(0, 3, 1, 2)
    if top == bottom and left == right:
        return x, (top, left), groups
    return F.pad(x, (left, right, top, bottom)), (0, 0), groups


def has_gradient(geometry, dtype, grouped):
    return True


def scan(body, carry, elements, outputs):
    """Loop over the leading axis of `elements`, one sample at a time."""
    parts = []
    for sample in zip(*elements):
        carry, part = body(carry, sample)
        parts.append(part)
    return carry, tuple(torch.stack(part) for part in zip(*parts))


def scan_chunks(samples, body, carry, elements, outputs):
    """`scan` over chunks of `samples`; the last one may be smaller.

    `body` takes and returns arrays with a leading axis, `outputs` says what
    is behind it.
    """
    chunks = []
    for chunk in zip(*(torch.split(e, samples) for e in elements)):
        carry, parts = body(carry, chunk)
        chunks.append(parts)
    return carry, tuple(torch.cat(parts) for parts in zip(*chunks))


def differentiable(implementation, geometry, source, x, own, shared):
    """Apply `implementation`, keeping only its arguments for the gradient."""
    return _Apply.apply(implementation, geometry, source, x, own, *shared)


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx, implementation, geometry, source, x, own, *shared):
        ctx.save_for_backward(x, own, *shared)
        ctx.static = implementation, geometry, source
        return implementation.forward(geometry, source, x, own, shared)

    @staticmethod
    def backward(ctx, dy):
        implementation, geometry, source = ctx.static
        x, own, *shared = ctx.saved_tensors
        dx, d_own, d_shared = implementation.backward(
            geometry, source, x, own, tuple(shared), dy
        )
        return None, None, None, dx, d_own, *d_shared


def device():
    """`"cpu"` or `"gpu"`: where computations go by default."""
    return "gpu" if torch.cuda.is_available() else "cpu"


def compiled():
    return False


def splits_batch():
    return False
