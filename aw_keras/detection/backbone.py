"""Residual networks as backbones of the Model Garden's detectors.

The stages are those of `aw_keras.applications.ImageNetResNet`, built from the
same topology with tf_keras layers, so that layers and weights have the same
names. The Model Garden knows the backbone as `aw_resnet`.
"""

import dataclasses

import tf_keras
from official.modeling import hyperparams, tf_utils
from official.vision.configs import backbones
from official.vision.modeling.backbones import factory
from tf_keras import layers

from aw_keras.applications import topology
from aw_keras.choices import check_choice
from aw_keras.detection.layers import CBAM, AWConv2D, SqueezeExcite

_STRIDES = 32
_ATTENTIONS = (None, "se", "cbam")


@dataclasses.dataclass
class AWResNetConfig(hyperparams.Config):
    """What a configuration says of the backbone: see `AWResNet`."""

    model_id: int = 50
    conv: str = "aw"
    attention: str | None = None
    aw_stages: list[int] | None = None
    reduction: int = 16
    stride_in_3x3: bool = False
    padding: str = "same"
    bn_trainable: bool = True


@dataclasses.dataclass
class Backbone(backbones.Backbone):
    """The Model Garden's choice of backbones, and `aw_resnet`.

    Set the field `backbone` of a detector's configuration to an instance of
    this class; those that the Model Garden made refuse other types.
    """

    aw_resnet: AWResNetConfig = dataclasses.field(
        default_factory=AWResNetConfig
    )


@dataclasses.dataclass(frozen=True)
class TFKerasToolkit:
    """Makes tf_keras layers: a `topology.Toolkit` of networks for ImageNet.

    Attributes:
        reduction: Reduction ratio of attention branches and modules.
        activation: Name of the activation after batch normalisations.
        synchronized: Whether these take the statistics of all replicas.
        momentum: Momentum of the batch normalisations.
        epsilon: Epsilon of the batch normalisations.
        norm_trainable: Whether the batch normalisations train.
        kernel_initializer: Initializer of the convolutions.
        kernel_regularizer: Regularizer of all kernels but AW-convolution's
            attention.
        bias_regularizer: Regularizer of the attention modules' biases.
    """

    reduction: int
    activation: str
    synchronized: bool
    momentum: float
    epsilon: float
    norm_trainable: bool
    kernel_initializer: str
    kernel_regularizer: tf_keras.regularizers.Regularizer | None
    bias_regularizer: tf_keras.regularizers.Regularizer | None

    def channels(self, x):
        return x.shape[-1]

    def conv(self, x, filters, size, name, strides=1, padding="same"):
        return layers.Conv2D(
            filters, size, name=name, **self._conv(strides, padding)
        )(x)

    def aw_conv(self, x, filters, size, name, strides=1, padding="same"):
        return AWConv2D(
            filters,
            size,
            reduction=self.reduction,
            name=name,
            **self._conv(strides, padding),
        )(x)

    def _conv(self, strides, padding):
        return {
            "strides": strides,
            "padding": padding,
            "use_bias": False,
            "kernel_initializer": self.kernel_initializer,
            "kernel_regularizer": self.kernel_regularizer,
            "data_format": "channels_last",
        }

    def norm(self, x, name):
        return layers.BatchNormalization(
            momentum=self.momentum,
            epsilon=self.epsilon,
            synchronized=self.synchronized,
            trainable=self.norm_trainable,
            name=name,
        )(x)

    def relu(self, x, name):
        activation = tf_utils.get_activation(self.activation)
        return layers.Activation(activation, name=name)(x)

    def add(self, tensors, name):
        return layers.Add(name=name)(tensors)

    def zero_pad(self, x, padding, name):
        return layers.ZeroPadding2D(
            padding, data_format="channels_last", name=name
        )(x)

    def max_pool(self, x, size, strides, name):
        return layers.MaxPooling2D(
            size, strides, data_format="channels_last", name=name
        )(x)

    def attention(self, x, kind, name):
        arguments = {
            "reduction": self.reduction,
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "name": name,
        }
        if kind == "se":
            return SqueezeExcite(**arguments)(x)
        return CBAM(
            synchronized=self.synchronized,
            norm_trainable=self.norm_trainable,
            **arguments,
        )(x)


