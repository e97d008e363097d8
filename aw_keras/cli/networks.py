"""The argument MODEL: a registered network or a file, opened."""

import dataclasses
import difflib
import os
import pathlib
import zipfile
from typing import Any

import keras
import numpy as np

from aw_keras.applications import (
    create_model,
    from_pytorch,
    get_entry,
    list_models,
)
from aw_keras.applications.preprocessing import (
    CIFAR,
    CIFAR_CLASSES,
    IMAGENET,
    Preprocessing,
    decode_imagenet,
)
from aw_keras.weights import loading, tensors

_SUFFIX = ".keras"

#: What `--preprocessing` takes.
PREPROCESSINGS = {
    "imagenet": IMAGENET,
    **CIFAR,
    "signed": Preprocessing("RGB", (127.5,) * 3, (127.5,) * 3),
    "unit": Preprocessing("RGB", (0.0,) * 3, (255.0,) * 3),
    "none": None,
}

_CLASSES = {
    "imagenet": 1000,
    **{dataset: len(names) for dataset, names in CIFAR_CLASSES.items()},
}

DESCRIPTION = """\
MODEL is the name of a network with its released weights (aw-keras list
--pretrained), or with yours (--weights PATH), or a .keras file, or a file of
PyTorch with a ResNet of timm, torchvision, akamaster or chenyaofo. How images
have to be preprocessed is known for released weights only; for others say
--preprocessing: imagenet (that of ResNet), cifar10, cifar100, signed (-1 to
1), unit (0 to 1), or none (0 to 255 as they are, for a network that does it
itself).
"""


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and what is known about its images and classes.

    Attributes:
        model: `keras.Model`.
        weights: Where its weights come from, for people.
        dataset: Key of `PREPROCESSINGS`.
    """

    model: Any
    weights: str
    dataset: str

    @property
    def preprocessing(self):
        """`Preprocessing`, or `None`."""
        return PREPROCESSINGS[self.dataset]

    def class_names(self):
        """Names of the classes, or `None` if they are not known."""
        counts = [tensor.shape[-1] for tensor in self.model.outputs]
        if counts != [_CLASSES.get(self.dataset)]:
            return None
        if self.dataset in CIFAR_CLASSES:
            return CIFAR_CLASSES[self.dataset]
        try:
            return [row[0][1] for row in decode_imagenet(np.eye(1000), 1)]
        # Keras raises a bare Exception if it cannot download the names.
        except Exception:
            return None


def add_model(parser):
    """Adds the argument of commands for which any weights will do."""
    parser.add_argument(
        "model", metavar="MODEL", help="name of a network, or a file"
    )


def add_arguments(parser):
    """Adds the arguments that `open_trained` reads."""
    add_model(parser)
    parser.add_argument(
        "--weights",
        metavar="NAME|PATH",
        help="for a name: released weights, or a file of Keras or PyTorch",
    )
    parser.add_argument(
        "--preprocessing",
        choices=PREPROCESSINGS,
        metavar="KIND",
        help="what images go through first (see above)",
    )


def open_any(source):
    """The model of an argument MODEL; that of a name has random weights."""
    if _is_path(source):
        return load(source)
    return create_model(_known(source).name)


def with_weights(name, path):
    """The network of a name with the weights of a file."""
    entry = _known(name)
    _check_weights(path, entry)
    return create_model(entry.name, weights=path, classes=_classes_in(path))


def open_trained(options):
    """The `Network` of the arguments that `add_arguments` adds.

    Raises:
        ValueError: If there are no weights, or no preprocessing for them.
    """
    if _is_path(options.model):
        if options.weights:
            raise ValueError(
                "Expected --weights for the name of a network only. "
                f"Received: MODEL={options.model}, which has its own"
            )
        _check_file(options.model)
        dataset = _said(options, options.model)
        return Network(load(options.model), options.model, dataset)
    entry = _known(options.model)
    weights = options.weights or _released(entry)
    if weights in entry.weights:
        dataset, classes = weights, _CLASSES[weights]
    else:
        _check_weights(weights, entry)
        dataset, classes = _said(options, weights), _classes_in(weights)
    model = create_model(entry.name, weights=weights, classes=classes)
    return Network(model, weights, options.preprocessing or dataset)


def _is_path(source):
    known = source.lower() in map(str.lower, list_models())
    return not known and (
        source.endswith((_SUFFIX, *tensors.SUFFIXES))
        or os.sep in source
        or os.path.exists(source)
    )


def _known(name):
    try:
        return get_entry(name)
    except ValueError as error:
        close = difflib.get_close_matches(
            name.lower(), map(str.lower, list_models()), n=5
        )
        names = ", ".join(get_entry(match).name for match in close)
        raise ValueError(
            "Expected the name of a network (see aw-keras list) or a "
            f"{_SUFFIX} file. Received: MODEL={name}"
            + (f"; did you mean {names}?" if names else "")
        ) from error


def load(path):
    """The model of a `.keras` file, not compiled, or of one of PyTorch."""
    _check_file(path)
    if tensors.is_tensors(path):
        return from_pytorch(path)
    try:
        return keras.saving.load_model(path, compile=False)
    # What Keras raises for damaged files depends on where the damage is.
    except Exception as error:
        raise ValueError(
            f"Expected a {_SUFFIX} file written by Keras 3, with layers of "
            f"Keras and aw_keras only. Received: MODEL={path} "
            f"({type(error).__name__}: {error})"
        ) from error


def _check_file(path):
    if not os.path.isfile(path):
        raise ValueError(
            f"Expected a {_SUFFIX} file, one of PyTorch or the name of a "
            f"network (aw-keras list). Received: MODEL={path}, which is no file"
        )
    if tensors.is_tensors(path):
        return
    if pathlib.Path(path).suffix != _SUFFIX or not zipfile.is_zipfile(path):
        raise ValueError(
            f"Expected a file that `model.save('name{_SUFFIX}')` has written. "
            f"Received: MODEL={path}"
        )


def _said(options, weights):
    if options.preprocessing is None:
        raise ValueError(
            "Expected --preprocessing, one of "
            f"{', '.join(PREPROCESSINGS)}: what images went through in "
            f"training is not known. Received: weights={weights}"
        )
    return options.preprocessing


def _released(entry):
    if not entry.weights:
        others = ", ".join(list_models(pretrained=True))
        raise ValueError(
            "Expected --weights PATH, because no weights were released for "
            f"this network, or one of {others}. Received: MODEL={entry.name}"
        )
    return entry.weights[0]


def _check_weights(weights, entry):
    if not os.path.isfile(weights):
        known = " or ".join([*entry.weights, "a file of weights"])
        raise ValueError(
            f"Expected --weights to be {known} for {entry.name}. "
            f"Received: --weights {weights}"
        )


def _classes_in(path):
    """The number of classes that a file of weights is for."""
    variables = loading.read(path).get(loading.CLASSIFIER)
    if not variables:
        raise ValueError(
            f"Expected weights with the classifier `{loading.CLASSIFIER}`. "
            f"Received: --weights {path}"
        )
    return max(variables.values(), key=np.ndim).shape[-1]
