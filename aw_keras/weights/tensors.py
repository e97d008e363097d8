"""Files of named tensors, as PyTorch users write them, without running them.

A `.safetensors` file has nothing but tensors. What PyTorch writes is a pickle,
which could run anything: `torch.load(weights_only=True)` reads tensors alone,
and refuses the rest. Shapes are known at once, numbers are read when NumPy asks
for them.
"""

import importlib.util
import math
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from aw_keras.suffixes import SAFETENSORS
from aw_keras.weights import limits

#: Where checkpoints of a training have the tensors of the network.
_NESTED = ("state_dict", "model")

#: What wrappers of a network put in front of the names of its tensors.
_WRAPPERS = ("module.", "_orig_mod.")

_FLOATING = ("float16", "bfloat16", "float32", "float64")


class LazyArray:
    """An array whose numbers are computed when NumPy asks for them.

    Args:
        shape: Tuple of integers.
        compute: Function that returns the array.
    """

    def __init__(self, shape, compute):
        self.shape = tuple(shape)
        self._compute = compute

    @property
    def size(self):
        return math.prod(self.shape)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._compute(), dtype)


def check_reader(path):
    """Complains of a file that could not be read, before it is there.

    Args:
        path: Path that ends in one of `suffixes.PYTORCH`.

    Raises:
        ImportError: If the package that reads such files is not installed.
    """
    name, reader = "PyTorch", "torch"
    if _is_safe(path):
        name = reader = "safetensors"
    if importlib.util.find_spec(reader) is None:
        raise ImportError(
            f"Expected {name} to be installed, to read files such as {path}: "
            f"pip install 'aw-keras[{reader}]'"
        )


def read(path, content=None):
    """The floating tensors of a file.

    Args:
        path: Path that ends in one of `suffixes.PYTORCH`.
        content: Path of a copy to read, if it is another one.

    Returns:
        A dict from names to `LazyArray`s of float32, without the prefixes of
        wrappers such as `module.`. Counters of batches are left out.

    Raises:
        ImportError: If the package that reads such files is not installed.
        ValueError: If the file cannot be read, or has anything but floating
            tensors. The arrays raise it if a number is not finite.
    """
    check_reader(path)
    reading = _read_safetensors if _is_safe(path) else _read_pickle
    found = reading(path, content or path)
    found = {
        name: tensor
        for name, tensor in _unwrapped(found).items()
        if not name.endswith("num_batches_tracked")
    }
    for name, (dtype, _, _) in found.items():
        if dtype not in _FLOATING:
            raise ValueError(
                f"Expected tensors of {', '.join(_FLOATING)}. "
                f"Received: path={path}, where {name} is of {dtype}"
            )
    return {
        name: LazyArray(shape, _finite(compute, name, path))
        for name, (_, shape, compute) in found.items()
    }


def _is_safe(path):
    return pathlib.Path(path).suffix.lower() == SAFETENSORS


def _read_safetensors(path, content):
    import safetensors

    try:
        file = safetensors.safe_open(content, framework="numpy")
        slices = {name: file.get_slice(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error

    def reading(name):
        return lambda: file.get_tensor(name)

    return {
        name: (_dtype(found.get_dtype()), found.get_shape(), reading(name))
        for name, found in slices.items()
    }


def _dtype(name):
    """`"float32"` for the `"F32"` of the format, and so on."""
    kinds = (("BF", "bfloat"), ("F", "float"), ("I", "int"), ("U", "uint"))
    for short, long in kinds:
        if name.startswith(short):
            return name.replace(short, long, 1).lower()
    return name.lower()


def _read_pickle(path, content):
    import torch

    try:
        is_archive = zipfile.is_zipfile(content)
        if is_archive:
            limits.check_archive(content)
        found = torch.load(
            content,
            map_location="cpu",
            weights_only=True,
            mmap=is_archive,
        )
    # What PyTorch raises for damaged files depends on where the damage is.
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise _unreadable(path, error) from error
        raise ValueError(
            "Expected a file with nothing but tensors in it: others could run "
            "anything. Save the `state_dict()` of the network alone. "
            f"Received: path={path} ({_first_line(error)})"
        ) from error
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in found.items()
    ):
        raise ValueError(
            "Expected the `state_dict()` of a network, alone or as "
            f"{' or '.join(map(repr, _NESTED))} of a dict. "
            f"Received: path={path}"
        )

    def reading(tensor):
        return lambda: tensor.detach().float().numpy()

    return {
        name: (
            str(tensor.dtype).removeprefix("torch."),
            tensor.shape,
            reading(tensor),
        )
        for name, tensor in found.items()
    }


def _unreadable(path, error):
    return ValueError(
        "Expected `path` to be a file of tensors. "
        f"Received: path={path} ({_first_line(error)})"
    )


def _first_line(error):
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _unwrapped(found):
    """Without the prefixes that all names have from wrappers."""
    for prefix in _WRAPPERS * 2:
        if found and all(name.startswith(prefix) for name in found):
            found = {k.removeprefix(prefix): v for k, v in found.items()}
    return found


def _finite(compute, name, path):
    def checked():
        array = np.asarray(compute()).astype("float32")
        if not np.isfinite(array).all():
            raise ValueError(
                "Expected finite weights. Received: "
                f"path={path}, where {name} has infinity or NaN"
            )
        return array

    return checked
