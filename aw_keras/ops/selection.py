"""Which implementation computes a per-sample convolution.

An explicit argument comes first, then `use_implementation`, then the
environment variable `AW_KERAS_IMPLEMENTATION`, then the automatic rule. Only an
export comes before them all. The choice is made while a function is traced: a
compiled function keeps it.
"""

import contextlib
import contextvars
import math
import os

from aw_keras.ops.backends import active
from aw_keras.ops.geometry import static
from aw_keras.ops.implementations import TABLE, Implementation

IMPLEMENTATIONS = tuple(TABLE)
AUTO = "auto"
ENVIRONMENT_VARIABLE = "AW_KERAS_IMPLEMENTATION"

_override = contextvars.ContextVar("aw_keras_implementation", default=None)
_forced = contextvars.ContextVar("aw_keras_forced", default=None)


@contextlib.contextmanager
def use_implementation(name):
    """Use one implementation wherever none is named by an argument.

    It acts on what is traced inside the context: a function compiled before
    keeps its implementation, and one compiled inside keeps the named one.

    Args:
        name: One of `aw_keras.ops.IMPLEMENTATIONS`, or `"auto"`.

    Raises:
        ValueError: if the name is unknown.
    """
    token = _override.set(check_implementation(name))
    try:
        yield
    finally:
        _override.reset(token)


@contextlib.contextmanager
def force_implementation(name):
    """`use_implementation`, also where another one is named by an argument.

    In this thread only: what others trace meanwhile is theirs to choose.
    """
    token = _forced.set(check_implementation(name))
    try:
        yield
    finally:
        _forced.reset(token)


def check_implementation(name, origin="implementation"):
    """Return `name`, or raise a ValueError that lists the known names."""
    if name != AUTO and name not in TABLE:
        raise ValueError(
            f"Expected `{origin}` to be 'auto' or one of {IMPLEMENTATIONS}. "
            f"Received: {origin}={name}"
        )
    return name


def select(name, geometry, x_shape, filters):
    """Resolve an `implementation` argument to the functions to run.

    Args:
        name: Name of an implementation, or `"auto"`.
        geometry: `Conv2DGeometry`.
        x_shape: Static channels-last shape of the input; `None` is unknown.
        filters: Number of filters.

    Returns:
        An `Implementation`.
    """
    x_shape = static(x_shape)
    if x_shape[0] == 0:
        return TABLE["matmul"]  # The others need at least one sample.
    name = _forced.get() or name
    if name == AUTO:
        name = _override.get() or _from_environment()
    if name != AUTO:
        return TABLE[check_implementation(name)]
    forward, backward = automatic(geometry, x_shape, filters)
    return Implementation(TABLE[forward].forward, TABLE[backward].backward)


def _from_environment():
    name = os.environ.get(ENVIRONMENT_VARIABLE) or AUTO
    return check_implementation(name, ENVIRONMENT_VARIABLE)


def automatic(geometry, x_shape, filters):
    """Names of the fastest forward and backward, as measured.

    `benchmarks/implementations.py` prints the measurements behind the numbers.
    """
    if active.device() == "tpu":
        rule = _tpu
    elif active.device() != "cpu" or active.splits_batch():
        rule = _batched
    else:
        backend = active.__name__.rpartition(".")[2]
        rule = _RULES.get((backend, active.compiled()), _batched)
    return rule(geometry, x_shape, filters)


def _batched(geometry, x_shape, filters):
    if geometry.kernel_size == (1, 1):
        return "matmul", "matmul"
    if x_shape[-1] == geometry.groups:
        return "shifted", "shifted"
    if x_shape[0] is None:
        return "matmul", "matmul"  # An export would go sample by sample.
    return "grouped", "matmul"


def _tpu(geometry, x_shape, filters):
    """By what XLA's compiler estimates for a TPU v5e, in bfloat16.

    Not measured on one. Bytes are what counts: kernels that are generated as
    they are multiplied never reach the memory.
    """
    simple = geometry.kernel_size == (1, 1) or x_shape[0] is None
    if simple or geometry.groups > 1:
        return _batched(geometry, x_shape, filters)
    elements = geometry.kernel_elements(x_shape[-1], filters)
    if output_pixels(geometry, x_shape) >= 500 and elements >= 30_000:
        return "grouped", "grouped"
    return ("matmul", "matmul") if elements < 100_000 else ("views", "views")


def _jax_cpu(geometry, x_shape, filters):
    elements = geometry.kernel_elements(x_shape[-1], filters)
    if geometry.kernel_size == (1, 1):
        return "matmul", "tiles" if elements >= 100_000 else "matmul"
    if x_shape[-1] == geometry.groups:
        return "shifted", "shifted"
    if elements >= 500_000:
        return "tiles", "tiles"
    work = megaflops(geometry, x_shape, filters)
    forward = "shifted" if work < 1 else "loop"
    return forward, "shifted" if work < 3 else "tiles"


def _tensorflow_cpu(geometry, x_shape, filters):
    if geometry.kernel_size == (1, 1):
        return "matmul", "matmul"
    if megaflops(geometry, x_shape, filters) < 50:
        return "grouped", "grouped"
    # The gradient of a convolution whose kernel is larger than its image is
    # slower than matrix products.
    small = output_pixels(geometry, x_shape) < 100
    return "loop", "tiles" if small else "loop"


def _tensorflow_cpu_xla(geometry, x_shape, filters):
    if geometry.kernel_size == (1, 1):
        return "matmul", "matmul"
    if x_shape[-1] == geometry.groups:
        return "shifted", "shifted"
    if megaflops(geometry, x_shape, filters) >= 50:
        return "loop", "tiles"
    large = geometry.kernel_elements(x_shape[-1], filters) >= 8_000
    return "loop", "shifted" if large else "matmul"


def _torch_cpu(geometry, x_shape, filters):
    if geometry.kernel_size == (1, 1):
        return "matmul", "matmul"
    pixels = output_pixels(geometry, x_shape)
    if geometry.groups > 1 or pixels > 256:
        return "grouped", "grouped"
    elements = geometry.kernel_elements(x_shape[-1], filters)
    if elements >= 2_000_000:
        return "tiles", "tiles"
    forward = "shifted" if pixels <= 200 else "grouped"
    return forward, "matmul" if elements >= 30_000 else "shifted"


_RULES = {
    ("jax", True): _jax_cpu,
    ("tensorflow", False): _tensorflow_cpu,
    ("tensorflow", True): _tensorflow_cpu_xla,
    ("torch", False): _torch_cpu,
}


def megaflops(geometry, x_shape, filters):
    """Multiply-adds of one sample's convolution, times two, in millions.

    Infinite where the size of the input is unknown.
    """
    elements = geometry.kernel_elements(x_shape[-1], filters)
    return 2e-6 * output_pixels(geometry, x_shape) * elements


def output_pixels(geometry, x_shape):
    """Pixels of one sample's output; infinitely many where unknown."""
    if None in x_shape[1:3]:
        return math.inf
    return math.prod(geometry.output_size(x_shape[1:3]))
