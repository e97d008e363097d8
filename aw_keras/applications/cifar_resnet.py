"""Residual networks for images of 32x32 pixels.

The networks of He et al., section 4.2: a 3x3 stem of 16 filters and three
stages of residual blocks with 16, 32 and 64 filters, `6n + 2` layers in all;
plain, and with AW-convolution, squeeze-and-excitation (SE) or convolutional
block attention (CBAM) in every block.

Reference:
- [He et al., Deep Residual Learning for Image Recognition](
  https://arxiv.org/abs/1512.03385)
- [Zhu et al., An Attention Module for Convolutional Neural Networks](
  https://arxiv.org/abs/2108.08205)
- [Hu et al., Squeeze-and-Excitation Networks](
  https://arxiv.org/abs/1709.01507)
- [Woo et al., CBAM: Convolutional Block Attention Module](
  https://arxiv.org/abs/1807.06521)
"""

from aw_keras.applications import topology
from aw_keras.applications.assembly import Assembly, resolved
from aw_keras.applications.datasets import (
    CIFAR10,
    decode_cifar,
    preprocess_cifar,
)
from aw_keras.applications.toolkit import KerasToolkit
from aw_keras.applications.variants import register_variants

decode_predictions = decode_cifar
preprocess_input = preprocess_cifar


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
    attention=None,
    attention_after=None,
    conv="plain",
    aw_stages=None,
    reduction=16,
    shortcut=None,
    padding=None,
    adapt=False,
):
    """Instantiates a residual network for small images, of any depth.

    Two choices differ from the paper's text: the strided convolutions pad as
    `padding="same"` does in Keras, unless told otherwise, and the weights are
    initialised by `"he_normal"`.

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
            without. A file of PyTorch (`.safetensors`, `.pth`, `.th`) of this
            network by akamaster or chenyaofo, for images as they have them,
            says what `padding` and `shortcut` are; with AW-convolution it is
            a warm start. The networks of `list_models(pretrained=True)` also
            take the name of a data set, such as `"cifar10"`, for released
            weights: images go through `preprocess_input` then.
            `model.weights_receipt` says what was loaded.
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
        attention: `None`, or the name of an attention module (one of
            `aw_keras.layers.attention_names()`) for every block, between its
            last batch normalisation and the addition. A sequence of three
            gives each stage its own.
        attention_after: Optional dict from the name of a block, such as
            `"conv3_block1"`, to the name of an attention module that follows
            the block.
        conv: `"plain"` for `keras.layers.Conv2D` or `"aw"` for
            `aw_keras.layers.AWConv2D` in the residual blocks, or a sequence
            of three, one for each stage.
        aw_stages: Optional sequence that narrows `"aw"` to some of the stages
            2, 3 and 4, as the names of the layers count them.
        reduction: Reduction ratio of the attention branch of `"aw"` and of
            the attention modules.
        shortcut: Where a block changes the shape: `"identity"` for the
            subsampled input followed by channels of zeros (option A of the
            paper), `"centered"` for the subsampled input between them,
            `"projection"` for a strided 1x1 convolution (option B). Defaults
            to what `weights` need, else `"identity"`.
        padding: Of the strided 3x3 convolutions: `"same"`, as Keras pads, or
            `"symmetric"`, a zero on every side, as PyTorch does. Images of odd
            sizes have both alike. Defaults to what `weights` need, else
            `"same"`.
        adapt: Whether `weights` may be those of a network with other input
            channels or classes; see `aw_keras.weights.load`.

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
    assembly = Assembly.from_arguments(locals())
    toolkit = KerasToolkit.from_arguments(
        data_format, dtype, reduction=reduction, epsilon=1e-5
    )
    stages = topology.plan_stages(
        (16, 32, 64),
        [(depth - 2) // 6] * 3,
        (1, 2, 2),
        conv,
        attention,
        aw_stages,
    )
    blocks = topology.Blocks(
        attention_after=attention_after or {},
        **resolved(
            weights, locals(), {"shortcut": "identity", "padding": "same"}
        ),
    )

    def body(image):
        x = topology.cifar_stem(toolkit, image)
        outputs = topology.residual_stages(toolkit, x, stages, blocks)
        return outputs[stages[-1].level]

    return assembly.model(toolkit, 32, body)


def _variants(depth, published=None):
    return register_variants(
        CIFARResNet,
        f"ResNet{depth}",
        f"Instantiates the ResNet-{depth} for small images",
        {"depth": depth},
        paper="resnet",
        published={"": published},
        family="cifar_resnet",
        input_shape=(32, 32, 3),
        classes=10,
        preprocessing=CIFAR10.preprocessing,
    )


(
    ResNet20,
    AWResNet20,
    SEResNet20,
    CBAMResNet20,
    AWSEResNet20,
    AWCBAMResNet20,
) = _variants(20, "0.27 M")
(
    ResNet32,
    AWResNet32,
    SEResNet32,
    CBAMResNet32,
    AWSEResNet32,
    AWCBAMResNet32,
) = _variants(32, "0.46 M")
(
    ResNet44,
    AWResNet44,
    SEResNet44,
    CBAMResNet44,
    AWSEResNet44,
    AWCBAMResNet44,
) = _variants(44, "0.66 M")
(
    ResNet56,
    AWResNet56,
    SEResNet56,
    CBAMResNet56,
    AWSEResNet56,
    AWCBAMResNet56,
) = _variants(56, "0.85 M")
(
    ResNet110,
    AWResNet110,
    SEResNet110,
    CBAMResNet110,
    AWSEResNet110,
    AWCBAMResNet110,
) = _variants(110, "1.7 M")
