"""The convolutions that the tests run: every value, and most pairs of values,
of kernel size, strides, padding, dilation, groups, data format and input size.
"""

import dataclasses

import numpy as np

from tests import reference
from tests.backends import BACKEND


@dataclasses.dataclass(frozen=True)
class Case:
    """One convolution: the sizes of its arrays, and its arguments."""

    size: tuple
    channels: int
    filters: int
    kernel: tuple
    strides: int | tuple = 1
    padding: str = "same"
    dilation_rate: int | tuple = 1
    groups: int = 1
    data_format: str = "channels_last"
    batch: int = 3
    reduction: int = 16

    def __str__(self):
        fields = dataclasses.asdict(self).values()
        return "-".join(
            "x".join(map(str, field))
            if isinstance(field, tuple)
            else str(field)
            for field in fields
        )

    @property
    def kernel_channels(self):
        return self.channels // self.groups

    @property
    def convolution(self):
        """The keyword arguments of the convolution."""
        return dict(
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
            data_format=self.data_format,
        )

    def x(self, generator):
        shape = (self.batch, *self.size, self.channels)
        return reference.restore_format(
            generator.normal(size=shape), self.data_format
        )

    def per_sample_arrays(self):
        """`x` and one kernel per sample."""
        generator = np.random.default_rng(11)
        shape = (self.batch, *self.kernel, self.kernel_channels, self.filters)
        return [self.x(generator), generator.normal(size=shape)]

    def aw_arrays(self):
        """`x`, the shared kernel and the four weights of the attention."""
        generator = np.random.default_rng(12)
        shapes = [
            (*self.kernel, self.kernel_channels, self.filters),
            *reference.attention_shapes(
                self.channels,
                self.kernel_channels,
                self.filters,
                self.reduction,
            ),
        ]
        return [
            self.x(generator),
            *(generator.normal(size=shape) for shape in shapes),
        ]


_FIRST = "channels_first"

CASES = [
    # 3x3: strides, paddings, groups, depthwise with and without multiplier.
    Case((5, 7), 3, 4, (3, 3)),
    Case((7, 5), 4, 6, (3, 3), 2, groups=2, data_format=_FIRST),
    Case((8, 9), 4, 4, (3, 3), (2, 1), "valid"),
    Case((9, 8), 4, 4, (3, 3), 1, "valid", 2, groups=4, data_format=_FIRST),
    Case((7, 7), 3, 2, (3, 3), 2, batch=1),
    Case((6, 5), 4, 8, (3, 3), dilation_rate=(2, 1), groups=4),
    Case((7, 6), 3, 6, (3, 3), 3, groups=3, batch=1, data_format=_FIRST),
    Case((6, 6), 4, 4, (3, 3), 1, "valid", groups=2, batch=1),
    Case((9, 9), 4, 6, (3, 3), dilation_rate=(2, 3), groups=2),
    Case((5, 6), 4, 8, (3, 3), 2, groups=4),
    # 1x1: one matrix product per sample.
    Case((4, 4), 3, 5, (1, 1), 1, "valid", data_format=_FIRST),
    Case((5, 5), 4, 6, (1, 1), 2, groups=2),
    Case((5, 6), 4, 4, (1, 1), 3, "valid", groups=4),
    Case((5, 4), 3, 4, (1, 1), (2, 1), batch=1),
    # 5x5, also larger than the input.
    Case((7, 6), 3, 4, (5, 5)),
    Case((6, 6), 3, 4, (5, 5), 3, "valid"),
    Case((3, 4), 3, 4, (5, 5), data_format=_FIRST),
    Case((2, 2), 4, 4, (5, 5), 2, groups=2),
    Case((1, 1), 3, 4, (3, 3)),
    Case((3, 3), 4, 4, (3, 3), dilation_rate=3, groups=4),
    # Non-square and even kernels; strides larger than the kernel.
    Case((6, 7), 3, 4, (1, 3)),
    Case((7, 6), 4, 6, (1, 3), (2, 1), "valid", groups=2, data_format=_FIRST),
    Case((7, 8), 3, 4, (2, 4)),
    Case((8, 9), 4, 8, (2, 4), 2, groups=4, data_format=_FIRST),
    Case((7, 7), 4, 3, (3, 2), 3),
    Case((7, 8), 4, 4, (3, 2), 1, "valid", (2, 1)),
    Case((8, 8), 2, 3, (2, 2), 3, "valid"),
    # More hidden units than groups of the second pointwise convolution.
    Case((5, 5), 10, 4, (3, 3), reduction=2),
    Case((4, 5), 18, 6, (3, 2), reduction=2, groups=2),
    # Padded on both sides: even and odd sizes, groups, depthwise, even kernel.
    Case((8, 7), 3, 4, (3, 3), 2, "symmetric"),
    Case((6, 8), 4, 6, (3, 3), 2, "symmetric", groups=2, data_format=_FIRST),
    Case((7, 6), 4, 8, (3, 3), 2, "symmetric", groups=4),
    Case((8, 9), 3, 4, (5, 4), (3, 1), "symmetric"),
    Case((5, 6), 4, 4, (3, 3), 1, "symmetric", 2),
    Case((6, 5), 3, 4, (1, 1), 2, "symmetric"),
    # No sample at all.
    Case((5, 6), 3, 4, (3, 3), 2, batch=0),
    Case((5, 6), 4, 4, (1, 1), groups=2, batch=0, data_format=_FIRST),
]

#: One case of a kind, for what takes long.
FEW_CASES = [CASES[i] for i in (1, 3, 4, 5, 11, 17, 24, 28, 29)]

#: The cases of every implementation: all, where nothing has to be compiled.
IMPLEMENTATION_CASES = CASES if BACKEND == "torch" else FEW_CASES
