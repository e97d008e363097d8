"""What has to run in a process of its own, with its backend or its devices.

`python -m tests.layers.processes NAME ARGUMENTS` calls the function of that
name; files carry what goes in and what comes out.
"""

import sys

import keras
import numpy as np

from tests.layers.networks import (
    outputs_and_gradients,
    small_data,
    small_network,
    train_one_step,
)


def evaluate_files(folder, output):
    """Outputs and gradients of the model file and of the weights file."""
    model = keras.saving.load_model(f"{folder}/model.keras")
    built = small_network()
    built.load_weights(f"{folder}/model.weights.h5")
    x = np.load(f"{folder}/x.npy")
    _save(
        output,
        outputs_and_gradients(model, x) + outputs_and_gradients(built, x),
    )


def mirrored_strategy(folder):
    """One step on two virtual CPUs, and the same step on one."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    single = small_network()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        spread = small_network()
    _compare_steps(folder, single, spread)


def data_parallel(folder):
    """One step on two virtual devices of JAX, and the same step on one."""
    devices = keras.distribution.list_devices()
    assert len(devices) == 2
    single = small_network()
    initial = single.get_weights()
    _save(f"{folder}/single.npz", train_one_step(single, small_data()))
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )
    spread = small_network()
    spread.set_weights(initial)
    _save(f"{folder}/spread.npz", train_one_step(spread, small_data()))


def _compare_steps(folder, single, spread):
    spread.set_weights(single.get_weights())
    for name, model in (("single", single), ("spread", spread)):
        _save(f"{folder}/{name}.npz", train_one_step(model, small_data()))


def _save(path, arrays):
    np.savez(path, *arrays)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
