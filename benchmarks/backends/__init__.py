"""How layers and models are run, one module a backend with the same functions.

Each module imports its own framework and no other, so that a machine needs
only the backends that it measures. A module has:

- `devices()`: what is found of `"cpu"`, `"gpu"` and `"tpu"`, with its name.
- `layer_step(layer, inputs, cotangent, mode)`: a `Step` of one layer. Without
  a cotangent the output, else the output and the gradients of
  `sum(output * cotangent)` with respect to the input and all weights.
- `network_step(model, inputs, labels, mode)`: a `Step` of a compiled model.
  Without labels inference, else the training step that `fit` takes.
- `device_growth(step)`: how far one call raises an accelerator's memory.
- `grouped_conv2d(inputs, kernels, strides)`: a convolution of every sample
  with its own kernel, by folding the batch into groups.
"""

import importlib
import importlib.util

from benchmarks.measure import resident_growth

MODES = {
    "tensorflow": ("graph", "xla"),
    "jax": ("jit",),
    "torch": ("eager",),
}


def installed():
    """Returns the names of the backends that can be imported."""
    return [name for name in MODES if importlib.util.find_spec(name)]


def load(name):
    """Returns the module that runs things on the backend called `name`."""
    return importlib.import_module(f"benchmarks.backends.on_{name}")


def active():
    """Returns the module of the backend that Keras uses."""
    import keras

    return load(keras.backend.backend())


def memory_record(step, device):
    """Measures the peak memory of a `Step`, once in a process.

    Args:
        step: A `Step` that has not been run.
        device: `"cpu"`, or the accelerator that the step runs on.

    Returns:
        Dictionary with `peak_mib`, above what was there before the step, and
        `temporary_mib`, what the compiler states, or `None`.
    """
    growth = resident_growth if device == "cpu" else active().device_growth
    stated = step.temporary_bytes
    return {
        "peak_mib": growth(step) / 2**20,
        "temporary_mib": None if stated is None else stated / 2**20,
    }
