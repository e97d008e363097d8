"""Look for what is missing or does not fit together.

Prints versions, devices and folders, and the conflicts found; the exit code is
1 if there are any.
"""

import importlib.metadata
import os
import platform

import keras
from packaging.requirements import Requirement
from packaging.version import Version

from aw_keras.cli.output import print_facts
from aw_keras.weights import released, store

EXAMPLES = """\
aw-keras doctor
aw-keras doctor --json
"""

PACKAGES = (
    *("aw-keras", "keras", "numpy", "tensorflow", "jax", "jaxlib", "torch"),
    *("tf-keras", "tf-models-official", "onnx", "onnxruntime", "tf2onnx"),
    *("ai-edge-litert", "protobuf", "h5py", "pillow", "matplotlib", "rich"),
)

_VARIABLES = (
    *("KERAS_BACKEND", "KERAS_HOME", "AW_KERAS_IMPLEMENTATION"),
    *("AW_KERAS_WEIGHTS_URL", "XLA_FLAGS", "TF_XLA_FLAGS"),
    *("TF_USE_LEGACY_KERAS", "CUDA_VISIBLE_DEVICES"),
)


def add_arguments(parser):
    """Takes no arguments."""


def run(options):
    versions = {name: _version(name) for name in PACKAGES}
    variables = {
        name: os.environ[name] for name in _VARIABLES if name in os.environ
    }
    cache = _cache()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": keras.backend.backend(),
        "devices": _tried(_devices),
        "xla": _tried(_xla),
        "versions": versions,
        "variables": variables,
        "cache": cache,
        "conflicts": [
            *_requirements(versions),
            *_known_conflicts(versions, variables),
            *_cache_conflicts(cache),
        ],
    }


def exit_code(result):
    return 1 if result["conflicts"] else 0


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _tried(function):
    """What it returns, or why it cannot."""
    try:
        return function()
    # Whatever is broken about a framework, the rest is worth printing.
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _devices():
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return [device.name for device in tf.config.list_physical_devices()]
    if backend == "jax":
        import jax

        return [str(device) for device in jax.devices()]
    import torch

    count = torch.cuda.device_count()
    return ["cpu", *map(torch.cuda.get_device_name, range(count))]


def _xla():
    """Whether XLA can compile for the backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda x: x + 1.0, jit_compile=True)
    elif backend == "jax":
        import jax

        compiled = jax.jit(lambda x: x + 1.0)
    else:
        return "not used by torch"
    return "works" if float(compiled(1.0)) == 2 else "computes nonsense"


def _cache():
    folder = store.keras_home()
    return {
        "folder": folder,
        "writable": _is_writable(folder),
        "weights": [
            file.name
            for file in released()
            if os.path.isfile(os.path.join(folder, "models", file.name))
        ],
    }


def _is_writable(folder):
    """Whether files can be made in a folder, which may have to be made too."""
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def _requirements(versions):
    """Packages whose version is not one that aw-keras is made for."""
    try:
        lines = importlib.metadata.requires("aw-keras") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    for requirement in map(Requirement, lines):
        found = versions.get(requirement.name) or _version(requirement.name)
        if found and not requirement.specifier.contains(found, True):
            wanted = f"{requirement.name}{requirement.specifier}"
            yield (
                f"{requirement.name} {found} is installed, {wanted} expected: "
                f"pip install '{wanted}'"
            )


def _known_conflicts(versions, variables):
    tensorflow, tf_keras = versions["tensorflow"], versions["tf-keras"]
    if tensorflow and tf_keras and _minor(tensorflow) != _minor(tf_keras):
        yield (
            f"tf-keras {tf_keras} is for another TensorFlow than {tensorflow}: "
            f"pip install 'tf-keras=={_minor(tensorflow)}.*'"
        )
    jax, jaxlib = versions["jax"], versions["jaxlib"]
    if jax and jaxlib and Version(jaxlib) > Version(jax):
        yield (
            f"jaxlib {jaxlib} is newer than jax {jax}: "
            f"pip install 'jaxlib=={jax}'"
        )
    if variables.get("TF_USE_LEGACY_KERAS", "0").lower() in ("1", "true"):
        yield (
            "TF_USE_LEGACY_KERAS makes `tf.keras` another library than Keras "
            "3, whose models do not mix with these: unset it"
        )
    if "XLA_FLAGS" in variables and tensorflow and jax:
        yield (
            "XLA_FLAGS is read by TensorFlow and by JAX, and either ends the "
            "process at a flag it does not know: unset it for one of them"
        )


def _minor(version):
    return ".".join(version.split(".")[:2])


def _cache_conflicts(cache):
    if not cache["writable"]:
        yield (
            f"{cache['folder']}, where weights are downloaded to, cannot be "
            "written: set KERAS_HOME to a folder that can"
        )


def show(result):
    devices = result["devices"]
    print_facts(
        "Environment",
        {
            "Python": result["python"],
            "platform": result["platform"],
            "backend": result["backend"],
            "devices": devices
            if isinstance(devices, str)
            else "\n".join(devices),
            "XLA": result["xla"],
            "cache": result["cache"]["folder"],
            "weights there": len(result["cache"]["weights"]),
            **result["variables"],
        },
    )
    print_facts(
        "Versions",
        {
            name: version or "not installed"
            for name, version in result["versions"].items()
        },
    )
    print(
        "\n".join(f"conflict: {text}" for text in result["conflicts"])
        or "no conflicts found"
    )
