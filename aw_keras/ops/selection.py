"""Which implementation computes a per-sample convolution.

An explicit argument comes first, then `use_implementation`, then the
environment variable `AW_KERAS_IMPLEMENTATION`, then the automatic rule. The
choice is made while a function is traced: a compiled function keeps it.
"""

import contextlib
import contextvars
import os

from aw_keras.ops.backends import active
from aw_keras.ops.geometry import static
from aw_keras.ops.implementations import TABLE, Implementation

IMPLEMENTATIONS = tuple(TABLE)
AUTO = "auto"
ENVIRONMENT_VARIABLE = "AW_KERAS_IMPLEMENTATION"

_override = contextvars.ContextVar("aw_keras_implementation", default=None)


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
    choices = (
        (name, "implementation"),
        (_override.get(), "implementation"),
        (os.environ.get(ENVIRONMENT_VARIABLE), ENVIRONMENT_VARIABLE),
    )
    for choice, origin in choices:
        if choice and check_implementation(choice, origin) != AUTO:
            return TABLE[choice]
    forward, backward = automatic(geometry, x_shape, filters)
    return Implementation(TABLE[forward].forward, TABLE[backward].backward)


def automatic(geometry, x_shape, filters):
    """Names of the fastest forward and backward, as measured.

    `benchmarks/implementations.py` prints the measurements behind the numbers.
    """
    device, rule = (
        active.device(),
        _RULES.get(
            (active.__name__.rpartition(".")[2], active.compiled()), _batched
        ),
    )
    if device != "cpu" or active.splits_batch():
        rule = _batched
    return rule(geometry, x_shape, filters)


def _batched(geometry, x_shape, filters):
    if geometry.kernel_size == (1, 1):
        return "matmul", "matmul"
    if x_shape[-1] == geometry.groups:
        return "shifted", "shifted"
    if x_shape[0] is None:
        return "matmul", "matmul"  # JAX exports no unknown number of groups.
    return "grouped", "matmul"


def _jax_cpu(geometry, x_shape, filters):
    if geometry.kernel_size == (1, 1):
        return "matmul", "tiles"
    if x_shape[-1] == geometry.groups:
        return "shifted", "shifted"
    if kernel_elements(geometry, x_shape, filters) >= 500_000:
        return "tiles", "tiles"
    if megaflops(geometry, x_shape, filters) < 1:
        return "shifted", "tiles"
    return "loop", "tiles"


def _tensorflow_cpu(geometry, x_shape, filters):
    if geometry.kernel_size == (1, 1):
        return "matmul", "matmul"
    if megaflops(geometry, x_shape, filters) >= 50:
        return "loop", "loop"
    # Folding the batch into channels transposes the input: dear where it is
    # large and has few channels.
    height, width = geometry.output_size(x_shape[1:3])
    return "loop" if height * width >= 1000 else "grouped", "grouped"


def _tensorflow_cpu_xla(geometry, x_shape, filters):
    if geometry.kernel_size == (1, 1):
        return "matmul", "matmul"
    if x_shape[-1] == geometry.groups:
        return "shifted", "shifted"
    if megaflops(geometry, x_shape, filters) < 50:
        return "loop", "matmul"
    return "loop", "tiles"


def _torch_cpu(geometry, x_shape, filters):
    if geometry.kernel_size == (1, 1):
        return "matmul", "matmul"
    return "grouped", "grouped"


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
    if None in x_shape[1:3]:
        return float("inf")
    height, width = geometry.output_size(x_shape[1:3])
    rows, columns = geometry.kernel_size
    channels = x_shape[-1] // geometry.groups
    return 2e-6 * height * width * rows * columns * channels * filters


def kernel_elements(geometry, x_shape, filters):
    """Number of elements of one sample's kernel."""
    rows, columns = geometry.kernel_size
    return rows * columns * x_shape[-1] // geometry.groups * filters
