"""Layers and models under JAX, compiled ahead of the first call."""

import jax
import keras

from benchmarks.measure import Step


def devices():
    preferred = jax.devices()[0]
    return {"cpu": "cpu", jax.default_backend(): preferred.device_kind}


def layer_step(layer, inputs, cotangent, mode):
    weights = _values(layer.trainable_variables)

    def forward(weights, x):
        # Not `stateless_call`, which would leave out the dtype policy's casts.
        state = list(zip(layer.trainable_variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=state):
            return layer(x)

    def train(weights, x, output_gradient):
        y, pull_back = jax.vjp(forward, weights, x)
        return y, pull_back(output_gradient)

    if cotangent is None:
        return _step(jax.jit(forward), weights, inputs)
    return _step(jax.jit(train), weights, inputs, cotangent)


def network_step(model, inputs, labels, mode):
    if labels is None:
        state = (
            _values(model.trainable_variables),
            _values(model.non_trainable_variables),
        )
        return _step(jax.jit(model.predict_step), state, (inputs,))
    state = (
        _values(model.trainable_variables),
        _values(model.non_trainable_variables),
        _values(model.optimizer.variables),
        _values(model.metrics_variables),
    )
    train_step = jax.jit(model.train_step, donate_argnums=0)
    compiled = train_step.lower(state, (inputs, labels)).compile()

    def launch():
        nonlocal state
        logs, state = compiled(state, (inputs, labels))
        _finish_on_cpu(state)
        return logs

    return Step(
        launch,
        wait=lambda logs: jax.block_until_ready((logs, state)),
        temporary_bytes=_temporary_bytes(compiled),
    )


def device_growth(step):
    """The peak since the process started: autotuning counts in it."""
    device = jax.devices()[0]
    before = device.memory_stats()["bytes_in_use"]
    step()
    return device.memory_stats()["peak_bytes_in_use"] - before


def grouped_conv2d(inputs, kernels, strides):
    batch, height, width, channels = inputs.shape
    _, rows, columns, _, filters = kernels.shape
    outputs = jax.lax.conv_general_dilated(
        inputs.transpose(1, 2, 0, 3).reshape(1, height, width, -1),
        kernels.transpose(1, 2, 3, 0, 4).reshape(rows, columns, channels, -1),
        window_strides=strides,
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=batch,
    )
    outputs = outputs.reshape(*outputs.shape[1:3], batch, filters)
    return outputs.transpose(2, 0, 1, 3)


def _values(variables):
    return [variable.value for variable in variables]


def _step(function, *arguments):
    compiled = function.lower(*arguments).compile()
    return Step(
        launch=lambda: _finish_on_cpu(compiled(*arguments)),
        wait=jax.block_until_ready,
        temporary_bytes=_temporary_bytes(compiled),
    )


def _finish_on_cpu(results):
    # An accelerator takes calls one after the other, but the CPU would start
    # several at once and measure their throughput.
    if jax.default_backend() == "cpu":
        jax.block_until_ready(results)
    return results


def _temporary_bytes(compiled):
    return compiled.memory_analysis().temp_size_in_bytes
