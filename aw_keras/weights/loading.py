"""Loads files of weights by the names of layers, all or nothing.

A file fits a model if both have the same layers, and these the same variables
of the same shapes. Where layers stand in the model, and what the model is
called, does not matter.

A damaged file is refused where the damage can be seen. Released files are
checked by their hash, wherever they are, and `.keras` files by the checksums
that they carry: nothing but what was written is loaded from either. Any other
`.weights.h5` file has no checksums. Names and shapes are checked in it; a value
that has changed is not noticed, and on rare damage to its structure the HDF5
library itself hangs or ends the process. `.keras` is the safer format to keep.
"""

import contextlib
import dataclasses
import io
import os
import tempfile
import zipfile

import h5py
import numpy as np

from aw_keras import suffixes
from aw_keras.preprocessing import Preprocessing
from aw_keras.weights import manifest, pytorch, warm_start
from aw_keras.weights.manifest import Verified
from aw_keras.weights.pytorch import CLASSIFIER

_SUFFIXES = (*suffixes.KERAS, *suffixes.PYTORCH)

_KERNEL = "vars/0"
_INPUT_CHANNELS = 2


class _Misfit(ValueError):
    """What is in the file, as far as it can be read, is not what is needed."""


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What became of the layers of a model and of a file.

    Attributes:
        path: Where the weights come from.
        loaded: Names of the layers that have the weights of the file.
        adapted: Names of the layers whose weights were made to fit.
        left: Names of the layers of the file that the model does not have.
        arguments: What the file needs the network to be built with, and it
            was: `{"padding": "symmetric", ...}` for one of PyTorch.
        dataset: Name of the data set that the weights are for, `None` if it
            is not known.
        preprocessing: What images go through before the network, a
            `Preprocessing`; `None` if it is not known. It is known for the
            names of weights; for the path of a file of PyTorch, which does
            not say it, both are what is usual for such networks.
        verified: What the file was compared with before it was loaded, a
            `Verified`, for the name of a file; else `None`.
    """

    path: str
    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    left: tuple[str, ...]
    arguments: dict = dataclasses.field(default_factory=dict)
    dataset: str | None = None
    preprocessing: Preprocessing | None = None
    verified: Verified | None = None

    def __str__(self):
        built = ", ".join(f"{k}={v!r}" for k, v in self.arguments.items())
        return (
            f"{self.path}: {len(self.loaded)} layers loaded, "
            f"adapted: {', '.join(self.adapted) or 'none'}, "
            f"left in the file: {', '.join(self.left) or 'none'}"
            + (f", built with {built}" if built else "")
            + (f", {self.verified}" if self.verified else "")
        )


@contextlib.contextmanager
def _plain_errors():
    """Callers get a `ValueError` of that name, which they may want to catch."""
    try:
        yield
    except _Misfit as misfit:
        raise ValueError(str(misfit)) from misfit.__cause__


@_plain_errors()
def load(model, path, adapt=False):
    """Loads weights from a file of Keras 3, or of PyTorch.

    Layers are matched by name, nested models' too, and their variables by name
    and shape. The file of a network with the classifier `predictions` also
    fits the network without it; else everything has to fit.

    Files of PyTorch (`.safetensors`, `.pth`, `.pt`, `.th`, `.bin`) have the
    weights of a residual network as timm, torchvision, akamaster or chenyaofo
    name them. The model computes the same then, up to rounding: it has to be
    built as the file needs, which the networks of `aw_keras.applications` are
    that get the path as `weights`. AW-convolutions begin with an attention of
    1/2 everywhere, as those of the plain network that the file has.

    Example:

    >>> import tempfile
    >>> from aw_keras.applications import ResNet20
    >>> path = tempfile.mkdtemp() + "/resnet20.weights.h5"
    >>> ResNet20().save_weights(path)
    >>> receipt = load(ResNet20(classes=100), path, adapt=True)
    >>> len(receipt.loaded), receipt.adapted
    (38, ('predictions',))

    Args:
        model: Functional or Sequential `keras.Model`, built.
        path: Path of a `.weights.h5` or `.keras` file, or of one of PyTorch.
        adapt: Whether what does not fit at the model's two ends is made to
            fit. The first layer's kernel may have other input channels: each
            gets the sum over the file's channels divided by the model's
            number of channels, so that a grey image causes the same
            activations. The classifier may have other classes or be missing
            in the file: it keeps the weights it was initialised with.

    Returns:
        A `Receipt`.

    Raises:
        ImportError: If PyTorch or safetensors, which read their own files, is
            not installed.
        ValueError: If the file cannot be read, does not fit, has NaN, or the
            name of a released file but not its hash: the message names the
            file and the layers. The model is left as it was.
    """
    path = os.fspath(path)
    manifest.check_name(path)
    if suffixes.is_pytorch(path):
        network = pytorch.read(path)
        source = pytorch.fitted(network, model)
        warm_start.add_attention(source, model)
        receipt = fill(model, source, path, adapt, network.arguments)
        return dataclasses.replace(
            receipt,
            dataset=network.dataset,
            preprocessing=network.preprocessing,
        )
    with _saved(model) as own_path, _opened(path) as file:
        return _fill(model, own_path, _variables(file, path), path, adapt, {})


@_plain_errors()
def fill(model, source, path, adapt=False, arguments=None):
    """`load`, from variables that are already there.

    Args:
        model: As for `load`.
        source: Dict from the name of a layer to a dict from the name of a
            variable in a weights file, such as `"vars/0"`, to its value.
        path: Where the values come from, for the receipt and errors.
        adapt: As for `load`.
        arguments: Dict of what the network must have been built with, of
            those that `pytorch.built_arguments` finds.

    Returns:
        A `Receipt`.

    Raises:
        ValueError: As `load` does.
    """
    with _saved(model) as own_path:
        return _fill(model, own_path, source, path, adapt, arguments or {})


@contextlib.contextmanager
def _saved(model):
    """Path of a file of the model as it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.weights.h5")
        model.save_weights(path)
        yield path


