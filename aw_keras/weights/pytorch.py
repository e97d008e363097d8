"""Residual networks of the PyTorch world, as networks of this library.

timm, torchvision, akamaster and chenyaofo name the same layers in nearly the
same way. The names and shapes in a file say which network it is of; what they
do not say (where the strides are, how it pads) is the same in all of them.
Everything is translated exactly, up to the rounding of float32.

Networks that differ in more than their names have names that are refused
(deep stems, averaging shortcuts), or the same names (`resnetblur50`), and then
nothing in their files tells them apart.
"""

import collections
import dataclasses
import os
import re

import keras
import numpy as np

from aw_keras import suffixes
from aw_keras.preprocessing import Preprocessing
from aw_keras.weights import tensors
from aw_keras.weights.tensors import LazyArray

#: The layer that ends a classifier. A file may have it where a model does not.
CLASSIFIER = "predictions"

#: What PyTorch adds to the variances.
_EPSILON = 1e-5

_KERNEL, _BIAS = "vars/0", "vars/1"
_VARIANCE = "vars/3"
_NORM = ("weight", "bias", "running_mean", "running_var")

#: Numbers of stages of the families, which are numbered from 1 in the files and
#: from 2 here.
_FAMILIES = {4: "imagenet_resnet", 3: "cifar_resnet"}

#: What images usually go through, by data set.
_USUAL = {
    "imagenet": Preprocessing(
        size=224,
        crop=0.875,
        mean=(123.675, 116.28, 103.53),
        deviation=(58.395, 57.12, 57.375),
    ),
    "cifar10": Preprocessing(
        size=32,
        mean=(125.307, 122.961, 113.8575),
        deviation=(51.5865, 50.847, 51.255),
    ),
    "cifar100": Preprocessing(
        size=32,
        mean=(129.285, 124.0575, 112.4295),
        deviation=(68.1615, 65.382, 70.4055),
    ),
}

_HEADS = ("fc", "linear")
_PROJECTIONS = ("downsample", "shortcut")
_NAMES_IN_ERRORS = 5


@dataclasses.dataclass(frozen=True)
class Network:
    """A network in a file of PyTorch, with the names of this library.

    Attributes:
        path: Path of the file.
        family: Name of the module in `aw_keras.applications`.
        blocks: Numbers of blocks of the stages.
        bottleneck: Whether the blocks are bottlenecks.
        attention: `"se"` or `None`.
        arguments: What the network has to be built with, beyond its name.
        dataset: Name of the data set that such networks usually are for.
        preprocessing: What images usually go through for such networks, a
            `Preprocessing`. The file does not say.
        source: Maps the name of a layer to a dict from the name of a variable
            in a weights file, such as `"vars/0"`, to its value.
    """

    path: str
    family: str
    blocks: tuple[int, ...]
    bottleneck: bool
    attention: str | None
    arguments: dict
    dataset: str
    preprocessing: Preprocessing
    source: dict[str, dict[str, LazyArray]]


def needed_arguments(weights):
    """What a network needs to compute what PyTorch does with these weights.

    Args:
        weights: What a user gave as `weights`.

    Returns:
        A dict of arguments of the network; empty unless it is the path of a
        file of PyTorch that there is.

    Raises:
        ValueError: If the file is none of a network that is known here.
    """
    if not (suffixes.is_pytorch(weights) and os.path.exists(weights)):
        return {}
    return read(weights).arguments


def read(path, content=None):
    """The `Network` in a file. Its numbers are read when they are needed.

    Args:
        path: Path that ends in one of `suffixes.PYTORCH`.
        content: Path of a copy to read, if it is another one.

    Raises:
        ImportError: If the package that reads such files is not installed.
        ValueError: If the file cannot be read, or is of another network.
    """
    found = tensors.read(path, content)
    blocks = _count_blocks(found)
    if len(blocks) not in _FAMILIES:
        raise _unknown(path, f"layers {list(found)[:_NAMES_IN_ERRORS]}")
    family = _FAMILIES[len(blocks)]
    source = collections.defaultdict(dict)
    is_akamaster = "linear.weight" in found
    for name, layer, variable, convert in _translation(found, blocks):
        if name in found:
            source[layer][variable] = convert(found.pop(name))
        else:
            raise _unknown(path, f"no {name}")
    if found:
        raise _unknown(path, f"also {list(found)[:_NAMES_IN_ERRORS]}")
    bottleneck = "conv2_block1_3_conv" in source
    dataset = _dataset(family, source)
    return Network(
        path=str(path),
        family=family,
        blocks=blocks,
        bottleneck=bottleneck,
        attention="se" if "conv2_block1_se" in source else None,
        arguments=_arguments(path, family, bottleneck, source, is_akamaster),
        dataset=dataset,
        preprocessing=_preprocessing(dataset, is_akamaster),
        source=dict(source),
    )


def _unknown(path, found):
    return ValueError(
        "Expected a residual network as timm, torchvision, akamaster or "
        f"chenyaofo name its tensors. Received: path={path}, which has {found}"
    )


def _dataset(family, source):
    if family == "imagenet_resnet":
        return "imagenet"
    classes = source[CLASSIFIER][_BIAS].size if CLASSIFIER in source else None
    return "cifar100" if classes == 100 else "cifar10"


def _preprocessing(dataset, is_akamaster):
    if not is_akamaster:
        return _USUAL[dataset]
    # Images of CIFAR, normalised as those of ImageNet.
    normalised = _USUAL["imagenet"]
    return dataclasses.replace(
        _USUAL[dataset],
        mean=normalised.mean,
        deviation=normalised.deviation,
    )


