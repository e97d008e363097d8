"""The network in a file of PyTorch, which says itself what it is."""

from aw_keras.applications.cifar_resnet import CIFARResNet
from aw_keras.applications.imagenet_resnet import ImageNetResNet
from aw_keras.weights import pytorch
from aw_keras.weights.pytorch import CLASSIFIER


def from_pytorch(path, **kwargs):
    """Instantiates the residual network that a file of PyTorch has.

    It computes what the network computes in PyTorch, on images that have gone
    through the same preprocessing. With `conv="aw"` it begins there.

    Args:
        path: Path of a file (`.safetensors`, `.pth`, `.pt`, `.th`, `.bin`)
            with a ResNet or SE-ResNet of timm or torchvision, or a ResNet for
            CIFAR of akamaster or chenyaofo.
        **kwargs: Arguments of `ImageNetResNet` or `CIFARResNet`, such as
            `conv`, `include_top` and `input_shape`. Others than the file's
            number of classes or channels need `adapt=True`.

    Returns:
        A `keras.Model`, whose `weights_receipt` says what it was built with.

    Raises:
        ImportError: If the package that reads the file is not installed.
        ValueError: If the file has none of these networks, or an argument
            does not fit it.
    """
    network = pytorch.read(path)
    source = network.source
    arguments = {"weights": path, "attention": network.attention}
    if CLASSIFIER in source:
        arguments["classes"] = source[CLASSIFIER]["vars/1"].size
    else:
        arguments["include_top"] = False
    if network.family == "cifar_resnet":
        depth = 6 * network.blocks[0] + 2
        return CIFARResNet(depth, **{**arguments, **kwargs})
    return ImageNetResNet(
        network.blocks, network.bottleneck, **{**arguments, **kwargs}
    )
