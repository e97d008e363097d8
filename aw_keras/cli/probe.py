"""What Keras and its backend say of themselves, printed as JSON.

`aw-keras doctor` runs this file in a process of its own: what is broken may
hang or end the process that tries it, and neither is to end `doctor`.
"""

import json


def look():
    """Dict of the `backend`, its `devices` and whether `xla` works."""
    import keras

    backend = keras.backend.backend()
    return {
        "backend": backend,
        "devices": _tried(_devices, backend),
        "xla": _tried(_xla, backend),
    }


def _tried(function, backend):
    """What it returns, or why it cannot."""
    try:
        return function(backend)
    # Whatever is broken about a framework, the rest is worth printing.
    except Exception as error:
        return _told(error)


def _told(error):
    """An exception in a line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _devices(backend):
    if backend == "tensorflow":
        import tensorflow as tf

        return [device.name for device in tf.config.list_physical_devices()]
    if backend == "jax":
        import jax

        return [str(device) for device in jax.devices()]
    import torch

    count = torch.cuda.device_count()
    return ["cpu", *map(torch.cuda.get_device_name, range(count))]


def _xla(backend):
    """Whether XLA can compile for the backend."""
    if backend == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda x: x + 1.0, jit_compile=True)
    elif backend == "jax":
        import jax

        compiled = jax.jit(lambda x: x + 1.0)
    else:
        return "not used by torch"
    return "works" if float(compiled(1.0)) == 2 else "computes nonsense"


if __name__ == "__main__":
    try:
        found = look()
    except Exception as error:
        found = {"error": _told(error)}
    print(json.dumps(found))
