"""Values and gradients under whichever backend Keras runs on, as NumPy.

The gradients are those of `sum(cotangent(y.shape) * y)`: the cotangent is a
fixed, irregular pattern of eighths, which every dtype represents exactly.
"""

import contextlib
import functools

import keras
import numpy as np

BACKEND = keras.backend.backend()

#: How a function can be run: op by op, traced, compiled by XLA, or compiled
#: without the optimisations that take most of the time of compiling.
MODES = {
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("eager", "xla", "unoptimized"),
    "torch": ("eager",),
}[BACKEND]

#: The mode in which many small configurations take the least time.
FASTEST_MODE = "unoptimized" if BACKEND == "jax" else "eager"

#: The modes in which users' functions are compiled.
COMPILED_MODES = [mode for mode in MODES if mode in ("graph", "xla")]

_UNOPTIMIZED = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def cotangent(shape):
    """The fixed cotangent of an output of `shape`, float64."""
    index = np.arange(np.prod(shape, dtype=int))
    return ((3 * index**2 + 7 * index) % 17 - 8).reshape(shape) / 8


def enable_float64():
    """A context in which the backend computes in float64."""
    if BACKEND != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


def float64_if_needed(dtype):
    """`enable_float64()` where `dtype` is float64, else an empty context."""
    if dtype == "float64":
        return enable_float64()
    return contextlib.nullcontext()


def to_numpy(tensor):
    """`tensor`, of any floating dtype, as a float64 array."""
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float64")


def rounded(array, dtype):
    """`array` rounded to `dtype`, as float64."""
    return np.asarray(array).astype(keras_dtype(dtype)).astype("float64")


def keras_dtype(name):
    """The NumPy dtype called `name`, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return np.dtype(name)


def epsilon(dtype):
    """The distance from 1 to the next number of `dtype`."""
    return {"bfloat16": 2.0**-7}.get(dtype) or float(np.finfo(dtype).eps)


def assert_close(actual, expected, dtype="float64", factor=64):
    """Asserts `|actual - expected| <= factor * eps(dtype) * max|expected|`.

    The error of a sum of products is relative to the products, not to their
    sum, which may cancel: hence the largest magnitude of the array.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = np.max(np.abs(expected), initial=0) or 1.0
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=factor * epsilon(dtype) * scale
    )


def run(function, *arrays, dtype="float64", mode=FASTEST_MODE):
    """`function` of the arrays as tensors of `dtype`, as float64 NumPy."""
    with float64_if_needed(dtype):
        tensors = [_tensor(array, dtype) for array in arrays]
        return to_numpy(_compiled(function, mode)(*tensors))


def value_and_gradients(function, *arrays, dtype="float64", mode=FASTEST_MODE):
    """Value and gradients of a function of tensors.

    Args:
        function: Takes as many tensors as there are arrays and returns a
            tensor.
        arrays: NumPy arrays, cast to `dtype`.
        dtype: Name of the floating dtype of the tensors.
        mode: One of `MODES`.

    Returns:
        The value and the list of the gradients with respect to the arrays,
        all float64 NumPy arrays.
    """
    with float64_if_needed(dtype):
        tensors = [_tensor(array, dtype) for array in arrays]
        if BACKEND == "torch":
            tensors = [t.detach().requires_grad_(True) for t in tensors]
        value, gradients = _differentiated(function, mode)(*tensors)
        return to_numpy(value), [to_numpy(g) for g in gradients]


def _tensor(array, dtype):
    return keras.ops.convert_to_tensor(np.asarray(array, "float64"), dtype)


@functools.lru_cache(maxsize=4)
def _compiled(function, mode):
    """`function` to be run in `mode`; asked again, without compiling again."""
    if mode == "eager":
        return function
    if BACKEND == "jax":
        import jax

        options = _UNOPTIMIZED if mode == "unoptimized" else None
        return jax.jit(function, compiler_options=options)
    import tensorflow as tf

    return tf.function(
        function, jit_compile=mode == "xla", reduce_retracing=False
    )


@functools.lru_cache(maxsize=4)
def _differentiated(function, mode):
    differentiate = {
        "tensorflow": _tensorflow_value_and_gradients,
        "jax": _jax_value_and_gradients,
        "torch": _torch_value_and_gradients,
    }[BACKEND]
    return _compiled(lambda *tensors: differentiate(function, tensors), mode)


def _tensorflow_value_and_gradients(function, tensors):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return value, tape.gradient(
        value, tensors, output_gradients=tensorflow_cotangent(value)
    )


def tensorflow_cotangent(value):
    """`cotangent` of a TensorFlow tensor whose shape may be unknown."""
    import tensorflow as tf

    index = tf.range(tf.size(value))
    pattern = (3 * index**2 + 7 * index) % 17 - 8
    return tf.reshape(tf.cast(pattern, value.dtype) / 8, tf.shape(value))


def _jax_value_and_gradients(function, tensors):
    import jax
    import jax.numpy as jnp

    value, pull_back = jax.vjp(function, *tensors)
    return value, pull_back(jnp.asarray(cotangent(value.shape), value.dtype))


def _torch_value_and_gradients(function, tensors):
    import torch

    value = function(*tensors)
    return value, torch.autograd.grad(
        value, tensors, _tensor(cotangent(value.shape), "float64").to(value)
    )
