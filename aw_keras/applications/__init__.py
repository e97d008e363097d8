"""Models: functions in the style of `keras.applications`."""

from aw_keras.applications.cifar_resnet import (
    AWResNet20,
    AWResNet32,
    AWResNet44,
    AWResNet56,
    AWResNet110,
    CIFARResNet,
    ResNet20,
    ResNet32,
    ResNet44,
    ResNet56,
    ResNet110,
)

__all__ = [
    "AWResNet20",
    "AWResNet32",
    "AWResNet44",
    "AWResNet56",
    "AWResNet110",
    "CIFARResNet",
    "ResNet20",
    "ResNet32",
    "ResNet44",
    "ResNet56",
    "ResNet110",
]