def _fill(model, own_path, source, path, adapt, arguments):
    # Only Keras knows which variable of a file belongs to which of a model:
    # its file of the model as it is gets the values of the source.
    with h5py.File(own_path, "r+") as file:
        target = _variables(file, own_path)
        values, *lists = _matched(source, target, _names(model), path, adapt)
        _check_arguments(model, arguments, path)
        for name, variables in values.items():
            for key, value in variables.items():
                _replace(target[name][key], value)
    _load_or_restore(model, own_path, path)
    return Receipt(path, *map(tuple, lists), arguments)


def _check_arguments(model, arguments, path):
    if not arguments:
        return
    built = pytorch.built_arguments(model)
    wrong = {k: v for k, v in built.items() if arguments.get(k, v) != v}
    if wrong:
        raise _Misfit(
            "Expected a network that was built with "
            f"{', '.join(f'{k}={arguments[k]!r}' for k in wrong)}, as the file "
            f"needs. Received: path={path} for a network with "
            f"{', '.join(f'{k}={v!r}' for k, v in wrong.items())}"
        )


@_plain_errors()
def read(path):
    """The variables of a file as `fill` takes them, as arrays."""
    if suffixes.is_pytorch(path):
        source = pytorch.read(path).source
        return {
            name: {key: np.asarray(value) for key, value in variables.items()}
            for name, variables in source.items()
        }
    with _opened(path) as file:
        return {
            name: {key: value[()] for key, value in variables.items()}
            for name, variables in _variables(file, path).items()
        }


@contextlib.contextmanager
def _opened(path):
    """The HDF5 file in a file of weights or of a model."""
    if not os.path.exists(path):
        raise _Misfit(
            "Expected `path` to be a file written by Keras 3. "
            f"Received: path={path}: no such file"
        )
    try:
        content = path
        if path.endswith(".keras"):
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        elif not path.endswith(".weights.h5"):
            raise OSError(f"the name ends in none of {', '.join(_SUFFIXES)}")
        with h5py.File(content, "r") as file:
            yield file
    except _Misfit:
        raise
    # What h5py and zipfile raise for damaged files, and when, depends on where
    # the damage is.
    except Exception as error:
        raise ValueError(
            "Expected `path` to be a file written by Keras 3. "
            f"Received: path={path} ({error})"
        ) from error


def _variables(file, path):
    """Dict from the name of a layer to a dict of its variables."""
    layers = _own(file).get("layers")
    if not isinstance(layers, h5py.Group):
        raise _Misfit(
            "Expected the weights of a functional or Sequential model. "
            f"Received: path={path}"
        )
    found = list(_layers(layers))
    variables = dict(found)
    if len(variables) < len(found):
        raise _Misfit(
            "Expected layers of different names, in nested models too. "
            f"Received: path={path} with {sorted(name for name, _ in found)}"
        )
    return variables


