"""What the networks cost: parameters and multiply-adds.

`python -m aw_keras.applications.complexity` prints a table of all of them.
"""

import functools
import math

import keras

from aw_keras import layers
from aw_keras.applications.registry import create_model, get_entry, list_models


def multiply_adds(model):
    """Multiply-adds of one image through a model.

    Counted are the matrix products: convolutions, dense layers and the
    products in attention layers, as `positions x size of the kernel` each.
    AW-convolution counts the convolution, the two pointwise convolutions of
    its attention branch and one multiply-add for each weight of the kernel
    that it generates. Poolings, normalisations, activations, additions, biases
    and the scaling by an attention are not counted.

    Example:

    >>> from aw_keras.applications import ResNet20
    >>> multiply_adds(ResNet20())
    40551040

    Args:
        model: Functional `keras.Model` with an input of known height and
            width.

    Returns:
        An integer.

    Raises:
        ValueError: If a shape is unknown, or a layer has kernels and is none
            of those above.
    """
    return sum(_of_layer(layer) for layer in model.layers)


def parameters(model):
    """Number of trainable parameters of a model."""
    return sum(math.prod(w.shape) for w in model.trainable_weights)


def table(names=None):
    """Parameters and multiply-adds of networks, as a table in Markdown.

    Args:
        names: Names of `list_models()`; `None` for all.

    Returns:
        A string.
    """
    rows = [
        "| network | parameters | published | multiply-adds |",
        "|---|---:|---:|---:|",
    ]
    for name in list_models() if names is None else names:
        model = create_model(name)
        published = get_entry(name).published_parameters or ""
        rows.append(
            f"| {name} | {parameters(model):,} | {published} | "
            f"{multiply_adds(model) / 1e6:,.1f} M |"
        )
    return "\n".join(rows)


@functools.singledispatch
def _of_layer(layer):
    kernels = [w.path for w in layer.weights if len(w.shape) > 1]
    if kernels:
        raise ValueError(
            "Expected layers whose multiply-adds are known. Received: "
            f"layer={layer.name} of {type(layer).__name__} with {kernels}"
        )
    return 0


@_of_layer.register
def _(layer: keras.Model):
    return multiply_adds(layer)


@_of_layer.register(keras.layers.Conv2D)
@_of_layer.register(keras.layers.DepthwiseConv2D)
def _of_convolution(layer):
    return _positions(layer) * _size(layer.kernel)


@_of_layer.register
def _(layer: keras.layers.Dense):
    return math.prod(_known(layer.output.shape[1:-1])) * _size(layer.kernel)


@_of_layer.register(layers.AWConv2D)
@_of_layer.register(layers.AWDepthwiseConv2D)
def _of_aw_convolution(layer):
    branch = math.prod(layer.kernel_size) * _size(
        layer.attention_reduce_kernel, layer.attention_expand_kernel
    )
    return _of_convolution(layer) + branch + _size(layer.kernel)


@_of_layer.register
def _of_squeeze_excite(layer: layers.SqueezeExcite):
    return _size(layer.reduce_kernel, layer.expand_kernel)


@_of_layer.register
def _(layer: layers.CBAM):
    # The average and the maximum each pass the perceptron.
    spatial = _positions(layer) * _size(layer.spatial_kernel)
    return 2 * _of_squeeze_excite(layer) + spatial


@_of_layer.register
def _(layer: layers.EfficientChannelAttention):
    return _channels(layer) * _size(layer.kernel)


@_of_layer.register
def _(layer: layers.GatherExcite):
    shape, total = layer.output.shape, 0
    for inner in layer.gather_layers:
        shape = tuple(inner.compute_output_shape(shape))
        if isinstance(inner, keras.layers.DepthwiseConv2D):
            total += _area(shape, layer.data_format) * _size(inner.kernel)
    return total


@_of_layer.register
def _(layer: layers.NonLocal):
    positions = context = _positions(layer)
    if layer.subsample:
        context = math.prod(-(-n // 2) for n in _extents(layer))
    inner = layer.theta_kernel.shape[1]
    return (
        positions * _size(layer.theta_kernel, layer.out_kernel)
        + context * _size(layer.phi_kernel, layer.g_kernel)
        + 2 * positions * context * inner
    )


@_of_layer.register
def _(layer: layers.DualAttention):
    positions, channels = _positions(layer), _channels(layer)
    units = layer.query_kernel.shape[1]
    projections = positions * _size(
        layer.query_kernel, layer.key_kernel, layer.value_kernel
    )
    over_positions = positions**2 * (units + channels)
    over_channels = 2 * positions * channels**2
    return projections + over_positions + over_channels


@_of_layer.register
def _(layer: layers.SpatialChannelAttention):
    of_channels = _size(layer.channel_kernel, layer.channel_score_kernel)
    of_positions = _size(layer.spatial_kernel, layer.spatial_score_kernel)
    return _channels(layer) * of_channels + _positions(layer) * of_positions


@_of_layer.register
def _(layer: layers.SpatialSoftmaxAttention):
    return _positions(layer) * _size(layer.kernel)


def _size(*weights):
    return sum(math.prod(weight.shape) for weight in weights)


def _extents(layer):
    """Height and width of the layer's output."""
    return _spatial(layer.output.shape, layer.data_format)


def _spatial(shape, data_format):
    return _known(shape[1:3] if data_format == "channels_last" else shape[2:])


def _area(shape, data_format):
    return math.prod(_spatial(shape, data_format))


def _positions(layer):
    return math.prod(_extents(layer))


def _channels(layer):
    return layer.output.shape[3 if layer.data_format == "channels_last" else 1]


def _known(extents):
    if None in extents:
        raise ValueError(
            "Expected a model with an input of known height and width. "
            f"Received: extents={extents} within the model"
        )
    return extents


if __name__ == "__main__":
    print(table())
