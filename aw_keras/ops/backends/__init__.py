"""What the implementations need from the framework, one module a backend.

`active` is the module of the backend that Keras runs on. Each module offers
the same functions; `keras.ops` has no counterpart for them, or one that is
slow: grouped convolution and its gradient, a loop over samples with
accumulators, and a gradient that recomputes instead of keeping.
"""

import importlib

from keras import backend

SUPPORTED = ("jax", "tensorflow", "torch")

if backend.backend() not in SUPPORTED:
    raise ImportError(
        f"Expected the Keras backend to be one of {SUPPORTED}. "
        f"Received: KERAS_BACKEND={backend.backend()}"
    )

active = importlib.import_module(f"{__name__}.{backend.backend()}")
