"""Shapes of a 2D convolution, and the two data movements built on them.

A convolution is a sum over the kernel's taps: `taps` cuts the input into one
strided view per tap, `fold` is its transpose and adds one array per tap back
into the input's frame. Tensors here are channels-last.
"""

import dataclasses
import math

from keras import ops

#: `"same"` and `"symmetric"` have an output pixel for every `strides` pixels of
#: the input, and differ in where the zeros are if the strides are not one.
PADDINGS = ("valid", "same", "symmetric")


@dataclasses.dataclass(frozen=True)
class Conv2DGeometry:
    """Everything about a 2D convolution that is not a tensor.

    Hashable, so that it can be a static argument of a compiled function.
    `padding` is one of `PADDINGS`.
    """

    kernel_size: tuple[int, int]
    strides: tuple[int, int]
    padding: str
    dilation_rate: tuple[int, int]
    groups: int

    @property
    def positions(self):
        """Kernel positions `(row, column)`, row-major."""
        height, width = self.kernel_size
        return [(i, j) for i in range(height) for j in range(width)]

    @property
    def keeps_size(self):
        """Whether the output has the pixels of the input, centred on them."""
        centred = all(reach % 2 for reach in self.reach)
        return self.padding != "valid" and self.strides == (1, 1) and centred

    def output_size(self, size):
        """Output height and width for an input height and width."""
        return tuple(
            (extent - reach) // stride + 1
            if self.padding == "valid"
            else -(-extent // stride)
            for extent, reach, stride in zip(size, self.reach, self.strides)
        )

    def kernel_elements(self, channels, filters):
        """Number of elements of one kernel, for so many input channels."""
        return math.prod(self.kernel_size) * channels // self.groups * filters

    def static_output(self, shape, filters):
        """Channels-last output shape; `None` where `shape` is unknown."""
        shape = static(shape)
        size = (
            None if extent is None else self.output_size((extent, extent))[axis]
            for axis, extent in enumerate(shape[1:3])
        )
        return (shape[0], *size, filters)

    def pads(self, size):
        """Zeros before and after each spatial axis.

        Those of `"same"` are TensorFlow's: as few as the strides need. Those
        of `"symmetric"` are PyTorch's: as many as with strides of one.
        """
        if self.padding == "valid":
            return ((0, 0), (0, 0))
        pads = []
        for extent, reach, stride in zip(size, self.reach, self.strides):
            if self.padding == "symmetric" or stride == 1 or reach == 1:
                total = reach - 1
            else:
                outputs = -(-extent // stride)
                total = _not_negative((outputs - 1) * stride + reach - extent)
            pads.append((total // 2, total - total // 2))
        return tuple(pads)

    @property
    def reach(self):
        """Extent of the dilated kernel."""
        return tuple(
            (kernel - 1) * rate + 1
            for kernel, rate in zip(self.kernel_size, self.dilation_rate)
        )


def _not_negative(value):
    return max(value, 0) if isinstance(value, int) else ops.maximum(value, 0)


def static(shape):
    """`shape` with `None` for what is unknown while tracing."""
    return tuple(
        extent if isinstance(extent, int) else None for extent in shape
    )


def spatial_size(x):
    """Height and width of channels-last `x`: integers where known."""
    return tuple(ops.shape(x)[1:3])


def output_shape(geometry, x, filters):
    """Shape of the output of convolving `x`: integers where known."""
    return (ops.shape(x)[0], *geometry.output_size(spatial_size(x)), filters)


def taps(geometry, x):
    """Cut `x` into the inputs that each kernel position multiplies.

    Args:
        geometry: `Conv2DGeometry`.
        x: `(N, H, W, C)`.

    Returns:
        A list of `h * w` tensors `(N, H_out, W_out, C)`, row-major.
    """
    size = spatial_size(x)
    output_size = geometry.output_size(size)
    pads = geometry.pads(size)
    if geometry.padding != "valid" and geometry.reach != (1, 1):
        x = ops.pad(x, ((0, 0), *pads, (0, 0)))
    views = []
    for position in geometry.positions:
        rows, columns = (
            slice(index * rate, index * rate + (count - 1) * stride + 1, stride)
            for index, rate, count, stride in zip(
                position,
                geometry.dilation_rate,
                output_size,
                geometry.strides,
            )
        )
        views.append(x[:, rows, columns, :])
    return views


def fold(geometry, columns, size):
    """Transpose of `taps`: add each position's array where it was cut.

    Positions that fall on the same phase of the stride are added at the
    output's resolution; the phases are interleaved once, at the end.

    Args:
        geometry: `Conv2DGeometry`.
        columns: list of `h * w` tensors `(N, H_out, W_out, C)`.
        size: height and width of the input.

    Returns:
        Tensor `(N, H, W, C)`.
    """
    (top, bottom), (left, right) = geometry.pads(size)
    row_stride, column_stride = geometry.strides
    channels = columns[0].shape[-1]
    output_size = ops.shape(columns[0])[1:3]
    padded = (size[0] + top + bottom, size[1] + left + right)
    rows, cols = (
        -(-extent // stride) for extent, stride in zip(padded, geometry.strides)
    )
    phases = {}
    for (i, j), column in zip(geometry.positions, columns):
        i, j = i * geometry.dilation_rate[0], j * geometry.dilation_rate[1]
        shift = (i // row_stride, j // column_stride)
        if len(columns) > 1:
            column = ops.pad(
                column,
                (
                    (0, 0),
                    (shift[0], rows - output_size[0] - shift[0]),
                    (shift[1], cols - output_size[1] - shift[1]),
                    (0, 0),
                ),
            )
        phases.setdefault((i % row_stride, j % column_stride), []).append(
            column
        )
    phases = {phase: sum(parts) for phase, parts in phases.items()}
    folded = _interleave(phases, geometry.strides)
    if row_stride != 1 or column_stride != 1:
        folded = ops.reshape(
            folded, (-1, rows * row_stride, cols * column_stride, channels)
        )
    return folded[:, top : top + size[0], left : left + size[1], :]


def _interleave(phases, strides):
    """Stack phases to `(N, rows, row phases, columns, column phases, C)`."""
    if strides == (1, 1):
        return phases[0, 0]
    empty = ops.zeros_like(next(iter(phases.values())))
    return ops.stack(
        [
            ops.stack(
                [phases.get((i, j), empty) for j in range(strides[1])], axis=3
            )
            for i in range(strides[0])
        ],
        axis=2,
    )
