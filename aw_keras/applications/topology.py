"""Residual networks, written once for every framework.

The functions here know no framework: they name the layers, and a `Toolkit`
makes them. Networks of two frameworks that were built by the same functions
have layers of the same names.

Layers are named as in `keras.applications`: the stem is `conv1_*`, block 3 of
the first stage is `conv2_block3_*`, its output `conv2_block3_out`. The number
in front is the level of a stage.
"""

import dataclasses
from typing import Protocol

from aw_keras.choices import check_choice

CONVOLUTIONS = ("plain", "aw")
SHORTCUTS = ("identity", "centered", "projection")
PADDINGS = ("same", "symmetric")
FIRST_LEVEL = 2
BOTTLENECK_EXPANSION = 4

#: Blocks of the four stages of the networks for ImageNet, and whether they are
#: bottlenecks, by depth: He et al., table 1.
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}

#: Epsilon of their batch normalisations.
NORM_EPSILON = 1.001e-5


class Toolkit(Protocol):
    """What makes the layers of one network and calls them.

    Every method but `channels` adds the layer `name` to tensor `x`.
    Convolutions have no bias.
    """

    def channels(self, x) -> int: ...

    def conv(self, x, filters, size, name, strides=1, padding="same"): ...

    def aw_conv(self, x, filters, size, name, strides=1, padding="same"): ...

    def norm(self, x, name): ...

    def relu(self, x, name): ...

    def add(self, tensors, name): ...

    def zero_pad(self, x, padding, name): ...

    def max_pool(self, x, size, strides, name): ...

    def attention(self, x, kind, name): ...

    def identity_shortcut(self, x, filters, strides, name, centered=False): ...


