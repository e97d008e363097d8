"""From the body of a network to a model: input, classifier, weights."""

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from aw_keras.applications.registry import get_entry, list_models
from aw_keras.choices import check_choice
from aw_keras.suggestions import did_you_mean
from aw_keras.weights import loading, published, pytorch

#: Numbers of channels of grey images, and of red, green and blue.
_COLOURS = (1, 3)


@dataclasses.dataclass(frozen=True)
class Assembly:
    """The arguments that every network takes, as `keras.applications` has them.

    Attributes:
        named_weights: Maps a name that `weights` may be to a function that
            takes a model and `adapt`, fills the model and returns a receipt.
    """

    include_top: bool
    weights: Any
    input_tensor: Any
    input_shape: tuple | None
    pooling: str | None
    classes: int
    classifier_activation: Any
    name: str
    adapt: bool
    named_weights: dict[str, Callable] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_arguments(cls, arguments, **more):
        """Those of a function's `locals()` that belong here."""
        wanted = {field.name for field in dataclasses.fields(cls)}
        common = {k: v for k, v in arguments.items() if k in wanted}
        return cls(**common, **more)

    def __post_init__(self):
        check_choice("pooling", self.pooling, (None, "avg", "max"))
        is_name = isinstance(self.weights, str) and (
            self.weights in self.named_weights
        )
        if self.weights is not None and not is_name:
            _check_file(self.weights, self.name)

    def model(self, toolkit, default_size, body):
        """The model whose maps `body` computes from a tensor of images.

        Args:
            toolkit: A `KerasToolkit`.
            default_size: Height and width of the images if there is no
                `input_shape`; may be `None`.
            body: Function of a tensor of images that returns one of maps.

        Returns:
            A `keras.Model` with the attribute `weights_receipt`: what was
            loaded, or `None` for random weights.
        """
        image = self._image(toolkit, default_size)
        x = self._top(toolkit, body(image))
        receipt = None
        if self.weights is not None:
            # From the network's own first tensor, so that layers in front of
            # an `input_tensor` take no part in the matching.
            receipt = self._load(keras.Model(image, x))
        sources = keras.utils.get_source_inputs(image)
        inputs = sources[0] if len(sources) == 1 else sources
        model = keras.Model(inputs, x, name=self.name)
        model.weights_receipt = receipt
        return model

    def _image(self, toolkit, default_size):
        if self.input_tensor is None:
            shape = self.input_shape
            if shape is None:
                shape = [default_size] * 3
                shape[toolkit.channel_axis - 1] = 3
            if len(shape) != 3:
                raise ValueError(
                    "Expected `input_shape` to have three entries, without the "
                    f"batch. Received: input_shape={shape}"
                )
            _warn_if_turned(shape, toolkit.channel_axis - 1)
            return keras.Input(shape, dtype=toolkit.policy.variable_dtype)
        if not keras.utils.is_keras_tensor(self.input_tensor):
            raise ValueError(
                "Expected `input_tensor` to be a Keras tensor. "
                f"Received: input_tensor={self.input_tensor}"
            )
        return self.input_tensor

    def _top(self, toolkit, x):
        if self.include_top:
            return layers.Dense(
                self.classes,
                activation=self.classifier_activation,
                dtype=toolkit.policy.variable_dtype,
                name=loading.CLASSIFIER,
            )(toolkit.global_pool(x, "avg"))
        if self.pooling is None:
            return x
        return toolkit.global_pool(x, self.pooling)

    def _load(self, model):
        if self.weights in self.named_weights:
            return self.named_weights[self.weights](model, self.adapt)
        return loading.load(model, self.weights, adapt=self.adapt)


def resolved(weights, given, defaults):
    """Arguments that may be `None`: as given, as needed, or the defaults.

    Args:
        weights: The network's argument; a file of PyTorch needs some of them.
        given: Dict that has the arguments, such as `locals()`.
        defaults: Dict from their names to their values if nobody says.

    Returns:
        A dict with the keys of `defaults`.

    Raises:
        ImportError: If the package that reads the file is not installed.
        ValueError: If the file is none of a known network.
    """
    needed = pytorch.needed_arguments(weights)
    return {
        name: needed.get(name, default) if given[name] is None else given[name]
        for name, default in defaults.items()
    }


def _warn_if_turned(shape, axis):
    """Warns of an image whose channels seem to be at the other end."""
    if shape[axis] not in _COLOURS and shape[2 - axis] in _COLOURS:
        where = "last" if axis == 2 else "first"
        warnings.warn(
            f"Expected `input_shape` with its channels {where}, usually 1 or "
            f"3. Received: input_shape={tuple(shape)}, an image of "
            f"{shape[axis]} channels",
            stacklevel=2,
        )


def _check_file(weights, name):
    if isinstance(weights, (str, os.PathLike)) and os.path.isfile(weights):
        return
    others = {file.name: file.architecture for file in published()}
    if str(weights) in others:
        raise ValueError(
            f"Expected `weights` of this network. Received: weights={weights} "
            f"for name={name}, which are those of {others[str(weights)]}"
        )
    path = pathlib.PurePath(str(weights))
    if path.suffix or path.name != str(weights):
        raise ValueError(
            "Expected `weights` to be the path of a weights file. Received: "
            f"weights={weights} for name={name}: no such file"
            + did_you_mean(weights, others)
        )
    owners = {}
    for model in list_models(pretrained=True):
        for known in get_entry(model).weights:
            owners.setdefault(known, []).append(model)
    pretrained = "".join(
        f", or '{known}' for one of {', '.join(models)}"
        for known, models in owners.items()
    )
    raise ValueError(
        "Expected `weights` to be `None`, the path of a weights file"
        f"{pretrained}. Received: weights={weights} for name={name}"
        + did_you_mean(weights, owners)
    )