@tf_keras.utils.register_keras_serializable(package="aw_keras")
class AWResNet(tf_keras.Model):
    """Residual network, plain or with attention, as a backbone of detectors.

    Example:

    >>> import tf_keras
    >>> backbone = AWResNet(
    ...     model_id=18,
    ...     input_specs=tf_keras.layers.InputSpec(shape=[None, 64, 64, 3]),
    ... )
    >>> {level: tuple(s) for level, s in backbone.output_specs.items()}
    ... # doctest: +ELLIPSIS
    {'2': (None, 16, 16, 64), '3': (None, 8, 8, 128), ... (None, 2, 2, 512)}

    Args:
        model_id: Depth, one of 18, 34, 50, 101 and 152.
        input_specs: `tf_keras.layers.InputSpec` of the images, channels last,
            or its config. Height and width are unknown or multiples of 32.
        conv: `"plain"` or `"aw"`, the kind of the 3x3 convolutions of the
            residual blocks.
        attention: `None`, `"se"` or `"cbam"`, what every block ends in before
            the addition.
        aw_stages: Optional sequence that narrows `"aw"` to some of the levels
            2, 3, 4 and 5.
        reduction: Reduction ratio of the attention.
        stride_in_3x3: Whether the 3x3 convolution of a bottleneck has the
            strides, or the 1x1 convolution before it.
        padding: Of the strided 3x3 convolutions: `"same"`, as Keras pads, or
            `"symmetric"`, as PyTorch does. Weights from PyTorch need
            `"symmetric"`, and `stride_in_3x3=True`.
        activation: Name of the activation after batch normalisations.
        use_sync_bn: Whether batch normalisations take the statistics of all
            replicas together.
        norm_momentum: Momentum of the batch normalisations.
        norm_epsilon: Epsilon of the batch normalisations. Defaults to that of
            the Keras 3 networks.
        bn_trainable: Whether the batch normalisations train, or keep the
            statistics and scales that they have.
        kernel_initializer: Initializer of the convolutions. Defaults to that of
            the Model Garden's `ResNet`.
        kernel_regularizer: Regularizer of all kernels but those of
            AW-convolution's attention.
        bias_regularizer: Regularizer of the attention modules' biases; the
            convolutions have none.
        **kwargs: Arguments of `tf_keras.Model`.

    Returns:
        A model whose outputs are a dict from the levels `"2"` to `"5"`, with
        strides 4 to 32, to maps.

    Raises:
        ValueError: If an argument has a value that is not listed here.
    """

    def __init__(
        self,
        model_id=50,
        input_specs=None,
        conv="aw",
        attention=None,
        aw_stages=None,
        reduction=16,
        stride_in_3x3=False,
        padding="same",
        activation="relu",
        use_sync_bn=False,
        norm_momentum=0.9,
        norm_epsilon=topology.NORM_EPSILON,
        bn_trainable=True,
        kernel_initializer="VarianceScaling",
        kernel_regularizer=None,
        bias_regularizer=None,
        **kwargs,
    ):
        check_choice("model_id", model_id, topology.DEPTHS)
        check_choice("attention", attention, _ATTENTIONS)
        input_specs = _image_specs(input_specs)
        kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
        bias_regularizer = tf_keras.regularizers.get(bias_regularizer)
        blocks, bottleneck = topology.DEPTHS[model_id]
        stages = topology.plan_stages(
            (64, 128, 256, 512),
            blocks,
            (1, 2, 2, 2),
            conv,
            attention,
            aw_stages,
        )
        toolkit = TFKerasToolkit(
            reduction=reduction,
            activation=activation,
            synchronized=use_sync_bn,
            momentum=norm_momentum,
            epsilon=norm_epsilon,
            norm_trainable=bn_trainable,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
        )
        images = tf_keras.Input(shape=input_specs.shape[1:])
        outputs = topology.residual_stages(
            toolkit,
            topology.imagenet_stem(toolkit, images),
            stages,
            topology.Blocks(bottleneck, stride_in_3x3, padding=padding),
        )
        endpoints = {str(level): maps for level, maps in outputs.items()}
        super().__init__(inputs=images, outputs=endpoints, **kwargs)
        self._output_specs = {k: maps.shape for k, maps in endpoints.items()}
        self._config = {
            "model_id": model_id,
            "input_specs": input_specs.get_config(),
            "conv": conv,
            "attention": attention,
            "aw_stages": aw_stages,
            "reduction": reduction,
            "stride_in_3x3": stride_in_3x3,
            "padding": padding,
            "activation": activation,
            "use_sync_bn": use_sync_bn,
            "norm_momentum": norm_momentum,
            "norm_epsilon": norm_epsilon,
            "bn_trainable": bn_trainable,
            "kernel_initializer": kernel_initializer,
            "kernel_regularizer": _serialized(kernel_regularizer),
            "bias_regularizer": _serialized(bias_regularizer),
            "name": self.name,
        }

    @property
    def output_specs(self):
        """Dict from level to the shape of its maps."""
        return self._output_specs

    def get_config(self):
        return dict(self._config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


@factory.register_backbone_builder("aw_resnet")
def build_aw_resnet(
    input_specs, backbone_config, norm_activation_config, l2_regularizer=None
):
    """The backbone that a configuration asks for.

    Args:
        input_specs: `tf_keras.layers.InputSpec` of the images.
        backbone_config: `Backbone` of type `aw_resnet`.
        norm_activation_config: The Model Garden's `NormActivation`.
        l2_regularizer: Regularizer of the kernels.

    Returns:
        An `AWResNet`.
    """
    return AWResNet(
        input_specs=input_specs,
        activation=norm_activation_config.activation,
        use_sync_bn=norm_activation_config.use_sync_bn,
        norm_momentum=norm_activation_config.norm_momentum,
        norm_epsilon=norm_activation_config.norm_epsilon,
        kernel_regularizer=l2_regularizer,
        **backbone_config.get().as_dict(),
    )


def _image_specs(specs):
    """`InputSpec` of images, or a ValueError."""
    if specs is None:
        return layers.InputSpec(shape=[None, None, None, 3])
    if isinstance(specs, dict):
        specs = layers.InputSpec.from_config(specs)
    shape = specs.shape
    if (
        shape is None
        or len(shape) != 4
        or shape[3] is None
        or any(size is not None and size % _STRIDES for size in shape[1:3])
    ):
        raise ValueError(
            "Expected images (batch, height, width, channels) whose height and "
            f"width are unknown or multiples of {_STRIDES}, with a known "
            f"number of channels. Received: input_specs={specs}"
        )
    return specs


def _serialized(regularizer):
    return regularizer and tf_keras.regularizers.serialize(regularizer)
