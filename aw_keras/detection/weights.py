"""Weights between tf_keras backbones and Keras 3 networks, by name.

A backbone's twin is the Keras 3 network with the same layers. It reads and
writes the files, so that what fits a twin is what fits any Keras 3 network.
"""

import os

import keras

from aw_keras.applications import create_model
from aw_keras.applications.variants import VARIANTS
from aw_keras.detection.backbone import AWResNet
from aw_keras.files import replacing


def load_backbone(model_or_backbone, weights, adapt=False):
    """Loads the weights of a Keras 3 network into a backbone.

    The network computes the same features if its epsilon of the batch
    normalisations is the backbone's `norm_epsilon`, which it is by default.

    Args:
        model_or_backbone: `AWResNet`, or a detector that has one.
        weights: Path of the weights file of the Keras 3 network of the same
            architecture, with or without its classifier, or a name that the
            network's own argument `weights` takes, such as `"imagenet"`.
        adapt: Whether images may have other channels than the network's; see
            `aw_keras.weights.load`.

    Returns:
        An `aw_keras.weights.Receipt`.

    Raises:
        ValueError: If there is no such backbone, or the weights do not fit:
            the backbone is left as it was.
    """
    backbone = _backbone(model_or_backbone)
    twin = keras_twin(backbone, weights, adapt)
    sources = _variables(twin)
    for key, target in _variables(backbone).items():
        target.assign(keras.ops.convert_to_numpy(sources[key]))
    return twin.weights_receipt


def save_backbone(model_or_backbone, path):
    """Saves the weights of a backbone as those of a Keras 3 network.

    Args:
        model_or_backbone: `AWResNet`, or a detector that has one.
        path: Path that ends in `.weights.h5`. The file fits the
            `aw_keras.applications` network of the same architecture with
            `include_top=False`.

    Raises:
        ValueError: If there is no such backbone, or `path` ends otherwise.
    """
    path = os.fspath(path)
    if not path.endswith(".weights.h5"):
        raise ValueError(
            f"Expected `path` to end in '.weights.h5'. Received: path={path}"
        )
    backbone = _backbone(model_or_backbone)
    twin = keras_twin(backbone)
    sources = _variables(backbone)
    for key, target in _variables(twin).items():
        target.assign(sources[key].numpy())
    with replacing(path) as part:
        twin.save_weights(part)


def keras_twin(backbone, weights=None, adapt=False):
    """The Keras 3 network with the layers of a backbone.

    Args:
        backbone: `AWResNet`.
        weights: As for the Keras 3 network.
        adapt: As for the Keras 3 network.

    Returns:
        A `keras.Model` without classifier, in float32.

    Raises:
        ValueError: If the weights do not fit.
    """
    config = backbone.get_config()
    kinds = {name: config[name] for name in ("conv", "attention")}
    return create_model(
        f"{_prefix(**kinds)}ResNet{config['model_id']}",
        include_top=False,
        weights=weights,
        input_shape=backbone.input_shape[1:],
        data_format="channels_last",
        dtype="float32",
        adapt=adapt,
        **{
            name: config[name]
            for name in ("aw_stages", "reduction", "stride_in_3x3", "padding")
        },
    )


def _prefix(**kinds):
    """What the name of a network of these kinds begins with."""
    default = {"conv": "plain", "attention": None}
    return next(
        prefix
        for prefix, (_, variant) in VARIANTS.items()
        if {**default, **variant} == kinds
    )


def _backbone(model_or_backbone):
    found = getattr(model_or_backbone, "backbone", model_or_backbone)
    if not isinstance(found, AWResNet):
        raise ValueError(
            "Expected an `AWResNet`, or a detector with one as `backbone`. "
            f"Received: model_or_backbone={model_or_backbone}"
        )
    return found


def layer_variables(layer):
    """Dict from names, as both frameworks have them, to variables."""
    return {_name_in(layer, variable): variable for variable in layer.weights}


def _name_in(layer, variable):
    path = getattr(variable, "path", variable.name).removesuffix(":0")
    return path.rpartition(f"{layer.name}/")[2]


def _variables(model):
    return {
        (layer.name, name): variable
        for layer in model.layers
        for name, variable in layer_variables(layer).items()
    }
