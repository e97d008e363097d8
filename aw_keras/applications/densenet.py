"""Densely connected networks for images of 32x32 pixels.

DenseNet-BC of Huang et al.: three dense blocks, whose layers have a bottleneck
of a 1x1 convolution, and between them transitions that halve the channels;
plain and with AW-convolution. Layers are named as in
`keras.applications.densenet`.

Reference:
- [Huang et al., Densely Connected Convolutional Networks](
  https://arxiv.org/abs/1608.06993)
- [Zhu et al., An Attention Module for Convolutional Neural Networks](
  https://arxiv.org/abs/2108.08205)
"""

from aw_keras.applications import topology
from aw_keras.applications.assembly import Assembly
from aw_keras.applications.datasets import (
    CIFAR10,
    decode_cifar,
    preprocess_cifar,
)
from aw_keras.applications.toolkit import KerasToolkit
from aw_keras.applications.variants import register_variants
from aw_keras.ops.validation import check_positive_integer

decode_predictions = decode_cifar
preprocess_input = preprocess_cifar


def DenseNetBC(
    depth,
    growth_rate,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="densenet_bc",
    *,
    data_format=None,
    dtype=None,
    attention=None,
    conv="plain",
    aw_stages=None,
    reduction=16,
    adapt=False,
):
    """Instantiates a DenseNet-BC for small images, of any depth and width.

    Example:

    >>> from aw_keras.applications import DenseNetBC
    >>> model = DenseNetBC(depth=10, growth_rate=4, conv="aw", classes=100)
    >>> model.output_shape
    (None, 100)

    Args:
        depth: Integer `6n + 4`: each of the three dense blocks has `n` layers
            of two convolutions.
        growth_rate: Integer, number of channels that each layer adds.
        include_top: Whether to end in global average pooling and a dense
            classifier.
        weights: `None` for random weights, or the path of a weights file
            (`.weights.h5` or `.keras`) that has every weight of this network.
            The file of a network with the classifier also fits the one
            without. The networks of `list_models(pretrained=True)` also take
            the name of a data set, such as `"cifar10"`, for released weights:
            images go through `preprocess_input` then.
            `model.weights_receipt` says what was loaded.
        input_tensor: Optional Keras tensor, such as the output of
            `keras.Input()`, to build the network on. `input_shape` is ignored
            then.
        input_shape: Shape of one image: at least 4x4, `None` for an
            unknown height or width, and any number of channels. Defaults to
            `(32, 32, 3)`, or `(3, 32, 32)` with `"channels_first"`.
        pooling: What follows the last layer if `include_top` is `False`:
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
        attention: `None`, or the name of an attention module (one of
            `aw_keras.layers.attention_names()`) for the channels that every
            layer adds. A sequence of three gives each dense block its own.
        conv: `"plain"` for `keras.layers.Conv2D` or `"aw"` for
            `aw_keras.layers.AWConv2D` in place of the 3x3 convolutions of the
            dense blocks, or a sequence of three, one for each dense block.
        aw_stages: Optional sequence that narrows `"aw"` to some of the dense
            blocks 2, 3 and 4, as the names of the layers count them.
        reduction: Reduction ratio of the attention branch of `"aw"` and of
            the attention modules.
        adapt: Whether `weights` may be those of a network with other input
            channels or classes; see `aw_keras.weights.load`.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If an argument has a value that is not listed here, or if
            the weights file does not fit.
    """
    if not isinstance(depth, int) or depth < 10 or depth % 6 != 4:
        raise ValueError(
            "Expected `depth` to be 6n + 4 for a positive integer n. "
            f"Received: depth={depth}"
        )
    check_positive_integer("growth_rate", growth_rate)
    assembly = Assembly.from_arguments(locals())
    toolkit = KerasToolkit.from_arguments(
        data_format, dtype, reduction=reduction, epsilon=1.001e-5
    )
    stages = topology.plan_stages(
        [growth_rate] * 3,
        [(depth - 4) // 6] * 3,
        (1, 2, 2),
        conv,
        attention,
        aw_stages,
    )

    def body(image):
        x = toolkit.conv(image, 2 * growth_rate, 3, "conv1_conv")
        for stage in stages:
            if stage.strides > 1:
                x = _transition(toolkit, x, f"pool{stage.level - 1}")
            for number in range(1, stage.blocks + 1):
                name = f"conv{stage.level}_block{number}"
                x = dense_layer(toolkit, x, stage, name)
        x = toolkit.norm(x, "bn")
        return toolkit.relu(x, "relu")

    return assembly.model(toolkit, 32, body)


def dense_layer(toolkit, x, stage, name):
    """`x` and the channels that a layer of a dense block computes from it."""
    conv = topology.spatial_conv(toolkit, stage)
    y = toolkit.norm(x, f"{name}_0_bn")
    y = toolkit.relu(y, f"{name}_0_relu")
    y = toolkit.conv(y, 4 * stage.filters, 1, f"{name}_1_conv")
    y = toolkit.norm(y, f"{name}_1_bn")
    y = toolkit.relu(y, f"{name}_1_relu")
    y = conv(y, stage.filters, 3, f"{name}_2_conv")
    if stage.attention is not None:
        y = toolkit.attention(y, stage.attention, f"{name}_{stage.attention}")
    return toolkit.concatenate([x, y], f"{name}_concat")


def _transition(toolkit, x, name):
    x = toolkit.norm(x, f"{name}_bn")
    x = toolkit.relu(x, f"{name}_relu")
    x = toolkit.conv(x, toolkit.channels(x) // 2, 1, f"{name}_conv")
    return toolkit.average_pool(x, 2, 2, f"{name}_pool")


def _variants(depth, growth_rate, published):
    return register_variants(
        DenseNetBC,
        f"DenseNetBC{depth}",
        f"Instantiates the DenseNet-BC-{depth} of growth rate {growth_rate}",
        {"depth": depth, "growth_rate": growth_rate},
        paper="densenet",
        prefixes=("", "AW"),
        published={"": published},
        family="densenet",
        input_shape=(32, 32, 3),
        classes=10,
        preprocessing=CIFAR10.preprocessing,
    )


(DenseNetBC100, AWDenseNetBC100) = _variants(100, 12, "0.8 M")
(DenseNetBC190, AWDenseNetBC190) = _variants(190, 40, "25.6 M")