@dataclasses.dataclass(frozen=True)
class Stage:
    """Residual blocks that share resolution and width.

    Attributes:
        level: Integer, the number in the names of the stage's layers.
        filters: Integer, filters of the 3x3 convolutions.
        blocks: Integer, number of blocks.
        strides: Integer, strides of the first block.
        conv: `"plain"` or `"aw"`, the kind of the 3x3 convolutions.
        attention: Name of the attention module of every block, or `None`.
    """

    level: int
    filters: int
    blocks: int
    strides: int
    conv: str = "plain"
    attention: str | None = None


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How every block of a network is made.

    Attributes:
        bottleneck: Whether a block is a 3x3 convolution between two 1x1
            convolutions, the second of which has four times the filters, or
            two 3x3 convolutions.
        stride_in_3x3: Whether the 3x3 convolution of a bottleneck has the
            block's strides (v1.5), or the 1x1 convolution before it (v1).
        shortcut: Where a block changes the shape: `"projection"` for a strided
            1x1 convolution, `"identity"` for the subsampled input followed by
            channels of zeros, or `"centered"` for the subsampled input between
            them.
        padding: Of the strided 3x3 convolutions: `"same"`, as Keras does it,
            or `"symmetric"`, a zero on every side, as PyTorch does.
        attention_after: Maps the name of a block, such as `"conv3_block2"`, to
            the attention module that follows it.
    """

    bottleneck: bool = False
    stride_in_3x3: bool = False
    shortcut: str = "projection"
    padding: str = "same"
    attention_after: dict[str, str] = dataclasses.field(default_factory=dict)


def plan_stages(filters, blocks, strides, conv, attention, aw_stages=None):
    """Stages of a network, from what a user says of all or each of them.

    Args:
        filters: Integers, one a stage.
        blocks: Integers, one a stage.
        strides: Integers, one a stage.
        conv: One of `CONVOLUTIONS`, or a sequence of one for each stage.
        attention: `None` or the name of an attention module, or a sequence of
            one for each stage.
        aw_stages: `None`, or the levels to which `"aw"` is narrowed.

    Returns:
        A list of `Stage`, beginning at level 2.

    Raises:
        ValueError: If a sequence has another length, a convolution is unknown,
            or `aw_stages` names other levels or there is no `"aw"`.
    """
    levels = range(FIRST_LEVEL, FIRST_LEVEL + len(filters))
    convs = _for_each("conv", conv, levels)
    for kind in convs:
        check_choice("conv", kind, CONVOLUTIONS)
    if aw_stages is not None:
        convs = _narrowed(convs, aw_stages, levels)
    attentions = _for_each("attention", attention, levels)
    return [
        Stage(*stage)
        for stage in zip(levels, filters, blocks, strides, convs, attentions)
    ]


def imagenet_stem(toolkit, x):
    """Strides 4: a 7x7 convolution and a max pooling."""
    x = toolkit.zero_pad(x, 3, "conv1_pad")
    x = toolkit.conv(x, 64, 7, "conv1_conv", strides=2, padding="valid")
    x = toolkit.norm(x, "conv1_bn")
    x = toolkit.relu(x, "conv1_relu")
    x = toolkit.zero_pad(x, 1, "pool1_pad")
    return toolkit.max_pool(x, 3, 2, "pool1_pool")


def cifar_stem(toolkit, x):
    """Strides 1: a 3x3 convolution."""
    x = toolkit.conv(x, 16, 3, "conv1_conv")
    x = toolkit.norm(x, "conv1_bn")
    return toolkit.relu(x, "conv1_relu")


def residual_stages(toolkit, x, stages, blocks):
    """The residual blocks of all stages.

    Args:
        toolkit: A `Toolkit`.
        x: Output of the stem.
        stages: Sequence of `Stage`.
        blocks: `Blocks`.

    Returns:
        A dict from level to the output of the stage.

    Raises:
        ValueError: If `blocks.shortcut` or `padding` is unknown, or
            `attention_after` names a block that is not there.
    """
    check_choice("shortcut", blocks.shortcut, SHORTCUTS)
    check_choice("padding", blocks.padding, PADDINGS)
    names = [_block_name(s, n) for s in stages for n in range(s.blocks)]
    for name in blocks.attention_after:
        check_choice("attention_after", name, names)
    outputs = {}
    for stage in stages:
        for number in range(stage.blocks):
            strides = stage.strides if number == 0 else 1
            name = _block_name(stage, number)
            x = _block(toolkit, x, stage, strides, blocks, name)
        outputs[stage.level] = x
    return outputs


def _block_name(stage, number):
    return f"conv{stage.level}_block{number + 1}"


def _block(toolkit, x, stage, strides, blocks, name):
    make_residual = _bottleneck if blocks.bottleneck else _basic
    residual = make_residual(toolkit, x, stage, strides, blocks, name)
    if stage.attention is not None:
        residual = toolkit.attention(
            residual, stage.attention, f"{name}_{stage.attention}"
        )
    filters = toolkit.channels(residual)
    if strides != 1 or toolkit.channels(x) != filters:
        x = _shortcut(toolkit, x, filters, strides, blocks, name)
    x = toolkit.add([x, residual], f"{name}_add")
    x = toolkit.relu(x, f"{name}_out")
    if (kind := blocks.attention_after.get(name)) is not None:
        x = toolkit.attention(x, kind, f"{name}_{kind}")
    return x


def _basic(toolkit, x, stage, strides, blocks, name):
    x = _conv_3x3(toolkit, x, stage, strides, blocks.padding, f"{name}_1")
    x = toolkit.norm(x, f"{name}_1_bn")
    x = toolkit.relu(x, f"{name}_1_relu")
    x = _conv_3x3(toolkit, x, stage, 1, blocks.padding, f"{name}_2")
    return toolkit.norm(x, f"{name}_2_bn")


def _bottleneck(toolkit, x, stage, strides, blocks, name):
    first, second = (1, strides) if blocks.stride_in_3x3 else (strides, 1)
    x = toolkit.conv(x, stage.filters, 1, f"{name}_1_conv", strides=first)
    x = toolkit.norm(x, f"{name}_1_bn")
    x = toolkit.relu(x, f"{name}_1_relu")
    x = _conv_3x3(toolkit, x, stage, second, blocks.padding, f"{name}_2")
    x = toolkit.norm(x, f"{name}_2_bn")
    x = toolkit.relu(x, f"{name}_2_relu")
    filters = BOTTLENECK_EXPANSION * stage.filters
    x = toolkit.conv(x, filters, 1, f"{name}_3_conv")
    return toolkit.norm(x, f"{name}_3_bn")


def _conv_3x3(toolkit, x, stage, strides, padding, name):
    conv = spatial_conv(toolkit, stage)
    if strides == 1:
        padding = "same"  # Which is symmetric then.
    elif padding == "symmetric" and stage.conv == "plain":
        # Not in front of AW-convolution, whose attention would see the zeros.
        x = toolkit.zero_pad(x, 1, f"{name}_pad")
        padding = "valid"
    return conv(
        x, stage.filters, 3, f"{name}_conv", strides=strides, padding=padding
    )


def spatial_conv(toolkit, stage):
    """The toolkit's method for the 3x3 convolutions of a stage."""
    return {"plain": toolkit.conv, "aw": toolkit.aw_conv}[stage.conv]


def _shortcut(toolkit, x, filters, strides, blocks, name):
    if blocks.shortcut != "projection":
        return toolkit.identity_shortcut(
            x,
            filters,
            strides,
            f"{name}_0_shortcut",
            centered=blocks.shortcut == "centered",
        )
    x = toolkit.conv(x, filters, 1, f"{name}_0_conv", strides=strides)
    return toolkit.norm(x, f"{name}_0_bn")


def _for_each(argument, value, levels):
    """One value for each level."""
    if value is None or isinstance(value, str):
        return [value] * len(levels)
    if not isinstance(value, (list, tuple)) or len(value) != len(levels):
        raise ValueError(
            f"Expected `{argument}` to be one value, or a sequence of one for "
            f"each of the stages {list(levels)}. "
            f"Received: {argument}={value}"
        )
    return list(value)


def _narrowed(convs, aw_stages, levels):
    if "aw" not in convs or not set(aw_stages) <= set(levels):
        raise ValueError(
            f"Expected `aw_stages` to be some of {list(levels)}, of a network "
            f"with conv='aw'. Received: aw_stages={aw_stages}, conv={convs}"
        )
    return [
        conv if level in aw_stages else "plain"
        for level, conv in zip(levels, convs)
    ]
