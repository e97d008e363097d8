"""Loads files of weights by the names of layers, all or nothing.

A file fits a model if both have the same layers, and these the same variables
of the same shapes. Where layers stand in the model, and what the model is
called, does not matter.

What a file declares is compared with the model before a number is read, and a
file that would become far larger than it is, is refused: see `limits`. So are
infinity and NaN, and whole numbers where the model has others.

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
import keras
import ml_dtypes
import numpy as np

from aw_keras import suffixes
from aw_keras.preprocessing import Preprocessing
from aw_keras.weights import limits, pytorch, warm_start
from aw_keras.weights.manifest import Verified
from aw_keras.weights.private_copy import content_of
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
        ValueError: If the file cannot be read, does not fit, has infinity or
            NaN, or the name of a released or published file but not its hash:
            the message names the file and the layers. The model is left as it
            was.
    """
    path = os.fspath(path)
    with content_of(path) as content:
        if suffixes.is_pytorch(path):
            return _load_pytorch(model, path, content, adapt)
        with _saved(model) as own_path, _opened(path, content) as file:
            source = _variables(file, path)
            return _fill(model, own_path, source, path, adapt, {})


def _load_pytorch(model, path, content, adapt):
    network = pytorch.read(path, content)
    source = pytorch.fitted(network, model)
    warm_start.add_attention(source, model)
    receipt = fill(model, source, path, adapt, network.arguments)
    return dataclasses.replace(
        receipt,
        dataset=network.dataset,
        preprocessing=network.preprocessing,
    )


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
                _replace(target[name][key], value, path)
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


@_plain_errors()
def shapes(path):
    """The shapes of the variables of a file, whose numbers are not read.

    Args:
        path: As for `load`.

    Returns:
        Dict from the name of a layer to a dict from the name of a variable in
        a weights file to its shape.

    Raises:
        ImportError: As `load` does.
        ValueError: If the file cannot be read.
    """
    if suffixes.is_pytorch(path):
        found = pytorch.read(path).source
        return {name: _shapes(variables) for name, variables in found.items()}
    with _opened(path) as file:
        found = _variables(file, path)
        return {name: _shapes(variables) for name, variables in found.items()}


def check(path):
    """Refuses a `.keras` file that can be seen to be damaged, or a bomb.

    Args:
        path: Path of the file.

    Raises:
        ValueError: If it is.
    """
    with _opened(os.fspath(path)):
        pass


def not_finite(model):
    """Paths of the weights of a model that have infinity or NaN."""
    return [
        weight.path
        for weight in model.weights
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all()
    ]


@contextlib.contextmanager
def _opened(path, content=None):
    """The HDF5 file in a file of weights or of a model.

    Args:
        path: Path that the user has given.
        content: Path of a copy to read, if it is another one.
    """
    if not os.path.exists(path):
        raise _Misfit(
            "Expected `path` to be a file written by Keras 3. "
            f"Received: path={path}: no such file"
        )
    try:
        content = content or path
        size = os.path.getsize(content)
        if path.endswith(".keras"):
            limits.check_archive(content)
            with zipfile.ZipFile(content) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        elif not path.endswith(".weights.h5"):
            raise OSError(f"the name ends in none of {', '.join(_SUFFIXES)}")
        with h5py.File(content, "r") as file:
            limits.check_arrays(file, size)
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
    found = list(_layers(layers, set(), path))
    variables = dict(found)
    if len(variables) < len(found):
        raise _Misfit(
            "Expected layers of different names, in nested models too. "
            f"Received: path={path} with {sorted(name for name, _ in found)}"
        )
    return variables


def _layers(group, seen, path):
    """Pairs of name and variables of the layers that have variables.

    A group may have several names, and be in itself: `seen` are the places of
    those that need not be looked at again.
    """
    for layer in _own(group).values():
        place = h5py.h5o.get_info(layer.id).addr
        if place in seen:
            raise _Misfit(
                "Expected a file in which every layer has a place of its own. "
                f"Received: path={path} with {layer.name} twice"
            )
        seen.add(place)
        members = _own(layer)
        if "layers" in members:
            yield from _layers(members["layers"], seen, path)
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
        and (item.dtype.kind in "biuf" or _is_bfloat16(item))
        and not item.external
        and not item.is_virtual
        and (
            item.size == 0
            or item.id.get_space_status() == h5py.h5d.SPACE_STATUS_ALLOCATED
        )
    )


def _is_bfloat16(item):
    """Whether a dataset has numbers of this kind, which HDF5 does not know."""
    return item.dtype == "V2" and item.attrs.get("dtype") == "bfloat16"


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
        if _fits(values, expected):
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


def _fits(values, expected):
    """Whether variables have the shapes, and the kind, of those expected."""
    return _shapes(values) == _shapes(expected) and not any(
        _other_kind(values[key], value) for key, value in expected.items()
    )


def _other_kind(value, expected):
    """Whether one has whole numbers and the other has not."""
    kinds = [
        getattr(x, "dtype", np.dtype("float32")).kind in "biu"
        for x in (value, expected)
    ]
    return kinds[0] != kinds[1]


def _other_channels(values, expected):
    """Whether kernels have other input channels and all else is equal."""
    found, wanted = _shapes(values), _shapes(expected)
    kernels = [shapes.pop(_KERNEL, ()) for shapes in (found, wanted)]
    if found != wanted or {len(kernel) for kernel in kernels} != {4}:
        return False
    if any(_other_kind(values[key], value) for key, value in expected.items()):
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
    ] or [
        f"{key} of {values[key].dtype} for {value.dtype}"
        for key, value in expected.items()
        if _other_kind(values[key], value)
    ]
    return f"{name}: {', '.join(differences)}"


def _replace(dataset, value, path):
    group, key = dataset.parent, dataset.name
    if not _is_finite(value):
        raise _Misfit(
            "Expected finite weights. Received: "
            f"path={path}, where {key} has infinity or NaN"
        )
    del group[key]
    if isinstance(value, h5py.Dataset):
        group.copy(value, key)  # With the mark of a dtype HDF5 has not.
    else:
        group[key] = np.asarray(value)


def _is_finite(value):
    numbers = np.asarray(value)
    if isinstance(value, h5py.Dataset) and _is_bfloat16(value):
        numbers = numbers.view(ml_dtypes.bfloat16).astype("float32")
    return bool(np.isfinite(numbers).all())


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
