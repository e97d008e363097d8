"""Residual networks for images of 224x224 pixels.

The networks of He et al., table 1, with the layers and names that they have in
`keras.applications`; plain, and with AW-convolution, squeeze-and-excitation
(SE) or convolutional block attention (CBAM) in every block.

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

import functools

from aw_keras.applications import topology
from aw_keras.applications.assembly import Assembly, resolved
from aw_keras.applications.datasets import (
    IMAGENET,
    decode_imagenet,
    preprocess_imagenet,
)
from aw_keras.applications.imagenet_weights import WARM_STARTS, warm_start
from aw_keras.applications.toolkit import KerasToolkit
from aw_keras.applications.variants import register_variants

decode_predictions = decode_imagenet
preprocess_input = preprocess_imagenet


def ImageNetResNet(
    blocks,
    bottleneck=True,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="imagenet_resnet",
    *,
    data_format=None,
    dtype=None,
    attention=None,
    conv="plain",
    aw_stages=None,
    reduction=16,
    stride_in_3x3=None,
    padding=None,
    adapt=False,
):
    """Instantiates a residual network for large images, of any depth.

    Layers are those of `keras.applications.resnet` with the same names, except
    that the convolutions have no bias, which the batch normalisations after
    them would remove, and that weights are initialised by `"he_uniform"`.

    `weights="imagenet"` takes the file of `keras.applications.ResNet50`,
    `ResNet101` or `ResNet152`, which Keras downloads and verifies. Its biases
    become part of the batch normalisations. With AW-convolution it is a warm
    start: the kernels are divided by 1.5 and the attention begins at 1/2
    everywhere, so that the network begins at the accuracy of the plain one,
    with an attention that has learned nothing yet. It is not AW-convolution
    trained on ImageNet. Images go through
    `aw_keras.applications.imagenet_resnet.preprocess_input`.

    Example:

    >>> from aw_keras.applications import ImageNetResNet
    >>> model = ImageNetResNet(
    ...     blocks=(1, 1, 1, 1),
    ...     conv=("plain", "plain", "aw", "aw"),
    ...     input_shape=(64, 64, 3),
    ...     include_top=False,
    ... )
    >>> model.output_shape
    (None, 2, 2, 2048)

    Args:
        blocks: Four positive integers, the number of residual blocks in each
            stage.
        bottleneck: Whether a block is a 3x3 convolution between two 1x1
            convolutions, or two 3x3 convolutions.
        include_top: Whether to end in global average pooling and a dense
            classifier.
        weights: `None` for random weights, `"imagenet"` for a warm start
            where there is one, or the path of a weights file (`.weights.h5`
            or `.keras`) that has every weight of this network. The file of a
            network with the classifier also fits the one without. A file of
            PyTorch (`.safetensors`, `.pth`) of this network in timm or
            torchvision, for images as they have them, says what `padding` and
            `stride_in_3x3` are; with AW-convolution it is a warm start too.
            `model.weights_receipt` says what was loaded.
        input_tensor: Optional Keras tensor, such as the output of
            `keras.Input()`, to build the network on. `input_shape` is ignored
            then.
        input_shape: Shape of one image: any size, `None` for an unknown
            height or width, and any number of channels. Defaults to three
            channels and 224x224 pixels, or an unknown size without the top.
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
            last batch normalisation and the addition. A sequence of four
            gives each stage its own.
        conv: `"plain"` for `keras.layers.Conv2D` or `"aw"` for
            `aw_keras.layers.AWConv2D` in place of the 3x3 convolutions of the
            residual blocks, or a sequence of four, one for each stage.
        aw_stages: Optional sequence that narrows `"aw"` to some of the stages
            2, 3, 4 and 5, as the names of the layers count them.
        reduction: Reduction ratio of the attention branch of `"aw"` and of
            the attention modules.
        stride_in_3x3: Whether the 3x3 convolution of a bottleneck has the
            strides (known as v1.5), or the 1x1 convolution before it, as in
            the paper and in `keras.applications` (v1). Defaults to what
            `weights` need, else `False`.
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
            the weights do not fit.
    """
    _check_blocks(blocks)
    named_weights = {}
    if attention is None and bottleneck and not stride_in_3x3:
        if (peer := WARM_STARTS.get(tuple(blocks))) is not None:
            named_weights["imagenet"] = functools.partial(
                warm_start, peer=peer, include_top=include_top
            )
    assembly = Assembly.from_arguments(locals())
    toolkit = KerasToolkit.from_arguments(
        data_format,
        dtype,
        reduction=reduction,
        epsilon=topology.NORM_EPSILON,
        # As good as "he_normal" and drawn in a third of the time.
        kernel_initializer="he_uniform",
    )
    stages = topology.plan_stages(
        (64, 128, 256, 512), blocks, (1, 2, 2, 2), conv, attention, aw_stages
    )
    design = topology.Blocks(
        bottleneck,
        **resolved(
            weights, locals(), {"stride_in_3x3": False, "padding": "same"}
        ),
    )

    def body(image):
        x = topology.imagenet_stem(toolkit, image)
        outputs = topology.residual_stages(toolkit, x, stages, design)
        return outputs[stages[-1].level]

    return assembly.model(toolkit, 224 if include_top else None, body)


def _check_blocks(blocks):
    if (
        not isinstance(blocks, (list, tuple))
        or len(blocks) != 4
        or not all(isinstance(n, int) and n > 0 for n in blocks)
    ):
        raise ValueError(
            "Expected `blocks` to be four positive integers. "
            f"Received: blocks={blocks}"
        )


def _variants(depth, **known):
    blocks, bottleneck = topology.DEPTHS[depth]
    return register_variants(
        ImageNetResNet,
        f"ResNet{depth}",
        f"Instantiates the ResNet-{depth} for large images",
        {"blocks": blocks, "bottleneck": bottleneck},
        paper="resnet",
        family="imagenet_resnet",
        input_shape=(224, 224, 3),
        classes=1000,
        preprocessing=IMAGENET.preprocessing,
        **known,
    )


#: The variants for which `weights="imagenet"` is a warm start.
_WARM = {"": ("imagenet",), "AW": ("imagenet",)}

(
    ResNet18,
    AWResNet18,
    SEResNet18,
    CBAMResNet18,
    AWSEResNet18,
    AWCBAMResNet18,
) = _variants(18)
(
    ResNet34,
    AWResNet34,
    SEResNet34,
    CBAMResNet34,
    AWSEResNet34,
    AWCBAMResNet34,
) = _variants(34)
(
    ResNet50,
    AWResNet50,
    SEResNet50,
    CBAMResNet50,
    AWSEResNet50,
    AWCBAMResNet50,
) = _variants(
    50,
    published={"": "25.56 M", "SE": "28.09 M", "CBAM": "28.09 M"},
    weights=_WARM,
)
(
    ResNet101,
    AWResNet101,
    SEResNet101,
    CBAMResNet101,
    AWSEResNet101,
    AWCBAMResNet101,
) = _variants(
    101,
    published={"": "44.55 M", "SE": "49.33 M"},
    weights=_WARM,
)
(
    ResNet152,
    AWResNet152,
    SEResNet152,
    CBAMResNet152,
    AWSEResNet152,
    AWCBAMResNet152,
) = _variants(152, weights=_WARM)
