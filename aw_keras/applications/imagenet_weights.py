"""The weights that `keras.applications` has for ImageNet, as a warm start."""

import dataclasses
import os
import tempfile

import keras

from aw_keras.applications import topology
from aw_keras.applications.datasets import IMAGENET
from aw_keras.weights import loading
from aw_keras.weights.download import by_keras
from aw_keras.weights.warm_start import add_attention

#: By the number of blocks of their stages.
WARM_STARTS = {
    topology.DEPTHS[depth][0]: f"ResNet{depth}" for depth in (50, 101, 152)
}

_BIAS = "vars/1"
_MOVING_MEAN = "vars/2"


def warm_start(model, adapt, *, peer, include_top):
    """Fills a network with the weights of its peer.

    Args:
        model: `keras.Model` with the layers of the peer.
        adapt: As for `aw_keras.weights.load`.
        peer: One of the values of `WARM_STARTS`.
        include_top: Whether to take the file with the classifier.

    Returns:
        An `aw_keras.weights.Receipt`.

    Raises:
        ConnectionError: If they have to be downloaded and cannot be.
        ValueError: If they do not fit.
    """
    source = _peer_variables(peer, include_top)
    _fold_biases(source)
    add_attention(source, model)
    path = f"keras.applications.{peer}(weights='imagenet')"
    return dataclasses.replace(
        loading.fill(model, source, path, adapt),
        dataset=IMAGENET.name,
        preprocessing=IMAGENET.preprocessing,
    )


def _peer_variables(peer, include_top):
    """The variables of the network of `keras.applications`."""
    with by_keras(f"the weights of keras.applications.{peer}"):
        model = getattr(keras.applications, peer)(
            weights="imagenet", include_top=include_top
        )
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "peer.weights.h5")
        model.save_weights(path)
        return loading.read(path)


def _fold_biases(source):
    """Moves the biases of convolutions into the moving means after them."""
    for name, variables in source.items():
        if name.endswith("_conv"):
            norm = source[name.removesuffix("_conv") + "_bn"]
            norm[_MOVING_MEAN] = norm[_MOVING_MEAN] - variables.pop(_BIAS)
