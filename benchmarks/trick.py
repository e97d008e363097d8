"""AWConv2D as it is usually written: the peer that AWConv2D is compared with.

The kernels of the whole batch are generated, the batch is folded into the
groups of one grouped convolution, and automatic differentiation does the rest.
"""

from keras import ops

import aw_keras
from benchmarks import backends


class GroupedTrickConv2D(aw_keras.AWConv2D):
    """AWConv2D with its arithmetic written out by hand.

    Covers what the benchmarks need: channels last, `padding="same"`, no
    convolution groups, no bias, and attention groups of one hidden unit each,
    which is what the default reduction gives.
    """

    def convolution_op(self, inputs, kernel):
        pooled = aw_keras.ops.adaptive_average_pool2d(inputs, self.kernel_size)
        hidden = ops.matmul(pooled, self.attention_reduce_kernel)
        hidden = ops.relu(ops.add(hidden, self.attention_reduce_bias))
        channels = inputs.shape[-1]
        hidden = ops.repeat(hidden, channels // hidden.shape[-1], axis=-1)
        logits = ops.multiply(
            hidden[..., None], self.attention_expand_kernel[0]
        )
        attention = ops.sigmoid(ops.add(logits, self.attention_expand_bias))
        kernel = ops.cast(kernel, inputs.dtype)
        kernels = kernel + ops.cast(attention, inputs.dtype) * kernel
        grouped_conv2d = backends.active().grouped_conv2d
        return grouped_conv2d(inputs, kernels, self.strides)
