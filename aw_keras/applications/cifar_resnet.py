"""Residual networks for images of 32x32 pixels, plain and with AW-convolution.

The networks of He et al., section 4.2: a 3x3 stem of 16 filters and three
stages of residual blocks with 16, 32 and 64 filters, `6n + 2` layers in all.
AW-convolution takes the place of the 3x3 convolutions of the blocks.

Reference:
- [He et al., Deep Residual Learning for Image Recognition](
  https://arxiv.org/abs/1512.03385)
- [Zhu et al., An Attention Module for Convolutional Neural Networks](
  https://arxiv.org/abs/2108.08205)
"""

import dataclasses
import functools
import inspect
import os

import keras
from keras import layers

from aw_keras.layers import AWConv2D
from aw_keras.layers.identity_shortcut import IdentityShortcut
from aw_keras.ops.validation import standard_data_format


def CIFARResNet(
    depth,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="cifar_resnet",
    *,
    data_format=None,
    dtype=None,
    conv="plain",
    reduction=16,
    shortcut="identity",
):
    """Instantiates a residual network for small images, of any depth.

    Two choices differ from the paper's text: the strided convolutions pad as
    `padding="same"` does in Keras, and the weights are initialised by
    `"he_normal"`.

    Example:

    >>> from aw_keras.applications import CIFARResNet
    >>> model = CIFARResNet(depth=8, conv="aw", classes=100)
    >>> model.output_shape
    (None, 100)

    Args:
        depth: Integer `6n + 2`: each of the three stages has `n` blocks of
            two convolutions.
        include_top: Whether to end in global average pooling and a dense
            classifier.
        weights: `None` for random weights, or the path of a weights file
            (`.weights.h5` or `.keras`) that has every weight of this network.
            The file of a network with the classifier also fits the one
            without.
        input_tensor: Optional Keras tensor, such as the output of
            `keras.Input()`, to build the network on. `input_shape` is ignored
            then.
        input_shape: Shape of one image: any size, `None` for an unknown
            height or width, and any number of channels. Defaults to
            `(32, 32, 3)`, or `(3, 32, 32)` with `"channels_first"`.
        pooling: What follows the last block if `include_top` is `False`:
            `None` for its maps, `"avg"` or `"max"` for global pooling.
        classes: Integer, number of classes of the classifier.
        classifier_activation: Activation of the classifier; `None` for
            logits.
        name: Name of the model. It does not matter to `weights`.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        dtype: Dtype or dtype policy of the layers. Defaults to
            `keras.config.dtype_policy()`. The classifier of a mixed policy
            computes in its variables' dtype.
        conv: `"plain"` for `keras.layers.Conv2D` or `"aw"` for
            `aw_keras.layers.AWConv2D` in the residual blocks.
        reduction: Reduction ratio of the attention branch of `"aw"`.
        shortcut: Where a block changes the shape: `"identity"` for the
            subsampled input with channels of zeros (option A of the paper),
            `"projection"` for a strided 1x1 convolution (option B).

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If an argument has a value that is not listed here, or if
            the weights file does not fit.
    """
    if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        raise ValueError(
            "Expected `depth` to be 6n + 2 for a positive integer n. "
            f"Received: depth={depth}"
        )
    _check_choice("pooling", pooling, (None, "avg", "max"))
    _check_choice("conv", conv, ("plain", "aw"))
    _check_choice("shortcut", shortcut, ("identity", "projection"))
    _check_weights(weights)

    parts = _Parts(
        standard_data_format(data_format), keras.dtype_policies.get(dtype)
    )
    if input_tensor is None:
        image = _input(input_shape, parts)
    elif keras.utils.is_keras_tensor(input_tensor):
        image = input_tensor
    else:
        raise ValueError(
            "Expected `input_tensor` to be a Keras tensor. "
            f"Received: input_tensor={input_tensor}"
        )

    block_conv = parts.conv
    if conv == "aw":
        block_conv = functools.partial(
            parts.conv, layer=AWConv2D, reduction=reduction
        )
    x = parts.conv(image, 16, 3, name="conv1_conv")
    x = parts.norm_relu(x, "conv1_bn", "conv1_relu")
    for stage, filters in enumerate((16, 32, 64), start=2):
        for block in range(1, (depth - 2) // 6 + 1):
            strides = 2 if stage > 2 and block == 1 else 1
            prefix = f"conv{stage}_block{block}"
            x = _block(x, filters, strides, block_conv, shortcut, parts, prefix)
    if include_top:
        x = parts.pool("avg")(x)
        x = layers.Dense(
            classes,
            activation=classifier_activation,
            dtype=parts.policy.variable_dtype,
            name="predictions",
        )(x)
    elif pooling is not None:
        x = parts.pool(pooling)(x)

    if weights is not None:
        # From the network's own first tensor, so that layers in front of an
        # `input_tensor` take no part in the matching.
        keras.Model(image, x).load_weights(weights)
    sources = keras.utils.get_source_inputs(image)
    inputs = sources[0] if len(sources) == 1 else sources
    return keras.Model(inputs, x, name=name)


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Makes the layers of one network, which share layout and dtype."""

    data_format: str
    policy: keras.DTypePolicy

    @property
    def channel_axis(self):
        return 3 if self.data_format == "channels_last" else 1

    def conv(
        self, x, filters, size, strides=1, layer=layers.Conv2D, **arguments
    ):
        return layer(
            filters,
            size,
            strides=strides,
            padding="same",
            data_format=self.data_format,
            use_bias=False,
            kernel_initializer="he_normal",
            dtype=self.policy,
            **arguments,
        )(x)

    def norm(self, x, name):
        return layers.BatchNormalization(
            axis=self.channel_axis,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.policy,
            name=name,
        )(x)

    def relu(self, x, name):
        return layers.Activation("relu", dtype=self.policy, name=name)(x)

    def norm_relu(self, x, norm_name, relu_name):
        return self.relu(self.norm(x, norm_name), relu_name)

    def pool(self, kind):
        layer = {
            "avg": layers.GlobalAveragePooling2D,
            "max": layers.GlobalMaxPooling2D,
        }[kind]
        return layer(
            data_format=self.data_format,
            dtype=self.policy,
            name=f"{kind}_pool",
        )


def _block(x, filters, strides, conv, shortcut, parts, name):
    residual = conv(x, filters, 3, strides=strides, name=f"{name}_1_conv")
    residual = parts.norm_relu(residual, f"{name}_1_bn", f"{name}_1_relu")
    residual = conv(residual, filters, 3, name=f"{name}_2_conv")
    residual = parts.norm(residual, f"{name}_2_bn")
    if x.shape[parts.channel_axis] != filters:
        x = _reshape(x, filters, strides, shortcut, parts, name)
    x = layers.Add(dtype=parts.policy, name=f"{name}_add")([x, residual])
    return parts.relu(x, f"{name}_out")


def _reshape(x, filters, strides, shortcut, parts, name):
    if shortcut == "projection":
        x = parts.conv(x, filters, 1, strides=strides, name=f"{name}_0_conv")
        return parts.norm(x, f"{name}_0_bn")
    return IdentityShortcut(
        filters,
        strides=strides,
        data_format=parts.data_format,
        dtype=parts.policy,
        name=f"{name}_0_shortcut",
    )(x)


def _input(shape, parts):
    if shape is None:
        shape = [32, 32, 32]
        shape[parts.channel_axis - 1] = 3
    if len(shape) != 3:
        raise ValueError(
            "Expected `input_shape` to have three entries, without the batch. "
            f"Received: input_shape={shape}"
        )
    return keras.Input(shape, dtype=parts.policy.variable_dtype)


def _check_choice(argument, value, choices):
    if value not in choices:
        raise ValueError(
            f"Expected `{argument}` to be one of {choices}. "
            f"Received: {argument}={value}"
        )


def _check_weights(weights):
    if weights is None:
        return
    if not isinstance(weights, (str, os.PathLike)) or not os.path.isfile(
        weights
    ):
        raise ValueError(
            "Expected `weights` to be `None` or the path of a weights file. "
            f"Received: weights={weights}"
        )


def _variant(variant_name, depth, default_conv):
    """`CIFARResNet` with a fixed depth, as a function of its own."""
    default_name = variant_name.lower()

    def build(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=10,
        classifier_activation="softmax",
        name=default_name,
        *,
        data_format=None,
        dtype=None,
        conv=default_conv,
        reduction=16,
        shortcut="identity",
    ):
        return CIFARResNet(
            depth,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
            data_format=data_format,
            dtype=dtype,
            conv=conv,
            reduction=reduction,
            shortcut=shortcut,
        )

    convolution = {"plain": "", "aw": " with AW-convolution"}[default_conv]
    arguments = inspect.getdoc(CIFARResNet).partition("    include_top:")
    build.__name__ = build.__qualname__ = variant_name
    build.__doc__ = (
        f"Instantiates the ResNet-{depth} for small images{convolution}.\n\n"
        f"This is `CIFARResNet` with `depth={depth}` and, by default, "
        f'`conv="{default_conv}"`.\n\nArgs:\n' + "".join(arguments[1:])
    )
    return build


ResNet20 = _variant("ResNet20", 20, "plain")
ResNet32 = _variant("ResNet32", 32, "plain")
ResNet44 = _variant("ResNet44", 44, "plain")
ResNet56 = _variant("ResNet56", 56, "plain")
ResNet110 = _variant("ResNet110", 110, "plain")
AWResNet20 = _variant("AWResNet20", 20, "aw")
AWResNet32 = _variant("AWResNet32", 32, "aw")
AWResNet44 = _variant("AWResNet44", 44, "aw")
AWResNet56 = _variant("AWResNet56", 56, "aw")
AWResNet110 = _variant("AWResNet110", 110, "aw")