def _arguments(path, family, bottleneck, source, is_akamaster):
    arguments = {"padding": "symmetric"}
    if bottleneck:
        arguments["stride_in_3x3"] = True
    if family == "cifar_resnet":
        projects = "conv3_block1_0_conv" in source
        if not (projects or is_akamaster):
            # Only of akamaster's is it known where the new channels are.
            raise _unknown(path, "no linear.weight, nor downsample.0.weight")
        arguments["shortcut"] = "projection" if projects else "centered"
    return arguments


def _count_blocks(names):
    """Numbers of blocks of the stages, as far as these are complete."""
    places = {
        (int(match[1]), int(match[2]))
        for match in (re.match(r"layer(\d+)\.(\d+)\.", name) for name in names)
        if match
    }
    counts = []
    while (len(counts) + 1, 0) in places:
        stage, block = len(counts) + 1, 0
        while (stage, block) in places:
            block += 1
        counts.append(block)
    return tuple(counts)


def _translation(names, blocks):
    """Tuples of a tensor's name, layer, variable and conversion."""
    yield from _convolution("conv1", "conv1_conv")
    yield from _normalization("bn1", "conv1_bn")
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            yield from _block(
                names,
                f"layer{stage}.{block}",
                f"conv{stage + 1}_block{block + 1}",
            )
    for head in _HEADS:
        if f"{head}.weight" in names:
            yield f"{head}.weight", CLASSIFIER, _KERNEL, _transposed(1, 0)
            yield f"{head}.bias", CLASSIFIER, _BIAS, _unchanged


def _block(names, theirs, ours):
    convolutions = (1, 2, 3) if f"{theirs}.conv3.weight" in names else (1, 2)
    for n in convolutions:
        yield from _convolution(f"{theirs}.conv{n}", f"{ours}_{n}_conv")
        yield from _normalization(f"{theirs}.bn{n}", f"{ours}_{n}_bn")
    for shortcut in _PROJECTIONS:
        if f"{theirs}.{shortcut}.0.weight" in names:
            yield from _convolution(f"{theirs}.{shortcut}.0", f"{ours}_0_conv")
            yield from _normalization(f"{theirs}.{shortcut}.1", f"{ours}_0_bn")
    if f"{theirs}.se.fc1.weight" in names:
        for n in (1, 2):
            dense, first = f"{theirs}.se.fc{n}", 2 * n - 2
            yield f"{dense}.weight", f"{ours}_se", f"vars/{first}", _pointwise
            yield f"{dense}.bias", f"{ours}_se", f"vars/{first + 1}", _unchanged


def _convolution(theirs, ours):
    yield f"{theirs}.weight", ours, _KERNEL, _transposed(2, 3, 1, 0)


def _normalization(theirs, ours):
    for place, name in enumerate(_NORM):
        yield f"{theirs}.{name}", ours, f"vars/{place}", _unchanged


def _unchanged(array):
    return array


def _transposed(*axes):
    def convert(array):
        if len(array.shape) != len(axes):
            return array  # Its shape is what will be complained about.
        shape = [array.shape[axis] for axis in axes]
        return LazyArray(shape, lambda: np.transpose(array, axes))

    return convert


def _pointwise(array):
    """The kernel of a dense layer, of a 1x1 convolution's."""
    if len(array.shape) != 4 or array.shape[2:] != (1, 1):
        return array
    return LazyArray(
        array.shape[1::-1], lambda: np.asarray(array)[:, :, 0, 0].T
    )


def fitted(network, model):
    """The variables of a network in a file, for the layers of a model.

    What the model's normalisations add to a variance more than PyTorch does is
    taken off it before.

    Args:
        network: `Network`.
        model: `keras.Model`.

    Returns:
        A dict as `loading.fill` takes it.
    """
    source = {name: dict(values) for name, values in network.source.items()}
    for layer in model._flatten_layers():
        if (
            isinstance(layer, keras.layers.BatchNormalization)
            and layer.name in source
            and layer.epsilon != _EPSILON
        ):
            variables = source[layer.name]
            variables[_VARIANCE] = _shifted(
                variables[_VARIANCE], _EPSILON - layer.epsilon
            )
    return source


def _shifted(array, difference):
    return LazyArray(
        array.shape, lambda: np.asarray(array, "float64") + difference
    )


def built_arguments(model):
    """The arguments of `Network` that a model was built with, from its layers.

    Args:
        model: `keras.Model` with the layers of a residual network.

    Returns:
        A dict.
    """
    layers = {layer.name: layer for layer in model._flatten_layers()}
    block = "conv3_block1"
    if f"{block}_3_conv" in layers:
        stride_in_3x3 = layers[f"{block}_1_conv"].strides == (1, 1)
        found = {"stride_in_3x3": stride_in_3x3}
        strided = layers[f"{block}_2_conv"] if stride_in_3x3 else None
    else:
        found, strided = {}, layers[f"{block}_1_conv"]
    if strided is not None:
        # "valid" is a plain one, behind a layer that pads.
        same = strided.padding == "same"
        found["padding"] = "same" if same else "symmetric"
    shortcut = layers.get(f"{block}_0_shortcut")
    if shortcut is not None:
        found["shortcut"] = "centered" if shortcut.centered else "identity"
    elif f"{block}_0_conv" in layers:
        found["shortcut"] = "projection"
    return found
