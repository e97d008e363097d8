"""The residual network with spatial softmax attention, for 32x32 pixels.

Convolutional filters over a feature map give attention maps, a softmax over the
positions makes each sum to one, and the feature map is multiplied by them. The
network without them is `aw_keras.applications.ResNet110`.

Reference:
- Davis, Dean, Devin, Attention-Based Convolutional Neural Networks for Image
  Classification
- [He et al., Deep Residual Learning for Image Recognition](
  https://arxiv.org/abs/1512.03385)
"""

from aw_keras.applications.cifar_resnet import CIFARResNet
from aw_keras.applications.datasets import (
    CIFAR10,
    decode_cifar,
    preprocess_cifar,
)
from aw_keras.applications.variants import register_variants

decode_predictions = decode_cifar
preprocess_input = preprocess_cifar


#: The last blocks of the three stages. Where the modules sit, and how many
#: there are, is this library's choice.
_PLACES = ("conv2_block18", "conv3_block18", "conv4_block18")

(AttentionCNN110,) = register_variants(
    CIFARResNet,
    "AttentionCNN110",
    "Instantiates the ResNet-110 with modules of spatial softmax attention",
    {"depth": 110},
    paper="resnet",
    family="attention_cnn",
    prefixes=("",),
    defaults={"attention_after": dict.fromkeys(_PLACES, "spatial_softmax")},
    input_shape=(32, 32, 3),
    classes=10,
    preprocessing=CIFAR10.preprocessing,
)