def _layers(group):
    """Pairs of name and variables of the layers that have variables."""
    for layer in _own(group).values():
        members = _own(layer)
        if "layers" in members:
            yield from _layers(members["layers"])
            continue
        variables = {}

        def collect(key, item, variables=variables):
            if _has_numbers(item):
                variables[key] = item

        layer.visititems(collect)
        if variables:
            yield members["vars"].attrs["name"], variables


def _own(group):
    """Members of a group that are in the file itself, not linked from it."""
    return {
        name: group[name]
        for name in group
        if isinstance(group.get(name, getlink=True), h5py.HardLink)
    }


def _has_numbers(item):
    """Whether the file itself has the numbers of a dataset.

    They may be in another file instead, or declared but never written.
    """
    return (
        isinstance(item, h5py.Dataset)
        and item.dtype.kind in "biufV"
        and not item.external
        and not item.is_virtual
        and (
            item.size == 0
            or item.id.get_space_status() == h5py.h5d.SPACE_STATUS_ALLOCATED
        )
    )


def _names(model):
    """Names of the layers with weights, in the order of the model."""
    return [layer.name for layer in model.layers if layer.weights]


def _matched(source, target, names, path, adapt):
    """Values for `target` by layer, and what a `Receipt` says of the layers.

    Nothing but shapes is looked at, unless kernels are adapted.
    """
    matched, loaded, adapted = {}, [], []
    misfits, adaptable = [], []
    order = {name: place for place, name in enumerate(names)}
    for name in sorted(target, key=lambda name: order.get(name, len(order))):
        values, expected = source.get(name, {}), target[name]
        is_stem = name == names[0] and _other_channels(values, expected)
        if _shapes(values) == _shapes(expected):
            loaded.append(name)
        elif adapt and is_stem:
            channels = expected[_KERNEL].shape[_INPUT_CHANNELS]
            values = {
                **values,
                _KERNEL: _spread(values[_KERNEL], channels),
            }
            adapted.append(name)
        elif adapt and name == CLASSIFIER:
            adapted.append(name)
            continue
        else:
            misfits.append(_misfit(name, values, expected))
            adaptable += [name] if is_stem or name == CLASSIFIER else []
            continue
        matched[name] = values
    left = [name for name in source if name not in target]
    misfits += [
        f"{name}: not in the model" for name in left if name != CLASSIFIER
    ]
    if misfits:
        hint = ""
        if len(adaptable) == len(misfits):
            hint = f", or `adapt=True`, which adapts {' and '.join(adaptable)}"
        raise _Misfit(
            f"Expected a file that fits the model{hint}. Received: "
            f"path={path}, where {len(misfits)} layers do not fit:\n  "
            + "\n  ".join(misfits)
        )
    return matched, loaded, adapted, left


def _shapes(variables):
    return {key: tuple(value.shape) for key, value in variables.items()}


def _other_channels(values, expected):
    """Whether kernels have other input channels and all else is equal."""
    found, wanted = _shapes(values), _shapes(expected)
    kernels = [shapes.pop(_KERNEL, ()) for shapes in (found, wanted)]
    if found != wanted or {len(kernel) for kernel in kernels} != {4}:
        return False
    first, second = (np.delete(kernel, _INPUT_CHANNELS) for kernel in kernels)
    return bool((first == second).all())


def _spread(kernel, channels):
    total = np.sum(np.asarray(kernel), axis=_INPUT_CHANNELS, keepdims=True)
    return np.repeat(total / channels, channels, axis=_INPUT_CHANNELS)


def _misfit(name, values, expected):
    if not values:
        return f"{name}: not in the file"
    found, wanted = _shapes(values), _shapes(expected)
    differences = [
        f"{key} {found.get(key, 'missing')} for {wanted.get(key, 'none')}"
        for key in sorted({*found, *wanted})
        if found.get(key) != wanted.get(key)
    ]
    return f"{name}: {', '.join(differences)}"


def _replace(dataset, value):
    group, key = dataset.parent, dataset.name
    del group[key]
    if isinstance(value, h5py.Dataset):
        group.copy(value, key)  # With the mark of a dtype HDF5 has not.
    else:
        group[key] = np.asarray(value)


def _load_or_restore(model, own_path, path):
    before = model.get_weights()
    try:
        model.load_weights(own_path)
    except Exception as error:
        model.set_weights(before)
        raise _Misfit(
            "Expected a file with values of every variable. "
            f"Received: path={path} ({error})"
        ) from error
