"""Networks of the PyTorch world with random weights, and what they compute.

Those of timm and torchvision are imported from there; the two for CIFAR, which
are in no package, are written here.
"""

import importlib
import importlib.util

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install torch==2.13.0")

_library = []


def peer(module):
    """A module of timm or torchvision; skips the test where it is missing.

    The wheel of torchvision has operators for CUDA, which cannot be loaded
    beside PyTorch for CPUs; the networks need none of them, but the import
    fails unless something has their names.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip("pip install timm torch==2.13.0")
    for name in ("nms", "qnms"):
        try:
            return importlib.import_module(module)
        except RuntimeError as error:
            if f"torchvision::{name} does not exist" not in str(error):
                raise
            _library.append(torch.library.Library("torchvision", "FRAGMENT"))
            _library[-1].define(f"{name}(Tensor x) -> Tensor")
    return importlib.import_module(module)


def tiny_timm(attention=None, classes=7, **arguments):
    """A bottleneck in each of four stages, in timm's names."""
    resnet = peer("timm.models.resnet")
    arguments = {"layers": (1, 1, 1, 1), "block": resnet.Bottleneck} | arguments
    if attention:
        arguments["block_args"] = {"attn_layer": attention}
    return randomised(resnet.ResNet(num_classes=classes, **arguments))


class CIFARBlock(torch.nn.Module):
    """Two convolutions, and a shortcut of either kind."""

    def __init__(self, channels, filters, stride, projection):
        super().__init__()
        layers = torch.nn
        self.conv1 = layers.Conv2d(
            channels, filters, 3, stride, padding=1, bias=False
        )
        self.bn1 = layers.BatchNorm2d(filters)
        self.conv2 = layers.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = layers.BatchNorm2d(filters)
        self.stride = stride
        self.zeros = filters - channels
        self.downsample = None
        if projection and (stride != 1 or channels != filters):
            self.downsample = layers.Sequential(
                layers.Conv2d(channels, filters, 1, stride, bias=False),
                layers.BatchNorm2d(filters),
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.downsample is not None:
            return torch.relu(y + self.downsample(x))
        x = x[:, :, :: self.stride, :: self.stride]
        half = self.zeros // 2
        pads = (0, 0, 0, 0, half, half)
        return torch.relu(y + torch.nn.functional.pad(x, pads))


class CIFARNet(torch.nn.Module):
    """With projections, in chenyaofo's names; else akamaster's."""

    def __init__(self, projection, blocks=1, classes=10):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        channels = 16
        for stage, filters in enumerate((16, 32, 64), 1):
            stride = 1 if stage == 1 else 2
            layers = []
            for number in range(blocks):
                strides = stride if number == 0 else 1
                layers.append(
                    CIFARBlock(channels, filters, strides, projection)
                )
                channels = filters
            setattr(self, f"layer{stage}", torch.nn.Sequential(*layers))
        self.head = "fc" if projection else "linear"
        setattr(self, self.head, torch.nn.Linear(64, classes))

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return getattr(self, self.head)(x.mean((2, 3)))


def randomised(module):
    """A network in which every tensor has values of its own, for inference."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        value = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            value = 0.5 + value.abs()
        elif tensor.ndim > 1:
            value *= (2 / tensor[0].numel()) ** 0.5
        elif ".bn3." in name or ".bn2." in name:
            value *= 0.2  # The ends of residual branches stay small.
        tensor.copy_(value)
    return module.eval()


def compute(module, images):
    """Outputs for channels-last images, as an array or a list of arrays."""
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        return module(x).numpy()


def stage_outputs(module, images):
    """Outputs of the four stages for channels-last images, channels last."""
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    outputs = []
    with torch.no_grad():
        x = module.maxpool(torch.relu(module.bn1(module.conv1(x))))
        for number in (1, 2, 3, 4):
            x = getattr(module, f"layer{number}")(x)
            outputs.append(x.numpy().transpose(0, 2, 3, 1))
    return outputs


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")
