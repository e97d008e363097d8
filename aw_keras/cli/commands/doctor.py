"""Look for what is missing or does not fit together.

Prints versions, devices and folders, and the conflicts found; the exit code is
1 if there are any.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys

from aw_keras.addresses import without_password
from aw_keras.cli import probe
from aw_keras.cli.output import print_facts
from aw_keras.command import DONE, PROBLEM

EXAMPLES = """\
aw-keras doctor
aw-keras doctor --json
"""

PACKAGES = (
    *("aw-keras", "keras", "numpy", "tensorflow", "jax", "jaxlib", "torch"),
    *("tf-keras", "tf-models-official", "onnx", "onnxruntime", "tf2onnx"),
    *("ai-edge-litert", "protobuf", "h5py", "pillow", "matplotlib", "rich"),
    *("safetensors", "huggingface_hub"),
)

_VARIABLES = (
    *("KERAS_BACKEND", "KERAS_HOME", "AW_KERAS_IMPLEMENTATION"),
    *("AW_KERAS_WEIGHTS_URL", "XLA_FLAGS", "TF_XLA_FLAGS"),
    *("TF_USE_LEGACY_KERAS", "CUDA_VISIBLE_DEVICES", "TORCH_HOME"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE"),
)

#: Frameworks that take longer to start than this do not work, in seconds.
_PATIENCE = 300


def add_arguments(parser):
    """Takes no arguments."""


def run(options):
    versions = {name: _version(name) for name in PACKAGES}
    variables = {
        name: without_password(os.environ[name])[0]
        for name in _VARIABLES
        if name in os.environ
    }
    backend, cache = _probed(), _cache()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: backend.get(name) for name in ("backend", "devices", "xla")},
        "versions": versions,
        "variables": variables,
        "cache": cache,
        "conflicts": [
            *_backend_conflicts(backend),
            *_requirements(versions),
            *_known_conflicts(versions, variables),
            *_cache_conflicts(cache),
        ],
    }


def exit_code(result):
    return PROBLEM if result["conflicts"] else DONE


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _probed():
    """What `probe` prints; or its `error`."""
    try:
        process = subprocess.run(
            [sys.executable, "-P", probe.__file__],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {_PATIENCE} seconds"}
    try:
        return json.loads(process.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = [line for line in process.stderr.splitlines() if line.strip()]
        last = said[-1] if said else "without a word"
        return {"error": f"exit code {process.returncode}, {last}"}


def _backend_conflicts(found):
    if "error" in found:
        yield (
            f"Keras does not start ({found['error']}): install its backend, "
            "for example pip install 'aw-keras[tensorflow]', or name another "
            "one in KERAS_BACKEND"
        )


def _cache():
    """Where downloads go, and which of the released files are here, whole.

    Or the `error`, where not even the libraries for files of weights work.
    """
    try:
        from aw_keras.weights import released, store
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    folder = store.keras_home()
    here = {file.name: store.found(file) for file in released()}
    return {
        "folder": folder,
        "writable": _is_writable(folder),
        "weights": [path for path in here.values() if path],
        "missing": [name for name, path in here.items() if not path],
    }


def _is_writable(folder):
    """Whether files can be made in a folder, which may have to be made too."""
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def _requirements(versions):
    """Packages whose version is not one that aw-keras is made for."""
    from packaging.requirements import Requirement

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
    from packaging.version import Version

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
    if "error" in cache:
        yield f"files of weights cannot be read ({cache['error']})"
    elif not cache["writable"]:
        yield (
            f"{cache['folder']}, where weights are downloaded to, cannot be "
            "written: set KERAS_HOME to a folder that can"
        )


def show(result):
    devices, cache = result["devices"], result["cache"]
    if isinstance(devices, list):
        devices = "\n".join(devices)
    weights = None
    if "error" not in cache:
        here, missing = len(cache["weights"]), len(cache["missing"])
        weights = f"{here} of {here + missing} are here"
    print_facts(
        "Environment",
        {
            "Python": result["python"],
            "platform": result["platform"],
            "backend": result["backend"] or "does not start",
            "devices": devices,
            "XLA": result["xla"],
            "cache": cache.get("folder"),
            "released weights": weights,
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
